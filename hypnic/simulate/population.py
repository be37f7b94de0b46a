"""What sleepers, events and sensors are drawn from: every range, with its unit and its source.

Every continuous parameter of the simulator comes through `Draws`, which maps one uniform number ``u`` to
the distribution named in `DISTRIBUTIONS`. A *population* decides which ``u`` may occur:

``"wide"``
    all of [0, 1);
``"tuning"``
    the even eighths: [0, 1/8), [2/8, 3/8), [4/8, 5/8), [6/8, 7/8);
``"heldout"``
    the odd eighths.

So no continuous parameter of a held-out night was ever seen while tuning, yet both populations span the
whole range. Counts, times of day, directions and the texture of noise are drawn freely in all three.

Most ranges are assumptions, marked S (simulated, assumed); R marks a figure read in a publication or data
sheet. No published recording of hypnic jerks by an accelerometer was found to fit them to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np

from hypnic.errors import UsageError

__all__ = [
    "DISTRIBUTIONS",
    "STRATA",
    "Distribution",
    "Draws",
    "Population",
    "Traits",
    "check_population",
    "jerk_peak",
    "stratified",
]

Population = Literal["wide", "tuning", "heldout"]

STRATA: Final = 8
"""Number of equal parts of [0, 1) that the populations share out."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A continuous range and how it is filled.

    Attributes
    ----------
    low, high : float
        The ends, in `unit`.
    scale : {"linear", "log"}
        Uniform in the value or in its logarithm.
    unit : str
        The unit of the value.
    meaning : str
        What it is, with its source mark.
    """

    low: float
    high: float
    scale: Literal["linear", "log"]
    unit: str
    meaning: str

    def at(self, u: float) -> float:
        """Return the value at quantile `u` (0 to 1)."""
        if self.scale == "log":
            return float(self.low * (self.high / self.low) ** u)
        return float(self.low + (self.high - self.low) * u)

    def quantile(self, value: float) -> float:
        """Return the quantile (0 to 1) of `value`: the inverse of `at`."""
        if self.scale == "log":
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)


def _linear(low: float, high: float, unit: str, meaning: str) -> Distribution:
    return Distribution(low, high, "linear", unit, meaning)


def _log(low: float, high: float, unit: str, meaning: str) -> Distribution:
    return Distribution(low, high, "log", unit, meaning)


DISTRIBUTIONS: Final[Mapping[str, Distribution]] = MappingProxyType(
    {
        # The jerk. EMG burst: ICSD-3, secondary source; the resting wrist is near 2 Hz (R, Lakie 1984).
        "jerk.burst": _linear(0.075, 0.25, "s", "length of the muscle's drive (R)"),
        "jerk.twitch": _linear(0.03, 0.06, "s", "contraction time of one critically damped twitch (S)"),
        "limb.frequency": _log(2.0, 7.0, "Hz", "natural frequency of forearm and hand (S)"),
        "limb.damping": _linear(0.2, 0.6, "", "damping ratio of forearm and hand (S)"),
        "limb.radius": _linear(0.20, 0.28, "m", "from the joint's axis to the sensor (S)"),
        "jerk.second": _linear(0.15, 0.6, "", "strength of a second joint's swing, where there is one (S)"),
        "jerk.residual": _linear(-0.3, 0.3, "", "angle left behind over largest angle (S)"),
        "jerk.peak.wrist": _log(0.03, 1.2, "g", "largest dynamic acceleration (S)"),
        "jerk.peak.wrist.wide": _log(0.03, 2.0, "g", "the same in the wide population (S)"),
        "jerk.peak.mattress": _log(0.004, 0.1, "g", "largest dynamic acceleration (S)"),
        "jerk.arousal": _linear(1.0, 4.0, "s", "from a jerk's onset to the movement of an arousal (S)"),
        "jerk.series": _linear(240.0, 900.0, "s", "length of a series of 20 to 29 jerks (R, Fusco 1999)"),
        "jerk.after": _linear(3.0, 30.0, "s", "from a settling movement's end to the jerk after it (S)"),
        # The bed.
        "bed.frequency": _log(4.0, 12.0, "Hz", "natural frequency of a bed mode (S)"),
        "bed.damping": _linear(0.08, 0.3, "", "damping ratio of a bed mode (S)"),
        "bed.tilt": _log(0.05, 1.5, "deg", "tilt of a mattress sensor after a posture shift (S)"),
        "bed.sideways": _linear(0.05, 0.6, "", "horizontal over vertical part of one event's direction (S)"),
        # Ordinary movements.
        "movement.brief": _log(0.4, 1.0, "s", "length of a brief movement (S)"),
        "movement.limb": _log(0.8, 5.0, "s", "length of a limb movement (S)"),
        "movement.long": _log(4.0, 10.0, "s", "length of a long movement (S)"),
        "movement.arousal": _log(0.8, 6.0, "s", "length of an arousal's movement (S)"),
        "movement.turn": _log(1.5, 12.0, "s", "length of a turn (1 to 45 s: R, PMC8436137)"),
        "movement.shuffle": _log(6.0, 30.0, "s", "length of a movement on waking or getting up (S)"),
        "handling.length": _log(3.0, 10.0, "s", "taking the sensor off or putting it on (S)"),
        "sigh.length": _linear(2.5, 6.0, "s", "one sigh (S)"),
        "sigh.depth": _linear(2.0, 6.0, "", "tilt of a sigh over that of a breath (S)"),
        "movement.angle": _log(2.0, 60.0, "deg", "angle that a limb movement leaves behind (S)"),
        "movement.turn_angle": _linear(25.0, 170.0, "deg", "angle of a turn (S)"),
        "movement.stroke": _log(0.18, 1.2, "s", "length of one submovement (S)"),
        "movement.roughness": _log(0.03, 0.35, "", "tremor and friction over smooth acceleration (S)"),
        "movement.radius": _linear(
            0.2, 0.55, "m", "from the joint's axis to the sensor in a whole-arm movement (S)"
        ),
        "movement.peak.wrist": _log(0.02, 1.5, "g", "largest dynamic acceleration (S)"),
        "movement.peak.mattress": _log(0.004, 0.25, "g", "largest dynamic acceleration (S)"),
        "turn.peak.wrist": _log(0.06, 1.2, "g", "largest dynamic acceleration (S)"),
        "turn.peak.mattress": _log(0.02, 0.4, "g", "largest dynamic acceleration (S)"),
        "scratch.frequency": _log(2.5, 6.0, "Hz", "strokes of a scratch or rub (S)"),
        "startle.length": _log(0.5, 1.6, "s", "length of a startle, its drive 0.6 of it (S)"),
        "startle.delay": _linear(0.06, 0.2, "s", "from a knock, door or phone to the startle (S)"),
        "myoclonus.burst": _linear(0.075, 0.15, "s", "length of a fragmentary twitch (R, Frauscher)"),
        "myoclonus.peak.wrist": _log(0.002, 0.015, "g", "fragmentary twitch at the wrist (S)"),
        "myoclonus.peak.mattress": _log(0.0005, 0.003, "g", "fragmentary twitch at the mattress (S)"),
        # Periodic and rhythmic movements.
        "plm.interval": _log(12.0, 75.0, "s", "onset to onset, mean of a series (10 to 90: R, WASM 2016)"),
        "plm.spread": _linear(0.03, 0.25, "", "coefficient of variation of the intervals (S)"),
        "plm.length": _linear(0.6, 4.2, "s", "length of one movement, mean of a series (0.5 to 10: R)"),
        "plm.peak.wrist": _log(0.01, 0.4, "g", "largest dynamic acceleration, mean of a series (S)"),
        "plm.peak.mattress": _log(0.005, 0.15, "g", "largest dynamic acceleration, mean of a series (S)"),
        "plm.jerky": _linear(0.0, 0.8, "", "share of a sudden twitch at the start of each movement (S)"),
        "plm.unrest": _linear(
            0.2, 1.0, "", "size of what happens between the first stroke and the return (S)"
        ),
        "tremor.frequency": _log(0.3, 4.0, "Hz", "hypnagogic foot tremor and relatives (R, Yang 2010)"),
        "rocking.frequency": _log(0.5, 2.0, "Hz", "rhythmic movement (S)"),
        "train.peak.wrist": _log(0.006, 0.15, "g", "largest dynamic acceleration of a train (S)"),
        "train.peak.mattress": _log(0.004, 0.12, "g", "largest dynamic acceleration of a train (S)"),
        "train.sharpness": _linear(0.0, 1.0, "", "0 a sine, 1 one stroke in each cycle (S)"),
        # From outside.
        "tap.length": _log(0.01, 0.06, "s", "until a tap has died away (S)"),
        "tap.frequency": _log(25.0, 100.0, "Hz", "ring of a tap or knock (S)"),
        "tap.peak.wrist": _log(0.05, 3.0, "g", "tap on the sensor or hand (S)"),
        "tap.peak.mattress": _log(0.01, 0.4, "g", "knock on the frame of the bed (S)"),
        "tap.bed": _linear(0.0, 0.08, "", "part of a knock that sways the bed (S)"),
        "door.length": _linear(0.1, 0.4, "s", "until a slammed door has died away (S)"),
        "door.frequency": _log(8.0, 40.0, "Hz", "ring of the floor (S)"),
        "door.peak.wrist": _log(0.001, 0.012, "g", "felt through bed and arm (S)"),
        "door.peak.mattress": _log(0.002, 0.06, "g", "felt through the bed (S)"),
        "phone.frequency": _linear(130.0, 200.0, "Hz", "vibration motor (S)"),
        "phone.pulse": _linear(0.15, 0.6, "s", "one pulse of a phone's vibration (S)"),
        "phone.pause": _linear(0.1, 0.9, "s", "pause between pulses (S)"),
        "phone.peak.wrist": _log(0.003, 0.2, "g", "vibration at the wrist (S)"),
        "phone.peak.mattress": _log(0.003, 0.08, "g", "vibration at the mattress (S)"),
        "partner.attenuation": _log(
            0.05, 0.5, "", "partner's movement over the sleeper's own, at the mattress (S)"
        ),
        "partner.rate": _log(4.0, 25.0, "1/h", "partner's movements that reach the sensor (S)"),
        # The night.
        "night.awake": _log(300.0, 2400.0, "s", "awake before the first sleep (S)"),
        "night.settling": _linear(60.0, 180.0, "s", "of it quiet, just before sleep (S)"),
        "night.window": _linear(480.0, 900.0, "s", "onset window after sleep onset (S)"),
        "night.waking": _log(60.0, 600.0, "s", "one waking in the night (S)"),
        "night.morning": _log(60.0, 900.0, "s", "awake at the end (S)"),
        "night.off_wrist": _log(480.0, 3600.0, "s", "sensor on a table (S)"),
        "night.walk": _log(30.0, 240.0, "s", "walking about (S)"),
        "night.turn_rate": _linear(1.0, 2.2, "1/h", "turns without waking (S)"),
        "night.limb_rate": _log(
            5.0, 22.0, "1/h", "limb movements in sleep (10 to 11 in all: R, Stefani 2015)"
        ),
        "night.awake_rate": _linear(1.0, 4.0, "1/min", "movements when first awake (S)"),
        "night.sigh_rate": _log(1.0, 8.0, "1/h", "sighs (S)"),
        "night.myoclonus_rate": _log(4.0, 30.0, "1/h", "fragmentary twitches, of those who have them (S)"),
        "night.tap_rate": _log(0.3, 3.0, "1/h", "taps and knocks (S)"),
        "night.door_rate": _log(0.2, 2.0, "1/h", "doors (S)"),
        "night.phone_rate": _log(0.05, 0.6, "1/h", "phone alerts (S)"),
        "night.train_rate": _log(0.1, 1.0, "1/h", "rhythmic trains, of those who have them (S)"),
        # The background.
        "breath.rate": _linear(0.18, 0.35, "Hz", "mean breathing rate; it wanders within 0.1 to 0.5 (S)"),
        "breath.tilt": _log(0.002, 0.015, "g", "tilt by each breath (S)"),
        "heart.rate": _linear(47.0, 78.0, "1/min", "mean heart rate; it wanders within 45 to 80 (S)"),
        "heart.frequency": _linear(4.0, 7.0, "Hz", "ring of each beat (S)"),
        "heart.peak.wrist": _log(0.0003, 0.0015, "g", "each beat at the wrist (S)"),
        "heart.peak.mattress": _log(0.001, 0.005, "g", "each beat at the mattress (S)"),
        "heart.damping": _linear(0.12, 0.35, "", "damping ratio of that ring (S)"),
        "sway.peak": _log(0.001, 0.006, "g", "slow drift of posture, standard deviation (S)"),
        "micro.level.wrist": _log(
            0.00015, 0.002, "g", "restless micro-movement asleep, rms of each axis (S)"
        ),
        "micro.level.mattress": _log(0.0001, 0.001, "g", "the same at the mattress (S)"),
        "micro.corner": _log(0.7, 6.0, "Hz", "where its spectrum begins to fall (S)"),
        "micro.swing": _linear(
            0.33, 0.7, "ln", "spread of its slow drift; its middle 90 % spans a factor 3 to 10 (S)"
        ),
        "micro.drift": _log(60.0, 600.0, "s", "time over which the level drifts (S)"),
        "micro.awake": _log(1.5, 8.0, "", "its level awake over asleep (S)"),
        "snore.peak.wrist": _log(0.0001, 0.001, "g", "snoring at the wrist (S)"),
        "snore.peak.mattress": _log(0.0008, 0.01, "g", "snoring at the mattress (S)"),
        "snore.frequency": _log(30.0, 100.0, "Hz", "carrier of a snore (S)"),
        # The sensor; noise densities, steps and ranges are in `hypnic.simulate.sensor` (R, data sheets).
        "sensor.offset": _linear(-0.04, 0.04, "g", "zero offset of each axis (S)"),
        "sensor.gain": _linear(-0.02, 0.02, "", "gain error of each axis (S)"),
        "sensor.cross": _linear(-0.01, 0.01, "", "one axis felt on another (S)"),
        "sensor.drift": _log(0.0003, 0.008, "g", "thermal drift of the offset over the night (S)"),
        "sensor.corner": _linear(
            0.25, 0.45, "", "corner of the anti-alias filter over the sampling rate (S)"
        ),
        "sensor.fold": _linear(
            1.0, 2.5, "", "bandwidth over half the rate without that filter: noise folds (S)"
        ),
        "sensor.clock": _log(0.001, 0.03, "", "size of the sampling clock's error (S)"),
        "sensor.jitter": _log(0.001, 0.005, "s", "spread of the sampling instants, software-timed (S)"),
        "sensor.hum": _log(0.0001, 0.002, "g", "mains hum (S)"),
        "sensor.noise": _linear(0.85, 1.25, "", "noise over the data sheet's typical value (S)"),
        # A second, synchronous sensor: peaks there over peaks at the first one, and times between the two.
        "reference.bed.limb": _log(
            0.04, 0.25, "", "movement of the arm: in the mattress over at the wrist (S)"
        ),
        "reference.bed.leg": _log(
            0.2, 0.8, "", "movement of the legs: in the mattress over at the wrist (S)"
        ),
        "reference.bed.turn": _log(
            0.15, 0.7, "", "movement of the body: in the mattress over at the wrist (S)"
        ),
        "reference.bed.outside": _log(2.0, 8.0, "", "slammed door: in the mattress over at the wrist (S)"),
        "reference.bed.tap": _log(0.02, 0.5, "", "hand striking the bed: in the bed over at the wrist (S)"),
        "reference.frame.own": _log(
            0.08, 0.5, "", "what happens on the mattress: at the frame over in the mattress there (S)"
        ),
        "reference.frame.knock": _log(
            1.5, 12.0, "", "knock on the frame: at the frame over in the mattress (S)"
        ),
        "reference.frame.door": _log(1.0, 5.0, "", "slammed door: at the frame over in the mattress (S)"),
        "reference.frame.body": _log(
            0.02, 0.2, "", "breath and heartbeat at the frame over at the sensor (S)"
        ),
        "reference.partner.outside": _log(
            0.4, 2.5, "", "knock or door: at the partner's side over at the sleeper's (S)"
        ),
        "reference.limb.jerk": _log(
            0.25, 2.0, "", "jerk of the whole body: at the ankle over at the wrist (S)"
        ),
        "reference.limb.through": _log(
            0.02, 0.15, "", "movement of the arm: at the ankle over at the wrist (S)"
        ),
        "reference.limb.leg": _log(2.0, 12.0, "", "movement of the leg: at the ankle over at the wrist (S)"),
        "reference.limb.turn": _log(0.4, 2.5, "", "turn, waking, walk: at the ankle over at the wrist (S)"),
        "reference.limb.outside": _log(0.4, 2.5, "", "door or partner: at the ankle over at the wrist (S)"),
        "reference.limb.body": _log(0.3, 1.5, "", "breath and heartbeat at the ankle over at the wrist (S)"),
        "reference.phone": _log(0.3, 3.0, "", "phone's vibration: at the reference over at the sensor (S)"),
        "reference.spread": _log(0.7, 1.4, "", "one event's part of a night's attenuation (S)"),
        "reference.path.frequency": _log(4.0, 15.0, "Hz", "resonance of the way through bed or body (S)"),
        "reference.path.damping": _linear(0.15, 0.6, "", "damping ratio of that way (S)"),
        "reference.near": _log(0.004, 0.025, "s", "travel between frame and mattress (S)"),
        "reference.far": _log(0.01, 0.05, "s", "travel across the mattress (S)"),
        "reference.along": _log(0.005, 0.03, "s", "travel along the body (S)"),
        "reference.alone_rate": _log(1.0, 12.0, "1/h", "what only the reference feels (S)"),
        # Faults.
        "fault.gap_rate": _log(0.05, 2.0, "1/h", "gaps (S)"),
        "fault.gap": _log(0.1, 60.0, "s", "one gap (S)"),
        "fault.long_gap": _log(120.0, 1800.0, "s", "a rare long gap (S)"),
        "fault.drops": _log(0.001, 0.01, "", "part of the samples lost one by one (S)"),
        "fault.stuck_rate": _log(0.05, 0.5, "1/h", "samples held constant (S)"),
        "fault.stuck": _log(1.0, 120.0, "s", "one such hold (S)"),
        "fault.saturation_rate": _log(0.1, 1.0, "1/h", "bursts at the end of the range (S)"),
        "fault.saturation": _log(0.02, 0.4, "s", "one such burst (S)"),
        "fault.spike_rate": _log(0.2, 8.0, "1/h", "spikes of one or two samples (S)"),
        "fault.spike": _log(0.2, 4.0, "g", "height of a spike (S)"),
        "fault.hold_exit": _log(60.0, 600.0, "s", "idle hold left without a movement, mean interval (S)"),
    }
)
"""Every continuous parameter by name."""


def check_population(population: str) -> Population:
    """Return `population` if it is known.

    Raises
    ------
    UsageError
        If it is not wide, tuning or heldout.
    """
    if population not in get_args(Population):
        raise UsageError(f"population {population!r} is unknown: use wide, tuning or heldout")
    return population  # type: ignore[return-value]  # narrowed by the check above


def stratified(u: float, population: Population) -> float:
    """Map a uniform `u` in [0, 1) onto the parts of it that `population` owns, uniform there."""
    if population == "wide":
        return u
    pair, within = divmod(u * (STRATA // 2), 1.0)
    # Rounding must not carry the end of one part into the next.
    return float((2 * pair + (population == "heldout") + min(within, 1 - 1e-12)) / STRATA)


def jerk_peak(site: str, population: Population) -> str:
    """Return the name of the distribution of a jerk's peak: wide reaches higher at the wrist."""
    return f"jerk.peak.{site}" + (".wide" if site == "wrist" and population == "wide" else "")


