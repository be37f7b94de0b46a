"""What happens when: the plan of a night, before any of it is computed.

A night is wakeful minutes, settling, sleep onset and sleep, broken by wakings that each end in a settling and
an onset of their own. Jerks come first into the plan and keep a little room around them; ordinary movements,
series, the partner and the house fill the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from hypnic.simulate.kinds import Spec
from hypnic.simulate.mechanics import Scene
from hypnic.simulate.population import Draws, Traits, jerk_peak

if TYPE_CHECKING:
    from hypnic.chunk import Site

__all__ = ["Night", "Span", "plan"]

_MOST_WAKINGS: Final = 5
_JERK_ROOM: Final = (2.0, 2.5)
"""Seconds before and after a jerk's onset in which no other event begins or ends."""
_ISOLATED_AFTER: Final = 1500.0
"""Seconds after sleep onset from which a jerk is isolated for certain; windows end by 900 s."""
_TRIES: Final = 60


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the night in one state, in physical seconds."""

    start: float
    stop: float
    state: str

    @property
    def length(self) -> float:
        """Seconds from start to stop."""
        return self.stop - self.start


@dataclass(frozen=True)
class Night:
    """A planned night.

    Attributes
    ----------
    spans : list of Span
        The states, in order and without a hole.
    events : list of Spec
        Everything that happens, by onset.
    isolated : set of float
        Onsets of the jerks outside every onset window.
    parameters : dict
        What was drawn for this sleeper.
    """

    spans: list[Span]
    events: list[Spec]
    isolated: set[float]
    parameters: dict[str, float]


class _Planner:
    def __init__(self, draws: Draws, site: Site, seconds: float) -> None:
        self.draws, self.rng, self.site, self.seconds = draws, draws.rng, site, seconds
        self.trait = Traits(draws)
        self.spans: list[Span] = []
        self.events: list[Spec] = []
        self.busy: list[tuple[float, float]] = []
        self.group = 0

    # room

    def free(self, start: float, stop: float) -> bool:
        """Return whether nothing is planned between `start` and `stop`."""
        return start >= 0 and stop <= self.seconds and all(stop <= a or start >= b for a, b in self.busy)

    def add(self, spec: Spec, before: float = 0.5, after: float = 1.0) -> None:
        """Plan `spec` and keep the room around it."""
        self.events.append(spec)
        self.busy.append((spec.onset - before, spec.onset + spec.length + after))

    def try_add(self, spec: Spec, before: float = 0.5, after: float = 1.0) -> bool:
        """Plan `spec` if there is room for it."""
        if not self.free(spec.onset - before, spec.onset + spec.length + after):
            return False
        self.add(spec, before, after)
        return True

    def place(self, spans: list[Span], before: float, after: float) -> float | None:
        """Return a free time within `spans`, or None after some tries."""
        lengths = np.array([span.length for span in spans])
        if not spans or lengths.sum() <= 0:
            return None
        for _ in range(_TRIES):
            span = spans[int(self.rng.choice(len(spans), p=lengths / lengths.sum()))]
            when = float(self.rng.uniform(span.start, span.stop))
            if self.free(when - before, when + after):
                return when
        return None

    def poisson(self, span: Span, per_second: float) -> Iterator[float]:
        """Yield random times within `span`."""
        count = int(self.rng.poisson(max(span.length, 0.0) * per_second))
        yield from np.sort(self.rng.uniform(span.start, span.stop, count)).tolist()

    # the sleeper's own movements

    def peak(self, what: str) -> float:
        """Draw the peak of a movement for this site."""
        return self.draws(f"{what}.peak.{self.site}")

    def movement(self, onset: float, awake: bool) -> Spec:
        """Draw an ordinary movement."""
        shares = (0.2, 0.6, 0.1, 0.1) if awake else (0.3, 0.65, 0.05, 0.0)
        kind = str(self.rng.choice(["brief", "limb", "scratch", "turn"], p=shares))
        if kind == "turn":
            return self.turn(onset)
        if kind == "brief":
            length = self.draws("movement.brief")
        elif self.draws.chance(0.15):
            length = self.draws("movement.long")
        else:
            length = self.draws("movement.limb")
        return Spec(onset, kind, length, self.peak("movement"))

    def startle(self, onset: float) -> None:
        """Plan the start of a sleeper whom something from outside wakes: a reflex has a stimulus."""
        spec = Spec(
            onset + self.draws("startle.delay"),
            "startle",
            self.draws("startle.length"),
            self.peak("movement"),
        )
        self.add(spec)

    def turn(self, onset: float) -> Spec:
        """Draw a turn."""
        return Spec(onset, "turn", self.draws("movement.turn"), self.peak("turn"))

    def shuffle(self, onset: float) -> Spec:
        """Draw the long movement of a waking or of lying down again."""
        return Spec(onset, "waking", self.draws("movement.shuffle"), self.peak("turn"))

    def wakeful(self, span: Span, per_minute: float) -> None:
        """Fill a wakeful span with movements that thin out towards its end."""
        if span.length <= 0:
            return
        thinning = math.log(per_minute / 0.25) if per_minute > 0.25 else 0.0
        for when in self.poisson(span, per_minute / 60):
            if self.rng.random() < math.exp(-thinning * (when - span.start) / span.length):
                self.try_add(self.movement(when, awake=True))

    # structure

    def then(self, state: str, length: float) -> None:
        """Go on with a state for some seconds, within the night."""
        start = self.spans[-1].stop if self.spans else 0.0
        stop = min(start + length, self.seconds)
        if stop > start:
            self.spans.append(Span(start, stop, state))

    @property
    def now(self) -> float:
        """Where the last state ends."""
        return self.spans[-1].stop

    def structure(self) -> None:
        """Lay out the states of the night and the movements that go with them."""
        draws, seconds = self.draws, self.seconds
        awake = min(self.trait("night.awake"), 0.25 * seconds)
        settling = min(self.trait("night.settling"), 0.4 * awake)
        self.then("awake", awake - settling)
        self.then("settling", settling)
        morning = self.trait("night.morning") if seconds > 7200 and draws.chance(0.5) else 0.0
        most = int(min(_MOST_WAKINGS, (seconds - awake - morning) // 3600))
        # A waking needs half an hour of sleep around it, and a short night has none.
        count = draws.between(0, most)
        self.trait.values["night.wakings"] = float(count)
        wakings = np.sort(awake + 900 + (seconds - morning - awake - 1800) * self.rng.random(count))
        without = -1
        if len(wakings) and self.site == "wrist" and draws.chance(0.25):
            without = int(self.rng.integers(len(wakings)))
        for number, when in enumerate(wakings.tolist()):
            if when > self.now + 600:
                self.asleep(when)
                self.waking(number == without)
        self.asleep(seconds - morning)
        if self.now < seconds:
            self.try_add(self.shuffle(self.now))
            self.then("awake", seconds)

    def asleep(self, until: float) -> None:
        """Go on with sleep, its onset window first."""
        sleep = max(until - self.now, 0.0)
        window = min(self.draws("night.window"), sleep)
        self.then("onset", window)
        self.then("sleep", sleep - window)

    def waking(self, without: bool) -> None:
        """Go on with a waking, in which the sleeper may get up or be without the sensor for a while."""
        draws = self.draws
        length = draws("night.waking")
        self.try_add(self.shuffle(self.now))
        if without:
            self.then("awake", 60.0)
            off = self.now
            self.try_add(self.handling(off - 12.0))
            self.then("off_wrist", draws("night.off_wrist"))
            self.busy.append((off, self.now))
            self.add(self.handling(self.now))
            self.then("awake", 60.0)
        elif length > 180 and draws.chance(0.4):
            self.then("awake", 45.0)
            away = min(draws("night.walk"), length - 90)
            swing = 0.3 * self.peak("turn") if self.site == "mattress" else float(self.rng.uniform(0.15, 0.6))
            self.add(Spec(self.now, "walk", away - 2.0, swing))
            self.then("out_of_bed", away)
            self.try_add(self.shuffle(self.now))
            self.then("awake", length - 45 - away)
        else:
            self.then("awake", length)
        self.then("settling", draws("night.settling"))

    def handling(self, onset: float) -> Spec:
        """Draw the sensor being taken off or put on."""
        return Spec(onset, "handling", self.draws("handling.length"), self.peak("turn"))

    # what the sleep is broken by

    def series(self, spans: list[Span]) -> None:
        """Plan one series of periodic limb movements."""
        draws = self.draws
        span = spans[int(self.rng.integers(len(spans)))]
        interval, spread = draws("plm.interval"), draws("plm.spread")
        length, peak = draws("plm.length"), self.peak("plm")
        when = float(self.rng.uniform(span.start, span.stop))
        members: list[Spec] = []
        for _ in range(draws.between(4, 40)):
            if when > span.stop:
                break
            one = float(np.clip(length * self.rng.lognormal(0.0, 0.2), 0.5, min(10.0, 0.6 * interval)))
            spec = Spec(when, "plm", one, peak * float(self.rng.lognormal(0.0, 0.3)), self.group)
            if self.free(when - 0.5, when + one + 1.0):
                members.append(spec)
            when += float(np.clip(interval * self.rng.normal(1.0, spread), 10.0, 90.0))
        # Fewer than four are no series, nor are four with a hole of more than 90 s.
        onsets = np.array([spec.onset for spec in members])
        if len(members) >= 4 and np.diff(onsets).max() <= 90.0:
            for spec in members:
                self.add(spec)
            self.group += 1

    def train(self, spans: list[Span]) -> None:
        """Plan one rhythmic train."""
        kind = "tremor" if self.draws.chance(0.6) else "rocking"
        when = self.place(spans, 1.0, 20.0)
        if when is None:
            return
        rhythm = self.draws(f"{kind}.frequency")
        length = min(self.draws.between(4, 60) / rhythm, 120.0)
        self.try_add(Spec(when, kind, length, self.peak("train"), rhythm=rhythm))

    # jerks

    def jerk(self, spans: list[Span]) -> float | None:
        """Plan one jerk within `spans` and return its onset, or None where there is no room."""
        when = self.place(spans, *_JERK_ROOM)
        if when is not None:
            self.jerk_at(when, "jerk")
        return when

    def jerk_at(self, when: float, kind: str, group: int = -1) -> None:
        """Plan a jerk at `when`, and perhaps an arousal after it or a movement before it."""
        draws = self.draws
        peak = draws(jerk_peak(self.site, draws.population))
        self.add(Spec(when, kind, 0.0, peak, group), *_JERK_ROOM)
        if draws.chance(0.2):
            after = draws("jerk.arousal")
            length = draws("movement.arousal")
            # An arousal's movement may come inside the jerk's own room.
            if self.free(when + _JERK_ROOM[1], when + after + length + 1.0):
                self.add(Spec(when + after, "arousal", length, self.peak("movement")))
        if draws.chance(0.25):
            spec = self.movement(when, awake=False)
            self.try_add(replace(spec, onset=when - draws("jerk.after") - spec.length))

    def jerks(self, spans: list[Span], count: int, series: bool) -> set[float]:
        """Plan `count` jerks, as many as there is room for; return the onsets of the isolated ones."""
        windows: list[Span] = []
        alone: list[Span] = []
        deep = -math.inf
        for number, span in enumerate(spans):
            if span.state == "settling":
                windows.append(Span(max(span.start, span.stop - 60.0), span.stop, "onset"))
            elif span.state == "onset":
                windows.append(span)
                deep = span.start + _ISOLATED_AFTER
            elif span.state == "sleep":
                alone.append(Span(max(span.start, deep), span.stop, "sleep"))
            elif span.state == "awake" and number == 0:
                alone.append(Span(span.start, span.start + 0.6 * span.length, "awake"))
        alone = [span for span in alone if span.length > 30]
        if series and count >= 20:
            count -= self.jerk_series([span for span in windows if span.length > 300], count)
        isolated: set[float] = set()
        apart = round(count * self.rng.uniform(0.15, 0.35)) if alone else 0
        for _ in range(apart):
            onset = self.jerk(alone)
            if onset is not None:
                isolated.add(onset)
        for _ in range(count - len(isolated)):
            if self.jerk(windows) is None:
                break
        return isolated

    def jerk_series(self, windows: list[Span], most: int) -> int:
        """Plan one series of 20 to 29 jerks in one of `windows` and return how many found room."""
        if not windows:
            return 0
        window = windows[int(self.rng.integers(len(windows)))]
        members = min(self.draws.between(20, 29), most)
        length = min(self.draws("jerk.series"), window.length - 10)
        pauses = self.rng.gamma(4.0, 1.0, members - 1)
        pauses = 6.0 + (length - 6.0 * len(pauses)) * pauses / pauses.sum()
        start = window.start + self.rng.uniform(0.0, window.length - length)
        planned = 0
        for when in (start + np.r_[0.0, np.cumsum(pauses)]).tolist():
            if self.free(when - _JERK_ROOM[0], when + _JERK_ROOM[1]):
                self.jerk_at(when, "jerk_series", self.group)
                planned += 1
        self.group += 1
        return planned


def plan(draws: Draws, site: Site, seconds: float, jerks: int | None) -> tuple[Night, Scene]:
    """Plan a night.

    Parameters
    ----------
    draws : Draws
        Randomness of the plan.
    site : {"wrist", "mattress"}
        Where the sensor is.
    seconds : float
        Physical length of the night.
    jerks : int, optional
        How many jerks, as many as there is room for; by default 10 to 40 in eight hours, in proportion.

    Returns
    -------
    night : Night
        States, events and the sleeper's parameters.
    scene : Scene
        What all events share.
    """
    p = _Planner(draws, site, seconds)
    p.structure()
    spans = p.spans
    hours = seconds / 3600
    asleep = [span for span in spans if span.state in ("onset", "sleep")]
    still = [span for span in spans if span.state in ("settling", "onset")]
    in_bed = [span for span in spans if span.state not in ("off_wrist", "out_of_bed")]
    for span in asleep:
        for when in p.poisson(span, p.trait("night.turn_rate") / 3600):
            p.try_add(p.turn(when))
    if asleep and p.trait.has("has.plm", 0.4):
        for _ in range(1 + int(p.rng.poisson(0.6 * hours))):
            p.series(asleep)
    if p.trait.has("has.trains", 0.4):
        for _ in range(1 + int(p.rng.poisson(p.trait("night.train_rate") * hours))):
            p.train(still if still and draws.chance(0.6) else in_bed)
    series = p.trait.has("has.jerk_series", 0.15)
    if jerks is None:
        jerks = max(round(draws.between(25 if series else 10, 40) * min(hours / 8, 1.0)), 1)
    isolated = p.jerks(spans, jerks, series)
    for number, span in enumerate(spans):
        if span.state == "awake":
            p.wakeful(span, p.trait("night.awake_rate") if number == 0 else draws("night.awake_rate"))
        elif span.state == "settling":
            p.wakeful(span, 0.2)
    for span in asleep:
        for when in p.poisson(span, p.trait("night.limb_rate") / 3600):
            p.try_add(p.movement(when, awake=False))
        for when in p.poisson(span, p.trait("night.sigh_rate") / 3600):
            p.try_add(Spec(when, "sigh", draws("sigh.length"), p.trait("breath.tilt") * draws("sigh.depth")))
    if p.trait.has("has.myoclonus", 0.35):
        for span in asleep:
            for when in p.poisson(span, p.trait("night.myoclonus_rate") / 3600):
                p.try_add(Spec(when, "myoclonus", 0.0, p.peak("myoclonus")))
    if p.trait.has("has.partner", 0.5):
        reach = p.trait("partner.attenuation") * (1.0 if site == "mattress" else 0.1)
        for span in in_bed:
            for when in p.poisson(span, p.trait("partner.rate") / 3600):
                p.try_add(_partner(draws, when, reach))
    for what in ("tap", "door", "phone"):
        for when in p.poisson(Span(0.0, seconds, "night"), p.trait(f"night.{what}_rate") / 3600):
            spec = Spec(when, what, 0.0, p.peak(what))
            if (
                p.try_add(spec, after=3.0)
                and draws.chance(0.25)
                and any(s.start <= when < s.stop for s in in_bed)
            ):
                p.startle(when)
    modes = tuple((draws("bed.frequency"), draws("bed.damping")) for _ in range(draws.between(1, 3)))
    for number, (frequency, damping) in enumerate(modes):
        p.trait.values.update({f"bed.frequency.{number}": frequency, f"bed.damping.{number}": damping})
    events = sorted((e for e in p.events if 0 <= e.onset < seconds - 0.5), key=lambda e: e.onset)
    return Night(spans, events, isolated, p.trait.values), Scene(site, modes)


def _partner(draws: Draws, when: float, reach: float) -> Spec:
    kind = str(
        draws.rng.choice(
            ["partner", "partner_brief", "partner_turn", "partner_twitch"], p=(0.5, 0.2, 0.2, 0.1)
        )
    )
    if kind == "partner_twitch":
        return Spec(when, kind, 0.0, reach * draws("jerk.peak.mattress"))
    if kind == "partner_turn":
        return Spec(when, kind, draws("movement.turn"), reach * draws("turn.peak.mattress"))
    length = draws("movement.brief") if kind == "partner_brief" else draws("movement.limb")
    return Spec(when, kind, length, reach * draws("movement.peak.mattress"))
