"""Overlapping windows share their frames: only those of the new sound are computed.

Where an encoder's front end makes frames (a spectrogram, mel bands), each of a short stretch of
sound and nothing else, export cuts the graph in two beside the whole one: `frames.onnx` makes the
frames of a chunk of sound, `body.onnx` an embedding of a window's frames. A window that overlaps
the one before takes those of its frames that lie in the overlap from there.

That two windows overlap is not believed of their times, but seen: their samples there must be
the same, bit by bit, by a number that stands for each hop of them. So nothing has to be told of a
gap, a restart, or a changed hop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import EncoderInfo
from agent.core.records import Matrix, Samples, Window

# Name of the tensor between them, which has the frames along its last axis.
BOUNDARY = "frames"

Frames = npt.NDArray[np.float32]

# Chunks of one run, or as much sound. A whole window's, run together, would leave the process
# 20 MB larger for good.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a window that one run makes frames of.

    Attributes:
        at: Its first frame, of the window.
        length: Its frames.
        start: First of the window's frames that are taken from it...
        stop: ...and the frame after the last.
    """

    at: int
    length: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """What `frames.onnx` makes, as its own metadata says.

    Attributes:
        hop: Samples from one frame to the next.
        head: Frames at the beginning of a chunk that depend on where it begins.
        tail: Frames at its end that depend on where it ends.
        chunk: Frames of a chunk; it has `chunk * hop` samples.
        count: Frames of a window, of `count * hop` samples.
        least: Frames of the shortest chunk that the graph takes, which then takes longer ones as
            well; 0 where each has to have `chunk`.
    """

    hop: int
    head: int
    tail: int
    chunk: int
    count: int
    least: int = 0

    def __post_init__(self) -> None:
        # More than one new frame a chunk, else there is no end of chunks.
        inner = self.chunk - self.head - self.tail
        if min(self.hop, inner) < 1 or min(self.head, self.tail) < 0 or self.count < self.chunk:
            raise ValueError(f"frames cannot be laid out so: {self}")
        if self.least and not self.head + self.tail <= self.least <= self.chunk:
            raise ValueError(f"frames cannot be laid out so: {self}")

    def chunks(self, fresh: int) -> list[Chunk]:
        """The chunks that make a window's last `fresh` frames, and those of its beginning."""
        found: list[Chunk] = []
        if self.head:
            found.append(Chunk(0, self.least or self.chunk, 0, self.head))
        longest = min(self.count, _AT_ONCE * self.chunk) if self.least else self.chunk
        end, wanted = self.count, max(self.head, self.count - self.tail - fresh)
        while end > wanted:
            until = end if end == self.count else end + self.tail
            at = max(0, until - longest)
            start = max(wanted, at + self.head)
            if self.least:  # no longer than it need be
                at = max(0, min(start - self.head, until - self.least))
            length = max(self.least, until - at) if self.least else self.chunk
            found.append(Chunk(at, length, start, end))
            end = start
        return found

    def runs(self, fresh: int) -> list[list[Chunk]]:
        """The chunks of `chunks` in runs of the encoder: so many of one length at most in each."""
        plan = self.chunks(fresh)
        at_once = 1 if self.least else _AT_ONCE
        return [plan[first:][:at_once] for first in range(0, len(plan), at_once)]


class Encoder(Protocol):
    """Makes embeddings of windows, whole or of their frames; `OnnxEncoder`, or one on trial."""

    @property
    def info(self) -> EncoderInfo:
        """What the graph takes and gives."""
        ...

    @property
    def layout(self) -> FrameLayout | None:
        """How its frames lie; None when it cannot be run so."""
        ...

    def start(self) -> None:
        """Load the graph."""
        ...

    def stop(self) -> None:
        """Free the session."""
        ...

    def encode(self, waveforms: Matrix) -> Matrix:
        """Embed whole windows."""
        ...

    def patches(self, waveform: Matrix) -> Matrix | None:
        """What it makes of each place of a window; None when it does not tell."""
        ...

    def frames(self, chunks: Matrix) -> Frames:
        """Frames of chunks `(n, samples)` of one length, the frames along the last axis."""

    def embed_frames(self, frames: Frames, waveform: Samples) -> Matrix:
        """Embedding `(1, dim)` of a window's frames (and of itself, where the body asks for it).

        The frames are not to be kept: their array is the next window's.
        """


