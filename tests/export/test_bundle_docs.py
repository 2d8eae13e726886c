"""docs/reference/bundle.md is what the schema says."""

from __future__ import annotations

from tools import bundle as docs


def test_page_is_not_stale():
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run `make docs`"


def test_page_describes_every_field_of_the_manifest():
    text = docs.page()
    for field in ("data_sha256", "healthy_recordings", "float_nodes", "window_samples", "group"):
        assert f"| `{field}` |" in text
