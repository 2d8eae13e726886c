"""Alarms on the page: found, opened, heard in ranges, answered, exported; and nothing else read."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import soundfile
from support.bundles import FAULTY_HZ
from support.page import Running, page_config, until

from agent.bundle.exemplars import Exemplar, Exemplars, HealthyWindow
from agent.bundle.manifest import HEALTHY_SOUND, HEALTHY_SOUND_INDEX
from agent.evidence.record import read_feedback
from agent.history.store import Told
from agent.web.alarms import AlarmDesk

ACT = {"X-Auscult": "1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("alarms")
    path = page_config(folder, tiny_bundle, [(5, 440), (40, FAULTY_HZ)])
    with Running(path) as found:
        found.root = folder / "state" / "evidence" / "pump"
        until(lambda: list(found.root.glob("*/evidence.json")))
        until(lambda: json.loads(next(found.root.glob("*/evidence.json")).read_text())["complete"])
        yield found


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url, timeout=20) as found:
        yield found


@pytest.fixture
def alarm(client):
    (one,) = client.get("/api/alarms").json()["alarms"]
    return one


def test_an_alarm_is_listed_as_it_stands_and_opened(client, alarm, running):
    assert alarm["evidence"] is True
    assert alarm["standing"]["level"] == "alarm"
    assert alarm["score"] > alarm["threshold"]
    found = client.get(f"/api/alarms/pump/{alarm['alarm_id']}").json()
    assert found["record"]["alarm_id"] == alarm["alarm_id"]
    assert any(window["exceeded"] for window in found["record"]["windows"])
    assert found["events"][0]["type"] == "auscult.alarm.raised"
    near = found["neighbours"][0]
    assert near["source"].startswith("h")
    assert near["here"] is False
    gone = client.get(f"/api/alarms/pump/{alarm['alarm_id']}/neighbours/0/sound.flac")
    assert gone.status_code == 404


def test_a_healthy_neighbour_is_played_from_what_the_bundle_carries(client, alarm, running):
    base = f"/api/alarms/pump/{alarm['alarm_id']}"
    near = client.get(base).json()["neighbours"][0]
    bundle = running.root.parents[2] / "pump"
    sound = np.full(8000, 0.25, np.float32)
    soundfile.write(bundle / HEALTHY_SOUND, sound, 8000, subtype="PCM_16")
    index = Exemplars(
        exemplars=(Exemplar(source="other.wav", start=0.0, at=0.0, seconds=1.0),),
        windows=(HealthyWindow(source=near["source"], start=near["start"] or 0.0, like=0),),
    )
    (bundle / HEALTHY_SOUND_INDEX).write_text(index.model_dump_json())
    try:
        found = client.get(base).json()["neighbours"][0]
        assert (found["here"], found["played"], found["likest"]) == (True, "likest", "other.wav")
        answer = client.get(f"{base}/neighbours/0/sound.flac")
        samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        assert (len(samples), rate) == (8000, 8000)
        assert samples == pytest.approx(0.25, abs=1e-3)
        with zipfile.ZipFile(io.BytesIO(client.get(f"{base}/evidence.zip").content)) as archive:
            inside = archive.read(f"{alarm['alarm_id']}/healthy-0.flac")
        assert len(soundfile.read(io.BytesIO(inside))[0]) == 8000
    finally:
        (bundle / HEALTHY_SOUND_INDEX).unlink()
        (bundle / HEALTHY_SOUND).unlink()


def test_its_sound_is_served_in_ranges_and_its_picture(client, alarm, running):
    base = f"/api/alarms/pump/{alarm['alarm_id']}"
    whole = client.get(f"{base}/sound.flac")
    kept = (running.root / alarm["alarm_id"] / "sound.flac").read_bytes()
    assert whole.content == kept
    assert whole.headers["content-type"] == "audio/flac"
    part = client.get(f"{base}/sound.flac", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == kept[100:200]
    assert client.get(f"{base}/spectrogram.png").content.startswith(b"\x89PNG")


def test_what_was_written_before_the_clock_was_set_is_exported_too(client, alarm, running):
    sound = running.root / alarm["alarm_id"] / "sound.flac"
    times = sound.stat()
    os.utime(sound, (1000, 1000))  # a device without a battery begins in 1970
    try:
        answer = client.get(f"/api/alarms/pump/{alarm['alarm_id']}/evidence.zip")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.read(f"{alarm['alarm_id']}/sound.flac") == sound.read_bytes()
    finally:
        os.utime(sound, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_all_of_it_is_exported_as_a_zip(client, alarm):
    answer = client.get(f"/api/alarms/pump/{alarm['alarm_id']}/evidence.zip")
    assert alarm["alarm_id"] in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert {"evidence.json", "sound.flac", "spectrogram.png", "events.json"} <= names
        sound = archive.read(f"{alarm['alarm_id']}/sound.flac")
    samples, _ = soundfile.read(io.BytesIO(sound))
    assert len(samples) > 8000


def test_that_was_normal_is_kept_and_listed(client, alarm, running):
    body = {"transaction": "f1", "machine": "pump", "alarm_id": alarm["alarm_id"],
            "verdict": "normal", "operator": "A. Meier", "comment": "valve open"}  # fmt: skip
    answer = client.post("/api/commands/feedback", json=body, headers=ACT).json()
    assert answer["result"]["pending_windows"] > 0
    feedback = read_feedback(running.root / alarm["alarm_id"])
    assert (feedback.verdict, feedback.by, feedback.comment) == ("normal", "A. Meier", "valve open")
    (again,) = client.get("/api/alarms").json()["alarms"]
    assert again["verdict"] == "normal"


@pytest.mark.parametrize("name", [
    "%2e%2e", "..%2f..%2fstate", "%2fetc", "none", "a%00b", "..%5c..",
])  # fmt: skip
def test_names_from_outside_are_looked_up(client, running, name):
    (running.root / "evidence.json").write_text("{}")  # what `..` would reach from an alarm
    for rest in ("", "/sound.flac", "/spectrogram.png", "/evidence.zip"):
        answer = client.get(f"/api/alarms/pump/{name}{rest}")
        assert answer.status_code in {404, 405}, answer.text


def test_links_out_of_the_folder_are_not_followed(client, running, tmp_path):
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "sound.flac").write_bytes(b"secret")
    (running.root / "link").symlink_to(outside)
    assert client.get("/api/alarms/pump/link/sound.flac").status_code == 404
    real = running.root / "real"
    real.mkdir()
    (real / "sound.flac").symlink_to(outside / "sound.flac")
    assert client.get("/api/alarms/pump/real/sound.flac").status_code == 404


def test_a_damaged_record_costs_its_own_alarm_alone(client, running, alarm):
    bad = running.root / "damaged"
    bad.mkdir()
    (bad / "evidence.json").write_text("{")
    assert [one["alarm_id"] for one in client.get("/api/alarms").json()["alarms"]] == [
        alarm["alarm_id"]
    ]
    assert client.get("/api/alarms/pump/damaged").status_code == 409


def test_without_evidence_an_alarm_is_told_all_the_same(tmp_path, tiny_bundle):
    path = page_config(tmp_path, tiny_bundle, [(9, FAULTY_HZ)], evidence={"enabled": False})
    with Running(path) as found, httpx.Client(base_url=found.url, timeout=20) as client:
        (alarm,) = until(lambda: client.get("/api/alarms").json()["alarms"])
        assert alarm["evidence"] is False
        detail = client.get(f"/api/alarms/pump/{alarm['alarm_id']}").json()
        assert detail["record"] is None
        assert detail["events"]


def test_two_who_look_at_once_do_not_disturb_each_other(tmp_path):
    """Requests are answered in several threads, which share what was read."""
    desk = AlarmDesk(SimpleNamespace(config=SimpleNamespace(state_path=tmp_path)))

    class Folder:
        @property
        def parent(self):
            desk._read[tmp_path / "evidence" / "fan" / "another"] = ((0, 0), None)
            return tmp_path / "evidence" / "fan"

    desk._read[Folder()] = ((0, 0), None)
    assert desk._kept("pump") == []


def test_the_inbox_is_filtered_by_machine_state_and_time(client, alarm):
    def ids(**query):
        answer = client.get("/api/alarms", params=query)
        assert answer.status_code == 200, answer.text
        return [one["alarm_id"] for one in answer.json()["alarms"]]

    here = [alarm["alarm_id"]]
    assert client.get("/api/alarms").json()["standing"] == 1
    assert ids(machine="pump", state="standing") == here
    assert ids(state="unacknowledged", since=0) == here
    assert ids(machine="fan") == []
    assert ids(since=4e9) == []
    assert ids(state="over") == []
    assert set(ids(state="answered") + ids(state="unanswered")) == set(here)
    assert client.get("/api/alarms", params={"state": "loud"}).status_code == 422


def test_a_thumbnail_is_the_picture_s_plot_and_small(client, alarm, running):
    import matplotlib.image

    base = f"/api/alarms/pump/{alarm['alarm_id']}"
    small = client.get(f"{base}/thumbnail.png")
    picture = matplotlib.image.imread(io.BytesIO(small.content), format="png")
    assert picture.shape[:2] == (64, 180)
    assert len(small.content) < 12_000
    # A steady tone: the row of the loudest pixels is its frequency's, lowest at the bottom.
    loud = np.argmax(picture[:, 120:170, :3].sum(axis=(1, 2)))
    assert (63.5 - loud) / 64 * 4000 == pytest.approx(FAULTY_HZ, abs=80)
    place = running.root / alarm["alarm_id"] / "spectrogram.png"
    whole = place.read_bytes()
    try:
        for damaged in (b"", whole[:200], whole[:-2000], b"\x89PNG" + b"\0" * 50):
            place.write_bytes(damaged)
            assert client.get(f"{base}/thumbnail.png").status_code == 409
    finally:
        place.write_bytes(whole)


def test_an_alarm_was_cleared_when_it_was_whatever_is_kept_of_its_sound(client, alarm, running):
    """The sound of an alarm ends long before the alarm does, and a restart forgets events."""
    page = running.agent.page
    name = "0" * 32
    folder = running.root / name
    shutil.copytree(running.root / alarm["alarm_id"], folder)
    record = json.loads((folder / "evidence.json").read_text())
    (folder / "evidence.json").write_text(json.dumps({**record, "alarm_id": name}))
    try:
        before = client.get(f"/api/alarms/pump/{name}").json()["summary"]
        assert (before["standing"], before["cleared"]) == (None, None)
        event = Told("pump", 1_767_323_045, "cleared", alarm=name)  # 2026-01-02T03:04:05Z
        page.history._file.tell([event])
        after = client.get(f"/api/alarms/pump/{name}").json()["summary"]
        assert after["cleared"].startswith("2026-01-02T03:04:05")
        # What still stands has not been cleared.
        assert client.get(f"/api/alarms/pump/{alarm['alarm_id']}").json()["summary"][
            "cleared"] is None  # fmt: skip
    finally:
        shutil.rmtree(folder)
