"""The one table of what is told: its bytes are as recorded, and a row is all that a kind needs."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field
from support.told import to

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.config.publish import HomeAssistantConfig, JsonlConfig, MqttConfig
from agent.core.clock import WALL_CLOCK, ClockQuality
from agent.core.cloud_event import CloudEventBase, Happened, enveloped
from agent.core.reasons import (
    Circumstance,
    Explanation,
    NearHealthy,
    Reason,
    UnusualBand,
    UnusualRegion,
)
from agent.core.records import (
    AlarmEvent,
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
    Shelving,
    Validity,
    Window,
)
from agent.core.scale import Scale
from agent.drift.events import DriftEvent, DriftEventKind, DriftStatus
from agent.history.recorder import HistoryRecorder
from agent.publish import route
from agent.publish.broadcaster import Broadcaster
from agent.publish.console import ConsolePublisher
from agent.publish.jsonl import JsonlPublisher
from agent.publish.kinds import KINDS, Kind
from agent.publish.live import LiveBoard
from agent.publish.mqtt import MqttPublisher
from agent.publish.outbox import Outbox
from agent.window.condition import ConditionStatus, SensorCondition
from tools import messages as schemas

AGENT = Path(route.__file__).parent.parent
MQTT_PAGE = AGENT.parent / "docs" / "reference" / "mqtt.md"
#: Recorded before there was a table; what is meant to be new (drift's `bands`) was added by hand.
RECORDED = Path(__file__).parent.parent / "fixtures" / "told" / "mqtt.jsonl"
SCALE = Scale(median=0.2, threshold=0.4, usual=0.3, severe=0.9)
WHY = Explanation(
    "louder at 3 kHz", (UnusualBand(2800.0, 3200.0, 9.5),),
    (NearHealthy("h1.wav", None, 0.2), NearHealthy("h2.wav", 3.0, 0.2, "source", {"a": "b"})),
    (UnusualRegion(0.0, 1.0, 100.0, 200.0, 3.0),),
)  # fmt: skip
REASON = Reason(
    None, (UnusualBand(2800.0, 3200.0, 9.5),), 1, 1e9, ("the tone",),
    (Circumstance("started", "started 40 s ago", 40.0),),
)  # fmt: skip
ALARM = AlarmStatus(Level.ALARM, 1e9 + 8, "a1", False, reason=REASON)
DRIFT = DriftStatus(
    wall=1e9, active=True, exceeded=True, distance=2.0, threshold=1.0, reference=0,
    warning_id="w1", since_wall=1e9, movement="component 0 moved",
)  # fmt: skip


def decided(index, level=Level.NORMAL, value=0.5, status=None):
    validity, reason = (Validity.VALID, "") if value is not None else (Validity.SILENT, "dead")
    window = Window(
        np.zeros(8000, np.float32), 8000, index, float(index), 1e9 + index, validity, reason, "mic"
    )
    return Decision(
        Score(window, value, None if value is None else 3, 0.01), 0.4, level=level, changed=False,
        exceeded=value is not None, since_wall=1e9, state=MachineState.RUNNING, status=status,
        scale=SCALE,
    )  # fmt: skip


def event(kind, index, **changes):
    return AlarmEvent(
        **{
            "id": f"a1-{index}-{kind.value}", "kind": kind, "alarm_id": "a1", "wall": 1e9 + index,
            "status": ALARM, "previous": Level.NORMAL, "threshold": 0.4, **changes,
        }
    )  # fmt: skip


HAPPENED = (
    SensorCondition(ConditionStatus.GOOD, "", 1e9),
    SensorCondition(ConditionStatus.GOOD, "", 1e9),
    decided(0),
    decided(1, value=None),
    SensorCondition(ConditionStatus.FAILURE, "silent", 1e9 + 3),
    event(
        EventKind.RAISED, 5, explanation=WHY, window=3, window_wall=1e9, window_seconds=2.0,
        origin="mic", score=0.5, scale=SCALE,
    ),
    event(EventKind.ACKNOWLEDGED, 6, operator="ann", note="seen"),
    decided(7, Level.ALARM, status=ALARM),
    decided(8, Level.ALARM, status=replace(ALARM, shelving=Shelving.TIMED, shelved_until_wall=1e9)),
    event(EventKind.LEVEL, 9, level_change_db=3.27),
    DriftStatus(
        wall=1e9, active=False, exceeded=False, distance=0.2, threshold=1.0, reference=0
    ),
    DRIFT,
    DriftEvent(
        id="w1-warned", kind=DriftEventKind.WARNED, wall=1e9, warning_id="w1", status=DRIFT
    ),
    DriftEvent(
        id="w1-accepted", kind=DriftEventKind.ACCEPTED, wall=1e9, warning_id="w1", status=DRIFT,
        operator="ann", note="new belt",
    ),
    BundleEvent(
        id="b1", kind=BundleEventKind.SWAPPED, wall=1e9, reason="asked for", old_digest="a" * 64,
        new_digest="b", bundle="pump", rows=5, version=0, threshold=0.4,
    ),
    BundleEvent(
        id="b2", kind=BundleEventKind.REFUSED, wall=1e9, reason="cut short", old_digest="",
        new_digest="", bundle="", rows=0, version=0, threshold=None,
    ),
)  # fmt: skip


def taken_by_mqtt(monkeypatch, tmp_path, tell):
    """What the outbox is given, in order, while something is told."""
    taken = []

    def keeping(promise):
        def put(_, m):
            taken.append(
                {
                    "promise": promise, "topic": m.topic, "qos": m.qos, "retain": m.retain,
                    "id": m.id, "expiry": m.expiry_seconds, "content_type": m.content_type,
                    "payload": m.payload.decode(),
                }
            )  # fmt: skip

        return put

    for promise in ("event", "state", "reply", "telemetry"):
        monkeypatch.setattr(Outbox, f"put_{promise}", keeping(promise))
    config = MqttConfig(host="127.0.0.1", home_assistant=HomeAssistantConfig(enabled=False))
    mqtt = MqttPublisher(config, "dev", ["pump"], tmp_path / "outbox")
    tell(mqtt)
    return taken


@pytest.fixture
def _at_a_fixed_time(monkeypatch):
    monkeypatch.setattr("agent.publish.broadcaster.time.time", lambda: 1.7e9)
    monkeypatch.setattr(type(WALL_CLOCK), "quality", ClockQuality.UNSYNCHRONISED)


@pytest.mark.usefixtures("_at_a_fixed_time")
def test_every_byte_and_promise_over_mqtt_is_as_recorded(monkeypatch, tmp_path):
    def tell(mqtt):
        broadcaster = to(mqtt)
        for happened in HAPPENED:
            broadcaster.tell(happened)
        mqtt.respond("ack", {"status": "ok"})

    taken = taken_by_mqtt(monkeypatch, tmp_path, tell)

    recorded = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    assert taken == recorded


# A new kind of event: its record and payload (one file), and its row (another).


@dataclass(frozen=True, slots=True)
class BeltChanged:
    id: str
    by: str


class BeltData(Happened):
    """What was changed."""

    by: Annotated[str, Field(description="Who changed it")]


class BeltCloudEvent(CloudEventBase):
    """The belt was changed."""

    type: Annotated[Literal["auscult.belt.changed"], Field(description="Always this")]
    data: Annotated[BeltData, Field(description="What happened")]


def belt_message(stamp, belt):
    wall = 1_795_953_600.0
    return enveloped(BeltCloudEvent, stamp, belt.id, "auscult.belt.changed", wall, by=belt.by)


ROW = Kind(
    "belt_event", route.EVENT, (BeltChanged,), BeltCloudEvent, belt_message,
    line=lambda belt: (logging.WARNING, f"belt changed by {belt.by}"),
)  # fmt: skip


def test_a_row_is_all_that_a_new_kind_of_event_needs(monkeypatch, tmp_path, caplog):
    path = tmp_path / "told.jsonl"
    board, lines = LiveBoard(), JsonlPublisher(JsonlConfig(path=path), "dev", ["pump"])
    sinks = [ConsolePublisher(), board, lines, HistoryRecorder(tmp_path / "history.db")]
    lines.start()

    taken = taken_by_mqtt(
        monkeypatch,
        tmp_path,
        lambda mqtt: Broadcaster("dev", "pump", [*sinks, mqtt], [*KINDS, ROW]).tell(
            BeltChanged("belt-1", "ann")
        ),
    )
    lines.stop()

    (message,) = taken
    payload = json.loads(message["payload"])
    assert (message["promise"], message["topic"], message["id"]) == (
        "event", "auscult/dev/pump/event", "belt-1",
    )  # fmt: skip
    assert message["content_type"] == "application/cloudevents+json"
    assert (payload["type"], payload["data"]["by"]) == ("auscult.belt.changed", "ann")
    assert [told.message for told in board.events()] == [payload]
    assert {"kind": "event", **payload} in map(json.loads, path.read_text().splitlines())
    assert "pump: belt changed by ann" in caplog.text
    assert "failed" not in caplog.text


def test_every_kind_has_a_schema():
    assert {kind.name: kind.model for kind in KINDS}.items() <= schemas.PAYLOADS.items()


def test_the_page_says_how_surely_each_topic_goes_out():
    row = re.compile(r"^\| `<prefix>/<device>/([^`]+)` \| ([01]) \| (yes|no)\b", re.MULTILINE)
    said = {
        re.sub(r"<machine>/|/<command>", "", topic): (int(qos), retained == "yes")
        for topic, qos, retained in row.findall(MQTT_PAGE.read_text(encoding="utf-8"))
    }
    ways = [way for way in vars(route).values() if isinstance(way, route.Route)]

    assert said == {way.topic: (way.qos, way.retain) for way in ways}


@pytest.mark.parametrize("event", ["bundle", "drift"])
def test_an_event_is_known_to_its_own_file_and_to_the_table_alone(event):
    """What turns it into a message and into a line of the log: nobody else makes or reads that."""
    own = {f"{event}_event_message", f"{event}_event_line", f"{event.title()}CloudEvent"}
    naming = {
        str(path.relative_to(AGENT))
        for path in AGENT.rglob("*.py")
        if own & set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    }
    assert naming == {f"{event}/events.py", "publish/kinds.py"}


def test_a_message_that_cannot_be_made_silences_no_other(monkeypatch, tmp_path, caplog):
    def broken(_stamp, _happened):
        raise ValueError("no")

    kinds = [replace(kind, build=broken) if kind.name == "score" else kind for kind in KINDS]
    taken = taken_by_mqtt(
        monkeypatch,
        tmp_path,
        lambda mqtt: Broadcaster("dev", "pump", [mqtt], kinds).tell(decided(0)),
    )
    assert [message["topic"] for message in taken] == ["auscult/dev/pump/alarm"]
    assert "no message 'score' could be made" in caplog.text
