"""One file that tells what a device does, and nothing of whose it is."""

from __future__ import annotations

import json
import platform
import shutil
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from support.bundles import build_bundle

from agent.bundle.facts import ProcessorInfo
from agent.bundle.manifest import ENCODER, FLOAT_ENCODER, FileRecord
from agent.bundle.verify import read_manifest
from agent.commands.tune import tune
from agent.core.errors import BundleError
from agent.encode.providers import CPU, CUDA, TENSORRT
from agent.tune import report as module
from agent.tune.board import Board, read_board
from agent.tune.heat import Heat, read_heat
from agent.tune.measure import Cost
from agent.tune.product import ROWS, Rate, measure_here, product_graph
from agent.tune.remarks import remarks_of
from agent.tune.report import make_report, without_places
from agent.tune.report_fields import DeviceReport


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


SILENT_FALLBACK = """
import sys
sys.stderr.write("\\x1b[1;31m[E:onnxruntime:Default] [ONNXRuntimeError] : 1 : FAIL : Failed to load "
    "library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open shared "
    "object file: No such file or directory\\n\\x1b[m")
print("*************** EP Error ***************")
print("EP Error /onnxruntime_src/a.cc:560 void f() Please install TensorRT libraries")
print("Falling back to ['CPUExecutionProvider'] and retrying.")
print('{"wall_ms": 9, "slow_ms": 9, "cpu_ms": 9, "memory_mb": 9, '
    '"provider": "CPUExecutionProvider", "fallback": ""}')
"""


def test_what_ran_on_the_processor_is_not_told_as_an_accelerators(bundle, quick, monkeypatch):
    """A session of onnxruntime-gpu 1.23.2 without CUDA: it warns, and goes on with the processor."""
    import onnxruntime

    monkeypatch.setattr(
        "agent.tune.measure.running", lambda *_: [sys.executable, "-c", SILENT_FALLBACK]
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    report = make_report([bundle], 3)
    for provider in (CUDA, TENSORRT):
        (way,) = (way for way in report.encoders[0].ways if way.provider == provider)
        assert way.wall_ms is None
        assert way.fault == (
            f"{provider} did not begin, {CPU} ran in its place: libcublasLt.so.12: cannot open "
            "shared object file: No such file or directory"
        )
    assert all(way.wall_ms for way in report.encoders[0].ways if way.provider == CPU)


def test_tuning_chooses_no_provider_that_did_not_begin(bundle, tmp_path, monkeypatch):
    import onnxruntime

    config = tmp_path / "agent.yaml"
    config.write_text(f"machines:\n  - {{name: a, bundle: {bundle}, source: 'replay:x.wav'}}\n")
    monkeypatch.setattr(
        "agent.tune.measure.running", lambda *_: [sys.executable, "-c", SILENT_FALLBACK]
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    done = CliRunner().invoke(tune, ["--config", str(config)], catch_exceptions=False)
    assert "did not begin" in done.output
    assert "chosen: CPU" in done.output


def report_of(quick, **fields):
    return make_report([], 3).model_copy(update={"load": 0.0, "cores": 4, **fields})


def test_remarks_say_what_is_missing_and_what_is_doubtful(quick):
    calm = {
        "processor": ProcessorInfo(machine="aarch64", model="Cortex-A57", flags=("asimd",)),
        "heat_before": Heat(throttled=3, cooling={"cpu-throttle-alert 4": 0, "pwm-fan 0": 1}),
        "heat_after": Heat(
            celsius={"cpu 0": 81.0}, mhz=(1479.0,), throttled=5,
            cooling={"cpu-throttle-alert 4": 1, "pwm-fan 0": 3},
        ),
        "board": Board(cores_present=6, tensorrt="10.3.0"),
        "providers": (CPU,),
        "onnxruntime_packages": ("onnxruntime 1.23.2", "onnxruntime-gpu 1.23.2"),
    }  # fmt: skip
    text = "\n".join(remarks_of(report_of(quick, **calm)))
    for part in (
        "4 of 6 cores", "no 8-bit dot products", "slowed for their heat 2 times",
        "slowed for heat at the end: cpu-throttle-alert 4",
        f"has no {CUDA} and no {TENSORRT} here: not tried, though TensorRT is installed",
        "overwrite each other", "no encoder was measured",
    ):  # fmt: skip
        assert part in text, part
    assert "busy" not in text
    assert "fan" not in text
    assert "no sensor" not in text
    busy = report_of(quick, load=3.0, heat_after=Heat(), threads_in_environment={"A": "1"})
    text = "\n".join(remarks_of(busy))
    assert "busy before it began: 3.0 processes wanted 4 cores" in text
    assert "no sensor of heat can be read" in text
    assert "the environment sets A=1" in text


def test_a_jetsons_power_mode_and_software_are_read(tmp_path):
    for name, content in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >\n",
        "var/lib/nvpmodel/status": "pmode:0001\n",
        "sys/devices/system/cpu/present": "0-5\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert read_board(tmp_path) == Board(
        release="R36, 4.3", power_mode="1 15W", governors=("schedutil",), cores_present=6,
        cuda="12.6.11", tensorrt="10.3.0",
    )  # fmt: skip
    assert read_board(tmp_path / "none") == Board()


def test_a_device_of_one_core_is_measured_with_one_thread(bundle, quick, monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    monkeypatch.setattr(module, "measure", lambda *_, **__: Cost(9, 9, 9, 9))
    report = make_report([bundle], 3)
    assert [(rate.kind, rate.threads) for rate in report.products] == [("int8", 1), ("float32", 1)]
    assert {way.threads for way in report.encoders[0].ways} == {1}


def test_places_are_left_out_of_messages(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "hall-3")
    said = without_places("cannot open '/home/anna/x.onnx' on hall-3: 3 of 4 windows, 12 m/s")
    assert said == "cannot open '(a file)' on (this device): 3 of 4 windows, 12 m/s"


def test_sensors_are_read_where_there_are_some(tmp_path):
    zones, cores = tmp_path / "thermal", tmp_path / "cpu"
    told = [
        ("cpu-thermal", "48500"),
        ("gpu-thermal", ""),
        ("PMIC-Die", "100000"),
        ("aux", "-256000"),
    ]
    for number, (kind, temp) in enumerate(told):
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
    for number, state in enumerate(("0", "2")):
        device = zones / f"cooling_device{number}"
        device.mkdir()
        (device / "type").write_text("cpu-throttle-alert\n")
        (device / "cur_state").write_text(state)
    heat = read_heat(zones, cores)
    assert heat.cooling == {"cpu-throttle-alert 1": 2}
    assert heat.warmest == 48.5
    assert heat.celsius == {"cpu-thermal 0": 48.5, "PMIC-Die 2": 100.0}
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
