"""Bytes and their arrival to chunks: numbering, holes, times, segments, and finding format and rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.decoders import make_decoder
from firmware_bridge.encoders import ENCODERS, encode, introduce
from firmware_bridge.stream import AHEAD_SECONDS, AHEAD_SHARE, Assembler, Opening, stream_warnings

RATE = 100.0
START = 1.7e9
FORMATS_WITHOUT_COUNTER = ("witmotion", "witmotion-combined", "mpu6050-raw", "plotter")


def resting(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([0.05, -0.1, 0.99]) + rng.normal(0, 0.02, (count, 3))


def readings(fmt, start, stop, per_reading=5, rate=RATE, shift=0.0):
    """Yield (bytes, arrival) of samples `start` to `stop`, each reading 1 ms after its last sample."""
    xyz = resting(stop - start)
    for at in range(start, stop, per_reading):
        end = min(at + per_reading, stop)
        yield encode(xyz[at - start : end - start], fmt, RATE, at), START + shift + (end - 1) / rate + 1e-3


def assemble(fmt, parts, rate=RATE):
    assembler = Assembler(make_decoder(fmt), rate)
    chunks = []
    for data, arrival in [(introduce(fmt, RATE), START), *parts]:
        chunks += assembler.feed(data, arrival)
    return assembler, chunks + assembler.finish()


def check(chunks):
    """Check what is promised of every run of chunks."""
    following = 0
    before = -np.inf
    for chunk in chunks:
        assert len(chunk)
        assert chunk.index == following + chunk.missing
        assert chunk.missing >= 0
        assert not chunk.time <= before
        following, before = chunk.index + len(chunk), chunk.time
    return chunks


@pytest.mark.parametrize("fmt", ENCODERS)
def test_whole_stream(fmt):
    assembler, chunks = assemble(fmt, readings(fmt, 0, 3000))
    check(chunks)
    assert sum(map(len, chunks)) == 3000
    assert assembler.missing == 0
    assert assembler.segments == 1
    assert chunks[0].index == 0
    times = np.array([chunk.time for chunk in chunks if chunk.index > 500])
    indices = np.array([chunk.index for chunk in chunks if chunk.index > 500])
    assert np.abs(times - START - indices / RATE).max() < 0.06
    rate, sd = assembler.effective_rate
    assert rate == pytest.approx(RATE, abs=max(5 * sd, 0.01))
    assert sd < 0.1


@pytest.mark.parametrize("fmt", ["hypnic", "hypnic-csv", "xbus", "razor"])
def test_holes_are_counted_exactly(fmt):
    parts = [*readings(fmt, 0, 500), *readings(fmt, 507, 900), *readings(fmt, 901, 1000)]
    assembler, chunks = assemble(fmt, parts)
    check(chunks)
    holes = {chunk.index: chunk.missing for chunk in chunks if chunk.missing}
    assert holes == {507: 7, 901: 1}
    assert {chunk.reason for chunk in chunks if chunk.missing} == {"lost"}
    assert assembler.missing == 8
    assert assembler.segments == 1


@pytest.mark.parametrize("fmt", FORMATS_WITHOUT_COUNTER)
def test_a_silence_where_nothing_counts_is_a_hole(fmt):
    _, chunks = assemble(fmt, [*readings(fmt, 0, 600), *readings(fmt, 900, 1500)])
    check(chunks)
    holes = [(chunk.index, chunk.missing) for chunk in chunks if chunk.missing]
    assert len(holes) == 1
    assert holes[0][1] == pytest.approx(300, abs=3)
    assert holes[0][0] == pytest.approx(900, abs=8)
    assert sum(map(len, chunks)) == 1200


@pytest.mark.parametrize("fmt", FORMATS_WITHOUT_COUNTER)
def test_a_stall_of_the_host_is_none(fmt):
    parts = list(readings(fmt, 0, 1500))
    late = [
        (data, max(arrival, START + 9.0) if START + 7 < arrival < START + 9 else arrival)
        for data, arrival in parts
    ]
    assembler, chunks = assemble(fmt, late)
    check(chunks)
    assert assembler.missing == 0
    assert sum(map(len, chunks)) == 1500


def test_a_silence_at_the_very_end_holds_nothing_back_for_good():
    assembler, chunks = assemble(
        "witmotion", [*readings("witmotion", 0, 600), *readings("witmotion", 900, 910)]
    )
    check(chunks)
    assert sum(map(len, chunks)) == 610
    assert assembler.missing == pytest.approx(300, abs=3)


@pytest.mark.parametrize("fmt", ["hypnic", "witmotion", "razor", "plotter"])
def test_port_lost_and_found(fmt):
    assembler = Assembler(make_decoder(fmt), RATE)
    chunks = []
    for data, arrival in [(introduce(fmt, RATE), START), *readings(fmt, 0, 1000)]:
        chunks += assembler.feed(data, arrival)
    chunks += assembler.port_lost()
    # After the replug the board counts from zero again.
    for data, arrival in [(introduce(fmt, RATE), START + 30), *readings(fmt, 0, 500, shift=30.0)]:
        chunks += assembler.feed(data, arrival)
    chunks += assembler.finish()
    check(chunks)
    assert assembler.segments == 2
    assert sum(map(len, chunks)) == 1500
    holes = [chunk for chunk in chunks if chunk.missing]
    assert len(holes) == 1
    assert holes[0].index == pytest.approx(3000, abs=8)


@pytest.mark.parametrize("fmt", ENCODERS)
def test_unplugged_at_any_byte(fmt):
    """Wherever in a sample the line goes dead, whole samples before and after are all there, and no other."""
    before, after = resting(40), resting(40, 1)
    head = introduce(fmt, RATE) + encode(before, fmt, RATE)
    last = len(head) - len(introduce(fmt, RATE) + encode(before[:-2], fmt, RATE))
    for cut in range(last + 1):
        assembler = Assembler(make_decoder(fmt), RATE)
        chunks = assembler.feed(head[: len(head) - cut], START) + assembler.port_lost()
        seen = sum(map(len, chunks))
        chunks += assembler.feed(introduce(fmt, RATE) + encode(after, fmt, RATE), START + 9)
        chunks += assembler.finish()
        check(chunks)
        got = np.concatenate([chunk.xyz for chunk in chunks])
        assert 38 <= seen <= 40
        assert len(got) == seen + 40
        np.testing.assert_allclose(got, np.concatenate([before[:seen], after]), atol=0.006)
        assert [chunk.reason for chunk in chunks if chunk.missing] == ["port lost"]


def test_restart_of_the_board_begins_a_segment():
    parts = [*readings("hypnic", 0, 1000), *readings("hypnic", 0, 500, shift=12.0)]
    assembler, chunks = assemble("hypnic", parts)
    check(chunks)
    assert assembler.segments == 2
    assert assembler.missing == pytest.approx(200, abs=3)
    assert [chunk.reason for chunk in chunks if chunk.missing] == ["board restarted"]


def test_samples_at_another_rate_are_dropped_and_missing():
    parts = list(readings("hypnic", 0, 500))
    parts += [(introduce("hypnic", 200.0), START + 5.0)]
    parts += [(encode(resting(1000), "hypnic", 200.0, 1001), START + 10.0)]
    parts += [(introduce("hypnic", RATE), START + 10.0)]
    parts += list(readings("hypnic", 1003, 1500))
    assembler, chunks = assemble("hypnic", parts)
    check(chunks)
    assert assembler.wrong_rate == 1000
    assert sum(map(len, chunks)) == 997
    assert [chunk.reason for chunk in chunks if chunk.missing] == ["at another rate"]
    assert assembler.missing == pytest.approx(503, abs=3)


def test_bytes_without_times():
    parts = [(data, np.nan) for data, _ in [*readings("razor", 0, 300), *readings("razor", 310, 400)]]
    assembler, chunks = assemble("razor", parts)
    assert np.isnan([chunk.time for chunk in chunks]).all()
    assert assembler.missing == 10
    assembler.feed(encode(resting(2500), "razor", RATE, 400), np.nan)
    assert assembler.detection_rate == RATE
    assert assembler.effective_rate is None


@pytest.mark.parametrize("fmt", ["witmotion", "razor", "hypnic"])
@pytest.mark.parametrize(
    ("true_rate", "used", "word"),
    [
        (100.3, 100.0, ""),
        (98.5, 98.5, "that is used"),
        (104.0, 104.0, "that is used"),
        (60.0, 100.0, "much slower"),
    ],
)
def test_the_rate_to_detect_at(fmt, true_rate, used, word):
    """The ticks of these boards follow their samples: a board that runs by a wrong clock."""
    assembler = Assembler(make_decoder(fmt), RATE)
    parts = list(readings(fmt, 0, 4000, rate=true_rate))
    for number, (data, arrival) in enumerate([(introduce(fmt, RATE), START), *parts]):
        before = assembler.detection_rate
        assembler.feed(data, arrival)
        # Once it is settled it stays.
        assert before in (None, assembler.detection_rate)
        if 5 * number >= 2100:
            assert assembler.detection_rate is not None
    assert assembler.detection_rate == pytest.approx(used, rel=1e-3)
    assert assembler.rate == RATE
    said = [warning for warning in assembler.warnings if "samples come" in warning]
    assert len(said) == bool(word)
    assert word in "".join(said)


@pytest.mark.parametrize("rate", [25.0, 1000.0])
def test_a_rate_beyond_what_is_supported_is_not_used(rate):
    off = 0.97 if rate == 25.0 else 1.03
    assembler = Assembler(make_decoder("witmotion"), rate)
    for data, arrival in readings("witmotion", 0, round(25 * rate), rate=rate * off):
        assembler.feed(data, arrival)
    assert assembler.detection_rate == rate


def test_hole_after_a_slow_sensor_is_counted_at_its_own_rate():
    rate = 97.0
    assembler = Assembler(make_decoder("witmotion"), RATE)
    for data, arrival in readings("witmotion", 0, 4000, rate=rate):
        assembler.feed(data, arrival)
    assembler.port_lost()
    back = START + 4000 / rate + 100
    chunks = assembler.feed(encode(resting(6), "witmotion", RATE), back)
    assert chunks[0].missing == pytest.approx(100 * rate, abs=6)


def liar(fmt, at, jump):
    """Yield a stream whose counter and ticks jump by `jump` samples at sample `at`, without a moment's silence."""
    for number in range(0, 2 * at, 5):
        claimed = number + (jump if number >= at else 0)
        yield encode(resting(5), fmt, RATE, claimed), START + (number + 4) / RATE + 1e-3


