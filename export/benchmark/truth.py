"""The published answers of an evaluation set, whose file names tell none.

Either one key file as `auscult metrics --key` takes it, or the folders of the official evaluators:
`ground_truth_data/ground_truth_<machine>_section_<s>_test.csv` (`name,0|1`: anomaly or not),
`ground_truth_domain/` (`name,0|1`: target or not), `ground_truth_attributes/` (`name,real name`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from agent.recordings.model import ANOMALY, NORMAL, SOURCE, TARGET, Machine, Recording
from trainer.metrics.auc import UNKNOWN, MetricsError
from trainer.metrics.names import ClipName, bare, parse_clip, read_key, read_rows

# By machine and by clip (without folder and suffix).
Truth: TypeAlias = dict[str, dict[str, ClipName]]
_FILE = re.compile(r"^ground_truth_(?P<machine>.+)_section_(?P<section>\d+)_test\.csv$")


def read_truth(path: Path) -> Truth:
    """Read answers.

    Raises:
        MetricsError: Nothing is there, or a line is not as it should be.
    """
    if not path.is_dir():
        key = read_key(path)
        return {
            machine: {clip: parse_clip(real) or ClipName("", UNKNOWN, "") for clip, real in own}
            for machine, own in ((name, names.items()) for name, names in key.machines.items())
        }
    truth: Truth = {}
    for file in sorted(path.rglob("ground_truth_*.csv")):
        match = _FILE.match(file.name)
        if match is None:
            continue
        clips = truth.setdefault(match["machine"], {})
        for number, row in read_rows(file):
            _take(clips, row, match["section"], f"{file}, line {number}", file.parent.name)
    if not truth:
        raise MetricsError(
            "holds no ground_truth_<machine>_section_<s>_test.csv",
            where=path,
            remedy="Give the official evaluator's ground_truth folders, or a key file.",
        )
    return truth


def _take(clips: dict[str, ClipName], row: list[str], section: str, where: str, kind: str) -> None:
    if len(row) < 2:
        raise MetricsError("has one column", where=where, remedy="A line is `file name,answer`.")
    name, value = bare(row[0]), row[1]
    known = clips.get(name, ClipName(section, UNKNOWN, ""))
    real = parse_clip(value)
    if real is not None:
        clips[name] = real
    elif value not in {"0", "1"}:
        raise MetricsError(
            f"the answer is {value!r}", where=where, remedy="It is 0, 1 or the clip's real name."
        )
    elif "domain" in kind:
        clips[name] = replace(known, domain=TARGET if value == "1" else SOURCE)
    else:
        clips[name] = replace(known, label=ANOMALY if value == "1" else NORMAL)


def answer(machine: Machine, name: str, truth: Truth | None) -> Machine:
    """The machine with labels and domains for the test recordings that have none.

    Args:
        machine: Its recordings.
        name: What the answers call it.
        truth: The answers; None leaves it as it is.
    """
    clips = (truth or {}).get(name, {})
    return replace(machine, recordings=tuple(_answered(r, clips) for r in machine.recordings))


def _answered(recording: Recording, clips: dict[str, ClipName]) -> Recording:
    found = clips.get(recording.path.stem)
    if recording.role != "test" or recording.label is not None or found is None or not found.label:
        return recording
    domain = found.domain if found.domain != UNKNOWN else recording.domain
    return replace(recording, label=found.label, domain=domain)
