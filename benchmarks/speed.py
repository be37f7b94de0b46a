"""Speed and memory as ratios against peers and limits in the same run.

    python benchmarks/speed.py [--hours 8] [--repeats 7] [--out FOLDER]

Writes SPEED.md and speed.json beside this script (or to FOLDER). A *simulated* night at 100 Hz. The kernel does
everything (three axes, filters, running median, features, labels, rest); the peers turn the same samples into a list of
onsets, or into the moving statistics that one would look for onsets in. Whatever is compared takes turns, so that
whatever else the machine does meets all of it; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from isal import isal_zlib
from obspy.signal.trigger import classic_sta_lta, recursive_sta_lta, trigger_onset
from scipy.signal import butter, find_peaks, sosfilt
from skdh.utility.math import moving_mean, moving_sd

from hypnic import Detector, Recording, Sleeper, detect
from hypnic.bench import _machine
from hypnic.simulate import write

RATE: Final = 100.0
DATA: Final = "acceleration"
BLOCK: Final = 65536
WEEK: Final = 21
"""Nights of eight hours that are as long as a week."""

TARGETS: Final = {
    "wrist / classic": 0.7,
    "mattress / classic": 0.7,
    "file / h5py": 1.0,
    "push, p99 (us)": 20.0,
    "import (s)": 0.15,
    "start to first push (s)": 0.8,
    "memory, week (MB)": 60.0,
}
"""What each figure is to be at most."""

_START: Final = """
import time
start = time.perf_counter()
import hypnic
imported = time.perf_counter()
import numpy
hypnic.Detector(100.0).push(numpy.zeros((10, 3), numpy.float32))
print(imported - start, time.perf_counter() - start)
"""

_MEMORY: Final = """
import sys
import hypnic
from hypnic.bench import peak_mb
with hypnic.open(sys.argv[1]) as night:
    hypnic.detect(night)
imports = peak_mb()
with hypnic.open(sys.argv[2]) as night:
    hypnic.detect(night)
print(imports, peak_mb())
"""
"""The peak after a short file, by which time everything is imported, and after a long one."""


def take_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the times (s) of each work, which take turns, after one run of each that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def kernels(xyz: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the detector and its peers over samples."""
    band = butter(4, (1.5, 12.0), "band", fs=RATE, output="sos")

    def norm() -> np.ndarray:
        return np.sqrt((xyz.astype(float) ** 2).sum(axis=1))

    def ratio(trigger: Callable[..., np.ndarray], level: np.ndarray) -> object:
        return trigger_onset(trigger(level - level.mean(), 30, 3000), 4.0, 1.5)

    def peaks() -> object:
        filtered = np.sqrt((sosfilt(band, xyz, axis=0) ** 2).sum(axis=1))
        return find_peaks(filtered, height=0.03, distance=50)[0]

    def moving() -> object:
        level = norm()
        return moving_sd(level, 30, 1, return_previous=False), moving_mean(level, 3000, 1)

    return {
        "hypnic, wrist": lambda: Detector(RATE).push_rows(xyz),
        "hypnic, mattress": lambda: Detector(RATE, "mattress").push_rows(xyz),
        "obspy classic STA/LTA of the norm": lambda: ratio(classic_sta_lta, norm()),
        "obspy recursive STA/LTA of the norm": lambda: ratio(recursive_sta_lta, norm()),
        "obspy classic STA/LTA of the norm, band-passed": lambda: ratio(
            classic_sta_lta, sosfilt(band, norm())
        ),
        "scipy sosfilt of three axes, find_peaks": peaks,
        "scikit-digital-health moving SD and mean of the norm": moving,
        "reading the array (numpy sum)": lambda: float(xyz.sum()),
    }


