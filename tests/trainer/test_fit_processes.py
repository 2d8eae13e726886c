"""Two processes that share each batch come out where one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fit_processes
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from agent.core.errors import ConfigError
from trainer.fit.classify import fit_classifier
from trainer.fit.config import TrainingConfig
from trainer.fit.engine import Placement, make_engine

REPOSITORY = Path(__file__).parents[2]


def _environment():
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _torchrun(*command, cwd):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            "2",
            *map(str, command),
        ],
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_two_processes_give_what_one_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ended = _torchrun(fit_processes.__file__, tmp_path, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    threads = torch.get_num_threads()
    encoder, result, _ = fit_processes.train()
    torch.set_num_threads(threads)
    begun = fit_processes.TwoBranches()
    for rank in range(2):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["losses"] == pytest.approx(result.losses, rel=1e-5)
        assert told["held_losses"] == pytest.approx(result.held_losses, rel=1e-5)
        shared = load_file(tmp_path / f"{rank}.safetensors")
        for name, value in encoder.state_dict().items():
            # Sums in another order: rounding, which two epochs of Adam may grow.
            assert torch.allclose(shared[name], value, rtol=0, atol=2e-6), name
    moved = (encoder.one.weight - begun.one.weight).abs().max()
    assert moved > 1e-3


def test_a_batch_that_cannot_be_shared_out_is_refused():
    class Fabric:
        world_size = 3

    config = TrainingConfig(kind="classify", batch=16)
    with pytest.raises(ConfigError, match="multiple of 3"):
        fit_classifier(
            fit_processes.TwoBranches(),
            torch.zeros(4, fit_processes.RATE),
            [],
            config,
            machine="pump",
            seed=0,
            fabric=Fabric(),
        )


def test_what_cannot_be_had_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    classify = TrainingConfig(kind="classify")
    with pytest.raises(ConfigError, match="CUDA"):
        make_engine(classify, Placement(accelerator="cuda"))
    with pytest.raises(ConfigError, match="torchrun"):
        make_engine(classify, Placement(nodes=2))
    with pytest.raises(ConfigError, match="nothing to share"):
        make_engine(TrainingConfig(), Placement(devices=2))


def _recordings(root, count=16):
    folder = root / "fan" / "train"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        name = f"section_00_source_train_normal_{i:04}_load_{i % 4}.wav"
        soundfile.write(folder / name, 0.1 * random.standard_normal(16000), 16000)


@pytest.mark.slow
def test_a_training_killed_outright_goes_on_where_it_stopped(tmp_path):
    _recordings(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsummary: x\nencoder: {kind: dual_path}\nwindow: {seconds: 1.0}\n"
        "training: {kind: classify, epochs: 2, batch: 16, feature_exchange: 0.5, "
        "accumulate: 2, ensemble: 2}\n"
    )

    def command(out, *more):
        given = [tmp_path / "fan", "--preset", tmp_path / "mine.yaml", "--accelerator", "cpu"]
        run = [sys.executable, "-m", "agent.cli", "train", *given, "--out", tmp_path / out, *more]
        return list(map(str, run))

    subprocess.run(command("whole"), env=_environment(), check=True, timeout=300)
    state = tmp_path / "part" / "checkpoint" / "state.json"
    with subprocess.Popen(command("part"), env=_environment()) as training:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and training.poll() is None:
            if state.is_file() and json.loads(state.read_text())["state"]["epoch"] >= 1:
                break
            time.sleep(0.01)
        training.kill()
    assert not (tmp_path / "part" / "run.json").exists()
    subprocess.run(command("part", "--resume"), env=_environment(), check=True, timeout=300)
    one, other = (load_file(tmp_path / r / "encoder.safetensors") for r in ("whole", "part"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not state.parent.exists()


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_writes_once(tmp_path):
    _recordings(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsummary: x\nencoder: {kind: beats, size: tiny, pooling: mean}\n"
        "window: {seconds: 1.0}\n"
        "training: {kind: classify, tune: lora, lora: {rank: 4}, epochs: 1, batch: 16}\n"
    )
    given = [tmp_path / "fan", "--preset", tmp_path / "mine.yaml", "--accelerator", "cpu"]
    runs = {
        "one": [sys.executable, "-m", "agent.cli", "train", *given, "--out", "one"],
        "devices": [
            *(sys.executable, "-m", "agent.cli", "train"),
            *(*given, "--out", "devices", "--devices", "2"),
        ],
    }
    for command in runs.values():
        subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=_environment(), check=True, timeout=300
        )
    ended = _torchrun("-m", "agent.cli", "train", *given, "--out", "torchrun", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("trained fan with mine") == 1
    alone = load_file(tmp_path / "one" / "encoder.safetensors")
    for name in ("devices", "torchrun"):
        found = load_file(tmp_path / name / "encoder.safetensors")
        assert max(float((found[key] - alone[key]).abs().max()) for key in alone) < 1e-5
        assert not (tmp_path / name / "checkpoint").exists()
