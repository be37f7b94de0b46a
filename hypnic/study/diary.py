"""The sleeper's diary: a table with one row a night, as people keep it in a spreadsheet.

A row says which night it is about by the date of its evening, or by the name of the recording's file. All other
columns are free: caffeine, stress, sleep the night before, exercise. Numbers stay numbers; words become categories.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from hypnic.errors import DataError

__all__ = ["Covariate", "Diary", "Entry", "read_diary"]

DATE_NAMES: Final = ("date", "night", "evening", "datum", "day")
FILE_NAMES: Final = ("file", "filename", "recording", "datei")
SUBJECT_NAMES: Final = ("subject", "participant", "participant_id", "sleeper")
NOTE_NAMES: Final = ("note", "notes", "comment", "comments", "remark", "remarks", "notiz", "notizen")
"""Columns of free text, which are left out."""

MISSING: Final = ("", "n/a", "na", "nan", "-", "?", "null")
"""What stands for a value that was not noted."""

MOST_LEVELS: Final = 6
"""Different words in a column beyond which it is taken for free text."""

LARGEST_DIARY: Final = 16 << 20
"""Bytes of a diary: a page of words for each of ten thousand nights."""

_NO: Final = ("no", "n", "false", "nein", "none", "never", "off")
"""Words that are the natural level to compare with."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""All of them but tab and the ends of lines."""

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")


class Entry(NamedTuple):
    """Which night a row of the diary is about.

    Attributes
    ----------
    line : int
        Line of the file, for messages.
    night : date or None
        The evening on which the night began.
    file : str
        Name of the recording's file, with or without its ending; empty where the date says it.
    subject : str
        Who slept; empty where the diary is about one person.
    """

    line: int
    night: date | None
    file: str
    subject: str


class Covariate(NamedTuple):
    """A column of the diary.

    Attributes
    ----------
    name : str
        Its heading.
    numbers : tuple of float
        One a row, NaN where nothing was noted; empty for a category.
    words : tuple of str
        One a row, empty where nothing was noted; no row at all for numbers.
    """

    name: str
    numbers: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers."""
        return not self.words

    def levels(self, rows: Sequence[int]) -> list[str]:
        """Return the words that occur in `rows`; the first is the one to compare with.

        It is a word for no, or else the most frequent one.
        """
        counts = Counter(self.words[row] for row in rows if self.words[row])
        return sorted(counts, key=lambda word: (word.lower() not in _NO, -counts[word], word))


@dataclass(frozen=True)
class Diary:
    """A diary.

    Attributes
    ----------
    path : Path
        Where it was read.
    entries : tuple of Entry
        Which night each row is about.
    covariates : dict of str to Covariate
        The other columns by name.
    notes : tuple of str
        What was left out, in plain sentences.
    """

    path: Path
    entries: tuple[Entry, ...]
    covariates: dict[str, Covariate]
    notes: tuple[str, ...] = ()


def read_diary(path: str | os.PathLike[str]) -> Diary:
    """Read a diary.

    Parameters
    ----------
    path : path-like
        Text with a line of headings, separated by comma, semicolon or tab, as spreadsheets save it: a byte order mark,
        decimal commas and Excel's line ``sep=;`` are understood. One column ``date`` (the evening on which the night
        began, as 2024-03-21 or 21.03.2024) or ``file``, if there are several sleepers ``subject``, the rest as you
        like. Columns called ``notes`` or ``comment`` are not read.

    Returns
    -------
    Diary

    Raises
    ------
    DataError
        If it is no such table: no date, a night twice, a date that can mean two days, a word among numbers.
    OSError
        If it cannot be opened.
    """
    file = Path(path)
    if file.stat().st_size > LARGEST_DIARY:
        raise DataError(f"{file}: longer than {LARGEST_DIARY >> 20} MiB, which no diary is")
    try:
        return _read(file)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _read(file: Path) -> Diary:
    names, rows = _table(_text(file.read_bytes()))
    keys = {
        kind: next((names.index(name) for name in known if name in names), None)
        for kind, known in (("date", DATE_NAMES), ("file", FILE_NAMES), ("subject", SUBJECT_NAMES))
    }
    if keys["date"] is None and keys["file"] is None:
        raise DataError(f"it has no column date and none called file, only {', '.join(names)[:80]}")
    entries = tuple(_entry(line, cells, keys) for line, cells in rows)
    _refuse_doubled(entries)
    covariates, notes = {}, []
    for at, name in enumerate(names):
        if at in keys.values() or name in NOTE_NAMES:
            continue
        values = [cells[at] for _, cells in rows]
        column = _column(name, values, [line for line, _ in rows])
        if isinstance(column, str):
            notes.append(column)
        else:
            covariates[name] = column
    if not covariates:
        raise DataError("it has no column to compare the nights by" + "".join(f"; {note}" for note in notes))
    return Diary(file, entries, covariates, tuple(notes))


def _text(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04") or data.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError("it is a workbook: save the sheet as CSV")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise DataError("it is not UTF-8 text: save it as CSV UTF-8") from None
    # No spreadsheet writes them, and what is said of the diary is printed on a terminal, which some of them steer.
    if odd := _CONTROL.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise DataError(f"line {line} holds a control character ({odd[0]!r}): it is not text, or damaged")
    return text


def _table(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the headings, in small letters, and the rows with their line numbers."""
    lines = text.splitlines()
    skip = 1 if lines and re.fullmatch(r"sep=.", lines[0].strip()) else 0
    header = next((line for line in lines[skip:] if line.strip(" ;,\t")), "")
    delimiter = max(";\t,", key=header.count)
    names: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if reader.line_num <= skip or not any(cells):
                continue
            if names:
                rows.append((reader.line_num, _fitted(reader.line_num, cells, names, delimiter)))
                continue
            while cells and not cells[-1]:
                cells.pop()
            names = [" ".join(cell.lower().split()) for cell in cells]
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} is no line of a table: {error}") from None
    if not names:
        raise DataError("it is empty: expected a line of headings")
    if "" in names:
        raise DataError(f"column {names.index('') + 1} has no heading")
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"two columns are called {doubled[0]}")
    if not rows:
        raise DataError("it has headings and no night")
    return names, rows


