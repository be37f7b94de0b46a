"""What every simulated sensor shares: it is a source that gives its blocks in pieces of any size, at any speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from hypnic.chunk import Chunk, Site
from hypnic.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.mechanics import Grid, Motion

    Array = NDArray[np.float64]

__all__ = ["BLOCK_S", "Felt", "Played", "overlay", "sampled"]

BLOCK_S: Final = 60.0
"""Seconds computed at a time: the size of the memory a night needs, and of the wait for its first sample."""
_LIVE_S: Final = 0.1
"""Seconds of a chunk when playing live."""
_TAIL_S: Final = 0.15
"""Seconds added to an event for the anti-alias filter to settle."""

Felt = tuple[int, "Array", "Array"]
"""An event at a sensor: its first sample, its dynamic acceleration and its tilt, each (n, 3) in g."""


class Played:
    """A simulated sensor as a source of chunks; what it feels is up to those who inherit.

    Parameters
    ----------
    site : {"wrist", "mattress"}
        What it is fixed to.
    rate : float
        Nominal sampling rate in Hz.
    samples : int
        Length, lost samples included.
    start_time : float
        POSIX seconds of the first sample.
    speed : float or None
        Play in real time (1.0) or so many times faster; None is as fast as possible.
    clock, sleep : callable
        What tells the time and waits when playing.
    """

    def __init__(
        self,
        site: Site,
        rate: float,
        samples: int,
        start_time: float,
        speed: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.site: Site = site
        self.rate, self.samples, self.start_time, self.speed = rate, samples, start_time, speed
        self._clock, self._sleep = clock, sleep

    def _blocks(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield the samples of block after block and which of them arrived."""
        # The one thing that a simulated sensor must say for itself.
        raise NotImplementedError

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield the night in chunks of at most `size` samples, cut where samples are lost.

        Parameters
        ----------
        size : int
            Most samples in a chunk; chunks begin anew at its multiples.

        Raises
        ------
        UsageError
            If `size` is below 1.
        """
        if size < 1:
            raise UsageError(f"size {size} is below 1 sample: use 1 or more")
        return self._chunks(size)

    def _chunks(self, size: int) -> Iterator[Chunk]:
        expected = first = 0
        rows, arrived = np.empty((0, 3), np.float32), np.empty(0, bool)
        blocks = self._blocks()
        while first < self.samples:
            length = min(size, self.samples - first)
            parts = [(rows, arrived)]
            while sum(len(part) for part, _ in parts) < length:
                parts.append(next(blocks))
            if len(parts) > 1:
                rows = np.concatenate([part for part, _ in parts])
                arrived = np.concatenate([came for _, came in parts])
            edges = np.flatnonzero(np.diff(np.r_[False, arrived[:length], False])).reshape(-1, 2)
            for a, b in edges.tolist():
                index = first + a
                yield Chunk(rows[a:b].copy(), index, self.start_time + index / self.rate, index - expected)
                expected = first + b
            rows, arrived = rows[length:], arrived[length:]
            first += length

    def __iter__(self) -> Iterator[Chunk]:
        if self.speed is None:
            return self._chunks(round(BLOCK_S * self.rate))
        return self._live(self.speed)

    def _live(self, speed: float) -> Iterator[Chunk]:
        start = self._clock()
        for chunk in self._chunks(max(round(_LIVE_S * self.rate), 1)):
            due = start + (chunk.index + len(chunk)) / self.rate / speed
            wait = due - self._clock()
            if wait > 0:
                self._sleep(wait)
            yield chunk

    def xyz(self) -> NDArray[np.float32]:
        """Return the whole night, shape (samples, 3) in g, NaN where a sample was lost."""
        out = np.full((self.samples, 3), np.nan, np.float32)
        for chunk in self._chunks(round(BLOCK_S * self.rate)):
            out[chunk.index : chunk.index + len(chunk)] = chunk.xyz
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def overlay(
    events: Iterable[tuple[float, Callable[[], Felt]]], gravity: Array, samples: int, size: int
) -> Iterator[tuple[int, Array, Array]]:
    """Lay events over a posture, block after block.

    Parameters
    ----------
    events : iterable of (float, callable)
        Onset (in samples) of each event, in order, and what computes it when its turn has come.
    gravity : ndarray of float64, shape (3,)
        What the sensor reads at rest at the start, in g.
    samples : int
        Length of the night.
    size : int
        Samples of a block.

    Yields
    ------
    first : int
        Number of the block's first sample.
    gravity, dynamic : ndarray of float64, shape (n, 3)
        Gravity as the events turn it, and their dynamic acceleration, in g.
    """
    settled = gravity.copy()
    running: list[Felt] = []
    coming = iter(events)
    upcoming = next(coming, None)
    for first in range(0, samples, size):
        n = min(size, samples - first)
        while upcoming is not None and upcoming[0] < first + n:
            running.append(upcoming[1]())
            upcoming = next(coming, None)
        turned = np.repeat(settled[np.newaxis], n, axis=0)
        dynamic = np.zeros((n, 3))
        still_running = []
        for start, shake, tilt in running:
            stop = start + len(shake)
            a, b = max(start, first), min(stop, first + n)
            dynamic[a - first : b - first] += shake[a - start : b - start]
            turned[a - first : b - first] += tilt[a - start : b - start]
            turned[b - first :] += tilt[b - start - 1]
            if stop > first + n:
                still_running.append((start, shake, tilt))
            else:
                settled += tilt[-1]
        running = still_running
        yield first, turned, dynamic


def sampled(motion: Motion, grid: Grid, first: int, finer: int, corner: float | None) -> Felt:
    """Return an event as sampled behind the anti-alias filter.

    Parameters
    ----------
    motion : Motion
        The event on its fine grid.
    grid : Grid
        That grid.
    first : int
        Number of the sample at the grid's first point.
    finer : int
        Points of the grid to a sample.
    corner : float or None
        Corner of the second-order anti-alias filter in Hz, None where there is none.
    """
    both = np.concatenate([motion.dynamic, motion.tilt], axis=1)
    tail = np.zeros((math.ceil(_TAIL_S * grid.rate), 6))
    tail[:, 3:] = motion.tilt[-1]
    both = np.concatenate([both, tail])
    if corner is not None:
        from scipy.signal import butter, sosfilt

        both = sosfilt(butter(2, corner, fs=grid.rate, output="sos"), both, axis=0)
    both = both[::finer]
    # What is left of the filter's settling must not stay in the posture.
    both[-1, 3:] = motion.tilt[-1]
    return first, both[:, :3], both[:, 3:]
