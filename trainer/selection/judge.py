"""How well an encoder and a scorer tell made-up faults from one machine's healthy sound.

The figure is the challenge's own (harmonic mean of AUC source, AUC target and pAUC), with healthy
windows as normals and changed ones as anomalies, each scored as if its recording had never been
heard. A scorer that finds every target-domain window strange pays for it in AUC target. The faults
of each domain weigh the same, as in a test set, few as the target domain's recordings may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.calibrate.check import displacement, trusted
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.scorer_density import ValueConfig
from agent.core.errors import AudioError
from agent.core.progress import stage
from agent.core.records import Matrix
from agent.recordings.model import HEALTHY, SOURCE, TARGET, Machine
from agent.recordings.windows import healthy_windows
from agent.score.build import healthy_scores
from agent.score.fitter import Fitter
from agent.score.normalize import group_ids
from agent.score.scorer import Floats, HealthySet, IntVector, Vector
from trainer.encoders.base import Encoder
from trainer.fit.embed import embed_windows
from trainer.metrics.auc import MAX_FPR
from trainer.metrics.bootstrap import harmonic_means, weighted_auc
from trainer.selection.pseudo import STRENGTHS, change_windows

# The kind of fault that is made from embeddings, not from sound: each moved away by so many times
# its distance to the nearest of another recording (see `agent.calibrate.check`).
DISPLACED = "displaced"
_REACHES = (1.0, 1.5, 2.0)
RESAMPLES = 200
_BATCH = 8
# Windows of other machines that are mixed in.
_OTHERS = 32
# Bounds the memory of embeddings that are scored at once.
_BYTES = 2**28

Changed: TypeAlias = Mapping[str, Sequence[Matrix]]


@dataclass(frozen=True, slots=True)
class Listening:
    """What every encoder listens to.

    Attributes:
        machine: The machine.
        others: The data set's other machines.
        hop_seconds: Step between windows of a recording.
        windows: Healthy windows of each domain that faults are made from.
        channel: Channel of multi-channel recordings; None averages.
        seed: Of everything drawn.
    """

    machine: Machine
    others: Sequence[Machine]
    hop_seconds: float
    windows: int
    channel: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One encoder's embeddings.

    Attributes:
        healthy: Of the healthy windows.
        chosen: Which of them faults were made from, `(k,)`.
        changed: By kind, for each strength, float32 `(k, dim)`.
    """

    healthy: HealthySet
    chosen: IntVector
    changed: Changed


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures of one encoder and scorer, fractions; NaN where nothing could be compared.

    Attributes:
        figure: Mean over kinds of fault.
        kinds: Of each kind, the mean over its strengths.
        auc_source: Mean AUC of source normals; None without any.
        auc_target: Likewise.
        resampled: `figure` in each resample of the recordings, `(RESAMPLES,)`; the same recordings
            for every encoder and scorer.
    """

    figure: float
    kinds: Mapping[str, float]
    auc_source: float | None
    auc_target: float | None
    resampled: Floats


def listen(
    encoder: Encoder, to: Listening, progress: Progress | None = None, *, device: str = "cpu"
) -> Heard:
    """Embed healthy and changed windows.

    Args:
        encoder: In evaluation mode; it is back on the processor afterwards.
        to: What it listens to.
        progress: Where to show progress.
        device: Where torch computes.

    Raises:
        AudioError: No healthy window could be judged.
    """
    rate, samples = encoder.sample_rate, encoder.window_samples
    hop = round(to.hop_seconds * rate)
    windows = healthy_windows(
        to.machine,
        rate=rate,
        window_samples=samples,
        hop_samples=hop,
        roles=HEALTHY,
        channel=to.channel,
        progress=progress,
    )
    chosen = _spread([row.domain for row in windows.rows], to.windows)
    base = windows.waveforms[chosen]
    others = _other_windows(to, encoder)
    kinds = [kind for kind in STRENGTHS if kind != "mixture" or others is not None]
    levels = len(next(iter(STRENGTHS.values())))
    total = len(windows.rows) + len(chosen) * len(kinds) * levels
    advance = stage(progress, f"hearing {encoder.kind}", total)

    encoder.to(device)

    def embedded(waveforms: Matrix) -> Matrix:
        return embed_windows(encoder, waveforms, advance, device=device, batch=_BATCH)

    healthy = HealthySet(embedded(windows.waveforms), windows.rows)
    changed = {
        kind: [
            embedded(change_windows(base, kind, level, rate, others=others, seed=to.seed))
            for level in range(levels)
        ]
        for kind in kinds
    }
    encoder.to("cpu")
    return Heard(healthy, chosen, changed)


def judge(
    heard: Heard, config: ScorerConfig, fitter: Fitter, *, seed: int, displacing: bool = True
) -> Judged:
    """Judge a scorer over one encoder's embeddings.

    Args:
        heard: From `listen`.
        config: The scorer; its normalisation is dropped where export would drop it.
        fitter: Fits what takes a workstation.
        seed: Of displacements and resamples; the same for every candidate.
        displacing: Whether displaced embeddings are a kind of fault as well.
    """
    healthy = heard.healthy
    ids = group_ids(healthy.groups)
    if len(np.unique(ids)) < 2:
        return Judged(float("nan"), {}, None, None, np.full(RESAMPLES, np.nan))
    used, _ = trusted(healthy, config, fitter)
    everyone = np.arange(len(healthy))
    faults: dict[str, list[tuple[IntVector, Vector]]] = {}
    asked: list[tuple[str, IntVector, Matrix]] = [
        (kind, heard.chosen, vectors) for kind, sets in heard.changed.items() for vectors in sets
    ]
    if displacing:
        rng = np.random.default_rng(seed)
        asked += [
            (DISPLACED, everyone, healthy.vectors + reach * displacement(healthy, used, rng))
            for reach in _REACHES
        ]
    own: Vector = np.empty(0, np.float32)
    for part in _parts(asked, healthy.vectors.nbytes):
        queries = []
        for _, places, vectors in part:
            query = healthy.vectors.copy()
            query[places] = vectors
            queries.append(query)
        own, *scores = healthy_scores(healthy, used, fitter, queries=[healthy.vectors, *queries])
        for (kind, places, _), found in zip(part, scores, strict=True):
            faults.setdefault(kind, []).append((places, found[places]))
    return _figures(healthy, own, faults, seed)


def displaceable(config: ScorerConfig) -> bool:
    """Whether a displaced embedding means displaced sound: not where a column is the score."""
    parts = [part.scorer for part in config.parts] if isinstance(config, FusionConfig) else [config]
    return not any(isinstance(part, ValueConfig) for part in parts)


def _figures(
    healthy: HealthySet,
    own: Vector,
    faults: Mapping[str, Sequence[tuple[IntVector, Vector]]],
    seed: int,
) -> Judged:
    counts = _counts(healthy, seed)
    domains = np.asarray(healthy.domains)
    kinds: dict[str, Floats] = {}
    areas: dict[str, list[Floats]] = {SOURCE: [], TARGET: []}
    for kind, sets in faults.items():
        figures = []
        for places, scores in sets:
            values = np.concatenate([own, scores]).astype(np.float64)
            shares = _shares(domains[places])
            weights = np.concatenate([counts, counts[:, places] * shares], axis=1)
            finite = np.isfinite(values)
            normal = np.arange(len(values)) < len(own)
            mine = {
                name: _area(
                    weights,
                    values,
                    finite,
                    normal,
                    np.append(domains == name, np.zeros(len(scores), bool)),
                )
                for name in (SOURCE, TARGET)
            }
            partial = _area(weights, values, finite, normal, normal, MAX_FPR)
            if mine[SOURCE] is None and mine[TARGET] is None:
                # Without known domains both take all normals, as the challenge's figures do.
                every = _area(weights, values, finite, normal, normal)
                mine = {SOURCE: every, TARGET: every}
            known = [a for a in (*mine.values(), partial) if a is not None]
            figures.append(harmonic_means(known))
            for name, area in mine.items():
                if area is not None:
                    areas[name].append(area[0])
        kinds[kind] = np.mean(figures, axis=0)
    total = np.mean(list(kinds.values()), axis=0)
    means = {name: float(np.mean(own)) if own else None for name, own in areas.items()}
    return Judged(
        figure=float(total[0]),
        kinds={kind: float(found[0]) for kind, found in kinds.items()},
        auc_source=means[SOURCE],
        auc_target=means[TARGET],
        resampled=total[1:],
    )


def _area(
    weights: Floats,
    values: Floats,
    finite: npt.NDArray[np.bool_],
    normal: npt.NDArray[np.bool_],
    among: npt.NDArray[np.bool_],
    most: float = 1.0,
) -> Floats | None:
    """Area of some normals against all faults; None where there are no such normals."""
    if not (among & finite).any():
        return None
    return weighted_auc(
        weights[:, finite],
        ~normal[finite],
        (normal & among)[finite],
        values[finite],
        max_fpr=most,
    )


def _counts(healthy: HealthySet, seed: int) -> Floats:
    """All windows once, then how often each is drawn with its recording, `(1 + RESAMPLES, n)`."""
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + RESAMPLES, len(healthy)))
    domains = np.asarray(healthy.domains)
    groups = np.asarray(healthy.groups)
    for domain in np.unique(domains):
        names = np.unique(groups[domains == domain])
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
        for place, name in enumerate(names):
            counts[1:, (domains == domain) & (groups == name)] = drawn[:, place, None]
    return counts


def _shares(domains: npt.NDArray[np.str_]) -> Floats:
    """Weights that give the faults of each domain the same total, as test sets have it."""
    _, where, count = np.unique(domains, return_inverse=True, return_counts=True)
    shares: Floats = len(domains) / (len(count) * count[where.reshape(-1)])
    return shares


def _parts(
    asked: Sequence[tuple[str, IntVector, Matrix]], size: int
) -> Iterator[Sequence[tuple[str, IntVector, Matrix]]]:
    step = max(1, _BYTES // max(size, 1))
    for start in range(0, len(asked), step):
        yield asked[start : start + step]


def _spread(domains: Sequence[str], most: int) -> IntVector:
    """At most so many windows of each domain, evenly spread."""
    where = np.asarray(domains)
    found = []
    for domain in np.unique(where):
        own = np.flatnonzero(where == domain)
        found.append(own[np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).astype(int))])
    chosen: IntVector = np.sort(np.concatenate(found)).astype(np.int64)
    return chosen


def _other_windows(to: Listening, encoder: Encoder) -> Matrix | None:
    """Some windows of the other machines; None when there are none."""
    found = []
    for other in to.others:
        recordings = other.of("normal")
        count = max(1, _OTHERS // len(to.others))
        places = np.unique(np.linspace(0, len(recordings) - 1, count).astype(int))
        some = replace(other, recordings=tuple(recordings[i] for i in places if recordings))
        try:
            windows = healthy_windows(
                some,
                rate=encoder.sample_rate,
                window_samples=encoder.window_samples,
                hop_samples=encoder.window_samples,
                channel=to.channel,
            )
        except AudioError:
            continue
        found.append(windows.waveforms[:count])
    return np.concatenate(found) if found else None
