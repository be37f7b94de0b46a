"""What a recording is like, and what looks wrong with it, before anything is detected in it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from hypnic.chunk import Chunk
    from hypnic.readers.base import BaseRecording

__all__ = ["Described", "describe"]

WINDOW_SECONDS: Final = 10.0
"""Windows whose noise is compared (s)."""

PIECE: Final = 8192
"""Samples, as whole windows, that are looked at in one go: what is made of them stays near the processor."""

CALM_PERCENTILE: Final = 5.0
"""Percentile of the windows that is taken for the noise floor: the calmest, but for the odd one."""

FLAT_SECONDS: Final = 5.0
"""Run of identical samples (s) that no living wearer produces: a stuck sensor, or a logger's idle mode."""

COARSE_STEP: Final = 0.010
"""Step (g) from which on small jerks fall between two values."""

LOW_RATE: Final = 50.0
"""Rate (Hz) below which taps cannot be told from jerks by what they hold above 20 Hz."""

NORM_ERROR: Final = 0.15
"""How far (g) the mean size of the samples may be from gravity."""

LOST_PART: Final = 0.01
"""Part of the samples that may be missing without a word."""

GAPS_PER_HOUR: Final = 10.0
"""Gaps that may be there without a word."""

RATE_ERROR: Final = 0.01
"""Part by which the rate may differ from that of the clock."""


