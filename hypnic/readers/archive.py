"""Members of other people's ZIP archives, unpacked to a temporary file within stated bounds.

The list of members is the standard library's. Their bytes are unpacked here, for it gives nothing of a member
that is damaged at one place, and the sound part is wanted.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from hypnic.errors import DataError

__all__ = ["members", "open_archive", "unpack", "unpacked"]

MOST_MEMBERS: Final = 10_000
"""Members beyond which an archive is refused; a recording has some ten."""

LARGEST_MEMBER: Final = 8 << 30
"""Bytes beyond which a member is refused: a month of 100 Hz is below 2 GB in any format that is read."""

SAFE_SIZE: Final = 64 << 20
"""Bytes up to which a member may be packed as tightly as it likes."""

TIGHTEST: Final = 200
"""Times by which a larger member may shrink: samples shrink by 2 to 10, a bomb by 1000."""

PIECE: Final = 1 << 20
"""Bytes read, and at most unpacked, at a time."""

LOCAL_MARK: Final = b"PK\x03\x04"
"""First bytes of the header before a member."""

LOCAL_SIZE: Final = 30
"""Bytes of that header before the member's name."""

ENCRYPTED: Final = 1
"""Flag of a member that needs a password."""


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive.

    Raises
    ------
    DataError
        If it is damaged, cut short, or has more members than a recording.
    """
    with path.open("rb") as handle:
        try:
            archive = zipfile.ZipFile(handle)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
            # An OSError here is a seek to where a damaged archive points.
            raise DataError(f"{path}: the ZIP archive is damaged or cut short ({error})") from None
        with archive:
            count = len(archive.infolist())
            if count > MOST_MEMBERS:
                raise DataError(f"{path}: {count} members in the archive: no recording has so many")
            yield archive


def members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """Return the members whose file name is `name`, but for the doubles that macOS adds."""
    return [
        info
        for info in archive.infolist()
        if PurePosixPath(info.filename).name == name and not info.filename.startswith("__MACOSX/")
    ]


def unpack(path: Path, info: zipfile.ZipInfo, into: IO[bytes]) -> str:
    """Unpack a member of `path` into an open file, as far as it is sound, and return what is wrong with it.

    Raises
    ------
    DataError
        If it is encrypted, packed in an unknown way, far larger than a recording, or nothing of it is there.
    """
    size, packed = info.file_size, max(1, info.compress_size)
    if size > LARGEST_MEMBER or (size > SAFE_SIZE and size > TIGHTEST * packed):
        raise DataError(
            f"{path}: {info.filename} unpacks from {packed} to {size} bytes: more than a recording would"
        )
    if info.flag_bits & ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {info.filename} is encrypted or packed in an unknown way: unpack it first")
    checksum = written = 0
    complaint = ""
    with path.open("rb") as handle:
        begin = _begin(handle, info)
        if begin is None:
            raise DataError(f"{path}: the ZIP archive is damaged: {info.filename} is not to be found in it")
        try:
            for piece in _pieces(handle, begin, info):
                piece = piece[: size - written]
                checksum = zlib.crc32(piece, checksum)
                into.write(piece)
                written += len(piece)
                if written == size:
                    break
        except zlib.error as error:
            complaint = str(error)
    if not written and size:
        raise DataError(
            f"{path}: {info.filename} is damaged in the archive ({complaint or 'nothing is there'})"
        )
    if not complaint and written < size:
        complaint = f"{written} of {size} bytes are there"
    if not complaint and checksum != info.CRC:
        complaint = "its checksum is wrong"
    into.flush()
    return f"{info.filename} is damaged in the archive ({complaint})" if complaint else ""


def _begin(handle: Any, info: zipfile.ZipInfo) -> int | None:
    """Return where the bytes of a member begin: where the list says, or, if bytes were lost, where its name is."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    for at in [info.header_offset, *_marks(handle, name)]:
        head = os.pread(handle.fileno(), LOCAL_SIZE + len(name), at) if at >= 0 else b""
        if head.startswith(LOCAL_MARK) and head[LOCAL_SIZE:] == name:
            lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            return at + LOCAL_SIZE + lengths
    return None


def _marks(handle: Any, name: bytes) -> Iterator[int]:
    """Yield where headers before members may be."""
    overlap = LOCAL_SIZE + len(name)
    at, size = 0, os.fstat(handle.fileno()).st_size
    while at < size:
        data = os.pread(handle.fileno(), PIECE + overlap, at)
        place = data.find(LOCAL_MARK)
        while 0 <= place < PIECE:
            yield at + place
            place = data.find(LOCAL_MARK, place + 1)
        at += PIECE


def _pieces(handle: Any, at: int, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member, unpacked."""
    unpacking = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
    left = info.compress_size
    while left > 0 and (packed := os.pread(handle.fileno(), min(PIECE, left), at)):
        at, left = at + len(packed), left - len(packed)
        if unpacking is None:
            yield packed
            continue
        while packed and not unpacking.eof:
            # Little by little: zlib gives nothing of a call in which it meets damage.
            yield unpacking.decompress(packed[:4096], PIECE)
            packed = unpacking.unconsumed_tail + packed[4096:]


@contextmanager
def unpacked(path: Path, info: zipfile.ZipInfo) -> Iterator[tuple[Path, str]]:
    """Give the path of a temporary file with what a member holds, and what is wrong with it."""
    with tempfile.NamedTemporaryFile(prefix="hypnic-") as file:
        complaint = unpack(path, info, file)
        yield Path(file.name), complaint
