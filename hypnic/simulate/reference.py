"""A second sensor, sampled together with the first: what it feels of the same night.

Nothing here was measured: the ways from one place to another are assumed (S), with the ranges named
``reference.*`` in `hypnic.simulate.population`. All ratios are of peaks, the reference's over the sensor's.

``"frame"``, on the frame of the bed
    A knock on the frame or the slam of a door comes along frame or floor: the frame feels it 4 to 25 ms before
    the mattress, and more of it, for the foam is soft. What happens on the mattress (the sleeper's or the
    partner's movement) reaches the frame through the foam, later and weaker: .08 to .5 of what the mattress
    under the mover feels. A partner, to whom the frame is nearer than the sleeper's sensor, is felt there first
    and often as strongly. The arm of a sleeper drives the bed with .04 to .25 of the acceleration that the
    wrist feels, the trunk with .15 to .7. A tap on the wrist does not reach the frame, unless it was the hand
    that struck the bed.
``"partner"``, in the mattress at the partner's side
    A partner's movement is felt there unweakened and 10 to 50 ms earlier. What crosses the mattress the other
    way is weakened alike (reciprocity): the sleeper's own jerk arrives 10 to 50 ms late, at .05 to .5 of what
    the mattress under the sleeper feels. Knocks and doors reach both sides about equally.
``"limb"``, on an ankle, for a sensor on the wrist
    Six jerks in ten are of the whole body (bilateral: R, Fusco 1999; the share is S): the ankle twitches by
    itself within some 12 ms of the wrist, .25 to 2 times as strongly. Of the others, and of the arm's own
    movements, it feels .02 to .15, 5 to 30 ms late. A third of the ordinary limb movements, all PLM and foot
    tremor are of the leg: 2 to 12 times as strong at the ankle, and there first. Turns move both. Beside a
    mattress sensor a limb would feel more of everything, so that the comparison says nothing: refused.

What comes through bed or body passes a resonance of 4 to 15 Hz on its way. The reference also feels some things
alone: small movements of the partner or the leg, faint noises of the house.

Both sensors are of one kind and one board samples them: same sample numbers, same clock, and what the logger
loses it loses of both. Offset, gain, noise, drift, jitter, hum and anti-alias filter are the reference's own; it
has no stuck or held samples and no spikes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from hypnic.chunk import Site
from hypnic.errors import UsageError
from hypnic.simulate.background import Background, Courses
from hypnic.simulate.faults import FaultPlan, Faults
from hypnic.simulate.kinds import KINDS, Spec, Stage, render
from hypnic.simulate.mechanics import (
    Grid,
    Motion,
    Scene,
    ring_time,
    second_order,
    square_to,
    stroke,
    to_peak,
    unit,
)
from hypnic.simulate.play import BLOCK_S, Felt, Played, overlay, sampled
from hypnic.simulate.population import Draws, Traits
from hypnic.simulate.sensor import Sensor
from hypnic.simulate.timeline import Span
from hypnic.simulate.truth import SPAN_DTYPE, TRUTH_DTYPE, annotation_rows, source_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.simulate.sleeper import Sleeper

    Array = NDArray[np.float64]

__all__ = ["PLACEMENTS", "Placement", "Reference", "check_placement"]

Placement = Literal["frame", "limb", "partner"]
PLACEMENTS: Final = get_args(Placement)
"""Where a reference sensor can be."""

_JERKS: Final = ("jerk", "jerk_series", "startle")
_ARM: Final = ("brief", "limb", "arousal")
_LEGS: Final = ("plm", "tremor")
_BODY: Final = ("turn", "waking", "rocking", "sigh")

_WHOLE_BODY: Final = {"jerk": 0.6, "jerk_series": 0.6, "startle": 0.9}
"""Share of them in which the ankle twitches too (S)."""
_LEG_MOVES: Final = 0.35
"""Share of ordinary limb movements that are a leg's (S)."""
_HAND_ON_BED: Final = 0.4
"""Share of the taps on a wrist that are the hand striking the bed (S)."""
_TOGETHER_S: Final = 0.012
"""Spread of the times between two limbs of one jerk, in s (S)."""
_TURNS_S: Final = 0.03
"""Spread of the times between wrist and ankle in a turn, in s (S)."""
_ALIKE_S: Final = 0.005
"""Spread of the times between two places that are equally far from a source, in s (S)."""
_WRIST_REACH: Final = 0.1
"""What the planner lets a wrist feel of a partner, over what the mattress under the sleeper feels (S)."""

