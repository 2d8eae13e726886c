"""`auscult benchmark` asked again: what changed is done anew, and how it is run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import benchmark_stand_in
import numpy as np
import pytest
import soundfile
from benchmark_stand_in import scored
from click.testing import CliRunner

import export.benchmark.run as running
from agent.config.scorer_knn import KnnConfig
from agent.encode.embedding_cache import EmbeddingCache
from export.builder import BundleBuilder
from export.commands.benchmark import benchmark
from export.reproduce.rehearse import Rehearsal, rehearsed
from trainer.preset_file import load_preset
from trainer.run import RUN
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine

COUNTS = Counts(train_source=6, train_target=2, test_normal=2, test_anomaly=2)
PRESETS = ("--preset", "loudness", "--resamples", "100")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "download"
    for seed, machine in enumerate(("fan", "gearbox")):
        write_dataset(
            root, design_machine(seed), seed=seed, machine=machine, counts=COUNTS, seconds=2.0
        )
    return root


def run(data: Path, out: Path, *more: str) -> dict[str, Any]:
    """What it found, without what a clock says (a bundle tells times too, so its size differs)."""
    arguments = [str(data), *PRESETS, "--out", str(out), *more]
    result = CliRunner().invoke(benchmark, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return figures(out)


def figures(out: Path) -> dict[str, Any]:
    found = json.loads((out / "results.json").read_text())["presets"]
    for own in found.values():
        del own["seconds_a_machine"], own["bundle_megabytes"]
        for machine in own["machines"].values():
            del machine["seconds"]
    return found


def louder(path: Path) -> None:
    samples, rate = soundfile.read(path)
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.5 * samples + 0.05 * rng.normal(size=samples.shape), rate)


def test_a_changed_or_added_recording_repeats_its_machine_alone(data, tmp_path, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(
        running,
        "evaluate_one",
        lambda machine, *_rest: (done.append(machine.name), scored(machine))[1],
    )
    # Its pictures take seconds, and tests/export/test_benchmark.py looks at the page.
    monkeypatch.setattr("export.benchmark.report.write_benchmark", lambda *_a, **_k: None)
    first = run(data, tmp_path / "out")
    systems = len(first)  # the floors are always among them
    assert sorted(done) == ["fan"] * systems + ["gearbox"] * systems
    done.clear()
    assert run(data, tmp_path / "out") == first
    assert done == []

    louder(min((data / "fan" / "train").glob("*.wav")))
    assert run(data, tmp_path / "out") == first  # the made-up scores follow from test clips
    assert done == ["fan"] * systems
    done.clear()

    some = min((data / "gearbox" / "test").glob("*anomaly*.wav"))
    more = some.with_name(some.name.replace("_0000", "_0077", 1))
    assert more != some
    shutil.copyfile(some, more)
    last = run(data, tmp_path / "out")
    assert done == ["gearbox"] * systems
    for name in first:
        assert last[name]["machines"]["fan"] == first[name]["machines"]["fan"]
        before, after = (found[name]["machines"]["gearbox"]["clips"] for found in (first, last))
        assert after == before + 1
    done.clear()

    more.unlink()
    assert run(data, tmp_path / "out") == first
    assert done == ["gearbox"] * systems


@pytest.mark.slow
def test_systems_of_one_training_are_one_piece_of_work(data, tmp_path, monkeypatch):
    place: dict[str, BundleBuilder] = {}
    monkeypatch.setattr(
        running,
        "evaluate_one",
        lambda machine, system, _seed, workshop, *_rest: (
            place.update({system.name: workshop}),
            scored(machine),
        )[1],
    )
    monkeypatch.setattr("export.benchmark.report.write_benchmark", lambda *_a, **_k: None)
    floor = load_preset("log_mel")
    other = floor.model_copy(update={"name": "other", "floor": False, "scorer": KnnConfig(k=3)})
    (tmp_path / "other.yaml").write_text(other.model_dump_json())
    run(data, tmp_path / "out", "--preset", str(tmp_path / "other.yaml"), "--machine", "fan")
    assert place["other"] is place["log_mel"]
    assert place["other"] is not place["loudness"]


def test_after_a_change_only_what_changed_is_embedded(data, tmp_path, monkeypatch):
    monkeypatch.setattr("export.benchmark.report.write_benchmark", lambda *_a, **_k: None)
    made: list[int] = []
    keep = EmbeddingCache.keep
    monkeypatch.setattr(
        EmbeddingCache,
        "keep",
        lambda self, keys, vectors: (made.append(len(vectors)), keep(self, keys, vectors))[1],
    )
    machine = ("--machine", "fan")
    systems = len(run(data, tmp_path / "out", *machine))
    assert len(made) > 2 * systems
    clips = {part: len(list((data / "fan" / part).glob("*.wav"))) for part in ("train", "test")}
    # A recording of the bank, and the faults that are planted in it.
    of_one = (sum(made) - systems * clips["test"]) // clips["train"]
    made.clear()
    # The bank is made of other sound now; the test clips are the same.
    louder(min((data / "fan" / "train").glob("*.wav")))
    run(data, tmp_path / "out", *machine)
    assert sum(made) == of_one
    made.clear()
    louder(min((data / "fan" / "test").glob("*.wav")))
    run(data, tmp_path / "out", *machine)
    assert made == [1] * systems


class Trainings:
    """Stands in for training, joining and export: each leaves what the next looks for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str, list[str]]] = []
        self.scored: list[str] = []
        monkeypatch.setattr("export.builder.train_machine", self._train)
        monkeypatch.setattr(
            "export.builder.rescored", lambda _run, _preset, out, *_rest: _leave(out)
        )
        monkeypatch.setattr("export.builder.join_runs", lambda _p, _r, out, **_k: _leave(out))
        monkeypatch.setattr("export.builder.export_run", lambda *_a, **_k: None)
        monkeypatch.setattr("export.benchmark.report.write_benchmark", lambda *_a, **_k: None)
        monkeypatch.setattr(running, "evaluate_one", self.evaluate)

    def _train(self, machine, preset, out, *, others, **_rest) -> None:
        self.done.append((preset.name, machine.name, [other.name for other in others]))
        _leave(out)

    def evaluate(self, machine, system, seed, workshop, _options, progress):
        workshop.bundle(machine, system, seed, progress)
        self.scored.append(f"{machine.name} {system.name}")
        return scored(machine)

    def of_all(self) -> list[tuple[str, str, list[str]]]:
        """Those whose classes are of all machines."""
        return [one for one in self.done if one[0] in {"lbeats", "leat"}]


