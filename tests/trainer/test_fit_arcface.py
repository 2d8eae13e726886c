"""The angular-margin loss against its formula, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from trainer.fit.heads.arcface import ArcFace


def _loss(centres, *, margin, scale, subcentres=1):
    head = ArcFace(2, len(centres) // subcentres, margin=margin, scale=scale, subcentres=subcentres)
    head.centres.data = torch.tensor(centres, dtype=torch.float32)
    return head


def _at(degrees):
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


ONE = torch.ones(1, 1)


def test_margin_turns_the_targets_angle_only():
    head = _loss([_at(0), _at(90)], margin=0.3, scale=10)
    found = head(2.5 * torch.tensor([_at(30)]), torch.tensor([[0]]), ONE)
    own, other = 10 * math.cos(math.radians(30) + 0.3), 10 * math.cos(math.radians(60))
    expected = -own + math.log(math.exp(own) + math.exp(other))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_beyond_a_right_angle_there_is_no_margin():
    head = _loss([_at(0), _at(90)], margin=0.5, scale=4)
    found = head(torch.tensor([_at(120)]), torch.tensor([[0]]), ONE)
    own, other = 4 * math.cos(math.radians(120)), 4 * math.cos(math.radians(30))
    assert found.item() == pytest.approx(-own + math.log(math.exp(own) + math.exp(other)), rel=1e-5)


def test_a_class_is_as_near_as_its_nearest_subcentre():
    head = _loss([_at(0), _at(180), _at(90), _at(270)], margin=0, scale=1, subcentres=2)
    cosines = head.similarities(torch.tensor([_at(170), _at(260)]))
    expected = [[math.cos(math.radians(10)), math.cos(math.radians(80))]] * 2
    expected[1] = [math.cos(math.radians(80)), math.cos(math.radians(10))]
    assert torch.allclose(cosines, torch.tensor(expected), atol=1e-6)


def test_without_a_margin_shares_are_a_soft_label():
    head = _loss([_at(10), _at(100), _at(250)], margin=0, scale=7)
    embedding = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 0], [1, 0]])
    shares = torch.tensor([[0.3, 0.7]] * 5)
    soft = torch.zeros(5, 3)
    for row in range(5):
        for target, share in zip(targets[row], shares[row], strict=True):
            soft[row, target] += share
    expected = functional.cross_entropy(7 * head.similarities(embedding), soft)
    assert head(embedding, targets, shares).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_pulls_towards_the_target_and_stays_finite():
    head = _loss([_at(0), _at(90)], margin=0.5, scale=30)
    embedding = torch.tensor([_at(45)], requires_grad=True)
    head(embedding, torch.tensor([[0]]), ONE).backward()
    turned = embedding.detach() - 0.01 * embedding.grad
    assert torch.atan2(turned[0, 1], turned[0, 0]) < math.radians(45)
    for degrees in (0.0, 90.0, 180.0):
        exact = torch.tensor([_at(degrees)], requires_grad=True)
        head(exact, torch.tensor([[0]]), ONE).backward()
        assert torch.isfinite(exact.grad).all()
    nothing = torch.zeros(1, 2, requires_grad=True)
    head(nothing, torch.tensor([[0]]), ONE).backward()
    assert torch.isfinite(nothing.grad).all()
