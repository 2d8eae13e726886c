"""How a new bundle is taken up: the `bundles` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.paths import FilePath
from agent.core.schema import Strict


class BundlesConfig(Strict):
    """Which bundles are trusted, and how a new one replaces the present while the agent runs."""

    public_key: Annotated[
        FilePath | None,
        Field(
            description="Ed25519 public key in PEM (`auscult keygen`): only bundles signed with "
            "its other half are opened; needs the package of `auscult[sign]`. null opens any"
        ),
    ] = None
    accept_learnt: Annotated[
        bool,
        Field(
            description="With `public_key`: also take up bundles that were learnt on this device "
            "(`auscult learn`, or on the page), which its own key signs. Whoever may log in to the "
            "page then decides what is healthy"
        ),
    ] = False
    allow_older: Annotated[
        bool,
        Field(
            description="With `public_key`: also take up bundles older than what was taken up "
            "before, and other machines'. Each is logged, and told with the event. For one bundle "
            "alone, the command `reload` with `allow_older`"
        ),
    ] = False
    watch_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="Step between looks for a new bundle or bank version, seconds; "
            "0 never looks, and only the `reload` command takes one up",
        ),
    ] = 5.0
    trial_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="A bundle that was never opened on this device is first opened in a "
            "process of its own, which may take so much processor time (and five times as long) "
            "and a bounded memory: one that would end the agent ends that process. 0 for none, "
            "seconds",
        ),
    ] = 120.0
    trial_windows: Annotated[
        int,
        Field(
            ge=1,
            description="Valid windows that a new bundle must judge without a fault; else the one "
            "before it is taken up again",
        ),
    ] = 20
