"""Compile the detector once, before anybody waits for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hypnic.jit import CacheUse

__all__ = ["warm_up"]


def warm_up() -> CacheUse:
    """Compile everything that a detector may run, or load it from the cache on disk.

    All of it: with and without a second sensor, for samples that must not be written to, and from files. It takes
    some 15 s where nothing is in the cache, and a second where everything is. Every process of a machine, and every
    machine with the same processor that shares the folder, then starts with it.

    Returns
    -------
    CacheUse
        What came from the cache and what went into it.

    Examples
    --------
    >>> from hypnic.warmup import warm_up
    >>> warm_up().unsaved
    0
    """
    from hypnic import compare, counts
    from hypnic.detector import Detector
    from hypnic.jit import CACHE
    from hypnic.tally import Tally

    # What a reference leaves of an event is compiled by the types alone: no event is needed.
    compare.verdict(
        np.zeros(compare.RING + compare.LANES),
        np.zeros(compare.VERDICT + 2, np.int64),
        np.full(8, 1.0),
        np.full(5, math.inf),
        np.float64(0.0),
        np.float64(1.0),
    )
    # What is read of a file must not be written to.
    plain = np.frombuffer(bytes(3), np.uint8)
    counts.in_g(plain, plain, 1.0, np.zeros(3, np.float32))
    xyz = np.zeros((2, 3), np.float32)
    fixed = xyz.copy()
    fixed.flags.writeable = False
    detector = Detector(100.0, reference=True)
    tally = Tally(2, 2, math.inf)
    for samples in (xyz, fixed):
        detector.push_rows(samples, samples)
        tally.add(samples)
    tally.end_stretch()
    detector.flush_rows()
    return CACHE
