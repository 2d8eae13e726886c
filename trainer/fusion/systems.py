"""The systems to fuse: found in folders of result files, and brought to the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.score.scorer import Floats
from trainer.fusion.healthy import read_healthy
from trainer.metrics.auc import MetricsError
from trainer.metrics.files import SCORES, SectionScores, read_scores
from trainer.metrics.names import Key, bare


@dataclass(frozen=True, slots=True)
class ScoredSystem:
    """One system's scores.

    Attributes:
        name: What it is called; of an evaluation's folder, the preset's name.
        folder: Where its files are.
        sections: Its scored test clips.
        healthy: Scores of each machine's healthy recordings, ascending; empty without files.
    """

    name: str
    folder: Path
    sections: tuple[SectionScores, ...]
    healthy: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class SectionTable:
    """The test clips of one section as every system scored them.

    Attributes:
        machine: The machine.
        section: Two digits.
        names: File name of each of n clips.
        labels: `normal` or `anomaly` for each.
        domains: `source`, `target` or `unknown` for each.
        scores: float64, shape `(systems, n)`.
    """

    machine: str
    section: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    domains: tuple[str, ...]
    scores: Floats


def find_systems(given: Sequence[str], key: Key | None = None) -> list[ScoredSystem]:
    """Read systems.

    Args:
        given: Folders of result files, each perhaps as `name=folder`; or a folder that
            `auscult evaluate` wrote, which stands for all systems in its `scores/`.
        key: Real names of an evaluation set whose names are anonymous.

    Raises:
        MetricsError: A folder holds no result files, fewer than two systems were given, two have
            one name, or a file is not as `read_scores` and `read_healthy` want it.
    """
    found: dict[str, ScoredSystem] = {}
    for text in given:
        for name, folder in _places(text):
            if name in found:
                raise MetricsError(
                    f"a second system is called '{name}' (the first is {found[name].folder})",
                    where=folder,
                    remedy="Name them: fuse first=FOLDER second=FOLDER.",
                )
            sections = tuple(read_scores(folder, key))
            found[name] = ScoredSystem(name, folder, sections, read_healthy(folder))
    if len(found) < 2:
        raise MetricsError(
            f"a fusion needs at least two systems, here is {len(found)}",
            remedy="Give several folders of result files, or one that `auscult evaluate` wrote.",
        )
    return list(found.values())


def _places(text: str) -> list[tuple[str, Path]]:
    name, given, path = text.partition("=")
    if given and not Path(text).exists():
        return [(name, Path(path))]
    folder = Path(text)
    if (folder / "scores").is_dir() and not any(folder.glob(f"{SCORES}_*.csv")):
        top = folder / "scores"
        holding = sorted({file.parent for file in top.rglob(f"{SCORES}_*.csv")})
        return [(place.relative_to(top).as_posix(), place) for place in holding]
    return [(folder.resolve().name, folder)]


def align(systems: Sequence[ScoredSystem]) -> list[SectionTable]:
    """Every section with the scores of all systems, clips in the first system's order.

    Raises:
        MetricsError: A system lacks a section or a clip that another one scored.
    """
    places = [{(s.machine, s.section): s for s in system.sections} for system in systems]
    for system, own in zip(systems, places, strict=True):
        for place in sorted(set().union(*places) - set(own)):
            raise MetricsError(
                f"has no scores of {place[0]} section {place[1]}, which another system scored",
                where=system.folder,
                remedy="Score the same machines with every system.",
            )
    tables = []
    for place, first in places[0].items():
        wanted = [bare(name) for name in first.names]
        rows = []
        for own in places:
            section = own[place]
            known = dict(zip(map(bare, section.names), section.scores, strict=True))
            for name in sorted(set(wanted) ^ set(known)):
                lacking = section.origin if name in wanted else first.origin
                raise MetricsError(
                    f"has no score for {name}, which another system scored",
                    where=lacking,
                    remedy="Score the same clips with every system.",
                )
            rows.append([known[name] for name in wanted])
        scores = np.asarray(rows, dtype=np.float64)
        tables.append(SectionTable(*place, first.names, first.labels, first.domains, scores))
    return tables
