"""What is brought back of damaged nights: every sample where it was, or missing; tables whole or lost."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

import hypnic
from hypnic.chunk import Chunk
from hypnic.cli import main
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events
from hypnic.recording import Recorder, Recording, pack, repair

RATE = 25.0
SCALE = 1 / 1024
ROWS = 120_000
"""Eighty minutes: more chunks of a minute than one leaf of an index lists."""


def some_events() -> Events:
    rows = np.zeros(3, EVENT_DTYPE)
    rows["onset"], rows["label"], rows["id"] = (10.0, 20.0, 30.0), "movement", range(3)
    return Events(rows)


def record(path, dtype="int16", gaps=True):
    """Record a night with two gaps, a clock, remarks and events, and return its recorder, not closed."""
    counts = np.random.default_rng(3).integers(-900, 900, (ROWS, 3))
    xyz = (counts * SCALE).astype(np.float32)
    facts = {"site": "mattress", "sensor": "X", "range_g": 4.0, "start_time": "2024-03-21T22:00:00+01:00"}
    out = Recorder(path, RATE, dtype=dtype, scale=SCALE, durable=False, subject="A", notes="cold", **facts)
    at = 0
    for number, part in enumerate(np.split(xyz, 80)):
        missing = 7 * number if gaps and number in (3, 60) else 0
        out.write(Chunk(part, at + missing, missing=missing, reason="board" if missing else ""))
        at += missing + len(part)
    out.clock(100, 5, 1.7e9)
    out.annotate(12.0, 1.0, "first", "me")
    out.withdraw(out.annotate(13.0, 1.0, "second", "me"))
    out.events(some_events())
    out.flush()
    return out


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed night, and its samples."""
    path = tmp_path_factory.mktemp("closed") / "n.h5"
    with record(path):
        pass
    with Recording(path) as night:
        return path.read_bytes(), night.read()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """What a kill leaves of a night, and its samples."""
    path = tmp_path_factory.mktemp("interrupted") / "n.h5"
    recorder = record(path)
    data = path.read_bytes()
    recorder.close()
    path.write_bytes(data)
    with Recording(path) as night:
        return data, night.read()


