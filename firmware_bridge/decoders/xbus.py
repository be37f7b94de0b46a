"""Movella (Xsens) Xbus, message MTData2: ``FA FF 36 LEN {id u16, length u8, data}* CS``, big-endian.

The sum of all bytes after FA, checksum included, is 0 modulo 256. Items read here: 1020 packet counter,
1060 time in 100 µs, 402y acceleration in m/s², whose low bits of y name the number format. Item numbers and
number formats are unverified: no device was at hand.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from firmware_bridge.decoders.base import STANDARD_GRAVITY, Continuity, Decoder, TicksAlone, Vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.decoders.base import Samples

__all__ = ["XbusDecoder", "encode"]

_PREAMBLE = b"\xfa\xff"
_MTDATA2 = 0x36
_EXTENDED = 0xFF
_MAX_DATA = 1024
_COUNTER, _TIME, _ACCELERATION = 0x1020, 0x1060, 0x4020
_QUATERNION = 0x2010
_FORMAT_MASK = 0x000F
_TIME_HZ = 10_000.0


class XbusDecoder(Decoder):
    """Decode Xbus.

    Notes
    -----
    The 8-bit sum is weak. So a message that does not follow another one directly is taken only when the
    preamble of a next message follows it.
    """

    name: ClassVar[str] = "xbus"
    bauds: ClassVar[tuple[int, ...]] = (115200, 921600)

    def __init__(self) -> None:
        super().__init__()
        self._by_counter = Continuity(1 << 16, 1 << 32)
        self._by_time = TicksAlone(1 << 32, _TIME_HZ)
        self._in_step = False
        self._quaternions = False

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost."""
        return type(self)()._inherit(self)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if not self._lacks_acceleration():
            return None
        what = "orientation (2010)" if self._quaternions else "messages"
        return f"the sensor sends {what} without acceleration: enable acceleration (4020) in its settings"

    def finish(self) -> Samples:
        """Return the sample in a last message that nothing follows."""
        size = self._size(self._tail, 0)
        if size and len(self._tail) >= size and self._is_message(self._tail, 0, size):
            self._take_message(self._tail, 0, size)
            self._tail = self._tail[size:]
        return self._take()

    @staticmethod
    def _size(data: bytes, at: int) -> int | None:
        """Return the size of the message at `at`, 0 where it is none, None where more bytes must tell."""
        if not _PREAMBLE.startswith(data[at : at + 2]):
            return 0
        if len(data) - at < 4:
            return None
        if data[at + 3] != _EXTENDED:
            return 5 + data[at + 3]
        if len(data) - at < 6:
            return None
        length = int.from_bytes(data[at + 4 : at + 6], "big")
        return 7 + length if length <= _MAX_DATA else 0

    @staticmethod
    def _is_message(data: bytes, at: int, size: int) -> bool:
        return sum(data[at + 1 : at + size]) & 255 == 0

    def _consume(self, data: bytes) -> None:
        data = self._tail + data
        at = 0
        while at < len(data):
            start = data.find(b"\xfa", at)
            if start != at:
                start = len(data) if start < 0 else start
                self._discard(start - at)
                self._in_step = False
                at = start
            size = self._size(data, at)
            if size is None:
                break
            if size:
                if len(data) - at < size + (0 if self._in_step else 2):
                    break
                whole = self._is_message(data, at, size)
                if whole and (self._in_step or data[at + size : at + size + 2] == _PREAMBLE):
                    self._take_message(data, at, size)
                    at += size
                    continue
                self.counters.bad_frames += not whole
            self._in_step = False
            self._discard(1)
            at += 1
        self._tail = data[at:]

    def _take_message(self, data: bytes, at: int, size: int) -> None:
        self._in_step = True
        self._accept(size)
        if data[at + 2] == _MTDATA2:
            start = at + (6 if data[at + 3] == _EXTENDED else 4)
            self._take_items(data[start : at + size - 1])

    def _take_items(self, payload: bytes) -> None:
        counter: int | None = None
        tick: int | None = None
        xyz: Vector | None = None
        at = 0
        while at + 3 <= len(payload):
            kind = int.from_bytes(payload[at : at + 2], "big")
            value = payload[at + 3 : at + 3 + payload[at + 2]]
            at += 3 + payload[at + 2]
            if kind == _COUNTER and len(value) == 2:
                counter = int.from_bytes(value, "big")
            elif kind == _TIME and len(value) == 4:
                tick = int.from_bytes(value, "big")
            elif kind & ~_FORMAT_MASK == _ACCELERATION:
                xyz = _vector(kind & 3, value)
                self.step_g = _STEPS[kind & 3]
            elif kind & ~_FORMAT_MASK == _QUATERNION:
                self._quaternions = True
        self.tick_hz = None if tick is None else _TIME_HZ
        self.counted = counter is not None
        if counter is not None:
            self._continuity = self._by_counter
            self._follow(counter, tick, xyz)
        elif tick is not None:
            self._continuity = self._by_time
            self._follow(-1, tick, xyz)
        elif xyz is not None:
            self._emit(xyz)


_SIZES = (12, 12, 18, 24)
_STEPS = (None, 2**-20 / STANDARD_GRAVITY, 2**-32 / STANDARD_GRAVITY, None)


def _vector(form: int, value: bytes) -> Vector | None:
    """Return three numbers in g; `form` 0 float32, 1 fixed 12.20, 2 fixed 16.32, 3 float64."""
    if len(value) != _SIZES[form]:
        return None
    if form == 0:
        numbers = struct.unpack(">fff", value)
    elif form == 1:
        numbers = tuple(n / 2**20 for n in struct.unpack(">iii", value))
    elif form == 2:
        parts = struct.unpack(">IhIhIh", value)
        numbers = tuple(parts[i + 1] + parts[i] / 2**32 for i in (0, 2, 4))
    else:
        numbers = struct.unpack(">ddd", value)
    x, y, z = (n / STANDARD_GRAVITY if math.isfinite(n) else math.nan for n in numbers)
    return x, y, z


def encode(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as MTData2 messages with counter, time and float32 acceleration."""
    out = []
    for number, values in enumerate((np.asarray(xyz, np.float64) * STANDARD_GRAVITY).tolist(), start):
        tick = round(number * 10_000 / rate) & 0xFFFFFFFF
        items = struct.pack(
            ">HBHHBIHBfff", _COUNTER, 2, number & 0xFFFF, _TIME, 4, tick, _ACCELERATION, 12, *values
        )
        message = bytes((0xFF, _MTDATA2, len(items))) + items
        out.append(b"\xfa" + message + bytes((-sum(message) & 255,)))
    return b"".join(out)
