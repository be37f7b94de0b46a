"""What every exporter shares: its entry in the list, whole files, and the words for a package that is not there."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.readers import BaseRecording

__all__ = ["CANDIDATES", "Exporter", "gap_spans", "need", "refuse_existing", "remarks", "whole"]

CANDIDATES = (
    "hypnic_jerk and isolated_jerk are candidates found in acceleration, which cannot show sleep stage; "
    "not a medical device"
)
"""What every exported file says of its jerks."""


class Exporter(NamedTuple):
    """A format that a recording and its events can be written in.

    Attributes
    ----------
    name : str
        What it is called.
    suffixes : tuple of str
        Endings that mean it, with the dot; none for a format that is a folder.
    write : callable
        ``write(recording, events, target, *, overwrite, **options) -> list of Path``: the files written.
    options : frozenset of str
        Further options that `write` takes.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[..., list[Path]]
    options: frozenset[str] = frozenset()


def need(module: str, extra: str, purpose: str) -> Any:
    """Return an optional package.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise UsageError(f"{purpose} needs {package}: pip install 'hypnic[{extra}]'") from None


@contextlib.contextmanager
def whole(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a path to write to; what is there in the end takes the place of `path`, and nothing where it fails.

    Raises
    ------
    DataError
        If `path` exists and must not be replaced.
    OSError
        If it cannot be written.
    """
    if not overwrite:
        refuse_existing(path)
    # The ending stays: some writers go by it.
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(*paths: Path) -> None:
    """Raise `DataError` if one of `paths` exists."""
    for path in paths:
        if path.exists():
            raise DataError(
                f"{path}: the file exists already: choose another name or overwrite it (--overwrite)"
            )


def gap_spans(recording: BaseRecording) -> list[tuple[int, int, str]]:
    """Return the missing stretches as (number of the first missing sample, how many, why)."""
    before = np.cumsum(recording.gaps["missing"]) - recording.gaps["missing"]
    return [
        (int(gap["sample"] + lost), int(gap["missing"]), str(gap["reason"]) or "lost")
        for gap, lost in zip(recording.gaps, before, strict=True)
    ]


def remarks(annotations: NDArray[np.void]) -> Iterator[tuple[float, float, str]]:
    """Yield onset (s), duration (s) and text of a recording's own annotations, with who says so ahead.

    ``truth/hypnic_jerk`` or ``diary/lights off`` can be told from what a detector found, and the slash is what MNE
    groups descriptions by. Rows whose onset is no time are left out.
    """
    for row in annotations:
        onset, duration = float(row["onset"]), float(row["duration"])
        if not (np.isfinite(onset) and onset >= 0):
            continue
        source = str(row["source"]).partition(":")[0].partition(" ")[0] or "remark"
        yield onset, duration if np.isfinite(duration) and duration > 0 else 0.0, f"{source}/{row['label']}"
