"""Makers of files that lay traps: HDF5 nights, archives, tables and settings, damaged or made to do harm."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from hypnic.events import EVENT_DTYPE
from hypnic.readers.base import ANNOTATION_DTYPE, CLOCK_DTYPE, GAP_DTYPE
from hypnic.recording.layout import create_table, file_rows

RATE: Final = 50.0
N: Final = 3000
"""Samples of a night: a minute."""

SIGNATURES: Final = (b"\x89HDF", b"OHDR", b"OCHK", b"TREE", b"HEAP", b"SNOD", b"GCOL", b"FRHP", b"FHDB")
SIGNATURES_LATER: Final = (b"FHIB", b"BTHD", b"BTLF", b"BTIN", b"EAHD", b"EAIB", b"FAHD", b"FADB", b"FSHD")
"""First bytes of the structures of HDF5 (its file format specification, versions 1 to 3)."""


def still(n: int = N, seed: int = 0) -> np.ndarray:
    """Return counts of a sensor at rest, 1/4096 g each."""
    xyz = np.random.default_rng(seed).normal((0, 0, 4096), 20, (n, 3))
    for at in range(n // 6, n, n // 6):
        xyz[at : at + 20] += 1500 * np.sin(np.arange(20))[:, None]
    return xyz.astype(np.int16)


def night(
    path: Path, *, libver: str = "earliest", compress: bool = True, checksum: bool = False, **file_attrs: Any
) -> Path:
    """Make a small night with every table in it."""
    options: dict[str, Any] = {"compression": "gzip", "shuffle": True} if compress else {}
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs.update(format="hypnic", format_version="1", created_by="tests", subject="A", **file_attrs)
        data = file.create_dataset(
            "acceleration", data=still(), chunks=(500, 3), maxshape=(None, 3), fletcher32=checksum, **options
        )
        data.attrs.update(
            sampling_rate=RATE, scale=1 / 4096, units="g", axes="x,y,z", site="wrist", range_g=8.0
        )
        data.attrs.update(start_time="2024-03-21T22:30:00+01:00", sensor="LSM6DSOX, simulated")
        gaps = np.array([(1000, 7, "unplugged"), (2000, 30, "lost")], GAP_DTYPE)
        begin = datetime(2024, 3, 21, 21, 30, tzinfo=UTC).timestamp()
        clock = np.array([(at, at * 20, begin + at / RATE) for at in (0, 1000, 2900)], CLOCK_DTYPE)
        events = np.zeros(4, EVENT_DTYPE)
        events["onset"], events["id"], events["label"] = np.arange(4) * 9.0, np.arange(4), "hypnic_jerk"
        events["rest"], events["duration"] = "onset", 0.4
        notes = np.array([(9.0, 0.3, "hypnic_jerk", "truth:jerk peak_g=0.1 visible=1")], ANNOTATION_DTYPE)
        for name, rows in (("gaps", gaps), ("clock", clock), ("events", events), ("annotations", notes)):
            create_table(file, name, file_rows(rows), compress=compress)
        file["events"].attrs.update(hypnic="0.1.0", settings=json.dumps({"on_min": 1.6}), rate=RATE)
    return path


def foreign(path: Path, **options: Any) -> Path:
    """Make a file of somebody else's, with the samples in a group."""
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("run/acc", data=still() / 4096, **options)
        data.attrs.update(fs=RATE, units="g", note="as text", axes=["x", "y", "z"])
        file["run/names"] = np.array(["a", "bb"], h5py.string_dtype())
        file["run/gyro"] = np.zeros((N, 2))
    return path


def sound_nights() -> dict[str, Callable[[Path], Path]]:
    """Return makers of sound files of as many inner forms as there are."""
    return {
        "packed": night,
        "plain": lambda path: night(path, compress=False),
        "latest": lambda path: night(path, libver="latest"),
        "checksum": lambda path: night(path, libver="latest", checksum=True),
        "unfinished": lambda path: night(path, compress=False, unfinished=1),
        "foreign": lambda path: foreign(path, chunks=(700, 3), compression="lzf"),
        "contiguous": foreign,
    }


