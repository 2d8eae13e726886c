"""Discovery messages for Home Assistant: the agent as a device, and each machine as one below it.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from agent import __version__
from agent.config.publish import HomeAssistantConfig
from agent.core.cloud_event import Message
from agent.publish.discovery.entities import agent_entities, machine_entities, online

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


def device_topic(prefix: str, device: str) -> str:
    """Where the agent announces itself: `<prefix>/device/auscult_<device>/config`."""
    return f"{prefix}/device/auscult_{_object_id(device)}/config"


def machine_topic(prefix: str, device: str, machine: str) -> str:
    """Where it announces a machine: `<prefix>/device/auscult_<device>/<machine>/config`."""
    return f"{prefix}/device/auscult_{_object_id(device)}/{_object_id(machine)}/config"


def discovery_messages(
    config: HomeAssistantConfig,
    base: str,
    device: str,
    machines: Sequence[str],
    *,
    drifting: Collection[str] = (),
    commands: Collection[str] = (),
) -> dict[str, Message]:
    """What is announced, by topic; the agent's own device comes first, as the others point to it.

    Args:
        config: Prefix, and what is shown.
        base: Topic of the device: `<prefix>/<device>`.
        device: Its name.
        machines: The machines it listens to.
        drifting: Those of them whose drift is followed.
        commands: Commands that the agent takes; entities are shown for `ack`, `shelve` and `mute`.
    """
    key = f"auscult_{_object_id(device)}"
    page = {"configuration_url": config.page_url} if config.page_url else {}
    agent = {
        "identifiers": [key],
        "name": device,
        "manufacturer": "auscult",
        "model": "auscult agent",
        "sw_version": __version__,
        **page,
    }
    found = {
        device_topic(config.discovery_prefix, device): _message(
            base, agent, agent_entities(base, key)
        )
    }
    for machine in machines:
        own = {
            "identifiers": [f"{key}_{_object_id(machine)}"],
            "name": machine,
            "manufacturer": "auscult",
            "model": "machine",
            "via_device": key,
            **page,
        }
        entities = machine_entities(
            config, base, machine, f"{key}_{_object_id(machine)}",
            drift=machine in drifting, commands=commands,
        )  # fmt: skip
        topic = machine_topic(config.discovery_prefix, device, machine)
        found[topic] = _message(base, own, entities)
    return found


def platforms(message: Message) -> dict[str, str]:
    """The entities of a message: key -> platform."""
    return {key: str(one["platform"]) for key, one in message["components"].items()}


def removing(message: Message, gone: Mapping[str, str]) -> Message:
    """The message with entities of an earlier one taken back, as Home Assistant asks.

    Args:
        message: What is announced now.
        gone: Key -> platform of those.
    """
    empty: dict[str, Message] = {key: {"platform": platform} for key, platform in gone.items()}
    return {**message, "components": {**empty, **message["components"]}}


def _message(base: str, device: Message, entities: Mapping[str, Message]) -> Message:
    return {
        "device": device,
        "origin": {"name": "auscult", "sw_version": __version__},
        "availability": [online(base)],
        "qos": 1,
        "components": dict(entities),
    }


def _object_id(name: str) -> str:
    """A name in the characters Home Assistant allows; names that differ stay different."""
    fit = _UNFIT.sub("_", name)
    if fit == name:
        return name
    return f"{fit}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
