"""Can the device's page be served as configured, and is it seen by those alone who may?"""

from __future__ import annotations

import importlib.util
import json
import logging
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException

from agent.config.web import WebConfig
from agent.core.errors import AuscultError
from agent.doctor.finding import Finding, Grade
from agent.web.password import read_passwords

_NAME = "page"
_ANSWER_SECONDS = 3.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - told apart, not bound
_UNSET = "${CREDENTIALS_DIRECTORY}"


def check_page(config: WebConfig) -> Iterator[Finding]:
    """Look at what the page needs; nothing when it is not asked for.

    Args:
        config: The `web` section.
    """
    if not config.enabled:
        return
    missing = [one for one in ("starlette", "uvicorn") if importlib.util.find_spec(one) is None]
    if missing:
        yield Finding(
            _NAME, Grade.FAIL, f"{' and '.join(missing)} not installed",
            "pip install 'auscult[web]', or set `web.enabled` to false",
        )  # fmt: skip
        return
    yield _password(config)
    yield _port(config)


def _password(config: WebConfig) -> Finding:
    """Who is let in?"""
    name = "page's password"
    if config.password_file is None:
        if config.loopback:
            return Finding(name, Grade.OK, "none, and only this device can reach the page")
        # Without either, the configuration would have been refused.
        return Finding(
            name, Grade.WARN,
            f"none: whoever reaches {config.host} port {config.port} directly, past the proxy, is "
            "let in",
            "Set `web.host` to 127.0.0.1 where the proxy is on this device; else let a firewall "
            "admit the proxy alone, or set `web.password_file`",
        )  # fmt: skip
    if _UNSET in str(config.password_file):
        return Finding(
            name, Grade.WARN, "is a systemd credential, which only the service itself sees",
            "Check it with --service",
        )  # fmt: skip
    log = logging.getLogger(read_passwords.__module__)
    before, log.disabled = log.disabled, True  # what it warns of is told here
    try:
        read_passwords(config.password_file)
    except AuscultError as fault:
        return Finding.failed(name, fault)
    finally:
        log.disabled = before
    if config.loopback or config.behind_proxy:
        return Finding.of_secret(name, config.password_file, "readable")
    return Finding.of_secret(
        name, config.password_file, "readable; it travels in plain HTTP",
        "Whoever listens on the network can read it: a reverse proxy with TLS is better",
    )  # fmt: skip


def _port(config: WebConfig) -> Finding:
    """Is the port free, or is it this very page that has it?"""
    place = f"{config.host} port {config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as fault:
        device = _who(config)
        if device:
            return Finding(_NAME, Grade.OK, f"{place}: answers, as the page of {device}")
        return Finding(
            _NAME, Grade.FAIL, f"{place}: cannot be listened on: {fault.strerror or fault}",
            "Set another `web.port` or `web.host`; `ss -ltnp` tells who has it",
        )  # fmt: skip
    return Finding(_NAME, Grade.OK, f"{place}: free")


def _who(config: WebConfig) -> str:
    """The device whose page answers there; empty when it is none."""
    link = HTTPConnection(_ANY.get(config.host, config.host), config.port, timeout=_ANSWER_SECONDS)
    try:
        # An address is answered to whatever names are configured.
        link.request("GET", "/api/session", headers={"Host": "127.0.0.1"})
        found = json.loads(link.getresponse().read(65_536))
        return str(found["device"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        link.close()
