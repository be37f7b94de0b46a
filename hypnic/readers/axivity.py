"""Axivity AX3 and AX6 ``.cwa``: 512-byte sectors, each with its own time and checksum.

Layout as Open Movement documents it (``cwa.h``, BSD-2-Clause, and the AX3/AX6 data format page). Only the
accelerometer is read. A sector whose checksum fails is a gap; the sound rest stays.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

import numpy as np

from hypnic.errors import DataError
from hypnic.readers.base import Format
from hypnic.readers.blocks import (
    DAMAGED,
    Layout,
    LoggerRecording,
    choose_site,
    lay_out,
    read_at,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMAT", "AxivityRecording"]

SECTOR: Final = 512
"""Bytes in a sector of data."""

HEADER: Final = 1024
"""Bytes before the first sector of data."""

HEADER_START: Final = b"MD\xfc\x03"
"""Mark and length of the header."""

SLAB: Final = 8192 * SECTOR
"""Bytes scanned at a time."""

SECTOR_DTYPE: Final = np.dtype(
    {
        "names": [
            *("mark", "fraction", "session", "sequence", "time", "light", "rate", "packing", "offset"),
            *("count", "payload"),
        ],
        "formats": ["<u4", "<u2", "<u4", "<u4", "<u4", "<u2", "u1", "u1", "<i2", "<u2", "V480"],
        "offsets": [0, 4, 6, 10, 14, 18, 24, 25, 26, 28, 30],
        "itemsize": SECTOR,
    }
)

SECTOR_MARK: Final = int.from_bytes(b"AX\xfc\x01", "little")
"""Mark and length of a sector of data."""

HARDWARE: Final = {0x00: "AX3", 0xFF: "AX3", 0x17: "AX3", 0x64: "AX6"}

PACKED: Final = 0
"""Low nibble of the packing: three 10-bit values and a common exponent in 32 bits; 2 stands for 16-bit values."""

TICK: Final = 1 / 32768
"""Step of a time stamp (s) with a fraction: 15 bits of a second."""


class _Kind(NamedTuple):
    """What must be the same in all sectors that are used."""

    rate: int
    packing: int
    unit: int


class _Sectors(NamedTuple):
    offset: NDArray[np.int64]
    stamp: NDArray[np.float64]
    samples: NDArray[np.int64]
    kind: _Kind
    reasons: dict[int, str]
    before: int
    after: int
    coarse: bool
    notes: list[str]


def matches(path: Path, head: bytes) -> bool:
    """Tell a ``.cwa`` file by its header or its first sector."""
    return head.startswith(HEADER_START) or head[HEADER : HEADER + 4] == b"AX\xfc\x01" or _named(path, head)


def _named(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".cwa" and bool(head)


def _frequency(code: Any) -> Any:
    """Return the rate (Hz) that a rate code stands for."""
    return 3200.0 / (1 << (15 - (np.asarray(code, np.int64) & 15)))


def _seconds(packed: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return the device's packed local time as seconds since 1970, NaN for what is no time."""
    fields = packed.astype(np.int64)
    year, month, day = 2000 + (fields >> 26), (fields >> 22) & 15, (fields >> 17) & 31
    hour, minute, second = (fields >> 12) & 31, (fields >> 6) & 63, fields & 63
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second < 60)
    months = (year - 1970) * 12 + np.where(valid, month, 1) - 1
    days = months.astype("M8[M]").astype("M8[D]").astype(np.int64) + day - 1
    return np.where(valid, days * 86400.0 + hour * 3600 + minute * 60 + second, np.nan)


