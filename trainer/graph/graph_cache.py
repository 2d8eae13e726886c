"""Exported graphs kept on the disk, so that an encoder is exported once, whoever asks.

A graph is found by what it is exported from: the preset's encoder section, the window's length,
every weight, and the code and the libraries that write it. What follows from a graph and a
machine's own sound, as its INT8 form does, is found by a digest of all that (`GraphCache.derived`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trainer
from agent import __version__
from agent.bundle.seal import file_record
from agent.core.cache_home import GRAPHS, cache_home, cache_limit
from trainer.encoders.base import Encoder
from trainer.graph.frames import export_frames
from trainer.graph.onnx_graph import FloatGraph, export_fused, export_graph
from trainer.graph.shipped import shipped_frames, shipped_graph, source_digest
from trainer.graph.storage import copy, data_file
from trainer.preset import Preset

_GRAPH = "graph.onnx"
_ABOUT = "about.json"
# What a graph follows from beside the encoder.
_ROOMS = ("encoders", "fit", "graph", "zoo")
_LIBRARIES = ("torch", "onnx", "onnxscript")


@dataclass(frozen=True, slots=True)
class GraphCache:
    """A folder of graphs: `<digest>/{plain,fused,frames,derived}/{graph.onnx,about.json}`.

    Several processes may use it at once: a graph is there whole or not at all.

    Attributes:
        folder: Where they lie; made when the first is written.
        limit: Bytes that they may take: what is over it goes, the longest unused first. 0 keeps
            nothing; None does not ask.
    """

    folder: Path
    limit: int | None = None

    @classmethod
    def of_user(cls) -> GraphCache:
        """The one that all commands of this user share.

        Raises:
            ConfigError: `AUSCULT_CACHE_MB` is no number.
        """
        return cls(cache_home() / GRAPHS, cache_limit())

    def graph(self, encoder: Encoder, preset: Preset, into: Path | None = None) -> FloatGraph:
        """Exports a graph (`trainer.graph.onnx_graph.export_graph`) unless it is kept already.

        Args:
            encoder: The encoder with its weights.
            preset: The preset that it was built from.
            into: Folder that gets a copy, which nobody removes; the kept one is used in place when
                None.

        Raises:
            ExportError: As there.
        """
        if into is None:
            return self._in_place(encoder, preset)
        if self.limit == 0:
            return _made(encoder, preset, into / _GRAPH)
        try:
            kept = self._in_place(encoder, preset)
            return replace(kept, path=_copied(kept.path, into / _GRAPH))
        except OSError:  # no room, no permission, or another process has just removed it
            return _made(encoder, preset, into / _GRAPH)

    def _in_place(self, encoder: Encoder, preset: Preset) -> FloatGraph:
        place = self.folder / _digest(encoder, preset)
        new = not (place / "plain").is_dir()
        plain = _kept(place / "plain", partial(_made, encoder, preset))
        assert plain is not None

        def fused(path: Path) -> FloatGraph | None:
            try:
                found = _kept(place / "fused", partial(export_fused, encoder))
            except OSError:
                return export_fused(encoder, path)
            self._evict(place)
            return found

        def frames(path: Path) -> FloatGraph | None:
            make = partial(_framed, encoder, preset)
            try:
                found = _kept(place / "frames", make)
                if found is not None:
                    found = replace(found, path=_copied(found.path, path))
            except OSError:
                return make(path)
            self._evict(place)
            return found

        if new:
            # What writes graphs is loaded and warm now: later it would take four times as long.
            with contextlib.suppress(OSError):
                _kept(place / "frames", partial(_framed, encoder, preset))
        self._evict(place)
        return replace(plain, fused=fused, frames=frames)

    def derived(
        self, key: str, into: Path, make: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """Copies a graph that follows from another one, made unless it is kept already.

        Args:
            key: SHA-256 of all that it follows from, in hexadecimal.
            into: The file to write.
            make: Writes it, and gives what there is to know of it (what JSON holds).

        Returns:
            What there is to know of it.
        """
        if self.limit == 0:
            return make(into)
        place = self.folder / key
        try:
            about = _kept_about(place / "derived", make)
            copy(place / "derived" / _GRAPH, into)
        except OSError:  # no room, no permission, or another process has just removed it
            return make(into)
        self._evict(place)
        found: dict[str, Any] = about["facts"]
        return found

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _evict(self, used: Path) -> None:
        """Remove what is over the limit, the longest unused first, but not what is in use."""
        if self.limit is None:
            return
        with contextlib.suppress(OSError):
            os.utime(used)
            places = sorted(_places(self.folder), key=lambda place: place.stat().st_mtime_ns)
            total = sum(map(_bytes, places))
            for place in places:
                if total <= self.limit or place == used:
                    break
                total -= _bytes(place)
                shutil.rmtree(place, ignore_errors=True)


def _made(encoder: Encoder, preset: Preset, path: Path) -> FloatGraph:
    """The graph that is shipped of this encoder, else exported."""
    found = shipped_graph(encoder, preset, path) or export_graph(encoder, path)
    fused, frames = partial(export_fused, encoder), partial(_framed, encoder, preset)
    return replace(found, fused=fused, frames=frames)


def _framed(encoder: Encoder, preset: Preset, path: Path) -> FloatGraph | None:
    """The graph of its frames that is shipped, else exported; None where there is none."""
    return shipped_frames(encoder, preset, path) or export_frames(encoder, path)


def _places(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []


def _bytes(place: Path) -> int:
    return sum(one.stat().st_size for one in place.rglob("*") if one.is_file())


def _copied(path: Path, to: Path) -> Path:
    """A graph under the same name elsewhere, its tensors with it."""
    for source, target in ((path, to), (data_file(path), data_file(to))):
        if source.exists():
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
    return to


def _kept(place: Path, make: Callable[[Path], FloatGraph | None]) -> FloatGraph | None:
    """The graph in a folder, made and put there if it is not; None where there is no such form."""

    def facts(path: Path) -> dict[str, Any] | None:
        graph = make(path)
        return None if graph is None else {"opset": graph.opset, "pinned": graph.pinned}

    found = _kept_about(place, facts)["facts"]
    return found and FloatGraph(place / _GRAPH, found["opset"], tuple(found["pinned"]))


def _kept_about(place: Path, make: Callable[[Path], dict[str, Any] | None]) -> dict[str, Any]:
    """What is known of the graph in a folder, which is made and put there if it is not.

    One whose bytes are not what was written (a disk at fault, a power cut) is made anew.
    """
    about = _read(place)
    if about is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".graph-", dir=place.parent) as work:
            folder = Path(work) / place.name
            folder.mkdir()
            about = {"facts": make(folder / _GRAPH), "files": _digests(folder)}
            (folder / _ABOUT).write_text(json.dumps(about))
            if _read(place) is None:  # put there by another process meanwhile?
                shutil.rmtree(place, ignore_errors=True)
                folder.rename(place)
    return about


def _read(place: Path) -> dict[str, Any] | None:
    """What is known of the graph in a folder; None where there is none, or it is damaged."""
    try:
        about = json.loads((place / _ABOUT).read_text())
        whole = isinstance(about, dict) and "facts" in about and about["files"] == _digests(place)
    except (OSError, ValueError, KeyError):
        return None
    return about if whole else None


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of a graph's files, by name."""
    paths = (path for path in folder.iterdir() if path.name != _ABOUT)
    return {path.name: file_record(path).sha256 for path in sorted(paths)}


@cache
def code_digest() -> str:
    """Digest of the code and the libraries that make a graph of an encoder."""
    digest = hashlib.sha256(" ".join(map(version, _LIBRARIES)).encode())
    root = Path(trainer.__file__).parent
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(encoder: Encoder, preset: Preset) -> str:
    facts = [__version__, code_digest(), source_digest(encoder, preset)]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()
