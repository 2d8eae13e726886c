"""The agent's configuration file (`auscult run --config agent.yaml`), its schema and its reader.

Each stage has the schema of its own section beside its code; this is the file that holds them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from agent.config.bundle import BundlesConfig
from agent.config.capture import AnySource, SourceConfig
from agent.config.chosen import chosen_microphone
from agent.config.collect import CollectConfig
from agent.config.commands import CommandsConfig
from agent.config.commission import CommissionConfig
from agent.config.decide import DecideConfig
from agent.config.encode import InferenceConfig
from agent.config.evidence import EvidenceConfig
from agent.config.foreign import ForeignConfig
from agent.config.hop import AUTO, CLOSE_SECONDS, Hop, HopSetting, hop_of
from agent.config.maintenance import MaintenanceConfig
from agent.config.monitor import MetricsConfig
from agent.config.notify import NotifyConfig
from agent.config.offers import OffersConfig
from agent.config.publish import JsonlConfig, MqttConfig, short_jsonl
from agent.config.running import RunningConfig
from agent.config.sparkplug import SparkplugConfig
from agent.config.web import WebConfig
from agent.config.window import ValidityConfig
from agent.core.errors import ConfigError
from agent.core.foreign import ForeignKind
from agent.core.misspelt import explain_with_nearest
from agent.core.paths import FilePath
from agent.core.schema import Strict, explain_yaml, spelt

# One level of an MQTT topic: no '/', '+', '#' or space. It names files too, so it isn't long.
_TOPIC_PART = spelt(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
    "at most 100 letters, digits, '.', '_' and '-', a letter or digit first",
)
_MOST_BYTES = 2**20
_KINDS: dict[type, str] = {list: "list", str: "text"}
# Levels beside the machines in the topic tree; a machine of that name would be shadowed.
RESERVED = frozenset({"status", "info", "health", "request", "response"})


class MachineConfig(Strict):
    """A machine that is listened to."""

    name: Annotated[
        str,
        Field(
            pattern=_TOPIC_PART,
            description="Its name in topics and logs: at most 100 letters, digits, '.', '_', '-'",
        ),
    ]
    bundle: Annotated[
        FilePath | None,
        Field(
            description="Folder that `auscult export` wrote; null for `bundles/<name>` in the "
            "state directory, where it may be put once there is one: until then the machine is "
            "heard and recorded, and not judged"
        ),
    ] = None
    source: Annotated[
        SourceConfig | None,
        Field(
            description="Where its sound comes from: `replay:PATH`, `microphone:NAME`, or below; "
            "null for the microphone chosen on the device's page"
        ),
    ] = None
    hop: Annotated[
        HopSetting | None,
        Field(
            description="Step between windows, seconds; `auto` for 5 s while all is calm, and 1 s "
            "as soon as a score, its trend, or a jump of level or impulse says otherwise; null for "
            "the bundle's own. Left out, it is the bundle's own too where that is longer than 1 s, "
            "or where evidence counts windows. `hop_seconds` is its older name"
        ),
    ] = AUTO
    queue_windows: Annotated[
        int,
        Field(ge=1, description="Windows that may wait for scoring before the oldest is dropped"),
    ] = 8
    validity: Annotated[
        ValidityConfig,
        Field(description="Which of its windows may be judged, and how its microphone is"),
    ] = ValidityConfig()
    running: Annotated[
        RunningConfig | None,
        Field(
            description="MQTT topic by which the plant says whether it runs; null for by ear alone"
        ),
    ] = None
    level: Annotated[
        Literal["judge", "ignore"],
        Field(
            description="Whether how loud the machine is says anything of its health. judge: yes, "
            "but a pure change of level is told as such, once, and raises no alarm; ignore: it is "
            "taken out (of bundles that name their views), for machines whose level changes "
            "without meaning"
        ),
    ] = "judge"
    foreign: Annotated[
        ForeignConfig,
        Field(description="What tells sounds from elsewhere when a window exceeds"),
    ] = ForeignConfig()
    ignore: Annotated[
        tuple[ForeignKind, ...],
        Field(
            description="Sounds from elsewhere that hold a window back, so that it counts neither "
            "for nor against an alarm: speech, music, vehicle, rain, tools, impulses, passing. "
            "music, vehicle, rain and tools take `foreign.tagger`"
        ),
    ] = ()
    commission: Annotated[
        CommissionConfig | None,
        Field(
            description="Listen in shadow first (`{}` for the defaults): what would be alarms is "
            "listed and not told; null for at once"
        ),
    ] = None
    maintenance: Annotated[
        tuple[MaintenanceConfig, ...],
        Field(
            description="When people work on it as planned, every week or once: it is muted then, "
            "and that is told"
        ),
    ] = ()
    decide: Annotated[DecideConfig, Field(description="When its alarm is raised and cleared")] = (
        DecideConfig()
    )

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, given: Any) -> Any:
        if isinstance(given, dict) and "hop_seconds" in given:
            if "hop" in given:
                raise ValueError("`hop_seconds` is the older name of `hop`: give one of them")
            given = {("hop" if key == "hop_seconds" else key): one for key, one in given.items()}
        return given

    @property
    def _counts_windows(self) -> bool:
        """Whether evidence is so many windows, whatever they are apart."""
        alert = self.decide.alert
        return self.decide.amounts.in_windows or (
            alert is not None and alert.raise_windows is not None
        )

    @model_validator(mode="after")
    def _in_seconds(self) -> MachineConfig:
        if self.hop == AUTO and "hop" in self.model_fields_set and self._counts_windows:
            raise ValueError(
                "hop: auto needs evidence in seconds of sound: give decide.raise_seconds and "
                "of_seconds in place of raise_windows and of_windows"
            )
        return self

    def hop_of(self, own: float, window_seconds: float) -> Hop:
        """The steps between its windows.

        Args:
            own: The bundle's step, seconds.
            window_seconds: Length of a window.
        """
        named = "hop" in self.model_fields_set
        # Who made a bundle of a longer step took the device to be able to do no more.
        own_step = not named and (self._counts_windows or own > CLOSE_SECONDS)
        return hop_of(None if own_step else self.hop, own, window_seconds)


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
    sparkplug: Annotated[
        SparkplugConfig | None,
        Field(
            description="Speak Sparkplug B too, to the broker of `mqtt` (`{}` for the defaults); "
            "needs `auscult[sparkplug]`. null for not"
        ),
    ] = None
    jsonl: Annotated[
        JsonlConfig | None,
        BeforeValidator(short_jsonl),
        Field(description="File that receives every message as JSON lines (a path will do)"),
    ] = None
    inference: Annotated[InferenceConfig, Field(description="How the encoder is run")] = (
        InferenceConfig()
    )
    bundles: Annotated[
        BundlesConfig, Field(description="Which bundles are trusted, and how a new one is taken up")
    ] = BundlesConfig()
    offers: Annotated[
        OffersConfig | None,
        Field(
            description="Take bundles that the plant offers over MQTT; needs `mqtt` and "
            "`bundles.public_key`. null takes none"
        ),
    ] = None
    evidence: Annotated[EvidenceConfig, Field(description="What is kept of an alarm")] = (
        EvidenceConfig()
    )
    collect: Annotated[CollectConfig, Field(description="Sound recorded on the device")] = (
        CollectConfig()
    )
    commands: Annotated[CommandsConfig, Field(description="Who may have what done over MQTT")] = (
        CommandsConfig()
    )
    notify: Annotated[
        NotifyConfig | None,
        Field(description="Who is notified by e-mail, message or webhook; null for nobody"),
    ] = None
    metrics: Annotated[
        MetricsConfig | None,
        Field(description="Counts for Prometheus over HTTP (`{}` for the defaults); null for none"),
    ] = None
    web: Annotated[WebConfig, Field(description="The device's own page")] = WebConfig()
    state_dir: Annotated[
        FilePath | None,
        Field(
            description="Folder for what must survive a restart (undelivered alarms and the like); "
            "null for `$STATE_DIRECTORY`, which systemd sets, else `auscult` in `$XDG_STATE_HOME`, "
            "else `~/.local/state/auscult`"
        ),
    ] = None
    heartbeat_seconds: Annotated[
        float,
        Field(gt=0, description="Step between log lines that say all is well, seconds"),
    ] = 300.0

    @model_validator(mode="after")
    def _names(self) -> AgentConfig:
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two machines are called {', '.join(twice)}: names must differ")
        taken = sorted(RESERVED.intersection(names))
        if taken:
            raise ValueError(f"a machine cannot be called {', '.join(taken)}: the topic is taken")
        deaf = [machine.name for machine in self.machines if machine.running is not None]
        if deaf and self.mqtt is None:
            raise ValueError(
                f"`running` of {', '.join(deaf)} names a topic, which takes a broker: give `mqtt`"
            )
        if self.sparkplug is not None and self.mqtt is None:
            raise ValueError("`sparkplug` is spoken to a broker: give `mqtt`")
        if self.offers is not None and (self.mqtt is None or self.bundles.public_key is None):
            raise ValueError(
                "`offers` come over a broker and are signed: give `mqtt` and `bundles.public_key`"
            )
        return self

    @property
    def state_path(self) -> Path:
        """The state directory; each stage has its own folder below it and makes it itself."""
        # systemd gives several folders separated by colons when the unit names several.
        given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return self.state_dir or (Path(given) if given else _state_home() / "auscult")

    @property
    def names(self) -> list[str]:
        """Names of the machines, in order."""
        return [machine.name for machine in self.machines]

    def machine(self, name: str | None) -> MachineConfig:
        """The machine of a name; the only one when None.

        Raises:
            ConfigError: There is none of that name, or several.
        """
        found = [one for one in self.machines if name in {None, one.name}]
        if len(found) == 1:
            return found[0]
        raise ConfigError(
            "several machines are listened to" if name is None else f"there is no machine '{name}'",
            remedy=f"Give --machine: {', '.join(self.names)}.",
        )

    def bundle_of(self, machine: MachineConfig) -> Path:
        """Where a machine's bundle is, or will be."""
        return machine.bundle or self.state_path / "bundles" / machine.name

    def bundle_at(self, name: str) -> Path:
        """Where the bundle of the machine of a name is, or will be.

        Raises:
            ConfigError: There is none of that name.
        """
        return self.bundle_of(self.machine(name))

    def source_of(self, machine: MachineConfig) -> AnySource | None:
        """Where a machine's sound comes from; None while no microphone is chosen."""
        return machine.source or chosen_microphone(self.state_path, machine.name)

    @property
    def device_name(self) -> str:
        """The configured name, or this host's, fit for a topic."""
        host = "".join(c if c.isalnum() or c in "._-" else "-" for c in socket.gethostname())
        return self.device or host.lstrip("._-") or "device"


