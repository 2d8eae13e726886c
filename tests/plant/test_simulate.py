"""Simulated devices tell what was recorded, as other devices and now; each event has its own id."""

from __future__ import annotations

import json

import pytest
from support.broker import Subscriber
from support.plant import alarm, event, plant_file, score

from agent.core.errors import ConfigError
from plant.simulate.devices import fleet
from plant.simulate.recorded import read_streams
from plant.watch.reading import Refused, read


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "told.jsonl"
    lines = []
    for number in range(1, 6):
        lines += [
            {"kind": "score", **score("gw", "pump", number, 1.2)},
            {"kind": "event", **event("gw", "pump", number, alarm_id=f"a{number}")},
            {"kind": "alarm", **alarm("gw", "pump", number, alarm_id=f"a{number}")},
        ]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_every_device_tells_events_of_its_own(recording, broker):
    streams = read_streams(recording)
    with Subscriber(broker.port, "auscult/#", raw=True) as heard:
        made = fleet(("127.0.0.1", broker.port), "auscult", streams, devices=3, machines=2)
        made.start()
        made.run(events=60, scores=30, seconds=1.0)
        assert made.finish(20)
        made.stop()
        heard.wait("/event", lambda _: True)
        sent = made.sent
        told = [(topic, payload) for topic, payload, _ in heard.messages]

    from datetime import datetime, timezone

    now = datetime.now(timezone.utc)
    found = [read("auscult", topic, payload, now) for topic, payload in told]
    assert not [one for one in found if isinstance(one, Refused)]
    events = [one for one in found if one.topic == "event"]
    assert len(events) == sent.events == len(set(sent.ids))
    assert sorted(one.body.id for one in events) == sorted(sent.ids)
    for device in {one.device for one in events}:
        numbers = [int(one.body.sequence) for one in events if one.device == device]
        assert numbers == list(range(1, len(numbers) + 1))
    assert all(abs((one.body.data.time - now).total_seconds()) < 60 for one in events)
    assert {one.topic for one in found} == {"event", "alarm", "score", "status", "health"}


def test_what_a_device_could_not_send_is_sent_after_the_outage(recording, broker):
    with Subscriber(broker.port, "auscult/+/+/event", raw=True, session="keeps") as heard:
        made = fleet(("127.0.0.1", broker.port), "auscult", read_streams(recording), devices=2,
                     machines=1)  # fmt: skip
        made.start()
        made.run(events=40, scores=0, seconds=0.5)
        broker.stop()
        made.run(events=40, scores=0, seconds=0.5)
        broker.start()
        assert made.finish(30)
        made.stop()
        assert made.sent.reconnects >= 2
        ids = set()
        for _ in range(100):
            ids = {json.loads(payload)["id"] for _, payload, _ in heard.messages}
            if ids == set(made.sent.ids):
                break
            heard.client.loop_misc()
            import time

            time.sleep(0.1)
    assert ids == set(made.sent.ids)


@pytest.mark.parametrize(("text", "said"), [("nonsense\n", "line 1 is no message"),
                                            ('{"kind": "status"}\n', "no machine has an event"),
                                            (None, "cannot be read")])  # fmt: skip
def test_a_recording_that_is_none_is_refused(tmp_path, text, said):
    path = tmp_path / "told.jsonl"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=said):
        read_streams(path)


def test_the_command_says_what_was_sent(tmp_path, recording, broker):
    from click.testing import CliRunner

    from plant.commands.simulate import simulate

    path = plant_file(tmp_path / "p", broker.port)
    ids = tmp_path / "ids"
    done = CliRunner().invoke(simulate, [
        str(path), "--stream", str(recording), "--devices", "2", "--machines", "1", "--events",
        "20", "--scores", "0", "--seconds", "1", "--ids", str(ids)])  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "2 devices x 1 machines" in done.output
    assert len(set(ids.read_text().split())) == len(ids.read_text().split()) > 10
