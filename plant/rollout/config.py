"""The part of PLANT.yaml about rolling out: `rollout`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agent.core.paths import FilePath
from agent.core.schema import Strict


class GateConfig(Strict):
    """When a machine is well with its new bundle, and when it is not."""

    watch_seconds: Annotated[
        float,
        Field(
            ge=0, description="It must run with the bundle so long before it has passed, seconds"
        ),
    ] = 14_400.0
    least_windows: Annotated[
        int, Field(ge=1, description="And so many windows it must have judged in that time")
    ] = 100
    most_alarms: Annotated[
        int, Field(ge=0, description="More alarms in that time than this fail it")
    ] = 1
    most_exceeded: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="A greater share of windows above the threshold fails it, once "
            "`least_windows` were judged",
        ),
    ] = 0.2
    recognise: Annotated[
        bool,
        Field(
            description="Whether a bundle fails in which the device does not recognise its machine "
            "(`recognition` in `health`), or whose threshold lies beyond every known fault"
        ),
    ] = True
    most_farther: Annotated[
        float,
        Field(
            gt=1,
            description="A bundle fails from which what is heard lies so many times as far as from "
            "the one before (`recognition.before`), and 1 at least",
        ),
    ] = 1.75
    take_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="A device that has not taken the bundle after this is left out of account; "
            "the offer stays, and it may take it later, seconds",
        ),
    ] = 86_400.0


class RolloutConfig(Strict):
    """How bundles reach devices, and what a rollout waits for."""

    host: Annotated[
        str,
        Field(min_length=1, description="Address that content is served on; 0.0.0.0 for every one"),
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536, description="Its port; 0 for any")] = 8470
    cert_file: Annotated[
        FilePath | None, Field(description="Certificate for HTTPS; null for plain HTTP")
    ] = None
    key_file: Annotated[FilePath | None, Field(description="The private key to it")] = None
    token_file: Annotated[
        FilePath | None,
        Field(
            description="File with a token that devices must show (`offers.token_file` there); "
            "bundles may hold sound, so give one outside a closed network"
        ),
    ] = None
    canary_share: Annotated[
        float,
        Field(gt=0, le=1, description="Share of the machines that are first; one at least"),
    ] = 0.1
    most_failed: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="After the canaries, a greater share of failed machines than this puts "
            "every machine back; up to it only the failed ones",
        ),
    ] = 0.1
    gate: Annotated[GateConfig, Field(description="When a machine is well with its bundle")] = (
        GateConfig()
    )

    @model_validator(mode="after")
    def _pair(self) -> RolloutConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or neither")
        return self
