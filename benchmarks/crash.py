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
``clock``
    The clock of the computer, as ``hypnic stream`` sees it, is set back and forward by an hour and by seconds, and
    slewed, in every fourth case while the board is silent. A board that counts its samples and one that does not: what
    was sent must be stored, once; nothing but the silences may be missing; start, clock table and events must keep the
    times of the clock that was there when the board was opened; and no sample may wait for the file longer than ever.

Run ``python benchmarks/crash.py`` from the project's folder; ``full`` and ``readonly`` mount and need root.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import re
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

import hypnic
from hypnic.chunk import Chunk
from hypnic.recording import Recorder, Recording, pack, recorder

RATE = 100.0
SPAN = 30_000
"""Numbers after which the recorded counts repeat."""

SHORT_CHUNK_S = 20.0
"""Chunks of the file (s) in every second case, so that HDF5's index grows while it is killed."""

SEND_RATE = 100.0
SEND_PIECE = 5
BOARD_SLACK_S = 0.05
"""How far times may be off after a sleep: some readings of a pty."""

SETS = (-3600.0, 3600.0, -3.0, 0.5)
"""Seconds by which the clock is set."""

SLEWS = (0.3, -0.3)
"""Seconds by which it is slewed, in `SLEW_S` seconds: faster than any daemon does."""

SLEW_S = 1.5
SET_EVERY_S = 4.0
SILENCE_S = 1.0
SETTLED_S = 25.0
"""Seconds until the rate is settled (20 s) and the clock is first set."""

LONGEST_WAIT_S = 2.0
"""How old a sample may be that is not in the file: flushed every half second, and held for another after a silence."""


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
            room = spoilt = slept = 0
            epoch = time.monotonic()
            now_is = time.time() - epoch
            while reader.poll() is None:
                # By the clock, whoever listens: what finds no room is lost.
                if sent % 500 == 0:
                    port.write(introduce("hypnic", SEND_RATE))
                data = encode(xyz, "hypnic", SEND_RATE, sent)
                taken = port.write(data)
                if stopped and not waking:
                    # What found room in the port while nobody read; the end of a frame is its zero.
                    slept += 5
                    room += data[:taken].count(0)
                    spoilt += 0 < taken < len(data)
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
            # A frame that was cut spoils the next one too; and when exactly the reader stopped is not known.
            reasons = set(night.gaps["reason"].tolist())
            if abs(missing - (slept - room)) > 2 * spoilt + 20 or not reasons <= {"lost"}:
                failures.append(
                    f"{missing} samples missing after {seconds:g} s of sleep, {slept - room} are right"
                )
            if abs(last) > BOARD_SLACK_S:
                failures.append(f"times are off by {last:.3f} s afterwards")
            if night.n_samples + missing > sent or night.n_samples + missing < sent - 10 * SEND_RATE:
                failures.append(f"{sent} sent, {night.n_samples} kept, {missing} missing")
            words = f"{sent} sent, {night.n_samples} kept, {missing} counted as missing, reasons "
            words += f"{sorted(reasons)}; times afterwards {last * 1e3:+.1f} ms"
        if reader.returncode != 0:
            failures.append(f"hypnic stream ended with {reader.returncode}: {said[-300:]}")
    return Outcome(1, failures, words)


CLOCK_C = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const long long zero;
static volatile const long long *ahead = &zero; /* ns, in a file that the benchmark writes */
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    int file = open(getenv("CLOCK_AHEAD"), O_RDONLY);
    real = dlsym(RTLD_NEXT, "clock_gettime");
    ahead = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t id, struct timespec *t) {
    if (!real)
        start();
    int failed = real(id, t);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        long long now = t->tv_sec * 1000000000LL + t->tv_nsec + *ahead;
        t->tv_sec = now / 1000000000;
        t->tv_nsec = now % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}
"""
"""The wall clock of one process. (libfaketime 0.9.10 does this too, but breaks Python's sleeping and locks by it.)"""


class WallClock:
    """A wall clock for a process started with its `environment`, that can be set at any moment."""

    def __init__(self, folder: Path) -> None:
        source, library, self._file = (folder / f"clock.{ending}" for ending in ("c", "so", "ahead"))
        source.write_text(CLOCK_C)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self._file)}
        self._ahead = np.memmap(self._file, np.int64)

    def set(self, ahead: float) -> None:
        """Set it to `ahead` seconds before the true one."""
        self._ahead[0] = round(ahead * 1e9)


