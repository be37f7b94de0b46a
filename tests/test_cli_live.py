"""The live commands as a user meets them: ports, stream, replay, and every way in which a night can end."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from serial.tools import list_ports

from firmware_bridge import VirtualPort, imu
from firmware_bridge.stream import RateEstimate
from hypnic import cli
from hypnic.chunk import Chunk
from hypnic.cli import display as display_module
from hypnic.cli.display import Lines, Trace
from hypnic.detector import detect
from hypnic.events import COLUMNS, EVENT_DTYPE, Events
from hypnic.live import Session, Update, prepare
from hypnic.recording import Recorder, Recording, pack
from tests.played import Board, restless

RATE = 100.0
SAMPLE_BYTES = 18
PATIENCE = 100.0
"""Seconds within which anything that is waited for must have come."""


def heed() -> None:
    """Let signals do what they usually do: the tests may run under nohup, whose children ignore some."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heed, **options}
    return subprocess.Popen([sys.executable, "-m", "hypnic", *map(str, words)], text=True, **settings)


def end(process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str, str]:
    """Send a signal, if one is given, and return exit status and output."""
    if number is not None:
        process.send_signal(number)
    try:
        out, error = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()  # or its open pipes fail some other test
        raise
    return process.returncode, out or "", error or ""


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Compile the detector before anything waits for it."""
    prepare()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return a way to run the command in this very process: exit status, output, complaints."""

    def run(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["hypnic", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return SimpleNamespace(status=stopped.value.code, out=said.out, error=said.err)

    return run


def refused(done: SimpleNamespace, status: int, *words: str) -> None:
    lines = done.error.strip().splitlines()
    assert done.status == status, done.error
    assert len(lines) == 1, done.error
    assert lines[0].startswith("hypnic: ")
    for word in words:
        assert word in lines[0]


def stored(path: Path) -> int:
    """Return the samples in a night that may still be growing, as plain h5py sees it; 0 while there is none."""
    try:
        with h5py.File(path) as file:
            return len(file["acceleration"])
    except (OSError, KeyError):
        return 0


def agrees(night: Path, *files: Path) -> Events:
    """Check that a night's own events, and the files beside it, are what detecting in it gives."""
    with Recording(night) as recording:
        found, own = detect(recording), recording.events()
        assert own is not None
        assert own.array.tobytes() == found.array.tobytes()
        assert own.meta == found.meta
        assert not recording.unfinished
    for file in files:
        assert file.read_text() == found.to_text(file.suffix[1:])
    return found


# Ports


def test_ports_are_listed(here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    there = [
        SimpleNamespace(device=str(device), vid=0x2341, pid=0x43, serial_number="A1", location="1-2"),
        SimpleNamespace(device="/dev/ttyUSB9", vid=0x9999, pid=1, serial_number=None, location="1-3"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: there)
    done = here("ports")
    assert done.status == 0
    first, second = done.out.splitlines()
    for word in (str(device), "2341:0043", "Arduino Uno", "A1"):
        assert word in first
    for word in ("/dev/ttyUSB9", "9999:0001", "unknown board", "1-3"):
        assert word in second
    boards = json.loads(here("ports", "--json").out)
    assert [board["likely"] for board in boards] == ["Arduino Uno", None]
    there[0].serial_number = "A1\x1b]0;title\x07"
    assert "A1?]0;title?" in here("ports").out
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "group dialout" in here("ports").out
    refused(here("stream", device), 2, "group dialout", str(device))


def test_no_ports(here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    refused(here("ports"), 1, "plug the board in")
    refused(here("stream"), 2, "plug the board in")
    done = here("ports", "--json")
    assert (done.status, json.loads(done.out)) == (1, [])


# Words that cannot be meant


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--duration", "soon"), 2, "8h"),
        (("--duration", "0"), 2, "8h"),
        (("--duration", "7:45"), 2, "7:45:00"),
        (("--events", "e.txt"), 2, ".csv"),
        (("--events", "none/e.csv"), 1, "no folder"),
        (("--record", "none/n.h5"), 1, "no folder"),
        (("--record", "there.h5"), 1, "exists already"),
        (("--raw", "there.h5"), 1, "exists already"),
        (("--events", "a.csv", "--raw", "a.csv"), 2, "--events as well"),
        (("--on-event", "no-such-program-anywhere"), 2, "no such program"),
        (("--format", "nmea"), 2, "nmea"),
        (("--rate", "5"), 2, "25 Hz"),
        (("--range", "1000"), 2, "full scale"),
        (("--buffer", "0"), 2, "buffer"),
        (("--settings", "none.toml"), 2, "none.toml"),
    ],
)
def test_stream_refuses(
    here, monkeypatch, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.h5").write_text("mine")
    with Board(restless(30)) as board:
        refused(here("stream", board.path, *words), status, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.h5"]
    assert Path("there.h5").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("none.h5",), 1, "no such file"),
        (("serial:auto",), 2, "hypnic stream"),
        (("night.h5", "--speed", "0"), 2, "speed"),
        (("night.h5", "--record", "night.h5", "--overwrite"), 2, "the recording as well"),
        (("night.h5", "--link", "board"), 2, "--pty"),
        (("night.h5", "--pty", "--record", "b.h5"), 2, "hypnic stream"),
        (("night.h5", "--pty", "--speed", "inf"), 2, "finite"),
        (("night.h5", "--pty", "--format", "nmea"), 2, "nmea"),
        (("night.h5", "--pty", "--link", "night.h5"), 1, "night.h5"),
        (("night.h5", "--format", "hypnic"), 1, "no known format"),
        (("night.h5", "--columns", "x,y,z"), 2, "columns"),
        (("turns.bin", "--format", "witmotion"), 1, "quaternions"),
    ],
)
def test_replay_refuses(
    here, monkeypatch, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    night(Path("night.h5"), restless(10))
    Path("turns.bin").write_bytes((b"\x55\x59" + bytes(8) + b"\xae") * 50)
    refused(here("replay", *words), status, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night.h5", "turns.bin"]


def test_a_port_that_is_silent_or_not_there(here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(imu, "_PATIENT", 0.2)
    refused(here("stream", tmp_path / "none"), 2, "does not exist")
    with VirtualPort() as port:
        refused(here("stream", port.path, "--baud", 115200), 1, "no known format", "0 bytes")


def test_two_programs_on_a_port(here, tmp_path: Path) -> None:
    with Board(restless(600), speed=1.0) as board:
        first = start("stream", board.path)
        assert first.stdout is not None
        first.stdout.readline()
        refused(here("stream", board.path), 2, "in use by another program")
        status, _, _ = end(first, signal.SIGINT)
    assert status == 0


# Recording


@pytest.mark.parametrize(("fmt", "site"), [("hypnic", "wrist"), ("witmotion", "mattress")])
def test_stream_records_and_agrees_with_detect(tmp_path: Path, fmt: str, site: str) -> None:
    """A whole run: recognised, recorded with holes, rows as they come, and the file says the same."""
    xyz = restless(120)
    record, events, raw = tmp_path / "n.h5", tmp_path / "e.csv", tmp_path / "n.raw"
    collected = tmp_path / "collected"
    with Board(xyz, fmt=fmt, holes={2000: 9, 5000: 400}) as board:
        status, out, error = end(
            start(
                *("stream", board.path, "--record", record, "--events", events, "--raw", raw, "--site", site),
                *("--duration", "0:01:50" if fmt == "hypnic" else "100s", "--buffer", 1e6, "--subject", "S1"),
                *("--on-event", f"sh -c 'cat >> {collected}'"),
                *(() if fmt == "hypnic" else ("--rate", RATE)),
            )
        )
    assert status == 0, error
    assert error == ""
    found = agrees(record, events)
    assert len(found) >= 8
    with Recording(record) as recording:
        assert (recording.site, recording.attrs["subject"]) == (site, "S1")
        assert recording.n_total == (11_000 if fmt == "hypnic" else 10_000)
        assert recording.sensor == ("replay" if fmt == "hypnic" else "witmotion")
        if fmt == "hypnic":
            assert recording.gaps["missing"].tolist() == [9, 400]
            assert np.abs(recording.read(0, 10) - xyz[:1000]).max() < 1 / 4096
    lines = out.splitlines()
    assert lines[0] == f"{board.path}: {fmt}" + (", replay" if fmt == "hypnic" else "") + (
        f", 100 Hz, {site} → {record}"
    )
    assert lines[-1].startswith(f"ended by duration: {record}: ")
    assert "(candidates)" in lines[-1]
    states = [line.split()[-1] for line in lines if line.split()[2:3] and line.split()[2] in found["label"]]
    assert states.count("provisional") == len(found)
    assert states.count("final") == len(found)
    rows = [json.loads(line) for line in collected.read_text().splitlines()]
    assert {row["id"] for row in rows} <= set(found["id"].tolist())
    assert {(row["id"], row["revision"]) for row in rows} >= {(0, 0), (0, 1)}
    if fmt != "hypnic":
        return
    # The log of bytes, replayed, makes the same night.
    again = tmp_path / "again.h5"
    status, _, error = end(start("replay", raw, "--speed", "inf", "--record", again, "--duration", "100s"))
    assert status == 0, error
    done = subprocess.run(
        [sys.executable, "-m", "hypnic", "detect", str(raw)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "hypnic replay" in done.stderr
    with Recording(record) as first, Recording(again) as second:
        np.testing.assert_array_equal(second.read(), first.read(0, 100))
        assert second.site == site
        assert second.start == first.start
    agrees(again)


def night(path: Path, xyz: np.ndarray, gap: int = 0) -> Path:
    with Recorder(path, RATE, start_time="2024-03-21T22:30:00+01:00", durable=False) as out:
        half = len(xyz) // 2
        out.write(Chunk(xyz[:half], 0))
        if gap:
            out.gap(gap, "unplugged")
        out.write(Chunk(xyz[half:], half + gap))
    return path


def test_replay_is_detect(here, tmp_path: Path) -> None:
    path = night(tmp_path / "n.h5", restless(120), 700)
    for ending in ("csv", "tsv", "jsonl"):
        out = tmp_path / f"e.{ending}"
        done = here("replay", path, "--speed", "inf", "--events", out)
        assert (done.status, done.error) == (0, "")
        assert done.out.splitlines()[-1].startswith("ended by end of the source: ")
        with Recording(path) as recording:
            assert out.read_text() == detect(recording).to_text(ending)
    # Rows show the clock of the place where the night was recorded.
    assert "22:30:10" in done.out
    refused(here("replay", path, "--speed", "inf", "--events", out), 1, "exists already")
    assert here("replay", path, "--speed", "inf", "--events", out, "--overwrite").status == 0


def test_rows_on_standard_output(here, tmp_path: Path) -> None:
    path = night(tmp_path / "n.h5", restless(60))
    done = here("replay", path, "--speed", "inf", "--events", "-")
    assert done.status == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row.keys() for row in rows] == [{column.name: 0 for column in COLUMNS}.keys()] * len(rows)
    assert {row["revision"] for row in rows} >= {0, 1}
    assert "ended by" in done.error.splitlines()[-1]


def test_a_pty_and_a_stream_are_a_board(tmp_path: Path) -> None:
    """Two commands, as two programs would: one plays a night as a board, the other records it."""
    path, link = night(tmp_path / "n.h5", restless(30)), tmp_path / "board"
    player = start("replay", path, "--pty", "--link", link, "--format", "hypnic-csv", "--speed", 20)
    assert player.stdout is not None
    assert player.stdout.readline() == f"{path} as hypnic-csv at 100 Hz on {link}: waits for a reader\n"
    assert link.is_symlink()
    status, out, error = end(
        start("stream", link, "--record", tmp_path / "b.h5", "--duration", 20, "--buffer", 100)
    )
    assert status == 0, error
    assert f"{link}: delimited, replay, 100 Hz" in out
    status, out, _ = end(player)
    assert status == 0
    plays, last = out.splitlines()
    assert plays == "plays"
    assert last.startswith("ended by end of the source: ")
    assert not link.is_symlink()
    agrees(tmp_path / "b.h5")
    with Recording(tmp_path / "b.h5") as copy, Recording(path) as original:
        got, true = copy.read(), original.read()
        assert len(got) == 2000
        # It was waited for, so it starts with the first sample.
        np.testing.assert_allclose(got[:1000], true[:1000], atol=1 / 8192)


def test_a_player_without_a_reader_can_be_ended(tmp_path: Path) -> None:
    path, link = night(tmp_path / "n.h5", restless(30)), tmp_path / "board"
    player = start("replay", path, "--pty", "--link", link)
    wait_until(link.is_symlink)
    assert player.stdout is not None
    player.stdout.readline()
    status, out, _ = end(player, signal.SIGTERM)
    assert (status, out) == (0, "ended by SIGTERM: 0 samples sent, 0 dropped for want of a reader\n")
    assert not link.is_symlink()


# Ends


@pytest.mark.parametrize("seconds", [0.2, 0.8, 1.7])
def test_sigkill_costs_at_most_a_second(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "n.h5"
    xyz = restless(60)
    with Board(xyz, speed=1.0) as board:
        process = start("stream", board.path, "--record", path)
        wait_until(lambda: board.sent)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() >= begun + seconds)
        # What has not been read yet has not arrived.
        arrived = board.sent - -(-board.port.unread // SAMPLE_BYTES)
        end(process, signal.SIGKILL)
    kept = stored(path)
    assert arrived - kept <= RATE
    if kept:
        with h5py.File(path) as file:
            np.testing.assert_allclose(file["acceleration"][:], xyz[:kept], atol=1 / 8192)
        with Recording(path) as recording:
            assert recording.unfinished
            assert recording.n_samples == kept
        pack(path)
        with Recording(path) as recording:
            np.testing.assert_allclose(recording.read(), xyz[:kept], atol=1 / 8192)


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "a closed terminal")],
)
def test_signals_end_a_night_in_good_order(tmp_path: Path, number: int, name: str) -> None:
    record, events = tmp_path / "n.h5", tmp_path / "e.jsonl"
    with Board(restless(6000), speed=50.0) as board:
        process = start("stream", board.path, "--record", record, "--events", events, "--buffer", 100)
        wait_until(lambda: stored(record) > 1500)
        # Others read it meanwhile; what they see is what was sent.
        with h5py.File(record) as file:
            assert file["acceleration"].shape[1] == 3
            assert file["acceleration"].attrs["sampling_rate"] == RATE
        status, out, error = end(process, number)
    assert (status, error) == (0, "")
    assert out.splitlines()[-1].startswith(f"ended by {name}: {record}: ")
    assert len(agrees(record, events)) >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.jsonl", "n.h5"]


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    record = tmp_path / "n.h5"
    with Board(restless(6000), speed=50.0) as board:
        process = start(
            *("stream", board.path, "--record", record, "--buffer", 100),
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        wait_until(lambda: stored(record))
        process.send_signal(signal.SIGHUP)
        before = stored(record)
        wait_until(lambda: stored(record) > before + 300)
        status, out, _ = end(process, signal.SIGTERM)
    assert status == 0
    assert "ended by SIGTERM" in out


def full(status: int, out: str, error: str, record: Path) -> None:
    assert status == 1
    lines = error.splitlines()
    assert len(lines) == 1, error
    kept = stored(record)
    assert f"{record}: " in lines[0]
    assert f"{kept} samples are safe in the file" in lines[0]
    assert kept > 0
    with Recording(record) as recording:
        assert recording.n_samples == kept
        assert not recording.damage
        assert np.isfinite(recording.read()).all()


def test_a_file_that_may_grow_no_more(tmp_path: Path) -> None:
    """The chunk of the first 10 000 s finds room, the next one does not."""
    record, rate = tmp_path / "copy.h5", 25.0
    with Recorder(tmp_path / "n.h5", rate, durable=False) as out:
        out.write(Chunk(np.tile(np.float32([0.0, 0.0, 1.0]), (260_000, 1)), 0))
    process = start(
        *("replay", tmp_path / "n.h5", "--speed", "inf", "--record", record),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000)),
    )
    full(*end(process), record)


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, Board(restless(600), speed=100.0) as board:
        record = disk / "n.h5"
        process = start(
            "stream", board.path, "--record", record, "--raw", tmp_path / "n.raw", "--buffer", 1e6
        )
        full(*end(process), record)


def test_replug(tmp_path: Path) -> None:
    link, record, xyz = tmp_path / "board", tmp_path / "n.h5", restless(1.5)
    first = Board(xyz, link=link, speed=1.0)
    first.start()
    process = start("stream", link, "--record", record)
    wait_until(lambda: stored(record) >= len(xyz) - 60)
    first.join()
    wait_until(lambda: not first.port.unread)
    first.stop()
    second = Board(xyz, link=link, speed=1.0)
    second.start()
    wait_until(lambda: stored(record) >= 2 * len(xyz) - 60)
    second.join()
    status, out, error = end(process, signal.SIGINT)
    second.stop()
    assert (status, error) == (0, "")
    assert "disconnected" in out
    assert "is disconnected: it is looked for" in out
    with Recording(record) as recording:
        assert recording.n_samples == 2 * len(xyz)
        assert recording.gaps["reason"].tolist() == ["port lost"]


def test_a_display_that_breaks_does_not_end_a_night(tmp_path: Path) -> None:
    record = tmp_path / "n.h5"
    with Board(restless(60)) as board:
        process = start("stream", board.path, "--record", record, "--duration", 50, "--buffer", 1e6)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        status, _, error = end(process)
    assert (status, error) == (0, "")
    with Recording(record) as recording:
        assert recording.n_samples == 5000
    agrees(record)


def test_a_broken_pipe_ends_what_is_only_looked_at(tmp_path: Path) -> None:
    path = night(tmp_path / "n.h5", restless(60))
    process = start("replay", path, "--speed", 30)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    status, _, error = end(process)
    assert (status, error) == (1, "")


# What is seen


def test_on_a_terminal(tmp_path: Path) -> None:
    """A screen of 80 columns: rows scroll up when final, the rest stays, and the terminal is given back."""
    path = night(tmp_path / "n.h5", restless(60))
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "hypnic", "replay", str(path), "--speed", "60"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
    process = subprocess.Popen(words, stdout=slave, stderr=slave, stdin=slave, env=environment)
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(master)
    assert process.wait(timeout=PATIENCE) == 0
    text = seen.decode()
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "▁" in text
    assert "hypnic_jerk" in text
    assert "…" in text
    assert re.search(r"received [1-9]", text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("\n")
    assert [line for line in plain if len(line) > 80 and not line.startswith("ended by")] == []
    assert [line for line in plain if line][-1].startswith("ended by end of the source: 0.02 h: ")


def test_trace() -> None:
    trace = Trace(RATE, marks=20)
    assert np.isnan(trace.latest)
    assert trace.text(5) == "     "
    still = np.tile(np.float32([0.0, 0.0, 1.0]), (50, 1))
    for piece in (still[:20], still[20:], still[:0]):
        trace.add(piece, 0)
    assert trace.latest == 0.0
    moved = still.copy()
    moved[25, 0] = 0.1
    trace.add(moved, 0)
    assert trace.latest == pytest.approx(0.098)
    thrown = still.copy()
    thrown[25, 0] = 5.0
    trace.add(thrown, 0)
    assert trace.text(5) == "  ▁▆█"
    assert trace.text(5, display_module.PLAIN_BLOCKS) == "  _*#"[:2] + trace.text(
        3, display_module.PLAIN_BLOCKS
    )
    # A hole is blank, however long it was.
    trace.add(still, 130)
    assert trace.text(7) == "▁▆█   ▁"
    trace.add(still, 10**9)
    assert trace.text(6) == "     ▁"


class Asked:
    """A source that says whatever a test wants said."""

    rate, site = RATE, "wrist"
    status = "streaming"
    warnings: tuple[str, ...] = ()
    counters: dict[str, int] = {"dropped": 0, "bad_frames": 3}  # noqa: RUF012  a fixed answer
    effective_rate = RateEstimate(99.871, 0.01)

    def __iter__(self):
        yield from ()


def test_plain_lines_say_what_is_new_and_say_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    source = Asked()
    session = Session(source)
    lines = Lines(session, None, sys.stdout)
    nothing = Update(Chunk(np.empty((0, 3), np.float32), 0), Events())
    for dropped in (1, 2, 3):
        source.warnings = (f"{dropped} samples dropped", "steps are coarse")
        lines.update(nothing)
    source.status = "stalled"
    lines.update(nothing)
    lines.update(nothing)
    source.status = "streaming"
    lines.update(nothing)
    rows = np.zeros(3, EVENT_DTYPE)
    rows["revision"], rows["label"], rows["rest"] = [0, 1, 2], "plm", "onset"
    lines.update(nothing._replace(events=Events(rows)))
    lines.close()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "warning: 1 samples dropped"
    assert said[1] == "warning: steps are coarse"
    assert said[2] == "--------  measuring the rate  received 0  missing 0  at 99.87 Hz  bad frames 3"
    assert [line.split()[-1] for line in said[3:]] == [
        "stalled",
        "streaming",
        "rest",
        "provisional",
        "final",
        "revised",
    ]
    session.close()
