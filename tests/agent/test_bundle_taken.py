"""An older bundle, or another machine's, does not come into use unnoticed."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import build_bundle
from test_bundle_swap import Judge, ledger

pytest.importorskip("cryptography")

from agent.bundle.seal import new_bundle, seal
from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest
from agent.commands.doctor import doctor
from agent.core.errors import AuscultError, BundleError
from agent.deploy.swap import BundleSwapper
from agent.deploy.trust import Opening, TrustedBundle

TRIAL = 2


@pytest.fixture
def site(tmp_path):
    make_keys(tmp_path / "site.key", tmp_path / "site.key.pub")
    put(tmp_path, counter=200, threshold=0.05)
    return tmp_path


def put(site, *, counter, machine="pump", threshold=0.06):
    """An export of the site, signed, in its place."""
    build_bundle(site / "made", threshold=threshold)
    manifest = read_manifest(site / "made")
    changed = {"counter": counter, "machine": machine}
    seal(site / "made", manifest.model_copy(update=changed))
    sign_folder(site / "made", load_private(site / "site.key"))
    with new_bundle(site / "pump") as draft:
        shutil.copytree(site / "made", draft, dirs_exist_ok=True)
    shutil.rmtree(site / "made")


def trusted(site, *, signed=True, **opening):
    key = site / "site.key.pub" if signed else None
    return TrustedBundle(site / "pump", site / "state", "pump", Opening(public_key=key, **opening))


def running(site, **opening):
    """An agent's swapper whose bundle has passed its trial."""
    judge = Judge(None)
    swapper = BundleSwapper(
        lambda _: judge, lambda *_: None, watch_seconds=1, trial_windows=TRIAL,
    )  # fmt: skip
    swapper.told = []
    one = trusted(site, **opening)
    judge.bundle = swapper.add("pump", one, one.open_any(), ledger(site, swapper.told))
    use = swapper.uses["pump"]
    use.ledger.begin(use.bundle, one.refusal, one.refused_digest, one.doubt)
    prove(swapper, judge)
    return swapper, judge


def prove(swapper, judge):
    judge.hear(TRIAL)
    swapper.attend("pump", look=False)


def reload(swapper, **fields):
    return swapper.handle({"machine": "pump", "operator": "ada", **fields})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"counter": 100},
            r"is older \(counter 100, made .*\) than one that was taken up before \(co",
        ),
        ({"counter": 0}, "is older"),
        (
            {"counter": 300, "machine": "fan"},
            "is of machine 'fan', and those of 'pump' are taken up",
        ),
    ],
)
def test_an_older_bundle_and_another_machines_are_refused_though_signed(site, changes, message):
    swapper, _ = running(site)
    put(site, **changes)
    with pytest.raises(BundleError, match=message):
        reload(swapper)
    for _ in range(3):
        swapper.attend("pump", look=True)
    assert swapper.bundle("pump").manifest.threshold.value == 0.05
    assert [event.kind.value for event in swapper.told] == ["refused"]
    # After a restart the copy that was proved is judged by.
    one = trusted(site)
    assert one.open_any().manifest.threshold.value == 0.05
    assert "allow_older" in one.refusal
    assert not one.doubt  # that was of the one that was refused


def test_an_operator_has_it_taken_up_and_that_is_told_and_counts_from_now_on(site, caplog):
    swapper, judge = running(site)
    put(site, counter=100)
    assert reload(swapper, allow_older=True)["changed"]
    prove(swapper, judge)
    assert swapper.bundle("pump").manifest.counter == 100
    (event,) = swapper.told
    assert "asked for by ada; it is older (counter 100" in event.reason
    assert "is older (counter 100" in caplog.text
    assert trusted(site).open_wanted().manifest.counter == 100
    put(site, counter=99)
    with pytest.raises(BundleError, match="is older"):
        reload(swapper)


def test_an_operators_word_holds_over_a_restart_during_the_trial(site):
    swapper, _ = running(site)
    put(site, counter=100)
    reload(swapper, allow_older=True)
    assert trusted(site).open_wanted().manifest.counter == 100


def test_the_counter_grows_once_a_bundle_has_proved_itself(site):
    swapper, judge = running(site)
    put(site, counter=300)
    reload(swapper)
    taken = site / "state/bank/pump/taken.json"
    assert json.loads(taken.read_text()) == {"machine": "pump", "counter": 200}
    prove(swapper, judge)
    assert json.loads(taken.read_text()) == {"machine": "pump", "counter": 300}


def test_configuration_allows_it_and_it_is_told(site, caplog):
    running(site)
    put(site, counter=100, machine="fan")
    swapper, _ = running(site, allow_older=True)
    assert swapper.bundle("pump").manifest.machine == "fan"
    (event,) = swapper.told
    assert event.reason.startswith("found at the start; it is of machine 'fan'")
    assert "is of machine 'fan'" in caplog.text


def test_an_unsigned_setup_is_warned_once(site, caplog):
    running(site, signed=False)
    put(site, counter=100)
    swapper, _ = running(site, signed=False)
    assert swapper.bundle("pump").manifest.counter == 100
    assert "is older" in caplog.text
    caplog.clear()
    trusted(site, signed=False).open_wanted()
    assert "is older" not in caplog.text


def test_bundles_from_before_there_were_counters_are_taken_up_as_before(site):
    put(site, counter=0, machine="", threshold=0.04)
    swapper, _ = running(site)
    put(site, counter=0, machine="", threshold=0.05)
    assert reload(swapper)["changed"]
    put(site, counter=5, machine="toy")  # what the older ones were trained for
    assert reload(swapper)["changed"]


def test_doctor_says_so(site):
    running(site)
    put(site, counter=100)
    (site / "new").mkdir()
    config = {
        "state_dir": "state",
        "bundles": {"public_key": "site.key.pub"},
        "machines": [{"name": "pump", "bundle": "pump", "source": "replay:new"}],
    }
    for words, grade in (("taken up before", "fail"), ("taken up before", "warn")):
        (site / "agent.yaml").write_text(yaml.safe_dump(config))
        done = CliRunner().invoke(doctor, ["--config", str(site / "agent.yaml"), "--json"])
        found = {one["name"]: one for one in json.loads(done.output)}["bundle of pump"]
        assert words in found["text"]
        assert found["grade"] == grade
        config["bundles"]["allow_older"] = True


def test_a_damaged_memory_is_kept_aside_and_said(site, caplog):
    running(site)
    taken = site / "state/bank/pump/taken.json"
    taken.write_text("{")
    trusted(site).open_wanted()
    assert "taken.json" in caplog.text
    assert taken.with_name("taken.json.damaged").exists()


def test_an_unknown_machine_is_an_error(site):
    swapper, _ = running(site)
    with pytest.raises(AuscultError, match="no machine 'fan'"):
        swapper.handle({"machine": "fan"})
