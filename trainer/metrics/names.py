"""What a test clip's name tells: its answer and domain, and what an anonymous name stands for."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agent.capture.files import AUDIO_SUFFIXES
from agent.recordings.model import ANOMALY, NORMAL
from trainer.metrics.auc import UNKNOWN, MetricsError

_CHALLENGE = re.compile(
    r"^section_(?P<section>\d+)_(?P<domain>source|target)_test_(?P<label>normal|anomaly)(?:_|$)"
)
# 2020: no domains, and machines of a type are told apart by an id.
_FIRST = re.compile(r"^(?P<label>normal|anomaly)_id_(?P<section>\d+)_\d+$")


@dataclass(frozen=True, slots=True)
class ClipName:
    """A test clip's answer.

    Attributes:
        section: Two digits, empty where there are no sections.
        domain: `source`, `target` or `unknown`.
        label: `normal` or `anomaly`.
    """

    section: str
    domain: str
    label: str


@dataclass(frozen=True, slots=True)
class Key:
    """The real names behind an evaluation set's anonymous ones.

    Attributes:
        path: The file it was read from.
        machines: For each machine, real name by anonymous name, both without audio suffix.
        lines: For each machine, the line it begins on.
    """

    path: Path
    machines: dict[str, dict[str, str]]
    lines: dict[str, int]


def bare(name: str) -> str:
    """A clip's name without its audio suffix, so that `a.wav` and `a.flac` are the same clip."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return str(path.with_suffix("") if path.suffix.lower() in AUDIO_SUFFIXES else path)


def parse_clip(name: str) -> ClipName | None:
    """Read the answer out of a name, or None where it does not tell.

    A challenge file tells by its name (`section_00_target_test_anomaly_0001...`), a file of a
    plain folder by the first folder that is a label (`test/anomaly/monday/x.wav`).
    """
    path = PurePosixPath(bare(name))
    found = _CHALLENGE.match(path.name)
    if found:
        return ClipName(found["section"], found["domain"], found["label"])
    found = _FIRST.match(path.name)
    if found:
        return ClipName(found["section"], UNKNOWN, found["label"])
    folders = [part.lower() for part in path.parts[:-1]]
    label = next((folder for folder in folders if folder in {NORMAL, ANOMALY}), None)
    return None if label is None else ClipName("", UNKNOWN, label)


def read_key(path: Path) -> Key:
    """Read a key: a line with a machine's name, then a line `anonymous,real` for each of its clips.

    Raises:
        MetricsError: It cannot be read; a line has no machine above it, or more than two columns;
            a name or a machine comes twice; a real name does not tell its answer.
    """
    machines: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    names: dict[str, str] | None = None
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        if len(row) == 1 or (len(row) == 2 and not row[1]):
            if row[0] in machines:
                raise MetricsError(f"machine {row[0]} comes a second time", where=where)
            names = machines[row[0]] = {}
            lines[row[0]] = number
            continue
        if len(row) != 2:
            raise MetricsError(
                f"has {len(row)} columns",
                where=where,
                remedy="A key holds lines `anonymous name,real name` under each machine's name.",
            )
        if names is None:
            raise MetricsError(
                "stands before any machine's name",
                where=where,
                remedy="Write the machine's name alone on the line above its clips.",
            )
        if bare(row[0]) in names:
            raise MetricsError(f"{row[0]} comes a second time", where=where)
        if parse_clip(row[1]) is None:
            raise MetricsError(
                f"the name {row[1]!r} does not tell domain and label",
                where=where,
                remedy="A real name looks like section_00_source_test_normal_0001....wav.",
            )
        names[bare(row[0])] = bare(row[1])
    if not machines:
        raise MetricsError("is empty", where=path, remedy="Give the evaluation set's key.")
    return Key(path, machines, lines)


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that hold anything, stripped, with their line numbers from 1.

    Raises:
        MetricsError: It cannot be opened, or is not text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            return [(rows.line_num, [cell.strip() for cell in row]) for row in rows if any(row)]
    except OSError as fault:
        raise MetricsError(
            f"cannot be read: {fault.strerror}", where=path, remedy="Give a CSV file."
        ) from fault
    except (UnicodeDecodeError, csv.Error) as fault:
        raise MetricsError(f"is not a CSV text file: {fault}", where=path) from fault
