"""Files from people one does not know: a result or one clear line, within bounds, and nothing read beside them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

import hypnic
from hypnic.cli.shared import complain
from hypnic.errors import DataError, HypnicError, UsageError
from hypnic.marks import load
from hypnic.recording import Recording, repair
from hypnic.recording import check as bounds
from hypnic.recording import night as night_module
from hypnic.recording.check import check_heaps
from hypnic.report.trace import watch
from hypnic.settings import Settings
from hypnic.study import read_diary
from tests import hostile
from tests.encoders import put, zipped

TRAPS = hostile.traps()
BOMBS = [name for name in TRAPS if "bomb" in name or name.startswith("10^")]
OUTSIDE = [name for name in TRAPS if "link" in name or "external" in name or "virtual" in name]
DEEP = [name for name in TRAPS if "groups deep" in name]


def run(code: str, *words: object, timeout: float = 120) -> str:
    """Run code in a process of its own, which may hang or crash."""
    home = str(Path(hypnic.__file__).parents[1])
    paths = os.pathsep.join([home, str(Path(__file__).parents[1])])
    done = subprocess.run(  # noqa: PLW1510  # looked at below
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def taken(path: Path) -> str:
    """Take from a night all that it offers; return what it was refused with, or nothing."""
    said = ""
    try:
        with hypnic.open(path) as recording:
            expected = 0
            for chunk in recording:
                assert chunk.index - chunk.missing == expected
                expected = chunk.index + len(chunk)
            assert expected == recording.n_total
            assert repr(recording)
            assert recording._repr_html_()
            assert 0 < recording.effective_rate < np.inf
            for table in (lambda: recording.clock, lambda: recording.annotations, recording.events):
                with suppress(HypnicError):
                    table()
    except HypnicError as error:
        said = str(error)
    return said


@pytest.mark.parametrize("name", sorted({*TRAPS} - {*BOMBS} - {*OUTSIDE} - {*DEEP}))
def test_a_trap_gives_a_result_or_a_line(tmp_path, name):
    make, refused = TRAPS[name]
    if "heap" in name:
        pytest.skip("in a process of its own, below: it could hang")
    said = taken(make(tmp_path / "n.h5"))
    assert bool(said) == refused or not refused, said
    assert not said or str(tmp_path) in said


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_read_from_other_files(tmp_path, name):
    secret = hostile.night(tmp_path / "secret.h5", compress=False)
    with h5py.File(secret) as file:
        put(tmp_path / "secret.raw", file["acceleration"][:].tobytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    make, refused = TRAPS[name]
    path = make(tmp_path / "n.h5")
    # Whoever opens one of these waits for ever: it has no other end.
    for outside in before:
        outside.unlink()
        os.mkfifo(outside)
    said = run(
        "from tests import test_hostile; import pathlib, sys; print(test_hostile.taken(pathlib.Path(sys.argv[1])))",
        path,
    )
    assert "elsewhere" in said or "other files" in said or not (refused or said.strip())


def test_bombs_stay_within_the_stated_memory(tmp_path):
    code = """
