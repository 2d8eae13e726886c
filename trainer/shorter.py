"""Shorter forms of a run's transformer: fewer layers, merged time steps, fewer attention heads."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from agent.config.scorer import FusionConfig
from agent.core.errors import ConfigError
from agent.core.records import Matrix
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.run import RunRecord
from trainer.zoo.encoder import PretrainedEncoder
from trainer.zoo.families import FAMILIES
from trainer.zoo.prune import prune_heads

# Which forms are tried: of the layers that are used, and of a layer's heads.
_LAST = (5 / 6, 2 / 3, 1 / 2, 1 / 3)
_AFTER = (0, 1 / 3, 2 / 3)
_HEADS = (3 / 4, 1 / 2)
_MERGING = ("beats", "eat")


@dataclass(frozen=True, slots=True)
class Form:
    """What a transformer is shortened by; None leaves a part of it as it is.

    Attributes:
        last: The last layer used.
        merge_after: Layers that still take every token.
        heads: Attention heads left in each layer.
    """

    last: int | None = None
    merge_after: int | None = None
    heads: int | None = None

    @property
    def name(self) -> str:
        """A name for folders and tables: `full`, or `layer8+merge4+heads6`."""
        parts = (("layer", self.last), ("merge", self.merge_after), ("heads", self.heads))
        return "+".join(f"{what}{number}" for what, number in parts if number is not None) or "full"

    @property
    def kinds(self) -> frozenset[str]:
        """What it changes."""
        names = ("last", "merge_after", "heads")
        return frozenset(name for name in names if getattr(self, name) is not None)

    def joined(self, other: Form) -> Form | None:
        """Both at once; None where they change one thing, or nothing is left to be merged."""
        if self.kinds & other.kinds:
            return None
        made = Form(*(getattr(self if name in self.kinds else other, name)
                      for name in ("last", "merge_after", "heads")))  # fmt: skip
        if made.last is not None and made.merge_after is not None and made.merge_after >= made.last:
            return None
        return made


def forms_of(record: RunRecord, encoder: Encoder) -> list[Form]:
    """Forms worth measuring, each by one means; the whole one is not among them.

    Args:
        record: The run's record.
        encoder: Its encoder.

    Raises:
        ConfigError: It is no transformer, or several encoders joined.
    """
    whole = _transformer(record, encoder)
    config, last = record.preset.encoder, max(whole.layers)
    found = []
    # The layers' vectors are parts of the embedding that a fusion judges by their places; a learnt
    # pooling is of its own layer.
    if not isinstance(record.preset.scorer, FusionConfig) and config.pooling != "attentive":
        lasts = {round(share * last) for share in _LAST} - {0, last}
        found += [Form(last=one) for one in sorted(lasts, reverse=True)]
    if config.kind in _MERGING and config.merge_after is None:
        afters = {int(share * last) for share in _AFTER} - {last}
        found += [Form(merge_after=one) for one in sorted(afters, reverse=True)]
    heads = min((one.heads for one in whole.backbone.attentions()), default=0)
    counts = {round(share * heads) for share in _HEADS} - {0, heads}
    found += [Form(heads=one) for one in sorted(counts, reverse=True)]
    return found


def shorten(
    record: RunRecord, encoder: Encoder, form: Form, waveforms: Matrix
) -> tuple[RunRecord, Encoder]:
    """A run in a shorter form.

    Args:
        record: The whole run's record.
        encoder: Its encoder, left as it is.
        form: The form.
        waveforms: Healthy windows, float32 `(n, window_samples)`, by which heads are told apart.

    Returns:
        Record and encoder of the shorter run.

    Raises:
        ConfigError: The encoder has no such form.
    """
    whole = copy.deepcopy(_transformer(record, encoder))
    config, places = _config(record.preset.encoder, whole, form)
    if form.heads is not None:
        prune_heads(whole.backbone, torch.from_numpy(waveforms), form.heads)
    preset = record.preset.model_copy(update={"encoder": config})
    short = build_encoder(
        config.without_weights(), window_seconds=preset.window.seconds, weights=None,
        seed=record.seed,
    )  # fmt: skip
    values = _moved(whole.state_dict(), places)
    short.load_state_dict({name: values[name] for name in short.state_dict()})
    cast("PretrainedEncoder", short).has_values = True
    return record.model_copy(update={"preset": preset}), short.eval()


def _config(
    config: EncoderConfig, whole: PretrainedEncoder, form: Form
) -> tuple[EncoderConfig, list[int]]:
    """The preset's section, and which of the pooled layers are left (those of one layer: it)."""
    update: dict[str, object] = {}
    places = list(range(len(whole.layers)))
    if form.last is not None:
        left = tuple(layer for layer in whole.layers if layer <= form.last)
        places = list(range(len(left))) or [0]
        update["layers"] = left or (form.last,)
    if form.merge_after is not None:
        update["merge_after"] = form.merge_after
    elif form.last is not None and config.merge_after is not None:
        update["merge_after"] = config.merge_after if config.merge_after < form.last else None
    if form.heads is not None:
        update["heads"] = form.heads
    return config.model_copy(update=update), places


def _moved(values: dict[str, Tensor], places: list[int]) -> dict[str, Tensor]:
    """An encoder's values, the poolings numbered anew."""
    found = {name: value for name, value in values.items() if not name.startswith("poolings.")}
    for new, old in enumerate(places):
        start = f"poolings.{old}."
        for name, value in values.items():
            if name.startswith(start):
                found[f"poolings.{new}.{name.removeprefix(start)}"] = value
    return found


def _transformer(record: RunRecord, encoder: Encoder) -> PretrainedEncoder:
    if not isinstance(encoder, PretrainedEncoder):
        raise ConfigError(
            f"has the encoder '{record.preset.encoder.kind}', which has no shorter form",
            where="encoder.kind",
            remedy=f"Shorter forms are of one transformer alone: {', '.join(FAMILIES)}.",
        )
    return encoder
