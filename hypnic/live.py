"""A source through the detector while it runs: recorded, reported and acted on.

A board, a replayed night and a simulated one take the same way. What a session finds is, to the byte, what
`hypnic.detect` finds in the file that it recorded.

>>> from hypnic.live import EventFile, Session                              # doctest: +SKIP
>>> with (                                                                  # doctest: +SKIP
...     hypnic.open("serial:auto", site="wrist") as board,
...     Session(board, record="night.h5", sinks=[EventFile("night.csv")]) as session,
... ):
...     for chunk, events in session:
...         for event in events.jerks:
...             print(event["onset"], event["score"], event["revision"])
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TextIO, runtime_checkable

import numpy as np

from hypnic.chunk import Chunk, Site, Source
from hypnic.detector import Detector
from hypnic.errors import DataError, HypnicError, UsageError
from hypnic.events import EVENT_DTYPE, Events, format_row
from hypnic.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from hypnic.recording import Recorder

__all__ = [
    "EventCommand",
    "EventFile",
    "Mark",
    "Player",
    "SampleSink",
    "Session",
    "Sink",
    "Update",
    "prepare",
]

PIECE: Final = 0.1
"""Seconds on the clock that one piece of a played recording lasts."""

WAKE: Final = 0.2
"""Longest wait (s) of a player for its next piece, and so for a stop to be seen."""

CLOCK_EVERY: Final = 60.0
"""Seconds between two entries in the /clock of a night that is recorded from a board."""

SOURCE_LOSSES: Final = (
    "dropped",
    "bad_frames",
    "malformed",
    "implausible",
    "reconnects",
    "restarts",
    "stalls",
)
"""Counters of a source that tell of trouble on the way."""

COMMAND_LIMIT: Final = 30.0
"""Seconds after which a command that an event has started is killed."""

COMMAND_QUEUE: Final = 100
"""Events that may wait for their command; a minute of the most restless sleeper has fewer."""

COMMAND_FAREWELL: Final = 5.0
"""Seconds that the last commands have when a session ends."""

LINE_FORMATS: Final = ("csv", "tsv", "jsonl")
"""Formats of `EventFile`: those of one line a row."""

_NO_SAMPLES: Final = np.empty((0, 3), np.float32)


def prepare() -> None:
    """Load the detector, compiling it where that was never done (some 20 s), before samples wait for it."""
    detector = Detector(100.0)
    detector.push(np.zeros((1, 3)))
    detector.flush()


class Update(NamedTuple):
    """What one step of a session has brought: samples (perhaps none) and rows of events (mostly none)."""

    chunk: Chunk
    events: Events


class Mark(NamedTuple):
    """What a person has marked while a session runs: an annotation of its night, without duration.

    Attributes
    ----------
    number : int
        By which `Session.unmark` knows it.
    sample : int
        Number of the sample that is marked, lost samples counted.
    label, source : str
        As they stand in the night.
    """

    number: int
    sample: int
    label: str
    source: str


class Sink(Protocol):
    """Anything that takes the events of a session."""

    def take(self, events: Events) -> None:
        """Take new rows as they come, provisional ones and revisions."""

    def finish(self, events: Events) -> None:
        """Take the last revision of every event, when the session has ended as it should."""

    def close(self) -> None:
        """Let go of whatever is held, however the session has ended."""


@runtime_checkable
class SampleSink(Sink, Protocol):
    """A sink that takes the samples of a session as well."""

    def take_samples(self, chunk: Chunk) -> None:
        """Take the samples of each chunk (perhaps none) before the detector does."""


class Player:
    """Any source, played by the clock in small pieces, as from a board.

    Parameters
    ----------
    source : Source
        What to play.
    speed : float, optional
        Times the recorded speed; infinite for as fast as can be.

    Raises
    ------
    UsageError
        If the speed is not above 0.

    Notes
    -----
    A gap takes its time too. While there is nothing to hand over, iteration yields a chunk of no samples
    every 0.2 s, as a board does. Whatever else the source knows of itself, the player knows as well.
    """

    def __init__(self, source: Source, speed: float = 1.0) -> None:
        if not speed > 0:
            raise UsageError(f"speed {speed!r} is not a number above 0")
        self.source = source
        self.speed = speed
        self._stopped = False

    @property
    def rate(self) -> float:
        """Sampling rate in Hz."""
        return self.source.rate

    @property
    def site(self) -> Site:
        """Where the sensor is."""
        return self.source.site

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __iter__(self) -> Iterator[Chunk]:
        begun = time.monotonic()
        first: int | None = None
        # At any speed a piece is short enough for a stop to be seen soon.
        size = max(1, round(self.rate * (PIECE * self.speed if math.isfinite(self.speed) else 60.0)))
        for chunk in self.source:
            for at in range(0, max(len(chunk), 1), size):
                piece = _piece(chunk, at, at + size, self.rate)
                first = piece.index - piece.missing if first is None else first
                due = begun + (piece.index + len(piece) - first) / self.rate / self.speed
                while not self._stopped and (left := due - time.monotonic()) > 0:
                    time.sleep(min(left, WAKE))
                    if left > WAKE:
                        yield Chunk(_NO_SAMPLES, piece.index - piece.missing)
                if self._stopped:
                    return
                yield piece

    def stop(self) -> None:
        """Ask for the end: iteration ends before the next piece. Returns at once."""
        self._stopped = True

    def __enter__(self) -> Self:
        self.source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.__exit__(kind, error, trace)


def _piece(chunk: Chunk, start: int, stop: int, rate: float) -> Chunk:
    """Return the samples from `start` to `stop` of a chunk; what was lost before it stays with its first."""
    if start == 0 and stop >= len(chunk):
        return chunk
    part = replace(
        chunk, xyz=chunk.xyz[start:stop], index=chunk.index + start, time=chunk.time + start / rate
    )
    return part if start == 0 else replace(part, missing=0, reason="")


class Session:
    """A source, its detector, its recorder and its sinks, until one of them ends.

    Iterating runs it and yields an `Update` for each chunk of the source, and one for what the end brings.

    Parameters
    ----------
    source : Source
        Where the samples come from. It is not closed.
    settings : Settings, optional
        Thresholds; by default the preset of the source's site.
    record : path-like, optional
        HDF5 night to make: crash-safe, readable while it grows, samples as float32 in g, so that the file
        holds what the detector was given. Events go into its ``/events`` as they come; at the end the last
        revision of each takes their place.
    sinks : iterable of Sink, optional
        Who else takes the events (and, a `SampleSink`, the samples). They are closed at the end.
    duration : float, optional
        Seconds after which to end, lost samples counted.
    overwrite : bool, optional
        Whether an existing night is replaced.
    durable : bool, optional
        Whether the night is made safe from a power cut twice a second, and not from a kill alone.
    subject, notes : str, optional
        Kept in the night.

    Attributes
    ----------
    source, duration
        As given.
    detector : Detector or None
        The detector; None while a board's true rate is being measured (`waiting`).
    recorder : Recorder or None
        The recorder.
    ended_by : str
        What has ended the session: what `stop` was told, ``duration``, or ``end of the source``; empty
        while it runs, and where an error has ended it.

    Raises
    ------
    UsageError
        If an option is none.
    DataError
        If the night exists already or cannot be made. Iterating raises what the source raises.
    OSError
        From iterating, if the disk of the night is full; what was recorded before is intact. A sink that
        cannot write ends the session only where no night is recorded.

    Notes
    -----
    A stream tells its true rate (`detection_rate`) only after some seconds. Until then its chunks are
    recorded but wait for their detector. Detector and night both take the rate that is settled on.
    """

    def __init__(
        self,
        source: Source,
        *,
        settings: Settings | None = None,
        record: str | os.PathLike[str] | None = None,
        sinks: Iterable[Sink] = (),
        duration: float | None = None,
        overwrite: bool = False,
        durable: bool = True,
        subject: str = "",
        notes: str = "",
    ) -> None:
        if duration is not None and not duration > 0:
            raise UsageError(f"duration {duration!r} is not a number of seconds above 0")
        self.source = source
        self.duration = duration
        self.detector: Detector | None = None
        self.recorder: Recorder | None = None
        self.ended_by = ""
        self._settings = settings
        self._sinks = list(sinks)
        self._waiting: list[Chunk] = []
        self._rows: dict[int, NDArray[np.void]] = {}
        self._problems: list[str] = []
        self._seen = 0
        self._place: tuple[int, float] | None = None
        self._clocked = -math.inf
        self._last_data = time.monotonic()
        self._stop = ""
        # What other threads ask for, until the session's own gets to it: marks to enter, numbers to withdraw.
        self._wishes: deque[Mark | int] = deque()
        self._numbers = itertools.count()
        self._marks: dict[int, tuple[Mark, int]] = {}
        self._finished = False
        self._closed = False
        prepare()
        if record is not None:
            from hypnic.recording import Recorder

            try:
                self.recorder = Recorder(
                    record,
                    source.rate,
                    source.site,
                    dtype="float32",
                    range_g=getattr(source, "range_g", None),
                    sensor=getattr(source, "sensor", ""),
                    start_time=getattr(source, "start_time", None),
                    subject=subject,
                    notes=notes,
                    overwrite=overwrite,
                    durable=durable,
                )
            except BaseException:
                for sink in self._sinks:
                    sink.close()
                raise

    @property
    def rate(self) -> float:
        """Sampling rate in Hz: the detector's, or the source's nominal one while there is none."""
        return self.source.rate if self.detector is None else self.detector.rate

    @property
    def elapsed(self) -> float:
        """Seconds of recording so far, lost samples counted."""
        return self._seen / self.rate

    @property
    def waiting(self) -> int:
        """Samples that wait for the rate to be known."""
        return sum(map(len, self._waiting))

    @property
    def rest(self) -> str:
        """Rest state at the newest sample; empty while there is no detector."""
        return "" if self.detector is None else self.detector.rest

    @property
    def counts(self) -> dict[str, int]:
        """What has become of the samples (see `Detector.counts`)."""
        if self.detector is not None:
            return self.detector.counts
        missing = sum(chunk.missing for chunk in self._waiting)
        return {"received": self.waiting, "missing": missing, "invalid": 0, "stuck": 0}

    @property
    def losses(self) -> dict[str, int]:
        """What came and what is missing, and every counter of trouble, on the way or in the samples, that is not 0."""
        counts = self.counts
        source = getattr(self.source, "counters", {})
        others = {"invalid": counts["invalid"], "stuck": counts["stuck"]}
        others |= {name.replace("_", " "): source.get(name, 0) for name in SOURCE_LOSSES}
        found = {name: count for name, count in others.items() if count}
        return {"received": counts["received"], "missing": counts["missing"]} | found

    @property
    def measured_rate(self) -> float | None:
        """Rate (Hz) that a stream has been measured to have; None where that is not known, or for a recording."""
        measured = getattr(self.source, "effective_rate", None)
        # A recording says a plain number, and only a stream how well it is known.
        return None if measured is None or isinstance(measured, float) else measured.rate

    @property
    def events(self) -> Events:
        """The last revision so far of each event, ordered by onset, with what `hypnic.detect` says of them."""
        rows = np.concatenate(list(self._rows.values())) if self._rows else np.empty(0, EVENT_DTYPE)
        if self.detector is None:
            return Events(rows, {})
        facts = {"counts": self.detector.counts, "rest": self.detector.rest_bouts()}
        return Events(rows, self.detector.meta | facts).latest()

    @property
    def silence(self) -> float:
        """Seconds on the clock since the last sample."""
        return time.monotonic() - self._last_data

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know: of the source, of the sinks, and what has gone wrong."""
        found = [*getattr(self.source, "warnings", ())]
        for sink in self._sinks:
            found += getattr(sink, "warnings", ())
        return (*found, *self._problems)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What persons have marked so far, in the order in which it was entered into the night."""
        return tuple(mark for mark, _ in self._marks.values())

    def mark(self, sample: int, label: str = "felt", source: str = "button") -> int:
        """Mark a sample in the ``/annotations`` of the night, in which the next step enters it.

        Any thread may call it.

        Parameters
        ----------
        sample : int
            Number of the sample, lost samples counted: `elapsed` times `rate` is the next one's. It may lie a
            little ahead, where a source is behind the clock.
        label, source : str, optional
            What was marked, and by whom or what.

        Returns
        -------
        int
            A number for `unmark`.

        Raises
        ------
        UsageError
            If no night is recorded, or the sample is below 0.
        """
        if self.recorder is None:
            raise UsageError("a mark goes into the night, and none is recorded: give the session record=")
        if sample < 0:
            raise UsageError(f"sample {sample} cannot be marked: the first one is 0")
        number = next(self._numbers)
        self._wishes.append(Mark(number, int(sample), label, source))
        return number

    def unmark(self, number: int) -> None:
        """Take a mark back; one that is unknown, or was taken back before, is no error. Any thread may call it."""
        # Without a night there are no marks, and nobody would ever heed the wish.
        if self.recorder is not None:
            self._wishes.append(number)

    def time_of(self, sample: int) -> float:
        """Return the POSIX seconds of a recent sample, by its number; NaN where the source has no clock."""
        if self._place is None:
            return math.nan
        return self._place[1] + (sample - self._place[0]) / self.rate

    def stop(self, reason: str = "stopped") -> None:
        """Ask for a clean end: what the source has at hand still goes through. Returns at once.

        It only sets a mark that iteration looks at, so a signal handler may call it.
        """
        self._stop = reason

    def __iter__(self) -> Iterator[Update]:
        asked = False
        for chunk in self.source:
            full = self._is_full(chunk)
            yield self._step(self._within(chunk))
            if full:
                self.ended_by = "duration"
                self._end_source()
                break
            if self._stop and not asked:
                asked = True
                if not self._end_source():
                    break
        self.ended_by = self.ended_by or self._stop or "end of the source"
        yield Update(Chunk(_NO_SAMPLES, self._seen), self._finish())

    def _end_source(self) -> bool:
        """Ask the source to hand over what it has and end; False where it cannot be asked."""
        end = getattr(self.source, "stop", None)
        if end is not None:
            end()
        return end is not None

    def _room(self, chunk: Chunk) -> float:
        """Return how many samples of `chunk` belong to the wanted duration."""
        if self.duration is None:
            return math.inf
        return round(self.duration * self.rate) - self._seen - chunk.missing

    def _is_full(self, chunk: Chunk) -> bool:
        if self.duration is None:
            return False
        if self._room(chunk) <= len(chunk):
            return True
        # A board that has gone does not put off the end.
        gone = getattr(self.source, "status", "") in ("stalled", "disconnected")
        return gone and self.elapsed + self.silence >= self.duration

    def _within(self, chunk: Chunk) -> Chunk:
        room = self._room(chunk)
        if room >= len(chunk):
            return chunk
        if room <= 0:
            return Chunk(_NO_SAMPLES, chunk.index - chunk.missing)
        return _piece(chunk, 0, int(room), self.rate)

    def _step(self, chunk: Chunk) -> Update:
        if len(chunk):
            self._last_data = time.monotonic()
        self._heed()
        if self.recorder is not None:
            self.recorder.write(chunk)
        for sink in self._sinks:
            if isinstance(sink, SampleSink):
                sink.take_samples(chunk)
        self._note_clock(chunk)
        self._seen += chunk.missing + len(chunk)
        return Update(chunk, self._detect(chunk))

    def _heed(self) -> None:
        """Enter and withdraw the marks that were asked for."""
        while self._wishes and self.recorder is not None:
            wish = self._wishes.popleft()
            if isinstance(wish, Mark):
                row = self.recorder.annotate(wish.sample / self.rate, 0.0, wish.label, wish.source)
                self._marks[wish.number] = wish, row
            elif wish in self._marks:
                self.recorder.withdraw(self._marks.pop(wish)[1])

    def _note_clock(self, chunk: Chunk) -> None:
        """Note how samples and wall clock go together, for the night now and then and after each hole."""
        if not (len(chunk) and math.isfinite(chunk.time)):
            return
        self._place = self._seen + chunk.missing, chunk.time
        if chunk.missing or chunk.time - self._clocked >= CLOCK_EVERY:
            self._enter_clock()

    def _enter_clock(self) -> None:
        # Only a stream has a clock of its own: a recording has its rate, and what it says of it.
        measured = getattr(self.source, "clock_residual", None) is not None
        if self.recorder is not None and self._place is not None and measured:
            sample, self._clocked = self._place
            # Ticks end in the source's clock: what comes out of it is POSIX time.
            self.recorder.clock(sample, -1, self._clocked)

    def _detect(self, chunk: Chunk) -> Events:
        if self.detector is None:
            self._waiting.append(chunk)
            rate = getattr(self.source, "detection_rate", self.source.rate)
            return Events() if rate is None else self._begin(rate)
        return self._taken(self._push(self.detector, chunk))

    def _begin(self, rate: float) -> Events:
        """Start the detector at the rate that is settled on, with the chunks that have waited for it."""
        self.detector = Detector(rate, self.source.site, self._settings)
        if self.recorder is not None:
            if rate != self.recorder.rate:
                self.recorder.correct_rate(rate)
                for mark, row in self._marks.values():
                    self.recorder.amend(row, mark.sample / rate, 0.0, mark.label, mark.source)
            self.recorder.events(Events(meta=self.detector.meta))
        waited, self._waiting = self._waiting, []
        return self._taken(Events.concat([self._push(self.detector, chunk) for chunk in waited]))

    def _push(self, detector: Detector, chunk: Chunk) -> Events:
        detector.gap(chunk.missing)
        return detector.push(chunk.xyz)

    def _taken(self, rows: Events) -> Events:
        """Give new rows to everyone who wants them."""
        if len(rows):
            for row in rows:
                self._rows[int(row["id"])] = np.atleast_1d(row)
            if self.recorder is not None and not self.recorder.failed:
                self.recorder.events(rows)
            for sink in tuple(self._sinks):
                self._give(sink, rows)
        return rows

    def _give(self, sink: Sink, rows: Events) -> None:
        try:
            sink.take(rows)
        except OSError as error:
            # The night is worth more: its events can be had from it again.
            if self.recorder is None:
                raise
            self._sinks.remove(sink)
            self._problems.append(f"the events go on in the night alone: {error}")
            with contextlib.suppress(OSError):
                sink.close()

    def _finish(self) -> Events:
        """Bring out the rows that are still due."""
        if self._finished:
            return Events()
        self._finished = True
        parts = []
        if self.detector is None:
            # An end before the rate was known: the nominal one has to do.
            parts.append(self._begin(getattr(self.source, "detection_rate", None) or self.source.rate))
        assert self.detector is not None
        parts.append(self._taken(self.detector.flush()))
        if self._place is not None and self._place[1] > self._clocked:
            self._enter_clock()
        return Events.concat(parts)

    def close(self) -> None:
        """End the session: bring out the last rows, finish and close the night and the sinks. May be repeated.

        Raises
        ------
        OSError
            If something cannot be written any more; all else is finished and closed nevertheless.
        """
        self._close(sound=True)

    def _close(self, sound: bool) -> None:
        """Close; where it is not `sound`, rows and night stay as they are."""
        if self._closed:
            return
        self._closed = True
        errors: list[Exception] = []

        def attempt(step: Any, *words: Any) -> None:
            try:
                step(*words)
            except (OSError, HypnicError) as error:
                errors.append(error)

        if self.recorder is not None and self.recorder.failed:
            sound = False
        if sound:
            attempt(self._finish)
            attempt(self._heed)
            final = self.events
            if self.recorder is not None:
                attempt(self.recorder.finish_events, final)
            for sink in self._sinks:
                attempt(sink.finish, final)
        for sink in self._sinks:
            attempt(sink.close)
        if self.recorder is not None:
            attempt(self.recorder.close)
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # An interruption may have come between the night and the detector.
            self._close(sound=error is None or isinstance(error, Exception))
        except (OSError, HypnicError):
            # What has ended the session says more than what followed from it.
            if error is None:
                raise


class EventFile:
    """Events as lines of text, each row as it comes.

    While the session runs the file grows by provisional rows and their revisions, each on the disk before
    the next. At a clean end it is replaced by the last revision of each event: the very file that
    ``hypnic detect NIGHT.h5 -o FILE`` writes.

    Parameters
    ----------
    path : path-like
        ``.csv``, ``.tsv`` or ``.jsonl``; ``-`` for JSON Lines on standard output, where rows stay.
    overwrite : bool, optional
        Whether an existing file is replaced.

    Raises
    ------
    UsageError
        If the ending is another.
    DataError
        If the file exists already.
    OSError
        If it cannot be written, then or later.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self._path: Path | None = None if os.fspath(path) == "-" else Path(path)
        self._file: TextIO
        if self._path is None:
            self._format = "jsonl"
            self._file = sys.stdout
            return
        self._format = self._path.suffix.lstrip(".").lower()
        if self._format not in LINE_FORMATS:
            endings = ", ".join(f".{name}" for name in LINE_FORMATS)
            raise UsageError(f"{self._path}: rows are written as they come: give it one of {endings}")
        if self._path.is_file() and not overwrite:
            raise DataError(
                f"{self._path}: the file exists already: choose another name or overwrite it (--overwrite)"
            )
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._write(Events().to_text(self._format))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        with contextlib.suppress(OSError, ValueError):
            # Pipes and terminals know no such thing.
            os.fsync(self._file.fileno())

    def take(self, events: Events) -> None:
        """Write new rows."""
        self._write("".join(format_row(row, self._format) + "\n" for row in events))

    def finish(self, events: Events) -> None:
        """Put the last revisions in place of the rows so far."""
        if self._path is not None and self._path.is_file():
            events.write(self._path, self._format)

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            self._file.close()


