"""A simulated sleeper: a whole night with every event known, as a source of chunks."""

from __future__ import annotations

import math
import time as _time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import UsageError
from hypnic.simulate.background import Background, Courses
from hypnic.simulate.faults import IDLE_WAKES, FaultPlan, Faults
from hypnic.simulate.kinds import KINDS, Stage, render
from hypnic.simulate.mechanics import Grid, Motion
from hypnic.simulate.play import BLOCK_S, Felt, Played, overlay, sampled
from hypnic.simulate.population import Draws, Traits, check_population
from hypnic.simulate.reference import Reference, check_placement
from hypnic.simulate.sensor import SENSORS, Sensor
from hypnic.simulate.timeline import plan
from hypnic.simulate.truth import SPAN_DTYPE, TRUTH_DTYPE, annotation_rows, source_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Sleeper"]

_START: Final = "2024-01-15T22:30:00+00:00"

# Purposes of the random streams of a night. Their numbers are part of "same seed, same bytes"; those from 20 on
# are the reference sensor's, 100 is injection's.
_PLAN, _COURSES, _SENSOR, _FAULTS, _EVENT, _GROUP, _AXES, _BLOCK, _CHOICE = range(9)


class Sleeper(Played):
    """A night of a simulated sleeper.

    The same arguments give the same bytes, in any process, however they are read. Bytes may differ between
    versions of NumPy and SciPy and between processors, whose last bits of sines differ.

    The sensor's clock is off by 0.1 to 3 %: it takes its samples at `rate` times something else. All times of
    the truth are given as the recording counts them, in nominal sample periods from its first sample, lost
    ones included, so that ``onset * rate`` is a sample number.

    Parameters
    ----------
    site : {"wrist", "mattress"}
        Where the sensor is.
    hours : float
        Nominal length, 0.1 to 96.
    rate : float
        Nominal sampling rate in Hz.
    seed : int
        Which sleeper and which night.
    sensor : str, optional
        One of `hypnic.simulate.SENSORS`; drawn by default.
    faults : bool or Faults
        True draws how often the sensor and its logger fail, False is a sensor without faults.
    jerks : int, optional
        How many jerks, as many as there is room for; by default 10 to 40 in eight hours, in proportion.
    population : {"wide", "tuning", "heldout"}
        Which parts of each parameter's distribution may occur: see `hypnic.simulate.population`.
    start_time : str or float
        ISO 8601 with offset, or POSIX seconds, of the first sample.
    reference : {"frame", "limb", "partner"}, optional
        Where a second sensor is that is sampled together with the first: see `hypnic.simulate.reference`. The
        night's own bytes do not depend on it.
    speed : float, optional
        Play in real time (1.0) or so many times faster, in chunks of 0.1 s; as fast as possible by default.
    clock, sleep : callable, optional
        What tells the time and waits when playing; `time.monotonic` and `time.sleep`.

    Attributes
    ----------
    rate : float
        Nominal sampling rate in Hz.
    site : {"wrist", "mattress"}
        Where the sensor is.
    sensor : str
        Its name.
    faults : Faults
        How often it fails.
    seed, population
        As given.
    samples : int
        Length in samples, lost ones included.
    parameters : dict of str to float
        What was drawn for this sleeper, sensor and bed.
    truth : ndarray of `TRUTH_DTYPE`
        Every event, by onset.
    states : ndarray of `SPAN_DTYPE`
        The states of the night, without a hole: awake, settling, onset (the onset window), sleep, off_wrist,
        out_of_bed.
    fault_spans : ndarray of `SPAN_DTYPE`
        Gaps, stuck and held samples. Samples dropped one by one are not listed; chunks count them.

    Raises
    ------
    UsageError
        If an argument cannot be meant.

    Examples
    --------
    >>> night = Sleeper("wrist", hours=0.5, rate=50, seed=3)
    >>> sum(len(chunk) + chunk.missing for chunk in night) <= night.samples
    True
    """

    def __init__(
        self,
        site: str = "wrist",
        hours: float = 8.0,
        rate: float = 100.0,
        seed: int = 1,
        *,
        sensor: str | None = None,
        faults: bool | Faults = True,
        jerks: int | None = None,
        population: str = "wide",
        start_time: str | float = _START,
        reference: str | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = _time.monotonic,
        sleep: Callable[[float], None] = _time.sleep,
    ) -> None:
        where, rate = check_site(site), check_rate(rate)
        if not 0.1 <= hours <= 96:
            raise UsageError(f"hours {hours!r} is not a length of a night: use 0.1 to 96")
        if seed < 0:
            raise UsageError(f"seed {seed} is negative: use 0 or more")
        if jerks is not None and jerks < 0:
            raise UsageError(f"jerks {jerks} is negative: use 0 or more")
        if speed is not None and not speed > 0:
            raise UsageError(f"speed {speed!r} is not positive: use 1.0 for real time, or leave it out")
        super().__init__(where, rate, round(hours * 3600 * rate), _posix(start_time), speed, clock, sleep)
        self.hours, self.seed = float(hours), int(seed)
        self.population = check_population(population)
        self._placement = None if reference is None else check_placement(reference, where)
        choice = self._draws(_CHOICE)
        drawn = [name for name in SENSORS if name != "E4" or self.rate <= 64]
        picked = str(choice.rng.choice(drawn))
        nominal = self.samples / self.rate
        self._sensor = Sensor(sensor or picked, self._draws(_SENSOR), self.rate, nominal * 1.05)
        self.sensor = self._sensor.name
        seconds = self.samples / self._sensor.true_rate
        self._night, self._scene = plan(self._draws(_PLAN), self.site, seconds, jerks)
        traits = Traits(self._draws(_COURSES), self._night.parameters)
        self._courses = Courses(traits, self.site, self._night.spans, seconds)
        for name in Background.traits:
            traits(name)
        self.parameters = {**traits.values, **self._sensor.parameters}
        if isinstance(faults, Faults):
            self.faults = faults
        else:
            self.faults = (
                Faults.drawn(self._draws(_FAULTS), self.sensor == "ActiGraph") if faults else Faults()
            )
        self._survey()

    # randomness

    def _rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        return np.random.Generator(
            np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(purpose, number)))
        )

    def _draws(self, purpose: int, number: int = 0) -> Draws:
        return Draws(self._rng(purpose, number), self.population)

    # events

    def _motion(self, number: int) -> tuple[Motion, Grid, int, int]:
        """Compute event `number`; return it, its grid, its first sample and how many points make a sample."""
        spec = self._night.events[number]
        rate = self._sensor.true_rate
        anchor = math.floor(spec.onset * rate)
        finer = math.ceil(KINDS[spec.kind].rate / rate)
        grid = Grid(finer * rate, spec.onset - anchor / rate)
        shared = self._draws(_GROUP, max(spec.group, 0))
        stage = Stage(spec, self._scene, grid, self._gravity[number], self._draws(_EVENT, number), shared)
        return render(stage), grid, anchor, finer

    def _survey(self) -> None:
        """Compute every event once, for its peak, its duration, the posture it leaves and its row of truth."""
        events = self._night.events
        up = self._rng(_AXES).standard_normal(3)
        self._gravity = np.empty((len(events) + 1, 3))
        self._gravity[0] = up / np.linalg.norm(up)
        truth = np.zeros(len(events), TRUTH_DTYPE)
        stretch = self._sensor.true_rate / self.rate
        for number, spec in enumerate(events):
            motion, grid, _, _ = self._motion(number)
            self._gravity[number + 1] = self._gravity[number] + motion.tilt[-1]
            row = truth[number]
            row["onset"], row["duration"] = spec.onset * stretch, motion.duration(grid) * stretch
            alone = spec.onset in self._night.isolated
            row["label"] = "isolated_jerk" if alone else KINDS[spec.kind].label
            row["kind"], row["peak_g"], row["group"] = spec.kind, motion.peak, spec.group
        length = self.samples / self.rate
        moves = truth[truth["peak_g"] >= IDLE_WAKES]
        spans = np.stack([moves["onset"], moves["onset"] + moves["duration"]], axis=1)
        self._faults = FaultPlan(self._draws(_FAULTS, 1), self.faults, self.samples, self.rate, spans)
        truth = np.concatenate([truth, self._faults.truth(SENSORS[self.sensor].range_g)])
        order = np.argsort(truth["onset"], kind="stable")
        self._rows = np.argsort(order)[: len(events)]
        truth = truth[order]
        truth["duration"] = np.minimum(truth["duration"], length - truth["onset"])
        truth["sample"] = np.minimum(np.ceil(truth["onset"] * self.rate - 1e-6), self.samples - 1)
        truth["visible"] = self._faults.visible(truth["onset"], truth["duration"])
        for row in truth:
            origin = "fault" if row["label"] == "sensor_artifact" else "truth"
            row["source"] = source_text(origin, row["kind"], row["peak_g"], row["visible"])
        self.truth = truth

    @cached_property
    def states(self) -> NDArray[np.void]:
        """The states of the night (see the class)."""
        stretch = self._sensor.true_rate / self.rate
        rows = [
            (span.start * stretch, span.length * stretch, f"state:{span.state}") for span in self._night.spans
        ]
        return np.array(rows, SPAN_DTYPE)

    @cached_property
    def fault_spans(self) -> NDArray[np.void]:
        """The spans of lost, stuck and held samples (see the class)."""
        return np.array(self._faults.spans(), SPAN_DTYPE)

    @cached_property
    def reference(self) -> Reference | None:
        """The second sensor, a source with the same sample numbers; None where there is none."""
        return None if self._placement is None else Reference(self, self._placement)

    def annotations(self) -> list[tuple[float, float, str, str]]:
        """Return events, states and fault spans as (onset, duration, label, source), ordered by onset."""
        return annotation_rows(self.truth, self.states, self.fault_spans)

    # signal

    def _blocks(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield the samples of block after block and which of them arrived."""
        sensor, size = self._sensor, round(BLOCK_S * self.rate)
        background = Background(
            self._courses, self.parameters, self._draws(_AXES, 1), sensor.true_rate, sensor.corner
        )
        before: Array | None = None
        held = np.zeros(3)
        events = [
            (spec.onset * sensor.true_rate, partial(self._sampled, number))
            for number, spec in enumerate(self._night.events)
        ]
        for number, (first, gravity, dynamic) in enumerate(
            overlay(events, self._gravity[0], self.samples, size)
        ):
            rng = self._rng(_BLOCK, number)
            felt = gravity + dynamic + background.block(rng, first, gravity)
            out = sensor.read(rng, first, felt, felt[0] if before is None else before, self._faults)
            before = felt[-1]
            held = self._faults.hold(out, first, held)
            arrived = self._faults.arrived(rng, first, len(out))
            yield out.astype(np.float32), arrived

    def _sampled(self, number: int) -> Felt:
        """Return first sample, dynamic acceleration and tilt of an event behind the anti-alias filter."""
        return sampled(*self._motion(number), self._sensor.corner)

    def __repr__(self) -> str:
        jerks = int(np.isin(self.truth["label"], ("hypnic_jerk", "isolated_jerk")).sum())
        where = f"{self.hours:g} h at {self.rate:g} Hz, {self.site}, {self.sensor}"
        return f"<Sleeper {self.seed}: {where}, {jerks} jerks>"


def _posix(start: str | float) -> float:
    if not isinstance(start, str):
        return float(start)
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise UsageError(f"start_time {start!r} is not ISO 8601: use for instance {_START}") from None
    if moment.tzinfo is None:
        raise UsageError(f"start_time {start!r} has no offset from UTC: use for instance {_START}")
    return moment.timestamp()
