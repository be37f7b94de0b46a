"""GENEActiv ``.bin``: text, a header and pages of 300 samples in hexadecimal, each with its own time.

Layout as Activinsights documents it in the GENEActiv data format note. A page that is not whole is a gap; the
sound rest stays. There is no checksum: damage that leaves valid digits cannot be told.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import DataError
from hypnic.readers.base import Format
from hypnic.readers.blocks import (
    DAMAGED,
    LoggerRecording,
    choose_site,
    lay_out,
    read_at,
)
from hypnic.readers.stamps import parse_stamps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMAT", "GeneactivRecording"]

PAGE_START: Final = b"Recorded Data"
"""First line of a page."""

PAGE_SAMPLES: Final = 300
"""Samples in a whole page."""

SAMPLE_DIGITS: Final = 12
"""Hexadecimal digits of a sample: x, y and z of 12 bits, light of 10, button and a spare bit."""

GAINS: Final = (12800.0, 51200.0)
"""Least and largest gain of an axis that is believed: half and twice 100 times the nominal 256 counts per g."""

LONGEST_PAGE: Final = 8192
"""Bytes within which a page must end; whole ones have about 3850."""

SLAB: Final = 4 << 20
"""Bytes scanned at a time."""

LONGEST_HEADER: Final = 65536
"""Bytes within which the first page must begin."""

RESOLUTION: Final = 0.001
"""Step of a page's time (s)."""

_PAGE: Final = re.compile(
    rb"Recorded Data\r?\n(?:[^\r\n]{0,200}\r?\n){1,4}?Page Time:(?P<time>[^\r\n]{0,40})\r?\n"
    rb"(?:[A-Z][^\r\n:]{0,200}:[^\r\n]{0,200}\r?\n){1,8}(?P<data>[0-9A-Fa-f]+)"
)


def matches(path: Path, head: bytes) -> bool:
    """Tell a GENEActiv file by its first line."""
    return head.startswith(b"Device Identity") or (path.suffix.lower() == ".bin" and PAGE_START in head)


def _header(path: Path, text: bytes) -> dict[str, str]:
    """Return the header's fields; of those that occur twice the first."""
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.replace("\0", " ").strip())
    return fields


def _number(path: Path, fields: dict[str, str], name: str) -> float:
    found = re.match(r"[-+]?\d+(?:\.\d+)?", fields.get(name, ""))
    if not found:
        raise DataError(f"{path}: its header does not say {name!r}, without which there is no acceleration")
    return float(found.group())


def _zone(fields: dict[str, str]) -> timezone | None:
    found = re.search(r"GMT\s*([+-])(\d\d):(\d\d)", fields.get("Time Zone", ""))
    if not found:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes)) if minutes < 1440 else None


