"""Calibration to gravity: known offsets and gains come back, and nights that cannot carry it are refused."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypnic
from hypnic.calibration import Calibration, autocalibrate, fit_sphere
from hypnic.errors import DataError
from hypnic.readers.base import MemoryRecording, make_gaps
from hypnic.recording import Recording, write_recording
from hypnic.simulate import Sleeper, write

OFFSET = np.array([0.05, -0.03, 0.02])
GAIN = np.array([1.03, 0.97, 1.01])


def directions(n, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1)[:, np.newaxis]


def night(points, rate=50.0, sigma=0.002, gaps=None):
    """Make a recording that lies still in each of some directions for 20 s."""
    xyz = np.repeat(points, round(20 * rate), axis=0)
    xyz = xyz + np.random.default_rng(1).normal(0, sigma, xyz.shape)
    return MemoryRecording("night", xyz.astype(np.float32), rate=rate, site="wrist", gaps=gaps)


@given(
    st.tuples(*[st.floats(-0.1, 0.1)] * 3),
    st.tuples(*[st.floats(0.92, 1.08)] * 3),
    st.integers(0, 50),
)
def test_known_offsets_and_gains_come_back(offset, gain, seed):
    raw = directions(200, seed) * gain + offset
    found = fit_sphere(raw)
    assert found.covered
    assert not found.refusal
    assert found.error_after <= found.error_before
    assert found.error_after < 1e-4
    np.testing.assert_allclose(found.offset, np.negative(offset), atol=1e-3)
    np.testing.assert_allclose(found.scale, 1 / np.array(gain), atol=2e-3)


def test_outliers_weigh_little():
    raw = directions(300)
    raw[:6] *= 1.2
    found = fit_sphere(raw * GAIN + OFFSET)
    np.testing.assert_allclose(found.offset, -OFFSET, atol=0.003)
    np.testing.assert_allclose(found.scale, 1 / GAIN, atol=0.006)


def test_a_recording_is_corrected():
    true = directions(60)
    recording = night(true * GAIN + OFFSET)
    before = recording.read(0, 5)
    found = hypnic.autocalibrate(recording)
    assert 100 <= found.windows <= 120
    assert found.error_before > 0.01 > 0.001 > found.error_after
    recording.calibrate(found)
    np.testing.assert_allclose(recording.read(0, 5).mean(axis=0), true[0], atol=0.002)
    np.testing.assert_allclose(
        np.concatenate([chunk.xyz for chunk in recording])[:250], found.apply(before), atol=1e-7
    )
    # What is fitted is the sensor, not what corrects it already.
    assert autocalibrate(recording) == found
    recording.calibrate(None)
    np.testing.assert_array_equal(recording.read(0, 5), before)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_sensors_errors_are_found(seed):
    """The simulated sensor's own offset and gain, with its noise, its drift and its crossed axes in the way."""
    sleeper = Sleeper("wrist", 2.0, 50.0, seed)
    xyz = np.concatenate([chunk.xyz for chunk in sleeper])
    found = autocalibrate(MemoryRecording("night", xyz, rate=50.0, site="wrist"))
    assert not found.refusal
    assert found.error_after < 0.002 < 0.01 < found.error_before
    offset = [sleeper.parameters[f"sensor.offset.{axis}"] for axis in "xyz"]
    gain = [sleeper.parameters[f"sensor.gain.{axis}"] for axis in "xyz"]
    np.testing.assert_allclose(np.negative(found.offset), offset, atol=0.01)
    np.testing.assert_allclose(1 / np.array(found.scale), gain, atol=0.006)


