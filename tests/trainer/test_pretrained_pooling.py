"""Poolings do what their formulas say."""

from __future__ import annotations

import pytest
import torch

from trainer.zoo import beats, dasheng
from trainer.zoo.backbone import Hidden
from trainer.zoo.pooling import (
    POOLINGS,
    AttentiveStatistics,
    GeneralizedMean,
    RelativeDeviation,
    make_pooling,
    pool,
    pooled_width,
)


@pytest.fixture
def grid():
    return torch.randn(3, 7, 2, 5, generator=torch.Generator().manual_seed(0))


def test_bands_average_time_only_lowest_band_first(grid):
    mine = make_pooling("bands", beats.Beats(beats.TINY, 16000))(grid)
    assert torch.allclose(mine[:, :5], grid[:, :, 0].mean(1))
    assert torch.allclose(mine[:, 5:], grid[:, :, 1].mean(1))


def test_mean_max(grid):
    mine = make_pooling("mean_max", beats.Beats(beats.TINY, 16000))(grid)
    assert torch.allclose(mine, torch.cat([grid.mean((1, 2)), grid.amax((1, 2))], 1))


def test_generalized_mean_lies_between_mean_and_maximum(grid):
    positive = grid.abs() + 0.1
    mean, most = positive.mean((1, 2)), positive.amax((1, 2))
    assert torch.allclose(GeneralizedMean(1.0)(positive), mean, atol=1e-5)
    third = GeneralizedMean(3.0)(positive)
    assert torch.allclose(third, positive.pow(3).mean((1, 2)).pow(1 / 3), atol=1e-5)
    assert ((third > mean) & (third < most)).all()
    assert torch.allclose(GeneralizedMean(60.0)(positive), most, rtol=0.06)
    assert torch.isfinite(GeneralizedMean(3.0)(-positive)).all(), "negatives are clipped"


def test_relative_deviation_by_hand():
    tokens = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])  # mean (1, 0)
    mine = RelativeDeviation(2.0)(tokens.reshape(1, 3, 1, 2))
    # Distances 1, 1, 2; relative 1/2, 1/2, 1; weights 9/4, 9/4, 4.
    assert torch.allclose(mine, torch.tensor([[3.0 * 4.0 / 8.5, 0.0]]))
    hybrid = RelativeDeviation(2.0, 3.0)(tokens.reshape(1, 3, 1, 2))
    assert hybrid[0, 0] == pytest.approx((27.0 * 4.0 / 8.5) ** (1 / 3), rel=1e-5)


def test_relative_deviation_of_a_constant_clip_is_that_constant():
    same = torch.full((2, 4, 1, 3), 0.7)
    assert torch.allclose(RelativeDeviation(19.0)(same), torch.full((2, 3), 0.7))


def test_relative_deviation_without_exponent_is_the_mean(grid):
    assert torch.allclose(RelativeDeviation(0.0)(grid), grid.mean((1, 2)), atol=1e-6)


def test_relative_deviation_keeps_a_brief_event_that_the_mean_drowns():
    tokens = torch.zeros(1, 100, 1, 4) + 0.01 * torch.randn(1, 100, 1, 4)
    tokens[0, 50] = 5.0
    assert RelativeDeviation(10.0)(tokens)[0, 0] > 10 * tokens.mean((1, 2))[0, 0]


def test_published_exponents():
    assert make_pooling("rdp", beats.Beats(beats.TINY, 16000)).gamma == 19.0
    other = dasheng.Dasheng(dasheng.TINY)
    assert make_pooling("rdp", other).gamma == 10.0
    assert make_pooling("rdp", other, exponent=7.0).gamma == 7.0
    assert (make_pooling("rdp_gem", other).gamma, make_pooling("rdp_gem", other).power) == (
        16.0,
        3.0,
    )


def test_attentive_statistics_learns_to_look_at_the_event(grid):
    torch.manual_seed(0)
    # The class is told by one token in twenty: a mean sees little of it.
    labels = torch.arange(64) % 2
    tokens = torch.randn(64, 20, 1, 16)
    place = torch.randint(0, 20, (64,))
    tokens[torch.arange(64), place, 0, 0] = 6.0
    tokens[torch.arange(64), place, 0, 1] = labels * 8.0 - 4.0
    pooling = AttentiveStatistics(16, 8)
    head = torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*pooling.parameters(), *head.parameters()], lr=1e-2)
    first = last = 0.0
    for step in range(60):
        loss = torch.nn.functional.cross_entropy(head(pooling(tokens)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < first / 5


@pytest.mark.parametrize("name", POOLINGS)
def test_width_is_as_told(name):
    backbone = beats.Beats(beats.TINY, 16000)
    grid = torch.randn(2, 6, 8, 64)
    if name == "summary":
        with pytest.raises(KeyError):
            make_pooling(name, backbone)
        return
    mine = pool(make_pooling(name, backbone, dim=24).eval(), Hidden(grid))
    assert mine.shape == (2, pooled_width(name, backbone, 24))
