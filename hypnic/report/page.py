"""The night as one HTML page that opens anywhere, offline, by itself.

Everything is in the page: text and pictures from a template that escapes whatever comes from the file, one script
and one style sheet, and the data of the overview, thinned out to a size that hardly grows with the night.
A content security policy in the page allows this script and this style sheet and nothing else, no network either.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

import hypnic
from hypnic.bouts import RestTable, rest_table
from hypnic.detector import detect
from hypnic.errors import DataError
from hypnic.events import COLUMNS, JERKS, LABELS, RESTS, Events, write_whole
from hypnic.quality import describe
from hypnic.report.trace import Course, Trace, around, watch
from hypnic.report.waves import picture
from hypnic.settings import Settings

if TYPE_CHECKING:
    from jinja2 import Environment
    from numpy.typing import NDArray

    from hypnic.readers import BaseRecording

__all__ = ["report_html", "write_report"]

GALLERY: Final = 60
"""Most waveforms in a page: some 10 kB each."""

TABLE: Final = 20_000
"""Most events in a page: some 80 bytes each."""

ASLEEP: Final = 60
"""Most rows in the table of falling asleep, and most clock times named in one of its rows."""

REMARKS: Final = 300
"""Most annotations in the table."""

MARKS: Final = 5_000
"""Most gaps, and most annotations, in the overview."""

NEAR_S: Final = 10.0
"""Distance (s) up to which an annotation is told its nearest event: a button is pressed some seconds late."""

LOWEST_MG: Final = 0.1
DECADES: Final = 5.0
"""The overview's scale of energies: five decades from 0.1 mg."""

LONG_S: Final = 20 * 3600.0
"""Length (s) from which a time of day needs its date."""

LABEL_WORDS: Final[Mapping[str, str]] = {
    "hypnic_jerk": "while falling asleep: a candidate",
    "isolated_jerk": "the same at another time",
    "plm": "a limb movement of a series",
    "rhythmic": "a train of movements",
    "posture_shift": "turning over",
    "movement": "any other movement",
    "impact": "a knock or a tap",
    "sensor_artifact": "a spike of the sensor itself",
}
"""What each label means, in a few words."""

REST_WORDS: Final[Mapping[str, str]] = {
    "awake": "moving for long enough to be awake",
    "settling": "moving little, not yet still",
    "onset": "still, perhaps falling asleep",
    "still": "still for longer",
    "off": "nobody wears the sensor, or it is stuck",
}
"""What each rest state means, in a few words."""

# Columns of the page's event table: key, heading, unit, decimals, whether it is shown at first, meaning.
_MEANINGS: Final = {column.name: column.meaning for column in COLUMNS}
_SHOWN: Final = (
    ("time", "Time", "", 0, True, "time of day at the onset, or from the start of the recording"),
    ("label", "Label", "", 0, True, _MEANINGS["label"]),
    ("score", "Score", "", 2, True, _MEANINGS["score"]),
    ("peak", "Peak", "mg", 0, True, _MEANINGS["peak_g"]),
    ("duration", "Length", "s", 2, True, _MEANINGS["duration"]),
    ("rest", "Rest", "", 0, True, _MEANINGS["rest"]),
    ("asleep", "Falling asleep", "", 0, True, "number of the falling asleep in whose onset windows it lies"),
    ("quiet_before", "Quiet before", "s", 0, True, _MEANINGS["quiet_before"]),
    ("prominence", "Prominence", "ln", 2, False, _MEANINGS["prominence"]),
    ("rise", "Rise", "s", 2, False, _MEANINGS["rise"]),
    ("t90", "T90", "s", 2, False, _MEANINGS["t90"]),
    ("hf_ratio", "Above 20 Hz", "", 3, False, _MEANINGS["hf_ratio"]),
    ("angle_change", "Turn", "deg", 1, False, _MEANINGS["angle_change"]),
    ("interval", "Interval", "s", 1, False, _MEANINGS["interval"]),
    ("id", "Id", "", 0, False, _MEANINGS["id"]),
)