def test_a_perfect_sensor_stays_as_it_is():
    found = fit_sphere(directions(100))
    np.testing.assert_allclose(found.offset, 0, atol=1e-6)
    np.testing.assert_allclose(found.scale, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "match"),
    [
        (directions(5), "5 windows of 10 s"),
        (np.abs(directions(100)), r"do not cover the sphere: x from \+0.*y from .*z from"),
        (directions(100) * [1, 1, 0.1], "z from"),
        (directions(100) * 1.9, "beyond any sensor's"),
        (directions(100) + np.random.default_rng(0).normal(0, 0.1, (100, 3)), "error would remain"),
        (np.empty((0, 3)), "0 windows"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(points, match):
    found = fit_sphere(points)
    assert re.search(match, found.refusal)
    assert (found.offset, found.scale) == ((0, 0, 0), (1, 1, 1))
    with pytest.raises(DataError, match="cannot be calibrated"):
        night(directions(2)).calibrate(found)


def test_a_mattress_cannot_be_calibrated():
    sleeper = Sleeper("mattress", 0.5, 50.0, 1)
    xyz = np.concatenate([chunk.xyz for chunk in sleeper])
    found = autocalibrate(MemoryRecording("night", xyz, rate=50.0, site="mattress"))
    assert "do not cover the sphere" in found.refusal
    assert not found.covered


def test_held_samples_moving_windows_and_gaps_do_not_count():
    still = night(directions(30))
    assert autocalibrate(still).windows >= 59
    held = night(directions(30), sigma=0.0)
    assert autocalibrate(held).windows == 0
    moving = night(directions(30), sigma=0.02)
    assert autocalibrate(moving).windows == 0
    # A gap after every 9.9 s leaves no window of 10 s.
    rows = np.arange(495, 30_000, 495)
    gappy = night(directions(30), gaps=make_gaps(rows, np.full(len(rows), 5), "test"))
    assert autocalibrate(gappy).windows == 0


def test_samples_that_are_no_numbers_do_not_count():
    recording = night(directions(30))
    xyz = recording.read()
    xyz[::500], xyz[250::500] = np.nan, np.inf
    holes = MemoryRecording("night", xyz, rate=50.0, site="wrist")
    assert autocalibrate(holes).windows == 0


def test_the_result_does_not_depend_on_chunks():
    recording = night(directions(40) * GAIN + OFFSET)
    whole = autocalibrate(recording)

    class Pieces(MemoryRecording):
        def __iter__(self):
            return self.chunks(block=333)

    pieces = Pieces("night", recording.read(), rate=50.0, site="wrist")
    assert autocalibrate(pieces) == whole


def test_a_calibrated_night_is_stored_in_g(tmp_path):
    """Counts with one scale cannot hold three gains."""
    path = tmp_path / "a.h5"
    write(path, Sleeper("wrist", 2.0, 50.0, 2))
    with Recording(path) as night:
        found = autocalibrate(night)
        night.calibrate(found)
        expected = night.read(0, 60)
        write_recording(tmp_path / "b.h5", night, attrs={"calibration": found.as_dict()})
    with Recording(tmp_path / "b.h5") as corrected:
        assert corrected.dtype == "float32"
        np.testing.assert_array_equal(corrected.read(0, 60), expected)
        told = json.loads(corrected.attrs["calibration"])
        assert told["windows"] == found.windows
        np.testing.assert_allclose(told["offset"], found.offset)


def test_real_wristband(recordings):
    """Twelve people, awake and seated: one turns the wrist enough, and the error falls tenfold."""
    with hypnic.open(recordings / "stress_predict_e4_32hz" / "S01_ACC.csv") as recording:
        found = autocalibrate(recording)
        assert not found.refusal
        assert found.error_after < 0.2 * found.error_before
        assert max(map(abs, found.offset)) < 0.05
        assert max(abs(value - 1) for value in found.scale) < 0.03
    with hypnic.open(recordings / "stress_predict_e4_32hz" / "S04_ACC.csv") as recording:
        assert "x from -1.02 to -0.33 g" in autocalibrate(recording).refusal


def test_text_says_what_was_done():
    found = Calibration((0.0166, -0.0003, 0.0161), (1.0042, 0.9899, 1.0006), 0.0145, 0.0014, 101, True)
    assert str(found) == (
        "offset +16.6, -0.3, +16.1 mg, scale 1.0042, 0.9899, 1.0006 for x, y, z: mean error 14.5 mg before, "
        "1.4 mg after, over 101 still windows"
    )
    assert math.isnan(fit_sphere(np.empty((0, 3))).error_before)
