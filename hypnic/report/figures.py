"""Figures for papers and notebooks, on Matplotlib axes (needs the ``plot`` extra).

Each function draws on axes of the caller or on new ones and returns them; nothing global is changed, no style set and
nothing shown. Colours are those of Okabe and Ito (2008), and each label has a marker of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.bouts import rest_table
from hypnic.errors import DataError, UsageError
from hypnic.events import JERKS, LABELS, RESTS, Events
from hypnic.report.trace import AFTER_S, Trace, around, watch
from hypnic.report.waves import axes_mg
from hypnic.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from hypnic.chunk import Source
    from hypnic.readers import BaseRecording

__all__ = ["plot_average", "plot_event", "plot_night"]

MARKERS: Final[Mapping[str, tuple[str, str]]] = {
    "hypnic_jerk": ("^", "#D55E00"),
    "isolated_jerk": ("^", "#D55E00"),
    "plm": ("s", "#0072B2"),
    "rhythmic": ("D", "#56B4E9"),
    "posture_shift": ("_", "#009E73"),
    "movement": (".", "#777777"),
    "impact": ("x", "#CC79A7"),
    "sensor_artifact": ("+", "#A07800"),
}
"""Marker and colour of each label."""

AXIS_LINES: Final = (("x", "#0072B2", "-"), ("y", "#D55E00", "--"), ("z", "#009E73", ":"))
"""Name, colour and line of each axis of the sensor."""

REST_COLOURS: Final[Mapping[str, str]] = {
    "awake": "#C9CED4",
    "settling": "#F2B48C",
    "onset": "#DD7A3C",
    "still": "#7D93AB",
    "off": "#FFFFFF",
}

ENVELOPE: Final = 2000
"""Points of the movement over a night."""

TOO_MANY: Final = 500
"""Most events of an average: each is read sample by sample."""


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UsageError("figures need Matplotlib: pip install 'hypnic[plot]'") from None
    return pyplot


def _settings(events: Events, source: Source) -> Settings | None:
    """Return the settings that the events were made with, None where they do not say."""
    said = events.meta.get("settings")
    return None if said is None else Settings.from_dict(said, source.site)


def plot_night(
    recording: BaseRecording,
    events: Events | None = None,
    *,
    axes: Sequence[Axes] | None = None,
) -> NDArray[Any]:
    """Draw a night: band energy, posture, rest and onset windows, and events by label.

    Parameters
    ----------
    recording : BaseRecording
        What `hypnic.open` returns for a file.
    events : Events, optional
        What was found in it; by default what `hypnic.detect` finds.
    axes : sequence of 4 matplotlib Axes, optional
        Where to draw, from top to bottom; by default a new figure.

    Returns
    -------
    ndarray of matplotlib Axes, shape (4,)

    Raises
    ------
    UsageError
        If Matplotlib is absent, or there are not four axes.
    DataError
        As `hypnic.detect`.

    Notes
    -----
    Hours count from the start of the recording. Band energy is its root in mg, the largest and the smallest of each
    stretch, and below it the threshold, as they stood in the detector. A ``hypnic_jerk`` is a candidate.
    """
    pyplot = _pyplot()
    if events is None:
        from hypnic.detector import detect

        events = detect(recording)
    events = events.latest()
    course, _ = watch(recording, settings=_settings(events, recording))
    assert course is not None  # the whole was asked for
    if axes is None:
        _, made = pyplot.subplots(
            4,
            1,
            sharex=True,
            figsize=(10, 6),
            height_ratios=(3, 2, 1, 2.5),
            layout="constrained",
        )
        axes = list(made)
    if len(axes) != 4:
        raise UsageError(f"{len(axes)} axes for a night: it takes 4, one above the other")
    energy, posture, rest, labels = axes

    group = max(1, math.ceil(len(course.level) / ENVELOPE))
    padded = np.full(group * math.ceil(len(course.level) / group), np.nan, np.float32)
    padded[: len(course.level)] = course.level
    parts = 1e3 * padded.reshape(-1, group)
    known = np.isfinite(parts).any(axis=1)
    high, low = np.full(len(parts), np.nan), np.full(len(parts), np.nan)
    high[known], low[known] = np.nanmax(parts[known], axis=1), np.nanmin(parts[known], axis=1)
    hours = (np.arange(len(parts)) + 0.5) * group * course.width / 3600
    energy.fill_between(hours, low, high, color="#2F4858", linewidth=0.5, label="band energy")
    slow = (np.arange(len(course.on)) + 0.5) * course.epoch / 3600
    energy.plot(slow, 1e3 * course.on, color="#D55E00", linestyle=":", linewidth=1, label="threshold")
    _plain_logarithm(energy)
    energy.set_ylabel("movement (mg)")
    # Above the axes, where nothing is drawn.
    energy.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize="small", frameon=False, ncols=2)

    for axis, (name, colour, line) in enumerate(AXIS_LINES):
        posture.plot(slow, course.gravity[:, axis], color=colour, linestyle=line, linewidth=1, label=name)
    posture.set_ylabel("posture (g)")
    posture.set_ylim(-1.15, 1.15)
    posture.legend(loc="lower right", bbox_to_anchor=(1, 0.96), fontsize="small", frameon=False, ncols=3)

    try:
        table = rest_table(events)
    except DataError:
        table = rest_table(events, [])
    for place, state in enumerate(RESTS):
        bouts = table.bouts[table.bouts["rest"] == state]
        rest.broken_barh(
            [(bout["onset"] / 3600, bout["duration"] / 3600) for bout in bouts],
            (len(RESTS) - 1 - place - 0.4, 0.8),
            facecolor=REST_COLOURS[state],
            edgecolor="#777777" if state == "off" else "none",
        )
    rest.set_yticks(range(len(RESTS)), RESTS[::-1], fontsize="x-small")
    rest.set_ylim(-0.6, len(RESTS) - 0.4)
    for window in table.windows:
        for ax in axes:
            ax.axvspan(window["onset"] / 3600, window["end"] / 3600, color="#FBEADF", zorder=0, linewidth=0)

    shown = [label for label in LABELS if np.any(events["label"] == label)]
    for place, label in enumerate(shown):
        marker, colour = MARKERS[label]
        onsets = events["onset"][events["label"] == label] / 3600
        # The same triangle, hollow: the same shape at another time.
        face = "none" if label == "isolated_jerk" else colour
        heights = np.full(len(onsets), len(shown) - 1 - place)
        labels.plot(onsets, heights, marker, color=colour, markerfacecolor=face)
    labels.set_yticks(range(len(shown)), shown[::-1], fontsize="x-small")
    labels.set_ylim(-0.7, max(len(shown), 1) - 0.3)
    labels.set_xlabel("time from the start (h)")
    labels.set_xlim(0, recording.duration / 3600)
    return np.array([energy, posture, rest, labels])


def plot_event(
    recording: Source,
    event: np.void | int,
    events: Events | None = None,
    *,
    axes: Sequence[Axes] | None = None,
) -> NDArray[Any]:
    """Draw one event: three axes, and its band energy against background and threshold.

    Parameters
    ----------
    recording : Source
        What `hypnic.open` returns for a file, or another source with an end.
    event : row of the event table, or int
        The event, or its ``id`` in `events`.
    events : Events, optional
        The table that it is from: its settings are used, otherwise those of the site's preset.
    axes : sequence of 2 matplotlib Axes, optional
        Where to draw, from top to bottom; by default a new figure.

    Returns
    -------
    ndarray of matplotlib Axes, shape (2,)

    Raises
    ------
    UsageError
        If Matplotlib is absent, there is no such event, or there are not two axes.

    Notes
    -----
    Seconds count from the onset. The axes stand less their medians before it. Band energy (its root, in mg),
    background and threshold are what stood in the detector, which runs over the recording up to there.
    """
    pyplot = _pyplot()
    row = _row(event, events)
    settings = None if events is None else _settings(events, recording)
    _, (trace,) = watch(recording, [around(row)], settings=settings, whole=False)
    if axes is None:
        _, made = pyplot.subplots(2, 1, sharex=True, figsize=(6, 4.5), layout="constrained")
        axes = list(made)
    if len(axes) != 2:
        raise UsageError(f"{len(axes)} axes for an event: it takes 2, one above the other")
    above, below = axes
    onset = float(row["onset"])
    seconds = trace.time - onset
    moves = axes_mg(trace, onset)
    for axis, (name, colour, line) in enumerate(AXIS_LINES):
        above.plot(seconds, moves[:, axis], color=colour, linestyle=line, linewidth=1.2, label=name)
    above.set_ylabel("acceleration (mg)")
    above.legend(loc="upper right", fontsize="small", frameon=False, ncols=3)
    below.plot(seconds, 1e3 * trace.level, color="#0072B2", label="band energy")
    below.plot(seconds, 1e3 * trace.background, color="#777777", linestyle="--", label="background")
    below.plot(seconds, 1e3 * trace.on, color="#D55E00", linestyle=":", label="threshold")
    _plain_logarithm(below)
    below.set_ylabel("band energy (mg)")
    below.set_xlabel("time from the onset (s)")
    below.legend(loc="upper right", fontsize="small", frameon=False)
    for ax in (above, below):
        ax.axvspan(0.0, float(row["duration"]), color="#FBEADF", zorder=0, linewidth=0)
    candidate = " (candidate)" if str(row["label"]) in JERKS else ""
    above.set_title(f"{row['label']}{candidate}, score {row['score']:.2f}", fontsize="medium")
    return np.array([above, below])


def _plain_logarithm(ax: Axes) -> None:
    """Make the upright axis logarithmic, with 1, 10 and 100 at its marks rather than powers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _row(event: np.void | int, events: Events | None) -> np.void:
    """Return a row of the event table from itself or its id."""
    if isinstance(event, np.void):
        return event
    if events is None:
        raise UsageError(f"event {event!r}: an id means something only with the events that it is from")
    table = events.latest()
    found = table.array[table["id"] == event]
    if not len(found):
        raise UsageError(f"there is no event {event!r} among these {len(table)}")
    row: np.void = found[0]
    return row


