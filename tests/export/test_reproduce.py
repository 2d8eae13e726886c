"""A report reproduced on a made-up set in DCASE 2025's layout: resumable, ending in its tables.

Encoders are tiny and of the published shapes; where the shared checkpoints of that size are there,
they are read from `--weights` as real ones are.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agent.core.errors import ConfigError
from agent.deploy.load import open_bundle
from export.commands.reproduce import reproduce
from export.reproduce.data import find_material
from export.reproduce.plan import plan
from export.reproduce.rehearse import REMARK, Rehearsal, make_up, rehearsed
from tests.export.test_every_preset import agent_scores
from tests.support.presets import SECONDS, shrunk
from trainer.preset import Preset
from trainer.preset_file import load_preset
from trainer.published.records import MACHINES, cells_of, find_report
from trainer.synth.challenge import CLEAN, WITHOUT_ATTRIBUTES, ChallengeCounts, write_challenge

FEW = ChallengeCounts(source=8, target=4, supplemental=2, test=3)
CHECKPOINTS = {"beats": "BEATs_tiny.pt", "eat": "EAT_tiny_pretrained_fairseq.pt"}


@pytest.fixture(scope="module")
def challenge(tmp_path_factory) -> Path:
    """All seven machine types, three without attributes, clean and noise-only recordings."""
    return write_challenge(tmp_path_factory.mktemp("dcase2025"), counts=FEW, seconds=SECONDS)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    machines = ("fan", "valve")
    place = tmp_path_factory.mktemp("two")
    return write_challenge(place, counts=FEW, machines=machines, seconds=SECONDS)


@pytest.fixture
def checkpoints(tmp_path) -> Path | None:
    """The golden tiny checkpoints in one folder; None where they are not."""
    golden = Path(__file__).parents[2] / "shared" / "golden"
    if not golden.is_dir():
        return None
    place = tmp_path / "checkpoints"
    place.mkdir()
    for kind, name in CHECKPOINTS.items():
        (place / name).symlink_to((golden / kind / name).resolve())
    return place


def _with_checkpoints(encoder: dict[str, Any]) -> None:
    for part in encoder["parts"] or [encoder]:
        part["weights"] = CHECKPOINTS.get(part["kind"])


def _small(name: str, *, checkpoints: bool) -> Preset:
    data = shrunk(load_preset(name)).model_dump(mode="json")
    for recipe in [data, *(member["recipe"] for member in data["members"])]:
        if checkpoints:
            _with_checkpoints(recipe["encoder"])
    return Preset.model_validate(data)


def _folder(place: Path, number: str, checkpoints: Path | None) -> Path:
    """The report's trained presets, small."""
    folder = place / "presets"
    folder.mkdir()
    for preset in plan(number).trained:
        small = _small(preset.name, checkpoints=checkpoints is not None)
        (folder / f"{preset.name}.yaml").write_text(
            yaml.safe_dump(small.model_dump(mode="json"), sort_keys=False)
        )
    return folder


def _run(*arguments: object, weights: Path | None) -> Result:
    given = ["--weights", weights] if weights is not None else []
    return CliRunner().invoke(
        reproduce,
        [str(a) for a in [*arguments, "--resamples", 100, *given]],
        catch_exceptions=False,
    )


def test_the_plans_hold_every_system_of_the_reports():
    assert [preset.name for preset in plan("1").trained] == [
        "fbeats", "lbeats", "feat", "leat", "dual_branch", "fusion_system"
    ]  # fmt: skip
    four = {one.name: one.members for one in plan("001").weighed}
    assert four["npu_system2"] == {
        "lbeats": 0.3, "feat": 0.1, "leat": 0.3, "dual_branch": 0.2, "fusion_system": 0.1
    }  # fmt: skip
    assert len(four) == 4
    assert [p.name for p in plan("001", bundles=True).trained][-1] == "npu_system4"
    zero = plan("000")
    assert [(one.name, one.objective) for one in zero.weighed] == [
        ("cbfusion_auc", "auc"), ("cbfusion_pauc", "pauc")
    ]  # fmt: skip
    assert {p.name for p in plan("002").trained} >= {*find_report("002").submitted, "knn_muq"}
    assert [p.name for p in plan("003").trained] == ["xju_lora4"]
    assert {p.name for p in plan("004").trained} == set(find_report("004").presets)
    with pytest.raises(ConfigError, match="no report 7"):
        plan("7")


