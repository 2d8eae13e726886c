"""Fixtures shared by every test."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Run in the background, we may have been told to ignore Ctrl-C, and every process that a test starts
# would inherit it: those that press Ctrl-C would find nobody listening.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The evaluation recordings and oracles, which are not part of the repository."""
    place = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared"))
    if not (place / "data").is_dir():
        pytest.skip(f"evaluation recordings are not at {place} (set AUSCULT_SHARED)")
    return place


@pytest.fixture(autouse=True)
def _state_directory(monkeypatch, tmp_path_factory) -> None:
    """No test may find, or leave, anything in the home directory's state and cache."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_trial(request, monkeypatch) -> None:
    """Agents within a test open bundles without the process that tries them: it takes seconds.

    Those that are processes of their own do as in service, and so do tests marked `real_trial`.
    """
    if request.node.get_closest_marker("real_trial") is None:
        monkeypatch.setattr(
            "agent.deploy.opening.try_in_child", lambda *_, **__: None, raising=False
        )
