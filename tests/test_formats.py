"""Other makers' files: values, times, gaps and damage told right, and hostile ones survived."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hypnic
from hypnic.errors import DataError, HypnicError, UsageError
from hypnic.readers import open_recording
from hypnic.readers.blocks import DAMAGED, DISORDER, lay_out
from tests.encoders import (
    START,
    avro,
    avro_schema,
    avro_session,
    counts,
    cwa,
    cwa_header,
    cwa_sector,
    e4_csv,
    geneactiv,
    geneactiv_g,
    geneactiv_header,
    geneactiv_page,
    gt3x,
    gt3x_log,
    gt3x_record,
    gt3x_samples,
    put,
    zipped,
)

HERE = Path("night")
MB = 1 << 20


def samples(recording):
    return np.concatenate([chunk.xyz for chunk in recording])


def gaps(recording):
    return recording.gaps.tolist()


# The times of blocks


def test_even_blocks_have_no_gaps_and_the_rate_of_their_stamps():
    stamps = START + np.arange(400) * 1.214
    layout = lay_out(HERE, stamps, np.full(400, 120), 100.0, resolution=1 / 32768)
    assert layout.rate == pytest.approx(120 / 1.214, rel=1e-9)
    assert not len(layout.gaps)
    assert layout.start == START
    np.testing.assert_array_equal(layout.keep, np.arange(400))
    # One row a minute, the last block's too.
    assert len(layout.clock) == 10
    np.testing.assert_allclose(
        layout.clock["sample"] / layout.rate, layout.clock["utc"] - START, atol=1e-6 * 400
    )


def test_a_stated_rate_stays_where_stamps_are_too_coarse_to_deny_it():
    fast = lay_out(HERE, START + np.arange(5) * 1.2, np.full(5, 121), 100.0, resolution=0.05)
    assert fast.rate == 100.0
    long = lay_out(HERE, START + np.arange(500) * 1.2, np.full(500, 121), 100.0, resolution=0.05)
    assert long.rate == pytest.approx(121 / 1.2)


@settings(max_examples=60)
@given(
    st.floats(0.97, 1.03),
    st.lists(st.tuples(st.integers(3, 296), st.integers(20, 100_000)), max_size=5, unique_by=lambda x: x[0]),
    st.floats(0, 0.004),
    st.integers(0, 99),
)
def test_gaps_are_found_to_the_sample_and_blocks_stay_at_their_time(speed, holes, jitter, seed):
    """Any rate, any gaps, some jitter: numbers of samples follow from the stamps."""
    rate = 100 * speed
    lost = np.zeros(300)
    for block, missing in holes:
        lost[block] += missing
    number = np.arange(300) * 120 + np.cumsum(lost)
    stamps = START + number / rate + np.random.default_rng(seed).uniform(-jitter, jitter, 300)
    layout = lay_out(HERE, stamps, np.full(300, 120), 100.0, resolution=1e-4)
    assert layout.gaps["sample"].tolist() == sorted(120 * block for block, _ in holes)
    np.testing.assert_allclose(
        layout.gaps["missing"], [missing for _, missing in sorted(holes)], rtol=2e-4, atol=2
    )
    np.testing.assert_allclose(layout.clock["sample"] / layout.rate, layout.clock["utc"] - START, atol=0.51)


def test_a_late_stamp_that_is_caught_up_is_no_gap():
    stamps = START + np.arange(100) * 1.2
    stamps[[20, 50]] += 0.3
    stamps[70] -= 0.3
    assert not len(lay_out(HERE, stamps, np.full(100, 120), 100.0).gaps)


def test_blocks_out_of_order_are_left_out_and_counted():
    stamps = START + np.arange(100) * 1.2
    stamps[40] += 5e8
    stamps[60:62] = stamps[10:12]
    stamps[-1] += 9e8
    layout = lay_out(HERE, stamps, np.full(100, 120), 100.0)
    assert layout.rate == pytest.approx(100)
    np.testing.assert_array_equal(layout.keep, np.delete(np.arange(100), [40, 60, 61, 99]))
    assert layout.gaps.tolist() == [(40 * 120, 120, DISORDER), (59 * 120, 240, DISORDER)]
    assert "4 blocks (4.8 s) were left out" in layout.notes[0]
    assert [found.sample for found in layout.damage] == [4800, 7200]


def test_stamps_that_contradict_the_rate_are_refused():
    stamps = START + np.arange(100) * 1.2
    with pytest.raises(DataError, match=r"say 200 Hz and its header 100 Hz"):
        lay_out(HERE, stamps, np.full(100, 240), 100.0)
    with pytest.raises(DataError, match=r"say 100 Hz, and 60 Hz was given"):
        lay_out(HERE, stamps, np.full(100, 120), 100.0, rate=60.0)
    with pytest.raises(DataError, match="states a rate of inf Hz"):
        lay_out(HERE, stamps, np.full(100, 120), np.inf)
    given = lay_out(HERE, stamps, np.full(100, 120), 100.0, rate=92.0)
    assert (given.rate, len(given.gaps)) == (92.0, 0)
    assert "leave their time stamps by up to" in given.notes[0]
    with pytest.raises(DataError, match="no sound block"):
        lay_out(HERE, [], [], 100.0)


# Axivity


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 1 / 256),
        ({"fine": False}, 1 / 256),
        ({"packed": False}, 1 / 256),
        ({"packed": False, "axes": 6, "unit": 3}, 1 / 2048),
    ],
)
def test_axivity(tmp_path, options, scale):
    xyz = counts(6000, size=500 if options.get("packed", True) else 20000)
    if options.get("packed", True):
        xyz[7] = (-4096, 4088, 8)  # of exponent 3
    path = put(tmp_path / "a.cwa", cwa(xyz, 98.7, START + 0.3125, **options))
    with hypnic.open(path) as recording:
        np.testing.assert_array_equal(samples(recording), (xyz * scale).astype(np.float32))
        np.testing.assert_array_equal(recording.read(10.003, 11), (xyz[988:1086] * scale).astype(np.float32))
        fine = options.get("fine", True)
        assert recording.rate == pytest.approx(98.7, rel=1e-4 if fine else 1e-3)
        assert recording.start == pytest.approx(START + 0.3125, abs=1e-4 if fine else 0.02)
        assert recording.effective_rate == pytest.approx(recording.rate, rel=1e-3)
        assert (recording.scale, recording.dtype, recording.site) == (scale, "int16", "wrist")
        assert recording.sensor == ("Axivity AX6 39434" if "axes" in options else "Axivity AX3 39434")
        assert recording.range_g == (16.0 if "axes" in options else 8.0)
        assert not len(recording.gaps)
        assert not recording.damage
        assert recording.clock["utc"][0] == pytest.approx(recording.start)


def test_axivity_damage_is_a_counted_gap_and_the_rest_stays(tmp_path):
    xyz = counts(120 * 40)
    data = bytearray(cwa(xyz, 100.0))
    for block in (0, 13, 14, 38):
        data[1024 + 512 * block + 100] ^= 4
    data = data[:-200]  # and the last sector cut short
    with hypnic.open(put(tmp_path / "a.cwa", bytes(data))) as recording:
        assert recording.notes[0] == "5 of 40 blocks are damaged, the first at byte 1024"
        assert gaps(recording) == [(0, 120, DAMAGED), (1440, 240, DAMAGED), (4200, 240, DAMAGED)]
        assert recording.n_total == len(xyz)
        assert recording.start == pytest.approx(START, abs=1e-3)
        whole = recording.read()
        lost = np.isnan(whole).any(axis=1).reshape(40, 120)
        assert np.flatnonzero(lost.any(axis=1)).tolist() == [0, 13, 14, 38, 39]
        np.testing.assert_array_equal(whole[~lost.ravel()], (xyz / 256).astype(np.float32)[~lost.ravel()])
        assert sum(found.missing for found in recording.damage) == 600


def test_axivity_pauses_and_sectors_of_another_rate(tmp_path):
    xyz = counts(120 * 30)
    blocks = [xyz[at : at + 120] for at in range(0, len(xyz), 120)]
    times = START + np.arange(30) * 1.2 + np.where(np.arange(30) >= 10, 60.0, 0.0)
    sectors = [cwa_sector(block, at, k) for k, (block, at) in enumerate(zip(blocks, times, strict=True))]
    sectors[20] = cwa_sector(blocks[20], times[20], 20, rate_code=0x4B)
    blank = b"\xff" * 512
    path = put(tmp_path / "a.cwa", cwa_header() + blank + b"".join(sectors) + blank + bytes(512))
    with hypnic.open(path) as recording:
        assert gaps(recording) == [(1200, 6000, "none by the time stamps"), (2400, 120, DAMAGED)]
        assert recording.site == "wrist"
        assert any("of another rate" in note for note in recording.notes)


def test_axivity_without_its_header(tmp_path):
    xyz = counts(2400)
    path = put(tmp_path / "a.cwa", bytes(1024) + cwa(xyz)[1024:])
    with hypnic.open(path) as recording:
        assert recording.notes[0].startswith("the header is damaged")
        np.testing.assert_array_equal(samples(recording), (xyz / 256).astype(np.float32))


def test_what_options_say_wins(tmp_path):
    path = put(tmp_path / "a.cwa", cwa(counts(6000), 98.7))
    with hypnic.open(path, rate=98.0, site="mattress", start="2020-01-01T00:00:00+02:00") as recording:
        assert (recording.rate, recording.site) == (98.0, "mattress")
        assert recording.start_time == datetime.fromisoformat("2020-01-01T00:00:00+02:00")
        assert recording.clock["utc"][0] == recording.start
        assert recording.effective_rate == pytest.approx(98.7, rel=1e-3)
    for options in ({"rate": 5}, {"site": "nose"}, {"start": "noon"}, {"dataset": "acc"}):
        with pytest.raises(UsageError, match=next(iter(options))):
            open_recording(path, **options)
    with pytest.raises(DataError, match=r"say 98\.7 Hz, and 60 Hz was given"):
        open_recording(path, rate=60)


# GENEActiv


def test_geneactiv(tmp_path):
    xyz = counts(6000, size=2047)
    with hypnic.open(put(tmp_path / "a.bin", geneactiv(xyz, 99.5))) as recording:
        np.testing.assert_array_equal(samples(recording), geneactiv_g(xyz))
        assert recording.rate == pytest.approx(99.5, rel=1e-4)
        # Its clock shows the time of its zone.
        assert recording.start_time == datetime.fromtimestamp(START, UTC) - timedelta(hours=1)
        assert recording.start_time.utcoffset() == timedelta(hours=1)
        assert recording.clock["utc"][0] == recording.start
        assert (recording.sensor, recording.range_g) == ("GENEActiv 012967", 8.0)
        assert (recording.scale, recording.site, recording.notes[1:]) == (None, "wrist", [])


def test_geneactiv_damage_is_a_gap_and_a_cut_page_is_kept(tmp_path):
    xyz = counts(3000, size=2047)
    pages = [geneactiv_page(xyz[at : at + 300], START + at / 100, at // 300) for at in range(0, 3000, 300)]
    pages[2] = pages[2].replace(b"040\r\n", b"04G\r\n")
    pages[5] = pages[5][:-14] + b"\r\n"
    pages[6] = pages[6].replace(b"Page Time:2024", b"Page Time:20x4")
    data = geneactiv_header() + b"".join(pages)
    with hypnic.open(put(tmp_path / "a.bin", data[:-1802])) as recording:
        assert gaps(recording) == [(600, 300, DAMAGED), (1200, 600, DAMAGED)]
        assert recording.n_samples == 6 * 300 + 150
        whole = recording.read()
        sound = ~np.isnan(whole).any(axis=1)
        np.testing.assert_array_equal(whole[sound], geneactiv_g(xyz)[:2850][sound])


def test_geneactiv_lines_that_could_be_read_in_many_ways(tmp_path):
    """A pattern that tried them all would never come to an end."""
    colons = (b"A" + b":" * 190 + b"\r\n") * 8
    page = b"Recorded Data\r\nPage Time:2024-03-21 22:30:00:000\r\n" + colons + b"-\r\n"
    with pytest.raises(DataError, match="no sound block"):
        open_recording(put(tmp_path / "a.bin", geneactiv_header() + page * 20))


def test_geneactiv_needs_its_calibration(tmp_path):
    data = geneactiv(counts(3000)).replace(b"y gain:25734", b"y gain:")
    with pytest.raises(DataError, match="'y gain'"):
        open_recording(put(tmp_path / "a.bin", data))


# ActiGraph


@pytest.mark.parametrize("kind", [0, 26])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_actigraph(tmp_path, kind, packing):
    xyz = counts(6000, size=2047)
    with hypnic.open(put(tmp_path / "a.gt3x", gt3x(gt3x_log(xyz, kind=kind), packing=packing))) as recording:
        np.testing.assert_array_equal(samples(recording), (xyz / 256).astype(np.float32))
        assert (recording.rate, recording.scale, recording.range_g) == (100.0, 1 / 256, 8.0)
        # Its clock shows the time of its zone.
        assert recording.start_time == datetime.fromtimestamp(START, UTC) + timedelta(hours=5)
        assert recording.sensor == "ActiGraph wGT3XBT MOS2C06152277"
        assert (recording.site, recording.notes) == ("wrist", [])


@pytest.mark.parametrize("rate", [30, 50])
def test_actigraph_at_other_rates(tmp_path, rate):
    xyz = counts(20 * rate, size=2047)
    data = gt3x(gt3x_log(xyz, rate), **{"Sample Rate": str(rate), "Acceleration Scale": "341,0"})
    with hypnic.open(put(tmp_path / "a.gt3x", data)) as recording:
        assert recording.rate == rate
        np.testing.assert_array_equal(samples(recording), (xyz * (1 / 341)).astype(np.float32))


@pytest.mark.parametrize("kind", [0, 26])
def test_actigraph_idle_sleep_is_a_gap(tmp_path, kind):
    """Whether the device records nothing or repeats its last sample."""
    xyz = counts(6000, size=2047)
    log = gt3x_log(xyz, kind=kind)
    asleep, awake = (gt3x_record(3, START + 20, bytes([code])) for code in (8, 9))
    silent = [*log[:20], asleep, awake, *log[30:]]
    held = [
        gt3x_samples(np.repeat(xyz[1999:2000], 100, axis=0), START + second, kind) for second in range(20, 30)
    ]
    repeated = [*log[:20], *held, *log[30:]]
    for name, records in (("silent", silent), ("repeated", repeated)):
        with hypnic.open(put(tmp_path / f"{name}.gt3x", gt3x(records))) as recording:
            assert gaps(recording) == [(2000, 1000, "idle sleep mode")]
            assert not recording.damage
            np.testing.assert_array_equal(recording.read(0, 20), (xyz[:2000] / 256).astype(np.float32))
            np.testing.assert_array_equal(recording.read(30, 60), (xyz[3000:] / 256).astype(np.float32))
    # Nine seconds are a very still wrist.
    with hypnic.open(put(tmp_path / "still.gt3x", gt3x([*log[:20], *held[:9], *log[29:]]))) as recording:
        assert not len(recording.gaps)


def test_actigraph_damage_is_a_gap_and_zeros_are_none(tmp_path):
    xyz = counts(6000, size=2047)
    log = gt3x_log(xyz)
    log[10] = log[10][:50] + bytes([log[10][50] ^ 1]) + log[10][51:]
    log[30] = log[30][:200]
    log.insert(45, bytes(5))
    log.insert(40, gt3x_record(0, START + 39, b"\x01"))
    with hypnic.open(put(tmp_path / "a.gt3x", gt3x(log))) as recording:
        assert gaps(recording) == [(1000, 100, DAMAGED), (2900, 100, DAMAGED)]
        whole = recording.read()
        sound = ~np.isnan(whole).any(axis=1)
        np.testing.assert_array_equal(whole[sound], (xyz / 256).astype(np.float32)[sound])
        assert [found.missing for found in recording.damage] == [100, 100]


def test_actigraph_partly_unpacked(tmp_path):
    """What comes before the damage in a packed log is kept, and what is wrong is said."""
    xyz = counts(60_000, size=2047)
    data = bytearray(gt3x(gt3x_log(xyz), packing=zipfile.ZIP_DEFLATED))
    data[150_000:150_050] = b"\xff" * 50
    with hypnic.open(put(tmp_path / "a.gt3x", bytes(data))) as recording:
        assert any("log.bin is damaged in the archive" in note for note in recording.notes)
        got = samples(recording)
        assert 20_000 < len(got) < 60_000
        np.testing.assert_array_equal(got[:20_000], (xyz[:20_000] / 256).astype(np.float32))


def test_actigraph_of_old_firmware(tmp_path):
    """The worked example of ActiGraph's documentation, and a longer file."""
    info = b"Serial Number: NEO1C16110020\r\nFirmware: 2.2.0\r\nSample Rate: 30\r\nStart Date: 634556532600000000\r\n"
    example = bytes.fromhex("00600 8EBD0 07009 EBF00 7008EBF0".replace(" ", ""))
    with hypnic.open(
        put(tmp_path / "a.gt3x", zipped({"activity.bin": example, "lux.bin": b"", "info.txt": info}))
    ) as recording:
        np.testing.assert_allclose(
            samples(recording),
            [
                [0.023460, 0.0175953, -0.947214],
                [0.0263929, 0.0205278, -0.941348],
                [0.023460, 0.0205278, -0.941348],
            ],
            atol=1e-6,
        )
        assert recording.start_time == datetime(2011, 10, 31, 10, 21, tzinfo=UTC)
        assert recording.sensor == "ActiGraph NEO1C16110020"
    xyz = counts(3015, size=2047)
    bits = b"".join(record[8:-1] for record in gt3x_log(xyz[:3000], 30))
    bits += gt3x_samples(xyz[3000:], 0)[8:-1]
    with hypnic.open(put(tmp_path / "b.gt3x", zipped({"activity.bin": bits, "info.txt": info}))) as recording:
        np.testing.assert_array_equal(samples(recording), (xyz * (1 / 341)).astype(np.float32))
        assert (recording.rate, len(recording.gaps)) == (30.0, 0)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"log.bin": b"x"}, "no info.txt"),
        ({"info.txt": b"Sample Rate: 100\n"}, r"neither log\.bin nor activity\.bin"),
        ({"info.txt": b"Sample Rate: 30\nSerial Number: NEO1\n", "activity.bin": b"x"}, "start date"),
        (
            {
                "info.txt": b"Sample Rate: 31\nSerial Number: NEO1\nStart Date: 634556532600000000",
                "activity.bin": b"x",
            },
            "no rate of an ActiGraph",
        ),
        ({"info.txt": b"Acceleration Scale: 256\n", "log.bin": b"x"}, "sample rate"),
        ({"info.txt": b"Sample Rate: 100\n", "log.bin": b"x"}, "acceleration scale"),
        ({"info.txt": b"Sample Rate: 100\nAcceleration Scale: 256\n", "log.bin": b"x"}, "no sound block"),
    ],
)
def test_actigraph_archives_that_lack_something(tmp_path, files, match):
    with pytest.raises(DataError, match=match):
        open_recording(put(tmp_path / "a.gt3x", zipped(files)))


