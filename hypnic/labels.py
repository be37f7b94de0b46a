"""From the features of an event to its label and score, and series found afterwards."""

from __future__ import annotations

import math

from hypnic.jit import jit
from hypnic.layout import *
from hypnic.model import FLOOR
from hypnic.rest import ONSET, SETTLING

__all__ = ["SERIES_LENGTH", "judge", "link"]

HYPNIC_JERK, ISOLATED_JERK, PLM, RHYTHMIC, POSTURE_SHIFT, MOVEMENT, IMPACT, SENSOR_ARTIFACT = range(8)

SERIES_LENGTH = 4
"""Movements that make a series (WASM 2016, AASM)."""

ALIKE_PEAK, ALIKE_T90 = 0.9, 1.2
"""How far (ln) the peaks and spans of two movements of one series may be apart (simulated, assumed)."""


@jit
def link(F, N, o):
    """Set the chain that the event at `o` continues: similar events, each 10 to 90 s after the one before."""
    chain = 1.0
    before = -1
    newest = N[I_SERIES_N] - 1
    for number in range(newest, max(newest - SERIES_ROWS, -1), -1):
        p = SERIES + ROW * (number % SERIES_ROWS)
        interval = (F[o + R_ONSET] - F[p + R_ONSET]) / F[P_RATE]
        if interval > F[P_PLM_HIGH]:
            break
        if interval < F[P_PLM_LOW]:
            continue
        louder = abs(math.log(F[o + R_PEAK] / F[p + R_PEAK]))
        longer = abs(math.log(F[o + R_T90] / F[p + R_T90]))
        if louder < ALIKE_PEAK and longer < ALIKE_T90 and F[p + R_CHAIN] + 1.0 > chain:
            chain = F[p + R_CHAIN] + 1.0
            before = number
    F[o + R_CHAIN] = chain
    F[o + R_LINK] = before


@jit
def jerk_score(F, o):
    """Return how jerk-like the row at `o` is, 0 to 1: the model of `hypnic.model`."""
    odds = F[MODEL]
    count = int(F[MODEL + 1])
    for k in range(count):
        odds += _curve(F, MODEL + 2 + k * CURVE, o)
    pair = MODEL + 2 + CURVES * CURVE
    for j in range(count):
        first = _standard(F, MODEL + 2 + j * CURVE, o)
        for k in range(j + 1, count):
            odds += F[pair] * first * _standard(F, MODEL + 2 + k * CURVE, o)
            pair += 1
    return 1.0 / (1.0 + math.exp(-odds))


@jit
def _feature(F, curve, o):
    """Return the feature of one curve, kept within its knots, NaN where it is missing."""
    value = F[o + int(F[curve])]
    if value != value:
        return value
    if F[curve + 1] > 0.0:
        value = math.log(max(value, FLOOR))
    return min(max(value, F[curve + 6]), F[curve + 5 + int(F[curve + 2])])


@jit
def _curve(F, curve, o):
    """Return what the curve adds to the log odds."""
    value = _feature(F, curve, o)
    if value != value:
        return F[curve + 3]
    knot = curve + 6
    while knot < curve + 4 + int(F[curve + 2]) and value > F[knot + 1]:
        knot += 1
    part = (value - F[knot]) / (F[knot + 1] - F[knot])
    low, high = F[knot + KNOTS], F[knot + KNOTS + 1]
    return low + part * (high - low)


@jit
def _standard(F, curve, o):
    """Return the curve's feature in standard deviations from its middle, 0 where it is missing."""
    value = _feature(F, curve, o)
    return 0.0 if value != value else (value - F[curve + 4]) / F[curve + 5]


@jit
def judge(F, o):
    """Set the label and score of the row at `o`."""
    t90, hf, bursts = F[o + R_T90], F[o + R_HF], F[o + R_BURSTS]
    duration = (F[o + R_END] - F[o + R_ONSET]) / F[P_RATE]
    score = jerk_score(F, o)
    F[o + R_SCORE] = score
    if score >= F[P_JERK_SCORE]:
        F[o + R_LABEL] = HYPNIC_JERK if F[o + R_REST] in (SETTLING, ONSET) else ISOLATED_JERK
    elif t90 < F[P_IMPACT_T90] or hf > F[P_IMPACT_HF]:
        F[o + R_LABEL] = IMPACT
    elif F[o + R_CHAIN] >= SERIES_LENGTH and 0.5 <= duration <= 10.0:
        F[o + R_LABEL] = PLM
    elif bursts >= SERIES_LENGTH and F[o + R_RHYTHM] < F[P_RHYTHM]:
        F[o + R_LABEL] = RHYTHMIC
    elif F[o + R_ANGLE] > F[P_POSTURE]:
        F[o + R_LABEL] = POSTURE_SHIFT
    else:
        F[o + R_LABEL] = MOVEMENT
