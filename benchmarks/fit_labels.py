"""Fit the curves that score how jerk-like an event is, on simulated tuning nights.

    python benchmarks/fit_labels.py wrist

writes ``hypnic/models/wrist-1.json``. Tuning nights draw every parameter from the even strata of its distribution
(`hypnic.simulate.population`) and use seeds below 100 000; the nights that are scored draw from the odd strata and
use other seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import hypnic
from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.events import JERKS
from hypnic.labels import SERIES_LENGTH
from hypnic.layout import SERIES_ROWS
from hypnic.model import COLUMNS, FLOOR, Curve, Model, model_path
from hypnic.scoring import LEAST_VISIBLE, match
from hypnic.simulate import Sleeper

RATES = (50.0, 100.0, 200.0, 100.0, 50.0, 64.0, 25.0, 32.0, 100.0, 50.0, 104.0, 80.0)
SENSORS = ("MPU6050", "ADXL345", "ICM-20948", "LSM6DS33", "LSM6DSOX", "ADXL355", "ActiGraph")

# Knots in the feature's own unit; outside them a curve stays flat. Of how large an event is only the small end counts,
# below the least jerk that is assumed; how large larger ones are, and how often a sleeper jerks, is the simulation's
# assumption and must not be learnt.
KNOTS: dict[str, tuple[float, ...]] = {
    "t90": (0.08, 0.14, 0.2, 0.3, 0.45, 0.65, 1.0),
    "t50": (0.03, 0.06, 0.1, 0.16, 0.25, 0.5),
    "length": (0.25, 0.4, 0.6, 0.9, 1.4, 3.0),
    "rise": (0.03, 0.08, 0.15, 0.25, 0.4, 0.8),
    "centre": (0.06, 0.12, 0.2, 0.3, 0.5),
    "energy_1": (0.05, 0.2, 0.4, 0.6, 0.85),
    "energy_2": (0.05, 0.2, 0.35, 0.55),
    "energy_3": (0.02, 0.15, 0.3, 0.5),
    "energy_4": (0.01, 0.08, 0.2, 0.35),
    "energy_5": (0.005, 0.05, 0.15, 0.3),
    "energy_6": (0.005, 0.05, 0.15),
    "hf_ratio": (0.003, 0.02, 0.08, 0.3, 1.0),
    "freq": (2.0, 3.0, 4.5, 6.5, 9.0),
    "below_3": (0.1, 0.3, 0.5, 0.7, 0.9),
    "below_6": (0.2, 0.5, 0.8, 0.95),
    "base": (0.005, 0.02, 0.1, 0.4, 1.5, 6.0),
    "slow": (0.2, 0.5, 1.0, 2.0, 4.0),
    "low": (0.2, 0.5, 1.0, 2.0),
    "net": (0.02, 0.08, 0.3, 1.0, 4.0),
    "angle_change": (0.3, 1.0, 3.0, 10.0, 30.0),
    "line": (0.6, 0.8, 0.9, 0.96, 1.0),
    "plane": (0.85, 0.95, 0.99, 1.0),
    "bursts": (1.0, 2.0, 4.0),
    "prominence": (2.0, 3.0, 4.5, 6.5, 9.0),
    "quiet_before": (0.5, 1.5, 4.0, 10.0),
    "before": (-8.0, -6.0, -4.0, -2.5, -1.0, 0.5),
    "tail": (-8.0, -6.0, -4.0, -2.5, -1.0, 0.5),
    "follow": (-10.0, -3.0, 0.0, 2.0),
    "next": (0.2, 0.5, 1.0, 2.0, 4.0),
    "after": (0.0, 0.2, 0.6),
    "busy": (0.0, 0.05, 0.15, 0.4),
    "stir": (0.0, 2.0, 5.0, 10.0, 20.0, 40.0),
    "chain": (1.0, 2.0, 3.0, 4.0, 6.0),
    "like": (-16.0, -8.0, -4.0, -2.0, -0.5),
    "like_later": (-16.0, -8.0, -4.0, -2.0, -0.5),
}

SMALL: dict[str, tuple[float, ...]] = {
    "wrist": (0.008, 0.014, 0.02, 0.03),
    "mattress": (0.0015, 0.0025, 0.004),
}
"""Knots of the peak (g) by site."""


def night(plan: tuple[str, float, str, int, bool, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the last row of each event of one simulated night, and whether it is a true jerk."""
    site, rate, sensor, seed, faults, hours = plan
    sleeper = Sleeper(site, hours, rate, seed, sensor=sensor, faults=faults, population="tuning")
    detector = Detector(rate, site)
    rows = []
    for chunk in sleeper:
        detector.gap(chunk.missing)
        rows.append(detector.push_rows(chunk.xyz))
    rows.append(detector.flush_rows())
    table = with_hindsight(np.concatenate(rows))
    truth = sleeper.truth[np.isin(sleeper.truth["label"], JERKS) & (sleeper.truth["visible"] > LEAST_VISIBLE)]
    found, _ = match(table[:, at.R_ONSET] / rate, truth["onset"], 0.5)
    jerk = np.zeros(len(table), bool)
    jerk[found] = True
    return table, jerk