# Empatica E4


def test_e4_as_file_folder_and_archive(tmp_path):
    xyz = counts(3200, size=127)
    data = e4_csv(xyz)
    folder = tmp_path / "1552563900_A00204"
    folder.mkdir()
    put(folder / "ACC.csv", data)
    put(folder / "tags.csv", b"")
    session = {"__MACOSX/._ACC.csv": b"\0\5", "S/ACC.csv": data, "S/info.txt": b"x"}
    archive = put(tmp_path / "S.zip", zipped(session, zipfile.ZIP_DEFLATED))
    for path in (folder / "ACC.csv", folder, archive):
        with hypnic.open(path) as recording:
            np.testing.assert_array_equal(samples(recording), (xyz / 64).astype(np.float32))
            assert (recording.rate, recording.start, recording.sensor) == (32.0, START, "Empatica E4")
            assert recording.path in (path, path / "ACC.csv")
    with pytest.raises(DataError, match=r"2 files ACC\.csv"):
        open_recording(put(tmp_path / "2.zip", zipped({"a/ACC.csv": data, "b/ACC.csv": data})))
    damaged = zipped({"ACC.csv": b"no,numbers,here\n" * 9})
    with pytest.raises(DataError, match=r"3\.zip: not an Empatica"):
        open_recording(put(tmp_path / "3.zip", damaged))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="this is a folder"):
        open_recording(tmp_path / "empty")
    with pytest.raises(DataError, match="no known format"):
        open_recording(put(tmp_path / "4.zip", zipped({"holiday.jpg": b"x"})))


