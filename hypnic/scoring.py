"""Truth against found: how well any detector's events agree with events that somebody knows to be there.

Both sides are `Marks`, read by `load` from a hypnic HDF5 night, an event table, a BIDS ``events.tsv`` or any
CSV with an ``onset`` column, so that a detector from elsewhere is scored by the same rules.

The rules
    A true jerk is found when a found jerk's onset lies within the tolerance of its own. Pairs are one to one
    and as many as possible (maximum bipartite matching); among the matchings with the most pairs the one with
    the smallest sum of onset errors counts. What is left is a false alarm or a miss: two detections of one
    jerk are one hit and one false alarm. Which of the two jerk labels an event carries does not matter there;
    that is judged apart, by the confusion of labels.

Why not the defaults of SzCORE
    SzCORE (seizures) accepts detections 30 s before a seizure and merges events closer than 90 s. A jerk
    lasts half a second and another may follow within seconds: with those defaults one wrong detection 25 s
    off counts as right. Hence onsets, a tolerance of about the length of a jerk, and no merging.

A label of ``hypnic_jerk`` is a candidate, and a score against simulated truth says how the detector does on
the simulation, not on people.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from hypnic.errors import UsageError
from hypnic.events import EVENT_DTYPE, JERKS, LABELS, Events
from hypnic.marks import Marks, Spans, check_onsets, inside, load, recorded_hours, valid_hours

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LEAST_VISIBLE",
    "PEAK_EDGES",
    "TOLERANCE",
    "TOLERANCES",
    "Counts",
    "Latency",
    "Marks",
    "Score",
    "Section",
    "combine",
    "latencies",
    "load",
    "match",
    "report",
    "score",
    "score_files",
    "valid_hours",
]

TOLERANCES: Final = (0.1, 0.25, 0.5, 1.0)
"""Onset tolerances (s) at which hits are counted."""

TOLERANCE: Final = 0.5
"""The tolerance (s) of everything given at one only: about the length of a jerk in acceleration."""

PEAK_EDGES: Final = (0.0, 0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, math.inf)
"""Edges (g) of the bins of true peak acceleration, each about twice the one before."""

LEAST_VISIBLE: Final = 0.5
"""A true jerk of which the sensor delivered less than this part counts neither way."""

SCORE_LEVELS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of ``score`` at which the table shows the curve."""

NONE: Final = "none"
"""Stands for the other side where an event has no partner."""

_ROUNDING: Final = 1e-6
"""Slack (s) on every tolerance, so that onsets of 1.1 and 1.0 are 0.1 apart in binary too."""

_CURVE_POINTS: Final = 50

Emitted = Sequence[tuple[float, np.void]]
Table = dict[str, "NDArray[Any]"]


def match(
    found_onsets: ArrayLike, true_onsets: ArrayLike, tolerance: float, *, priority: ArrayLike | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair found onsets with true ones, one to one, as many as possible.

    Parameters
    ----------
    found_onsets, true_onsets : array_like of float, shape (n,) and (m,)
        Seconds, in any order.
    tolerance : float
        Largest distance (s) of a pair, itself included.
    priority : array_like of float, shape (n,), optional
        Instead of small onset errors, prefer to pair the found events with the highest values. Above every
        threshold of `priority` there are then as many pairs as the events above it can have: sets of found
        events that can be paired are a matroid, in which one choice is the best for all thresholds.

    Returns
    -------
    found, true : ndarray of int, shape (k,)
        Positions of the pairs, ordered by `found`. Among the matchings with the most pairs it is one with the
        smallest sum of distances (sparse linear assignment, each found event free to stay alone at a price
        above any sum of distances).

    Raises
    ------
    UsageError
        If the tolerance is not a positive number.
    DataError
        If onsets are not one column of finite numbers.
    """
    f, t = np.asarray(found_onsets, np.float64), np.asarray(true_onsets, np.float64)
    check_onsets(f, "found onset")
    check_onsets(t, "true onset")
    if not 0 < tolerance < math.inf:
        raise UsageError(f"tolerance {tolerance!r} is not a positive number of seconds")
    i, j = _touching(f, f, t, t, tolerance)
    if priority is None:
        return _assign(i, j, np.abs(f[i] - t[j]), len(t))
    rank = np.unique(np.asarray(priority, np.float64), return_inverse=True)[1].astype(np.float64)
    return _assign(i, j, np.zeros(len(i)), len(t), rank + 1)


def _touching(
    found_start: NDArray[np.float64],
    found_end: NDArray[np.float64],
    true_start: NDArray[np.float64],
    true_end: NDArray[np.float64],
    slack: float = 0.0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of all pairs of spans that are at most `slack` apart."""
    slack += _ROUNDING
    order = np.argsort(true_start, kind="stable")
    reached = np.maximum.accumulate(true_end[order])
    first = np.searchsorted(reached, found_start - slack, "left")
    stop = np.searchsorted(true_start[order], found_end + slack, "right")
    n = np.maximum(stop - first, 0)
    i = np.repeat(np.arange(len(n)), n)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(n) - n - first, n)]
    touch = true_end[j] >= found_start[i] - slack
    return i[touch], j[touch]