class EventCommand:
    """Run a command for each row of events, one at a time, without ever holding up the detector.

    The command gets the row as one line of JSON on its standard input, and each column in its environment
    (``HYPNIC_LABEL``, ``HYPNIC_ONSET``, ``HYPNIC_REVISION``, ...). No shell is involved; its output is
    thrown away. One that takes longer than 30 s is killed. Rows that find 100 others waiting are left out,
    and counted.

    Parameters
    ----------
    command : str
        Program and arguments, split as a shell would split them.

    Attributes
    ----------
    left_out : int
        Rows for which the command was not run.

    Raises
    ------
    UsageError
        If there is no such program.
    """

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"command {command!r} cannot be split into words: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(f"command {command!r}: there is no such program, or it is not executable")
        self.left_out = 0
        self._problem = ""
        self._queue: deque[np.void] = deque()
        self._over = False
        self._running: subprocess.Popen[bytes] | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="hypnic-on-event", daemon=True)
        self._thread.start()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong with it last, and what was left out."""
        found = [f"on-event command: {self._problem}"] if self._problem else []
        if self.left_out:
            found.append(f"on-event command too slow: not run for {self.left_out} rows")
        return tuple(found)

    def take(self, events: Events) -> None:
        """Queue new rows."""
        with self._changed:
            for row in events:
                if len(self._queue) < COMMAND_QUEUE:
                    self._queue.append(row)
                else:
                    self.left_out += 1
            self._changed.notify()

    def finish(self, events: Events) -> None:
        """Do nothing: every row has been taken."""

    def close(self) -> None:
        """Let the commands that wait run for some seconds more, then kill what still runs."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(COMMAND_FAREWELL)
        if self._thread.is_alive():
            with self._changed:
                self.left_out += len(self._queue)
                self._queue.clear()
                running = self._running
            if running is not None:
                _kill(running)
            self._thread.join(COMMAND_FAREWELL)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._over)
                if not self._queue:
                    return
                row = self._queue.popleft()
            try:
                self._problem = self._run_once(row) or self._problem
            except OSError as error:
                self._problem = f"{self._words[0]}: {error.strerror or error}"

    def _run_once(self, row: np.void) -> str:
        """Run the command for one row; return what went wrong."""
        line = format_row(row, "jsonl")
        values = {
            f"HYPNIC_{key.upper()}": "" if value is None else str(value)
            for key, value in json.loads(line).items()
        }
        with tempfile.TemporaryFile() as complaints:
            # In a session of its own, so that Ctrl-C is not meant for it and all of it can be killed.
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env={**os.environ, **values},
                start_new_session=True,
            )
            self._running = process
            try:
                process.communicate(line.encode() + b"\n", timeout=COMMAND_LIMIT)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
                return f"killed after {COMMAND_LIMIT:g} s"
            finally:
                self._running = None
            if process.returncode == 0:
                return ""
            complaints.seek(0)
            said = complaints.read(200).decode(errors="replace").strip().splitlines()
            return f"exit status {process.returncode}" + (f": {said[0]}" if said else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
