"""Who comes in masses, or slowly, costs neither the page for good nor anything else at all."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import threading
import time

import httpx
import pytest
from support.page import Running, page_config, until

from agent.config.agent import AgentConfig
from agent.config.monitor import MetricsConfig
from agent.core.logs import RepeatLimit
from agent.monitor.server import MetricsServer
from agent.web import connections, stream
from agent.web.connections import Door, affordable, bucket_of, is_local
from agent.web.guard import Sessions

ACT = {"X-Auscult": "1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("crowded")
    (folder / "password").write_text("correct horse\n")
    (folder / "password").chmod(0o600)
    web = {"password_file": "password"}
    with Running(page_config(folder, tiny_bundle, [(4, 440)], web=web)) as found:
        found.folder = folder
        yield found


@pytest.fixture
def crowd(running):
    """Opens connections to the page."""
    held = []

    def connect(count, say=b""):
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", running.agent.page.port), 5)
            held.append(one)
            with contextlib.suppress(OSError):
                one.sendall(say)
        return held[-count:]

    yield connect
    for one in held:
        one.close()
    until(lambda: get(running).status_code == 200)


def get(running, path="/api/session", **options):
    with httpx.Client(base_url=running.url, timeout=30) as client:
        try:
            return client.get(path, **options)
        except httpx.TransportError:
            return httpx.Response(0)


def is_open(one):
    one.setblocking(False)
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_no_more_connections_are_held_than_there_is_room_for(running, crowd, caplog):
    held = crowd(300)
    until(lambda: sum(map(is_open, held)) <= connections.MOST)
    assert sum(map(is_open, held)) == connections.MOST
    assert "no room for another connection" in caplog.text
    for one in held:
        one.close()
    until(lambda: get(running).status_code == 200)


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-"
HALF_BODY = (
    b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nX-Auscult: 1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
)


@pytest.mark.parametrize(
    "say", [b"", HALF_HEAD, HALF_BODY], ids=["silent", "half a head", "half a body"]
)
def test_a_request_that_does_not_come_to_its_end_is_hung_up_on(running, crowd, monkeypatch, say):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    held = crowd(connections.MOST, say)
    stop = threading.Event()

    def dribble():
        while not stop.wait(0.1):
            for one in held:
                with contextlib.suppress(OSError):
                    one.sendall(b"a" if say else b"")

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        until(lambda: get(running).status_code == 200)
    finally:
        stop.set()
        thread.join()
    until(lambda: not any(map(is_open, held)))


def test_a_kept_connection_serves_one_request_after_the_other(running, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with httpx.Client(base_url=running.url, timeout=30) as client:
        for _ in range(6):
            assert client.get("/api/session").status_code == 200
            time.sleep(0.1)


def test_an_answer_that_is_not_taken_is_hung_up_on(running, monkeypatch):
    monkeypatch.setattr(connections, "TAKE_SECONDS", 0.5)
    port = running.agent.page.port
    slow = socket.socket()
    slow.settimeout(2)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", port))
    ask = b"GET /static/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.suppress(OSError):
        for _ in range(600):  # answered one after the other, and never read
            slow.sendall(ask)
    until(lambda: _reset(slow))
    slow.close()


def _reset(one):
    try:
        one.sendall(b"\r\n")
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def test_one_client_does_not_take_all_the_room_and_a_64_is_one_client():
    door = Door(6, 3)
    assert [door.enter("192.0.2.1") for _ in range(4)] == ["192.0.2.1"] * 3 + [None]
    assert door.enter("2001:db8::1") == door.enter("2001:db8::ffff:2") == "2001:db8::/64"
    assert door.enter("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert door.enter("192.0.2.2") is None  # all are in
    door.leave("192.0.2.1")
    assert door.enter("192.0.2.2") == "192.0.2.2"
    assert door.inside == 6
    local = Door(6, 3)
    assert all(local.enter("127.0.0.1") for _ in range(6))


@pytest.mark.parametrize(
    ("address", "bucket", "local"),
    [
        ("192.0.2.7", "192.0.2.7", False),
        ("::ffff:192.0.2.7", "192.0.2.7", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("127.0.0.1", "this device", True),
        ("127.9.8.7", "this device", True),
        ("::1", "this device", True),
        ("::ffff:127.0.0.1", "this device", True),
        ("", "", False),
        ("testclient", "testclient", False),
    ],
)
def test_whom_an_address_counts_for(address, bucket, local):
    assert bucket_of(address) == bucket
    assert is_local(address) is local


def test_the_agent_keeps_handles_for_itself(monkeypatch):
    for soft, most in ((1024, 64), (4096, 64), (300, 36), (64, 8), (resource.RLIM_INFINITY, 64)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert affordable() == most


def test_guesses_from_everywhere_share_one_budget():
    sessions = Sessions("secret password", 60)
    assert sessions.open("secret password", "198.51.100.9")
    for n in range(64):
        assert sessions.open("guess", f"10.0.{n}.1") is None
    for address in ("10.0.64.1", "203.0.113.1"):
        with pytest.raises(PermissionError, match="from many places"):
            sessions.open("secret password", address)
    # Who was in before, and the device itself, are not kept out.
    assert sessions.open("secret password", "198.51.100.9")
    assert sessions.open("secret password", "127.0.0.1")


def test_a_64_has_one_budget():
    sessions = Sessions("secret password", 60)
    for n in range(8):
        assert sessions.open("guess", f"2001:db8::{n + 1:x}") is None
    with pytest.raises(PermissionError, match="five minutes"):
        sessions.open("secret password", "2001:db8::ffff")
    assert sessions.open("secret password", "2001:db8:0:1::1")


def test_logins_and_failures_are_logged_and_in_the_trail(running, caplog):
    with caplog.at_level("INFO"), httpx.Client(base_url=running.url, timeout=30) as client:
        client.post("/api/login", json={"password": "wrong pony"}, headers=ACT)
        client.post("/api/login", json={"password": "correct horse"}, headers=ACT)
        client.post("/api/machines/pump/microphone", json={"device": "x"}, headers=ACT)
    assert "web: a wrong password from 127.0.0.1" in caplog.text
    assert "web: login from 127.0.0.1" in caplog.text
    assert "horse" not in caplog.text
    lines = [
        (line.way, line.client, line.command, line.outcome) for line in running.agent.audit.read()
    ]
    assert lines[-3:] == [
        ("page", "127.0.0.1", "login", "refused"),
        ("page", "127.0.0.1", "login", "done"),
        ("page", "127.0.0.1", "POST /api/machines/pump/microphone", "refused"),
    ]


def test_so_many_watch_at_once_and_no_more_however_they_come(running, caplog):
    with httpx.Client(base_url=running.url, timeout=30) as client:
        client.post("/api/login", json={"password": "correct horse"}, headers=ACT)
        cookie = client.headers.get("cookie") or "; ".join(
            f"{name}={value}" for name, value in client.cookies.items()
        )
    ask = f"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    held = [socket.create_connection(("127.0.0.1", running.agent.page.port), 5) for _ in range(40)]
    for one in held:
        one.sendall(ask)
    heads = [one.recv(15) for one in held]
    assert heads.count(b"HTTP/1.1 200 OK") == stream._VIEWERS
    assert heads.count(b"HTTP/1.1 503 Se") == 40 - stream._VIEWERS
    for one in held:
        one.close()

    def free():
        with socket.create_connection(("127.0.0.1", running.agent.page.port), 5) as one:
            one.sendall(ask)
            return one.recv(15) == b"HTTP/1.1 200 OK"

    until(free)


def test_a_proxy_in_front_names_its_hosts():
    machine = {"name": "m", "bundle": "b", "source": "replay:x"}
    web = {"enabled": True, "behind_proxy": True}
    with pytest.raises(ValueError, match="behind_proxy needs names"):
        AgentConfig.model_validate({"machines": [machine], "web": web})
    web["names"] = ["gateway-1.example"]
    AgentConfig.model_validate({"machines": [machine], "web": web})


def test_slow_clients_do_not_keep_prometheus_out():
    server = MetricsServer(MetricsConfig(port=0), lambda: "auscult_up 1\n")
    server.start()
    held = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(20)]
    try:
        for one in held:
            with contextlib.suppress(OSError):
                one.sendall(b"GET /metrics HTTP/1.1\r\nX-")
        found = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=30)
        assert found.text == "auscult_up 1\n"
    finally:
        for one in held:
            one.close()
        server.stop()


def test_lines_alike_are_limited_and_what_was_left_out_is_said(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("agent.core.logs.time.monotonic", lambda: now[0])
    limit, told = RepeatLimit(), []

    def say(name, text, *args):
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
        if limit.filter(record):
            told.append(record.getMessage())

    for n in range(6000):
        say("asyncio", "socket.accept() out of system resource: %d", n)
    assert len(told) == 30
    say("agent.web", "another %s", "line")
    assert told[-1] == "another line"
    now[0] += 10.0
    say("asyncio", "socket.accept() out of system resource: %d", 7)
    assert told[-1].endswith("resource: 7 (and 5970 like it, left out)")
    for _ in range(100):
        say("agent.publish.console", "pump: ALARM raised")
    assert told.count("pump: ALARM raised") == 100