import pathlib, resource, sys
from tests import test_hostile
folder = pathlib.Path(sys.argv[1])
test_hostile.taken(test_hostile.hostile.night(folder / "first.h5"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in test_hostile.BOMBS:
    said = test_hostile.taken(test_hostile.TRAPS[name][0](folder / "n.h5"))
    assert said or not test_hostile.TRAPS[name][1], name
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    # Of the 1 GiB that is promised: the files themselves are made in the same process.
    assert int(run(code, tmp_path)) < 700


def test_what_would_never_end_is_refused(tmp_path):
    code = """
import pathlib, sys
from tests import test_hostile
for name in test_hostile.TRAPS:
    if "heap" in name or name in test_hostile.DEEP:
        said = test_hostile.taken(test_hostile.TRAPS[name][0](pathlib.Path(sys.argv[1]) / "n.h5"))
        assert bool(said) == test_hostile.TRAPS[name][1], (name, said)
        print(said)
"""
    assert "heap in it has an entry without a length" in run(code, tmp_path)


# The heap of texts


def heap_night(path: Path, change) -> Path:
    data = bytearray(hostile.night(path).read_bytes())
    change(data, data.find(b"GCOL"))
    return put(path, bytes(data))


def test_the_longest_text_is_found_and_sound_heaps_pass(tmp_path):
    for name, make in hostile.sound_nights().items():
        assert check_heaps(make(tmp_path / f"{name}.h5")) > 3
    path = hostile.night(tmp_path / "n.h5", notes="x" * 5000)
    assert check_heaps(path) == 5000
    # HDF5 may begin after a block of the user's own, and its lengths may have four bytes.
    with h5py.File(tmp_path / "u.h5", "w", userblock_size=1024) as file:
        file.attrs["text"] = "y" * 777
    assert check_heaps(tmp_path / "u.h5") == 777
    plan = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plan.set_sizes(8, 4)
    with h5py.File(h5py.h5f.create(bytes(tmp_path / "w.h5"), h5py.h5f.ACC_TRUNC, plan)) as file:
        file.attrs["text"] = "z" * 333
    assert check_heaps(tmp_path / "w.h5") == 333


@pytest.mark.parametrize(
    ("number", "length"),
    # Free space of no length, and an entry whose length and words come to 2^64.
    [(0, 0), (1, 2**64 - 16), (7, 2**64 - 20)],
)
def test_an_entry_that_leads_nowhere_is_refused(tmp_path, number, length):
    def change(data, heap):
        data[heap + 16 : heap + 32] = struct.pack("<H6xQ", number, length)

    with pytest.raises(DataError, match="entry without a length"):
        check_heaps(heap_night(tmp_path / "n.h5", change))


def test_one_flipped_byte_of_a_real_night(tmp_path):
    data = bytearray((Path(__file__).parents[1] / "data" / "wrist_onset.h5").read_bytes())
    data[2208] ^= 0xFF
    with pytest.raises(DataError, match="damaged: a heap"):
        Recording(put(tmp_path / "n.h5", bytes(data)))


@pytest.mark.parametrize(
    "size", [0, 1, 3, bounds.PIECE - 1, bounds.PIECE, bounds.PIECE + 1, 2 * bounds.PIECE]
)
def test_files_of_any_length_are_looked_through(tmp_path, size):
    assert check_heaps(put(tmp_path / "n.h5", bytes(size))) == 0
    # A collection that begins where one piece that is looked at ends and the next one begins.
    if size == 2 * bounds.PIECE:
        data = bytearray(size)
        data[bounds.PIECE - 2 : bounds.PIECE + 3] = b"GCOL\1"
        data[bounds.PIECE + 6 : bounds.PIECE + 8] = b"\xff\xff"
        with pytest.raises(DataError, match="an entry without a length"):
            check_heaps(put(tmp_path / "n.h5", bytes(data)))


def test_samples_that_look_like_a_heap_are_none(tmp_path):
    path = tmp_path / "n.h5"
    rows = np.zeros((50, 3), "i2")
    rows.reshape(-1)[:2] = np.frombuffer(b"GCOL", "i2")
    with h5py.File(path, "w") as file:
        file["a"] = rows
    with Recording(path, rate=50, scale=1.0) as recording:
        assert recording.n_samples == 50


# Sizes


def test_chunks_that_unpack_to_more_than_they_hold_are_damage(tmp_path):
    path = hostile.bomb_chunks(tmp_path / "n.h5", megabytes=400)
    with Recording(path) as recording:
        assert np.isnan(recording.read()).all()
        assert {damage.reason for damage in recording.damage} == {
            "a chunk inflates to another size than it should have"
        }
        with pytest.raises(DataError, match="nothing in it can be read"):
            hypnic.detect(recording)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "fletcher32": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
        {"scaleoffset": 0},
    ],
)
def test_the_bounds_are_no_hindrance(tmp_path, options):
    rows = hostile.still()
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file.create_dataset("a", data=rows, chunks=(500, 3), **options)
    with Recording(tmp_path / "n.h5", rate=50, scale=1.0, units="mg") as recording:
        assert np.array_equal(recording.read(), (rows * 1e-3).astype(np.float32))


def test_large_packed_chunks_are_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "LARGEST_CHUNK", 40_000)
    rows = np.random.default_rng(0).integers(-3000, 3000, (2000, 3)).astype("i2")
    path = tmp_path / "n.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=rows, chunks=(1000, 3), compression="gzip", fletcher32=True)
    with Recording(path, rate=50, scale=1.0, units="mg") as recording:
        assert np.array_equal(recording.read(), (rows * 1e-3).astype(np.float32))
    with h5py.File(path, "r+") as file:
        file["a"].id.write_direct_chunk((0, 0), hostile.packed_zeros(1), 0)
    with pytest.raises(DataError, match="unpacks to more"):
        Recording(path, rate=50, scale=1.0, units="mg")


def test_filters_that_claim_another_size_are_refused(tmp_path):
    path = tmp_path / "n.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=hostile.still(), chunks=(500, 3), scaleoffset=0)
    data = path.read_bytes()
    words = struct.pack("<5I", 2, 0, 1500, 0, 2)
    assert data.count(words) == 1
    put(path, data.replace(words, struct.pack("<5I", 2, 0, 1 << 30, 0, 2)))
    with pytest.raises(DataError, match="claim another size"):
        Recording(path, rate=50, scale=1.0, units="mg")


