"""Holds a bundle, whenever it is opened, to the answers that it gave where it was exported.

INT8 is done by other instructions on every kind of processor, and a graph was once judged only
where it was made. So a bundle carries windows, made up from a seed and some of its own, with what
its graphs gave for them. Beyond the bound the float32 graph judges in the INT8 one's stead; when
there is none, or that is beyond it too, the bundle is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.bundle.facts import ParityGraph, ParityInfo
from agent.bundle.manifest import BODY, ENCODER, FRAMES, MANIFEST, Manifest
from agent.bundle.parity_windows import parity_windows
from agent.core.errors import BundleError
from agent.core.records import Matrix, Window
from agent.encode.frames import SharedFrames
from agent.encode.onnx import OnnxEncoder
from agent.encode.processor import in_words, this_processor
from agent.score.scorer import Scorer, Vector

log = logging.getLogger(__name__)

# Views of fewer columns have no direction to speak of: their scores tell.
_FEWEST_COLUMNS = 8
_AGAIN = (
    "Export the bundle again with `auscult export --float`; where an accelerator runs it, try "
    "`inference.providers: [CPUExecutionProvider]`."
)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a graph's answers here are from those at export, at the worst window.

    Attributes:
        graph: Its file.
        cosine: Least cosine similarity of an embedding to what it should be.
        score: Greatest difference of a score, as a share (`ParityGraph.score`).
    """

    graph: str
    cosine: float
    score: float

    def within(self, bound: ParityGraph) -> bool:
        """Whether that is allowed."""
        return self.cosine >= bound.cosine and self.score <= bound.score

    def __str__(self) -> str:
        """In words."""
        return f"{self.graph}: least cosine {self.cosine:.6f}, scores off by {self.score:.2%}"


@dataclass(frozen=True, slots=True)
class Parity:
    """What came of holding a bundle to its answers.

    Attributes:
        used: Of the graph that judges.
        fallback: Why the float32 graph judges; empty when the exported one does.
    """

    used: Deviation
    fallback: str = ""


def spread_of(scores: Vector, threshold: float, strange: Vector) -> tuple[float, float]:
    """What differences of scores are measured by: `ParityInfo.median` and `span`.

    Args:
        scores: Of healthy windows, NaN where not known.
        threshold: The bundle's.
        strange: Scores of the made-up windows: a threshold that lies closer to the median than a
            thousandth of their height is closer than float32 tells scores apart.
    """
    known = scores[np.isfinite(scores)]
    median = float(np.median(known)) if len(known) else 0.0
    height = float(np.abs(strange - median).max(initial=0.0))
    return median, max(threshold - median, height / 1000.0, 1e-9)


def renew_scores(
    folder: Path, parity: ParityInfo, scorer: Scorer, healthy: Vector, threshold: float
) -> ParityInfo:
    """Write what a grown bank scores for the embeddings that its graphs must give as before.

    Args:
        folder: The version to be, its parent's embeddings in it.
        parity: The parent's.
        scorer: Of the grown bank, started.
        healthy: Its healthy scores.
        threshold: Its threshold.
    """
    median, span = parity.median, parity.span
    for graph in parity.graphs:
        vectors = _read(folder / graph.embeddings)
        scores, _ = scorer.score(vectors)
        np.save(folder / graph.scores, scores.astype(np.float32), allow_pickle=False)
        if graph.graph == ENCODER:
            median, span = spread_of(healthy, threshold, scores[: parity.made_up])
    return parity.model_copy(update={"median": median, "span": span})


def agreeing_encoder(
    folder: Path,
    manifest: Manifest,
    scorer: Scorer,
    make: Callable[[str, bool], OnnxEncoder],
    *,
    shown: Path,
) -> tuple[OnnxEncoder, Parity | None]:
    """A bundle's encoder, started, that gives the answers it must give.

    Args:
        folder: The bundle, verified.
        manifest: Its manifest.
        scorer: Its scorer, started.
        make: An encoder of the graph in this file, not started; and whether in parts as well.
        shown: The folder that messages name.

    Returns:
        The encoder, and what was found; None of a bundle without parity windows.

    Raises:
        BundleError: No graph of the bundle gives them here, or one does not run.
    """
    framed = {FRAMES, BODY} <= set(manifest.files)
    encoder = make(ENCODER, framed)
    encoder.start()
    if manifest.parity is None:
        return encoder, None
    try:
        check = ParityCheck(folder, manifest, manifest.parity, scorer, shown)
        found = check.whole(encoder, ENCODER)
        if found.within(check.bound(ENCODER)):
            if framed and not check.parts_agree(encoder):
                encoder.stop()
                encoder = make(ENCODER, False)
                encoder.start()
            return encoder, Parity(found)
    except BaseException:
        encoder.stop()
        raise
    encoder.stop()
    where = f"on this processor ({in_words(this_processor())})"
    other = manifest.float_encoder
    if other is None:
        raise BundleError(
            f"gives other answers {where} than where it was exported ({found})",
            where=folder / ENCODER, remedy=_AGAIN,
        )  # fmt: skip
    encoder = make(other, False)
    encoder.start()
    try:
        plain = check.whole(encoder, other)
        agrees = plain.within(check.bound(other))
    except BaseException:
        encoder.stop()
        raise
    if not agrees:
        encoder.stop()
        raise BundleError(
            f"no graph gives the answers {where} that it gave at export ({found}; {plain})",
            where=folder, remedy=_AGAIN,
        )  # fmt: skip
    why = f"judging by the float32 graph: INT8 gives other answers {where} ({found})"
    log.warning("%s: %s", shown, why)
    return encoder, Parity(plain, why)


