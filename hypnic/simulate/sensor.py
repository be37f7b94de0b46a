"""What an accelerometer makes of the acceleration that it feels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.faults import FaultPlan
    from hypnic.simulate.population import Draws

    Array = NDArray[np.float64]

__all__ = ["SENSORS", "Model", "Sensor", "check_sensor"]


class Model(NamedTuple):
    """A kind of sensor.

    Attributes
    ----------
    density : float
        Noise density in µg/√Hz.
    step : float
        One count in g.
    range_g : float
        Largest reading in g.
    """

    density: float
    step: float
    range_g: float


SENSORS: Final[Mapping[str, Model]] = MappingProxyType(
    {
        "MPU6050": Model(400.0, 1 / 16384, 2.0),
        "ADXL345": Model(290.0, 1 / 256, 16.0),
        "ICM-20948": Model(230.0, 1 / 8192, 4.0),
        "LSM6DS33": Model(90.0, 1 / 16384, 2.0),
        "LSM6DSOX": Model(70.0, 1 / 8192, 4.0),
        "ADXL355": Model(22.5, 1 / 256000, 2.048),
        "ActiGraph": Model(330.0, 1 / 341, 6.0),
        "E4": Model(250.0, 1 / 64, 2.0),
    }
)
"""Sensors by name. Densities are typical values of data sheets (R), except for ActiGraph, whose 330 µg/√Hz
and 2.9 mg steps were measured on a recording of one at rest on a table, and E4, whose noise hides below its
15.6 mg steps (S)."""

_MAINS: Final = (50.0, 60.0)


def check_sensor(name: str) -> str:
    """Return `name` if it is one of `SENSORS`.

    Raises
    ------
    UsageError
        If it is not.
    """
    if name not in SENSORS:
        raise UsageError(f"sensor {name!r} is unknown: use {', '.join(SENSORS)}")
    return name


class Sensor:
    """One sensor of a kind, with its own errors.

    Parameters
    ----------
    name : str
        One of `SENSORS`.
    draws : Draws
        Randomness of its errors.
    rate : float
        Nominal samples per second.
    seconds : float
        Length of the night.

    Attributes
    ----------
    true_rate : float
        Samples it really takes per physical second: its clock is off by 0.1 to 3 %.
    corner : float or None
        Corner of its second-order anti-alias filter in Hz, None where it has none.
    parameters : dict
        Everything that was drawn.
    """

    def __init__(self, name: str, draws: Draws, rate: float, seconds: float) -> None:
        rng = draws.rng
        self.name, self.model = check_sensor(name), SENSORS[name]
        clock = draws("sensor.clock") * float(rng.choice([-1, 1]))
        self.true_rate = rate * (1 + clock)
        filtered, corner, fold = draws.chance(0.75), draws("sensor.corner") * rate, draws("sensor.fold")
        self.corner = corner if filtered else None
        bandwidth = 0.5 * rate * (1.0 if filtered else fold)
        self.noise = self.model.density * 1e-6 * math.sqrt(bandwidth) * draws("sensor.noise")
        self.offset = np.array([draws("sensor.offset") for _ in range(3)])
        self.matrix = np.array(
            [
                [1 + draws("sensor.gain") if i == j else draws("sensor.cross") for j in range(3)]
                for i in range(3)
            ]
        )
        self.jitter = draws("sensor.jitter") if draws.chance(0.25) else 0.0
        self.hum = draws("sensor.hum") if draws.chance(0.25) else 0.0
        self.mains = float(rng.choice(_MAINS))
        self.hum_axis = rng.standard_normal(3) / math.sqrt(3)
        drift = draws("sensor.drift")
        # Warming under the blanket, then the room's slow cycle.
        grid = np.arange(math.ceil(seconds / 60) + 2) * 60.0
        warm = 1 - np.exp(-grid / 1200)
        slow = np.sin(2 * math.pi * (grid / rng.uniform(4000, 16000) + rng.random()))
        self._drift_time = grid
        self._drift = drift * (
            np.outer(warm, rng.uniform(-1, 1, 3)) + np.outer(slow, rng.uniform(-0.5, 0.5, 3))
        )
        self.parameters = {
            "sensor.clock": clock,
            "sensor.corner": self.corner or math.nan,
            "sensor.noise": self.noise,
            "sensor.jitter": self.jitter,
            "sensor.hum": self.hum,
            "sensor.drift": drift,
            **{f"sensor.offset.{axis}": float(value) for axis, value in zip("xyz", self.offset, strict=True)},
            **{f"sensor.gain.{axis}": float(self.matrix[i, i]) for i, axis in enumerate("xyz")},
        }

    def read(
        self, rng: np.random.Generator, first: int, felt: Array, before: Array, faults: FaultPlan
    ) -> Array:
        """Return what the sensor reports for a block, before anything is held or lost.

        Parameters
        ----------
        rng : numpy.random.Generator
            Randomness of this block.
        first : int
            Number of its first sample.
        felt : ndarray of float64, shape (n, 3)
            Acceleration in g in the sensor's frame.
        before : ndarray of float64, shape (3,)
            The sample before it.
        faults : FaultPlan
            Spikes and saturation.

        Returns
        -------
        ndarray of float64, shape (n, 3)
            Whole steps within the range, in g.
        """
        n = len(felt)
        if self.jitter:
            # Each sample is taken early, between the one before and itself: the next one need not be known.
            early = np.clip(np.abs(rng.normal(0.0, self.jitter, n)) * self.true_rate, 0.0, 1.0)
            felt = felt - early[:, np.newaxis] * np.diff(felt, axis=0, prepend=before[np.newaxis])
        seconds = np.arange(first, first + n) / self.true_rate
        out = rng.standard_normal((n, 3))
        out *= self.noise
        hum = self.hum * np.sin(2 * math.pi * self.mains * seconds) if self.hum else None
        for axis in range(3):
            row = self.matrix[axis]
            out[:, axis] += row[0] * felt[:, 0] + row[1] * felt[:, 1] + row[2] * felt[:, 2]
            out[:, axis] += self.offset[axis] + np.interp(seconds, self._drift_time, self._drift[:, axis])
            if hum is not None:
                out[:, axis] += hum * self.hum_axis[axis]
        faults.shake(out, first)
        steps = math.floor(self.model.range_g / self.model.step + 1e-9)
        out /= self.model.step
        np.rint(out, out=out)
        np.clip(out, -steps, steps - 1, out=out)
        out *= self.model.step
        return out
