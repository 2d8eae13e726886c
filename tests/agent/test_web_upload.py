"""A bundle that comes by the page: in pieces, over broken lines, verified before anything is used."""

from __future__ import annotations

import base64
import json
import shutil
import zlib

import httpx
import pytest
import yaml
from support.browser import click, find, open_browser, shown, sized, violations
from support.page import Running, page_config, until

from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest
from agent.web.upload_models import SLICE_BYTES

ACT = {"X-Auscult": "1"}
PLACE = "/api/machines/pump/upload"


@pytest.fixture
def other(tmp_path, tiny_bundle):
    """Another bundle for the machine, made later."""
    from agent.bundle.seal import seal

    folder = tmp_path / "other.bundle"
    shutil.copytree(tiny_bundle, folder)
    manifest = read_manifest(folder)
    (folder / "manifest.json").unlink()
    seal(
        folder,
        manifest.model_copy(update={"created": "2031-01-01T00:00:00+00:00", "notes": ("newer",)}),
    )
    return folder


@pytest.fixture
def running(tmp_path, tiny_bundle):
    with Running(page_config(tmp_path, tiny_bundle, [(12, 440)])) as found:
        until(lambda: found.agent.pipelines[0].counters.windows > 1)
        yield found


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url, timeout=30, headers=ACT) as found:
        yield found


def order(folder):
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    return {"files": files, "manifest_crc32": zlib.crc32((folder / "manifest.json").read_bytes())}


def slices(folder, received):
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for at in range(received.get(path.name, 0), len(data), SLICE_BYTES):
            yield piece(path.name, at, data[at : at + SLICE_BYTES])


def piece(name, at, data):
    return {"file": name, "offset": at, "crc32": zlib.crc32(data),
            "data": base64.b64encode(data).decode()}  # fmt: skip


def upload(client, folder):
    begun = client.post(PLACE, json=order(folder)).json()
    for one in slices(folder, begun["received"]):
        answer = client.post(f"{PLACE}/slice", json=one)
        assert answer.status_code == 200, answer.text
    assert client.post(f"{PLACE}/check").status_code == 200
    return until(lambda: (now := client.get(PLACE).json())["state"] != "checking" and now, 60)


def test_a_bundle_is_compared_and_used_on_a_click_alone(running, client, other):
    before = read_manifest(running.agent.config.bundle_at("pump")).digest
    found = upload(client, other)
    assert found["state"] == "checked", found["text"]
    new = read_manifest(other).digest
    rows = {row["what"]: (row["now"], row["new"]) for row in found["compared"]}
    assert rows["Digest"] == (before[:12], new[:12])
    assert rows["Made"][1].startswith(("2031-01-01", "2030-12-31"))
    assert "newer" in found["notes"]
    assert "it finds 0 above its threshold" in found["text"]
    assert read_manifest(running.agent.config.bundle_at("pump")).digest == before
    refused = client.post(f"{PLACE}/use", json={"digest": "0" * 64})
    assert refused.status_code == 409
    used = client.post(f"{PLACE}/use", json={"digest": new}).json()
    assert used["state"] == "used"
    until(lambda: running.agent.bundle_infos()["pump"].manifest_sha256 == new, 30)
    assert not (running.agent.config.state_path / "uploads" / "pump").exists()


def test_it_goes_on_after_a_broken_line_and_a_restart(tmp_path, tiny_bundle, other):
    path = page_config(tmp_path, tiny_bundle, [(12, 440)])
    sent = list(slices(other, {}))
    first = sent[: len(sent) - 2]
    with (
        Running(path) as found,
        httpx.Client(base_url=found.url, timeout=30, headers=ACT) as client,
    ):
        client.post(PLACE, json=order(other))
        for one in first:
            client.post(f"{PLACE}/slice", json=one)
        # The answer to a piece was lost: it is sent again, and nothing is there twice.
        again = client.post(f"{PLACE}/slice", json=first[-1]).json()
        assert again["bytes"] == sum(len(base64.b64decode(one["data"])) for one in first)
        ahead = client.post(f"{PLACE}/slice", json={**sent[-1], "offset": sent[-1]["offset"] + 1})
        assert ahead.status_code == 409
        early = client.post(f"{PLACE}/check")
        assert early.status_code == 409
    with (
        Running(path) as found,
        httpx.Client(base_url=found.url, timeout=30, headers=ACT) as client,
    ):
        begun = client.post(PLACE, json=order(other)).json()
        assert begun["bytes"] == again["bytes"]
        assert upload(client, other)["state"] == "checked"
        # Another bundle begins anew.
        anew = {**order(other), "manifest_crc32": 1}
        assert client.post(PLACE, json=anew).json()["bytes"] == 0


