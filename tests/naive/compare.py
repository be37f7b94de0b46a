"""The slow twin of `hypnic.compare`: two recordings as whole arrays, an event at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from hypnic import reference as r
from hypnic.settings import Settings

Array = NDArray[np.float64]

NOTHING, STRONGER, FIRST = range(3)


def received(xyz: NDArray[np.float32], settings: Settings) -> NDArray[np.bool_]:
    """Which samples are any use."""
    return (np.abs(xyz) <= settings.max_g).all(axis=1)


def course(xyz: NDArray[np.float32], used: NDArray[np.bool_], rate: float, settings: Settings) -> Array:
    """Smoothed band energy of every sample that is used, NaN where it is unknown."""
    high = min(settings.band_high, 0.4 * rate)
    bridge, blank = max(1, round(settings.bridge * rate)), round(settings.blank * rate)
    weight = 1.0 - math.exp(-1.0 / (r.SMOOTH_S * rate))
    out = np.full(len(xyz), np.nan)
    numbers = np.flatnonzero(used)
    for part in np.split(numbers, np.flatnonzero(np.diff(numbers) - 1 > bridge) + 1):
        if not len(part):
            continue
        rows = xyz[part].astype(float)
        band = rows - rows[0]
        for corner, kind in ((settings.band_low, "high"), (high, "low")):
            band = sosfilt(butter(2, corner, kind, fs=rate, output="sos"), band, axis=0)
        energy = (band**2).sum(axis=1)
        for _ in range(2):
            energy = lfilter([weight], [1.0, weight - 1.0], energy)
        out[part] = energy
        out[part[:blank]] = np.nan
    return out


def verdict(here: Array, there: Array, used: NDArray[np.bool_], rate: float, place: str, event: tuple) -> int:
    """What the reference says of the event from one sample number to before another."""
    onset, end = event
    number = np.arange(len(here))
    window = used & (number >= onset - r.BEFORE_S * rate) & (number < end)
    before = used & (number >= onset - r.QUIET_S[0] * rate) & (number < onset - r.QUIET_S[1] * rate)
    u, v = here[window], there[window]
    known = np.isfinite(u) & np.isfinite(v)
    if not len(u) or known.sum() < r.KNOWN * len(u):
        return NOTHING
    middle = []
    for signal in (here, there):
        quiet = np.sort(signal[before & np.isfinite(signal)])
        if len(quiet) < r.QUIET_LEAST_S * rate:
            return NOTHING
        middle.append(quiet[len(quiet) // 2])
    u_gain, v_gain = max(u[known].max() - middle[0], 0.0), v[known].max() - middle[1]
    seen = math.log(v[known].max() / middle[1]) if middle[1] > 0 else math.inf
    if seen < r.SEEN or v_gain <= 0:
        return NOTHING
    if math.sqrt(v_gain) > r.AS_STRONG[place] * math.sqrt(u_gain):
        return STRONGER
    if place == "limb" or seen < r.SEEN_WELL or not known.all():
        return NOTHING
    if math.sqrt(v_gain) < r.FIRST_LEAST * math.sqrt(u_gain):
        return NOTHING
    return FIRST if r.FIRST_S[0] < lead(u, v, rate) / rate < r.FIRST_S[1] else NOTHING


def lead(here: Array, there: Array, rate: float) -> float:
    """By how many samples the second course comes first."""
    count = min(len(here), int(r.COMPARED_S * rate))
    search = int(r.SEARCH_S * rate) + 1
    if count <= 3 * search:
        return 0.0
    u, v = np.sqrt(here[:count]), np.sqrt(there[:count])
    u, v = u - u.mean(), v - v.mean()
    match = np.correlate(u, v[search : count - search], "valid")
    best = int(np.argmax(match))
    if 0 < best < 2 * search:
        a, b, c = match[best - 1 : best + 2]
        if a - 2 * b + c < 0:
            return best - search + 0.5 * (a - c) / (a - 2 * b + c)
    return best - search