class ParityCheck:
    """Windows and answers of a bundle, read once."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        parity: ParityInfo,
        scorer: Scorer,
        shown: Path | None = None,
    ) -> None:
        self._folder = folder
        self._shown = shown or folder
        self._encoder = manifest.encoder
        self._parity = parity
        self._scorer = scorer
        self._spans = [
            (view.start, view.stop)
            for view in manifest.views
            if view.stop - view.start >= _FEWEST_COLUMNS
        ]
        self._windows = parity_windows(folder, parity, manifest.encoder.window_samples)

    def bound(self, name: str) -> ParityGraph:
        """What is asked of a graph."""
        for graph in self._parity.graphs:
            if graph.graph == name:
                return graph
        raise BundleError(
            f"parity: says nothing of {name}", where=self._folder / MANIFEST, remedy=_AGAIN
        )

    def whole(self, encoder: OnnxEncoder, name: str) -> Deviation:
        """A graph's deviation."""
        return self._held(encoder.encode(self._windows), name)

    def parts_agree(self, encoder: OnnxEncoder) -> bool:
        """Whether frames and body, one after the other, give it as well: for the first and last."""
        some = [0, len(self._windows) - 1]
        step = 0 if encoder.layout is None else encoder.layout.hop
        made = [
            SharedFrames().encode(
                encoder,
                Window(self._windows[i], self._encoder.sample_rate, 0, 0.0, 0.0, step=step),
            )
            for i in some
        ]
        found = self._held(np.stack(made), ENCODER, some)
        if found.within(self.bound(ENCODER)):
            return True
        log.warning(
            "%s: overlapping windows share no frames: in parts the graph gives other answers on "
            "this processor (%s)", self._shown, found,
        )  # fmt: skip
        return False

    def _held(self, vectors: Matrix, name: str, some: list[int] | None = None) -> Deviation:
        graph, count = self.bound(name), len(self._windows)
        place = self._folder / graph.embeddings
        wanted, known = _read(place), _read(self._folder / graph.scores)
        if wanted.shape != (count, self._encoder.dim) or known.shape != (count,):
            raise BundleError(
                f"parity: holds {wanted.shape} and {known.shape} numbers for {count} windows",
                where=place, remedy=_AGAIN,
            )  # fmt: skip
        if some is not None:
            wanted, known = wanted[some], known[some]
        scores, _ = self._scorer.score(vectors)
        height = np.maximum(self._parity.span, np.abs(known - self._parity.median))
        off = np.abs(scores.astype(np.float64) - known) / height
        close = np.min(
            [
                _cosines(vectors[:, start:stop], wanted[:, start:stop])
                for start, stop in (self._spans or [(0, vectors.shape[1])])
            ],
            axis=0,
        )
        finite = np.isfinite(close).all() and np.isfinite(off).all()
        return Deviation(
            name, float(close.min()) if finite else -1.0, float(off.max()) if finite else np.inf
        )


def _cosines(one: Matrix, other: Matrix) -> npt.NDArray[np.float64]:
    """Cosine similarities of rows; 1 of two zero rows."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    alike = np.where((a == b).all(axis=1), 1.0, 0.0)
    return np.where(size > 0, (a * b).sum(axis=1) / np.maximum(size, 1e-300), alike)


def _read(path: Path) -> npt.NDArray[np.float32]:
    """A file of finite float32 numbers."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as fault:
        # NumPy reads a header with Python's own parser, whose errors are of many kinds.
        raise BundleError(f"is not a NumPy array: {fault}", where=path) from fault
    if getattr(array, "dtype", None) != np.float32 or not np.isfinite(array).all():
        raise BundleError("should hold finite float32 numbers", where=path, remedy=_AGAIN)
    return array  # type: ignore[no-any-return]  # checked above
