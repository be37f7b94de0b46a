"""From the features of an event to its label and score, and series found afterwards."""

from __future__ import annotations

import math

from numba import njit

from hypnic.layout import *  # noqa: F403  (positions in the state: a table, not an interface)
from hypnic.rest import ONSET, SETTLING

__all__ = ["judge"]

HYPNIC_JERK, ISOLATED_JERK, PLM, RHYTHMIC, POSTURE_SHIFT, MOVEMENT, IMPACT, SENSOR_ARTIFACT = range(8)


@njit(cache=True)
def judge(F, I, o, final):
    """Set the label and score of the row at `o`."""
    t90 = F[o + R_T90]
    hf = F[o + R_HF]
    score = 1.0 / (1.0 + math.exp(min(50.0, (t90 - 0.55) * 12.0)))
    if t90 < 0.12 or hf > 0.3:
        score *= 0.1
    if F[o + R_ANGLE] > F[P_POSTURE]:
        score *= 0.3
    F[o + R_SCORE] = score
    if score >= 0.5:
        rest = F[o + R_REST]
        F[o + R_LABEL] = HYPNIC_JERK if rest == SETTLING or rest == ONSET else ISOLATED_JERK
    elif t90 < 0.12 or hf > 0.3:
        F[o + R_LABEL] = IMPACT
    elif F[o + R_ANGLE] > F[P_POSTURE]:
        F[o + R_LABEL] = POSTURE_SHIFT
    else:
        F[o + R_LABEL] = MOVEMENT
