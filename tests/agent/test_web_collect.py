"""Collecting on the page: recorded, listened to, taken elsewhere, joined to the bank, taken back."""

from __future__ import annotations

import io
import zipfile

import httpx
import pytest
from support.page import Running, page_config, until

ACT = {"X-Auscult": "1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("collect")
    path = page_config(folder, tiny_bundle, [(9, 440)])
    with Running(path) as found:
        found.folder = folder
        until(lambda: found.agent.pipelines[0].counters.windows > 1)
        yield found


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url, timeout=20) as found:
        yield found


def collect(client, seconds, transaction, label="healthy"):
    body = {"transaction": transaction, "machine": "pump", "label": label, "seconds": seconds}
    answer = client.post("/api/commands/collect", json=body, headers=ACT)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["session"]


def listed(client, name):
    sessions = client.get("/api/collected/pump").json()["sessions"]
    return next((one for one in sessions if one["session"]["session"] == name), None)


@pytest.fixture(scope="module")
def session(running):
    with httpx.Client(base_url=running.url, timeout=20) as client:
        name = collect(client, 3, "c1")
        until(lambda: (listed(client, name) or {"recording": True})["recording"] is False)
    return name


def test_a_recording_is_shown_stopped_kept_and_deleted(client):
    name = collect(client, 600, "c2", label="idle")
    now = until(
        lambda: (one := listed(client, name)) and one["session"]["heard_seconds"] > 2 and one
    )
    assert now["recording"] is True
    refused = client.delete(f"/api/collected/pump/{name}", headers=ACT)
    assert refused.status_code == 409
    body = {"transaction": "c3", "machine": "pump"}
    assert client.post("/api/commands/collect_cancel", json=body, headers=ACT).status_code == 200
    kept = until(lambda: (one := listed(client, name)) and not one["recording"] and one)
    assert kept["session"]["ended"]
    assert kept["session"]["kept_seconds"] >= 2
    assert client.delete(f"/api/collected/pump/{name}").status_code == 403
    assert client.delete(f"/api/collected/pump/{name}", headers=ACT).json() == {"session": name}
    assert listed(client, name) is None
    assert client.delete(f"/api/collected/pump/{name}", headers=ACT).status_code == 404


def test_collected_sound_is_heard_and_leaves_as_a_training_folder(client, session, tmp_path):
    from agent.recordings.plain import is_plain, read_plain

    part = client.get(f"/api/collected/pump/{session}/0000.flac", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"fLaC")
    answer = client.get("/api/collected/pump/training.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    assert is_plain(tmp_path / "pump")
    machine = read_plain(tmp_path / "pump")
    assert [one.role for one in machine.recordings] == ["normal"]
    assert machine.rejected == ()


@pytest.mark.parametrize("name", ["session.json", "..%2fsession.json", "0001.flac", "%2e%2e"])
def test_only_its_files_are_given(client, session, name):
    assert client.get(f"/api/collected/pump/{session}/{name}").status_code == 404


def test_only_its_sessions_are_deleted(client, running):
    keep = running.folder / "state" / "collected" / "pump" / "healthy"
    for name in ("%2e%2e", "healthy", "..%2f..", "none"):
        assert client.delete(f"/api/collected/pump/{name}", headers=ACT).status_code in {404, 405}
    assert keep.is_dir()


def test_sound_joins_the_bank_and_is_taken_back(client, session, running):
    before = client.get("/api/banks/pump").json()
    assert before["report"] is None  # its preset follows none
    assert [one["version"] for one in before["versions"]] == [0]
    assert client.post("/api/banks/pump/add", json={}, headers=ACT).status_code == 422
    wrong = client.post("/api/banks/pump/add", json={"sessions": ["../x"]}, headers=ACT)
    assert wrong.status_code == 404
    answer = client.post("/api/banks/pump/add", json={"sessions": [session]}, headers=ACT)
    assert answer.status_code == 200, answer.text
    job = until(
        lambda: (now := client.get("/api/banks/pump").json()["job"])["state"] != "working" and now
    )
    assert job["state"] == "done", job
    chosen = [one for one in client.get("/api/banks/pump").json()["versions"] if one["chosen"]]
    assert [one["version"] for one in chosen] == [1]
    until(lambda: client.get("/api/info").json()["machines"]["pump"]["rows"] > 5)
    assert listed(client, session)["in_bank"] is True
    again = client.post("/api/banks/pump/add", json={"sessions": [session]}, headers=ACT)
    assert again.status_code == 200
    job = until(
        lambda: (now := client.get("/api/banks/pump").json()["job"])["state"] != "working" and now
    )
    assert job["state"] == "refused"
    assert "in the bank already" in job["text"]
    back = client.post("/api/banks/pump/rollback", headers=ACT)
    assert [one["version"] for one in back.json()["versions"] if one["chosen"]] == [0]
    until(lambda: client.get("/api/info").json()["machines"]["pump"]["rows"] == 5)
    use = client.post("/api/banks/pump/use", json={"version": 7}, headers=ACT)
    assert use.status_code == 409
    assert "no version 7" in use.json()["error"]
