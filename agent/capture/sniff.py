"""What a file is that is no recording, by its first bytes: said in place of a decoder's riddle."""

from __future__ import annotations

from pathlib import Path

_KINDS = (
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the recording itself: `git lfs pull`"),
    (b"<!doctype", 0, "a web page, as a failed download leaves it: download it again"),
    (b"<html", 0, "a web page, as a failed download leaves it: download it again"),
    (b"\x1f\x8b", 0, "compressed by gzip: unpack it"),
    (b"pk\x03\x04", 0, "a zip archive: unpack it"),
    (b"ftyp", 4, "an MP4 recording (AAC) under another name: rename it to .m4a"),
    (b"#!amr", 0, "an AMR recording under another name: rename it to .amr"),
    (b"\x1a\x45\xdf\xa3", 0, "a Matroska or WebM recording under another name: rename it to .mka"),
    (b"\x30\x26\xb2\x75", 0, "a WMA recording under another name: rename it to .wma"),
)


def what_it_is(path: Path) -> str:
    """What a file is by its content, with what to do about it; empty when nobody knows."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return ""
    for mark, at, what in _KINDS:
        if head[at : at + len(mark)].lower() == mark:
            return what
    return ""
