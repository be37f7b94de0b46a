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
from hypnic.jit import jit
from hypnic.layout import *

__all__ = ["finish", "run"]


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
    limit = F[P_MAX_G]
    # Read once: every write to the state could, for all the compiler knows, be one to these.
    h0, h1, h2, h3, h4 = F[FILTERS], F[FILTERS + 1], F[FILTERS + 2], F[FILTERS + 3], F[FILTERS + 4]
    l0, l1, l2, l3, l4 = F[FILTERS + 5], F[FILTERS + 6], F[FILTERS + 7], F[FILTERS + 8], F[FILTERS + 9]
    f0, f1, f2, f3, f4 = F[FILTERS + 10], F[FILTERS + 11], F[FILTERS + 12], F[FILTERS + 13], F[FILTERS + 14]
    smooth = F[P_SMOOTH]
    has_hf = F[P_HAS_HF] > 0.0
    flat_weight = 1.0 / (60.0 * F[P_RATE])
    mask = N[I_RING] - 1
    i = start
    n = xyz.shape[0]
    while i < n and N[I_OUT_N] < OUT_FULL and N[I_TURNS] < TURN_FULL:
        x, y, z = float(xyz[i, 0]), float(xyz[i, 1]), float(xyz[i, 2])
        i += 1
        # Written so that NaN fails it too.
        if not (abs(x) <= limit and abs(y) <= limit and abs(z) <= limit):
            N[I_INVALID] += 1
            N[I_GAP] += 1
            continue
        if x == F[Z_LAST] and y == F[Z_LAST + 1] and z == F[Z_LAST + 2]:
            if _stuck(F, N, flat_weight):
                N[I_STUCK] += 1
                N[I_GAP] += 1
                continue
        else:
            F[S_FLAT] -= F[S_FLAT] * flat_weight
            N[I_STUCK_RUN] = 0
        if N[I_GAP] > 0:
            _cross(F, N, x, y, z)
        elif N[I_STARTED] == 0:
            _restart(F, N, x, y, z)
        N[I_RECEIVED] += 1
        F[Z_LAST], F[Z_LAST + 1], F[Z_LAST + 2] = x, y, z

        ring = N[I_RING_POS]
        energy = 0.0
        high = 0.0
        slot = RING + LANES * ring
        for a in range(3):
            value = F[Z_LAST + a]
            u = h0 * value + F[Z_HIGH1 + a]
            F[Z_HIGH1 + a] = h1 * value - h3 * u + F[Z_HIGH2 + a]
            F[Z_HIGH2 + a] = h2 * value - h4 * u
            v = l0 * u + F[Z_LOW1 + a]
            F[Z_LOW1 + a] = l1 * u - l3 * v + F[Z_LOW2 + a]
            F[Z_LOW2 + a] = l2 * u - l4 * v
            F[slot + a] = v
            F[Z_BLOCK + a] += value
            energy += v * v
        if has_hf:
            for a in range(3):
                value = F[Z_LAST + a]
                w = f0 * value + F[Z_HF1 + a]
                F[Z_HF1 + a] = f1 * value - f3 * w + F[Z_HF2 + a]
                F[Z_HF2 + a] = f2 * value - f4 * w
                high += w * w
        F[slot + 3] = high
        F[S_SMOOTH1] += smooth * (energy - F[S_SMOOTH1])
        F[S_ENERGY] += smooth * (F[S_SMOOTH1] - F[S_ENERGY])
        level = F[S_ENERGY]

        if N[I_OPEN]:
            _accumulate(F, N, ring, N[I_INDEX])
            _follow(F, N, level)
        else:
            if level > F[S_ON] and level > F[S_REARM] and N[I_INDEX] >= N[I_QUIET_FROM]:
                _open(F, N, level)
            else:
                F[S_REARM] = min(F[S_REARM], level * F[P_REARM])

        N[I_RING_POS] = (ring + 1) & mask
        N[I_RING_FILL] += 1
        N[I_INDEX] += 1
        if N[I_PENDING_N] > 0:
            head = PENDING + ROW * N[I_PENDING_HEAD]
            if N[I_INDEX] >= F[head + R_END] + N[I_FINAL]:
                _finalise(F, N)
        N[I_BLOCK_FILL] += 1
        if N[I_BLOCK_FILL] >= N[I_BLOCK]:
            _block(F, N)
    return i


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
        return True
    F[S_FLAT] += (1.0 - F[S_FLAT]) * weight
    return False


