"""What a reference sensor is worth: jerks and false alarms with and without it, by placement.

    python benchmarks/reference.py [--nights 4] [--hours 8] [--jobs 1]

Prints Markdown. Simulated nights of the population ``heldout``, seeds from 600 000 up, which no threshold was chosen
on; rates, sensors and faults in turn. The same night is detected twice. What the reference feels is assumed
(`hypnic.simulate.reference`): the table says what such a sensor would be worth if beds and bodies were so.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from hypnic.detector import detect
from hypnic.events import JERKS
from hypnic.scoring import Marks, Score, combine, score, valid_hours
from hypnic.simulate import Sleeper

CASES = (
    ("wrist", "frame"),
    ("wrist", "partner"),
    ("wrist", "limb"),
    ("mattress", "frame"),
    ("mattress", "partner"),
)
RATES = (100.0, 50.0, 200.0)
SENSORS = ("LSM6DSOX", "MPU6050", "ADXL355", "ADXL345", "LSM6DS33")
FIRST_SEED, SEEDS_EACH = 600_000, 1000

LEAST_VISIBLE = 0.5
"""A jerk of which the sensor delivered less than this part counts neither way."""


class Task(NamedTuple):
    """One night to simulate."""

    site: str
    placement: str
    number: int
    hours: float

    @property
    def seed(self) -> int:
        """Its seed."""
        return FIRST_SEED + SEEDS_EACH * CASES.index((self.site, self.placement)) + self.number


def run(task: Task) -> tuple[Score, Score]:
    """Score one night without and with its reference."""
    n = task.number
    sleeper = Sleeper(
        task.site,
        task.hours,
        RATES[n % len(RATES)],
        task.seed,
        sensor=SENSORS[n % len(SENSORS)],
        faults=n % 3 == 2,
        population="heldout",
        reference=task.placement,
    )
    lost = [(float(s["onset"]), float(s["onset"] + s["duration"])) for s in sleeper.fault_spans]
    hours = valid_hours(sleeper.samples / sleeper.rate, lost)
    jerk = np.isin(sleeper.truth["label"], JERKS)
    hidden = sleeper.truth["onset"][jerk & (sleeper.truth["visible"] < LEAST_VISIBLE)].tolist()
    truth = Marks.of(sleeper.truth)
    without, beside = (
        score(
            detect(sleeper, reference=reference),
            truth,
            hours_valid=hours,
            ignore=[(onset, onset) for onset in hidden],
        )
        for reference in (None, sleeper.reference)
    )
    return without, beside


def alarms(nights: Iterable[Score]) -> Counter[str]:
    """Return the false alarms by the kind of true event that they are."""
    total: Counter[str] = Counter()
    for night in nights:
        total.update({kind: false for kind, (false, _) in night.coincidences().items()})
    return total


def listed(counts: Counter[str]) -> str:
    """Return counts in words, the largest first."""
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common() if n) or "none"


def figure(pooled: Score, name: str, decimals: int = 2) -> str:
    """Return a figure with its 95 % bootstrap interval over nights."""
    low, high = pooled.intervals.get(name, (math.nan, math.nan))
    return f"{pooled.figures[name]:.{decimals}f} ({low:.{decimals}f}–{high:.{decimals}f})"


def page(results: dict[tuple[str, str], list[tuple[Score, Score]]]) -> str:
    """Return the tables."""
    lines = [
        "| sensor | reference | | nights | jerks | F1 | recall | false alarms/h |",
        "|---|---|---|---|---|---|---|---|",
    ]
    changes = [
        "| sensor | reference | false alarms removed | false alarms added | left | jerks lost |",
        "|---|---|---|---|---|---|",
    ]
    for (site, placement), nights in results.items():
        sides = [[night[k] for night in nights] for k in (0, 1)]
        pooled = [combine(side) for side in sides]
        for title, side in zip(("without", "with"), pooled, strict=True):
            counts = side.at(0.5)
            lines.append(
                f"| {site} | {placement} | {title} | {len(nights)} | {counts.tp + counts.fn} | "
                f"{figure(side, 'f1@0.5')} | {figure(side, 'recall@0.5')} | "
                f"{figure(side, 'false_alarms_per_hour')} |"
            )
        before, after = (alarms(side) for side in sides)
        hits = [side.at(0.5).tp for side in pooled]
        changes.append(
            f"| {site} | {placement} | {listed(before - after)} | {listed(after - before)} | {listed(after)} | "
            f"{hits[0] - hits[1]} of {hits[0]} |"
        )
    return "\n".join([*lines, "", *changes])


def main() -> None:
    """Simulate, detect, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=4, help="of each sensor and placement")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if not 1 <= options.nights <= SEEDS_EACH:
        parser.error(f"--nights {options.nights} is not from 1 to {SEEDS_EACH}")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} is below 1")
    tasks = [Task(*case, number, options.hours) for case in CASES for number in range(options.nights)]
    with ProcessPoolExecutor(options.jobs) as pool:
        scores = list(pool.map(run, tasks))
    results: dict[tuple[str, str], list[tuple[Score, Score]]] = {case: [] for case in CASES}
    for task, pair in zip(tasks, scores, strict=True):
        results[task.site, task.placement].append(pair)
    print(page(results))


if __name__ == "__main__":
    main()
