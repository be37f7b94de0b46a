"""Delimited text: three columns of acceleration, with or without a column of time stamps.

Delimiter, header, columns, unit of time and unit of acceleration are told from the file, or given. What was
told stands in the recording's `notes`, since it may be wrong.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import DataError, UsageError
from hypnic.readers.base import (
    UNITS,
    Format,
    MemoryRecording,
    check_unit,
    data_rate,
    infer_unit,
    make_gaps,
    parse_start,
)
from hypnic.readers.rows import COMMENTS, Rows, Shape, read_rows
from hypnic.readers.stamps import TICKS, WRAP, StampError, guess_tick, parse_stamps, to_grid, unwrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMAT", "open_delimited"]

LINES: Final = 300
"""Lines from the start of the file by which its shape is told."""

DELIMITERS: Final = ("\t", ";", ",", None)
"""Delimiters that are tried, in order; None is any white space."""

AXIS: Final = re.compile(
    r"(?P<before>|a|acc|accel|accelero|acceleration|accelerometer|accelerometeraxis|rawacc|axis)"
    r"(?P<axis>[xyz])(?P<after>|\d+|axis|acc|accel|acceleration)"
)
"""Names of an axis, in small letters and digits only: x, ax, accx1 (AccX1), accelerationx ..."""

TIME: Final = re.compile(
    r"(header)?(time|timestamp|timestamps|ts|t|datetime|epoch|unix|unixtime|unixtimestamp|posix|utc|elapsed"
    r"|elapsedtime|sampletime|systemtime|sensortime|seconds|millis|micros|milliseconds|microseconds|rtctime)"
)
"""Names of a time stamp."""

DATE: Final = re.compile(r"(rtc)?date")
"""Names of a date whose time of day is in a column of its own."""

TIME_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
"""Units of time as they stand in headers."""

ACCELERATION_UNITS: Final = ("g", "mg", "m/s2", "m/s²", "m/s^2", "m/s/s", "ms-2", "mps2", "gs")
"""Units of acceleration as they stand in headers."""


class _Name(NamedTuple):
    """A column name, without its unit."""

    plain: str
    unit: str


class _Table(NamedTuple):
    """The shape of a file, as far as its first lines tell."""

    delimiter: str | None
    decimal_comma: bool
    names: list[str]
    width: int
    first_line: int
    rows: list[list[str]]


def open_delimited(
    path: str | os.PathLike[str],
    *,
    columns: str | Sequence[str | int] | None = None,
    time_column: str | int | None = None,
    rate: float | None = None,
    scale: float | None = None,
    units: str | None = None,
    site: str = "wrist",
    start: datetime | str | None = None,
) -> MemoryRecording:
    """Open a text file of samples.

    Parameters
    ----------
    path : path-like
        The file: columns between commas, tabs, semicolons or blanks, with or without a header and comments.
    columns : str or sequence of str or int, optional
        Names or numbers (from 0) of the columns x, y and z. By default told from the header, or the last
        three of three or four.
    time_column : str or int, optional
        Name or number of the column of time stamps.
    rate : float, optional
        Sampling rate in Hz: needed without time stamps, and with them the rate of the even grid.
    scale : float, optional
        Units per number in the file.
    units : {"g", "mg", "m/s2"}, optional
        What a number times `scale` is in. By default what the header says, else told from gravity.
    site : {"wrist", "mattress"}
        Where the sensor was.
    start : datetime or str, optional
        When the first sample was taken, if not when the stamps say.

    Raises
    ------
    DataError
        If columns, unit or rate cannot be told, most lines are damaged, or time jumps back.
    UsageError
        If an option is none, or names a column that is not there.
    """
    path = Path(path)
    check_site(site)
    if rate is not None:
        check_rate(rate)
    if scale is not None and not 0 < scale < np.inf:
        raise UsageError(f"scale {scale!r} is not a number above 0 of units per number in the file")
    units = None if units is None else check_unit(units)
    moment = None if start is None else parse_start(start)
    notes: list[str] = []

    encoding = _encoding(path)
    head = _head(path, encoding)
    table = _table(path, head)
    axes, unit = _axes(path, table, columns, notes)
    stamps, tick = _stamp_columns(path, table, axes, time_column)
    text_stamps = bool(stamps) and not _is_number(table.rows[0][stamps[-1]])
    shape = Shape(axes, table.delimiter, table.first_line, stamps, text_stamps, table.decimal_comma, encoding)
    rows = read_rows(path, shape)
    notes += [rows.complaint] if rows.complaint else []

    xyz, begin = rows.xyz, None
    if stamps:
        seconds, begin = _seconds(path, rows, shape, tick, notes)
        try:
            grid = to_grid(seconds, xyz, rate)
        except StampError as error:
            raise DataError(f"{path}: line {rows.lines[error.row]}: {error}") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        notes += grid.notes
        rate, xyz = grid.rate, grid.xyz
        gaps = make_gaps(
            [row for row, _ in grid.gaps], [missing for _, missing in grid.gaps], "time stamps skip"
        )
        begin = None if begin is None else begin + grid.start
    elif rate is None:
        raise DataError(
            f"{path}: there is no column of time stamps: give rate= or time_column= (--rate, --time-column)"
        )
    else:
        gaps = rows.gaps()
    rate = data_rate(rate, path)
    factor, units = _factor(path, xyz, rate, scale, units or unit, head, notes)
    with np.errstate(over="ignore"):
        xyz = np.multiply(xyz, np.float64(factor), dtype=np.float64, casting="same_kind").astype(np.float32)
    if moment is None and begin is not None:
        moment = parse_start(begin)[0], text_stamps and not rows.zoned
    if moment and moment[1]:
        notes.append("the start time has no time zone: UTC is assumed")
    return MemoryRecording(
        path,
        xyz,
        rate=rate,
        site=site,
        start_time=moment[0] if moment else None,
        gaps=gaps,
        units=units,
        notes=notes,
    )


def matches(path: Path, head: bytes) -> bool:
    """Tell a text file by its bytes: no control characters but white space."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return bool(head) and not re.search(rb"[\x00-\x08\x0e-\x1f]", head)


