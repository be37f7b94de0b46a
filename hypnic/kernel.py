"""The one-pass kernel: samples in, event rows out, all state in two arrays.

Per sample: three axes through a band-pass and a high band, the energy of the band smoothed, and, while an event is
open, its features. Every 0.1 s: the running median of log energy from an integer histogram (an ordered-statistic
CFAR in time: Rohling 1983), the thresholds that follow from it, gravity and rest. Float64, no reductions whose order
depends on how the samples arrive. The slow twin in ``tests/naive`` says the same in whole-array steps.

A loss longer than the filters can run across is a *break*: the open event is cut there, the filters begin anew at
rest on the next sample, and no event opens for a moment. Nothing is imputed.
"""

from __future__ import annotations

import math

from hypnic import labels, rest
from hypnic.jit import inlined, jit
from hypnic.lanes import arranged, load, pack, part, same, sample, store, sums, wide, with_fourth, within
from hypnic.layout import *

__all__ = ["finish", "off_level", "run"]

LAGS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.1)
"""Times (s) after the first twentieth of an event's energy between which its shares are told."""

NOTABLE = 0.05
"""Change of a final row's score that is worth a revision."""

TAIL_S = 1.5
"""How long (s) what follows an event is listened to for its tail."""

FAINTEST = 1e-13
"""Band energy (g squared) below which all is alike: no sensor's, but that of held or made-up samples."""


@jit
def run(F, N, xyz, start):
    """Take in samples until they or the room for rows are used up.

    Parameters
    ----------
    F, N : ndarray of float64, int64
        The state.
    xyz : ndarray of float32, shape (n, 3)
        Samples in g.
    start : int
        First row of `xyz` to take in.

    Returns
    -------
    int
        Row of `xyz` to go on from; the rows that came out are in the state.
    """
    flat_weight = 1.0 / (60.0 * F[P_RATE])
    mask = N[I_RING] - 1
    i = start
    n = xyz.shape[0]
    while i < n and N[I_OUT_N] < OUT_FULL and N[I_TURNS] < TURN_FULL:
        value = sample(xyz, i)
        if not within(value, F[P_MAX_G]):
            i += 1
            N[I_INVALID] += 1
            N[I_GAP] += 1
            continue
        if same(value, load(F, Z_LAST)):
            if _stuck(F, N, flat_weight):
                i += 1
                N[I_STUCK] += 1
                N[I_GAP] += 1
                continue
        else:
            F[S_FLAT] -= F[S_FLAT] * flat_weight
            N[I_STUCK_RUN] = 0
        if N[I_GAP] > 0:
            _cross(F, N, value)
        elif N[I_STARTED] == 0:
            _restart(F, N, value)

        # Two loops, of which neither asks for every sample.
        whiten = F[P_WHITEN] > 0.0
        i = _filter(F, N, xyz, i, flat_weight, True) if whiten else _filter(F, N, xyz, i, flat_weight, False)
        if N[I_OPEN]:
            _accumulate(F, N, N[I_RING_POS], N[I_INDEX])
            _follow(F, N, F[S_ENERGY])
        elif (
            F[S_ENERGY] > max(F[S_ON], F[S_REARM])
            and F[S_PLAIN] > F[S_FLOOR]
            and N[I_INDEX] >= N[I_QUIET_FROM]
        ):
            _open(F, N, F[S_ENERGY])

        N[I_RING_POS] = (N[I_RING_POS] + 1) & mask
        N[I_RING_FILL] += 1
        N[I_INDEX] += 1
        if N[I_PENDING_N] > 0 and N[I_INDEX] >= _due(F, N):
            _finalise(F, N)
        if N[I_BLOCK_FILL] >= N[I_BLOCK]:
            _block(F, N)
    return i


