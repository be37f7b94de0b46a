"""Made-up acceleration for the tests: quiet stretches, jerks, and whatever a sensor may come up with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Samples = NDArray[np.float32]

POSTURE = (0.1, 0.35, 0.93)


def quiet(seconds: float, rate: float, seed: int = 0, sigma: float = 0.001) -> Samples:
    """Gravity and white noise of `sigma` g: too little, by default, to pass the floor of the wrist preset."""
    n = round(seconds * rate)
    return (np.random.default_rng(seed).normal(0.0, sigma, (n, 3)) + POSTURE).astype(np.float32)


def breathing(
    seconds: float, rate: float, seed: int = 0, sigma: float = 0.001, tilt: float = 0.01
) -> Samples:
    """The same on somebody who breathes: a tilt of `tilt` g, 15 times a minute."""
    xyz = quiet(seconds, rate, seed, sigma)
    breath = tilt * np.sin(2 * np.pi * 0.25 * np.arange(len(xyz)) / rate)
    return (xyz + np.outer(breath, (0.9, -0.4, 0.1))).astype(np.float32)


def add_jerk(
    xyz: Samples, at: int, rate: float, peak: float = 0.4, decay: float = 0.1, hz: float = 4.0
) -> None:
    """Add a limb's ring that dies away to `xyz` from sample `at`."""
    t = np.arange(min(len(xyz) - at, round(8 * decay * rate))) / rate
    ring = peak * np.sin(2 * np.pi * hz * t) * np.exp(-t / decay)
    xyz[at : at + len(t)] += np.outer(ring, (0.8, 0.5, 0.33)).astype(np.float32)


def add_movement(
    xyz: Samples, at: int, rate: float, seconds: float, seed: int = 0, size: float = 0.3
) -> None:
    """Add an irregular movement below some 6 Hz to `xyz` from sample `at`."""
    n, smooth = round(seconds * rate), np.hanning(max(3, round(0.2 * rate)))
    rng = np.random.default_rng(seed)
    for axis in range(3):
        path = np.convolve(rng.normal(0.0, 1.0, n), smooth / np.sqrt((smooth**2).sum()), "same")
        xyz[at : at + n, axis] += (size * path * np.hanning(n)).astype(np.float32)


def night(minutes: float, rate: float, seed: int = 0) -> Samples:
    """Quiet with some twenty jerks and movements, one a posture shift, and a noise floor that changes."""
    rng = np.random.default_rng(seed)
    xyz = quiet(60 * minutes, rate, seed, 0.002)
    n = len(xyz)
    xyz[n // 2 :] += rng.normal(0.0, 0.006, (n - n // 2, 3))
    for _ in range(12):
        at = int(rng.integers(n))
        add_jerk(xyz, at, rate, rng.uniform(0.02, 1.0), rng.choice([0.05, 0.15, 0.8]), rng.uniform(2.0, 9.0))
    for k, seconds in enumerate((0.8, 3.0, 9.0)):
        add_movement(xyz, int(rng.integers(n - round(10 * rate))), rate, seconds, seed + k)
    at = int(rng.integers(n // 4, n))
    xyz[at:] += (0.3, -0.2, 0.1)
    return xyz.astype(np.float32)


@dataclass(frozen=True)
class Pieces:
    """A recording in a few words, so that a failing example can be read."""

    seed: int
    step: float  # g, of the sensor; 0 for a fine one
    parts: tuple[tuple[str, float, float], ...]  # kind, seconds, size

    def xyz(self, rate: float) -> Samples:
        """Return the samples, after a background of 7 s to know."""
        rng = np.random.default_rng(self.seed)
        done: list[NDArray[np.floating[Any]]] = [rng.normal(0.0, 0.001, (round(7 * rate), 3)) + POSTURE]
        for kind, seconds, size in self.parts:
            n = round(seconds * rate) + 1
            here = done[-1][-1] if np.isfinite(done[-1][-1]).all() else np.array(POSTURE)
            if kind == "lost":
                done.append(np.full((n, 3), np.nan))
            elif kind == "absurd":
                done.append(np.full((min(n, 5), 3), size))
            elif kind == "zero":
                done.append(np.zeros((n, 3)))
            elif kind == "held":
                done.append(np.tile(here, (n, 1)))
            elif kind == "jerk":
                part = (here + rng.normal(0.0, 0.001, (n + round(rate), 3))).astype(np.float32)
                add_jerk(part, n // 2, rate, size, 0.06 if seconds < 1 else 0.3)
                done.append(part)
            else:
                offset = np.array([size, -size, 0.0]) if kind == "step" else 0.0
                done.append(here + offset + rng.normal(0.0, size if kind == "noise" else 0.001, (n, 3)))
        xyz = np.concatenate(done)
        if self.step:
            xyz = np.round(xyz / self.step) * self.step
        with np.errstate(over="ignore"):
            return xyz.astype(np.float32)


def _part(kind: str, sizes: list[float]) -> st.SearchStrategy[tuple[str, float, float]]:
    seconds = [0.02, 0.06, 0.4, 1.2, 3.0, 9.0, *([35.0] if kind in ("lost", "noise") else [])]
    return st.tuples(st.just(kind), st.sampled_from(seconds), st.sampled_from(sizes))


pieces = st.builds(
    Pieces,
    st.integers(0, 9999),
    st.sampled_from([0.0, 0.0, 1 / 64, 1 / 1024]),
    st.lists(
        st.one_of(
            _part("noise", [1e-5, 0.002, 0.01, 0.1, 1.0, 20.0]),
            _part("jerk", [0.03, 0.3, 3.0]),
            _part("step", [0.02, 0.5, -2.0]),
            _part("held", [0.0]),
            _part("zero", [0.0]),
            _part("absurd", [math.nan, math.inf, -math.inf, 63.9, -1e4, 3e38]),
            _part("lost", [0.0]),
        ),
        min_size=1,
        max_size=8,
    ).map(tuple),
)
"""Noise, jerks, steps, held, absurd and lost samples in any order."""
