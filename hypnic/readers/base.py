"""What every recording on disk has in common, whatever its format.

A format supplies its stored samples and what it knows of them; windows, gaps, damage and the arithmetic
between rows as stored and samples as counted (lost ones included) are done here, once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from hypnic.chunk import Chunk, Site, check_rate, check_site
from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from hypnic.calibration import Calibration
    from hypnic.events import Events

__all__ = [
    "ANNOTATION_DTYPE",
    "CLOCK_DTYPE",
    "GAP_DTYPE",
    "STANDARD_GRAVITY",
    "UNITS",
    "BaseRecording",
    "Damage",
    "Format",
    "MemoryRecording",
    "check_unit",
    "data_rate",
    "infer_unit",
    "make_gaps",
    "parse_start",
]

STANDARD_GRAVITY: Final = 9.80665
"""Metres per second squared in one g."""

UNITS: Final = {"g": 1.0, "mg": 1e-3, "m/s2": 1.0 / STANDARD_GRAVITY}
"""g in one of each unit that is read."""

GAP_DTYPE: Final = np.dtype([("sample", "i8"), ("missing", "i8"), ("reason", "U64")])
"""A gap: row before which samples are missing (the number of rows for one at the end), how many, and why."""

CLOCK_DTYPE: Final = np.dtype([("sample", "i8"), ("device_tick", "i8"), ("utc", "f8")])
"""A pairing of clocks: sample number (lost samples counted), tick of the device, POSIX seconds."""

ANNOTATION_DTYPE: Final = np.dtype(
    [("onset", "f8"), ("duration", "f8"), ("label", "U64"), ("source", "U64")],
)
"""A remark: onset and duration in seconds from the start of the recording, what, and who says so."""

LONGEST_DAYS: Final = 3660.0
"""Length beyond which the sizes in a file are taken for damage rather than for a recording."""

RESTING_NORMS: Final = {"g": (0.75, 1.3), "m/s2": (7.4, 12.7), "mg": (750.0, 1300.0)}
"""Norm of a still sensor in each unit: gravity, less or more some 30 % of offset and gain error."""


class Damage(NamedTuple):
    """Samples that are stored but cannot be read.

    Attributes
    ----------
    sample : int
        Number of the first, lost samples counted.
    missing : int
        How many.
    reason : str
        What the file library said.
    """

    sample: int
    missing: int
    reason: str


def check_unit(unit: str) -> str:
    """Return the name in `UNITS` of a unit as people write it (``m/s²``, ``m/s^2``, ``milli-g``).

    Raises
    ------
    UsageError
        If it is none.
    """
    plain = str(unit).strip().lower().replace("²", "2").replace("^", "").replace("**", "").replace(" ", "")
    plain = {
        "ms-2": "m/s2",
        "m/s/s": "m/s2",
        "mps2": "m/s2",
        "milli-g": "mg",
        "milli-gs": "mg",
        "gs": "g",
    }.get(plain, plain)
    if plain not in UNITS:
        raise UsageError(f"unit {unit!r} is unknown: use g, mg or m/s2")
    return plain


def infer_unit(xyz: NDArray[Any], rate: float) -> str | None:
    """Tell the unit of `xyz` from gravity, or return None where it cannot be told.

    The norm is taken where the sensor is calmest: the median over the calmest tenth of one-second windows.

    Parameters
    ----------
    xyz : ndarray, shape (n, 3)
        Acceleration in an unknown unit, gravity included.
    rate : float
        Samples per second, for the length of the windows.
    """
    width = max(1, min(round(rate), len(xyz)))
    count = len(xyz) // width
    if count == 0:
        return None
    # A thousand windows spread over the whole tell as much as all of them.
    picked = np.unique(np.linspace(0, count - 1, min(count, 1000)).astype(int))
    windows = np.stack([xyz[at * width : (at + 1) * width] for at in picked]).astype(float)
    norms = np.sqrt(np.square(windows).sum(axis=2))
    spread, level = norms.std(axis=1), np.median(norms, axis=1)
    sound = np.isfinite(spread) & (level > 0)
    if not sound.any():
        return None
    spread, level = spread[sound] / level[sound], level[sound]
    calm = level[np.argsort(spread, kind="stable")[: max(1, len(level) // 10)]]
    resting = float(np.median(calm))
    for unit, (low, high) in RESTING_NORMS.items():
        if low <= resting <= high:
            return unit
    return None


def data_rate(rate: float, path: Path) -> float:
    """Return `rate` as `check_rate` does, with the file named and the refusal a `DataError`."""
    try:
        return check_rate(rate)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from None


def parse_start(start: datetime | str | float) -> tuple[datetime, bool]:
    """Return a start time as an aware datetime, and whether its zone had to be assumed (as UTC).

    Parameters
    ----------
    start : datetime, str or float
        A datetime, an ISO 8601 text or POSIX seconds.

    Raises
    ------
    UsageError
        If it is none of them.
    """
    try:
        if isinstance(start, datetime):
            moment = start
        elif isinstance(start, str):
            moment = datetime.fromisoformat(start.strip())
        else:
            moment = datetime.fromtimestamp(float(start), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise UsageError(
            f"start {start!r} is not a time: use ISO 8601, such as 2024-03-21T22:30:00+01:00"
        ) from None
    return (moment, False) if moment.tzinfo else (moment.replace(tzinfo=UTC), True)


def make_gaps(samples: ArrayLike = (), missing: ArrayLike = (), reason: str = "") -> NDArray[np.void]:
    """Return a gap table (`GAP_DTYPE`) from its columns, one reason for all."""
    rows = np.asarray(samples, dtype=np.int64)
    table = np.zeros(len(rows), GAP_DTYPE)
    table["sample"], table["missing"], table["reason"] = rows, missing, reason
    return table


UNREADABLE: Final = "unreadable"
"""Reason of a gap that no table of gaps explains: what is stored there cannot be read, or was never written."""


class BaseRecording:
    """A recording on disk: a `hypnic.chunk.Source` that can also be read in part.

    Subclasses give the facts to this constructor and override `_load` (and `_sound` and `_present`, where
    part of the rows can turn out to be unreadable).

    Parameters
    ----------
    path : path-like
        The file.
    rate : float
        Sampling rate in Hz.
    site : str
        ``"wrist"`` or ``"mattress"``.
    n_samples : int
        Stored rows.
    start_time : datetime, optional
        When sample 0 was taken, with a time zone.
    gaps : ndarray of `GAP_DTYPE`, optional
        Where samples are missing.
    scale : float, optional
        g per count, where the samples are whole counts.
    dtype : str, optional
        Type of number in the file.
    range_g : float, optional
        Full scale of the sensor in g.
    sensor : str, optional
        What the sensor was.
    units : str, optional
        The unit in the file.

    Attributes
    ----------
    path : Path
    rate : float
        Sampling rate in Hz: of the samples as they are yielded.
    site : {"wrist", "mattress"}
    start_time : datetime or None
        When sample 0 was taken; always with a time zone.
    gaps : ndarray of `GAP_DTYPE`
        Where samples are missing, in order.
    damage : list of Damage
        Stored samples that could not be read so far; they are yielded as missing.
    notes : list of str
        What was assumed, mended or left out on opening, in plain sentences.
    calibration : Calibration or None
        What corrects the samples as they are read (`calibrate`).
    reads_ahead : bool
        Whether a thread may read ahead of whoever takes the samples, where that is worth it: that takes up to half a
        core more. True at first; for whoever keeps every core busy already it is a loss.
    unfinished : bool
        Whether the recorder has not closed the file: it is at work still, or was cut off.
    scale, dtype, range_g, sensor, units
        As given.

    Raises
    ------
    DataError
        If the gaps cannot be, or there are no samples.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: float,
        site: str,
        n_samples: int,
        start_time: datetime | None = None,
        gaps: NDArray[np.void] | None = None,
        scale: float | None = None,
        dtype: str = "float32",
        range_g: float | None = None,
        sensor: str = "",
        units: str = "g",
        notes: Iterable[str] = (),
    ) -> None:
        self.path = Path(path)
        self.rate = data_rate(rate, self.path)
        self.site: Site = check_site(site)
        self.start_time = start_time
        self.scale = scale
        self.dtype = dtype
        self.range_g = range_g
        self.sensor = sensor
        self.units = units
        self.notes: list[str] = list(notes)
        self.damage: list[Damage] = []
        self.reads_ahead = True
        self.unfinished = False
        self.calibration: Calibration | None = None
        self._counts_of = (scale, dtype)
        self._count = int(n_samples)
        self.gaps = make_gaps() if gaps is None else gaps
        if self._count < 1:
            raise DataError(f"{self.path}: there are no samples in it")
        self._check_gaps()
        self._lost = np.concatenate([[0], np.cumsum(self.gaps["missing"])])
        # The row, and the number of the sample, before which each gap is.
        self._before = np.ascontiguousarray(self.gaps["sample"])
        self._after = self._before + self._lost[1:]

    def _check_gaps(self) -> None:
        samples, missing = self.gaps["sample"], self.gaps["missing"]
        if np.any(samples < 0) or np.any(missing < 1):
            raise DataError(f"{self.path}: a gap in it has a negative place or no length")
        # Summed as float: whole numbers from a damaged file can run over.
        days = (self._count + float(np.sum(missing, dtype=np.float64))) / self.rate / 86400
        if days > LONGEST_DAYS:
            raise DataError(f"{self.path}: {days:.3g} days long by its own sizes, which cannot be")
        if np.any(np.diff(samples) < 0):
            raise DataError(f"{self.path}: its gaps are not in order of sample")
        late = int(np.count_nonzero(samples > self._count))
        if late:
            # A recorder that is killed between announcing a gap and storing what follows leaves this behind.
            self.gaps = self.gaps[:-late]
            self.notes.append(f"{late} gaps after the last sample were left out")

    # The facts

    @property
    def n_samples(self) -> int:
        """Samples received (stored)."""
        return self._count

    @property
    def n_total(self) -> int:
        """Samples from start to end, lost ones counted."""
        return self._count + int(self._lost[-1])

    @property
    def duration(self) -> float:
        """Length in seconds, gaps counted."""
        return self.n_total / self.rate

    @property
    def start(self) -> float:
        """POSIX seconds of sample 0; NaN where the recording has no start time."""
        return self.start_time.timestamp() if self.start_time else math.nan

    @property
    def effective_rate(self) -> float:
        """Samples per second by the clock that goes with the recording: `rate` where there is none."""
        return self.rate

    @property
    def clock(self) -> NDArray[np.void]:
        """Pairings of sample, device tick and wall clock (`CLOCK_DTYPE`); empty where there are none."""
        return np.empty(0, CLOCK_DTYPE)

    @property
    def annotations(self) -> NDArray[np.void]:
        """Remarks (`ANNOTATION_DTYPE`); empty where there are none."""
        return np.empty(0, ANNOTATION_DTYPE)

    def events(self) -> Events | None:
        """Return the event table that is stored along, or None."""
        return None

    def calibrate(self, calibration: Calibration | None) -> None:
        """Correct the samples by `calibration` from now on; None ends that.

        Corrected samples are no whole counts of one `scale`: it is None meanwhile.

        Raises
        ------
        DataError
            If the calibration was refused.
        """
        if calibration is not None and calibration.refusal:
            raise DataError(f"{self.path}: it cannot be calibrated: {calibration.refusal}")
        self.calibration = calibration
        self.scale, self.dtype = self._counts_of if calibration is None else (None, "float32")

    def __repr__(self) -> str:
        facts = f"{self.duration:.1f} s at {self.rate:g} Hz, {self.site}, {len(self.gaps)} gaps"
        return f"<{type(self).__name__} {self.path.name}: {facts}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what the recording is."""
        lost = int(self.gaps["missing"].sum()) / self.rate
        facts = {
            "length": f"{self.duration / 3600:.2f} h, {self.n_samples:,} samples at {self.rate:g} Hz",
            "start": self.start_time.isoformat(sep=" ", timespec="seconds") if self.start_time else "unknown",
            "site": self.site,
            "sensor": self.sensor or "unknown",
            "gaps": f"{len(self.gaps):,}, {lost:.1f} s in all" if len(self.gaps) else "none",
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in facts.items()
        )
        return f"<p><b>{type(self).__name__}</b> {escape(self.path.name)}</p><table>{rows}</table>"

    # Reading

    def __iter__(self) -> Iterator[Chunk]:
        return self.chunks()

    def chunks(self, block: int = 65536, start: float = 0.0, stop: float | None = None) -> Iterator[Chunk]:
        """Yield the samples from `start` to `stop`, at most `block` to a chunk and none across a gap.

        Missing samples are never filled in: they are counted in the `missing` of the chunk that follows.
        Where the window ends in missing samples, a last chunk without samples counts them. Memory does not
        grow with the length.

        Parameters
        ----------
        block : int
            Most samples in a chunk.
        start, stop : float
            Seconds from the start of the recording, gaps counted; `stop` is exclusive and the end by default.

        Raises
        ------
        DataError
            If damage has left nothing readable in the window.
        UsageError
            If the window or the block is not one.
        """
        first, last = self._window(start, stop)
        if block < 1:
            raise UsageError(f"block {block} is not a number of samples: use 1 or more")
        expected = first
        for index, xyz in self._walk(first, last, block):
            missing = index - expected
            reason = self._reason(index) if missing else ""
            yield Chunk(xyz, index, self.start + index / self.rate, missing, reason)
            expected = index + len(xyz)
        damage = [at for at in self.damage if at.sample < last and at.sample + at.missing > first]
        if expected == first and damage and last > first:
            raise DataError(f"{self.path}: nothing in it can be read: {damage[0].reason}")
        if expected < last:
            nothing = np.empty((0, 3), np.float32)
            time = self.start + last / self.rate
            yield Chunk(nothing, last, time, last - expected, self._reason(last))

    def read(self, start: float = 0.0, stop: float | None = None) -> NDArray[np.float32]:
        """Return the samples from `start` to `stop` seconds, with a row of NaN for each one that is missing.

        Returns
        -------
        ndarray of float32, shape (n, 3)
            Acceleration in g. Row k is sample ``ceil(start * rate) + k``.

        Raises
        ------
        UsageError
            If the window is not one.
        """
        first, last = self._window(start, stop)
        out = np.full((last - first, 3), np.nan, np.float32)
        for index, xyz in self._walk(first, last, 65536):
            out[index - first : index - first + len(xyz)] = xyz
        return out

    def waveform(
        self, start: float = 0.0, stop: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what a plot needs: seconds from the start of the recording, (n,), and `read`'s rows."""
        first, last = self._window(start, stop)
        return np.arange(first, last) / self.rate, self.read(start, stop)

    def _window(self, start: float, stop: float | None) -> tuple[int, int]:
        """Return the numbers of the first sample at or after `start`, and of the first at or after `stop`."""
        stop = self.duration if stop is None else stop
        if not (math.isfinite(start) and stop >= start):
            raise UsageError(f"window from {start} to {stop} s is not one: use 0 <= start <= stop")
        # 0.29 s at 100 Hz is 28.999999999999996 samples: a millionth of a sample is rounding, not time.
        first, last = (math.ceil(min(max(at, 0.0), self.duration) * self.rate - 1e-6) for at in (start, stop))
        return first, min(last, self.n_total)

    def _reason(self, number: int) -> str:
        """Return why samples are missing just before sample `number`."""
        at = int(np.searchsorted(self._after, number))
        found = at < len(self._after) and self._after[at] == number
        return str(self.gaps["reason"][at]) if found else UNREADABLE

    def _row(self, number: int) -> int:
        """Return the first stored row whose sample number is `number` or more."""
        past = int(np.searchsorted(self._after, number, side="right"))
        row = number - int(self._lost[past])
        return min(row, int(self._before[past])) if past < len(self.gaps) else row

    def _number(self, row: int) -> int:
        """Return the sample number of a stored row."""
        return row + int(self._lost[np.searchsorted(self._before, row, side="right")])

    def _walk(self, first: int, last: int, block: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (sample number, samples) for every unbroken stretch of at most `block` readable samples."""
        for row, xyz in self._blocks(self._row(first), self._row(last), block):
            begin, end = np.searchsorted(self._before, (row + 1, row + len(xyz))).tolist()
            if begin == end:
                yield row + int(self._lost[begin]), xyz
                continue
            lows = np.unique([row, *self._before[begin:end]])
            numbers = lows + self._lost[np.searchsorted(self._before, lows, side="right")]
            for low, high, number in zip(
                (lows - row).tolist(), [*(lows[1:] - row).tolist(), len(xyz)], numbers.tolist(), strict=True
            ):
                yield number, xyz[low:high]

    def _blocks(self, begin: int, end: int, block: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (row, samples) for what can be read of the rows `begin` to `end`, at most `block` at a time."""
        for low, high in self._present(begin, end):
            for at in range(low, high, block):
                for row, xyz in self._sound(at, min(at + block, high)):
                    yield row, xyz if self.calibration is None else self.calibration.apply(xyz)

    def _present(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the stretches of rows between `begin` and `end` that were ever written."""
        if begin < end:
            yield begin, end

    def _sound(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (row, samples) for what can be read of the rows `begin` to `end`."""
        yield begin, self._load(begin, end)

    def _load(self, begin: int, end: int) -> NDArray[np.float32]:
        """Return the stored rows `begin` to `end` in g, as a fresh array or one that nobody writes to."""
        # The one thing that a format must say for itself.
        raise NotImplementedError(f"{type(self).__name__} does not load its samples")

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryRecording(BaseRecording):
    """A recording whose samples are held in memory, as those of a text file are.

    Parameters
    ----------
    path : path-like
        The file.
    xyz : ndarray of float32, shape (n, 3)
        The samples in g.
    **facts
        Those of `BaseRecording`.
    """

    def __init__(self, path: str | os.PathLike[str], xyz: NDArray[np.float32], **facts: Any) -> None:
        self._xyz = xyz
        super().__init__(path, n_samples=len(xyz), **facts)

    def _load(self, begin: int, end: int) -> NDArray[np.float32]:
        return self._xyz[begin:end].copy()


class Format(NamedTuple):
    """A file format that can be read.

    Attributes
    ----------
    name : str
        What it is called in messages.
    suffixes : tuple of str
        Endings that such files have, with the dot.
    matches : callable
        From the path and the first bytes of a file, tell whether it is one.
    open : callable
        From the path and options, return the recording.
    options : frozenset of str
        Names of the options that `open` takes.
    folders : bool
        Whether a folder can be one: `matches` is then asked with no bytes.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[Path, bytes], bool]
    open: Callable[..., BaseRecording]
    options: frozenset[str]
    folders: bool = False