FORMAT = Format(
    "delimited text",
    (".csv", ".tsv", ".txt", ".dat"),
    matches,
    open_delimited,
    frozenset({"columns", "time_column", "rate", "scale", "units", "site", "start"}),
)


# The shape of the file


def _encoding(path: Path) -> str:
    with path.open("rb") as handle:
        return "utf-16" if handle.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _head(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, errors="replace") as handle:
        # A file without line ends must not be read whole to learn that.
        return [line for _ in range(LINES) if (line := handle.readline(65536))]


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_stamp(text: str) -> bool:
    return bool(np.isfinite(parse_stamps(np.array([text.encode()]))[0][0]))


def _table(path: Path, head: list[str]) -> _Table:
    """Tell delimiter, header and first line of data: what makes the most numbers of the most lines."""
    lines = [(at, line) for at, line in enumerate(head, 1) if line.strip() and not line.startswith(COMMENTS)]
    best: tuple[int, _Table] | None = None
    for delimiter in DELIMITERS:
        for comma in (False, True) if delimiter != "," else (False,):
            split = [(at, _split(line.replace(",", ".") if comma else line, delimiter)) for at, line in lines]
            numeric = [(at, fields) for at, fields in split if sum(map(_is_number, fields)) >= 3]
            if not numeric:
                continue
            width = Counter(len(fields) for _, fields in numeric).most_common(1)[0][0]
            rows = [(at, fields) for at, fields in numeric if len(fields) == width]
            if best is None or len(rows) > best[0]:
                first = rows[0][0]
                above = [fields for at, fields in split if at < first]
                names = above[-1] if above and len(above[-1]) in (width, width - 1) else []
                best = (
                    len(rows),
                    _Table(delimiter, comma, names, width, first, [fields for _, fields in rows]),
                )
    if best is None or best[0] * 2 < len(lines) - 30:
        raise DataError(f"{path}: no three columns of numbers in it: expected lines such as time,x,y,z")
    return best[1]


def _name(text: str) -> _Name:
    """Return a column name in small letters and digits, and the unit in brackets or after an underscore."""
    text = text.strip().strip("\"'").lower()
    unit = ""
    if found := re.search(r"[(\[]\s*([^)\]]+?)\s*[)\]]", text):
        unit, text = found.group(1), text[: found.start()] + text[found.end() :]
    elif found := re.search(r"_(s|ms|us|ns|g|mg|sec)$", text):
        unit, text = found.group(1), text[: found.start()]
    plain = re.sub(r"[^a-z0-9]", "", text)
    return _Name(plain, unit or (plain if plain in TIME_UNITS else ""))


def _position(path: Path, table: _Table, column: str | int) -> int:
    """Return the number of a column that is given by name or number."""
    names = [name.strip().strip("\"'").lower() for name in table.names]
    if isinstance(column, str) and column.strip().lower() in names:
        return names.index(column.strip().lower())
    if isinstance(column, int) or column.strip().isdigit():
        at = int(column)
        if 0 <= at < table.width:
            return at
    known = ", ".join(table.names) if table.names else f"0 to {table.width - 1}"
    raise UsageError(f"{path}: column {column!r} is not there: use {known}")


def _axes(
    path: Path, table: _Table, columns: str | Sequence[str | int] | None, notes: list[str]
) -> tuple[tuple[int, int, int], str | None]:
    """Return the columns of x, y, z, and the unit that the header gives."""
    names = [_name(name) for name in table.names]
    if columns is not None:
        wanted = columns.split(",") if isinstance(columns, str) else list(columns)
        if len(wanted) != 3:
            raise UsageError(f"columns {columns!r} are not three: give x, y and z, such as AccX,AccY,AccZ")
        x, y, z = (_position(path, table, column) for column in wanted)
        return (x, y, z), _header_unit(names[x].unit if names else "")
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for at, name in enumerate(names):
        if found := AXIS.fullmatch(name.plain):
            groups.setdefault((found["before"], found["after"]), {}).setdefault(found["axis"], at)
    whole = [group for group in groups.values() if len(group) == 3]
    if whole:
        x, y, z = (whole[0][axis] for axis in "xyz")
        if len(whole) > 1:
            used, other = ([table.names[group[axis]] for axis in "xyz"] for group in whole[:2])
            notes.append(f"the columns {', '.join(used)} were used; there are also {', '.join(other)}")
        return (x, y, z), _header_unit(names[x].unit)
    # Without names, numbers alone: x, y, z or time, x, y, z.
    numeric = [at for at in range(table.width) if _is_number(table.rows[0][at])]
    if not names and len(numeric) in (3, 4) and numeric[-1] - numeric[0] == len(numeric) - 1:
        x, y, z = numeric[-3:]
        return (x, y, z), None
    known = ", ".join(table.names) if table.names else f"0 to {table.width - 1}"
    raise DataError(
        f"{path}: x, y and z cannot be told among its columns ({known}): give columns= (--columns)"
    )


