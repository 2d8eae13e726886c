"""Entities that Home Assistant shows of the agent and of each machine."""

from __future__ import annotations

import json
from collections.abc import Collection

from agent.bundle.events import BundleEventKind
from agent.config.publish import HomeAssistantConfig
from agent.core.cloud_event import Message
from agent.core.records import EventKind, Level
from agent.core.scale import Zone
from agent.drift.events import DriftEventKind
from agent.window.condition import ConditionStatus

# A sensor that has not been told anything for so long is shown as unavailable, seconds. The score
# comes once a minute at least.
_SCORE_EXPIRES = 300
# What the microphone's condition leaves unjudged: an alarm's entity that says OFF would be a lie.
_UNJUDGED = (ConditionStatus.FAILURE, ConditionStatus.OUT_OF_SPECIFICATION)
_EVENTS = [
    *(f"alarm.{kind.value}" for kind in EventKind),
    *(f"drift.{kind.value}" for kind in DriftEventKind),
    *(f"bundle.{kind.value}" for kind in BundleEventKind),
]


def online(base: str) -> Message:
    """An entity is available while the agent is there: its `status`, retained, and its last will.

    Args:
        base: Topic of the device.
    """
    return {
        "topic": f"{base}/status",
        "value_template": "{{ value_json.status }}",
        "payload_available": "online",
        "payload_not_available": "offline",
    }


def agent_entities(base: str, unique: str) -> dict[str, Message]:
    """Entities of the agent itself.

    Args:
        base: Topic of the device.
        unique: Begin of its entities' ids.
    """
    return {
        "connection": {
            "platform": "binary_sensor",
            "unique_id": f"{unique}_connection",
            "name": "connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{base}/status",
            "value_template": "{{ 'ON' if value_json.status == 'online' else 'OFF' }}",
            # An agent that is away is what it tells: available as soon as its status is known.
            "availability": [{**online(base), "value_template": "online"}],
        },
        "undelivered": {
            "platform": "sensor",
            "unique_id": f"{unique}_undelivered",
            "name": "undelivered alarm events",
            "entity_category": "diagnostic",
            "state_class": "measurement",
            "state_topic": f"{base}/health",
            "value_template": "{{ value_json.outbox.undelivered }}",
        },
    }


