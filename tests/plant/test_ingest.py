"""What devices publish is in the database, once, and is acknowledged only then."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from support.plant import Device, alarm, event, listening, moment, plant_file, score, until

from agent.core.errors import ConfigError
from plant.store.read import Reader, Wanted
from plant.store.tables import DEVICES, EVENTS, MACHINES, OPEN_SCORES, REFUSED, SCORES, STATES
from plant.watch.file import load_serve
from plant.watch.reading import Refused, read
from plant.watch.write_scores import forget_open


@pytest.fixture
def config(tmp_path, broker):
    return load_serve(plant_file(tmp_path, broker.port))


def rows(database, query):
    with database.reading() as connection:
        return connection.execute(query).all()


def count(database, table):
    return rows(database, sa.select(sa.func.count()).select_from(table))[0][0]


def test_an_event_that_comes_twice_is_there_once(config, broker, database):
    with listening(config, database) as ingest, Device(broker.port) as device:
        for _ in range(3):
            device.say("pump/event", event("dev", "pump", 1))
            time.sleep(0.3)
        device.say("pump/event", event("dev", "pump", 2))
        until(lambda: count(database, EVENTS) == 2)
        until(lambda: ingest.counts.messages == 4)

    (row,) = rows(database, sa.select(EVENTS).where(EVENTS.c.id == "dev-pump-1"))
    assert json.loads(row.payload) == event("dev", "pump", 1)
    assert (row.area, row.event, row.alarm_id, row.sequence) == ("alarm", "raised", "a1", 1)
    (device_,) = Reader(database, {}).devices()
    assert (device_["sequences"], device_["missing"]) == (2, 0)


def test_numbers_that_never_come_are_told_of(config, broker, database):
    with listening(config, database), Device(broker.port) as device:
        for number in (7, 3, 4, 9):
            device.say("pump/event", event("dev", "pump", number))
        until(lambda: count(database, EVENTS) == 4)

    (device_,) = Reader(database, {}).devices()
    assert device_["missing"] == 3  # 5, 6 and 8


def test_what_comes_while_no_instance_runs_waits_at_the_broker(config, broker, database):
    with listening(config, database):
        pass
    with Device(broker.port) as device:
        for number in range(1, 301):
            device.say("pump/event", event("dev", "pump", number), wait=number == 300)
    with listening(config, database):
        until(lambda: count(database, EVENTS) == 300)


def test_a_queue_longer_than_what_may_be_under_way_is_taken(tmp_path, broker, database):
    # The broker's word about the subscription comes behind what it has kept for us.
    config = load_serve(plant_file(tmp_path, broker.port, watch={"commit_messages": 10}))
    with listening(config, database):
        pass
    with Device(broker.port) as device:
        for number in range(1, 301):
            device.say("pump/event", event("dev", "pump", number), wait=number == 300)
    with listening(config, database):
        until(lambda: count(database, EVENTS) == 300)


def test_nothing_is_acknowledged_before_it_is_written(config, broker, database, monkeypatch):
    from plant.watch.write import Writer

    write, failing = Writer.write, threading.Event()
    failing.set()

    def refusing(self, batch):
        if failing.is_set():
            raise sa.exc.OperationalError("x", {}, Exception("the server is away"))
        return write(self, batch)

    monkeypatch.setattr(Writer, "write", refusing)
    with listening(config, database) as ingest, Device(broker.port) as device:
        device.say("pump/event", event("dev", "pump", 1))
        until(lambda: ingest.counts.failures >= 2)
    # Ended without having been written: it is still the broker's, for whoever comes next.
    failing.clear()
    with listening(config, database):
        until(lambda: count(database, EVENTS) == 1)


def test_an_older_state_never_covers_a_newer(config, broker, database):
    with listening(config, database), Device(broker.port) as device:
        device.say("pump/alarm", alarm("dev", "pump", 20, level="alarm"))
        device.say("pump/alarm", alarm("dev", "pump", 10, level="alert"))
        device.say("pump/sensor", {"device": "dev", "machine": "pump", "time": moment(5),
                                   "status": "failure", "reason": "unplugged"})  # fmt: skip
        until(lambda: rows(database, sa.select(MACHINES.c.sensor)) == [("failure",)])

    ((level,),) = rows(database, sa.select(MACHINES.c.level))
    assert level == "alarm"
    ((payload,),) = rows(database, sa.select(STATES.c.payload).where(STATES.c.topic == "alarm"))
    assert json.loads(payload)["level"] == "alarm"


def test_the_states_of_before_are_read_from_what_the_broker_retains(config, broker, database):
    from plant.watch.machines import Machines
    from plant.watch.retained import retained_states
    from plant.watch.write import Writer

    writer = Writer(database, Machines(database))
    with Device(broker.port) as device:
        device.say("pump/alarm", alarm("dev", "pump", 100), retain=True)
        device.say("status", {"device": "dev", "status": "online", "time": moment(1)}, retain=True)
        states, asked = retained_states(config.broker, threading.Event())
        writer.write(states)
        assert rows(database, sa.select(MACHINES.c.level)) == [("alarm",)]
        assert rows(database, sa.select(DEVICES.c.status)) == [("online",)]

        # The device's clock was set back: what the broker has is older, and true nevertheless.
        device.say("pump/alarm", alarm("dev", "pump", 50, level="normal", alarm_id=None), retain=True)  # fmt: skip
        states, asked = retained_states(config.broker, threading.Event())
        # But not against what was heard after the broker was asked.
        late = read("auscult", "auscult/dev/pump/alarm",
                    json.dumps(alarm("dev", "pump", 101, level="alert")).encode(),
                    asked + timedelta(seconds=1))  # fmt: skip
        writer.write([late])
        writer.write(states)
        assert rows(database, sa.select(MACHINES.c.level)) == [("alert",)]
        states, _ = retained_states(config.broker, threading.Event())
        with database.writing() as connection:
            connection.execute(sa.update(MACHINES).values(alarm_got=asked - timedelta(seconds=9)))
        writer.write(states)
        assert rows(database, sa.select(MACHINES.c.level)) == [("normal",)]


def test_of_two_states_of_one_moment_the_one_that_the_broker_retains_is_true(
    config, broker, database
):
    """Two instances share them, and either may be the last to write."""
    from plant.watch.machines import Machines
    from plant.watch.retained import retained_states
    from plant.watch.write import Writer

    writer = Writer(database, Machines(database))
    first = alarm("dev", "pump", 100, level="normal", alarm_id=None)
    with Device(broker.port) as device:
        device.say("pump/alarm", first, retain=True)
        device.say("pump/alarm", alarm("dev", "pump", 100, level="alarm"), retain=True)
        states, asked = retained_states(config.broker, threading.Event())
    writer.write(states)
    earlier = asked - timedelta(seconds=1)
    writer.write([read("auscult", "auscult/dev/pump/alarm", json.dumps(first).encode(), earlier)])
    assert rows(database, sa.select(MACHINES.c.level)) == [("normal",)]
    writer.write(states)
    assert rows(database, sa.select(MACHINES.c.level)) == [("alarm",)]
    ((payload,),) = rows(database, sa.select(STATES.c.payload).where(STATES.c.topic == "alarm"))
    assert json.loads(payload)["level"] == "alarm"
    # What is no other is not written again: each row that is would be told to every browser.
    changed = rows(database, sa.select(MACHINES.c.changed))
    writer.write(states)
    assert rows(database, sa.select(MACHINES.c.changed)) == changed


def test_reading_what_is_retained_ends_although_devices_go_on_telling(config, broker):
    from plant.watch.retained import retained_states

    stopping = threading.Event()

    def tell():
        second = 0
        while not stopping.wait(0.1):
            second += 1
            device.say("pump/alarm", alarm("dev", "pump", second), retain=True)

    with Device(broker.port) as device:
        device.say("pump/sensor", b'{"device": "dev"}', retain=True)
        thread = threading.Thread(target=tell)
        thread.start()
        try:
            found = ThreadPoolExecutor(1).submit(retained_states, config.broker, stopping)
            assert found.result(30)
        finally:
            stopping.set()
            thread.join()


def test_a_state_that_was_removed_is_removed(config, broker, database):
    with listening(config, database), Device(broker.port) as device:
        device.say("pump/drift", {"device": "dev", "machine": "pump", "time": moment(1),
                                  "active": True}, retain=True)  # fmt: skip
        until(lambda: rows(database, sa.select(MACHINES.c.drift)) == [(True,)])
        device.say("pump/drift", b"", retain=True)
        until(lambda: rows(database, sa.select(MACHINES.c.drift)) == [(None,)])

    assert count(database, STATES) == 0


def test_a_device_whose_connection_is_lost_is_offline(config, broker, database):
    with listening(config, database):
        device = Device(broker.port, will=True)
        device.say("status", {"device": "dev", "status": "online", "time": moment(1),
                              "version": "9.9"}, retain=True)  # fmt: skip
        until(lambda: rows(database, sa.select(DEVICES.c.status)) == [("online",)])
        device.client.loop_stop()
        device.client.socket().close()
        until(lambda: rows(database, sa.select(DEVICES.c.status)) == [("offline",)])


def test_scores_become_medians_that_several_instances_add_up(config, broker, database):
    values = [0.1 * n for n in range(-3, 14)]
    with (
        listening(config, database, name="one"),
        listening(config, database, name="two"),
        Device(broker.port) as device,
    ):
        for n, value in enumerate(values):
            device.say("pump/score", score("dev", "pump", n, value), qos=0)
            if n == 8:
                time.sleep(1.5)  # what comes later is added to what is stored
        device.say("pump/score", score("dev", "pump", 90, None), qos=0)
        until(lambda: rows(database, sa.select(SCORES.c.windows)) == [(18,), (18,)])

    found = rows(database, sa.select(SCORES).where(SCORES.c.step == 300))[0]
    assert (found.windows, found.judged, found.exceeded) == (18, 17, 3)
    assert found.median == pytest.approx(sorted(values)[8], abs=0.0051)
    assert found.maximum == pytest.approx(1.3)
    assert found.threshold == 0.4
    assert rows(database, sa.select(MACHINES.c.latest)) == [(None,)]
    assert count(database, OPEN_SCORES) == 2
    forget_open(database, timedelta(days=-36500))
    assert count(database, OPEN_SCORES) == 0


@pytest.mark.parametrize(
    ("topic", "payload", "said"),
    [
        ("pump/event", b"not json", "JSON"),
        ("pump/event", b"{}", "id: is missing"),
        ("pump/event", json.dumps({**event("dev", "pump", 1), "sequence": "7"}).encode(), "sequence"),
        ("pump/event", json.dumps(event("other", "pump", 1)).encode(), "another device"),
        ("fan/event", json.dumps(event("dev", "pump", 1)).encode(), "another device or machine"),
        ("pump/score", b'{"device":"dev","machine":"pump","time":"2026-01-01T00:00:00.000Z","score":NaN}', "score"),
        ("pump/alarm", json.dumps(alarm("dev", "pump", 1, level="a\x00b")).encode(), "level"),
        ("pump/alarm", b'{"device":"\\ud800"}', ""),
        ("status", b'{"device":"dev","status":"sleepy"}', "status"),
        ("pump/nonesuch", b"{}", "no topic of an agent"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_set_aside_with_the_reason(topic, payload, said):
    found = read("auscult", f"auscult/dev/{topic}", payload, datetime.now(timezone.utc))

    assert isinstance(found, Refused)
    assert said in found.reason


def test_a_bad_message_is_kept_to_be_looked_at_and_holds_up_nothing(config, broker, database):
    with listening(config, database), Device(broker.port) as device:
        device.say("pump/event", b"\xff\xfe\x00 nonsense")
        device.say("pump/event", event("dev", "pump", 1))
        until(lambda: count(database, EVENTS) == 1)
        until(lambda: count(database, REFUSED) == 1)


def test_a_message_that_the_database_does_not_take_is_set_aside_alone(config, broker, database):
    with database.writing() as connection:
        connection.execute(sa.text(
            "CREATE TRIGGER picky BEFORE INSERT ON events WHEN NEW.id LIKE '%-13' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"))  # fmt: skip
    with listening(config, database), Device(broker.port) as device:
        for number in range(1, 21):
            device.say("pump/event", event("dev", "pump", number), wait=number == 20)
        until(lambda: count(database, EVENTS) == 19)
        until(lambda: count(database, REFUSED) == 1)

    (reason,) = rows(database, sa.select(REFUSED.c.reason))[0]
    assert "not this one" in reason


def test_a_newer_agents_fields_and_kinds_of_events_are_taken(config, broker, database):
    newer = event("dev", "pump", 1)
    newer["type"], newer["data"]["colour"] = "auscult.smell.noticed", "green"
    with listening(config, database), Device(broker.port) as device:
        device.say("pump/event", newer)
        until(lambda: count(database, EVENTS) == 1)

    assert rows(database, sa.select(EVENTS.c.area)) == [("smell",)]


def test_a_probe_of_the_delivery_is_no_event(config, broker, database):
    probe = event("dev", "pump", 1)
    probe["type"], probe["sequence"] = "auscult.delivery.probe", None
    with listening(config, database) as ingest, Device(broker.port) as device:
        device.say("pump/event", probe)
        until(lambda: ingest.counts.messages == 1)
        device.say("pump/event", event("dev", "pump", 2))
        until(lambda: count(database, EVENTS) == 1)


def test_the_worst_machine_comes_first(config, broker, database):
    with (
        listening(config, database),
        Device(broker.port) as device,
        Device(broker.port, "gone") as gone,
    ):
        device.say("well/alarm", alarm("dev", "well", 1, level="normal", alarm_id=None))
        device.say("seen/alarm", alarm("dev", "seen", 1, acknowledged=True))
        device.say("new/alarm", alarm("dev", "new", 1))
        device.say("shelved/alarm", alarm("dev", "shelved", 1, shelving="timed"))
        device.say("deaf/sensor", {"device": "dev", "machine": "deaf", "time": moment(1),
                                   "status": "failure", "reason": ""})  # fmt: skip
        gone.say("away/alarm", alarm("gone", "away", 1, level="normal", alarm_id=None))
        gone.say("status", {"device": "gone", "status": "offline", "time": None})
        reader = Reader(database, {"hall": ["de*"]})
        until(lambda: len(reader.machines(Wanted())[0]) == 6 and reader.counts()["offline"])
        until(lambda: reader.machine("dev", "deaf")["sensor"])

    found, number = reader.machines(Wanted())
    assert [one["name"] for one in found] == ["new", "seen", "deaf", "away", "shelved", "well"]
    assert number == 6
    assert {one["site"] for one in found if one["device"] == "dev"} == {"hall"}
    assert reader.of_site("hall") == ["dev"]
    assert [one["name"] for one in reader.machines(Wanted(text="SHEL"))[0]] == ["shelved"]
    assert [one["name"] for one in reader.machines(Wanted(state="offline"))[0]] == ["away"]
    assert reader.machines(Wanted(text="%"))[1] == 0
    assert [one["name"] for one in reader.inbox(Wanted(state="alarm"))[0]] == [
        "new",
        "seen",
        "shelved",
    ]
    counts = reader.counts()
    assert (counts["alarms"], counts["unacknowledged"], counts["shelved"]) == (2, 1, 1)


def test_one_file_says_all_of_a_plant(tmp_path):
    from plant.learn.schema import load_plant

    path = plant_file(
        tmp_path, 1883, machines=[{"name": "pump7", "data": "pump7"}],
        broker={"host": "broker.example", "username": "u", "password_file": "secret"},
    )  # fmt: skip

    assert load_plant(path).machines[0].name == "pump7"
    config = load_serve(path)
    assert config.broker.password_file == tmp_path / "secret"
    assert config.database.url == f"sqlite:///{tmp_path}/plant.db"


def test_a_misspelt_key_is_named_with_a_remedy(tmp_path):
    path = plant_file(tmp_path, 1883, watch={"sights": {}})

    with pytest.raises(ConfigError, match=r"watch\.sights: there is no such field"):
        load_serve(path)
