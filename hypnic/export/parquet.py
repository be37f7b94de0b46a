"""Event tables as Parquet: typed columns, units and meanings along, NaN as null."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import DataError
from hypnic.events import COLUMNS, EVENT_DTYPE, Events, sound_meta
from hypnic.export.base import CANDIDATES, need, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_events", "write_events"]

KEY: Final = b"hypnic"
"""Entry of the schema's metadata that holds the table's `meta` as JSON."""


def write_events(events: Events, path: str | os.PathLike[str]) -> None:
    """Write an event table as Parquet, whole or not at all (needs the ``parquet`` extra).

    Numbers keep their full precision. NaN, which means unknown here, becomes null, as other readers of Parquet expect.
    `Events.meta` goes into the schema's metadata under ``hypnic``; unit and meaning of each column into its field's.

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    OSError
        If the file cannot be written.
    """
    arrow = need("pyarrow", "parquet", "writing Parquet")
    parquet = need("pyarrow.parquet", "parquet", "writing Parquet")
    arrays, fields = [], []
    for column in COLUMNS:
        values = events.array[column.name]
        kind = arrow.string() if values.dtype.kind == "U" else arrow.from_numpy_dtype(values.dtype)
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        arrays.append(arrow.array(np.ascontiguousarray(values), kind, mask=missing))
        fields.append(
            arrow.field(column.name, kind, metadata={"unit": column.unit, "meaning": column.meaning})
        )
    facts = {KEY: json.dumps(events.meta, default=str).encode(), b"note": CANDIDATES.encode()}
    with whole(Path(path)) as partial:
        parquet.write_table(
            arrow.Table.from_arrays(arrays, schema=arrow.schema(fields, metadata=facts)), partial
        )


def read_events(path: str | os.PathLike[str]) -> Events:
    """Return an event table that `write_events` wrote, `meta` included.

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    DataError
        If the file is no such table.
    OSError
        If it cannot be opened.
    """
    arrow = need("pyarrow", "parquet", "reading Parquet")
    parquet = need("pyarrow.parquet", "parquet", "reading Parquet")
    try:
        table = parquet.read_table(os.fspath(path))
        lacking = [column.name for column in COLUMNS if column.name not in table.column_names]
        if lacking:
            raise DataError(f"{os.fspath(path)}: not a table of events: it lacks {', '.join(lacking)}")
        rows = np.zeros(table.num_rows, EVENT_DTYPE)
        for column in COLUMNS:
            rows[column.name] = _values(table[column.name], column.dtype)
        meta = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
    except (arrow.ArrowException, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{os.fspath(path)}: cannot be read as events in Parquet: {error}") from None
    return Events(rows, sound_meta(meta) if isinstance(meta, dict) else {})


def _values(column: Any, dtype: str) -> NDArray[Any] | list[Any]:
    values: list[Any] = column.to_pylist()
    return [math.nan if value is None else value for value in values] if dtype.startswith("f") else values
