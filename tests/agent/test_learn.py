"""`auscult learn`: a bundle made on the device, with an encoder that is shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from support import healthy
from test_run_command import FORBIDDEN

from agent.bundle.manifest import SIGNATURE
from agent.bundle.verify import read_manifest
from agent.commands.learn import learn
from agent.core.errors import AuscultError, BundleError, ConfigError
from agent.deploy.device_key import Vouching
from agent.deploy.load import open_bundle
from agent.learn import encoders
from agent.learn.encoders import encoder_of, shipped_encoder
from agent.offline.clips import score_clip


def run(*words, code=0):
    done = CliRunner().invoke(learn, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module", autouse=True)
def at_once():
    """The command yields to listening; this process must not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.collect.learning.NICENESS", 0)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return healthy.folder(tmp_path_factory.mktemp("data") / "pump")


@pytest.fixture(scope="module")
def learnt(data):
    """A bundle, and what was printed."""
    out = data.parent / "bundle"
    done = run(data, "--out", out, "--json", data.parent / "report.json")
    return out, done.output, json.loads((data.parent / "report.json").read_text())


def test_a_bundle_is_made_that_tells_healthy_from_other_sound(learnt):
    bundle = open_bundle(learnt[0])
    try:
        same = score_clip(bundle, healthy.hum(50))
        rng = np.random.default_rng(0)
        other = score_clip(bundle, healthy.hum(51) + rng.normal(0, 0.1, 192_000).astype("f4"))
    finally:
        bundle.close()

    assert same.value <= same.limit
    assert other.value > max(other.limit, 2 * same.value)


def test_its_manifest_says_where_it_comes_from(learnt):
    manifest = read_manifest(learnt[0])

    assert (manifest.machine, manifest.trained_on.preset) == ("pump", "auscult_scratch")
    assert manifest.trained_on.recordings == 8
    assert manifest.encoder.kind == "sound_views"
    assert {"frames.onnx", "body.onnx", "drift.json"} - set(manifest.files) == {"drift.json"}
    assert any(note.startswith("no drift baseline") for note in manifest.notes)
    assert manifest.gate is not None
    assert manifest.parity is not None


def test_verdict_and_report_say_the_same(learnt):
    _, output, report = learnt
    words = " ".join(output.split())

    assert "verdict on the healthy recordings, each left out" in words
    assert report["healthy"]["verdict"]["level"] in {"cannot tell", "usable"}
    assert report["promise"] in words
    assert len(report["strangest"]) == 8
    scores = [one["score"] for one in report["strangest"]]
    assert scores == sorted(scores, reverse=True)


