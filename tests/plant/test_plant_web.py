"""The plant's page: who may come in, what it shows, and commands that travel to devices and back."""

from __future__ import annotations

import csv
import io
import json
import time

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from support.plant import Device, alarm, event, listening, plant_file, score, until

from plant.store import users as users_module
from plant.store.users import Users
from plant.watch.file import load_serve
from plant.web.app import build_app

PASSWORD = "correct horse"
HEAD = {"x-auscult": "1"}


@pytest.fixture
def app(tmp_path, database, broker, monkeypatch):
    monkeypatch.setattr(users_module, "_N", 2**4)
    users = Users(database)
    for role in ("viewer", "operator", "admin"):
        users.put(role, role, PASSWORD)

    def make(**sections):
        config = load_serve(plant_file(tmp_path, broker.port, **sections))
        return config, build_app(config, database)

    return make


def client_of(app, client=("127.0.0.1", 5000)):
    return TestClient(app, base_url="http://localhost", client=client)


def logged_in(app, role="viewer"):
    client = client_of(app)
    answer = client.post("/api/login", json={"name": role, "password": PASSWORD}, headers=HEAD)
    assert answer.status_code == 200, answer.text
    return client


@pytest.mark.parametrize("path", ["machines", "inbox", "events", "devices", "stream", "users",
                                  "export/events", "counts", "commands"])  # fmt: skip
def test_without_a_login_nothing_is_told(app, path):
    _, app = app()

    assert client_of(app).get(f"/api/{path}").status_code == 401


def test_a_login_is_by_name_and_password_and_its_cookie_is_safe(app):
    _, app = app()
    client = client_of(app)
    wrong = client.post(
        "/api/login", json={"name": "viewer", "password": "guess-guess"}, headers=HEAD
    )
    assert wrong.status_code == 403
    answer = client.post("/api/login", json={"name": "viewer", "password": PASSWORD}, headers=HEAD)

    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/session").json()["role"] == "viewer"
    assert client.get("/api/machines").status_code == 200
    client.post("/api/logout", headers=HEAD)
    assert client.get("/api/machines").status_code == 401


def test_guesses_are_stopped(app):
    _, app = app()
    client = client_of(app)
    for _ in range(8):
        client.post("/api/login", json={"name": "admin", "password": "guess-guess"}, headers=HEAD)
    right = {"name": "admin", "password": PASSWORD}

    assert client.post("/api/login", json=right, headers=HEAD).status_code == 429
    elsewhere = client_of(app, ("10.1.1.1", 1))
    assert elsewhere.post("/api/login", json=right, headers=HEAD).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {**HEAD, "origin": "https://evil.example"}, {**HEAD, "sec-fetch-site": "cross-site"}],
)
def test_a_page_of_another_site_changes_nothing(app, headers):
    _, app = app()
    client = logged_in(app, "admin")

    answer = client.post("/api/users", json={"name": "eve", "role": "admin"}, headers=headers)
    assert answer.status_code == 403


def test_a_foreign_host_name_is_not_answered(app):
    _, app = app()

    assert client_of(app).get("/", headers={"host": "evil.example"}).status_code == 421
    assert client_of(app).get("/", headers={"host": "10.0.0.7:8480"}).status_code == 200


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [("viewer", "POST", "commands"), ("viewer", "GET", "users"), ("operator", "GET", "users"),
     ("operator", "POST", "users"), ("operator", "DELETE", "users/admin"),
     ("operator", "GET", "refused")],
)  # fmt: skip
def test_a_role_may_do_no_more_than_it_may(app, role, method, path):
    _, app = app()

    assert logged_in(app, role).request(method, f"/api/{path}", headers=HEAD).status_code == 403


def test_a_proxys_header_counts_from_the_proxy_alone(app):
    proxy = {"addresses": ["10.0.0.0/29"], "user_header": "X-Remote-User"}
    _, app = app(web={"proxy": proxy})
    headers = {"X-Remote-User": "operator"}

    inside = client_of(app, ("10.0.0.5", 1)).get("/api/session", headers=headers).json()
    assert (inside["user"], inside["role"]) == ("operator", "operator")
    stranger = {"X-Remote-User": "somebody"}
    there = client_of(app, ("10.0.0.5", 1)).get("/api/session", headers=stranger).json()
    assert (there["user"], there["role"]) == ("somebody", "viewer")
    outside = client_of(app, ("10.0.0.9", 1)).get("/api/session", headers=headers).json()
    assert outside["user"] is None


def test_a_proxys_unknown_users_are_kept_out_where_told_so(app):
    _, app = app(web={"proxy": {"addresses": ["10.0.0.5"], "default_role": None}})
    headers = {"X-Forwarded-User": "somebody"}

    assert client_of(app, ("10.0.0.5", 1)).get("/api/machines", headers=headers).status_code == 401


