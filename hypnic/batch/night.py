"""One night of many: what is asked, what is found, and what to say of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

import hypnic
from hypnic.errors import HypnicError
from hypnic.events import EVENT_DTYPE, LABELS, Events

if TYPE_CHECKING:
    from hypnic.quality import Described
    from hypnic.readers import BaseRecording

__all__ = ["DONE", "TRANSIENT", "Outcome", "Status", "Task", "detect_night"]

Status = Literal["done", "unreadable", "unopened", "timeout", "killed", "bug", "stopped"]
"""How a night ended. unreadable: hypnic refuses the data. unopened: the system did not give the file, or the memory.
timeout: it took longer than the limit. killed: its process was ended from outside, or crashed. bug: an error of
hypnic's or a library's own. stopped: it was not done because everything was ended."""

DONE: Final = "done"

TRANSIENT: Final = ("unopened", "killed", "stopped")
"""Ends that say nothing about the data: such a night is tried again by the next run."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be done with one recording.

    Attributes
    ----------
    path : str
        The recording, an absolute path.
    options : dict
        Those of `hypnic.readers.open_recording`.
    settings : dict or None
        Settings that differ from the preset of the recording's site.
    timeout : float
        Longest time (s) that it may take; 0 for no limit.
    version : str
        hypnic's, where the task was made: another one might find something else.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] | None = None
    timeout: float = 0.0
    version: str = hypnic.__version__


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one recording.

    Attributes
    ----------
    path : str
        As in the task.
    status : Status
        Whether it was done, or why not.
    reason : str
        Why not, in one line.
    events : Events
        What was found, the last revision of each event.
    facts : dict
        Of a night that was done: what `hypnic.quality.describe` returns, ``valid_hours``, ``clock_error`` (ppm, None
        where the recording has no clock) and ``counts`` of each label.
    seconds : float
        How long it took.
    """

    path: str
    status: Status
    reason: str = ""
    events: Events = field(default_factory=Events)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Between processes the rows travel as bytes: a third of the time and half the size of numpy's own way.
        state = dict(self.__dict__)
        state["events"] = (self.events.array.tobytes(), self.events.meta)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows, meta = state.pop("events")
        self.__dict__.update(state, events=Events(np.frombuffer(rows, EVENT_DTYPE).copy(), meta))


def detect_night(task: Task) -> Outcome:
    """Detect and describe one recording, in one pass over it.

    What goes wrong is part of the outcome; nothing is raised but what ends a process (Ctrl-C).
    """
    from hypnic.detector import detect
    from hypnic.quality import Described
    from hypnic.readers import open_recording
    from hypnic.settings import Settings

    start = time.perf_counter()

    def failed(status: Status, reason: str) -> Outcome:
        return Outcome(task.path, status, " ".join(reason.split()), seconds=time.perf_counter() - start)

    if task.version != hypnic.__version__:
        return failed(
            "killed", f"the worker has hypnic {hypnic.__version__}, where it was started is {task.version}"
        )
    try:
        with open_recording(task.path, **task.options) as recording:
            # So many jobs take so many cores.
            recording.reads_ahead = False
            seen = Described(recording)
            settings = None if task.settings is None else Settings.from_dict(task.settings, recording.site)
            found = detect(seen, settings=settings)
            facts = _facts(recording, seen, found)
    except HypnicError as error:
        return failed("unreadable", str(error))
    except OSError as error:
        return failed("unopened", f"{error.filename or task.path}: {error.strerror or error}")
    except MemoryError:
        return failed("unopened", f"{task.path}: out of memory")
    except Exception as error:
        # One night's bug must not cost the others theirs; it is said, counted and kept in the manifest.
        return failed("bug", f"{task.path}: {type(error).__name__}: {error}")
    return Outcome(task.path, DONE, "", found, facts, time.perf_counter() - start)


def _facts(recording: BaseRecording, seen: Described, found: Events) -> dict[str, Any]:
    from hypnic.marks import fault_spans, valid_hours

    spans = [*seen.lost, *fault_spans(recording.annotations)]
    timed = len(recording.clock) > 1
    counts = found.counts()
    return seen.facts() | {
        "valid_hours": valid_hours(recording.duration, spans),
        "clock_error": 1e6 * (recording.effective_rate / recording.rate - 1.0) if timed else None,
        "counts": {label: counts[label] for label in LABELS},
    }


def is_recording(path: Path) -> bool:
    """Tell from the ending of a file, and for text from its first line, whether it is taken for a recording."""
    from hypnic.readers import FORMATS

    endings = {ending for known in FORMATS.values() for ending in known.suffixes}
    if path.name.startswith(".") or path.suffix.lower() not in endings or not path.is_file():
        return False
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return True
    try:
        with path.open("rb") as file:
            head = file.readline(200).decode(errors="replace").replace("\t", ",")
    except OSError:
        # Not to be read: the run says so.
        return True
    # Our own tables, and those of BIDS, lie beside the nights that they are about.
    names = [word.strip() for word in head.split(",")]
    return not ({"onset", "duration"} <= set(names) or names[0] == "night")