@jit
def _cross(F, N, x, y, z):
    """Account for lost samples: run on across a short loss, begin anew after a longer one."""
    lost = N[I_GAP]
    N[I_GAP] = 0
    N[I_MISSING] += lost
    if N[I_STARTED] == 0 or lost > N[I_BRIDGE]:
        _break(F, N)
        N[I_INDEX] += lost
        N[I_LAST_MOVE] += lost  # what was not seen is not quiet
        if lost > N[I_LONG_GAP]:
            rest.restart(F, N)
        if lost > N[I_SPAN] * N[I_BLOCK]:
            _forget(F, N)
        _restart(F, N, x, y, z)
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
    N[I_HIST_SEEN] = 0
    N[I_HIST_N] = 0
    N[I_LOUD] = 0
    N[I_MED] = N[I_UPPER] = 0
    N[I_MED_BELOW] = N[I_UPPER_BELOW] = 0


@jit
def _restart(F, N, x, y, z):
    """Set the filters to rest on the sample x, y, z, as if it had always been so."""
    if N[I_RECEIVED] == 0:
        rest.restart(F, N)
        N[I_PREV_END] = N[I_INDEX]
    N[I_STARTED] = 1
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
    N[I_BLOCK_FILL] = 0
    N[I_BLOCKS] = 0
    N[I_RING_FILL] = 0
    N[I_EPOCH_FILL] = 0
    N[I_HAS_POSTURE] = 0
    F[S_EX] = F[S_EY] = F[S_EZ] = 0.0
    N[I_QUIET_FROM] = N[I_INDEX] + N[I_BLANK]


