"""Downloads: resumed, checked, and honest when there is no network."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import zipfile
from dataclasses import replace

import pytest
from click.testing import CliRunner

from agent.core.errors import AuscultError
from trainer.commands.pretrained import pretrained
from trainer.zoo.catalogue import CATALOGUE, Published, find
from trainer.zoo.fetch import FetchError, fetch, record_of, recorded

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(http.server.ThreadingHTTPServer):
    """Serves one body; can break off, change it, or know nothing of ranges."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag = CONTENT, '"one"'
        self.break_after: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.pt"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if "missing" in self.path:
            self.send_error(404)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start > len(server.body):
                self.send_error(416)
                return
        body = server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body if server.break_after is None else body[: server.break_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def entry() -> Published:
    found = find("dasheng_base")
    assert found is not None
    return replace(found, file="dasheng_base.pt")


def test_downloads_and_records_the_checksum(server, entry, tmp_path):
    seen = []
    path = fetch(
        entry, tmp_path, url=server.url, watch=lambda have, total: seen.append((have, total))
    )
    assert path.read_bytes() == CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert recorded(path) == digest
    assert record_of(path).read_text() == f"{digest}  dasheng_base.pt\n"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "dasheng_base.pt",
        "dasheng_base.pt.sha256",
    ]


def test_a_broken_download_is_continued(server, entry, tmp_path):
    server.break_after = 300_000
    with pytest.raises(FetchError, match="again to continue"):
        fetch(entry, tmp_path, url=server.url)
    assert not (tmp_path / "dasheng_base.pt").exists()
    assert (tmp_path / "dasheng_base.pt.part").stat().st_size == 300_000
    server.break_after = None
    assert fetch(entry, tmp_path, url=server.url).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("how", ["changed", "no ranges", "shrunk"])
def test_a_part_of_another_version_is_not_continued(server, entry, tmp_path, how):
    server.break_after = 300_000
    with pytest.raises(FetchError):
        fetch(entry, tmp_path, url=server.url)
    server.break_after = None
    if how == "changed":
        server.body, server.tag = CONTENT[::-1], '"two"'
    elif how == "shrunk":
        server.body = CONTENT[:1000]
    else:
        server.ranges = False
    assert fetch(entry, tmp_path, url=server.url).read_bytes() == server.body


def test_a_known_checksum_is_enforced(server, entry, tmp_path):
    with pytest.raises(FetchError, match="not the published file"):
        fetch(replace(entry, sha256="0" * 64), tmp_path, url=server.url)
    assert not (tmp_path / "dasheng_base.pt").exists()
    good = replace(entry, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert fetch(good, tmp_path, url=server.url).exists()


def test_not_there(server, entry, tmp_path):
    with pytest.raises(FetchError, match="404") as fault:
        fetch(entry, tmp_path, url=server.url.replace("file", "missing"))
    assert "by hand" in fault.value.remedy


def test_without_a_network_it_says_what_to_do_by_hand(entry, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(FetchError) as fault:
        fetch(entry, tmp_path, url=f"http://127.0.0.1:{port}/x.pt")
    remedy = fault.value.remedy
    assert entry.url in remedy
    assert str(tmp_path / "dasheng_base.pt") in remedy
    assert "auscult pretrained check" in remedy


def test_beats_is_got_by_hand(tmp_path):
    beats = find("BEATs_iter3_plus_AS2M.pt")
    assert beats is not None
    with pytest.raises(FetchError, match="no direct download") as fault:
        fetch(beats, tmp_path)
    assert str(tmp_path / "BEATs_iter3_plus_AS2M.pt") in fault.value.remedy


@pytest.mark.parametrize("inside", ["", "m2d_vit_base-80x608p16x16-221006-mr7_enconly/"])
def test_an_archive_is_unpacked_into_its_own_folder_only(server, tmp_path, inside):
    m2d = find("m2d_vit_base-80x608p16x16-221006-mr7_enconly")
    assert m2d is not None
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr(f"{inside}checkpoint-300.pth", b"weights")
        content.writestr("../outside.pth", b"outside")
        content.writestr(f"{inside}run.py", b"code")
    server.body = archive.read_bytes()
    folder = tmp_path / "checkpoints"
    path = fetch(m2d, folder, url=server.url)
    assert path == folder / m2d.file
    assert path.read_bytes() == b"weights"
    assert not (tmp_path / "outside.pth").exists()
    kept = sorted(p.name for p in folder.rglob("*") if p.is_file())
    assert kept == ["checkpoint-300.pth", "checkpoint-300.pth.sha256"]


def test_files_scheme_is_refused(entry, tmp_path):
    with pytest.raises(FetchError, match="not a web address"):
        fetch(entry, tmp_path, url="file:///etc/hostname")


@pytest.mark.parametrize(
    "name", ["MuQ-large-msd-iter", "m2d_as_vit_base-80x1001p16x16-240213_AS-FT_enconly"]
)
def test_terms_come_before_the_download(server, tmp_path, name):
    asked = CliRunner().invoke(
        pretrained, ["fetch", name, "--to", str(tmp_path), "--url", server.url]
    )
    assert isinstance(asked.exception, AuscultError)
    assert "--accept-licence" in str(asked.exception)
    assert "commercial" in asked.output
    assert not server.asked


def test_command_says_when_what_came_is_no_checkpoint(server, tmp_path):
    got = CliRunner().invoke(
        pretrained, ["fetch", "dasheng_base", "--to", str(tmp_path), "--url", server.url]
    )
    assert isinstance(got.exception, AuscultError)
    assert "not a checkpoint" in str(got.exception)


def test_unknown_name_lists_the_known(tmp_path):
    got = CliRunner().invoke(pretrained, ["fetch", "beats", "--to", str(tmp_path)])
    assert "BEATs_iter3_plus_AS2M" in str(got.exception)


def test_list_names_every_file_its_licence_and_source(tmp_path):
    got = CliRunner().invoke(pretrained, ["list"])
    assert got.exit_code == 0
    for entry in CATALOGUE:
        assert entry.name in got.output
        assert entry.licence in got.output
    for family in ("beats", "m2d", "dasheng", "mn04"):
        page = next(entry.page for entry in CATALOGUE if entry.family == family)
        assert page in got.output
