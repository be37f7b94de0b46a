"""Chunks that are inflated here: the same numbers as HDF5's, whatever is stored, and a thread that ends."""

from __future__ import annotations

import sys
import threading
import zlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
from h5py import h5t
from hypothesis import given
from hypothesis import strategies as st

from hypnic import counts, kernel
from hypnic.recording import Recording, chunks
from hypnic.recording.chunks import PackedRows, ahead

NUMBERS = ("<i2", ">i2", "<i4", "<f4", ">f4", "<f8", "i1", "<u2")


def stored(path, data, **options):
    with h5py.File(path, "w") as file:
        node = file.create_dataset("data", data=data, **options)
        node.attrs["sampling_rate"], node.attrs["scale"] = 100.0, 1 / 1024


def filled(packed, low, high, scale=1.0):
    out = np.full((high - low, 3), np.nan, np.float32)
    packed.fill(low, high, scale, out)
    return out


def reading(path):
    return Recording(path, units="g")


@given(
    numbers=st.sampled_from(NUMBERS),
    rows=st.integers(1, 400),
    length=st.integers(1, 500),
    options=st.fixed_dictionaries({}, optional={"shuffle": st.booleans(), "fletcher32": st.booleans()}),
    level=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    scale=st.floats(1e-6, 10.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_rows_are_those_that_hdf5_reads(
    tmp_path_factory, numbers, rows, length, options, level, cuts, scale, seed
):
    path = tmp_path_factory.mktemp("chunks") / "n.h5"
    rng = np.random.default_rng(seed)
    low, high = (-(2**15), 2**15) if numbers[1:] == "i2" else (0, 100)
    data = rng.integers(low, high, (rows, 3)).astype(numbers)
    length = min(length, rows)
    stored(path, data, chunks=(length, 3), compression="gzip", compression_opts=level, **options)
    with h5py.File(path) as file:
        packed = PackedRows.of(file["data"])
        if options.get("fletcher32"):
            assert packed is None
            return
        assert packed is not None
        edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
        for low, high in pairwise(edges):
            # HDF5 reads them; the product is the one in float64, rounded once.
            expected = (file["data"][low:high].astype(np.float64) * scale).astype(np.float32)
            with pytest.MonkeyPatch.context() as patch:
                for compiled in (chunks._compiled, lambda: None):
                    patch.setattr(chunks, "_compiled", compiled)
                    np.testing.assert_array_equal(filled(packed, low, high, scale), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (50, 3)},
        {"chunks": (50, 2), "compression": "gzip"},
        {"chunks": (50, 3), "compression": "lzf"},
    ],
)
def test_what_is_stored_in_another_way_is_left_to_hdf5(tmp_path, options):
    stored(tmp_path / "n.h5", np.zeros((200, 3), "<i2"), **options)
    with h5py.File(tmp_path / "n.h5") as file:
        assert PackedRows.of(file["data"]) is None


def twelve_bits(offset):
    kind = h5t.STD_I16LE.copy()
    kind.set_precision(12)
    kind.set_offset(offset)
    return kind


@pytest.mark.parametrize(
    "kind",
    [twelve_bits(0), twelve_bits(4), h5t.py_create(np.dtype("longdouble"))],
    ids=["12 bits", "12 bits, shifted", "long double"],
)
def test_numbers_that_numpy_would_misread_are_left_to_hdf5(tmp_path, kind):
    data = np.arange(-300, 300).reshape(200, 3)
    space, plan = h5py.h5s.create_simple(data.shape), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((50, 3))
    plan.set_shuffle()
    plan.set_deflate(4)
    with h5py.File(tmp_path / "n.h5", "w") as file:
        node = h5py.Dataset(h5py.h5d.create(file.id, b"data", kind, space, plan))
        node[:] = data
        node.attrs["sampling_rate"], node.attrs["scale"] = 100.0, 1 / 1024
    with h5py.File(tmp_path / "n.h5") as file:
        assert PackedRows.of(file["data"]) is None
    with reading(tmp_path / "n.h5") as night:
        np.testing.assert_array_equal(night.read(), data / np.float32(1024))
        assert night.damage == []


