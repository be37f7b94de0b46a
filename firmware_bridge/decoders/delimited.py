"""Delimited text, one sample a line, read by a schema: our own CSV dialect and what common sketches print.

The schema is stated by a header line where there is one. Where there is none, three lines in a row of one
known shape settle it; they are held back until then.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Self

import numpy as np

from firmware_bridge.decoders.base import (
    INTRODUCTION_EVERY,
    Continuity,
    TextDecoder,
    TicksAlone,
    Vector,
    printable,
    to_counts,
)
from firmware_bridge.decoders.hypnic import LSB_PER_G, crc16

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SCHEMAS",
    "DelimitedDecoder",
    "Schema",
    "artemis_heading",
    "csv_header",
    "encode_artemis",
    "encode_csv",
    "encode_mpu6050_raw",
    "encode_razor",
    "encode_simple",
    "simple_heading",
]

_NUMBER = rb"[-+]?\d{1,7}(?:\.\d{1,9})?"
_INTEGER = rb"[-+]?\d{1,7}"
_HUNDREDTHS = rb"[-+]?\d{1,4}\.\d\d"
_UNSIGNED = rb"\d{1,19}"
_SEQ_MODULUS = 1 << 32


class Parsed(NamedTuple):
    """One line: acceleration in the sender's units, counter, ticks, decimals of the acceleration."""

    xyz: Vector
    seq: int | None
    tick: int | None
    decimals: int


@dataclass(frozen=True, slots=True)
class Schema:
    """How to read a line of numbers.

    Attributes
    ----------
    name : str
        What sends it.
    delimiter : bytes
        What stands between two fields; blanks around a field are ignored.
    columns : int
        Number of fields; a line with another number is malformed.
    xyz : tuple of int
        Columns of x, y and z.
    number : bytes
        Regular expression of an acceleration value.
    per_g : float, optional
        Units in one g; inferred from the resting norm where it is not given.
    seq, tick : int, optional
        Columns of the counter and of the ticks.
    tick_hz : float, optional
        Ticks per second.
    tick_modulus : int
        Where the ticks wrap.
    prefix : bytes
        What every line starts with.
    rate : float, optional
        Sampling rate in Hz that the stream states.
    limit : float
        Largest magnitude of a value, in the sender's units.
    lowpass_hz : float, optional
        Corner of the board's own low-pass in Hz.
    warning : str, optional
        What a user of such a board should know.
    """

    name: str
    delimiter: bytes
    columns: int
    xyz: tuple[int, int, int]
    number: bytes = _NUMBER
    per_g: float | None = None
    seq: int | None = None
    tick: int | None = None
    tick_hz: float | None = None
    tick_modulus: int = 1 << 32
    prefix: bytes = b""
    rate: float | None = None
    limit: float = math.inf
    lowpass_hz: float | None = None
    warning: str | None = None

    @property
    def raw(self) -> bool:
        """True where the values are raw counts of a 16-bit sensor."""
        return self.number == _INTEGER

    def parse(self, line: bytes) -> Parsed | None:
        """Return what the line says, or None where it does not fit."""
        if not line.startswith(self.prefix):
            return None
        columns = [column.strip() for column in line[len(self.prefix) :].split(self.delimiter)]
        if len(columns) != self.columns:
            return None
        values = [columns[i] for i in self.xyz]
        if not all(re.fullmatch(self.number, value) for value in values):
            return None
        x, y, z = map(float, values)
        if max(abs(x), abs(y), abs(z)) > self.limit:
            return None
        counters: list[int | None] = []
        for column, modulus in ((self.seq, _SEQ_MODULUS), (self.tick, self.tick_modulus)):
            digits = b"" if column is None else columns[column]
            if column is not None and not (re.fullmatch(_UNSIGNED, digits) and int(digits) < modulus):
                return None
            counters.append(int(digits) if digits else None)
        return Parsed(
            (x, y, z), counters[0], counters[1], max(len(value.partition(b".")[2]) for value in values)
        )

    def resembles(self, line: bytes) -> bool:
        """Tell whether a line that does not fit was probably meant to be a sample."""
        return line.count(self.delimiter) >= self.columns // 2 and any(byte in b"0123456789" for byte in line)


RAZOR: Final = Schema("razor", b",", 10, (1, 2, 3), _HUNDREDTHS, 1.0, tick=0, tick_hz=1000.0, lowpass_hz=5.0)
"""SparkFun 9DoF Razor IMU M0: ``ms, ax, ay, az, gx..mz`` in g."""

