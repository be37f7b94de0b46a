"""What every decoder of a wire format shares: samples, counters, the following of counters and ticks.

A decoder is given bytes and returns samples. It holds no port, reads no clock and never raises, whatever the
bytes are. Its result depends on the bytes alone and not on how they were cut into calls of `Decoder.feed`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GUESS_SAMPLES",
    "INTRODUCTION_EVERY",
    "MAX_G",
    "STANDARD_GRAVITY",
    "Continuity",
    "Counters",
    "Decoder",
    "Samples",
    "TextDecoder",
    "TicksAlone",
    "Vector",
    "infer_per_g",
    "printable",
    "to_counts",
]

STANDARD_GRAVITY = 9.80665
"""m/s² in one g."""

MAX_G = 200.0
"""Acceleration (g) that no wrist or mattress and none of the sensors read here can show."""

INTRODUCTION_EVERY = 5.0
"""Seconds after which a stream that introduces itself does so again."""

GUESS_SAMPLES = 32
"""Samples whose resting norm decides the unit, where the format does not state it."""

Vector = tuple[float, float, float]

_NO_ACCELERATION_FRAMES = 20
_MAX_LINE = 512
_RAW_SCALES = (2048.0, 4096.0, 8192.0, 16384.0)
_UNITS = (1.0, STANDARD_GRAVITY, 64.0, 256.0, 1000.0, *_RAW_SCALES)


@dataclass(frozen=True, slots=True)
class Samples:
    """What one call of `Decoder.feed` has brought.

    Attributes
    ----------
    xyz : ndarray of float32, shape (n, 3)
        Acceleration in g.
    missing : ndarray of int64, shape (n,)
        Samples known not to be delivered just before each one: lost on the wire by the board's counter, or
        refused.
    restart : ndarray of bool, shape (n,)
        True where the board has restarted, or its counter has broken off, just before the sample.
    seq : ndarray of int64, shape (n,)
        The board's counter as sent (it wraps); -1 where the format has none.
    tick : ndarray of int64, shape (n,)
        The board's ticks as sent (they wrap); -1 where the format has none.
    """

    xyz: NDArray[np.float32]
    missing: NDArray[np.int64]
    restart: NDArray[np.bool_]
    seq: NDArray[np.int64]
    tick: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(slots=True)
class Counters:
    """What has become of the bytes: `bytes_in` = `bytes_accepted` + `bytes_discarded` + `Decoder.pending`.

    Attributes
    ----------
    bytes_in : int
        Bytes fed.
    bytes_accepted : int
        Bytes of valid frames and lines, whatever they carry.
    bytes_discarded : int
        Bytes that belong to no valid frame or line.
    frames : int
        Valid frames and lines.
    samples : int
        Samples delivered.
    lost : int
        Samples that the board's counter has skipped.
    bad_frames : int
        Frames with a wrong checksum, length or stuffing.
    malformed : int
        Text lines that are neither a sample nor anything else the format knows.
    implausible : int
        Samples refused: beyond 200 g, or with a counter that contradicts those around it.
    duplicates : int
        Samples whose counter repeats the one before.
    unscaled : int
        Valid samples that came before their scale was known.
    restarts : int
        Breaks of the board's counter.
    """

    bytes_in: int = 0
    bytes_accepted: int = 0
    bytes_discarded: int = 0
    frames: int = 0
    samples: int = 0
    lost: int = 0
    bad_frames: int = 0
    malformed: int = 0
    implausible: int = 0
    duplicates: int = 0
    unscaled: int = 0
    restarts: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def printable(raw: bytes, limit: int = 64) -> str:
    """Return `raw` as at most `limit` characters of printable ASCII, with ``?`` for all else."""
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else "?" for byte in raw[:limit])


def infer_per_g(norms: list[float], *, raw: bool) -> float | None:
    """Return how many of the sender's units make one g, from the norm of a sensor that mostly rests.

    Parameters
    ----------
    norms : list of float
        Norm of each sample in the sender's units.
    raw : bool
        True where the values are known to be raw counts of a sensor with 16 bits and ±2 to ±16 g.

    Returns
    -------
    float or None
        1 (g), 9.80665 (m/s²), 1000 (mg), or counts per g (64, 256, 2048, 4096, 8192, 16384); None where the
        median norm is more than a quarter away from each.
    """
    norm = sorted(norms)[len(norms) // 2]
    if not norm > 0:
        return None
    near = min(_RAW_SCALES if raw else _UNITS, key=lambda unit: abs(math.log2(norm / unit)))
    return near if abs(math.log2(norm / near)) <= math.log2(1.25) else None


def to_counts(xyz: NDArray[np.float32], per_g: float) -> list[tuple[int, int, int]]:
    """Return samples in g as counts of 16 bits, clipped; NaN reads 0, as from a dead sensor."""
    counts = np.clip(np.rint(np.nan_to_num(np.asarray(xyz, np.float64)) * per_g), -32768, 32767)
    return [(x, y, z) for x, y, z in counts.astype(int).tolist()]


class Continuity:
    """Follow the counter and the ticks of a board.

    Parameters
    ----------
    seq_modulus, tick_modulus : int
        Where the counter and the ticks wrap.
    samples_per_tick : float, optional
        Nominal rate over tick rate; learned from the first samples where it is not given.

    Notes
    -----
    A counter of 16 bits wraps in minutes. Ticks, where there are any, tell how often; where counter and
    ticks do not fit together (tolerance 10 % and 8 samples, as sensors are up to 5 % off their nominal
    rate) one of the two was damaged, or the board has restarted. Which of the two is decided by the next
    sample.
    """

    _SLACK = 8.0
    _TOLERANCE = 0.1
    _LEARN = 16

    def __init__(self, seq_modulus: int, tick_modulus: int, samples_per_tick: float | None = None) -> None:
        self.seq_modulus = seq_modulus
        self.tick_modulus = tick_modulus
        self.samples_per_tick = samples_per_tick
        self._steps_seen = 0
        self._ticks_seen = 0

    def steps(self, before: tuple[int, int | None], now: tuple[int, int | None]) -> int | None:
        """Return by how many samples `now` follows `before`, each (counter, ticks); None if it cannot."""
        steps = (now[0] - before[0]) % self.seq_modulus
        if before[1] is None or now[1] is None:
            return steps if steps <= self.seq_modulus // 2 else None
        ticks = (now[1] - before[1]) % self.tick_modulus
        if self.samples_per_tick is None:
            if steps > self.seq_modulus // 2:
                return None
            self._learn(steps, ticks)
            return steps
        expected = ticks * self.samples_per_tick
        # Beyond two turns of the counter the tolerance would let any counter pass.
        if expected > 2 * self.seq_modulus:
            return None
        steps += max(0, round((expected - steps) / self.seq_modulus)) * self.seq_modulus
        return steps if abs(expected - steps) <= self._SLACK + self._TOLERANCE * expected else None

    def _learn(self, steps: int, ticks: int) -> None:
        if steps == 1 and ticks > 0:
            self._steps_seen += 1
            self._ticks_seen += ticks
            if self._steps_seen == self._LEARN:
                self.samples_per_tick = self._steps_seen / self._ticks_seen


class TicksAlone(Continuity):
    """Follow the ticks of a board without a counter: a step of over one second needs a second witness."""

    def __init__(self, tick_modulus: int, tick_hz: float) -> None:
        super().__init__(1, tick_modulus)
        self._tick_hz = tick_hz

    def steps(self, before: tuple[int, int | None], now: tuple[int, int | None]) -> int | None:
        """Return 1 where `now` follows `before` within a second, else None."""
        if before[1] is None or now[1] is None:
            return 1
        return 1 if (now[1] - before[1]) % self.tick_modulus <= self._tick_hz else None


class Decoder(ABC):
    """Bytes of one wire format in, samples out.

    Attributes
    ----------
    counters : Counters
        What has become of the bytes.
    rate : float or None
        Sampling rate in Hz that the stream itself states.
    tick_hz : float or None
        Ticks per second, where the format has ticks.
    tick_modulus : int
        Where the ticks wrap.
    counted : bool
        True where the format has a counter that shows every lost sample.
    step_g : float or None
        Smallest step of the values in g, where it is known.
    lowpass_hz : float or None
        Corner of the board's own low-pass in Hz, where it is known.
    info : dict
        What the stream says about the board: printable text and numbers.
    warnings : list of str
        What the user should know about how the stream was read.
    """

    name: ClassVar[str]
    """Name of the format."""

    bauds: ClassVar[tuple[int, ...]]
    """Baud rates that boards with this format are delivered with, the likeliest first."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.rate: float | None = None
        self.tick_hz: float | None = None
        self.tick_modulus = 1 << 32
        self.counted = False
        self.step_g: float | None = None
        self.lowpass_hz: float | None = None
        self.info: dict[str, str | int | float] = {}
        self.warnings: list[str] = []
        self._tail = b""
        self._continuity: Continuity | None = None
        self._last: tuple[int, int | None] | None = None
        self._suspect: tuple[tuple[int, int | None], Vector | None] | None = None
        self._begun = False
        self._skipped = 0
        self._restart = False
        self._rows: list[Vector] = []
        self._missing: list[int] = []
        self._restarts: list[bool] = []
        self._seqs: list[int] = []
        self._ticks: list[int] = []

    def feed(self, data: bytes) -> Samples:
        """Return the samples that `data` completes. Never raises, whatever the bytes are."""
        self.counters.bytes_in += len(data)
        self._consume(data)
        return self._take()

    def finish(self) -> Samples:
        """Return what was held back for want of what follows; the stream has ended."""
        return self._take()

    @property
    def pending(self) -> int:
        """Bytes fed that may yet become a frame."""
        return len(self._tail)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        return None

    @property
    def proof(self) -> int:
        """Number of frames or lines that show the stream to be of this format."""
        return self.counters.frames

    @abstractmethod
    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost: options and counters stay."""

    @abstractmethod
    def _consume(self, data: bytes) -> None:
        """Take frames off `data` and what was pending."""

    def _inherit(self, other: Self) -> Self:
        self.counters = other.counters
        self.counters.bytes_discarded += other.pending
        self.warnings = other.warnings
        self.info, self.step_g, self.lowpass_hz = other.info, other.step_g, other.lowpass_hz
        return self

    def _accept(self, size: int) -> None:
        self.counters.frames += 1
        self.counters.bytes_accepted += size

    def _discard(self, size: int) -> None:
        self.counters.bytes_discarded += size

    def _follow(self, seq: int, tick: int | None, xyz: Vector | None) -> None:
        """Place a numbered frame, with or without a usable sample, after those before it."""
        assert self._continuity is not None
        now = (seq, tick)
        if self._last is None:
            self._place(now, xyz, 0)
            return
        steps = self._continuity.steps(self._last, now)
        if steps is None:
            if self._suspect is not None:
                held, held_xyz = self._suspect
                since = self._continuity.steps(held, now)
                if since:
                    self._suspect = None
                    self._break()
                    self._place(held, held_xyz, 0)
                    self._place(now, xyz, since - 1)
                    return
                self.counters.implausible += 1
            self._suspect = (now, xyz)
        elif steps == 0:
            self.counters.duplicates += 1
        else:
            if self._suspect is not None:
                self._suspect = None
                self.counters.implausible += 1
            self._place(now, xyz, steps - 1)

    def _break(self) -> None:
        """Note that the board has restarted: how many samples are missing here, its counter cannot tell."""
        self._last = None
        self._suspect = None
        self._skipped = 0
        if self._begun:
            self._restart = True
            self.counters.restarts += 1

    def _place(self, now: tuple[int, int | None], xyz: Vector | None, lost: int) -> None:
        self._last = now
        self.counters.lost += lost
        self._skipped += lost
        if xyz is not None:
            self._emit(xyz, now[0], -1 if now[1] is None else now[1])

    def _emit(self, xyz: Vector, seq: int = -1, tick: int = -1) -> None:
        x, y, z = xyz
        # Written so that NaN fails too.
        if not (-MAX_G <= x <= MAX_G and -MAX_G <= y <= MAX_G and -MAX_G <= z <= MAX_G):
            self.counters.implausible += 1
            self._skipped += 1
            return
        self._rows.append(xyz)
        self._missing.append(self._skipped if self._begun else 0)
        self._restarts.append(self._restart)
        self._seqs.append(seq)
        self._ticks.append(tick)
        self._begun = True
        self._skipped = 0
        self._restart = False

    def _take(self) -> Samples:
        count = len(self._rows)
        self.counters.samples += count
        samples = Samples(
            np.array(self._rows, np.float32).reshape(count, 3),
            np.array(self._missing, np.int64),
            np.array(self._restarts, np.bool_),
            np.array(self._seqs, np.int64),
            np.array(self._ticks, np.int64),
        )
        for held in (self._rows, self._missing, self._restarts, self._seqs, self._ticks):
            held.clear()
        return samples

    def _warn(self, words: str) -> None:
        """Say something once: a stream that changes its kind for ever must not fill memory with it."""
        if words not in self.warnings:
            self.warnings.append(words)

    def _lacks_acceleration(self) -> bool:
        return self.counters.frames >= _NO_ACCELERATION_FRAMES and not self.counters.samples


class TextDecoder(Decoder):
    """A decoder of lines, of which some formats do not state the unit.

    Parameters
    ----------
    per_g : float, optional
        How many of the sender's units make one g. By default what the format states; where it states
        nothing, it is inferred from the norm of the first 32 samples, which are held back until then.
    """

    def __init__(self, per_g: float | None = None) -> None:
        super().__init__()
        self._given_per_g = per_g
        self._inferred_per_g: float | None = None
        self._overlong = False
        self._undecided: list[tuple[Vector, int]] = []
        self._undecided_raw = False
        self._unit_unknown = False
        self._decimals = 0
        self._sample_lines = 0

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if self._unit_unknown:
            return "the unit of the values cannot be told from a resting norm of 1 g: give lsb_per_g"
        return None

    @property
    def proof(self) -> int:
        """Lines that held a sample: comments and headings prove nothing."""
        return self._sample_lines

    def finish(self) -> Samples:
        """Return the samples held back until their unit was known."""
        self._decide()
        return self._take()

    def _consume(self, data: bytes) -> None:
        lines = (self._tail + data).split(b"\n")
        self._tail = lines.pop()
        for line in lines:
            if self._overlong or len(line) > _MAX_LINE:
                self._overlong = False
                self._malformed(len(line) + 1)
            elif line.isspace() or not line:
                self._discard(len(line) + 1)
            else:
                self._line(line.strip(b"\r"), len(line) + 1)
        if len(self._tail) > _MAX_LINE or (self._overlong and self._tail):
            self._discard(len(self._tail))
            self._tail = b""
            self._overlong = True

    @abstractmethod
    def _line(self, line: bytes, size: int) -> None:
        """Account for one line of `size` bytes, its end included."""

    def _malformed(self, size: int, meant_as_sample: bool = False) -> None:
        self.counters.malformed += 1
        self._discard(size)
        # A counter tells what was lost; where there is none, a spoilt line is the only sign of it.
        if meant_as_sample and not self.counted:
            self._skipped += 1

    def _value(self, xyz: Vector, stated_per_g: float | None, decimals: int, *, raw: bool = False) -> None:
        """Deliver a sample without a counter, given in the sender's units with so many decimals."""
        per_g = self._given_per_g or stated_per_g or self._inferred_per_g
        self._decimals = max(self._decimals, decimals)
        if per_g is not None:
            self.step_g = 10**-self._decimals / per_g
            self._emit((xyz[0] / per_g, xyz[1] / per_g, xyz[2] / per_g))
        elif self._unit_unknown:
            self.counters.unscaled += 1
        else:
            self._undecided.append((xyz, self._skipped))
            self._undecided_raw = raw
            self._skipped = 0
            if len(self._undecided) == GUESS_SAMPLES:
                self._decide()

    def _decide(self) -> None:
        """Infer the unit from the samples held back, and let these go."""
        held, self._undecided = self._undecided, []
        if not held:
            return
        per_g = infer_per_g([math.hypot(*xyz) for xyz, _ in held], raw=self._undecided_raw)
        if per_g is not None:
            self._warn(f"unit inferred from the resting norm: {per_g:g} per g")
        elif self._undecided_raw:
            per_g = 16384.0
            self._warn("unit assumed, as the sensor does not rest: 16384 counts per g")
        else:
            self._unit_unknown = True
            self.counters.unscaled += len(held)
            return
        self._inferred_per_g = per_g
        for xyz, skipped in held:
            self._skipped += skipped
            self._value(xyz, None, 0)

    def _forget_unit(self) -> None:
        """Start inferring again: lines of another kind have begun."""
        self._decide()
        self._inferred_per_g = None
        self._unit_unknown = False
        self._decimals = 0

    def _inherit(self, other: Self) -> Self:
        # A sensor that is found again may well be moving, so the unit is not inferred twice.
        self._inferred_per_g = other._inferred_per_g
        return super()._inherit(other)
