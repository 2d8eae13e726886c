"""The judged clips of scored sections."""

from __future__ import annotations

from collections.abc import Iterable

from agent.verdict.figures import JudgedClip
from trainer.metrics.files import SectionScores


def judged_clips(sections: Iterable[SectionScores]) -> list[JudgedClip]:
    """The clips of scored sections whose answer is known and on which was decided."""
    clips = []
    for section in sections:
        if section.decisions is None:
            continue
        lengths = section.seconds
        clips += [
            JudgedClip(
                name,
                label,
                section.domains[i],
                bool(section.decisions[i]),
                None if lengths is None else float(lengths[i]),
            )
            for i, (name, label) in enumerate(zip(section.names, section.labels, strict=True))
            if label
        ]
    return clips
