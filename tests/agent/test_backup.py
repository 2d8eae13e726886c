"""Backup and restore: a dead device's work on a new one, whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import pytest
from click.testing import CliRunner
from support.bundles import build_bundle
from support.told import tell
from test_publish import raised

from agent.backup.contents import MANIFEST
from agent.commands.backup import backup
from agent.commands.restore import restore
from agent.config.publish import MqttConfig
from agent.core.errors import ConfigError
from agent.deploy.device_key import ensure_device_key
from agent.publish.mqtt import MqttPublisher
from agent.publish.outbox import Outbox
from agent.publish.store import EventStore

CONFIG = """\
device: dev
state_dir: state
machines:
- name: pump
  bundle: bundle
  source: {kind: replay, paths: [sound]}
mqtt: {host: 127.0.0.1, port: 1}
"""


@pytest.fixture
def device(tmp_path):
    """One with an agent that has worked: a key, an alarm that stands, evidence, a grown bank."""
    root = tmp_path / "old"
    root.mkdir()
    (root / "agent.yaml").write_text(CONFIG)
    shutil.copytree(build_bundle(tmp_path / "b" / "tiny"), root / "bundle")
    (root / "bundle" / "healthy_sound.flac").write_text("as exported bundles have")
    state = root / "state"
    for name, text in {
        "state/pump.json": '{"level": "alarm"}',
        "evidence/pump/20261101/evidence.json": "{}",
        "evidence/pump/20261101/feedback.json": '{"verdict": "healthy"}',
        "evidence/pump/20261101/sound.flac": "speech, perhaps",
        "collected/pump/idle/s/0001.flac": "more of it",
        "bank/pump/.bundle.77.x/manifest.json": "of an opening that was cut off",
        "engines/plan": "of this device's processor",
        "bank/pump/0002/manifest.json": "{}",
        "bank/pump/0002/healthy_sound.flac": "windows of a bundle, without which it is not whole",
    }.items():
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(text)
    (state / "bank/pump/current").symlink_to("0002")
    (state / "bank/pump/elsewhere").symlink_to("/etc")
    (state / "device.key").write_text("secret")
    return root


def call(command, *words):
    done = CliRunner().invoke(command, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def saved(device, *words):
    file = device.parent / "dev.tar.gz"
    text = call(backup, file, "--config", device / "agent.yaml", *words)
    return file, text


def tree(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() or p.is_symlink()}


def test_a_dead_device_s_work_is_on_a_new_one(device, tmp_path):
    file, text = saved(device)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "private key" in text
    assert "2 files of recorded sound are left out" in text
    new = tmp_path / "new"
    text = call(restore, file, "--config", new / "agent.yaml")
    assert "written, as there was none" in text
    assert tree(new / "bundle") == tree(device / "bundle")
    wanted = tree(device / "state") - {
        "evidence/pump/20261101/sound.flac", "collected/pump/idle/s/0001.flac", "engines/plan",
        "bank/pump/elsewhere", "bank/pump/.bundle.77.x/manifest.json",
    }  # fmt: skip
    assert tree(new / "state") == wanted | {"outbox/outbox.lock"}
    assert (new / "state/bank/pump/current").readlink().name == "0002"
    assert (new / "state/device.key").stat().st_mode & 0o777 == 0o600
    assert (new / "state/bank").stat().st_mode & 0o777 == 0o700


def test_sound_only_when_asked(device, tmp_path):
    file, text = saved(device, "--with-sound")
    assert "left out" not in text
    call(restore, file, "--config", tmp_path / "new" / "agent.yaml")
    assert (tmp_path / "new/state/evidence/pump/20261101/sound.flac").read_text() == (
        "speech, perhaps"
    )


def test_events_that_wait_are_saved_from_a_running_agent_and_wait_on_the_new_device(
    device, tmp_path
):
    publisher = MqttPublisher(
        MqttConfig(host="127.0.0.1", port=1), "dev", ["pump"], device / "state" / "outbox"
    )
    publisher.start()
    try:
        tell(publisher, raised(0, "a"))
        file, _ = saved(device)
        tell(publisher, raised(1, "later"))
    finally:
        publisher.stop()
    new = tmp_path / "new"
    call(restore, file, "--config", new / "agent.yaml")
    outbox = Outbox(EventStore(new / "state" / "outbox", 1_000_000))
    outbox.start()
    try:
        assert outbox.pending_events() == 1
        message = outbox.next_event()
        assert message is not None
        assert message.id == "a-raised"
    finally:
        outbox.stop()


def test_nothing_is_overwritten_and_nothing_deleted(device, tmp_path):
    file, _ = saved(device)
    with pytest.raises(ConfigError, match="is there already"):
        saved(device)
    with pytest.raises(ConfigError, match=r"holds something already.*device\.key"):
        call(restore, file, "--config", device / "agent.yaml")
    (device / "state/state/pump.json").write_text("newer")
    text = call(restore, file, "--config", device / "agent.yaml", "--force")
    assert f"{device / 'bundle'}: left as it is" in text
    (aside,) = (device / "state").glob("before-restore-*")
    assert (aside / "state/pump.json").read_text() == "newer"
    assert (aside / "engines/plan").exists()
    assert json.loads((device / "state/state/pump.json").read_text())["level"] == "alarm"
    # What was moved aside is in no later backup.
    file.unlink()
    saved(device)
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if "before-restore" in name]


def test_not_under_a_running_agent(device):
    file, _ = saved(device)
    store = EventStore(device / "state" / "outbox", 1_000_000)
    store.start()
    try:
        with pytest.raises(ConfigError, match="another agent uses this folder"):
            call(restore, file, "--config", device / "agent.yaml", "--force")
        assert (device / "state/device.key").exists()
    finally:
        store.stop()


@pytest.mark.parametrize("share", [0.2, 0.7, 0.9])
def test_a_backup_that_is_cut_short_changes_nothing(device, tmp_path, share):
    file, _ = saved(device)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"damaged, or cut short|has no backup\.json"):
        call(restore, file, "--config", tmp_path / "new" / "agent.yaml")
    assert not (tmp_path / "new").exists()


def _with(file, change):
    """The archive again, its files changed by name."""
    with tarfile.open(file) as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar}
    entries = change(files)
    with tarfile.open(file, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for entry in entries or ():
            tar.addfile(entry)


def _link(_files):
    entry = tarfile.TarInfo("state/pump.json")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [entry]


def _altered(files):
    files["state/device.key"] = b"another"


def _climbs(files):
    files["state/../../../escaped"] = b"x"


def _absolute(files):
    files["/tmp/auscult-escaped"] = b"x"


def _unlisted(files):
    files["state/extra.json"] = b"{}"


def _newer(files):
    about = json.loads(files[MANIFEST])
    files[MANIFEST] = json.dumps({**about, "format": 99}).encode()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_link, "no plain file"),
        (_altered, "device.key is not as it was saved"),
        (_climbs, "no plain file"),
        (_absolute, "no plain file"),
        (_unlisted, "extra.json is not as it was saved"),
        (_newer, "its layout is 99"),
    ],
)
def test_what_no_backup_writes_is_refused_before_anything_is_touched(device, tmp_path, change, why):
    file, _ = saved(device)
    _with(file, change)
    with pytest.raises(ConfigError, match=why):
        call(restore, file, "--config", tmp_path / "new" / "agent.yaml")
    assert not (tmp_path / "new").exists()


def test_a_key_that_is_restored_is_this_device_s_from_then_on(device, tmp_path):
    (device / "state/device.key").unlink()
    assert ensure_device_key(device / "state")
    file, _ = saved(device)
    call(restore, file, "--config", tmp_path / "new" / "agent.yaml")
    assert not ensure_device_key(tmp_path / "new/state")  # none is made
    for name in ("device.key", "device.key.pub"):
        old, new = (root / "state" / name for root in (device, tmp_path / "new"))
        assert new.read_bytes() == old.read_bytes()
