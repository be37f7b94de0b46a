"""Every kind of event that can happen in a simulated night, from a jerk to a slammed door.

What comes out, measured without noise at 100 Hz behind the sensor's filter, over 24 sleepers a site of the
wide population (5th / 50th / 95th percentile; zero-phase bands; rise is from onset to the largest band
energy)::

                    T90 of 1.5-12 Hz (s)  >20 Hz / 1.5-12 Hz energy  rise (s)
    wrist jerk      .20 / .34 / .58       .0002 / .002 / .013        .06 / .20 / .30
    wrist brief     .18 / .50 / .90       .0004 / .002 / .018        .06 / .21 / .57
    wrist limb      .42 / 1.4 / 5.7       .0006 / .004 / .045        .07 / .73 / 4.7
    wrist startle   .31 / .58 / .91       .001 / .005 / .018         .08 / .37 / .78
    wrist PLM       .44 / 1.5 / 3.8       .0005 / .004 / .020        .05 / .23 / 2.4
    wrist turn      .70 / 2.8 / 8.7       .0007 / .004 / .035        .11 / 1.3 / 7.7
    wrist tap       .11 / .15 / .48       .45 / 2.0 / 6.6            .01 / .02 / .36
    mattress jerk   .17 / .28 / .49       .0007 / .005 / .050        .06 / .16 / .28
    mattress brief  .32 / .59 / .96       .002 / .007 / .040         .03 / .28 / .82
    mattress PLM    .54 / 1.5 / 3.5       .002 / .007 / .062         .08 / .26 / 1.6
    mattress turn   .59 / 2.4 / 8.3       .002 / .008 / .056         .06 / 1.3 / 6.4
    mattress tap    .11 / .12 / .45       .82 / 2.3 / 8.5            .01 / .01 / .33
    mattress door   .08 / .11 / .14       .008 / 1.2 / 46            .01 / .03 / .05

Brief movements and startles overlap the jerk in every feature: they are meant to be hard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from hypnic.simulate.mechanics import (
    STANDARD_GRAVITY,
    Grid,
    Motion,
    Scene,
    cross,
    felt,
    in_bed,
    largest,
    limb_motion,
    line,
    ring,
    ring_time,
    roughness,
    second_order,
    square_to,
    stroke,
    to_peak,
    twitches,
    unit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.population import Draws

    Array = NDArray[np.float64]

__all__ = ["KINDS", "Kind", "Spec", "Stage", "render"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One event as planned.

    Attributes
    ----------
    onset : float
        Physical seconds from the start of the night.
    kind : str
        A key of `KINDS`.
    length : float
        Seconds that the movement or drive takes; 0 where the kind decides.
    peak : float
        Largest norm of dynamic acceleration aimed at (g).
    group : int
        Number of the series that it belongs to, or -1. Members share their series' parameters.
    rhythm : float
        Cycles per second of a rhythmic train; 0 for everything else.
    """

    onset: float
    kind: str
    length: float = 0.0
    peak: float = 0.0
    group: int = -1
    rhythm: float = 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that one event is computed from.

    Attributes
    ----------
    spec : Spec
        Kind, length and peak.
    scene : Scene
        The night's site and bed.
    grid : Grid
        The time grid.
    gravity : ndarray of float64, shape (3,)
        What the sensor reads at rest before the event, in g.
    draws, shared : Draws
        Randomness of this event, and of the series that it belongs to.
    """

    spec: Spec
    scene: Scene
    grid: Grid
    gravity: Array
    draws: Draws
    shared: Draws

    @property
    def rng(self) -> np.random.Generator:
        """Randomness for what has no distribution."""
        return self.draws.rng

    @property
    def in_bed(self) -> bool:
        """Whether the event is felt through the bed."""
        return self.scene.site == "mattress"

    @property
    def tail(self) -> float:
        """Seconds to compute beyond the movement itself."""
        return self.scene.ring if self.in_bed else 0.4


def _level(rows: Array) -> Motion:
    return Motion(rows, np.zeros_like(rows))


# Twitches


def _twitch(stage: Stage, burst: float, joints: int) -> Motion:
    """Return a burst of muscle twitches into a limb or bed."""
    draws, rng, grid, peak = stage.draws, stage.rng, stage.grid, stage.spec.peak
    contraction = draws("jerk.twitch")
    if stage.in_bed:
        time = grid.time(burst + 6 * contraction + stage.tail)
        force = twitches(time, burst, contraction, rng)[:, np.newaxis] * line(draws, stage.gravity)
        return _level(to_peak(in_bed(stage.scene, force, grid.rate, draws), peak))

    frequency, damping = draws("limb.frequency"), draws("limb.damping")
    time = grid.time(burst + 6 * contraction + ring_time(frequency, damping))
    axis = unit(rng)
    radius = draws("limb.radius") * square_to(rng, axis)
    drive = twitches(time, burst, contraction, rng)
    angle, velocity, acceleration = second_order(drive, grid.rate, frequency, damping)
    # The limb seldom comes to rest just where it was.
    _, shift_velocity, shift = stroke(time, 0.3 * burst, burst + 0.5)
    residual = draws("jerk.residual") * np.abs(angle).max()
    omega = (velocity + residual * shift_velocity)[:, np.newaxis] * axis
    alpha = (acceleration + residual * shift)[:, np.newaxis] * axis
    for _ in range(joints - 1):
        other, strength = unit(rng), draws("jerk.second")
        drive = twitches(time - rng.uniform(0.0, 0.04), burst, contraction, rng)
        _, velocity, acceleration = second_order(
            drive, grid.rate, draws("limb.frequency"), draws("limb.damping")
        )
        strength *= float(np.abs(alpha).max() / np.abs(acceleration).max())
        omega += strength * velocity[:, np.newaxis] * other
        alpha += strength * acceleration[:, np.newaxis] * other
    return limb_motion(omega, alpha, radius, stage.gravity, grid.rate, peak=peak, widest=1.2, quick=True)


def _jerk(stage: Stage) -> Motion:
    return _twitch(stage, stage.draws("jerk.burst"), 2 if stage.draws.chance(0.3) else 1)


def _myoclonus(stage: Stage) -> Motion:
    return _twitch(stage, stage.draws("myoclonus.burst"), 1)


def _startle(stage: Stage) -> Motion:
    # Several times as long a drive as a jerk's: the body follows the blink.
    return _twitch(stage, 0.6 * stage.spec.length, stage.draws.between(2, 3))


# Ordinary movements


def _strokes(draws: Draws, length: float, pattern: str) -> list[tuple[float, float, float]]:
    """Return start, length and signed size of each submovement of a movement of `length` seconds."""
    rng = draws.rng
    if pattern == "scratch":
        period = 1 / draws("scratch.frequency")
        count = max(int(2 * (length - 0.4) / period), 2)
        starts = 0.4 + 0.5 * period * np.arange(count) + rng.normal(0, 0.05 * period, count)
        sizes = rng.lognormal(0.0, 0.3, count) * np.where(np.arange(count) % 2, 1.0, -1.0)
        reach = (0.0, 0.5, float(rng.choice([-2.0, 2.0])))
        return [reach, *((float(a), 0.6 * period, float(b)) for a, b in zip(starts, sizes, strict=True))]
    count = draws.between(1, 2) if pattern == "brief" else 1 + int(rng.poisson(length / 0.7))
    out: list[tuple[float, float, float]] = []
    for number in range(count):
        # A movement fills its length: what is over sooner is a twitch, not a movement (0.5 s at least, WASM 2016).
        part = length if count == 1 else min(draws("movement.stroke"), length)
        latest = length - part
        start = 0.0 if number == 0 else latest if number == count - 1 else float(rng.uniform(0.0, latest))
        # Half of the submovements go back where the one before came from.
        back = bool(out) and draws.chance(0.5)
        sign = -math.copysign(1.0, out[-1][2]) if back else float(rng.choice([-1.0, 1.0]))
        # A slow submovement is not a gentle one: it goes farther.
        out.append((start, part, sign * float(rng.lognormal(0.0, 0.6)) * part**1.6))
    return out


def _move(stage: Stage, angle: float, pattern: str = "limb") -> Motion:
    """Return overlapping minimum-jerk submovements, roughness, and a turn of `angle` degrees that lasts."""
    draws, rng, grid, gravity = stage.draws, stage.rng, stage.grid, stage.gravity
    length, peak = stage.spec.length, stage.spec.peak
    time = grid.time(length + stage.tail)
    strokes = _strokes(draws, length, pattern)
    rough = draws("movement.roughness") * peak * roughness(time, length, grid.rate, rng)
    if stage.in_bed:
        force = np.zeros((len(time), 3))
        for start, part, size in strokes:
            force += (size * stroke(time, start, part)[2])[:, np.newaxis] * line(draws, gravity)
        # The part of the bed under the body follows it; the rest rings.
        shaken = to_peak(in_bed(stage.scene, force, grid.rate, draws), 1.0) + 0.4 * to_peak(force, 1.0)
        turn = (stroke(time, 0.1 * length, 0.8 * length)[0] * math.radians(angle))[:, np.newaxis]
        tilt = (np.cos(turn) - 1.0) * gravity + np.sin(turn) * square_to(rng, gravity)
        return Motion(to_peak(to_peak(shaken, peak) + rough, peak), tilt)

    main = unit(rng)
    radius = draws("movement.radius") * square_to(rng, main)
    omega, alpha = np.zeros((len(time), 3)), np.zeros((len(time), 3))
    for start, part, size in strokes:
        axis = main + 0.5 * rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        _, velocity, acceleration = stroke(time, start, part)
        omega += (size * velocity)[:, np.newaxis] * axis
        alpha += (size * acceleration)[:, np.newaxis] * axis
    fit = peak * STANDARD_GRAVITY / max(largest(cross(alpha, radius)), 1e-12)
    # The turn that lasts must not be quicker than the movement: a unit stroke's acceleration peaks at 5.77.
    quickest = 0.7 * peak * STANDARD_GRAVITY * (0.8 * length) ** 2 / (5.77 * float(np.linalg.norm(radius)))
    lasting = min(math.radians(angle), quickest) * square_to(rng, gravity)
    _, velocity, acceleration = stroke(time, 0.1 * length, 0.8 * length)
    omega = fit * omega + velocity[:, np.newaxis] * lasting
    alpha = fit * alpha + acceleration[:, np.newaxis] * lasting
    motion = limb_motion(omega, alpha, radius, gravity, grid.rate, peak=peak, widest=3.5)
    return Motion(motion.dynamic + rough, motion.tilt)


def _limb(stage: Stage, pattern: str = "limb", stays: float = 0.6) -> Motion:
    angle = stage.draws("movement.angle")
    lasts = stage.draws.chance(stays) and not stage.in_bed
    return _move(stage, angle if lasts else 0.0, pattern)


def _brief(stage: Stage) -> Motion:
    return _limb(stage, "brief", 0.4)


def _scratch(stage: Stage) -> Motion:
    return _limb(stage, "scratch", 0.0)


def _turn(stage: Stage) -> Motion:
    return _move(stage, stage.draws("bed.tilt" if stage.in_bed else "movement.turn_angle"))


def _handling(stage: Stage) -> Motion:
    """Return the strap being opened or closed and the sensor put down or taken up, with a bump."""
    moved = _turn(stage)
    time = stage.grid.time(stage.spec.length + stage.tail)
    bump = ring(time - 0.9 * stage.spec.length, stage.draws("tap.frequency"), stage.draws("tap.length"))
    return Motion(moved.dynamic + 0.5 * stage.spec.peak * bump[:, np.newaxis] * unit(stage.rng), moved.tilt)


def _sigh(stage: Stage) -> Motion:
    """Return one deep breath: a slow tilt several times that of a breath, with a little roughness."""
    length, peak = stage.spec.length, stage.spec.peak
    time = stage.grid.time(length + 0.4)
    up = stroke(time, 0.0, 0.45 * length)[0] - stroke(time, 0.45 * length, 0.55 * length)[0]
    tilt = up[:, np.newaxis] * square_to(stage.rng, stage.gravity)
    rough = 0.2 * stage.draws("movement.roughness") * roughness(time, length, stage.grid.rate, stage.rng)
    return _level((tilt + rough) * peak)


def _walk(stage: Stage) -> Motion:
    """Return walking with a hanging arm at the wrist, and footfalls that die away in the mattress."""
    rng, grid, gravity = stage.rng, stage.grid, stage.gravity
    length, peak = stage.spec.length, stage.spec.peak
    time = grid.time(length + 0.5)
    pace = rng.uniform(1.5, 2.1)
    beats = np.arange(0.8, length - 0.5, 1 / pace)
    beats += rng.normal(0.0, 0.03, len(beats))
    strengths = rng.lognormal(0.0, 0.3, len(beats))
    if stage.in_bed:
        strengths *= np.exp(-beats / 3.0)
    footfall = ring(np.arange(int(0.5 * grid.rate)) / grid.rate, rng.uniform(6.0, 15.0), 0.25)
    falls = np.zeros(len(time))
    for beat, strength in zip(beats, strengths, strict=True):
        start = int((beat + grid.lead) * grid.rate)
        room = falls[start : start + len(footfall)]
        room += strength * footfall[: len(room)]
    if stage.in_bed:
        return _level(to_peak(falls[:, np.newaxis] * gravity, peak))
    axis = square_to(rng, gravity)
    radius = 0.6 * square_to(rng, axis)
    lift = math.radians(stage.draws("movement.turn_angle"))
    _, velocity, acceleration = stroke(time, 0.0, 1.5)
    steady = stroke(time, 0.0, 1.5)[0] - stroke(time, length - 1.5, 1.5)[0]
    swing = np.gradient(rng.uniform(0.1, 0.5) * steady * np.sin(math.pi * pace * time), 1 / grid.rate)
    velocity = lift * velocity + swing
    acceleration = lift * acceleration + np.gradient(swing, 1 / grid.rate)
    linear, tilt = felt(
        velocity[:, np.newaxis] * axis, acceleration[:, np.newaxis] * axis, radius, gravity, grid.rate
    )
    rough = 0.3 * peak * roughness(time, length, grid.rate, rng)
    return Motion(linear + 0.5 * peak * falls[:, np.newaxis] * (gravity + tilt) + rough, tilt)


# Periodic and rhythmic movements


def _plm(stage: Stage) -> Motion:
    """Return a leg's flexion, hold and return, much like the others of its series.

    The wrist feels it through body and bed, as a small turn of the arm.
    """
    shared, rng, grid = stage.shared, stage.rng, stage.grid
    length, peak = stage.spec.length, stage.spec.peak
    axis = unit(shared.rng)
    radius = shared("limb.radius") * square_to(shared.rng, axis)
    direction = line(shared, stage.gravity)
    jerky, unrest, rough = shared("plm.jerky"), shared("plm.unrest"), shared("movement.roughness")
    frequency, damping, contraction = shared("limb.frequency"), shared("limb.damping"), shared("jerk.twitch")
    part = shared("movement.stroke")

    time = grid.time(length + max(stage.tail, 0.6))
    flexion = min(0.45 * length, part) * rng.uniform(0.85, 1.15)
    _, velocity, acceleration = stroke(time, 0.0, flexion)
    size = float(np.abs(acceleration).max())

    def add(amount: float, more: tuple[Array, Array, Array]) -> None:
        nonlocal velocity, acceleration
        velocity, acceleration = velocity + amount * more[1], acceleration + amount * more[2]

    out = 1.0
    for _ in range(int(rng.poisson(length / 0.5))):
        wobble = min(part, 0.6 * length)
        # A unit stroke's acceleration peaks at 5.77 over its length squared.
        amount = unrest * rng.normal() * size * wobble**2 / 5.77
        add(amount, stroke(time, float(rng.uniform(0.0, length - wobble)), wobble))
        out += amount
    back = min(1.4 * flexion, length - flexion)
    add(-out * rng.uniform(0.95, 1.05), stroke(time, length - back, back))
    pull = second_order(twitches(time, min(0.2, flexion), contraction, rng), grid.rate, frequency, damping)
    add(jerky * size / float(np.abs(pull[2]).max()), pull)
    shaken = rough * peak * roughness(time, length, grid.rate, rng)
    if stage.in_bed:
        bed = in_bed(stage.scene, acceleration[:, np.newaxis] * direction, grid.rate, stage.draws)
        return _level(to_peak(to_peak(bed, peak) + shaken, peak))
    omega, alpha = velocity[:, np.newaxis] * axis, acceleration[:, np.newaxis] * axis
    motion = limb_motion(omega, alpha, radius, stage.gravity, grid.rate, peak=peak, widest=1.5)
    return Motion(motion.dynamic + shaken, motion.tilt)


def _train(stage: Stage) -> Motion:
    """Return hypnagogic tremor or rocking: uneven cycles, between a sine and single strokes."""
    draws, rng, grid = stage.draws, stage.rng, stage.grid
    length, frequency, peak = stage.spec.length, stage.spec.rhythm, stage.spec.peak
    time = grid.time(length + max(stage.tail, 0.5))
    cycles = max(round(length * frequency), 4)
    knots = np.linspace(0.0, length, cycles + 1)
    uneven = knots + np.r_[0.0, rng.normal(0, 0.04 / frequency, cycles - 1), 0.0]
    phase = 2 * math.pi * np.interp(time, uneven, np.arange(cycles + 1))
    heights = np.interp(time, knots, rng.lognormal(0.0, 0.15, cycles + 1), left=0.0, right=0.0)
    heights *= np.clip(time * frequency, 0.0, 1.0) * np.clip((length - time) * frequency, 0.0, 1.0)
    sharp = draws("train.sharpness")
    swing = np.zeros(len(time))
    for harmonic in (1, 2, 3, 4):
        swing += sharp ** (harmonic - 1) / harmonic * np.sin(harmonic * phase + rng.uniform(0, 0.5))
    swing *= heights
    rough = draws("movement.roughness") * peak * roughness(time, length, grid.rate, rng)
    if stage.in_bed:
        force = swing[:, np.newaxis] * line(draws, stage.gravity)
        shaken = to_peak(in_bed(stage.scene, force, grid.rate, draws), 1.0) + 0.5 * to_peak(force, 1.0)
        return _level(to_peak(to_peak(shaken, peak) + rough, peak))
    axis = unit(rng)
    radius = draws("limb.radius") * square_to(rng, axis)
    velocity = np.cumsum(swing) / grid.rate
    # The limb swings about its place and ends there at rest: the mean of each cycle would carry it away.
    edges = np.searchsorted(time, uneven)
    means = np.diff(np.cumsum(velocity)[edges]) / np.diff(edges)
    middles = 0.5 * (uneven[1:] + uneven[:-1])
    velocity -= np.interp(time, np.r_[0.0, middles, length], np.r_[0.0, means, velocity[-1]])
    velocity -= velocity.sum() / grid.rate * stroke(time, 0.0, length)[1]
    omega, alpha = velocity[:, np.newaxis] * axis, np.gradient(velocity, 1 / grid.rate)[:, np.newaxis] * axis
    motion = limb_motion(omega, alpha, radius, stage.gravity, grid.rate, peak=peak, widest=0.6)
    return Motion(motion.dynamic + rough, motion.tilt)


# From outside


def _tap(stage: Stage) -> Motion:
    """Return one to three knocks, each a short high ring, and a little sway of the bed or limb."""
    draws, rng, grid, peak = stage.draws, stage.rng, stage.grid, stage.spec.peak
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    time = grid.time(2.0 + 0.35 * (count - 1))
    frequency, length = draws("tap.frequency"), draws("tap.length")
    direction = line(draws, stage.gravity) if stage.in_bed else unit(rng)
    knock = np.zeros(len(time))
    start = 0.0
    for _ in range(count):
        knock += rng.uniform(0.5, 1.0) * ring(time - start, frequency * rng.uniform(0.95, 1.05), length, 0.3)
        start += rng.uniform(0.12, 0.35)
    rows = knock[:, np.newaxis] * direction
    push = np.abs(rows) * np.sign(direction)
    if stage.in_bed:
        sway = in_bed(stage.scene, push, grid.rate, draws)
    else:
        # Soft tissue passes on what is below some 15 Hz.
        soft = second_order(push, grid.rate, 15.0, 1.0)[0]
        sway = second_order(soft, grid.rate, draws("limb.frequency"), draws("limb.damping"))[2]
    return _level(to_peak(to_peak(rows, peak) + to_peak(sway, draws("tap.bed") * peak), peak))


def _door(stage: Stage) -> Motion:
    """Return the ring of a floor, three frequencies close together."""
    draws, rng = stage.draws, stage.rng
    length, frequency = draws("door.length"), draws("door.frequency")
    time = stage.grid.time(2.0 * length)
    rows = np.zeros((len(time), 3))
    for _ in range(3):
        wave = ring(time - rng.uniform(0.0, 0.02), frequency * rng.uniform(0.8, 1.25), length)
        rows += rng.uniform(0.3, 1.0) * wave[:, np.newaxis] * line(draws, stage.gravity)
    attack = np.clip(time / rng.uniform(0.005, 0.03), 0.0, 1.0)
    return _level(to_peak(rows * attack[:, np.newaxis], stage.spec.peak))


def _phone(stage: Stage) -> Motion:
    """Return pulses of a vibration motor, above what most sensors sample and so perhaps aliased."""
    draws = stage.draws
    pulse, pause, frequency = draws("phone.pulse"), draws("phone.pause"), draws("phone.frequency")
    time = stage.grid.time(draws.between(1, 8) * (pulse + pause))
    inside = np.mod(np.maximum(time, 0.0), pulse + pause)
    spin = np.clip(np.minimum(inside, pulse - inside) / 0.03, 0.0, 1.0) * (time >= 0)
    wave = spin * np.sin(2 * math.pi * frequency * time)
    return _level(to_peak(wave[:, np.newaxis] * unit(stage.rng), stage.spec.peak))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event.

    Attributes
    ----------
    label : str
        Its label in the truth; the two jerk labels are told apart by the night.
    renderer : callable
        Computes its motion.
    rate : float
        Fewest points per second at which to compute it.
    """

    label: str
    renderer: Callable[[Stage], Motion]
    rate: float


