"""The device's page: its API says what MQTT says, acts as MQTT acts, and lets nobody else in."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from support.bundles import FAULTY_HZ, tone
from support.page import Running, page_config, until

from agent.config.agent import AgentConfig, load_config
from agent.core.errors import ConfigError
from agent.core.records import AudioBlock
from agent.publish.payloads import Score
from agent.service import Agent
from agent.web.guard import Sessions
from agent.web.roles import PageRole
from agent.web.sound import BANDS, SoundFeed

ACT = {"X-Auscult": "1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    """A machine that has an alarm: what is heard is faulty all the time."""
    folder = tmp_path_factory.mktemp("page")
    path = page_config(folder, tiny_bundle, [(12, FAULTY_HZ)])
    with Running(path) as found:
        until(
            lambda: found.agent.page.live.latest().get("pump", {}).get("alarm", {}).get("alarm_id")
        )
        yield found


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url, timeout=20) as found:
        yield found


def test_the_state_is_what_mqtt_tells(client, running):
    found = client.get("/api/state").json()
    score = found["machines"]["pump"]["score"]
    told = Score.model_validate_json(json.dumps(score))
    assert (told.threshold, told.raw_threshold) == (1.0, 0.05)
    assert found["machines"]["pump"]["alarm"] == running.agent.page.live.latest()["pump"]["alarm"]
    assert found["events"][0]["message"]["type"] == "auscult.alarm.raised"
    health = client.get("/api/health").json()
    assert health["outbox"] is None
    assert health["machines"]["pump"]["windows"] > 1
    info = client.get("/api/info").json()
    assert info["machines"]["pump"]["rows"] == 5
    assert "ack" in info["commands"]


def test_the_stream_tells_each_message_once_and_what_is_heard(client):
    told, heard = [], []
    after = client.get("/api/state").json()["number"]
    with client.stream("GET", "/api/stream", params={"sound": "pump", "after": after}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                {"told": told, "sound": heard}.get(name, []).append(json.loads(line[6:]))
            if len(told) > 4 and heard:
                break
    numbers = [one["number"] for one in told]
    assert numbers == list(range(after + 1, after + 1 + len(numbers)))
    bands = base64.b64decode(heard[0]["columns"][0]["bands"])
    assert len(bands) == BANDS
    loudest = (np.argmax(list(bands)) + 0.5) / BANDS * heard[0]["rate"] / 2
    assert loudest == pytest.approx(FAULTY_HZ, abs=60)
    assert heard[0]["columns"][0]["rms"] == pytest.approx(20 * np.log10(0.2 / 2**0.5), abs=1)


def test_nobody_watching_costs_nothing_and_the_last_viewer_ends_it(running, client):
    feed = running.agent.page.sounds["pump"]
    until(lambda: feed.watchers == 0)
    before = feed.number
    time.sleep(0.6)
    assert feed.number == before
    assert not feed.pending


def test_history_has_the_scores_that_were_told(client, running):
    scores = [
        told.message["score"] for told in running.agent.page.live.after(0) if told.kind == "score"
    ]
    found = client.get("/api/machines/pump/history", params={"range": "day"}).json()
    assert max(value for value in found["most"] if value is not None) >= max(scores) - 1e-6
    assert found["level"][-1] == "alarm"
    assert found["end"] - found["begin"] == 86_400
    assert {len(value) for value in found.values() if isinstance(value, list)} == {
        len(found["time"])
    }
    assert client.get("/api/machines/pump/history", params={"range": "age"}).status_code == 422
    assert client.get("/api/machines/fan/history").status_code == 404


def test_an_acknowledgement_is_carried_out_once_and_told(client, running):
    alarm = client.get("/api/state").json()["machines"]["pump"]["alarm"]
    assert alarm["acknowledged"] is False
    body = {"transaction": "t1", "machine": "pump", "operator": "A. Meier",
            "alarm_id": alarm["alarm_id"]}  # fmt: skip
    answer = client.post("/api/commands/ack", json=body, headers=ACT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    assert answer.json()["transaction"] == "t1"
    assert client.post("/api/commands/ack", json=body, headers=ACT).json() == answer.json()
    assert running.agent.page.live.latest()["pump"]["alarm"]["acknowledged"] is True
    kinds = [event.message["data"] for event in running.agent.page.live.events()]
    (told,) = [data for data in kinds if data["event"] == "acknowledged"]
    assert told["operator"] == "A. Meier"
    # Another alarm than the present one is refused, as over MQTT.
    wrong = {**body, "transaction": "t2", "alarm_id": "another"}
    refused = client.post("/api/commands/ack", json=wrong, headers=ACT)
    assert refused.status_code == 409
    assert refused.json()["status"] == "error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({**ACT, "Origin": "http://evil.example"}, 403),
        ({**ACT, "Origin": "null"}, 403),
        ({**ACT, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**ACT, "Sec-Fetch-Site": "same-site"}, 403),
        ({**ACT, "Content-Type": "text/plain"}, 415),
        ({**ACT, "Host": "evil.example"}, 421),
        ({**ACT, "Sec-Fetch-Site": "same-origin"}, 422),
    ],
)
def test_requests_of_other_sites_cannot_act(client, headers, status):
    headers = {"Content-Type": "application/json", **headers}
    answer = client.post("/api/commands/mute", content=b"{}", headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_inputs_are_checked_and_bounded(client):
    def post(**changes):
        body = {"transaction": "x", "machine": "pump", "seconds": 5, **changes}
        return client.post("/api/commands/mute", json=body, headers=ACT)

    assert post(seconds=-1).status_code == 422
    assert "seconds" in post(seconds="long").json()["error"]
    assert post(more=1).status_code == 422
    assert post(comment="x" * 20_000).status_code == 413
    assert post(machine="fan").status_code == 409
    headers = {**ACT, "Content-Type": "application/json"}
    for data in (b"{", b"\xff", b"[" * 5000):
        answer = client.post("/api/commands/mute", content=data, headers=headers)
        assert answer.status_code == 400
    assert client.post("/api/commands/format", json={}, headers=ACT).status_code == 404


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd",
    "/api/../../etc/passwd", "/static/..%5capp.py",
])  # fmt: skip
def test_paths_cannot_escape(running, path):
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 404
    assert b"import" not in body
    assert b"root:" not in body


def test_what_browsers_are_told(client):
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "style=" not in page.text
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert client.get("/api/state").headers["cache-control"] == "no-store"


def test_the_description_names_every_operation_and_resolves(client):
    found = client.get("/api/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    assert "/api/commands/ack" in found["paths"]
    text = json.dumps(found)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(found["components"]["schemas"])
    body = found["paths"]["/api/commands/shelve"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("Shelve")


def test_a_password_lets_in_and_a_session_ends(tmp_path, tiny_bundle):
    (tmp_path / "secret").write_text("correct horse\n")
    path = page_config(tmp_path, tiny_bundle, [(4, 440)], web={"password_file": "secret"})
    with Running(path) as found, httpx.Client(base_url=found.url, timeout=20) as client:
        assert client.get("/").status_code == 200
        for place in ("state", "health", "info", "stream", "machines/pump/history", "nothing"):
            assert client.get(f"/api/{place}").status_code == 401
        assert client.get("/api/session").json()["open"] is False
        wrong = client.post("/api/login", json={"password": "wrong pony"}, headers=ACT)
        assert wrong.status_code == 403
        right = client.post("/api/login", json={"password": "correct horse"}, headers=ACT)
        assert right.status_code == 200
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/api/state").status_code == 200
        client.post("/api/logout", headers=ACT)
        assert client.get("/api/state").status_code == 401
        for _ in range(8):
            client.post("/api/login", json={"password": "wrong pony"}, headers=ACT)
        late = client.post("/api/login", json={"password": "correct horse"}, headers=ACT)
        assert late.status_code == 429


def test_sessions_run_out_and_are_bounded(monkeypatch):
    sessions = Sessions("secret password", 0.05)
    token = sessions.open("secret password", "a")
    assert sessions.role(token) is PageRole.ADMIN
    time.sleep(0.06)
    assert sessions.role(token) is PageRole.ANYONE
    assert sessions.role(None) is PageRole.ANYONE
    assert sessions.role("made up") is PageRole.ANYONE


def test_beyond_loopback_somebody_must_ask_who_is_there(tmp_path):
    machine = {"name": "m", "bundle": "b", "source": "replay:x"}

    def web(**given):
        return AgentConfig.model_validate({"machines": [machine], "web": given}).web

    assert web().enabled is False
    assert web(enabled=True).loopback
    assert web(enabled=True, host="::1").loopback
    for host in ("0.0.0.0", "192.0.2.1", "::", "gateway"):
        with pytest.raises(ValueError, match="password_file"):
            web(enabled=True, host=host)
    proxied = web(enabled=True, host="0.0.0.0", behind_proxy=True, names=["gateway.example"])
    assert proxied.host == "0.0.0.0"
    with pytest.raises(ValueError, match="password"):
        web(enabled=True, password="never in YAML")


def test_a_viewer_does_not_hold_up_the_end(tmp_path, tiny_bundle):
    path = page_config(tmp_path, tiny_bundle, [(4, 440)])
    with Running(path) as found, httpx.Client(base_url=found.url, timeout=20) as client:
        with client.stream("GET", "/api/stream?sound=pump") as stream:
            next(stream.iter_lines())
            found.agent.page.stop()
        with pytest.raises(httpx.TransportError):
            client.get("/api/session")


def test_a_port_that_is_taken_costs_the_page_and_nothing_else(tmp_path, tiny_bundle, running):
    port = running.agent.page.port
    path = page_config(tmp_path, tiny_bundle, [(4, 440)], web={"port": port})
    with Running(path) as found:
        assert found.agent.page.port is None
        until(lambda: found.agent.pipelines[0].counters.windows > 1)


def test_without_the_extra_the_agent_runs_and_says_what_to_install(
    tmp_path, tiny_bundle, monkeypatch
):
    path = page_config(tmp_path, tiny_bundle, [(4, 440)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"auscult\[web\]"):
        Agent(load_config(path)).prepare()
    code = "import agent.service, sys; sys.exit('starlette' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sound_is_bounded_and_gaps_are_not_bridged():
    feed = SoundFeed()
    block = AudioBlock(tone(0.25), 8000, 0.0, 1e9)
    feed.hear(block)
    assert feed.after(0) == []
    with feed.watch():
        for _ in range(100):
            feed.hear(block)
        assert len(feed.after(0)) <= 40
        number = feed.number
        feed.hear(AudioBlock(tone(0.05), 8000, 0.0, 1e9))
        feed.hear(AudioBlock(tone(0.05), 8000, 9.0, 1e9 + 9, gap_before=True))
        assert feed.after(number) == []
        feed.hear(AudioBlock(np.full(800, np.nan, np.float32), 8000, 9.0, 1e9 + 9))
        assert feed.after(number)[0].rms <= 0
