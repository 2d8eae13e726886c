"""Transformers in shorter forms: time steps merged, attention heads taken away."""

import copy

import pytest
import torch

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.zoo.prune import prune_heads
from trainer.zoo.vit import merge_steps

FAMILIES = ("beats", "eat")
SECONDS = 2.1  # 13 time steps: one is left over


def build(family, **fields):
    config = EncoderConfig(kind=family, size=fields.pop("size", "tiny"), **fields)
    return build_encoder(config, window_seconds=SECONDS, weights=None, seed=3)


def noise(encoder, batch=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, encoder.window_samples, generator=generator)


def hidden(encoder, waveforms):
    with torch.inference_mode():
        return encoder.backbone.hidden(encoder.backbone.features(waveforms))


def test_two_steps_become_their_mean_and_an_odd_one_stays():
    grid = torch.arange(5 * 2 * 3.0).reshape(1, 5, 2, 3)
    class_token = torch.full((1, 1, 3), -7.0)
    merged = merge_steps(torch.cat([class_token, grid.flatten(1, 2)], dim=1), 2, leading=1)
    assert torch.equal(merged[:, :1], class_token)
    steps = merged[:, 1:].reshape(1, 3, 2, 3)
    assert torch.equal(steps[:, 0], (grid[:, 0] + grid[:, 1]) / 2)
    assert torch.equal(steps[:, 1], (grid[:, 2] + grid[:, 3]) / 2)
    assert torch.equal(steps[:, 2], grid[:, 4])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_layers_before_the_merging_are_untouched_and_later_ones_have_half_the_steps(family, after):
    whole, merged = build(family), build(family, merge_after=after)
    waveforms = noise(whole)
    long, short = hidden(whole, waveforms), hidden(merged, waveforms)
    for layer in range(after + 1):
        torch.testing.assert_close(short[layer].grid, long[layer].grid)
    steps = long[0].grid.shape[1]
    for layer in range(after + 1, 4):
        assert short[layer].grid.shape[1] == -(-steps // 2)
        assert not torch.allclose(short[layer].grid[:, 0], long[layer].grid[:, 0])
    assert merged(waveforms).shape == whole(waveforms).shape


def test_merged_tokens_keep_the_distances_they_had():
    """BEATs hears places by their distance: of steps two apart it stays that of two."""
    whole, merged = build("beats"), build("beats", merge_after=1)
    seen = []
    for encoder in (whole, merged):
        attention = encoder.backbone.layers[2].self_attn
        attention.register_forward_pre_hook(lambda _m, given: seen.append(given[1]))
        hidden(encoder, noise(encoder, 1))
    long, short = seen
    rows = [2 * step * 8 + band for step in range(short.shape[2] // 8) for band in range(8)]
    torch.testing.assert_close(short, long[:, :, rows][:, :, :, rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_patches_that_explain_lie_on_the_whole_grid(family):
    merged = build(family, merge_after=1)
    whole = build(family)
    waveforms = noise(merged, 1)
    with torch.inference_mode():
        assert merged.with_patches(waveforms)[1].shape == whole.with_patches(waveforms)[1].shape


@pytest.mark.parametrize(("family", "size"), [("m2d", "tiny_80x608p16x16"), ("dasheng", "tiny")])
def test_others_say_that_they_merge_nothing(family, size):
    with pytest.raises(ConfigError, match="no form in which tokens are merged") as told:
        build(family, size=size, merge_after=1)
    assert told.value.where == "encoder.merge_after"


def test_there_must_be_a_layer_to_take_what_was_merged():
    with pytest.raises(ConfigError, match="layer 2 is the last"):
        build("beats", layers=(1, 2), merge_after=2)
    with pytest.raises(ConfigError, match="means nothing to log_mel"):
        build("log_mel", size="", merge_after=0)


@pytest.mark.parametrize(
    ("family", "size"),
    [("beats", "tiny"), ("eat", "tiny"), ("m2d", "tiny_80x608p16x16"), ("dasheng", "tiny")],
)
def test_a_head_that_always_says_the_same_is_dropped_without_a_trace(family, size):
    """Its values are made constant: nothing is lost, as what it adds goes into a bias."""
    encoder = build(family, size=size)
    for number, attention in enumerate(encoder.backbone.attentions()):
        mute = slice(number * attention.size, (number + 1) * attention.size)
        with torch.no_grad():
            if hasattr(attention, "qkv"):
                width = attention.heads * attention.size
                attention.qkv.weight[2 * width :][mute] = 0
                attention.qkv.bias[2 * width :][mute] = 1
            else:
                attention.v_proj.weight[mute] = 0
                attention.v_proj.bias[mute] = 1
    waveforms = noise(encoder)
    with torch.inference_mode():
        wanted = encoder(waveforms)
    pruned = copy.deepcopy(encoder)
    kept = prune_heads(pruned.backbone, waveforms, 3)
    assert [set(range(4)) - set(heads) for heads in kept] == [{0}, {1}, {2}]
    with torch.inference_mode():
        torch.testing.assert_close(pruned(waveforms), wanted, rtol=1e-4, atol=1e-5)
    fewer, more = (sum(p.numel() for p in e.parameters()) for e in (pruned, encoder))
    assert fewer < more


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_encoders_values_fit_the_encoder_its_preset_builds(family):
    encoder = build(family)
    waveforms = noise(encoder)
    prune_heads(encoder.backbone, waveforms, 2)
    again = build(family, heads=2)
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again(waveforms), encoder(waveforms))


@pytest.mark.parametrize("heads", [0, 4, 5])
def test_as_many_heads_as_there_are_cannot_be_left(heads):
    encoder = build("eat")
    with pytest.raises(ConfigError, match="4 in a layer"):
        prune_heads(encoder.backbone, noise(encoder), heads)


def test_more_heads_than_there_are_are_refused_in_a_preset():
    with pytest.raises(ConfigError, match="too many: BEATs has 4") as told:
        build("beats", heads=5)
    assert told.value.where == "encoder.heads"
