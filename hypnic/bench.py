"""How good and how fast this hypnic is on this machine, in figures that two runs can be compared by.

Quality is measured against the annotations of the recordings (`hypnic.scoring`), and is the same in every run. Speed,
start and memory are measured several times, each figure with the spread of its runs: a difference within it says
nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hypnic
from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from hypnic.scoring import Score

__all__ = ["Comparison", "Figure", "Report", "bench", "compare", "load"]

FORMAT: Final = "hypnic bench 1"

RUNS: Final = 5
"""Fewest runs of each timing."""

LEAST_S: Final = 0.3
"""Shortest time (s) of a run: short recordings are gone through as often as that takes."""

SIMULATED: Final = {
    "site": "wrist",
    "hours": 1.0,
    "rate": 100.0,
    "seed": 41,
    "jerks": 8,
    "sensor": "LSM6DSOX",
}
"""The night that is made where no recording is named and the sample recordings are not there: the recipe of one."""

NOTABLE: Final = 0.02
"""Part by which medians differ before it is worth a word: the runs of one report share a state of the machine, and so
spread less than two reports do with nothing changed (measured here: up to 2 %)."""

PACKAGES: Final = ("numpy", "numba", "llvmlite", "scipy", "h5py")
"""Whose versions belong to a measurement."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured.

    Attributes
    ----------
    name, unit
        What, in what.
    value : float or None
        The median of the runs, or what came out; None where it is undefined.
    low, high : float or None
        Least and greatest of the runs; for quality the 95 % interval over recordings, where there are several.
    runs : int
        How often it was measured; 0 for what is the same every time.
    """

    name: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    runs: int = 0


@dataclass(frozen=True)
class Report:
    """What was measured, on what, and with what.

    Attributes
    ----------
    figures : list of Figure
        Quality, speed, memory and start.
    recordings : list of dict
        Name, SHA-256, samples, rate (Hz) and site of each.
    source : str
        Where they come from, and whether they are simulated, in a sentence.
    machine : dict
        Processor, cores, system, versions, and the load before and after.
    notes : list of str
        What to know when reading the figures.
    """

    figures: list[Figure]
    recordings: list[dict[str, Any]]
    source: str
    machine: dict[str, Any]
    notes: list[str]

    def to_json(self) -> str:
        """Return everything as JSON, for `load`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class Comparison:
    """A figure here and in another report.

    Attributes
    ----------
    here, there : Figure
        Of the two reports.
    ratio : float or None
        Here over there.
    verdict : str
        "same", "changed" (quality on the same recordings), "within" or "outside" the spread of the runs (outside: no
        run here is within the runs there, and the medians differ by over `NOTABLE`), or "other data" where the
        recordings differ.
    """

    here: Figure
    there: Figure
    ratio: float | None
    verdict: str


