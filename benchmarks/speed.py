"""Speed of the kernel and of whole files, as ratios against peers in the same run.

    python benchmarks/speed.py [--hours 8] [--repeats 5]

Medians. The kernel does everything (three axes, filters, running median, features, labels, rest) on a
simulated night; the peers are obspy's STA/LTA on the norm, from the same samples to a list of onsets.
The file is that night in shuffle+gzip.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from obspy.signal.trigger import classic_sta_lta, recursive_sta_lta, trigger_onset

from hypnic import Detector, Recording, Sleeper, detect
from hypnic.simulate import write


def nanoseconds(work: Callable[[], object], samples: int, repeats: int) -> float:
    """Return the median time of `work` for each sample, after one run that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / samples * 1e9


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sleeper = Sleeper(hours=options.hours, rate=100.0, seed=900_001, sensor="LSM6DSOX", faults=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.h5"
        write(path, sleeper)
        with Recording(path) as night:
            xyz = night.read()

        def peer(ratio: Callable[..., np.ndarray]) -> object:
            norm = np.sqrt((xyz.astype(float) ** 2).sum(axis=1))
            return trigger_onset(ratio(norm - norm.mean(), 30, 3000), 4.0, 1.5)

        def read_plain() -> None:
            with h5py.File(path) as file:
                data = file["acceleration"]
                for start in range(0, len(data), 65536):
                    data[start : start + 65536]

        def whole_file() -> None:
            with Recording(path) as night:
                detect(night)

        def take(work: Callable[[], object]) -> float:
            return nanoseconds(work, len(xyz), options.repeats)

        kernel = take(lambda: Detector(100.0).push_rows(xyz))
        mattress = take(lambda: Detector(100.0, "mattress").push_rows(xyz))
        classic = take(lambda: peer(classic_sta_lta))
        recursive = take(lambda: peer(recursive_sta_lta))
        read, whole = take(read_plain), take(whole_file)
    print(f"{len(xyz)} samples at 100 Hz, medians of {options.repeats} runs\n")
    print("| what | ns a sample | ratio |\n|---|---|---|")
    print(f"| kernel, everything on, wrist | {kernel:.1f} | 1 |")
    print(
        f"| the same with the mattress's settings | {mattress:.1f} | it / classic = {mattress / classic:.2f} |"
    )
    print(f"| obspy classic STA/LTA of the norm | {classic:.1f} | kernel / it = {kernel / classic:.2f} |")
    print(
        f"| obspy recursive STA/LTA of the norm | {recursive:.1f} | kernel / it = {kernel / recursive:.2f} |"
    )
    print(f"| h5py, reading the file | {read:.1f} | 1 |")
    print(f"| file to event table | {whole:.1f} | it / reading = {whole / read:.2f} |")


if __name__ == "__main__":
    main()
