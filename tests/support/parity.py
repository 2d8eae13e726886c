"""A tiny bundle with parity windows, as export writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile

from agent.bundle.facts import ParityGraph, ParityInfo
from agent.bundle.manifest import (
    ENCODER,
    FLOAT_ENCODER,
    FLOAT_PARITY_FILES,
    HEALTHY_SOUND,
    PARITY_FILES,
)
from agent.bundle.parity_windows import made_up, parity_windows, sha256_of
from agent.bundle.seal import seal
from agent.deploy.load import open_bundle
from agent.deploy.parity import spread_of
from support.bundles import RATE, WINDOW, tone


def add_parity(
    folder: Path,
    *,
    plain: bool = False,
    turned: float = 0.0,
    plain_turned: float = 0.0,
    scored: float = 0.0,
    sound: bool = True,
    cosine: float = 0.9995,
) -> Path:
    """Hold a bundle to answers.

    Args:
        folder: The bundle.
        plain: Let it carry its graph once more, as the float32 one.
        turned: Add so much of noise to the embeddings that its graph must give.
        plain_turned: To those of the float32 graph.
        scored: Add this to the scores.
        sound: With two healthy windows.
        cosine: Bound.
    """
    opened = open_bundle(folder)
    manifest = opened.manifest
    if sound:
        heard = np.concatenate([tone(1, seed=seed) for seed in range(3)])
        soundfile.write(folder / HEALTHY_SOUND, heard, RATE, subtype="PCM_16")
    info = ParityInfo(
        seed=0, made_up=3, made_up_sha256=sha256_of(made_up(0, 3, WINDOW)),
        healthy=2 if sound else 0, median=0.0, span=1.0,
        graphs=(_graph(ENCODER, PARITY_FILES, cosine),),
    )  # fmt: skip
    windows = parity_windows(folder, info, WINDOW)
    vectors = opened.encoder.encode(windows)
    scores, _ = opened.scorer.score(vectors)
    opened.close()
    median, span = spread_of(scores[3:], manifest.threshold.value, scores[:3])
    graphs = [info.graphs[0]]
    noise = np.random.default_rng(0).standard_normal(vectors.shape) * np.abs(vectors).max()
    for (embedded, judged), share in ((PARITY_FILES, turned), (FLOAT_PARITY_FILES, plain_turned)):
        if embedded in FLOAT_PARITY_FILES and not plain:
            continue
        np.save(folder / embedded, (vectors + share * noise).astype(np.float32))
        np.save(folder / judged, (scores + scored).astype(np.float32))
    if plain:
        shutil.copyfile(folder / ENCODER, folder / FLOAT_ENCODER)
        graphs.append(_graph(FLOAT_ENCODER, FLOAT_PARITY_FILES, cosine))
    parity = info.model_copy(update={"median": median, "span": span, "graphs": tuple(graphs)})
    seal(
        folder,
        manifest.model_copy(
            update={"parity": parity, "float_encoder": FLOAT_ENCODER if plain else None}
        ),
    )
    return folder


def _graph(name: str, files: tuple[str, str], cosine: float) -> ParityGraph:
    return ParityGraph(graph=name, embeddings=files[0], scores=files[1], cosine=cosine, score=0.05)
