"""Notifications reach a webhook and a mail server, at a bounded pace, and none is lost."""

from __future__ import annotations

import email
import json
import threading
from dataclasses import replace
from datetime import datetime, time, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic as steady

import pytest
from click.testing import CliRunner
from support.broker import free_port
from support.told import tell

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.commands.notify import notify
from agent.config.notify import EscalationConfig, NotifyConfig, QuietHours
from agent.core.errors import ConfigError
from agent.core.reasons import Explanation, Reason, UnusualBand
from agent.core.records import AlarmEvent, AlarmStatus, EventKind, Level
from agent.core.scale import Scale
from agent.doctor.notify import check_notify
from agent.notify.publisher import NotificationPublisher
from agent.notify.send import send
from agent.window.condition import ConditionStatus, SensorCondition

NOON = datetime(2026, 11, 29, 12, tzinfo=timezone.utc).timestamp()
REASON = Reason(None, (UnusualBand(2800.0, 3200.0, 9.5),), 1, NOON, ("the tone",), ())
SCALE = Scale(median=0.2, threshold=0.4, usual=0.3, severe=0.9)
REFUSED = BundleEvent(
    id="b", kind=BundleEventKind.REFUSED, wall=NOON, reason="cut short", old_digest="",
    new_digest=None, bundle="", rows=0, version=0, threshold=None,
)  # fmt: skip


def event(kind=EventKind.RAISED, alarm="a1", wall=NOON, score=0.5):
    level = Level.NORMAL if kind is EventKind.CLEARED else Level.ALARM
    status = AlarmStatus(level, wall, alarm, acknowledged=False, reason=REASON)
    return AlarmEvent(
        f"{alarm}-{kind.value}", kind, alarm, wall, status, Level.NORMAL, 0.4, score, scale=SCALE
    )


class Sent:
    """In place of the network: what was sent, and to whom it cannot be."""

    def __init__(self):
        self.messages = []
        self.down = set()

    def __call__(self, addresses, title, text):
        self.messages += [(one, title, text) for one in addresses if one not in self.down]
        return ["no route" if one in self.down else "" for one in addresses]


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def make(tmp_path, sent, monkeypatch):
    """A notifier whose turns are taken by hand, at a clock of our own."""
    made = []
    (tmp_path / "urls").write_text(
        "# the shift\njson://a.example\n\nntfy://b.example/x  # the phone\n"
    )
    (tmp_path / "others").write_text("mailto://c.example\n")
    monkeypatch.setattr(NotificationPublisher, "_run", lambda _self: None)

    def begin(clock=lambda: NOON + 1, monotonic=steady, **changes):
        config = NotifyConfig(urls_file=tmp_path / "urls", **changes)
        notifier = NotificationPublisher(
            config, "gateway", tmp_path / "notify", sent, clock, monotonic
        )
        notifier.start()
        made.append(notifier)
        return notifier

    yield begin
    for notifier in made:
        notifier.stop()


def test_an_alarm_is_told_to_each_address_once_with_score_zone_and_reason(make, sent):
    notifier = make(page_url="http://gateway:8765/")
    tell(notifier, event())
    tell(notifier, event())  # told again after a crash
    notifier.turn()
    notifier.turn()
    assert [one for one, *_ in sent.messages] == ["json://a.example", "ntfy://b.example/x"]
    _, title, text = sent.messages[0]
    assert title == "pump: alarm"
    assert "Score 1.5, zone C." in text
    assert "2.8" in text or "2800" in text
    assert text.endswith("http://gateway:8765/")
    assert notifier.state() == ""


def test_what_is_not_asked_for_is_not_told(make, sent):
    notifier = make(occasions=["alarm"])
    for happened in (
        event(EventKind.CLEARED),
        event(EventKind.ACKNOWLEDGED),
        event(EventKind.LEVEL),
        SensorCondition(ConditionStatus.FAILURE, "silent", NOON),
        REFUSED,
    ):
        tell(notifier, happened)
    notifier.turn()
    assert not sent.messages


def test_a_dead_microphone_and_a_refused_bundle_are_told(make, sent):
    notifier = make()
    tell(notifier, SensorCondition(ConditionStatus.FAILURE, "no sound at all", NOON))
    tell(
        notifier,
        REFUSED,
    )
    tell(notifier, SensorCondition(ConditionStatus.MAINTENANCE_REQUIRED, "hum", NOON))
    notifier.turn()
    ((_, title, text), _) = sent.messages
    assert title == "2 messages about pump"
    assert "no sound at all" in text
    assert "bundle refused" in text


