"""Events and scores as CSV or Parquet, written while they are read: of any length."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.responses import Response, StreamingResponse

from plant.store.read import Reader
from plant.web.endpoint import Asked, Endpoint, plain

_TIME = pa.timestamp("ms", tz="UTC")
SCHEMAS: dict[str, pa.Schema] = {
    "events": pa.schema(
        {
            "time": _TIME, "received": _TIME, "device": pa.string(), "machine": pa.string(),
            "id": pa.string(), "sequence": pa.int64(), "area": pa.string(), "event": pa.string(),
            "level": pa.string(), "alarm_id": pa.string(), "operator": pa.string(),
            "payload": pa.string(),
        }
    ),
    "minutes": pa.schema(
        {
            "start": _TIME, "seconds": pa.int32(), "device": pa.string(), "machine": pa.string(),
            "windows": pa.int32(), "judged": pa.int32(), "exceeded": pa.int32(),
            "median": pa.float64(), "maximum": pa.float64(), "raw_threshold": pa.float64(),
        }
    ),
}  # fmt: skip
SCHEMAS["hours"] = SCHEMAS["minutes"]
_KINDS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
# A spreadsheet takes what begins so for a formula; the devices' texts are not ours.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CHUNK = 1 << 16
_KEPT_IN_MEMORY = 8 << 20


class ExportAsked(BaseModel):
    """Which stretch of time, of which devices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["csv", "parquet"] = "csv"
    begin: AwareDatetime = datetime(1970, 1, 1, tzinfo=timezone.utc)
    end: AwareDatetime = datetime(9999, 1, 1, tzinfo=timezone.utc)
    device: str = ""
    site: str = ""


def export_endpoints(reader: Reader) -> list[Endpoint]:
    """`/export/events`, `/export/minutes`, `/export/hours`."""

    def export(asked: Asked, what: str) -> Response:
        body: ExportAsked = asked.body
        devices = None
        if body.site:
            devices = reader.of_site(body.site)
        if body.device:
            devices = [body.device]
        chunks = reader.all_rows(what, body.begin, body.end, devices)
        data = (csv_of if body.format == "csv" else parquet_of)(what, chunks)
        name = f"{what}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.{body.format}"
        return StreamingResponse(
            data, media_type=_KINDS[body.format],
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )  # fmt: skip

    return [
        Endpoint("GET", f"/export/{what}", _bound(export, what), model=ExportAsked)
        for what in SCHEMAS
    ]


def _bound(run: Any, what: str) -> Any:
    return lambda asked: run(asked, what)


def csv_of(what: str, chunks: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    """Rows as CSV (RFC 4180) with a header line; times are ISO 8601 in UTC."""
    names = SCHEMAS[what].names
    yield _lines([names])
    for rows in chunks:
        yield _lines([[_cell(row[name]) for name in names] for row in rows])


def parquet_of(what: str, chunks: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    """Rows as Parquet (zstd); a file on the disk where it is larger than fits in memory."""
    schema = SCHEMAS[what]
    with tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in chunks:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        file.seek(0)
        while data := file.read(_CHUNK):
            yield data


def _lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else plain(value)
