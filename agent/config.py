"""The agent's configuration file (`auscult run --config agent.yaml`), its schema and its reader."""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from agent.errors import ConfigError
from agent.misspelt import explain_with_nearest
from agent.schema import Strict

# One level of an MQTT topic: no '/', '+', '#' or space.
_TOPIC_PART = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# Levels beside the machines in the topic tree; a machine of that name would be shadowed.
RESERVED = frozenset({"status", "info", "health", "request", "response"})


def _resolve(value: str | Path, info: ValidationInfo) -> Path:
    """Relative paths count from the configuration file's folder; `~` and `$VARS` are filled in."""
    path = Path(os.path.expandvars(value)).expanduser()
    base = (info.context or {}).get("base")
    return path if base is None else Path(base) / path


def _resolve_all(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    return tuple(str(_resolve(path, info)) for path in value)


FilePath: TypeAlias = Annotated[Path, AfterValidator(_resolve)]


class ReplaySource(Strict):
    """Recordings played as if they were being heard."""

    kind: Annotated[Literal["replay"], Field(description="Plays recordings")] = "replay"
    paths: Annotated[
        tuple[str, ...],
        AfterValidator(_resolve_all),
        Field(min_length=1, description="Files, folders or globs (`*.wav`), played in this order"),
    ]
    speed: Annotated[
        Literal["realtime", "max"],
        Field(description="As fast as it was recorded, or as fast as this device can score it"),
    ] = "realtime"
    loop: Annotated[bool, Field(description="Start again at the end, for ever")] = False
    gap_between_files: Annotated[
        bool,
        Field(description="No window spans two files; otherwise files are spliced to one stream"),
    ] = False
    channel: Annotated[
        int | None, Field(ge=0, description="Channel used, from 0; null averages all")
    ] = None


class MicrophoneSource(Strict):
    """A microphone, reopened for ever when it fails."""

    kind: Annotated[Literal["microphone"], Field(description="Listens to a microphone")] = (
        "microphone"
    )
    device: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Part of the device's name (case does not matter); null for the default",
        ),
    ] = None
    rate: Annotated[
        int | None,
        Field(gt=0, description="Rate it is opened at, Hz; null for the device's own"),
    ] = None
    channel: Annotated[
        int | None, Field(ge=0, description="Channel used, from 0; null averages all")
    ] = None
    stall_seconds: Annotated[
        float, Field(gt=0, description="Without sound for so long, it is reopened, seconds")
    ] = 5.0
    reopen_max_seconds: Annotated[
        float, Field(gt=0, description="Longest wait between attempts to reopen it, seconds")
    ] = 60.0


def _short_source(value: Any) -> Any:
    """`replay:PATH` and `microphone[:NAME]` as the structured form."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    if kind == "replay" and rest:
        return {"kind": "replay", "paths": (rest,)}
    if kind == "microphone":
        return {"kind": "microphone", "device": rest or None}
    raise ValueError("should be 'replay:PATH', 'microphone' or 'microphone:NAME'")


SourceConfig: TypeAlias = Annotated[
    ReplaySource | MicrophoneSource,
    Field(discriminator="kind"),
    BeforeValidator(_short_source),
]


class DecideConfig(Strict):
    """How windows raise and clear the machine's alarm."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(description="A window scoring above this is anomalous; null for the bundle's own"),
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

    @model_validator(mode="after")
    def _possible(self) -> DecideConfig:
        if self.raise_windows > self.of_windows:
            raise ValueError(
                f"raise_windows ({self.raise_windows}) cannot be more than "
                f"of_windows ({self.of_windows})"
            )
        return self


class MachineConfig(Strict):
    """A machine that is listened to."""

    name: Annotated[
        str,
        Field(
            pattern=_TOPIC_PART,
            description="Its name in topics and logs: letters, digits, '.', '_', '-'",
        ),
    ]
    bundle: Annotated[FilePath, Field(description="Folder that `auscult export` wrote")]
    source: Annotated[
        SourceConfig,
        Field(description="Where its sound comes from: `replay:PATH`, `microphone:NAME`, or below"),
    ]
    hop_seconds: Annotated[
        FiniteFloat | None,
        Field(gt=0, description="Step between windows, seconds; null for the bundle's own"),
    ] = None
    queue_windows: Annotated[
        int,
        Field(ge=1, description="Windows that may wait for scoring before the oldest is dropped"),
    ] = 8
    decide: Annotated[DecideConfig, Field(description="When its alarm is raised and cleared")] = (
        DecideConfig()
    )


class TlsConfig(Strict):
    """Encryption of the connection to the broker."""

    ca_file: Annotated[
        FilePath | None,
        Field(description="Certificates of the authorities trusted; null for the system's"),
    ] = None
    cert_file: Annotated[
        FilePath | None, Field(description="This device's own certificate, when the broker asks")
    ] = None
    key_file: Annotated[FilePath | None, Field(description="The private key to it")] = None

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or neither")
        return self


