"""What a broker acknowledged and lost is asked for again, and comes."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from support.plant import (
    Device,
    Instance,
    alarm,
    event,
    listening,
    moment,
    plant_file,
    score,
    until,
    untrue,
)

from agent.config.publish import MqttConfig
from agent.publish.mqtt import MqttPublisher
from agent.publish.mqtt_message import MqttMessage
from agent.request.dispatch import Dispatcher
from agent.request.resend import resend_handler
from plant.simulate.devices import fleet
from plant.simulate.recorded import read_streams
from plant.store.database import Database
from plant.store.migrate import migrate
from plant.store.read import Reader
from plant.store.tables import DEVICES, EVENTS
from plant.watch import again
from plant.watch.file import load_serve


def health(device, acknowledged):
    return {
        "device": device,
        "time": "2026-01-01T00:00:00Z",
        "outbox": {"acknowledged": acknowledged},
    }


def kept(database) -> Counter[str]:
    with database.reading() as connection:
        return Counter(connection.execute(sa.select(EVENTS.c.id)).scalars())


@pytest.fixture
def patient(monkeypatch):
    """Missing events are asked for after a second, which a test can wait."""
    monkeypatch.setattr(again, "_FIRST_WAIT", timedelta(seconds=1))


def test_gaps_within_and_at_both_ends_are_asked_for(tmp_path, broker, patient):
    config = load_serve(plant_file(tmp_path, broker.port))
    database = Database(config.database.url)
    migrate(database)
    with listening(config, database), Device(broker.port, "gw") as device:
        # It had given 10 before it was heard of: those are nobody's loss.
        device.say("health", health("gw", 10), qos=1)
        resend = again.Resend(config.broker, database)
        until(lambda: Reader(database, {}).devices())
        assert [resend.turn(), resend.turn()] == [0, 0]

        for number in (13, 14, 17):
            device.say("pump/event", event("gw", "pump", number))
        device.say("health", health("gw", 20), qos=1)
        until(lambda: Reader(database, {}).devices()[0]["missing"] == 7)

        assert resend.turn() == 0  # it may be on its way
        assert resend.turn() == 1
        until(lambda: len(device.heard) == 3)
        asked = [(name, one["machine"], one["first"], one["last"]) for name, one in device.heard]
        assert sorted(asked) == [
            ("resend", "pump", 11, 12), ("resend", "pump", 15, 16), ("resend", "pump", 18, 20),
        ]  # fmt: skip
        assert resend.turn() == 0  # it was asked a moment ago

        for number in (11, 12, 15, 16, 18, 19, 20, 20):
            device.say("pump/event", event("gw", "pump", number))
        until(lambda: Reader(database, {}).devices()[0]["missing"] == 0)
        time.sleep(1.1)
        assert [resend.turn(), resend.turn()] == [0, 0]
    assert set(kept(database).values()) == {1}
    database.close()


def test_a_device_that_has_not_what_is_missing_is_asked_more_and_more_seldom(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'plant.db'}")
    migrate(database)
    now = datetime.now(timezone.utc)
    with database.writing() as connection:
        connection.execute(
            sa.insert(DEVICES).values(
                name="gw", first_seen=now, changed=now, first_sequence=1, last_sequence=9,
                sequences=5, asked=now, asked_for=4, asks=3,
            )
        )  # fmt: skip
        row = connection.execute(sa.select(DEVICES)).one()

    def changed(**columns):
        return SimpleNamespace(**{**row._mapping, **columns})

    waits = [
        next(s for s in range(0, 4000, 20) if again.due(one, now + timedelta(seconds=s)))
        for one in (changed(asks=asks) for asks in (1, 2, 3, 11))
    ]
    assert waits == [40, 80, 160, 3600]
    assert not again.due(changed(asks=12), now + timedelta(days=1))
    # Something came: it is answered after all.
    assert again.due(changed(asks=12, sequences=6), now + timedelta(seconds=20))
    database.close()


# What happens to an alarm: it is raised, seen, shelved, back, and over.
STORY = (
    ("raised", {}),
    ("acknowledged", {"acknowledged": True}),
    ("shelved", {"acknowledged": True, "shelving": "timed", "shelved_until": moment(10**6)}),
    ("unshelved", {"acknowledged": True}),
    ("cleared", {"level": "normal", "alarm_id": None, "acknowledged": True}),
)


@pytest.fixture
def streams(tmp_path):
    path = tmp_path / "told.jsonl"
    lines = []
    for begin in range(len(STORY)):  # machines that are at different points of it
        name = f"pump{begin}"
        for number, (kind, changes) in enumerate(STORY[begin:] + STORY[:begin], 1):
            lines += [
                {"kind": "score", **score("gw", name, number, 1.2)},
                {"kind": "event", **event("gw", name, number, kind=kind, alarm_id="a1")},
                {"kind": "alarm", **alarm("gw", name, number, **changes)},
            ]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return read_streams(path)


def run_until(made, condition, seconds=120):
    """Serve simulated devices until something holds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        made.run(0, 0, 0.5)
    assert condition()


