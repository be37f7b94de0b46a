"""ActiGraph ``.gt3x``: a ZIP archive with ``info.txt`` and ``log.bin``, one record of samples a second.

Layout as ActiGraph documents it (GT3X-File-Format). A record whose checksum fails is a gap. In idle sleep mode a
device records nothing, or repeats the last sample: both are gaps here, not data. Firmware 2.5 and older wrote
``activity.bin`` (NHANES-GT3X-File-Format): the samples alone, without times or checksums.
"""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import DataError
from hypnic.readers.archive import members, open_archive, unpack
from hypnic.readers.base import Format
from hypnic.readers.blocks import (
    DAMAGED,
    LoggerRecording,
    choose_site,
    lay_out,
    read_at,
)

if TYPE_CHECKING:
    import zipfile

    from numpy.typing import NDArray

__all__ = ["FORMAT", "ActigraphRecording"]

SEPARATOR: Final = 0x1E
"""First byte of a record."""

FRAME: Final = 9
"""Bytes of a record beside its payload: separator, type, time, size, checksum."""

ACTIVITY: Final = 0
"""Record of samples, 12 bits a value, in the order y, x, z."""

ACTIVITY_2: Final = 26
"""Record of samples, 16 bits a value, in the order x, y, z."""

EVENT: Final = 3
"""Record of what happened to the device."""

ASLEEP: Final = 8
"""First byte of the event of going into idle sleep mode."""

LAST_TYPE: Final = 31
"""Highest type of record that is taken for one; 26 is the highest known."""

IDLE: Final = "idle sleep mode"
"""Reason of a gap: the device recorded nothing, for it had lain still."""

HELD_SECONDS: Final = 10
"""Records in a row without the least change that are idle sleep: it starts after 10 s of stillness (ActiGraph)."""

SLAB: Final = 8 << 20
"""Bytes scanned at a time; the longest record has 65544."""

SCALES: Final = {"NEO": 341.0, "MRA": 341.0, "CLE": 341.0, "MOS": 256.0, "TAS": 256.0}
"""Counts per g by the start of the serial number, where info.txt does not say (ActiGraph)."""

TICKS_OF_EPOCH: Final = 621_355_968_000_000_000
"""Tenths of a microsecond from the year 1 to 1970: the ticks of info.txt's dates (.NET)."""

INFO_SIZE: Final = 1 << 20
"""Bytes of info.txt that are read."""


def matches(path: Path, head: bytes) -> bool:
    """Tell a ``.gt3x`` file by the members of the archive."""
    if path.suffix.lower() == ".gt3x":
        return bool(head)
    if not head.startswith(b"PK"):
        return False
    try:
        with open_archive(path) as archive:
            samples = [*members(archive, "log.bin"), *members(archive, "activity.bin")]
            return bool(members(archive, "info.txt")) and bool(samples)
    except DataError:
        return False


def _info(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    found = members(archive, "info.txt")
    if not found:
        raise DataError(f"{path}: there is no info.txt in the archive, so no rate and no scale")
    with tempfile.TemporaryFile() as file:
        unpack(path, found[0], file)
        file.seek(0)
        text = file.read(INFO_SIZE).decode("utf-8-sig", "replace")
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _zone(info: dict[str, str]) -> timezone | None:
    found = re.fullmatch(r"(-?)(\d\d):(\d\d):\d\d", info.get("TimeZone", ""))
    if not found:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] else minutes)) if minutes < 1440 else None


def _scale(path: Path, info: dict[str, str]) -> float:
    """Return counts per g."""
    text = info.get("Acceleration Scale", "").replace(",", ".")
    try:
        value = float(text) if text else 0.0
    except ValueError:
        value = 0.0
    value = value if 0 < value < 1e6 else SCALES.get(info.get("Serial Number", "")[:3], 0.0)
    if not value:
        raise DataError(f"{path}: info.txt does not say the acceleration scale")
    return value


