"""The table of pre-trained families: what builds one, recognises its files, binds its users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.zoo import beats, dasheng, eat, m2d, muq
from trainer.zoo.backbone import Architecture, Backbone, Translation

M2D_TERMS = (
    "M2D's code and weights come under NTT's evaluation agreement: no commercial use. Read the "
    "licence at https://github.com/nttcslab/m2d before you use them, and treat encoders trained "
    "from them, and their bundles, as bound by it."
)
MUQ_TERMS = (
    "MuQ's weights are CC-BY-NC 4.0: name the authors, no commercial use. "
    "Read https://creativecommons.org/licenses/by-nc/4.0/ before you use them, and treat encoders "
    "trained from them, and their bundles, as bound by it."
)


@dataclass(frozen=True, slots=True)
class Family:
    """One published encoder.

    Attributes:
        name: As presets call it.
        title: As its authors call it.
        sizes: Named sizes, smallest last (`tiny` is for tests only and is published by nobody).
        default: The size when a preset names none.
        resolve: Size name to architecture; raises KeyError.
        build: Architecture and window (samples, at the encoder's rate) to an untrained backbone.
        recognise: Whether a file's tensors are this family's.
        read: A file's architecture from its tensors and its configuration; raises KeyError.
        translate: Published names to ours.
        terms: Licence terms that must be shown before the weights are used; empty when free.
        aliases: Further size names that an architecture may have.
    """

    name: str
    title: str
    sizes: tuple[str, ...]
    default: str
    resolve: Callable[[str], Architecture]
    build: Callable[[Architecture, int], Backbone]
    recognise: Callable[[Mapping[str, Tensor]], bool]
    read: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Architecture]
    translate: Callable[[Mapping[str, Tensor]], Translation]
    terms: str = ""
    aliases: Callable[[Architecture], tuple[str, ...]] = lambda _arch: ()


_ALL = (
    Family(
        "beats",
        "BEATs",
        tuple(beats.SIZES),
        "base",
        beats.SIZES.__getitem__,
        beats.Beats,
        beats.recognise,
        beats.architecture,
        beats.from_published,
    ),
    Family(
        "eat",
        "EAT",
        tuple(eat.SIZES),
        "base",
        eat.SIZES.__getitem__,
        lambda arch, samples: eat.Eat(arch, eat.frames_for(samples)),
        eat.recognise,
        eat.architecture,
        eat.from_published,
    ),
    Family(
        "m2d",
        "M2D",
        ("80x608p16x16", "80x1001p16x16", "80x1001p16x16p32k", "tiny_80x608p16x16"),
        "80x608p16x16",
        m2d.size,
        lambda arch, _samples: m2d.M2d(arch),
        m2d.recognise,
        m2d.architecture,
        m2d.from_published,
        M2D_TERMS,
        m2d.names,
    ),
    Family(
        "dasheng",
        "Dasheng",
        tuple(dasheng.SIZES),
        "base",
        dasheng.SIZES.__getitem__,
        lambda arch, _samples: dasheng.Dasheng(arch),
        dasheng.recognise,
        dasheng.architecture,
        dasheng.from_published,
    ),
    Family(
        "muq",
        "MuQ",
        tuple(muq.SIZES),
        "large",
        muq.SIZES.__getitem__,
        lambda arch, _samples: muq.Muq(arch),
        muq.recognise,
        muq.architecture,
        muq.from_published,
        MUQ_TERMS,
    ),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
