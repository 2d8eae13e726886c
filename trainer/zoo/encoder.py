"""A pre-trained encoder behind the one interface: layers chosen, pooled and joined."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from agent.explain.grid import PatchGrid
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder
from trainer.zoo.backbone import Backbone, CheckpointError, Hidden, load_translation
from trainer.zoo.checkpoints import read_checkpoint
from trainer.zoo.families import FAMILIES, Family
from trainer.zoo.identify import identify
from trainer.zoo.pooling import POOLINGS, make_pooling, pool, pooled_width

_LOG = logging.getLogger(__name__)
_SHORTEST = 0.5  # seconds: shorter, and some encoders have no token left


class PretrainedEncoder(Encoder):
    """A backbone, the layers it is asked for, and a pooling for each.

    Layers after the last one used are dropped, from memory and from the exported graph.

    Args:
        backbone: The encoder, at full depth.
        window_samples: Length of the waveform it takes, samples.
        layers: Hidden states used, ascending: 0 is the first layer's input, k layer k's output.
        pooling: A name of `pooling.POOLINGS`.
        exponent: Of `gem`, `rdp` and `rdp_gem`; None for the published ones.
        pooled_dim: Length of what `attentive` gives for a layer.
        merge_after: Layers after which tokens of neighbouring time steps are merged; None for none.

    Raises:
        ConfigError: Tokens cannot be merged, or no layer is left to take those that were.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        window_samples: int,
        layers: Sequence[int],
        pooling: str,
        exponent: float | None = None,
        pooled_dim: int = 256,
        merge_after: int | None = None,
    ) -> None:
        super().__init__()
        if merge_after is not None and merge_after >= max(layers):
            raise ConfigError(
                f"leaves no layer that takes the merged tokens: layer {max(layers)} is the last",
                where="encoder.merge_after",
                remedy=f"Give at most {max(layers) - 1}, or leave it out.",
            )
        self.kind = backbone.family
        self.sample_rate = backbone.sample_rate
        self.window_samples = window_samples
        self.layers = tuple(layers)
        self.merge_after = merge_after
        if merge_after is not None:
            backbone.merge(merge_after)
        backbone.truncate(max(self.layers))
        self.backbone = backbone
        self.poolings = nn.ModuleList(
            make_pooling(pooling, backbone, exponent=exponent, dim=pooled_dim) for _ in self.layers
        )
        self.dim = len(self.layers) * pooled_width(pooling, backbone, pooled_dim)
        # Whether a loss sees the last layer alone (`training.learn_from`).
        self.learn_last = False
        self.has_values = False
        self.register_load_state_dict_post_hook(_mark_loaded)  # type: ignore[no-untyped-call]

    @property
    def patch_grid(self) -> PatchGrid:
        """Where the tokens lie."""
        return self.backbone.grid()

    @property
    def learnt_dim(self) -> int:
        """Length of what a loss sees."""
        return self.dim // len(self.layers) if self.learn_last else self.dim

    @property
    def last_columns(self) -> tuple[int, int]:
        """Where the last layer's vector lies."""
        return (self.dim - self.dim // len(self.layers), self.dim)

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """The embedding, or the last layer's part of it where a loss sees that alone."""
        if not self.learn_last:
            return (self(waveform),)
        hidden = self.backbone.hidden(self.backbone.features(waveform))
        return (pool(self.poolings[-1], hidden[self.layers[-1]]),)

    def with_patches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Embed, and give the tokens of the middle one of the layers that are left.

        The first layers tell frequencies and levels apart, the last ones have every token know of
        all others.
        """
        hidden = self.backbone.hidden(self.backbone.features(waveform))
        middle = (max(self.layers) + 1) // 2
        if self.merge_after is not None:  # later ones are coarser than the grid says
            middle = min(middle, self.merge_after)
        return self._pooled(hidden), hidden[middle].grid

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `(batch, window_samples)` as `(batch, dim)`: the layers' vectors, joined."""
        if not self.has_values and not torch.compiler.is_compiling():
            _LOG.warning(
                "The encoder '%s' has RANDOM weights: no checkpoint was given (encoder.weights is "
                "null). Its embeddings mean nothing; use this for tests and timing only.",
                self.kind,
            )
            self.has_values = True
        return self._pooled(self.backbone.hidden(self.backbone.features(waveform)))

    def _pooled(self, hidden: Sequence[Hidden]) -> Tensor:
        pooled = [
            pool(pooling, hidden[layer])
            for layer, pooling in zip(self.layers, self.poolings, strict=True)
        ]
        return torch.cat(pooled, dim=1)


def _mark_loaded(module: nn.Module, _keys: object) -> None:
    module.has_values = True  # type: ignore[assignment]


def build_pretrained(
    config: EncoderConfig, *, window_seconds: float, checkpoint: Path | None
) -> PretrainedEncoder:
    """Make the encoder of a preset's `encoder` section.

    Args:
        config: The section; its kind is one of `families.FAMILIES`.
        window_seconds: Length of the waveform it will take, seconds.
        checkpoint: The published file; None leaves random values, for a caller that restores a
            run's own next (a warning tells when they are used instead).

    Raises:
        CheckpointError: The file can't be read, or is another model's or another size's.
        ConfigError: A size, layer or pooling does not exist, or the window is too short.
    """
    family = FAMILIES[config.kind]
    if window_seconds < _SHORTEST:
        raise ConfigError(
            f"{family.title} needs windows of at least {_SHORTEST} s, not {window_seconds} s",
            where="window.seconds",
            remedy="Lengthen the window.",
        )
    size = config.size or family.default
    try:
        architecture = family.resolve(size)
    except KeyError as fault:
        raise ConfigError(
            f"{family.title} has no size '{size}'",
            where="encoder.size",
            remedy=f"Choose one of {', '.join(family.sizes)}.",
        ) from fault
    # The rate may depend on the size (M2D), so the window's samples are known only afterwards.
    rate = architecture.extra.get("rate") or (24000 if family.name == "muq" else 16000)
    samples = round(window_seconds * rate)
    backbone = family.build(architecture, samples)
    layers = _layers(config.layers, backbone, family)
    if checkpoint is not None:
        _fill(backbone, family, size, checkpoint)
    if config.heads is not None:
        _keep_heads(backbone, config.heads, family, filled=checkpoint is not None)
    pooling = config.pooling or backbone.pooling
    try:
        encoder = PretrainedEncoder(
            backbone,
            window_samples=samples,
            layers=layers,
            pooling=pooling,
            exponent=config.pooling_exponent,
            pooled_dim=config.pooling_dim,
            merge_after=config.merge_after,
        )
    except KeyError as fault:
        available = [name for name in POOLINGS if name != "summary" or backbone.summarised()]
        raise ConfigError(
            f"{family.title} has no pooling '{pooling}'",
            where="encoder.pooling",
            remedy=f"Choose one of {', '.join(available)}.",
        ) from fault
    encoder.has_values = checkpoint is not None
    return encoder


def _layers(wanted: Sequence[int], backbone: Backbone, family: Family) -> tuple[int, ...]:
    if not wanted:
        return (backbone.depth,)
    wrong = [layer for layer in wanted if not 0 <= layer <= backbone.depth]
    if wrong or len(set(wanted)) != len(wanted):
        raise ConfigError(
            f"{family.title} of this size has layers 0 (its input) to {backbone.depth}, each to be "
            f"named once, not {', '.join(map(str, wanted))}",
            where="encoder.layers",
            remedy="Leave it empty for the last layer.",
        )
    return tuple(sorted(wanted))


def _keep_heads(backbone: Backbone, heads: int, family: Family, *, filled: bool) -> None:
    """Make room for so many heads in each layer, whose values a run brings."""
    attentions = backbone.attentions()
    most = min((one.heads for one in attentions), default=0)
    if filled or not attentions or heads > most:
        why = f"is too many: {family.title} has {most} that can be told apart"
        if filled:
            why = "does not say which heads of a published checkpoint are left"
        raise ConfigError(
            why, where="encoder.heads", remedy="Leave it out, and use `auscult shorten` on a run."
        )
    for attention in attentions:
        attention.keep(range(heads))


def _fill(backbone: Backbone, family: Family, size: str, path: Path) -> None:
    """Load a published file into a backbone of full depth."""
    checkpoint = read_checkpoint(path)
    identity = identify(checkpoint)
    if identity.family is not family:
        raise CheckpointError(
            f"is {identity.family.title}'s, not {family.title}'s",
            where=path,
            remedy=f"Set encoder.kind: {identity.family.name}, or give the right file.",
        )
    if identity.architecture != family.resolve(size):
        raise CheckpointError(
            f"is {family.title} of size '{identity.size or identity.architecture}', not '{size}'",
            where=path,
            remedy=f"Set encoder.size: {identity.size}."
            if identity.size
            else "Give a published file.",
        )
    if family.terms:
        _LOG.warning("%s", family.terms)
    load_translation(backbone, family.translate(checkpoint.tensors), where=str(path))