def test_nothing_of_the_workstation_is_loaded(data, tmp_path):
    code = (
        "import sys\n"
        "from agent.commands.learn import learn\n"
        "learn(sys.argv[1:], standalone_mode=False)\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, data, "--out", tmp_path / "b"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    modules = done.stdout.splitlines()[-1].split()

    assert modules[0] == "MODULES"
    assert not set(modules) & (set(FORBIDDEN) - {"jinja2"})  # of which its report is made
    assert read_manifest(tmp_path / "b").machine == "pump"


def test_what_was_collected_is_learnt_where_the_agent_takes_it_up(tmp_path):
    healthy.collected(tmp_path / "state", "pump")
    healthy.collected(tmp_path / "state", "pump", 2, "idle")
    config = tmp_path / "agent.yaml"
    config.write_text(yaml.safe_dump({"state_dir": "state", "machines": [{"name": "pump"}]}))

    done = run("--config", config)

    manifest = read_manifest(tmp_path / "state" / "bundles" / "pump")
    assert manifest.machine == "pump"
    assert manifest.trained_on.recordings == 8
    assert manifest.gate is not None
    assert "takes it up" in done.output


def test_a_device_of_signed_bundles_learns_nothing_unless_that_is_allowed(tmp_path):
    healthy.collected(tmp_path / "state", "pump")
    config = tmp_path / "agent.yaml"
    settings = {
        "state_dir": "state", "bundles": {"public_key": "site.pub"}, "machines": [{"name": "pump"}],
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(learn, ["--config", str(config)])
    assert done.exit_code
    assert "accept_learnt" in str(done.exception.remedy)
    assert not (tmp_path / "state" / "bundles" / "pump").exists()


def test_where_only_signed_bundles_are_taken_the_devices_own_key_signs(tmp_path):
    sign = pytest.importorskip("agent.bundle.sign")
    pytest.importorskip("cryptography")
    sign.make_keys(tmp_path / "site.key", tmp_path / "site.pub")
    healthy.collected(tmp_path / "state", "pump", 5)
    config = tmp_path / "agent.yaml"
    settings = {
        "state_dir": "state", "bundles": {"public_key": "site.pub", "accept_learnt": True}, "machines": [{"name": "pump"}],
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))

    run("--config", config)

    bundle = tmp_path / "state" / "bundles" / "pump"
    here = Vouching(tmp_path / "site.pub", tmp_path / "state", learnt=True)
    here.check(bundle, bundle)
    with pytest.raises(BundleError, match="only bundles that the site signed"):
        Vouching(tmp_path / "site.pub", tmp_path / "state").check(bundle, bundle)
    with pytest.raises(BundleError, match="was signed with key"):
        Vouching(tmp_path / "site.pub", tmp_path / "elsewhere", learnt=True).check(bundle, bundle)
    # A version's signature is none for a bundle as a whole.
    here.sign(bundle, read_manifest(bundle).digest)
    with pytest.raises(BundleError, match="does not fit"):
        here.check(bundle, bundle)
    (bundle / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="not signed"):
        here.check(bundle, bundle)


def test_another_bundles_encoder_and_recipe_are_taken(learnt, data, tmp_path):
    run(data, "--out", tmp_path / "again", "--encoder-from", learnt[0])

    first, again = read_manifest(learnt[0]), read_manifest(tmp_path / "again")
    assert again.files["encoder.onnx"] == first.files["encoder.onnx"]
    assert again.scorer == first.scorer
    assert again.threshold.rule == first.threshold.rule
    assert again.threshold.value == pytest.approx(first.threshold.value, rel=1e-5)
    assert again.sight.wanted == first.sight.wanted
    assert again.views == first.views
    assert any("its encoder is that of the bundle" in note for note in again.notes)


def test_an_altered_bundle_lends_no_encoder(learnt, tmp_path):
    shutil.copytree(learnt[0], tmp_path / "b")
    (tmp_path / "b" / "encoder.onnx").write_bytes(b"x")

    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        encoder_of(tmp_path / "b")


def test_an_altered_shipped_encoder_is_refused(tmp_path, monkeypatch):
    shutil.copytree(encoders.GRAPHS, tmp_path / "graphs")
    monkeypatch.setattr(encoders, "GRAPHS", tmp_path / "graphs")
    graph = tmp_path / "graphs" / "auscult_scratch" / "body.onnx"
    graph.write_bytes(graph.read_bytes() + b"x")

    with pytest.raises(ConfigError, match="not what was shipped"):
        shipped_encoder()
    with pytest.raises(ConfigError, match="--encoder-from"):
        shipped_encoder("auscult_small")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("copies", "the same sound"),
        ("silence", "no healthy recording is usable"),
        ("one", "healthy recording"),
    ],
)
def test_what_the_trainer_refuses_is_refused(tmp_path, broken, told):
    data = tmp_path / "pump"
    (data / "normal").mkdir(parents=True)
    sounds = {
        "copies": [healthy.hum(0)] * 4,
        "silence": [np.zeros(192_000, np.float32)] * 4,
        "one": [healthy.hum(0)],
    }[broken]
    for n, sound in enumerate(sounds):
        soundfile.write(data / "normal" / f"{n}.flac", sound, healthy.RATE)

    with pytest.raises(AuscultError) as refused:
        run(data, "--out", tmp_path / "b")

    assert told in str(refused.value) or broken == "copies"
    assert not (tmp_path / "b").exists()


def test_a_disk_too_small_for_the_windows_is_named(data, tmp_path, monkeypatch):
    full = SimpleNamespace(total=10**9, used=10**9 - 10**6, free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    with pytest.raises(AuscultError, match="TMPDIR"):
        run(data, "--out", tmp_path / "b")


def test_data_or_a_configuration_is_asked_for(data, tmp_path):
    assert "give either DATA" in run(code=2).output
    assert "--out is needed" in run(data, code=2).output
