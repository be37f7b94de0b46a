"""Nights as a BIDS data set of motion recordings.

Follows the Brain Imaging Data Structure, version `BIDS_VERSION`, "Motion" (Jeung et al., 2024, Scientific Data 11:716).
Acceleration is in m/s^2, the SI unit that BIDS wants; missing samples are rows of ``n/a``. One folder takes one night
after another, each as a subject or a session of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic import __version__
from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, LABELS, RESTS, Events, format_row, write_whole
from hypnic.export.base import CANDIDATES, remarks, whole
from hypnic.readers.base import UNITS

if TYPE_CHECKING:
    from hypnic.readers import BaseRecording

__all__ = ["BIDS_VERSION", "write"]

BIDS_VERSION: Final = "1.10.0"

TRACKSYS: Final = "imu"
"""Label of the tracking system."""

DECIMALS: Final = 5
"""Of m/s^2: a millionth of g, finer than a step of any sensor in use."""

BLOCK: Final = 65536
"""Missing rows that are written at once."""

_UNITS: Final = {"s": "s", "g": "g0", "deg": "deg"}
"""Units of the event table as BIDS writes them; ln has none."""

_MEANINGS: Final = {
    "hypnic_jerk": "a jerk in an onset window: a candidate, not a diagnosis",
    "isolated_jerk": "a movement of the same shape outside an onset window",
    "plm": "resembles one of a series of periodic limb movements",
    "rhythmic": "one of a train of rhythmic movements",
    "posture_shift": "a movement after which gravity points elsewhere",
    "movement": "any other movement",
    "impact": "a knock, a tap or a door",
    "sensor_artifact": "a spike on one axis of the sensor alone",
}

_README: Final = """\
Acceleration of sleepers, recorded with a motion sensor and written by hypnic {version}.

