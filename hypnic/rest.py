"""Rest from movement and posture: awake, settling, onset, still, off.

A person who has moved little for a while is *settling*; stillness is declared after five minutes without movement
or change of posture (van Hees 2015), and from there the *onset* window runs on for twenty minutes, because
actigraphy calls sleep 9 to 20 minutes too early; after it they are *still*. Sustained movement means *awake*, and
each settling that follows opens a new window. One jerk, one tap, one short turn or a series of periodic limb
movements does not. None of this is a sleep stage: an accelerometer sees rest.

Many who wake move too little for that. They give themselves away afterwards: by more movement in the last ten minutes
than in the last hour, and less of it in the last two. A weighted sum of past activity is how actigraphy has told wake
from sleep since Webster (1982) and Cole (1992); here three decaying sums and four fitted weights (`hypnic.model`)
open the window again, for as long as they speak for it. They never close it early.

*Off* is a sensor that nobody wears or lies on, or one that holds its samples: it shows no breath. Where a body is, its
breath and its sway make one 0.1 s mean like the one before; of bare noise the mean squared difference of neighbours
is twice the variance (von Neumann 1941), and that ratio says how much is noise, whatever the sensor. What looks like a
jerk there is never a `hypnic_jerk`.
"""

from __future__ import annotations

import math

from hypnic.jit import inlined, jit
from hypnic.layout import *

__all__ = ["advance", "angle", "apart2", "moved", "restart"]

AWAKE, SETTLING, ONSET, STILL, OFF = range(5)

EPOCH = 5.0
"""Length (s) of the epochs whose posture is compared (van Hees 2015)."""

MOVEMENT = 1.0
"""Least duration (s) of an event that counts as a movement of the person."""

LONGEST = 10.0
"""Duration (s) beyond which a single movement counts no more: one long turn is not a waking."""

STAYED = 0.8
"""What a movement without a change of posture counts, where posture is known (simulated)."""

EACH = 0.5
"""Seconds that every movement counts besides its own duration: several short ones are a sign of being awake."""

RESTLESS = 2.0
"""How many times the sum that means awake must not be exceeded for a person to settle, however quiet just now."""

MINUTES = (2.0, 10.0, 60.0)
"""Time constants (min) of the sums of movement that tell a waking which was not seen."""

KEPT = 0.6
"""Part of that sum that is kept at most when settling (simulated)."""

BARE = 1.8
"""Ratio of mean squared difference to variance from which an epoch is bare noise: of noise alone 2 +- 0.16.

A breath of 2 mg under noise of 3 mg brings it to 1.1 at 100 Hz and to 1.7 at 25 Hz.
"""

MOSTLY, SELDOM = 0.7, 0.3
"""Share of the last minutes' epochs that are bare from which the sensor is off, and below which it is on again."""

UNWORN = 300.0
"""Time (s) without an event, and of bare noise, that means off."""

COARSE = 0.004
"""Step (g) from which a sensor cannot show a breath: it is never called off by it (a breath tilts 2 to 15 mg)."""

HOLD = 60.0
"""Time (s) of one held sample that means off."""


@jit
def restart(F, N):
    """Begin anew: nothing is known of the person but that the recording starts at rest."""
    _enter(N, SETTLING, N[I_INDEX])
    N[I_LAST_MOVE] = N[I_INDEX]
    N[I_EPOCH_FILL] = 0
    N[I_HAS_POSTURE] = 0
    N[I_BARE_N] = 0
    F[S_MOVED] = F[S_STIR] = F[S_LAST_2] = F[S_LAST_10] = F[S_LAST_60] = 0.0
    F[S_EX] = F[S_EY] = F[S_EZ] = F[S_ESQUARES] = F[S_EDIFF] = 0.0


@jit
def held(F, N, start):
    """Take note that samples have been held constant since sample `start`, for longer than `HOLD`."""
    if N[I_REST] != OFF:
        N[I_REST_BEFORE] = N[I_REST]
        N[I_HELD] = 1
        _enter(N, OFF, start)


@jit
def released(F, N):
    """Go back to the state before a hold."""
    if N[I_REST] == OFF and N[I_HELD] == 1:
        _enter(N, N[I_REST_BEFORE], N[I_INDEX])
    N[I_HELD] = 0


@jit
def moved(F, N, end, duration, angle):
    """Take note of an event, from its end (sample), duration (s) and change of angle (deg), that is no jerk."""
    amount = EACH + min(duration, LONGEST)
    F[S_LAST_2] += amount
    F[S_LAST_10] += amount
    F[S_LAST_60] += amount
    if duration < MOVEMENT and angle < F[P_REST_ANGLE]:
        return
    N[I_LAST_MOVE] = max(N[I_LAST_MOVE], end)
    if F[P_REST_ANGLE] < 180.0 and angle < F[P_REST_ANGLE]:
        # A limb that comes back to where it was seldom means that the person is awake.
        amount *= STAYED
    F[S_MOVED] += amount
    F[S_STIR] += amount
    # Not where it was cut by held samples: those show nobody who moves.
    if N[I_REST] == OFF and N[I_HELD] == 0:
        _enter(N, AWAKE, N[I_INDEX])


