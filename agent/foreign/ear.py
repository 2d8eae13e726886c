"""What else is heard in a window that exceeds: by the models a user names, else by the spectrum."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from agent.bundle.exemplars import exemplar_sounds, read_exemplars
from agent.config.foreign import ForeignConfig
from agent.core.errors import BundleError
from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import Matrix, Samples
from agent.deploy.load import Bundle
from agent.foreign.spectrum import SpectrumEar
from agent.foreign.speech import SpeechModel
from agent.foreign.tagger import Tagger

log = logging.getLogger(__name__)

# What the healthy machine itself sounds like to a model is believed only from so much above that.
_ABOVE = 0.2
_KINDS = frozenset(kind.value for kind in ForeignKind)
# More surely than that no model needs to be.
_SUREST = 0.95


@lru_cache(maxsize=4)
def _tagger(path: Path) -> Tagger:
    found = Tagger(path)
    found.start()
    return found


@lru_cache(maxsize=4)
def speech_model(path: Path) -> SpeechModel:
    """The detector of a file, opened once for all machines.

    Raises:
        ConfigError: It is no such detector.
    """
    found = SpeechModel(path)
    found.start()
    return found


class ForeignEar:
    """Tells sounds from elsewhere for one machine. One thread at a time.

    Args:
        name: The machine, for the log.
        config: Which models.
    """

    def __init__(self, name: str, config: ForeignConfig) -> None:
        self._name = name
        self._config = config
        self._digest: str | None = None
        self._spectrum: SpectrumEar | None = None
        self._tagger: Tagger | None = None
        self._speech: SpeechModel | None = None
        self._limits: dict[ForeignKind, float] = {}

    def start(self) -> None:
        """Load the models.

        Raises:
            ConfigError: One of them cannot be run.
        """
        config = self._config
        self._tagger = None if config.tagger is None else _tagger(config.tagger)
        self._speech = None if config.speech is None else speech_model(config.speech)

    def hear(self, bundle: Bundle, samples: Samples) -> tuple[bool, tuple[ForeignSound, ...]]:
        """Whether what is strange comes and goes, and what else is heard.

        Args:
            bundle: What the window was judged with.
            samples: It, float32 `(n,)`, as it was judged.
        """
        self._learn(bundle)
        rate = bundle.manifest.encoder.sample_rate
        varies, found = False, {sound.kind: sound for sound in self._modelled(samples, rate)}
        if self._spectrum is not None:
            variation = self._spectrum.variation(samples)
            varies = variation.varies
            for sound in self._spectrum.hear(samples, variation):
                # What a model knows it is asked for; that something passes needs no more name.
                named = sound.kind is ForeignKind.PASSING and bool(found)
                if sound.kind not in self._limits and not named:
                    found.setdefault(sound.kind, sound)
        return varies, tuple(found.values())

    def _modelled(self, samples: Samples, rate: int) -> list[ForeignSound]:
        found = []
        sure = self._sureness(samples, rate)
        for kind, (values, by) in sure.items():
            limit = self._limits.get(kind, self._config.sure)
            share = float(np.mean(values >= limit))
            if share:
                found.append(ForeignSound(kind, share, by))
        return found

    def _sureness(self, samples: Samples, rate: int) -> dict[ForeignKind, tuple[Matrix, str]]:
        """How sure the models are, over the window."""
        found = {}
        if self._tagger is not None:
            for name, values in self._tagger.hear(samples, rate).items():
                if name in _KINDS:
                    found[ForeignKind(name)] = (values, "tagger")
        if self._speech is not None:
            values = self._speech.hear(samples, rate)
            before = found.get(ForeignKind.SPEECH)
            if before is None or values.max() >= before[0].max():
                found[ForeignKind.SPEECH] = (values, "speech model")
        return found

    def _learn(self, bundle: Bundle) -> None:
        """What the healthy machine itself sounds like; once a bundle, when it is first needed."""
        if self._digest == bundle.manifest.digest:
            return
        self._digest = bundle.manifest.digest
        windows = _healthy_windows(bundle)
        self._spectrum = None if bundle.spectrum is None else SpectrumEar(bundle.spectrum, windows)
        rate = bundle.manifest.encoder.sample_rate
        own: dict[ForeignKind, float] = {}
        for window in windows:
            for kind, (values, _) in self._sureness(window, rate).items():
                own[kind] = max(own.get(kind, 0.0), float(values.max()))
        self._limits = {
            kind: max(self._config.sure, min(value + _ABOVE, _SUREST))
            for kind, value in own.items()
        }
        deaf = [kind.value for kind, value in own.items() if value >= _SUREST]
        if deaf:
            log.info("%s: sounds itself like %s to the tagger", self._name, ", ".join(deaf))


def _healthy_windows(bundle: Bundle) -> list[Samples]:
    """Those that the bundle carries as sound."""
    exemplars = read_exemplars(bundle.path, bundle.manifest)
    if exemplars is None or not exemplars.exemplars:
        return []
    try:
        return exemplar_sounds(bundle.path, exemplars.exemplars, bundle.manifest)[0]
    except BundleError as fault:
        log.warning("what passes is told without healthy sound: %s", fault)
        return []
