"""`auscult commission`: what would have been alarms, answered; and going live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import config_option

if TYPE_CHECKING:
    from agent.config.agent import AgentConfig, MachineConfig

_VERDICTS = {"healthy": "normal", "fault": "anomalous"}


@click.command(short_help="Let a new bundle listen in shadow, and go live.")
@config_option()
@click.option("--machine", help="A machine of it.  [default: the only one that is commissioned]")
@click.option(
    "--answer", "answers", multiple=True, metavar="ALARM=healthy|fault",
    help="What a would-be alarm really was; may be repeated.",
)  # fmt: skip
@click.option(
    "--all", "all_", type=click.Choice(["healthy", "fault"]),
    help="Answer all that are not answered yet.",
)  # fmt: skip
@click.option("--by", default="", metavar="NAME", help="Who answers, or lets it go live.")
@click.option(
    "--grow/--no-grow", default=True, show_default=True,
    help="Let the sound of those called healthy join the memory bank.",
)  # fmt: skip
@click.option(
    "--max-rise", type=click.FloatRange(min=0), default=0.5, show_default=True,
    help="By how much the threshold may rise with that, as a share of its height over healthy "
    "sound.",
)  # fmt: skip
@click.option("--live", is_flag=True, help="Go live: its alarms are told from now on.")
@click.option("--again", is_flag=True, help="Begin anew, also after it went live.")
@click.pass_context
def commission(
    context: click.Context,
    config_path: Path,
    machine: str | None,
    answers: tuple[str, ...],
    all_: str | None,
    by: str,
    max_rise: float,
    *,
    grow: bool,
    live: bool,
    again: bool,
) -> None:
    """Show how a machine's commissioning stands, answer what would have been alarms, go live.

    A machine with a section `commission` listens in shadow first: what would be alarms is listed
    here and on the page, with sound and picture, and not told. A running agent does what is asked
    with its next window; one that isn't running does it when it starts.
    """
    from agent.bank.pending import feedback_handler
    from agent.commission.memory import (
        CommissionMemory,
        commission_file,
        commission_state,
    )
    from agent.commission.shadow import answered, ask_file, describe
    from agent.config.agent import load_config
    from agent.core.errors import AuscultError
    from agent.core.text import local_time

    if live and again:
        raise click.UsageError("give either --live or --again")
    config = load_config(config_path)
    meant = _meant(config, machine)
    asked = meant.commission
    assert asked is not None
    place, evidence = commission_file(config.state_path, meant.name), config.state_path / "evidence"
    file = commission_state(place)
    memory = file.load_or_new()
    feedback = feedback_handler(evidence)
    waiting = [
        one.alarm.alarm_id
        for one in answered(evidence, meant.name, memory)
        if one.answer == "open"
    ]  # fmt: skip
    given = [_split(one) for one in answers]
    if all_ is not None:
        named = {alarm_id for alarm_id, _ in given}
        given += [(alarm_id, all_) for alarm_id in waiting if alarm_id not in named]
    for alarm_id, answer in given:
        verdict = _VERDICTS[answer]
        feedback(
            {"machine": meant.name, "alarm_id": alarm_id, "verdict": verdict, "operator": by}
        )  # fmt: skip
    healthy = [alarm_id for alarm_id, answer in given if answer == "healthy"]
    if healthy and grow:
        _grow(context, config_path, meant.name, healthy, max_rise)
    if live and memory.live_wall is not None:
        raise AuscultError(f"{meant.name} is live already: {memory.how}")
    if again and memory.live_wall is not None:
        # Nothing of it changes while it is live: a running agent only reads it when it starts.
        if not file.save(CommissionMemory()):
            raise AuscultError("cannot be written", where=place)
        click.echo(f"{meant.name}: commissioned anew once the agent is restarted")
        return
    if live or again:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            ask_file(place).write_text(f"{'live' if live else 'again'} {by}".strip() + "\n")
        except OSError as fault:
            raise AuscultError(
                f"cannot be written: {fault.strerror}", where=ask_file(place),
                remedy="Ask as the user whom the agent runs as.",
            ) from fault  # fmt: skip
        click.echo(f"{meant.name}: asked; done with the next window that the agent judges")
    said = answered(evidence, meant.name, memory)
    click.echo(f"{meant.name}: {memory.how or describe(said, memory, asked)}")
    for one in said:
        score = "-" if one.alarm.score is None else f"{one.alarm.score:.3g}"
        sound = evidence / meant.name / one.alarm.alarm_id
        answer = "not answered" if one.answer == "open" else one.answer
        click.echo(
            f"{one.alarm.alarm_id}\t{local_time(_iso(one.alarm.wall))}\tscore {score}\t{answer}\t"
            f"{sound if sound.is_dir() else 'no sound is kept'}"
        )


def _meant(config: AgentConfig, machine: str | None) -> MachineConfig:
    from agent.core.errors import ConfigError

    found = [one for one in config.machines if one.commission is not None]
    if machine is not None:
        found = [one for one in found if one.name == machine]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found)
    if found:
        raise ConfigError(f"commissions {names}", remedy="Say which with --machine.")
    which = "no machine" if machine is None else f"'{machine}' is not a machine that"
    raise ConfigError(
        f"{which} is commissioned",
        remedy="Give it a section `commission` (`commission: {}` for the defaults).",
    )


def _split(text: str) -> tuple[str, str]:
    alarm_id, _, answer = text.partition("=")
    if not alarm_id or answer not in _VERDICTS:
        raise click.UsageError(f"--answer {text}: write ALARM=healthy or ALARM=fault")
    return alarm_id, answer


def _grow(
    context: click.Context, config: Path, machine: str, alarms: list[str], max_rise: float
) -> None:
    from agent.commands.bank import accept

    options: dict[str, Any] = {
        "bundle_path": None, "config_path": config, "machine": machine, "versions": None,
        "evidence": None, "forced": (), "max_rise": max_rise, "no_use": False, "json_path": None,
    }  # fmt: skip
    context.invoke(accept, alarms=tuple(alarms), **options)


def _iso(wall: float) -> str:
    from agent.core.clock import utc

    return str(utc(wall))
