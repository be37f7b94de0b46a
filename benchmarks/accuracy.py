"""How well hypnic finds jerks on simulated nights, next to what people would otherwise use.

    python benchmarks/accuracy.py          # writes ACCURACY.md, accuracy.json and accuracy.png here
    python benchmarks/accuracy.py --quick  # fewer conditions, printed

A condition is a site, a rate, a sensor and whether there are faults. Every condition has nights of its own,
of the population ``heldout``, with seeds from 800 000 up: neither the seeds nor any value of a continuous
parameter occurred while hypnic was tuned (population ``tuning``, seeds below 100 000).

hypnic runs as it is. Each peer (`peers.PEERS`) runs in each condition with the threshold and limit that give
it the best F1 there, chosen with the truth of the very nights that are scored.

Simulated sleepers only, by a mechanical model that was assumed: nothing here was measured on people.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers import PEERS, Peer, band_norm

import hypnic
from hypnic import layout as at
from hypnic.detector import Detector, event_rows
from hypnic.events import JERKS, LABELS, Events
from hypnic.model import load_model
from hypnic.scoring import LEAST_VISIBLE, NONE, TOLERANCE, Marks, Score, combine, match, score, valid_hours
from hypnic.settings import Settings
from hypnic.simulate import SENSORS, Sleeper
from hypnic.simulate.population import DISTRIBUTIONS, STRATA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SITES = ("wrist", "mattress")
HOURS = 8.0
FIRST_SEED = 1_200_000
SEEDS_EACH, SEEDS_QUICK = 100, 20
"""Seeds set aside for each condition, and how many of them, the first, are for quick runs: nights looked at
while hypnic is built are not scored in the end."""

RATES = (25.0, 32.0, 50.0, 100.0, 200.0)
NAMED_SENSORS = ("MPU6050", "ADXL345", "LSM6DSOX", "ADXL355", "E4")
BLIND = ("mattress", "E4")
"""Steps of 1/64 g hide most jerks of 4 to 100 mg: these nights are listed apart."""

HYPNIC, FIRST_ROWS = "hypnic", "hypnic, provisional rows"
LOOKALIKES = ("partner_twitch", "startle", "myoclonus")
"""Kinds that are jerks by physics but not by truth."""

LOUD = {"wrist": 0.05, "mattress": 0.015}
"""Peaks (g) from which a jerk is called loud."""

DRAWS = 2000


class Condition(NamedTuple):
    """What the nights of one condition share."""

    site: str
    rate: float
    sensor: str
    faults: bool

    @property
    def number(self) -> int:
        """Place among all conditions, which decides the seeds."""
        return list(product(SITES, RATES, NAMED_SENSORS, (False, True))).index(self)

    def seeds(self, nights: int, quick: bool) -> range:
        """Return the seeds of its nights."""
        first = FIRST_SEED + SEEDS_EACH * self.number + (0 if quick else SEEDS_QUICK)
        return range(first, first + nights)

    @property
    def blind(self) -> bool:
        """Whether the sensor is too coarse for the site."""
        return (self.site, self.sensor) == BLIND


class Outcome(NamedTuple):
    """What one condition gave: scores of each night, by detector, and what was chosen for each peer."""

    condition: Condition
    seeds: range
    scores: dict[str, list[Score]]
    chosen: dict[str, dict[str, Any]]


class Night(NamedTuple):
    """One night: what to score against, hypnic's scores, and the norm that the peers get."""

    truth: Marks
    hours: float
    ignore: list[tuple[float, float]]
    hypnic: dict[str, Score]
    norm: Array

    def score(self, found: Events | Marks | list[tuple[float, np.void]]) -> Score:
        """Score what was found in it."""
        return score(found, self.truth, hours_valid=self.hours, ignore=self.ignore)


# One condition


