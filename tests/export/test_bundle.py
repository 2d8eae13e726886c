"""A run becomes a bundle that a device opens; a bundle that moved too far is not written."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import numpy as np
import onnx
import pytest
import soundfile
from rich.console import Console
from support.encoders import RATE, SmallEncoder
from support.processors import without_vnni

from agent.bundle.manifest import (
    BANK,
    ENCODER,
    FAULTS,
    FLOAT_ENCODER,
    FLOAT_PARITY_FILES,
    HEALTHY_SCORES,
    HEALTHY_SOUND,
    HEALTHY_SOUND_INDEX,
    HEALTHY_SPECTRUM,
    MANIFEST,
    PARITY_FILES,
    ROW_CONSTANTS,
    ROWS,
)
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from agent.capture.files import read_audio
from agent.config.recipe import WindowConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import AuscultError, BundleError, ConfigError
from agent.deploy.load import open_bundle
from agent.encode.processor import this_processor
from agent.offline.clips import score_clip
from agent.recordings.load import load_machines
from export import bundle as bundling
from export import compare as comparing
from export import quantize
from export.bundle import export_bundle, export_run
from trainer.encoder_config import EncoderConfig
from trainer.graph.onnx_graph import ExportError
from trainer.preset import Preset, QuantizationConfig
from trainer.run import RecordingRecord, RunRecord

HEALTHY = 12


def sound(seed: int, *, faulty: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    hum = 0.1 * np.sin(2 * np.pi * rng.uniform(95, 105) * time) + 0.01 * rng.standard_normal(
        len(time)
    )
    if faulty:
        hum += 0.1 * rng.standard_normal(len(time))
    return hum.astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "fan"
    for seed in range(HEALTHY):
        (root / "normal").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "normal" / f"{seed:02}.wav", sound(seed), RATE)
    for kind, first in (("normal", 100), ("anomaly", 200)):
        (root / "test" / kind).mkdir(parents=True)
        for seed in range(first, first + 6):
            soundfile.write(
                root / "test" / kind / f"{seed}.wav", sound(seed, faulty=kind == "anomaly"), RATE
            )
    (root / "noise").mkdir()
    soundfile.write(
        root / "noise" / "hall.wav", 0.1 * np.random.default_rng(9).standard_normal(2 * RATE), RATE
    )
    return root


def record(data, **quantization) -> RunRecord:
    (machine,) = load_machines(data)
    return RunRecord(
        auscult_version="0",
        created="2025-01-01T00:00:00+00:00",
        machine=machine.name,
        root=str(data),
        preset=Preset(
            name="small",
            summary="for tests",
            encoder=EncoderConfig(kind="dual_path"),
            window=WindowConfig(seconds=1.0, train_hop_seconds=0.5),
            scorer=KnnConfig(),
            quantization=QuantizationConfig(
                **{"min_cosine": 0.9, "max_hmean_drop": 1.0, **quantization}
            ),
        ),
        seed=0,
        recordings=tuple(
            RecordingRecord(
                path=r.path.relative_to(data).as_posix(),
                role=r.role,
                label=r.label,
                domain=r.domain,
            )
            for r in machine.recordings
        ),
    )


@pytest.fixture
def run(data, monkeypatch):
    """A run of the small encoder; call it with bounds of quantization."""

    def give(**quantization):
        made = record(data, **quantization)
        monkeypatch.setattr(bundling, "load_run", lambda folder: (made, SmallEncoder()))

    give()
    return give


def export(out, **options):
    return export_bundle("run", out, console=Console(file=io.StringIO()), **options)


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory):
    """One INT8 bundle for the tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        made = record(data)
        patch.setattr(bundling, "load_run", lambda folder: (made, SmallEncoder()))
        out = tmp_path_factory.mktemp("out") / "bundle"
        return out, export(out)


def test_bundle_opens_and_tells_faulty_from_healthy(exported, data):
    out, done = exported
    assert {path.name for path in out.iterdir()} == {
        MANIFEST, ENCODER, BANK, ROW_CONSTANTS, ROWS, HEALTHY_SCORES,
        HEALTHY_SPECTRUM, HEALTHY_SOUND, HEALTHY_SOUND_INDEX,
        FLOAT_ENCODER, *PARITY_FILES, *FLOAT_PARITY_FILES, FAULTS,
    }  # fmt: skip
    bundle = open_bundle(out)
    try:
        assert bundle.manifest == done.manifest
        scores = {
            kind: [
                score_clip(bundle, read_audio(path, rate=RATE), hop_seconds=0.5).value
                for path in sorted((data / "test" / kind).iterdir())
            ]
            for kind in ("normal", "anomaly")
        }
        assert max(scores["normal"]) < min(scores["anomaly"])
        assert min(scores["anomaly"]) > bundle.manifest.threshold.clip_value
    finally:
        bundle.close()


