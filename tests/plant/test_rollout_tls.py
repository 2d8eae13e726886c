"""Rollouts with encryption: a real mosquitto with TLS, content by HTTPS of an authority of our own."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time

import pytest
from support.broker import Broker
from support.certificates import Authority
from support.offers import keys, release, sha

from agent.bundle.manifest import ENCODER, FileRecord
from agent.config.agent import load_config
from agent.config.offers import OffersConfig
from agent.core.broker import BrokerConfig
from agent.core.errors import ConfigError, DeliveryError
from agent.core.tls import TlsConfig
from agent.deploy.content import Content, FetchError
from plant.rollout.config import RolloutConfig
from plant.rollout.content import ContentServer
from plant.rollout.fleet import Fleet
from plant.rollout.repository import Repository
from plant.rollout.wire import RolloutWire

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two authorities, a server's certificate, one that is expired, a client's; and a bundle."""
    root = tmp_path_factory.mktemp("site")
    ours, other = Authority(root / "ours"), Authority(root / "other")
    pairs = {
        "server": ours.issue("server"), "client": ours.issue("client"),
        "expired": ours.issue("expired", expired=True), "stranger": other.issue("stranger"),
    }  # fmt: skip
    repository = Repository(root / "repository")
    bundle = release(root / "r1", keys(root), 1)
    repository.add(bundle)
    return root, ours, other, pairs, repository


def secured(folder, site, pair: str) -> Broker:
    """A broker that shows a certificate, and asks for one."""
    _, ours, _, pairs, _ = site
    return Broker(
        folder,
        ("allow_anonymous true", f"cafile {ours.ca}", f"certfile {pairs[pair].cert}",
         f"keyfile {pairs[pair].key}", "require_certificate true"),
    )  # fmt: skip


def wire(port: int, ca, pair=None) -> RolloutWire:
    files = {} if pair is None else {"cert_file": pair.cert, "key_file": pair.key}
    tls = TlsConfig(ca_file=ca, **files)
    return RolloutWire(BrokerConfig(host="127.0.0.1", port=port, tls=tls), Fleet())


@pytest.mark.parametrize(
    ("server", "trusts", "shows", "said"),
    [
        ("server", "ours", "client", ""),
        ("server", "other", "client", "self.signed certificate|unable to get local issuer"),
        ("expired", "ours", "client", "certificate has expired"),
        ("server", "ours", None, "broker.tls.cert_file"),
        ("server", "ours", "stranger", "hangs up before it has answered|unknown ca"),
    ],
    ids=["well", "another authority", "expired", "no certificate", "a stranger's"],
)
def test_the_plants_side_of_the_broker_believes_whom_it_should(
    site, tmp_path, server, trusts, shows, said
):
    _, ours, other, pairs, _ = site
    ca = {"ours": ours, "other": other}[trusts].ca
    with secured(tmp_path / "broker", site, server) as broker:
        one = wire(broker.port, ca, None if shows is None else pairs[shows])
        if not said:
            one.start(wait_seconds=20)
            one.stop()
            return
        with pytest.raises(DeliveryError, match=said):
            one.start(wait_seconds=3)