# Empatica EmbracePlus


@pytest.fixture
def _fastavro():
    pytest.importorskip("fastavro", reason="fastavro is not installed")


embrace = pytest.mark.usefixtures("_fastavro")


@embrace
@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("conversion", [None, 1 / 2048])
def test_embraceplus(tmp_path, codec, conversion):
    xyz = counts(6400, size=20000)
    data = avro([avro_session(xyz, conversion=conversion)], conversion is not None, codec)
    scale = 32 / 65535 if conversion is None else conversion
    with hypnic.open(put(tmp_path / "1-1-100_1.avro", data)) as recording:
        np.testing.assert_array_equal(samples(recording), (xyz * scale).astype(np.float32))
        assert (recording.rate, recording.start, recording.dtype) == (64.0, START, "int16")
        assert recording.start_time.utcoffset() == timedelta(hours=1)
        assert recording.sensor == "Empatica EMBRACEPLUS 3YK3J151Y3"
        assert recording.scale == pytest.approx(scale, rel=1e-7)
        assert recording.range_g == (16.0 if conversion is None else None)


@embrace
def test_embraceplus_folder_with_a_gap_and_a_damaged_file(tmp_path):
    xyz = counts(640 * 6, size=20000)
    folder = tmp_path / "night"
    folder.mkdir()
    for k in range(6):
        start = START + k * 10.02 + (30 if k >= 4 else 0)
        data = avro([avro_session(xyz[k * 640 : k * 640 + 640], start=start)])
        put(folder / f"1-1-100_{k}.avro", data[:300] if k == 2 else data)
    put(folder / "readme.txt", b"x")
    with hypnic.open(folder) as recording:
        assert recording.rate == pytest.approx(640 / 10.02, rel=1e-6)
        assert gaps(recording) == [
            (1280, 640, DAMAGED),
            (1920, round(30 * 640 / 10.02), "none by the time stamps"),
        ]
        assert "1-1-100_2.avro: " in recording.notes[0]
        expected = (np.delete(xyz, slice(1280, 1920), axis=0) * (32 / 65535)).astype(np.float32)
        np.testing.assert_array_equal(samples(recording), expected)
        np.testing.assert_array_equal(recording.read(5, 6), expected[320:384][: len(recording.read(5, 6))])
    put(folder / "other.avro", avro([avro_session(xyz, device="X")]))
    with pytest.raises(DataError, match="several devices"):
        open_recording(folder)


