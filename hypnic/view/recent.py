"""The newest minute of a session, and its events so far: written by the session's thread, read by the server's."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hypnic.live import Mark, Session, Update

__all__ = ["WINDOW", "Bins", "Cursor", "Recent"]

WINDOW: Final = 60.0
"""Seconds of signal that are kept and shown."""

BIN: Final = 0.05
"""Seconds of samples behind one stroke of the drawing: a minute is then about as many as a screen has pixels."""

COUNTS_PER_G: Final = 10_000
"""Samples are sent as whole numbers of 0.1 mg: finer than the noise of any sensor that is named here."""

LARGEST_G: Final = 1000.0
"""Beyond any sensor; what damaged data may claim must still be drawn."""

EVENTS_KEPT: Final = 1000
"""Events that a page can show: more than a restless night has (8 h at 40 an hour are 320)."""

STATUS_EVERY: Final = 0.5
"""Seconds between two looks at counters, warnings and the link."""

WARNINGS_SHOWN: Final = 3
"""Warnings that are shown, as on a terminal."""


class Bins:
    """Samples as the smallest and largest of each bin of about 0.05 s and each axis.

    Bins are numbered by the recording's samples, lost ones counted, so the same samples fall into the same bins in
    whatever pieces they come. A bin without a valid sample is left out.

    Parameters
    ----------
    rate : float
        Sampling rate in Hz.
    """

    def __init__(self, rate: float) -> None:
        self.size = max(1, round(BIN * rate))
        self._start = 0
        self._held = np.empty((0, 3), np.float32)

    def add(self, xyz: NDArray[np.float32], missing: int = 0) -> list[tuple[int, list[int]]]:
        """Take the next samples and return the bins that are complete.

        Parameters
        ----------
        xyz : ndarray of float32, shape (n, 3)
            Samples in g.
        missing : int, optional
            Samples lost before them.

        Returns
        -------
        list of (int, list of int)
            Number of the bin; smallest and largest of x, then of y and z, in 0.1 mg.
        """
        done: list[tuple[int, list[int]]] = []
        if missing:
            done = self._take(self._held, self._start)
            self._start += len(self._held) + missing
            self._held = xyz
        else:
            self._held = np.concatenate([self._held, xyz])
        whole = (self._start + len(self._held)) // self.size * self.size - self._start
        if whole > 0:
            done += self._take(self._held[:whole], self._start)
            self._held = self._held[whole:]
            self._start += whole
        return done

    def _take(self, xyz: NDArray[np.float32], start: int) -> list[tuple[int, list[int]]]:
        if not len(xyz):
            return []
        first = start // self.size
        edges = np.arange(first * self.size, start + len(xyz), self.size) - start
        edges[0] = 0
        span = np.empty((len(edges), 6))
        span[:, ::2] = np.fmin.reduceat(xyz, edges)
        span[:, 1::2] = np.fmax.reduceat(xyz, edges)
        known = ~np.isnan(span).any(axis=1)
        counts = np.rint(np.clip(span[known], -LARGEST_G, LARGEST_G) * COUNTS_PER_G).astype(int)
        return list(zip((first + np.flatnonzero(known)).tolist(), counts.tolist(), strict=True))


class Cursor(NamedTuple):
    """What a reader has seen: the newest bin, level and version of events, marks and status."""

    bin: int = -1
    level: int = -1
    version: int = 0


class Recent:
    """What the page shows of a session.

    `add` and `end` belong to the session's thread, `since` and `sample_at` may be called from any.

    Parameters
    ----------
    session : Session
        The session.
    zone : tzinfo or None
        The zone of the clock times; by default this computer's.
    """

    def __init__(self, session: Session, zone: tzinfo | None) -> None:
        self._session = session
        self._zone = zone
        self._lock = threading.Lock()
        self.bins = Bins(session.source.rate)
        kept = round(WINDOW * session.source.rate / self.bins.size)
        self._strokes: deque[tuple[int, list[int]]] = deque(maxlen=kept)
        # Levels come ten times a second.
        self._levels: deque[tuple[int, float, float | None, float | None, int]] = deque(
            maxlen=round(10 * WINDOW)
        )
        self._rows: dict[int, tuple[int, dict[str, Any]]] = {}
        self._found: dict[int, str] = {}
        self._marks: tuple[int, list[dict[str, Any]]] = (0, [])
        self._marked: tuple[Mark, ...] = ()
        self._clocks: dict[int, str] = {}
        self._status: tuple[int, dict[str, Any]] = (0, {})
        self._version = 0
        self._position = 0
        self._place = 0, time.monotonic(), session.rate
        self._speed = float(getattr(session.source, "speed", 1.0))
        self._next = 0.0
        self._over: str | None = None

    @property
    def speed(self) -> float:
        """Times the recorded speed at which the session runs."""
        return self._speed

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self._over is not None

    def sample_at(self, age: float) -> int:
        """Return the number of the sample that is taken now, or was `age` seconds ago, whether it has come or not."""
        sample, arrived, rate = self._place
        ahead = (time.monotonic() - age - arrived) * rate * self._speed
        return max(0, sample + (round(ahead) if math.isfinite(ahead) else 0))

    def add(self, update: Update) -> None:
        """Take what a step of the session has brought."""
        chunk, session = update.chunk, self._session
        strokes: list[tuple[int, list[int]]] = []
        if len(chunk) or chunk.missing:
            strokes = self.bins.add(chunk.xyz, chunk.missing)
            self._position += chunk.missing + len(chunk)
            self._place = self._position, time.monotonic(), session.rate
        levels = self._levels_since(self._levels[-1][0] if self._levels else -1) if len(chunk) else []
        rows = [self._row(row) for row in update.events]
        marks = session.marks
        now = time.monotonic()
        status = None
        if now >= self._next or rows or marks != self._marked:
            self._next = now + STATUS_EVERY
            self._found |= {row["id"]: row["label"] for row in rows}
            status = self._state()
        with self._lock:
            self._strokes.extend(strokes)
            self._levels.extend(levels)
            for row in rows:
                self._rows.pop(row["id"], None)
                self._rows[row["id"]] = self._next_version(), row
            while len(self._rows) > EVENTS_KEPT:
                del self._rows[min(self._rows)]
            if marks != self._marked:
                self._marked = marks
                self._marks = self._next_version(), [self._mark(mark) for mark in marks]
            if status is not None:
                self._status = self._next_version(), status

    def end(self, reason: str) -> None:
        """Say that the session is over, and why."""
        status = self._state() | {"ended": reason}
        with self._lock:
            self._over = reason
            self._status = self._next_version(), status

    def since(self, cursor: Cursor, skip: bool = False) -> tuple[dict[str, Any], Cursor]:
        """Return what is new since `cursor`, and the cursor after it.

        Parameters
        ----------
        cursor : Cursor
            What has been seen.
        skip : bool, optional
            Leave out the signal since then, and say how many seconds that is.

        Returns
        -------
        dict
            ``bins``: runs of neighbouring bins, each a list of the first one's number and six numbers for each.
            ``levels``: sample, band energy, background, threshold (as root mean squares in mg, null where unknown),
            and 1 while an event is open. ``events``, ``marks``, ``status``: as they now are. ``skipped``: seconds.
            Parts without news are absent.
        """
        found: dict[str, Any] = {}
        with self._lock:
            strokes = _newer(self._strokes, cursor.bin)
            levels = _newer(self._levels, cursor.level)
            news = [row for version, row in self._rows.values() if version > cursor.version]
            if self._marks[0] > cursor.version:
                found["marks"] = self._marks[1]
            if self._status[0] > cursor.version:
                found["status"] = self._status[1]
            after = Cursor(
                strokes[-1][0] if strokes else cursor.bin,
                levels[-1][0] if levels else cursor.level,
                self._version,
            )
        if skip and strokes:
            found["skipped"] = round((after.bin - cursor.bin) * self.bins.size / self._place[2], 1)
        elif strokes:
            found["bins"] = _runs(strokes)
        if levels and not skip:
            found["levels"] = levels
        if news:
            found["events"] = news
        return found, after

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _levels_since(self, sample: int) -> list[tuple[int, float, float | None, float | None, int]]:
        detector = self._session.detector
        if detector is None:
            return []
        levels = detector.levels(blocks=64)
        background, threshold = _rms(levels.background), _rms(levels.threshold)
        return [
            (at, _rms(energy) or 0.0, background, threshold, int(levels.open))
            for at, energy in zip(levels.samples.tolist(), levels.energy.tolist(), strict=True)
            if at > sample
        ]

    def _row(self, row: np.void) -> dict[str, Any]:
        return {
            "id": int(row["id"]),
            "revision": int(row["revision"]),
            "onset": round(float(row["onset"]), 2),
            "clock": self._clock(int(row["sample"])),
            "label": str(row["label"]),
            "score": round(float(row["score"]), 2),
            "peak": round(1e3 * float(row["peak_g"]), 1),
            "duration": round(float(row["duration"]), 2),
            "rest": str(row["rest"]),
        }

    def _mark(self, mark: Mark) -> dict[str, Any]:
        if mark.number not in self._clocks:
            self._clocks[mark.number] = self._clock(mark.sample)
        return {
            "number": mark.number,
            "onset": round(mark.sample / self._session.rate, 2),
            "clock": self._clocks[mark.number],
            "label": mark.label,
        }

    def _state(self) -> dict[str, Any]:
        session = self._session
        labels = list(self._found.values())
        return {
            "elapsed": round(session.elapsed, 1),
            "clock": self._clock(self._position),
            "rate": session.rate,
            "measured": None if session.measured_rate is None else round(session.measured_rate, 2),
            "rest": session.rest,
            "link": getattr(session.source, "status", ""),
            "silence": round(session.silence, 1),
            "losses": session.losses,
            "warnings": [str(warning)[:300] for warning in session.warnings[-WARNINGS_SHOWN:]],
            "found": {label: labels.count(label) for label in dict.fromkeys(labels)},
            "older": len(self._found) - len(self._rows) if len(self._found) > EVENTS_KEPT else 0,
        }

    def _clock(self, sample: int) -> str:
        posix = self._session.time_of(sample)
        return f"{datetime.fromtimestamp(posix, self._zone):%H:%M:%S}" if math.isfinite(posix) else ""


def _rms(energy: float) -> float | None:
    """Return a band energy (g squared) as root mean square in mg."""
    return round(1e3 * math.sqrt(energy), 2) if math.isfinite(energy) else None


def _newer(items: deque[Any], number: int) -> list[Any]:
    """Return the items whose own first number is above `number`, in order."""
    found = []
    for item in reversed(items):
        if item[0] <= number:
            break
        found.append(item)
    return found[::-1]


def _runs(strokes: list[tuple[int, list[int]]]) -> list[list[int]]:
    """Return bins as runs without a hole."""
    runs: list[list[int]] = []
    expected = -1
    for number, span in strokes:
        if number != expected:
            runs.append([number])
        runs[-1] += span
        expected = number + 1
    return runs