def test_what_was_altered_is_refused_and_the_machine_goes_on(running, client, other):
    place, before = (
        running.agent.config.bundle_at("pump"),
        running.agent.pipelines[0].counters.windows,
    )
    digest = read_manifest(place).digest
    bank = bytearray((other / "bank.npy").read_bytes())
    bank[-1] ^= 1
    (other / "bank.npy").write_bytes(bytes(bank))
    found = upload(client, other)
    assert found["state"] == "refused"
    assert "altered" in found["text"]
    assert client.post(f"{PLACE}/use", json={"digest": digest}).status_code == 409
    assert read_manifest(place).digest == digest
    until(lambda: running.agent.pipelines[0].counters.windows > before)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"files": {"bank.npy": 10}}, 422, "no manifest.json among these files"),
        ({"files": {"manifest.json": 10, "../x": 1}}, 422, "../x"),
        ({"files": {"manifest.json": 10, "bank.npy": 600_000_000}}, 413, "web.upload_mb"),
        ({"files": {"manifest.json": 10, ".hidden": 1}}, 422, ".hidden"),
    ],
)
def test_what_is_no_bundle_is_told_before_a_byte_is_sent(client, change, status, said):
    answer = client.post(PLACE, json={"manifest_crc32": 1, **change})
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_piece_that_changed_on_its_way_is_not_written(running, client, other):
    client.post(PLACE, json=order(other))
    one = next(iter(slices(other, {})))
    answer = client.post(f"{PLACE}/slice", json={**one, "crc32": one["crc32"] ^ 1})
    assert answer.status_code == 422
    assert client.get(PLACE).json()["bytes"] == 0
    answer = client.post(f"{PLACE}/slice", json={**one, "file": "other.npy"})
    assert answer.status_code == 409
    assert client.request("DELETE", PLACE).json()["state"] == "none"


def test_a_device_of_signed_bundles_takes_none_that_is_not(tmp_path, tiny_bundle, other):
    private, public = tmp_path / "key", tmp_path / "key.pub"
    make_keys(private, public)
    signed = tmp_path / "signed"
    shutil.copytree(tiny_bundle, signed)
    sign_folder(signed, load_private(private))
    path = page_config(tmp_path, signed, [(12, 440)], bundles={"public_key": str(public)})
    with (
        Running(path) as found,
        httpx.Client(base_url=found.url, timeout=30, headers=ACT) as client,
    ):
        refused = upload(client, other)
        assert refused["state"] == "refused"
        assert "sign" in refused["text"]
        sign_folder(other, load_private(private))
        assert upload(client, other)["state"] == "checked"


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.mark.slow
def test_a_folder_is_chosen_looked_at_and_used_in_a_browser(browser, running, other):
    new = read_manifest(other).digest
    browser.get(f"{running.url}/#setup/pump")
    shown(browser, ".link.on", "connected")
    field = until(lambda: find(browser, "#upload-files"))[0]
    field.send_keys("\n".join(str(path) for path in sorted(other.iterdir())))
    shown(browser, "#upload-status", "Verified", seconds=60)
    assert new[:12] in shown(browser, "#upload-compared", "Uploaded").text
    for width in (390, 1280):
        sized(browser, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert violations(browser) == [], width
    sized(browser, 0)
    click(browser, "#upload-use")
    shown(browser, "#upload-status", "taken up within")
    until(lambda: running.agent.bundle_infos()["pump"].manifest_sha256 == new, 30)
    trail = [json.loads(line) for line in
             (running.agent.config.state_path / "audit" / "commands.jsonl").read_text().splitlines()]  # fmt: skip
    asked = [one["command"] for one in trail]
    assert "POST /api/machines/pump/upload/use" in asked
    assert not [one for one in asked if one.endswith("/slice")]
    assert yaml.safe_load((running.agent.config.bundle_at("pump") / "manifest.json").read_text())
