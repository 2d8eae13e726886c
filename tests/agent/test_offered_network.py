"""Offered bundles on a bad network: broken off, altered on the way, killed, shared by machines."""

from __future__ import annotations

import time

import pytest
from support.offer_taker import Device, three_releases
from support.offers import offer_of, release, sha

from agent.bundle.manifest import ENCODER, MANIFEST, FileRecord
from agent.bundle.verify import verify_bundle
from agent.config.offers import OffersConfig
from agent.deploy.content import Content, FetchError
from agent.deploy.offered import OfferTaker
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


def test_a_damaged_beginning_as_a_power_cut_leaves_it_is_fetched_anew(device):
    """The file has its length and holds zeros; so may one that was whole, but not on the disk."""
    one = device()
    content = one.state / "offers/content"
    content.mkdir(parents=True)
    graph, manifest = one.root / "r1" / ENCODER, one.root / "r1" / MANIFEST
    (content / f"{sha(graph)}.part").write_bytes(b"\0" * 1000)
    (content / sha(manifest)).write_bytes(b"\0" * manifest.stat().st_size)
    one.offer("r1", 10)
    one.wait("taken")

    assert verify_bundle(one.place).digest == verify_bundle(one.root / "r1").digest


class Faulty:
    """A server that gives files as it is told to: `spoil` turns what would be sent."""

    def __init__(self, folder, spoil) -> None:
        import http.server
        import threading

        objects = {sha(path): path.read_bytes() for path in folder.iterdir()}
        names = {sha(path): path.name for path in folder.iterdir()}
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                digest = self.path.rpartition("/")[2]
                asked.append(names[digest])
                data = objects[digest]
                sent = spoil(names[digest], asked.count(names[digest]), data)
                self.send_response(200)
                self.send_header("Content-Length", str(max(len(data), len(sent))))
                self.end_headers()
                self.wfile.write(sent)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("file", [MANIFEST, "manifest.sig", ENCODER])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[: len(data) // 2], "connection was lost"),
        (lambda data: b"<html>Log in to the guests' network</html>", ""),
        (lambda data: data + b"more", "is"),
    ],
    ids=["broken off", "a portal's page", "too long"],
)
def test_what_goes_wrong_on_the_way_is_tried_again_and_no_verdict_on_the_bundle(
    site, tmp_path, file, spoil, said
):
    root, _ = site
    server = Faulty(
        root / "r1", lambda name, n, data: spoil(data) if (name, n) == (file, 1) else data
    )
    one = Device(site, tmp_path, url=server.url, token_file=None)
    one.taker.start()
    one.offer("r1", 10)
    one.wait("taken")
    one.taker.stop()
    server.stop()

    states = [told.state for told in one.told]
    assert "refused" not in states
    if said:  # a page that is as long as the file is fetched anew at once
        waiting = next(told for told in one.told if told.state == "waiting")
        assert said in waiting.reason
    assert server.asked.count(file) == 2
    assert verify_bundle(one.place).counter == 1


def test_a_network_that_goes_down_while_it_is_read_is_no_fault_of_the_disk(
    site, tmp_path, monkeypatch
):
    """Such as no route to the host, which is no `ConnectionError`; a full disk is told as it is."""
    root, server = site
    config = OffersConfig(url=f"http://127.0.0.1:{server.port}", token_file=root / "token")
    graph = root / "r1" / ENCODER
    record = FileRecord(sha256=sha(graph), size=graph.stat().st_size)

    class Gone:
        status, length = 200, 10

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _most):
            raise OSError(113, "No route to host")

        read1 = read

    content = Content(config, tmp_path)
    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, **__: Gone())
    for fetch in (lambda: content.small(record.sha256, 100), lambda: content.require(record, {})):
        with pytest.raises(FetchError, match="No route to host"):
            fetch()
    monkeypatch.undo()
    full = Content(config, tmp_path / "full")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / f"{record.sha256}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        full.require(record, {})


