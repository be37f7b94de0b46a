"""End recordings in every bad way there is, and look at what is left.

``kill``
    A process records as fast as it can and says after each chunk how many samples it was given; another reads the
    file throughout with plain h5py; the first is killed (SIGKILL) at a random moment. What is lost must be at most
    a second of samples; what is left must open with plain h5py and be what was given, bit for bit.
``full``
    The disk (a tmpfs of random size) fills up. The recorder must say how many samples are safe, and they must be.
``readonly``
    The file system (ext4 in a file, on a loop device) meets an error and makes itself read-only, as Linux does.
``asleep``
    ``hypnic stream`` is stopped (SIGSTOP) for a while, as a computer that sleeps, and the board sends on. What was
    lost must be counted, and the times afterwards must be right.

Run ``python benchmarks/crash.py`` from the project's folder; ``full`` and ``readonly`` mount and need root.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypnic.chunk import Chunk
from hypnic.recording import Recorder, Recording, pack, recorder

RATE = 100.0
SPAN = 30_000
"""Numbers after which the recorded counts repeat."""

SHORT_CHUNK_S = 20.0
"""Chunks of the file (s) in every second case, so that HDF5's index grows while it is killed."""

SEND_RATE = 100.0
BOARD_SLACK_S = 0.05
"""How far times may be off after a sleep: some readings of a pty."""


class Outcome(NamedTuple):
    """What came of the cases of one kind of end."""

    cases: int
    failures: list[str]
    words: str


def counts(start: int, stop: int) -> np.ndarray:
    rows = np.arange(start, stop) % SPAN
    return np.stack([rows, rows + 1, rows + 2], 1).astype(np.float32)


def check_stored(path: Path, told: int, spare: int) -> int:
    """Check with plain h5py that all but `spare` of the samples are there and right; return how many are."""
    with h5py.File(path, "r") as file:
        stored = file["acceleration"][:]
    if len(stored) < told - spare:
        raise AssertionError(f"{told} samples were given, {len(stored)} are left")
    np.testing.assert_array_equal(stored, counts(0, len(stored)))
    return len(stored)


def record(path: Path, durable: bool, say: int, seed: int) -> None:
    """Record until the end, whatever that is; tell `say` after each chunk how many samples there are."""
    rng = random.Random(seed)
    out = Recorder(path, RATE, scale=1.0, durable=durable)
    while True:
        if rng.random() < 0.002:
            out.gap(3, "test")
            out.clock(out.n_total, -1, 1.7e9)
        given = out.n_samples
        out.write(Chunk(counts(given, given + rng.randint(1, 25)), out.n_total))
        os.write(say, struct.pack("<q", out.n_samples))


