"""Whatever can be opened by a name: a recording, a board, or a log of a board's bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypnic.errors import UsageError
from hypnic.readers import open_recording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypnic.chunk import Source

__all__ = ["is_port", "open_source"]

_SCHEMES: Final = ("serial:", "socket://", "rfc2217://")

_BOARD_OPTIONS: Final = frozenset(
    {
        *("baud", "format", "rate", "site", "lsb_per_g", "range_g"),
        *("raw_log", "buffer", "wake", "stall", "reconnect"),
    }
)
_LOG_OPTIONS: Final = frozenset({"format", "rate", "site", "lsb_per_g", "speed"})


def is_port(name: str | os.PathLike[str]) -> bool:
    """Tell whether `name` means a port rather than a file."""
    return (isinstance(name, str) and name.startswith(_SCHEMES)) or Path(name).is_char_device()


def open_source(name: str | os.PathLike[str], **options: Any) -> Source:
    """Open a recording, a board or a log of a board's bytes.

    Parameters
    ----------
    name : str or path-like
        A file; or a port: ``serial:auto``, ``serial:/dev/ttyUSB0``, a device as it is,
        ``socket://host:port``, ``rfc2217://host:port``.
    **options
        For a recording those of `hypnic.readers.open_recording`, for a port those of
        `firmware_bridge.SerialIMU`, for a log of bytes those of `firmware_bridge.ReplayLog`. A file of
        bytes alone is known by the `format` that is given for it.

    Returns
    -------
    Source
        A `hypnic.readers.BaseRecording`, a `SerialIMU` that is reading already, or a `ReplayLog`.

    Raises
    ------
    UsageError
        If an option is none or has no meaning here, or the port cannot be opened.
    DataError
        If a file is absent or cannot be read, or what a port sends cannot be used.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if is_port(name):
        from firmware_bridge import SerialIMU

        return SerialIMU(str(name), **_meant(name, given, _BOARD_OPTIONS, "a port"))
    if "format" in given or _is_log(Path(name)):
        from firmware_bridge import ReplayLog

        return ReplayLog(name, **_meant(name, given, _LOG_OPTIONS, "a log of bytes"))
    return open_recording(name, **given)


def _meant(
    name: str | os.PathLike[str], given: Mapping[str, Any], known: frozenset[str], what: str
) -> Mapping[str, Any]:
    if strange := sorted(given.keys() - known):
        raise UsageError(f"{os.fspath(name)}: {', '.join(strange)} means nothing for {what}")
    return given


def _is_log(path: Path) -> bool:
    from firmware_bridge.rawlog import MAGIC

    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
