"""The tables, attributes and files of the HDF5 night, as reading and writing both need them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from hypnic.errors import DataError
from hypnic.events import EVENT_DTYPE
from hypnic.readers.base import ANNOTATION_DTYPE, CLOCK_DTYPE, GAP_DTYPE
from hypnic.recording.check import (
    LARGEST_TABLE,
    check_attribute,
    check_chunks,
    check_heaps,
    check_inside,
    in_memory,
)

if TYPE_CHECKING:
    from types import TracebackType

    import h5py
    from numpy.typing import NDArray

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
"""First bytes of an HDF5 file."""

REPAIR: Final = "hypnic repair may bring back what is left"

FORMAT_VERSION: Final = "1"
"""Version of the layout that is written, and the only one that is read."""

MOST_LEVELS: Final = 64
"""Groups within groups beyond which nothing is looked for: HDF5 takes ever longer for each."""

H5_ERRORS: Final = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises on a damaged file."""

TABLES: Final = {
    "gaps": GAP_DTYPE,
    "clock": CLOCK_DTYPE,
    "events": EVENT_DTYPE,
    "annotations": ANNOTATION_DTYPE,
}
"""The tables of a night and their types in memory; strings are fixed-length UTF-8 in the file."""

COPIED: Final = 1 << 24
"""Bytes that are copied at a time."""

MOST_AT_ONCE: Final = 8
"""Rows that a recorder adds to a table in half a second: seldom more than one or two."""

WITHDRAWN: Final = "withdrawn"
"""Label of an annotation that was taken back while the night grew: readers, and closing, leave it out.

Overwriting a label in place is safe at any moment. Taking a row out of a table is not: HDF5 would reuse its space.
"""

LIBVER: Final = ("earliest", "v110")
"""HDF5 formats that are written: every HDF5 since 1.6 reads the first."""


def why(error: BaseException) -> str:
    """Return the telling part of an h5py message: what stands in its outermost parentheses."""
    text = " ".join(str(error).split())
    found = re.search(r"\((.*)\)", text)
    return (found.group(1) if found else text)[:200] or type(error).__name__


def open_file(path: Path) -> h5py.File:
    """Return an HDF5 file opened for reading.

    Raises
    ------
    DataError
        If there is none, or it is not HDF5 or cut short, or HDF5 would read in it for ever.
    """
    import h5py

    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    check_heaps(path)
    # Unlocked: a reader must never keep a recorder from its file, and a shared disk may know no locks. But
    # HDF5 wants all openings within a process to agree, and the caller may have the file open already.
    reason = ""
    for options in ({"locking": False}, {}):
        try:
            return h5py.File(path, "r", **options)
        except H5_ERRORS as error:
            reason = reason or why(error)
    with path.open("rb") as handle:
        hint = f"; {REPAIR}" if handle.read(len(SIGNATURE)) == SIGNATURE else ""
    raise DataError(f"{path}: cannot be opened as HDF5: {reason}{hint}")


def find_node(file: h5py.File, name: str) -> Any:
    """Return the group or data set `name`, or None where there is none.

    Raises
    ------
    DataError
        If a link is on the way, which may lead out of the file.
    """
    import h5py

    node: Any = file
    for part in (part for part in name.split("/") if part):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{file.filename}: {name} is a link to elsewhere, which is not followed")
        node = node[part]
    return node


def attribute(node: Any, *names: str) -> Any:
    """Return the first of the attributes `names` that `node` or a group above it has, or None.

    Raises
    ------
    DataError
        If it is larger than any that a recording has.
    """
    for _ in range(MOST_LEVELS):
        for name in names:
            if name in node.attrs:
                check_attribute(node, name)
                value = node.attrs[name]
                if isinstance(value, np.ndarray | np.generic) and value.size == 1:
                    value = value.item()
                return readable(value) if isinstance(value, bytes | str) else value
        if node.name == "/" or node.name is None:
            return None
        node = node.parent
    return None


