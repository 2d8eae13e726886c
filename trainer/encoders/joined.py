"""Several encoders as one: their embeddings side by side, in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from agent.explain.grid import PatchGrid
from trainer.encoders.base import Encoder, Framing, View
from trainer.encoders.resample import Resampler
from trainer.encoders.shared_frames import SharedFrontEnd, shared_front_end


class Part(Encoder):
    """One of the encoders, which hears the joined encoder's waveform at its own rate.

    Args:
        encoder: The encoder.
        sample_rate: Rate of the joined encoder's waveform, Hz.
        window_samples: Its length, samples.
        unit: Whether the embedding is brought to unit length.
    """

    def __init__(
        self, encoder: Encoder, *, sample_rate: int, window_samples: int, unit: bool
    ) -> None:
        super().__init__()
        self.kind, self.dim, self.unit = encoder.kind, encoder.dim, unit
        self.sample_rate, self.window_samples = sample_rate, window_samples
        self.encoder = encoder
        same = encoder.sample_rate == sample_rate
        self.resample: nn.Module = (
            nn.Identity()
            if same
            else Resampler(sample_rate, encoder.sample_rate, encoder.window_samples)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `(batch, window_samples)` as `(batch, dim)`."""
        embedding: Tensor = self.encoder(self.resample(waveform))
        return nn.functional.normalize(embedding, dim=1) if self.unit else embedding

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """The encoder's own, for a part that is trained by itself."""
        own = self.encoder.branches(self.resample(waveform))
        if not self.unit:
            return own
        widths = [branch.shape[1] for branch in own]
        whole = nn.functional.normalize(torch.cat(own, dim=1), dim=1)
        return tuple(torch.split(whole, widths, dim=1))

    @property
    def learnt_dim(self) -> int:
        """The encoder's."""
        return self.encoder.learnt_dim

    @property
    def last_columns(self) -> tuple[int, int]:
        """The encoder's."""
        return self.encoder.last_columns

    @property
    def patch_grid(self) -> PatchGrid | None:
        """The encoder's."""
        return self.encoder.patch_grid

    @property
    def framing(self) -> Framing | None:
        """The encoder's, where it hears the very waveform."""
        return self.encoder.framing if isinstance(self.resample, nn.Identity) else None

    def with_patches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's, the embedding as `forward` gives it."""
        embedding, patches = self.encoder.with_patches(self.resample(waveform))
        return nn.functional.normalize(embedding, dim=1) if self.unit else embedding, patches

    def with_frames(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor | None]:
        """The encoder's, of frames that were made before."""
        embedding, patches = self.encoder.with_frames(frames, self.resample(waveform))
        return nn.functional.normalize(embedding, dim=1) if self.unit else embedding, patches

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """The change of rate, and what the encoder itself keeps."""
        return (Resampler, *self.encoder.quantization_excludes())


