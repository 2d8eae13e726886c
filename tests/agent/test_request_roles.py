"""Who may have what done over MQTT, and what is remembered of it."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import tone, write

from agent.cli import InstalledCommands
from agent.config.agent import load_config
from agent.config.commands import CommandsConfig
from agent.core.cloud_event import encode
from agent.core.errors import AuscultError, ConfigError
from agent.core.logs import JournalFormatter, SafeFormatter
from agent.core.text import redacted, visible
from agent.doctor.examine import check_operators_token
from agent.doctor.finding import Finding, Grade
from agent.request import audit as auditing
from agent.request.audit import AuditTrail, entry_of
from agent.request.commands import COMMANDS
from agent.request.dispatch import Dispatcher
from agent.request.roles import BROKER, ROLES, Access, Origin, Role, check_token
from agent.service import Agent

TOKEN = "0123456789abcdef-token"
FIELDS = {
    "ack": {},
    "shelve": {"seconds": 60},
    "mute": {"seconds": 60},
    "collect": {"label": "idle", "seconds": 5},
    "collect_cancel": {},
    "why": {"begin": 0},
    "resend": {"first": 1, "last": 2},
    "feedback": {"alarm_id": "a", "verdict": "normal"},
    "drift_accept": {"operator": "ada"},
    "level_baseline": {"operator": "ada"},
    "level_baseline_undo": {"operator": "ada"},
    "commission": {"action": "live"},
    "reload": {},
}
PAGE = Origin("page", "10.0.0.7")


class Desk:
    """A dispatcher with a trail, whose handlers note what they are given."""

    def __init__(self, folder, handler=None, **config):
        self.done, self.answers = [], []
        self._new = threading.Condition()
        self.trail = AuditTrail(folder)

        def note(fields):
            self.done.append(fields)
            return {}

        self.dispatcher = Dispatcher(
            "dev", ["pump"], dict.fromkeys(COMMANDS, handler or note), self.respond,
            access=Access(CommandsConfig.model_validate(config)), audit=self.trail,
        )  # fmt: skip
        self.dispatcher.start()

    def respond(self, _, answer):
        encode(answer)
        with self._new:
            self.answers.append(answer)
            self._new.notify_all()

    def ask(self, command, *, origin=BROKER, transaction=None, **fields):
        request = {
            "transaction": transaction or f"t{len(self.answers)}", "machine": "pump",
            **FIELDS.get(command, {}), **fields,
        }  # fmt: skip
        return self.send(command, json.dumps(request).encode(), origin=origin)

    def send(self, command, data, *, origin=BROKER):
        with self._new:
            before = len(self.answers)
            self.dispatcher.take(command, data, origin=origin)
            assert self._new.wait_for(lambda: len(self.answers) > before, 5)
            return self.answers[before]

    def lines(self):
        return list(self.trail.read())


@pytest.fixture
def desk(tmp_path):
    made = []

    def make(**options):
        made.append(Desk(tmp_path / "audit", **options))
        return made[-1]

    yield make
    for one in made:
        one.dispatcher.stop()


@pytest.fixture
def token(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path / "token"


def test_every_command_has_a_role():
    assert set(ROLES) == set(COMMANDS)
    assert set(FIELDS) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_the_broker_lets_write_may_operate_and_no_more(desk, command):
    one = desk()
    answer = one.ask(command)
    if ROLES[command] is Role.OPERATE:
        assert answer["status"] == "ok"
        return
    assert answer["status"] == "error"
    assert f"`{command}` is for those who {ROLES[command].value}" in answer["error"]
    assert "commands.token_file" in answer["error"]
    assert "commands.trust_broker" in answer["error"]
    assert not one.done


@pytest.mark.parametrize("command", [one for one in COMMANDS if ROLES[one] is not Role.OPERATE])
def test_teaching_and_managing_need_the_token(desk, token, command):
    one = desk(token_file=token)
    for wrong in (
        {},
        {"token": ""},
        {"token": TOKEN[:-1]},
        {"token": 5},
        {"token": ["x"]},
        {"token": "\ud800"},
    ):
        answer = one.ask(command, **wrong)
        assert "needs the operators' `token`" in answer["error"]
    assert not one.done
    assert one.ask(command, token=TOKEN)["status"] == "ok"
    assert "token" not in one.done[0]


def test_the_page_and_a_trusted_broker_need_none(desk):
    assert desk().ask("reload", origin=PAGE)["status"] == "ok"
    assert desk(trust_broker=True).ask("reload")["status"] == "ok"


def test_an_answer_that_was_given_is_not_given_again_without_the_token(desk, token):
    one = desk(token_file=token)
    assert one.ask("reload", transaction="same", token=TOKEN)["status"] == "ok"
    assert one.ask("reload", transaction="same")["status"] == "error"
    assert one.ask("reload", transaction="same", token=TOKEN)["status"] == "ok"
    assert len(one.done) == 1


def test_a_token_that_is_exchanged_holds_from_the_next_command_on(desk, token):
    one = desk(token_file=token)
    token.write_text("another-token-of-16+\n")
    assert one.ask("reload", token=TOKEN)["status"] == "error"
    assert one.ask("reload", token="another-token-of-16+")["status"] == "ok"
    token.unlink()
    assert "cannot be read" in one.ask("reload", token=TOKEN)["error"]


def test_a_token_that_cannot_be_used_is_said_at_the_start(token, tmp_path, tiny_bundle, caplog):
    check_token(CommandsConfig(token_file=token))
    token.write_text("short\n")
    (tmp_path / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "commands": {"token_file": "token"},
                "machines": [{"name": "pump", "bundle": str(tiny_bundle), "source": "replay:x"}],
            }
        )
    )
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "0.wav", tone(2))
    Agent(load_config(tmp_path / "agent.yaml")).prepare()  # machines are listened to all the same
    assert "token: the token has 5 characters" in caplog.text
    with pytest.raises(ConfigError, match="token: the token has 5 characters, fewer than 16"):
        Agent(load_config(tmp_path / "agent.yaml")).prepare(strict=True)


def test_the_trail_has_every_command_with_its_origin_and_never_the_token(desk, token, tmp_path):
    def refuse(fields):
        if fields.get("seconds") == 1:
            raise AuscultError("not now")
        if fields.get("seconds") == 2:
            raise ZeroDivisionError
        return {}

    one = desk(handler=refuse, token_file=token)
    one.ask("reload", token=TOKEN, operator="ada", comment="new export")
    one.ask("ack", origin=PAGE, operator="bob")
    one.ask("mute", seconds=1)
    one.ask("mute", seconds=2)
    one.ask("feedback", token="wrong-but-long-enough")
    one.send("feedback", b"{")
    one.send("nonsense", b"{}")
    one.ask("mute", seconds=2, machine="unknown")
    found = [
        (line.way, line.client, line.command, line.role, line.operator, line.outcome)
        for line in one.lines()
    ]
    assert found == [
        ("broker", "", "reload", "manage", "ada", "done"),
        ("page", "10.0.0.7", "ack", "operate", "bob", "done"),
        ("broker", "", "mute", "operate", "", "refused"),
        ("broker", "", "mute", "operate", "", "failed"),
        ("broker", "", "feedback", "teach", "", "refused"),
        ("broker", "", "feedback", "teach", "", "refused"),
        ("broker", "", "nonsense", "", "", "refused"),
        ("broker", "", "mute", "operate", "", "refused"),
    ]
    assert one.lines()[0].fields == {"comment": "new export", "allow_older": False}
    assert one.lines()[2].error.startswith("not now")
    text = one.trail.path.read_text()
    assert TOKEN not in text
    assert "wrong-but-long-enough" not in text
    assert one.trail.path.stat().st_mode & 0o777 == 0o600
    assert one.trail.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_token_is_neither_answered_nor_logged(desk, token, caplog):
    one = desk(token_file=token)
    with caplog.at_level("DEBUG"):
        one.ask("reload", token=TOKEN)
        one.ask("reload", token=TOKEN, machine="unknown")
        one.ask("mute", token=TOKEN, seconds="x")
    assert TOKEN not in caplog.text
    assert TOKEN not in json.dumps(one.answers)


def test_a_flood_of_nonsense_pushes_nothing_out(desk):
    one = desk()
    one.ask("ack", operator="ada")
    for _ in range(300):
        one.ask("reload")
    one.ask("ack", operator="bob")
    lines = one.lines()
    assert len(lines) < 50
    assert lines[0].operator == "ada"
    assert lines[-1].operator == "bob"
    assert lines[-1].left_out + len(lines) == 302


def test_the_trail_is_bounded_and_the_latest_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "MAX_BYTES", 1000)
    monkeypatch.setattr(auditing, "BACKUPS", 2)
    trail = AuditTrail(tmp_path)
    for n in range(100):
        trail.write(entry_of(way="broker", command="ack", outcome="done", asked={"operator": n}))
    operators = [int(line.operator) for line in trail.read()]
    assert operators == list(range(operators[0], 100))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3000
    assert len(list(tmp_path.iterdir())) == 3


def test_a_disk_full_at_a_new_file_closes_no_handle_of_anybody_else(tmp_path, monkeypatch):
    trail, entry = AuditTrail(tmp_path), entry_of(way="page", command="a", outcome="done", asked={})
    trail.write(entry)
    monkeypatch.setattr(auditing, "MAX_BYTES", 1)
    opened, closed, real_open, real_close = [], [], os.open, os.close

    def open_unless_new(path, *how):
        if not path.exists():
            raise OSError(errno.ENOSPC, "no space left on device")
        opened.append(real_open(path, *how))
        return opened[-1]

    def note(handle):
        closed.append(handle)
        real_close(handle)

    with monkeypatch.context() as patch:
        patch.setattr(auditing.os, "open", open_unless_new)
        patch.setattr(auditing.os, "close", note)
        trail.write(entry)
    assert closed == opened
    trail.write(entry)
    assert len(list(trail.read())) == 2


def test_a_line_cut_short_costs_itself(tmp_path):
    trail = AuditTrail(tmp_path)
    trail.write(entry_of(way="broker", command="ack", outcome="done", asked={}))
    with trail.path.open("ab") as file:
        file.write(b'{"time": "20\n')
    trail.write(entry_of(way="broker", command="mute", outcome="done", asked={}))
    assert [line.command for line in trail.read()] == ["ack", "mute"]


def test_a_trail_that_cannot_be_written_costs_no_command(tmp_path, caplog):
    (tmp_path / "audit").write_text("in the way")
    trail = AuditTrail(tmp_path / "audit")
    for _ in range(3):
        trail.write(entry_of(way="broker", command="ack", outcome="done", asked={}))
    assert caplog.text.count("cannot be written") == 1


def test_the_command_lists_them(desk, tmp_path):
    one = desk()
    one.ask("ack", operator="ada\x1b[2J\nroot", comment="seen")
    one.ask("reload")
    (tmp_path / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "state_dir": ".",
                "machines": [{"name": "pump", "bundle": "b", "source": "replay:x"}],
            }
        )
    )
    words = ["audit", "--config", str(tmp_path / "agent.yaml")]
    listed = CliRunner().invoke(InstalledCommands("auscult"), words).output.splitlines()
    assert len(listed) == 2
    assert r"ada\x1b[2J\nroot" in listed[0]
    assert "\x1b" not in listed[0]
    assert listed[0].endswith("\tdone")
    assert "refused: `reload` is for those who manage" in listed[1]
    refused = CliRunner().invoke(InstalledCommands("auscult"), [*words, "--refused", "--json"])
    assert [json.loads(line)["command"] for line in refused.output.splitlines()] == ["reload"]


def test_what_a_sender_writes_acts_upon_no_terminal_and_forges_no_line(desk, caplog):
    one = desk()
    with caplog.at_level("INFO"):
        one.ask("ack", operator="a\r\x1b]0;x\x07\u202eb", comment="fine\n<3>ALARM cleared")
    assert one.done[0]["operator"] == r"a\r\x1b]0;x\x07\u202eb"
    assert one.done[0]["comment"] == r"fine\n<3>ALARM cleared"


@pytest.mark.parametrize("formatter", [SafeFormatter("%(message)s"), JournalFormatter()])
def test_log_lines_are_safe_whoever_they_are_of(formatter):
    record = logging.LogRecord(
        "x", logging.WARNING, "", 0, "%s", ("a\x1b[31m\x9b\n2026 ERROR forged\u2028",), None
    )
    lines = formatter.format(record).splitlines()
    assert len(lines) == 2
    assert r"a\x1b[31m\x9b" in lines[0]
    assert "    2026 ERROR forged\\u2028" in lines[1]
    fault = ValueError("rtsp://u:secret@host/ \x1b[2J")
    record.exc_info = (ValueError, fault, None)
    text = formatter.format(record)
    assert "secret" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("open rtsp://admin:s3cr3t@cam/1 failed", "open rtsp://cam/1 failed"),
        ("http://cam/a?user=x&password=s3cr3t&ch=1", "http://cam/a?user=x&password=***&ch=1"),
        ("http://cam/a?access_token=s3cr3t", "http://cam/a?access_token=***"),
        ("http://cam/a?api-key=s3cr3t 'b'", "http://cam/a?api-key=*** 'b'"),
        ("http://cam/a?channel=1", "http://cam/a?channel=1"),
        ("mail ada@example.org", "mail ada@example.org"),
    ],
)
def test_addresses_are_told_without_their_secrets(text, told):
    assert redacted(text) == told
    assert str(AuscultError(text)) == told
    assert told in SafeFormatter("%(message)s").format(
        logging.LogRecord("x", 20, "", 0, text, None, None)
    )
    assert Finding("source", Grade.OK, text).text == told


def test_what_is_visible_stays_as_it_is():
    assert visible("Pumpe Süd 3 \u2713 100 %") == "Pumpe Süd 3 \u2713 100 %"
    assert visible("a\tb\n", keep="\t") == "a\tb\\n"


@pytest.mark.parametrize(
    ("text", "mode", "grade"),
    [
        (None, 0, Grade.FAIL),
        ("short\n", 0o600, Grade.FAIL),
        (TOKEN, 0o644, Grade.WARN),
        (TOKEN, 0o600, Grade.OK),
    ],
)
def test_doctor_looks_at_the_token(tmp_path, text, mode, grade):
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    assert check_operators_token(CommandsConfig(token_file=file)).grade is grade
