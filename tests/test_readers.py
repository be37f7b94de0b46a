"""Other people's files: shapes, units and time stamps told right, or refused in a line that helps."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypnic import readers
from hypnic.chunk import Source
from hypnic.errors import DataError, UsageError
from hypnic.readers import open_recording
from hypnic.readers.base import Format, MemoryRecording, check_unit, infer_unit
from hypnic.readers.stamps import StampError, guess_tick, parse_stamps, to_grid, unwrap
from hypnic.recording import Recording, write_recording

SHARED = Path(__file__).parents[1].parent / "shared" / "recordings"
BASE = datetime(2024, 3, 21, 22, 59, 58, tzinfo=UTC).timestamp()

real = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real recordings is not there")


def samples(n=500, gravity=1.0, seed=0):
    xyz = np.random.default_rng(seed).normal((0, 0, gravity), 0.02 * gravity, (n, 3))
    return np.round(xyz, 5)


def text(path, lines, header=None, comments=(), end="\n", encoding="utf-8"):
    rows = [*(f"# {comment}" for comment in comments), *([header] if header else []), *lines]
    path.write_text(end.join(rows) + end, encoding=encoding, newline="")
    return path


def lines_of(stamps, xyz, between=","):
    return [
        between.join([str(stamp), *(f"{value:.5f}" for value in row)])
        for stamp, row in zip(stamps, xyz, strict=True)
    ]


def iso(seconds, form="%Y-%m-%d %H:%M:%S.%f"):
    return [datetime.fromtimestamp(at, UTC).strftime(form) for at in seconds]


def ticks(n, rate=50.0):
    return np.arange(n) / rate


# Shapes


@pytest.mark.parametrize("between", [",", "\t", ";", " ", ", "])
@pytest.mark.parametrize("header", ["time{}x{}y{}z", None])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_headers(tmp_path, between, header, end):
    xyz = samples()
    lines = lines_of(np.round(ticks(500), 3), xyz, between)
    header = header.format(*[between] * 3) if header else None
    path = text(tmp_path / "a.csv", lines, header, ["made by hand", "twice"], end)
    with open_recording(path, start="2024-01-01T00:00:00+02:00") as recording:
        assert isinstance(recording, Source)
        assert recording.rate == 50
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))
        assert recording.start_time == datetime.fromisoformat("2024-01-01T00:00:00+02:00")
        assert len(recording.gaps) == 0


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("acc_x,acc_y,acc_z,timestamp", (3, 0, 1, 2)),
        ("gx,gy,gz,ts,aX,aY,aZ", (3, 4, 5, 6)),
        ("Time,AccX1,AccY1,AccZ1,AccX2,AccY2,AccZ2,AngVelX1,AngVelY1,AngVelZ1", (0, 1, 2, 3)),
        ("label,HEADER_TIME_STAMP,Z,Y,X", (1, 4, 3, 2)),
        (
            '"seconds_elapsed","elapsed","Acceleration x (g)","Acceleration y (g)","Acceleration z (g)"',
            (1, 2, 3, 4),
        ),
        ("x_acc,y_acc,z_acc,t_s,,", (3, 0, 1, 2)),
        ("Accelerometer X,Accelerometer Y,Accelerometer Z,Time (s)", (3, 0, 1, 2)),
        ("accel_x,accel_y,accel_z,time [s]", (3, 0, 1, 2)),
    ],
)
def test_columns_are_found_by_name(tmp_path, header, order):
    xyz = samples()
    table = np.random.default_rng(9).normal(7, 1, (500, header.count(",") + 1)).round(3).astype(object)
    for column, values in zip(order, [np.round(ticks(500), 3), *xyz.T], strict=True):
        table[:, column] = values
    if header.endswith(",,"):
        table[:, -2:] = ""
    path = text(tmp_path / "a.csv", [",".join(map(str, row)) for row in table], header)
    with open_recording(path) as recording:
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))
        assert recording.rate == 50
        assert any("there are also AccX2" in note for note in recording.notes) == ("AccX2" in header)


def test_columns_are_taken_as_told(tmp_path):
    xyz = samples()
    table = np.column_stack([np.full(500, 3.0), xyz, np.round(ticks(500), 3)])
    path = text(tmp_path / "a.csv", [",".join(map(str, row)) for row in table], "a,b,c,d,when")
    with pytest.raises(DataError, match=r"columns \(a, b, c, d, when\)"):
        open_recording(path)
    for columns, time_column in (("b,c,d", "when"), ((1, 2, 3), 4), (["1", "C", "d"], "4")):
        with open_recording(path, columns=columns, time_column=time_column) as recording:
            np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))
    for options in (
        {"columns": "b,c"},
        {"columns": "b,c,e"},
        {"columns": (1, 2, 9)},
        {"columns": "b,c,d", "time_column": "e"},
    ):
        with pytest.raises(UsageError, match="column"):
            open_recording(path, **options)


def test_decimal_commas_byte_order_marks_and_utf_16(tmp_path):
    xyz = samples()
    lines = [line.replace(".", ",") for line in lines_of(np.round(ticks(500), 3), xyz, ";")]
    for encoding in ("utf-8-sig", "utf-16"):
        path = text(tmp_path / f"{encoding}.csv", lines, "time (s);x;y;z", encoding=encoding)
        with open_recording(path) as recording:
            np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))


def test_a_preamble_is_passed_over(tmp_path):
    xyz = samples()
    preamble = [
        "------ Data File Created By Something ------",
        "Serial Number: 123",
        "Start Time 10:00:00",
        "-----",
        "",
    ]
    path = text(tmp_path / "a.csv", [*preamble, "x,y,z", *(",".join(map(str, row)) for row in xyz)])
    with open_recording(path, rate=80) as recording:
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))


# Damage


def test_damaged_lines_are_skipped_and_counted(tmp_path):
    xyz = samples()
    lines = lines_of(np.round(ticks(500), 3), xyz)
    lines[100], lines[101], lines[300], lines[301] = "garbage", "2.02,0.1", "6.0,nan,0,1", lines[301] + ",,"
    lines.insert(200, "")
    path = text(tmp_path / "a.csv", lines, "time,x,y,z")
    with open_recording(path) as recording:
        assert recording.notes[0] == "3 damaged lines were skipped, first line 102: 'garbage'"
        got = recording.read()
        assert recording.gaps["missing"].tolist() == [2]
        np.testing.assert_array_equal(got[:100], xyz[:100].astype(np.float32))
        np.testing.assert_array_equal(got[302:], xyz[302:].astype(np.float32))
        assert np.isnan(got[100:102]).all()
        # One sample of 20 ms is bridged.
        np.testing.assert_allclose(got[300], (xyz[299] + xyz[301]) / 2, atol=1e-6)


def test_without_stamps_a_damaged_line_is_a_gap(tmp_path):
    xyz = samples()
    lines = [",".join(map(str, row)) for row in xyz]
    lines[7], lines[9], lines[10] = "x", "y", ""
    lines[499] = "1.0,"
    path = text(tmp_path / "a.csv", lines, "x,y,z")
    with open_recording(path, rate=50, units="g") as recording:
        # The empty line is no line of data: 499 are left.
        assert recording.n_total == 499
        assert recording.gaps[["sample", "missing"]].tolist() == [(7, 1), (8, 1), (496, 1)]
        assert np.isnan(recording.read()[[7, 9, 498]]).all()
        assert recording.start_time is None
    with pytest.raises(DataError, match="no column of time stamps"):
        open_recording(path)


def test_mostly_damaged_files_are_refused(tmp_path):
    lines = lines_of(np.round(ticks(500), 3), samples())
    lines[200:] = ["oops"] * 300
    with pytest.raises(DataError, match=r"300 of 501 lines.*line 201: 'oops'.*columns 1, 2, 3"):
        open_recording(text(tmp_path / "a.csv", [*lines, lines[0]]))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"\n\n\n", "no three columns"),
        (b"time,x,y,z\n", "no three columns"),
        (b"Dear diary,\nI slept well.\n" * 50, "no three columns"),
        (b"\x00\x01\x02" * 1000, "no known format"),
        (b"PK\x03\x04" + bytes(1000), "no known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(1000), "HDF5"),
        (b"1,2,3\n" * 100, "no column of time stamps"),
        (b"1,2\n" * 100, "no three columns"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, match):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        open_recording(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec="utf-8"), max_size=30),
            st.tuples(*[st.floats(-20, 20, width=16)] * 4).map(lambda row: ",".join(map(str, row))),
        ),
        max_size=60,
    )
)
def test_no_text_raises_anything_but_a_data_error(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(DataError):
        open_recording(path, units="g").read()


# Units


@pytest.mark.parametrize(("gravity", "unit"), [(1.0, "g"), (9.80665, "m/s2"), (1000.0, "mg")])
def test_units_are_told_from_gravity(tmp_path, gravity, unit):
    xyz = samples(gravity=gravity)
    path = text(tmp_path / "a.csv", lines_of(np.round(ticks(500), 3), xyz))
    with open_recording(path) as recording:
        assert recording.units == unit
        np.testing.assert_allclose(recording.read(), xyz / gravity, rtol=1e-5, atol=1e-7)
        assert any(f"taken to be {unit}" in note for note in recording.notes)


def test_units_come_from_the_header_or_the_caller(tmp_path):
    xyz = samples(gravity=64.0)
    lines = lines_of(np.round(ticks(500), 3), xyz)
    with pytest.raises(DataError, match=r"unit cannot be told.* 64"):
        open_recording(text(tmp_path / "a.csv", lines, "t,x,y,z"))
    for header, factor in (("t,x (m/s²),y (m/s²),z (m/s²)", 1 / 9.80665), ("t,x_mg,y_mg,z_mg", 1e-3)):
        with open_recording(text(tmp_path / "a.csv", lines, header)) as recording:
            np.testing.assert_allclose(recording.read(), xyz * factor, rtol=1e-5, atol=1e-7)
    for options, factor in (
        ({"scale": 1 / 64}, 1 / 64),
        ({"units": "mg"}, 1e-3),
        ({"scale": 2, "units": "mg"}, 2e-3),
    ):
        with open_recording(text(tmp_path / "a.csv", lines, "t,x,y,z"), **options) as recording:
            np.testing.assert_allclose(recording.read(), xyz * factor, rtol=1e-5, atol=1e-7)


def test_a_logged_board_says_its_scale_and_its_counter_wraps(tmp_path):
    counts = np.round(samples(gravity=16384.0)).astype(int)
    stamps = (np.arange(500) * 20000 + 2**32 - 5_000_000) % 2**32
    lines = [f"{k},{t},{x},{y},{z}" for k, (t, (x, y, z)) in enumerate(zip(stamps, counts, strict=True))]
    comment = "hypnic-csv v1 board=uno sensor=MPU6050 lsb_per_g=16384 rate_hz=50 tick_hz=1000000"
    path = text(tmp_path / "a.txt", lines, "seq,t_us,ax,ay,az", [comment])
    with open_recording(path) as recording:
        np.testing.assert_array_equal(recording.read(), (counts / 16384).astype(np.float32))
        assert recording.rate == 50
        assert any("started again" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("given", "plain"),
    [("g", "g"), ("G", "g"), ("m/s²", "m/s2"), ("m / s^2", "m/s2"), ("m s-2", "m/s2"), ("mg", "mg")],
)
def test_unit_names(given, plain):
    assert check_unit(given) == plain


def test_the_unit_of_a_busy_wrist(tmp_path):
    rng = np.random.default_rng(4)
    xyz = rng.normal((0, 0, 9.81), 4.0, (5000, 3))
    xyz[2000:2600] = rng.normal((0, 9.81, 0), 0.1, (600, 3))
    assert infer_unit(xyz, 50.0) == "m/s2"
    assert infer_unit(xyz - xyz, 50.0) is None
    assert infer_unit(xyz[:0], 50.0) is None


@pytest.mark.parametrize(
    "options", [{"rate": 5}, {"scale": -1}, {"units": "m"}, {"site": "nose"}, {"start": "noon"}]
)
def test_options_that_are_none_are_refused(tmp_path, options):
    path = text(tmp_path / "a.csv", lines_of(np.round(ticks(500), 3), samples()))
    with pytest.raises(UsageError, match=next(iter(options))[:4]):
        open_recording(path, **options)


def test_options_of_other_formats_are_refused(tmp_path):
    path = text(tmp_path / "a.csv", lines_of(np.round(ticks(500), 3), samples()))
    with pytest.raises(UsageError, match="dataset means nothing for delimited text"):
        open_recording(path, dataset="acc")


# Time stamps


@pytest.mark.parametrize(
    ("unit", "origin"),
    [(1.0, BASE), (1e3, BASE), (1e6, BASE), (1e9, BASE), (1.0, 0), (1e3, 12), (1e6, 3), (1e9, 0)],
)
@pytest.mark.parametrize("rate", [25.0, 100.0])
def test_numeric_stamps(tmp_path, unit, origin, rate):
    xyz = samples()
    stamps = (
        np.rint((origin + ticks(500, rate)) * unit).astype(np.int64)
        if unit > 1
        else np.round(origin + ticks(500, rate), 3)
    )
    with open_recording(text(tmp_path / "a.csv", lines_of(stamps, xyz))) as recording:
        assert recording.rate == rate
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))
        if origin == BASE:
            assert recording.start == pytest.approx(BASE, abs=1e-6)
        else:
            assert recording.start_time is None


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y/%m/%d %H:%M:%S.%f+00:00",
        "%Y-%m-%d_%H:%M:%S.%f",
    ],
)
def test_text_stamps(tmp_path, form):
    xyz = samples()
    path = text(tmp_path / "a.csv", lines_of(iso(BASE + ticks(500), form), xyz), "time,x,y,z")
    with open_recording(path) as recording:
        assert recording.rate == 50
        assert recording.start == pytest.approx(BASE)
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))
        assert any("UTC" in note for note in recording.notes) == (not form.endswith(("Z", "+00:00")))


def test_date_and_time_in_columns_of_their_own(tmp_path):
    xyz = samples()
    stamps = iso(BASE + ticks(500), "%Y/%m/%d,%H:%M:%S.%f")
    for header, between in (("rtcDate,rtcTime,aX,aY,aZ", ","), (None, ","), (None, " ")):
        lines = [line.replace(",", between) for line in lines_of(stamps, xyz)]
        with open_recording(text(tmp_path / "a.txt", lines, header)) as recording:
            assert recording.start == pytest.approx(BASE)
            assert recording.rate == 50


def test_time_of_day_passes_midnight(tmp_path):
    xyz = samples()
    late = datetime(2024, 3, 21, 23, 59, 55, tzinfo=UTC).timestamp()
    path = text(tmp_path / "a.csv", lines_of(iso(late + ticks(500), "%H:%M:%S.%f"), xyz), "time,x,y,z")
    with open_recording(path) as recording:
        assert recording.duration == pytest.approx(10.0)
        assert recording.start_time is None
        assert any("midnight" in note for note in recording.notes)


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), min_size=1, max_size=20),
    zone=st.sampled_from(["", "Z", "+01:00", "-0730"]),
    between=st.sampled_from(["T", " "]),
)
def test_stamps_against_the_standard_library(moments, zone, between):
    stamps = [moment.isoformat(between) + zone for moment in moments]
    expected = [datetime.fromisoformat(stamp) for stamp in stamps]
    seconds, dated, zoned = parse_stamps(np.array([stamp.encode() for stamp in stamps]))
    assert dated
    assert zoned == bool(zone)
    posix = [(moment if zone else moment.replace(tzinfo=UTC)).timestamp() for moment in expected]
    np.testing.assert_allclose(seconds, posix, atol=1e-6, rtol=0)


def test_odd_stamps():
    stamps = [
        b"2019-03-21 14:58:00:500",
        b"2019-03-21 14:58:00:5",
        b"2019-03-21 14:58:00,5",
        b" 2019-03-21 14:58:00 ",
    ]
    seconds, _, _ = parse_stamps(np.array(stamps))
    np.testing.assert_allclose(seconds - seconds[3], [0.5, 0.005, 0.5, 0.0], atol=1e-6)
    wrong = [
        b"2019-13-21 14:58:00",
        b"24:00:01",
        b"12:60:00",
        b"12:00",
        b"noon",
        b"",
        b"2019-03-21",
        b"12:00:00.5x",
    ]
    seconds, _, _ = parse_stamps(np.array([*wrong, b"01:02:03"]))
    assert np.isnan(seconds[:-1]).all()
    assert seconds[-1] == 3723


def wave(t):
    return np.stack([np.sin(6 * t), np.cos(4 * t), 1 + 0.1 * np.sin(9 * t)], axis=1).astype(np.float32)


def times(grid):
    """Return the time of every row of a grid."""
    number = np.arange(len(grid.xyz))
    for row, missing in grid.gaps:
        number[row:] += missing
    return grid.start + number / grid.rate


def test_even_stamps_keep_their_samples():
    for rate, places in ((100.0, 3), (80.0, 3), (32.0, 6), (104.0, 3), (400.0, 3)):
        t = np.arange(3000) / rate
        grid = to_grid(np.round(t, places), wave(t))
        assert grid.rate == pytest.approx(rate, rel=1e-5)
        np.testing.assert_array_equal(grid.xyz, wave(t))
        assert grid.gaps == []


def test_jitter_is_interpolated():
    rng = np.random.default_rng(0)
    t = np.sort(np.arange(5000) / 100 + rng.normal(0, 0.002, 5000))
    grid = to_grid(t, wave(t))
    assert grid.rate == pytest.approx(100, rel=1e-3)
    assert grid.gaps == []
    assert np.abs(grid.xyz - wave(times(grid))).max() < 0.005
    # Taking the samples as they come would be off by far more.
    assert np.abs(wave(t) - wave(np.arange(5000) / 100)).max() > 0.03
    assert any("interpolated" in note for note in grid.notes)


@settings(max_examples=40, deadline=None)
@given(
    holes=st.lists(st.tuples(st.integers(20, 980), st.integers(1, 60)), max_size=5),
    rate=st.sampled_from([25.0, 32.0, 50.0, 100.0, 200.0]),
    jitter=st.sampled_from([0.0, 0.05]),
)
def test_gaps_stay_gaps(holes, rate, jitter):
    rng = np.random.default_rng(len(holes))
    t = np.sort(np.arange(1000) / rate + jitter / rate * rng.uniform(-1, 1, 1000))
    kept = np.ones(1000, bool)
    for at, n in holes:
        kept[at : at + n] = False
    kept[:5] = kept[-5:] = True
    grid = to_grid(t[kept], wave(t[kept]), rate)
    steps = np.diff(t[kept])
    missed = np.rint(steps * rate).astype(int) - 1
    gaps = (missed > 0) & (steps > 1 / rate + 0.030)
    assert len(grid.gaps) == gaps.sum()
    assert [missing for _, missing in grid.gaps] == pytest.approx(missed[gaps], abs=1 if jitter else 0)
    assert abs(times(grid)[-1] - t[-1]) <= 1.5 / rate
    # Nothing is made up across a gap: every sample is near a moment at which there was one.
    apart = np.abs(times(grid)[:, None] - t[kept][None, :]).min(axis=1)
    assert apart.max() <= 0.5 * (1 / rate + 0.030) + 1.0 / rate


def test_disorder_repeats_and_late_delivery():
    t = np.arange(2000) / 100
    shuffled = t.copy()
    shuffled[[500, 501]] = shuffled[[501, 500]]
    grid = to_grid(shuffled, wave(shuffled))
    np.testing.assert_array_equal(grid.xyz, wave(t))
    assert "1 samples whose stamps were out of order were sorted" in grid.notes

    twice = np.sort(np.append(t, t[[100, 900]]))
    grid = to_grid(twice, wave(twice))
    np.testing.assert_array_equal(grid.xyz, wave(t))
    assert any(note.startswith("2 samples that repeat") for note in grid.notes)

    # A stall: five samples stamped together 50 ms late, none of them lost.
    late = t.copy()
    late[1000:1005] = late[1005] - 0.001
    grid = to_grid(late, wave(t))
    assert grid.gaps == []
    assert len(grid.xyz) == 2000
    assert np.abs(grid.xyz - wave(t)).max() < 0.02
    assert any("late" in note for note in grid.notes)

    tied = t.copy()
    tied[700] = tied[701]
    grid = to_grid(tied, wave(t))
    assert len(grid.xyz) == 2000
    assert any("share a stamp" in note for note in grid.notes)


@pytest.mark.parametrize("spread", [0.0, 0.0002])
def test_packets_are_spread(spread):
    n, size = 3000, 10
    arrival = (np.arange(n) // size + 1) * size / 100
    stamps = arrival + spread * (np.arange(n) % size)
    kept = np.ones(n, bool)
    kept[1000:1020] = False
    grid = to_grid(stamps[kept], wave(np.arange(n) / 100)[kept])
    assert grid.rate == 100
    assert grid.gaps == [(1000, 20)]
    np.testing.assert_allclose(grid.xyz, wave(np.arange(n) / 100)[kept], atol=1e-6)
    assert any("packets of about 10" in note for note in grid.notes)


def test_whole_seconds_are_enough(tmp_path):
    n = 6000
    xyz = samples(n)
    path = text(
        tmp_path / "a.csv", lines_of(iso(BASE + np.arange(n) // 100, "%Y-%m-%d %H:%M:%S"), xyz), "time,x,y,z"
    )
    with open_recording(path) as recording:
        assert recording.rate == 100
        np.testing.assert_array_equal(recording.read(), xyz.astype(np.float32))


def test_time_that_jumps_back_is_refused_with_its_line(tmp_path):
    stamps = np.round(ticks(500), 3)
    stamps[300:] -= 3.0
    path = text(tmp_path / "a.csv", lines_of(stamps, samples()), "time,x,y,z", ["comment"])
    with pytest.raises(DataError, match=r"line 303: time goes back by 2\.98 s"):
        open_recording(path)
    with pytest.raises(StampError) as caught:
        to_grid(stamps, samples().astype(np.float32))
    assert caught.value.row == 300


def test_stamps_that_stand_still_or_mean_nothing_are_refused(tmp_path):
    xyz = samples()
    with pytest.raises(DataError, match="no seconds, ms"):
        open_recording(text(tmp_path / "a.csv", lines_of(np.full(500, 7), xyz)))
    with pytest.raises(DataError, match="do not advance"):
        open_recording(text(tmp_path / "a.csv", lines_of(["2024-01-01 00:00:00"] * 500, xyz)))
    with pytest.raises(DataError, match="no time stamp"):
        open_recording(text(tmp_path / "a.csv", lines_of(["yesterday"] * 500, xyz), "time,x,y,z"))
    with pytest.raises(DataError, match="50 Hz, and 100 Hz was given"):
        open_recording(text(tmp_path / "a.csv", lines_of(np.round(ticks(500), 3), xyz)), rate=100)
    with pytest.raises(DataError, match="rate 10 Hz is below 25 Hz"):
        open_recording(text(tmp_path / "a.csv", lines_of(np.round(ticks(500, 10), 3), xyz)))


def test_ticks_are_told():
    assert guess_tick(np.arange(100) * 0.01) == ("s", False)
    assert guess_tick(1.5e9 + np.arange(100) * 0.01) == ("s", True)
    assert guess_tick(1.5e9 + np.arange(100) * 10_000.0) == ("us", False)
    assert guess_tick(np.append(np.arange(2000), 1e6 + np.arange(2000)) * 10) == ("ms", False)
    assert guess_tick(np.zeros(10)) is None
    assert guess_tick(np.zeros(1)) is None
    values, times = unwrap(np.array([86390.0, 86399, 5, 10]), 86400, 43200)
    assert (values.tolist(), times) == ([86390, 86399, 86405, 86410], 1)


# Empatica and other formats


def test_empatica(tmp_path):
    counts = np.random.default_rng(0).integers(-128, 128, (400, 3))
    start = "1644226061.000000, 1644226061.000000, 1644226061.000000"
    rows = [",".join(map(str, row)) for row in counts]
    rows[100] = "broken"
    path = text(tmp_path / "ACC.csv", [start, "32.000000, 32.000000, 32.000000", *rows])
    with open_recording(path) as recording:
        assert (recording.rate, recording.site, recording.range_g, recording.scale) == (
            32,
            "wrist",
            2,
            1 / 64,
        )
        assert recording.start == 1644226061
        got = recording.read()
        assert np.isnan(got[100]).all()
        np.testing.assert_array_equal(
            np.delete(got, 100, 0), np.delete(counts, 100, 0).astype(np.float32) / 64
        )
        write_recording(tmp_path / "n.h5", recording)
    with Recording(tmp_path / "n.h5") as night:
        np.testing.assert_array_equal(night.read(), got)
        assert (night.dtype, night.sensor) == ("int16", "Empatica E4")
    with open_recording(path, site="mattress", start="2024-01-01T00:00:00Z") as recording:
        assert (recording.site, recording.start_time.year) == ("mattress", 2024)


def test_a_new_format_enters_by_registering(tmp_path):
    def opens(path, site="wrist"):
        return MemoryRecording(path, np.ones((50, 3), np.float32), rate=50, site=site)

    form = Format("ones", (".one",), lambda path, head: head.startswith(b"ONE"), opens, frozenset({"site"}))
    (tmp_path / "a.one").write_bytes(b"ONE")
    readers.register(form)
    try:
        assert open_recording(tmp_path / "a.one", site="mattress").n_samples == 50
    finally:
        del readers.FORMATS["ones"]


def test_hdf5_is_opened_too(tmp_path):
    write_recording(
        tmp_path / "n.dat",
        open_recording(text(tmp_path / "a.csv", lines_of(np.round(ticks(500), 3), samples()))),
    )
    with open_recording(tmp_path / "n.dat", site="mattress") as recording:
        assert isinstance(recording, Recording)
        assert recording.site == "mattress"
    with pytest.raises(DataError, match="no such file"):
        open_recording(tmp_path / "none.h5")


# Real recordings


@real
@pytest.mark.parametrize(
    "path", sorted(SHARED.glob("stress_predict_e4_32hz/*.csv")), ids=lambda path: path.stem
)
def test_real_empatica(path):
    with open_recording(path) as recording:
        assert (recording.rate, recording.range_g) == (32, 2)
        assert 3000 < recording.duration < 3600
        assert 0.95 < np.median(np.linalg.norm(recording.read(), axis=1)) < 1.05
        assert recording.notes == []


@real
def test_real_actigraph_on_a_table():
    with open_recording(SHARED / "formats" / "MIMSunit_rest_on_table_80hz.csv") as recording:
        assert recording.rate == 80
        assert len(recording.gaps) == 0
        assert recording.n_samples == 4999
        assert np.linalg.norm(recording.read(), axis=1).mean() == pytest.approx(0.972, abs=0.002)


@real
def test_real_wrist_with_a_colon_before_the_milliseconds():
    with open_recording(SHARED / "formats" / "Nikhil_wrist_100hz_2min.csv") as recording:
        assert (recording.rate, recording.n_samples, recording.duration) == (100, 12000, 120)
        assert recording.start_time.isoformat() == "2019-03-21T14:58:00.500000+00:00"


@real
@pytest.mark.parametrize("name", ["231213_181935", "231213_182054"])
def test_real_boards_that_are_too_slow_are_refused(name):
    with pytest.raises(DataError, match=r"rate 9\.\d+ Hz is below 25 Hz, the least that resolves a jerk"):
        open_recording(SHARED / "formats" / f"e-ke_BWT901CL_{name}.csv")


@real
def test_real_watch_stamps(tmp_path):
    """Stamps that jitter by 2.4 ms and stall for 40 ms, at a rate that is the same in every run."""
    data = np.load(SHARED / "geotec_watch_104hz" / "geotec_s01_s12.npz")
    runs = sorted(name[: -len("_t_ms")] for name in data if name.endswith("_t_ms"))[::12]
    for run in runs:
        stamps, xyz = data[f"{run}_t_ms"], data[f"{run}_acc"]
        with open_recording(
            text(tmp_path / f"{run}.csv", lines_of(stamps, xyz), "timestamp,x,y,z")
        ) as recording:
            assert recording.rate == pytest.approx(104.3, abs=0.3)
            assert recording.units == "m/s2"
            assert len(recording.gaps) == 0
            assert abs(recording.n_samples - len(xyz)) <= 1
            assert recording.start == pytest.approx(stamps[0] / 1e3, abs=0.02)
