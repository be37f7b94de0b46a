"""Serial ports: which boards there are, opening one, reading it, and finding it again after a replug."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from hypnic.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "BAUDS",
    "LOST",
    "Board",
    "Link",
    "VirtualPort",
    "check_port",
    "list_boards",
    "locate",
    "may_open",
    "resolve",
]

try:
    import termios
except ImportError:  # not on Windows
    LOST: tuple[type[Exception], ...] = (OSError,)
else:
    LOST = (OSError, termios.error)
"""What reading or writing a port that has gone may raise; pyserial's SerialException is an OSError."""

BAUDS: Final = (115200, 9600, 38400, 57600, 230400, 921600)
"""Baud rates to try, the likeliest first."""

READ_TIMEOUT: Final = 0.05
"""Longest wait (s) of one read, and so for a stop to be seen."""

_WRITE_TIMEOUT = 1.0
_SOCKET_BLOCK = 65536
_LAST_BYTES = 65536  # more than a terminal's buffers hold in Linux

# USB vendor and product numbers (general knowledge, not tried); a product of None is any other.
_BOARDS: Final = {
    (0x1A86, 0x7523): "CH340 bridge (Arduino clone, many sensors)",
    (0x1A86, 0x5523): "CH341 bridge",
    (0x1A86, 0x55D4): "CH9102 bridge (ESP32 boards)",
    (0x1A86, None): "WCH bridge",
    (0x10C4, 0xEA60): "CP210x bridge (ESP32 boards, WitMotion)",
    (0x0403, 0x6001): "FTDI FT232R bridge",
    (0x0403, 0x6015): "FTDI FT231X bridge",
    (0x0403, None): "FTDI bridge",
    (0x2341, 0x0043): "Arduino Uno",
    (0x2341, 0x8057): "Arduino Nano 33 IoT",
    (0x2341, 0x805A): "Arduino Nano 33 BLE",
    (0x2341, None): "Arduino",
    (0x2A03, None): "Arduino",
    (0x239A, None): "Adafruit board",
    (0x1B4F, None): "SparkFun board",
    (0x303A, None): "ESP32 (native USB)",
    (0x2E8A, None): "RP2040 (Raspberry Pi Pico)",
    (0x2639, None): "Movella (Xsens) sensor",
}


class Board(NamedTuple):
    """A USB serial port.

    Attributes
    ----------
    port : str
        Device path.
    vid, pid : int or None
        USB vendor and product numbers; None for a port that is not on USB.
    serial_number, location : str or None
        The device's serial number (CH340 boards mostly have none) and its place on the bus.
    likely : str or None
        What it probably is, by its USB numbers; None where those are unknown.
    """

    port: str
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    location: str | None = None
    likely: str | None = None

    @property
    def usb_id(self) -> str:
        """Vendor and product as ``VVVV:PPPP``; empty for a port that is not on USB."""
        return "" if self.vid is None or self.pid is None else f"{self.vid:04X}:{self.pid:04X}"


def list_boards() -> list[Board]:
    """Return the USB serial ports, those of known makers first."""
    from serial.tools import list_ports

    boards = [
        Board(
            port.device,
            port.vid,
            port.pid,
            port.serial_number,
            port.location,
            _BOARDS.get((port.vid, port.pid)) or _BOARDS.get((port.vid, None)),
        )
        for port in list_ports.comports()
        if port.vid is not None
    ]
    return sorted(boards, key=lambda board: (board.likely is None, board.port))


