"""No word stands twice in a row in what people read: messages, pages, documentation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.doubled import doubled, said_twice

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"```.*?```|`[^`]*`|^(?: {4}|\t|\|).*$|<[^>]+>", re.DOTALL | re.MULTILINE)


def sentences(source: str) -> list[str]:
    """Texts of Python source with a blank in them; what is filled in at run time is an ellipsis."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            found.append(
                "".join(
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return [text for text in found if " " in text]


def files(*patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    assert found
    return [path for path in found if ".min." not in path.name and path.name != "uplot.js"]


@pytest.mark.parametrize("package", ["agent", "trainer", "export", "plant", "tools", "benchmarks"])
def test_messages_and_docstrings(package):
    wrong = [
        f"{path.relative_to(ROOT)}: {where}"
        for path in files(f"{package}/**/*.py")
        for text in sentences(path.read_text(encoding="utf-8"))
        for where in doubled(_CODE.sub("…", text))
    ]
    assert wrong == []


def test_pages():
    wrong = [
        f"{path.relative_to(ROOT)}: {where}"
        for path in files(
            "agent/**/*.js",
            "plant/**/*.js",
            "agent/**/*.html",
            "plant/**/*.html",
            "export/**/*.html",
        )
        for where in re.findall(
            r"[\"`>]([^\"`<>\n]* [^\"`<>\n]*)[\"`<]|// (.*)", path.read_text(encoding="utf-8")
        )
        for where in doubled(" ".join(where))
    ]
    assert wrong == []


def test_documentation():
    wrong = [
        f"{path.relative_to(ROOT)}: {where}"
        for path in files("*.md", "docs/**/*.md", "packaging/**/*.md", "tests/*.md")
        for where in doubled(_CODE.sub("…", path.read_text(encoding="utf-8")))
    ]
    assert wrong == []


def test_that_they_are_found():
    assert doubled("the bundle is is there")
    assert doubled("of the\nthe bundle")
    assert doubled("It was was read")
    assert not doubled("8 8 x x, in-in")
    assert said_twice("a.yaml: it cannot be read: no such file. It cannot be read.") == [
        "it cannot be read"
    ]
    assert said_twice("one: it is so. two: it is not.") == []
    assert "there is … is …" in sentences('raise X(f"there is {n} " f"is {m}")')