def test_machines_of_one_device_share_what_is_fetched_and_do_not_clear_what_another_began(
    site, tmp_path
):
    """Two like machines: the encoder's file comes over the network once."""
    root, server = site
    for name in ("left", "right"):
        release(tmp_path / name, root / "site.key", 1, machine=name)
        Repository(root / "repository").add(tmp_path / name)
    told: list = []
    url = f"http://127.0.0.1:{server.port}"
    config = OffersConfig(url=url, token_file=root / "token", retry_seconds=0.1)
    places = {name: tmp_path / f"{name}.bundle" for name in ("left", "right")}
    taker = OfferTaker(
        config, "line-1", places, tmp_path / "state", root / "site.pub",
        reload=lambda *_, **__: True, in_use=lambda _: "",
        tell=lambda _machine, state: told.append(state),
    )  # fmt: skip
    taker.start()
    for name in places:
        payload = offer_of(tmp_path / name, root / "site.key", 10, machine=name)
        taker.take(name, payload)
    deadline = time.monotonic() + 60
    while sum(one.state == "taken" for one in told) < 2:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    taker.stop()

    first, second = (one for one in told if one.state == "taken")
    shared = (tmp_path / "left" / ENCODER).stat().st_size
    assert first.fetched_bytes == first.bytes
    assert second.fetched_bytes <= second.bytes - shared
    assert not list((tmp_path / "state/offers/content").iterdir())


def test_what_one_machine_began_is_kept_while_another_is_dealt_with(site, tmp_path):
    root, server = site
    release(tmp_path / "left", root / "site.key", 1, machine="left")
    Repository(root / "repository").add(tmp_path / "left")
    told: list = []
    config = OffersConfig(
        url=f"http://127.0.0.1:{server.port}", token_file=root / "token", retry_seconds=600
    )
    places = {"left": tmp_path / "left.bundle", "pump": tmp_path / "pump.bundle"}
    taker = OfferTaker(
        config, "line-1", places, tmp_path / "state", root / "site.pub",
        reload=lambda *_, **__: True, in_use=lambda _: "",
        tell=lambda machine, state: told.append((machine, state)),
    )  # fmt: skip
    begun = tmp_path / "state/offers/content/begun.part"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"half of a file")
    taker.start()
    # What the server does not have is waited for.
    missing = offer_of(tmp_path / "left", root / "site.key", 10, machine="left", manifest="0" * 64)
    taker.take("left", missing)
    taker.take("pump", offer_of(root / "r1", root / "site.key", 11))
    deadline = time.monotonic() + 60
    while ("pump", "taken") not in [(machine, one.state) for machine, one in told]:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    time.sleep(0.2)
    taker.stop()

    assert begun.exists()


def test_no_redirect_is_followed(tmp_path):
    import http.server
    import threading

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = OffersConfig(url=f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(FetchError, match="302"):
        Content(config, tmp_path).small("0" * 64, 10)
    server.shutdown()
    server.server_close()


TAKE = """
import sys, time
from pathlib import Path
from agent.config.offers import OffersConfig
from agent.deploy.offered import OfferTaker
url, root, state, offer = sys.argv[1:]
taker = OfferTaker(
    OffersConfig(url=url, retry_seconds=0.1), "line-1", {"pump": Path(state) / "pump.bundle"},
    Path(state), Path(root) / "site.pub", reload=lambda *_, **__: True, in_use=lambda _: "",
    tell=lambda _, one: print(one.state, one.fetched_bytes, flush=True),
)
taker.start()
taker.take("pump", Path(offer).read_bytes())
time.sleep(60)
"""


def test_a_process_that_is_killed_while_it_fetches_goes_on_where_it_was(site, tmp_path):
    """The server gives a part of a file and falls silent; the agent is killed, and begun again."""
    import http.server
    import subprocess
    import sys
    import threading

    root, _ = site
    graph = root / "r1" / ENCODER
    given, asked, stalled = 3000, [], threading.Event()
    objects = {sha(path): path.read_bytes() for path in (root / "r1").iterdir()}

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            digest = self.path.rpartition("/")[2]
            data, wanted = objects[digest], self.headers.get("Range")
            begin = 0 if wanted is None else int(wanted.removeprefix("bytes=").rstrip("-"))
            if digest == sha(graph):
                asked.append(begin)
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            if digest == sha(graph) and not stalled.is_set():
                self.wfile.write(data[:given])
                self.wfile.flush()
                stalled.set()
                time.sleep(30)
            else:
                self.wfile.write(data[begin:])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    offer = tmp_path / "offer"
    offer.write_bytes(offer_of(root / "r1", root / "site.key", 10))
    words = [
        sys.executable, "-c", TAKE, f"http://127.0.0.1:{server.server_port}", root, tmp_path, offer,
    ]  # fmt: skip
    part = tmp_path / "offers/content" / f"{sha(graph)}.part"
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()
    first.wait()
    kept = part.stat().st_size
    assert 0 < kept <= given
    second = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    states = []
    for line in second.stdout:
        states.append(line.split())
        if line.startswith(("taken", "refused")):
            break
    second.kill()
    second.wait()
    server.shutdown()
    server.server_close()

    assert states[-1][0] == "taken", states
    assert asked == [0, kept]
    assert verify_bundle(tmp_path / "pump.bundle").counter == 1
