"""Every stage that train and export show knows how much there is to do, and comes to its end."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from rich.console import Console

from agent.core.progress import Stages
from export.commands.export import export
from trainer.commands.train import train
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine


@pytest.fixture
def shown(monkeypatch):
    """All bars that were drawn."""
    bars: list[Stages] = []

    def progress_bar(_console):
        bars.append(Stages(Console(quiet=True)))
        return bars[-1]

    monkeypatch.setattr("agent.core.progress.progress_bar", progress_bar)
    monkeypatch.setattr("export.bundle.progress_bar", progress_bar)
    return bars


def stages(bars):
    """Each stage with how much there was of it, held to have come to its end."""
    found = {}
    for task in (task for bar in bars for task in bar.tasks):
        assert task.total is not None, f"{task.description}: how much there is was never told"
        assert task.completed == task.total, task.description
        found[task.description] = max(task.total, found.get(task.description, 0))
    bars.clear()
    return found


def test_stages_know_how_much_there_is_and_end_with_a_full_cache_too(tmp_path, shown):
    counts = Counts(train_source=8, train_target=2, test_normal=2, test_anomaly=2)
    data = write_dataset(tmp_path, design_machine(0), seed=0, counts=counts, seconds=4.0)
    recordings = len(list(data.rglob("*.wav")))
    healthy = len(list((data / "train").rglob("*.wav")))
    for name in ("first", "again"):
        run = tmp_path / name
        done = CliRunner().invoke(train, [str(data), "--out", str(run)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = stages(shown)
        assert found["reading and measuring recordings"] == recordings
        assert found["reading recordings"] == healthy
        assert found["rehearsing"] >= healthy
        assert found["fitting the scorer"] > 1
        assert {"comparing recordings", "exporting the encoder", "writing the report"} <= set(found)

        arguments = [str(run), "--out", str(run.with_suffix(".bundle"))]
        done = CliRunner().invoke(export, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = stages(shown)
        assert found["embedding (float32)"] >= healthy
        assert found["scoring the test set"] == recordings - healthy
        assert {"fitting the scorer", "drift baseline", "measuring the encoder"} <= set(found)