@inlined
def _filter(F, N, xyz, i, flat_weight, whiten):
    """Take row `i` through the filters, and those after it as long as they bring nothing but more background.

    Energy is weighted by direction if `whiten`, which is a constant. Returns the row after the last one taken, whose
    number and place in the ring are the state's present ones. This is where the time goes: what one sample hands to
    the next stays in registers.
    """
    limit = F[P_MAX_G]
    hb0, hb1, ha1, ha2 = _section(F, FILTERS)
    lb0, lb1, la1, la2 = _section(F, FILTERS + 5)
    fb0, fb1, fa1, fa2 = _section(F, FILTERS + 10)
    high1, high2 = load(F, Z_HIGH1), load(F, Z_HIGH2)
    low1, low2 = load(F, Z_LOW1), load(F, Z_LOW2)
    hf1, hf2 = load(F, Z_HF1), load(F, Z_HF2)
    block = load(F, Z_BLOCK)
    # Plain and weighted energy beside each other.
    once, twice = pack(F[S_PLAIN1], F[S_SMOOTH1], 0.0), pack(F[S_PLAIN], F[S_ENERGY], 0.0)
    own, mixed = _weights(F)
    # Doubling is exact: the energy is the one that `_weighted` gives.
    twice_mixed = mixed + mixed
    # Multiplying keeps the order: the least level times a factor is the least of all products.
    rearm, lowest, rearming = F[S_REARM], math.inf, F[P_REARM]
    flat, smooth, none = F[S_FLAT], wide(F[P_SMOOTH]), wide(0.0)
    mask, ring, index = N[I_RING] - 1, N[I_RING_POS], N[I_INDEX]
    first = i
    stop = i + 1
    follow = N[I_OPEN] != 0
    on, floor, quiet_from = F[S_ON], F[S_FLOOR], N[I_QUIET_FROM]
    if not follow:
        stop = min(xyz.shape[0], i + N[I_BLOCK] - N[I_BLOCK_FILL])
        if N[I_PENDING_N] > 0:
            stop = max(min(stop, i + math.ceil(_due(F, N)) - index), i + 1)
    value = sample(xyz, i)
    while True:
        share = hb0 * value
        u = share + high1
        high1 = hb1 * value - ha1 * u + high2
        high2 = share - ha2 * u
        share = lb0 * u
        v = share + low1
        low1 = lb1 * u - la1 * v + low2
        low2 = share - la2 * v
        block = block + value
        # Where the rate is too low for it, its coefficients are zero.
        share = fb0 * value
        w = share + hf1
        hf1 = fb1 * value - fa1 * w + hf2
        hf2 = share - fa2 * w
        squares, high = v * v, w * w
        if whiten:
            products = twice_mixed * arranged(v, 0, 0, 1) * arranged(v, 1, 2, 2)
            energies = sums(squares, own * v * v, products, high)
            energy = pack(part(energies, 0), part(energies, 1) + part(energies, 2), 0.0)
        else:
            energies = sums(squares, squares, none, high)
            energy = pack(part(energies, 0), part(energies, 0), 0.0)
        store(F, RING + LANES * ring, with_fourth(v, energies))
        once = once + smooth * (energy - once)
        twice = twice + smooth * (once - twice)
        level = part(twice, 1)
        i += 1
        if follow or (
            level > on
            and level > min(rearm, lowest * rearming)
            and part(twice, 0) > floor
            and index >= quiet_from
        ):
            break
        lowest = min(lowest, level)
        if i >= stop:
            break
        after = sample(xyz, i)
        if not within(after, limit) or same(after, value):
            break
        value = after
        flat -= flat * flat_weight
        ring = (ring + 1) & mask
        index += 1

    store(F, Z_HIGH1, high1)
    store(F, Z_HIGH2, high2)
    store(F, Z_LOW1, low1)
    store(F, Z_LOW2, low2)
    store(F, Z_HF1, hf1)
    store(F, Z_HF2, hf2)
    store(F, Z_BLOCK, block)
    store(F, Z_LAST, value)
    F[S_PLAIN1], F[S_SMOOTH1], F[S_PLAIN], F[S_ENERGY] = part(once, 0), part(once, 1), part(twice, 0), level
    F[S_REARM], F[S_FLAT] = min(rearm, lowest * rearming), flat
    taken = i - first
    if taken > 1:
        N[I_STUCK_RUN] = 0
    N[I_RING_POS], N[I_INDEX] = ring, index
    N[I_RING_FILL] += taken - 1
    N[I_RECEIVED] += taken
    N[I_BLOCK_FILL] += taken
    return i


@inlined
def _section(F, position):
    """Return the coefficients b0, b1, a1 and a2 of one filter section, each for all axes; its b2 is its b0."""
    return wide(F[position]), wide(F[position + 1]), wide(F[position + 3]), wide(F[position + 4])


@inlined
def _through(F, position, first, second, value):
    """Return what one filter section, its coefficients and its state at those positions, makes of a value."""
    b0, b1, a1, a2 = _section(F, position)
    share = b0 * value
    out = share + load(F, first)
    store(F, first, b1 * value - a1 * out + load(F, second))
    store(F, second, share - a2 * out)
    return out


@inlined
def _norm2(v):
    """Return the squared norm of three axes."""
    return _sum(v * v)


@inlined
def _sum(v):
    """Return the sum of three axes."""
    return part(v, 0) + part(v, 1) + part(v, 2)


@inlined
def _due(F, N):
    """Return the number of the sample at which the event that has waited longest becomes final."""
    return F[PENDING + ROW * N[I_PENDING_HEAD] + R_END] + N[I_FINAL]


@inlined
def _weights(F):
    """Return the weights of the squares of the axes, and of their products xy, xz, yz."""
    return pack(F[S_WXX], F[S_WYY], F[S_WZZ]), pack(F[S_WXY], F[S_WXZ], F[S_WYZ])


@inlined
def _weighted(v, own, mixed):
    """Return the energy of one sample of the band, weighted by direction."""
    squares = own * v * v
    products = mixed * arranged(v, 0, 0, 1) * arranged(v, 1, 2, 2)
    return _sum(squares) + 2.0 * _sum(products)


@jit
def finish(F, N):
    """End the segment: close the open event and bring out every final row."""
    _break(F, N)
    N[I_STARTED] = 0


@jit
def _stuck(F, N, weight):
    """Count one more sample equal to the one before; True when so long a run means a held value.

    How long a run the sensor's own coarseness explains follows from the share of equal neighbours seen before it:
    a run of r samples has a chance of share**r.
    """
    if N[I_STUCK_RUN] == 0:
        share = min(max(F[S_FLAT], 1e-3), 0.999)
        N[I_STUCK_LIMIT] = max(N[I_STUCK_MIN], int(-40.0 / math.log(share)))
    N[I_STUCK_RUN] += 1
    if N[I_STUCK_RUN] > N[I_STUCK_LIMIT]:
        if N[I_STUCK_RUN] == max(int(rest.HOLD * F[P_RATE]), N[I_STUCK_LIMIT] + 1):
            rest.held(F, N, N[I_INDEX])
        return True
    F[S_FLAT] += (1.0 - F[S_FLAT]) * weight
    return False


@jit
def _cross(F, N, value):
    """Account for lost samples: run on across a short loss, begin anew after a longer one."""
    lost = N[I_GAP]
    N[I_GAP] = 0
    N[I_MISSING] += lost
    if N[I_STARTED] == 0 or lost > N[I_BRIDGE]:
        _break(F, N)
        N[I_INDEX] += lost
        N[I_LAST_MOVE] += lost  # what was not seen is not quiet
        rest.released(F, N)
        if lost > N[I_LONG_GAP]:
            rest.restart(F, N)
        if lost > N[I_SPAN] * N[I_BLOCK]:
            _forget(F, N)
        _restart(F, N, value)
    else:
        N[I_INDEX] += lost


@jit
def _break(F, N):
    """Close the open event where the data end, and finalise all that wait."""
    if N[I_OPEN]:
        _close(F, N, True)
    while N[I_PENDING_N] > 0:
        _finalise(F, N)


