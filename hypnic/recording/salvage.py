"""What can be brought back of a damaged night, by HDF5 or without it.

HDF5 refuses a file that is shorter than it says, and finds nothing where a group, an object header or the root of an
index is damaged, although the samples and the leaves of their index lie there unharmed. A night is written in HDF5's
oldest layout, whose parts carry marks of their own, so they can be found wherever they are: nodes of version 1 B-trees,
which say for each chunk where it belongs, attributes by their names, data spaces by their limits (HDF5 File Format
Specification, III.A and IV.A.2). Samples are never guessed: a chunk counts if a node says where it lies and belongs, no
other one claims its place or its bytes, and, once a night is closed, if it inflates to what it should, by its checksum.
While a night is recorded its samples carry none: damage of the samples themselves cannot be told then.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import DataError, HypnicError, UsageError
from hypnic.events import Events
from hypnic.readers.base import UNREADABLE, BaseRecording, Damage, infer_unit, parse_start
from hypnic.recording.check import HEAP_MARK, LARGEST_TABLE
from hypnic.recording.chunks import LARGEST, inflated
from hypnic.recording.layout import (
    MOST_AT_ONCE,
    REPAIR,
    TABLES,
    WITHDRAWN,
    file_dtype,
    locked,
    readable,
    rows_of_file,
)
from hypnic.recording.night import Recording
from hypnic.recording.recorder import write_recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Repair", "repair"]

MOST_CHUNKS: Final = 64
"""Chunks that one node of an index lists: HDF5's own number, which hypnic never changed."""

MOST_NODES: Final = 5000
"""Nodes of the indices of a file: those of a night of 200 days. They are held in memory."""

MOST_MATCHES: Final = 64
"""Attributes of one name that are looked at: a night has one or two."""

MOST_TEXTS: Final = 4096
"""Entries of a heap of texts that are gone through: a night has ten or twenty."""

LONGEST_TEXT: Final = 1 << 16
"""Bytes of an attribute that is a text: HDF5 keeps larger ones elsewhere."""

NO_CHECKSUM: Final = (
    "samples of a night that was not closed have no checksum: damage to themselves cannot be told"
)

TABLE_ROWS: Final = 1024
"""Rows of a chunk of a table (`hypnic.recording.layout.create_table`)."""

SECTOR: Final = 512
"""Bytes that a disk gives or loses at once; programs that save what they can of one put zeros in their place.

No sensor gives exactly 0 g on three axes, so a whole sector of zeros among samples that are not packed is none.
"""

MOST_AHEAD: Final = 1000
"""Rows that a recorder may have stored beyond those it has declared: half a second at the highest rate, and twice."""

WINDOW, OVERLAP = 1 << 24, 1 << 12
"""Bytes of a file looked at in one go, and how far what begins in them may reach beyond."""

_NODE: Final = re.compile(rb"TREE\x01(.)(..)(.{8})(.{8})", re.DOTALL)
"""A node of an index of chunks: its level, how many it lists, the nodes to its left and right."""

_SAMPLES: Final = re.compile(
    rb"\x01\x02\x01\x00{5}(.{8})\x03\x00{7}\xff{8}\x03\x00{7}(?:\x03\x00.{6}(.)(.)..(.{4}))?", re.DOTALL
)
"""The data space of the samples, n x 3, n without limit; class, flags and size of the data type that follows."""

_FILTERS: Final = re.compile(rb"\x0b\x00...\x00{3}\x01(.)\x00{6}(..)", re.DOTALL)
"""How many filters a data set has, and which is the first."""

_HEADER_REACH, _FILTERS_REACH = 1024, 256
"""Bytes after the data space of the samples, and after the data type of a table, within which the filters stand."""

_TABLE: Final = re.compile(rb"\x01\x01\x01\x00{5}(.{8})\xff{8}\x03\x00(..).{4}\x16.{3}(.{4})", re.DOTALL)
"""The data space of a table, n without limit; bytes of its compound data type, and of a row."""

