"""Our own frames, both ways, as PROTOCOL.md states them."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from cobs import cobs

from firmware_bridge.decoders.base import (
    INTRODUCTION_EVERY,
    Continuity,
    Decoder,
    printable,
    to_counts,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.decoders.base import Vector

__all__ = [
    "COMMANDS",
    "PROTOCOL_VERSION",
    "Ack",
    "HypnicDecoder",
    "Info",
    "Status",
    "command",
    "crc16",
    "encode",
    "frame",
    "header",
    "introduction",
    "sample_body",
]

PROTOCOL_VERSION: Final = 1

SAMPLE, INFO, STATUS, ACK = 1, 2, 3, 4

COMMANDS: Final = {
    "PING": 0x10,
    "GET_INFO": 0x11,
    "START": 0x12,
    "STOP": 0x13,
    "SET_RATE": 0x14,
    "SET_RANGE": 0x15,
}
"""Type byte of each command."""

LSB_PER_G: Final = 4096
"""Counts per g of encoded samples: ±8 g in steps of 0.24 mg."""

_MAX_FRAME = 128
_MAX_NAME = 24
_BOOT, _SAMPLING = 1, 2
_SAMPLE = struct.Struct("<BBHIhhh")
_CHECKED_SAMPLE = struct.Struct("<BBHIhhhH")
_INFO = struct.Struct("<BBBBHIIIIIH")
_STATUS = struct.Struct("<BBHIIIII")
_ACK = struct.Struct("<BBBBI")


def crc16(body: bytes) -> int:
    """Return the CRC-16/CCITT-FALSE of `body`."""
    return crc_hqx(body, 0xFFFF)


def frame(body: bytes) -> bytes:
    """Return `body` as it goes over the wire: its CRC appended, stuffed, with its ``00``."""
    return bytes(cobs.encode(body + crc16(body).to_bytes(2, "little"))) + b"\0"


def command(name: str, token: int, value: int = 0) -> bytes:
    """Return the wire bytes of a command.

    Parameters
    ----------
    name : str
        A key of `COMMANDS`.
    token : int
        0 to 255; the board copies it into its answer.
    value : int, optional
        ``SET_RATE``: mHz. ``SET_RANGE``: ± g.
    """
    body = bytes((COMMANDS[name], token & 0xFF))
    if name == "SET_RATE":
        body += value.to_bytes(4, "little")
    elif name == "SET_RANGE":
        body += value.to_bytes(1, "little")
    return frame(body)


def sample_body(seq: int, tick: int, raw: tuple[int, int, int], configuration: int = 0) -> bytes:
    """Return the body of a SAMPLE; `seq`, `tick` and `configuration` are wrapped to their width."""
    return _SAMPLE.pack(SAMPLE, (configuration & 15) << 4, seq & 0xFFFF, tick & 0xFFFFFFFF, *raw)


@dataclass(frozen=True, slots=True)
class Info:
    """What a board says about itself; fields and units as in PROTOCOL.md."""

    tick_hz: int
    rate_mhz: int
    scale_num: int
    scale_den: int
    range_g: int = 0
    firmware: int = 0
    uid: int = 0
    lowpass_dhz: int = 0
    sensor: str = ""
    board: str = ""
    boot: bool = False
    sampling: bool = True
    configuration: int = 0
    proto: int = PROTOCOL_VERSION

    @property
    def scale(self) -> float:
        """Acceleration of one count in g."""
        return self.scale_num / self.scale_den

    @property
    def rate(self) -> float:
        """Nominal sampling rate in Hz."""
        return self.rate_mhz / 1000

    def body(self) -> bytes:
        """Return the body of the frame."""
        flags = _BOOT * self.boot | _SAMPLING * self.sampling | (self.configuration & 15) << 4
        numbers = (self.firmware, self.uid, self.tick_hz, self.rate_mhz, self.scale_num, self.scale_den)
        head = _INFO.pack(INFO, flags, self.proto, self.range_g, *numbers, self.lowpass_dhz)
        names = [name.encode("ascii", "replace")[:_MAX_NAME] for name in (self.sensor, self.board)]
        return head + b"".join(bytes((len(name),)) + name for name in names)

    @staticmethod
    def parse(body: bytes) -> Info | None:
        """Return the INFO in `body`, or None where its lengths or values are impossible.

        Of another version of the protocol only the version is read.
        """
        if len(body) > 2 and body[2] != PROTOCOL_VERSION:
            return Info(0, 1, 1, 1, proto=body[2])
        if len(body) < _INFO.size + 2:
            return None
        names = []
        at = _INFO.size
        for _ in range(2):
            if at >= len(body) or body[at] > _MAX_NAME:
                return None
            names.append(printable(body[at + 1 : at + 1 + body[at]]))
            at += 1 + body[at]
        numbers = _INFO.unpack_from(body)
        flags, range_g, firmware, uid, tick_hz, rate_mhz, scale_num, scale_den, lowpass_dhz = (
            numbers[1],
            *numbers[3:],
        )
        if at != len(body) or not (rate_mhz and scale_num and scale_den):
            return None
        return Info(
            tick_hz=tick_hz,
            rate_mhz=rate_mhz,
            scale_num=scale_num,
            scale_den=scale_den,
            range_g=range_g,
            firmware=firmware,
            uid=uid,
            lowpass_dhz=lowpass_dhz,
            sensor=names[0],
            board=names[1],
            boot=bool(flags & _BOOT),
            sampling=bool(flags & _SAMPLING),
            configuration=flags >> 4,
        )


@dataclass(frozen=True, slots=True)
class Status:
    """A board's own counters, as in PROTOCOL.md."""

    rx_bad: int
    tick: int
    samples: int
    i2c_err: int
    tx_drop: int
    missed: int

    def body(self) -> bytes:
        """Return the body of the frame."""
        return _STATUS.pack(
            STATUS, 0, self.rx_bad, self.tick, self.samples, self.i2c_err, self.tx_drop, self.missed
        )


