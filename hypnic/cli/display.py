"""What a person sees of a live session: a calm screen on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import deque
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np

from hypnic.cli.shared import clock_text
from hypnic.events import JERKS

if TYPE_CHECKING:
    from rich.text import Text

    from hypnic.live import Session, Update

__all__ = ["Lines", "Screen", "Trace", "open_display"]

REFRESH: Final = 0.5
"""Seconds between two pictures on a terminal."""

STATUS_EVERY: Final = 60.0
"""Seconds between two status lines where there is no terminal."""

SILENCE: Final = 3.0
"""Seconds without a sample after which a terminal says so."""

BIN: Final = 0.5
"""Seconds of samples behind one mark of the trace."""

QUIETEST, LOUDEST = 0.002, 1.0
"""Movement (g) of the lowest and the highest mark: a sensor's own noise, and a limb thrown about."""

BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS: Final = "_.:-=+*#"

HEADING: Final = "clock       onset       label           score     peak   length  rest"


class Trace:
    """The movement of the last half minute, one mark for each half second.

    A mark shows the largest distance of a sample from the mean of its half second, on a logarithmic scale
    from 2 mg to 1 g.
    """

    def __init__(self, rate: float, marks: int = 200) -> None:
        self._size = max(1, round(BIN * rate))
        self._marks: deque[float] = deque(maxlen=marks)
        self._held = np.empty((0, 3), np.float32)

    def add(self, xyz: np.ndarray[Any, np.dtype[np.float32]], missing: int) -> None:
        """Take the next samples."""
        lost = min(-(-missing // self._size), self._marks.maxlen or 0)
        if lost:
            self._held = self._held[:0]
            self._marks.extend([math.nan] * lost)
        held = np.concatenate([self._held, xyz])
        whole = len(held) // self._size
        bins = held[: whole * self._size].reshape(whole, self._size, 3)[-(self._marks.maxlen or 0) :]
        moved = np.linalg.norm(bins - bins.mean(axis=1, keepdims=True), axis=2).max(axis=1)
        self._marks.extend(moved.tolist())
        self._held = held[whole * self._size :]

    @property
    def latest(self) -> float:
        """Movement (g) in the last half second; NaN where there is none."""
        return self._marks[-1] if self._marks else math.nan

    def text(self, width: int, blocks: str = BLOCKS) -> str:
        """Return the last `width` marks, the newest on the right; blanks where samples are missing."""
        span = math.log(LOUDEST / QUIETEST)
        line = ""
        for moved in list(self._marks)[-width:]:
            level = math.log(max(moved, QUIETEST) / QUIETEST) / span * len(blocks) if moved == moved else -1
            line += " " if level < 0 else blocks[min(int(level), len(blocks) - 1)]
        return line.rjust(width)


def _bytes_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


class _Display:
    """What both displays show, and how a row is written."""

    def __init__(self, session: Session, zone: tzinfo | None) -> None:
        self.session = session
        self._zone = zone
        self._trace = Trace(session.source.rate)
        self._found: dict[int, str] = {}

    def _clock(self, posix: float) -> str:
        return f"{datetime.fromtimestamp(posix, self._zone):%H:%M:%S}" if math.isfinite(posix) else "-" * 8

    def _take(self, update: Update) -> None:
        self._trace.add(update.chunk.xyz, update.chunk.missing)
        for row in update.events:
            self._found[int(row["id"])] = str(row["label"])

    def _row(self, row: np.void) -> str:
        """Return a row of an event, as wide as `HEADING`."""
        clock = self._clock(self.session.time_of(int(row["sample"])))
        onset = clock_text(float(row["onset"]), 1)
        return (
            f"{clock}  {onset:>10}  {row['label']:<14}  {row['score']:5.2f}  {1e3 * row['peak_g']:4.0f} mg  "
            f"{row['duration']:5.2f} s  {row['rest']:<8}"
        )

    def _now(self) -> str:
        """Return the wall clock of the newest sample."""
        sample = round(self.session.elapsed * self.session.rate)
        return self._clock(self.session.time_of(sample))

    def _losses(self) -> str:
        """Return what came and what is missing, the rate as measured, and the other counters that are not 0."""
        parts = [f"{name} {count}" for name, count in self.session.losses.items()]
        measured = self.session.measured_rate
        if measured is not None:
            parts.insert(2, f"at {measured:.2f} Hz")
        return "  ".join(parts)

    def _events(self) -> str:
        labels = list(self._found.values())
        jerks = ", ".join(f"{labels.count(label)} {label}" for label in JERKS)
        return f"{jerks} (candidates), {sum(label not in JERKS for label in labels)} other events"

    def _rest(self) -> str:
        return self.session.rest or "measuring the rate"


class Lines(_Display):
    """Plain lines: every row as it comes, news of the source, and a status line each minute."""

    def __init__(self, session: Session, zone: tzinfo | None, out: TextIO) -> None:
        super().__init__(session, zone)
        self._out = out
        self._said: set[str] = set()
        self._status = ""
        self._next = time.monotonic()
        self._headed = False

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def update(self, update: Update) -> None:
        """Print what is new."""
        self._take(update)
        for row in update.events:
            if not self._headed:
                self._headed = True
                self._print(HEADING)
            state = {0: "provisional", 1: "final"}.get(int(row["revision"]), "revised")
            self._print(f"{self._row(row)}  {state}")
        for warning in self.session.warnings:
            # The same warning with another number in it is no news.
            words = re.sub(r"\d+", "", warning)
            if words not in self._said:
                self._said.add(words)
                self._print(f"warning: {warning}")
        status = getattr(self.session.source, "status", "")
        if status != self._status and status in ("streaming", "stalled", "disconnected"):
            if self._status:
                self._print(f"{self._now()}  {status}")
            self._status = status
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + STATUS_EVERY
            self._print(f"{self._now()}  {self._rest()}  {self._losses()}")

    def close(self) -> None:
        """Nothing is left to say."""


class Screen(_Display):
    """A few lines that stay in their place on a terminal; rows that are final scroll up above them."""

    def __init__(self, session: Session, zone: tzinfo | None, title: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        super().__init__(session, zone)
        self._text = Text
        self._console = Console(highlight=False)
        self._blocks = BLOCKS if _shows(BLOCKS, self._console.encoding) else PLAIN_BLOCKS
        self._provisional: dict[int, np.void] = {}
        self._next = 0.0
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stderr=False)
        self._print(Text(title, style="bold"))
        self._print(Text(HEADING, style="dim"))
        self._live.start()

    def _print(self, text: Text) -> None:
        self._console.print(text, no_wrap=True, overflow="ellipsis", crop=True)

    def update(self, update: Update) -> None:
        """Show what is new."""
        self._take(update)
        for row in update.events:
            if row["revision"] == 0:
                self._provisional[int(row["id"])] = row
                continue
            self._provisional.pop(int(row["id"]), None)
            self._print(self._styled(row, "  revised" if row["revision"] > 1 else ""))
        now = time.monotonic()
        if now >= self._next or len(update.events):
            self._next = now + REFRESH
            self._live.update(self._picture(), refresh=True)

    def _styled(self, row: np.void, state: str) -> Text:
        style = {"hypnic_jerk": "bold cyan", "isolated_jerk": "cyan"}.get(str(row["label"]), "")
        return self._text(self._row(row) + state, style=style)

    def _picture(self) -> Text:
        text, width = self._text, self._console.width
        lines = [text(self._row(row) + "  …", style="dim") for row in self._provisional.values()]
        lines.append(text(""))
        head = f"{self._now()}  {clock_text(self.session.elapsed):>8}  {self._rest():<8}  "
        latest = self._trace.latest
        tail = f"  {1e3 * latest:4.0f} mg" if latest == latest else "       mg"
        room = max(8, min(width - len(head) - len(tail) - 1, 60))
        trace = text(self._trace.text(room, self._blocks), style="green")
        lines.append(text.assemble((head, "bold"), trace, tail))
        lines.append(text(self._losses(), style="dim"))
        lines.append(text(self._events(), style="dim"))
        if self.session.silence >= SILENCE:
            lines.append(text(f"! no samples for {self.session.silence:.0f} s", style="yellow"))
        lines += [text(f"! {warning}", style="yellow") for warning in self.session.warnings[-3:]]
        for line in lines:
            line.truncate(width - 1, overflow="ellipsis")
        return text("\n").join(lines)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def _shows(characters: str, encoding: str) -> bool:
    try:
        characters.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def open_display(session: Session, title: str, zone: tzinfo | None, out: TextIO) -> Screen | Lines:
    """Return what suits `out`: a screen on a capable terminal, else lines."""
    from rich.console import Console

    console = Console(file=out)
    if out is sys.stdout and console.is_terminal and not console.is_dumb_terminal:
        return Screen(session, zone, title)
    lines = Lines(session, zone, out)
    lines._print(title)
    return lines
