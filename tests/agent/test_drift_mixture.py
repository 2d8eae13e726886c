"""Mixtures, the distance between them, and how they evolve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.divergence import monte_carlo

from agent.drift import evolve as evolving
from agent.drift.divergence import matched_bound
from agent.drift.evolve import ProcessNoise, evolve, evolved_distance, evolved_distances
from agent.drift.mixture import Mixture


def mixture(weights, means, scales, dof=8.0) -> Mixture:
    return Mixture(
        np.log(np.asarray(weights, float)),
        np.asarray(means, float),
        np.log(np.asarray(scales, float)),
        dof,
    )


TWO = mixture([0.7, 0.3], [[0, 0], [6, 2]], [[1, 0.5], [0.8, 1.5]], dof=6.0)


def test_density_integrates_to_one_and_is_student_t() -> None:
    grid = np.linspace(-400, 400, 400_001)[:, None]
    one = mixture([1], [[1.0]], [[2.0]], dof=4.0)
    density = np.exp(one.log_density(grid))
    assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-4)
    # Student t with 4 degrees of freedom has density 3/8 at its centre.
    at_centre = float(np.exp(one.log_density(np.array([[1.0]])))[0])
    assert at_centre == pytest.approx(3 / 8 / 2)


def test_one_gaussian_component_has_the_analytic_divergence() -> None:
    p = mixture([1], [[1.0, -2.0]], [[1.5, 0.5]], dof=1e7)
    q = mixture([1], [[0.0, -1.0]], [[1.0, 2.0]], dof=1e7)
    expected = sum(
        0.5 * ((s / r) ** 2 - 1 - 2 * math.log(s / r) + (m / r) ** 2)
        for s, r, m in ((1.5, 1.0, 1.0), (0.5, 2.0, 1.0))
    )
    assert matched_bound(p, q).value == pytest.approx(expected)
    estimate, error = monte_carlo(p, q, count=40_000, rng=np.random.default_rng(0))
    assert abs(estimate - expected) < 4 * error


@pytest.mark.parametrize(
    ("move", "grow", "slack"), [(0.0, 1.0, 1e-9), (0.3, 1.1, 0.5), (1.0, 1.3, 0.8), (4.0, 1.0, 2.0)]
)
def test_bound_lies_above_monte_carlo_by_little(move: float, grow: float, slack: float) -> None:
    """Never below the true divergence; above by at most `slack` times it in the healthy range."""
    moved = Mixture(
        TWO.logits + np.array([0.0, move / 2]),
        TWO.means + move * TWO.scales,
        TWO.log_scales + math.log(grow),
        TWO.dof,
    )
    bound = matched_bound(moved, TWO).value
    estimate, error = monte_carlo(moved, TWO, count=60_000, rng=np.random.default_rng(1))
    assert bound >= estimate - 4 * error
    assert bound <= estimate * (1 + slack) + 4 * error


def test_divergence_parts_add_up_and_name_the_moved_component() -> None:
    means = TWO.means.copy()
    means[1] += 2
    found = matched_bound(Mixture(TWO.logits, means, TWO.log_scales, TWO.dof), TWO)
    assert found.value == pytest.approx(found.place_part.sum() + found.weight_part.sum())
    assert found.place_part[0] == pytest.approx(0)
    assert found.place_part[1] > 0


def test_bound_refuses_mixtures_that_do_not_correspond() -> None:
    with pytest.raises(ValueError, match="correspond"):
        matched_bound(TWO, mixture([1], [[0, 0]], [[1, 1]], dof=6.0))


def test_evolution_follows_the_moved_component_and_leaves_the_absent_one() -> None:
    apart = mixture([0.7, 0.3], [[0, 0], [30, 2]], [[1, 0.5], [0.8, 1.5]], dof=10.0)
    points = np.random.default_rng(2).standard_normal((200, 2)) * [1, 0.5]
    evolved = evolve(apart, np.add(points, [1.0, 0.5]), ProcessNoise())
    np.testing.assert_allclose(evolved.means[0], [1.0, 0.5], atol=0.2)
    np.testing.assert_allclose(evolved.means[1], apart.means[1], atol=1e-3)
    np.testing.assert_allclose(evolved.log_scales[1], apart.log_scales[1], atol=1e-3)
    assert evolved.weights[0] > 0.9


def test_evolution_grows_with_the_drift_however_far() -> None:
    """Heavy tails must not discount a block that moved as a whole."""
    rng = np.random.default_rng(3)
    base = mixture([1], [[0.0, 0.0]], [[1.0, 1.0]], dof=3.0)
    noise = rng.standard_normal((16, 2))
    distances = [
        matched_bound(evolve(base, noise + far, ProcessNoise()), base).value
        for far in (0, 1, 2, 4, 8, 16, 32, 64, 1000)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 1e4


def test_evolution_is_hardly_moved_by_a_few_outliers() -> None:
    rng = np.random.default_rng(4)
    base = mixture([1], [[0.0, 0.0]], [[1.0, 1.0]], dof=3.0)
    points = rng.standard_normal((16, 2))
    points[5:7] = 200.0
    evolved = evolve(base, points, ProcessNoise())
    assert np.abs(evolved.means).max() < 1.0


def test_process_noise_limits_how_far_one_block_moves_the_mixture() -> None:
    base = mixture([1], [[0.0]], [[1.0]], dof=50.0)
    points = np.full((4, 1), 2.0) + np.array([[-0.1], [0.1], [-0.2], [0.2]])
    stiff = evolve(base, points, ProcessNoise(mean=0.1))
    loose = evolve(base, points, ProcessNoise(mean=10.0))
    assert stiff.means[0, 0] < 0.7
    assert loose.means[0, 0] == pytest.approx(2.0, abs=0.05)


def test_many_blocks_evolve_at_once_as_each_does_alone(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    base = mixture([3, 2, 1], rng.normal(0, 3, (3, 4)), rng.uniform(0.5, 2, (3, 4)))
    blocks = rng.normal(0, 3, (11, 7, 4))
    blocks[3] += 50.0
    together = evolve(base, blocks, ProcessNoise())
    alone = [evolve(base, block, ProcessNoise()) for block in blocks]
    for name in ("logits", "means", "log_scales"):
        wanted = np.stack([getattr(one, name) for one in alone])
        np.testing.assert_allclose(getattr(together, name), wanted, rtol=1e-9, atol=1e-12)
    # A few at a time, with a rest.
    monkeypatch.setattr(evolving, "_ELEMENTS", 4 * blocks.shape[1] * base.means.size)
    wanted = [evolved_distance(base, block, ProcessNoise()) for block in blocks]
    found = evolved_distances(base, blocks, ProcessNoise())
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