def _state_home() -> Path:
    """Where a user's programs keep their state (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored, says the specification.
    return Path(given) if Path(given).is_absolute() else Path("~/.local/state").expanduser()


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
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
    except FileNotFoundError as fault:
        raise ConfigError(
            "there is no such configuration file",
            where=path,
            remedy="`auscult init` writes one; every key: docs/reference/configuration.md.",
        ) from fault
    except OSError as fault:
        raise ConfigError(
            f"cannot be read: {fault.strerror}",
            where=path,
            remedy="Give the configuration's file, such as agent.yaml.",
        ) from fault
    if data is None:
        raise ConfigError("is far too large for a configuration", where=path)
    try:
        # PyYAML's safe constructors only: no object is ever built from the file.
        tree = yaml.load(data.decode(), Loader=_OnceLoader)  # noqa: S506
    except Exception as fault:
        # Not YAML's errors alone: PyYAML meets `!!bool maybe` with a KeyError, and others so.
        raise ConfigError(
            f"is not YAML: {explain_yaml(fault)}",
            where=path,
            remedy="Mend that place: indent with spaces, put a space after each colon, and quote "
            "text that holds `: ` or begins with one of @ % & * ! [ {. configs/agent.yaml is an "
            "example.",
        ) from fault
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else f"holds a {_KINDS.get(type(tree), 'single value')}"
        raise ConfigError(
            f"{what}, where keys such as `machines:` are wanted",
            where=path,
            remedy="Start from configs/agent.yaml; every key: docs/reference/configuration.md.",
        )
    try:
        return AgentConfig.model_validate(tree, context={"base": path.absolute().parent})
    except ValidationError as fault:
        raise ConfigError(
            explain_with_nearest(fault, AgentConfig),
            where=path,
            remedy="Every key is described in docs/reference/configuration.md.",
        ) from fault
