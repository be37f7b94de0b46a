"""The firmware's machine code on the simulated board, against what its sensor measured and its UART sent."""

import math
import shutil
import subprocess
from collections import deque
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs

from firmware_bridge import SerialIMU
from firmware_bridge.decoders.hypnic import COMMANDS, HypnicDecoder, command, crc16, frame
from firmware_bridge.port import Link
from firmware_bridge.simboard import CRYSTAL_HZ, SimulatedBoard, build, missing, write_waveform
from firmware_bridge.stream import Assembler
from hypnic.chunk import ArraySource, Chunk
from hypnic.errors import DataError, UsageError
from hypnic.simulate import Sleeper
from tests.firmware_bridge.arrivals import error_of

PER_G = 8192
FIRMWARES = [
    pytest.param(name, marks=pytest.mark.skipif(missing(name) is not None, reason=str(missing(name))))
    for name in build.FIRMWARE
]
pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def waveform(tmp_path_factory):
    """Random counts, so that no sample can be taken for another."""
    xyz = np.random.default_rng(5).normal([0.1, -0.2, 0.9], 0.4, (20_000, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("waveform") / "random"
    write_waveform(path, ArraySource(xyz, 100.0))
    return path


class Sent:
    """What the UART sent before faults: samples as the decoder reads them, and what stands between."""

    def __init__(self, wire):
        decoder = HypnicDecoder()
        parts, self.infos, self.statuses, self.before_status = [], [], [], []
        # The run may end within a frame.
        for part in wire.split(b"\0")[:-1]:
            told, status = decoder.board, decoder.status
            parts.append(decoder.feed(part + b"\0"))
            if decoder.board is not told:
                self.infos.append(decoder.board)
            if decoder.status is not status:
                self.statuses.append(decoder.status)
                self.before_status.append(sum(map(len, parts)))
        self.decoder = decoder
        self.xyz = np.concatenate([part.xyz for part in parts])
        self.seq = np.concatenate([part.seq for part in parts])
        self.tick = np.concatenate([part.tick for part in parts])
        self.missing = np.concatenate([part.missing for part in parts])
        self.counts = np.rint(self.xyz * PER_G).astype(int)


def read_all(board, link):
    """Let a held board run to its end and return every byte that the host got."""
    board.go()
    data = bytearray()
    while not board.over:
        data += link.read()
    board.wait()
    while len(data) < board.result["delivered"]:
        data += link.read()
    link.close()
    return bytes(data)


def run(waveform, **options):
    """Run a board as fast as it can; return it, the bytes that came out of its port and what was sent."""
    with SimulatedBoard(waveform, speed=None, hold=True, **options) as board:
        data = read_all(board, Link(board.port, 115200))
    return board, data, Sent(board.wire)


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_every_sample_arrives_as_it_was_measured(waveform, firmware):
    board, data, sent = run(waveform, firmware=firmware, seconds=22)
    assert data == board.wire
    counters = sent.decoder.counters
    assert counters.lost == counters.bad_frames == counters.implausible == counters.unscaled == 0
    truth = board.truth
    # The run may end between a data-ready and its frame's last byte.
    assert len(truth) - len(sent.counts) in (0, 1)
    assert truth["read"][: len(sent.counts)].all()
    np.testing.assert_array_equal(sent.counts, truth["xyz"][: len(sent.counts)])
    assert sent.seq.tolist() == list(range(len(sent.seq)))
    late = sent.tick / sent.infos[0].tick_hz - truth["cycle"][: len(sent.tick)] / CRYSTAL_HZ
    # All ticks are late by the same, to the 4 us that one counts and what the interrupt may have to wait.
    assert np.ptp(late) < 20e-6


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_introductions_come_as_promised(waveform, firmware):
    _, data, sent = run(waveform, firmware=firmware, seconds=22)
    assert data[:1] == b"\0"
    assert [info.boot for info in sent.infos] == [True, False, False, False, False]
    first = sent.infos[0]
    assert (first.rate, first.range_g, first.scale, first.lowpass_dhz) == (100, 4, 1 / PER_G, 440)
    assert (first.sensor, first.sampling, first.configuration) == ("MPU6050", True, 0)
    assert first.board == ("uno" if firmware == "arduino" else firmware)
    assert sent.decoder.counters.samples == len(sent.seq)
    assert len(sent.statuses) == 4
    for status, count in zip(sent.statuses, sent.before_status, strict=True):
        assert status.samples == count
        assert status.tx_drop == status.missed == status.i2c_err == status.rx_bad == 0
    times = np.array([status.tick for status in sent.statuses]) / first.tick_hz
    np.testing.assert_allclose(np.diff(times), 5, atol=0.02)


class Host:
    """A host that speaks with a board and keeps all it hears, in the order in which it came."""

    def __init__(self, board):
        self.link = Link(board.port, 115200)
        self.decoder = HypnicDecoder()
        self.heard = []
        self._token = 0
        self._frames = deque()
        self._tail = b""

    def listen(self):
        """Hear one frame, or that there is none yet."""
        if not self._frames:
            *frames, self._tail = (self._tail + self.link.read()).split(b"\0")
            self._frames.extend(frames)
        if not self._frames:
            return
        info, status, acks = self.decoder.board, self.decoder.status, len(self.decoder.acks)
        samples = self.decoder.feed(self._frames.popleft() + b"\0")
        if len(samples):
            self.heard.append(("sample", samples))
        elif self.decoder.board is not info:
            self.heard.append(("info", self.decoder.board))
        elif self.decoder.status is not status:
            self.heard.append(("status", self.decoder.status))
        elif len(self.decoder.acks) > acks:
            self.heard.append(("ack", self.decoder.acks.pop()))

    def until(self, condition, most=200_000):
        start = len(self.heard)
        while not (len(self.heard) > start and condition()):
            assert self.decoder.counters.bytes_in < most, "what was waited for did not come"
            self.listen()

    def ask(self, name, value=0, wire=None):
        """Give a command and return the board's answer; what was heard since then is in `heard`."""
        self._token += 1
        self.heard.clear()
        self.link.write(b"\0" + (wire or command(name, self._token, value)))
        self.until(lambda: self.heard[-1][0] == "ack")
        return self.heard[-1][1]

    def ask_again(self, name, value=0):
        """Give a command until it is answered, through a line that spoils some."""
        for _ in range(40):
            self._token += 1
            self.heard.clear()
            self.link.write(b"\0" + command(name, self._token, value))
            for _ in range(200):
                self.listen()
                acks = [what for kind, what in self.heard if kind == "ack" and what.cmd == COMMANDS[name]]
                if acks:
                    return acks[0]
        raise AssertionError(f"{name} was never answered")

    def samples(self, count):
        """Return `count` samples from now on, as counter, ticks and values, and the kinds between them."""
        self.heard.clear()
        self.until(lambda: sum(kind == "sample" for kind, _ in self.heard) >= count)
        taken = [what for kind, what in self.heard if kind == "sample"]
        return (np.concatenate([getattr(part, name) for part in taken]) for name in ("seq", "tick", "xyz"))


@pytest.fixture(params=FIRMWARES)
def host(request, waveform):
    with SimulatedBoard(waveform, speed=None, hold=True, firmware=request.param) as board:
        host = Host(board)
        board.go()
        host.until(lambda: host.decoder.board is not None)
        yield host
        assert host.decoder.counters.bad_frames == host.decoder.counters.unscaled == 0
        host.link.close()


def test_ping_and_get_info(host):
    ack = host.ask("PING")
    assert (ack.cmd, ack.token, ack.status) == (COMMANDS["PING"], 1, 0)
    ack = host.ask("GET_INFO")
    assert (ack.cmd, ack.token, ack.status) == (COMMANDS["GET_INFO"], 2, 0)
    host.until(lambda: host.heard[-1][0] == "status")
    assert [kind for kind, _ in host.heard[-3:]] == ["ack", "info", "status"]


def test_stop_and_start(host):
    assert host.ask("STOP").status == 0
    host.heard.clear()
    host.until(lambda: sum(kind == "info" for kind, _ in host.heard) == 2)
    assert [kind for kind, _ in host.heard] == ["info", "status", "info"]
    assert not host.decoder.board.sampling
    stood = host.decoder.status.samples
    assert host.ask("STOP").status == 0
    assert host.ask("START").status == 0
    host.until(lambda: host.heard[-1][0] == "sample")
    assert [kind for kind, _ in host.heard[-4:]] == ["ack", "info", "status", "sample"]
    assert host.decoder.board.sampling
    seq, *_ = host.samples(50)
    # Ticks ran on while the counter stood: a break, after which the first sample waits for the second.
    assert host.decoder.counters.lost == 0
    assert (np.diff(seq) == 1).all()
    assert seq[0] <= stood + 3
    assert host.decoder.board.configuration == 0


@pytest.mark.parametrize(
    ("asked", "got"), [(200_000, 200_000), (50_000, 50_000), (105_000, 100_000), (340_000, 333_333)]
)
def test_set_rate(host, asked, got):
    assert host.ask("SET_RATE", asked).status == 0
    host.until(lambda: host.heard[-1][0] == "sample")
    assert [kind for kind, _ in host.heard[-4:]] == ["ack", "info", "status", "sample"]
    assert host.decoder.board.rate_mhz == got
    assert host.decoder.board.configuration == (got != 100_000)
    assert host.decoder.board.lowpass_dhz * 200 <= got
    _, tick, _ = host.samples(60)
    period = np.diff(tick) / host.decoder.board.tick_hz
    np.testing.assert_allclose(period, 1000 / got, rtol=0.01)


def test_set_range(host):
    *_, before = host.samples(20)
    for number, range_g in enumerate((2, 8, 16), 1):
        assert host.ask("SET_RANGE", range_g).status == 0
        *_, xyz = host.samples(20)
        assert host.decoder.board.range_g == range_g
        assert host.decoder.board.configuration == number
        counts = xyz * 32768 / range_g
        np.testing.assert_array_equal(counts, np.rint(counts))
        # The same random sensor in every range, but for what ±2 g cuts off.
        assert abs(np.median(xyz[:, 2]) - np.median(before[:, 2])) < 0.6
        assert host.ask("SET_RANGE", range_g).status == 0
        assert host.decoder.board.configuration == number


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("SET_RATE", 1000, 2),
        ("SET_RATE", 0, 2),
        ("SET_RATE", 600_000, 2),
        ("SET_RATE", 0xFFFFFFFF, 2),
        ("SET_RANGE", 3, 2),
        ("SET_RANGE", 0, 2),
    ],
)
def test_what_is_not_possible_changes_nothing(host, name, value, status):
    assert host.ask(name, value).status == status
    _, tick, _ = host.samples(10)
    assert host.decoder.board.rate_mhz == 100_000
    assert host.decoder.board.range_g == 4
    np.testing.assert_allclose(np.diff(tick) / host.decoder.board.tick_hz, 0.01, rtol=0.01)


