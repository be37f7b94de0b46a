"""A board for the tests: samples on a virtual serial port, by the clock or as fast as they are read."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from firmware_bridge import VirtualPort, encode
from firmware_bridge.player import PlayedBoard
from tests.signals import add_jerk, quiet

PIECE = 20
"""Samples that go out at once."""


def restless(seconds: float, rate: float = 100.0, seed: int = 0) -> np.ndarray:
    """Return a quiet person who jerks every eight seconds."""
    xyz = quiet(seconds, rate, seed)
    for at in range(round(10 * rate), len(xyz), round(8 * rate)):
        add_jerk(xyz, at, rate)
    return xyz


class Board(threading.Thread):
    """Play samples on a virtual port once somebody reads it.

    Parameters
    ----------
    xyz : ndarray, shape (n, 3)
        The samples, in g.
    rate : float
        What the board states.
    fmt : str
        Wire format.
    speed : float
        Times `rate` at which they go out; infinite for as fast as they are read.
    holes : dict
        How many samples are left out before which sample.
    link : path, optional
        A name for the port.
    """

    def __init__(
        self,
        xyz: np.ndarray,
        rate: float = 100.0,
        fmt: str = "hypnic",
        speed: float = np.inf,
        holes: dict[int, int] | None = None,
        link: Path | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.port = VirtualPort(link)
        self.path = str(link or self.port.path)
        self.sent = 0
        self._xyz, self._rate, self._fmt, self._speed = xyz, rate, fmt, speed
        self._holes = holes or {}
        self._over = threading.Event()

    def run(self) -> None:
        board = PlayedBoard(self.port, self._fmt, self._rate)
        # A port that is taken away, or that nobody reads any more, ends the play.
        with suppress(OSError):
            while not board.has_reader():
                if self._over.wait(0.01):
                    return
            board.introduce()
            begun, number = time.monotonic(), 0
            for at in range(0, len(self._xyz), PIECE):
                number += sum(lost for before, lost in self._holes.items() if at <= before < at + PIECE)
                piece = self._xyz[at : at + PIECE]
                due = begun + (number + len(piece)) / self._rate / self._speed
                if self._over.wait(max(0.0, due - time.monotonic())):
                    return
                self.port.send(encode(piece, self._fmt, self._rate, number), timeout=20.0)
                number += len(piece)
                self.sent += len(piece)

    def stop(self) -> None:
        """Stop playing and pull the plug."""
        self._over.set()
        self.port.close()
        self.join()

    def __enter__(self) -> Board:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
