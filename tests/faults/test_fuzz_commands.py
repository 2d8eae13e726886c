"""Commands of all kinds, one after another, at a real alarm: each answered once, none breaks it.

`tests/agent/test_request.py` looks at single commands; here it is their sequence that matters.
"""

from __future__ import annotations

import json
import queue

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.config.decide import DecideConfig
from agent.core.cloud_event import encode
from agent.core.records import MachineState, Score, Window
from agent.decide.alarm import AlarmDecider
from agent.decide.service import AlarmService
from agent.decide.state import AlarmFile
from agent.publish.payloads import Response
from agent.request.alarms import alarm_handlers
from agent.request.commands import COMMANDS
from agent.request.dispatch import Dispatcher

TEXT = st.text(max_size=12) | st.sampled_from(["\x00", "\ud800", "x" * 250, "é" * 900, "${jndi}"])
FIELDS = st.fixed_dictionaries(
    {"machine": st.sampled_from([*["pump"] * 5, "lathe", "../pump", ""])},
    optional={
        "seconds": st.sampled_from([None, 0, 0.001, 60, 1e9, -1, 1e308, "5", True, 10**400]),
        "operator": TEXT,
        "comment": TEXT,
        "alarm_id": st.none() | TEXT,
        "verdict": st.sampled_from(["normal", "anomalous", "well"]),
        "label": st.sampled_from(["healthy", "idle"]),
    },
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ack", "shelve", "mute", "ack", "shelve", "mute", *COMMANDS]), FIELDS
    )
    | st.tuples(st.just("window"), st.booleans())
    | st.tuples(st.sampled_from([*COMMANDS, "x"]), TEXT),
    min_size=3,
    max_size=15,
)


@pytest.mark.parametrize("latch", [False, True])
@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
@example(steps=[("ack", '{"\\ud800": 1}'), ("x\uffff", "{}"), ("mute", "[" * 16_000)])
def test_any_sequence(tmp_path_factory, latch, steps):
    path = tmp_path_factory.mktemp("state") / "pump.json"
    config = DecideConfig(raise_windows=1, of_windows=1, clear_windows=1, alert=None, latch=latch)
    told, answers = [], queue.Queue()
    keeper = AlarmService(AlarmDecider(config, 1.0), told.append, AlarmFile(path))

    def respond(command, message):
        encode(message)
        answers.put((command, Response.model_validate(message)))

    dispatcher = Dispatcher("dev", ["pump"], alarm_handlers({"pump": keeper}.get), respond)
    dispatcher.start()
    try:
        for number, (command, given_fields) in enumerate(steps):
            if command == "window":
                window = Window(np.zeros(8, np.float32), 8, number, float(number), 1e9 + number)
                score = Score(window, 5.0 if given_fields else 0.0)
                keeper.decide(score, MachineState.RUNNING)
                continue
            before = len(told)
            if isinstance(given_fields, dict):
                asked = {"transaction": f"t{number}", **given_fields}
                payload = json.dumps(asked).encode()
            else:
                payload = given_fields.encode("utf-8", "surrogatepass")
            dispatcher.take(command, payload)
            answered, answer = answers.get(timeout=10)
            assert answered == command
            assert "failed to carry it out" not in (answer.error or "")
            if answer.status == "error":
                # Only time may have brought something about: the end of a shelving or muting.
                kinds = {event.kind.value for event in told[before:]}
                assert kinds <= {"unshelved", "unmuted", "raised"}
    finally:
        dispatcher.stop()
    assert answers.empty()
    assert len({event.id for event in told}) == len(told)
    if told:
        # What the next start finds is what stands.
        memory = AlarmFile(path).load()
        assert memory is not None
        assert memory.level is keeper.status.level
        assert memory.shelving is keeper.status.shelving
        assert memory.untold == ()