class Joined(Encoder):
    """Encoders side by side, over one waveform at the highest of their rates.

    Trained together they are the branches of one embedding, whose features may be exchanged
    between windows (FeatEx; the two-encoder dual branch of DCASE 2025 report 001): the first
    branch keeps its window, the others see another's, and the loss judges the fused embedding.
    Otherwise each is trained by itself and then joined (the report's fusion system).

    Args:
        encoders: At least two.
        window_seconds: Length of a window, seconds.
        unit: Each embedding (or those of which it is said) at unit length, so that the cosine of
            two joined ones is the mean of the parts' cosines.
        together: Whether they are trained as one.
        last_of: Parts whose last layer's vector stands behind all parts once more, so that a
            scorer can judge it alone or joined with others'.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        *,
        window_seconds: float,
        unit: bool | Sequence[bool],
        together: bool,
        last_of: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.kind = "joined"
        self.sample_rate = max(encoder.sample_rate for encoder in encoders)
        self.window_samples = round(window_seconds * self.sample_rate)
        self.together = together
        units = [unit] * len(encoders) if isinstance(unit, bool) else list(unit)
        self.parts = nn.ModuleList(
            Part(
                encoder,
                sample_rate=self.sample_rate,
                window_samples=self.window_samples,
                unit=scaled,
            )
            for encoder, scaled in zip(encoders, units, strict=True)
        )
        framed = [one for one in encoders if _framed(one)]
        #: Makes the frames of all parts that have some; None where that is one at most.
        self.shared = shared_front_end(framed, self.sample_rate, self.window_samples)
        self.last_of = tuple(last_of)
        again = [encoders[place].last_columns for place in self.last_of]
        self.dim = sum(encoder.dim for encoder in encoders) + sum(b - a for a, b in again)

    @property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """Where each part's embedding lies, then where those of `last_of` do."""
        widths = [part.dim for part in self._parts()]
        widths += [stop - start for start, stop in self._again()]
        ends = list(accumulate(widths))
        return tuple((end - width, end) for end, width in zip(ends, widths, strict=True))

    @property
    def learnt_dim(self) -> int:
        """Length of what a loss sees when the parts are trained as one."""
        return sum(part.learnt_dim for part in self._parts())

    @property
    def views(self) -> tuple[View, ...]:
        """Views of every part, unless bringing parts to unit length has changed what they are."""
        if any(part.unit for part in self._parts()):
            return ()
        return tuple(
            view.moved(start)
            for part, (start, _) in zip(self._parts(), self.columns, strict=False)
            for view in part.encoder.views
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `(batch, window_samples)` as `(batch, dim)`."""
        return self._joined([embedding for embedding, _ in self._run(waveform)])

    def _run(self, waveform: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Each part's embedding, and its patches where frames were shared and it has some."""
        if self.shared is None:
            return [(part(waveform), None) for part in self._parts()]
        frames = iter(self.shared.apart(self.shared(waveform)))
        return [
            (part(waveform), None)
            if not _framed(part.encoder)
            else part.with_frames(next(frames), waveform)
            for part in self._parts()
        ]

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        last = [
            parts[place][:, start:stop]
            for place, (start, stop) in zip(self.last_of, self._again(), strict=True)
        ]
        return torch.cat([*parts, *last], dim=1)

    def _again(self) -> list[tuple[int, int]]:
        parts = self._parts()
        return [parts[place].last_columns for place in self.last_of]

    @property
    def patch_grid(self) -> PatchGrid | None:
        """The patches' places of the first part that has any."""
        grids = (part.patch_grid for part in self._parts())
        return next((grid for grid in grids if grid is not None), None)

    @property
    def framing(self) -> Framing | None:
        """The front end of all parts that have one, or of the first; others embed whole windows."""
        if self.shared is not None:
            return self.shared.framing
        framings = (part.framing for part in self._parts())
        return next((framing for framing in framings if framing is not None), None)

    def with_patches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Embed, and give the patches of the first part that has some."""
        embeddings: list[Tensor] = []
        patches: Tensor | None = None
        if self.shared is not None:
            for embedding, found in self._run(waveform):
                embeddings.append(embedding)
                patches = found if patches is None else patches
            if patches is not None:
                return self._joined(embeddings), patches
            embeddings = []
        for part in self._parts():
            if patches is None and part.patch_grid is not None:
                embedding, patches = part.with_patches(waveform)
            else:
                embedding = part(waveform)
            embeddings.append(embedding)
        if patches is None:
            raise NotImplementedError
        return self._joined(embeddings), patches

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """The parts' embeddings, as far as a loss sees them."""
        return tuple(torch.cat(part.branches(waveform), dim=1) for part in self._parts())

    def members(self) -> Sequence[Encoder]:
        """This encoder, or the parts that have something to train."""
        if self.together:
            return (self,)
        return [part for part in self._parts() if any(True for _ in part.parameters())]

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """What any part keeps."""
        kept = (kind for part in self._parts() for kind in part.quantization_excludes())
        return tuple(dict.fromkeys((SharedFrontEnd, *kept)))

    def _parts(self) -> list[Part]:
        return [part for part in self.parts if isinstance(part, Part)]


def _framed(encoder: Encoder) -> bool:
    """Whether it can embed frames that were made beforehand."""
    offers = type(encoder).with_frames is not Encoder.with_frames
    return offers and encoder.framing is not None
