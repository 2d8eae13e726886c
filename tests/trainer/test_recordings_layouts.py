"""Folders of recordings to what each file is, from names and CSV alone."""

from __future__ import annotations

import pytest
from rich.console import Console
from support.bundles import tone, write

from agent.core.errors import ConfigError
from agent.core.progress import progress_bar
from agent.recordings.dcase import is_dcase, parse_name, read_attributes, read_dcase
from agent.recordings.load import find_machines, load_machines
from agent.recordings.loose import read_loose
from agent.recordings.plain import is_plain, read_plain


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def place_file(path):
    return touch(path.parent, path.name)


def by_name(machine):
    return {r.path.name: r for r in machine.recordings}


@pytest.mark.parametrize(
    ("stem", "section", "attributes"),
    [
        ("section_00_source_train_normal_0362_car_C2_spd_31V_mic_1", "00", {"car": "C2", "spd": "31V", "mic": "1"}),
        ("section_00_source_test_anomaly_0022_m-n_W", "00", {"m-n": "W"}),
        ("section_00_source_train_normal_0853_vel_500_ac_0.30", "00", {"vel": "500", "ac": "0.30"}),
        ("section_00_source_train_normal_0073_volt_1.5_wt_0", "00", {"volt": "1.5", "wt": "0"}),
        ("section_03_source_train_normal_0001_noAttribute", "03", {}),
        ("section_02_target_train_normal_0000_strength_1_ambient", "02", {"strength": "1", "ambient": ""}),
        ("section_00_source_train_normal_0001", "00", {}),
        ("section_00_0001", "00", {}),
        ("section_00", "00", {}),
        ("normal_id_00_00000000", "00", {}),
        ("id_03_00000012", "03", {}),
        ("recording_03_00000012", "", {}),
    ],
)  # fmt: skip
def test_names(stem, section, attributes):
    parts = parse_name(stem)
    assert (parts.section, parts.attributes) == (section, attributes)


def test_a_dcase_machine(tmp_path):
    folder = touch(
        tmp_path / "fan",
        "train/section_00_source_train_normal_0001_m-n_W.wav",
        "train/section_00_target_train_normal_0002_m-n_X.FLAC",
        "train/._section_00_source_train_normal_0001_m-n_W.wav",
        "train/readme.txt",
        "test/section_00_source_test_normal_0001_m-n_W.wav",
        "test/section_00_target_test_anomaly_0001_m-n_W.wav",
        "test/section_00_0003.wav",
        "supplemental/section_00_source_supplemental_machine_0000.wav",
        "supplemental/section_00_noise_supplemental_normal_0000.wav",
    )
    assert is_dcase(folder)
    assert not is_plain(folder)
    machine = read_dcase(folder)
    assert machine.name == "fan"
    assert machine.rejected == ()
    files = by_name(machine)
    assert len(files) == 7
    said = {
        name: (r.role, r.label, r.domain, r.attributes.get("m-n"), r.section)
        for name, r in files.items()
    }
    assert said == {
        "section_00_source_train_normal_0001_m-n_W.wav": ("normal", None, "source", "W", "00"),
        "section_00_target_train_normal_0002_m-n_X.FLAC": ("normal", None, "target", "X", "00"),
        "section_00_source_test_normal_0001_m-n_W.wav": ("test", "normal", "source", "W", "00"),
        "section_00_target_test_anomaly_0001_m-n_W.wav": ("test", "anomaly", "target", "W", "00"),
        "section_00_0003.wav": ("test", None, "unknown", None, "00"),
        "section_00_source_supplemental_machine_0000.wav": ("clean", None, "source", None, "00"),
        "section_00_noise_supplemental_normal_0000.wav": ("noise", None, "unknown", None, "00"),
    }


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("supplemental/noise/section_00_0001.wav", "noise"),
        ("supplemental/clean_machine/0001.wav", "clean"),
        ("supplemental/noise-only/a.wav", "noise"),
        ("noise/a.wav", "noise"),
        ("clean/section_00_source_clean_normal_0001.wav", "clean"),
        ("idle/a.wav", "idle"),
    ],
)
def test_extras_are_told_from_file_or_folder(tmp_path, path, role):
    machine = read_dcase(
        touch(tmp_path / "fan", "train/section_00_source_train_normal_0001.wav", path)
    )
    (extra,) = [r for r in machine.recordings if r.path == tmp_path / "fan" / path]
    assert extra.role == role