def plot_average(
    recording: Source,
    events: Events,
    *,
    ax: Axes | None = None,
    before: float = 1.0,
    after: float = AFTER_S,
) -> Axes:
    """Draw jerks aligned on their onsets: mean of the band energy, and its spread.

    Parameters
    ----------
    recording : Source
        What `hypnic.open` returns for a file, or another source with an end.
    events : Events
        What was found in it. Its jerks are drawn, or where it holds none, all of its rows: a table of another label
        gives that label's average.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.
    before, after : float
        Seconds from and to.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    UsageError
        If Matplotlib is absent, or the span is none.
    DataError
        If there are no events.

    Notes
    -----
    Energies of different jerks lie decades apart, so mean and standard deviation are those of the logarithm, over each
    event's own background: what the detector calls prominence, in ln. Events at a gap count where there are samples.
    """
    if not (0 < before <= 60 and 0 < after <= 60):
        raise UsageError(f"from {before} s before to {after} s after is no span: use up to 60 s each")
    pyplot = _pyplot()
    table = events.latest()
    table = table.jerks if len(table.jerks) else table
    if not len(table):
        raise DataError("there are no events to average")
    picked = table.array[np.linspace(0, len(table) - 1, min(len(table), TOO_MANY)).astype(np.int64)]
    onsets = picked["onset"]
    margin = 2.0 / recording.rate
    _, traces = watch(
        recording,
        [(onset - before - margin, onset + after + margin) for onset in onsets],
        settings=_settings(events, recording),
        whole=False,
    )
    step = max(1.0 / recording.rate, 0.01)
    seconds = np.arange(math.ceil(-before / step), math.floor(after / step) + 1).astype(np.float64) * step
    lines = np.stack(
        [_prominence(trace, onset, seconds) for trace, onset in zip(traces, onsets, strict=True)]
    )
    known = np.isfinite(lines).any(axis=0)
    seconds, lines = seconds[known], lines[:, known]
    if ax is None:
        _, ax = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    mean, spread = np.nanmean(lines, axis=0), np.nanstd(lines, axis=0)
    count = f"{len(picked)} of {len(table)}" if len(picked) < len(table) else f"{len(table)}"
    ax.plot(seconds, lines.T, color="#777777", linewidth=0.5, alpha=min(0.5, 10.0 / len(lines)))
    ax.fill_between(
        seconds, mean - spread, mean + spread, color="#0072B2", alpha=0.2, linewidth=0, label="± SD"
    )
    ax.plot(seconds, mean, color="#0072B2", linewidth=2, label="mean")
    ax.axvline(0.0, color="#D55E00", linestyle=":", linewidth=1)
    ax.set_xlabel("time from the onset (s)")
    ax.set_ylabel("prominence (ln)")
    ax.set_title(f"{count} {_called(picked['label'])}", fontsize="medium")
    ax.legend(loc="upper right", fontsize="small", frameon=False)
    return ax


def _called(labels: NDArray[np.str_]) -> str:
    """Return what a title calls events of these labels."""
    names = sorted(set(labels.tolist()))
    candidates = " (candidates)" if set(names) & set(JERKS) else ""
    called = "jerks" if set(names) == set(JERKS) else ", ".join(names)
    return called + candidates


def _prominence(trace: Trace, onset: float, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log energy over the background at times from the onset, NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 2.0 * np.log(trace.level / trace.background)
    if len(trace.time) < 2:
        return np.full(len(seconds), np.nan)
    at = np.interp(onset + seconds, trace.time, value, left=math.nan, right=math.nan)
    return np.where(np.isfinite(at), at, math.nan)
