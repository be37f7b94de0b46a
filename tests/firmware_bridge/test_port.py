"""Finding boards, opening ports and the errors of doing so; the pty that plays a board."""

import errno
import os
import socket
import threading
from types import SimpleNamespace

import pytest
import serial
from serial.tools import list_ports

from firmware_bridge.port import (
    LOST,
    Board,
    Link,
    VirtualPort,
    check_port,
    list_boards,
    locate,
    may_open,
    resolve,
)
from hypnic.errors import UsageError


def usb(device, vid=0x1A86, pid=0x7523, serial_number=None, location="1-1"):
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial_number, location=location)


@pytest.fixture
def plugged(monkeypatch):
    """Return the list of ports that the system shows."""
    ports = []
    monkeypatch.setattr(list_ports, "comports", lambda: list(ports))
    return ports


def test_boards_are_listed_known_ones_first(plugged):
    plugged += [
        usb("/dev/ttyACM0", 0x9999, 1),
        usb("/dev/ttyUSB1"),
        usb("/dev/ttyS0", None, None),
        usb("/dev/ttyACM1", 0x2341, 0x0043, "A1"),
        usb("/dev/ttyACM2", 0x239A, 0x800B, "B2"),
    ]
    boards = list_boards()
    assert [board.port for board in boards] == [
        "/dev/ttyACM1",
        "/dev/ttyACM2",
        "/dev/ttyUSB1",
        "/dev/ttyACM0",
    ]
    assert [board.usb_id for board in boards] == ["2341:0043", "239A:800B", "1A86:7523", "9999:0001"]
    assert boards[0].likely == "Arduino Uno"
    assert boards[1].likely == "Adafruit board"
    assert boards[3].likely is None


def test_auto_takes_the_only_board(plugged):
    plugged += [usb("/dev/ttyACM0", 0x9999, 1), usb("/dev/ttyUSB0")]
    assert resolve("auto").port == resolve("serial:auto").port == "/dev/ttyUSB0"


def test_auto_takes_an_unknown_board_if_it_is_alone(plugged):
    plugged += [usb("/dev/ttyACM0", 0x9999, 1)]
    assert resolve("auto").port == "/dev/ttyACM0"


@pytest.mark.parametrize(
    ("count", "words"), [(0, "plug the board in"), (2, "2 boards found, say which: /dev/u0")]
)
def test_auto_does_not_guess(plugged, count, words):
    plugged += [usb(f"/dev/u{i}") for i in range(count)]
    with pytest.raises(UsageError, match=words):
        resolve("auto")


def test_a_named_port_is_known_by_its_usb_numbers(plugged, tmp_path):
    device = tmp_path / "ttyUSB7"
    device.touch()
    (tmp_path / "wrist").symlink_to(device)
    plugged += [usb(str(device))]
    assert resolve(f"serial:{tmp_path / 'wrist'}").vid == 0x1A86
    assert resolve("socket://localhost:1").port == "socket://localhost:1"
    with pytest.raises(UsageError, match="no port given"):
        resolve("serial:")


def test_a_board_is_found_again_by_serial_number_then_place_then_path(plugged):
    board = Board("/dev/ttyUSB0", 0x0403, 0x6001, "S1", "1-2")
    assert locate(board) is None
    plugged += [
        usb("/dev/ttyUSB3", 0x0403, 0x6001, "S1", "9-9"),
        usb("/dev/ttyUSB0", 0x0403, 0x6001, "S2", "1-2"),
    ]
    assert locate(board) == "/dev/ttyUSB3"
    assert locate(board._replace(serial_number="S3", port="/dev/ttyUSB3")) is None
    nameless = board._replace(serial_number=None)
    assert locate(nameless) == "/dev/ttyUSB0"
    assert locate(nameless._replace(location="7-7", port="/dev/ttyUSB3")) == "/dev/ttyUSB3"
    assert locate(nameless._replace(location="7-7", port="/dev/gone")) is None
    plugged.append(usb("/dev/ttyUSB4", 0x0403, 0x6001, None, "1-2"))
    assert locate(nameless._replace(port="/dev/gone")) is None


def test_ports_off_usb_are_found_by_their_path(tmp_path):
    assert locate(Board(str(tmp_path / "gone"))) is None
    assert locate(Board(str(tmp_path))) == str(tmp_path)
    assert locate(Board("socket://host:1")) == "socket://host:1"


def read(link, count):
    data = b""
    while len(data) < count:
        data += link.read()
    return data


def test_reading_and_writing_a_pty():
    with VirtualPort() as port:
        link = Link(port.path, 115200)
        assert link.read() == b""
        assert port.write(b"abc\x00\xff") == 5
        assert read(link, 5) == b"abc\x00\xff"
        assert port.unread == 0
        link.write(b"\x01\x00")
        assert port.read() == b"\x01\x00"
        assert port.read() == b""
        link.close()


