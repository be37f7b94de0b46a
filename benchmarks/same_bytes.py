"""Give the detector the same samples in every way there is and compare the rows to the byte.

    python benchmarks/same_bytes.py [--cases 10000] [--seed 1] [--sample 300] [--interpreted 60] [--json FILE]
    python benchmarks/same_bytes.py --save FILE
    python benchmarks/same_bytes.py --check FILE

A case is a signal drawn wide (25 to 400 Hz; noise from 1e-7 to 0.1 g, bursts, series, trains, steps, held, clipped,
coarse, absurd, tiny and missing values), a site, in a third of the cases a reference sensor, and gaps and ends of
segments at drawn places. One shot takes each stretch between those in one piece. The same case is then taken in
pieces of drawn sizes, none and one included, each in a drawn type and layout, gaps told in parts, the detector saved
and restored between pieces, by one thread and by two at the same time. A sample of the cases is computed again by
other processes: on an empty cache of machine code and a full one, by code for other processors, with the C library's
code for processors without fused multiply-add, and without the compiler. Rows, event table, counts and bouts of rest
must be equal.

`--save` writes a sample of cases with their digests, `--check` computes them again under another Python, another
machine or another version of a library. Ends with 1 at any difference. The table is Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypnic import Detector
from hypnic.detector import event_rows
from hypnic.events import LABELS

Samples = np.ndarray[Any, Any]

RATES = (25.0, 31.25, 50.0, 62.5, 100.0, 128.0, 200.0, 400.0)
SAMPLES = (3_000, 16_000)
"""Least and most samples of a case: 8 s at 400 Hz, 11 min at 25 Hz."""

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "code for any x86-64 (SSE2)": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "code for x86-64-v2 (SSE4.2)": {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
    "code for Haswell (AVX2, FMA)": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "code for Skylake-X (AVX-512)": {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""},
}
"""Processors that machine code is made for, of those that every x86-64 server of today can run."""

WITHOUT_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4,-FMA_Usable,-AVX2_Usable"}
"""What makes glibc take its functions for processors before 2013."""


@dataclass(frozen=True)
class Case:
    """Samples, and what is told of them besides: the same for every way of giving them.

    Attributes
    ----------
    number : int
    rate : float
        In Hz.
    site : str
    place : str or False
        Where the reference is.
    xyz : ndarray, shape (n, 3)
        In g: float32, float64 with digits beyond float32, or int16.
    reference : ndarray of float32, shape (n, 3), or None
    marks : tuple of (int, int)
        Before which sample so many are missing; -1 is the end of a segment.
    """

    number: int
    rate: float
    site: str
    place: str | bool
    xyz: Samples
    reference: Samples | None
    marks: tuple[tuple[int, int], ...]

    def stretches(self) -> list[tuple[int, int, int]]:
        """Return start, stop and what is told after it (0 for nothing) of each stretch between marks."""
        edges = [0, *(at for at, _ in self.marks), len(self.xyz)]
        told = [*(what for _, what in self.marks), 0]
        return [(a, b, what) for a, b, what in zip(edges, edges[1:], told, strict=False)]


def burst(rng: np.random.Generator, n: int, rate: float, size: float) -> Samples:
    """Return a ring or a movement of at most `n` samples."""
    length = float(np.exp(rng.uniform(np.log(0.02), np.log(4.0))))
    t = np.arange(min(n, int(6 * length * rate) + 1)) / rate
    course = np.sin(2 * np.pi * rng.uniform(0.5, 12.0) * t) * np.exp(-t / length)
    return size * np.outer(course, rng.normal(0.0, 0.6, 3))


def draw(seed: int, number: int) -> Case:
    """Return one case."""
    rng = np.random.default_rng([seed, number])
    rate = float(rng.choice(RATES))
    n = int(rng.integers(*SAMPLES))
    noise = float(10.0 ** rng.uniform(-7.0, -1.0)) if rng.random() < 0.95 else 0.0
    down = rng.normal(0.0, 1.0, 3)
    xyz = down / np.linalg.norm(down) + rng.normal(0.0, 1.0, (n, 3)) * noise
    breath = 0.008 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * np.arange(n) / rate)
    xyz += np.outer(breath * (rng.random() < 0.7), rng.normal(0.0, 0.6, 3))
    warm = min(int(7 * rate), n // 2)

    def add(at: int, shape: Samples) -> None:
        part = shape[: n - at]
        xyz[at : at + len(part)] += part

    for _ in range(rng.poisson(0.004 * (n / rate) + 2.0)):
        at = int(rng.integers(warm, n))
        add(at, burst(rng, n - at, rate, float(10.0 ** rng.uniform(-2.5, 1.0))))
    if rng.random() < 0.5:  # a series, at the interval of periodic limb movements or of a rhythm
        one = burst(rng, n, rate, float(10.0 ** rng.uniform(-1.5, 0.3)))
        period = rng.uniform(6.0, 30.0) if rng.random() < 0.6 else rng.uniform(0.4, 2.0)
        begin = int(rng.integers(warm, n))
        for k in range(int(rng.integers(4, 12))):
            at = begin + int(k * period * rate * rng.uniform(0.95, 1.05))
            if at < n:
                add(at, one * rng.uniform(0.8, 1.25))
    for _ in range(rng.poisson(0.7)):
        xyz[int(rng.integers(n)) :] += rng.normal(0.0, 0.4, 3)
    if rng.random() < 0.3:  # another level of noise from somewhere on
        at = int(rng.integers(n))
        xyz[at:] += rng.normal(0.0, float(10.0 ** rng.uniform(-4.0, -1.0)), (n - at, 3))
    faults(rng, xyz, rate)
    kind = rng.random()
    if kind < 0.5:
        with np.errstate(over="ignore"):
            xyz = xyz.astype(np.float32)
    elif kind < 0.6:
        # Whole numbers are g too.
        xyz = np.round(np.nan_to_num(20.0 * xyz)).clip(-32000, 32000).astype(np.int16)
    site = "wrist" if rng.random() < 0.5 else "mattress"
    place: str | bool = False
    reference = None
    if rng.random() < 0.3:
        place = "limb" if site == "wrist" and rng.random() < 0.5 else "bed"
        with np.errstate(over="ignore", invalid="ignore"):
            felt = np.roll(np.nan_to_num(xyz), int(rng.integers(-20, 20)), axis=0) * rng.uniform(0.1, 3.0)
            reference = (felt + rng.normal(0.0, 0.001, (n, 3))).astype(np.float32)
        at = int(rng.integers(n))
        reference[at : at + int(rng.integers(0, n // 4))] = np.nan
    marks = []
    for at in sorted(rng.integers(0, n, rng.poisson(1.5)).tolist()):
        longest = float(rng.choice([0.02, 0.2, 2.0, 60.0, 1000.0]))
        marks.append((at, -1 if rng.random() < 0.2 else int(rng.integers(1, 2 + int(longest * rate)))))
    return Case(number, rate, site, place, xyz, reference, tuple(marks))


def faults(rng: np.random.Generator, xyz: Samples, rate: float) -> None:
    """Put into samples what a sensor may come up with."""
    n = len(xyz)
    if rng.random() < 0.3:
        np.clip(xyz, -2.0, 2.0, out=xyz)
    if rng.random() < 0.4:
        step = float(rng.choice([1 / 16384, 1 / 1024, 0.0039, 1 / 64]))
        np.round(xyz / step, out=xyz)
        xyz *= step
    for _ in range(rng.poisson(1.0)):
        at = int(rng.integers(n))
        length = int(rng.choice([1, 2, 5, int(rate), int(5 * rate), int(70 * rate)]))
        part = xyz[at : at + length]
        kind = int(rng.integers(8))
        if kind == 0:
            part[:] = np.nan
        elif kind == 1:
            part[:, int(rng.integers(3))] = rng.choice([np.inf, -np.inf, 1e30, -1e300])
        elif kind == 2:
            part[:] = part[0].copy()
        elif kind == 3:
            part[:] = 0.0
        elif kind == 4:
            part[:] = -0.0
        elif kind == 5:
            part[:] = rng.normal(0.0, 1e-40, part.shape)
        elif kind == 6:
            part[:2, : int(rng.choice([1, 3]))] += rng.normal(0.0, 3.0)
        else:
            part[:] = rng.uniform(-180.0, 180.0, part.shape)


def digest(detector: Detector, rows: list[Samples]) -> str:
    """Return what names all that a detector has said."""
    found = np.concatenate(rows)
    told = [detector.counts, detector.index, detector.rest_bouts()]
    parts = (found.tobytes(), event_rows(found, detector.rate).tobytes(), json.dumps(told).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()[:24]


def one_shot(case: Case) -> tuple[str, Samples]:
    """Take a case in as few pieces as it has, as C-contiguous float32; return its digest and rows."""
    with np.errstate(over="ignore"):
        xyz = np.ascontiguousarray(case.xyz, np.float32)
    detector = Detector(case.rate, case.site, reference=case.place)
    rows = []
    for start, stop, what in case.stretches():
        beside = None if case.reference is None else case.reference[start:stop]
        rows.append(detector.push_rows(xyz[start:stop], beside))
        if what > 0:
            detector.gap(what)
        elif what < 0:
            rows.append(detector.flush_rows())
    rows.append(detector.flush_rows())
    return digest(detector, rows), np.concatenate(rows)


def dressed(rng: np.random.Generator, part: Samples) -> Any:
    """Return samples in a drawn type and layout that holds the same values, or more of their digits."""
    kind = int(rng.integers(9))
    if kind < 3:
        wider = ("i4", ">i8", "f8") if part.dtype == np.int16 else ("f8", ">f8", "g")
        return part.astype(wider[kind])
    if kind == 3:
        return part.astype({"f": ">f4", "d": ">f8", "h": ">i2"}[part.dtype.char])
    if kind == 4:
        wide = np.full((2 * len(part), 5), 7.0, part.dtype)
        wide[::2, 1:4] = part
        return wide[::2, 1:4]
    if kind == 5:
        return np.asfortranarray(part)
    if kind == 6:
        return part[::-1, ::-1].copy()[::-1, ::-1]
    if kind == 7:
        fixed = part.copy()
        fixed.flags.writeable = False
        return fixed
    if len(part) < 50:
        return part.tolist() if len(part) != 1 else part[0].tolist()
    return part


def pieces(rng: np.random.Generator, start: int, stop: int) -> list[int]:
    """Return where a stretch is cut: seldom, often, or into single samples for a while."""
    n = stop - start
    cuts = rng.integers(start, stop + 1, int(rng.choice([1, 4, 40]))).tolist()
    if n > 0 and rng.random() < 0.5:
        at = int(rng.integers(start, stop))
        cuts += range(at, min(at + 80, stop))
    return [start, *sorted(cuts), stop]


def in_pieces(case: Case, seed: int) -> str:
    """Take a case in a drawn way and return its digest."""
    rng = np.random.default_rng([seed, case.number, 1])
    detector = Detector(case.rate, case.site, reference=case.place)
    restart = float(rng.choice([0.0, 0.05, 0.5]))
    rows = []
    for start, stop, what in case.stretches():
        edges = pieces(rng, start, stop)
        for a, b in pairwise(edges):
            beside = None if case.reference is None else dressed(rng, case.reference[a:b])
            with np.errstate(over="ignore"):
                rows.append(detector.push_rows(dressed(rng, case.xyz[a:b]), beside))
            if rng.random() < restart:
                detector = Detector.from_state(detector.state())
        if what > 0:
            first = int(rng.integers(0, what + 1))
            detector.gap(first)
            if rng.random() < 0.5:
                detector = Detector.from_state(detector.state())
            detector.gap(what - first)
        elif what < 0:
            rows.append(detector.flush_rows())
    rows.append(detector.flush_rows())
    return digest(detector, rows)


def side_by_side(work: Callable[[int], str], numbers: list[int], threads: int) -> list[str]:
    """Return what `work` makes of the numbers, by so many threads that begin together."""
    together = threading.Barrier(threads)
    with ThreadPoolExecutor(threads, initializer=together.wait) as pool:
        return list(pool.map(work, numbers))


def elsewhere(root: Path, cases: int, **env: str) -> tuple[list[str], str]:
    """Return the digests of the first saved cases as another process computes them, and what it loaded and compiled.

    It runs a copy of the sources in `root`: machine code that lies beside the sources themselves would be loaded.
    """
    script = root / "benchmarks" / Path(__file__).name
    command = [sys.executable, str(script), "--digests", str(root / "cases"), "--cases", str(cases)]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{env}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return found["digests"], found["code"]


def save(path: Path, cases: list[Case], digests: list[str]) -> None:
    """Write cases and their digests."""
    path.write_bytes(pickle.dumps([(vars(case), found) for case, found in zip(cases, digests, strict=True)]))


def load(path: Path, count: int | None = None) -> tuple[list[Case], list[str]]:
    """Return saved cases and their digests; only files of one's own, as pickle runs what is in them."""
    saved = pickle.loads(path.read_bytes())[:count]
    return [Case(**values) for values, _ in saved], [found for _, found in saved]


