"""What an export does about healthy recordings unlike all others: refuses, or notes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent.core.text import plural
from export.onnx_graph import ExportError
from trainer.decisions.untypical import REFUSED, ScoredApart
from trainer.run import RunRecord

_NAMED = 5


def refuse_apart(found: Sequence[ScoredApart], record: RunRecord) -> None:
    """Refuse a bundle whose healthy sound holds what is unlike all the rest, unless it was kept.

    Args:
        found: See `scored_apart`.
        record: The run; one that was made without the hygiene stage is never refused.

    Raises:
        ExportError: There is one past the bound.
    """
    bad = [one for one in found if one.times >= REFUSED]
    if not bad or record.hygiene is None or record.hygiene.decision == "keep":
        return
    names = "".join(f"\n  {_told(one)}" for one in bad[:_NAMED])
    raise ExportError(
        f"{plural(len(bad), 'healthy recording')} unlike all others to this detector: {names}\n",
        where=record.machine,
        remedy="Listen to them. If the machine is not well in them, take them away and train "
        "again; if it is, record that condition more than once, or train again with --untypical "
        "keep: they are learnt from, but set no threshold.",
    )


def note_apart(found: Sequence[ScoredApart], named: Collection[str]) -> str:
    """What the manifest says of recordings that set no threshold; empty without any.

    Args:
        found: By the detector's scores.
        named: By their spectra, before the training.
    """
    told = [_told(one) for one in found]
    told += sorted(set(named) - {one.source for one in found})
    if not told:
        return ""
    return (
        f"{plural(len(told), 'healthy recording')} unlike all others, of which none sets the "
        f"threshold: {'; '.join(told[:_NAMED])}{' ...' if len(told) > _NAMED else ''}"
    )


def _told(one: ScoredApart) -> str:
    return (
        f"{one.source} alone would set the threshold, {one.times:.0f} times as high above the "
        f"middle as the next: listen to it from {one.start:.0f} s on"
    )
