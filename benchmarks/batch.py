"""Many nights: two processes against one, and what a biobank would take.

    python benchmarks/batch.py [--files 200] [--hours 8] [--repeats 3] [--long 12]

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
from typing import Any, Final

import h5py

from hypnic import Sleeper
from hypnic.batch import detect_nights, find_nights
from hypnic.bench import _machine
from hypnic.simulate import write
from hypnic.warmup import warm_up

HERE = Path(__file__).parent
DISTINCT: Final = 4
"""Different nights among the copies."""

COHORT: Final = 100_000
"""Person-weeks: the size of UK Biobank's accelerometer study."""

WEEK: Final = 7 * 86400 * 100
"""Samples of a week at 100 Hz."""


CALM: Final = 0.1
"""Cores that others may use beyond those left over for them before a run no longer tells what the machine can do."""


def copies(folder: Path, count: int, hours: float, distinct: int) -> list[Path]:
    """Make `count` files of `distinct` simulated nights and return their paths."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"night{number:04d}.h5"
        if number < distinct:
            write(path, Sleeper("wrist", hours, 100.0, 910_001 + number, faults=distinct > 1))
        else:
            shutil.copyfile(folder / f"night{number % distinct:04d}.h5", path)
    return find_nights([folder])


def timed(paths: list[Path], jobs: int) -> dict[str, Any]:
    """Return wall and processor time (s) of one run over all files, and how many cores others used meanwhile."""

    def used() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    with tempfile.TemporaryDirectory() as out:
        busy, cpu, start = machine_used(), used(), time.perf_counter()
        result = detect_nights(paths, out, jobs=jobs)
        wall, cpu, busy = time.perf_counter() - start, used() - cpu, machine_used() - busy
    assert result.done == len(paths), result.failed
    others = max(0.0, busy - cpu) / wall
    return {"jobs": jobs, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "others_cores": round(others, 2)}


def machine_used() -> float:
    """Return the processor time (s) that everybody on this Linux machine has used."""
    line = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, softirq, steal = map(int, line[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def samples(paths: list[Path]) -> int:
    """Return the samples that are stored in all files."""
    total = 0
    for path in paths:
        with h5py.File(path) as file:
            total += len(file["acceleration"])
    return total


def count_gaps(path: Path) -> int:
    with h5py.File(path) as file:
        return len(file["gaps"]) if "gaps" in file else 0


def main() -> None:
    """Measure, and write a table and the figures behind it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--hours", type=float, default=8.0, help="length of each of them")
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
        gaps = [count_gaps(path) for path in paths[:DISTINCT]]
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
        "gaps": gaps,
        "megabytes": round(size / 1e6),
        "runs": runs,
        "long": {"files": options.long, "samples": n_long, "runs": long_runs},
        "tiny": {"files": 1, "samples": n_tiny, "runs": tiny_runs},
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "calm": calm_ratio(runs),
        "cpu_ns_a_sample": per_sample * 1e9,
        "cohort_core_hours": COHORT * WEEK * per_sample / 3600,
        "machine": _machine(),
    }
    (HERE / "batch.json").write_text(json.dumps(report, indent=1) + "\n")
    text = page(report)
    (HERE / "BATCH.md").write_text(text)
    print(text)


def calm_ratio(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how much faster two processes are by the runs that had the machine to themselves.

    One process has a core to itself as long as others use less than the rest, so all but the busiest of its runs count.
    """
    cores = os.cpu_count() or 2
    one = [run for run in runs if run["jobs"] == 1 and run["others_cores"] <= cores - 1]
    two = [run for run in runs if run["jobs"] == 2 and run["others_cores"] <= CALM + cores - 2]
    ratio = median_of(one, "wall_s") / median_of(two, "wall_s") if one and two else None
    return {"ratio": ratio, "runs": [len(one), len(two)]}


def median_of(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def page(report: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    one, two = report["runs"][::2], report["runs"][1::2]
    ratio, machine, long = report["ratio"], report["machine"], report["long"]
    calm = ""
    if report["calm"]["ratio"] is not None:
        n_one, n_two = report["calm"]["runs"]
        calm = (
            f"With the machine to themselves (others used at most {CALM:g} cores more than were left over: "
            f"{n_one} runs of one process, {n_two} of two) it is **{report['calm']['ratio']:.2f} times**. "
        )
    lines = [
        "# Many nights",
        "",
        f"`python benchmarks/batch.py` on {machine['processor']}, {machine['cores']} cores, Python "
        f"{machine['python']}, numba {machine['numba']}, h5py {machine['h5py']}, hypnic {machine['hypnic']}.",
        "",
        f"{report['files']} files of {report['hours']:g} h at 100 Hz, {report['megabytes']} MB in all, copies of "
        f"{DISTINCT} *simulated* nights, which have {', '.join(map(str, report['gaps']))} gaps. Each is opened, read "
        "in full, described and detected in, and goes into manifest and tables; starting the processes is part of it. "
        "A job reads and detects in turn: so many jobs take so many cores. Runs of one and of two processes took "
        "turns.",
        "",
        "| processes | wall clock of each run (s) | cores that others used | median (s) | processor time, median (s) |",
        "|---|---|---|---|---|",
        *(
            f"| {runs[0]['jobs']} | {', '.join(str(round(run['wall_s'], 1)) for run in runs)} "
            f"| {', '.join(str(run['others_cores']) for run in runs)} "
            f"| {median_of(runs, 'wall_s'):.1f} | {median_of(runs, 'cpu_s'):.1f} |"
            for runs in (one, two)
        ),
        "",
        f"Two processes are **{ratio['median']:.2f} times** as fast as one, pair by pair {ratio['low']:.2f} to "
        f"{ratio['high']:.2f}. {calm}By the processor time alone it could be "
        f"{2 * median_of(one, 'cpu_s') / median_of(two, 'cpu_s'):.2f} times.",
        "",
        "## A biobank, on paper",
        "",
        f"{long['files']} nights of 8 h without a gap in one process, less what starting a process takes: "
        f"**{report['cpu_ns_a_sample']:.0f} ns** of processor time a sample. {COHORT} weeks at 100 Hz are "
        f"{COHORT * WEEK:.2g} samples: **{report['cohort_core_hours']:.0f} core-hours**, "
        f"{report['cohort_core_hours'] / 64:.1f} h on 64 such cores, if the disks deliver.",
        "",
        "Not measured but multiplied: nobody has run it. It holds for HDF5 nights, shuffled and gzipped, on cores like "
        "these; for other formats their reader counts, and a sensor that loses samples all the time costs several "
        "times as much.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
