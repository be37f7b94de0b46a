"""The HDF5 night: what is written is read, gaps stay gaps, and no crash costs more than a second."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypnic.chunk import ArraySource, Chunk, Source
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events
from hypnic.recording import Recorder, Recording, night, pack, recorder, write_recording
from hypnic.recording.layout import Lock

RATE = 100.0
SCALE = 1 / 16384


def counts(n, seed=0):
    return np.random.default_rng(seed).integers(-32768, 32768, (n, 3), dtype=np.int16)


def in_g(rows, scale=SCALE):
    return (rows.astype(np.float64) * scale).astype(np.float32)


def some_events(n=3):
    rows = np.zeros(n, EVENT_DTYPE)
    rows["onset"], rows["id"] = np.arange(n) + 0.25, np.arange(n)
    rows["label"], rows["rest"] = "hypnic_jerk", "onset"
    rows["hf_ratio"] = np.nan
    meta = {"hypnic": "0.1.0", "settings": {"on": 2.5, "list": [1, 2]}, "rate": 100.0, "chunks": 7}
    return Events(rows, meta)


def make_night(path, n=1000, gap=None, rows=None, **options):
    rows = counts(n) if rows is None else rows
    with Recorder(path, RATE, scale=SCALE, durable=False, **options) as out:
        out.write(Chunk(in_g(rows[: n // 2]), 0))
        if gap:
            out.gap(gap, "unplugged")
        out.write(Chunk(in_g(rows[n // 2 :]), n // 2 + (gap or 0)))
    return rows


def foreign(path, data, name="data", file_attrs=None, **attrs):
    with h5py.File(path, "w") as file:
        node = file.create_dataset(name, data=data)
        node.attrs.update(attrs)
        file.attrs.update(file_attrs or {})
    return path


# Round trip


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_counts_come_back_bit_for_bit(tmp_path, dtype):
    rows = counts(5000)
    with Recorder(tmp_path / "n.h5", RATE, dtype=dtype, scale=SCALE, durable=False) as out:
        for at in range(0, 5000, 37):
            out.write(Chunk(in_g(rows[at : at + 37]), at))
    with h5py.File(tmp_path / "n.h5") as file:
        np.testing.assert_array_equal(file["acceleration"][:], rows)
        assert file["acceleration"].dtype == dtype
        assert file["acceleration"].compression == "gzip"
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.read().tobytes() == in_g(rows).tobytes()
        assert out.packed
        assert out.clipped == 0


@pytest.mark.parametrize("scale", [1 / 16384, 0.0039, 1 / 64, 2 / 32768, 0.000244])
def test_every_count_survives_float32(tmp_path, scale):
    every = np.arange(-32768, 32768, dtype=np.int16).repeat(3).reshape(-1, 3)
    source = ArraySource(in_g(every, scale), RATE)
    write_recording(tmp_path / "n.h5", source, dtype="int16", scale=scale)
    with h5py.File(tmp_path / "n.h5") as file:
        np.testing.assert_array_equal(file["acceleration"][:], every)


def test_float32_is_stored_as_it_comes(tmp_path):
    xyz = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    xyz[7, 1], xyz[9, 2] = np.nan, np.inf
    write_recording(tmp_path / "n.h5", ArraySource(xyz, RATE))
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.read().tobytes() == xyz.tobytes()
        assert recording.scale is None


def test_facts_are_kept(tmp_path):
    facts = {"range_g": 2.0, "sensor": "MPU6050", "subject": "S01", "notes": "snores"}
    with Recorder(tmp_path / "n.h5", 50, "mattress", start_time="2024-03-21T22:30:00+01:00", **facts) as out:
        out.write(Chunk(np.full((60, 3), 0.5, np.float32), 0))
        out.clock(0, 1000, 1711056600.0)
        out.clock(59, 60000, 1711056601.18)
        out.annotate(0.5, 2.0, "Zuckung", "diary – ä")
        out.events(some_events())
    with Recording(tmp_path / "n.h5") as recording:
        assert isinstance(recording, Source)
        assert (recording.rate, recording.site, recording.range_g, recording.sensor) == (
            50,
            "mattress",
            2.0,
            "MPU6050",
        )
        assert recording.scale == 2.0 / 32768
        assert recording.start_time == datetime.fromisoformat("2024-03-21T21:30:00+00:00")
        assert recording.start_time.isoformat() == "2024-03-21T22:30:00+01:00"
        assert recording.attrs == {"subject": "S01", "notes": "snores"}
        assert recording.version == "1"
        assert recording.created_by.startswith("hypnic ")
        assert not recording.unfinished
        assert recording.notes == []
        assert recording.clock["device_tick"].tolist() == [1000, 60000]
        assert recording.effective_rate == pytest.approx(50.0)
        assert recording.annotations.tolist() == [(0.5, 2.0, "Zuckung", "diary – ä")]
        assert recording.events().array.tobytes() == some_events().array.tobytes()
        assert recording.events().meta == some_events().meta
        assert next(iter(recording)).time == recording.start_time.timestamp()


def test_plain_h5py_reads_the_tables_as_text(tmp_path):
    make_night(tmp_path / "n.h5", gap=5)
    with Recording(tmp_path / "n.h5") as recording:
        recording.write_events(some_events())
    with h5py.File(tmp_path / "n.h5") as file:
        assert file["gaps"][:].tolist() == [(500, 5, b"unplugged")]
        assert file["events"]["label"][0].decode() == "hypnic_jerk"
        assert json.loads(file["events"].attrs["settings"])["on"] == 2.5


def test_start_time_is_that_of_the_first_chunk(tmp_path):
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(np.zeros((10, 3), np.float32), 5, 1700000000.0, missing=5))
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.start_time == datetime.fromtimestamp(1700000000.0 - 0.05, UTC)
        assert next(iter(recording)).time == pytest.approx(1700000000.0, abs=1e-5)


def test_a_recording_copies_whole(tmp_path):
    make_night(tmp_path / "a.h5", gap=9, range_g=2.0, sensor="x", start_time="2024-01-01T00:00:00+00:00")
    with Recording(tmp_path / "a.h5") as first:
        first.write_events(some_events())
        write_recording(tmp_path / "b.h5", first)
        with Recording(tmp_path / "b.h5") as second:
            np.testing.assert_array_equal(first.read(), second.read())
            assert second.gaps.tolist() == first.gaps.tolist() == [(500, 9, "unplugged")]
            for name in ("rate", "site", "scale", "range_g", "sensor", "start_time", "dtype", "n_total"):
                assert getattr(first, name) == getattr(second, name), name
            assert second.events().array.tobytes() == some_events().array.tobytes()


# Gaps and windows

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    runs=LENGTHS,
    lead=st.integers(0, 3),
    block=st.integers(1, 50),
    window=st.tuples(st.integers(-5, 400), st.integers(0, 400)),
    split=st.integers(1, 50),
)
def test_gaps_are_counted_and_never_filled(tmp_path_factory, runs, lead, block, window, split):
    """Against the slow twin: one array with NaN where samples are missing."""
    folder = tmp_path_factory.mktemp("gaps")
    parts = [np.full((lead, 3), np.nan, np.float32)]
    rng = np.random.default_rng(len(runs))
    with Recorder(folder / "n.h5", RATE, dtype="float32", durable=False, start_time=0.0) as out:
        if lead:
            out.gap(lead, "late")
        for n, missing in runs:
            xyz = rng.normal(size=(n, 3)).astype(np.float32)
            for at in range(0, n, split):
                out.write(Chunk(xyz[at : at + split], out.n_total))
            parts += [xyz, np.full((missing, 3), np.nan, np.float32)]
            if missing:
                out.gap(missing, "lost")
    naive = np.concatenate(parts)
    low, high = max(0, window[0]), max(0, window[0]) + window[1]
    with Recording(folder / "n.h5") as recording:
        assert recording.n_total == len(naive)
        assert recording.n_samples == np.isfinite(naive[:, 0]).sum()
        np.testing.assert_array_equal(recording.read(), naive)
        np.testing.assert_array_equal(recording.read(window[0] / RATE, high / RATE), naive[low:high])
        seconds, xyz = recording.waveform(low / RATE, high / RATE)
        assert len(seconds) == len(xyz)
        for begin, end in ((0, len(naive)), (min(low, len(naive)), min(high, len(naive)))):
            expected = begin
            for chunk in recording.chunks(block, begin / RATE, end / RATE):
                assert chunk.index - chunk.missing == expected
                assert len(chunk) <= block
                assert np.isnan(naive[expected : chunk.index]).all()
                np.testing.assert_array_equal(chunk.xyz, naive[chunk.index : chunk.index + len(chunk)])
                assert chunk.time == pytest.approx(chunk.index / RATE)
                expected = chunk.index + len(chunk)
            assert expected == end


def test_indices_make_gaps_by_themselves(tmp_path):
    xyz = np.ones((10, 3), np.float32)
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(xyz, 100))
        out.write(Chunk(xyz, 117, missing=7))
        out.write(Chunk(xyz[:0], 130, missing=3))
        out.gap(4, "r" * 80)
        out.write(Chunk(xyz, 134, missing=4))
        assert (out.n_samples, out.n_total) == (30, 44)
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.gaps["sample"].tolist() == [10, 20, 20]
        assert recording.gaps["missing"].tolist() == [7, 3, 4]
        assert recording.gaps["reason"].tolist() == ["lost", "lost", "r" * 64]
        assert [(c.index, c.missing, len(c)) for c in recording] == [(0, 0, 10), (17, 7, 10), (34, 7, 10)]


def test_what_is_no_number_is_a_gap_among_counts(tmp_path):
    xyz = np.full((10, 3), 0.5, np.float32)
    xyz[0], xyz[4:6, 1], xyz[9] = np.nan, np.inf, np.nan
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(xyz, 0))
    with Recording(tmp_path / "n.h5") as recording:
        assert np.isnan(recording.read()[:, 0]).nonzero()[0].tolist() == [0, 4, 5, 9]
        assert recording.gaps["sample"].tolist() == [0, 3, 6]


def test_beyond_the_range_is_clipped_and_counted(tmp_path):
    with Recorder(tmp_path / "n.h5", RATE, range_g=2, durable=False) as out:
        out.write(Chunk(np.array([[9.0, 0, 0], [0, -9, 0], [1, 1, 1]], np.float32), 0))
    assert out.clipped == 2
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.read()[0, 0] == 32767 * 2 / 32768
        assert recording.read()[1, 1] == -2.0


@pytest.mark.parametrize("window", [(3.0, 2.0), (np.nan, 1.0), (0.0, np.nan)])
def test_windows_that_are_none_are_refused(tmp_path, window):
    make_night(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording, pytest.raises(UsageError, match="window"):
        recording.read(*window)


# Other people's HDF5


@pytest.mark.parametrize(
    ("dtype", "units", "factor"),
    [
        ("int16", "g", 1.0),
        (">i4", "mg", 1e-3),
        ("float32", "m/s2", 1 / 9.80665),
        ("float64", "m/s²", 1 / 9.80665),
        ("uint8", "m/s^2", 1 / 9.80665),
    ],
)
def test_types_and_units(tmp_path, dtype, units, factor):
    data = (counts(100).astype(np.int64) % 100).astype(dtype)
    path = foreign(tmp_path / "f.h5", data, sampling_rate=50, scale=0.5, units=units)
    with Recording(path) as recording:
        np.testing.assert_array_equal(
            recording.read(), (data.astype(float) * (0.5 * factor)).astype(np.float32)
        )
        assert recording.rate == 50
        assert recording.site == "wrist"
        assert recording.events() is None
        assert "assumed" in recording.notes[0]


def test_the_only_candidate_is_found_and_options_win(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["a/b/acc"] = counts(50)
        file["a/b/gyro"] = np.zeros((50, 2))
        file["names"] = np.array([b"x", b"y"])
        file["a"].attrs["fs"] = 40.0
        file.attrs["site"] = "mattress"
        file.attrs["start_time"] = "2024-01-01T00:00:00"
    with Recording(path, scale=SCALE) as recording:
        assert (recording.rate, recording.site) == (40, "mattress")
        assert recording.start_time == datetime(2024, 1, 1, tzinfo=UTC)
        assert any("UTC" in note for note in recording.notes)
    with Recording(
        path, scale=0.001, units="mg", rate=30, site="wrist", start="2025-01-01T00:00:00Z"
    ) as recording:
        assert (recording.rate, recording.site, recording.start_time.year) == (30, "wrist", 2025)
        np.testing.assert_array_equal(recording.read(), in_g(counts(50), 1e-6))
    with h5py.File(path, "a") as file:
        file["other"] = counts(50)
    with pytest.raises(DataError, match="several"):
        Recording(path, scale=SCALE)
    with Recording(path, scale=SCALE, dataset="a/b/acc") as recording:
        assert recording.n_samples == 50


@pytest.mark.parametrize(("gravity", "unit"), [(1.0, "g"), (9.81, "m/s2"), (1000.0, "mg")])
def test_gravity_tells_the_unit(tmp_path, gravity, unit):
    xyz = np.random.default_rng(0).normal((0, 0, gravity), 0.01 * gravity, (1000, 3))
    with Recording(foreign(tmp_path / "f.h5", xyz), rate=50) as recording:
        assert recording.units == unit
        assert np.median(recording.read()[:, 2]) == pytest.approx(1.0, abs=0.01)


def refused(path, match, kind=DataError, **options):
    with pytest.raises(kind, match=match) as caught:
        Recording(path, **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_recording_is_refused(tmp_path):
    path = tmp_path / "f.h5"
    refused(path, "no such file")
    path.write_bytes(b"hello" * 1000)
    refused(path, "HDF5")
    path.write_bytes(b"")
    refused(path, "HDF5")
    make_night(path, overwrite=True)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "truncated")
    refused(foreign(path, np.zeros((3, 50))), "shape")
    refused(foreign(path, np.zeros((50, 3))), "rate=")
    refused(foreign(path, np.zeros((50, 3)), rate=50), "gravity")
    refused(foreign(path, counts(50), rate=50), "scale=")
    refused(foreign(path, counts(50), rate=5, scale=1.0), "below 25 Hz")
    refused(foreign(path, counts(50), rate="fast", scale=1.0), "sampling_rate")
    refused(foreign(path, counts(50), rate=50, scale=-1.0), "scale")
    refused(foreign(path, counts(50), rate=50, scale=np.nan), "scale")
    refused(foreign(path, counts(50), rate=50, scale=1.0, units="furlong"), "unit")
    refused(foreign(path, counts(50), rate=50, scale=1.0, site="nose"), "site")
    refused(foreign(path, counts(0), rate=50, scale=1.0), "no samples")
    refused(foreign(path, counts(50), rate=50, scale=1.0), "no data set", dataset="other")
    refused(foreign(path, np.zeros((50, 3), complex), rate=50), "complex", dataset="data")


@pytest.mark.parametrize(
    "options", [{"rate": 5}, {"rate": "x"}, {"scale": 0}, {"units": "m"}, {"site": "nose"}, {"start": "noon"}]
)
def test_options_that_are_none_are_refused(tmp_path, options):
    refused(
        foreign(tmp_path / "f.h5", counts(50), rate=50, scale=1.0),
        next(iter(options))[:4],
        UsageError,
        **options,
    )


def test_a_later_version_is_refused(tmp_path):
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        file.attrs["format_version"] = "2"
    refused(tmp_path / "n.h5", "version 2")


def test_nothing_is_read_from_other_files(tmp_path):
    foreign(tmp_path / "secret.h5", counts(50), name="secret")
    (tmp_path / "raw.bin").write_bytes(counts(50).tobytes())
    path = tmp_path / "f.h5"
    options = {"rate": 50, "scale": 1.0}
    with h5py.File(path, "w") as file:
        file["out"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
        file["soft"] = h5py.SoftLink("/out")
        layout = h5py.VirtualLayout((50, 3), "i2")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "secret", (50, 3))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (50, 3), "i2", external=[(str(tmp_path / "raw.bin"), 0, 300)])
    for name in ("out", "soft"):
        refused(path, "link", dataset=name, **options)
    for name in ("virtual", "raw"):
        refused(path, "other files", dataset=name, **options)
    with h5py.File(path, "w") as file:
        file["out"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
    refused(path, "no data set", **options)
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        del file["gaps"]
        file["gaps"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
    refused(tmp_path / "n.h5", "link")


GAP = [("sample", "i8"), ("missing", "i8")]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([(-1, 5)], "negative"),
        ([(5, 0)], "negative"),
        ([(5, -3)], "negative"),
        ([(9, 1), (5, 1)], "order"),
        ([(5, 2**62), (5, 2**62)], "days long"),
    ],
)
def test_impossible_gaps_are_refused(tmp_path, rows, match):
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        del file["gaps"]
        file["gaps"] = np.array(rows, GAP)
    refused(tmp_path / "n.h5", match)


def test_gaps_after_the_end_are_left_out(tmp_path):
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        del file["gaps"]
        file["gaps"] = np.array([(1000, 7), (1001, 9)], GAP)
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.gaps["missing"].tolist() == [7]
        assert recording.n_total == 1007
        assert [(c.index, c.missing, len(c)) for c in recording] == [(0, 0, 1000), (1007, 7, 0)]
        assert "left out" in recording.notes[0]


def test_tables_that_are_none_are_refused(tmp_path):
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        del file["events"], file["clock"]
        file["events"] = np.zeros(3, [("onset", "f8")])
        file["clock"] = np.zeros(3)
    with Recording(tmp_path / "n.h5") as recording:
        with pytest.raises(DataError, match="lacks duration"):
            recording.events()
        with pytest.raises(DataError, match="not a table"):
            _ = recording.clock


def test_a_huge_claim_costs_nothing(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", (10**10, 3), "i2", chunks=(1000, 3), maxshape=(None, 3))
        data[2000:3000] = counts(1000)
    options = {"rate": 100, "scale": 1.0}
    with Recording(path, **options) as recording:
        chunks = list(recording)
        assert [(c.index, c.missing, len(c)) for c in chunks] == [
            (2000, 2000, 1000),
            (10**10, 10**10 - 3000, 0),
        ]
        assert [(d.sample, d.missing) for d in recording.damage] == [(0, 2000), (3000, 10**10 - 3000)]
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (2**60, 3), "i2", chunks=(1000, 3), maxshape=(None, 3))
    refused(path, "days long", **options)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10**7, 3), "i2", chunks=(1000, 3))
    refused(path, "ever written", **options)


def test_chunks_too_large_for_memory_are_refused(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("a", (10**9, 3), "i2", chunks=(10**8, 3), compression="gzip")
    refused(tmp_path / "f.h5", "chunks", rate=100, scale=1.0)


# Damage


def spoil(path, *chunks):
    with h5py.File(path) as file:
        found = [file["acceleration"].id.get_chunk_info(at) for at in chunks]
    with path.open("rb+") as handle:
        for info in found:
            handle.seek(info.byte_offset)
            handle.write(b"\xff" * info.size)


def test_a_damaged_chunk_is_missing_and_the_rest_is_read(tmp_path):
    rows = make_night(tmp_path / "n.h5", 30000, gap=11)  # chunks of 6000 rows, the gap at row 15000
    spoil(tmp_path / "n.h5", 1, 2)
    expected = np.insert(in_g(rows), [15000] * 11, np.nan, axis=0)
    expected[6000 : 18000 + 11] = np.nan
    for block in (700, 65536):
        with Recording(tmp_path / "n.h5") as recording:
            got = np.full_like(expected, np.nan)
            expected_index = 0
            for chunk in recording.chunks(block):
                assert chunk.index - chunk.missing == expected_index
                got[chunk.index : chunk.index + len(chunk)] = chunk.xyz
                expected_index = chunk.index + len(chunk)
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(recording.read(), expected)
            lost = np.zeros(len(expected), bool)
            for found in recording.damage:
                lost[found.sample : found.sample + found.missing] = True
            assert lost[6000:15000].all()
            assert lost.nonzero()[0].min() == 6000
            assert lost.nonzero()[0].max() == 18010
            assert "inflate" in recording.damage[0].reason or "filter" in recording.damage[0].reason


def test_a_night_of_nothing_but_damage_is_refused(tmp_path):
    make_night(tmp_path / "n.h5", 12000)
    spoil(tmp_path / "n.h5", 0, 1)
    with (
        Recording(tmp_path / "n.h5") as recording,
        pytest.raises(DataError, match="nothing in it can be read"),
    ):
        list(recording)


def test_rows_that_were_never_written_are_no_samples(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", (3500, 3), "i2", chunks=(1000, 3), compression="gzip")
        data[:1000] = counts(1000)
        data[2000:] = counts(1500)
    with Recording(path, rate=100, scale=1.0) as recording:
        assert [(c.index, c.missing, len(c)) for c in recording] == [(0, 0, 1000), (2000, 1000, 1500)]
        assert recording.damage == [(1000, 1000, "never written")]


# Memory and the chunk cache


def test_memory_does_not_grow_with_the_night(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "a", (4_000_000, 3), "i2", chunks=(60000, 3), compression="gzip", compression_opts=1
        )
        for at in range(0, 4_000_000, 600_000):
            data[at : at + 600_000] = np.ones((min(600_000, 4_000_000 - at), 3))
    with Recording(path, rate=100, scale=1.0) as recording:
        tracemalloc.start()
        try:
            assert sum(len(chunk) for chunk in recording) == 4_000_000
            assert tracemalloc.get_traced_memory()[1] < 8e6  # all of it would be 48 MB
        finally:
            tracemalloc.stop()


def test_the_cache_holds_the_largest_chunk(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset(
            "a", data=np.ones((3_000_000, 3), "f8"), chunks=(1_000_000, 1), compression="gzip"
        )
    with Recording(tmp_path / "f.h5", rate=100, units="g") as recording:
        assert recording._data.id.get_access_plist().get_chunk_cache()[1] >= 3 * 8_000_000


# Events


def test_events_are_replaced_and_samples_untouched(tmp_path):
    make_night(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording:
        before = recording.read()
        assert len(recording.events()) == 0
        recording.write_events(some_events(3))
        recording.write_events(some_events(2))
        assert len(recording.events()) == 2
        np.testing.assert_array_equal(recording.read(), before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.h5"]


def test_a_crash_while_events_are_written_leaves_the_night(tmp_path, monkeypatch):
    make_night(tmp_path / "n.h5")
    before = (tmp_path / "n.h5").read_bytes()

    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(night, "write_meta", crash)
    with Recording(tmp_path / "n.h5") as recording:
        with pytest.raises(KeyboardInterrupt):
            recording.write_events(some_events())
        assert recording.n_samples == len(recording.read())
    assert (tmp_path / "n.h5").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.h5"]


def test_events_are_not_forced_on_a_file(tmp_path):
    make_night(tmp_path / "n.h5")
    (tmp_path / "n.h5").chmod(0o444)
    with Recording(tmp_path / "n.h5") as recording, pytest.raises(DataError, match="read-only"):
        recording.write_events(some_events())
    foreign(tmp_path / "f.h5", counts(50), rate=50, scale=1.0)
    with Recording(tmp_path / "f.h5") as recording, pytest.raises(DataError, match="not a hypnic night"):
        recording.write_events(some_events())


# The recorder refuses


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 5},
        {"site": "nose"},
        {"dtype": "int8"},
        {"scale": 0.0},
        {"range_g": -1},
        {"start_time": "noon"},
    ],
)
def test_recorder_options_that_are_none(tmp_path, options):
    with pytest.raises(UsageError):
        Recorder(tmp_path / "n.h5", **{"rate": RATE, **options})
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    rows = make_night(tmp_path / "n.h5")
    with pytest.raises(DataError, match="exists already"):
        Recorder(tmp_path / "n.h5", RATE)
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == len(rows)
    make_night(tmp_path / "n.h5", 10, overwrite=True)
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 10


def test_two_recorders_cannot_share_a_file(tmp_path):
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        with pytest.raises(DataError, match="being recorded"):
            Recorder(tmp_path / "n.h5", RATE, overwrite=True)
        out.write(Chunk(np.ones((200, 3), np.float32), 0))
        with Recording(tmp_path / "n.h5") as recording, pytest.raises(DataError, match="being recorded"):
            recording.write_events(some_events())
        with pytest.raises(DataError, match="being recorded"):
            pack(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 200
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.h5"]


def test_a_lock_left_behind_does_not_bind(tmp_path):
    (tmp_path / ".n.h5.lock").touch()
    make_night(tmp_path / "n.h5")
    with Lock(tmp_path / "n.h5"):
        pass


def test_chunks_must_come_in_order(tmp_path):
    xyz = np.ones((10, 3), np.float32)
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(xyz, 0, 1000.0))
        with pytest.raises(DataError, match="starts at sample 5"):
            out.write(Chunk(xyz, 5, 1000.1))
        with pytest.raises(DataError, match="time goes back"):
            out.write(Chunk(xyz, 10, 999.0))
        with pytest.raises(UsageError, match="gap"):
            out.gap(0, "none")
        out.write(Chunk(xyz, 10, 1000.1))
    with pytest.raises(DataError, match="closed"):
        out.write(Chunk(xyz, 20))
    out.close()
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_total == 20


def test_an_empty_night_says_so(tmp_path):
    Recorder(tmp_path / "n.h5", RATE).close()
    refused(tmp_path / "n.h5", "no samples")


# Crashes


def test_others_read_while_it_records(tmp_path):
    code = "import h5py, sys; x = h5py.File(sys.argv[1])['acceleration'][:]; print(len(x), x.sum())"
    with Recorder(tmp_path / "n.h5", RATE, scale=1.0, durable=False) as out:
        out.write(Chunk(np.ones((250, 3), np.float32), 0))
        shown = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "n.h5"], capture_output=True, text=True, check=True
        )
        assert shown.stdout.split() == ["250", "750"]
        with Recording(tmp_path / "n.h5") as recording:
            assert recording.unfinished
            assert recording.n_samples == 250
        out.write(Chunk(np.ones((50, 3), np.float32), 250))
        out.flush(fsync=True)
        with Recording(tmp_path / "n.h5") as recording:
            assert recording.n_samples == 300


def test_a_file_that_is_open_already_opens(tmp_path):
    make_night(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5"), Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 1000


RECORD = textwrap.dedent(
    """
    import os, sys
    import numpy as np
    from hypnic.chunk import Chunk
    from hypnic.recording import Recorder

    out = Recorder(sys.argv[1], 100, scale=1.0, durable=sys.argv[2] == "1", sensor="test")
    k = 0
    while True:
        n = 1 + k % 23
        if k % 500 == 499:
            out.gap(3, "test")
        rows = np.arange(out.n_samples, out.n_samples + n) % 30000
        out.write(Chunk(np.stack([rows, rows + 1, rows + 2], 1).astype(np.float32), out.n_total))
        os.write(1, b"%d\\n" % out.n_samples)
        k += 1
    """
)


@pytest.mark.parametrize("acknowledged", [1, 37, 411, 2600, 9001])
def test_a_killed_recorder_loses_at_most_a_second(tmp_path, acknowledged):
    path = tmp_path / "n.h5"
    command = [sys.executable, "-c", RECORD, str(path), "1" if acknowledged < 3000 else "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        for _ in range(acknowledged):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")
    told = int(rest[-2]) if len(rest) > 1 else 0
    with h5py.File(path, "r") as file:
        gaps = file["gaps"][:]
        try:
            stored = file["acceleration"][:]
        except OSError:
            # Killed in the microseconds in which HDF5 adds the first chunk: its first half second is not there yet.
            assert len(file["acceleration"]) <= 100
            stored = np.empty((0, 3))
    assert len(stored) >= told - 100
    expected = (np.arange(len(stored))[:, None] + [0, 1, 2]) % 30000 if len(stored) else np.empty((0, 3))
    np.testing.assert_array_equal(stored[:, 0], expected[:, 0])
    assert (np.diff(gaps["sample"]) > 0).all()
    if len(stored):
        with Recording(path) as recording:
            assert recording.unfinished
            assert not recording.damage
            assert recording.n_samples == len(stored)
            before = recording.read()
        pack(path)
        with Recording(path) as recording:
            assert not recording.unfinished
            np.testing.assert_array_equal(recording.read(), before)


class Disk:
    """A file in memory that remembers every write, so that the file at any moment can be had again."""

    def __init__(self):
        self.image, self.place, self.writes = bytearray(), 0, []

    def seek(self, to, whence=0):
        self.place = (0, self.place, len(self.image))[whence] + to
        return self.place

    def tell(self):
        return self.place

    def readinto(self, buffer):
        found = self.image[self.place : self.place + len(buffer)]
        buffer[: len(found)] = found
        self.place += len(found)
        return len(found)

    def read(self, size):
        raise AssertionError("h5py uses readinto")

    def write(self, data):
        self.writes.append((self.place, bytes(data)))
        apply(self.image, self.writes[-1])
        self.place += len(data)
        return len(data)

    def truncate(self, size):
        self.writes.append((size, None))
        apply(self.image, self.writes[-1])
        return size

    def extend(self, size):
        if len(self.image) < size:
            self.truncate(size)

    def flush(self):
        pass


def apply(image, write):
    at, data = write
    if data is None:
        del image[at:]
        image.extend(bytes(at - len(image)))
    else:
        image.extend(bytes(max(0, at + len(data) - len(image))))
        image[at : at + len(data)] = data


def test_every_moment_between_two_writes_is_survived(tmp_path, monkeypatch):
    """The recorder's file after each single write to the disk: nothing flushed before is ever lost."""
    disk = Disk()
    monkeypatch.setattr(
        recorder, "_create", lambda path: h5py.File(disk, "w", libver=recorder.LIBVER, rdcc_nbytes=0)
    )
    monkeypatch.setattr(recorder.Recorder, "_extend", lambda self: disk.extend(self._file.id.get_filesize()))
    monkeypatch.setattr(recorder, "RAW_SECONDS", 3.5)  # 58 chunks: as many as a week has
    rows = counts(RATE_ROWS := 200 * 25, seed=3)
    flushed = []  # (writes so far, samples safe)
    out = Recorder(tmp_path / "n.h5", 25, scale=SCALE, durable=False)
    for at in range(0, RATE_ROWS, 25):
        if at % 250 == 0:
            out.clock(at, at, 1e9)
            out.annotate(at / 25, 0, "note", "test")
            out.events(some_events())
        number = at + 2 * (at // 500)
        out.write(Chunk(in_g(rows[at : at + 25]), number, 1e9 + number / 25))
        flushed.append((len(disk.writes), out.n_samples))
    writes = list(disk.writes)
    (tmp_path / "n.h5").write_bytes(disk.image)
    out.close()

    image, safe = bytearray(), 0
    trouble = 0
    path = tmp_path / "crash.h5"
    for done, write in enumerate(writes, 1):
        apply(image, write)
        while safe < len(flushed) and flushed[safe][0] <= done:
            safe += 1
        if done < flushed[0][0]:
            continue
        path.write_bytes(image)
        kept = flushed[safe - 1][1]
        with h5py.File(path, "r") as file:
            stored = len(file["acceleration"])
            assert kept <= stored <= kept + 25
            np.testing.assert_array_equal(file["acceleration"][kept - 25 : kept], rows[kept - 25 : kept])
        with Recording(path) as recording:
            assert recording.start_time is None or recording.start == 1e9
            for table in (recording.clock, recording.annotations, recording.events()):
                assert len(table) * 250 >= kept - 25
            # The next gap may be known already; what follows it is not.
            assert recording.gaps["sample"].tolist() in [
                list(range(500, n, 500)) for n in (stored, stored + 1)
            ]
            number = recording._number(kept - 1)
            got = recording.read(0.0, (number + 1) / 25)
            got = got[np.isfinite(got[:, 0])]
            trouble += not np.array_equal(got, in_g(rows[:kept]))
    assert len(writes) > 500
    assert trouble == 0


def test_the_rate_is_corrected_in_place(tmp_path, monkeypatch):
    """A crash finds the one rate or the other, and every sample."""
    disk = Disk()
    monkeypatch.setattr(
        recorder, "_create", lambda path: h5py.File(disk, "w", libver=recorder.LIBVER, rdcc_nbytes=0)
    )
    monkeypatch.setattr(recorder.Recorder, "_extend", lambda self: disk.extend(self._file.id.get_filesize()))
    rows = counts(500)
    out = Recorder(tmp_path / "n.h5", RATE, scale=SCALE, durable=False)
    out.write(Chunk(in_g(rows[:250]), 0))
    before = len(disk.writes)
    out.correct_rate(97.31)
    out.write(Chunk(in_g(rows[250:]), 250))
    image, rates = bytearray(), []
    for done, write in enumerate(disk.writes, 1):
        apply(image, write)
        if done >= before:
            (tmp_path / "crash.h5").write_bytes(image)
            with Recording(tmp_path / "crash.h5") as recording:
                rates.append(recording.rate)
                stored = recording.n_samples
                assert stored in (250, 500)
                np.testing.assert_array_equal(recording.read(), in_g(rows[:stored]))
    assert rates == sorted(rates, reverse=True)
    assert set(rates) == {RATE, 97.31}
    assert out.duration == 500 / 97.31
    with pytest.raises(UsageError, match="25 Hz"):
        out.correct_rate(5)
    (tmp_path / "n.h5").write_bytes(disk.image)
    out.close()


def test_final_events_take_the_place_of_the_rows_so_far(tmp_path, monkeypatch):
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(in_g(counts(500)), 0))
        out.events(some_events(3))
        out.flush()
        with Recording(tmp_path / "n.h5") as recording:
            assert len(recording.events()) == 3
        out.finish_events(Events(some_events(2).array, {"counts": {"received": 500}}))
        out.flush()
        with Recording(tmp_path / "n.h5") as recording:
            assert len(recording.events()) == 3
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.events().array.tobytes() == some_events(2).array.tobytes()
        assert recording.events().meta == {"counts": {"received": 500}}


