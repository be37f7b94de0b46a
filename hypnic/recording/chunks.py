"""Rows of a shuffled and deflated data set, read ahead of whoever takes them.

h5py inflates under one lock, so that nothing else gets at any file meanwhile. Here it only hands over the chunks as
they are stored; they are inflated and unshuffled outside its lock, in a thread of their own, while the detector is at
work on those before. What is stored in another way, and every chunk that is not exactly what it should be, is left to
ordinary HDF5, which says what is wrong with it.
"""

from __future__ import annotations

import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

try:
    # Twice as fast; where it has no wheel the standard library does the same.
    from isal.igzip_lib import DECOMP_ZLIB, IgzipDecompressor
except ImportError:
    from zlib import decompressobj
else:

    def decompressobj() -> IgzipDecompressor:  # type: ignore[misc]
        """Return its decompressor for what zlib packs. The one that it names like zlib's takes half as long again."""
        return IgzipDecompressor(flag=DECOMP_ZLIB)


if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["PackedRows", "ahead", "inflated", "scaled"]

_SHUFFLE, _DEFLATE = 2, 1
"""Numbers of the filters in HDF5 (``H5Zpublic.h``)."""

LARGEST: Final = 1 << 24
"""Bytes of a chunk beyond which it is left to HDF5: some of them are held at a time."""

_AHEAD: Final = 2
"""Pieces that are read ahead: one ready, so that neither side waits for the other, and one for an uneven pace."""

Item = TypeVar("Item")


class PackedRows:
    """The rows of a data set whose chunks hold whole rows, shuffled or not, and deflated.

    `of` makes one.
    """

    def __init__(self, data: h5py.Dataset, filters: list[int]) -> None:
        self._data = data
        self._length: int = data.chunks[0]
        self._size = self._length * data.chunks[1] * data.dtype.itemsize
        # Bytes of one are not shuffled, whatever the filters say.
        self._shuffled = _SHUFFLE in filters and data.dtype.itemsize > 1
        self._stored_plain = 1 << filters.index(_DEFLATE)
        self._kept: tuple[int, bytes] | None = None

    @classmethod
    def of(cls, data: h5py.Dataset) -> PackedRows | None:
        """Return the rows of `data`, or None where it is stored in another way, or in very large chunks."""
        from h5py import h5t

        if data.chunks is None or data.chunks[1] != data.shape[1]:
            return None
        if math.prod(data.chunks) * data.dtype.itemsize > LARGEST:
            return None
        # Fewer bits than the bytes have, or another layout of floats: HDF5 converts what NumPy would misread.
        if data.dtype.itemsize not in (1, 2, 4, 8) or data.id.get_type() != h5t.py_create(data.dtype):
            return None
        plan = data.id.get_create_plist()
        filters = [plan.get_filter(at) for at in range(plan.get_nfilters())]
        codes = [code for code, *_ in filters]
        if codes not in ([_DEFLATE], [_SHUFFLE, _DEFLATE]):
            return None
        shuffled = codes[0] == _SHUFFLE
        # The filter has a size of its own by which it shuffles.
        if shuffled and tuple(filters[0][2]) != (data.dtype.itemsize,):
            return None
        return cls(data, codes)

    def fill(self, begin: int, end: int, factor: float, out: NDArray[np.float32]) -> None:
        """Put the rows `begin` to `end`, times `factor`, into `out`, as `scaled` does.

        Raises
        ------
        OSError, RuntimeError, ValueError
            As h5py does, where a chunk cannot be found or read; OSError also where one holds more than it should, all
            of which HDF5 would unpack, or less, which HDF5 would take without a word.
        """
        dtype, width = self._data.dtype, self._data.shape[1]
        compiled = _compiled() if self._shuffled and dtype == np.dtype("<i2") else None
        for start in range(begin - begin % self._length, end, self._length):
            low, high = max(begin, start), min(end, start + self._length)
            part = out[low - begin : high - begin]
            plain = self._chunk(start)
            numbers = slice(width * (low - start), width * (high - start))
            if plain is None:
                scaled(self._data[low:high], factor, part)
            elif not self._shuffled:
                scaled(np.frombuffer(plain, dtype)[numbers].reshape(-1, width), factor, part)
            else:
                planes = np.frombuffer(plain, np.uint8).reshape(dtype.itemsize, -1)[:, numbers]
                if compiled:
                    compiled(planes[0], planes[1], factor, part.reshape(-1))
                else:
                    scaled(_joined(planes, dtype).reshape(-1, width), factor, part)

    def _chunk(self, start: int) -> bytes | None:
        """Return the bytes of the chunk that begins at row `start`, or None where HDF5 is to read it itself."""
        # Pieces end within chunks: the last one is kept for the piece that follows.
        kept = self._kept
        if kept is not None and kept[0] == start:
            return kept[1]
        skipped, stored = self._data.id.read_direct_chunk((start, 0))
        if skipped:
            # HDF5 leaves out deflating where it would not shrink, and nothing else.
            if not skipped & self._stored_plain:
                raise OSError("(a chunk was packed in a way that HDF5 never does)")
            if len(stored) != self._size:
                # One changed bit: HDF5 would take what is deflated for samples.
                raise OSError("(a chunk that was not deflated has another size than it should have)")
            return None
        plain = inflated(stored, self._size)
        if plain is not None:
            self._kept = start, plain
        return plain


def inflated(stored: bytes, size: int | None) -> bytes | None:
    """Return the `size` bytes of a deflated chunk, or as many as there are up to `LARGEST`; None where it is damaged.

    Raises
    ------
    OSError
        If they are more or fewer.
    """
    stream = decompressobj()
    try:
        plain: bytes = stream.decompress(stored, (LARGEST if size is None else size) + 1)
    except Exception:  # whatever the library calls its error, HDF5 will say what is wrong
        return None
    if size is not None and (len(plain) > size or (stream.eof and len(plain) < size)):
        raise OSError("(a chunk inflates to another size than it should have)")
    return plain if stream.eof else None


def scaled(stored: NDArray[Any], factor: float, out: NDArray[np.float32]) -> None:
    """Put numbers of a file, times `factor`, into `out`: one product in float64, rounded once.

    Beyond float32 it becomes inf, which the detector counts.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(stored, factor, out=out, dtype=np.float64, casting="same_kind")


def _joined(planes: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers of which a row holds all first bytes, then one all second bytes, and so on."""
    whole = np.dtype(f"<u{dtype.itemsize}")
    out = planes[-1].astype(whole)
    for plane in planes[-2::-1]:
        np.left_shift(out, 8, out=out)
        np.bitwise_or(out, plane, out=out)
    numbers: NDArray[Any] = out.view(dtype)
    return numbers


def _compiled() -> Callable[..., None] | None:
    """Return the compiled way from shuffled counts to g, or None where nobody has loaded the compiler."""
    if "hypnic.kernel" not in sys.modules:
        # Importing it takes half a second: NumPy needs a hundredth of one for a night.
        return None
    from hypnic.counts import COMPILED, in_g

    return in_g if COMPILED else None


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield `items`, which a thread works out up to two ahead.

    An error of theirs comes out in its place. The thread ends with the last one, or when this generator is closed.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    over = threading.Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not over.is_set():
            try:
                waiting.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
        except BaseException as error:  # it belongs to whoever takes the items
            put((False, error))
        else:
            put((False, None))

    thread = threading.Thread(target=work, name="hypnic-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, content = waiting.get()
            if more:
                yield content
            elif content is None:
                return
            else:
                raise content
    finally:
        over.set()
        thread.join()