class Draws:
    """Random draws for one purpose.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where randomness comes from; also free for draws without a distribution.
    population : {"wide", "tuning", "heldout"}
        Which parts of each distribution may occur.
    """

    def __init__(self, rng: np.random.Generator, population: Population) -> None:
        self.rng = rng
        self.population = population

    def __call__(self, name: str) -> float:
        """Return one value of the distribution `name`."""
        return DISTRIBUTIONS[name].at(stratified(self.rng.random(), self.population))

    def chance(self, probability: float) -> bool:
        """Return True with `probability`."""
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))


class Traits:
    """What is drawn once for a sleeper, and kept for the record.

    Parameters
    ----------
    draws : Draws
        Randomness.
    values : dict, optional
        What has been drawn already; more is added to it.
    """

    def __init__(self, draws: Draws, values: dict[str, float] | None = None) -> None:
        self.draws = draws
        self.values: dict[str, float] = {} if values is None else values

    def __call__(self, name: str) -> float:
        """Return this sleeper's value of the distribution `name`."""
        if name not in self.values:
            self.values[name] = self.draws(name)
        return self.values[name]

    def has(self, name: str, probability: float) -> bool:
        """Return whether this sleeper has something that a part of all sleepers has."""
        if name not in self.values:
            self.values[name] = float(self.draws.chance(probability))
        return bool(self.values[name])
