"""Labelled text, one sample a line.

``Acceleration X: 0.02, Y: -0.01, Z: 9.80 m/s^2`` (Adafruit), ``AX:0.01 AY:..`` (serial plotters),
``X=0.01, Y=..`` (M5Stick).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from firmware_bridge.decoders.base import STANDARD_GRAVITY, TextDecoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelledDecoder", "encode_adafruit", "encode_m5stick", "encode_plotter"]

_PAIR = re.compile(r"([A-Za-z][A-Za-z_ ]{0,30})\s{0,4}[:=]\s{0,4}([-+]?\d{1,7}(?:\.\d{1,9})?)(?![\d.\w])")
_LABEL = re.compile(r"([A-Za-z][A-Za-z_ ]{0,30})\s{0,4}[:=]")
_UNIT = re.compile(r"[\d\s](m/s\^2|m/s2|m/s²|m/s/s|mg|g)(?![A-Za-z])")
_PER_G: Final = {"g": 1.0, "mg": 1000.0}
_ACCELERATION = ("", "a", "acc", "accel", "acceleration", "accelerometer")
_AXES = ("x", "y", "z")


class LabelledDecoder(TextDecoder):
    """Decode labelled text.

    Parameters
    ----------
    per_g : float, optional
        Units in one g, where the lines do not name their unit.

    Notes
    -----
    A line with labels of other things only (rotation, temperature) is valid and carries no sample.
    """

    name: ClassVar[str] = "labelled"
    bauds: ClassVar[tuple[int, ...]] = (115200, 9600)

    def fresh(self) -> Self:
        """Return a decoder for the same stream after the port was lost; a unit once inferred stays."""
        return type(self)(self._given_per_g)._inherit(self)

    @property
    def refusal(self) -> str | None:
        """Why this stream cannot be used, or None."""
        if self._lacks_acceleration() and not self._sample_lines:
            return "the lines have labels but none of acceleration x, y and z"
        return super().refusal

    def _line(self, line: bytes, size: int) -> None:
        text = line.decode("utf-8", "replace")
        axes: dict[str, str] = {}
        quantity = ""
        pairs = 0
        for label, number in _PAIR.findall(text):
            pairs += 1
            head, axis = _split(label)
            quantity = head or quantity
            if quantity in _ACCELERATION and axis in _AXES and axis not in axes:
                axes[axis] = number
        if len(axes) == 3:
            self._accept(size)
            self._sample_lines += 1
            unit = _UNIT.search(text)
            per_g = _PER_G.get(unit[1], STANDARD_GRAVITY) if unit else None
            x, y, z = (float(axes[axis]) for axis in _AXES)
            decimals = max(len(number.partition(".")[2]) for number in axes.values())
            self._value((x, y, z), per_g, decimals)
        elif pairs and not any(_is_acceleration(label) for label in _LABEL.findall(text)):
            self._accept(size)
        else:
            self._malformed(size, meant_as_sample=bool(_LABEL.search(text)))


def _split(label: str) -> tuple[str, str]:
    """Return what a label is about and its axis: ``"Accel X"`` gives ``("accel", "x")``."""
    word = label.strip().lower()
    if word[-1] in _AXES:
        return word[:-1].strip(" _"), word[-1]
    return word, ""


def _is_acceleration(label: str) -> bool:
    head, axis = _split(label)
    return bool(axis) and bool(head) and head in _ACCELERATION


def _lines(xyz: NDArray[np.float32], pattern: str, per_g: float) -> bytes:
    rows = (np.nan_to_num(np.asarray(xyz, np.float64)) * per_g).tolist()
    return "".join(pattern.format(x, y, z) for x, y, z in rows).encode("ascii")


def encode_adafruit(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples as Adafruit's basic_readings sketches print them, without number or time."""
    return _lines(xyz, "Acceleration X: {:.2f}, Y: {:.2f}, Z: {:.2f} m/s^2\r\n", STANDARD_GRAVITY)


def encode_plotter(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples in g for the Arduino serial plotter, without number or time."""
    return _lines(xyz, "AX:{:.4f} AY:{:.4f} AZ:{:.4f}\r\n", 1.0)


def encode_m5stick(xyz: NDArray[np.float32], rate: float, start: int = 0) -> bytes:
    """Return samples in g as M5Stick examples print them, without number or time."""
    return _lines(xyz, "X={:.2f}, Y={:.2f}, Z={:.2f}\r\n", 1.0)
