"""The slow twin of `hypnic.kernel`: what the detector is meant to find, in whole-array steps.

It takes a whole recording as one array with NaN where a sample is lost, splits it where the filters cannot
run on, filters each segment, ranks each background window by sorting it, and only then walks over the events;
rest states follow last. Labels are no part of it: the caller says which events are movements of the person.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt, sosfilt_zi

from hypnic.settings import Settings

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

AWAKE, SETTLING, ONSET, STILL = range(4)
NOTHING_FOLLOWED = -10.0
LOWEST, BIN = -30.0, 0.05
ENERGY_BINS = 128


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
        self.lookback = samples(s.lookback)
        self.max_event = samples(s.max_event)
        self.final = samples(s.final_delay)
        self.bridge = samples(s.bridge)
        self.blank = samples(s.blank, 0)
        self.least_stuck = samples(0.5)
        self.long_gap = samples(600.0)
        self.epoch = max(1, round(5.0 / self.period))
        high = min(s.band_high, 0.4 * rate)
        self.delay = int(math.sqrt(2.0) / (2.0 * math.pi * high) * rate + 0.5)
        self.highpass = butter(2, s.band_low, "high", fs=rate, output="sos")
        self.lowpass = butter(2, high, "low", fs=rate, output="sos")
        self.hf = butter(2, s.hf_low, "high", fs=rate, output="sos") if s.hf_low <= 0.4 * rate else None
        self.slow = butter(2, 0.4, "high", fs=1.0 / self.period, output="sos")
        self.smooth = 1.0 - math.exp(-1.0 / (s.smooth * rate))
        self.rearm = math.exp(s.rearm)
        self.quiet_run = max(2, int(0.05 * rate))


@dataclass
class Segment:
    """Samples that the filters run through, and everything that is known of each of them."""

    lost: int  # samples lost just before
    number: Numbers  # of each sample, lost ones counted: jumps where a short loss was run across
    xyz: Array
    band: Array = field(init=False)
    energy: Array = field(init=False)
    high: Array = field(init=False)
    level: Array = field(init=False)
    gravity: Array = field(init=False)  # mean of each whole block
    drift: Array = field(init=False)  # squared deviation of each block within 0.4 Hz and the band
    on: Array = field(init=False)
    off: Array = field(init=False)
    noise: Array = field(init=False)

    def __len__(self) -> int:
        return len(self.number)


@dataclass
class Event:
    """One event: positions are within its segment."""

    id: int
    at: int  # position of the sample that opened it
    first: int  # position at which its onset was traced
    close: int  # position of the sample that closed it; the segment's length where the data end
    last: int  # position of the last sample above the off level
    start: int  # number of the onset sample before the filters' delay is taken off
    onset: int
    end: int
    cut: bool
    values: dict[str, float] = field(default_factory=dict)


def detect(
    xyz: NDArray[Any], rate: float, settings: Settings, is_movement: Callable[[int], bool]
) -> tuple[list[dict[str, float]], list[tuple[int, int]]]:
    """Return the provisional and final rows of a recording, in the order they come out, and its rest.

    Rest is told by pairs of a sample's number and the state that begins there.

    Parameters
    ----------
    xyz : ndarray, shape (n, 3)
        Acceleration in g, NaN where a sample is lost.
    rate : float
        Sampling rate in Hz.
    settings : Settings
        Thresholds.
    is_movement : callable
        Whether the event of that number counts as a movement of the person, as its provisional label tells.
    """
    plan = Plan(rate, settings)
    segments = split(np.asarray(xyz, np.float64), plan)
    for segment in segments:
        filter_segment(segment, plan)
    set_thresholds(segments, plan)

    rows: list[dict[str, float]] = []
    rest = Rest(plan)
    before: Event | None = None
    for segment in segments:
        rest.begin(segment)
        events = find_events(segment, plan, before, int(segments[0].number[0]))
        for event in events:
            event.values = features(segment, plan, event)
            event.values["quiet"] = (event.onset - (before.end if before else segments[0].number[0])) / rate
            event.values["interval"] = (event.onset - before.onset) / rate if before else math.nan
            before = event
        busy = rest.live_through(segment, events, is_movement)
        rows += segment_rows(segment, plan, events, busy)
    return rows, rest.turns


# Which samples count


def usable(xyz: Array, plan: Plan) -> NDArray[np.bool_]:
    """Return which samples are neither lost, nor beyond any sensor, nor held."""
    with np.errstate(invalid="ignore"):
        ok: NDArray[np.bool_] = np.all(np.abs(xyz) <= plan.s.max_g, axis=1)
    rows = xyz.tolist()
    share = 0.9  # of samples that equal the one before: a coarse sensor until it has shown otherwise
    weight = 1.0 / (60.0 * plan.rate)
    previous = [0.0, 0.0, 0.0]
    run = limit = 0
    for n in np.flatnonzero(ok).tolist():
        if rows[n] == previous:
            if run == 0:
                limit = max(plan.least_stuck, int(-40.0 / math.log(min(max(share, 0.001), 0.999))))
            run += 1
            if run > limit:
                ok[n] = False
            else:
                share += (1.0 - share) * weight
        else:
            run = 0
            share -= share * weight
        previous = rows[n]
    return ok


def split(xyz: Array, plan: Plan) -> list[Segment]:
    """Return the segments between losses too long to run across."""
    numbers = np.flatnonzero(usable(xyz, plan))
    if not len(numbers):
        return []
    lost = np.diff(numbers, prepend=-1) - 1
    breaks = np.flatnonzero(lost > plan.bridge)
    breaks = breaks[breaks > 0]
    starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), len(numbers)]
    return [
        Segment(int(lost[a]), numbers[a:b], xyz[numbers[a:b]]) for a, b in zip(starts, stops, strict=True)
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
    """Set the segment's series of samples and blocks."""
    segment.band = sosfilt(plan.lowpass, from_rest(plan.highpass, segment.xyz), axis=0)
    segment.energy = (segment.band**2).sum(axis=1)
    segment.high = np.zeros(len(segment))
    if plan.hf is not None:
        segment.high = (from_rest(plan.hf, segment.xyz) ** 2).sum(axis=1)
    b, a = [plan.smooth], [1.0, plan.smooth - 1.0]
    segment.level = lfilter(b, a, lfilter(b, a, segment.energy))
    count = len(segment) // plan.block
    segment.gravity = segment.xyz[: count * plan.block].reshape(count, plan.block, 3).mean(axis=1)
    segment.drift = (from_rest(plan.slow, segment.gravity) ** 2).sum(axis=1)