def _pages(handle: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], list[bytes], dict[int, str]]:
    """Find the whole pages: where their digits are, samples in each, times as text, damage before them."""
    size = os.fstat(handle.fileno()).st_size
    offsets: list[int] = []
    counts: list[int] = []
    times: list[bytes] = []
    damaged: dict[int, str] = {}
    at = 0
    while at < size:
        data = os.pread(handle.fileno(), SLAB + LONGEST_PAGE, at)
        end = at + len(data) >= size
        place = data.find(PAGE_START)
        while 0 <= place < SLAB:
            found = _PAGE.match(data, place, place + LONGEST_PAGE)
            digits = len(found["data"]) if found else 0
            # The last page may have been cut; within the file, digits that are lost shift all that follow.
            last = end and found is not None and found.end() >= len(data.rstrip())
            if found and (digits == PAGE_SAMPLES * SAMPLE_DIGITS or (last and digits >= SAMPLE_DIGITS)):
                offsets.append(at + found.start("data"))
                counts.append(min(digits // SAMPLE_DIGITS, PAGE_SAMPLES))
                times.append(found["time"].strip()[:40])
            else:
                damaged[len(offsets)] = DAMAGED
            place = data.find(PAGE_START, place + len(PAGE_START))
        at += SLAB
    return np.array(offsets, np.int64), np.array(counts, np.int64), times, damaged


class GeneactivRecording(LoggerRecording):
    """A ``.bin`` file of a GENEActiv.

    The samples are counts with a gain and an offset for each axis, which the header gives; they are yielded in g.

    Parameters
    ----------
    path : path-like
        The file.
    rate : float, optional
        Sampling rate in Hz, in place of that of the time stamps.
    site : {"wrist", "mattress"}, optional
        By default the wrist.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says.

    Raises
    ------
    DataError
        If the header lacks the calibration, or there is no sound page.
    UsageError
        If an option is none.
    """

    def _find(
        self, path: Path, rate: float | None, site: str | None, start: datetime | None
    ) -> dict[str, Any]:
        head = os.pread(self._handle.fileno(), LONGEST_HEADER, 0)
        fields = _header(path, head.split(PAGE_START, 1)[0])
        # GENEActiv's own formula: g = (count * 100 - offset) / gain.
        gain = np.array([_number(path, fields, f"{axis} gain") for axis in "xyz"])
        shift = np.array([_number(path, fields, f"{axis} offset") for axis in "xyz"])
        if np.any(gain < GAINS[0]) or np.any(gain > GAINS[1]) or np.any(np.abs(shift) > gain):
            raise DataError(
                f"{path}: its header is damaged: gains {gain.tolist()} and offsets {shift.tolist()} cannot be"
            )
        nominal = _number(path, fields, "Measurement Frequency")
        offset, count, times, damaged = _pages(self._handle)
        # Milliseconds stand after a colon, and that is how parse_stamps reads them.
        seconds = parse_stamps(np.array(times, "S40"))[0] if times else np.empty(0)
        told = np.isfinite(seconds)
        # A page whose time is no time is as good as damaged: where it belongs is not known.
        numbers = np.flatnonzero(told)
        for at in [*damaged, *np.flatnonzero(~told).tolist()]:
            damaged[at] = DAMAGED
        reasons = {int(np.searchsorted(numbers, at)): DAMAGED for at in damaged}
        notes = []
        if damaged:
            notes.append(f"pages that are not whole were left out at {len(damaged)} places")
        zone = _zone(fields)
        layout = lay_out(
            path,
            seconds[told],
            count[told],
            nominal,
            rate=rate,
            resolution=RESOLUTION,
            reasons=reasons,
        )
        if start is None and zone is None:
            notes.append("the header does not say its time zone: UTC is assumed")
        self._offset, self._sizes = offset[told], count[told]
        found = re.search(r"to\s*\+?(\d+)", fields.get("Accelerometer Range", ""))
        device = (fields.get(name, "") for name in ("Device Type", "Device Unique Serial Code"))
        return {
            "layout": layout,
            "counts": self._sizes,
            "factor": 100.0 / gain,
            "shift": shift / 100.0,
            "zone": zone,
            "local": True,
            "site": choose_site(site, fields.get("Device Location Code", "")[:40], notes),
            "range_g": float(found[1]) if found and float(found[1]) > 0 else None,
            "sensor": " ".join(" ".join(device).split())[:80],
            "notes": notes,
        }

    def _decode(self, blocks: NDArray[np.int64]) -> NDArray[Any]:
        sizes = (self._sizes[blocks] * SAMPLE_DIGITS).tolist()
        places = self._offset[blocks].tolist()
        text = b"".join(
            read_at(self._handle, at, size, self.path) for at, size in zip(places, sizes, strict=True)
        )
        try:
            packed = np.frombuffer(bytes.fromhex(text.decode("ascii")), np.uint8)
        except ValueError:
            raise DataError(f"{self.path}: the file has changed while it was read") from None
        # Six bytes a sample; each 12 bits are moved to the top of 16 to carry the sign.
        raw = packed.reshape(-1, SAMPLE_DIGITS // 2).astype(np.uint16)
        x = (raw[:, 0] << 8) | (raw[:, 1] & 0xF0)
        y = (raw[:, 1] << 12) | (raw[:, 2] << 4)
        z = (raw[:, 3] << 8) | (raw[:, 4] & 0xF0)
        out: NDArray[Any] = np.stack([x, y, z], axis=1).view(np.int16) >> 4
        return out


FORMAT: Final = Format(
    "GENEActiv", (".bin",), matches, GeneactivRecording, frozenset({"rate", "site", "start"})
)
