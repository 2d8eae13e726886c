"""Collecting labelled sound: what is kept, what is thrown away, who may ask, and when."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime, timedelta

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from pydantic import ValidationError
from support.bundles import RATE, tone, write

from agent.bank.sound import find_sound
from agent.collect import recording as recording_module
from agent.collect.collector import Collector
from agent.collect.recording import Recording, discard_empty
from agent.collect.schedule import Schedules
from agent.collect.session import read_session, summary
from agent.collect.spool import CollectAnswer, CollectOrder, Spool
from agent.commands.collect import collect
from agent.config.collect import CollectConfig
from agent.core.clock import ClockQuality
from agent.core.errors import AuscultError
from agent.core.program import next_command
from agent.core.records import AudioBlock, Decision, Level, Score, Validity, Window
from agent.decide.memory import AlarmMemory
from agent.decide.state import AlarmFile
from agent.request.commands import Collect

CONFIG = CollectConfig(segment_seconds=4, free_share=0)


def entries(state):
    return state / "collect" / "schedules.json"


def blocks(sound, size=1000, gaps=(), start=0.0):
    for n, at in enumerate(range(0, len(sound), size)):
        at_seconds = start + at / RATE
        yield AudioBlock(
            sound[at : at + size], RATE, at_seconds, 1e9 + at_seconds, n in gaps, "mic"
        )


def record(tmp_path, sound, seconds, *, gaps=(), config=CONFIG):
    order = CollectOrder(machine="pump", label="healthy", seconds=seconds, by="me")
    one = Recording(tmp_path, "dev", order, config, lambda: ClockQuality.JUMPED)
    one.open()
    for block in blocks(sound, gaps=gaps):
        one.take(block)
    one.finish("the source ended")
    return one


def test_sound_is_kept_in_files_with_what_it_is(tmp_path):
    sound = tone(12)
    one = record(tmp_path, sound, 10)
    session = read_session(one.folder)
    assert one.folder.parent == tmp_path / "pump" / "healthy"
    assert (session.label, session.machine, session.device, session.by) == (
        "healthy", "pump", "dev", "me",
    )  # fmt: skip
    assert session.complete
    assert session.clock == "jumped"
    assert [segment.seconds for segment in session.segments] == [4, 4, 2]
    assert session.segments[1].start == "2001-09-09T01:46:44.000Z"
    assert session.segments[0].level_dbfs == pytest.approx(-17, abs=0.1)
    heard = np.concatenate([soundfile.read(one.folder / s.file)[0] for s in session.segments])
    assert np.abs(heard - sound[: 10 * RATE]).max() < 1e-6
    names = sorted(path.name for path in one.folder.iterdir())
    assert names == ["0000.flac", "0001.flac", "0002.flac", "session.json"]
    assert [found.label for found in find_sound([tmp_path / "pump"])] == ["healthy"] * 3


def test_silence_clipping_and_gaps_are_thrown_away_and_said(tmp_path):
    loud = np.clip(8 * tone(2), -1, 1)
    sound = np.concatenate([tone(3), np.zeros(2 * RATE, np.float32), tone(3), loud, tone(3)])
    one = record(tmp_path, sound, 13)
    session = read_session(one.folder)
    assert [s.seconds for s in session.segments] == [3, 3, 3]
    assert [(d.validity, d.seconds) for d in session.discarded] == [
        ("silent", 1), ("silent", 1), ("clipped", 1), ("clipped", 1),
    ]  # fmt: skip
    text = summary(session)
    assert "9 of 13 s kept in 3 files" in text
    assert "2 s clipped, 2 s silent" in text


def test_no_file_spans_a_gap(tmp_path):
    one = record(tmp_path, tone(9), 9, gaps=(44,))  # at 5.5 s
    session = read_session(one.folder)
    assert [s.seconds for s in session.segments] == [4, 3.5]
    assert [(d.validity, d.seconds) for d in session.discarded] == [("too_short", 1.5)]


def test_nothing_worth_keeping_leaves_nothing(tmp_path):
    one = record(tmp_path, np.zeros(5 * RATE, np.float32), 5)
    assert discard_empty(one)
    assert not one.folder.exists()
    assert "0 of 5 s kept" in summary(one.result())


def test_a_source_that_ends_early_is_kept_and_named(tmp_path):
    session = read_session(record(tmp_path, tone(3), 10).folder)
    assert not session.complete
    assert session.ended == "the source ended"
    assert session.kept_seconds == 3


def test_what_was_written_before_the_disk_failed_is_kept(tmp_path, monkeypatch):
    calls = []

    class Full(soundfile.SoundFile):
        def __init__(self, *args, **kw):
            calls.append("w" in args)
            if sum(calls) == 2:
                raise OSError(28, "No space left on device")
            super().__init__(*args, **kw)

    monkeypatch.setattr(soundfile, "SoundFile", Full)
    one = record(tmp_path, tone(9), 9)
    session = one.result()
    assert one.done
    assert [s.seconds for s in session.segments] == [4]
    assert "No space" in session.ended


def test_a_disk_that_fills_in_the_middle_of_a_block_leaves_no_draft(tmp_path, monkeypatch):
    one = Recording(tmp_path, "d", CollectOrder(machine="p", label="idle", seconds=60), CONFIG)
    one.open()
    monkeypatch.setattr(recording_module, "has_room", lambda *_: False)
    for block in blocks(tone(12), size=12 * RATE):
        one.take(block)
    assert one.result().ended == "the disk is too full"
    assert sorted(path.name for path in one.folder.iterdir()) == ["0000.flac", "session.json"]


def test_a_full_disk_is_refused_before_it_begins(tmp_path):
    one = Recording(
        tmp_path,
        "d",
        CollectOrder(machine="p", label="idle", seconds=5),
        CollectConfig(free_share=0.9999),
    )
    with pytest.raises(AuscultError, match="of the disk is free"):
        one.open()


@pytest.fixture
def collector(tmp_path):
    collector = Collector(tmp_path, "dev", ["pump", "fan"], CONFIG)
    collector.start()
    yield collector
    collector.stop()


def feed(collector, machine, seconds, *, start=0.0):
    for block in blocks(tone(seconds), start=start):
        collector.observers[machine].hear(block)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_the_command_records_from_the_running_pipeline(tmp_path, collector):
    feed(collector, "pump", 3)  # nobody asked yet
    answer = collector.handle(
        {"machine": "pump", "label": "noise", "seconds": 4.0, "operator": "anna", "comment": "x"}
    )
    with pytest.raises(AuscultError, match="collected from already"):
        collector.handle({"machine": "pump", "label": "idle", "seconds": 4.0})
    with pytest.raises(AuscultError, match="there is no machine 'press'"):
        collector.handle({"machine": "press", "label": "idle", "seconds": 4.0})
    feed(collector, "pump", 6)
    until(lambda: collector.observers["pump"].recording is None)
    session = read_session(tmp_path / answer["folder"])
    assert answer["folder"] == f"collected/pump/noise/{answer['session']}"
    assert (session.kept_seconds, session.by, session.comment) == (4, "anna", "x")
    collector.handle({"machine": "pump", "label": "idle", "seconds": 4.0})


def decided(level, alarm_id="a1"):
    """A decision of a machine at some level."""
    window = Window(np.zeros(8, np.float32), 8, 0, 0.0, 0.0, Validity.VALID)
    return Decision(Score(window, 1.0), 0.5, True, level, False, 0.0, alarm_id)


def test_healthy_sound_recorded_during_an_alarm_is_remarked_on(tmp_path, collector):
    tap = collector.observers["pump"]
    tap.judged(decided(Level.ALARM), ())
    answer = collector.handle(checked(label="healthy", seconds=4))
    assert "alarm a1 stands" in answer["warning"]
    feed(collector, "pump", 6)
    until(lambda: tap.recording is None)
    session = read_session(tmp_path / answer["folder"])
    assert session.label == "healthy"
    assert session.kept_seconds == 4
    (note,) = session.notes
    assert "alarm a1 stood" in note
    assert note in summary(session)
    assert [one.notes for one in find_sound([tmp_path / answer["folder"]])] == [(note,)]
    # Standing still is no claim that it is well.
    idle = collector.handle(checked(label="idle", seconds=4))
    assert "warning" not in idle
    feed(collector, "pump", 6)
    until(lambda: tap.recording is None)
    assert read_session(tmp_path / idle["folder"]).notes == ()


def test_an_alarm_that_begins_or_ends_meanwhile(tmp_path, collector):
    tap = collector.observers["pump"]
    tap.judged(decided(Level.ALERT, "b2"), ())
    tap.judged(decided(Level.NORMAL, "b2"), ())  # the window that clears bears the id still
    answer = collector.handle(checked(label="healthy", seconds=4))
    assert "warning" not in answer
    tap.judged(decided(Level.ALERT, "c3"), ())
    tap.judged(decided(Level.ALERT, "c3"), ())
    feed(collector, "pump", 6)
    until(lambda: tap.recording is None)
    (note,) = read_session(tmp_path / answer["folder"]).notes
    assert "alert c3 stood" in note


def test_the_command_line_is_told_of_the_alarm_too(tmp_path, collector):
    collector.observers["pump"].judged(decided(Level.ALARM), ())
    spool = Spool(tmp_path / "collect")
    ticket = spool.order(CollectOrder(machine="pump", label="healthy", seconds=3))
    until(lambda: spool.answered(ticket) is not None)
    assert "alarm a1 stands" in spool.answered(ticket).message
    feed(collector, "pump", 4)
    until(lambda: spool.answered(ticket).status == "done")
    assert "alarm a1 stood" in spool.answered(ticket).message


def checked(**fields):
    return Collect.model_validate({"transaction": "t", "machine": "pump", **fields}).model_dump()


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "idle", "seconds": 60, "schedule": "24:00"},
        {"label": "idle", "seconds": 60, "schedule": "3:00"},
        {"label": "idle", "seconds": 60, "schedule": ""},
        {"label": "idle", "seconds": 60, "schedule": "03:00", "times": 0},
        {"label": "idle", "seconds": 60, "schedule": "03:00", "times": 4000},
        {"label": "idle", "seconds": 60, "times": 3},
        {"label": "idle", "seconds": 0.5},
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_it_is_written(fields):
    with pytest.raises(ValidationError):
        checked(**fields)


def test_the_command_schedules_over_restarts_and_takes_back(tmp_path, collector):
    now = datetime.now().astimezone() - timedelta(minutes=2)
    if now.day != (now + timedelta(minutes=4)).day:
        pytest.skip("at midnight a schedule is of tomorrow")
    later = (now + timedelta(hours=2)).strftime("%H:%M")
    fields = checked(label="idle", seconds=4, schedule=later, operator="anna", comment="cold")
    answer = collector.handle(fields)
    assert answer == {"schedule": answer["schedule"], "at": later, "times": 7}
    at = now.strftime("%H:%M")
    due = collector.handle(checked(label="noise", seconds=4, schedule=at, times=2))
    with pytest.raises(AuscultError, match="there is no machine 'press'"):
        collector.handle({**fields, "machine": "press"})
    collector.stop()
    again = Collector(tmp_path, "dev", ["pump", "fan"], CONFIG)
    again.start()
    try:
        until(lambda: again.observers["pump"].recording is not None)
        feed(again, "pump", 6)
        until(lambda: again.observers["pump"].recording is None)
        (folder,) = (tmp_path / "collected" / "pump" / "noise").iterdir()
        assert read_session(folder).by == f"schedule {due['schedule']} at {at}"
        left = {entry.name: entry for entry in Schedules(entries(tmp_path)).all()}
        assert (left[due["schedule"]].times, left[answer["schedule"]].times) == (1, 7)
        assert left[answer["schedule"]].order.by == "anna"
        cancel = {"machine": "pump", "schedule": answer["schedule"]}
        with pytest.raises(AuscultError, match="no schedule"):
            again.handle_cancel({**cancel, "machine": "fan"})
        assert again.handle_cancel(cancel) == {"schedule": answer["schedule"]}
        assert [entry.name for entry in Schedules(entries(tmp_path)).all()] == [due["schedule"]]
    finally:
        again.stop()


def test_a_recording_under_way_is_ended_by_command(tmp_path, collector):
    with pytest.raises(AuscultError, match="not being collected from"):
        collector.handle_cancel({"machine": "pump", "schedule": None})
    answer = collector.handle(checked(label="healthy", seconds=100))
    feed(collector, "pump", 6)
    done = collector.handle_cancel({"machine": "pump", "schedule": None, "operator": "anna"})
    assert done == {"session": answer["session"]}
    until(lambda: collector.observers["pump"].recording is None)
    session = read_session(tmp_path / answer["folder"])
    assert (session.ended, session.kept_seconds) == ("stopped by anna", 6)


def test_what_is_scheduled_while_another_is_taken_is_not_lost(tmp_path):
    """The command and the agent write one file: between reading and writing they take turns."""
    order = CollectOrder(machine="pump", label="idle", seconds=60)
    adding = [
        threading.Thread(
            target=lambda: [
                Schedules(entries(tmp_path)).add("03:00", 3660, order) for _ in range(3)
            ]
        )
        for _ in range(4)
    ]
    for thread in adding:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in adding):
        day = f"2025-01-{1 + taken % 28:02}T03:00:01"
        Schedules(entries(tmp_path)).due(datetime.fromisoformat(day))
        taken += 1
    assert len(Schedules(entries(tmp_path)).all()) == 12


def test_schedules_are_bounded_by_machine_and_by_the_day(tmp_path):
    schedules = Schedules(entries(tmp_path))
    order = CollectOrder(machine="pump", label="idle", seconds=43_000)
    for _ in range(2):
        schedules.add("03:00", 1, order)
    with pytest.raises(AuscultError, match=r"'pump' would record 35\.8 hours a day"):
        schedules.add("04:00", 1, order)
    for _ in range(12):
        schedules.add("03:00", 1, CollectOrder(machine="fan", label="idle", seconds=2))
    with pytest.raises(AuscultError, match="there are 12 schedules of 'fan' already"):
        schedules.add("03:00", 1, CollectOrder(machine="fan", label="idle", seconds=2))


def test_schedules_of_many_machines_are_bounded_altogether(tmp_path):
    schedules = Schedules(entries(tmp_path))
    for n in range(100):
        order = CollectOrder(machine=f"m{n // 12}", label="idle", seconds=2)
        schedules.add("03:00", 1, order)
    with pytest.raises(AuscultError, match="there are 100 schedules already"):
        schedules.add("03:00", 1, CollectOrder(machine="pump", label="idle", seconds=2))


def test_stopping_the_agent_keeps_what_was_heard(tmp_path, collector):
    folder = (
        tmp_path / collector.handle({"machine": "fan", "label": "idle", "seconds": 100})["folder"]
    )
    feed(collector, "fan", 6)
    collector.stop()
    session = read_session(folder)
    assert session.kept_seconds == 6
    assert session.ended == "the agent was stopped"


def test_orders_from_the_command_line_are_answered(tmp_path, collector):
    spool = Spool(tmp_path / "collect")
    assert spool.served()
    ticket = spool.order(CollectOrder(machine="pump", label="healthy", seconds=3))
    until(lambda: spool.answered(ticket) is not None)
    assert spool.answered(ticket).status == "recording"
    feed(collector, "pump", 4)
    until(lambda: spool.answered(ticket).status == "done")
    assert "3 of 3 s kept" in spool.answered(ticket).message
    refused = spool.order(CollectOrder(machine="press", label="healthy", seconds=3))
    until(lambda: spool.answered(refused) is not None)
    assert spool.answered(refused).status == "refused"
    collector.stop()
    assert not spool.served()


def test_a_recording_that_follows_at_once_costs_the_one_before_no_answer(tmp_path):
    collector = Collector(tmp_path, "dev", ["pump"], CONFIG)  # not started: each step is ours
    spool = Spool(tmp_path / "collect")
    collector.step()
    ticket = spool.order(CollectOrder(machine="pump", label="healthy", seconds=3))
    collector.step()
    first = collector.observers["pump"].recording
    feed(collector, "pump", 4)
    assert first.wait(10)
    collector.handle({"machine": "pump", "label": "idle", "seconds": 4.0})
    collector.step()
    assert spool.answered(ticket).status == "done"
    assert not collector.observers["pump"].recording.done
    collector.stop()


def test_orders_and_schedules_are_those_of_one_agent(tmp_path):
    first, second = (Collector(tmp_path, "dev", ["pump"], CONFIG) for _ in range(2))
    first.step()
    second.step()
    spool = Spool(tmp_path / "collect")
    spool.order(CollectOrder(machine="pump", label="healthy", seconds=3))
    second.step()
    assert second.observers["pump"].recording is None
    first.step()
    assert first.observers["pump"].recording is not None
    first.stop()
    # The other takes over.
    spool.order(CollectOrder(machine="pump", label="healthy", seconds=3))
    second._due = 0.0
    second.step()
    assert second.observers["pump"].recording is not None
    second.stop()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\xff", b"[" * 50_000, b'{"machine": "pump"}', b'{"seconds": 1e999}',
     b'{"machine":"pump","label":"healthy","seconds":-1}', b" " * 100_000],
)  # fmt: skip
def test_hostile_orders_are_refused(tmp_path, collector, content):
    orders = tmp_path / "collect" / "orders"
    (orders / "0123456789abcdef.json").write_bytes(content)
    (orders / "..%2f.json").write_bytes(b"{}")
    (orders / "fedcba9876543210.json").symlink_to("/etc/passwd")
    spool = Spool(tmp_path / "collect")
    until(lambda: spool.answered("0123456789abcdef") is not None)
    assert spool.answered("0123456789abcdef").status == "refused"
    until(lambda: spool.answered("fedcba9876543210") is not None)
    assert not (tmp_path / "collected").exists()


def test_schedules_come_due_once_a_day_and_end(tmp_path):
    schedules = Schedules(tmp_path / "collect" / "schedules.json")
    order = CollectOrder(machine="pump", label="idle", seconds=60)
    entry = schedules.add("03:00", 2, order)

    def due(text):
        # As after a restart, each time.
        again = Schedules(tmp_path / "collect" / "schedules.json")
        return [found.name for found in again.due(datetime.fromisoformat(text))]

    assert due("2025-01-01T02:59:59") == []
    assert due("2025-01-01T03:00:10") == [entry.name]
    assert due("2025-01-01T03:05:00") == []  # done today, also after a restart
    assert due("2025-01-02T04:00:00") == []  # too late for today
    assert due("2025-01-03T03:14:00") == [entry.name]
    assert schedules.all() == ()
    with pytest.raises(AuscultError, match="not a time of day"):
        schedules.add("25:00", 1, order)
    with pytest.raises(AuscultError, match="no schedule"):
        schedules.cancel("abc")
    (tmp_path / "collect" / "schedules.json").write_text('[{"at": 3}]')
    with pytest.raises(AuscultError, match="is damaged"):
        schedules.all()


def test_a_schedule_before_midnight_is_kept_to_after_it(tmp_path):
    schedules = Schedules(entries(tmp_path))
    order = CollectOrder(machine="pump", label="idle", seconds=60)
    schedules.add("23:55", 2, order)
    # The device was off at the time, and is up again ten minutes later.
    assert len(schedules.due(datetime.fromisoformat("2025-01-02T00:05:00"))) == 1
    assert schedules.due(datetime.fromisoformat("2025-01-02T00:09:00")) == []
    assert schedules.due(datetime.fromisoformat("2025-01-02T23:54:00")) == []
    assert len(schedules.due(datetime.fromisoformat("2025-01-02T23:56:00"))) == 1
    assert schedules.all() == ()


@pytest.fixture
def config(tmp_path, tiny_bundle):
    write(tmp_path / "sound" / "a.wav", tone(8))
    path = tmp_path / "agent.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "state_dir": str(tmp_path / "state"),
                "collect": {"free_share": 0},
                "machines": [
                    {
                        "name": "pump",
                        "bundle": str(tiny_bundle),
                        "source": {
                            "kind": "replay",
                            "paths": [str(tmp_path / "sound")],
                            "speed": "max",
                        },
                    }
                ],
            }
        )
    )
    return path


def test_without_an_agent_the_command_records_itself(tmp_path, config):
    run = CliRunner().invoke(
        collect, ["--config", str(config), "--label", "healthy", "--seconds", "6"]
    )
    assert run.exit_code == 0, run.output
    assert "6 of 6 s kept in 1 file" in run.output
    (place,) = (tmp_path / "state" / "collected" / "pump" / "healthy").iterdir()
    assert json.loads((place / "session.json").read_text())["complete"]
    # What comes next is a whole line, to be typed as it stands.
    last = run.stdout.splitlines()[-1]
    assert last == f"{next_command('bank', 'add', place, '--config', config, '--machine', 'pump')}"
    listed = CliRunner().invoke(collect, ["--config", str(config), "--list"])
    assert str(place) in listed.output


def test_without_an_agent_too_an_alarm_that_stands_is_remarked_on(tmp_path, config):
    memory = AlarmMemory(level=Level.ALARM, announced=Level.ALARM, alarm_id="a1")
    assert AlarmFile(tmp_path / "state" / "state" / "pump.json").save(memory)
    run = CliRunner().invoke(
        collect, ["--config", str(config), "--label", "healthy", "--seconds", "6"]
    )
    assert run.exit_code == 0, run.output
    assert "alarm a1 stands" in run.stderr
    assert "alarm a1 stood" in run.stdout
    (place,) = (tmp_path / "state" / "collected" / "pump" / "healthy").iterdir()
    assert len(read_session(place).notes) == 1


def test_the_command_refuses_a_dead_microphone(tmp_path, config):
    write(tmp_path / "sound" / "a.wav", np.zeros(8 * RATE, np.float32))
    run = CliRunner().invoke(
        collect, ["--config", str(config), "--label", "healthy", "--seconds", "6"]
    )
    assert run.exit_code == 1
    assert "nothing was kept" in run.output
    assert not list((tmp_path / "state").rglob("*.flac"))


def test_a_user_without_a_name_can_collect(tmp_path, config, monkeypatch):
    # As in a container that is run by a number.
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    options = ["--config", str(config), "--label", "healthy", "--seconds", "5"]
    run = CliRunner().invoke(collect, [*options, "--schedule", "04:30"])
    assert run.exit_code == 0, run.exception
    (written,) = config.parent.rglob("schedules.json")
    assert f"uid {os.getuid()}" in written.read_text()


def test_the_command_schedules_and_cancels(tmp_path, config):
    options = ["--config", str(config), "--label", "idle", "--seconds", "60"]
    run = CliRunner().invoke(collect, [*options, "--schedule", "04:30", "--times", "3"])
    assert run.exit_code == 0, run.output
    name = run.output.split()[1].rstrip(":")
    assert "04:30\t3 days left" in CliRunner().invoke(collect, [*options, "--list"]).output
    assert CliRunner().invoke(collect, [*options, "--cancel", name]).exit_code == 0
    assert "04:30" not in CliRunner().invoke(collect, [*options, "--list"]).output


def test_answers_are_read_with_care(tmp_path):
    spool = Spool(tmp_path)
    assert spool.answered("0123456789abcdef") is None
    spool.serve()
    spool.answer("0123456789abcdef", CollectAnswer(status="done"))
    assert spool.answered("0123456789abcdef").status == "done"
    assert not Spool(tmp_path).serve()  # a second agent
    spool.leave()
