"""Time stamps of other people's files: from text or numbers to seconds, and from uneven to an even rate.

Time stamps jitter, repeat, come in packets and skip. What is even already keeps its samples as they are;
what is uneven is put on an even grid by linear interpolation, never across a gap.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TICKS", "Grid", "StampError", "guess_tick", "parse_stamps", "to_grid", "unwrap"]

TICKS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in one of each unit of a numeric time stamp."""

GAP_SECONDS: Final = 0.030
"""Beyond the usual step (s), what makes a gap: two samples at 100 Hz are bridged, a jerk's rise is not."""

SMALL_STEP: Final = 0.25
"""Part of the mean step below which two stamps belong to one packet."""

PACKETS: Final = 0.3
"""Part of the steps that are small, above which samples are taken to come in packets."""

BACKWARD_SECONDS: Final = 1.0
"""Backward jump (s) that is no jitter."""

WRAP: Final = 2.0**32
"""Where the 32-bit millisecond and microsecond counters of boards start again."""

DRIFT_SECONDS: Final = 0.5
"""How far (s) an even run may leave its stamps: clocks wander, and samples are better than their stamps."""

CATCH_UP: Final = 16
"""Samples within which a late delivery has caught up; later, what lies between is a gap."""

_STAMP: Final = re.compile(
    rb"\s*(?:(?P<year>\d{4})[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)[T _]\s*)?"
    rb"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)(?:(?P<point>[.,:])(?P<fraction>\d{1,9}))?"
    rb"\s*(?P<zone>Z|(?P<sign>[+-])(?P<zone_hour>\d\d):?(?P<zone_minute>\d\d))?\s*"
)
_FIELDS: Final = ("year", "month", "day", "hour", "minute", "second", "fraction", "zone_hour", "zone_minute")


class StampError(DataError):
    """Time stamps that cannot be followed; `row` is where."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def parse_stamps(text: NDArray[np.bytes_]) -> tuple[NDArray[np.float64], bool, bool]:
    """Return text stamps as seconds, and whether they have a date and a zone.

    Read are ISO 8601 (``2019-03-21T14:58:00.5+01:00``), its cousins (a blank for the T, slashes, a comma or a
    colon before the fraction, which after a colon is in milliseconds) and the bare time of day.

    Parameters
    ----------
    text : ndarray of bytes, shape (n,)
        The stamps.

    Returns
    -------
    seconds : ndarray of float64, shape (n,)
        POSIX seconds (UTC where there is no zone), or seconds since midnight; NaN for what is no stamp.
    dated, zoned : bool
        Whether any of them has a date, a zone.
    """
    seconds = np.full(len(text), np.nan)
    dated = zoned = False
    todo = np.arange(len(text))
    widths = np.char.str_len(text)
    # Stamps of one shape are read together, as columns of digits: each pass takes those like the first left.
    while len(todo):
        found = _STAMP.fullmatch(text[todo[0]])
        if found is None:
            todo = todo[[_STAMP.fullmatch(stamp) is not None for stamp in text[todo]]]
            continue
        width = widths[todo[0]]
        alike = todo[widths[todo] == width]
        digits = (
            text[alike].astype(f"S{width}").view(np.uint8).reshape(len(alike), width).astype(np.int64) - 48
        )
        number = (digits >= 0) & (digits <= 9)
        first = number[0]
        fixed = ~first
        if found["sign"]:
            fixed[found.start("sign")] = False
        same = (number == first).all(axis=1) & (digits[:, fixed] == digits[0, fixed]).all(axis=1)
        alike, digits = alike[same], digits[same]
        seconds[alike] = _combine(found, digits)
        dated, zoned = dated or found["year"] is not None, zoned or found["zone"] is not None
        todo = todo[~np.isin(todo, alike, assume_unique=True)]
    return seconds, dated, zoned


def _combine(found: re.Match[bytes], digits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the seconds of stamps that are all made as `found` is, from their digits, shape (n, width)."""
    n = len(digits)
    values: dict[str, NDArray[np.int64]] = {}
    for name in _FIELDS:
        values[name] = np.zeros(n, np.int64)
        low, high = found.span(name)
        for at in range(low, high):
            values[name] = values[name] * 10 + digits[:, at]
    valid = (values["hour"] < 24) & (values["minute"] < 60) & (values["second"] <= 60)
    days = np.zeros(n, np.int64)
    if found["year"] is not None:
        valid &= (
            (values["month"] >= 1) & (values["month"] <= 12) & (values["day"] >= 1) & (values["day"] <= 31)
        )
        months = (values["year"] - 1970) * 12 + values["month"] - 1
        days = months.astype("M8[M]").astype("M8[D]").astype(np.int64) + values["day"] - 1
    whole = days * 86400 + values["hour"] * 3600 + values["minute"] * 60 + values["second"]
    if found["sign"]:
        offset = values["zone_hour"] * 3600 + values["zone_minute"] * 60
        whole -= np.where(digits[:, found.start("sign")] == ord("-") - 48, -offset, offset)
    places = 3 if found["point"] == b":" else len(found["fraction"] or b"")
    return np.where(valid, whole + values["fraction"] / 10.0**places, np.nan)