def simulate(condition: Condition, seed: int) -> Night:
    """Simulate one night and run hypnic on it."""
    site, rate, sensor, faults = condition
    sleeper = Sleeper(site, HOURS, rate, seed, sensor=sensor, faults=faults, population="heldout")
    detector = Detector(rate, site)
    xyz = np.full((sleeper.samples, 3), np.nan, np.float32)
    parts = []
    for chunk in sleeper:
        xyz[chunk.index : chunk.index + len(chunk)] = chunk.xyz
        detector.gap(chunk.missing)
        parts.append(detector.push_rows(chunk.xyz))
    parts.append(detector.flush_rows())
    rows = np.concatenate(parts)
    table = event_rows(rows, rate)
    lost = [(float(s["onset"]), float(s["onset"] + s["duration"])) for s in sleeper.fault_spans]
    hidden = sleeper.truth[
        np.isin(sleeper.truth["label"], JERKS) & (sleeper.truth["visible"] < LEAST_VISIBLE)
    ]
    night = Night(
        Marks.of(sleeper.truth),
        valid_hours(sleeper.samples / rate, lost),
        [(onset, onset) for onset in hidden["onset"].tolist()],
        {},
        band_norm(xyz, rate),
    )
    emitted = (rows[:, at.R_EMITTED] / rate).tolist()
    night.hypnic[HYPNIC] = night.score(list(zip(emitted, table, strict=True)))
    night.hypnic[FIRST_ROWS] = night.score(Events(table[table["revision"] == 0]))
    return night


def tuned(peer: Peer, nights: Sequence[Night], rate: float, site: str) -> tuple[list[Score], dict[str, Any]]:
    """Score a peer at the threshold and limit that give it the best F1 over these nights."""
    findings = [peer.find(night.norm, rate, site) for night in nights]
    f1 = {}
    for choice in findings[0]:
        hits = reported = true = 0
        for night, found in zip(nights, findings, strict=True):
            jerks = night.truth.onset[np.isin(night.truth.label, JERKS)]
            counted = np.setdiff1d(jerks, [start for start, _ in night.ignore])
            onsets = found[choice][0]
            paired = len(match(onsets, counted, TOLERANCE)[0])
            excused = len(match(onsets, jerks, TOLERANCE)[0]) - paired
            hits, reported, true = hits + paired, reported + len(onsets) - excused, true + len(counted)
        f1[choice] = 2 * hits / (reported + true) if reported + true else 0.0
    threshold, limit = best = max(f1, key=f1.__getitem__)
    thresholds = peer.thresholds(site)
    chosen = {
        "threshold": threshold,
        peer.limit_name: limit if math.isfinite(limit) else None,
        "at_end_of_grid": threshold in (thresholds[0], thresholds[-1]),
    }
    return [
        night.score(as_marks(*found[best])) for night, found in zip(nights, findings, strict=True)
    ], chosen


def as_marks(onset: Array, duration: Array) -> Marks:
    """Return a peer's findings as jerks."""
    names, unknown = np.full(len(onset), JERKS[0]), np.full(len(onset), np.nan)
    return Marks(onset, duration, names, names, unknown, unknown)


def run(task: tuple[Condition, range]) -> Outcome:
    """Simulate and score the nights of one condition."""
    condition, seeds = task
    nights = [simulate(condition, seed) for seed in seeds]
    scores = {name: [night.hypnic[name] for night in nights] for name in (HYPNIC, FIRST_ROWS)}
    chosen = {}
    for peer in PEERS:
        scores[peer.name], chosen[peer.name] = tuned(peer, nights, condition.rate, condition.site)
    return Outcome(condition, seeds, scores, chosen)


# Figures over nights


class Ratio(NamedTuple):
    """A sum over a sum with its 95 % bootstrap interval over nights."""

    value: float
    low: float
    high: float

    def text(self, decimals: int = 2) -> str:
        """Return value and interval."""
        if not math.isfinite(self.value):
            return "–"
        return f"{self.value:.{decimals}f} ({self.low:.{decimals}f}–{self.high:.{decimals}f})"


def ratio(pairs: Iterable[tuple[float, float]]) -> Ratio:
    """Return the ratio of one part and one whole for each night, summed over nights."""
    table = np.array(list(pairs), float)
    nights = len(table)
    weights = np.random.default_rng(0).multinomial(nights, np.full(nights, 1 / nights), size=DRAWS)
    part, whole = table.sum(0)
    if not whole:
        return Ratio(math.nan, math.nan, math.nan)
    drawn = weights @ table
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
    return Ratio(float(part / whole), float(low), float(high))