def test_an_attribute_is_not_mistaken_for_a_word(tmp_path):
    """`machine_1`, `noise_low` and `anomaly_0` after the number are conditions."""
    name = "train/section_00_source_train_normal_0001_noise_low_machine_1.wav"
    (recording,) = read_dcase(touch(tmp_path / "fan", name)).recordings
    assert recording.role == "normal"
    assert recording.attributes == {"noise": "low", "machine": "1"}


def test_a_healthy_recording_may_be_called_machine(tmp_path):
    folder = touch(
        tmp_path / "pump",
        "train/machine_0001.wav",
        "train/Pump machine 3.wav",
        "train/section_00_source_supplemental_machine_0000.wav",
    )
    roles = {recording.path.name: recording.role for recording in read_dcase(folder).recordings}
    assert roles == {
        "machine_0001.wav": "normal",
        "Pump machine 3.wav": "normal",
        "section_00_source_supplemental_machine_0000.wav": "clean",
    }


def test_what_contradicts_or_says_nothing_is_left_out(tmp_path):
    machine = read_dcase(
        touch(
            tmp_path / "fan",
            "train/section_00_source_train_anomaly_0001.wav",
            "supplemental/section_00_0001.wav",
        )
    )
    assert machine.recordings == ()
    said = {fault.path.name: fault for fault in machine.rejected}
    assert "noise alone" in said["section_00_0001.wav"].reason
    assert "supplemental/noise/" in said["section_00_0001.wav"].remedy
    assert "learnt as healthy" in said["section_00_source_train_anomaly_0001.wav"].reason


@pytest.mark.parametrize(
    "form", ["{stem}", "train/{stem}.wav", "fan/train/{stem}.wav", "fan\\train\\{stem}.wav"]
)
def test_the_csv_wins_over_the_name(tmp_path, form):
    stem = "section_00_source_train_normal_0001_vel_500_ac_0.30"
    folder = touch(tmp_path / "fan", f"train/{stem}.flac")
    row = form.format(stem=stem)
    (folder / "attributes_00.csv").write_text(
        f"file_name,d1p,d1v,d2p,d2v,d3p,d3v\n{row},vel,600,loc,A,,\n\n", encoding="utf-8-sig"
    )
    (recording,) = read_dcase(folder).recordings
    assert recording.attributes == {"vel": "600", "ac": "0.30", "loc": "A"}


def test_a_csv_without_attributes(tmp_path):
    (tmp_path / "attributes_00.csv").write_text("file_name\nfan/train/a.wav\nb,noAttribute,\n")
    assert read_attributes(tmp_path / "attributes_00.csv") == {"a": {}, "b": {}}


@pytest.mark.parametrize("content", [b"", b"name;value\n", b"\xff\xfe\x00bad"])
def test_a_csv_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "attributes_00.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as fault:
        read_attributes(path)
    assert fault.value.where == str(path)
    assert fault.value.remedy


