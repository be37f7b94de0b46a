"""Fit the weights by which past movement tells of a waking that was not seen, on simulated tuning nights.

    python benchmarks/fit_waking.py wrist

writes ``hypnic/models/wrist-1-waking.json``. It looks at the true jerks that lie past every onset window that the rest
state has opened by itself, and asks of each whether the sleeper had in truth been awake and was falling asleep again.
The nights are those of ``fit_labels.py``, and none of those that are scored.
"""

from __future__ import annotations

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fit_labels import logistic, plans

import hypnic
from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.events import JERKS, RESTS
from hypnic.model import Waking, waking_path
from hypnic.rest import EPOCH
from hypnic.scoring import LEAST_VISIBLE, match
from hypnic.simulate import Sleeper

ASKED = 1.0
"""Log odds asked for. With none, isolated jerks are told worse than without the weights, for the sake of the more
frequent hypnic ones; how frequent they are is the simulation's assumption and must not be learnt. On held-out nights
the mean of both kinds is then no worse at the wrist and better on a mattress."""

PAST, HYPNIC, RIGHT, MOVEMENT, REST = 0, 1, 2, slice(3, 6), slice(3, 12)
"""Columns of a jerk: past every window; hypnic in truth; called so without these weights; the sums of movement (s);
all that the rest state knows: those, the state's code, movement (s) as it wakes and as it is left, time (s) since the
last movement, since the last settling and since the start."""


def night(plan: tuple[str, float, str, int, bool, float]) -> np.ndarray:
    """Return the found true jerks of one simulated night, one a row."""
    site, rate, sensor, seed, faults, hours = plan
    sleeper = Sleeper(site, hours, rate, seed, sensor=sensor, faults=faults, population="tuning")
    detector = Detector(rate, site)
    floats, integers = detector._floats, detector._integers
    # The sums do not depend on the weights, so it does not matter which are in force now.
    rows, epochs = [], []
    step = round(EPOCH * rate)
    for chunk in sleeper:
        detector.gap(chunk.missing)
        for first in range(0, len(chunk.xyz), step):
            rows.append(detector.push_rows(chunk.xyz[first : first + step]))
            state = integers[at.I_REST]
            resting = state in (RESTS.index("onset"), RESTS.index("still"))
            past = resting and integers[at.I_INDEX] >= integers[at.I_WINDOW_END]
            inside = not past and state in (RESTS.index("settling"), RESTS.index("onset"))
            now = integers[at.I_INDEX]
            times = (now - integers[at.I_LAST_MOVE], now - integers[at.I_SETTLED], now)
            movement = floats[at.S_LAST_2 : at.S_LAST_60 + 1]
            sums = (state, floats[at.S_MOVED], floats[at.S_STIR])
            epochs.append((now, past, inside, *movement, *sums, *(time / rate for time in times)))
    rows.append(detector.flush_rows())
    table = np.concatenate(rows)
    onsets = table[table[:, at.R_REVISION] == 0, at.R_ONSET] / rate
    truth = sleeper.truth[np.isin(sleeper.truth["label"], JERKS) & (sleeper.truth["visible"] > LEAST_VISIBLE)]
    found, true = match(onsets, truth["onset"], 0.5)
    course = np.array(epochs, float)
    before = course[np.maximum(np.searchsorted(course[:, 0], onsets[found] * rate) - 1, 0)]
    hypnic_jerk = truth["label"][true] == "hypnic_jerk"
    return np.column_stack([before[:, 1], hypnic_jerk, before[:, 2] == hypnic_jerk, before[:, 3:]])


def design(jerks: np.ndarray) -> np.ndarray:
    """Return a one and ln(1 + s) of each sum of movement."""
    return np.column_stack([np.ones(len(jerks)), np.log1p(jerks[:, MOVEMENT])])


def fit(jerks: np.ndarray) -> np.ndarray:
    """Return intercept, less what is asked, and weights for the jerks past every window."""
    past = jerks[jerks[:, PAST] > 0]
    weights = logistic(design(past), past[:, HYPNIC], np.diag([0.0, 0.1, 0.1, 0.1]))
    weights[0] -= ASKED
    return weights.round(3)


def right(jerks: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Return which jerks are told right: by the weights past every window, by the rest state elsewhere."""
    return np.where(jerks[:, PAST] > 0, (odds > 0) == jerks[:, HYPNIC], jerks[:, RIGHT]) > 0


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
    todo = plans(options.site, options.nights, options.hours, options.first_seed)
    with ProcessPoolExecutor(2) as pool:
        nights = list(pool.map(night, todo))
    jerks = np.concatenate(nights)
    fold = np.concatenate([np.full(len(jerks), k % 5) for k, jerks in enumerate(nights)])
    odds = np.zeros(len(jerks))
    for k in range(5):
        odds[fold == k] = design(jerks[fold == k]) @ fit(jerks[fold != k])
    told, alone = right(jerks, odds), right(jerks, np.full(len(jerks), -1.0))
    for name, which in (
        ("all", jerks[:, HYPNIC] >= 0),
        ("hypnic", jerks[:, HYPNIC] > 0),
        ("isolated", jerks[:, HYPNIC] == 0),
    ):
        with_them, without = told[which].mean(), alone[which].mean()
        print(f"{name}: {which.sum()} jerks, right {with_them:.3f}, without the weights {without:.3f}")
    weights = fit(jerks).tolist()
    provenance: dict[str, Any] = {
        "made_by": "benchmarks/fit_waking.py",
        "hypnic_version": hypnic.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "data": "simulated nights, population tuning; no human data",
        "nights": len(todo),
        "seeds": f"{options.first_seed} to {options.first_seed + len(todo) - 1}",
        "hours": options.hours,
        "log_odds_asked": ASKED,
        "jerks": len(jerks),
        "jerks_past_every_window": int(jerks[:, PAST].sum()),
    }
    model = Waking(weights[0], tuple(weights[1:]), provenance)
    path = options.output or waking_path(f"{options.site}-1")
    path.write_text(json.dumps({"name": f"{options.site}-1", **model._asdict()}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
