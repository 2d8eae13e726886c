"""What a machine does by half seconds: runs, starts and stops, and windows of its running sound."""

from __future__ import annotations

import numpy as np
import pytest

from agent.activity.cutter import Following, RunningWindows
from agent.activity.edges import Edges, settled_after
from agent.activity.levels import BandLevels
from agent.activity.sound import RunningSound
from agent.activity.still import StillGate, fit_still
from agent.config.decide import DecideConfig
from agent.core.lasting import lasting
from agent.core.levels import LevelRange
from agent.core.records import Activity, AudioBlock, Level, MachineState, Score, Validity, Window
from agent.decide.alarm import AlarmDecider
from agent.pace.trigger import LevelTrigger
from agent.window.rolling import RollingWindow

RATE = 4000
WINDOW = 10 * RATE


def noise(seconds, level=-30.0, seed=0, tilt=0.0):
    """White noise, or with `tilt` the difference of neighbours: another colour."""
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal(round(seconds * RATE) + 1)
    sound = sound[1:] - tilt * sound[:-1]
    return (10 ** (level / 20) * sound).astype(np.float32)


def cycles(count, on, off, *, running=-30.0, quiet=-60.0, start=0.0):
    """Rests and runs; the first `start` seconds of a run are of another colour."""
    parts = []
    for n in range(count):
        parts.append(noise(off, quiet, seed=1000 + n))
        if start:
            parts.append(noise(start, running + 6, seed=2000 + n, tilt=-0.9))
        parts.append(noise(on - start, running, seed=3000 + n, tilt=0.9))
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def gate():
    quiet = np.stack([noise(10, -60, seed=n) for n in range(6)])
    running = np.stack([noise(10, -30 + n, seed=50 + n, tilt=0.9) for n in range(6)])
    names = [f"{n}.wav" for n in range(6)]
    frames, note = fit_still(quiet, names, running, names, RATE)
    assert frames is not None, note
    assert "0.00% of the healthy half seconds" in note
    return StillGate(frames)


def windows(sound, following, *, hop=1.0, edges=None, size=0.37, gaps=()):
    cutter = RunningWindows(
        RollingWindow(WINDOW, round(hop * RATE), RATE), edges or Edges(10.0), following
    )
    step, found = round(size * RATE), []
    for n, start in enumerate(range(0, len(sound), step)):
        block = AudioBlock(
            sound[start : start + step], RATE, start / RATE, 1e9 + start / RATE, n in gaps, "x"
        )
        found += list(cutter.push(block))
    return found


def judged(found):
    return [window for window in found if window.activity is Activity.RUNNING]


def test_band_levels_are_power_in_bands():
    bands = BandLevels(RATE)
    levels = bands.measure(bands.frames_of(noise(10, -30)))
    assert levels.shape == (20, 12)
    # Of white noise at -30 dBFS the bands hold all that lies between 50 Hz and 0.45 of the rate.
    total = 10 * np.log10(np.sum(10 ** (levels / 10), axis=1).mean())
    assert total == pytest.approx(-30 + 10 * np.log10((1800 - 50) / 2000), abs=0.5)


def test_a_quieter_hall_is_still_and_another_loud_sound_is_not(gate):
    bands = BandLevels(RATE)
    for level in (-60, -75, -95):
        assert gate.still(bands.measure(bands.frames_of(noise(20, level)))).mean() > 0.9
    for sound in (noise(20, -30, tilt=0.9), noise(20, -20), noise(20, -40, tilt=-0.9)):
        assert not gate.still(bands.measure(bands.frames_of(sound))).any()


def test_idle_and_running_that_sound_alike_make_no_gate():
    names = [f"{n}.wav" for n in range(6)]
    alike = [np.stack([noise(5, -30, seed=n + k) for n in range(6)]) for k in (0, 100)]
    frames, note = fit_still(alike[0], names, alike[1], names, RATE)
    assert frames is None
    assert note.startswith("starts and stops are not placed within a window")