def test_a_plain_machine(tmp_path):
    folder = touch(
        tmp_path / "Pump 7",
        "Normal/monday/a.WAV",
        "Normal/b.ogg",
        "Normal/notes.txt",
        "idle/c.wav",
        "noise/d.wav",
        "clean/e.wav",
        "test/normal/f.wav",
        "test/anomaly/belt/g.flac",
        "test/h.wav",
        "test/broken/i.wav",
        "old/j.wav",
        "k.wav",
    )
    assert is_plain(folder)
    machine = read_plain(folder)
    assert machine.name == "Pump 7"
    assert {n: (r.role, r.label) for n, r in by_name(machine).items()} == {
        "a.WAV": ("normal", None),
        "b.ogg": ("normal", None),
        "c.wav": ("idle", None),
        "d.wav": ("noise", None),
        "e.wav": ("clean", None),
        "f.wav": ("test", "normal"),
        "g.flac": ("test", "anomaly"),
        "h.wav": ("test", None),
    }
    assert all(r.domain == "unknown" and r.attributes == {} for r in machine.recordings)
    assert {f.path.name for f in machine.rejected} == {"i.wav", "j.wav", "k.wav"}
    assert all("Move it to" in fault.remedy for fault in machine.rejected)


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path / "disk", "a.wav", "more/b.wav")
    folder = touch(tmp_path / "pump", "normal/c.wav")
    (folder / "normal" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(folder / "normal")
    assert {r.path.name for r in read_plain(folder).recordings} == {"a.wav", "b.wav", "c.wav"}


def test_mimii_is_read_as_it_is_unpacked_from_any_higher_folder(tmp_path):
    for kind in ("fan", "pump"):
        for number in ("id_00", "id_02"):
            for n in range(6):
                place_file(tmp_path / kind / number / "normal" / f"{n:08}.wav")
            for n in range(2):
                place_file(tmp_path / kind / number / "abnormal" / f"{n:08}.wav")
    found = find_machines(tmp_path)
    assert list(found) == ["fan_id_00", "fan_id_02", "pump_id_00", "pump_id_02"]
    assert list(find_machines(tmp_path / "fan")) == ["fan_id_00", "fan_id_02"]
    assert list(find_machines(tmp_path / "fan" / "id_00")) == ["fan_id_00"]
    machine = read_plain(found["fan_id_00"])
    assert len(machine.of("normal")) == 4
    assert sorted(r.label for r in machine.of("test")) == ["anomaly"] * 2 + ["normal"] * 2


def test_toyadmos_is_one_microphone_of_each_take(tmp_path):
    place = tmp_path / "ToyCar" / "case1"
    for n in range(3):
        for ch in (1, 2):
            place_file(place / "NormalSound_IND" / f"{ch}_case1_normal_IND_ch{ch}_{n:04}.wav")
            place_file(place / "AnomalousSound_IND" / f"{ch}_case1_ab01_IND_ch{ch}_{n:04}.wav")
    assert list(find_machines(tmp_path)) == ["ToyCar_case1"]
    machine = read_plain(place)
    roles = [r.role for r in machine.recordings]
    # One of the three healthy takes is held back for the test.
    assert (roles.count("normal"), roles.count("test"), len(machine.rejected)) == (2, 4, 6)


@pytest.mark.parametrize(
    "text",
    [
        "file_name,d1p,d1v\na.wav,load,high\n",
        "file_name;load\na.wav;high\n",
        "file_name\tload\na.wav\thigh\n",
        ";file_name;load\n0;train\\a.wav;high\n",
        "\ufefffile_name,load\r\n./train/a.wav,high\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_dialects_of_attributes(tmp_path, text, encoding):
    if encoding != "utf-8":
        text = text.lstrip("\ufeff")
    (tmp_path / "attributes_00.csv").write_bytes(text.encode(encoding))
    assert read_attributes(tmp_path / "attributes_00.csv") == {"a": {"load": "high"}}


def test_rows_that_name_no_recording_are_told(tmp_path):
    place_file(tmp_path / "train" / "section_00_source_train_normal_0001.wav")
    (tmp_path / "attributes_00.csv").write_text("file_name,load\nother.wav,high\n")
    (told,) = read_dcase(tmp_path).rejected
    assert told.path.name == "attributes_00.csv"
    assert told.reason == "1 of its 1 rows name no recording here, for example other"


def test_recordings_in_no_order_are_all_healthy_and_that_is_said(tmp_path, capsys):
    folder = touch(
        tmp_path / "fan", "a.wav", "second take.FLAC", "2024-11-01 08.15.wav", "notes.txt"
    )
    assert find_machines(folder) == {"fan": folder}
    assert {r.role for r in read_loose(folder).recordings} == {"normal"}
    assert len(read_loose(folder).recordings) == 3
    for n in range(3):
        write(tmp_path / "pump" / f"{n}.wav", tone(2, seed=n))
    with progress_bar(Console(stderr=True)) as progress:
        (machine,) = load_machines(tmp_path / "pump", progress=progress)
    assert len(machine.of("normal")) == 3
    assert (
        "pump has no normal/: its 3 recordings are all taken as healthy" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "name",
    ["abnormal_00000001.wav", "Fan faulty.wav", "idle 3.wav", "bad-bearing.wav", "x_NG_2.wav"],
)
def test_a_name_that_says_otherwise_is_not_learnt_as_healthy(tmp_path, name):
    folder = touch(tmp_path / "fan", "a.wav", name)
    with pytest.raises(ConfigError, match=rf"{name}.*Move the healthy ones to normal/"):
        read_loose(folder)


def test_a_folder_with_an_order_of_its_own_is_not_taken_so(tmp_path):
    folder = touch(tmp_path / "fan", "a.wav", "monday/b.wav")
    with pytest.raises(ConfigError, match="as auscult knows them"):
        find_machines(folder)
    # Nor a part of a machine.
    touch(tmp_path / "pump" / "normal", "a.wav")
    with pytest.raises(ConfigError, match="is a part of the machine"):
        find_machines(tmp_path / "pump" / "normal")
