"""A log of the bytes of a port and when they came, to decode them again later.

A log is one line, ``hypnic-raw v1`` and a JSON object with what is known of the stream (format, rate, site,
port), then records: arrival in POSIX seconds (float64), number of bytes (uint32), the bytes; all
little-endian. A record without bytes says that the port was lost there. A log whose last record is cut off
is read up to that record. Any other file is taken for bytes alone, without times.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hypnic.errors import DataError

__all__ = ["MAGIC", "RawLog", "read_log"]

MAGIC: Final = b"hypnic-raw v1 "
"""First bytes of a log."""

_RECORD = struct.Struct("<dI")
_MAX_HEADER = 4096
_MAX_RECORD = 1 << 24
_BLOCK = 4096
_FLUSH_EVERY = 1.0


class RawLog:
    """Write a log.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced.
    header : mapping
        What is known of the stream.

    Raises
    ------
    OSError
        If the file cannot be written; also from `write`.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115  closed by close()
        self._file.write(MAGIC + json.dumps(dict(header)).encode("ascii") + b"\n")
        self._flushed = -math.inf

    def write(self, arrival: float, data: bytes) -> None:
        """Add what was read at `arrival` (POSIX seconds); no bytes say that the port was lost."""
        self._file.write(_RECORD.pack(arrival, len(data)) + data)
        if not data or not 0 <= arrival - self._flushed < _FLUSH_EVERY:
            self._file.flush()
            self._flushed = arrival

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, Iterator[tuple[float, bytes]]]:
    """Return a log's header and its records.

    Returns
    -------
    header : dict or None
        What is known of the stream; None where the file is bytes alone.
    records : iterator of (float, bytes)
        Arrival in POSIX seconds (NaN where the file is bytes alone) and what was read.

    Raises
    ------
    DataError
        If the file is a log with a damaged header.
    OSError
        If it cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.readline(_MAX_HEADER)
    if not start.startswith(MAGIC):
        return None, _blocks(Path(path))
    try:
        header = json.loads(start[len(MAGIC) :])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise DataError(f"{os.fspath(path)} starts as a raw log but its first line is damaged")
    return header, _records(Path(path), len(start))


def _blocks(path: Path) -> Iterator[tuple[float, bytes]]:
    with path.open("rb") as file:
        while data := file.read(_BLOCK):
            yield math.nan, data


def _records(path: Path, start: int) -> Iterator[tuple[float, bytes]]:
    with path.open("rb") as file:
        file.seek(start)
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            arrival, size = _RECORD.unpack(head)
            if size > _MAX_RECORD:
                raise DataError(
                    f"{path} is damaged at byte {file.tell() - _RECORD.size}: a record of {size} bytes"
                )
            data = file.read(size)
            if len(data) < size:
                return
            yield arrival, data
