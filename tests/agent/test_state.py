"""The alarm on disk: whole or moved aside, saved when it changes, tried again when refused."""

from __future__ import annotations

import pytest

from agent.core.records import Level, Shelving
from agent.decide.memory import AlarmMemory
from agent.decide.state import AlarmFile

STANDING = AlarmMemory(
    saved_wall=1000.0, level=Level.ALARM, announced=Level.ALARM, since_wall=900.0, alarm_id="a",
    acknowledged=False, alarm_active=True, told=1, raised=3,
)  # fmt: skip


def test_what_is_saved_is_restored(tmp_path):
    path = tmp_path / "state" / "pump.json"
    assert AlarmFile(path).load() is None
    assert AlarmFile(path).save(STANDING)
    assert AlarmFile(path).load() == STANDING
    assert [entry.name for entry in path.parent.iterdir()] == ["pump.json"]


def test_it_is_written_only_when_it_says_something_new(tmp_path):
    path = tmp_path / "pump.json"
    file = AlarmFile(path)
    file.save(STANDING)
    path.unlink()
    file.save(STANDING.model_copy(update={"saved_wall": 5000.0}))
    assert not path.exists()
    file.save(STANDING.model_copy(update={"acknowledged": True}))
    assert path.exists()


def test_time_left_is_noted_now_and_then(tmp_path):
    path = tmp_path / "pump.json"
    file = AlarmFile(path)
    shelved = STANDING.model_copy(update={"shelving": Shelving.TIMED, "shelved_seconds": 600.0})
    file.save(shelved)
    for passed in (30.0, 90.0):
        file.save(
            shelved.model_copy(
                update={"saved_wall": 1000.0 + passed, "shelved_seconds": 600.0 - passed}
            )
        )
        found = AlarmFile(path).load()
        assert found.shelved_seconds == (600.0 if passed < 60 else 510.0)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '{"level": "worse"}', '{"schema_version": 99}', "\x00" * 50,
             '{"since_wall": NaN}', '{"shelved_seconds": -1}'],
)  # fmt: skip
def test_a_damaged_file_is_moved_aside_and_said(tmp_path, text, caplog):
    path = tmp_path / "pump.json"
    path.write_text(text)
    file = AlarmFile(path)
    assert file.load() is None
    assert "pump.json" in caplog.text
    assert (tmp_path / "pump.json.damaged").read_text() == text
    assert file.save(STANDING)
    assert AlarmFile(path).load() == STANDING


def test_a_disk_that_refuses_is_logged_once_and_tried_again(tmp_path, caplog):
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    file = AlarmFile(blocked / "pump.json")
    assert not file.save(STANDING)
    assert not file.save(STANDING)
    assert caplog.text.count("not saved") == 1
    blocked.unlink()
    assert file.save(STANDING)
    assert AlarmFile(blocked / "pump.json").load() == STANDING