def without_lookalikes(night: Score) -> tuple[float, float]:
    """Return both sides of F1 where false alarms during look-alikes do not count."""
    counts, during = night.at(TOLERANCE), night.coincidences()
    alarms = counts.fp - sum(during[kind][0] for kind in LOOKALIKES if kind in during)
    return 2 * counts.tp, 2 * counts.tp + alarms + counts.fn


def loud_recall(night: Score, least: float) -> tuple[float, float]:
    """Return how many jerks of at least `least` g were found, and how many there are."""
    loud = np.isin(night.true["label"], JERKS) & (night.true["peak_g"] >= least)
    return int((loud & night.true["hit"]).sum()), int(loud.sum())


def figures(detector: str, scores: Sequence[Score], site: str) -> dict[str, Any]:
    """Return everything that is said of one detector over some nights."""
    pooled = combine(scores, draws=DRAWS)
    counts = pooled.at(TOLERANCE)

    def named(name: str) -> Ratio:
        return Ratio(pooled.figures[name], *pooled.intervals.get(name, (math.nan, math.nan)))

    return {
        "nights": len(scores),
        "hours": pooled.hours_valid,
        "jerks": counts.tp + counts.fn,
        "hits": counts.tp,
        "false_alarms": counts.fp,
        "f1": named("f1@0.5"),
        "precision": named("precision@0.5"),
        "recall": named("recall@0.5"),
        "false_alarms_per_hour": named("false_alarms_per_hour"),
        "f1_lookalikes_ignored": ratio(map(without_lookalikes, scores)),
        "recall_loud": ratio(loud_recall(night, LOUD[site]) for night in scores),
        "onset_error_s": pooled.onset_error(),
        # A peer knows one label and has no rows, whose figures these two would be.
        **({"label_accuracy": named("label_accuracy")} if detector in (HYPNIC, FIRST_ROWS) else {}),
        **({"latency_s": pooled.latency.summary()} if detector == HYPNIC else {}),
    }


class Group(NamedTuple):
    """Some conditions of one site that are looked at together."""

    site: str
    title: str
    outcomes: list[Outcome]

    def scores(self, detector: str) -> list[Score]:
        """Return the scores of all its nights."""
        return [night for outcome in self.outcomes for night in outcome.scores[detector]]

    def compared(self) -> dict[str, Any]:
        """Return the figures of every detector, and which peer has the best F1."""
        detectors = {name: figures(name, self.scores(name), self.site) for name in self.outcomes[0].scores}
        best = max((peer.name for peer in PEERS), key=lambda name: detectors[name]["f1"].value)
        return {"site": self.site, "conditions": self.title, "best_peer": best, "detectors": detectors}


def grouped(outcomes: Sequence[Outcome]) -> list[Group]:
    """Return the groups of the tables: a site's conditions together, by rate, sensor and faults."""
    groups = []
    for site in SITES:
        seen = [o for o in outcomes if o.condition.site == site and not o.condition.blind]
        parts: dict[str, list[Outcome]] = {"all": seen}
        for rate in RATES:
            parts[f"{rate:g} Hz"] = [o for o in seen if o.condition.rate == rate]
        for sensor in NAMED_SENSORS:
            parts[sensor] = [o for o in seen if o.condition.sensor == sensor]
        for faults, title in ((False, "without faults"), (True, "with faults")):
            parts[title] = [o for o in seen if o.condition.faults == faults]
        parts["E4, apart"] = [o for o in outcomes if o.condition.site == site and o.condition.blind]
        groups += [Group(site, title, part) for title, part in parts.items() if part]
    return groups


