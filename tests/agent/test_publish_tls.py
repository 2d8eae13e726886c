"""Encrypted connections to a real broker: whom the agent and the plant's page believe, and why not."""

from __future__ import annotations

import threading

import pytest
from support.broker import Broker
from support.certificates import Authority

from agent.config.publish import MqttConfig
from agent.core.broker import BrokerConfig
from agent.core.errors import DeliveryError
from agent.core.tls import TlsConfig
from agent.publish.connection import Connection
from agent.publish.mqtt_message import MqttMessage
from plant.watch.link import Link

CASES = pytest.mark.parametrize(
    ("server", "trusts", "shows", "said"),
    [
        ("server", "ours", "client", ""),
        ("server", "other", "client", "self.signed certificate|unable to get local issuer"),
        ("server", None, "client", "self.signed certificate|unable to get local issuer"),
        ("expired", "ours", "client", "certificate has expired"),
        ("server", "ours", None, "does not answer.*cert_file|lost"),
        ("server", "ours", "stranger", "does not answer|lost"),
        ("server", "ours", "old", "does not answer|lost"),
    ],
    ids=["well", "another authority", "the system's", "expired", "none", "a stranger's", "old"],
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    ours, other = Authority(root / "ours"), Authority(root / "other")
    pairs = {
        "server": ours.issue("server"), "expired": ours.issue("expired", expired=True),
        "client": ours.issue("client"), "old": ours.issue("old", expired=True),
        "stranger": other.issue("stranger"),
    }  # fmt: skip
    return {"ours": ours.ca, "other": other.ca, None: None}, pairs


def told(site, trusts, shows) -> TlsConfig:
    authorities, pairs = site
    pair = pairs.get(shows)
    files = {} if pair is None else {"cert_file": pair.cert, "key_file": pair.key}
    return TlsConfig(ca_file=authorities[trusts], **files)


def secured(folder, site, server) -> Broker:
    authorities, pairs = site
    return Broker(
        folder,
        ("allow_anonymous true", f"cafile {authorities['ours']}",
         f"certfile {pairs[server].cert}", f"keyfile {pairs[server].key}",
         "require_certificate true"),
    )  # fmt: skip


@CASES
def test_the_agent_says_why_it_has_no_broker(site, tmp_path, server, trusts, shows, said):
    with secured(tmp_path, site, server) as broker:
        config = MqttConfig(host="127.0.0.1", port=broker.port, tls=told(site, trusts, shows))
        connection = Connection(
            config, "auscult-dev", MqttMessage("t", b"", qos=0, retain=False),
            on_answered=lambda *_: None, on_message=lambda *_: None, stopping=threading.Event(),
        )  # fmt: skip
        connection.prepare()
        if said:
            with pytest.raises(DeliveryError, match=said):
                connection.open()
        else:
            connection.open()
            connection.turn()
        connection.close()


@CASES
def test_the_plants_page_says_why_it_has_no_broker(site, tmp_path, server, trusts, shows, said):
    with secured(tmp_path, site, server) as broker:
        tls = told(site, trusts, shows)
        link = Link(BrokerConfig(host="127.0.0.1", port=broker.port, tls=tls), "page")
        if said:
            with pytest.raises(DeliveryError, match=said):
                link.open()
        else:
            link.open()
            link.turn(0.1)
        link.close()
