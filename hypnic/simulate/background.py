"""What a sleeping body does all the time: breath, heartbeat, restless micro-movement, slow sway, snoring.

Slow courses (rates, levels) are laid out once a second for the whole night; the signal is made of them block
by block, with filter states carried, so that memory does not grow with the night by more than those few
columns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.chunk import Site
    from hypnic.simulate.population import Draws, Traits
    from hypnic.simulate.timeline import Span

    Array = NDArray[np.float64]

__all__ = ["Background", "Courses"]


def _wander(rng: np.random.Generator, n: int, seconds: float) -> Array:
    """Return an Ornstein-Uhlenbeck course of unit variance, one value a second."""
    from scipy.signal import lfilter

    keep = math.exp(-1.0 / seconds)
    start = rng.standard_normal()
    course, _ = lfilter([math.sqrt(1 - keep**2)], [1.0, -keep], rng.standard_normal(n), zi=[start * keep])
    return np.asarray(course)


def _eased(steps: Array, seconds: float) -> Array:
    """Return a course of steps with each step drawn out over `seconds`, symmetrically."""
    width = max(int(seconds), 1)
    padded = np.pad(steps, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


class Courses:
    """The slow courses of a night, one value a second.

    Parameters
    ----------
    trait : Traits
        The sleeper's.
    site : {"wrist", "mattress"}
        Where the sensor is.
    spans : list of Span
        The states of the night.
    seconds : float
        Physical length.
    """

    def __init__(
        self,
        trait: Traits,
        site: Site,
        spans: list[Span],
        seconds: float,
    ) -> None:
        rng = trait.draws.rng
        n = math.ceil(seconds) + 2
        self.time = np.arange(n, dtype=float)
        away = ("off_wrist", "out_of_bed") if site == "mattress" else ("off_wrist",)
        present, awake, asleep = np.ones(n), np.zeros(n), np.zeros(n)
        for span in spans:
            inside = slice(int(span.start), math.ceil(span.stop))
            present[inside] = span.state not in away
            awake[inside] = span.state not in ("onset", "sleep", "settling")
            asleep[inside] = span.state == "sleep"
        self.present = _eased(present, 4.0)
        awake = _eased(awake, 30.0)
        restless = 1.0 + (trait("micro.awake") - 1.0) * awake
        drift = np.exp(trait("micro.swing") * _wander(rng, n, trait("micro.drift")))
        self.micro = trait(f"micro.level.{site}") * restless * drift * self.present
        self.breath_phase = self._phase(rng, n, trait("breath.rate"), 0.08 * (1 + awake), (0.1, 0.5))
        depth = np.clip(1.0 + 0.3 * _wander(rng, n, 120.0), 0.3, 2.0)
        self.breath = trait("breath.tilt") * depth * self.present
        self.heart_phase = self._phase(rng, n, trait("heart.rate") / 60, 0.05 * (1 + awake), (0.75, 1.3333))
        self.heart = (
            trait(f"heart.peak.{site}") * np.clip(1 + 0.15 * _wander(rng, n, 30.0), 0.5, 1.5) * self.present
        )
        self.sway = trait("sway.peak") * np.stack([_wander(rng, n, 200.0) for _ in range(3)], axis=1)
        self.sway *= self.present[:, np.newaxis]
        self.snore = np.zeros(n)
        if trait.has("has.snoring", 0.35):
            on = _eased((_wander(rng, n, 300.0) > 0.3) * asleep, 10.0)
            uneven = np.clip(1.0 + 0.5 * _wander(rng, n, 3.0), 0.1, 3.0)
            self.snore = trait(f"snore.peak.{site}") * on * uneven * self.present

    def _phase(
        self, rng: np.random.Generator, n: int, rate: float, spread: Array, limits: tuple[float, float]
    ) -> Array:
        """Return the running number of cycles of a rhythm whose rate wanders (Hz, kept within `limits`)."""
        course = rate * (1.0 + spread * (0.7 * _wander(rng, n, 60.0) + 0.7 * _wander(rng, n, 6.0)))
        return np.cumsum(np.clip(course, *limits)) + rng.random()

    def at(self, course: Array, seconds: Array) -> Array:
        """Return `course` at physical times."""
        return np.interp(seconds, self.time, course)


class Background:
    """The signal of the body at rest, block after block.

    Parameters
    ----------
    courses : Courses
        Its slow courses.
    parameters : dict
        The sleeper's traits.
    axes : Draws
        Randomness of directions and filters; one night needs the same ones each time it is played.
    rate : float
        Physical samples per second.
    corner : float or None
        The sensor's anti-alias corner in Hz: what it leaves of a snore's carrier.
    """

    traits: Final = ("micro.corner", "heart.frequency", "heart.damping", "snore.frequency")
    """What it needs of the sleeper besides the courses."""

    def __init__(
        self, courses: Courses, parameters: dict[str, float], axes: Draws, rate: float, corner: float | None
    ) -> None:
        self.courses, self.rate = courses, rate
        rng = axes.rng

        def unit() -> Array:
            vector = rng.standard_normal(3)
            return np.asarray(vector / np.linalg.norm(vector))

        self._breath_axis, self._heart_axis, self._snore_axis = unit(), unit(), unit()
        # Restlessness prefers some directions: a random mixing with unit mean square per axis.
        mix = np.eye(3) + 0.5 * rng.standard_normal((3, 3))
        self._mix = mix / np.sqrt((mix**2).sum(axis=1, keepdims=True))
        keep = math.exp(-2 * math.pi * parameters["micro.corner"] / rate)
        self._micro_b, self._micro_a = np.array([math.sqrt(1 - keep**2)]), np.array([1.0, -keep])
        self._micro_state = np.zeros((1, 3))
        frequency, damping = parameters["heart.frequency"], parameters["heart.damping"]
        decay = math.exp(-damping * 2 * math.pi * frequency / rate)
        turn = 2 * math.pi * frequency * math.sqrt(1 - damping**2) / rate
        self._heart_a = np.array([1.0, -2 * decay * math.cos(turn), decay**2])
        ring = decay ** np.arange(int(rate)) * np.sin(turn * (np.arange(int(rate)) + 1)) / math.sin(turn)
        self._heart_b = np.array([1.0 / np.abs(ring).max()])
        self._heart_state = np.zeros(2)
        self._carrier = parameters["snore.frequency"]
        self._snore_gain = 1.0 if corner is None else 1 / math.sqrt(1 + (self._carrier / corner) ** 4)

    def block(self, rng: np.random.Generator, first: int, gravity: Array) -> Array:
        """Return the next block.

        Parameters
        ----------
        rng : numpy.random.Generator
            Randomness of this block.
        first : int
            Number of its first sample.
        gravity : ndarray of float64, shape (n, 3)
            What the body's posture makes the sensor read, in g: breath and sway tilt it.

        Returns
        -------
        ndarray of float64, shape (n, 3)
            Acceleration in g, to be added to `gravity`.
        """
        from scipy.signal import lfilter

        c, n = self.courses, len(gravity)
        seconds = np.arange(first - 1, first + n) / self.rate
        phase = c.at(c.breath_phase, seconds[1:])
        cycle = 2 * math.pi * phase
        # Breathing in is quicker than breathing out: a second harmonic leans the sine.
        wave = np.sin(cycle) + 0.25 * np.sin(2 * cycle)
        tilt = (c.at(c.breath, seconds[1:]) * wave)[:, np.newaxis] * self._breath_axis
        for axis in range(3):
            tilt[:, axis] += c.at(c.sway[:, axis], seconds[1:])
        out = np.empty((n, 3))
        for axis in range(3):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            out[:, axis] = tilt[:, a] * gravity[:, b] - tilt[:, b] * gravity[:, a]

        noise, self._micro_state = lfilter(
            self._micro_b, self._micro_a, rng.standard_normal((n, 3)), axis=0, zi=self._micro_state
        )
        level = c.at(c.micro, seconds[1:])
        for axis in range(3):
            out[:, axis] += level * sum(self._mix[axis, other] * noise[:, other] for other in range(3))

        beats = c.at(c.heart_phase, seconds)
        whole = np.floor(beats)
        strike = np.zeros(n)
        (hits,) = np.nonzero(np.diff(whole))
        # A beat between two samples is shared between them, but for a share before the block.
        late = (beats[hits + 1] - whole[hits + 1]) / (beats[hits + 1] - beats[hits])
        strike[hits] = 1 - late
        strike[hits - (hits > 0)] += np.where(hits > 0, late, 0.0)
        strike *= c.at(c.heart, seconds[1:]) * (1 + 0.2 * np.sin(cycle))
        pulse, self._heart_state = lfilter(self._heart_b, self._heart_a, strike, zi=self._heart_state)
        out += pulse[:, np.newaxis] * self._heart_axis

        level = c.at(c.snore, seconds[1:])
        if level.any():
            inhale = np.maximum(np.sin(cycle), 0.0) ** 2
            carrier = np.sin(2 * math.pi * self._carrier * seconds[1:] + 1.5 * np.sin(0.7 * cycle))
            out += (self._snore_gain * level * inhale * carrier)[:, np.newaxis] * self._snore_axis
        return out