def guess_tick(values: NDArray[np.float64]) -> tuple[str, bool] | None:
    """Tell the unit of numeric stamps, and whether they are POSIX time, from their size and their step.

    Returns
    -------
    (unit, posix) or None
        A key of `TICKS`; None where no unit gives a rate from 5 to 2000 Hz.
    """
    # The shortest mean step over runs of a thousand: a gap lengthens one of them, packets none.
    runs = [values[at : at + 1001] for at in range(0, max(1, len(values) - 1000), 1000)]
    steps = [(run[-1] - run[0]) / (len(run) - 1) for run in runs if len(run) > 1 and run[-1] > run[0]]
    if not steps:
        return None
    step = min(steps)
    fits = [unit for unit, tick in TICKS.items() if 1 / 2000 <= step * tick <= 1 / 5]
    if not fits:
        return None
    # From 1989 to 2103.
    return fits[0], bool(6e8 <= values[0] * TICKS[fits[0]] <= 4.2e9)


def unwrap(values: NDArray[np.float64], period: float, edge: float) -> tuple[NDArray[np.float64], int]:
    """Make a counter that starts again at `period` run on; return it and how often it did.

    A fall is a new start only from the last `edge` of the period into the first.
    """
    falls = (np.diff(values) < -period / 2) & (values[:-1] > period - edge) & (values[1:] < edge)
    times = int(np.count_nonzero(falls))
    if times:
        values = values + period * np.concatenate([[0], np.cumsum(falls)])
    return values, times


class Grid(NamedTuple):
    """Samples at an even rate.

    Attributes
    ----------
    rate : float
        Samples per second.
    xyz : ndarray of float32, shape (n, 3)
        The samples.
    gaps : list of (int, int)
        Row before which samples are missing, and how many.
    start : float
        Stamp of the first sample (s).
    notes : list of str
        What was found and done, in sentences.
    """

    rate: float
    xyz: NDArray[np.float32]
    gaps: list[tuple[int, int]]
    start: float
    notes: list[str]


def to_grid(seconds: NDArray[np.float64], xyz: NDArray[np.float32], rate: float | None = None) -> Grid:
    """Put stamped samples on an even grid.

    Parameters
    ----------
    seconds : ndarray, shape (n,)
        Stamps in seconds.
    xyz : ndarray of float32, shape (n, 3)
        Samples, all finite.
    rate : float, optional
        Samples per second; by default estimated from the stamps.

    Raises
    ------
    StampError
        If time jumps back by a second or more.
    DataError
        If the stamps do not advance, or contradict `rate`.
    """
    notes: list[str] = []
    t, xyz = _in_order(seconds, xyz, notes)
    if len(t) < 2 or t[-1] <= t[0]:
        raise DataError("its time stamps do not advance: give the rate and no time column")
    resolution = _resolution(t - t[0])
    mean = float(np.minimum(np.diff(t), 2.0).mean())
    small = np.diff(t) < SMALL_STEP * mean
    if np.count_nonzero(small) > PACKETS * len(small):
        t, interval = _spread_packets(t, small, notes)
        resolution = max(resolution, interval)
    else:
        t = _spread_late(t, notes)
        t, xyz = _part_ties(t, xyz, notes)
    found = _rate(t, resolution)
    if rate is None:
        rate = found
        notes.append(f"the rate is {rate:.6g} Hz by the time stamps")
    elif abs(rate - found) > 0.1 * found:
        raise DataError(
            f"its time stamps say {found:.4g} Hz, and {rate:g} Hz was given: leave out one of the two"
        )
    return _resample(t, xyz, rate, resolution, notes)


