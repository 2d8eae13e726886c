"""A rollout to real agents with encryption throughout: an outage at the offer, a kill half-way."""

from __future__ import annotations

import time

import pytest
from support.broker import Broker
from support.certificates import Authority
from support.rollout_plant import DEVICES, RolloutPlant, Throttle, long_release, waits_for

from agent.bundle.manifest import BANK
from agent.bundle.verify import read_manifest
from plant.rollout.fleet import MachineSeen
from plant.rollout.plan import Plans, new_rollout
from plant.rollout.repository import Repository
from plant.rollout.targets import find_targets

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")


def test_an_outage_at_the_offer_a_kill_half_way_and_a_wrong_authority_only_cost_time(tmp_path):
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    server, client = ours.issue("server"), ours.issue("client")
    tls = {"ca_file": str(ours.ca), "cert_file": str(client.cert), "key_file": str(client.key)}
    lines = (
        "allow_anonymous true", "persistence false", f"cafile {ours.ca}",
        f"certfile {server.cert}", f"keyfile {server.key}", "require_certificate true",
    )  # fmt: skip

    def prepare(client) -> None:
        client.tls_set(tls["ca_file"], tls["cert_file"], tls["key_file"])

    with Broker(tmp_path / "broker", lines) as broker:
        rollout = {"cert_file": str(server.cert), "key_file": str(server.key)}
        plant = RolloutPlant(tmp_path, broker, rollout=rollout, tls=tls)
        slow = Throttle(plant.service.content.port, 400_000)
        try:
            offers = {"url": f"https://127.0.0.1:{slow.port}", "ca_file": str(ours.ca)}
            first = long_release(tmp_path / "r1", plant.key, 1)
            plant.run_first(
                *DEVICES, bundle=first, prepare=prepare, mqtt={"tls": tls}, offers=offers
            )
            # The last device trusts another authority than the one that content is of.
            plant.kill("line-3")
            plant.configure(
                "line-3", mqtt={"tls": tls}, offers={**offers, "ca_file": str(other.ca)}
            )
            plant.begin("line-3")
            good = long_release(tmp_path / "r2", plant.key, 2)
            assert "line-3" in plant.command("inventory")

            # The offer is made while the broker is away, and told when it is back.
            broker.stop()
            stored = Repository(tmp_path / "plant/repository").add(good)
            fleet = plant.service.fleet.machines()
            assert all(isinstance(one, MachineSeen) for one in fleet.values())
            Plans(tmp_path / "plant/rollouts").save(
                new_rollout(find_targets(fleet, [stored]), canary_share=0.3)
            )
            plant.rollout(lambda one: one.targets[0].state == "offered")
            time.sleep(1)
            broker.start()

            # The canary is killed with a part of the bank on its disk, and goes on from there.
            record = read_manifest(good).files[BANK]
            part = tmp_path / f"line-1/state/offers/content/{record.sha256}.part"
            deadline = time.monotonic() + 60
            while not (part.is_file() and part.stat().st_size > record.size // 4):
                assert time.monotonic() < deadline, plant.logs()
                time.sleep(0.01)
            plant.kill("line-1")
            kept = part.stat().st_size
            assert kept < record.size
            plant.begin("line-1")
            canary = waits_for(
                broker.port, "line-1/pump/offered", lambda one: one["state"] == "taken",
                prepare=prepare,
            )  # fmt: skip
            assert canary["fetched_bytes"] <= canary["bytes"] - kept
            # The graph is as it was: it came from the bundle in place.
            assert canary["reused_bytes"] > 0

            waiting = waits_for(
                broker.port, "line-3/pump/offered", lambda one: one["state"] == "waiting",
                prepare=prepare,
            )  # fmt: skip
            assert "certificate verify failed" in waiting["reason"]
            plant.kill("line-3")
            plant.configure("line-3", mqtt={"tls": tls}, offers=offers)
            plant.begin("line-3")
            done = plant.rollout(seconds=180)
            assert done.state == "done", done
            assert {one.state for one in done.targets} == {"passed"}
            assert {plant.runs(device) for device in DEVICES} == {read_manifest(good).digest}
        finally:
            plant.end()
            slow.stop()
