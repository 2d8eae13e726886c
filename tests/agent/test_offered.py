"""Offered bundles: fetched from where it was left off, verified, put in place, or refused."""

from __future__ import annotations

import shutil
import time

import pytest
from support.offer_taker import Device, three_releases
from support.offers import keys, offer_of, release, sha

from agent.bundle.manifest import BANK, ENCODER, MANIFEST, FileRecord
from agent.bundle.verify import read_manifest, verify_bundle
from agent.config.agent import load_config
from agent.config.offers import OffersConfig
from agent.core.errors import ConfigError
from agent.deploy.content import Content
from plant.rollout.repository import Repository

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A key, three releases of a bundle, and a server of all of them."""
    with three_releases(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def device(site, tmp_path):
    made = []

    def make(**config):
        one = Device(site, tmp_path, **config)
        one.taker.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.taker.stop()


def test_an_offered_bundle_is_fetched_verified_and_taken_up(device):
    one = device()
    assert one.told[0].state == "none"
    one.offer("r1", 10, reason="first")
    taken = one.wait("taken")

    assert verify_bundle(one.place).digest == verify_bundle(one.root / "r1").digest
    assert one.reloads == [("pump", "offered: first", False)]
    assert (
        taken.fetched_bytes
        == taken.bytes
        == sum(path.stat().st_size for path in (one.root / "r1").iterdir())
    )
    assert not list((one.state / "offers/content").iterdir())
    assert not (one.state / "offers/before/pump").exists()


def test_only_changed_files_are_fetched(device):
    one = device()
    shutil.copytree(one.root / "r1", one.place)
    one.offer("r2", 11)
    taken = one.wait("taken")

    same = sum((one.root / "r1" / name).stat().st_size for name in (ENCODER, BANK))
    assert taken.reused_bytes >= same
    assert taken.fetched_bytes + taken.reused_bytes == taken.bytes
    assert taken.fetched_bytes == sum(
        (one.root / "r2" / name).stat().st_size for name in (MANIFEST, "manifest.sig")
    )


def test_a_download_goes_on_where_it_was_left_off(site, tmp_path):
    root, server = site
    config = OffersConfig(url=f"http://127.0.0.1:{server.port}", token_file=root / "token")
    content = Content(config, tmp_path)
    file = root / "r1" / ENCODER
    record = FileRecord(sha256=sha(file), size=file.stat().st_size)
    (tmp_path / f"{record.sha256}.part").write_bytes(file.read_bytes()[:1000])

    assert content.require(record, {}).read_bytes() == file.read_bytes()
    assert content.fetched == record.size - 1000


def test_a_file_of_another_bundle_that_is_damaged_is_not_reused(site, tmp_path):
    root, server = site
    config = OffersConfig(url=f"http://127.0.0.1:{server.port}", token_file=root / "token")
    content = Content(config, tmp_path / "content")
    file = root / "r1" / ENCODER
    record = FileRecord(sha256=sha(file), size=file.stat().st_size)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(file.read_bytes()[:-1] + b"\0\0")

    assert content.require(record, {record.sha256: bad}).read_bytes() == file.read_bytes()
    assert (content.fetched, content.reused) == (record.size, 0)


def test_without_the_token_nothing_is_served_and_the_offer_waits(device):
    one = device(token_file=None)
    one.offer("r1", 10)
    waiting = one.wait("waiting")

    assert "401" in waiting.reason
    assert not one.place.exists()


def test_a_server_that_is_away_is_tried_again(site, tmp_path):
    one = Device(site, tmp_path, url="http://127.0.0.1:9")
    one.taker.start()
    one.offer("r1", 10)
    assert "not reached" in one.wait("waiting").reason
    one.taker.stop()
    # The next start finds the server; the broker gives the offer again.
    one.config = one.config.model_copy(update={"url": one.url})
    one.taker = one.new()
    one.taker.start()
    one.offer("r1", 10)
    one.wait("taken")
    one.taker.stop()


def test_an_offer_that_is_withdrawn_while_it_waits_is_waited_for_no_more(device):
    one = device(url="http://127.0.0.1:1")
    one.offer("r1", 10)
    one.wait("waiting")
    one.taker.take("pump", b"")
    time.sleep(0.3)  # the next attempt would be due by now
    begin, spent = time.monotonic(), time.process_time()
    time.sleep(0.5)
    assert time.process_time() - spent < 0.5 * (time.monotonic() - begin)


def test_an_older_bundle_is_refused_unless_both_sides_say_downgrade(device):
    one = device()
    shutil.copytree(one.root / "r2", one.place)
    one.offer("r1", 10)
    assert "is older" in one.wait("refused").reason
    one.told.clear()
    one.offer("r1", 11, downgrade=True)
    assert "takes no downgrade" in one.wait("refused").reason
    assert one.reloads == []
    assert read_manifest(one.place).counter == 2


def test_a_downgrade_that_is_allowed_is_taken(device):
    one = device(allow_downgrade=True)
    shutil.copytree(one.root / "r2", one.place)
    one.offer("r1", 11, downgrade=True)
    one.wait("taken")

    assert one.reloads == [("pump", "offered", True)]
    assert read_manifest(one.place).counter == 1


def test_a_bundle_that_cannot_be_taken_up_leaves_the_one_before(device):
    one = device()
    shutil.copytree(one.root / "r1", one.place)
    before = read_manifest(one.place).digest
    one.refuse = "gives other answers here"
    one.offer("r2", 11)
    refused = one.wait("refused")

    assert "gives other answers here" in refused.reason
    assert verify_bundle(one.place).digest == before
    assert not (one.state / "offers/before/pump").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda payload, root: payload.replace(b'sequence\\":10', b'sequence\\":99'),
        lambda payload, root: payload[:-40],
        lambda payload, root: b"{}",
        lambda payload, root: b"\xff" * 100,
        lambda payload, root: offer_of(root / "r1", root / "site.key", 10, device="line-2"),
        lambda payload, root: offer_of(root / "r1", root / "site.key", 10, machine="fan"),
    ],
    ids=["altered", "cut", "empty", "noise", "another device's", "another machine's"],
)
def test_what_the_site_did_not_offer_this_machine_is_not_looked_at(device, change):
    one = device()
    payload = offer_of(one.root / "r1", one.root / "site.key", 10)
    changed = change(payload, one.root)
    assert changed != payload
    one.taker.take("pump", changed)
    one.offer("r2", 11)
    one.wait("taken")

    assert read_manifest(one.place).counter == 2
    assert {one.sequence for one in one.told} == {0, 11}


def test_an_offer_by_another_key_is_not_looked_at(device, tmp_path_factory):
    one = device()
    other = keys(tmp_path_factory.mktemp("other"))
    one.taker.take("pump", offer_of(one.root / "r1", other, 10))
    one.offer("r2", 11)
    one.wait("taken")
    assert {one.sequence for one in one.told} == {0, 11}


def test_a_bundle_by_another_key_is_refused_though_the_offer_is_ours(site, tmp_path):
    root, _ = site
    other = keys(tmp_path)
    release(tmp_path / "theirs", other, 9)
    Repository(root / "repository").add(tmp_path / "theirs")
    one = Device(site, tmp_path)
    one.taker.start()
    one.taker.take("pump", offer_of(tmp_path / "theirs", root / "site.key", 12))
    refused = one.wait("refused")
    one.taker.stop()

    assert "sign" in refused.reason
    assert not one.place.exists()


def test_an_offer_that_was_dealt_with_is_not_dealt_with_again_after_a_restart(device):
    one = device()
    one.offer("r1", 10)
    one.wait("taken")
    one.offer("r2", 11)
    deadline = time.monotonic() + 60
    while len(one.reloads) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    one.taker.stop()
    one.told.clear()
    one.taker = one.new()
    one.taker.start()
    one.offer("r1", 10)  # an old one, replayed
    one.offer("r2", 11)
    time.sleep(0.5)

    assert [(one.state, one.sequence) for one in one.told] == [("taken", 11)]
    assert len(one.reloads) == 2


def test_offers_need_a_broker_and_a_key(tmp_path):
    (tmp_path / "agent.yaml").write_text(
        "machines: [{name: pump}]\noffers: {url: 'https://plant:8470'}\n"
    )
    with pytest.raises(ConfigError, match="public_key"):
        load_config(tmp_path / "agent.yaml")
