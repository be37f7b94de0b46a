"""Events and recordings as objects of MNE-Python, and as its FIF files.

Acceleration stays in g: MNE has no type of channel for it, so the axes are of type ``misc``, which MNE neither
scales nor filters unless told to.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import UsageError
from hypnic.export.base import CANDIDATES, gap_spans, need, remarks, whole

if TYPE_CHECKING:
    import mne

    from hypnic.events import Events
    from hypnic.readers import BaseRecording

__all__ = ["GAP", "to_annotations", "to_raw", "write_fif"]

GAP: Final = "BAD_ACQ_SKIP"
"""MNE's own word for a stretch without data, over which its filters do not run."""

EXTRAS: Final = ("score", "peak_g", "prominence", "rest", "sample", "id", "revision")
"""Columns of the event table that go along with each annotation."""

_FIF_ENDINGS: Final = ("raw.fif", "raw.fif.gz")


def to_annotations(events: Events, start: datetime | None = None) -> mne.Annotations:
    """Return events as `mne.Annotations` (needs the ``mne`` extra): the last revision of each.

    Parameters
    ----------
    events : Events
        The description of each is its label; `EXTRAS` go along in the annotation's ``extras``.
    start : datetime, optional
        When sample 0 was taken: the ``orig_time``. Without it onsets count from the start of the data.

    Raises
    ------
    UsageError
        If MNE is not installed, or `start` has no time zone.
    """
    package: Any = need("mne", "mne", "mne.Annotations")
    last = events.latest().array
    return package.Annotations(
        onset=last["onset"],
        duration=np.maximum(np.nan_to_num(last["duration"]), 0.0),
        description=[str(label) for label in last["label"]],
        orig_time=_moment(start),
        extras=[{name: _plain(row[name]) for name in EXTRAS} for row in last],
    )


def to_raw(recording: BaseRecording, events: Events | None = None) -> mne.io.RawArray:
    """Return a recording as `mne.io.RawArray` (needs the ``mne`` extra), all of it in memory.

    Three channels of type ``misc``, in g. Missing samples are NaN under an annotation ``BAD_ACQ_SKIP``, which MNE's
    filters leave out. The recording's own annotations come along as ``truth/hypnic_jerk``, ``diary/...``.

    Parameters
    ----------
    recording : BaseRecording
        The samples; its start becomes the ``meas_date``.
    events : Events, optional
        What was found in it.

    Raises
    ------
    UsageError
        If MNE is not installed.
    DataError
        If the recording cannot be read.
    """
    package: Any = need("mne", "mne", "an mne.io.RawArray")
    info = package.create_info(["acc_x", "acc_y", "acc_z"], recording.rate, "misc")
    info["description"] = f"acceleration in g, {recording.site}; {CANDIDATES}"
    result = package.io.RawArray(np.ascontiguousarray(recording.read().T, np.float64), info, verbose="error")
    start = _moment(recording.start_time)
    result.set_meas_date(start)
    gaps = [
        (first / recording.rate, count / recording.rate, f"{GAP}: {why}")
        for first, count, why in gap_spans(recording)
    ]
    rows = [*gaps, *remarks(recording.annotations)]
    notes = package.Annotations(
        onset=[row[0] for row in rows],
        duration=[row[1] for row in rows],
        description=[row[2] for row in rows],
        orig_time=start,
    )
    result.set_annotations(
        notes if events is None else notes + to_annotations(events, start), verbose="error"
    )
    return result


def write_fif(
    recording: BaseRecording, events: Events, target: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a recording with its events as MNE's FIF, samples as float32 in g.

    Raises
    ------
    UsageError
        If MNE is not installed, or the name does not end as MNE wants it.
    DataError
        If the file exists and must not be replaced.
    OSError
        If it cannot be written.
    """
    if not target.name.endswith(_FIF_ENDINGS):
        raise UsageError(f"{target}: MNE wants the name of such a file to end in raw.fif")
    with whole(target, overwrite=overwrite) as partial:
        # A file that would exceed FIF's 2 GB is 250 h at 100 Hz, and MNE says so itself.
        to_raw(recording, events).save(partial, fmt="single", overwrite=True, verbose="error")
    return [target]


def _moment(start: datetime | None) -> datetime | None:
    if start is not None and start.tzinfo is None:
        raise UsageError(f"start {start} has no time zone: MNE counts in UTC")
    return None if start is None else start.astimezone(UTC)


def _plain(value: Any) -> str | int | float | None:
    if isinstance(value, np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value)