class Night(NamedTuple):
    """What was sent to a night whose clock was set."""

    xyz: np.ndarray
    """Samples as a decoder makes them, shape (n, 3), in g."""
    numbers: np.ndarray
    """Number of each sample by the board's own count."""
    began: float
    """When, by the clock that was there first, sample 0 was taken."""
    waited: float
    """The longest that a sample was not in the file, in s."""
    starts: set[str]
    """What the file said of its start while it grew."""
    said: str
    status: int


def jolts(number: int, seed: int) -> Iterator[tuple[float, float]]:
    """Yield `number` times by how much the clock is set, and within how long (s)."""
    rng = random.Random(seed)
    while number > 0:
        kinds = [(by, 0.0) for by in SETS] + [(by, SLEW_S) for by in SLEWS]
        rng.shuffle(kinds)
        yield from kinds[:number]
        number -= len(kinds)


def jolted(fmt: str, number: int, seed: int, path: Path) -> Night:
    """Play a board to ``hypnic stream`` while its clock is set `number` times."""
    from firmware_bridge import VirtualPort
    from firmware_bridge.decoders import make_decoder
    from firmware_bridge.encoders import encode, introduce
    from firmware_bridge.player import PlayedBoard
    from tests.played import restless

    due = [(SETTLED_S + SET_EVERY_S * case, *jolt) for case, jolt in enumerate(jolts(number, seed))]
    silences = [at - SILENCE_S / 2 for at, *_ in due[::4]]
    length = SETTLED_S + SET_EVERY_S * number + 2.0
    xyz = restless(length, SEND_RATE, seed)
    wall = WallClock(path.parent)
    sent_at: list[float] = []
    numbers: list[int] = []
    starts: set[str] = set()
    waited = 0.0
    with VirtualPort() as port:
        board = PlayedBoard(port, fmt, SEND_RATE)
        command = [sys.executable, "-m", "hypnic", "stream", port.path, "--record", str(path)]
        with (
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**wall.environment, "TZ": "UTC"},
            ) as reader,
            contextlib.ExitStack() as after,
        ):
            after.callback(reader.kill)
            while not board.has_reader():
                time.sleep(0.01)
            board.introduce()
            epoch = time.monotonic()
            now_is = time.time() - epoch
            for at in range(0, len(xyz), SEND_PIECE):
                time.sleep(max(0.0, epoch + (at + SEND_PIECE) / SEND_RATE - time.monotonic()))
                ran = time.monotonic() - epoch
                if not any(begin <= at / SEND_RATE < begin + SILENCE_S for begin in silences):
                    board.play(Chunk(xyz[at : at + SEND_PIECE], at))
                    numbers += range(at, at + SEND_PIECE)
                    sent_at += [time.monotonic()] * SEND_PIECE
                gone = [
                    (by, (ran - when) / within if within else 1.0) for when, by, within in due if ran >= when
                ]
                wall.set(sum(by * min(1.0, share) for by, share in gone))
                if ran > SETTLED_S and at % 10 == 0:
                    with contextlib.suppress(OSError, KeyError), h5py.File(path, "r", locking=False) as night:
                        stored = len(night["acceleration"])
                        starts.add(str(night["acceleration"].attrs["start_time"]))
                        if stored < len(sent_at):
                            waited = max(waited, time.monotonic() - sent_at[stored])
            assert not board.dropped, "the board was not read"
            reader.send_signal(signal.SIGTERM)
            said = reader.communicate(timeout=60)[0]
    data = b"".join(encode(xyz[at : at + SEND_PIECE], fmt, SEND_RATE, at) for at in numbers[::SEND_PIECE])
    kept = make_decoder(fmt).feed(introduce(fmt, SEND_RATE) + data).xyz
    # The last sample of a piece goes out as it is taken, the others with it.
    began = now_is + epoch + 1 / SEND_RATE
    return Night(kept, np.array(numbers), began, waited, starts, said, reader.returncode)


