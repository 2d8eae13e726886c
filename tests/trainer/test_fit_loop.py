"""The loop: schedule, parts of a batch, held-out recordings, checkpoints that tell the same story."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from agent.bundle.manifest import Row
from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit import task
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.classify import CHECKPOINT, LOGS, fit_classifier
from trainer.fit.config import TrainingConfig
from trainer.fit.loop import make_optimizer, rate_factor

RATE = 16000


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(task, "WINDOWS_AN_EPOCH", 16)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _encoder(kind="beats", **fields):
    config = EncoderConfig(kind=kind, size="tiny", layers=(1,), pooling="attentive", **fields)
    encoder = build_encoder(config, window_seconds=0.5, weights=None, seed=0)
    encoder.has_values = True  # these random ones will do, without the warning
    return encoder


def _sound(count=16, classes=4, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    waveforms = [
        0.1 * np.sin(2 * np.pi * (300 + 400 * (n % classes)) * time)
        + 0.02 * random.standard_normal(len(time))
        for n in range(count)
    ]
    rows = [
        Row(source=f"{n}.wav", start=0, group=str(n), attributes={"load": str(n % classes)})
        for n in range(count)
    ]
    return torch.tensor(np.array(waveforms), dtype=torch.float32), rows


def _config(**fields):
    settings = {
        "kind": "classify",
        "tune": "lora",
        "lora": {"rank": 4, "dropout": 0.2},
        "epochs": 3,
        "batch": 8,
        "learning_rate": 3e-3,
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_steps": 2,
        "clip_norm": 5.0,
        "head": "scadacos",
        "subcentres": 3,
        "augment": {"spec_time": 8, "spec_frequency": 8, "gain_db": 3, "noise": 0.5, "speed": 0.05},
        **fields,
    }
    return TrainingConfig.model_validate(settings)


def _fit(encoder, config, **kwargs):
    waveforms, rows = _sound()
    return fit_classifier(encoder, waveforms, rows, config, machine="pump", seed=3, **kwargs)


def _same(one, other, atol=0.0):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(
        name == its and torch.allclose(a, b, rtol=0, atol=atol) for (name, a), (its, b) in pairs
    )


def test_the_step_size_rises_and_falls():
    config = _config(warmup_steps=10)
    factors = [rate_factor(step, 110, config) for step in range(110)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    flat = _config(warmup_steps=0, schedule="constant")
    assert {rate_factor(step, 110, flat) for step in range(110)} == {1.0}


def test_centres_may_learn_faster_than_the_encoder():
    config = _config(head_rate=20.0, learning_rate=1e-3)
    encoder, head = _encoder(), torch.nn.Linear(3, 3)
    optimizer = make_optimizer(encoder, head, config)
    factor = {id(p): g["factor"] for g in optimizer.param_groups for p in g["params"]}
    assert {factor[id(p)] for p in head.parameters()} == {20.0}
    assert {factor[id(p)] for p in encoder.parameters() if p.requires_grad} == {1.0}
    rates = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        rates.append(tuple(group["lr"] for group in self.param_groups))
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = spy
    try:
        _fit(_encoder(), config)
    finally:
        torch.optim.AdamW.step = step
    assert all(rate[2] == pytest.approx(20 * rate[0]) for rate in rates)
    assert len({rate[0] for rate in rates}) > 3


class _Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("mid_epoch", [False, True])
def test_a_training_killed_and_resumed_equals_one_that_was_not(tmp_path, monkeypatch, mid_epoch):
    # Held out, so that the best weights have to survive as well; every kind of randomness on.
    config = _config(held_out=0.25, mixup=0.7)
    whole = _encoder()
    uninterrupted = _fit(whole, config, place=tmp_path / "whole")

    if mid_epoch:
        monkeypatch.setattr("trainer.fit.loop.SAVE_EVERY", -1.0)
    saves = Checkpoints.save
    count = 0

    def save(self, state, snapshot):
        nonlocal count
        saves(self, state, snapshot)
        count += 1
        if count == 2:
            raise _Killed

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(_Killed):
        _fit(_encoder(), config, place=tmp_path / "part")
    state = json.loads((tmp_path / "part" / CHECKPOINT / "state.json").read_text())["state"]
    assert (state["epoch"], state["step"]) == ((0, 2) if mid_epoch else (2, 0))
    monkeypatch.setattr(Checkpoints, "save", saves)
    resumed = _encoder()
    result = _fit(resumed, config, place=tmp_path / "part", resume=True)
    assert result == uninterrupted
    assert _same(resumed, whole)
    assert not _same(resumed, _encoder(), atol=1e-4)
    assert list((tmp_path / "part" / LOGS).glob("events*"))


def test_a_death_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    config = _config()
    whole = _encoder()
    _fit(whole, config)
    real = torch.save
    count = 0

    def save(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 2:
            raise _Killed
        real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(_Killed):
        _fit(_encoder(), config, place=tmp_path)
    monkeypatch.setattr(torch, "save", real)
    resumed = _encoder()
    _fit(resumed, config, place=tmp_path, resume=True)
    assert _same(resumed, whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    _fit(_encoder(), _config(epochs=1), place=tmp_path)
    with pytest.raises(ConfigError, match="another training"):
        _fit(_encoder(), _config(epochs=2), place=tmp_path, resume=True)
    _fit(_encoder(), _config(epochs=2), place=tmp_path)  # anew


def test_a_checkpoint_of_other_sound_under_the_same_names_is_refused(tmp_path):
    config = _config(epochs=1)
    _fit(_encoder(), config, place=tmp_path)
    waveforms, rows = _sound(seed=1)  # as another channel of the same files would be
    with pytest.raises(ConfigError, match="another training"):
        fit_classifier(
            _encoder(),
            waveforms,
            rows,
            config,
            machine="pump",
            seed=3,
            place=tmp_path,
            resume=True,
        )


@pytest.mark.parametrize("damage", ["cut", "gone", "hostile"])
def test_a_damaged_checkpoint_is_told(tmp_path, damage):
    _fit(_encoder(), _config(epochs=1), place=tmp_path)
    (optimizer,) = (tmp_path / CHECKPOINT).glob("*/optimizer.pt")
    if damage == "cut":
        optimizer.write_bytes(optimizer.read_bytes()[:100])
    elif damage == "gone":
        optimizer.unlink()
    else:
        torch.save({"optimizer": print}, optimizer)
    with pytest.raises(ConfigError, match="--force, not --resume"):
        _fit(_encoder(), _config(epochs=1), place=tmp_path, resume=True)


def test_a_batch_in_parts_is_the_same_batch():
    # Without dropout, branches and an adaptive scale a batch's mean is its parts' mean.
    # Attentive pooling has batch norms, which see the parts; the class token has none.
    fields = {"lora": {"rank": 4}, "head": "arcface", "clip_norm": 0.5, "epochs": 2}
    start, *encoders = (
        build_encoder(
            EncoderConfig(kind="eat", size="tiny", layers=(1,)),
            window_seconds=0.5,
            weights=None,
            seed=0,
        )
        for _ in range(3)
    )
    losses = [
        _fit(encoder, _config(accumulate=parts, **fields)).losses
        for encoder, parts in zip(encoders, (1, 4), strict=True)
    ]
    # Not weight by weight: where a gradient is nothing but rounding, Adam makes a step of it.
    sound = _sound()[0]
    one, other = (encoder(sound).detach() for encoder in encoders)
    assert torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, start(sound), atol=1e-2)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_patience_ends_a_training_that_no_longer_helps():
    # A step size of nothing: the held-out loss never falls.
    config = _config(held_out=0.25, patience=2, epochs=9, learning_rate=1e-12, head="arcface")
    encoder = _encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 0.0
    result = _fit(encoder, config)
    assert len(result.losses) == len(result.held_losses) < 9
    assert len(result.held_losses) - result.best_epochs[0] == 2
    assert len(result.held_out) == 4


def test_the_weights_of_the_lowest_held_out_loss_are_kept(monkeypatch):
    told = iter([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(task.ClassTask, "held_loss", lambda _self, _run: next(told))
    kept = _encoder()
    result = _fit(kept, _config(held_out=0.25, epochs=4, schedule="constant"))
    assert result.best_epochs == (2,)
    told = iter([3.0, 1.0])
    stopped = _encoder()
    _fit(stopped, _config(held_out=0.25, epochs=2, schedule="constant"))
    assert _same(kept, stopped)


def test_held_out_recordings_are_never_learnt_from(monkeypatch):
    seen = []
    show = task.Augmenter.show
    monkeypatch.setattr(
        task.Augmenter,
        "show",
        lambda self, window, random: seen.append(window) or show(self, window, random),
    )
    result = _fit(_encoder(), _config(held_out=0.25, epochs=1))
    waveforms, rows = _sound()
    held = {name.partition("/")[2] for name in result.held_out}
    shown = {
        row.source
        for row, window in zip(rows, waveforms, strict=True)
        if any(torch.equal(window, other) for other in seen)
    }
    assert len(held) == 4
    assert shown == {row.source for row in rows} - held


def test_mixed_precision_trains_and_stays_near():
    exact, mixed = _encoder(), _encoder()
    fields = {"lora": {"rank": 4}, "epochs": 1, "schedule": "constant", "warmup_steps": 0}
    one = _fit(exact, _config(**fields))
    other = _fit(mixed, _config(precision="bf16", **fields))
    assert other.losses[0] == pytest.approx(one.losses[0], rel=0.05)
    assert other.losses != one.losses
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="float16"):
            _fit(_encoder(), _config(precision="16"))


@pytest.mark.parametrize("head", ["arcface", "noisy_arcmix", "adacos", "scadacos", "adaproj"])
def test_every_head_lowers_its_loss(head):
    fields = {"subcentres": 3 if head == "scadacos" else 1, "adaptive_scale": False}
    result = _fit(
        _encoder(),
        _config(head=head, epochs=8, warmup_steps=0, mixup=0.0, subspace_dim=8, **fields),
    )
    assert result.losses[-1] < (0.95 if head == "adaproj" else 0.8) * result.losses[0]
    assert all(math.isfinite(loss) for loss in result.losses)
