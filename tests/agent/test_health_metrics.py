"""The metrics as Prometheus would read them: by a parser that forgives nothing."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.config.monitor import MetricsConfig
from agent.core.clock import WallClock
from agent.core.counters import Counters
from agent.core.errors import AuscultError
from agent.core.records import AlarmStatus, Level, MachineState, Shelving
from agent.core.scale import Scale
from agent.drift.events import DriftStatus
from agent.monitor.metrics import exposition
from agent.monitor.observed import BundleUse, Delivery, Keeping, OutboxHealth
from agent.monitor.server import MetricsServer
from agent.window.condition import ConditionStatus, SensorCondition

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)")


DELIVERY = Delivery(
    True,
    2,
    OutboxHealth(
        undelivered=3, acknowledged=9, unsaved=1, disk_failures=0, damaged_files=0,
        damaged_events=0, vanished_events=0, dropped_telemetry=7, refused=5, proof="broker",
        denied_topics=[],
    ),
)  # fmt: skip


def parse(text: str) -> dict[str, dict[frozenset, float]]:
    """The text format 0.0.4 to the letter: HELP, TYPE, then the family's samples, all together."""
    assert text.endswith("\n")
    found: dict[str, dict[frozenset, float]] = {}
    family = kind = helped = None
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({_NAME}) (.+)", line):
            assert match[1] not in found, "a family twice"
            helped = match[1]
        elif match := re.fullmatch(rf"# TYPE ({_NAME}) (counter|gauge)", line):
            assert match[1] == helped
            family, kind = match[1], match[2]
            found[family] = {}
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == family, "outside its family"
            assert family.endswith("_total") == (kind == "counter")
            labels = frozenset(re.findall(_LABEL, match[2] or ""))
            assert labels not in found[family], "a sample twice"
            value = float(match[7])
            assert kind == "gauge" or value >= 0
            found[family][labels] = value
    return found


def pipeline(name="pump", level=Level.ALARM):
    counters = Counters()
    counters.windows, counters.exceeded, counters.raised, counters.inference_seconds = (
        10,
        3,
        1,
        0.25,
    )
    counters.invalid = Counter(silent=2)
    counters.last_window = 0.0
    counters.score, counters.threshold, counters.state = 0.7, 0.5, MachineState.RUNNING
    counters.scale = Scale(median=0.1, threshold=0.5, usual=0.3, severe=0.9)
    return SimpleNamespace(
        name=name,
        counters=counters,
        sensor=SensorCondition(ConditionStatus.GOOD, "", 0.0),
        alarm=SimpleNamespace(status=AlarmStatus(level, 0.0, level_change_db=6.0)),
        drift=SimpleNamespace(
            status=DriftStatus(
                wall=1e9,
                active=True,
                exceeded=True,
                distance=2.5,
                threshold=1.5,
                reference=0,
                warning_id="w1",
                since_wall=1e9,
            )
        ),
        waiting=2,
        faults=lambda: {"overruns": 4},
    )


def of(found, family, **labels):
    return found[family][frozenset(labels.items())]


def test_counts_are_told_in_the_format():
    found = parse(
        exposition(
            [pipeline(), pipeline("fan", Level.NORMAL)],
            DELIVERY,
            WallClock(),
            started=1.5e9,
        )
    )
    assert of(found, "auscult_windows_total", machine="pump") == 10
    assert of(found, "auscult_windows_invalid_total", machine="pump", reason="silent") == 2
    assert of(found, "auscult_windows_invalid_total", machine="pump", reason="gap") == 0
    assert of(found, "auscult_inference_seconds_total", machine="pump") == 0.25
    assert of(found, "auscult_alarm_level", machine="pump") == 2
    assert of(found, "auscult_alarm_level", machine="fan") == 0
    assert of(found, "auscult_source_faults_total", machine="fan", fault="overruns") == 4
    assert of(found, "auscult_drift_distance_nats", machine="pump") == 2.5
    assert of(found, "auscult_drift_threshold_nats", machine="pump") == 1.5
    assert of(found, "auscult_drift_warning", machine="pump") == 1
    assert of(found, "auscult_drift_evaluated_timestamp_seconds", machine="pump") == 1e9
    assert of(found, "auscult_score", machine="pump") == pytest.approx(1.5)
    assert of(found, "auscult_severity_zone", machine="pump") == 2
    assert of(found, "auscult_threshold", machine="pump") == 1
    assert of(found, "auscult_score_raw", machine="pump") == 0.7
    assert of(found, "auscult_threshold_raw", machine="pump") == 0.5
    assert of(found, "auscult_level_change_db", machine="pump") == 6.0
    assert found["auscult_alert_threshold"] == {}
    assert of(found, "auscult_machine_idle", machine="pump") == 0
    assert of(found, "auscult_windows_waiting", machine="pump") == 2
    assert of(found, "auscult_sensor_status", machine="pump", status="good") == 1
    assert of(found, "auscult_sensor_status", machine="pump", status="failure") == 0
    assert of(found, "auscult_outbox_events") == 3
    assert of(found, "auscult_broker_reconnects_total") == 2
    assert of(found, "auscult_telemetry_dropped_total") == 7
    assert of(found, "auscult_start_time_seconds") == 1.5e9


