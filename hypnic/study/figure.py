"""The figure of a study: the ratios with their intervals, and the rate of each night over time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.export.base import need, whole
from hypnic.study.nights import EXPOSURES, exposure

if TYPE_CHECKING:
    from hypnic.study.ratios import Study

__all__ = ["draw"]

WIDTH: Final = 9.0
"""Inches."""

EDGES: Final = (0.1, 10.0)
"""Ratios that the axis reaches to at most; an interval that goes on is drawn as an arrow."""

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of sleepers: those of Okabe and Ito (2008), which colour-blind people tell apart."""


def draw(study: Study, path: str | os.PathLike[str]) -> None:
    """Draw the ratios with their intervals, and the jerks of each night over time (needs the ``study`` extra).

    Parameters
    ----------
    study : Study
        From `hypnic.study.compare`.
    path : path-like
        PNG, SVG or PDF, by its ending.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    OSError
        If it cannot be written.
    """
    need("matplotlib", "study", "the figure of a study")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(study.ratios), 1)
    heights = [0.9 + 0.32 * rows, 2.6]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    forest, nights = figure.subplots(2, 1, height_ratios=heights)
    _forest(forest, study)
    _nights(nights, study)
    figure.suptitle(study.headline, fontsize=10)
    target = Path(path)
    with whole(target) as partial:
        figure.savefig(partial, dpi=150, format=target.suffix.lstrip(".").lower() or "png")


def _forest(axes: Any, study: Study) -> None:
    low, high = EDGES
    labels, texts = [], []
    for at, r in enumerate(study.ratios):
        ends = [max(r.low, low), min(r.high, high)]
        axes.plot(ends, [at, at], color="0.35", lw=1.4, solid_capstyle="butt", zorder=2)
        for end, beyond, marker in ((low, r.low < low, "<"), (high, r.high > high, ">")):
            if beyond:
                axes.plot([end], [at], marker, color="0.35", ms=6, clip_on=False, zorder=3)
        if low <= r.ratio <= high:
            face = "white" if r.joint else COLOURS[0]
            axes.plot([r.ratio], [at], "o", mfc=face, mec=COLOURS[0], ms=7, clip_on=False, zorder=4)
        labels.append(f"{r.covariate}, {r.term}")
        texts.append(f"{r.ratio:.2f} ({r.low:.2f}–{r.high:.2f}), {r.nights} nights")
    axes.axvline(1.0, color="0.6", lw=1, ls="--", zorder=1)
    axes.set_xscale("log")
    bounds = [value for r in study.ratios for value in (r.low, r.high)]
    axes.set_xlim(
        max(low, min([*bounds, 0.5]) * 0.9),
        min(high, max([*bounds, 2.0]) * 1.1),
    )
    left, right = axes.get_xlim()
    ticks = [t for t in (0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if left <= t <= right]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(len(labels) - 0.4 if labels else 0.6, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(texts)), texts)
    beside.tick_params(length=0, pad=10)
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    beside.spines["right"].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=10)
    joint = "; hollow: all fitted together" if any(r.joint for r in study.ratios) else ""
    axes.set_xlabel(f"rate ratio of candidate jerks, 95 % interval{joint}")
    if not study.ratios:
        axes.text(0.5, 0.5, "no column could be fitted", transform=axes.transAxes, ha="center", color="0.4")


def _nights(axes: Any, study: Study) -> None:
    pairs = study.pairs
    rates = np.array([pair.night.jerks for pair in pairs]) / np.array(
        list(exposure([pair.night for pair in pairs], study.exposure))
    )
    dated = all(pair.night.date is not None for pair in pairs)
    places: list[Any] = [pair.night.date if dated else number for number, pair in enumerate(pairs, 1)]
    people = sorted({pair.sleeper for pair in pairs})
    for number, person in enumerate(people):
        mine = [at for at, pair in enumerate(pairs) if pair.sleeper == person]
        mine.sort(key=lambda at: places[at])
        colour = COLOURS[number % len(COLOURS)]
        shape = "os^Dv"[number // len(COLOURS) % 5]
        axes.plot(
            [places[at] for at in mine],
            rates[mine],
            shape,
            color=colour,
            ms=5,
            label=person or None,
            linestyle="-",
            lw=0.6,
            alpha=0.9,
            clip_on=False,
        )
    axes.set_ylim(0, max(1.0, float(rates.max()) * 1.1) if len(rates) else 1.0)
    axes.set_ylabel(f"candidate jerks\nper {EXPOSURES[study.exposure]}")
    if dated:
        dates: Any = need("matplotlib.dates", "study", "the figure of a study")
        locator = dates.AutoDateLocator(minticks=3, maxticks=9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    else:
        axes.set_xlabel("night, in the order of the diary")
    if 1 < len(people) <= len(COLOURS):
        axes.legend(fontsize=8, frameon=False, ncols=min(len(people), 4), loc="upper left")
    axes.margins(x=0.03)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
