"""Filters for a rate: designed once, in closed form, so that nothing heavy is imported to start a detector.

Second-order Butterworth sections by the bilinear transform with the corner pre-warped (Oppenheim and Schafer,
*Discrete-Time Signal Processing*); `scipy.signal.butter(2, ...)` gives the same numbers and the tests hold it to that.
"""

from __future__ import annotations

import math

__all__ = ["Biquad", "highpass", "lowpass", "pole"]

Biquad = tuple[float, float, float, float, float]
"""Coefficients b0, b1, b2, a1, a2 of one section, a0 being 1."""


def lowpass(corner: float, rate: float) -> Biquad:
    """Return the second-order Butterworth low-pass with its -3 dB point at `corner` (Hz)."""
    k = math.tan(math.pi * corner / rate)
    norm = 1.0 / (1.0 + math.sqrt(2.0) * k + k * k)
    gain = k * k * norm
    return gain, 2.0 * gain, gain, 2.0 * (k * k - 1.0) * norm, (1.0 - math.sqrt(2.0) * k + k * k) * norm


def highpass(corner: float, rate: float) -> Biquad:
    """Return the second-order Butterworth high-pass with its -3 dB point at `corner` (Hz)."""
    k = math.tan(math.pi * corner / rate)
    norm = 1.0 / (1.0 + math.sqrt(2.0) * k + k * k)
    return norm, -2.0 * norm, norm, 2.0 * (k * k - 1.0) * norm, (1.0 - math.sqrt(2.0) * k + k * k) * norm


def pole(time_constant: float, rate: float) -> float:
    """Return the weight of the newest value in an exponential mean with `time_constant` (s)."""
    return 1.0 - math.exp(-1.0 / (time_constant * rate))
