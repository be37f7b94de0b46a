"""What a recording is like, and what looks wrong with it, before anything is detected in it."""

from __future__ import annotations

import math
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
        # It loads the compiler, which whoever only imports this does without.
        from hypnic.tally import Tally

        self.rate = recording.rate
        self.site = recording.site
        self.lost: list[tuple[float, float]] = []
        self._recording = recording
        window, flat_run = (
            max(2, round(seconds * recording.rate)) for seconds in (WINDOW_SECONDS, FLAT_SECONDS)
        )
        limit = _limit(recording)
        self._tally = Tally(window, flat_run, math.inf if limit is None else limit)

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._recording:
            if chunk.missing:
                self._tally.end_stretch()
                self.lost.append(((chunk.index - chunk.missing) / self.rate, chunk.index / self.rate))
            self._tally.add(chunk.xyz)
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def facts(self) -> dict[str, Any]:
        """Return what `describe` returns, once the recording has been read to its end."""
        recording = self._recording
        self._tally.end_stretch()
        noise, seen = _noise_floor(self._tally.noise()), self._tally.figures()
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
            "low": [_plain(value) for value in seen.low],
            "high": [_plain(value) for value in seen.high],
            "noise": [_plain(value) for value in noise],
            "range_g": recording.range_g,
            "step_g": _plain(seen.step),
            "mean_norm": _plain(seen.norm / seen.finite) if seen.finite else None,
            "clipped": seen.clipped if _limit(recording) is not None else None,
            "invalid": seen.invalid,
            "flat_s": seen.flat / rate,
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


def _noise_floor(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise floor (g) of each axis from the noise of windows, (n, 3)."""
    # A stuck sensor is not a quiet one.
    moving = windows[np.isfinite(windows).all(axis=1) & (windows > 0).any(axis=1)]
    return np.percentile(moving, CALM_PERCENTILE, axis=0) if len(moving) else np.full(3, np.nan)


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
