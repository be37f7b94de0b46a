"""What a kill, a pulled plug and a busy line cost `hypnic stream --record`.

    python benchmarks/live.py [--kills 50] [--replugs 20] [--minutes 5]

The board is a virtual serial port that plays our own frames, 100 samples a second by the clock: everything
from the port on is the real path, USB and a real board are not. With 50 kills and 20 replugs it takes about
ten minutes.

- Kills: SIGKILL at a random moment of the first eight seconds. Lost is what had arrived (sent, and no longer
  waiting in the port) and is not in the file, which plain h5py opens.
- Replugs: the line goes dead at a random byte, and the board is back under the same name after a random
  time of up to two seconds. The gap in the file is compared with the true time between the two samples.
- Latency: from sending the last sample of an event to its provisional row in the events file.
- Throughput: samples as fast as they are taken, and the cost of a board in its own time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from firmware_bridge import VirtualPort, encode, introduce
from firmware_bridge.player import PlayedBoard
from hypnic import Recording, detect
from tests.played import restless

RATE = 100.0
SAMPLE_BYTES = 18
PIECE = 2
PATIENCE = 60.0


class Line(threading.Thread):
    """A board on a virtual port, sample by sample by the clock, whose line can go dead at any byte."""

    def __init__(self, xyz: np.ndarray, link: Path | None = None, speed: float = 1.0) -> None:
        super().__init__(daemon=True)
        self.port = VirtualPort(link)
        self.xyz, self.speed = xyz, speed
        self.sent_at: list[float] = []
        self.over = threading.Event()
        self.spare = 0

    def run(self) -> None:
        """Play until the samples or the line end."""
        board = PlayedBoard(self.port, "hypnic", RATE)
        with suppress(OSError):
            while not board.has_reader():
                if self.over.wait(0.005):
                    return
            self.port.send(introduce("hypnic", RATE))
            begun = time.monotonic()
            for at in range(0, len(self.xyz), PIECE):
                due = begun + (at + PIECE) / RATE / self.speed
                data = encode(self.xyz[at : at + PIECE], "hypnic", RATE, at)
                if self.over.wait(max(0.0, due - time.monotonic())):
                    # Part of the next samples goes out before the line is dead.
                    self.port.send(data[: self.spare])
                    self.sent_at += [time.monotonic()] * (self.spare // SAMPLE_BYTES)
                    break
                self.port.send(data, timeout=PATIENCE)
                self.sent_at += [time.monotonic()] * len(self.xyz[at : at + PIECE])

    @property
    def arrived(self) -> int:
        """Samples that the other side has taken out of the port."""
        return len(self.sent_at) - -(-self.port.unread // SAMPLE_BYTES)

    def stop(self, spare: int = 0) -> None:
        """Let `spare` more bytes out, wait until they are read, and pull the plug."""
        self.spare = spare
        self.over.set()
        self.join()
        # Bytes take a moment from one end of a pty to the other, and are lost with it if they are still there.
        time.sleep(0.1)
        with suppress(TimeoutError):
            wait_until(lambda: not self.port.unread, 1.0)
        self.port.close()


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.002)


def stored(path: Path) -> int:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return len(file["acceleration"])
    except (OSError, KeyError):
        return 0


@contextmanager
def streaming(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hypnic", "stream", *map(str, words)], stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kills(count: int, folder: Path, rng: np.random.Generator) -> None:
    xyz = restless(60)
    lost, unreadable, wrong = [], 0, 0
    for number in range(count):
        path = folder / f"kill{number}.h5"
        line = Line(xyz)
        line.start()
        with streaming(line.port.path, "--record", path) as process:
            wait_until(lambda line=line: line.sent_at)
            time.sleep(rng.uniform(0.0, 8.0))
            arrived = line.arrived
            process.send_signal(signal.SIGKILL)
            process.wait()
        line.stop()
        kept = stored(path)
        lost.append((arrived - kept) / RATE)
        if not kept:
            continue
        try:
            with h5py.File(path) as file:
                samples = file["acceleration"][:]
            with Recording(path) as recording:
                wrong += recording.n_samples != kept
            wrong += bool(np.abs(samples - xyz[:kept]).max() > 1 / 8192)
        except (OSError, ValueError):
            unreadable += 1
    print(
        f"| SIGKILL at a random moment | {count} | lost {statistics.median(lost):.2f} s (median), "
        f"{max(lost):.2f} s (most); files that do not open {unreadable}, with a wrong sample {wrong} |"
    )


def replugs(count: int, folder: Path, rng: np.random.Generator) -> None:
    link, path = folder / "board", folder / "replug.h5"
    pieces = [restless(12, seed=number) for number in range(count + 1)]
    line = Line(pieces[0], link)
    line.start()
    sent, true_gaps, before = [], [], 0.0
    with streaming(link, "--record", path) as process:
        for number in range(count + 1):
            wait_until(lambda line=line: line.sent_at)
            if before:
                true_gaps.append(line.sent_at[0] - before)
            time.sleep(rng.uniform(2.0, 4.0))
            line.stop(spare=int(rng.integers(0, PIECE * SAMPLE_BYTES + 1)))
            sent.append(len(line.sent_at))
            before = line.sent_at[-1]
            if number < count:
                time.sleep(rng.uniform(0.0, 2.0))
                line = Line(pieces[number + 1], link)
                line.start()
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    with Recording(path) as recording:
        own, found = recording.events(), detect(recording)
        assert own is not None
        same = own.array.tobytes() == found.array.tobytes()
        gaps = recording.gaps
        got, kept = recording.read(), recording.n_samples
        reasons = set(gaps["reason"].tolist())
    got = got[np.isfinite(got[:, 0])]
    expected = np.concatenate([piece[:n] for piece, n in zip(pieces, sent, strict=True)])
    exact = len(got) == len(expected) and bool(np.abs(got - expected).max() <= 1 / 8192)
    errors = [abs((gap + 1) / RATE - true) for gap, true in zip(gaps["missing"], true_gaps, strict=False)]
    print(
        f"| unplugged at a random byte, back after up to 2 s | {count} | whole samples sent {sum(sent)}, "
        f"stored {kept}, all of them right: {exact}; gaps {len(gaps)} ({', '.join(sorted(reasons))}), wrong by "
        f"{statistics.median(errors):.3f} s (median), {max(errors):.3f} s (most); events as `hypnic detect` "
        f"finds them in the file: {same} |"
    )


def own_time(minutes: float, folder: Path) -> None:
    xyz = restless(60 * minutes)
    path, events = folder / "own.h5", folder / "own.jsonl"
    line = Line(xyz)
    line.start()
    rows: dict[int, tuple[float, float]] = {}
    with streaming(line.port.path, "--record", path, "--events", events) as process:
        place = 0
        while line.is_alive() or line.port.unread:
            time.sleep(0.002)
            with suppress(FileNotFoundError), events.open() as file:
                file.seek(place)
                while (text := file.readline()).endswith("\n"):
                    place = file.tell()
                    row = json.loads(text)
                    rows.setdefault(row["id"], (row["onset"] + row["duration"], time.monotonic()))
        used = cpu_seconds(process.pid)
        peak = peak_mb(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    first = line.sent_at[0]
    delays = [
        seen - line.sent_at[min(round(end * RATE), len(line.sent_at) - 1)] for end, seen in rows.values()
    ]
    seconds = line.sent_at[-1] - first
    with Recording(path) as recording:
        kept = recording.n_samples
    late = "no event"
    if delays:
        late = (
            f"provisional row {statistics.median(delays):.2f} s (median), {max(delays):.2f} s (most) after the event's "
            f"last sample, {len(delays)} events"
        )
    print(
        f"| a board in its own time, {minutes:g} min | {len(xyz)} samples | stored {kept}; "
        f"{100 * used / seconds:.1f} % of a core (start included), {peak:.0f} MB at most; {late} |"
    )


def throughput(folder: Path) -> None:
    xyz = restless(3600)
    path = folder / "fast.h5"
    line = Line(xyz, speed=np.inf)
    line.start()
    with streaming(line.port.path, "--record", path, "--buffer", 1e6) as process:
        wait_until(lambda: line.sent_at)
        begun = time.monotonic()
        wait_until(lambda: stored(path) >= len(xyz) - 60, 600)
        seconds = time.monotonic() - begun
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    with Recording(path) as recording:
        kept = recording.n_samples
    print(
        f"| as fast as they are taken | {len(xyz)} samples | stored {kept}; {len(xyz) / seconds:.0f} samples a "
        f"second, {len(xyz) / seconds / RATE:.0f} times a board at 100 Hz |"
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--replugs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| what | how often | result |\n|---|---|---|")
        if options.kills:
            kills(options.kills, folder, rng)
        if options.replugs:
            replugs(options.replugs, folder, rng)
        if options.minutes:
            own_time(options.minutes, folder)
            throughput(folder)
    load = os.getloadavg()[0]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"\nLoad average at the end {load:.1f}; the streams took {children.ru_utime + children.ru_stime:.0f} s."
    )


if __name__ == "__main__":
    main()
