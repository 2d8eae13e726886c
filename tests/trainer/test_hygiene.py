"""The stage between reading and training: copies, contamination, mixtures, channels, promises."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner

from agent.core import fourier
from agent.core.errors import AudioError
from agent.hygiene.duplicates import find_twins
from agent.hygiene.measure import measure
from agent.hygiene.outliers import find_apart
from agent.hygiene.stage import inspect_machine, refuse_untypical
from agent.recordings.load import load_machines
from trainer.commands.inspect import inspect as inspect_command

RATE = 16000
TIMES = np.arange(10 * RATE) / RATE


def machine_sound(random, seconds=10):
    """A steady machine: noise with a slow swing, and hum near 50 Hz."""
    t = TIMES[: seconds * RATE]
    noise = 0.05 * random.normal(size=len(t)) * (1 + 0.2 * np.sin(13 * t))
    return noise + 0.05 * np.sin(2 * np.pi * random.uniform(49, 51) * t)


def write(path, sound, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
    return path


def folder(root, count=8, tests=0, seed=0):
    random = np.random.default_rng(seed)
    for n in range(count):
        write(root / "normal" / f"{n:02}.wav", machine_sound(random))
    for n in range(tests):
        write(root / "test" / "normal" / f"{n:02}.wav", machine_sound(random))
    return root


def inspected(root, **how):
    (machine,) = load_machines(root, channel=how.get("channel"))
    return inspect_machine(machine, **how)


def texts(inspection, kind):
    return " / ".join(note.text for note in inspection.record.notes if note.kind == kind)


def test_a_device_without_scipy_measures_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", machine_sound(np.random.default_rng(0)))
    monkeypatch.setattr(fourier, "_transform", np.fft.rfft)
    plain = measure(path)
    assert not fourier.by_scipy()
    fourier.use_scipy()
    assert fourier.by_scipy()
    fast = measure(path)

    assert len(fast.words) > 100
    assert (fast.words == plain.words).mean() > 0.999  # a sign may turn where there is a tie
    np.testing.assert_allclose(fast.shape, plain.shape, atol=2e-3)


def test_copies_are_counted_once_and_the_original_stays(tmp_path):
    root = folder(tmp_path / "pump", 6)
    for path in sorted((root / "normal").iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem} (1).wav"))
    found = inspected(root)
    assert [r.path.name for r in found.machine.of("normal")] == [f"{n:02}.wav" for n in range(6)]
    assert len(found.record.duplicates) == 6
    assert "6 recordings with sound that is in another one" in texts(found, "duplicates")
    assert "same sound as normal/00.wav" in found.record.duplicates["normal/00 (1).wav"]


def test_a_test_recording_that_is_learnt_from_tests_nothing(tmp_path):
    root = folder(tmp_path / "pump", 6, tests=3)
    shutil.copy(root / "normal/02.wav", root / "test/normal/00.wav")
    found = inspected(root)
    assert [r.path.name for r in found.machine.of("test")] == ["01.wav", "02.wav"]
    assert "tests nothing" in found.record.duplicates["test/normal/00.wav"]


def test_sound_called_healthy_and_faulty_is_in_neither(tmp_path):
    root = folder(tmp_path / "pump", 6)
    (root / "test/anomaly").mkdir(parents=True)
    shutil.copy(root / "normal/02.wav", root / "test/anomaly/bad.wav")
    found = inspected(root)
    assert len(found.machine.recordings) == 5
    assert "called faulty" in found.record.duplicates["normal/02.wav"]
    assert "one of the two names is wrong" in found.record.duplicates["test/anomaly/bad.wav"]


def changed(path, sound, how):
    if how in {"mp3", "opus", "m4a"}:
        if shutil.which("ffmpeg") is None:
            pytest.skip("needs ffmpeg")
        bits = {"mp3": "64k", "opus": "48k", "m4a": "64k"}[how]
        out = path.with_suffix(f".{how}")
        write(path, sound)
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-i", str(path), "-b:a", bits, str(out)], check=True
        )
        return out
    if how == "48 kHz":
        return write(path, soxr.resample(sound, RATE, 48000), 48000)
    if how == "flac":
        soundfile.write(path, sound, RATE, subtype="PCM_16")
        kept, _ = soundfile.read(path, dtype="int16")
        path.unlink()
        return write(path.with_suffix(".flac"), kept)
    return write(
        path,
        {"level": 0.3 * sound, "inverted": -sound, "shifted": sound[int(0.737 * RATE) :]}[how],
    )


@pytest.mark.parametrize(
    "how", ["flac", "level", "inverted", "shifted", "48 kHz", "mp3", "opus", "m4a"]
)
def test_near_copies_are_proven_by_their_waveform(tmp_path, how):
    random = np.random.default_rng(1)
    sounds = [machine_sound(random) for _ in range(3)]
    paths = [write(tmp_path / f"{n}.wav", sound) for n, sound in enumerate(sounds)]
    paths.append(changed(tmp_path / "copy.wav", sounds[1], how))
    (twin,) = find_twins([measure(path) for path in paths])
    assert (twin.first, twin.second) == (1, 3)
    assert twin.exact == (how == "flac")
    assert twin.correlation > 0.9
    assert twin.shift == pytest.approx(0.737 if how == "shifted" else 0.0, abs=0.05)


def test_a_shared_hum_makes_no_copies(tmp_path):
    """Two minutes of the same tone, 40 dB above the rooms' own noise, differ in all other bands."""
    random = np.random.default_rng(2)
    hum = 0.3 * np.sin(2 * np.pi * 100 * TIMES)
    paths = [
        write(tmp_path / f"{n}.wav", hum + 0.003 * random.normal(size=len(TIMES))) for n in range(6)
    ]
    assert find_twins([measure(path) for path in paths]) == []


