"""`auscult benchmark` on made-up DCASE downloads: layouts, resuming, cache, answers, bad machines."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import export.benchmark.run as running
from agent.core.cache_home import cache_home
from agent.core.errors import ConfigError
from agent.encode.embedding_cache import FILE, EmbeddingCache, graph_name, window_keys
from agent.encode.onnx import OnnxEncoder
from export.benchmark.executor import Here, Processes, RayCluster, load_ray
from export.benchmark.sets import find_benchmark
from export.benchmark.truth import read_truth
from export.commands.benchmark import benchmark
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine

COUNTS = Counts(train_source=6, train_target=2, test_normal=2, test_anomaly=2)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(
        benchmark, [str(a) for a in arguments] + ["--resamples", "100"], catch_exceptions=False
    )


def made(folder: Path, machine: str, seed: int = 0) -> Path:
    return write_dataset(
        folder, design_machine(seed), seed=seed, machine=machine, counts=COUNTS, seconds=2.0
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine each in the layout of 2020, 2023 and 2025, and one that is broken."""
    root = tmp_path_factory.mktemp("download")
    made(root, "gearbox")
    first = made(root, "fan", 1)
    for i, path in enumerate(sorted(first.rglob("*.wav"))):
        label = "anomaly" if "anomaly" in path.name else "normal"
        path.rename(path.with_name(f"{label}_id_{2 * (i % 2):02}_{i:08}.wav"))
    last = made(root, "valve", 2)
    for path in sorted(last.rglob("*.wav")):
        path.rename(path.with_name("_".join(path.name.split("_")[:6]) + ".wav"))
    rng = np.random.default_rng(0)
    (last / "supplemental").mkdir()
    for kind in ("source_supplemental_machine", "noise_supplemental_normal"):
        for i in range(2):
            noise = 0.02 * rng.normal(size=32000)
            soundfile.write(last / "supplemental" / f"section_00_{kind}_{i:04}.wav", noise, 16000)
    (root / "slider" / "train").mkdir(parents=True)
    (root / "slider" / "train" / "section_00_source_train_normal_0000.wav").write_bytes(b"no sound")
    return root


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    return run(data, "--preset", "loudness", "--preset", "mn04", "--out", out), out


def test_every_layout_has_figures_and_a_bad_machine_is_told(done, data) -> None:
    result, out = done
    assert result.exit_code == 1
    found = json.loads((out / "results.json").read_text())
    assert sorted(found["presets"]["loudness"]["machines"]) == ["fan", "gearbox", "valve"]
    assert [failure["machine"] for failure in found["failures"]] == ["slider"]
    assert found["presets"]["loudness"]["machines_counted"] == 3
    # mn04's checkpoint is nowhere: named with the command, beside what was run.
    assert [one["preset"] for one in found["not_run"]] == ["mn04"]
    assert f"auscult benchmark {data} --preset mn04 --weights" in result.output
    text = (out / "results.md").read_text()
    assert "| loudness (floor) |" in text
    assert "not run here" in text
    page = (out / "report.html").read_text()
    assert "background:rgba(" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """The page takes seconds to draw; `test_every_layout_has_figures` looks at it."""
    monkeypatch.setattr("export.benchmark.report.write_benchmark", lambda *_a, **_k: None)


def test_2020_has_a_section_for_each_id_and_no_domains(data) -> None:
    fan = next(m for m in find_benchmark(data, ["fan"]).machines)
    assert {r.section for r in fan.recordings} == {"00", "02"}
    assert {r.domain for r in fan.recordings} == {"unknown"}
    assert {r.label for r in fan.of("test")} == {"normal", "anomaly"}


def test_2021_keeps_test_domains_in_folders_of_their_own(tmp_path) -> None:
    machine = made(tmp_path, "pump")
    for domain in ("source", "target"):
        (machine / f"{domain}_test").mkdir()
        for path in sorted((machine / "test").glob(f"*_{domain}_*")):
            path.rename(machine / f"{domain}_test" / path.name.replace(f"_{domain}", ""))
    (machine / "test").rmdir()
    (pump,) = find_benchmark(tmp_path).machines
    assert {r.domain for r in pump.of("test")} == {"source", "target"}
    assert len(pump.of("test")) == 8


