"""Trains, exports and scores presets on recorded test sets, one machine after another.

What is measured is what the device runs: each preset is trained, exported as a bundle, and the
bundle scores the test recordings through the agent's own code. One machine that fails is written
down and does not end the run.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from agent.core.errors import AuscultError, ConfigError
from agent.core.progress import progress_bar
from agent.deploy.load import open_bundle
from agent.recordings.model import ANOMALY, NORMAL, Machine
from agent.verdict.figures import decision_figures
from export.builder import BundleBuilder
from export.cached_bundle import with_cache
from export.clips import score_tests
from export.results import Evaluation, Failure, Outcome, Precision, System, file_name
from trainer.decisions.clips import judged_clips
from trainer.fusion.healthy import write_healthy
from trainer.metrics.auc import MetricsError
from trainer.metrics.files import SectionScores, write_scores
from trainer.metrics.summary import MachineFigures, summarize
from trainer.preset import Preset
from trainer.preset_file import load_preset, preset_names

FAULTS = "failures.log"
# Encoders that are formulas alone.
_SEEDLESS = frozenset(
    {"loudness", "log_mel", "spectral_shape", "spectral_quantiles", "sound_views"}
)
_ADD_TESTS = (
    "Add recordings whose answer is known: test/normal/ and test/anomaly/ in a folder of your own, "
    "or test/section_00_source_test_normal_0001_....wav and so on in a DCASE machine's folder."
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        out: Folder for score files and the log of faults.
        channel: Channel of multi-channel recordings; None averages.
        resamples: Bootstrap resamples behind the intervals.
    """

    out: Path
    channel: int | None = None
    resamples: int = 2000


def choose_systems(
    presets: Sequence[str], seeds: Sequence[int], precisions: Sequence[Precision]
) -> tuple[System, ...]:
    """The columns of the table: the presets asked for, then every floor.

    A preset with nothing random in it runs with the first seed alone. A floor is not compared
    between precisions.

    Args:
        presets: Names, or .yaml files.
        seeds: Seeds to train with, at least one.
        precisions: One, or both to compare them.

    Raises:
        ConfigError: A preset does not exist, or two files carry the same name.
    """
    chosen: dict[str, Preset] = {}
    for path in dict.fromkeys(presets):
        preset = load_preset(path)
        if preset.name in chosen:
            raise ConfigError(
                f"a second preset is named '{preset.name}'",
                where=path,
                remedy="Give each its own name.",
            )
        chosen[preset.name] = preset
    for name in preset_names():
        preset = load_preset(name)
        if preset.floor:
            chosen.setdefault(preset.name, preset)
    return tuple(
        System(
            name=preset.name
            if preset.floor or len(_offered(preset, precisions)) == 1
            else f"{preset.name} ({precision})",
            preset=preset,
            precision=precision,
            seeds=tuple(dict.fromkeys(seeds[:1] if _deterministic(preset) else seeds)),
        )
        for preset in sorted(chosen.values(), key=lambda preset: preset.floor)
        for precision in _offered(preset, precisions)
    )


def _offered(preset: Preset, precisions: Sequence[Precision]) -> Sequence[Precision]:
    """The precisions asked for that a preset can be exported in, at least one."""
    if preset.quantization.mode == "none":
        return ("float32",)
    return precisions[:1] if preset.floor else precisions


def evaluate(
    machines: Sequence[Machine],
    systems: Sequence[System],
    workshop: BundleBuilder,
    options: Options,
    console: Console,
) -> Evaluation:
    """Evaluate every system on every machine, writing score files as it goes.

    Args:
        machines: Inspected recordings, test recordings among them.
        systems: The columns, as from `choose_systems`.
        workshop: Makes the bundles.
        options: How.
        console: Where progress and each finished figure are told.

    Raises:
        ConfigError: No machine has a test set that could be scored.
    """
    found = Evaluation(tuple(systems), tuple(machine.name for machine in machines))
    ready: list[Machine] = []
    for machine in machines:
        problem = untestable(machine)
        if problem is None:
            ready.append(machine)
        else:
            found.failures.append(Failure(machine.name, "", str(problem)))
            if len(machines) == 1:
                raise problem
    if not ready:
        raise ConfigError(
            f"none of the {len(machines)} machines can be evaluated: "
            + "; ".join(f"{f.machine}: {f.reason}" for f in found.failures),
        )
    work = [(system, seed) for system in systems for seed in system.seeds]
    with progress_bar(console) as progress:
        overall = progress.add_task("evaluating", total=len(ready) * len(work))
        for machine in ready:
            for system, seed in work:
                label = f"{machine.name}, {system.name}"
                if len(system.seeds) > 1:
                    label += f", seed {seed}"
                progress.update(overall, description=escape(label))
                try:
                    outcome = evaluate_one(machine, system, seed, workshop, options, progress)
                except Exception as fault:  # noqa: BLE001 - one machine must not end a long run
                    reason = told(fault, options.out, label)
                    found.failures.append(Failure(machine.name, system.name, reason))
                    console.print(f"[red]{escape(label)}: failed[/red]: {escape(reason)}")
                else:
                    found.outcomes[system.name, machine.name, seed] = outcome
                    console.print(f"{escape(label)}: {progress_line(outcome)}", highlight=False)
                _clear(progress, keep=overall)
                progress.advance(overall)
    return found


def score_folder(out: Path, system: System, seed: int) -> Path:
    """Where a system's challenge-format files go: `scores/<system>[/seed_<n>]`."""
    folder = out / "scores" / file_name(system.name)
    return folder if len(system.seeds) == 1 else folder / f"seed_{seed}"