def test_an_attribute_that_is_too_large_is_left_out_and_said(tmp_path):
    make, _ = TRAPS["attribute of 100 MB"]
    with Recording(make(tmp_path / "n.h5")) as recording:
        assert "notes" not in recording.attrs
        assert recording.attrs["subject"] == "A"
        assert any("'notes' is left out" in note for note in recording.notes)


def test_an_attribute_whose_name_is_no_text(tmp_path):
    path = hostile.night(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file.id, b"subj\xffct", h5py.h5t.NATIVE_INT32, space).write(np.array(7, "i4"))
    with Recording(path) as recording:
        assert recording.attrs["subj\N{REPLACEMENT CHARACTER}ct"] == 7
        recording.write_events(hypnic.detect(recording))
    assert repair(path).out is None
    with h5py.File(path) as file:
        assert file.attrs[b"subj\xffct"] == 7


def test_a_clock_that_is_no_clock_leaves_the_rate(tmp_path):
    make, _ = TRAPS["table: clock out of this world"]
    with Recording(make(tmp_path / "n.h5")) as recording:
        assert recording.effective_rate == hostile.RATE
    with Recording(hostile.night(tmp_path / "s.h5")) as recording:
        assert recording.effective_rate == pytest.approx(hostile.RATE, rel=1e-9)


# What is said


def test_an_error_is_one_line_of_a_length_to_read(tmp_path, capsys):
    make, _ = TRAPS["a very long refusal"]
    complain(DataError(taken(make(tmp_path / "n.h5"))))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert len(line) < 700


def test_texts_that_are_no_utf_8_can_be_written(tmp_path):
    make, _ = TRAPS["text that is not UTF-8"]
    with Recording(make(tmp_path / "n.h5")) as recording:
        assert recording.created_by.encode()
    rows = np.array(
        [(9.0, 0.3, b"\x1b[2J", b"\xff")],
        [("onset", "f8"), ("duration", "f8"), ("label", "S8"), ("source", "S8")],
    )
    with h5py.File(tmp_path / "n.h5", "r+") as file:
        del file["annotations"]
        file["annotations"] = rows
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.annotations["label"].tolist() == ["\N{REPLACEMENT CHARACTER}[2J"]


# Other formats


@pytest.mark.parametrize("name", sorted(hostile.TEXT_TRAPS))
def test_texts_are_refused_in_a_line(tmp_path, name):
    data = hostile.TEXT_TRAPS[name]
    readers = {".tsv": load, ".json": load, ".jsonl": load, ".toml": Settings.from_toml, ".csv": read_diary}
    for ending, read in readers.items():
        path = put(tmp_path / f"a{ending}", data)
        said = str(path)
        try:
            read(path)
        except HypnicError as error:
            said = str(error)
        assert str(path) in said


@pytest.mark.parametrize(
    ("read", "size", "ending"),
    [(load, 33 << 20, ".csv"), (read_diary, 17 << 20, ".csv"), (Settings.from_toml, 20_000, ".toml")],
)
def test_tables_and_settings_are_bounded(tmp_path, read, size, ending):
    path = tmp_path / f"a{ending}"
    with path.open("wb") as file:
        file.truncate(size)
    with pytest.raises((DataError, UsageError), match="longer than"):
        read(path)


@pytest.mark.parametrize("name", sorted(hostile.SAMPLE_TRAPS))
def test_texts_of_samples_are_read_or_refused(tmp_path, name):
    said = taken(put(tmp_path / "a.csv", hostile.SAMPLE_TRAPS[name]))
    assert not said or str(tmp_path) in said


def test_an_e4_of_the_year_300_000_is_none(tmp_path):
    e4 = b"9e12,9e12,9e12\n32,32,32\n" + b"1,2,60\n" * 500
    assert "no file ACC.csv" not in taken(put(tmp_path / "ACC.csv", e4))
    assert "not an Empatica" in taken(put(tmp_path / "a.zip", zipped({"ACC.csv": e4})))


def test_events_are_not_put_where_the_samples_would_not_survive_it(tmp_path, monkeypatch):
    path = hostile.night(tmp_path / "n.h5")
    before = path.read_bytes()
    with Recording(path) as recording:
        found = hypnic.detect(recording)

        def spoil(*_, **__):
            raise RuntimeError("(a chunk of the samples lies nowhere)")

        monkeypatch.setattr(night_module, "copy_members", spoil)
        with pytest.raises(DataError, match="too damaged to take events"):
            recording.write_events(found)
        assert len(recording.read()) == recording.n_total
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_events_that_cannot_be_read_are_replaced(tmp_path):
    path = hostile.night(tmp_path / "n.h5", compress=False)
    with h5py.File(path) as file:
        at = file["events"].id.get_chunk_info(0).byte_offset.to_bytes(8, "little")
    data = path.read_bytes()
    assert data.count(at) == 1
    put(path, data.replace(at, (2**48 - 8192).to_bytes(8, "little")))
    with Recording(path) as recording:
        with pytest.raises(DataError, match="/events cannot be read"):
            recording.events()
        found = hypnic.detect(recording)
        before = recording.read()
        recording.write_events(found)
        assert recording.events().array.tobytes() == found.array.tobytes()
        assert np.array_equal(recording.read(), before, equal_nan=True)


