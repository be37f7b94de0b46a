"""Where everything is in the detector's state: one array of floats, one of integers.

A numba function is called fastest with few arrays, and a state of two arrays is saved by copying them.
The kernel, the labels and the rest state share these positions; nobody else needs them.
"""

from __future__ import annotations

from typing import Final

LAYOUT_VERSION: Final = 5
"""Written into saved state: another version cannot be restored."""

LANES: Final = 4
"""Three axes and an idle fourth, so that a filter step over the axes is one vector operation."""

# Columns of an event row inside the kernel: those of the event table, and what the labels need besides.
(
    R_ONSET,  # sample
    R_END,  # sample
    R_PEAK,  # g
    R_PROMINENCE,  # ln
    R_RISE,  # s
    R_T90,  # s
    R_HF,  # ratio, NaN where the rate is too low
    R_ANGLE,  # deg
    R_QUIET,  # s
    R_INTERVAL,  # s, NaN for the first event
    R_REST,  # code
    R_LABEL,  # code
    R_SCORE,
    R_ID,
    R_REVISION,
    R_EMITTED,  # sample at which the row came out
    R_LINE,  # share of the band energy along its main direction, 1/3 to 1
    R_FREQ,  # Hz, mean frequency of the band energy
    R_SLOW,  # largest slow deviation over peak: how far the limb travelled
    R_LOW,  # largest deviation below the band (0.4 Hz up) over peak: pushing, not ringing
    R_T50,  # s, span of the middle 50 % of the band energy
    R_CENTRE,  # s, from onset to the centre of the band energy
    R_BUSY,  # share of the last minute spent in events, at the onset
    R_STIR,  # s, decaying sum of movement before it
    R_AFTER,  # share of the time until the final row spent in events
    R_FOLLOW,  # ln, energy of the largest event until the final row, over that of this one
    R_NEXT,  # s, from the end to the onset of the next event, at most the time until the final row
    R_BURSTS,  # rises of the band energy inside the event
    R_NOISE,  # ln of the background band energy at the onset
    R_CUT,  # 1 where a gap or the end of the data cut the event short
    R_GX,  # g, gravity before the event
    R_GY,
    R_GZ,
    R_RHYTHM,  # spread over mean of the times between bursts, NaN below four bursts
    R_CHAIN,  # length of the chain of similar events at intervals of a PLM series that ends here
    R_LINK,  # number, among all final events, of the one before it in the chain, -1 for none
    R_MARK,  # bookkeeping of busy time at the end
    R_LENGTH,  # s
    R_NET,  # change of gravity over peak: what the movement leaves behind
    R_BASE,  # energy of 0.4 to 1.5 Hz over band energy, means over the event
    R_BELOW3,  # share of the band energy below 3 Hz
    R_BELOW6,  # share of the band energy below 6 Hz
    R_E1,  # share of the band energy from 0 to 0.1 s after its first twentieth
    R_E2,  # 0.1 to 0.2 s
    R_E3,  # 0.2 to 0.35 s
    R_E4,  # 0.35 to 0.5 s
    R_E5,  # 0.5 to 0.75 s
    R_E6,  # 0.75 to 1.1 s
    R_BEFORE,  # ln, mean band energy from 1.5 to 0.3 s before the onset over the largest of the event
    R_TAIL,  # ln, mean band energy of up to 1.5 s after the end over the largest of the event
    R_TRAIL,  # bookkeeping: sum and number of blocks
    R_TAILED,
    R_PLANE,  # share of the band energy in the plane of its two main directions, 2/3 to 1
    R_UX,  # main direction of the band acceleration
    R_UY,
    R_UZ,
    R_LIKE,  # likeness to the most similar event at the interval of a series before, 0 for the same
    R_LIKE_LATER,  # and after
    R_PARTNER,  # number, among all final events, of that event before, -1 for none
    ROW,
) = range(60)

UNLIKE: Final = -20.0
"""Likeness where there is nothing to compare with; none is less."""

NOTHING_FOLLOWED: Final = -10.0
"""Energy (ln, relative to the event) of what followed where nothing did."""

OUT_ROWS: Final = 256
OUT_FULL: Final = 64
"""Rows that fit, and at how many the kernel stops to hand them over: one sample can bring the difference."""

PENDING_ROWS: Final = 32
"""Events that can wait for their final row."""

SERIES_ROWS: Final = 32
"""Recent events that a series can still revise."""

ENERGY_BINS: Final = 128
"""Bins of the energy of an open event over time; their width doubles when they are full."""

GRAVITY_BLOCKS: Final = 64
"""Blocks of mean acceleration and mean band energy that are kept."""

HISTOGRAM_BINS: Final = 800
HISTOGRAM_LOW: Final = -30.0
HISTOGRAM_STEP: Final = 0.05
"""The histogram of ln band energy (g squared): from 1e-13 to 1e4."""

