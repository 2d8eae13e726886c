"""Level, honestly: a change of it is told as such, can be answered, and can be ignored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.bundles import RATE, WINDOW
from support.levelled import VIEWS, build_levelled_bundle, machine

from agent.bundle.facts import PlantedFault, SightInfo
from agent.calibrate.sight import sight_at
from agent.config.decide import FalseAlarms
from agent.core.errors import AuscultError, BundleError
from agent.deploy.load import open_bundle
from agent.level.check import LevelCheck
from agent.level.columns import level_columns
from agent.level.ignore import LevelFreeScorer, level_free
from agent.level.reference import LevelReference
from agent.level.step import find_step, undo
from agent.window.validity import level_dbfs


@pytest.fixture(scope="module", params=[True, False], ids=["views", "no views"])
def either(request, tmp_path_factory):
    """A bundle that names its views, and one of before there were any."""
    path = build_levelled_bundle(tmp_path_factory.mktemp("b") / "bundle", views=request.param)
    bundle = open_bundle(path)
    yield bundle
    bundle.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    found = open_bundle(build_levelled_bundle(tmp_path_factory.mktemp("v") / "bundle"))
    yield found
    found.close()


def windows(sound):
    return [sound[at : at + WINDOW] for at in range(0, len(sound) - WINDOW + 1, WINDOW // 2)]


def judged(bundle, sound):
    """Vector, samples and score of each window."""
    found = []
    for samples in windows(sound):
        (vector,) = bundle.encoder.encode(samples[None])
        (value,), _ = bundle.scorer.score(vector[None])
        found.append((vector, samples, float(value)))
    return found


def test_columns_with_level_move_by_the_gain_and_the_others_stay(bundle):
    columns = level_columns(bundle.manifest)
    sound = machine(1.0, seed=70)
    (plain,), (louder,) = (
        bundle.encoder.encode(g * sound[None, :WINDOW]) for g in (np.float32(1), np.float32(2))
    )
    gain = 20 * np.log10(2)
    np.testing.assert_allclose(columns.moved(plain[None], gain)[0], louder, atol=2e-3)
    np.testing.assert_allclose(
        columns.without(plain[None]), columns.without(louder[None]), atol=2e-3
    )
    assert columns.without(plain[None])[0, columns.loudness] == 0.0
    assert columns.bearing.sum() == sum(v.stop - v.start for v in VIEWS if v.level)


@pytest.mark.parametrize("gain", [6.0, -6.0, 12.0])
def test_a_pure_change_of_level_is_told_from_a_fault(either, gain):
    threshold = either.manifest.threshold.value
    check = LevelCheck(either, threshold)
    for vector, samples, value in judged(either, machine(6, seed=71, gain_db=gain)):
        assert value > threshold, "a louder machine is not healthy to this bundle"
        found = check.change(vector, samples, value)
        assert found is not None
        assert found.decibels == pytest.approx(gain, abs=1.5)
        assert found.value <= threshold
        assert not found.passing
    # A fault is none, as loud as before or louder.
    for more in (0.0, gain):
        for vector, samples, value in judged(either, machine(6, seed=72, gain_db=more, whine=0.01)):
            assert value > threshold
            assert check.change(vector, samples, value) is None


def test_a_change_that_only_an_alert_would_mind_is_told_as_one_too(either):
    weak = either.manifest.threshold.value
    check = LevelCheck(either, 1e6, weak=[2.0 * weak + 1e5, weak])
    for vector, samples, value in judged(either, machine(6, seed=71, gain_db=6.0)):
        found = check.change(vector, samples, value)
        assert found is not None
        assert found.decibels == pytest.approx(6.0, abs=1.5)
        assert found.value <= weak
    for vector, samples, value in judged(either, machine(6, seed=72, whine=0.01)):
        assert check.change(vector, samples, value) is None


def test_healthy_sound_has_no_change_of_level(either):
    threshold = either.manifest.threshold.value
    check = LevelCheck(either, threshold)
    found = [
        check.change(vector, samples, value)
        for seed in range(80, 90)
        for vector, samples, value in judged(either, machine(6, seed=seed))
    ]
    assert sum(one is not None for one in found) <= 1
    assert 2.0 <= check.reference.limit < 5.0


def test_a_window_across_the_change_is_told_too(either):
    threshold = either.manifest.threshold.value
    check = LevelCheck(either, threshold)
    for gain in (6.0, -6.0):
        sound = machine(6, seed=73)
        turned = sound.copy()
        at = 3 * RATE + 1234
        turned[at:] *= np.float32(10 ** (gain / 20))
        strange = [one for one in judged(either, turned)[4:7] if one[2] > threshold]
        assert strange, "some windows lie across it"
        for vector, samples, value in strange:
            assert check.change(vector, samples, value) is not None
    # A fault that begins within a window is no change of its level.
    broken = machine(6, seed=74)
    broken[at:] = machine(6, seed=74, whine=0.02)[at:]
    for vector, samples, value in judged(either, broken)[5:7]:
        assert value > threshold
        assert check.change(vector, samples, value) is None


def test_a_step_is_found_where_it_is_and_undone():
    sound = machine(4, seed=75)
    for gain, at in ((6.0, 9000), (-9.0, 20_000)):
        turned = sound.copy()
        turned[at:] *= np.float32(10 ** (gain / 20))
        step = find_step(turned, RATE, 2.0)
        assert step.at == pytest.approx(at, abs=0.04 * RATE)
        assert step.decibels == pytest.approx(gain, abs=1.0)
        back = undo(turned, RATE, step)
        apart = np.abs(back - sound) > 0.15 * np.abs(sound) + 1e-4
        assert apart.mean() < 0.03
    assert find_step(sound, RATE, 2.0) is None
    assert find_step(np.zeros(4 * RATE, np.float32), RATE, 2.0) is None


def test_offset_is_against_the_healthy_sound_most_alike(bundle):
    reference = LevelReference(bundle)
    for gain in (-15.0, 0.0, 4.0):
        found = [
            reference.offset(vector, level_dbfs(samples))
            for vector, samples, _ in judged(bundle, machine(6, seed=76, gain_db=gain))
        ]
        assert np.median(found) == pytest.approx(gain, abs=1.0)


def test_some_rows_stand_for_a_large_bank(bundle, monkeypatch):
    monkeypatch.setattr("agent.level.reference._ROWS", 40)
    few = LevelReference(bundle)
    found = [
        few.offset(vector, level_dbfs(samples))
        for vector, samples, _ in judged(bundle, machine(6, seed=79, gain_db=5.0))
    ]
    assert np.median(found) == pytest.approx(5.0, abs=1.0)


def test_ignoring_level_hears_the_fault_and_not_the_gain(bundle, tmp_path):
    free = level_free(bundle, tmp_path)
    assert isinstance(free.scorer, LevelFreeScorer)
    assert free.manifest.digest == bundle.manifest.digest
    threshold = free.manifest.threshold.value
    for gain in (-12.0, 0.0, 12.0):
        healthy = [value for _, _, value in judged(free, machine(6, seed=77, gain_db=gain))]
        faulty = [
            value for _, _, value in judged(free, machine(6, seed=78, gain_db=gain, whine=0.01))
        ]
        assert np.mean(np.array(healthy) <= threshold) > 0.9
        assert min(faulty) > threshold
    # Its healthy scores are its own, and as many as rows.
    assert free.healthy.scores.shape == bundle.healthy.scores.shape
    assert np.nanmedian(free.healthy.scores) < threshold


def test_faults_scored_with_level_are_not_held_against_the_threshold_without_it(bundle, tmp_path):
    sight = SightInfo(
        kept=FalseAlarms(),
        planted=(PlantedFault(kind="a tone", level_db=0.0, score=-1e9),),
        recorded=(-1e9, 1e9),
    )
    heard = replace(
        bundle, manifest=bundle.manifest.model_copy(update={"sight": sight}), faults=None
    )
    free = level_free(heard, tmp_path)
    found = sight_at(free.manifest.threshold.value, free.manifest.sight)
    assert not found.blind
    assert not found.text
    assert free.manifest.sight.kept == FalseAlarms()
    # Where they are known by their embeddings, they are scored without level as well.
    vectors = np.asarray(bundle.bank.vectors[:3])
    free = level_free(replace(heard, faults=vectors), tmp_path)
    told = free.manifest.sight
    scores, _ = free.scorer.score(vectors)
    assert [told.planted[0].score, *told.recorded] == pytest.approx(scores.tolist())


def test_what_is_learnt_without_level_is_kept_and_learnt_again_when_damaged(
    bundle, tmp_path, monkeypatch
):
    first = level_free(bundle, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    with monkeypatch.context() as patch:
        patch.setattr("agent.level.ignore.fit_scorer", _refuse)
        again = level_free(bundle, tmp_path)
    probe = bundle.bank.vectors[::7]
    np.testing.assert_array_equal(first.scorer.score(probe)[0], again.scorer.score(probe)[0])
    assert again.manifest.threshold == first.manifest.threshold
    kept.write_bytes(kept.read_bytes()[:200])
    third = level_free(bundle, tmp_path)
    np.testing.assert_allclose(first.scorer.score(probe)[0], third.scorer.score(probe)[0])


def _refuse(*_, **__):
    raise AssertionError("it was learnt already")


def test_a_bundle_without_views_judges_as_it_is_and_one_of_loudness_alone_not_at_all(
    tmp_path, bundle
):
    plain = open_bundle(build_levelled_bundle(tmp_path / "old", views=False))
    assert level_free(plain, tmp_path) is plain
    plain.close()
    part = bundle.manifest.scorer.parts[2]
    only = bundle.manifest.scorer.model_copy(update={"parts": (part,)})
    object.__setattr__(bundle, "manifest", bundle.manifest.model_copy(update={"scorer": only}))
    with pytest.raises(BundleError, match="nothing but loudness") as refusal:
        level_free(bundle, tmp_path)
    assert "level: judge" in refusal.value.remedy
    assert isinstance(refusal.value, AuscultError)
