"""Two sensors' band energies side by side, and which of them felt an event first or more: the compiled part.

`hypnic.reference` says what it means. State in two arrays, float64, sums in a fixed order, as in the kernel.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hypnic.jit import jit_with_arrays

__all__ = [
    "FIRST",
    "LANES",
    "LOST",
    "NEXT",
    "NOTHING",
    "RING",
    "STARTED",
    "STRONGER",
    "VERDICT",
    "take",
    "verdict",
]

NOTHING, STRONGER, FIRST = range(3)
"""What the reference says of an event."""

LOW: Final = 6
SMOOTHED: Final = 12
STREAM: Final = 14
"""One sensor's floats: two states of high-pass and low-pass for each axis, two smoothed energies."""

RING: Final = 2 * STREAM
LANES: Final = 3
"""The ring of samples that the sensor received: number, energy at the sensor, at the reference; NaN is unknown."""

LAYOUT_VERSION: Final = 1
"""Written into saved state: another version cannot be restored."""

NEXT: Final = 0  # number of the next sample
TAKEN: Final = 1  # samples put into the ring so far
STARTED: Final = 2  # of each sensor: whether its filters run
LOST: Final = 4  # of each sensor: samples lost since its last one
BLANK: Final = 6  # of each sensor: samples still to pass before its energy counts
VERDICT: Final = 8
"""Events and what is said of them."""


@jit_with_arrays
def take(F, N, filters, limits, xyz, reference):
    """Filter both sensors and put their energies into the ring."""
    h0, h1, h2, h3, h4 = filters[0], filters[1], filters[2], filters[3], filters[4]
    l0, l1, l2, l3, l4 = filters[5], filters[6], filters[7], filters[8], filters[9]
    smooth, limit = filters[10], filters[11]
    length = (F.shape[0] - RING) // LANES
    for i in range(xyz.shape[0]):
        number = N[NEXT]
        N[NEXT] += 1
        # Written so that NaN fails it too.
        if not (abs(xyz[i, 0]) <= limit and abs(xyz[i, 1]) <= limit and abs(xyz[i, 2]) <= limit):
            N[LOST] += 1
            N[LOST + 1] += 1
            continue
        slot = RING + LANES * (N[TAKEN] % length)
        N[TAKEN] += 1
        F[slot] = number
        for k in range(2):
            rows = xyz if k == 0 else reference
            x, y, z = float(rows[i, 0]), float(rows[i, 1]), float(rows[i, 2])
            if not (abs(x) <= limit and abs(y) <= limit and abs(z) <= limit):
                N[LOST + k] += 1
                F[slot + 1 + k] = math.nan
                continue
            o = k * STREAM
            anew = N[STARTED + k] == 0 or N[LOST + k] > limits[0]
            if anew:
                N[BLANK + k] = limits[1]
                N[STARTED + k] = 1
                F[o + SMOOTHED] = F[o + SMOOTHED + 1] = 0.0
            N[LOST + k] = 0
            energy = 0.0
            for a in range(3):
                value = x if a == 0 else (y if a == 1 else z)
                p, q = o + 2 * a, o + LOW + 2 * a
                if anew:
                    F[p], F[p + 1], F[q], F[q + 1] = -h0 * value, h2 * value, 0.0, 0.0
                u = h0 * value + F[p]
                F[p] = h1 * value - h3 * u + F[p + 1]
                F[p + 1] = h2 * value - h4 * u
                v = l0 * u + F[q]
                F[q] = l1 * u - l3 * v + F[q + 1]
                F[q + 1] = l2 * u - l4 * v
                energy += v * v
            F[o + SMOOTHED] += smooth * (energy - F[o + SMOOTHED])
            F[o + SMOOTHED + 1] += smooth * (F[o + SMOOTHED] - F[o + SMOOTHED + 1])
            if N[BLANK + k] > 0:
                N[BLANK + k] -= 1
                F[slot + 1 + k] = math.nan
            else:
                F[slot + 1 + k] = F[o + SMOOTHED + 1]


@jit_with_arrays
def verdict(F, N, times, bounds, onset, end):
    """Return what the reference says of the event from sample `onset` to before sample `end`."""
    length = (F.shape[0] - RING) // LANES
    newest, oldest = N[TAKEN] - 1, max(N[TAKEN] - length, 0)
    position = newest
    while position >= oldest and F[RING + LANES * (position % length)] >= end:
        position -= 1
    last = position
    while position >= oldest and F[RING + LANES * (position % length)] >= onset - times[0]:
        position -= 1
    first = position + 1
    count = last - first + 1
    if count < 1:
        return NOTHING

    here, there = np.empty(count), np.empty(count)
    known = 0
    here_peak = there_peak = 0.0
    for k in range(count):
        slot = RING + LANES * ((first + k) % length)
        here[k], there[k] = F[slot + 1], F[slot + 2]
        if here[k] == here[k] and there[k] == there[k]:
            known += 1
            here_peak, there_peak = max(here_peak, here[k]), max(there_peak, there[k])
    if known < bounds[0] * count:
        return NOTHING
    here_quiet = _background(F, N, times, onset, 1)
    there_quiet = _background(F, N, times, onset, 2)
    if not (here_quiet >= 0.0 and there_quiet >= 0.0):
        return NOTHING
    here_gain, there_gain = max(here_peak - here_quiet, 0.0), there_peak - there_quiet
    if there_peak < bounds[1] * there_quiet or there_gain <= 0.0:
        return NOTHING
    if there_gain > bounds[2] * here_gain:
        return STRONGER
    if there_peak < bounds[3] * there_quiet or there_gain < bounds[4] * here_gain or known < count:
        return NOTHING
    lead = _lead(here, there, times)
    return FIRST if times[6] < lead < times[7] else NOTHING


@jit_with_arrays
def _background(F, N, times, onset, lane):
    """Return the middle value of a sensor's energy before the event, NaN where too little is known."""
    length = (F.shape[0] - RING) // LANES
    values = np.empty(int(times[1] - times[2]) + 2)
    count = 0
    position, oldest = N[TAKEN] - 1, max(N[TAKEN] - length, 0)
    while position >= oldest:
        slot = RING + LANES * (position % length)
        position -= 1
        if F[slot] < onset - times[1]:
            break
        if F[slot] < onset - times[2] and F[slot + lane] == F[slot + lane] and count < values.shape[0]:
            values[count] = F[slot + lane]
            count += 1
    if count < times[3]:
        return math.nan
    return np.sort(values[:count])[count // 2]


@jit_with_arrays
def _lead(here, there, times):
    """Return by how many samples the course of `there` comes before that of `here`.

    The shift at which the amplitudes go together best, between samples by the parabola through three of them.
    """
    count = min(here.shape[0], int(times[5]))
    search = int(times[4]) + 1
    if count <= 3 * search:
        return 0.0
    u, v = np.sqrt(here[:count]), np.sqrt(there[:count])
    u_mean = v_mean = 0.0
    for k in range(count):
        u_mean += u[k] / count
        v_mean += v[k] / count
    match = np.zeros(2 * search + 1)
    for shift in range(-search, search + 1):
        for k in range(search, count - search):
            match[shift + search] += (u[k + shift] - u_mean) * (v[k] - v_mean)
    best = int(np.argmax(match))
    if best == 0 or best == 2 * search:
        return float(best - search)
    bend = match[best - 1] - 2.0 * match[best] + match[best + 1]
    between = 0.5 * (match[best - 1] - match[best + 1]) / bend if bend < 0.0 else 0.0
    return best - search + between