@pytest.mark.shared
@pytest.mark.parametrize(
    "places",
    ["dcase2023/ToyCar/train", "motors", "mimii_fan00", "compressor/off", "compressor/run"],
)
def test_distinct_recordings_of_steady_machines_are_no_copies(shared, places):
    files = sorted((shared / "data" / places).rglob("*.flac"))[:60]
    assert len(files) > 30
    assert find_twins([measure(path) for path in files]) == []


def contaminated(root):
    folder(root, 24)
    fault = machine_sound(np.random.default_rng(9)) + 0.03 * np.sin(2 * np.pi * 4300 * TIMES)
    write(root / "normal/99.wav", fault)
    return root


def test_one_faulty_recording_is_named_and_refused_unless_decided_on(tmp_path):
    root = contaminated(tmp_path / "pump")
    found = inspected(root)
    (bad,) = found.record.untypical
    assert bad.path == "normal/99.wav"
    assert bad.times > 20
    with pytest.raises(
        AudioError, match=r"(?s)normal/99\.wav: \d+ times as far.*--untypical leave-out"
    ):
        refuse_untypical(found)
    for how, count in (("keep", 25), ("leave-out", 24)):
        found = inspected(root, untypical=how)
        refuse_untypical(found)
        assert len(found.machine.of("normal")) == count


@pytest.mark.parametrize("seed", range(5))
def test_healthy_sound_alone_is_never_called_untypical(tmp_path, seed):
    assert inspected(folder(tmp_path / "pump", 12, seed=seed)).record.untypical == ()


def test_a_few_apart_are_found_and_a_tenth_at_most():
    rest = np.linspace(1.0, 1.2, 40)
    assert [one.place for one in find_apart(np.append(rest, [9.0, 8.0]))] == [40, 41]
    assert find_apart(np.append(rest, [9.0] * 9)) == []
    assert find_apart([1.0, 1.0, 1.0, 9.0]) == []


def test_mixtures_are_told_by_name(tmp_path):
    root = folder(tmp_path / "pump", 6, tests=2)
    random = np.random.default_rng(5)
    sound = machine_sound(random)
    write(root / "normal/r.wav", soxr.resample(sound, RATE, 48000), 48000)
    narrow = soxr.resample(soxr.resample(machine_sound(random), RATE, 8000), 8000, RATE)
    write(root / "normal/n.wav", narrow)
    write(root / "normal/q.wav", 0.01 * machine_sound(random))
    write(root / "normal/d.wav", machine_sound(random) + 0.03)
    write(root / "test/normal/r.wav", soxr.resample(machine_sound(random), RATE, 44100), 44100)
    found = inspected(root)
    assert "16000 Hz (9), 48000 Hz (1)" in texts(found, "rate")
    assert "normal/r.wav" in texts(found, "rate")
    assert "normal/n.wav" in texts(found, "bandwidth")
    assert "44100 Hz" in texts(found, "test")
    assert "normal/q.wav" in texts(found, "level")
    assert "3.0%" in texts(found, "offset")
    assert "drift needs 32" in texts(found, "promise")
    conditions = found.record.conditions
    assert conditions.sample_rates == (16000, 48000)
    assert conditions.clip_seconds == (10.0, 10.0)
    assert conditions.bandwidth_range_hz[0] == pytest.approx(3850, rel=0.03)


def test_each_channel_is_judged(tmp_path):
    random = np.random.default_rng(0)

    def stereo(name, second):
        root = tmp_path / name
        for n in range(6):
            sound = machine_sound(random)
            write(root / "normal" / f"{n}.wav", np.stack([sound, second(sound)], 1))
        return root

    dead = inspected(stereo("dead", lambda x: 1e-3 * x))
    assert "channel 1 is 60 dB quieter" in texts(dead, "channels")
    assert "--channel 0" in texts(dead, "channels")
    assert dead.record.conditions.channel_levels_db == (0.0, pytest.approx(-60, abs=1))
    hum = inspected(
        stereo("hum", lambda x: 0.05 * np.sin(2 * np.pi * 50 * TIMES) + 1e-4 * np.roll(x, 99))
    )
    assert "channel 1 holds nothing but mains hum" in texts(hum, "channels")
    with pytest.raises(AudioError, match="channels 0 and 1 cancel each other"):
        load_machines(stereo("inverted", lambda x: -x))
    fine = inspected(stereo("fine", lambda x: 0.5 * x + 0.01 * random.normal(size=len(x))))
    assert texts(fine, "channels") == ""


def test_the_command_writes_a_page_and_says_what_training_would_refuse(tmp_path):
    root = contaminated(tmp_path / "pump")
    out = tmp_path / "found"
    done = CliRunner().invoke(inspect_command, [str(root), "--out", str(out)])
    assert done.exit_code == 1
    assert "normal/99.wav" in done.output
    page = (out / "inspect.html").read_text()
    assert "audio/flac" in page
    assert page.index("99.wav") > 0
    record = json.loads((out / "inspect.json").read_text())["pump"]
    assert record["untypical"][0]["path"] == "normal/99.wav"
    shutil.rmtree(root / "normal")
    folder(root, 6)
    assert CliRunner().invoke(inspect_command, [str(root), "--out", str(out)]).exit_code == 0


def test_the_program_ends_with_the_code_that_a_command_asks_for(tmp_path, monkeypatch):
    from agent import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["auscult", "inspect", str(contaminated(tmp_path / "pump"))])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
