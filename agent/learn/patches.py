"""The healthy patches of a bundle: few enough for a device, near enough to all others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.bundle.manifest import PATCH_FILES, EncoderInfo, Row
from agent.core.records import Matrix
from agent.encode.onnx import OnnxEncoder
from agent.explain.grid import PatchGrid
from agent.explain.patches import HealthyPatches, nearest, reduce, whole
from agent.learn.places import spread
from agent.recordings.held import forget_mapped

# Healthy windows looked at, and patches of each row of frequencies that are chosen from.
_WINDOWS = 100
_CHOSEN_FROM = 3000
# What a device keeps of each row, and how many numbers of each: 200 kB for eight rows.
_KEPT = 128
_REDUCED = 96
# Share of healthy windows that may have a patch which is marked.
_ALLOWED = 0.05
_LEAST_LIMIT = 3.0
# Of two, one left out leaves nothing to differ from.
_LEAST_RECORDINGS = 3
_SEED = 0
_THREADS = 2


def fit_patches(
    graph: Path,
    info: EncoderInfo,
    grid: PatchGrid,
    waveforms: Matrix,
    rows: Sequence[Row],
    sources: Collection[str],
    progress: Progress,
) -> HealthyPatches | None:
    """Choose healthy patches, and measure how far those of other recordings are from them.

    Args:
        graph: The bundle's graph.
        info: What it takes and gives.
        grid: Where its patches lie.
        waveforms: Healthy windows, float32 `(n, window_samples)`.
        rows: Where each comes from.
        sources: Recordings that sound as the device will hear the machine.
        progress: Where to show progress.

    Returns:
        The patches; None of fewer than three recordings, whose differences say nothing.
    """
    heard = [i for i, row in enumerate(rows) if row.source in sources]
    chosen = [heard[i] for i in spread(len(heard), _WINDOWS)]
    groups = np.unique([rows[i].group for i in chosen], return_inverse=True)[1]
    if len(set(groups.tolist())) < _LEAST_RECORDINGS:
        return None
    times = whole(info.window_samples / info.sample_rate, grid.seconds)
    return fit(_patches(graph, info, waveforms, chosen, times, progress), groups, grid)


def fit(patches: Matrix, groups: npt.NDArray[np.int64], grid: PatchGrid) -> HealthyPatches:
    """Choose patches and measure distances.

    Args:
        patches: Of healthy windows, float32 `(windows, time, rows, width)`.
        groups: Recording that each window is of, `(windows,)`.
        grid: Where the patches lie.
    """
    basis = _basis(patches)
    reduced = reduce(patches, basis)
    windows, times, count, _ = reduced.shape
    owner = np.repeat(groups, times)
    bank, apart = [], np.full((windows * times, count), np.nan, np.float32)
    for row in range(count):
        cells = reduced[:, :, row].reshape(windows * times, -1)
        kept = _spread_out(cells, _KEPT, _CHOSEN_FROM)
        bank.append(cells[kept])
        for group in np.unique(groups):
            # Without its own recording, as a new one would find the bank.
            others = kept[owner[kept] != group]
            if len(others):
                own = owner == group
                apart[own, row] = nearest(cells[own], cells[others])
    mean, deviation = np.nanmean(apart, axis=0), np.nanstd(apart, axis=0)
    # Frequencies without any sound hardly differ: whatever leaks there would look a wonder.
    deviation = np.maximum(deviation, max(0.5 * float(np.median(deviation)), 1e-6))
    strangest = np.nanmax(((apart - mean) / deviation).reshape(windows, -1), axis=1)
    limit = max(float(np.quantile(strangest, 1.0 - _ALLOWED)), _LEAST_LIMIT)
    edges = np.array(grid.hertz)
    table = np.stack(
        [
            edges[:-1],
            edges[1:],
            mean,
            deviation,
            np.full(count, limit),
            np.full(count, grid.seconds),
        ],
        axis=1,
    )
    return HealthyPatches.of(np.stack(bank).astype(np.float16), basis, table.astype(np.float32))


def write_patches(folder: Path, patches: HealthyPatches | None) -> None:
    """Write them into a bundle's folder; nothing when there are none."""
    if patches is None:
        return
    bank, basis, rows = PATCH_FILES
    np.save(folder / bank, patches.bank, allow_pickle=False)
    np.save(folder / basis, patches.basis, allow_pickle=False)
    np.save(folder / rows, patches.table, allow_pickle=False)


def _patches(
    graph: Path,
    info: EncoderInfo,
    waveforms: Matrix,
    chosen: Sequence[int],
    times: int,
    progress: Progress,
) -> Matrix:
    """Patches of windows, float32 `(windows, time, rows, width)`, without those of padding."""
    task = progress.add_task("healthy patches", total=len(chosen))
    encoder = OnnxEncoder(graph, info, threads=_THREADS)
    encoder.start()
    found = []
    try:
        for place in chosen:
            one = encoder.patches(waveforms[place])
            assert one is not None
            found.append(one[:times])
            forget_mapped()
            progress.advance(task)
    finally:
        encoder.stop()
    return np.stack(found)


def _basis(patches: Matrix) -> Matrix:
    """How patches are made comparable: `(1 + width, reduced)`.

    Each channel counts by its own spread, or a transformer's few huge ones would decide alone. A
    random projection keeps distances whatever a fault brings; principal components of healthy
    sound would leave out the very directions in which it never moves.
    """
    flat = patches.reshape(-1, patches.shape[-1])
    deviation = flat.std(axis=0)
    scale = 1.0 / np.maximum(deviation, 0.1 * float(np.median(deviation)) + 1e-6)
    width = len(scale)
    if width <= _REDUCED:
        turn = np.eye(width)
    else:
        random = np.random.default_rng(_SEED)
        turn = random.standard_normal((width, _REDUCED)) / np.sqrt(_REDUCED)
    basis = scale[:, None] * turn
    found: Matrix = np.concatenate([(flat.mean(axis=0) @ basis)[None], basis]).astype(np.float32)
    return found


def _spread_out(cells: Matrix, count: int, among: int) -> npt.NDArray[np.int64]:
    """Places of cells that leave none far from all of them (greedy k-centre), at most `count`."""
    places: npt.NDArray[np.int64] = np.array(spread(len(cells), among), np.int64)
    some = cells[places]
    found = [int(np.argmin(np.linalg.norm(some - some.mean(axis=0), axis=1)))]
    apart = np.linalg.norm(some - some[found[0]], axis=1)
    while len(found) < min(count, len(some)):  # equal ones more than once, when there are no others
        found.append(int(np.argmax(apart)))
        apart = np.minimum(apart, np.linalg.norm(some - some[found[-1]], axis=1))
    return places[found]