def readable(text: bytes | str) -> str:
    """Return a text of a file with other characters for what is no UTF-8, and for zeros: HDF5 ends there."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return raw.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def positive(node: Any, *names: str) -> float | None:
    """Return an attribute as a finite number above 0, or None where there is none.

    Raises
    ------
    DataError
        If it is something else.
    """
    value = attribute(node, *names)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise DataError(
            f"{node.file.filename}: its attribute {names[0]} is {value!r}: expected a number above 0"
        )
    return number


def read_table(file: h5py.File, name: str) -> NDArray[np.void] | None:
    """Return a table in its type in memory, or None where the file has none.

    Raises
    ------
    DataError
        If it lacks a column (the reason of a gap excepted) or is not a table.
    """
    import h5py

    dtype, path = TABLES[name], file.filename
    try:
        node = find_node(file, name)
        if node is None:
            return None
        if isinstance(node, h5py.Dataset):
            check_inside(node)
        if not isinstance(node, h5py.Dataset) or node.ndim != 1 or node.dtype.names is None:
            raise DataError(f"{path}: /{name} is not a table")
        there = {*node.dtype.names, "reason"}
        lacking = [column for column in dtype.names or () if column not in there]
        if lacking:
            raise DataError(f"{path}: /{name} lacks {', '.join(lacking)}")
        rows = node.shape[0]
        if max(in_memory(file, node.id.get_type(), rows), rows * dtype.itemsize) > LARGEST_TABLE:
            raise DataError(f"{path}: /{name} is impossibly large ({rows} rows)")
        check_chunks(node)
        raw = settled(node) if attribute(file, "unfinished") else node[:]
        table = rows_of_file(raw, dtype)
    except H5_ERRORS as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: /{name} cannot be read: {why(error)}") from None
    return table


def settled(node: h5py.Dataset) -> NDArray[np.void]:
    """Return the rows of a table that may have been cut off while it grew by a chunk.

    Its last rows are then unreadable or zero. They were written ahead of the samples that follow them, so
    there are none that would miss them.

    Raises
    ------
    OSError
        If more are than a recorder writes at a time: that is damage.
    """
    try:
        rows = node[:]
    except OSError:
        rows = node[: (len(node) - 1) // node.chunks[0] * node.chunks[0]]
        if len(node) - len(rows) > MOST_AT_ONCE:
            raise
    filled = np.flatnonzero(rows != np.zeros((), rows.dtype))
    there: NDArray[np.void] = rows[: filled[-1] + 1 if len(filled) else 0]
    if len(node) - len(there) > MOST_AT_ONCE:
        raise OSError(f"(its last {len(node) - len(there)} rows are not there)")
    return there


def _decoded(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind == "S":
        texts = np.char.decode(column, "utf-8", "replace")
    else:
        texts = np.array(
            [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in column], dtype=np.str_
        )
    if not texts.size or not texts.dtype.itemsize:
        return texts
    letters = np.ascontiguousarray(texts).view(np.uint32)
    letters[((letters > 0) & (letters < 32)) | ((letters > 126) & (letters < 160))] = 0xFFFD
    # Zeros at the end are numpy's own, those within are not.
    grid = letters.reshape(len(texts), -1)
    grid[(grid == 0) & np.logical_or.accumulate(grid[:, ::-1] != 0, axis=1)[:, ::-1]] = 0xFFFD
    return letters.view(texts.dtype)


def read_meta(node: h5py.Dataset) -> dict[str, Any]:
    """Return what `write_meta` stored."""
    meta: dict[str, Any] = {}
    for name in node.attrs:
        value = attribute(node, name)
        if isinstance(value, str) and value[:1] in ("{", "["):
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(value)
        meta[name] = value
    return meta


def write_meta(node: h5py.Dataset, meta: Mapping[str, Any]) -> None:
    """Store `meta` as attributes: text and numbers as they are, anything else as JSON."""
    for name, value in meta.items():
        plain = isinstance(value, str | int | float | np.generic)
        node.attrs[name] = value if plain else json.dumps(value, default=str)


def file_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in the file of a table: strings as fixed-length UTF-8, which needs no heap to grow."""
    import h5py

    def stored(field: np.dtype[Any]) -> Any:
        return h5py.string_dtype("utf-8", field.itemsize // 4) if field.kind == "U" else field

    return np.dtype([(name, stored(dtype[name])) for name in dtype.names or ()])


def file_rows(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return table rows as they are stored; a text is cut to its column at a whole character."""
    out = np.zeros(len(rows), file_dtype(rows.dtype))
    for name in rows.dtype.names or ():
        if rows.dtype[name].kind == "U":
            width = out.dtype[name].itemsize
            out[name] = [str(text).encode()[:width].decode(errors="ignore").encode() for text in rows[name]]
        else:
            out[name] = rows[name]
    return out


def rows_of_file(raw: NDArray[np.void], dtype: np.dtype[Any]) -> NDArray[np.void]:
    """Return stored table rows in their type in memory: the way back from `file_rows`."""
    table = np.zeros(len(raw), dtype)
    for column in dtype.names or ():
        if column in (raw.dtype.names or ()):
            # What is no whole number becomes one that cannot be.
            with np.errstate(invalid="ignore"):
                table[column] = _decoded(raw[column]) if dtype[column].kind == "U" else raw[column]
    return table


def create_table(group: h5py.File, name: str, rows: NDArray[np.void], compress: bool) -> None:
    """Make a table of `rows` (as `file_rows` returns them) that can grow."""
    options = {"compression": "gzip", "shuffle": True} if compress and len(rows) else {}
    group.create_dataset(name, data=rows, maxshape=(None,), chunks=(1024,), **options)


def copy_members(
    old: h5py.Group,
    new: h5py.Group,
    leave_out: Collection[str] = (),
    *,
    done: dict[int, h5py.HLObject] | None = None,
    level: int = 0,
) -> None:
    """Copy what a group holds, and its attributes, to a new one: chunks as they are packed, links as links.

    Nothing that HDF5 would change in a damaged file is safe, and its own copying takes a damaged file's word for how
    large a chunk is: both can end the process. A new file is sound.

    Parameters
    ----------
    old, new : h5py.Group
        Where from, and where to, in another file.
    leave_out : collection of str
        Names of members that are not copied.
    done : dict, optional
        What was copied by its address: what two names stand for stays one, and a circle ends.
    level : int
        Groups that `old` lies within.

    Raises
    ------
    DataError
        If it is too large, nested too deeply, keeps numbers in other files or holds others than fixed-size values.
    OSError, RuntimeError, KeyError, ValueError, TypeError
        As h5py does, where the old file is damaged or the disk full.
    """
    import h5py

    if level > MOST_LEVELS:
        raise DataError(f"{old.file.filename}: it has groups within groups, more than {MOST_LEVELS} deep")
    done = {h5py.h5o.get_info(old.id).addr: new} if done is None else done
    _copy_attributes(old, new)
    # The samples last: a copy that is cut short still says where those that it has belong.
    for name in sorted(old, key=lambda name: name == "acceleration"):
        if name in leave_out:
            continue
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            new[name] = link
            continue
        node = old[name]
        address = h5py.h5o.get_info(node.id).addr
        if address in done:
            new[name] = done[address]
        elif isinstance(node, h5py.Group):
            done[address] = new.create_group(name)
            copy_members(node, done[address], done=done, level=level + 1)
        else:
            done[address] = _copied(node, new, name)


def _copy_attributes(old: Any, new: Any) -> None:
    """Copy the attributes of a group or a data set."""
    import h5py

    for name in old.attrs:
        check_attribute(old, name)
        if h5py.check_ref_dtype(old.attrs.get_id(name).dtype) is not None:
            raise DataError(
                f"{old.file.filename}: the attribute {name[:80]!r} of {old.name} is a reference, which is not copied"
            )
        new.attrs[name] = old.attrs[name]


def _copied(old: h5py.Dataset, new: h5py.Group, name: str) -> h5py.Dataset:
    """Return a copy of a data set, its chunks as they are stored."""
    import h5py

    path = old.file.filename
    if not isinstance(old, h5py.Dataset):
        raise DataError(f"{path}: {old.name} is no data set, and is not copied")
    check_inside(old)
    if old.dtype.hasobject:
        raise DataError(f"{path}: {old.name} holds values of no fixed size, which are not copied")
    plan = old.id.get_create_plist()
    # Room for what was never written is never taken; what is compact lies in the header.
    if plan.get_layout() != h5py.h5d.COMPACT:
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_INCR if old.chunks else h5py.h5d.ALLOC_TIME_LATE)
    raw = name.encode("utf-8", "surrogateescape")
    made = h5py.Dataset(h5py.h5d.create(new.id, raw, old.id.get_type().copy(), old.id.get_space(), plan))
    _copy_attributes(old, made)
    in_file = Path(path).stat().st_size
    if old.chunks:
        sizes: list[tuple[tuple[int, ...], int]] = []
        old.id.chunk_iter(lambda chunk: sizes.append((chunk.chunk_offset, chunk.size)))
        plain = 0 if plan.get_nfilters() else math.prod(old.chunks) * old.dtype.itemsize
        for offset, size in sizes:
            if size > in_file or (plain and size != plain):
                raise ValueError(f"(a chunk of {old.name} claims {size} bytes)")
            skipped, stored = old.id.read_direct_chunk(offset)
            made.id.write_direct_chunk(offset, stored, skipped)
    elif stored_bytes := old.id.get_storage_size():
        if stored_bytes > in_file:
            raise ValueError(f"({old.name} claims {stored_bytes} bytes)")
        if old.shape:
            rows = max(1, COPIED * len(old) // stored_bytes)
            for at in range(0, len(old), rows):
                made[at : at + rows] = old[at : at + rows]
        else:
            made[()] = old[()]
    return made


def locked(path: Path) -> bool:
    """Tell whether another process, or another part of this one, holds the lock of a night."""
    import fcntl

    try:
        handle = path.with_name(f".{path.name}.lock").open("rb")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Lock:
    """The right to change a night: a locked file beside it, which is free again when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")
        self._target = path
        self._handle: Any = None

    def __enter__(self) -> Self:
        import fcntl

        while True:
            self._handle = self._path.open("a")
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before removes the file: a lock on what was removed is worth nothing.
                if self._path.stat().st_ino == os.fstat(self._handle.fileno()).st_ino:
                    return self
            except FileNotFoundError:
                pass
            except BlockingIOError:
                self._handle.close()
                raise DataError(
                    f"{self._target}: the file is being recorded or changed by another process"
                ) from None
            self._handle.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be removed, as on a disk that has become read-only, binds nobody once it is closed.
        with self._handle, contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what is there in the end is synced and takes the place of `path`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        shutil.copymode(path, partial)
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
        sync_folder(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the name of `path` safe from a power cut."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
