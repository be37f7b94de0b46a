"""Offset and gain of a sensor from gravity, which a sensor at rest feels as 1 g whichever way it lies.

Method of van Hees et al. 2014 (J Appl Physiol 117:738): still windows of 10 s are points that must lie on a sphere
of radius 1 g; offset and gain of each axis are fitted until they do. Departures: temperature is not used, for no
recording here has one; a window of held samples (no deviation at all) is no measurement and does not count; there
is no least length of 72 h, what counts is whether the sphere is covered and how well the fit does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.readers.base import BaseRecording

__all__ = ["Calibration", "autocalibrate", "fit_sphere"]

WINDOW_SECONDS: Final = 10.0
"""Length of a window (s) (van Hees 2014)."""

STILL_DEVIATION: Final = 0.013
"""Standard deviation of each axis (g) below which a window is still (van Hees 2014)."""

PLAUSIBLE: Final = 2.0
"""Mean of an axis (g) beyond which a window is no rest (van Hees 2014)."""

COVER: Final = 0.3
"""g that every axis must reach on both sides of zero for the sphere to be covered (van Hees 2014)."""

LEAST_WINDOWS: Final = 10
"""Still windows below which nothing is fitted (GGIR)."""

CLOSEST: Final = 0.01
"""Distance (g) from the sphere below which points weigh no more for being closer (GGIR)."""

MOST_ROUNDS: Final = 1000
"""Rounds of the fit (van Hees 2014)."""

TOLERANCE: Final = 1e-10
"""Change of the error (g) between two rounds at which the fit ends (GGIR)."""

LARGEST_ERROR: Final = 0.01
"""Mean distance from the sphere (g) after the fit beyond which it is not used (van Hees 2014)."""

LARGEST_OFFSET: Final = 0.3
"""Offset (g) beyond which the unit is wrong or the sensor broken, rather than badly calibrated."""

LARGEST_GAIN: Final = 0.2
"""Part by which a gain may be off, likewise."""


@dataclass(frozen=True)
class Calibration:
    """How to correct a sensor: ``(xyz + offset) * scale``.

    Attributes
    ----------
    offset : tuple of float
        Added to x, y and z (g).
    scale : tuple of float
        Factors of x, y and z, after the offset.
    error_before, error_after : float
        Mean distance of the still windows from 1 g (g); NaN where there are none.
    windows : int
        Still windows that it rests on.
    covered : bool
        Whether every axis points up and down enough in them.
    refusal : str
        Why it must not be used; empty where it may.
    """

    offset: tuple[float, float, float]
    scale: tuple[float, float, float]
    error_before: float
    error_after: float
    windows: int
    covered: bool
    refusal: str = ""

    def apply(self, xyz: NDArray[Any]) -> NDArray[np.float32]:
        """Return samples in g, shape (n, 3), corrected."""
        out = np.empty(xyz.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(np.add(xyz, self.offset, dtype=np.float64), self.scale, out=out, casting="same_kind")
        return out

    def as_dict(self) -> dict[str, Any]:
        """Return it as what goes into a file's attributes."""
        return {name: value for name, value in asdict(self).items() if name != "refusal"}

    def __str__(self) -> str:
        offset = ", ".join(f"{1000 * value:+.1f}" for value in self.offset)
        scale = ", ".join(f"{value:.4f}" for value in self.scale)
        return (
            f"offset {offset} mg, scale {scale} for x, y, z: mean error {1000 * self.error_before:.1f} mg "
            f"before, {1000 * self.error_after:.1f} mg after, over {self.windows} still windows"
        )


def autocalibrate(recording: BaseRecording) -> Calibration:
    """Fit offset and gain of a recording's sensor to gravity, in one pass over it.

    Memory grows by three numbers for each still window. A calibration that the recording already has does not
    enter.

    Parameters
    ----------
    recording : BaseRecording
        What `hypnic.open` returns.

    Returns
    -------
    Calibration
        For `recording.calibrate`; with a `refusal` where the night does not carry it.

    Raises
    ------
    DataError
        If nothing in the recording can be read.
    """
    before = recording.calibration
    recording.calibrate(None)
    try:
        points = _still_points(recording)
    finally:
        recording.calibrate(before)
    return fit_sphere(points)


