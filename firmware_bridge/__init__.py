"""Both ends of the wire between an IMU board and hypnic.

`SerialIMU` reads a live board, `ReplayLog` a log of one; `list_boards` says what is plugged in, `recognise`
what some bytes are, and `encode` plays samples as a board. PROTOCOL.md describes our own wire format,
vectors.json gives bytes and their meaning for every format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_bridge.decoders import FORMATS, make_decoder, recognise
    from firmware_bridge.encoders import ENCODERS, encode, introduce
    from firmware_bridge.imu import ReplayLog, SerialIMU
    from firmware_bridge.port import Board, VirtualPort, list_boards

__all__ = [
    "ENCODERS",
    "FORMATS",
    "Board",
    "ReplayLog",
    "SerialIMU",
    "VirtualPort",
    "encode",
    "introduce",
    "list_boards",
    "make_decoder",
    "recognise",
]

_HOMES = {
    "ENCODERS": "encoders",
    "FORMATS": "decoders",
    "Board": "port",
    "ReplayLog": "imu",
    "SerialIMU": "imu",
    "VirtualPort": "port",
    "encode": "encoders",
    "introduce": "encoders",
    "list_boards": "port",
    "make_decoder": "decoders",
    "recognise": "decoders",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"firmware_bridge.{_HOMES[name]}"), name)
