"""The layout of DCASE Task 2 data (2020 to 2026).

    <machine>/train/section_00_source_train_normal_0001_<attribute>_<value>....wav
    <machine>/test/section_00_target_test_anomaly_0001_....wav     evaluation: section_00_0001.wav
    <machine>/supplemental/section_00_source_supplemental_machine_0000.wav      machine, no noise
    <machine>/supplemental/section_00_noise_supplemental_normal_0000.wav        noise, no machine
    <machine>/attributes_00.csv        file_name,d1p,d1v,d2p,d2v...             optional
    2021: <machine>/{train,source_test,target_test}/section_00_...
    2020: <machine>/train/normal_id_00_00000000.wav, test/anomaly_id_00_00000000.wav, and
    test/id_01_00000000.wav in the evaluation set; an id is a machine of its own, read as a section

Names are read word by word, so that an absent or unexpected word costs only what it would have
said. Source: the task descriptions at dcase.community (2022 to 2025).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.capture.files import is_audio
from agent.core.errors import ConfigError
from agent.recordings.model import Machine, Recording, Rejected
from agent.recordings.walk import audio_files, subfolders

TRAIN = "train"
TEST = "test"
# 2021 keeps the domains of its test set apart.
_TESTS = (TEST, "source_test", "target_test")
# The additional recordings of 2025; `idle`, `noise` and `clean` are accepted beside them.
_EXTRAS = ("supplemental", "idle", "noise", "clean")
_ROLE_WORDS = {"noise": "noise", "idle": "idle", "clean": "clean", "machine": "clean"}
_DOMAINS = ("source", "target")
_LABELS = ("normal", "anomaly")
_NO_ATTRIBUTE = "noattribute"
# Headings of the column that names files.
_NAMES = frozenset({"file_name", "filename", "file"})


@dataclass(frozen=True, slots=True)
class NameParts:
    """What a DCASE file name says.

    Attributes:
        words: The lower-case words between the section and the running number.
        section: Section number as text, empty when the name has none.
        attributes: Operating conditions named after the running number.
    """

    words: tuple[str, ...]
    section: str
    attributes: dict[str, str]


def parse_name(stem: str) -> NameParts:
    """Read a file name without its suffix, for example `section_00_source_train_normal_0001_n_B`.

    A last attribute without a value (`..._ambient`, `..._strength_1_ambient`) gets an empty one.
    """
    named = re.fullmatch(r"section_(\d+)(?:_(.*))?", stem, re.IGNORECASE)
    if named is None:
        first = re.fullmatch(r"(?:(normal|anomaly)_)?id_(\d+)_\d+", stem, re.IGNORECASE)
        if first is not None:
            return NameParts((first[1].lower(),) if first[1] else (), first[2], {})
        return NameParts(tuple(re.split(r"[_\s]+", stem.lower())), "", {})
    tokens = (named[2] or "").split("_")
    number = next((n for n, token in enumerate(tokens) if token.isdigit()), len(tokens))
    rest = [token for token in tokens[number + 1 :] if token]
    if rest and rest[0].lower() == _NO_ATTRIBUTE:
        rest = []
    values = [*rest[1::2], ""]
    attributes = dict(zip(rest[::2], values, strict=False))
    return NameParts(tuple(token.lower() for token in tokens[:number]), named[1], attributes)


def read_attributes(path: Path) -> dict[str, dict[str, str]]:
    """Read an `attributes_<s>.csv`.

    Args:
        path: Its first column names files, with or without folders and suffix; after it come
            parameter and value in turns, both empty where there is none.

    Returns:
        Attributes by file stem.

    Raises:
        ConfigError: It cannot be read, or has no column `file_name`.
    """
    try:
        rows = list(csv.reader(io.StringIO(_text(path)), delimiter=_delimiter(_text(path))))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise ConfigError(
            f"cannot be read: {fault}", where=path, remedy="Save it as CSV in UTF-8."
        ) from fault
    head = [cell.strip() for cell in rows[0]] if rows else []
    place = next((n for n, cell in enumerate(head) if cell.lower() in _NAMES), None)
    if place is None:
        raise ConfigError(
            "has no column `file_name`",
            where=path,
            remedy="Its first line should be file_name,d1p,d1v,d2p,d2v..., or file_name and a "
            "column for each attribute; or take it away: it is optional.",
        )
    pairs = all(re.fullmatch(r"d\d+[pv]", cell.lower()) for cell in head[place + 1 :] if cell)
    table = {}
    for row in rows[1:]:
        if len(row) <= place or not row[place].strip():
            continue
        # Windows paths occur, and a value such as 0.30 is not a suffix: cut only a known one.
        name = re.split(r"[\\/]", row[place].strip())[-1]
        stem = Path(name).stem if is_audio(Path(name)) else name
        cells = row[place + 1 :]
        found = (
            zip(cells[::2], cells[1::2], strict=False)
            if pairs
            else zip(head[place + 1 :], cells, strict=False)
        )
        table[stem] = {
            parameter.strip(): value.strip()
            for parameter, value in found
            if parameter.strip()
            and parameter.strip().lower() != _NO_ATTRIBUTE
            and (pairs or value.strip())
        }
    return table


def _text(path: Path) -> str:
    """A CSV as spreadsheets save it: UTF-8 or UTF-16, with or without a mark, or Latin-1."""
    data = path.read_bytes()
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _delimiter(text: str) -> str:
    """What separates the columns of the first line."""
    first = text.split("\n", 1)[0]
    return max(",;\t|", key=first.count)


def is_dcase(folder: Path) -> bool:
    """Whether a folder is one machine's: it has `train/`, or `test/` with DCASE names in it."""
    folders = subfolders(folder)
    if TRAIN in folders:
        return True
    tests = (path for kind in _TESTS if kind in folders for path in audio_files(folders[kind]))
    return any(parse_name(path.stem).section for path in tests)


