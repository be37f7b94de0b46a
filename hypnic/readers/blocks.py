"""Recordings that lie in blocks of a file, each with the time of its first sample: most loggers' own formats.

A format finds its blocks and decodes them; what their times say of rate, gaps and order is settled here. The
table of blocks, some 50 bytes for each second or so, is all that is held in memory.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import DataError
from hypnic.readers.base import CLOCK_DTYPE, GAP_DTYPE, BaseRecording, Damage, parse_start
from hypnic.readers.stamps import DRIFT_SECONDS, GAP_SECONDS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DAMAGED",
    "DISORDER",
    "BlockRecording",
    "Layout",
    "LoggerRecording",
    "check_options",
    "check_start",
    "choose_site",
    "lay_out",
    "read_at",
]

DAMAGED: Final = "damaged block"
"""Reason of a gap: what lay there is no sound block."""

DISORDER: Final = "time stamps out of order"
"""Reason of a gap: blocks were left out because their time does not fit in."""

UNKNOWN: Final = "none by the time stamps"
"""Reason of a gap where the file does not say why."""

RATE_ERROR: Final = 0.2
"""Part by which a device's clock may be off: none is known that is worse."""

HIGHEST_RATE: Final = 1e5
"""Rate (Hz) from which on what a file states is damage."""

GIVEN_ERROR: Final = 0.1
"""Part by which a rate that is given may differ from that of the time stamps."""

LATE_BLOCKS: Final = 3
"""Blocks within which a late time stamp is caught up: what lasts longer is a gap."""

MOST_JITTER: Final = 0.5
"""Unevenness of time stamps (s) that is still told from gaps."""

LEAP_SECONDS: Final = 31 * 86400.0
"""Step between two blocks (s) that is a clock being set, or damage, rather than a gap."""

FEW_BLOCKS: Final = 8
"""Blocks from which time stamps that contradict the stated rate are refused."""

CLOCK_SECONDS: Final = 60.0
"""Least time (s) between two rows of the clock table: a logger's clock does not wander faster."""


class Layout(NamedTuple):
    """How blocks make a recording.

    Attributes
    ----------
    rate : float
        Samples per second by the time stamps.
    keep : ndarray of int64, shape (k,)
        The blocks that are used, in order.
    gaps : ndarray of `GAP_DTYPE`
        Where samples are missing.
    start : float
        Time of sample 0 (s), in the terms of the stamps.
    clock : ndarray of `CLOCK_DTYPE`
        Numbers of first samples against the stamps of their blocks.
    notes : list of str
        What was found and done, in sentences.
    """

    rate: float
    keep: NDArray[np.int64]
    gaps: NDArray[np.void]
    start: float
    clock: NDArray[np.void]
    notes: list[str]

    @property
    def damage(self) -> list[Damage]:
        """The gaps that damage made, by number of sample."""
        lost = np.cumsum(self.gaps["missing"]) - self.gaps["missing"]
        return [
            Damage(int(gap["sample"] + before), int(gap["missing"]), str(gap["reason"]))
            for gap, before in zip(self.gaps, lost, strict=True)
            if gap["reason"] in (DAMAGED, DISORDER)
        ]


