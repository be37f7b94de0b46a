"""Running figures of samples that describe a recording: extremes, steps, noise, runs of identical samples.

One sample after another in compiled code, so that they are the same however the samples are cut into chunks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hypnic.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Figures", "Tally"]

LAST, FIRST, SQUARES, LOW, HIGH = 0, 3, 6, 9, 12
"""Places in F of the axes' last samples, their first ones of the window, squared steps summed over it, extremes."""

NORM, STEP, LIMIT, FLOATS = 15, 16, 17, 18
"""Places of the summed sizes of the finite samples, the smallest step, and where clipping begins."""

FILL, RUN, FLAT, CLIPPED, INVALID, FINITE, WINDOW, FLAT_RUN, INTEGERS = range(9)
"""Places in N: samples of the window and the run so far; in long runs, clipped, not finite, finite; least lengths."""


class Figures(NamedTuple):
    """What the samples so far came to.

    Attributes
    ----------
    low, high : ndarray of float64, shape (3,)
        Extremes (g) of each axis, of the finite samples.
    norm : float
        Sum of the sizes (g) of the finite samples.
    step : float
        Smallest difference (g) but zero of an axis from one sample to the next; infinity where there is none.
    finite, invalid, clipped, flat : int
        Samples that are finite, and not; at the end of the range; in long runs of identical ones that have ended.
    """

    low: Floats
    high: Floats
    norm: float
    step: float
    finite: int
    invalid: int
    clipped: int
    flat: int


class Tally:
    """Figures over chunks; memory grows by three numbers for each window.

    Parameters
    ----------
    window : int
        Samples of a window whose noise is told, at least 2. Windows are counted from the begin of each stretch.
    flat_run : int
        Identical samples that make a run which counts, at least 2.
    limit : float
        Size (g) from which on a sample is clipped; infinity for none.
    """

    def __init__(self, window: int, flat_run: int, limit: float) -> None:
        self._window = window
        self._F, self._N = np.zeros(FLOATS), np.zeros(INTEGERS, np.int64)
        self._F[LAST : LAST + 3] = math.nan
        self._F[LOW : LOW + 3], self._F[HIGH : HIGH + 3] = math.inf, -math.inf
        self._F[STEP], self._F[LIMIT] = math.inf, limit
        self._N[RUN], self._N[WINDOW], self._N[FLAT_RUN] = 1, window, flat_run
        self._noise = [np.empty((0, 3))]
        self._short = [np.empty((0, 3))]

    def add(self, xyz: NDArray[np.float32]) -> None:
        """Take in samples in g, shape (n, 3), that follow those before."""
        noise = np.empty((len(xyz) // self._window + 1, 3))
        ended = take(self._F, self._N, np.ascontiguousarray(xyz, np.float32), noise)
        self._noise.append(noise[:ended].copy())

    def end_stretch(self) -> None:
        """Take note that what follows does not follow at once; the window that is open ends too, a short one."""
        noise = np.empty((1, 3))
        end(self._F, self._N, noise)
        self._short.append(noise)

    def noise(self) -> Floats:
        """Return the noise (g) of each axis in all windows, (n, 3); short ones count where there are no others.

        It is NaN where not all samples are finite, or there is only one.
        """
        windows = np.concatenate(self._noise)
        return windows if len(windows) else np.concatenate(self._short)

    def figures(self) -> Figures:
        """Return what the samples came to."""
        low, high = self._F[LOW : LOW + 3].copy(), self._F[HIGH : HIGH + 3].copy()
        counts = self._N[[FINITE, INVALID, CLIPPED, FLAT]].tolist()
        return Figures(low, high, float(self._F[NORM]), float(self._F[STEP]), *counts)


@jit
def take(F: Floats, N: Integers, xyz: NDArray[np.float32], noise: Floats) -> int:
    """Take in samples, (n, 3); put the noise of every window that ends in them into a row, and return how many do."""
    ended = 0
    for i in range(xyz.shape[0]):
        squares = size = 0.0
        same = finite = True
        for a in range(3):
            value = float(xyz[i, a])
            # To or from a sample that is not finite, or over a gap, it is NaN or infinite, and so is none.
            step = abs(value - F[LAST + a])
            F[LAST + a] = value
            same = same and step == 0.0
            finite = finite and math.isfinite(value)
            if 0.0 < step < F[STEP]:
                F[STEP] = step
            if N[FILL] == 0:
                F[FIRST + a] = value
                F[SQUARES + a] = 0.0
            else:
                F[SQUARES + a] += step * step
            squares += value * value
            size = max(size, abs(value))
        if finite:
            for a in range(3):
                F[LOW + a] = min(F[LOW + a], F[LAST + a])
                F[HIGH + a] = max(F[HIGH + a], F[LAST + a])
            F[NORM] += math.sqrt(squares)
            N[FINITE] += 1
            N[CLIPPED] += size >= F[LIMIT]
        else:
            N[INVALID] += 1
        if same:
            N[RUN] += 1
        else:
            _end_run(N)
        N[FILL] += 1
        if N[FILL] == N[WINDOW]:
            _end_window(F, N, noise, ended)
            ended += 1
    return ended


@jit
def end(F: Floats, N: Integers, noise: Floats) -> None:
    """End the run and the window that are open, whose noise goes into the first row of `noise`."""
    _end_run(N)
    _end_window(F, N, noise, 0)
    F[LAST] = F[LAST + 1] = F[LAST + 2] = math.nan


@jit
def _end_run(N: Integers) -> None:
    """End a run of identical samples; the next sample begins another one."""
    if N[RUN] >= N[FLAT_RUN]:
        N[FLAT] += N[RUN]
    N[RUN] = 1


@jit
def _end_window(F: Floats, N: Integers, noise: Floats, row: int) -> None:
    """End the window and put its noise into a row of `noise`, NaN where it has one sample or none.

    The standard deviation of white noise: that of the steps over the root of two.
    """
    steps = N[FILL] - 1
    N[FILL] = 0
    for a in range(3):
        if steps < 1:
            noise[row, a] = math.nan
            continue
        mean = (F[LAST + a] - F[FIRST + a]) / steps
        noise[row, a] = math.sqrt(max(F[SQUARES + a] / steps - mean * mean, 0.0) / 2.0)
