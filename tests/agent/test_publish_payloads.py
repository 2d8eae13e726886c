"""Every payload is what its schema and its page say."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from support.told import Listener, to

from agent.bundle.events import BundleEvent, BundleEventKind, bundle_event_message
from agent.bundle.offer import OfferState
from agent.core.clock import utc
from agent.core.cloud_event import Stamp, encode
from agent.core.counters import Counters
from agent.core.reasons import Explanation, NearHealthy, UnusualBand
from agent.core.recognition import Recognition
from agent.core.records import (
    AlarmEvent,
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    Score,
    Shelving,
    Validity,
    Window,
)
from agent.core.scale import Scale
from agent.deploy.load import open_bundle
from agent.drift.events import (
    DriftEvent,
    DriftEventKind,
    DriftStatus,
    drift_event_message,
    drift_status_message,
)
from agent.publish import messages
from agent.publish.about import bundle_info, health_message, info_message, level_of
from agent.publish.device_payloads import MonthOfAlarms
from agent.publish.outbox import Outbox
from agent.publish.payloads import Severity
from agent.publish.proof import DeliveryProof
from agent.publish.store import EventStore
from agent.window.condition import ConditionStatus, SensorCondition
from tools import messages as schemas

WINDOW = Window(np.zeros(800, np.float32), 800, 7, 5.0, 1e9, Validity.VALID, "", "mic")
STAMP = Stamp("d", "pump", 1e9)
SCALE = Scale(median=0.2, threshold=0.4, usual=0.3, severe=0.6)
STATUS = AlarmStatus(
    Level.ALARM, 1e9, "a1", acknowledged=False, shelving=Shelving.TIMED, shelved_until_wall=1e9 + 60
)


def event(**changes):
    fields = {
        "id": "a1-0-raised", "kind": EventKind.RAISED, "alarm_id": "a1", "wall": 1e9,
        "status": STATUS, "previous": Level.NORMAL, "threshold": 0.4,
    }  # fmt: skip
    return AlarmEvent(**{**fields, **changes})


def drifted(**changes):
    return DriftStatus(
        **{
            "wall": 1e9, "active": True, "exceeded": True, "distance": 2.0, "threshold": 1.0,
            "reference": 0, "warning_id": "w1", "since_wall": 1e9, "movement": "component 0 moved",
            **changes,
        }
    )  # fmt: skip


def swapped(**changes):
    return BundleEvent(
        **{
            "id": "b1", "kind": BundleEventKind.SWAPPED, "wall": 1e9, "reason": "asked for",
            "old_digest": "a" * 64, "new_digest": "b" * 64, "bundle": "pump", "rows": 5,
            "version": 0, "threshold": 0.4, **changes,
        }
    )  # fmt: skip


class Listening:
    name = "pump"
    counters = Counters(windows=5, last_window=1.0)
    missing = ("bundle",)
    remarks = ("no window was judged for an hour",)
    recognition = Recognition(bundle="a" * 64, state="yes", heard=9, windows=9, distance=0.6)
    months = (MonthOfAlarms(month="2026-11", alarms=3, healthy=1, unanswered=2),)

    def faults(self):
        return {"overruns": 2}


def built(tmp_path, bundle):
    decision = Decision(
        Score(WINDOW, 0.5, 1, 0.1), 0.4, exceeded=True, level=Level.ALARM, changed=False,
        since_wall=1e9, status=STATUS,
    )  # fmt: skip
    opened = open_bundle(bundle)
    Listening.counters.invalid["silent"] += 1
    info = bundle_info(opened, level_of("judge", None), ("promise: at most 1",), "")
    condition = SensorCondition(ConditionStatus.FAILURE, "silent", 1e9)
    yield (
        "status",
        messages.status_message("d", "online", machines=["pump"], time=1e9, unjudged=["pump"]),
    )
    yield "info", info_message("d", {"pump": info, "fan": None}, ["ack"])
    score = messages.score_message(STAMP, decision)
    yield "score", score
    yield "severity", {field: score[field] for field in Severity.model_fields}
    yield "alarm", messages.alarm_message(STAMP, event(scale=SCALE))
    yield "event", messages.event_message(STAMP, event())
    yield (
        "event",
        messages.event_message(
            STAMP, event(alarm_id="", kind=EventKind.MUTED, window=3, window_seconds=2.0)
        ),
    )
    yield "sensor", messages.sensor_message(STAMP, condition)
    yield "drift", drift_status_message(STAMP, drifted(warning_id="", since_wall=None, movement=""))
    yield "drift", drift_status_message(STAMP, drifted())
    for kind in DriftEventKind:
        happened = DriftEvent(
            id=f"w1-{kind.value}", kind=kind, wall=1e9, warning_id="w1", status=drifted(),
            operator="ann", note="new belt",
        )  # fmt: skip
        yield "drift_event", drift_event_message(STAMP, happened)
    for kind in BundleEventKind:
        changed = swapped(kind=kind)
        yield "bundle_event", bundle_event_message(STAMP, changed)
    none = swapped(kind=BundleEventKind.REFUSED, new_digest="", bundle="", rows=0, threshold=None)
    yield "bundle_event", bundle_event_message(STAMP, none)
    yield "probe_event", messages.probe_message(STAMP, "p1")
    offered = OfferState(
        device="d", machine="pump", time=utc(1e9), sequence=3, digest="0" * 64, state="fetching",
        reason="", bytes=10, fetched_bytes=4, reused_bytes=0,
    )  # fmt: skip
    yield "offered", offered.model_dump()
    why = Explanation(
        "louder at 3 kHz", (UnusualBand(2800, 3200, 9.5),), (NearHealthy("h1.wav", None, 0.2),)
    )
    yield "event", messages.event_message(STAMP, event(explanation=why))
    outbox = Outbox(EventStore(tmp_path, 1_000_000))
    yield (
        "health",
        health_message(
            "d",
            [Listening()],
            outbox,
            uptime=3.0,
            reconnects=0,
            refused=0,
            proof=DeliveryProof("auscult/d", "here:1883"),
        ),
    )


def test_real_messages_are_what_the_schemas_say(tmp_path, tiny_bundle):
    names = set()
    for name, message in built(tmp_path, tiny_bundle):
        names.add(name)
        data = json.loads(encode(message))
        schemas.PAYLOADS[name].model_validate(data)
        # Nothing is left out, and nothing is said that the schema does not know.
        schema = schemas.schema(name)
        assert set(data) == set(schema["required"]) == set(schema["properties"]), name
        with pytest.raises(ValidationError):
            schemas.PAYLOADS[name].model_validate({**data, "more": 1})
    # Requests, their answers and offers are what the agent is told.
    published = {name for name in schemas.PAYLOADS if not name.startswith("re") and name != "offer"}
    assert names == published


def test_health_counts_what_the_pipeline_counted(tmp_path):
    outbox = Outbox(EventStore(tmp_path, 1_000_000))
    message = health_message(
        "d",
        [Listening()],
        outbox,
        uptime=3.0,
        reconnects=4,
        refused=1,
        proof=DeliveryProof("auscult/d", "here:1883"),
    )
    pump = message["machines"]["pump"]
    assert pump["windows"] == 5
    assert pump["faults"] == {"overruns": 2}
    assert message["reconnects"] == 4


def test_a_cloud_event_has_what_the_specification_asks_for():
    message = messages.event_message(STAMP, event())
    assert message["specversion"] == "1.0"
    assert message["type"] == "auscult.alarm.raised"
    assert (message["id"], message["source"], message["subject"]) == (
        "a1-0-raised",
        "/auscult/d",
        "pump",
    )
    assert message["data"]["shelved_until"] == utc(1e9 + 60)


def test_the_schemas_and_the_page_are_not_stale():
    assert schemas.stale() == []


def test_a_number_that_is_not_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"score": math.nan})


def test_an_alarm_is_news_when_it_differs_not_when_the_clocks_drift():
    listener = Listener()
    broadcaster = to(listener)

    def told(status):
        before = len(listener.tellings)
        window = Decision(
            Score(WINDOW, 0.5), 0.4, exceeded=False, level=status.level, changed=False,
            since_wall=1e9, status=status,
        )  # fmt: skip
        broadcaster.tell(window)
        (telling,) = listener.tellings[before:]
        return [kind.topic for kind, _ in telling.messages] == ["score", "alarm"]

    assert told(STATUS)
    assert not told(STATUS)
    assert not told(replace(STATUS, shelved_until_wall=1e9 + 60.4))
    assert told(AlarmStatus(Level.ALARM, 1e9, "a1", acknowledged=True))
    # The event that cleared it bears its id; the window after that brings no news.
    assert told(AlarmStatus(Level.NORMAL, 1e9, "a1", acknowledged=False))
    assert not told(AlarmStatus(Level.NORMAL, 1e9))
