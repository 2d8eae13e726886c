"""What the measured recordings say, in words: mixtures, odd ones, and what they can promise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from agent.bundle.facts import ConditionsInfo
from agent.bundle.manifest import Row
from agent.core.text import plural
from agent.hygiene.measure import Measured
from agent.hygiene.record import NoteRecord
from agent.recordings.model import Machine, Recording
from agent.recordings.windows import source_name
from agent.score.sessions import one_session, session_names, session_note
from agent.window.conditions import is_lossy

# Band edges of one make of resampler or microphone lie within this of each other, as a share.
_EDGE = 0.1
# A recording this far from the middle level was made at another gain or place, dB.
_LEVEL_DB = 20.0
_OFFSET = 0.01
_NAMED = 4
# What the later stages need: see agent/drift, agent/decide and docs/notes/thresholds.md.
_DRIFT_RECORDINGS, _ALERT_WINDOWS, _FEW = 32, 50, 20

_FAULTY = frozenset({"abnormal", "anomaly", "anomalous", "faulty", "broken", "defect", "defective"})

Known = Mapping[Path, Measured]


def describe_conditions(
    recordings: Sequence[Recording], known: Known, channel: int | None
) -> ConditionsInfo:
    """How the recordings were made that are learnt from."""
    found = [known[r.path] for r in recordings]
    edges = [one.bandwidth_hz for one in found if one.bandwidth_hz is not None]
    levels = [one.channel_levels_dbfs for one in found]
    usual: tuple[float, ...] = ()
    if channel is None and found and len({len(one) for one in levels}) == 1 and len(levels[0]) > 1:
        beside = [[level - max(one) for level in one] for one in levels]
        usual = tuple(round(median(column), 1) for column in zip(*beside, strict=True))
    return ConditionsInfo(
        channel=channel,
        channels=tuple(sorted({one.channels for one in found})),
        channel_levels_db=usual,
        sample_rates=tuple(sorted({one.rate for one in found})),
        codecs=tuple(sorted({one.codec for one in found if one.codec})),
        bandwidth_hz=round(median(edges), 1) if edges else None,
        bandwidth_range_hz=(round(min(edges), 1), round(max(edges), 1)) if edges else None,
        clip_seconds=(
            (
                round(min(one.seconds for one in found), 3),
                round(max(one.seconds for one in found), 3),
            )
            if found
            else None
        ),
    )


def take_notes(machine: Machine, known: Known, channel: int | None) -> list[NoteRecord]:
    """Everything worth knowing of a machine's recordings but duplicates and untypical ones."""
    normal = [known[r.path] for r in machine.of("normal")]
    tests = [known[r.path] for r in machine.of("test")]
    return [
        *_misnamed(machine, normal),
        *_headers(machine, known),
        *_rates(machine, normal, tests),
        *_edges(machine, normal, tests),
        *_codecs(machine, [*normal, *tests]),
        *_channels(machine, normal, tests, channel),
        *_levels(machine, normal),
        *_promise(normal),
        *_sessions(machine),
    ]


def named(machine: Machine, found: Iterable[Measured]) -> str:
    """A few recordings by name, and how many more there are."""
    names = [one.path.relative_to(machine.root).as_posix() for one in found]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _misnamed(machine: Machine, normal: Sequence[Measured]) -> list[NoteRecord]:
    """Healthy recordings whose own names say that they are not."""
    odd = [one for one in normal if _FAULTY & set(re.split(r"[^a-z]+", one.path.stem.lower()))]
    if not odd:
        return []
    return [
        NoteRecord(
            kind="name",
            serious=True,
            text=f"{plural(len(odd), 'recording')} among the healthy called faulty by name "
            f"({named(machine, odd)}): move them to test/anomaly/, or rename them",
        )
    ]


def _headers(machine: Machine, known: Known) -> list[NoteRecord]:
    odd = [known[r.path] for r in machine.recordings if known[r.path].note]
    return [
        NoteRecord(kind="header", text=f"{named(machine, [one])}: {one.note}")
        for one in odd[:_NAMED]
    ] + (
        [NoteRecord(kind="header", text=f"the same of {named(machine, odd[_NAMED:])}")]
        if len(odd) > _NAMED
        else []
    )


def _rates(
    machine: Machine, normal: Sequence[Measured], tests: Sequence[Measured]
) -> list[NoteRecord]:
    notes = []
    rates = Counter(one.rate for one in normal)
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        others = [one for one in normal if one.rate != usual]
        told = ", ".join(f"{rate} Hz ({count})" for rate, count in rates.most_common())
        notes.append(
            NoteRecord(
                kind="rate",
                serious=True,
                text=f"healthy recordings of several rates: {told}. What resampled them shapes "
                f"their upper band, and a detector hears that: record all at one rate "
                f"({named(machine, others)})",
            )
        )
    other = [one for one in tests if rates and one.rate not in rates]
    if other:
        notes.append(
            NoteRecord(
                kind="test",
                serious=True,
                text=f"{plural(len(other), 'test recording')} of "
                f"{_listed(sorted({one.rate for one in other}))} Hz, the healthy ones of "
                f"{_listed(sorted(rates))} Hz: a test would measure the resampler "
                f"({named(machine, other)})",
            )
        )
    return notes


def _sessions(machine: Machine) -> list[NoteRecord]:
    """Recordings of one go: what they cannot tell of other days."""
    normal = machine.of("normal")
    names = [source_name(machine.root, recording) for recording in normal]
    rows = [
        Row(
            source=name,
            start=0.0,
            group=name,
            domain=recording.domain,
            section=recording.section,
            attributes=recording.attributes,
            session=session,
        )
        for recording, name, session in zip(normal, names, session_names(names), strict=True)
    ]
    text = session_note(rows)
    serious = bool(one_session(rows))
    return [NoteRecord(kind="session", serious=serious, text=text)] if text else []


