"""SerialIMU on ptys and sockets, and ReplayLog: what comes out, and what happens when things go wrong."""

import errno
import socket
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count

import numpy as np
import pytest
import serial
from serial import rfc2217

from firmware_bridge import ReplayLog, SerialIMU, VirtualPort
from firmware_bridge import imu as imu_module
from firmware_bridge import port as port_module
from firmware_bridge.decoders import make_decoder
from firmware_bridge.decoders.hypnic import COMMANDS, Ack, Info, Status, frame, sample_body
from firmware_bridge.encoders import encode, introduce
from firmware_bridge.rawlog import MAGIC, RawLog, read_log
from hypnic.chunk import Chunk, Source
from hypnic.errors import DataError, UsageError

RATE = 100.0


def resting(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([0.05, -0.1, 0.99]) + rng.normal(0, 0.02, (count, 3))


class FakeBoard(threading.Thread):
    """A board on a pty that speaks our protocol: samples as fast as they are taken, answers to commands."""

    def __init__(self, port, rates=(50_000, 100_000, 200_000), ranges=(2, 4, 8)):
        super().__init__(daemon=True)
        self.port = port
        self.commands = []
        self.seq = 0
        self.tick = 0
        self.sampling = True
        self.answers = True
        self._rates, self._ranges = rates, ranges
        self._configuration = 0
        self._rate, self._range = 100_000, 2
        self._over = threading.Event()

    def info(self, boot=False):
        info = Info(
            1_000_000,
            self._rate,
            1,
            32768 // self._range,
            self._range,
            0x0102,
            0xC0FFEE,
            440,
            "MPU6050",
            "fake",
            boot,
            self.sampling,
            self._configuration,
        )
        return frame(info.body())

    def obey(self, body):
        self.commands.append(body[0])
        status = 0
        if body[0] == COMMANDS["SET_RATE"]:
            asked = int.from_bytes(body[2:6], "little")
            rate = min(self._rates, key=lambda rate: abs(rate - asked))
            if abs(rate / asked - 1) > 0.1:
                status = 2
            else:
                self._configuration += rate != self._rate
                self._rate = rate
        elif body[0] == COMMANDS["SET_RANGE"]:
            if body[2] in self._ranges:
                self._configuration += body[2] != self._range
                self._range = body[2]
            else:
                status = 2
        elif body[0] == COMMANDS["START"]:
            self.sampling = True
        ack = frame(Ack(body[0], body[1], status, self.tick).body())
        return ack + self.info() + frame(Status(0, self.tick, self.seq, 0, 0, 0).body())

    def run(self):
        from cobs import cobs

        try:
            self.port.send(b"\0" + self.info(boot=True))
            while not self._over.wait(0.002):
                out = b""
                for part in self.port.read().split(b"\0"):
                    if part and self.answers:
                        out += self.obey(cobs.decode(part)[:-2])
                for _ in range(4 if self.sampling else 0):
                    raw = (0, 0, 32768 // self._range)
                    out += frame(sample_body(self.seq, self.tick, raw, self._configuration))
                    self.seq += 1
                    self.tick += round(1e9 / self._rate)
                self.port.send(out)
        except OSError:
            pass

    def stop(self):
        self._over.set()
        self.join()


@pytest.fixture
def board():
    """Return a maker of fake boards, each with its port, that go when the test is over."""
    made = []

    def make(link=None, **options):
        fake = FakeBoard(VirtualPort(link), **options)
        made.append(fake)
        fake.start()
        return fake

    yield make
    for fake in made:
        fake.stop()
        fake.port.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Shorten what a person would wait for."""
    monkeypatch.setattr(imu_module, "_LISTEN", 0.2)
    monkeypatch.setattr(imu_module, "_BOOT", 0.6)
    monkeypatch.setattr(imu_module, "_PATIENT", 2.0)
    monkeypatch.setattr(imu_module, "_COMMAND_EVERY", 0.05)


@pytest.fixture
def hurried(monkeypatch):
    """Shorten it further, for a board that will not answer, or at once."""
    for name in ("_LISTEN", "_BOOT", "_PATIENT"):
        monkeypatch.setattr(imu_module, name, 0.05)


def within(source, seconds=30.0):
    """Yield the chunks of a live source, and fail if they do not end in time."""
    deadline = time.monotonic() + seconds
    for chunk in source:
        yield chunk
        assert time.monotonic() < deadline, "what was waited for did not come"


def wait_until(condition, seconds=30.0):
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        pause.wait(0.01)


def collect(source, wanted):
    """Return chunks until they hold `wanted` samples."""
    chunks = []
    for chunk in within(source):
        if len(chunk):
            chunks.append(chunk)
            wanted -= len(chunk)
        if wanted <= 0:
            break
    return chunks


def check(chunks):
    following, before = chunks[0].index - chunks[0].missing, -np.inf
    for chunk in chunks:
        assert chunk.index == following + chunk.missing
        assert not chunk.time <= before
        following, before = chunk.index + len(chunk), chunk.time
    return chunks


def test_a_board_of_ours(board):
    fake = board()
    with SerialIMU(fake.port.path, site="mattress") as imu:
        assert isinstance(imu, Source)
        assert imu.rate == RATE
        assert imu.site == "mattress"
        chunks = check(collect(imu, 2000))
        assert imu.status == "streaming"
        assert imu.info["sensor"] == "MPU6050"
        assert imu.info["format"] == "hypnic"
        assert imu.baud == 115200
        assert imu.board.port == fake.port.path
        # The fake board is in a hurry.
        assert all("samples come much faster" in warning for warning in imu.warnings)
    assert imu.status == "closed"
    assert np.concatenate([chunk.xyz for chunk in chunks])[:, 2].tolist() == [1.0] * sum(map(len, chunks))
    counters = imu.counters
    assert counters["samples"] >= 2000
    assert counters["lost"] == counters["bad_frames"] == counters["missing"] == counters["dropped"] == 0


def test_rate_and_range_are_set(board):
    fake = board()
    with SerialIMU(fake.port.path, rate=200, range_g=8) as imu:
        assert imu.rate == 200
        chunks = collect(imu, 400)
        assert imu.info["range_g"] == 8
    assert chunks[-1].xyz[-1].tolist() == [0, 0, 1]
    assert {COMMANDS["SET_RATE"], COMMANDS["SET_RANGE"]} <= set(fake.commands)


def test_the_boards_nearest_rate_is_taken(board):
    fake = board(rates=(97_000,))
    with SerialIMU(fake.port.path, rate=106) as imu:
        assert imu.rate == 97
        assert len(collect(imu, 50))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rate": 400}, "refused 400 Hz .* it is at 100 Hz"), ({"range_g": 16}, "refused ±16 g")],
)
def test_what_the_board_refuses(board, options, words):
    fake = board()
    with pytest.raises(DataError, match=words):
        SerialIMU(fake.port.path, **options)


@pytest.mark.parametrize("fmt", ["hypnic", None])
def test_a_stopped_board_is_started(board, fmt):
    fake = board()
    fake.sampling = False
    with SerialIMU(fake.port.path, format=fmt) as imu:
        assert len(collect(imu, 100))
    assert COMMANDS["START"] in fake.commands


def test_another_boards_rate_is_set_back(board):
    fake = board()
    with SerialIMU(fake.port.path) as imu:
        collect(imu, 100)
        fake.answers = False
        fake._rate = 200_000
        fake._configuration += 1
        fake.port.send(fake.info())
        for _ in within(imu):
            if imu.counters["wrong_rate"]:
                break
        fake.answers = True
        collect(imu, 500)
        assert imu.rate == RATE
    assert COMMANDS["SET_RATE"] in fake.commands


def test_replug_goes_on_in_a_new_segment(board, tmp_path):
    link = tmp_path / "wrist"
    first = board(link)
    with SerialIMU(str(link), wake=0.02) as imu:
        chunks = collect(imu, 500)
        first.stop()
        first.port.close()
        seen = set()
        for chunk in within(imu):
            if len(chunk):
                chunks.append(chunk)
            seen.add(imu.status)
            if imu.status == "disconnected":
                break
        assert f"{link} is disconnected: it is looked for" in imu.warnings
        board(link)
        chunks += collect(imu, 500)
        check(chunks)
        assert imu.counters["reconnects"] == 1
        assert imu.counters["segments"] == 2
        assert imu.counters["lost"] == 0
        assert {chunk.reason for chunk in chunks if chunk.missing} <= {"port lost"}


def test_what_was_held_back_comes_out_when_the_port_is_lost(board, monkeypatch):
    fake = board()
    with SerialIMU(fake.port.path) as imu:
        collect(imu, 100)
        held = Chunk(np.full((1, 3), 7, np.float32), 10**6, np.nan, 1)
        monkeypatch.setattr(imu._assembler, "port_lost", lambda: [held])
        fake.stop()
        fake.port.close()
        for chunk in within(imu):
            if chunk.index == 10**6 and len(chunk):
                break
        assert chunk is held


def test_lost_port_ends_the_iteration_if_so_wished(board):
    fake = board()
    imu = SerialIMU(fake.port.path, reconnect=False)
    collect(imu, 100)
    fake.stop()
    fake.port.close()
    assert sum(len(chunk) for chunk in within(imu)) >= 0
    assert imu.status == "closed"
    imu.close()


def test_iteration_wakes_without_data(board):
    fake = board()
    with SerialIMU(fake.port.path, wake=0.01, stall=0.05, reconnect=False) as imu:
        collect(imu, 100)
        fake.stop()
        following = None
        for chunk in within(imu):
            following = chunk.index + len(chunk)
            if imu.status == "stalled":
                break
        for chunk in within(imu):
            if not len(chunk):
                assert chunk.index == following
                assert chunk.missing == 0
                assert chunk.xyz.shape == (0, 3)
                break
            following = chunk.index + len(chunk)
        assert imu.counters["stalls"] == 1
        assert any("is stalled" in warning for warning in imu.warnings)


def test_a_silent_board_is_opened_anew(board):
    fake = board()
    with SerialIMU(fake.port.path, wake=0.01, stall=0.02) as imu:
        collect(imu, 100)
        fake.stop()
        for _ in within(imu):
            if imu.counters["reconnects"]:
                break
        again = FakeBoard(fake.port)
        again.start()
        chunks = collect(imu, 200)
        again.stop()
    assert sum(map(len, chunks)) >= 200


def test_a_slow_consumer_sees_a_gap_and_then_the_present(board):
    fake = board()
    with SerialIMU(fake.port.path, buffer=1.0) as imu:
        wait_until(lambda: imu.counters["dropped"] >= 500)
        chunks = check(collect(imu, 300))
        assert chunks[0].missing >= 500
        assert chunks[0].reason == "reader too slow"
        assert chunks[0].index - chunks[0].missing == 0
        assert "too slow" in imu.warnings[0]


def test_closing_from_another_thread(board):
    fake = board()
    imu = SerialIMU(fake.port.path)
    threading.Timer(0.05, imu.close).start()
    for _ in within(imu):
        pass
    imu.close()
    assert imu.status == "closed"


class FakeLink:
    """A port whose board speaks at one baud rate; at any other the host sees garbage, or nothing."""

    right = 38400
    garbage = True
    data = b""
    tried: list

    def __init__(self, port, baud):
        self.baud = baud
        self.at = 0
        type(self).tried = [baud]

    def set_baud(self, baud):
        self.baud = baud
        self.tried.append(baud)

    def read(self):
        if self.baud == self.right:
            self.at += 200
            return self.data[self.at - 200 : self.at]
        return bytes(np.random.default_rng(1).integers(0, 256, 50, dtype=np.uint8)) if self.garbage else b""

    def drain(self):
        return b""

    def write(self, data):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("garbage", [True, False])
@pytest.mark.parametrize("fmt", ["witmotion", "mpu6050-raw"])
def test_baud_rate_is_found(hurried, monkeypatch, tmp_path, fmt, garbage):
    monkeypatch.setattr(imu_module, "Link", FakeLink)
    monkeypatch.setattr(FakeLink, "garbage", garbage)
    monkeypatch.setattr(FakeLink, "data", encode(resting(20_000), fmt, RATE))
    with SerialIMU(str(tmp_path / "port"), rate=100, reconnect=False) as imu:
        assert imu.baud == 38400
        assert imu.info["format"] == make_decoder(fmt).name
        assert FakeLink.tried == [115200, 9600, 38400]
        assert len(collect(imu, 100))


def test_baud_rates_of_a_known_format_come_first(hurried, monkeypatch, tmp_path):
    monkeypatch.setattr(imu_module, "Link", FakeLink)
    with pytest.raises(
        DataError, match=r"nothing in format witmotion on .*port at 9600 \(\d+ bytes\), 115200"
    ):
        SerialIMU(str(tmp_path / "port"), format="witmotion")


def test_silence_is_reported(hurried):
    with (
        VirtualPort() as port,
        pytest.raises(DataError, match=r"no known format on .* at 57600 \(0 bytes\) baud"),
    ):
        SerialIMU(port.path, baud=57600)


@contextmanager
def playing(make):
    """Open a port to which the bytes of ``make(0)``, ``make(1)`` ... are sent, with or without a reader."""
    over = threading.Event()
    with VirtualPort() as port:

        def run():
            for number in count():
                if over.wait(0.002):
                    break
                with suppress(TimeoutError):
                    port.send(make(number), timeout=1.0)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield port
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("parts", "options", "error", "words"),
    [
        (b"\x55\x59" + bytes(8) + b"\xae", {}, DataError, "quaternions"),
        (
            b"# hypnic-csv v1 lsb_per_g=1 rate_hz=10 tick_hz=0\n1,0,0,0,1\n2,0,0,0,1\n3,0,0,0,1\n",
            {},
            UsageError,
            "10 Hz",
        ),
        (
            b"# hypnic-csv v1 lsb_per_g=1 rate_hz=100 tick_hz=0\n1,0,0,0,1\n2,0,0,0,1\n3,0,0,0,1\n",
            {"rate": 50},
            DataError,
            "states 100 Hz, not 50",
        ),
        (frame(Info(1, 100_000, 1, 1, proto=7).body()), {}, DataError, "version 7"),
    ],
)
def test_streams_that_cannot_be_used(parts, options, error, words):
    with playing(lambda _: parts * 10) as port, pytest.raises(error, match=words):
        SerialIMU(port.path, **options)


def test_rate_is_measured_where_nothing_states_it(monkeypatch):
    """Ticks measure it here, so that no clock is waited for."""
    with (
        playing(lambda number: encode(resting(4), "razor", RATE, 4 * number)) as port,
        SerialIMU(port.path) as imu,
    ):
        assert imu.rate == RATE
        assert sum(map(len, collect(imu, 400))) >= 400


def test_socket_that_ends(board):
    server = socket.create_server(("127.0.0.1", 0))
    xyz = resting(1000)

    def serve():
        connection, _ = server.accept()
        # Opening the port throws away what is there already; then the host asks who this is.
        connection.recv(1)
        connection.sendall(introduce("hypnic", RATE) + encode(xyz, "hypnic", RATE))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with SerialIMU(f"socket://127.0.0.1:{server.getsockname()[1]}", reconnect=False) as imu:
        got = np.concatenate([chunk.xyz for chunk in within(imu)])
    np.testing.assert_allclose(got, xyz, atol=1e-3)
    thread.join()
    server.close()


@pytest.mark.filterwarnings("ignore:set(Daemon|Name)")
def test_a_port_behind_rfc2217():
    """The server half of RFC 2217 is pyserial's own; what it serves loops back, so the samples start there."""
    server = socket.create_server(("127.0.0.1", 0))
    xyz = resting(1000)
    bauds = set()

    class Served:
        def __init__(self, connection):
            self.write = connection.sendall
            port = serial.serial_for_url("loop://", timeout=0)
            manager = rfc2217.PortManager(port, self)
            sent = False
            while data := connection.recv(4096):
                asked = b"".join(manager.filter(data))
                bauds.add(port.baudrate)
                if asked and not sent:
                    sent = True
                    data = introduce("hypnic", RATE) + encode(xyz, "hypnic", RATE)
                    self.write(b"".join(manager.escape(data)))

    def serve():
        with server.accept()[0] as connection:
            Served(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    with SerialIMU(f"rfc2217://127.0.0.1:{server.getsockname()[1]}", baud=57600) as imu:
        got = np.concatenate([chunk.xyz for chunk in collect(imu, 1000)])
    np.testing.assert_allclose(got, xyz, atol=1e-3)
    assert 57600 in bauds
    thread.join()
    server.close()


def test_every_baud_rate_is_tried_behind_rfc2217_and_one_on_a_socket(hurried, monkeypatch):
    monkeypatch.setattr(imu_module, "Link", FakeLink)
    monkeypatch.setattr(FakeLink, "data", b"")
    for port, tried in (
        ("rfc2217://host:1", [115200, 9600, 38400, 57600, 230400, 921600]),
        ("socket://host:1", [115200]),
    ):
        with pytest.raises(DataError, match="no known format"):
            SerialIMU(port)
        assert FakeLink.tried == tried


def test_asking_for_the_end_hands_over_what_has_come(board):
    fake = board()
    imu = SerialIMU(fake.port.path)
    chunks = collect(imu, 100)
    imu.stop()
    chunks += [chunk for chunk in within(imu) if len(chunk)]
    check(chunks)
    assert imu.status == "closed"
    assert sum(map(len, chunks)) == imu.counters["samples"]


def upside_down(fake, count):
    """Return samples of a fake board that tell themselves from those that it sends by itself."""
    out = b""
    for _ in range(count):
        out += frame(sample_body(fake.seq, fake.tick, (0, 0, -16384), 0))
        fake.seq += 1
        fake.tick += round(1e9 / fake._rate)
    return out


def turned(chunks):
    return sum(int((chunk.xyz[:, 2] < 0).sum()) for chunk in chunks)


def hold(imu, monkeypatch):
    """Hold the reading thread where it has found nothing; return the event that lets it go on."""
    read, held, go = imu._link.read, threading.Event(), threading.Event()

    def read_and_wait():
        data = read()
        if not data:
            held.set()
            assert go.wait(30.0)
        return data

    monkeypatch.setattr(imu._link, "read", read_and_wait)
    assert held.wait(30.0)
    return go


def test_what_came_before_the_end_was_asked_for_is_read(board, monkeypatch):
    fake = board()
    imu = SerialIMU(fake.port.path)
    chunks = collect(imu, 100)
    fake.stop()
    go = hold(imu, monkeypatch)
    # More than a terminal's line discipline holds (4096 bytes), so that the rest waits in the next buffer.
    fake.port.send(upside_down(fake, 500))
    imu.stop()
    go.set()
    chunks += [chunk for chunk in within(imu) if len(chunk)]
    assert turned(check(chunks)) == 500
    assert imu.counters["lost"] == 0


def test_what_came_while_the_computer_slept_is_read(board, monkeypatch):
    fake = board()
    with SerialIMU(fake.port.path, wake=0.02) as imu:
        chunks = collect(imu, 100)
        fake.stop()
        go = hold(imu, monkeypatch)
        seconds = imu_module._seconds
        monkeypatch.setattr(imu_module, "_seconds", lambda: seconds() + 60.0)
        fake.port.send(upside_down(fake, 100))
        go.set()
        for chunk in within(imu):
            chunks += [chunk] if len(chunk) else []
            if turned(chunks) == 100:
                break
        check(chunks)
        assert imu.counters["reconnects"] == imu.counters["stalls"] == 0


def test_a_port_that_goes_when_it_is_written_to_keeps_what_it_gave(board, monkeypatch):
    fake = board()
    imu = SerialIMU(fake.port.path, reconnect=False)
    collect(imu, 100)
    fake.stop()
    wait_until(lambda: not fake.port.unread)
    readings = [upside_down(fake, 50)]
    monkeypatch.setattr(imu._link, "read", lambda: readings.pop() if readings else b"")

    def step(*words):
        if not readings:
            raise OSError(errno.EIO, "the port has gone")

    monkeypatch.setattr(imu._commander, "step", step)
    assert turned(within(imu)) == 50
    assert imu.status == "closed"


def test_setting_the_clock_moves_no_time_and_is_said(board, monkeypatch):
    fake = board()
    with SerialIMU(fake.port.path) as imu:
        chunks = collect(imu, 200)
        now = time.time()
        monkeypatch.setattr(imu_module.time, "time", lambda: now + 86_400)
        chunks += collect(imu, 200)
        check(chunks)
        assert chunks[-1].time < now + 3600
        assert any("set forward by 86400 s" in warning for warning in imu.warnings)


def test_what_the_stream_says_of_its_sensor(board):
    with SerialIMU(board().port.path) as imu:
        assert imu.sensor == "MPU6050 on fake"
        assert imu.range_g == 2.0


def test_arguments_that_cannot_be_meant(tmp_path):
    for options in ({"site": "foot"}, {"stall": 0}, {"rate": 5}, {"range_g": 0}, {"format": "nmea"}):
        with pytest.raises(UsageError):
            SerialIMU(str(tmp_path / "none"), **options)
    with pytest.raises(UsageError, match="does not exist"):
        SerialIMU(str(tmp_path / "none"))


def as_arrays(chunks):
    chunks = [chunk for chunk in chunks if len(chunk)]
    indices = np.concatenate([chunk.index + np.arange(len(chunk)) for chunk in chunks])
    times = {chunk.index: chunk.time for chunk in chunks}
    return np.concatenate([chunk.xyz for chunk in chunks]), indices, times


def test_a_raw_log_replays_to_the_same_chunks(board, tmp_path):
    fake = board(tmp_path / "wrist")
    path = tmp_path / "night.raw"
    with SerialIMU(str(tmp_path / "wrist"), raw_log=path, site="mattress", wake=0.02) as imu:
        live = collect(imu, 300)
        fake.stop()
        fake.port.close()
        for chunk in within(imu):
            live.append(chunk)
            if imu.status == "disconnected":
                break
        board(tmp_path / "wrist")
        live += collect(imu, 300)
    live += list(within(imu))
    replay = ReplayLog(path)
    assert isinstance(replay, Source)
    assert (replay.rate, replay.site) == (RATE, "mattress")
    for _ in range(2):
        again = check(list(replay))
        xyz, indices, times = as_arrays(again)
        expected = as_arrays(live)
        np.testing.assert_array_equal(xyz, expected[0])
        np.testing.assert_array_equal(indices, expected[1])
        assert times.items() >= expected[2].items()
        assert replay.counters["segments"] == 2
    assert replay.info["board"] == "fake"
    assert (replay.sensor, replay.range_g) == ("MPU6050 on fake", 2.0)


def test_a_full_disk_does_not_end_the_night(board, tmp_path, monkeypatch):
    def fail(self, arrival, data):
        raise OSError(28, "No space left on device")

    fake = board()
    monkeypatch.setattr(RawLog, "write", fail)
    with SerialIMU(fake.port.path, raw_log=tmp_path / "night.raw") as imu:
        assert len(collect(imu, 300))
        assert any("No space left" in warning for warning in imu.warnings)


def test_a_log_that_cannot_be_made_is_an_error(board, tmp_path):
    fake = board()
    with pytest.raises(FileNotFoundError):
        SerialIMU(fake.port.path, raw_log=tmp_path / "none" / "night.raw")
    with SerialIMU(fake.port.path) as imu:
        assert len(collect(imu, 10))


def test_an_error_in_the_reading_thread_reaches_the_consumer(board, monkeypatch):
    fake = board()
    with SerialIMU(fake.port.path) as imu:
        collect(imu, 10)

        def fail(data, arrival):
            raise RuntimeError("broken")

        monkeypatch.setattr(imu._assembler, "feed", fail)
        with pytest.raises(RuntimeError, match="broken"):
            for _ in within(imu):
                pass


def test_a_file_of_bytes_alone(tmp_path):
    path = tmp_path / "capture.bin"
    xyz = resting(5000)
    path.write_bytes(
        introduce("hypnic", RATE)
        + encode(xyz[:3000], "hypnic", RATE)
        + encode(xyz[3100:], "hypnic", RATE, 3100)
    )
    with ReplayLog(path) as replay:
        chunks = check(list(replay))
        assert replay.rate == RATE
        assert replay.site == "wrist"
        assert sum(map(len, chunks)) == 4900
        assert replay.counters["missing"] == 100
        assert np.isnan(chunks[0].time)
        assert np.isnan(replay.clock_residual)


def test_bytes_that_do_not_tell_their_rate(tmp_path):
    path = tmp_path / "capture.bin"
    path.write_bytes(encode(resting(500), "plotter", RATE))
    with pytest.raises(UsageError, match="give rate"):
        ReplayLog(path)
    assert sum(map(len, ReplayLog(path, rate=100))) == 500


def test_logs_that_cannot_be_used(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(MAGIC + b"{]\n")
    with pytest.raises(DataError, match="first line is damaged"):
        ReplayLog(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no known format"):
        ReplayLog(path)
    path.write_bytes((b"\x55\x59" + bytes(8) + b"\xae") * 50)
    with pytest.raises(DataError, match="quaternions"):
        ReplayLog(path)
    with pytest.raises(UsageError, match="speed"):
        ReplayLog(path, speed=0)


def test_log_records(tmp_path):
    path = tmp_path / "log"
    log = RawLog(path, {"format": "hypnic", "rate": 100.0})
    records = [(1.0, b"abc"), (2.0, b""), (3.0, b"\n\x00")]
    for record in records:
        log.write(*record)
    log.close()
    header, got = read_log(path)
    assert header == {"format": "hypnic", "rate": 100.0}
    assert list(got) == records
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert list(read_log(path)[1]) == records[:2]
    path.write_bytes(whole[:-6])
    assert list(read_log(path)[1]) == records[:2]
    path.write_bytes(whole + b"\xff" * 12)
    with pytest.raises(DataError, match="damaged at byte"):
        list(read_log(path)[1])


def test_replay_at_a_speed_can_be_stopped(tmp_path):
    path = tmp_path / "log"
    log = RawLog(path, {"format": "witmotion", "rate": 100.0})
    for number in range(3):
        log.write(1e9 + 3600 * number, encode(resting(100), "witmotion", RATE))
    log.close()
    replay = ReplayLog(path, speed=1.0)
    chunks = iter(replay)
    first = next(chunks)
    threading.Timer(0.02, replay.close).start()
    rest = list(chunks)
    assert len(first) + sum(map(len, rest)) == 100


def test_status_of_the_board_is_kept():
    decoder = make_decoder("hypnic")
    decoder.feed(frame(Status(1, 2, 3, 4, 5, 6).body()))
    assert decoder.status.missed == 6


def test_nothing_heavy_is_imported():
    import subprocess
    import sys

    code = "import sys, firmware_bridge; print([m for m in ('serial', 'cobs', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
    assert port_module.BAUDS[0] == 115200