def set_thresholds(segments: list[Segment], plan: Plan) -> None:
    """Set the thresholds at each sample: those of the newest whole block before it."""
    s = plan.s
    bins: list[int] = []  # one for each block since the background was last forgotten
    step = 0.05
    seen = np.zeros(3)
    on, off, noise = math.inf, 0.0, 0.0
    loud = 0  # blocks in a row too loud for the background
    for segment in segments:
        if segment.lost > plan.span * plan.block:
            bins = []
            on = math.inf
            loud = 0
        segment.on, segment.off, segment.noise = (np.empty(len(segment)) for _ in range(3))
        for a in range(0, len(segment), plan.block):
            b = min(a + plan.block, len(segment))
            segment.on[a:b], segment.off[a:b], segment.noise[a:b] = on, off, noise
            if b - a < plan.block or segment.number[b - 1] + 1 < segment.number[0] + plan.blank:
                continue
            newest = segment.xyz[b - 1]
            step = min([step, *(d for d in np.abs(newest - seen) if d > 0.0)])
            seen = newest
            ln_energy = math.log(max(segment.level[b - 1], 1e-13))
            loud = loud + 1 if on < math.inf and ln_energy > noise + s.loud else 0
            if not 0 < loud <= plan.patience:
                bins.append(min(max(int((ln_energy - LOWEST) / BIN), 0), 799))
            first = max(0, len(bins) - plan.guard - plan.span)
            window = np.sort(bins[first : len(bins) - plan.guard])
            if len(window) < plan.warmup:
                on = math.inf
                continue
            noise = ranked(window, (len(window) - 1) // 2)
            upper = ranked(window, 9 * (len(window) - 1) // 10)
            prominence = min(max(s.on_min, upper - noise + s.on_over), s.on_max)
            floor = max(s.floor_g, s.floor_steps * step) ** 2
            on = max(math.exp(noise + prominence), floor)
            off = max(math.exp(noise + s.off), 0.25 * floor)


def ranked(window: NDArray[np.int_], rank: int) -> float:
    """Return ln energy at a rank of the sorted bins, equal bins taken as spread evenly over their width."""
    b = int(window[rank])
    below, inside = int((window < b).sum()), int((window == b).sum())
    return LOWEST + BIN * (b + (rank - below + 0.5) / inside)


# Events


def find_events(segment: Segment, plan: Plan, before: Event | None, start: int) -> list[Event]:
    """Return the events of a segment: where each opens, where its onset is, where it ends."""
    level, number = segment.level.tolist(), segment.number.tolist()
    on = segment.on.tolist()
    opens_from = number[0] + plan.blank
    previous_end = before.end if before else start
    next_id = before.id + 1 if before else 0
    must_pass = math.inf
    events: list[Event] = []
    at = 0
    while at < len(segment):
        if level[at] > on[at] and level[at] > must_pass and number[at] >= opens_from:
            first = trace_onset(segment, plan, at, previous_end)
            # Counted back from the sample that opened the event.
            began = number[at] - (at - first)
            last, close, cut = follow(segment, plan, at, began)
            end = number[last] + 1
            onset = max(began - plan.delay, previous_end)
            events.append(Event(next_id, at, first, close, last, began, onset, end, cut))
            next_id += 1
            previous_end = end
            if cut:
                break
            must_pass = level[close] * plan.rearm
            at = close
        else:
            must_pass = min(must_pass, level[at] * plan.rearm)
        at += 1
    return events


def trace_onset(segment: Segment, plan: Plan, at: int, previous_end: int) -> int:
    """Return the position of the onset: back from `at` until the band has been quiet for 0.05 s."""
    oldest = max(0, at - plan.lookback, at - int(segment.number[at] - previous_end))
    energy = segment.energy[oldest : at + 1]
    threshold = max(6.0 * math.exp(segment.noise[at]), 0.02 * energy.max())
    onset, later = at, at + 1
    for position in (oldest + np.flatnonzero(energy >= threshold)[::-1]).tolist():
        if later - position > plan.quiet_run:
            break
        onset = later = position
    return onset


def follow(segment: Segment, plan: Plan, at: int, began: int) -> tuple[int, int, bool]:
    """Return the positions of the last sample above the off level and of the close; whether the data end."""
    largest = np.maximum.accumulate(segment.level[at:])
    above = segment.level[at:] >= np.maximum(segment.off[at:], largest * math.exp(-plan.s.release))
    last = at
    for position in range(at + 1, len(segment)):
        if above[position - at]:
            last = position
            if segment.number[position] - began >= plan.max_event:
                return last, position, False
        elif segment.number[position] - segment.number[last] >= plan.hang:
            return last, position, False
    return last, len(segment), True


def features(segment: Segment, plan: Plan, event: Event) -> dict[str, float]:
    """Return what is measured of an event when it closes."""
    rate = plan.rate
    whole = slice(event.first, event.close + 1)
    band, energy = segment.band[whole], segment.energy[whole]
    noise = float(segment.noise[event.at])
    largest = segment.level[event.at : event.close + 1].max()
    peak = int(energy.argmax())
    position = event.first + peak
    # Like the onset, a peak before the trigger is counted back from it.
    peak_at = segment.number[max(position, event.at)] - max(event.at - position, 0)
    total = energy.sum()
    steps = np.diff(segment.band[event.first - 1 : event.close + 1], axis=0)
    lag = math.sqrt((steps**2).sum() / total) / 2.0
    blocks = slice(event.at // plan.block, event.close // plan.block)
    before = gravity(
        segment,
        plan,
        event.at // plan.block,
        (event.at - event.first) // plan.block + 1,
        max(2, int(1.0 / plan.period)),
    )
    travel = ((segment.gravity[blocks] - before) ** 2).sum(axis=1).max(initial=0.0)
    after = gravity(segment, plan, event.close // plan.block, 0, max(1, int(0.3 / plan.period)))
    bursts = find_bursts(segment.level[event.at : event.close + 1])
    between = np.diff(segment.number[event.at + np.array(bursts)])
    t90, t50, centre = spans(energy, event.end - event.start, math.exp(noise), rate)
    return {
        "peak": math.sqrt(energy[peak]),
        "prominence": math.log(largest) - noise,
        "rise": (peak_at - event.start) / rate,
        "t90": t90,
        "t50": t50,
        "centre": centre,
        "hf": math.nan if plan.hf is None else segment.high[whole].sum() / total,
        "line": np.linalg.eigvalsh(band.T @ band)[-1] / total,
        "freq": math.asin(min(lag, 1.0)) * rate / math.pi,
        "slow": math.sqrt(travel / energy[peak]),
        "low": math.sqrt(segment.drift[blocks].max(initial=0.0) / energy[peak]),
        "bursts": len(bursts),
        "rhythm": np.std(between) / np.mean(between) if len(between) >= 3 else math.nan,
        "noise": noise,
        "gx": before[0],
        "gy": before[1],
        "gz": before[2],
        "angle": angle(before, after),
    }


def gravity(segment: Segment, plan: Plan, known: int, skip: int, count: int) -> Array:
    """Return the mean of `count` of the `known` blocks, the newest `skip` left out, as far as they go."""
    stop = known - skip
    blocks = segment.gravity[max(stop - count, 0) : stop] if stop > 0 else segment.gravity[known - 1 : known]
    mean: Array = blocks.mean(axis=0)
    return mean


def angle(a: Array, b: Array) -> float:
    """Return the angle between two vectors in degrees, 0 where one has no length."""
    if not a.any() or not b.any():
        return 0.0
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


def spans(energy: Array, length: int, background: float, rate: float) -> tuple[float, float, float]:
    """Return the spans (s) of the middle 90 % and 50 % of the energy until the end, and its centre.

    Energy is summed in bins of 1, 2, 4 ... samples, whichever first needs no more than 128 of them for the
    event and its dying away; each bin's share of the background is taken off.
    """
    width = 1
    while len(energy) > ENERGY_BINS * width:
        width *= 2
    bins = np.array([energy[a : a + width].sum() for a in range(0, len(energy), width)])
    bins = np.maximum(bins[: (length - 1) // width + 1] - background * width, 0.0)
    reached = np.concatenate([[0.0], np.cumsum(bins)])
    total = reached[-1]
    if total <= 0.0:
        return length / rate, length / rate, 0.5 * length / rate

    def time(share: float) -> float:
        k = int(np.flatnonzero(reached >= share * total)[0])
        part = (share * total - reached[k - 1]) / (reached[k] - reached[k - 1])
        return float(k - 1 + part) * width / rate

    centre = float((bins * (np.arange(len(bins)) + 0.5)).sum() / total) * width / rate
    return time(0.95) - time(0.05), time(0.75) - time(0.25), centre


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
    """The rest state, block by block, and the share of time spent in events."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = SETTLING
        self.turns: list[tuple[int, int]] = []  # sample and new state
        self.last_move = self.window_end = 0
        self.moved = self.busy = 0.0
        self.posture: Array | None = None
        self.epoch: list[Array] = []
        self.begun = False

    def begin(self, segment: Segment) -> None:
        """Cross the loss before a segment: the unseen is not quiet; after a long one all is unknown."""
        if not self.begun or segment.lost > self.plan.long_gap:
            self.enter(SETTLING, int(segment.number[0]))
            self.last_move, self.moved = int(segment.number[0]), 0.0
        else:
            self.last_move += segment.lost
        self.begun = True
        self.posture, self.epoch = None, []

    def live_through(
        self, segment: Segment, events: list[Event], is_movement: Callable[[int], bool]
    ) -> NDArray[np.bool_]:
        """Set `rest` and `busy` of a segment's events; return which of its blocks were spent in events."""
        happenings: list[tuple[int, int, str, Any]] = []
        for event in events:
            happenings += [(event.at, 0, "open", event), (event.close, 0, "close", event)]
        blocks = len(segment.gravity)
        happenings += [((k + 1) * self.plan.block - 1, 1, "block", k) for k in range(blocks)]
        inside = False
        busy = np.zeros(blocks, bool)
        for position, _, what, subject in sorted(happenings, key=lambda happening: happening[:2]):
            if what == "open":
                inside = True
                subject.values |= {"rest": self.state, "busy": self.busy}
            elif what == "close":
                inside = False
                if is_movement(subject.id):
                    self.take_note(subject)
            else:
                busy[subject] = inside
                share = 1.0 - math.exp(-self.plan.period / 60.0)
                self.busy += share * ((1.0 if inside else 0.0) - self.busy)
                self.advance(segment.gravity[subject], int(segment.number[position]) + 1)
        return busy

    def take_note(self, event: Event) -> None:
        """A movement of the person."""
        duration = (event.end - event.onset) / self.plan.rate
        if duration >= 1.0 or event.values["angle"] >= self.plan.s.rest_angle:
            self.last_move = max(self.last_move, event.end)
            stayed = event.values["angle"] < self.plan.s.rest_angle < 180.0
            self.moved += (2.0 + min(duration, 10.0)) * (0.4 if stayed else 1.0)

    def advance(self, mean: Array, now: int) -> None:
        """One block."""
        s, rate = self.plan.s, self.plan.rate
        self.moved *= math.exp(-self.plan.period / s.waking_decay)
        self.epoch.append(mean)
        if len(self.epoch) == self.plan.epoch:
            posture = np.sum(self.epoch, axis=0)
            if self.posture is not None and angle(posture, self.posture) > s.rest_angle:
                self.last_move = now
            self.posture, self.epoch = posture, []
        quiet = (now - self.last_move) / rate
        if self.state == AWAKE:
            if quiet >= s.settle:
                self.moved = 0.0
                self.enter(SETTLING, now)
        elif self.moved > s.waking:
            self.enter(AWAKE, now)
        elif self.state == SETTLING:
            if quiet >= s.still or (now - self.turns[-1][0]) / rate >= s.settling:
                self.enter(ONSET, now)
                self.window_end = now + int(s.window * rate)
        elif self.state == ONSET and now >= self.window_end:
            self.enter(STILL, now)

    def enter(self, state: int, now: int) -> None:
        """Change to a state at the sample of that number."""
        self.state = state
        self.turns.append((now, state))


# Rows


def segment_rows(
    segment: Segment, plan: Plan, events: list[Event], busy: NDArray[np.bool_]
) -> list[dict[str, float]]:
    """Return the provisional and final rows of a segment's events, in the order in which they come out."""
    number, length = segment.number, len(segment)
    rows: list[tuple[tuple[int, int, int], dict[str, float]]] = []
    for event in events:
        v = event.values | {
            "onset": event.onset,
            "end": event.end,
            "id": event.id,
            "cut": float(event.cut),
        }
        emitted = number[event.close] if event.close < length else number[-1] + 1
        provisional = v | {"revision": 0, "after": 0.0, "follow": NOTHING_FOLLOWED, "emitted": emitted}
        rows.append(((event.close, 0, event.id), provisional))

        due = np.flatnonzero(number + 1 >= event.end + plan.final)
        due = due[due >= event.close]
        until = int(due[0]) if len(due) else length
        known = until // plan.block
        if len(due):
            later = gravity(segment, plan, known, 0, max(1, int(1.0 / plan.period)))
            v["angle"] = angle(np.array([v["gx"], v["gy"], v["gz"]]), later)
        spent = busy[event.close // plan.block : known].sum() * plan.block / plan.final
        follows = [NOTHING_FOLLOWED]
        for other in events[event.id - events[0].id + 1 :]:
            if other.at <= until:
                largest = segment.level[other.at : min(other.close, until) + 1].max()
                follows.append(math.log(largest) - v["noise"] - v["prominence"])
        emitted = number[until] + 1 if len(due) else number[-1] + 1
        final = v | {"revision": 1, "after": min(spent, 1.0), "follow": max(follows), "emitted": emitted}
        rows.append(((until, 1, event.id), final))
    return [row for _, row in sorted(rows, key=lambda item: item[0])]
