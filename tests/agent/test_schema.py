"""What is wrong with a file or a command, in words that people who don't program understand."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError, create_model

from agent.bundle.manifest import Manifest
from agent.collect.session import Session
from agent.config.agent import AgentConfig, load_config
from agent.core.errors import ConfigError
from agent.core.schema import explain
from agent.request.commands import COMMANDS, Collect, CollectCancel

MACHINE = {"name": "pump", "source": "microphone"}
ASKED = {"transaction": "t", "machine": "pump"}


def told(schema, data):
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(data)
    return explain(caught.value)


@pytest.mark.parametrize(
    ("schema", "data", "words"),
    [
        (AgentConfig, {"machines": [{**MACHINE, "name": "a b"}]},
         "machines.0.name: should be at most 100 letters, digits, '.', '_' and '-'"),
        (AgentConfig, {"machines": [MACHINE], "mqtt": {"host": "h", "prefix": "/a"}},
         "mqtt.prefix: should be letters, digits"),
        (AgentConfig, {}, "machines: is missing"),
        (AgentConfig, {"machines": {"name": "pump"}}, "machines: should be a list"),
        (AgentConfig, [], "the whole file: should be names with values"),
        (AgentConfig, {"machines": [{**MACHINE, "source": {"kind": "mic"}}]},
         "machines.0.source: kind should be one of 'replay', 'microphone'"),
        (AgentConfig, {"machines": [{**MACHINE, "queue_windows": "fast"}]}, "should be"),
        (AgentConfig, {"machines": [{**MACHINE, "bundle": 3}]}, "bundle: should be a path"),
        (Collect, {**ASKED, "label": "idle", "seconds": 60, "schedule": "25:00"},
         "schedule: should be a time of day as HH:MM"),
        (CollectCancel, {**ASKED, "schedule": "x"}, "6 of the characters 0 to 9 and a to f"),
        (CollectCancel, {**ASKED, "when": "x"}, "when: there is no such field"),
    ],
)  # fmt: skip
def test_it_is_said_in_words(schema, data, words):
    text = told(schema, data)
    assert words in text
    for jargon in ("pattern", "^", "dictionary", "tuple", "Input", "String"):
        assert jargon not in text


def test_what_several_fields_say_together_stands_by_itself():
    text = told(AgentConfig, {"machines": [MACHINE, MACHINE]})
    assert text == "two machines are called pump: names must differ"


def test_where_yaml_cannot_be_read_is_told_in_one_line(tmp_path):
    place = tmp_path / "agent.yaml"
    place.write_text("machines:\n  - name: pump\n   bundle: b\n")
    with pytest.raises(ConfigError, match=r"is not YAML: line 3, column 4: ") as caught:
        load_config(place)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"Give the configuration's file"):
        load_config(tmp_path)


def patterns(found):
    """Every pattern in a JSON schema."""
    if isinstance(found, dict):
        here = [found["pattern"]] if isinstance(found.get("pattern"), str) else []
        return here + [one for value in found.values() for one in patterns(value)]
    return [one for value in found for one in patterns(value)] if isinstance(found, list) else []


@pytest.mark.parametrize("schema", [AgentConfig, Manifest, Session, *COMMANDS.values()])
def test_every_pattern_has_words(schema):
    for pattern in patterns(schema.model_json_schema()):
        field = create_model("One", field=(Annotated[str, Field(pattern=pattern)], ...))
        assert "as its description says" not in told(field, {"field": "\n /"}), pattern
