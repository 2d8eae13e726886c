"""`auscult tune`: which settings of inference suit this device, by measurement."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written, found_config, json_option, write_given
from agent.core.text import plural

if TYPE_CHECKING:
    from agent.config.agent import AgentConfig
    from agent.tune.choose import Trial
    from agent.tune.forms import FormInfo, FormTrial
    from agent.tune.measure import Cost, Work


@click.command(short_help="Measure which inference settings suit this device, and set them.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The agent's configuration; its bundles are measured.  [default: agent.yaml here, else "
    "/etc/auscult/agent.yaml]",
)
@click.option(
    "--windows", type=click.IntRange(3, 1000), default=20, show_default=True,
    help="Windows judged with each settings.",
)  # fmt: skip
@click.option("--write", is_flag=True, help="Write them into --config; else they are shown.")
@json_option("The measurements")
@click.option(
    "--profile", "profile_path", metavar="FILE", type=Written(folder=False),
    help="Write what this device can do into FILE, for `auscult export --device` on the "
    "workstation; needs no --config.",
)  # fmt: skip
@click.option(
    "--report", "report_path", metavar="FILE", type=Written(folder=False),
    help="Measure this device into FILE instead, which you can send: processor, memory, heat, and "
    "every way of running the encoders; names neither host nor machines. Needs no --config.",
)  # fmt: skip
@click.option(
    "--bundle", "bundles", multiple=True, type=click.Path(path_type=Path, exists=True),
    help="With --report: a bundle whose encoder is measured (repeatable); those of --config, if "
    "there is one, when none is named.",
)  # fmt: skip
@click.option(
    "--forms", "forms_path", metavar="FORMS", type=click.Path(path_type=Path, file_okay=False),
    help="Measure the bundles that `auscult shorten` wrote instead, from the largest on, and name "
    "the first that this device can run. Needs no --config.",
)  # fmt: skip
@click.option(
    "--machines", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="With --forms: machines that the device is to listen to.",
)  # fmt: skip
def tune(
    config_path: Path | None,
    windows: int,
    json_path: Path | None,
    profile_path: Path | None,
    report_path: Path | None,
    bundles: tuple[Path, ...],
    forms_path: Path | None,
    machines: int,
    *,
    write: bool,
) -> None:
    """Try threads, spinning, memory and execution providers with the bundles that --config names.

    The settings of least processor time are chosen with which windows of all machines are judged
    in half the time there is. Run it on the device, with the agent stopped: what else runs is
    measured too. Without --write the change is shown and asked for at a terminal.
    """
    from datetime import datetime, timezone

    from agent.config.agent import load_config
    from agent.core.errors import ConfigError
    from agent.core.program import next_command
    from agent.core.progress import busy
    from agent.tune.choose import KEEPING_UP, best
    from agent.tune.device import device_class
    from agent.tune.profile import measure_profile, write_profile
    from agent.tune.write import difference, replaced, section, write_config

    if forms_path is not None:
        _tell_form(forms_path, machines, windows, config_path or found_config(), json_path)
        return
    if bundles and report_path is None:
        raise click.UsageError("--bundle goes with --report; what is tuned is in --config.")
    if report_path is not None:
        _write_report(report_path, config_path or found_config(), bundles, windows)
        if profile_path is None:
            return
    if profile_path is not None:
        with busy("measuring this device"):
            profile = measure_profile()
        write_profile(profile_path, profile)
        click.echo(f"{profile_path}: {profile.device}")
        if config_path is None or report_path is not None:
            click.echo(next_command("export", "RUN", "--out", "BUNDLE", "--device", profile_path))
            return
    config_path = config_path or found_config()
    if config_path is None:
        raise click.UsageError("Give --config, the agent's configuration (or --profile alone).")
    config = load_config(config_path)
    works = _works(config)
    device = device_class()
    click.echo(f"{device}; {sum(work.per_second for work in works):.2g} windows a second")
    trials = list(_trials(config, works, windows))
    try:
        chosen = best(trials)
    except ValueError as fault:
        raise ConfigError(trials[0].fault if trials else str(fault), where=config_path) from fault
    assert chosen.cost is not None
    today = datetime.now(timezone.utc).date().isoformat()
    remarks = [
        f" on {today}:",
        device,
        f"{chosen.cost.wall_ms:.1f} ms and {chosen.cost.cpu_ms:.1f} ms of processor a window",
    ]
    text = replaced(config_path.read_text(encoding="utf-8"), section(chosen.inference, remarks))
    write_given(json_path, _report(device, trials, chosen))
    click.echo(f"chosen: {_words(chosen)}")
    if chosen.load > KEEPING_UP:
        click.echo(
            f"windows take {chosen.load:.0%} of the time there is: listen with a longer "
            "`hop`, or export a smaller preset", err=True,
        )  # fmt: skip
    click.echo(difference(config_path, text))
    if write or (json_path is None and _asked()):
        write_config(config_path, text, chosen.inference)
        click.echo(f"{config_path}: written; a running agent uses it after a restart")
        click.echo(next_command("run", "--config", config_path))
    else:
        click.echo(f"{config_path}: unchanged; `--write` writes them")
        click.echo(next_command("tune", "--config", config_path, "--write"))


def _tell_form(
    folder: Path, machines: int, windows: int, config_path: Path | None, json_path: Path | None
) -> None:
    """Measure shorter forms of one detector here, and name the largest that this device can run."""
    from dataclasses import asdict

    from agent.bundle.verify import read_manifest
    from agent.config.agent import load_config
    from agent.config.encode import InferenceConfig
    from agent.core.errors import ConfigError
    from agent.core.program import next_command
    from agent.core.progress import busy
    from agent.tune.choose import KEEPING_UP
    from agent.tune.device import device_class
    from agent.tune.forms import MEMORY_SHARE, first_that_fits, read_forms
    from agent.tune.measure import Work, measure
    from agent.tune.profile import memory_mb

    found, device, memory = read_forms(folder), device_class(), memory_mb()
    inference = InferenceConfig() if config_path is None else load_config(config_path).inference
    hop = read_manifest(folder / found.forms[0].name).hop_seconds
    per_second = machines / hop
    click.echo(f"{device}; {plural(machines, 'machine')}, a window every {hop:g} s of each")

    def attempt(form: FormInfo) -> Cost:
        with busy(f"measuring {form.name}"):
            return measure(Work(folder / form.name, per_second, hop), inference, windows)

    def told(trial: FormTrial) -> None:
        cost, form = trial.cost, trial.form
        lost = "" if form.loss is None else f", loses {form.loss:+.2f} points"
        click.echo(
            f"  {form.name}: {cost.wall_ms:.1f} ms a window ({cost.slow_ms:.1f} ms slow), "
            f"processor {cost.cpu_ms:.1f} ms, memory {cost.memory_mb:.0f} MB, {trial.load:.0%} of "
            f"the time{lost}"
        )

    trials = first_that_fits(
        found, attempt, per_second=per_second, memory_mb=memory, told=told
    )  # fmt: skip
    last = trials[-1]
    figures = {
        "device": device, "machines": machines, "hop_seconds": hop,
        "trials": [
            {"form": trial.form.name, "cost": asdict(trial.cost), "load": trial.load,
             "fits": trial.fits}
            for trial in trials
        ],
        "chosen": last.form.name if last.fits else None,
    }  # fmt: skip
    write_given(json_path, figures)
    held_up = next((trial for trial in trials if trial.held_up), None)
    if held_up is not None:
        click.echo(
            f"other work holds this device up: a window of {held_up.form.name} took "
            f"{held_up.cost.slow_ms:.0f} ms for {held_up.cost.cpu_ms:.0f} ms of processor. Stop it "
            "(the agent too), and measure again: a larger form may fit", err=True,
        )  # fmt: skip
    if not last.fits:
        raise ConfigError(
            f"no form is for this device: the smallest, {last.form.name}, takes {last.load:.0%} of "
            f"the time (at most {KEEPING_UP:.0%}) and {last.cost.memory_mb:.0f} MB of "
            f"{memory:.0f} (at most {MEMORY_SHARE:.0%})",
            where=folder,
            remedy="Listen with a longer `hop`, to fewer machines, or allow a greater loss: "
            "auscult shorten --loss.",
        )
    click.echo(f"chosen: {last.form.name}")
    click.echo(next_command("score", "--bundle", folder / last.form.name, "FILE..."))


def _write_report(
    path: Path, config_path: Path | None, bundles: tuple[Path, ...], windows: int
) -> None:
    """Measure this device, telling what is measured, and write the file."""
    from agent.config.agent import load_config
    from agent.tune.report import make_report, write_report

    if not bundles and config_path is not None:
        bundles = tuple(work.bundle for work in _works(load_config(config_path)))
    report = make_report(bundles, windows, click.echo)
    write_report(path, report)
    if not bundles:
        click.echo("no encoder was measured: give --bundle, or --config")
    click.echo(f"{path}: written; it names neither host nor machines")


def _asked() -> bool:
    return sys.stdin.isatty() and click.confirm("Write this?", default=False)


def _works(config: AgentConfig) -> list[Work]:
    """The encoders there are, each once, and how many windows a second each must judge."""
    from agent.bundle.manifest import ENCODER
    from agent.bundle.verify import read_manifest
    from agent.core.errors import ConfigError
    from agent.tune.measure import Work

    found: dict[str, Work] = {}
    for machine in config.machines:
        folder = config.bundle_of(machine)
        if machine.bundle is None and not folder.is_dir():
            continue
        manifest = read_manifest(folder)
        hop = machine.hop_of(manifest.hop_seconds, manifest.window_seconds).seconds
        digest = manifest.files[ENCODER].sha256
        before = found.get(digest, Work(folder, 0.0, hop))
        found[digest] = Work(folder, before.per_second + 1.0 / hop, min(before.hop_seconds, hop))
    if not found:
        raise ConfigError("no machine has a bundle yet", remedy="Export one, and tune then.")
    return list(found.values())


def _trials(config: AgentConfig, works: list[Work], windows: int) -> list[Trial]:
    import onnxruntime

    from agent.config.encode import InferenceConfig
    from agent.core.cores import usable_cores
    from agent.core.errors import BundleError
    from agent.core.progress import busy
    from agent.tune.choose import Trial, combined, explore, provider_lists
    from agent.tune.measure import measure

    def attempt(inference: InferenceConfig) -> Trial:
        try:
            with busy("measuring"):
                costs = [measure(work, inference, windows) for work in works]
        except BundleError as fault:
            return Trial(inference, None, float("inf"), str(fault))
        for cost in costs:
            if cost.fallback:
                return Trial(inference, None, float("inf"), cost.fallback)
        return combined(inference, works, costs)

    lists = provider_lists(onnxruntime.get_available_providers())
    found = []
    for trial in explore(config.inference, lists, usable_cores(), attempt):
        found.append(trial)
        click.echo(f"  {_words(trial)}")
    return found


def _words(trial: Trial) -> str:
    how, cost = trial.inference, trial.cost
    settings = [
        how.providers[0].removesuffix("ExecutionProvider"),
        f"{plural(how.threads, 'thread')}",
        *(["spinning"] if how.spinning else []),
        "arena" if how.arena else "no arena",
        *(["memory pattern"] if how.memory_pattern else []),
    ]
    text = ", ".join(settings)
    if cost is None:
        return f"{text}: {trial.fault}"
    return (
        f"{text}: {cost.wall_ms:.1f} ms a window ({cost.slow_ms:.1f} ms slow), processor "
        f"{cost.cpu_ms:.1f} ms, memory {cost.memory_mb:.0f} MB"
    )


def _report(device: str, trials: list[Trial], chosen: Trial) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "device": device,
        "trials": [
            {
                "inference": trial.inference.model_dump(mode="json"),
                "cost": None if trial.cost is None else asdict(trial.cost),
                "fault": trial.fault,
            }
            for trial in trials
        ],
        "chosen": chosen.inference.model_dump(mode="json"),
    }
