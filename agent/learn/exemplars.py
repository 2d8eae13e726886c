"""Chooses the healthy windows that a bundle carries as sound, for people to compare alarms with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import soundfile

from agent.bundle.exemplars import Exemplar, Exemplars, HealthyWindow
from agent.bundle.manifest import HEALTHY_SOUND, HEALTHY_SOUND_INDEX
from agent.core.records import Matrix
from agent.core.storage import write_json
from agent.recordings.held import forget_mapped
from agent.recordings.windows import WindowSet
from agent.score.bank import distances, prepare
from agent.score.prototypes import coreset

# Before FLAC, which leaves a half to two thirds of it.
MOST_BYTES = 4_000_000
_MOST, _FEWEST = 32, 3
_SAMPLE_BYTES = 2


def write_exemplars(
    folder: Path, windows: WindowSet, vectors: Matrix, sources: Collection[str], rate: int
) -> None:
    """Write a few healthy windows as sound, and which is the likest to each of all.

    The first is the one nearest to the mean embedding; each further one is the window farthest
    from those chosen (greedy k-centre, Gonzalez 1985), so that every healthy state has one.

    Args:
        folder: The bundle to be.
        windows: Healthy windows.
        vectors: Their embeddings, float32 `(n, dim)`.
        sources: Recordings that sound as the device will hear the machine.
        rate: Samples a second.
    """
    heard = [i for i, row in enumerate(windows.rows) if row.source in sources]
    length = windows.waveforms.shape[1]
    count = min(max(_FEWEST, MOST_BYTES // (_SAMPLE_BYTES * length)), _MOST, len(heard))
    chosen, nearest = centres(vectors[heard], count)
    sound = np.concatenate([windows.waveforms[heard[i]] for i in chosen])
    forget_mapped()
    soundfile.write(
        folder / HEALTHY_SOUND, np.clip(sound, -1.0, 1.0), rate, format="FLAC", subtype="PCM_16"
    )
    rows = [windows.rows[i] for i in heard]
    index = Exemplars(
        exemplars=tuple(
            Exemplar(
                source=rows[i].source,
                start=rows[i].start or 0.0,
                at=n * length / rate,
                seconds=length / rate,
            )
            for n, i in enumerate(chosen)
        ),
        windows=tuple(
            HealthyWindow(source=row.source, start=row.start or 0.0, like=like)
            for row, like in zip(rows, nearest, strict=True)
        ),
    )
    write_json(folder / HEALTHY_SOUND_INDEX, index.model_dump(mode="json"))


def centres(vectors: Matrix, count: int) -> tuple[list[int], list[int]]:
    """Some rows that all others are near to, as directions.

    Args:
        vectors: float32 `(n, dim)`.
        count: How many, at most.

    Returns:
        Their indices, twins once, and for each row the position in them of the nearest.
    """
    ready = prepare(vectors, "cosine")
    _, own = np.unique(ready, axis=0, return_index=True)
    own.sort()
    chosen = own[coreset(ready[own], count)]
    # Of unit vectors, so that it orders as the cosine does, but is exact for near twins too.
    nearest = np.argmin(distances(ready, ready[chosen], "euclidean"), axis=1)
    return chosen.tolist(), nearest.tolist()
