"""Systems and their figures in words, for tables and pages alike."""

from __future__ import annotations

from export.results import Summary, System


def title(system: System) -> str:
    """A system's name, and whether it is a floor or a mean over seeds."""
    floor = " (floor)" if system.preset.floor else ""
    seeds = f", {len(system.seeds)} seeds" if len(system.seeds) > 1 else ""
    return f"{system.name}{floor}{seeds}"


def percent(summary: Summary) -> str:
    """Mean and spread, per cent; a dash where there is none."""
    if summary.mean is None:
        return "-"
    spread = "" if summary.spread is None else f" ± {100 * summary.spread:.1f}"
    return f"{100 * summary.mean:.1f}{spread}"


def bounds(summary: Summary) -> str:
    """The 95 % interval in brackets, per cent; empty where there is none."""
    if summary.interval is None:
        return ""
    low, high = summary.interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def percent_within(summary: Summary) -> str:
    """Mean, spread and interval."""
    return f"{percent(summary)} {bounds(summary)}".rstrip()
