"""What is learnt on the device judges like what a workstation trains and exports of the same sound."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from support import healthy

from agent.bundle.manifest import BANK, HEALTHY_SCORES
from agent.bundle.verify import read_manifest
from agent.commands.learn import learn
from agent.config.recipe import Recipe
from agent.deploy.load import open_bundle
from agent.hygiene.stage import inspect_machine
from agent.learn.embed import embed
from agent.learn.encoders import GRAPHS, RECORD, ShippedEncoder, shipped_encoder
from agent.offline.clips import score_clip
from agent.recordings.load import load_machines
from export.bundle import export_run
from tools import graphs
from trainer.learn import train_machine
from trainer.preset_file import load_preset


@pytest.fixture(scope="module", autouse=True)
def at_once():
    """The command yields to listening; this process must not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.collect.learning.NICENESS", 0)
        yield


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same recordings: trained and exported, and learnt."""
    root = tmp_path_factory.mktemp("both")
    data = healthy.folder(root / "pump", normal=34)
    (machine,) = load_machines(data)
    found = inspect_machine(machine)
    train_machine(found.machine, load_preset("auscult_scratch"), root / "run", hygiene=found.record)
    export_run(root / "run", root / "exported", test=False)
    done = CliRunner().invoke(learn, [str(data), "--out", str(root / "learnt")])
    assert done.exit_code == 0, done.output
    return root / "exported", root / "learnt"


def test_manifests_agree(both):
    exported, learnt = (read_manifest(one) for one in both)

    assert learnt.scorer == exported.scorer
    assert learnt.views == exported.views
    assert learnt.threshold.value == pytest.approx(exported.threshold.value, rel=1e-4)
    assert learnt.threshold.rule == exported.threshold.rule
    assert learnt.threshold.caveat == exported.threshold.caveat
    assert learnt.sight.kept == exported.sight.kept
    assert learnt.gate.margin == pytest.approx(exported.gate.margin, rel=1e-4)
    assert learnt.drift.windows == exported.drift.windows
    assert learnt.drift.threshold == pytest.approx(exported.drift.threshold, rel=1e-3)
    assert learnt.conditions == exported.conditions
    assert learnt.trained_on == exported.trained_on
    assert set(learnt.files) == set(exported.files)
    assert set(learnt.notes) == set(exported.notes)


def test_banks_and_scores_agree(both):
    exported, learnt = both
    assert np.allclose(np.load(learnt / BANK), np.load(exported / BANK), rtol=1e-4, atol=1e-4)
    one, other = (np.load(place / HEALTHY_SCORES) for place in both)
    assert one == pytest.approx(other, rel=1e-3, abs=1e-3, nan_ok=True)


def test_new_sound_is_scored_and_decided_alike(both):
    bundles = [open_bundle(place) for place in both]
    try:
        for seed in range(100, 104):
            sound = healthy.hum(seed)
            if seed % 2:
                noise = np.random.default_rng(seed).normal(0, 0.1, len(sound))
                sound = sound + noise.astype(np.float32)
            first, second = (score_clip(one, sound) for one in bundles)
            assert second.value == pytest.approx(first.value, rel=1e-3, abs=1e-3)
            assert (second.value > second.limit) == (first.value > first.limit)
    finally:
        for one in bundles:
            one.close()


@pytest.mark.parametrize("name", graphs.SHIPPED)
def test_what_is_shipped_is_what_the_exporter_makes(name, tmp_path):
    graphs.write(name, tmp_path)

    shipped = shipped_encoder(name)  # holds every file against its digest
    made = ShippedEncoder.model_validate_json((tmp_path / RECORD).read_bytes())
    assert made.encoder == shipped.info
    assert made.views == shipped.graph.views
    assert made.recipe == shipped.recipe
    assert isinstance(made.recipe, Recipe)
    assert set(made.files) == set(shipped.files)
    sound = np.stack([healthy.hum(seed, 10.0) for seed in range(3)])
    one = embed(GRAPHS / name / "encoder.onnx", shipped.info, sound)
    other = embed(tmp_path / "encoder.onnx", made.encoder, sound)
    assert one == pytest.approx(other, rel=1e-4, abs=1e-3)
