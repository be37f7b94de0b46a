"""Write what a simulated sensor shall measure: the file that simboard.c plays."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from hypnic.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.chunk import Source

__all__ = ["COUNTS_PER_G", "write_waveform"]

COUNTS_PER_G: Final = 8192.0
"""Counts in one g that the firmware measures with unless it is told another range: ±4 g in 16 bits."""

_MAGIC = b"hypnicwf"
_HEADER = struct.Struct("<8sdd")


def write_waveform(
    path: str | os.PathLike[str],
    source: Source,
    counts_per_g: float = COUNTS_PER_G,
    seconds: float | None = None,
) -> int:
    """Write a source as a waveform and return the number of its samples.

    At the range of `counts_per_g` the sensor's counts are those of the file, at another one they are rounded
    from them. At the rate of the source each sample is measured once; at another one the last before the
    moment is measured, without a low-pass.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced.
    source : Source
        A recording, a simulated sleeper or any other source. In its holes the sample before them stays.
    counts_per_g : float, optional
        Counts in one g.
    seconds : float, optional
        How much of the source to take; all of it by default.

    Raises
    ------
    DataError
        If the source has no samples.
    OSError
        If the file cannot be written.
    """
    left = None if seconds is None else round(seconds * source.rate)
    count = 0
    with Path(path).open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, source.rate, counts_per_g))
        for xyz in _without_holes(source):
            part = xyz if left is None else xyz[: left - count]
            counts = np.clip(np.rint(np.nan_to_num(part) * counts_per_g), -32768, 32767)
            file.write(counts.astype("<i2").tobytes())
            count += len(part)
            if left is not None and count >= left:
                break
    if not count:
        raise DataError("the source has no samples to play")
    return count


def _without_holes(source: Source) -> Iterator[NDArray[np.float32]]:
    last: NDArray[np.float32] | None = None
    for chunk in source:
        if last is not None and chunk.missing:
            yield from _blocks(last, chunk.missing)
        if len(chunk):
            yield chunk.xyz
            last = chunk.xyz[-1:]


def _blocks(sample: NDArray[np.float32], count: int, most: int = 65536) -> Iterator[NDArray[np.float32]]:
    for start in range(0, count, most):
        yield np.repeat(sample, min(most, count - start), axis=0)