def with_hindsight(rows: np.ndarray) -> np.ndarray:
    """Return the final rows with what later events have shown of them, whether or not that changed their label then.

    The kernel brings a row out again only where its label or score changes, which depends on the model to be fitted.
    """
    table = rows[rows[:, at.R_REVISION] == 1]
    for place, row in enumerate(table):
        partner = int(row[at.R_PARTNER])
        if partner > place - SERIES_ROWS and partner >= 0:
            table[partner, at.R_LIKE_LATER] = max(table[partner, at.R_LIKE_LATER], row[at.R_LIKE])
        if row[at.R_CHAIN] < SERIES_LENGTH:
            continue
        link = int(row[at.R_LINK])
        while link >= 0 and link > place - SERIES_ROWS and table[link, at.R_CHAIN] < SERIES_LENGTH:
            table[link, at.R_CHAIN] = SERIES_LENGTH
            link = int(table[link, at.R_LINK])
    return table


def plans(
    site: str, nights: int, hours: float, first_seed: int
) -> list[tuple[str, float, str, int, bool, float]]:
    """Return the tuning nights: rates, sensors and faults in turn."""
    out = []
    for k in range(nights):
        rate = RATES[k % len(RATES)]
        coarse = rate == 32.0 and site == "wrist"
        sensor = "E4" if coarse else SENSORS[(k * 5 + k // len(RATES)) % len(SENSORS)]
        out.append((site, rate, sensor, first_seed + k, k % 3 == 2, hours))
    return out


def transformed(name: str, values: np.ndarray) -> np.ndarray:
    """Return a feature on the scale of its curve."""
    return np.log(np.maximum(values, FLOOR)) if COLUMNS[name][1] else values


def basis(name: str, values: np.ndarray) -> np.ndarray:
    """Return the hat functions of a feature's knots, and a column for missing values."""
    knots = transformed(name, np.array(KNOTS[name]))
    x = np.clip(transformed(name, values), knots[0], knots[-1])
    hats = np.stack([np.interp(x, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
    missing = np.isnan(values)
    hats[missing] = 0.0
    return np.column_stack([hats, missing.astype(float)])


def penalty(name: str, smooth: float, ridge: float) -> np.ndarray:
    """Return the quadratic penalty on a curve's values: on their bends, a little on their size."""
    count = len(KNOTS[name])
    bend = np.diff(np.eye(count), 2, axis=0) if count > 2 else np.zeros((0, count))
    block = smooth * bend.T @ bend + ridge * np.eye(count)
    whole = np.zeros((count + 1, count + 1))
    whole[:count, :count] = block
    whole[count, count] = ridge
    return whole


def logistic(design: np.ndarray, y: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Return the weights of a penalised logistic regression, by Newton's method."""
    weights = np.zeros(design.shape[1])
    for _ in range(40):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30.0, 30.0)))
        gradient = design.T @ (y - p) - fine @ weights
        hessian = (design * (p * (1.0 - p))[:, np.newaxis]).T @ design + fine
        step = np.linalg.solve(hessian, gradient)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def standard(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the features in standard deviations from their middles, 0 where missing, with both."""
    columns = []
    for name in KNOTS:
        knots = transformed(name, np.array(KNOTS[name]))
        columns.append(np.clip(transformed(name, rows[:, COLUMNS[name][0]]), knots[0], knots[-1]))
    values = np.column_stack(columns)
    middle, spread = np.nanmean(values, axis=0).round(5), np.nanstd(values, axis=0).round(5)
    return np.nan_to_num((values - middle) / spread), middle, spread


def fit(
    name: str,
    rows: np.ndarray,
    y: np.ndarray,
    smooth: float = 2.0,
    ridge: float = 0.3,
    pair_ridge: float = 10.0,
) -> Model:
    """Return the model fitted to kernel rows and whether each is a jerk."""
    z, middle, spread = standard(rows)
    first, second = np.triu_indices(len(KNOTS), 1)
    parts = [basis(feature, rows[:, COLUMNS[feature][0]]) for feature in KNOTS]
    design = np.column_stack([np.ones(len(rows)), *parts, z[:, first] * z[:, second]])
    fine = np.diag(np.r_[0.0, np.full(design.shape[1] - 1, pair_ridge)])
    place = 1
    for feature in KNOTS:
        block = penalty(feature, smooth, ridge)
        fine[place : place + len(block), place : place + len(block)] = block
        place += len(block)
    weights = logistic(design, y, fine).round(4).tolist()
    curves, place = [], 1
    for k, (feature, knots) in enumerate(KNOTS.items()):
        stop = place + len(knots)
        values, missing = tuple(weights[place:stop]), weights[stop]
        curves.append(Curve(feature, knots, values, missing, float(middle[k]), float(spread[k])))
        place = stop + 1
    return Model(name, weights[0], tuple(curves), tuple(weights[place:]), {})


def main() -> None:
    """Simulate, fit, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", choices=("wrist", "mattress"))
    parser.add_argument("--nights", type=int, default=160)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--first-seed", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    name = f"{options.site}-1"
    KNOTS["peak_g"] = SMALL[options.site]
    todo = plans(options.site, options.nights, options.hours, options.first_seed)
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(night, todo))
    rows = np.concatenate([table for table, _ in results])
    y = np.concatenate([jerk for _, jerk in results]).astype(float)
    groups = np.concatenate([np.full(len(jerk), k) for k, (_, jerk) in enumerate(results)])

    provenance: dict[str, Any] = {
        "made_by": "benchmarks/fit_labels.py",
        "hypnic_version": hypnic.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "data": "simulated nights, population tuning; no human data",
        "nights": len(todo),
        "seeds": f"{options.first_seed} to {options.first_seed + len(todo) - 1}",
        "hours": options.hours,
        "rates": sorted({plan[1] for plan in todo}),
        "sensors": sorted({plan[2] for plan in todo}),
        "events": len(y),
        "jerks": int(y.sum()),
    }
    held = np.zeros(len(y))
    for fold in range(5):
        test = groups % 5 == fold
        held[test] = fit(name, rows[~test], y[~test]).scores(rows[test])
    for threshold in (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6):
        hit = held > threshold
        tp, fp, fn = (hit & (y == 1)).sum(), (hit & (y == 0)).sum(), (~hit & (y == 1)).sum()
        print(
            f"score > {threshold}: precision {tp / (tp + fp):.3f} recall {tp / (tp + fn):.3f} of triggered jerks"
        )
    model = replace(fit(name, rows, y), provenance=provenance)
    path = options.output or model_path(name)
    path.write_text(json.dumps(model.to_dict(), indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