@dataclass(frozen=True, slots=True)
class Ack:
    """A board's answer to a command; `status` 0 is done."""

    cmd: int
    token: int
    status: int
    tick: int

    def body(self) -> bytes:
        """Return the body of the frame."""
        return _ACK.pack(ACK, self.cmd, self.token, self.status, self.tick)


class HypnicDecoder(Decoder):
    """Decode our own frames.

    Attributes
    ----------
    board : Info or None
        The last INFO.
    status : Status or None
        The last STATUS.
    acks : deque of Ack
        The last answers to commands.
    told : bool
        True while no answer has come since the last INFO: then `board` shows what the commands have done.
    """

    name: ClassVar[str] = "hypnic"
    bauds: ClassVar[tuple[int, ...]] = (115200,)

    def __init__(self) -> None:
        super().__init__()
        self.counted = True
        self.board: Info | None = None
        self.status: Status | None = None
        self.acks: deque[Ack] = deque(maxlen=16)
        self.told = True
        self._continuity = Continuity(1 << 16, 1 << 32)
        self._overlong = False
        self._scale: float | None = None
        self._configuration = 0

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost."""
        return type(self)()._inherit(self)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if self.board is not None and self.board.proto != PROTOCOL_VERSION:
            return (
                f"the board speaks version {self.board.proto} of the protocol, not 1: update one of the two"
            )
        return None

    def _consume(self, data: bytes) -> None:
        parts = (self._tail + data).split(b"\0")
        self._tail = parts.pop()
        for part in parts:
            if self._overlong or len(part) > _MAX_FRAME:
                self._overlong = False
                self._bad(len(part) + 1)
            elif part:
                self._part(part)
            else:
                self._discard(1)
        if len(self._tail) > _MAX_FRAME or (self._overlong and self._tail):
            self._discard(len(self._tail))
            self._tail = b""
            self._overlong = True

    def _bad(self, size: int) -> None:
        self.counters.bad_frames += 1
        self._discard(size)

    def _part(self, part: bytes) -> None:
        size = len(part) + 1
        try:
            checked = cobs.decode(part)
        except cobs.DecodeError:
            self._bad(size)
            return
        if len(checked) == _CHECKED_SAMPLE.size and checked[0] == SAMPLE:
            _, flags, seq, tick, x, y, z, crc = _CHECKED_SAMPLE.unpack(checked)
            if crc_hqx(checked[:-2], 0xFFFF) != crc:
                self._bad(size)
                return
            self._accept(size)
            scale = self._scale if flags >> 4 == self._configuration else None
            xyz = None if scale is None else (x * scale, y * scale, z * scale)
            self._follow(seq, tick if self.tick_hz else None, xyz)
            return
        body = checked[:-2]
        if not body or crc16(body) != int.from_bytes(checked[-2:], "little") or not self._other(body):
            self._bad(size)
        else:
            self._accept(size)

    def _other(self, body: bytes) -> bool:
        """Take a frame that is not a SAMPLE; False where its length or content is not that of its type."""
        kind = body[0]
        if kind == INFO:
            info = Info.parse(body)
            if info is not None:
                self._take_info(info)
            return info is not None
        if kind == STATUS and len(body) == _STATUS.size:
            self.status = Status(*_STATUS.unpack(body)[2:])
        elif kind == ACK and len(body) == _ACK.size:
            self.acks.append(Ack(*_ACK.unpack(body)[1:]))
            self.told = False
        else:
            return kind not in (SAMPLE, STATUS, ACK)
        return True

    def _take_info(self, info: Info) -> None:
        if info.boot:
            self._break()
        self.board = info
        self.told = True
        if info.proto != PROTOCOL_VERSION:
            self._scale = None
            return
        self._scale = info.scale
        self._configuration = info.configuration
        self.rate = info.rate
        self.tick_hz = float(info.tick_hz) if info.tick_hz else None
        self.step_g = info.scale
        self.lowpass_hz = info.lowpass_dhz / 10 if info.lowpass_dhz else None
        assert self._continuity is not None
        self._continuity.samples_per_tick = info.rate / info.tick_hz if info.tick_hz else None
        self.info = {
            "board": info.board,
            "sensor": info.sensor,
            "firmware": f"{info.firmware >> 8}.{info.firmware & 255}",
            "uid": f"{info.uid:08x}",
            "range_g": info.range_g,
            "rate": info.rate,
            "tick_hz": info.tick_hz,
            "lowpass_hz": info.lowpass_dhz / 10,
        }

    def _place(self, now: tuple[int, int | None], xyz: Vector | None, lost: int) -> None:
        super()._place(now, xyz, lost)
        if xyz is None:
            self.counters.unscaled += 1
            self._skipped += 1


def introduction(rate: float, lsb_per_g: int = LSB_PER_G) -> Info:
    """Return the INFO of a recording played as a board: ticks in microseconds, counts of 1/`lsb_per_g` g."""
    return Info(1_000_000, round(rate * 1000), 1, lsb_per_g, 32768 // lsb_per_g, board="replay")


def header(rate: float) -> bytes:
    """Return the INFO frame that makes the samples of `encode` readable."""
    return b"\0" + frame(introduction(rate).body())


def encode(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as a board would send them, INFO every 5 s, clipped to ±8 g.

    Parameters
    ----------
    xyz : ndarray, shape (n, 3)
        Acceleration in g.
    rate : float
        Sampling rate in Hz.
    start : int, optional
        Number of the first sample.
    """
    info = frame(introduction(rate).body())
    every = round(INTRODUCTION_EVERY * rate)
    out = []
    for number, (x, y, z) in enumerate(to_counts(xyz, LSB_PER_G), start):
        if number % every == 0:
            out.append(info)
        out.append(frame(sample_body(number, round(number * 1e6 / rate), (x, y, z))))
    return b"".join(out)
