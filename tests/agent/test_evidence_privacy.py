"""Privacy of evidence: who may read it, sound that is not kept, speech that is taken out."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import numpy as np
import pytest
import scipy.signal
import soundfile
from test_evidence import CONFIG, play, settle

from agent.bank.sound import alarm_sound
from agent.config.evidence import EvidenceConfig
from agent.config.foreign import ForeignConfig
from agent.core.errors import AuscultError
from agent.evidence.privacy import SpeechRemover
from agent.evidence.record import PICTURE, RECORD, SOUND, EvidenceRecord, JudgedWindow, read_record
from agent.evidence.recorder import EvidenceRecorder
from agent.evidence.ring import Clip
from agent.evidence.write import EvidenceWriter
from agent.foreign.spectrum import movement

RATE = 16_000
SENTENCE = "Have you heard that the whole night shift wants to leave before the end of the month?"


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of a gliding pitch through three formants, some four a second."""
    rng = np.random.default_rng(seed)
    size = round(seconds * RATE)
    time = np.arange(size) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.6 * time) + 10 * np.sin(2 * np.pi * 2.1 * time)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0)
    sound = np.zeros(size)
    for hertz, width in ((600, 90), (1300, 120), (2500, 160)):
        radius = np.exp(-np.pi * width / RATE)
        poles = [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2]
        sound += scipy.signal.lfilter([1 - radius], poles, pulses)
    beat = np.zeros(size)
    at = 0.0
    while at < seconds:
        length = rng.uniform(0.14, 0.22)
        part = slice(round(at * RATE), round((at + length) * RATE))
        beat[part] = np.hanning(len(beat[part]))
        at += length + rng.uniform(0.03, 0.1)
    sound *= beat
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


def machine(seconds: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.01 * rng.normal(size=round(seconds * RATE))).astype(np.float32)


def clip_of(samples) -> Clip:
    return Clip(samples, RATE, 100.0, 1e9)


def record_of(clip, *starts) -> EvidenceRecord:
    window = {"time": "", "validity": "valid", "score": 1.0, "exceeded": True, "whole": True}
    return EvidenceRecord(
        alarm_id="a", device="d", machine="m", raised="", raised_at=0.0, complete=True,
        threshold=1.0, score=2.0, sound_start="", rate=RATE, seconds=clip.seconds,
        windows=tuple(JudgedWindow(start=start, seconds=5.0, **window) for start in starts),
    )  # fmt: skip


def taken_out(sound, handling, foreign=None):
    clip = clip_of(sound)
    remover = SpeechRemover(handling, foreign or ForeignConfig())
    return remover(clip, record_of(clip, 0.0, 12.0, 25.0))


def octaves(sound) -> np.ndarray:
    """Level by octave from 125 Hz, dB."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    edges = 88 * 2.0 ** np.arange(7)
    return np.array(
        [10 * np.log10(power[(hertz >= a) & (hertz < 2 * a)].sum()) for a in edges[:-1]]
    )


@pytest.mark.parametrize("handling", ["blur", "drop"])
def test_speech_is_taken_out_and_the_rest_is_as_it_was(handling):
    sound = machine(30)
    sound[12 * RATE : 18 * RATE] += voice(6)
    clip, record = taken_out(sound, handling)
    (removed,) = record.speech
    assert record.speech_by == "rhythm"
    assert removed.at <= 12.0
    assert 17.5 <= removed.at + removed.seconds <= 24.0
    first, last = round(removed.at * RATE), round((removed.at + removed.seconds) * RATE)
    untouched = np.r_[0:first, last : len(sound)]
    assert np.array_equal(clip.samples[untouched], sound[untouched])
    assert [window.whole for window in record.windows] == [True, False, True]
    there = slice(12 * RATE, 18 * RATE)
    if handling == "drop":
        assert not clip.samples[there].any()
    else:
        # What the machine or a voice sounds like on the whole is kept; what is said is not.
        assert np.abs(octaves(clip.samples[there]) - octaves(sound[there])).max() < 3.0
        assert movement(sound[there], RATE)[0] > 2 * movement(clip.samples[there], RATE)[0]
    # The same alarm written again gives the same.
    assert np.array_equal(taken_out(sound, handling)[0].samples, clip.samples)


def test_a_machine_alone_keeps_its_sound():
    time = np.arange(30 * RATE) / RATE
    for sound in (
        machine(30),
        machine(30) + 0.05 * np.sin(2 * np.pi * 150 * time),
        machine(30) * (1 + 0.8 * np.sin(2 * np.pi * 0.7 * time)),
    ):
        clip, record = taken_out(sound.astype(np.float32), "drop")
        assert record.speech == ()
        assert record.speech_by == "rhythm"
        assert np.array_equal(clip.samples, sound.astype(np.float32))


def test_kept_unless_it_is_asked_for():
    sound = machine(30) + voice(30)
    clip, record = taken_out(sound, "keep")
    assert (record.speech, record.speech_by) == ((), "")
    assert clip.samples is sound


@pytest.mark.parametrize("level", [0, -10])
def test_a_detector_finds_a_sentence(shared, tmp_path, level):
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        pytest.skip("espeak-ng is not installed (apt-get install espeak-ng)")
    model = shared / "weights" / "silero_vad.onnx"
    if not model.exists():
        pytest.skip("silero_vad.onnx is not among the weights")
    subprocess.run([espeak, "-w", tmp_path / "s.wav", SENTENCE], check=True)
    said, rate = soundfile.read(tmp_path / "s.wav", dtype="float32")
    said = scipy.signal.resample_poly(said, RATE, rate).astype(np.float32)
    sound = machine(30)
    said *= 10 ** (level / 20) * sound.std() / said.std() * 4
    sound[12 * RATE : 12 * RATE + len(said)] += said
    _, record = taken_out(sound, "blur", ForeignConfig(speech=model))
    assert record.speech_by == "detector"
    covered = sum(one.seconds for one in record.speech)
    assert 0.9 * len(said) / RATE <= covered <= len(said) / RATE + 4
    assert all(10.5 <= one.at <= 12 + len(said) / RATE for one in record.speech)


def test_a_detector_that_cannot_be_run_leaves_the_rhythm(tmp_path, caplog):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    sound = machine(30)
    sound[12 * RATE : 18 * RATE] += voice(6)
    _, record = taken_out(sound, "drop", ForeignConfig(speech=tmp_path / "x.onnx"))
    assert record.speech_by == "rhythm"
    assert record.speech
    assert "by its rhythm alone" in caplog.text


def test_what_holds_sound_is_for_its_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        writer = EvidenceWriter(tmp_path / "state" / "evidence", CONFIG)
        writer.start()
        play(EvidenceRecorder("dev", "pump", writer))
        settle(writer)
        writer.stop()
    finally:
        os.umask(before)
    folder = tmp_path / "state" / "evidence" / "pump" / "a1"
    for path in (folder, folder.parent, folder.parent.parent, folder.parent.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in (SOUND, PICTURE, RECORD):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_no_sound_at_all_where_none_is_to_be_kept(tmp_path):
    config = EvidenceConfig(before_seconds=3, during_seconds=2, sound="none")
    writer = EvidenceWriter(tmp_path / "evidence", config)
    writer.start()
    play(EvidenceRecorder("dev", "pump", writer))
    settle(writer)
    writer.stop()
    folder = tmp_path / "evidence" / "pump" / "a1"
    assert {path.name for path in folder.iterdir()} == {PICTURE, RECORD}
    assert read_record(folder).sound == "none"
    with pytest.raises(AuscultError, match="no sound of this alarm was kept"):
        alarm_sound(folder)
