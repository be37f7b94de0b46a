"""A simulated board read for minutes in real time and for a night at twenty times that.

    python benchmarks/simboard.py [--minutes 10] [--hours 8] [--faulty-minutes 30] [--firmware arduino]

A simulated sleeper's night is what the sensor measures; the firmware's machine code runs in simavr; `SerialIMU`
reads the board's pty. The crystal is 80 ppm fast, the sensor 0.8 % slow, the bridge hands over every 1 ms. Time
stamps are compared with the true moments of the data-readies, the first 60 s left out; at twenty times the
speed the host's clock runs so too, and its errors are twenty times as large in true time. Spoilt samples are
those that differ from what was measured. Worst lag: how far the board ever fell behind the wall clock; where
that is many times 0.1 s the machine was too busy for the speed, and the stamps say nothing. Processor: seconds
of it in one second of wall clock. In the last run 0.2 % of the bytes are lost and 0.2 % of the bits inverted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from firmware_bridge import SerialIMU
from firmware_bridge.decoders.hypnic import HypnicDecoder
from firmware_bridge.simboard import COUNTS_PER_G, SimulatedBoard, write_waveform
from hypnic.simulate import Sleeper
from tests.firmware_bridge.arrivals import error_of

CRYSTAL_PPM, SENSOR_PPM = 80.0, -8000.0
FAULTS = 0.002
SEED = 930_001


class HurriedIMU(SerialIMU):
    """A host whose clock runs as much too fast as its board."""

    started, speed = 0.0, 1.0

    def _now(self) -> float:
        return self.started + (super()._now() - self.started) * self.speed


def play(waveform: Path, firmware: Any, speed: float, seconds: float, faults: float) -> dict[str, Any]:
    """Play one run to its end and return what became of it."""
    board = SimulatedBoard(
        waveform,
        firmware=firmware,
        speed=speed,
        seconds=seconds,
        crystal_ppm=CRYSTAL_PPM,
        sensor_ppm=SENSOR_PPM,
        drop=faults,
        flip=faults,
        seed=SEED,
    )
    chunks = []
    with board:
        HurriedIMU.started, HurriedIMU.speed = board.started, speed
        wall, processor = time.perf_counter(), time.process_time()
        with HurriedIMU(board.port) as imu:
            for chunk in imu:
                if len(chunk):
                    chunks.append(chunk)
                elif board.over:
                    break
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            dropped = imu.counters["dropped"]
        board.wait()
    index = np.concatenate([np.arange(chunk.index, chunk.index + len(chunk)) for chunk in chunks])
    xyz = np.concatenate([chunk.xyz for chunk in chunks])
    measured = (board.truth["xyz"] / np.float32(COUNTS_PER_G)).astype(np.float32)
    sent = HypnicDecoder().feed(board.wire)
    # The host counts from the first sample that it has: find that among those measured.
    head = min(20, len(chunks[0]), len(xyz))
    starts = np.flatnonzero((measured == xyz[0]).all(1))
    offset = next(int(at) for at in starts if np.array_equal(measured[at : at + head], xyz[:head]))
    stamps = np.array([chunk.time for chunk in chunks])
    true = board.started + board.truth["time"][offset + np.array([chunk.index for chunk in chunks])]
    spread, drift = error_of(stamps, true)
    settled = true >= true[0] + 60
    numbers = sent.seq[0] + np.cumsum(np.r_[0, sent.missing[1:] + 1])
    first, last = offset, offset + int(index[-1])
    return {
        "sent": int(((numbers >= first) & (numbers <= last)).sum()),
        "received": len(xyz),
        "lost": sum(chunk.missing for chunk in chunks),
        "left to wait": dropped,
        "spoilt": int((xyz != measured[offset + index]).any(1).sum()),
        "board's processor": board.result["processor"] / (board.result["seconds"] / speed),
        "host's processor": processor / wall,
        "stamp SD (ms)": spread,
        "drift (ppm)": drift,
        "delay (ms)": 1e3 * float(np.mean((stamps - true)[settled])),
        "worst lag (ms)": 1e3 * board.result["worst_lag"],
    }


def main() -> None:
    """Play the runs and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="in real time; 0 leaves the run out")
    parser.add_argument("--hours", type=float, default=8.0, help="at the higher speed; 0 leaves the run out")
    parser.add_argument("--faulty-minutes", type=float, default=30.0, help="at the higher speed, with faults")
    parser.add_argument("--speed", type=float, default=20.0, help="the higher speed")
    parser.add_argument("--firmware", default="atmega328p", help="atmega328p or arduino")
    options = parser.parse_args()
    runs = [
        (1.0, 60 * options.minutes, 0.0),
        (options.speed, 3600 * options.hours, 0.0),
        (options.speed, 60 * options.faulty_minutes, FAULTS),
    ]
    if any(0 < seconds < 120 for _, seconds, _ in runs):
        parser.error("a run of less than 2 minutes leaves too little after its first 60 s")
    hours = max(0.1, max(seconds for _, seconds, _ in runs) / 3600)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        waveform = Path(folder) / "night"
        write_waveform(waveform, Sleeper("wrist", hours=hours, seed=SEED, sensor="MPU6050", faults=False))
        for speed, seconds, faults in runs:
            if seconds > 0:
                name = f"{seconds / 60:g} min at {speed:g}×" + f", {faults:.1%} faults" * (faults > 0)
                results[name] = play(waveform, options.firmware, speed, seconds, faults)
    names = list(next(iter(results.values())))
    print(f"| {options.firmware} |", " | ".join(results), "|")
    print("|---" * (len(results) + 1) + "|")
    for name in names:
        values = (result[name] for result in results.values())
        print(f"| {name} |", " | ".join(f"{v}" if isinstance(v, int) else f"{v:.3f}" for v in values), "|")


if __name__ == "__main__":
    main()