class Clock:
    """Seconds of a recording as people say them.

    Parameters
    ----------
    start : datetime or None
        When the recording began; without it times are told from its start.
    duration : float
        Its length (s).
    zone : tzinfo, optional
        Time zone to tell times in; by default that of `start`.
    """

    def __init__(self, start: datetime | None, duration: float, zone: tzinfo | None = None) -> None:
        self.long = duration >= LONG_S
        self._start = start
        self._zone = zone or (start.tzinfo if start else None)
        self.duration = duration
        try:
            self._at(0.0)
            self._at(duration)
        except (OverflowError, ValueError):
            self._start = None

    def _at(self, seconds: float) -> datetime | None:
        if self._start is None:
            return None
        # In UTC first: the hour that the clocks are put forward or back lies in many a night.
        return (self._start.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(self._zone)

    @property
    def known(self) -> bool:
        """Whether there is a time of day."""
        return self._start is not None

    @property
    def posix(self) -> float | None:
        """POSIX seconds of the start."""
        return self._start.timestamp() if self._start else None

    def text(self, seconds: float, decimals: int = 0) -> str:
        """Return a time of day, or where there is none the time from the start."""
        moment = self._at(seconds)
        if moment is None:
            return span_text(seconds)
        day = f"{moment:%a %d} " if self.long else ""
        return f"{day}{moment:%H:%M:%S}"

    def heading(self) -> str:
        """Return the date or dates that the recording covers."""
        first, last = self._at(0.0), self._at(self.duration)
        if first is None or last is None:
            return ""
        if first.date() == last.date():
            return f"{first:%A, %d %B %Y}"
        if (first.year, first.month) == (last.year, last.month):
            return f"{first:%A %d} to {last:%A %d %B %Y}"
        return f"{first:%A %d %B} to {last:%A %d %B %Y}"

    def zone_text(self) -> str:
        """Return the offset from UTC, both where it changes."""
        offsets = [_offset_text(offset) for _, offset in self.offsets()]
        return " then ".join(offsets)

    def offsets(self) -> list[tuple[float, float]]:
        """Return from when (s) which offset from UTC (s) holds; a change is placed to the minute."""
        if self._start is None:
            return []
        found = [(0.0, self._offset(0.0))]
        # Zones change at most a few times a year: daily steps see each change.
        step = 86400.0
        at = 0.0
        while at < self.duration:
            until = min(at + step, self.duration)
            if self._offset(until) != self._offset(at):
                low, high = at, until
                while high - low > 60.0:
                    middle = (low + high) / 2
                    if self._offset(middle) == self._offset(at):
                        low = middle
                    else:
                        high = middle
                # Clocks change on whole minutes of POSIX time.
                moment = math.floor((self._start.timestamp() + high) / 60.0) * 60.0 - self._start.timestamp()
                found.append((moment, self._offset(high)))
            at = until
        return found

    def _offset(self, seconds: float) -> float:
        moment = self._at(seconds)
        offset = moment.utcoffset() if moment else None
        return offset.total_seconds() if offset is not None else 0.0


def _offset_text(seconds: float) -> str:
    minutes = round(abs(seconds) / 60)
    return "UTC" if not minutes else f"UTC{'-' if seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def span_text(seconds: float) -> str:
    """Return a length of time as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def about(seconds: float) -> str:
    """Return a length of time in words, as exact as one would say it."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{seconds / 86400:.1f} days"


def strength(g: float) -> str:
    """Return an acceleration (g) as people write it."""
    if not math.isfinite(g):
        return "unknown"
    return f"{g:.2f} g" if g >= 0.9995 else f"{1e3 * g:.0f} mg" if g >= 0.0095 else f"{1e3 * g:.1f} mg"


def report_html(
    recording: BaseRecording,
    events: Events | None = None,
    *,
    settings: Settings | None = None,
    zone: tzinfo | None = None,
    title: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Return the night as one HTML page.

    Parameters
    ----------
    recording : BaseRecording
        What `hypnic.open` returns for a file.
    events : Events, optional
        What was found in it; by default what `hypnic.detect` finds.
    settings : Settings, optional
        Thresholds; by default those that the events were made with, or the preset of the site.
    zone : tzinfo, optional
        Time zone to tell times in, such as ``zoneinfo.ZoneInfo("Europe/Zurich")``; by default the offset from UTC
        that the recording began with.
    title : str, optional
        Heading of the page; by default the name of the file.
    progress : callable, optional
        Called with the number of samples done, lost ones counted, in each of two passes.

    Returns
    -------
    str
        The page: it refers to nothing outside itself.

    Raises
    ------
    DataError
        If nothing in the recording can be read. A recording in which nothing can be detected makes a page that
        says why.
    """
    problems: list[str] = []
    examined = True
    if events is None:
        try:
            events = detect(recording, settings=settings, progress=progress)
        except DataError as error:
            if recording.damage and sum(d.missing for d in recording.damage) >= recording.n_samples:
                raise
            examined = False
            problems.append(f"Nothing could be detected: {error}.")
            used = settings or Settings.preset(recording.site)
            events = Events(meta={"settings": used.to_dict(), "hypnic_version": hypnic.__version__})
    events = events.latest()
    if settings is None and "settings" in events.meta:
        settings = Settings.from_dict(events.meta["settings"], recording.site)
    try:
        rest = rest_table(events)
    except DataError as error:
        if not problems:
            problems.append(f"Rest and falling asleep are not known: {error}.")
        rest = rest_table(events, [])
    asleep = falling_asleep(events, rest.windows)

    jerks = np.flatnonzero(np.isin(events["label"], JERKS))
    best = jerks[np.lexsort((-events["peak_g"][jerks], -events["score"][jerks]))][:GALLERY]
    chosen = np.sort(best)
    course, traces = watch(
        recording,
        [around(events.array[n]) for n in chosen],
        settings=settings,
        progress=progress,
    )
    assert course is not None  # the whole was asked for
    facts = describe(recording)
    clock = Clock(recording.start_time, recording.duration, zone)
    context = _context(recording, events, rest, asleep, clock, facts, problems)
    context["examined"] = examined
    context["title"] = title or recording.path.name
    context["waves"] = [
        _card(events.array[n], int(asleep[n]), trace, clock) for n, trace in zip(chosen, traces, strict=True)
    ]
    context["data"] = _data(recording, events, rest, asleep, clock, course, chosen)
    style, script = _part("page.css"), _part("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            **context,
            style=style,
            script=script,
            policy=(
                f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
                "img-src data:; base-uri 'none'; form-action 'none'"
            ),
        )
    )


def write_report(
    recording: BaseRecording,
    path: str | os.PathLike[str],
    events: Events | None = None,
    *,
    settings: Settings | None = None,
    zone: tzinfo | None = None,
    title: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the night as one HTML page, whole or not at all.

    Parameters
    ----------
    recording, events, settings, zone, title, progress
        As for `report_html`.
    path : path-like
        Where to; an existing file is replaced.

    Raises
    ------
    DataError
        As `report_html`.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import hypnic                                             # doctest: +SKIP
    >>> with hypnic.open("night.h5") as night:                    # doctest: +SKIP
    ...     hypnic.write_report(night, "night.html")
    """
    html = report_html(recording, events, settings=settings, zone=zone, title=title, progress=progress)
    write_whole(Path(path), html)


def _part(name: str) -> str:
    return importlib.resources.files("hypnic.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return what a content security policy calls a script or a style sheet by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"about": about, "strength": strength, "span": span_text}
    # Compact, and with every <, >, & and ' escaped, as Jinja's tojson does it.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def falling_asleep(events: Events, windows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the number of the falling asleep in whose onset windows each event lies, 0 for none.

    Parameters
    ----------
    events : Events
        The last revisions.
    windows : ndarray, shape (k,)
        `hypnic.rest_table`'s.
    """
    numbers = np.zeros(len(events), np.int64)
    if not len(windows) or not len(events):
        return numbers
    # The onset is traced back from the sample that opened the event, maybe to just before its window.
    place = np.searchsorted(windows["onset"], events["onset"] + events["duration"], "right") - 1
    inside = np.isin(events["rest"], ("settling", "onset")) & (place >= 0)
    inside &= windows["end"][np.maximum(place, 0)] >= events["onset"]
    numbers[inside] = windows["falling_asleep"][place[inside]]
    return numbers


# What the top of the page says


class Asleep(NamedTuple):
    """One falling asleep: its attempts until stillness, and the jerks in them."""

    number: int
    start: str
    end: str
    still: str
    jerks: list[dict[str, Any]]
    more: int


def _context(
    recording: BaseRecording,
    events: Events,
    rest: RestTable,
    numbers: NDArray[np.int64],
    clock: Clock,
    facts: dict[str, Any],
    problems: list[str],
) -> dict[str, Any]:
    counts = events.counts()
    hypnic_jerks, jerks = events.hypnic_jerks, events.jerks
    settled = rest.windows["falling_asleep"].max(initial=0)
    asleep = _asleep(events, rest.windows, numbers, clock)
    marks = recording.annotations
    used = events.meta.get("settings", {})
    strongest = jerks.array[np.argmax(jerks["peak_g"])] if len(jerks) else None
    gaps = facts["gaps"]
    others = len(events) - len(jerks)
    attributes: Mapping[str, Any] = getattr(recording, "attrs", {})
    return {
        "clock": clock,
        "heading": clock.heading(),
        "site": recording.site,
        "said": [
            str(said)
            for name in ("subject", "notes")
            if isinstance(said := attributes.get(name), str | int | float) and said
        ],
        "duration": recording.duration,
        "counts": counts,
        "jerk_count": len(jerks),
        "hypnic_count": len(hypnic_jerks),
        "other_count": others,
        "limit": {"gallery": GALLERY, "table": TABLE, "asleep": ASLEEP, "remarks": REMARKS},
        "strongest": strongest,
        "strongest_at": clock.text(float(strongest["onset"])) if strongest is not None else "",
        "asleep": asleep[:ASLEEP],
        "asleep_left": max(0, len(asleep) - ASLEEP),
        "asleep_count": int(settled),
        "asleep_empty": int(settled) - len(asleep),
        "has_rest": len(rest.bouts) > 0,
        "rests": [
            {"name": name, "seconds": float(rest.bouts["duration"][rest.bouts["rest"] == name].sum())}
            for name in RESTS
            if np.any(rest.bouts["rest"] == name)
        ],
        "labels": [
            {"name": label, "count": counts[label], "words": LABEL_WORDS[label]}
            for label in LABELS
            if counts[label]
        ],
        "rest_words": REST_WORDS,
        "problems": problems,
        "warnings": _never_still(rest, len(hypnic_jerks)) + facts["warnings"],
        "notes": facts["notes"],
        "facts": _facts(recording, facts, clock, attributes),
        "made": _made(events),
        "settings": _settings(used),
        "remarks": _remarks(marks[:REMARKS], events, clock),
        "remark_count": len(marks),
        "columns": _SHOWN,
        "gap_seconds": gaps["seconds"],
        "version": hypnic.__version__,
    }


def _never_still(rest: RestTable, jerks: int) -> list[str]:
    """Say where candidates lie in a recording in which nobody became still, as one of an hour awake."""
    if not jerks or np.isfinite(rest.windows["stillness"]).any():
        return []
    return [
        "Nobody becomes still in this recording. If the person was awake throughout, these candidates are movements "
        "of waking, not hypnic jerks."
    ]


def _asleep(
    events: Events, windows: NDArray[np.void], numbers: NDArray[np.int64], clock: Clock
) -> list[Asleep]:
    """Return every falling asleep that holds a jerk."""
    found = []
    is_jerk = events["label"] == "hypnic_jerk"
    for number in np.unique(windows["falling_asleep"]):
        part = windows[windows["falling_asleep"] == number]
        rows = events.array[is_jerk & (numbers == number)]
        if not len(rows):
            continue
        still = part["stillness"][np.isfinite(part["stillness"])]
        found.append(
            Asleep(
                int(number),
                clock.text(part["onset"][0]),
                clock.text(part["end"][-1]),
                clock.text(still[0]) if len(still) else "",
                [
                    {
                        "id": int(row["id"]),
                        "time": clock.text(row["onset"]),
                        "peak": strength(row["peak_g"]),
                    }
                    for row in rows[:ASLEEP]
                ],
                max(0, len(rows) - ASLEEP),
            )
        )
    return found


def _facts(
    recording: BaseRecording, facts: dict[str, Any], clock: Clock, attributes: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return what is known of the recording, as pairs of name and words."""

    def three(values: Sequence[float | None]) -> str:
        if any(value is None for value in values):
            return "unknown"
        return ", ".join(f"{1e3 * (value or 0.0):.3g}" for value in values) + " mg"

    gaps, damage = facts["gaps"], facts["damage"]
    rate = f"{facts['rate']:g} Hz"
    if abs(facts["effective_rate"] / facts["rate"] - 1) > 1e-6:
        rate += f", by the clock {facts['effective_rate']:.6g} Hz"
    start = f"{recording.start_time.isoformat(timespec='seconds')}" if recording.start_time else "unknown"
    rows = [
        ("File", recording.path.name),
        *((str(name).capitalize(), str(value)) for name, value in attributes.items()),
        ("Made by", getattr(recording, "created_by", "")),
        ("Sensor", recording.sensor or "unknown"),
        ("Site", recording.site),
        ("Start", start),
        ("Length", f"{span_text(facts['duration'])} h, {facts['samples']:,} samples"),
        ("Rate", rate),
        ("Range", f"{facts['range_g']:g} g" if facts["range_g"] else "unknown"),
        ("Step", f"{1e3 * facts['step_g']:.3g} mg" if facts["step_g"] is not None else "unknown"),
        ("Noise (x, y, z)", three(facts["noise"])),
        (
            "Gaps",
            f"{gaps['count']:,}, {gaps['seconds']:.1f} s in all, the longest {gaps['longest_s']:.1f} s"
            if gaps["count"]
            else "none",
        ),
        (
            "Clipped",
            "unknown, as the range is not" if facts["clipped"] is None else f"{facts['clipped']:,} samples",
        ),
        ("Unchanging", f"{facts['flat_s']:.0f} s in runs of 5 s and more" if facts["flat_s"] else "none"),
    ]
    if facts["invalid"]:
        rows.append(("Not numbers", f"{facts['invalid']:,} samples"))
    if damage["count"]:
        rows.append(("Damaged", f"{damage['count']:,} places, {damage['seconds']:.1f} s"))
    return [(name, value) for name, value in rows if value]


def _made(events: Events) -> list[tuple[str, str]]:
    """Return how the events were made, as pairs of name and words."""
    meta, counts = events.meta, events.meta.get("counts", {})
    rows = [
        ("Detector", f"hypnic {meta.get('hypnic_version', 'unknown')}"),
        ("Preset", str(meta.get("settings", {}).get("name", "unknown"))),
    ]
    if "reference" in meta:
        rows.append(("Second sensor", f"compared with one on the {meta['reference']}"))
    for key, words in (
        ("received", "Samples used"),
        ("missing", "Not used"),
        ("invalid", "of these not numbers"),
        ("stuck", "of these held constant"),
    ):
        if counts.get(key):
            rows.append((words, f"{counts[key]:,}"))
    return rows


def _settings(used: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings, those that differ from the site's preset marked."""
    if not used:
        return []
    usual = Settings.preset(str(used.get("name", "wrist-1"))).to_dict() if _known(used) else {}
    return [
        {
            "name": item["name"],
            "value": f"{used[item['name']]:g}"
            if isinstance(used[item["name"]], int | float)
            else str(used[item["name"]]),
            "unit": item["unit"],
            "meaning": item["meaning"],
            "changed": bool(usual) and used[item["name"]] != usual[item["name"]],
        }
        for item in Settings.describe()
        if item["name"] in used
    ]


def _known(used: Mapping[str, Any]) -> bool:
    try:
        Settings.preset(str(used.get("name")))
    except ValueError:
        return False
    return True


def _remarks(marks: NDArray[np.void], events: Events, clock: Clock) -> list[dict[str, Any]]:
    """Return annotations with the event nearest to each."""
    found = []
    onsets = events["onset"]
    for mark in marks:
        near = ""
        number = None
        if len(onsets) and math.isfinite(mark["onset"]):
            nearest = int(np.argmin(np.abs(onsets - mark["onset"])))
            away = float(onsets[nearest] - mark["onset"])
            if abs(away) <= NEAR_S:
                number = int(events["id"][nearest])
                near = f"{events['label'][nearest]} {abs(away):.1f} s {'later' if away > 0 else 'earlier'}"
        onset, duration = float(mark["onset"]), float(mark["duration"])
        found.append(
            {
                "time": clock.text(onset) if math.isfinite(onset) and abs(onset) < 1e9 else "unknown",
                "length": about(duration) if math.isfinite(duration) and duration > 0 else "",
                "label": str(mark["label"]),
                "source": str(mark["source"]),
                "near": near,
                "id": number,
            }
        )
    return found


def _card(event: np.void, asleep: int, trace: Trace, clock: Clock) -> dict[str, Any]:
    """Return what the gallery shows of an event."""
    drawn = picture(trace, event)
    return {
        "id": int(event["id"]),
        "time": clock.text(float(event["onset"])),
        "since": span_text(float(event["onset"])),
        "label": str(event["label"]),
        "score": f"{event['score']:.2f}",
        "peak": strength(float(event["peak_g"])),
        "length": f"{event['duration']:.2f} s",
        "rest": str(event["rest"]),
        "asleep": asleep,
        "picture": drawn,
    }


# The data of the overview and of the table


def _data(
    recording: BaseRecording,
    events: Events,
    rest: RestTable,
    asleep: NDArray[np.int64],
    clock: Clock,
    course: Course,
    waves: NDArray[np.int64],
) -> dict[str, Any]:
    """Return what the page's script draws from, as plain values."""
    kept = np.arange(len(events))
    if len(kept) > TABLE:
        jerk = np.isin(events["label"], JERKS)
        kept = np.sort(np.lexsort((-events["peak_g"], ~jerk))[:TABLE])
    gravity = np.nan_to_num(np.clip(np.round(100 * course.gravity), -127, 127), nan=-128).astype(np.int8)
    return {
        "duration": round(recording.duration, 3),
        "start": clock.posix,
        "offsets": clock.offsets(),
        "long": clock.long,
        "site": recording.site,
        "lowest": LOWEST_MG,
        "decades": DECADES,
        "width": course.width,
        "level": _packed(_coded(course.level)),
        "epoch": course.epoch,
        "background": _packed(_coded(course.background)),
        "on": _packed(_coded(course.on)),
        "gravity": [_packed(axis.view(np.uint8)) for axis in gravity.T],
        "rest": [
            [round(float(row["onset"]), 1), round(float(row["duration"]), 1), RESTS.index(str(row["rest"]))]
            for row in rest.bouts
            if str(row["rest"]) in RESTS
        ],
        "windows": [
            [
                round(float(row["onset"]), 1),
                round(float(row["end"]), 1),
                int(row["falling_asleep"]),
            ]
            for row in rest.windows
        ],
        "gaps": _gaps(recording),
        "marks": [
            [
                round(float(mark["onset"]), 2),
                round(float(mark["duration"]), 2),
                *map(str, (mark["label"], mark["source"])),
            ]
            for mark in recording.annotations[:MARKS]
            if np.isfinite(mark["onset"]) and np.isfinite(mark["duration"])
        ],
        "labels": LABELS,
        "rests": RESTS,
        "jerks": len(JERKS),
        "columns": [
            {"key": key, "title": title, "unit": unit, "decimals": decimals, "first": first}
            for key, title, unit, decimals, first, _ in _SHOWN
        ],
        "events": [_event(events.array[n], int(asleep[n])) for n in kept],
        "left": len(events) - len(kept),
        "waves": [int(events["id"][n]) for n in waves],
    }


def _coded(level: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return levels (g) as 1 to 255 on the overview's logarithmic scale, 0 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log10(1e3 * level / LOWEST_MG) / DECADES
    return np.where(
        np.isnan(level), 0, 1 + np.round(254 * np.clip(np.nan_to_num(place, nan=0.0), 0, 1))
    ).astype(np.uint8)


def _packed(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _gaps(recording: BaseRecording) -> list[list[Any]]:
    """Return onset (s), length (s) and reason of the longest gaps and of damage, in order."""
    gaps, rate = recording.gaps, recording.rate
    lost = np.cumsum(gaps["missing"])
    found: list[list[Any]] = [
        [round(float(first / rate), 3), round(float(missing / rate), 3), str(reason)]
        for first, missing, reason in zip(
            gaps["sample"] + lost - gaps["missing"], gaps["missing"], gaps["reason"], strict=True
        )
    ]
    found += [
        [round(part.sample / rate, 3), round(part.missing / rate, 3), part.reason]
        for part in recording.damage
    ]
    return sorted(sorted(found, key=lambda gap: gap[1], reverse=True)[:MARKS], key=lambda gap: gap[0])


def _event(row: np.void, asleep: int) -> list[Any]:
    """Return one row of the page's table, in the order of ``KEYS`` in its script."""

    def plain(name: str, decimals: int, factor: float = 1.0) -> float | None:
        value = factor * float(row[name])
        return round(value, decimals) if math.isfinite(value) else None

    label, rest = str(row["label"]), str(row["rest"])
    return [
        int(row["id"]),
        plain("onset", 2),
        LABELS.index(label) if label in LABELS else LABELS.index("movement"),
        RESTS.index(rest) if rest in RESTS else -1,
        plain("score", 3),
        plain("peak_g", 2, 1e3),
        plain("duration", 2),
        asleep,
        plain("quiet_before", 1),
        plain("prominence", 2),
        plain("rise", 3),
        plain("t90", 3),
        plain("hf_ratio", 4),
        plain("angle_change", 1),
        plain("interval", 2),
    ]
