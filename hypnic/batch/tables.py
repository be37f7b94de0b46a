"""The results of many nights as three tables: every event, every night, every onset window.

Rows stand in the order in which the recordings were named, never in that in which they were done, so the same nights
give the same bytes however they were spread over processes. Tables are written as they are read from the manifest,
night by night: memory does not grow with their number.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hypnic
from hypnic.batch.night import DONE, Outcome
from hypnic.bouts import WINDOW_COLUMNS, rest_table
from hypnic.errors import UsageError
from hypnic.events import COLUMNS, JERKS, LABELS, Column, write_whole

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["NIGHT_COLUMNS", "TABLES", "need_parquet", "write_each", "write_tables"]

_NIGHT: Final = Column("night", "U", "", 0, "the recording: its path below the folder that all share")

NIGHT_COLUMNS: Final = (
    _NIGHT,
    Column("path", "U", "", 0, "the recording, as it was found"),
    Column("status", "U", "", 0, "done, or how it failed: unreadable, unopened, timeout, killed, bug"),
    Column("reason", "U", "", 0, "why it failed"),
    Column("start", "U", "", 0, "time of the first sample, ISO 8601; empty where unknown"),
    Column("site", "U", "", 0, "wrist or mattress"),
    Column("sensor", "U", "", 0, "as the file says"),
    Column("rate", "f8", "Hz", 4, "sampling rate"),
    Column(
        "clock_error", "f8", "ppm", 1, "by how much the rate is higher by the wall clock; NaN without a clock"
    ),
    Column("duration", "f8", "h", 4, "from start to end, what is missing included"),
    Column("valid", "f8", "h", 4, "of it neither missing, unreadable nor annotated as a fault"),
    Column("gaps", "i8", "", 0, "places where samples are missing"),
    Column("gap_time", "f8", "s", 3, "what is missing in them"),
    Column("longest_gap", "f8", "s", 3, "the longest of them"),
    Column("damaged", "f8", "s", 3, "stored, but cannot be read"),
    Column("invalid", "i8", "", 0, "samples that are not numbers"),
    Column("clipped", "i8", "", 0, "samples at the end of the sensor's range; NaN where that is unknown"),
    Column("flat", "f8", "s", 1, "within runs of 5 s and more of identical samples"),
    Column("noise_x", "f8", "g", 6, "white noise in the calmest twentieth of the night"),
    Column("noise_y", "f8", "g", 6, "the same of y"),
    Column("noise_z", "f8", "g", 6, "the same of z"),
    Column("step", "f8", "g", 6, "smallest difference between two samples"),
    Column("mean_norm", "f8", "g", 4, "mean size of the samples, where gravity is 1"),
    Column("windows", "i8", "", 0, "onset windows"),
    Column("jerks", "i8", "", 0, "candidate jerks, of both labels"),
    Column("jerks_per_hour", "f8", "1/h", 3, "the same for each valid hour"),
    Column("jerks_per_window", "f8", "", 3, "hypnic_jerk for each onset window; NaN where there is none"),
    *(Column(label, "i8", "", 0, f"events labelled {label}") for label in LABELS),
    Column("warnings", "U", "", 0, "what looks wrong, in sentences"),
)
"""Columns of the table of nights."""


_Columns = dict[str, list[Any]]
"""Rows of a table, column by column: plain values, None where there is none."""


class _Table(NamedTuple):
    name: str
    columns: tuple[Column, ...]


TABLES: Final = (
    _Table("events", (_NIGHT, *COLUMNS)),
    _Table("nights", NIGHT_COLUMNS),
    _Table("windows", (_NIGHT, *WINDOW_COLUMNS)),
)
"""Name of each table's file, without its ending, and its columns."""