def machine_entities(
    config: HomeAssistantConfig,
    base: str,
    machine: str,
    unique: str,
    *,
    drift: bool,
    commands: Collection[str],
) -> dict[str, Message]:
    """Entities of one machine.

    Args:
        config: How long its switches pause the alarm.
        base: Topic of the device.
        machine: The machine.
        unique: Begin of its entities' ids.
        drift: Whether its drift is followed.
        commands: Commands that the agent takes.
    """
    topic = f"{base}/{machine}"

    def entity(name: str, platform: str, label: str, **more: object) -> Message:
        return {"platform": platform, "unique_id": f"{unique}_{name}", "name": label, **more}

    def problem(name: str, title: str, kind: str, on: str, **more: object) -> Message:
        return entity(
            name,
            "binary_sensor",
            title,
            state_topic=f"{topic}/{kind}",
            json_attributes_topic=f"{topic}/{kind}",
            device_class="problem",
            value_template=f"{{{{ 'ON' if {on} else 'OFF' }}}}",
            **more,
        )

    judged: Message = {
        "availability": [online(base), _heard(topic)],
        "availability_mode": "all",
    }
    found = {
        "alarm": problem(
            "alarm",
            "alarm",
            "alarm",
            "value_json.level != 'normal' and value_json.shelving == 'unshelved' "
            "and value_json.muted_until is none",
            **judged,
        ),
        "state": entity(
            "state",
            "sensor",
            "state",
            state_topic=f"{topic}/alarm",
            value_template=(
                "{% if value_json.muted_until is not none %}muted"
                "{% elif value_json.shelving != 'unshelved' %}shelved"
                "{% else %}{{ value_json.level }}{% endif %}"
            ),
            device_class="enum",
            options=[*(level.value for level in Level), "shelved", "muted"],
            **judged,
        ),
        # A pure change of level does not raise the alarm, and may be a fault all the same.
        "level": problem(
            "level",
            "level changed",
            "alarm",
            "value_json.level_change_db is not none",
            **judged,
        ),
        "microphone": problem(
            "microphone",
            "microphone",
            "sensor",
            "value_json.status != 'good'",
            entity_category="diagnostic",
        ),
        "severity": entity(
            "severity",
            "sensor",
            "score",
            state_topic=f"{topic}/severity",
            # An invalid window has no score: shown as unknown, not as the last one.
            value_template="{{ value_json.score }}",
            state_class="measurement",
            suggested_display_precision=2,
            expire_after=_SCORE_EXPIRES,
        ),
        "zone": entity(
            "zone",
            "sensor",
            "severity zone",
            state_topic=f"{topic}/severity",
            value_template="{{ value_json.zone }}",
            device_class="enum",
            options=[zone.value for zone in Zone],
            expire_after=_SCORE_EXPIRES,
        ),
        "event": entity(
            "event",
            "event",
            "event",
            state_topic=f"{topic}/event",
            value_template=_event_template(),
            event_types=_EVENTS,
        ),
        "picture": entity(
            "picture",
            "image",
            "latest alarm",
            image_topic=f"{topic}/picture",
            content_type="image/png",
        ),
        "bundle": entity(
            "bundle",
            "update",
            "bundle",
            state_topic=f"{base}/info",
            value_template=_bundle_template(machine),
            entity_category="diagnostic",
            title="bundle",
        ),
    }
    if drift:
        found["drift"] = problem("drift", "drift", "drift", "value_json.active")
    if "ack" in commands:
        found["ack"] = entity(
            "ack",
            "button",
            "acknowledge",
            command_topic=f"{base}/request/ack",
            command_template=_request(machine),
            qos=1,
        )
    seconds = round(60 * config.pause_minutes)
    for command, title, state in (
        ("shelve", "shelve", "value_json.shelving != 'unshelved'"),
        ("mute", "mute", "value_json.muted_until is not none"),
    ):
        if command in commands:
            found[command] = entity(
                command,
                "switch",
                title,
                state_topic=f"{topic}/alarm",
                value_template=f"{{{{ 'ON' if {state} else 'OFF' }}}}",
                command_topic=f"{base}/request/{command}",
                command_template=_request(
                    machine, f", \"seconds\": {{{{ {seconds} if value == 'ON' else 0 }}}}"
                ),
                qos=1,
            )
    return found


def _heard(topic: str) -> Message:
    unjudged = [status.value for status in _UNJUDGED]
    return {
        "topic": f"{topic}/sensor",
        "value_template": f"{{{{ 'offline' if value_json.status in {unjudged} else 'online' }}}}",
        "payload_available": "online",
        "payload_not_available": "offline",
    }


def _request(machine: str, more: str = "") -> str:
    # A transaction of its own for every press, or the second would count as a repetition.
    return (
        '{"transaction": "ha-{{ (now().timestamp() * 1000) | int }}", '
        f'"machine": {json.dumps(machine)}, "operator": "Home Assistant"{more}}}'
    )


def _event_template() -> str:
    """Template that turns a CloudEvent into an event entity's; unlisted kinds give nothing."""
    return (
        "{% set kind = value_json.type.replace('auscult.', '', 1) %}"
        f"{{% if kind in {_EVENTS} %}}"
        "{% set data = value_json.data %}"
        "{{ {'event_type': kind, 'id': value_json.id, 'time': value_json.time, "
        "'level': data.get('level'), 'score': data.get('score'), 'zone': data.get('zone'), "
        "'reason': (data.get('reason') or {}).text if data.get('reason') is mapping "
        "else data.get('reason'), "
        "'operator': data.get('operator'), 'note': data.get('note')} | to_json }}"
        "{% endif %}"
    )


def _bundle_template(machine: str) -> str:
    """Template for the version of the bundle in use: when it was made, and its digest."""
    return (
        f"{{% set one = value_json.machines.get({json.dumps(machine)}) %}}"
        "{% if one %}"
        "{% set version = one.created[:10] ~ ' ' ~ one.manifest_sha256[:8] %}"
        "{{ {'installed_version': version, 'latest_version': version, "
        "'title': one.bundle, 'release_summary': (one.blind or one.caveat)[:250]} | to_json }}"
        "{% endif %}"
    )
