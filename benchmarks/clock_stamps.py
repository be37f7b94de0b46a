"""Time stamps of a board's samples, by five ways, on simulated arrivals.

A board whose crystal is 80 ppm fast and whose sensor is 0.8 % slow sends 100 samples a second for 180 s
through a bridge that hands over every 16 ms; with stalls, 2 % of the readings come an exponentially
distributed 20 ms later. The first 60 s do not count. Run ``python benchmarks/clock_stamps.py`` from the
project's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from firmware_bridge.clock import SequenceClock, TickClock
from tests.firmware_bridge.arrivals import Arrivals, error_of, simulate

RATE = 100.0
SEEDS = 5


def stamps(run: Arrivals) -> dict[str, np.ndarray]:
    sequence, ticks = SequenceClock(RATE), TickClock(1e6)
    by_sequence, by_ticks = [], []
    for part in run.readings:
        arrival = run.arrival[part[-1]]
        by_sequence.append(sequence.stamp(part, arrival))
        by_ticks.append(ticks.stamp(run.ticks[part] % (1 << 32), arrival))
    return {
        "raw arrival": run.arrival,
        "sequence over nominal rate": run.true[0] + np.arange(len(run.true)) / RATE,
        "device tick uncorrected": run.true[0] + run.ticks / 1e6,
        "recursive least squares on sequence": np.concatenate(by_sequence),
        "device tick, lower hull": np.concatenate(by_ticks),
    }


def main() -> None:
    print("| time stamp | stalls | SD (ms) | drift (ppm) | not increasing |")
    print("|---|---|---|---|---|")
    for stalls in (0.0, 0.02):
        rows: dict[str, list[tuple[float, float, int]]] = {}
        for seed in range(SEEDS):
            run = simulate(seed=seed, stalls=stalls)
            for name, times in stamps(run).items():
                backward = int(np.count_nonzero(np.diff(times) <= 0))
                rows.setdefault(name, []).append((*error_of(times, run.true), backward))
        for name, values in rows.items():
            spread, drift, backward = np.abs(values).mean(0)
            print(f"| {name} | {stalls:.0%} | {spread:.3f} | {drift:.1f} | {backward:.0f} |")


if __name__ == "__main__":
    main()
