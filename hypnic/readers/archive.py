"""Members of other people's ZIP archives, unpacked to a temporary file within stated bounds."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from hypnic.errors import DataError

__all__ = ["members", "open_archive", "unpack"]

MOST_MEMBERS: Final = 10_000
"""Members beyond which an archive is refused; a recording has some ten."""

LARGEST_MEMBER: Final = 8 << 30
"""Bytes beyond which a member is refused: a month of 100 Hz is below 2 GB in any format that is read."""

SAFE_SIZE: Final = 64 << 20
"""Bytes up to which a member may be packed as tightly as it likes."""

TIGHTEST: Final = 200
"""Times by which a larger member may shrink: samples shrink by 2 to 10, a bomb by 1000."""

PIECE: Final = 1 << 20
"""Bytes unpacked at a time."""


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive.

    Raises
    ------
    DataError
        If it is damaged, cut short, or has more members than a recording.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(f"{path}: the ZIP archive is damaged or cut short: {error}") from None
    with archive:
        if len(archive.infolist()) > MOST_MEMBERS:
            raise DataError(
                f"{path}: {len(archive.infolist())} members in the archive: no recording has so many"
            )
        yield archive


def members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """Return the members whose file name is `name`, but for the doubles that macOS adds."""
    return [
        info
        for info in archive.infolist()
        if PurePosixPath(info.filename).name == name and not info.filename.startswith("__MACOSX/")
    ]


def unpack(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, into: IO[bytes]) -> str:
    """Unpack a member into an open file, as far as it is sound, and return what is wrong with the rest.

    Raises
    ------
    DataError
        If it is encrypted, packed in an unknown way, or far larger than a recording.
    """
    size, packed = info.file_size, max(1, info.compress_size)
    if size > LARGEST_MEMBER or (size > SAFE_SIZE and size > TIGHTEST * packed):
        raise DataError(
            f"{path}: {info.filename} unpacks from {packed} to {size} bytes: more than a recording would"
        )
    try:
        with archive.open(info) as member:
            while piece := member.read(PIECE):
                into.write(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        return f"{info.filename} is damaged in the archive ({error})"
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path}: {info.filename} cannot be unpacked: {error}") from None
    finally:
        into.flush()
    return ""


@contextmanager
def unpacked(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[tuple[Path, str]]:
    """Give the path of a temporary file with what a member holds, and what is wrong with it."""
    with tempfile.NamedTemporaryFile(prefix="hypnic-") as file:
        complaint = unpack(path, archive, info, file)
        yield Path(file.name), complaint
