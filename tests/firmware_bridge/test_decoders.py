"""Every decoder: samples come back, any partition gives the same, no byte goes missing, nothing raises."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.decoders import DECODERS, FORMATS, make_decoder, recognise
from firmware_bridge.decoders.base import infer_per_g
from firmware_bridge.decoders.delimited import csv_header
from firmware_bridge.decoders.hypnic import Info, command, frame, sample_body
from firmware_bridge.encoders import ENCODERS, encode, introduce
from hypnic.errors import UsageError

RATE = 100.0
STEP = {
    "hypnic": 1 / 4096,
    "hypnic-csv": 1 / 4096,
    "witmotion": 1 / 2048,
    "witmotion-combined": 1 / 2048,
    "xbus": 1e-6,
    "razor": 0.01,
    "artemis": 1e-5,
    "simple": 0.01,
    "mpu6050-raw": 1 / 16384,
    "adafruit": 0.01 / 9.8,
    "plotter": 1e-4,
    "m5stick": 0.01,
}
COUNTED = ("hypnic", "hypnic-csv", "xbus")


def resting(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([0.05, -0.1, 0.99]) + rng.normal(0, 0.02, (count, 3))


def stream(fmt, xyz, start=0):
    return introduce(fmt, RATE) + encode(xyz, fmt, RATE, start)


def decode(decoder, parts):
    got = [decoder.feed(bytes(part)) for part in parts]
    got.append(decoder.finish())
    return {
        name: np.concatenate([getattr(samples, name) for samples in got])
        for name in ("xyz", "missing", "restart", "seq", "tick")
    }


def conserved(decoder):
    counters = decoder.counters
    return counters.bytes_in == counters.bytes_accepted + counters.bytes_discarded + decoder.pending


def outcome(fmt, parts):
    decoder = make_decoder(fmt)
    arrays = decode(decoder, parts)
    state = (decoder.rate, decoder.tick_hz, decoder.step_g, decoder.refusal, decoder.info, decoder.warnings)
    return arrays, decoder.counters.as_dict(), decoder.pending, state, conserved(decoder)


def cut(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def mutated(data, rng, changes):
    """Return `data` with bytes flipped, dropped, repeated and inserted."""
    out = bytearray(data)
    for _ in range(changes):
        at = int(rng.integers(len(out)))
        kind = int(rng.integers(5))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            out[at:at] = out[at : at + int(rng.integers(1, 60))]
        elif kind == 3:
            out[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 600)), dtype=np.uint8))
        else:
            out[at] = int(rng.choice([0, 10, 13, 35, 42, 44, 0x55, 0xFA, 0xFF]))
    return bytes(out)


@pytest.mark.parametrize("fmt", ENCODERS)
def test_samples_come_back_within_a_step(fmt):
    xyz = resting(1200)
    decoder = make_decoder(fmt)
    data = stream(fmt, xyz)
    arrays = decode(decoder, [data])
    assert len(arrays["xyz"]) == len(xyz)
    np.testing.assert_allclose(arrays["xyz"], xyz, atol=0.51 * STEP[fmt] + 1e-6)
    assert arrays["xyz"].dtype == np.float32
    assert not arrays["missing"].any()
    assert not arrays["restart"].any()
    assert decoder.counters.samples == len(xyz)
    assert decoder.counters.lost == decoder.counters.bad_frames == decoder.counters.malformed == 0
    assert conserved(decoder)
    assert decoder.step_g == pytest.approx(STEP[fmt], rel=0.05) or fmt == "xbus"


@pytest.mark.parametrize("fmt", ENCODERS)
def test_encoding_in_parts_is_encoding_whole(fmt):
    xyz = resting(1100)
    parts = [encode(xyz[a:b], fmt, RATE, a) for a, b in ((0, 1), (1, 499), (499, 501), (501, 1100))]
    assert b"".join(parts) == encode(xyz, fmt, RATE)


@pytest.mark.parametrize("fmt", ENCODERS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6), changes=st.integers(0, 12), cuts=st.lists(st.integers(0, 10**6), max_size=20)
)
def test_any_partition_gives_the_same(fmt, seed, changes, cuts):
    rng = np.random.default_rng(seed)
    data = mutated(stream(fmt, resting(45, seed)), rng, changes)
    whole = outcome(fmt, [data])
    for parts in (cut(data, cuts), [data[i : i + 1] for i in range(len(data))]):
        other = outcome(fmt, parts)
        for name, values in whole[0].items():
            np.testing.assert_array_equal(other[0][name], values)
        assert other[1:] == whole[1:]
    assert whole[4]


@pytest.mark.parametrize("fmt", DECODERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=3000))
def test_arbitrary_bytes_are_accounted_for(fmt, data):
    decoder = make_decoder(fmt)
    arrays = decode(decoder, [data])
    assert conserved(decoder)
    assert np.isfinite(arrays["xyz"]).all()
    assert decoder.pending <= 2048


TOKENS = st.sampled_from(
    [
        "1",
        "-2",
        "0.98",
        "16384",
        "9.81",
        "x",
        "ax",
        "aX,aY,aZ",
        "X",
        "Y",
        "Z",
        "AX:",
        "Y=",
        "Acceleration",
        "01/01/2000,00:00:00.00",
        "a/g:",
        "a/g:\t",
        "#",
        "seq,t_us,ax,ay,az",
        "hypnic-csv",
        "v1",
        "lsb_per_g=16384",
        "rate_hz=100",
        "tick_hz=1000000",
        "tick_hz=0",
        "check=crc16",
        "*0000",
        "nan",
        "m/s^2",
        "mg",
        "g",
        "²",
    ]
)
LINES = st.lists(
    st.tuples(TOKENS, st.sampled_from([",", "\t", " ", "", "\r", ":"])), min_size=1, max_size=12
).map(lambda pairs: "".join(token + after for token, after in pairs))


@pytest.mark.parametrize("fmt", ["delimited", "labelled", "razor", "artemis", "simple", "mpu6050-raw"])
@settings(max_examples=50, deadline=None, derandomize=True)
@given(lines=st.lists(LINES, max_size=12), repeats=st.integers(1, 4))
def test_arbitrary_lines_are_accounted_for(fmt, lines, repeats):
    data = "".join(f"{line}\n" * repeats for line in lines).encode("latin-1")
    whole = outcome(fmt, [data])
    assert whole[4]
    assert outcome(fmt, cut(data, range(0, len(data), 7)))[1:] == whole[1:]


@pytest.mark.parametrize("fmt", ENCODERS)
def test_resynchronises_after_garbage(fmt):
    xyz = resting(400)
    data = stream(fmt, xyz)
    rng = np.random.default_rng(1)
    garbage = bytes(rng.integers(0, 256, 5000, dtype=np.uint8))
    decoder = make_decoder(fmt)
    arrays = decode(
        decoder, [garbage, data, garbage, encode(xyz, fmt, RATE, 400), encode(xyz, fmt, RATE, 800)]
    )
    assert conserved(decoder)
    # The last stretch comes through whole whatever was before it.
    np.testing.assert_allclose(arrays["xyz"][-400:], xyz, atol=0.51 * STEP[fmt] + 1e-6)
    assert len(arrays["xyz"]) >= 1150


@pytest.mark.parametrize("fmt", ["hypnic", "hypnic-csv"])
def test_accepted_samples_are_exact_and_the_rest_is_counted(fmt):
    xyz = resting(6000)
    clean = decode(make_decoder(fmt), [stream(fmt, xyz)])
    truth = dict(zip(clean["seq"].tolist(), clean["xyz"].tolist(), strict=True))
    rng = np.random.default_rng(3)
    data = np.frombuffer(stream(fmt, xyz), np.uint8).copy()
    data[rng.random(len(data)) < 0.001] ^= 1 << 3
    data = data[rng.random(len(data)) >= 0.001]
    decoder = make_decoder(fmt)
    arrays = decode(decoder, [data.tobytes()])
    assert [truth[seq] for seq in arrays["seq"].tolist()] == arrays["xyz"].tolist()
    counters = decoder.counters
    assert counters.bad_frames + counters.malformed > 100
    assert counters.restarts == 0
    sent = int(arrays["seq"][-1] - arrays["seq"][0]) + 1
    assert counters.samples + counters.lost + counters.duplicates == sent
    assert arrays["missing"].sum() == counters.lost


@pytest.mark.parametrize("fmt", COUNTED)
def test_lost_samples_stand_before_the_next_one(fmt):
    xyz = resting(600)
    decoder = make_decoder(fmt)
    parts = [stream(fmt, xyz[:100]), encode(xyz[107:300], fmt, RATE, 107), encode(xyz[301:], fmt, RATE, 301)]
    arrays = decode(decoder, parts)
    assert np.flatnonzero(arrays["missing"]).tolist() == [100, 293]
    assert arrays["missing"][[100, 293]].tolist() == [7, 1]
    assert decoder.counters.lost == 8


@pytest.mark.parametrize("fmt", COUNTED)
def test_repeated_samples_are_dropped(fmt):
    data = stream(fmt, resting(50))
    last = encode(resting(1), fmt, RATE, 49) if fmt != "hypnic-csv" else data[data.rindex(b"\n", 0, -1) + 1 :]
    decoder = make_decoder(fmt)
    assert len(decode(decoder, [data, last, last, encode(resting(5), fmt, RATE, 50)])["xyz"]) == 55
    assert decoder.counters.duplicates == 2


@pytest.mark.parametrize("fmt", COUNTED)
def test_restart_is_seen_and_not_counted_as_lost(fmt):
    xyz = resting(500)
    decoder = make_decoder(fmt)
    first = introduce(fmt, RATE) + encode(xyz, fmt, RATE, 30_000)
    arrays = decode(decoder, [first, encode(xyz, fmt, RATE, 1)])
    assert len(arrays["xyz"]) == 1000
    assert np.flatnonzero(arrays["restart"]).tolist() == [500]
    assert decoder.counters.restarts == 1
    assert decoder.counters.lost == 0


def info(configuration=0, **values):
    defaults = {"tick_hz": 1_000_000, "rate_mhz": 100_000, "scale_num": 1, "scale_den": 16384}
    return frame(Info(**{**defaults, **values}, configuration=configuration).body())


def sample(seq, tick, raw=(0, 0, 16384), configuration=0):
    return frame(sample_body(seq, tick, raw, configuration))


def test_ticks_tell_how_often_the_counter_has_wrapped():
    decoder = make_decoder("hypnic")
    later = 65536 + 1000
    arrays = decode(
        decoder, [info(), sample(5, 50_000), sample((5 + later) % 65536, 50_000 + later * 10_000)]
    )
    assert arrays["missing"].tolist() == [0, later - 1]
    assert decoder.counters.lost == later - 1


def test_counter_and_ticks_may_wrap():
    decoder = make_decoder("hypnic")
    frames = [sample(n % 65536, (2**32 - 30_000 + (n - 65530) * 10_000) % 2**32) for n in range(65530, 65545)]
    arrays = decode(decoder, [info(), *frames])
    assert len(arrays["xyz"]) == 15
    assert decoder.counters.lost == decoder.counters.restarts == 0


def test_one_sample_that_contradicts_its_neighbours_is_refused():
    decoder = make_decoder("hypnic")
    frames = [sample(n, n * 10_000) for n in range(20)]
    frames.insert(10, sample(40_000, 77, (9, 9, 9)))
    arrays = decode(decoder, [info(), *frames])
    assert arrays["seq"].tolist() == list(range(20))
    assert decoder.counters.implausible == 1
    assert decoder.counters.restarts == decoder.counters.lost == 0


def test_boot_info_means_a_restart_even_where_the_counters_would_fit():
    decoder = make_decoder("hypnic")
    arrays = decode(decoder, [info(), sample(0, 0), info(boot=True), sample(3, 30_000)])
    assert arrays["restart"].tolist() == [False, True]
    assert arrays["missing"].tolist() == [0, 0]


def test_samples_without_their_scale_are_counted_and_missing():
    decoder = make_decoder("hypnic")
    parts = [
        sample(0, 0),
        info(),
        sample(1, 10_000),
        sample(2, 20_000, configuration=1),
        info(1, scale_den=8192),
        sample(3, 30_000, configuration=1),
    ]
    arrays = decode(decoder, parts)
    assert arrays["xyz"][:, 2].tolist() == [1.0, 2.0]
    assert arrays["missing"].tolist() == [0, 1]
    assert decoder.counters.unscaled == 2
    assert decoder.counters.lost == 0


def test_board_without_ticks():
    decoder = make_decoder("hypnic")
    arrays = decode(decoder, [info(tick_hz=0), *(sample(n, 0) for n in (1, 2, 5))])
    assert arrays["tick"].tolist() == [-1, -1, -1]
    assert decoder.counters.lost == 2


def test_names_from_the_wire_are_safe_to_show():
    decoder = make_decoder("hypnic")
    body = bytearray(Info(1, 100_000, 1, 16384, sensor="xxxxxxxx", board="yy").body())
    body[29:37] = b"\x1b[31m\x07\x00\xe9"
    decoder.feed(frame(bytes(body)))
    assert decoder.info["sensor"] == "?[31m???"
    csv = make_decoder("hypnic-csv")
    csv.feed(b"# hypnic-csv v1 board=\x1b]0;x lsb_per_g=16384 rate_hz=100 tick_hz=1000000\n")
    assert csv.info["board"] == "?]0;x"


def test_commands_and_unknown_frames_are_passed_over():
    decoder = make_decoder("hypnic")
    assert len(decoder.feed(command("PING", 1) + frame(b"\x0f\x01\x02"))) == 0
    assert decoder.counters.frames == 2
    assert decoder.counters.bytes_discarded == 0


def test_once_checked_text_stays_checked():
    decoder = make_decoder("hypnic-csv")
    arrays = decode(
        decoder, [csv_header(RATE), encode(resting(20), "hypnic-csv", RATE, 1), b"21,210000,1,2,3\n"]
    )
    assert len(arrays["xyz"]) == 20
    assert decoder.counters.malformed == 1


@pytest.mark.parametrize(
    "line",
    [
        b"21,210000,nan,2,3",
        b"21,210000,1,2",
        b"21,210000,1,2,3,4",
        b"21,210000,1,2,99999",
        b"21,210000,1.5,2,3",
        b"-21,210000,1,2,3",
        b"99999999999,210000,1,2,3",
        b"21,210000,1,,3",
        b"\xff21,210000,1,2,3",
    ],
)
def test_text_lines_that_are_no_sample(line):
    decoder = make_decoder("hypnic-csv")
    head = b"# hypnic-csv v1 lsb_per_g=4096 rate_hz=100 tick_hz=1000000\n20,200000,1,2,3\n"
    arrays = decode(decoder, [head, line + b"\n", b"22,220000,1,2,3\n"])
    assert arrays["seq"].tolist() == [20, 22]
    assert decoder.counters.malformed == 1


@pytest.mark.parametrize(
    "header", [b"rate_hz=100 tick_hz=1", b"lsb_per_g=0 rate_hz=100 tick_hz=1", b"lsb_per_g=1"]
)
def test_csv_header_without_what_it_needs(header):
    decoder = make_decoder("hypnic-csv")
    assert len(decoder.feed(b"# hypnic-csv v1 " + header + b"\n1,1,1,1,1\n" * 3)) == 0
    assert decoder.rate is None


def test_a_spoilt_line_counts_as_missing_where_nothing_counts():
    lines = [b"a/g:\t0\t0\t16384\t0\t0\t0\n"] * 40
    lines[35] = b"a/g:\t0\t0\t163\x8084\t0\t0\t0\n"
    lines[37] = b"MPU6050 connection successful\n"
    decoder = make_decoder("mpu6050-raw")
    arrays = decode(decoder, lines)
    assert len(arrays["xyz"]) == 38
    assert np.flatnonzero(arrays["missing"]).tolist() == [35]
    assert decoder.counters.malformed == 2


def test_ticks_that_jump_need_a_second_witness():
    lines = encode(resting(30), "razor", RATE).splitlines(keepends=True)
    lines[10] = b"9" + lines[10]
    decoder = make_decoder("razor")
    arrays = decode(decoder, lines)
    assert len(arrays["xyz"]) == 29
    assert not arrays["restart"].any()
    assert decoder.counters.implausible == 1


def test_witmotion_cycle_shows_a_lost_sample():
    def wit(kind):
        body = bytes((0x55, kind)) + bytes(8)
        return body + bytes((sum(body) & 255,))

    cycle = [wit(0x51), wit(0x52), wit(0x53)]
    decoder = make_decoder("witmotion")
    arrays = decode(decoder, cycle * 3 + cycle[1:] + cycle * 2)
    assert arrays["missing"].tolist() == [0, 0, 0, 1, 0]


def test_combined_frames_with_a_byte_missing_are_not_taken():
    data = encode(resting(20), "witmotion-combined", RATE)
    decoder = make_decoder("witmotion-combined")
    arrays = decode(decoder, [data[:105] + data[106:]])
    assert len(arrays["xyz"]) == 19
    assert decoder.counters.bad_frames == 1


@pytest.mark.parametrize("fmt", ["witmotion", "xbus"])
def test_a_wrong_sum_is_counted_once(fmt):
    xyz = resting(20)
    size = len(encode(xyz[:1], fmt, RATE))
    data = bytearray(encode(xyz, fmt, RATE))
    data[5 * size + 4] ^= 0x20
    decoder = make_decoder(fmt)
    arrays = decode(decoder, [bytes(data)])
    assert len(arrays["xyz"]) == 19
    assert decoder.counters.bad_frames == 1
    # A message cut short by the end of a stretch is no wrong sum.
    cut_off = make_decoder(fmt)
    decode(cut_off, [b"\x01", encode(xyz[:1], fmt, RATE), b"\x01" * 300])
    assert cut_off.counters.bad_frames == 0


@pytest.mark.parametrize(
    ("fmt", "wire", "word"),
    [
        ("witmotion", "5559000000000000000000", "quaternions"),
        ("witmotion", "5553000000000000000000", "without acceleration"),
        ("xbus", "faff36132010103f800000000000000000000000000000", "orientation"),
        ("labelled", b"Yaw: 1.00, Pitch: 2.00\n".hex(), "acceleration x"),
    ],
)
def test_streams_without_acceleration_are_refused(fmt, wire, word):
    body = bytes.fromhex(wire)
    if fmt == "witmotion":
        body = body[:10] + bytes((sum(body[:10]) & 255,))
    elif fmt == "xbus":
        body += bytes((-sum(body[1:]) & 255,))
    decoder = make_decoder(fmt)
    for _ in range(10):
        decoder.feed(body)
    assert decoder.refusal is None
    for _ in range(20):
        decoder.feed(body)
    assert word in decoder.refusal


def test_an_asked_schema_stays():
    decoder = make_decoder("razor")
    assert len(decoder.feed(b"0.01,0.02,0.98\n" * 50)) == 0
    assert decoder.counters.malformed == 50
    assert len(decoder.feed(encode(resting(50), "razor", RATE))) == 50


def test_a_labelled_line_with_a_spoilt_value():
    decoder = make_decoder("adafruit")
    good = b"Acceleration X: 0.02, Y: -0.01, Z: 9.80 m/s^2\n"
    arrays = decode(
        decoder, [good, good.replace(b"-0.01", b"nan"), b"Rotation X: 1.00, Y: nan, Z: 0.10\n", good]
    )
    assert arrays["missing"].tolist() == [0, 1]
    assert decoder.counters.malformed == 1


def test_two_chance_headers_are_no_combined_stream():
    decoder = make_decoder("witmotion-combined")
    arrays = decode(decoder, [b"\x55\x61" + bytes(18) + b"\x55\x61" + bytes(60)])
    assert len(arrays["xyz"]) == 0


def test_units_that_cannot_be_told_are_refused():
    decoder = make_decoder("delimited")
    assert len(decoder.feed(b"0.1,0.2,30.0\n" * 60)) == 0
    assert "lsb_per_g" in decoder.refusal
    assert decoder.counters.unscaled == 60
    given_scale = make_decoder("delimited", lsb_per_g=30)
    assert given_scale.feed(b"0.1,0.2,30.0\n" * 60).xyz[-1, 2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("norm", "raw", "expected"),
    [
        (1.1, False, 1.0),
        (9.7, False, 9.80665),
        (1015.0, False, 1000.0),
        (16000.0, True, 16384.0),
        (2300.0, True, 2048.0),
        (3.0, False, None),
        (0.0, False, None),
        (60_000.0, True, None),
    ],
)
def test_unit_from_the_resting_norm(norm, raw, expected):
    assert infer_per_g([norm] * 9, raw=raw) == expected


def test_moving_raw_counts_fall_back_to_the_usual_scale():
    decoder = make_decoder("mpu6050-raw")
    samples = decoder.feed(b"a/g:\t32000\t32000\t32000\t0\t0\t0\n" * 40)
    assert samples.xyz[0, 0] == pytest.approx(32000 / 16384)
    assert "assumed" in decoder.warnings[-1]


def test_a_stream_that_changes_its_kind_for_ever_fills_nothing():
    decoder = make_decoder("delimited")
    for _ in range(50):
        for heading, line in ((b"ax,ay,az", b"0,0,1"), (b"t;ax;ay;az", b"1;0;0;1000")):
            decoder.feed(heading + b"\n" + 40 * (line + b"\n"))
    assert decoder.counters.samples == 4000
    assert sorted(decoder.warnings) == [
        f"unit inferred from the resting norm: {per_g} per g" for per_g in (1, 1000)
    ]
    assert decoder.pending == 0


def test_beyond_200_g_is_refused():
    decoder = make_decoder("plotter")
    assert len(decoder.feed(b"AX:201.0 AY:0.0 AZ:0.0 g\n" * 3)) == 0
    assert decoder.counters.implausible == 3


def test_fresh_decoder_keeps_counters_and_unit():
    decoder = make_decoder("plotter")
    decoder.feed(b"AX:0.0 AY:0.0 AZ:1000.0\n" * 40)
    again = decoder.fresh()
    assert again.feed(b"AX:0.0 AY:0.0 AZ:1500.0\n").xyz[0, 2] == pytest.approx(1.5)
    assert again.counters.samples == 41


@pytest.mark.parametrize("fmt", ENCODERS)
def test_recognised_by_its_bytes(fmt):
    data = stream(fmt, resting(60))
    found = recognise(b"\x00boot\r\n" + data)
    assert found is not None
    assert found.name in (fmt, "delimited", "labelled")
    assert found.name == make_decoder(fmt).name
    assert found.confidence > 0.9


def test_not_recognised():
    rng = np.random.default_rng(5)
    assert recognise(bytes(rng.integers(0, 256, 20_000, dtype=np.uint8))) is None
    assert recognise(b"") is None
    assert recognise(b"# a comment\n" * 50) is None
    assert recognise(encode(resting(1), "hypnic", RATE)) is None


def test_quaternion_stream_is_recognised_so_that_it_can_be_refused():
    body = b"\x55\x59" + bytes(8)
    assert recognise((body + bytes((sum(body) & 255,))) * 30).name == "witmotion"


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_has_a_decoder(fmt):
    assert make_decoder(fmt).bauds


def test_arguments_that_cannot_be_meant():
    with pytest.raises(UsageError, match="unknown"):
        make_decoder("nmea")
    with pytest.raises(UsageError, match="own scale"):
        make_decoder("hypnic", lsb_per_g=4096)
    with pytest.raises(UsageError, match="positive"):
        make_decoder("delimited", lsb_per_g=-1)
    with pytest.raises(UsageError, match="unknown"):
        encode(resting(1), "nmea", RATE)
    with pytest.raises(UsageError, match="unknown"):
        introduce("nmea", RATE)


def test_encoders_clip_and_take_nan():
    data = encode([[99.0, -99.0, np.nan]], "hypnic", RATE)
    samples = make_decoder("hypnic").feed(data)
    assert samples.xyz.tolist() == [[32767 / 4096, -8.0, 0.0]]
