"""Training on small synthetic machines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agent.bundle.manifest import Row
from agent.core.errors import AudioError, ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit import task
from trainer.fit.classify import fit_classifier
from trainer.fit.heads.arcface import ArcFace
from trainer.preset import TrainingConfig

RATE = 16000


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Short epochs, and one thread: beside other work, two wait for each other."""
    monkeypatch.setattr(task, "WINDOWS_AN_EPOCH", 32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _encoder(kind="dual_path", members=1):
    return build_encoder(
        EncoderConfig(kind=kind), window_seconds=1.0, weights=None, seed=0, members=members
    )


def _machine(count, classes, seed=0):
    """Hums whose harmonics depend on the load, in noise."""
    random = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    waveforms, rows = [], []
    for n in range(count):
        load = n % classes
        hum = sum(
            np.sin(2 * np.pi * k * (90 + 15 * load) * time + random.uniform(0, 6)) / k
            for k in range(1, 8)
        )
        waveforms.append(0.05 * hum + 0.02 * random.standard_normal(RATE))
        attributes = {"load": str(load)} if classes > 1 else {}
        rows.append(Row(source=f"{n}.wav", start=0, group=str(n), attributes=attributes))
    return torch.tensor(np.array(waveforms), dtype=torch.float32), rows


def _fit(encoder, waveforms, rows, **config):
    settings = {"kind": "classify", "batch": 16, "epochs": 2, "learning_rate": 2e-3, **config}
    return fit_classifier(
        encoder, waveforms, rows, TrainingConfig(**settings), machine="pump", seed=0
    )


@pytest.mark.timeout(120)
def test_training_separates_conditions_it_has_not_heard():
    encoder = _encoder()
    waveforms, rows = _machine(32, classes=4)
    held_out, held_rows = _machine(16, classes=4, seed=1)
    result = _fit(encoder, waveforms, rows, epochs=6, batch=8, mixup=0.0, margin=0.3)
    assert result.classes == 4
    assert len(result.losses) == 6
    assert result.losses[-1] < 0.8 * result.losses[0]
    assert not encoder.training
    with torch.no_grad():
        known, unknown = encoder(waveforms), encoder(held_out)
    nearest = (unknown @ known.T).argmax(dim=1)
    right = [rows[int(i)].attributes == held_rows[j].attributes for j, i in enumerate(nearest)]
    assert np.mean(right) >= 0.9


def test_exchanged_branches_get_half_of_each_windows_class(monkeypatch):
    seen = []
    forward = ArcFace.forward

    def spy(self, embedding, targets, shares):
        seen.append((self.classes, embedding.detach(), targets, shares))
        return forward(self, embedding, targets, shares)

    monkeypatch.setattr(ArcFace, "forward", spy)
    waveforms, rows = _machine(16, classes=4)
    _fit(_encoder(), waveforms, rows, epochs=1, batch=32, feature_exchange=1.0, mixup=0.0)
    ((classes, embedding, targets, shares),) = seen
    assert classes == 12
    assert embedding.shape == (32, 256)
    first, other = targets.unbind(1)
    assert ((first >= 4) & (first < 8)).all()
    assert torch.equal(other - 8, (first - 4).flip(0))
    assert (shares == 0.5).all()


def test_a_joined_part_that_is_trained_alone_keeps_its_branches():
    part = {"kind": "dual_path"}
    for unit in (False, True):
        config = EncoderConfig(kind="joined", together=False, unit=unit, parts=[part, part])
        encoder = build_encoder(config, window_seconds=1.0, weights=None, seed=0)
        waveforms, _ = _machine(4, classes=4)
        for member in encoder.members():
            branches = member.branches(waveforms)
            assert [branch.shape[1] for branch in branches] == [128, 128]
            assert torch.equal(torch.cat(branches, dim=1), member(waveforms))


def test_one_branch_has_nothing_to_be_exchanged_with():
    waveforms, rows = _machine(16, classes=4)
    encoder = build_encoder(
        EncoderConfig(kind="dual_path", segments=2), window_seconds=2.0, weights=None, seed=0
    )
    with pytest.raises(ConfigError, match="one branch") as fault:
        _fit(encoder, waveforms.repeat(1, 2), rows, epochs=1, batch=32, feature_exchange=1.0)
    assert "training.feature_exchange" in str(fault.value)


def test_same_seed_same_encoder():
    waveforms, rows = _machine(8, classes=4)
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first, second = _encoder(), _encoder()
    for encoder in (first, second):
        _fit(encoder, waveforms, rows, epochs=1, batch=64)
    assert torch.equal(first(waveforms), second(waveforms))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first(waveforms), _encoder()(waveforms))


def test_a_single_recording_and_an_ensemble_train():
    waveforms, rows = _machine(1, classes=1)
    encoder = _encoder(members=2)
    result = _fit(encoder, waveforms, rows, epochs=1, batch=128)
    assert result.classes == 7
    assert len(result.losses) == 1
    embedding = encoder(waveforms)
    assert embedding.shape == (1, 512)
    assert torch.isfinite(embedding).all()
    first, second = encoder.members()
    assert torch.allclose(embedding[:, :256], first(waveforms))
    assert not torch.allclose(first(waveforms), second(waveforms), atol=0.01)


def test_silence_among_the_windows_does_no_harm():
    waveforms, rows = _machine(8, classes=4)
    waveforms[3] = 0
    encoder = _encoder()
    result = _fit(encoder, waveforms, rows, epochs=1, batch=64)
    assert np.isfinite(result.losses).all()
    assert all(bool(torch.isfinite(p).all()) for p in encoder.parameters())


def test_not_a_number_is_refused_by_name():
    waveforms, rows = _machine(8, classes=4)
    waveforms[3, 7] = float("nan")
    with pytest.raises(AudioError, match="pump"):
        _fit(_encoder(), waveforms, rows)


def test_divergence_ends_with_a_remedy():
    waveforms, rows = _machine(8, classes=4)
    with pytest.raises(ConfigError, match="learning_rate"):
        _fit(_encoder(), waveforms, rows, epochs=3, batch=64, learning_rate=1e30)


def test_an_encoder_without_parameters_is_refused():
    waveforms, rows = _machine(4, classes=4)
    with pytest.raises(ConfigError, match="frozen"):
        _fit(_encoder("loudness"), waveforms, rows)