_COLUMN: Final = {
    "gaps": b"missing\0",
    "clock": b"utc\0",
    "events": b"prominence\0",
    "annotations": b"source\0",
}
"""A column that no other table of a night has."""

_INTEGER, _FLOAT, _TEXT, _LONG_TEXT = 0, 1, 3, 9
"""Classes of data types."""

_SHUFFLE, _DEFLATE = 2, 1
"""Numbers of the filters."""

_DEFLATE_SKIPPED: Final = 0b10
"""Filters left out where deflating, the second, would not have shrunk a chunk."""


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

    Of the attributes of a file that HDF5 does not open, those that hypnic writes are brought back. Samples of a night
    that was not closed carry no checksum: where they themselves are damaged nobody can tell.

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
    if scale is not None and not 0 < scale < math.inf:
        raise UsageError(f"scale {scale!r} is not a number above 0 of g per count")
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    if target.exists() and target.samefile(file):
        raise UsageError(f"{target}: that is the night itself, which is never changed: choose another name")
    if target.exists() and not overwrite:
        raise DataError(
            f"{target}: the file exists already: choose another name or overwrite it (--overwrite)"
        )
    if not target.parent.is_dir():
        raise DataError(f"{target}: there is no folder {target.parent}")
    if locked(file):
        raise DataError(f"{file}: the file is being recorded or changed by another process")
    given: dict[str, Any] = {"rate": rate, "scale": scale, "site": site}
    faults = _faults(file, given)
    night: Recording | None = None
    plain = _Read(0, (), ())
    with contextlib.suppress(DataError):
        night = Recording(file, **given)
        plain = _read(night)
    try:
        with file.open("rb") as handle:
            source, lost, more = _best(file, _Bytes(handle), night, plain, given)
            wrong = (*faults, *plain.wrong, *more)
            if night is not None and not wrong:
                return Repair(file, None, (), night.rate, plain.samples, 0, 0, _counts(night))
            partial = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                attrs = {
                    name: value
                    for name, value in source.attrs.items()
                    if isinstance(value, str | float | int)
                }
                write_recording(partial, source, attrs=attrs, leave_out=lost)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
    finally:
        if night is not None:
            night.close()
    with Recording(target) as written:
        return Repair(
            file,
            target,
            wrong,
            written.rate,
            written.n_samples,
            source.n_samples - written.n_samples,
            len(source.damage),
            _counts(written) | {"gaps": len(source.gaps)} | dict.fromkeys(lost),
            tuple(dict.fromkeys((*source.notes, *_doubts(written, source)))),
        )


def _faults(file: Path, given: dict[str, Any]) -> list[str]:
    """Say why a night cannot be opened as it is, or what it says that is not what is given."""
    try:
        with Recording(file) as night:
            said = {"rate": night.rate, "scale": night.scale, "site": night.site}
    except DataError as error:
        return [str(error).removeprefix(f"{file}: ").removesuffix(f"; {REPAIR}")]
    return [
        f"it says that its {name} is {said[name]}, and {value} is given"
        for name, value in given.items()
        if value is not None and said[name] is not None and value != said[name]
    ]


def _best(
    file: Path, data: _Bytes, night: Recording | None, plain: _Read, given: dict[str, Any]
) -> tuple[Recording | _Salvage, tuple[str, ...], tuple[str, ...]]:
    """Return what gives most, HDF5 or what is found without it; the tables that are lost; what HDF5 does not say."""
    if night is not None and not _ours(night):
        return night, plain.lost, ()
    try:
        found = _salvage(file, data, night, plain.lost, **given)
    except HypnicError:
        if night is None:
            raise
        return night, plain.lost, ()
    if night is None:
        return found, found.lost, ()
    if found.n_samples > night.n_samples:
        return found, found.lost, (f"it says that it has {night.n_samples} samples: there are more",)
    if found.zeros:
        return found, found.lost, (f"{found.zeros} samples lie in sectors of zeros, which no sensor gives",)
    if (found.readable, -len(found.lost)) > (plain.samples, -len(plain.lost)):
        return found, found.lost, ()
    return night, plain.lost, ()


