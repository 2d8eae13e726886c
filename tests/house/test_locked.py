"""What is installed is named to the version and held against digests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)(?: ; ([^\\]+?))?(?: \\)?$")
_DIGEST = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def entries(path):
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if match := _PINNED.match(line):
            name = match[1], match[2]
            found[name] = 0
        else:
            assert _DIGEST.fullmatch(line), line
            found[name] += 1
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "packaging").glob("requirements-*.txt")), ids=lambda path: path.stem
)
def test_every_requirement_has_digests_and_the_version_of_the_constraints(path):
    constraints = dict(entries(ROOT / "constraints.txt"))
    found = entries(path)
    assert found
    assert min(found.values()) > 0
    # What only builds is no part of what runs.
    known = {name for name, _ in constraints}
    assert {one for one in found if one[0] in known} <= constraints.keys()


def test_every_constraint_has_its_digests_somewhere():
    locked = set()
    for path in (ROOT / "packaging").glob("requirements-*.txt"):
        locked |= entries(path).keys()
    missing = entries(ROOT / "constraints.txt").keys() - locked
    assert not missing
