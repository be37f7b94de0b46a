"""From muscle, knock and limb to the acceleration that a sensor feels: the elements.

At the wrist the limb turns about a joint: the sensor feels tangential and centripetal acceleration and
gravity turning. In a mattress a force drives one to three modes of the bed, mostly up and down, and the
sensor hardly tilts. Everything is in the sensor's frame, in g, on a fine time grid of its own.

All of it is an assumed mechanical model with the ranges of `hypnic.simulate.population`, not a fit to
recordings of people. `hypnic.simulate.kinds` makes events of these elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from hypnic.chunk import Site

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.population import Draws

    Array = NDArray[np.float64]

__all__ = [
    "STANDARD_GRAVITY",
    "Grid",
    "Motion",
    "Scene",
    "cross",
    "felt",
    "in_bed",
    "largest",
    "limb_motion",
    "line",
    "ring",
    "ring_time",
    "roughness",
    "second_order",
    "smooth_step",
    "square_to",
    "stroke",
    "to_peak",
    "twitches",
    "unit",
]

STANDARD_GRAVITY: Final = 9.80665
"""m/s² in one g."""

_ENERGY_AT_END: Final = 0.95
"""An event is over when this part of its energy has passed."""
_DECAYED: Final = 1.2
"""Cycles times damping ratio after which a ring has fallen below 0.1 %."""
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Grid:
    """The fine time grid of one event.

    Attributes
    ----------
    rate : float
        Points per second.
    lead : float
        Seconds from the grid's first point to the event's onset.
    """

    rate: float
    lead: float = 0.0

    def time(self, seconds: float) -> Array:
        """Return the seconds since onset of every point until `seconds` after it."""
        return np.arange(math.ceil((self.lead + seconds) * self.rate) + 1) / self.rate - self.lead


@dataclass(frozen=True, slots=True)
class Scene:
    """What all events of a night share.

    Attributes
    ----------
    site : {"wrist", "mattress"}
        Where the sensor is.
    modes : tuple of (float, float)
        Natural frequency (Hz) and damping ratio of each mode of the bed.
    """

    site: Site
    modes: tuple[tuple[float, float], ...]

    @property
    def ring(self) -> float:
        """Seconds that the bed rings."""
        return max(ring_time(frequency, damping) for frequency, damping in self.modes)


@dataclass(frozen=True, slots=True)
class Motion:
    """One event as felt.

    Attributes
    ----------
    dynamic : ndarray of float64, shape (n, 3)
        Acceleration in g without gravity (for a jerk or twitch with the tilt it causes, which is as quick).
    tilt : ndarray of float64, shape (n, 3)
        What the turning of gravity adds, in g; its last row stays after the event.
    """

    dynamic: Array
    tilt: Array

    @property
    def peak(self) -> float:
        """Largest norm of the dynamic acceleration, in g."""
        return float(np.sqrt((self.dynamic**2).sum(axis=1).max()))

    def duration(self, grid: Grid) -> float:
        """Return the seconds from onset until 95 % of the dynamic acceleration's energy has passed."""
        energy = np.cumsum((self.dynamic**2).sum(axis=1))
        last = int(np.searchsorted(energy, _ENERGY_AT_END * energy[-1]))
        return max(last / grid.rate - grid.lead, 1 / grid.rate)


