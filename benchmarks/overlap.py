"""How far the simulated classes overlap: what no rule on these features could tell apart.

    python benchmarks/overlap.py            # 60 nights a site, some minutes; prints a Markdown table
    python benchmarks/overlap.py --windows  # the same for hypnic against isolated jerks

The detector runs over tuning nights, and a gradient-boosted classifier that may bend in any direction is fitted to all
features of its events and judged on nights that it was not fitted to (four folds). It knows more than hypnic's own
additive model can say; what it cannot part is not parted by another weighting of the same features. Three columns
take away causes one by one: every sensor; the sensor with the least noise, without faults; and the same without the
kinds that are jerks by physics though not by the truth (a startle, a partner's twitch, fragmentary myoclonus).

Simulated sleepers only.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from fit_labels import RATES, SENSORS, with_hindsight

from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.events import JERKS
from hypnic.model import COLUMNS
from hypnic.scoring import LEAST_VISIBLE, TOLERANCE, match
from hypnic.simulate import Sleeper

LOOKALIKES = ("startle", "partner_twitch", "myoclonus")
FIRST_SEED = 60_000
FEATURES = [column for column, _ in COLUMNS.values()]


class Found(NamedTuple):
    """The events of one night: features, on a true jerk or not, kind of the largest true event there, and jerks."""

    rows: np.ndarray
    jerk: np.ndarray
    kind: np.ndarray
    true: int


def night(task: tuple[str, float, str, bool, int]) -> Found:
    """Detect one night and say what each event truly is."""
    site, rate, sensor, faults, seed = task
    sleeper = Sleeper(site, 8.0, rate, seed, sensor=sensor, faults=faults, population="tuning")
    detector = Detector(rate, site)
    parts = []
    for chunk in sleeper:
        detector.gap(chunk.missing)
        parts.append(detector.push_rows(chunk.xyz))
    parts.append(detector.flush_rows())
    rows = with_hindsight(np.concatenate(parts))
    truth = sleeper.truth
    jerks = truth["onset"][np.isin(truth["label"], JERKS) & (truth["visible"] > LEAST_VISIBLE)]
    onset, end = rows[:, at.R_ONSET] / rate, rows[:, at.R_END] / rate
    jerk = np.zeros(len(rows), bool)
    jerk[match(onset, jerks, TOLERANCE)[0]] = True
    kind = np.full(len(rows), "none", "U16")
    for place in range(len(rows)):
        over = (truth["onset"] < end[place] + 0.2) & (truth["onset"] + truth["duration"] > onset[place] - 0.2)
        if over.any():
            kind[place] = truth["kind"][over][np.argmax(np.nan_to_num(truth["peak_g"][over]))]
    return Found(rows[:, FEATURES], jerk, np.where(jerk, "jerk", kind), len(jerks))


def separated(nights: list[Found], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return how well a flexible classifier parts the jerks of these nights from the rest."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    keep = [np.isin(found.kind, leave_out, invert=True) for found in nights]
    rows = np.concatenate([found.rows[kept] for found, kept in zip(nights, keep, strict=True)])
    jerk = np.concatenate([found.jerk[kept] for found, kept in zip(nights, keep, strict=True)])
    kind = np.concatenate([found.kind[kept] for found, kept in zip(nights, keep, strict=True)])
    group = np.concatenate([np.full(kept.sum(), number % 4) for number, kept in enumerate(keep)])
    chance = np.zeros(len(jerk))
    for fold in range(4):
        test = group == fold
        model = HistGradientBoostingClassifier(
            max_iter=250, learning_rate=0.05, max_leaf_nodes=12, l2_regularization=1.0, random_state=0
        )
        chance[test] = model.fit(rows[~test], jerk[~test]).predict_proba(rows[test])[:, 1]
    true = sum(found.true for found in nights)
    order = np.argsort(-chance)
    hits, alarms = np.cumsum(jerk[order]), np.cumsum(~jerk[order])
    f1 = 2 * hits / (hits + alarms + true)
    best = int(np.argmax(f1))
    taken = chance >= chance[order][best]
    wrong = Counter(kind[taken & ~jerk].tolist())
    return {
        "F1": f1[best],
        "precision": hits[best] / (hits[best] + alarms[best]),
        "recall": hits[best] / true,
        "recall of triggered": hits[best] / jerk.sum(),
        "triggered": jerk.sum() / true,
        "false alarms per hour": alarms[best] / (8.0 * len(nights)),
        "taken for a jerk": ", ".join(
            f"{n} of {int((kind == k).sum())} {k}" for k, n in wrong.most_common(5)
        ),
    }


def in_window(site: str, nights: int, pool: ProcessPoolExecutor) -> list[str]:
    """Return how often a flexible classifier on all that the rest state knows tells hypnic from isolated jerks."""
    from fit_labels import plans
    from fit_waking import HYPNIC, REST, design, right
    from fit_waking import night as jerks_of
    from sklearn.ensemble import HistGradientBoostingClassifier

    from hypnic.model import load_waking

    rows = list(pool.map(jerks_of, plans(site, nights, 8.0, FIRST_SEED + 20_000)))
    jerks = np.concatenate(rows)
    fold = np.concatenate([np.full(len(found), number % 5) for number, found in enumerate(rows)])
    hypnic = jerks[:, HYPNIC] > 0
    chance = np.zeros(len(jerks))
    for number in range(5):
        test = fold == number
        model = HistGradientBoostingClassifier(
            max_iter=120, learning_rate=0.06, max_leaf_nodes=10, min_samples_leaf=20, random_state=0
        )
        chance[test] = model.fit(jerks[~test, REST], hypnic[~test]).predict_proba(jerks[test, REST])[:, 1]
    waking = load_waking(f"{site}-1")
    told = {
        "hypnic, without the weights": right(jerks, np.full(len(jerks), -1.0)),
        "hypnic": right(jerks, design(jerks) @ np.r_[waking.intercept, waking.weights]),
        "flexible": (chance > 0.5) == hypnic,
        "always hypnic_jerk": hypnic,
    }
    return [
        f"| {site}, {name} | {of.mean():.2f} | {of[hypnic].mean():.2f} | {of[~hypnic].mean():.2f} |"
        for name, of in told.items()
    ]


def main() -> None:
    """Simulate, fit, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=60, help="of each site and kind of sensor")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--windows", action="store_true", help="in its place: jerks in an onset window or not"
    )
    options = parser.parse_args()
    if options.windows:
        print("| told by | right | of hypnic ones | of isolated ones |\n|---|---|---|---|")
        with ProcessPoolExecutor(options.jobs) as pool:
            for site in ("wrist", "mattress"):
                print("\n".join(in_window(site, options.nights, pool)))
        return
    columns = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for offset, site in ((0, "wrist"), (5_000, "mattress")):
            rates = [RATES[k % len(RATES)] for k in range(options.nights)]
            seeds = [FIRST_SEED + offset + k for k in range(options.nights)]
            usual = [
                (site, rate, SENSORS[k * 5 % len(SENSORS)], k % 3 == 2, seed)
                for k, (rate, seed) in enumerate(zip(rates, seeds, strict=True))
            ]
            best = [
                (site, rate, "ADXL355", False, seed + 1_000) for rate, seed in zip(rates, seeds, strict=True)
            ]
            clean = list(pool.map(night, best))
            columns[f"{site}, every sensor"] = separated(list(pool.map(night, usual)))
            columns[f"{site}, least noise"] = separated(clean)
            columns[f"{site}, least noise, no look-alikes"] = separated(clean, LOOKALIKES)
    names = list(next(iter(columns.values())))
    print(f"| nights | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for title, figures in columns.items():
        cells = [value if isinstance(value, str) else f"{value:.2f}" for value in figures.values()]
        print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