def test_known_faults_are_kept_as_the_windows_that_score_so(exported):
    out, done = exported
    sight = done.manifest.sight
    assert len(sight.planted) == 9
    assert len(sight.recorded) > 1
    bundle = open_bundle(out)
    try:
        scores, _ = bundle.scorer.score(bundle.faults)
    finally:
        bundle.close()
    recorded = scores[len(sight.planted) :]
    assert recorded == pytest.approx(sight.recorded, rel=1e-3, abs=1e-3)
    # Each is one of twelve, and its told score the median of those.
    planted = [fault.score for fault in sight.planted]
    assert np.corrcoef(scores[: len(planted)], planted)[0, 1] > 0.9


def test_bank_holds_the_exported_graphs_embeddings_of_healthy_windows_only(exported, data):
    out, done = exported
    rows = json.loads((out / ROWS).read_bytes())
    assert {row["source"] for row in rows} == {f"normal/{seed:02}.wav" for seed in range(HEALTHY)}
    assert done.manifest.trained_on.recordings == HEALTHY
    assert done.manifest.trained_on.seconds == pytest.approx(2.0 * HEALTHY)
    level, scale = done.manifest.level, done.manifest.scale
    low, high = done.manifest.trained_on.level_dbfs
    assert low <= level.median_dbfs <= high
    assert level.spread_db < high - low + 0.01
    assert scale.median <= scale.zones[1] == done.manifest.threshold.value
    assert list(scale.zones) == sorted(scale.zones)
    bank = np.load(out / BANK)
    assert len(bank) == len(rows) == len(np.load(out / HEALTHY_SCORES)) == 3 * HEALTHY
    samples = read_audio(data / rows[4]["source"], rate=RATE)
    first = round(rows[4]["start"] * RATE)
    bundle = open_bundle(out)
    try:
        again = bundle.encoder.encode(samples[None, first : first + RATE])
    finally:
        bundle.close()
    np.testing.assert_allclose(again[0], bank[4], rtol=1e-5, atol=1e-5)


