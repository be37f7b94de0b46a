"""Makers of other people's file formats, as small as the tests need them, after the makers' documentation."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2024, 3, 21, 22, 30, tzinfo=UTC).timestamp()
"""When made-up recordings begin, a whole second."""


def counts(n: int, seed: int = 0, size: int = 500) -> np.ndarray:
    """Return made-up samples as counts."""
    return np.random.default_rng(seed).integers(-size, size, (n, 3)).astype(np.int16)


# Axivity


def cwa_header(device: int = 39434, model: int = 0x17, remark: bytes = b"_p=left+wrist") -> bytes:
    head = bytearray(b"\xff" * 1024)
    head[0:4] = b"MD\xfc\x03"
    head[4] = model
    struct.pack_into("<HI", head, 5, device & 0xFFFF, 26)
    struct.pack_into("<H", head, 11, device >> 16 or 0xFFFF)
    head[64:512] = remark.ljust(448)
    return bytes(head)


def cwa_time(seconds: int) -> int:
    at = datetime.fromtimestamp(seconds, UTC)
    fields = (at.year - 2000, 6, at.month, 4, at.day, 5, at.hour, 5, at.minute, 6, at.second, 6)
    packed = 0
    for value, width in zip(fields[::2], fields[1::2], strict=True):
        packed = packed << width | value
    return packed


def cwa_sector(
    xyz: np.ndarray,
    stamp: float,
    sequence: int = 0,
    *,
    rate_code: int = 0x4A,
    packed: bool = True,
    axes: int = 3,
    unit: int = 0,
    fine: bool = True,
    true_rate: float = 100.0,
) -> bytes:
    """Make a sector: 10-bit samples with an exponent, or 16-bit ones with a gyroscope's before them."""
    rate = 3200 / (1 << (15 - (rate_code & 15)))
    second, part = int(np.floor(stamp)), stamp - np.floor(stamp)
    if fine:
        fraction = int(part * 32768)
        # Older software reads the offset as samples since the whole second.
        field, offset = 0x8000 | fraction, -((fraction << 1) * int(rate) >> 16)
    else:
        # Whole seconds alone: the offset says which sample the next one began with.
        second += part > 0
        field, offset = 0, round((second - stamp) * true_rate)
    if packed:
        body = b""
        for row in xyz.astype(int).tolist():
            exponent = next(e for e in range(4) if all(-512 <= v >> e <= 511 for v in row))
            x, y, z = ((v >> exponent) & 1023 for v in row)
            body += struct.pack("<I", exponent << 30 | z << 20 | y << 10 | x)
    else:
        whole = np.full((len(xyz), axes), 7, "<i2")
        at = 3 if axes >= 6 else 0
        whole[:, at : at + 3] = xyz
        body = whole.tobytes()
    head = struct.pack("<4sHIII", b"AX\xfc\x01", field, 26, sequence, cwa_time(second))
    head += struct.pack("<HHBBBBhH", unit << 13, 300, 0, 200, rate_code, 0, offset, len(xyz))
    sector = bytearray((head + body).ljust(512, b"\0"))
    sector[25] = axes << 4 | (0 if packed else 2)
    total = int(np.frombuffer(bytes(sector), "<u2").sum(dtype=np.uint16))
    struct.pack_into("<H", sector, 510, -total & 0xFFFF)
    return bytes(sector)