def _capacity(packing: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many samples fit in a sector of a packing; 0 where it is none."""
    axes, width = packing.astype(np.int64) >> 4, packing & 15
    size = np.where(
        (width == PACKED) & (axes == 3), 4, np.where((width == 2) & np.isin(axes, (3, 6, 9)), 2 * axes, 0)
    )
    return np.where(size > 0, 480 // np.maximum(size, 1), 0)


def _scan(path: Path, handle: Any) -> _Sectors:
    """Find the sound sectors, in one pass over the file."""
    size = os.fstat(handle.fileno()).st_size
    parts: list[NDArray[np.void]] = []
    places: list[NDArray[np.int64]] = []
    bad: list[NDArray[np.int64]] = []
    kept = np.dtype([(name, SECTOR_DTYPE[name]) for name in SECTOR_DTYPE.names or () if name != "payload"])
    for at in range(HEADER, size, SLAB):
        data = os.pread(handle.fileno(), min(SLAB, size - at), at)
        raw = np.frombuffer(data, np.uint8, len(data) // SECTOR * SECTOR).reshape(-1, SECTOR)
        sectors = raw.view(SECTOR_DTYPE)[:, 0]
        # Sixteen-bit words of a sound sector sum up to zero. One that was never written is 0 or 0xff throughout.
        summed = raw.view("<u2").sum(axis=1, dtype=np.uint16) == 0
        fits = (sectors["count"] >= 1) & (sectors["count"] <= _capacity(sectors["packing"]))
        sound = (sectors["mark"] == SECTOR_MARK) & summed & fits & np.isfinite(_seconds(sectors["time"]))
        blank = (raw == raw[:, :1]).all(axis=1) & np.isin(raw[:, 0], (0, 255))
        index = (at - HEADER) // SECTOR + np.arange(len(raw))
        # Without the samples: a selection of columns would keep them.
        table = np.empty(np.count_nonzero(sound), kept)
        for name in kept.names or ():
            table[name] = sectors[name][sound]
        parts.append(table)
        places.append(index[sound])
        bad.append(index[~sound & ~blank])
        if len(data) % SECTOR:
            bad.append(np.array([(at - HEADER) // SECTOR + len(raw)]))
    if not parts or not sum(map(len, parts)):
        raise DataError(f"{path}: there is no sound block of samples in it")
    table, index, damaged = np.concatenate(parts), np.concatenate(places), np.concatenate(bad)
    kind, same = _main_kind(table)
    damaged = np.sort(np.concatenate([damaged, index[~same]]))
    table, index = table[same], index[same]
    notes = []
    if len(damaged):
        notes.append(
            f"{len(damaged)} of {len(damaged) + len(index)} blocks are damaged, the first at byte "
            f"{HEADER + int(damaged[0]) * SECTOR}"
        )
    if not same.all():
        notes.append(f"{np.count_nonzero(~same)} of them are sound but of another rate or range")
    stamp, coarse = _stamps(table)
    # A damaged sector is counted before the sound one that follows it; at the ends, time does not tell its length.
    follows = np.searchsorted(index, damaged)
    usual = int(np.median(table["count"]))
    return _Sectors(
        HEADER + index * SECTOR,
        stamp,
        table["count"].astype(np.int64),
        kind,
        {int(block): DAMAGED for block in np.unique(follows)},
        usual * int(np.count_nonzero(follows == 0)),
        usual * int(np.count_nonzero(follows == len(index))),
        coarse,
        notes,
    )


def _main_kind(table: NDArray[np.void]) -> tuple[_Kind, NDArray[np.bool]]:
    """Return what most sectors are, and which are it."""
    old = table["rate"] == 0
    code = np.where(old, table["offset"].astype(np.int64) << 8, table["rate"])
    joined = (code.astype(np.int64) << 16) | (table["packing"].astype(np.int64) << 8) | (table["light"] >> 13)
    values, counts = np.unique(joined, return_counts=True)
    main = int(values[np.argmax(counts)])
    return _Kind(main >> 16, main >> 8 & 255, main & 255), joined == main


def _stamps(table: NDArray[np.void]) -> tuple[NDArray[np.float64], bool]:
    """Return the time of each sector's first sample (s), and whether stamps are of whole samples alone."""
    old = table["rate"] == 0
    rate = np.where(old, np.maximum(table["offset"], 1), _frequency(table["rate"]))
    offset = np.where(old, 0, table["offset"]).astype(np.int64)
    # With a fraction, the offset is that of older firmware (samples since the whole second) and is taken back.
    fine = (table["fraction"] & 0x8000) > 0
    fraction = np.where(fine, (table["fraction"].astype(np.int64) & 0x7FFF) << 1, 0)
    offset += (fraction * rate.astype(np.int64)) >> 16
    return _seconds(table["time"]) + fraction / 65536 - offset / rate, not bool(fine.all())


class AxivityRecording(LoggerRecording):
    """A ``.cwa`` file of an Axivity AX3 or AX6.

    Parameters
    ----------
    path : path-like
        The file.
    rate : float, optional
        Sampling rate in Hz, in place of that of the time stamps.
    site : {"wrist", "mattress"}, optional
        By default the wrist.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says; its clock knows no zone.

    Raises
    ------
    DataError
        If there is no sound sector in it.
    UsageError
        If an option is none.
    """

    def _find(
        self, path: Path, rate: float | None, site: str | None, start: datetime | None
    ) -> dict[str, Any]:
        found = _scan(path, self._handle)
        notes = found.notes
        header = os.pread(self._handle.fileno(), HEADER, 0)
        if not header.startswith(HEADER_START):
            notes.append("the header is damaged: device and place are not known")
            header = b""
        nominal = float(_frequency(found.kind.rate)) if found.kind.rate < 256 else float(found.kind.rate >> 8)
        layout: Layout = lay_out(
            path,
            found.stamp,
            found.samples,
            nominal,
            rate=rate,
            resolution=1 / nominal if found.coarse else TICK,
            reasons=found.reasons,
            before=found.before,
            after=found.after,
        )
        if start is None:
            notes.append("the device's clock has no time zone: UTC is assumed")
        self._offset, self._packing = found.offset, found.kind.packing
        unit = 1 / (256 << found.kind.unit)
        code, accelerometer_alone = found.kind.rate, found.kind.packing >> 4 == 3
        range_g = float(16 >> (code >> 6)) if code < 256 and accelerometer_alone else 32768 * unit
        return {
            "layout": layout,
            "counts": found.samples,
            "factor": unit,
            "site": choose_site(site, _place(header), notes),
            "scale": unit,
            "dtype": "int16",
            "range_g": range_g,
            "sensor": _device(header),
            "notes": notes,
        }

    def _decode(self, blocks: NDArray[np.int64]) -> NDArray[Any]:
        raw = b"".join(read_at(self._handle, at, SECTOR, self.path) for at in self._offset[blocks].tolist())
        sectors = np.frombuffer(raw, SECTOR_DTYPE)
        payload = np.frombuffer(raw, np.uint8).reshape(-1, SECTOR)[:, 30:510]
        counts = sectors["count"].astype(np.int64)
        if self._packing & 15 == PACKED:
            words = np.ascontiguousarray(payload).view("<u4")
            # Ten bits each, the exponent in the top two; moved to the top of a 32-bit integer to carry the sign.
            axes = [((words << shift).view("<i4") >> 22) for shift in (22, 12, 2)]
            values = np.stack([axis << (words >> 30).view("<i4") for axis in axes], axis=2).astype(np.int16)
        else:
            values = np.ascontiguousarray(payload).view("<i2")
            width = self._packing >> 4
            values = values[:, : 240 // width * width].reshape(len(sectors), -1, width)
            # Six axes are the gyroscope's three first; nine have the magnetometer's three last.
            values = values[:, :, 3:6] if width >= 6 else values
        filled = np.arange(values.shape[1]) < counts[:, np.newaxis]
        out: NDArray[Any] = values[filled]
        return out


def _device(header: bytes) -> str:
    if not header:
        return "Axivity"
    model = HARDWARE.get(header[4], "")
    low, high = int.from_bytes(header[5:7], "little"), int.from_bytes(header[11:13], "little")
    return f"Axivity {model} {low | (0 if high == 0xFFFF else high) << 16}".replace("  ", " ")


def _place(header: bytes) -> str:
    """Return where the device was worn, by the remark that its software wrote (``_p=left+wrist``)."""
    text = header[64:512].replace(b"\xff", b" ").replace(b"\0", b" ").decode("latin-1").strip()
    return parse_qs(text, max_num_fields=None).get("_p", [""])[0][:40]


FORMAT: Final = Format("Axivity", (".cwa",), matches, AxivityRecording, frozenset({"rate", "site", "start"}))
