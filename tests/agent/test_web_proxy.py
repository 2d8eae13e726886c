"""The page behind a real reverse proxy, below a path of its own: stream, cookies, and who may act."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time

import httpx
import pytest
from support.bundles import FAULTY_HZ
from support.page import Running, page_config, until

# As docs/guide/web.md has it.
SITE = """
pid {folder}/pid; error_log {folder}/error.log; daemon off; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location = /pump-1 {{ return 301 /pump-1/; }}
    location /pump-1/ {{
      proxy_pass http://127.0.0.1:{page}/;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Prefix /pump-1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""
ACT = {"X-Auscult": "1"}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory, tiny_bundle):
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "password").write_text("correct horse\n")
    (folder / "password").chmod(0o600)
    web = {"behind_proxy": True, "names": ["plant.example"], "password_file": "password"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Running(page_config(folder, tiny_bundle, [(12, FAULTY_HZ)], web=web)) as running:
        site = folder / "nginx.conf"
        site.write_text(SITE.format(folder=folder, port=port, page=running.agent.page.port))
        proxy = subprocess.Popen([program, "-e", str(folder / "error.log"), "-c", str(site)])
        running.proxy = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _answers(running.proxy))
            yield running
        finally:
            proxy.terminate()
            proxy.wait(60)


def _answers(url):
    try:
        return httpx.get(f"{url}/pump-1/api/session").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def client(proxied):
    with httpx.Client(
        base_url=f"{proxied.proxy}/pump-1/", headers={"Host": "plant.example"}, timeout=20
    ) as found:
        yield found


def log_in(client):
    answer = client.post("api/login", json={"password": "correct horse"}, headers=ACT)
    assert answer.status_code == 200
    return answer.headers["set-cookie"]


def test_the_page_and_all_that_it_names_is_below_the_path(client, proxied):
    bare = httpx.get(f"{proxied.proxy}/pump-1", headers={"Host": "plant.example"})
    assert bare.headers["location"].endswith("/pump-1/")
    text = client.get("").text
    assert "auscult" in text
    assert '"/' not in text.replace('"//', "")  # nothing begins at the host's root
    for place in ("static/app.js", "static/style.css", "static/setup.js", "api/openapi.json"):
        assert client.get(place).status_code in {200, 401}, place
    assert client.get("static/app.js").status_code == 200


def test_the_cookie_is_for_that_path_alone_and_lets_in(client):
    assert client.get("api/state").status_code == 401
    cookie = log_in(client)
    said = f"{cookie.lower()};"
    assert "path=/pump-1/;" in said
    assert "httponly" in said
    assert "samesite=strict" in said
    client.cookies.clear()
    token = cookie.partition(";")[0]
    assert client.get("api/state", headers={"Cookie": token}).status_code == 200


def test_events_come_through_as_they_happen(client):
    token = log_in(client).partition(";")[0]
    client.cookies.clear()
    began, seen = time.monotonic(), []
    with client.stream("GET", "api/stream?sound=pump", headers={"Cookie": token}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append((time.monotonic() - began, json.loads(line[6:])))
            if len(seen) > 6:
                break
    # A proxy that buffers hands them over in one piece, late.
    times = [when for when, _ in seen]
    assert times[0] < 3
    assert times[-1] - times[0] > 0.3


def test_another_site_cannot_act_through_the_proxy(client):
    token = log_in(client).partition(";")[0]
    client.cookies.clear()
    body = {"transaction": "t1", "machine": "pump", "operator": "A. Meier"}
    own = {**ACT, "Cookie": token, "Origin": "http://plant.example"}
    assert client.post(
        "api/commands/mute", json={**body, "seconds": 5}, headers=own
    ).status_code in {200, 422}
    foreign = {**own, "Origin": "http://evil.example"}
    assert client.post("api/commands/ack", json=body, headers=foreign).status_code == 403
    lying = {**own, "Host": "evil.example"}
    assert client.get("api/state", headers=lying).status_code == 421
