"""State on disk after a step back: what a newer auscult added costs nothing else."""

from __future__ import annotations

import json
import logging
from typing import Literal

from agent.core.records import Level
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.decide.memory import AlarmMemory
from agent.decide.state import AlarmFile


class Plain(Strict):
    kind: Literal["plain"] = "plain"
    value: int


class Holder(Strict):
    name: str
    parts: tuple[Plain, ...] = ()
    one: Plain | None = None


def file_of(tmp_path):
    return StateFile(tmp_path / "s.json", Holder, what="it", otherwise="it begins anew")


def test_fields_of_a_newer_auscult_are_passed_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tree = {
        "name": "a", "later": 1, "parts": [{"value": 1}, {"value": 2, "more": {"x": [1]}}],
        "one": {"kind": "plain", "value": 3, "even_more": None},
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(tree))
    wanted = Holder(name="a", parts=(Plain(value=1), Plain(value=2)), one=Plain(value=3))
    assert file_of(tmp_path).load() == wanted
    assert "even_more, later, more" in caplog.text
    assert (tmp_path / "s.json").exists()


def test_what_is_wrong_otherwise_is_moved_aside_all_the_same(tmp_path):
    (tmp_path / "s.json").write_text('{"name": 3, "later": 1}')
    assert file_of(tmp_path).load() is None
    assert (tmp_path / "s.json.damaged").exists()


def test_an_alarm_survives_a_step_back(tmp_path):
    path, standing = tmp_path / "pump.json", AlarmMemory(level=Level.ALARM, alarm_id="a1")
    AlarmFile(path).save(standing)
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_later": {"a": 1}}))
    assert AlarmFile(path).load() == standing