def test_a_members_file_is_an_ensembles_member_too(tmp_path):
    small = _small("leat", checkpoints=False)
    (tmp_path / "leat.yaml").write_text(yaml.safe_dump(small.model_dump(mode="json")))
    fused = next(p for p in plan("001", presets=tmp_path).trained if p.name == "fusion_system")
    assert [part.size for part in fused.encoder.parts] == ["", "tiny"]


def test_the_made_up_set_is_laid_out_as_the_challenges(challenge):
    material = find_material(challenge)
    assert material.alike == tuple(sorted(MACHINES)) or set(material.alike) == set(MACHINES)
    assert any("the recordings are not" in note for note in material.notes)
    for machine in material.tested:
        told = {key for r in machine.of("normal") for key in r.attributes}
        assert bool(told) == (machine.name not in WITHOUT_ATTRIBUTES)
        assert bool(machine.of("clean")) == (machine.name in CLEAN)
        assert bool(machine.of("noise")) == (machine.name not in CLEAN)
        assert len(machine.of("test")) == 12


def test_absent_checkpoints_are_named_before_anything_is_read(tmp_path, two):
    with pytest.raises(ConfigError, match=r"BEATs_iter3\.pt \(for xju_lora4\)"):
        _run("003", two, "--out", tmp_path / "out", weights=tmp_path)
    assert not (tmp_path / "out").exists()


