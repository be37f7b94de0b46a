"""Rate ratios of counts per night, and how many nights an effect needs.

Counts of candidate jerks are modelled with a logarithmic link and the exposure as offset. The rate itself differs from
night to night, which no diary explains: the counts are taken as negative binomial, with the variance between nights
set so that the residuals come out as large as they should (Breslow, 1984, *Applied Statistics* 33:38); where they are
no larger than chance it is Poisson. Intervals use Student's t with the degrees of freedom that are left. In simulations
a quasi-Poisson variance covered the truth less often (down to 92 % for numbers, where 95 % is meant). A sleeper who is
there with others has a rate of his own; from `GEE_SLEEPERS` on the sleepers are clusters instead (Liang and Zeger,
1986, *Biometrika* 73:13), with the correction for few clusters of Mancl and DeRouen (2001, *Biometrics* 57:126).

The nights needed come from the information that the covariate would carry under the effect in question, in nights
distributed as those at hand (Signorini, 1991, *Biometrika* 78:446) and as variable as those, with the noncentral t.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.errors import DataError, UsageError
from hypnic.export.base import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Fit",
    "attenuated",
    "detectable_ratio",
    "fit_counts",
    "nights_needed",
    "power_of",
]

LEVEL: Final = 0.95
"""Of the intervals; 1 - alpha of the tests."""

POWER: Final = 0.80
"""Probability with which an effect is to be seen."""

SURE: Final = 0.80
"""One-sided confidence of the cautious number of nights: how much few nights differ is itself uncertain."""

LEAST_LEFT: Final = 3
"""Degrees of freedom that must be left: with fewer the interval says nothing (t is 4.3 at 2)."""

LEAST_JERKS: Final = 10
"""Jerks in all below which the logarithm of a rate is too skewed for a symmetrical interval (a rule of thumb)."""

GEE_SLEEPERS: Final = 20
"""Sleepers from which they are treated as clusters: with fewer a robust variance is too small even when corrected."""

WIDEST: Final = 1e4
"""Variance between nights beyond which nothing is estimated any more."""

NEGLIGIBLE: Final = 1e-6
"""Variance between nights that is none."""

ROUNDS: Final = 25
CLOSE: Final = 1e-6
"""Most rounds of fitting rates and variance in turn, and the relative change at which they end."""

MOST_NIGHTS: Final = 100_000
"""Nights beyond which a number of nights is not worth saying."""

LARGEST_RATIO: Final = 100.0
"""Rate ratio up to which the least detectable one is looked for."""


class Fit(NamedTuple):
    """A fitted model.

    Attributes
    ----------
    beta, se : ndarray, shape (k,)
        Logarithm of the rate ratio of each covariate, and its standard error.
    low, high : ndarray, shape (k,)
        95 % interval of `beta`.
    p : ndarray, shape (k,)
        Of the hypothesis that it is 0.
    dispersion : float
        Variance of the counts over their mean, as the residuals show it; 1 would be chance alone.
    between : float
        Squared coefficient of variation of the rate between nights that the model took; 0 is Poisson.
    between_high : float
        Its upper limit, with a one-sided confidence of 80 %.
    left : int
        Degrees of freedom of t.
    parameters : int
        Parameters of the mean, baselines of sleepers included.
    method : str
        What was fitted, in words.
    mu : ndarray, shape (n,)
        Fitted counts.
    others : ndarray, shape (n, p)
        The columns of the design beside the covariates.
    """

    beta: NDArray[np.float64]
    se: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    dispersion: float
    between: float
    between_high: float
    left: int
    parameters: int
    method: str
    mu: NDArray[np.float64]
    others: NDArray[np.float64]


def fit_counts(
    counts: NDArray[np.int64],
    exposure: NDArray[np.float64],
    design: NDArray[np.float64],
    sleepers: Sequence[str] | None = None,
) -> Fit:
    """Fit rate ratios to counts (needs the ``study`` extra).

    Parameters
    ----------
    counts : ndarray of int, shape (n,)
        Jerks of each night.
    exposure : ndarray, shape (n,)
        What they are counted against, above 0: hours of onset, onset windows, or 1.
    design : ndarray, shape (n, k)
        The covariates; the intercept is added here.
    sleepers : sequence of str, optional
        Who slept, where there are several.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the nights cannot carry it: too few of them or of jerks, a covariate that does not vary or follows from the
        others, a fit that does not settle.
    UsageError
        If statsmodels is not installed.
    """
    n, k = design.shape
    who = [""] * n if sleepers is None else list(sleepers)
    people = sorted(set(who))
    clustered = len(people) >= GEE_SLEEPERS
    total = int(counts.sum())
    if total < LEAST_JERKS:
        raise DataError(f"{total} jerks in all cannot carry a ratio: at least {LEAST_JERKS} are needed")
    others = np.ones((n, 1))
    if not clustered and len(people) > 1:
        others = np.column_stack([[float(name == person) for name in who] for person in people])
        for person, mine in zip(people, others.T, strict=True):
            if not counts[mine > 0].any():
                raise DataError(
                    f"{person} has no jerk in any of these nights, and so no rate: leave them out"
                )
    parameters = others.shape[1] + k
    units = len(people) if clustered else n
    left = units - (1 + k if clustered else parameters)
    if left < LEAST_LEFT:
        what = "sleepers" if clustered else "nights"
        raise DataError(
            f"{units} {what} cannot carry {parameters} parameters: at least {parameters + LEAST_LEFT} are needed"
        )
    for column in design.T:
        if np.ptp(column) == 0:
            raise DataError("it is the same in every night that was noted")
    full = np.column_stack([others, design])
    # Columns of unit length, so that rank does not depend on units.
    if np.linalg.matrix_rank(full / np.linalg.norm(full, axis=0)) < full.shape[1]:
        raise DataError(
            "it does not vary within any sleeper"
            if k == 1 and len(people) > 1
            else "the columns follow from each other: leave one out"
        )
    return _fit(counts, exposure, full, others, k, left, who if clustered else None)


def _fit(
    counts: NDArray[np.int64],
    exposure: NDArray[np.float64],
    full: NDArray[np.float64],
    others: NDArray[np.float64],
    k: int,
    left: int,
    clusters: list[str] | None,
) -> Fit:
    from scipy import stats

    api: Any = need("statsmodels.api", "study", "a study over nights")
    n, width = full.shape
    offset = np.log(exposure)
    with warnings.catch_warnings():
        # What they warn of is asked below.
        warnings.simplefilter("ignore")
        try:
            found = api.GLM(counts, full, family=api.families.Poisson(), offset=offset).fit(maxiter=100)
            settled, mu = bool(found.converged), np.asarray(found.mu)
            dispersion = _pearson(counts, mu, 0.0) / (n - width)
            between = 0.0
            if clusters is None:
                found, between = _negative_binomial(api, counts, full, offset, found)
                mu = np.asarray(found.mu)
                method = "negative binomial" if between else "Poisson"
            else:
                found = api.GEE(
                    counts,
                    full,
                    groups=clusters,
                    family=api.families.Poisson(),
                    cov_struct=api.cov_struct.Exchangeable(),
                    offset=offset,
                ).fit(cov_type="bias_reduced")
                mu = np.asarray(found.fittedvalues)
                method = f"Poisson GEE over {len(set(clusters))} sleepers"
            settled = settled and bool(found.converged)
            high = _solve_between(counts, mu, float(stats.chi2.ppf(1 - SURE, n - width)))
        except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
            raise DataError(f"the fit does not settle ({error})") from None
    beta, se = np.asarray(found.params)[-k:], np.asarray(found.bse)[-k:]
    if not (settled and np.isfinite(beta).all() and np.isfinite(se).all() and np.isfinite(dispersion)):
        raise DataError("the fit does not settle")
    reach = stats.t.ppf(0.5 + LEVEL / 2, left) * se
    p = 2 * stats.t.sf(np.abs(beta) / se, left)
    if others.shape[1] > 1:
        method += f", a baseline for each of {others.shape[1]} sleepers"
    return Fit(
        beta,
        se,
        beta - reach,
        beta + reach,
        p,
        dispersion,
        between,
        max(high, between),
        left,
        width,
        method,
        mu,
        others,
    )


def _pearson(counts: NDArray[np.int64], mu: NDArray[np.float64], between: float) -> float:
    """Return the sum of squared residuals over their variance."""
    return float(np.sum((counts - mu) ** 2 / (mu + between * mu**2)))


def _solve_between(counts: NDArray[np.int64], mu: NDArray[np.float64], wanted: float) -> float:
    """Return the variance between nights at which `_pearson` comes out as `wanted`; 0 where it is less without."""
    from scipy.optimize import brentq

    if _pearson(counts, mu, 0.0) <= wanted:
        return 0.0
    high = 1.0
    while _pearson(counts, mu, high) > wanted:
        high *= 2
        if high > WIDEST:
            raise ValueError("nights differ without bounds")
    return float(brentq(lambda between: _pearson(counts, mu, between) - wanted, 0.0, high))


def _negative_binomial(
    api: Any, counts: NDArray[np.int64], full: NDArray[np.float64], offset: NDArray[np.float64], poisson: Any
) -> tuple[Any, float]:
    """Return the fit in which residuals are as large as their variance says, and the variance between nights."""
    found, before = poisson, 0.0
    n, width = full.shape
    for _ in range(ROUNDS):
        between = _solve_between(counts, np.asarray(found.mu), n - width)
        if between < NEGLIGIBLE:
            return poisson, 0.0
        family = api.families.NegativeBinomial(alpha=between)
        found = api.GLM(counts, full, family=family, offset=offset).fit(
            maxiter=100, scale=1.0, start_params=found.params
        )
        if abs(between - before) < CLOSE * (1 + between):
            break
        before = between
    return found, between


# How many nights


def _variance(fit: Fit, column: NDArray[np.float64], beta: float, between: float | None = None) -> float:
    """Return the variance of the slope from one night, under the effect `beta` instead of the one that was fitted."""
    seen = _information(fit, column, float(fit.beta[0]), fit.between)
    asked = _information(fit, column, beta, fit.between if between is None else between)
    # 1 for a likelihood; for clusters what they add.
    inflation = float(fit.se[0]) ** 2 * seen
    return inflation / asked * len(column)


def _information(fit: Fit, column: NDArray[np.float64], beta: float, between: float) -> float:
    """Return the Fisher information of the slope in the nights at hand, were it `beta` and the mean count as seen."""
    centre = float(np.average(column, weights=fit.mu))
    mu = fit.mu * np.exp((beta - float(fit.beta[0])) * (column - centre))
    mu *= fit.mu.sum() / mu.sum()
    weight = mu / (1 + between * mu)
    root = np.sqrt(weight)
    part, *_ = np.linalg.lstsq(fit.others * root[:, None], column * root, rcond=None)
    return float(np.sum(weight * (column - fit.others @ part) ** 2))


def power_of(nights: int, beta: float, variance: float, parameters: int) -> float:
    """Return the probability of seeing an effect: that the 95 % interval leaves out 0 on the right side.

    Parameters
    ----------
    nights : int
        How many.
    beta : float
        Logarithm of the true rate ratio.
    variance : float
        Of its estimate from one night; that from n nights is the n-th part.
    parameters : int
        Of the mean, which cost degrees of freedom.
    """
    from scipy import stats

    left = nights - parameters
    if left < LEAST_LEFT:
        return 0.0
    edge = stats.t.ppf(0.5 + LEVEL / 2, left)
    # The far tail, the wrong sign, is no success and too small to matter.
    return float(stats.nct.sf(edge, left, abs(beta) / math.sqrt(variance / nights)))


def nights_needed(
    fit: Fit, column: NDArray[np.float64], ratio: float, *, cautious: bool = False
) -> int | None:
    """Return how many nights like those at hand would show a rate ratio with a power of 80 %.

    Parameters
    ----------
    fit : Fit
        Of the one covariate.
    column : ndarray, shape (n,)
        The covariate.
    ratio : float
        The true rate ratio of one step of it.
    cautious : bool
        Whether to take the variance between nights at its upper 80 % limit instead of as estimated.

    Returns
    -------
    int or None
        None for more than 100 000.

    Raises
    ------
    UsageError
        If the ratio is 1, or not above 0.
    """
    beta = _log_ratio(ratio)
    variance = _variance(fit, column, beta, fit.between_high if cautious else None)
    high = fit.parameters + LEAST_LEFT
    while power_of(high, beta, variance, fit.parameters) < POWER:
        high *= 2
        if high > MOST_NIGHTS:
            return None
    low = fit.parameters + LEAST_LEFT - 1
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle, beta, variance, fit.parameters) < POWER:
            low = middle
        else:
            high = middle
    return high


def detectable_ratio(fit: Fit, column: NDArray[np.float64]) -> float:
    """Return the least rate ratio above 1 that the nights at hand would have shown with a power of 80 %.

    Infinite where not even 100 would have been.
    """
    n = len(column)

    def shown(beta: float) -> bool:
        return power_of(n, beta, _variance(fit, column, beta), fit.parameters) >= POWER

    low, high = 0.0, math.log(LARGEST_RATIO)
    if not shown(high):
        return math.inf
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return math.exp(high)


def _log_ratio(ratio: float) -> float:
    if not (ratio > 0 and math.isfinite(ratio)) or ratio == 1:
        raise UsageError(f"effect {ratio!r} is not a rate ratio above 0 other than 1, such as 1.5")
    return math.log(ratio)


def attenuated(ratio: float, false: float) -> float:
    """Return the rate ratio that shows where a part of the candidates is false.

    Parameters
    ----------
    ratio : float
        The true one.
    false : float
        Part of the candidates that are no jerks, 0 to 1, in nights at the lower level of the covariate. They are taken
        to come whatever the covariate is. Missed jerks change nothing as long as they are missed at the same rate.

    Raises
    ------
    UsageError
        If `false` is no part.

    Examples
    --------
    >>> attenuated(2.0, 0.25)
    1.75
    """
    if not 0 <= false < 1:
        raise UsageError(f"{false!r} is not a part of the candidates, from 0 to below 1")
    return (1 - false) * ratio + false
