"""A recording played as a board: samples onto a virtual port, in any wire format."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from cobs import cobs

from firmware_bridge.decoders.hypnic import COMMANDS, Ack, crc16, frame, header
from firmware_bridge.encoders import encode, introduce

if TYPE_CHECKING:
    from firmware_bridge.port import VirtualPort
    from hypnic.chunk import Chunk

__all__ = ["PlayedBoard"]

_BACKLOG: Final = 4096
_KNOCK_SECONDS: Final = 0.1
_KNOCKS: Final = 5
_MAX_COMMAND: Final = 64
_DONE, _UNKNOWN, _IMPOSSIBLE = 0, 1, 2


class PlayedBoard:
    """What the other end of a `VirtualPort` sees as a board.

    Parameters
    ----------
    port : VirtualPort
        Where to play.
    fmt : str
        Wire format, a key of `firmware_bridge.encoders.ENCODERS`.
    rate : float
        Sampling rate in Hz that the format states, where it states one.

    Attributes
    ----------
    sent, dropped : int
        Samples that went out, and samples for which there was no room because nobody read: a board does not
        wait. They go whole or not at all.

    Raises
    ------
    UsageError
        If the format is unknown.
    """

    def __init__(self, port: VirtualPort, fmt: str, rate: float) -> None:
        self._introduction = introduce(fmt, rate)
        self._port = port
        self._fmt = fmt
        self._rate = rate
        self._knocked = -math.inf
        self._knocks = 0
        self._lay = False
        self._backlog: deque[bytes] = deque()
        self._heard = b""
        self.sent = 0
        self.dropped = 0

    def has_reader(self) -> bool:
        """Tell whether somebody reads the port. Until then it says no more than its introduction."""
        # Bytes take a moment to reach the other end, where they lie until they are read. So a knock that is
        # not there has been read, or has not arrived yet; one of several would have.
        now = time.monotonic()
        if self._port.unread:
            self._lay = True
        elif self._lay:
            return True
        elif now - self._knocked > _KNOCK_SECONDS:
            if self._knocks == _KNOCKS:
                return True
            self._knocks += 1
            self._knocked = now
            self._port.write(self._introduction or b"\n")
        return False

    def introduce(self) -> None:
        """Say what comes before the first sample."""
        self._backlog.append(self._introduction)
        self._write()

    def play(self, chunk: Chunk) -> None:
        """Send samples, and answer what the other end has asked meanwhile.

        Lost samples show in formats with a counter or ticks, and otherwise as silence.
        """
        if self._fmt == "hypnic":
            self._answer()
        for at in range(len(chunk)):
            data = encode(chunk.xyz[at : at + 1], self._fmt, self._rate, chunk.index + at)
            self._write()
            if sum(map(len, self._backlog)) + len(data) > _BACKLOG:
                self.dropped += 1
            else:
                self._backlog.append(data)
                self.sent += 1
        self._write()

    def _write(self) -> None:
        while self._backlog:
            data = self._backlog[0]
            sent = self._port.write(data)
            if sent < len(data):
                self._backlog[0] = data[sent:]
                return
            self._backlog.popleft()

    def _answer(self) -> None:
        """Answer commands as PROTOCOL.md wants it; a recording's rate and range cannot be changed."""
        *parts, self._heard = (self._heard + self._port.read()).split(b"\0")
        self._heard = self._heard[-_MAX_COMMAND:]
        for part in parts:
            try:
                checked = cobs.decode(part)
            except cobs.DecodeError:
                continue
            body = checked[:-2]
            if len(body) < 2 or crc16(body) != int.from_bytes(checked[-2:], "little"):
                continue
            harmless = body[0] in (COMMANDS["PING"], COMMANDS["GET_INFO"], COMMANDS["START"])
            known = body[0] in COMMANDS.values()
            status = _DONE if harmless else _IMPOSSIBLE if known else _UNKNOWN
            self._backlog.append(frame(Ack(body[0], body[1], status, 0).body()))
            if harmless and body[0] != COMMANDS["PING"]:
                self._backlog.append(header(self._rate)[1:])
