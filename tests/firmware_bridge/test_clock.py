"""Clocks on simulated arrivals: 180 s, crystal +80 ppm, sensor -0.8 %, a bridge with 16 ms of latency."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.clock import SequenceClock, TickClock, Unwrapper, nominal_rate
from tests.firmware_bridge.arrivals import error_of, simulate

RATE = 100.0


def tick_stamps(run, clock=None, offset=0, modulus=1 << 32):
    clock = clock or TickClock(1e6, modulus)
    ticks = (run.ticks + offset) % modulus
    return np.concatenate([clock.stamp(ticks[part], run.arrival[part[-1]]) for part in run.readings])


def sequence_stamps(run, clock=None):
    clock = clock or SequenceClock(RATE)
    return np.concatenate([clock.stamp(part, run.arrival[part[-1]]) for part in run.readings])


@pytest.mark.parametrize("stalls", [0.0, 0.02])
def test_ticks_under_the_hull_are_better_than_a_tenth_of_a_millisecond(stalls):
    run = simulate(stalls=stalls)
    spread, drift = error_of(tick_stamps(run), run.true)
    assert spread < 0.1
    assert abs(drift) < 3


@pytest.mark.parametrize("stalls", [0.0, 0.02])
def test_sequence_by_recursive_least_squares_is_better_than_a_quarter_of_a_millisecond(stalls):
    run = simulate(seed=1, stalls=stalls)
    spread, drift = error_of(sequence_stamps(run), run.true)
    assert spread < 0.25
    assert abs(drift) < 5


def test_what_the_clocks_are_better_than():
    run = simulate()
    assert error_of(run.arrival, run.true)[0] > 4
    assert error_of(run.ticks / 1e6, run.true)[0] > 2.5
    assert error_of(np.arange(len(run.true)) / RATE, run.true)[0] > 250


@pytest.mark.parametrize("stamps", [tick_stamps, sequence_stamps])
def test_times_always_increase(stamps):
    run = simulate(seconds=30, stalls=0.2, jitter=1e-3)
    times = stamps(run)
    assert (np.diff(times) > 0).all()


def test_first_minute_is_good_enough():
    run = simulate(seconds=60)
    for times in (tick_stamps(run), sequence_stamps(run)):
        offset = np.median(times - run.true)
        assert np.abs(times - run.true - offset)[300:].max() < 2e-3


def test_ticks_that_wrap_give_the_same_times():
    run = simulate(seconds=40)
    expected = tick_stamps(run)
    wrapped = tick_stamps(run, offset=(1 << 24) - int(run.ticks[1200]), modulus=1 << 24)
    np.testing.assert_array_equal(wrapped, expected)


def test_residual_and_drift_are_stated():
    run = simulate(seconds=60)
    ticks, sequence = TickClock(1e6), SequenceClock(RATE)
    assert np.isnan(ticks.residual)
    assert np.isnan(sequence.residual)
    tick_stamps(run, ticks)
    sequence_stamps(run, sequence)
    assert 1e-5 < ticks.residual < 1e-3
    assert 1e-3 < sequence.residual < 1e-2
    assert ticks.drift == pytest.approx(-80e-6, abs=20e-6)
    assert sequence.drift == pytest.approx(0.008 / 0.992, abs=1e-4)


@pytest.mark.parametrize("off", [-0.08, 0.08])
def test_a_board_that_runs_by_an_rc_oscillator(off):
    run = simulate(seconds=60.0, crystal=off)
    clock = TickClock(1e6)
    times = np.concatenate(
        [clock.stamp(run.ticks[part] % (1 << 32), run.arrival[part[-1]]) for part in run.readings]
    )
    assert (np.diff(times) > 0).all()
    late = run.true > run.true[0] + 30
    assert np.abs((times - run.true)[late]).max() < 0.05


def test_a_late_first_reading_is_put_right_at_once():
    clock = TickClock(1e6)
    times = [clock.stamp(np.array([tick]), 1e9 + arrival)[0] for tick, arrival in ((0, 0.5), (100_000, 0.1))]
    times.append(clock.stamp(np.array([900_000]), 1e9 + 0.9)[0])
    assert np.array(times) - 1e9 == pytest.approx([0.5, 0.55, 0.95])


def test_a_stall_of_the_host_does_not_bend_the_line():
    run = simulate(seconds=90)
    # What came in three seconds is read at once, in two readings of which the first ends a second ago.
    start, middle, end = 6000, 6200, 6300
    arrival = run.arrival.copy()
    arrival[start:end] = arrival[end - 1]
    readings = [part for part in run.readings if part[-1] < start or part[0] >= end]
    readings += [np.arange(start, middle), np.arange(middle, end)]
    missed = np.setdiff1d(np.arange(len(arrival)), np.concatenate(readings))
    readings += [missed[missed < start], missed[missed >= end]]
    readings = sorted((part for part in readings if len(part)), key=lambda part: part[0])
    stalled = sequence_stamps(run._replace(arrival=arrival, readings=readings))
    assert np.abs(stalled - sequence_stamps(run))[end:].max() < 3e-4


def test_lateness_of_a_reading():
    run = simulate(seconds=30)
    clock = SequenceClock(RATE)
    assert clock.lateness(0, 0.0) == 0
    sequence_stamps(run, clock)
    last = len(run.true) - 1
    assert clock.lateness(last, run.arrival[-1] + 1.0) == pytest.approx(1.0, abs=0.02)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 10**6), st.floats(-1, 5)), min_size=1, max_size=80
    )
)
def test_any_arrivals_give_finite_increasing_times(steps):
    clocks = TickClock(1e6), SequenceClock(RATE)
    tick, number, arrival = 0, 0, 1.7e9
    stamped = [], []
    for count, interval, delay in steps:
        ticks = tick + interval * np.arange(count)
        tick, number, arrival = int(ticks[-1]), number + count, arrival + delay
        stamped[0].append(clocks[0].stamp(ticks % 2**32, arrival))
        stamped[1].append(clocks[1].stamp(np.arange(number - count, number), arrival))
    for times in map(np.concatenate, stamped):
        assert np.isfinite(times).all()
        assert (np.diff(times) > 0).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.integers(0, 2**16 - 1), max_size=50),
    cut=st.integers(0, 50),
    start=st.integers(0, 2**40),
)
def test_unwrapping_undoes_wrapping(steps, cut, start):
    ticks = start + np.cumsum([0, *steps])
    unwrapper = Unwrapper(1 << 16)
    parts = [unwrapper.unwrap(part % 65536) for part in (ticks[:cut], ticks[cut:])]
    unwrapped = np.concatenate(parts)
    assert (unwrapped - unwrapped[0] == ticks - ticks[0]).all()


@pytest.mark.parametrize(
    ("measured", "expected"),
    [(99.2, 100), (103.5, 104), (119.9, 119), (141.23, 141.2), (2.04, 2.0), (995, 1000)],
)
def test_nominal_rate(measured, expected):
    assert nominal_rate(measured) == expected