# Parameters, in samples or per-sample weights where they are times.
(
    P_RATE,
    P_SMOOTH,
    P_ON_MIN,
    P_ON_MAX,
    P_ON_OVER,
    P_LOUD,
    P_OFF,
    P_RELEASE,  # factor of energy
    P_REARM,  # factor of energy
    P_FLOOR,  # g squared
    P_FLOOR_STEPS,
    P_MAX_G,
    P_DELAY,  # samples by which the filters delay an onset
    P_POSTURE,
    P_REST_ANGLE,
    P_SETTLE,  # s
    P_STILL,  # s
    P_SETTLING,  # s
    P_WINDOW,  # s
    P_WAKING,  # s
    P_WAKING_KEEP,  # per block
    P_KEEP_2,  # per epoch, of the movement of the last 2, 10 and 60 minutes
    P_KEEP_10,
    P_KEEP_60,
    P_REOPEN,  # log odds of a waking that was not seen: with no movement at all
    P_REOPEN_2,  # and by ln(1 + s) of each of the three sums
    P_REOPEN_10,
    P_REOPEN_60,
    P_JERK_SCORE,
    P_JERK_T90,  # s
    P_IMPACT_T90,  # s
    P_IMPACT_HF,
    P_RHYTHM,
    P_PLM_LOW,
    P_PLM_HIGH,
    P_BUSY,  # weight per block
    P_HAS_HF,
    P_BLOCK,  # s
    P_WHITEN,
    P_SIDEWAYS,  # weight of energy across gravity
    P_SPREAD,  # weight of the newest block in the spread of the background
    P_COUNT,
) = range(42)

FILTERS: Final = P_COUNT
"""Coefficients b0, b1, b2, a1, a2 of high-pass, low-pass, the high band, the blocks' own high-pass and low-pass, and
the low-passes at 3 and 6 Hz of an open event; b2 is b0."""

FILTER_NUMBERS: Final = 35

# State of the filters, LANES wide each.
(
    Z_HIGH1,
    Z_HIGH2,
    Z_LOW1,
    Z_LOW2,
    Z_HF1,
    Z_HF2,
    Z_SLOW1,
    Z_SLOW2,
    Z_BASE1,
    Z_BASE2,
    Z_THREE1,
    Z_THREE2,
    Z_SIX1,
    Z_SIX2,
    Z_STEP,
    Z_BLOCK,
    Z_LAST,
) = range(FILTERS + FILTER_NUMBERS, FILTERS + FILTER_NUMBERS + 17 * LANES, LANES)
SCALARS: Final = Z_LAST + LANES

(
    S_SMOOTH1,
    S_ENERGY,  # of the band, weighted by direction
    S_PLAIN1,
    S_PLAIN,  # of the band
    S_FLOOR,  # plain energy that opens an event
    S_WXX,  # weights of the products of the axes
    S_WYY,
    S_WZZ,
    S_WXY,
    S_WXZ,
    S_WYZ,
    S_BXX,  # background: mean products of the axes
    S_BYY,
    S_BZZ,
    S_BXY,
    S_BXZ,
    S_BYZ,
    S_BHF,  # and of the high band's energy, and of the differences'
    S_BDIFF,
    S_ON,  # energy that opens an event
    S_OFF,  # energy below which the open one dies away
    S_NOISE,  # ln of the background
    S_REARM,  # energy that must be passed before the next event
    S_STEP,  # g, smallest step seen
    S_FLAT,  # share of samples equal to the one before
    S_BUSY,  # share of the last minute spent in events
    S_MAX,  # event: largest smoothed energy
    S_PEAK,  # event: largest energy of one sample
    S_HF,  # event: energy of the high band
    S_DIFF,  # event: energy of the differences
    S_XX,
    S_YY,
    S_ZZ,
    S_XY,
    S_XZ,
    S_YZ,
    S_SLOW,  # event: largest deviation of a block from gravity before, squared
    S_LOW,  # event: largest deviation of a block within 0.4 Hz and the band, squared
    S_BASE,  # event: sum over blocks of the energy of 0.4 to 1.5 Hz
    S_BEFORE,  # event: mean band energy before it
    S_BELOW3,  # event: energy below 3 and 6 Hz
    S_BELOW6,
    S_BURST_SUM,  # event: sum of the times between bursts, samples
    S_BURST_SQUARES,
    S_VALLEY,  # event: lowest energy since the last burst
    S_CREST,  # event: highest energy since the last valley
    S_EVNOISE,
    S_GX,
    S_GY,
    S_GZ,
    S_EVBUSY,
    S_EVSTIR,
    S_MOVED,  # rest: decaying sum of movement, s
    S_STIR,  # rest: the same, which no settling cuts
    S_LAST_2,  # rest: the same over 2, 10 and 60 minutes, of every movement however small
    S_LAST_10,
    S_LAST_60,
    S_PX,  # rest: posture of the last epoch
    S_PY,
    S_PZ,
    S_EX,  # rest: sum of the current epoch
    S_EY,
    S_EZ,
    S_ESQUARES,  # rest: and of its squares, and of the squared differences of neighbours
    S_EDIFF,
    S_BX,  # rest: the last block's mean
    S_BY,
    S_BZ,
    S_BARE,  # rest: share of the last minutes' epochs that are bare noise
    SCALARS_END,
) = range(SCALARS, SCALARS + 70)