class _Tally:
    """Running figures, the same however the samples are cut into chunks; memory grows by four numbers for each window.

    Every window is taken in whole, the windows of each unbroken stretch from its begin.
    """

    def __init__(self, rate: float, limit: float | None) -> None:
        self._window = max(2, round(WINDOW_SECONDS * rate))
        self._piece = self._window * max(1, PIECE // self._window)
        self._flat_run = max(2, round(FLAT_SECONDS * rate))
        self._limit = limit
        self._tail = np.empty((0, 3), np.float32)
        self._last = np.full(3, np.nan)
        self._run = 1
        self._noise: list[NDArray[np.float64]] = []
        self._short: list[NDArray[np.float64]] = []
        self._norms: list[NDArray[np.float64]] = []
        self.low, self.high = np.full(3, np.inf), np.full(3, -np.inf)
        self.clipped = self.invalid = self.finite = self.flat = 0
        self.step = np.inf

    def add(self, xyz: NDArray[np.float32], missing: int) -> None:
        if missing:
            self.close()
        joined = np.concatenate([self._tail, xyz]) if len(self._tail) else xyz
        whole = len(joined) - len(joined) % self._window
        for begin in range(0, whole, self._piece):
            windows = joined[begin : min(begin + self._piece, whole)]
            self._noise.append(self._take(windows, self._window))
        self._tail = joined[whole:].copy()

    def close(self) -> None:
        """End the stretch: what is left of it is a window too, if a short one."""
        if len(self._tail):
            self._short.append(self._take(self._tail, len(self._tail)))
        self._count_flat(np.zeros(1, bool))
        self._tail = self._tail[:0]
        self._last = np.full(3, np.nan)

    def _take(self, xyz: NDArray[np.float32], window: int) -> NDArray[np.float64]:
        """Take in whole windows and return their noise, (3, n)."""
        # One axis after another, as numpy sums and compares several times faster.
        axes = np.ascontiguousarray(xyz.T, dtype=np.float64)
        low, high = axes.min(axis=1), axes.max(axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            if len(xyz) > window:
                each = [self._take(xyz[k : k + window], window) for k in range(0, len(xyz), window)]
                return np.concatenate(each, axis=1)
            sound = axes[:, np.isfinite(axes).all(axis=0)]
            low, high = sound.min(axis=1, initial=np.inf), sound.max(axis=1, initial=-np.inf)
        else:
            sound = axes
        count = sound.shape[1]
        self.invalid += len(xyz) - count
        self.finite += count
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        if self._limit is not None and max(-low.min(), high.max()) >= self._limit:
            self.clipped += int(np.count_nonzero((np.abs(sound) >= self._limit).any(axis=0)))
        norms = np.sqrt(np.einsum("an,an->n", sound, sound))
        self._norms.append(
            norms.reshape(-1, window).sum(axis=1) if sound is axes else norms.sum(keepdims=True)
        )

        steps = np.empty_like(axes)
        # A step to or from an invalid sample, or over a gap, is NaN or infinite, and so is none.
        with np.errstate(invalid="ignore"):
            np.subtract(axes[:, 0], self._last, out=steps[:, 0])
            np.subtract(axes[:, 1:], axes[:, :-1], out=steps[:, 1:])
            noise = _noise(axes.reshape(3, -1, window), steps.reshape(3, -1, window)[:, :, 1:])
        self._last = axes[:, -1].copy()
        still = steps == 0
        self._count_flat(still.all(axis=0))
        np.copyto(steps, np.inf, where=still)
        np.abs(steps, out=steps)
        self.step = float(np.fmin.reduce(steps, axis=None, initial=self.step))
        return noise

    def _count_flat(self, same: NDArray[np.bool]) -> None:
        """Count the samples in runs of identical ones; a run goes on over the edge of a piece."""
        # Where runs begin and end: there are few, and a place for each sample would take longer than all the rest.
        turns = np.flatnonzero(same[1:] != same[:-1]) + 1
        edges = [0, *turns.tolist(), len(same)]
        for begin, end in pairwise(edges):
            if same[begin]:
                self._run += end - begin
            else:
                self.flat += self._run if self._run >= self._flat_run else 0
                self._run = 1

    def noise(self) -> NDArray[np.float64]:
        """Return the noise floor of each axis (g); short windows count where there are no others."""
        windows = np.concatenate(self._noise or self._short or [np.empty((3, 0))], axis=1)
        # A stuck sensor is not a quiet one.
        moving = windows[:, np.isfinite(windows).all(axis=0) & (windows > 0).any(axis=0)]
        return np.percentile(moving, CALM_PERCENTILE, axis=1) if moving.size else np.full(3, np.nan)

    def mean_norm(self) -> float:
        """Return the mean size (g) of the finite samples; NaN where there are none."""
        return float(np.concatenate(self._norms).sum()) / self.finite if self.finite else np.nan


def _noise(windows: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation (g) of white noise in windows (3, k, n): that of their n - 1 steps over √2."""
    count = steps.shape[2]
    if not count:
        return np.full(windows.shape[:2], np.nan)
    mean = (windows[:, :, -1] - windows[:, :, 0]) / count
    variance = np.einsum("akn,akn->ak", steps, steps) / count - mean * mean
    deviation: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0.0) / 2.0)
    return deviation


class Described:
    """A recording that is described while somebody else reads it: a source for a detector, in one pass over the file.

    Parameters
    ----------
    recording : BaseRecording
        What `hypnic.open` returns; it stays the caller's to close.

    Attributes
    ----------
    rate, site
        The recording's.
    lost : list of (start, end)
        Spans (s) that are missing or cannot be read, as far as it has been read.
    """

    def __init__(self, recording: BaseRecording) -> None:
        self.rate = recording.rate
        self.site = recording.site
        self.lost: list[tuple[float, float]] = []
        self._recording = recording
        self._tally = _Tally(recording.rate, _limit(recording))

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._recording:
            self._tally.add(chunk.xyz, chunk.missing)
            if chunk.missing:
                self.lost.append(((chunk.index - chunk.missing) / self.rate, chunk.index / self.rate))
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def facts(self) -> dict[str, Any]:
        """Return what `describe` returns, once the recording has been read to its end."""
        recording, tally = self._recording, self._tally
        tally.close()
        noise = tally.noise()
        rate, gaps = recording.rate, recording.gaps["missing"]
        damage = np.array([found.missing for found in recording.damage], dtype=np.int64)
        facts: dict[str, Any] = {
            "path": str(recording.path),
            "rate": rate,
            "effective_rate": recording.effective_rate,
            "duration": recording.duration,
            "start": recording.start_time.isoformat() if recording.start_time else None,
            "site": recording.site,
            "sensor": recording.sensor,
            "samples": recording.n_samples,
            "gaps": _lost(gaps, rate),
            "damage": _lost(damage, rate),
            "low": [_plain(value) for value in tally.low],
            "high": [_plain(value) for value in tally.high],
            "noise": [_plain(value) for value in noise],
            "range_g": recording.range_g,
            "step_g": _plain(tally.step),
            "mean_norm": _plain(tally.mean_norm()),
            "clipped": tally.clipped if _limit(recording) is not None else None,
            "invalid": tally.invalid,
            "flat_s": tally.flat / rate,
            "notes": list(recording.notes),
        }
        facts["warnings"] = _warnings(facts, recording)
        return facts


def describe(recording: BaseRecording) -> dict[str, Any]:
    """Return the facts about a recording, in one pass over it and in memory that hardly grows with it.

    Parameters
    ----------
    recording : BaseRecording
        What `hypnic.open` returns.

    Returns
    -------
    dict
        ``path``, ``rate`` and ``effective_rate`` (Hz), ``duration`` (s), ``start`` (ISO 8601 or None),
        ``site``, ``sensor``, ``samples``; ``gaps`` and ``damage`` (count, seconds, longest_s); ``low``,
        ``high`` and ``noise`` (g, of x, y, z); ``range_g``; ``step_g`` (smallest difference between two
        samples); ``mean_norm`` (g); ``clipped`` (samples at the end of the range; None where that is not
        known); ``invalid`` (samples that are not finite); ``flat_s`` (seconds within runs of 5 s and more of
        identical samples); ``notes`` (what was assumed on reading) and ``warnings`` (what looks wrong), as
        sentences. Figures that cannot be told are None.

        The noise is the standard deviation of white noise with the same sample-to-sample steps, in the
        calmest twentieth of 10 s windows.

    Raises
    ------
    DataError
        If nothing in the recording can be read.
    """
    seen = Described(recording)
    for _ in seen:
        pass
    return seen.facts()


def _limit(recording: BaseRecording) -> float | None:
    """Return the size (g) from which on a sample is at the end of the range, or None where none is known."""
    if recording.range_g is None:
        return None
    # The highest count is one step short of the range, and a step may be a 512th of it.
    return min(recording.range_g * (1 - 1 / 512), recording.range_g - 1.01 * (recording.scale or 0.0))


def _lost(missing: NDArray[np.int64], rate: float) -> dict[str, Any]:
    return {
        "count": len(missing),
        "seconds": float(missing.sum() / rate),
        "longest_s": float(missing.max(initial=0) / rate),
    }


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _warnings(facts: dict[str, Any], recording: BaseRecording) -> list[str]:
    """Return what looks wrong, in sentences."""
    said: list[str] = []
    gaps, damage, duration = facts["gaps"], facts["damage"], facts["duration"]
    if recording.unfinished:
        said.append("The recorder has not closed the file: it is at work still, or was cut off.")
    if damage["count"]:
        reason = recording.damage[0].reason
        places = "one place" if damage["count"] == 1 else f"{damage['count']} places"
        said.append(f"{damage['seconds']:.1f} s in {places} cannot be read and count as missing ({reason}).")
    if facts["rate"] < LOW_RATE:
        said.append(f"The rate of {facts['rate']:.4g} Hz is low: below {LOW_RATE:g} Hz taps look like jerks.")
    if abs(facts["effective_rate"] / facts["rate"] - 1) > RATE_ERROR:
        said.append(f"By the clock the rate is {facts['effective_rate']:.5g} Hz, not {facts['rate']:.5g} Hz.")
    if facts["mean_norm"] is not None and abs(facts["mean_norm"] - 1) > NORM_ERROR:
        said.append(
            f"The samples are {facts['mean_norm']:.3g} g in size on average, where gravity is 1 g: "
            "unit or scale may be wrong."
        )
    if facts["step_g"] is not None and facts["step_g"] >= 0.999 * COARSE_STEP:
        said.append(
            f"The steps of {facts['step_g'] * 1000:.3g} mg are coarse: small jerks fall between them."
        )
    if facts["clipped"]:
        said.append(f"{facts['clipped']} samples are at the end of the range of {facts['range_g']:g} g.")
    if facts["invalid"]:
        said.append(f"{facts['invalid']} samples are not numbers.")
    if facts["flat_s"]:
        said.append(
            f"{facts['flat_s']:.1f} s do not change at all: the sensor was stuck, or its logger idle "
            "(the end of which can look like a jerk)."
        )
    if gaps["seconds"] > LOST_PART * duration or gaps["count"] > GAPS_PER_HOUR * max(1.0, duration / 3600):
        said.append(
            f"One gap makes {gaps['seconds']:.1f} s of {duration:.0f} s."
            if gaps["count"] == 1
            else f"{gaps['count']} gaps make {gaps['seconds']:.1f} s of {duration:.0f} s, "
            f"the longest {gaps['longest_s']:.1f} s."
        )
    if facts["start"] is None:
        said.append("There is no start time: events cannot be given a time of day.")
    return said
