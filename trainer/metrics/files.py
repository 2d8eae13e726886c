"""The challenge's result files: a folder of CSVs read whole and checked, and written.

anomaly_score_<machine>_section_<s>_test.csv     file name, score     no header
decision_result_<machine>_section_<s>_test.csv   file name, 0 or 1    no header
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from trainer.metrics.auc import MetricsError
from trainer.metrics.names import ClipName, Key, bare, parse_clip, read_rows

SCORES = "anomaly_score"
DECISIONS = "decision_result"
_FILE = re.compile(
    rf"^(?P<kind>{SCORES}|{DECISIONS})_(?P<machine>.+)_section_(?P<section>\d+)_test\.csv$"
)


@dataclass(frozen=True, slots=True)
class SectionScores:
    """The scored test clips of one section of one machine.

    Attributes:
        machine: The machine's name.
        section: Two digits; `00` where there is only one.
        names: File name of each of n clips.
        labels: `normal` or `anomaly` for each.
        domains: `source`, `target` or `unknown` for each.
        scores: Anomaly scores, float64, shape `(n,)`, larger is stranger.
        decisions: Whether each was called anomalous, shape `(n,)`; None without decision file.
        origin: The file they were read from; empty when they were computed here.
        seconds: Length of each clip, seconds, shape `(n,)`; None where it is not known.
    """

    machine: str
    section: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    domains: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.bool_] | None = None
    origin: str = ""
    seconds: npt.NDArray[np.float64] | None = None


def read_scores(folder: Path, key: Key | None = None) -> list[SectionScores]:
    """Read every result file of a folder, in the order of machine and section.

    Nothing is assumed about what is missing: with a key, every clip of every machine in it must
    have a score; decision files must be there for all sections or for none.

    Args:
        folder: Holds the CSV files.
        key: Real names of an evaluation set whose names are anonymous.

    Raises:
        MetricsError: A file or a clip is missing, comes twice, or is not known; a score is not a
            finite number; a name does not tell its answer. The file and the line are named.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise MetricsError(problem, where=folder, remedy="Give the folder of the CSVs.")
    found: dict[str, dict[tuple[str, str], Path]] = {SCORES: {}, DECISIONS: {}}
    for path in sorted(folder.glob("*.csv")):
        match = _FILE.match(path.name)
        if match:
            found[match["kind"]][match["machine"], match["section"]] = path
        elif path.name.startswith((SCORES, DECISIONS)):
            raise MetricsError(
                "is not named as a result file",
                where=path,
                remedy=f"Name it {SCORES}_<machine>_section_<two digits>_test.csv.",
            )
    scores, decisions = found[SCORES], found[DECISIONS]
    if not scores:
        raise MetricsError(
            f"holds no {SCORES}_<machine>_section_<s>_test.csv",
            where=folder,
            remedy="Give the folder the score files are in.",
        )
    _refuse_unpaired(folder, scores, decisions)
    sections = [
        _read_section(path, decisions.get(place), machine=place[0], section=place[1], key=key)
        for place, path in sorted(scores.items())
    ]
    if key is not None:
        _refuse_missing(folder, sections, key)
    return sections