@pytest.mark.usefixtures("no_pictures")
def test_killed_it_goes_on_and_only_what_changed_is_done_again(data, tmp_path, monkeypatch) -> None:
    calls: list[str] = []
    real = running.evaluate_one

    def counted(machine, system, *rest):
        calls.append(f"{machine.name} {system.name}")
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(machine, system, *rest)

    monkeypatch.setattr(running, "evaluate_one", counted)
    arguments = (data, "--machine", "gearbox", "--machine", "valve", "--preset", "loudness")
    arguments = (*arguments, "--out", tmp_path)
    assert run(*arguments).exit_code != 0
    assert len(calls) == 3
    first = set(calls[:2])
    calls[:] = ["", "", ""]
    assert run(*arguments).exit_code == 0
    assert len(calls) == 5
    assert not first & set(calls)
    # All there: nothing is done. A damaged cell, and a changed recording: just those.
    calls[:] = ["", "", ""]
    before = (tmp_path / "results.json").read_text()
    assert run(*arguments).exit_code == 0
    assert calls == ["", "", ""]
    assert (
        json.loads(before)["presets"]
        == json.loads((tmp_path / "results.json").read_text())["presets"]
    )
    cell = tmp_path / "cells" / "valve" / "loudness" / "seed_0.json"
    cell.write_text(cell.read_text()[:-20])
    assert run(*arguments).exit_code == 0
    assert calls[3:] == ["valve loudness"]


@pytest.mark.usefixtures("no_pictures")
def test_cached_embeddings_are_taken_and_damaged_ones_are_not(data, tmp_path, monkeypatch) -> None:
    misses: list[int] = []
    real = EmbeddingCache.keep
    monkeypatch.setattr(
        EmbeddingCache,
        "keep",
        lambda self, keys, vectors: (misses.append(len(vectors)), real(self, keys, vectors))[1],
    )
    # The same encoder under another name, judged by another scorer.
    preset = (Path(__file__).parents[2] / "configs" / "presets" / "log_mel.yaml").read_text()
    other = tmp_path / "other.yaml"
    text = preset.replace("name: log_mel", "name: other").replace("floor: true", "floor: false")
    other.write_text(text)
    base = (data, "--machine", "gearbox", "--out", tmp_path / "out")
    assert run(*base, "--preset", "log_mel").exit_code == 0
    assert misses
    misses.clear()
    assert run(*base, "--preset", str(other), "--seed", "0").exit_code == 0
    assert misses == []
    found = json.loads((tmp_path / "out" / "results.json").read_text())["presets"]
    assert found["other"]["official"] == found["log_mel"]["official"]
    entry = cache_home() / FILE
    data_ = np.frombuffer(entry.read_bytes(), np.uint8).copy()
    data_[4096:] ^= 1  # all that is kept, and none of the database's head
    entry.write_bytes(data_.tobytes())
    (tmp_path / "out" / "cells" / "gearbox" / "other" / "seed_0.json").unlink()
    assert run(*base, "--preset", str(other), "--seed", "0").exit_code == 0
    assert misses
    again = json.loads((tmp_path / "out" / "results.json").read_text())["presets"]
    assert again["other"]["official"] == found["other"]["official"]


def test_published_answers_label_an_evaluation_set(tmp_path) -> None:
    machine = made(tmp_path / "data", "saw")
    real = sorted((machine / "test").glob("*.wav"))
    for kind in ("data", "domain"):
        (tmp_path / f"ground_truth_{kind}").mkdir()
    lines: dict[str, list[str]] = {"data": [], "domain": []}
    for i, path in enumerate(real):
        path.rename(path.with_name(f"section_00_{i:04}.wav"))
        lines["data"].append(f"section_00_{i:04}.wav,{int('anomaly' in path.name)}")
        lines["domain"].append(f"section_00_{i:04}.wav,{int('_target_' in path.name)}")
    assert "--key" in find_benchmark(tmp_path / "data").failures[0].reason
    for kind, rows in lines.items():
        file = tmp_path / f"ground_truth_{kind}" / "ground_truth_saw_section_00_test.csv"
        file.write_text("\n".join(rows) + "\n")
    truth = read_truth(tmp_path)
    (saw,) = find_benchmark(tmp_path / "data", truth=truth).machines
    for recording, path in zip(sorted(saw.of("test"), key=lambda r: r.path), real, strict=True):
        assert recording.label == ("anomaly" if "anomaly" in path.name else "normal")
        assert recording.domain == ("target" if "_target_" in path.name else "source")


