"""Child processes import our code, whatever lies in the folder that they are begun in."""

from __future__ import annotations

import subprocess

import pytest
from support.bundles import tone, write

from agent.bundle.private import private_copy
from agent.capture.guard import Guard
from agent.config.encode import InferenceConfig
from agent.core.child import running
from agent.deploy.trial import try_in_child
from agent.tune.measure import Work, measure
from agent.tune.profile import reference_ms


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder of recordings with modules of somebody else's in it."""
    for name in ("agent", "numpy", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"open({str(tmp_path / 'sprung')!r}, 'w').close()"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_called_agent_beside_recordings_is_not_imported(trap, tiny_bundle):
    Guard().ask(write(trap / "0.flac", tone(1)), channel=None)
    with private_copy(tiny_bundle) as copy:
        try_in_child(copy, InferenceConfig(), seconds=60)
    measure(Work(tiny_bundle, 1.0, 0.5), InferenceConfig(), 1)
    reference_ms()
    assert not (trap / "sprung").exists()


def test_its_result_is_the_exit_code(trap):
    done = subprocess.run(
        running("agent.core.cores", "usable_cores"), check=False, capture_output=True
    )
    assert done.returncode > 0
    assert not done.stderr
