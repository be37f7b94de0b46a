"""Samples to bytes, for every wire format: a recording played as a board, and the tests of the decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from firmware_bridge.decoders import delimited, hypnic, labelled, witmotion, witmotion_combined, xbus
from hypnic.chunk import as_xyz
from hypnic.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ENCODERS", "encode", "introduce"]

ENCODERS: Final[dict[str, Callable[[NDArray[np.float32], float, int], bytes]]] = {
    "hypnic": hypnic.encode,
    "hypnic-csv": delimited.encode_csv,
    "witmotion": witmotion.encode,
    "witmotion-combined": witmotion_combined.encode,
    "xbus": xbus.encode,
    "razor": delimited.encode_razor,
    "artemis": delimited.encode_artemis,
    "simple": delimited.encode_simple,
    "mpu6050-raw": delimited.encode_mpu6050_raw,
    "adafruit": labelled.encode_adafruit,
    "plotter": labelled.encode_plotter,
    "m5stick": labelled.encode_m5stick,
}
"""Encoder of each format, by name."""

_INTRODUCTIONS: Final[dict[str, Callable[[float], bytes]]] = {
    "hypnic": hypnic.header,
    "hypnic-csv": delimited.csv_header,
    "artemis": delimited.artemis_heading,
    "simple": delimited.simple_heading,
}


def introduce(fmt: str, rate: float) -> bytes:
    """Return what a board with format `fmt` sends before its first sample; nothing where it sends nothing.

    Raises
    ------
    UsageError
        If the format is unknown.
    """
    _check(fmt)
    introduction = _INTRODUCTIONS.get(fmt)
    return b"" if introduction is None else introduction(rate)


def encode(xyz: ArrayLike, fmt: str, rate: float, start: int = 0) -> bytes:
    """Return samples as a board with format `fmt` sends them.

    Encoding the parts of a recording one after the other gives the same bytes as encoding it whole.

    Parameters
    ----------
    xyz : array_like, shape (n, 3)
        Acceleration in g, rounded and clipped to what the format holds.
    fmt : str
        A key of `ENCODERS`.
    rate : float
        Sampling rate in Hz.
    start : int, optional
        Number of the first sample, lost samples counted: a hole shows in formats that have a counter or
        ticks.

    Raises
    ------
    UsageError
        If the format is unknown.
    DataError
        If `xyz` has another shape.
    """
    _check(fmt)
    return ENCODERS[fmt](as_xyz(xyz), rate, start)


def _check(fmt: str) -> None:
    if fmt not in ENCODERS:
        raise UsageError(f"format {fmt!r} is unknown: use {', '.join(ENCODERS)}")
