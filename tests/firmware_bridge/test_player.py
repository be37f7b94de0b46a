"""A recording played as a board: what the other side sees, and what it is told when it asks."""

import time

import numpy as np
import pytest
from cobs import cobs

from firmware_bridge import ENCODERS, VirtualPort, introduce
from firmware_bridge.decoders import make_decoder
from firmware_bridge.decoders.hypnic import COMMANDS, command
from firmware_bridge.player import PlayedBoard
from firmware_bridge.port import Link
from hypnic.chunk import Chunk
from hypnic.errors import UsageError

RATE = 100.0


def resting(count, seed=0):
    rng = np.random.default_rng(seed)
    return (np.array([0.05, -0.1, 0.99]) + rng.normal(0, 0.02, (count, 3))).astype(np.float32)


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def drain(link):
    data = b""
    while more := link.read():
        data += more
    return data


@pytest.mark.parametrize("fmt", ENCODERS)
def test_the_other_side_reads_every_sample(fmt):
    xyz = resting(700)
    decoder = make_decoder(fmt)
    with VirtualPort() as port:
        board = PlayedBoard(port, fmt, RATE)
        link = Link(port.path, 115200)
        decoder.feed(drain(link))
        board.introduce()
        got, missing = [], 0
        for at in range(0, 700, 175):
            number = at + (9 if at >= 350 else 0)
            board.play(Chunk(xyz[at : at + 175], number, missing=9 * (at == 350)))
            samples = decoder.feed(drain(link))
            got.append(samples.xyz)
            missing += int(samples.missing.sum())
        got.append(decoder.finish().xyz)
        link.close()
    assert board.sent == 700
    assert board.dropped == 0
    np.testing.assert_allclose(np.concatenate(got), xyz, atol=0.006)
    assert missing == (9 if decoder.counted else 0)
    assert decoder.counters.bad_frames == decoder.counters.malformed == 0


@pytest.mark.parametrize("fmt", ["hypnic", "witmotion"])
def test_it_waits_for_a_reader(fmt):
    with VirtualPort() as port:
        board = PlayedBoard(port, fmt, RATE)
        assert not board.has_reader()
        wait_until(lambda: port.unread)
        time.sleep(0.3)
        assert not board.has_reader()
        link = Link(port.path, 115200)
        wait_until(board.has_reader)
        link.close()


def test_without_a_reader_whole_samples_are_dropped():
    xyz = resting(16_000)
    with VirtualPort() as port:
        board = PlayedBoard(port, "hypnic", RATE)
        board.play(Chunk(xyz[:10_000], 0))
        assert board.dropped > 0
        decoder = make_decoder("hypnic")
        link = Link(port.path, 115200)
        for at in range(10_000, 16_000, 500):
            board.play(Chunk(xyz[at : at + 500], at))
            decoder.feed(drain(link))
        link.close()
        counters = decoder.counters
        # Opening the port has thrown away what lay in it, and cut one frame at most.
        assert counters.bad_frames <= 1
        assert counters.samples >= 6_000
        assert counters.samples + counters.lost <= 16_000
    assert board.sent + board.dropped == 16_000


def test_commands_are_answered():
    with VirtualPort() as port:
        board = PlayedBoard(port, "hypnic", RATE)
        link = Link(port.path, 115200)
        drain(link)
        wire = b"".join(command(name, token, 50) for token, name in enumerate(COMMANDS))
        link.write(b"\x00junk\x00" + wire)
        link.write(b"\x07\x1f" + command("PING", 77)[2:])
        board.play(Chunk(resting(1), 0))
        decoder = make_decoder("hypnic")
        decoder.feed(drain(link))
        link.close()
    statuses = {ack.token: ack.status for ack in decoder.acks}
    assert statuses == {0: 0, 1: 0, 2: 0, 3: 2, 4: 2, 5: 2}
    assert decoder.board is not None
    assert decoder.board.rate == RATE
    assert decoder.counters.bad_frames == 0


def test_an_unknown_format():
    with VirtualPort() as port, pytest.raises(UsageError, match="unknown"):
        PlayedBoard(port, "nmea", RATE)
    assert introduce("hypnic", RATE)[0] == 0
    assert cobs.decode(introduce("hypnic", RATE).split(b"\0")[1])[0] == 2
