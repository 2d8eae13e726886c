"""One way to name a bundle everywhere a person reads of one: the machine's name and `.bundle`."""

import re
from pathlib import Path

import pytest

from agent.web.setup import training_commands

ROOT = Path(__file__).parents[2]
PLACES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")),
          *sorted((ROOT / "configs").glob("*.yaml")), ROOT / "export" / "demo" / "show.py"]  # fmt: skip
# What names a bundle: an option, what export and learn write, a machine's key.
NAMED = re.compile(
    r"--(?:bundle|encoder-from)[ =]([^\s`|)\]]+)"
    r"|auscult (?:export|learn) [^\n]*?--out ([^\s`]+)"
    r"|^\s*bundle: ([^\s#{}]+)",
    re.MULTILINE,
)


def names(text):
    return [next(one for one in found if one) for found in NAMED.findall(text)]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_bundle_is_called_after_its_machine(place):
    wrong = [
        name
        for name in names(place.read_text(encoding="utf-8"))
        if not name.strip("\"'`,;.:").endswith(".bundle") and not name.isupper()
    ]

    assert not wrong


def test_the_page_calls_it_so_too():
    commands = training_commands("pump", "/var/lib/auscult/bundles/pump", sudo=False)

    assert "auscult export run-pump --out pump.bundle" in commands
    assert names("auscult export r --out x\n bundle: y\n--bundle=z") == ["x", "y", "z"]
