"""Semi-synthetic nights: simulated jerks in a real recording, which otherwise stays as it was."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypnic.errors import UsageError
from hypnic.readers.base import ANNOTATION_DTYPE, GAP_DTYPE, BaseRecording, MemoryRecording
from hypnic.simulate.inject import inject
from hypnic.simulate.truth import annotation_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SemiSynthetic"]


class SemiSynthetic(MemoryRecording):
    """A real recording with simulated jerks in it: a recording, and so a source, like any other.

    Rate, site, gaps with their reasons, clock, annotations, start, sensor and notes are those of the real recording;
    its events are not, for they were found without the jerks. What was damaged is a gap here.

    Parameters
    ----------
    recording : BaseRecording
        The real one. It is read whole, into memory.
    jerks : int
        How many; fewer where there is no room for more.
    seed : int
        Which jerks, and where.
    peak_g : (float, float), optional
        Smallest and largest peak in g; by default the population's.
    quiet_g : float
        Only where no axis strays further than this from its mean (g), as for `inject`.
    population : {"wide", "tuning", "heldout"}
        As for `inject`.

    Attributes
    ----------
    truth : ndarray of `hypnic.simulate.TRUTH_DTYPE`
        The jerks. They are among the annotations too, with sources that read ``semi-synthetic:jerk peak_g=...``.

    Raises
    ------
    UsageError
        If an argument cannot be meant.
    DataError
        If the recording cannot be read, or has no place for a single jerk.
    """

    def __init__(
        self,
        recording: BaseRecording,
        *,
        jerks: int = 20,
        seed: int = 1,
        peak_g: tuple[float, float] | None = None,
        quiet_g: float = math.inf,
        population: str = "wide",
    ) -> None:
        whole = np.full((recording.n_total, 3), np.nan, np.float32)
        stored = np.zeros(recording.n_total, bool)
        known = recording.gaps["sample"] + np.cumsum(recording.gaps["missing"])
        reasons = dict(zip(known.tolist(), recording.gaps["reason"].tolist(), strict=True))
        gaps, rows = [], 0
        for chunk in recording:
            if chunk.missing:
                gaps.append((rows, chunk.missing, reasons.get(chunk.index, "damaged")))
            rows += len(chunk)
            whole[chunk.index : chunk.index + len(chunk)] = chunk.xyz
            stored[chunk.index : chunk.index + len(chunk)] = True
        xyz, self.truth = inject(
            whole,
            recording.rate,
            recording.site,
            jerks=jerks,
            seed=seed,
            peak_g=peak_g,
            quiet_g=quiet_g,
            range_g=recording.range_g,
            population=population,
        )
        super().__init__(
            recording.path,
            xyz[stored],
            rate=recording.rate,
            site=recording.site,
            start_time=recording.start_time,
            gaps=np.array(gaps, GAP_DTYPE),
            scale=recording.scale,
            dtype=recording.dtype,
            range_g=recording.range_g,
            sensor=recording.sensor,
            notes=recording.notes,
        )
        self._clock = recording.clock
        self._annotations = np.array(
            sorted([*recording.annotations.tolist(), *annotation_rows(self.truth)]), ANNOTATION_DTYPE
        )
        attrs = getattr(recording, "attrs", {})
        self._subject = str(attrs.get("subject", ""))
        self._remarks = [
            f"semi-synthetic: {len(self.truth)} simulated jerks, seed {seed}, added to {recording.path.name}",
            *([str(attrs["notes"])] if "notes" in attrs else []),
            *recording.notes,
        ]

    @property
    def clock(self) -> NDArray[np.void]:
        """Pairings of sample, device tick and wall clock of the real recording."""
        return self._clock

    @property
    def annotations(self) -> NDArray[np.void]:
        """Remarks of the real recording, and the jerks (`ANNOTATION_DTYPE`)."""
        return self._annotations

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write it to an HDF5 night, whose notes and annotations say that it is semi-synthetic.

        Counts are stored as counts of the same scale, other numbers as float32.

        Raises
        ------
        UsageError
            If `path` is the real recording.
        DataError
            If the file exists already.
        OSError
            If it cannot be written.
        """
        from hypnic.recording import write_recording

        target = Path(path)
        if target.exists() and target.samefile(self.path):
            raise UsageError(
                f"{os.fspath(path)}: the real recording is not written over: choose another name"
            )
        facts: dict[str, Any] = {"notes": "; ".join(self._remarks), "subject": self._subject}
        write_recording(path, self, overwrite=overwrite, **facts)