@pytest.mark.parametrize("fmt", ["hypnic", "hypnic-csv", "xbus"])
@pytest.mark.parametrize("jump", [3_000, 30_000, 60_000, 10**9])
def test_no_loss_is_longer_than_the_time_that_has_gone_by(fmt, jump):
    assembler, chunks = assemble(fmt, liar(fmt, 3000, jump))
    check(chunks)
    # The two frames or lines at the jump may be taken for damage.
    assert sum(map(len, chunks)) >= 5998
    assert assembler.missing <= 2
    times = np.array([chunk.time for chunk in chunks])
    indices = np.array([chunk.index for chunk in chunks])
    assert np.abs(times - START - indices / RATE)[indices > 500].max() < 0.06


@pytest.mark.parametrize("fmt", ["hypnic", "hypnic-csv", "xbus"])
def test_a_board_that_lies_all_night_gains_seconds(fmt):
    """Each reading claims that 900 samples were lost before it, which is believed once and not again and again."""
    parts = (
        (encode(resting(5), fmt, RATE, 905 * number), START + number * 5 / RATE + 1e-3)
        for number in range(2000)
    )
    assembler, chunks = assemble(fmt, parts)
    check(chunks)
    assert sum(map(len, chunks)) >= 9990
    assert assembler.missing <= (AHEAD_SECONDS + (1 + AHEAD_SHARE) * 100) * RATE


