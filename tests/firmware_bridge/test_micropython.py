"""The MicroPython firmware in MicroPython's interpreter, with a made-up sensor, clock and host."""

import json
import os
import shutil
import subprocess
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs

import firmware_bridge
from firmware_bridge.decoders.hypnic import COMMANDS, HypnicDecoder, command, frame

HERE = Path(__file__).parent
FIRMWARE = Path(firmware_bridge.__file__).parent / "boards" / "micropython" / "main.py"
PACKAGE = "@micropython/micropython-webassembly-pyscript"
INTERPRETER = Path(
    os.environ.get("HYPNIC_MICROPYTHON")
    or HERE.parents[1] / "build" / "micropython" / "node_modules" / PACKAGE / "micropython.mjs"
)

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="no node here"),
    pytest.mark.skipif(
        not INTERPRETER.exists(),
        reason=f"no MicroPython here: npm install --prefix build/micropython {PACKAGE}",
    ),
]


class Played:
    """What the firmware sent while a scenario was played, and what its sensor measured meanwhile."""

    def __init__(self, ms=4000, events=(), who_am_i=0x68, lsm=False, start_us=5, **more):
        scenario = {"ms": ms, "events": list(events), "who_am_i": who_am_i, "lsm": lsm, "start_us": start_us}
        driver = HERE / "micropython_driver.py"
        words = [
            "node",
            HERE / "micropython_run.mjs",
            INTERPRETER,
            FIRMWARE,
            driver,
            json.dumps(scenario | more),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        self.said = json.loads(done.stdout)
        self.ended = self.said["ended"]
        self.sent = bytes.fromhex(self.said["sent"])
        self.measured = self.said.get("measured", [])
        self.decoder = HypnicDecoder()
        parts, self.kinds, self.infos, self.statuses, self.before_status = [], [], [], [], []
        for part in self.sent.split(b"\0"):
            info, status = self.decoder.board, self.decoder.status
            parts.append(self.decoder.feed(part + b"\0"))
            if part:
                with_crc = cobs.decode(part) if more.get("whole", True) else b"\0"
                self.kinds.append(with_crc[0])
            if self.decoder.board is not info:
                self.infos.append(self.decoder.board)
            if self.decoder.status is not status:
                self.statuses.append(self.decoder.status)
                self.before_status.append(sum(map(len, parts)))
        self.xyz = np.concatenate([part.xyz for part in parts])
        self.seq = np.concatenate([part.seq for part in parts])
        self.tick = np.concatenate([part.tick for part in parts])

    def check_counters(self):
        for status, count in zip(self.statuses, self.before_status, strict=True):
            assert status.samples - status.tx_drop - status.missed == count


def at(ms, name, value=0, token=1):
    return [ms, "host", (b"\0" + command(name, token, value)).hex()]


CHIPS = pytest.mark.parametrize(
    ("who_am_i", "lsm", "name", "rate", "scale"),
    [
        (0x68, False, "MPU6050", 100_000, 1 / 8192),
        (0x70, False, "MPU6500", 100_000, 1 / 8192),
        (0x6A, True, "LSM6DSL", 104_000, 122e-6),
        (0x6C, True, "LSM6DSO", 104_000, 122e-6),
    ],
)


@CHIPS
def test_every_sample_as_it_was_measured(who_am_i, lsm, name, rate, scale):
    played = Played(11_000, who_am_i=who_am_i, lsm=lsm)
    assert played.sent[:1] == b"\0"
    assert [info.boot for info in played.infos] == [True, False, False]
    info = played.infos[0]
    assert (info.sensor, info.board, info.rate_mhz, info.uid) == (name, "driver", rate, 0x12345678)
    assert info.scale == pytest.approx(scale)
    assert info.lowpass_dhz == (520 if lsm else 440)
    assert len(played.seq) == len(played.measured) > 1000
    assert played.seq.tolist() == list(range(len(played.seq)))
    np.testing.assert_array_equal(np.rint(played.xyz / info.scale), [values for _, values in played.measured])
    assert played.tick.tolist() == [us for us, _ in played.measured]
    assert len(played.statuses) == 2
    played.check_counters()
    assert played.decoder.counters.bad_frames == 0


def test_ticks_wrap_at_30_bits_inside_and_at_32_outside():
    played = Played(3000, start_us=(1 << 30) - 1_000_000)
    assert len(played.seq) == 300
    assert played.tick[0] < 1 << 30 < played.tick[-1]
    assert (np.diff(played.tick) == 10_000).all()


def test_commands():
    events = [
        at(500, "PING", token=7),
        at(600, "GET_INFO", token=8),
        at(1000, "STOP"),
        at(1500, "START"),
        at(2000, "SET_RATE", 200_000),
        at(2500, "SET_RANGE", 16),
        at(3000, "SET_RANGE", 16),
        at(3100, "SET_RANGE", 5),
        at(3200, "SET_RATE", 1000),
        [3300, "host", frame(bytes((0x1F, 9))).hex()],
    ]
    played = Played(3500, events)
    answers = [(ack.cmd, ack.token, ack.status) for ack in played.decoder.acks]
    assert answers == [
        (COMMANDS["PING"], 7, 0),
        (COMMANDS["GET_INFO"], 8, 0),
        (COMMANDS["STOP"], 1, 0),
        (COMMANDS["START"], 1, 0),
        (COMMANDS["SET_RATE"], 1, 0),
        (COMMANDS["SET_RANGE"], 1, 0),
        (COMMANDS["SET_RANGE"], 1, 0),
        (COMMANDS["SET_RANGE"], 1, 2),
        (COMMANDS["SET_RATE"], 1, 2),
        (0x1F, 9, 1),
    ]
    runs = [kind for kind, _ in groupby(played.kinds)]
    # INFO at boot; ACK alone for PING and what is refused; ACK, INFO and STATUS for all else; no sample in between.
    done = [4, 2, 3]
    assert runs == [2, 1, 4, 1, *done, 1, *done, *done, *(1, *done) * 3, 1, *(4, 1) * 3]
    assert [info.sampling for info in played.infos] == [True, True, False, *[True] * 4]
    assert [info.configuration for info in played.infos] == [0, 0, 0, 0, 1, 2, 2]
    assert played.decoder.board.rate == 200
    assert played.decoder.board.range_g == 16
    assert played.decoder.counters.unscaled == 0
    assert set(np.diff(played.tick[-100:])) == {5000}
    played.check_counters()


@pytest.mark.parametrize(
    ("asked", "got"), [(26_000, 26_000), (50_000, 52_000), (100_000, 104_000), (400_000, 416_000)]
)
def test_rates_of_the_lsm6ds(asked, got):
    played = Played(2000, [at(500, "SET_RATE", asked)], who_am_i=0x6C, lsm=True)
    assert played.decoder.board.rate_mhz == got
    assert played.decoder.acks[0].status == 0
    assert played.decoder.board.configuration == (got != 104_000)


def test_bad_commands_are_counted():
    spoilt = bytearray(command("STOP", 3))
    spoilt[1] ^= 1
    events = [
        [500, "host", "00" + spoilt.hex()],
        [700, "host", "00" + "41" * 300 + "00"],
        at(900, "GET_INFO"),
    ]
    played = Played(1000, events)
    assert played.statuses[-1].rx_bad == 2
    assert played.infos[-1].sampling


def test_what_is_missed_is_counted():
    """Three data-readies while the board is held up, and one within the read of the one before."""
    events = [[1000, "hang", 3], [2000, "in_read", None], at(3000, "GET_INFO")]
    played = Played(3200, events)
    status = played.statuses[-1]
    assert status.missed == 3
    played.check_counters()
    assert played.decoder.counters.lost == status.missed


def test_a_line_that_takes_only_part_of_a_frame():
    events = [[1000, "room", 7], [1200, "room", None], at(2000, "GET_INFO")]
    played = Played(2500, events, whole=False)
    status = played.statuses[-1]
    assert 19 <= status.tx_drop <= 21
    assert played.decoder.counters.lost == status.tx_drop
    played.check_counters()


def test_a_sensor_that_loses_its_power():
    played = Played(8000, [[2000, "power", False], [4500, "power", True]])
    assert [k for k, _ in groupby(info.sampling for info in played.infos)] == [True, False, True]
    assert played.decoder.counters.restarts == 1
    assert played.decoder.status.i2c_err > 0
    assert len(played.seq) > 450
    values = {tuple(values) for _, values in played.measured}
    assert {tuple(row) for row in np.rint(played.xyz * 8192).astype(int).tolist()} <= values


def test_no_sensor():
    played = Played(2000, [at(500, "START"), at(700, "SET_RATE", 50_000)], who_am_i=0x00)
    assert [ack.status for ack in played.decoder.acks] == [3, 3]
    assert played.infos[0].sensor == ""
    assert not played.infos[0].sampling
    assert len(played.seq) == 0


def test_main_runs_until_the_prompt_is_wanted():
    played = Played(main=True)
    assert played.ended == "by the host"
    assert played.said["handler"] == "None"
    assert 250 < len(played.seq) < 310
    assert played.infos[0].uid == 0x9AE0DAAF  # CRC-32 of 12345678
