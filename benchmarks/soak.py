"""Days of live streaming in minutes, with everything going wrong that can.

A simulated board sends our own frames; time is simulated too, so that days fit into minutes. Faults are drawn at
random: the port is lost for a while, the reader stalls and gets all that had piled up at once (or loses what found no
room), the board restarts, bytes are flipped, dropped or made up, and a board that has lost its senses claims that
years have gone by. What comes out goes the way of every night: decoder, clock, session, detector, crash-safe night,
live page. Browsers come and go meanwhile; some never read. (What is left out is the thread that reads a real port,
and the clock of the computer: ``crash.py asleep`` and the tests have those.)

It fails when bytes are not accounted for, when samples delivered are not samples recorded, when the length of the night
is off by more than 0.1 s for each fault that hides its own length, when the events are not, to the byte, those of
detecting in the recorded night, or when memory, threads or file descriptors grow.

Run ``python benchmarks/soak.py --hours 168`` from the project's folder for a week.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import hypnic
from firmware_bridge.decoders.hypnic import HypnicDecoder, encode, frame, introduction, sample_body
from firmware_bridge.stream import Assembler
from hypnic.chunk import Chunk
from hypnic.live import Session, prepare
from hypnic.view import View

RATE = 100.0
READING_S = 0.5
START = 1.7e9
FAULTS_PER_HOUR = 12.0
BUFFER_BYTES = 4096
"""What the system keeps of a port that nobody reads."""

LENGTH_SLACK_S = 0.1
"""By how much a hole may be off that only the clock can measure: some readings' delay."""

GROWTH_MB = 30.0
"""By how much memory may differ between the first tenth and the end: what Python and the browsers make of it."""

KINDS = ("unplug", "stall", "long stall", "restart", "flip", "garbage", "liar")


class Board:
    """A source that sends, spoils, reads and decodes in simulated time."""

    site = "wrist"
    speed = math.inf
    sensor = "simulated"
    warnings = ()
    status = "streaming"

    def __init__(self, hours: float, seed: int) -> None:
        self.rate = RATE
        self.assembler = Assembler(HypnicDecoder(), RATE)
        self.faults: Counter[str] = Counter()
        self.sent = self.heard = self.fed = 0
        self._random = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._end = round(hours * 3600 * RATE)
        self._stop = False

    @property
    def detection_rate(self) -> float | None:
        """The rate (Hz) that is settled on."""
        return self.assembler.detection_rate

    @property
    def clock_residual(self) -> float:
        """Root mean square distance of arrivals from the clock, in s."""
        return self.assembler.residual

    @property
    def counters(self) -> dict[str, int]:
        """What has become of the bytes."""
        return self.assembler.decoder.counters.as_dict()

    def stop(self) -> None:
        """End at the next reading."""
        self._stop = True

    def _samples(self, count: int) -> np.ndarray:
        xyz = self._noise.normal(0, 0.002, (count, 3)) + np.array([0.0, 0.0, 1.0])
        if self._random.random() < READING_S / 90:
            wave = np.sin(2 * np.pi * 6 * np.arange(count) / RATE) * np.hanning(count)
            xyz[:, 0] += self._random.uniform(0.03, 1.0) * wave
        return xyz.astype(np.float32)

    def _feed(self, data: bytes, arrival: float) -> Iterator[Chunk]:
        self.fed += len(data)
        yield from self.assembler.feed(data, arrival)

    def __iter__(self) -> Iterator[Chunk]:
        size = round(READING_S * RATE)
        counter, piled, busy_until, unplugged_until = 0, bytearray(), 0.0, 0.0
        intro = b"\0" + frame(introduction(RATE).body())
        yield from self._feed(intro, START)
        while self.sent < self._end and not self._stop:
            data = encode(self._samples(size), RATE, counter)
            counter += size
            self.sent += size
            now = self.sent / RATE
            if self._random.random() < FAULTS_PER_HOUR * READING_S / 3600 and now > 60:
                kind = self._random.choice(KINDS)
                self.faults[kind] += 1
                at = self._random.randrange(len(data))
                if kind == "unplug":
                    unplugged_until = now + self._random.uniform(1, 120)
                    piled.clear()
                    yield from self.assembler.port_lost()
                elif kind == "stall":
                    busy_until = now + self._random.uniform(0.5, 1.5)
                elif kind == "long stall":
                    busy_until = now + self._random.uniform(5, 300)
                elif kind == "restart":
                    counter = 0
                    data = data[:at] + b"\0" + frame(introduction(RATE).body())
                elif kind == "flip":
                    data = data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
                elif kind == "garbage":
                    data = data[:at] + self._random.randbytes(self._random.randrange(600)) + data[at + 40 :]
                else:
                    for step in range(1, 4):
                        years = sample_body(counter + step, step * (1 << 31), (0, 0, 4096))
                        data += frame(years)
            if now < unplugged_until:
                continue
            if now < busy_until:
                # What finds no room is lost.
                piled += data[: max(0, BUFFER_BYTES - len(piled))]
                continue
            data, piled = bytes(piled) + data, bytearray()
            self.heard = self.sent
            yield from self._feed(data, START + now + self._random.uniform(0.0, 0.01))
        yield from self.assembler.finish()