def write_scores(folder: Path, section: SectionScores) -> list[Path]:
    """Write a section's score file, and its decision file when it has decisions.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{SCORES}_{section.machine}_section_{section.section}_test.csv"]
    _write(paths[0], section.names, [repr(float(score)) for score in section.scores])
    if section.decisions is not None:
        paths.append(folder / f"{DECISIONS}_{section.machine}_section_{section.section}_test.csv")
        _write(paths[1], section.names, [str(int(called)) for called in section.decisions])
    return paths


def _write(path: Path, names: Sequence[str], values: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(zip(names, values, strict=True))


def _refuse_unpaired(
    folder: Path, scores: dict[tuple[str, str], Path], decisions: dict[tuple[str, str], Path]
) -> None:
    for place, path in decisions.items():
        if place not in scores:
            raise MetricsError(
                "is a decision file without its score file",
                where=path,
                remedy=f"Add {SCORES}{path.name.removeprefix(DECISIONS)}.",
            )
    missing = sorted(set(scores) - set(decisions)) if decisions else []
    if missing:
        raise MetricsError(
            f"has decision files, but none for {missing[0][0]} section {missing[0][1]}",
            where=folder,
            remedy="Give decision files for every section or for none.",
        )


def _refuse_missing(folder: Path, sections: Sequence[SectionScores], key: Key) -> None:
    have = {(section.machine, section.section) for section in sections}
    for machine, names in key.machines.items():
        wanted = {found.section for real in names.values() if (found := parse_clip(real))}
        for section in sorted(wanted):
            if (machine, section or "00") not in have:
                raise MetricsError(
                    f"{SCORES}_{machine}_section_{section or '00'}_test.csv is missing",
                    where=folder,
                    remedy=f"The key {key.path} (line {key.lines[machine]}) asks for it.",
                )


def _read_section(
    path: Path, decisions: Path | None, *, machine: str, section: str, key: Key | None
) -> SectionScores:
    real: dict[str, str] | None = None
    if key is not None:
        if machine not in key.machines:
            raise MetricsError(
                f"the key {key.path} does not know machine {machine}",
                where=path,
                remedy=f"Its machines are {', '.join(key.machines)}.",
            )
        real = key.machines[machine]
    names, values, numbers = _read_column(path)
    answers = [
        _answer(name, real, section, where=f"{path}, line {number}")
        for name, number in zip(names, numbers, strict=True)
    ]
    scores = np.asarray(
        [
            _score(text, where=f"{path}, line {number}")
            for text, number in zip(values, numbers, strict=True)
        ]
    )
    if real is not None:
        given = {bare(name) for name in names}
        for anonymous, name in real.items():
            answer = parse_clip(name)
            if answer and answer.section in {"", section} and not {anonymous, name} & given:
                raise MetricsError(
                    f"has no score for {anonymous}, which the key lists",
                    where=path,
                    remedy="Score every test clip.",
                )
    return SectionScores(
        machine=machine,
        section=section,
        names=tuple(names),
        labels=tuple(answer.label for answer in answers),
        domains=tuple(answer.domain for answer in answers),
        scores=scores,
        decisions=None if decisions is None else _read_decisions(decisions, names, path),
        origin=str(path),
    )


def _read_column(path: Path) -> tuple[list[str], list[str], list[int]]:
    names, values, numbers = [], [], []
    seen: dict[str, int] = {}
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        if len(row) != 2:
            raise MetricsError(
                f"has {len(row)} columns", where=where, remedy="A line is `file name,value`."
            )
        if bare(row[0]) in seen:
            raise MetricsError(
                f"{row[0]} comes a second time (first on line {seen[bare(row[0])]})",
                where=where,
                remedy="Keep one line for each clip.",
            )
        seen[bare(row[0])] = number
        names.append(row[0])
        values.append(row[1])
        numbers.append(number)
    if not names:
        raise MetricsError("is empty", where=path, remedy="Score the section's test clips.")
    return names, values, numbers


def _answer(name: str, real: dict[str, str] | None, section: str, *, where: str) -> ClipName:
    known = name
    if real is not None:
        if bare(name) in real:
            known = real[bare(name)]
        elif bare(name) not in real.values():
            raise MetricsError(
                f"{name} is not in the key", where=where, remedy="Score the key's clips alone."
            )
    answer = parse_clip(known)
    if answer is None:
        raise MetricsError(
            f"the name {name!r} does not tell domain and label",
            where=where,
            remedy="If the names are anonymous, give the evaluation set's key with --key.",
        )
    if answer.section not in {"", section}:
        raise MetricsError(
            f"{name} belongs to section {answer.section}, but this file is of section {section}",
            where=where,
        )
    return answer


def _score(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MetricsError(
            f"the score is {text!r}", where=where, remedy="Every score must be a finite number."
        )
    return value


def _read_decisions(path: Path, names: Sequence[str], scored: Path) -> npt.NDArray[np.bool_]:
    found, values, numbers = _read_column(path)
    calls: dict[str, bool] = {}
    for name, text, number in zip(found, values, numbers, strict=True):
        if text not in {"0", "1"}:
            raise MetricsError(
                f"the decision is {text!r}", where=f"{path}, line {number}", remedy="Write 0 or 1."
            )
        calls[bare(name)] = text == "1"
    wanted = [bare(name) for name in names]
    for name in calls.keys() - set(wanted):
        _refuse_clip(f"decides on {name}, which {scored.name} does not score", path)
    for name in wanted:
        if name not in calls:
            _refuse_clip(f"has no decision on {name}, which {scored.name} scores", path)
    return np.asarray([calls[name] for name in wanted], dtype=np.bool_)


def _refuse_clip(problem: str, path: Path) -> NoReturn:
    raise MetricsError(
        problem, where=path, remedy="Both files of a section must list the same clips."
    )