@jit
def _block(F, N):
    """Every 0.1 s: gravity, step, background, thresholds, rest."""
    count = N[I_BLOCK_FILL]
    slot = GRAVITY + 3 * (N[I_BLOCKS] % GRAVITY_BLOCKS)
    for a in range(3):
        F[slot + a] = F[Z_BLOCK + a] / count
        F[Z_BLOCK + a] = 0.0
    N[I_BLOCK_FILL] = 0
    N[I_BLOCKS] += 1
    x, y, z = F[slot], F[slot + 1], F[slot + 2]
    if N[I_BLOCKS] == 1:
        for a in range(3):
            F[Z_SLOW1 + a] = -F[FILTERS + 15] * F[slot + a]
            F[Z_SLOW2 + a] = F[FILTERS + 17] * F[slot + a]
    low = 0.0
    for a in range(3):
        u = F[FILTERS + 15] * F[slot + a] + F[Z_SLOW1 + a]
        F[Z_SLOW1 + a] = F[FILTERS + 16] * F[slot + a] - F[FILTERS + 18] * u + F[Z_SLOW2 + a]
        F[Z_SLOW2 + a] = F[FILTERS + 17] * F[slot + a] - F[FILTERS + 19] * u
        low += u * u

    if N[I_OPEN]:
        F[S_LOW] = max(F[S_LOW], low)
        N[I_BUSY_SUM] += count
        F[S_SLOW] = max(F[S_SLOW], (x - F[S_GX]) ** 2 + (y - F[S_GY]) ** 2 + (z - F[S_GZ]) ** 2)
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
    median = _quantile(N, N[I_MED], N[I_MED_BELOW], (N[I_HIST_N] - 1) // 2)
    upper = _quantile(N, N[I_UPPER], N[I_UPPER_BELOW], 9 * (N[I_HIST_N] - 1) // 10)
    on = min(max(F[P_ON_MIN], upper - median + F[P_ON_OVER]), F[P_ON_MAX])
    step = F[P_FLOOR_STEPS] * F[S_STEP]
    floor = max(F[P_FLOOR], step * step)
    F[S_NOISE] = median
    F[S_ON] = max(math.exp(median + on), floor)
    F[S_OFF] = max(math.exp(median + F[P_OFF]), 0.25 * floor)


@jit
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

    level = math.log(max(F[S_ENERGY], 1e-13))
    # A movement is not background, however long the median will stay; a new level that lasts is.
    if N[I_HIST_N] >= N[I_WARMUP] and level > F[S_NOISE] + F[P_LOUD]:
        if N[I_LOUD] < N[I_PATIENCE]:
            N[I_LOUD] += 1
            return
    else:
        N[I_LOUD] = 0
    position = int((level - HISTOGRAM_LOW) / HISTOGRAM_STEP)
    newest = min(max(position, 0), HISTOGRAM_BINS - 1)
    length = N[I_GUARD] + N[I_SPAN]
    slot = BIN_RING + N[I_HIST_SEEN] % (length + 1)
    N[slot] = newest
    seen = N[I_HIST_SEEN]
    N[I_HIST_SEEN] = seen + 1
    if seen >= length:
        _count(N, N[BIN_RING + (seen - length) % (length + 1)], -1)
    if seen >= N[I_GUARD]:
        _count(N, N[BIN_RING + (seen - N[I_GUARD]) % (length + 1)], 1)
    _seek(N, I_MED, I_MED_BELOW, (N[I_HIST_N] - 1) // 2)
    _seek(N, I_UPPER, I_UPPER_BELOW, 9 * (N[I_HIST_N] - 1) // 10)


@jit
def _count(N, b, by):
    """Add `by` to bin `b`, keeping the number of values below each quantile's bin."""
    N[HISTOGRAM + b] += by
    N[I_HIST_N] += by
    if b < N[I_MED]:
        N[I_MED_BELOW] += by
    if b < N[I_UPPER]:
        N[I_UPPER_BELOW] += by


@jit
def _seek(N, at, below, rank):
    """Move the bin at state position `at` to the one that holds the value of that rank."""
    if N[I_HIST_N] == 0:
        return
    while N[below] > rank:
        N[at] -= 1
        N[below] -= N[HISTOGRAM + N[at]]
    while N[below] + N[HISTOGRAM + N[at]] <= rank:
        N[below] += N[HISTOGRAM + N[at]]
        N[at] += 1


@jit
def _quantile(N, b, below, rank):
    """Return ln energy at a rank, its bin's values taken as spread evenly over the bin."""
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
    F[S_PEAK] = F[S_SUM] = F[S_HF] = F[S_DIFF] = F[S_SLOW] = F[S_LOW] = 0.0
    F[S_XX] = F[S_YY] = F[S_ZZ] = F[S_XY] = F[S_XZ] = F[S_YZ] = 0.0
    F[S_EVNOISE] = F[S_NOISE]
    F[S_EVBUSY] = F[S_BUSY]
    # Whole blocks before the onset, the last second of them.
    F[S_GX], F[S_GY], F[S_GZ] = _gravity(F, N, onset // N[I_BLOCK] + 1, max(2, int(1.0 / F[P_BLOCK])))
    for k in range(onset, -1, -1):
        _accumulate(F, N, (here - k) & mask, N[I_INDEX] - k)


@jit
def _ring_energy(F, slot):
    o = RING + LANES * slot
    return F[o] * F[o] + F[o + 1] * F[o + 1] + F[o + 2] * F[o + 2]


@jit
def _gravity(F, N, skip, count):
    """Return the mean acceleration of `count` blocks, the newest `skip` left out, as far as there are any."""
    x = y = z = 0.0
    newest = N[I_BLOCKS] - 1 - skip
    oldest = max(newest - count + 1, N[I_BLOCKS] - GRAVITY_BLOCKS, 0)
    if newest < oldest:
        newest = oldest = max(N[I_BLOCKS] - 1, 0)
    for k in range(oldest, newest + 1):
        slot = GRAVITY + 3 * (k % GRAVITY_BLOCKS)
        x += F[slot]
        y += F[slot + 1]
        z += F[slot + 2]
    scale = 1.0 / (newest - oldest + 1)
    return x * scale, y * scale, z * scale


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
    F[S_DIFF] += (x - F[before]) ** 2 + (y - F[before + 1]) ** 2 + (z - F[before + 2]) ** 2
    if energy > F[S_PEAK]:
        F[S_PEAK] = energy
        N[I_PEAK_AT] = index

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
    F[BINS + N[I_BIN]] += energy
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
    if level >= max(F[S_OFF], F[S_MAX] * F[P_RELEASE]):
        N[I_LAST_ABOVE] = N[I_INDEX]
        if N[I_INDEX] - N[I_ONSET] >= N[I_MAX_EVENT]:
            _close(F, N, False)
    elif N[I_INDEX] - N[I_LAST_ABOVE] >= N[I_HANG]:
        _close(F, N, False)


@jit
def _close(F, N, cut):
    """Close the open event: its features, its provisional row, its place in the queue."""
    N[I_OPEN] = 0
    F[S_REARM] = F[S_ENERGY] * F[P_REARM]
    rate = F[P_RATE]
    start = N[I_ONSET]
    end = N[I_LAST_ABOVE] + 1
    onset = max(start - int(F[P_DELAY] + 0.5), N[I_PREV_END])

    if N[I_PENDING_N] == PENDING_ROWS:
        _finalise(F, N)
    o = PENDING + ROW * ((N[I_PENDING_HEAD] + N[I_PENDING_N]) % PENDING_ROWS)
    N[I_PENDING_N] += 1
    total = F[S_XX] + F[S_YY] + F[S_ZZ]
    F[o + R_ONSET] = onset
    F[o + R_END] = end
    F[o + R_PEAK] = math.sqrt(F[S_PEAK])
    F[o + R_PROMINENCE] = math.log(F[S_MAX]) - F[S_EVNOISE]
    F[o + R_RISE] = (N[I_PEAK_AT] - start) / rate
    F[o + R_T90], F[o + R_T50], F[o + R_CENTRE] = _spans(F, N, end - start)
    F[o + R_HF] = F[S_HF] / total if F[P_HAS_HF] > 0.0 else math.nan
    F[o + R_QUIET] = (onset - N[I_PREV_END]) / rate
    F[o + R_INTERVAL] = (onset - N[I_PREV_ONSET]) / rate if N[I_NEXT_ID] > 0 else math.nan
    F[o + R_REST] = N[I_EV_REST]
    F[o + R_ID] = N[I_NEXT_ID]
    F[o + R_REVISION] = 0
    F[o + R_LINE] = _main_share(F) / total
    ratio = min(math.sqrt(F[S_DIFF] / total) / 2.0, 1.0)
    F[o + R_FREQ] = math.asin(ratio) * rate / math.pi
    F[o + R_SLOW] = math.sqrt(F[S_SLOW] / F[S_PEAK])
    F[o + R_LOW] = math.sqrt(F[S_LOW] / F[S_PEAK])
    F[o + R_BUSY] = F[S_EVBUSY]
    F[o + R_AFTER] = 0.0
    F[o + R_FOLLOW] = NOTHING_FOLLOWED
    F[o + R_BURSTS] = N[I_BURSTS]
    F[o + R_RHYTHM] = _unevenness(F, N)
    F[o + R_NOISE] = F[S_EVNOISE]
    F[o + R_CUT] = 1.0 if cut else 0.0
    F[o + R_GX], F[o + R_GY], F[o + R_GZ] = F[S_GX], F[S_GY], F[S_GZ]
    F[o + R_MARK] = N[I_BUSY_SUM]
    for k in range(N[I_PENDING_N] - 1):
        # Those that still wait learn what followed them.
        p = PENDING + ROW * ((N[I_PENDING_HEAD] + k) % PENDING_ROWS)
        F[p + R_FOLLOW] = max(F[p + R_FOLLOW], math.log(F[S_MAX]) - F[p + R_NOISE] - F[p + R_PROMINENCE])
    _turned(F, N, o, max(1, int(0.3 / F[P_BLOCK])))
    labels.link(F, N, o)
    labels.judge(F, o)
    _emit(F, N, o)
    N[I_NEXT_ID] += 1
    N[I_PREV_ONSET] = onset
    N[I_PREV_END] = end
    if F[o + R_LABEL] >= labels.PLM and F[o + R_LABEL] <= labels.MOVEMENT:
        rest.moved(F, N, end, (end - onset) / rate, F[o + R_ANGLE])


@jit
def _spans(F, N, length):
    """Return the spans (s) of the middle 90 % and 50 % of the energy of the first `length` samples, and its centre.

    The background's share is taken off each bin first, so that a small event does not seem longer than a large one.
    """
    width = N[I_BIN_WIDTH]
    last = min(int((length - 1) // width), N[I_BIN])
    background = math.exp(F[S_EVNOISE]) * width
    total = centre = 0.0
    for k in range(last + 1):
        F[BINS + k] = max(F[BINS + k] - background, 0.0)
        total += F[BINS + k]
        centre += F[BINS + k] * (k + 0.5)
    scale = width / F[P_RATE]
    if total <= 0.0:
        return length / F[P_RATE], length / F[P_RATE], 0.5 * length / F[P_RATE]
    t90 = _reach(F, last, 0.95 * total) - _reach(F, last, 0.05 * total)
    t50 = _reach(F, last, 0.75 * total) - _reach(F, last, 0.25 * total)
    return max(t90 * scale, 0.5 / F[P_RATE]), t50 * scale, centre / total * scale


@jit
def _reach(F, last, level):
    """Return the bin, with its fraction, at which the summed energy reaches `level`."""
    before = 0.0
    for k in range(last + 1):
        after = before + F[BINS + k]
        if after >= level and after > before:
            return k + (level - before) / (after - before)
        before = after
    return last + 1.0


@jit
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


@jit
def _turned(F, N, o, count):
    """Set the row's angle between gravity before and the mean of the newest `count` blocks."""
    x, y, z = _gravity(F, N, 0, count)
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
    F[o + R_REVISION] = 1
    labels.judge(F, o)
    _emit(F, N, o)
    slot = SERIES + ROW * (N[I_SERIES_N] % SERIES_ROWS)
    for k in range(ROW):
        F[slot + k] = F[o + k]
    N[I_SERIES_N] += 1
    if F[o + R_CHAIN] >= labels.SERIES_LENGTH:
        _revise(F, N, slot)


@jit
def _revise(F, N, slot):
    """Judge again the first members of the series that the row at `slot` has shown to be one."""
    while F[slot + R_LINK] >= 0.0 and F[slot + R_LINK] > N[I_SERIES_N] - 1 - SERIES_ROWS:
        slot = SERIES + ROW * (int(F[slot + R_LINK]) % SERIES_ROWS)
        if F[slot + R_CHAIN] >= labels.SERIES_LENGTH:
            return
        F[slot + R_CHAIN] = labels.SERIES_LENGTH
        F[slot + R_REVISION] += 1.0
        labels.judge(F, slot)
        _emit(F, N, slot)


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
