"""What a second sensor says of an event: seen first or stronger there, it is no jerk of the sleeper's.

A reference on the bed (its frame, the mattress at the partner's side) feels knocks, doors and a partner before the
sensor does, and more of them; of the sleeper it feels less, and later. A reference on another limb feels that
limb's own movements more, but a jerk of the whole body may begin anywhere: there only strength counts, and more of
it. Only two sensors that one clock samples can be compared: "first" is a matter of milliseconds.

Both signals go through the band of the detector and their energies, smoothed alike, into a ring as long as the
longest event. When an event's first row comes out, the ring's part of it up to that sample decides, so that the
answer depends on nothing that came after; later rows of the event keep to it. Unknown samples are never filled in,
and where too many are, nothing is decided.

The thresholds were chosen on simulated tuning nights (S; 16 of 6 h for each placement, 25 to 200 Hz). On the bed
no jerk was lost to them there or on held-out nights, on an ankle 3 of 319 there and 5 of 155 held out
(`benchmarks/reference.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic import compare
from hypnic import layout as at
from hypnic.chunk import ArraySource, Chunk, Source, as_xyz
from hypnic.errors import DataError, UsageError
from hypnic.events import JERKS, LABELS
from hypnic.filters import highpass, lowpass, pole

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hypnic.settings import Settings

__all__ = ["Aligned", "Comparison", "check_reference", "paired"]

SMOOTH_S: Final = 0.03
"""Time constant of each of two poles that smooth the energies, in s: short enough to tell which came first (S)."""
BEFORE_S: Final = 0.3
"""Time before an event's onset that is compared too, in s: the reference may have begun (S)."""
QUIET_S: Final = (4.0, 0.5)
"""Start and end of what is taken for the background, in s before the onset; its middle value counts (S)."""
QUIET_LEAST_S: Final = 0.5
"""Least background that must be known, in s (S)."""
KNOWN: Final = 0.5
"""Least part of an event that the reference must know."""
SEEN: Final = 2.0
"""Energy (ln) over its background from which the reference has seen an event (S)."""
AS_STRONG: Final = {"bed": 1.0, "limb": 2.0}
"""Peak amplitude at the reference over that at the sensor from which it is stronger there (S)."""
SEEN_WELL: Final = 3.5
"""The same as `SEEN` where the time is compared (S)."""
FIRST_LEAST: Final = 0.22
"""Least ratio of the amplitudes where the time is compared (S)."""
FIRST_S: Final = (0.005, 0.11)
"""Least and most time by which what is seen first comes first, in s: beyond it is another event (S)."""
SEARCH_S: Final = 0.12
"""Farthest shift at which the two courses are compared, in s."""
COMPARED_S: Final = 8.0
"""Part of a long event whose course is compared, in s."""
ODDS: Final = 0.03
"""Factor of the odds of a jerk where the reference speaks against it (S)."""
MOST_SCORE: Final = 0.5
"""Most that is left of the score, as a part of the least score of a jerk."""

SLICE_S: Final = 2.0
"""Samples are taken in pieces of at most this length, in s, so that the ring still holds what a row needs."""
VERDICTS: Final = 4 * at.SERIES_ROWS
"""Events whose verdict is kept: more than can still get another row."""

_MOVEMENT, _IMPACT = LABELS.index("movement"), LABELS.index("impact")
_JERKS: Final = tuple(LABELS.index(label) for label in JERKS)


def check_reference(reference: bool | str, site: str) -> str:
    """Return what kind of place the reference is at: ``"bed"``, which True means too, or ``"limb"``.

    Raises
    ------
    UsageError
        If it is another word, or a limb is to be compared with a mattress.
    """
    if reference is True:
        return "bed"
    if not isinstance(reference, str) or reference not in AS_STRONG:
        raise UsageError(f"reference {reference!r} is unknown: use True, bed or limb")
    if reference == "limb" and site == "mattress":
        raise UsageError(
            "a limb is no reference for a mattress: it feels more of whatever moves; use one on the bed"
        )
    return reference


