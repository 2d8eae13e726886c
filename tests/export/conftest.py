"""Fixtures of the export's tests."""

from __future__ import annotations

import pytest
from support.traced import traced_once


@pytest.fixture(scope="session", autouse=True)
def _traces():
    """Encoders that are equal are traced once."""
    yield from traced_once()
