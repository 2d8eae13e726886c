"""An explanation put together, for an alarm, its evidence and `auscult score --explain`."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.errors import AuscultError
from agent.core.reasons import Explanation, NearHealthy, UnusualRegion
from agent.core.records import Samples
from agent.deploy.load import Bundle
from agent.explain.nearest import nearest_healthy
from agent.explain.regions import unusual_regions, words
from agent.explain.spectrum import HealthySpectrum
from agent.explain.spoilt import cells_within, spoilt, without
from agent.explain.unusual import NAMED_FROM, Finding, UnusualMap, unusual_bands, unusual_map

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Why a window was judged as it was.

    Attributes:
        explanation: In words and few numbers.
        map: When and where it is unusual: to the encoder where it has patches, else by levels;
            None of a bundle with neither.
        spectrum: Levels of healthy sound, if the bundle has them.
        by_patches: Whether the map is the encoder's.
    """

    explanation: Explanation
    map: UnusualMap | None = None
    spectrum: HealthySpectrum | None = None
    by_patches: bool = False


def explain_window(bundle: Bundle, samples: Samples, vector: npt.NDArray[np.float32]) -> Account:
    """Explain a window.

    Args:
        bundle: What it was judged with.
        samples: The window, float32 `(window_samples,)`.
        vector: Its embedding, float32 `(dim,)`.
    """
    manifest, spectrum = bundle.manifest, bundle.spectrum
    nearest = nearest_healthy(
        vector, bundle.bank, manifest.scorer, window_seconds=manifest.window_seconds
    )
    findings: tuple[Finding, ...] = ()
    says_nothing = spoilt(samples, manifest.encoder.sample_rate)
    by_levels = None if spectrum is None else unusual_map(samples, spectrum)
    if spectrum is not None and by_levels is not None:
        left_out = cells_within(says_nothing, len(by_levels.deviations), by_levels.cell_seconds)
        findings = unusual_bands(samples, spectrum, left_out)
    # A band that does not stand out is told of in words, not listed as unusual.
    named = tuple(found for found in findings if abs(found.deviations) >= NAMED_FROM)
    found_map = _patch_map(bundle, samples)
    by_patches = found_map is not None
    if found_map is None:
        found_map = by_levels
    if found_map is not None:
        found_map = without(found_map, says_nothing)
    regions = () if found_map is None else unusual_regions(found_map)
    told = (_bands(findings, named), _strangest(regions), _near(nearest))
    explanation = Explanation(
        text="; ".join(part for part in told if part),
        bands=tuple(found.band for found in named),
        nearest=nearest,
        regions=regions,
    )
    return Account(explanation, found_map, spectrum, by_patches)


def _patch_map(bundle: Bundle, samples: Samples) -> UnusualMap | None:
    """What the encoder finds unusual; None without patches, or when they cannot be had."""
    if bundle.patches is None:
        return None
    try:
        patches = bundle.encoder.patches(samples)
        if patches is None:
            return None
        return bundle.patches.map(patches, bundle.manifest.window_seconds)
    except (AuscultError, ValueError) as fault:
        log.warning("no patches to explain by: %s", fault)
        return None


def _strangest(regions: tuple[UnusualRegion, ...]) -> str:
    return f"strangest {words(regions[0])}" if regions else ""


def _bands(findings: tuple[Finding, ...], named: tuple[Finding, ...]) -> str:
    if named:
        return ", ".join(found.words() for found in named)
    if findings:
        return f"no band stands out from healthy sound (most: {findings[0].words()})"
    return ""


def _near(nearest: tuple[NearHealthy, ...]) -> str:
    if not nearest:
        return ""
    first = nearest[0]
    told = [] if first.domain == "unknown" else [first.domain]
    told += [f"{name} {value}" for name, value in first.attributes.items()]
    place = "" if first.start is None else f" at {first.start:g} s"
    about = f" ({', '.join(told)})" if told else ""
    return f"nearest healthy: {first.source}{place}{about}"