def files(path: Path) -> dict[str, Callable[[], object]]:
    """Return reading and detecting a file."""
    with h5py.File(path) as file:
        data = file[DATA]
        length = data.chunks[0]
        stored = [data.id.read_direct_chunk((at, 0))[1] for at in range(0, len(data), length)]

    def plain() -> None:
        with h5py.File(path) as file:
            data = file[DATA]
            for start in range(0, len(data), BLOCK):
                data[start : start + BLOCK]

    def through() -> None:
        with Recording(path) as night:
            for _ in night:
                pass

    def whole() -> None:
        with Recording(path) as night:
            detect(night)

    return {
        "h5py, reading it": plain,
        "hypnic, reading it as acceleration in g": through,
        "hypnic, file to event table": whole,
        "inflating its chunks, zlib": lambda: [zlib.decompress(chunk) for chunk in stored],
        "inflating its chunks, isal": lambda: [isal_zlib.decompress(chunk) for chunk in stored],
    }


def pushes(xyz: np.ndarray) -> np.ndarray:
    """Return the times (s) of pushing ten samples after ten over the whole night."""
    detector = Detector(RATE)
    detector.push(xyz[:10])
    pieces = len(xyz) // 10
    times = np.empty(pieces)
    for k in range(pieces):
        piece = xyz[10 * k : 10 * k + 10]
        start = time.perf_counter()
        detector.push(piece)
        times[k] = time.perf_counter() - start
    return times