def evaluate_one(
    machine: Machine,
    system: System,
    seed: int,
    workshop: BundleBuilder,
    options: Options,
    progress: Progress,
) -> Outcome:
    """Train, export and score one system on one machine, and write its score files.

    Args:
        machine: Inspected recordings.
        system: What to train.
        seed: With which seed.
        workshop: Makes the bundle.
        options: How, and where to write.
        progress: Where to show progress.

    Raises:
        AuscultError: Training, export or scoring refuses.
        MetricsError: No test recording's answer is known, or only of one kind.
    """
    began = time.monotonic()
    folder = workshop.bundle(machine, system, seed, progress)
    task = progress.add_task("scoring", total=len(machine.of("test")))
    bundle = open_bundle(folder)
    cache = workshop.kept(system.preset)
    if cache is not None:
        bundle = with_cache(bundle, cache)
    try:
        scored = score_tests(
            bundle,
            machine,
            hop_seconds=system.preset.window.train_hop_seconds,
            channel=options.channel,
            advance=lambda: progress.advance(task),
        )
        manifest, healthy = bundle.manifest, bundle.healthy
    finally:
        bundle.close()
    sections = scored.sections
    written = score_folder(options.out, system, seed)
    for section in sections:
        write_scores(written, section)
    if healthy is not None:
        write_healthy(written, machine.name, healthy, manifest.scorer.clip)
    known = answered(sections, machine.name, written)
    rule = manifest.threshold.rule
    return Outcome(
        figures=ranked(known, machine, options.resamples),
        sections=sections,
        threshold=manifest.threshold.clip_value,
        precision=manifest.encoder.precision,
        unscored=scored.unscored,
        notes=scored.notes,
        seconds=time.monotonic() - began,
        bundle_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        promise=manifest.threshold.false_alarm_rate if rule is None else rule.false_alarm_rate,
    )


def ranked(
    known: Sequence[SectionScores], machine: Machine, resamples: int
) -> MachineFigures | None:
    """The challenge's figures; None where the machine has no faulty test recording at all.

    Args:
        known: Its scored sections, labelled clips alone.
        machine: Its recordings.
        resamples: Bootstrap resamples.

    Raises:
        MetricsError: There are faulty recordings, and none could be scored; or no healthy ones.
    """
    if not any(recording.label == ANOMALY for recording in machine.of("test")):
        return None
    (figures,) = summarize(known, resamples=resamples)
    return figures


def answered(sections: Sequence[SectionScores], machine: str, written: Path) -> list[SectionScores]:
    """The clips whose label is known: the others are in the score files, but in no figure."""
    known = []
    for section in sections:
        keep = np.array([label != "" for label in section.labels])
        if keep.any():
            known.append(
                replace(
                    section,
                    names=tuple(np.array(section.names, dtype=object)[keep]),
                    labels=tuple(np.array(section.labels, dtype=object)[keep]),
                    domains=tuple(np.array(section.domains, dtype=object)[keep]),
                    scores=section.scores[keep],
                    decisions=None if section.decisions is None else section.decisions[keep],
                    seconds=None if section.seconds is None else section.seconds[keep],
                )
            )
    if not known:
        if sections:
            raise MetricsError(
                "the names of its test recordings do not tell normal from anomaly",
                where=machine,
                remedy=f"They are scored in {written}: run `auscult metrics` there with --key.",
            )
        raise MetricsError(
            "none of its test recordings could be scored",
            where=machine,
            remedy="Look at the recordings: are they silent, clipped or unreadable?",
        )
    return known


def progress_line(outcome: Outcome) -> str:
    """A finished outcome in few words."""
    called = decision_figures(judged_clips(outcome.sections))["all"]
    false = f"{called.false.hits} of {called.false.total} healthy clips called"
    if outcome.figures is None:
        return f"{false}, {outcome.seconds:.0f} s"
    found = f"{called.found.hits} of {called.found.total} faults found"
    hmean = 100 * outcome.figures.hmean
    return f"hmean {hmean:.1f}, {found}, {false}, {outcome.seconds:.0f} s"


def untestable(machine: Machine, *, faults: bool = False) -> ConfigError | None:
    """Why its test recordings give no figures, found before anything is trained.

    Args:
        machine: Its recordings.
        faults: Healthy recordings alone, which tell of false alarms, are not enough.
    """
    tests = machine.of("test")
    if not tests:
        return ConfigError("has no test recordings", where=machine.root, remedy=_ADD_TESTS)
    found: dict[str, set[str]] = {}
    for recording in tests:
        if recording.label is not None:
            found.setdefault(recording.section, set()).add(recording.label)
    for section, labels in found.items():
        if len(labels) == 1 and (faults or labels != {NORMAL}):
            return ConfigError(
                f"all of its test recordings are labelled {labels.pop()}",
                where=f"{machine.root} ({machine.name}{section and f', section {section}'})",
                remedy=_ADD_TESTS,
            )
    return None


def _deterministic(preset: Preset) -> bool:
    """Whether every seed would give the same: a selection draws, untrained layers are drawn."""
    fixed = all(part.weights or part.kind in _SEEDLESS for part in preset.encoder.each)
    frozen = preset.training.kind == "frozen" and preset.selection is None
    return preset.floor or (frozen and fixed)


def told(fault: Exception, out: Path, label: str) -> str:
    """A fault in words; one that nobody foresaw goes whole into `failures.log`."""
    if isinstance(fault, AuscultError):
        return str(fault)
    out.mkdir(parents=True, exist_ok=True)
    with (out / FAULTS).open("a", encoding="utf-8") as file:
        file.write(f"{label}\n{''.join(traceback.format_exception(fault))}\n")
    return f"{type(fault).__name__}: {fault} (details in {out / FAULTS})"


def _clear(progress: Progress, *, keep: TaskID) -> None:
    for task in list(progress.tasks):
        if task.id != keep:
            progress.remove_task(task.id)
