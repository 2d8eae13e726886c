"""Rollouts to real agents over a real broker: a gate, a bad bundle, a downgrade, a killed device."""

from __future__ import annotations

import json
import time

import pytest
from support.broker import Broker
from support.offers import release
from support.parity import add_parity
from support.rollout_plant import DEVICES, RolloutPlant, waits_for

from agent.bundle.sign import load_private, sign_folder
from agent.bundle.verify import read_manifest

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")


@pytest.fixture
def plant(tmp_path, request):
    rollout = getattr(request, "param", {})
    with Broker(tmp_path / "broker", ("allow_anonymous true", "persistence false")) as broker:
        made = RolloutPlant(tmp_path, broker, rollout=rollout)
        yield made
        made.end()


def test_a_good_bundle_reaches_all_and_a_bad_one_is_taken_back(plant, tmp_path):
    plant.run_first(*DEVICES)
    good = release(tmp_path / "r2", plant.key, 2, threshold=0.6)
    bad = release(tmp_path / "r3", plant.key, 3, threshold=-1.0)  # all is above it
    told = plant.command("offer", good, "--reason", "spring")
    assert [line.split("\t")[0] for line in told.splitlines() if "\t" in line].count("first") == 1
    done = plant.rollout()
    assert done.state == "done"
    assert {one.state for one in done.targets} == {"passed"}

    plant.command("offer", bad)
    back = plant.all_back()
    assert "windows are above the threshold" in back.why
    canary = next(one for one in back.targets if one.canary)
    assert canary.state == "put back"
    assert {plant.runs(device) for device in DEVICES} == {read_manifest(good).digest}
    port = plant.broker.port
    for device in DEVICES:
        waits_for(
            port, f"{device}/info",
            lambda one: (
                one["machines"]["pump"]["manifest_sha256"] == read_manifest(good).digest
            ),
        )  # fmt: skip
    offered = waits_for(
        port, f"{canary.device}/pump/offered", lambda one: one["sequence"] == canary.sequence
    )
    # What went back was on the device but for its manifest... or is fetched; never the whole plant.
    assert offered["bytes"] == offered["fetched_bytes"] + offered["reused_bytes"]

    listed = plant.root / "list.json"
    plant.command("inventory", "--json", listed)
    machines = json.loads(listed.read_text())["machines"]
    assert {one["bundle"] for one in machines} == {read_manifest(good).digest}
    assert {one["device"] for one in machines} == set(DEVICES)
    assert all(one["online"] for one in machines)


# Half of the windows above the threshold is no fault here: alarms alone decide.
BY_ALARMS = {
    "gate": {"watch_seconds": 60, "least_windows": 8, "most_alarms": 0, "most_exceeded": 1}
}
QUICK = {"raise_windows": 2, "of_windows": 3, "clear_windows": 3}


@pytest.mark.parametrize("plant", [BY_ALARMS], indirect=True)
def test_a_bundle_that_alarms_in_its_first_hours_is_taken_back(plant, tmp_path):
    first = plant.run_first("line-1", machine={"decide": QUICK})
    plant.command("offer", release(tmp_path / "r2", plant.key, 2, threshold=-1.0))
    back = plant.all_back()

    assert "1 alarms within" in back.why
    assert plant.runs("line-1") == read_manifest(first).digest


def test_a_bundle_that_gives_other_answers_on_the_device_is_refused_and_taken_back(plant, tmp_path):
    """Signed and whole, and its graph does not give here what it gave where it was exported."""
    first = plant.run_first("line-1")
    other = add_parity(release(tmp_path / "r2", plant.key, 2, threshold=0.6), turned=1.0)
    sign_folder(other, load_private(plant.key))
    plant.command("offer", other)
    back = plant.all_back()

    assert "refused" in back.why
    assert "least cosine" in back.why
    assert plant.runs("line-1") == read_manifest(first).digest
    # It was judged on all the while.
    health = waits_for(plant.broker.port, "line-1/health")
    assert health["machines"]["pump"]["unjudged"] == 0


def test_an_older_bundle_is_refused_unless_it_is_said_to_be_meant_and_called_back(plant, tmp_path):
    older = release(tmp_path / "r1", plant.key, 1, threshold=0.6)
    first = plant.run_first("line-1", bundle=release(tmp_path / "r5", plant.key, 5, threshold=0.5))
    plant.command("offer", older)
    back = plant.all_back()
    assert "is older" in back.why
    assert plant.runs("line-1") == read_manifest(first).digest

    plant.command("offer", older, "--downgrade")
    assert plant.rollout().state == "done"
    assert plant.runs("line-1") == read_manifest(older).digest

    plant.command("recall", "--reason", "it hums")
    back = plant.all_back()
    assert back.why == "called back by an operator: it hums"
    assert plant.runs("line-1") == read_manifest(first).digest


def test_a_device_killed_and_a_broker_that_forgets_all_only_cost_time(plant, tmp_path):
    plant.run_first(*DEVICES)
    good = release(tmp_path / "r2", plant.key, 2, threshold=0.6)
    plant.command("offer", good, "--canary", "0.3")
    first = plant.rollout(lambda one: any(t.canary and t.state != "pending" for t in one.targets))
    canary = next(one.device for one in first.targets if one.canary)
    plant.kill(canary)
    plant.broker.stop()
    time.sleep(2)
    # Without persistence: this broker has forgotten offers and states.
    plant.broker.start()
    plant.begin(canary)
    done = plant.rollout(seconds=180)

    assert done.state == "done", done
    assert {one.state for one in done.targets} == {"passed"}
    for device in DEVICES:
        assert plant.runs(device) == read_manifest(good).digest
        assert not list((plant.root / device / "state/offers/content").iterdir())
