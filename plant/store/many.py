"""Statements for many rows at once: PostgreSQL gets them as one value, SQLite one after another.

A statement for each row costs PostgreSQL's driver and server more than the row does; as JSON, all
rows are one parameter of one statement, which is planned once. SQLite has no way to and from a
server to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from plant.store.database import Database

Row: TypeAlias = dict[str, Any]
Condition: TypeAlias = sa.ColumnElement[bool]


class Many:
    """Writes many rows with one statement each. Safe for several threads.

    In each call all rows have the same keys. They are written, and locked, in the order of the
    table's key, so that several instances wait for each other and never in a circle.

    Args:
        database: Where to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def lock(self, connection: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> None:
        """Lock rows that are there until the transaction ends, in the order of the table's key.

        A transaction that changes rows of a table by several statements locks all of them first:
        each statement is in order, two of them are not. SQLite has one writer at a time.

        Args:
            connection: In a transaction that writes.
            table: Whose rows.
            rows: By the names of its key's columns; other names are passed over.
        """
        keys = list(table.primary_key)
        values = [{key.name: row[key.name] for key in keys} for row in rows]
        if not values or not self._database.postgresql:
            return
        given = _given({key.name: key.type for key in keys})
        same = sa.and_(*(key == given.c[key.name] for key in keys))
        query = sa.select(*keys).join_from(table, given, same).order_by(*keys)
        connection.execute(query.with_for_update(of=table), _as_json(values))

    def add(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Row], *columns: str
    ) -> Sequence[sa.Row[Any]]:
        """Insert rows, but those that are there.

        Args:
            connection: In a transaction that writes.
            table: Where to.
            rows: By the names of its columns.
            columns: What to return of those that were new.
        """
        values: Any = _in_order(table, rows)
        insert: Any
        if self._database.postgresql:
            insert, values = self._given_to(table, rows[0]), _as_json(values)
        else:
            insert = self._database.insert(table)
        insert = insert.on_conflict_do_nothing()
        if not columns:
            connection.execute(insert, values)
            return []
        return connection.execute(
            insert.returning(*(table.c[name] for name in columns)), values
        ).all()

    def put(
        self,
        connection: sa.Connection,
        table: sa.Table,
        rows: Sequence[Row],
        where: Callable[[Any], Condition] | None = None,
    ) -> None:
        """Insert rows; of those that are there, set what is not the key.

        Args:
            connection: In a transaction that writes.
            table: Where to.
            rows: By the names of its columns; each key once.
            where: From the row to be written, whether it may take the place of what is there.
        """
        keys = [column.name for column in table.primary_key]
        values: Any = _in_order(table, rows)
        if self._database.postgresql:
            insert, values = self._given_to(table, rows[0]), _as_json(values)
        else:
            insert = self._database.insert(table)
        new = insert.excluded
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=keys,
                set_={name: new[name] for name in rows[0] if name not in keys},
                where=None if where is None else where(new),
            ),
            values,
        )

    def change(
        self,
        connection: sa.Connection,
        table: sa.Table,
        rows: Sequence[Row],
        where: Callable[[Any], Condition] | None = None,
        values: Callable[[Any], Mapping[str, Any]] | None = None,
        types: Mapping[str, TypeEngine[Any]] | None = None,
    ) -> None:
        """Change rows that are there, and that the transaction has locked (`lock`).

        Args:
            connection: In a transaction that writes.
            table: Of one column's key.
            rows: By the names of its columns, the key among them, and of `types`; each key once.
            where: From a row given, whether what is there is to be changed.
            values: From a row given, what is set; None for the columns of its names.
            types: Of what is given and is no column.
        """
        (key,) = table.primary_key
        kinds = {
            **{name: table.c[name].type for name in rows[0] if name in table.c},
            **(types or {}),
        }
        ordered: Any = _in_order(table, rows)
        new: Any
        if self._database.postgresql:
            given, ordered = _given(kinds), _as_json(ordered)
            new = given.c
        else:
            new = SimpleNamespace(
                **{name: sa.bindparam(f"new_{name}", type_=kind) for name, kind in kinds.items()}
            )
            ordered = [{f"new_{name}": value for name, value in row.items()} for row in ordered]
        if values is None:
            wanted = {
                name: getattr(new, name) for name in kinds if name in table.c and name != key.name
            }
        else:
            wanted = dict(values(new))
        statement = sa.update(table).where(key == getattr(new, key.name)).values(wanted)
        connection.execute(statement if where is None else statement.where(where(new)), ordered)

    def _given_to(self, table: sa.Table, row: Row) -> Any:
        """An INSERT of rows given as JSON."""
        given = _given({name: table.c[name].type for name in row})
        keys = [given.c[column.name] for column in table.primary_key]
        return postgresql.insert(table).from_select(list(row), sa.select(*given.c).order_by(*keys))


def forget(
    database: Database,
    connection: sa.Connection,
    table: sa.Table,
    old: Condition,
    most: int | None = None,
) -> int:
    """Delete rows, but those that somebody else is changing now; gives how many.

    Args:
        database: Whose table it is.
        connection: In a transaction that writes.
        table: Whose rows.
        old: Which of them.
        most: So many at most; None for all.
    """
    keys = list(table.primary_key)
    oldest = sa.select(*keys).where(old).limit(most)
    if database.postgresql:
        oldest = oldest.with_for_update(skip_locked=True)
    deleted = sa.delete(table).where(sa.tuple_(*keys).in_(oldest))
    return connection.execute(deleted).rowcount


def _given(kinds: Mapping[str, TypeEngine[Any]]) -> sa.TableValuedAlias:
    """Rows given as JSON, as a table."""
    columns = [sa.column(name, kind) for name, kind in kinds.items()]
    rows = sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON)
    return (
        sa.func.json_to_recordset(rows)
        .table_valued(*columns)
        .render_derived("given", with_types=True)
    )


def _as_json(rows: Sequence[Row]) -> dict[str, str]:
    return {"rows": to_json(rows, inf_nan_mode="constants").decode()}


def _in_order(table: sa.Table, rows: Sequence[Row]) -> list[Row]:
    keys = [column.name for column in table.primary_key]
    return sorted(rows, key=lambda row: [row[name] for name in keys])