def test_what_has_come_is_drained_without_waiting():
    with VirtualPort() as port:
        link = Link(port.path, 115200)
        assert link.drain() == b""
        sent = bytes(range(256)) * 40  # more than a terminal's line discipline holds
        port.send(sent)
        assert link.drain() == sent
        assert link.drain() == b""
        port.send(b"abc")
        port.close()
        link.drain()  # of a port that has gone: no error
        link.close()


def test_what_has_come_from_a_socket_that_then_closed_is_drained():
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(f"socket://127.0.0.1:{server.getsockname()[1]}", 115200)
        with server.accept()[0] as connection:
            connection.sendall(b"abc")
        wait = threading.Event()
        for _ in range(100):
            if link.drain() == b"abc":
                break
            wait.wait(0.01)
        else:
            pytest.fail("what was sent did not come")
        link.close()


def test_what_nobody_has_read_is_counted_at_once():
    with VirtualPort() as port:
        link = Link(port.path, 115200)
        for _ in range(500):
            port.send(bytes(60))
            assert port.unread == 60
            read(link, 60)
        link.close()


def test_a_port_in_use_is_refused():
    with VirtualPort() as port:
        link = Link(port.path, 115200)
        with pytest.raises(UsageError, match="in use by another program"):
            Link(port.path, 115200)
        link.close()


def test_a_pulled_plug_shows_when_reading():
    port = VirtualPort()
    link = Link(port.path, 115200)
    port.close()
    port.close()
    with pytest.raises(LOST):
        link.read()
    link.close()


def test_a_byte_that_came_before_the_plug_was_pulled_is_kept(monkeypatch):
    with VirtualPort() as port:
        link = Link(port.path, 115200)
        waits = iter([0])
        # There is one byte, and then no port any more.
        monkeypatch.setattr(link._serial, "read", lambda size: b"x" if size == 1 else b"")

        def gone(self):
            for value in waits:
                return value
            raise OSError(errno.EIO, "gone")

        monkeypatch.setattr(type(link._serial), "in_waiting", property(gone))
        assert link.read() == b"x"
        with pytest.raises(LOST):
            link.read()
        link.close()


def test_a_port_that_does_not_exist(plugged):
    plugged += [usb("/dev/ttyUSB5")]
    with pytest.raises(UsageError, match=r"/dev/none does not exist; USB serial ports found: /dev/ttyUSB5"):
        Link("/dev/none", 115200)


def test_a_port_without_permission(monkeypatch):
    def refuse(*args, **kwargs):
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(UsageError, match="group dialout"):
        Link("/dev/ttyUSB0", 115200)


def test_ports_are_checked_without_opening_them(plugged, monkeypatch, tmp_path):
    with VirtualPort() as port:
        check_port(port.path)
        assert may_open(port.path)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(UsageError, match="group dialout"):
            check_port(port.path)
        assert not may_open(port.path)
    check_port("socket://localhost:1")
    with pytest.raises(UsageError, match="does not exist"):
        check_port(str(tmp_path / "none"))


@pytest.mark.parametrize("port", ["nonsense://x", "socket://localhost:notaport", "/dev/null"])
def test_ports_that_are_none(port):
    with pytest.raises(UsageError, match="cannot be opened"):
        Link(port, 115200)


def test_socket():
    server = socket.create_server(("127.0.0.1", 0))
    payload = bytes(range(256)) * 40

    def serve():
        connection, _ = server.accept()
        # Opening the port throws away what is there already.
        connection.recv(1)
        connection.sendall(payload)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    link = Link(f"socket://127.0.0.1:{server.getsockname()[1]}", 115200)
    link.write(b"?")
    assert read(link, len(payload)) == payload
    with pytest.raises(LOST):
        link.read()
    thread.join()
    link.close()
    server.close()


def test_virtual_port_keeps_its_link(tmp_path):
    link = tmp_path / "board"
    first = VirtualPort(link)
    second = VirtualPort(link)
    assert os.path.realpath(link) == second.path
    first.close()
    assert link.is_symlink()
    second.close()
    assert not link.is_symlink()


def test_virtual_port_leaves_other_files_alone(tmp_path):
    (tmp_path / "board").write_text("mine")
    with pytest.raises(OSError, match="board"):
        VirtualPort(tmp_path / "board")
    assert (tmp_path / "board").read_text() == "mine"


def test_virtual_port_without_a_reader():
    with VirtualPort() as port:
        with pytest.raises(TimeoutError, match="nobody has read"):
            port.send(bytes(1_000_000), timeout=0.05)
        assert port.write(b"x") in (0, 1)
