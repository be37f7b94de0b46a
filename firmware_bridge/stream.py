"""From bytes and their arrival to chunks: the same way for a live port and for a log of one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from firmware_bridge.clock import SequenceClock, TickClock, Unwrapper, nominal_rate
from firmware_bridge.decoders import Decoder, Recogniser, Samples, make_decoder
from hypnic.chunk import MAX_RATE, MIN_RATE, Chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Assembler", "Opening", "RateEstimate", "stream_warnings"]

RATE_TOLERANCE: Final = 0.02
"""Share by which a stated rate may differ from the one in use."""

RATE_OFF: Final = 0.01
"""Share by which the measured rate must differ from the nominal one to be used in its place."""

RATE_ABSURD: Final = 0.2
"""Share beyond which it is not believed: no sensor's clock is that far off (5 % is the most in data sheets)."""

AHEAD_SECONDS: Final = 10.0
"""Seconds of loss that are believed at once, however soon they are reported: more than any buffer on the way holds."""

AHEAD_SHARE: Final = 0.25
"""Share by which a sensor may be slow without its samples being taken as wanting; more than `RATE_ABSURD`."""

LONGEST_HOLE: Final = 86_400.0
"""Longest loss (s) that is believed where nothing says when bytes came: a day, longer than a night."""

RATE_BY: Final = 20.0
"""Seconds of samples after which the rate to detect at is settled, however well it is known."""

_SURE = 0.5
_LIKELY = 0.25
_MEASURE_SECONDS = 2.0
_SILENCE = 0.25
_CATCH_UP = 0.5
_SETTLED = 2.0
_SMALLEST_HOLE = 0.1
_TICK_HOLE = 1.75
_RATE_AFTER = 5.0
_RATE_SD = 0.002
_COARSE_OFF = 0.02
_SLOWEST_STEP = 0.5

_LOW_RATE = 50.0
_COARSE_STEP = 0.01
_MIN_LOWPASS = 12.0


class RateEstimate(NamedTuple):
    """A measured sampling rate and its standard deviation, in Hz."""

    rate: float
    sd: float


def stream_warnings(decoder: Decoder, rate: float) -> list[str]:
    """Return what the user should know of a stream: low rate, coarse steps, a low-pass in a jerk's band."""
    found = []
    if rate < _LOW_RATE:
        found.append(f"rate {rate:g} Hz is below {_LOW_RATE:g} Hz: knocks cannot be told from jerks")
    if decoder.step_g is not None and decoder.step_g >= _COARSE_STEP * 0.999:
        found.append(f"values come in steps of {decoder.step_g * 1000:.3g} mg: jerks of that size are lost")
    if decoder.lowpass_hz is not None and decoder.lowpass_hz < _MIN_LOWPASS:
        found.append(
            f"the board's own low-pass of {decoder.lowpass_hz:g} Hz removes part of a jerk (2 to 9 Hz)"
        )
    return found + list(decoder.warnings)


