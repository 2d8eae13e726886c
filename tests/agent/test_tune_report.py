"""One file that tells what a device does, and nothing of whose it is."""

from __future__ import annotations

import json
import platform
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from support.bundles import build_bundle

from agent.bundle.manifest import ENCODER, FLOAT_ENCODER, FileRecord
from agent.bundle.verify import read_manifest
from agent.commands.tune import tune
from agent.core.errors import BundleError
from agent.encode.providers import CPU, CUDA
from agent.tune import report as module
from agent.tune.heat import read_heat
from agent.tune.measure import Cost
from agent.tune.product import COLUMNS, MIDDLE, ROWS, Rate, measure_here, product_graph
from agent.tune.report import DeviceReport, make_report, without_places


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build_bundle(tmp_path_factory.mktemp("hall-3-secret") / "pump-7.bundle")


@pytest.fixture
def quick(monkeypatch):
    """Plain products take seconds: their figures are tested by themselves."""
    monkeypatch.setattr(module, "measure_rate", lambda kind, threads: Rate(kind, threads, 9.0, 9.5))
    monkeypatch.setattr(module, "reference_ms", lambda: 12.5)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)


def test_the_file_tells_the_device_and_not_whose_it_is(bundle, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "press-shop-17")
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-press-shop-17-rt")
    config = tmp_path / "agent.yaml"
    config.write_text(
        "device: hall-3\nmachines:\n"
        f"  - {{name: pump-7, bundle: {bundle}, source: 'replay:x.wav'}}\n"
        "mqtt: {host: broker.plant.example}\n"
    )
    out = tmp_path / "out" / "device.json"
    done = CliRunner().invoke(
        tune, ["--config", str(config), "--report", str(out), "--windows", "3"]
    )
    assert done.exit_code == 0, done.output
    text = out.read_text()
    found = DeviceReport.model_validate_json(text)
    assert found.kernel == "6.1"
    assert found.processor.machine == platform.machine()
    assert CPU in found.providers
    assert [(rate.kind, rate.threads) for rate in found.products] == [
        ("int8", 1), ("int8", 2), ("float32", 1), ("float32", 2),
    ]  # fmt: skip
    (encoder,) = found.encoders
    assert encoder.dim == read_manifest(bundle).encoder.dim
    assert {way.threads for way in encoder.ways} == {1, 2}
    for way in encoder.ways:
        assert way.fault == ""
        assert 0 < way.wall_ms <= way.slow_ms
    for name in ("press-shop", "hall-3", "pump-7", "broker", str(tmp_path), str(bundle)):
        assert name not in text, f"'{name}' is in what is sent"
    assert "ms a window" in done.output
    assert config.read_text().startswith("device: hall-3"), "nothing is tuned"


def test_without_a_bundle_it_tells_the_device_alone(tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.commands.options.INSTALLED", tmp_path / "none.yaml")
    done = CliRunner().invoke(tune, ["--report", "device.json"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "device.json").read_text())["encoders"] == []
    assert "no encoder was measured: give --bundle" in done.output


def test_a_bundle_alone_is_measured(bundle, tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        tune, ["--report", "d.json", "--bundle", str(bundle), "--windows", "3"]
    )
    assert done.exit_code == 0, done.output
    assert len(DeviceReport.model_validate_json((tmp_path / "d.json").read_bytes()).encoders) == 1
    wrong = CliRunner().invoke(tune, ["--bundle", str(bundle)])
    assert wrong.exit_code == 2
    assert "--bundle goes with --report" in wrong.output


def test_every_way_is_tried_and_a_failing_one_told(bundle, tmp_path, quick, monkeypatch):
    """An INT8 bundle with its float graph, on a device with CUDA that does not start."""
    import onnxruntime

    copy = shutil.copytree(bundle, tmp_path / "b")
    manifest = read_manifest(copy)
    both = manifest.model_copy(
        update={
            "encoder": manifest.encoder.model_copy(update={"precision": "int8"}),
            "files": {**manifest.files, FLOAT_ENCODER: FileRecord(sha256="0" * 64, size=1)},
        }
    )
    tried = []

    def cost(work, how, windows, *, graph, framed):
        tried.append((graph, how.providers, how.threads, framed))
        if how.providers[0] == CUDA:
            raise BundleError(f"libcudart.so is not in /opt/plant/lib of {work.bundle}/x.onnx")
        return Cost(10.0, 12.0, 11.0, 50.0)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(module, "read_manifest", lambda _: both)
    monkeypatch.setattr(module, "measure", cost)
    (encoder,) = make_report([copy, copy], 3).encoders
    assert {graph for graph, *_ in tried} == {ENCODER, FLOAT_ENCODER}
    assert {(how, threads) for _, how, threads, _ in tried} == {
        ((CPU,), 1), ((CPU,), 2), ((CUDA, CPU), 1),
    }  # fmt: skip
    assert {way.precision for way in encoder.ways} == {"int8", "float32"}
    failed = [way for way in encoder.ways if way.provider == CUDA]
    assert [way.fault for way in failed] == ["libcudart.so is not in (a file) of (a file)"] * 2
    assert all(way.wall_ms is None for way in failed)


def test_places_are_left_out_of_messages(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "hall-3")
    said = without_places("cannot open '/home/anna/x.onnx' on hall-3: 3 of 4 windows, 12 m/s")
    assert said == "cannot open '(a file)' on (this device): 3 of 4 windows, 12 m/s"


def test_sensors_are_read_where_there_are_some(tmp_path):
    zones, cores = tmp_path / "thermal", tmp_path / "cpu"
    for number, (kind, temp) in enumerate([("cpu-thermal", "48500"), ("gpu-thermal", "")]):
        zone = zones / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(temp)
    for number in range(2):
        (cores / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (cores / f"cpu{number}" / "cpufreq" / "scaling_cur_freq").write_text("1510000\n")
        (cores / f"cpu{number}" / "cpufreq" / "scaling_max_freq").write_text("1984000\n")
        (cores / f"cpu{number}" / "thermal_throttle").mkdir()
        (cores / f"cpu{number}" / "thermal_throttle" / "core_throttle_count").write_text("3\n")
    heat = read_heat(zones, cores)
    assert heat.celsius == {"cpu-thermal 0": 48.5}
    assert heat.mhz == (1510.0, 1510.0)
    assert (heat.highest_mhz, heat.throttled) == (1984.0, 6)
    nothing = read_heat(tmp_path / "none", tmp_path / "none")
    assert (nothing.celsius, nothing.mhz, nothing.highest_mhz, nothing.throttled) == (
        {}, (), None, None,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_the_product_is_one_that_onnx_accepts_and_gives_the_product(kind):
    import onnxruntime

    random = np.random.default_rng(0)
    weights = random.integers(-128, 128, (40, 24))
    graph = product_graph(kind, weights)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    session = onnxruntime.InferenceSession(graph, providers=[CPU])
    # x86 without VNNI adds pairs in 16 bits, where 255 x 127 x 2 is too much: small numbers.
    left = random.integers(0, 60, (ROWS, 40))
    given = left.astype(np.uint8 if kind == "int8" else np.float32)
    (found,) = session.run(None, {"x": given})
    np.testing.assert_array_equal(found, left @ weights)


def test_a_rate_is_products_by_time():
    rate = measure_here("int8", 1, passes=1)
    assert rate.gmacs == rate.best_gmacs > 0
    seconds = ROWS * MIDDLE * COLUMNS / 1e9 / rate.gmacs
    assert seconds < 60