def _still_points(recording: BaseRecording) -> NDArray[np.float64]:
    """Return the means of the still windows (g), shape (n, 3); a gap ends a window."""
    width = max(2, round(WINDOW_SECONDS * recording.rate))
    rest = np.empty((0, 3), np.float32)
    found = [np.empty((0, 3))]
    for chunk in recording:
        joined = chunk.xyz if chunk.missing else np.concatenate([rest, chunk.xyz])
        end = len(joined) // width * width
        rest = joined[end:]
        windows = joined[:end].reshape(-1, width, 3).astype(np.float64)
        # A window with a sample that is no number has no mean, and is not still.
        with np.errstate(invalid="ignore"):
            mean, deviation = windows.mean(axis=1), windows.std(axis=1)
        still = (deviation < STILL_DEVIATION).all(axis=1) & (np.abs(mean) < PLAUSIBLE).all(axis=1)
        found.append(mean[still & (deviation > 0).any(axis=1)])
    return np.concatenate(found)


def fit_sphere(points: NDArray[np.float64]) -> Calibration:
    """Fit offset and gain of each axis so that `points` lie on the unit sphere.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
        Means of still windows (g).
    """

    def refused(why: str, error: float = np.nan, covered: bool = False) -> Calibration:
        return Calibration((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), error, error, len(points), covered, why)

    if len(points) < LEAST_WINDOWS:
        return refused(
            f"{len(points)} windows of {WINDOW_SECONDS:g} s in it are still, and {LEAST_WINDOWS} are needed"
        )
    before = _error(points)
    short = [
        f"{axis} from {low:+.2f} to {high:+.2f} g"
        for axis, low, high in zip("xyz", points.min(axis=0), points.max(axis=0), strict=True)
        if low > -COVER or high < COVER
    ]
    if short:
        return refused(
            f"its still windows do not cover the sphere: {', '.join(short)}, where each axis must reach "
            f"{COVER:g} g both ways",
            before,
        )
    offset, scale = _fit(points)
    after = _error((points + offset) * scale)
    if np.abs(offset).max() > LARGEST_OFFSET or np.abs(scale - 1).max() > LARGEST_GAIN:
        return refused("offset or gain would be beyond any sensor's: is the unit right?", before, True)
    if after >= LARGEST_ERROR:
        return refused(
            f"{1000 * after:.1f} mg of error would remain, and at most {1000 * LARGEST_ERROR:g} mg may",
            before,
            True,
        )
    if after >= before:
        offset, scale, after = np.zeros(3), np.ones(3), before
    x, y, z = offset.tolist()
    return Calibration((x, y, z), tuple(scale.tolist()), before, after, len(points), True)


def _error(points: NDArray[np.float64]) -> float:
    return float(np.abs(np.linalg.norm(points, axis=1) - 1).mean())


def _fit(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return offset and scale: each axis is regressed on the nearest points of the sphere, again and again.

    As in GGIR's ``g.calibrate``; points far from the sphere weigh less.
    """
    offset, scale = np.zeros(3), np.ones(3)
    weights, last = np.ones(len(points)), np.inf
    for _ in range(MOST_ROUNDS):
        now = (points + offset) * scale
        norm = np.maximum(np.linalg.norm(now, axis=1), 1e-9)
        nearest = now / norm[:, np.newaxis]
        share = weights / weights.sum()
        centre, target = share @ now, share @ nearest
        slope = (share @ ((now - centre) * (nearest - target))) / (share @ np.square(now - centre))
        intercept = target - slope * centre
        # (p + offset) * scale * slope + intercept, brought to the same form.
        offset = offset + intercept / (scale * slope)
        scale = scale * slope
        distance = np.abs(norm - 1)
        error = float(share @ distance)
        if abs(last - error) < TOLERANCE:
            break
        last = error
        weights = np.minimum(1 / np.maximum(distance, 1e-12), 1 / CLOSEST)
    return offset, scale
