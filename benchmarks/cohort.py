"""What eight nights in the lanes of one vector would bring: the filters of the kernel, night beside night.

    python benchmarks/cohort.py [--repeats 7]

The kernel holds the three axes of one night in a vector. A cohort could hold the same axis of eight nights instead:
the filters, energies, means of 0.1 s and the ring, which are the same for every night whatever happens in it, written
here for eight *simulated* nights and, to compare, for one at a time as the kernel has them. Both must give the same
bytes. All the rest of the kernel depends on the night (what is open in it, what its histogram holds) and stays as it
is. Prints the times, and what the kernel would take with such filters: its own time, that of its filters taken off.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit

sys.path.insert(0, str(Path(__file__).parents[1]))

from speed import take_turns

from hypnic import Detector, Sleeper
from hypnic import layout as at
from hypnic.kernel import _section, _weights
from hypnic.lanes import arranged, load, pack, part, sample, store, sums, wide, with_fourth

NIGHTS: Final = 8
RATE: Final = 100.0
BLOCK: Final = 10
"""Samples of 0.1 s."""

RING: Final = 256
"""Samples that are kept, a power of two."""


@njit(error_model="numpy", nogil=True, _nrt=False)
def one(F, xyz, ring, blocks, out, whiten):
    """Filter one night as the kernel does, the coefficients and weights those of the state `F`."""
    hb0, hb1, ha1, ha2 = _section(F, at.FILTERS)
    lb0, lb1, la1, la2 = _section(F, at.FILTERS + 5)
    fb0, fb1, fa1, fa2 = _section(F, at.FILTERS + 10)
    own, mixed = _weights(F)
    mixed = mixed + mixed
    smooth, none = wide(F[at.P_SMOOTH]), wide(0.0)
    high1 = high2 = low1 = low2 = hf1 = hf2 = block = once = twice = none
    for i in range(xyz.shape[0]):
        value = sample(xyz, i)
        share = hb0 * value
        u = share + high1
        high1 = hb1 * value - ha1 * u + high2
        high2 = share - ha2 * u
        share = lb0 * u
        v = share + low1
        low1 = lb1 * u - la1 * v + low2
        low2 = share - la2 * v
        block = block + value
        share = fb0 * value
        w = share + hf1
        hf1 = fb1 * value - fa1 * w + hf2
        hf2 = share - fa2 * w
        squares = v * v
        if whiten:
            products = mixed * arranged(v, 0, 0, 1) * arranged(v, 1, 2, 2)
            energies = sums(squares, own * v * v, products, w * w)
            energy = pack(part(energies, 0), part(energies, 1) + part(energies, 2), 0.0)
        else:
            energies = sums(squares, squares, none, w * w)
            energy = pack(part(energies, 0), part(energies, 0), 0.0)
        store(ring, 4 * (i & (RING - 1)), with_fourth(v, energies))
        once = once + smooth * (energy - once)
        twice = twice + smooth * (once - twice)
        if i % BLOCK == BLOCK - 1:
            store(blocks, 0, block)
            block = none
    store(out, 0, twice)


@njit(error_model="numpy", nogil=True, _nrt=False)
def many(F, W, xyz, state, ring, blocks, out, whiten):
    """Filter `NIGHTS` nights whose samples lie beside each other (samples, axes, nights), four to a vector.

    `W` are the weights of the directions (weights, nights), `state` (axes, numbers, nights) all that goes on from one
    sample to the next. All arrays are flat.
    """
    hb0, hb1, ha1, ha2 = _section(F, at.FILTERS)
    lb0, lb1, la1, la2 = _section(F, at.FILTERS + 5)
    fb0, fb1, fa1, fa2 = _section(F, at.FILTERS + 10)
    smooth, none = wide(F[at.P_SMOOTH]), wide(0.0)
    for i in range(xyz.shape[0] // (3 * NIGHTS)):
        slot = 4 * NIGHTS * (i & (RING - 1))
        for half in range(0, NIGHTS, 4):
            energy = high = none
            for a in range(3):
                s = 7 * NIGHTS * a + half
                value = load(xyz, NIGHTS * (3 * i + a) + half)
                share = hb0 * value
                u = share + load(state, s)
                store(state, s, hb1 * value - ha1 * u + load(state, s + NIGHTS))
                store(state, s + NIGHTS, share - ha2 * u)
                share = lb0 * u
                v = share + load(state, s + 2 * NIGHTS)
                store(state, s + 2 * NIGHTS, lb1 * u - la1 * v + load(state, s + 3 * NIGHTS))
                store(state, s + 3 * NIGHTS, share - la2 * v)
                share = fb0 * value
                w = share + load(state, s + 4 * NIGHTS)
                store(state, s + 4 * NIGHTS, fb1 * value - fa1 * w + load(state, s + 5 * NIGHTS))
                store(state, s + 5 * NIGHTS, share - fa2 * w)
                store(state, s + 6 * NIGHTS, load(state, s + 6 * NIGHTS) + value)
                store(ring, slot + NIGHTS * a + half, v)
                energy = energy + v * v
                high = high + w * w
            store(ring, slot + 3 * NIGHTS + half, high)
            weighted = energy
            if whiten:
                x, y = load(ring, slot + half), load(ring, slot + NIGHTS + half)
                z = load(ring, slot + 2 * NIGHTS + half)
                wx, wy, wz = load(W, half), load(W, NIGHTS + half), load(W, 2 * NIGHTS + half)
                xy, xz, yz = (
                    load(W, 3 * NIGHTS + half),
                    load(W, 4 * NIGHTS + half),
                    load(W, 5 * NIGHTS + half),
                )
                weighted = wx * x * x + wy * y * y + wz * z * z + (xy * x * y + xz * x * z + yz * y * z)
            plain1, smooth1 = load(out, half), load(out, NIGHTS + half)
            plain2, smooth2 = load(out, 2 * NIGHTS + half), load(out, 3 * NIGHTS + half)
            plain1 = plain1 + smooth * (energy - plain1)
            smooth1 = smooth1 + smooth * (weighted - smooth1)
            store(out, half, plain1)
            store(out, NIGHTS + half, smooth1)
            store(out, 2 * NIGHTS + half, plain2 + smooth * (plain1 - plain2))
            store(out, 3 * NIGHTS + half, smooth2 + smooth * (smooth1 - smooth2))
        if i % BLOCK == BLOCK - 1:
            for a in range(3):
                for k in range(0, NIGHTS, 4):
                    place = 7 * NIGHTS * a + 6 * NIGHTS + k
                    store(blocks, NIGHTS * a + k, load(state, place))
                    store(state, place, none)


def measure(site: str, nights: list[np.ndarray], repeats: int) -> list[float]:
    """Return the median times (ns a sample) of the kernel, its filters, those of a cohort, and making one."""
    beside = np.stack(nights, axis=2).astype(float).reshape(-1)
    detectors = [Detector(RATE, site) for _ in nights]
    for detector, night in zip(detectors, nights, strict=True):
        detector.push_rows(night)
    states = [detector.arrays[0].copy() for detector in detectors]
    whiten = bool(states[0][at.P_WHITEN] > 0.0)
    own, mixed = [at.S_WXX, at.S_WYY, at.S_WZZ], [at.S_WXY, at.S_WXZ, at.S_WYZ]
    weights = np.concatenate(
        [np.array([s[own] for s in states]).T, 2 * np.array([s[mixed] for s in states]).T]
    )
    ring, blocks, out = np.zeros((RING, 4)), np.zeros(4), np.zeros(4)
    state = np.zeros(3 * 7 * NIGHTS)
    rings, all_blocks, outs = np.zeros((RING, 4, NIGHTS)), np.zeros((3, NIGHTS)), np.zeros((4, NIGHTS))

    def whole() -> None:
        for night in nights:
            Detector(RATE, site).push_rows(night)

    def alone() -> list[bytes]:
        found = []
        for floats, night in zip(states, nights, strict=True):
            one(floats, night, ring.reshape(-1), blocks, out, whiten)
            found.append(out[:2].tobytes() + ring.tobytes() + blocks[:3].tobytes())
        return found

    def together() -> None:
        state[:] = 0.0
        outs[:] = 0.0
        many(
            *(states[0], weights.reshape(-1), beside, state),
            *(rings.reshape(-1), all_blocks.reshape(-1), outs.reshape(-1), whiten),
        )

    together()
    for k, by_itself in enumerate(alone()):
        beside_others = outs[2:, k].tobytes() + rings[:, :, k].tobytes() + all_blocks[:, k].tobytes()
        assert beside_others == by_itself, f"night {k} comes out otherwise beside others than alone"
    times = take_turns(
        {
            "whole": whole,
            "alone": alone,
            "together": together,
            "interleaving": lambda: np.stack(nights, axis=2),
        },
        repeats,
    )
    return [statistics.median(taken) * 1e9 * 3 / len(beside) for taken in times.values()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--hours", type=float, default=1.0, help="length of each night")
    options = parser.parse_args()
    nights = [
        Sleeper(hours=options.hours, rate=RATE, seed=900_100 + k, faults=False).xyz() for k in range(NIGHTS)
    ]
    print("| ns a sample | kernel | its filters | those of 8 nights in lanes | interleaving the nights "
          "| kernel with lanes / kernel | and with interleaving |")  # fmt: skip
    print("|---" * 7 + "|")
    for site in ("wrist", "mattress"):
        kernel, filters, lanes, interleaving = measure(site, nights, options.repeats)
        cells = [f"{ns:.1f}" for ns in (kernel, filters, lanes, interleaving)]
        best = kernel - filters + lanes
        print(
            f"| {site} | {' | '.join(cells)} | {best / kernel:.2f} | {(best + interleaving) / kernel:.2f} |"
        )


if __name__ == "__main__":
    main()
