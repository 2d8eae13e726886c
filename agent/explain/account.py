"""An explanation put together, for an alarm, its evidence and `auscult score --explain`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.load import Bundle
from agent.explain.nearest import nearest_healthy
from agent.explain.spectrum import HealthySpectrum
from agent.explain.unusual import NAMED_FROM, Finding, UnusualMap, unusual_bands, unusual_map
from agent.frames import Explanation, NearHealthy, Samples


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Why a window was judged as it was.

    Attributes:
        explanation: In words and few numbers.
        map: When and where it is unusual; None of a bundle without a healthy spectrum.
        spectrum: That spectrum.
    """

    explanation: Explanation
    map: UnusualMap | None = None
    spectrum: HealthySpectrum | None = None


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
    if spectrum is not None:
        findings = unusual_bands(samples, spectrum)
    # A band that does not stand out is told of in words, not listed as unusual.
    named = tuple(found for found in findings if abs(found.deviations) >= NAMED_FROM)
    explanation = Explanation(
        text="; ".join(part for part in (_bands(findings, named), _near(nearest)) if part),
        bands=tuple(found.band for found in named),
        nearest=nearest,
    )
    found_map = None if spectrum is None else unusual_map(samples, spectrum)
    return Account(explanation, found_map, spectrum)


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
