"""Reads the part of PLANT.yaml that `auscult plant serve` works with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from agent.core.broker import BrokerConfig
from agent.core.errors import ConfigError
from agent.core.schema import Strict, explain
from agent.core.secret_file import read_secret
from plant.sections import of_serving, read_sections
from plant.watch.config import DatabaseConfig, PageConfig, WatchConfig

_REMEDY = "`auscult plant serve --help` shows the smallest one."


class ServeFile(Strict):
    """The sections of PLANT.yaml about watching; those about learning are left to `build`."""

    plant: Annotated[str, Field(min_length=1, max_length=100, description="The plant's name")]
    broker: Annotated[BrokerConfig, Field(description="The broker that devices publish to; MQTT 5")]
    database: Annotated[DatabaseConfig, Field(description="Where it is kept what they told")] = (
        DatabaseConfig()
    )
    watch: Annotated[WatchConfig, Field(description="How they are listened to")] = WatchConfig()
    web: Annotated[PageConfig, Field(description="The plant's page")] = PageConfig()


def load_serve(path: Path) -> ServeFile:
    """Read PLANT.yaml; files that it names are beside it.

    Raises:
        ConfigError: It cannot be read, or does not validate; names each field.
    """
    data = read_sections(path, _REMEDY)
    base = path.absolute().parent
    try:
        found = ServeFile.model_validate(of_serving(data), context={"base": base})
    except ValidationError as fault:
        raise ConfigError(explain(fault), where=path, remedy=_REMEDY) from fault
    return _placed(found, base)


def _placed(found: ServeFile, base: Path) -> ServeFile:
    """With SQLite's file from PLANT.yaml's folder."""
    url, scheme = found.database.url, "sqlite:///"
    if not url.startswith(scheme) or url.startswith(scheme + "/") or url == scheme:
        return found
    database = found.database.model_copy(update={"url": f"{scheme}{base / url[len(scheme) :]}"})
    return found.model_copy(update={"database": database})


def open_settings(found: ServeFile) -> str | None:
    """The database's password; None where the configuration names no file of it.

    Raises:
        ConfigError: It cannot be read.
    """
    path = found.database.password_file
    if path is None:
        return None
    return read_secret(
        path, "the database's password file",
        remedy="Put the password on its first line (chmod 600).",
    )  # fmt: skip
