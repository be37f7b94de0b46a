"""Rest as a table: the bouts of each state, and the windows in which somebody was falling asleep.

`hypnic.rest` follows the state sample by sample; here its changes become rows. An *onset window* is a settling with
the onset span that follows it: it opens with every settling, the one after a night-time waking too, and closes on
waking, or when the span after declared stillness is over. One that follows *still* has no settling: movement of late
told of a waking that was not seen. None of this is a sleep stage: an accelerometer sees rest.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.errors import DataError, UsageError
from hypnic.events import JERKS, RESTS, Column, Events, format_row, plain_row, write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BOUT_COLUMNS", "FORMATS", "WINDOW_COLUMNS", "RestTable", "rest_table"]

FORMATS: Final = ("csv", "tsv", "json")
"""File formats that `RestTable.write` knows."""

BOUT_COLUMNS: Final = (
    Column("onset", "f8", "s", 3, "start of the bout, from the start of the recording"),
    Column("duration", "f8", "s", 3, "until the next bout or the end of the recording"),
    Column("rest", "U8", "", 0, f"state of the bout: {', '.join(RESTS)}"),
    Column("jerks", "i4", "", 0, "candidate jerks in it, of both labels"),
    Column("window", "i4", "", 0, "number of the onset window that it belongs to, 0 for none"),
)
"""Columns of the table of bouts."""

WINDOW_COLUMNS: Final = (
    Column("window", "i4", "", 0, "number of the onset window, from 1"),
    Column("onset", "f8", "s", 3, "start of the settling, or of the onset span where none came before"),
    Column("end", "f8", "s", 3, "end of the window"),
    Column(
        "stillness", "f8", "s", 3, "when stillness was declared; NaN where movement or the end came first"
    ),
    Column("jerks", "i4", "", 0, "candidate jerks in it"),
    Column(
        "falling_asleep",
        "i4",
        "",
        0,
        "which falling asleep it belongs to, from 1: attempts until stillness is declared share a number",
    ),
    Column(
        "before",
        "U8",
        "",
        0,
        "state that came before; empty at the start; still where a waking was not seen but told by movement",
    ),
    Column("then", "U8", "", 0, "state that followed; empty at the end of the recording"),
)
"""Columns of the table of onset windows."""

_BOUT_DTYPE: Final = np.dtype([(column.name, column.dtype) for column in BOUT_COLUMNS])
_WINDOW_DTYPE: Final = np.dtype([(column.name, column.dtype) for column in WINDOW_COLUMNS])

_SETTLING, _ONSET = "settling", "onset"


class RestTable(NamedTuple):
    """Rest bouts and onset windows.

    Attributes
    ----------
    bouts : ndarray, shape (n,)
        One row a bout, with the columns of `BOUT_COLUMNS`.
    windows : ndarray, shape (k,)
        One row an onset window, with the columns of `WINDOW_COLUMNS`.
    meta : dict
        How they were made, as that of the events.
    """

    bouts: NDArray[np.void]
    windows: NDArray[np.void]
    meta: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return both tables as plain values for JSON, None where undefined."""
        # The bouts in the events' meta are those of the table, and would stand there twice.
        return {
            "meta": {name: value for name, value in self.meta.items() if name != "rest"},
            "bouts": [plain_row(row, BOUT_COLUMNS) for row in self.bouts],
            "windows": [plain_row(row, WINDOW_COLUMNS) for row in self.windows],
        }

    def to_text(self, fmt: str = "csv", *, windows: bool = False) -> str:
        """Return the table as text.

        Parameters
        ----------
        fmt : {"csv", "tsv", "json"}
            CSV and TSV hold one table and write NaN as ``nan`` and (as BIDS asks) ``n/a``; JSON holds both.
        windows : bool
            Whether CSV and TSV hold the onset windows, instead of the bouts.

        Raises
        ------
        UsageError
            If the format is unknown.
        """
        if fmt not in FORMATS:
            raise UsageError(f"format {fmt!r} is unknown: use {', '.join(FORMATS)}")
        if fmt == "json":
            return json.dumps(self.to_dict(), indent=1) + "\n"
        columns, rows = (WINDOW_COLUMNS, self.windows) if windows else (BOUT_COLUMNS, self.bouts)
        lines = [("\t" if fmt == "tsv" else ",").join(column.name for column in columns)]
        lines += [format_row(row, fmt, columns) for row in rows]
        return "".join(line + "\n" for line in lines)

    def write(self, path: str | os.PathLike[str], fmt: str | None = None, *, windows: bool = False) -> None:
        """Write the table to `path`, whole or not at all, as `to_text` returns it.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        fmt : {"csv", "tsv", "json"}, optional
            By default the ending of `path`.
        windows : bool
            As for `to_text`.

        Raises
        ------
        UsageError
            If the format is unknown.
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        write_whole(target, self.to_text(fmt or target.suffix.lstrip(".").lower(), windows=windows))


def rest_table(events: Events, bouts: Sequence[Mapping[str, Any]] | None = None) -> RestTable:
    """Return the rest bouts and onset windows of a recording.

    Parameters
    ----------
    events : Events
        As `hypnic.detect` returns them, or as they were stored in a night: their `meta` holds the bouts.
    bouts : sequence of mappings, optional
        In their place, what `Detector.rest_bouts` returns.

    Returns
    -------
    RestTable

    Raises
    ------
    DataError
        If there are no bouts, or they are none.

    Examples
    --------
    >>> from hypnic.events import Events
    >>> states = [("settling", 0, 300), ("onset", 300, 500), ("awake", 800, 100), ("settling", 900, 60)]
    >>> bouts = [{"rest": rest, "onset": at, "duration": length} for rest, at, length in states]
    >>> table = rest_table(Events(), bouts)
    >>> table.windows[["onset", "end", "falling_asleep", "then"]].tolist()
    [(0.0, 800.0, 1, 'awake'), (900.0, 960.0, 2, '')]
    """
    given = events.meta.get("rest") if bouts is None else bouts
    if given is None:
        raise DataError("these events do not say how the person rested: take those of hypnic.detect")
    table = np.zeros(len(given), _BOUT_DTYPE)
    try:
        for row, bout in zip(table, given, strict=True):
            row["onset"], row["duration"], row["rest"] = bout["onset"], bout["duration"], bout["rest"]
    except (TypeError, ValueError, KeyError, IndexError):
        raise DataError("the bouts of rest of these events cannot be read: detect anew") from None
    _count_jerks(table, events.latest().label(*JERKS))

    settling, onset = table["rest"] == _SETTLING, table["rest"] == _ONSET
    # Every settling opens a window, also one that a long gap cut off from the settling before it.
    starts = np.flatnonzero(settling | (onset & ~np.append(False, (settling | onset)[:-1])))
    windows = np.zeros(len(starts), _WINDOW_DTYPE)
    asleep = 1
    for number, (row, first) in enumerate(zip(windows, starts.tolist(), strict=True), 1):
        after = first + 1
        while after < len(table) and onset[after]:
            after += 1
        part = table[first:after]
        part["window"] = number
        still = part["onset"][part["rest"] == _ONSET]
        row["window"], row["onset"], row["falling_asleep"] = number, part["onset"][0], asleep
        row["end"] = part["onset"][-1] + part["duration"][-1]
        row["stillness"] = still[0] if len(still) else math.nan
        row["jerks"] = part["jerks"].sum()
        row["before"] = table["rest"][first - 1] if first else ""
        row["then"] = table["rest"][after] if after < len(table) else ""
        asleep += bool(len(still))
    return RestTable(table, windows, dict(events.meta))


def _count_jerks(bouts: NDArray[np.void], jerks: Events) -> None:
    """Enter into each bout how many jerks it holds."""
    if not len(bouts):
        return
    place = np.maximum(np.searchsorted(bouts["onset"], jerks["onset"], "right") - 1, 0)
    # An onset is traced back from the sample that opened the event, whose state the event carries: at the edge of
    # two bouts the event belongs to the later one.
    after = np.minimum(place + 1, len(bouts) - 1)
    late = (bouts["rest"][place] != jerks["rest"]) & (bouts["rest"][after] == jerks["rest"])
    np.add.at(bouts["jerks"], np.where(late, after, place), 1)
