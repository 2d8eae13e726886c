"""A recipe: all that decides what is made of an encoder's embeddings of healthy sound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agent.config.decide import FalseAlarms
from agent.config.scorer import ScorerConfig
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdKind
from agent.core.schema import Strict, spelt


class WindowConfig(Strict):
    """How recordings are cut."""

    seconds: Annotated[float, Field(gt=0, description="Length of a window, seconds")] = 10.0
    hop_seconds: Annotated[
        float, Field(gt=0, description="Step between windows on the device, seconds")
    ] = 1.0
    train_hop_seconds: Annotated[
        float, Field(gt=0, description="Step between windows of a training recording, seconds")
    ] = 5.0

    clip_seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="Of each recording only so much from its beginning is learnt from and "
            "scored, seconds (reports that cut recordings); null for all of it. The device's "
            "rolling windows heed nothing of it",
        ),
    ] = None


class ThresholdConfig(Strict):
    """Where healthy ends."""

    rule: Annotated[
        ThresholdKind,
        Field(
            description="tail: peaks over threshold; gamma: quantile of a gamma law (the DCASE "
            "baseline's, with a rate of 0.1); mean_sigma: mean + k deviations; conformal: by "
            "p-values, which then come with each score"
        ),
    ] = "tail"
    false_alarm_rate: Annotated[
        float, Field(gt=0, lt=1, description="Share of healthy windows allowed above the threshold")
    ] = 0.01
    sigmas: Annotated[
        float | None,
        Field(
            gt=0,
            description="k of mean_sigma, in place of the rate; null for that of a Gaussian law at "
            "the rate",
        ),
    ] = None
    domains: Annotated[
        Literal["each", "pooled"],
        Field(
            description="each: the rate holds in each domain, the threshold is the highest of "
            "theirs; pooled: one of all healthy windows together"
        ),
    ] = "each"
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Alarms that a healthy machine may raise, with the agent's own measure of "
            "evidence; the share of windows follows from it, and `false_alarm_rate` holds for "
            "whole recordings alone. null for `false_alarm_rate`; left out, 1 in 30 days where "
            "the rule is `tail` and no `false_alarm_rate` is given"
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _promised(cls, data: Any) -> Any:
        """A promise in days where no share of windows is asked for."""
        if not isinstance(data, dict) or {"false_alarms", "false_alarm_rate"} & data.keys():
            return data
        return data if data.get("rule", "tail") != "tail" else {**data, "false_alarms": {}}

    @model_validator(mode="after")
    def _possible(self) -> ThresholdConfig:
        if self.false_alarms is not None and self.rule != "tail":
            raise ValueError(
                f"false_alarms: alarms in days are rarer than {self.rule} can tell of a few "
                "hundred windows; give rule: tail"
            )
        if self.sigmas is not None and self.rule != "mean_sigma":
            raise ValueError(f"sigmas: is k of the rule mean_sigma, not of {self.rule}")
        return self


class DriftConfig(Strict):
    """What the drift monitor on the device compares with."""

    enabled: Annotated[bool, Field(description="Put a drift baseline into the bundle")] = True
    step_seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="Step between the windows that it takes, in the baseline and on the "
            "device, seconds; null for a window's length, so that none overlap",
        ),
    ] = None
    least_windows: Annotated[
        int, Field(ge=16, description="With fewer healthy windows there is no baseline")
    ] = 32


class Recipe(Strict):
    """What makes a detector of embeddings; a preset is one with an encoder and its training."""

    name: Annotated[
        str,
        Field(
            pattern=spelt(r"^[a-z0-9_]+$", "lower-case letters, digits and '_'"),
            description="Its name, that of its file",
        ),
    ]
    window: WindowConfig = WindowConfig()
    scorer: ScorerConfig = KnnConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    drift: DriftConfig = DriftConfig()
