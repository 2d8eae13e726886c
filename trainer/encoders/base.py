"""The one interface of every encoder: a batch of waveforms in, a batch of embeddings out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from agent.config.scorer import ScorerConfig, place_columns
from agent.explain.grid import PatchGrid


@dataclass(frozen=True, slots=True)
class View:
    """Columns of an embedding that a scorer may judge by themselves.

    Attributes:
        name: What they are called in a preset.
        start: The first of them.
        stop: The one behind the last.
        level: Whether they are in dB and rise by g dB with a gain of g dB.
        low_hz: Lowest frequency heard, Hz; None when not known.
        high_hz: Highest.
    """

    name: str
    start: int
    stop: int
    level: bool = False
    low_hz: float | None = None
    high_hz: float | None = None

    def moved(self, columns: int) -> View:
        """This view in an embedding with so many columns before it."""
        return replace(self, start=self.start + columns, stop=self.stop + columns)


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """A front end that makes frames, each of a short stretch of the waveform and nothing else.

    Given a stretch of whole hops, it makes as many frames; but for those at the edges, where it
    makes sound up, they are those it makes of any longer waveform there.

    Attributes:
        front_end: Waveform `(batch, n)` to a tensor with the frames along its last axis.
        hop: Samples from one frame to the next.
        head: Frames at the beginning that depend on where the waveform begins.
        tail: Frames at the end that depend on where it ends.
        chunk: Frames best made at once; None for the exporter's choice.
    """

    front_end: nn.Module
    hop: int
    head: int
    tail: int
    chunk: int | None = None


def placed(scorer: ScorerConfig, encoder: Encoder) -> ScorerConfig:
    """A scorer with the columns of the encoder's parts and views that it names.

    Raises:
        ConfigError: It names a view that the encoder has not.
    """
    views = {view.name: (view.start, view.stop) for view in encoder.views}
    return place_columns(scorer, encoder.columns, views)


class Encoder(nn.Module, ABC):
    """A waveform batch to an embedding batch, with its front end inside so that it exports whole.

    Whatever turns the waveform into the network's input (framing, spectra, logarithms) is a
    submodule named `front_end`: `torch.onnx.export(dynamo=True)` keeps each node's module path in
    its metadata (`pkg.torch.onnx.name_scopes`), so the exporter knows which nodes have to stay
    float32. Only operators that every runtime has: no STFT or DFT (see `encoders.spectrum`).

    Attributes:
        kind: Family name, as presets call it.
        sample_rate: Rate of the waveform it takes, Hz.
        window_samples: Length of the waveform it takes, samples.
        dim: Length of the embedding it gives.
    """

    kind: str
    sample_rate: int
    window_samples: int
    dim: int

    @property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of each part of the embedding that a scorer may judge by itself."""
        return ((0, self.dim),)

    @property
    def views(self) -> tuple[View, ...]:
        """Views of the sound that the embedding is made of; none unless it tells."""
        return ()

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Embed.

        Args:
            waveform: float32, shape `(batch, window_samples)`, full scale 1.0.

        Returns:
            float32, shape `(batch, dim)`.
        """

    @property
    def patch_grid(self) -> PatchGrid | None:
        """Where its patches lie; None for an encoder without."""
        return None

    @property
    def framing(self) -> Framing | None:
        """The front end, when overlapping windows can share frames; None when they cannot."""
        return None

    def with_frames(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed frames that the front end has made; encoders with a `framing` may offer it.

        Args:
            frames: What `framing.front_end` gives of the waveform.
            waveform: As `forward` takes it, of which some make more.

        Returns:
            The embedding, `(batch, dim)`, and the patches; None of an encoder without.

        Raises:
            NotImplementedError: It does not.
        """
        raise NotImplementedError

    def with_patches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Embed, and give the patches made on the way: they tell where a window is unusual.

        Args:
            waveform: As `forward` takes it.

        Returns:
            The embedding, `(batch, dim)`, and the patches, `(batch, time, rows, width)`.

        Raises:
            NotImplementedError: It has no `patch_grid`.
        """
        raise NotImplementedError

    @property
    def learnt_dim(self) -> int:
        """Length of what a loss sees: of the branches together."""
        return self.dim

    @property
    def last_columns(self) -> tuple[int, int]:
        """(start, stop) of what the last layer gives to the embedding; all of it by default."""
        return (0, self.dim)

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """What a loss sees, in the parts that training may exchange between windows (FeatEx).

        Concatenated they are `forward(waveform)`, but for what `training.learn_from` leaves out.
        By default there is one.
        """
        return (self.forward(waveform),)

    def members(self) -> Sequence[Encoder]:
        """The models that are trained on their own; more than one in an ensemble."""
        return (self,)

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Types of further submodules whose operations must stay float32, wherever they are."""
        return ()
