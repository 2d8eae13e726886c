"""Which recordings a classification is learnt from, what their classes are, and what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from agent.bundle.manifest import Row
from agent.core.errors import ConfigError
from agent.recordings.load import load_machines
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit.classes import plan_classes
from trainer.fit.config import AugmentSettings, ClassSettings, TrainingConfig
from trainer.fit.material import gather_material, hold_out

RATE = 16000


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two machines: one with attributes on some recordings, noise and a clean one; one plain."""
    root = tmp_path_factory.mktemp("plant")
    random = np.random.default_rng(0)

    def write(place, count, names):
        place.mkdir(parents=True)
        for i in range(count):
            sound = 0.1 * random.standard_normal(RATE)
            soundfile.write(place / f"{names(i)}.flac", sound, RATE)

    write(
        root / "fan" / "train",
        8,
        lambda i: (
            f"section_00_{'source' if i < 6 else 'target'}_train_normal_{i:04}_"
            + (f"speed_{i % 2}" if i not in {5, 7} else "noAttribute")
        ),
    )
    write(root / "fan" / "supplemental" / "noise", 2, lambda i: f"section_00_noise_{i:04}")
    write(root / "fan" / "supplemental" / "clean", 1, lambda i: f"section_00_clean_{i:04}")
    write(
        root / "valve" / "train", 3, lambda i: f"section_00_source_train_normal_{i:04}_noAttribute"
    )
    return load_machines(root)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(EncoderConfig(kind="dual_path"), window_seconds=1.0, weights=None, seed=0)


def _gather(loaded, encoder, augment=None, **classes):
    fan, valve = loaded
    config = TrainingConfig(
        kind="classify",
        classes=ClassSettings(**classes),
        augment=augment or AugmentSettings(),
    )
    return gather_material(fan, [valve], encoder, config, hop_samples=RATE), config


def _names(material, config):
    return plan_classes(
        material.rows,
        material.waveforms,
        machine="fan",
        rate=RATE,
        seed=0,
        settings=config.classes,
        machines=material.machines,
        roles=material.roles,
    )


def test_by_default_the_machine_alone_is_learnt_from(machines, encoder):
    material, _ = _gather(machines, encoder)
    assert len(material.rows) == 9
    assert set(material.machines) == {"fan"}
    assert len(material.noise) == 0


def test_other_machines_noise_and_clean_sound_are_classes_of_their_own(machines, encoder):
    material, config = _gather(machines, encoder, machines="all", noise=True, clean=True)
    plan = _names(material, config)
    by_role = dict(
        zip(zip(material.machines, material.roles, strict=True), plan.labels, strict=True)
    )
    assert {"fan/noise", "fan/clean"} < set(plan.names)
    assert plan.names[by_role["fan", "noise"]] == "fan/noise"
    assert plan.names[by_role["valve", "normal"]].startswith("valve/")
    assert len({name for name in plan.names if name.startswith("valve")}) == 1
    assert "valve:" in plan.rule
    assert len(material.noise) == 2
    # The same file name in two machines is two recordings.
    assert len(set(material.recordings)) == 8 + 2 + 1 + 3


def test_domains_are_classes_always_where_attributes_are_missing_or_never(machines, encoder):
    found = {}
    for rule in ("always", "missing", "never"):
        material, config = _gather(machines, encoder, domains=rule)
        found[rule] = {name.partition("fan/00/")[2] for name in _names(material, config).names}
    assert found["always"] >= {"speed=0/source", "speed=0/target", "speed=?/target"}
    assert found["missing"] == {
        "speed=0",
        "speed=1",
        "speed=?/source",
        "speed=?/target",
        "speed=?/unknown",
    }
    assert found["never"] == {"speed=0", "speed=1", "speed=?"}


def test_noise_for_mixing_is_no_class(machines, encoder):
    material, _ = _gather(machines, encoder, AugmentSettings(noise=0.5))
    assert len(material.noise) == 2
    assert "noise" not in material.roles


def test_a_class_that_nobody_recorded_is_told(machines, encoder):
    fan, valve = machines
    config = TrainingConfig(kind="classify", classes=ClassSettings(noise=True, clean=True))
    material = gather_material(valve, [fan], encoder, config, hop_samples=RATE)
    plan = plan_classes(
        material.rows,
        material.waveforms,
        machine="valve",
        rate=RATE,
        seed=0,
        settings=config.classes,
        machines=material.machines,
        roles=material.roles,
    )
    assert len(plan.names) == 1
    assert "no noise recordings" in plan.rule
    assert "no clean recordings" in plan.rule


def test_clusters_may_be_of_embeddings():
    rows = [Row(source=f"{n}.wav", start=0, group=str(n)) for n in range(80)]
    heard = []

    def listen(chunk):
        heard.append(len(chunk))
        return np.arange(80)[:, None] % 2 * np.ones((80, 3))

    settings = ClassSettings(pseudo_features="embedding")
    plan = plan_classes(
        rows, torch.zeros(80, 100), machine="m", rate=RATE, seed=0, settings=settings, listen=listen
    )
    assert heard == [80]
    assert "embeddings" in plan.rule
    assert len(set(plan.labels[::2])) == len(set(plan.labels[1::2])) == 1
    assert plan.labels[0] != plan.labels[1]
    settings = ClassSettings(pseudo="never")
    plan = plan_classes(
        rows, torch.zeros(80, 100), machine="m", rate=RATE, seed=0, settings=settings, listen=listen
    )
    assert len(plan.names) == 1


def test_whole_recordings_are_held_out_and_every_class_keeps_one():
    recordings = [f"{i // 2}.wav" for i in range(60)]
    labels = [i // 2 % 3 if i < 58 else 3 for i in range(60)]
    learnt, held = hold_out(recordings, labels, 0.2, seed=1)
    assert sorted(learnt + held) == list(range(60))
    assert {recordings[i] for i in learnt}.isdisjoint({recordings[i] for i in held})
    assert len({recordings[i] for i in held}) == 6
    assert {labels[i] for i in learnt} == {0, 1, 2, 3}
    assert hold_out(recordings, labels, 0.2, seed=2)[1] != held
    assert hold_out(recordings, labels, 0.0, seed=1)[1] == []
    with pytest.raises(ConfigError, match="held_out"):
        hold_out(["a", "b"], [0, 1], 0.5, seed=0)
