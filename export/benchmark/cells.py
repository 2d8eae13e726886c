"""One finished piece of a benchmark: a machine, a system and a seed, kept as one JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from agent.core.schema import Strict
from agent.core.storage import write_json
from export.evaluate import answered
from export.results import Outcome, System, Unscored, file_name
from trainer.metrics.files import SectionScores
from trainer.metrics.summary import summarize


class CellSection(Strict):
    """The scored clips of one section, in columns."""

    section: Annotated[str, Field(description="Two digits")]
    names: Annotated[tuple[str, ...], Field(description="File names")]
    labels: Annotated[tuple[str, ...], Field(description="normal, anomaly, or '' when not known")]
    domains: Annotated[tuple[str, ...], Field(description="source, target or unknown")]
    scores: Annotated[tuple[float, ...], Field(description="Larger is stranger")]
    seconds: Annotated[
        tuple[float, ...] | None,
        Field(description="Lengths of the clips, seconds; null in cells of older versions"),
    ] = None


class CellRecord(Strict):
    """`cells/<machine>/<system>/seed_<n>.json`."""

    fingerprint: Annotated[str, Field(description="SHA-256 of all that it follows from")]
    machine: Annotated[str, Field(description="Machine")]
    system: Annotated[str, Field(description="Preset, with its precision when there are two")]
    seed: Annotated[int, Field(description="Seed of the training")]
    precision: Annotated[str, Field(description="Arithmetic of the bundle that scored")]
    threshold: Annotated[float, Field(description="Clip score above which an alarm would be")]
    seconds: Annotated[float, Field(description="Training, export and scoring, seconds")]
    bundle_bytes: Annotated[int, Field(description="Size of the bundle, bytes")]
    promise: Annotated[
        float | None, Field(description="Share of healthy clips that may lie above the threshold")
    ] = None
    sections: Annotated[tuple[CellSection, ...], Field(description="The scores")]
    unscored: Annotated[tuple[tuple[str, str], ...], Field(description="Clip, why")] = ()
    notes: Annotated[
        tuple[str, ...], Field(description="What the tests have otherwise than training")
    ] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be done: one machine, system and seed; `fingerprint` tells of which inputs."""

    machine: str
    system: System
    seed: int
    fingerprint: str

    def path(self, out: Path) -> Path:
        """Where its result lies."""
        place = out / "cells" / file_name(self.machine) / file_name(self.system.name)
        return place / f"seed_{self.seed}.json"


def write_cell(out: Path, cell: Cell, outcome: Outcome) -> None:
    """Keep a finished cell: the file is there whole, or not at all."""
    record = CellRecord(
        fingerprint=cell.fingerprint,
        machine=cell.machine,
        system=cell.system.name,
        seed=cell.seed,
        precision=outcome.precision,
        threshold=outcome.threshold,
        seconds=outcome.seconds,
        bundle_bytes=outcome.bundle_bytes,
        promise=outcome.promise,
        sections=tuple(
            CellSection(
                section=s.section,
                names=s.names,
                labels=s.labels,
                domains=s.domains,
                scores=tuple(float(score) for score in s.scores),
                seconds=None if s.seconds is None else tuple(map(float, s.seconds)),
            )
            for s in outcome.sections
        ),
        unscored=tuple((one.name, one.reason) for one in outcome.unscored),
        notes=outcome.notes,
    )
    path = cell.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record.model_dump(mode="json"))


def read_cell(out: Path, cell: Cell, *, resamples: int) -> Outcome | None:
    """A kept outcome; None when there is none of these inputs, or its file is damaged.

    Args:
        out: The benchmark's folder.
        cell: What is wanted.
        resamples: Bootstrap resamples behind the intervals.
    """
    path = cell.path(out)
    try:
        record = CellRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    if record.fingerprint != cell.fingerprint:
        return None
    sections = tuple(
        SectionScores(
            machine=record.machine,
            section=s.section,
            names=s.names,
            labels=s.labels,
            domains=s.domains,
            scores=np.asarray(s.scores, np.float64),
            decisions=np.asarray(s.scores) > record.threshold,
            seconds=None if s.seconds is None else np.asarray(s.seconds, np.float64),
        )
        for s in record.sections
    )
    (figures,) = summarize(answered(sections, record.machine, out), resamples=resamples)
    return Outcome(
        figures=figures,
        sections=sections,
        threshold=record.threshold,
        precision=record.precision,
        unscored=tuple(Unscored(*one) for one in record.unscored),
        notes=record.notes,
        seconds=record.seconds,
        bundle_bytes=record.bundle_bytes,
        promise=record.promise,
    )
