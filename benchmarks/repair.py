"""Damage nights in many ways, and count what comes back: by h5py, by `hypnic.open`, by `hypnic repair`.

    python benchmarks/repair.py [--cases 40] [--seed 1]

*Simulated* nights of four hours, closed and cut off, with lost samples, a clock, annotations and events. `--cases` of
each kind of damage: the file cut anywhere; one byte changed anywhere; 512 bytes cleared anywhere; the superblock, the
group, the header of the samples, the root, or one leaf of their index cleared. The damaged file goes to plain h5py (as
it opens and reads it, whole or chunk by chunk), to `hypnic.open`, and to `hypnic.recording.repair`, which is told the
rate, scale and site. Every sample that repair gives is compared with the one that was there. Prints a table. Exit
status 1 where a sample is another one or at another place and no table of gaps was said to be lost, other than in a
cut-off night a byte of whose samples was changed: those carry no checksum.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import hypnic
from hypnic.errors import HypnicError
from hypnic.recording import Recorder, Recording, repair
from hypnic.recording.layout import H5_ERRORS

RATE: Final = 100.0
HOURS: Final = 4.0
SCALE: Final = 1 / 4096

Damage = Callable[[bytearray, random.Random, h5py.File], None]


def make(path: Path, close: bool) -> None:
    """Record a simulated night with gaps, remarks, a clock and events, and close it or cut it off."""
    sleeper = hypnic.Sleeper(hours=HOURS, rate=RATE, seed=77, faults=False)
    xyz = sleeper.xyz()
    drawn = np.random.default_rng(5)
    recorder = Recorder(
        path, RATE, scale=SCALE, durable=False, subject="A", start_time=1.7e9, sensor="simulated"
    )
    at = 0
    for start in range(0, len(xyz), 500):
        lost = int(drawn.integers(1, 300)) if drawn.random() < 0.05 else 0
        part = xyz[start + lost : start + 500]
        at += lost
        recorder.write(hypnic.Chunk(part, at, missing=lost, reason="lost" if lost else ""))
        at += len(part)
        if start % 5000 == 0:
            recorder.clock(at, -1, 1.7e9 + at / RATE)
            recorder.annotate(at / RATE, 1.0, "a remark", "somebody")
    recorder.flush()
    if close:
        recorder.close()
        with Recording(path) as night:
            night.write_events(hypnic.detect(night))
    else:
        # As a kill leaves it: what is flushed, and nothing else.
        content = path.read_bytes()
        recorder.close()
        path.write_bytes(content)


def cleared(data: bytearray, at: int, size: int) -> None:
    data[at : at + size] = bytes(len(data[at : at + size]))


def cut(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    del data[draw.randrange(4096, len(data)) :]


def byte(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    data[draw.randrange(len(data))] ^= draw.randrange(1, 256)


def sector(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    cleared(data, draw.randrange(len(data) // 512) * 512, 512)


def superblock(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    cleared(data, 0, 96)


def group(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    at = int(h5py.h5o.get_info(file.id).addr)
    cleared(data, at, 40)


def header(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    cleared(data, int(h5py.h5o.get_info(file["acceleration"].id).addr), 512)


def nodes(data: bytearray) -> list[int]:
    found, at = [], data.find(b"TREE\x01")
    while at >= 0:
        found.append(at)
        at = data.find(b"TREE\x01", at + 1)
    return found


def root(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    # Where no node is above another, the one that lists most chunks: that of the samples.
    highest = max(nodes(data), key=lambda at: (data[at + 5], data[at + 6]))
    cleared(data, highest, 24)


def leaf(data: bytearray, draw: random.Random, file: h5py.File) -> None:
    cleared(data, draw.choice([at for at in nodes(data) if data[at + 5] == 0]), 24)


KINDS: Final[dict[str, Damage]] = {
    "cut anywhere": cut,
    "a byte changed": byte,
    "512 bytes cleared": sector,
    "superblock cleared": superblock,
    "group's header cleared": group,
    "samples' header cleared": header,
    "root of an index cleared": root,
    "a leaf of an index cleared": leaf,
}
FIXED: Final = (superblock, group, header, root)
"""Damage that is always the same: once is enough."""


class Outcome(NamedTuple):
    """Shares of the samples, and how many that repair gave are wrong."""

    h5py: float
    opened: float
    repaired: float
    wrong: int
    gaps_lost: bool


def by_h5py(path: Path) -> int:
    """Return how many samples plain h5py gives, read in pieces of a minute."""
    count = 0
    try:
        with h5py.File(path) as file:
            data = file["acceleration"]
            for start in range(0, len(data), 6000):
                try:
                    count += len(data[start : start + 6000])
                except H5_ERRORS:
                    continue
    except H5_ERRORS:
        return 0
    return count


def by_hypnic(path: Path) -> int:
    try:
        with Recording(path) as night:
            return sum(len(chunk) for chunk in night)
    except HypnicError:
        return 0


def case(path: Path, out: Path, truth: np.ndarray) -> Outcome:
    total = int(np.isfinite(truth[:, 0]).sum())
    shares = [by_h5py(path) / total, by_hypnic(path) / total]
    try:
        done = repair(path, out, rate=RATE, scale=SCALE, site="wrist", overwrite=True)
    except HypnicError:
        return Outcome(*shares, 0.0, 0, False)
    gaps_lost = done.tables["gaps"] is None
    with Recording(path if done.out is None else done.out) as night:
        found = night.read()[: len(truth)]
    there = np.isfinite(found[:, 0])
    # A sample is also wrong where there was none.
    wrong = there & ~(found == truth[: len(found)]).all(axis=1)
    return Outcome(*shares, done.samples / total, int(wrong.sum()), gaps_lost)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=40, help="of each kind of damage that is drawn")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failures = 0
    print("| night | damage | cases | h5py | hypnic.open | hypnic repair | worst repair "
          "| table of gaps said to be lost | wrong samples |")  # fmt: skip
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for state in ("closed", "cut off"):
            whole = folder / f"{state}.h5"
            make(whole, state == "closed")
            with Recording(whole) as night:
                truth = night.read()
            sound = whole.read_bytes()
            for kind, damage in KINDS.items():
                draw = random.Random(f"{options.seed} {state} {kind}")
                outcomes = []
                for _ in range(1 if damage in FIXED else options.cases):
                    data = bytearray(sound)
                    with h5py.File(whole) as file:
                        damage(data, draw, file)
                    (folder / "damaged.h5").write_bytes(data)
                    outcomes.append(case(folder / "damaged.h5", folder / "out.h5", truth))
                excused = state == "cut off" and damage in (byte, sector)
                wrong = sum(at.wrong for at in outcomes if not at.gaps_lost)
                failures += wrong > 0 and not excused
                means = [100 * float(np.mean([at[k] for at in outcomes])) for k in range(3)]
                print(
                    f"| {state} | {kind} | {len(outcomes)} | {means[0]:.0f} % | {means[1]:.0f} % | {means[2]:.0f} % "
                    f"| {100 * min(at.repaired for at in outcomes):.0f} % "
                    f"| {sum(at.gaps_lost for at in outcomes)} | {wrong} |",
                    flush=True,
                )
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