def test_chunks_say_why_samples_are_missing(tmp_path):
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(in_g(counts(100)), 0))
        out.write(Chunk(in_g(counts(100)), 110, missing=10, reason="port lost"))
        out.write(Chunk(in_g(counts(100)), 215, missing=5))
        out.gap(7, "ended early")
    with Recording(tmp_path / "n.h5") as recording:
        found = [(chunk.missing, chunk.reason) for chunk in recording]
    assert found == [(0, ""), (10, "port lost"), (5, "lost"), (7, "ended early")]


def test_a_chunk_without_samples_only_makes_safe_what_waits(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    with Recorder(tmp_path / "n.h5", RATE, durable=False) as out:
        out.write(Chunk(in_g(counts(20)), 0))
        nothing = Chunk(np.empty((0, 3), np.float32), 20)
        out.write(nothing)
        refused(tmp_path / "n.h5", "no samples")
        now[0] += 0.6
        out.write(nothing)
        with Recording(tmp_path / "n.h5") as recording:
            assert recording.n_samples == 20


def test_a_full_disk_keeps_what_was_recorded(tmp_path):
    code = textwrap.dedent(
        """
        import resource, sys
        import numpy as np
        from hypnic.chunk import Chunk
        from hypnic.recording import Recorder

        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        out = Recorder(sys.argv[1], 25, scale=1.0, durable=False)
        at = 0
        try:
            while True:
                out.write(Chunk(np.full((1000, 3), at % 7, np.float32), at))
                at += 1000
        except OSError as error:
            print(error.errno, at, error.strerror)
        try:
            out.write(Chunk(np.ones((10, 3), np.float32), at))
        except OSError as error:
            print("again", error)
        out.close()
        """
    )
    path = tmp_path / "n.h5"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    first, again = done.stdout.splitlines()
    number, at, text = first.split(" ", 2)
    assert text == f"{os.strerror(int(number))}: {at} samples are safe in the file, and no more can follow"
    assert again.startswith("again")
    assert int(at) == 250_000
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["acceleration"][:, 1], np.arange(int(at)) // 1000 * 1000 % 7)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.h5"]


def test_a_disk_that_becomes_read_only_keeps_what_was_recorded(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = tmp_path / "n.h5"
    rows = counts(200)
    out = Recorder(path, RATE, scale=SCALE, durable=True)
    out.write(Chunk(in_g(rows[:150]), 0))
    with monkeypatch.context() as patch:
        patch.setattr(recorder.os, "fsync", refuse)
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(
            OSError, match="150 samples are safe in the file, and no more can follow"
        ) as failed:
            out.write(Chunk(in_g(rows[150:]), 150))
        assert failed.value.errno == errno.EROFS
        out.close()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["acceleration"][:150], rows[:150])
    # The lock that could not be removed binds nobody, this process neither.
    pack(path)
    with Recording(path) as night:
        assert not night.unfinished


def test_no_room_to_compress_leaves_the_night_whole(tmp_path, monkeypatch):
    def full(path, events):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "_pack", full)
    rows = make_night(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording:
        np.testing.assert_array_equal(recording.read(), in_g(rows))
    monkeypatch.undo()
    size = (tmp_path / "n.h5").stat().st_size
    pack(tmp_path / "n.h5")
    assert (tmp_path / "n.h5").stat().st_size < size


def test_packing_needs_a_night(tmp_path):
    foreign(tmp_path / "f.h5", counts(50), rate=50, scale=1.0)
    with pytest.raises(DataError, match="not a hypnic night"):
        pack(tmp_path / "f.h5")


def test_hypnic_night_paths_may_be_symbolic_links(tmp_path):
    make_night(tmp_path / "n.h5")
    (tmp_path / "link.h5").symlink_to("n.h5")
    with Recording(tmp_path / "link.h5") as recording:
        recording.write_events(some_events())
    assert (tmp_path / "link.h5").is_symlink()
    with Recording(tmp_path / "n.h5") as recording:
        assert len(recording.events()) == 3


def test_import_is_light():
    code = """import sys, hypnic.recording, hypnic.readers, hypnic.quality
print({'h5py', 'scipy', 'numba', 'pandas'} & set(sys.modules))"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_chunk_files_are_path_like(tmp_path):
    make_night(str(tmp_path / "n.h5"))
    with Recording(str(tmp_path / "n.h5")) as recording:
        assert recording.path == Path(tmp_path / "n.h5")
        assert "10.0 s at 100 Hz" in repr(recording)
