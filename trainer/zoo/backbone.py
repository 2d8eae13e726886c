"""What every pre-trained encoder offers: hidden states of every layer on a time-frequency grid."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from agent.explain.grid import PatchGrid

_LOG = logging.getLogger(__name__)


class CheckpointError(ConfigError):
    """A pre-trained checkpoint that is missing, damaged, hostile or another model's."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """One layer's output.

    Attributes:
        grid: Tokens, shape `(batch, time, bands, width)`; bands is 1 for encoders whose tokens
            span all frequencies.
        summary: Class token, shape `(batch, width)`; None for encoders without one.
    """

    grid: Tensor
    summary: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers a backbone is built from.

    Attributes:
        width: Length of a token.
        depth: Transformer layers.
        heads: Attention heads.
        hidden: Width of the feed-forward layers.
        extra: What only one family needs (`{"patch_width": 512}`).
    """

    width: int
    depth: int
    heads: int
    hidden: int
    extra: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translation:
    """A published file's tensors under this project's names.

    Attributes:
        tensors: Ours by name.
        ignored: Published names that the encoder does not need (heads, decoders, counters).
        unexpected: Published names that no known layout of this encoder has: a head of someone's
            own, most likely. They don't keep the encoder from being read, but are told.
    """

    tensors: dict[str, Tensor]
    ignored: tuple[str, ...]
    unexpected: tuple[str, ...]


class Prunable(nn.Module, ABC):
    """Attention that heads can be taken from.

    Attributes:
        heads: Heads there are.
        size: Length of a head's queries, keys and values.
        output: Linear layer that takes the heads' results, joined.
    """

    heads: int
    size: int

    @property
    @abstractmethod
    def output(self) -> nn.Module:
        """Takes the heads' results, joined, `(..., heads * size)`."""

    @abstractmethod
    def keep(self, heads: Sequence[int]) -> None:
        """Leave some heads alone, and drop the others.

        Args:
            heads: Numbers of those that are kept, ascending.
        """


class Backbone(nn.Module, ABC):
    """A published encoder without its poolings.

    Attributes:
        family: Its name, as presets call it.
        sample_rate: Rate of the waveform it takes, Hz.
        width: Length of a token.
        depth: Layers it has now (fewer than published once truncated).
        pooling: How its authors make one vector of a clip (a name of `pooling.POOLINGS`).
    """

    family: str
    sample_rate: int
    width: int
    depth: int
    pooling: str = "mean"

    @abstractmethod
    def features(self, waveform: Tensor) -> Tensor:
        """Run the front end.

        Args:
            waveform: float32, shape `(batch, samples)`, full scale 1.0.

        Returns:
            What the first layer takes, normalised as the encoder was trained.
        """

    @abstractmethod
    def hidden(self, features: Tensor) -> list[Hidden]:
        """Run the transformer.

        Args:
            features: As `features` gives them.

        Returns:
            `depth + 1` states: entry 0 is the first layer's input, entry k the output of layer k.
            The published last layer comes after the encoder's final norm where it has one.
        """

    @abstractmethod
    def truncate(self, depth: int) -> None:
        """Drop every layer after `depth`, and the final norm, which belongs to the last one.

        Args:
            depth: Layers to keep, at most the present depth. Nothing is dropped when equal.
        """

    @abstractmethod
    def grid(self) -> PatchGrid:
        """Where its tokens lie in time and frequency."""

    def merge(self, after: int) -> None:
        """Make one token of those of two neighbouring time steps, from some layer on.

        Args:
            after: Layers that still take all of them.

        Raises:
            ConfigError: This encoder has no such form.
        """
        raise ConfigError(
            f"{self.family} has no form in which tokens are merged (after layer {after})",
            where="encoder.merge_after",
            remedy="Leave it out; beats and eat have one.",
        )

    def attentions(self) -> list[Prunable]:
        """The attention of each layer, where heads can be taken from it; else none."""
        return [module for module in self.modules() if isinstance(module, Prunable)]

    def bands(self) -> int:
        """Frequency rows of the token grid."""
        return 1

    def summarised(self) -> bool:
        """Whether it has a class token."""
        return False


def load_translation(backbone: Backbone, translation: Translation, *, where: str) -> None:
    """Put a checkpoint's tensors into a full-depth backbone.

    Raises:
        CheckpointError: A tensor is missing, one too many, of another shape, or not finite.
    """
    want = dict(backbone.state_dict())
    have = translation.tensors
    faults = compare(want, translation)
    if faults:
        raise CheckpointError(
            f"does not fit the encoder '{backbone.family}': {'; '.join(faults)}",
            where=where,
            remedy="`auscult pretrained check FILE` says what the file is; download it again if it "
            "should be whole.",
        )
    if translation.unexpected:
        _LOG.warning(
            "%s: %d tensors are of unknown purpose and left out: %s",
            where,
            len(translation.unexpected),
            summarise(translation.unexpected),
        )
    broken = [name for name, tensor in have.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise CheckpointError(
            f"holds values that are not finite in {summarise(broken)}",
            where=where,
            remedy="The file is damaged: download it again.",
        )
    # Half-precision files are common; everything here computes in float32.
    backbone.load_state_dict(
        {name: tensor.to(want[name].dtype) for name, tensor in have.items()}, strict=True
    )


def compare(want: Mapping[str, Tensor], translation: Translation) -> list[str]:
    """What keeps a translated checkpoint from fitting a model's state, in words."""
    have = translation.tensors
    faults = []
    missing = sorted(want.keys() - have.keys())
    extra = sorted(have.keys() - want.keys())
    wrong = [
        f"{name} is {tuple(have[name].shape)}, not {tuple(want[name].shape)}"
        for name in sorted(want.keys() & have.keys())
        if have[name].shape != want[name].shape
    ]
    if missing:
        faults.append(f"{len(missing)} tensors are missing: {summarise(missing)}")
    if extra:
        faults.append(f"{len(extra)} tensors are too many: {summarise(extra)}")
    if wrong:
        faults.append(f"{len(wrong)} tensors have another shape: {summarise(wrong)}")
    return faults


def summarise(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    head = ", ".join(names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


def translate(
    tensors: Mapping[str, Tensor],
    *,
    rename: Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    known: Iterable[str] = (),
) -> Translation:
    """Rename a file's tensors by prefix and sort out those that are not needed.

    Args:
        tensors: By published name.
        rename: Published prefix to ours; the first that fits is used.
        ignore: Published prefixes of tensors to leave out.
        known: Prefixes of ours; a tensor with none of them (after renaming) is unexpected.
    """
    ours: dict[str, Tensor] = {}
    ignored: list[str] = []
    unexpected: list[str] = []
    known = tuple(known)
    for name, tensor in tensors.items():
        if name.startswith(tuple(ignore)):
            ignored.append(name)
            continue
        new = name
        for old, replacement in (rename or {}).items():
            if name.startswith(old):
                new = replacement + name[len(old) :]
                break
        if new.startswith(known):
            ours[new] = tensor
        else:
            unexpected.append(name)
    return Translation(ours, tuple(ignored), tuple(unexpected))