def test_runs_shorter_than_a_window_and_settling_are_judged(gate):
    # It used to be that no window of 10 s lay in a run of 15 s once 10 s had passed as settling.
    found = windows(cycles(8, 15, 45, start=2.0), Following(gate, None))
    late = [w for w in judged(found) if w.monotonic > 4 * 60]
    # From about 3.5 s after a start to 1 s before the stop, once a hop.
    assert 8 * 4 <= len(late) <= 13 * 4
    bands = BandLevels(RATE)
    for window in late:
        levels = bands.measure(bands.frames_of(window.samples))
        assert not gate.still(levels).any()
        # Nothing of a start, which is of another colour: lows above highs.
        assert (levels[:, :4].mean(axis=1) < levels[:, -4:].mean(axis=1)).all()
    assert {w.activity for w in found} == set(Activity)
    still = [w for w in found if w.activity is Activity.STILL]
    assert all(w.run_clock is None for w in still)


def test_runs_shorter_than_a_window_are_joined_and_their_clock_stands_still(gate):
    found = judged(windows(cycles(30, 7, 20, start=1.0), Following(gate, None)))
    late = [w for w in found if w.monotonic > 15 * 27]
    assert len(late) >= 15 * 2
    clocks = np.array([w.run_clock for w in late])
    steps = np.diff(clocks)
    # 27 s of stream from one run's last window to the next one's first are seconds of running.
    assert (steps >= 0).all()
    assert steps.max() < 7
    assert all(len(w.samples) == WINDOW for w in late)
    # No stretch of the stream holds such a window: it joins no bank as if one did.
    assert all(w.joined for w in late)


def test_a_machine_that_runs_on_has_the_windows_it_always_had(gate):
    sound = noise(120, -30, tilt=0.9)
    found = judged(windows(sound, Following(gate, None)))
    # At the beginning it might have been starting up, and whether it stops is known only later.
    assert found[0].monotonic == pytest.approx(10, abs=1)
    assert found[-1].monotonic == pytest.approx(100, abs=1)
    for window in found:
        start = round(window.monotonic * RATE)
        assert np.array_equal(window.samples, sound[start : start + WINDOW])
        assert window.run_clock == pytest.approx(window.end_monotonic)
        assert not window.joined


def test_without_a_gate_only_a_very_low_level_is_still():
    low = LevelRange((-35.0, -25.0))
    sound = np.concatenate([noise(40), noise(40, -70), noise(60)])
    found = windows(sound, Following(None, low))
    doing = {round(w.end_monotonic): w.activity for w in found}
    # At once, as without any of this...
    assert [doing[t] for t in (10, 25, 40)] == [Activity.RUNNING] * 3
    # ...then the hall, a start of unknown length, and running sound, joined at first.
    assert [doing[t] for t in (45, 60, 80)] == [Activity.STILL] * 3
    assert doing[85] is Activity.CHANGING
    assert doing[95] is Activity.RUNNING
    bands = BandLevels(RATE)
    for window in judged(found):
        assert bands.measure(bands.frames_of(window.samples)).min() > -60


def test_without_a_gate_no_later_window_holds_an_earlier_stop():
    # The agent's first hours of a machine that runs 15 s a minute: stops aren't learnt yet.
    parts = []
    for n in range(8):
        parts += [
            noise(45, -110, seed=n), noise(14, -30, seed=100 + n, tilt=0.9),
            noise(1, -30, seed=200 + n, tilt=-0.9),
        ]  # fmt: skip
    levels = LevelRange((-35.0, -25.0))
    found = windows(np.concatenate(parts), Following(None, levels))
    bands = BandLevels(RATE)

    def colour(sound):
        heard = bands.measure(bands.frames_of(sound))
        return heard[:, :4].mean(axis=1) - heard[:, -4:].mean(axis=1)

    running, stop = noise(5, -30, tilt=0.9), noise(5, -30, tilt=-0.9)
    between = (colour(running).max() + colour(stop).min()) / 2

    def stopped(window):
        return (colour(window.samples) > between).any()

    # While it stops nobody knows it yet; a window that ends later holds nothing of it.
    late = [w for w in judged(found) if (w.end_monotonic % 60) > 46.5]
    assert len(late) > 20
    assert not [w.end_monotonic for w in late if stopped(w)]


