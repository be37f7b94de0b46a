"""Rest from movement and posture: awake, settling, onset, still.

A person who has moved little for a while is *settling*; stillness is declared after five minutes without movement
or change of posture (van Hees 2015), and from there the *onset* window runs on for twenty minutes, because
actigraphy calls sleep 9 to 20 minutes too early; after it they are *still*. Sustained movement means *awake*, and
each settling that follows opens a new window. One jerk, one tap or one short turn does not. None of this is a sleep
stage: an accelerometer sees rest.
"""

from __future__ import annotations

import math

from hypnic.jit import jit
from hypnic.layout import *

__all__ = ["advance", "angle", "moved", "restart"]

AWAKE, SETTLING, ONSET, STILL = range(4)

EPOCH = 5.0
"""Length (s) of the epochs whose posture is compared (van Hees 2015)."""

MOVEMENT = 1.0
"""Least duration (s) of an event that counts as a movement of the person."""

LONGEST = 10.0
"""Duration (s) beyond which a single movement counts no more: one long turn is not a waking."""

STAYED = 0.4
"""What a movement without a change of posture counts, where posture is known (simulated)."""


@jit
def restart(F, N):
    """Begin anew: nothing is known of the person but that the recording starts at rest."""
    _enter(N, SETTLING, N[I_INDEX])
    N[I_LAST_MOVE] = N[I_INDEX]
    N[I_EPOCH_FILL] = 0
    N[I_HAS_POSTURE] = 0
    F[S_MOVED] = 0.0
    F[S_EX] = F[S_EY] = F[S_EZ] = 0.0


@jit
def moved(F, N, end, duration, angle):
    """Take note of an event, from its end (sample), duration (s) and change of angle (deg), that is no jerk."""
    if duration < MOVEMENT and angle < F[P_REST_ANGLE]:
        return
    N[I_LAST_MOVE] = max(N[I_LAST_MOVE], end)
    amount = 2.0 + min(duration, LONGEST)
    if F[P_REST_ANGLE] < 180.0 and angle < F[P_REST_ANGLE]:
        # A limb that comes back to where it was seldom means that the person is awake.
        amount *= STAYED
    F[S_MOVED] += amount


@jit
def advance(F, N, x, y, z):
    """Go on by one block whose mean acceleration (g) is x, y, z."""
    F[S_MOVED] *= F[P_WAKING_KEEP]
    F[S_EX] += x
    F[S_EY] += y
    F[S_EZ] += z
    N[I_EPOCH_FILL] += 1
    if N[I_EPOCH_FILL] >= N[I_EPOCH]:
        if N[I_HAS_POSTURE] and angle(F[S_EX], F[S_EY], F[S_EZ], F[S_PX], F[S_PY], F[S_PZ]) > F[P_REST_ANGLE]:
            N[I_LAST_MOVE] = N[I_INDEX]
        F[S_PX], F[S_PY], F[S_PZ] = F[S_EX], F[S_EY], F[S_EZ]
        F[S_EX] = F[S_EY] = F[S_EZ] = 0.0
        N[I_EPOCH_FILL] = 0
        N[I_HAS_POSTURE] = 1

    quiet = (N[I_INDEX] - N[I_LAST_MOVE]) / F[P_RATE]
    now = N[I_INDEX]
    state = N[I_REST]
    if state == AWAKE:
        if quiet >= F[P_SETTLE]:
            # What woke is over; the same again, not the rest of it, would be another waking.
            F[S_MOVED] = 0.0
            _enter(N, SETTLING, now)
    elif F[S_MOVED] > F[P_WAKING]:
        _enter(N, AWAKE, now)
    elif state == SETTLING:
        # One who stirs every few minutes all night is not settling all night.
        if quiet >= F[P_STILL] or (now - N[I_SETTLED]) / F[P_RATE] >= F[P_SETTLING]:
            _enter(N, ONSET, now)
            N[I_WINDOW_END] = now + int(F[P_WINDOW] * F[P_RATE])
    elif state == ONSET and now >= N[I_WINDOW_END]:
        _enter(N, STILL, now)


@jit
def _enter(N, state, sample):
    """Change to another state and note when."""
    N[I_REST] = state
    if state == SETTLING:
        N[I_SETTLED] = sample
    turn = TURNS + 2 * N[I_TURNS]
    N[I_TURNS] += 1
    N[turn] = sample
    N[turn + 1] = state


@jit
def angle(ax, ay, az, bx, by, bz):
    """Return the angle (deg) between two vectors, 0 where one has no length."""
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    # The zero turns a product of -0.0 into 0.0, whose angle is 0 and not 180 degrees.
    dot = ax * bx + ay * by + az * bz + 0.0
    return math.degrees(math.atan2(math.sqrt(cx * cx + cy * cy + cz * cz), dot))
