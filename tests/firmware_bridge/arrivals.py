"""A simulated board behind a simulated USB bridge: true times, ticks, and when the host gets the samples."""

from typing import NamedTuple

import numpy as np


class Arrivals(NamedTuple):
    """True time (s), device ticks and arrival (s) of each sample, and the samples of each reading."""

    true: np.ndarray
    ticks: np.ndarray
    arrival: np.ndarray
    readings: list


def simulate(
    seconds=180.0, rate=100.0, crystal=80e-6, sensor=-0.008, latency=0.016, stalls=0.0, jitter=0.0, seed=0
):
    """Simulate a board whose crystal and sensor are off, behind a bridge that hands over every `latency` s.

    On top of the bridge each reading is delayed by a gamma-distributed 0.2 ms, and a share `stalls` of them
    by an exponentially distributed 20 ms more. Each data-ready is early or late by a normally distributed
    `jitter`.
    """
    rng = np.random.default_rng(seed)
    true_rate = rate * (1 + sensor)
    count = int(seconds * true_rate)
    true = 1.7e9 + np.arange(count) / true_rate + rng.normal(0, jitter, count)
    ticks = np.floor((true - true[0] + 1) * (1 + crystal) * 1e6).astype(np.int64)
    sent = true + 18 * 10 / 115200
    handover = true[0] + rng.uniform(0, latency) + latency * (1 + 3e-5) * np.arange(seconds / latency + 9)
    slot = np.searchsorted(handover, sent)
    late = rng.gamma(1.0, 2e-4, len(handover))
    late += (rng.random(len(handover)) < stalls) * rng.exponential(0.02, len(handover))
    arrival = np.maximum.accumulate(handover + late)[slot]
    readings = np.split(np.arange(count), np.flatnonzero(np.diff(arrival) > 0) + 1)
    return Arrivals(true, ticks, arrival, readings)


def error_of(times, true, warm_up=60.0):
    """Return the SD (ms) and the drift (ppm) of time stamps, after `warm_up` seconds."""
    after = true >= true[0] + warm_up
    error = (times - true)[after]
    slope = np.polyfit(true[after] - true[after].mean(), error, 1)[0]
    return 1e3 * float(error.std()), 1e6 * float(slope)