def need_parquet() -> None:
    """Refuse where pyarrow is not installed.

    Raises
    ------
    UsageError
        If it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is there
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'hypnic[parquet]'") from None


def write_tables(
    folder: Path,
    nights: Iterable[tuple[str, Outcome]],
    labels: tuple[str, ...] = (),
    parquet: bool = False,
) -> list[Path]:
    """Write the three tables, each whole or not at all.

    Parameters
    ----------
    folder : Path
        Where to: ``events.csv``, ``nights.csv`` and ``windows.csv``, existing ones are replaced.
    nights : iterable of (str, Outcome)
        Name of each night and what became of it, in the order of the rows.
    labels : tuple of str, optional
        Labels of the events in the table of events; all by default. The counts are always of all.
    parquet : bool, optional
        Write Parquet too, with unit and meaning of each column in its schema.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UsageError
        If pyarrow is not installed.
    OSError
        If a file cannot be written.
    """
    if parquet:
        need_parquet()
    paths = []
    with ExitStack() as stack:
        writers: list[tuple[str, _Csv | _Parquet]] = []
        for table in TABLES:
            for kind in (_Csv, _Parquet) if parquet else (_Csv,):
                path = folder / f"{table.name}{kind.ending}"
                writer = kind(stack.enter_context(_replaced(path)), table.columns)
                stack.enter_context(closing(writer))
                writers.append((table.name, writer))
                paths.append(path)
        for name, outcome in nights:
            columns = _columns(name, outcome, labels)
            for table_name, writer in writers:
                writer.add(columns[table_name])
    return paths


def write_each(folder: Path, name: str, outcome: Outcome, fmt: str, labels: tuple[str, ...] = ()) -> Path:
    """Write the events of one night to a file of its own, as ``hypnic detect`` of that night alone does.

    Returns
    -------
    Path
        The file, ``folder/name.fmt``.
    """
    path = folder / f"{name}.{fmt}"
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = outcome.events.label(*labels) if labels else outcome.events
    write_whole(path, shown.to_text(fmt))
    return path


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _columns(name: str, outcome: Outcome, labels: tuple[str, ...]) -> dict[str, _Columns]:
    """Return what each table says of a night."""
    shown = outcome.events.label(*labels) if labels else outcome.events
    # One that was not done has no bouts.
    windows = rest_table(outcome.events, None if outcome.status == DONE else ()).windows
    return {
        "events": _plain(name, shown.array, COLUMNS),
        "nights": {key: [value] for key, value in _night_row(name, outcome, len(windows)).items()},
        "windows": _plain(name, windows, WINDOW_COLUMNS),
    }


def _plain(name: str, rows: NDArray[np.void], columns: tuple[Column, ...]) -> _Columns:
    return {
        _NIGHT.name: [name] * len(rows),
        **{column.name: rows[column.name].tolist() for column in columns},
    }


def _night_row(name: str, outcome: Outcome, windows: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column.name for column in NIGHT_COLUMNS)
    row |= {"night": name, "path": outcome.path, "status": outcome.status, "reason": outcome.reason}
    if outcome.status != DONE:
        return row
    facts, counts = outcome.facts, outcome.facts["counts"]
    jerks, valid = sum(counts[label] for label in JERKS), facts["valid_hours"]
    return row | {
        "start": facts["start"],
        "site": facts["site"],
        "sensor": facts["sensor"],
        "rate": facts["rate"],
        "clock_error": facts["clock_error"],
        "duration": facts["duration"] / 3600,
        "valid": valid,
        "gaps": facts["gaps"]["count"],
        "gap_time": facts["gaps"]["seconds"],
        "longest_gap": facts["gaps"]["longest_s"],
        "damaged": facts["damage"]["seconds"],
        "invalid": facts["invalid"],
        "clipped": facts["clipped"],
        "flat": facts["flat_s"],
        **dict(zip(("noise_x", "noise_y", "noise_z"), facts["noise"], strict=True)),
        "step": facts["step_g"],
        "mean_norm": facts["mean_norm"],
        "windows": windows,
        "jerks": jerks,
        "jerks_per_hour": jerks / valid if valid > 0 else None,
        "jerks_per_window": counts["hypnic_jerk"] / windows if windows else None,
        **counts,
        "warnings": " ".join(facts["warnings"]),
    }


class _Csv:
    """A table as CSV: NaN for a number that is not known, nothing for a word."""

    ending: Final = ".csv"

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def close(self) -> None:
        self._file.close()

    def add(self, columns: _Columns) -> None:
        texts = [_texts(column, columns[column.name]) for column in self._columns]
        self._writer.writerows(zip(*texts, strict=True))


def _texts(column: Column, values: list[Any]) -> list[str]:
    if column.dtype.startswith("U"):
        return ["" if value is None else str(value) for value in values]
    form = f".{column.decimals}f" if column.dtype.startswith("f") else ""
    return ["nan" if value is None or not math.isfinite(value) else format(value, form) for value in values]


class _Parquet:
    """A table as Parquet: null for what is not known, numbers in full."""

    ending: Final = ".parquet"

    _ROWS: Final = 100_000
    """Rows kept back until they make a row group worth reading by itself."""

    def __init__(self, path: Path, columns: tuple[Column, ...]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types = {"U": pa.string(), "f": pa.float64(), "i": pa.int64()}
        fields = [
            pa.field(
                column.name,
                types[column.dtype[0]],
                metadata={"unit": column.unit, "meaning": column.meaning},
            )
            for column in columns
        ]
        about = {
            "created_by": f"hypnic {hypnic.__version__}",
            "note": "A hypnic_jerk is a candidate: a sensor cannot see sleep stage. Not a medical device.",
        }
        self._schema: pa.Schema = pa.schema(fields, metadata=about)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._columns: _Columns = {column.name: [] for column in columns}

    def close(self) -> None:
        self._write()
        self._writer.close()

    def add(self, columns: _Columns) -> None:
        for name, kept in self._columns.items():
            kept += [
                None if isinstance(value, float) and math.isnan(value) else value for value in columns[name]
            ]
        if len(kept) >= self._ROWS:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        table = pa.Table.from_pydict(self._columns, schema=self._schema)
        if len(table):
            self._writer.write_table(table)
        for kept in self._columns.values():
            kept.clear()
