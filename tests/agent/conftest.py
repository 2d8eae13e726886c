"""Fixtures of the agent's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A small real bundle; tests that alter it work on a copy."""
    from support.bundles import build_bundle

    return build_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def broker(tmp_path):
    """A real mosquitto."""
    from support.broker import Broker

    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def publisher_on(tmp_path):
    """Makes publishers on a port, not started; they are stopped at the end."""
    from agent.config.publish import MqttConfig
    from agent.publish.mqtt import MqttPublisher

    made = []

    def make(port, name="dev", **config):
        config = {"reconnect_max_seconds": 1, **config}
        publisher = MqttPublisher(
            MqttConfig(host="127.0.0.1", port=port, **config), name, ["pump"],
            tmp_path / f"outbox-{len(made)}",
        )  # fmt: skip
        made.append(publisher)
        return publisher

    yield make
    for publisher in made:
        publisher.stop()
