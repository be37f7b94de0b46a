"""Events that somebody marked in a recording, read from whatever file they are in.

The truth of a simulated night, a person's annotations and any detector's findings are all `Marks`, so that
`hypnic.scoring` can compare each with each.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Marks",
    "Spans",
    "check_onsets",
    "fault_spans",
    "inside",
    "load",
    "recorded_hours",
    "valid_hours",
]

Spans = Sequence[tuple[float, float]]
"""Starts and ends in seconds."""

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, for messages, and its columns."""

LARGEST_TEXT: Final = 32 << 20
"""Bytes of a table as text: 200 000 events. Read, it takes some ten times as many."""

_LABEL_COLUMNS: Final = ("label", "trial_type", "description")
_SIMULATED: Final = re.compile(r"(?:truth|fault|semi-synthetic):([\w-]+)")
_FAULT: Final = "fault:"
_SPANS: Final = ("state:", _FAULT)
_UNLABELLED: Final = "hypnic_jerk"
_EMPTY: Final = ("", "n/a", "na", "nan")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What could steer a terminal, and halves of characters, which no file can be written with."""

_HDF5_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Marks:
    """Events that somebody marked in a recording: the truth, or what a detector found.

    Attributes
    ----------
    onset : ndarray of float64, shape (n,)
        Seconds from the start of the recording, lost samples counted.
    duration : ndarray of float64, shape (n,)
        Seconds; 0 where unknown (NaN is taken as 0).
    label : ndarray of str, shape (n,)
        Any words; those of `hypnic.events.LABELS` where hypnic wrote them.
    kind : ndarray of str, shape (n,)
        What a simulated event was made as ("turn", "tap"); the label where nothing finer is known.
    peak_g : ndarray of float64, shape (n,)
        Peak acceleration in g; NaN where unknown.
    score : ndarray of float64, shape (n,)
        How jerk-like the detector thought it; NaN where unknown.
    visible : ndarray of float64, shape (n,), optional
        Part of the event that the sensor delivered, 0 to 1: the rest is in gaps, stuck or held samples. By default,
        and where it is NaN, all of it.

    Raises
    ------
    DataError
        If an onset is not a finite number, a duration is negative or infinite, or columns differ in length.
    """

    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    label: NDArray[np.str_]
    kind: NDArray[np.str_]
    peak_g: NDArray[np.float64]
    score: NDArray[np.float64]
    visible: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))

    def __post_init__(self) -> None:
        if np.ndim(self.visible) == 0:
            object.__setattr__(self, "visible", np.full(np.shape(self.onset), self.visible))
        for name in vars(self):
            dtype = np.str_ if name in ("label", "kind") else np.float64
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        check_onsets(self.onset, "onset")
        lengths = {name: column.shape for name, column in vars(self).items()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"columns of marks differ in shape: {lengths}")
        object.__setattr__(self, "duration", np.where(np.isnan(self.duration), 0.0, self.duration))
        object.__setattr__(self, "visible", np.where(np.isnan(self.visible), 1.0, self.visible))
        wrong = np.flatnonzero(~((self.duration >= 0) & (self.duration < np.inf)))
        if wrong.size:
            raise DataError(f"duration {self.duration[wrong[0]]:g} s of event {wrong[0]} is not 0 or more")

    def __len__(self) -> int:
        return len(self.onset)

    def __getitem__(self, key: NDArray[Any] | slice) -> Marks:
        return Marks(**{name: column[key] for name, column in vars(self).items()})

    @property
    def end(self) -> NDArray[np.float64]:
        """Onset plus duration (s)."""
        return self.onset + self.duration

    @classmethod
    def of(cls, table: Marks | Events | NDArray[np.void]) -> Marks:
        """Return `table` as marks.

        Parameters
        ----------
        table : Marks, Events or structured ndarray
            Of `Events` the last revision of each event counts. A structured array that is not one of events
            is read as annotations (onset, duration, label, source), by the rules of `load`.

        Raises
        ------
        DataError
            If it is none of these, or its values are refused by `Marks`.
        """
        if isinstance(table, Marks):
            return table
        if isinstance(table, np.ndarray) and table.dtype == EVENT_DTYPE:
            table = Events(table)
        if isinstance(table, Events):
            last = table.latest().array
            names = ("onset", "duration", "label", "label", "peak_g", "score")
            return cls(*(last[name] for name in names))
        if isinstance(table, np.ndarray) and table.dtype.names:
            rows = (dict(zip(table.dtype.names, row.tolist(), strict=True)) for row in table)
            return _marks((f"row {n}", row) for n, row in enumerate(rows))
        raise DataError(f"{type(table).__name__} is not a table of events: use Events, Marks or annotations")


def check_onsets(onsets: NDArray[np.float64], name: str) -> None:
    """Raise `DataError` unless `onsets` is one column of finite numbers."""
    if onsets.ndim != 1:
        raise DataError(f"{name} of shape {onsets.shape} is not one column (n,)")
    wrong = np.flatnonzero(~np.isfinite(onsets))
    if wrong.size:
        raise DataError(f"{name} {onsets[wrong[0]]} of event {wrong[0]} is not a finite number of seconds")


# Reading


def load(path: str | os.PathLike[str], side: Literal["truth", "found"] = "truth") -> Marks:
    """Read the events of one night.

    Parameters
    ----------
    path : path-like
        A hypnic HDF5 night, an event table that `Events.write` wrote (CSV, TSV, JSON, JSON Lines, Parquet), a BIDS
        ``events.tsv``, or any text table separated by comma, semicolon or tab with a header line and a column
        ``onset`` in seconds from the start of the recording. Read where present: ``duration``, the label from
        ``label``, ``trial_type`` or ``description`` (``hypnic_jerk`` where there is none), ``score``,
        ``peak_g``, ``visible``, ``kind``, ``source``. Lines that start with ``#`` are skipped.
    side : {"truth", "found"}, optional
        Which table of an HDF5 night: its annotations or its events. Other files hold one table.

    Returns
    -------
    Marks
        In the file's order. Where events have an ``id`` and a ``revision`` the last revision counts. Rows
        whose label starts with ``state:`` or ``fault:`` are spans and are left out. The source of a simulated
        event, ``truth:turn peak_g=0.0123 visible=0.50`` (or ``fault:``, ``semi-synthetic:``), gives kind, peak
        and how much of it is visible; where some rows have one, only those are the truth: a diary or a button
        in the same file is not.

    Raises
    ------
    UsageError
        If `side` is unknown.
    DataError
        If the file holds no such table, or an onset, a duration or another number cannot be read.
    OSError
        If the file cannot be opened.
    """
    if side not in ("truth", "found"):
        raise UsageError(f"side {side!r} is unknown: use truth or found")
    table: NDArray[np.void] | Events | None = None
    if _is_hdf5(path):
        table = _night_table(path, side)
    elif Path(path).suffix.lower() == ".parquet":
        from hypnic.export.parquet import read_events

        table = read_events(path)
    try:
        return _marks(_text_rows(Path(path))) if table is None else Marks.of(table)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None


def _is_hdf5(path: str | os.PathLike[str]) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def _night_table(path: str | os.PathLike[str], side: str) -> NDArray[np.void] | Events:
    from hypnic.recording import Recording

    with Recording(path) as night:
        annotations, events = night.annotations, night.events()
    if side == "truth":
        if not len(annotations):
            raise DataError(f"{os.fspath(path)}: it holds no annotations to take for the truth")
        return annotations
    # A recorder makes the table empty; a detector that found nothing leaves its settings there.
    if events is None or not (len(events) or events.meta):
        raise DataError(
            f"{os.fspath(path)}: it holds no events: run the detector on it first "
            "(hypnic detect --write-events)"
        )
    return events


def _text_rows(path: Path) -> Iterator[Row]:
    if path.stat().st_size > LARGEST_TEXT:
        raise DataError(f"is longer than {LARGEST_TEXT >> 20} MiB, which no table of a night's events is")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is neither HDF5 nor UTF-8 text") from None
    if path.suffix.lower() in (".json", ".jsonl"):
        yield from _json_rows(text, lines=path.suffix.lower() == ".jsonl")
        return
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max("\t,;", key=header.count))
    names: list[str] = []
    try:
        for values in reader:
            if not "".join(values).strip() or values[0].startswith("#"):
                continue
            if names:
                yield f"line {reader.line_num}", dict(zip(names, values, strict=False))
                continue
            names = [name.strip().lower() for name in values]
            if "onset" not in names:
                raise DataError(f"has no column onset, only {', '.join(names)[:80]}")
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} is no line of a table: {error}") from None
    if not names:
        raise DataError("is empty: expected a header line with a column onset")


def _json_rows(text: str, lines: bool) -> Iterator[Row]:
    try:
        texts = [line for line in text.splitlines() if line.strip()]
        rows = [json.loads(line) for line in texts] if lines else json.loads(text)["events"]
        yield from ((f"event {n}", dict(row)) for n, row in enumerate(rows))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError("is not a list of events in JSON as hypnic writes it") from None


def _marks(numbered: Iterable[Row]) -> Marks:
    rows = list(numbered)
    if rows and {"id", "revision"} <= rows[0][1].keys():
        rows.sort(key=lambda row: _number(row, "revision"))
        rows = list({str(row[1].get("id")): row for row in rows}.values())
    if any(_SIMULATED.match(_source(row)) for row in rows):
        rows = [row for row in rows if _SIMULATED.match(_source(row))]
    rows = [row for row in rows if not _label(row).startswith(_SPANS)]
    for row in rows:
        if not math.isfinite(_number(row, "onset")):
            raise DataError(f"onset of {row[0]} is missing or not finite: expected seconds")
    return Marks(
        onset=np.array([_number(row, "onset") for row in rows]),
        duration=np.array([_number(row, "duration") for row in rows]),
        label=np.array([_label(row) for row in rows], np.str_),
        kind=np.array([_kind(row) for row in rows], np.str_),
        peak_g=np.array([_noted(row, "peak_g") for row in rows]),
        score=np.array([_number(row, "score") for row in rows]),
        visible=np.array([_noted(row, "visible") for row in rows]),
    )


def _words(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "" if value is None else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value).strip())


def _source(row: Row) -> str:
    return _words(row[1].get("source"))


def _label(row: Row) -> str:
    given = (_words(row[1].get(name)) for name in _LABEL_COLUMNS)
    return next((label for label in given if label.lower() not in _EMPTY), _UNLABELLED)


def _kind(row: Row) -> str:
    noted = _SIMULATED.match(_source(row))
    return noted[1] if noted else _words(row[1].get("kind")) or _label(row)


def _noted(row: Row, name: str) -> float:
    """Return a number that stands in the source of a simulated event, or in a column of its own."""
    noted = re.search(rf"\b{name}=(\S+)", _source(row))
    return _number((row[0], {name: noted[1]}) if noted else row, name)


def _number(row: Row, name: str) -> float:
    where, columns = row
    value = columns.get(name)
    if value is None or (isinstance(value, str) and value.strip().lower() in _EMPTY):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{name} {str(value)[:40]!r} of {where} is not a number") from None


def recorded_hours(path: str | os.PathLike[str], ignore: Spans = ()) -> float | None:
    """Return the `valid_hours` of an HDF5 night, or None for other files.

    What is missing, cannot be read (all of it is tried), or is annotated as a fault (``fault:stuck``) is not valid.

    Raises
    ------
    DataError
        If it is HDF5 but not a recording.
    OSError
        If it cannot be opened.
    """
    if not _is_hdf5(path):
        return None
    from hypnic.recording import Recording

    with Recording(path) as night:
        lost = [(c.index - c.missing, c.index) for c in night if c.missing]
        spans = [(first / night.rate, last / night.rate) for first, last in lost]
        spans += fault_spans(night.annotations)
        return valid_hours(night.duration, spans, ignore)


def fault_spans(annotations: NDArray[np.void]) -> list[tuple[float, float]]:
    """Return the spans (s) that annotations call a fault (``fault:stuck``)."""
    return [
        (float(row["onset"]), float(row["onset"] + max(row["duration"], 0.0)))
        for row in annotations
        if str(row["label"]).startswith(_FAULT) and math.isfinite(row["onset"])
    ]


def valid_hours(duration: float, gaps: Spans = (), ignore: Spans = ()) -> float:
    """Return the hours of a recording in which something could have been found.

    Parameters
    ----------
    duration : float
        Length of the recording (s), gaps included.
    gaps, ignore : sequence of (start, end), optional
        Spans (s) that do not count. They may overlap each other and reach beyond the recording.

    Raises
    ------
    UsageError
        If a span ends before it starts.
    """
    lost, reached = 0.0, 0.0
    for start, end in sorted([*_checked(gaps), *_checked(ignore)]):
        start, end = max(start, reached), min(end, duration)
        if end > start:
            lost += end - start
            reached = end
    return (duration - lost) / 3600


def _checked(spans: Spans) -> Spans:
    for start, end in spans:
        if not start <= end:
            raise UsageError(f"span from {start:g} s to {end:g} s ends before it starts")
    return spans


def inside(times: NDArray[np.float64], spans: Spans) -> NDArray[np.bool_]:
    """Tell which `times` (s) lie in one of `spans`, ends included.

    Raises
    ------
    UsageError
        If a span ends before it starts.
    """
    found = np.zeros(len(times), bool)
    for start, end in _checked(spans):
        found |= (times >= start) & (times <= end)
    return found