MPU6050_RAW: Final = Schema(
    "mpu6050-raw",
    b"\t",
    6,
    (0, 1, 2),
    _INTEGER,
    prefix=b"a/g:\t",
    limit=32768,
    warning="the MPU6050_raw sketch does not pace its samples: its rate changes with the length of its lines",
)
"""The MPU6050_raw example sketch: raw counts."""

ARTEMIS: Final = Schema("artemis", b",", 9, (2, 3, 4), per_g=1000.0)
"""SparkFun OpenLog Artemis: mg, columns by its header."""

SIMPLE: Final = Schema("simple", b"\t", 3, (0, 1, 2), _HUNDREDTHS, 1.0)
"""Arduino SimpleAccelerometer example sketches: g with two decimals."""

SCHEMAS: Final = {schema.name: schema for schema in (RAZOR, MPU6050_RAW, ARTEMIS, SIMPLE)}
"""Schemas that can be asked for by name."""

_LOCK_LINES = 3
_UNLOCK_LINES = 10
_CSV_HEADER = b"# hypnic-csv v1 "
_CSV_COLUMNS = b"seq,t_us,ax,ay,az"
_MAX_HEADER = 200
_CHECKED = re.compile(rb"(.*)\*([0-9A-F]{4})", re.DOTALL)
_SIMPLE_RATE = re.compile(rb"Accelerometer sample rate = [\d.]+ ?Hz")
_HEADING = re.compile(rb"[\w ,;\t.()/^\"'\[\]]+", re.ASCII)
_ARTEMIS_HEADING = re.compile(rb"(?:^|,)aX,aY,aZ(?:,|$)")
_ARTEMIS_LINE = re.compile(rb"\d\d/\d\d/\d{4},\d\d:\d\d:\d\d\.\d\d(?:,[^,]*){3,}")
_HEADINGS = tuple(
    tuple(head + axis for axis in ("x", "y", "z"))
    for head in ("a", "acc", "accel", "acceleration", "acc_", "accel_", "acceleration_", "a_", "")
)


