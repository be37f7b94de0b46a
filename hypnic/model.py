"""What is fitted: how jerk-like an event is, and how much past movement tells of a waking that was not seen.

The labels' part is a curve for each feature and a weight for each pair, summed, squeezed to 0..1.
An additive logistic model (Hastie and Tibshirani 1986) with straight lines between a few knots, and products of two
features on top: a long event with a low frequency means something else than either alone. Each term adds to the log
odds, so the reasons for a score can be read off. The coefficients are in ``hypnic/models`` as JSON, with how they
were made. They come from simulated nights, not from human data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic import layout as at
from hypnic.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "FLOOR",
    "Curve",
    "Model",
    "Waking",
    "load_model",
    "load_waking",
    "model_path",
    "waking_path",
]

FLOOR: Final = 1e-3
"""Least value of a feature whose logarithm is taken."""

COLUMNS: Final[dict[str, tuple[int, bool]]] = {
    "t90": (at.R_T90, True),
    "t50": (at.R_T50, True),
    "rise": (at.R_RISE, True),
    "centre": (at.R_CENTRE, True),
    "hf_ratio": (at.R_HF, True),
    "angle_change": (at.R_ANGLE, True),
    "quiet_before": (at.R_QUIET, True),
    "line": (at.R_LINE, False),
    "freq": (at.R_FREQ, True),
    "slow": (at.R_SLOW, True),
    "low": (at.R_LOW, True),
    "bursts": (at.R_BURSTS, True),
    "follow": (at.R_FOLLOW, False),
    "after": (at.R_AFTER, False),
    "chain": (at.R_CHAIN, True),
    "length": (at.R_LENGTH, True),
    "peak_g": (at.R_PEAK, True),
    "net": (at.R_NET, True),
    "base": (at.R_BASE, True),
    "below_3": (at.R_BELOW3, False),
    "below_6": (at.R_BELOW6, False),
    "energy_1": (at.R_E1, False),
    "energy_2": (at.R_E2, False),
    "energy_3": (at.R_E3, False),
    "energy_4": (at.R_E4, False),
    "energy_5": (at.R_E5, False),
    "energy_6": (at.R_E6, False),
    "before": (at.R_BEFORE, False),
    "tail": (at.R_TAIL, False),
    "plane": (at.R_PLANE, False),
    "like": (at.R_LIKE, False),
    "like_later": (at.R_LIKE_LATER, False),
    "interval": (at.R_INTERVAL, True),
    "prominence": (at.R_PROMINENCE, False),
    "busy": (at.R_BUSY, False),
    "next": (at.R_NEXT, True),
    "stir": (at.R_STIR, False),
}
"""Features that a curve can be over: their column in the kernel's rows, and whether their logarithm is taken."""


class Curve(NamedTuple):
    """What one feature adds to the log odds of a jerk.

    Attributes
    ----------
    feature : str
        One of `COLUMNS`.
    knots : tuple of float
        Values of the feature, rising.
    values : tuple of float
        What it adds there; straight lines between (over the logarithm, where that is taken), flat outside.
    missing : float
        What it adds where the feature is NaN.
    middle, spread : float
        Mean and standard deviation of the feature (of its logarithm, where that is taken) among the events that
        the model was fitted to, each kept within the knots. Pairs multiply (feature - middle) / spread, which is 0
        where the feature is NaN.
    """

    feature: str
    knots: tuple[float, ...]
    values: tuple[float, ...]
    missing: float
    middle: float
    spread: float


