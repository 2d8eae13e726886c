"""Writes the answers that a bundle's graphs must give on every device, and the float graph."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from agent.bundle.facts import ParityGraph, ParityInfo
from agent.bundle.manifest import (
    ENCODER,
    FLOAT_ENCODER,
    FLOAT_PARITY_FILES,
    HEALTHY_SOUND,
    PARITY_FILES,
    EncoderInfo,
    Row,
)
from agent.bundle.parity_windows import made_up, parity_windows, sha256_of
from agent.core.records import Matrix
from agent.deploy.parity import spread_of
from agent.encode.processor import this_processor
from agent.learn.detector import Detector
from agent.learn.embed import embed
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet, Scorer, Vector

SEED = 0
_MADE_UP, _HEALTHY = 3, 3
# A float graph is carried up to this size: those of large transformers would make a bundle four
# times as large for a case that should never come; without one such a bundle is refused there.
FLOAT_LIMIT = 64 * 2**20
# Least room in cosine: float32 rounding, also TF32 of accelerators, turns an embedding by less.
_ROUNDING = 5e-4
_SHARE = 0.05


def write_parity(
    folder: Path,
    detector: Detector,
    plain: Detector,
    rows: Sequence[Row],
    similar: float,
) -> dict[str, Any]:
    """Write answers and, beside an INT8 graph, the float32 graph.

    Args:
        folder: The bundle to be, with its graph and, where it carries any, its healthy sound.
        detector: What it judges with.
        plain: The same of the float32 graph; the very same object when nothing was quantized.
        rows: Rows of the bank.
        similar: Mean cosine similarity of the embeddings by both.

    Returns:
        Fields of the manifest: `parity`, `float_encoder`, `processor`.
    """
    samples = detector.info.window_samples
    fitted = detector.fitted
    scorer = build_scorer(fitted.config, HealthySet(detector.vectors, rows), fitted.state)
    scorer.start()
    shape = ParityInfo(
        seed=SEED,
        made_up=_MADE_UP,
        made_up_sha256=sha256_of(made_up(SEED, _MADE_UP, samples)),
        healthy=_healthy(folder, samples),
        median=0.0,
        span=1.0,
        graphs=(_bound(ENCODER, PARITY_FILES, _ROUNDING, "float32 rounding alone"),),
    )
    windows = parity_windows(folder, shape, samples)
    scores = _answer(folder, folder / ENCODER, detector.info, windows, scorer, PARITY_FILES)
    median, span = spread_of(fitted.healthy_scores, fitted.threshold.value, scores[:_MADE_UP])
    graphs = shape.graphs
    carried = None
    if detector is not plain:
        turned = 1.0 - similar
        # As for embeddings, so for scores: where healthy windows lie close together, INT8 moves
        # them by more than a twentieth, and the float32 graph beside an INT8 bank most of all.
        plainly, _ = scorer.score(embed(plain.graph, plain.info, windows))
        height = np.maximum(span, np.abs(scores - median))
        share = max(_SHARE, float(np.max(np.abs(plainly - scores) / height)) / 4.0)
        graphs = (
            _bound(
                ENCODER, PARITY_FILES, max(_ROUNDING, turned / 4.0),
                f"a quarter of what INT8 itself turns embeddings by here ({turned:.5f}), at least "
                f"{_ROUNDING:g}", share,
            ),
        )  # fmt: skip
        if _size(plain.graph) <= FLOAT_LIMIT:
            carried = FLOAT_ENCODER
            shutil.copyfile(plain.graph, folder / FLOAT_ENCODER)
            _answer(folder, plain.graph, plain.info, windows, scorer, FLOAT_PARITY_FILES)
            graphs = (
                *graphs,
                _bound(FLOAT_ENCODER, FLOAT_PARITY_FILES, _ROUNDING, "float32 rounding alone"),
            )
    parity = shape.model_copy(update={"median": median, "span": span, "graphs": graphs})
    return {"parity": parity, "float_encoder": carried, "processor": this_processor()}


def _size(graph: Path) -> int:
    """Bytes of a graph, with its tensors where they lie in a second file."""
    beside = graph.with_name(graph.name + ".data")
    return graph.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def _bound(
    graph: str, files: tuple[str, str], room: float, why: str, share: float = _SHARE
) -> ParityGraph:
    return ParityGraph(
        graph=graph,
        embeddings=files[0],
        scores=files[1],
        cosine=1.0 - room,
        score=share,
        reason=f"cosine: {why}; score: a twentieth of the way from the healthy median to the "
        "threshold, less than a threshold is sure of, or a quarter of what INT8 moves scores by",
    )


def _healthy(folder: Path, samples: int) -> int:
    """Healthy windows that are heard: none of a bundle without sound."""
    place = folder / HEALTHY_SOUND
    return min(_HEALTHY, soundfile.info(place).frames // samples) if place.is_file() else 0


def _answer(
    folder: Path,
    graph: Path,
    info: EncoderInfo,
    windows: Matrix,
    scorer: Scorer,
    files: tuple[str, str],
) -> Vector:
    vectors = embed(graph, info, windows)
    scores, _ = scorer.score(vectors)
    np.save(folder / files[0], vectors.astype(np.float32), allow_pickle=False)
    np.save(folder / files[1], scores.astype(np.float32), allow_pickle=False)
    return scores
