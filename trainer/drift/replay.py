"""Runs the drift monitor and the charts over a recorded sequence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.core.text import plural
from agent.drift.baseline import DriftError
from agent.drift.monitor import DriftMonitor, Reading
from agent.drift_fit.fit import fit_baseline
from agent.drift_fit.settings import DriftSettings
from trainer.drift.charts import Trace, calibrate_charts, decide, run_charts
from trainer.drift.sequence import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What came of a sequence.

    Attributes:
        count: Steps of the sequence, n.
        baseline_count: Leading steps that counted as normal.
        unjudged: Steps that could not be judged.
        monitor: The monitor as it stands at the end.
        readings: Its readings.
        accepted: Steps at which the operator confirmed a change.
        charts: The monitors by name: the verdict, DtMM alone, then the charts.
        tolerant: Charts with DtMM's own allowance for healthy change.
    """

    count: int
    baseline_count: int
    unjudged: tuple[int, ...]
    monitor: DriftMonitor
    readings: tuple[Reading, ...]
    accepted: tuple[int, ...]
    charts: dict[str, Trace]
    tolerant: dict[str, Trace]


def replay(
    sequence: Sequence,
    *,
    baseline: float,
    settings: DriftSettings,
    accept: Collection[int] = (),
    operator: str = "",
) -> Replay:
    """Fit the beginning, watch the rest.

    Args:
        sequence: The features.
        baseline: Leading share of the steps that is normal, within (0, 1).
        settings: The fit's choices.
        accept: Steps at which the operator confirms the standing change as healthy.
        operator: Who that is.

    Raises:
        DriftError: The baseline is too short, nothing is left to watch, or there is nothing to
            accept at a step.
    """
    features = sequence.features
    count = len(features)
    first = int(baseline * count)
    fit = fit_baseline(
        features[:first],
        names=sequence.names,
        unit=sequence.unit,
        source=sequence.source,
        tolerance=sequence.tolerance,
        settings=replace(settings, settling=True),
    )
    monitor = DriftMonitor(fit.baseline)
    judged = np.flatnonzero(np.isfinite(features).all(axis=1))
    watched = judged[judged >= first]
    if len(watched) < fit.baseline.record.block:
        raise DriftError(
            f"{plural(len(watched), 'step')} left to watch after the baseline, "
            f"a block has {fit.baseline.record.block}",
            remedy="Take a smaller --baseline or a longer sequence.",
        )
    readings, accepted = observe_all(
        monitor, sequence, first=first, accept=accept, operator=operator
    )
    textbook, tolerant = run_charts(
        calibrate_charts(fit, settings.seed), features[watched], watched
    )
    return Replay(
        count=count,
        baseline_count=first,
        unjudged=tuple(sorted(set(range(count)) - {int(index) for index in judged})),
        monitor=monitor,
        readings=readings,
        accepted=accepted,
        charts={"verdict": trace(readings), "dtmm": alone(readings, monitor), **textbook},
        tolerant=tolerant,
    )


def observe_all(
    monitor: DriftMonitor,
    sequence: Sequence,
    *,
    first: int,
    accept: Collection[int] = (),
    operator: str = "",
) -> tuple[tuple[Reading, ...], tuple[int, ...]]:
    """Feed the steps from `first` on; readings are numbered by step.

    Raises:
        DriftError: There is no warning to accept at a step of `accept`.
    """
    readings, accepted = [], []
    for index in range(first, len(sequence.features)):
        reading = monitor.observe(sequence.features[index])
        if reading is not None:
            readings.append(renumbered(reading, index))
        if index in accept:
            monitor.accept(operator, f"at step {index} of a recorded sequence")
            accepted.append(index)
    return tuple(readings), tuple(accepted)


def renumbered(reading: Reading, index: int) -> Reading:
    """A reading at its step of the sequence instead of its window of the stream."""
    return replace(reading, window=index)


def trace(readings: tuple[Reading, ...]) -> Trace:
    """The monitor's own decisions in the form of a chart."""
    return Trace(
        windows=np.array([reading.window for reading in readings], dtype=np.int64),
        ratio=np.array([reading.ratio for reading in readings]),
        warnings=[reading.window for reading in readings if reading.raised],
        active=np.array([reading.active for reading in readings], dtype=bool),
    )


def alone(readings: tuple[Reading, ...], monitor: DriftMonitor) -> Trace:
    """What DtMM would have said without the rolling median."""
    return decide(
        np.array([reading.window for reading in readings], dtype=np.int64),
        np.array([reading.distance / reading.threshold for reading in readings]),
        monitor.baseline.record.persistence,
    )


def summary(
    sequence: Sequence, monitor: DriftMonitor, readings: tuple[Reading, ...]
) -> dict[str, Any]:
    """The monitor's part of the JSON: threshold and its origin, distances, warnings in words."""
    record = monitor.baseline.record
    return {
        "features": sequence.source,
        "threshold": {
            "value": record.threshold,
            "rule": f"mean + {record.sigmas:g} sigma over {record.normal_mixtures} normal mixtures",
            "normal_mean": record.normal_mean,
            "normal_sd": record.normal_sd,
            "while_settling": record.settling_threshold,
            "settling_windows": record.settling_windows,
        },
        "baseline": {
            "run_in": record.run_in,
            "model_windows": record.model_windows,
            "threshold_windows": record.threshold_windows,
            "components": len(record.mixture.logits),
            "dimensions": len(record.mixture.means[0]),
            "degrees_of_freedom": record.mixture.dof,
            "block": record.block,
            "hop": record.hop,
            "persistence": list(record.persistence),
            "wander_per_block": record.wander_per_block,
            "horizon_blocks": record.horizon_blocks,
        },
        "distances": [[reading.window, reading.distance] for reading in readings],
        "details": [
            {
                "window": reading.window,
                "source": sequence.steps[reading.window].source,
                "start": sequence.steps[reading.window].start,
                "distance": reading.distance,
                "nearest_state": reading.reference,
                "text": _words(reading),
                "components": [
                    {
                        "component": move.component,
                        "weight_before": move.weight_before,
                        "weight_after": move.weight_after,
                        "shift_scales": move.shift,
                        "spread_factor": move.spread,
                        "share": move.share,
                    }
                    for move in reading.movement.components
                ],
                "moved_features": [
                    {"name": move.name, "change": move.change, "unit": move.unit}
                    for move in reading.movement.features
                ],
            }
            for reading in readings
            if reading.raised and reading.movement is not None
        ],
    }


def _words(reading: Reading) -> str:
    """What a warning says: which of the two spoke, and what moved."""
    assert reading.movement is not None
    text = reading.movement.sentence()
    if reading.chart is None or reading.chart <= 1:
        return text
    return f"rolling median at {reading.chart:.2g} of its limit; {text}"


def warnings_json(traces: dict[str, Trace]) -> dict[str, dict[str, Any]]:
    """`{name: {"first_warning", "warnings"}}`."""
    return {
        name: {
            "first_warning": made.warnings[0] if made.warnings else None,
            "warnings": list(made.warnings),
        }
        for name, made in traces.items()
    }
