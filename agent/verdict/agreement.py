"""Is the detector worth anything on the healthy recordings it was made of? Said before all else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from agent.bundle.facts import AgreementInfo
from agent.verdict.figures import JudgedClip, Share

# See docs/guide/recordings.md for what both were measured on.
SHARE = 0.2
SPREAD = 50.0
_NAMED = 3


def agreement(
    clips: Sequence[JudgedClip],
    judged: Sequence[float],
    false: Share,
    apart: Collection[str] = (),
) -> AgreementInfo | None:
    """How far a detector's healthy recordings agree with each other.

    Args:
        clips: Its healthy recordings, each held against a threshold found without it.
        judged: Their scores, each with its own recording left out.
        false: How many of them lie above.
        apart: Recordings that are known to be unlike all others, and set no threshold.

    Returns:
        None where there are too few to say.
    """
    kept = [n for n, clip in enumerate(clips) if clip.name.partition("#")[0] not in apart]
    if not kept:
        return None
    least = 0.0 if false.interval is None else false.interval[0]
    scores = np.array(judged, np.float64)[kept]
    middle = float(np.median(scores))
    most = float(np.quantile(np.abs(scores - middle), 0.75))
    spread = float(np.max(scores) - middle) / max(most, 1e-12)
    told = []
    if least > SHARE:
        told.append(
            f"{false.hits} of {false.total} healthy recordings lie above a threshold that was "
            "found without them"
        )
    if spread > SPREAD:
        told.append(
            f"the strangest healthy recording lies {spread:.3g} times as far above the middle as "
            "three in four lie from it"
        )
    ruined = ""
    if told:
        order = np.argsort(-scores)[:_NAMED]
        names = ", ".join(clips[kept[int(n)]].name for n in order)
        ruined = (
            f"RUINED: {'; '.join(told)}. The healthy recordings do not agree with each other: "
            "copies, several machines or microphones, or faults among them. The strangest: "
            f"{names}. `auscult inspect` makes a page of them"
        )
    return AgreementInfo(
        recordings=false.total,
        above=false.hits,
        above_share_least=round(least, 4),
        above_share_bound=SHARE,
        spread=float(f"{spread:.4g}"),
        spread_bound=SPREAD,
        ruined=ruined,
    )