def versions() -> str:
    """Return what the digests were computed with."""
    import numba

    return (
        f"Python {platform.python_version()}, NumPy {np.__version__}, numba {numba.__version__}, "
        f"{' '.join(platform.libc_ver())}, {platform.machine()}"
    )


def digests_alone(path: Path, cases: int) -> None:
    """Print what another process asks for."""
    from hypnic.jit import CACHE

    digests = [one_shot(case)[0] for case in load(path, cases)[0]]
    code = f"{CACHE.loaded} loaded, {CACHE.saved} compiled"
    print(json.dumps({"digests": digests, "code": code}))


def check(path: Path) -> int:
    """Compute saved cases again and say how many differ."""
    cases, digests = load(path)
    different = [
        case.number for case, found in zip(cases, digests, strict=True) if one_shot(case)[0] != found
    ]
    print(f"{versions()}: {len(cases)} cases, {len(different)} different {different[:10]}")
    return 1 if different else 0


def campaign(options: argparse.Namespace) -> int:
    """Compare everything and print a table."""
    numbers = list(range(options.cases))
    shots, labels, rows, revised = [], dict.fromkeys(LABELS, 0), 0, 0
    for number in numbers:
        found, table = one_shot(draw(options.seed, number))
        shots.append(found)
        events = event_rows(table, 100.0)
        for label in events["label"]:
            labels[label] += 1
        rows += len(events)
        revised += int((events["revision"] > 1).sum())

    outcomes: list[dict[str, Any]] = []

    def compared(what: str, found: list[str], at: list[int], note: str = "", required: bool = True) -> None:
        different = [k for k, digest in zip(at, found, strict=True) if digest != shots[k]]
        outcomes.append(
            {
                "what": what,
                "cases": len(at),
                "different": len(different),
                "first": different[:5],
                "note": note,
                "required": required,
            }
        )
        print(f"{what}: {len(at)} cases, {len(different)} different {different[:5]}", file=sys.stderr)

    def piecewise(number: int) -> str:
        return in_pieces(draw(options.seed, number), options.seed)

    half = len(numbers) // 2
    compared(
        "pieces, types, layouts, restarts; one thread",
        side_by_side(piecewise, numbers[:half], 1),
        numbers[:half],
    )
    compared("the same, two threads at once", side_by_side(piecewise, numbers[half:], 2), numbers[half:])

    sample = numbers[:: max(1, len(numbers) // options.sample)][: options.sample]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        here = Path(__file__).resolve()
        shutil.copytree(
            here.parents[1] / "hypnic", root / "hypnic", ignore=shutil.ignore_patterns("__pycache__")
        )
        (root / "benchmarks").mkdir()
        shutil.copy(here, root / "benchmarks")
        save(root / "cases", [draw(options.seed, k) for k in sample], [shots[k] for k in sample])
        for what in ("another process, cold cache", "another process, warm cache"):
            found, code = elsewhere(root, len(sample))
            compared(what, found, sample, code)
        if platform.machine() in ("x86_64", "AMD64"):
            for what, env in ENVIRONMENTS.items():
                found, code = elsewhere(root, len(sample), **env)
                compared(what, found, sample, code)
            if platform.libc_ver()[0] == "glibc":
                found, code = elsewhere(root, len(sample), **WITHOUT_FMA)
                compared("C library as without FMA", found, sample, f"{code}; not promised", required=False)
        fewer = sample[: options.interpreted]
        found, code = elsewhere(root, len(fewer), NUMBA_DISABLE_JIT="1")
        compared("without the compiler", found, fewer, code)

    report = {
        "seed": options.seed,
        "versions": versions(),
        "rows": rows,
        "later revisions": revised,
        "labels": labels,
        "outcomes": outcomes,
    }
    print(f"{versions()}; seed {options.seed}: {rows} rows, {revised} later revisions, of them")
    print(", ".join(f"{count} {label}" for label, count in labels.items()) + ".\n")
    print("| how | cases | different from one shot | machine code |\n|---|---|---|---|")
    for one in outcomes:
        print(f"| {one['what']} | {one['cases']} | {one['different']} | {one['note']} |")
    text = json.dumps(report, indent=1)
    if options.json is None:
        print(f"\n```json\n{text}\n```")
    else:
        options.json.write_text(text + "\n")
    return 1 if any(one["different"] and one["required"] for one in outcomes) else 0


def main() -> int:
    """Do what the options say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=300, help="cases for other processes")
    parser.add_argument("--interpreted", type=int, default=60, help="cases without the compiler")
    parser.add_argument("--json", type=Path, help="where to write the figures (default: after the table)")
    parser.add_argument("--save", type=Path, help="write a sample of cases and their digests")
    parser.add_argument("--check", type=Path, help="compute saved cases again and compare")
    parser.add_argument("--digests", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.digests is not None:
        digests_alone(options.digests, options.cases)
        return 0
    if options.check is not None:
        return check(options.check)
    if options.save is not None:
        cases = [draw(options.seed, k) for k in range(options.sample)]
        save(options.save, cases, [one_shot(case)[0] for case in cases])
        return 0
    return campaign(options)


if __name__ == "__main__":
    sys.exit(main())