def test_a_loss_that_time_allows_is_believed():
    """A computer that slept a minute first reads what had piled up, then what follows the hole, all at once."""
    parts = [*readings("hypnic", 0, 3000), *readings("hypnic", 9000, 9600)]
    woken = parts[600][1] + 0.5
    late = [
        (data, max(arrival, woken)) if n >= 595 else (data, arrival)
        for n, (data, arrival) in enumerate(parts)
    ]
    assembler, chunks = assemble("hypnic", late)
    check(chunks)
    assert assembler.segments == 1
    assert assembler.missing == 6000


@pytest.mark.parametrize(("jump", "believed"), [(10**6, True), (10**9, False)])
def test_without_arrivals_a_day_is_the_most(jump, believed):
    header = b"# hypnic-csv v1 lsb_per_g=4096 rate_hz=100 tick_hz=0\n"
    lines = [b"%d,0,0,0,4096\n" % (number + jump * (number >= 1000)) for number in range(2000)]
    assembler = Assembler(make_decoder("delimited"), RATE)
    chunks = check(assembler.feed(header + b"".join(lines), np.nan) + assembler.finish())
    assert sum(map(len, chunks)) == 2000
    assert assembler.missing == (jump if believed else 0)


@pytest.mark.parametrize("fmt", ENCODERS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    delays=st.lists(st.sampled_from([0.0, 0.016, 0.05, 0.4, 3.0, -0.5]), min_size=30, max_size=30),
    lost=st.sets(st.integers(0, 29), max_size=3),
)
def test_damaged_bytes_at_any_time_keep_every_promise(fmt, seed, delays, lost):
    rng = np.random.default_rng(seed)
    assembler = Assembler(make_decoder(fmt), RATE)
    chunks = []
    for number, (data, arrival) in enumerate(readings(fmt, 0, 150)):
        damaged = bytearray(data)
        for at in rng.integers(0, len(damaged), int(rng.integers(0, 3))):
            damaged[at : at + int(rng.integers(0, 3))] = bytes(rng.integers(0, 256, 2, dtype=np.uint8))
        chunks += assembler.feed(introduce(fmt, RATE) + bytes(damaged), arrival + sum(delays[:number]))
        if number in lost:
            chunks += assembler.port_lost()
    chunks += assembler.finish()
    check(chunks)
    assert assembler.missing == sum(chunk.missing for chunk in chunks)
    assert assembler.decoder.counters.samples == sum(map(len, chunks))
    assert np.isfinite([chunk.time for chunk in chunks]).all()


