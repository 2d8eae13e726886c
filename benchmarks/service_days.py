"""Machines in service: false alarms a day against the promise, delay and recall by fault strength.

    .venv/bin/python benchmarks/service_days.py --work FOLDER

Trains and exports each machine as a user would (`auscult train`, `auscult export`, all defaults),
scores hours of sound that training never heard at the device's hop, and lets the agent's own
decider judge, with the defaults of the configuration. The scores are kept in FOLDER, so that
another rule of decision is tried in seconds (`--decide '{"raise_windows": 3, ...}'`). Real machines
need $AUSCULT_SHARED; sentences need espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import service_sounds as sounds
from rich.console import Console
from rich.table import Table

from agent.config.agent import MachineConfig
from agent.config.decide import DecideConfig
from agent.core.records import AudioBlock, Level, MachineState, Score, Validity, Window
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle, open_bundle
from agent.machine.scoring import WindowScorer
from agent.machine.settings import settings_of
from agent.window.rolling import RollingWindow

AUSCULT = Path(sys.executable).with_name("auscult")
SHARED = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared"))
BLOCK = 16_000
# An alarm belongs to a passing sound when it rises until this long after its end, seconds.
AFTER = 15.0
PERIOD = 4_000_000.0  # monotonic time of the first sample, far from zero as in service


@dataclass(frozen=True)
class Scored:
    """A stream's windows: end (s), score (NaN when invalid), 1 where idle."""

    name: str
    kind: str
    seconds: float
    events: tuple[sounds.Event, ...]
    ends: np.ndarray
    scores: np.ndarray
    idle: np.ndarray


