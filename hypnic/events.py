"""The event table: one row per event and revision, in a sleep researcher's words.

The column order, units and meanings are fixed in `COLUMNS` and every exporter takes them from there.
A label of ``hypnic_jerk`` is a *candidate*: an accelerometer cannot see sleep stage.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    import mne
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "EVENT_DTYPE",
    "FORMATS",
    "JERKS",
    "LABELS",
    "RESTS",
    "TEXT_FORMATS",
    "Column",
    "Events",
    "format_row",
    "plain_row",
    "sound_meta",
    "write_whole",
]

LABELS: Final = (
    "hypnic_jerk",
    "isolated_jerk",
    "plm",
    "rhythmic",
    "posture_shift",
    "movement",
    "impact",
    "sensor_artifact",
)
"""Every label, in the order of the detector's integer codes."""

JERKS: Final = ("hypnic_jerk", "isolated_jerk")
"""The labels of a jerk: the first inside an onset window, the second outside one."""

RESTS: Final = ("awake", "settling", "onset", "still", "off")
"""Every rest state, in the order of the detector's integer codes."""

TEXT_FORMATS: Final = ("csv", "tsv", "json", "jsonl")
"""Text formats that `Events.to_text` knows."""

FORMATS: Final = (*TEXT_FORMATS, "parquet")
"""File formats that `Events.write` knows."""


class Column(NamedTuple):
    """One column of the event table."""

    name: str
    dtype: str
    unit: str
    decimals: int
    meaning: str


COLUMNS: Final = (
    Column(
        "onset", "f8", "s", 4, "start of the event, from the start of the recording, lost samples counted"
    ),
    Column("duration", "f8", "s", 4, "from onset until the band energy has died away"),
    Column(
        "label", "U16", "", 0, "what the event most resembles; a hypnic_jerk is a candidate, not a diagnosis"
    ),
    Column("score", "f8", "", 4, "how jerk-like the event is, 0 to 1"),
    Column("peak_g", "f8", "g", 5, "largest norm of the band-passed acceleration"),
    Column(
        "prominence", "f8", "ln", 3, "natural log of the peak band energy over its running background median"
    ),
    Column("rise", "f8", "s", 4, "from onset to the largest band-passed acceleration"),
    Column("t90", "f8", "s", 4, "span that holds the middle 90 % of the band energy"),
    Column(
        "hf_ratio", "f8", "", 5, "energy above 20 Hz over band energy; NaN where the rate is too low to tell"
    ),
    Column("angle_change", "f8", "deg", 2, "angle between gravity before and after the event"),
    Column("quiet_before", "f8", "s", 3, "from the end of the event before, or the start, to this onset"),
    Column("interval", "f8", "s", 3, "from the onset of the event before to this onset; NaN for the first"),
    Column("rest", "U8", "", 0, "rest state at the onset: awake, settling, onset, still or off"),
    Column("sample", "i8", "", 0, "number of the onset sample, lost samples counted"),
    Column("id", "i8", "", 0, "number of the event; its revisions share it"),
    Column("revision", "i4", "", 0, "0 provisional, 1 final, higher where a later series changed the label"),
)
"""Columns of the event table, in order."""

EVENT_DTYPE: Final = np.dtype([(column.name, column.dtype) for column in COLUMNS])
"""NumPy type of one row."""


_SHORT: Final = 12
"""Rows that a notebook shows of a table."""

_IN_SHORT: Final = ("onset", "duration", "label", "score", "peak_g", "rest", "id")
"""Columns that a notebook shows of a table."""


def _text(column: Column, value: Any, missing: str) -> str:
    if column.dtype.startswith("f"):
        return missing if math.isnan(value) else f"{value:.{column.decimals}f}"
    return str(value)


def _plain(column: Column, value: Any) -> Any:
    if column.dtype.startswith("f"):
        return round(float(value), column.decimals) if math.isfinite(value) else None
    return str(value) if column.dtype.startswith("U") else int(value)