def unit(rng: np.random.Generator) -> Array:
    """Return a random direction."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def square_to(rng: np.random.Generator, axis: Array) -> Array:
    """Return a random unit vector at right angles to `axis`."""
    vector = np.cross(axis, unit(rng))
    return vector / np.linalg.norm(vector)


def cross(a: Array, b: Array) -> Array:
    """Return the row-wise cross product; `np.cross` costs several times as much on short arrays."""
    a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
    b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
    return np.stack((a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0), axis=-1)


def largest(rows: Array) -> float:
    """Return the largest norm of the rows."""
    return float(np.sqrt((rows**2).sum(axis=1).max()))


def ring_time(frequency: float, damping: float) -> float:
    """Return the seconds after which a free oscillation has fallen below 0.1 %."""
    return _DECAYED / (damping * frequency)


def second_order(drive: Array, rate: float, frequency: float, damping: float) -> tuple[Array, Array, Array]:
    """Drive a mass on a damped spring.

    Parameters
    ----------
    drive : ndarray of float64, shape (n,) or (n, 3)
        Where the spring would hold the mass at rest.
    rate : float
        Points per second.
    frequency : float
        Natural frequency in Hz.
    damping : float
        Damping ratio; 1 is critical.

    Returns
    -------
    position, velocity, acceleration : ndarray
        Of the shape of `drive`, per second and per second squared, by the bilinear transform.
    """
    from scipy.signal import lfilter

    omega, k = 2 * math.pi * frequency, 2 * rate
    stiffness, loss = omega**2, 2 * damping * omega * k
    a = np.array([k * k + loss + stiffness, 2 * (stiffness - k * k), k * k - loss + stiffness])
    position = lfilter(stiffness * np.array([1.0, 2.0, 1.0]), a, drive, axis=0)
    velocity = lfilter(stiffness * k * np.array([1.0, 0.0, -1.0]), a, drive, axis=0)
    acceleration = lfilter(stiffness * k * k * np.array([1.0, -2.0, 1.0]), a, drive, axis=0)
    return position, velocity, acceleration


def twitches(time: Array, burst: float, twitch: float, rng: np.random.Generator) -> Array:
    """Return a muscle's drive: motor units fire for `burst` seconds, each a critically damped twitch."""
    starts = np.sort(rng.random(int(rng.integers(5, 16)))) * burst
    starts[0] = 0.0
    strengths = rng.lognormal(0.0, 0.5, len(starts))
    contraction = twitch * rng.uniform(0.85, 1.15, len(starts))
    x = np.maximum(time[:, np.newaxis] - starts, 0.0) / contraction
    return np.asarray((x * np.exp(1.0 - x)) @ strengths)