@pytest.mark.slow
def test_a_broker_that_is_killed_costs_no_event_and_the_store_is_the_devices_truth(
    tmp_path, broker, streams
):
    path = plant_file(tmp_path / "p", broker.port)
    first = Instance(path)
    first.listening()
    made = fleet(("127.0.0.1", broker.port), "auscult", streams, devices=20, machines=2)
    made.start()
    made.run(events=200, scores=20, seconds=2.0)
    first.kill()
    # What the broker acknowledges now waits in its memory, for an instance that is away.
    made.run(events=200, scores=20, seconds=1.0)
    broker.send_signal(signal.SIGKILL)
    made.run(events=200, scores=20, seconds=1.0)
    broker.start()
    with Instance(path, "one"):
        made.run(events=200, scores=20, seconds=2.0)
        database = Database(f"sqlite:///{tmp_path / 'p' / 'plant.db'}")
        run_until(made, lambda: len(kept(database)) >= len(made.sent.ids))
        made.finish(20)

        assert kept(database) == Counter(made.sent.ids)
        assert made.sent.again
        assert {one["missing"] for one in Reader(database, {}).devices()} == {0}
        until(lambda: not untrue(database, made.devices))
        told = [json.loads(one) for device in made.devices for one in device.states.values()]
        assert len(told) == 40
        assert {one["shelving"] for one in told} == {"timed", "unshelved"}
        assert {one["acknowledged"] for one in told} == {True, False}
        made.stop()
        database.close()


@pytest.mark.slow
def test_a_real_device_sends_again_what_a_killed_broker_lost(tmp_path, broker):
    path = plant_file(tmp_path / "p", broker.port)
    config = MqttConfig(host="127.0.0.1", port=broker.port, health_seconds=1,
                        reconnect_max_seconds=1)  # fmt: skip
    device = MqttPublisher(config, "gw", ["pump"], tmp_path)
    requests = Dispatcher("gw", ["pump"], {"resend": resend_handler(device.outbox)}, device.respond)
    device.tell_about(dict, list)
    device.listen_to(requests)
    with Instance(path) as instance:
        instance.listening()
        device.start()
        requests.start()
        assert device.wait_connected(20)
        wanted = set()
        for number in range(1, 301):
            told = event("gw", "pump", number)
            told["sequence"] = None  # the outbox's
            wanted.add(told["id"])
            payload = json.dumps(told, separators=(",", ":")).encode()
            device.outbox.put_event(
                MqttMessage("auscult/gw/pump/event", payload, 1, retain=False, id=told["id"])
            )
            time.sleep(0.01)
            if number in {100, 200}:
                broker.send_signal(signal.SIGKILL)
                time.sleep(0.3)
                broker.start()
        database = Database(f"sqlite:///{tmp_path / 'p' / 'plant.db'}")
        until(lambda: kept(database).keys() == wanted, 120)
        assert set(kept(database).values()) == {1}
        database.close()
        requests.stop()
        device.stop()
