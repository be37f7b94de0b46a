"""WitMotion's combined frames, 20 bytes: ``55 61`` and nine little-endian int16 (Bluetooth LE, USB-C).

The first three are acceleration, 32768 to 16 g. There is no checksum and no counter: a damaged byte inside
a frame cannot be seen, a missing one can.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar, Self

from firmware_bridge.decoders.base import Decoder, to_counts
from firmware_bridge.decoders.witmotion import LSB_PER_G

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.decoders.base import Samples

__all__ = ["WitMotionCombinedDecoder", "encode"]

_SIZE = 20
_AXES = struct.Struct("<hhh")
_DATA = b"\x55\x61"
_HEADS = (_DATA, b"\x55\x71")


class WitMotionCombinedDecoder(Decoder):
    """Decode WitMotion's combined frames.

    Notes
    -----
    In place of a checksum stands the spacing of the headers. Three headers 20 bytes apart start
    the decoding, and every frame must be followed by a header (61, or 71 for the answer to a register read)
    to be taken.
    """

    name: ClassVar[str] = "witmotion-combined"
    bauds: ClassVar[tuple[int, ...]] = (115200,)

    def __init__(self) -> None:
        super().__init__()
        self.step_g = 1 / LSB_PER_G
        self._in_step = False

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost."""
        return type(self)()._inherit(self)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if self._lacks_acceleration():
            return "the sensor sends register answers (55 71) but no acceleration (55 61)"
        return None

    def finish(self) -> Samples:
        """Return the sample in a last frame that nothing follows."""
        if self._in_step and len(self._tail) >= _SIZE and self._tail[:2] in _HEADS:
            self._take_frame(self._tail, 0)
            self._tail = self._tail[_SIZE:]
        return self._take()

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
            headers = 2 if self._in_step else 3
            if len(data) - at < _SIZE * (headers - 1) + 2:
                break
            heads = [data[at + _SIZE * i : at + _SIZE * i + 2] for i in range(headers)]
            if all(head in _HEADS for head in heads):
                self._take_frame(data, at)
                at += _SIZE
                continue
            if self._in_step:
                self.counters.bad_frames += 1
                self._in_step = False
            self._discard(1)
            at += 1
        self._tail = data[at:]

    def _take_frame(self, data: bytes, at: int) -> None:
        self._in_step = True
        self._accept(_SIZE)
        if data[at : at + 2] == _DATA:
            x, y, z = _AXES.unpack_from(data, at + 2)
            self._emit((x / LSB_PER_G, y / LSB_PER_G, z / LSB_PER_G))


def encode(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as 61 frames without rotation, number or time."""
    return b"".join(_DATA + _AXES.pack(*counts) + bytes(12) for counts in to_counts(xyz, LSB_PER_G))
