"""A simulated board: real AVR machine code, a sensor that measures a waveform, and a serial port.

`SimulatedBoard` compiles a firmware of `firmware_bridge/boards` and runs it in simavr, with a model of the
MPU6050 on its I2C bus and a pty on its UART, so that everything from the data-ready interrupt to the host's
clock is tried without hardware. What it measures and sends is logged before any fault, as the truth to compare with.

It needs Debian's packages (`PACKAGES`); libsimavr is under the GPL, so the harness is built where it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from firmware_bridge.simboard.build import PACKAGES, Firmware, build_firmware, build_harness, missing
from firmware_bridge.simboard.waveform import COUNTS_PER_G, write_waveform
from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = [
    "COUNTS_PER_G",
    "CRYSTAL_HZ",
    "DELIVERIES",
    "PACKAGES",
    "TRUTH",
    "Firmware",
    "SimulatedBoard",
    "missing",
    "write_waveform",
]

TRUTH: Final = np.dtype(
    [
        ("time", "<f8"),
        ("cycle", "<u8"),
        ("boot", "<u4"),
        ("xyz", "<i2", 3),
        ("range_g", "u1"),
        ("read", "?"),
    ]
)
"""One data-ready: true time (s), cycles since the processor's reset, number of that reset, counts, range, and
whether the firmware read these counts while they were the latest."""

DELIVERIES: Final = np.dtype([("time", "<f8"), ("bytes", "<u4")])
"""Bytes handed to the host at once, after faults, and when (true time in s)."""

CRYSTAL_HZ: Final = 16_000_000
"""Nominal frequency of the board's crystal."""

_PATIENCE = 30.0

# The variable that counts the upper part of a firmware's ticks, its width in bytes, and its unit in ticks.
_TICKS: Final[dict[Firmware, tuple[str, int, int]]] = {
    "atmega328p": ("tick_high", 2, 1 << 16),
    "arduino": ("timer0_overflow_count", 4, 1024),
}