def mutate_hdf5(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a damaged copy of an HDF5 file, and what was done: mostly to its structures, not to samples."""
    marks = sorted({at for mark in (*SIGNATURES, *SIGNATURES_LATER) for at in _places(data, mark)})
    out = bytearray(data)
    what = str(rng.choice(["cut", "flip", "byte", "field", "field", "copy", "zero", "size"]))

    def near() -> int:
        if rng.random() < 0.15:
            return int(rng.integers(len(data)))
        return min(int(rng.choice(marks)) + int(min(rng.exponential(120), 2000)), len(data) - 8)

    if what == "cut":
        at = int(rng.choice(marks)) + int(rng.choice([-1, 0, 1, 4, 8, 16, 24, 40, 100]))
        return what, bytes(out[: max(at, 9)])
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        at = near()
        if what == "flip":
            out[at] ^= 1 << int(rng.integers(8))
        elif what == "byte":
            out[at] = int(rng.choice([0, 1, 2, 3, 4, 16, 127, 128, 254, 255]))
        elif what in ("field", "size"):
            width = int(rng.choice([2, 4, 8]))
            value = int(
                rng.choice(
                    [0, 1, 2**15, 2**31, 2**32 + 8, 2**40, 2**63 - 1, len(data), at, int(rng.choice(marks))]
                )
            )
            value = 2**64 - 1 if rng.random() < 0.1 else value
            out[at : at + width] = (value % 256**width).to_bytes(width, "little")
        elif what == "copy":
            other, size = near(), int(rng.choice([8, 16, 24, 40, 64, 512]))
            out[at : at + size] = out[other : other + size]
        else:
            out[at : at + 16] = bytes(16)
    return what, bytes(out[: max(len(out), 9)])


def _places(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


# Made to do harm


def _replace(path: Path, name: str, make: Callable[[h5py.File], None], **options: Any) -> Path:
    night(path, **options)
    with h5py.File(path, "r+") as file:
        if name in file:
            attrs = dict(file[name].attrs)
            del file[name]
        else:
            attrs = {}
        make(file)
        if name in file and file.get(name, getlink=True).__class__ is h5py.HardLink:
            file[name].attrs.update(attrs)
    return path


def _huge(size: tuple[int, ...], dtype: Any, **options: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.create_dataset("acceleration", size, dtype, **options)


def bomb_chunks(
    path: Path, name: str = "acceleration", megabytes: int = 3000, lzf: bool = False, twice: bool = False
) -> Path:
    """Make a night one of whose chunks unpacks to gigabytes."""
    night(path)
    with h5py.File(path, "r+") as file:
        old, attrs = file[name], dict(file[name].attrs)
        shape, dtype, chunks = old.shape, old.dtype, old.chunks
        del file[name]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk(chunks)
        if twice:
            plan.set_deflate(9)
        plan.set_filter(32000, h5py.h5z.FLAG_OPTIONAL) if lzf else plan.set_deflate(9)
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
        made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=1), space, plan)
        stored = packed_zeros(megabytes)
        if twice:
            stored = zlib.compress(packed_zeros(megabytes), 9)
        for at in range(0, shape[0], chunks[0]):
            made.write_direct_chunk((at, *(0,) * (len(shape) - 1)), stored)
        file[name].attrs.update(attrs)
    return path


def packed_zeros(megabytes: int) -> bytes:
    """Return what unpacks (zlib) to so many megabytes of zeros, for 100 of which it takes less than 1."""
    packer = zlib.compressobj(9)
    # After a full flush nothing refers to what was before: the same block can follow itself.
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (1 | (megabytes << 20) % 65521 << 16).to_bytes(4, "big")
    return head + block * (megabytes - 1) + packer.flush()[:-4] + checksum


def _text(file: h5py.File, node: str, name: str, value: Any, dtype: Any = None) -> None:
    target = file[node]
    if name in target.attrs:
        del target.attrs[name]
    target.attrs.create(name, value, dtype=dtype)


def _attribute(node: str, name: str, value: Any, dtype: Any = None, **options: Any) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        night(path, **options)
        with h5py.File(path, "r+") as file:
            _text(file, node, name, value, dtype)
        return path

    return make


def _table(name: str, rows: Any, **options: Any) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        return _replace(path, name, lambda file: file.create_dataset(name, data=rows, **options))

    return make


def _heap_with_a_free_space_of_nothing(path: Path) -> Path:
    """Make a night whose global heap holds a free space of no length, over which HDF5 2.0 walks for ever."""
    data = bytearray(night(path).read_bytes())
    heap = data.find(b"GCOL")
    # The first object becomes a free space (number 0) of length 0.
    data[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(data)
    return path


def _heaps_within_heaps(path: Path) -> Path:
    """Make a night with what looks like ten thousand collections of the heap, each reaching to the end."""
    night(path)
    collection = b"GCOL\1\0\0\0" + (1 << 30).to_bytes(8, "little")
    with path.open("ab") as file:
        file.write((collection + b"\1\0\0\0\0\0\0\0" + bytes(8)) * 40_000)
    return path


def _without(*names: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        night(path)
        with h5py.File(path, "r+") as file:
            for name in names:
                node, _, attribute = name.rpartition("@")
                if attribute and node:
                    del file[node].attrs[attribute]
                else:
                    del file[name]
        return path

    return make


def _elsewhere(kind: str, name: str) -> Callable[[Path], Path]:
    """Make a night that keeps `name` in other files: ``secret.h5`` and ``secret.raw`` beside it."""

    def make(path: Path) -> Path:
        secret, raw = path.with_name("secret.h5"), path.with_name("secret.raw")

        def put(file: h5py.File) -> None:
            old = h5py.File(secret)[name]
            if kind == "external link":
                file[name] = h5py.ExternalLink(str(secret), f"/{name}")
            elif kind == "soft link":
                file["there"] = h5py.ExternalLink(str(secret), f"/{name}")
                file[name] = h5py.SoftLink("/there")
            elif kind == "external storage":
                size = int(np.prod(old.shape)) * old.dtype.itemsize
                file.create_dataset(name, old.shape, old.dtype, external=[(str(raw), 0, size)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout(old.shape, old.dtype)
                layout[...] = h5py.VirtualSource(str(secret), name, old.shape)
                file.create_virtual_dataset(name, layout)
            elif kind == "virtual without end":
                layout = h5py.VirtualLayout((1, *old.shape[1:]), old.dtype, maxshape=(None, *old.shape[1:]))
                source = h5py.VirtualSource(
                    str(secret), name, shape=old.shape, maxshape=(None, *old.shape[1:])
                )
                layout[h5py.h5s.UNLIMITED :] = source[h5py.h5s.UNLIMITED :]
                file.create_virtual_dataset(name, layout)
            elif kind == "link to a device":
                file[name] = h5py.ExternalLink("/dev/zero", f"/{name}")

        return _replace(path, name, put)

    return make


def _cycle(path: Path) -> Path:
    foreign(path)
    with h5py.File(path, "r+") as file:
        file["run/again"] = file["/"]
        file["run/self"] = file["run"]
        file["loop"] = h5py.SoftLink("/loop")
        del file["run/acc"]
    return path


def _many_groups(levels: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        with h5py.File(path, "w", libver="latest") as file:
            node = file.id
            for _ in range(levels):
                node = h5py.h5g.create(node, b"g")
            group = h5py.Group(node)
            group["acc"] = still() / 4096
            group["acc"].attrs["fs"] = RATE
        return path

    return make


def _one_text_many_times(path: Path) -> Path:
    """Make a night with an attribute of a million texts, all of them one and the same megabyte of the heap."""
    night(path, libver="latest")
    with h5py.File(path, "r+", libver="latest") as file:
        file.attrs["long"] = "x" * (1 << 20)
        file.attrs.create("many", np.full(1 << 16, "y" * 31, object), dtype=h5py.string_dtype())
    data = path.read_bytes()
    # A reference to the heap: length (4 bytes), address of the collection (8), number of the entry (4).
    long = data.find((1 << 20).to_bytes(4, "little"))
    while data[data[long + 4] and int.from_bytes(data[long + 4 : long + 12], "little") :][:4] != b"GCOL":
        long = data.find((1 << 20).to_bytes(4, "little"), long + 1)
    word, size = data[long : long + 16], (31).to_bytes(4, "little")
    out, at = bytearray(data), 0
    while (at := data.find(size, at)) >= 0:
        heap = int.from_bytes(data[at + 4 : at + 12], "little")
        if heap < len(data) and data[heap : heap + 4] == b"GCOL":
            out[at : at + 16] = word
            at += 16
        else:
            at += 1
    path.write_bytes(out)
    return path


def _object_numbers(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("acc", (10, 3), h5py.vlen_dtype(np.int16))
        file.create_dataset("ref", (10, 3), h5py.ref_dtype)
    return path


def _filtered(code: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        def put(file: h5py.File) -> None:
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk((500, 3))
            # Optional, for HDF5 makes no data set with a filter that it must have and has not.
            plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
            space = h5py.h5s.create_simple((N, 3))
            made = h5py.h5d.create(file.id, b"acceleration", h5py.h5t.STD_I16LE, space, plan)
            for at in range(0, N, 500):
                made.write_direct_chunk((at, 0), bytes(3000))

        return _replace(path, "acceleration", put)

    return make


def traps() -> dict[str, tuple[Callable[[Path], Path], bool]]:
    """Return makers of hostile nights by what they do, and whether they must be refused as a whole."""
    strange = np.zeros(3, [("a", "i4"), ("b", "S4")])
    wide_rows = np.zeros(2, [("sample", "i8"), ("missing", "i8"), ("reason", "S60000")])
    vlen = np.zeros(2, [("sample", "i8"), ("missing", "i8"), ("reason", h5py.string_dtype())])
    vlen["sample"], vlen["missing"], vlen["reason"] = [5, 9], 1, ["x" * 100_000, b"\xff\xfe"]
    subarray = np.zeros(2, [("sample", "i8", (3,)), ("missing", "i8"), ("reason", "S8")])
    texts = np.array([("one", "two", "three")], [("sample", "S8"), ("missing", "S8"), ("reason", "S8")])
    floats = np.array(
        [(np.nan, np.inf, "x"), (1e300, -1, "y")], [("sample", "f8"), ("missing", "f8"), ("reason", "S8")]
    )
    late = np.zeros(3, EVENT_DTYPE)
    late["onset"], late["duration"], late["label"] = (
        [np.nan, np.inf, -1e300],
        [-1, np.nan, 1e300],
        "\x1b[2J<script>",
    )
    late["sample"], late["id"] = [-(2**63), 2**63 - 1, 0], 0
    clock = np.array([(2**63 - 1, -1, np.nan), (-(2**63), 0, np.inf), (0, 0, 1e308)], CLOCK_DTYPE)
    notes = np.zeros(3, ANNOTATION_DTYPE)
    notes["onset"], notes["duration"] = [np.nan, -1, 1e300], [np.inf, np.nan, -5]
    notes["label"], notes["source"] = "\x1b]0;title\x07", "truth:x peak_g=1e999 visible=-3"
    out: dict[str, tuple[Callable[[Path], Path], bool]] = {}
    for kind in (
        "external link",
        "soft link",
        "external storage",
        "virtual",
        "virtual without end",
        "link to a device",
    ):
        for name in ("acceleration", "gaps", "events", "annotations", "clock"):
            if (kind, name) == ("virtual without end", "clock") or (
                kind == "link to a device" and name != "gaps"
            ):
                continue
            # What a command does not ask for is not looked at.
            out[f"{kind}: {name}"] = _elsewhere(kind, name), name in ("acceleration", "gaps")
    out |= {
        "heap: a free space of no length": (_heap_with_a_free_space_of_nothing, True),
        "10^12 rows, none written": (
            lambda p: _replace(p, "acceleration", _huge((10**12, 3), "i2", chunks=(500, 3))),
            True,
        ),
        "10^12 rows, packed": (
            lambda p: _replace(
                p, "acceleration", _huge((10**12, 3), "i2", chunks=(10**6, 3), compression="gzip")
            ),
            True,
        ),
        "10^9 rows of one number": (
            lambda p: _replace(p, "acceleration", _huge((10**9, 3), "i2", fillvalue=7)),
            True,
        ),
        "10^8 gaps": (
            lambda p: _replace(
                p,
                "gaps",
                lambda f: f.create_dataset("gaps", (4 * 10**7,), file_rows(np.zeros(0, GAP_DTYPE)).dtype),
            ),
            True,
        ),
        "10^7 events": (
            lambda p: _replace(
                p,
                "events",
                lambda f: f.create_dataset(
                    "events",
                    (10**7,),
                    file_rows(np.zeros(0, EVENT_DTYPE)).dtype,
                    chunks=(1024,),
                    compression="gzip",
                ),
            ),
            False,
        ),
        "bomb in the samples": (bomb_chunks, False),
        "bomb in the gaps": (lambda p: bomb_chunks(p, "gaps"), True),
        "bomb in the events": (lambda p: bomb_chunks(p, "events"), False),
        "bomb in a bomb": (lambda p: bomb_chunks(p, megabytes=8000, twice=True), True),
        "lzf that is none": (lambda p: bomb_chunks(p, megabytes=10, lzf=True), True),
        "a chunk of 2 GB": (
            lambda p: _replace(
                p,
                "acceleration",
                _huge((3 * 10**8, 3), "i2", chunks=(3 * 10**8, 3), compression="gzip", maxshape=(None, 3)),
            ),
            True,
        ),
        "chunks of one column": (
            lambda p: _replace(
                p, "acceleration", lambda f: f.create_dataset("acceleration", data=still(), chunks=(1, 1))
            ),
            False,
        ),
        "no samples at all": (
            lambda p: _replace(p, "acceleration", _huge((0, 3), "i2", maxshape=(None, 3))),
            True,
        ),
        "one sample": (
            lambda p: _replace(
                p, "acceleration", lambda f: f.create_dataset("acceleration", data=still()[:1])
            ),
            False,
        ),
        "a scalar": (lambda p: _replace(p, "acceleration", _huge((), "i2")), True),
        "32 dimensions": (lambda p: _replace(p, "acceleration", _huge((1,) * 32, "i2")), True),
        "a group": (lambda p: _replace(p, "acceleration", lambda f: f.create_group("acceleration")), True),
        "a named type": (
            lambda p: _replace(p, "acceleration", lambda f: f.__setitem__("acceleration", np.dtype("i2"))),
            True,
        ),
        "compound samples": (
            lambda p: _replace(p, "acceleration", lambda f: f.create_dataset("acceleration", data=strange)),
            True,
        ),
        "complex samples": (lambda p: _replace(p, "acceleration", _huge((10, 3), "c16")), True),
        "text samples": (lambda p: _replace(p, "acceleration", _huge((10, 3), "S8")), True),
        "vlen samples": (
            lambda p: _replace(p, "acceleration", _huge((10, 3), h5py.vlen_dtype(np.int16))),
            True,
        ),
        "references for samples": (
            lambda p: _replace(p, "acceleration", _huge((10, 3), h5py.ref_dtype)),
            True,
        ),
        "enum samples": (
            lambda p: _replace(p, "acceleration", _huge((10, 3), h5py.enum_dtype({"A": 1, "B": 2}, "i2"))),
            True,
        ),
        "vlen and references alone": (_object_numbers, True),
        "a filter nobody has": (_filtered(4242), True),
        "scale-offset filter": (
            lambda p: _replace(
                p, "acceleration", lambda f: f.create_dataset("acceleration", data=still(), scaleoffset=0)
            ),
            False,
        ),
        "NaN and infinity": (
            lambda p: _replace(
                p,
                "acceleration",
                lambda f: f.create_dataset(
                    "acceleration", data=np.where(still() % 5 == 0, np.nan, np.inf).astype("f4")
                ),
            ),
            False,
        ),
        "the largest numbers": (
            lambda p: _replace(
                p,
                "acceleration",
                lambda f: f.create_dataset("acceleration", data=np.where(still() % 2, 1.7e308, -1.7e308)),
            ),
            False,
        ),
        "unsigned 64 bits": (
            lambda p: _replace(
                p,
                "acceleration",
                lambda f: f.create_dataset("acceleration", data=np.full((N, 3), 2**64 - 1, "u8")),
            ),
            False,
        ),
        "groups in a circle": (_cycle, True),
        "2000 groups deep": (_many_groups(2000), True),
        "50 000 groups deep": (_many_groups(50_000), True),
        "heaps within heaps": (_heaps_within_heaps, False),
        "one text many times": (_one_text_many_times, False),
        "no format": (_without("/@format"), False),
        "no version": (_without("/@format_version"), True),
        "no rate": (_without("acceleration@sampling_rate"), True),
        "no scale": (_without("acceleration@scale"), True),
        "no tables": (_without("gaps", "clock", "events", "annotations"), False),
        "no samples' data set": (_without("acceleration"), True),
        "table: numbers": (_table("gaps", np.zeros((4, 4))), True),
        "table: scalar": (_table("gaps", np.zeros((), [("sample", "i8"), ("missing", "i8")])), True),
        "table: other columns": (_table("gaps", strange), True),
        "table: wide text": (_table("gaps", wide_rows), True),
        "table: vlen text": (_table("gaps", vlen), False),
        "table: arrays": (_table("gaps", subarray), True),
        "table: text for numbers": (_table("gaps", texts), True),
        "table: floats": (_table("gaps", floats), True),
        "table: events out of this world": (_table("events", file_rows(late)), False),
        "table: clock out of this world": (_table("clock", file_rows(clock)), False),
        "table: notes out of this world": (_table("annotations", file_rows(notes)), False),
        "a million attributes' worth of text": (
            _attribute("/", "notes", "x" * 50_000_000),
            False,
        ),
        "attribute of 100 MB": (
            _attribute("/", "notes", np.zeros(25_000_000, "f4"), libver="latest"),
            False,
        ),
        "rate of 100 MB": (
            _attribute("acceleration", "sampling_rate", np.zeros(25_000_000, "f4"), libver="latest"),
            True,
        ),
        "an empty attribute": (_attribute("acceleration", "site", h5py.Empty("S10")), True),
        "attribute of references": (
            _attribute("/", "subject", np.zeros(3, "i8"), "i8"),
            False,
        ),
        "attribute of structures": (_attribute("/", "subject", strange), False),
        "attribute of texts": (
            _attribute("/", "subject", ["a", "b" * 5000, "\ud7ff"], h5py.string_dtype()),
            False,
        ),
        "text that is not UTF-8": (
            _attribute("/", "created_by", b"\xff\xfe\xfd", h5py.string_dtype()),
            False,
        ),
        "escape sequences": (
            _attribute("acceleration", "sensor", "\x1b[2J\x1b]0;owned\x07\n\rhypnic: all is well"),
            False,
        ),
        "escape sequences in what is refused": (
            _attribute("acceleration", "site", "\x1b[2Jnose\n" * 300),
            True,
        ),
        "a very long refusal": (_attribute("acceleration", "units", "furlong " * 6000), True),
        "a page's markup": (_attribute("acceleration", "sensor", "<script>alert(1)</script>"), False),
        "rate: text": (_attribute("acceleration", "sampling_rate", "fast"), True),
        "rate: NaN": (_attribute("acceleration", "sampling_rate", np.nan), True),
        "rate: 1e308": (_attribute("acceleration", "sampling_rate", 1e308), True),
        "rate: 25 Hz, scale 1e300": (_attribute("acceleration", "scale", 1e300), False),
        "scale: 1e-320": (_attribute("acceleration", "scale", 1e-320), False),
        "scale: complex": (_attribute("acceleration", "scale", 1 + 2j), True),
        "rate: array": (_attribute("acceleration", "sampling_rate", np.full((3, 3), 50.0)), True),
        "start: a billion years": (_attribute("acceleration", "start_time", "9999999999-01-01"), False),
        "start: number": (_attribute("acceleration", "start_time", 1e300), False),
        "start: last moment": (
            _attribute("acceleration", "start_time", "9999-12-31T23:59:59.999999+00:00"),
            False,
        ),
        "start: first moment": (_attribute("acceleration", "start_time", "0001-01-01T00:00:00+14:00"), False),
        "version: structure": (_attribute("/", "format_version", strange), True),
        "settings that are none": (_attribute("events", "settings", '{"on_min": ' + "[" * 20_000), False),
        **{
            f"meta: {name} is {value!r}": (_attribute("events", name, value), False)
            for name in (
                "settings",
                "rest",
                "counts",
                "rate",
                "hypnic",
                "site",
                "calibration",
                "windows",
                "reference",
            )
            for value in ("fast", "[[1], 2]", '{"a": {"b": []}}', -7.5, "[]")
        },
        "settings: numbers": (_attribute("events", "settings", "[1, NaN, Infinity, 1e999]"), False),
    }
    return out


# Other formats


def zip_bomb(member: str, megabytes: int = 1500, **others: bytes) -> bytes:
    """Make an archive one member of which unpacks to gigabytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in others.items():
            archive.writestr(name.replace("_", "."), data)
        with archive.open(member, "w") as file:
            for _ in range(megabytes):
                file.write(bytes(1 << 20))
    return out.getvalue()


def lying_sizes(archive: bytes, claimed: int) -> bytes:
    """Return `archive` with another unpacked size in every place that states one."""
    out = bytearray(archive)
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        for place in _places(archive, mark):
            struct.pack_into("<I", out, place + at, claimed)
    return bytes(out)


def mutate(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Cut, flip, overwrite, double or leave out parts."""
    out = bytearray(data)
    what = ""
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(out)))
        if rng.random() < 0.4:
            at %= min(len(out), 1200)
        size = int(rng.integers(1, 1 + min(600, max(8, len(out) // 10))))
        what = str(rng.choice(["cut", "flip", "overwrite", "double", "leave out", "field", "number"]))
        if what == "cut":
            del out[at:]
        elif what == "flip":
            out[at] ^= 1 << int(rng.integers(8))
        elif what == "overwrite":
            out[at : at + size] = rng.bytes(size)
        elif what == "double":
            out[at:at] = out[at : at + size]
        elif what == "leave out":
            del out[at : at + size]
        elif what == "field":
            out[at : at + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000])).to_bytes(
                4, "little"
            )
        else:
            words = [
                b"nan",
                b"1e999",
                b"-1",
                b"9" * 400,
                b"\xff\xfe",
                b'"',
                b"\0",
                b"\n\n",
                b",,,,",
                b"1,5",
                b"0x1F",
            ]
            word = words[int(rng.integers(len(words)))]
            out[at : at + len(word)] = word
        out = out or bytearray(b"\0")
    return what, bytes(out)


TOML: Final = """# thresholds
name = "wrist-1"
on_min = 1.7
background = 30.0
smooth = 0.06
still = 300
"""

DIARY: Final = """date;file;subject;caffeine;stress;notes
2024-03-21;;A;120;low;-
2024-03-22;;A;0,5;high;x
;night7;A;;no;y
"""

EVENTS_TSV: Final = "onset\tduration\ttrial_type\tscore\tpeak_g\n" + "".join(
    f"{at * 7.5}\t0.4\thypnic_jerk\t0.8\t0.1\n" for at in range(12)
)

EVENTS_JSON: Final = json.dumps(
    {
        "events": [
            {"onset": at * 7.5, "duration": 0.4, "label": "hypnic_jerk", "id": at, "revision": 0}
            for at in range(9)
        ]
    }
)

TEXT_TRAPS: Final = {
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "deep table": b"a = " + b"[" * 100_000,
    "inline tables": b"a = " + b"{a=" * 50_000,
    "long name": b"a" * 3_000_000 + b" = 1\n",
    "dotted name": b"a." * 100_000 + b"a = 1\n",
    "digits": b'{"events": [{"onset": ' + b"9" * 1_000_000 + b"}]}",
    "digits in TOML": b"on_min = " + b"9" * 1_000_000 + b"\n",
    "digits in a table": b"onset,duration\n" + b"9" * 1_000_000 + b",1\n",
    "infinity": b"onset\tduration\ninf\tnan\n-inf\t1e999\n",
    "a quote without end": b'onset,duration\n"1,2\n' + b"3,4\n" * 300_000,
    "nothing": b"",
    "a line": b"onset",
    "zeros": bytes(100_000),
    "utf-16": "onset\tduration\n1\t2\n".encode("utf-16"),
    "lone surrogates": b'{"events": [{"onset": 1, "label": "\\ud800"}]}',
    "numbers for text": b'{"events": [{"onset": true, "label": 7, "id": [1], "source": {}, "revision": "x"}]}',
    "not a list": b'{"events": {"onset": 1}}',
    "a list of lists": b'{"events": [[1, 2], [3, 4]]}',
    "a million columns": b"onset" + b",x" * 1_000_000 + b"\n1" + b",2" * 1_000_000 + b"\n",
    "negative duration": b"onset,duration\n1,-5\n",
    "NaN": b'{"events": [{"onset": NaN, "duration": Infinity}]}',
    "an escape sequence": b"\x1b[2J\x1b]0;x\x07,duration\n1,2\n",
    "an escape sequence in a cell": b"date,caffeine\n\x1b[2Jx,2\n",
    "dates": b"date,caffeine\n0000-00-00,1\n9999-99-99,2\n",
    "an old Mac's lines": b"date,caffeine\r2024-01-01,1\r2024-01-02,2\r",
}
"""Texts that are hard on a parser of tables, JSON, TOML or diaries."""

SAMPLE_TRAPS: Final = {
    "one line of 20 MB": b"1,2,3," * 3_500_000,
    "a quote without end": b't,x,y,z\n0.00,"0,0,1\n'
    + b"".join(b"%.2f,0,0,1\n" % (at / 50) for at in range(100_000)),
    "a million columns": b"1," * 1_000_000 + b"\n",
    "digits": b"t,x,y,z\n" + b"0," + b"9" * 2_000_000 + b",0,1\n",
    "huge times": b"t,x,y,z\n" + b"".join(b"%de300,0,0,1\n" % at for at in range(500)),
    "infinite times": b"t,x,y,z\n" + b"inf,0,0,1\n" * 500,
    "hex": b"t,x,y,z\n" + b"0x1,0x2,0x3,0x4\n" * 500,
    "far times": b"t,x,y,z\n" + b"".join(b"%.2f,0,0,1\n" % (at / 50 + (at > 250) * 1e9) for at in range(500)),
    "a century": b"t,x,y,z\n" + b"".join(b"%.2f,0,0,1\n" % (at / 50 + (at > 250) * 3e9) for at in range(500)),
    "dates at both ends": b"t,x,y,z\n0001-01-01 00:00:00,0,0,1\n9999-12-31 23:59:59,0,0,1\n" * 100,
    "other dates": b"t,x,y,z\n" + b"0000-13-41 25:61:61,0,0,1\n" * 300,
    "zeros": b"t,x,y,z\n" + b"0,0,0,0\n" * 500,
    "every other line": b"t,x,y,z\n"
    + b"".join(b"%.2f,0,0,1\nwhat,is,this,here\n" % (at / 50) for at in range(30_000)),
    "an escape sequence": b"\x1b[2J,\x1b]0;x\x07,y,z\n" + b"1,2,3,4\n" * 500,
    "utf-16 that breaks off": b"\xff\xfe" + "t,x,y,z\n0,0,0,1\n".encode("utf-16-le")[:-1] * 100,
    "only a byte order mark": b"\xff\xfe",
    "e4: 1e999": b"1e999,1e999,1e999\n32,32,32\n" + b"1,2,60\n" * 500,
    "e4: year 300 000": b"9e12,9e12,9e12\n32,32,32\n" + b"1,2,60\n" * 500,
    "e4: rate 1e-300": b"1.6e9,1.6e9,1.6e9\n1e-300,1e-300,1e-300\n" + b"1,2,60\n" * 500,
}
"""Texts that are hard on a reader of samples."""
