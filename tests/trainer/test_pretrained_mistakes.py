"""The parity tests' tolerance would catch the typical mistakes of a re-implementation.

Each mistake is made on purpose; its effect on the stored embeddings must exceed the tolerance, and
be the one that the references' authors' numbers show (`golden/sensitivity.json`), which proves that
it is the same mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from pretrained_golden import ATOL, FILES, Golden, off
from torch import nn

from trainer.zoo import beats, eat, muq
from trainer.zoo.pooling import make_pooling, pool

pytestmark = pytest.mark.shared


def set_eps(model, value):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = value


def replace(model, kind, new):
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, new())


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


# --- BEATs


def no_deep_norm(model, _):
    for layer in model.layers:
        layer.scale = 1.0


def no_gate(model, _):
    for layer in model.layers:
        linear = layer.self_attn.grep_linear
        nn.init.zeros_(linear.weight)
        linear.bias.copy_(torch.tensor([100.0] * 4 + [-100.0] * 4))  # a = 1, b = 0: g = 1


def max_distance_1280(model, patch):
    patch.setattr(beats, "_MAX_DISTANCE", 1280)
    model.buckets = beats.buckets(496)


def no_relative_bias(model, _):
    nn.init.zeros_(model.relative_bias.weight)


def no_position_conv(model, _):
    model.position = Zero()


def trims_the_front(model, patch):
    def forward(self, tokens):
        return self.act(self.conv(tokens.transpose(1, 2))[..., 1:]).transpose(1, 2)

    patch.setattr(beats._PositionConv, "forward", forward)


def frequency_major(model, patch):
    def embed(self, features):
        patches = self.patch_embedding(features.unsqueeze(1)).transpose(2, 3).flatten(2)
        return self.post_extract_proj(self.layer_norm(patches.transpose(1, 2)))

    patch.setattr(beats.Beats, "embed", embed)


def shared_gate_constant(model, _):
    for layer in model.layers[1:]:
        layer.self_attn.grep_a = model.layers[0].self_attn.grep_a


# --- Dasheng, M2D, EAT, MuQ


def no_final_norm(name):
    def change(model, _):
        setattr(model, name, nn.Identity())

    return change


def zero(name):
    def change(model, _):
        getattr(model, name).zero_()

    return change


def swapped_halves(model, _):
    half = model.width // 2
    model.positions.copy_(torch.cat([model.positions[..., half:], model.positions[..., :half]], -1))


def exact_positions(model, _):
    model.positions.copy_(eat.Eat(eat.TINY).positions)


def pre_norm_blocks(model, _):
    for block in model.blocks:
        block.norm_first = True


def no_rotary(model, _):
    model.frequencies.zero_()


# Effects of feeding other features, which are stored, come from the waveform.


def by_features(change: Callable) -> Callable:
    change.features = True
    return change


@by_features
def unscaled_waveform(model, golden):
    model.front_end.scale = 1.0
    return model.features(golden.waveforms())


@by_features
def divided_by_deviation_once(_, golden):
    return 2.0 * golden.array("beats/features.npy")


@by_features
def no_top_db(model, golden):
    power = model.front_end.mel(golden.waveforms())
    return (10.0 * power.clamp(min=1e-10).log10()).transpose(1, 2)


@by_features
def default_statistics_on_features(_, golden):
    return (golden.array("m2d/features.npy") * 4.6 - 6.8 + 7.1) / 4.2


@by_features
def padding_after_normalising(_, golden):
    features = golden.array("eat/features.npy").clone()
    features[:, 998:] = 0.0
    return features


@by_features
def top_db_80(_, golden):
    level = golden.array("muq/features.npy") * muq._STD + muq._MEAN
    return (torch.maximum(level, level.max() - 80.0) - muq._MEAN) / muq._STD


@by_features
def no_mel_statistics(_, golden):
    return golden.array("muq/features.npy") * muq._STD + muq._MEAN


MISTAKES = {
    "beats": {
        "no deep_norm": no_deep_norm,
        "no gru gate": no_gate,
        "max_distance 1280 (class default)": max_distance_1280,
        "no relative bias": no_relative_bias,
        "tanh gelu": lambda m, _: replace(m, nn.GELU, lambda: nn.GELU(approximate="tanh")),
        "no conv pos": no_position_conv,
        "SamePad trims the front": trims_the_front,
        "LayerNorm eps 1e-6": lambda m, _: set_eps(m, 1e-6),
        "waveform not x 2**15": unscaled_waveform,
        "frequency-major token order": frequency_major,
        "divide by std, not 2*std": divided_by_deviation_once,
        "gate const shared between layers": shared_gate_constant,
    },
    "dasheng": {
        "no freq pos": zero("freq_pos_embed"),
        "no top_db": no_top_db,
        "bn eps 1e-3": lambda m, _: setattr(m.init_bn, "eps", 1e-3),
        "no final norm": no_final_norm("norm"),
    },
    "m2d": {
        "default norm_stats": default_statistics_on_features,
        "cls token zero": zero("cls_token"),
        "eps 1e-5": lambda m, _: set_eps(m, 1e-5),
    },
    "eat": {
        "no positions": zero("positions"),
        "time/mel halves of the position table swapped": swapped_halves,
        "no norm before block 0": no_final_norm("pre_norm"),
        "exact instead of stored (fp16-rounded) positions": exact_positions,
        "LayerNorm eps 1e-5": lambda m, _: set_eps(m, 1e-5),
        "zero padding after instead of before normalisation": padding_after_normalising,
        "pre-norm blocks": pre_norm_blocks,
    },
    "muq": {
        "no rotary": no_rotary,
        "gelu not swish in the ffn and conv": lambda m, _: replace(m, nn.SiLU, nn.GELU),
        "no final norm": no_final_norm("layer_norm"),
        "AmplitudeToDB top_db 80": top_db_80,
        "no mel statistics": no_mel_statistics,
    },
}
STORED = {
    "beats": "beats/embedding.npy",
    "dasheng": "dasheng/embedding.npy",
    "m2d": "m2d/embedding_608.npy",
    "eat": "eat/embedding_cls.npy",
    "muq": "muq/embedding.npy",
}


@pytest.mark.parametrize(
    ("family", "mistake"), [(family, name) for family, table in MISTAKES.items() for name in table]
)
def test_is_caught(shared, monkeypatch, family, mistake):
    golden = Golden(shared / "golden")
    model = golden.model(FILES[family])
    change = MISTAKES[family][mistake]
    with torch.no_grad():
        if getattr(change, "features", False):
            features = change(model, golden)
        else:
            change(model, monkeypatch)
            features = golden.array(f"{family}/features.npy")
        mine = pool(make_pooling(model.pooling, model), model.hidden(features)[-1])
    moved = off(mine, golden.array(STORED[family]))
    known = json.loads((shared / "golden/sensitivity.json").read_text())[family][mistake]
    known = known["cls"] if isinstance(known, dict) else known
    print(f"{family} {mistake}: {moved:.3g}, known {known:.3g}")
    assert moved > ATOL
    # EAT's own pre-norm variant also wires its residual otherwise, so its effect isn't the same.
    if mistake != "pre-norm blocks":
        assert moved == pytest.approx(known, rel=0.05)


def test_the_tolerance_is_not_too_tight_either(shared):
    golden = Golden(shared / "golden")
    for family, file in FILES.items():
        model = golden.model(file)
        with torch.inference_mode():
            hidden = model.hidden(golden.array(f"{family}/features.npy"))[-1]
            mine = pool(make_pooling(model.pooling, model), hidden)
        assert off(mine, golden.array(STORED[family])) < ATOL / 2
