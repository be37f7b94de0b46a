from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, lfilter, sosfreqz

from hypnic.filters import highpass, lowpass, pole

rates = st.floats(25.0, 1000.0)
shares = st.floats(0.001, 0.4)


@given(rates, shares)
def test_sections_are_those_of_scipy(rate, share):
    corner = share * rate
    for ours, kind in ((lowpass, "low"), (highpass, "high")):
        b0, b1, b2, a1, a2 = ours(corner, rate)
        # The kernel multiplies by b0 once, for both.
        assert b2 == b0
        # Near 0 Hz the difference of two numbers close to 1 is all that is left of the gain.
        np.testing.assert_allclose(
            [b0, b1, b2, 1.0, a1, a2],
            butter(2, corner, kind, fs=rate, output="sos")[0],
            rtol=1e-9,
            atol=1e-12,
        )


@pytest.mark.parametrize("rate", [25.0, 100.0, 1000.0])
def test_gains(rate):
    def gain(section: tuple[float, ...], hz: float) -> float:
        b0, b1, b2, a1, a2 = section
        return abs(sosfreqz([[b0, b1, b2, 1.0, a1, a2]], [hz], fs=rate)[1][0])

    assert gain(lowpass(8.0, rate), 8.0) == pytest.approx(math.sqrt(0.5))
    assert gain(highpass(1.5, rate), 1.5) == pytest.approx(math.sqrt(0.5))
    assert gain(lowpass(8.0, rate), 0.0) == pytest.approx(1.0)
    assert gain(highpass(1.5, rate), 0.0) == pytest.approx(0.0, abs=1e-12)
    assert gain(highpass(1.5, rate), rate / 2) == pytest.approx(1.0)


@given(rates, shares)
def test_sections_are_stable(rate, share):
    for section in (lowpass(share * rate, rate), highpass(share * rate, rate)):
        assert (np.abs(np.roots([1.0, *section[3:]])) < 1.0).all()


@given(st.floats(0.01, 10.0), rates)
def test_pole_falls_to_1_over_e_in_its_time_constant(time_constant, rate):
    weight = pole(time_constant, rate)
    assert 0.0 < weight < 1.0
    assert (1.0 - weight) ** (time_constant * rate) == pytest.approx(1.0 / math.e)


def test_pole_is_the_weight_of_an_exponential_mean():
    weight = pole(0.5, 100.0)
    response = lfilter([weight], [1.0, weight - 1.0], np.ones(50))
    assert response[-1] == pytest.approx(1.0 - 1.0 / math.e)