def plain_row(row: np.void, columns: Sequence[Column] = COLUMNS) -> dict[str, Any]:
    """Return one row of a table as plain values for JSON, rounded to the column's decimals, None for NaN."""
    return {column.name: _plain(column, row[column.name]) for column in columns}


def format_row(row: np.void, fmt: str = "csv", columns: Sequence[Column] = COLUMNS) -> str:
    """Return one row of a table as a line of text without its line end, in ``"csv"``, ``"tsv"`` or ``"jsonl"``."""
    if fmt == "jsonl":
        return json.dumps(plain_row(row, columns))
    out = io.StringIO()
    # BIDS wants n/a in its tab-separated tables; every CSV reader takes nan for a number.
    delimiter, missing = ("\t", "n/a") if fmt == "tsv" else (",", "nan")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="")
    writer.writerow([_text(column, row[column.name], missing) for column in columns])
    return out.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all; an existing file is replaced.

    Raises
    ------
    OSError
        If it cannot be written; nothing half-written is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sound_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of how its events were made, without what is not of the kind that it should be."""

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    def bout(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and number(value.get("onset"))
            and number(value.get("duration"))
            and isinstance(value.get("rest"), str)
        )

    kinds: dict[str, Callable[[Any], bool]] = {
        "rate": lambda value: number(value) and value > 0,
        "settings": lambda value: isinstance(value, dict),
        "counts": lambda value: isinstance(value, dict) and all(map(number, value.values())),
        "rest": lambda value: isinstance(value, list) and all(map(bout, value)),
    }
    return {name: value for name, value in meta.items() if name not in kinds or kinds[name](value)}


class Events:
    """A table of events.

    Parameters
    ----------
    rows : ndarray of `EVENT_DTYPE`, shape (n,), optional
        The events; none by default.
    meta : mapping, optional
        How they were made (version, settings, rate, site, counts): written along where a format has room.

    Attributes
    ----------
    array : ndarray of `EVENT_DTYPE`, shape (n,)
        The rows. ``events["onset"]`` is one column, ``events[events["score"] > 0.8]`` a smaller table.
    meta : dict
        As given.
    """

    def __init__(self, rows: NDArray[np.void] | None = None, meta: Mapping[str, Any] | None = None) -> None:
        self.array: NDArray[np.void] = np.empty(0, EVENT_DTYPE) if rows is None else np.atleast_1d(rows)
        if self.array.dtype != EVENT_DTYPE:
            raise DataError(f"rows of type {self.array.dtype} are not events: use hypnic.events.EVENT_DTYPE")
        self.meta: dict[str, Any] = dict(meta or {})

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[np.void]:
        return iter(self.array)

    def __getitem__(self, key: Any) -> Any:
        picked = self.array[key]
        whole = isinstance(picked, np.ndarray) and picked.dtype == EVENT_DTYPE
        return Events(picked, self.meta) if whole else picked

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {label}" for label, n in self.counts().items() if n)
        return f"<Events: {len(self)} rows{': ' + counts if counts else ''}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: how many of each label, and the first rows."""
        said = ", ".join(f"{n} {label}" for label, n in self.counts().items() if n) or "none"
        shown = [column for column in COLUMNS if column.name in _IN_SHORT]
        heads = "".join(f"<th>{name.name}{f' ({name.unit})' if name.unit else ''}</th>" for name in shown)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(_text(column, row[column.name], ''))}</td>" for column in shown)
            + "</tr>"
            for row in self.array[:_SHORT]
        )
        left = f"<p>{len(self) - _SHORT} more rows</p>" if len(self) > _SHORT else ""
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if len(self) else ""
        return (
            f"<p><b>Events</b>: {len(self)} rows: {escape(said)}. Jerks are candidates: a sensor cannot see sleep."
            f"</p>{table}{left}"
        )

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each label, labels without a row included."""
        return {label: int(np.count_nonzero(self.array["label"] == label)) for label in LABELS}

    def label(self, *labels: str) -> Events:
        """Return the rows that carry one of `labels`.

        Raises
        ------
        UsageError
            If a label is unknown.
        """
        for name in labels:
            if name not in LABELS:
                raise UsageError(f"label {name!r} is unknown: use {', '.join(LABELS)}")
        return Events(self.array[np.isin(self.array["label"], labels)], self.meta)

    @property
    def hypnic_jerks(self) -> Events:
        """The rows labelled ``hypnic_jerk``: jerks inside an onset window (candidates)."""
        return self.label("hypnic_jerk")

    @property
    def jerks(self) -> Events:
        """The rows labelled ``hypnic_jerk`` or ``isolated_jerk``."""
        return self.label(*JERKS)

    def latest(self) -> Events:
        """Return the last revision of each event, ordered by onset."""
        order = np.lexsort((self.array["revision"], self.array["id"]))
        rows = self.array[order]
        last = np.append(rows["id"][1:] != rows["id"][:-1], True) if len(rows) else np.empty(0, bool)
        rows = rows[last]
        return Events(rows[np.lexsort((rows["id"], rows["sample"]))], self.meta)

    @staticmethod
    def concat(tables: list[Events]) -> Events:
        """Return the rows of all `tables` in one, with the first one's `meta`."""
        if not tables:
            return Events()
        return Events(np.concatenate([table.array for table in tables]), tables[0].meta)

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a `pandas.DataFrame` (needs the ``pandas`` extra), `meta` in its ``attrs``."""
        import pandas as pd

        frame = pd.DataFrame({column.name: self.array[column.name] for column in COLUMNS})
        frame.attrs.update(self.meta)
        return frame

    def to_mne(self, start: datetime | None = None) -> mne.Annotations:
        """Return the last revision of each event as `mne.Annotations` (needs the ``mne`` extra).

        See `hypnic.export.mne.to_annotations`; a whole recording: `hypnic.export.mne.to_raw`.
        """
        from hypnic.export.mne import to_annotations

        return to_annotations(self, start)

    def to_text(self, fmt: str = "csv") -> str:
        """Return the table as text.

        Parameters
        ----------
        fmt : {"csv", "tsv", "json", "jsonl"}
            CSV and TSV have a header line and write NaN as ``nan`` and (as BIDS asks) ``n/a``; JSON holds `meta`
            and a list of rows and writes ``null``; JSON Lines is one row a line.

        Raises
        ------
        UsageError
            If the format is unknown, or is not text.
        """
        if fmt not in TEXT_FORMATS:
            what = (
                "is not text: write it to a file"
                if fmt in FORMATS
                else f"is unknown: use {', '.join(FORMATS)}"
            )
            raise UsageError(f"format {fmt!r} {what}")
        if fmt == "json":
            return json.dumps({"meta": self.meta, "events": list(map(plain_row, self))}, indent=1) + "\n"
        lines = [format_row(row, fmt) for row in self]
        if fmt != "jsonl":
            lines.insert(0, ("\t" if fmt == "tsv" else ",").join(column.name for column in COLUMNS))
        return "".join(line + "\n" for line in lines)

    def write(self, path: str | os.PathLike[str], fmt: str | None = None) -> None:
        """Write the table to `path`, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        fmt : {"csv", "tsv", "json", "jsonl", "parquet"}, optional
            By default the ending of `path`. Parquet needs the ``parquet`` extra.

        Raises
        ------
        UsageError
            If the format is unknown, or the package that it needs is not installed.
        OSError
            If the file cannot be written; nothing half-written is left behind.
        """
        target = Path(path)
        kind = fmt or target.suffix.lstrip(".").lower()
        if kind == "parquet":
            from hypnic.export.parquet import write_events

            write_events(self, target)
            return
        write_whole(target, self.to_text(kind))