class DelimitedDecoder(TextDecoder):
    """Decode delimited text.

    Parameters
    ----------
    schema : Schema, optional
        How to read the lines; by default found from a header, or from three lines of a known shape.
    per_g : float, optional
        Units in one g, where the schema does not state it.
    """

    name: ClassVar[str] = "delimited"
    bauds: ClassVar[tuple[int, ...]] = (115200, 9600, 38400)

    def __init__(self, schema: Schema | None = None, per_g: float | None = None) -> None:
        super().__init__(per_g)
        self._asked = schema
        self._schema: Schema | None = None
        self._former: Schema | None = None
        self._held: list[tuple[bytes, int]] = []
        self._candidate: Schema | None = None
        self._unfit = 0
        self._check_seen = False
        if schema is not None:
            self._use(schema)

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost; a unit once inferred stays."""
        return type(self)(self._asked, self._given_per_g)._inherit(self)

    @property
    def schema(self) -> Schema | None:
        """How the lines are read, once that is known."""
        return self._schema

    @property
    def pending(self) -> int:
        """Bytes fed that may yet become a sample."""
        return len(self._tail) + sum(size for _, size in self._held)

    def _use(self, schema: Schema) -> None:
        self._schema = schema
        if schema == self._former:
            return
        if self._former is not None:
            self._forget_unit()
            self._break()
        self._former = schema
        self.counted = schema.seq is not None
        self.rate = schema.rate
        self.tick_hz = schema.tick_hz
        self.tick_modulus = schema.tick_modulus
        self.lowpass_hz = schema.lowpass_hz
        if schema.warning:
            self._warn(schema.warning)
        if schema.seq is not None:
            per_tick = schema.rate / schema.tick_hz if schema.rate and schema.tick_hz else None
            self._continuity = Continuity(_SEQ_MODULUS, schema.tick_modulus, per_tick)
        elif schema.tick is not None and schema.tick_hz:
            self._continuity = TicksAlone(schema.tick_modulus, schema.tick_hz)
        else:
            self._continuity = None

    def _line(self, line: bytes, size: int) -> None:
        checked = _CHECKED.fullmatch(line)
        if checked is not None:
            line = checked[1]
            if crc16(line) != int(checked[2], 16):
                self._unfitting(size)
                return
            self._check_seen = True
        elif self._check_seen:
            self._unfitting(size)
            return
        if self._header(line):
            self._drop_held()
            self._unfit = 0
            self._accept(size)
        elif self._schema is None:
            self._seek(line, size)
        else:
            parsed = self._schema.parse(line)
            if parsed is None:
                self._unfitting(size, meant_as_sample=self._schema.resembles(line))
            else:
                self._unfit = 0
                self._accept(size)
                self._sample(self._schema, parsed)

    def _sample(self, schema: Schema, parsed: Parsed) -> None:
        self._sample_lines += 1
        per_g = self._given_per_g or schema.per_g
        if self._continuity is None or per_g is None:
            self._value(parsed.xyz, per_g, parsed.decimals, raw=schema.raw)
            return
        x, y, z = (value / per_g for value in parsed.xyz)
        self.step_g = 10**-parsed.decimals / per_g
        self._follow(-1 if parsed.seq is None else parsed.seq, parsed.tick, (x, y, z))

    def _unfitting(self, size: int, meant_as_sample: bool = False) -> None:
        self._malformed(size, meant_as_sample)
        self._unfit += 1
        if self._unfit >= _UNLOCK_LINES and self._schema is not None:
            self._schema = None
            self._unfit = 0

    def _seek(self, line: bytes, size: int) -> None:
        """Hold the line until three of one shape have come in a row."""
        former = self._former
        candidate = former if former is not None and former.parse(line) is not None else _shape(line)
        if candidate is not None and self._asked is not None and candidate.name != self._asked.name:
            candidate = None
        if candidate is None or candidate != self._candidate:
            self._drop_held()
        self._candidate = candidate
        if candidate is None:
            self._malformed(size)
            return
        self._held.append((line, size))
        if len(self._held) == _LOCK_LINES:
            held, self._held = self._held, []
            self._use(candidate)
            for held_line, held_size in held:
                parsed = candidate.parse(held_line)
                assert parsed is not None
                self._accept(held_size)
                self._sample(candidate, parsed)

    def _drop_held(self) -> None:
        for _, size in self._held:
            self._malformed(size)
        self._held.clear()
        self._candidate = None

    def _header(self, line: bytes) -> bool:
        """Take a line that is not a sample; False where it is none that is known."""
        if line.startswith(_CSV_HEADER):
            return self._csv_header(line)
        if line.startswith(b"#"):
            return True
        if line == _CSV_COLUMNS or _SIMPLE_RATE.fullmatch(line):
            return True
        schema = _schema_of(line)
        if schema is None or (self._asked is not None and schema.name != self._asked.name):
            return False
        self._use(schema)
        return True

    def _csv_header(self, line: bytes) -> bool:
        words = [word.split("=", 1) for word in printable(line[len(_CSV_HEADER) :], _MAX_HEADER).split()]
        keys = {word[0]: word[1] for word in words if len(word) == 2}
        per_g, rate, tick_hz = (_decimal(keys.get(key, "")) for key in ("lsb_per_g", "rate_hz", "tick_hz"))
        bits = _decimal(keys.get("tick_bits", "32"))
        if not per_g or not rate or tick_hz is None or bits is None or not 16 <= bits <= 62:
            return False
        lowpass = _decimal(keys.get("lowpass_hz", ""))
        self._use(
            Schema(
                "hypnic-csv",
                b",",
                5,
                (2, 3, 4),
                rb"-?\d{1,5}",
                per_g,
                seq=0,
                tick=1 if tick_hz else None,
                tick_hz=tick_hz or None,
                tick_modulus=1 << int(bits),
                rate=rate,
                limit=32768,
                lowpass_hz=lowpass or None,
            )
        )
        self.info = {key: keys[key] for key in ("board", "sensor", "fw", "uid", "range_g") if key in keys}
        self.info |= {"rate": rate, "tick_hz": tick_hz, "lowpass_hz": lowpass or 0.0}
        return True


def _decimal(text: str) -> float | None:
    """Return a decimal number from 0 up, or None where `text` is none."""
    return float(text) if re.fullmatch(r"\d{1,10}(\.\d{1,9})?", text) else None


def _schema_of(heading: bytes) -> Schema | None:
    """Return the schema that a line of column names states."""
    if not _HEADING.fullmatch(heading):
        return None
    if _ARTEMIS_HEADING.search(heading):
        names = heading.split(b",")
        at = names.index(b"aX")
        return replace(ARTEMIS, columns=len(names), xyz=(at, at + 1, at + 2))
    if heading == b"X\tY\tZ":
        return SIMPLE
    for delimiter in (b",", b"\t", b";"):
        columns = [printable(name).strip(" \"'").lower() for name in heading.split(delimiter)]
        for axes in _HEADINGS:
            if all(columns.count(axis) == 1 for axis in axes):
                x, y, z = (columns.index(axis) for axis in axes)
                return Schema("columns", delimiter, len(columns), (x, y, z))
    return None


def _shape(line: bytes) -> Schema | None:
    """Return the schema whose lines look like this one."""
    for schema in (MPU6050_RAW, RAZOR):
        if schema.parse(line) is not None:
            return schema
    if _ARTEMIS_LINE.fullmatch(line):
        schema = replace(ARTEMIS, columns=line.count(b",") + 1)
        return schema if schema.parse(line) is not None else None
    for delimiter in (b",", b"\t", b";", b" "):
        schema = Schema("numbers", delimiter, 3, (0, 1, 2))
        if schema.parse(line) is not None:
            return schema
    return None


def _csv_line(text: str) -> bytes:
    line = text.encode("ascii")
    return line + b"*%04X\n" % crc16(line)


def csv_header(rate: float) -> bytes:
    """Return the header line that makes the samples of `encode_csv` readable."""
    return _csv_line(
        f"# hypnic-csv v1 board=replay lsb_per_g={LSB_PER_G} rate_hz={rate:g} tick_hz=1000000 check=crc16"
    )


def encode_csv(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples in our own text dialect, with its header every 5 s."""
    every = round(INTRODUCTION_EVERY * rate)
    out = []
    for number, (x, y, z) in enumerate(to_counts(xyz, LSB_PER_G), start):
        if number % every == 0:
            out.append(csv_header(rate))
        tick = round(number * 1e6 / rate) % (1 << 32)
        out.append(_csv_line(f"{number % _SEQ_MODULUS},{tick},{x},{y},{z}"))
    return b"".join(out)