def test_what_cannot_be_copied_keeps_events_out(tmp_path):
    path = hostile.night(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        file["compact"] = np.arange(3)
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(file.id, b"small", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((4,)), plan)
        file["small"][:] = 7
        file["self"] = file["/"]
    with Recording(path) as recording:
        found = hypnic.detect(recording)
        recording.write_events(found)
    with h5py.File(path, "r+") as file:
        assert file["small"][:].tolist() == [7] * 4
        assert file["self"] == file["/"]
        file["small"].attrs["points at"] = file["compact"].ref
    before = path.read_bytes()
    with Recording(path) as recording:
        with pytest.raises(DataError, match="is a reference, which is not copied: write the events to"):
            recording.write_events(found)
        assert recording.events() is not None
    assert path.read_bytes() == before


def test_a_chunk_that_claims_gigabytes_is_not_copied(tmp_path):
    path = hostile.night(tmp_path / "n.h5", compress=False)
    with h5py.File(path) as file:
        chunk = file["annotations"].id.get_chunk_info(0)
    # A key of the chunk's B-tree: its size, no filters left out, where it lies, and its address in the file.
    key = chunk.size.to_bytes(4, "little") + bytes(4 + 16) + chunk.byte_offset.to_bytes(8, "little")
    data = path.read_bytes()
    assert data.count(key) == 1
    put(path, data.replace(key, (2314223616).to_bytes(4, "little") + key[4:]))
    before = path.read_bytes()
    with Recording(path) as recording:
        found = hypnic.detect(recording)
        with pytest.raises(DataError, match="a chunk of /annotations claims 2314223616 bytes"):
            recording.write_events(found)
        assert len(recording.read()) == recording.n_total
    assert path.read_bytes() == before


def test_events_go_into_a_night_that_is_packed_by_scale_and_offset(tmp_path):
    make, _ = TRAPS["scale-offset filter"]
    with Recording(make(tmp_path / "n.h5")) as recording:
        before = recording.read()
        recording.write_events(hypnic.detect(recording))
        assert np.array_equal(recording.read(), before, equal_nan=True)
        assert recording.events() is not None


def test_what_others_put_into_a_night_stays_when_events_are_written(tmp_path):
    path = hostile.night(tmp_path / "n.h5")
    with h5py.File(path, "r+") as file:
        file["mine/deep/numbers"] = np.arange(5)
        file["mine/deep"].attrs["unit"] = "K"
        file["again"] = file["mine/deep/numbers"]
        file["mine/round"] = file["mine"]
        file["mine/one"] = 2.5
        file["mine/nothing"] = h5py.Empty("f4")
        file.create_dataset("mine/unwritten", shape=(10**12,), dtype="f8")
        file.create_dataset("mine/sparse", shape=(10**9, 3), dtype="f8", chunks=(100, 3), compression="gzip")[
            :5
        ] = 1
        file["there"] = h5py.SoftLink("/nowhere")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    with Recording(path) as recording:
        recording.write_events(hypnic.detect(recording))
    with h5py.File(path) as file:
        assert list(file["mine/deep/numbers"]) == [0, 1, 2, 3, 4]
        assert file["mine/deep"].attrs["unit"] == "K"
        assert file["again"] == file["mine/deep/numbers"]
        assert file["mine/round"] == file["mine"]
        assert file["mine/one"][()] == 2.5
        assert file["mine/nothing"].shape is None
        assert file["mine/unwritten"].shape == (10**12,)
        assert file["mine/sparse"].id.get_num_chunks() == 1
        assert file["mine/sparse"][:6, 0].tolist() == [1, 1, 1, 1, 1, 0]
        assert file.get("there", getlink=True).path == "/nowhere"
        assert file.get("elsewhere", getlink=True).filename == "other.h5"


@pytest.mark.parametrize("values", ["fast", [1, 2], 7])
def test_stored_settings_that_are_none_are_refused(values):
    with pytest.raises(UsageError, match="are none"):
        Settings.from_dict(values)


def test_a_page_of_samples_that_are_no_numbers_at_the_end_of_a_piece(tmp_path):
    xyz = hostile.still() / 4096
    xyz[1887:1981] = np.inf
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file["a"] = xyz
    with Recording(tmp_path / "n.h5", rate=hostile.RATE, units="g") as recording:
        course, _ = watch(recording, [(30.0, 39.66)])
        assert np.isfinite(course.gravity).any()
        assert np.isfinite(course.level).mean() > 0.5