def _range(info: dict[str, str]) -> float | None:
    try:
        value = float(info.get("Acceleration Max", "").replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < 1000 else None


def _start(path: Path, info: dict[str, str]) -> int:
    """Return the local time (s) at which an old file starts."""
    ticks = info.get("Start Date", "")
    if not ticks.isdigit() or int(ticks) < TICKS_OF_EPOCH:
        raise DataError(f"{path}: info.txt does not say the start date")
    return (int(ticks) - TICKS_OF_EPOCH) // 10_000_000


def _even(path: Path, rate: float) -> int:
    """Return a rate of which a second fills whole bytes, as those of all ActiGraphs do."""
    if not (0 < rate <= 1000 and rate % 2 == 0):
        raise DataError(f"{path}: info.txt says {rate:g} Hz, which is no rate of an ActiGraph (30 to 100 Hz)")
    return int(rate)


class _Records:
    """The records of samples of a log, found in one pass over it."""

    def __init__(self) -> None:
        # A number of each for every second: compact ones.
        self.offset, self.size, self.kind, self.time = (array("q") for _ in range(4))
        self.held = bytearray()
        self.reasons: dict[int, str] = {}
        self.damaged = 0

    def scan(self, log: IO[bytes]) -> None:
        size = os.fstat(log.fileno()).st_size
        at = 0
        while at < size:
            data = os.pread(log.fileno(), SLAB, at)
            # The exclusive or of any stretch is that of two running ones.
            running = b"\0" + np.bitwise_xor.accumulate(np.frombuffer(data, np.uint8)).tobytes()
            used = self._scan_slab(at, data, running, at + len(data) >= size)
            at += used

    def _scan_slab(self, base: int, data: bytes, running: bytes, last: bool) -> int:
        """Take in the records of a slab; return where the next slab must begin."""
        place, end = 0, len(data)
        while place < end:
            if data[place] == SEPARATOR and place + FRAME <= end:
                payload = data[place + 6] | data[place + 7] << 8
                stop = place + FRAME + payload
                if stop > end and not last:
                    return place
                # With its checksum, the complement, a record has an exclusive or of 255.
                if (
                    stop <= end
                    and running[stop] ^ running[place] == 255
                    and data[place + 1] <= LAST_TYPE
                    and (stop == end or data[stop] in (SEPARATOR, 0))
                ):
                    self._take(base, data, place, payload)
                    place = stop
                    continue
            elif place + FRAME > end and not last:
                return place
            elif data[place] == 0:
                # Zeros between records are no damage (ActiGraph).
                place += 1
                continue
            self.damaged += 1
            self.reasons[len(self.offset)] = DAMAGED
            found = data.find(bytes([SEPARATOR]), place + 1)
            if found < 0:
                return end
            place = found
        return place

    def _take(self, base: int, data: bytes, place: int, payload: int) -> None:
        kind = data[place + 1]
        body = data[place + 8 : place + 8 + payload]
        if kind == EVENT and payload and body[0] == ASLEEP:
            self.reasons.setdefault(len(self.offset), IDLE)
        # A payload of one byte marks the docking of the device and holds no sample.
        if kind not in (ACTIVITY, ACTIVITY_2) or payload < 6:
            return
        self._add(base + place + 8, kind, int.from_bytes(data[place + 2 : place + 6], "little"), body)

    def _add(self, offset: int, kind: int, time: int, body: bytes) -> None:
        self.offset.append(offset)
        self.size.append(len(body))
        self.kind.append(kind)
        self.time.append(time)
        step = 9 if kind == ACTIVITY else 6
        self.held.append(len(body) > step and body[step:] == body[:-step] and _first_two_alike(kind, body))

    def scan_old(self, log: IO[bytes], start: int, rate: int) -> None:
        """Take in a file of samples alone: a second of them is a record, the first at `start`."""
        width = rate * 36 // 8
        log.seek(0)
        second = 0
        while len(body := log.read(width)) >= 5:
            self._add(second * width, ACTIVITY, start + second, body)
            second += 1

    def counts(self) -> NDArray[np.int64]:
        """Return the samples in each record: 36 bits each, or six bytes."""
        size, kind = np.array(self.size, np.int64), np.array(self.kind, np.int64)
        return np.where(kind == ACTIVITY, size * 8 // 36, size // 6)

    def awake(self) -> NDArray[np.bool]:
        """Tell the records that are measured from those that repeat one sample for 10 s and more."""
        held = np.concatenate([[False], np.frombuffer(self.held, bool), [False]])
        edges = np.flatnonzero(held[1:] != held[:-1]).reshape(-1, 2)
        awake = np.ones(len(self.held), bool)
        for low, high in edges.tolist():
            if high - low >= HELD_SECONDS:
                awake[low:high] = False
        return awake


def _first_two_alike(kind: int, body: bytes) -> bool:
    if kind == ACTIVITY_2:
        return True
    word = int.from_bytes(body[:9], "big")
    return word >> 36 == word & ((1 << 36) - 1)


class ActigraphRecording(LoggerRecording):
    """A ``.gt3x`` file of an ActiGraph.

    The log is unpacked to a temporary file, so that memory does not grow with its length.

    Parameters
    ----------
    path : path-like
        The file.
    rate : float, optional
        Sampling rate in Hz, in place of that of the file.
    site : {"wrist", "mattress"}, optional
        By default the wrist.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says.

    Raises
    ------
    DataError
        If the archive or what it says of itself is damaged, or there is no sound record of samples in it.
    UsageError
        If an option is none.
    """

    def _opened(self, path: Path) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix="hypnic-")

    def _find(
        self, path: Path, rate: float | None, site: str | None, start: datetime | None
    ) -> dict[str, Any]:
        notes: list[str] = []
        with open_archive(path) as archive:
            info = _info(path, archive)
            found = members(archive, "log.bin")
            old = [] if found else members(archive, "activity.bin")
            if not found and not old:
                raise DataError(f"{path}: there is neither log.bin nor activity.bin in the archive")
            if complaint := unpack(path, [*found, *old][0], self._handle):
                notes.append(complaint)
            if members(archive, "calibration.json"):
                notes.append("the calibration.json in the archive is not applied")
        try:
            nominal = float(info.get("Sample Rate", ""))
        except ValueError:
            raise DataError(f"{path}: info.txt does not say the sample rate") from None
        scale, zone = _scale(path, info), _zone(info)
        records = _Records()
        if old:
            records.scan_old(self._handle, _start(path, info), _even(path, nominal))
        else:
            records.scan(self._handle)
        count, awake = records.counts(), records.awake()
        reasons = {int(np.count_nonzero(awake[:at])): why for at, why in records.reasons.items()}
        for at in (np.flatnonzero(~awake[:-1] & awake[1:]) + 1).tolist():
            reasons.setdefault(int(np.count_nonzero(awake[:at])), IDLE)
        if records.damaged:
            notes.append(f"damaged records were passed over at {records.damaged} places")
        if not awake.all():
            notes.append(
                f"{np.count_nonzero(~awake)} s of idle sleep mode, in which the last sample is repeated, are gaps"
            )
        time = np.array(records.time, np.float64)[awake]
        self._offset, self._size, self._kind = (
            np.array(values, np.int64)[awake] for values in (records.offset, records.size, records.kind)
        )
        count = count[awake]
        layout = lay_out(path, time, count, nominal, rate=rate, resolution=1.0, reasons=reasons)
        if start is None and zone is None:
            notes.append("info.txt does not say its time zone: UTC is assumed")
        place = " ".join(info.get(name, "") for name in ("Side", "Limb")).strip()[:40]
        device = (info.get(name, "") for name in ("Device Type", "Serial Number"))
        return {
            "layout": layout,
            "counts": count,
            "factor": 1 / scale,
            "zone": zone,
            "local": True,
            "site": choose_site(site, place, notes),
            "scale": 1 / scale,
            "dtype": "int16",
            "range_g": _range(info),
            "sensor": " ".join(["ActiGraph", *" ".join(device).split()])[:80],
            "notes": notes,
        }

    def _decode(self, blocks: NDArray[np.int64]) -> NDArray[Any]:
        parts = []
        for at, size, kind in zip(
            self._offset[blocks].tolist(),
            self._size[blocks].tolist(),
            self._kind[blocks].tolist(),
            strict=True,
        ):
            body = np.frombuffer(read_at(self._handle, at, size, self.path), np.uint8)
            if kind == ACTIVITY_2:
                parts.append(body[: size // 6 * 6].view("<i2").reshape(-1, 3))
                continue
            digits = np.empty(2 * size, np.uint16)
            digits[0::2], digits[1::2] = body >> 4, body & 15
            n = size * 8 // 36
            packed = digits[: 9 * n].reshape(n, 3, 3)
            # Moved to the top of 16 bits to carry the sign; y comes before x.
            joined = (packed[:, :, 0] << 12) | (packed[:, :, 1] << 8) | (packed[:, :, 2] << 4)
            parts.append((joined.view(np.int16) >> 4)[:, [1, 0, 2]])
        return np.concatenate(parts)


FORMAT: Final = Format(
    "ActiGraph", (".gt3x",), matches, ActigraphRecording, frozenset({"rate", "site", "start"})
)
