"""`auscult learn`: from healthy sound to a bundle, on the device, with nothing to train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written, found_config, json_option, write_given
from agent.core.text import shown

if TYPE_CHECKING:
    from rich.progress import Progress

    from agent.hygiene.examine import Examiner
    from agent.learn.learn import Learnt
    from agent.recordings.model import Machine


@click.command(short_help="Make a bundle of healthy sound, on the device.")
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The agent's configuration: learn from what it has collected, and put the bundle where "
    "it takes it up.",
)
@click.option("--machine", help="Machine to learn.  [default: the only one]")
@click.option(
    "--out", metavar="BUNDLE", type=Written(),
    help="Folder of the bundle; an earlier bundle there is replaced.  [default: with --config, "
    "where the agent takes it up]",
)  # fmt: skip
@click.option(
    "--preset", help="Preset whose encoder comes with auscult.  [default: auscult_scratch]"
)
@click.option(
    "--encoder-from", metavar="BUNDLE", type=click.Path(path_type=Path),
    help="Take encoder and recipe of this bundle, such as one that was exported for another "
    "machine with auscult_small.",
)  # fmt: skip
@click.option(
    "--untypical",
    type=click.Choice(["refuse", "leave-out", "keep"]),
    default="refuse",
    show_default=True,
    help="Healthy recordings unlike all others: refuse to learn, leave them out, or learn from "
    "them but let none set the threshold.",
)
@click.option(
    "--channel", type=click.IntRange(min=0), help="Channel, from 0.  [default: average of all]"
)
@click.option(
    "--sign", "key", metavar="KEY", type=click.Path(path_type=Path, dir_okay=False),
    help="Sign the bundle with this private key.  [default: with --config, the device's own, where "
    "it takes only signed bundles]",
)  # fmt: skip
@click.option(
    "--sound/--no-sound", default=True, show_default=True,
    help="Put a few healthy windows into the bundle as sound (4 MB at most), to be heard beside an "
    "alarm.",
)  # fmt: skip
@click.option(
    "--report", "report_path", metavar="FOLDER", type=Written(file=False),
    help="Folder for report.html, report.json and recordings.csv.  [default: <bundle>-report "
    "beside the bundle; with --config, reports/<machine> in the state directory]",
)  # fmt: skip
@json_option("The report")
def learn(
    data: Path | None,
    config_path: Path | None,
    machine: str | None,
    out: Path | None,
    preset: str | None,
    encoder_from: Path | None,
    untypical: str,
    channel: int | None,
    key: Path | None,
    report_path: Path | None,
    json_path: Path | None,
    *,
    sound: bool,
) -> None:
    """Make a bundle of healthy sound with an encoder that comes with auscult.

    DATA is a folder with `normal/` (and, if you have them, `idle/`, `noise/`), as `auscult record`
    fills it; with --config it is what the agent has collected. Nothing is trained and no
    workstation is needed: the bundle is what `auscult train` and `auscult export` make of the same
    recordings with the same preset.
    """
    from rich.console import Console

    from agent.bundle.sign import load_private
    from agent.collect.learning import (
        NICENESS,
        device_signing,
        learn_collected,
    )
    from agent.collect.reports import report_folder
    from agent.config.agent import load_config
    from agent.core.errors import ConfigError
    from agent.core.interrupt import stopped_like_interrupt
    from agent.core.progress import progress_bar
    from agent.deploy.device_key import ACCEPT_LEARNT
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.hygiene.examine import Examiner
    from agent.hygiene.facts import FactsCache
    from agent.learn.encoders import DEFAULT, encoder_of, shipped_encoder
    from agent.learn.learn import Signing
    from agent.learn.learn import learn as learn_bundle

    if data is None and config_path is None:
        config_path = found_config()
    if (data is None) == (config_path is None):
        raise click.UsageError("give either DATA, a folder of recordings, or --config")
    if preset is not None and encoder_from is not None:
        raise click.UsageError("give either --preset or --encoder-from")
    if data is not None and out is None:
        raise click.UsageError("--out is needed: the folder of the bundle")
    if config_path is not None and channel is not None:
        raise click.UsageError("--channel is for DATA: what was collected is of one channel")
    encoder = encoder_of(encoder_from) if encoder_from else shipped_encoder(preset or DEFAULT)
    signing = None if key is None else Signing(load_private(key))
    os.nice(NICENESS)
    console = Console(stderr=True)
    with stopped_like_interrupt(), progress_bar(console) as progress:
        if config_path is not None:
            config = load_config(config_path)
            name = config.machine(machine).name
            place = out or config.bundle_at(name)
            report = report_path or (
                _beside(place) if out else report_folder(config.state_path, name)
            )
            if signing is None and config.bundles.public_key is not None:
                if not config.bundles.accept_learnt:
                    raise ConfigError(
                        "this device takes only bundles that the site signed",
                        where=config_path,
                        remedy=f"{ACCEPT_LEARNT} Or sign it with the site's key: --sign KEY.",
                    )
                signing = device_signing(config.state_path)
            done = learn_collected(
                config.state_path, name, place, encoder, progress,
                untypical=untypical,  # type: ignore[arg-type]  # click's choice
                signing=signing, sound=sound, cache=EmbeddingCache.of_user(),
            )  # fmt: skip
        else:
            assert data is not None
            assert out is not None
            place, report = out, report_path or _beside(out)
            examiner = Examiner(FactsCache.of_user(), machine)
            done = learn_bundle(
                _recordings(data, machine, channel, progress, examiner), encoder, place, progress,
                channel=channel, untypical=untypical,  # type: ignore[arg-type]  # click's choice
                signing=signing, sound=sound, cache=EmbeddingCache.of_user(),
                known=examiner.measured(channel),
            )  # fmt: skip
    page = _report(done, report, channel, sound=sound)
    _tell(done, place, page, json_path, None if out else config_path)


def _beside(bundle: Path) -> Path:
    """The report's folder: `pump-report` of `pump.bundle`."""
    return bundle.with_name(f"{bundle.name.removesuffix('.bundle')}-report")


