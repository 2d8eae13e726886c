import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.config.scorer import FusionConfig, Part, place_columns
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.score.build import build_scorer, fit_state, healthy_scores
from agent.score.scorer import HealthySet, StateError
from agent.score.space import space_of
from agent.score.standardize import fit_standard, read_standard

NEAR = KnnConfig(metric="euclidean", normalization="none")


def bank(count=60, seed=0, dim=8):
    """Bands in dB that rise and fall together, as with a moved microphone, and little by themselves."""
    rng = np.random.default_rng(seed)
    vectors = -50 + 4 * rng.standard_normal((count, 1)) + 0.6 * rng.standard_normal((count, dim))
    rows = [Row(source=f"{i}.wav", start=0.0, group=f"{i}.wav") for i in range(count)]
    return HealthySet(vectors.astype(np.float32), rows)


def fusion(**part):
    return FusionConfig(parts=(Part(scorer=NEAR, **part),))


def test_robust_is_median_and_mad_and_never_below_the_least_spread():
    vectors = np.array([[0, 1], [2, 1], [4, 1], [6, 1], [100, 1]], np.float32)
    found = fit_standard(vectors, "robust", least_spread=0.5)
    np.testing.assert_allclose(found.centre, [4, 1])
    np.testing.assert_allclose(found.axes, [1 / (1.4826 * 2), 1 / 0.5])
    np.testing.assert_allclose(found.apply(vectors)[:, 0], (vectors[:, 0] - 4) / 2.9652, atol=1e-6)


def test_whitened_healthy_sound_varies_alike_in_every_direction():
    vectors = bank(4000).vectors
    turned = fit_standard(vectors, "whiten", least_spread=0.5).apply(vectors)
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(turned.T)))
    # The plain one leaves most of it in the common level.
    plain = fit_standard(vectors, "robust", least_spread=0.5).apply(vectors)
    assert deviations.max() < 1.2
    assert np.sqrt(np.linalg.eigvalsh(np.cov(plain.T)).max()) > 2.5


def test_a_band_by_itself_counts_more_than_all_bands_together_once_whitened():
    healthy = bank()
    usual = np.median(healthy.vectors, axis=0)
    louder, whistling = usual + 4, usual.copy()
    whistling[3] += 4
    asked = np.stack([louder, whistling]).astype(np.float32)

    def scores(kind):
        config = fusion(standardize=kind)
        scorer = build_scorer(config, healthy, fit_state(healthy, config))
        scorer.start()
        return scorer.score(asked)[0]

    plain, whitened = scores("robust"), scores("whiten")
    assert whitened[1] > 3 * whitened[0]
    assert whitened[1] / max(whitened[0], 1e-3) > plain[1] / max(plain[0], 1e-3)


def test_left_out_scores_do_not_know_what_standardises_them():
    # Ten recordings in forty columns: whitened by themselves they would all lie at rest.
    healthy = bank(10, dim=40)
    config = fusion(standardize="whiten")
    state = fit_state(healthy, config)
    fresh = bank(200, seed=9, dim=40).vectors
    scorer = build_scorer(config, healthy, state)
    scorer.start()
    (left_out,) = healthy_scores(healthy, config)
    # New healthy sound scores as the left-out recordings do, give or take.
    assert np.median(scorer.score(fresh)[0]) < np.nanmax(left_out) + 3


def test_state_is_read_back_and_refused_when_it_is_something_else():
    healthy = bank()
    standard = fit_standard(healthy.vectors, "whiten", least_spread=0.5)
    again = read_standard(standard.state, "whiten", 8)
    np.testing.assert_allclose(
        again.apply(healthy.vectors), standard.apply(healthy.vectors), atol=1e-3
    )
    with pytest.raises(StateError, match="axes"):
        read_standard({"centre": np.zeros(8)}, "robust", 8)
    config = fusion(standardize="whiten")
    state = dict(fit_state(healthy, config))
    del state["0.centre"]
    with pytest.raises(StateError, match=r"0\.centre"):
        build_scorer(config, healthy, state)


def test_a_view_that_varies_in_health_counts_less():
    rng = np.random.default_rng(1)
    rows = [Row(source=f"{i}", start=0.0, group=f"{i}") for i in range(40)]
    near = Part(columns=(0, 1), scorer=NEAR, fades_at=2.0, least_unit=0.1)
    steady = HealthySet(rng.normal(0, 0.1, (40, 1)).astype(np.float32), rows)
    varying = HealthySet(rng.normal(0, 6.0, (40, 1)).astype(np.float32), rows)
    config = FusionConfig(parts=(near,))
    assert fit_state(steady, config)["0.weight"][0] == pytest.approx(1.0, abs=0.01)
    spread = float(varying.vectors.std())
    weight = fit_state(varying, config)["0.weight"][0]
    assert weight == pytest.approx(1 / (1 + (spread / 2) ** 2), rel=1e-3)
    assert weight < 0.2


def test_the_least_unit_keeps_hundredths_of_a_decibel_from_counting():
    rows = [Row(source=f"{i}", start=0.0, group=f"{i}") for i in range(40)]
    values = np.linspace(0, 0.05, 40, dtype=np.float32)[:, None]
    part = Part(columns=(0, 1), scorer=NEAR, least_unit=0.1)
    healthy, config = HealthySet(values, rows), FusionConfig(parts=(part,))
    scorer = build_scorer(config, healthy, fit_state(healthy, config))
    scorer.start()
    assert scorer.score(np.array([[0.15]], np.float32))[0][0] == pytest.approx(1.0, abs=0.05)


def test_views_are_placed_by_name_and_an_unknown_one_is_refused():
    config = FusionConfig(parts=(Part(view="peaks", scorer=NEAR),))
    placed = place_columns(config, [(0, 20)], {"peaks": (3, 9)})
    assert placed.parts[0].columns == (3, 9)
    assert place_columns(placed, [(0, 20)], {}) == placed
    with pytest.raises(ConfigError, match="rumble"):
        place_columns(
            FusionConfig(parts=(Part(view="rumble", scorer=NEAR),)), [(0, 9)], {"peaks": (0, 9)}
        )


def test_windows_are_compared_by_every_view_alike():
    healthy = bank(50, dim=12)
    config = FusionConfig(
        parts=(
            Part(columns=(0, 8), standardize="robust", scorer=NEAR),
            Part(columns=(2, 5), standardize="robust", scorer=NEAR),
            Part(columns=(8, 12), scorer=KnnConfig()),
        )
    )
    space = space_of(config, healthy.vectors)
    points = space.prepare(healthy.vectors)
    assert space.metric == "euclidean"
    # What lies within another view is compared once; directions are unit vectors.
    assert points.shape == (50, 12)
    np.testing.assert_allclose(np.linalg.norm(points[:, 8:], axis=1), 2.0, rtol=1e-5)
    assert np.median(np.linalg.norm(points[:, :8], axis=1)) == pytest.approx(1.0, abs=0.4)
