"""A recording and its events as EDF+: one file that every sleep laboratory's viewer opens.

The file is continuous (EDF+C). Where samples are missing the axes say 0 g, which no sensor at rest measures, under an
annotation ``BAD_ACQ_SKIP`` with the reason and the length of the gap. EDF+ could be interrupted there instead (EDF+D),
but neither edfio writes it nor MNE reads it as it is meant, and a viewer that ignores the time stamps would show
everything after the gap too early.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic import __version__
from hypnic.errors import DataError
from hypnic.export.base import CANDIDATES, gap_spans, need, remarks, whole
from hypnic.export.mne import GAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.events import Events
    from hypnic.readers import BaseRecording

__all__ = ["fit_records", "layout", "write"]

COUNTS: Final = 32767
"""Digital full scale of EDF's 16 bits, the same in both directions, so that 0 g is exactly 0."""

WIDEST_G: Final = 256.0
"""Full scale (g) beyond which a value is taken for damage and cut: no motion sensor measures more."""

FIELD: Final = 8
"""Characters that EDF's header has for a number."""

RECORD_S: Final = 8.0
"""Longest data record (s) that is tried to state a rate that is no whole number."""

RECORD_SAMPLES: Final = 5000
"""Most samples of one axis in a record: three of 2 bytes stay below the 61440 bytes that EDF advises."""

SPARE_RECORDS: Final = 40
"""Records beyond the needed ones that are tried; the odds that none fits are 1 in 2 to that power."""

YEARS: Final = range(1985, 2085)
"""Years that EDF's two digits can say."""


def layout(rate: float) -> tuple[int, float]:
    """Return samples and seconds of a data record that state `rate` (Hz) best.

    The header has eight characters for the seconds. A whole rate takes records of 1 s; for any other one the record
    is as long as brings their quotient closest to it, to a few parts in a thousand million.
    """
    if rate == round(rate):
        return round(rate), 1.0
    best = (math.inf, 1, 1.0)
    for samples in range(max(1, round(rate / 4)), min(int(rate * RECORD_S), RECORD_SAMPLES) + 1):
        text = f"{samples / rate:.{FIELD - 2}f}"[:FIELD]
        error = abs(samples / float(text) / rate - 1)
        if error < best[0]:
            best = (error, samples, float(text))
    return best[1], best[2]