def _ours(night: Recording) -> bool:
    """Tell whether a night is stored as hypnic stores one, which others may have changed."""
    return bool(night.version) and night.units == "g" and night.as_hypnic_stores


def _doubts(night: Recording, source: BaseRecording) -> Iterator[str]:
    """Say where what came back does not look like acceleration, or cannot be sure to be what it was."""
    if source.unfinished:
        yield NO_CHECKSUM
    if infer_unit(night.read(0.0, min(night.duration, 600.0)), night.rate) != "g":
        yield "gravity cannot be seen in what came back: rate, scale or samples may be others"


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
    lost = ["gaps"] if night.gaps_unread else []
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


class _Bytes:
    """The bytes of a file, read as they are wanted: a mapped one would end the process where its disk fails."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._file = handle.fileno()
        self.size = os.fstat(self._file).st_size
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def at(self, begin: int, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the file."""
        parts = []
        while size > 0 and begin < self.size and (part := os.pread(self._file, min(size, WINDOW), begin)):
            parts.append(part)
            begin, size = begin + len(part), size - len(part)
        return b"".join(parts)

    def find(self, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, re.Match[bytes]]]:
        """Yield every match, and where in the file it begins."""
        for start in range(0, self.size, WINDOW):
            for match in pattern.finditer(self.at(start, WINDOW + OVERLAP)):
                if match.start() < WINDOW:
                    yield start + match.start(), match

    def text(self, collection: int, number: int) -> bytes:
        """Return an object of a collection of the global heap (III.E); empty where it is not there."""
        if collection not in self._heaps:
            self._heaps[collection] = self._heap(collection)
        return self.at(*self._heaps[collection].get(number, (0, 0)))

    def _heap(self, collection: int) -> dict[int, tuple[int, int]]:
        head = self.at(collection, 16)
        found: dict[int, tuple[int, int]] = {}
        if head[:4] != HEAP_MARK:
            return found
        at, end = collection + 16, collection + int.from_bytes(head[8:], "little")
        while at + 16 <= min(end, self.size) and len(found) < MOST_TEXTS:
            entry = self.at(at, 16)
            size = int.from_bytes(entry[8:], "little")
            number = int.from_bytes(entry[:2], "little")
            if not number:
                break
            found[number] = at + 16, min(size, LONGEST_TEXT)
            at += 16 + _padded(size)
        return found


class _Chunk(NamedTuple):
    """Where an index says that a chunk lies: first row, bytes, where they begin, filters left out."""

    row: int
    size: int
    at: int
    skipped: int


class _Index(NamedTuple):
    """What is left of the index of one data set: its chunks, and the keys after the last of each leaf."""

    chunks: set[_Chunk]
    ends: set[tuple[int, ...]]


def _indices(data: _Bytes, axes: int) -> list[_Index]:
    """Return the indices of the data sets of so many axes: the leaves that other nodes, or each other, hold together.

    What lies beyond the end of the file was cut off.

    Raises
    ------
    DataError
        If there are more than of any night.
    """
    key = struct.Struct(f"<II{axes + 1}Q")
    leaves: list[tuple[int, _Index]] = []
    together = _Together()
    for number, (begin, match) in enumerate(data.find(_NODE)):
        if number >= MOST_NODES:
            raise DataError("there are more nodes of indices in it than in any night")
        count, level = int.from_bytes(match[2], "little"), match[1][0]
        if not 1 <= count <= MOST_CHUNKS:
            continue
        content = data.at(begin + 24, count * (key.size + 8) + key.size)
        if len(content) < count * (key.size + 8) + key.size:
            continue
        chunks, doubtful, children = set(), 0, []
        for place in range(0, count * (key.size + 8), key.size + 8):
            size, skipped, row, *others = key.unpack_from(content, place)
            child = int.from_bytes(content[place + key.size : place + key.size + 8], "little")
            children.append(child)
            if any(others) or not child or (not size and not level):
                doubtful += 1
            else:
                chunks.add(_Chunk(row, size, child, skipped))
        if doubtful > count // 2:
            continue
        for other in (*(int.from_bytes(match[k], "little") for k in (3, 4)), *(children if level else ())):
            if other + 1 < 1 << 64:
                together.join(begin, other)
        if not level:
            leaves.append((begin, _Index(chunks, {key.unpack_from(content, len(content) - key.size)[2:]})))
    found: dict[int, _Index] = {}
    for begin, leaf in leaves:
        index = found.setdefault(together.of(begin), _Index(set(), set()))
        index.chunks.update(leaf.chunks)
        index.ends.update(leaf.ends)
    return list(found.values())