def encode_razor(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as a SparkFun Razor prints them, without rotation and magnetic field."""
    lines = [
        f"{round(number * 1e3 / rate) % (1 << 32)}, {x:.2f}, {y:.2f}, {z:.2f}, "
        "0.00, 0.00, 0.00, 0.00, 0.00, 0.00\r\n"
        for number, (x, y, z) in enumerate(_numbers(xyz), start)
    ]
    return "".join(lines).encode("ascii")


_ARTEMIS_COLUMNS = b"rtcDate,rtcTime,aX,aY,aZ,gX,gY,gZ,\r\n"


def artemis_heading(rate: float) -> bytes:
    """Return the heading that an OpenLog Artemis prints once."""
    return _ARTEMIS_COLUMNS


def encode_artemis(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as an OpenLog Artemis prints them, from midnight of 1 January 2000 on."""
    lines = []
    for number, (x, y, z) in enumerate(_numbers(xyz), start):
        hundredths = round(number * 100 / rate) % 8_640_000
        minutes, seconds = divmod(hundredths, 6000)
        clock = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds / 100:05.2f}"
        lines.append(f"01/01/2000,{clock},{x * 1000:.2f},{y * 1000:.2f},{z * 1000:.2f},0.00,0.00,0.00,\r\n")
    return "".join(lines).encode("ascii")


def simple_heading(rate: float) -> bytes:
    """Return what the SimpleAccelerometer sketch prints at its start."""
    return f"Accelerometer sample rate = {rate:.2f} Hz\r\nX\tY\tZ\r\n".encode("ascii")


def encode_simple(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as the SimpleAccelerometer sketch prints them, without number or time."""
    return "".join(f"{x:.2f}\t{y:.2f}\t{z:.2f}\r\n" for x, y, z in _numbers(xyz)).encode("ascii")


def encode_mpu6050_raw(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as the MPU6050_raw sketch prints them, ±2 g, without number or time."""
    return b"".join(b"a/g:\t%d\t%d\t%d\t0\t0\t0\r\n" % counts for counts in to_counts(xyz, 16384))


def _numbers(xyz: NDArray[np.float32]) -> list[Vector]:
    return [(x, y, z) for x, y, z in np.nan_to_num(np.asarray(xyz, np.float64)).tolist()]