@embrace
def test_embraceplus_resumes_after_a_damaged_block(tmp_path):
    xyz = counts(640 * 4, size=20000)
    data = bytearray(
        avro(
            [avro_session(xyz[at : at + 640], start=START + at / 64) for at in range(0, 2560, 640)],
            codec="deflate",
        )
    )
    marks = [at for at in range(len(data)) if data.startswith(b"s" * 16, at)]
    middle = (marks[1] + marks[2]) // 2
    data[middle : middle + 20] = bytes(20)
    with hypnic.open(put(tmp_path / "a.avro", bytes(data))) as recording:
        assert recording.n_samples == 3 * 640
        assert recording.damage or recording.notes


@embrace
def test_embraceplus_schemas_that_lay_traps(tmp_path):
    def file(schema, body=b"", codec=b"null", count=1):
        def number(n):
            out = b""
            n <<= 1
            while n > 127:
                out += bytes([n & 127 | 128])
                n >>= 7
            return out + bytes([n])

        def blob(data):
            return number(len(data)) + data

        text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
        head = b"Obj\x01" + number(2) + blob(b"avro.schema") + blob(text) + blob(b"avro.codec") + blob(codec)
        return head + number(0) + b"s" * 16 + number(count) + blob(body) + b"s" * 16

    endless = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}
    nothing = {
        "type": "record",
        "name": "A",
        "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}],
    }
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(bytes(200 * MB)) + squeeze.flush()
    tracemalloc.start()
    for data, match in [
        (file(endless, b"\0" * 1000), "unknown or nested type 'A'"),
        (file(nothing, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"), "array of nothing"),
        (file(b"[" * 100_000), "not a readable Avro file"),
        (file(avro_schema(), bomb, b"deflate"), "no acceleration"),
        (file(avro_schema(), b"\0" * 100, b"snappy"), "only deflate"),
        (file(avro_schema(), b"\0" * 3, count=1 << 60), "no acceleration"),
        (file("string", b"\x02a"), "no acceleration|not a readable"),
        (b"Obj\x01" + b"\xff" * 40, "not a readable Avro file"),
        (b"Obj\x01\x02\xfe\xff\xff\xff\x0f", "not a readable Avro file"),
    ]:
        with pytest.raises(DataError, match=match):
            open_recording(put(tmp_path / "a.avro", data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * MB


# Hostile files


def test_zip_bombs_are_refused_unread(tmp_path):
    # A fifth of a gigabyte of nothing, written piece by piece.
    tracemalloc.start()
    for name, member, rest in (
        ("a.gt3x", "log.bin", {"info.txt": b"Sample Rate: 100\nAcceleration Scale: 256\n"}),
        ("a.zip", "ACC.csv", {}),
    ):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for inner, data in rest.items():
                archive.writestr(inner, data)
            with archive.open(member, "w") as file:
                for _ in range(200):
                    file.write(bytes(MB))
        with pytest.raises(DataError, match="more than a recording would"):
            open_recording(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * MB


def _sources():
    xyz = counts(3000, size=500)
    log = gt3x_log(xyz)
    yield "a.cwa", cwa(xyz)
    yield "b.cwa", cwa(xyz, packed=False, axes=6, unit=2)
    yield "a.bin", geneactiv(xyz)
    yield "a.gt3x", gt3x(log)
    yield "b.gt3x", gt3x(log, packing=zipfile.ZIP_DEFLATED)
    yield "a.zip", zipped({"ACC.csv": e4_csv(xyz // 4)}, zipfile.ZIP_DEFLATED)
    yield "b.zip", zipped({"ACC.csv": e4_csv(xyz // 4)})
    try:
        sessions = [avro_session(xyz[at : at + 500], start=START + at / 64) for at in range(0, 3000, 500)]
        yield "a.avro", avro(sessions)
        yield "b.avro", avro(sessions, codec="deflate")
    except ImportError:
        return


SOURCES = dict(_sources())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip, overwrite, double or leave out a part."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(out)))
        if rng.random() < 0.3:
            at %= min(len(out), 2000)
        size = int(rng.integers(1, 600))
        match rng.integers(6):
            case 0:
                del out[at:]
                out = out or bytearray(b"\0")
            case 1:
                out[at] ^= 1 << int(rng.integers(8))
            case 2:
                out[at : at + size] = rng.bytes(size)
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                del out[at : at + size]
                out = out or bytearray(b"\0")
            case _:
                for place in rng.integers(0, len(out), 20).tolist():
                    out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


@pytest.mark.parametrize("name", SOURCES)
def test_mutated_files_give_an_error_or_a_sound_part(tmp_path, name):
    """Never a traceback, a hang or samples without end; what is yielded is consistent and countable."""
    rng = np.random.default_rng(5)
    data, path = SOURCES[name], tmp_path / name
    read, said = 0, set()
    for _ in range(60):
        put(path, mutated(data, rng))
        try:
            with open_recording(path) as recording:
                expected = 0
                received = 0
                for chunk in recording:
                    assert chunk.index - chunk.missing == expected
                    assert np.isfinite(chunk.xyz).all()
                    assert np.abs(chunk.xyz).max(initial=0) <= 40
                    expected = chunk.index + len(chunk)
                    received += len(chunk)
                assert expected == recording.n_total
                # Mutation can double a part of the text, which nothing betrays.
                assert received <= 3000 + 1800 * name.endswith((".zip", ".bin"))
                read += 1
        except HypnicError as error:
            said.add(str(error))
    assert read
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize("ending", [".cwa", ".bin", ".gt3x", ".avro", ".zip"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 5000,
        b"\xff" * 5000,
        b"PK\x03\x04" + bytes(500),
        b"AX\xfc\x01" * 1000,
        bytes(range(256)) * 40,
    ],
)
def test_garbage_is_refused_in_a_line(tmp_path, ending, content):
    if ending == ".avro":
        pytest.importorskip("fastavro", reason="fastavro is not installed")
    with pytest.raises(HypnicError) as caught:
        open_recording(put(tmp_path / f"a{ending}", content))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    xyz = counts(12_000)
    path = put(tmp_path / "a.cwa", cwa(xyz))
    with hypnic.open(path) as recording:
        with path.open("r+b") as file:
            file.truncate(1024 + 512 * 50)
        np.testing.assert_array_equal(recording.read(0, 60), (xyz[:6000] / 256).astype(np.float32))
        assert np.isnan(recording.read(60, 120)).all()
        assert sum(found.missing for found in recording.damage) == 6000
        assert recording.damage[0].reason == "no longer readable"


# Against peers, on real files


@pytest.mark.parametrize(
    "name",
    [
        "GGIRread_ax3_testfile.cwa",
        "GGIRread_ax6_testfile.cwa",
        "openmovement_example-610-steps.cwa",
        "GGIRread_GENEActiv_testfile.bin",
        "paat_10min_recording.gt3x",
        "paat_nwt_recording.gt3x",
    ],
)
def test_real_files_read_as_actfast_reads_them(recordings, name):
    actfast = pytest.importorskip("actfast", reason="actfast is not installed")
    path = recordings / "formats" / name
    peer = actfast.read(path)["timeseries"]
    peer = peer.get("high_frequency") or peer["acceleration"]
    with hypnic.open(path) as recording:
        got = samples(recording)
        np.testing.assert_array_equal(got, peer["acceleration"])
        # It gives local times; within a block it counts by the nominal rate, which is off by up to 2 %.
        local = recording.start + recording.start_time.utcoffset().total_seconds()
        seconds = local + np.arange(len(got)) / recording.rate
        np.testing.assert_allclose(seconds - peer["datetime"] / 1e9, 0, atol=0.08)


def test_a_real_damaged_file_keeps_what_is_sound(recordings):
    folder = recordings / "formats"
    name = "GGIRread_ax3_testfile_corrupt_blocks_0_13_14_142_143_144.cwa"
    with hypnic.open(folder / "GGIRread_ax3_testfile.cwa") as whole, hypnic.open(folder / name) as damaged:
        assert damaged.n_total == whole.n_total
        got, expected = damaged.read(), whole.read()
        lost = np.isnan(got).any(axis=1).reshape(145, 120)
        assert np.flatnonzero(lost.all(axis=1)).tolist() == [0, 13, 14, 142, 143, 144]
        assert np.count_nonzero(lost) == 6 * 120
        np.testing.assert_array_equal(got[~lost.ravel()], expected[~lost.ravel()])
        assert damaged.start == pytest.approx(whole.start, abs=0.002)