def test_an_alarm_is_told_as_operators_left_it():
    standing = pipeline()
    standing.alarm = SimpleNamespace(
        status=AlarmStatus(
            Level.ALARM, 5.0, "a1", acknowledged=False, latched=True, shelving=Shelving.TIMED,
            muted_until_wall=9.0,
        )
    )  # fmt: skip
    found = parse(exposition([standing], None, WallClock(), started=0.0))
    for name in ("alarm_unacknowledged", "alarm_latched", "alarm_shelved", "machine_muted"):
        assert of(found, f"auscult_{name}", machine="pump") == 1
    assert of(found, "auscult_alarm_level_since_timestamp_seconds", machine="pump") == 5.0
    quiet = parse(exposition([pipeline(level=Level.NORMAL)], None, WallClock(), started=0.0))
    for name in ("alarm_unacknowledged", "alarm_latched", "alarm_shelved", "machine_muted"):
        assert of(quiet, f"auscult_{name}", machine="pump") == 0


def test_what_is_kept_and_exchanged_is_told():
    keeping = Keeping({"pump": BundleUse("abc", 5, 2), "fan": None}, 1, 2, 3, 4, 5, 6, 7, 8)
    found = parse(exposition([], None, WallClock(), started=0.0, keeping=keeping))
    assert of(found, "auscult_bundle_info", machine="pump", digest="abc", version="2") == 1
    assert of(found, "auscult_bundle_rows", machine="pump") == 5
    assert of(found, "auscult_bundle_missing", machine="pump") == 0
    assert of(found, "auscult_bundle_missing", machine="fan") == 1
    counts = [
        of(found, f"auscult_{name}")
        for name in (
            "bundles_swapped_total", "bundles_rolled_back_total", "bundles_refused_total",
            "evidence_written_total", "evidence_skipped_total", "collected_bytes",
        )
    ]  # fmt: skip
    assert counts == [1, 2, 3, 4, 5, 8]
    assert of(found, "auscult_collected_sessions_removed_total", in_bank="yes") == 6
    assert of(found, "auscult_collected_sessions_removed_total", in_bank="no") == 7


def test_the_page_lists_every_metric_there_is_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "guide" / "service.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(auscult_[a-z_]+)`", page))
    found = parse(
        exposition(
            [pipeline()], DELIVERY, WallClock(), started=0.0,
            keeping=Keeping(),
        )
    )  # fmt: skip
    assert listed == set(found)


def test_without_a_broker_or_a_window_nothing_is_made_up():
    silent = pipeline()
    silent.counters.last_window = None
    found = parse(exposition([silent], None, WallClock(), started=0.0))
    assert found["auscult_last_window_timestamp_seconds"] == {}
    assert not any("outbox" in name for name in found)


def test_a_machine_being_begun_anew_is_told_without_its_alarm():
    class Beginning(SimpleNamespace):
        @property
        def alarm(self):
            raise AuscultError("not yet")

    fields = vars(pipeline())
    fields.pop("alarm")
    found = parse(exposition([Beginning(**fields)], None, WallClock(), started=0.0))
    assert found["auscult_alarm_level"] == {}
    assert of(found, "auscult_windows_total", machine="pump") == 10


def test_hostile_names_stay_inside_their_quotes():
    odd = pipeline()
    odd.faults = lambda: {'a"b\\c\nd': 1}
    found = parse(exposition([odd], None, WallClock(), started=0.0))
    assert of(found, "auscult_source_faults_total", machine="pump", fault='a\\"b\\\\c\\nd') == 1


@pytest.fixture
def server():
    one = MetricsServer(MetricsConfig(port=0), lambda: "x 1\n")
    one.start()
    yield one
    one.stop()


def get(server, path="/metrics", method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    return urllib.request.urlopen(request, timeout=30)


def test_the_server_answers_metrics_and_nothing_else(server):
    with get(server) as answer:
        assert answer.read() == b"x 1\n"
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for path, method, code in (("/", "GET", 404), ("/metrics", "POST", 501)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(server, path, method)
        assert refused.value.code == code


def test_silent_clients_neither_block_others_nor_the_end(server):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    with get(server) as answer:
        assert answer.read() == b"x 1\n"
    server.stop()
    assert server.port is None
    for one in idle:
        one.close()


def test_a_taken_port_is_told_and_done_without(server, caplog):
    second = MetricsServer(MetricsConfig(port=server.port), str)
    second.start()
    assert second.port is None
    assert "cannot listen" in caplog.text
    second.stop()


def test_a_fault_in_the_counts_is_an_error_of_the_server_s():
    def broken():
        raise ZeroDivisionError

    server = MetricsServer(MetricsConfig(port=0), broken)
    server.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(server)
        assert refused.value.code == 500
    finally:
        server.stop()