def by_peak(scores: Sequence[Score], site: str) -> list[dict[str, Any]]:
    """Return the share of jerks found, as jerks and under any label, in bins of their true peak.

    The held-out population draws peaks from four separate ranges: each is cut into two bins. ``low``,
    ``median`` and ``high`` (g) are of the peaks that occurred.
    """
    drawn = DISTRIBUTIONS[f"jerk.peak.{site}"]
    inner = [drawn.at((k + half) / STRATA) for k in range(1, STRATA, 2) for half in (0.0, 0.5)][1:]
    edges = [0.0, *inner, math.inf]
    peaks, counts = [], []
    for night in scores:
        jerk = np.isin(night.true["label"], JERKS)
        peak = night.true["peak_g"]
        kinds = (jerk, jerk & night.true["hit"], jerk & (night.true["found_label"] != NONE))
        counts.append([np.histogram(peak[kind], edges)[0] for kind in kinds])
        peaks.append(peak[jerk])
    table, pooled = np.array(counts, float), np.concatenate(peaks)
    bins = []
    for k, (low, high) in enumerate(pairwise(edges)):
        here = pooled[(pooled >= low) & (pooled < high)]
        if len(here):
            ends = dict(
                zip(("low", "median", "high"), np.percentile(here, (0, 50, 100)).tolist(), strict=True)
            )
            shares = {"as_jerk": ratio(table[:, (1, 0), k]), "any_label": ratio(table[:, (2, 0), k])}
            bins.append({**ends, "jerks": len(here), **shares})
    return bins


# The page


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number as text, a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table that also reads as plain text."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(f"| {line} |" for line in lines)


def compared_table(compared: Sequence[dict[str, Any]]) -> str:
    rows = []
    for group in compared:
        ours, peer = group["detectors"][HYPNIC], group["detectors"][group["best_peer"]]
        rows.append(
            [group["site"], group["conditions"], ours["nights"], ours["jerks"], ours["f1"].text()]
            + [ours[name].text() for name in ("precision", "recall", "false_alarms_per_hour")]
            + [ours["f1_lookalikes_ignored"].text(), group["best_peer"], peer["f1"].text()]
        )
    return markdown(
        [
            *("site", "conditions", "nights", "jerks", "F1", "precision", "recall", "false alarms per hour"),
            *("F1, look-alikes ignored", "best peer", "its F1"),
        ],
        rows,
    )


def detectors_table(compared: Sequence[dict[str, Any]]) -> str:
    rows = [
        [group["site"], name]
        + [f[key].text() for key in ("f1", "precision", "recall", "false_alarms_per_hour")]
        + [f["f1_lookalikes_ignored"].text(), f["recall_loud"].text()]
        for group in compared
        if group["conditions"] == "all"
        for name, f in group["detectors"].items()
    ]
    return markdown(
        [
            *("site", "detector", "F1", "precision", "recall", "false alarms per hour"),
            *("F1, look-alikes ignored", "recall of loud jerks"),
        ],
        rows,
    )


def details_table(compared: Sequence[dict[str, Any]]) -> str:
    rows = []
    for group in compared:
        f = group["detectors"][HYPNIC]
        early, final = f["latency_s"]["provisional"], f["latency_s"]["final"]
        rows.append(
            [group["site"], group["conditions"], f["recall_loud"].text(), f["label_accuracy"].text()]
            + [number(f["onset_error_s"]["median"], 3)]
            + [f"{number(delay['median'])}, {number(delay['p95'])}" for delay in (early, final)]
        )
    return markdown(
        [
            *("site", "conditions", "recall of loud jerks", "hypnic or isolated, right"),
            *("onset error (s), median", "provisional row (s): median, 95 %", "final row (s): median, 95 %"),
        ],
        rows,
    )


def alarms_table(pooled: dict[str, Score]) -> str:
    rows = []
    for site, result in pooled.items():
        total = result.at(TOLERANCE).fp
        for kind, (alarms, events) in result.coincidences().items():
            if alarms:
                name = f"{kind} *" if kind in LOOKALIKES else kind
                share = f"{alarms / total:.0%}"
                rows.append([site, name, alarms, share, "" if kind == NONE else events])
    return markdown(["site", "true kind", "false alarms", "of all", "such events"], rows)


def misses_table(pooled: dict[str, Score]) -> str:
    rows = []
    for site, result in pooled.items():
        jerk = np.isin(result.true["label"], JERKS)
        loud = result.true["peak_g"] >= LOUD[site]
        missed = jerk & ~result.true["hit"]
        quiet = Counter(result.true["found_label"][missed & ~loud].tolist())
        strong = Counter(result.true["found_label"][missed & loud].tolist())
        for label in (*LABELS, NONE):
            if quiet[label] or strong[label]:
                rows.append([site, "nothing" if label == NONE else label, strong[label], quiet[label]])
    return markdown(["site", "a missed jerk was taken for", "loud jerks", "others"], rows)


