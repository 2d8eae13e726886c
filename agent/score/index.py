"""The HNSW index of a large memory bank (Malkov and Yashunin 2018), made the same way every time.

The raw vectors are the source of truth; the index only proposes candidates and can be made anew
from them at any time, on the workstation or on the device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.errors import BundleError
from agent.frames import Matrix
from agent.score.config import Metric

# Links a row has on each level above the ground, and candidates weighed when a row is added: the
# library's usual values, at which recall of the nearest row is above 0.99 for embeddings.
LINKS = 16
CANDIDATES = 200
SEED = 0


def space(metric: Metric) -> str:
    """The library's name of a metric."""
    return "cosine" if metric == "cosine" else "l2"


def build_index(vectors: Matrix, metric: Metric) -> Any:
    """Index a bank; one thread and a fixed seed, so that equal banks give equal bytes.

    Args:
        vectors: float32, shape `(rows, dim)`; labels are the row numbers.
        metric: Distance of the scorer.
    """
    import hnswlib  # noqa: PLC0415 - only large banks and export pay for it

    index = hnswlib.Index(space=space(metric), dim=vectors.shape[1])
    index.init_index(
        max_elements=len(vectors), M=LINKS, ef_construction=CANDIDATES, random_seed=SEED
    )
    index.add_items(vectors, num_threads=1)
    return index


def write_index(path: Path, vectors: Matrix, metric: Metric) -> None:
    """Build and write an index.

    Raises:
        BundleError: The file is not as long as it should be; the library is silent about a full
            disk.
    """
    index = build_index(vectors, metric)
    index.save_index(str(path))
    if path.stat().st_size != index.index_file_size():
        raise BundleError(
            "was not written in full", where=path, remedy="Is the disk full? Make room and repeat."
        )