def lay_out(
    path: Path,
    stamps: ArrayLike,
    counts: ArrayLike,
    nominal: float,
    *,
    rate: float | None = None,
    resolution: float = 0.0,
    reasons: Mapping[int, str] | None = None,
    before: int = 0,
    after: int = 0,
) -> Layout:
    """Settle rate, order and gaps from the times of blocks.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stamps : array_like, shape (n,)
        Time of the first sample of each block (s).
    counts : array_like of int, shape (n,)
        Samples in each block, 1 or more.
    nominal : float
        Rate that the file states (Hz).
    rate : float, optional
        Rate to use in place of the measured one.
    resolution : float
        Step of the time stamps (s).
    reasons : mapping, optional
        Why samples may be missing before a block, by the block's number.
    before, after : int
        Samples that damage took before the first and after the last block.

    Raises
    ------
    DataError
        If there are no blocks, or time stamps and rate contradict each other.
    """
    t, n = np.asarray(stamps, np.float64), np.asarray(counts, np.int64)
    why = dict(reasons or {})
    notes: list[str] = []
    if not len(t):
        raise DataError(f"{path}: there is no sound block of samples in it")
    if not 0 < nominal < HIGHEST_RATE:
        raise DataError(f"{path}: it states a rate of {nominal:g} Hz, which is none")
    keep = _in_order(t, n, nominal, why, notes)
    t, n = t[keep], n[keep]
    step = np.diff(t)
    measured = _measure(path, step, n[:-1], nominal, resolution)
    if rate is None:
        rate = measured.rate
        if abs(rate - nominal) > 1e-4 * nominal:
            notes.append(f"the rate is {rate:.6g} Hz by the time stamps, {nominal:g} Hz by name")
    elif measured.known and abs(rate - measured.rate) > GIVEN_ERROR * measured.rate:
        raise DataError(
            f"{path}: its time stamps say {measured.rate:.4g} Hz, and {rate:g} Hz was given: leave it out"
        )
    # By the measured rate: one that is given may be off, and no gap is to come of that.
    jump = _jumps(step - n[:-1] / measured.rate)
    first = np.concatenate([[0], np.cumsum(n)])
    rows: list[tuple[int, int, str]] = [(0, before, DAMAGED)] if before else []
    lost, added = before, np.zeros(len(t), np.int64)
    added[0] = before
    for at in np.flatnonzero(jump > measured.limit).tolist():
        missing = max(1, round(float(jump[at]) * rate))
        place = round(float(t[at + 1] - t[0]) * rate) + before
        if abs(first[at + 1] + lost + missing - place) > DRIFT_SECONDS * rate:
            missing = max(1, place - int(first[at + 1]) - lost)
        rows.append((int(first[at + 1]), missing, why.get(int(keep[at + 1]), UNKNOWN)))
        lost += missing
        added[at + 1] = missing
    if after:
        rows.append((int(first[-1]), after, DAMAGED))
    number = first[:-1] + np.cumsum(added)
    wander = float(np.abs((t - t[0]) - (number - before) / rate).max())
    if wander > 0.05:
        notes.append(f"at an even rate the samples leave their time stamps by up to {wander:.2f} s")
    return Layout(
        rate, keep, np.array(rows, GAP_DTYPE), float(t[0]) - before / rate, _clock(number, t), notes
    )


class _Measured(NamedTuple):
    rate: float
    known: bool
    limit: float


def _measure(
    path: Path, step: NDArray[np.float64], n: NDArray[np.int64], nominal: float, resolution: float
) -> _Measured:
    """Return the rate (Hz) within gaps, whether the stamps tell it, and the time (s) that makes a gap."""
    sane = np.abs(step * nominal - n) <= RATE_ERROR * n
    if not sane.any():
        if len(step) >= FEW_BLOCKS:
            typical = float(np.median(n / step))
            raise DataError(
                f"{path}: its time stamps say {typical:.4g} Hz and its header {nominal:g} Hz: one is damaged"
            )
        return _Measured(nominal, False, _limit(nominal))
    guess = float(np.median(n[sane] / step[sane]))
    off = np.abs(step - n / guess)
    limit = _limit(guess) + min(2 * float(np.quantile(off[sane], 0.9)), MOST_JITTER)
    inner = sane & (off <= limit)
    seconds = float(step[inner].sum())
    rate = float(n[inner].sum() / seconds) if inner.any() else guess
    # Where the stamps are too coarse to tell it from the stated one, the stated one it is.
    if inner.any() and abs(rate - nominal) <= nominal * 2 * resolution / seconds:
        rate = nominal
    return _Measured(rate, True, limit)


def _limit(rate: float) -> float:
    return max(1 / rate + GAP_SECONDS, 1.5 / rate)


