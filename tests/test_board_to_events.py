"""From the firmware's machine code to the events: a simulated board, read, recorded and detected live."""

from __future__ import annotations

from pathlib import Path

import pytest

import hypnic
from firmware_bridge.simboard import SimulatedBoard, missing, write_waveform
from hypnic.chunk import ArraySource
from hypnic.live import Session, prepare
from tests.played import restless

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.parametrize(("drop", "flip"), [(0.0, 0.0), (0.002, 0.002)], ids=["clean", "faulty"])
def test_live_from_a_board_is_detect_on_the_file(tmp_path: Path, drop: float, flip: float) -> None:
    rate, seconds = 100.0, 150.0
    write_waveform(tmp_path / "waveform", ArraySource(restless(seconds, rate), rate))
    night = tmp_path / "night.h5"
    prepare()  # a board at twenty times the speed waits for no compiler
    with SimulatedBoard(tmp_path / "waveform", speed=20.0, drop=drop, flip=flip) as board:
        source = hypnic.open(f"serial:{board.port}", site="wrist", buffer=300.0)
        with source, Session(source, record=night, duration=seconds) as session:
            rows = [row for update in session for row in update.events]
    assert rows
    with hypnic.open(night) as recorded:
        found, stored = hypnic.detect(recorded), recorded.events()
        received = sum(len(chunk) for chunk in recorded)
    assert len(found)
    assert found.to_text("csv") == stored.to_text("csv")
    # How much a busy machine keeps of twenty times the speed is not the matter here.
    assert received > 30 * rate
