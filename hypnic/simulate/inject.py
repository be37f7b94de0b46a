"""Simulated jerks in a real background: semi-synthetic nights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hypnic.chunk import Site, Source, as_xyz, check_rate, check_site
from hypnic.errors import DataError, UsageError
from hypnic.simulate.kinds import Spec, Stage, render
from hypnic.simulate.mechanics import Grid, Scene, smooth_step
from hypnic.simulate.population import DISTRIBUTIONS, Draws, check_population, jerk_peak, stratified
from hypnic.simulate.truth import TRUTH_DTYPE, source_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Injected", "inject"]

_POSTURE_S = 2.0
"""Seconds before a jerk whose mean tells how gravity lies."""
_AHEAD_S = 2.0
_TRIES = 400
_FINE = 400.0


class Injected(NamedTuple):
    """A recording with jerks added.

    Attributes
    ----------
    xyz : ndarray of float32, shape (n, 3)
        Acceleration in g, NaN where samples are missing.
    truth : ndarray of `TRUTH_DTYPE`
        The jerks, by onset. Their label is ``hypnic_jerk`` throughout, though nobody knows whether the person
        was falling asleep: score both jerk labels as one.
    """

    xyz: NDArray[np.float32]
    truth: NDArray[np.void]


def inject(
    background: Source | ArrayLike,
    rate: float | None = None,
    site: str | None = None,
    *,
    jerks: int = 20,
    seed: int = 1,
    peak_g: tuple[float, float] | None = None,
    min_distance: float = 10.0,
    quiet_g: float = math.inf,
    step: float | None = None,
    range_g: float | None = None,
    population: str = "wide",
) -> Injected:
    """Add simulated jerks to a real recording.

    The jerks' dynamic acceleration and the quick tilt of gravity that they cause are added to the samples,
    with gravity as the recording shows it just before each jerk. The result is rounded to the recording's own
    steps and clipped to its range, as its sensor would have done.

    Parameters
    ----------
    background : Source or array_like, shape (n, 3)
        A recording, or acceleration in g with NaN where samples are missing.
    rate : float, optional
        Sampling rate in Hz; needed for an array.
    site : {"wrist", "mattress"}, optional
        Where the sensor was; needed for an array.
    jerks : int
        How many; fewer where there is no room for more.
    seed : int
        Which jerks, and where.
    peak_g : (float, float), optional
        Smallest and largest peak in g, filled evenly in the logarithm; by default the population's.
    min_distance : float
        Seconds at least between onsets. None comes within 2 s of an end or of a missing sample anyway.
    quiet_g : float
        Only where, from 2 s before to 1 s after the onset, no axis strays further than this from its mean
        (g): a jerk comes at rest, and most recordings are of people awake.
    step, range_g : float, optional
        Steps and range of the sensor in g. By default the step is the smallest difference between values, if
        all are whole multiples of it apart, and the range the recording's own attribute, or unlimited.
    population : {"wide", "tuning", "heldout"}
        Which parts of each parameter's distribution may occur.

    Returns
    -------
    Injected
        A copy with jerks, and the truth; its sources read ``semi-synthetic:jerk peak_g=...``.

    Raises
    ------
    UsageError
        If an argument cannot be meant.
    DataError
        If the background is shorter than 10 s or has no place for a single jerk.
    """
    if isinstance(background, Source):
        rate = background.rate if rate is None else rate
        site = background.site if site is None else site
        range_g = getattr(background, "range_g", None) if range_g is None else range_g
        xyz = _whole(background)
    else:
        if rate is None or site is None:
            raise UsageError("an array has no rate and site of its own: give both")
        xyz = as_xyz(background).copy()
    rate, where = check_rate(rate), check_site(site)
    if jerks < 0:
        raise UsageError(f"jerks {jerks} is negative: use 0 or more")
    if peak_g is not None and not 0 < peak_g[0] <= peak_g[1] < math.inf:
        raise UsageError(
            f"peak_g {peak_g!r} is not a range: use the smallest and the largest peak in g, above 0"
        )
    if len(xyz) < 10 * rate:
        raise DataError(f"a background of {len(xyz) / rate:.1f} s has no room for jerks: 10 s are the least")
    draws = Draws(_rng(seed, 0), check_population(population))
    step = _step(xyz) if step is None else step
    onsets = _places(draws.rng, xyz, rate, jerks, min_distance, quiet_g)
    if jerks and not len(onsets):
        raise DataError("the background has no place for a jerk: raise quiet_g, or lower min_distance")
    truth = np.zeros(len(onsets), TRUTH_DTYPE)
    for number, onset in enumerate(onsets):
        own = Draws(_rng(seed, number + 1), draws.population)
        _add(xyz, truth[number], own, where, rate, onset, peak_g, step, range_g)
    return Injected(xyz, truth)


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(100, number))))


def _whole(source: Source) -> NDArray[np.float32]:
    """Return all samples of a source, NaN where some are missing."""
    chunks = [(chunk.index, chunk.xyz) for chunk in source]
    if not chunks:
        raise DataError("the background is empty")
    out = np.full((chunks[-1][0] + len(chunks[-1][1]), 3), np.nan, np.float32)
    for index, xyz in chunks:
        out[index : index + len(xyz)] = xyz
    return out


def _step(xyz: NDArray[np.float32]) -> float:
    """Return the step of a sensor's values in g, or 0 where they are not multiples of one."""
    values = np.unique(xyz[np.isfinite(xyz)].astype(np.float64))
    gaps = np.diff(values)
    # Values a rounding error of float32 apart are the same count.
    gaps = gaps[gaps > 1e-6 * max(np.abs(values).max(initial=0.0), 1e-3)]
    if len(gaps) < 2:
        return 0.0
    step = float(gaps.min())
    step = float(gaps.sum() / np.rint(gaps / step).sum())
    return step if np.allclose(gaps / step, np.rint(gaps / step), atol=0.1) else 0.0