def put(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture
def command(monkeypatch):
    """Run ``hypnic repair`` with some words and return its exit status."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hypnic", "repair", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


def check(out, truth, least):
    """Check that every sample is the one that was there, and that at least such a share of them is there."""
    with Recording(out) as night:
        found = night.read()
    assert len(found) == len(truth)
    there = np.isfinite(found[:, 0])
    np.testing.assert_array_equal(found[there], truth[there])
    assert there.sum() >= least * np.isfinite(truth[:, 0]).sum()


def check_tables(out):
    with Recording(out) as night:
        assert night.gaps["missing"].sum() == 21 + 420
        assert night.clock["device_tick"].tolist() == [5]
        assert night.annotations["label"].tolist() == ["first"]
        assert night.events().array["onset"].tolist() == [10.0, 20.0, 30.0]
        assert (night.rate, night.site, night.sensor, night.range_g) == (RATE, "mattress", "X", 4.0)
        assert night.start_time.isoformat() == "2024-03-21T22:00:00+01:00"
        assert night.attrs == {"subject": "A", "notes": "cold"}


def clear(data, at, size):
    return data[:at] + bytes(size) + data[at + size :]


def places(data, level):
    found, at = [], data.find(b"TREE\1")
    while at >= 0:
        if data[at + 5] == level:
            found.append(at)
        at = data.find(b"TREE\1", at + 1)
    return found


def header(path, name):
    with h5py.File(path) as file:
        return int(h5py.h5o.get_info(file[name].id).addr)


# Nothing is wrong


def test_a_sound_night_is_left_alone(tmp_path, closed, capsys, command):
    path = put(tmp_path / "n.h5", closed[0])
    done = repair(path)
    assert (done.out, done.wrong, done.samples) == (None, (), ROWS)
    assert done.tables == {"gaps": 2, "clock": 1, "events": 3, "annotations": 1}
    assert command(path) == 0
    assert "nothing is wrong with it: 120000 samples" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_a_night_that_was_cut_off_is_closed(tmp_path, interrupted):
    path = put(tmp_path / "n.h5", interrupted[0])
    done = repair(path)
    assert done.wrong == ("its recorder has not closed it",)
    assert done.out == tmp_path / "n-repaired.h5"
    assert (done.samples, done.missing) == (ROWS, 0)
    check(done.out, interrupted[1], 1.0)
    check_tables(done.out)
    with Recording(done.out) as night:
        assert not night.unfinished
    assert path.read_bytes() == interrupted[0]


# Without HDF5


@pytest.mark.parametrize("state", ["closed", "interrupted"])
@pytest.mark.parametrize("what", ["superblock", "group", "header"])
def test_the_way_to_the_samples_is_lost(tmp_path, request, state, what, capsys, command):
    data, truth = request.getfixturevalue(state)
    path = put(tmp_path / "n.h5", data)
    at, size = {
        "superblock": (0, 96),
        "group": (header(path, "/"), 40),
        "header": (header(path, "acceleration"), 16),
    }[what]
    put(path, clear(data, at, size))
    with pytest.raises(DataError):
        Recording(path)
    assert command(path) == 0
    assert "120000 samples (1:20:00); gaps 2, clock 1, events 3, annotations 1" in capsys.readouterr().out
    check(tmp_path / "n-repaired.h5", truth, 1.0)
    check_tables(tmp_path / "n-repaired.h5")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("close", [True, False])
def test_wide_numbers(tmp_path, dtype, close):
    path = tmp_path / "n.h5"
    recorder = record(path, dtype)
    data = path.read_bytes()
    recorder.close()
    data = path.read_bytes() if close else data
    with Recording(path) as night:
        truth = night.read()
    at = header(put(path, data), "acceleration")
    # Less than all of the header: the type of the numbers is lost, their attributes are not.
    put(path, clear(data, at, 120))
    done = repair(path)
    check(done.out, truth, 1.0)
    with Recording(done.out) as night:
        assert night.dtype == dtype


def test_the_root_of_the_index_is_lost(tmp_path, closed):
    (at,) = places(closed[0], 1)
    path = put(tmp_path / "n.h5", clear(closed[0], at, 24))
    done = repair(path)
    assert (done.samples, done.missing) == (ROWS, 0)
    check(done.out, closed[1], 1.0)
    check_tables(done.out)


def test_a_leaf_of_the_index_is_lost(tmp_path, closed):
    leaves = [at for at in places(closed[0], 0) if int.from_bytes(closed[0][at + 6 : at + 8], "little") > 1]
    assert len(leaves) == 2
    done = repair(put(tmp_path / "n.h5", clear(closed[0], leaves[1], 24)))
    assert 0 < done.missing == ROWS - done.samples
    check(done.out, closed[1], 0.25)
    assert done.tables == {"gaps": 2, "clock": 1, "events": 3, "annotations": 1}


@pytest.mark.parametrize("share", [0.85, 0.95])
def test_a_copy_that_was_cut_short(tmp_path, closed, share, capsys, command):
    data = closed[0][: round(share * len(closed[0]))]
    path = put(tmp_path / "n.h5", data)
    with pytest.raises(DataError, match="truncated"):
        Recording(path)
    assert command(path, "-o", tmp_path / "whole.h5") == 0
    printed = capsys.readouterr().out
    assert "wrong: cannot be opened as HDF5: truncated file" in printed
    assert "lost: " in printed
    check(tmp_path / "whole.h5", closed[1], share - 0.1)


def test_a_packed_chunk_that_was_changed_is_a_gap(tmp_path, closed):
    with h5py.File(put(tmp_path / "n.h5", closed[0])) as file:
        at = file["acceleration"].id.get_chunk_info(10).byte_offset
    data = bytearray(closed[0])
    data[at + 700] ^= 4
    done = repair(put(tmp_path / "n.h5", bytes(data)))
    assert (done.samples, done.missing, done.places) == (ROWS - 1500, 1500, 1)
    check(done.out, closed[1], 0.98)
    with Recording(done.out) as night:
        assert [str(gap["reason"]) for gap in night.gaps] == ["board", "unreadable", "board"]


def test_two_that_claim_the_same_rows_are_both_missing(tmp_path, closed):
    (leaf, *_) = [
        at for at in places(closed[0], 0) if int.from_bytes(closed[0][at + 6 : at + 8], "little") > 1
    ]
    data = bytearray(clear(closed[0], 0, 96))
    # The second and the third chunk of the leaf: rows 1500 and 3000.
    second = leaf + 24 + 40 + 8
    assert int.from_bytes(data[second : second + 8], "little") % 1500 == 0
    third = int.from_bytes(data[second + 40 : second + 48], "little")
    data[second : second + 8] = third.to_bytes(8, "little")
    with pytest.raises(DataError):
        Recording(put(tmp_path / "n.h5", bytes(data)))
    done = repair(tmp_path / "n.h5")
    check(done.out, closed[1], 0.1)


def test_a_lost_table_of_gaps_is_said(tmp_path, closed):
    path = put(tmp_path / "n.h5", closed[0])
    with h5py.File(path) as file:
        at = file["gaps"].id.get_chunk_info(0).byte_offset
    data = bytearray(closed[0])
    data[at + 20] ^= 4
    done = repair(put(path, bytes(data)))
    assert done.tables["gaps"] is None
    assert done.samples == ROWS
    assert any("samples after a loss" in note for note in done.notes)


def test_a_night_without_gaps_has_not_lost_its_table(tmp_path):
    path = tmp_path / "n.h5"
    with record(path, gaps=False):
        pass
    put(path, clear(path.read_bytes(), 0, 96))
    done = repair(path)
    assert done.tables == {"gaps": 0, "clock": 1, "events": 3, "annotations": 1}
    assert done.notes == ()


def test_what_is_lost_of_the_facts_can_be_given(tmp_path, closed):
    data = closed[0].replace(b"sampling_rate\0", b"sampling_bait\0").replace(b"site\0\0\0\0", b"sute\0\0\0\0")
    path = put(tmp_path / "n.h5", clear(data, 0, 96))
    with pytest.raises(DataError, match="its sampling rate is lost: give it"):
        repair(path)
    done = repair(path, rate=RATE)
    assert any("the wrist is assumed" in note for note in done.notes)
    check(done.out, closed[1], 1.0)
    with Recording(repair(path, rate=RATE, site="mattress", overwrite=True).out) as night:
        assert night.site == "mattress"


# What cannot be


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"nothing of the kind" * 100, "no index of samples"),
        (b"\x89HDF\r\n\x1a\n" + bytes(5000), "no index of samples"),
        (b"TREE\1\0\xff\xff" + bytes(300), "no index of samples"),
        (
            b"TREE\1\0\1\0" + b"\xff" * 16 + b"\1" * 8 + bytes(24) + b"\1" * 8 + bytes(100),
            "fits nothing",
        ),
    ],
)
def test_what_is_no_night(tmp_path, data, words, capsys, command):
    path = put(tmp_path / "n.h5", data)
    with pytest.raises(DataError, match=words):
        repair(path)
    assert command(path) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def check_any(path, out, truth):
    """Repair, and check that no sample is another one, unless it is said that gaps are lost."""
    try:
        done = repair(path, out, rate=RATE, scale=SCALE, site="mattress", overwrite=True)
    except DataError:
        return 0
    with Recording(done.out or done.path) as night:
        found = night.read()
    if done.tables["gaps"] == 2 and not any("is said to have had" in note for note in done.notes):
        length = min(len(found), len(truth))
        there = np.isfinite(found[:length, 0]) & np.isfinite(truth[:length, 0])
        np.testing.assert_array_equal(found[:length][there], truth[:length][there])
    return done.samples


@pytest.mark.parametrize("lost", [0, 96])
def test_any_byte_beside_the_samples(tmp_path, closed, lost):
    """Whatever byte of what is not samples is another one, and whether HDF5 can open the file: no other sample."""
    whole, truth = closed
    with h5py.File(put(tmp_path / "n.h5", whole)) as file:
        taken = [file["acceleration"].id.get_chunk_info(k) for k in range(80)]
    beside = np.ones(len(whole), bool)
    for chunk in taken:
        beside[chunk.byte_offset : chunk.byte_offset + chunk.size] = False
    draw = np.random.default_rng(8)
    brought = []
    for at in draw.choice(np.flatnonzero(beside & (np.arange(len(whole)) >= lost)), 60).tolist():
        data = bytearray(clear(whole, 0, lost))
        data[at] ^= 1 << int(draw.integers(8))
        brought.append(check_any(put(tmp_path / "n.h5", bytes(data)), tmp_path / "out.h5", truth))
    assert np.median(brought) == ROWS


@pytest.mark.parametrize("field", ["size", "row", "address"])
def test_one_entry_of_an_index_costs_one_chunk(tmp_path, closed, field):
    data = bytearray(clear(closed[0], 0, 96))
    leaf = next(at for at in places(closed[0], 0) if int.from_bytes(closed[0][at + 6 : at + 8], "little") > 1)
    entry = leaf + 24 + 5 * 40
    data[entry + {"size": 3, "row": 8, "address": 32 + 3}[field]] ^= 0x40
    done = repair(put(tmp_path / "n.h5", bytes(data)))
    assert done.missing in (1500, 3000)
    check(done.out, closed[1], 0.97)


def another(path, whole, name, data, **options):
    """Put another data set into a night."""
    with h5py.File(put(path, whole), "r+") as file:
        file.create_dataset(name, data=data, maxshape=(None, *data.shape[1:]), **options)


def test_another_set_of_three_columns_is_not_taken_for_the_samples(tmp_path, closed):
    gyro = np.random.default_rng(5).integers(-900, 900, (ROWS, 3)).astype("<i2")
    path = tmp_path / "n.h5"
    another(path, closed[0], "gyro", data=gyro, chunks=(1500, 3), compression="gzip", shuffle=True)
    data = path.read_bytes()
    with pytest.raises(DataError, match="several data sets that could be the samples"):
        repair(put(path, clear(data, 0, 96)))
    with h5py.File(put(path, data)) as file:
        at = file["acceleration"].id.get_chunk_info(10).byte_offset
    # HDF5 knows which is which.
    done = repair(put(path, data[: at + 50] + b"\xff\xff\xff" + data[at + 53 :]))
    assert done.missing == 1500
    check(done.out, closed[1], 0.98)


def test_facts_of_which_there_are_two_are_lost(tmp_path, closed):
    path = tmp_path / "n.h5"
    another(path, closed[0], "ecg", data=np.zeros(5, "<f8"), chunks=(5,))
    with h5py.File(path, "r+") as file:
        file["ecg"].attrs["scale"] = 123.0
    put(path, clear(path.read_bytes(), 0, 96))
    with pytest.raises(DataError, match="the scale of its counts is lost"):
        repair(path)
    check(repair(path, scale=SCALE).out, closed[1], 1.0)


def test_another_table_is_not_taken_for_the_clock(tmp_path, closed):
    path = tmp_path / "n.h5"
    rows = np.zeros(3, [("a", "<i8"), ("b", "<i8"), ("c", "<f8")])
    rows["a"] = 7
    another(path, closed[0], "steps", data=rows, chunks=(1024,))
    data = path.read_bytes()
    with h5py.File(path) as file:
        clock = file["clock"].id.get_chunk_info(0)
    key = clock.size.to_bytes(4, "little") + bytes(4 + 16) + clock.byte_offset.to_bytes(8, "little")
    assert data.count(key) == 1
    done = repair(put(path, clear(clear(data, data.index(key) - 24, 24), 0, 96)))
    assert done.tables["clock"] is None
    check(done.out, closed[1], 1.0)


@pytest.mark.parametrize("opens", [True, False])
def test_a_night_that_somebody_packed_in_another_way(tmp_path, closed, opens):
    path, other = put(tmp_path / "n.h5", closed[0]), tmp_path / "o.h5"
    with h5py.File(path) as old, h5py.File(other, "w", libver=("earliest", "v110")) as new:
        new.attrs.update(old.attrs)
        for name in old:
            node = new.create_dataset(
                name,
                data=old[name][:],
                chunks=old[name].chunks,
                maxshape=old[name].maxshape,
                compression="gzip",
            )
            node.attrs.update(old[name].attrs)
        at = new["acceleration"].id.get_chunk_info(10).byte_offset
    data = bytearray(other.read_bytes())
    data[at + 60] ^= 255
    done = repair(put(other, bytes(data) if opens else clear(bytes(data), 0, 96)))
    assert (done.missing, done.tables) == (
        1500,
        {"gaps": 2, "clock": 1, "events": 3, "annotations": 1},
    )
    check(done.out, closed[1], 0.98)
    check_rows(done.out)


def check_rows(out):
    with Recording(out) as night:
        assert night.clock["device_tick"].tolist() == [5]
        assert night.events().array["onset"].tolist() == [10.0, 20.0, 30.0]


def test_a_fact_that_is_damaged_is_wrong(tmp_path, closed):
    path = put(tmp_path / "n.h5", closed[0])
    with h5py.File(path, "r+") as file:
        file["acceleration"].attrs["sampling_rate"] = 1e30
    with pytest.raises(DataError):
        Recording(path)
    done = repair(path, rate=RATE)
    assert "above 1000 Hz" in done.wrong[0]
    check(done.out, closed[1], 1.0)
    with h5py.File(path, "r+") as file:
        file["acceleration"].attrs["sampling_rate"] = 50.0
    done = repair(path, rate=RATE, overwrite=True)
    assert done.wrong == ("it says that its rate is 50.0, and 25.0 is given",)
    with Recording(done.out) as night:
        assert night.rate == RATE


@pytest.mark.parametrize("opens", [True, False])
def test_a_sector_of_zeros_is_no_samples(tmp_path, interrupted, opens):
    with h5py.File(put(tmp_path / "n.h5", interrupted[0])) as file:
        at = file["acceleration"].id.get_chunk_info(0).byte_offset
    sector = -(-(at + 100_000) // 512) * 512
    data = clear(interrupted[0], sector, 512)
    done = repair(put(tmp_path / "n.h5", data if opens else clear(data, 0, 96)))
    assert done.missing in (86, 87)
    assert not opens or any("sectors of zeros" in fault for fault in done.wrong)
    check(done.out, interrupted[1], 0.999)


@pytest.mark.parametrize("state", ["closed", "interrupted"])
@pytest.mark.parametrize("count", [7, 90_000])
def test_a_count_that_is_too_small(tmp_path, request, state, count):
    data, truth = request.getfixturevalue(state)
    stated = ROWS.to_bytes(8, "little") + (3).to_bytes(8, "little")
    assert data.count(stated) == 1
    data = data.replace(stated, count.to_bytes(8, "little") + stated[8:])
    done = repair(put(tmp_path / "n.h5", data))
    assert done.samples == ROWS
    assert any("how many samples there were is lost" in note for note in done.notes)
    check(done.out, truth, 1.0)


def test_the_index_of_the_gaps_of_an_interrupted_night(tmp_path, interrupted):
    """Nobody can tell whether the recorder was just writing them: it is said that they are lost."""
    with h5py.File(put(tmp_path / "n.h5", interrupted[0])) as file:
        chunk = file["gaps"].id.get_chunk_info(0)
    key = chunk.size.to_bytes(4, "little") + bytes(4 + 16) + chunk.byte_offset.to_bytes(8, "little")
    done = repair(put(tmp_path / "n.h5", clear(interrupted[0], interrupted[0].index(key) - 24, 24)))
    assert done.tables["gaps"] is None
    assert any("stand too early" in note for note in done.notes)


def test_gaps_that_cannot_be_are_lost(tmp_path, interrupted):
    with h5py.File(put(tmp_path / "n.h5", interrupted[0])) as file:
        at = file["gaps"].id.get_chunk_info(0).byte_offset
    data = bytearray(interrupted[0])
    data[at + 7] ^= 0x80
    done = repair(put(tmp_path / "n.h5", bytes(data)))
    assert (done.samples, done.tables["gaps"]) == (ROWS, None)
    assert any("the table of gaps is lost" in note for note in done.notes)


def test_a_gap_that_was_being_written(tmp_path, interrupted):
    """The table is longer by a row that is not there yet: nothing is lost, by opening, closing and repairing."""
    with h5py.File(put(tmp_path / "n.h5", interrupted[0]), "r+") as file:
        file["gaps"].resize(3, 0)
    data = (tmp_path / "n.h5").read_bytes()
    for name, content in (("a.h5", data), ("b.h5", clear(data, 0, 96))):
        done = repair(put(tmp_path / name, content))
        assert done.tables["gaps"] == 2
        check(done.out, interrupted[1], 1.0)
    pack(tmp_path / "n.h5")
    check(tmp_path / "n.h5", interrupted[1], 1.0)


def test_a_repair_that_fails_leaves_nothing(tmp_path, interrupted, monkeypatch):
    path, out = put(tmp_path / "n.h5", interrupted[0]), put(tmp_path / "o.h5", b"mine")

    whole = Recorder.write

    def fail(self, chunk):
        whole(self, chunk)
        if self.n_total > 100_000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        repair(path, out, overwrite=True)
    assert out.read_bytes() == b"mine"
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")) == [
        "n.h5",
        "o.h5",
    ]


def test_a_night_that_is_being_recorded_is_left_alone(tmp_path):
    recorder = record(tmp_path / "n.h5")
    with recorder, pytest.raises(DataError, match="is being recorded"):
        repair(tmp_path / "n.h5")


def test_the_night_itself_is_never_written_to(tmp_path, interrupted):
    path = put(tmp_path / "n.h5", interrupted[0])
    with pytest.raises(UsageError, match="never changed"):
        repair(path, path, overwrite=True)
    put(tmp_path / "o.h5", b"mine")
    with pytest.raises(DataError, match="exists already"):
        repair(path, tmp_path / "o.h5")
    assert (tmp_path / "o.h5").read_bytes() == b"mine"
    with pytest.raises(UsageError):
        repair(path, rate=3.0)
    with pytest.raises(DataError, match="no such file"):
        repair(tmp_path / "nowhere.h5")


def test_a_repaired_night_is_detected_in(tmp_path, closed):
    done = repair(put(tmp_path / "n.h5", clear(closed[0], 0, 96)))
    with Recording(done.out) as night:
        assert hypnic.detect(night).meta["counts"]["received"] > 0
