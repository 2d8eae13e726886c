"""A fine-tuned encoder leaves no trace of how it was tuned: train, export in INT8, score."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from agent.bundle.manifest import ENCODER
from agent.commands.score import score
from agent.core.errors import ConfigError
from agent.recordings.load import load_machines
from export.bundle import export_bundle
from trainer.encoders.registry import build_encoder
from trainer.graph.onnx_graph import export_graph
from trainer.learn import train_machine
from trainer.preset import Preset
from trainer.run import load_run

RATE = 16000


def _sound(seed, hertz):
    random = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    return 0.1 * np.sin(2 * np.pi * hertz * time) + 0.02 * random.standard_normal(len(time))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "fan"
    (root / "train").mkdir(parents=True)
    for i in range(12):
        name = f"section_00_source_train_normal_{i:04}_speed_{i % 4}.wav"
        soundfile.write(root / "train" / name, _sound(i, 150 + 60 * (i % 4)), RATE)
    return root


def _preset(**training):
    return Preset.model_validate(
        {
            "name": "tiny",
            "summary": "for tests",
            "encoder": {"kind": "beats", "size": "tiny", "layers": [1], "pooling": "mean"},
            "window": {"seconds": 2.0, "train_hop_seconds": 2.0},
            "training": training,
            "scorer": {"normalization": "none"},
            "quantization": {"mode": "dynamic"},
        }
    )


def _operations(path):
    model = onnx.load(path)
    return Counter(node.op_type for node in model.graph.node), model


def test_adapters_are_gone_from_the_run_and_the_graph(tmp_path, data):
    (machine,) = load_machines(data)
    tuned = _preset(
        kind="classify",
        tune="lora",
        lora={"rank": 8, "targets": ["q", "v", "out"]},
        epochs=1,
        batch=16,
        learning_rate=5e-3,
        optimizer="adamw",
        head="adaproj",
        subspace_dim=4,
        augment={"spec_time": 80, "spec_frequency": 24},
    )
    record = train_machine(machine, tuned, tmp_path / "run")
    assert record.classes == 4
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert list((tmp_path / "run" / "logs").glob("events*"))

    with pytest.raises(ConfigError, match="finished run"):
        train_machine(machine, tuned, tmp_path / "run", resume=True)

    plain = build_encoder(tuned.encoder, window_seconds=2.0, weights=None, seed=0)
    tensors = load_file(tmp_path / "run" / "encoder.safetensors")
    assert tensors.keys() == plain.state_dict().keys()
    adapted = {
        name for name, value in plain.state_dict().items() if not torch.equal(value, tensors[name])
    }
    assert adapted == {
        f"backbone.layers.0.self_attn.{part}.weight" for part in ("q_proj", "v_proj", "out_proj")
    }

    _, encoder = load_run(tmp_path / "run")
    export_graph(encoder, tmp_path / "tuned.onnx")
    export_graph(plain, tmp_path / "plain.onnx")
    tuned_operations, model = _operations(tmp_path / "tuned.onnx")
    assert tuned_operations == _operations(tmp_path / "plain.onnx")[0]
    assert not [n for n in model.graph.node if "lora" in n.name or "Dropout" in n.op_type]
    assert not [i for i in model.graph.initializer if "lora" in i.name]

    exported = export_bundle(tmp_path / "run", tmp_path / "bundle", test=False)
    assert exported.manifest.encoder.precision == "int8"
    assert exported.manifest.quantization.torch_cosine_min > 0.9999
    assert exported.manifest.quantization.cosine_mean > 0.98
    assert (tmp_path / "bundle" / ENCODER).is_file()
    soundfile.write(tmp_path / "healthy.wav", _sound(100, 210), RATE)
    soundfile.write(tmp_path / "faulty.wav", _sound(101, 3900) + _sound(102, 2900), RATE)
    files = [str(tmp_path / "healthy.wav"), str(tmp_path / "faulty.wav")]
    given = ["--bundle", str(tmp_path / "bundle"), "--json", str(tmp_path / "scores.json"), *files]
    found = CliRunner().invoke(score, given)
    assert found.exit_code in {0, 1}, found.output
    told = json.loads((tmp_path / "scores.json").read_text())
    healthy, faulty = (_value(told, name) for name in ("healthy.wav", "faulty.wav"))
    assert 0 <= healthy < faulty


def _value(told, name):
    (entry,) = (e for e in told["files"] if e["path"].endswith(name))
    return entry["raw_score"]
