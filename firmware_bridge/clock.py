"""Device counters to POSIX time.

Bytes reach the host late and in bursts: the operating system, a USB bridge and the line each add a delay
that is never negative and often near its least. So a reading's arrival is no time stamp. Two clocks turn
what the board counts into time: `TickClock` where samples carry ticks, `SequenceClock` where they only can
be counted. Both give times that always increase, and say how far the arrivals scatter around them.

The delay of the fastest readings stays in both as a constant offset: it cannot be told from the two clocks'
offset without an answer from the board.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SequenceClock", "TickClock", "Unwrapper", "nominal_rate"]

WINDOW = 60.0
"""Seconds of arrivals that the tick clock is fitted to."""

HALF_LIFE = 90.0
"""Seconds after which an arrival counts half in the sequence clock."""

_BIN = 1.0
_MAX_DRIFT = 0.02
_MAX_DRIFT_LATER = 0.15
_LATER = 20.0
_SLOWEST = 0.5
_PRIOR_SECONDS = 3.0
_CLIP = 0.05

NOMINAL_RATES = (
    *(10.0, 20.0, 25.0, 26.0, 30.0, 31.25, 32.0, 40.0, 50.0, 52.0, 60.0, 62.5, 64.0, 75.0, 80.0),
    *(100.0, 104.0, 119.0, 125.0, 128.0, 200.0, 208.0, 238.0, 250.0, 256.0, 400.0, 416.0, 476.0),
    *(500.0, 512.0, 800.0, 833.0, 952.0, 1000.0),
)
"""Sampling rates (Hz) that sensors and sketches are usually set to."""


def nominal_rate(measured: float) -> float:
    """Return the usual rate within 2 % of `measured` (Hz), or `measured` to 0.1 Hz where there is none."""
    near = min(NOMINAL_RATES, key=lambda rate: abs(rate / measured - 1))
    return near if abs(near / measured - 1) <= 0.02 else round(measured, 1)


class Unwrapper:
    """Ticks that wrap to ticks that do not.

    Parameters
    ----------
    modulus : int
        Where the ticks wrap.

    Notes
    -----
    A step of more than one turn between two samples cannot be seen: 71.6 minutes for microseconds in 32 bits.
    """

    def __init__(self, modulus: int) -> None:
        self._modulus = modulus
        self._last: int | None = None

    def unwrap(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `ticks` counted on from the first one ever given."""
        if not len(ticks):
            return ticks
        last = int(ticks[0]) if self._last is None else self._last
        steps = ticks.copy()
        steps[0] -= last % self._modulus
        steps[1:] -= ticks[:-1]
        unwrapped: NDArray[np.int64] = last + (steps % self._modulus).cumsum()
        self._last = int(unwrapped[-1])
        return unwrapped


class _Increasing:
    """Keep times from standing still or going back, without steps: time runs at least at half its speed."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def keep(self, device: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `times` for the strictly increasing `device` seconds, corrected where needed."""
        slack = times - _SLOWEST * device
        if self._last is not None:
            slack[0] = max(slack[0], self._last[1] - _SLOWEST * self._last[0])
        kept: NDArray[np.float64] = np.maximum.accumulate(slack) + _SLOWEST * device
        self._last = float(device[-1]), float(kept[-1])
        return kept


