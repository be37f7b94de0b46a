"""What can be brought back of a damaged night, by HDF5 or without it.

HDF5 refuses a file that is shorter than it says, and finds nothing where a group, an object header or the root of an
index is damaged, although the samples and the leaves of their index lie there unharmed. A night is written in HDF5's
oldest layout, whose parts carry marks of their own, so they can be found wherever they are: nodes of version 1 B-trees,
which say for each chunk where it belongs, attributes by their names, data spaces by their limits (HDF5 File Format
Specification, III.A, IV.A.2). Samples are never guessed: a chunk counts if a node says where it lies and belongs, no
other one claims its place or its samples, and it unpacks to what it should.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import DataError, HypnicError, UsageError
from hypnic.events import Events
from hypnic.readers.base import UNREADABLE, BaseRecording, Damage, parse_start
from hypnic.recording.check import HEAP_MARK, LARGEST_TABLE
from hypnic.recording.chunks import LARGEST, decompressobj, inflated
from hypnic.recording.layout import REPAIR, TABLES, WITHDRAWN, file_dtype, readable, rows_of_file
from hypnic.recording.night import Recording
from hypnic.recording.recorder import write_recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Repair", "repair"]

MOST_CHUNKS: Final = 64
"""Chunks that one node of an index lists: HDF5's own number, which hypnic never changed."""

MOST_NODES: Final = 100_000
"""Nodes of indices that are looked at: a week at 100 Hz has some 300."""

TABLE_ROWS: Final = 1024
"""Rows of a chunk of a table (`hypnic.recording.layout.create_table`)."""

LONGEST_TEXT: Final = 1 << 16
"""Bytes of an attribute that is a text: HDF5 keeps larger ones elsewhere."""

_NODE: Final = re.compile(rb"TREE\x01\x00(..)", re.DOTALL)
"""A leaf of an index of chunks, and how many it lists."""

_SAMPLES: Final = re.compile(
    rb"\x01\x02\x01\x00{5}(.{8})\x03\x00{7}\xff{8}\x03\x00{7}(?:\x03\x00.{6}(.))?", re.DOTALL
)
"""The data space of the samples, n x 3, n without limit; and the class of the data type that follows."""

_TABLE: Final = re.compile(rb"\x01\x01\x01\x00{5}(.{8})\xff{8}\x03\x00(..).{4}(\x16)", re.DOTALL)
"""The data space of a table, n without limit; bytes and beginning of its compound data type."""

_COLUMN: Final = {
    "gaps": b"missing\0",
    "clock": b"utc\0",
    "events": b"prominence\0",
    "annotations": b"source\0",
}
"""A column that no other table has."""

_INTEGER, _FLOAT, _TEXT, _LONG_TEXT = 0, 1, 3, 9
"""Classes of data types."""


@dataclass(frozen=True)
class Repair:
    """What was found wrong with a night, and what was brought back.

    Attributes
    ----------
    path : Path
        The night.
    out : Path or None
        The night that was written; None where nothing was wrong.
    wrong : tuple of str
        What is wrong, in plain sentences.
    rate : float
        Sampling rate in Hz.
    samples : int
        Samples that can be read.
    missing : int
        Samples that were there once and cannot be read.
    places : int
        Stretches of them.
    tables : dict of str to int or None
        Rows of each table that were brought back, None where it is lost.
    notes : tuple of str
        What to bear in mind.
    """

    path: Path
    out: Path | None
    wrong: tuple[str, ...]
    rate: float
    samples: int
    missing: int
    places: int
    tables: dict[str, int | None]
    notes: tuple[str, ...] = ()