def bench(
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    runs: int = RUNS,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure quality and speed.

    Parameters
    ----------
    paths : sequence of path-like, optional
        Recordings, for the quality with annotations in them; by default the sample recordings of the project, or,
        where they are not there, a night that is simulated for it.
    runs : int, optional
        How often each timing is taken, 5 or more.
    progress : callable, optional
        Called with what is done next, in words.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If there are too few runs.
    DataError
        If a recording cannot be read.
    OSError
        If a file cannot be opened.
    """
    if runs < RUNS:
        raise UsageError(f"{runs} runs: at least {RUNS} are needed to tell a difference from chance")
    say = progress or (lambda text: None)
    before = _load()
    with _recordings(paths, say) as (files, source):
        say("compiling, where nothing is cached")
        from hypnic.warmup import warm_up

        warm_up()
        say("quality")
        scores, recordings, notes = _scores(files)
        figures = _quality(scores)
        say("speed")
        samples = sum(int(recording["samples"]) for recording in recordings)
        seconds = sum(recording["samples"] / recording["rate"] for recording in recordings)
        figures += _speed(files, samples, seconds, runs)
        say("memory and start")
        figures += _processes(files, runs)
    return Report(figures, recordings, source, _machine() | {"load": [before, _load()]}, notes)


def load(path: str | os.PathLike[str]) -> Report:
    """Read a report that was written as JSON.

    Raises
    ------
    DataError
        If the file is none.
    OSError
        If it cannot be opened.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError
        figures = [Figure(**figure) for figure in found.pop("figures")]
        return Report(figures, **found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(f"{os.fspath(path)}: not a file of hypnic bench --json") from None


def compare(here: Report, there: Report) -> tuple[list[Comparison], list[str]]:
    """Set two reports side by side.

    Returns
    -------
    comparisons : list of Comparison
        Of each figure that both have.
    differences : list of str
        What differs in recordings, machine and versions: reasons why figures may differ that are none of hypnic's.
    """
    same_data = [item["sha256"] for item in here.recordings] == [item["sha256"] for item in there.recordings]
    others = {figure.name: figure for figure in there.figures}
    found = []
    for figure in here.figures:
        other = others.get(figure.name)
        if other is None:
            continue
        ratio = figure.value / other.value if other.value and figure.value is not None else None
        found.append(Comparison(figure, other, ratio, _verdict(figure, other, same_data)))
    differences = []
    if not same_data:
        names = [", ".join(item["name"] for item in report.recordings) for report in (here, there)]
        differences.append(f"recordings: {names[0]} here, {names[1]} there")
    for name in here.machine.keys() | there.machine.keys():
        mine, theirs = here.machine.get(name), there.machine.get(name)
        if name != "load" and mine != theirs:
            differences.append(f"{name}: {mine} here, {theirs} there")
    return found, sorted(differences)


def _verdict(here: Figure, there: Figure, same_data: bool) -> str:
    if not here.runs:
        if not same_data:
            return "other data"
        return "same" if here.value == there.value else "changed"
    if None in (here.low, here.high, there.low, there.high):
        return "within"
    apart = here.low > there.high or there.low > here.high  # type: ignore[operator]  # none is None
    near = here.value is None or math.isclose(here.value, there.value or 0.0, rel_tol=NOTABLE)
    return "outside" if apart and not near else "within"


# Recordings


@contextmanager
def _recordings(
    paths: Sequence[str | os.PathLike[str]], say: Callable[[str], None]
) -> Iterator[tuple[list[Path], str]]:
    if paths:
        yield [Path(path) for path in paths], "recordings that were named"
        return
    samples = sorted((Path(hypnic.__file__).parents[1] / "data").glob("*.h5"))
    if samples:
        yield samples, "the project's sample recordings, which are simulated: not human data"
        return
    from hypnic.simulate import Sleeper, write

    say("simulating a night")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.h5"
        recipe = dict(SIMULATED)
        write(path, Sleeper(**recipe, faults=False))  # type: ignore[arg-type]
        words = ", ".join(f"{name} {value}" for name, value in SIMULATED.items())
        yield [path], f"a night simulated for this run ({words}): not human data"


def _scores(files: Sequence[Path]) -> tuple[list[Score], list[dict[str, Any]], list[str]]:
    from hypnic.detector import detect_rows, emissions
    from hypnic.marks import load as load_marks
    from hypnic.marks import recorded_hours
    from hypnic.readers import open_recording
    from hypnic.scoring import score

    scores, recordings, notes = [], [], []
    for path in files:
        with open_recording(path) as recording:
            detector, rows = detect_rows(recording)
            annotated = len(recording.annotations) > 0
            recordings.append(
                {
                    "name": path.name,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "samples": detector.counts["received"],
                    "rate": detector.rate,
                    "site": detector.site,
                }
            )
        if annotated:
            timed = emissions(rows, detector.rate)
            truth, hours = load_marks(path, "truth"), recorded_hours(path)
            scores.append(score(timed, truth, hours_valid=hours, name=path.name))
        else:
            notes.append(f"{path.name} has no annotations: it tells speed, not quality")
    return scores, recordings, notes


# What is measured


def _quality(scores: Sequence[Score]) -> list[Figure]:
    """Return the figures of quality; none where nothing is annotated."""
    if not scores:
        return []
    from hypnic.scoring import combine

    total = combine(scores)

    def figure(name: str, unit: str, value: float, key: str = "") -> Figure:
        low, high = total.intervals.get(key, (math.nan, math.nan))
        return Figure(name, unit, _known(value), _known(low), _known(high))

    at = f"@{total.tolerance:g}"
    counts, error = total.at(total.tolerance), total.onset_error()
    latency = total.latency.summary()["provisional"]
    return [
        figure("true jerks", "", counts.tp + counts.fn),
        *(figure(name, "", total.figures[name + at], name + at) for name in ("precision", "recall", "f1")),
        figure("false alarms", "1/h", total.figures["false_alarms_per_hour"], "false_alarms_per_hour"),
        figure("onset error, size", "s", error["median"]),
        figure("onset error, 5 %", "s", error["p05"]),
        figure("onset error, 95 %", "s", error["p95"]),
        figure("row after a jerk's end", "s", latency["median"]),
    ]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spread(name: str, unit: str, values: Sequence[float]) -> Figure:
    return Figure(name, unit, statistics.median(values), min(values), max(values), len(values))


def _speed(files: Sequence[Path], samples: int, seconds: float, runs: int) -> list[Figure]:
    """Time reading, detecting in memory, and both."""
    from hypnic.detector import Detector, detect
    from hypnic.readers import open_recording

    held = []
    for path in files:
        with open_recording(path) as recording:
            held.append((recording.rate, recording.site, list(recording)))

    def kernel() -> None:
        for rate, site, chunks in held:
            detector = Detector(rate, site)
            for chunk in chunks:
                detector.gap(chunk.missing)
                detector.push_rows(chunk.xyz)
            detector.flush_rows()

    def read() -> None:
        for path in files:
            with open_recording(path) as recording:
                for _ in recording:
                    pass

    def whole() -> None:
        for path in files:
            with open_recording(path) as recording:
                detect(recording)

    # Turn and turn about, so that a machine that slows down slows all of them.
    works = {"detecting, in memory": kernel, "reading": read, "file to events": whole}
    times: dict[str, list[float]] = {name: [] for name in works}
    repeats = {name: max(1, math.ceil(LEAST_S / max(_timed(work), 1e-6))) for name, work in works.items()}
    for _ in range(runs):
        for name, work in works.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                work()
            times[name].append((time.perf_counter() - start) / repeats[name])
    figures = [
        _spread(name, "ns/sample", [took / samples * 1e9 for took in taken]) for name, taken in times.items()
    ]
    faster = [seconds / took for took in times["file to events"]]
    return [*figures, _spread("file to events, speed", "x real time", faster)]


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


_CHILD: Final = """
import sys, time
start = time.perf_counter()
import hypnic
imported = time.perf_counter()
import numpy
hypnic.Detector(100.0).push(numpy.zeros((10, 3), numpy.float32))
pushed = time.perf_counter()
from hypnic.bench import peak_mb
base = peak_mb()
for path in sys.argv[1:]:
    with hypnic.open(path) as recording:
        hypnic.detect(recording)
print(imported - start, pushed - start, base, peak_mb())
"""
"""What a process of its own measures: times from its start (s) and peaks of its memory (MB)."""


def peak_mb() -> float:
    """Return the largest memory (resident, MB) that this process has had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        import resource

        # On Linux it would begin with what the parent had. Kilobytes, but bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _processes(files: Sequence[Path], runs: int) -> list[Figure]:
    """Measure start and memory in processes of their own."""
    from hypnic.batch.worker import environment

    command = [sys.executable, "-P", "-c", _CHILD, *(str(path.absolute()) for path in files)]
    rows = []
    for _ in range(runs):
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"a process to measure in failed: {done.stderr.strip().splitlines()[-1:]}")
        rows.append([float(word) for word in done.stdout.split()])
    imported, pushed, base, peak = zip(*rows, strict=True)
    return [
        _spread("import hypnic", "s", imported),
        _spread("start to first push", "s", pushed),
        _spread("memory at first push", "MB", base),
        _spread("memory, peak", "MB", peak),
    ]


# The machine


def _load() -> list[float]:
    """Return the mean number of running processes over 1, 5 and 15 min."""
    return [round(value, 2) for value in os.getloadavg()]


def _machine() -> dict[str, Any]:
    """Return processor, system and versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "hypnic": hypnic.__version__,
        **versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        named.setdefault(name.strip(), value.strip())
    return named.get("model name") or platform.processor() or platform.machine()
