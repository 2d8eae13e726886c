"""One page that tells what happened, pictures and sound inside: a file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from agent.bundle.manifest import Manifest
from agent.capture.files import read_audio
from agent.frames import Samples
from export.demo.outcome import Outcome, Record
from export.demo.pictures import (
    draw,
    loudest,
    score_histogram,
    scores_over_time,
    spectrogram,
)
from export.demo.stream import Stream

# Length of the sounds to listen to, seconds.
CLIP_SECONDS = 6.0

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#222}
h1{margin-bottom:.2em} .verdict{padding:.8rem 1rem;border-radius:6px;color:#fff;font-weight:600}
.yes{background:#00664a}.no{background:#b34700} img{width:100%;height:auto}
table{border-collapse:collapse} td{padding:.2rem 1rem .2rem 0;vertical-align:top}
td:first-child{color:#666;white-space:nowrap} figure{margin:1rem 0;display:inline-block;width:48%}
audio{width:100%} code,pre{background:#f3f3f3;border-radius:4px;padding:.1rem .3rem}
pre{padding:.8rem;overflow-x:auto}
"""


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
    page = folder / "report.html"
    gain = 0.8 / max(1e-6, float(np.abs(healthy).max()), float(np.abs(faulty).max()))
    page.write_text(
        _page(
            story,
            images=(
                ("Scores over time", draw((10, 3.6), over_time)),
                ("Score histogram", draw((10, 3.0), histogram)),
                ("Spectrograms, healthy and faulty", draw((10, 5.4), *spectra)),
            ),
            sounds=(
                ("Healthy, just before the fault", flac(healthy * gain, stream.rate)),
                (
                    "What raised the alarm" if outcome.detected else "Faulty",
                    flac(faulty * gain, stream.rate),
                ),
            ),
        ),
        encoding="utf-8",
    )
    return page, picture


def facts(story: Story) -> list[tuple[str, str]]:
    """The table of facts, as (what, how much)."""
    stream, outcome, manifest = story.stream, story.outcome, story.manifest
    hours = stream.onset / 3600
    share = outcome.healthy_exceeded / outcome.healthy_windows if outcome.healthy_windows else 0.0
    rate = outcome.false_alarms / hours if hours else 0.0
    quantization, trained = manifest.quantization, manifest.trained_on
    found = [
        ("Fault", f"{stream.fault}, from {stream.onset:.0f} s on"),
        (
            "Alarm",
            "none after the fault began"
            if outcome.alarm is None
            else f"at {outcome.alarm:.0f} s: {outcome.delay_seconds:.1f} s, "
            f"{outcome.delay_windows} windows after the fault began",
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
                f"calibrated for {100 * manifest.threshold.false_alarm_rate:g} %)"
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
                f"{trained.recordings} healthy recordings, {trained.seconds / 60:.1f} min, "
                f"preset {trained.preset}, seed {trained.seed}"
            ),
        ),
        ("Bundle", f"{story.bundle_bytes / 1e6:.2f} MB"),
        (
            "Encoder",
            (
                f"{manifest.encoder.kind}, {manifest.encoder.precision}: "
                f"{quantization.float_bytes / 1e6:.2f} MB to {quantization.bytes / 1e6:.2f} MB, "
                f"cosine to float32 {quantization.cosine_mean:.4f} "
                f"(smallest {quantization.cosine_min:.4f})"
            ),
        ),
    ]
    if trained.class_rule:
        found.append(("Told apart in training", f"{trained.classes} classes: {trained.class_rule}"))
    notes = dict.fromkeys((manifest.threshold.caveat, *manifest.notes))
    found += [("Note", note) for note in notes if note]
    found += [(f"Time: {what}", f"{seconds:.0f} s") for what, seconds in story.steps]
    return found


def flac(sound: Samples, rate: int) -> bytes:
    """A sound as a 16-bit FLAC file, which browsers play."""
    target = io.BytesIO()
    soundfile.write(target, sound, rate, format="FLAC", subtype="PCM_16")
    return target.getvalue()


def _excerpt(sound: Samples, rate: int, start: float) -> Samples:
    length = round(CLIP_SECONDS * rate)
    first = min(max(0, round(start * rate)), max(0, len(sound) - length))
    return sound[first : first + length]


def _page(
    story: Story,
    *,
    images: Sequence[tuple[str, bytes]],
    sounds: Sequence[tuple[str, bytes]],
) -> str:
    verdict = "yes" if story.outcome.detected else "no"
    rows = "\n".join(
        f"<tr><td>{html.escape(what)}</td><td>{html.escape(value)}</td></tr>"
        for what, value in facts(story)
    )
    pictures = "\n".join(
        f'<img alt="{html.escape(title)}" src="{_data_uri("image/png", data)}">'
        for title, data in images
    )
    players = "\n".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<audio controls src="{_data_uri("audio/flac", data)}"></audio></figure>'
        for title, data in sounds
    )
    machine = html.escape(story.manifest.trained_on.machine)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>auscult: {machine}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>auscult listened to {machine}</h1>
<p class="verdict {verdict}">{html.escape(story.outcome.verdict())}</p>
{pictures}
<h2>Listen</h2>
{players}
<h2>Facts</h2>
<table>
{rows}
</table>
<h2>With your machine</h2>
<pre>{html.escape(story.next_steps)}</pre>
</body></html>
"""


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