def _jumps(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much (s) time stays ahead after each step, from what each takes beyond its samples."""
    drift = np.concatenate([[0.0], np.cumsum(excess)])
    edge = np.full(LATE_BLOCKS - 1, np.inf)
    windows = np.lib.stride_tricks.sliding_window_view
    ahead = windows(np.concatenate([drift, edge]), LATE_BLOCKS).min(axis=1)
    behind = windows(np.concatenate([-edge, drift]), LATE_BLOCKS).max(axis=1)
    jump: NDArray[np.float64] = ahead[1:] - behind[:-1]
    return jump


def _in_order(
    t: NDArray[np.float64], n: NDArray[np.int64], nominal: float, why: dict[int, str], notes: list[str]
) -> NDArray[np.int64]:
    """Return the numbers of the blocks whose times go forward and do not leap."""
    keep = np.arange(len(t))
    if np.any(np.diff(t) <= 0):
        keep = _longest_rise(t)
    leaps = np.flatnonzero(np.diff(t[keep]) > LEAP_SECONDS) + 1
    if len(leaps):
        parts = np.split(keep, leaps)
        keep = max(parts, key=lambda part: int(n[part].sum()))
    if len(keep) < len(t):
        left = len(t) - len(keep)
        seconds = float(n.sum() - n[keep].sum()) / nominal
        notes.append(
            f"{left} blocks ({seconds:.1f} s) were left out, their time stamps being out of order or far off"
        )
        for at in (np.flatnonzero(np.diff(keep) > 1) + 1).tolist():
            between = range(int(keep[at - 1]) + 1, int(keep[at]) + 1)
            inherited = next((why[block] for block in between if block in why), DISORDER)
            why[int(keep[at])] = inherited
    return keep


def _longest_rise(t: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions of a longest strictly rising subsequence (patience sorting)."""
    tops: list[float] = []
    at: list[int] = []
    previous = np.full(len(t), -1)
    for position, value in enumerate(t.tolist()):
        pile = bisect_left(tops, value)
        previous[position] = at[pile - 1] if pile else -1
        tops[pile : pile + 1] = [value]
        at[pile : pile + 1] = [position]
    chain = [at[-1]]
    while previous[chain[-1]] >= 0:
        chain.append(int(previous[chain[-1]]))
    return np.array(chain[::-1], dtype=np.int64)


def _clock(number: NDArray[np.int64], t: NDArray[np.float64]) -> NDArray[np.void]:
    """Return numbers and times of blocks, one in `CLOCK_SECONDS`."""
    slot = np.floor((t - t[0]) / CLOCK_SECONDS)
    chosen = np.flatnonzero(np.concatenate([[True], np.diff(slot) > 0]))
    if chosen[-1] != len(t) - 1:
        chosen = np.append(chosen, len(t) - 1)
    table = np.zeros(len(chosen), CLOCK_DTYPE)
    table["sample"], table["device_tick"], table["utc"] = number[chosen], -1, t[chosen]
    return table


def choose_site(site: str | None, stated: str, notes: list[str]) -> str:
    """Return the site: as given, else the wrist, with a note where the file does not say so.

    Raises
    ------
    UsageError
        If it is none.
    """
    if site is not None:
        return check_site(site)
    if "wrist" not in stated.lower():
        told = f"the file says {stated!r}" if stated else "the file does not say where the sensor was"
        notes.append(f"{told}: the wrist is assumed")
    return "wrist"


def check_options(rate: float | None) -> float | None:
    """Return a rate that was given.

    Raises
    ------
    UsageError
        If it is none.
    """
    return None if rate is None else check_rate(rate)


def check_start(start: datetime | str | None) -> datetime | None:
    """Return a start time that was given, with UTC for its zone where it has none.

    Raises
    ------
    UsageError
        If it is none.
    """
    return None if start is None else parse_start(start)[0]


def read_at(handle: Any, offset: int, size: int, path: Path) -> bytes:
    """Return `size` bytes at `offset` of an open file.

    Raises
    ------
    DataError
        If there are not so many: the file has become shorter.
    """
    data = os.pread(handle.fileno(), size, offset)
    if len(data) < size:
        raise DataError(f"{path}: the file has become shorter while it was read")
    return data


class BlockRecording(BaseRecording):
    """A recording whose samples lie in blocks; a subclass decodes them (`_decode`).

    Parameters
    ----------
    path : path-like
        The file.
    layout : Layout
        Of `lay_out`.
    counts : ndarray of int64, shape (n,)
        Samples in every block that was found, kept or not.
    factor : float or ndarray, shape (3,)
        g per decoded number.
    shift : ndarray, shape (3,), optional
        Subtracted from decoded numbers first.
    start : datetime, optional
        When sample 0 was taken, in place of what the stamps say.
    zone : tzinfo, optional
        Zone of stamps that are a local time; they are POSIX seconds otherwise.
    **facts
        Others of `BaseRecording`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: Layout,
        counts: NDArray[np.int64],
        *,
        factor: Any,
        shift: Any = 0.0,
        start: datetime | None = None,
        zone: tzinfo | None = None,
        local: bool = False,
        notes: list[str],
        **facts: Any,
    ) -> None:
        self._keep = layout.keep
        self._first = np.concatenate([[0], np.cumsum(counts[layout.keep])])
        self._gain, self._shift = np.asarray(factor, np.float64), np.asarray(shift, np.float64)
        zone = UTC if zone is None else zone
        try:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=layout.start)
            moment = moment.replace(tzinfo=zone) if local else moment.astimezone(zone)
        except (OverflowError, ValueError):
            raise DataError(
                f"{path}: its time stamps are at {layout.start:.6g} s, which is no time"
            ) from None
        # Stamps that are a local time become POSIX seconds, and all move along with a start that is given.
        moved = (moment if start is None else start).timestamp() - layout.start
        self._clock = layout.clock.copy()
        self._clock["utc"] += moved
        super().__init__(
            path,
            rate=layout.rate,
            n_samples=int(self._first[-1]),
            start_time=moment if start is None else start,
            gaps=layout.gaps,
            notes=[*notes, *layout.notes],
            **facts,
        )
        self.damage.extend(layout.damage)

    @property
    def clock(self) -> NDArray[np.void]:
        """Numbers of samples against the device's clock (`CLOCK_DTYPE`), one row a minute."""
        return self._clock.copy()

    @property
    def effective_rate(self) -> float:
        """Samples per second of the device's clock, by least squares over `clock`."""
        seconds = self._clock["utc"] - self._clock["utc"][0]
        if len(seconds) < 2:
            return self.rate
        return float(np.polyfit(seconds, self._clock["sample"] - self._clock["sample"][0], 1)[0])

    def _load(self, begin: int, end: int) -> NDArray[np.float32]:
        low = int(np.searchsorted(self._first, begin, "right")) - 1
        high = int(np.searchsorted(self._first, end, "left"))
        numbers = self._decode(self._keep[low:high])
        part = numbers[begin - self._first[low] : end - self._first[low]]
        out = np.empty(part.shape, np.float32)
        np.multiply(part - self._shift, self._gain, out=out, casting="same_kind")
        return out

    def _sound(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        try:
            yield begin, self._load(begin, end)
            return
        except (OSError, DataError):
            pass
        inner = self._first[np.searchsorted(self._first, begin, "right") : np.searchsorted(self._first, end)]
        edges = [begin, *inner.tolist(), end]
        for low, high in pairwise(edges):
            try:
                xyz = self._load(low, high)
            except (OSError, DataError) as error:
                reason = (error.strerror if isinstance(error, OSError) else "") or "no longer readable"
                found = Damage(self._number(low), self._number(high - 1) + 1 - self._number(low), reason)
                if found not in self.damage:
                    self.damage.append(found)
            else:
                yield low, xyz

    def _decode(self, blocks: NDArray[np.int64]) -> NDArray[Any]:
        """Return the samples of some blocks, as stored, shape (n, 3)."""
        raise NotImplementedError(f"{type(self).__name__} does not decode its blocks")


class LoggerRecording(BlockRecording):
    """The file of a body-worn logger, which stays open; a subclass finds its blocks (`_find`) and decodes them.

    Parameters
    ----------
    path : path-like
        The file.
    rate : float, optional
        Sampling rate in Hz, in place of that of the time stamps.
    site : {"wrist", "mattress"}, optional
        By default the wrist.
    start : datetime or str, optional
        When the first sample was taken, if not when the file says.

    Raises
    ------
    DataError
        If there is no sound block in it.
    UsageError
        If an option is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: float | None = None,
        site: str | None = None,
        start: datetime | str | None = None,
    ) -> None:
        path, rate, moment = Path(path), check_options(rate), check_start(start)
        self._handle = self._opened(path)
        try:
            super().__init__(path, **self._find(path, rate, site, moment), start=moment)
        except BaseException:
            self.close()
            raise

    def _opened(self, path: Path) -> IO[bytes]:
        """Return what the blocks are read from."""
        return path.open("rb")

    def _find(
        self, path: Path, rate: float | None, site: str | None, start: datetime | None
    ) -> dict[str, Any]:
        """Return what `BlockRecording` wants to know besides path and start."""
        raise NotImplementedError(f"{type(self).__name__} does not find its blocks")

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()