def test_a_file_that_is_not_there_is_told_before_anything_is_tried(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.*broker\.tls\.ca_file"):
        wire(1, tmp_path / "nowhere").start()


class Served:
    """A content server by HTTPS."""

    def __init__(self, site, pair: str) -> None:
        *_, pairs, repository = site
        self.server = ContentServer(
            repository,
            RolloutConfig(port=0, cert_file=pairs[pair].cert, key_file=pairs[pair].key),
        )

    def __enter__(self) -> str:
        self.server.start()
        return f"https://127.0.0.1:{self.server.port}"

    def __exit__(self, *_: object) -> None:
        self.server.stop()


def graph(root) -> FileRecord:
    path = root / "r1" / ENCODER
    return FileRecord(sha256=sha(path), size=path.stat().st_size)


def test_content_comes_by_https_and_goes_on_where_it_was_left_off(site, tmp_path):
    root, ours, *_ = site
    record = graph(root)
    whole = (root / "r1" / ENCODER).read_bytes()
    (tmp_path / f"{record.sha256}.part").write_bytes(whole[:1000])
    with Served(site, "server") as url:
        content = Content(OffersConfig(url=url, ca_file=ours.ca), tmp_path)
        assert content.require(record, {}).read_bytes() == whole
    assert content.fetched == record.size - 1000


@pytest.mark.parametrize(
    ("pair", "trusts", "said"),
    [
        ("server", "other", "unable to get local issuer|self.signed"),
        ("expired", "ours", "certificate has expired"),
        ("server", None, "unable to get local issuer|self.signed"),
    ],
    ids=["another authority", "expired", "the system's authorities"],
)
def test_a_server_that_is_not_believed_gives_nothing(site, tmp_path, pair, trusts, said):
    root, ours, other, *_ = site
    ca = {"ours": ours.ca, "other": other.ca, None: None}[trusts]
    with Served(site, pair) as url:
        content = Content(OffersConfig(url=url, ca_file=ca), tmp_path)
        with pytest.raises(FetchError, match=said):
            content.require(graph(root), {})
    assert not list(tmp_path.iterdir())


def test_nothing_is_given_without_encryption_where_there_is_a_certificate(site, tmp_path):
    root, *_ = site
    with Served(site, "server") as url:
        content = Content(OffersConfig(url=url.replace("https", "http")), tmp_path)
        with pytest.raises(FetchError, match=r"not reached|connection was lost"):
            content.require(graph(root), {})


def test_an_authority_for_an_address_without_encryption_is_refused(tmp_path):
    (tmp_path / "agent.yaml").write_text(
        "machines: [{name: pump}]\nmqtt: {host: h}\nbundles: {public_key: k}\n"
        "offers: {url: 'http://plant:8470', ca_file: ca.pem}\n"
    )
    with pytest.raises(ConfigError, match=r"offers.*ca_file is for https://"):
        load_config(tmp_path / "agent.yaml")


def test_a_certificate_that_cannot_be_used_is_told_at_the_start(site, tmp_path):
    *_, pairs, repository = site
    (tmp_path / "bad.pem").write_text("no certificate")
    config = RolloutConfig(port=0, cert_file=tmp_path / "bad.pem", key_file=pairs["server"].key)
    with pytest.raises(ConfigError, match=r"bad\.pem.*certificate"):
        ContentServer(repository, config).start()


def test_a_certificate_that_is_renewed_is_shown_without_a_restart(site, tmp_path):
    _, ours, *_, repository = site
    pair = ours.issue("renewed", expired=True)
    config = RolloutConfig(port=0, cert_file=pair.cert, key_file=pair.key)
    server = ContentServer(repository, config)
    server.start()
    try:
        assert "expired" in shown(server.port, ours.ca)
        ours.issue("renewed")
        server.renew()
        assert shown(server.port, ours.ca) == ""
        pair.key.write_text("no key")  # half written, as by a script that is under way
        server.renew()
        assert shown(server.port, ours.ca) == ""
    finally:
        server.stop()


def shown(port: int, ca) -> str:
    """What a client finds amiss with a server's certificate; empty where it is believed."""
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1"):
                return ""
        except ssl.SSLCertVerificationError as fault:
            return fault.verify_message


def test_a_client_that_says_nothing_holds_no_other_up(site, tmp_path):
    """A port scanner that opens connections and never shakes hands."""
    root, ours, *_ = site
    with Served(site, "server") as url:
        port = int(url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        content = Content(OffersConfig(url=url, ca_file=ours.ca), tmp_path)
        assert content.require(graph(root), {}).is_file()
        for one in silent:
            one.close()


def test_reasons_are_logged_once(site, caplog):
    _, ours, *_ = site
    caplog.set_level(logging.WARNING)
    one = wire(1, ours.ca)
    one.start()
    deadline = time.monotonic() + 4.5  # two attempts, at least
    while time.monotonic() < deadline:
        threading.Event().wait(0.1)
    one.stop()
    assert [r.getMessage() for r in caplog.records].count(
        "127.0.0.1:1: is not reached (Connection refused)"
    ) == 1