The events are what hypnic's detector found. {candidates}.
"""


def write(
    recording: BaseRecording,
    events: Events,
    target: Path,
    *,
    subject: str | None = None,
    session: str | None = None,
    task: str = "sleep",
    overwrite: bool = False,
) -> list[Path]:
    """Add a recording with its events to a BIDS data set, which is made where there is none.

    Parameters
    ----------
    recording : BaseRecording
        The samples.
    events : Events
        What was found in it; the recording's own annotations go into the same table as ``truth/...``, ``diary/...``.
    target : Path
        Folder of the data set.
    subject, session, task : str, optional
        Labels of letters and digits. The subject is by default what the night says of itself, or else 01.
    overwrite : bool
        Whether the files of this subject and session are replaced.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UsageError
        If a label is none.
    DataError
        If the night is there already and must not be replaced, the folder is something else, or the recording cannot
        be read.
    OSError
        If something cannot be written.
    """
    if subject is None:
        own = str(getattr(recording, "attrs", {}).get("subject", ""))
        subject = re.sub(r"[^A-Za-z0-9]", "", own) or "01"
    who = f"sub-{_label(subject.removeprefix('sub-'), 'subject')}"
    which = "" if session is None else f"ses-{_label(session.removeprefix('ses-'), 'session')}"
    home = target / who / which
    stem = "_".join(
        word for word in (who, which, f"task-{_label(task, 'task')}", f"tracksys-{TRACKSYS}") if word
    )
    names = ("motion.tsv", "motion.json", "channels.tsv", "channels.json", "events.tsv", "events.json")
    paths = {name: home / "motion" / f"{stem}_{name}" for name in names}
    _check_folder(target)
    if not overwrite and (there := next((path for path in paths.values() if path.exists()), None)):
        raise DataError(
            f"{there}: the night is there already: give this one a session of its own (--session), or --overwrite it"
        )
    (home / "motion").mkdir(parents=True, exist_ok=True)

    with whole(paths["motion.tsv"]) as partial:
        _write_samples(recording, partial)
    _write_json(paths["motion.json"], _motion_facts(recording, task))
    write_whole(paths["channels.tsv"], _channels(recording))
    _write_json(paths["channels.json"], _CHANNEL_FACTS)
    write_whole(paths["events.tsv"], _events(recording, events))
    _write_json(paths["events.json"], _event_facts(recording, events))
    # Last what names the night: a data set that was cut off while it grew has no night that lacks a part.
    return [*paths.values(), *_write_lists(recording, target, home, who, which, paths["motion.tsv"])]


def _label(text: str, what: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+", text):
        raise UsageError(f"{what} {text!r} is no label of BIDS: use letters and digits only")
    return text


def _check_folder(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: a BIDS data set is a folder, and this is a file")
    if target.is_dir() and any(target.iterdir()) and not (target / "dataset_description.json").is_file():
        raise DataError(
            f"{target}: the folder holds other things than a BIDS data set: name an empty or a new one"
        )


def _write_json(path: Path, facts: Any) -> None:
    write_whole(path, json.dumps(facts, indent=2) + "\n")


# The night


def _write_samples(recording: BaseRecording, path: Path) -> None:
    """Write the axes in m/s^2, one row a sample, without a header, as BIDS wants it."""
    row = "\t".join([f"%.{DECIMALS}f"] * 3) + "\n"
    absent = "n/a\tn/a\tn/a\n"
    with path.open("w", encoding="ascii", newline="") as file:
        for chunk in recording:
            for at in range(0, chunk.missing, BLOCK):
                file.write(absent * min(BLOCK, chunk.missing - at))
            si = chunk.xyz.astype(np.float64) / UNITS["m/s2"]
            text = (row * len(si)) % tuple(si.ravel().tolist())
            # Rounding must not leave a zero with a sign, and what is no number is not available.
            text = re.sub(r"(?<![\d.])-(0\.0+)(?=[\t\n])", r"\1", text)
            file.write(re.sub(r"-?(?:nan|inf)", "n/a", text) if not np.isfinite(si).all() else text)


def _motion_facts(recording: BaseRecording, task: str) -> dict[str, Any]:
    effective = recording.effective_rate
    facts: dict[str, Any] = {
        "TaskName": task,
        "TaskDescription": "Rest or sleep, recorded with an accelerometer on the "
        + ("wrist." if recording.site == "wrist" else "mattress."),
        "SamplingFrequency": recording.rate,
        "SamplingFrequencyEffective": effective,
        "RecordingDuration": recording.duration,
        "RecordingType": "continuous" if not len(recording.gaps) else "discontinuous",
        "MotionChannelCount": 3,
        "ACCELChannelCount": 3,
        "TrackedPointsCount": 1,
        "TrackingSystemName": TRACKSYS,
        "MissingValues": "n/a",
        "SoftwareVersions": f"hypnic {__version__}",
    }
    if recording.sensor:
        facts["ManufacturersModelName"] = recording.sensor
    if recording.start_time is not None:
        # Not of BIDS, whose acq_time in scans.tsv has no place for an offset from UTC.
        facts["StartTime"] = recording.start_time.isoformat()
    return facts


def _channels(recording: BaseRecording) -> str:
    head = ("name", "component", "type", "tracked_point", "units", "placement", "reference_frame")
    rows = [
        (f"acc_{axis}", axis, "ACCEL", recording.site, "m/s^2", recording.site, "sensor") for axis in "xyz"
    ]
    return "".join("\t".join(row) + "\n" for row in (head, *rows))


_CHANNEL_FACTS: Final = {
    "reference_frame": {
        "Description": "Axes in which the acceleration is given",
        "Levels": {
            "sensor": {
                "Description": "The sensor's own axes, which turn with it; gravity is included. How the sensor was "
                "fixed is not known.",
                "RotationRule": "n/a",
                "RotationOrder": "n/a",
                "SpatialAxes": "n/a",
            }
        },
    }
}


# The events


def _events(recording: BaseRecording, events: Events) -> str:
    """Return found events and the recording's own annotations as one table by onset."""
    width = len(COLUMNS) - 3
    rows = [
        (float(row["onset"]), format_row(row, "tsv", _event_columns()).split("\t")) for row in events.latest()
    ]
    rows += [
        (onset, [f"{onset:.4f}", f"{duration:.4f}", " ".join(text.split()), *["n/a"] * width])
        for onset, duration, text in remarks(recording.annotations)
    ]
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow([_bids_name(column.name) for column in _event_columns()])
    writer.writerows(cells for _, cells in sorted(rows, key=lambda row: row[0]))
    return out.getvalue()


