"""Bundles of the default presets judge alike on an x86 without VNNI and on an aarch64."""

from __future__ import annotations

import numpy as np
import pytest
from support.processors import aarch64, embeddings, without_vnni

from agent.capture.files import read_audio
from agent.deploy.load import open_bundle
from agent.learn.embed import embed
from agent.recordings.load import load_machines
from agent.window.clip import clip_windows
from export.bundle import export_bundle
from trainer.learn import train_machine
from trainer.preset_file import load_preset
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine

PRESETS = ("auscult_scratch", "auscult_small")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    counts = Counts(train_source=12, train_target=4, test_normal=3, test_anomaly=3)
    write_dataset(
        root, design_machine(3), seed=3, machine="fan", counts=counts, severity=(0.3, 1.0)
    )
    (found,) = load_machines(root)
    return found


@pytest.fixture(scope="module", params=PRESETS)
def bundle(request, machine, tmp_path_factory):
    weights = None
    if request.param == "auscult_small":
        weights = request.getfixturevalue("shared") / "weights"
    place = tmp_path_factory.mktemp(request.param)
    train_machine(machine, load_preset(request.param), place / "run", weights=weights)
    export_bundle(place / "run", place / "bundle", test=False)
    return open_bundle(place / "bundle")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("processor", [without_vnni, aarch64], ids=["avx2", "aarch64"])
def test_scores_and_decisions_are_those_of_here(bundle, machine, tmp_path, processor):
    command = processor()
    info, parity = bundle.manifest.encoder, bundle.manifest.parity
    sounds = np.stack(
        [
            clip_windows(
                read_audio(recording.path, rate=info.sample_rate),
                window_samples=info.window_samples,
                hop_samples=info.window_samples,
            )[0][1]
            for recording in machine.of("test")
        ]
    )
    scores = {
        "here": bundle.scorer.score(embed(bundle.path / "encoder.onnx", info, sounds))[0],
        "there": bundle.scorer.score(
            embeddings(command, bundle.path / "encoder.onnx", sounds, tmp_path)
        )[0],
    }
    if bundle.manifest.float_encoder is not None:
        graph = bundle.path / bundle.manifest.float_encoder
        scores["float"] = bundle.scorer.score(embed(graph, info, sounds))[0]
    height = np.maximum(parity.span, np.abs(scores["here"] - parity.median))
    (bound,) = [one.score for one in parity.graphs if one.graph == "encoder.onnx"]
    apart = np.abs(scores["there"] - scores["here"]) / height
    # As near as the agent asks of its own windows at load; seen: 0.0013 at most.
    assert apart.max() < bound
    limit = bundle.manifest.threshold.clip_value
    sure = np.abs(scores["here"] - limit) > bound * height
    for other in scores.values():
        np.testing.assert_array_equal((other > limit)[sure], (scores["here"] > limit)[sure])
