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

__all__ = ["jit", "jit_with_arrays"]

_ROOMS = ("layout", "jit", "lanes", "rest", "labels", "kernel", "compare")
_STAMP = hashlib.sha256(
    b"".join(Path(__file__).with_name(f"{room}.py").read_bytes() for room in _ROOMS)
).hexdigest()


def jit(function: Callable[..., Any], arrays: bool = False) -> Callable[..., Any]:
    """Compile `function` at its first call, or load it from the cache of an earlier process.

    No ``fastmath``: it would break the tests for NaN and let results differ between machines. Unless a function makes
    `arrays` of its own, it does not count references to those that it is given: for small functions called in turn
    that takes as long as all that they do.
    """
    options: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": arrays}
    dispatcher: Callable[..., Any] = njit(**options)(function)
    # With NUMBA_DISABLE_JIT the function comes back as it is, without a cache.
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is not None:
        index._source_stamp = _STAMP
    return dispatcher


def jit_with_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that makes arrays of its own, as `jit` does."""
    return jit(function, arrays=True)
