"""vectors.json against the portable C of the firmware, and this C against the Python that it must agree with."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from cobs import cobs

import firmware_bridge
from firmware_bridge.decoders.hypnic import COMMANDS, command, crc16, frame

FOLDER = Path(firmware_bridge.__file__).parent
SHARED = FOLDER / "boards" / "hypnic_mpu6050"
VECTORS = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SHIM = Path(__file__).with_name("arduino_shim")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) here")


@pytest.fixture(scope="module")
def c(tmp_path_factory):
    """Return a function that gives lines to the compiled C and returns the lines it answers."""
    program = tmp_path_factory.mktemp("c") / "wire_check"
    sources = [Path(__file__).with_name("wire_check.c"), SHARED / "hypnic_wire.c"]
    subprocess.run(
        [
            "cc",
            *STRICT,
            "-fsanitize=undefined",
            "-fno-sanitize-recover",
            f"-I{SHARED}",
            "-o",
            program,
            *sources,
        ],
        check=True,
    )

    def ask(lines):
        done = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return ask


def of(*types):
    return [v for v in VECTORS if v["decoder"] == "hypnic" and v["values"]["type"] in types]


def test_crc(c):
    vectors = [v for v in VECTORS if v["decoder"] == "crc16" and v["hex"]]
    assert c(f"crc {v['hex']}" for v in vectors) == [str(v["values"]["crc"]) for v in vectors]


def test_stuffing(c):
    vectors = [v for v in VECTORS if v["decoder"] == "cobs"]
    assert c(f"stuff {v['values']['decoded']}" for v in vectors) == [v["hex"] for v in vectors]
    assert c(f"unstuff {v['hex'][:-2]}" for v in vectors) == [v["values"]["decoded"] for v in vectors]


def test_stuffing_and_crc_of_random_bytes(c):
    rng = random.Random(1)
    bodies = [bytes(rng.choices(range(256), [9] + [1] * 255, k=n % 120 + 1)) for n in range(600)]
    assert c(f"crc {body.hex()}" for body in bodies) == [str(crc16(body)) for body in bodies]
    stuffed = [cobs.encode(body) for body in bodies]
    assert c(f"stuff {body.hex()}" for body in bodies) == [f"{wire.hex()}00" for wire in stuffed]
    assert c(f"unstuff {wire.hex()}" for wire in stuffed) == [body.hex() for body in bodies]


FIELDS = {
    "SAMPLE": "flags seq tick ax ay az",
    "INFO": "flags range_g firmware lowpass_dhz uid tick_hz rate_mhz scale_num scale_den sensor board",
    "STATUS": "rx_bad tick samples i2c_err tx_drop missed",
    "ACK": "cmd token status tick",
}


@pytest.mark.parametrize("kind", FIELDS)
def test_frames_that_the_board_sends(c, kind):
    vectors = [v for v in of(kind) if v["values"].get("proto", 1) == 1]
    assert vectors

    def line(values):
        words = [f"_{value}" if isinstance(value, str) else str(value) for value in fields(values)]
        return " ".join([kind, *words])

    def fields(values):
        return [values[name] for name in FIELDS[kind].split()]

    assert c(line(v["values"]) for v in vectors) == [v["hex"] for v in vectors]


def test_commands_that_the_board_obeys(c):
    vectors = of(*COMMANDS)
    assert len({v["values"]["type"] for v in vectors}) == len(COMMANDS)
    wanted = []
    for values in (v["values"] for v in vectors):
        value = values.get("rate_mhz", values.get("range_g", 0))
        wanted.append(f"{COMMANDS[values['type']]} {values['token']} {value} bad 0")
    assert c(f"receive {v['hex']}" for v in vectors) == wanted


def test_unknown_command_is_handed_on(c):
    vectors = of("unknown")
    assert vectors
    assert c(f"receive {v['hex']}" for v in vectors) == [
        f"{v['values']['cmd']} {v['values']['token']} 0 bad 0" for v in vectors
    ]


def test_what_the_board_drops_and_counts(c):
    # A bad frame that is none by its type's length alone is no mistake for a board that only takes commands.
    spoilt = [v for v in of("bad") if crc_is_wrong(bytes.fromhex(v["hex"]))] + of("bad_command")
    assert len(spoilt) > 8
    assert c(f"receive {v['hex']}" for v in spoilt) == ["bad 1"] * len(spoilt)


def crc_is_wrong(wire):
    try:
        body = cobs.decode(wire[:-1])
    except cobs.DecodeError:
        return True
    return len(wire) > 129 or len(body) < 3 or crc16(body[:-2]) != int.from_bytes(body[-2:], "little")


def test_frames_of_the_board_are_no_commands_and_no_mistakes(c):
    vectors = of("SAMPLE", "INFO", "STATUS", "ACK")
    assert c(f"receive {v['hex']}" for v in vectors) == ["bad 0"] * len(vectors)


def test_commands_come_through_among_noise(c):
    """Whatever comes before a 00, the command after it is obeyed; damage is counted, never obeyed."""
    rng = random.Random(2)
    lines, wanted = [], []
    for _ in range(500):
        noise = bytes(rng.randrange(1, 256) for _ in range(rng.randrange(1, 200)))
        token = rng.randrange(256)
        good = command("SET_RATE", token, rng.randrange(1 << 32))
        spoilt = bytearray(good)
        spoilt[rng.randrange(len(good) - 1)] ^= 1 << rng.randrange(8)
        # An inverted bit can make a 00, which ends a frame early: then two parts are bad.
        parts = sum(bool(part) for part in bytes(spoilt).split(b"\0"))
        value = int.from_bytes(cobs.decode(good[:-1])[2:6], "little")
        lines.append(f"receive {noise.hex()}00{good.hex()}{spoilt.hex()}")
        wanted.append(f"{COMMANDS['SET_RATE']} {token} {value} bad {1 + parts}")
    assert c(lines) == wanted


def test_longest_frame_is_taken_and_a_longer_one_is_not(c):
    """A command of a later version may be long; 128 bytes before the 00 are the most."""
    longest = frame(bytes([0x1E, 7]) + bytes(range(1, 124)))
    assert len(longest) == 129
    longer = frame(bytes([0x1E, 7]) + bytes(range(1, 125)))
    assert c([f"receive {longest.hex()}", f"receive {longer.hex()}"]) == ["30 7 0 bad 0", "bad 1"]


@pytest.mark.parametrize("source", ["hypnic_wire.c", "hypnic_board.c"])
@pytest.mark.parametrize("width", ["-m32", "-m64"])
def test_portable_c_compiles_for_other_processors(source, width, tmp_path):
    """Without any library, with warnings as errors, and as C++ too, as some Arduino cores do."""
    for language in (["-x", "c", *STRICT], ["-x", "c++", "-Wall", "-Wextra", "-Werror"]):
        if language[1] == "c++" and shutil.which("c++") is None:
            continue
        command = ["cc", width, "-ffreestanding", *language, "-c", "-o", tmp_path / "o", SHARED / source]
        subprocess.run(command, check=True)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler (c++) here")
def test_sketch_compiles_for_32_bits(tmp_path):
    """Nothing in it is for AVR alone: against declarations of what a core offers, on a 32-bit processor."""
    flags = [
        "-m32",
        "-ffreestanding",
        "-std=c++11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{SHIM}",
        f"-I{SHARED}",
    ]
    sketch = SHARED / "hypnic_mpu6050.ino"
    command = ["c++", *flags, "-include", "Arduino.h", "-x", "c++", "-c", "-o", tmp_path / "o", sketch]
    subprocess.run(command, check=True)
