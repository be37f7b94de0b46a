"""Compiled functions whose cache on disk can neither go stale nor be mixed up.

numba decides by a function's own source file whether its cached machine code is still good. The detector's functions
take constants from `hypnic.layout` and call one another across modules, so the stamp of their cache is made from the
sources of all of them.

numba's own cache keeps an index of numbered files for each function. Two processes that start on an empty cache can
each give number 1 to different code (another signature, another processor over a shared disk), and the index of the
last then points at the code of the first. Here each piece of code has a file of its own, named by all that it depends
on, with a checksum: whoever writes it writes the same, a half-written one is compiled anew, and there is no index to
lose. Where nothing can be written, what somebody else compiled beside the sources is still read, and otherwise each
process compiles for itself: slower, never wrong.
"""

from __future__ import annotations

import hashlib
import pickle
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numba
from numba import njit
from numba.core import caching
from numba.core.serialize import dumps

__all__ = ["CACHE", "CacheUse", "inlined", "jit", "jit_with_arrays"]

_ROOMS = ("layout", "jit", "lanes", "rest", "labels", "kernel", "compare", "counts", "tally")
_STAMP = hashlib.sha256(
    b"".join(Path(__file__).with_name(f"{room}.py").read_bytes() for room in _ROOMS)
    + numba.__version__.encode()
).hexdigest()[:16]

_MAGIC: Final = b"hypnic machine code 1\n"

_DIGEST: Final = 32
"""Bytes of the checksum (SHA-256)."""

_ABANDONED_S: Final = 3600.0
"""Age (s) from which on a partial file is one that its writer left behind: writing takes milliseconds."""


@dataclass
class CacheUse:
    """What this process has had from the cache on disk, and put into it.

    Attributes
    ----------
    folder : str
        Where new code is written; empty where nowhere.
    loaded, saved, unsaved : int
        Pieces of code (one for each function and signature) that were found there, were compiled and written, and
        were compiled but could not be written.
    problem : str
        Why something could not be written.
    """

    folder: str = ""
    loaded: int = 0
    saved: int = 0
    unsaved: int = 0
    problem: str = ""


CACHE: Final = CacheUse()
"""Of this process."""


class _BesideSources(caching.InTreeCacheLocator):
    """The last resort, where no folder can be written: only what is there already is read."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Any:
        return cls(py_func, py_file)


class _Layout(caching.CompileResultCacheImpl):
    _locator_classes = (  # type: ignore[assignment]  # numba only goes through them
        caching.UserProvidedCacheLocator,
        caching.InTreeCacheLocator,
        caching.UserWideCacheLocator,
        _BesideSources,
    )


class _Code:
    """Files of machine code, in place of numba's index and its numbered files.

    Parameters
    ----------
    folder : Path
        Where to write and read.
    beside : Path
        Where to read too.
    base : str
        How numba begins the names of the files of a function: module, name, line and Python version.
    """

    def __init__(self, folder: Path, beside: Path, base: str) -> None:
        self._folder, self._beside, self._base = folder, beside, base

    def _name(self, key: Any) -> str:
        # The signature, the processor with its features, and the bytecode, all with a repr that says all of them.
        which = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return f"{self._base}.{_STAMP}.{which}.nbc"

    def load(self, key: Any) -> Any:
        name = self._name(key)
        for folder in dict.fromkeys((self._folder, self._beside)):
            try:
                content = (folder / name).read_bytes()
            except OSError:
                continue
            body = content[len(_MAGIC) + _DIGEST :]
            if content == _MAGIC + hashlib.sha256(body).digest() + body:
                CACHE.loaded += 1
                return pickle.loads(body)
        return None

    def save(self, key: Any, data: Any) -> None:
        body = dumps(data)
        name = self._name(key)
        partial = self._folder / f"{name}.{uuid.uuid4().hex[:16]}.part"
        try:
            partial.write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)
            partial.replace(self._folder / name)
        finally:
            partial.unlink(missing_ok=True)
        CACHE.saved += 1
        self._tidy()

    def flush(self) -> None:
        for path in self._folder.glob(f"{self._base}.{_STAMP}.*.nbc"):
            path.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove the function's code from other sources or another numba, and what a killed writer left."""
        function, _, rest = self._base.rpartition("-")
        python = rest.partition(".")[2]
        for path in self._folder.glob(f"{function}-*.{python}.*"):
            try:
                abandoned = path.suffix == ".part" and time.time() - path.stat().st_mtime > _ABANDONED_S
                if abandoned or (path.suffix != ".part" and f".{python}.{_STAMP}." not in path.name):
                    path.unlink()
            except OSError:
                # Another process was faster, or owns it.
                continue


class _Cache(caching.FunctionCache):
    _impl_class = _Layout

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        folder = Path(self.cache_path)
        beside = Path(function.__code__.co_filename).parent / "__pycache__"
        files = _Code(folder, beside, self._impl.filename_base)
        self._cache_file = files  # type: ignore[assignment]  # save, load and flush are all that is asked of it
        if isinstance(self._impl.locator, _BesideSources):
            CACHE.problem = CACHE.problem or f"{beside} and the user's cache folder cannot be written"
        else:
            CACHE.folder = str(folder)

    def save_overload(self, sig: Any, data: Any) -> None:
        # A full or read-only disk must not end a detector that has just been compiled.
        try:
            super().save_overload(sig, data)
        except OSError as error:
            CACHE.unsaved += 1
            CACHE.problem = f"{self.cache_path}: {error.strerror or error}"


def jit(function: Callable[..., Any], arrays: bool = False, inline: bool = False) -> Callable[..., Any]:
    """Compile `function` at its first call, or load it from the cache of an earlier process.

    No ``fastmath``: it would break the tests for NaN and let results differ between machines. Unless a function makes
    `arrays` of its own, it does not count references to those that it is given: for small functions called in turn
    that takes as long as all that they do. Other threads go on meanwhile: a detector belongs to one.
    """
    options: dict[str, Any] = {
        "error_model": "numpy",
        "nogil": True,
        "_nrt": arrays,
        "forceinline": inline,
    }
    dispatcher: Callable[..., Any] = njit(**options)(function)
    # With NUMBA_DISABLE_JIT the function comes back as it is, without a cache.
    if hasattr(dispatcher, "_cache"):
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError as error:
            # Only with NUMBA_CACHE_LOCATOR_CLASSES, which leaves out the last resort.
            CACHE.problem = str(error)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function, as `jit` does, whose code is to stand in that of every compiled function that calls it.

    A call hands over two arrays in some twenty words: as long as much of what is done every 0.1 s.
    """
    return jit(function, inline=True)


def jit_with_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that makes arrays of its own, as `jit` does."""
    return jit(function, arrays=True)