def test_both_parts_of_a_download_stand_side_by_side(tmp_path) -> None:
    for part in ("dev_data", "eval_data"):
        made(tmp_path / part, "fan")
    assert find_benchmark(tmp_path).names == ["fan", "fan_eval"]


class _FakeRay:
    """Enough of Ray to see that jobs go through it: each `get` runs its own."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def init(self, address: str) -> None:
        self.told.append(address)

    def shutdown(self) -> None:
        self.told.append("shutdown")

    def remote(self, **_options):
        class Remote:
            def __init__(self, work) -> None:
                self.work = work

            def remote(self, job):
                return (self.work, job)

        return Remote

    def wait(self, waiting, *, num_returns):
        return waiting[-num_returns:], waiting[:-num_returns]

    def get(self, reference):
        work, job = reference
        return work(job)


@pytest.mark.parametrize("executor", [Here(), Processes(2), RayCluster("auto")])
def test_every_executor_gives_each_result_and_each_fault(executor, monkeypatch) -> None:
    fake = _FakeRay()
    monkeypatch.setattr("export.benchmark.executor.load_ray", lambda: fake)
    # Of the standard library: its processes need not load what these tests do.
    found = dict(executor.run(math.isqrt, [4, -1, 9]))
    assert (found[4], found[9]) == (2, 3)
    assert isinstance(found[-1], ValueError)
    if isinstance(executor, RayCluster):
        assert fake.told == ["auto", "shutdown"]


def test_without_ray_it_says_how_to_install_it(monkeypatch) -> None:
    def absent(name: str):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install 'ray"):
        load_ray()


@pytest.mark.usefixtures("no_pictures")
def test_presets_with_one_encoder_embed_each_window_once(data, tmp_path, monkeypatch) -> None:
    asked: Counter[bytes] = Counter()
    kept: Counter[bytes] = Counter()
    runs: Counter[bytes] = Counter()
    find, keep, encode = EmbeddingCache.find, EmbeddingCache.keep, OnnxEncoder.encode

    def finding(self, keys, dim):
        asked.update(keys)
        return find(self, keys, dim)

    def keeping(self, keys, vectors):
        kept.update(keys)
        return keep(self, keys, vectors)

    def encoding(self, waveforms):
        runs.update(window_keys(graph_name(self.path), waveforms))
        return encode(self, waveforms)

    monkeypatch.setattr(EmbeddingCache, "find", finding)
    monkeypatch.setattr(EmbeddingCache, "keep", keeping)
    monkeypatch.setattr(OnnxEncoder, "encode", encoding)
    preset = (Path(__file__).parents[2] / "configs" / "presets" / "log_mel.yaml").read_text()
    chosen: list[str | Path] = ["--preset", "log_mel"]
    for name in ("second", "third"):
        other = tmp_path / f"{name}.yaml"
        text = preset.replace("name: log_mel", f"name: {name}")
        other.write_text(text.replace("floor: true", "floor: false"))
        chosen += ["--preset", other]
    out = tmp_path / "out"
    assert run(data, "--machine", "gearbox", "--out", out, *chosen).exit_code == 0

    # Three presets with one encoder, and the floor that every benchmark has.
    of_each = len(kept) // 2
    assert sum(asked.values()) == 3 * of_each + of_each
    assert set(asked) == set(kept)
    assert set(kept.values()) == {1}
    # Eight windows hold each graph against PyTorch, and a few are its answers of proof.
    again = [key for key in kept if runs[key] != 1]
    assert len(again) <= len(kept) // 4
