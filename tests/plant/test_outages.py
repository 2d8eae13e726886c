"""Instances, database and broker are killed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from support.plant import (
    Device,
    Instance,
    Postgres,
    alarm,
    event,
    listening,
    plant_file,
    score,
    until,
)

from plant.store.database import Database
from plant.store.migrate import migrate
from plant.store.read import Reader
from plant.store.tables import EVENTS, INSTANCES, MACHINES, METADATA, SCORES
from plant.watch.file import load_serve

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres():
    with Postgres() as postgres:
        yield postgres


def stored(database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(EVENTS.c.id)).scalars())


class Sender:
    """Devices that tell of events at a pace, in a thread, as agents do: until acknowledged."""

    def __init__(self, port, devices=4, each=400, pause=0.01):
        self.devices = [Device(port, f"dev{n}") for n in range(devices)]
        for device in self.devices:
            device.client.reconnect_delay_set(1, 1)
        self.each, self.pause, self.infos = each, pause, []
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for number in range(1, self.each + 1):
            for device in self.devices:
                told = event(device.name, "pump", number)
                self.infos.append(device.say("pump/event", told, wait=False))
            self.sent = number
            time.sleep(self.pause)

    def half(self):
        until(lambda: self.sent >= self.each // 2, 60)

    def finish(self):
        self._thread.join(120)
        # paho sends again, after a reconnect, what was not acknowledged; its word is on_publish.
        until(
            lambda: sum(len(device.acknowledged) for device in self.devices) >= len(self.infos), 60
        )
        for device in self.devices:
            device.stop()

    @property
    def ids(self):
        return {
            f"{device.name}-pump-{number}"
            for device in self.devices
            for number in range(1, self.each + 1)
        }


def whole(database, sender):
    """Everything that was sent is there, once."""
    until(lambda: len(stored(database)) >= len(sender.ids), 90)
    assert Counter(stored(database)) == Counter(sender.ids)
    assert [one["missing"] for one in Reader(database, {}).devices()] == [0] * len(sender.devices)


def test_the_migrations_make_the_tables_in_postgresql(postgres):
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(migrate, Database(postgres.url())) for _ in range(4)]
    assert [one.exception() for one in done] == [None] * 4
    database = Database(postgres.url())
    with database.reading() as connection:
        context = MigrationContext.configure(connection)
        assert [one for one in compare_metadata(context, METADATA) if "comment" not in one[0]] == []
    database.close()


def test_two_instances_add_up_in_postgresql(tmp_path, broker, postgres):
    database = Database(postgres.url())
    migrate(database)
    config = load_serve(plant_file(tmp_path, broker.port, postgres.url()))
    with (
        listening(config, database, name="one"),
        listening(config, database, name="two"),
        Device(broker.port) as device,
    ):
        for second in range(300):
            device.say("pump/score", score("dev", "pump", second, second / 200), qos=0)
            device.say("pump/alarm", alarm("dev", "pump", second, level="alert"), wait=False)
            if second % 3 == 0:
                device.say("pump/event", event("dev", "pump", second), wait=False)
        device.say("pump/alarm", alarm("dev", "pump", 999, level="alarm"))
        until(lambda: len(stored(database)) == 100)

        def hours():
            with database.reading() as connection:
                return connection.execute(sa.select(SCORES).where(SCORES.c.step == 3600)).all()

        until(lambda: sum(row.windows for row in hours()) == 300)
    with database.reading() as connection:
        assert connection.execute(sa.select(MACHINES.c.level)).scalar_one() == "alarm"
    (row,) = hours()
    assert row.median == pytest.approx(0.75, abs=0.01)
    assert row.maximum == pytest.approx(299 / 200)
    database.close()


def test_an_instance_that_is_killed_for_good_loses_nothing(tmp_path, broker, postgres):
    path = plant_file(tmp_path, broker.port, postgres.url(), watch={"adopt_seconds": 10})
    with Instance(path, "one") as one, Instance(path, "two") as two:
        one.listening()
        two.listening()
        sender = Sender(broker.port)
        sender.half()
        one.kill()
        sender.finish()
        database = Database(postgres.url())
        whole(database, sender)
        # Its session at the broker is ended: nothing is kept there for a dead instance.
        until(lambda: two.says("its session is ended"), 60)
        with database.reading() as connection:
            names = connection.execute(sa.select(INSTANCES.c.name)).scalars().all()
        assert names == ["auscult-plant-two"]
        database.close()
        assert two.stop() == 0


def test_an_instance_that_is_killed_and_comes_back_loses_nothing(tmp_path, broker):
    path = plant_file(tmp_path, broker.port)
    first = Instance(path)
    first.listening()
    sender = Sender(broker.port)
    sender.half()
    first.kill()
    time.sleep(1)
    with Instance(path, "one") as again:
        sender.finish()
        database = Database(f"sqlite:///{tmp_path / 'plant.db'}")
        whole(database, sender)
        database.close()
        assert again.stop() == 0


def test_a_database_that_is_killed_loses_nothing(tmp_path, broker, postgres):
    path = plant_file(tmp_path, broker.port, postgres.url())
    with Instance(path) as instance:
        instance.listening()
        sender = Sender(broker.port)
        sender.half()
        postgres.kill()
        until(lambda: instance.says("the database does not answer"), 60)
        sender.finish()
        postgres.start()
        database = Database(postgres.url())
        whole(database, sender)
        assert instance.says("the database is back")
        database.close()


def test_a_broker_that_ends_and_comes_back_loses_nothing(tmp_path, broker):
    path = plant_file(tmp_path, broker.port)
    with Instance(path) as instance:
        instance.listening()
        sender = Sender(broker.port)
        sender.half()
        broker.stop()
        time.sleep(2)
        broker.start()
        sender.finish()
        database = Database(f"sqlite:///{tmp_path / 'plant.db'}")
        whole(database, sender)
        database.close()


def test_what_a_killed_broker_had_acknowledged_and_lost_is_told(tmp_path, broker):
    path = plant_file(tmp_path, broker.port)
    with Instance(path) as instance:
        instance.listening()
        sender = Sender(broker.port)
        sender.half()
        broker.send_signal(signal.SIGKILL)
        time.sleep(2)
        broker.start()
        sender.finish()
        database = Database(f"sqlite:///{tmp_path / 'plant.db'}")
        # All may have been told before the plant was back: only what comes later says what is missing.
        until(lambda: instance.log.read_text().count("listening to") > 1, 60)
        for one in sender.devices:
            with Device(broker.port, one.name) as again:
                again.say("pump/event", event(one.name, "pump", sender.each + 1))
        last = {f"{one.name}-pump-{sender.each + 1}" for one in sender.devices}
        until(lambda: last <= set(stored(database)), 60)
        time.sleep(3)

        found = Counter(stored(database))
        assert max(found.values()) == 1
        lost = sender.ids - set(found)
        told = {one["name"]: one["missing"] for one in Reader(database, {}).devices()}
        assert sum(told.values()) == len(lost)
        database.close()


def test_the_page_waits_out_a_database_that_is_away(tmp_path, broker, postgres):
    import urllib.error
    import urllib.request

    path = plant_file(tmp_path, broker.port, postgres.url())
    with Instance(path) as instance:
        instance.listening()
        address = instance.page + "api/session"

        def status():
            request = urllib.request.Request(address, headers={"cookie": "auscult_plant=x"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status
            except urllib.error.HTTPError as fault:
                return fault.code

        assert status() == 200
        postgres.kill()
        assert status() == 503
        postgres.start()
        until(lambda: status() == 200, 60)
