"""`auscult bank` and the `feedback` command, from alarm to accepted window."""

from __future__ import annotations

import contextlib
import json
import re
import shutil

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError
from support.bundles import FAULTY_HZ, RATE, tone, write
from test_bank_growth import NEW_HZ, evidence, score

from agent.bank import grow
from agent.bank.pending import feedback_handler
from agent.commands.bank import bank
from agent.config.evidence import EvidenceConfig
from agent.core.errors import AuscultError, BundleError
from agent.core.program import next_command
from agent.core.records import AudioBlock, Decision, Level, Score, Window
from agent.deploy.versions import Versions
from agent.evidence.recorder import EvidenceRecorder
from agent.evidence.write import EvidenceWriter
from agent.request.commands import Feedback


@pytest.fixture
def home(tmp_path, tiny_bundle):
    shutil.copytree(tiny_bundle, tmp_path / "pump")
    for n in range(4):
        write(tmp_path / "new" / f"n{n}.wav", tone(3, NEW_HZ, seed=100 + n))
    (tmp_path / "agent.yaml").write_text(
        yaml.safe_dump(
            {
                "state_dir": "state",
                "machines": [{"name": "pump", "bundle": "pump", "source": "replay:new"}],
            }
        )
    )
    return tmp_path


def run(*args, code=0):
    done = CliRunner().invoke(bank, [str(arg) for arg in args])
    assert done.exit_code == code, (done.output, done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_add_list_rollback_of_a_bundle(home):
    which = ("--bundle", home / "pump")
    out = run("add", home / "new", "--label", "healthy", "--json", home / "r.json", *which)
    assert "version 1: 25 rows (20 added, 0 removed)" in out
    assert out.splitlines()[-1] == next_command("bank", "list", *which)
    assert json.loads((home / "r.json").read_text())["novel"] == 1.0
    assert not score(home / "pump.versions" / "0001", NEW_HZ)
    assert "* 1\t" in run("list", *which)
    assert run("list", "--rows", *which).count("collected\t5 rows") == 4
    made = run("compact", "--rows", "12", "--no-use", *which)
    assert made.splitlines()[-1] == next_command("bank", "use", "2", *which)
    assert "* 1\t" in run("list", *which)
    assert "version 2" in run("use", "2", *which)
    assert "version 1" in run("rollback", *which)
    assert "version 0" in run("rollback", *which)
    assert "* 0\t" in run("list", *which)


def test_a_machine_grows_in_the_state_directory(home):
    which = ("--config", home / "agent.yaml")
    run("add", home / "new", "--label", "healthy", *which)
    assert (home / "state" / "bank" / "pump" / "0001").is_dir()
    assert not (home / "pump.versions").exists()
    # A version that cannot be opened any more can still be left.
    (home / "state" / "bank" / "pump" / "0001" / "bank.npy").write_bytes(b"")
    assert "version 0" in run("rollback", *which)


def test_a_machine_grows_from_what_the_agent_uses_for_it(home):
    run("add", home / "new", "--label", "healthy", "--bundle", home / "pump")
    which = ("--config", home / "agent.yaml")
    # No version of its own yet: the agent judges by that of all who use the bundle.
    assert run("list", "--rows", *which).count("collected\t5 rows") == 4
    assert "version 1: 12 rows (0 added, 13 removed)" in run("compact", "--rows", "12", *which)
    assert (home / "state" / "bank" / "pump" / "0001").is_dir()
    run("rollback", *which)
    assert run("list", "--rows", *which).count("collected\t5 rows") == 4


def test_two_changes_at_once_lose_none(home, monkeypatch):
    which = ("--config", home / "agent.yaml")
    write(home / "later" / "l.wav", tone(3, NEW_HZ, seed=999))
    made = grow.make_version

    def interrupted(*args, **options):
        monkeypatch.setattr(grow, "make_version", made)
        run("add", home / "new", "--label", "healthy", *which)
        return made(*args, **options)

    monkeypatch.setattr(grow, "make_version", interrupted)
    with pytest.raises(AuscultError, match="changed meanwhile"):
        CliRunner().invoke(
            bank,
            ["add", str(home / "later"), "--label", "healthy", "--max-rise", "9", *map(str, which)],
            catch_exceptions=False,
        )
    assert run("list", "--rows", *which).count("collected\t5 rows") == 4


def test_a_version_is_never_written_over_another(home):
    versions = Versions(home / "pump", home / "versions")
    late = contextlib.ExitStack()
    late.enter_context(versions.new())
    with versions.new() as (_, first):
        shutil.copytree(home / "pump", first, dirs_exist_ok=True)
        (first / "rows.json").write_text("[]")
    with pytest.raises(BundleError, match="meanwhile"):
        late.close()
    assert (home / "versions" / "0001" / "rows.json").read_text() == "[]"


def test_an_alarm_is_answered_then_accepted(home):
    which = ("--config", home / "agent.yaml")
    root = home / "state" / "evidence" / "pump"
    evidence(root, "a1", NEW_HZ)
    evidence(root, "a2", FAULTY_HZ)
    with pytest.raises(AuscultError, match="nobody has said"):
        CliRunner().invoke(bank, ["accept", "a1", *map(str, which)], catch_exceptions=False)
    handle = feedback_handler(home / "state" / "evidence")
    answer = handle({"machine": "pump", "alarm_id": "a1", "verdict": "normal", "operator": "anna"})
    assert answer["pending_windows"] == 3
    name, when, shown, threshold, by, _ = run("pending", *which).split("\t")
    assert (name, threshold, by) == ("a1", "threshold 1 (raw 0.05)", "anna")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", when)
    assert shown == "score 8"  # 0.4 over a threshold of 0.05
    out = run("accept", "a1", *which)
    assert "1 of 1 known alarm would be raised again" in out  # a2; a1 is known to be false
    assert run("pending", *which) == "nothing waits\n"
    assert not score(home / "state" / "bank" / "pump" / "0001", NEW_HZ)
    with pytest.raises(AuscultError, match="in the bank since version 1"):
        handle({"machine": "pump", "alarm_id": "a1", "verdict": "anomalous"})


@pytest.mark.parametrize("leave", [["rollback"], ["use", "0"], ["remove", "alarm/a1"]])
def test_an_alarm_whose_windows_left_the_bank_waits_again(home, leave):
    which = ("--config", home / "agent.yaml")
    evidence(home / "state" / "evidence" / "pump", "a1", NEW_HZ)
    handle = feedback_handler(home / "state" / "evidence")
    handle({"machine": "pump", "alarm_id": "a1", "verdict": "normal"})
    run("accept", "a1", *which)
    run(*leave, *which)
    assert run("pending", *which).startswith("a1\t")
    run("accept", "a1", *which)
    assert run("pending", *which) == "nothing waits\n"
    run(*leave, *which)
    # What is in the bank no more may be answered otherwise.
    handle({"machine": "pump", "alarm_id": "a1", "verdict": "anomalous"})


def test_a_version_with_an_alarms_windows_taken_up_again_holds_it(home):
    which = ("--config", home / "agent.yaml")
    evidence(home / "state" / "evidence" / "pump", "a1", NEW_HZ)
    handle = feedback_handler(home / "state" / "evidence")
    handle({"machine": "pump", "alarm_id": "a1", "verdict": "normal"})
    run("accept", "a1", *which)
    run("rollback", *which)
    run("use", "1", *which)
    with pytest.raises(AuscultError, match="in the bank since version 1"):
        handle({"machine": "pump", "alarm_id": "a1", "verdict": "anomalous"})


def test_a_single_window_is_answered_and_accepted(home):
    state = home / "state" / "evidence"
    writer = EvidenceWriter(state, EvidenceConfig(free_share=0))
    recorder = EvidenceRecorder("dev", "pump", writer)
    for at in range(5):
        block = AudioBlock(tone(1, NEW_HZ, seed=at), RATE, float(at), 1e9 + at)
        recorder.hear(block)
        window = Window(block.samples, RATE, at, float(at), 1e9 + at)
        score_ = Score(window, 0.02 if at < 4 else None, 0)
        recorder.judged(Decision(score_, 0.05, False, Level.NORMAL, False, 1e9), ())
    handle = feedback_handler(state, lambda _machine, index: recorder.keep_window(index))
    # As it comes over MQTT.
    asked = {"transaction": "t", "machine": "pump", "window": 3, "verdict": "normal"}
    answer = handle(Feedback.model_validate(asked).model_dump())
    for more in ({"alarm_id": "a1"}, {"window": None}, {"window": -1}):
        with pytest.raises(ValidationError):
            Feedback.model_validate({**asked, **more})
    assert answer["pending_windows"] == 1
    for index, why in ((4, "could not be judged"), (9, "not held any more")):
        with pytest.raises(AuscultError, match=why):
            handle({"machine": "pump", "window": index, "verdict": "normal"})
    which = ("--config", home / "agent.yaml")
    assert run("pending", *which).startswith(answer["alarm_id"])
    assert "(1 added" in run("accept", answer["alarm_id"], *which)


@pytest.mark.parametrize(
    "fields",
    [
        {"alarm_id": "absent", "verdict": "normal"},
        {"alarm_id": "../../pump", "verdict": "normal"},
        {"window": 3, "verdict": "normal"},
    ],
)
def test_feedback_on_nothing_changes_nothing(home, fields):
    handle = feedback_handler(home / "state" / "evidence")
    with pytest.raises(AuscultError):
        handle({"machine": "pump", **fields})
    assert not (home / "state").exists()


def test_either_a_bundle_or_a_configuration(home):
    assert "either --bundle or --config" in run("list", code=2)
