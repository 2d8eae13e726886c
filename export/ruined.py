"""Is the detector worth anything on the healthy recordings it was made of? Said before all else."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from trainer.decisions.rehearsal import Rehearsal

# So large a share of healthy recordings above a limit found without them, for certain, is no limit.
_SHARE = 0.2
# Of recordings of one machine the strangest is a few times as far above the middle as most are.
_SPREAD = 50.0
_NAMED = 3


def ruined(rehearsal: Rehearsal, apart: Collection[str] = ()) -> str:
    """Why a detector's healthy recordings do not agree; empty where they do.

    Args:
        rehearsal: Its healthy recordings, each held against a threshold found without it.
        apart: Recordings that are known to be unlike all others, and set no threshold.
    """
    kept = [n for n, clip in enumerate(rehearsal.clips) if clip.name.partition("#")[0] not in apart]
    if not kept:
        return ""
    false = rehearsal.figures["all"].false
    scores = np.array(rehearsal.scores, np.float64)[kept]
    middle = float(np.median(scores))
    most = float(np.quantile(np.abs(scores - middle), 0.75))
    spread = float(np.max(scores) - middle) / max(most, 1e-12)
    told = []
    if false.interval is not None and false.interval[0] > _SHARE:
        told.append(
            f"{false.hits} of {false.total} healthy recordings lie above a threshold that was "
            "found without them"
        )
    if spread > _SPREAD:
        told.append(
            f"the strangest healthy recording lies {spread:.3g} times as far above the middle as "
            "three in four lie from it"
        )
    if not told:
        return ""
    order = np.argsort(-scores)[:_NAMED]
    names = ", ".join(rehearsal.clips[kept[int(n)]].name for n in order)
    return (
        f"RUINED: {'; '.join(told)}. The healthy recordings do not agree with each other: copies, "
        "several machines or microphones, or faults among them. The strangest: "
        f"{names}. `auscult inspect` makes a page of them"
    )
