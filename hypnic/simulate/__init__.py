"""Simulated sleepers with known jerks.

Nothing here was fitted to recordings of hypnic jerks, for no such recordings by an accelerometer were found:
it is an assumed mechanical model with wide ranges. Results on it say how a detector does on this simulation,
not on people.
"""

from __future__ import annotations

import os

from hypnic.simulate.faults import Faults
from hypnic.simulate.inject import Injected, inject
from hypnic.simulate.into import SemiSynthetic
from hypnic.simulate.sensor import SENSORS
from hypnic.simulate.sleeper import Sleeper
from hypnic.simulate.truth import SPAN_DTYPE, TRUTH_DTYPE

__all__ = [
    "SENSORS",
    "SPAN_DTYPE",
    "TRUTH_DTYPE",
    "Faults",
    "Injected",
    "SemiSynthetic",
    "Sleeper",
    "inject",
    "write",
]


def write(path: str | os.PathLike[str], sleeper: Sleeper, *, overwrite: bool = False) -> None:
    """Write a simulated night, its truth, states and faults as annotations, to an HDF5 night.

    Parameters
    ----------
    path : path-like
        The file to make.
    sleeper : Sleeper
        The night.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    DataError
        If the file exists already.
    OSError
        If it cannot be written.
    """
    from hypnic.recording import Recorder

    model = SENSORS[sleeper.sensor]
    with Recorder(
        path,
        sleeper.rate,
        sleeper.site,
        # Counts of the sensor's own step keep every sample exact.
        dtype="int16" if model.range_g / model.step <= 32768 else "int32",
        scale=model.step,
        range_g=model.range_g,
        sensor=f"{sleeper.sensor}, simulated",
        start_time=sleeper.start_time,
        notes=f"simulated: seed {sleeper.seed}, population {sleeper.population}",
        overwrite=overwrite,
        durable=False,
    ) as recorder:
        arrived = 0
        for chunk in sleeper:
            recorder.write(chunk)
            arrived = chunk.index + len(chunk)
        if arrived < sleeper.samples:
            recorder.gap(sleeper.samples - arrived, "lost")
        for onset, duration, label, source in sleeper.annotations():
            recorder.annotate(onset, duration, label, source)
