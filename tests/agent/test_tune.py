"""Settings are chosen by what they cost, and written without touching anything else."""

from __future__ import annotations

import json
import stat
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from support.bundles import build_bundle

from agent.commands.tune import tune
from agent.config.agent import load_config
from agent.config.encode import InferenceConfig
from agent.core.errors import ConfigError
from agent.core.program import next_command
from agent.encode.frames import SharedFrames
from agent.encode.providers import CPU, CUDA
from agent.tune.choose import Trial, best, combined, explore, provider_lists, thread_counts
from agent.tune.device import device_class
from agent.tune.measure import Cost, Work, measure, measure_here
from agent.tune.write import replaced, section, write_config


def trial(cpu, memory=50.0, load=0.1, **settings):
    return Trial(InferenceConfig(**settings), Cost(cpu, cpu, cpu, memory), load)


def test_least_processor_time_then_least_memory():
    assert best([trial(20), trial(15, threads=2)]).inference.threads == 2
    assert best([trial(20), trial(19.5, threads=2)]).inference.threads == 1, "noise"
    assert not best([trial(20), trial(20, 30, arena=False)]).inference.arena


def test_what_does_not_keep_up_is_not_chosen_unless_nothing_does():
    assert best([trial(10, load=0.8), trial(25, load=0.4, threads=2)]).inference.threads == 2
    assert best([trial(10, load=3), trial(25, load=2, threads=2)]).inference.threads == 2
    with pytest.raises(ValueError, match="nothing could be measured"):
        best([Trial(InferenceConfig(), None, 1.0, "failed")])


def test_the_load_is_that_of_all_machines(tmp_path):
    works = [Work(tmp_path / "a", 4.0, 0.5), Work(tmp_path / "b", 1.0, 1.0)]
    found = combined(InferenceConfig(), works, [Cost(10, 20, 12, 30), Cost(60, 100, 62, 90)])
    assert found.load == pytest.approx(4 * 0.020 + 1 * 0.100)
    assert found.cost.cpu_ms == pytest.approx(0.8 * 12 + 0.2 * 62)
    assert found.cost.memory_mb == 120


def test_every_kind_of_setting_is_tried_with_the_best_so_far():
    """On a device where two threads are best, and CUDA does not run."""

    def attempt(how):
        if how.providers[0] == CUDA:
            return Trial(how, None, float("inf"), "no device")
        cpu = {1: 20, 2: 15, 4: 18}[how.threads] + 30 * how.spinning + 5 * (not how.arena)
        return Trial(how, Cost(cpu, cpu, cpu, 50 + 20 * how.memory_pattern), 0.1)

    base = InferenceConfig(threads=3, provider_options={CUDA: {"device_id": "0"}})
    trials = list(explore(base, provider_lists([CUDA, CPU]), 4, attempt))
    chosen = best(trials).inference
    assert (chosen.threads, chosen.spinning, chosen.arena, chosen.memory_pattern) == (
        2, False, True, False,
    )  # fmt: skip
    assert chosen.providers == (CPU,)
    assert chosen.provider_options == base.provider_options
    assert any(one.inference.providers == (CUDA, CPU) for one in trials)
    assert len({one.inference.model_dump_json() for one in trials}) == len(trials)