@jit
def _forget(F, N):
    """Empty the background histogram: no event opens until it is known again."""
    F[S_ON] = math.inf
    for k in range(HISTOGRAM_BINS):
        N[HISTOGRAM + k] = 0
    N[I_HIST_SEEN] = N[I_HIST_PLACE] = 0
    N[I_HIST_N] = 0
    N[I_LOUD] = 0
    N[I_MED] = N[I_UPPER] = 0
    N[I_MED_BELOW] = N[I_UPPER_BELOW] = 0
    N[I_SPREAD_N] = 0
    N[I_SPREAD_DUE] = 0
    _even(F)


@jit
def _even(F):
    """Weigh all directions alike."""
    F[S_WXX] = F[S_WYY] = F[S_WZZ] = 1.0
    F[S_WXY] = F[S_WXZ] = F[S_WYZ] = 0.0


@jit
def _restart(F, N, value):
    """Set the filters to rest on a sample, as if it had always been so."""
    if N[I_RECEIVED] == 0:
        rest.restart(F, N)
        N[I_PREV_END] = N[I_INDEX]
    N[I_STARTED] = 1
    store(F, Z_LAST, value)
    store(F, Z_HIGH1, wide(-F[FILTERS]) * value)
    store(F, Z_HIGH2, wide(F[FILTERS + 2]) * value)
    store(F, Z_HF1, wide(-F[FILTERS + 10]) * value)
    store(F, Z_HF2, wide(F[FILTERS + 12]) * value)
    none = wide(0.0)
    store(F, Z_LOW1, none)
    store(F, Z_LOW2, none)
    store(F, Z_BLOCK, none)
    F[S_SMOOTH1] = F[S_ENERGY] = F[S_PLAIN1] = F[S_PLAIN] = 0.0
    F[S_REARM] = math.inf
    N[I_BLOCK_FILL] = 0
    N[I_BLOCKS] = 0
    N[I_RING_FILL] = 0
    N[I_EPOCH_FILL] = 0
    N[I_HAS_POSTURE] = 0
    F[S_EX] = F[S_EY] = F[S_EZ] = F[S_ESQUARES] = F[S_EDIFF] = 0.0
    N[I_QUIET_FROM] = N[I_INDEX] + N[I_BLANK]


