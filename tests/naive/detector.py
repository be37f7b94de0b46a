"""The slow twin of `hypnic.kernel`: what the detector is meant to find, in whole-array steps.

It takes a whole recording as one array with NaN where a sample is lost, splits it where the filters cannot
run on, filters each segment, ranks each background window by sorting it, weighs directions by inverting a matrix,
finds all events of a segment, and only then lives through them in order: rows, rest, likeness and series. How a row
is judged is no part of it: the caller gives label and score for what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt, sosfilt_zi

from hypnic.model import load_waking
from hypnic.settings import Settings

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Values = dict[str, Any]
Judge = Callable[[Values], tuple[int, float]]

AWAKE, SETTLING, ONSET, STILL, OFF = range(5)
POSTURE_SHIFT, MOVEMENT = 4, 5
NOTHING_FOLLOWED, UNLIKE, ALIKE = -10.0, -20.0, -6.0
LOWEST, BIN = -30.0, 0.05
FAINTEST = 1e-13
ENERGY_BINS = 128
WAITING = 31
"""Events that wait for their final row at most."""

REMEMBERED = 32
"""Final events that a later one can be like."""


class Plan:
    """The settings, in samples and blocks of one rate."""

    def __init__(self, rate: float, settings: Settings) -> None:
        def samples(seconds: float, least: int = 1) -> int:
            return max(least, round(seconds * rate))

        s = self.s = settings
        self.rate = rate
        self.block = samples(s.block)
        self.period = self.block / rate
        self.guard = round(s.guard / self.period)
        self.span = max(1, round(s.background / self.period))
        self.warmup = max(1, round(s.warmup / self.period))
        self.patience = max(1, round(s.patience / self.period))
        self.hang = samples(s.hang)
        self.early = samples(s.early)
        self.lookback = samples(s.lookback)
        self.max_event = samples(s.max_event)
        self.final = samples(s.final_delay)
        self.bridge = samples(s.bridge)
        self.blank = samples(s.blank, 0)
        self.least_stuck = samples(0.5)
        self.hold = int(60.0 * rate)
        self.long_gap = samples(600.0)
        self.epoch = max(1, round(5.0 / self.period))
        self.waking = load_waking(s.name)
        self.spread = 1.0 - math.exp(-self.period / s.spread)
        high = min(s.band_high, 0.4 * rate)
        self.delay = int(math.sqrt(2.0) / (2.0 * math.pi * high) * rate + 0.5)
        self.highpass = butter(2, s.band_low, "high", fs=rate, output="sos")
        self.lowpass = butter(2, high, "low", fs=rate, output="sos")
        self.hf = butter(2, s.hf_low, "high", fs=rate, output="sos") if s.hf_low <= 0.4 * rate else None
        self.below = {corner: butter(2, corner, "low", fs=rate, output="sos") for corner in (3, 6)}
        self.slow = butter(2, 0.4, "high", fs=1.0 / self.period, output="sos")
        self.base = butter(2, min(1.5, 0.4 / self.period), "low", fs=1.0 / self.period, output="sos")
        self.smooth = 1.0 - math.exp(-1.0 / (s.smooth * rate))
        self.rearm = math.exp(s.rearm)
        self.quiet_run = max(2, int(0.05 * rate))

    def blocks(self, seconds: float, least: int = 1) -> int:
        """Return how many whole blocks fit into a time."""
        return max(least, int(seconds / self.period))


@dataclass
class Background:
    """What is known of the background after some whole blocks."""

    on: float = math.inf  # energy that opens an event
    off: float = 0.0
    floor: float = 0.0  # plain energy that opens an event
    noise: float = 0.0
    products: Array = field(default_factory=lambda: np.zeros((3, 3)))  # mean products of the axes
    high: float = 0.0  # mean energy of the high band
    steps: float = 0.0  # mean squared difference of neighbours
    step: float = 0.05  # g, the sensor's, as far as it has shown
    weights: Array = field(default_factory=lambda: np.eye(3))  # of the products of the axes, in the energy


@dataclass
class Segment:
    """Samples that the filters run through, and everything that is known of each of them."""

    lost: int  # samples lost just before
    number: Numbers  # of each sample, lost ones counted: jumps where a short loss was run across
    xyz: Array
    held: bool  # whether what follows is held for so long that the sensor is off
    band: Array = field(init=False)
    high: Array = field(init=False)
    plain: Array = field(init=False)  # smoothed energy, all directions weighed alike
    level: Array = field(init=False)  # smoothed energy, weighed by direction
    pole: Array = field(init=False)  # the same after one of the two smoothing poles
    gravity: Array = field(init=False)  # mean of each whole block
    drift: Array = field(init=False)  # squared deviation of each block within 0.4 Hz and the band
    sway: Array = field(init=False)  # and of 0.4 to 1.5 Hz
    known: list[Background] = field(init=False)  # after no block, one, two ...

    def __len__(self) -> int:
        return len(self.number)

    def now(self, position: int) -> int:
        """Return the number of the sample at a position; of the next one where the data end."""
        return int(self.number[position] if position < len(self) else self.number[-1] + 1)


@dataclass
class Event:
    """One event: positions are within its segment."""

    id: int
    at: int  # position of the sample that opened it
    first: int  # position at which its onset was traced
    early: int  # position of the sample that brought the provisional row out
    close: int  # position of the sample that closed it; the segment's length where the data end
    last: dict[int, int]  # last sample above the off level, as it was known at `early` and at `close`
    start: int  # number of the onset sample before the filters' delay is taken off
    onset: int
    end: int
    cut: bool
    quiet: float
    interval: float
    rest: int = SETTLING
    busy: float = 0.0
    stir: float = 0.0


def detect(
    xyz: NDArray[Any], rate: float, settings: Settings, judge: Judge
) -> tuple[list[Values], list[tuple[int, int]]]:
    """Return all rows of a recording, in the order they come out, and its rest.

    Rest is told by pairs of a sample's number and the state that begins there.

    Parameters
    ----------
    xyz : ndarray, shape (n, 3)
        Acceleration in g, NaN where a sample is lost.
    rate : float
        Sampling rate in Hz.
    settings : Settings
        Thresholds.
    judge : callable
        Label (code) and score of what was measured of an event.
    """
    plan = Plan(rate, settings)
    segments = split(np.asarray(xyz, np.float64), plan)
    for segment in segments:
        filter_segment(segment, plan)
    learn_background(segments, plan)

    life = Life(plan, judge)
    before: Event | None = None
    for segment in segments:
        events = find_events(segment, plan, before, int(segments[0].number[0]))
        before = events[-1] if events else before
        life.live_through(segment, events)
    return life.rows, life.rest.turns


# Which samples count


def usable(xyz: Array, plan: Plan) -> tuple[NDArray[np.bool_], list[int]]:
    """Return which samples are neither lost, nor beyond any sensor, nor held; and where a long hold is noticed."""
    with np.errstate(invalid="ignore"):
        ok: NDArray[np.bool_] = np.all(np.abs(xyz) <= plan.s.max_g, axis=1)
    rows = xyz.tolist()
    share = 0.9  # of samples that equal the one before: a coarse sensor until it has shown otherwise
    weight = 1.0 / (60.0 * plan.rate)
    previous = [0.0, 0.0, 0.0]
    run = limit = 0
    holds = []
    for n in np.flatnonzero(ok).tolist():
        if rows[n] == previous:
            if run == 0:
                limit = max(plan.least_stuck, int(-40.0 / math.log(min(max(share, 0.001), 0.999))))
            run += 1
            if run > limit:
                ok[n] = False
            else:
                share += (1.0 - share) * weight
            if run == max(plan.hold, limit + 1):
                holds.append(n)
        else:
            run = 0
            share -= share * weight
        previous = rows[n]
    return ok, holds


def split(xyz: Array, plan: Plan) -> list[Segment]:
    """Return the segments between losses too long to run across."""
    ok, holds = usable(xyz, plan)
    numbers = np.flatnonzero(ok)
    if not len(numbers):
        return []
    lost = np.diff(numbers, prepend=-1) - 1
    breaks = np.flatnonzero(lost > plan.bridge)
    breaks = breaks[breaks > 0]
    starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), len(numbers)]
    until = np.append(numbers, len(xyz))
    return [
        Segment(
            int(lost[a]),
            numbers[a:b],
            xyz[numbers[a:b]],
            any(numbers[b - 1] < hold < until[b] for hold in holds),
        )
        for a, b in zip(starts, stops, strict=True)
    ]


# Series of a segment


def from_rest(sos: Array, values: Array) -> Array:
    """Filter the columns of `values` as if the first row had always been there."""
    if not len(values):
        return values.copy()
    start = sosfilt_zi(sos)[:, :, np.newaxis] * values[0]
    filtered: Array = sosfilt(sos, values, axis=0, zi=start)[0]
    return filtered


def filter_segment(segment: Segment, plan: Plan) -> None:
    """Set what goes by samples and blocks alone, not by the background."""
    segment.band = sosfilt(plan.lowpass, from_rest(plan.highpass, segment.xyz), axis=0)
    segment.high = np.zeros(len(segment))
    if plan.hf is not None:
        segment.high = (from_rest(plan.hf, segment.xyz) ** 2).sum(axis=1)
    b, a = [plan.smooth], [1.0, plan.smooth - 1.0]
    segment.plain = lfilter(b, a, lfilter(b, a, (segment.band**2).sum(axis=1)))
    count = len(segment) // plan.block
    segment.gravity = segment.xyz[: count * plan.block].reshape(count, plan.block, 3).mean(axis=1)
    drift = from_rest(plan.slow, segment.gravity)
    segment.drift = (drift**2).sum(axis=1)
    sway = sosfilt(plan.base, drift, axis=0) if len(drift) else drift
    segment.sway = (sway**2).sum(axis=1)


def weighted(band: Array, weights: Array) -> Array:
    """Return the energy of each row of the band, weighed by direction."""
    energy: Array = ((band @ weights) * band).sum(axis=1)
    return energy


class Learner:
    """The background, learnt block by block over all segments."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen = np.zeros(3)
        self.forget(Background())

    def forget(self, background: Background) -> None:
        """Begin anew: nothing is background yet, and no direction weighs more than another."""
        self.bins: list[int] = []
        self.loud = 0  # blocks in a row too loud for the background
        self.spreads = 0  # blocks that the products have seen
        self.now = Background(
            off=background.off, floor=background.floor, noise=background.noise, step=background.step
        )

    def learn(self, segment: Segment, block: int) -> None:
        """Take in one whole block of a segment."""
        plan, s, old = self.plan, self.plan.s, self.now
        stop = (block + 1) * plan.block
        newest, energy = segment.xyz[stop - 1], float(segment.level[stop - 1])
        step = min([old.step, *(d for d in np.abs(newest - self.seen) if d > 0.0)])
        self.seen = newest
        ln_energy = math.log(max(energy, FAINTEST))
        self.loud = self.loud + 1 if old.on < math.inf and ln_energy > old.noise + s.loud else 0
        new = Background(**vars(old))
        new.step = step
        if not 0 < self.loud <= plan.patience:
            if energy <= old.on:
                self.spread(segment, block, new)
            self.bins.append(min(max(int((ln_energy - LOWEST) / BIN), 0), 799))
        first = max(0, len(self.bins) - plan.guard - plan.span)
        window = np.sort(self.bins[first : len(self.bins) - plan.guard])
        if len(window) < plan.warmup:
            new.on = math.inf
        else:
            new.noise = ranked(window, (len(window) - 1) // 2)
            upper = ranked(window, 9 * (len(window) - 1) // 10)
            prominence = min(max(s.on_min, upper - new.noise + s.on_over), s.on_max)
            new.floor = max(s.floor_g, s.floor_steps * step) ** 2
            new.on = math.exp(new.noise + prominence)
            new.off = max(math.exp(new.noise + s.off), 0.25 * new.floor)
        self.now = new

    def spread(self, segment: Segment, block: int, new: Background) -> None:
        """Take a block into the mean products, by some eight of its samples, and weigh directions by them."""
        plan = self.plan
        stop = (block + 1) * plan.block
        taken = np.arange(stop - 1, stop - 1 - plan.block, -max(1, plan.block // 8))
        taken = taken[taken > 0]
        if not len(taken):
            return
        band = segment.band[taken]
        self.spreads += 1
        share = max(plan.spread, 1.0 / self.spreads)
        new.products = new.products + share * (band.T @ band / len(taken) - new.products)
        new.high += share * (segment.high[taken].mean() - new.high)
        new.steps += share * (((band - segment.band[taken - 1]) ** 2).sum() / len(taken) - new.steps)
        if plan.s.whiten > 0.0 and self.spreads >= plan.warmup and (self.spreads - plan.warmup) % 5 == 0:
            up = segment.gravity[: block + 1][-plan.blocks(1.0, 2) :].mean(axis=0)
            new.weights = weights(new.products, new.step, up, plan)


def weights(products: Array, step: float, up: Array, plan: Plan) -> Array:
    """Return the matrix that gives a background of these products the same energy in every direction.

    It is the inverse of the products, some evenness added; of what it leaves, the part along `up` (the direction of
    gravity, as the whitened space has it) counts whole and the rest by `sideways`, in a way that keeps the energy of
    an even background.
    """
    mean = np.trace(products) / 3.0
    even = plan.s.whiten * mean + 0.5 * step**2 + 1e-14
    inverse = np.linalg.inv(products + even * np.eye(3))
    side = plan.s.sideways if up.any() else 1.0
    out = side * inverse
    if up.any():
        pointing = inverse @ up
        out = out + (1.0 - side) * np.outer(pointing, pointing) / (up @ pointing)
    whole: Array = 3.0 * (mean + even) / (1.0 + 2.0 * side) * out
    return whole


def learn_background(segments: list[Segment], plan: Plan) -> None:
    """Set the weighed energy of each segment and what is known of the background after each whole block."""
    learner = Learner(plan)
    b, a = [plan.smooth], [1.0, plan.smooth - 1.0]
    for segment in segments:
        if segment.lost > plan.span * plan.block:
            learner.forget(learner.now)
        segment.known = [learner.now]
        segment.pole, segment.level = np.zeros(len(segment)), np.zeros(len(segment))
        first, second = np.zeros(1), np.zeros(1)
        for start in range(0, len(segment), plan.block):
            part = slice(start, start + plan.block)
            energy = weighted(segment.band[part], learner.now.weights)
            segment.pole[part], first = lfilter(b, a, energy, zi=first)
            segment.level[part], second = lfilter(b, a, segment.pole[part], zi=second)
            stop = start + plan.block
            if stop <= len(segment):
                if segment.number[stop - 1] + 1 >= segment.number[0] + plan.blank:
                    learner.learn(segment, start // plan.block)
                segment.known.append(learner.now)


def ranked(window: NDArray[np.int_], rank: int) -> float:
    """Return ln energy at a rank of the sorted bins, equal bins taken as spread evenly over their width."""
    b = int(window[rank])
    below, inside = int((window < b).sum()), int((window == b).sum())
    return LOWEST + BIN * (b + (rank - below + 0.5) / inside)


# Events


def find_events(segment: Segment, plan: Plan, before: Event | None, start: int) -> list[Event]:
    """Return the events of a segment: where each opens, where its onset is, where it is told of and ends."""
    level, plain, number = segment.level.tolist(), segment.plain.tolist(), segment.number.tolist()
    opens_from = number[0] + plan.blank
    must_pass = math.inf
    events: list[Event] = []
    at = 0
    while at < len(segment):
        known = segment.known[at // plan.block]
        loud = level[at] > known.on and level[at] > must_pass and plain[at] > known.floor
        if not loud or number[at] < opens_from:
            must_pass = min(must_pass, level[at] * plan.rearm)
            at += 1
            continue
        previous_end = before.end if before else start
        first = trace_onset(segment, plan, at, previous_end)
        # Counted back from the sample that opened the event.
        began = number[at] - (at - first)
        early, close, last, cut = follow(segment, plan, at, began)
        onset = max(began - plan.delay, previous_end)
        interval = (onset - before.onset) / plan.rate if before else math.nan
        before = Event(
            before.id + 1 if before else 0,
            at,
            first,
            early,
            close,
            last,
            began,
            onset,
            number[last[close]] + 1,
            cut,
            (onset - previous_end) / plan.rate,
            interval,
        )
        events.append(before)
        if cut:
            break
        must_pass = level[close] * plan.rearm
        at = close + 1
    return events


def trace_onset(segment: Segment, plan: Plan, at: int, previous_end: int) -> int:
    """Return the position of the onset: back from `at` until the band has been quiet for 0.05 s."""
    known = segment.known[at // plan.block]
    oldest = max(0, at - plan.lookback, at - int(segment.number[at] - previous_end))
    energy = weighted(segment.band[oldest : at + 1], known.weights)
    threshold = max(6.0 * math.exp(known.noise), 0.02 * energy.max())
    onset, later = at, at + 1
    for position in (oldest + np.flatnonzero(energy >= threshold)[::-1]).tolist():
        if later - position > plan.quiet_run:
            break
        onset = later = position
    return onset


def follow(segment: Segment, plan: Plan, at: int, began: int) -> tuple[int, int, dict[int, int], bool]:
    """Return where the provisional row comes out, where the event closes, its last loud sample by each of them, and
    whether the data end first."""
    off = np.array([known.off for known in segment.known]).repeat(plan.block)[at : len(segment)]
    largest = np.maximum.accumulate(segment.level[at:])
    above = segment.pole[at:] >= np.maximum(off, largest * math.exp(-plan.s.release))
    number = segment.number
    last, early, told = at, -1, at
    for position in range(at + 1, len(segment)):
        if above[position - at]:
            last = position
            closes = number[position] - began >= plan.max_event
        else:
            closes = number[position] - number[last] >= plan.hang
        if closes:
            break
        if not above[position - at] and early < 0 and number[position] - number[last] >= plan.early:
            early, told = position, last
    else:
        position, closes = len(segment), False
    # The end as it was first told, and as it came to be.
    return (position if early < 0 else early), position, {early: told, position: last}, not closes


def measure(segment: Segment, plan: Plan, event: Event, position: int) -> Values:
    """Return what is measured of an event by the sample at a position (the length where the data end)."""
    rate = plan.rate
    whole = slice(event.first, position + 1)
    band = segment.band[whole]
    energy = (band**2).sum(axis=1)
    opened, known = segment.known[event.at // plan.block], segment.known[position // plan.block]
    largest = float(segment.level[event.at : position + 1].max())
    peak = int(energy.argmax())
    # Like the onset, a peak before the trigger is counted back from it.
    peak_place = event.first + peak
    peak_at = segment.number[max(peak_place, event.at)] - max(event.at - peak_place, 0)
    end = int(segment.number[event.last[position]]) + 1

    # At most three quarters of an event are taken for background.
    plain = energy.sum()
    background = len(energy) * np.trace(known.products)
    count = len(energy) * (0.75 * plain / background if background > 0.75 * plain else 1.0)
    products = band.T @ band - count * known.products
    total = np.trace(products)
    shares, axes = np.linalg.eigh(products)
    direction = axes[:, 2]
    if np.abs(products - total / 3.0 * np.eye(3)).max() < 1e-9 * total:
        direction = np.zeros(3)
    steps = (np.diff(segment.band[event.first - 1 : position + 1], axis=0) ** 2).sum()
    lag = math.sqrt(max(steps - count * known.steps, 0.0) / total) / 2.0

    inside = slice(event.at // plan.block, position // plan.block)
    skip = (event.at - event.first) // plan.block + 1
    before = gravity(segment, event.at // plan.block, skip, plan.blocks(1.0, 2))
    travel = ((segment.gravity[inside] - before) ** 2).sum(axis=1).max(initial=0.0)
    sway = segment.sway[inside].sum() / max(len(segment.sway[inside]), 1)
    bursts = find_bursts(segment.level[event.at : position + 1])
    between = np.diff(segment.number[event.at + np.array(bursts)])
    values = {
        "id": event.id,
        "onset": event.onset,
        "end": end,
        "length": (end - event.onset) / rate,
        "cut": 0.0,
        "quiet": event.quiet,
        "interval": event.interval,
        "rest": event.rest,
        "busy": event.busy,
        "stir": event.stir,
        "noise": opened.noise,
        "peak": math.sqrt(energy[peak]),
        "prominence": math.log(largest) - opened.noise,
        "rise": (peak_at - event.start) / rate,
        "hf": math.nan
        if plan.hf is None
        else max(segment.high[whole].sum() - count * known.high, 0.0) / total,
        "line": min(shares[2] / total, 1.0),
        "plane": min(1.0 - shares[0] / total, 1.0),
        "direction": direction,
        "freq": math.asin(min(lag, 1.0)) * rate / math.pi,
        "slow": math.sqrt(travel / energy[peak]),
        "low": math.sqrt(segment.drift[inside].max(initial=0.0) / energy[peak]),
        "base": sway * len(energy) / plain,
        "below_3": (sosfilt(plan.below[3], band, axis=0) ** 2).sum() / plain,
        "below_6": (sosfilt(plan.below[6], band, axis=0) ** 2).sum() / plain,
        "before": math.log(max(mean_before(segment, plan, event, opened.noise), FAINTEST) / largest),
        "bursts": len(bursts),
        "rhythm": np.std(between) / np.mean(between) if len(between) >= 3 else math.nan,
        "gravity": before,
        # Until what follows is known, it is as if nothing did.
        "tail": opened.noise - math.log(largest),
        "after": 0.0,
        "follow": NOTHING_FOLLOWED,
        "next": plan.final / rate,
        "like_later": UNLIKE,
    }
    # Each sample counts by the weights of its own time, those before the trigger by the trigger's.
    when = [
        segment.known[max(n, event.at) // plan.block] for n in range(event.first, event.first + len(band))
    ]
    course = np.array([row @ w.weights @ row for row, w in zip(band, when, strict=True)])
    values |= describe_course(course, end - event.start, math.exp(opened.noise), rate)
    return values | turned(segment, position // plan.block, plan.blocks(0.2), values)


def turned(segment: Segment, known: int, count: int, values: Values) -> Values:
    """Return what a movement leaves behind: gravity before it against that of the newest `count` of `known` blocks."""
    after = gravity(segment, known, 0, count)
    left = float(np.linalg.norm(after - values["gravity"]))
    return {"net": left / values["peak"], "angle": angle(values["gravity"], after)}


def gravity(segment: Segment, known: int, skip: int, count: int) -> Array:
    """Return the mean of `count` of the `known` blocks, the newest `skip` left out, as far as they go."""
    stop = known - skip
    blocks = segment.gravity[max(stop - count, 0) : stop] if stop > 0 else segment.gravity[known - 1 : known]
    mean: Array = blocks.mean(axis=0)
    return mean


def mean_before(segment: Segment, plan: Plan, event: Event, noise: float) -> float:
    """Return the mean of the smoothed energy at the ends of the blocks from some 1.5 to 0.3 s before the onset."""
    ends = segment.level[plan.block - 1 :: plan.block][: event.at // plan.block]
    stop = len(ends) - int(((event.at - event.first) / plan.rate + 0.3) / plan.period)
    before = ends[max(stop - 1 - int(1.2 / plan.period), 0) : max(stop, 0)]
    return float(before.mean()) if len(before) else math.exp(noise)


def angle(a: Array, b: Array) -> float:
    """Return the angle between two vectors in degrees, 0 where one has no length."""
    if not a.any() or not b.any():
        return 0.0
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def describe_course(energy: Array, length: int, background: float, rate: float) -> Values:
    """Return how the energy is spread over the time until the end: spans, centre, shares by time.

    Energy is summed in bins of 1, 2, 4 ... samples, whichever first needs no more than 128 of them for the
    event and its dying away; each bin's share of the background is taken off.
    """
    width = 1
    while len(energy) > ENERGY_BINS * width:
        width *= 2
    bins = np.array([energy[a : a + width].sum() for a in range(0, len(energy), width)])
    bins = np.maximum(bins[: (length - 1) // width + 1] - background * width, 0.0)
    if bins.sum() <= 0.0:
        bins = np.ones(len(bins))
    reached = np.concatenate([[0.0], np.cumsum(bins)])
    total = reached[-1]
    scale = width / rate

    def time(share: float) -> float:
        k = int(np.flatnonzero(reached >= share * total)[0])
        return float(k - 1 + (share * total - reached[k - 1]) / (reached[k] - reached[k - 1])) * scale

    edges = np.arange(len(reached)) * scale
    by = np.interp(time(0.05) + np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.1]), edges, reached / total)
    shares = {f"energy_{k + 1}": share for k, share in enumerate(np.diff(by))}
    return {
        "t90": max(time(0.95) - time(0.05), 0.5 / rate),
        "t50": time(0.75) - time(0.25),
        "centre": float((bins * (np.arange(len(bins)) + 0.5)).sum() / total) * scale,
        **shares,
    }


def find_bursts(level: Array) -> list[int]:
    """Return where the energy has risen 2.5 times above a valley: 0.4 of the crest before it, or less."""
    bursts, rising, extreme = [0], True, float(level[0])
    for position, value in enumerate(level.tolist()):
        if rising:
            extreme = max(extreme, value)
            if value < 0.4 * extreme:
                rising, extreme = False, value
        else:
            extreme = min(extreme, value)
            if value > 2.5 * extreme:
                bursts.append(position)
                rising, extreme = True, value
    return bursts


# Rest


class Rest:
    """The rest state, block by block."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = SETTLING
        self.before_off = SETTLING
        self.held = False
        self.turns: list[tuple[int, int]] = []  # sample and new state
        self.last_move = self.last_end = self.window_end = 0
        self.moved = 0.0  # decaying sum of movement
        self.stir = 0.0  # the same, which no settling cuts
        self.minutes = np.zeros(3)  # the same over 2, 10 and 60 minutes, of every movement
        self.bare = 0.0
        self.epochs = 0  # that have told whether they are bare noise
        self.posture: Array | None = None
        self.epoch: list[Array] = []
        self.begun = False

    def begin(self, segment: Segment) -> None:
        """Cross the loss before a segment: the unseen is not quiet; after a long one all is unknown."""
        now = int(segment.number[0])
        self.last_move += segment.lost
        if self.held:
            self.enter(self.before_off, now)
            self.held = False
        if not self.begun or segment.lost > self.plan.long_gap:
            self.enter(SETTLING, now)
            self.last_move, self.moved, self.stir, self.epochs = now, 0.0, 0.0, 0
            self.minutes = np.zeros(3)
        if not self.begun:
            self.last_end = now
        self.begun = True
        self.posture, self.epoch = None, []

    def hold(self, now: int) -> None:
        """Samples are held from here on."""
        if self.state != OFF:
            self.held = True
            self.before_off = self.state
            self.enter(OFF, now)

    def take_note(self, end: int, duration: float, turned: float, now: int) -> None:
        """A movement of the person."""
        limit = self.plan.s.rest_angle
        self.minutes += 0.5 + min(duration, 10.0)
        if duration >= 1.0 or turned >= limit:
            self.last_move = max(self.last_move, end)
            stayed = turned < limit < 180.0
            amount = (0.5 + min(duration, 10.0)) * (0.8 if stayed else 1.0)
            self.moved += amount
            self.stir += amount
            if self.state == OFF and not self.held:
                self.enter(AWAKE, now)

    def advance(self, mean: Array, step: float, is_open: bool, now: int) -> None:
        """One block."""
        s, rate = self.plan.s, self.plan.rate
        self.moved *= math.exp(-self.plan.period / s.waking_decay)
        self.stir *= math.exp(-self.plan.period / s.waking_decay)
        self.epoch.append(mean)
        if len(self.epoch) == self.plan.epoch:
            self.look_for_breath(np.array(self.epoch), step, is_open, now)
            posture = np.sum(self.epoch, axis=0)
            if self.posture is not None and angle(posture, self.posture) > s.rest_angle:
                self.last_move = now
            self.posture, self.epoch = posture, []
            self.minutes *= np.exp(-self.plan.epoch * self.plan.period / np.array([120.0, 600.0, 3600.0]))
            if self.state == STILL and self.woke_unseen():
                self.enter(ONSET, now)
        quiet = (now - self.last_move) / rate
        if self.state == AWAKE:
            if not is_open and quiet >= s.settle and self.moved <= 2.0 * s.waking:
                self.moved = min(self.moved, 0.6 * s.waking)
                self.enter(SETTLING, now)
        elif self.moved > s.waking:
            self.enter(AWAKE, now)
        elif self.state == SETTLING:
            if quiet >= s.still or (now - self.turns[-1][0]) / rate >= s.settling:
                self.enter(ONSET, now)
                self.window_end = now + int(s.window * rate)
        elif self.state == ONSET and now >= self.window_end and not self.woke_unseen():
            self.enter(STILL, now)

    def woke_unseen(self) -> bool:
        """More movement of late than in the last hour."""
        return bool(self.plan.waking.intercept + np.dot(self.plan.waking.weights, np.log1p(self.minutes)) > 0)

    def look_for_breath(self, means: Array, step: float, is_open: bool, now: int) -> None:
        """Off where five minutes are bare noise, each mean as unlike the one before as any other."""
        variance = means.var(axis=0, ddof=1).sum()
        unlike = (np.diff(means, axis=0) ** 2).sum() / (len(means) - 1)
        self.epochs += 1
        self.bare += max(1.0 / self.epochs, 10.0 / 300.0) * (float(unlike > 1.8 * variance) - self.bare)
        still = (now - max(self.last_move, self.last_end)) / self.plan.rate
        if self.state == OFF:
            if self.bare < 0.3:
                self.enter(self.before_off, now)
        elif (
            self.bare > 0.7 and 5.0 * self.epochs >= 300.0 and still >= 300.0 and step < 0.004 and not is_open
        ):
            self.before_off = self.state
            self.enter(OFF, now)

    def enter(self, state: int, now: int) -> None:
        """Change to a state at the sample of that number."""
        self.state = state
        self.turns.append((now, state))


# Likeness and series


def likeness(a: Values, b: Values) -> float:
    """Return how like two movements are: 0 for the same, less by the squares of how far they are apart."""
    peak = math.log(a["peak"] / b["peak"]) / 0.6
    span = math.log(a["t90"] / b["t90"]) / 0.6
    turn = math.acos(min(abs(float(a["direction"] @ b["direction"])), 1.0)) / 0.3
    return max(-(peak**2 + span**2 + turn**2), UNLIKE)


def look_back(values: Values, finals: list[Values], plan: Plan) -> Values:
    """Return what an event is like among the final ones at the interval of a series before, and its chain."""
    found: Values = {"like": UNLIKE, "partner": -1, "chain": 1, "link": -1}
    strangers = 0
    for number in range(len(finals) - 1, max(len(finals) - REMEMBERED, 0) - 1, -1):
        other = finals[number]
        interval = (values["onset"] - other["onset"]) / plan.rate
        like = likeness(values, other)
        # At most one movement of another kind, half as strong or more, may stand between.
        strangers += like <= ALIKE and other["peak"] > 0.5 * values["peak"]
        if interval > plan.s.plm_high or strangers > 1:
            break
        if interval >= plan.s.plm_low:
            if like > found["like"]:
                found |= {"like": like, "partner": number}
            if like > ALIKE and other["chain"] >= found["chain"]:
                found |= {"chain": other["chain"] + 1, "link": number}
    return found


# Rows


class Life:
    """A night lived through event by event: rows come out, rest changes, later events show earlier ones anew."""

    def __init__(self, plan: Plan, judge: Judge) -> None:
        self.plan = plan
        self.judge = judge
        self.rest = Rest(plan)
        self.busy = 0.0  # share of the last minute spent in events
        self.rows: list[Values] = []
        self.finals: list[Values] = []

    def live_through(self, segment: Segment, events: list[Event]) -> None:
        """Live through one segment."""
        plan, length, blocks = self.plan, len(segment), len(segment.gravity)
        self.rest.begin(segment)
        happenings: list[tuple[int, int, str, Any]] = []
        if segment.held:
            happenings.append((length, -1, "hold", None))
        due = [self.due(segment, event) for event in events]
        for k, event in enumerate(events):
            happenings += [(event.at, 0, "open", event), (event.close, 0, "close", event)]
            if event.early < event.close:
                happenings.append((event.early, 0, "tell", event))
            pushed = events[k + WAITING].close if k + WAITING < len(events) else length + 1
            happenings.append((pushed, 1, "push", event) if pushed <= due[k] else (due[k], 2, "final", event))
        happenings += [((k + 1) * plan.block - 1, 3, "block", k) for k in range(blocks)]
        inside = False
        spent = np.zeros(blocks, bool)
        closed: dict[int, Values] = {}
        for position, _, what, subject in sorted(happenings, key=lambda happening: happening[:2]):
            now = segment.now(position)
            if what == "open":
                inside = True
                subject.rest, subject.busy, subject.stir = self.rest.state, self.busy, self.rest.stir
            elif what == "tell":
                self.bring_out(self.measured(segment, subject, position), 0, now)
            elif what == "close":
                inside = False
                values = closed[subject.id] = self.measured(segment, subject, position)
                values["cut"] = float(subject.cut)
                if subject.early == subject.close:
                    self.bring_out(values, 0, now)
                self.rest.last_end = subject.end
                if values["label"] in (POSTURE_SHIFT, MOVEMENT) and values["chain"] < 4:
                    self.rest.take_note(subject.end, values["length"], values["angle"], now)
            elif what in ("push", "final"):
                values = closed[subject.id]
                values |= self.aftermath(segment, values, subject, events, position, spent)
                if what == "final" and position < length:
                    known = position // plan.block
                    values |= turned(segment, known, plan.blocks(1.0), values)
                    now += 1
                self.finish(values, now)
            elif what == "block":
                spent[subject] = inside
                share = 1.0 - math.exp(-plan.period / 60.0)
                self.busy += share * ((1.0 if inside else 0.0) - self.busy)
                step = segment.known[subject].step
                self.rest.advance(segment.gravity[subject], step, inside, segment.now(position) + 1)
            else:
                self.rest.hold(now)

    def due(self, segment: Segment, event: Event) -> int:
        """Return the position of the sample that brings an event's final row out; the length where the data end."""
        late = segment.number + 1 >= event.end + self.plan.final
        return max(int(np.argmax(late)) if late.any() else len(segment), event.close)

    def measured(self, segment: Segment, event: Event, position: int) -> Values:
        """Return what is known of an event at a position, judged."""
        values = measure(segment, self.plan, event, position)
        return self.judged(values | look_back(values, self.finals, self.plan))

    def judged(self, values: Values) -> Values:
        """Return what is known of an event with its label and score."""
        label, score = self.judge(values)
        return values | {"label": label, "score": score}

    def aftermath(
        self,
        segment: Segment,
        values: Values,
        event: Event,
        events: list[Event],
        position: int,
        spent: NDArray[np.bool_],
    ) -> Values:
        """Return what followed an event, as far as it is known at a position."""
        plan = self.plan
        blocks = slice(event.close // plan.block, position // plan.block)
        largest = values["noise"] + values["prominence"]
        after = {"after": min(spent[blocks].sum() * plan.block / plan.final, 1.0)}
        ends = segment.level[plan.block - 1 :: plan.block][blocks][: math.ceil(1.5 / plan.period)]
        if ends.any():
            after["tail"] = math.log(ends.mean()) - largest
        others = [other for other in events if other.id > event.id and other.at <= position]
        peaks = [segment.level[other.at : min(other.close, position) + 1].max() for other in others]
        after["follow"] = max([NOTHING_FOLLOWED, *(math.log(peak) - largest for peak in peaks)])
        after["next"] = min([plan.final / plan.rate, *((o.onset - event.end) / plan.rate for o in others)])
        return after

    def bring_out(self, values: Values, revision: int, now: int) -> None:
        """A row comes out."""
        values["revision"] = revision
        self.rows.append(values | {"emitted": now})

    def finish(self, values: Values, now: int) -> None:
        """An event is final: its row, and those of earlier ones that it shows in another light."""
        values |= look_back(values, self.finals, self.plan)
        values |= self.judged(values)
        self.bring_out(values, 1, now)
        self.finals.append(values)
        oldest = len(self.finals) - REMEMBERED
        if values["partner"] >= max(oldest, 0):
            partner = self.finals[values["partner"]]
            if values["like"] > partner["like_later"]:
                partner["like_later"] = values["like"]
                self.judge_anew(partner, now)
        member = values
        while values["chain"] >= 4 and member["link"] >= max(oldest, 0):
            member = self.finals[member["link"]]
            if member["chain"] >= 4:
                break
            member["chain"] = 4
            self.judge_anew(member, now)

    def judge_anew(self, values: Values, now: int) -> None:
        """Judge a final event again; its row comes out where the label or clearly the score is another."""
        judged = self.judged(values)
        if judged["label"] != values["label"] or abs(judged["score"] - values["score"]) > 0.05:
            values |= judged
            self.bring_out(values, values["revision"] + 1, now)
