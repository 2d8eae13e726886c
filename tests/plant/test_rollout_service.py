"""`auscult plant rollout --until-done` as a process: killed half-way, started again, its exit code."""

from __future__ import annotations

import subprocess

import pytest
from support.broker import Broker, free_port
from support.offers import release
from support.rollout_plant import AUSCULT, RolloutPlant

from agent.bundle.verify import read_manifest

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")


def test_a_service_that_is_killed_goes_on_and_its_code_says_how_it_ended(tmp_path):
    with Broker(tmp_path / "broker") as broker:
        plant = RolloutPlant(tmp_path, broker, rollout={"port": free_port()})
        try:
            plant.run_first("line-1")
            plant.service.stop()

            def begin() -> subprocess.Popen[str]:
                with (tmp_path / "rollout.log").open("a") as log:
                    return subprocess.Popen(
                        [*AUSCULT, "plant", "rollout", plant.file, "--until-done"],
                        stdout=log, stderr=log, text=True,
                    )  # fmt: skip

            good = release(tmp_path / "r2", plant.key, 2, threshold=0.6)
            plant.command("offer", good)
            with begin() as first:
                plant.rollout(lambda one: one.targets[0].state != "pending")
                first.kill()
            with begin() as second:
                assert second.wait(120) == 0
            found = plant.latest()
            assert (found.state, found.targets[0].state) == ("done", "passed")
            assert plant.runs("line-1") == read_manifest(good).digest

            plant.command("offer", release(tmp_path / "r3", plant.key, 3, threshold=-1.0))
            with begin() as third:
                assert third.wait(120) == 1
            # It has not ended before the machine was back.
            found = plant.latest()
            assert (found.state, found.targets[0].state) == ("put back", "put back")
            assert plant.runs("line-1") == read_manifest(good).digest
        finally:
            plant.end()
