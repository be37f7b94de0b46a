"""Compile the firmware of `firmware_bridge/boards` and the harness that runs it, once for each version of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal, get_args

from hypnic.errors import UsageError

__all__ = ["FIRMWARE", "PACKAGES", "Firmware", "build_firmware", "build_harness", "missing"]

Firmware = Literal["atmega328p", "arduino"]
"""The plain C firmware, or the Arduino sketch on Arduino's own core."""

FIRMWARE: Final[tuple[Firmware, ...]] = get_args(Firmware)

PACKAGES: Final = "gcc libc6-dev libsimavr-dev libelf-dev gcc-avr avr-libc arduino-core-avr"
"""Debian packages that are needed."""

_BOARDS = Path(__file__).parents[1] / "boards"
_SKETCH = _BOARDS / "hypnic_mpu6050"
_HARNESS = Path(__file__).with_name("simboard.c")
_CORE = Path("/usr/share/arduino/hardware/arduino/avr")
_SIMAVR = Path("/usr/include/simavr/sim_avr.h")
_FLAGS = ("-mmcu=atmega328p", "-Os", "-ffunction-sections", "-fdata-sections", f"-I{_SKETCH}")
_STRICT = ("-Wall", "-Wextra", "-Werror")


def missing(firmware: Firmware = "atmega328p") -> str | None:
    """Return what the machine lacks for building `firmware` and the harness; None where it has all."""
    absent = [name for name in ("cc", "avr-gcc", "avr-g++") if shutil.which(name) is None]
    needed = [_SIMAVR, _CORE] if firmware == "arduino" else [_SIMAVR]
    absent += [str(path) for path in needed if not path.exists()]
    return f"{', '.join(absent)} not found: apt-get install {PACKAGES}" if absent else None


def build_harness() -> Path:
    """Return the compiled harness.

    Raises
    ------
    UsageError
        If it cannot be built here.
    """
    _require("atmega328p")
    command = ["cc", "-std=gnu11", "-O2", *_STRICT, "-o", "OUTPUT", str(_HARNESS), "-lsimavr", "-lelf", "-lm"]
    return _made("simboard", [_HARNESS], [command])


def build_firmware(firmware: Firmware = "atmega328p") -> Path:
    """Return the compiled firmware, an ELF file.

    Raises
    ------
    UsageError
        If it is unknown or cannot be built here.
    """
    if firmware not in FIRMWARE:
        raise UsageError(f"firmware {firmware!r} is unknown: use {', '.join(FIRMWARE)}")
    _require(firmware)
    shared = sorted(_SKETCH.glob("*.[chi]*"))
    if firmware == "arduino":
        return _made("hypnic_mpu6050.elf", shared, _sketch_commands())
    main = _BOARDS / "atmega328p" / "main.c"
    sources = [str(path) for path in (main, *_SKETCH.glob("*.c"))]
    command = ["avr-gcc", *_FLAGS, "-DF_CPU=16000000UL", "-std=gnu99", *_STRICT, "-o", "OUTPUT", *sources]
    return _made("atmega328p.elf", [main, *shared], [command])


def _sketch_commands() -> list[list[str]]:
    """Return what Arduino's own tools do with a sketch for an Uno."""
    wire = _CORE / "libraries" / "Wire" / "src"
    core = _CORE / "cores" / "arduino"
    flags = [
        *_FLAGS,
        *("-DF_CPU=16000000L", "-DARDUINO=10819", "-DARDUINO_AVR_UNO", "-DARDUINO_ARCH_AVR"),
        # The core is written for a newer compiler than Debian's, which names this in C alone.
        "-DDECIMAL_DIG=__DECIMAL_DIG__",
        *(f"-I{path}" for path in (core, _CORE / "variants" / "standard", wire)),
    ]
    as_c = ["avr-gcc", *flags, "-std=gnu11"]
    as_cpp = ["avr-g++", *flags, "-std=gnu++11", "-fno-exceptions", "-fno-threadsafe-statics"]
    ours = [*_SKETCH.glob("*.c"), _SKETCH / "hypnic_mpu6050.ino"]
    commands, objects = [], []
    for number, path in enumerate([*core.glob("*.c"), *core.glob("*.cpp"), wire / "Wire.cpp",
                                   wire / "utility" / "twi.c", *ours]):  # fmt: skip
        objects.append(f"{number}.o")
        compiler = as_c if path.suffix == ".c" else as_cpp
        warnings = _STRICT if path in ours else ("-w",)
        header = ("-include", "Arduino.h", "-x", "c++") if path.suffix == ".ino" else ()
        commands.append([*compiler, *warnings, "-c", "-o", objects[-1], *header, str(path)])
    return [*commands, ["avr-gcc", "-mmcu=atmega328p", "-Wl,--gc-sections", "-o", "OUTPUT", *objects]]


def _require(firmware: Firmware) -> None:
    reason = missing(firmware)
    if reason is not None:
        raise UsageError(f"the simulated board cannot be built: {reason}")


def _made(name: str, sources: list[Path], commands: list[list[str]]) -> Path:
    """Return the file that the last of `commands` writes to OUTPUT, from the cache where it is there."""
    digest = hashlib.sha256(repr(commands).encode())
    for path in sources:
        digest.update(path.read_bytes())
    for compiler in {command[0] for command in commands}:
        digest.update(_run([compiler, "-dumpfullversion", "-dumpversion"]).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypnic" / "simboard"
    made = cache / f"{digest.hexdigest()[:16]}-{name}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            for command in commands:
                _run([name if word == "OUTPUT" else word for word in command], folder)
            # Another process may be at it: the last to finish wins, with the same file.
            (Path(folder) / name).replace(made)
    return made


def _run(command: list[str], folder: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
