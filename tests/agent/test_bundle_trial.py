"""A bundle that ends the process which opens it: a child's, once, and never the agent's again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import build_bundle, tone, write
from support.hostile import enormous, never_ending

from agent.bundle.private import private_copy
from agent.bundle.verify import read_manifest
from agent.cli import InstalledCommands
from agent.config.encode import InferenceConfig
from agent.core.errors import BundleError
from agent.deploy import trial
from agent.deploy.opening import OpeningLog, open_tried
from agent.deploy.trust import Opening, TrustedBundle

pytestmark = pytest.mark.real_trial


@pytest.fixture
def site(tmp_path, tiny_bundle):
    """What worked is kept; then another export is put in its place."""
    shutil.copytree(tiny_bundle, tmp_path / "pump")
    one = trusted(tmp_path)
    one.keep_good(one.open_wanted())
    shutil.rmtree(tmp_path / "pump")
    build_bundle(tmp_path / "pump", threshold=0.07)
    return tmp_path


def trusted(site, seconds=60.0):
    opening = Opening(trial_seconds=seconds, remember=True)
    return TrustedBundle(site / "pump", site / "state", "pump", opening)


def in_child(folder):
    with private_copy(folder) as copy:
        trial.try_in_child(copy, InferenceConfig(), seconds=60)


def test_a_good_bundle_is_tried_once_and_its_faults_are_told_as_ever(site, monkeypatch):
    one = trusted(site)
    assert one.open_any().manifest.threshold.value == 0.07
    assert not (site / "state/bank/pump/opening.json").exists()

    def again(*_, **__):
        raise AssertionError("tried again")

    monkeypatch.setattr("agent.deploy.opening.try_in_child", again)
    trusted(site).open_any().close()
    monkeypatch.undo()
    (site / "pump" / "bank.npy").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bank\.npy"):
        in_child(site / "pump")


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [(never_ending, "was not ready within"), (enormous, "GB of memory")],
)
def test_a_graph_without_end_and_one_without_bounds_are_refused(
    site, monkeypatch, spoiled, message
):
    spoiled(site / "pump")
    monkeypatch.setattr(trial, "_SPARE_BYTES", 700_000_000)
    monkeypatch.setattr(trial, "_WAIT_TIMES", 30)  # the machine of the test may be busy
    one = trusted(site, seconds=15.0 if spoiled is never_ending else 120.0)
    opened = one.open_any()
    assert opened.manifest.threshold.value == 0.05  # what worked before
    assert message in one.refusal
    opened.close()
    # Not tried again: at the next start the good one is there at once.
    again = trusted(site)
    again.open_any().close()
    assert "not tried again" in again.refusal
    with pytest.raises(BundleError, match="not tried again"):
        again.open_wanted()
    digest = read_manifest(site / "pump").digest
    assert json.loads((site / "state/bank/pump/refused.json").read_text())["digests"] == [digest]


def test_what_ended_the_agent_while_it_was_opened_is_not_opened_again(site, caplog):
    digest = read_manifest(site / "pump").digest
    home = site / "state" / "bank" / "pump"
    log = OpeningLog(home)
    dying = log.opening(digest)
    dying.__enter__()  # and the process is gone
    one = trusted(site)
    assert one.open_any().manifest.threshold.value == 0.05
    assert "not tried again" in one.refusal
    assert "the agent ended while it opened" in caplog.text
    assert not (home / "opening.json").exists()


def test_a_power_cut_while_it_was_opened_is_no_fault_of_the_bundle(site, monkeypatch):
    digest = read_manifest(site / "pump").digest
    home = site / "state" / "bank" / "pump"
    cut = []
    for boot in ("first", "second"):
        monkeypatch.setattr("agent.deploy.opening._boot", lambda boot=boot: boot)
        assert OpeningLog(home).look_back() == ""
        cut.append(OpeningLog(home).opening(digest))
        cut[-1].__enter__()
    monkeypatch.setattr("agent.deploy.opening._boot", lambda: "third")
    assert OpeningLog(home).look_back() == digest


def test_a_kill_while_a_proven_bundle_was_opened_is_no_fault_of_it(site):
    digest = read_manifest(site / "pump").digest
    home = site / "state" / "bank" / "pump"
    OpeningLog(home).prove(digest)
    begun = []
    for _ in range(3):
        assert OpeningLog(home).look_back() == ""
        begun.append(OpeningLog(home).opening(digest))
        begun[-1].__enter__()  # and the process is killed, each time of the same boot
    assert OpeningLog(home).look_back() == digest


def test_a_child_that_is_killed_is_told(site, monkeypatch):
    monkeypatch.setattr(trial.sys, "executable", "/bin/false")
    with pytest.raises(trial.TrialError, match="ends the process that opens it"):
        in_child(site / "pump")


@pytest.fixture
def endless(site):
    """A bundle whose graph never ends, beside an agent and a recording."""
    never_ending(site / "pump")
    write(site / "new" / "0.wav", tone(3, 440.0))
    (site / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "state_dir": "state",
                "bundles": {"trial_seconds": 6},
                "machines": [{"name": "pump", "bundle": "pump", "source": "replay:new"}],
            }
        )
    )
    return site


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--bundle", "pump", "new"],
        ["bank", "list", "--bundle", "pump"],
        ["bank", "list", "--config", "agent.yaml"],
        ["doctor", "--config", "agent.yaml"],
    ],
)
def test_a_graph_without_end_wedges_no_command(endless, monkeypatch, words):
    monkeypatch.chdir(endless)
    monkeypatch.setitem(open_tried.__kwdefaults__, "seconds", 6.0)
    monkeypatch.setattr(trial, "_WAIT_TIMES", 80)  # the machine of the test may be busy
    done = CliRunner().invoke(InstalledCommands("auscult"), words)
    assert done.exit_code
    told = done.output + str(done.exception)
    assert "was not ready within 6 s of work when it was tried" in told


def test_a_command_tries_a_bundle_once_and_not_what_export_or_the_agent_opened(site, monkeypatch):
    write(site / "new" / "0.wav", tone(3, 440.0))
    tries = []
    monkeypatch.setattr(
        "agent.deploy.opening.try_in_child", lambda copy, *_, **__: tries.append(copy)
    )
    words = ["score", "--bundle", str(site / "pump"), str(site / "new")]
    for _ in range(2):
        assert CliRunner().invoke(InstalledCommands("auscult"), words).exit_code == 0
    assert len(tries) == 1
    (Path(os.environ["XDG_CACHE_HOME"]) / "auscult" / "proven.json").unlink()
    trusted(site).open_wanted().close()
    assert len(tries) == 2
    (site / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "state_dir": "state",
                "machines": [{"name": "pump", "bundle": "pump", "source": "replay:new"}],
            }
        )
    )
    for command in (["bank", "list"], ["doctor"]):
        CliRunner().invoke(
            InstalledCommands("auscult"), [*command, "--config", str(site / "agent.yaml")]
        )
    assert len(tries) == 2


def test_a_device_that_has_no_time_for_it_refuses_nothing_for_good(site, monkeypatch):
    monkeypatch.setattr(trial, "cpu_seconds", lambda _: 0.0)
    never_ending(site / "pump")
    one = trusted(site, seconds=1.0)
    with pytest.raises(BundleError, match=r"could not be tried within 5 s.*too much else to do"):
        one.open_wanted()
    assert not (site / "state/bank/pump/refused.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_trial_that_was_told_to_end_refuses_nothing_for_good(site, monkeypatch, number):
    spawn = trial.subprocess.Popen

    def told(*args, **options):
        child = spawn(["/bin/sleep", "60"], **options)
        child.send_signal(number)
        return child

    monkeypatch.setattr(trial.subprocess, "Popen", told)
    one = trusted(site)
    with pytest.raises(BundleError, match="was not tried to its end"):
        one.open_wanted()
    assert not (site / "state/bank/pump/refused.json").exists()
    monkeypatch.undo()
    trusted(site).open_wanted().close()
