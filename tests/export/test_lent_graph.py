"""A bundle with another bundle's INT8 graph: the same file, held to this machine's own sound."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from click.testing import CliRunner
from rich.console import Console
from support.encoders import RATE, SmallEncoder

from agent.bundle.manifest import BODY, ENCODER, FRAMES
from agent.bundle.verify import read_manifest
from agent.config.recipe import WindowConfig
from agent.config.scorer_knn import KnnConfig
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from export import bundle as bundling
from export.bundle import export_bundle
from export.commands.export import export as command
from trainer.encoder_config import EncoderConfig
from trainer.graph.onnx_graph import ExportError
from trainer.preset import Preset, QuantizationConfig
from trainer.run import RecordingRecord, RunRecord

MACHINES = {"pump": 90.0, "fan": 210.0}


def record(root):
    (machine,) = load_machines(root)
    preset = Preset(
        name="small", summary="for tests", encoder=EncoderConfig(kind="dual_path"),
        window=WindowConfig(seconds=1.0, train_hop_seconds=0.5), scorer=KnnConfig(),
        quantization=QuantizationConfig(min_cosine=0.9, max_hmean_drop=1.0),
    )  # fmt: skip
    recordings = tuple(
        RecordingRecord(path=one.path.relative_to(root).as_posix(), role=one.role)
        for one in machine.recordings
    )
    return RunRecord(
        auscult_version="0", created="2025-01-01T00:00:00+00:00", machine=machine.name,
        root=str(root), preset=preset, seed=0, recordings=recordings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place, time = tmp_path_factory.mktemp("data"), np.arange(2 * RATE) / RATE
    for name, hertz in MACHINES.items():
        (place / name / "normal").mkdir(parents=True)
        for seed in range(8):
            noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
            hum = 0.1 * np.sin(2 * np.pi * hertz * time) + noise
            soundfile.write(place / name / "normal" / f"{seed}.wav", hum, RATE)
    return place


@pytest.fixture
def export(data, monkeypatch, tmp_path):
    """Exports a machine's run."""

    def give(name, out="", encoder=None, **options):
        found = (record(data / name), encoder or SmallEncoder())
        monkeypatch.setattr(bundling, "load_run", lambda _folder: found)
        place = tmp_path / (out or name)
        export_bundle("run", place, console=Console(file=io.StringIO()), **options)
        return place

    return give


def graphs(bundle):
    return {name: bundle.joinpath(name).read_bytes() for name in (ENCODER, FRAMES, BODY)
            if (bundle / name).exists()}  # fmt: skip


def test_a_lent_graph_is_the_same_file_and_both_bundles_share_its_session(export, monkeypatch):
    pump = export("pump")
    own, lent = export("fan", "own"), export("fan", encoder_from=pump)
    assert graphs(lent) == graphs(pump)
    assert graphs(own) != graphs(pump)
    said = read_manifest(lent)
    assert said.encoder.precision == "int8"
    assert said.machine == "fan"
    lender = read_manifest(pump)
    assert said.quantization.mode == lender.quantization.mode
    assert said.quantization.int8_nodes == lender.quantization.int8_nodes
    assert said.quantization.cosine_mean > 0.9
    assert any(lender.digest[:12] in note for note in said.notes)
    opened, plain = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, **k: opened.append(1) or plain(*a, **k)
    )
    one = open_bundle(pump)
    before = len(opened)
    other = open_bundle(lent)
    assert len(opened) == before > 0
    window = 0.1 * np.random.default_rng(3).standard_normal((1, RATE)).astype(np.float32)
    np.testing.assert_array_equal(one.encoder.encode(window), other.encoder.encode(window))
    one.close()
    other.close()


def test_a_graph_of_other_weights_is_refused_and_nothing_is_written(export, tmp_path):
    pump, other = export("pump"), SmallEncoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn_like(parameter))
    with pytest.raises(ExportError, match="does not give what this run's encoder gives"):
        export("fan", encoder=other, encoder_from=pump)
    assert not (tmp_path / "fan").exists()


def test_a_float_bundle_and_another_kind_of_encoder_lend_nothing(export, monkeypatch):
    plain = export("pump", precision="float32")
    with pytest.raises(ExportError, match="was not quantized"):
        export("fan", encoder_from=plain)
    longer = SmallEncoder()
    longer.kind = "another"
    with pytest.raises(ExportError, match="its kind is"):
        export("fan", encoder=longer, encoder_from=plain)


def test_the_command_takes_no_lent_graph_in_float(tmp_path):
    asked = [str(tmp_path), "--out", str(tmp_path / "b"), "--float", "--encoder-from", "x.bundle"]
    found = CliRunner().invoke(command, asked)
    assert found.exit_code == 2
    assert "either --float or --encoder-from" in found.output