def test_unknown_command(host):
    ack = host.ask("PING", wire=frame(bytes((0x1F, 9))))
    assert (ack.cmd, ack.token, ack.status) == (0x1F, 9, 1)


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_faults_lose_samples_but_spoil_none(waveform, firmware):
    """0.2 % of the bytes lost and 0.2 % of the bits inverted: accepted and lost make up what was sent."""
    seconds = 180 if firmware == "atmega328p" else 60
    board, data, sent = run(waveform, firmware=firmware, seconds=seconds, drop=0.002, flip=0.002, seed=3)
    assert board.result["dropped"] > 0.001 * len(board.wire)
    assert board.result["flipped"] > 8 * 0.001 * len(board.wire)
    decoder = HypnicDecoder()
    got = decoder.feed(data)
    counters = decoder.counters
    assert counters.implausible == counters.duplicates == counters.restarts == 0
    number = {int(seq): n for n, seq in enumerate(sent.seq)}
    at = [number[seq] for seq in got.seq.tolist()]
    np.testing.assert_array_equal(got.xyz, sent.xyz[at])
    np.testing.assert_array_equal(got.tick, sent.tick[at])
    # Samples that come before the first whole INFO have no scale yet, but they arrived.
    first = number[first_sample(data)]
    assert first < 10
    assert counters.samples + counters.unscaled + counters.lost == at[-1] - first + 1
    assert 0.6 < counters.samples / len(sent.seq) < 0.9
    assert counters.bytes_accepted + counters.bytes_discarded + decoder.pending == len(data)
    assembler = Assembler(HypnicDecoder(), 100.0)
    chunks = [*assembler.feed(data, math.nan), *assembler.finish()]
    assert sum(map(len, chunks)) == counters.samples
    assert counters.samples + assembler.missing == at[-1] - at[0] + 1


