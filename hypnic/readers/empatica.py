"""Empatica E4 ``ACC.csv``: start (POSIX s) three times, rate (Hz) three times, then counts of 1/64 g.

The file alone, or in the folder or ZIP archive of a session. Its samples are held in memory.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from hypnic.chunk import check_site
from hypnic.errors import DataError
from hypnic.readers.archive import members, open_archive, unpacked
from hypnic.readers.base import Format, MemoryRecording, parse_start
from hypnic.readers.rows import Shape, read_rows

__all__ = ["FORMAT", "open_empatica"]

SCALE: Final = 1 / 64
"""g per count: ±2 g in 8 bits (Empatica's note on its export; the E4's own unit is 1/64 g)."""

RANGE: Final = 2.0
"""Full scale in g."""

LARGEST_COUNT: Final = 128
"""Size of a count beyond which a line is damaged: the sensor has 8 bits."""

EARLIEST, LATEST = 1e9, 1e11
"""POSIX seconds between which a session starts: 2001, before there was an E4, and the year 5138."""

NAME: Final = "ACC.csv"
"""The file of acceleration in a session."""


def _facts(head: bytes) -> tuple[float, float] | None:
    """Return start and rate from the first two lines, or None where they are not such."""
    values = []
    for line in head.split(b"\n", 2)[:2]:
        try:
            fields = [float(field) for field in line.split(b",")]
        except ValueError:
            return None
        if len(fields) != 3 or len(set(fields)) != 1 or not math.isfinite(fields[0]):
            return None
        values.append(fields[0])
    start, rate = values if len(values) == 2 else (0.0, 0.0)
    return (start, rate) if EARLIEST < start < LATEST and 0 < rate <= 1000 else None


def matches(path: Path, head: bytes) -> bool:
    """Tell an E4 acceleration file by its first two lines, a session by the file in it."""
    if path.is_dir():
        return (path / NAME).is_file()
    if head.startswith(b"PK"):
        try:
            with open_archive(path) as archive:
                return bool(members(archive, NAME))
        except DataError:
            # Let it be said what is wrong with it.
            return path.suffix.lower() == ".zip"
    return _facts(head) is not None


def open_empatica(
    path: str | os.PathLike[str], *, site: str = "wrist", start: datetime | str | None = None
) -> MemoryRecording:
    """Open the acceleration of an Empatica E4: ``ACC.csv``, or the folder or ZIP archive of a session.

    Parameters
    ----------
    path : path-like
        The file, folder or archive.
    site : {"wrist", "mattress"}
        The E4 is a wristband; it may have lain elsewhere.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says.

    Raises
    ------
    DataError
        If it is no such file, most of its lines are damaged, or the archive is.
    """
    path = Path(path)
    check_site(site)
    moment = None if start is None else parse_start(start)[0]
    if path.is_dir():
        return _open(path / NAME, path / NAME, site, moment, [])
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"PK"
    if not zipped:
        return _open(path, path, site, moment, [])
    with open_archive(path) as archive:
        found = members(archive, NAME)
        if len(found) != 1:
            raise DataError(f"{path}: {len(found)} files {NAME} in the archive: expected one")
        with unpacked(path, found[0]) as (file, complaint):
            return _open(file, path, site, moment, [complaint] if complaint else [])


def _open(file: Path, path: Path, site: str, moment: datetime | None, notes: list[str]) -> MemoryRecording:
    """Open the text in `file`, which the caller knows as `path`."""
    with file.open("rb") as handle:
        facts = _facts(handle.read(256))
    if facts is None:
        raise DataError(f"{path}: not an Empatica ACC.csv: start and rate, three times each, come first")
    rows = read_rows(file, Shape(columns=(0, 1, 2), delimiter=",", first_line=3), path)
    if rows.complaint:
        notes.append(rows.complaint)
    beyond = (np.abs(rows.xyz) > LARGEST_COUNT).any(axis=1)
    if beyond.any():
        notes.append(f"{np.count_nonzero(beyond)} lines with more than 8 bits are no samples of an E4")
        rows.bad = np.sort(np.concatenate([rows.bad, rows.lines[beyond]]))
        rows.xyz, rows.lines = rows.xyz[~beyond], rows.lines[~beyond]
    xyz = np.multiply(rows.xyz, SCALE, dtype=np.float32)
    return MemoryRecording(
        path,
        xyz,
        rate=facts[1],
        site=site,
        start_time=datetime.fromtimestamp(facts[0], UTC) if moment is None else moment,
        gaps=rows.gaps(),
        scale=SCALE,
        dtype="int16",
        range_g=RANGE,
        sensor="Empatica E4",
        units="g",
        notes=notes,
    )


FORMAT = Format(
    "Empatica", (".csv", ".zip"), matches, open_empatica, frozenset({"site", "start"}), folders=True
)