def _in_order(
    t: NDArray[np.float64], xyz: NDArray[np.float32], notes: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    steps = np.diff(t)
    back = np.flatnonzero(steps < 0)
    if not len(back):
        return t, xyz
    worst = int(back[np.argmin(steps[back])])
    if steps[worst] <= -BACKWARD_SECONDS:
        message = f"time goes back by {-steps[worst]:.6g} s: split the file there if the clock was set"
        raise StampError(message, worst + 1)
    notes.append(f"{len(back)} samples whose stamps were out of order were sorted")
    order = np.argsort(t, kind="stable")
    return t[order], xyz[order]


def _resolution(t: NDArray[np.float64]) -> float:
    """Return the coarsest decimal step (s) that all of the first stamps are multiples of; 0 for none."""
    head = t[:10000]
    for step in (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6):
        if np.all(np.abs(head / step - np.rint(head / step)) < 0.01):
            return step
    return 0.0


def _spread_packets(
    t: NDArray[np.float64], small: NDArray[np.bool], notes: list[str]
) -> tuple[NDArray[np.float64], float]:
    """Spread each packet over the time since the one before; return the stamps and the usual interval."""
    first = np.concatenate([[0], np.flatnonzero(~small) + 1])
    count = np.diff(np.append(first, len(t)))
    arrival = t[first]
    interval = np.diff(arrival)
    if not len(interval):
        raise DataError("its time stamps do not advance: give the rate and no time column")
    step = float(np.median(interval / count[1:]))
    usual = float(np.median(interval))
    # A packet that never came leaves one more interval; what is later than half of one is not jitter.
    lost = interval - count[1:] * step > max(GAP_SECONDS, usual / 2)
    before = np.where(lost, arrival[1:] - count[1:] * step, arrival[:-1])
    since = np.concatenate([[arrival[0] - count[0] * step], before])
    place = (np.arange(len(t)) - np.repeat(first, count) + 1) / np.repeat(count, count)
    notes.append(
        f"samples came in packets of about {np.median(count):.0f}: they were spread evenly between stamps"
    )
    return np.repeat(since, count) + place * np.repeat(arrival - since, count), usual


def _spread_late(t: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """Spread samples that were stamped late, and whose followers catch up, over the time that they took."""
    steps = np.diff(t)
    usual = float(np.median(steps[steps > 0]))
    # A little short of a gap, for the usual step is not yet the rate's.
    limit = 0.9 * _gap_limit(usual)
    mean = float(steps[steps <= limit].mean())
    late = 0
    t = t.copy()
    for at in np.flatnonzero(steps > limit).tolist():
        ahead = np.arange(1, min(CATCH_UP, len(t) - 1 - at) + 1)
        behind = t[at + ahead] - t[at] - ahead * mean
        caught = np.flatnonzero(behind <= 0.5 * mean)
        if len(caught):
            n = int(ahead[caught[0]])
            t[at : at + n + 1] = np.linspace(t[at], t[at + n], n + 1)
            late += n - 1
    if late:
        notes.append(f"{late} samples that were stamped late were spread evenly over the time that they took")
    return t


def _part_ties(
    t: NDArray[np.float64], xyz: NDArray[np.float32], notes: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Leave out rows that repeat the one before them; spread others of one stamp over the step before it."""
    tied = np.concatenate([[False], np.diff(t) <= 0])
    if not tied.any():
        return t, xyz
    again = tied & np.concatenate([[False], (np.diff(xyz, axis=0) == 0).all(axis=1)])
    if again.any():
        notes.append(
            f"{np.count_nonzero(again)} samples that repeat the one before them, stamp and all, were left out"
        )
        t, xyz, tied = t[~again], xyz[~again], tied[~again]
    if tied.any():
        notes.append(f"{np.count_nonzero(tied)} samples that share a stamp with the one before were parted")
        first = np.flatnonzero(~tied)
        count = np.diff(np.append(first, len(t)))
        stamp = t[first]
        step = float(np.median(np.diff(stamp)))
        since = stamp - count * step
        since[1:] = np.maximum(since[1:], stamp[:-1])
        place = (np.arange(len(t)) - np.repeat(first, count) + 1) / np.repeat(count, count)
        t = np.repeat(since, count) + place * np.repeat(stamp - since, count)
    return t, xyz


def _gap_limit(step: float) -> float:
    return max(step + GAP_SECONDS, 1.5 * step)


def _rate(t: NDArray[np.float64], resolution: float) -> float:
    """Return the rate (Hz) within gaps: a whole number where the stamps are too coarse to tell from one."""
    steps = np.diff(t)
    usual = float(np.median(steps))
    inner = steps[steps <= _gap_limit(usual)]
    # Where steps are nearly even, one of double length is a lost sample and counts as two.
    even = np.quantile(np.abs(inner - usual), 0.9) <= 0.25 * usual
    count = float(np.maximum(np.rint(inner / usual), 1).sum()) if even else len(inner)
    rate = float(count / inner.sum())
    doubt = 2 * resolution / float(inner.sum())
    return float(round(rate)) if rate > 1 and abs(rate - round(rate)) <= rate * doubt else rate


def _resample(
    t: NDArray[np.float64], xyz: NDArray[np.float32], rate: float, resolution: float, notes: list[str]
) -> Grid:
    """Give every sample between gaps its number, interpolating where stamps are uneven."""
    step = 1 / rate
    steps = np.diff(t)
    cuts = np.flatnonzero(steps > _gap_limit(step)) + 1
    parts: list[NDArray[np.float32]] = []
    gaps: list[tuple[int, int]] = []
    stored, last, place = 0, -1, 0.0  # rows so far, number of the last sample, and its place by the stamps
    uneven, drift = 0, 0.0
    for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(t)], strict=True):
        if low:
            place += steps[low - 1] * rate
            if abs(place - (t[low] - t[0]) * rate) > DRIFT_SECONDS * rate:
                place = (t[low] - t[0]) * rate
        # A gap is a gap: at least one number is left out.
        free = last + 2 if low else 0
        apart = _apart(t[low:high], step, resolution)
        if apart <= DRIFT_SECONDS:
            start = max(round(place), free)
            part = xyz[low:high]
            drift = max(drift, apart)
            place = float(start + high - low - 1)
        else:
            places = place + (t[low:high] - t[low]) * rate
            start = max(int(np.ceil(places[0] - 1e-6)), free)
            grid = np.arange(start, int(np.floor(places[-1] + 1e-6)) + 1)
            part = np.empty((len(grid), 3), np.float32)
            for axis in range(3):
                part[:, axis] = np.interp(grid, places, xyz[low:high, axis])
            after = np.searchsorted(places, grid).clip(1, len(places) - 1)
            uneven += int(np.count_nonzero((grid - places[after - 1] > 0.01) & (places[after] - grid > 0.01)))
            place = float(places[-1])
        if not len(part):
            continue
        if stored and start > last + 1:
            gaps.append((stored, start - last - 1))
        parts.append(part)
        stored, last = stored + len(part), start + len(part) - 1
    if uneven:
        notes.append(f"{uneven} of {stored} samples were interpolated, their time stamps being uneven")
    if drift > 0.05:
        notes.append(f"runs of even stamps were kept as they are, though these wander by up to {drift:.2f} s")
    return Grid(rate, parts[0] if len(parts) == 1 else np.concatenate(parts), gaps, float(t[0]), notes)


def _apart(t: NDArray[np.float64], step: float, resolution: float) -> float:
    """Return how far (s) the stamps of a run leave an even grid, or infinity where their steps are uneven.

    Steps are even but for a tenth, and for what the stamps cannot resolve.
    """
    if len(t) == 1:
        return 0.0
    off = np.abs(np.diff(t) - step)
    allowed = 0.1 * step + min(resolution, 0.25 * step)
    if off.max() > 0.5 * step or np.quantile(off, 0.99) > allowed:
        return np.inf
    return float(np.abs(t - t[0] - np.arange(len(t)) * step).max())