def first_sample(data):
    """Return the number of the first sample that is whole."""
    for part in data.split(b"\0"):
        with suppress(cobs.DecodeError):
            body = cobs.decode(part)
            if len(body) == 16 and crc16(body[:-2]) == int.from_bytes(body[-2:], "little"):
                return int.from_bytes(body[2:4], "little")
    raise AssertionError("no sample came through")


def test_commands_come_through_a_bad_line(waveform):
    with SimulatedBoard(waveform, speed=None, hold=True, drop=0.04, seed=1) as board:
        host = Host(board)
        board.go()
        most = 1_000_000
        host.until(lambda: host.decoder.board is not None, most)
        for _ in range(30):
            assert host.ask_again("PING").status == 0
        assert host.ask_again("SET_RATE", 50_000).status == 0
        host.until(lambda: host.decoder.board.rate == 50, most)
        host.until(lambda: host.heard[-1][0] == "status", most)
        assert host.decoder.status.rx_bad > 0
        assert board.result == {}
        host.link.close()


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_more_than_the_wire_carries_is_dropped_whole_and_counted(waveform, firmware):
    """500 samples a second and as many INFOs as the host can ask for do not fit in 115200 baud.

    Nor does a sample at a new scale go out before the INFO that tells it.
    """
    with SimulatedBoard(waveform, firmware=firmware, speed=None, hold=True) as board:
        host = Host(board)
        board.go()
        host.until(lambda: host.decoder.board is not None)
        assert host.ask("SET_RATE", 500_000).status == 0
        for token in range(2000):
            host.link.write(command("SET_RANGE", token % 256, 2 + 2 * (token % 2)))
            if token % 8 == 0:
                host.listen()
            if host.decoder.status is not None and host.decoder.status.tx_drop > 20:
                break
        host.until(lambda: host.heard[-1][0] == "sample")
        host.link.close()
    sent = Sent(board.wire)
    assert sent.decoder.counters.bad_frames == sent.decoder.counters.unscaled == 0
    assert len({info.configuration for info in sent.infos}) > 4
    assert sent.statuses[-1].tx_drop > 20
    for status, count in zip(sent.statuses, sent.before_status, strict=True):
        assert status.samples - status.tx_drop - status.missed == count
    assert sent.decoder.counters.lost == sent.missing.sum() > 20


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_reset(waveform, firmware):
    board, data, sent = run(waveform, firmware=firmware, seconds=12, at=[(6.0035, "reset")])
    assert [info.boot for info in sent.infos] == [True, False, True, False]
    assert sent.decoder.counters.restarts == 1
    assert sent.decoder.counters.lost == 0
    read = board.truth["xyz"][board.truth["read"]]
    assert len(read) - len(sent.counts) in (0, 1, 2)
    cut = int(np.flatnonzero(np.diff(sent.seq) < 0)[0]) + 1
    np.testing.assert_array_equal(sent.counts[:cut], read[:cut])
    after = len(sent.counts) - cut
    at = np.flatnonzero((read == sent.counts[cut]).all(1))[0]
    np.testing.assert_array_equal(sent.counts[cut:], read[at : at + after])
    assembler = Assembler(HypnicDecoder(), 100.0)
    assert sum(map(len, assembler.feed(data, math.nan))) == len(sent.counts)
    assert assembler.segments == 2


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_ticks_wrap(waveform, firmware):
    hertz = 250_000 if firmware == "atmega328p" else 1_000_000
    board, data, sent = run(waveform, firmware=firmware, seconds=12, start_tick=2**32 - 6 * hertz)
    assert sent.tick[0] > 2**31 > sent.tick[-1]
    assembler = Assembler(HypnicDecoder(), 100.0)
    chunks = [*assembler.feed(data, board.started), *assembler.finish()]
    assert sum(map(len, chunks)) == len(sent.counts)
    assert assembler.missing == 0
    assert assembler.segments == 1
    assert assembler.decoder.counters.restarts == assembler.decoder.counters.implausible == 0


