"""A live session on the Lab Streaming Layer: its samples as one stream, its events as another.

Whatever records LSL (LabRecorder, mne-lsl, another program's inlet) then has acceleration and candidates on one clock
with EEG, buttons or video.
"""

from __future__ import annotations

import bisect
import math
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.errors import UsageError
from hypnic.events import COLUMNS, Events, format_row
from hypnic.export.base import CANDIDATES, need

if TYPE_CHECKING:
    from hypnic.chunk import Chunk, Source

__all__ = ["LslOutlet"]

BUFFER_S: Final = 360
"""Seconds that a receiver may fall behind before samples are lost to it; liblsl's own default."""

ANCHORS_S: Final = 300.0
"""Seconds for which the time of a sample is remembered: a session waits 20 s at most for the rate of its board."""


class LslOutlet:
    """Samples and events of a session as two LSL streams (needs the ``lsl`` extra): a sink of `hypnic.live.Session`.

    ``NAME`` has three channels in g. ``NAME-events`` has a sample of two texts for each row of the event table as it
    comes: its label, and the whole row as JSON, provisional rows and revisions alike (same ``id``, higher
    ``revision``); its time stamp is that of the event's onset, so it lies in the past when it comes.

    Parameters
    ----------
    source : Source
        Of the session: for rate, site, sensor, and the speed of one that is played.
    name : str, optional
        Name of the streams.

    Raises
    ------
    UsageError
        If pylsl or its library cannot be loaded.

    Notes
    -----
    Time stamps follow the source's clock from its first samples on, which are stamped by when they came; they are
    those of the samples, not of their delivery. Lost samples are a hole in the time stamps. A recording that is
    played at another speed is stamped as it is heard, and at infinite speed as if at its own.
    """

    def __init__(self, source: Source, name: str = "hypnic") -> None:
        try:
            self._lsl: Any = need("pylsl", "lsl", "the Lab Streaming Layer")
        except (RuntimeError, OSError) as error:
            # pylsl says in a page of text where it has looked for its library.
            raise UsageError(
                f"the Lab Streaming Layer's library cannot be loaded: {str(error).split('.')[0]}"
            ) from None
        speed = float(getattr(source, "speed", 1.0))
        self._rate, self._speed = source.rate, speed if math.isfinite(speed) else 1.0
        self._seen = 0
        self._first: tuple[float, float, int] | None = None
        self._anchors: list[tuple[int, float]] = []
        board = getattr(source, "board", None)
        identity = f"{name}-{getattr(board, 'serial_number', None) or os.getpid()}"
        self._samples = self._outlet(source, name, identity)
        self._markers = self._event_outlet(source, f"{name}-events", f"{identity}-events")

    def _outlet(self, source: Source, name: str, identity: str) -> Any:
        info = self._lsl.StreamInfo(name, "Accelerometer", 3, self._rate * self._speed, "float32", identity)
        facts = info.desc()
        channels = facts.append_child("channels")
        for axis in "xyz":
            channel = channels.append_child("channel")
            channel.append_child_value("label", f"acc_{axis}")
            channel.append_child_value("unit", "g")
            channel.append_child_value("type", "Accelerometer")
        facts.append_child_value("site", source.site)
        facts.append_child_value("sensor", str(getattr(source, "sensor", "")))
        return self._lsl.StreamOutlet(info, max_buffered=BUFFER_S)

    def _event_outlet(self, source: Source, name: str, identity: str) -> Any:
        info = self._lsl.StreamInfo(name, "Markers", 2, self._lsl.IRREGULAR_RATE, "string", identity)
        facts = info.desc()
        channels = facts.append_child("channels")
        for label in ("label", "row"):
            channels.append_child("channel").append_child_value("label", label)
        columns = facts.append_child("columns")
        for column in COLUMNS:
            entry = columns.append_child("column")
            entry.append_child_value("name", column.name)
            entry.append_child_value("unit", column.unit)
        facts.append_child_value("site", source.site)
        facts.append_child_value("note", CANDIDATES)
        return self._lsl.StreamOutlet(info, max_buffered=BUFFER_S)

    def take_samples(self, chunk: Chunk) -> None:
        """Send samples on."""
        number = self._seen + chunk.missing
        self._seen = number + len(chunk)
        if not len(chunk):
            return
        stamp = self._stamp(chunk, number)
        times = stamp + np.arange(len(chunk)) / (self._rate * self._speed)
        self._samples.push_chunk(chunk.xyz, times.tolist())
        self._anchors.append((number, stamp))
        if self._anchors[0][1] < stamp - 2 * ANCHORS_S:
            del self._anchors[: bisect.bisect(self._anchors, stamp - ANCHORS_S, key=lambda at: at[1]) - 1]

    def _stamp(self, chunk: Chunk, number: int) -> float:
        """Return the LSL time of a chunk's first sample."""
        if self._first is None:
            length = len(chunk) / (self._rate * self._speed)
            self._first = self._lsl.local_clock() - length, chunk.time, number
        stamp, time, index = self._first
        passed = chunk.time - time
        if not math.isfinite(passed):
            passed = (number - index) / self._rate
        return stamp + passed / self._speed

    def take(self, events: Events) -> None:
        """Send new rows on."""
        for row in events:
            self._markers.push_sample(
                [str(row["label"]), format_row(row, "jsonl")], self._stamp_of(int(row["sample"]))
            )

    def _stamp_of(self, sample: int) -> float:
        """Return the LSL time of a sample by its number."""
        if not self._anchors:
            return float(self._lsl.local_clock())
        at = max(bisect.bisect(self._anchors, sample, key=lambda anchor: anchor[0]) - 1, 0)
        index, stamp = self._anchors[at]
        return stamp + (sample - index) / (self._rate * self._speed)

    def finish(self, events: Events) -> None:
        """Do nothing: every row has been sent."""

    def close(self) -> None:
        """Take the streams off the network."""
        # liblsl ends a stream when its last handle goes.
        del self._samples, self._markers
