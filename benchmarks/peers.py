"""Detectors that people would otherwise reach for, on the band-passed norm.

Each is given hypnic's own band, gaps filled by straight lines, and two numbers to choose: a threshold, and a
limit that keeps long movements from counting once for every stroke. The three characteristic functions of
obspy take the same windows: 0.3 s, about the length of a jerk, over 30 s, hypnic's own background.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hypnic.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["PEERS", "Findings", "Peer", "band_norm"]

SHORT, LONG = 0.3, 30.0
"""Windows of the averages (s)."""

HOLD = 0.3
"""Dips below the threshold up to this long (s) end no event: the norm of a swing dips twice a cycle."""

STEPS = 12
"""Thresholds on the grid."""

Findings = tuple["Array", "Array"]
"""Onsets and durations (s)."""


def band_norm(xyz: NDArray[np.float32], rate: float) -> Array:
    """Return the norm of the acceleration in the jerk band.

    Parameters
    ----------
    xyz : ndarray of float32, shape (n, 3)
        Acceleration in g, NaN where samples were lost.
    rate : float
        Sampling rate in Hz.

    Returns
    -------
    ndarray of float64, shape (n,)
        In g. Lost samples are taken from a straight line between their neighbours.
    """
    from scipy.signal import butter, sosfilt, sosfilt_zi

    band = Settings.preset("wrist")
    high = butter(2, band.band_low, "high", fs=rate, output="sos")
    low = butter(2, min(band.band_high, 0.4 * rate), "low", fs=rate, output="sos")
    sections = np.concatenate([high, low])
    there = ~np.isnan(xyz[:, 0])
    numbers = np.arange(len(xyz))
    square = np.zeros(len(xyz))
    for axis in range(3):
        course = xyz[:, axis].astype(np.float64)
        if not there.all():
            course = np.interp(numbers, numbers[there], course[there])
        square += sosfilt(sections, course, zi=sosfilt_zi(sections) * course[0])[0] ** 2
    return np.sqrt(square)


class Peer(NamedTuple):
    """One detector.

    Attributes
    ----------
    name : str
        As the tables call it.
    limit_name : str
        What its limit is.
    limits : tuple of float
        Limits to choose from (s).
    course : callable
        From the norm and the rate to the course that the threshold is for.
    thresholds : callable
        From the site to the thresholds to choose from, rising.
    peaks : bool
        Whether its events are peaks at least the limit apart, instead of spans above the threshold that are
        at most the limit long.
    """

    name: str
    limit_name: str
    limits: tuple[float, ...]
    course: Callable[[Array, float], Array]
    thresholds: Callable[[str], Array]
    peaks: bool = False

    def find(self, norm: Array, rate: float, site: str) -> dict[tuple[float, float], Findings]:
        """Return the onsets and durations (s) that each threshold and limit finds."""
        course = self.course(norm, rate)
        thresholds = self.thresholds(site).tolist()
        if self.peaks:
            return self._peaks(course, rate, thresholds)
        # Only what is above the lowest threshold can be above another.
        above = np.flatnonzero(course >= thresholds[0])
        height = course[above]
        findings = {}
        for threshold in thresholds:
            samples = above[height >= threshold]
            cuts = np.flatnonzero(np.diff(samples) > HOLD * rate)
            onset = samples[np.r_[0, cuts + 1]] / rate if len(samples) else np.empty(0)
            end = (samples[np.r_[cuts, -1]] + 1) / rate if len(samples) else np.empty(0)
            for limit in self.limits:
                short = end - onset <= limit
                findings[threshold, limit] = onset[short], (end - onset)[short]
        return findings

    def _peaks(
        self, course: Array, rate: float, thresholds: list[float]
    ) -> dict[tuple[float, float], Findings]:
        from scipy.signal import find_peaks

        findings = {}
        for limit in self.limits:
            # Which peaks stay depends only on higher ones: one search serves every threshold.
            peaks, _ = find_peaks(course, height=thresholds[0], distance=max(limit * rate, 1.0))
            for threshold in thresholds:
                onset = peaks[course[peaks] >= threshold] / rate
                findings[threshold, limit] = onset, np.zeros(len(onset))
        return findings


def _classic(norm: Array, rate: float) -> Array:
    from obspy.signal.trigger import classic_sta_lta

    return np.asarray(classic_sta_lta(norm, round(SHORT * rate), round(LONG * rate)))


def _recursive(norm: Array, rate: float) -> Array:
    from obspy.signal.trigger import recursive_sta_lta

    return np.asarray(recursive_sta_lta(norm, round(SHORT * rate), round(LONG * rate)))


def _z(norm: Array, rate: float) -> Array:
    from obspy.signal.trigger import z_detect

    # How far below zero quiet samples are depends on the night; a grid of ratios has to start there.
    course = np.asarray(z_detect(norm, round(SHORT * rate)))
    return np.asarray(course - course.min())


def _norm(norm: Array, rate: float) -> Array:
    return norm


def _amplitudes(site: str) -> Array:
    return np.geomspace(0.01, 0.5, STEPS) if site == "wrist" else np.geomspace(0.0015, 0.08, STEPS)


_LENGTHS = (np.inf, 2.0, 1.0, 0.7, 0.5)
_LONGEST, _APART = "longest event (s)", "least distance of peaks (s)"

PEERS = (
    Peer("obspy classic STA/LTA", _LONGEST, _LENGTHS, _classic, lambda site: np.geomspace(2.0, 80.0, STEPS)),
    Peer(
        "obspy recursive STA/LTA", _LONGEST, _LENGTHS, _recursive, lambda site: np.geomspace(2.0, 80.0, STEPS)
    ),
    Peer("obspy z_detect", _LONGEST, _LENGTHS, _z, lambda site: np.geomspace(0.003, 10.0, STEPS)),
    Peer("scipy find_peaks", _APART, (0.5, 2.0, 5.0, 15.0), _norm, _amplitudes, peaks=True),
    Peer("fixed threshold", _LONGEST, _LENGTHS, _norm, _amplitudes),
)
"""Every peer."""