def peaks_table(peaks: dict[str, list[dict[str, Any]]]) -> str:
    rows = [
        [site, f"{1000 * b['low']:.3g} to {1000 * b['high']:.3g}", b["jerks"]]
        + [b[name].text() for name in ("as_jerk", "any_label")]
        for site, bins in peaks.items()
        for b in bins
    ]
    return markdown(["site", "true peak (mg)", "jerks", "found as a jerk", "found under any label"], rows)


def reliability_table(pooled: dict[str, Score]) -> str:
    rows = [
        [site, f"{b['low']:.1f} to {b['high']:.1f}", b["n"], number(b["score"]), number(b["jerks"])]
        for site, result in pooled.items()
        for b in result.reliability()
    ]
    return markdown(["site", "score", "events", "mean score", "share on a true jerk"], rows)


def labels_table(pooled: dict[str, Score]) -> str:
    rows = []
    for label in LABELS:
        row: list[Any] = [label]
        for result in pooled.values():
            for side in (result.found, result.true):
                row.append(number(int((side["label"] == label).sum()) / result.hours_valid))
        rows.append(row)
    return markdown(["label", *(f"{site}, {side}" for site in pooled for side in ("found", "true"))], rows)


def tuning_text() -> str:
    """Return what the scores of both presets were fitted to, as their files say."""
    lines = []
    for site in SITES:
        preset = Settings.preset(site).name
        made = load_model(preset).provenance
        lines.append(
            f"{preset}: {made.get('nights', '?')} nights, seeds {made.get('seeds', 'not recorded')}, "
            f"{made.get('data', 'data not recorded')}"
        )
    return "; ".join(lines)


PAGE = """\
# Accuracy on simulated nights

Simulated sleepers, by an assumed mechanical model: these figures say how hypnic does on the simulation, not
on people. Made by `{command}` with hypnic {version} and NumPy {numpy}.

- **Scored nights:** {total} of {hours:g} h, {nights} in each of {conditions} conditions:
  {sites}; {rates} Hz; {sensors};
  without and with faults. Population `heldout`, the odd eighths of every continuous parameter's
  distribution; seeds {first} to {last}. Each condition has {each} seeds of its own, of which the first
  {aside} are for quick runs while hypnic is built and the others for full runs.
- **Tuned on:** population `tuning`, the even eighths; seeds below 100 000.
  {tuned}.
  Two numbers were looked at on held-out parameters too (160 nights with seeds from 1 100 000, none of those
  scored): the 10 s of quiet after which a person settles, and the log odds of 1 that past movement needs to open
  an onset window again, which was **chosen** there. They touch "hypnic or isolated, right" and nothing else, and
  that column is not wholly held out.
- **A hit:** an event labelled hypnic_jerk or isolated_jerk within ±{tolerance:g} s of a true jerk's onset,
  one to one. Jerks of which the sensor delivered less than {visible:.0%} count neither way.
- **Intervals:** 95 %, bootstrap over nights.
- **Peers:** hypnic's own band, gaps filled by straight lines; a threshold and a limit on the length or
  distance of events, **both chosen in every single condition for the best F1, with the truth of the scored
  nights**, which nobody has in practice. {ended} of {choices} choices lie at an end of the grid of
  thresholds. The best peer of a row is chosen with the truth too. hypnic runs with its presets throughout.
- **Look-alikes:** {lookalikes} are jerks by physics but not by the truth.
  Columns that ignore them leave out false alarms during such events, for every detector alike.
- **Loud jerks:** peaks of at least {loud}.
- **E4** stands for any sensor with steps of 1/64 g (15.6 mg). On a mattress, where jerks are taken to be 4 to
  100 mg, such steps hide most of them: these nights are listed apart and are in no other row.

![Detection probability and F1](accuracy.png)

## hypnic and the best peer

{compared_table}

## Every detector, all conditions of a site

{detectors_table}

Provisional rows are all that a live listener has when an event ends; everything else here judges the last row
of each event.

## hypnic in detail

{details_table}

Rows: from the end of the true jerk (95 % of its energy) to the sample that brought the row out.

## What hypnic's false alarms are

{alarms_table}

\\* look-alikes. A jerk's own kind here means a second detection of it or one beyond the tolerance; none means
no true event at all. Several false alarms may belong to one event.

## What missed jerks were taken for

{misses_table}

## Detection probability against peak

{peaks_table}

## Reliability of the score

{reliability_table}

Events of all labels. Where the score is a probability the last two columns agree.

## Labels per valid hour

{labels_table}
"""