class Opening:
    """Find the format and the rate of a stream from its first bytes, and keep these.

    Parameters
    ----------
    fmt : str, optional
        Format, where it is known.
    rate : float, optional
        Nominal rate in Hz, where it is known.
    lsb_per_g : float, optional
        Counts, or other units, in one g, for text that does not state it.

    Attributes
    ----------
    records : list of (float, bytes)
        Everything fed: arrival and bytes.
    fmt : str or None
        The format, once it is known.
    decoder : Decoder or None
        A decoder that has seen the bytes, once the format is known.

    Raises
    ------
    UsageError
        If the format is unknown, or states its own scale.
    """

    def __init__(
        self, fmt: str | None = None, rate: float | None = None, lsb_per_g: float | None = None
    ) -> None:
        self.records: list[tuple[float, bytes]] = []
        self.decoder: Decoder | None = None if fmt is None else make_decoder(fmt, lsb_per_g)
        self._rate = rate
        self._lsb_per_g = lsb_per_g
        self._recogniser = Recogniser() if fmt is None else None
        self.fmt = fmt
        self._started = False
        self._first = math.nan
        self._last = math.nan
        self._unwrapper: Unwrapper | None = None
        self._count = 0

    @property
    def bytes_seen(self) -> int:
        """Number of bytes fed."""
        return sum(len(data) for _, data in self.records)

    @property
    def proven(self) -> bool:
        """True once valid frames of the format have been seen."""
        return self.decoder is not None and self.decoder.proof >= 3

    @property
    def rate(self) -> float | None:
        """The nominal rate (Hz): the one given, else the one that the stream states, else as measured."""
        if self._rate is not None:
            return self._rate
        if self.decoder is None:
            return None
        return self.decoder.rate or self._measured()

    def feed(self, data: bytes, arrival: float) -> None:
        """Take what was read at `arrival` (POSIX seconds)."""
        self.records.append((arrival, data))
        if self.decoder is not None:
            self._count_samples(self.decoder.feed(data), arrival)
        elif self._recogniser is not None:
            found = self._recogniser.feed(data)
            if found is not None and found.confidence >= _SURE:
                self._settle(found.name)

    def decide(self) -> bool:
        """Settle for a likely format where none is sure; False where there is none."""
        if self.decoder is None and self._recogniser is not None:
            found = self._recogniser.best()
            if found is not None and found.confidence >= _LIKELY:
                self._settle(found.name)
        return self.proven

    def override_rate(self, rate: float) -> None:
        """Use another nominal rate (Hz) than the stream shows."""
        self._rate = rate

    def fresh_decoder(self) -> Decoder:
        """Return a new decoder of the format that was found."""
        assert self.fmt is not None
        return make_decoder(self.fmt, self._lsb_per_g)

    def _settle(self, name: str) -> None:
        self.fmt = name
        if name not in ("delimited", "labelled"):
            self._lsb_per_g = None
        self.decoder = make_decoder(name, self._lsb_per_g)
        for arrival, data in self.records:
            self._count_samples(self.decoder.feed(data), arrival)

    def _count_samples(self, samples: Samples, arrival: float) -> None:
        if not len(samples):
            return
        assert self.decoder is not None
        if samples.restart.any():
            self._started = False
            self._unwrapper = None
            self._count = 0
        now = arrival
        if self.decoder.tick_hz is not None and samples.tick[-1] >= 0:
            self._unwrapper = self._unwrapper or Unwrapper(self.decoder.tick_modulus)
            now = self._unwrapper.unwrap(samples.tick)[-1] / self.decoder.tick_hz
        self._last = now
        # The first reading may hold what had piled up before: it only starts the count.
        if self._started:
            self._count += len(samples) + int(samples.missing.sum())
        else:
            self._started = True
            self._first = now

    def _measured(self) -> float | None:
        seconds = self._last - self._first
        return nominal_rate(self._count / seconds) if seconds >= _MEASURE_SECONDS else None


