"""The losses against their formulas, written out in numpy; and the scale that must not run away."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agent.core.errors import ConfigError
from trainer.fit.config import TrainingConfig
from trainer.fit.heads import make_head
from trainer.fit.heads.adacos import AdaCos, SubclusterAdaCos
from trainer.fit.heads.adaproj import AdaProj
from trainer.fit.heads.arcface import ArcFace, NoisyArcMix
from trainer.fit.heads.base import MOST_GROWTH, start_scale

DIM, CLASSES = 12, 5


def _batch(seed=0, size=7):
    random = np.random.default_rng(seed)
    first = random.integers(CLASSES, size=size)
    second = (first + random.integers(1, CLASSES, size=size)) % CLASSES
    return random.standard_normal((size, DIM)), first, second


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _given(embedding, targets, shares):
    return (
        torch.tensor(embedding, dtype=torch.float32),
        torch.tensor(np.stack(targets, axis=1)),
        torch.tensor([list(shares)] * len(embedding), dtype=torch.float32),
    )


def _centres(head):
    return head.centres.detach().double().numpy()


@pytest.mark.parametrize("easy", [True, False])
def test_arcface_is_its_formula(easy):
    torch.manual_seed(0)
    head = ArcFace(DIM, CLASSES, margin=0.9, scale=30, subcentres=3, easy=easy)
    x, first, second = _batch(size=40)
    centres = _unit(_centres(head).reshape(CLASSES, 3, DIM))
    cosine = np.einsum("bd,ckd->bck", _unit(x), centres).max(axis=2)
    total = 0.0
    for labels, share in ((first, 0.7), (second, 0.3)):
        z = cosine.copy()
        for i, label in enumerate(labels):
            angle = math.acos(cosine[i, label])
            if easy:
                turned = math.cos(angle + 0.9) if angle < math.pi / 2 else math.cos(angle)
            elif angle + 0.9 < math.pi:
                turned = math.cos(angle + 0.9)
            else:
                turned = math.cos(angle) - 0.9 * math.sin(0.9)
            z[i, label] = turned
        p = _softmax(30 * z)
        total += share * -np.log(p[np.arange(40), labels]).mean()
    found = head(*_given(x, [first, second], [0.7, 0.3])).item()
    assert found == pytest.approx(total, rel=1e-4)


def test_a_strict_margin_goes_on_past_a_right_angle():
    head = ArcFace(2, 2, margin=0.5, scale=4, easy=False)
    head.centres.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for degrees, own in (
        (120, math.cos(math.radians(120) + 0.5)),
        (170, math.cos(math.radians(170)) - 0.5 * math.sin(0.5)),
    ):
        other = math.sin(math.radians(degrees))
        expected = -4 * own + math.log(math.exp(4 * own) + math.exp(4 * other))
        where = torch.tensor([[math.cos(math.radians(degrees)), other]])
        assert head(where, torch.tensor([[0]]), torch.ones(1, 1)).item() == pytest.approx(
            expected, rel=1e-4
        )


def test_noisy_arcmix_gives_the_first_label_alone_a_margin():
    torch.manual_seed(1)
    head = NoisyArcMix(DIM, CLASSES, margin=0.7, scale=30)
    x, first, second = _batch(seed=1)
    z = _unit(x) @ _unit(_centres(head)).T
    for i, label in enumerate(first):
        angle = math.acos(z[i, label])
        z[i, label] = math.cos(angle + 0.7) if angle < math.pi / 2 else math.cos(angle)
    p = np.log(_softmax(30 * z))
    rows = np.arange(len(x))
    expected = -(0.6 * p[rows, first] + 0.4 * p[rows, second]).mean()
    found = head(*_given(x, [first, second], [0.6, 0.4])).item()
    assert found == pytest.approx(expected, rel=1e-4)
    both = ArcFace(DIM, CLASSES, margin=0.7, scale=30)
    both.load_state_dict(head.state_dict())
    assert both(*_given(x, [first, second], [0.6, 0.4])).item() != pytest.approx(found, rel=1e-3)


def test_adacos_is_its_formula_and_follows_the_batch():
    torch.manual_seed(2)
    head = AdaCos(DIM, CLASSES)
    x, first, _ = _batch(seed=2)
    cosine = _unit(x) @ _unit(_centres(head)).T
    scale = math.sqrt(2) * math.log(CLASSES - 1)
    assert head.scale.value.item() == pytest.approx(scale)
    rows = np.arange(len(x))
    for _ in range(3):
        rest = np.exp(scale * cosine)
        rest[rows, first] = 0
        angle = np.sort(np.arccos(cosine[rows, first]))[(len(x) - 1) // 2]
        scale = math.log(rest.sum(axis=1).mean()) / math.cos(min(math.pi / 4, angle))
        scale = min(max(scale, 1.0), MOST_GROWTH * math.sqrt(2) * math.log(CLASSES - 1))
        expected = -np.log(_softmax(scale * cosine)[rows, first]).mean()
        found = head(*_given(x, [first], [1.0])).item()
        assert head.scale.value.item() == pytest.approx(scale, rel=1e-4)
        assert found == pytest.approx(expected, rel=1e-4)


def test_scadacos_sums_the_softmax_within_a_class():
    torch.manual_seed(3)
    head = SubclusterAdaCos(DIM, CLASSES, clusters=4, adaptive=False)
    x, first, second = _batch(seed=3)
    scale = math.sqrt(2) * math.log(CLASSES * 4 - 1)
    p = _softmax(scale * (_unit(x) @ _unit(_centres(head)).T))
    p = np.log(p.reshape(len(x), CLASSES, 4).sum(axis=2))
    rows = np.arange(len(x))
    expected = -(0.2 * p[rows, first] + 0.8 * p[rows, second]).mean()
    found = head(*_given(x, [first, second], [0.2, 0.8])).item()
    assert found == pytest.approx(expected, rel=1e-4)
    assert head.scale.value.item() == pytest.approx(scale)


def test_scadacos_scale_is_its_formula():
    torch.manual_seed(4)
    head = SubclusterAdaCos(DIM, CLASSES, clusters=4)
    x, first, _ = _batch(seed=4)
    cosine = (_unit(x) @ _unit(_centres(head)).T).reshape(len(x), CLASSES, 4)
    before = head.scale.value.item()
    average = np.exp(before * cosine).sum(axis=(1, 2)).mean()
    angles = np.arccos(cosine.max(axis=2)[np.arange(len(x)), first])
    middle = np.sort(angles)[(len(x) - 1) // 2]
    expected = math.log(average) / math.cos(min(math.pi / 4, middle))
    head(*_given(x, [first], [1.0]))
    assert head.scale.value.item() == pytest.approx(expected, rel=1e-4)


def test_the_scale_of_scadacos_would_run_away_and_is_kept():
    head = SubclusterAdaCos(DIM, CLASSES, clusters=16)
    torch.manual_seed(5)
    # Every window lies halfway from its centre: the own logits raise the scale, and it them.
    x = torch.nn.functional.normalize(head.centres[::16].detach(), dim=1)
    x = x + 0.9 * torch.nn.functional.normalize(torch.randn_like(x), dim=1)
    targets = torch.arange(CLASSES)[:, None]
    free = head.scale.value.item()
    cosine = (
        torch.nn.functional.normalize(x, dim=1)
        @ torch.nn.functional.normalize(head.centres.detach(), dim=1).T
    )
    own = cosine.reshape(CLASSES, CLASSES, 16).amax(2).diagonal()
    middle = min(math.pi / 4, torch.arccos(own).median().item())
    for _ in range(400):
        free = torch.logsumexp(free * cosine.double(), 1).logsumexp(0).sub(
            math.log(CLASSES)
        ).item() / math.cos(middle)
        head(x, targets, torch.ones(CLASSES, 1))
    limit = MOST_GROWTH * start_scale(CLASSES * 16)
    assert free > 2 * limit, "the formula alone stays put here, so this shows nothing"
    assert head.scale.value.item() <= limit * (1 + 1e-6)
    assert torch.isfinite(head(x, targets, torch.ones(CLASSES, 1)))


def test_two_classes_still_learn():
    head = AdaCos(DIM, 2)
    assert head.scale.value.item() >= 1.0
    head(torch.randn(4, DIM), torch.tensor([[0, 1]] * 4), torch.full((4, 2), 0.5))
    assert head.scale.value.item() >= 1.0


def test_the_scale_stands_still_outside_training():
    head = AdaCos(DIM, CLASSES).eval()
    before = head.scale.value.item()
    head(torch.randn(4, DIM), torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1))
    assert head.scale.value.item() == before


def test_adaproj_is_the_cosine_to_an_orthogonal_projection():
    torch.manual_seed(6)
    head = AdaProj(DIM, CLASSES, subspace=3, adaptive=False)
    x, first, second = _batch(seed=6)
    x = _unit(x)
    cosine = np.empty((len(x), CLASSES))
    for j, basis in enumerate(_centres(head)):
        projector = basis @ np.linalg.inv(basis.T @ basis) @ basis.T
        projected = x @ projector
        cosine[:, j] = (x * _unit(projected)).sum(axis=1)
    p = np.log(_softmax(math.sqrt(2) * math.log(CLASSES - 1) * cosine))
    rows = np.arange(len(x))
    expected = -(0.5 * p[rows, first] + 0.5 * p[rows, second]).mean()
    assert cosine.max() < 1
    found = head(*_given(x, [first, second], [0.5, 0.5])).item()
    assert found == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ConfigError, match="subspace_dim"):
        AdaProj(DIM, CLASSES, subspace=DIM)


@pytest.mark.parametrize(
    "config",
    [
        {"head": "arcface", "subcentres": 4},
        {"head": "arcface", "easy_margin": False},
        {"head": "noisy_arcmix"},
        {"head": "adacos"},
        {"head": "scadacos", "subcentres": 4},
        {"head": "adaproj", "subspace_dim": 4},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_every_head_learns_separable_classes_and_has_finite_gradients(config):
    torch.manual_seed(7)
    head = make_head(DIM, CLASSES, TrainingConfig(kind="classify", **config))
    targets = torch.arange(CLASSES).repeat(6)[:, None]
    x = torch.nn.functional.one_hot(targets[:, 0], DIM).float() + 0.1 * torch.randn(30, DIM)
    x[0] = 0  # silence may have an embedding of nothing
    x.requires_grad_()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = head(x, targets, torch.ones(30, 1))
        loss.backward()
        assert torch.isfinite(x.grad).all()
        optimizer.step()
    guess = head.similarities(x.detach())[1:].argmax(dim=1)
    assert (guess == targets[1:, 0]).float().mean() > 0.95


def test_centres_may_stay_where_they_were_drawn():
    fixed = make_head(DIM, CLASSES, TrainingConfig(kind="classify", train_centres=False))
    assert not any(p.requires_grad for p in fixed.parameters())


@pytest.mark.parametrize(
    "config",
    [
        {"head": "scadacos"},
        {"head": "adacos", "subcentres": 2},
        {"batch": 10, "accumulate": 3},
        {"patience": 3},
    ],
)
def test_contradictions_are_refused(config):
    with pytest.raises(ValueError, match=r"subcentres|accumulate|patience"):
        TrainingConfig(kind="classify", **config)
