"""One page that tells what happened, pictures and sound inside: a file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.bundle.manifest import Manifest
from agent.capture.files import read_audio
from agent.core.records import Samples
from agent.core.text import plural
from agent.report.charts import Histogram, Lines, Series
from agent.report.page import Card, Number, Page
from agent.report.pictures import flac, small_spectrogram, top_of
from export.demo.outcome import Outcome, Record
from export.demo.pictures import score_histogram, scores_over_time
from export.demo.stream import Stream
from trainer.report.paint import draw, loudest, spectrogram

# Length of the sounds to listen to, seconds.
CLIP_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Story:
    """What the report tells.

    Attributes:
        stream: What was played.
        record: What the subscriber received.
        outcome: What that means.
        manifest: The bundle's.
        bundle_bytes: Size of the bundle, bytes.
        steps: (what was done, seconds it took).
        next_steps: How to do it with a real machine, as shell lines.
    """

    stream: Stream
    record: Record
    outcome: Outcome
    manifest: Manifest
    bundle_bytes: int
    steps: Sequence[tuple[str, float]]
    next_steps: str


def write_report(folder: Path, story: Story) -> tuple[Path, Path]:
    """Write `report.html` and `report.png`.

    Returns:
        The two files.
    """
    stream, record, outcome = story.stream, story.record, story.outcome
    sound = read_audio(stream.path, rate=stream.rate)
    healthy = _excerpt(sound, stream.rate, stream.onset - CLIP_SECONDS)
    # What raised the alarm; or, when nothing did, what should have.
    until = outcome.alarm if outcome.alarm is not None else stream.seconds
    faulty = _excerpt(sound, stream.rate, max(stream.onset, until - CLIP_SECONDS))
    reference = loudest((healthy, faulty))
    over_time = scores_over_time(record.windows, stream, outcome, record.raised)
    histogram = score_histogram(record.windows, stream)
    spectra = (
        spectrogram(healthy, stream.rate, "Healthy, just before the fault", reference),
        spectrogram(faulty, stream.rate, f"Faulty: {stream.fault}", reference),
    )
    picture = folder / "report.png"
    picture.write_bytes(draw((10, 13), over_time, histogram, *spectra))
    gain = 0.8 / max(1e-6, float(np.abs(healthy).max()), float(np.abs(faulty).max()))
    top = top_of((healthy, faulty), stream.rate)
    raised = "What raised the alarm" if outcome.detected else "Faulty"
    page = _page(
        story,
        [
            Card(
                name, about, small_spectrogram(sound, stream.rate, top),
                flac(sound * gain, stream.rate), tone,
            )
            for name, about, sound, tone in (
                ("Healthy", "just before the fault", healthy, "good"),
                (raised, stream.fault, faulty, "bad"),
            )
        ],
    )  # fmt: skip
    return page.write(folder / "report.html"), picture


def facts(story: Story) -> list[tuple[str, str]]:
    """The table of facts, as (what, how much)."""
    stream, outcome, manifest = story.stream, story.outcome, story.manifest
    hours = stream.onset / 3600
    share = outcome.healthy_exceeded / outcome.healthy_windows if outcome.healthy_windows else 0.0
    rate = outcome.false_alarms / hours if hours else 0.0
    trained = manifest.trained_on
    found = [
        ("Fault", f"{stream.fault}, from {stream.onset:.0f} s on"),
        (
            "Alarm",
            "none after the fault began"
            if outcome.alarm is None
            else f"at {outcome.alarm:.0f} s: {outcome.delay_seconds:.1f} s, "
            f"{plural(outcome.delay_windows or 0, 'window')} after the fault began",
        ),
        (
            "False alarms",
            (
                f"{outcome.false_alarms} in {stream.onset / 60:.1f} min of healthy sound "
                f"({rate:.1f} an hour; too short a time to know a rate)"
            ),
        ),
        (
            "Healthy windows above threshold",
            (
                f"{outcome.healthy_exceeded} of {outcome.healthy_windows} ({100 * share:.1f} %; "
                f"calibrated for {100 * manifest.threshold.false_alarm_rate:.2g} %)"
            ),
        ),
        (
            "Faulty windows above threshold",
            f"{outcome.faulty_exceeded} of {outcome.faulty_windows}",
        ),
        ("Windows lost on the way", str(outcome.missing)),
        ("Threshold", f"{manifest.threshold.value:.4g}: {manifest.threshold.method}"),
        (
            "Learnt from",
            (
                f"{plural(trained.recordings, 'healthy recording')}, "
                f"{trained.seconds / 60:.1f} min, "
                f"preset {trained.preset}, seed {trained.seed}"
            ),
        ),
        ("Bundle", f"{story.bundle_bytes / 1e6:.2f} MB"),
        ("Encoder", _encoder(manifest)),
    ]
    if trained.class_rule:
        found.append(
            (
                "Told apart in training",
                f"{plural(trained.classes, 'class', 'classes')}: {trained.class_rule}",
            )
        )
    notes = dict.fromkeys((manifest.threshold.caveat, *manifest.notes))
    found += [("Note", note) for note in notes if note]
    found += [(f"Time: {what}", f"{seconds:.0f} s") for what, seconds in story.steps]
    return found


def _encoder(manifest: Manifest) -> str:
    """What it is; what quantization changed only where it was quantized."""
    encoder, found = manifest.encoder, manifest.quantization
    named = f"{encoder.kind}, {encoder.precision}"
    if encoder.precision == "float32":
        return f"{named}, {found.bytes / 1e6:.2f} MB"
    return (
        f"{named}: {found.float_bytes / 1e6:.2f} MB to {found.bytes / 1e6:.2f} MB, "
        f"cosine to float32 {found.cosine_mean:.4f} (smallest {found.cosine_min:.4f})"
    )


def _excerpt(sound: Samples, rate: int, start: float) -> Samples:
    length = round(CLIP_SECONDS * rate)
    first = min(max(0, round(start * rate)), max(0, len(sound) - length))
    return sound[first : first + length]


def _page(story: Story, sounds: Sequence[Card]) -> Page:
    machine = story.manifest.trained_on.machine
    page = Page(f"auscult: {machine}", heading=f"auscult listened to {machine}")
    outcome = story.outcome
    page.answer(outcome.verdict(), tone=_tone(outcome))
    page.numbers(
        (
            Number(
                "Delay",
                "none" if outcome.delay_seconds is None else f"{outcome.delay_seconds:.0f} s",
                "from the fault's beginning to the alarm",
            ),
            Number(
                "False alarms",
                str(outcome.false_alarms),
                f"in {story.stream.onset / 60:.1f} min of healthy sound",
            ),
            Number(
                "Healthy windows above the threshold",
                f"{outcome.healthy_exceeded} of {outcome.healthy_windows}",
                f"calibrated for {100 * story.manifest.threshold.false_alarm_rate:.2g} %",
            ),
        )
    )
    page.first_chart("What the agent published: each window's score", _over_time(story))
    page.heading("Listen")
    page.recordings(sounds)
    page.text(
        f"Pictures: {CLIP_SECONDS:.0f} s to the right, "
        f"0 to {story.stream.rate / 2000:g} kHz upwards, bright is loud.",
        note=True,
    )
    page.heading("Scores of all windows")
    page.chart("Windows that are wholly healthy, and wholly faulty", _histogram(story))
    page.heading("Facts")
    page.facts(facts(story))
    page.heading("With your machine")
    page.shell(story.next_steps)
    return page


def _over_time(story: Story) -> Lines:
    stream, outcome = story.stream, story.outcome
    valid = [w for w in story.record.windows if w.score is not None]
    marks = [(stream.onset, "fault begins")]
    marks += [(end, "false alarm") for end in story.record.raised if end <= stream.onset]
    if outcome.alarm is not None:
        marks.append((outcome.alarm, "alarm raised"))
    return Lines(
        x=[w.end for w in valid],
        series=(
            Series("score", [w.score for w in valid]),
            Series("above the threshold", [w.score if w.exceeded else None for w in valid],
                   "faulty", dots=True),
        ),
        x_words="heard until, seconds of the stream",
        y_words="anomaly score",
        level=(valid[0].threshold, "threshold") if valid else None,
        marks=marks,
    )  # fmt: skip


def _histogram(story: Story) -> Histogram:
    valid = [(w, w.score) for w in story.record.windows if w.score is not None]
    onset = story.stream.onset
    return Histogram(
        [score for w, score in valid if w.end <= onset],
        valid[0][0].threshold if valid else 0.0,
        "faulty | healthy windows",
        [score for w, score in valid if w.start >= onset],
    )


def _tone(outcome: Outcome) -> str:
    """Green only for an alarm that nothing false went before."""
    if not outcome.detected:
        return "bad"
    return "unknown" if outcome.false_alarms else "good"