def _edges(
    machine: Machine, normal: Sequence[Measured], tests: Sequence[Measured]
) -> list[NoteRecord]:
    edges = [one.bandwidth_hz for one in normal if one.bandwidth_hz]
    if not edges:
        return []
    usual = median(edges)
    notes = []
    for kind, found, words in (
        ("bandwidth", normal, "healthy recording"),
        ("test", tests, "test recording"),
    ):
        # What ends within the rate is cut; a wider band at a higher rate is no loss to anybody.
        odd = [
            one
            for one in found
            if one.bandwidth_hz
            and (one.bandwidth_hz < usual * (1 - _EDGE) or one.bandwidth_hz > usual * (1 + _EDGE))
        ]
        if odd:
            low, high = (f(one.bandwidth_hz or 0.0 for one in odd) for f in (min, max))
            notes.append(
                NoteRecord(
                    kind=kind,
                    serious=True,
                    text=f"{plural(len(odd), words)} of another bandwidth, up to "
                    f"{_khz(low)}{'' if low == high else ' to ' + _khz(high)} where "
                    f"{_khz(usual)} is usual: resampled, compressed or recorded otherwise "
                    f"({named(machine, odd)})",
                )
            )
    return notes


def _codecs(machine: Machine, found: Sequence[Measured]) -> list[NoteRecord]:
    lossy = [one for one in found if is_lossy(one.codec)]
    if not lossy or len(lossy) == len(found):
        return []
    return [
        NoteRecord(
            kind="codec",
            serious=True,
            text=f"{len(lossy)} of {plural(len(found), 'recording')} are compressed with loss "
            f"({_listed(sorted({one.codec for one in lossy}))}), which shapes their upper band: "
            f"use one form for all ({named(machine, lossy)})",
        )
    ]


def _channels(
    machine: Machine, normal: Sequence[Measured], tests: Sequence[Measured], channel: int | None
) -> list[NoteRecord]:
    notes = []
    counts = Counter(one.channels for one in [*normal, *tests])
    if channel is None and len(counts) > 1:
        told = ", ".join(f"{n} ({count})" for n, count in sorted(counts.items()))
        notes.append(
            NoteRecord(
                kind="channels",
                serious=True,
                text=f"recordings of several numbers of channels, each averaged: {told}",
            )
        )
    faults: dict[str, list[Measured]] = {}
    for one in [*normal, *tests]:
        for fault in one.channel_faults:
            key = f"{fault.channels} {fault.validity.value}"
            faults.setdefault(key, []).append(one)
    for odd in faults.values():
        text = next(iter(odd[0].channel_faults)).text
        good = [n for n in range(odd[0].channels) if n not in odd[0].channel_faults[0].channels]
        advice = f"; train on another alone: --channel {good[0]}" if good else ""
        notes.append(
            NoteRecord(
                kind="channels",
                serious=True,
                text=f"{text}, in {plural(len(odd), 'recording')}, and is averaged with the "
                f"others{advice} ({named(machine, odd)})",
            )
        )
    return notes


def _levels(machine: Machine, normal: Sequence[Measured]) -> list[NoteRecord]:
    notes = []
    levels = {one.path: median(one.levels_dbfs) for one in normal if one.levels_dbfs}
    if levels:
        middle = median(levels.values())
        odd = [
            one
            for one in normal
            if one.path in levels and abs(levels[one.path] - middle) > _LEVEL_DB
        ]
        if odd:
            notes.append(
                NoteRecord(
                    kind="level",
                    serious=True,
                    text=f"{plural(len(odd), 'healthy recording')} more than {_LEVEL_DB:g} dB "
                    f"from the usual {middle:.0f} dBFS: another gain, place, or a machine that "
                    f"stands still ({named(machine, odd)})",
                )
            )
    offset = [one for one in normal if abs(one.offset) > _OFFSET]
    if offset:
        worst = max(offset, key=lambda one: abs(one.offset))
        notes.append(
            NoteRecord(
                kind="offset",
                text=f"{plural(len(offset), 'recording')} with a constant part (DC) of up to "
                f"{abs(worst.offset):.1%} of full scale, which auscult's own presets do not hear "
                f"({named(machine, offset)})",
            )
        )
    return notes


def _promise(normal: Sequence[Measured]) -> list[NoteRecord]:
    """What is missing to promise what."""
    count, minutes = len(normal), sum(one.seconds for one in normal) / 60
    windows = sum(max(1, int(one.seconds // 10)) for one in normal)
    missing = []
    if windows < _DRIFT_RECORDINGS:
        missing.append(f"drift needs {_DRIFT_RECORDINGS} windows of 10 s, there are {windows}")
    if windows < _ALERT_WINDOWS:
        missing.append(
            f"alerts, the step before an alarm, need {_ALERT_WINDOWS} windows, there are {windows}"
        )
    if count < _FEW:
        missing.append(
            f"a false-alarm rate below {1 / (count + 1):.2g} is beyond "
            f"{plural(count, 'recording')}: it is extrapolated"
        )
    text = f"{plural(count, 'healthy recording')}, {minutes:.1f} minutes"
    return [
        NoteRecord(
            kind="promise",
            text=f"{text}: " + ("; ".join(missing) or "enough for all that is promised"),
        )
    ]


def _khz(hertz: float) -> str:
    return f"{hertz / 1000:.3g} kHz"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
