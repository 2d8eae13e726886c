"""Recordings opened and judged before training: the unfit are named, the fit are used."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import soundfile
from rich.console import Console
from rich.progress import Progress

from agent.core.errors import AudioError, ConfigError
from agent.recordings.inspect import inspect_file
from agent.recordings.load import load_machines
from agent.recordings.summary import print_summary

RATE = 8000


def noise(seconds=2.0, level=0.05, seed=0, channels=None):
    shape = int(RATE * seconds) if channels is None else (int(RATE * seconds), channels)
    return np.random.default_rng(seed).normal(0, level, shape)


def write(path, samples, rate=RATE, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def dcase(root, *machines):
    for machine in machines:
        write(root / machine / "train" / "section_00_source_train_normal_0001_spd_1.wav", noise())
        write(
            root / machine / "train" / "section_00_target_train_normal_0002_spd_2.wav",
            noise(seed=1),
        )
        write(
            root / machine / "test" / "section_00_source_test_anomaly_0001_spd_1.wav", noise(seed=2)
        )
    return root


def spoil(folder):
    """One file of each fault; returns name -> a word of its reason."""
    nan = noise()
    nan[99] = np.nan
    half = noise(30)
    half[: 10 * RATE] = 0
    write(folder / "silent.wav", np.zeros(2 * RATE))
    write(folder / "constant.wav", np.full(2 * RATE, 0.25))
    write(folder / "clipped.wav", noise(level=1.0))
    write(folder / "nan.wav", nan, subtype="FLOAT")
    write(folder / "short.wav", noise(0.5))
    write(folder / "gap.wav", np.where(np.arange(2 * RATE) // RATE, noise(), 0))
    write(folder / "half_silent.wav", half)
    write(folder / "header_only.wav", noise()[:0])
    (folder / "empty.wav").touch()
    (folder / "junk.flac").write_bytes(b"this is no sound" * 99)
    flac = write(folder / "cut.flac", noise(60)).read_bytes()
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    wav = write(folder / "cut.wav", noise(20)).read_bytes()
    (folder / "cut.wav").write_bytes(wav[: len(wav) // 2])
    return {
        "silent.wav": "microphone", "constant.wav": "microphone", "clipped.wav": "clipped",
        "nan.wav": "NaN", "short.wav": "0.50 s", "gap.wav": "lost", "half_silent.wav": "microphone",
        "header_only.wav": "no samples", "empty.wav": "empty", "junk.flac": "decoded",
        "cut.flac": "", "cut.wav": "cut short",
    }  # fmt: skip


def test_unfit_files_are_skipped_and_named(tmp_path):
    write(tmp_path / "pump" / "normal" / "good.wav", noise())
    expected = spoil(tmp_path / "pump" / "normal")
    (machine,) = load_machines(tmp_path / "pump")
    assert [r.path.name for r in machine.recordings] == ["good.wav"]
    assert {fault.path.name for fault in machine.rejected} == set(expected)
    for fault in machine.rejected:
        assert expected[fault.path.name] in fault.reason
        assert fault.remedy


def test_refusing_names_every_file_at_once(tmp_path):
    write(tmp_path / "pump" / "normal" / "good.wav", noise())
    expected = spoil(tmp_path / "pump" / "normal")
    with pytest.raises(AudioError) as fault:
        load_machines(tmp_path / "pump", on_bad="refuse")
    assert all(name in str(fault.value) for name in expected)
    assert "good.wav" not in str(fault.value)


def test_nothing_fit_is_an_error_with_the_reasons(tmp_path):
    spoil(tmp_path / "pump" / "normal")
    with pytest.raises(AudioError, match="no healthy recording is usable") as fault:
        load_machines(tmp_path / "pump")
    assert "clipped.wav" in str(fault.value)
    assert str(fault.value).splitlines()[-1] == "Mend at least one of them."


def test_unfit_test_files_do_not_stop_training(tmp_path):
    write(tmp_path / "pump" / "normal" / "good.wav", noise())
    write(tmp_path / "pump" / "test" / "anomaly" / "bad.wav", np.zeros(2 * RATE))
    (machine,) = load_machines(tmp_path / "pump")
    assert len(machine.recordings) == len(machine.rejected) == 1


def test_a_long_recording_survives_a_short_fault_but_not_a_bad_number(tmp_path):
    sound = noise(200)
    sound[50 * RATE : 52 * RATE] = 0
    assert inspect_file(write(tmp_path / "a.wav", sound)) is None
    sound[100 * RATE : 120 * RATE] = 0
    assert "3 of its 20 pieces" in inspect_file(write(tmp_path / "b.wav", sound)).reason
    sound = noise(200)
    sound[150 * RATE] = np.inf
    reason = inspect_file(write(tmp_path / "c.wav", sound, subtype="FLOAT")).reason
    assert "infinite" in reason
    assert "150 s" in reason


def test_the_channel_in_use_is_the_one_judged(tmp_path):
    sound = noise(channels=2)
    sound[:, 1] = np.clip(sound[:, 1] * 30, -1, 1)
    path = write(tmp_path / "pump" / "normal" / "a.wav", sound)
    assert inspect_file(path, 0) is None
    assert "clipped" in inspect_file(path, 1).reason
    assert "channel 1" in inspect_file(path, None).reason  # an average would hide it
    assert "no channel 2" in inspect_file(path, 2).reason
    assert len(load_machines(tmp_path / "pump", channel=0)) == 1
    with pytest.raises(AudioError, match="no channel 5"):
        load_machines(tmp_path / "pump", channel=5)


@pytest.mark.parametrize("role", ["normal", "test/anomaly"])
def test_a_channel_that_no_recording_of_a_kind_has_is_an_error_not_a_table(tmp_path, role):
    for other in {"normal", "test/anomaly"} - {role}:
        write(tmp_path / "pump" / other / "a.wav", noise(channels=2))
    for n in range(3):
        write(tmp_path / "pump" / role / f"{n}.wav", noise(seed=n))
    with pytest.raises(AudioError, match=r"none of the 3 .* has a channel 1: .* the file has 1"):
        load_machines(tmp_path / "pump", channel=1)
    write(tmp_path / "pump" / role / "3.wav", noise(channels=2))
    (machine,) = load_machines(tmp_path / "pump", channel=1)
    assert len(machine.rejected) == 3


def test_a_part_of_a_machine_is_not_taken_for_one(tmp_path):
    for role in ("normal", "test/normal", "test/anomaly"):
        write(tmp_path / "pump7" / role / "a.wav", noise())
    dcase(tmp_path, "fan")
    for part in ("pump7/test", "pump7/normal", "fan/train", "fan/test"):
        with pytest.raises(ConfigError, match="is a part of the machine") as fault:
            load_machines(tmp_path / part)
        assert str(tmp_path / part.partition("/")[0]) in fault.value.remedy
    # A machine may be called so, and a folder of machines, where no other machine is around it.
    dcase(tmp_path / "data" / "train", "valve")
    assert [m.name for m in load_machines(tmp_path / "data" / "train")] == ["valve"]
    write(tmp_path / "plant" / "test" / "normal" / "a.wav", noise())
    assert [m.name for m in load_machines(tmp_path / "plant" / "test")] == ["test"]


@pytest.mark.parametrize("level", ["", "raw", "dev_data/raw", "eval_data/raw"])
def test_machines_are_found_where_dcase_puts_them(tmp_path, level):
    dcase(tmp_path / level, "fan", "Valve", "bearing")
    machines = load_machines(tmp_path)
    assert [m.name for m in machines] == ["Valve", "bearing", "fan"]
    assert all(len(m.of("normal")) == 2 and len(m.of("test")) == 1 for m in machines)
    for machine in machines:
        assert machine.root == tmp_path / level / machine.name
        assert all(r.path.is_relative_to(machine.root) for r in machine.recordings)


def test_machines_are_chosen_by_name_and_only_those_opened(tmp_path):
    dcase(tmp_path, "fan", "valve")
    (tmp_path / "valve" / "train" / "section_00_source_train_normal_0003.wav").write_bytes(b"junk")
    (machine,) = load_machines(tmp_path, ["fan"], on_bad="refuse")
    assert machine.name == "fan"
    with pytest.raises(ConfigError, match=r"no machine 'pump'.*It holds fan, valve"):
        load_machines(tmp_path, ["fan", "pump"])


def test_a_machine_folder_itself_is_accepted(tmp_path, monkeypatch):
    dcase(tmp_path, "fan")
    assert [m.name for m in load_machines(tmp_path / "fan")] == ["fan"]
    monkeypatch.chdir(tmp_path / "fan" / "train")
    assert [m.name for m in load_machines("..")] == ["fan"]


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_another_folder_is_refused_with_the_layouts(tmp_path, kind):
    root = tmp_path / "x"
    if kind == "file":
        root.touch()
    elif kind != "missing":
        root.mkdir()
    with pytest.raises(ConfigError) as fault:
        load_machines(root)
    assert fault.value.where == str(root)
    if kind == "empty":
        assert "normal/" in fault.value.remedy
        assert "train/section_00" in fault.value.remedy


def test_an_empty_normal_folder_is_told(tmp_path):
    (tmp_path / "pump" / "normal").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no healthy recordings"):
        load_machines(tmp_path / "pump")


def test_the_same_machine_twice_is_told(tmp_path):
    dcase(tmp_path / "dev_data", "fan")
    dcase(tmp_path / "eval_data", "fan")
    with pytest.raises(ConfigError, match="'fan' is there twice"):
        load_machines(tmp_path)


def test_progress_counts_every_file(tmp_path):
    dcase(tmp_path, "fan")
    with Progress(console=Console(file=io.StringIO())) as progress:
        load_machines(tmp_path, progress=progress)
    (task,) = progress.tasks
    assert task.completed == task.total == 3


def test_the_summary_says_what_there_is_and_what_is_not(tmp_path):
    dcase(tmp_path, "fan")
    write(tmp_path / "fan" / "test" / "section_00_0007.wav", noise())
    write(tmp_path / "fan" / "train" / "[bold]dead.wav", np.zeros(2 * RATE))
    console = Console(file=io.StringIO(), width=200)
    print_summary(load_machines(tmp_path), console)
    text = console.file.getvalue()
    assert "2 (1 source, 1 target)" in text
    assert "spd: 1, 2" in text
    assert "unknown" in text
    assert "fan/train/[bold]dead.wav" in text
    assert "Check the microphone" in text


def test_no_heading_is_cut_off_in_80_columns(tmp_path):
    write(tmp_path / "pump" / "normal" / "0.wav", noise())
    console = Console(file=io.StringIO(), width=80)
    print_summary(load_machines(tmp_path), console)
    said = console.file.getvalue()
    assert all(word in said for word in ("machine", "healthy", "noise", "anomaly", "attributes"))
    assert "…" not in said
    assert "┓" in said  # the right edge


def test_a_file_that_cannot_be_read_hides_no_channel_that_is_missing(tmp_path):
    for n in range(3):
        write(tmp_path / "pump" / "normal" / f"{n}.wav", noise())
    (tmp_path / "pump" / "normal" / "00.wav").write_bytes(b"RIFF")
    with pytest.raises(
        AudioError, match="none of the 4 healthy recordings of pump has a channel 1"
    ):
        load_machines(tmp_path / "pump", channel=1)


def test_what_becomes_of_recordings_shorter_than_a_window_is_said(tmp_path):
    for n, seconds in enumerate((10, 10, 1)):
        write(tmp_path / "pump" / "normal" / f"{n}.wav", noise(seconds))
    write(tmp_path / "pump" / "test" / "anomaly" / "a.wav", noise(4))
    console = Console(file=io.StringIO(), width=400)
    machines = load_machines(tmp_path)
    print_summary(machines, console, window_seconds=10.0)
    said = " ".join(console.file.getvalue().split())
    assert "pump: 2 recordings shorter than the 10 s that are heard at once" in said
    assert "(the shortest: 2.wav, 1 s): each is repeated until it fills them" in said
    console = Console(file=io.StringIO(), width=400)
    print_summary(machines, console, window_seconds=1.0)
    assert "shorter" not in console.file.getvalue()


@pytest.mark.shared
def test_real_layouts(shared):
    machines = {m.name: m for m in load_machines(shared / "data" / "dcase2023_samples")}
    assert set(machines) == {"ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"}
    assert all(len(m.recordings) == 4 and not m.rejected for m in machines.values())
    names = {name: set(m.of("normal")[0].attributes) for name, m in machines.items()}
    assert names == {
        "ToyCar": {"car", "spd", "mic"}, "ToyTrain": {"car", "spd", "mic"},
        "bearing": {"vel", "loc"}, "fan": {"m-n"}, "gearbox": {"volt", "wt"},
        "slider": {"vel", "ac"}, "valve": {"pat"},
    }  # fmt: skip


@pytest.mark.shared
def test_a_plain_folder_of_links_to_real_recordings(shared, tmp_path):
    drone = tmp_path / "drone"
    (drone / "test").mkdir(parents=True)
    (drone / "normal").symlink_to(shared / "data" / "upaad" / "normal")
    (drone / "test" / "anomaly").symlink_to(shared / "data" / "upaad" / "broken")
    (machine,) = load_machines(drone)
    assert (len(machine.of("normal")), len(machine.of("test")), machine.rejected) == (8, 4, ())
    assert {r.label for r in machine.of("test")} == {"anomaly"}


def test_names_that_are_no_utf8_are_left_out_by_name_wherever_they_lie(tmp_path):
    root = tmp_path / "pump"
    write(root / "normal" / "a.wav", noise())
    for place in ("normal", "test/normal", "elsewhere"):
        write(root / place / "b.wav", noise(seed=3))
        (root / place / "b.wav").rename(os.fsdecode(os.fsencode(root / place) + b"/l\xe4uft.wav"))
    (machine,) = load_machines(root)
    assert [r.path.name for r in machine.recordings] == ["a.wav"]
    left = {one.path.relative_to(root).as_posix(): one.reason for one in machine.rejected}
    assert set(left) == {
        rf"{place}/l\xe4uft.wav" for place in ("normal", "test/normal", "elsewhere")
    }
    # Whatever is printed or written of them is text.
    output = io.StringIO()
    print_summary([machine], Console(file=output, width=200))
    output.getvalue().encode("utf-8")
    json.dumps(left).encode("utf-8")