def read_dcase(folder: Path) -> Machine:
    """List one machine's recordings, from names and `attributes_<s>.csv` alone.

    Where both speak of an attribute, the CSV wins. A file whose name contradicts its folder (an
    anomaly in `train/`), or says too little, is rejected.

    Raises:
        ConfigError: A CSV cannot be read.
    """
    table: dict[str, dict[str, str]] = {}
    tables: list[tuple[Path, dict[str, dict[str, str]]]] = []
    for path in sorted(folder.glob("attributes_*.csv")):
        rows = read_attributes(path)
        table.update(rows)
        tables.append((path, rows))
    found: list[Recording] = []
    rejected: list[Rejected] = []
    for kind, place in subfolders(folder).items():
        if kind not in {TRAIN, *_TESTS, *_EXTRAS}:
            continue
        for path in audio_files(place):
            parts = parse_name(path.stem)
            # The file's own words go before those of the folder nearest to it.
            folders = [part.lower() for part in reversed(path.relative_to(folder).parts[:-1])]
            words = [*parts.words, *(w for f in folders for w in re.split(r"[-_\s]+", f))]
            role, fault = _role(kind, words)
            if fault is not None:
                rejected.append(Rejected(path, *fault))
                continue
            found.append(
                Recording(
                    path=path,
                    machine=folder.name,
                    role=role,
                    label=_first(words, _LABELS) if role == TEST else None,
                    section=parts.section,
                    domain=_first(words, _DOMAINS) or "unknown",
                    attributes={**parts.attributes, **table.get(path.stem, {})},
                )
            )
    stems = {recording.path.stem for recording in found}
    for path, rows in tables:
        strange = sorted(set(rows) - stems)
        if strange:
            rejected.append(
                Rejected(
                    path,
                    f"{len(strange)} of its {len(rows)} rows name no recording here, for example "
                    f"{strange[0]}",
                    "Correct the names in its column `file_name`, or add the recordings.",
                )
            )
    return Machine(folder.name, folder, tuple(found), tuple(rejected))


def _role(kind: str, words: Sequence[str]) -> tuple[str, tuple[str, str] | None]:
    """Role of a file in folder `kind`, and reason and remedy when it can't have one."""
    if kind in _TESTS:
        return TEST, None
    if "anomaly" in words:
        return "", (
            f"is named an anomaly, but lies in {kind}/, which is learnt as healthy",
            "Move it to test/, or correct its name.",
        )
    # In train/ any healthy recording may be called `machine`; only as an extra does it mean clean.
    meant = kind != TRAIN or "supplemental" in words
    extra = _first(words, [word for word in _ROLE_WORDS if meant or word != "machine"])
    if extra is not None:
        return _ROLE_WORDS[extra], None
    if kind == TRAIN:
        return "normal", None
    return "", (
        "neither its name nor its folder says whether it is the clean machine or noise alone",
        f"Put it in {kind}/clean/ or {kind}/noise/.",
    )


def _first(words: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((word for word in words if word in wanted), None)