def test_the_compiled_way_is_taken_where_the_compiler_is_loaded(monkeypatch):
    assert kernel.__name__ in sys.modules
    assert (chunks._compiled() is not None) == counts.COMPILED
    monkeypatch.delitem(sys.modules, kernel.__name__)
    assert chunks._compiled() is None


def test_a_chunk_that_skipped_its_filters_is_left_to_hdf5(tmp_path):
    data = np.arange(600, dtype="<i2").reshape(200, 3)
    stored(tmp_path / "n.h5", data, chunks=(100, 3), compression="gzip", shuffle=True)
    with h5py.File(tmp_path / "n.h5", "r+") as file:
        file["data"].id.write_direct_chunk((100, 0), data[100:].tobytes(), 0b11)
    with h5py.File(tmp_path / "n.h5") as file:
        packed = PackedRows.of(file["data"])
        np.testing.assert_array_equal(filled(packed, 50, 150), data[50:150])
    with reading(tmp_path / "n.h5") as night:
        np.testing.assert_array_equal(night.read(), data / np.float32(1024))


def test_what_is_deflated_is_never_taken_for_samples(tmp_path):
    """A chunk whose index says, by one changed bit, that it was not deflated."""
    data = np.arange(600, dtype="<i2").reshape(200, 3)
    stored(tmp_path / "n.h5", data, chunks=(100, 3), maxshape=(None, 3), compression="gzip", shuffle=True)
    with h5py.File(tmp_path / "n.h5", "r+") as file:
        _, content = file["data"].id.read_direct_chunk((100, 0))
        # HDF5 keeps what it has noted of a chunk that is there: a new one takes its place.
        file["data"].resize(100, 0)
        file["data"].resize(200, 0)
        file["data"].id.write_direct_chunk((100, 0), content, 0b10)
    with reading(tmp_path / "n.h5") as night:
        found = night.read()
        np.testing.assert_array_equal(found[:100], data[:100] / np.float32(1024))
        assert np.isnan(found[100:]).all()
        assert night.damage[0].missing == 100


BAD = {
    "noise": np.random.default_rng(0).bytes(50),
    "cut": zlib.compress(np.random.default_rng(0).bytes(600))[:-9],
    "short": zlib.compress(bytes(599)),
    "long": zlib.compress(bytes(601)),
    "bomb": zlib.compress(bytes(10**8)),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_chunk_that_is_not_what_it_must_be_is_never_guessed(tmp_path, content):
    data = np.arange(900, dtype="<i2").reshape(300, 3)
    stored(tmp_path / "n.h5", data, chunks=(100, 3), compression="gzip")
    with h5py.File(tmp_path / "n.h5", "r+") as file:
        file["data"].id.write_direct_chunk((100, 0), content, 0)
    with h5py.File(tmp_path / "n.h5") as file:
        packed = PackedRows.of(file["data"])
        sound = content in (BAD["short"], BAD["long"], BAD["bomb"])
        words = "another size than it should have" if sound else "Can't.*read data"
        with pytest.raises(OSError, match=words):
            filled(packed, 100, 200)
        np.testing.assert_array_equal(filled(packed, 200, 300), data[200:])


def test_samples_are_the_same_read_ahead_and_not(tmp_path):
    data = np.random.default_rng(1).integers(-2000, 2000, (60_000, 3)).astype("<i2")
    stored(tmp_path / "n.h5", data, chunks=(7_000, 3), compression="gzip", shuffle=True)
    with reading(tmp_path / "n.h5") as night:
        pieces = [chunk.xyz for chunk in night.chunks(block=5_000)]
        np.testing.assert_array_equal(np.concatenate(pieces), night.read())
        np.testing.assert_array_equal(night.read(), data / np.float32(1024))


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "hypnic-read-ahead"]


def test_the_thread_ends_with_the_last_item_and_when_nobody_takes_more():
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert readers() == []
    endless = ahead(iter(int, 1))
    assert next(endless) == 0
    assert len(readers()) == 1
    endless.close()
    assert readers() == []


def test_an_error_comes_out_in_its_place():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(ahead(items()))
    taken = ahead(items())
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(taken)
    assert readers() == []


def test_no_more_is_read_ahead_than_said():
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    taken = ahead(items())
    for number in taken:
        # Two wait, one is in the hands of the thread, one has been handed over.
        assert len(read) <= number + 4
    assert read == list(range(100))
