"""Other people's files, read as recordings.

A format is a `Format`: how to recognise a file, and how to open it. A new one enters with `register`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypnic.errors import DataError, UsageError
from hypnic.readers import actigraph, axivity, delimited, embraceplus, empatica, geneactiv
from hypnic.readers.base import BaseRecording, Format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["FORMATS", "BaseRecording", "Format", "open_recording", "register"]

FORMATS: Final[dict[str, Format]] = {}
"""Every known format by name. The one registered last is asked first."""

HEAD: Final = 65536
"""Bytes from the start of a file that a format may look at."""

HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"


def register(format: Format) -> None:
    """Make `format` known to `open_recording`; it is asked before those that were there."""
    FORMATS.pop(format.name, None)
    FORMATS[format.name] = format


def _is_hdf5(path: Path, head: bytes) -> bool:
    # HDF5 may start after a block of the user's own, of 512 bytes or a doubling of that.
    return any(head.startswith(HDF5_MAGIC, at) for at in (0, 512, 1024, 2048, 4096, 8192, 16384, 32768))


def _open_hdf5(path: Path, **options: Any) -> BaseRecording:
    from hypnic.recording import Recording

    return Recording(path, **options)


for _module in (delimited, empatica, embraceplus, geneactiv, actigraph, axivity):
    register(_module.FORMAT)
register(
    Format(
        "HDF5",
        (".h5", ".hdf5", ".hdf"),
        _is_hdf5,
        _open_hdf5,
        frozenset({"dataset", "rate", "scale", "units", "site", "start"}),
    )
)


def open_recording(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    columns: str | Sequence[str | int] | None = None,
    time_column: str | int | None = None,
    rate: float | None = None,
    scale: float | None = None,
    units: str | None = None,
    site: str | None = None,
    start: datetime | str | None = None,
) -> BaseRecording:
    """Open a recording of any known format, told from the file itself.

    Parameters
    ----------
    path : path-like
        The file; for some formats a folder of files.
    dataset : str, optional
        HDF5: name of the data set.
    columns : str or sequence, optional
        Text: names or numbers (from 0) of the columns x, y and z, or one text with commas between them.
    time_column : str or int, optional
        Text: name or number of the column of time stamps.
    rate : float, optional
        Sampling rate in Hz, where the file does not say.
    scale : float, optional
        Units per number in the file.
    units : {"g", "mg", "m/s2"}, optional
        What a number times `scale` is in.
    site : {"wrist", "mattress"}, optional
        Where the sensor was, where the file does not say.
    start : datetime or str, optional
        When the first sample was taken.

    Returns
    -------
    BaseRecording
        A `hypnic.recording.Recording` for HDF5, or the like of it.

    Raises
    ------
    DataError
        If the file is absent, of no known format, or cannot be read as a recording.
    UsageError
        If an option is none, or has no meaning for the format.
    """
    file = Path(path)
    head = b""
    if not file.is_dir():
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
        with file.open("rb") as handle:
            head = handle.read(HEAD)
    asked = [known for known in reversed(FORMATS.values()) if known.folders or not file.is_dir()]
    format = next((known for known in asked if known.matches(file, head)), None)
    if format is None:
        if file.is_dir():
            raise DataError(f"{file}: this is a folder, name a file in it")
        if not head:
            raise DataError(f"{file}: the file is empty")
        if head.startswith(b"hypnic-raw "):
            raise DataError(
                f"{file}: a log of a board's bytes, not a recording: hypnic replay makes one of it"
            )
        known = ", ".join(FORMATS)
        raise DataError(f"{file}: of no known format (known: {known}): export it as text or HDF5")
    values = {
        "dataset": dataset,
        "columns": columns,
        "time_column": time_column,
        "rate": rate,
        "scale": scale,
        "units": units,
        "site": site,
        "start": start,
    }
    given = {name: value for name, value in values.items() if value is not None}
    if strange := sorted(given.keys() - format.options):
        raise UsageError(f"{file}: {', '.join(strange)} means nothing for {format.name} files")
    return format.open(file, **given)
