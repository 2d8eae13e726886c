"""What a threshold was asked to be, as a manifest keeps it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from agent.core.schema import Strict

ThresholdKind: TypeAlias = Literal["tail", "gamma", "mean_sigma", "conformal"]


class AlarmPromise(Strict):
    """How many alarms a healthy machine may raise, and how windows become alarms."""

    per_second: Annotated[float, Field(gt=0, description="Alarms a second of healthy sound")]
    hop_seconds: Annotated[float, Field(gt=0, description="Step between windows, seconds")]
    raise_windows: Annotated[int, Field(ge=1, description="Windows above the threshold...")]
    of_windows: Annotated[int, Field(ge=1, description="...among so many raise an alarm")]
    clear_windows: Annotated[int, Field(ge=1, description="Quiet windows in a row that clear it")]


class ThresholdRule(Strict):
    """What a threshold was asked to be, so that a grown bank can be calibrated by the same rule."""

    kind: Annotated[
        ThresholdKind, Field(description="How it is found, see agent/calibrate/rules.py")
    ] = "tail"
    sigmas: Annotated[
        float | None,
        Field(gt=0, description="k of mean_sigma; null for that of a Gaussian law at the rate"),
    ] = None
    domains: Annotated[
        Literal["each", "pooled"],
        Field(description="The highest of the domains' thresholds, or one of all their windows"),
    ] = "each"
    false_alarm_rate: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of healthy windows allowed above the threshold; of whole "
            "recordings alone where alarms are promised",
        ),
    ]
    promise: Annotated[
        AlarmPromise | None,
        Field(
            description="Alarms that a healthy machine may raise, at most; the share of windows "
            "follows from it and holds with 90 % confidence. null without"
        ),
    ] = None
    sure: Annotated[
        bool,
        Field(description="The share of windows is an upper bound with 90 % confidence"),
    ] = False