class MqttConfig(Strict):
    """The broker that scores and alarms are published to."""

    host: Annotated[str, Field(min_length=1, description="Host name or address of the broker")]
    port: Annotated[
        int | None,
        Field(gt=0, lt=65536, description="Its port; null for 1883, or 8883 with TLS"),
    ] = None
    prefix: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$",
            description="First level(s) of every topic",
        ),
    ] = "auscult"
    client_id: Annotated[
        str | None,
        Field(min_length=1, description="Client identifier; null for `auscult-<device>`"),
    ] = None
    username: Annotated[str | None, Field(min_length=1, description="User name")] = None
    password_file: Annotated[
        FilePath | None,
        Field(description="File with the password on its first line; never in this file"),
    ] = None
    tls: Annotated[TlsConfig | None, Field(description="Encryption; null for none")] = None
    version: Annotated[
        Literal["auto", "5", "3.1.1"],
        Field(description="Version of MQTT; auto tries 5, then 3.1.1"),
    ] = "auto"
    keepalive_seconds: Annotated[
        int,
        Field(ge=5, le=3600, description="A lost connection is noticed after about this, seconds"),
    ] = 30
    reconnect_max_seconds: Annotated[
        float, Field(ge=1, description="Longest wait between attempts to connect, seconds")
    ] = 60.0
    max_pending_events: Annotated[
        int,
        Field(
            ge=1,
            description="Alarm events kept in memory while the broker is away; then the oldest go",
        ),
    ] = 10_000

    @model_validator(mode="after")
    def _user(self) -> MqttConfig:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username beside it")
        return self

    @property
    def broker_port(self) -> int:
        """The port to connect to."""
        return self.port or (1883 if self.tls is None else 8883)


class JsonlConfig(Strict):
    """A file that receives every message, one JSON object a line."""

    path: Annotated[FilePath, Field(description="The file; lines are appended")]
    max_bytes: Annotated[
        int,
        Field(ge=10_000, description="Beyond this it becomes `<path>.1` and a new one starts"),
    ] = 100_000_000
    backups: Annotated[int, Field(ge=0, le=99, description="Old files kept")] = 2


def _short_jsonl(value: Any) -> Any:
    return {"path": value} if isinstance(value, (str, Path)) else value


class InferenceConfig(Strict):
    """How the encoder is run."""

    threads: Annotated[int, Field(ge=1, le=256, description="Threads one inference may use")] = 1
    providers: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="onnxruntime execution providers, the preferred first"),
    ] = ("CPUExecutionProvider",)


class AgentConfig(Strict):
    """`agent.yaml`: what the agent listens to and whom it tells."""

    device: Annotated[
        str | None,
        Field(
            pattern=_TOPIC_PART,
            description="This device's name in topics; null for its host name",
        ),
    ] = None
    machines: Annotated[
        tuple[MachineConfig, ...], Field(min_length=1, description="The machines listened to")
    ]
    mqtt: Annotated[
        MqttConfig | None, Field(description="Broker to publish to; null only logs")
    ] = None
    jsonl: Annotated[
        JsonlConfig | None,
        BeforeValidator(_short_jsonl),
        Field(description="File that receives every message as JSON lines (a path will do)"),
    ] = None
    inference: Annotated[InferenceConfig, Field(description="How the encoder is run")] = (
        InferenceConfig()
    )
    heartbeat_seconds: Annotated[
        float,
        Field(gt=0, description="Step between log lines that say all is well, seconds"),
    ] = 300.0

    @model_validator(mode="after")
    def _names(self) -> AgentConfig:
        names = [machine.name for machine in self.machines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two machines are called {', '.join(twice)}: names must differ")
        taken = sorted(RESERVED.intersection(names))
        if taken:
            raise ValueError(f"a machine cannot be called {', '.join(taken)}: the topic is taken")
        return self

    @property
    def device_name(self) -> str:
        """The configured name, or this host's, fit for a topic."""
        host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname())
        return self.device or host.lstrip("._-") or "device"


class _OnceLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, where PyYAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path) -> AgentConfig:
    """Read an agent's configuration.

    Args:
        path: The YAML file. Relative paths in it count from its folder.

    Raises:
        ConfigError: It cannot be read, is not YAML, or a field is wrong (which is named).
    """
    try:
        # PyYAML's safe constructors only: no object is ever built from the file.
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # noqa: S506
    except FileNotFoundError as fault:
        raise ConfigError(
            "there is no such configuration file",
            where=path,
            remedy="Start from configs/agent.yaml; every key is in docs/configuration.md.",
        ) from fault
    except OSError as fault:
        raise ConfigError(f"cannot be read: {fault.strerror}", where=path) from fault
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as fault:
        raise ConfigError(f"is not YAML: {fault}", where=path) from fault
    try:
        return AgentConfig.model_validate(data, context={"base": path.absolute().parent})
    except ValidationError as fault:
        raise ConfigError(
            explain_with_nearest(fault, AgentConfig),
            where=path,
            remedy="Every key is described in docs/configuration.md.",
        ) from fault