def page(
    outcomes: Sequence[Outcome],
    compared: Sequence[dict[str, Any]],
    pooled: dict[str, Score],
    peaks: dict[str, list[dict[str, Any]]],
    quick: bool,
) -> str:
    """Return the whole page as Markdown."""
    conditions = [outcome.condition for outcome in outcomes]
    seeds = [seed for outcome in outcomes for seed in outcome.seeds]
    chosen = [choice for outcome in outcomes for choice in outcome.chosen.values()]
    return PAGE.format(
        command=f"python benchmarks/accuracy.py{' --quick' if quick else ''} --nights {len(outcomes[0].seeds)}",
        version=hypnic.__version__,
        numpy=np.__version__,
        total=len(seeds),
        hours=HOURS,
        nights=len(outcomes[0].seeds),
        conditions=len(conditions),
        sites=", ".join(SITES),
        rates=", ".join(f"{rate:g}" for rate in sorted({c.rate for c in conditions})),
        sensors=", ".join(dict.fromkeys(c.sensor for c in conditions)),
        first=min(seeds),
        last=max(seeds),
        each=SEEDS_EACH,
        aside=SEEDS_QUICK,
        tuned=tuning_text(),
        tolerance=TOLERANCE,
        visible=LEAST_VISIBLE,
        ended=sum(choice["at_end_of_grid"] for choice in chosen),
        choices=len(chosen),
        lookalikes=", ".join(LOOKALIKES),
        loud=", ".join(f"{1000 * least:g} mg ({site})" for site, least in LOUD.items()),
        compared_table=compared_table(compared),
        detectors_table=detectors_table(compared),
        details_table=details_table(compared),
        alarms_table=alarms_table(pooled),
        misses_table=misses_table(pooled),
        peaks_table=peaks_table(peaks),
        reliability_table=reliability_table(pooled),
        labels_table=labels_table(pooled),
    )


# The figure

OURS, THEIRS, COARSE = "#1f5fa8", "#c8641c", "#7a7a7a"
LEGEND: dict[str, Any] = {
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "borderaxespad": 0.1,
    "ncols": 2,
    "fontsize": 8,
    "frameon": False,
}


def draw(compared: Sequence[dict[str, Any]], groups: Sequence[Group], path: Path) -> None:
    """Draw detection probability against peak for both sites, and F1 by condition."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = len(compared)
    figure, axes = plt.subplot_mosaic(
        [["wrist", "f1"], ["mattress", "f1"]], figsize=(12.5, 4.0 + 0.18 * rows), layout="constrained"
    )
    for site in SITES:
        draw_detection(axes[site], site, groups)
    axis = axes["f1"]
    places = -np.arange(rows) - [0.8 * (g["site"] != SITES[0]) for g in compared]
    for group, place in zip(compared, places, strict=True):
        for name, colour, label in (
            (HYPNIC, OURS, "hypnic"),
            (group["best_peer"], THEIRS, "best peer, tuned on the truth"),
        ):
            f1 = group["detectors"][name]["f1"]
            axis.plot([f1.low, f1.high], [place, place], color=colour, lw=2, solid_capstyle="round")
            axis.plot(f1.value, place, "o", color=colour, ms=5, label=label if group is compared[0] else None)
    axis.set_yticks(places, [f"{g['site']}, {g['conditions']}" for g in compared])
    axis.set(xlim=(0, 1), xlabel="F1 at ±0.5 s, 95 % interval over nights")
    axis.set_title("F1 by condition", loc="left", pad=30, fontsize=11)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(**LEGEND)
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Simulated nights, held out from tuning", fontsize=12)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_detection(axis: Axes, site: str, groups: Sequence[Group]) -> None:
    """Draw the share of jerks found against their peak, sensors with coarse steps apart."""
    outcomes = [o for group in groups if group.site == site for o in group.outcomes]
    for coarse, colour, name in ((False, OURS, "fine steps"), (True, COARSE, "1/64 g steps")):
        picked = {o.condition: o for o in outcomes if (o.condition.sensor == "E4") == coarse}
        if not picked:
            continue
        bins = by_peak([night for o in picked.values() for night in o.scores[HYPNIC]], site)
        middle = [1000 * b["median"] for b in bins]
        found, low, high = np.array([b["as_jerk"] for b in bins]).T
        axis.fill_between(middle, low, high, color=colour, alpha=0.2, lw=0)
        axis.plot(middle, found, "o-", color=colour, ms=4, label=f"{name}: as a jerk")
        seen = [b["any_label"].value for b in bins]
        axis.plot(middle, seen, "--", color=colour, lw=1.2, label=f"{name}: under any label")
    axis.axvline(1000 * LOUD[site], color="#bbbbbb", lw=1, zorder=0)
    axis.set(xscale="log", ylim=(0, 1.02), xlabel="true peak (mg)", ylabel="share found")
    axis.set_title(f"hypnic, {site}", loc="left", pad=30, fontsize=11)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(alpha=0.3)
    axis.legend(**LEGEND)


# The command


def plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, Ratio):
        return {"value": plain(value.value), "low": plain(value.low), "high": plain(value.high)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value


def cells(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the F1 of every detector in every condition, with what was chosen for the peers."""
    return [
        outcome.condition._asdict()
        | {
            "seeds": list(outcome.seeds),
            "f1": {
                name: combine(scores, draws=1).figures["f1@0.5"] for name, scores in outcome.scores.items()
            },
            "chosen": outcome.chosen,
        }
        for outcome in outcomes
    ]


