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

from numba import njit

from hypnic import labels, rest
from hypnic.layout import *  # noqa: F403  (positions in the state: a table, not an interface)

__all__ = ["finish", "run"]


@njit(cache=True)
def run(F, I, xyz, start):
    """Take in samples until they or the room for rows are used up.

    Parameters
    ----------
    F, I : ndarray of float64, int64
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
    limit = F[P_MAX_G]
    smooth = F[P_SMOOTH]
    has_hf = F[P_HAS_HF] > 0.0
    flat_weight = 1.0 / (60.0 * F[P_RATE])
    mask = I[I_RING] - 1
    i = start
    n = xyz.shape[0]
    while i < n and I[I_OUT_N] < OUT_FULL:
        x, y, z = float(xyz[i, 0]), float(xyz[i, 1]), float(xyz[i, 2])
        i += 1
        # Written so that NaN fails it too.
        if not (abs(x) <= limit and abs(y) <= limit and abs(z) <= limit):
            I[I_INVALID] += 1
            I[I_GAP] += 1
            continue
        if x == F[Z_LAST] and y == F[Z_LAST + 1] and z == F[Z_LAST + 2]:
            if _stuck(F, I, flat_weight):
                I[I_STUCK] += 1
                I[I_GAP] += 1
                continue
        else:
            F[S_FLAT] -= F[S_FLAT] * flat_weight
            I[I_STUCK_RUN] = 0
        if I[I_GAP] > 0:
            _cross(F, I, x, y, z)
        elif I[I_STARTED] == 0:
            _restart(F, I, x, y, z)
        I[I_RECEIVED] += 1
        F[Z_LAST], F[Z_LAST + 1], F[Z_LAST + 2] = x, y, z

        ring = I[I_RING_POS]
        energy = 0.0
        high = 0.0
        slot = RING + LANES * ring
        for a in range(3):
            value = F[Z_LAST + a]
            u = F[FILTERS] * value + F[Z_HIGH1 + a]
            F[Z_HIGH1 + a] = F[FILTERS + 1] * value - F[FILTERS + 3] * u + F[Z_HIGH2 + a]
            F[Z_HIGH2 + a] = F[FILTERS + 2] * value - F[FILTERS + 4] * u
            v = F[FILTERS + 5] * u + F[Z_LOW1 + a]
            F[Z_LOW1 + a] = F[FILTERS + 6] * u - F[FILTERS + 8] * v + F[Z_LOW2 + a]
            F[Z_LOW2 + a] = F[FILTERS + 7] * u - F[FILTERS + 9] * v
            F[slot + a] = v
            F[Z_BLOCK + a] += value
            energy += v * v
        if has_hf:
            for a in range(3):
                value = F[Z_LAST + a]
                w = F[FILTERS + 10] * value + F[Z_HF1 + a]
                F[Z_HF1 + a] = F[FILTERS + 11] * value - F[FILTERS + 13] * w + F[Z_HF2 + a]
                F[Z_HF2 + a] = F[FILTERS + 12] * value - F[FILTERS + 14] * w
                high += w * w
        F[slot + 3] = high
        F[S_SMOOTH1] += smooth * (energy - F[S_SMOOTH1])
        F[S_ENERGY] += smooth * (F[S_SMOOTH1] - F[S_ENERGY])
        level = F[S_ENERGY]

        if I[I_OPEN]:
            _accumulate(F, I, ring, I[I_INDEX])
            _follow(F, I, level)
        else:
            if level > F[S_ON] and level > F[S_REARM] and I[I_INDEX] >= I[I_QUIET_FROM]:
                _open(F, I, level)
            else:
                F[S_REARM] = min(F[S_REARM], level * F[P_REARM])

        I[I_RING_POS] = (ring + 1) & mask
        I[I_RING_FILL] += 1
        I[I_INDEX] += 1
        if I[I_PENDING_N] > 0:
            head = PENDING + ROW * I[I_PENDING_HEAD]
            if I[I_INDEX] >= F[head + R_END] + I[I_FINAL]:
                _finalise(F, I)
        I[I_BLOCK_FILL] += 1
        if I[I_BLOCK_FILL] >= I[I_BLOCK]:
            _block(F, I)
    return i


@njit(cache=True)
def finish(F, I):
    """End the segment: close the open event and bring out every final row."""
    I[I_INDEX] += I[I_GAP]
    I[I_MISSING] += I[I_GAP]
    I[I_GAP] = 0
    _break(F, I)
    I[I_STARTED] = 0


@njit(cache=True)
def _stuck(F, I, weight):
    """Count one more sample equal to the one before; True when so long a run means a held value.

    How long a run the sensor's own coarseness explains follows from the share of equal neighbours seen before it:
    a run of r samples has a chance of share**r.
    """
    if I[I_STUCK_RUN] == 0:
        share = min(max(F[S_FLAT], 1e-3), 0.999)
        I[I_STUCK_LIMIT] = max(I[I_STUCK_MIN], int(-40.0 / math.log(share)))
    I[I_STUCK_RUN] += 1
    if I[I_STUCK_RUN] > I[I_STUCK_LIMIT]:
        return True
    F[S_FLAT] += (1.0 - F[S_FLAT]) * weight
    return False


@njit(cache=True)
def _cross(F, I, x, y, z):
    """Account for lost samples: run on across a short loss, begin anew after a longer one."""
    lost = I[I_GAP]
    I[I_GAP] = 0
    I[I_MISSING] += lost
    if I[I_STARTED] == 0 or lost > I[I_BRIDGE]:
        _break(F, I)
        I[I_INDEX] += lost
        I[I_LAST_MOVE] += lost  # what was not seen is not quiet
        if lost > I[I_LONG_GAP]:
            rest.restart(F, I)
        if lost > I[I_SPAN] * I[I_BLOCK]:
            _forget(I)
        _restart(F, I, x, y, z)
    else:
        I[I_INDEX] += lost


@njit(cache=True)
def _break(F, I):
    """Close the open event where the data end, and finalise all that wait."""
    if I[I_OPEN]:
        _close(F, I, True)
    while I[I_PENDING_N] > 0:
        _finalise(F, I)


@njit(cache=True)
def _forget(I):
    """Empty the background histogram."""
    for k in range(HISTOGRAM_BINS):
        I[HISTOGRAM + k] = 0
    I[I_HIST_SEEN] = 0
    I[I_HIST_N] = 0
    I[I_MED] = I[I_UPPER] = 0
    I[I_MED_BELOW] = I[I_UPPER_BELOW] = 0


@njit(cache=True)
def _restart(F, I, x, y, z):
    """Set the filters to rest on the sample x, y, z, as if it had always been so."""
    if I[I_RECEIVED] == 0:
        rest.restart(F, I)
        I[I_PREV_END] = I[I_INDEX]
    I[I_STARTED] = 1
    F[Z_LAST], F[Z_LAST + 1], F[Z_LAST + 2] = x, y, z
    for a in range(3):
        value = F[Z_LAST + a]
        F[Z_HIGH1 + a] = -F[FILTERS] * value
        F[Z_HIGH2 + a] = F[FILTERS + 2] * value
        F[Z_HF1 + a] = -F[FILTERS + 10] * value
        F[Z_HF2 + a] = F[FILTERS + 12] * value
        F[Z_LOW1 + a] = F[Z_LOW2 + a] = 0.0
        F[Z_BLOCK + a] = 0.0
    F[S_SMOOTH1] = F[S_ENERGY] = 0.0
    F[S_REARM] = math.inf
    I[I_BLOCK_FILL] = 0
    I[I_BLOCKS] = 0
    I[I_RING_FILL] = 0
    I[I_EPOCH_FILL] = 0
    I[I_HAS_POSTURE] = 0
    F[S_EX] = F[S_EY] = F[S_EZ] = 0.0
    I[I_QUIET_FROM] = I[I_INDEX] + I[I_BLANK]


@njit(cache=True)
def _block(F, I):
    """Every 0.1 s: gravity, step, background, thresholds, rest."""
    count = I[I_BLOCK_FILL]
    slot = GRAVITY + 3 * (I[I_BLOCKS] % GRAVITY_BLOCKS)
    for a in range(3):
        F[slot + a] = F[Z_BLOCK + a] / count
        F[Z_BLOCK + a] = 0.0
    I[I_BLOCK_FILL] = 0
    I[I_BLOCKS] += 1
    x, y, z = F[slot], F[slot + 1], F[slot + 2]

    if I[I_OPEN]:
        I[I_BUSY_SUM] += count
        F[S_SLOW] = max(F[S_SLOW], (x - F[S_GX]) ** 2 + (y - F[S_GY]) ** 2 + (z - F[S_GZ]) ** 2)
        F[S_BUSY] += F[P_BUSY] * (1.0 - F[S_BUSY])
    else:
        F[S_BUSY] -= F[P_BUSY] * F[S_BUSY]
    rest.advance(F, I, x, y, z)

    if I[I_INDEX] < I[I_QUIET_FROM]:
        return
    _remember(F, I)
    if I[I_HIST_N] < I[I_WARMUP]:
        F[S_ON] = math.inf
        return
    median = _quantile(I, I[I_MED], I[I_MED_BELOW], (I[I_HIST_N] - 1) // 2)
    upper = _quantile(I, I[I_UPPER], I[I_UPPER_BELOW], 3 * (I[I_HIST_N] - 1) // 4)
    on = min(max(F[P_ON_MIN], F[P_ON_SPREAD] * (upper - median)), F[P_ON_MAX])
    step = F[P_FLOOR_STEPS] * F[S_STEP]
    floor = max(F[P_FLOOR], step * step)
    F[S_NOISE] = median
    F[S_ON] = max(math.exp(median + on), floor)
    F[S_OFF] = max(math.exp(median + F[P_OFF]), 0.25 * floor)


@njit(cache=True)
def _remember(F, I):
    """Put the present energy into the ring of bins, and what leaves the guard and the span in and out of the median."""
    step = math.inf
    for a in range(3):
        # One difference per block is enough to find a coarse step, and the ring of the filters is not in it.
        d = abs(F[Z_LAST + a] - F[Z_BAND + a])
        if d > 0.0:
            step = min(step, d)
        F[Z_BAND + a] = F[Z_LAST + a]
    F[S_STEP] = min(F[S_STEP], step)

    position = int((math.log(max(F[S_ENERGY], 1e-13)) - HISTOGRAM_LOW) / HISTOGRAM_STEP)
    newest = min(max(position, 0), HISTOGRAM_BINS - 1)
    length = I[I_GUARD] + I[I_SPAN]
    slot = BIN_RING + I[I_HIST_SEEN] % (length + 1)
    I[slot] = newest
    seen = I[I_HIST_SEEN]
    I[I_HIST_SEEN] = seen + 1
    if seen >= length:
        _count(I, I[BIN_RING + (seen - length) % (length + 1)], -1)
    if seen >= I[I_GUARD]:
        _count(I, I[BIN_RING + (seen - I[I_GUARD]) % (length + 1)], 1)
    _seek(I, I_MED, I_MED_BELOW, (I[I_HIST_N] - 1) // 2)
    _seek(I, I_UPPER, I_UPPER_BELOW, 3 * (I[I_HIST_N] - 1) // 4)


@njit(cache=True)
def _count(I, b, by):
    """Add `by` to bin `b`, keeping the number of values below each quantile's bin."""
    I[HISTOGRAM + b] += by
    I[I_HIST_N] += by
    if b < I[I_MED]:
        I[I_MED_BELOW] += by
    if b < I[I_UPPER]:
        I[I_UPPER_BELOW] += by


