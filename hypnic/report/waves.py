"""The waveform of one event as an SVG picture: three axes, and what the trigger saw.

Drawn here and not in the page's script, so that it is there without one and prints sharply.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.report.trace import Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Picture", "axes_mg", "nice", "picture"]

# Pixels of the picture at its natural size.
WIDTH: Final = 400
LEFT: Final = 34
LANE: Final = 38
TOP: Final = 12
LEVELS: Final = 66
GAP: Final = 14
BOTTOM: Final = 16
HEIGHT: Final = TOP + 3 * LANE + GAP + LEVELS + BOTTOM

FINER: Final = 10
"""Steps of a pixel in which paths are drawn."""


class Picture(NamedTuple):
    """What the template draws; paths are in tenths of a pixel.

    Attributes
    ----------
    width, height, left, right : float
        Of the whole, and of the time axis.
    lanes : list of (str, float, str)
        Name, middle and path of each axis.
    levels, background, on : str
        Paths of the lower panel.
    floor, ceiling : float
        Bottom and top of the lower panel.
    ticks : list of (float, str)
        Places and numbers on its axis (mg).
    seconds : list of (float, str)
        Places and numbers on the time axis, from the onset.
    onset, end : float
        Places on the time axis.
    limit : str
        What half a lane is.
    """

    width: float
    height: float
    left: float
    right: float
    lanes: list[tuple[str, float, str]]
    levels: str
    background: str
    on: str
    floor: float
    ceiling: float
    ticks: list[tuple[float, str]]
    seconds: list[tuple[float, str]]
    onset: float
    end: float
    limit: str


def nice(value: float) -> float:
    """Return the least of 1, 1.5, 2, 3, 5 and 7 times a power of ten that is not below `value`."""
    if not (math.isfinite(value) and value > 0.0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (step * power for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if step * power >= value), 10 * power
    )


def axes_mg(trace: Trace, onset: float) -> NDArray[np.float64]:
    """Return the acceleration (mg), shape (n, 3), less the median of each axis before the onset."""
    before = trace.xyz[trace.time < onset]
    sound = before[np.isfinite(before).all(axis=1)]
    if not len(sound):
        sound = trace.xyz[np.isfinite(trace.xyz).all(axis=1)]
    rest = np.median(sound, axis=0) if len(sound) else np.zeros(3)
    return 1e3 * (trace.xyz.astype(np.float64) - rest)


def picture(trace: Trace, event: np.void) -> Picture:
    """Return the picture of an event.

    Parameters
    ----------
    trace : Trace
        The stretch around it.
    event : row of the event table
        Its onset and duration are marked.
    """
    onset, end = float(event["onset"]), float(event["onset"] + event["duration"])
    first, last = (float(trace.time[0]), float(trace.time[-1])) if len(trace.time) else (onset, end)
    scale = (WIDTH - LEFT - 2) / max(last - first, 1e-9)

    def across(time: NDArray[np.float64]) -> NDArray[np.float64]:
        return LEFT + scale * (time - first)

    moves = axes_mg(trace, onset)
    finite = np.abs(moves[np.isfinite(moves)])
    limit = nice(float(finite.max(initial=0.0)))
    lanes = []
    for axis, name in enumerate("xyz"):
        middle = TOP + LANE * (axis + 0.5)
        time, value = _thinned(trace.time, moves[:, axis])
        lanes.append((name, middle, _path(across(time), middle - (0.5 * LANE - 1) * value / limit)))

    floor, ceiling = HEIGHT - BOTTOM, HEIGHT - BOTTOM - LEVELS
    level, background, on = (1e3 * values for values in (trace.level, trace.background, trace.on))
    known = np.concatenate([level, background, on])
    known = known[np.isfinite(known) & (known > 0)]
    calm = np.concatenate([background, on])
    calm = calm[np.isfinite(calm) & (calm > 0)]
    top = math.log10(1.3 * float(known.max(initial=1e-3)))
    bottom = min(math.log10(0.6 * float(calm.min() if len(calm) else known.min(initial=0.1))), top - 1.0)

    def up(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            place = (np.log10(values) - bottom) / (top - bottom)
        return floor - LEVELS * np.clip(place, 0.0, 1.0)

    slow = slice(None, None, max(1, len(trace.time) // 40))
    fine = slice(None, None, max(1, len(trace.time) // 300))
    ticks = [
        (float(up(np.array(10.0**power))), f"{10.0**power:g}")
        for power in range(math.ceil(bottom), math.floor(top) + 1)
    ]
    seconds = [
        (LEFT + scale * (onset + second - first), f"{second:g}")
        for second in range(math.ceil(first - onset), math.floor(last - onset) + 1)
    ]
    return Picture(
        WIDTH,
        HEIGHT,
        LEFT,
        WIDTH - 2,
        lanes,
        _path(across(trace.time[fine]), up(level[fine])),
        _path(across(trace.time[slow]), up(background[slow])),
        _path(across(trace.time[slow]), up(on[slow])),
        floor,
        ceiling,
        ticks,
        seconds,
        LEFT + scale * (max(onset, first) - first),
        LEFT + scale * (min(end, last) - first),
        f"{limit:g} mg" if limit < 1000 else f"{limit / 1000:g} g",
    )


def _thinned(
    time: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest value of each pixel where there are many more samples than pixels."""
    group = len(time) // (WIDTH - LEFT)
    if group < 3:
        return time, value
    whole = len(time) - len(time) % group
    parts = value[:whole].reshape(-1, group)
    pairs = np.stack([parts.min(axis=1), parts.max(axis=1)], axis=1)
    return np.repeat(time[:whole:group], 2), pairs.ravel()


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return an SVG path in tenths of a pixel, broken where a value is missing."""
    sound = np.isfinite(x) & np.isfinite(y)
    places = np.round(FINER * np.stack([x, y], axis=1)[sound]).astype(np.int64).tolist()
    numbers = np.flatnonzero(sound).tolist()
    said: list[str] = []
    letter = ""
    for n, (here, number) in enumerate(zip(places, numbers, strict=True)):
        if n and number == numbers[n - 1] + 1:
            said.append(f"{letter}{here[0] - places[n - 1][0]} {here[1] - places[n - 1][1]}")
            letter = " "
        else:
            said.append(f"M{here[0]} {here[1]}")
            letter = "l"
    return "".join(said)