def replay(board, data, jitter=0.0):
    """Decode and stamp `data` as a host does that was handed it when the log says; return samples and times."""
    assembler = Assembler(HypnicDecoder(), 100.0)
    rng = np.random.default_rng(8)
    xyz, times, at = [], [], 0
    arrival = 0.0
    for time, count in board.deliveries.tolist():
        arrival = max(arrival, board.started + time + rng.gamma(1.0, jitter))
        for chunk in assembler.feed(data[at : at + count], arrival):
            xyz.append(chunk.xyz)
            times.append(np.full(len(chunk), np.nan))
            times[-1][0] = chunk.time
        at += count
    assert at == len(data)
    return np.concatenate(xyz), np.concatenate(times), assembler


def test_clock_errors_are_recovered(waveform):
    """A crystal 80 ppm fast, a sensor 0.8 % slow and a bridge that hands over every 16 ms."""
    board, data, sent = run(waveform, seconds=150, crystal_ppm=80, sensor_ppm=-8000, latency_ms=16)
    xyz, times, assembler = replay(board, data, jitter=2e-4)
    np.testing.assert_array_equal(xyz, sent.xyz)
    true = board.started + board.truth["time"][board.truth["read"]][: len(times)]
    stamped = ~np.isnan(times)
    assert stamped.sum() > 5000
    spread, drift = error_of(times[stamped], true[stamped], 60.0)
    assert spread < 0.5
    assert abs(drift) < 5
    assert assembler.residual < 2e-3
    estimate = assembler.effective_rate
    assert abs(estimate.rate - 99.2) < 5 * estimate.sd + 1e-3
    assert estimate.sd < 0.01


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_sensor_that_loses_its_power(waveform, firmware):
    board, _, sent = run(
        waveform, firmware=firmware, seconds=14, at=[(4.0045, "sensor off"), (7.0045, "sensor on")]
    )
    assert [sampling for sampling, _ in groupby(info.sampling for info in sent.infos)] == [True, False, True]
    assert {info.configuration for info in sent.infos} == {0}
    assert sent.statuses[-1].i2c_err > 0
    for status, count in zip(sent.statuses, sent.before_status, strict=True):
        # The decoder holds the first sample after the hole until the second.
        assert status.samples - status.tx_drop - status.missed - count in (0, 1)
    np.testing.assert_array_equal(sent.counts, board.truth["xyz"][board.truth["read"]][: len(sent.counts)])
    times = board.truth["time"][board.truth["read"]]
    hole = np.diff(times).argmax()
    assert times[hole] < 4.0045 < 7.0045 < times[hole + 1] < 9


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_sample_that_cannot_be_read_is_missed_and_counted(waveform, firmware):
    """The sensor goes between a data-ready and the read that it asks for."""
    first = run(waveform, firmware=firmware, seconds=0.5)[0].truth["time"][0]
    board, _, sent = run(
        waveform, firmware=firmware, seconds=8, at=[(first + 3.9 + 5e-6, "sensor off")], latency_ms=0.005
    )
    last = sent.statuses[-1]
    assert last.missed == 1
    assert last.i2c_err > 0
    assert last.samples == len(board.truth) == board.truth["read"].sum() + 1
    assert last.samples - last.tx_drop - last.missed == len(sent.seq)


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_another_chip_under_the_same_name(waveform, firmware):
    _, _, sent = run(waveform, firmware=firmware, seconds=2, who_am_i=0x70)
    assert sent.infos[0].sensor == "MPU6500"
    assert len(sent.seq) > 150


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_no_sensor(waveform, firmware):
    with SimulatedBoard(waveform, firmware=firmware, speed=None, hold=True, who_am_i=0x33) as board:
        host = Host(board)
        board.go()
        host.until(lambda: host.decoder.board is not None)
        assert host.ask("START").status == 3
        assert host.ask("SET_RATE", 50_000).status == 3
        assert not host.decoder.board.sampling
        assert host.decoder.board.sensor == ""
        assert host.decoder.board.rate == 100
        host.link.close()
    assert len(Sent(board.wire).seq) == 0