def smooth_step(x: Array) -> Array:
    """Return the minimum-jerk course from 0 (at x = 0 and before) to 1 (at x = 1 and after)."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x**3 * (10.0 - 15.0 * x + 6.0 * x * x))


def stroke(time: Array, start: float, length: float) -> tuple[Array, Array, Array]:
    """Return position, velocity and acceleration of a unit minimum-jerk reach (Flash and Hogan 1985, M)."""
    x = np.clip((time - start) / length, 0.0, 1.0)
    position = smooth_step(x)
    velocity = 30.0 * x * x * (1.0 - x) ** 2 / length
    acceleration = 60.0 * x * (1.0 - x) * (1.0 - 2.0 * x) / length**2
    return position, velocity, acceleration


@lru_cache(maxsize=32)
def _tremor_band(rate: float) -> Array:
    from scipy.signal import butter

    return np.asarray(butter(1, [2.0, 14.0], "bandpass", fs=rate, output="sos"))


def roughness(time: Array, length: float, rate: float, rng: np.random.Generator) -> Array:
    """Return noise of 2 to 14 Hz under the uneven envelope of a movement, three axes, largest norm 1."""
    from scipy.signal import sosfilt

    noise = sosfilt(_tremor_band(rate), rng.standard_normal((len(time), 3)), axis=0)
    knots = np.linspace(0.0, length, max(int(length / 0.4) + 2, 3))
    heights = rng.gamma(2.0, 0.5, len(knots))
    heights[[0, -1]] = 0.0
    rows = noise * np.interp(time, knots, heights, left=0.0, right=0.0)[:, np.newaxis]
    return np.asarray(rows / max(largest(rows), _TINY))


def ring(time: Array, frequency: float, length: float, phase: float = 0.0) -> Array:
    """Return an oscillation that starts at once and has fallen to 5 % after `length` seconds."""
    x = np.maximum(time, 0.0)
    return np.where(time >= 0, np.exp(-3.0 * x / length) * np.sin(2 * math.pi * frequency * x + phase), 0.0)


def _rotations(omega: Array, rate: float) -> Array:
    """Return the quaternions of the sensor's attitude after each step of its own angular velocity (rad/s).

    Products of all leading steps by doubling: exact for steps of constant velocity, and no loop over points.
    """
    speed = np.sqrt((omega**2).sum(axis=1))
    half = 0.5 * speed / rate
    q = np.empty((4, len(omega)))
    q[0] = np.cos(half)
    q[1:] = (omega * (np.sin(half) / np.maximum(speed, _TINY))[:, np.newaxis]).T
    step = 1
    while step < q.shape[1]:
        a0, a1, a2, a3 = q[:, :-step]
        b0, b1, b2, b3 = q[:, step:]
        q[:, step:] = np.stack(
            (
                a0 * b0 - a1 * b1 - a2 * b2 - a3 * b3,
                a0 * b1 + a1 * b0 + a2 * b3 - a3 * b2,
                a0 * b2 - a1 * b3 + a2 * b0 + a3 * b1,
                a0 * b3 + a1 * b2 - a2 * b1 + a3 * b0,
            )
        )
        step *= 2
    return q


def felt(omega: Array, alpha: Array, radius: Array, gravity: Array, rate: float) -> tuple[Array, Array]:
    """Return what a sensor on a turning limb feels.

    Parameters
    ----------
    omega, alpha : ndarray of float64, shape (n, 3)
        Angular velocity (rad/s) and acceleration (rad/s²) in the sensor's frame.
    radius : ndarray of float64, shape (3,)
        From the joint to the sensor, in m.
    gravity : ndarray of float64, shape (3,)
        What the sensor reads at rest before the movement, in g.
    rate : float
        Points per second.

    Returns
    -------
    linear, tilt : ndarray of float64, shape (n, 3)
        Tangential and centripetal acceleration, and the change of what gravity adds, in g.
    """
    linear = (cross(alpha, radius) + cross(omega, cross(omega, radius))) / STANDARD_GRAVITY
    q = _rotations(omega, rate)
    axis = -q[1:].T  # the conjugate: gravity turns against the sensor
    doubled = 2.0 * cross(axis, gravity)
    tilt = q[0][:, np.newaxis] * doubled + cross(axis, doubled)
    return linear, tilt


def limb_motion(
    omega: Array,
    alpha: Array,
    radius: Array,
    gravity: Array,
    rate: float,
    *,
    peak: float,
    widest: float,
    quick: bool = False,
) -> Motion:
    """Return what a sensor feels on a limb whose angles are scaled to reach a peak.

    Parameters
    ----------
    omega, alpha, radius, gravity, rate
        As in `felt`, at any scale of the angles.
    peak : float
        Largest norm of the dynamic acceleration aimed at, in g.
    widest : float
        Largest angle, in rad: a peak that needs more is not reached.
    quick : bool
        Whether the tilt of gravity is as quick as the movement and counts as dynamic, but for what lasts.
    """
    tangential = cross(alpha, radius) / STANDARD_GRAVITY
    centripetal = cross(omega, cross(omega, radius)) / STANDARD_GRAVITY
    angle = np.cumsum(omega, axis=0) / rate
    first = tangential - cross(angle, gravity) if quick else tangential
    limit = widest / max(largest(angle), _TINY)
    scale = min(peak / max(largest(first), _TINY), limit)
    for _ in range(8):
        # One part grows with the scale and one with its square: a damped step suits both.
        reached = largest(scale * first + scale**2 * centripetal)
        scale = min(scale * (peak / max(reached, _TINY)) ** 0.7, limit)
    linear, tilt = felt(scale * omega, scale * alpha, radius, gravity, rate)
    if not quick:
        return Motion(linear, tilt)
    lasting = np.zeros_like(tilt)
    lasting[-1] = tilt[-1]
    return Motion(linear + tilt - lasting, lasting)


def in_bed(scene: Scene, force: Array, rate: float, draws: Draws) -> Array:
    """Return the bed's acceleration under `force` (n, 3): its modes, weighted by where the force acts."""
    weights = draws.rng.dirichlet(np.ones(len(scene.modes)))
    load = draws.rng.uniform(0.95, 1.05)
    parts = [
        weight / frequency**2 * second_order(force, rate, frequency * load, damping)[2]
        for weight, (frequency, damping) in zip(weights, scene.modes, strict=True)
    ]
    return np.asarray(sum(parts))


def line(draws: Draws, gravity: Array) -> Array:
    """Return the direction of a force on the bed: up and down with something sideways."""
    vertical = gravity / np.linalg.norm(gravity)
    direction = vertical + draws("bed.sideways") * square_to(draws.rng, vertical)
    return direction / np.linalg.norm(direction)


def to_peak(rows: Array, peak: float) -> Array:
    """Return `rows` scaled so that their largest norm is `peak`."""
    return rows * (peak / max(largest(rows), _TINY))
