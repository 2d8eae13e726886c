"""Words that stand twice in a row, and parts of a sentence that are said twice."""

from __future__ import annotations

import re

# Two letters at least: single ones are names of axes and the like.
_TWICE = re.compile(
    r"(?<![\w.<$/'`{-])([^\W\d_]{2,})(?:[ \t]+|[ \t]*\n[ \t]*)\1(?![\w'`}-])", re.IGNORECASE
)
_PARTS = re.compile(r"(?<=[:.;])\s+")
# English that is right so.
_RIGHT = frozenset({"had", "that"})


def doubled(text: str) -> list[str]:
    """Each pair of a word with itself, with what stands around it."""
    return [
        text[max(0, found.start() - 30) : found.end() + 30].replace("\n", " ")
        for found in _TWICE.finditer(text)
        if found[1].lower() not in _RIGHT
    ]


def said_twice(text: str) -> list[str]:
    """Parts of sentences of three words and more that a message says two times."""
    parts = [part.strip(" .;:").lower() for part in _PARTS.split(text)]
    return sorted({one for one in parts if parts.count(one) > 1 and len(one.split()) > 2})