def repair(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    rate: float | None = None,
    scale: float | None = None,
    site: str | None = None,
    overwrite: bool = False,
) -> Repair:
    """Write a sound night of what can be brought back of a damaged one, which is never changed.

    Parameters
    ----------
    path : path-like
        The night: cut short, cut off while it was recorded, or damaged.
    out : path-like, optional
        The night to write; by default beside it, as ``name-repaired.h5``. Where nothing is wrong none is written.
    rate, scale, site : optional
        Sampling rate (Hz), g per count and place of the sensor, where the file has lost them.
    overwrite : bool
        Whether an existing file is replaced.

    Returns
    -------
    Repair

    Raises
    ------
    DataError
        If nothing can be brought back, or the file to write exists already.
    UsageError
        If an option is none, or the night itself is to be overwritten.
    OSError
        If the night cannot be read, or the other not be written.
    """
    file = Path(path)
    target = file.with_name(f"{file.stem}-repaired.h5") if out is None else Path(out)
    if rate is not None:
        check_rate(rate)
    if site is not None:
        check_site(site)
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    if target.exists() and target.samefile(file):
        raise UsageError(f"{target}: that is the night itself, which is never changed: choose another name")
    given: dict[str, Any] = {"rate": rate, "scale": scale, "site": site}
    night: Recording | None = None
    try:
        night = Recording(file, **given)
        plain = _read(night)
    except DataError as error:
        plain = _Read(0, (), (str(error).removeprefix(f"{file}: ").removesuffix(f"; {REPAIR}"),))
    try:
        if night is not None and not plain.wrong:
            return Repair(file, None, (), night.rate, plain.samples, 0, 0, _counts(night))
        source: BaseRecording | None = night
        lost = plain.lost
        try:
            found = _salvage(file, night, plain.lost, **given)
        except HypnicError:
            if night is None:
                raise
        else:
            if night is None or found.readable >= plain.samples:
                source, lost = found, found.lost
        assert source is not None
        told = {name: getattr(source, "attrs", {}).get(name) for name in ("subject", "notes")}
        attrs = {name: text for name, text in told.items() if text}
        write_recording(target, source, overwrite=overwrite, attrs=attrs, leave_out=lost)
    finally:
        if night is not None:
            night.close()
    with Recording(target) as written:
        return Repair(
            file,
            target,
            plain.wrong,
            written.rate,
            written.n_samples,
            source.n_samples - written.n_samples,
            len(source.damage),
            _counts(written) | dict.fromkeys(lost),
            tuple(source.notes),
        )


def _counts(night: BaseRecording) -> dict[str, int | None]:
    """Return how many rows each table has."""
    events = night.events()
    return {
        "gaps": len(night.gaps),
        "clock": len(night.clock),
        "events": 0 if events is None else len(events),
        "annotations": len(night.annotations),
    }


class _Read(NamedTuple):
    """What ordinary reading gives: samples, the tables that it does not give, and all that is wrong."""

    samples: int
    lost: tuple[str, ...]
    wrong: tuple[str, ...]


def _read(night: Recording) -> _Read:
    """Read all of a night."""
    wrong = ["its recorder has not closed it"] if night.unfinished else []
    lost = []
    samples = 0
    try:
        samples = sum(len(chunk) for chunk in night)
    except DataError as error:
        wrong.append(str(error).removeprefix(f"{night.path}: "))
    if night.damage:
        missing = sum(damage.missing for damage in night.damage)
        wrong.append(f"{missing} samples cannot be read: {night.damage[0].reason}")
    tables = {"clock": lambda: night.clock, "annotations": lambda: night.annotations, "events": night.events}
    for name, take in tables.items():
        try:
            take()
        except DataError as error:
            lost.append(name)
            wrong.append(str(error).removeprefix(f"{night.path}: "))
    return _Read(samples, tuple(lost), tuple(wrong))


# Without HDF5


class _Chunk(NamedTuple):
    """Where an index says that a chunk lies: first row, bytes, where they begin, filters left out."""

    row: int
    size: int
    at: int
    skipped: int