# Purposes of the reference's own random streams: the night's have the numbers below.
_SENSOR, _BODY_STREAM, _AXES, _EVENT, _PATH, _BLOCK, _ALONE = range(20, 27)


@dataclass(frozen=True, slots=True)
class Echo:
    """What the reference feels of one event.

    Attributes
    ----------
    gain : float
        Peak at the reference over that at the sensor; 0 for nothing.
    lead : float
        Seconds by which the reference feels it first; negative where later.
    way : {"same", "through", "joint"}
        The same course; the same through a resonance of bed or body; or a twitch of its own.
    angle : float
        Degrees by which it turns the reference.
    """

    gain: float
    lead: float = 0.0
    way: Literal["same", "through", "joint"] = "same"
    angle: float = 0.0


def check_placement(placement: str, site: Site) -> Placement:
    """Return `placement` if a sensor at `site` can have a reference there.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if placement not in PLACEMENTS:
        raise UsageError(f"reference {placement!r} is unknown: use {', '.join(PLACEMENTS)}")
    if placement == "limb" and site == "mattress":
        raise UsageError(
            "reference 'limb' goes with a wrist only: a limb feels more than the mattress of whatever moves; "
            "use frame or partner"
        )
    return placement  # type: ignore[return-value]  # narrowed by the check above


class _Ways:
    """The ways from an event to the reference.

    Parameters
    ----------
    site : {"wrist", "mattress"}
        Where the sensor is.
    attenuation : float
        What crosses the mattress from one sleeper to the other, or back.
    """

    def __init__(self, site: Site, attenuation: float) -> None:
        self.wrist, self.attenuation = site == "wrist", attenuation

    def to(self, placement: Placement, draws: Draws, kind: str) -> Echo:
        """Draw what a reference feels of one event of a kind."""
        ways = {"frame": self.to_frame, "partner": self.to_partner, "limb": self.to_limb}
        return ways[placement](draws, kind)

    def bed(self, draws: Draws, kind: str) -> float:
        """Draw what the mattress under the sleeper feels over what the sensor does."""
        if not self.wrist:
            return 1.0
        if kind in _BODY:
            return draws("reference.bed.turn")
        return draws("reference.bed.leg" if kind in _LEGS else "reference.bed.limb")

    def partners(self) -> float:
        """Return what the mattress under the partner feels of the partner over what the sensor does."""
        return 1.0 / (self.attenuation * (_WRIST_REACH if self.wrist else 1.0))

    def door(self, draws: Draws) -> float:
        """Draw what the mattress feels of a door over what the sensor does."""
        return draws("reference.bed.outside") if self.wrist else 1.0

    def hand(self, draws: Draws, times: float) -> Echo:
        """Draw what a bed feels of a tap on the wrist; a hand's blow does not come through the foam."""
        if not draws.chance(_HAND_ON_BED):
            return Echo(0.0)
        return Echo(draws("reference.bed.tap") * times, -draws("reference.near"))

    def to_frame(self, draws: Draws, kind: str) -> Echo:
        """Draw what the frame of the bed feels."""
        if kind == "tap":
            if self.wrist:
                return self.hand(draws, 1.0)
            return Echo(draws("reference.frame.knock"), draws("reference.near"))
        if kind == "door":
            return Echo(draws("reference.frame.door") * self.door(draws), draws("reference.near"))
        if kind == "phone":
            return Echo(draws("reference.phone"))
        if kind.startswith("partner"):
            gain = self.partners() * draws("reference.frame.own") * draws("reference.spread")
            return Echo(gain, draws("reference.near"))
        if kind == "walk":
            return Echo(0.0)
        gain = self.bed(draws, kind) * draws("reference.frame.own")
        return Echo(gain, -draws("reference.near"), "through")

    def to_partner(self, draws: Draws, kind: str) -> Echo:
        """Draw what the mattress at the partner's side feels."""
        if kind == "tap":
            outside = draws("reference.partner.outside")
            return self.hand(draws, outside) if self.wrist else Echo(outside, _jitter(draws, _ALIKE_S))
        if kind == "door":
            return Echo(draws("reference.partner.outside") * self.door(draws), _jitter(draws, _ALIKE_S))
        if kind == "phone":
            return Echo(draws("reference.phone"))
        if kind.startswith("partner"):
            angle = draws("bed.tilt") if kind == "partner_turn" else 0.0
            return Echo(self.partners() * draws("reference.spread"), draws("reference.far"), angle=angle)
        if kind == "walk":
            return Echo(0.0)
        gain = self.bed(draws, kind) * self.attenuation * draws("reference.spread")
        return Echo(gain, -draws("reference.far"), "through")

    def to_limb(self, draws: Draws, kind: str) -> Echo:
        """Draw what an ankle feels, for a sensor on the wrist."""
        if kind in _WHOLE_BODY and draws.chance(_WHOLE_BODY[kind]):
            return Echo(draws("reference.limb.jerk"), _jitter(draws, _TOGETHER_S), "joint")
        if kind in _LEGS or (kind in _ARM and draws.chance(_LEG_MOVES)):
            return Echo(draws("reference.limb.leg"), draws("reference.along"))
        if kind in ("turn", "waking", "rocking"):
            angle = 0.0 if kind == "rocking" else draws("movement.turn_angle")
            return Echo(draws("reference.limb.turn"), _jitter(draws, _TURNS_S), "through", angle)
        if kind == "walk":
            return Echo(draws("reference.limb.turn"))
        if kind == "phone":
            return Echo(draws("reference.phone"))
        if kind == "door" or kind.startswith("partner"):
            return Echo(draws("reference.limb.outside"), _jitter(draws, _ALIKE_S))
        return Echo(draws("reference.limb.through"), -draws("reference.along"), "through")


