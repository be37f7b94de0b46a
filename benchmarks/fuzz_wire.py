"""Coverage-guided fuzzing of every decoder and of the way from bytes to chunks, with atheris (libFuzzer).

Where ``fuzz_decoders.py`` damages streams blindly, this one keeps what reaches new code and goes on from there.
It starts from streams of the format's own encoders. Each input is decoded in one piece and once more in pieces.
It fails when

- anything raises, a sample is beyond 200 g or not finite,
- bytes in are not accepted + discarded + pending, or more than 2048 are held back,
- text about the board holds anything but printable ASCII, or warnings pile up,
- the pieces bring other samples, counters or words than the whole.

The target ``stream`` takes `firmware_bridge.stream.Assembler` with one of the decoders and arrivals that jump:
chunks must follow each other, in count and in time, and where the arrivals never go back nothing may be lost
for longer than time has run (with the tolerance that the module states).

Run ``pip install atheris``, then ``python benchmarks/fuzz_wire.py`` from the project's folder. ``--bytes`` is for
each target. An input that fails is left in the folder that is named, with libFuzzer's own words.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

STREAM = "stream"
TARGETS = (
    *("hypnic", "witmotion", "witmotion-combined", "xbus", "labelled", "delimited"),
    *("razor", "artemis", "mpu6050-raw", STREAM),
)
MAX_LENGTH = 2048
MAX_PENDING = 2048
MAX_WARNINGS = 16
RATE = 100.0
STEPS_S = (0.0, 0.01, 0.1, 0.3, 1.0, 20.0, 3600.0, -5.0)
"""Seconds between two readings, of which an input chooses."""

WORDS = (
    *("# hypnic-csv v1 ", "lsb_per_g=", "rate_hz=", "tick_hz=", "tick_bits=62", "lowpass_hz=", "board="),
    *("aX,aY,aZ", "ax,ay,az", "X\\x09Y\\x09Z", "a/g:\\x09", "Acceleration X: ", " m/s^2", "AX:", "X="),
    *("01/01/2000,00:00:00.00,", "\\xFA\\xFF\\x36", "\\xFA\\xFF\\x36\\xFF", "\\x10\\x20\\x02"),
    *("\\x10\\x60\\x04", "\\x40\\x20\\x0C", "\\x55\\x51", "\\x55\\x59", "\\x55\\x61", "4294967295"),
)


def starts() -> list[bytes]:
    """Return what the fuzzer begins with: a quarter of a second of each format, and odd frames of our own."""
    from firmware_bridge.decoders.hypnic import Ack, Info, Status, frame, sample_body
    from firmware_bridge.encoders import ENCODERS, encode, introduce

    xyz = np.array([0.05, -0.1, 0.99]) + np.random.default_rng(1).normal(0, 0.02, (25, 3))
    streams = [introduce(fmt, RATE) + encode(xyz, fmt, RATE) for fmt in ENCODERS]
    sample = frame(sample_body(0, 0, (1, 2, 4096)))
    for tick_hz, rate_mhz, boot in ((0, 100_000, True), (1, 1, False), (2**32 - 1, 2**32 - 1, False)):
        info = frame(Info(tick_hz, rate_mhz, 1, 4096, sensor="\x1b[2J", board="b", boot=boot).body())
        jump = frame(sample_body(60_000, 2**31, (1, 2, 4096)))
        streams.append(b"\0" + info + sample + jump + jump + sample + info + sample)
    streams.append(b"\0" + frame(Status(1, 2, 3, 4, 5, 6).body()) + frame(Ack(17, 1, 0, 9).body()))
    return streams


def check_decoder(name: str, data: bytes) -> None:
    """Decode `data` whole and in pieces, which its first byte chooses."""
    from firmware_bridge.decoders import make_decoder

    cut, data = 1 + data[0] % 97, data[1:]
    outcomes = []
    for size in (max(1, len(data)), cut):
        decoder = make_decoder(name)
        parts = []
        for at in range(0, len(data), size):
            parts.append(decoder.feed(data[at : at + size]))
            counters = decoder.counters
            accounted = counters.bytes_accepted + counters.bytes_discarded + decoder.pending
            assert counters.bytes_in == accounted, "bytes are not accounted for"
            assert decoder.pending <= MAX_PENDING, "too many bytes held"
        parts.append(decoder.finish())
        assert len(decoder.warnings) <= MAX_WARNINGS, "warnings pile up"
        for value in decoder.info.values():
            assert isinstance(value, int | float) or (value.isascii() and value.isprintable()), "unsafe text"
        columns: list[Any] = [
            np.concatenate([getattr(part, column) for part in parts])
            for column in ("xyz", "missing", "restart", "seq", "tick")
        ]
        assert (np.abs(columns[0]) <= 200).all(), "a sample beyond 200 g or not finite"
        assert (columns[1] >= 0).all(), "fewer than no samples missing"
        counters = decoder.counters
        assert counters.samples == len(columns[0]), "samples are not counted"
        outcomes.append(
            ([c.tobytes() for c in columns], counters, decoder.info, decoder.warnings, decoder.refusal)
        )
    assert outcomes[0] == outcomes[1], "pieces bring something else than the whole"


def check_stream(data: bytes) -> None:
    """Assemble `data` in pieces at arrivals that its first bytes choose."""
    from firmware_bridge.decoders import DECODERS, make_decoder
    from firmware_bridge.stream import AHEAD_SECONDS, AHEAD_SHARE, Assembler

    head, data = data[:12].ljust(12, b"\0"), data[12:]
    assembler = Assembler(make_decoder(list(DECODERS)[head[0] % len(DECODERS)]), RATE)
    size = 16 + head[1]
    arrival, index, last, clean = 1.7e9, 0, 0.0, True
    for number, at in enumerate(range(0, len(data), size)):
        step = head[2 + number % 10]
        # The clock of a port never goes back; that of a log that somebody has edited may.
        arrival += STEPS_S[step % 8]
        clean = clean and STEPS_S[step % 8] >= 0
        chunks = assembler.feed(data[at : at + size], arrival)
        chunks += assembler.port_lost() if step > 250 else []
        for chunk in chunks:
            assert chunk.missing >= 0
            assert chunk.index == index + chunk.missing, "chunks do not follow each other"
            assert chunk.time > last, "time goes back"
            index, last = chunk.index + len(chunk), chunk.time
            if clean:
                run = (arrival - 1.7e9) * (1 + AHEAD_SHARE) + 2 * AHEAD_SECONDS
                assert assembler.missing <= run * RATE, "more is lost than time has run"
    assembler.finish()


def fuzz(name: str, budget: int, folder: Path) -> None:
    """Fuzz one target in this process until it has been given `budget` bytes; does not return."""
    import atheris

    with atheris.instrument_imports(include=["firmware_bridge"]):
        import firmware_bridge.encoders
        import firmware_bridge.stream  # noqa: F401  # imported here to be instrumented
    given = [0, 0]

    def target(data: bytes) -> None:
        if len(data) < 2:
            return
        check_stream(data) if name == STREAM else check_decoder(name, data)
        given[0] += len(data)
        given[1] += 1
        if given[0] >= budget:
            print(json.dumps({"bytes": given[0], "inputs": given[1]}), flush=True)
            # libFuzzer has no budget in bytes, and takes any other end for a crash.
            os._exit(0)

    corpus = folder / name
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(starts()):
        (corpus / f"start-{number}").write_bytes(bytes(12 if name == STREAM else 1) + data)
    words = folder / "words.txt"
    words.write_text("".join(f'"{word}"\n' for word in WORDS))
    options = [f"-max_len={MAX_LENGTH}", f"-dict={words}", f"-artifact_prefix={folder}/{name}-", "-seed=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options, "-timeout=20", "-rss_limit_mb=2048"], target)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=10_000_000, help="for each target")
    parser.add_argument("--target", choices=TARGETS, action="append", help="these alone")
    parser.add_argument("--folder", type=Path, help="where inputs are kept; by default a new one")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz_wire_"))
    folder.mkdir(exist_ok=True)
    if options.here:
        fuzz(options.target[0], options.bytes, folder)
    print(f"inputs are kept in {folder}\n")
    print("| target | bytes | inputs | code reached | last new code after | failures |")
    print("|---|---|---|---|---|---|")
    failures = 0
    for name in options.target or TARGETS:
        command = [sys.executable, __file__, "--here", "--target", name, "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--bytes", str(options.bytes)],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        (folder / f"{name}.log").write_text(done.stderr)
        reached = re.findall(r"^#(\d+)\s+\w+\s+cov: (\d+)", done.stderr, re.MULTILINE)
        most = reached[-1][1] if reached else "0"
        first = next((number for number, cover in reached if cover == most), "0")
        failed = done.returncode != 0
        failures += failed
        counts = {"bytes": 0, "inputs": 0} if failed else json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {name} | {counts['bytes']:,} | {counts['inputs']:,} | {most} | input {int(first):,} "
            f"| {int(failed)} |",
            flush=True,
        )
        if failed:
            print("\n".join(done.stderr.splitlines()[-25:]), file=sys.stderr)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
