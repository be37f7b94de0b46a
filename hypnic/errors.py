"""The two ways in which hypnic refuses: the caller's words, or the data."""

from __future__ import annotations

__all__ = ["DataError", "HypnicError", "UsageError"]


class HypnicError(ValueError):
    """Anything that hypnic refuses, with one line that says what was given and what to do."""


class UsageError(HypnicError):
    """An option or argument that cannot be meant: unknown site, rate below 25 Hz, unknown unit."""


class DataError(HypnicError):
    """A file or stream that cannot be read as a recording: damaged, empty, wrong shape, no rate."""
