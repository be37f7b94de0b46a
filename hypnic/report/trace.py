"""What the detector saw: band energy, background and threshold over time, read from the detector itself.

The event table says what was found, not what the trigger looked at. Here a detector runs over the recording again,
with the same settings and so to the same state, and what stands in that state is noted: every 0.1 s for the whole
recording, sample by sample in the windows that are asked for. Nothing is computed a second time.

Energies are told as their root, in g: of the three axes together, in the band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.chunk import Source
    from hypnic.settings import Settings

__all__ = ["Course", "Trace", "around", "length_of", "watch"]

FINE_BINS: Final = 300_000
"""Most bins of the energy over a recording: at 0.1 s they hold 8 h 20 min, longer recordings get wider ones."""

SLOW_BINS: Final = 30_000
"""Most bins of posture, background and threshold."""

EPOCH_S: Final = 5.0
"""Narrowest of those bins (s): posture is told from epochs of 5 s (van Hees 2015)."""

PIECE_BLOCKS: Final = 30
"""Blocks after which the state is read; it remembers `hypnic.layout.GRAVITY_BLOCKS`."""

FINEST_HZ: Final = 100.0
"""Readings a second within a window."""


BEFORE_S: Final = 2.0
AFTER_S: Final = 2.5
"""Seconds shown before an event's onset and after its end."""

LONGEST_S: Final = 20.0
"""Most seconds shown of an event."""


class Trace(NamedTuple):
    """One stretch of a recording, as it is and as the trigger saw it.

    Attributes
    ----------
    time : ndarray of float64, shape (n,)
        Seconds from the start of the recording.
    xyz : ndarray of float32, shape (n, 3)
        Acceleration (g), NaN where it is missing.
    level : ndarray of float64, shape (n,)
        Root of the smoothed band energy (g); on a mattress weighted by direction, as the trigger weighs it.
    background : ndarray of float64, shape (n,)
        Root of its running median (g), NaN until it is known.
    on, off : ndarray of float64, shape (n,)
        Level (g) that opens an event, and below which one dies away; NaN until the background is known.
    """

    time: NDArray[np.float64]
    xyz: NDArray[np.float32]
    level: NDArray[np.float64]
    background: NDArray[np.float64]
    on: NDArray[np.float64]
    off: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """A whole recording in bins; NaN in bins without samples.

    Attributes
    ----------
    width : float
        Seconds of a bin of `level`.
    level : ndarray of float32, shape (n,)
        Largest root of the band energy (g) of the 0.1 s blocks in the bin.
    epoch : float
        Seconds of a bin of the rest.
    gravity : ndarray of float32, shape (k, 3)
        Mean acceleration (g).
    background, on : ndarray of float32, shape (k,)
        As in `Trace`, of the last block in the bin.
    """

    width: float
    level: NDArray[np.float32]
    epoch: float
    gravity: NDArray[np.float32]
    background: NDArray[np.float32]
    on: NDArray[np.float32]


def around(event: np.void) -> tuple[float, float]:
    """Return the start and the end (s) of the stretch in which a row of the event table is shown."""
    onset = float(event["onset"])
    return onset - BEFORE_S, onset + min(float(event["duration"]) + AFTER_S, LONGEST_S)


def length_of(source: Source) -> float:
    """Return the length of a source (s), gaps counted.

    Raises
    ------
    UsageError
        If it has none: a board.
    """
    samples = getattr(source, "xyz", None)
    duration = len(samples) / source.rate if samples is not None else getattr(source, "duration", None)
    if duration is None or not math.isfinite(duration):
        raise UsageError("a source without an end has no whole that could be shown: record it first")
    return float(duration)