def test_host_opens_the_board_and_sets_it(waveform):
    with (
        SimulatedBoard(waveform, speed=10) as board,
        SerialIMU(board.port, rate=200, range_g=8) as imu,
    ):
        assert imu.rate == 200
        chunks = collect(imu, 400)
        # First comes what was sent while the board was being set.
        while imu.info["range_g"] != 8:
            chunks += collect(imu, 400)
        assert imu.info["sensor"] == "MPU6050"
        assert imu.counters["lost"] == imu.counters["bad_frames"] == 0
    xyz = np.concatenate([chunk.xyz for chunk in chunks])
    read = board.truth[board.truth["read"]]
    measured = (read["xyz"] * (read["range_g"] / 32768)[:, None]).astype(np.float32)
    # At 200 Hz each sample of the waveform is measured twice.
    starts = np.flatnonzero((measured == xyz[0]).all(1))
    assert any(np.array_equal(measured[at : at + len(xyz)], xyz) for at in starts)


def collect(source, wanted):
    chunks = []
    for chunk in source:
        if len(chunk):
            chunks.append(chunk)
            wanted -= len(chunk)
        if wanted <= 0:
            return chunks
    raise AssertionError("the source has ended")


def test_replugged_board_is_found_and_read_on(waveform, tmp_path):
    link = tmp_path / "wrist"
    with SimulatedBoard(waveform, link=link) as board, SerialIMU(str(link), wake=0.05) as imu:
        before = collect(imu, 300)
        board.unplug()
        for chunk in imu:
            before += [chunk] if len(chunk) else []
            if imu.status == "disconnected":
                break
        board.plug()
        after = collect(imu, 200)
        assert imu.counters["reconnects"] == 1
        assert imu.counters["segments"] == 2
        assert imu.counters["lost"] == 0
    times = {tuple(row["xyz"].tolist()): row for row in board.truth}

    def rows(chunks):
        counts = np.rint(np.concatenate([chunk.xyz for chunk in chunks]) * PER_G).astype(int)
        return [times[tuple(row)] for row in counts.tolist()]

    first, second = rows(before), rows(after)
    # Nothing between is lost, and the last before the plug was pulled are there up to those on the wire.
    assert all(np.diff([row["cycle"] for row in first]) > 0)
    assert {row["boot"] for row in first} == {0}
    assert {row["boot"] for row in second} == {1}
    end = board.truth["time"][board.truth["boot"] == 0][-1]
    assert end - first[-1]["time"] < 0.03
    hole = after[0].index - (before[-1].index + len(before[-1]))
    assert hole == after[0].missing
    # Reckoned from arrivals, which are late where the machine is busy.
    assert abs(hole - 100 * (second[0]["time"] - first[-1]["time"]) + 1) < 50