class TickClock:
    """Time from ticks: the line under the delays of the last minute.

    Of the readings of each second only the one with the least delay counts. The fitted line is the edge of
    the lower convex hull of these points that spans their centre: it lies under all of them and as near to
    them as a line can (the linear program of Moon, Skelly and Towsley 1999).

    Parameters
    ----------
    tick_hz : float
        Ticks per second.
    modulus : int, optional
        Where the ticks wrap.
    window : float, optional
        Seconds of readings that are fitted.
    """

    def __init__(self, tick_hz: float, modulus: int = 1 << 32, window: float = WINDOW) -> None:
        self._tick_hz = tick_hz
        self._window = window
        self._unwrapper = Unwrapper(modulus)
        self._increasing = _Increasing()
        self._first_tick: int | None = None
        self._origin = math.nan
        self._points: deque[tuple[float, float]] = deque()
        self._least: tuple[float, float] | None = None
        self._bin = -1
        self._offset = math.inf
        self._slope = 0.0
        self._residual = math.nan
        self._last_device = -math.inf

    @property
    def residual(self) -> float:
        """Root mean square distance of the fastest readings from the line, in s; NaN in the first seconds."""
        return self._residual

    @property
    def drift(self) -> float:
        """Host seconds per device second, less one."""
        return self._slope

    def stamp(self, ticks: NDArray[np.int64], arrival: float) -> NDArray[np.float64]:
        """Return the POSIX seconds of each sample of one reading.

        Parameters
        ----------
        ticks : ndarray of int64, shape (n,)
            Ticks as sent.
        arrival : float
            POSIX seconds when the reading was complete.
        """
        if not len(ticks):
            return np.empty(0)
        unwrapped = self._unwrapper.unwrap(ticks)
        if self._first_tick is None:
            self._first_tick = int(unwrapped[0])
            self._origin = arrival
        device = (unwrapped - self._first_tick) / self._tick_hz
        self._observe(float(device[-1]), arrival - self._origin)
        # Equal ticks (a slow counter) still are different samples.
        steps = np.arange(len(device)) * 1e-6
        device = np.maximum.accumulate(np.maximum(device, self._last_device + 1e-6) - steps) + steps
        self._last_device = float(device[-1])
        times = self._origin + device + self._offset + self._slope * device
        return self._increasing.keep(device, times)

    def _observe(self, device: float, arrival: float) -> None:
        delay = arrival - device
        number = int(device / _BIN)
        if self._least is not None and number != self._bin:
            self._points.append(self._least)
            while self._points and self._points[0][0] < device - self._window:
                self._points.popleft()
            self._least = None
            self._fit()
        self._bin = number
        if self._least is None or delay < self._least[1]:
            self._least = device, delay
        # No reading can arrive before it was made: a faster one than all before moves the line at once.
        self._offset = min(self._offset, delay - self._slope * device)

    def _fit(self) -> None:
        points = list(self._points)
        hull: list[tuple[float, float]] = []
        for point in points:
            while len(hull) > 1 and _lies_above(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        if len(hull) < 2:
            return
        centre = sum(x for x, _ in points) / len(points)
        right = next(i for i in range(1, len(hull)) if hull[i][0] >= centre)
        (x0, y0), (x1, y1) = hull[right - 1], hull[right]
        slope = (y1 - y0) / (x1 - x0)
        # Few points can suggest anything; many may show a board that runs by an RC oscillator (10 % off).
        limit = _MAX_DRIFT_LATER if points[-1][0] - points[0][0] >= _LATER else _MAX_DRIFT
        self._slope = min(max(slope, -limit), limit)
        self._offset = min(y - self._slope * x for x, y in points)
        squares = [(y - self._offset - self._slope * x) ** 2 for x, y in points]
        self._residual = math.sqrt(sum(squares) / len(squares))


def _lies_above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Tell whether `b` lies on or above the line from `a` to `c`."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (c[0] - a[0]) * (b[1] - a[1])


class SequenceClock:
    """Time from the number of the sample: recursive least squares with forgetting.

    Each reading is one point: the number of its last sample against its arrival.

    Parameters
    ----------
    rate : float
        Nominal sampling rate in Hz: what the slope starts from.
    half_life : float, optional
        Seconds after which a reading counts half.
    """

    def __init__(self, rate: float, half_life: float = HALF_LIFE) -> None:
        self._rate = rate
        self._half_life = half_life
        self._increasing = _Increasing()
        self._origin = math.nan
        self._weight = 0.0
        self._mean_x = 0.0
        self._mean_y = 0.0
        self._sxx = 0.0
        self._sxy = 0.0
        self._variance = 0.0
        self._last_x = 0.0

    @property
    def residual(self) -> float:
        """Root mean square distance of the arrivals from the fitted line, in s; NaN in the first seconds."""
        return math.sqrt(self._variance) if self._weight > 1 else math.nan

    @property
    def drift(self) -> float:
        """Host seconds per nominal sample interval times the rate, less one."""
        return self._slope - 1

    @property
    def _slope(self) -> float:
        # The prior is worth as much as some seconds of one reading per nominal second.
        prior = _PRIOR_SECONDS**3 / 12
        slope = (self._sxy + prior) / (self._sxx + prior)
        return min(max(slope, 0.5), 2.0)

    def lateness(self, number: int, arrival: float) -> float:
        """Return how late (s) a reading is whose last sample has `number`; 0 for the first."""
        if not self._weight:
            return 0.0
        return arrival - self._origin - self._mean_y - self._slope * (number / self._rate - self._mean_x)

    def stamp(self, numbers: NDArray[np.int64], arrival: float) -> NDArray[np.float64]:
        """Return the POSIX seconds of each sample of one reading.

        Parameters
        ----------
        numbers : ndarray of int64, shape (n,)
            Numbers of the samples, increasing, lost samples counted.
        arrival : float
            POSIX seconds when the reading was complete.
        """
        if not len(numbers):
            return np.empty(0)
        device = numbers / self._rate
        if math.isnan(self._origin):
            self._origin = arrival - float(device[-1])
        self._observe(float(device[-1]), arrival - self._origin)
        line = self._mean_y + self._slope * (device - self._mean_x)
        return self._increasing.keep(device, self._origin + line)

    def _observe(self, x: float, y: float) -> None:
        if self._weight:
            late = y - (self._mean_y + self._slope * (x - self._mean_x))
            # One stall of the host must not bend the line.
            y -= late - min(max(late, -_CLIP), _CLIP)
        else:
            late = 0.0
        keep = 0.5 ** (max(0.0, x - self._last_x) / self._half_life)
        self._last_x = x
        self._sxx *= keep
        self._sxy *= keep
        self._weight = self._weight * keep + 1
        dx, dy = x - self._mean_x, y - self._mean_y
        self._mean_x += dx / self._weight
        self._mean_y += dy / self._weight
        self._sxx += dx * (x - self._mean_x)
        self._sxy += dx * (y - self._mean_y)
        self._variance += (late**2 - self._variance) / self._weight