class SimulatedBoard:
    """A board on a pty.

    Parameters
    ----------
    waveform : path-like
        What the sensor measures, written by `write_waveform`; it begins again when it is over.
    firmware : {"atmega328p", "arduino"}, optional
        The plain C firmware or the Arduino sketch.
    speed : float or None, optional
        True seconds in one second; None runs as fast as the machine and the port's reader can.
    seconds : float, optional
        True time at which the board stops; without it, it runs until `close`.
    hold : bool, optional
        Wait for `go`, so that the port is open before the first byte.
    drop : float, optional
        Probability with which a byte is lost, either way.
    flip : float, optional
        Probability with which a bit is inverted, either way.
    seed : int, optional
        Of these faults.
    crystal_ppm, sensor_ppm : float, optional
        How much too fast the processor's crystal and the sensor's oscillator run.
    start_tick : int, optional
        Where the firmware's ticks start, to the nearest 65 536 (atmega328p) or 1024 (arduino) below.
    latency_ms : float, optional
        How long the bridge to the host gathers bytes: 1 ms as on USB at full speed, 16 ms as FTDI's.
    at : iterable of (float, str), optional
        Commands and the true times (s) at which they are given: ``reset``, ``unplug``, ``plug``, ``sensor
        off``, ``sensor on``, ``drop P``, ``flip P``.
    link : path-like, optional
        A symbolic link to the port that stays when the board is replugged.
    who_am_i : int, optional
        What the sensor answers when asked what it is.

    Attributes
    ----------
    port : str
        Device path of the port; `link` where that is given.
    started : float
        POSIX seconds at true time 0; NaN before.
    result : dict
        After the end: what the harness has counted (``sent``, ``delivered``, ``dropped``, ``overrun`` bytes,
        ``flipped`` bits, ``data_ready``, ``seconds``, ``processor`` in s, ``worst_lag`` in s).
    truth : ndarray of TRUTH
        After the end: every data-ready.
    wire : bytes
        After the end: every byte that the UART has sent, before faults.
    deliveries : ndarray of DELIVERIES
        After the end: when the host was handed how many bytes.

    Raises
    ------
    UsageError
        If the machine lacks what is needed, or an argument is impossible.
    DataError
        If the waveform or a command is none, or the firmware crashes; also from the methods.
    """

    def __init__(
        self,
        waveform: str | os.PathLike[str],
        *,
        firmware: Firmware = "atmega328p",
        speed: float | None = 1.0,
        seconds: float | None = None,
        hold: bool = False,
        drop: float = 0.0,
        flip: float = 0.0,
        seed: int = 0,
        crystal_ppm: float = 0.0,
        sensor_ppm: float = 0.0,
        start_tick: int | None = None,
        latency_ms: float = 1.0,
        at: Iterable[tuple[float, str]] = (),
        link: str | os.PathLike[str] | None = None,
        who_am_i: int = 0x68,
    ) -> None:
        if speed is not None and not speed > 0:
            raise UsageError(f"speed {speed!r} is not a positive number")
        if not latency_ms > 0:
            raise UsageError(f"latency_ms {latency_ms!r} is not a positive number")
        for name, share in (("drop", drop), ("flip", flip)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} {share!r} is not a probability")
        self.started = float("nan")
        self.result: dict[str, Any] = {}
        self.truth: NDArray[np.void] = np.empty(0, TRUTH)
        self.wire = b""
        self.deliveries: NDArray[np.void] = np.empty(0, DELIVERIES)
        harness, elf = build_harness(), build_firmware(firmware)
        self._folder = tempfile.TemporaryDirectory(prefix="hypnic-simboard-")
        options = {
            "firmware": elf,
            "waveform": os.fspath(waveform),
            "truth": self._log("truth"),
            "wire": self._log("wire"),
            "deliveries": self._log("deliveries"),
            "speed": speed or 0,
            "seconds": seconds or 0,
            "hold": int(hold),
            "drop": drop,
            "flip": flip,
            "seed": seed,
            "crystal-ppm": crystal_ppm,
            "sensor-ppm": sensor_ppm,
            "latency-ms": latency_ms,
            "who-am-i": who_am_i,
        }
        if link is not None:
            options["link"] = os.fspath(link)
        if start_tick is not None:
            variable, width, unit = _TICKS[firmware]
            options["poke"] = f"{variable}={start_tick // unit},{width}"
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += [word for moment, what in at for word in ("--at", f"{float(moment)!r}={what}")]
        self._process = subprocess.Popen(
            [str(harness), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, name="hypnic-simboard", daemon=True)
        self._reader.start()
        try:
            port = self._await("port", 0, _PATIENCE).split()[1]
            self.port = port if link is None else os.fspath(link)
            if not hold:
                self._begin()
        except BaseException:
            self.close()
            raise

    def go(self) -> None:
        """Start a board that was held."""
        self._tell("go")
        self._begin()

    def reset(self) -> None:
        """Reset the processor; the sensor goes on."""
        self._do("reset", "reset")

    def unplug(self) -> None:
        """Take the board's power and its port away."""
        self._do("unplug", "unplugged")

    def plug(self) -> None:
        """Give both back, the port perhaps under another name."""
        self._do("plug", "plugged")

    def command(self, what: str) -> None:
        """Give one of the other commands; it is carried out soon after."""
        self._tell(what)

    @property
    def over(self) -> bool:
        """True once `seconds` have passed."""
        return any(line.startswith("end ") for line in self._lines)

    def wait(self, timeout: float = 600.0) -> None:
        """Wait until `seconds` of true time have passed, and read the logs. The port stays until `close`.

        Raises
        ------
        TimeoutError
            If it takes longer than `timeout` seconds.
        """
        self.result = json.loads(self._await("end", 0, timeout).removeprefix("end "))
        self.truth = np.fromfile(self._log("truth"), TRUTH)
        self.wire = self._log("wire").read_bytes()
        self.deliveries = np.fromfile(self._log("deliveries"), DELIVERIES)

    def close(self) -> None:
        """Stop the board and read its logs."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._tell("quit")
            if self.over or self._process.wait(_PATIENCE) == 0:
                self._reader.join()
                self.wait(_PATIENCE)
        except (DataError, subprocess.TimeoutExpired):
            self._process.kill()
        finally:
            self._process.wait()
            self._reader.join()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                # What could not be written to a harness that has ended is written again when closing.
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def _begin(self) -> None:
        self.started = float(self._await("start", 0, _PATIENCE).split()[1])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _await(self, word: str, after: int, timeout: float) -> str:
        """Return the first line that starts with `word`, leaving out those before number `after`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if line.startswith(f"{word} "):
                        return line
                if self._over:
                    raise DataError(self._complaint())
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"the simulated board has not said {word!r} in {timeout:g} s")

    def _complaint(self) -> str:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().strip().splitlines()
        return lines[-1] if lines else "simboard: ended without a word"

    def _do(self, command: str, answer: str) -> None:
        after = len(self._lines)
        self._tell(command)
        self._await(answer, after, _PATIENCE)

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DataError("the simulated board has ended") from None
