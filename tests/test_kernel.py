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
from hypnic.events import LABELS
from hypnic.explanation import rules
from hypnic.model import load_model
from hypnic.settings import Settings
from hypnic.simulate import Sleeper
from tests.naive import detector as naive
from tests.signals import POSTURE, Samples, add_jerk, add_movement, breathing, night, pieces, quiet

WHOLE = {
    "onset": at.R_ONSET,
    "end": at.R_END,
    "id": at.R_ID,
    "revision": at.R_REVISION,
    "rest": at.R_REST,
    "label": at.R_LABEL,
    "bursts": at.R_BURSTS,
    "chain": at.R_CHAIN,
    "link": at.R_LINK,
    "partner": at.R_PARTNER,
    "cut": at.R_CUT,
    "emitted": at.R_EMITTED,
}
"""What must be the same."""

REAL = {
    "length": at.R_LENGTH,
    "peak": at.R_PEAK,
    "prominence": at.R_PROMINENCE,
    "rise": at.R_RISE,
    "t90": at.R_T90,
    "t50": at.R_T50,
    "centre": at.R_CENTRE,
    "energy_1": at.R_E1,
    "energy_2": at.R_E2,
    "energy_3": at.R_E3,
    "energy_4": at.R_E4,
    "energy_5": at.R_E5,
    "energy_6": at.R_E6,
    "hf": at.R_HF,
    "line": at.R_LINE,
    "plane": at.R_PLANE,
    "freq": at.R_FREQ,
    "slow": at.R_SLOW,
    "low": at.R_LOW,
    "base": at.R_BASE,
    "below_3": at.R_BELOW3,
    "below_6": at.R_BELOW6,
    "before": at.R_BEFORE,
    "tail": at.R_TAIL,
    "busy": at.R_BUSY,
    "stir": at.R_STIR,
    "after": at.R_AFTER,
    "follow": at.R_FOLLOW,
    "next": at.R_NEXT,
    "noise": at.R_NOISE,
    "rhythm": at.R_RHYTHM,
    "angle": at.R_ANGLE,
    "net": at.R_NET,
    "quiet": at.R_QUIET,
    "interval": at.R_INTERVAL,
    "like": at.R_LIKE,
    "like_later": at.R_LIKE_LATER,
    "score": at.R_SCORE,
}
"""What may differ by rounding: the twin adds in another order, and its filters are compiled by others."""

VECTORS = {"gravity": slice(at.R_GX, at.R_GZ + 1), "direction": slice(at.R_UX, at.R_UZ + 1)}

TOLERANCE = 1e-9
"""Relative, and absolute below 1: an angle, a travel or a logarithm may be 0 but for rounding."""

ROUGH = {"plane": 1e-7, "line": 1e-7}
"""The cubic's trigonometric solution leaves half the digits where two directions are alike."""


def judge_by(rate: float, settings: Settings) -> naive.Judge:
    """Return what gives the twin its labels: the rules in words, and the model in plain steps."""
    model = load_model(settings.name)

    def judge(values: naive.Values) -> tuple[int, float]:
        row = np.zeros(at.ROW)
        for name, column in {**WHOLE, **REAL}.items():
            row[column] = values.get(name, 0.0)
        for name, columns in VECTORS.items():
            row[columns] = values[name]
        row[at.R_SCORE] = model.scores(row[np.newaxis])[0]
        limits, *_ = rules(row, rate, settings)
        if not limits.holds:
            row[at.R_SCORE] = min(row[at.R_SCORE], 0.5 * settings.jerk_score)
        *_, last = rules(row, rate, settings)
        return LABELS.index(last.label), row[at.R_SCORE]

    return judge


