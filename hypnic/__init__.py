"""Candidate hypnic jerks (sleep starts) in wrist or mattress acceleration, live or recorded.

>>> import hypnic                                             # doctest: +SKIP
>>> with hypnic.open("night.h5") as night:                    # doctest: +SKIP
...     events = hypnic.detect(night)
>>> events.hypnic_jerks.to_pandas()                           # doctest: +SKIP

A `hypnic_jerk` is a candidate: an accelerometer cannot see sleep stage, and hypnic is not a medical device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypnic.bouts import rest_table
    from hypnic.calibration import autocalibrate
    from hypnic.chunk import ArraySource, Chunk, Source
    from hypnic.detector import Detector, detect
    from hypnic.errors import DataError, HypnicError, UsageError
    from hypnic.events import Events
    from hypnic.explanation import explain
    from hypnic.quality import describe
    from hypnic.recording import Recorder, Recording
    from hypnic.report.figures import plot_average, plot_event, plot_night
    from hypnic.report.page import report_html, write_report
    from hypnic.settings import Settings
    from hypnic.simulate import Sleeper
    from hypnic.sources import open_source as open

__version__ = "0.1.0"

__all__ = [
    "ArraySource",
    "Chunk",
    "DataError",
    "Detector",
    "Events",
    "HypnicError",
    "Recorder",
    "Recording",
    "Settings",
    "Sleeper",
    "Source",
    "UsageError",
    "autocalibrate",
    "describe",
    "detect",
    "explain",
    "open",
    "plot_average",
    "plot_event",
    "plot_night",
    "report_html",
    "rest_table",
    "write_report",
]

# Names are imported when they are first used: importing hypnic must cost nothing that is not needed.
_HOMES = {
    "ArraySource": "hypnic.chunk",
    "Chunk": "hypnic.chunk",
    "Source": "hypnic.chunk",
    "Detector": "hypnic.detector",
    "detect": "hypnic.detector",
    "DataError": "hypnic.errors",
    "HypnicError": "hypnic.errors",
    "UsageError": "hypnic.errors",
    "Events": "hypnic.events",
    "autocalibrate": "hypnic.calibration",
    "explain": "hypnic.explanation",
    "describe": "hypnic.quality",
    "open": "hypnic.sources",
    "rest_table": "hypnic.bouts",
    "plot_average": "hypnic.report.figures",
    "plot_event": "hypnic.report.figures",
    "plot_night": "hypnic.report.figures",
    "report_html": "hypnic.report.page",
    "write_report": "hypnic.report.page",
    "Recorder": "hypnic.recording",
    "Recording": "hypnic.recording",
    "Settings": "hypnic.settings",
    "Sleeper": "hypnic.simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hypnic' has no attribute {name!r}")
    room = importlib.import_module(_HOMES[name])
    value = globals()[name] = getattr(room, "open_source" if name == "open" else name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