def _header_unit(text: str) -> str | None:
    return check_unit(text) if text in ACCELERATION_UNITS else None


def _stamp_columns(
    path: Path, table: _Table, axes: tuple[int, int, int], time_column: str | int | None
) -> tuple[tuple[int, ...], str]:
    """Return the column of the stamps (or of date and time), and the unit of time that the header gives."""
    names = [_name(name) for name in table.names]
    row = table.rows[0]
    if time_column is not None:
        at = _position(path, table, time_column)
    else:
        named = [at for at, name in enumerate(names) if TIME.fullmatch(name.plain) and at not in axes]
        # Among several, the machine's number before a person's date; without names, what comes before x.
        unnamed = [at for at in range(min(axes)) if _is_stamp(row[at])] or (
            [min(axes) - 1] if min(axes) else []
        )
        found = sorted(named, key=lambda at: not _is_number(row[at])) or ([] if names else unnamed[:1])
        if not found:
            return (), ""
        at = found[0]
    if not (_is_number(row[at]) or _is_stamp(row[at])):
        if at + 1 < table.width and _is_stamp(f"{row[at]} {row[at + 1]}"):
            return (at, at + 1), ""
        raise DataError(
            f"{path}: {row[at]!r} is no time stamp: expected a number or a time such as 2024-03-21 22:30:00"
        )
    dates = [date for date, name in enumerate(names) if DATE.fullmatch(name.plain)]
    if not names and at:
        dates = [at - 1]
    if dates and not _is_number(row[at]) and _is_stamp(f"{row[dates[0]]} {row[at]}"):
        return (dates[0], at), ""
    return (at,), TIME_UNITS.get(names[at].unit, "") if names else ""


# The values


def _seconds(
    path: Path, rows: Rows, shape: Shape, tick: str, notes: list[str]
) -> tuple[NDArray[np.float64], float | None]:
    """Return stamps as seconds, and what to add to them for POSIX time, or None where they have no date."""
    if shape.text_stamps:
        if rows.dated:
            return rows.stamps, 0.0
        seconds, nights = unwrap(rows.stamps, 86400.0, 43200.0)
        if nights:
            notes.append("the time of day passed midnight")
        notes.append("the time stamps have no date, so there is no start time: give it with start=")
        return seconds, None
    values, wraps = unwrap(rows.stamps, WRAP, WRAP / 10)
    if wraps:
        notes.append(f"the 32-bit time stamp started again {wraps} times")
    guess = guess_tick(values)
    if tick:
        posix = bool(6e8 <= values[0] * TICKS[tick] <= 4.2e9)
    elif guess:
        tick, posix = guess
        notes.append(
            f"the time stamps are taken to be in {tick}{' of POSIX time' if posix else ''}, from their step"
        )
    else:
        raise DataError(
            f"{path}: its time stamps (from {values[0]:.12g} to {values[-1]:.12g}) are no seconds, ms, µs "
            "or ns at any rate from 5 to 2000 Hz: name the right column, or give the rate"
        )
    # From the first on: POSIX nanoseconds leave float64 no room for fractions.
    return (values - values[0]) * TICKS[tick], float(values[0] * TICKS[tick]) if posix else None


def _factor(
    path: Path,
    xyz: NDArray[np.float32],
    rate: float,
    scale: float | None,
    unit: str | None,
    head: list[str],
    notes: list[str],
) -> tuple[float, str]:
    """Return g per number in the file, and the unit that it is in."""
    if scale is None:
        # Our own boards' text says how many counts make a g.
        stated = re.search(r"^#.*\blsb_per_g=([0-9.]+)", "".join(head), re.MULTILINE)
        if stated and _is_number(stated.group(1)) and float(stated.group(1)) > 0:
            return 1 / float(stated.group(1)), "g"
    if unit is None and scale is None:
        unit = infer_unit(xyz, rate)
        if unit is None:
            size = float(np.median(np.linalg.norm(xyz[:100000], axis=1)))
            raise DataError(
                f"{path}: the unit cannot be told: its samples are about {size:.3g} in size, and gravity "
                "would be 1 g, 1000 mg or 9.81 m/s2: give units= or scale= (--units, --scale)"
            )
        notes.append(f"the unit is taken to be {unit}, from the size of gravity")
    return (scale or 1.0) * UNITS[unit or "g"], unit or "g"
