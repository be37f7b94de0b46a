"""Rest from movement and posture: awake, settling, onset, still.

A person who has moved little for a while is *settling*; stillness is declared after five minutes without movement
or change of posture (van Hees 2015), and from there the *onset* window runs on for twenty minutes, because
actigraphy calls sleep 9 to 20 minutes too early; after it they are *still*. Sustained movement means *awake*, and
each settling that follows opens a new window. One jerk, one tap or one short turn does not. None of this is a sleep
stage: an accelerometer sees rest.
"""

from __future__ import annotations

import math

from numba import njit

from hypnic.layout import *  # noqa: F403  (positions in the state: a table, not an interface)

__all__ = ["advance", "angle", "moved", "restart"]

AWAKE, SETTLING, ONSET, STILL = range(4)

EPOCH = 5.0
"""Length (s) of the epochs whose posture is compared (van Hees 2015)."""

MOVEMENT = 1.0
"""Least duration (s) of an event that counts as a movement of the person."""

LONGEST = 10.0
"""Duration (s) beyond which a single movement counts no more: one long turn is not a waking."""


@njit(cache=True)
def restart(F, I):
    """Begin anew: nothing is known of the person but that the recording starts at rest."""
    I[I_REST] = SETTLING
    I[I_LAST_MOVE] = I[I_INDEX]
    I[I_WINDOW_END] = -1
    I[I_EPOCH_FILL] = 0
    I[I_HAS_POSTURE] = 0
    F[S_MOVED] = 0.0
    F[S_EX] = F[S_EY] = F[S_EZ] = 0.0


@njit(cache=True)
def moved(F, I, end, duration, angle):
    """Take note of an event, from its end (sample), duration (s) and change of angle (deg), that is no jerk."""
    if duration < MOVEMENT and angle < F[P_REST_ANGLE]:
        return
    I[I_LAST_MOVE] = max(I[I_LAST_MOVE], end)
    F[S_MOVED] += 2.0 + min(duration, LONGEST)


@njit(cache=True)
def advance(F, I, x, y, z):
    """Go on by one block whose mean acceleration (g) is x, y, z."""
    F[S_MOVED] *= F[P_WAKING_KEEP]
    F[S_EX] += x
    F[S_EY] += y
    F[S_EZ] += z
    I[I_EPOCH_FILL] += 1
    if I[I_EPOCH_FILL] >= I[I_EPOCH]:
        if I[I_HAS_POSTURE] and angle(F[S_EX], F[S_EY], F[S_EZ], F[S_PX], F[S_PY], F[S_PZ]) > F[P_REST_ANGLE]:
            I[I_LAST_MOVE] = I[I_INDEX]
        F[S_PX], F[S_PY], F[S_PZ] = F[S_EX], F[S_EY], F[S_EZ]
        F[S_EX] = F[S_EY] = F[S_EZ] = 0.0
        I[I_EPOCH_FILL] = 0
        I[I_HAS_POSTURE] = 1

    quiet = (I[I_INDEX] - I[I_LAST_MOVE]) / F[P_RATE]
    if F[S_MOVED] > F[P_WAKING]:
        I[I_REST] = AWAKE
        I[I_WINDOW_END] = -1
    elif I[I_REST] == AWAKE:
        if quiet >= F[P_SETTLE]:
            I[I_REST] = SETTLING
    elif I[I_REST] == SETTLING:
        if quiet >= F[P_STILL]:
            I[I_REST] = ONSET
            I[I_WINDOW_END] = I[I_INDEX] + int(F[P_WINDOW] * F[P_RATE])
    elif I[I_REST] == ONSET and I[I_INDEX] >= I[I_WINDOW_END]:
        I[I_REST] = STILL


@njit(cache=True)
def angle(ax, ay, az, bx, by, bz):
    """Return the angle (deg) between two vectors, 0 where one has no length."""
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return math.degrees(math.atan2(math.sqrt(cx * cx + cy * cy + cz * cz), ax * bx + ay * by + az * bz))
