"""uPlot as its authors publish it, and what this house adds to it."""

import hashlib

import pytest

from agent.charts import FOLDER, UPLOT_SHA256, UPLOT_VERSION


@pytest.mark.parametrize("name", UPLOT_SHA256)
def test_uplot_is_as_published(name):
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == UPLOT_SHA256[name]


def test_uplot_is_of_the_version_that_is_named_and_has_its_licence():
    assert f"(v{UPLOT_VERSION})" in (FOLDER / "uplot.js").read_text(encoding="utf-8")[:200]
    assert (FOLDER / "uplot.LICENSE").read_text().startswith("The MIT License (MIT)")
    assert UPLOT_VERSION in (FOLDER.parent / "README.md").read_text()
