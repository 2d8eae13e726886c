"""Evidence of alarms: what is kept, for how long, and that nothing waits for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.bundles import FAULTY_HZ, RATE, tone

from agent.bundle.manifest import Row
from agent.config.evidence import EvidenceConfig
from agent.core.clock import ClockQuality
from agent.core.errors import AuscultError
from agent.core.records import AudioBlock, Decision, Level, Score, Window
from agent.evidence import write as writing
from agent.evidence.disk import has_room, make_room, mark_seen, prune, survey
from agent.evidence.record import (
    PICTURE,
    RECORD,
    SOUND,
    alarm_folder,
    read_record,
)
from agent.evidence.recorder import EvidenceRecorder
from agent.evidence.ring import AudioRing
from agent.evidence.spectrogram import HEIGHT, WIDTH, power_db, spectrogram_png
from agent.evidence.write import EvidenceWriter

ROWS = (
    Row(source="h0.wav", start=0.0, group="h0.wav"),
    Row(source="h1.wav", start=2.5, group="h1.wav"),
)
CONFIG = EvidenceConfig(before_seconds=3, during_seconds=2)


def block(sound, at, *, gap=False):
    return AudioBlock(sound, RATE, at, 1e9 + at, gap_before=gap, origin="feed")


def decision(at, *, level=Level.NORMAL, alarm="", score=0.01, changed=False):
    window = Window(np.zeros(RATE, np.float32), RATE, int(at), at, 1e9 + at)
    return Decision(
        Score(window, score, 1 if score is not None else None, 0.01),
        0.05, score is not None and score > 0.05, level, changed, 1e9 + at, alarm,
    )  # fmt: skip


@pytest.fixture
def writer(tmp_path):
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG)
    writer.start()
    yield writer
    writer.stop()


def settle(writer):
    """Wait until what was offered is written."""
    deadline = time.monotonic() + 60
    writer.jobs.put(None)
    writer.thread.join(deadline - time.monotonic())
    assert not writer.thread.is_alive()
    writer.start()


def play(recorder, *, seconds=12, raised=6, cleared=None, alarm="a1"):
    """A second a step; the fault begins a second before the alarm."""
    references = []
    for at in range(seconds):
        faulty = at >= raised - 1 and (cleared is None or at < cleared)
        recorder.hear(block(tone(1, FAULTY_HZ if faulty else 440, seed=at), float(at)))
        alarmed = at >= raised and (cleared is None or at < cleared)
        references.append(
            recorder.judged(
                decision(
                    float(at),
                    level=Level.ALARM if alarmed else Level.NORMAL,
                    alarm=alarm if alarmed or at == cleared else "",
                    score=0.5 if faulty else 0.01,
                    changed=at in (raised, cleared),
                ),
                ROWS,
            )
        )
    return references


def test_an_alarm_leaves_sound_picture_and_record(tmp_path, writer):
    recorder = EvidenceRecorder("dev", "pump", writer)
    references = play(recorder)
    settle(writer)
    folder = tmp_path / "evidence" / "pump" / "a1"
    assert references[5] == ""
    assert references[6] == references[11] == "evidence/pump/a1"
    assert sorted(path.name for path in folder.iterdir()) == sorted([RECORD, SOUND, PICTURE])
    record = read_record(folder)
    sound, rate = soundfile.read(folder / SOUND, dtype="float32")
    # Three seconds up to the end of the window that raised it (7 s), and two of the alarm.
    assert rate == RATE
    assert len(sound) == 5 * RATE
    assert np.abs(sound[:RATE] - tone(1, seed=4)).max() < 2**-17
    assert record.complete
    assert record.seconds == 5
    assert record.raised_at == 3
    assert record.score == 0.5
    assert [(w.start, w.exceeded, w.whole) for w in record.windows] == [
        (0, False, True), (1, True, True), (2, True, True), (3, True, True), (4, True, True),
    ]  # fmt: skip
    assert (record.windows[0].neighbour, record.windows[0].neighbour_start) == ("h1.wav", 2.5)


def test_evidence_is_on_disk_at_the_alarm_and_grows_until_it_is_cleared(tmp_path, writer):
    recorder = EvidenceRecorder("dev", "pump", writer)
    folder = tmp_path / "evidence" / "pump" / "a1"
    play(recorder, seconds=7)
    settle(writer)
    assert not read_record(folder).complete
    assert read_record(folder).seconds == 3
    again = EvidenceRecorder("dev", "pump", writer)
    references = play(again, cleared=8, alarm="a2")
    assert references[8] == "evidence/pump/a2"  # the message that clears it names it too
    assert references[9] == ""
    settle(writer)
    record = read_record(folder.parent / "a2")
    assert record.complete
    assert record.cleared is not None
    assert record.seconds == pytest.approx(5)


def test_an_alarm_that_outlives_a_restart_keeps_its_first_evidence(tmp_path, writer):
    play(EvidenceRecorder("dev", "pump", writer))
    settle(writer)
    before = (tmp_path / "evidence/pump/a1" / SOUND).read_bytes()
    references = play(EvidenceRecorder("dev", "pump", writer), raised=2)
    settle(writer)
    assert references[2] == "evidence/pump/a1"
    assert (tmp_path / "evidence/pump/a1" / SOUND).read_bytes() == before


def test_the_ring_holds_no_more_than_asked_and_tells_gaps():
    ring = AudioRing(3.0)
    for at in range(100):
        ring.hear(
            block(np.full(RATE, at, np.float32), at + (5.0 if at >= 99 else 0.0), gap=at == 99)
        )
    assert ring.held <= 4 * RATE
    clip = ring.cut(97.5, 200)
    assert clip.monotonic == 97.5
    assert clip.seconds == 2.5
    (gap,) = clip.gaps
    assert (gap.at, gap.seconds) == (1.5, 5.0)
    assert clip.place(98.0) == 0.5
    assert clip.place(104.5) == 2.0
    assert clip.place(101.0) == 1.5  # inside what was lost
    assert ring.cut(0, 50) is None


def test_the_ring_copies_what_the_source_may_reuse():
    ring = AudioRing(3.0)
    shared = np.ones(RATE, np.float32)
    ring.hear(block(shared, 0.0))
    shared[:] = 7
    assert ring.cut(0, 1).samples.max() == 1


def test_the_ring_keeps_sound_of_16_bits_bit_by_bit_and_any_other_90_db_below_its_peak():
    rng = np.random.default_rng(0)
    for peak in (1.0, 0.9999, 0.03, 1e-4, 3.0):
        exact = np.rint(rng.uniform(-1, 1, RATE) * peak * 32768) / 32768
        exact = np.clip(exact, -1, 32767 / 32768).astype(np.float32)
        ring = AudioRing(3.0)
        ring.hear(block(exact, 0.0))
        np.testing.assert_array_equal(ring.cut(0, 1).samples, exact)
        any_other = (rng.uniform(-1, 1, RATE) * peak).astype(np.float32)
        ring.hear(block(any_other, 1.0))
        error = np.abs(ring.cut(1, 2).samples - any_other).max()
        assert error <= 1.01 * np.abs(any_other).max() / 32768
    broken = np.array([0.1, np.nan, np.inf, -0.2], np.float32)
    ring.hear(block(broken, 2.0))
    np.testing.assert_array_equal(ring.cut(2, 3).samples, broken)


def test_a_slow_disk_never_holds_scoring_up(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(writing, "write_evidence", lambda job: release.wait(300))
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG)
    writer.start()
    try:
        began = time.monotonic()
        references = [
            play(EvidenceRecorder("dev", "pump", writer), alarm=f"a{n}", seconds=8)[7]
            for n in range(8)
        ]
        # Each write takes five minutes.
        assert time.monotonic() - began < 300
        # One is being written and four wait; the rest are told of as not kept.
        assert references.count("") >= 2
        assert writer.skipped >= 2
        assert "not kept" in writer.state()
    finally:
        release.set()
        writer.stop()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("odd")])
def test_a_disk_that_fails_costs_the_evidence_only(tmp_path, monkeypatch, fault, caplog):
    def fail(*_args):
        raise fault

    monkeypatch.setattr(writing, "write_flac", fail)
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG)
    writer.start()
    play(EvidenceRecorder("dev", "pump", writer))
    settle(writer)
    # One job for what was heard at once, or one at the alarm and one at its end.
    assert writer.skipped in (1, 2)
    assert "not kept" in caplog.text
    writer.stop()


def test_no_evidence_is_promised_on_a_full_disk(tmp_path):
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG.model_copy(update={"free_share": 0.9999}))
    writer.start()
    play(EvidenceRecorder("dev", "pump", writer), alarm="a1")
    settle(writer)
    references = play(EvidenceRecorder("dev", "pump", writer), alarm="a2")
    writer.stop()
    assert references[7] == ""
    assert not list((tmp_path).rglob("*.flac"))
    # Of the first alarm one job or two, as above; the second is refused at once.
    assert writer.skipped in (2, 3)


def fill(root, machine, alarm, age_days=0.0, size=1000):
    folder = root / machine / alarm
    folder.mkdir(parents=True)
    path = folder / SOUND
    path.write_bytes(bytes(size))
    then = time.time() - age_days * 86400
    os.utime(path, (then, then))
    return folder


def test_retention_by_age_and_count(tmp_path):
    for n in range(6):
        fill(tmp_path, "pump", f"p{n}", age_days=n)
    fill(tmp_path, "fan", "f0", age_days=3)
    (tmp_path / "stranger.txt").write_text("not ours")
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tmp_path / "pump" / "link").symlink_to(outside)
    config = CONFIG.model_copy(update={"keep_days": 4.5, "keep_alarms": 3})
    # By a clock that cannot be believed nothing is too old; there may be too much all the same.
    assert prune(tmp_path, config.model_copy(update={"keep_alarms": 6}), now=None) == 0
    assert prune(tmp_path, config, now=time.time()) == 3
    assert sorted(p.name for p in (tmp_path / "pump").iterdir()) == ["link", "p0", "p1", "p2"]
    assert (tmp_path / "fan" / "f0").exists()
    assert (outside / "precious").exists()
    assert (tmp_path / "stranger.txt").exists()


def test_what_is_too_old_makes_room_on_a_full_disk(tmp_path, monkeypatch):
    old = fill(tmp_path / "evidence", "pump", "old", age_days=200)
    monkeypatch.setattr(writing, "has_room", lambda *_, **__: not old.exists())
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG, lambda: ClockQuality.SYNCHRONISED)
    writer.start()
    play(EvidenceRecorder("dev", "pump", writer), alarm="a1")
    settle(writer)
    writer.stop()
    assert (tmp_path / "evidence" / "pump" / "a1" / SOUND).exists()
    assert not old.exists()
    assert writer.skipped == 0


def test_evidence_of_before_the_clock_was_set_is_not_years_old_after(tmp_path):
    quality = [ClockQuality.UNSYNCHRONISED]
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG, lambda: quality[0])
    writer.start()
    play(EvidenceRecorder("dev", "pump", writer), alarm="a1")
    settle(writer)
    first = tmp_path / "evidence" / "pump" / "a1"
    for file in first.iterdir():
        os.utime(file, (1000, 1000))  # a device without a battery begins in 1970
    quality[0] = ClockQuality.SYNCHRONISED
    play(EvidenceRecorder("dev", "pump", writer), alarm="a2")
    settle(writer)
    writer.stop()
    assert sorted(file.name for file in first.iterdir()) == [RECORD, SOUND, PICTURE]


def test_what_is_too_old_goes_without_a_new_alarm(tmp_path, monkeypatch):
    old = fill(tmp_path / "evidence", "pump", "old", age_days=200)
    young = fill(tmp_path / "evidence", "pump", "young", age_days=1)
    monkeypatch.setattr(writing, "_TIDY_SECONDS", 0.01)
    writer = EvidenceWriter(tmp_path / "evidence", CONFIG, lambda: ClockQuality.SYNCHRONISED)
    writer.start()
    deadline = time.monotonic() + 60
    while old.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.stop()
    assert not old.exists()
    assert young.exists()


def test_retention_by_share_of_the_disk_takes_the_oldest(tmp_path, monkeypatch):
    for n in range(5):
        fill(tmp_path, "pump", f"p{n}", age_days=n / 10)
    import shutil

    usage = type(shutil.disk_usage(tmp_path))(30_000, 0, 30_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    newest = tmp_path / "pump" / "p4"
    prune(tmp_path, CONFIG.model_copy(update={"disk_share": 0.1}), keep=newest, now=time.time())
    # 3000 bytes allowed: the oldest go, but for the one being written.
    assert sorted(p.name for p in (tmp_path / "pump").iterdir()) == ["p0", "p1", "p4"]


def test_what_waits_for_acceptance_is_counted_last(tmp_path):
    for n in range(3):
        fill(tmp_path, "pump", f"p{n}", age_days=n)
    (tmp_path / "pump" / "p2" / "feedback.json").write_text(
        '{"verdict": "normal", "time": "2025-01-01T00:00:00Z"}'
    )
    for n in range(2):
        mark_seen(tmp_path, "pump", f"p{n}")
    prune(tmp_path, CONFIG.model_copy(update={"keep_alarms": 1}), now=time.time())
    assert [p.name for p in (tmp_path / "pump").iterdir()] == ["p2"]


def answered(root, machine, name, verdict="normal"):
    (root / machine / name / "feedback.json").write_text(
        f'{{"verdict": "{verdict}", "time": "2025-01-01T00:00:00Z"}}'
    )


def names(root):
    return sorted(folder.name for folder in (root / "pump").iterdir())


def test_answered_windows_never_take_an_alarms_place(tmp_path):
    for n in range(3):
        fill(tmp_path, "pump", f"a{n}", age_days=10 + n)
    for n in range(9):
        fill(tmp_path, "pump", f"window-{n}-5", age_days=n)
        answered(tmp_path, "pump", f"window-{n}-5", "normal" if n % 2 else "anomalous")
    config = CONFIG.model_copy(update={"keep_alarms": 3, "keep_windows": 5})
    prune(tmp_path, config, now=time.time())
    # Those that wait to join the bank stay the longest.
    assert names(tmp_path) == ["a0", "a1", "a2", *(f"window-{n}-5" for n in (0, 1, 3, 5, 7))]


def test_of_alarms_those_that_were_seen_go_first_and_the_unacknowledged_last(tmp_path):
    for n in range(4):
        fill(tmp_path, "pump", f"a{n}", age_days=10 - n)
    mark_seen(tmp_path, "pump", "a3")
    answered(tmp_path, "pump", "a2", "anomalous")
    answered(tmp_path, "pump", "a1")
    for kept in (["a0", "a1", "a3"], ["a0", "a1"], ["a0"]):
        config = CONFIG.model_copy(update={"keep_alarms": len(kept)})
        prune(tmp_path, config, now=time.time())
        assert names(tmp_path) == kept


def test_a_full_disk_takes_windows_before_alarms(tmp_path, monkeypatch):
    fill(tmp_path, "pump", "a0", age_days=9)
    fill(tmp_path, "pump", "window-1-5")
    answered(tmp_path, "pump", "window-1-5")
    size = sum(kept.size for kept in survey(tmp_path))
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: SimpleNamespace(total=(size - 1) / CONFIG.disk_share, free=0)
    )
    prune(tmp_path, CONFIG, now=time.time())
    assert names(tmp_path) == ["a0"]


def test_no_more_windows_are_kept_than_may_wait(tmp_path):
    for n in range(3):
        fill(tmp_path, "pump", f"window-{n}-5")
    answered(tmp_path, "pump", "window-0-5")
    answered(tmp_path, "pump", "window-1-5")
    make_room(tmp_path, "pump", 3)  # the one that does not wait goes
    assert names(tmp_path) == ["window-0-5", "window-1-5"]
    with pytest.raises(AuscultError, match="2 answered windows of 'pump' wait"):
        make_room(tmp_path, "pump", 2)


def test_room_is_asked_of_the_nearest_folder(tmp_path):
    assert has_room(tmp_path / "not" / "yet", 0.0)
    assert not has_room(tmp_path, 0.0, more=1 << 62)


@pytest.mark.parametrize("alarm", ["", "..", "../x", "a/b", "a" * 65, ".hidden", "a\0b", "a b"])
def test_an_alarm_id_leads_nowhere_else(tmp_path, alarm):
    with pytest.raises(AuscultError, match="not the id"):
        alarm_folder(tmp_path, "pump", alarm)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"alarm_id": 1}', b"[" * 100_000]
)
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(AuscultError, match=r"evidence\.json"):
        read_record(tmp_path)


def decode_png(data):
    """Pixels of an indexed PNG, and their colours."""
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "P"
        return np.asarray(picture), np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_the_picture_shows_a_tone_where_it_is(rate):
    seconds, hertz = 10, rate / 8
    time_ = np.arange(seconds * rate) / rate
    sound = 0.3 * np.sin(2 * np.pi * hertz * time_) * (time_ >= 5)
    sound += 1e-4 * np.random.default_rng(0).standard_normal(len(sound))
    pixels, colours = decode_png(spectrogram_png(sound.astype(np.float32), rate, marks=[5.0]))
    plot = pixels[30 : 30 + HEIGHT, 56 : 56 + WIDTH].astype(int)
    # A quarter of the way up (an eighth of the rate is a quarter of its half).
    line = np.argmax(plot[:, 3 * WIDTH // 4])
    assert line == pytest.approx(HEIGHT * 0.75, abs=4)
    assert plot[line, 3 * WIDTH // 4] > 200
    assert plot[line, WIDTH // 4] < 120
    assert (colours[30 : 30 + HEIGHT, 56 + WIDTH // 2] == (80, 220, 255)).all()  # the mark


def test_the_title_and_the_labels_are_smooth_and_leave_the_plot_alone():
    sound = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    plain, _ = decode_png(spectrogram_png(sound, 16000))
    titled, colours = decode_png(spectrogram_png(sound, 16000, title="2026-11-29T12:40:19Z Grün"))
    changed = plain != titled
    assert changed[:30].sum() > 200
    assert not changed[30:].any()
    greys = {tuple(colour) for colour in colours[:30][changed[:30]]}
    assert len(greys) > 5  # antialiased
    assert all(red == green == blue for red, green, blue in greys)


def test_what_draws_is_loaded_by_a_picture_alone():
    code = (
        "import sys, agent.service, numpy; assert not [m for m in sys.modules if m == 'PIL']; "
        "from agent.evidence.spectrogram import spectrogram_png; "
        "spectrogram_png(numpy.zeros(9, numpy.float32), 8000); assert 'PIL.Image' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pictures_of_odd_sound_do_not_fail():
    for sound in (
        np.zeros(1, np.float32),
        np.full(100, np.nan, np.float32),
        np.zeros(20_000, np.float32),
        np.full(20_000, 3e38, np.float32),
    ):
        decode_png(spectrogram_png(sound, 16000))
    assert power_db(np.ones(5000, np.float32), 16000).shape[1] == WIDTH


def test_short_blocks_are_kept_a_second_at_a_time_and_cut_anywhere():
    rng = np.random.default_rng(0)
    exact = np.rint(rng.uniform(-1, 1, 10 * RATE) * 9000).astype(np.float32) / 32768
    ring, size = AudioRing(5.0), RATE // 4 + 1
    for start in range(0, len(exact), size):
        # A clock that is not quite even.
        ring.hear(block(exact[start : start + size], start / RATE + rng.uniform(0, 1e-5)))
        heard = min(start + size, len(exact))
        for back in (1, size, RATE, 3 * RATE):
            clip = ring.cut((heard - back) / RATE, heard / RATE)
            np.testing.assert_array_equal(clip.samples, exact[max(0, heard - back) : heard])
            assert not clip.gaps
    assert 5 * RATE <= ring.held <= 6 * RATE + size
    assert len(ring._kept()) <= 6 + 3
    np.testing.assert_array_equal(ring.latest(2.0).samples, exact[-2 * RATE :])


def test_sound_after_a_gap_or_at_another_time_is_not_joined():
    ring = AudioRing(60.0)
    step = RATE // 4
    ring.hear(block(np.full(step, 0.25, np.float32), 0.0))
    ring.hear(block(np.full(step, 0.5, np.float32), 7.0, gap=True))
    ring.hear(block(np.full(step, 0.75, np.float32), 9.0))
    assert ring.cut(0.0, 0.25).samples.max() == 0.25
    assert ring.cut(7.0, 7.25).samples.min() == ring.cut(7.0, 7.25).samples.max() == 0.5
    assert ring.cut(9.0, 9.25).samples.min() == 0.75
    (gap,) = ring.cut(0.0, 8.0).gaps
    assert (gap.at, gap.seconds) == (0.25, 6.75)