def resolve(port: str) -> Board:
    """Return the port that the user means.

    Parameters
    ----------
    port : str
        ``auto``, a device path, or a URL of pyserial (``socket://host:port``, ``rfc2217://host:port``);
        ``serial:`` may stand before each.

    Raises
    ------
    UsageError
        If ``auto`` finds no board or several.
    """
    name = port.removeprefix("serial:")
    if not name:
        raise UsageError("no port given: use auto, a device such as /dev/ttyUSB0, or socket://host:port")
    if name != "auto":
        path = os.path.realpath(name)
        return next((board for board in list_boards() if os.path.realpath(board.port) == path), Board(name))
    boards = list_boards()
    known = [board for board in boards if board.likely is not None] or boards
    if not known:
        raise UsageError("no USB serial port found: plug the board in, or name its port")
    if len(known) > 1:
        names = ", ".join(f"{board.port} ({board.likely or board.usb_id})" for board in known)
        raise UsageError(f"{len(known)} boards found, say which: {names}")
    return known[0]


def locate(board: Board) -> str | None:
    """Return where a board that was lost now is; None while it is not there.

    It is looked for by vendor, product and serial number, then by its place on the bus, then under its old
    path; a board with another serial number is another board.
    """
    if board.vid is None:
        return board.port if "://" in board.port or Path(board.port).exists() else None
    same = [other for other in list_boards() if (other.vid, other.pid) == (board.vid, board.pid)]
    if board.serial_number is not None:
        same = [other for other in same if other.serial_number in (None, board.serial_number)]
    for key in ("serial_number", "location", "port"):
        value = getattr(board, key)
        found = [other for other in same if value is not None and getattr(other, key) == value]
        if len(found) == 1:
            return found[0].port
    return None


def may_open(port: str) -> bool:
    """Tell whether the user may open a device; True for what is no device, such as a URL."""
    return "://" in port or not Path(port).exists() or os.access(port, os.R_OK | os.W_OK)


def check_port(port: str) -> None:
    """Refuse a device that is not there or may not be opened, without opening it (which resets some boards).

    Raises
    ------
    UsageError
        With what to do about it.
    """
    if "://" not in port and not Path(port).exists():
        raise UsageError(_why_not(port, OSError(errno.ENOENT, "")))
    if not may_open(port):
        raise UsageError(_why_not(port, OSError(errno.EACCES, "")))


class Link:
    """An open port.

    Parameters
    ----------
    port : str
        Device path or URL of pyserial.
    baud : int
        Baud rate; without meaning for sockets and native USB.

    Raises
    ------
    UsageError
        If the port does not exist, may not be opened, is in use, or the baud rate is impossible.
    """

    def __init__(self, port: str, baud: int) -> None:
        import serial

        self.port = port
        # pyserial's RFC 2217 refuses every time-out of writing.
        patience = None if port.startswith("rfc2217://") else _WRITE_TIMEOUT
        try:
            # An Uno resets when its port is opened; that cannot be helped without changing the board.
            self._serial: Any = serial.serial_for_url(
                port, baudrate=baud, timeout=READ_TIMEOUT, write_timeout=patience, exclusive=True
            )
        except ValueError as error:
            raise UsageError(f"port {port} at {baud} baud cannot be opened: {error}") from None
        except LOST as error:
            raise UsageError(_why_not(port, error)) from None
        self._socket = port.startswith("socket://")
        # FTDI bridges hold bytes back for 16 ms; not every driver can be told not to.
        with contextlib.suppress(AttributeError, NotImplementedError, ValueError, *LOST):
            self._serial.set_low_latency_mode(True)

    def read(self) -> bytes:
        """Return what has come, waiting at most 50 ms for something.

        Raises
        ------
        OSError, termios.error
            If the port has gone: any of `LOST`.
        """
        if not self._socket:
            data = bytes(self._serial.read(max(1, self._serial.in_waiting)))
            if len(data) == 1:
                # The byte has arrived, even if the port goes now: that will show again.
                with contextlib.suppress(*LOST):
                    data += self._serial.read(self._serial.in_waiting)
            return data
        # A socket says only whether there is something: wait for one byte, then take all there is.
        data = bytes(self._serial.read(1))
        if data:
            self._serial.timeout = 0
            with contextlib.suppress(*LOST):
                data += self._serial.read(_SOCKET_BLOCK)
            self._serial.timeout = READ_TIMEOUT
        return data

    def drain(self) -> bytes:
        """Return what has come and was not read yet, without waiting for more: the last reading before closing.

        At most 64 KiB, and what a port that goes meanwhile has given so far.
        """
        data = b""
        with contextlib.suppress(*LOST):
            if self.port.startswith("rfc2217://"):
                # Another time-out would be negotiated with the other side first.
                return bytes(self._serial.read(self._serial.in_waiting))
            # The number of bytes that wait leaves out those still on their way through the system's buffers;
            # a reading that may not wait does not.
            self._serial.timeout = 0
            while len(data) < _LAST_BYTES and (more := self._serial.read(_LAST_BYTES - len(data))):
                data += more
        return data

    def write(self, data: bytes) -> None:
        """Send `data`.

        Raises
        ------
        OSError, termios.error
            If the port has gone: any of `LOST`.
        """
        self._serial.write(data)

    def set_baud(self, baud: int) -> None:
        """Change the baud rate and throw away what came at the old one."""
        self._serial.baudrate = baud
        self._serial.reset_input_buffer()

    def close(self) -> None:
        """Close the port; a port that has gone is no error."""
        # pyserial 3.5 leaves a socket open whose other side has gone first.
        leftover = getattr(self._serial, "_socket", None)
        with contextlib.suppress(*LOST):
            self._serial.close()
        if leftover is not None:
            leftover.close()