class _Together:
    """Which addresses belong together (union-find)."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def of(self, address: int) -> int:
        """Return the address that stands for all that belong to one."""
        while (above := self._above.get(address, address)) != address:
            address = above
        return address

    def join(self, one: int, other: int) -> None:
        """Take note that two belong together."""
        self._above[self.of(one)] = self.of(other)


def _undisputed(chunks: list[_Chunk]) -> dict[int, _Chunk]:
    """Leave out chunks that claim the same rows or the same bytes: one of them is wrong, and which is not known."""
    claims = Counter(chunk.row for chunk in chunks)
    placed = sorted((chunk for chunk in chunks if claims[chunk.row] == 1), key=lambda chunk: chunk.at)
    doubtful, end, holder = set(), 0, -1
    for number, chunk in enumerate(placed):
        if chunk.at < end:
            doubtful |= {number, holder}
        if chunk.at + chunk.size > end:
            end, holder = chunk.at + chunk.size, number
    return {chunk.row: chunk for number, chunk in enumerate(placed) if number not in doubtful}


@dataclass
class _Store:
    """Where the chunks of a data set lie, and how they are to be read.

    Attributes
    ----------
    data : _Bytes
        The file.
    chunks : dict of int to _Chunk
        By their first rows.
    length : int
        Rows of a chunk.
    width : int
        Bytes of what is shuffled as one: a number, or a row of a table.
    row : int
        Bytes of a row.
    packed, shuffled : bool
        Whether the chunks are deflated, and shuffled before.
    """

    data: _Bytes
    chunks: dict[int, _Chunk]
    length: int
    width: int
    row: int
    packed: bool
    shuffled: bool = True
    _kept: tuple[int, bytes] = (-1, b"")

    @property
    def end(self) -> int:
        """The row after those that chunks are known for."""
        return max(self.chunks) + self.length

    def whole(self, start: int) -> int:
        """Return how many rows of the chunk that begins at row `start` there are: fewer where the file ends."""
        chunk = self.chunks[start]
        if self.packed:
            return len(self.rows(start, 0, self.length)) // self.row
        if chunk.size != self.length * self.row or chunk.skipped:
            return 0
        return min(self.length, max(0, self.data.size - chunk.at) // self.row)

    def runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the stretches of rows, up to row `stop`, that the chunk that begins at row `start` gives."""
        end = min(start + self.whole(start), stop)
        if self.packed or end <= start:
            return [(start, end)] if end > start else []
        first, size = self.chunks[start].at, (end - start) * self.row
        edges = [start]
        for at in range(-first % SECTOR, size - SECTOR + 1, WINDOW):
            sectors = np.frombuffer(self.data.at(first + at, min(WINDOW, size - at)), np.uint8)
            sectors = sectors[: len(sectors) // SECTOR * SECTOR].reshape(-1, SECTOR)
            for number in np.flatnonzero(~sectors.any(axis=1)).tolist():
                zero = at + number * SECTOR
                edges += [start + zero // self.row, start - (-(zero + SECTOR) // self.row)]
        edges.append(end)
        return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high > low]

    def rows(self, start: int, low: int, high: int) -> bytes:
        """Return the bytes of some rows of the chunk that begins at row `start`; none where it is damaged."""
        if not self.packed:
            return self.data.at(self.chunks[start].at + low * self.row, (high - low) * self.row)
        if self._kept[0] != start:
            self._kept = start, self._unpacked(self.chunks[start])
        return self._kept[1][low * self.row : high * self.row]

    def _unpacked(self, chunk: _Chunk) -> bytes:
        size = self.length * self.row
        if chunk.size > max(size, LARGEST) or chunk.skipped not in (0, _DEFLATE_SKIPPED):
            return b""
        stored: bytes | None = self.data.at(chunk.at, chunk.size)
        if not chunk.skipped:
            try:
                stored = inflated(stored or b"", size)
            except OSError:
                return b""
        if stored is None or len(stored) != size:
            return b""
        return (
            np.frombuffer(stored, np.uint8).reshape(self.width, -1).T.tobytes() if self.shuffled else stored
        )


def _sample_store(data: _Bytes) -> tuple[_Store, np.dtype[Any], int]:
    """Return where the samples are, their type, and how many were said to be there (0 where that is lost).

    Raises
    ------
    DataError
        If no leaf of their index is left, more than one data set could be theirs, or hypnic stores none like it.
    """
    indices = [
        index for index in _indices(data, 2) if {end[1:] for end in index.ends} & {(3, 2), (3, 4), (0, 0)}
    ]
    if not data.size:
        raise DataError("it is empty")
    if not indices:
        raise DataError("nothing in it can be brought back: no index of samples is left in it")
    if len(indices) > 1:
        raise DataError("it holds several data sets that could be the samples, and which is which is lost")
    (index,) = indices
    spaces = list(data.find(_SAMPLES))
    if len(spaces) > 1:
        raise DataError("it holds several data sets that could be the samples")
    widths = {end[2] for end in index.ends if end[1]} or {2, 4}
    dtype, shuffled, count = None, True, 0
    for at, space in spaces:
        count = int.from_bytes(space[1], "little")
        if space[2] is not None:
            dtype = _number(space[2][0] & 15, space[3][0], int.from_bytes(space[4], "little"))
        if filters := _FILTERS.search(data.at(at, _HEADER_REACH)):
            shuffled = _shuffled(filters[1][0], int.from_bytes(filters[2], "little"))
    if dtype is not None:
        widths = {dtype.itemsize}
    sizes = [_inflated_size(data, chunk) for chunk in sorted(index.chunks)[:MOST_CHUNKS]]
    packed = 2 * sum(size > 0 for size in sizes) > len(sizes)
    common = (
        Counter(size for size in sizes if size) if packed else Counter(chunk.size for chunk in index.chunks)
    )
    size = common.most_common(1)[0][0]
    steps = Counter(np.diff(sorted({chunk.row for chunk in index.chunks})).tolist()).most_common(1)
    for width in sorted(widths):
        length, rest = divmod(size, 3 * width)
        if rest or not length or (steps and len(widths) > 1 and steps[0][0] != length):
            continue
        plausible = [
            chunk
            for chunk in index.chunks
            if chunk.row % length == 0 and (chunk.size == size or (packed and chunk.size <= size + OVERLAP))
        ]
        if not plausible:
            continue
        store = _Store(data, _undisputed(plausible), length, width, 3 * width, packed, shuffled)
        if store.chunks:
            return store, dtype or _likely_number(store), count
    raise DataError("nothing in it can be brought back: what is left of the index of samples fits nothing")


def _number(kind: int, flags: int, size: int) -> np.dtype[Any]:
    """Return the type of samples that a data type message states (IV.A.2.d).

    Raises
    ------
    DataError
        If it is one that hypnic does not store.
    """
    if not flags & 1:
        if kind == _INTEGER and flags & 8 and size in (2, 4):
            return np.dtype(f"<i{size}")
        if kind == _FLOAT and size == 4:
            return np.dtype("<f4")
    raise DataError("its samples are of a type that no night has")


def _shuffled(count: int, first: int) -> bool:
    """Tell whether chunks are shuffled before they are deflated.

    Raises
    ------
    DataError
        If they are packed in another way.
    """
    if (count, first) not in ((2, _SHUFFLE), (1, _DEFLATE)):
        raise DataError("its samples are packed in a way that no night is")
    return first == _SHUFFLE


def _likely_number(store: _Store) -> np.dtype[Any]:
    """Return the type of samples whose data type is lost, by their bytes and by what they look like."""
    if store.width == 2:
        return np.dtype("<i2")
    content = next(
        (part for start in sorted(store.chunks) if (part := store.rows(start, 0, store.length))), b""
    )
    numbers = np.abs(np.frombuffer(content[: len(content) // 4 * 4], "<f4"))
    numbers = numbers[numbers != 0]
    # Counts of some thousand are, as floats, no number or next to none.
    with np.errstate(invalid="ignore"):
        likely = (numbers > 1e-6) & (numbers < 1e3)
    return np.dtype("<f4" if len(numbers) and likely.mean() > 0.5 else "<i4")


def _inflated_size(data: _Bytes, chunk: _Chunk) -> int:
    """Return how many bytes a chunk inflates to, 0 where it is not deflated, or damaged."""
    if chunk.size > LARGEST or chunk.skipped:
        return 0
    try:
        plain = inflated(data.at(chunk.at, chunk.size), None)
    except OSError:
        return 0
    return len(plain or b"")


class _Stated(NamedTuple):
    """What the header of a table says: its rows, and whether they are shuffled (None where that is lost)."""

    rows: int
    shuffled: bool | None


def _tables(data: _Bytes) -> dict[str, NDArray[np.void]]:
    """Return the tables of which all is there."""
    stated: dict[str, list[_Stated]] = {name: [] for name in TABLES}
    kinds: dict[int, set[str]] = {}
    for at, match in data.find(_TABLE):
        begin, size = at + match.start(2) - match.start(), int.from_bytes(match[2], "little")
        kind = data.at(begin, size)
        names = [name for name, column in _COLUMN.items() if column in kind]
        kinds.setdefault(int.from_bytes(match[3], "little"), set()).update(names or ["another"])
        filters = _FILTERS.search(data.at(begin + size, _FILTERS_REACH))
        shuffled = None if filters is None else (filters[1][0], filters[2][0]) == (2, _SHUFFLE)
        for name in names:
            stated[name].append(_Stated(int.from_bytes(match[1], "little"), shuffled))
    indices, found = _indices(data, 1), {}
    for name, dtype in TABLES.items():
        stored = file_dtype(dtype)
        mine = [index for index in indices if any(end[1] == stored.itemsize for end in index.ends)]
        # Whose the rows of that length are must be known, or there be no other table with such.
        if len(mine) > 1 or len(stated[name]) > 1 or kinds.get(stored.itemsize, {name}) != {name}:
            continue
        count, shuffled = next(iter(stated[name]), _Stated(-1, None))
        if not mine:
            if count == 0:
                found[name] = np.zeros(0, dtype)
            continue
        rows = _table_rows(data, mine[0], stored, shuffled is not False)
        if rows is None or (count >= 0 and not len(rows) >= count > len(rows) - TABLE_ROWS):
            continue
        if count < 0:
            filled = np.flatnonzero(rows != np.zeros((), stored))
            count = int(filled[-1]) + 1 if len(filled) else 0
        found[name] = rows_of_file(rows[:count], dtype)
    return found


def _table_rows(
    data: _Bytes, index: _Index, stored: np.dtype[Any], shuffled: bool
) -> NDArray[np.void] | None:
    """Return the rows of all chunks of a table; None unless each is there."""
    size = TABLE_ROWS * stored.itemsize
    if len(index.chunks) * size > LARGEST_TABLE:
        return None
    packed = any(chunk.size != size for chunk in index.chunks)
    chunks = _undisputed(list(index.chunks))
    store = _Store(data, chunks, TABLE_ROWS, stored.itemsize, stored.itemsize, packed, shuffled)
    if sorted(chunks) != list(range(0, len(index.chunks) * TABLE_ROWS, TABLE_ROWS)):
        return None
    content = b"".join(store.rows(start, 0, TABLE_ROWS) for start in sorted(chunks))
    return np.frombuffer(content, stored) if len(content) == len(chunks) * size else None


def _attribute(data: _Bytes, name: str) -> float | str | None:
    """Return the value of the attributes of that name in the file; None where there is none, or they differ."""
    word = name.encode() + b"\0"
    pattern = re.compile(
        rb"\x01\x00" + re.escape(struct.pack("<H", len(word))) + rb"(..)(..)" + word, re.DOTALL
    )
    found: set[float | str] = set()
    for number, (begin, match) in enumerate(data.find(pattern)):
        if number >= MOST_MATCHES:
            # Which of so many is meant nobody knows.
            return None
        kind_size, space_size = (int.from_bytes(match[at], "little") for at in (1, 2))
        message = data.at(
            begin + 8 + _padded(len(word)), _padded(kind_size) + _padded(space_size) + LONGEST_TEXT
        )
        raw = message[_padded(kind_size) + _padded(space_size) :]
        if len(message) < 8 or len(raw) < 8:
            continue
        value = _value(data, message[0] & 15, int.from_bytes(message[4:8], "little"), raw)
        if value is not None:
            found.add(value)
    return found.pop() if len(found) == 1 else None


def _value(data: _Bytes, kind: int, size: int, raw: bytes) -> float | str | None:
    """Return a value by the class of its data type and its bytes; None where it is of no kind that a night has."""
    if kind == _FLOAT and size in (4, 8):
        return float(struct.unpack_from("<f" if size == 4 else "<d", raw)[0])
    if kind == _INTEGER and size in (1, 2, 4, 8):
        return float(int.from_bytes(raw[:size], "little", signed=True))
    if kind == _TEXT:
        return readable(raw[: min(size, LONGEST_TEXT)].rstrip(b"\0 "))
    if kind == _LONG_TEXT and len(raw) >= 16:
        length, collection, number = struct.unpack_from("<IQI", raw)
        text = data.text(collection, number)[:length]
        return readable(text) if text else None
    return None


def _padded(size: int) -> int:
    return -(-size // 8) * 8


class _Salvage(BaseRecording):
    """What the parts of a night say by themselves. `_salvage` makes one.

    Attributes
    ----------
    readable : int
        Samples that can be read.
    zeros : int
        Samples in sectors of zeros.
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
        factor: float,
        tables: dict[str, NDArray[np.void]],
        meta: dict[str, Any],
        attrs: dict[str, Any],
        **facts: Any,
    ) -> None:
        counts = dtype.kind == "i"
        super().__init__(
            path, gaps=tables.get("gaps"), dtype=dtype.name, scale=factor if counts else None, **facts
        )
        self._store, self._dtype, self._factor, self._tables = store, dtype, np.float64(factor), tables
        self._meta, self.attrs = meta, attrs
        self.lost = tuple(name for name in TABLES if name not in tables)
        self._runs: list[tuple[int, int]] = []
        for run in (run for start in sorted(store.chunks) for run in store.runs(start, self._count)):
            if self._runs and self._runs[-1][1] == run[0]:
                self._runs[-1] = self._runs[-1][0], run[1]
            else:
                self._runs.append(run)
        self.readable = sum(high - low for low, high in self._runs)
        whole = (min(start + store.whole(start), self._count) - start for start in store.chunks)
        self.zeros = sum(rows for rows in whole if rows > 0) - self.readable
        edges = [0, *(edge for run in self._runs for edge in run), self._count]
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
            content = self._store.rows(start, max(begin - start, 0), min(end - start, length))
            parts.append(np.frombuffer(content, self._dtype).reshape(-1, 3))
        # As `Recording` has them: one product in float64, rounded once.
        return (np.concatenate(parts) * self._factor).astype(np.float32)

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
    data: _Bytes,
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
        If it is no night, no leaf of the index of its samples is left, or the rate or the scale is lost.
    """
    try:
        store, dtype, count = _sample_store(data)
        tables = _tables(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if night is None and _attribute(data, "format") != "hypnic" and not tables:
        raise DataError(
            f"{path}: nothing in it can be brought back: it is no hypnic night, or what says so is lost"
        )
    notes: list[str] = []
    there = _end_of_samples(store)
    if not count or there - count > (0 if store.packed else MOST_AHEAD):
        count = there
        notes.append("how many samples there were is lost: zeros at the end are taken for none")
    elif count > store.end:
        notes.append(
            f"it is said to have had {count} samples, and what is left of its index ends at {store.end}"
        )
    meta: dict[str, Any] = {}
    if night is not None:
        # Also those after the last sample that the file admits.
        if "gaps" not in unread and (gaps := night.stored_gaps()) is not None:
            tables["gaps"] = gaps
        tables |= {name: getattr(night, name) for name in ("clock", "annotations") if name not in unread}
        if "events" not in unread:
            events = night.events()
            tables["events"] = np.empty(0, TABLES["events"]) if events is None else events.array
            meta = {} if events is None else events.meta
    if (night is None or "gaps" in unread) and "gaps" in tables:
        sound = _sound_gaps(tables.pop("gaps"))
        tables |= {} if sound is None else {"gaps": sound}
    if "gaps" not in tables:
        notes.append("the table of gaps is lost: samples after a loss, if there was any, stand too early")
    if not store.packed:
        notes.append(NO_CHECKSUM)
    counts = dtype.kind == "i"
    if night is not None:
        rate, site, factor, moment = night.rate, night.site, night.factor, night.start_time
        attrs, range_g, sensor = night.attrs, night.range_g, night.sensor
    else:
        rate = rate or _above_zero(_attribute(data, "sampling_rate"))
        factor = scale or (_above_zero(_attribute(data, "scale")) if counts else 1.0) or math.nan
        site = site or _place(_attribute(data, "site"), notes)
        moment = None
        try:
            moment = parse_start(str(_attribute(data, "start_time")))[0]
        except UsageError:
            notes.append("its start time is lost, if it had one")
        written = {name: _attribute(data, name) for name in ("subject", "notes")}
        attrs = {name: text for name, text in written.items() if text is not None}
        range_g = _above_zero(_attribute(data, "range_g"))
        sensor = str(_attribute(data, "sensor") or "")
    if rate is None:
        raise DataError(f"{path}: its sampling rate is lost: give it (--rate)")
    if math.isnan(factor):
        raise DataError(f"{path}: the scale of its counts is lost: give it, in g per count (--scale)")
    found = _Salvage(
        path,
        store,
        dtype,
        factor,
        tables,
        meta,
        attrs,
        n_samples=count,
        rate=rate,
        site=site,
        start_time=moment,
        range_g=range_g,
        sensor=sensor,
        notes=notes,
    )
    if not found.readable:
        raise DataError(f"{path}: nothing in it can be brought back: all of its samples are damaged")
    return found


def _end_of_samples(store: _Store) -> int:
    """Return the row after the last one of the last chunk that is not zero."""
    last = max(store.chunks)
    content = np.frombuffer(store.rows(last, 0, store.length), np.uint8)
    filled = np.flatnonzero(content[: len(content) // store.row * store.row])
    return last + (int(filled[-1]) // store.row + 1 if len(filled) else 0)


def _sound_gaps(gaps: NDArray[np.void]) -> NDArray[np.void] | None:
    """Return the gaps without rows that were being written when the recorder was cut off; None if they cannot be."""
    filled = np.flatnonzero(gaps != np.zeros((), gaps.dtype))
    sound: NDArray[np.void] = gaps[: filled[-1] + 1 if len(filled) else 0]
    if len(gaps) - len(sound) > MOST_AT_ONCE or np.any(sound["missing"] < 1) or np.any(sound["sample"] < 0):
        return None
    return None if np.any(np.diff(sound["sample"]) < 0) else sound


def _place(stated: float | str | None, notes: list[str]) -> str:
    """Return where the sensor was, the wrist where that is lost."""
    if isinstance(stated, str) and stated in ("wrist", "mattress"):
        return stated
    notes.append("where the sensor was is lost: the wrist is assumed")
    return "wrist"


def _above_zero(value: float | str | None) -> float | None:
    # No rate, scale or range is beyond: a damaged number can be as small or large as floats are.
    return value if isinstance(value, float) and 1e-9 < value < 1e6 else None
