"""Adapters: where they sit, that they begin as nothing, and that merging changes no number."""

from __future__ import annotations

import pytest
import torch

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit.adapters import Tuning, train_mode
from trainer.fit.config import LoraSettings, TrainingConfig

TINY = {
    "beats": "tiny",
    "eat": "tiny",
    "m2d": "tiny_80x608p16x16",
    "dasheng": "tiny",
    "muq": "tiny",
    "mn04": "",
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _encoder(kind, **fields):
    config = EncoderConfig(kind=kind, size=TINY[kind], **fields)
    return build_encoder(config, window_seconds=1.0, weights=None, seed=0)


def _lora(**settings):
    return TrainingConfig(kind="classify", tune="lora", lora=LoraSettings(**settings))


def _sound(encoder):
    return 0.1 * torch.randn(2, encoder.window_samples, generator=torch.Generator().manual_seed(0))


def _disturb(encoder):
    """Give every trained parameter a value of its own, as a training would."""
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(0.3 * parameter.data.std().nan_to_num(0.1).clamp(min=0.1) * noise)


@pytest.mark.parametrize("kind", TINY)
def test_adapters_begin_as_nothing_and_merge_into_what_they_were(kind):
    encoder = _encoder(kind)
    sound = _sound(encoder)
    keys = {name: value.shape for name, value in encoder.state_dict().items()}
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        frozen = encoder(sound)
        tuning = Tuning(encoder, _lora(rank=8, targets=("q", "v", "out")))
        tuning.start()
        assert torch.allclose(encoder(sound), frozen, atol=1e-6)
        _disturb(encoder)
        trained = encoder(sound)
        tuning.finish()
        merged = encoder(sound)
    size = frozen.abs().max()
    assert (trained - frozen).abs().max() > 1e-3 * size
    assert (merged - trained).abs().max() < 2e-5 * size
    after = encoder.state_dict()
    assert {name: value.shape for name, value in after.items()} == keys
    # What nothing was attached to is as it was, to the bit.
    changed = {name for name in keys if not torch.equal(before[name], after[name])}
    assert changed
    assert all(
        name.endswith(".weight") and ("attn" in name or name.startswith("features."))
        for name in changed
    )


def test_a_fused_projection_adapts_queries_and_values_alone():
    encoder = _encoder("eat")
    before = encoder.backbone.blocks[0].attn.qkv.weight.clone()
    tuning = Tuning(encoder, _lora(rank=4))
    tuning.start()
    _disturb(encoder)
    tuning.finish()
    query, key, value = (encoder.backbone.blocks[0].attn.qkv.weight - before).chunk(3)
    assert torch.linalg.matrix_rank(query) == 4
    assert torch.linalg.matrix_rank(value, atol=1e-5) == 4
    assert torch.count_nonzero(key) == 0


@pytest.mark.parametrize(("kind", "block"), [("beats", "layers"), ("mn04", "features")])
def test_only_the_first_blocks_are_adapted(kind, block):
    encoder = _encoder(kind)
    tuning = Tuning(encoder, _lora(rank=4, first_blocks=2))
    tuning.start()
    names = {name for name, p in encoder.named_parameters() if p.requires_grad}
    found = {int(name.split(f"{block}.")[1].split(".")[0]) for name in names}
    assert found == ({0, 1} if kind == "beats" else {1, 2})
    tuning.finish()


def test_no_adapter_has_more_rank_than_its_layer():
    encoder = _encoder("mn04")
    Tuning(encoder, _lora(rank=64, alpha=128)).start()
    factors = {
        name: p for name, p in encoder.named_parameters() if "lora_A" in name and p.requires_grad
    }
    assert factors
    for name, factor in factors.items():
        layer = encoder.get_submodule(name.split(".lora_A")[0])
        smaller = min(layer.base_layer.in_channels, layer.base_layer.out_channels)
        assert factor.shape[0] == min(64, smaller)
        assert layer.scaling["default"] == pytest.approx(2.0)


def test_adapters_do_not_fit_an_encoder_without_layers():
    with pytest.raises(ConfigError, match=r"training\.tune"):
        Tuning(
            build_encoder(
                EncoderConfig(kind="dual_path"), window_seconds=1.0, weights=None, seed=0
            ),
            _lora(),
        ).start()


@pytest.mark.parametrize("tune", ["head", "lora", "full"])
def test_attentive_pooling_learns_in_every_case(tune):
    encoder = _encoder("beats", pooling="attentive")
    Tuning(encoder, TrainingConfig(kind="classify", tune=tune)).start()
    names = {name for name, p in encoder.named_parameters() if p.requires_grad}
    pooling = {name for name, _ in encoder.named_parameters() if name.startswith("poolings.")}
    assert pooling <= names
    if tune == "head":
        assert names == pooling


def test_a_head_alone_would_change_nothing_and_is_refused():
    with pytest.raises(ConfigError, match="attentive"):
        Tuning(_encoder("beats"), TrainingConfig(kind="classify", tune="head")).start()


def test_full_trains_a_frozen_encoder_but_not_its_front_end():
    encoder = _encoder("mn04")
    assert not any(p.requires_grad for p in encoder.parameters())
    tuning = Tuning(encoder, TrainingConfig(kind="classify"))
    tuning.start()
    assert all(p.requires_grad for p in encoder.features.parameters())
    tuning.finish()
    assert not any(p.requires_grad for p in encoder.parameters())


def test_published_batch_norms_keep_their_statistics():
    encoder = _encoder("dasheng", pooling="attentive")
    train_mode(encoder)
    assert not encoder.backbone.init_bn.training
    assert encoder.poolings[0].norm.training
    assert encoder.training


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_weights_that_ran_away_in_the_last_step_are_told(tune):
    encoder = _encoder("beats", pooling="attentive")
    tuning = Tuning(encoder, TrainingConfig(kind="classify", tune=tune))
    tuning.start()
    with torch.no_grad():
        encoder.poolings[0].project.weight[0, 0] = torch.inf
    with pytest.raises(ConfigError, match="finite") as fault:
        tuning.finish()
    assert "training.learning_rate" in str(fault.value)