def test_manifest_says_what_quantization_did(exported):
    out, done = exported
    said = done.manifest.quantization
    assert done.manifest.encoder.precision == "int8"
    assert said.mode == "static"
    assert said.int8_nodes + said.float_nodes == 3
    assert said.bytes == (out / ENCODER).stat().st_size
    assert 0.9 < said.cosine_min <= said.cosine_mean < 1.0
    assert said.hmean_change == pytest.approx(done.comparison.test.change)
    assert done.comparison.test.clips == 12
    kinds = {node.op_type for node in onnx.load(out / ENCODER).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


@pytest.mark.parametrize("name", [ENCODER, BANK, ROWS, HEALTHY_SCORES])
def test_flipped_bit_is_refused(exported, tmp_path, name):
    copy = shutil.copytree(exported[0], tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)


def test_exported_twice_is_the_same_but_for_the_date(run, exported, tmp_path):
    again = export(tmp_path / "again").manifest
    # The digest is of the manifest, date and all; the counter goes up by the second.
    blank = {"created": "", "digest": "", "counter": None}
    assert again.counter >= exported[1].manifest.counter
    assert again.model_copy(update=blank) == exported[1].manifest.model_copy(update=blank)


def test_float_keeps_the_encoder_as_it_is(run, tmp_path):
    done = export(tmp_path / "bundle", precision="float32")
    assert done.manifest.encoder.precision == "float32"
    assert done.manifest.quantization.mode == "none"
    assert done.manifest.quantization.cosine_min == pytest.approx(1.0)
    assert done.manifest.quantization.hmean_change == 0.0
    kinds = {node.op_type for node in onnx.load(tmp_path / "bundle" / ENCODER).graph.node}
    assert "QuantizeLinear" not in kinds


def test_bundle_that_turned_too_far_is_not_written(run, tmp_path, monkeypatch):
    out = tmp_path / "bundle"
    export(out, precision="float32", test=False)
    before = (out / MANIFEST).read_bytes()
    monkeypatch.setattr(bundling, "similarity", lambda *_: (0.7, 0.5))
    run(min_cosine=0.95)
    with pytest.raises(ExportError, match=r"0\.7000.*0\.95.*--float"):
        export(out)
    assert (out / MANIFEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_bundle_that_detects_less_is_not_written(run, tmp_path, monkeypatch):
    found = iter([(0.60, 12), (0.65, 12)])
    monkeypatch.setattr(comparing, "sections_hmean", lambda sections: next(found))
    run(max_hmean_drop=0.01)
    with pytest.raises(ExportError, match=r"65\.00 to 60\.00.*drop of 1.*max_hmean_drop"):
        export(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_missing_recordings_are_named_and_data_finds_them(run, data, tmp_path, monkeypatch):
    made = record(data).model_copy(update={"root": str(tmp_path / "gone")})
    monkeypatch.setattr(bundling, "load_run", lambda folder: (made, SmallEncoder()))
    with pytest.raises(ConfigError, match=r"gone: the recordings' folder does not exist.*--data"):
        export(tmp_path / "bundle")
    (tmp_path / "gone").mkdir()
    with pytest.raises(ConfigError, match=r"gone/.*\.wav: 25 of the 25.*--data"):
        export(tmp_path / "bundle")
    export(tmp_path / "bundle", data=data, precision="float32", test=False)
    open_bundle(tmp_path / "bundle").close()


def test_foreign_folder_is_refused_before_any_work(run, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr(bundling.Material, "gather", lambda *_: pytest.fail("work began"))
    with pytest.raises(BundleError, match="will not be overwritten"):
        export(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_what_quantization_did_is_printed(run, tmp_path):
    told = Console(file=io.StringIO(), width=120)
    export_run("run", tmp_path / "bundle", console=told)
    text = told.file.getvalue()
    for part in ("INT8 (static)", "cosine to float32", "harmonic mean of AUC, 12 test clips", "MB"):
        assert part in text
    assert issubclass(ExportError, AuscultError)


def test_an_int8_bundle_carries_answers_and_its_float_graph(exported):
    folder, done = exported
    manifest = done.manifest
    assert manifest.quantization.mode == "static"
    assert manifest.float_encoder == "encoder.float.onnx"
    int8, plain = manifest.parity.graphs
    assert (int8.graph, plain.graph) == (ENCODER, manifest.float_encoder)
    # A quarter of what INT8 turns embeddings by, at least float32's own rounding.
    room = max(5e-4, (1 - manifest.quantization.cosine_mean) / 4)
    assert int8.cosine == pytest.approx(1 - room)
    assert plain.cosine == 1 - 5e-4
    assert int8.score >= plain.score == 0.05
    assert manifest.parity.healthy == 3
    assert manifest.parity.span >= manifest.threshold.value - manifest.parity.median
    assert manifest.processor == this_processor()
    bundle = open_bundle(folder)
    bundle.close()
    assert bundle.parity.used.graph == ENCODER
    assert bundle.parity.used.cosine > 0.999999
    assert bundle.parity.used.score < 1e-3
    # What INT8 must give is not what float32 gives: each graph has its own answers.
    given = [np.load(folder / graph.embeddings) for graph in (int8, plain)]
    assert not np.array_equal(*given)
    assert all(one.shape == (6, manifest.encoder.dim) for one in given)


def test_a_bundle_without_sound_or_int8_is_held_to_made_up_windows(run, tmp_path):
    export(tmp_path / "b", test=False, sound=False, precision="float32")
    bundle = open_bundle(tmp_path / "b")
    bundle.close()
    (graph,) = bundle.manifest.parity.graphs
    assert bundle.manifest.float_encoder is None
    assert graph.graph == ENCODER
    assert bundle.manifest.parity.healthy == 0
    assert np.load(tmp_path / "b" / graph.embeddings).shape == (3, bundle.manifest.encoder.dim)
    assert bundle.parity.used.cosine > 0.999999


@pytest.mark.slow
def test_a_graph_that_saturates_gives_way_to_its_float_form(run, data, tmp_path, monkeypatch):
    """A bundle with weights of eight bits, as they were, taken to an x86 without VNNI."""
    command = without_vnni()
    real = quantize.QDQQuantizer
    monkeypatch.setattr(
        quantize, "QDQQuantizer", lambda *a, **k: real(*a, **{**k, "reduce_range": False})
    )
    monkeypatch.setattr(quantize, "saturates", lambda _path: False)
    export(tmp_path / "b", test=False)
    sound = next((data / "test" / "anomaly").iterdir())

    def score():
        return subprocess.run(
            [*command, "-m", "agent.cli", "score", sound, "--bundle", tmp_path / "b"],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    done = score()
    assert done.returncode == 0, done.stderr
    assert "judging by the float32 graph: INT8 gives other answers" in done.stderr
    # Without that graph, as large encoders are exported, it is refused.
    manifest = read_manifest(tmp_path / "b")
    parity = manifest.parity.model_copy(update={"graphs": manifest.parity.graphs[:1]})
    (tmp_path / "b" / FLOAT_ENCODER).unlink()
    seal(
        tmp_path / "b",
        manifest.model_copy(update={"parity": parity, "float_encoder": None}),
    )
    done = score()
    assert done.returncode == 2
    assert "gives other answers on this processor" in done.stderr