def _fitted(line: int, cells: list[str], names: list[str], delimiter: str) -> list[str]:
    if any(cells[len(names) :]):
        why = " (a decimal comma? then separate the columns by semicolons)" if delimiter == "," else ""
        raise DataError(f"line {line} has {len(cells)} cells for {len(names)} columns{why}")
    return [*cells, *[""] * (len(names) - len(cells))][: len(names)]


def _entry(line: int, cells: list[str], keys: dict[str, int | None]) -> Entry:
    def cell(kind: str) -> str:
        at = keys[kind]
        return "" if at is None or cells[at].lower() in MISSING else cells[at]

    when, name = cell("date"), cell("file")
    if not when and not name:
        raise DataError(f"line {line} does not say its night: a date is missing")
    if keys["subject"] is not None and not cell("subject"):
        raise DataError(f"line {line} does not say whose night it is: a subject is missing")
    return Entry(line, _date(when, line) if when else None, name, cell("subject"))


def _date(text: str, line: int) -> date:
    """Return a date; one that can mean two days is refused."""
    # A spreadsheet may have added the time of midnight.
    plain = re.sub(r"[T ]00:00(:00(\.0+)?)?$", "", text)
    iso = re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", plain) or re.fullmatch(
        r"(\d{4})(\d\d)(\d\d)", plain
    )
    dotted = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", plain)
    slashed = re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", plain)
    found = None
    if iso:
        found = int(iso[1]), int(iso[2]), int(iso[3])
    elif dotted:
        found = int(dotted[3]), int(dotted[2]), int(dotted[1])
    elif slashed:
        first, second, year = (int(part) for part in slashed.groups())
        if first <= 12 and second <= 12 and first != second:
            raise DataError(
                f"date {text!r} of line {line} can mean two days: write it as {year}-{first:02d}-{second:02d} "
                f"or {year}-{second:02d}-{first:02d}"
            )
        found = (year, first, second) if second > 12 else (year, second, first)
    try:
        if found:
            return date(*found)
    except ValueError:
        pass
    raise DataError(f"date {text!r} of line {line} is none: write it as 2024-03-21")


def _refuse_doubled(entries: Sequence[Entry]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for entry in entries:
        name = entry.file.lower() or f"the night of {entry.night}"
        key = name, entry.subject
        if key in seen:
            whose = f" of {entry.subject}" if entry.subject else ""
            raise DataError(f"{name}{whose} is there twice, in lines {seen[key]} and {entry.line}")
        seen[key] = entry.line


def _column(name: str, values: list[str], lines: list[int]) -> Covariate | str:
    """Return a column, or in words why it is left out.

    Raises
    ------
    DataError
        If it mixes numbers and words.
    """
    noted = [at for at, value in enumerate(values) if value.lower() not in MISSING]
    if not noted:
        return f"{name}: nothing is noted in it"
    numbers = [at for at in noted if _NUMBER.fullmatch(values[at])]
    if len(numbers) == len(noted):
        there = set(noted)
        return Covariate(
            name,
            numbers=tuple(
                float(v.replace(",", ".")) if at in there else math.nan for at, v in enumerate(values)
            ),
        )
    if numbers:
        odd = next(at for at in noted if at not in set(numbers))
        raise DataError(
            f"{name}: {values[odd][:40]!r} of line {lines[odd]} is no number, while {values[numbers[0]]!r} of line "
            f"{lines[numbers[0]]} is one: write all of them as numbers, or none"
        )
    # The same word with other capitals is the same word, as it was written first.
    first: dict[str, str] = {}
    for at in noted:
        first.setdefault(values[at].lower(), values[at])
    if len(first) > MOST_LEVELS:
        return f"{name}: {len(first)} different words, taken for free text and left out"
    return Covariate(name, words=tuple(first.get(value.lower(), "") for value in values))
