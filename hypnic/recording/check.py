"""What an HDF5 file could do to its reader, and is looked for before HDF5 is asked to read.

libhdf5 trusts what a file says of itself: how large an attribute is, how much a chunk unpacks to, which other file
holds the numbers, where the next entry of a heap is. So the sizes are taken from the file's own words and bounded
first, what lies in other files is refused, and the heap of texts, over which HDF5 can walk for ever, is walked here.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import DataError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "LARGEST_CHUNK",
    "LARGEST_TABLE",
    "check_attribute",
    "check_chunks",
    "check_heaps",
    "check_inside",
    "in_memory",
]

LARGEST_CHUNK: Final = 1 << 27
"""Bytes that a row of packed chunks may unpack to: the numbers of a night in one piece (69 MB at 200 Hz) fit."""

LARGEST_TABLE: Final = 1 << 27
"""Bytes of a table, in the file's type or in ours: 400 000 events or gaps, and a night has some hundred."""

LARGEST_ATTRIBUTE: Final = 1 << 24
"""Bytes of an attribute's value: the longest of a night's, what was said on converting it, has 4096."""

HEAP_MARK: Final = b"GCOL"
"""First bytes of a collection of the global heap (HDF5 File Format Specification, III.E)."""

MOST_ENTRIES: Final = 1_000_000
"""Entries of heaps in a file: walking over them takes a second or two. A night has ten or twenty."""

PIECE: Final = 1 << 18
"""Bytes of a file looked at in one go."""

_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP, _NBIT, _SCALE_OFFSET, _LZF = 1, 2, 3, 4, 5, 6, 32000
"""Numbers of filters (``H5Zpublic.h`` and the HDF Group's list of registered ones)."""

MOST_SHRUNK: Final = {_DEFLATE: 1032, _LZF: 88, _SZIP: math.inf}
"""Times by which each can shrink: by zlib's technical details, by 3 bytes for 264 of LZF, by any number it states."""

_HARMLESS: Final = (_SHUFFLE, _FLETCHER32)
"""Filters after which there is as much as before."""


# The heap of texts


def check_heaps(path: Path) -> int:
    """Walk over every collection of the global heap, where texts of variable length lie, as HDF5 would.

    HDF5 (2.0 at least) goes on by what an entry says of its length, and for ever where that comes to nothing: one
    flipped bit is enough. Every place that could be a collection is walked over, wherever in the file it is.

    Returns
    -------
    int
        Bytes of the longest entry.

    Raises
    ------
    DataError
        If HDF5 would never come to the end of a collection.
    OSError
        If the file cannot be read.
    """
    longest = 0
    with path.open("rb") as handle:
        walk, at = _Walk(path, handle), 0
        while True:
            handle.seek(at)
            piece = handle.read(PIECE + len(HEAP_MARK) - 1)
            for place in _places(piece):
                longest = max(longest, walk.over(at + place))
            if len(piece) < PIECE:
                return longest
            at += PIECE


