"""Everything of a bundle that is made of an encoder's graph and recordings, in order; then sealed.

The workstation comes here with a graph that it has just exported, a device with one that was
shipped or is another bundle's: what they make of the same recordings is the same.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.bundle.facts import IndexInfo, ViewInfo
from agent.bundle.manifest import (
    DRIFT,
    ENCODER,
    HEALTHY_SPECTRUM,
    EncoderInfo,
    Manifest,
    Quantization,
)
from agent.bundle.seal import seal
from agent.calibrate.limits import HealthyScores
from agent.drift.baseline import save_baseline
from agent.explain.grid import PatchGrid
from agent.explain.spectrum import measure_healthy
from agent.learn.detector import Detector, still_windows, with_promise, write_files
from agent.learn.draft import Origin, draft_manifest
from agent.learn.drift import FittedDrift, fit_drift
from agent.learn.embed import Embedder, embed
from agent.learn.exemplars import write_exemplars
from agent.learn.parity import write_parity
from agent.learn.patches import fit_patches, write_patches
from agent.learn.places import spread
from agent.learn.rehearsal import Rehearsal, summed_up
from agent.recordings.held import forget_mapped
from agent.recordings.model import HEALTHY, Machine
from agent.recordings.windows import Cutting, WindowSet, source_name
from agent.score.index_state import index_notes

# Healthy windows whose levels are measured for explanations: more would not change their mean.
_SPECTRUM_WINDOWS = 400


@dataclass(frozen=True, slots=True)
class Material:
    """What is learnt from.

    Attributes:
        machine: Its recordings.
        cutting: How they are cut.
        windows: Of the healthy machine.
        still: Of the idle machine and its surroundings; None without.
    """

    machine: Machine
    cutting: Cutting
    windows: WindowSet
    still: WindowSet | None

    @classmethod
    def gather(cls, machine: Machine, cutting: Cutting, progress: Progress) -> Material:
        """Cut a machine's recordings.

        Raises:
            AudioError: No healthy window can be judged.
        """
        windows = cutting.windows(machine, HEALTHY, progress)
        return cls(machine, cutting, windows, still_windows(machine, cutting, progress))

    @property
    def heard(self) -> set[str]:
        """The healthy recordings that sound as the device will hear it: not clean ones."""
        chosen = self.machine.of("normal") or self.machine.of(*HEALTHY)
        return {source_name(self.machine.root, recording) for recording in chosen}


@dataclass(frozen=True, slots=True)
class Graph:
    """What is known of the encoder's graph that lies in the bundle to be.

    Attributes:
        quantization: What was done to it.
        views: What its embedding is made of.
        similar: Mean cosine similarity of its embeddings to the float graph's.
        grid: Where its patches lie; None for an encoder without.
        notes: For people.
    """

    quantization: Quantization
    views: tuple[ViewInfo, ...] = ()
    similar: float = 1.0
    grid: PatchGrid | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assembled:
    """A bundle that was sealed.

    Attributes:
        manifest: As written.
        detector: What it judges with.
        rehearsal: What its threshold would have done with its own healthy recordings.
    """

    manifest: Manifest
    detector: Detector
    rehearsal: Rehearsal


def assemble(
    folder: Path,
    material: Material,
    origin: Origin,
    graph: Graph,
    detector: Detector,
    plain: Detector,
    *,
    faulty: WindowSet | None,
    sound: bool,
    machine_name: str | None,
    counter: int | None,
    progress: Progress,
    embedder: Embedder = embed,
) -> Assembled:
    """Make and write everything but the graph, and seal the bundle.

    Args:
        folder: The bundle to be, with its graph (and the parts of it that windows share).
        material: What is learnt from.
        origin: Where the detector comes from.
        graph: What is known of the graph.
        detector: What was made through it.
        plain: The same of the float graph; the very same object when nothing was quantized.
        faulty: Windows of faulty test recordings, which only tell what a threshold costs; None
            without any.
        sound: Carry a few healthy windows as sound.
        machine_name: The machine that the bundle is for; the origin's when None.
        counter: What a device orders a machine's bundles by; seconds since 1970 when None.
        progress: Where to show progress.
        embedder: Makes the embeddings.
    """
    windows, recipe = material.windows, origin.recipe
    encoder, heard = folder / ENCODER, material.heard
    final = with_promise(encoder, detector, windows, faulty, recipe, progress, embedder)
    task = progress.add_task("drift baseline", total=1)
    drift = fit_drift(
        final.vectors, windows.rows, heard, final.info, recipe.drift,
        machine=origin.machine, seed=origin.seed,
    )  # fmt: skip
    progress.advance(task)
    rehearsal = summed_up(
        HealthyScores(final.fitted.healthy_scores, windows.rows),
        final.fitted.threshold, final.fitted.config.clip, material.machine, recipe,
        {*origin.untypical, *(one.source for one in final.apart)},
    )  # fmt: skip
    draft = draft_manifest(
        origin, material.machine, windows, final, graph.quantization, drift, graph.views,
        rehearsal.agreement, graph.notes,
    )  # fmt: skip
    indexes = _write(folder, material, final, drift, graph.grid, progress, sound=sound)
    beside = final if plain is detector else plain
    parity = write_parity(folder, final, beside, windows.rows, graph.similar)
    update = {
        **parity,
        "indexes": indexes,
        "notes": (*draft.notes, *index_notes(indexes)),
        "machine": machine_name or origin.machine,
        "counter": int(time.time()) if counter is None else counter,
    }
    return Assembled(seal(folder, draft.model_copy(update=update)), final, rehearsal)


def _write(
    folder: Path,
    material: Material,
    detector: Detector,
    drift: FittedDrift,
    grid: PatchGrid | None,
    progress: Progress,
    *,
    sound: bool,
) -> dict[str, IndexInfo]:
    windows, heard, info = material.windows, material.heard, detector.info
    indexes = write_files(folder, detector, windows, material.still)
    if drift.baseline is not None:
        save_baseline(drift.baseline, folder / DRIFT)
    _write_spectrum(folder, windows, heard, info, progress)
    if sound:
        write_exemplars(folder, windows, detector.vectors, heard, info.sample_rate)
    if grid is not None:
        patches = fit_patches(
            folder / ENCODER, info, grid, windows.waveforms, windows.rows, heard, progress
        )
        write_patches(folder, patches)
    return indexes


def _write_spectrum(
    folder: Path,
    windows: WindowSet,
    sources: Collection[str],
    info: EncoderInfo,
    progress: Progress,
) -> None:
    """What explanations compare with."""
    heard: Sequence[int] = [i for i, row in enumerate(windows.rows) if row.source in sources]
    chosen = [heard[i] for i in spread(len(heard), _SPECTRUM_WINDOWS)]
    task = progress.add_task("healthy spectrum", total=len(chosen))

    def told() -> None:
        progress.advance(task)
        forget_mapped()

    waveforms = (windows.waveforms[i] for i in chosen)
    measured = measure_healthy(waveforms, info.sample_rate, told)
    np.save(folder / HEALTHY_SPECTRUM, measured.table(), allow_pickle=False)