def test_without_power_nothing_is_measured(waveform):
    with SimulatedBoard(waveform, speed=50, seconds=9, at=[(3, "unplug"), (6, "plug")]) as board:
        board.wait()
    assert board.result["boots"] == 2
    times = board.truth["time"]
    hole = np.diff(times).argmax()
    assert times[hole] < 3.01 < 6 < times[hole + 1] < 6.3
    np.testing.assert_allclose(np.delete(np.diff(times), hole), 0.01, rtol=1e-3)
    assert board.truth["boot"].tolist() == [0] * (hole + 1) + [1] * (len(times) - hole - 1)
    assert [info.boot for info in Sent(board.wire).infos] == [True, True]
    # Nobody read the port: what it could not hold is lost and counted.
    assert board.result["overrun"] + board.result["delivered"] <= board.result["sent"]


@pytest.mark.parametrize("speed", [50, None])
def test_a_run_may_end_without_power(waveform, speed):
    with SimulatedBoard(waveform, speed=speed, seconds=3, at=[(1, "unplug")]) as board:
        board.wait()
    assert board.result["seconds"] == 3
    assert len(board.truth) < 100


def test_a_night_comes_out_as_it_went_in(tmp_path):
    sleeper = Sleeper("wrist", hours=0.1, seed=4, faults=False, sensor="MPU6050")
    path = tmp_path / "night"
    assert write_waveform(path, sleeper, seconds=60) == 6000
    board, _, sent = run(path, seconds=59)
    night = np.concatenate([chunk.xyz for chunk in sleeper])[:6000]
    counts = np.clip(np.rint(night * PER_G), -32768, 32767).astype(int)
    at = round(board.truth["time"][0] * 100)
    assert len(sent.counts) > 5800
    np.testing.assert_array_equal(sent.counts, counts[at : at + len(sent.counts)])