def _places(piece: bytes) -> list[int]:
    """Return where the mark of a collection stands, twice as fast as `bytes.find` finds it: two bytes at a time."""
    found: list[int] = []
    for first in range(min(2, len(piece))):
        pairs = np.frombuffer(piece, "<u2", (len(piece) - first) // 2, first)
        found += (2 * np.flatnonzero(pairs == int.from_bytes(HEAP_MARK[:2], "little")) + first).tolist()
    return [place for place in sorted(found) if piece.startswith(HEAP_MARK, place)]


def _size_of_lengths(handle: Any) -> int:
    """Return the bytes of a length in this file, which its superblock says."""
    for at in (0, *(512 << doubled for doubled in range(24))):
        handle.seek(at)
        head = handle.read(16)
        if head.startswith(b"\x89HDF\r\n\x1a\n") and len(head) == 16:
            width = int(head[14 if head[8] < 2 else 10])
            # HDF5 reads no others.
            return width if width in (2, 4, 8, 16, 32) else 8
        if len(head) < 16:
            break
    return 8


class _Walk:
    """A walk over collections of one file."""

    def __init__(self, path: Path, handle: Any) -> None:
        self._path, self._handle = path, handle
        self._width = _size_of_lengths(handle)
        self._end = path.stat().st_size
        self._entries = 0

    def over(self, begin: int) -> int:
        """Walk over the entries of what may be a collection; return the length of the longest."""
        head = self._words(begin)
        if len(head) < 8 + self._width or head[4] != 1:
            return 0
        entry = _padded(8 + self._width)
        size, at, longest = min(int.from_bytes(head[8:], "little"), self._end - begin), entry, 0
        while at + entry <= size:
            words = self._words(begin + at)
            length = int.from_bytes(words[8:], "little")
            # As HDF5 counts, in 64 bits that run over: number 0 is free space, whose length includes these words.
            free = not int.from_bytes(words[:2], "little")
            step = (length if free else entry + _padded(length)) % (1 << 64)
            if not step:
                raise DataError(
                    f"{self._path}: damaged: a heap in it has an entry without a length at byte {begin + at}"
                )
            self._entries += 1
            if self._entries > MOST_ENTRIES:
                # Some thousand at most; millions are a trap, one collection in the next.
                raise DataError(
                    f"{self._path}: no recording: over {MOST_ENTRIES} texts and lists in its heap"
                )
            longest = longest if free else max(longest, min(length, size - at))
            at += step
        return longest

    def _words(self, at: int) -> bytes:
        self._handle.seek(at)
        words: bytes = self._handle.read(8 + self._width)
        return words


def _padded(length: int) -> int:
    return -(-length // 8) * 8


# Attributes


def check_attribute(node: Any, name: str | bytes) -> None:
    """Refuse an attribute whose value would take more memory than any that a recording has.

    Parameters
    ----------
    node : h5py.File, h5py.Group or h5py.Dataset
        What it belongs to.
    name : str or bytes
        Its name.

    Raises
    ------
    DataError
        If it is too large.
    """
    import h5py

    # h5py gives a name that is no UTF-8 as it is.
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    found = h5py.h5a.open(node.id, raw)
    size = in_memory(node, found.get_type(), math.prod(found.shape or ()))
    if size > LARGEST_ATTRIBUTE:
        raise DataError(
            f"{node.file.filename}: its attribute {name[:80]!r} is impossibly large or nested ({size:.3g} bytes)"
        )


def in_memory(node: Any, kind: h5py.h5t.TypeID, count: int) -> float:
    """Return how many bytes `count` values of a type, in a node's file, can take; infinity for any number.

    Those in the heap are included.
    """
    import h5py

    if kind.detect_class(h5py.h5t.VLEN):
        # Lists within lists: each can be the same long one again.
        return math.inf
    size: int = count * kind.get_size()
    texts = kind.detect_class(h5py.h5t.STRING)
    if isinstance(kind, h5py.h5t.TypeStringID):
        texts = kind.is_variable_str()
    # One text is no longer than the file. Several can be the same one.
    return size + count * check_heaps(Path(node.file.filename)) if texts and count > 1 else size


# Data sets


def check_inside(data: h5py.Dataset) -> None:
    """Refuse a data set whose numbers lie in other files. Its shape must not be asked for before: HDF5 would open them.

    Raises
    ------
    DataError
        If it is such.
    """
    if data.is_virtual or data.external:
        raise DataError(
            f"{data.file.filename}: {data.name} keeps its samples in other files, which are not opened: "
            "copy them into one"
        )


def check_chunks(data: h5py.Dataset, inflated_here: bool = False) -> None:
    """Refuse a data set whose chunks cannot be unpacked, or to more than they claim or than fits in memory.

    HDF5 unpacks a chunk for as long as there is something to unpack, and looks at its size afterwards.

    Parameters
    ----------
    data : h5py.Dataset
        The data set, in chunks or not.
    inflated_here : bool
        Whether whoever reads it inflates within the bounds of a chunk (`hypnic.recording.chunks`).

    Raises
    ------
    DataError
        If it is such.
    """
    import h5py

    path, name = data.file.filename, data.name
    plan = data.id.get_create_plist()
    filters = [plan.get_filter(at) for at in range(plan.get_nfilters())]
    if not filters:
        return
    size = math.prod(data.chunks) * data.dtype.itemsize
    across = math.prod(-(-n // m) for n, m in zip(data.shape[1:], data.chunks[1:], strict=True))
    if size * max(1, across) > LARGEST_CHUNK:
        raise DataError(
            f"{path}: {name} is compressed in chunks of {data.chunks}, too large to read: repack the file"
        )
    for code, _, values, label in filters:
        if not h5py.h5z.filter_avail(code):
            shown = label.decode(errors="replace") or code
            raise DataError(
                f"{path}: {name} is compressed with {shown}, which needs an HDF5 plug-in (try hdf5plugin)"
            )
        # Where these say how many numbers there are, HDF5 takes their word for it.
        if code in (_NBIT, _SCALE_OFFSET) and (
            len(values) < 5 or values[2] != math.prod(data.chunks) or values[4] != data.dtype.itemsize
        ):
            raise DataError(f"{path}: {name} is damaged: its chunks claim another size than they have")
    packers = [code for code, *_ in filters if code not in _HARMLESS]
    if len(packers) > 1:
        raise DataError(
            f"{path}: {name} is compressed more than once, which no recording is: repack the file"
        )
    if not inflated_here and packers and packers[0] in MOST_SHRUNK:
        _check_packed(data, size, packers[0], [code for code, *_ in filters])


def _check_packed(data: h5py.Dataset, size: int, packer: int, filters: list[int]) -> None:
    """Refuse chunks that would unpack to more than they claim."""
    path, name = data.file.filename, data.name
    suspects: list[tuple[int, ...]] = []

    def look(chunk: Any) -> None:
        if chunk.filter_mask >> filters.index(packer) & 1:
            # What would not shrink is stored as it is.
            return
        if chunk.size * MOST_SHRUNK[packer] > 2 * LARGEST_CHUNK:
            suspects.append(chunk.chunk_offset)

    data.id.chunk_iter(look)
    if suspects and (packer == _LZF or _SHUFFLE in filters[filters.index(packer) :]):
        raise DataError(f"{path}: {name} is compressed in chunks too large to read: repack the file")
    for offset in suspects:
        _, stored = data.id.read_direct_chunk(offset)
        if packer == _SZIP:
            claimed = int.from_bytes(stored[:4], "little")
        else:
            try:
                claimed = len(zlib.decompressobj().decompress(stored, 2 * size + 1))
            except zlib.error:
                # HDF5 will come as far, and say what is wrong.
                continue
        if claimed > 2 * size:
            raise DataError(f"{path}: {name} is damaged: a chunk of {size} bytes unpacks to more than that")
