"""Which classes a training set is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agent.bundle.manifest import Row
from trainer.fit.classes import plan_classes
from trainer.fit.perturb import NAMES, perturb

RATE = 16000


def _row(number, *, domain="unknown", section="", **attributes):
    return Row(
        source=f"{number}.wav",
        start=0,
        group=str(number),
        domain=domain,
        section=section,
        attributes=attributes,
    )


def _plan(rows, waveforms=None):
    if waveforms is None:
        waveforms = torch.zeros(len(rows), RATE)
    return plan_classes(rows, waveforms, machine="fan", rate=RATE, seed=0)


def test_classes_are_section_attributes_and_domain():
    rows = [
        _row(n, section=f"0{n % 2}", domain="source" if n < 16 else "target", speed=str(n // 2 % 2))
        for n in range(20)
    ]
    plan = _plan(rows)
    keys = [(r.section, r.attributes["speed"], r.domain) for r in rows]
    assert plan.count == len(set(keys)) == 8
    assert plan.perturbations == ("none",)
    for i in range(20):
        for j in range(20):
            assert (plan.labels[i] == plan.labels[j]) == (keys[i] == keys[j])
    assert "section" in plan.rule
    assert "speed" in plan.rule
    assert "domain" in plan.rule


def test_an_attribute_that_numbers_the_recordings_is_ignored():
    rows = [_row(n, load=str(n % 4), serial=str(n)) for n in range(12)]
    plan = _plan(rows)
    assert plan.count == 4
    assert "serial" in plan.rule


def test_a_missing_attribute_is_a_value_of_its_own():
    rows = [_row(n, load=str(n % 4)) for n in range(8)] + [_row(8), _row(9)]
    assert _plan(rows).count == 5


def test_few_classes_are_multiplied_by_distortions():
    plan = _plan([_row(n, domain="source" if n else "target") for n in range(6)])
    assert plan.count == 2 * len(NAMES)
    assert "no attribute differs" in plan.rule
    assert "faster" in plan.rule


def test_one_class_of_few_recordings_learns_from_distortions_alone():
    plan = _plan([_row(n) for n in range(16)])
    assert plan.count == len(NAMES)
    assert set(plan.labels.tolist()) == {0}


def test_many_recordings_without_attributes_are_clustered_by_sound():
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    waveforms, truth = [], []
    for n in range(128):
        tone = np.sin(2 * np.pi * (300, 1000, 2500, 5000)[n % 4] * time + random.uniform(0, 6))
        waveforms.append(tone + 0.05 * random.standard_normal(RATE))
        truth.append(n % 4)
    plan = _plan(
        [_row(n) for n in range(128)], torch.tensor(np.array(waveforms), dtype=torch.float32)
    )
    assert len(plan.names) == 4
    assert plan.perturbations == ("none",)
    assert "k-means" in plan.rule
    for kind in range(4):
        assert len({int(plan.labels[i]) for i in range(128) if truth[i] == kind}) == 1


def _peak(window):
    return int(torch.fft.rfft(window).abs().argmax())


@pytest.mark.parametrize("name", NAMES)
def test_distortions_keep_length_and_level(name):
    window = torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    changed = perturb(window, name, RATE, torch.Generator().manual_seed(0))
    assert changed.shape == window.shape
    assert changed.std().item() == pytest.approx(window.std().item(), rel=0.02)
    assert torch.equal(changed, window) == (name == "none")
    assert torch.isfinite(perturb(torch.zeros(RATE), name, RATE, torch.Generator())).all()


def test_distortions_do_what_their_names_say():
    random = torch.Generator().manual_seed(0)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    assert 1030 < _peak(perturb(tone, "faster", RATE, random)) < 1130
    assert 880 < _peak(perturb(tone, "slower", RATE, random)) < 970
    noise = torch.randn(RATE, generator=random)

    def balance(window):
        power = torch.fft.rfft(window).abs() ** 2
        return (power[4000:].sum() / power[:1000].sum()).item()

    assert balance(perturb(noise, "brighter", RATE, random)) > 2 * balance(noise)
    assert balance(perturb(noise, "duller", RATE, random)) < 0.5 * balance(noise)
    power = torch.fft.rfft(perturb(noise, "band", RATE, random)).abs() / torch.fft.rfft(noise).abs()
    assert 0.05 < power[100:].min() / power[100:].max() < 0.3
    swing = perturb(tone, "modulated", RATE, random).reshape(100, 160).pow(2).mean(1).sqrt()
    assert swing.max() > 1.2 * swing.min()
