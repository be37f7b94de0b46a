"""Empatica EmbracePlus raw data: Avro files of some minutes each, one or a folder of them.

Layout as Empatica documents it (raw data of the Care platform): ``rawData.accelerometer`` with the time of the
first sample in microseconds, the rate, counts, and what makes g of them. The container of Avro is read here, so
that a damaged part costs no more than itself and nothing is unpacked beyond a bound; fastavro decodes the records.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from hypnic.chunk import check_site
from hypnic.errors import DataError, UsageError
from hypnic.readers.base import Format
from hypnic.readers.blocks import DAMAGED, BlockRecording, check_options, check_start, lay_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMAT", "EmbracePlusRecording"]

MAGIC: Final = b"Obj\x01"
"""First bytes of an Avro file."""

LARGEST_FILE: Final = 64 << 20
"""Bytes beyond which a file is refused: an hour of all sensors is below 10 MB."""

LARGEST_BLOCK: Final = 32 << 20
"""Bytes that a block of records may unpack to. As Python's numbers they can become some forty times as many."""

LARGEST_COUNT: Final = 32768
"""Size of a count beyond which it is damage: the sensor has 16 bits."""

MOST_NAMES: Final = 2000
"""Types and fields that a schema may have; Empatica's have about a hundred."""

MOST_NOTES: Final = 10
"""Damaged files of a folder that are named."""

RESOLUTION: Final = 1e-6
"""Step of a time stamp (s)."""

_BYTES: Final = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})
"""Primitive types of which every value takes a byte at least."""


def matches(path: Path, head: bytes) -> bool:
    """Tell an Avro file by its first bytes, a folder by the endings of its files."""
    if path.is_dir():
        return bool(_files(path))
    return head.startswith(MAGIC) or (path.suffix.lower() == ".avro" and bool(head))


