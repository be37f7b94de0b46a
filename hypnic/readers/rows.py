"""Rows of numbers from a text file, in blocks; a line that is none is skipped and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import DataError
from hypnic.readers.base import make_gaps
from hypnic.readers.stamps import parse_stamps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMMENTS", "Rows", "Shape", "read_rows"]

BLOCK: Final = 4 << 20
"""Characters parsed at a time."""

COMMENTS: Final = ("#", "%", "//")
"""Starts of a line that is a comment."""


@dataclass(frozen=True)
class Shape:
    """How the lines of a file are made.

    Attributes
    ----------
    columns : tuple of int
        Numbers of the columns x, y and z.
    delimiter : str or None
        What stands between columns; None for any white space.
    first_line : int
        Number of the first line of data, from 1.
    stamps : tuple of int
        Column of the time stamp, or columns of its date and its time; empty where there is none.
    text_stamps : bool
        Whether stamps are dates and times of day rather than numbers.
    decimal_comma : bool
        Whether 0,5 is a half.
    encoding : str
        Of the file.
    """

    columns: tuple[int, int, int]
    delimiter: str | None
    first_line: int = 1
    stamps: tuple[int, ...] = ()
    text_stamps: bool = False
    decimal_comma: bool = False
    encoding: str = "utf-8-sig"


@dataclass
class Rows:
    """What was read.

    Attributes
    ----------
    xyz : ndarray of float32, shape (n, 3)
        The numbers as they are in the file.
    stamps : ndarray of float64, shape (n,)
        Time stamps: seconds where they are text, else the numbers in the file; empty where there are none.
    lines : ndarray of int64, shape (n,)
        The line that each row came from.
    bad : ndarray of int64
        The lines that were skipped, comments and empty lines not counted.
    dated, zoned : bool
        Whether text stamps have a date, and a zone.
    complaint : str
        A sentence about the skipped lines; empty where there are none.
    """

    xyz: NDArray[np.float32]
    stamps: NDArray[np.float64]
    lines: NDArray[np.int64]
    bad: NDArray[np.int64]
    dated: bool
    zoned: bool
    complaint: str

    def gaps(self) -> NDArray[np.void]:
        """Return a gap table in which every skipped line is one missing sample: for files without stamps."""
        rows, missing = np.unique(np.searchsorted(self.lines, self.bad), return_counts=True)
        return make_gaps(rows, missing, "damaged line")


@dataclass
class _Parser:
    shape: Shape
    bad: list[int] = field(default_factory=list)
    first_bad: str = ""
    dated: bool = False
    zoned: bool = False

    def __post_init__(self) -> None:
        kind = "S64" if self.shape.text_stamps else "f8"
        self._dtype = np.dtype(
            [(f"t{at}", kind) for at in self.shape.stamps] + [(axis, "f8") for axis in "xyz"]
        )

    def parse(self, lines: list[str], numbers: NDArray[np.int64]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Yield (table, line numbers); where a line defies parsing, halve until it stands alone."""
        try:
            table = np.loadtxt(
                lines,
                dtype=self._dtype,
                delimiter=self.shape.delimiter,
                comments=None,
                quotechar='"',
                usecols=(*self.shape.stamps, *self.shape.columns),
                ndmin=1,
            )
            if len(table) != len(lines):
                raise ValueError("a quoted line break")
        except ValueError:
            if len(lines) > 1:
                half = len(lines) // 2
                yield from self.parse(lines[:half], numbers[:half])
                yield from self.parse(lines[half:], numbers[half:])
            else:
                self._reject(lines, numbers, np.ones(1, bool))
        else:
            yield table, numbers

    def convert(self, table: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        with np.errstate(over="ignore"):
            xyz = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float32)
        names = [f"t{at}" for at in self.shape.stamps]
        if not names:
            return xyz, np.zeros(len(xyz))
        if not self.shape.text_stamps:
            return xyz, table[names[0]]
        text = table[names[0]]
        for name in names[1:]:
            text = np.char.add(np.char.add(text, b" "), table[name])
        seconds, dated, zoned = parse_stamps(text)
        self.dated, self.zoned = self.dated or dated, self.zoned or zoned
        return xyz, seconds

    def _reject(self, lines: list[str], numbers: NDArray[np.int64], wrong: NDArray[np.bool]) -> None:
        for at in np.flatnonzero(wrong):
            self.first_bad = self.first_bad or f"line {numbers[at]}: {lines[at].strip()[:60]!r}"
            self.bad.append(int(numbers[at]))

    def sound(self, lines: list[str], numbers: NDArray[np.int64]) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (xyz, stamps, line numbers) of the rows that are whole and finite."""
        at = 0
        for table, where in self.parse(lines, numbers):
            xyz, stamps = self.convert(table)
            good = np.isfinite(xyz).all(axis=1) & np.isfinite(stamps)
            if not good.all():
                at = int(np.searchsorted(numbers, where[0]))
                self._reject(lines[at : at + len(where)], where, ~good)
            yield xyz[good], stamps[good], where[good]


def read_rows(path: Path, shape: Shape, within: Path | None = None) -> Rows:
    """Read the rows of `path`; in messages it is called `within` where it was unpacked from that.

    Raises
    ------
    DataError
        If more than half of the lines are no rows, or none is.
    """
    parser = _Parser(shape)
    parts: list[tuple[Any, Any, Any]] = []
    count = 0
    expected = ", ".join(str(column) for column in shape.columns)
    between = {None: "blanks", "\t": "tabs"}.get(shape.delimiter, repr(shape.delimiter))
    name = path if within is None else within
    with path.open(encoding=shape.encoding, errors="replace") as handle:
        for _ in range(shape.first_line - 1):
            handle.readline()
        at = shape.first_line
        while raw := handle.readlines(BLOCK):
            kept = [line.strip() != "" and not line.startswith(COMMENTS) for line in raw]
            numbers = at + np.flatnonzero(kept)
            lines = [line for line, keep in zip(raw, kept, strict=True) if keep]
            at += len(raw)
            if shape.decimal_comma:
                lines = [line.replace(",", ".") for line in lines]
            if lines:
                parts.extend(parser.sound(lines, numbers))
            count += len(lines)
            if len(parser.bad) * 2 > count or count == len(parser.bad):
                raise DataError(
                    f"{name}: {len(parser.bad)} of {count} lines are no samples, first {parser.first_bad} "
                    f"(expected numbers in columns {expected}, with {between} between them)"
                )
    if not parts:
        raise DataError(f"{name}: there are no samples in it")
    complaint = (
        f"{len(parser.bad)} damaged lines were skipped, first {parser.first_bad}" if parser.bad else ""
    )
    return Rows(
        xyz=np.concatenate([part[0] for part in parts]),
        stamps=np.concatenate([part[1] for part in parts]) if shape.stamps else np.empty(0),
        lines=np.concatenate([part[2] for part in parts]),
        bad=np.array(sorted(parser.bad), dtype=np.int64),
        dated=parser.dated,
        zoned=parser.zoned,
        complaint=complaint,
    )