def test_report_003_on_two_machines_and_again(tmp_path, two, checkpoints):
    folder = _folder(tmp_path, "003", checkpoints)
    out = tmp_path / "out"
    asked = ("003", two, "--presets", folder, "--out", out)
    done = _run(*asked, weights=checkpoints)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    cells = results["published"]["cells"]
    # Of two machines four figures each; and the report's own summary, which takes all seven.
    assert [c["machine"] for c in cells] == ["fan"] * 4 + ["valve"] * 4 + ["all"] * 4
    for cell in cells[:8]:
        assert cell["difference"] == pytest.approx(cell["ours"] - cell["published"])
    assert [c["ours"] for c in cells[8:]] == [None] * 4
    own = results["presets"]["xju_lora4"]["machines"]["fan"]["auc_source"]
    assert cells[0]["ours"] == pytest.approx(100 * own)
    assert "72.70" in done.output
    assert "41.86" in (out / "report.md").read_text()
    # One training served both machines, and the second call repeats nothing.
    runs = [out / "work" / "xju_lora4" / name / "seed_0" / "run" for name in ("fan", "valve")]
    one, other = ((run / "encoder.safetensors").stat() for run in runs)
    assert one.st_ino == other.st_ino
    again = _run(*asked, weights=checkpoints)
    assert again.exit_code == 0
    assert [(run / "encoder.safetensors").stat().st_mtime_ns for run in runs] == [
        one.st_mtime_ns, other.st_mtime_ns
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text())["published"] == results["published"]
    bundle = open_bundle(out / "work" / "xju_lora4" / "fan" / "seed_0" / "bundle-int8")
    try:
        told = bundle.manifest.report
        assert (told.number, told.system) == ("003", "optimal system")
        assert any("20, 25 and 30" in text for text in told.chosen)
    finally:
        bundle.close()


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value of nested settings by its dotted path, without places in lists of sections."""
    if isinstance(value, dict):
        return {
            inner: one
            for key, own in value.items()
            for inner, one in _leaves(own, f"{path}.{key}" if path else key).items()
        }
    if isinstance(value, list) and value and isinstance(value[0], dict):
        found: dict[str, Any] = {}
        for own in value:
            for inner, one in _leaves(own, path).items():
                found.setdefault(inner, []).append(one)
        return found
    return {path: value}


@pytest.mark.parametrize("number", ["000", "001", "002", "003", "004"])
def test_a_rehearsal_tells_everything_that_it_shortens_and_leaves_the_rest(number):
    whole, short = plan(number), plan(number, rehearsal=Rehearsal())
    assert not whole.shortened
    told: dict[str, set[str]] = {}
    for line in short.shortened:
        text, names = line.rsplit(" (", maxsplit=1)
        everyone = {p.name for p in (*whole.trained, *(w.preset for w in whole.weighed))}
        own = everyone if names == "all)" else set(names[:-1].split(", "))
        told.setdefault(text.split(":")[0], set()).update(own)
    for before, after in zip(whole.trained, short.trained, strict=True):
        if before.members:
            continue  # its members' lines are its own
        old, new = (_leaves(p.model_dump(mode="json")) for p in (before, after))
        words = ("report", "members")
        changed = {path for path in old if old[path] != new[path] and not path.startswith(words)}
        assert changed == {path for path, names in told.items() if before.name in names}
        kept = ("training.head", "training.learning_rate", "training.lora.rank", "scorer.metric")
        assert all(old.get(path) == new.get(path) for path in kept)
        assert after.report is None or REMARK[1:] in after.report.deviations[0]


def test_a_rehearsal_never_has_more_epochs_than_the_report():
    for name in ("lbeats", "xju_lora4", "baseline_mse"):
        preset = load_preset(name)
        assert rehearsed(preset, Rehearsal(epochs=500)).training.epochs <= preset.training.epochs


def test_a_made_up_set_that_was_cut_off_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("export.reproduce.rehearse.MADE_UP", FEW)
    left = tmp_path / ".set.part" / "dev_data" / "raw" / "fan" / "supplemental"
    left.mkdir(parents=True)
    (left / "section_00_noise_supplemental_normal_0099_noAttribute.wav").write_bytes(b"half")
    assert make_up(tmp_path / "set", Rehearsal(seconds=0.5))
    assert not make_up(tmp_path / "set", Rehearsal(seconds=0.5))
    assert len(list((tmp_path / "set").glob("*/raw/fan/supplemental/*"))) == FEW.supplemental
    assert [place.name for place in tmp_path.iterdir()] == ["set"]


def test_options_of_a_rehearsal_are_refused_without_it(tmp_path):
    done = CliRunner().invoke(reproduce, ["003", str(tmp_path / "no"), "--made-up"])
    assert done.exit_code == 2
    assert "--rehearse" in done.output
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_in_the_training_it_goes_on_from_the_checkpoint(tmp_path, two):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "agent.cli", "reproduce", "003", str(two), "--rehearse"]
    command += ["--epochs", "12", "--machine", "fan", "--out", str(out)]
    run = out / "work" / "xju_lora4" / "fan" / "seed_0" / "run"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (run / "checkpoint" / "state.json").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (run / "run.json").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=1500)
    # Both processes wrote into one run, whose epochs are those of one training.
    assert len(list((run / "logs").glob("events.*"))) == 2
    assert len(json.loads((run / "run.json").read_text())["losses"]) == 12
    results = json.loads((out / "results.json").read_text())
    assert any(line.startswith("training.epochs: 30 -> 12") for line in results["shortened"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", ["001", "003"])
def test_a_report_from_training_to_int8_bundle_to_agent(tmp_path, challenge, checkpoints, number):
    folder = _folder(tmp_path, number, checkpoints)
    out = tmp_path / "out"
    done = _run(number, challenge, "--presets", folder, "--out", out, weights=checkpoints)
    assert done.exit_code == 0, done.output
    print(done.output)
    results = json.loads((out / "results.json").read_text())
    cells = results["published"]["cells"]
    ours = plan(number)
    expected = sum(
        len(cells_of(preset, number))
        for preset in {*(p.name for p in ours.trained), *(w.name for w in ours.weighed)}
    )
    assert len(cells) == expected == (64 if number == "001" else 32)
    assert all(cell["ours"] is not None for cell in cells)
    if number == "001":
        weighed = {entry["system"]: entry for entry in results["weighed"]}
        assert weighed["npu_system1"]["weights"] == pytest.approx(
            {"fbeats": 0.1, "feat": 0.5, "fusion_system": 0.4}
        )
    name = "fusion_system" if number == "001" else "xju_lora4"
    place = out / "work" / name / "fan" / "seed_0"
    (place / "bundle").symlink_to(place / "bundle-int8")
    manifest = json.loads((place / "bundle" / "manifest.json").read_text())
    assert manifest["encoder"]["precision"] == "int8"
    heard = challenge / "dev_data" / "raw" / "fan" / "test"
    scores = agent_scores(place, min(heard.glob("*.wav")))
    assert len(scores) == 1
