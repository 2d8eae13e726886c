"""Fitted scorers kept in the user's cache: what `train` has tried, `export` need not fit again."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

import agent
from agent.config.scorer import ScorerConfig
from agent.core.byte_cache import UserCache, key_of
from agent.encode.processor import in_words, this_processor
from agent.score.fitter import Fitter
from agent.score.scorer import HealthySet, State, Vector

# Code that a fit follows from.
_ROOMS = ("calibrate", "config", "core", "drift", "drift_fit", "score")
_LIBRARIES = ("auscult", "numpy", "scipy", "scikit-learn")
# A larger one is fitted anew: a few of them would fill the cache.
_MOST_BYTES = 64_000_000
_CONFIG: TypeAdapter[ScorerConfig] = TypeAdapter(ScorerConfig)
_ABOUT, _SCORES, _STATE = "about", "scores", "state."


class Fit(NamedTuple):
    """What is fitted of a scorer before its threshold is asked for.

    Attributes:
        config: The scorer as it will be used.
        note: What a person should know of that.
        state: Its arrays.
        scores: Of the healthy windows with their recording left out, float32 `(n,)`.
    """

    config: ScorerConfig
    note: str
    state: State
    scores: Vector


class FitCache(UserCache):
    """Fits by what they follow from; any thread may ask."""

    file, what = "scorers.sqlite", "scorer"

    def fit(
        self,
        healthy: HealthySet,
        config: ScorerConfig,
        fitter: Fitter | None,
        make: Callable[[], Fit],
    ) -> Fit:
        """A fit that is known, else made now and kept.

        Args:
            healthy: Healthy windows.
            config: Scorer that is asked for.
            fitter: What fits; another kind of it is another fit.
            make: Fits.
        """
        key = _key(healthy, config, fitter)
        for value in self._bytes.find([key]).values():
            known = _read(value)
            if known is not None:
                return known
        made = make()
        value = _written(made)
        if len(value) <= _MOST_BYTES:
            self._bytes.keep([key], [value])
        return made


def _key(healthy: HealthySet, config: ScorerConfig, fitter: Fitter | None) -> bytes:
    vectors = np.ascontiguousarray(healthy.vectors)
    rows = [row.model_dump(mode="json") for row in healthy.rows]
    how = [
        _code_digest(), in_words(this_processor()), type(fitter).__qualname__,
        config.model_dump(mode="json"), str(vectors.dtype), vectors.shape, rows,
    ]  # fmt: skip
    return key_of(hashlib.sha256(json.dumps(how).encode()).digest(), vectors.data)


@cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    digest.update(" ".join(map(_version, _LIBRARIES)).encode())
    root = Path(agent.__file__).parent
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} none"


def _written(fit: Fit) -> bytes:
    about = {"config": fit.config.model_dump(mode="json"), "note": fit.note}
    arrays = {
        _ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8),
        _SCORES: fit.scores,
        **{f"{_STATE}{name}": array for name, array in fit.state.items()},
    }
    into = io.BytesIO()
    np.savez(into, allow_pickle=False, **arrays)  # type: ignore[arg-type]  # its own first argument
    return into.getvalue()


def _read(value: bytes) -> Fit | None:
    """A fit that was kept; None of one that is not whole."""
    try:
        with np.load(io.BytesIO(value), allow_pickle=False) as arrays:
            about = json.loads(arrays[_ABOUT].tobytes())
            state = {
                name.removeprefix(_STATE): arrays[name]
                for name in arrays.files
                if name.startswith(_STATE)
            }
            return Fit(
                _CONFIG.validate_python(about["config"]), about["note"], state, arrays[_SCORES]
            )
    except (KeyError, ValueError, ValidationError, zipfile.BadZipFile):
        return None