class Comparison:
    """Compares what two sensors feel, event by event.

    Parameters
    ----------
    rate : float
        Sampling rate in Hz, of both.
    settings : Settings
        The detector's: its band, its losses, its impacts.
    place : {"bed", "limb"}
        Where the reference is.
    """

    def __init__(self, rate: float, settings: Settings, place: str) -> None:
        s = self._settings = settings
        self.place = place
        self.slice = max(1, round(SLICE_S * rate))
        seconds = s.max_event + s.lookback + s.hang + QUIET_S[0] + SLICE_S + 1.0
        self._floats = np.zeros(compare.RING + compare.LANES * math.ceil(seconds * rate))
        self._integers = np.zeros(compare.VERDICT + 2 * VERDICTS, np.int64)
        self.reset()
        high = min(s.band_high, 0.4 * rate)
        self._filters = np.array(
            [*highpass(s.band_low, rate), *lowpass(high, rate), pole(SMOOTH_S, rate), s.max_g]
        )
        # As the kernel counts both.
        self._limits = np.array([max(1, round(s.bridge * rate)), round(s.blank * rate)])
        self._times = rate * np.array([BEFORE_S, *QUIET_S, QUIET_LEAST_S, SEARCH_S, COMPARED_S, *FIRST_S])
        self._bounds = np.array(
            [
                KNOWN,
                math.exp(SEEN),
                AS_STRONG[place] ** 2,
                math.exp(SEEN_WELL),
                # On a limb the time says nothing.
                FIRST_LEAST**2 if place == "bed" else math.inf,
            ]
        )

    def reset(self) -> None:
        """Forget everything."""
        self._floats[:] = 0.0
        self._integers[:] = 0
        self._integers[compare.VERDICT :: 2] = -1

    def take(self, xyz: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
        """Take in the next samples of both sensors, at most `slice` of them, shape (n, 3) in g."""
        compare.take(self._floats, self._integers, self._filters, self._limits, xyz, reference)

    def gap(self, missing: int) -> None:
        """Say that both sensors lost `missing` samples before the next one."""
        self._integers[compare.NEXT] += missing
        self._integers[compare.LOST : compare.LOST + 2] += missing

    def restart(self) -> None:
        """Begin anew with the filters, as after a loss."""
        self._integers[compare.STARTED : compare.STARTED + 2] = 0

    def correct(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Set label and score of the kernel's rows to what the reference leaves of them, in place."""
        s = self._settings
        for row in rows:
            event = int(row[at.R_ID])
            slot = compare.VERDICT + 2 * (event % VERDICTS)
            if row[at.R_REVISION] == 0:
                self._integers[slot] = event
                self._integers[slot + 1] = compare.verdict(
                    self._floats,
                    self._integers,
                    self._times,
                    self._bounds,
                    row[at.R_ONSET],
                    min(row[at.R_END], row[at.R_EMITTED]),
                )
            if self._integers[slot] != event or self._integers[slot + 1] == compare.NOTHING:
                continue
            # What another limb feels is the sleeper's own: a PLM or a turn stays one.
            if self.place == "bed" or row[at.R_LABEL] in _JERKS:
                short = row[at.R_T90] < s.impact_t90 or row[at.R_HF] > s.impact_hf
                row[at.R_LABEL] = _IMPACT if short else _MOVEMENT
            score = row[at.R_SCORE]
            row[at.R_SCORE] = min(ODDS * score / (1.0 - score + ODDS * score), MOST_SCORE * s.jerk_score)
        return rows

    def state(self) -> bytes:
        """Return everything that goes on, for `restore`."""
        return (
            bytes([compare.LAYOUT_VERSION])
            + self._floats.astype("<f8").tobytes()
            + self._integers.astype("<i8").tobytes()
        )

    def restore(self, state: bytes) -> None:
        """Go on from what `state` returned.

        Raises
        ------
        DataError
            If it comes from another layout.
        """
        if state[:1] != bytes([compare.LAYOUT_VERSION]):
            raise DataError(
                "the saved state of the reference has another layout than this version of hypnic: start the "
                "detector anew"
            )
        split = 1 + self._floats.nbytes
        self._floats[:] = np.frombuffer(state[1:split], "<f8")
        self._integers[:] = np.frombuffer(state[split:], "<i8")


class Aligned:
    """The samples of a reference beside those of a recording, by start time where both have one.

    Supported are two recordings of one rate that one clock samples, such as two sensors of one board. Sample k of
    the one goes with sample k of the other, or, where both know when they started, with the one that is nearest
    in time at the start. Clocks of their own drift apart by seconds in a night, which no alignment here mends.

    Parameters
    ----------
    reference : Source or array_like, shape (n, 3)
        The reference; an array is taken for one on the bed.
    rate : float
        Sampling rate of the recording in Hz.

    Attributes
    ----------
    place : {"bed", "limb"}
        Where the reference is: on a limb where its site is the wrist.
    overlap : int
        Samples of it that were beside the recording so far.

    Raises
    ------
    UsageError
        If the rates differ.
    """

    def __init__(self, reference: Source | ArrayLike, rate: float) -> None:
        if not isinstance(reference, Source):
            reference = ArraySource(reference, rate, "mattress")
        if not math.isclose(reference.rate, rate, rel_tol=1e-9):
            raise UsageError(
                f"the reference has {reference.rate:g} Hz, the recording {rate:g} Hz: both must have one rate "
                "and one clock"
            )
        self.place = "limb" if reference.site == "wrist" else "bed"
        self.overlap = 0
        self._rate = rate
        self._chunks: Iterator[Chunk] = iter(reference)
        self._now: Chunk | None = None
        self._shift: int | None = None

    def beside(self, chunk: Chunk) -> NDArray[np.float32]:
        """Return the reference's samples beside a chunk, shape (n, 3), NaN where it has none; chunks in order."""
        out = np.full((len(chunk), 3), np.nan, np.float32)
        if self._shift is None:
            self._now = next(self._chunks, None)
            self._shift = 0 if self._now is None else self._offset(chunk, self._now)
        while self._now is not None:
            start = self._now.index + self._shift - chunk.index
            stop = start + len(self._now)
            a, b = max(start, 0), min(stop, len(chunk))
            if a < b:
                out[a:b] = self._now.xyz[a - start : b - start]
                self.overlap += b - a
            if stop >= len(chunk):
                break
            self._now = next(self._chunks, None)
        return out

    def _offset(self, chunk: Chunk, other: Chunk) -> int:
        """Return what is added to the reference's sample numbers."""
        seconds = (other.time - other.index / self._rate) - (chunk.time - chunk.index / self._rate)
        return round(seconds * self._rate) if math.isfinite(seconds) else 0

    def check(self) -> None:
        """Refuse a reference that was nowhere beside the recording.

        Raises
        ------
        DataError
            If no sample of it was.
        """
        if not self.overlap:
            raise DataError("the reference has no sample at the time of the recording")


def paired(reference: Any, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the reference's samples to go with `samples`: NaN throughout where None is given.

    Raises
    ------
    DataError
        If there are more or fewer of them, or they are not acceleration.
    """
    if reference is None:
        return np.full_like(samples, np.nan)
    other = as_xyz(reference)
    if len(other) != len(samples):
        raise DataError(
            f"{len(other)} samples of the reference to {len(samples)} of the sensor: equal numbers were expected, "
            "NaN where one is missing"
        )
    return other
