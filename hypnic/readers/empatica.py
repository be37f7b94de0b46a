"""Empatica E4 ``ACC.csv``: start (POSIX s) three times, rate (Hz) three times, then counts of 1/64 g."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from hypnic.chunk import check_site
from hypnic.errors import DataError
from hypnic.readers.base import Format, MemoryRecording, parse_start
from hypnic.readers.rows import Shape, read_rows

__all__ = ["FORMAT", "open_empatica"]

SCALE: Final = 1 / 64
"""g per count: ±2 g in 8 bits (Empatica's note on its export; the E4's own unit is 1/64 g)."""

RANGE: Final = 2.0
"""Full scale in g."""


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
    return (start, rate) if start > 1e9 and 0 < rate <= 1000 else None


def matches(path: Path, head: bytes) -> bool:
    """Tell an E4 acceleration file by its first two lines."""
    return _facts(head) is not None


def open_empatica(
    path: str | os.PathLike[str], *, site: str = "wrist", start: datetime | str | None = None
) -> MemoryRecording:
    """Open an Empatica E4 ``ACC.csv``.

    Parameters
    ----------
    path : path-like
        The file.
    site : {"wrist", "mattress"}
        The E4 is a wristband; it may have lain elsewhere.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says.

    Raises
    ------
    DataError
        If it is no such file, or most of its lines are damaged.
    """
    path = Path(path)
    check_site(site)
    with path.open("rb") as handle:
        facts = _facts(handle.read(256))
    if facts is None:
        raise DataError(f"{path}: not an Empatica ACC.csv: start and rate, three times each, come first")
    moment = datetime.fromtimestamp(facts[0], UTC) if start is None else parse_start(start)[0]
    rows = read_rows(path, Shape(columns=(0, 1, 2), delimiter=",", first_line=3))
    notes = [rows.complaint] if rows.complaint else []
    xyz = np.multiply(rows.xyz, SCALE, dtype=np.float32)
    return MemoryRecording(
        path,
        xyz,
        rate=facts[1],
        site=site,
        start_time=moment,
        gaps=rows.gaps(),
        scale=SCALE,
        dtype="int16",
        range_g=RANGE,
        sensor="Empatica E4",
        units="g",
        notes=notes,
    )


FORMAT = Format("Empatica", (".csv",), matches, open_empatica, frozenset({"site", "start"}))
