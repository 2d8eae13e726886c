"""The rolling-median chart: a plain monitor beside the mixture, and a second pair of ears.

The median of the last windows, feature by feature, is compared with the healthy centre: root mean
square over features of the difference in healthy scales. A median over a block leaves hardly any of
the scatter of single windows, so that a small lasting change of many features stands out, also
where the mixture's few dimensions do not reach.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from agent.core.schema import Strict
from agent.drift.mixture import Array


class ChartRecord(Strict):
    """What the rolling-median chart needs beside the reducer's centre and scales."""

    windows: Annotated[int, Field(ge=2, description="Windows that the median is taken over")]
    limit: Annotated[
        float,
        Field(gt=0, description="Largest healthy root mean square of the median, feature scales"),
    ]


class MedianChart:
    """Follows one machine; what it heard is kept in memory alone and is soon heard again.

    Args:
        record: Length and limit.
        centre: Healthy centre of each feature, `(D,)`.
        scale: Healthy scale of each, `(D,)`.
        accepted: Further centres that count as normal, in scales from `centre`, each `(D,)`.
        rows: The last windows in scales from `centre`, where they were kept, each `(D,)`.
    """

    def __init__(
        self,
        record: ChartRecord,
        centre: Array,
        scale: Array,
        accepted: tuple[Array, ...] = (),
        rows: tuple[Array, ...] = (),
    ) -> None:
        self._record = record
        self._centre, self._scale = centre, scale
        self._accepted = list(accepted)
        self._rows: list[Array] = list(rows)

    @property
    def accepted(self) -> tuple[Array, ...]:
        """Centres that an operator confirmed, in scales from the baseline's."""
        return tuple(self._accepted)

    @property
    def rows(self) -> tuple[Array, ...]:
        """The last windows, in scales from the baseline's centre."""
        return tuple(self._rows)

    def add(self, features: Array) -> None:
        """Take a window's features `(D,)`, finite."""
        self._rows.append((features - self._centre) / self._scale)
        del self._rows[: -self._record.windows]

    def ratio(self) -> float | None:
        """Distance to the nearest normal centre over the limit; None until enough was heard."""
        if len(self._rows) < self._record.windows:
            return None
        here = np.median(np.stack(self._rows), axis=0)
        centres = [np.zeros_like(here), *self._accepted]
        return min(root_mean_square(here - centre) for centre in centres) / self._record.limit

    def accept(self) -> None:
        """Count the present median as normal, if anything was heard."""
        if self._rows:
            self._accepted.append(np.median(np.stack(self._rows), axis=0))

    def follow(self, blocks: int) -> None:
        """Move the newest accepted centre to the mean of so many blocks, this one the last."""
        if self._accepted and len(self._rows) == self._record.windows:
            newest = self._accepted[-1]
            here = np.median(np.stack(self._rows), axis=0)
            self._accepted[-1] = newest + (here - newest) / blocks


def root_mean_square(standard: Array) -> float:
    """Root mean square over the last axis of one vector of features, `(D,)`."""
    return float(np.sqrt((standard**2).mean()))
