"""The kernel against its slow twin."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.labels import MOVEMENT, PLM
from hypnic.model import load_model
from hypnic.settings import Settings
from hypnic.simulate import Sleeper
from tests.naive import detector as naive
from tests.signals import POSTURE, Samples, add_jerk, night, pieces, quiet

WHOLE = {
    "onset": at.R_ONSET,
    "end": at.R_END,
    "id": at.R_ID,
    "revision": at.R_REVISION,
    "rest": at.R_REST,
    "bursts": at.R_BURSTS,
    "cut": at.R_CUT,
    "emitted": at.R_EMITTED,
}
"""What must be the same."""

REAL = {
    "peak": at.R_PEAK,
    "prominence": at.R_PROMINENCE,
    "rise": at.R_RISE,
    "t90": at.R_T90,
    "t50": at.R_T50,
    "centre": at.R_CENTRE,
    "hf": at.R_HF,
    "line": at.R_LINE,
    "freq": at.R_FREQ,
    "slow": at.R_SLOW,
    "low": at.R_LOW,
    "busy": at.R_BUSY,
    "after": at.R_AFTER,
    "follow": at.R_FOLLOW,
    "noise": at.R_NOISE,
    "rhythm": at.R_RHYTHM,
    "gx": at.R_GX,
    "gy": at.R_GY,
    "gz": at.R_GZ,
    "angle": at.R_ANGLE,
    "quiet": at.R_QUIET,
    "interval": at.R_INTERVAL,
}
"""What may differ by rounding: the twin adds in another order, and its filters are compiled by others."""

TOLERANCE = 1e-9
"""Relative, and absolute below 1: an angle, a travel or a logarithm may be 0 but for rounding."""


def check(xyz: Samples, rate: float, site: str = "wrist", settings: Settings | None = None) -> int:
    """Compare kernel and twin on a recording and return the number of events."""
    settings = settings or Settings.preset(site)
    detector = Detector(rate, site, settings)
    rows = np.concatenate([detector.push_rows(xyz), detector.flush_rows()])
    # Labels and what they say of rows already out are a matter of the label rules.
    rows = rows[rows[:, at.R_REVISION] <= 1]
    labels = {int(row[at.R_ID]): int(row[at.R_LABEL]) for row in rows if row[at.R_REVISION] == 0}

    def is_movement(number: int) -> bool:
        return PLM <= labels.get(number, -1) <= MOVEMENT

    expected, turns = naive.detect(xyz, rate, settings, is_movement)
    for name, column in WHOLE.items():
        assert rows[:, column].tolist() == [row[name] for row in expected], name
    for name, column in REAL.items():
        np.testing.assert_allclose(
            rows[:, column], [row[name] for row in expected], TOLERANCE, TOLERANCE, err_msg=name
        )
    assert detector._turns == turns
    scores = load_model(settings.name).scores(rows)
    np.testing.assert_allclose(rows[:, at.R_SCORE], scores, TOLERANCE, TOLERANCE, err_msg="score")
    return len(labels)


@pytest.mark.parametrize("rate", [25.0, 32.0, 50.0, 100.0, 104.0, 200.0, 1000.0])
def test_jerks_and_movements_at_every_rate(rate):
    assert check(night(8.0 if rate <= 200 else 1.5, rate, seed=int(rate)), rate) >= 8


@pytest.mark.parametrize("rate", [32.0, 100.0])
def test_coarse_steps(rate):
    xyz = night(8.0, rate, seed=3)
    assert check(np.round(xyz * 64) / np.float32(64), rate) >= 8


def test_losses_short_and_long():
    rate = 50.0
    rng = np.random.default_rng(5)
    xyz = night(30.0, rate, seed=5)
    for seconds in [0.02] * 20 + [0.04, 0.06, 0.1] * 5 + [1.0, 5.0, 20.0, 33.0, 61.0, 640.0]:
        start = int(rng.integers(len(xyz)))
        xyz[start : start + round(seconds * rate)] = np.nan
    assert check(xyz, rate) >= 8


def test_losses_within_events():
    rate = 100.0
    xyz = quiet(300, rate, sigma=0.002)
    for k, lost in enumerate([1, 2, 5, 6, 7, 20, 50, 100, 300, 3200]):
        start = 2000 + 2200 * k
        add_jerk(xyz, start, rate, peak=1.0, decay=0.5)
        xyz[start + 10 * k : start + 10 * k + lost] = np.nan
    assert check(xyz, rate) >= 10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 64.1, 3e38, -3e38])
def test_invalid_values(value):
    xyz = night(2.0, 50.0, seed=8)
    rng = np.random.default_rng(9)
    for length in (1, 2, 3, 10, 400):
        start = int(rng.integers(len(xyz) - 400))
        xyz[start : start + length, rng.integers(3)] = value
    assert check(xyz, 50.0) >= 4


def test_stuck_runs():
    rate = 100.0
    xyz = night(10.0, rate, seed=6)
    rng = np.random.default_rng(7)
    for seconds in (0.3, 0.49, 0.5, 0.51, 0.55, 0.6, 1.0, 5.0, 40.0):
        start = int(rng.integers(1000, len(xyz) - 5000))
        xyz[start : start + round(seconds * rate)] = xyz[start]
    assert check(xyz, rate) >= 8


def test_saturation_and_huge_values():
    rate = 100.0
    xyz = night(4.0, rate, seed=11)
    xyz[8000:8300] = np.clip(50 * (xyz[8000:8300] - POSTURE), -2, 2)
    xyz[15000:15400:7] = (63.9, -63.9, 63.9)
    assert check(xyz, rate) >= 4


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat(level):
    xyz = np.full((6000, 3), level, np.float32)
    assert check(xyz, 100.0) == 0
    xyz[4000:4003] = 0.5
    assert check(xyz, 100.0) <= 1


@pytest.mark.parametrize("site", ["wrist", "mattress"])
@pytest.mark.parametrize("rate", [50.0, 100.0])
def test_simulated_sleepers(site, rate):
    sleeper = Sleeper(site, hours=0.3, rate=rate, seed=2, sensor="LSM6DSOX")
    assert check(sleeper.xyz(), rate, site) >= 5


@pytest.mark.parametrize(
    "change",
    [
        {"guard": 0.0, "background": 10.0, "warmup": 2.0, "hang": 0.1, "on_min": 2.0},
        {"block": 0.25, "lookback": 1.5, "max_event": 5.0, "smooth": 0.03, "rearm": 0.3},
        {"band_low": 0.5, "band_high": 25.0, "hf_low": 25.0, "bridge": 0.2, "final_delay": 8.0},
        {"settle": 5.0, "still": 30.0, "window": 60.0, "waking": 5.0, "waking_decay": 20.0},
        {"settling": 60.0, "still": 3600.0, "window": 60.0},
        {"rest_angle": 0.5, "max_g": 2.0, "floor_g": 0.0, "on_max": 1.6, "on_over": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings(change):
    rate = 64.0
    xyz = night(10.0, rate, seed=13)
    xyz[20000:20003] = np.nan
    assert check(xyz, rate, settings=Settings.from_dict(change)) >= 8


@settings(max_examples=150)
@given(pieces, st.sampled_from([25.0, 32.0, 50.0, 100.0]), st.sampled_from(["wrist", "mattress"]))
def test_whatever_a_sensor_may_come_up_with(pieces, rate, site):
    check(pieces.xyz(rate), rate, site)


def test_real_recordings(recordings: Path):
    with (recordings / "stress_predict_e4_32hz" / "S03_ACC.csv").open() as file:
        counts = np.array(list(csv.reader(file))[2:], float)
    assert check((counts[:50000] / 64).astype(np.float32), 32.0) >= 50