def growth(xyz: np.ndarray) -> float:
    """Return by how many bytes the memory that Python holds grows over pushes of ten samples, rows not kept.

    The bouts of rest, a few dozen a night, are what a detector keeps.
    """
    import tracemalloc

    detector = Detector(RATE)
    edge = len(xyz) // 10
    tracemalloc.start()
    try:
        for k in range(0, edge, 10):
            detector.push(xyz[k : k + 10])
        before = tracemalloc.get_traced_memory()[0]
        for k in range(edge, len(xyz) - 9, 10):
            detector.push(xyz[k : k + 10])
        return float(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()


def children(code: str, repeats: int, *arguments: str) -> list[list[float]]:
    """Return the numbers that processes of their own print, a row of all processes for each number."""
    rows = []
    for _ in range(repeats):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append([float(word) for word in done.stdout.split()])
    return [list(column) for column in zip(*rows, strict=True)]


def lengthen(path: Path, long: Path, times: int) -> None:
    """Write the night so many times after itself, in chunks like its own."""
    with h5py.File(path) as file, h5py.File(long, "w") as out:
        data = file[DATA]
        whole = out.create_dataset(
            DATA, (times * len(data), 3), data.dtype, chunks=data.chunks, compression="gzip", shuffle=True
        )
        for name in ("sampling_rate", "scale", "units", "site"):
            whole.attrs[name] = data.attrs[name]
        rows = data[:]
        for k in range(times):
            whole[k * len(rows) : (k + 1) * len(rows)] = rows


def measure(hours: float, repeats: int) -> dict[str, Any]:
    """Measure everything."""
    sleeper = Sleeper(hours=hours, rate=RATE, seed=900_001, sensor="LSM6DSOX", faults=False)
    with tempfile.TemporaryDirectory() as folder:
        path, week = Path(folder) / "night.h5", Path(folder) / "week.h5"
        write(path, sleeper)
        with Recording(path) as night:
            xyz = night.read()
        times = take_turns(kernels(xyz), repeats)
        from_file = take_turns(files(path), repeats)
        pushed = 1e6 * pushes(xyz)
        imported, first = children(_START, max(repeats, 5))
        lengthen(path, week, WEEK)
        base, peak = children(_MEMORY, 1, str(path), str(week))
        after_night = children(_MEMORY, 1, str(path), str(path))[1]

    def ns(seconds: list[float]) -> float:
        return statistics.median(seconds) / len(xyz) * 1e9

    classic, read = "obspy classic STA/LTA of the norm", "h5py, reading it"
    kernel = {name: {"ns": ns(taken), "runs": taken} for name, taken in times.items()}
    file = {name: {"ns": ns(taken), "runs": taken} for name, taken in from_file.items()}
    figures = {
        "wrist / classic": kernel["hypnic, wrist"]["ns"] / kernel[classic]["ns"],
        "mattress / classic": kernel["hypnic, mattress"]["ns"] / kernel[classic]["ns"],
        "file / h5py": file["hypnic, file to event table"]["ns"] / file[read]["ns"],
        "push, p99 (us)": float(np.percentile(pushed, 99)),
        "import (s)": statistics.median(imported),
        "start to first push (s)": statistics.median(first),
        "memory, week (MB)": peak[0] - base[0],
    }
    return {
        "made_by": "benchmarks/speed.py",
        "machine": _machine(),
        "data": "a simulated night; no human data",
        "samples": len(xyz),
        "repeats": repeats,
        "kernel": kernel,
        "file": file,
        "push_us": {f"p{p:g}": float(np.percentile(pushed, p)) for p in (50, 90, 99, 99.9)},
        "push_growth_bytes": growth(xyz),
        "import_s": imported,
        "first_push_s": first,
        "memory_mb": {"after a night": base[0], "after two nights": after_night[0], "after a week": peak[0]},
        "figures": figures,
        "targets": TARGETS,
    }


def page(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    machine, kernel, file = report["machine"], report["kernel"], report["file"]
    lines = [
        "# Speed",
        "",
        f"`python benchmarks/speed.py --repeats {report['repeats']}` on {machine['processor']}, {machine['cores']} "
        f"cores, Python {machine['python']}, numba {machine['numba']}, NumPy {machine['numpy']}, h5py "
        f"{machine['h5py']}, hypnic {machine['hypnic']}. {report['samples']} samples of a *simulated* night at 100 Hz; "
        f"medians of {report['repeats']} runs in turn. Trust the ratios, not the nanoseconds.",
        "",
        "| what | measured | at most |",
        "|---|---|---|",
        *(
            f"| {name} | {value:.3g} | {report['targets'][name]:g} |"
            for name, value in report["figures"].items()
        ),
        "",
        "## Samples to events, one core",
        "",
        "| what | ns a sample | over classic STA/LTA |",
        "|---|---|---|",
    ]
    classic = kernel["obspy classic STA/LTA of the norm"]["ns"]
    lines += [
        f"| {name} | {entry['ns']:.1f} | {entry['ns'] / classic:.2f} |" for name, entry in kernel.items()
    ]
    read = file["h5py, reading it"]["ns"]
    lines += [
        "",
        "## From a shuffled and gzipped file",
        "",
        "| what | ns a sample | over h5py |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {entry['ns']:.1f} | {entry['ns'] / read:.2f} |" for name, entry in file.items()]
    push, memory = report["push_us"], report["memory_mb"]
    lines += [
        "",
        "hypnic reads ahead in a thread: with a core less, reading and detecting take the sum of both. Where the time "
        "goes, and what did not help: [SPEED_NOTES.md](SPEED_NOTES.md).",
        "",
        "## Live, start and memory",
        "",
        f"- `push` of 10 samples, all night: median {push['p50']:.1f} us, 90 % {push['p90']:.1f}, 99 % "
        f"{push['p99']:.1f}, 99.9 % {push['p99.9']:.1f} (the last is what else the machine does). What Python holds "
        f"grew by {report['push_growth_bytes']:.0f} bytes over the night: the bouts of rest.",
        f"- `import hypnic`: {statistics.median(report['import_s']):.3f} s; from there to the first `push` with a warm "
        f"cache {statistics.median(report['first_push_s']):.2f} s, most of it numba's own import.",
        "- Peak memory of a process that detects in a night "
        f"{memory['after a night']:.0f} MB, in two {memory['after two nights']:.0f}, in a night and a week in one file "
        f"{memory['after a week']:.0f}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    report = measure(options.hours, options.repeats)
    text = page(report)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "SPEED.md").write_text(text, encoding="utf-8")
    (options.out / "speed.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