def clock(number: int, seed: int, folder: Path) -> Outcome:
    failures: list[str] = []
    words = []
    for fmt in ("hypnic", "mpu6050-raw"):
        path = folder / f"clock_{fmt}.h5"
        sent = jolted(fmt, number, seed, path)

        def fail(what: str, fmt: str = fmt) -> None:
            failures.append(f"{fmt}: {what}")

        if sent.status != 0:
            fail(f"hypnic stream ended with {sent.status}: {sent.said[-300:]}")
        with Recording(path) as night:
            stored, gaps, table, events = night.read(), night.gaps, night.clock, night.events()
            start = night.start_time
            detected = hypnic.detect(night)
        assert start is not None
        assert events is not None
        stored = stored[~np.isnan(stored[:, 0])]
        if not np.array_equal(stored, sent.xyz):
            fail(f"{len(sent.xyz)} samples sent, {len(stored)} stored, or others")
        holes = np.flatnonzero(np.diff(sent.numbers) > 1) + 1
        wanting = np.diff(sent.numbers)[holes - 1] - 1
        if gaps["sample"].tolist() != holes.tolist():
            fail(f"gaps before {gaps['sample'].tolist()} in place of {holes.tolist()}")
        elif (off := np.abs(gaps["missing"] - wanting)).max() > (0 if fmt == "hypnic" else 5):
            fail(f"gaps are off by up to {off.max()} samples")
        late = table["utc"] - sent.began - table["sample"] / SEND_RATE
        worst = float(np.abs(late).max())
        if worst > BOARD_SLACK_S:
            fail(f"the clock table is off by {worst:.3f} s")
        if len(sent.starts) != 1 or abs(start.timestamp() - sent.began) > BOARD_SLACK_S:
            fail(f"the start moved: {sent.starts}, {start.timestamp() - sent.began:+.3f} s")
        if sent.waited > LONGEST_WAIT_S:
            fail(f"a sample was not in the file for {sent.waited:.2f} s")
        if events.array.tobytes() != detected.array.tobytes() or not len(events):
            fail("the events are not those of the file")
        shown = re.findall(r"^(\d\d:\d\d:\d\d) +(\d+):(\d\d):(\d\d\.\d) ", sent.said, re.MULTILINE)
        for wall, hours, minutes, seconds in shown:
            true = sent.began + 3600 * int(hours) + 60 * int(minutes) + float(seconds)
            if wall not in {time.strftime("%H:%M:%S", time.gmtime(true + slack)) for slack in (-0.2, 0.2)}:
                fail(f"an event is shown at {wall}, {time.strftime('%H:%M:%S', time.gmtime(true))} is right")
        if len(shown) < len(events) or "times go on by the old one" not in sent.said:
            fail("events or the warning of the clock were not shown")
        words.append(
            f"{fmt}: {len(sent.xyz)} sent and stored, {int(gaps['missing'].sum())} missing in {len(gaps)} silences of "
            f"{int(wanting.sum())}, clock table off by {1e3 * worst:.1f} ms, {len(events)} events, "
            f"a sample in the file after {sent.waited:.2f} s at most"
        )
    return Outcome(2 * number, failures, "; ".join(words))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("kill", "full", "readonly", "asleep", "clock")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(kinds)}; by default all")
    parser.add_argument("--cases", type=int, default=200, help="kills; the disk is filled in a fifth as many")
    parser.add_argument("--sleep", type=float, default=75.0, help="seconds for which the reader is stopped")
    parser.add_argument("--jolts", type=int, default=18, help="times that the clock of each board is set")
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
            elif kind == "asleep":
                outcome = asleep(options.sleep, folder)
            else:
                outcome = clock(options.jolts, options.seed, folder)
            print(f"| {kind} | {outcome.cases} | {len(outcome.failures)} | {outcome.words} |", flush=True)
            for failure in outcome.failures[:10]:
                print(failure, file=sys.stderr)
            failed |= bool(outcome.failures)
    return failed


if __name__ == "__main__":
    sys.exit(main())
