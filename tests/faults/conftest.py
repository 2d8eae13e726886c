"""Fixtures of the fault tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A small real bundle; tests that alter it work on a copy."""
    from support.bundles import build_bundle

    return build_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