def test_a_dead_microphone_is_told_before_anything_else(gate):
    sound = np.concatenate([noise(60, -30, tilt=0.9), np.zeros(30 * RATE, np.float32)])
    found = windows(sound, Following(gate, LevelRange((-30.0, -20.0))))
    dead = [w for w in found if w.monotonic >= 60]
    assert dead
    assert {w.validity for w in dead} == {Validity.SILENT}
    assert {w.activity for w in dead} == {None}


def test_what_the_plant_says_goes_before_what_is_heard(gate):
    says: list[bool | None] = [False]
    following = Following(gate, None, running=lambda: says[0])
    sound = noise(60, -30, tilt=0.9)
    assert not judged(windows(sound, following))
    says[0] = True
    assert judged(windows(noise(60, -60), following))
    says[0] = None  # it no longer says: by ear again
    assert judged(windows(sound, following))
    assert not judged(windows(noise(60, -60), following))


def test_starts_are_learnt_and_remembered(tmp_path, gate):
    path = tmp_path / "edges" / "pump.json"
    edges = Edges(10.0, path)
    assert edges.start_seconds is None
    windows(cycles(5, 20, 20, start=3.0), Following(gate, None), edges=edges)
    assert edges.start_seconds == pytest.approx(3.5, abs=0.6)
    assert edges.stop_seconds == pytest.approx(0.5, abs=0.6)
    assert Edges(10.0, path).start_seconds == edges.start_seconds
    path.write_text("{")
    assert Edges(10.0, path).start_seconds is None


@pytest.mark.parametrize("taken", [0, 4, 10])
def test_settling_is_the_time_until_a_run_sounds_as_it_goes_on(taken):
    rng = np.random.default_rng(0)
    levels = -40 + rng.standard_normal((40, 12)).astype(np.float32)
    levels[:taken] += np.linspace(-20, -6, taken)[:, None].astype(np.float32)
    assert settled_after(levels) == pytest.approx(taken / 2, abs=0.5)


