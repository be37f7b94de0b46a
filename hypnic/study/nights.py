"""What each night brought: candidate jerks, onset windows, and the evening that it belongs to."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hypnic.bouts import rest_table
from hypnic.errors import DataError, UsageError
from hypnic.events import Events, sound_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypnic.settings import Settings

__all__ = ["Night", "evening_of", "files_in", "read_night"]

LABEL: Final = "hypnic_jerk"
"""What is counted: by its definition it lies in an onset window."""

NOON: Final = timedelta(hours=12)
"""A recording that starts before noon belongs to the evening before."""

_TABLES: Final = (".json", ".jsonl", ".parquet")
_TEXTS: Final = (".csv", ".tsv", ".txt")
_DATE: Final = re.compile(r"(?<!\d)(20\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


class Night(NamedTuple):
    """One night.

    Attributes
    ----------
    name : str
        Name of its file.
    date : date or None
        The evening on which it began, where that is known.
    subject : str
        Who slept, where the recording says so.
    jerks : int
        Rows labelled ``hypnic_jerk``: candidates in onset windows.
    windows : int
        Onset windows; -1 where the file does not tell.
    onset_hours : float
        Their length together (h); NaN where the file does not tell.
    hours : float
        Samples received, as hours; NaN where the file does not tell.
    """

    name: str
    date: date | None
    subject: str
    jerks: int
    windows: int
    onset_hours: float
    hours: float


def evening_of(start: datetime | None, name: str = "") -> date | None:
    """Return the date of the evening that a night belongs to.

    Parameters
    ----------
    start : datetime or None
        Start of the recording, by the clock on the wall where it was made. From noon to noon is one night: a recording
        begun at half past midnight belongs to the evening before.
    name : str
        Name of the file. Where there is no start, a date in it (2024-03-21, 20240321) is taken for that of the
        evening.

    Examples
    --------
    >>> from datetime import datetime
    >>> evening_of(datetime(2024, 3, 22, 0, 30)).isoformat()
    '2024-03-21'
    """
    if start is not None:
        return (start.replace(tzinfo=None) - NOON).date()
    found = _DATE.search(name)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def files_in(folder: str | os.PathLike[str], leave_out: Path | None = None) -> list[Path]:
    """Return the files in a folder that can be nights or tables of events, by name.

    Raises
    ------
    DataError
        If it is no folder, or holds none.
    """
    from hypnic.readers import FORMATS

    home = Path(folder)
    if not home.is_dir():
        raise DataError(f"{home}: this is no folder: put the nights of the study into one")
    endings = {ending for known in FORMATS.values() for ending in known.suffixes} | {*_TABLES, *_TEXTS}
    other = leave_out.resolve() if leave_out is not None else None
    found = [
        path
        for path in sorted(home.iterdir())
        if path.is_file()
        and path.suffix.lower() in endings
        and not path.name.startswith(".")
        and path.resolve() != other
    ]
    if not found:
        raise DataError(f"{home}: there is no night in it, and no table of events")
    return found


def read_night(
    path: str | os.PathLike[str],
    *,
    detect: bool = False,
    settings: Settings | str | os.PathLike[str] | None = None,
    site: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Night:
    """Count the candidate jerks and the onset windows of a night.

    Parameters
    ----------
    path : path-like
        A recording, whose stored events are taken where it has any and otherwise detected now; or a table of events.
        Only JSON and Parquet tables say how the person rested.
    detect : bool
        Whether to detect anew where there are stored events.
    settings : Settings or path-like, optional
        For detecting, which is then done anew: the thresholds, or a TOML file of what differs from the preset of the
        night's own site.
    site : {"wrist", "mattress"}, optional
        Where the sensor was, where the file does not say.
    progress : callable, optional
        Told the samples done while detecting.

    Raises
    ------
    DataError
        If the file is neither.
    UsageError
        If there is something wrong with the file of settings.
    OSError
        If it cannot be opened.
    """
    file = Path(path)
    if _is_table(file):
        return _of_table(file)
    from hypnic.detector import detect as detect_in
    from hypnic.export import stored_events
    from hypnic.readers import open_recording
    from hypnic.settings import Settings

    with open_recording(file, site=site) as recording:
        events = None if detect or settings is not None else stored_events(recording)
        if events is None or "rest" not in events.meta:
            chosen = (
                settings
                if settings is None or isinstance(settings, Settings)
                else Settings.from_toml(settings, recording.site)
            )
            events = detect_in(recording, settings=chosen, progress=progress)
        subject = str(getattr(recording, "attrs", {}).get("subject", ""))
        evening = evening_of(recording.start_time, file.name)
        return _night(file, events, evening, subject, recording.n_samples / recording.rate / 3600)


def _is_table(file: Path) -> bool:
    ending = file.suffix.lower()
    if ending not in _TEXTS:
        return ending in _TABLES
    with file.open("rb") as handle:
        lines = handle.read(4096).decode("utf-8", "replace").lstrip("\ufeff").splitlines()
    header = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return "onset" in (name.strip(' "').lower() for name in re.split("[,;\t]", header))


def _of_table(file: Path) -> Night:
    ending = file.suffix.lower()
    if ending == ".parquet":
        from hypnic.export.parquet import read_events

        return _night(file, read_events(file).latest(), evening_of(None, file.name))
    from hypnic.marks import load

    marks = load(file)
    jerks = int((marks.label == LABEL).sum())
    try:
        meta = dict(json.loads(file.read_text(encoding="utf-8-sig"))["meta"]) if ending == ".json" else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        # Somebody else's table: the events are there, and how they were made is not.
        meta = {}
    return _night(file, Events(meta=sound_meta(meta)), evening_of(None, file.name), jerks=jerks)


def _night(
    file: Path,
    events: Events,
    evening: date | None,
    subject: str = "",
    hours: float = math.nan,
    jerks: int | None = None,
) -> Night:
    count = len(events.hypnic_jerks) if jerks is None else jerks
    if math.isnan(hours):
        try:
            hours = float(events.meta["counts"]["received"]) / float(events.meta["rate"]) / 3600
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            # Not told, or not by hypnic.
            hours = math.nan
    if "rest" not in events.meta:
        return Night(file.name, evening, subject, count, -1, math.nan, hours)
    windows = rest_table(events).windows
    length = float((windows["end"] - windows["onset"]).sum()) / 3600
    return Night(file.name, evening, subject, count, len(windows), length, hours)


def exposure(nights: list[Night], kind: str) -> Iterator[float]:
    """Yield what the jerks of each night are counted against: onset hours, onset windows, or the night itself.

    Raises
    ------
    UsageError
        If `kind` is unknown.
    """
    if kind not in EXPOSURES:
        raise UsageError(f"exposure {kind!r} is unknown: use {', '.join(EXPOSURES)}")
    for night in nights:
        if kind == "hours":
            yield night.onset_hours
        elif kind == "windows":
            yield float(night.windows) if night.windows >= 0 else math.nan
        else:
            yield 1.0


EXPOSURES: Final = {"hours": "hour of onset", "windows": "onset window", "nights": "night"}
"""What jerks can be counted against, and how one of them is called."""
