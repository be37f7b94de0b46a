"""Throw random and damaged bytes at every decoder and account for each of them.

Each wire format gets, in turn, blocks of random bytes and blocks of its own (and of other formats') bytes
in which some were flipped, dropped, repeated, inserted or replaced by bytes that mean something to the
format; calls of random length cut them. A decoder passes when it never raises, when bytes in = accepted +
discarded + pending after every block, when its buffers stay small and when every sample it gives is finite
and within 200 g. Where the format has a checksum of 16 bits, every sample accepted from damaged bytes must
also be one that was sent.

Run ``python benchmarks/fuzz_decoders.py`` from the project's folder; ``--bytes`` and ``--seed`` change the
campaign.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from firmware_bridge.decoders import make_decoder
from firmware_bridge.encoders import ENCODERS, encode, introduce

RATE = 100.0
BLOCK = 20_000
MAX_PENDING = 2048
SPECIAL = np.frombuffer(b"\x00\x01\x02\x55\x51\x59\x61\xfa\xff\x36\n\r#,*\t-.:=0nx", np.uint8)
CHECKED = ("hypnic", "hypnic-csv")


def resting(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.array([0.05, -0.1, 0.99]) + rng.normal(0, 0.02, (count, 3))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with between none and one byte in 50 changed, in one of six ways each."""
    share = 10 ** rng.uniform(-5, -1.7)
    out = bytearray(data)
    for _ in range(rng.poisson(share * len(out))):
        at = int(rng.integers(len(out)))
        kind = int(rng.integers(6))
        length = int(rng.integers(1, 40))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[at : at + length]
        elif kind == 3:
            out[at:at] = rng.bytes(length)
        elif kind == 4:
            out[at] = int(rng.choice(SPECIAL))
        else:
            out[at:at] = bytes([int(rng.choice(SPECIAL))]) * length
        if not out:
            break
    return bytes(out)


def campaign(fmt: str, total: int, seed: int) -> dict[str, int | float]:
    """Feed one format's decoder with `total` bytes and return what came of them."""
    rng = np.random.default_rng([seed, list(ENCODERS).index(fmt)])
    formats = list(ENCODERS)
    counts: dict[str, int | float] = dict.fromkeys(
        ("bytes", "samples", "lost", "bad", "implausible", "discarded", "wrong", "pending"), 0
    )
    seconds = 0.0
    xyz = resting(rng, 400)
    own = introduce(fmt, RATE) + encode(xyz, fmt, RATE)
    sent = {tuple(row) for row in make_decoder(fmt).feed(own).xyz.tolist()}
    while counts["bytes"] < total:
        decoder = make_decoder(fmt)
        fed = 0
        while fed < 10 * BLOCK:
            kind = int(rng.integers(4))
            if kind == 0:
                data = rng.bytes(BLOCK)
            elif kind == 1:
                other = formats[int(rng.integers(len(formats)))]
                data = damaged(encode(xyz, other, RATE, int(rng.integers(1 << 30))), rng)
            else:
                data = damaged(own, rng)
            at = 0
            while at < len(data):
                step = int(rng.integers(1, 400)) if rng.random() < 0.9 else 8192
                start = time.perf_counter()
                samples = decoder.feed(data[at : at + step])
                seconds += time.perf_counter() - start
                at += step
                if not (np.abs(samples.xyz) <= 200).all():
                    raise AssertionError(f"{fmt}: a sample beyond 200 g or not finite")
                if fmt in CHECKED and kind != 1:
                    counts["wrong"] += sum(tuple(row) not in sent for row in samples.xyz.tolist())
            fed += len(data)
            counters = decoder.counters
            counts["pending"] = max(counts["pending"], decoder.pending)
            accounted = counters.bytes_accepted + counters.bytes_discarded + decoder.pending
            if counters.bytes_in != accounted or counters.bytes_in != fed:
                raise AssertionError(f"{fmt}: {counters.bytes_in} bytes in, {accounted} accounted for")
            if decoder.pending > MAX_PENDING:
                raise AssertionError(f"{fmt}: {decoder.pending} bytes held")
        decoder.finish()
        counts["bytes"] += fed
        counts["samples"] += counters.samples
        counts["lost"] += counters.lost
        counts["bad"] += counters.bad_frames + counters.malformed
        counts["implausible"] += counters.implausible
        counts["discarded"] += counters.bytes_discarded
    counts["speed"] = counts["bytes"] / seconds / 1e6
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=10_000_000, help="bytes for each format")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    titles = (
        "format",
        "bytes",
        "samples",
        "bad",
        "discarded",
        "implausible",
        "most pending",
        "wrong",
        "MB/s",
    )
    print(f"| {' | '.join(titles)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for fmt in ENCODERS:
        got = campaign(fmt, options.bytes, options.seed)
        wrong = got["wrong"] if fmt in CHECKED else "–"
        print(
            f"| {fmt} | {got['bytes']} | {got['samples']} | {got['bad']} "
            f"| {got['discarded'] / got['bytes']:.0%} "
            f"| {got['implausible']} | {got['pending']} | {wrong} | {got['speed']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