@inlined
def _block(F, N):
    """Every 0.1 s: gravity, step, background, thresholds, rest."""
    count = N[I_BLOCK_FILL]
    slot = GRAVITY + LANES * (N[I_BLOCKS] % GRAVITY_BLOCKS)
    mean = load(F, Z_BLOCK) / wide(float(count))
    store(F, slot, with_fourth(mean, wide(F[S_ENERGY])))
    store(F, Z_BLOCK, wide(0.0))
    N[I_BLOCK_FILL] = 0
    N[I_BLOCKS] += 1
    x, y, z = part(mean, 0), part(mean, 1), part(mean, 2)
    if N[I_BLOCKS] == 1:
        store(F, Z_SLOW1, wide(-F[FILTERS + 15]) * mean)
        store(F, Z_SLOW2, wide(F[FILTERS + 17]) * mean)
        store(F, Z_BASE1, wide(0.0))
        store(F, Z_BASE2, wide(0.0))
    u = _through(F, FILTERS + 15, Z_SLOW1, Z_SLOW2, mean)
    low = _norm2(u)
    base = _norm2(_through(F, FILTERS + 20, Z_BASE1, Z_BASE2, u))

    _trail(F, N)
    if N[I_OPEN]:
        F[S_LOW] = max(F[S_LOW], low)
        F[S_BASE] += base
        N[I_BASE_N] += 1
        N[I_BUSY_SUM] += count
        F[S_SLOW] = max(F[S_SLOW], rest.apart2(x, y, z, F[S_GX], F[S_GY], F[S_GZ]))
        F[S_BUSY] += F[P_BUSY] * (1.0 - F[S_BUSY])
    else:
        F[S_BUSY] -= F[P_BUSY] * F[S_BUSY]
    rest.advance(F, N, x, y, z)

    if N[I_INDEX] < N[I_QUIET_FROM]:
        return
    _remember(F, N)
    if N[I_HIST_N] < N[I_WARMUP]:
        F[S_ON] = math.inf
        return
    last = N[I_HIST_N] - 1
    median = _quantile(N, I_MED, I_MED_BELOW, last // 2)
    upper = _quantile(N, I_UPPER, I_UPPER_BELOW, 9 * last // 10)
    on = min(max(F[P_ON_MIN], upper - median + F[P_ON_OVER]), F[P_ON_MAX])
    step = F[P_FLOOR_STEPS] * F[S_STEP]
    F[S_FLOOR] = max(F[P_FLOOR], step * step)
    F[S_NOISE] = median
    F[S_ON] = math.exp(median + on)
    if N[I_OPEN]:
        F[S_OFF] = off_level(F)


@inlined
def off_level(F):
    """Return the energy below which an event dies away, from the background as it is now."""
    return max(math.exp(F[S_NOISE] + F[P_OFF]), 0.25 * F[S_FLOOR])


@inlined
def _remember(F, N):
    """Put the present energy into the ring of bins, and what leaves the guard and the span in and out of the median."""
    step = math.inf
    for a in range(3):
        # One difference per block is enough to find a coarse step, and the ring of the filters is not in it.
        d = abs(F[Z_LAST + a] - F[Z_STEP + a])
        if d > 0.0:
            step = min(step, d)
        F[Z_STEP + a] = F[Z_LAST + a]
    F[S_STEP] = min(F[S_STEP], step)

    level = math.log(max(F[S_ENERGY], FAINTEST))
    # A movement is not background, however long the median will stay; a new level that lasts is.
    if N[I_HIST_N] >= N[I_WARMUP] and level > F[S_NOISE] + F[P_LOUD]:
        if N[I_LOUD] < N[I_PATIENCE]:
            N[I_LOUD] += 1
            return
    else:
        N[I_LOUD] = 0
    _spread(F, N)
    position = int((level - HISTOGRAM_LOW) / HISTOGRAM_STEP)
    newest = min(max(position, 0), HISTOGRAM_BINS - 1)
    length = N[I_GUARD] + N[I_SPAN]
    place = N[I_HIST_PLACE]
    oldest = 0 if place == length else place + 1
    N[BIN_RING + place] = newest
    seen = N[I_HIST_SEEN]
    N[I_HIST_SEEN] = seen + 1
    N[I_HIST_PLACE] = oldest
    if seen >= length:
        _count(N, N[BIN_RING + oldest], -1)
    if seen >= N[I_GUARD]:
        guarded = place - N[I_GUARD]
        _count(N, N[BIN_RING + (guarded if guarded >= 0 else guarded + length + 1)], 1)


@inlined
def _spread(F, N):
    """Take the newest block into the background's mean products of the axes, and weigh directions by them.

    Energy along a direction counts by how little of the background lies there (a whitened energy detector, Kay 1998,
    *Detection Theory*): a heartbeat shakes a bed along one line, a jerk mostly along another. Up and down counts more
    than sideways where the settings say so. An even background keeps its energy.
    """
    # A movement that is not yet too loud for the median would still outweigh minutes of background here.
    if N[I_HIST_N] >= N[I_WARMUP] and F[S_ENERGY] > F[S_ON]:
        return
    mask = N[I_RING] - 1
    # Eight samples of a block say as much as all of them.
    stride = max(1, N[I_BLOCK] // 8)
    squares = crosses = wide(0.0)
    hf = diff = 0.0
    count = 0
    k = 1
    while k <= N[I_BLOCK] and k < N[I_RING_FILL]:
        one = load(F, RING + LANES * ((N[I_RING_POS] - k) & mask))
        before = load(F, RING + LANES * ((N[I_RING_POS] - k - 1) & mask))
        squares = squares + one * one
        crosses = crosses + one * arranged(one, 1, 2, 0)
        hf += part(one, 3)
        diff += _norm2(one - before)
        count += 1
        k += stride
    if count == 0:
        return
    N[I_SPREAD_N] += 1
    weight = max(F[P_SPREAD], 1.0 / N[I_SPREAD_N])
    scale = 1.0 / count
    F[S_BXX] += weight * (part(squares, 0) * scale - F[S_BXX])
    F[S_BYY] += weight * (part(squares, 1) * scale - F[S_BYY])
    F[S_BZZ] += weight * (part(squares, 2) * scale - F[S_BZZ])
    F[S_BXY] += weight * (part(crosses, 0) * scale - F[S_BXY])
    F[S_BXZ] += weight * (part(crosses, 2) * scale - F[S_BXZ])
    F[S_BYZ] += weight * (part(crosses, 1) * scale - F[S_BYZ])
    F[S_BHF] += weight * (hf * scale - F[S_BHF])
    F[S_BDIFF] += weight * (diff * scale - F[S_BDIFF])
    if F[P_WHITEN] > 0.0 and N[I_SPREAD_N] >= N[I_WARMUP]:
        N[I_SPREAD_DUE] -= 1
        if N[I_SPREAD_DUE] <= 0:
            # Once in half a second: the background changes over many.
            N[I_SPREAD_DUE] = 5
            _weigh(F, N)


@inlined
def _weigh(F, N):
    """Make the weights of the directions from the background's spread."""
    mean = (F[S_BXX] + F[S_BYY] + F[S_BZZ]) / 3.0
    # A part of the mean, and a part of what coarse steps make up, on every axis: an axis that stays on one count
    # is not free of noise.
    even = F[P_WHITEN] * mean + 0.5 * F[S_STEP] * F[S_STEP] + 1e-14
    xx, yy, zz = F[S_BXX] + even, F[S_BYY] + even, F[S_BZZ] + even
    xy, xz, yz = F[S_BXY], F[S_BXZ], F[S_BYZ]
    ixx, iyy, izz = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    ixy, ixz, iyz = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    scale = (mean + even) / (xx * ixx + xy * ixy + xz * ixz)
    gx, gy, gz = _gravity(F, N, 0, max(2, int(1.0 / F[P_BLOCK])))
    hx, hy, hz = (
        ixx * gx + ixy * gy + ixz * gz,
        ixy * gx + iyy * gy + iyz * gz,
        ixz * gx + iyz * gy + izz * gz,
    )
    along = gx * hx + gy * hy + gz * hz
    side = 1.0 if along <= 0.0 else F[P_SIDEWAYS]
    up = 0.0 if along <= 0.0 else (1.0 - side) / along
    scale *= 3.0 / (1.0 + 2.0 * side)
    F[S_WXX] = scale * (side * ixx + up * hx * hx)
    F[S_WYY] = scale * (side * iyy + up * hy * hy)
    F[S_WZZ] = scale * (side * izz + up * hz * hz)
    F[S_WXY] = scale * (side * ixy + up * hx * hy)
    F[S_WXZ] = scale * (side * ixz + up * hx * hz)
    F[S_WYZ] = scale * (side * iyz + up * hy * hz)


@inlined
def _trail(F, N):
    """Take the newest block into what follows the events that wait for their final row."""
    for k in range(N[I_PENDING_N]):
        p = PENDING + ROW * ((N[I_PENDING_HEAD] + k) % PENDING_ROWS)
        if F[p + R_TAILED] < TAIL_S / F[P_BLOCK]:
            F[p + R_TAILED] += 1.0
            F[p + R_TRAIL] += F[S_ENERGY]


@inlined
def _count(N, b, by):
    """Add `by` to bin `b`, keeping the number of values below each quantile's bin."""
    N[HISTOGRAM + b] += by
    N[I_HIST_N] += by
    # No branches: half of the values are below the median, which no processor can foresee.
    N[I_MED_BELOW] += by if b < N[I_MED] else 0
    N[I_UPPER_BELOW] += by if b < N[I_UPPER] else 0


@inlined
def _quantile(N, at, under, rank):
    """Return ln energy at a rank, its bin's values taken as spread evenly over the bin.

    The bin, at state position `at`, and the number of values below it follow the rank.
    """
    b, below = N[at], N[under]
    while below > rank:
        b -= 1
        below -= N[HISTOGRAM + b]
    while below + N[HISTOGRAM + b] <= rank:
        below += N[HISTOGRAM + b]
        b += 1
    N[at], N[under] = b, below
    return HISTOGRAM_LOW + HISTOGRAM_STEP * (b + (rank - below + 0.5) / N[HISTOGRAM + b])


@jit
def _open(F, N, level):
    """Open an event: trace its onset back and take in what the ring holds of it."""
    mask = N[I_RING] - 1
    here = N[I_RING_POS]
    back = min(N[I_LOOKBACK], N[I_RING_FILL], N[I_INDEX] - N[I_PREV_END])
    peak = 0.0
    for k in range(back + 1):
        peak = max(peak, _ring_energy(F, (here - k) & mask))
    threshold = max(6.0 * math.exp(F[S_NOISE]), 0.02 * peak)
    quiet_run = max(2, int(0.05 * F[P_RATE]))
    onset = 0
    quiet = 0
    for k in range(back + 1):
        if _ring_energy(F, (here - k) & mask) >= threshold:
            onset = k
            quiet = 0
        else:
            quiet += 1
            if quiet >= quiet_run:
                break

    N[I_OPEN] = 1
    F[S_OFF] = off_level(F)
    N[I_ONSET] = N[I_INDEX] - onset
    N[I_LAST_ABOVE] = N[I_INDEX]
    N[I_PEAK_AT] = N[I_ONSET]
    N[I_BIN_WIDTH] = 1
    N[I_BIN] = N[I_BIN_FILL] = 0
    N[I_BURSTS] = 1
    N[I_BURST_AT] = N[I_INDEX]
    F[S_BURST_SUM] = F[S_BURST_SQUARES] = 0.0
    N[I_RISING] = 1
    N[I_EV_REST] = N[I_REST]
    for k in range(ENERGY_BINS):
        F[BINS + k] = 0.0
    F[S_MAX] = F[S_CREST] = level
    F[S_VALLEY] = level
    F[S_PEAK] = F[S_HF] = F[S_DIFF] = F[S_SLOW] = F[S_LOW] = F[S_BASE] = F[S_BELOW3] = F[S_BELOW6] = 0.0
    N[I_BASE_N] = 0
    N[I_SAID] = 0
    for k in range(LANES):
        F[Z_THREE1 + k] = F[Z_THREE2 + k] = F[Z_SIX1 + k] = F[Z_SIX2 + k] = 0.0
    F[S_XX] = F[S_YY] = F[S_ZZ] = F[S_XY] = F[S_XZ] = F[S_YZ] = 0.0
    F[S_EVNOISE] = F[S_NOISE]
    F[S_EVBUSY] = F[S_BUSY]
    F[S_EVSTIR] = F[S_STIR]
    # Whole blocks before the onset, the last second of them.
    F[S_GX], F[S_GY], F[S_GZ] = _gravity(F, N, onset // N[I_BLOCK] + 1, max(2, int(1.0 / F[P_BLOCK])))
    F[S_BEFORE] = _energy_before(F, N, onset / F[P_RATE])
    for k in range(onset, -1, -1):
        _accumulate(F, N, (here - k) & mask, N[I_INDEX] - k)


@jit
def _ring_energy(F, slot):
    """Return the weighted energy of the sample in a slot of the ring."""
    own, mixed = _weights(F)
    return _weighted(load(F, RING + LANES * slot), own, mixed)


@inlined
def _gravity(F, N, skip, count):
    """Return the mean acceleration of `count` blocks, the newest `skip` left out, as far as there are any."""
    total = wide(0.0)
    newest = N[I_BLOCKS] - 1 - skip
    oldest = max(newest - count + 1, N[I_BLOCKS] - GRAVITY_BLOCKS, 0)
    if newest < oldest:
        newest = oldest = max(N[I_BLOCKS] - 1, 0)
    for k in range(oldest, newest + 1):
        total = total + load(F, GRAVITY + LANES * (k % GRAVITY_BLOCKS))
    mean = total * wide(1.0 / (newest - oldest + 1))
    return part(mean, 0), part(mean, 1), part(mean, 2)


@jit
def _energy_before(F, N, onset):
    """Return the mean of the smoothed energy from 1.5 to 0.3 s before what began `onset` seconds ago."""
    newest = N[I_BLOCKS] - 1 - int((onset + 0.3) / F[P_BLOCK])
    oldest = max(newest - int(1.2 / F[P_BLOCK]), N[I_BLOCKS] - GRAVITY_BLOCKS, 0)
    if newest < oldest:
        return math.exp(F[S_NOISE])
    total = 0.0
    for k in range(oldest, newest + 1):
        total += F[GRAVITY + LANES * (k % GRAVITY_BLOCKS) + 3]
    return total / (newest - oldest + 1)


@jit
def _accumulate(F, N, ring, index):
    """Take one sample of the ring, whose number is `index`, into the open event's features."""
    o = RING + LANES * ring
    before = RING + LANES * ((ring - 1) & (N[I_RING] - 1))
    x, y, z = F[o], F[o + 1], F[o + 2]
    xx, yy, zz = x * x, y * y, z * z
    energy = xx + yy + zz
    F[S_XX] += xx
    F[S_YY] += yy
    F[S_ZZ] += zz
    F[S_XY] += x * y
    F[S_XZ] += x * z
    F[S_YZ] += y * z
    F[S_HF] += F[o + 3]
    F[S_DIFF] += rest.apart2(x, y, z, F[before], F[before + 1], F[before + 2])
    if energy > F[S_PEAK]:
        F[S_PEAK] = energy
        N[I_PEAK_AT] = index
    value = pack(x, y, z)
    u = _through(F, FILTERS + 25, Z_THREE1, Z_THREE2, value)
    v = _through(F, FILTERS + 30, Z_SIX1, Z_SIX2, value)
    below3, below6 = u * u, v * v
    F[S_BELOW3] = F[S_BELOW3] + part(below3, 0) + part(below3, 1) + part(below3, 2)
    F[S_BELOW6] = F[S_BELOW6] + part(below6, 0) + part(below6, 1) + part(below6, 2)

    if N[I_BIN_FILL] >= N[I_BIN_WIDTH]:
        N[I_BIN] += 1
        N[I_BIN_FILL] = 0
        if N[I_BIN] == ENERGY_BINS:
            for k in range(ENERGY_BINS // 2):
                F[BINS + k] = F[BINS + 2 * k] + F[BINS + 2 * k + 1]
            for k in range(ENERGY_BINS // 2, ENERGY_BINS):
                F[BINS + k] = 0.0
            N[I_BIN] = ENERGY_BINS // 2
            N[I_BIN_WIDTH] *= 2
    F[BINS + N[I_BIN]] += _ring_energy(F, ring)
    N[I_BIN_FILL] += 1


@jit
def _follow(F, N, level):
    """Follow the open event's energy: its peak, its bursts, its end."""
    F[S_MAX] = max(F[S_MAX], level)
    if N[I_RISING]:
        F[S_CREST] = max(F[S_CREST], level)
        if level < 0.4 * F[S_CREST]:
            N[I_RISING] = 0
            F[S_VALLEY] = level
    else:
        F[S_VALLEY] = min(F[S_VALLEY], level)
        if level > 2.5 * F[S_VALLEY]:
            N[I_RISING] = 1
            N[I_BURSTS] += 1
            between = float(N[I_INDEX] - N[I_BURST_AT])
            F[S_BURST_SUM] += between
            F[S_BURST_SQUARES] += between * between
            N[I_BURST_AT] = N[I_INDEX]
            F[S_CREST] = level
    # The first of the two smoothing poles alone lets go sooner than both.
    if F[S_SMOOTH1] >= max(F[S_OFF], F[S_MAX] * F[P_RELEASE]):
        N[I_LAST_ABOVE] = N[I_INDEX]
        if N[I_INDEX] - N[I_ONSET] >= N[I_MAX_EVENT]:
            _close(F, N, False)
    elif N[I_INDEX] - N[I_LAST_ABOVE] >= N[I_HANG]:
        _close(F, N, False)
    elif N[I_SAID] == 0 and N[I_INDEX] - N[I_LAST_ABOVE] >= N[I_EARLY]:
        _announce(F, N)


@jit
def _announce(F, N):
    """Bring out the provisional row of the open event, whose energy has died away; it may yet go on."""
    o = _describe(F, N)
    _emit(F, N, o)
    N[I_SAID] = 1


@jit
def _close(F, N, cut):
    """Close the open event: its features, its provisional row unless that is out, its place in the queue."""
    o = _describe(F, N)
    F[o + R_CUT] = 1.0 if cut else 0.0
    N[I_OPEN] = 0
    N[I_PENDING_N] += 1
    F[S_REARM] = F[S_ENERGY] * F[P_REARM]
    for k in range(N[I_PENDING_N] - 1):
        # Those that still wait learn what followed them.
        p = PENDING + ROW * ((N[I_PENDING_HEAD] + k) % PENDING_ROWS)
        F[p + R_FOLLOW] = max(F[p + R_FOLLOW], math.log(F[S_MAX]) - F[p + R_NOISE] - F[p + R_PROMINENCE])
        F[p + R_NEXT] = min(F[p + R_NEXT], (F[o + R_ONSET] - F[p + R_END]) / F[P_RATE])
    if N[I_SAID] == 0:
        _emit(F, N, o)
    N[I_NEXT_ID] += 1
    N[I_PREV_ONSET] = int(F[o + R_ONSET])
    N[I_PREV_END] = int(F[o + R_END])
    label = F[o + R_LABEL]
    # A member of a series does not mean that the person moves about, whatever else its label says.
    if (label == labels.POSTURE_SHIFT or label == labels.MOVEMENT) and F[o + R_CHAIN] < labels.SERIES_LENGTH:
        rest.moved(F, N, int(F[o + R_END]), F[o + R_LENGTH], F[o + R_ANGLE])
    if N[I_PENDING_N] == PENDING_ROWS:
        # One place stays free, for the event that opens next.
        _finalise(F, N)


@jit
def _onset(F, N):
    """Return the number of the open event's onset sample, the filters' delay taken off."""
    return max(N[I_ONSET] - int(F[P_DELAY] + 0.5), N[I_PREV_END])


@jit
def _describe(F, N):
    """Write the open event, as it is by now, into the next free place of the queue, and return that place."""
    rate = F[P_RATE]
    start = N[I_ONSET]
    end = N[I_LAST_ABOVE] + 1
    onset = _onset(F, N)
    o = PENDING + ROW * ((N[I_PENDING_HEAD] + N[I_PENDING_N]) % PENDING_ROWS)
    plain = F[S_XX] + F[S_YY] + F[S_ZZ]
    # The background's share is taken off, so that a small event does not seem another kind than a large one; how
    # much is left of a faint one is uncertain.
    taken = float(N[I_BIN] * N[I_BIN_WIDTH] + N[I_BIN_FILL])
    count = taken if N[I_SPREAD_N] > 0 else 0.0
    background = count * (F[S_BXX] + F[S_BYY] + F[S_BZZ])
    if background > 0.75 * plain:
        count *= 0.75 * plain / background
    xx, yy, zz = F[S_XX] - count * F[S_BXX], F[S_YY] - count * F[S_BYY], F[S_ZZ] - count * F[S_BZZ]
    xy, xz, yz = F[S_XY] - count * F[S_BXY], F[S_XZ] - count * F[S_BXZ], F[S_YZ] - count * F[S_BYZ]
    total = xx + yy + zz
    F[o + R_ONSET] = onset
    F[o + R_END] = end
    F[o + R_LENGTH] = (end - onset) / rate
    F[o + R_PEAK] = math.sqrt(F[S_PEAK])
    F[o + R_PROMINENCE] = math.log(F[S_MAX]) - F[S_EVNOISE]
    F[o + R_RISE] = (N[I_PEAK_AT] - start) / rate
    _course(F, N, o, end - start)
    F[o + R_HF] = max(F[S_HF] - count * F[S_BHF], 0.0) / total if F[P_HAS_HF] > 0.0 else math.nan
    F[o + R_QUIET] = (onset - N[I_PREV_END]) / rate
    F[o + R_INTERVAL] = (onset - N[I_PREV_ONSET]) / rate if N[I_NEXT_ID] > 0 else math.nan
    F[o + R_REST] = N[I_EV_REST]
    F[o + R_ID] = N[I_NEXT_ID]
    F[o + R_REVISION] = 0
    _directions(F, o, xx, yy, zz, xy, xz, yz)
    ratio = min(math.sqrt(max(F[S_DIFF] - count * F[S_BDIFF], 0.0) / total) / 2.0, 1.0)
    F[o + R_FREQ] = math.asin(ratio) * rate / math.pi
    F[o + R_SLOW] = math.sqrt(F[S_SLOW] / F[S_PEAK])
    F[o + R_LOW] = math.sqrt(F[S_LOW] / F[S_PEAK])
    F[o + R_BASE] = F[S_BASE] / max(N[I_BASE_N], 1) * taken / plain
    F[o + R_BELOW3] = F[S_BELOW3] / plain
    F[o + R_BELOW6] = F[S_BELOW6] / plain
    F[o + R_BEFORE] = math.log(max(F[S_BEFORE], FAINTEST) / F[S_MAX])
    F[o + R_TAIL] = -F[o + R_PROMINENCE]
    F[o + R_TRAIL] = F[o + R_TAILED] = 0.0
    F[o + R_BUSY] = F[S_EVBUSY]
    F[o + R_STIR] = F[S_EVSTIR]
    F[o + R_AFTER] = 0.0
    F[o + R_FOLLOW] = NOTHING_FOLLOWED
    F[o + R_NEXT] = N[I_FINAL] / rate
    F[o + R_BURSTS] = N[I_BURSTS]
    F[o + R_RHYTHM] = _unevenness(F, N)
    F[o + R_NOISE] = F[S_EVNOISE]
    F[o + R_CUT] = 0.0
    F[o + R_GX], F[o + R_GY], F[o + R_GZ] = F[S_GX], F[S_GY], F[S_GZ]
    F[o + R_MARK] = N[I_BUSY_SUM]
    _turned(F, N, o, max(1, int(0.2 / F[P_BLOCK])))
    labels.link(F, N, o)
    labels.judge(F, o)
    return o


@jit
def _course(F, N, o, length):
    """Set what the row says of the course of the energy over the first `length` samples.

    The background's share is taken off each bin, so that a small event does not seem longer than a large one.
    """
    width = N[I_BIN_WIDTH]
    last = min(int((length - 1) // width), N[I_BIN])
    background = math.exp(F[S_EVNOISE]) * width
    total = centre = 0.0
    for k in range(last + 1):
        energy = max(F[BINS + k] - background, 0.0)
        F[COURSE + k] = energy
        total += energy
        centre += energy * (k + 0.5)
    scale = width / F[P_RATE]
    if total <= 0.0:
        # A level that lasts: as long as it is, and even.
        F[COURSE] = total = 1.0
        for k in range(1, last + 1):
            F[COURSE + k] = 1.0
            total += 1.0
        centre = 0.5 * total * (last + 1.0)
    first = _reach(F, last, 0.05 * total)
    t90 = _reach(F, last, 0.95 * total) - first
    t50 = _reach(F, last, 0.75 * total) - _reach(F, last, 0.25 * total)
    F[o + R_T90] = max(t90 * scale, 0.5 / F[P_RATE])
    F[o + R_T50] = t50 * scale
    F[o + R_CENTRE] = centre / total * scale
    before = _until(F, last, first) / total
    for k in range(6):
        after = _until(F, last, first + LAGS[k] / scale) / total
        F[o + R_E1 + k] = after - before
        before = after


@jit
def _until(F, last, place):
    """Return the energy summed up to a place (in bins, with its fraction) of the course."""
    total = 0.0
    for k in range(last + 1):
        if k + 1 <= place:
            total += F[COURSE + k]
        else:
            return total + max(place - k, 0.0) * F[COURSE + k]
    return total


@jit
def _reach(F, last, level):
    """Return the bin, with its fraction, at which the summed energy reaches `level`."""
    before = 0.0
    for k in range(last + 1):
        after = before + F[COURSE + k]
        if after >= level and after > before:
            return k + (level - before) / (after - before)
        before = after
    return last + 1.0


@jit
def _directions(F, o, xx, yy, zz, xy, xz, yz):
    """Set the row's main direction and the shares of its energy along it and in the plane of the first two.

    From the eigenvalues of the sums of products of the axes (trigonometric solution of the cubic, Smith 1961).
    """
    total = xx + yy + zz
    mean = total / 3.0
    a, b, c = xx - mean, yy - mean, zz - mean
    p = math.sqrt((a * a + b * b + c * c + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0)
    if p <= 1e-9 * mean:
        F[o + R_LINE], F[o + R_PLANE] = 1.0 / 3.0, 2.0 / 3.0
        F[o + R_UX] = F[o + R_UY] = F[o + R_UZ] = 0.0
        return
    determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    third = math.acos(min(max(determinant / (2.0 * (p * (p * p))), -1.0), 1.0)) / 3.0
    largest = 2.0 * p * math.cos(third)
    smallest = 2.0 * p * math.cos(third + 2.0 * math.pi / 3.0)
    F[o + R_LINE] = min((mean + largest) / total, 1.0)
    F[o + R_PLANE] = min(1.0 - (mean + smallest) / total, 1.0)
    # The direction stands square to the rows of what is left: the cross product of the two that part most.
    a, b, c = a - largest, b - largest, c - largest
    ux, uy, uz = xy * yz - xz * b, xz * xy - a * yz, a * b - xy * xy
    vx, vy, vz = xy * c - xz * yz, xz * xz - a * c, a * yz - xy * xz
    wx, wy, wz = b * c - yz * yz, yz * xz - xy * c, xy * yz - b * xz
    u, v, w = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, wx * wx + wy * wy + wz * wz
    if v > u and v >= w:
        ux, uy, uz, u = vx, vy, vz, v
    elif w > u:
        ux, uy, uz, u = wx, wy, wz, w
    scale = 1.0 / math.sqrt(u) if u > 0.0 else 0.0
    F[o + R_UX], F[o + R_UY], F[o + R_UZ] = scale * ux, scale * uy, scale * uz


@jit
def _turned(F, N, o, count):
    """Set what is left of a movement: gravity before it against the mean of the newest `count` blocks."""
    x, y, z = _gravity(F, N, 0, count)
    left = rest.apart2(x, y, z, F[o + R_GX], F[o + R_GY], F[o + R_GZ])
    F[o + R_NET] = math.sqrt(left) / F[o + R_PEAK]
    F[o + R_ANGLE] = rest.angle(F[o + R_GX], F[o + R_GY], F[o + R_GZ], x, y, z)


@jit
def _finalise(F, N):
    """Bring out the final row of the event that has waited longest."""
    o = PENDING + ROW * N[I_PENDING_HEAD]
    N[I_PENDING_HEAD] = (N[I_PENDING_HEAD] + 1) % PENDING_ROWS
    N[I_PENDING_N] -= 1
    if N[I_INDEX] >= F[o + R_END] + N[I_FINAL]:
        _turned(F, N, o, max(1, int(1.0 / F[P_BLOCK])))
    F[o + R_AFTER] = min((N[I_BUSY_SUM] - F[o + R_MARK]) / N[I_FINAL], 1.0)
    if N[I_OPEN]:
        F[o + R_FOLLOW] = max(F[o + R_FOLLOW], math.log(F[S_MAX]) - F[o + R_NOISE] - F[o + R_PROMINENCE])
        F[o + R_NEXT] = min(F[o + R_NEXT], (_onset(F, N) - F[o + R_END]) / F[P_RATE])
    F[o + R_REVISION] = 1
    if F[o + R_TRAIL] > 0.0:
        F[o + R_TAIL] = math.log(F[o + R_TRAIL] / F[o + R_TAILED]) - F[o + R_NOISE] - F[o + R_PROMINENCE]
    # When this event closed, a long one before it may not yet have been final.
    labels.link(F, N, o)
    labels.judge(F, o)
    _emit(F, N, o)
    slot = SERIES + ROW * (N[I_SERIES_N] % SERIES_ROWS)
    for k in range(ROW):
        F[slot + k] = F[o + k]
    N[I_SERIES_N] += 1
    _revise(F, N, slot)


@jit
def _revise(F, N, slot):
    """Judge anew what the final event at `slot` has shown in another light.

    The one before it that it is most like has a likeness after it; the first members of a series are members.
    """
    partner = int(F[slot + R_PARTNER])
    if partner >= 0 and partner > N[I_SERIES_N] - 1 - SERIES_ROWS:
        p = SERIES + ROW * (partner % SERIES_ROWS)
        if F[slot + R_LIKE] > F[p + R_LIKE_LATER]:
            F[p + R_LIKE_LATER] = F[slot + R_LIKE]
            _judge_anew(F, N, p)
    if F[slot + R_CHAIN] < labels.SERIES_LENGTH:
        return
    while F[slot + R_LINK] >= 0.0 and F[slot + R_LINK] > N[I_SERIES_N] - 1 - SERIES_ROWS:
        slot = SERIES + ROW * (int(F[slot + R_LINK]) % SERIES_ROWS)
        if F[slot + R_CHAIN] >= labels.SERIES_LENGTH:
            return
        F[slot + R_CHAIN] = labels.SERIES_LENGTH
        _judge_anew(F, N, slot)


@jit
def _judge_anew(F, N, slot):
    """Judge a final row again and bring it out where its label, or clearly its score, is another now."""
    label, score = F[slot + R_LABEL], F[slot + R_SCORE]
    labels.judge(F, slot)
    if F[slot + R_LABEL] != label or abs(F[slot + R_SCORE] - score) > NOTABLE:
        F[slot + R_REVISION] += 1.0
        _emit(F, N, slot)
    else:
        # So that many small changes are told when together they are worth it.
        F[slot + R_SCORE] = score


@jit
def _unevenness(F, N):
    """Return the spread over the mean of the times between the open event's bursts."""
    count = N[I_BURSTS] - 1
    if count < 3:
        return math.nan
    mean = F[S_BURST_SUM] / count
    return math.sqrt(max(F[S_BURST_SQUARES] / count - mean * mean, 0.0)) / mean


@jit
def _emit(F, N, o):
    """Copy the row at `o` to the rows that come out."""
    out = OUT + ROW * N[I_OUT_N]
    N[I_OUT_N] += 1
    for k in range(ROW):
        F[out + k] = F[o + k]
    F[out + R_EMITTED] = N[I_INDEX]