def test_without_a_proxy_the_header_means_nothing(app):
    _, app = app()

    found = client_of(app).get("/api/session", headers={"X-Forwarded-User": "admin"}).json()
    assert found["user"] is None


def test_an_admin_adds_users_and_the_last_admin_stays(app):
    _, app = app()
    client = logged_in(app, "admin")
    new = {"name": "bert", "role": "operator", "password": "long-enough"}
    assert client.post("/api/users", json=new, headers=HEAD).json() == {"new": True}
    assert {one["name"] for one in client.get("/api/users").json()["users"]} >= {"bert", "admin"}
    assert "scrypt" not in client.get("/api/users").text

    assert client.delete("/api/users/admin", headers=HEAD).status_code == 409
    demoted = client.post("/api/users", json={"name": "admin", "role": "viewer"}, headers=HEAD)
    assert demoted.status_code == 409
    assert client.delete("/api/users/bert", headers=HEAD).status_code == 200


@pytest.fixture
def standing(app, broker, database):
    """An alarm that stands, and the device that has it."""
    config, app_ = app(watch={"sites": {"hall": ["de*"]}})
    with listening(config, database), Device(broker.port) as device:
        device.say("pump/alarm", alarm("dev", "pump", 1), retain=True)
        device.say("pump/event", event("dev", "pump", 1))
        for second in range(0, 1200, 10):
            device.say("pump/score", score("dev", "pump", second, 0.2), qos=0)
        client = logged_in(app_, "operator")
        until(lambda: client.get("/api/inbox").json()["alarms"])
        until(lambda: client.get("/api/events").json()["events"])
        yield client, device


def test_an_acknowledgement_travels_to_the_device_and_its_answer_back(standing):
    client, device = standing
    (one,) = client.get("/api/inbox").json()["alarms"]
    given = {"device": "dev", "machine": "pump", "command": "ack", "alarm_id": one["alarm_id"],
             "comment": "on my way"}  # fmt: skip
    transaction = client.post("/api/commands", json=given, headers=HEAD).json()["transaction"]

    (command, asked) = until(lambda: device.heard)[0]
    assert command == "ack"
    assert asked == {"transaction": transaction, "machine": "pump", "operator": "operator",
                     "comment": "on my way", "alarm_id": "a1"}  # fmt: skip
    (told,) = client.get("/api/commands").json()["commands"]
    assert told["status"] == "sent"
    # The device says that it did, and how its alarm stands now.
    device.answer(command, asked)
    device.say("pump/alarm", alarm("dev", "pump", 2, acknowledged=True))
    until(lambda: client.get("/api/inbox").json()["alarms"][0]["acknowledged"])
    found = until(lambda: [one for one in client.get("/api/commands").json()["commands"]
                           if one["answered"]])  # fmt: skip
    assert found[0]["status"] == "ok"


def test_what_a_device_refuses_is_shown(standing):
    client, device = standing
    given = {"device": "dev", "machine": "pump", "command": "shelve", "seconds": 1e9}
    client.post("/api/commands", json=given, headers=HEAD)
    (command, asked) = until(lambda: device.heard)[0]
    device.answer(command, asked, status="error", error="at most a week")

    found = until(lambda: [one for one in client.get("/api/commands").json()["commands"]
                           if one["answered"]])  # fmt: skip
    assert (found[0]["status"], found[0]["error"]) == ("error", "at most a week")


def test_another_devices_answer_is_not_believed(standing, broker):
    client, device = standing
    given = {"device": "dev", "machine": "pump", "command": "mute", "seconds": 60}
    client.post("/api/commands", json=given, headers=HEAD)
    (command, asked) = until(lambda: device.heard)[0]
    with Device(broker.port, "liar") as liar:
        liar.answer(command, asked, status="error", error="never")
        time.sleep(1)
    assert client.get("/api/commands").json()["commands"][0]["answered"] is None


def test_a_command_that_nobody_hears_says_so(standing):
    client, _ = standing
    given = {"device": "nobody", "machine": "pump", "command": "ack"}
    client.post("/api/commands", json=given, headers=HEAD)

    (told,) = client.get("/api/commands").json()["commands"]
    assert told["status"] == "unheard"


def test_a_command_while_the_broker_is_away_is_an_error(standing, broker):
    client, _ = standing
    broker.stop()
    given = {"device": "dev", "machine": "pump", "command": "ack"}
    answer = client.post("/api/commands", json=given, headers=HEAD)
    broker.start()

    assert answer.status_code == 502
    assert "broker" in answer.json()["error"]