def test_more_than_an_hour_bears_is_told_together_later_and_nothing_is_lost(make, sent):
    tick = [0.0]
    notifier = make(monotonic=lambda: tick[0], most_per_hour=2)
    for number in range(20):
        tell(notifier, event(alarm=f"a{number}"))
        notifier.turn()
    assert len(sent.messages) == 2 * 2  # to two addresses
    assert "18 notifications waiting" in notifier.state()
    tick[0] += 1800  # half an hour: one more
    notifier.turn()
    assert sent.messages[-1][1] == "18 messages about pump"
    assert notifier.state() == ""


def test_an_address_that_fails_gets_it_later_and_the_others_do_not_get_it_twice(make, sent):
    tick = [0.0]
    notifier = make(monotonic=lambda: tick[0])
    sent.down.add("ntfy://b.example/x")
    tell(notifier, event())
    notifier.turn()
    assert "no route" in notifier.state()
    sent.down.clear()
    notifier.turn()  # too soon
    assert len(sent.messages) == 1
    tick[0] += 3600
    notifier.turn()
    assert [one for one, *_ in sent.messages] == ["json://a.example", "ntfy://b.example/x"]
    assert notifier.state() == ""


def test_what_was_not_sent_outlives_a_restart_and_is_given_up_after_a_day(make, sent):
    sent.down |= {"json://a.example", "ntfy://b.example/x"}
    first = make()
    tell(first, event())
    first.turn()
    first.stop()
    sent.down.clear()
    second = make()
    second.turn()
    assert len(sent.messages) == 2
    second.stop()
    tell(late := make(lambda: NOON + 90_000), event(alarm="a2"))
    late.turn()
    assert len(sent.messages) == 2
    assert "1 notification given up" in late.state()


def test_quiet_hours_hold_back_all_but_what_is_severe(make, sent):
    now = [NOON]
    quiet = QuietHours(begin="10:00", end="14:00", zone="UTC")
    notifier = make(lambda: now[0], quiet_hours=quiet)
    tell(notifier, event())
    tell(notifier, event(EventKind.CLEARED, wall=NOON + 60))
    notifier.turn()
    assert not sent.messages
    tell(notifier, event(alarm="a2", score=5.0))  # zone D
    notifier.turn()
    assert sent.messages[0][1] == "pump: alarm"
    now[0] += 2 * 3600
    notifier.turn()
    assert sent.messages[-1][1] == "2 messages about pump"
    assert "sounds healthy again" in sent.messages[-1][2]


@pytest.mark.parametrize(
    ("hour", "held"), [("21:59", False), ("22:00", True), ("03:00", True), ("06:00", False)]
)
def test_quiet_hours_go_over_midnight(hour, held):
    quiet = QuietHours(begin="22:00", end="06:00")
    assert quiet.hold(time.fromisoformat(hour)) is held


def test_an_alarm_that_nobody_acknowledges_is_told_to_others(make, sent, tmp_path):
    now = [NOON + 1]
    others = EscalationConfig(after_minutes=30, urls_file=tmp_path / "others")
    notifier = make(lambda: now[0], occasions=["alarm"], escalation=others)
    tell(notifier, event(alarm="seen"))
    tell(notifier, event(EventKind.ACKNOWLEDGED, alarm="seen"))
    tell(notifier, event(alarm="over"))
    tell(notifier, event(EventKind.CLEARED, alarm="over"))
    tell(notifier, event(alarm="open"))
    notifier.turn()
    notifier.stop()
    sent.messages.clear()
    # Also when the agent was restarted in between.
    notifier = make(lambda: now[0], occasions=["alarm"], escalation=others)
    notifier.turn()
    assert not sent.messages
    now[0] = NOON + 1801
    notifier.turn()
    notifier.turn()
    assert [(one, title) for one, title, _ in sent.messages] == [
        ("mailto://c.example", "pump: alarm, not acknowledged for 30 minutes")
    ]


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("# none\n\n", "no address")])
def test_addresses_that_are_not_there_are_refused_at_the_start(tmp_path, text, said):
    if text is not None:
        (tmp_path / "urls").write_text(text)
    notifier = NotificationPublisher(
        NotifyConfig(urls_file=tmp_path / "urls"), "gateway", tmp_path / "n"
    )
    with pytest.raises(ConfigError, match=said):
        notifier.start()


