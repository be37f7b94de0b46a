"""The same rows to the byte with the compiler switched off: what is calculated is the source's, not the compiler's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from hypnic import layout as at
from hypnic.events import LABELS, RESTS
from tests.signals import Samples, add_jerk, add_movement, breathing

RATE = 25.0

SCRIPT = """
import sys
import numpy as np
from hypnic import Detector

given = np.load(sys.argv[1])
xyz, other, gap = given["xyz"], given["other"], int(given["gap"])
out = {}
for site, place in (("wrist", False), ("mattress", False), ("wrist", "limb"), ("mattress", "bed")):
    detector = Detector(25.0, site, reference=place)
    # With a reference, the minutes that hold most are enough.
    stop = len(xyz) if place is False else len(xyz) // 3
    rows = []
    for k in range(0, stop, 5000):
        part = slice(k, min(k + 5000, stop))
        rows.append(detector.push_rows(xyz[part], other[part] if place else None))
        detector.gap(gap if k == 5000 else 0)
    rows.append(detector.flush_rows())
    name = f"{site} {place or 'alone'}"
    out[name] = np.concatenate(rows)
    out[f"{name} rest"] = np.array([list(bout.values()) for bout in detector.rest_bouts()]).astype("U")
np.savez(sys.argv[2], **out)
"""


def eventful() -> tuple[Samples, Samples]:
    """Ten minutes in which nearly everything happens, five quiet ones, and what a sensor beside it feels of that."""
    xyz = breathing(940, RATE, seed=1, sigma=0.002)
    rng = np.random.default_rng(2)

    def place(second: float) -> int:
        return round(second * RATE)

    for k in range(9):  # jerks, each of another size
        add_jerk(xyz, place(12 + 7.3 * k), RATE, 0.05 * 1.5**k, 0.08, 4.0)
    for second, axis in ((80, 0), (85, 2)):  # a spike of the sensor
        xyz[place(second), axis] += 1.5
    for second in (90, 92.5):  # a knock
        xyz[place(second) : place(second) + 2] += rng.normal(0.0, 1.0, (2, 3)).astype(np.float32)
    for k in range(12):  # a rhythm
        add_jerk(xyz, place(100 + 0.6 * k), RATE, 0.3, 0.1, 5.0)
    xyz[place(125) :] += np.array([0.5, -0.4, 0.1], np.float32)
    for k in range(6):  # periodic movements of a limb
        add_movement(xyz, place(140 + 17 * k), RATE, 1.6, seed=7, size=0.3 * rng.uniform(0.9, 1.1))
    xyz[place(255) : place(256.2)] = xyz[place(255)]
    xyz[place(262) : place(262) + 1] = np.nan
    for k in range(7):  # somebody awake
        add_movement(xyz, place(280 + 14 * k), RATE, 9.0, seed=k, size=0.5)
    xyz[place(284) : place(285.5)] = np.nan  # lost in the middle of it
    for k in range(8):
        add_jerk(xyz, place(400 + 11.7 * k), RATE, 0.2, 0.1, 2.0 + k)
    xyz[place(520) : place(530)] = np.round(xyz[place(520) : place(530)] * 64) / 64
    xyz[place(532) : place(595)] = xyz[place(532)]
    other = np.roll(np.nan_to_num(xyz), -1, axis=0) * np.float32(1.3)
    return xyz, (other + rng.normal(0.0, 0.001, other.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """What a process with the compiler and one without it find."""
    folder = tmp_path_factory.mktemp("same")
    xyz, other = eventful()
    np.savez(folder / "given.npz", xyz=xyz, other=other, gap=round(3 * RATE))
    found = []
    for switch in ("0", "1"):
        out = folder / f"{switch}.npz"
        # A warning would be one of the interpreter's alone.
        command = [sys.executable, "-W", "error::RuntimeWarning", "-c", SCRIPT]
        env = {**os.environ, "NUMBA_DISABLE_JIT": switch}
        subprocess.run([*command, str(folder / "given.npz"), str(out)], env=env, check=True, timeout=300)
        with np.load(out) as arrays:
            found.append(dict(arrays))
    return found


def test_these_minutes_hold_nearly_everything(both: list[dict[str, np.ndarray]]) -> None:
    compiled = both[0]
    rows = np.concatenate([compiled["wrist alone"], compiled["mattress alone"]])
    labels = {LABELS[int(code)] for code in rows[:, at.R_LABEL]}
    assert labels >= set(LABELS) - {"isolated_jerk"}
    assert (rows[:, at.R_REVISION] > 1).any()
    assert (rows[:, at.R_CUT] == 1).any()
    assert {rest for _, _, rest in compiled["wrist alone rest"]} >= set(RESTS) - {"still"}


@pytest.mark.parametrize("which", ["wrist alone", "mattress alone", "wrist limb", "mattress bed"])
def test_the_compiler_changes_no_byte(both: list[dict[str, np.ndarray]], which: str) -> None:
    compiled, interpreted = both
    assert len(compiled[which]) > 20
    different = compiled[which].view(np.int64) != interpreted[which].view(np.int64)
    assert not different.any(), f"columns {np.flatnonzero(different.any(axis=0))}"
    np.testing.assert_array_equal(compiled[f"{which} rest"], interpreted[f"{which} rest"])