class Browsers:
    """Pages that are opened and closed again, one of them deaf."""

    def __init__(self, view: View) -> None:
        self.came = 0
        self._url = view.url.replace("http:", "ws:") + "live"
        self._origin = view.url.rstrip("/")
        self._place = ("127.0.0.1", int(self._origin.rpartition(":")[2]))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come_and_go, name="browsers")
        self._thread.start()

    def _come_and_go(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect
        from websockets.typing import Origin

        host = self._origin.removeprefix("http://")
        handshake = (
            f"GET /live HTTP/1.1\r\nHost: {host}\r\nOrigin: {self._origin}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        while not self._over.is_set():
            with suppress(OSError, WebSocketException, TimeoutError):
                with socket.create_connection(self._place, timeout=5) as deaf:
                    deaf.sendall(handshake.encode())
                    with connect(self._url, origin=Origin(self._origin), max_size=None) as page:
                        for _ in range(20):
                            page.recv(timeout=1)
                self.came += 2

    def close(self) -> None:
        """Let the last ones go."""
        self._over.set()
        self._thread.join()


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def soak(hours: float, seed: int, folder: Path) -> list[str]:
    """Run one soak, print what it has brought and return what failed."""
    prepare()
    threads, files = threading.active_count(), open_files()
    board, night = Board(hours, seed), folder / "soak.h5"
    memory: list[float] = []
    begun = time.monotonic()
    due = 0.0
    with View(0) as view:
        browsers = Browsers(view)
        session = Session(board, record=night, durable=False)
        with session:
            for _ in view.watch(session, "soak"):
                if board.sent / RATE >= due:
                    memory.append(resident_mb())
                    due += hours * 3600 / 50
        browsers.close()
        problem = view.problem
    took = time.monotonic() - begun
    failures = [problem] if problem else []

    counters = board.counters
    accounted = counters["bytes_accepted"] + counters["bytes_discarded"] + board.assembler.decoder.pending
    if not counters["bytes_in"] == board.fed == accounted:
        failures.append(f"{board.fed} bytes fed, {accounted} accounted for")
    with hypnic.open(night) as recording:
        missing = int(recording.gaps["missing"].sum())
        kept = recording.n_samples
        if kept != counters["samples"]:
            failures.append(f"{counters['samples']} samples delivered, {kept} recorded")
        # What is sent after the last that arrives nobody can miss.
        off = (kept + missing - board.heard) / RATE
        hidden = sum(board.faults[kind] for kind in ("unplug", "restart", "liar", "long stall"))
        if abs(off) > LENGTH_SLACK_S * (1 + hidden):
            failures.append(f"the night is {off:+.1f} s longer than what was sent until the end")
        offline, own = hypnic.detect(recording), recording.events()
        if own is None or own.array.tobytes() != offline.array.tobytes():
            failures.append("the events are not those of the recorded night")
    settled = max(memory[len(memory) // 10 : len(memory) // 5] or [math.inf])
    growth = memory[-1] - settled
    if growth > GROWTH_MB:
        failures.append(f"memory grew by {growth:.0f} MB")
    left = threading.active_count() - threads, open_files() - files
    if left[0] > 0 or left[1] > 0:
        failures.append(f"{left[0]} threads and {left[1]} file descriptors are left")
    rows: dict[str, Any] = {
        "simulated time": f"{hours:g} h in {took:.0f} s",
        "faults": ", ".join(f"{number} {kind}" for kind, number in sorted(board.faults.items())),
        "samples sent, recorded, counted as missing": f"{board.sent}, {kept}, {missing} ({off:+.2f} s in all)",
        "bytes fed, accepted, discarded": f"{board.fed}, {counters['bytes_accepted']}, {counters['bytes_discarded']}",
        "events, the same offline": f"{len(offline)}",
        "memory at a tenth, at the end": f"{settled:.0f} MB, {memory[-1]:.0f} MB",
        "threads, file descriptors left": f"{left[0]}, {left[1]}",
        "browsers that came and went": f"{browsers.came}, half of them deaf",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hypnic_soak_") as name:
        failures = soak(options.hours, options.seed, Path(name))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
