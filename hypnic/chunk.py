"""The one thing that flows: a run of acceleration samples without a hole in it.

A board, a file and a simulated sleeper are each a `Source`: they have a rate and a site and yield
`Chunk` after `Chunk`. Whatever consumes chunks (detector, recorder, live view) cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np

from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MAX_RATE",
    "MIN_RATE",
    "ArraySource",
    "Chunk",
    "Site",
    "Source",
    "as_xyz",
    "check_rate",
    "check_site",
]

Site = Literal["wrist", "mattress"]

MIN_RATE = 25.0
"""Lowest sampling rate (Hz) accepted: a jerk's energy reaches 9 Hz and needs room below Nyquist."""

MAX_RATE = 1000.0
"""Highest sampling rate (Hz) accepted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive samples of one sensor.

    Attributes
    ----------
    xyz : ndarray of float32, shape (n, 3)
        Acceleration in g, gravity included.
    index : int
        Number of the first sample, counted from the start of the recording with lost samples included.
    time : float
        POSIX seconds of the first sample; NaN where the source has no wall clock.
    missing : int
        Samples lost just before the first one.
    reason : str
        Why they are missing, in a few words, where the source knows.
    """

    xyz: NDArray[np.float32]
    index: int
    time: float = float("nan")
    missing: int = 0
    reason: str = ""

    def __len__(self) -> int:
        return len(self.xyz)


@runtime_checkable
class Source(Protocol):
    """Anything that yields chunks: a recording, a board, a simulated sleeper."""

    @property
    def rate(self) -> float:
        """Nominal sampling rate in Hz."""

    @property
    def site(self) -> Site:
        """Where the sensor is: ``"wrist"`` or ``"mattress"``."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_rate(rate: Any) -> float:
    """Return `rate` as a float.

    Raises
    ------
    UsageError
        If it is not a number from 25 to 1000 Hz.
    """
    try:
        value = float(rate)
    except (TypeError, ValueError):
        raise UsageError(f"rate {rate!r} is not a number of Hz") from None
    if not value >= MIN_RATE:
        raise UsageError(f"rate {value:g} Hz is below {MIN_RATE:g} Hz, the least that resolves a jerk")
    if value > MAX_RATE:
        raise UsageError(
            f"rate {value:g} Hz is above {MAX_RATE:g} Hz, the most that is supported: resample first"
        )
    return value


def check_site(site: str) -> Site:
    """Return `site` if it is ``"wrist"`` or ``"mattress"``.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    if site not in get_args(Site):
        raise UsageError(f"site {site!r} is unknown: use wrist or mattress")
    return site  # type: ignore[return-value]  # narrowed by the check above


def as_xyz(samples: ArrayLike) -> NDArray[np.float32]:
    """Return `samples` as C-contiguous float32 of shape (n, 3), without a copy where they are that already.

    Parameters
    ----------
    samples : array_like, shape (n, 3) or (3,)
        Acceleration in g. One sample may be given as three numbers.

    Raises
    ------
    DataError
        If the shape is another, or the values are not real numbers.
    """
    try:
        array = np.asarray(samples)
    except ValueError:
        raise DataError("samples are not (n, 3): the rows are of different lengths") from None
    if array.dtype.kind not in "iufb":
        raise DataError(f"samples of type {array.dtype} are not real numbers")
    if array.ndim == 1 and array.shape[0] == 3:
        array = array[np.newaxis]
    elif array.size == 0:
        array = array.reshape(0, 3)
    if array.ndim != 2 or array.shape[1] != 3:
        raise DataError(
            f"samples of shape {array.shape} are not (n, 3): one row per sample, columns x, y, z in g"
        )
    # Values beyond float32 become inf, which the detector counts as invalid: no reason to warn here.
    with np.errstate(over="ignore"):
        plain = np.ascontiguousarray(array, dtype=np.float32)
    # For an array that cannot be written to the kernel would be compiled once more.
    return plain if plain.flags.writeable else plain.copy()


class ArraySource:
    """An array as a source.

    Parameters
    ----------
    xyz : array_like, shape (n, 3)
        Acceleration in g.
    rate : float
        Sampling rate in Hz.
    site : {"wrist", "mattress"}
        Where the sensor was.
    time : float, optional
        POSIX seconds of the first sample.
    block : int, optional
        Samples per chunk.
    """

    def __init__(
        self, xyz: ArrayLike, rate: float, site: str = "wrist", time: float = float("nan"), block: int = 65536
    ) -> None:
        self.xyz = as_xyz(xyz)
        self.rate = check_rate(rate)
        self.site: Site = check_site(site)
        self.time = time
        self._block = block

    def __iter__(self) -> Iterator[Chunk]:
        for start in range(0, len(self.xyz), self._block):
            yield Chunk(self.xyz[start : start + self._block], start, self.time + start / self.rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
