"""Leave-one-machine-out choice of a shorter form, and what it costs the machine left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Losses = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One machine left out.

    Attributes:
        machine: Which.
        form: What the others would have chosen; empty when nothing shorter.
        loss: Points that it loses on this machine.
    """

    machine: str
    form: str
    loss: float


def left_out(losses: Losses, cost: Mapping[str, float], bound: float) -> list[LeftOut]:
    """Leave each machine out: the cheapest form that loses no more than `bound` on the others.

    Args:
        losses: By machine and form, points of the harmonic mean lost of the full form.
        cost: Milliseconds of processor by form.
        bound: Points that may be lost in the mean over the other machines.
    """
    found = []
    for machine, own in losses.items():
        others = [losses[other] for other in losses if other != machine]
        able = [form for form in own if np.mean([one[form] for one in others]) <= bound]
        form = min(able, key=cost.__getitem__, default="")
        found.append(LeftOut(machine, form, own[form] if form else 0.0))
    return found
