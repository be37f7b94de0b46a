"""What is known about a simulated night: its events and its spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SPAN_DTYPE", "TRUTH_DTYPE", "annotation_rows", "source_text"]

TRUTH_DTYPE: Final = np.dtype(
    [
        ("onset", "f8"),
        ("duration", "f8"),
        ("label", "U16"),
        ("source", "U64"),
        ("kind", "U16"),
        ("peak_g", "f8"),
        ("visible", "f8"),
        ("sample", "i8"),
        ("group", "i4"),
    ]
)
"""One true event.

``onset`` (s, start of the drive or of the knock) and ``duration`` (s, until 95 % of the energy of the dynamic
acceleration has passed) count nominal sample periods, so that ``onset * rate`` is a sample number whatever
the sensor's clock does. ``label`` is one of `hypnic.events.LABELS`, ``kind`` what it was made as. ``peak_g``
is the largest norm of its dynamic acceleration before the sensor (for a jerk with the quick tilt it causes,
for other movements without gravity's turning); NaN for a fault whose step depends on the signal. ``visible``
is the part of its span whose samples are not in a gap, stuck or held (samples dropped one by one do not
count). ``sample`` is the first sample at or after the onset. ``group`` numbers the series that it belongs to,
-1 for none.
"""

SPAN_DTYPE: Final = np.dtype([("onset", "f8"), ("duration", "f8"), ("label", "U24")])
"""One span: a state, such as ``state:awake``, or a fault, such as ``fault:gap``."""


def source_text(origin: str, kind: str, peak: float, visible: float = 1.0) -> str:
    """Return an annotation's source, such as ``truth:turn peak_g=0.0123``, and what of it is visible."""
    seen = "" if visible >= 1 else f" visible={visible:.2f}"
    return f"{origin}:{kind} peak_g={peak:.4g}{seen}"


def annotation_rows(truth: NDArray[np.void], *spans: NDArray[np.void]) -> list[tuple[float, float, str, str]]:
    """Return events and spans as (onset, duration, label, source), ordered by onset."""
    rows = [(float(r["onset"]), float(r["duration"]), str(r["label"]), str(r["source"])) for r in truth]
    for table in spans:
        for r in table:
            label = str(r["label"])
            # Spans of faults are no events: their source must not read as a true one.
            source = "truth:state" if label.startswith("state:") else label
            rows.append((float(r["onset"]), float(r["duration"]), label, source))
    return sorted(rows)