def cwa(
    xyz: np.ndarray, rate: float = 100.0, start: float = START, *, size: int = 0, **options: Any
) -> bytes:
    """Make a whole file of samples taken at `rate`."""
    size = size or (120 if options.get("packed", True) else 480 // (2 * options.get("axes", 3)))
    out = cwa_header(model=0x64 if options.get("axes", 3) == 6 else 0x17)
    for at in range(0, len(xyz), size):
        out += cwa_sector(xyz[at : at + size], start + at / rate, at // size, true_rate=rate, **options)
    return out


# GENEActiv

GAIN, SHIFT = (25875, 25734, 25538), (439, -662, -3056)


def geneactiv_header(zone: str = "GMT +01:00", place: str = "left wrist") -> bytes:
    gains = "".join(
        f"{axis} gain:{gain}\r\n{axis} offset:{shift}\r\n"
        for axis, gain, shift in zip("xyz", GAIN, SHIFT, strict=True)
    )
    text = (
        "Device Identity\r\nDevice Unique Serial Code:012967\r\nDevice Type:GENEActiv           \r\n\r\n"
        "Device Capabilities\r\nAccelerometer Range:-8 to 8  \r\n\r\n"
        f"Configuration Info\r\nMeasurement Frequency:100.0 Hz\r\nTime Zone:{zone}\r\n\r\n"
        f"Subject Info\r\nDevice Location Code:{place}\r\n\r\nCalibration Data\r\n{gains}Volts:300\r\n\r\n"
    )
    return text.encode()


def geneactiv_page(xyz: np.ndarray, stamp: float, sequence: int = 0) -> bytes:
    at = datetime.fromtimestamp(stamp, UTC)
    x, y, z = ((xyz[:, axis].astype(int) & 0xFFF) for axis in range(3))
    digits = "".join(f"{a:03X}{b:03X}{c:03X}040" for a, b, c in zip(x, y, z, strict=True))
    text = (
        f"Recorded Data\r\nDevice Unique Serial Code:012967\r\nSequence Number:{sequence}\r\n"
        f"Page Time:{at:%Y-%m-%d %H:%M:%S}:{at.microsecond // 1000:03d}\r\nUnassigned:\r\nTemperature:21.5\r\n"
        f"Battery voltage:4.1\r\nDevice Status:Recording\r\nMeasurement Frequency:100.0\r\n{digits}\r\n"
    )
    return text.encode()


def geneactiv(xyz: np.ndarray, rate: float = 100.0, start: float = START) -> bytes:
    pages = (
        geneactiv_page(xyz[at : at + 300], start + at / rate, at // 300) for at in range(0, len(xyz), 300)
    )
    return geneactiv_header() + b"".join(pages)


def geneactiv_g(xyz: np.ndarray) -> np.ndarray:
    return ((xyz * 100.0 - np.array(SHIFT)) / np.array(GAIN)).astype(np.float32)


# ActiGraph


def gt3x_record(kind: int, stamp: int, payload: bytes) -> bytes:
    body = struct.pack("<BBIH", 0x1E, kind, int(stamp), len(payload)) + payload
    return body + bytes([np.bitwise_xor.reduce(np.frombuffer(body, np.uint8)) ^ 0xFF])


def gt3x_samples(xyz: np.ndarray, stamp: float, kind: int = 0) -> bytes:
    if kind == 26:
        return gt3x_record(kind, int(stamp), xyz.astype("<i2").tobytes())
    bits = "".join(f"{int(v) & 0xFFF:012b}" for row in xyz[:, [1, 0, 2]].tolist() for v in row)
    bits += "0" * (-len(bits) % 8)
    return gt3x_record(kind, int(stamp), int(bits, 2).to_bytes(len(bits) // 8, "big"))


def gt3x_log(xyz: np.ndarray, rate: int = 100, start: float = START, kind: int = 0) -> list[bytes]:
    """Make the records, one a second."""
    return [
        gt3x_samples(xyz[at : at + rate], start + at // rate, kind)
        for at in range(0, len(xyz) // rate * rate, rate)
    ]


def gt3x(log: Iterable[bytes], info: str = "", packing: int = zipfile.ZIP_STORED, **facts: str) -> bytes:
    fields = {
        "Serial Number": "MOS2C06152277",
        "Device Type": "wGT3XBT",
        "Sample Rate": "100",
        "TimeZone": "-05:00:00",
        "Acceleration Scale": "256.0",
        "Acceleration Max": "8.0",
        "Limb": "Wrist",
        "Side": "Left",
        **facts,
    }
    text = info or "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return zipped({"log.bin": b"".join(log), "info.txt": text.encode()}, packing)


def zipped(files: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return out.getvalue()


# Empatica


def e4_csv(xyz: np.ndarray, rate: float = 32.0, start: float = START) -> bytes:
    head = f"{start:.6f}, {start:.6f}, {start:.6f}\n{rate:.6f}, {rate:.6f}, {rate:.6f}\n"
    return (head + "".join(f"{x},{y},{z}\n" for x, y, z in xyz.astype(int).tolist())).encode()


def _record(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": key, "type": kind} for key, kind in fields.items()],
    }


def avro_schema(conversion: bool = False) -> dict[str, Any]:
    """Return a schema with the fields of Empatica's that matter, and a sensor that does not."""
    ints: dict[str, Any] = {"type": "array", "items": "int"}
    limits = ("physicalMin", "physicalMax", "digitalMin", "digitalMax")
    params = _record(
        "ImuParams", **({"conversionFactor": "float"} if conversion else dict.fromkeys(limits, "int"))
    )
    imu: dict[str, Any] = {"timestampStart": "long", "samplingFrequency": "float"}
    raw = _record(
        "RawData",
        accelerometer=_record("Accelerometer", **imu, imuParams=params, x=ints, y=ints, z=ints),
        gyroscope=_record("Gyroscope", **imu, imuParams="ImuParams", x=ints, y=ints, z=ints),
        eda=_record("Eda", **imu, values={"type": "array", "items": "float"}),
    )
    whole = _record(
        "Session",
        schemaVersion=_record("Version", major="int", minor="int", patch="int"),
        timezone="int",
        deviceSn="string",
        deviceModel="string",
        rawData=raw,
    )
    return {**whole, "namespace": "empatica.format.avro"}


def avro_session(
    xyz: np.ndarray,
    rate: float = 64.0,
    start: float = START,
    conversion: float | None = None,
    device: str = "3YK3J151Y3",
) -> dict[str, Any]:
    params: dict[str, Any] = (
        {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32767}
        if conversion is None
        else {"conversionFactor": conversion}
    )
    base: dict[str, Any] = {"timestampStart": round(start * 1e6), "samplingFrequency": rate}
    x, y, z = xyz.astype(int).T.tolist()
    return {
        "schemaVersion": {"major": 6, "minor": 4, "patch": 0},
        "timezone": 3600,
        "deviceSn": device,
        "deviceModel": "EMBRACEPLUS",
        "rawData": {
            "accelerometer": {**base, "imuParams": params, "x": x, "y": y, "z": z},
            "gyroscope": {**base, "imuParams": params, "x": [1], "y": [2], "z": [3]},
            "eda": {**base, "values": [0.5] * 100},
        },
    }


def avro(sessions: Iterable[dict[str, Any]], conversion: bool = False, codec: str = "null") -> bytes:
    """Make an Avro file, one block for each session."""
    import fastavro

    out = io.BytesIO()
    fastavro.writer(
        out, avro_schema(conversion), sessions, codec=codec, sync_interval=1, sync_marker=b"s" * 16
    )
    return out.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