def _assign(
    found: NDArray[np.intp],
    true: NDArray[np.intp],
    cost: NDArray[np.float64],
    n_true: int,
    alone: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose the pairs of least cost; leaving a found event alone costs `alone`, or more than all pairs."""
    if not len(found):
        return found, true
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, row = np.unique(found, return_inverse=True)
    n = len(rows)
    price = np.full(n, cost.sum() + 1) if alone is None else alone[rows]
    # A column of its own lets a found event stay alone. To scipy a weight of 0 is no edge, hence the 1.
    weights = np.concatenate([cost, price]) + 1
    places = (np.concatenate([row, np.arange(n)]), np.concatenate([true, n_true + np.arange(n)]))
    graph = coo_matrix((weights, places), shape=(n, n_true + n)).tocsr()
    left, right = min_weight_full_bipartite_matching(graph)
    paired = right < n_true
    return rows[left[paired]], np.asarray(right[paired], np.intp)


# Scores


@dataclass(frozen=True, slots=True)
class Counts:
    """Hits, false alarms and misses at one onset tolerance (s)."""

    tolerance: float
    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        """Share of the found jerks that are true; NaN where none was found."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true jerks that were found; NaN where there is none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is nothing on either side."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


@dataclass(frozen=True, eq=False)
class Latency:
    """Seconds from the end of a true jerk until its row came out.

    Attributes
    ----------
    provisional, final : ndarray of float64, shape (n,)
        For the rows of revision 0 and of revision 1.
    """

    provisional: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    final: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return number, median, 95th percentile and maximum (s) of both."""
        return {
            name: {
                "n": len(seconds),
                "median": _percentile(seconds, 50),
                "p95": _percentile(seconds, 95),
                "max": _percentile(seconds, 100),
            }
            for name, seconds in (("provisional", self.provisional), ("final", self.final))
        }


def _percentile(values: NDArray[np.float64], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else math.nan


def latencies(
    rows: Emitted,
    truth: Marks | Events | NDArray[np.void],
    *,
    labels: Sequence[str] = JERKS,
    tolerance: float = TOLERANCE,
) -> Latency:
    """Measure how long after a true jerk its rows came out.

    Parameters
    ----------
    rows : sequence of (float, event row)
        Each row of the event table with the time (s from the start of the recording) at which it was handed
        over: every revision of every event.
    truth : Marks, Events or annotations
        The true events.
    labels : sequence of str, optional
        What counts as a jerk, on both sides; a found event by the label of its last revision.
    tolerance : float, optional
        Onset tolerance (s) of a hit.

    Returns
    -------
    Latency
        Of the hits. Negative where a row came out before the true event was over.
    """
    events, true = _as_events(rows), Marks.of(truth)
    latest = events.latest().array
    latest = latest[np.isin(latest["label"], labels)]
    true = true[np.isin(true.label, labels)]
    i, j = match(latest["onset"], true.onset, tolerance)
    end = dict(zip(latest["id"][i].tolist(), true.end[j].tolist(), strict=True))
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for time, row in rows:
        if int(row["id"]) in end and int(row["revision"]) in seconds:
            seconds[int(row["revision"])].append(float(time) - end[int(row["id"])])
    return Latency(np.array(seconds[0]), np.array(seconds[1]))


def _as_events(rows: Emitted) -> Events:
    table = np.empty(len(rows), EVENT_DTYPE)
    for n, (_, row) in enumerate(rows):
        table[n] = row
    return Events(table)


class Section(NamedTuple):
    """A small table of text; the first cell of each row says what the row is about."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, eq=False)
class Score:
    """How well found events agree with true ones, in one night or over several.

    Attributes
    ----------
    labels : tuple of str
        What counted as a jerk.
    tolerance : float
        Onset tolerance (s) of everything but `counts`.
    counts : tuple of Counts
        Hits, false alarms and misses at each tolerance.
    hours_valid : float
        Hours in which something could have been found; NaN where unknown.
    true : dict of ndarray, each of shape (n,)
        One entry per true event: ``onset``, ``label``, ``kind``, ``peak_g``, ``hit`` (a jerk that was found
        as a jerk), ``error`` (found minus true onset of a hit, s) and ``found_label`` ("none" where nothing
        fits).
    found : dict of ndarray, each of shape (m,)
        One entry per found event: ``onset``, ``label``, ``score``, ``false_alarm``, ``true_label`` and
        ``during`` (kind of the true event it coincides with: see `coincidences`), both "none" where nothing
        fits, and ``jerk`` (whether a true jerk is there, whatever the label: see `curve`).
    latency : Latency
        Empty unless the found rows came with emission times.
    name : str
        Of the night.
    nights : tuple of Score
        What was combined; empty for a single night.
    intervals : dict of str to (low, high)
        95 % bootstrap intervals of `figures`; empty for a single night.
    """

    labels: tuple[str, ...]
    tolerance: float
    counts: tuple[Counts, ...]
    hours_valid: float
    true: Table
    found: Table
    latency: Latency
    name: str = ""
    nights: tuple[Score, ...] = ()
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def at(self, tolerance: float) -> Counts:
        """Return the counts at one of the tolerances (s).

        Raises
        ------
        UsageError
            If nothing was counted at it.
        """
        for counts in self.counts:
            if counts.tolerance == tolerance:
                return counts
        known = ", ".join(f"{counts.tolerance:g}" for counts in self.counts)
        raise UsageError(f"nothing was counted at a tolerance of {tolerance:g} s, only at {known}")

    @property
    def movements(self) -> int:
        """Number of true events that are neither jerks nor faults of the sensor (``sensor_artifact``)."""
        return int(np.count_nonzero(~np.isin(self.true["label"], [*self.labels, "sensor_artifact"])))

    def _sums(self) -> dict[str, tuple[float, float]]:
        """Every headline figure as a sum over a sum: over nights both sides add up."""
        fp = self.at(self.tolerance).fp
        hit = self.true["hit"]
        same = hit & (self.true["label"] == self.true["found_label"])
        sums: dict[str, tuple[float, float]] = {
            "false_alarms_per_hour": (fp, self.hours_valid),
            "false_alarms_per_movement": (fp, self.movements),
            "label_accuracy": (int(same.sum()), int(hit.sum())),
        }
        for c in self.counts:
            sums[f"precision@{c.tolerance:g}"] = (c.tp, c.tp + c.fp)
            sums[f"recall@{c.tolerance:g}"] = (c.tp, c.tp + c.fn)
            sums[f"f1@{c.tolerance:g}"] = (2 * c.tp, 2 * c.tp + c.fp + c.fn)
        return sums

    @property
    def figures(self) -> dict[str, float]:
        """The figures that have intervals, by name.

        ``precision@0.5``, ``recall@0.5`` and ``f1@0.5`` for each tolerance, ``false_alarms_per_hour``,
        ``false_alarms_per_movement`` and ``label_accuracy`` (share of the hits that carry the right one of
        the jerk labels). NaN where undefined.
        """
        return {name: _ratio(*sums) for name, sums in self._sums().items()}

    def onset_error(self) -> dict[str, float]:
        """Return the hits' onset error (s): median of its size; mean, 5th and 95th percentile with sign."""
        error = self.true["error"][self.true["hit"]]
        return {
            "median": _percentile(np.abs(error), 50),
            "mean": float(error.mean()) if len(error) else math.nan,
            "p05": _percentile(error, 5),
            "p95": _percentile(error, 95),
        }

    def confusion(self) -> dict[str, dict[str, int]]:
        """Return how often each true label was found as each label; "none" where the other side has nothing.

        Pairs are one to one, in three steps: jerks with jerks as they were counted, then whatever is left by
        onset within the tolerance, then whatever is left by spans that touch (of several found pieces of one
        long movement one is its partner, the others have none).
        """
        false = self.found["true_label"] == NONE
        pairs = [*zip(self.true["label"], self.true["found_label"], strict=True)]
        pairs += [(NONE, label) for label in self.found["label"][false]]
        rows = _in_order({NONE, *(row for row, _ in pairs)})
        columns = _in_order({NONE, *(column for _, column in pairs)})
        table = {row: dict.fromkeys(columns, 0) for row in rows}
        for row, column in pairs:
            table[str(row)][str(column)] += 1
        return table

    def coincidences(self) -> dict[str, tuple[int, int]]:
        """Return for each true kind the false alarms during such events and the number of such events.

        A false alarm belongs to the event with the nearest onset among those whose spans, widened by the
        tolerance, touch its own; several may belong to one. A jerk's kind here means a second detection of it
        or one beyond the tolerance. "none" stands for no event at all.
        """
        during = self.found["during"][self.found["false_alarm"]]
        kinds = [*np.unique(self.true["kind"]).tolist(), NONE]
        table = {kind: (_count(during, kind), _count(self.true["kind"], kind)) for kind in kinds}
        return dict(sorted(table.items(), key=lambda item: (-item[1][0], item[0])))

    def detection_by_peak(self, edges: Sequence[float] = PEAK_EDGES) -> list[dict[str, float]]:
        """Return the share of true jerks found in bins of their peak acceleration (g), with counts.

        Bins without a jerk are left out, and so are jerks whose peak is unknown.
        """
        jerk = np.isin(self.true["label"], self.labels)
        peak, hit = self.true["peak_g"][jerk], self.true["hit"][jerk]
        rows = []
        for low, high in pairwise(edges):
            here = (peak >= low) & (peak < high)
            if here.any():
                n, found = int(here.sum()), int(hit[here].sum())
                rows.append({"low": low, "high": high, "true": n, "found": found, "probability": found / n})
        return rows

    def curve(self) -> NDArray[np.void]:
        """Return what would be found if ``score`` alone decided, at every threshold.

        All found events take part whatever their label, as far as they have a score. One is right if a true
        jerk lies within the tolerance, each jerk once; at every threshold the events above it are matched as
        well as they can be.

        Returns
        -------
        ndarray, shape (k,)
            ``threshold`` (falling), ``tp``, ``fp``, ``precision``, ``recall`` (of all true jerks) and ``fpr``
            (share of the found events without a jerk that are above the threshold).
        """
        scored = np.isfinite(self.found["score"])
        value, jerk = self.found["score"][scored], self.found["jerk"][scored]
        threshold, inverse = np.unique(-value, return_inverse=True)
        tp = np.cumsum(np.bincount(inverse, jerk, len(threshold))).astype(np.int64)
        fp = np.cumsum(np.bincount(inverse, ~jerk, len(threshold))).astype(np.int64)
        true = _count(np.isin(self.true["label"], self.labels), True)
        dtype = [
            ("threshold", float),
            ("tp", int),
            ("fp", int),
            ("precision", float),
            ("recall", float),
            ("fpr", float),
        ]
        points = np.empty(len(threshold), dtype)
        points["threshold"], points["tp"], points["fp"] = -threshold, tp, fp
        points["precision"] = tp / (tp + fp)
        points["recall"] = tp / true if true else np.nan
        points["fpr"] = fp / fp[-1] if len(fp) and fp[-1] else np.nan
        return points

    def at_scores(self, levels: Sequence[float] = SCORE_LEVELS) -> list[dict[str, float]]:
        """Return the point of `curve` for "score at least" each of `levels`; none where nothing has a score."""
        points = self.curve()
        if not len(points):
            return []
        jerks = _count(np.isin(self.true["label"], self.labels), True)
        rows = []
        for level in levels:
            above = int(np.searchsorted(-points["threshold"], -level, "right"))
            tp, fp = (int(points[name][above - 1]) if above else 0 for name in ("tp", "fp"))
            rows.append(
                {
                    "score": level,
                    "tp": tp,
                    "fp": fp,
                    "precision": _ratio(tp, tp + fp),
                    "recall": _ratio(tp, jerks),
                    "fpr": _ratio(fp, int(points["fp"][-1])),
                }
            )
        return rows

    @property
    def roc_auc(self) -> float:
        """Chance that a found event on a true jerk has a higher score than one on none; ties count half."""
        points = self.curve()
        if not len(points) or not points["tp"][-1] or not points["fp"][-1]:
            return math.nan
        tp, fp = np.append(0, points["tp"]), np.append(0, points["fp"])
        area = float(np.sum(np.diff(fp) * (tp[1:] + tp[:-1]) / 2))
        return area / float(tp[-1] * fp[-1])

    @property
    def average_precision(self) -> float:
        """Precision of `curve` averaged over recall; recall that is never reached counts as precision 0."""
        points = self.curve()
        if not len(points):
            return math.nan
        return float(np.sum(np.diff(points["recall"], prepend=0.0) * points["precision"]))

    def reliability(self, bins: int = 10) -> list[dict[str, float]]:
        """Return mean score and share of events on a true jerk in equal bins of ``score`` from 0 to 1.

        All found events take part whatever their label; empty bins and scores outside 0 to 1 are left out.
        A score that is a probability has both columns alike.
        """
        value, jerk = self.found["score"], self.found["jerk"]
        rows = []
        for n in range(bins):
            low, high = n / bins, (n + 1) / bins
            here = (value >= low) & ((value < high) | ((n == bins - 1) & (value == 1)))
            if here.any():
                rows.append(
                    {
                        "low": low,
                        "high": high,
                        "n": int(here.sum()),
                        "score": float(value[here].mean()),
                        "jerks": float(jerk[here].mean()),
                    }
                )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON: None where undefined, the curve at up to 50 points."""
        points = self.curve()
        picked = np.unique(np.linspace(0, len(points) - 1, min(len(points), _CURVE_POINTS)).astype(int))
        result: dict[str, Any] = {
            "name": self.name,
            "labels": list(self.labels),
            "tolerance_s": self.tolerance,
            "hours_valid": self.hours_valid,
            "true_movements": self.movements,
            "counts": [{"tolerance_s": c.tolerance, "tp": c.tp, "fp": c.fp, "fn": c.fn} for c in self.counts],
            "figures": self.figures,
            "intervals": {name: list(limits) for name, limits in self.intervals.items()},
            "onset_error_s": self.onset_error(),
            "latency_s": self.latency.summary(),
            "confusion": self.confusion(),
            "coincidences": {
                kind: {"false_alarms": n, "true": of} for kind, (n, of) in self.coincidences().items()
            },
            "detection_by_peak_g": self.detection_by_peak(),
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
            "curve": [
                dict(zip(points.dtype.names or (), point.tolist(), strict=True)) for point in points[picked]
            ],
            "reliability": self.reliability(),
            "nights": [
                {"name": night.name, "hours_valid": night.hours_valid, "figures": night.figures}
                for night in self.nights
            ],
        }
        plain: dict[str, Any] = _finite(result)
        return plain

    @property
    def headline(self) -> str:
        """What was compared, in one line."""
        c = self.at(self.tolerance)
        where = f"{len(self.nights)} nights" if self.nights else self.name or "one night"
        return f"{c.tp + c.fn} true and {c.tp + c.fp} found jerks ({', '.join(self.labels)}) in {where}"

    def sections(self) -> list[Section]:
        """Return the score as small tables of text, an interval behind its figure."""
        return [section for section in _sections(self) if section.rows]

    def table(self) -> str:
        """Return headline and sections as Markdown that also reads as plain text."""
        return "\n\n".join([self.headline, *map(_markdown, self.sections())]) + "\n"

    def __repr__(self) -> str:
        c = self.at(self.tolerance)
        return f"<Score at {c.tolerance:g} s: {c.tp} found, {c.fn} missed, {c.fp} false alarms>"


def _count(values: NDArray[Any], value: Any) -> int:
    return int(np.count_nonzero(values == value))


def _in_order(labels: Iterable[str]) -> list[str]:
    known = {label: n for n, label in enumerate(LABELS)}
    return sorted(
        (str(label) for label in labels),
        key=lambda label: (label == NONE, known.get(label, len(known)), label),
    )


def _finite(value: Any) -> Any:
    """Replace what JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score(
    found: Marks | Events | NDArray[np.void] | Emitted,
    truth: Marks | Events | NDArray[np.void],
    *,
    hours_valid: float | None = None,
    labels: Sequence[str] = JERKS,
    tolerances: Sequence[float] = TOLERANCES,
    tolerance: float = TOLERANCE,
    ignore: Spans = (),
    name: str = "",
) -> Score:
    """Score one night.

    Parameters
    ----------
    found : Marks, Events, annotations, or list of (float, event row)
        What the detector found, events that are not jerks included. With a list of rows and their emission
        times, every revision, the latency is measured too (see `latencies`).
    truth : Marks, Events or annotations
        What was there, movements that are not jerks included where they are known.
    hours_valid : float, optional
        Hours without gaps and ignored spans (see `valid_hours`); false alarms per hour are undefined without.
    labels : sequence of str, optional
        What counts as a jerk on both sides. All other labels are movements.
    tolerances : sequence of float, optional
        Onset tolerances (s) of the counts.
    tolerance : float, optional
        The one of everything else; counted too if it is not in `tolerances`.
    ignore : sequence of (start, end), optional
        Spans (s) in which nothing counts: true events with their onset inside are neither hits nor misses,
        found ones neither hits nor false alarms unless they hit a jerk outside, and a found jerk outside
        that only a true one inside explains is no false alarm. True jerks of which less than `LEAST_VISIBLE`
        is visible are taken as inside. Jerks in a gap of which nothing says so, and jerks before the detector
        has warmed up, are misses.
    name : str, optional
        Of the night, for tables.

    Returns
    -------
    Score

    Raises
    ------
    UsageError
        If an option cannot be meant.
    DataError
        If onsets are not finite.
    """
    if not labels or isinstance(labels, str):
        raise UsageError(f"labels {labels!r} is not a list of labels such as hypnic_jerk, isolated_jerk")
    if hours_valid is not None and not 0 <= hours_valid < math.inf:
        raise UsageError(f"hours_valid {hours_valid!r} is not a number of hours, 0 or more")
    t = Marks.of(truth)
    t_out = inside(t.onset, ignore) | (np.isin(t.label, labels) & (t.visible < LEAST_VISIBLE))
    latency = Latency()
    if isinstance(found, Sequence):
        latency = latencies(found, t[~t_out], labels=labels, tolerance=tolerance)
        found = _as_events(found)
    f = Marks.of(found)
    f_out = inside(f.onset, ignore)
    f_jerks, t_jerks = (np.flatnonzero(np.isin(marks.label, labels)) for marks in (f, t))

    counts = []
    for limit in sorted({*tolerances, tolerance}):
        judged = _judge(f.onset[f_jerks], t.onset[t_jerks], limit, f_out[f_jerks], t_out[t_jerks])
        hits = len(judged[0])
        misses = np.count_nonzero(~t_out[t_jerks]) - hits
        counts.append(Counts(float(limit), hits, len(judged[2]), int(misses)))
        if limit == tolerance:
            i, j, alarms = f_jerks[judged[0]], t_jerks[judged[1]], f_jerks[judged[2]]

    # From here on the tables hold only what counts.
    f_kept = ~f_out
    f_kept[f_jerks] = False
    f_kept[i] = f_kept[alarms] = True
    f_place, t_place = np.cumsum(f_kept) - 1, np.cumsum(~t_out) - 1
    i, j, alarms = f_place[i], t_place[j], f_place[alarms]
    f, t = f[f_kept], t[~t_out]
    error = np.full(len(t), np.nan)
    error[j] = f.onset[i] - t.onset[j]
    all_i, all_j = _partners(f, t, i, j, tolerance)
    return Score(
        labels=tuple(labels),
        tolerance=float(tolerance),
        counts=tuple(counts),
        hours_valid=math.nan if hours_valid is None else float(hours_valid),
        true={
            "onset": t.onset,
            "label": t.label,
            "kind": t.kind,
            "peak_g": t.peak_g,
            "hit": np.isin(np.arange(len(t)), j),
            "error": error,
            "found_label": _named(f.label, all_j, all_i, len(t)),
        },
        found={
            "onset": f.onset,
            "label": f.label,
            "score": f.score,
            "false_alarm": np.isin(np.arange(len(f)), alarms),
            "true_label": _named(t.label, all_i, all_j, len(f)),
            "during": _named(t.kind, *_nearest(f, t, tolerance), len(f)),
            "jerk": _on_jerk(f, t.onset[np.isin(t.label, labels)], tolerance),
        },
        latency=latency,
        name=name,
    )


def _judge(
    found: NDArray[np.float64],
    true: NDArray[np.float64],
    tolerance: float,
    found_out: NDArray[np.bool_],
    true_out: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of both sides of the hits, and of the false alarms; what is "out" does not count."""
    counted = np.flatnonzero(~true_out)
    i, j = match(found, true[counted], tolerance)
    alarm = ~found_out
    alarm[i] = False
    left = np.flatnonzero(alarm)
    excused, _ = match(found[left], true[true_out], tolerance)
    return i, counted[j], np.delete(left, excused)


def _partners(
    f: Marks, t: Marks, i: NDArray[np.intp], j: NDArray[np.intp], tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Add to the pairs (i, j) those of events left over: by onset, then by spans that touch."""
    for a, b in (
        _touching(f.onset, f.onset, t.onset, t.onset, tolerance),
        _touching(f.onset, f.end, t.onset, t.end),
    ):
        free = ~np.isin(a, i) & ~np.isin(b, j)
        a, b = a[free], b[free]
        more_i, more_j = _assign(a, b, np.abs(f.onset[a] - t.onset[b]), len(t))
        i, j = np.append(i, more_i), np.append(j, more_j)
    return i, j


def _nearest(f: Marks, t: Marks, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair each found event with that true event, among those it coincides with, whose onset is nearest."""
    i, j = _touching(f.onset, f.end, t.onset, t.end, tolerance)
    order = np.lexsort((np.abs(f.onset[i] - t.onset[j]), i))
    i, first = np.unique(i[order], return_index=True)
    return i, j[order][first]


def _named(
    names: NDArray[np.str_], here: NDArray[np.intp], there: NDArray[np.intp], n: int
) -> NDArray[np.str_]:
    """Return for each of `n` events the name of its partner, or "none"."""
    partner = np.full(n, len(names))
    partner[here] = there
    named: NDArray[np.str_] = np.append(names, NONE)[partner]
    return named


def _on_jerk(f: Marks, jerks: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Tell which scored events are on a true jerk, one each, the highest scores first."""
    scored = np.flatnonzero(np.isfinite(f.score))
    i, _ = match(f.onset[scored], jerks, tolerance, priority=f.score[scored])
    return np.isin(np.arange(len(f)), scored[i])


def combine(scores: Sequence[Score], *, draws: int = 2000, seed: int = 0) -> Score:
    """Pool nights into one score with 95 % intervals.

    Parameters
    ----------
    scores : sequence of Score
        Of single nights, or combined ones, whose nights are then taken.
    draws : int, optional
        Bootstrap resamples of nights.
    seed : int, optional
        Of the resampling: the same nights give the same intervals.

    Returns
    -------
    Score
        Events, counts and hours of all nights together; figures are ratios of sums, so that a night counts
        by its events and hours. `intervals` holds the 2.5th and 97.5th percentile over resampled nights, and
        is empty for a single night. Few nights make such intervals too narrow; nights of one person are taken
        as independent, which makes them narrower still.

    Raises
    ------
    UsageError
        If there are no scores, or they differ in labels or tolerances.
    """
    nights = tuple(night for given in scores for night in (given.nights or (given,)))
    if not nights:
        raise UsageError("no scores to combine: give at least one")
    asked = {(night.labels, night.tolerance, tuple(c.tolerance for c in night.counts)) for night in nights}
    if len(asked) > 1:
        raise UsageError("scores with different labels or tolerances cannot be combined")
    first = nights[0]
    return replace(
        first,
        counts=tuple(
            Counts(c[0].tolerance, sum(n.tp for n in c), sum(n.fp for n in c), sum(n.fn for n in c))
            for c in zip(*(night.counts for night in nights), strict=True)
        ),
        hours_valid=sum(night.hours_valid for night in nights),
        true={column: np.concatenate([night.true[column] for night in nights]) for column in first.true},
        found={column: np.concatenate([night.found[column] for night in nights]) for column in first.found},
        latency=Latency(
            np.concatenate([night.latency.provisional for night in nights]),
            np.concatenate([night.latency.final for night in nights]),
        ),
        name=first.name if len(nights) == 1 else "",
        nights=nights if len(nights) > 1 else (),
        intervals=_bootstrap(nights, draws, seed) if len(nights) > 1 else {},
    )


def _bootstrap(nights: Sequence[Score], draws: int, seed: int) -> dict[str, tuple[float, float]]:
    sums = [night._sums() for night in nights]
    n = len(nights)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    intervals = {}
    for name in sums[0]:
        part, whole = (weights @ np.array([night[name] for night in sums], np.float64)).T
        values = part[whole > 0] / whole[whole > 0]
        intervals[name] = (_percentile(values, 2.5), _percentile(values, 97.5))
    return intervals


# Reports


def score_files(
    found: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    hours_valid: float | None = None,
    ignore: Spans = (),
    name: str | None = None,
    **options: Any,
) -> Score:
    """Score the events in one file against those in another.

    Parameters
    ----------
    found, truth : path-like
        Anything that `load` reads. A night can be both: its events against its annotations.
    hours_valid : float, optional
        By default from the HDF5 file among the two (the truth's first), without its gaps, what is damaged or
        annotated as a fault, and the ignored spans. Without either, false alarms per hour are left undefined.
    ignore : sequence of (start, end), optional
        As for `score`.
    name : str, optional
        Of the night; by default the name of the found file.
    **options
        The others of `score`.

    Raises
    ------
    UsageError
        If an option cannot be meant.
    DataError
        If a file cannot be read as events.
    OSError
        If a file cannot be opened.
    """
    marks = load(found, "found"), load(truth, "truth")
    if hours_valid is None:
        hours_valid = recorded_hours(truth, ignore)
    if hours_valid is None:
        hours_valid = recorded_hours(found, ignore)
    given = Path(found).name if name is None else name
    return score(*marks, hours_valid=hours_valid, ignore=ignore, name=given, **options)


def report(
    found_paths: Sequence[str | os.PathLike[str]],
    truth_paths: Sequence[str | os.PathLike[str]],
    *,
    hours_valid: Sequence[float] | None = None,
    labels: Sequence[str] = JERKS,
    tolerances: Sequence[float] = TOLERANCES,
    ignore: Sequence[Spans] | None = None,
    fmt: Literal["markdown", "json"] = "markdown",
    seed: int = 0,
) -> str:
    """Score files against files and return the result as text.

    Parameters
    ----------
    found_paths, truth_paths : sequence of path-like
        One file each per night, in the same order; anything that `load` reads.
    hours_valid : sequence of float, optional
        Per night, as for `score_files`.
    labels, tolerances : sequence, optional
        As for `score`.
    ignore : sequence of sequences of (start, end), optional
        Per night, as for `score`.
    fmt : {"markdown", "json"}, optional
        Markdown that also reads as plain text, or the values of `Score.to_dict`.
    seed : int, optional
        Of the bootstrap over nights.

    Raises
    ------
    UsageError
        If the numbers of files, hours and ignored spans differ, or the format is unknown.
    DataError
        If a file cannot be read as events. One bad file stops the report: a score over fewer nights would
        look like the one asked for.
    OSError
        If a file cannot be opened.
    """
    if fmt not in ("markdown", "json"):
        raise UsageError(f"format {fmt!r} is unknown: use markdown or json")
    nights = len(found_paths)
    if not nights or len(truth_paths) != nights:
        raise UsageError(f"{nights} found and {len(truth_paths)} truth files: give one truth for each found")
    for name, given in (("hours_valid", hours_valid), ("ignore", ignore)):
        if given is not None and len(given) != nights:
            raise UsageError(f"{name} has {len(given)} entries for {nights} nights: give one for each")
    scores = [
        score_files(
            found,
            truth,
            hours_valid=hours_valid[n] if hours_valid else None,
            labels=labels,
            tolerances=tolerances,
            ignore=ignore[n] if ignore else (),
        )
        for n, (found, truth) in enumerate(zip(found_paths, truth_paths, strict=True))
    ]
    total = combine(scores, seed=seed)
    return json.dumps(total.to_dict(), indent=1) + "\n" if fmt == "json" else total.table()


def _sections(result: Score) -> Iterator[Section]:
    def section(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Section:
        return Section(list(header), [[str(cell) for cell in row] for row in rows])

    def figure(name: str) -> str:
        return _number_text(result.figures[name]) + _interval_text(result.intervals.get(name))

    yield section(
        ["tolerance (s)", "hits", "false alarms", "misses", "precision", "recall", "F1"],
        [
            [f"{c.tolerance:g}", c.tp, c.fp, c.fn]
            + [figure(f"{share}@{c.tolerance:g}") for share in ("precision", "recall", "f1")]
            for c in result.counts
        ],
    )
    error = {name: _number_text(seconds, 3) for name, seconds in result.onset_error().items()}
    delays = {
        f"{name} row after the jerk's end: median, 95 %, max (s)": [s["median"], s["p95"], s["max"]]
        for name, s in result.latency.summary().items()
        if s["n"]
    }
    yield section(
        [f"at {result.tolerance:g} s", ""],
        [
            ["valid hours", _number_text(result.hours_valid)],
            ["false alarms per valid hour", figure("false_alarms_per_hour")],
            ["true movements that are not jerks", result.movements],
            ["false alarms per true movement", figure("false_alarms_per_movement")],
            ["hits with the right jerk label", figure("label_accuracy")],
            ["onset error: median size (s)", error["median"]],
            ["onset error: mean, 5 %, 95 % (s)", f"{error['mean']}, {error['p05']}, {error['p95']}"],
            ["score: area under ROC", _number_text(result.roc_auc)],
            ["score: average precision", _number_text(result.average_precision)],
            *([name, ", ".join(map(_number_text, seconds))] for name, seconds in delays.items()),
        ],
    )
    confusion = result.confusion()
    labels = list(next(iter(confusion.values()), {}))
    yield section(
        ["true \\ found", *labels], [[label, *cells.values()] for label, cells in confusion.items()]
    )
    yield section(
        ["false alarms during", "false alarms", "such events"],
        [[kind, n, "" if kind == NONE else of] for kind, (n, of) in result.coincidences().items()],
    )
    yield section(
        ["true peak (g)", "true jerks", "found", "share"],
        [
            [_bin_text(b), b["true"], b["found"], _number_text(b["probability"])]
            for b in result.detection_by_peak()
        ],
    )
    yield section(
        ["score at least", "on a jerk", "on none", "precision", "recall", "false positive rate"],
        [
            [f"{p['score']:g}", p["tp"], p["fp"]]
            + [_number_text(p[share]) for share in ("precision", "recall", "fpr")]
            for p in result.at_scores()
        ],
    )
    yield section(
        ["score", "found events", "mean score", "share on a true jerk"],
        [
            [_bin_text(b), b["n"], _number_text(b["score"]), _number_text(b["jerks"])]
            for b in result.reliability()
        ],
    )
    yield section(
        ["night", "hits", "false alarms", "misses", "precision", "recall", "false alarms per hour"],
        [
            [night.name, c.tp, c.fp, c.fn]
            + [_number_text(x) for x in (c.precision, c.recall, night.figures["false_alarms_per_hour"])]
            for night in result.nights
            for c in [night.at(night.tolerance)]
        ],
    )


def _bin_text(row: dict[str, float]) -> str:
    return f"{row['low']:g} to {row['high']:g}"


def _number_text(value: float, decimals: int = 2) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def _interval_text(limits: tuple[float, float] | None) -> str:
    if limits is None or not math.isfinite(limits[0]):
        return ""
    return f" ({_number_text(limits[0])}–{_number_text(limits[1])})"


def _markdown(section: Section) -> str:
    cells = [[cell.replace("|", "/") for cell in row] for row in (section.header, *section.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(f"| {line} |" for line in lines)
