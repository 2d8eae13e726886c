"""Adds counted scores to what is stored of their stretches, and forgets what is no more needed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from plant.store.database import Database
from plant.store.many import Many, forget
from plant.store.tables import MACHINES, OPEN_SCORES, SCORES
from plant.watch.machines import KEYS, Machines
from plant.watch.scores import Scores, Stretch, median, read_bins, written


class ScoresWriter:
    """Writes for one instance. One caller at a time.

    Args:
        database: Migrated.
        machines: Their rows.
    """

    def __init__(self, database: Database, machines: Machines) -> None:
        self._database = database
        self._machines = machines
        self._many = Many(database)

    def write(self, scores: Scores) -> None:
        """Add counted windows to what is stored; on the disk when it returns.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Nothing of it is written.
        """
        if not scores.stretches:
            return
        self._machines.introduce(set(scores.latest), {device for device, _ in scores.latest})
        found: dict[tuple[int, int, datetime], Stretch] = {}
        for (device, machine, step, start), stretch in scores.stretches.items():
            found[self._machines.number(device, machine), step, start] = stretch
        keys = sorted(found)
        with self._database.writing() as connection:
            self._latest(connection, scores)
            for at in range(0, len(keys), KEYS):
                self._stretches(connection, {key: found[key] for key in keys[at : at + KEYS]})

    def _latest(self, connection: sa.Connection, scores: Scores) -> None:
        rows = [
            {"id": self._machines.number(*place), "heard": latest.time, "latest": latest.score}
            for place, latest in scores.latest.items()
        ]
        heard = MACHINES.c.heard
        # Of whose stretches follow: nobody else adds to those of the same machines meanwhile.
        self._many.lock(connection, MACHINES, rows)
        self._many.change(
            connection, MACHINES, rows, lambda new: sa.or_(heard.is_(None), heard <= new.heard)
        )

    def _stretches(
        self, connection: sa.Connection, found: dict[tuple[int, int, datetime], Stretch]
    ) -> None:
        """Add stretches to those stored. Rows that another instance adds to are waited for."""
        self._many.add(connection, OPEN_SCORES, [_key(key, bins="{}") for key in found])
        stored = self._stored(connection, found)
        rows, bins = [], []
        for key, stretch in found.items():
            whole = stored.get(key, Stretch())
            whole.merge(stretch)
            middle = median(whole.bins)
            rows.append(
                _key(
                    key, windows=whole.windows, judged=whole.judged, exceeded=whole.exceeded,
                    median=middle, maximum=whole.maximum, threshold=whole.threshold,
                )
            )  # fmt: skip
            bins.append(_key(key, bins=written(whole.bins)))
        self._many.put(connection, SCORES, rows)
        self._many.put(connection, OPEN_SCORES, bins)

    def _stored(
        self, connection: sa.Connection, found: dict[tuple[int, int, datetime], Stretch]
    ) -> dict[tuple[int, int, datetime], Stretch]:
        """What is stored of stretches, locked until the transaction ends."""
        starts, numbers = {key[2] for key in found}, {key[0] for key in found}
        query = (
            sa.select(OPEN_SCORES, SCORES)
            .select_from(
                OPEN_SCORES.outerjoin(
                    SCORES,
                    sa.and_(
                        OPEN_SCORES.c.machine_id == SCORES.c.machine_id,
                        OPEN_SCORES.c.step == SCORES.c.step,
                        OPEN_SCORES.c.start == SCORES.c.start,
                    ),
                )
            )
            .where(OPEN_SCORES.c.start.in_(starts), OPEN_SCORES.c.machine_id.in_(numbers))
            .order_by(OPEN_SCORES.c.machine_id, OPEN_SCORES.c.step, OPEN_SCORES.c.start)
        )
        if self._database.postgresql:
            query = query.with_for_update(of=OPEN_SCORES)
        return {
            (row.machine_id, row.step, row.start): Stretch(
                row.windows, row.judged, row.exceeded, row.maximum, row.threshold,
                read_bins(row.bins),
            )
            for row in connection.execute(query)
            if row.windows is not None
        }  # fmt: skip


def forget_open(database: Database, before: timedelta = timedelta(hours=2)) -> None:
    """Forget the bins of stretches that have long ended; their medians stay."""
    old = OPEN_SCORES.c.start < datetime.now(timezone.utc) - before - timedelta(hours=1)
    with database.writing() as connection:
        forget(database, connection, OPEN_SCORES, old)


def _key(key: tuple[int, int, datetime], **values: Any) -> dict[str, Any]:
    return {"machine_id": key[0], "step": key[1], "start": key[2], **values}
