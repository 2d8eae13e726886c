"""Bundles that are offered over MQTT: the `offers` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt


class OffersConfig(Strict):
    """Where the content of offered bundles is fetched from, and what is taken."""

    url: Annotated[
        str,
        Field(
            max_length=500,
            pattern=spelt(
                r"^https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?$",
                "an address as https://plant.example:8470",
            ),
            description="Where content is fetched from; an offer names none. With http:// whoever "
            "listens on the way sees token and bundles (which cannot be altered: they are signed)",
        ),
    ]
    ca_file: Annotated[
        FilePath | None,
        Field(description="Authorities' certificates trusted for https://; null for the system's"),
    ] = None
    token_file: Annotated[
        FilePath | None,
        Field(description="File with the token that the server asks for on its first line"),
    ] = None
    allow_downgrade: Annotated[
        bool,
        Field(
            description="Also take a bundle older than what runs, where the offer says so: without "
            "it a bundle that proves bad is put right by a newer one alone"
        ),
    ] = False
    retry_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Step to the next attempt when content cannot be fetched; it doubles up to "
            "an hour, seconds",
        ),
    ] = 15.0
    timeout_seconds: Annotated[
        float, Field(gt=0, description="A server that is silent for so long is away, seconds")
    ] = 30.0

    @model_validator(mode="after")
    def _encrypted(self) -> OffersConfig:
        if self.ca_file is not None and not self.url.startswith("https://"):
            raise ValueError("ca_file is for https://, and url is without encryption")
        return self
