"""One module per wire format, and the list of them.

A new format is one module with a `Decoder` and an encoder, and its line in `DECODERS` and in
`firmware_bridge.encoders`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from firmware_bridge.decoders.base import Counters, Decoder, Samples
from firmware_bridge.decoders.delimited import SCHEMAS, DelimitedDecoder
from firmware_bridge.decoders.hypnic import HypnicDecoder
from firmware_bridge.decoders.labelled import LabelledDecoder
from firmware_bridge.decoders.witmotion import WitMotionDecoder
from firmware_bridge.decoders.witmotion_combined import WitMotionCombinedDecoder
from firmware_bridge.decoders.xbus import XbusDecoder
from hypnic.errors import UsageError

__all__ = [
    "DECODERS",
    "FORMATS",
    "Counters",
    "Decoder",
    "Recogniser",
    "Recognition",
    "Samples",
    "make_decoder",
    "recognise",
]

DECODERS: Final[dict[str, type[Decoder]]] = {
    decoder.name: decoder
    for decoder in (
        HypnicDecoder,
        WitMotionDecoder,
        WitMotionCombinedDecoder,
        XbusDecoder,
        LabelledDecoder,
        DelimitedDecoder,
    )
}
"""Decoder of each wire format, by name."""

_PRINTED_BY: Final = {
    "adafruit": "labelled",
    "plotter": "labelled",
    "m5stick": "labelled",
    "hypnic-csv": "delimited",
}

FORMATS: Final = (*DECODERS, *SCHEMAS, *_PRINTED_BY)
"""Names that `make_decoder` takes: wire formats, and boards or sketches that print one of them."""

MIN_FRAMES = 3
"""Valid frames or lines without which a format is not recognised."""


def make_decoder(name: str, lsb_per_g: float | None = None) -> Decoder:
    """Return a new decoder.

    Parameters
    ----------
    name : str
        One of `FORMATS`.
    lsb_per_g : float, optional
        Counts, or other units, in one g, for text that does not state it.

    Raises
    ------
    UsageError
        If the name is unknown, or the format states its own scale.
    """
    if lsb_per_g is not None and not 0 < lsb_per_g < 1e9:
        raise UsageError(f"lsb_per_g {lsb_per_g!r} is not a scale: give the counts per g, a positive number")
    if name in SCHEMAS:
        return DelimitedDecoder(SCHEMAS[name], lsb_per_g)
    kind = DECODERS.get(_PRINTED_BY.get(name, name))
    if kind is None:
        raise UsageError(f"format {name!r} is unknown: use {', '.join(FORMATS)}")
    if kind is DelimitedDecoder:
        return DelimitedDecoder(per_g=lsb_per_g)
    if kind is LabelledDecoder:
        return LabelledDecoder(lsb_per_g)
    if lsb_per_g is not None:
        raise UsageError(f"format {name!r} states its own scale: leave lsb_per_g out")
    return kind()


class Recognition(NamedTuple):
    """The format that bytes are in, and the share (0 to 1) of them that it explains."""

    name: str
    confidence: float


class Recogniser:
    """Tell the format of a stream while it comes in.

    Parameters
    ----------
    names : iterable of str, optional
        Wire formats to look for; all by default.
    """

    def __init__(self, names: tuple[str, ...] = tuple(DECODERS)) -> None:
        self._decoders = [make_decoder(name) for name in names]

    def feed(self, data: bytes) -> Recognition | None:
        """Return the format that explains most of the bytes; None while none has three valid frames."""
        for decoder in self._decoders:
            decoder.feed(data)
        return self.best()

    def best(self) -> Recognition | None:
        """Return the format that explains most of the bytes; None while none has three valid frames."""
        found = [
            Recognition(decoder.name, decoder.counters.bytes_accepted / decoder.counters.bytes_in)
            for decoder in self._decoders
            if decoder.proof >= MIN_FRAMES
        ]
        return max(found, key=lambda recognition: recognition.confidence, default=None)


def recognise(data: bytes) -> Recognition | None:
    """Return the wire format of `data` and the share of the bytes that it explains, or None.

    A format needs three valid frames or lines to be named.
    """
    return Recogniser().feed(data)
