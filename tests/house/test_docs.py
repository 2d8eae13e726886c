"""The documentation hangs together: every page can be reached, no link leads nowhere, nothing is stale."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_READMES = [
    path
    for folder in ("agent", "trainer", "export", "plant", "tests")
    for path in (ROOT / folder).rglob("README.md")
]
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *_READMES])
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _without_code(text):
    """Markdown without its code: a `](` in there is no link."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _anchors(page):
    """Anchors of a page's headings, as GitHub and MkDocs make them of plain words."""
    found = set()
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip())
        found |= {slug, re.sub(r"-+", "-", slug)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    wrong = []
    for target in _LINK.findall(_without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (
            anchor and place.suffix == ".md" and anchor not in _anchors(place)
        ):
            wrong.append(target)

    assert not wrong


def _pages_of(entry):
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [page for value in values for page in _pages_of(value)]


def test_every_page_is_in_the_site_once():
    listed = _pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])

    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_code_names_pages_that_there_are():
    named = {}
    for folder in ("agent", "trainer", "export", "plant", "tools", "benchmarks", "configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".yaml"}:
                for page in re.findall(r"(?<![\w/.])docs/[\w/-]+\.md", path.read_text("utf-8")):
                    named.setdefault(page, path)

    assert not {page: path for page, path in named.items() if not (ROOT / page).is_file()}


@pytest.mark.parametrize(
    "tool", ["configuration", "messages", "bundle", "commands", "api", "plant"]
)
def test_generated_pages_are_what_the_code_says(tool):
    run = [sys.executable, "-m", f"tools.{tool}", "--check"]

    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_holds_no_leftovers_of_a_merge_and_no_heading_twice(page):
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert not re.findall(r"^(?:<{7}|={7}|>{7})(?: |$).*", text, flags=re.MULTILINE)
    parts = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    twice = {title for title in parts if parts.count(title) > 1}
    assert not twice, twice