def _leave(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / RUN).write_text("{}")


def _small(name: str, place: Path) -> tuple[str, str]:
    preset = rehearsed(load_preset(name), Rehearsal())
    (place / f"{name}.yaml").write_text(preset.model_dump_json())
    return "--preset", str(place / f"{name}.yaml")


def test_classes_of_all_machines_are_learnt_once(data, tmp_path, monkeypatch):
    trained = Trainings(monkeypatch)
    asked = (*_small("fusion_system", tmp_path), *_small("lbeats", tmp_path), "--seed", "0")
    run(data, tmp_path / "out", *asked)
    assert sorted(trained.of_all()) == [
        ("lbeats", "fan", ["gearbox"]),
        ("leat", "fan", ["gearbox"]),
    ]
    assert {"gearbox fusion_system", "gearbox lbeats"} <= set(trained.scored)
    assert not list((tmp_path / "out" / "work").glob("*/*/seed_*/run"))


def test_one_machine_asked_for_is_told_from_all_the_others(data, tmp_path, monkeypatch):
    trained = Trainings(monkeypatch)
    shutil.rmtree(data / "fan" / "test")  # not to be tested, but to learn from
    run(data, tmp_path / "out", *_small("lbeats", tmp_path), "--seed", "0", "--machine", "gearbox")
    assert trained.of_all() == [("lbeats", "gearbox", ["fan"])]
    assert {name.split()[0] for name in trained.scored} == {"gearbox"}


def test_killed_after_one_machine_the_shared_training_is_taken_up(data, tmp_path, monkeypatch):
    trained = Trainings(monkeypatch)
    whole = trained.evaluate

    def cut_off(machine, system, *rest):
        if (machine.name, system.name) == ("gearbox", "lbeats"):
            raise KeyboardInterrupt
        return whole(machine, system, *rest)

    monkeypatch.setattr(running, "evaluate_one", cut_off)
    asked = (*_small("lbeats", tmp_path), "--seed", "0")
    arguments = [str(data), *PRESETS, "--out", str(tmp_path / "out"), *asked]
    assert CliRunner().invoke(benchmark, arguments).exit_code != 0
    assert trained.of_all() == [("lbeats", "fan", ["gearbox"])]
    monkeypatch.setattr(running, "evaluate_one", whole)
    run(data, tmp_path / "out", *asked)
    assert trained.of_all() == [("lbeats", "fan", ["gearbox"])]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(data, tmp_path):
    one, two = run(data, tmp_path / "one"), run(data, tmp_path / "two", "--jobs", "2")
    assert one == two
    tables = [
        [line.split("|")[:4] for line in (tmp_path / name / "results.md").read_text().splitlines()
         if line.startswith("| ")]
        for name in ("one", "two")
    ]  # fmt: skip
    assert tables[0] == tables[1]
    assert len(tables[0]) > 3


@pytest.mark.slow
def test_killed_with_its_processes_it_goes_on_from_what_is_there(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = [sys.executable, benchmark_stand_in.__file__, str(data), *PRESETS]
    command += ["--jobs", "2", "--out", str(out)]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        command,
        env={**os.environ, "STALL": "gearbox", "PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # It never ends by itself: the other machine's cells come, then it waits.
        while len(list(out.glob("cells/fan/**/seed_0.json"))) < 2 and process.poll() is None:
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/**/*.json")}
    assert {path.relative_to(out).parts[1] for path in kept} == {"fan"}

    done: list[str] = []
    monkeypatch.setattr(
        running,
        "evaluate_one",
        lambda machine, *_rest: (done.append(machine.name), scored(machine))[1],
    )
    found = run(data, out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert done == ["gearbox"] * len(found)
    assert found == run(data, tmp_path / "whole")
