"""Who may do what on the page: viewers read, operators work with alarms, admins change what judges."""

from __future__ import annotations

from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from support.browser import find, open_browser, shown
from support.bundles import FAULTY_HZ
from support.page import Running, page_config, until

from agent.config.agent import AgentConfig
from agent.core.errors import ConfigError
from agent.request.commands import COMMANDS
from agent.web.guard import Sessions
from agent.web.password import read_passwords
from agent.web.roles import PageRole, role_for, role_named
from tools.api import operations

ACT = {"X-Auscult": "1"}
WORDS = {"admin": "correct horse", "operator": "battery staple", "viewer": "look at me"}
FILE = f"{WORDS['admin']}\n# others\noperator: {WORDS['operator']}\n\nviewer: {WORDS['viewer']}\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("roles")
    (folder / "word").write_text(FILE)
    path = page_config(
        folder, tiny_bundle, [(12, FAULTY_HZ)], web={"password_file": str(folder / "word")}
    )
    with Running(path) as found:
        until(
            lambda: found.agent.page.live.latest().get("pump", {}).get("alarm", {}).get("alarm_id")
        )
        yield found


@contextmanager
def as_(running, role):
    with httpx.Client(base_url=running.url, timeout=20, headers=ACT) as client:
        answer = client.post("/api/login", json={"password": WORDS[role]})
        assert answer.json()["role"] == role
        yield client


def ask(client, name, **fields):
    fields = {"transaction": uuid4().hex, "machine": "pump", "operator": "A. Meier", **fields}
    return client.post(f"/api/commands/{name}", json=fields)


def test_a_viewer_reads_and_is_refused_the_rest_in_words(running):
    with as_(running, "viewer") as client:
        assert client.get("/api/state").status_code == 200
        assert client.get("/api/alarms").status_code == 200
        assert ask(client, "why", begin=1, end=2).status_code == 200
        for name, fields in (("shelve", {"seconds": 60}), ("mute", {"seconds": 60})):
            answer = ask(client, name, **fields)
            assert answer.status_code == 403
            assert "password of the operators" in answer.json()["error"]
            assert "came in as viewer" in answer.json()["error"]
        assert client.post("/api/machines/pump/listen").status_code == 403


def test_an_operator_works_with_alarms_and_changes_nothing_that_judges(running):
    with as_(running, "operator") as client:
        assert ask(client, "shelve", seconds=60).status_code == 200
        assert ask(client, "shelve", seconds=0).status_code == 200
        for refused in (
            ask(client, "reload"),
            ask(client, "drift_accept", warning_id="w"),
            client.post("/api/machines/pump/learning", json={}),
            client.post("/api/banks/pump/rollback"),
            client.delete("/api/collected/pump/x"),
        ):
            assert refused.status_code == 403, refused.text
            assert "password of the admins" in refused.json()["error"]


def test_an_admin_may_all(running):
    with as_(running, "admin") as client:
        assert ask(client, "reload").status_code in {200, 409}
        assert client.get("/api/session").json()["role"] == "admin"


def test_every_operation_that_changes_something_asks_for_a_role():
    least = {(one.method, one.path): one.role for one in operations()}
    open_ = {where for where, role in least.items() if role is PageRole.ANYONE}
    assert open_ == {("GET", "/session"), ("POST", "/login"), ("POST", "/logout")}
    lower = {
        path for (method, path), role in least.items()
        if method != "GET" and role < PageRole.ADMIN and (method, path) not in open_
    }  # fmt: skip
    assert lower == {
        *(f"/commands/{name}" for name in
          ("ack", "shelve", "mute", "collect", "collect_cancel", "why", "resend",
           "feedback")),
        "/microphones/listen", "/machines/{machine}/listen",
    }  # fmt: skip
    assert {name for name in COMMANDS if role_for(name) is PageRole.VIEWER} == {"why"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("correct horse\nviewer: short\n", "fewer than 8"),
        ("correct horse\nviewer: correct horse\n", "another role's"),
        ("correct horse\nboss: battery staple\n", "line 2 is of no role"),
        ("correct horse\nadmin: battery staple\n", "has a password already"),
        ("correct horse\nviewer: look at me\nviewer: look at that\n", "line 3"),
        ("short\n", "fewer than 8"),
    ],
)
def test_a_password_file_that_cannot_be_meant_is_refused(tmp_path, text, said):
    (tmp_path / "word").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_passwords(tmp_path / "word")


def test_a_file_of_one_line_is_the_admins_as_ever(tmp_path):
    (tmp_path / "word").write_text("correct horse\n")
    assert read_passwords(tmp_path / "word") == {PageRole.ADMIN: "correct horse"}
    assert read_passwords(None) == {}


def test_guests_look_where_that_is_configured():
    assert Sessions("secret word", 60).role(None) is PageRole.ANYONE
    guests = Sessions("secret word", 60, PageRole.VIEWER)
    assert guests.role(None) is PageRole.VIEWER
    token = guests.open("secret word", "a")
    assert guests.role(token) is PageRole.ADMIN
    guests.close(token)
    assert guests.role(token) is PageRole.VIEWER


def test_the_proxy_says_who_somebody_is_and_never_gives_more(tmp_path, tiny_bundle):
    web = {"behind_proxy": True, "names": ["localhost"], "role_header": "X-Role"}
    path = page_config(tmp_path, tiny_bundle, [(12, 440)], web=web)
    with Running(path) as found, httpx.Client(base_url=found.url, headers=ACT) as client:
        for said, role in (("operator", "operator"), ("ADMIN", "admin"), ("root", "viewer")):
            got = client.get("/api/session", headers={"X-Role": said}).json()
            assert (got["role"], got["open"]) == (role, True)
        assert client.get("/api/session").json()["role"] == "viewer"
        assert client.post("/api/banks/pump/rollback").status_code == 403
    with pytest.raises(ValueError, match="role_header needs behind_proxy"):
        AgentConfig.model_validate(
            {"machines": [{"name": "m", "bundle": "b", "source": "replay:x"}],
             "web": {"role_header": "X-Role"}}
        )  # fmt: skip
    assert role_named(" Operator") is PageRole.OPERATOR
    assert role_named("anyone") is None


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_what_somebody_may_not_do_is_not_offered(browser, running, role):
    browser.delete_all_cookies()
    browser.get("about:blank")
    browser.get(f"{running.url}/#live/pump")
    shown(browser, "#password").send_keys(f"{WORDS[role]}\n")
    shown(browser, ".link.on", "connected")
    shown(browser, ".tile.lead", "Alarm")

    def offered(act):
        return any(one.is_displayed() for one in find(browser, f"[data-act={act}]"))

    until(lambda: find(browser, "[data-act=mute]"))
    assert offered("mute") == offered("shelve") == (role != "viewer")
    browser.get(f"{running.url}/#setup/pump")
    until(lambda: find(browser, "#learn"))
    assert any(one.is_displayed() for one in find(browser, "#learn")) == (role == "admin")
    assert find(browser, "#record")[0].is_displayed() == (role != "viewer")
    words = {"viewer": "You are a viewer", "operator": "You are an operator", "admin": "Log out"}
    assert words[role] in shown(browser, "#logout").text
