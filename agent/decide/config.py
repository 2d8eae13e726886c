"""When a machine's alarm is raised and cleared: the `decide` section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from agent.schema import Strict


def _n_of_m(raise_windows: int, of_windows: int) -> None:
    if raise_windows > of_windows:
        raise ValueError(
            f"raise_windows ({raise_windows}) cannot be more than of_windows ({of_windows})"
        )


class FalseAlarms(Strict):
    """How many alarms a healthy machine may raise: what a threshold means to its owner."""

    at_most: Annotated[float, Field(gt=0, description="So many alarms of a healthy machine...")] = (
        1.0
    )
    per_days: Annotated[float, Field(gt=0, description="...in so many days of running")] = 30.0

    @property
    def per_second(self) -> float:
        """Alarms a second of sound."""
        return self.at_most / (self.per_days * 86_400.0)


class AlertConfig(Strict):
    """The early warning: a lower threshold, and evidence over longer."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(
            description="A window whose raw score is above this speaks for an alert; null to "
            "derive it from the bundle's healthy scores"
        ),
    ] = None
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Alerts a healthy machine may give; null for `windows_above`, or where "
            "`decide.false_alarms` is given for four times as many as that"
        ),
    ] = None
    windows_above: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of healthy windows allowed above the alert's threshold, where "
            "neither of the two above says otherwise",
        ),
    ] = 0.05
    raise_windows: Annotated[
        int, Field(ge=1, description="Windows above it that raise the alert...")
    ] = 20
    of_windows: Annotated[
        int, Field(ge=1, description="...among so many of the latest valid ones")
    ] = 30

    @model_validator(mode="after")
    def _possible(self) -> AlertConfig:
        _n_of_m(self.raise_windows, self.of_windows)
        if self.threshold is not None and self.false_alarms is not None:
            raise ValueError("give threshold or false_alarms, not both")
        return self


class DecideConfig(Strict):
    """How windows raise and clear the machine's alarm."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(
            description="A window whose raw score (`raw_score`, on the axis of this one bundle) is "
            "above this is anomalous; null for the bundle's own. People see it as 1.0"
        ),
    ] = None
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Find the threshold from the bundle's healthy scores so that a healthy "
            "machine raises no more alarms than this; null for the bundle's own"
        ),
    ] = None
    raise_windows: Annotated[
        int, Field(ge=1, description="Anomalous windows that raise the alarm...")
    ] = 3
    of_windows: Annotated[
        int, Field(ge=1, description="...among so many of the latest valid ones")
    ] = 5
    clear_windows: Annotated[
        int, Field(ge=1, description="Valid windows in a row, all low enough, that clear it")
    ] = 10
    hysteresis: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="To clear, a score must be below the threshold by this share of its size",
        ),
    ] = 0.0
    forget_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Windows longer ago than this count neither for raising nor for clearing, "
            "so that a long gap parts what lies on either side; null for ten times the stretch "
            "that `of_windows` take, at least 60",
        ),
    ] = None
    latch: Annotated[
        bool, Field(description="An alarm stands until it is acknowledged, even when quiet again")
    ] = False
    realarm_seconds: Annotated[
        FiniteFloat | None,
        Field(gt=0, description="Remind of an unacknowledged alarm at this interval; null never"),
    ] = None
    shelve_max_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Longest time an alarm may be shelved or muted for")
    ] = 604_800.0
    idle: Annotated[
        Literal["suppress", "ignore"],
        Field(
            description="While the machine sounds idle (bundles with a gate): suppress, its "
            "windows count neither for nor against an alarm, nor do those that lie across a start "
            "or stop (so an alarm comes a window's length later); ignore, they count as any other"
        ),
    ] = "suppress"
    idle_settle_seconds: Annotated[
        FiniteFloat | None,
        Field(
            ge=0,
            description="After idling, windows that begin within this are not counted: the machine "
            "starts up; null for the length of a window",
        ),
    ] = None
    alert: Annotated[AlertConfig | None, Field(description="Early warning; null for none")] = (
        AlertConfig()
    )

    @model_validator(mode="after")
    def _possible(self) -> DecideConfig:
        _n_of_m(self.raise_windows, self.of_windows)
        if self.threshold is not None and self.false_alarms is not None:
            raise ValueError("give threshold or false_alarms, not both")
        return self