def test_threads_double_up_to_all():
    assert [thread_counts(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


def test_a_jetson_is_known_by_its_board(tmp_path):
    model, memory = tmp_path / "model", tmp_path / "meminfo"
    model.write_text("NVIDIA Jetson Orin Nano\0")
    memory.write_text("MemTotal:        8388608 kB\n")
    assert device_class(model, tmp_path / "none", memory).startswith("NVIDIA Jetson Orin Nano, ")
    assert "8 GiB" in device_class(model, tmp_path / "none", memory)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build_bundle(tmp_path_factory.mktemp("tune") / "bundle")


@pytest.fixture
def config(tmp_path, bundle):
    path = tmp_path / "agent.yaml"
    path.write_text(
        "# the pumps of hall 3\n"
        f"machines:\n  - {{name: pump-1, bundle: {bundle}, source: 'replay:x.wav'}}  # east\n"
        "# more threads were no use\n"
        "inference:\n  threads: 4\n\n  # deep\n  providers:\n    - CPUExecutionProvider\n\n"
        "# tell often\nheartbeat_seconds: 60\n"
    )
    return path


def test_a_window_is_measured_in_a_process_of_its_own(bundle):
    found = measure(Work(bundle, 1.0, 1.0), InferenceConfig(threads=2), 3)
    assert 0 < found.wall_ms <= found.slow_ms
    assert found.memory_mb > 0


def test_windows_overlap_as_the_agents_do(bundle, monkeypatch):
    class Listener(SharedFrames):
        def encode(self, encoder, window):
            heard.append(window)
            return super().encode(encoder, window)

    heard = []
    monkeypatch.setattr("agent.tune.measure.SharedFrames", Listener)
    measure_here(bundle, 0.25, InferenceConfig(), 2)
    assert len(heard) == 4
    for before, after in pairwise(heard):
        assert after.step == 0.25 * after.rate
        assert np.array_equal(before.samples[after.step :], after.samples[: -after.step])


def test_only_the_section_is_replaced_and_twice_is_once(config):
    wanted = InferenceConfig(threads=2, provider_options={CUDA: {"device_id": "0"}})
    config.chmod(0o640)
    for remark in (" first:", " again:"):
        text = replaced(config.read_text(), section(wanted, [remark, "a device"]))
        write_config(config, text, wanted)
    assert load_config(config).inference == wanted
    text = config.read_text()
    for kept in ("# the pumps of hall 3\n", "# east\n", "# more threads were no use\n",
                 "\n# tell often\nheartbeat_seconds: 60\n"):  # fmt: skip
        assert kept in text
    assert text.count("inference:") == text.count("Measured by") == 1
    assert "again" in text
    assert "deep" not in text
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


@pytest.mark.parametrize("text", ["inference: {threads: 3}\nheartbeat_seconds: 9\n", ""])
def test_a_section_on_one_line_or_none(config, text):
    before = config.read_text().partition("inference:")[0]
    config.write_text(before + text)
    wanted = InferenceConfig(threads=2)
    write_config(config, replaced(config.read_text(), section(wanted, [":"])), wanted)
    assert load_config(config).inference == wanted
    assert load_config(config).heartbeat_seconds == (9 if text else 300)


def test_a_file_whose_section_cannot_be_told_from_the_rest_is_left_alone(config):
    whole = json.dumps({"machines": [{"name": "a"}], "inference": {"threads": 3}})
    config.write_text(whole)
    wanted = InferenceConfig(threads=2)
    with pytest.raises(ConfigError):
        write_config(config, replaced(whole, section(wanted, [":"])), wanted)
    assert config.read_text() == whole
    assert [one.name for one in config.parent.iterdir()] == ["agent.yaml"]


def test_the_command_shows_what_would_change_and_writes_only_when_told(config, monkeypatch):
    """Measured in truth elsewhere: here two threads take half the processor time of one."""

    def costs(_work, how, _windows):
        return Cost(10, 12, 10 if how.threads == 2 and not how.spinning else 20, 50)

    monkeypatch.setattr("agent.tune.measure.measure", costs)
    monkeypatch.setattr("agent.core.cores.usable_cores", lambda: 2)
    before = config.read_text()
    shown = CliRunner().invoke(tune, ["--config", str(config)], catch_exceptions=False)
    assert "-  threads: 4" in shown.output
    assert "+  threads: 2" in shown.output
    assert f"{config}: unchanged; `--write` writes them" in shown.output
    assert shown.stdout.splitlines()[-1] == next_command("tune", "--config", config, "--write")
    assert config.read_text() == before
    CliRunner().invoke(tune, ["--config", str(config), "--write"], catch_exceptions=False)
    assert load_config(config).inference == InferenceConfig(threads=2)
