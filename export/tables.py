"""The evaluation's table: a machine a row, systems side by side, the official score last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from agent.core.text import plural
from agent.recordings.model import Machine
from agent.verdict.report import daily_words, delay_words, share_words
from agent.verdict.verdict import Level
from export.results import Evaluation, Summary, System
from export.verdicts import headline, rule_worst
from export.wording import bounds, title
from trainer.metrics.summary import FIGURES, too_few

_SHORT = {
    "auc_source": "AUC s",
    "auc_target": "AUC t",
    "pauc": "pAUC",
    "ap": "AP",
    "hmean": "hmean",
}
_COLOURS: dict[Level, str] = {
    "do not deploy": "red", "cannot tell": "yellow", "usable": "cyan", "good": "green"
}  # fmt: skip
_BOUNDS = "[  95 % CI ]"


def results_tables(evaluation: Evaluation, width: int) -> Iterator[Table]:
    """The table, broken into several below each other where it is wider than `width` columns.

    Percent; with several seeds the mean and the standard deviation. CI is the bootstrap
    interval of the harmonic mean.
    """
    names = [*evaluation.machines, "all"]
    room = width - max(map(len, names)) - 4
    for part in _packed(evaluation.systems, room):
        table = Table(show_footer=True, title_justify="left")
        table.add_column("machine", footer="all", no_wrap=True)
        for system in part:
            table.add_column(
                f"{escape(title(system))}\n{_legend(system)}",
                footer=_official(evaluation, system),
                no_wrap=True,
                justify="right",
            )
        for machine in evaluation.machines:
            table.add_row(machine, *(_cell(evaluation, system, machine) for system in part))
        yield table


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the table must know besides: gaps, machines left out, means over fewer."""
    found = []
    for system in evaluation.systems:
        complete = evaluation.complete(system)
        if 0 < len(complete) < len(evaluation.machines):
            found.append(
                f"{system.name}: 'all' is over {len(complete)} of {len(evaluation.machines)} "
                "machines; do not compare it with an 'all' over others"
            )
        for machine in evaluation.judged(system):
            outcome = next(iter(evaluation.of(system, machine).values()))
            if outcome.unscored:
                first = outcome.unscored[0]
                found.append(
                    f"{system.name}, {machine}: {plural(len(outcome.unscored), 'test recording')} "
                    f"without a score, among them {first.name}: {first.reason}"
                )
    found += _conditions(evaluation)
    scored = {
        machine: outcome.figures
        for system in evaluation.systems
        for machine in evaluation.complete(system)
        for outcome in evaluation.of(system, machine).values()
        if outcome.figures is not None
    }
    warning = too_few([scored[machine] for machine in evaluation.machines if machine in scored])
    if warning:
        found.append(warning)
    domainless = [
        machine
        for machine in evaluation.machines
        if any(
            set(section.domains) == {"unknown"}
            for system in evaluation.systems
            for outcome in evaluation.of(system, machine).values()
            for section in outcome.sections
        )
    ]
    if domainless:
        found.append(
            f"{', '.join(domainless)}: no domains are known, so AUC s = AUC t = AUC over all clips"
        )
    return found


def _conditions(evaluation: Evaluation) -> list[str]:
    """What test recordings have otherwise than those that were learnt from, once a machine."""
    return list(
        dict.fromkeys(
            f"{machine}: {note}"
            for machine in evaluation.machines
            for system in evaluation.systems
            for outcome in evaluation.of(system, machine).values()
            for note in outcome.notes
        )
    )


def decisions_table(evaluation: Evaluation, machines: Sequence[Machine]) -> Table:
    """What each system does at its threshold, a machine and a system a row, worst seed.

    Args:
        evaluation: What was found.
        machines: With their recordings.
    """
    table = Table(
        title="at the threshold (95 % intervals exact; a day: clips above it, taken for "
        "independent)",
        title_justify="left",
    )
    for heading in ("machine", "system"):
        table.add_column(heading, overflow="fold")
    for heading in ("faults found", "false alarms", "a day", "delay"):
        table.add_column(heading, justify="right")
    table.add_column("verdict", no_wrap=True)
    for machine in machines:
        for system in evaluation.systems:
            ruling = rule_worst(evaluation, system, machine)
            if ruling is None:
                continue
            whole = ruling.figures["all"]
            level = ruling.verdict.level
            table.add_row(
                escape(machine.name),
                escape(title(system)),
                share_words(whole.found),
                share_words(whole.false),
                daily_words(whole.daily),
                delay_words(whole.delay),
                f"[{_COLOURS[level]}]{level}[/]",
            )
    return table


def headline_line(evaluation: Evaluation, machines: Sequence[Machine]) -> str:
    """The verdict that ends a run, coloured."""
    found = headline(evaluation, machines)
    return f"[bold {_COLOURS[found.level]}]verdict: {escape(found.text)}[/]"


def one_line(summaries: Sequence[Summary], *, seeds: int) -> str:
    """Figures and the last one's interval in columns of fixed width, per cent."""
    width = _width(seeds)
    cells = [_number(summary, seeds).rjust(width) for summary in summaries]
    return escape(" ".join([*cells, bounds(summaries[-1]).rjust(len(_BOUNDS))]))


def _packed(systems: Sequence[System], room: int) -> Iterator[list[System]]:
    part: list[System] = []
    used = 0
    for system in systems:
        needed = 3 + max(len(title(system)), len(_legend(system)))
        if part and used + needed > room:
            yield part
            part, used = [], 0
        part.append(system)
        used += needed
    if part:
        yield part


def _heading(system: System) -> str:
    floor = " (floor)" if system.preset.floor else ""
    seeds = f", {len(system.seeds)} seeds" if len(system.seeds) > 1 else ""
    return f"{system.name}{floor}{seeds}"


def _legend(system: System) -> str:
    width = _width(len(system.seeds))
    return " ".join([*(_SHORT[name].rjust(width) for name in FIGURES), _BOUNDS]).replace("[", r"\[")


def _cell(evaluation: Evaluation, system: System, machine: str) -> str:
    if not evaluation.of(system, machine):
        return "failed, see below"
    if machine not in evaluation.complete(system):
        return "no faults to rank"
    summaries = [evaluation.figure(system, machine, name) for name in FIGURES]
    return one_line(summaries, seeds=len(system.seeds))


def _official(evaluation: Evaluation, system: System) -> str:
    total = evaluation.official(system)
    if total.mean is None:
        return "-"
    seeds = len(system.seeds)
    gap = " " * ((len(FIGURES) - 1) * (_width(seeds) + 1))
    return gap + one_line([total], seeds=seeds)


def _number(summary: Summary, seeds: int) -> str:
    if summary.mean is None:
        return "-"
    value = f"{100 * summary.mean:.1f}"
    return value if seeds == 1 or summary.spread is None else f"{value}±{100 * summary.spread:.1f}"


def _width(seeds: int) -> int:
    return 5 if seeds == 1 else 9