def test_sound_is_joined_without_a_step():
    sound = RunningSound(RATE, RATE)
    sound.add(0, np.full(RATE // 2, 0.5, np.float32))
    assert sound.ending(RATE // 2) is None
    sound.add(10 * RATE, np.full(RATE, -0.5, np.float32))
    samples, skipped = sound.ending(10 * RATE + 3 * RATE // 4) or (None, None)
    assert samples is not None
    assert len(samples) == RATE
    assert skipped == pytest.approx(9.5)
    assert (samples[0], samples[-1]) == (0.5, -0.5)
    # 1 in 20 ms, evenly.
    assert np.abs(np.diff(samples)).max() == pytest.approx(1 / (0.02 * RATE), rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_sound_kept_in_pieces_ends_as_whole_runs_would(seed):
    rng = np.random.default_rng(seed)
    sound, runs, at = RunningSound(200, 1000), [], 0
    for _ in range(200):
        piece = rng.standard_normal(rng.integers(1, 150)).astype(np.float32)
        if not runs or rng.random() < 0.1:
            at += int(rng.integers(1, 300))  # it stood for a while
            runs.append((at, piece))
        else:
            runs[-1] = (runs[-1][0], np.concatenate([runs[-1][1], piece]))
        sound.add(at, piece)
        at += len(piece)
        if rng.random() < 0.1:  # it had stopped before
            at -= int(rng.integers(1, 100))
            sound.cut(at)
            runs[-1] = (runs[-1][0], runs[-1][1][: max(0, at - runs[-1][0])])
            runs = [run for run in runs if len(run[1])]
            at = sound.end or at
        if not runs or len(runs[-1][1]) < 220:
            continue
        first, run = runs[-1]
        end = first + len(run) - int(rng.integers(0, 20))
        found, _ = sound.ending(end) or (None, None)
        assert np.array_equal(found, run[: end - first][-200:])
        assert sound.covers(end - 200, end)


def test_lost_sound_is_never_joined_over(gate):
    sound = noise(90, -30, tilt=0.9)
    found = judged(windows(sound, Following(gate, None), size=1.0, gaps={45}))
    ends = np.array([w.end_monotonic for w in found])
    assert not ((ends > 45.1) & (ends < 54.9)).any()
    assert (ends > 56).any()


def test_evidence_goes_on_from_run_to_run():
    # A run an hour, of which one window counts: three of them raise the alarm all the same.
    decider = AlarmDecider(DecideConfig(raise_windows=3, of_windows=5), 1.0)
    level = None
    for n in range(3):
        window = Window(
            np.zeros(RATE, np.float32), RATE, n, 3600.0 * n, 1e9 + 3600 * n,
            activity=Activity.RUNNING, run_clock=10.0 * n,
        )  # fmt: skip
        level = decider.decide(Score(window, 5.0)).level
    assert level is Level.ALARM


def test_what_sounds_like_a_start_is_no_evidence():
    decider = AlarmDecider(DecideConfig(raise_windows=1, of_windows=1), 1.0)
    for activity, state in (
        (Activity.CHANGING, MachineState.CHANGING),
        (Activity.STILL, MachineState.IDLE),
    ):
        window = Window(np.zeros(RATE, np.float32), RATE, 0, 0.0, 1e9, activity=activity)
        decision = decider.decide(Score(window, 5.0), state)
        assert not decision.exceeded
        assert decision.level is Level.NORMAL
    running = Window(np.zeros(RATE, np.float32), RATE, 0, 0.0, 1e9, activity=Activity.RUNNING)
    assert decider.decide(Score(running, 5.0), MachineState.RUNNING).level is Level.ALARM


def test_a_half_second_is_measured_once_for_the_trigger_and_the_windows(gate, monkeypatch):
    measured = []
    real = BandLevels.measure
    monkeypatch.setattr(
        BandLevels,
        "measure",
        lambda self, frames: measured.append(len(frames)) or real(self, frames),
    )
    sound = cycles(2, 15, 45, start=2.0)
    trigger, found = LevelTrigger(RATE), []
    cutter = RunningWindows(
        RollingWindow(WINDOW, RATE, RATE), Edges(10.0), Following(gate, None), trigger.levels
    )
    step = round(0.3 * RATE)  # blocks that end within a half second
    for n, start in enumerate(range(0, len(sound), step)):
        gap = n in (40, 41, 200)
        block = AudioBlock(
            sound[start : start + step], RATE, start / RATE, 1e9 + start / RATE, gap, "x"
        )
        trigger.hear(block)
        found += list(cutter.push(block))
    halves = len(sound) // trigger.frame_samples
    # After sound was lost half seconds begin anew.
    assert halves - 3 <= sum(measured) <= halves
    alone = windows(sound, Following(gate, None), size=0.3, gaps=(40, 41, 200))
    assert [one.activity for one in found] == [one.activity for one in alone]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_sound_is_kept_once_however_many_keep_it(gate):
    trigger = LevelTrigger(RATE)
    rolling = RollingWindow(WINDOW, RATE, RATE)
    cutter = RunningWindows(rolling, Edges(10.0), Following(gate, None), trigger.levels)
    buffer = noise(0.3, -30)
    block = AudioBlock(lasting(buffer), RATE, 0.0, 1e9)
    assert lasting(block.samples) is block.samples
    assert not np.shares_memory(block.samples, buffer)
    assert not list(cutter.push(block))
    assert rolling.pieces[0] is block.samples
    assert cutter._raw[0][1] is block.samples
    with pytest.raises(ValueError, match="read-only"):
        rolling.pieces[0][0] = 1.0
