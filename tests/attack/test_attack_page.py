"""Attacks by whoever can reach the page's port, and the metrics'."""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import pytest
from attack.target import ACT, PASSWORD, PATIENCE, Target
from faults.plant import wait_until

pytestmark = [pytest.mark.attack, pytest.mark.real_trial]
HANDLES = 1024


TARGET = {"name": "page", "handles": HANDLES}


@pytest.fixture
def crowd(target):
    """Opens connections; afterwards the page is there again, and alarms go on."""
    held = []

    def connect(port, count, say=b""):
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), 10)
            held.append(one)
            with contextlib.suppress(OSError):
                one.sendall(say)
        return held[-count:]

    yield connect
    target.alarms_go_on()
    for one in held:
        one.close()
    wait_until(lambda: serves(target), PATIENCE, "the page does not come back")


def serves(target):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{target.page}/api/session", timeout=30).is_success
    return False


def test_1200_idle_connections_cost_neither_handles_nor_alarms(target, crowd):
    lines = len(target.log.read_text().splitlines())
    crowd(target.page, 1200)
    for _ in range(10):
        assert target.open_handles() < HANDLES // 2
        time.sleep(0.2)
    target.alarms_go_on()
    # The handful of windows and alarms beside them.
    assert len(target.log.read_text().splitlines()) - lines < 400


def test_half_requests_hold_the_page_for_ten_seconds_at_most(target, crowd):
    crowd(target.page, 70, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-")
    wait_until(lambda: serves(target), PATIENCE, "the page is held")


def test_sixty_streams_at_once_are_twelve(target, crowd):
    with target.browser() as client:
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    ask = f"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
    held = crowd(target.page, 60, ask.encode())
    heads = [one.recv(15) for one in held]
    assert heads.count(b"HTTP/1.1 200 OK") == 12


def test_slow_clients_do_not_keep_prometheus_out(target, crowd):
    crowd(target.metrics, 24, b"GET /metrics HTTP/1.1\r\nX-")
    found = httpx.get(f"http://127.0.0.1:{target.metrics}/metrics", timeout=60)
    assert "auscult_windows_total" in found.text


def test_guesses_from_many_addresses_share_a_budget_and_are_logged(site):
    web = {"behind_proxy": True, "names": ["gateway.example"]}
    target = Target(site, "guessed", web=web)
    try:
        target.ready()
        url, seen = f"http://127.0.0.1:{target.page}/api/login", []
        with httpx.Client(timeout=60, headers={**ACT, "Host": "gateway.example"}) as client:
            for n in range(400):
                forwarded = {"X-Forwarded-For": f"203.0.{n // 250}.{n % 250}"}
                found = client.post(url, json={"password": f"guess {n}"}, headers=forwarded)
                seen.append(found.status_code)
            assert seen.count(403) == 64
            assert seen.count(429) == 400 - 64
            v6 = {"X-Forwarded-For": "2001:db8::1"}
            assert client.post(url, json={"password": PASSWORD}, headers=v6).status_code == 429
            # Another site's name for this device is answered by nothing.
            evil = client.get(f"http://127.0.0.1:{target.page}/", headers={"Host": "evil.example"})
            assert evil.status_code == 421
        assert "web: a wrong password from 203.0.0.0" in target.log.read_text()
        assert "left out" in target.log.read_text() or "is refused" in target.log.read_text()
        target.closed()
    finally:
        target.end()
