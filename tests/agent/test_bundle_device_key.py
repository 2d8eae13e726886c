"""Versions grown on a device that takes only signed bundles: who vouches for them."""

from __future__ import annotations

import json
import shutil
import stat

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import tone, write
from test_bank_growth import NEW_HZ, add

pytest.importorskip("cryptography")

from agent.bundle.manifest import SIGNATURE
from agent.bundle.seal import seal
from agent.bundle.sign import GROWN, load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest
from agent.commands.bank import bank
from agent.commands.doctor import doctor
from agent.commands.score import score
from agent.config.agent import load_config
from agent.core.errors import AuscultError, BundleError
from agent.deploy.device_key import Vouching, device_key, ensure_device_key
from agent.deploy.trust import Opening, TrustedBundle
from agent.deploy.versions import Versions, beside
from agent.extensions import Extensions


@pytest.fixture
def site(tmp_path, tiny_bundle):
    """A device with a signed bundle, the key it asks for, and healthy sound of a new condition."""
    shutil.copytree(tiny_bundle, tmp_path / "pump")
    make_keys(tmp_path / "site.key", tmp_path / "site.key.pub")
    sign_folder(tmp_path / "pump", load_private(tmp_path / "site.key"))
    for n in range(3):
        write(tmp_path / "new" / f"{n}.wav", tone(3, NEW_HZ, seed=n))
    (tmp_path / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "state_dir": "state",
                "bundles": {"public_key": "site.key.pub"},
                "machines": [{"name": "pump", "bundle": "pump", "source": "replay:new"}],
            }
        )
    )
    return tmp_path


def trusted(site):
    opening = Opening(public_key=site / "site.key.pub")
    return TrustedBundle(site / "pump", site / "state", "pump", opening)


def silenced(site, folder):
    """A version made with no key at all, whose threshold nothing ever exceeds."""
    versions = Versions(site / "pump", folder)
    number = add(site / "pump", versions, site / "new").version
    manifest = read_manifest(versions.path(number))
    threshold = manifest.threshold.model_copy(update={"value": 1e30})
    seal(versions.path(number), manifest.model_copy(update={"threshold": threshold}))
    versions.use(number)
    return versions