class _Levels:
    """The trigger's levels in a detector's state."""

    def __init__(self, detector: Detector) -> None:
        from hypnic.kernel import off_level

        self._off_level = off_level
        self._floats, self._integers = detector.arrays
        self._weighted = self._floats[at.P_WHITEN] > 0.0

    def read(self) -> tuple[float, float, float, float]:
        """Return level, background, on and off (g) at the newest sample."""
        floats = self._floats
        on, level = float(floats[at.S_ON]), math.sqrt(floats[at.S_ENERGY])
        if math.isinf(on):
            return level, math.nan, math.nan, math.nan
        if not self._weighted:
            # With all directions alike the floor of the plain energy holds for this one too.
            on = max(on, float(floats[at.S_FLOOR]))
        return level, math.exp(0.5 * floats[at.S_NOISE]), math.sqrt(on), math.sqrt(self._off_level(floats))

    def blocks(self, since: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends (samples) and the rows (gravity and energy) of the blocks after `since`, newest last."""
        integers = self._integers
        count, size = int(integers[at.I_BLOCKS]), int(integers[at.I_BLOCK])
        # After a break the blocks are counted anew.
        new = min(count - since if count >= since else count, at.GRAVITY_BLOCKS)
        places = np.arange(count - new, count)
        rows = self._floats[at.GRAVITY : at.GRAVITY + at.LANES * at.GRAVITY_BLOCKS].reshape(-1, at.LANES)
        end = integers[at.I_INDEX] - integers[at.I_BLOCK_FILL]
        return end - size * (count - 1.0 - places), rows[places % at.GRAVITY_BLOCKS]

    @property
    def count(self) -> int:
        return int(self._integers[at.I_BLOCKS])


class _Bins:
    """The course of a recording, growing."""

    def __init__(self, duration: float, rate: float, block: int) -> None:
        self.width = max(block / rate, duration / FINE_BINS)
        self.epoch = max(EPOCH_S, duration / SLOW_BINS)
        self.level = np.full(max(1, math.ceil(duration / self.width)), np.nan, np.float32)
        slow = max(1, math.ceil(duration / self.epoch))
        self.sums = np.zeros((slow, 3))
        self.counts = np.zeros(slow)
        self.background = np.full(slow, np.nan, np.float32)
        self.on = np.full(slow, np.nan, np.float32)

    def add(
        self,
        ends: NDArray[np.float64],
        rows: NDArray[np.float64],
        half: float,
        levels: tuple[float, float, float, float],
    ) -> None:
        """Take in blocks, from their ends and half their length (s)."""
        middle = ends - half
        fine = np.clip((middle / self.width).astype(np.int64), 0, len(self.level) - 1)
        np.fmax.at(self.level, fine, np.sqrt(rows[:, 3]).astype(np.float32))
        slow = np.clip((middle / self.epoch).astype(np.int64), 0, len(self.counts) - 1)
        np.add.at(self.sums, slow, rows[:, :3])
        np.add.at(self.counts, slow, 1.0)
        self.background[slow[-1]], self.on[slow[-1]] = levels[1], levels[2]

    def course(self) -> Course:
        with np.errstate(invalid="ignore"):
            gravity = (self.sums / self.counts[:, np.newaxis]).astype(np.float32)
        return Course(self.width, self.level, self.epoch, gravity, self.background, self.on)


class _Span:
    """One stretch that is noted sample by sample: a window, or several that overlap."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.xyz = np.full((last - first, 3), np.nan, np.float32)
        self.levels = np.full((last - first, 4), np.nan)

    def cut(self, first: int, last: int, rate: float) -> Trace:
        part = slice(first - self.first, last - self.first)
        level, background, on, off = self.levels[part].T
        return Trace(np.arange(first, last) / rate, self.xyz[part], level, background, on, off)


def watch(
    source: Source,
    windows: Sequence[tuple[float, float]] = (),
    *,
    settings: Settings | None = None,
    whole: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[Course | None, list[Trace]]:
    """Run a detector over a source and note what it saw.

    Parameters
    ----------
    source : Source
        A recording, or anything else that has an end.
    windows : sequence of (float, float), optional
        Starts and ends (s) of the stretches that are wanted sample by sample.
    settings : Settings, optional
        Thresholds; by default the preset of the site.
    whole : bool
        Whether the course of the whole is wanted; otherwise the run ends after the last window.
    progress : callable, optional
        Called with the number of samples done, lost ones counted.

    Returns
    -------
    course : Course or None
    traces : list of Trace
        One for each window, cut off at the ends of the recording.

    Raises
    ------
    UsageError
        If a window is none, or the source has no end.
    """
    duration, rate = length_of(source), source.rate
    total = round(duration * rate)
    edges = []
    for start, stop in windows:
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            raise UsageError(f"window from {start} to {stop} s is not one: use start < stop")
        edges.append(tuple(min(max(round(edge * rate), 0), total) for edge in (start, stop)))
    spans = _merge(edges)
    detector = Detector(rate, source.site, settings)
    levels = _Levels(detector)
    block = int(detector.arrays[1][at.I_BLOCK])
    bins = _Bins(duration, rate, block) if whole else None
    stride = max(1, round(rate / FINEST_HZ))
    end = total if whole else (spans[-1].last if spans else 0)
    for chunk in source:
        detector.gap(chunk.missing)
        if detector.index >= end:
            break
        for low, high, span in _pieces(chunk.index, chunk.index + len(chunk), spans, PIECE_BLOCKS * block):
            seen = levels.count
            for first in range(low, high, stride if span else high - low):
                last = min(first + (stride if span else high - low), high)
                part = chunk.xyz[first - chunk.index : last - chunk.index]
                detector.push_rows(part)
                if span:
                    span.xyz[first - span.first : last - span.first] = part
                    if np.isfinite(part[-1]).all():
                        span.levels[first - span.first : last - span.first] = levels.read()
            if bins is not None and levels.count != seen:
                ends, rows = levels.blocks(seen)
                # None is whole yet where the piece ends just after a break.
                if len(ends):
                    bins.add(ends / rate, rows, 0.5 * block / rate, levels.read())
        if progress is not None:
            progress(detector.index)
    return (bins.course() if bins else None), [
        next(span for span in spans if span.first <= first and last <= span.last).cut(first, last, rate)
        for first, last in edges
    ]


def _merge(edges: Sequence[tuple[int, ...]]) -> list[_Span]:
    """Return the stretches that windows (in samples) cover, in order."""
    joined: list[list[int]] = []
    for first, last in sorted(edges):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return [_Span(first, last) for first, last in joined]


def _pieces(
    begin: int, end: int, spans: Sequence[_Span], longest: int
) -> Iterator[tuple[int, int, _Span | None]]:
    """Split the samples from `begin` to `end` where stretches begin and end, and into pieces of at most `longest`."""
    edges = [(begin, None), (end, None)]
    for span in spans:
        if span.first < end and span.last > begin:
            edges += [(max(span.first, begin), None), (min(span.last, end), None)]
    places = sorted({place for place, _ in edges})
    for low, high in pairwise(places):
        inside = next((span for span in spans if span.first <= low and high <= span.last), None)
        for first in range(low, high, longest):
            yield first, min(first + longest, high), inside