def _places(
    rng: np.random.Generator, xyz: NDArray[np.float32], rate: float, count: int, distance: float, quiet: float
) -> list[float]:
    """Return up to `count` onsets in seconds, in order."""
    before, after = round(_POSTURE_S * rate), round(_AHEAD_S * rate)
    onsets: list[float] = []
    for _ in range(_TRIES * count):
        if len(onsets) == count:
            break
        onset = rng.uniform(before + 1, len(xyz) - after - 1) / rate
        if any(abs(onset - other) < distance for other in onsets):
            continue
        at = round(onset * rate)
        near = xyz[at - before : at + after]
        if not np.isfinite(near).all():
            continue
        rest = near[: before + round(rate)]
        if np.abs(rest - rest.mean(axis=0)).max() <= quiet:
            onsets.append(onset)
    return sorted(onsets)


def _add(
    xyz: NDArray[np.float32],
    row: Any,
    draws: Draws,
    site: Site,
    rate: float,
    onset: float,
    peak_g: tuple[float, float] | None,
    step: float,
    range_g: float | None,
) -> None:
    """Add one jerk to `xyz` in place and describe it in `row`."""
    from scipy.signal import butter, sosfilt

    at = math.floor(onset * rate)
    finer = math.ceil(_FINE / rate)
    grid = Grid(finer * rate, onset - at / rate)
    gravity = xyz[at - round(_POSTURE_S * rate) : at].astype(np.float64).mean(axis=0)
    usual = DISTRIBUTIONS[jerk_peak(site, draws.population)]
    low, high = (usual.low, usual.high) if peak_g is None else peak_g
    peak = low * (high / low) ** stratified(draws.rng.random(), draws.population)
    modes = tuple((draws("bed.frequency"), draws("bed.damping")) for _ in range(draws.between(1, 3)))
    motion = render(Stage(Spec(onset, "jerk", 0.0, peak), Scene(site, modes), grid, gravity, draws, draws))
    # The recording went through some anti-alias filter of its own: the jerk must too.
    sos = butter(2, 0.4 * rate, fs=grid.rate, output="sos")
    # The posture that a simulated jerk leaves would have to turn all that follows: here the limb comes back.
    back = smooth_step(np.linspace(0.0, 1.0, len(motion.tilt)))[:, np.newaxis] * motion.tilt[-1]
    added = sosfilt(sos, motion.dynamic + motion.tilt - back, axis=0)[::finer][: len(xyz) - at]
    moved = xyz[at : at + len(added)].astype(np.float64)
    moved += np.rint(added / step) * step if step else added
    if range_g is not None:
        np.clip(moved, -range_g, range_g, out=moved)
    xyz[at : at + len(added)] = moved
    row["onset"], row["duration"], row["label"] = onset, motion.duration(grid), "hypnic_jerk"
    row["kind"], row["peak_g"], row["visible"], row["group"] = "jerk", motion.peak, 1.0, -1
    row["sample"] = math.ceil(onset * rate - 1e-6)
    row["source"] = source_text("semi-synthetic", "jerk", motion.peak)