def write(recording: BaseRecording, events: Events, target: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a recording with its events as EDF+C (needs the ``edf`` extra).

    Parameters
    ----------
    recording : BaseRecording
        Three signals ``acc x``, ``acc y``, ``acc z`` in g. Their full scale is the least power of two that holds all
        values, so a value is off by half of 1/32767 of it at most (31 µg at 2 g).
    events : Events
        The last revision of each, as an annotation: onset, duration, label. One at 0 s says that they are candidates.
    target : Path
        Where to.
    overwrite : bool
        Whether an existing file is replaced.

    Returns
    -------
    list of Path
        The file.

    Raises
    ------
    UsageError
        If edfio is not installed.
    DataError
        If the file exists and must not be replaced, or the recording cannot be read.
    OSError
        If it cannot be written.

    Notes
    -----
    The last record is filled up with 0 g, annotated in the same way. The start is the local time of the recording, as
    EDF wants it; the offset from UTC stands in the header's last field.
    """
    edfio: Any = need("edfio", "edf", "writing EDF+")
    per_record, record_s = layout(recording.rate)
    records, stated = fit_records(-(-recording.n_total // per_record), per_record, record_s)
    digital, full, notes = _digits(recording, records * per_record)
    signals = [
        edfio.EdfSignal.from_digital(
            axis,
            stated,
            label=f"acc {name}",
            transducer_type=_ascii(f"{recording.sensor or 'accelerometer'}, {recording.site}", 80),
            physical_dimension="g",
            physical_range=(-full, full),
            digital_range=(-COUNTS, COUNTS),
        )
        for name, axis in zip("xyz", digital, strict=True)
    ]
    start = recording.start_time
    dated = start is not None and start.year in YEARS
    facts = [f"hypnic_{__version__}"]
    if start is not None and dated:
        facts.append(f"UTC{start:%z}")
    subject = str(getattr(recording, "attrs", {}).get("subject", ""))
    with whole(target, overwrite=overwrite) as partial:
        edfio.Edf(
            signals,
            patient=edfio.Patient(code=_word(subject)),
            recording=edfio.Recording(
                startdate=start.date() if start is not None and dated else None,
                equipment_code=_word(recording.sensor),
                additional=facts,
            ),
            starttime=start.time().replace(tzinfo=None) if start is not None and dated else None,
            data_record_duration=record_s,
            annotations=[
                edfio.EdfAnnotation(onset, duration, text)
                for onset, duration, text in sorted(
                    [*_found(events), *_own(recording), *notes], key=lambda row: row[0]
                )
            ],
        ).write(partial)
    return [target]


def _digits(
    recording: BaseRecording, length: int
) -> tuple[list[NDArray[np.int16]], float, list[tuple[float, float | None, str]]]:
    """Return each axis in counts, the full scale (g), and annotations of what they do not show."""
    xyz = recording.read()
    sound: NDArray[np.bool_] = np.isfinite(xyz)
    largest = float(np.max(np.abs(xyz), where=sound, initial=0.0))
    full = min(max(1.0, 2.0 ** math.ceil(math.log2(max(largest, 1.0)))), WIDEST_G)
    digital = []
    for axis in range(3):
        counts = np.zeros(length, np.int16)
        values = np.where(sound[:, axis], xyz[:, axis], 0.0)
        counts[: len(xyz)] = np.rint(np.clip(values, -full, full) * (COUNTS / full))
        digital.append(counts)
    rate = recording.rate
    absent = [(*span[:2], f"samples missing ({_clean(span[2])})") for span in gap_spans(recording)]
    absent += [(found.sample, found.missing, "samples not readable") for found in recording.damage]
    notes: list[tuple[float, float | None, str]] = [
        (first / rate, count / rate, f"{GAP}: {count} {what}, filled with 0 g")
        for first, count, what in absent
    ]
    if length > len(xyz):
        notes.append((len(xyz) / rate, (length - len(xyz)) / rate, f"{GAP}: after the end, filled with 0 g"))
    if largest > full:
        notes.append((0.0, None, f"values beyond {full:g} g were cut"))
    invalid: NDArray[np.bool_] = ~np.all(sound, axis=1)
    for first, count, _ in absent:
        invalid[first : first + count] = False
    if invalid.any():
        notes.append((0.0, None, f"{np.count_nonzero(invalid)} samples that are no numbers were set to 0 g"))
    return digital, full, notes


def fit_records(needed: int, per_record: int, record_s: float) -> tuple[int, float]:
    """Return a number of records, `needed` or a few more, and the rate (Hz) by which edfio comes to it.

    edfio takes the rate as a float and wants it to divide the samples to the last bit; not every length has such a
    rate, but about every second one.
    """
    for records in range(needed, needed + SPARE_RECORDS):
        seconds, samples = round(records * record_s, FIELD - 2), records * per_record
        rate = samples / seconds
        for stated in (rate, math.nextafter(rate, 0.0), math.nextafter(rate, math.inf)):
            if round(samples / stated, 12) == seconds:
                return records, stated
    raise DataError(f"a rate of {per_record / record_s:g} Hz cannot be stated in EDF+: resample first")


def _found(events: Events) -> list[tuple[float, float | None, str]]:
    rows: list[tuple[float, float | None, str]] = [(0.0, None, f"hypnic {__version__}: {CANDIDATES}")]
    for row in events.latest():
        if math.isfinite(row["onset"]) and row["onset"] >= 0:
            rows.append(
                (float(row["onset"]), max(0.0, float(np.nan_to_num(row["duration"]))), str(row["label"]))
            )
    return rows


def _own(recording: BaseRecording) -> list[tuple[float, float | None, str]]:
    return [(onset, duration, _clean(text)) for onset, duration, text in remarks(recording.annotations)]


def _clean(text: str) -> str:
    """Return `text` without control characters, which separate annotations in the file."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split()) or "remark"


def _ascii(text: str, width: int) -> str:
    return re.sub(r"[^\x20-\x7e]", "_", text)[:width]


def _word(text: str) -> str:
    """Return `text` as one word of a header field, X where there is none."""
    return re.sub(r"[^\x21-\x7e]+", "_", text)[:20] or "X"