def check(xyz: Samples, rate: float, site: str = "wrist", settings: Settings | None = None) -> int:
    """Compare kernel and twin on a recording and return the number of events."""
    settings = settings or Settings.preset(site)
    detector = Detector(rate, site, settings)
    rows = np.concatenate([detector.push_rows(xyz), detector.flush_rows()])
    expected, turns = naive.detect(xyz, rate, settings, judge_by(rate, settings))
    for name, column in WHOLE.items():
        assert rows[:, column].tolist() == [row[name] for row in expected], name
    for name, column in REAL.items():
        tolerance = ROUGH.get(name, TOLERANCE)
        np.testing.assert_allclose(
            rows[:, column], [row[name] for row in expected], tolerance, tolerance, err_msg=name
        )
    if expected:
        gravity, direction = (np.array([row[name] for row in expected]) for name in VECTORS)
        np.testing.assert_allclose(rows[:, VECTORS["gravity"]], gravity, TOLERANCE, TOLERANCE)
        # A direction has two ends.
        along = np.abs((rows[:, VECTORS["direction"]] * direction).sum(axis=1))
        np.testing.assert_allclose(along, (direction**2).sum(axis=1), 1e-6, 1e-6)
    assert detector._turns == turns
    return len(set(rows[:, at.R_ID]))


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
        {"blank": 0.0, "lookback": 0.1, "block": 0.5, "early": 2.0},
        {"name": "mattress-1", "spread": 2.0, "whiten": 0.5, "sideways": 0.05, "early": 0.02},
        {"rest_angle": 0.5, "max_g": 2.0, "floor_g": 0.0, "on_max": 1.6, "on_over": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings(change):
    rate = 64.0
    xyz = night(10.0, rate, seed=13)
    xyz[20000:20003] = np.nan
    assert check(xyz, rate, settings=Settings.from_dict(change)) >= 8


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_off_and_held(site):
    rate = 25.0
    xyz = np.concatenate(
        [
            quiet(420, rate),
            breathing(300, rate),
            quiet(700, rate, seed=1),
            breathing(200, rate),
            night(4, rate),
        ]
    )
    for start in (8000, 12_000, 30_000, 37_500):
        add_movement(xyz, start, rate, 6.0, seed=start)
    xyz[6000:6004] = np.nan
    # In the middle of a movement, of a breath, while off, and at the end.
    for start, seconds in ((12_070, 100), (16_000, 70), (28_000, 70), (40_000, 200)):
        xyz[start : start + round(seconds * rate)] = xyz[start]
    assert check(xyz, rate, site) >= 4
    detector = Detector(rate, site)
    detector.push_rows(xyz)
    assert sum(bout["rest"] == "off" for bout in detector.rest_bouts()) >= 4


def test_a_full_queue():
    rate = 100.0
    xyz = quiet(60, rate)
    for start in range(2000, 5000, 14):
        add_jerk(xyz, start, rate, peak=0.5, decay=0.015, hz=10.0)
    change = {"hang": 0.05, "early": 0.02, "final_delay": 8.0, "smooth": 0.01, "rearm": 0.1, "release": 1.0}
    assert check(xyz, rate, settings=Settings.from_dict(change)) > 100


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_series(site):
    rate = 50.0
    rng = np.random.default_rng(2)
    xyz = quiet(700, rate, sigma=0.002)
    for k, start in enumerate(np.cumsum(rng.uniform(9, 30, 30))):
        seconds = (2.0, 2.0, 9.0, 2.0)[k % 4]
        add_movement(xyz, round((10 + start) * rate), rate, seconds, seed=k // 10, size=rng.uniform(0.1, 0.2))
    assert check(xyz, rate, site) >= 20
    rows = Detector(rate, site).push_rows(xyz)
    assert rows[:, at.R_CHAIN].max() >= 4


@settings(max_examples=150)
@given(pieces, st.sampled_from([25.0, 32.0, 50.0, 100.0]), st.sampled_from(["wrist", "mattress"]))
def test_whatever_a_sensor_may_come_up_with(pieces, rate, site):
    check(pieces.xyz(rate), rate, site)


def test_real_recordings(recordings: Path):
    with (recordings / "stress_predict_e4_32hz" / "S03_ACC.csv").open() as file:
        counts = np.array(list(csv.reader(file))[2:], float)
    assert check((counts[:50000] / 64).astype(np.float32), 32.0) >= 50
