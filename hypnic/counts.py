"""Counts as HDF5 shuffles them, to acceleration in g, compiled.

For whoever has the compiler in memory anyway, as every detector has: elsewhere `hypnic.recording.chunks` does the same
in NumPy, to the byte, in over four times the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import config

from hypnic.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

__all__ = ["COMPILED", "in_g"]

COMPILED: Final = not config.DISABLE_JIT  # type: ignore[attr-defined]  # numba makes it as it starts
"""Whether it is: sample by sample in Python it would take for ever."""


@jit
def in_g(low: Bytes, high: Bytes, factor: float, out: NDArray[np.float32]) -> None:
    """Put counts of two bytes, times `factor`, into `out`: one product in float64, rounded once.

    Parameters
    ----------
    low, high : ndarray of uint8, shape (n,)
        The lower and the upper bytes of all counts.
    factor : float
        g per count.
    out : ndarray of float32, shape (n,)
        Where to.
    """
    for k in range(out.size):
        count = np.int16(np.uint16(low[k]) | (np.uint16(high[k]) << np.uint16(8)))
        out[k] = np.float32(np.float64(count) * factor)