def main() -> None:
    """Simulate, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer conditions; write only with --out")
    parser.add_argument("--nights", type=int, help="in each condition (default: 3, quick 2)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, help="folder to write to (default: beside this file)")
    options = parser.parse_args()
    nights = (2 if options.quick else 3) if options.nights is None else options.nights
    most = SEEDS_QUICK if options.quick else SEEDS_EACH - SEEDS_QUICK
    if not 1 <= nights <= most:
        parser.error(f"--nights {nights} is not from 1 to {most}")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} is below 1")
    rates = (32.0, 100.0) if options.quick else RATES
    sensors = ("MPU6050", "LSM6DSOX", "E4") if options.quick else NAMED_SENSORS
    conditions = [Condition(*values) for values in product(SITES, rates, sensors, (False, True))]
    # The longest first, so that no process is left alone with one at the end.
    tasks = [(c, c.seeds(nights, options.quick)) for c in sorted(conditions, key=lambda c: -c.rate)]
    outcomes = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, outcome in enumerate(pool.map(run, tasks), 1):
            outcomes.append(outcome)
            print(f"\r{done} of {len(tasks)} conditions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    outcomes.sort(key=lambda outcome: outcome.condition.number)

    groups = grouped(outcomes)
    compared = [group.compared() for group in groups]
    overall = {group.site: group.scores(HYPNIC) for group in groups if group.title == "all"}
    pooled = {site: combine(scores, draws=1) for site, scores in overall.items()}
    peaks = {site: by_peak(scores, site) for site, scores in overall.items()}
    text = page(outcomes, compared, pooled, peaks, options.quick)
    print(text)
    out = options.out or (None if options.quick else Path(__file__).parent)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "ACCURACY.md").write_text(text, encoding="utf-8")
    result = {
        "made_by": "benchmarks/accuracy.py",
        "hypnic_version": hypnic.__version__,
        "data": "simulated nights, population heldout; no human data",
        "tuned_on": tuning_text(),
        "sensor_steps_g": {name: SENSORS[name].step for name in sensors},
        "groups": compared,
        "sites": {
            site: {k: v for k, v in s.to_dict().items() if k != "nights"} for site, s in pooled.items()
        },
        "detection_by_peak_g": peaks,
        "conditions": cells(outcomes),
    }
    (out / "accuracy.json").write_text(json.dumps(plain(result), indent=1) + "\n", encoding="utf-8")
    draw(compared, groups, out / "accuracy.png")
    print(
        f"wrote {', '.join(str(out / name) for name in ('ACCURACY.md', 'accuracy.json', 'accuracy.png'))}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
