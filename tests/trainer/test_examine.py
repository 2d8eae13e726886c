"""Recordings are read once: judged and measured in one go, by processes, and remembered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import agent.hygiene.examine as examining
from agent.capture.guard import Guard, answer_lines
from agent.hygiene.examine import Examiner
from agent.hygiene.facts import FactsCache, to_json
from agent.hygiene.measure import measure
from agent.hygiene.stage import inspect_machine
from agent.recordings.inspect import inspect_file
from agent.recordings.load import load_machines

RATE = 16000


@pytest.fixture
def root(tmp_path):
    """Healthy recordings of several kinds, among them some that cannot be used."""
    random = np.random.default_rng(0)
    folder = tmp_path / "pump" / "normal"
    folder.mkdir(parents=True)
    for n, (name, seconds) in enumerate([("a.wav", 3), ("b.flac", 12), ("c.flac", 31)]):
        soundfile.write(folder / name, 0.1 * random.normal(size=seconds * RATE + n), RATE)
    soundfile.write(folder / "two.wav", 0.1 * random.normal(size=(5 * 22050, 2)), 22050)
    soundfile.write(folder / "silent.flac", np.zeros(4 * RATE), RATE)
    broken = 0.1 * random.normal(size=4 * RATE)
    broken[77] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE, subtype="FLOAT")
    whole = (folder / "b.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "text.wav").write_text("no sound")
    return tmp_path / "pump"


@pytest.fixture(params=["here", "processes"])
def way(request, monkeypatch):
    monkeypatch.setattr(examining, "usable_cores", lambda: 2)
    monkeypatch.setattr(examining, "_MUCH", 0 if request.param == "processes" else 10**12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("held", [10**9, 1])
def test_all_is_as_if_each_was_judged_and_then_measured(root, monkeypatch, held):
    monkeypatch.setattr(examining, "_HELD", held)
    examiner = Examiner()
    (plain,) = load_machines(root)
    (machine,) = load_machines(root, inspector=examiner.inspect)

    assert machine == plain
    assert {one.path.name for one in machine.rejected} == {
        "cut.flac", "nan.wav", "silent.flac", "text.wav",
    }  # fmt: skip
    for fault in machine.rejected:
        assert fault == inspect_file(fault.path)
    known = examiner.measured(None)
    assert set(known) == {one.path for one in machine.recordings}
    for path, one in known.items():
        assert to_json(one) == to_json(measure(path))
    assert not examiner.measured(0)  # another channel is another measurement


def test_what_is_known_is_not_measured_again(root, monkeypatch):
    examiner = Examiner()
    (machine,) = load_machines(root, inspector=examiner.inspect)
    wanted = inspect_machine(machine).record
    monkeypatch.setattr("agent.hygiene.stage.measure", None)
    assert inspect_machine(machine, known=examiner.measured(None)).record == wanted


def test_facts_are_kept_until_the_file_changes(root, tmp_path, monkeypatch):
    read = []
    real = examining._examine

    def counted(question):
        read.append(question.path.name)
        return real(question)

    monkeypatch.setattr(examining, "_examine", counted)

    def look(channel=None):
        read.clear()
        examiner = Examiner(FactsCache(tmp_path / "facts.sqlite", limit=10**8))
        load_machines(root, channel=channel, inspector=examiner.inspect)
        return {path.name: to_json(one) for path, one in examiner.measured(channel).items()}

    first = look()
    assert set(read) >= set(first)
    again = look()
    assert again == first
    assert not set(read) & set(first)  # what cannot be used is looked at every time

    (root / "normal" / "a.wav").rename(root / "normal" / "moved.wav")
    assert look()["moved.wav"] == first["a.wav"]
    assert "moved.wav" not in read
    sound, _ = soundfile.read(root / "normal" / "c.flac", dtype="int16")
    sound[5] += 1
    soundfile.write(root / "normal" / "c.flac", sound, RATE)
    other = look()
    assert "c.flac" in read
    assert other["c.flac"]["digest"] != first["c.flac"]["digest"]
    look(channel=0)
    assert "b.flac" in read


def test_only_the_machine_that_is_learnt_is_measured(root):
    for name in ("a.wav", "b.flac"):
        place = root.parent / "fan" / "normal" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((root / "normal" / name).read_bytes())
    examiner = Examiner(machine="fan")
    machines = load_machines(root.parent, inspector=examiner.inspect)
    assert [one.name for one in machines] == ["fan", "pump"]
    assert {path.parent.parent.name for path in examiner.measured(None)} == {"fan"}


def dying() -> None:
    """A process that a file called `b.flac` kills."""
    real = examining._answer

    def answer(asked):
        if Path(asked["path"]).name == "b.flac":
            os.abort()
        return real(asked)

    answer_lines(answer)


def test_a_decoder_that_crashes_costs_one_recording(root, monkeypatch):
    monkeypatch.setattr(examining, "usable_cores", lambda: 2)
    monkeypatch.setattr(examining, "_MUCH", 0)
    monkeypatch.setattr(examining, "Guard", lambda *_: Guard("tests.trainer.test_examine", "dying"))
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    examiner = Examiner()
    (machine,) = load_machines(root, inspector=examiner.inspect)
    (fault,) = [one for one in machine.rejected if one.path.name == "b.flac"]
    assert "crashes its decoder (signal 6)" in fault.reason
    assert {one.path.name for one in machine.recordings} == {"a.wav", "c.flac", "two.wav"}