@pytest.mark.parametrize("given", [
    {"device": "a/b", "machine": "pump", "command": "ack"},
    {"device": "#", "machine": "pump", "command": "ack"},
    {"device": "dev", "machine": "pump", "command": "reload"},
    {"device": "dev", "machine": "pump", "command": "mute"},
    {"device": "dev", "machine": "pump", "command": "shelve", "seconds": -1},
])  # fmt: skip
def test_a_command_that_is_none_is_refused(standing, given):
    client, device = standing

    assert client.post("/api/commands", json=given, headers=HEAD).status_code in {409, 422}
    assert device.heard == []


def test_an_answer_bears_the_devices_token_and_nobody_else_sees_it(tmp_path, app, broker, database):
    (tmp_path / "token").write_text("the-operators-token\n")
    config, app_ = app(watch={"token_file": "token"})
    with listening(config, database), Device(broker.port) as device:
        client = logged_in(app_, "operator")
        given = {"device": "dev", "machine": "pump", "command": "feedback", "alarm_id": "a1",
                 "verdict": "normal"}  # fmt: skip
        client.post("/api/commands", json=given, headers=HEAD)
        (command, asked) = until(lambda: device.heard)[0]

    assert (command, asked["token"], asked["verdict"]) == (
        "feedback",
        "the-operators-token",
        "normal",
    )
    assert "the-operators-token" not in client.get("/api/commands").text


def test_a_machine_its_trend_and_events_are_shown(standing):
    client, _ = standing
    found = until(lambda: client.get("/api/machines/dev/pump").json())
    assert found["machine"]["site"] == "hall"
    assert found["machine"]["states"]["alarm"]["message"] == alarm("dev", "pump", 1)
    assert [one["id"] for one in found["events"]] == ["dev-pump-1"]
    assert client.get("/api/machines/dev/nonesuch").status_code == 404

    span = {"begin": "2025-11-28T00:00:00Z", "end": "2025-12-01T00:00:00Z"}
    scores = until(lambda: client.get("/api/scores/dev/pump", params=span).json()["scores"])
    until(lambda: sum(one["windows"] for one in
                      client.get("/api/scores/dev/pump", params=span).json()["scores"]) == 120)  # fmt: skip
    assert scores[0]["median"] == pytest.approx(0.2, abs=0.0051)
    bad = {"begin": span["end"], "end": span["begin"]}
    assert client.get("/api/scores/dev/pump", params=bad).status_code == 422


def test_leafing_through_events_shows_each_once_also_those_of_one_instant(standing):
    client, device = standing
    for number in range(10, 40):
        device.say("pump/event", event("dev", "pump", number, second=7))
    until(lambda: len(client.get("/api/events").json()["events"]) >= 31)
    found, after = [], ""
    while after is not None:
        page = client.get("/api/events", params={"limit": 7, "after": after}).json()
        found += [one["id"] for one in page["events"]]
        after = page["next"]
    whole = [one["id"] for one in client.get("/api/events").json()["events"]]
    assert found == whole
    assert len(set(found)) == len(found) >= 31
    assert client.get("/api/events", params={"after": "[1]"}).status_code == 422


def test_exports_hold_what_is_kept(standing, database):
    client, device = standing
    risky = event("dev", "pump", 2)
    risky["data"]["operator"] = "=HYPERLINK(1)"
    device.say("pump/event", risky)
    until(lambda: len(client.get("/api/events").json()["events"]) == 2)
    answer = client.get("/api/export/events", params={"format": "csv"})
    assert "attachment" in answer.headers["content-disposition"]
    first, second = csv.DictReader(io.StringIO(answer.text))
    assert (first["device"], first["machine"], first["id"]) == ("dev", "pump", "dev-pump-1")
    assert first["time"] == "2025-11-29T07:06:41.000Z"
    assert json.loads(first["payload"])["id"] == "dev-pump-1"
    assert second["operator"] == "'=HYPERLINK(1)"  # no formula in a spreadsheet

    table = pq.read_table(io.BytesIO(
        client.get("/api/export/events", params={"format": "parquet"}).content))  # fmt: skip
    assert table.column("operator").to_pylist() == ["", "=HYPERLINK(1)"]
    assert table.column("sequence").to_pylist() == [1, 2]
    until(lambda: client.get("/api/export/hours").text.count("\n") > 1)
    none = client.get("/api/export/events", params={"site": "nowhere"}).text.strip()
    assert none.count("\n") == 0


def test_the_page_and_its_files_are_served(app):
    _, app = app()
    client = client_of(app)

    assert "text/html" in client.get("/").headers["content-type"]
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert client.get("/static/app.js").status_code == 200
    assert client.get("/static/../app.py").status_code == 404