def _files(path: Path) -> list[Path]:
    """Return the Avro files of a folder, or the one file."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() == ".avro" and file.is_file())


# The container


class _Container(NamedTuple):
    schema: Any
    codec: str
    sync: bytes
    begin: int


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` (zigzag, seven bits a byte) and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return (value >> 1) ^ -(value & 1), at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _blob(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(data, at)
    if not 0 <= size <= len(data) - at:
        raise ValueError("a length beyond the end of the file")
    return data[at : at + size], at + size


def _container(data: bytes) -> _Container:
    """Return what the head of an Avro file says."""
    if not data.startswith(MAGIC):
        raise ValueError("it does not start as an Avro file does")
    meta: dict[bytes, bytes] = {}
    at = len(MAGIC)
    while True:
        count, at = _long(data, at)
        if count < 0:
            count, (_, at) = -count, _long(data, at)
        if count == 0:
            break
        for _ in range(count):
            key, at = _blob(data, at)
            meta[key], at = _blob(data, at)
    sync = data[at : at + 16]
    if len(sync) < 16:
        raise ValueError("its head is cut short")
    codec = meta.get(b"avro.codec", b"null").decode("ascii", "replace")
    if codec not in ("null", "deflate"):
        raise ValueError(f"it is packed with {codec!r}: only deflate is read")
    return _Container(json.loads(meta.get(b"avro.schema", b"")), codec, sync, at + 16)


def _blocks(data: bytes, container: _Container, complaints: list[str]) -> Iterator[tuple[int, bytes]]:
    """Yield (records, their bytes) for every sound block; pass over damage to the next mark."""
    at = container.begin
    while at < len(data):
        try:
            count, place = _long(data, at)
            size, place = _long(data, place)
            end = place + size
            if not (count > 0 <= size and data[end : end + 16] == container.sync):
                raise ValueError("a block without its mark")
            body = data[place:end]
            if container.codec == "deflate":
                unpacking = zlib.decompressobj(-15)
                body = unpacking.decompress(body, LARGEST_BLOCK)
                if unpacking.unconsumed_tail or not unpacking.eof:
                    raise ValueError("a block that does not unpack, or to more than a recording")
        except (ValueError, IndexError, zlib.error) as error:
            complaints.append(str(error))
            found = data.find(container.sync, at)
            if found < 0:
                return
            at = found + 16
            continue
        yield count, body
        at = end + 16


# The schema


def _check_schema(schema: Any) -> None:
    """Refuse a schema whose values could take more memory than bytes, or nest without end.

    Raises
    ------
    ValueError
        If it is such, or no schema.
    """
    known: dict[str, bool] = {}
    seen = 0

    def takes(part: Any, depth: int) -> bool:
        """Tell whether a value of this type takes a byte at least."""
        nonlocal seen
        seen += 1
        if seen > MOST_NAMES or depth > 30:
            raise ValueError("its schema is larger than any of Empatica's")
        if isinstance(part, list):
            for option in part:
                takes(option, depth + 1)
            return True
        if isinstance(part, str):
            if part in _BYTES or part == "null":
                return part != "null"
            name = part.rpartition(".")[2]
            if name not in known:
                raise ValueError(f"its schema has an unknown or nested type {part!r}")
            return known[name]
        kind = part.get("type") if isinstance(part, dict) else None
        name = str(part.get("name", "")).rpartition(".")[2] if isinstance(part, dict) else ""
        if kind == "record" and isinstance(part.get("fields"), list):
            # Known only when all of it has been seen: a type within itself could nest without end.
            # All fields are looked at, so no short cut.
            sizes = [takes(field["type"], depth + 1) for field in part["fields"]]
            result = any(sizes)
        elif kind in ("array", "map"):
            if not takes(part["items" if kind == "array" else "values"], depth + 1) and kind == "array":
                raise ValueError("its schema has an array of nothing")
            return True
        elif kind == "enum":
            result = True
        elif kind == "fixed":
            result = isinstance(part.get("size"), int) and part["size"] > 0
        elif kind is None:
            raise ValueError("its schema is none")
        else:
            return takes(kind, depth + 1)
        known[name] = result
        return result

    takes(schema, 0)


def _without_others(schema: Any) -> Any:
    """Return the schema without the sensors that are not read, for fastavro to skip them."""
    pruned = {**schema, "fields": []}
    for field in schema["fields"]:
        if field["name"] == "rawData" and isinstance(field["type"], dict) and "fields" in field["type"]:
            inner = [part for part in field["type"]["fields"] if part["name"] == "accelerometer"]
            # Types that a sensor defines are known by name to those after it: then nothing can be left out.
            if not any(isinstance(part["type"], dict) for part in inner):
                return schema
            field = {**field, "type": {**field["type"], "fields": inner}}
        pruned["fields"].append(field)
    try:
        _check_schema(pruned)
    except ValueError:
        return schema
    return pruned


# The records


class _Facts(NamedTuple):
    """What a record says of its samples."""

    stamp: float
    rate: float
    factor: float
    samples: int
    whole: bool
    device: str
    zone: int
    range_g: float | None


def _part(record: Any) -> tuple[_Facts, NDArray[Any]] | None:
    """Return what a record holds of acceleration; None where the sensor was off.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not as Empatica documents it.
    """
    data = record["rawData"]["accelerometer"]
    if not data or not data["samplingFrequency"] or not data["x"]:
        return None
    params = data["imuParams"]
    if params.get("conversionFactor"):
        # Since version 6.5 of the schema.
        factor, range_g = float(params["conversionFactor"]), None
    else:
        span = float(params["physicalMax"]) - float(params["physicalMin"])
        factor = span / (float(params["digitalMax"]) - float(params["digitalMin"]))
        range_g = float(params["physicalMax"])
    stamp, rate = float(data["timestampStart"]) / 1e6, float(data["samplingFrequency"])
    if not (0 < factor < 1e3 and 0 < rate < 1e5 and 0 < stamp < 1e11):
        raise ValueError("its rate, scale or time cannot be")
    xyz = np.stack([np.asarray(data[axis]) for axis in "xyz"], axis=1)
    if xyz.dtype.kind not in "if" or not np.isfinite(xyz).all():
        raise ValueError("its samples are no numbers")
    if np.abs(xyz).max() > LARGEST_COUNT:
        raise ValueError("a sample of more than 16 bits")
    facts = _Facts(
        stamp,
        rate,
        factor,
        len(xyz),
        xyz.dtype.kind == "i",
        " ".join(str(record.get(name) or "") for name in ("deviceModel", "deviceSn")).strip()[:60],
        int(record.get("timezone") or 0),
        range_g if range_g and 0 < range_g < 1e3 else None,
    )
    return facts, xyz


def _parts(path: Path, complaints: list[str]) -> Iterator[tuple[int, _Facts, NDArray[Any]]]:
    """Yield (number of the record, what it says, its samples) for all that is sound in a file.

    Raises
    ------
    DataError
        If the file is no Avro file of this layout.
    """
    fastavro = _fastavro()
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"{path}: {size} bytes long: no file of the EmbracePlus has so many")
    data = path.read_bytes()
    try:
        container = _container(data)
        _check_schema(container.schema)
        whole = fastavro.parse_schema(container.schema, _write_hint=False)
        wanted = fastavro.parse_schema(_without_others(container.schema), _write_hint=False)
    except Exception as error:  # fastavro has no common class for what it raises on a bad schema
        raise DataError(f"{path}: not a readable Avro file: {_short(error)}") from None
    number = 0
    for count, body in _blocks(data, container, complaints):
        stream = io.BytesIO(body)
        for at in range(count):
            try:
                record = fastavro.schemaless_reader(stream, whole, wanted)
                part = _part(record)
            except Exception as error:  # as above: whatever bytes do to a decoder
                complaints.append(f"record {number + at} is damaged or of another layout ({_short(error)})")
                break
            if part is not None:
                yield number + at, *part
        number += count


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError:
        raise UsageError(
            "Avro files need the package fastavro: pip install fastavro (or hypnic[avro])"
        ) from None
    return fastavro


class EmbracePlusRecording(BlockRecording):
    """The raw data of an Empatica EmbracePlus: an Avro file, or a folder with those of one device.

    One file at a time is held in memory.

    Parameters
    ----------
    path : path-like
        The file or the folder.
    rate : float, optional
        Sampling rate in Hz, in place of that of the time stamps.
    site : {"wrist", "mattress"}, optional
        By default the wrist: it is a wristband.
    start : datetime or str, optional
        When the first sample was taken, if not when the files say.

    Raises
    ------
    DataError
        If no file holds acceleration as Empatica documents it, or they are of several devices.
    UsageError
        If an option is none, or the package fastavro is absent.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: float | None = None,
        site: str = "wrist",
        start: datetime | str | None = None,
    ) -> None:
        path, rate, moment = Path(path), check_options(rate), check_start(start)
        notes: list[str] = []
        check_site(site)
        self._places: list[tuple[Path, int]] = []
        parts: list[_Facts] = []
        reasons: dict[int, str] = {}
        for file in _files(path):
            complaints: list[str] = []
            try:
                for number, facts, _ in _parts(file, complaints):
                    self._places.append((file, number))
                    parts.append(facts)
            except DataError as error:
                if not path.is_dir():
                    raise
                complaints.append(str(error).partition(": ")[2])
            if complaints:
                reasons[len(parts)] = DAMAGED
                notes.append(f"{file.name}: {complaints[0]}")
        if len(notes) > MOST_NOTES:
            notes[MOST_NOTES:] = [f"and {len(notes) - MOST_NOTES} more files are damaged"]
        if not parts:
            told = f": {notes[0]}" if notes else ""
            raise DataError(f"{path}: there is no acceleration in it{told}")
        devices = sorted({part.device for part in parts})
        if len(devices) > 1:
            raise DataError(f"{path}: files of several devices ({', '.join(devices[:4])}): a folder for each")
        order = np.argsort([part.stamp for part in parts], kind="stable")
        self._places = [self._places[at] for at in order]
        if np.any(np.diff(order) < 0):
            reasons = {}
        parts = [parts[at] for at in order]
        counts = np.array([part.samples for part in parts])
        factors = {part.factor for part in parts}
        self._factors = None if len(factors) == 1 else np.array([part.factor for part in parts])
        narrow = self._factors is None and all(part.whole for part in parts)
        layout = lay_out(
            path,
            [part.stamp for part in parts],
            counts,
            float(np.median([part.rate for part in parts])),
            rate=rate,
            resolution=RESOLUTION,
            reasons=reasons,
        )
        self._cached: tuple[Path, dict[int, NDArray[Any]]] | None = None
        zone = parts[0].zone
        factor = parts[0].factor
        super().__init__(
            path,
            layout,
            counts,
            factor=factor if self._factors is None else 1.0,
            start=moment,
            zone=timezone(timedelta(seconds=zone)) if abs(zone) < 86400 else None,
            site=site,
            scale=factor if narrow else None,
            dtype="int16" if narrow else "float32",
            range_g=parts[0].range_g,
            sensor=f"Empatica {devices[0] or 'EmbracePlus'}"[:80],
            notes=notes,
        )

    def _decode(self, blocks: NDArray[np.int64]) -> NDArray[Any]:
        out = []
        for block in blocks.tolist():
            file, number = self._places[block]
            if self._cached is None or self._cached[0] != file:
                self._cached = (file, {at: xyz for at, _, xyz in _parts(file, [])})
            if number not in self._cached[1]:
                raise DataError(f"{file}: the file has changed while it was read")
            xyz = self._cached[1][number]
            out.append(xyz if self._factors is None else xyz * self._factors[block])
        return np.concatenate(out)


FORMAT: Final = Format(
    "EmbracePlus",
    (".avro",),
    matches,
    EmbracePlusRecording,
    frozenset({"rate", "site", "start"}),
    folders=True,
)