def run(command, *args, code=0):
    done = CliRunner().invoke(command, [str(arg) for arg in args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def agent_growth(site):
    """The agent's bundles as it opens them at its start."""
    growth = Extensions(
        load_config(site / "agent.yaml"), lambda _: None, lambda *_: None, lambda *_: None,
        lambda *_: None,
    )  # fmt: skip
    growth.open_bundles()
    return growth


def test_an_unsigned_version_beside_a_signed_bundle_is_refused_everywhere(site):
    ensure_device_key(site / "state")
    silenced(site, beside(site / "pump"))
    one = trusted(site)
    with pytest.raises(BundleError, match="not signed by this device"):
        one.open_wanted()
    opened = one.open_any()
    assert opened.manifest.threshold.value == 0.05
    assert "not signed by this device" in one.refusal
    opened.close()
    found = json.loads(run(doctor, "--config", site / "agent.yaml", "--json", code=1))
    (finding,) = [entry for entry in found if entry["name"] == "bundle of pump"]
    assert finding["grade"] == "fail"
    assert "not signed by this device" in finding["text"]
    assert "bank sign" in finding["remedy"]
    for words in (("list",), ("add", site / "new", "--label", "healthy"), ("compact", "--rows", 9)):
        with pytest.raises(BundleError, match="not signed by this device"):
            run(bank, *words, "--config", site / "agent.yaml")
    with pytest.raises(BundleError, match="not signed"):
        run(
            score, "--bundle", site / "pump.versions" / "0001", site / "new",
            "--public-key", site / "site.key.pub",
        )  # fmt: skip
    run(score, "--bundle", site / "pump", site / "new", "--public-key", site / "site.key.pub")


def test_an_unsigned_version_in_the_state_is_refused_once_the_device_has_its_key(site):
    ensure_device_key(site / "state")
    silenced(site, site / "state" / "bank" / "pump")
    assert trusted(site).open_any().manifest.threshold.value == 0.05
    with pytest.raises(BundleError, match="not signed by this device"):
        run(bank, "use", 1, "--config", site / "agent.yaml")


def test_what_the_device_grows_is_signed_and_taken_up(site):
    which = ("--config", site / "agent.yaml")
    run(bank, "add", site / "new", "--label", "healthy", "--max-rise", 9, *which)
    key = device_key(site / "state")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    opened = trusted(site).open_wanted()
    assert opened.manifest.growth.version == 1
    opened.close()
    grown = site / "state/bank/pump/0001"
    public = site / "state/device.key.pub"
    run(score, "--bundle", grown, site / "new", "--public-key", public)
    assert run(bank, "list", *which).count("\n") == 2
    # A power cut between the two halves of the key costs nothing.
    public.unlink()
    agent_growth(site).stop()
    trusted(site).open_wanted().close()
    # Another device's signature is none.
    shutil.rmtree(site / "state" / "bank")
    shutil.copytree(site / "state", site / "elsewhere")
    key.unlink()
    run(bank, "add", site / "new", "--label", "healthy", "--max-rise", 9, *which)
    for name in (key.name, public.name):
        shutil.copy(site / "elsewhere" / name, site / "state" / name)
    with pytest.raises(BundleError, match="this device trusts"):
        trusted(site).open_wanted()


def test_a_version_is_of_use_beside_its_own_export_alone(site):
    which = ("--config", site / "agent.yaml")
    run(bank, "add", site / "new", "--label", "healthy", "--max-rise", 9, *which)
    vouching = Vouching(site / "site.key.pub", site / "state")
    grown = site / "state/bank/pump/0001"
    vouching.check(grown, site / "pump")
    # The same graph, exported anew: what grew from the other export is not of this one.
    other = site / "other"
    shutil.copytree(site / "pump", other)
    seal(other, read_manifest(other).model_copy(update={"notes": ("anew",)}))
    sign_folder(other, load_private(site / "site.key"))
    with pytest.raises(BundleError, match="did not grow"):
        vouching.check(grown, other)
    # A signed export is no version, whatever it says it grew from.
    manifest = read_manifest(grown)
    seal(grown, manifest)
    sign_folder(grown, load_private(device_key(site / "state")))  # as an export is signed
    with pytest.raises(BundleError, match="does not fit"):
        vouching.check(grown, site / "pump")


def test_versions_of_a_device_without_a_key_are_adopted_once(site, caplog):
    state = silenced(site, site / "state" / "bank" / "pump")
    silenced(site, beside(site / "pump"))
    agent_growth(site).stop()
    assert "signed with it now: 1" in caplog.text
    assert (state.path(1) / SIGNATURE).is_file()
    # What anybody may have put beside the bundle is nobody's.
    assert not (beside(site / "pump") / "0001" / SIGNATURE).exists()
    assert trusted(site).open_wanted().manifest.growth.version == 1
    # Only when the key is made: what comes later must be signed as it is made.
    (state.path(1) / SIGNATURE).unlink()
    agent_growth(site).stop()
    assert not (state.path(1) / SIGNATURE).exists()


def test_a_person_may_vouch_for_a_version(site):
    which = ("--config", site / "agent.yaml")
    ensure_device_key(site / "state")
    versions = silenced(site, site / "state" / "bank" / "pump")
    assert "version 1: signed" in run(bank, "sign", 1, *which)
    trusted(site).open_wanted().close()
    (versions.path(1) / SIGNATURE).unlink()
    on_bench = ("--bundle", site / "pump", "--versions", versions.folder)
    run(bank, "sign", 1, "--key", site / "site.key", *on_bench)
    trusted(site).open_wanted().close()
    with pytest.raises(AuscultError, match="nothing need be signed"):
        run(bank, "sign", 1, *on_bench)
    (versions.path(1) / "bank.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bank\.npy"):
        run(bank, "sign", 1, *which)


def test_a_forged_signature_of_a_version_is_refused(site, tmp_path):
    ensure_device_key(site / "state")
    versions = silenced(site, beside(site / "pump"))
    make_keys(tmp_path / "mine", tmp_path / "mine.pub")
    sign_folder(versions.path(1), load_private(tmp_path / "mine"), GROWN)
    with pytest.raises(BundleError, match="this device trusts"):
        trusted(site).open_wanted()