@pytest.mark.parametrize(
    "section",
    [
        {"begin": "25:00", "end": "06:00"},
        {"begin": "06:00", "end": "06:00"},
        {"begin": "22:00", "end": "06:00", "zone": "Mars/Olympus"},
    ],
)
def test_quiet_hours_that_cannot_be_are_refused(section):
    with pytest.raises(ValueError):
        QuietHours(**section)


@pytest.fixture
def hook():
    """A webhook; `got` is what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def mail():
    """A mail server; `got` are (recipients, message)."""
    from aiosmtpd.controller import Controller

    class Handler:
        got = []

        async def handle_DATA(self, _server, _session, envelope):
            self.got.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content)))
            return "250 OK"

    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def test_a_webhook_and_a_mail_server_get_it_and_a_failure_is_named_without_passwords(
    hook, mail, tmp_path
):
    path = tmp_path / "agent.yaml"
    (tmp_path / "urls").write_text(
        f"json://127.0.0.1:{hook.server_port}/alarms\n"
        f"mailto://127.0.0.1:{mail.port}?from=agent@dev.example&to=ann@plant.example\n"
        f"json://user:secret@127.0.0.1:{free_port()}/\n"
        "pigeon://roof\n"
    )
    path.write_text(
        "device: gateway\nstate_dir: state\nnotify: {urls_file: urls}\n"
        "machines: [{name: pump, source: 'microphone:x'}]\n"
    )
    done = CliRunner().invoke(notify, ["--config", str(path)])
    assert done.exit_code == 1
    said = done.stdout.splitlines()
    assert [line.endswith("sent") for line in said] == [True, True, False, False]
    assert "does not know such an address" in said[3]
    assert "secret" not in done.output
    assert hook.got[0]["title"] == "gateway: test"
    ((to, message),) = mail.handler.got
    assert (to, message["Subject"]) == (["ann@plant.example"], "gateway: test")


def test_the_agents_own_thread_sends_it(hook, tmp_path):
    (tmp_path / "urls").write_text(f"json://127.0.0.1:{hook.server_port}/alarms\n")
    arrived = threading.Event()

    def sending(addresses, title, text):
        found = send(addresses, title, text)
        arrived.set()
        return found

    config = NotifyConfig(urls_file=tmp_path / "urls")
    notifier = NotificationPublisher(config, "gateway", tmp_path / "n", sending, lambda: NOON)
    notifier.start()
    tell(notifier, replace(event(), wall=NOON))
    assert arrived.wait(60)
    notifier.stop()
    assert [one["title"] for one in hook.got] == ["pump: alarm"]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("json://127.0.0.1:9/\n", 0o600, ("ok", "1 address, not tried")),
        ("json://127.0.0.1:9/\n", 0o644, ("warn", "every user of this device can read it")),
        (
            "json://127.0.0.1:9/\npigeon://roof\n",
            0o600,
            ("fail", "address 2: Apprise does not know"),
        ),
        ("\n", 0o600, ("fail", "no address is in it")),
    ],
)
def test_the_doctor_looks_at_the_addresses_without_sending(tmp_path, text, mode, said):
    path = tmp_path / "urls"
    path.write_text(text)
    path.chmod(mode)
    (finding,) = check_notify(NotifyConfig(urls_file=path))
    assert (finding.grade.value, said[1] in finding.text) == (said[0], True)


def test_a_machine_louder_for_good_is_notified_of_though_it_is_no_alarm(make, sent):
    notifier = make()
    louder = replace(
        event(EventKind.LEVEL, alarm=""), level_change_db=6.0,
        explanation=Explanation("6 dB louder in every band; its shape is as healthy sound's"),
    )  # fmt: skip
    tell(notifier, louder)
    notifier.turn()
    (_, title, text), *_ = sent.messages
    assert title == "pump: level changed"
    assert text.startswith("6 dB louder in every band")
    assert "answer it" in text
    sent.messages.clear()
    tell(notifier, replace(event(EventKind.LEVEL_RETURNED, alarm=""), level_change_db=6.0))
    notifier.turn()
    assert {title for _, title, _ in sent.messages} == {"pump: level as before"}


def test_the_doctor_tells_once_what_to_do_about_addresses_that_cannot_be_read(tmp_path):
    (finding,) = check_notify(NotifyConfig(urls_file=tmp_path / "none"))
    assert (
        finding.text
        == f"{tmp_path / 'none'}: the addresses cannot be read: No such file or directory"
    )
    assert finding.remedy == "Write one address a line, readable by the agent."
