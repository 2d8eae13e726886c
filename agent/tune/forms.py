"""Shorter forms of one detector, a bundle each: which of them suits this device's budget.

`auscult shorten` on a workstation writes them, with what each loses. Here the largest is taken
that the device can run: losses that a test set of a few hundred recordings cannot tell apart do not
decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.core.errors import ConfigError
from agent.core.schema import Strict, read_model
from agent.encode.providers import CPU
from agent.tune.choose import KEEPING_UP
from agent.tune.measure import Cost

FORMS = "forms.json"
# What the encoder may take of a device's memory, whose agent, sound and system take the rest.
MEMORY_SHARE = 0.5
# Windows that take so many times their processor time wait for other work.
_HELD_UP = 3.0


class FormInfo(Strict):
    """One form, and what was measured of it on the workstation."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9+]+$",
            description="What it is: full, or by what it is shorter (layer8+merge4+heads6). Its "
            "bundle is the folder of that name",
        ),
    ]
    cpu_ms: Annotated[float | None, Field(description="Processor time of a window, ms")] = None
    wall_ms: Annotated[float | None, Field(description="Time of a window, median, ms")] = None
    memory_mb: Annotated[float | None, Field(description="Memory of the encoder, MB")] = None
    cosine_mean: Annotated[
        float | None,
        Field(
            description="Mean cosine of its healthy embeddings to those of the full form, both as "
            "exported; null where they differ in length"
        ),
    ] = None
    cosine_min: Annotated[float | None, Field(description="The smallest")] = None
    hmean: Annotated[
        float | None,
        Field(description="Harmonic mean of the areas on the test set; null without one"),
    ] = None
    loss: Annotated[
        float | None, Field(description="How much lower than the full form's, percent points")
    ] = None
    loss_low: Annotated[float | None, Field(description="Lower end of its 95 % interval")] = None
    loss_high: Annotated[float | None, Field(description="Upper end")] = None
    within: Annotated[bool, Field(description="Whether it loses no more than was allowed")] = False
    fault: Annotated[str, Field(description="Why it has no bundle; empty when it has")] = ""


class FormList(Strict):
    """`forms.json`, beside the forms' bundles."""

    schema_version: Literal[1] = 1
    auscult: Annotated[str, Field(description="Version that measured")]
    machine: Annotated[str, Field(description="Machine")]
    preset: Annotated[str, Field(description="Preset of the full form")]
    processor: Annotated[str, Field(description="Where it was measured")]
    judged_by: Annotated[
        Literal["test set", "cosine"], Field(description="What the allowed loss is of")
    ]
    clips: Annotated[int, Field(ge=0, description="Test recordings with a known answer")] = 0
    max_loss: Annotated[float, Field(description="Allowed loss, percent points")]
    min_cosine: Annotated[float, Field(description="Allowed cosine, where there is no test set")]
    forms: Annotated[tuple[FormInfo, ...], Field(description="The full form first")]
    chosen: Annotated[str, Field(description="The form chosen there")]
    device: Annotated[
        str, Field(description="The device it was chosen for, in words; empty when for none")
    ] = ""
    too_large: Annotated[
        tuple[str, ...],
        Field(description="Why no form fits that device: what the cheapest takes of it"),
    ] = ()

    def largest_first(self) -> list[FormInfo]:
        """The forms that lose no more than was allowed, by their processor time there."""
        able = [form for form in self.forms if form.within]
        return sorted(able, key=lambda form: -(form.cpu_ms or 0.0))


@dataclass(frozen=True, slots=True)
class FormTrial:
    """A form as measured on this device.

    Attributes:
        form: Which.
        cost: Of a window.
        load: Share of the time that the windows of all its machines take, by slow ones.
        fits: Whether that, and its memory, leave the device enough.
    """

    form: FormInfo
    cost: Cost
    load: float
    fits: bool

    @property
    def held_up(self) -> bool:
        """Whether it does not fit, but waited for the processor most of the time."""
        own = self.cost.provider in {"", CPU}
        return not self.fits and own and self.cost.slow_ms > _HELD_UP * self.cost.cpu_ms


def read_forms(folder: Path) -> FormList:
    """Read `forms.json`.

    Raises:
        ConfigError: It is missing or damaged, or a bundle is.
    """
    remedy = "Give the folder that `auscult shorten RUN --out FORMS` wrote."
    found = read_model(folder / FORMS, FormList, error=ConfigError, remedy=remedy)
    for form in found.largest_first():
        if not (folder / form.name).is_dir():
            raise ConfigError(f"holds no bundle '{form.name}'", where=folder, remedy=remedy)
    return found


def first_that_fits(
    found: FormList,
    attempt: Callable[[FormInfo], Cost],
    *,
    per_second: float,
    memory_mb: float,
    told: Callable[[FormTrial], None] = lambda _: None,
) -> list[FormTrial]:
    """Measure forms from the largest on, until one fits.

    Args:
        found: The forms.
        attempt: Measures one.
        per_second: Windows that the device has to judge a second, of all machines.
        memory_mb: Memory that the device has.
        told: Told each trial.

    Returns:
        The trials; the last one fits, or none does.
    """
    trials = []
    for form in found.largest_first():
        cost = attempt(form)
        load = per_second * cost.slow_ms / 1e3
        fits = load <= KEEPING_UP and cost.memory_mb <= MEMORY_SHARE * memory_mb
        trials.append(FormTrial(form, cost, load, fits))
        told(trials[-1])
        if fits:
            break
    return trials