@inlined
def advance(F, N, x, y, z):
    """Go on by one block whose mean acceleration (g) is x, y, z."""
    F[S_MOVED] *= F[P_WAKING_KEEP]
    F[S_STIR] *= F[P_WAKING_KEEP]
    if N[I_EPOCH_FILL] > 0:
        F[S_EDIFF] += apart2(x, y, z, F[S_BX], F[S_BY], F[S_BZ])
    F[S_BX], F[S_BY], F[S_BZ] = x, y, z
    F[S_EX] += x
    F[S_EY] += y
    F[S_EZ] += z
    F[S_ESQUARES] += x * x + y * y + z * z
    N[I_EPOCH_FILL] += 1
    if N[I_EPOCH_FILL] >= N[I_EPOCH]:
        _breath(F, N)
        if N[I_HAS_POSTURE] and angle(F[S_EX], F[S_EY], F[S_EZ], F[S_PX], F[S_PY], F[S_PZ]) > F[P_REST_ANGLE]:
            N[I_LAST_MOVE] = N[I_INDEX]
        F[S_PX], F[S_PY], F[S_PZ] = F[S_EX], F[S_EY], F[S_EZ]
        F[S_EX] = F[S_EY] = F[S_EZ] = F[S_ESQUARES] = F[S_EDIFF] = 0.0
        N[I_EPOCH_FILL] = 0
        N[I_HAS_POSTURE] = 1
        _reopen(F, N)

    quiet = (N[I_INDEX] - N[I_LAST_MOVE]) / F[P_RATE]
    now = N[I_INDEX]
    state = N[I_REST]
    if state == AWAKE:
        if N[I_OPEN] == 0 and quiet >= F[P_SETTLE] and F[S_MOVED] <= RESTLESS * F[P_WAKING]:
            # What woke is over, but one who has just been awake is soon awake again.
            F[S_MOVED] = min(F[S_MOVED], KEPT * F[P_WAKING])
            _enter(N, SETTLING, now)
    elif F[S_MOVED] > F[P_WAKING]:
        _enter(N, AWAKE, now)
    elif state == SETTLING:
        # One who stirs every few minutes all night is not settling all night.
        if quiet >= F[P_STILL] or (now - N[I_SETTLED]) / F[P_RATE] >= F[P_SETTLING]:
            _enter(N, ONSET, now)
            N[I_WINDOW_END] = now + int(F[P_WINDOW] * F[P_RATE])
    elif state == ONSET and now >= N[I_WINDOW_END] and unseen_waking(F) <= 0.0:
        _enter(N, STILL, now)


@jit
def _reopen(F, N):
    """Take an epoch off the past movement, and open the window again where it tells of a waking."""
    F[S_LAST_2] *= F[P_KEEP_2]
    F[S_LAST_10] *= F[P_KEEP_10]
    F[S_LAST_60] *= F[P_KEEP_60]
    if N[I_REST] == STILL and unseen_waking(F) > 0.0:
        _enter(N, ONSET, N[I_INDEX])


@jit
def unseen_waking(F):
    """Return the log odds that somebody who is still has been awake and is falling asleep again."""
    return (
        F[P_REOPEN]
        + F[P_REOPEN_2] * math.log(1.0 + F[S_LAST_2])
        + F[P_REOPEN_10] * math.log(1.0 + F[S_LAST_10])
        + F[P_REOPEN_60] * math.log(1.0 + F[S_LAST_60])
    )


@jit
def _breath(F, N):
    """Take the epoch that has ended into what tells a body from bare noise, and go off or on by it."""
    count = N[I_EPOCH_FILL]
    squares = F[S_EX] * F[S_EX] + F[S_EY] * F[S_EY] + F[S_EZ] * F[S_EZ]
    variance = max(F[S_ESQUARES] - squares / count, 0.0) / (count - 1)
    difference = F[S_EDIFF] / (count - 1)
    N[I_BARE_N] += 1
    bare = 1.0 if difference > BARE * variance else 0.0
    # The mean of all at first, then of some minutes.
    F[S_BARE] += max(1.0 / N[I_BARE_N], 2.0 * EPOCH / UNWORN) * (bare - F[S_BARE])
    if N[I_REST] == OFF:
        if F[S_BARE] < SELDOM:
            # Nobody has put it on, which would have been a movement: the one who wears it was only hard to see.
            _enter(N, N[I_REST_BEFORE], N[I_INDEX])
        return
    still = (N[I_INDEX] - max(N[I_LAST_MOVE], N[I_PREV_END])) / F[P_RATE]
    known = N[I_BARE_N] * EPOCH >= UNWORN and F[S_STEP] < COARSE
    if known and F[S_BARE] > MOSTLY and still >= UNWORN and N[I_OPEN] == 0:
        N[I_REST_BEFORE] = N[I_REST]
        _enter(N, OFF, N[I_INDEX])


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
def apart2(ax, ay, az, bx, by, bz):
    """Return the squared distance of two vectors.

    Products, not powers: the C library's power, which serves where numba is switched off, rounds some squares
    otherwise than the product that compiled code makes of them.
    """
    x, y, z = ax - bx, ay - by, az - bz
    return x * x + y * y + z * z


@jit
def angle(ax, ay, az, bx, by, bz):
    """Return the angle (deg) between two vectors, 0 where one has no length."""
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    # The zero turns a product of -0.0 into 0.0, whose angle is 0 and not 180 degrees.
    dot = ax * bx + ay * by + az * bz + 0.0
    return math.degrees(math.atan2(math.sqrt(cx * cx + cy * cy + cz * cz), dot))