@pytest.mark.parametrize("fmt", ENCODERS)
def test_opening_finds_format_and_rate(fmt):
    opening = Opening()
    for data, arrival in [(b"hello\r\n" + introduce(fmt, 50.0), START), *readings(fmt, 0, 300)]:
        opening.feed(data, arrival)
    assert opening.proven
    assert opening.fmt == make_decoder(fmt).name
    assert opening.rate == RATE
    assert sum(len(data) for _, data in opening.records) == opening.bytes_seen


def test_a_restart_does_not_spoil_the_measured_rate():
    opening = Opening("razor")
    for data, arrival in [*readings("razor", 90_000, 90_050), *readings("razor", 0, 300)]:
        opening.feed(data, arrival)
    assert opening.rate == RATE


def test_opening_cannot_tell():
    opening = Opening()
    opening.feed(b"\x00\x01\x02 nothing here\n" * 50, START)
    assert not opening.decide()
    assert opening.rate is None


def test_opening_settles_for_what_is_likely():
    opening = Opening()
    opening.feed(
        b"a line of chatter, longer than it need be ........\n" * 4 + b"X=0.01, Y=0.02, Z=0.99\n" * 5, START
    )
    assert not opening.proven
    assert opening.decide()
    assert opening.fmt == "labelled"


@pytest.mark.parametrize(
    ("fmt", "rate", "words"),
    [
        ("hypnic", 100.0, []),
        ("hypnic", 32.0, ["below 50 Hz"]),
        ("simple", 119.0, ["steps of 10 mg"]),
        ("razor", 100.0, ["steps of 10 mg", "low-pass of 5 Hz"]),
        ("mpu6050-raw", 141.0, ["does not pace", "inferred"]),
    ],
)
def test_warnings(fmt, rate, words):
    decoder = make_decoder(fmt)
    decoder.feed(introduce(fmt, rate) + encode(resting(40), fmt, rate))
    found = stream_warnings(decoder, rate)
    assert len(found) == len(words)
    for word in words:
        assert any(word in warning for warning in found)