def test_waveform_keeps_the_last_sample_in_holes(tmp_path):
    class Holed:
        rate, site = 50.0, "wrist"

        def __iter__(self):
            yield Chunk(np.full((2, 3), 0.5, np.float32), 0)
            yield Chunk(np.full((1, 3), np.nan, np.float32), 4, missing=2)
            yield Chunk(np.full((1, 3), 9, np.float32), 5)

    path = tmp_path / "holed"
    assert write_waveform(path, Holed()) == 6
    raw = path.read_bytes()
    assert raw[:8] == b"hypnicwf"
    assert np.frombuffer(raw[8:24], "<f8").tolist() == [50, PER_G]
    assert np.frombuffer(raw[24:], "<i2")[::3].tolist() == [4096, 4096, 4096, 4096, 0, 32767]
    assert write_waveform(path, Holed(), seconds=0.06) == 3
    with pytest.raises(DataError, match="no samples"):
        write_waveform(path, ArraySource(np.empty((0, 3)), 50.0))


def test_what_cannot_be_played(tmp_path, waveform):
    (tmp_path / "text").write_text("no waveform")
    with pytest.raises(DataError, match="text is not a waveform"):
        SimulatedBoard(tmp_path / "text")
    with SimulatedBoard(waveform) as board:
        board.command("jump")
        with pytest.raises(DataError, match="unknown command: jump"):
            board.wait()
    for options, words in (({"speed": 0}, "speed"), ({"drop": 2}, "drop"), ({"latency_ms": 0}, "latency_ms")):
        with pytest.raises(UsageError, match=words):
            SimulatedBoard(waveform, **options)
    with pytest.raises(UsageError, match="firmware 'pdp11' is unknown: use atmega328p, arduino"):
        SimulatedBoard(waveform, firmware="pdp11")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_makefile_makes_what_is_flashed(tmp_path):
    boards = Path(build.__file__).parents[1] / "boards"
    shutil.copytree(boards, tmp_path / "boards")
    folder = tmp_path / "boards" / "atmega328p"
    subprocess.run(["make", "-C", folder], check=True, capture_output=True)
    lines = (folder / "hypnic.hex").read_text().split()
    assert lines[-1] == ":00000001FF"
    # 32 KB less the boot loader of an Uno or an old Nano.
    assert 4096 < sum(int(line[1:3], 16) for line in lines) < 30 * 1024


def test_machine_without_the_tools(waveform, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"cc, avr-gcc, avr-g\+\+ not found: apt-get install .*simavr"):
        SimulatedBoard(waveform)


def test_frames_on_the_wire_are_whole(waveform):
    """Nothing but COBS frames with right CRCs leaves the board, from its first byte on."""
    board, *_ = run(waveform, seconds=6)
    frames = [part for part in board.wire.split(b"\0")[:-1] if part]
    assert all(len(cobs.decode(frame)) >= 10 for frame in frames)
    assert {cobs.decode(frame)[0] for frame in frames} == {1, 2, 3}