def _jitter(draws: Draws, spread: float) -> float:
    return float(draws.rng.normal(0.0, spread))


class Reference(Played):
    """The reference sensor of a simulated sleeper: a source with the sleeper's own sample numbers.

    `Sleeper.reference` makes it; the module says what it feels.

    Parameters
    ----------
    sleeper : Sleeper
        The night.
    placement : {"frame", "limb", "partner"}
        Where the reference is.

    Attributes
    ----------
    placement : {"frame", "limb", "partner"}
        Where it is; `site` is what it is like: ``"wrist"`` on a limb, otherwise ``"mattress"``.
    rate, samples, start_time, seed, population, sensor
        The sleeper's.
    parameters : dict of str to float
        What was drawn for it.
    truth : ndarray of `hypnic.simulate.TRUTH_DTYPE`
        What it feels, by onset: events of the sensor's truth at their time and peak here, with the sensor's
        label and duration, and what the reference feels alone.
    """

    def __init__(self, sleeper: Sleeper, placement: str) -> None:
        self.placement = check_placement(placement, sleeper.site)
        super().__init__(
            "wrist" if self.placement == "limb" else "mattress",
            sleeper.rate,
            sleeper.samples,
            sleeper.start_time,
            sleeper.speed,
            sleeper._clock,
            sleeper._sleep,
        )
        self.seed, self.population, self.sensor = sleeper.seed, sleeper.population, sleeper.sensor
        self._sleeper, self._night = sleeper, sleeper._night
        seconds = self.samples / sleeper._sensor.true_rate
        self._sensor = Sensor(self.sensor, self._draws(_SENSOR), self.rate, 1.05 * seconds)
        # One clock samples both.
        self._sensor.true_rate = sleeper._sensor.true_rate
        self._faults = FaultPlan(self._draws(_SENSOR, 1), Faults(), self.samples, self.rate, np.empty((0, 2)))
        self._faults.gaps = sleeper._faults.gaps
        traits = Traits(self._draws(_BODY_STREAM))
        known = sleeper.parameters.get("partner.attenuation")
        if known is not None:
            traits.values["partner.attenuation"] = known
        self._ways = _Ways(sleeper.site, traits("partner.attenuation"))
        self._courses = self._body(traits, known is not None, seconds)
        clock = {"sensor.clock": sleeper.parameters["sensor.clock"]}
        self.parameters = {**traits.values, **self._sensor.parameters, **clock}
        self._plan(traits, known is not None)

    def _draws(self, purpose: int, number: int = 0) -> Draws:
        return self._sleeper._draws(purpose, number)

    def _body(self, traits: Traits, partner: bool, seconds: float) -> Courses:
        """Return the slow courses of what it rests on."""
        for name in Background.traits:
            if self.placement != "partner" or not partner:
                traits.values[name] = self._sleeper.parameters[name]
        if self.placement == "partner" and partner:
            courses = Courses(traits, "mattress", [Span(0.0, seconds, "sleep")], seconds)
            for name in Background.traits:
                traits(name)
            return courses
        # The same body, farther away: the same rhythms.
        courses = copy.copy(self._sleeper._courses)
        part = (
            self._ways.attenuation
            if self.placement == "partner"
            else traits(f"reference.{self.placement}.body")
        )
        for name in ("breath", "heart", "micro", "sway", "snore"):
            setattr(courses, name, part * getattr(courses, name))
        return courses

    def _plan(self, traits: Traits, partner: bool) -> None:
        """Lay out what it feels of each event, and what it feels alone."""
        night, stretch = self._night, self._sensor.true_rate / self.rate
        rng = self._draws(_AXES).rng
        self._turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        plan = [
            (spec, self._ways.to(self.placement, self._draws(_EVENT, number), spec.kind), number)
            for number, spec in enumerate(night.events)
        ]
        alone = self._alone(traits, partner)
        plan += [(spec, Echo(1.0), -1 - number) for number, spec in enumerate(alone)]
        self._felt = sorted(
            (entry for entry in plan if entry[1].gain > 0), key=lambda entry: entry[0].onset - entry[1].lead
        )
        self._gravity = np.empty((len(self._felt) + 1, 3))
        self._gravity[0] = unit(rng)
        self._axis = np.empty((len(self._felt), 3))
        for place, (_, echo, _) in enumerate(self._felt):
            now = self._gravity[place]
            self._axis[place] = square_to(rng, now)
            angle = math.radians(echo.angle)
            self._gravity[place + 1] = math.cos(angle) * now + math.sin(angle) * self._axis[place]

        truth = np.zeros(len(self._felt), TRUTH_DTYPE)
        length = self.samples / self.rate
        for row, (spec, echo, number) in zip(truth, self._felt, strict=True):
            onset = max(spec.onset - echo.lead, 0.0) * stretch
            row["onset"], row["kind"], row["group"] = onset, spec.kind, spec.group
            if number >= 0:
                felt = self._sleeper.truth[self._sleeper._rows[number]]
                row["label"], row["duration"] = felt["label"], felt["duration"]
                row["peak_g"] = echo.gain * felt["peak_g"]
            else:
                row["label"], row["duration"] = KINDS[spec.kind].label, max(spec.length, 0.1) * stretch
                row["peak_g"] = spec.peak
        truth["duration"] = np.minimum(truth["duration"], length - truth["onset"])
        truth["sample"] = np.minimum(np.ceil(truth["onset"] * self.rate - 1e-6), self.samples - 1)
        truth["visible"] = self._faults.visible(truth["onset"], truth["duration"])
        for row in truth:
            row["source"] = source_text("truth", row["kind"], row["peak_g"], row["visible"])
        self.truth = truth

    def _alone(self, traits: Traits, partner: bool) -> list[Spec]:
        """Draw what only the reference feels."""
        if self.placement == "partner" and not partner:
            return []
        draws = self._draws(_ALONE)
        per_second = traits("reference.alone_rate") / 3600
        events = []
        for span in self._night.spans:
            if span.state in ("off_wrist", "out_of_bed"):
                continue
            for when in draws.rng.uniform(
                span.start, span.stop, draws.rng.poisson(span.length * per_second)
            ).tolist():
                if self.placement == "frame":
                    events.append(Spec(when, "door", 0.0, draws("door.peak.mattress")))
                else:
                    kind = "partner" if self.placement == "partner" else "limb"
                    peak = draws(f"movement.peak.{self.site}")
                    events.append(Spec(when, kind, draws("movement.limb"), peak))
        return [spec for spec in events if spec.onset < self._night.spans[-1].stop - 0.5]

    def annotations(self) -> list[tuple[float, float, str, str]]:
        """Return what it feels and the gaps as (onset, duration, label, source), ordered by onset."""
        return annotation_rows(self.truth, np.array(self._faults.spans(), SPAN_DTYPE))

    # signal

    def _blocks(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        sensor, size = self._sensor, round(BLOCK_S * self.rate)
        background = Background(
            self._courses, self.parameters, self._draws(_AXES, 1), sensor.true_rate, sensor.corner
        )
        events = [
            ((spec.onset - echo.lead) * sensor.true_rate, partial(self._sampled, place))
            for place, (spec, echo, _) in enumerate(self._felt)
        ]
        # Samples dropped one by one are known only to the sensor's own course.
        drops = (arrived for _, arrived in self._sleeper._blocks()) if self._sleeper.faults.drops else None
        before: Array | None = None
        for number, (first, gravity, dynamic) in enumerate(
            overlay(events, self._gravity[0], self.samples, size)
        ):
            rng = self._draws(_BLOCK, number).rng
            felt = gravity + dynamic + background.block(rng, first, gravity)
            out = sensor.read(rng, first, felt, felt[0] if before is None else before, self._faults)
            before = felt[-1]
            arrived = self._faults.outside_gaps(first, len(out)) if drops is None else next(drops)
            yield out.astype(np.float32), arrived

    def _sampled(self, place: int) -> Felt:
        spec, echo, number = self._felt[place]
        rate = self._sensor.true_rate
        finer = math.ceil(KINDS[spec.kind].rate / rate)
        onset = spec.onset - echo.lead
        first = math.floor(onset * rate)
        grid = Grid(finer * rate, onset - first / rate)
        if number < 0:
            motion = self._rendered(replace(spec, onset=onset), grid, place)
        elif echo.way == "joint":
            peak = echo.gain * self._sleeper._motion(number)[0].peak
            motion = self._rendered(replace(spec, onset=onset, peak=peak), grid, place)
        else:
            motion = self._carried(number, echo, grid, place)
        dynamic = motion.dynamic
        tilt = np.zeros_like(dynamic)
        if echo.angle:
            gravity, axis = self._gravity[place], self._axis[place]
            length = max(spec.length, 0.5)
            turned = math.radians(echo.angle) * stroke(grid.time(length), 0.1 * length, 0.8 * length)[0]
            turned = np.pad(turned, (0, max(len(dynamic) - len(turned), 0)), mode="edge")
            dynamic = np.pad(dynamic, ((0, len(turned) - len(dynamic)), (0, 0)))
            tilt = (np.cos(turned) - 1.0)[:, np.newaxis] * gravity + np.sin(turned)[:, np.newaxis] * axis
        return sampled(Motion(dynamic, tilt), grid, first, finer, self._sensor.corner)

    def _rendered(self, spec: Spec, grid: Grid, place: int) -> Motion:
        """Compute an event of the reference's own; its posture stays."""
        draws = self._draws(_PATH, place)
        scene = Scene(self.site, self._sleeper._scene.modes)
        motion = render(Stage(spec, scene, grid, self._gravity[place], draws, draws))
        return Motion(to_peak(motion.dynamic, spec.peak), np.zeros_like(motion.dynamic))

    def _carried(self, number: int, echo: Echo, grid: Grid, place: int) -> Motion:
        """Compute what comes of one of the sensor's events."""
        motion, there, _, _ = self._sleeper._motion(number)
        peak = echo.gain * motion.peak
        rows = motion.dynamic @ self._turn
        if echo.way == "through":
            draws = self._draws(_PATH, place)
            frequency, damping = draws("reference.path.frequency"), draws("reference.path.damping")
            rows = np.pad(rows, ((0, math.ceil(ring_time(frequency, damping) * there.rate)), (0, 0)))
            rows = second_order(rows, there.rate, frequency, damping)[0]
        # The same instants of the night, seen earlier or later.
        seconds = np.arange(len(rows)) / there.rate - there.lead
        wanted = grid.time(seconds[-1])
        moved = np.stack([np.interp(wanted, seconds, axis, left=0.0, right=0.0) for axis in rows.T], axis=1)
        return Motion(to_peak(moved, peak), np.zeros_like(moved))
