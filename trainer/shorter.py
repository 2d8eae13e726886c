"""Shorter forms of a run's transformer: fewer layers, merged time steps, fewer attention heads."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
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
_PARTS = {"layer": "last", "merge": "merge_after", "heads": "heads"}
_SPELT = re.compile(r"(layer|merge|heads)(\d{1,3})")
# mn04 has no form that is measured here, but features that take less (docs/notes/speed.md).
_MN04 = "Of mn04 a preset of your own may take `features: block7_balanced`, a quarter cheaper. "
# What a device can do instead, where the encoder itself has no shorter form.
_INSTEAD = (
    "Give the device fewer windows (`hop: auto`, or a longer `hop`), or train a preset that takes "
    "less, such as auscult_scratch; `auscult tune` on the device tells what it can run."
)


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


def asked_forms(record: RunRecord, encoder: Encoder, names: Sequence[str]) -> list[Form]:
    """Forms by name, as somebody asks for them: `layer8`, `merge4+heads6`.

    Args:
        record: The run's record.
        encoder: Its encoder.
        names: What `Form.name` gives.

    Raises:
        ConfigError: A name is none, or the encoder has no such form; it says which there are.
    """
    _transformer(record, encoder)
    found = []
    for name in names:
        form = _spelt(name)
        for kind in ("last", "merge_after", "heads"):
            if kind in form.kinds:
                _check(kind, form, record, encoder)
        found.append(form)
    return list(dict.fromkeys(found))


def _spelt(name: str) -> Form:
    given: dict[str, int] = {}
    for part in name.split("+"):
        match = _SPELT.fullmatch(part)
        if match is None or _PARTS[match[1]] in given:
            raise ConfigError(
                f"'{name}' is no form",
                where="--form",
                remedy="Give layer8 (layers after the eighth dropped), merge4 (time steps merged "
                "after layer 4), heads6 (six heads left), or several joined by +.",
            )
        given[_PARTS[match[1]]] = int(match[2])
    return Form(**given)


def _check(kind: str, form: Form, record: RunRecord, encoder: Encoder) -> None:
    """Refuse one part of a form that the encoder cannot have."""
    whole, config = _transformer(record, encoder), record.preset.encoder
    last, heads = max(whole.layers), _heads(whole)
    title = FAMILIES[config.kind].title
    problem, remedy = "", "Ask for another form, or for none: then all that it has are measured."
    if kind == "last" and not _by_layers(record):
        problem = (
            f"{title} cannot be cut after a layer here: the scorer's parts or the attentive "
            "pooling were learnt of the layers there are"
        )
    elif kind == "last" and not 1 <= (form.last or 0) < last:
        problem = f"layer {form.last} cannot be the last: the run uses layers up to {last}"
        remedy = f"Give one from layer1 to layer{last - 1}." if last > 1 else remedy
    elif kind == "merge_after" and not _by_merging(record):
        problem = (
            f"{title}'s time steps cannot be merged: that is for {' and '.join(_MERGING)}, once"
        )
    elif kind == "merge_after" and not 0 <= (form.merge_after or 0) < (form.last or last):
        end = (form.last or last) - 1
        problem = f"merge{form.merge_after} leaves no layer that takes the merged tokens"
        remedy = f"Give one from merge0 to merge{end}."
    elif kind == "heads" and not 1 <= (form.heads or 0) < heads:
        problem = f"{title} has {heads} attention heads a layer that can be taken away here"
        remedy = f"Give one from heads1 to heads{heads - 1}." if heads > 1 else remedy
    if problem:
        raise ConfigError(problem, where="--form", remedy=remedy)


def _by_layers(record: RunRecord) -> bool:
    # The layers' vectors are parts of the embedding that a fusion judges by their places; a learnt
    # pooling is of its own layer.
    fused = isinstance(record.preset.scorer, FusionConfig)
    return not fused and record.preset.encoder.pooling != "attentive"


def _by_merging(record: RunRecord) -> bool:
    config = record.preset.encoder
    return config.kind in _MERGING and config.merge_after is None


def _heads(whole: PretrainedEncoder) -> int:
    return min((one.heads for one in whole.backbone.attentions()), default=0)


def forms_of(record: RunRecord, encoder: Encoder) -> list[Form]:
    """Forms worth measuring, each by one means; the whole one is not among them.

    Args:
        record: The run's record.
        encoder: Its encoder.

    Raises:
        ConfigError: It is no transformer, or several encoders joined, or too small to be shortened.
    """
    whole = _transformer(record, encoder)
    last = max(whole.layers)
    found = []
    if _by_layers(record):
        lasts = {round(share * last) for share in _LAST} - {0, last}
        found += [Form(last=one) for one in sorted(lasts, reverse=True)]
    if _by_merging(record):
        afters = {int(share * last) for share in _AFTER} - {last}
        found += [Form(merge_after=one) for one in sorted(afters, reverse=True)]
    heads = _heads(whole)
    counts = {round(share * heads) for share in _HEADS} - {0, heads}
    found += [Form(heads=one) for one in sorted(counts, reverse=True)]
    if not found:
        raise ConfigError(
            f"uses {FAMILIES[whole.kind].title} so that it has no shorter form",
            where="encoder",
            remedy=_INSTEAD,
        )
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
    if isinstance(encoder, PretrainedEncoder):
        return encoder
    config = record.preset.encoder
    kinds = list(dict.fromkeys(part.kind for part in config.each))
    what = f"has the encoder {kinds[0]}, which"
    if config.kind == "joined":
        what = f"joins the encoders {', '.join(kinds)}: joined, they"
    elif config.segments > 1:
        what = f"has {kinds[0]} on {config.segments} pieces of a window, which"
    raise ConfigError(
        f"{what} {'have' if config.kind == 'joined' else 'has'} no shorter form: they are of one "
        f"transformer alone ({', '.join(FAMILIES)})",
        where="encoder.kind",
        remedy=(_MN04 if "mn04" in kinds else "") + _INSTEAD,
    )
