"""Attacks on delivery: each event that was raised arrives, by its id."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest
from attack.target import PATIENCE, Target
from faults.breaking import kills
from faults.plant import wait_until
from support.bad_broker import BadBroker

pytestmark = [pytest.mark.attack, pytest.mark.real_trial]
KILLS = 100


@pytest.fixture
def between(site):
    with BadBroker(site.broker.port) as found:
        yield found


def attacked(site, name, between):
    return Target(site, name, broker=between.port, mqtt={"acknowledge_seconds": 5})


def test_acknowledgements_that_never_come_hold_nothing_up_afterwards(site, between):
    target = attacked(site, "unacknowledged", between)
    try:
        target.ready()
        between.drop_acknowledgements = True
        time.sleep(12)
        between.drop_acknowledgements = False
        target.alarms_go_on()
        target.closed()
    finally:
        target.end()


def test_a_connection_that_swallows_everything_is_made_anew(site, between):
    target = attacked(site, "swallowed", between)
    try:
        target.ready()
        between.blackhole = True
        target.more(6, PATIENCE)
        time.sleep(6)
        between.blackhole = False
        target.alarms_go_on()
        target.closed()
    finally:
        target.end()


def test_a_poisoned_row_of_the_outbox_costs_itself_alone(site):
    target = Target(site, "poisoned")
    try:
        target.ready()
        site.broker.stop()
        target.more(8, PATIENCE)
        target.kill()
        with sqlite3.connect(target.state / "outbox" / "outbox.db") as outbox:
            waiting = outbox.execute(
                "SELECT seq, id FROM event WHERE delivered IS NULL ORDER BY seq"
            ).fetchall()
            poisoned = waiting[1]
            outbox.execute("UPDATE event SET payload = x'00ff' WHERE seq = ?", (poisoned[0],))
        outbox.close()
        site.broker.start()
        target.start()
        target.more(4, PATIENCE)
        target.calm()
        time.sleep(1.5)
        rest = set(target.raised) - {poisoned[1]}
        wait_until(
            lambda: rest <= target.delivered(), PATIENCE, "the rest of the outbox is held up"
        )
        target.stop()
        print(f"poisoned: raised {len(target.raised)} delivered {len(target.delivered())} lost 1")
        assert set(target.raised) - target.delivered() == {poisoned[1]}
        assert poisoned[1] in target.log.read_text()
    finally:
        target.end()
        with contextlib.suppress(AssertionError):
            site.broker.stop()
        site.broker.start()


@pytest.mark.timeout(3600)
def test_kill_9_a_hundred_times(site):
    found = kills(site, KILLS)
    print(found)
    assert (found.lost, found.disorder) == (0, 0)
    assert found.delivered == found.raised >= KILLS
