"""Why an event got its label: what each feature said, what decided, and what would have to differ.

The event table does not hold all the features that the labels are made of, so the detector is run again; with the
same settings it gives the same events under the same numbers.

Each term of the model (`hypnic.model`) adds to the log odds of a jerk. A product of two features is shared between
them by halves, as Shapley values share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic import layout as at
from hypnic.bouts import WINDOW_COLUMNS, rest_table
from hypnic.chunk import Source
from hypnic.detector import detect_rows, event_rows
from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, RESTS, Events, plain_row
from hypnic.model import COLUMNS as FEATURES
from hypnic.model import FLOOR, Model, load_model
from hypnic.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["NEAREST_S", "Explanation", "Flip", "Rule", "Term", "explain", "rules"]

NEAREST_S: Final = 10.0
"""How far (s) an event may be from the time by which it is asked for."""

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    **{column.name: (column.unit, column.meaning) for column in COLUMNS},
    "t50": ("s", "span that holds the middle 50 % of the band energy"),
    "centre": ("s", "from onset to the centre of the band energy"),
    "line": ("", "share of the band energy along its main direction, 1/3 to 1"),
    "freq": ("Hz", "mean frequency of the band energy"),
    "slow": ("", "how far the limb travelled: largest slow deviation over the peak"),
    "low": ("", "pushing, not ringing: largest deviation below the band over the peak"),
    "bursts": ("", "rises of the band energy inside the event"),
    "follow": ("ln", "energy of the largest event soon after it, over its own; -10 for none"),
    "after": ("", "share of the seconds after it spent in events"),
    "chain": ("", "similar movements, at the intervals of a series, up to this one"),
    "length": ("s", "from onset until the band energy has died away"),
    "net": ("", "change of gravity that it leaves behind, over the peak"),
    "base": ("", "energy of 0.4 to 1.5 Hz over that of the band"),
    "below_3": ("", "share of the band energy below 3 Hz"),
    "below_6": ("", "share of the band energy below 6 Hz"),
    "energy_1": ("", "share of the band energy in the first 0.1 s"),
    "energy_2": ("", "share of the band energy from 0.1 to 0.2 s"),
    "energy_3": ("", "share of the band energy from 0.2 to 0.35 s"),
    "energy_4": ("", "share of the band energy from 0.35 to 0.5 s"),
    "energy_5": ("", "share of the band energy from 0.5 to 0.75 s"),
    "energy_6": ("", "share of the band energy from 0.75 to 1.1 s"),
    "before": ("ln", "band energy in the second before it, over its largest"),
    "tail": ("ln", "band energy in the second and a half after it, over its largest"),
    "plane": ("", "share of the band energy in the plane of its two main directions, 2/3 to 1"),
    "like": (
        "",
        "likeness to the most similar event at the interval of a series before; 0 the same, -20 for none",
    ),
    "like_later": (
        "",
        "likeness to the most similar event at the interval of a series after; 0 the same, -20 for none",
    ),
    "busy": ("", "share of the last minute spent in events, at the onset"),
    "stir": ("s", "decaying sum of movement, at the onset"),
    "next": ("s", "from the end to the next onset, at most until the final row"),
}
"""Unit and meaning of the features; one that is not here is shown by its name alone."""

ONSET_WINDOW: Final = ("settling", "onset")
"""Rest states inside an onset window."""

PLM_SECONDS: Final = (0.5, 10.0)
"""Shortest and longest movement (s) of a PLM series (WASM 2016)."""

COUNTS: Final = ("bursts", "chain")
"""Features that are whole numbers."""

_GRID: Final = 100
"""Values of a feature that are tried, from its first knot to its last."""


class Term(NamedTuple):
    """What one feature added to the log odds of a jerk.

    Attributes
    ----------
    feature : str
    value : float
        NaN where it could not be measured.
    unit, meaning : str
        Empty where unknown.
    alone : float
        By its own curve.
    paired : float
        Half of each product that it takes part in.
    """

    feature: str
    value: float
    unit: str
    meaning: str
    alone: float
    paired: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.alone + self.paired


class Rule(NamedTuple):
    """One question that was asked on the way to the label, in the order asked; the last one decided.

    Attributes
    ----------
    name : str
        What was asked about: score, rest, impact, axis, series, rhythm, posture, or movement where no other held.
    holds : bool
        The answer.
    label : str
        The label that follows; empty where the next question was asked.
    text : str
        Question, answer and numbers in a sentence.
    """

    name: str
    holds: bool
    label: str
    text: str


class Flip(NamedTuple):
    """The least change of one feature alone that would take the score across its threshold.

    Attributes
    ----------
    feature : str
    value, needed : float
        As it is, and as it would have to be.
    unit : str
    steps : float
        The change in standard deviations of the feature among the events that the model was fitted to.
    """

    feature: str
    value: float
    needed: float
    unit: str
    steps: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an event got its label.

    Attributes
    ----------
    event : row of the event table
        The last revision.
    terms : tuple of Term
        The features of the model, those that said most first.
    pairs : dict of str to float
        The products behind `Term.paired`, the largest first.
    intercept : float
        Log odds before any feature has spoken.
    log_odds : float
        Intercept and all terms; the score is its logistic function, unless the first rule limits it.
    threshold : float
        The score from which an event is a jerk.
    rules : tuple of Rule
        What was asked, up to what decided.
    flips : tuple of Flip
        For each feature that alone could take the score across the threshold, how; the least change first. None
        where the first rule limits the score.
    revisions : tuple of (float, row of the event table)
        Every row of the event, with the time (s) at which it came out.
    window : dict or None
        The onset window (`hypnic.bouts.WINDOW_COLUMNS`) that it lies in.
    meta : dict
        Version, rate, site and settings of the detector.
    """

    event: np.void
    terms: tuple[Term, ...]
    pairs: dict[str, float]
    intercept: float
    log_odds: float
    threshold: float
    rules: tuple[Rule, ...]
    flips: tuple[Flip, ...]
    revisions: tuple[tuple[float, np.void], ...]
    window: dict[str, Any] | None
    meta: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON, None where undefined."""
        return {
            "meta": self.meta,
            "event": plain_row(self.event),
            "features": [{**_finite(term._asdict()), "total": term.total} for term in self.terms],
            "pairs": self.pairs,
            "intercept": self.intercept,
            "log_odds": self.log_odds,
            "threshold": self.threshold,
            "rules": [rule._asdict() for rule in self.rules],
            "would_flip_the_score": [_finite(flip._asdict()) for flip in self.flips],
            "revisions": [{"emitted": time, **plain_row(row)} for time, row in self.revisions],
            "onset_window": self.window,
        }


def explain(
    source: Source | ArrayLike,
    event: int | None = None,
    *,
    at_s: float | None = None,
    rate: float | None = None,
    site: str | None = None,
    settings: Settings | None = None,
    progress: Callable[[int], None] | None = None,
) -> Explanation:
    """Run the detector over a recording and say why one of its events got its label.

    Parameters
    ----------
    source, rate, site, settings, progress
        As for `hypnic.detect`.
    event : int, optional
        The event's ``id``.
    at_s : float, optional
        In its place a time in seconds from the start of the recording: the event there, or the nearest within
        `NEAREST_S`.

    Returns
    -------
    Explanation

    Raises
    ------
    UsageError
        If neither or both of number and time are given, or there is no such event.
    DataError
        If there is no event at all, and as `hypnic.detect`.

    Examples
    --------
    >>> import hypnic                                             # doctest: +SKIP
    >>> with hypnic.open("night.h5") as night:                    # doctest: +SKIP
    ...     why = hypnic.explain(night, 12)
    >>> why.rules[-1].text                                        # doctest: +SKIP
    """
    if (event is None) == (at_s is None):
        raise UsageError("say which event: its id, or a time in the recording")
    detector, rows = detect_rows(source, rate, site, settings, progress)
    table = event_rows(rows, detector.rate)
    events = Events(table, detector.meta | {"rest": detector.rest_bouts()})
    wanted = _find(events.latest(), event, at_s)
    of_event = np.flatnonzero(table["id"] == wanted)
    place = of_event[np.argmax(table["revision"][of_event])]
    row, threshold = rows[place], detector.settings.jerk_score

    model = load_model(detector.settings.name)
    parts = model.contributions(row)
    pairs = {name: added for name, added in parts.items() if name not in FEATURES}
    windows = rest_table(events).windows
    asked = tuple(rules(row, detector.rate, detector.settings))
    return Explanation(
        event=table[place],
        terms=tuple(sorted(_terms(row, parts, pairs), key=lambda term: -abs(term.total))),
        pairs=dict(sorted(pairs.items(), key=lambda item: -abs(item[1]))),
        intercept=model.intercept,
        log_odds=_log_odds(model, row),
        threshold=threshold,
        rules=asked,
        # Beyond the limits no other feature would make it a jerk.
        flips=tuple(sorted(_flips(model, row, threshold), key=lambda flip: flip.steps))
        if asked[0].holds
        else (),
        revisions=tuple((float(rows[n, at.R_EMITTED]) / detector.rate, table[n]) for n in of_event),
        window=_window(windows, table[place]),
        meta=detector.meta,
    )


def _find(events: Events, event: int | None, at_s: float | None) -> int:
    """Return the id of the event that is asked for."""
    if not len(events):
        raise DataError("no event was found in it, so there is none to explain")
    ids = events["id"]
    if event is not None:
        if event not in ids:
            raise UsageError(f"there is no event {event}: their ids run from {ids.min()} to {ids.max()}")
        return event
    if at_s is None or not math.isfinite(at_s):
        raise UsageError(f"{at_s} is not a time in seconds")
    onset = events["onset"]
    away = np.maximum(np.maximum(onset - at_s, at_s - (onset + events["duration"])), 0.0)
    nearest = int(np.lexsort((np.abs(onset - at_s), away))[0])
    if away[nearest] > NEAREST_S:
        raise UsageError(
            f"there is no event within {NEAREST_S:g} s of {at_s:g} s: the nearest, {ids[nearest]}, begins at "
            f"{onset[nearest]:.2f} s"
        )
    return int(ids[nearest])


def _window(windows: NDArray[np.void], event: np.void) -> dict[str, Any] | None:
    if event["rest"] not in ONSET_WINDOW:
        return None
    # The onset is traced back from the sample that opened the event, maybe to just before its window.
    inside = (windows["onset"] <= event["onset"] + event["duration"]) & (windows["end"] >= event["onset"])
    return plain_row(windows[inside][-1], WINDOW_COLUMNS) if inside.any() else None


# The model


def _log_odds(model: Model, row: NDArray[np.float64]) -> float:
    return model.intercept + sum(model.contributions(row).values())


def _terms(
    row: NDArray[np.float64], parts: Mapping[str, float], pairs: Mapping[str, float]
) -> Iterator[Term]:
    shares: dict[str, float] = {}
    for pair, added in pairs.items():
        for name in pair.split(" x "):
            shares[name] = shares.get(name, 0.0) + float(added) / 2
    for name in parts.keys() - pairs.keys():
        unit, meaning = WORDS.get(name, ("", ""))
        yield Term(name, float(row[FEATURES[name][0]]), unit, meaning, parts[name], shares.get(name, 0.0))


def _flips(model: Model, row: NDArray[np.float64], threshold: float) -> Iterator[Flip]:
    """Try each feature between its outer knots, all else as it is, until the score crosses the threshold."""
    if not 0.0 < threshold < 1.0:
        return
    edge = math.log(threshold / (1.0 - threshold))
    jerk = _log_odds(model, row) >= edge
    for curve in model.curves:
        column, logarithm = FEATURES[curve.feature]
        value = float(row[column])
        if math.isnan(value):
            continue
        low, high = curve.knots[0], curve.knots[-1]
        tried = np.geomspace(low, high, _GRID) if logarithm else np.linspace(low, high, _GRID)
        if curve.feature in COUNTS:
            tried = np.arange(math.ceil(low), math.floor(high) + 1.0)
        here = math.log(max(value, FLOOR)) if logarithm else value
        away = np.abs((np.log(tried) if logarithm else tried) - here) / curve.spread
        other = row.copy()
        for n in np.argsort(away, kind="stable"):
            other[column] = tried[n]
            if (_log_odds(model, other) >= edge) != jerk:
                yield Flip(
                    curve.feature, value, float(tried[n]), WORDS.get(curve.feature, ("",))[0], float(away[n])
                )
                break


# The rules


def rules(row: NDArray[np.float64], rate: float, s: Settings) -> Iterator[Rule]:
    """Say the rules of `hypnic.labels.judge` in words, as far as they were asked.

    Parameters
    ----------
    row : ndarray of float64, shape (`hypnic.layout.ROW`,)
        The kernel's row of an event, its score included.
    rate : float
        Sampling rate (Hz).
    s : Settings
        The thresholds.

    Yields
    ------
    Rule
        In the order of asking; the last one has the label.
    """
    from hypnic.labels import AT_MOST, ON_AXIS, ON_LINE, SERIES_LENGTH
    from hypnic.rest import RESTLESS

    score, t90, hf = float(row[at.R_SCORE]), float(row[at.R_T90]), float(row[at.R_HF])
    stir, most = float(row[at.R_STIR]), RESTLESS * s.waking
    limit = AT_MOST * s.jerk_score
    beyond = t90 > s.jerk_t90 or stir > most
    verdict = f"so its score is {limit:.2g} at most" if beyond else "both within"
    text = (
        f"A jerk is short and comes at rest: t90 at most {s.jerk_t90:g} s (jerk_t90), and at most {most:g} s (twice "
        f"waking) of movement in the minutes before. Here they are {t90:.2g} s and {stir:.2g} s, {verdict}."
    )
    yield Rule("limits", not beyond, "", text)
    jerk = score >= s.jerk_score
    how = (
        f"reaches {s.jerk_score:g} (jerk_score): a jerk"
        if jerk
        else f"is below {s.jerk_score:g} (jerk_score)"
    )
    yield Rule("score", jerk, "", f"The score, {score:.2f}, {how}.")
    if jerk:
        rest = RESTS[int(row[at.R_REST])]
        inside = rest in ONSET_WINDOW
        where = "inside an onset window" if inside else "outside every onset window"
        label = "hypnic_jerk" if inside else "isolated_jerk"
        yield Rule("rest", inside, label, f"The rest state at its onset was {rest}, {where}: {label}.")
        return

    impact = t90 < s.impact_t90 or hf > s.impact_hf
    high = "unknown at this rate" if math.isnan(hf) else f"{hf:.2g}"
    text = (
        f"An impact has t90 below {s.impact_t90:g} s (impact_t90) or hf_ratio above {s.impact_hf:g} (impact_hf): "
        f"they are {t90:.2g} s and {high}."
    )
    yield Rule("impact", impact, "", text)
    if impact:
        axis, line = float(np.abs(row[at.R_UX : at.R_UZ + 1]).max()), float(row[at.R_LINE])
        alone = axis > ON_AXIS and line > ON_LINE
        label = "sensor_artifact" if alone else "impact"
        text = (
            f"A spike of the sensor stands on one of its axes alone: more than {ON_AXIS:g} of the main direction and "
            f"{ON_LINE:g} of the energy along it. Here {axis:.4f} and {line:.2f}: {label}."
        )
        yield Rule("axis", alone, label, text)
        return

    chain = int(row[at.R_CHAIN])
    duration = float(row[at.R_LENGTH])
    shortest, longest = PLM_SECONDS
    series = chain >= SERIES_LENGTH and shortest <= duration <= longest and stir <= most
    # A later member of the series counts for the first ones too: their rows are then judged again.
    seen = "as later ones showed" if int(row[at.R_REVISION]) > 1 else "up to this one"
    text = (
        f"A periodic limb movement is one of {SERIES_LENGTH} or more alike, {s.plm_low:g} to {s.plm_high:g} s apart "
        f"(plm_low, plm_high), each {shortest:g} to {longest:g} s long, of one who has moved by at most {most:g} s "
        f"(twice waking) of late: here {chain} {seen}, {duration:.2g} s long, after {stir:.2g} s."
    )
    yield Rule("series", series, "plm" if series else "", text)
    if series:
        return

    bursts, spread = int(row[at.R_BURSTS]), float(row[at.R_RHYTHM])
    rhythmic = bursts >= SERIES_LENGTH and spread < s.rhythm
    uneven = "" if math.isnan(spread) else f", {spread:.2g} uneven"
    text = (
        f"A rhythmic train has {SERIES_LENGTH} or more bursts, less than {s.rhythm:g} uneven (rhythm): "
        f"here {bursts}{uneven}."
    )
    yield Rule("rhythm", rhythmic, "rhythmic" if rhythmic else "", text)
    if rhythmic:
        return

    angle = float(row[at.R_ANGLE])
    shifted = angle > s.posture_angle
    text = f"A posture shift turns gravity by more than {s.posture_angle:g} deg (posture_angle): here {angle:.2g} deg."
    yield Rule("posture", shifted, "posture_shift" if shifted else "", text)
    if not shifted:
        yield Rule("movement", True, "movement", "None of these: a movement.")


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