def read_throughout(path: Path, stop: int, hold: int, say: int) -> None:
    """Open the file again and again with plain h5py until `stop` is closed; tell how often, refused, and wrong."""
    opened = refused = wrong = 0
    os.close(hold)
    os.set_blocking(stop, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            if os.read(stop, 1) == b"":
                break
        try:
            with h5py.File(path, "r", locking=False) as file:
                data = file["acceleration"]
                tail = data[max(0, len(data) - 500) :]
                start = len(data) - len(tail)
            wrong += not np.array_equal(tail, counts(start, start + len(tail)))
            opened += 1
        except FileNotFoundError:
            continue
        except (OSError, KeyError, RuntimeError):
            refused += 1
    os.write(say, struct.pack("<qqq", opened, refused, wrong))


def fork(work: Callable[..., object], *words: object) -> int:
    """Run `work` in a child; the interpreter with h5py in it is not started anew each time."""
    child = os.fork()
    if child == 0:
        try:
            work(*words)
        finally:
            os._exit(0)
    return child


def kill(cases: int, seed: int, folder: Path) -> Outcome:
    rng = random.Random(seed)
    failures: list[str] = []
    lost: list[int] = []
    reads = np.zeros((2, 3), np.int64)
    unopened = 0
    usual = recorder.RAW_SECONDS
    for case in range(cases):
        path = folder / "kill.h5"
        path.unlink(missing_ok=True)
        recorder.RAW_SECONDS = SHORT_CHUNK_S if case % 2 else usual
        heard, say = os.pipe()
        child = fork(record, path, case % 4 < 2, say, rng.randrange(1 << 30))
        os.close(say)
        told = struct.unpack("<q", os.read(heard, 8))[0]
        stop, hold = os.pipe()
        answer, say_reads = os.pipe()
        reader = fork(read_throughout, path, stop, hold, say_reads)
        end = time.monotonic() + rng.uniform(0.0, 0.8)
        while time.monotonic() < end:
            told = struct.unpack("<q", os.read(heard, 8))[0]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while data := os.read(heard, 8):
            told = struct.unpack("<q", data)[0]
        os.close(hold)
        os.waitpid(reader, 0)
        reads[case % 2] += struct.unpack("<qqq", os.read(answer, 24))
        for end_of_pipe in (heard, stop, answer, say_reads):
            os.close(end_of_pipe)
        try:
            stored = check_stored(path, told, round(RATE))
            lost.append(max(0, told - stored))
            with Recording(path) as night:
                assert night.n_samples == stored, "hypnic reads it otherwise"
                assert not night.damage, "hypnic finds damage"
            pack(path)
            assert check_stored(path, stored, 0) == stored
        except OSError as error:
            unopened += 1
            failures.append(f"case {case}: {error}")
        except Exception as error:
            failures.append(f"case {case}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
    recorder.RAW_SECONDS = usual
    worst = max(lost, default=0) / RATE
    middle = float(np.median(lost)) / RATE if lost else 0.0
    words = f"lost {middle:.2f} s (median), {worst:.2f} s (most); not opened by h5py: {unopened}; "
    words += f"reads meanwhile: {reads[0, 0]}, "
    words += (
        f"{reads[0, 1]} refused; while chunks are added all the time: {reads[1, 0]}, {reads[1, 1]} refused; "
    )
    words += f"wrong: {reads[:, 2].sum()}"
    return Outcome(cases, failures, words)


@contextlib.contextmanager
def mounted(place: Path, *words: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *words, str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(path: Path, durable: bool) -> tuple[int, int, str]:
    """Record until the disk refuses; return samples given, error number and words."""
    out = Recorder(path, RATE, scale=1.0, durable=durable)
    try:
        while True:
            given = out.n_samples
            out.write(Chunk(counts(given, given + 20), out.n_total))
    except OSError as error:
        given = out.n_samples
        out.close()
        return given, error.errno or 0, error.strerror or ""


def full(cases: int, seed: int, folder: Path) -> Outcome:
    rng = random.Random(seed)
    failures: list[str] = []
    worst = 0
    for case in range(cases):
        size = rng.randrange(100, 1500)
        with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs") as disk:
            path = disk / "n.h5"
            try:
                given, code, words = fill(path, case % 2 == 0)
                assert code == errno.ENOSPC, words
                stored = check_stored(path, given, round(RATE))
                assert f" {stored} samples are safe" in words, f"{stored} are left, but it says: {words}"
                worst = max(worst, given - stored)
                assert [entry.name for entry in disk.iterdir()] == ["n.h5"], "something was left behind"
                subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
                pack(path)
                check_stored(path, stored, 0)
            except Exception as error:
                failures.append(f"case {case} ({size} kB): {type(error).__name__}: {error}")
    return Outcome(
        cases, failures, f"lost at most {worst / RATE:.2f} s; closed and packed once there was room"
    )


def readonly(cases: int, seed: int, folder: Path) -> Outcome:
    rng = random.Random(seed)
    failures: list[str] = []
    worst = 0
    image = folder / "disk.img"
    for case in range(cases):
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        with mounted(folder / "ext4", "-o", "loop,errors=remount-ro", str(image)) as disk:
            shown = subprocess.run(
                ["findmnt", "-no", "SOURCE", str(disk)], check=True, capture_output=True, text=True
            )
            trigger = Path("/sys/fs/ext4") / Path(shown.stdout.strip()).name / "trigger_fs_error"
            path = disk / "n.h5"
            out = Recorder(path, RATE, scale=1.0)
            last = rng.randrange(100, 4000)
            try:
                while True:
                    given = out.n_samples
                    if given >= last:
                        trigger.write_text("1")
                        last = 1 << 60
                    assert given < 100_000, "the disk is read-only, and the recorder has not noticed"
                    out.write(Chunk(counts(given, given + 20), out.n_total))
            except OSError as error:
                words, given = str(error), out.n_samples
            except AssertionError as error:
                words = str(error)
            try:
                out.close()
                stored = check_stored(path, given, round(RATE))
                assert f" {stored} samples are safe" in words, f"{stored} are left, but it says: {words}"
                worst = max(worst, given - stored)
            except Exception as error:
                failures.append(f"case {case}: {type(error).__name__}: {error}")
    return Outcome(cases, failures, f"lost at most {worst / RATE:.2f} s")


def asleep(seconds: float, folder: Path) -> Outcome:
    from firmware_bridge import VirtualPort
    from firmware_bridge.encoders import encode, introduce

    failures: list[str] = []
    path = folder / "asleep.h5"
    xyz = np.tile(np.float32([0, 0, 1]), (5, 1))
    with VirtualPort() as port:
        command = [sys.executable, "-m", "hypnic", "stream", port.path, "--record", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as reader:
            sent, stopped, waking = 0, 0.0, False
            epoch = time.monotonic()
            now_is = time.time() - epoch
            while reader.poll() is None:
                # By the clock, whoever listens: what finds no room is lost.
                if sent % 500 == 0:
                    port.write(introduce("hypnic", SEND_RATE))
                port.write(encode(xyz, "hypnic", SEND_RATE, sent))
                sent += 5
                time.sleep(max(0.0, epoch + sent / SEND_RATE - time.monotonic()))
                ran = time.monotonic() - epoch
                if not stopped and ran > 40:
                    stopped = ran
                    reader.send_signal(signal.SIGSTOP)
                elif stopped and not waking and ran > stopped + seconds:
                    waking = True
                    reader.send_signal(signal.SIGCONT)
                elif waking and ran > stopped + seconds + 20:
                    # Not SIGINT, which a shell makes its background jobs ignore.
                    reader.send_signal(signal.SIGTERM)
                    break
            said = reader.communicate(timeout=60)[0]
        with Recording(path) as night:
            missing = int(night.gaps["missing"].sum())
            clock = night.clock
            # Sample 0 of the night is the first one that was read.
            late = clock["utc"] - now_is - epoch - clock["sample"] / SEND_RATE
            last = float(late[-1] - late[0])
            if not 0.5 * seconds <= missing / SEND_RATE <= seconds:
                failures.append(f"{missing} samples missing after {seconds:g} s of sleep")
            if abs(last) > BOARD_SLACK_S:
                failures.append(f"times are off by {last:.3f} s afterwards")
            if night.n_samples + missing > sent or night.n_samples + missing < sent - 10 * SEND_RATE:
                failures.append(f"{sent} sent, {night.n_samples} kept, {missing} missing")
            words = f"{sent} sent, {night.n_samples} kept, {missing} counted as missing, reasons "
            words += f"{sorted(set(night.gaps['reason'].tolist()))}; times afterwards {last * 1e3:+.1f} ms"
        if reader.returncode != 0:
            failures.append(f"hypnic stream ended with {reader.returncode}: {said[-300:]}")
    return Outcome(1, failures, words)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("kill", "full", "readonly", "asleep")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(kinds)}; by default all")
    parser.add_argument("--cases", type=int, default=200, help="kills; the disk is filled in a fifth as many")
    parser.add_argument("--sleep", type=float, default=75.0, help="seconds for which the reader is stopped")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(kinds):
        parser.error(f"{', '.join(unknown)}: use {', '.join(kinds)}")
    print("| end | cases | failures | |\n|---|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="hypnic_crash_") as name:
        folder = Path(name)
        for kind in options.kinds or kinds:
            if kind == "kill":
                outcome = kill(options.cases, options.seed, folder)
            elif kind == "full":
                outcome = full(options.cases // 5, options.seed, folder)
            elif kind == "readonly":
                outcome = readonly(options.cases // 20, options.seed, folder)
            else:
                outcome = asleep(options.sleep, folder)
            print(f"| {kind} | {outcome.cases} | {len(outcome.failures)} | {outcome.words} |", flush=True)
            for failure in outcome.failures[:10]:
                print(failure, file=sys.stderr)
            failed |= bool(outcome.failures)
    return failed


if __name__ == "__main__":
    sys.exit(main())
