"""Home Assistant finds the device by itself: its MQTT discovery, one message for all machines.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence

from agent import __version__
from agent.core.scale import Zone
from agent.publish.messages import Message

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
# A sensor that has not been told anything for so long is shown as unavailable, seconds.
_SCORE_EXPIRES = 300


def discovery_topic(prefix: str, device: str) -> str:
    """Where Home Assistant looks: `<prefix>/device/<object id>/config`."""
    return f"{prefix}/device/auscult_{_object_id(device)}/config"


def discovery_message(
    base: str,
    device: str,
    machines: Sequence[str],
    *,
    drifting: Collection[str] = (),
    commands: Collection[str] = (),
    removed: Mapping[str, str] | None = None,
) -> Message:
    """The device and what can be read and done there.

    Args:
        base: Topic of the device: `<prefix>/<device>`.
        device: Its name.
        machines: The machines it listens to.
        drifting: Those of them whose drift is followed.
        commands: Commands the agent takes; a button is shown for `ack` only.
        removed: Components of an earlier message that are no more: key -> platform.
    """
    components: dict[str, Message] = {
        key: {"platform": platform} for key, platform in (removed or {}).items()
    }
    for machine in machines:
        components |= _components(
            base, device, machine, drift=machine in drifting, ack="ack" in commands
        )
    return {
        "device": {
            "identifiers": [f"auscult_{_object_id(device)}"],
            "name": device,
            "manufacturer": "auscult",
            "model": "auscult agent",
            "sw_version": __version__,
        },
        "origin": {"name": "auscult", "sw_version": __version__},
        "availability": [
            {
                "topic": f"{base}/status",
                "value_template": "{{ value_json.status }}",
                "payload_available": "online",
                "payload_not_available": "offline",
            }
        ],
        "qos": 1,
        "components": components,
    }


def platforms(message: Message) -> dict[str, str]:
    """The components of a message: key -> platform, those that it removes left out."""
    return {
        key: str(component["platform"])
        for key, component in message["components"].items()
        if len(component) > 1
    }


def _components(
    base: str, device: str, machine: str, *, drift: bool, ack: bool
) -> dict[str, Message]:
    topic, key = f"{base}/{machine}", _object_id(machine)

    def component(name: str, platform: str, title: str, **more: object) -> Message:
        return {
            "platform": platform,
            "unique_id": f"auscult_{_object_id(device)}_{key}_{name}",
            "name": f"{machine} {title}",
            **more,
        }

    def problem(name: str, title: str, kind: str, on: str, **more: object) -> Message:
        return component(
            name,
            "binary_sensor",
            title,
            state_topic=f"{topic}/{kind}",
            json_attributes_topic=f"{topic}/{kind}",
            device_class="problem",
            value_template=f"{{{{ 'ON' if {on} else 'OFF' }}}}",
            **more,
        )

    found = {
        f"{key}_alarm": problem("alarm", "alarm", "alarm", "value_json.level != 'normal'"),
        # A pure change of level does not raise the alarm, and may be a fault all the same.
        f"{key}_level": problem(
            "level", "level changed", "alarm", "value_json.level_change_db is not none"
        ),
        f"{key}_microphone": problem(
            "microphone",
            "microphone",
            "sensor",
            "value_json.status != 'good'",
            entity_category="diagnostic",
        ),
        # Another entity than the `score` of earlier versions: theirs was raw, and a history that
        # goes from one axis to another says nothing.
        f"{key}_severity": component(
            "severity",
            "sensor",
            "score",
            state_topic=f"{topic}/score",
            # An invalid window has no score: shown as unknown, not as the last one.
            value_template="{{ value_json.score }}",
            state_class="measurement",
            suggested_display_precision=2,
            expire_after=_SCORE_EXPIRES,
        ),
        f"{key}_zone": component(
            "zone",
            "sensor",
            "severity zone",
            state_topic=f"{topic}/score",
            value_template="{{ value_json.zone }}",
            device_class="enum",
            options=[zone.value for zone in Zone],
            expire_after=_SCORE_EXPIRES,
        ),
    }
    if drift:
        found[f"{key}_drift"] = problem("drift", "drift", "drift", "value_json.active")
    if ack:
        found[f"{key}_ack"] = component(
            "ack",
            "button",
            "acknowledge",
            command_topic=f"{base}/request/ack",
            # A transaction of its own for every press, or the second would count as a repetition.
            command_template=(
                '{"transaction": "ha-{{ (now().timestamp() * 1000) | int }}", '
                f'"machine": {json.dumps(machine)}, "operator": "Home Assistant"}}'
            ),
            qos=1,
        )
    return found


def _object_id(name: str) -> str:
    """A name in the characters Home Assistant allows; names that differ stay different."""
    fit = _UNFIT.sub("_", name)
    if fit == name:
        return name
    return f"{fit}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
