"""What is unlike all other healthy sound never sets the threshold, whatever was decided."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from agent.bundle.manifest import Row
from agent.config.scorer import FusionConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import LearnError
from agent.deploy.load import open_bundle
from agent.hygiene.stage import inspect_machine
from agent.learn.untypical import apart_recordings, scored_apart
from agent.offline.clips import score_clip
from agent.recordings.load import load_machines
from agent.score.scorer import HealthySet
from export.bundle import export_run
from trainer.learn import train_machine
from trainer.preset_file import load_preset, preset_names

RATE = 16000
TIMES = np.arange(10 * RATE) / RATE
TONE = np.sin(2 * np.pi * 4300 * TIMES)


def sound(random, fault=0.0):
    noise = 0.05 * random.normal(size=len(TIMES)) * (1 + 0.2 * np.sin(13 * TIMES))
    hum = 0.05 * np.sin(2 * np.pi * random.uniform(49, 51) * TIMES)
    return (noise + hum + fault * TONE).astype(np.float32)


@pytest.fixture(scope="module")
def contaminated(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "pump"
    (root / "normal").mkdir(parents=True)
    random = np.random.default_rng(0)
    for n in range(24):
        soundfile.write(root / "normal" / f"{n:02}.wav", sound(random), RATE)
    soundfile.write(root / "normal/99.wav", sound(random, 0.03), RATE)
    return root


def train(root, out, untypical, *, hygiene=True):
    (machine,) = load_machines(root)
    found = inspect_machine(machine, untypical=untypical)
    record = found.record if hygiene else None
    train_machine(found.machine, load_preset("auscult_scratch"), out, hygiene=record)
    return out


@pytest.mark.parametrize("how", ["keep", "leave-out", "unasked"])
def test_the_threshold_is_that_of_the_others_and_faults_are_found(contaminated, tmp_path, how):
    run = train(
        contaminated,
        tmp_path / "run",
        "keep" if how == "unasked" else how,
        hygiene=how != "unasked",
    )
    manifest = export_run(run, tmp_path / "bundle", test=False)
    assert manifest.threshold.healthy_recordings == 24
    if how != "leave-out":
        assert "99.wav" in manifest.notes[0]
    bundle = open_bundle(tmp_path / "bundle")
    random = np.random.default_rng(7)
    limit = manifest.threshold.clip_value
    faulty = [score_clip(bundle, sound(random, 0.01)).value for _ in range(3)]
    healthy = [score_clip(bundle, sound(random)).value for _ in range(6)]
    # Who keeps a recording vouches for it: what sounds like it may pass, but nothing else changes.
    if how == "leave-out":
        assert min(faulty) > limit
    assert limit < 4.0
    assert sum(value > limit for value in healthy) <= 1
    bundle.close()


def test_what_was_not_decided_on_is_refused_at_export_too(contaminated, tmp_path):
    run = train(contaminated, tmp_path / "run", "refuse")
    with pytest.raises(
        LearnError, match=r"(?s)99\.wav alone would set the threshold.*--untypical keep"
    ):
        export_run(run, tmp_path / "bundle", test=False)
    assert not (tmp_path / "bundle").exists()


def test_scores_are_ranked_by_recording():
    rows = [Row(source=str(n // 2), start=float(n % 2), group=str(n // 2)) for n in range(40)]
    scores = np.random.default_rng(0).normal(0, 1, 40).astype(np.float32)
    assert scored_apart(scores, rows) == []
    scores[7] = 99.0
    (one,) = scored_apart(scores, rows)
    assert (one.source, one.start) == ("3", 1.0)


@pytest.mark.parametrize("name", preset_names())
def test_one_recording_unlike_the_others_is_found_with_any_presets_neighbours(name):
    """Also where the scorer makes up vectors, which takes a workstation's packages."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(20, 6)).astype(np.float32)
    vectors[:, 0] += 10.0
    vectors[7] = (-10.0, *np.zeros(5))
    rows = [
        Row(source=f"normal/{n:02}.wav", start=0.0, group=f"{n}", domain=domain)
        for n, domain in enumerate(["source"] * 14 + ["target"] * 6)
    ]
    scorer = load_preset(name).scorer
    parts = [part.scorer for part in scorer.parts] if isinstance(scorer, FusionConfig) else [scorer]
    for part in parts:
        found = [one.source for one in apart_recordings(HealthySet(vectors, rows), part)]
        assert found == (["normal/07.wav"] if isinstance(part, KnnConfig) else [])
