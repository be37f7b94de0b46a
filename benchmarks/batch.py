"""Many nights: two processes against one, and what a biobank would take.

    python benchmarks/batch.py [--files 200] [--hours 1] [--repeats 3] [--long 12]

Files are copies of a few simulated nights; each is opened, read in full, described and detected in, as
``hypnic detect DIR --jobs N`` does, manifest and tables included. Runs with one process and with two take turns, so
that whatever else the machine does meets both. Writes BATCH.md and batch.json beside this script. The compiler's cache
is warm: ``hypnic warmup`` has been run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py

from hypnic import Sleeper
from hypnic.batch import detect_nights, find_nights
from hypnic.bench import _machine
from hypnic.simulate import write
from hypnic.warmup import warm_up

HERE = Path(__file__).parent
DISTINCT = 4
"""Different nights among the copies."""

COHORT = 100_000
"""Person-weeks: the size of UK Biobank's accelerometer study."""

WEEK = 7 * 86400 * 100
"""Samples of a week at 100 Hz."""


def copies(folder: Path, count: int, hours: float, distinct: int) -> list[Path]:
    """Make `count` files of `distinct` simulated nights and return their paths."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"night{number:04d}.h5"
        if number < distinct:
            write(path, Sleeper("wrist", hours, 100.0, 910_001 + number))
        else:
            shutil.copyfile(folder / f"night{number % distinct:04d}.h5", path)
    return find_nights([folder])


def timed(paths: list[Path], jobs: int) -> dict[str, Any]:
    """Return wall and processor time (s) of one run over all files, with the load of the machine before it."""

    def used() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    with tempfile.TemporaryDirectory() as out:
        load, cpu, start = os.getloadavg()[0], used(), time.perf_counter()
        result = detect_nights(paths, out, jobs=jobs)
        wall, cpu = time.perf_counter() - start, used() - cpu
    assert result.done == len(paths), result.failed
    return {"jobs": jobs, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "load": round(load, 2)}


def samples(paths: list[Path]) -> int:
    """Return the samples that are stored in all files."""
    total = 0
    for path in paths:
        with h5py.File(path) as file:
            total += len(file["acceleration"])
    return total


def main() -> None:
    """Measure, and write a table and the figures behind it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--hours", type=float, default=1.0, help="length of each of them")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs")
    parser.add_argument("--long", type=int, default=12, help="nights of 8 h, for what a sample costs")
    options = parser.parse_args()
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        paths = copies(Path(folder) / "short", options.files, options.hours, DISTINCT)
        long_paths = copies(Path(folder) / "long", options.long, 8.0, 1)
        tiny = copies(Path(folder) / "tiny", 1, 0.1, 1)
        timed(paths, 2)  # from here on the files are in the system's cache
        runs = [timed(paths, jobs) for _ in range(options.repeats) for jobs in (1, 2)]
        long_runs = [timed(long_paths, 1) for _ in range(options.repeats)]
        tiny_runs = [timed(tiny, 1) for _ in range(options.repeats)]
        n_short, n_long, n_tiny = samples(paths), samples(long_paths), samples(tiny)
        size = sum(path.stat().st_size for path in paths)
    ratios = [one["wall_s"] / two["wall_s"] for one, two in zip(runs[::2], runs[1::2], strict=True)]
    # What starting a process costs is in both, and goes out.
    cost = median_of(long_runs, "cpu_s") - median_of(tiny_runs, "cpu_s")
    per_sample = cost / (n_long - n_tiny)
    report = {
        "files": options.files,
        "hours": options.hours,
        "samples": n_short,
        "megabytes": round(size / 1e6),
        "runs": runs,
        "long": {"files": options.long, "samples": n_long, "runs": long_runs},
        "tiny": {"files": 1, "samples": n_tiny, "runs": tiny_runs},
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "cpu_ns_a_sample": per_sample * 1e9,
        "cohort_core_hours": COHORT * WEEK * per_sample / 3600,
        "machine": _machine(),
    }
    (HERE / "batch.json").write_text(json.dumps(report, indent=1) + "\n")
    text = page(report)
    (HERE / "BATCH.md").write_text(text)
    print(text)


def median_of(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def page(report: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    one, two = report["runs"][::2], report["runs"][1::2]
    ratio, machine, long = report["ratio"], report["machine"], report["long"]
    loads = [run["load"] for run in report["runs"]]
    lines = [
        "# Many nights",
        "",
        f"`python benchmarks/batch.py` on {machine['processor']}, {machine['cores']} cores, Python "
        f"{machine['python']}, numba {machine['numba']}, h5py {machine['h5py']}, hypnic {machine['hypnic']}.",
        "",
        f"{report['files']} files of {report['hours']:g} h at 100 Hz, {report['megabytes']} MB in all, copies of "
        f"{DISTINCT} *simulated* nights. Each is opened, read in full, described and detected in, and goes into "
        "manifest and tables; starting the processes is part of it. Runs of one and of two processes took turns.",
        "",
        "| processes | wall clock, each run (s) | median (s) | processor time, median (s) |",
        "|---|---|---|---|",
        *(
            f"| {runs[0]['jobs']} | {', '.join(f'{run["wall_s"]:.1f}' for run in runs)} "
            f"| {median_of(runs, 'wall_s'):.1f} | {median_of(runs, 'cpu_s'):.1f} |"
            for runs in (one, two)
        ),
        "",
        f"Two processes are **{ratio['median']:.2f} times** as fast as one (pair by pair {ratio['low']:.2f} to "
        f"{ratio['high']:.2f}). The load of the machine before the runs was {min(loads):g} to {max(loads):g}, the "
        "runs before them included: what is above 1 (one process) or 2 (two) is other people's.",
        "",
        "## A biobank, on paper",
        "",
        f"{long['files']} nights of 8 h in one process, less what starting a process takes: "
        f"**{report['cpu_ns_a_sample']:.0f} ns** of processor time a sample. {COHORT} weeks at 100 Hz are "
        f"{COHORT * WEEK:.2g} samples: **{report['cohort_core_hours']:.0f} core-hours**, "
        f"{report['cohort_core_hours'] / 64:.1f} h on 64 such cores, if the disks deliver.",
        "",
        "Not measured but multiplied: nobody has run it. It holds for HDF5 nights, shuffled and gzipped, on cores like "
        "these; for other formats their reader counts.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