def _report(done: Learnt, folder: Path, channel: int | None, *, sound: bool) -> Path | None:
    """The page; None where it could not be written, which takes no bundle back."""
    from rich.console import Console
    from rich.markup import escape

    from agent.core.errors import AuscultError
    from agent.report.learnt import write_report

    try:
        return write_report(done, folder, channel=channel, sound=sound)
    except (OSError, AuscultError) as fault:
        told = f"[yellow]no report: {escape(str(fault))}[/]"
        Console(stderr=True).print(told, highlight=False)
        return None


def _recordings(
    data: Path,
    machine: str | None,
    channel: int | None,
    progress: Progress,
    examiner: Examiner,
) -> Machine:
    from agent.core.errors import ConfigError
    from agent.recordings.load import load_machines

    found = load_machines(
        data, (machine,) if machine else (), channel=channel, progress=progress,
        inspector=examiner.inspect,
    )  # fmt: skip
    if len(found) > 1:
        raise ConfigError(
            f"holds {len(found)} machines: {', '.join(one.name for one in found)}",
            where=data,
            remedy="A bundle is for one machine: choose it with --machine.",
        )
    return found[0]


def _tell(
    done: Learnt,
    place: Path,
    page: Path | None,
    json_path: Path | None,
    config_path: Path | None,
) -> None:
    from rich.console import Console
    from rich.markup import escape

    from agent.core.program import next_command
    from agent.hygiene.tell import print_notes
    from agent.learn.report import report_data, told

    data = {"bundle": str(place), **report_data(done)}
    console = Console()
    agree = done.manifest.agreement
    if agree is not None and agree.ruined:
        console.print(f"[bold red]{escape(agree.ruined)}[/]", highlight=False)
    print_notes(done.inspection, console, everything=False)
    for colour, line in told(done.manifest, done.rehearsal, done.healthy_hours):
        console.print(f"[{colour}]{escape(line)}[/{colour}]", highlight=False)
    size = sum(record.size for record in done.manifest.files.values())
    console.print(
        f"wrote {escape(shown(place))} ({size / 1e6:.2f} MB)", highlight=False, soft_wrap=True
    )
    if page is not None:
        console.print(f"look and listen: {escape(shown(page))}", highlight=False, soft_wrap=True)
    if config_path is not None:
        console.print("the running agent takes it up within a minute", highlight=False)
        console.print(
            next_command("doctor", "--config", config_path), highlight=False, soft_wrap=True
        )
    else:
        console.print(
            next_command("score", "--bundle", place, "FILE..."), highlight=False, soft_wrap=True
        )
        console.print(
            next_command("init", "--machine", done.manifest.machine, "--bundle", place),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    write_given(json_path, data)