def _event_columns() -> tuple[Any, ...]:
    first = [next(c for c in COLUMNS if c.name == name) for name in ("onset", "duration", "label")]
    return (*first, *(column for column in COLUMNS if column not in first))


def _bids_name(name: str) -> str:
    return "trial_type" if name == "label" else name


def _event_facts(recording: BaseRecording, events: Events) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for column in _event_columns():
        entry: dict[str, Any] = {"Description": column.meaning}
        if column.unit in _UNITS:
            entry["Units"] = _UNITS[column.unit]
        if column.name == "label":
            entry["LongName"] = "label"
            # A validator refuses a value that is not among the levels.
            own = {" ".join(text.split()) for *_, text in remarks(recording.annotations)}
            entry["Levels"] = {label: _MEANINGS[label] for label in LABELS} | {
                text: f"remark in the recording, by {text.partition('/')[0]}" for text in sorted(own)
            }
        if column.name == "rest":
            entry["Levels"] = {state: f"rest state {state}" for state in RESTS}
        facts[_bids_name(column.name)] = entry
    facts["StimulusPresentation"] = {"SoftwareName": "none: the events were found in the acceleration"}
    facts["GeneratedBy"] = {
        "Name": "hypnic",
        "Version": str(events.meta.get("hypnic_version", __version__)),
        "Description": CANDIDATES,
        "Settings": events.meta.get("settings", {}),
    }
    return facts


# The data set


def _write_lists(
    recording: BaseRecording, target: Path, home: Path, who: str, which: str, samples: Path
) -> list[Path]:
    """Enter the night into the lists of the data set; return those that were written."""
    written = []
    description = target / "dataset_description.json"
    if not description.exists():
        _write_json(
            description,
            {
                "Name": "Acceleration of sleepers with candidate hypnic jerks",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "raw",
                "GeneratedBy": [
                    {"Name": "hypnic", "Version": __version__, "Description": f"Exported. {CANDIDATES}"}
                ],
            },
        )
        written.append(description)
    readme = target / "README"
    if not any(target.glob("README*")):
        write_whole(readme, _README.format(version=__version__, candidates=CANDIDATES.capitalize()))
        written.append(readme)
    participants = target / "participants.tsv"
    if _enter(participants, "participant_id", {"participant_id": who}):
        written.append(participants)
    scans = home / ("_".join(word for word in (who, which, "scans.tsv") if word))
    start = recording.start_time
    row = {
        "filename": samples.relative_to(home).as_posix(),
        "acq_time": "n/a" if start is None else start.replace(tzinfo=None).isoformat(timespec="microseconds"),
    }
    if _enter(scans, "filename", row):
        written.append(scans)
    return written


def _enter(path: Path, key: str, row: dict[str, str]) -> bool:
    """Enter a row into a table, in place of the one with the same key; tell whether that changed the table."""
    names, rows = list(row), []
    if path.exists():
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="n/a")
            names, rows = list(reader.fieldnames or []), list(reader)
        if key not in names:
            raise DataError(f"{path}: it has no column {key}")
    same = [there for there in rows if there[key] == row[key]]
    known = {name: value for name, value in row.items() if name in names}
    if same and all(same[0][name] == value for name, value in known.items()):
        return False
    if same:
        same[0].update(known)
    else:
        rows.append(dict.fromkeys(names, "n/a") | known)
    out = io.StringIO()
    writer = csv.DictWriter(
        out,
        names,
        delimiter="\t",
        lineterminator="\n",
        quoting=csv.QUOTE_NONE,
        escapechar="\\",
        extrasaction="ignore",
    )
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, out.getvalue())
    return True
