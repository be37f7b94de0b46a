"""How a sensor and its logger fail: lost, stuck, held and saturated samples, spikes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.errors import UsageError
from hypnic.simulate.truth import TRUTH_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.population import Draws

    Array = NDArray[np.float64]

__all__ = ["IDLE_WAKES", "FaultPlan", "Faults", "Glitch"]

IDLE_WAKES: Final = 0.04
"""Dynamic acceleration (g) that ends an idle hold (M)."""
_IDLE_AFTER: Final = 10.0
"""Seconds of stillness after which a logger with an idle mode holds its samples."""
_LONG_GAPS: Final = 1 / 30
"""Part of the gaps that are long."""
_BEYOND: Final = 1000.0
"""An acceleration (g) that pins any sensor to the end of its range."""


@dataclass(frozen=True)
class Faults:
    """How often a sensor and its logger fail.

    Attributes
    ----------
    gap_rate : float
        Gaps per hour, each 0.1 to 60 s; one in thirty lasts 2 to 30 min.
    drops : float
        Part of the samples lost one by one.
    stuck_rate : float
        Times per hour that the samples stay constant for 1 to 120 s.
    saturation_rate : float
        Bursts per hour at the end of the range, 0.02 to 0.4 s.
    spike_rate : float
        Spikes per hour, of one or two samples.
    idle_hold : bool
        The logger holds its samples after 10 s of stillness until the next movement above 40 mg.

    Raises
    ------
    UsageError
        If a rate is negative or infinite, or `drops` is not from 0 to 0.5.
    """

    gap_rate: float = 0.0
    drops: float = 0.0
    stuck_rate: float = 0.0
    saturation_rate: float = 0.0
    spike_rate: float = 0.0
    idle_hold: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{field.name} {value!r} is not a rate: use 0 or more")
        if self.drops > 0.5:
            raise UsageError(f"drops {self.drops:g} is more than half of the samples: use 0 to 0.5")

    @classmethod
    def drawn(cls, draws: Draws, idles: bool) -> Faults:
        """Draw the faults of one night, each there or not; `idles` is for a logger known to idle."""
        return cls(
            gap_rate=draws("fault.gap_rate") if draws.chance(0.5) else 0.0,
            drops=draws("fault.drops") if draws.chance(0.3) else 0.0,
            stuck_rate=draws("fault.stuck_rate") if draws.chance(0.25) else 0.0,
            saturation_rate=draws("fault.saturation_rate") if draws.chance(0.2) else 0.0,
            spike_rate=draws("fault.spike_rate") if draws.chance(0.4) else 0.0,
            idle_hold=draws.chance(0.5 if idles else 0.03),
        )


class Glitch(NamedTuple):
    """Some samples of one axis with an acceleration that nothing felt."""

    first: int
    length: int
    axis: int
    height: float


class FaultPlan:
    """Where a night's faults are.

    Parameters
    ----------
    draws : Draws
        Randomness.
    faults : Faults
        How often.
    samples : int
        Length of the night.
    rate : float
        Nominal samples per second.
    moves : ndarray of float64, shape (n, 2)
        Start and end (s) of the movements that end an idle hold, in order.

    Attributes
    ----------
    gaps, stuck, holds : list of (int, int)
        First sample and first sample after it, in order.
    exits : list of int
        Samples at which an idle hold ends without a movement.
    spikes, saturations : list of Glitch
        In order.
    """

    def __init__(self, draws: Draws, faults: Faults, samples: int, rate: float, moves: Array) -> None:
        self._draws, self._samples, self._rate = draws, samples, rate
        self._drops = faults.drops
        self.gaps = self._spans(faults.gap_rate, "fault.gap", rare="fault.long_gap")
        self.stuck = self._spans(faults.stuck_rate, "fault.stuck", "fault.stuck")
        self.spikes = [
            self._glitch(first, draws.between(1, 2), draws("fault.spike"))
            for first in self._times(faults.spike_rate)
        ]
        self.saturations = [
            self._glitch(first, max(round(draws("fault.saturation") * rate), 1), _BEYOND)
            for first in self._times(faults.saturation_rate)
        ]
        self.holds: list[tuple[int, int]] = []
        self.exits: list[int] = []
        if faults.idle_hold:
            self._idle(moves)
        self._constant = sorted(self.stuck + self.holds)

    def _times(self, per_hour: float) -> list[int]:
        """Return random sample numbers, in order."""
        rng = self._draws.rng
        count = rng.poisson(per_hour * self._samples / self._rate / 3600)
        return sorted(int(sample) for sample in rng.integers(0, self._samples, count))

    def _spans(self, per_hour: float, usual: str, rare: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for first in self._times(per_hour):
            seconds = self._draws(rare if self._draws.chance(_LONG_GAPS) else usual)
            if not spans or first > spans[-1][1] + self._rate:
                spans.append((first, min(first + max(round(seconds * self._rate), 1), self._samples)))
        return spans

    def _glitch(self, first: int, length: int, height: float) -> Glitch:
        sign = 1 if self._draws.chance(0.5) else -1
        return Glitch(first, length, self._draws.between(0, 2), sign * height)

    def _idle(self, moves: Array) -> None:
        """Hold the samples between movements, now and then left for nothing."""
        rng, rate, pause = self._draws.rng, self._rate, round(_IDLE_AFTER * self._rate)
        still = 0
        for start, stop in [*(moves * rate).tolist(), (self._samples, self._samples)]:
            # The logger notices a movement within some tenths of a second.
            wake = min(int(start + rng.integers(0, 3) * rate / 10), self._samples)
            first = still + pause
            while first < wake:
                last = first + max(round(rng.exponential(self._draws("fault.hold_exit")) * rate), 1)
                self.holds.append((first, min(last, wake)))
                if last < wake:
                    self.exits.append(last)
                first = last + pause
            still = max(still, int(stop))

    def shake(self, rows: Array, first: int) -> None:
        """Add spikes and saturation to the block `rows` in place, whose first sample is number `first`."""
        for glitch in (*self.spikes, *self.saturations):
            start, stop = glitch.first - first, glitch.first + glitch.length - first
            rows[max(start, 0) : max(stop, 0), glitch.axis] += glitch.height

    def hold(self, rows: Array, first: int, held: Array) -> Array:
        """Repeat samples of the block `rows` in place and return the one that is held at its end.

        `held` is the one held when it began.
        """
        for start, stop in self._constant:
            a, b = max(start - first, 0), min(stop - first, len(rows))
            if a < b:
                held = rows[a].copy() if start >= first else held
                rows[a:b] = held
        return held

    def arrived(self, rng: np.random.Generator, first: int, n: int) -> NDArray[np.bool_]:
        """Return which of the `n` samples from number `first` arrive."""
        return (rng.random(n) >= self._drops) & self.outside_gaps(first, n)

    def outside_gaps(self, first: int, n: int) -> NDArray[np.bool_]:
        """Return which of the `n` samples from number `first` are in no gap."""
        outside = np.ones(n, bool)
        for start, stop in self.gaps:
            outside[max(start - first, 0) : max(stop - first, 0)] = False
        return outside

    def spans(self) -> list[tuple[float, float, str]]:
        """Return onset, duration (s) and label of every gap, stuck and held span, by onset."""
        named = (("gap", self.gaps), ("stuck", self.stuck), ("idle_hold", self.holds))
        return sorted(
            (start / self._rate, (stop - start) / self._rate, f"fault:{name}")
            for name, spans in named
            for start, stop in spans
        )

    def truth(self, range_g: float) -> NDArray[np.void]:
        """Return the faults that could look like an event: spikes, saturation, ends of constant spans."""
        rows = [(g.first, g.length, "spike", abs(g.height)) for g in self.spikes]
        rows += [(g.first, g.length, "saturation", range_g) for g in self.saturations]
        rows += [(sample, 1, "hold_exit", math.nan) for sample in self.exits]
        rows += [(stop, 1, "stuck_exit", math.nan) for _, stop in self.stuck if stop < self._samples]
        table = np.zeros(len(rows), TRUTH_DTYPE)
        for row, (first, length, kind, peak) in zip(table, rows, strict=True):
            row["onset"], row["duration"], row["label"] = (
                first / self._rate,
                length / self._rate,
                "sensor_artifact",
            )
            row["kind"], row["peak_g"], row["group"] = kind, peak, -1
        return table

    def visible(self, onset: Array, duration: Array) -> Array:
        """Return the part of each span (s) whose samples are neither in a gap nor constant."""
        start = onset * self._rate
        stop = start + np.maximum(duration * self._rate, 1.0)
        hidden = np.zeros(len(start))
        for first, last in self.gaps + self._constant:
            hidden += np.clip(np.minimum(stop, last) - np.maximum(start, first), 0.0, None)
        return np.clip(1.0 - hidden / (stop - start), 0.0, 1.0)
