"""rows.json of large banks: read without a record for each row, and as strictly."""

import json

import pytest

import agent.bundle.rows as module
from agent.bundle.manifest import Row
from agent.bundle.rows import RowTable, read_rows
from agent.core.errors import BundleError


def records(count=50):
    return [
        {"source": f"normal/{i // 7:03d}.flac", "start": i % 7, "group": f"g{i // 7}",
         "domain": "source", "attributes": {"load": str(i // 14)}, "session": "2026-03-02T23:42"}
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 10)
    monkeypatch.setattr(module, "_AT_ONCE", 8)


def test_a_table_gives_the_rows_that_are_in_the_file(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(records(), indent=1))
    found = read_rows(path)
    assert isinstance(found, RowTable)
    wanted = [Row.model_validate(one) for one in records()]
    assert list(found) == wanted
    assert (len(found), found[-1], found[3:5]) == (50, wanted[-1], wanted[3:5])
    with pytest.raises(IndexError):
        found[50]


def test_a_small_file_stays_records(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1 << 20)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(records()))
    assert read_rows(path) == tuple(Row.model_validate(one) for one in records())


@pytest.mark.parametrize("place", [0, 7, 8, 49])
def test_a_row_that_is_none_is_named(tmp_path, place):
    wrong = records()
    wrong[place]["start"] = -1
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(BundleError, match=rf"row {place}: start: .*greater than or equal to 0"):
        read_rows(path)


@pytest.mark.parametrize(
    "text",
    ['{"rows": []}', "[", '[{"source": "a"', "[1, 2", "[1] more of it", "[1 2] of it all", "x" * 20,
     "[" * 5000, '[{"source": 1, "start": 0, "group": "g"}]', '["a row, it says", 3]', "[,        ]"],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(BundleError, match=r"rows\.json"):
        read_rows(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b"[" + b"\xff" * 40)
    with pytest.raises(BundleError, match="is not UTF-8"):
        read_rows(path)