BINS: Final = SCALARS_END
COURSE: Final = BINS + ENERGY_BINS
"""The same, less the background: written while a row is."""

GRAVITY: Final = COURSE + ENERGY_BINS
OUT: Final = GRAVITY + LANES * GRAVITY_BLOCKS
PENDING: Final = OUT + OUT_ROWS * ROW
SERIES: Final = PENDING + PENDING_ROWS * ROW
MODEL: Final = SERIES + SERIES_ROWS * ROW
CURVES: Final = 40
KNOTS: Final = 8
CURVE: Final = 6 + 2 * KNOTS
"""One curve of the model: column, whether its logarithm is taken, number of knots, value where missing, middle,
spread; knots; values."""

MODEL_SIZE: Final = 2 + CURVES * CURVE + CURVES * (CURVES - 1) // 2
STANDARD: Final = MODEL + MODEL_SIZE
"""What each curve takes of a row, in standard deviations from its middle: written while the row is judged."""

RING: Final = STANDARD + CURVES
"""Band acceleration and high-band energy of the newest samples, LANES wide; its length goes with the rate."""

# Integers.
(
    I_INDEX,  # number of the next sample, lost ones counted
    I_GAP,  # lost samples not yet accounted for
    I_STARTED,
    I_RECEIVED,
    I_INVALID,
    I_STUCK,
    I_MISSING,
    I_RING,  # length of the ring, a power of two
    I_RING_POS,
    I_RING_FILL,
    I_BLOCK,  # samples per block
    I_BLOCK_FILL,
    I_BLOCKS,  # blocks since the last break
    I_GUARD,  # blocks
    I_SPAN,  # blocks
    I_WARMUP,  # blocks
    I_HIST_SEEN,  # blocks written to the ring of bins
    I_HIST_PLACE,  # where in it the next is written
    I_LOUD,  # blocks in a row that were too loud for the background
    I_PATIENCE,  # blocks
    I_HIST_N,  # values in the histogram
    I_MED,
    I_MED_BELOW,
    I_UPPER,
    I_UPPER_BELOW,
    I_HANG,
    I_LOOKBACK,
    I_MAX_EVENT,
    I_FINAL,
    I_BRIDGE,
    I_BLANK,
    I_SPREAD_N,  # blocks that the spread of the background has seen
    I_SPREAD_DUE,  # blocks until the weights are made anew
    I_QUIET_FROM,  # sample after a break from which events may open
    I_STUCK_RUN,
    I_STUCK_LIMIT,
    I_STUCK_MIN,
    I_LONG_GAP,
    I_OPEN,
    I_ONSET,
    I_LAST_ABOVE,
    I_PEAK_AT,
    I_BIN_WIDTH,
    I_BIN,
    I_BIN_FILL,
    I_BASE_N,  # event: blocks
    I_SAID,  # event: its provisional row is out
    I_EARLY,
    I_BURSTS,
    I_BURST_AT,
    I_RISING,
    I_EV_REST,
    I_PREV_ONSET,
    I_PREV_END,
    I_NEXT_ID,
    I_PENDING_HEAD,
    I_PENDING_N,
    I_OUT_N,
    I_SERIES_N,
    I_BUSY_SUM,  # samples spent in events
    I_REST,
    I_LAST_MOVE,  # sample of the last end of a movement
    I_SETTLED,  # sample at which settling began
    I_WINDOW_END,  # sample at which the onset window closes, once stillness is declared
    I_EPOCH_FILL,
    I_EPOCH,
    I_HAS_POSTURE,
    I_BARE_N,  # epochs that the running means have seen
    I_REST_BEFORE,  # the state before off
    I_HELD,  # off because the samples are held
    I_TURNS,  # changes of rest not yet handed over
    I_SCALARS,
) = range(72)

TURN_ROWS: Final = 64
TURN_FULL: Final = 32
"""Changes of rest that fit, and at how many the kernel stops to hand them over."""

TURNS: Final = I_SCALARS
"""Changes of rest: sample, code."""

HISTOGRAM: Final = TURNS + 2 * TURN_ROWS
BIN_RING: Final = HISTOGRAM + HISTOGRAM_BINS
"""Bins of the newest blocks, guard + span long."""
