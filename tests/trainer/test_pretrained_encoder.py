"""The encoders behind the one interface: layers, poolings, truncation, weights, refusals."""

from __future__ import annotations

import logging

import pytest
import torch
from pretrained_golden import FILES, M2D_608, SIZES, Golden, off

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.zoo.backbone import CheckpointError
from trainer.zoo.encoder import PretrainedEncoder

FAMILIES = sorted(FILES)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny models lose more by handing work to threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(family, *, weights=None, seconds=2.0, seed=0, **fields):
    config = EncoderConfig(
        kind=family,
        size=fields.pop("size", SIZES[family]),
        weights=None if weights is None else weights.name,
        **fields,
    )
    return build_encoder(config, window_seconds=seconds, weights=weights, seed=seed)


def noise(encoder, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, encoder.window_samples, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_layers_are_joined_in_order_and_are_the_full_models_states(family):
    every = build(family, layers=(1, 2, 3), pooling="mean")
    waveform = noise(every)
    joined = every(waveform)
    assert joined.shape == (2, every.dim) == (2, 3 * 64)
    for place, layer in enumerate((1, 2, 3)):
        single = build(family, layers=(layer,), pooling="mean")
        assert single.dim == 64
        assert off(single(waveform), joined[:, 64 * place : 64 * (place + 1)]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_drops_the_later_layers_weights(family):
    whole, cut = build(family), build(family, layers=(1,))
    more, fewer = (sum(p.numel() for p in e.parameters()) for e in (whole, cut))
    assert cut.backbone.depth == 1
    blocks = {
        n.split(".")[2]
        for n, _ in cut.backbone.named_parameters(prefix="backbone")
        if ".blocks." in n or ".layers." in n
    }
    assert blocks == {"0"}
    assert fewer < more - 2 * 30_000  # a tiny layer has more than 30,000 values


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "pooling", ["mean", "max", "mean_max", "gem", "rdp", "rdp_gem", "attentive", "bands"]
)
@torch.inference_mode()
def test_poolings(family, pooling):
    encoder = build(family, pooling=pooling, seconds=0.6, pooling_dim=24)
    mine = encoder(noise(encoder))
    assert mine.shape == (2, encoder.dim)
    assert torch.isfinite(mine).all()
    assert off(mine[:1], mine[1:]) > 1e-6, "two windows, two embeddings"


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_window_does_not_depend_on_its_neighbours(family):
    encoder = build(family)
    waveform = noise(encoder, 3)
    waveform[1] *= 30.0
    together = encoder(waveform)
    alone = torch.cat([encoder(clip[None]) for clip in waveform])
    assert off(together, alone) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_silence_is_finite(family):
    encoder = build(family)
    assert torch.isfinite(encoder(torch.zeros(1, encoder.window_samples))).all()


def test_random_weights_are_told_aloud_once_and_not_after_restoring(caplog):
    encoder = build("dasheng")
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        encoder(noise(encoder))
        encoder(noise(encoder))
    assert sum("RANDOM" in record.getMessage() for record in caplog.records) == 1
    caplog.clear()
    restored = build("dasheng", seed=1)
    restored.load_state_dict(encoder.state_dict())
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        assert off(restored(noise(restored)), encoder(noise(encoder))) == 0.0
    assert not caplog.records


def test_same_seed_same_values():
    one, same, other = (build("eat", seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"layers": (4,)}, "encoder.layers"),
        ({"layers": (-1,)}, "encoder.layers"),
        ({"layers": (1, 1)}, "encoder.layers"),
        ({"pooling": "summary"}, "encoder.pooling"),
        ({"size": "huge"}, "encoder.size"),
        ({"seconds": 0.2}, "window.seconds"),
        ({"features": "block12"}, "encoder.features"),
    ],
)
def test_a_field_that_means_nothing_is_named(fields, field):
    with pytest.raises(ConfigError) as fault:
        build("beats", **fields)
    assert fault.value.where == field
    assert fault.value.remedy


def test_transformer_fields_are_refused_for_others():
    with pytest.raises(ConfigError, match=r"encoder\.layers"):
        build_encoder(
            EncoderConfig(kind="log_mel", layers=(3,)), window_seconds=1.0, weights=None, seed=0
        )


def test_a_window_without_positions_is_refused():
    with pytest.raises(ConfigError, match="positions for 12 s"):
        build("eat", seconds=12.0)


def test_windows_longer_than_training_are_not_cut_short():
    encoder = build("eat", seconds=11.0)
    assert encoder.backbone.frames == 1104
    waveform = noise(encoder)
    changed = waveform.clone()
    changed[:, round(10.5 * 16000) :] *= -0.1
    with torch.inference_mode():
        assert off(encoder(waveform), encoder(changed)) > 1e-4


@pytest.mark.shared
@pytest.mark.parametrize("family", FAMILIES)
def test_published_file_by_preset(shared, family, caplog):
    golden = Golden(shared / "golden")
    path = golden.root / FILES[family]
    waveforms = golden.waveforms(family=family)
    seconds = waveforms.shape[1] / (24000 if family == "muq" else 16000)
    with caplog.at_level(logging.WARNING):
        encoder = build(family, weights=path, seconds=seconds)
        assert isinstance(encoder, PretrainedEncoder)
        with torch.inference_mode():
            mine = encoder(waveforms)
    name = {"eat": "embedding_cls", "m2d": "embedding_608", "dasheng": "embedding_one_by_one"}
    reference = golden.array(f"{family}/{name.get(family, 'embedding')}.npy")
    assert off(mine, reference) < 5e-5
    told = " ".join(record.getMessage() for record in caplog.records)
    assert ("commercial" in told) == (family in {"m2d", "muq"}), "licence terms before use"
    assert "RANDOM" not in told


@pytest.mark.shared
def test_another_encoders_file_is_refused_by_name(shared):
    path = shared / "golden" / FILES["eat"]
    with pytest.raises(CheckpointError, match="is EAT's, not BEATs's"):
        build("beats", weights=path)
    with pytest.raises(CheckpointError, match="size 'tiny', not 'base'"):
        build("eat", size="base", weights=path)


@pytest.mark.shared
def test_m2d_needs_its_folders_name(shared, tmp_path):
    copy = tmp_path / "renamed" / "checkpoint-300.pth"
    copy.parent.mkdir()
    copy.write_bytes((shared / "golden" / M2D_608).read_bytes())
    with pytest.raises(CheckpointError, match="folder 'renamed'"):
        build("m2d", weights=copy)