def _leaves(data: mmap.mmap, axes: int) -> list[tuple[list[_Chunk], tuple[int, ...]]]:
    """Return the chunks that each leaf of an index of so many axes lists, and the key after them.

    A leaf whose keys are none is left out. What lies beyond the end of the file was cut off.
    """
    key = struct.Struct(f"<II{axes + 1}Q")
    found = []
    for seen, match in enumerate(_NODE.finditer(data)):
        count = int.from_bytes(match[1], "little")
        at = match.start() + 24
        end = at + count * (key.size + 8) + key.size
        if seen >= MOST_NODES:
            break
        if not 1 <= count <= MOST_CHUNKS or end > len(data):
            continue
        chunks: list[_Chunk] = []
        for place in range(at, end - key.size, key.size + 8):
            size, skipped, row, *others = key.unpack_from(data, place)
            address = int.from_bytes(data[place + key.size : place + key.size + 8], "little")
            if any(others) or not size or not address or (chunks and row <= chunks[-1].row):
                break
            chunks.append(_Chunk(row, size, address, skipped))
        if len(chunks) == count:
            found.append((chunks, key.unpack_from(data, end - key.size)[2:]))
    return found


def _undisputed(chunks: list[_Chunk]) -> list[_Chunk]:
    """Leave out chunks that claim the same rows or the same bytes: one of them is wrong, and which is not known."""
    claims = Counter(chunk.row for chunk in chunks)
    placed = sorted((chunk for chunk in chunks if claims[chunk.row] == 1), key=lambda chunk: chunk.at)
    doubtful, end, holder = set(), 0, -1
    for number, chunk in enumerate(placed):
        if chunk.at < end:
            doubtful |= {number, holder}
        if chunk.at + chunk.size > end:
            end, holder = chunk.at + chunk.size, number
    return sorted(chunk for number, chunk in enumerate(placed) if number not in doubtful)


