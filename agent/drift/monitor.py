"""The streaming drift monitor: windows in, now and then a reading, seldom a warning.

Memory is constant: the last block of features, a few flags, at most four mixtures. A window
costs O(components): each evaluation evolves a mixture from one block, every `hop` windows.

A normal state is only ever added by `accept`, which an operator calls. Afterwards the new state is
refined by the next blocks for as long as they stay within the threshold of what was confirmed; the
moment they do not, adaptation ends and the warning rule judges as ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.drift.baseline import Baseline, DriftError, MixtureRecord
from agent.drift.chart import MedianChart
from agent.drift.divergence import Divergence, matched_bound
from agent.drift.evolve import evolve
from agent.drift.mixture import Array, Mixture
from agent.drift.movement import Movement, describe
from agent.drift.state import MAX_REFERENCES, Following, MonitorState, Reference

FOLLOW_BLOCKS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One evaluation.

    Attributes:
        window: Count of the newest window, from 0.
        distance: KL bound to the nearest normal state, nats.
        threshold: The distance above which a block counts as drifted, nats.
        exceeded: Whether this one did, or the rolling median lies beyond its limit; both, while
            running-in may still go on.
        active: Whether a warning stands.
        raised: True on the evaluation that raised it.
        cleared: True on the evaluation that ended it.
        reference: Which normal state was nearest; 0 is the baseline.
        movement: Which components moved and by how much; None unless exceeded.
        chart: The rolling median's distance over its limit; None where none is followed, or not
            enough was heard since the start.
        ratio: How far what decides is over its limit; above 1 exceeds.
    """

    window: int
    distance: float
    threshold: float
    exceeded: bool
    active: bool
    raised: bool
    cleared: bool
    reference: int
    movement: Movement | None
    chart: float | None = None
    ratio: float = 0.0