@dataclass(frozen=True, slots=True, eq=False)
class _Last:
    """The last window, without its sound."""

    encoder: Encoder
    position: int
    marks: npt.NDArray[Any]
    frames: Frames


class SharedFrames:
    """Embeds one machine's windows one after the other; of use for a single stream."""

    def __init__(self) -> None:
        self._last: _Last | None = None

    def encode(self, encoder: Encoder, window: Window) -> Matrix:
        """Embed a window.

        Args:
            encoder: What to embed it with; another one than the last time begins anew.
            window: The window.

        Returns:
            float32, shape `(dim,)`. Of a window that shares no frames with others it is that of
            the whole graph.
        """
        layout = encoder.layout
        if layout is None or not 0 < window.step < len(window.samples) or window.step % layout.hop:
            self._last = None
            (vector,) = encoder.encode(window.samples[None])
            return vector  # type: ignore[no-any-return]
        marks = _marks(window.samples, layout.hop)
        fresh = self._fresh(encoder, layout, window.position, marks)
        frames = self._frames(encoder, layout, window.samples, fresh)
        (vector,) = encoder.embed_frames(frames, window.samples)
        self._last = _Last(encoder, window.position, marks, frames)
        return vector  # type: ignore[no-any-return]

    def _frames(
        self, encoder: Encoder, layout: FrameLayout, samples: Samples, fresh: int
    ) -> Frames:
        """A window's frames, of which all but the last `fresh` are the last window's."""
        made: list[tuple[Chunk, Frames]] = []
        for run in layout.runs(fresh):
            some = [samples[one.at * layout.hop :][: one.length * layout.hop] for one in run]
            chunks = some[0][None] if len(some) == 1 else np.stack(some)
            made.extend(zip(run, encoder.frames(chunks), strict=True))
        if fresh < layout.count:
            assert self._last is not None
            # In place, as nobody needs the last window's any more: all move up, and what came from
            # the next row's beginning lies where the new ones go.
            result = self._last.frames
            flat = result.reshape(-1)
            flat[:-fresh] = flat[fresh:]
            self._last = None  # until they are whole again
        else:
            result = np.empty((1, *made[0][1].shape[:-1], layout.count), np.float32)
        for chunk, frames in made:
            inside = slice(chunk.start - chunk.at, chunk.stop - chunk.at)
            result[0, ..., chunk.start : chunk.stop] = frames[..., inside]
        return result

    def _fresh(
        self, encoder: Encoder, layout: FrameLayout, position: int, marks: npt.NDArray[Any]
    ) -> int:
        """New frames of a window, counted from its end; all where the last one's do not serve."""
        last = self._last
        if last is None or last.encoder is not encoder:
            return layout.count
        fresh, rest = divmod(position - last.position, layout.hop)
        if rest or not 0 < fresh < layout.count:
            return layout.count
        same = np.array_equal(last.marks[fresh:], marks[:-fresh])
        return fresh if same else layout.count


def _marks(samples: Samples, hop: int) -> npt.NDArray[Any]:
    """A number for each hop of a window, `(hops,)`: another one for other samples.

    It stands for the sound, which need not be kept to be compared: a weighted sum modulo 2^64 of
    what the samples are in memory. A single value that differs always changes it, as the weights
    are odd; sound that differs in more has a chance of 1 in 10^19 to go unseen.
    """
    whole = np.ascontiguousarray(samples[: len(samples) // hop * hop], np.float32)
    word = np.uint64 if hop % 2 == 0 else np.uint32
    words: npt.NDArray[Any] = whole.view(word).reshape(len(whole) // hop, -1)
    found: npt.NDArray[Any] = np.einsum(
        "ij,j->i", words, _weights(words.shape[1]), dtype=np.dtype(np.uint64)
    )
    return found


@lru_cache(maxsize=8)
def _weights(count: int) -> npt.NDArray[Any]:
    drawn: npt.NDArray[Any] = np.random.default_rng(0).integers(0, 1 << 63, count, np.uint64)
    return 2 * drawn + np.uint64(1)


def layout_of(metadata: dict[str, str]) -> FrameLayout:
    """How frames lie, from the metadata of `frames.onnx`.

    Raises:
        ValueError: A number is missing or makes no sense.
    """
    names = ("hop", "head", "tail", "chunk", "count")
    try:
        numbers = {name: int(metadata[name]) for name in names}
        return FrameLayout(**numbers, least=int(metadata.get("least", 0)))
    except KeyError as fault:
        raise ValueError(f"its metadata lack {fault}") from fault