@njit(cache=True)
def _seek(I, at, below, rank):
    """Move the bin at state position `at` to the one that holds the value of that rank."""
    if I[I_HIST_N] == 0:
        return
    while I[below] > rank:
        I[at] -= 1
        I[below] -= I[HISTOGRAM + I[at]]
    while I[below] + I[HISTOGRAM + I[at]] <= rank:
        I[below] += I[HISTOGRAM + I[at]]
        I[at] += 1


@njit(cache=True)
def _quantile(I, b, below, rank):
    """Return ln energy at a rank, its bin's values taken as spread evenly over the bin."""
    return HISTOGRAM_LOW + HISTOGRAM_STEP * (b + (rank - below + 0.5) / I[HISTOGRAM + b])


@njit(cache=True)
def _open(F, I, level):
    """Open an event: trace its onset back and take in what the ring holds of it."""
    mask = I[I_RING] - 1
    here = I[I_RING_POS]
    back = min(I[I_LOOKBACK], I[I_RING_FILL], I[I_INDEX] - I[I_PREV_END])
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

    I[I_OPEN] = 1
    I[I_ONSET] = I[I_INDEX] - onset
    I[I_LAST_ABOVE] = I[I_INDEX]
    I[I_PEAK_AT] = I[I_ONSET]
    I[I_BIN_WIDTH] = 1
    I[I_BIN] = I[I_BIN_FILL] = 0
    I[I_BURSTS] = 1
    I[I_RISING] = 1
    I[I_EV_REST] = I[I_REST]
    for k in range(ENERGY_BINS):
        F[BINS + k] = 0.0
    F[S_MAX] = F[S_CREST] = level
    F[S_VALLEY] = level
    F[S_PEAK] = F[S_SUM] = F[S_HF] = F[S_DIFF] = F[S_SLOW] = 0.0
    F[S_XX] = F[S_YY] = F[S_ZZ] = F[S_XY] = F[S_XZ] = F[S_YZ] = 0.0
    F[S_EVNOISE] = F[S_NOISE]
    F[S_EVBUSY] = F[S_BUSY]
    # Whole blocks before the onset, the last second of them.
    F[S_GX], F[S_GY], F[S_GZ] = _gravity(F, I, onset // I[I_BLOCK] + 1, max(2, int(1.0 / F[P_BLOCK])))
    for k in range(onset, -1, -1):
        _accumulate(F, I, (here - k) & mask, I[I_INDEX] - k)


@njit(cache=True)
def _ring_energy(F, slot):
    o = RING + LANES * slot
    return F[o] * F[o] + F[o + 1] * F[o + 1] + F[o + 2] * F[o + 2]


@njit(cache=True)
def _gravity(F, I, skip, count):
    """Return the mean acceleration of `count` blocks, the newest `skip` left out, as far as there are any."""
    x = y = z = 0.0
    newest = I[I_BLOCKS] - 1 - skip
    oldest = max(newest - count + 1, I[I_BLOCKS] - GRAVITY_BLOCKS, 0)
    if newest < oldest:
        newest = oldest = max(I[I_BLOCKS] - 1, 0)
    for k in range(oldest, newest + 1):
        slot = GRAVITY + 3 * (k % GRAVITY_BLOCKS)
        x += F[slot]
        y += F[slot + 1]
        z += F[slot + 2]
    scale = 1.0 / (newest - oldest + 1)
    return x * scale, y * scale, z * scale


@njit(cache=True)
def _accumulate(F, I, ring, index):
    """Take one sample of the ring, whose number is `index`, into the open event's features."""
    o = RING + LANES * ring
    before = RING + LANES * ((ring - 1) & (I[I_RING] - 1))
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
    F[S_DIFF] += (x - F[before]) ** 2 + (y - F[before + 1]) ** 2 + (z - F[before + 2]) ** 2
    if energy > F[S_PEAK]:
        F[S_PEAK] = energy
        I[I_PEAK_AT] = index

    if I[I_BIN_FILL] >= I[I_BIN_WIDTH]:
        I[I_BIN] += 1
        I[I_BIN_FILL] = 0
        if I[I_BIN] == ENERGY_BINS:
            for k in range(ENERGY_BINS // 2):
                F[BINS + k] = F[BINS + 2 * k] + F[BINS + 2 * k + 1]
                F[BINS + ENERGY_BINS // 2 + k] = 0.0
            I[I_BIN] = ENERGY_BINS // 2
            I[I_BIN_WIDTH] *= 2
    F[BINS + I[I_BIN]] += energy
    I[I_BIN_FILL] += 1


@njit(cache=True)
def _follow(F, I, level):
    """Follow the open event's energy: its peak, its bursts, its end."""
    F[S_MAX] = max(F[S_MAX], level)
    if I[I_RISING]:
        F[S_CREST] = max(F[S_CREST], level)
        if level < 0.4 * F[S_CREST]:
            I[I_RISING] = 0
            F[S_VALLEY] = level
    else:
        F[S_VALLEY] = min(F[S_VALLEY], level)
        if level > 2.5 * F[S_VALLEY]:
            I[I_RISING] = 1
            I[I_BURSTS] += 1
            F[S_CREST] = level
    if level >= max(F[S_OFF], F[S_MAX] * F[P_RELEASE]):
        I[I_LAST_ABOVE] = I[I_INDEX]
        if I[I_INDEX] - I[I_ONSET] >= I[I_MAX_EVENT]:
            _close(F, I, False)
    elif I[I_INDEX] - I[I_LAST_ABOVE] >= I[I_HANG]:
        _close(F, I, False)


@njit(cache=True)
def _close(F, I, cut):
    """Close the open event: its features, its provisional row, its place in the queue."""
    I[I_OPEN] = 0
    F[S_REARM] = F[S_ENERGY] * F[P_REARM]
    rate = F[P_RATE]
    start = I[I_ONSET]
    end = I[I_LAST_ABOVE] + 1
    onset = max(start - int(F[P_DELAY] + 0.5), I[I_PREV_END])

    if I[I_PENDING_N] == PENDING_ROWS:
        _finalise(F, I)
    o = PENDING + ROW * ((I[I_PENDING_HEAD] + I[I_PENDING_N]) % PENDING_ROWS)
    I[I_PENDING_N] += 1
    total = F[S_XX] + F[S_YY] + F[S_ZZ]
    F[o + R_ONSET] = onset
    F[o + R_END] = end
    F[o + R_PEAK] = math.sqrt(F[S_PEAK])
    F[o + R_PROMINENCE] = math.log(F[S_MAX]) - F[S_EVNOISE]
    F[o + R_RISE] = (I[I_PEAK_AT] - start) / rate
    F[o + R_T90] = _t90(F, I, end - start) / rate
    F[o + R_HF] = F[S_HF] / total if F[P_HAS_HF] > 0.0 else math.nan
    F[o + R_QUIET] = (onset - I[I_PREV_END]) / rate
    F[o + R_INTERVAL] = (onset - I[I_PREV_ONSET]) / rate if I[I_NEXT_ID] > 0 else math.nan
    F[o + R_REST] = I[I_EV_REST]
    F[o + R_ID] = I[I_NEXT_ID]
    F[o + R_REVISION] = 0
    F[o + R_LINE] = _main_share(F) / total
    ratio = min(math.sqrt(F[S_DIFF] / total) / 2.0, 1.0)
    F[o + R_FREQ] = math.asin(ratio) * rate / math.pi
    F[o + R_SLOW] = math.sqrt(F[S_SLOW] / F[S_PEAK])
    F[o + R_BUSY] = F[S_EVBUSY]
    F[o + R_AFTER] = 0.0
    F[o + R_FOLLOW] = NOTHING_FOLLOWED
    F[o + R_BURSTS] = I[I_BURSTS]
    F[o + R_NOISE] = F[S_EVNOISE]
    F[o + R_CUT] = 1.0 if cut else 0.0
    F[o + R_GX], F[o + R_GY], F[o + R_GZ] = F[S_GX], F[S_GY], F[S_GZ]
    F[o + R_MARK] = I[I_BUSY_SUM]
    for k in range(I[I_PENDING_N] - 1):
        # Those that still wait learn what followed them.
        p = PENDING + ROW * ((I[I_PENDING_HEAD] + k) % PENDING_ROWS)
        F[p + R_FOLLOW] = max(F[p + R_FOLLOW], math.log(F[S_MAX]) - F[p + R_NOISE] - F[p + R_PROMINENCE])
    _turned(F, I, o, max(1, int(0.3 / F[P_BLOCK])))
    labels.judge(F, I, o, False)
    _emit(F, I, o)
    I[I_NEXT_ID] += 1
    I[I_PREV_ONSET] = onset
    I[I_PREV_END] = end
    if F[o + R_LABEL] >= labels.PLM and F[o + R_LABEL] <= labels.MOVEMENT:
        rest.moved(F, I, end, (end - onset) / rate, F[o + R_ANGLE])


@njit(cache=True)
def _t90(F, I, length):
    """Return the span (samples) that holds the middle 90 % of the energy of the first `length` samples."""
    width = I[I_BIN_WIDTH]
    last = min(int((length - 1) // width), I[I_BIN])
    total = 0.0
    for k in range(last + 1):
        total += F[BINS + k]
    low = high = -1.0
    sum_before = 0.0
    for k in range(last + 1):
        sum_after = sum_before + F[BINS + k]
        if low < 0.0 and sum_after >= 0.05 * total:
            low = k + (0.05 * total - sum_before) / F[BINS + k]
        if sum_after >= 0.95 * total:
            high = k + (0.95 * total - sum_before) / F[BINS + k]
            break
        sum_before = sum_after
    return (high - low) * width


@njit(cache=True)
def _main_share(F):
    """Return the largest eigenvalue of the sums of products of the axes (trigonometric solution of the cubic)."""
    mean = (F[S_XX] + F[S_YY] + F[S_ZZ]) / 3.0
    a, b, c = F[S_XX] - mean, F[S_YY] - mean, F[S_ZZ] - mean
    off = F[S_XY] ** 2 + F[S_XZ] ** 2 + F[S_YZ] ** 2
    p = math.sqrt((a * a + b * b + c * c + 2.0 * off) / 6.0)
    if p <= 1e-12 * mean:
        return mean
    determinant = (
        a * (b * c - F[S_YZ] ** 2)
        - F[S_XY] * (F[S_XY] * c - F[S_YZ] * F[S_XZ])
        + F[S_XZ] * (F[S_XY] * F[S_YZ] - b * F[S_XZ])
    )
    return mean + 2.0 * p * math.cos(math.acos(min(max(determinant / (2.0 * p**3), -1.0), 1.0)) / 3.0)


@njit(cache=True)
def _turned(F, I, o, count):
    """Set the row's angle between gravity before and the mean of the newest `count` blocks."""
    x, y, z = _gravity(F, I, 0, count)
    F[o + R_ANGLE] = rest.angle(F[o + R_GX], F[o + R_GY], F[o + R_GZ], x, y, z)


@njit(cache=True)
def _finalise(F, I):
    """Bring out the final row of the event that has waited longest."""
    o = PENDING + ROW * I[I_PENDING_HEAD]
    I[I_PENDING_HEAD] = (I[I_PENDING_HEAD] + 1) % PENDING_ROWS
    I[I_PENDING_N] -= 1
    if I[I_INDEX] >= F[o + R_END] + I[I_FINAL]:
        _turned(F, I, o, max(1, int(1.0 / F[P_BLOCK])))
    F[o + R_AFTER] = min((I[I_BUSY_SUM] - F[o + R_MARK]) / I[I_FINAL], 1.0)
    if I[I_OPEN]:
        F[o + R_FOLLOW] = max(F[o + R_FOLLOW], math.log(F[S_MAX]) - F[o + R_NOISE] - F[o + R_PROMINENCE])
    F[o + R_REVISION] = 1
    labels.judge(F, I, o, True)
    _emit(F, I, o)


@njit(cache=True)
def _emit(F, I, o):
    """Copy the row at `o` to the rows that come out."""
    out = OUT + ROW * I[I_OUT_N]
    I[I_OUT_N] += 1
    for k in range(ROW):
        F[out + k] = F[o + k]
    F[out + R_EMITTED] = I[I_INDEX]
