"""`auscult bank`: what a bundle calls healthy, extended beside the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import found_config, json_option
from agent.core.program import next_command
from agent.core.text import plural

if TYPE_CHECKING:
    from agent.bank.grow import Report
    from agent.bank.place import Place


@click.group(short_help="Extend a bundle's memory bank.")
def bank() -> None:
    """Extend, thin out and roll back what a bundle calls healthy.

    Each change is a new version beside the bundle, checked before it is used; the bundle as
    exported is never touched. A running agent takes the version in use up by itself. Name either a
    bundle, or a machine of an agent's configuration.
    """


def _which(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which bank is meant."""
    for option in (
        click.option("--versions", type=click.Path(path_type=Path), help="Where its versions are."
                     "  [default: BUNDLE.versions, or the agent's state directory]"),
        click.option("--machine", help="A machine of --config.  [default: the only one]"),
        click.option("--config", "config_path", type=click.Path(path_type=Path),
                     help="An agent's configuration, in place of --bundle."),
        click.option("--bundle", "bundle_path", type=click.Path(path_type=Path),
                     help="Folder that `auscult export` wrote."),
    ):  # fmt: skip
        command = option(command)
    return command


def _checks(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every change."""
    for option in (
        json_option("What it did"),
        click.option("--no-use", is_flag=True, help="Make the version, but do not use it yet."),
        click.option("--max-rise", type=click.FloatRange(min=0), default=0.5, show_default=True,
                     help="By how much the threshold may rise, as a share of its height over "
                     "healthy sound."),
        click.option("--force", "forced", multiple=True, metavar="ALARM",
                     help="Let it silence this known alarm; may be repeated."),
        click.option("--evidence", type=click.Path(path_type=Path),
                     help="Evidence of known alarms, which it must not silence.  "
                     "[default: the machine's in the state directory]"),
    ):  # fmt: skip
        command = option(command)
    return command


@bank.command("add")
@click.argument(
    "sound", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SOUND..."
)
@click.option(
    "--label",
    type=click.Choice(["healthy", "idle", "noise"]),
    help="What plain recordings hold; sessions of `auscult collect` say it themselves.",
)
@_checks
@_which
def add(sound: tuple[Path, ...], label: str | None, **options: Any) -> None:
    """Add SOUND: sessions of `auscult collect`, or recordings.

    Sound of the healthy machine joins the bank; sound of the idle machine or of its surroundings
    never does, it joins the idle gate.
    """
    from rich.console import Console

    from agent.bank.draft import draft_add
    from agent.bank.sound import embed_sound, find_sound
    from agent.core.progress import progress_bar

    found = find_sound(sound, label=label)
    for note in dict.fromkeys(
        f"{one.path.parent.name}: {note}" for one in found for note in one.notes
    ):
        click.echo(f"auscult: {note}", err=True)
    with _place(options) as place:
        with progress_bar(Console(stderr=True)) as progress:
            healthy = embed_sound(
                [one for one in found if one.label == "healthy"], place.bundle, progress
            )
            quiet = embed_sound(
                [one for one in found if one.label != "healthy"], place.bundle, progress
            )
        for line in dict.fromkeys(healthy.left_out() + quiet.left_out()):
            click.echo(f"auscult: {line}", err=True)
        _make(place, draft_add(place.bundle, healthy, quiet), options)


@bank.command("accept")
@click.argument("alarms", nargs=-1, required=True, metavar="ALARM...")
@_checks
@_which
def accept(alarms: tuple[str, ...], **options: Any) -> None:
    """Add the windows of ALARMs that an operator answered with "that was normal"."""
    from agent.bank.draft import draft_add
    from agent.bank.pending import mark_accepted, pending_sound
    from agent.bank.sound import embed_sound
    from agent.core.progress import busy

    with _place(options) as place:
        place.follow()
        sound = [pending_sound(place.evidence, alarm) for alarm in alarms]
        with busy("embedding the sound of the alarms"):
            added = embed_sound(sound, place.bundle)
        report = _make(place, draft_add(place.bundle, added), options)
        for alarm in alarms:
            mark_accepted(place.evidence, alarm, report.version)


@bank.command("pending")
@_which
def pending(**options: Any) -> None:
    """List the alarms that were answered with "that was normal" and wait for `accept`."""
    from agent.bank.pending import all_pending
    from agent.core.text import local_time

    with _place(options, current=False) as place:
        place.follow()
        waiting = list(all_pending(place.evidence))
        if not waiting:
            click.echo("nothing waits", err=True)
        for record, feedback in waiting:
            score = "-" if record.score is None else f"{record.told_on.of(record.score):.4g}"
            click.echo(
                f"{record.alarm_id}\t{local_time(record.raised)}\tscore {score}\t"
                f"threshold 1 (raw {record.threshold:.4g})\t{feedback.by or '-'}\t"
                f"{feedback.comment}"
            )
        if waiting:
            alarms = [record.alarm_id for record, _ in waiting]
            click.echo(_next(options, "accept", *alarms), err=True)


@bank.command("remove")
@click.argument("recordings", nargs=-1, required=True, metavar="RECORDING...")
@_checks
@_which
def remove(recordings: tuple[str, ...], **options: Any) -> None:
    """Take RECORDINGs out, by their names in `list --rows`; `SESSION/` means a whole session."""
    from agent.bank.draft import draft_remove

    with _place(options) as place:
        _make(place, draft_remove(place.bundle, recordings), options)


@bank.command("compact")
@click.option("--rows", type=click.IntRange(min=2), required=True, help="Rows that may remain.")
@_checks
@_which
def compact(rows: int, **options: Any) -> None:
    """Thin the bank out to the rows that lie farthest apart."""
    from agent.bank.draft import draft_compact

    with _place(options) as place:
        _make(place, draft_compact(place.bundle, rows), options)


@bank.command("list")
@click.option("--rows", is_flag=True, help="List the recordings of the version in use instead.")
@_which
def list_(*, rows: bool, **options: Any) -> None:
    """List the versions; `*` marks the one in use."""
    from agent.core.text import local_time

    with _place(options) as place:
        if rows:
            counts: dict[tuple[str, str], int] = {}
            for row in place.bundle.rows:
                counts[row.source, row.domain] = counts.get((row.source, row.domain), 0) + 1
            for (source, domain), count in counts.items():
                click.echo(f"{source}\t{domain}\t{plural(count, 'row')}")
            return
        for version in place.versions.all():
            mark = "*" if version.current else " "
            if version.manifest is None:
                click.echo(f"{mark} {version.number}\tcannot be read\t{version.path}")
                continue
            change = version.manifest.growth.change if version.manifest.growth else "as exported"
            click.echo(
                f"{mark} {version.number}\t{local_time(version.manifest.created)}\t"
                f"threshold {version.manifest.threshold.value:.4g}\t{change}"
            )


@bank.command("use")
@click.argument("number", type=click.IntRange(min=0))
@_which
def use(number: int, **options: Any) -> None:
    """Use version NUMBER from now on; 0 is the bundle as exported."""
    with _place(options, current=False) as place:
        place.use(number)
        place.follow()
        click.echo(f"in use: version {place.versions.current()}")


@bank.command("sign")
@click.argument("numbers", nargs=-1, required=True, type=click.IntRange(min=1), metavar="NUMBER...")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="Sign with this private key of `auscult keygen`, the site's, instead.",
)
@_which
def sign(numbers: tuple[int, ...], key: Path | None, **options: Any) -> None:
    """Sign versions NUMBER: you vouch for what they call healthy.

    With the device's own key (--config of an agent with `bundles.public_key`), for versions that
    were made before it had one; or with the site's, on the workstation (--bundle and --key).
    """
    from agent.bundle.sign import GROWN, load_private, sign_folder
    from agent.bundle.verify import verify_bundle
    from agent.core.errors import BundleError, ConfigError
    from agent.deploy.versions import grew_from

    with _place(options, current=False) as place:
        if place.vouching is None and key is None:
            raise ConfigError(
                "nothing need be signed here: no `bundles.public_key` is configured",
                remedy="Give --config with one, or --key.",
            )
        exported = verify_bundle(place.versions.original)
        for number in numbers:
            folder = place.versions.existing(number)
            version = verify_bundle(folder)
            if not grew_from(version, exported):
                raise BundleError("did not grow from the signed bundle", where=folder)
            if key is None:
                place.sign(folder, version.digest)
            else:
                sign_folder(folder, load_private(key), GROWN, digest=version.digest)
            click.echo(f"version {number}: signed")


@bank.command("rollback")
@_which
def rollback(**options: Any) -> None:
    """Go back to what the version in use was made of."""
    with _place(options, current=False) as place:
        number = place.versions.rollback()
        place.follow()
        click.echo(f"in use: version {number}")


def _place(options: dict[str, Any], *, current: bool = True) -> Place:
    from agent.bank.place import place_of_bundle, place_of_machine
    from agent.config.agent import load_config

    bundle, config = options["bundle_path"], options["config_path"]
    if bundle is None and config is None:
        config = found_config()
    if (bundle is None) == (config is None):
        raise click.UsageError("give either --bundle or --config")
    evidence = options.get("evidence")
    if bundle is not None:
        return place_of_bundle(bundle, options["versions"], evidence, current=current)
    return place_of_machine(
        load_config(config), options["machine"], options["versions"], evidence, current=current
    )


def _make(place: Place, draft: Any, options: dict[str, Any]) -> Report:
    """Make a version, use it, and tell."""
    from agent.bank.grow import make_version
    from agent.bank.probation import known_alarms
    from agent.deploy.opening import user_log

    alarms, bad = known_alarms(place.evidence, place.bundle)
    for problem in bad:
        click.echo(f"auscult: a known alarm could not be held against it: {problem}", err=True)
    report = make_version(
        place.bundle,
        place.versions,
        draft,
        alarms=alarms,
        forced=options["forced"],
        max_rise=options["max_rise"],
        tell=lambda text: click.echo(f"{text}...", err=True),
        sign=place.sign,
    )
    user_log().prove(report.digest)  # it was opened just now
    click.echo(
        f"version {report.version}: {plural(report.rows, 'row')} ({report.added} added, "
        f"{report.removed} removed); threshold {report.before.value:.4g} -> "
        f"{report.after.value:.4g}"
    )
    if report.added:
        click.echo(f"of the new windows {report.novel:.0%} were above the threshold until now")
    if report.alarms:
        kept = sum(not verdict.silenced for verdict in report.alarms)
        click.echo(f"{kept} of {plural(len(report.alarms), 'known alarm')} would be raised again")
    for note in report.notes:
        click.echo(f"note: {note}")
    if options["no_use"]:
        click.echo("not in use yet")
        told = _next(options, "use", report.version)
    else:
        place.use_grown(report.version)
        place.versions.tidy()
        place.follow()
        click.echo("in use; `auscult bank rollback` goes back")
        told = _next(options, "list")
    if options["json_path"] is not None:
        _write(options["json_path"], report)
    click.echo(told)
    return report


def _next(options: dict[str, Any], command: str, *words: object) -> str:
    """What to type next, of the same bank."""
    named = {"--bundle": "bundle_path", "--config": "config_path", "--machine": "machine",
             "--versions": "versions"}  # fmt: skip
    given = [part for flag, key in named.items() if options[key] for part in (flag, options[key])]
    return next_command("bank", command, *words, *given)


def _write(path: Path, report: Report) -> None:
    from agent.core.storage import write_json

    write_json(
        path,
        {
            "version": report.version,
            "rows": report.rows,
            "added": report.added,
            "removed": report.removed,
            "threshold_before": report.before.model_dump(mode="json"),
            "threshold_after": report.after.model_dump(mode="json"),
            "rise": report.rise,
            "novel": report.novel,
            "alarms": [
                {"alarm_id": one.alarm_id, "before": one.before, "after": one.after}
                for one in report.alarms
            ],
            "notes": list(report.notes),
        },
    )
