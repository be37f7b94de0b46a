"""From the features of an event to its label and score, and series found afterwards."""

from __future__ import annotations

import math
from typing import Final

from hypnic.jit import jit
from hypnic.layout import *
from hypnic.model import FLOOR
from hypnic.rest import ONSET, RESTLESS, SETTLING

__all__ = ["SERIES_LENGTH", "judge", "link"]

HYPNIC_JERK, ISOLATED_JERK, PLM, RHYTHMIC, POSTURE_SHIFT, MOVEMENT, IMPACT, SENSOR_ARTIFACT = range(8)

SERIES_LENGTH: Final = 4
"""Movements that make a series (WASM 2016, AASM)."""

ALIKE: Final = -6.0
"""Least likeness of two movements of one series: some 1.4 of the spreads below in each of three (simulated)."""

SPREAD_PEAK: Final = 0.6
SPREAD_T90: Final = 0.6
SPREAD_ANGLE: Final = 0.3
"""How far peaks (ln), spans (ln) and main directions (rad) of movements of one series lie apart (simulated)."""


ON_AXIS: Final = 0.9995
ON_LINE: Final = 0.98
"""Share of one axis in the main direction (within 1.8 degrees), and of that direction in the energy, of a spike."""


AT_MOST: Final = 0.5
"""Most that is left of the score of what cannot be a jerk, as a part of the least score of one."""

STRANGER: Final = 0.5
STRANGERS: Final = 1
"""Movements unlike a member, of at least so much of its peak, that may come between it and the one before: a series
is a row of movements, not a choice from many (WASM 2016 ends it at the first; one is forgiven here, simulated)."""


@jit
def likeness(F, o, p):
    """Return how like the movements at `o` and `p` are, 0 for the same, less for others."""
    peak = math.log(F[o + R_PEAK] / F[p + R_PEAK]) / SPREAD_PEAK
    span = math.log(F[o + R_T90] / F[p + R_T90]) / SPREAD_T90
    along = F[o + R_UX] * F[p + R_UX] + F[o + R_UY] * F[p + R_UY] + F[o + R_UZ] * F[p + R_UZ]
    turn = math.acos(min(abs(along), 1.0)) / SPREAD_ANGLE
    return max(-(peak * peak + span * span + turn * turn), UNLIKE)


@jit
def link(F, N, o):
    """Compare the event at `o` with those at the interval of a series before it, and set the chain it continues."""
    chain = 1.0
    before = partner = -1
    closest = UNLIKE
    strangers = 0
    newest = N[I_SERIES_N] - 1
    for number in range(newest, max(newest - SERIES_ROWS, -1), -1):
        p = SERIES + ROW * (number % SERIES_ROWS)
        interval = (F[o + R_ONSET] - F[p + R_ONSET]) / F[P_RATE]
        if interval > F[P_PLM_HIGH]:
            break
        like = likeness(F, o, p)
        if like <= ALIKE and F[p + R_PEAK] > STRANGER * F[o + R_PEAK]:
            strangers += 1
            if strangers > STRANGERS:
                break
        if interval < F[P_PLM_LOW]:
            continue
        if like > closest:
            closest = like
            partner = number
        if like > ALIKE and F[p + R_CHAIN] + 1.0 > chain:
            chain = F[p + R_CHAIN] + 1.0
            before = number
    F[o + R_CHAIN] = chain
    F[o + R_LINK] = before
    F[o + R_LIKE] = closest
    F[o + R_LIKE_LATER] = UNLIKE
    F[o + R_PARTNER] = partner


@jit
def jerk_score(F, o):
    """Return how jerk-like the row at `o` is, 0 to 1: the model of `hypnic.model`."""
    odds = F[MODEL]
    count = int(F[MODEL + 1])
    for k in range(count):
        curve = MODEL + 2 + k * CURVE
        value = _feature(F, curve, o)
        missing = value != value
        odds += F[curve + 3] if missing else _along(F, curve, value)
        F[STANDARD + k] = 0.0 if missing else (value - F[curve + 4]) / F[curve + 5]
    pair = MODEL + 2 + CURVES * CURVE
    for j in range(count):
        for k in range(j + 1, count):
            odds += F[pair] * F[STANDARD + j] * F[STANDARD + k]
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
def _along(F, curve, value):
    """Return what the curve adds to the log odds at a value within its knots."""
    knot = curve + 6
    while knot < curve + 4 + int(F[curve + 2]) and value > F[knot + 1]:
        knot += 1
    part = (value - F[knot]) / (F[knot + 1] - F[knot])
    low, high = F[knot + KNOTS], F[knot + KNOTS + 1]
    return low + part * (high - low)


@jit
def judge(F, o):
    """Set the label and score of the row at `o`."""
    t90, hf, bursts = F[o + R_T90], F[o + R_HF], F[o + R_BURSTS]
    score = jerk_score(F, o)
    restless = F[o + R_STIR] > RESTLESS * F[P_WAKING]
    if t90 > F[P_JERK_T90] or restless:
        # What the model was fitted to hardly reaches here: what a jerk is decides, not what it makes of the rest.
        score = min(score, AT_MOST * F[P_JERK_SCORE])
    F[o + R_SCORE] = score
    if score >= F[P_JERK_SCORE]:
        F[o + R_LABEL] = HYPNIC_JERK if F[o + R_REST] in (SETTLING, ONSET) else ISOLATED_JERK
    elif t90 < F[P_IMPACT_T90] or hf > F[P_IMPACT_HF]:
        # A spike of the sensor stands on one of its axes alone; what is felt comes from any direction.
        axis = max(abs(F[o + R_UX]), abs(F[o + R_UY]), abs(F[o + R_UZ]))
        F[o + R_LABEL] = SENSOR_ARTIFACT if axis > ON_AXIS and F[o + R_LINE] > ON_LINE else IMPACT
    elif F[o + R_CHAIN] >= SERIES_LENGTH and 0.5 <= F[o + R_LENGTH] <= 10.0 and not restless:
        # Among the many movements of one who is awake, four that look like a series are chance.
        F[o + R_LABEL] = PLM
    elif bursts >= SERIES_LENGTH and F[o + R_RHYTHM] < F[P_RHYTHM]:
        F[o + R_LABEL] = RHYTHMIC
    elif F[o + R_ANGLE] > F[P_POSTURE]:
        F[o + R_LABEL] = POSTURE_SHIFT
    else:
        F[o + R_LABEL] = MOVEMENT