def _runs(cuts: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Return start and end of each run of samples; `cuts` says after which of them but the last one ends."""
    inner = (np.flatnonzero(cuts) + 1).tolist() if cuts.any() else []
    return pairwise([0, *inner, len(cuts) + 1])


class _Batch(NamedTuple):
    """Samples of one reading within one segment, numbered from the segment's start."""

    xyz: NDArray[np.float32]
    numbers: NDArray[np.int64]
    ticks: NDArray[np.int64]
    arrival: float


class _Segment:
    """A stretch of the stream with one clock: it ends where the port is lost or the board restarts."""

    def __init__(self, decoder: Decoder, rate: float, ticked: bool) -> None:
        self.ticked = ticked
        self._rate = rate
        self._counted = decoder.counted
        self._tick_hz = decoder.tick_hz or 1.0
        self._unwrapper = Unwrapper(decoder.tick_modulus)
        self._clock: TickClock | SequenceClock
        self._clock = TickClock(self._tick_hz, decoder.tick_modulus) if ticked else SequenceClock(rate)
        self._next = 0
        self._last_tick: int | None = None
        self._started = math.nan
        self._last_arrival = math.nan
        self._usual_lateness = 0.0
        self._held: list[_Batch] = []
        self._held_until = math.nan
        self._least_lateness = math.inf
        self._anchor: tuple[int, float] | None = None
        self._latest: tuple[int, float] | None = None

    @property
    def residual(self) -> float:
        return self._clock.residual

    @property
    def rate_estimate(self) -> RateEstimate | None:
        if self._anchor is None or self._latest is None:
            return None
        seconds = self._latest[1] - self._anchor[1]
        if not seconds >= _RATE_AFTER or math.isnan(self.residual):
            return None
        rate = (self._latest[0] - self._anchor[0]) / seconds
        return RateEstimate(rate, rate * math.sqrt(2) * self.residual / seconds)

    def number(self, samples: Samples, part: slice, longest: float, arrival: float) -> _Batch:
        """Give the samples numbers, leaving room for those that are known to be missing.

        The batch ends before a loss that would bring those of the batch beyond `longest` samples.
        """
        missing = samples.missing[part].copy()
        ticks = samples.tick[part]
        if self.ticked and not self._counted:
            missing = np.maximum(missing, self._missing_by_ticks(ticks))
        if self._next == 0:
            missing[0] = 0
        added = np.cumsum(missing + 1)
        beyond = (missing > 0) & (np.cumsum(missing) > longest)
        if beyond.any():
            added = added[: int(beyond.argmax())]
        numbers = self._next - 1 + added
        if len(added):
            self._next = int(numbers[-1]) + 1
        return _Batch(samples.xyz[part][: len(added)], numbers, ticks[: len(added)], arrival)

    def _missing_by_ticks(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        unwrapped = self._unwrapper.unwrap(ticks)
        before = unwrapped[0] if self._last_tick is None else self._last_tick
        self._last_tick = int(unwrapped[-1])
        intervals = np.diff(unwrapped, prepend=before) / self._tick_hz * self._rate
        return np.where(intervals >= _TICK_HOLE, np.rint(intervals) - 1, 0).astype(np.int64)

    def pass_on(self, batch: _Batch) -> list[_Batch]:
        """Return the batches that can be placed now.

        Where nothing counts what is lost, a reading after a silence is either late, and then what was sent
        meanwhile catches up with the clock within moments, or it is not, and then the silence was a hole.
        So it is held until that is known.
        """
        if self._counted or self.ticked or math.isnan(batch.arrival):
            return [batch]
        assert isinstance(self._clock, SequenceClock)
        lateness = self._clock.lateness(int(batch.numbers[-1]), batch.arrival)
        silent = batch.arrival - self._last_arrival > _SILENCE
        self._last_arrival = batch.arrival
        if math.isnan(self._started):
            self._started = batch.arrival
        if not self._held:
            if not (silent and batch.arrival - self._started > _SETTLED):
                self._usual_lateness = lateness
                return [batch]
            self._held_until = batch.arrival + _CATCH_UP
            self._least_lateness = math.inf
        self._held.append(batch)
        self._least_lateness = min(self._least_lateness, lateness)
        return self.release() if batch.arrival >= self._held_until else []

    def release(self) -> list[_Batch]:
        """Return the batches held back, with the hole before them if there was one."""
        held, self._held = self._held, []
        hole = self._least_lateness - self._usual_lateness
        missing = round(hole * self._rate) if held and hole > _SMALLEST_HOLE else 0
        self._next += missing
        return [batch._replace(numbers=batch.numbers + missing) for batch in held]

    def stamp(self, batch: _Batch) -> NDArray[np.float64]:
        """Return the POSIX seconds of the samples; NaN where their arrival is not known."""
        if math.isnan(batch.arrival):
            return np.full(len(batch.numbers), math.nan)
        counts = batch.ticks if isinstance(self._clock, TickClock) else batch.numbers
        times = self._clock.stamp(counts, batch.arrival)
        self._latest = int(batch.numbers[-1]), float(times[-1])
        if math.isnan(self._started):
            self._started = batch.arrival
        # The clock's first seconds are its worst.
        if self._anchor is None and batch.arrival - self._started >= _SETTLED:
            self._anchor = self._latest
        return times


class Assembler:
    """Decode, number and stamp: bytes with their arrival in, chunks out.

    Parameters
    ----------
    decoder : Decoder
        A new decoder of the stream's format.
    rate : float
        Nominal rate in Hz. Samples are dropped while the stream states another one.

    Attributes
    ----------
    decoder : Decoder
        The decoder in use; its counters go on when the port is lost and found.
    wrong_rate : int
        Samples dropped because the stream stated another rate than `rate`.
    missing : int
        Sum of `Chunk.missing` so far.
    segments : int
        Stretches with a clock of their own; a new one begins where the port was lost or the board restarted.
    """

    def __init__(self, decoder: Decoder, rate: float) -> None:
        self.decoder = decoder
        self.rate = rate
        self.wrong_rate = 0
        self.missing = 0
        self.segments = 0
        self._segment: _Segment | None = None
        self._index = 0
        self._first_index = 0
        self._last_time = math.nan
        self._estimate: RateEstimate | None = None
        self._arrival = math.nan
        self._first_arrival = math.nan
        self._coarse_from: tuple[int, float] | None = None
        self._broken_by = ""
        self._wanting = 0.0
        self._wanting_at = math.nan
        self._wanting_missing = 0
        self._detection_rate: float | None = None
        self._rate_warning = ""

    @property
    def detection_rate(self) -> float | None:
        """The rate (Hz) to detect at; None until it is settled, in the first 20 s.

        The nominal one, or the measured one where the two are more than 1 % (and three standard deviations)
        apart. It is settled once and depends on the bytes and their arrivals alone.
        """
        return self._detection_rate

    @property
    def warnings(self) -> list[str]:
        """What the user should know of the stream."""
        found = stream_warnings(self.decoder, self.rate)
        return [*found, self._rate_warning] if self._rate_warning else found

    @property
    def effective_rate(self) -> RateEstimate | None:
        """The sampling rate as measured by the host's clock; None in the first seconds."""
        return (self._segment and self._segment.rate_estimate) or self._estimate

    @property
    def residual(self) -> float:
        """Root mean square distance of arrivals from the fitted clock, in s; NaN in the first seconds."""
        return math.nan if self._segment is None else self._segment.residual

    def feed(self, data: bytes, arrival: float) -> list[Chunk]:
        """Return the chunks that `data`, read at `arrival` (POSIX seconds or NaN), completes."""
        self._arrival = arrival
        if math.isnan(self._first_arrival):
            self._first_arrival = arrival
        chunks = self._place(self.decoder.feed(data), arrival)
        if self._detection_rate is None:
            self._settle_rate()
        return chunks

    def port_lost(self) -> list[Chunk]:
        """Return what was held back; the time until the next sample is missing from the recording."""
        chunks = self.finish()
        self._broken_by = "port lost"
        self.decoder = self.decoder.fresh()
        return chunks

    def finish(self) -> list[Chunk]:
        """Return what was held back; the stream has ended."""
        chunks = self._place(self.decoder.finish(), self._arrival)
        return chunks + self._end_segment("")

    def _settle_rate(self) -> None:
        if self._coarse_from is None and self._arrival - self._first_arrival >= _SETTLED:
            self._coarse_from = self._index, self._arrival
        estimate = self.effective_rate
        known = estimate is not None and estimate.sd <= _RATE_SD * estimate.rate
        if self._index < RATE_BY * self.rate:
            # What is clearly right need not wait; what is not is measured for as long as there is time.
            if known and estimate is not None and abs(estimate.rate / self.rate - 1) < RATE_OFF / 2:
                self._detection_rate = self.rate
            return
        self._detection_rate = self.rate
        measured, least = (
            (estimate.rate, RATE_OFF) if known and estimate else (self._coarse_rate(), _COARSE_OFF)
        )
        off = abs(measured / self.rate - 1)
        if math.isnan(off) or off <= least:
            return
        if off <= RATE_ABSURD and MIN_RATE <= measured <= MAX_RATE:
            self._detection_rate = round(measured, 2)
            self._rate_warning = (
                f"samples come at {self._detection_rate:g} Hz, not {self.rate:g}: that is used"
            )
        else:
            way = "faster" if measured > self.rate else "slower"
            self._rate_warning = (
                f"samples come much {way} than the {self.rate:g} Hz that is said, and used all the same"
            )

    def _coarse_rate(self) -> float:
        """Return the rate (Hz) at which samples have arrived, for where no clock fits their arrivals."""
        if self._coarse_from is None or not self._arrival > self._coarse_from[1]:
            return math.inf if self._arrival >= self._first_arrival else math.nan
        return (self._index - self._coarse_from[0]) / (self._arrival - self._coarse_from[1])

    def _end_segment(self, reason: str) -> list[Chunk]:
        if self._segment is None:
            return []
        self._broken_by = reason
        chunks = [chunk for batch in self._segment.release() for chunk in self._cut(self._segment, batch)]
        self._estimate = self._segment.rate_estimate or self._estimate
        self._segment = None
        return chunks

    def _place(self, samples: Samples, arrival: float) -> list[Chunk]:
        if not len(samples):
            return []
        stated = self.decoder.rate
        if stated is not None and abs(stated / self.rate - 1) > RATE_TOLERANCE:
            self.wrong_rate += len(samples)
            return self._end_segment("at another rate")
        chunks: list[Chunk] = []
        for start, end in _runs(samples.restart[1:]):
            ticked = self.decoder.tick_hz is not None and bool((samples.tick[start:end] >= 0).all())
            if self._segment is not None and (samples.restart[start] or self._segment.ticked != ticked):
                chunks += self._end_segment("board restarted" if samples.restart[start] else "clock changed")
            while start < end:
                if self._segment is None:
                    self._segment = _Segment(self.decoder, self.rate, ticked)
                    self.segments += 1
                longest = self._longest_loss(arrival) * self.rate
                batch = self._segment.number(samples, slice(start, end), longest, arrival)
                start += len(batch.numbers)
                if len(batch.numbers):
                    for ready in self._segment.pass_on(batch):
                        chunks += self._cut(self._segment, ready)
                if start < end:
                    chunks += self._end_segment("counter jumped")
        self._longest_loss(arrival)
        self._take_from_wanting(len(samples))
        return chunks

    def _longest_loss(self, arrival: float) -> float:
        """Return how long a loss (s) may be that a counter or ticks report now.

        They can be spoilt, or made up, and one number could claim years. But no loss is longer than the time for which
        samples are wanting. That is `_wanting`: time adds to it, losses and samples take from it. Losses may take
        `AHEAD_SECONDS` more than there is, samples may not: a recording played in haste is not lost.
        """
        if math.isnan(arrival):
            return LONGEST_HOLE
        if arrival > self._wanting_at:
            self._wanting += arrival - self._wanting_at
        self._wanting_at = arrival
        self._wanting -= (self.missing - self._wanting_missing) / self.rate
        self._wanting_missing = self.missing
        return self._wanting + AHEAD_SECONDS

    def _take_from_wanting(self, samples: int) -> None:
        if self._wanting > 0:
            self._wanting = max(0.0, self._wanting - (1 + AHEAD_SHARE) * samples / self.rate)

    def _cut(self, segment: _Segment, batch: _Batch) -> list[Chunk]:
        """Return the batch as runs without holes."""
        times = segment.stamp(batch)
        reason = "lost"
        if batch.numbers[0] == 0:
            reason = self._broken_by or reason
            self._first_index = self._index + self._hole_before(float(times[0]))
        indices = self._first_index + batch.numbers
        chunks = []
        for start, end in _runs(indices[1:] - indices[:-1] > 1):
            index = int(indices[start])
            time = float(times[start])
            if time <= self._last_time:
                time = self._last_time + _SLOWEST_STEP / self.rate
            missing = index - self._index
            chunks.append(Chunk(batch.xyz[start:end], index, time, missing, reason if missing else ""))
            reason = "lost"
            self.missing += missing
            self._index = index + end - start
            self._last_time = max(float(times[end - 1]), time)
        return chunks

    def _hole_before(self, time: float) -> int:
        """Return how many samples are missing before a segment that starts at `time`."""
        if self._index == 0 or math.isnan(time) or math.isnan(self._last_time):
            return 0
        rate = self._estimate.rate if self._estimate is not None else self.rate
        return max(0, round((time - self._last_time) * rate) - 1)
