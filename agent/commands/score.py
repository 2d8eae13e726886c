"""`auscult score`: how healthy are these recordings?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import Written, json_option, write_given
from agent.core.text import plural, shown, visible

if TYPE_CHECKING:
    from agent.bundle.verify import Head
    from agent.core.reasons import Explanation
    from agent.core.records import Samples
    from agent.deploy.load import Bundle
    from agent.level.hearing import Hearing
    from agent.offline.recording import OpenRecording


@click.command(short_help="Score recordings with a bundle.")
@click.option(
    "--bundle",
    "bundle_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder that `auscult export` wrote.",
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@json_option("The scores")
@click.option(
    "--hop",
    type=click.FloatRange(min=0, min_open=True),
    help="Step between windows, seconds.  [default: the bundle's]",
)
@click.option(
    "--channel",
    type=click.IntRange(min=0),
    help="Channel to score, from 0.  [default: average of all]",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Say of each anomalous window which bands are unusual, and what healthy sound is nearest.",
)
@click.option(
    "--idle-gate/--no-idle-gate",
    default=True,
    show_default=True,
    help="Leave out windows in which the machine stands still, starts or stops, as the agent does.",
)
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(path_type=Path),
    help="Only with a bundle signed with the other half of this key (`auscult keygen`).",
)
@click.option(
    "--microphone",
    "microphone_path",
    type=click.Path(path_type=Path),
    help="What an agent keeps of its microphone, level/<machine>.json in the folder `state` of its "
    "state directory: it is taken off the recordings as the agent does.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--report", "report_path", metavar="FOLDER", type=Written(file=False),
    help="Folder for report.html, to look at and listen to, and the same as report.json, "
    "recordings.csv and windows.csv.",
)  # fmt: skip
@click.option(
    "--sound/--no-sound", default=True, show_default=True,
    help="Put the strangest recordings into the report, to be heard.",
)  # fmt: skip
def score(
    bundle_path: Path,
    files: tuple[Path, ...],
    json_path: Path | None,
    hop: float | None,
    channel: int | None,
    explain: bool,
    idle_gate: bool,
    public_key: Path | None,
    microphone_path: Path | None,
    threads: int,
    report_path: Path | None,
    *,
    sound: bool,
) -> None:
    """Print a score for each window of each FILE, and one for the FILE; folders are searched.

    Larger is stranger: 0 is the median of healthy sound, and above 1 it is anomalous. The zone is a
    severity from A to D; raw is the score on the bundle's own axis. Where the bundle can tell that
    the machine stands still, such windows are not counted. Ends with code 1 when a file could not
    be scored (the others are), 2 when the bundle cannot be used.
    """
    from agent.core.progress import busy
    from agent.deploy.opening import open_tried

    vouch = partial(_vouched, bundle_path, public_key)
    with busy("opening the bundle"):
        bundle = open_tried(bundle_path, threads=threads, vouch=vouch)
    hearing = _hearing(bundle, microphone_path)
    results = []
    for file in _expand(files):
        with busy(f"scoring {shown(file)}"):
            result = _score_file(
                bundle, file, hop, channel, idle_gate, explain=explain, hearing=hearing
            )
        results.append(result)
        _print(result)
    raw, rarity = bundle.manifest.threshold, bundle.significance
    document = {
        "bundle": shown(bundle_path),
        "machine": bundle.manifest.trained_on.machine,
        "preset": bundle.manifest.trained_on.preset,
        "window_seconds": bundle.manifest.window_seconds,
        "hop_seconds": hop or bundle.manifest.clip_hop_seconds,
        "threshold": 1.0,
        "raw_threshold": raw.value,
        "clip_threshold": 1.0,
        "raw_clip_threshold": raw.clip_value,
        "p_value_floor": None if rarity is None else rarity.windows.floor,
        "clip_p_value_floor": None if rarity is None else rarity.clips.floor,
        "files": results,
    }
    bundle.close()
    write_given(json_path, document)
    if report_path is not None:
        with busy("writing the report"):
            page = _report(document, bundle, report_path, channel, sound=sound)
        click.echo(f"auscult: look and listen: {page}", err=True)
    bad = sum(result["error"] is not None for result in results)
    if bad:
        click.echo(
            f"auscult: {bad} of {plural(len(results), 'recording')} could not be scored", err=True
        )
        sys.exit(1)


def _report(
    document: dict[str, Any], bundle: Bundle, folder: Path, channel: int | None, *, sound: bool
) -> Path:
    from agent.core.errors import ConfigError
    from agent.report.scored import write_report

    try:
        return write_report(document, bundle.manifest, folder, channel=channel, sound=sound)
    except OSError as fault:
        raise ConfigError(
            f"the report cannot be written: {fault.strerror}",
            where=folder,
            remedy="Give another --report FOLDER.",
        ) from fault


def _vouched(bundle: Path, public_key: Path | None, head: Head) -> None:
    """Refuse a bundle that a key does not vouch for, where one is given."""
    if public_key is None:
        return
    from agent.bundle.sign import CONTEXT, GROWN, load_public, verify_head

    grown = head.manifest.growth is not None
    verify_head(head, load_public(public_key), GROWN if grown else CONTEXT, bundle)


def _hearing(bundle: Bundle, path: Path | None) -> Hearing:
    """How recordings are heard, by what an agent keeps of its microphone."""
    from agent.core.errors import ConfigError
    from agent.level.baseline import LevelMemory, origin_of
    from agent.level.hearing import AS_HEARD, hearing_of
    from agent.level.words import microphone_words

    if path is None:
        return AS_HEARD
    try:
        memory = LevelMemory.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as fault:
        problem = "is not what an agent keeps of its microphone"
        if isinstance(fault, OSError):
            problem = f"cannot be read: {fault.strerror}"
        raise ConfigError(
            problem,
            where=path,
            remedy="Give state/level/<machine>.json of an agent's state directory.",
        ) from fault
    held = memory.holding(origin_of(bundle.manifest))
    if held is None:
        raise ConfigError(
            "nothing in it holds for this bundle",
            where=path,
            remedy="It was said of another bundle, or taken back; leave --microphone out.",
        )
    click.echo(f"auscult: {microphone_words(held)}", err=True)
    return hearing_of(held, bundle)


def _heard_as(heard: OpenRecording, hearing: Hearing, rate: int) -> Iterator[Samples]:
    return hearing.blocks(heard.blocks(), rate)


def _expand(files: tuple[Path, ...]) -> list[Path]:
    """Folders as the recordings in them, sorted."""
    from agent.capture.files import is_audio

    found: list[Path] = []
    for file in files:
        if file.is_dir():
            # Also what is no file (a link to nowhere): it is told of, not passed over.
            inside = sorted(
                path for path in file.rglob("*") if is_audio(path) and not path.is_dir()
            )
            # A folder without any is reported as a file that cannot be read would be.
            found += inside or [file]
        else:
            found.append(file)
    return found


def _score_file(
    bundle: Bundle,
    file: Path,
    hop: float | None,
    channel: int | None,
    idle_gate: bool,
    *,
    explain: bool,
    hearing: Hearing,
) -> dict[str, Any]:
    from dataclasses import asdict

    from agent.calibrate.limits import scales
    from agent.core.errors import AudioError
    from agent.core.records import MachineState
    from agent.core.scale import of_length
    from agent.offline.clips import score_clip
    from agent.offline.explain import explain_clip
    from agent.offline.recording import open_recording
    from agent.publish.messages import figures

    manifest = bundle.manifest
    result: dict[str, Any] = {
        "path": shown(file),
        "score": None,
        "zone": None,
        "raw_score": None,
        "p_value": None,
        "state": "unknown",
        "verdict": "invalid",
        "error": None,
        "notes": [],
        "windows": [],
    }
    if file.is_dir():  # those with recordings in them were expanded
        result["error"] = (
            f"{visible(shown(file))}: holds no recordings. "
            "Name a recording, or a folder with WAV, FLAC or other audio files in it."
        )
        return result
    try:
        heard = open_recording(file, manifest, channel)
        blocks = partial(_heard_as, heard, hearing, manifest.encoder.sample_rate)
        clip = score_clip(bundle, blocks(), hop_seconds=hop, idle_gate=idle_gate, hearing=hearing)
    except AudioError as fault:
        result["error"] = str(fault)
        return result
    told = scales(manifest.threshold, bundle.healthy, manifest.scorer.clip)
    result["notes"] = heard.notes()
    if unfit := heard.fault():
        result["error"] = f"{visible(shown(file))}: {unfit}; score one alone with --channel"
        return result
    result |= figures(of_length(told.clips, manifest.threshold.clip_value, clip.limit), clip.value)
    result["p_value"] = clip.p_value
    judged = [window for window in clip.windows if window.score is not None]
    standing = bool(judged) and all(window.state is MachineState.IDLE for window in judged)
    if judged:
        result["state"] = (MachineState.IDLE if standing else MachineState.RUNNING).value
    result["verdict"] = _verdict(
        clip.value,
        clip.limit,
        counts=not judged or any(window.counts for window in judged),
    )
    reasons: list[Explanation | None] = [None] * len(clip.windows)
    if explain:
        reasons = explain_clip(bundle, blocks(), clip, hop_seconds=hop)
    for window, validity, why in zip(clip.windows, clip.validity, reasons, strict=True):
        result["windows"].append(
            {
                "start": round(window.start, 6),
                **figures(told.windows, window.score),
                "p_value": window.p_value,
                "state": window.state.value,
                "verdict": _verdict(
                    window.score,
                    manifest.threshold.value,
                    counts=window.counts or window.score is None,
                ),
                "validity": validity.value,
                "reason": window.reason,
                "explanation": None if why is None else asdict(why),
            }
        )
    if not judged:
        whys = {window.reason for window in clip.windows} or {"holds no sound"}
        result["error"] = (
            f"{visible(shown(file))}: no window could be judged: {'; '.join(sorted(whys))}"
        )
    return result


def _verdict(value: float | None, threshold: float, *, counts: bool) -> str:
    if not counts:
        return "not_counted"
    if value is None:
        return "invalid"
    return "anomalous" if value > threshold else "normal"


def _print(result: dict[str, Any]) -> None:
    path = visible(result["path"])
    for note in result["notes"]:
        click.echo(f"auscult: {path}: {note}", err=True)
    for window in result["windows"]:
        why = f" ({_because(window)})" if window["reason"] else ""
        click.echo(f"{path}\t{window['start']:.1f} s\t{_judgement(window)}{why}")
        if window["explanation"] is not None:
            click.echo(f"\t{window['explanation']['text']}")
    if result["error"] is not None:
        click.echo(f"auscult: {result['error']}", err=True)
    else:
        click.echo(f"{path}\twhole\t{_judgement(result)}")


def _judgement(judged: dict[str, Any]) -> str:
    """Score, zone, raw score of its threshold, state and verdict, as columns."""
    rarity = "" if judged["p_value"] is None else f" (p {judged['p_value']:.3g})"
    shown = "-"
    if judged["score"] is not None:
        raw = f"raw {judged['raw_score']:.4g} of {judged['raw_threshold']:.4g}"
        shown = f"{judged['score']:.4g}{rarity}\tzone {judged['zone'].value}\t{raw}"
    verdict = judged["verdict"].replace("_", " ")
    return f"score {shown}\t{judged['state']}\t{verdict}"


def _because(window: dict[str, Any]) -> str:
    if window["validity"] == "valid":
        return str(window["reason"])
    return f"{window['validity']}: {window['reason']}"
