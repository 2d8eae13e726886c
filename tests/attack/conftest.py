"""Each test is one attack on a running agent; the closing line says how many held."""

from __future__ import annotations

import random

import pytest


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Broker and control room of all attacks."""
    from faults.plant import Site
    from support.broker import mosquitto

    mosquitto()
    pytest.importorskip("cryptography")
    with Site(tmp_path_factory.mktemp("attack") / "site", random.Random(5)) as found:
        yield found


@pytest.fixture(scope="module")
def target(request, site):
    """A module's agent: its `TARGET` are the arguments."""
    from attack.target import Target

    found = Target(site, **request.module.TARGET)
    try:
        found.ready()
        yield found
        found.closed()
    finally:
        found.end()


def pytest_terminal_summary(terminalreporter):
    """`attacks N held N`, of those that were carried out."""
    held = [
        one for one in terminalreporter.stats.get("passed", ())
        if one.when == "call" and "attack" in one.keywords
    ]  # fmt: skip
    broken = [
        one
        for kind in ("failed", "error")
        for one in terminalreporter.stats.get(kind, ())
        if "attack" in one.keywords
    ]
    if held or broken:
        terminalreporter.write_line(f"attacks {len(held) + len(broken)} held {len(held)}")
