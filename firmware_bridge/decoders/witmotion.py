"""WitMotion's 11-byte frames: ``55 T d0..d7 SUM`` with T from 50 to 5F (WT901, WT61, BWT901CL).

SUM is the low byte of the sum of the ten bytes before it. T = 51 carries acceleration as three
little-endian int16, 32768 to 16 g. The format has no counter, so lost samples show only as damaged frames,
as a cycle of frames without its 51, or as time gone by.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar, Self

from firmware_bridge.decoders.base import Decoder, to_counts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.decoders.base import Samples

__all__ = ["LSB_PER_G", "WitMotionDecoder", "encode"]

LSB_PER_G = 2048
"""Counts per g, whatever range the sensor is set to."""

_SIZE = 11
_ACCELERATION = 0x51
_QUATERNION = 0x59
_AXES = struct.Struct("<hhh")


class WitMotionDecoder(Decoder):
    """Decode WitMotion's 11-byte frames.

    Notes
    -----
    The 8-bit sum is weak. So a frame that does not follow another one directly is taken only
    when the start of a next frame follows it.
    """

    name: ClassVar[str] = "witmotion"
    bauds: ClassVar[tuple[int, ...]] = (9600, 115200)

    def __init__(self) -> None:
        super().__init__()
        self.step_g = 1 / LSB_PER_G
        self._in_step = False
        self._since: set[int] = set()
        self._quaternions = False

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost."""
        return type(self)()._inherit(self)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if not self._lacks_acceleration():
            return None
        what = "quaternions (59)" if self._quaternions else "frames"
        return f"the sensor sends {what} without acceleration: enable its acceleration output (51)"

    def finish(self) -> Samples:
        """Return the sample in a last frame that nothing follows."""
        if len(self._tail) >= _SIZE and self._is_frame(self._tail, 0):
            self._take_frame(self._tail, 0)
            self._tail = self._tail[_SIZE:]
        return self._take()

    @staticmethod
    def _is_frame(data: bytes, at: int) -> bool:
        return data[at] == 0x55 and data[at + 1] >> 4 == 5 and sum(data[at : at + 10]) & 255 == data[at + 10]

    def _consume(self, data: bytes) -> None:
        data = self._tail + data
        at = 0
        while at < len(data):
            start = data.find(b"\x55", at)
            if start != at:
                start = len(data) if start < 0 else start
                self._discard(start - at)
                self._in_step = False
                at = start
            # Two bytes of the next frame vouch for the first one.
            if len(data) - at < _SIZE + (0 if self._in_step else 2):
                break
            whole = self._is_frame(data, at)
            if whole and (self._in_step or (data[at + 11] == 0x55 and data[at + 12] >> 4 == 5)):
                self._take_frame(data, at)
                at += _SIZE
                continue
            if data[at + 1] >> 4 == 5 and not whole:
                self.counters.bad_frames += 1
            self._in_step = False
            self._discard(1)
            at += 1
        self._tail = data[at:]

    def _take_frame(self, data: bytes, at: int) -> None:
        self._in_step = True
        self._accept(_SIZE)
        kind = data[at + 1]
        self._quaternions = self._quaternions or kind == _QUATERNION
        if kind == _ACCELERATION:
            self._since.clear()
            x, y, z = _AXES.unpack_from(data, at + 2)
            self._emit((x / LSB_PER_G, y / LSB_PER_G, z / LSB_PER_G))
        elif kind in self._since:
            # The cycle of frames has come round without its acceleration.
            self._skipped += 1
            self._since = {kind}
        else:
            self._since.add(kind)


def encode(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as 51 frames, without number or time."""
    out = []
    for x, y, z in to_counts(xyz, LSB_PER_G):
        body = b"\x55\x51" + _AXES.pack(x, y, z) + b"\x00\x08"
        out.append(body + bytes((sum(body) & 255,)))
    return b"".join(out)