@dataclass(frozen=True)
class Model:
    """An additive logistic model of how jerk-like an event is.

    Attributes
    ----------
    name : str
        The preset that it belongs to.
    intercept : float
        Log odds before any feature has spoken.
    curves : tuple of Curve
        One for each feature.
    pairs : tuple of float
        Weights of the products of features: first with second, first with third, ..., second with third, ...
    provenance : dict
        How it was made.
    """

    name: str
    intercept: float
    curves: tuple[Curve, ...]
    pairs: tuple[float, ...]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the model as it stands in its file."""
        return {
            "name": self.name,
            "provenance": self.provenance,
            "intercept": self.intercept,
            "curves": [curve._asdict() for curve in self.curves],
            "pairs": list(self.pairs),
        }

    def contributions(self, row: NDArray[np.float64]) -> dict[str, float]:
        """Return what each feature of a kernel row adds to the log odds, and each pair that adds anything."""
        out: dict[str, float] = {}
        standard: dict[str, float] = {}
        for curve in self.curves:
            column, logarithm = COLUMNS[curve.feature]
            value, knots = float(row[column]), np.array(curve.knots)
            if np.isnan(value):
                out[curve.feature], standard[curve.feature] = curve.missing, 0.0
                continue
            if logarithm:
                value, knots = np.log(max(value, FLOOR)), np.log(knots)
            value = min(max(value, knots[0]), knots[-1])
            out[curve.feature] = float(np.interp(value, knots, curve.values))
            standard[curve.feature] = (value - curve.middle) / curve.spread
        for (first, second), weight in zip(combinations(standard, 2), self.pairs, strict=True):
            if weight:
                out[f"{first} x {second}"] = weight * standard[first] * standard[second]
        return out

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each kernel row: what the kernel computes, in plain steps."""
        odds = np.array([self.intercept + sum(self.contributions(row).values()) for row in rows])
        scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-odds))
        return scores

    def packed(self) -> NDArray[np.float64]:
        """Return the model as the kernel reads it: intercept, number of curves, the curves in a stride, the pairs."""
        out = np.zeros(at.MODEL_SIZE)
        out[0], out[1] = self.intercept, len(self.curves)
        for k, curve in enumerate(self.curves):
            column, logarithm = COLUMNS[curve.feature]
            start = 2 + k * at.CURVE
            count = len(curve.knots)
            out[start : start + 6] = (
                column,
                float(logarithm),
                count,
                curve.missing,
                curve.middle,
                curve.spread,
            )
            # Not NumPy's logarithm, whose last bit depends on the processor that it chose its code for.
            knots = [math.log(knot) for knot in curve.knots] if logarithm else curve.knots
            out[start + 6 : start + 6 + count] = knots
            out[start + 6 + at.KNOTS : start + 6 + at.KNOTS + count] = curve.values
        pairs = 2 + at.CURVES * at.CURVE
        out[pairs : pairs + len(self.pairs)] = self.pairs
        return out


def model_path(name: str) -> Path:
    """Return where the model of a preset is."""
    return Path(__file__).with_name("models") / f"{name}.json"


def load_model(name: str) -> Model:
    """Return the model of a preset.

    Raises
    ------
    DataError
        If its file is missing or damaged: the installation is incomplete.
    """
    try:
        found = json.loads(model_path(name).read_text(encoding="utf-8"))
        curves = tuple(
            Curve(**(curve | {"knots": tuple(curve["knots"]), "values": tuple(curve["values"])}))
            for curve in found["curves"]
        )
        return Model(found["name"], found["intercept"], curves, tuple(found["pairs"]), found["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the model of preset {name} cannot be read ({error}): install hypnic anew") from None


class Waking(NamedTuple):
    """How likely somebody who is still has been awake unseen, by movement: a logistic model (`hypnic.rest`).

    Attributes
    ----------
    intercept : float
        Log odds with no movement at all.
    weights : tuple of three float
        What is added for ln(1 + s) of the decaying sums of movement (s) over 2, 10 and 60 minutes.
    provenance : dict
        How it was made.
    """

    intercept: float
    weights: tuple[float, float, float]
    provenance: dict[str, Any]


def waking_path(name: str) -> Path:
    """Return where the weights of past movement of a preset are."""
    return Path(__file__).with_name("models") / f"{name}-waking.json"


def load_waking(name: str) -> Waking:
    """Return the weights of past movement of a preset.

    Raises
    ------
    DataError
        If its file is missing or damaged: the installation is incomplete.
    """
    try:
        found = json.loads(waking_path(name).read_text(encoding="utf-8"))
        brief, lately, hour = (float(weight) for weight in found["weights"])
        return Waking(float(found["intercept"]), (brief, lately, hour), found["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the model of preset {name} cannot be read ({error}): install hypnic anew") from None
