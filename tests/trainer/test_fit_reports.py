"""What reports ask of a training: the last layer alone learnt from, windows mixed one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from agent.core.errors import ConfigError
from agent.recordings.load import load_machines
from agent.recordings.windows import healthy_windows
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit.augment import mixture_of, random_of
from trainer.fit.classify import fit_classifier
from trainer.fit.config import TrainingConfig
from trainer.fit.heads.arcface import ArcFace

RATE = 16000


def _tiny(**changes: object) -> EncoderConfig:
    return EncoderConfig(kind="beats", size="tiny", layers=(1, 2, 3), pooling="mean", **changes)


def _machine(tmp_path: Path, seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(0)
    for i in range(12):
        place = tmp_path / "fan" / "train"
        place.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * rng.standard_normal(round(seconds * RATE))
        name = f"section_00_source_train_normal_{i:04}_spd_{i % 4}.wav"
        soundfile.write(place / name, noise.astype(np.float32), RATE)
    return tmp_path / "fan"


def _windows(folder: Path, clip_seconds: float | None = None):
    (machine,) = load_machines(folder)
    return healthy_windows(
        machine, rate=RATE, window_samples=RATE, hop_samples=RATE, clip_seconds=clip_seconds
    )


def _fit(encoder, windows, **settings):
    config = TrainingConfig(kind="classify", epochs=1, batch=8, **settings)
    waveforms = torch.from_numpy(windows.waveforms)
    return fit_classifier(encoder, waveforms, windows.rows, config, machine="fan", seed=0)


def test_the_loss_sees_the_last_layer_and_the_embedding_has_all(tmp_path, monkeypatch):
    seen = []
    forward = ArcFace.forward

    def spy(self, embedding, targets, shares):
        seen.append(embedding.shape[1])
        return forward(self, embedding, targets, shares)

    monkeypatch.setattr(ArcFace, "forward", spy)
    encoder = build_encoder(_tiny(), window_seconds=1.0, weights=None, seed=0)
    whole = encoder.dim
    assert encoder.last_columns == (2 * whole // 3, whole)
    windows = _windows(_machine(tmp_path))
    _fit(encoder, windows, learn_from="last_layer", mixup=0.0)
    assert set(seen) == {whole // 3}
    with torch.no_grad():
        found = encoder(torch.from_numpy(windows.waveforms[:2]))
    assert found.shape == (2, whole)
    assert encoder.branches(torch.zeros(1, RATE))[0].shape[1] == whole


def test_an_encoder_without_layers_cannot_be_learnt_from_its_last(tmp_path):
    encoder = build_encoder(
        EncoderConfig(kind="dual_path"), window_seconds=1.0, weights=None, seed=0
    )
    with pytest.raises(ConfigError, match=r"no layers .*\(training\.learn_from\)|learn_from"):
        _fit(encoder, _windows(_machine(tmp_path)), learn_from="last_layer")


def test_each_window_decides_and_is_mixed_with_the_batchs_other_end():
    mixtures = [mixture_of(8, 0.5, 1.0, random_of(s, 0, 2, 0), each=True) for s in range(400)]
    assert all(one.order == tuple(range(7, -1, -1)) for one in mixtures)
    mixed = np.array([[share < 1 for share in one.shares] for one in mixtures])
    assert 0.45 < mixed.mean() < 0.55
    # In the same batch some are and some are not.
    assert np.mean(mixed.any(axis=1) & ~mixed.all(axis=1)) > 0.9
    shares = np.array([share for one in mixtures for share in one.shares if share < 1])
    assert np.var(shares) == pytest.approx(1 / 12, rel=0.15)


def test_exchange_one_by_one_leaves_the_others_their_class(tmp_path, monkeypatch):
    seen = []
    forward = ArcFace.forward

    def spy(self, embedding, targets, shares):
        seen.append((self.classes // 3, targets, shares))
        return forward(self, embedding, targets, shares)

    monkeypatch.setattr(ArcFace, "forward", spy)
    encoder = build_encoder(
        EncoderConfig(kind="dual_path"), window_seconds=1.0, weights=None, seed=0
    )
    windows = _windows(_machine(tmp_path))
    _fit(encoder, windows, draw="window", feature_exchange=0.5, mixup=0.0)
    kept = exchanged = 0
    for count, targets, shares in seen:
        assert torch.allclose(shares.sum(dim=1), torch.ones(len(shares)))
        if targets.shape[1] == 1:
            continue
        half = shares[:, 1] > 0
        assert (shares[half] == 0.5).all()
        assert (targets[half, 0] >= count).all()
        assert (targets[~half, 0] < count).all()
        kept, exchanged = kept + int((~half).sum()), exchanged + int(half.sum())
    assert kept > 20
    assert exchanged > 20


def test_only_the_beginning_of_a_recording_is_learnt_from(tmp_path):
    folder = _machine(tmp_path, seconds=2.5)
    assert len(_windows(folder).rows) == 3 * 12
    found = _windows(folder, clip_seconds=1.0)
    assert [row.start for row in found.rows] == [0.0] * 12
