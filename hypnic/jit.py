"""Compiled functions whose cache on disk cannot go stale.

numba decides by a function's own source file whether its cached machine code is still good. The detector's functions
take constants from `hypnic.layout` and call one another across modules, so the stamp of their cache is made from the
sources of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["jit"]

_ROOMS = ("layout", "jit", "rest", "labels", "kernel", "compare")
_STAMP = hashlib.sha256(
    b"".join(Path(__file__).with_name(f"{room}.py").read_bytes() for room in _ROOMS)
).hexdigest()


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` at its first call, or load it from the cache of an earlier process.

    No ``fastmath``: it would break the tests for NaN and let results differ between machines.
    """
    dispatcher: Callable[..., Any] = njit(cache=True, error_model="numpy")(function)
    # With NUMBA_DISABLE_JIT the function comes back as it is, without a cache.
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is not None:
        index._source_stamp = _STAMP
    return dispatcher
