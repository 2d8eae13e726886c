"""`auscult export` on a run that `auscult train` wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from agent.core.errors import ConfigError
from agent.deploy.load import open_bundle
from agent.encode.embedding_cache import EmbeddingCache
from agent.recordings.load import load_machines
from export.commands.benchmark import benchmark
from export.commands.demo import demo
from export.commands.evaluate import evaluate
from export.commands.export import export
from trainer.commands.train import train
from trainer.graph import graph_cache
from trainer.learn import train_machine
from trainer.preset_file import load_preset
from trainer.run import load_record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the log-mel floor, which needs no weights and no training."""
    root = tmp_path_factory.mktemp("data") / "pump"
    (root / "normal").mkdir(parents=True)
    for seed in range(6):
        noise = 0.05 * np.random.default_rng(seed).standard_normal(16000 * 3)
        soundfile.write(root / "normal" / f"{seed}.flac", noise, 16000)
    preset = load_preset("log_mel")
    preset = preset.model_copy(
        update={
            "window": preset.window.model_copy(update={"seconds": 2.0, "train_hop_seconds": 1.0})
        }
    )
    out = tmp_path_factory.mktemp("run")
    (machine,) = load_machines(root)
    train_machine(machine, preset, out)
    return out


def test_writes_bundle_and_figures_and_says_what_is_next(run, tmp_path):
    result = CliRunner().invoke(
        export,
        [str(run), "--out", str(tmp_path / "b"), "--json", str(tmp_path / "f.json")],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    open_bundle(tmp_path / "b").close()
    # Its encoder is all front end: nothing is quantized, and that is said.
    assert "float32, as the preset or --float asks" in result.output
    assert f"auscult score --bundle {tmp_path / 'b'}" in result.output
    figures = json.loads((tmp_path / "f.json").read_bytes())
    assert figures["precision"] == "float32"
    assert figures["quantization"]["torch_cosine_min"] > 0.9999
    assert figures["threshold"]["healthy_recordings"] == 6


def test_export_takes_what_train_has_computed(run, tmp_path, monkeypatch):
    """The graph is exported once and each window embedded once, by whichever comes first."""
    record = load_record(run)
    (tmp_path / "two_seconds.yaml").write_text(record.preset.model_dump_json())
    exported, embedded = [], []
    export_graph, keep = graph_cache.export_graph, EmbeddingCache.keep
    monkeypatch.setattr(
        graph_cache, "export_graph", lambda *a: (exported.append(1), export_graph(*a))[1]
    )
    monkeypatch.setattr(
        EmbeddingCache, "keep", lambda self, k, v: (embedded.extend(k), keep(self, k, v))[1]
    )

    def done(command, *arguments):
        result = CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    preset = ("--preset", tmp_path / "two_seconds.yaml")
    done(train, record.root, *preset, "--out", tmp_path / "run")
    assert exported == [1]
    healthy = set(embedded)
    assert len(healthy) > 12
    done(export, tmp_path / "run", "--out", tmp_path / "b")
    assert exported == [1]
    assert set(embedded) == healthy
    assert len(embedded) == len(healthy)

    # Without it everything is as before: the cache may cost time, and changes nothing.
    monkeypatch.setenv("AUSCULT_CACHE_MB", "0")
    done(export, tmp_path / "run", "--out", tmp_path / "c")
    assert exported == [1, 1]
    for name in ("bank.npy", "encoder.onnx", "rows.json", "healthy_scores.npy", "faults.npy"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_run_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match="not a finished run"):
        CliRunner().invoke(
            export, [str(tmp_path), "--out", str(tmp_path / "b")], catch_exceptions=False
        )
    assert not (tmp_path / "b").exists()


def test_signs_what_a_device_with_the_public_key_opens(run, tmp_path):
    pytest.importorskip("cryptography")
    from agent.bundle.plain import held_folder
    from agent.bundle.sign import CONTEXT, load_public, verify_head
    from agent.bundle.verify import read_head
    from agent.commands.keygen import keygen

    key = tmp_path / "site.key"
    made = CliRunner().invoke(keygen, [str(key)])
    assert made.exit_code == 0, made.output
    options = [str(run), "--float", "--no-test", "--sign", str(key)]
    result = CliRunner().invoke(export, [*options, "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    with held_folder(tmp_path / "b") as folder:
        verify_head(read_head(folder), load_public(tmp_path / "site.key.pub"), CONTEXT, folder.path)
    absent = CliRunner().invoke(export, [*options[:-1], "none", "--out", str(tmp_path / "c")])
    assert "none: cannot be read" in str(absent.exception)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("command", [benchmark, demo, evaluate])
@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_a_library_would_refuse_is_refused_before_any_work(command, seed, tmp_path):
    data = [] if command is demo else [str(tmp_path)]
    said = CliRunner().invoke(command, [*data, "--seed", seed])
    assert said.exit_code == 2
    assert "4294967295" in said.output