def _why_not(port: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"port {port} may not be opened: add yourself to the group dialout "
            "(sudo usermod -aG dialout $USER) and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"port {port} is in use by another program: close it there first"
    if number == errno.ENOENT:
        there = ", ".join(board.port for board in list_boards()) or "none"
        return f"port {port} does not exist; USB serial ports found: {there}"
    return f"port {port} cannot be opened: {error}"


class VirtualPort:
    """A pty that another program can open as a serial port: a recording played as a board.

    Parameters
    ----------
    link : path-like, optional
        A symbolic link to make to it, so that it has the same name each time; an existing link is replaced.

    Attributes
    ----------
    path : str
        Device path for the other side to open.

    Raises
    ------
    OSError
        If the link cannot be made; something else of that name is left alone.
    """

    def __init__(self, link: str | os.PathLike[str] | None = None) -> None:
        import tty

        self._closed = False
        self._master, self._slave = os.openpty()
        # The slave stays open here, so that nothing is lost while nobody else has it open.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._link = None if link is None else Path(link)
        if self._link is not None:
            try:
                if self._link.is_symlink():
                    self._link.unlink()
                self._link.symlink_to(self.path)
            except OSError as error:
                self._link = None
                self.close()
                raise OSError(error.errno, error.strerror, str(link)) from None

    def write(self, data: bytes) -> int:
        """Send what there is room for and return how much that was: a board does not wait for its reader."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def send(self, data: bytes, timeout: float = 5.0) -> None:
        """Send all of `data`, waiting for the reader.

        Raises
        ------
        TimeoutError
            If the reader takes nothing for `timeout` seconds.
        """
        import select

        while data:
            sent = self.write(data)
            data = data[sent:]
            if not sent and not select.select([], [self._master], [], timeout)[1]:
                raise TimeoutError(f"nobody has read {self.path} for {timeout:g} s")

    @property
    def unread(self) -> int:
        """Bytes sent that nobody has read yet."""
        import fcntl
        import select
        import struct

        # Linux counts only what has passed from one end's buffer to the other's; to poll waits for that.
        select.select([self._slave], [], [], 0)
        return int(struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)))[0])

    def read(self) -> bytes:
        """Return what the other side has sent, without waiting."""
        try:
            return os.read(self._master, _SOCKET_BLOCK)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Take the port away, as pulling the plug does."""
        if self._closed:
            return
        self._closed = True
        os.close(self._master)
        os.close(self._slave)
        # The link may belong to another port by now.
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
