"""`auscult shorten` on a trained transformer, and `auscult tune --forms` of what it wrote."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from agent.commands.tune import tune
from agent.core.errors import ConfigError
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from agent.tune.forms import FormInfo, FormList, first_that_fits, read_forms
from agent.tune.measure import Cost
from agent.tune.profile import DeviceProfile, write_profile
from export.commands.shorten import shorten_command
from export.form_loss import Bounds, MadeForm, Tested, choose_form, joined_forms, judge_form
from export.shorten import RUNS
from trainer import shorter
from trainer.encoder_config import EncoderConfig
from trainer.learn import train_machine
from trainer.preset_file import load_preset
from trainer.run import load_record, load_run, save_run
from trainer.shorter import Form, forms_of

RATE = 16000


def hum(seed, pitch, seconds=3.0):
    """A motor: a tone with harmonics, its level and pitch a little different each time."""
    random = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    pitch *= 1 + 0.01 * random.standard_normal()
    tone = sum(np.sin(2 * np.pi * pitch * k * time + random.uniform(0, 6)) / k for k in (1, 2, 3))
    return 0.1 * tone + 0.01 * random.standard_normal(len(time))


def preset_of(**fields):
    preset = load_preset("knn_beats")
    return preset.model_copy(
        update={
            "encoder": EncoderConfig(kind="beats", size="tiny", pooling="mean", **fields),
            "window": preset.window.model_copy(update={"seconds": 2.0, "train_hop_seconds": 1.0}),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "pump"
    for part, count, pitch in (
        ("normal", 8, 120),
        ("test/normal", 6, 120),
        ("test/anomaly", 6, 137),
    ):
        (root / part).mkdir(parents=True)
        for seed in range(count):
            sound = hum(100 * len(part) + seed, pitch)
            soundfile.write(root / part / f"{seed}.flac", sound, RATE)
    out = tmp_path_factory.mktemp("run")
    (machine,) = load_machines(root)
    train_machine(machine, preset_of(), out)
    return out


@pytest.fixture(scope="module")
def forms(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shorter, "_LAST", (2 / 3,))
        patch.setattr(shorter, "_AFTER", (1 / 3,))
        patch.setattr(shorter, "_HEADS", ())
        # Whatever is lost is allowed: all forms are made, and those together.
        result = CliRunner().invoke(
            shorten_command, [str(run), "--out", str(out), "--loss", "100"], catch_exceptions=False
        )
    assert result.exit_code == 0
    return out, result.output


def test_every_form_is_a_bundle_that_a_device_opens(forms):
    out, said = forms
    found = read_forms(out)
    names = ["full", "layer2", "merge1", "layer2+merge1"]
    assert [form.name for form in found.forms] == names
    for form in found.forms:
        bundle = open_bundle(out / form.name)
        try:
            assert bundle.manifest.encoder.kind == "beats"
        finally:
            bundle.close()
        assert form.cpu_ms > 0
        assert form.loss_low <= form.loss <= form.loss_high
        assert form.loss == pytest.approx(100 * (found.forms[0].hmean - form.hmean))
    assert found.forms[0].cosine_mean == pytest.approx(1)
    assert found.forms[0].loss == 0
    assert all(-1 <= form.cosine_mean < 0.99999 for form in found.forms[1:])
    assert found.judged_by == "test set"
    assert found.clips == 12
    cheapest = min(found.forms, key=lambda form: form.cpu_ms)
    assert found.chosen == cheapest.name
    assert f"chosen: {cheapest.name}, the cheapest" in said


def test_a_forms_run_says_what_it_is_and_can_be_exported_again(forms):
    out, _ = forms
    record, encoder = load_run(out / RUNS / "layer2+merge1")
    assert record.preset.encoder.layers == (2,)
    assert record.preset.encoder.merge_after == 1
    assert len(encoder.backbone.layers) == 2
    with pytest.raises(ConfigError, match="no shorter form"):
        forms_of(record, encoder.backbone)


def test_the_device_takes_the_largest_it_can_run(forms, tmp_path):
    out, _ = forms
    told = tmp_path / "told.json"
    result = CliRunner().invoke(
        tune, ["--forms", str(out), "--windows", "3", "--json", str(told)], catch_exceptions=False
    )
    figures = json.loads(told.read_bytes())
    names = [form.name for form in read_forms(out).largest_first()]
    assert [trial["form"] for trial in figures["trials"]] == names[: len(figures["trials"])]
    assert [trial["fits"] for trial in figures["trials"][:-1]] == [False] * (
        len(figures["trials"]) - 1
    )
    if figures["chosen"]:
        assert f"chosen: {figures['chosen']}" in result.output
    busy = CliRunner().invoke(tune, ["--forms", str(out), "--machines", "1000", "--windows", "3"])
    assert isinstance(busy.exception, ConfigError)
    assert "no form is for this device" in busy.exception.problem


def test_a_form_that_is_asked_for_is_measured_alone(run, tmp_path):
    out = tmp_path / "forms"
    done = CliRunner().invoke(
        shorten_command, [str(run), "--out", str(out), "--form", "merge1+heads2"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0
    full, asked = read_forms(out).forms
    assert (full.name, asked.name) == ("full", "merge1+heads2")
    assert asked.cpu_ms is not None
    assert asked.loss_low <= asked.loss <= asked.loss_high


def test_a_device_that_no_form_fits_is_told(run, tmp_path):
    board = tmp_path / "board.json"
    write_profile(board, DeviceProfile(device="a tiny board", memory_mb=4, reference_ms=5))
    done = CliRunner().invoke(
        shorten_command,
        [str(run), "--out", str(tmp_path / "forms"), "--form", "layer2", "--loss", "100",
         "--device", str(board)],
        catch_exceptions=False,
    )  # fmt: skip
    found = read_forms(tmp_path / "forms")
    assert found.device == "a tiny board"
    assert "more than half of what a tiny board has" in found.too_large[0]
    assert "none fits the device" in done.output
    assert "the largest that fits" not in done.output


def test_forms_whose_bundle_is_gone_are_named(forms, tmp_path):
    out, _ = forms
    shutil.copy(out / "forms.json", tmp_path / "forms.json")
    with pytest.raises(ConfigError, match="holds no bundle"):
        read_forms(tmp_path)


def listed(*costs, within=True):
    forms = [
        FormInfo(name=f"layer{i}", cpu_ms=cost, wall_ms=cost, memory_mb=10.0, within=within)
        for i, cost in enumerate(costs)
    ]
    return FormList(
        auscult="1", machine="pump", preset="p", processor="here", judged_by="test set",
        max_loss=1, min_cosine=0.98, forms=tuple(forms), chosen="",
    )  # fmt: skip


def test_what_loses_too_much_is_never_measured():
    found = listed(80.0, 40.0, 20.0)
    bad = found.forms[1].model_copy(update={"within": False})
    found = found.model_copy(update={"forms": (found.forms[0], bad, found.forms[2])})
    asked = []

    def attempt(form):
        asked.append(form.name)
        return Cost(10 * form.cpu_ms, 10 * form.cpu_ms, form.cpu_ms, form.memory_mb)

    trials = first_that_fits(found, attempt, per_second=1.0, memory_mb=1000)
    assert asked == ["layer0", "layer2"]
    assert [trial.fits for trial in trials] == [False, True]
    trials = first_that_fits(found, attempt, per_second=0.5, memory_mb=1000)
    assert [trial.form.name for trial in trials] == ["layer0"]
    tight = first_that_fits(found, attempt, per_second=0.5, memory_mb=15)
    assert not any(trial.fits for trial in tight), "half of the memory is what it may take"


def test_a_device_that_other_work_holds_up_is_told_from_a_slow_one():
    def tried(wall, cpu, provider=""):
        cost = Cost(wall, wall, cpu, 10.0, provider)
        (trial,) = first_that_fits(listed(20.0), lambda _: cost, per_second=12, memory_mb=1000)
        return trial

    assert tried(110, 11).held_up
    assert not tried(110, 100).held_up, "it is slow"
    assert not tried(20, 2).held_up, "it fits"
    assert not tried(110, 2, "CUDAExecutionProvider").held_up, "the processor waits for another"


def test_a_profile_chooses_by_how_much_slower_the_device_is(tmp_path, monkeypatch):
    monkeypatch.setattr("export.form_loss.reference_ms", lambda: 10.0)

    class Hop:
        hop_seconds = 1.0

    monkeypatch.setattr("export.form_loss.read_manifest", lambda _folder: Hop)
    found = listed(300.0, 100.0, 20.0)
    for slower, wanted in ((1.0, "layer0"), (4.0, "layer1"), (20.0, "layer2"), (99.0, "layer2")):
        profile = DeviceProfile(device="board", memory_mb=4000, reference_ms=10 * slower)
        choice = choose_form(found, tmp_path, profile)
        assert choice.form.name == wanted
        assert bool(choice.faults) == (slower == 99.0), "told when not even the cheapest fits"
    assert choose_form(found, tmp_path, None).form.name == "layer2"
    little = DeviceProfile(device="board", memory_mb=15, reference_ms=10)
    assert "10 MB of memory" in " ".join(choose_form(found, tmp_path, little).faults)


def bank(folder, vectors):
    folder.mkdir()
    np.save(folder / "bank.npy", np.float32(vectors))


def test_without_a_test_set_only_the_same_embedding_can_be_judged(tmp_path):
    whole = np.random.default_rng(0).normal(size=(20, 8))
    bank(tmp_path / "full", whole)
    bank(tmp_path / "merge1", whole + 0.01)
    bank(tmp_path / "heads2", whole[:, ::-1])
    bank(tmp_path / "layer2", whole[:, :4])
    full = judge_form(tmp_path, Form(), None, None, Bounds())
    made = [
        judge_form(tmp_path, form, full, None, Bounds())
        for form in (Form(merge_after=1), Form(heads=2), Form(last=2))
    ]
    assert [one.info.within for one in (full, *made)] == [True, True, False, False]
    assert made[2].info.cosine_mean is None


def test_the_loss_is_of_the_same_draws_of_recordings(tmp_path):
    bank(tmp_path / "full", np.eye(3))
    bank(tmp_path / "layer2", np.eye(3))
    draws = np.random.default_rng(0).normal(0.7, 0.1, 2000)
    full = MadeForm(Form(), FormInfo(name="full"), Tested(0.7, draws, 40))
    lost = judge_form(tmp_path, Form(last=2), full, Tested(0.68, draws - 0.02, 40), Bounds(1.0))
    assert not lost.info.within
    assert lost.info.loss == pytest.approx(2)
    assert lost.info.loss_low == pytest.approx(2)
    assert lost.info.loss_high == pytest.approx(2)
    assert judge_form(
        tmp_path, Form(last=2), full, Tested(0.695, draws, 40), Bounds(1.0)
    ).info.within


def test_only_what_loses_little_is_joined():
    def one(form, *, within):
        return MadeForm(form, FormInfo(name=form.name, within=within))

    made = [
        one(Form(), within=True),
        one(Form(last=8), within=True),
        one(Form(last=4), within=False),
        one(Form(merge_after=8), within=True),
        one(Form(heads=6), within=True),
    ]
    # Nothing is left to be merged after layer 8 of 8.
    assert [form.name for form in joined_forms(made)] == ["layer8+heads6", "merge8+heads6"]


def test_forms_of_a_run_that_joins_layers(tmp_path, run):
    record = load_record(run)
    (machine,) = load_machines(record.to_machine().root)
    train_machine(machine, preset_of(layers=(1, 2, 3)), tmp_path)
    record, encoder = load_run(tmp_path)
    windows = np.float32(0.1 * np.random.default_rng(0).normal(size=(4, 2 * RATE)))
    short, its = shorter.shorten(record, encoder, Form(last=2), windows)
    assert short.preset.encoder.layers == (1, 2)
    assert its.dim == 2 * encoder.dim // 3
    short, its = shorter.shorten(record, encoder, Form(last=2, merge_after=1, heads=2), windows)
    assert {one.heads for one in its.backbone.attentions()} == {2}
    save_run(tmp_path / "short", short, its)
    _, again = load_run(tmp_path / "short")
    sounds = torch.from_numpy(windows)
    with torch.inference_mode():
        torch.testing.assert_close(again(sounds), its(sounds))