@dataclass(frozen=True)
class _Store:
    """Where the chunks of a data set lie, and how they are to be read.

    Attributes
    ----------
    data : mmap
        The file.
    chunks : dict of int to _Chunk
        By their first rows.
    length : int
        Rows of a chunk.
    width : int
        Bytes of what is shuffled as one: a number, or a row of a table.
    row : int
        Bytes of a row.
    packed : bool
        Whether the chunks are deflated and shuffled.
    """

    data: mmap.mmap
    chunks: dict[int, _Chunk]
    length: int
    width: int
    row: int
    packed: bool

    @property
    def end(self) -> int:
        """The row after those that chunks are known for."""
        return max(self.chunks) + self.length

    def content(self, start: int) -> bytes:
        """Return the whole rows of the chunk that begins at row `start`: fewer where the file ends, none if damaged."""
        chunk, size = self.chunks[start], self.length * self.row
        if chunk.skipped:
            return b""
        stored = self.data[chunk.at : chunk.at + chunk.size]
        if not self.packed:
            return stored[: len(stored) // self.row * self.row] if chunk.size == size else b""
        try:
            plain = inflated(stored, size)
        except OSError:
            return b""
        return b"" if plain is None else np.frombuffer(plain, np.uint8).reshape(self.width, -1).T.tobytes()


def _sample_store(data: mmap.mmap) -> _Store | None:
    """Return where the samples are; None where no leaf of their index is left."""
    leaves = [leaf for leaf in _leaves(data, 2) if leaf[1][1:] in ((0, 0), (3, 2), (3, 4))]
    chunks = _undisputed([chunk for leaf in leaves for chunk in leaf[0]])
    if not chunks:
        return None
    sizes = {chunk.size for chunk in chunks}
    whole = [size for chunk in chunks[:MOST_CHUNKS] if (size := _inflated_size(data, chunk))]
    packed = len(sizes) > 1 or bool(whole)
    common = Counter(whole or sizes).most_common(1)
    widths = {after[2] for _, after in leaves if after[1]} or {2, 4}
    steps = np.diff([chunk.row for chunk in chunks])
    step = int(steps.min()) if len(steps) else 0
    for width in sorted(widths):
        length, rest = divmod(common[0][0], 3 * width)
        if not rest and (not step or length == step or (len(widths) == 1 and step % length == 0)):
            placed = {chunk.row: chunk for chunk in chunks if chunk.row % length == 0}
            return _Store(data, placed, length, width, 3 * width, packed)
    return None


def _inflated_size(data: mmap.mmap, chunk: _Chunk) -> int:
    """Return how many bytes a chunk inflates to, 0 where it is not deflated, or damaged."""
    stream = decompressobj()
    try:
        size = len(stream.decompress(data[chunk.at : chunk.at + chunk.size], LARGEST))
    except Exception:  # whatever the library calls its error
        return 0
    return size if stream.eof else 0


def _tables(data: mmap.mmap) -> dict[str, NDArray[np.void]]:
    """Return the tables of which all is there."""
    stated: dict[str, set[int]] = {name: set() for name in TABLES}
    for match in _TABLE.finditer(data):
        kind = data[match.start(3) : match.start(3) + int.from_bytes(match[2], "little")]
        for name, column in _COLUMN.items():
            if column in kind:
                stated[name].add(int.from_bytes(match[1], "little"))
    leaves, found = _leaves(data, 1), {}
    for name, dtype in TABLES.items():
        stored = file_dtype(dtype)
        chunks = _undisputed([c for leaf, after in leaves if after[1] == stored.itemsize for c in leaf])
        size = TABLE_ROWS * stored.itemsize
        if len(stated[name]) > 1 or len(chunks) * size > LARGEST_TABLE:
            continue
        count = next(iter(stated[name]), None)
        if not chunks:
            if count == 0:
                found[name] = np.zeros(0, dtype)
            continue
        packed = any(chunk.size != size for chunk in chunks)
        store = _Store(data, {c.row: c for c in chunks}, TABLE_ROWS, stored.itemsize, stored.itemsize, packed)
        content = b"".join(store.content(start) for start in sorted(store.chunks))
        rows = np.frombuffer(content, stored)
        if len(rows) != store.end or (count is not None and count > len(rows)):
            continue
        if count is None:
            filled = np.flatnonzero(rows != np.zeros((), stored))
            count = int(filled[-1]) + 1 if len(filled) else 0
        found[name] = rows_of_file(rows[:count], dtype)
    return found


def _attribute(data: mmap.mmap, name: str) -> float | str | None:
    """Return the value of the first attribute of that name in the file; None where there is none of a known kind."""
    word = name.encode() + b"\0"
    pattern = re.compile(
        rb"\x01\x00" + re.escape(struct.pack("<H", len(word))) + rb"(..)(..)" + word, re.DOTALL
    )
    for match in pattern.finditer(data):
        kind_at = match.start() + 8 + _padded(len(word))
        kind_size, space_size = (int.from_bytes(match[at], "little") for at in (1, 2))
        at = kind_at + _padded(kind_size) + _padded(space_size)
        if at + 16 > len(data):
            continue
        kind, size = data[kind_at] & 15, int.from_bytes(data[kind_at + 4 : kind_at + 8], "little")
        raw = data[at : at + min(size, LONGEST_TEXT)]
        if kind == _FLOAT and size in (4, 8):
            return float(struct.unpack("<f" if size == 4 else "<d", raw)[0])
        if kind == _INTEGER and size in (1, 2, 4, 8):
            return float(int.from_bytes(raw, "little", signed=True))
        if kind == _TEXT:
            return readable(raw.rstrip(b"\0 "))
        if kind == _LONG_TEXT and (text := _heap_text(data, *struct.unpack("<IQI", data[at : at + 16]))):
            return readable(text)
    return None


def _heap_text(data: mmap.mmap, length: int, collection: int, number: int) -> bytes:
    """Return an object of a collection of the global heap (III.E); empty where it is not there."""
    if data[collection : collection + 4] != HEAP_MARK:
        return b""
    end = min(collection + int.from_bytes(data[collection + 8 : collection + 16], "little"), len(data))
    at = collection + 16
    while at + 16 <= end:
        size = int.from_bytes(data[at + 8 : at + 16], "little")
        if int.from_bytes(data[at : at + 2], "little") == number:
            return data[at + 16 : at + 16 + min(length, size, LONGEST_TEXT)]
        at += 16 + _padded(size)
    return b""


def _padded(size: int) -> int:
    return -(-size // 8) * 8


class _Salvage(BaseRecording):
    """What the parts of a night say by themselves. `_salvage` makes one.

    Attributes
    ----------
    readable : int
        Samples that can be read.
    lost : tuple of str
        Tables that are not there.
    attrs : dict of str to str
        What people wrote.
    """

    def __init__(
        self,
        path: Path,
        store: _Store,
        dtype: np.dtype[Any],
        runs: list[tuple[int, int]],
        tables: dict[str, NDArray[np.void]],
        attrs: dict[str, str],
        meta: dict[str, Any],
        **facts: Any,
    ) -> None:
        super().__init__(path, gaps=tables.get("gaps"), dtype=dtype.name, **facts)
        self._store, self._dtype, self._runs, self._tables = store, dtype, runs, tables
        self.readable = sum(high - low for low, high in runs)
        self.lost = tuple(name for name in TABLES if name not in tables)
        self.attrs = attrs
        self._meta = meta
        edges = [0, *(edge for run in runs for edge in run), self._count]
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            if high > low:
                first = self._number(low)
                self.damage.append(Damage(first, self._number(high - 1) + 1 - first, UNREADABLE))

    def _present(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        for low, high in self._runs:
            if max(low, begin) < min(high, end):
                yield max(low, begin), min(high, end)

    def _load(self, begin: int, end: int) -> NDArray[np.float32]:
        length, parts = self._store.length, []
        for start in range(begin - begin % length, end, length):
            rows = np.frombuffer(self._store.content(start), self._dtype).reshape(-1, 3)
            parts.append(rows[max(begin - start, 0) : end - start])
        # As `Recording` has them: one product in float64, rounded once.
        return (np.concatenate(parts) * np.float64(self.scale or 1.0)).astype(np.float32)

    @property
    def clock(self) -> NDArray[np.void]:
        """Pairings of sample, device tick and wall clock."""
        return self._tables.get("clock", super().clock)

    @property
    def annotations(self) -> NDArray[np.void]:
        """Remarks."""
        rows = self._tables.get("annotations", super().annotations)
        kept: NDArray[np.void] = rows[rows["label"] != WITHDRAWN]
        return kept

    def events(self) -> Events | None:
        """Return the events, the last revision of each."""
        rows = self._tables.get("events")
        return None if rows is None or not len(rows) else Events(rows, self._meta).latest()


def _salvage(
    path: Path,
    night: Recording | None,
    unread: tuple[str, ...],
    rate: float | None,
    scale: float | None,
    site: str | None,
) -> _Salvage:
    """Put together what is left in a file; what HDF5 knows of the `night`, all but tables `unread`, comes from there.

    Raises
    ------
    DataError
        If no leaf of the index of the samples is left, or the rate or the scale is lost.
    """
    with path.open("rb") as handle:
        if not os.fstat(handle.fileno()).st_size:
            raise DataError(f"{path}: it is empty")
        # Whoever still reads from it keeps it open.
        data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    store = _sample_store(data)
    if store is None:
        raise DataError(f"{path}: nothing in it can be brought back: no index of samples is left in it")
    spaces = [(int.from_bytes(found[1], "little"), found[2]) for found in _SAMPLES.finditer(data)]
    count, kind = min((space for space in spaces if space[0] > max(store.chunks)), default=(0, None))
    dtype = np.dtype("<i2") if store.width == 2 else _wide_number(store, kind)
    runs: list[tuple[int, int]] = []
    for start in sorted(store.chunks):
        end = start + len(store.content(start)) // store.row
        end = min(end, count) if count else end
        if runs and runs[-1][1] == start < end:
            runs[-1] = runs[-1][0], end
        elif start < end:
            runs.append((start, end))
    if not runs:
        raise DataError(f"{path}: nothing in it can be brought back: all of its samples are damaged")
    notes = []
    if not count:
        last = np.frombuffer(store.content(max(store.chunks)), dtype).reshape(-1, 3)
        filled = np.flatnonzero(last.any(axis=1))
        count = max(store.chunks) + (int(filled[-1]) + 1 if len(filled) else 0)
        runs = [(low, min(high, count)) for low, high in runs if low < count]
        notes.append("how many samples there were is lost: zeros at the end are taken for none")
    tables, meta = _tables(data), {}
    if night is not None:
        tables = {"gaps": night.gaps} | tables
        tables |= {name: getattr(night, name) for name in ("clock", "annotations") if name not in unread}
        if "events" not in unread:
            events = night.events()
            tables["events"] = np.empty(0, TABLES["events"]) if events is None else events.array
            meta = {} if events is None else events.meta
    if "gaps" not in tables:
        notes.append("the table of gaps is lost: samples after a loss, if there was any, stand too early")
    facts = {
        name: _attribute(data, name)
        for name in ("sampling_rate", "scale", "site", "start_time", "range_g", "sensor")
    }
    rate = rate or (night.rate if night is not None else _above_zero(facts["sampling_rate"]))
    if rate is None:
        raise DataError(f"{path}: its sampling rate is lost: give it (--rate)")
    scale = scale or (night.scale if night is not None else _above_zero(facts["scale"]))
    if scale is None and dtype.kind == "i":
        raise DataError(f"{path}: the scale of its counts is lost: give it, in g per count (--scale)")
    place = site or (night.site if night is not None else facts["site"])
    if place not in ("wrist", "mattress"):
        place = "wrist"
        notes.append("where the sensor was is lost: the wrist is assumed")
    moment = None if night is None else night.start_time
    if moment is None and isinstance(facts["start_time"], str):
        try:
            moment = parse_start(facts["start_time"])[0]
        except UsageError:
            notes.append("its start time is lost")
    attrs = {name: text for name in ("subject", "notes") if isinstance(text := _attribute(data, name), str)}
    return _Salvage(
        path,
        store,
        dtype,
        runs,
        tables,
        attrs,
        meta,
        n_samples=count,
        rate=rate,
        site=place,
        scale=scale if dtype.kind == "i" else None,
        start_time=moment,
        range_g=_above_zero(facts["range_g"]),
        sensor=facts["sensor"] if isinstance(facts["sensor"], str) else "",
        notes=notes,
    )


def _above_zero(value: float | str | None) -> float | None:
    return value if isinstance(value, float) and 0 < value < math.inf else None


def _wide_number(store: _Store, kind: bytes | None) -> np.dtype[Any]:
    """Return the type of samples of four bytes: by the class of their data type, or by what they look like."""
    if kind is not None and kind[0] & 15 in (_INTEGER, _FLOAT):
        return np.dtype("<f4" if kind[0] & 15 == _FLOAT else "<i4")
    content = next((part for start in sorted(store.chunks) if (part := store.content(start))), b"")
    numbers = np.abs(np.frombuffer(content, "<f4"))
    numbers = numbers[numbers != 0]
    # Counts of some thousand are, as floats, no number or next to none.
    with np.errstate(invalid="ignore"):
        likely = (numbers > 1e-6) & (numbers < 1e3)
    return np.dtype("<f4" if len(numbers) and likely.mean() > 0.5 else "<i4")