class DriftMonitor:
    """Follows one machine.

    Args:
        baseline: The healthy machine.
        state: Where an earlier run stopped; None begins anew.

    Raises:
        DriftError: The state belongs to another baseline or does not fit it.
    """

    def __init__(self, baseline: Baseline, state: MonitorState | None = None) -> None:
        self._baseline = baseline
        record = baseline.record
        if state is None:
            state = MonitorState(
                baseline=baseline.digest, references=[Reference(mixture=record.mixture)]
            )
        _check(state, baseline)
        self._state = state.model_copy(
            update={"buffer": [], "rows": [], "references": state.references[:]}
        )
        self._buffer: list[Array] = [np.asarray(row) for row in state.buffer]
        self._references = [reference.mixture.mixture() for reference in state.references]
        self._chart: MedianChart | None = None
        if record.chart is not None:
            reducer = baseline.reducer
            centres = tuple(np.asarray(row) for row in state.centres)
            rows = tuple(np.asarray(row) for row in state.rows)
            self._chart = MedianChart(record.chart, reducer.centre, reducer.scale, centres, rows)

    @property
    def baseline(self) -> Baseline:
        """What it compares with."""
        return self._baseline

    def state(self, *, whole: bool = False) -> MonitorState:
        """What it remembers; a monitor made from it goes on as this one would.

        Args:
            whole: Exactly so: with the windows of the rolling median, which are most of it. Without
                them it is silent until a block is heard.
        """
        changes: dict[str, object] = {"buffer": [row.tolist() for row in self._buffer]}
        if whole and self._chart is not None:
            changes["rows"] = [row.tolist() for row in self._chart.rows]
        return self._state.model_copy(update=changes)

    def observe(self, features: Array) -> Reading | None:
        """Take one window.

        Args:
            features: Shape `(D,)`. A value that is not finite leaves the window unjudged.

        Returns:
            A reading once in `hop` windows, when a whole block has been seen; else None.

        Raises:
            DriftError: The number of features is not the baseline's.
        """
        record = self._baseline.record
        if features.shape != (len(record.features),):
            raise DriftError(
                f"{features.shape} features came, the baseline has {len(record.features)}",
                remedy="Use the bundle or band settings that the baseline was fitted with.",
            )
        state = self._state
        windows = state.windows + 1
        if not np.isfinite(features).all():
            self._update(windows=windows, unjudged=state.unjudged + 1)
            return None
        reduced = self._baseline.reducer.reduce(features[None, :].astype(np.float64))[0]
        if self._chart is not None:
            self._chart.add(features.astype(np.float64))
        self._buffer.append(reduced)
        del self._buffer[: -record.block]
        since = state.since_evaluation + 1
        follow = state.following
        if follow is not None and follow.wait > 1:
            follow = follow.model_copy(update={"wait": follow.wait - 1})
        due = len(self._buffer) == record.block and since >= record.hop
        self._update(windows=windows, since_evaluation=0 if due else since, following=follow)
        return self._evaluate() if due else None

    @property
    def states(self) -> int:
        """How many normal states there are: the baseline, and what operators accepted."""
        return len(self._references)

    def accept(self, operator: str, note: str = "") -> None:
        """Confirm that the present change is healthy, and follow it.

        Args:
            operator: Who confirms; kept with the state.
            note: Why (load changed, bearing replaced...).

        Raises:
            DriftError: No warning stands, no operator is named, or no further state can be held.
        """
        state = self._state
        if not state.active:
            raise DriftError(
                "there is no standing warning to accept",
                remedy="A change is accepted while its warning stands; nothing was learned.",
            )
        if not operator.strip():
            raise DriftError("who accepts the change is not said", remedy="Name the operator.")
        if len(self._references) >= MAX_REFERENCES:
            raise DriftError(
                f"{MAX_REFERENCES} normal states are held already",
                remedy="Fit a new baseline to the machine as it now runs.",
            )
        _, _, present = self._nearest()
        present = self._as_wide(present)
        self._references.append(present)
        if self._chart is not None:
            self._chart.accept()
        confirmed = MixtureRecord.of(present)
        reference = Reference(
            mixture=confirmed,
            origin=confirmed,
            window=state.windows - 1,
            operator=operator.strip(),
            note=note,
        )
        self._update(
            references=[*state.references, reference],
            following=Following(blocks=1, left=FOLLOW_BLOCKS, wait=self._baseline.record.block),
            active=False,
            since=None,
            flags=[],
            centres=self._centres(),
        )

    def _centres(self) -> list[list[float]]:
        accepted = () if self._chart is None else self._chart.accepted
        return [centre.tolist() for centre in accepted]

    def _update(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _threshold(self) -> float:
        """T, or for a while after the baseline what running-in may yet reach."""
        record = self._baseline.record
        if self._young and record.settling_threshold is not None:
            return record.settling_threshold
        return record.threshold

    @property
    def _young(self) -> bool:
        """Whether running-in may still go on."""
        settling = self._baseline.record.settling_windows
        return settling is not None and self._state.windows <= settling

    def _nearest(self) -> tuple[int, Divergence, Mixture]:
        """The normal state nearest to the block, the distance, and the block's mixture from it."""
        points = np.stack(self._buffer)
        found: tuple[int, Divergence, Mixture] | None = None
        for index, reference in enumerate(self._references):
            evolved = evolve(reference, points, self._baseline.noise)
            distance = matched_bound(evolved, reference)
            if found is None or distance.value < found[1].value:
                found = index, distance, evolved
        assert found is not None
        return found

    def _as_wide(self, state: Mixture) -> Mixture:
        """A normal state no narrower than the baseline: what is tolerated of one is of the other.

        A block shows less of a state's variation than the baseline does of its own.
        """
        least = self._baseline.mixture.log_scales
        return Mixture(state.logits, state.means, np.maximum(state.log_scales, least), state.dof)

    def _evaluate(self) -> Reading:
        state, record = self._state, self._baseline.record
        index, distance, evolved = self._nearest()
        threshold = self._threshold()
        exceeded = distance.value > threshold
        self._follow(index, exceeded, evolved)
        chart = None if self._chart is None else self._chart.ratio()
        ratio = distance.value / threshold
        if self._chart is not None:
            beside = 0.0 if chart is None else chart
            # Of a machine that may still run in one witness is not enough.
            ratio = min(ratio, beside) if self._young else max(ratio, beside)
        exceeded = ratio > 1
        need, of = record.persistence
        flags = [*state.flags, int(exceeded)][-of:]
        raised = not state.active and sum(flags) >= need
        # After a restart the median knows nothing for a while; only what both say ends a warning.
        deaf = self._chart is not None and chart is None
        cleared = state.active and len(flags) == of and not any(flags) and not deaf
        active = (state.active or raised) and not cleared
        window = state.windows - 1
        self._update(
            flags=flags,
            active=active,
            since=window if raised else (state.since if active else None),
            raised=state.raised + raised,
        )
        movement = None
        if exceeded:
            movement = describe(self._baseline, self._references[index], evolved, distance)
        return Reading(
            window=window,
            distance=distance.value,
            threshold=threshold,
            exceeded=exceeded,
            active=active,
            raised=raised,
            cleared=cleared,
            reference=index,
            movement=movement,
            chart=chart,
            ratio=ratio,
        )

    def _follow(self, index: int, exceeded: bool, evolved: Mixture) -> None:
        """Refine the newest accepted state by a whole new block, within bounds."""
        follow = self._state.following
        if follow is None:
            return
        newest = len(self._references) - 1
        if exceeded:
            self._update(following=None)
            return
        if follow.wait > 1 or index != newest:
            return
        blocks = follow.blocks + 1
        old = self._references[newest]
        candidate = self._as_wide(
            Mixture(
                old.logits + (evolved.logits - old.logits) / blocks,
                old.means + (evolved.means - old.means) / blocks,
                old.log_scales + (evolved.log_scales - old.log_scales) / blocks,
                old.dof,
            )
        )
        reference = self._state.references[newest]
        assert reference.origin is not None
        moved = matched_bound(candidate, reference.origin.mixture()).value
        if moved > self._baseline.record.threshold:
            self._update(following=None)
            return
        self._references[newest] = candidate
        if self._chart is not None:
            self._chart.follow(blocks)
            self._update(centres=self._centres())
        renewed = reference.model_copy(update={"mixture": MixtureRecord.of(candidate)})
        left = follow.left - 1
        again = None
        if left:
            again = Following(blocks=blocks, left=left, wait=self._baseline.record.block)
        self._update(
            references=[*self._state.references[:-1], renewed],
            following=again,
        )


def _check(state: MonitorState, baseline: Baseline) -> None:
    """Refuse a state that is not this baseline's."""
    shape = baseline.mixture.means.shape
    fits = (
        state.baseline == baseline.digest
        and all(len(row) == len(baseline.record.features) for row in state.centres)
        and len(state.buffer) <= baseline.record.block
        and all(len(row) == shape[1] for row in state.buffer)
        and all(
            np.asarray(reference.mixture.means).shape == shape
            and reference.mixture.dof == baseline.mixture.dof
            for reference in state.references
        )
    )
    if not fits:
        raise DriftError(
            "the saved drift state belongs to another baseline",
            remedy="Remove the state to begin anew, or bring its baseline back.",
        )