_BODY, _CRISP, _SLOW = 400.0, 1600.0, 200.0

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "jerk": Kind("hypnic_jerk", _jerk, _BODY),
        "jerk_series": Kind("hypnic_jerk", _jerk, _BODY),
        "myoclonus": Kind("movement", _myoclonus, _BODY),
        "startle": Kind("movement", _startle, _BODY),
        "brief": Kind("movement", _brief, _BODY),
        "limb": Kind("movement", _limb, _BODY),
        "scratch": Kind("movement", _scratch, _BODY),
        "arousal": Kind("movement", _limb, _BODY),
        "turn": Kind("posture_shift", _turn, _BODY),
        "waking": Kind("posture_shift", _turn, _BODY),
        "handling": Kind("movement", _handling, _CRISP),
        "walk": Kind("movement", _walk, _SLOW),
        "sigh": Kind("movement", _sigh, _SLOW),
        "plm": Kind("plm", _plm, _BODY),
        "tremor": Kind("rhythmic", _train, _BODY),
        "rocking": Kind("rhythmic", _train, _BODY),
        "tap": Kind("impact", _tap, _CRISP),
        "door": Kind("impact", _door, _CRISP),
        "phone": Kind("impact", _phone, _CRISP),
        "partner": Kind("movement", _limb, _BODY),
        "partner_brief": Kind("movement", _brief, _BODY),
        "partner_turn": Kind("movement", _turn, _BODY),
        "partner_twitch": Kind("movement", _jerk, _BODY),
    }
)
"""Every kind of event by the name that its truth carries."""


def render(stage: Stage) -> Motion:
    """Return what the sensor feels of one event; what a partner does reaches either site through the bed."""
    if stage.spec.kind.startswith("partner"):
        stage = replace(stage, scene=Scene("mattress", stage.scene.modes))
    return KINDS[stage.spec.kind].renderer(stage)
