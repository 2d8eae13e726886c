"""Instances that write at once wait for each other and never in a circle, in a real PostgreSQL."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
from support.plant import Postgres, alarm, event, moment

from plant.store.database import Database
from plant.store.migrate import migrate
from plant.store.tables import EVENTS
from plant.watch.machines import Machines
from plant.watch.reading import Alarm, Drift, Event, Health, Sensor, Status, Taken
from plant.watch.write import Writer

pytestmark = pytest.mark.slow
_DEVICES, _BATCHES, _MESSAGES = 12, 60, 24


@pytest.fixture
def database():
    with Postgres() as postgres:
        found = Database(postgres.url())
        migrate(found)
        yield found
        found.close()


def told(device, topic, second, *, retained=False):
    """A message of a device, as an instance has read it."""
    when, machine = moment(second), "pump"
    base = {"device": device, "machine": machine, "time": when}
    match topic:
        case "alarm":
            body = Alarm.model_validate(alarm(device, machine, second))
        case "sensor":
            body = Sensor(**base, status="good")
        case "drift":
            body = Drift(**base, active=False)
        case "event":
            body = Event.model_validate(event(device, machine, second))
        case "health":
            body = Health(device=device, time=when, outbox={"acknowledged": second})
            machine = ""
        case _:
            body, machine = Status(device=device, status="online"), ""
    gone = retained and second % 3 == 0 and topic in {"alarm", "sensor", "drift"}
    return Taken(
        device, machine, topic, datetime.now(timezone.utc), f"{second}", None if gone else body,
        retained=retained,
    )  # fmt: skip


def batch(number, turn):
    """Messages of all kinds, of devices in no order."""
    chance = random.Random(1000 * number + turn)
    topics = ("alarm", "sensor", "drift", "event", "health", "status")
    return [
        told(
            f"dev{chance.randrange(_DEVICES)}", chance.choice(topics),
            chance.randrange(10_000), retained=chance.random() < 0.2,
        )
        for _ in range(_MESSAGES)
    ]  # fmt: skip


def test_batches_of_three_instances_wait_for_each_other_and_never_in_a_circle(database):
    def write(number):
        writer = Writer(database, Machines(database))
        return sum(writer.write(batch(number, turn)) for turn in range(_BATCHES))

    with ThreadPoolExecutor(3) as pool:
        new = sum(pool.map(write, range(3)))

    with database.reading() as connection:
        stored = connection.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar_one()
    assert new == stored > 0