def auscult(*words: str | Path) -> None:
    """Run a command; its own words explain a failure."""
    done = subprocess.run([AUSCULT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"auscult {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def scored(bundle: Bundle, stream: sounds.Stream, hop: float) -> Scored:
    """Score a stream as the agent does."""
    encoder = bundle.manifest.encoder
    config = MachineConfig(name="bench", hop_seconds=hop)
    levels = settings_of(config, bundle).levels
    rolling = RollingWindow(
        encoder.window_samples, round(hop * encoder.sample_rate), encoder.sample_rate, levels=levels
    )
    judge = WindowScorer("bench", bundle)
    found = []
    sound = stream.sound
    if encoder.sample_rate != sounds.RATE:
        from agent.capture.convert import resampled  # noqa: F401

        raise SystemExit("only encoders at 16 kHz")
    for at in range(0, len(sound), BLOCK):
        block = AudioBlock(sound[at : at + BLOCK], sounds.RATE, at / sounds.RATE, at / sounds.RATE)
        for window in rolling.push(block):
            judged = judge.judge(window)
            value = np.nan if judged.score.value is None else judged.score.value
            found.append((window.end_monotonic, value, judged.state is MachineState.IDLE))
    ends, scores, idle = zip(*found, strict=True) if found else ((), (), ())
    return Scored(
        stream.name, stream.kind, len(sound) / sounds.RATE, stream.events,
        np.array(ends), np.array(scores, np.float32), np.array(idle, bool),
    )  # fmt: skip


def prepare(place: sounds.Place, work: Path, preset: str | None, hop: float) -> tuple[Path, Path]:
    """Train, export and score unless that was done; the bundle, and the folder of scores."""
    folder = work / place.name.replace(" ", "_").replace(",", "")
    bundle, scores = folder / "bundle", folder / f"scores-{hop:g}"
    if not (bundle / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        root = place.write(data) if not data.exists() else next(data.rglob("normal")).parent
        words = () if preset is None else ("--preset", preset)
        auscult("train", root, *words, "--out", folder / "run", "--force")
        auscult("export", folder / "run", "--out", bundle)
    if not (scores / "done").exists():
        scores.mkdir(exist_ok=True)
        opened = open_bundle(bundle, threads=1)
        for number, stream in enumerate(place.streams()):
            one = scored(opened, stream, hop)
            events = json.dumps([vars(e) for e in one.events])
            np.savez(
                scores / f"{number:03d}.npz", name=one.name, kind=one.kind, seconds=one.seconds,
                events=events, ends=one.ends, scores=one.scores, idle=one.idle,
            )  # fmt: skip
        opened.close()
        (scores / "done").touch()
    return bundle, scores


def read(folder: Path) -> Iterator[Scored]:
    """The kept scores of a machine."""
    for path in sorted(folder.glob("*.npz")):
        d = np.load(path, allow_pickle=False)
        events = tuple(sounds.Event(**e) for e in json.loads(str(d["events"])))
        yield Scored(
            str(d["name"]), str(d["kind"]), float(d["seconds"]), events, d["ends"], d["scores"],
            d["idle"],
        )  # fmt: skip


def raised(
    bundle: Bundle, stream: Scored, decide: DecideConfig, hop: float
) -> list[tuple[float, float]]:
    """When alarms rise and clear, by the agent's decider."""
    config = MachineConfig(name="bench", hop_seconds=hop, decide=decide)
    terms = settings_of(config, bundle)
    decider = AlarmDecider(
        decide, terms.thresholds.alarm, alert_threshold=terms.thresholds.alert,
        hop_seconds=terms.hop_seconds, overlap_seconds=terms.overlap_seconds,
    )  # fmt: skip
    seconds = bundle.manifest.window_seconds
    nothing = np.zeros(round(seconds * sounds.RATE), np.float32)
    found: list[tuple[float, float]] = []
    begun = None
    for number, (end, score, idle) in enumerate(
        zip(stream.ends, stream.scores, stream.idle, strict=True)
    ):
        valid = np.isfinite(score)
        window = Window(
            nothing, sounds.RATE, number, PERIOD + end - seconds, end - seconds,
            Validity.VALID if valid else Validity.OUT_OF_RANGE,
        )  # fmt: skip
        decision = decider.decide(
            Score(window, float(score) if valid else None),
            MachineState.IDLE if idle else MachineState.RUNNING,
        )
        alarm = decision.level is Level.ALARM
        if alarm and begun is None:
            begun = float(end)
        elif not alarm and begun is not None:
            found.append((begun, float(end)))
            begun = None
    if begun is not None:
        found.append((begun, float("inf")))
    return found


def upper(count: int) -> float:
    """95 % upper bound of a Poisson mean."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.95, 2 * count + 2) / 2)


class Counters:
    """What a rule of decision did on every machine."""

    def __init__(self) -> None:
        self.days: dict[str, float] = defaultdict(float)
        self.false: dict[str, int] = defaultdict(int)
        self.passed: dict[str, list[int]] = defaultdict(list)
        self.delays: dict[str, list[float | None]] = defaultdict(list)

    def add(self, machine: str, stream: Scored, alarms: list[tuple[float, float]]) -> None:
        """Count a stream's alarms."""
        if stream.kind == "healthy":
            self.days[machine] += stream.seconds / 86_400
            self.false[machine] += len(alarms)
            return
        for event in stream.events:
            if stream.kind == "disturbed":
                hit = [a for a, _ in alarms if event.start <= a <= event.end + AFTER]
                self.passed[event.what].append(bool(hit))
                continue
            after = [max(a, event.start) for a, b in alarms if b > event.start and a <= event.end]
            if stream.kind == "gain":
                self.passed[event.what].append(bool(after))
            else:
                # One that stood before is a false one, and no detection.
                fresh = [a - event.start for a in after if a > event.start]
                self.delays[event.strength].append(min(fresh) if fresh else None)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and scores")
    parser.add_argument("--preset", help="the default one when not given")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=4.0, help="of each of them")
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--decide", default="{}", help="`decide` section as JSON")
    parser.add_argument("--only", help="machines whose names contain this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    decide = DecideConfig.model_validate(json.loads(options.decide))
    places = [
        sounds.synthetic(s, options.hours, 24 if s % 2 else 60)
        for s in range(11, 11 + options.synthetic)
    ]
    if (SHARED / "data").is_dir():
        places += sounds.real(SHARED)
    counters, began = Counters(), time.monotonic()
    for place in places:
        if options.only and options.only not in place.name:
            continue
        path, folder = prepare(place, options.work, options.preset, options.hop)
        bundle = open_bundle(path, threads=1)
        for stream in read(folder):
            counters.add(place.name, stream, raised(bundle, stream, decide, options.hop))
        bundle.close()
        print(
            f"{place.name}: {counters.false[place.name]} false in "
            f"{24 * counters.days[place.name]:.2f} h, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    show(counters)
    if options.json:
        options.json.write_text(json.dumps(vars(counters), indent=1))


def show(counters: Counters) -> None:
    """Print the tables."""
    console = Console(width=110)
    table = Table(title="healthy sound, no event")
    for name in ("machine", "hours", "false alarms", "a day (95 % at most)"):
        table.add_column(name)
    rows = [*counters.days.items(), ("all", sum(counters.days.values()))]
    for machine, days in rows:
        count = sum(counters.false.values()) if machine == "all" else counters.false[machine]
        table.add_row(
            machine,
            f"{24 * days:.2f}",
            str(count),
            f"{count / days:.2g} ({upper(count) / days:.3g})",
        )
    console.print(table)
    table = Table(title="sounds from elsewhere, and gain")
    for name in ("what", "times", "alarms"):
        table.add_column(name)
    for what, hits in counters.passed.items():
        table.add_row(what, str(len(hits)), str(sum(hits)))
    console.print(table)
    table = Table(title="faults")
    for name in ("strength", "faults", "raised", "within 20 s", "30 s", "90 s", "median delay"):
        table.add_column(name)
    for strength, delays in sorted(counters.delays.items()):
        known = [d for d in delays if d is not None]
        table.add_row(
            strength, str(len(delays)), str(len(known)),
            *(str(sum(d <= most for d in known)) for most in (20, 30, 90)),
            f"{np.median(known):.0f} s" if known else "-",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
