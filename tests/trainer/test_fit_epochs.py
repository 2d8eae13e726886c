"""The models of several epochs, kept side by side in one encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from agent.bundle.manifest import Row
from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit import task
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.classify import CHECKPOINT, fit_classifier
from trainer.fit.config import TrainingConfig

RATE = 16000


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(task, "WINDOWS_AN_EPOCH", 16)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def joined(parts):
    one = EncoderConfig(kind="beats", size="tiny", layers=(1,), pooling="attentive")
    config = EncoderConfig(kind="joined", together=False, parts=(one,) * parts)
    return build_encoder(config, window_seconds=0.5, weights=None, seed=0)


def config(**fields):
    settings = {
        "kind": "classify",
        "tune": "lora",
        "lora": {"rank": 4},
        "batch": 8,
        "learning_rate": 3e-3,
        "schedule": "constant",
    }
    return TrainingConfig.model_validate(settings | fields)


def fit(encoder, settings, **kwargs):
    random = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    waveforms = [
        0.1 * np.sin(2 * np.pi * (300 + 400 * (n % 4)) * time)
        + 0.02 * random.standard_normal(len(time))
        for n in range(16)
    ]
    rows = [
        Row(source=f"{n}.wav", start=0, group=str(n), attributes={"load": str(n % 4)})
        for n in range(16)
    ]
    sound = torch.tensor(np.array(waveforms), dtype=torch.float32)
    return fit_classifier(encoder, sound, rows, settings, machine="pump", seed=3, **kwargs)


def differ(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.float() - b.float()).abs().max()) for a, b in pairs if a.numel())


def test_each_part_is_the_model_of_its_epoch():
    three, two = joined(3), joined(2)
    result = fit(three, config(epochs=4, keep_epochs=(1, 2, 4)))
    fit(two, config(epochs=2, keep_epochs=(1, 2)))
    assert len(result.losses) == 4, "one model is trained, not three"
    # A constant step size: the first epochs don't know how many will follow.
    assert differ(three.parts[0], two.parts[0]) == 0
    assert differ(three.parts[1], two.parts[1]) == 0
    assert differ(three.parts[0], three.parts[1]) > 1e-4
    assert differ(three.parts[1], three.parts[2]) > 1e-4


class _Killed(BaseException):
    """What no code of ours catches."""


def test_a_resumed_training_keeps_the_same_epochs(tmp_path, monkeypatch):
    settings = config(epochs=3, keep_epochs=(1, 2, 3))
    whole, broken, again = joined(3), joined(3), joined(3)
    fit(whole, settings)
    save = Checkpoints.save

    def die_after_two(self, state, snapshot):
        save(self, state, snapshot)
        if state.epoch == 2:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die_after_two)
        with pytest.raises(_Killed):
            fit(broken, settings, place=tmp_path)
    assert (tmp_path / CHECKPOINT).is_dir()
    fit(again, settings, place=tmp_path, resume=True)
    assert [differ(a, b) for a, b in zip(whole.parts, again.parts, strict=True)] == [0, 0, 0]


def test_as_many_equal_parts_as_epochs():
    with pytest.raises(ConfigError, match="keep_epochs"):
        fit(joined(2), config(epochs=3, keep_epochs=(1, 2, 3)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"epochs": 3, "keep_epochs": (1, 2)}, "ends with 2"),
        ({"epochs": 3, "keep_epochs": (3,)}, "two epochs"),
        ({"epochs": 3, "keep_epochs": (2, 1, 3)}, "ascending"),
        ({"epochs": 3, "keep_epochs": (1, 3), "held_out": 0.2}, "held_out"),
        ({"epochs": 3, "keep_epochs": (1, 3), "kind": "reconstruct"}, "classify"),
    ],
)
def test_what_cannot_be_is_told(fields, told):
    with pytest.raises(ValidationError, match=told):
        config(**fields)
