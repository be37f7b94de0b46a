"""Live sessions: what comes out is what the file gives, whatever happens to board, disk and sinks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serial.tools import list_ports

import hypnic
from firmware_bridge import ReplayLog, SerialIMU, encode
from firmware_bridge import imu as imu_module
from firmware_bridge.encoders import introduce
from firmware_bridge.rawlog import RawLog
from hypnic import live
from hypnic.chunk import Chunk, Source
from hypnic.detector import detect
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events, format_row
from hypnic.live import EventCommand, EventFile, Player, Session
from hypnic.recording import Recorder, Recording
from tests.played import Board, restless
from tests.signals import Pieces, pieces

RATE = 100.0
START = 1.7e9


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what a person would wait for."""
    for name, seconds in (("_LISTEN", 0.3), ("_BOOT", 1.0), ("_SHORTEST_BACKOFF", 0.02)):
        monkeypatch.setattr(imu_module, name, seconds)


class Chunks:
    """A source made of chunks: samples cut at given places, with holes before some of the pieces."""

    site = "wrist"

    def __init__(
        self, xyz: np.ndarray, cuts: tuple[int, ...] = (), holes: dict[int, int] | None = None
    ) -> None:
        self.rate = RATE
        self.closed = 0
        edges = [0, *sorted({cut % len(xyz) for cut in cuts} - {0}), len(xyz)]
        self.chunks, number = [], 0
        for place, (low, high) in enumerate(pairwise(edges)):
            missing = (holes or {}).get(place, 0)
            number += missing
            self.chunks.append(
                Chunk(xyz[low:high], number, START + number / RATE, missing, "test" if missing else "")
            )
            number += high - low

    def __iter__(self):
        yield from self.chunks

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed += 1


class Stream(Chunks):
    """Chunks of a stream, whose true rate is known only after a while, and which can be asked to end."""

    clock_residual = 0.001
    status = "streaming"

    def __init__(self, xyz: np.ndarray, known_after: int, true_rate: float, block: int = 50) -> None:
        super().__init__(xyz, tuple(range(block, len(xyz), block)))
        self.detection_rate: float | None = None
        self.asked = False
        self._known_after, self._true_rate = known_after, true_rate

    def __iter__(self):
        for chunk in self.chunks:
            if self.asked:
                # What a board has at hand when it is asked to end.
                yield chunk
                return
            if chunk.index >= self._known_after:
                self.detection_rate = self._true_rate
            yield chunk

    def stop(self) -> None:
        self.asked = True


def run(session: Session) -> list[live.Update]:
    with session:
        return list(session)


def agrees(night: Path, *files: Path) -> Events:
    """Check that a night's own events, and the files beside it, are what detecting in it gives."""
    with Recording(night) as recording:
        found = detect(recording)
        stored = recording.events()
        assert stored is not None
        assert stored.array.tobytes() == found.array.tobytes()
        assert stored.meta == found.meta
        assert not recording.unfinished
    for file in files:
        assert file.read_text() == found.to_text(file.suffix[1:])
    return found


# The promise


@settings(max_examples=25)
@given(
    what=pieces,
    cuts=st.lists(st.integers(0, 10**6), max_size=8),
    holes=st.dictionaries(st.integers(0, 8), st.sampled_from([1, 3, 40, 700, 70_000]), max_size=3),
)
def test_live_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, what: Pieces, cuts: list[int], holes: dict[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("live")
    source = Chunks(what.xyz(RATE), tuple(cuts), holes)
    sinks = [EventFile(folder / f"e.{ending}") for ending in ("csv", "tsv", "jsonl")]
    session = Session(source, record=folder / "n.h5", sinks=sinks, durable=False)
    rows = [row for update in run(session) for row in update.events]
    assert session.ended_by == "end of the source"
    if session.counts["received"] <= 600:
        # Too little to know a background is no error while it runs.
        assert not rows
        return
    found = agrees(folder / "n.h5", *folder.glob("e.*"))
    assert Events(np.array(rows, EVENT_DTYPE), {}).latest().array.tobytes() == found.array.tobytes()
    assert session.events.array.tobytes() == found.array.tobytes()


def test_events_come_as_soon_as_they_are_known(tmp_path: Path) -> None:
    xyz = restless(60)
    source = Chunks(xyz, tuple(range(0, len(xyz), 10)))
    delays = {
        (int(row["id"]), int(row["revision"])): session_time - (row["onset"] + row["duration"])
        for session_time, row in _timed(Session(source, record=tmp_path / "n.h5", durable=False))
    }
    found = agrees(tmp_path / "n.h5")
    assert {key for key in delays if key[1] < 2} == {(row["id"], k) for row in found for k in (0, 1)}
    assert all(delay < 0.5 for (_, revision), delay in delays.items() if revision == 0)
    assert all(delay < 5.0 for (_, revision), delay in delays.items() if revision == 1)


def _timed(session: Session):
    with session:
        for update in session:
            for row in update.events:
                yield session.elapsed, row


def test_rows_are_in_the_night_while_it_runs(tmp_path: Path) -> None:
    xyz = restless(40)
    source = Chunks(xyz, tuple(range(0, len(xyz), 10)))
    with Session(source, record=tmp_path / "n.h5", durable=False) as session:
        rows = [row for update in session for row in update.events]
        # A copy is what another program, or one after a crash, would see.
        with h5py.File(shutil.copy(tmp_path / "n.h5", tmp_path / "copy.h5")) as file:
            on_disk = file["events"][:]
            assert json.loads(file["events"].attrs["settings"])["name"] == "wrist-1"
            # The last half second may not be on the disk yet.
            assert 0 <= len(xyz) - len(file["acceleration"]) <= 50
        assert [(row["id"], row["revision"]) for row in on_disk] == [
            (row["id"], row["revision"]) for row in rows[: len(on_disk)]
        ]
        assert len(rows) - 2 <= len(on_disk)
        assert {row["revision"] for row in on_disk} >= {0, 1}
    agrees(tmp_path / "n.h5")


@pytest.mark.parametrize("true_rate", [97.31, 100.0, 104.2])
@pytest.mark.parametrize("known_after", [0, 300, 1500])
def test_the_rate_that_is_settled_on_is_used_for_all(
    tmp_path: Path, true_rate: float, known_after: int
) -> None:
    source = Stream(restless(45), known_after, true_rate)
    session = Session(source, record=tmp_path / "n.h5", sinks=[EventFile(tmp_path / "e.csv")], durable=False)
    most = 0
    with session:
        for update in session:
            most = max(most, session.waiting)
            assert session.rest or session.waiting or not len(update.chunk)
    assert most == known_after
    assert session.rate == true_rate
    found = agrees(tmp_path / "n.h5", tmp_path / "e.csv")
    assert len(found) == 5
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.rate == true_rate
        assert recording.effective_rate == pytest.approx(RATE, rel=1e-6)


def test_an_end_before_the_rate_is_known(tmp_path: Path) -> None:
    session = Session(Stream(restless(20), 10**9, 97.0), record=tmp_path / "n.h5", durable=False)
    run(session)
    assert session.rate == RATE
    assert len(agrees(tmp_path / "n.h5")) == 2


def test_an_absurd_moment_to_look(tmp_path: Path) -> None:
    """Everything that a display asks has an answer before the first sample."""
    session = Session(Stream(restless(20), 10**9, 97.0))
    assert (session.elapsed, session.rest, session.rate, session.waiting) == (0.0, "", RATE, 0)
    assert session.counts == {"received": 0, "missing": 0, "invalid": 0, "stuck": 0}
    assert len(session.events) == 0
    assert np.isnan(session.time_of(0))
    assert session.warnings == ()
    session.close()
    session.close()


# Ends


def test_duration_is_exact_and_counts_what_is_lost(tmp_path: Path) -> None:
    xyz = restless(30)
    source = Chunks(xyz, (700, 1100), {1: 150, 2: 20})
    session = Session(source, record=tmp_path / "n.h5", duration=12.0, durable=False)
    run(session)
    assert session.ended_by == "duration"
    with Recording(tmp_path / "n.h5") as recording:
        assert (recording.n_total, recording.n_samples) == (1200, 1050)
        assert recording.gaps["reason"].tolist() == ["test"]
    agrees(tmp_path / "n.h5")


def test_a_duration_that_ends_in_a_hole(tmp_path: Path) -> None:
    source = Chunks(restless(30), (700,), {1: 900})
    run(Session(source, record=tmp_path / "n.h5", duration=10.0, durable=False))
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_total == 700


def test_a_board_that_has_gone_does_not_put_off_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(time=0.0)
    monkeypatch.setattr(live.time, "monotonic", lambda: now.time)
    source = Stream(restless(10), 0, RATE)
    source.status = "disconnected"
    nothing = Chunk(np.empty((0, 3), np.float32), 1000)

    def chunks():
        yield from source.chunks
        for _ in range(100):
            now.time += 0.2
            yield nothing

    monkeypatch.setattr(Stream, "__iter__", lambda self: chunks())
    session = Session(source, duration=15.0)
    run(session)
    assert session.ended_by == "duration"
    assert now.time == pytest.approx(5.0, abs=0.3)


def test_stopping_lets_a_stream_hand_over_what_it_has(tmp_path: Path) -> None:
    source = Stream(restless(30), 0, RATE, block=500)
    with Session(source, record=tmp_path / "n.h5", durable=False) as session:
        for update in session:
            if update.chunk.index == 1000:
                session.stop("Ctrl-C")
    assert session.ended_by == "Ctrl-C"
    with Recording(tmp_path / "n.h5") as recording:
        # The chunk that was at hand has come through, and no more.
        assert recording.n_samples == 2000
    agrees(tmp_path / "n.h5")


def test_stopping_a_source_that_cannot_be_asked(tmp_path: Path) -> None:
    xyz = restless(30)
    source = Chunks(xyz, (1000, 2000))
    with Session(source, record=tmp_path / "n.h5", durable=False) as session:
        for _ in session:
            session.stop()
    assert session.ended_by == "stopped"
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 1000


def test_leaving_the_loop_is_a_clean_end_too(tmp_path: Path) -> None:
    source = Chunks(restless(30), tuple(range(0, 3000, 100)))
    with Session(
        source, record=tmp_path / "n.h5", sinks=[EventFile(tmp_path / "e.csv")], durable=False
    ) as session:
        for update in session:
            if update.chunk.index > 2000:
                break
    agrees(tmp_path / "n.h5", tmp_path / "e.csv")


def test_a_source_that_fails_leaves_a_whole_night(tmp_path: Path) -> None:
    class Broken(Chunks):
        def __iter__(self):
            yield from self.chunks[:2]
            raise DataError("the log is damaged")

    session = Session(
        Broken(restless(30), (1000, 2000)),
        record=tmp_path / "n.h5",
        sinks=[EventFile(tmp_path / "e.csv")],
        durable=False,
    )
    with pytest.raises(DataError, match="the log is damaged"):
        run(session)
    assert session.ended_by == ""
    agrees(tmp_path / "n.h5", tmp_path / "e.csv")


def test_an_interruption_in_the_middle_leaves_rows_as_they_are(tmp_path: Path) -> None:
    source = Chunks(restless(30), tuple(range(0, 3000, 100)))
    session = Session(source, record=tmp_path / "n.h5", sinks=[EventFile(tmp_path / "e.csv")], durable=False)

    def interrupted() -> None:
        with session:
            for update in session:
                if update.chunk.index == 2500:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    revisions = [line.split(",")[-1] for line in (tmp_path / "e.csv").read_text().splitlines()[1:]]
    assert set(revisions) == {"0", "1"}
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 2600


def test_a_full_disk_ends_it_with_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Recorder._flush_samples

    def fill(self: Recorder, fsync: bool) -> None:
        if self._stored >= 2000:
            raise OSError(28, "No space left on device")
        flush(self, fsync)

    monkeypatch.setattr(Recorder, "_flush_samples", fill)
    source = Chunks(restless(30), tuple(range(0, 3000, 100)))
    session = Session(source, record=tmp_path / "n.h5", sinks=[EventFile(tmp_path / "e.csv")], durable=False)
    with pytest.raises(OSError, match=r"2000 samples are safe"):
        run(session)
    assert session.recorder is not None
    assert session.recorder.failed
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 2000
    assert "0" in [line.split(",")[-1] for line in (tmp_path / "e.csv").read_text().splitlines()[1:]]


def test_a_night_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "n.h5").write_text("mine")
    sink = Failing()
    with pytest.raises(DataError, match="exists already"):
        Session(Chunks(restless(10)), record=tmp_path / "n.h5", sinks=[sink])
    assert sink.calls == ["close"]
    assert (tmp_path / "n.h5").read_text() == "mine"
    run(Session(Chunks(restless(10)), record=tmp_path / "n.h5", overwrite=True, durable=False))
    agrees(tmp_path / "n.h5")


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan")])
def test_durations_that_are_none(duration: float) -> None:
    with pytest.raises(UsageError, match="duration"):
        Session(Chunks(restless(10)), duration=duration)


def test_memory_does_not_grow_with_the_night() -> None:
    still = restless(1)

    class Long(Chunks):
        def __iter__(self):
            for number in range(20_000):
                yield Chunk(still, 100 * number, START + number)

    sizes = []
    with Session(Long(still)) as session:
        tracemalloc.start()
        for update in session:
            if update.chunk.index % 500_000 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert len(sizes) == 5
    assert sizes[-1] - sizes[1] < 200_000


# Sinks


class Failing:
    warnings = ("half full",)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def take(self, events: Events) -> None:
        self.calls.append("take")
        raise OSError(28, "No space left on device")

    def finish(self, events: Events) -> None:
        self.calls.append("finish")

    def close(self) -> None:
        self.calls.append("close")


def test_a_sink_that_fails_does_not_end_a_night(tmp_path: Path) -> None:
    sink = Failing()
    other = EventFile(tmp_path / "e.csv")
    session = Session(Chunks(restless(30)), record=tmp_path / "n.h5", sinks=[sink, other], durable=False)
    assert session.warnings == ("half full",)
    run(session)
    assert sink.calls == ["take", "close"]
    assert len(session.warnings) == 1
    assert "in the night alone" in session.warnings[0]
    agrees(tmp_path / "n.h5", tmp_path / "e.csv")


def test_a_sink_that_fails_ends_what_is_no_night() -> None:
    with pytest.raises(OSError, match="No space"):
        run(Session(Chunks(restless(30)), sinks=[Failing()]))


def some_rows(count: int, revision: int = 0) -> Events:
    rows = np.zeros(count, EVENT_DTYPE)
    rows["id"], rows["revision"], rows["label"] = np.arange(count), revision, "hypnic_jerk"
    rows["hf_ratio"] = np.nan
    return Events(rows, {})


@pytest.mark.parametrize("fmt", ["csv", "tsv", "jsonl"])
def test_event_file_grows_and_is_then_what_detect_writes(tmp_path: Path, fmt: str) -> None:
    path = tmp_path / f"e.{fmt}"
    file = EventFile(path)
    assert path.read_text() == Events().to_text(fmt)
    for revision in (0, 1):
        file.take(some_rows(2, revision))
        rows = path.read_text().splitlines()[-2:]
        assert rows == [format_row(row, fmt) for row in some_rows(2, revision)]
    file.finish(some_rows(2, 1))
    file.close()
    assert path.read_text() == some_rows(2, 1).to_text(fmt)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_event_file_refuses(tmp_path: Path) -> None:
    for name in ("e.json", "e.txt", "e"):
        with pytest.raises(UsageError, match=r"one of \.csv, \.tsv, \.jsonl"):
            EventFile(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "e.csv").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        EventFile(tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text() == "mine"
    EventFile(tmp_path / "e.csv", overwrite=True).close()
    assert (tmp_path / "e.csv").read_text() == Events().to_text("csv")
    with pytest.raises(FileNotFoundError):
        EventFile(tmp_path / "none" / "e.csv")


def test_a_named_pipe_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "e.jsonl"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    file = EventFile(pipe)
    file.take(some_rows(1))
    file.finish(some_rows(1, 1))
    file.close()
    reader.join()
    assert read == [format_row(some_rows(1)[0], "jsonl") + "\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


COLLECT = "import os, sys; print(sys.stdin.read().strip(), os.environ['HYPNIC_REVISION'], file=open(sys.argv[1], 'a'))"


def test_command_gets_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "COMMAND_FAREWELL", 60.0)
    out = tmp_path / "out"
    command = EventCommand(f'{sys.executable} -c "{COLLECT}" {out}')
    command.take(some_rows(2))
    command.take(some_rows(1, 1))
    command.close()
    expected = [*some_rows(2), *some_rows(1, 1)]
    assert out.read_text().splitlines() == [
        f"{format_row(row, 'jsonl')} {row['revision']}" for row in expected
    ]
    assert command.warnings == ()


def test_a_command_that_hangs_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "COMMAND_FAREWELL", 0.3)
    monkeypatch.setattr(live, "COMMAND_QUEUE", 3)
    pid = tmp_path / "pid"
    command = EventCommand(f"sh -c 'echo $$ > {pid}.part; mv {pid}.part {pid}; sleep 1000 & wait'")
    with Session(Chunks(restless(70)), record=tmp_path / "n.h5", sinks=[command], durable=False) as session:
        for _ in session:
            pass
        deadline = time.monotonic() + 30
        while not pid.exists():
            assert time.monotonic() < deadline, "the command has not started"
            time.sleep(0.01)
    found = agrees(tmp_path / "n.h5")
    # One ran, and none of the others ever will.
    assert command.left_out >= 2 * len(found) - 4
    assert any("not run for" in warning for warning in command.warnings)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "limit", "problem"),
    [
        ("sh -c 'echo no luck >&2; exit 3'", 60.0, "exit status 3: no luck"),
        ("sh -c 'exit 4'", 60.0, "exit status 4"),
        ("sleep 1000", 0.2, "killed after 0.2 s"),
    ],
)
def test_what_goes_wrong_with_a_command_is_said(
    monkeypatch: pytest.MonkeyPatch, words: str, limit: float, problem: str
) -> None:
    monkeypatch.setattr(live, "COMMAND_LIMIT", limit)
    monkeypatch.setattr(live, "COMMAND_FAREWELL", 60.0)
    command = EventCommand(words)
    command.take(some_rows(1))
    command.close()
    assert command.warnings == (f"on-event command: {problem}",)


def test_commands_that_cannot_be(tmp_path: Path) -> None:
    for words in ("", "no-such-program-anywhere", "'half"):
        with pytest.raises(UsageError, match="command"):
            EventCommand(words)
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    command = EventCommand(str(program))
    program.unlink()
    command.take(some_rows(1))
    command.close()
    assert "No such file" in command.warnings[0]


# Playing


class Clock:
    """A clock that runs only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        monkeypatch.setattr(live.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(live.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0, float("inf")])
def test_player_hands_over_the_same_samples_in_their_time(
    monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    clock = Clock(monkeypatch)
    source = Chunks(restless(30), (1000, 1700), {1: 450, 2: 3})
    player = Player(source, speed)
    assert isinstance(player, Source)
    got, holes, following = [], {}, 0
    for chunk in player:
        assert chunk.index - chunk.missing == following
        if not len(chunk):
            assert np.isnan(chunk.time)
            continue
        following = chunk.index + len(chunk)
        # No sample comes before its time, and none later than the longest nap.
        assert clock.now * speed * RATE == pytest.approx(following, abs=1e-3) or speed == np.inf
        assert chunk.time == pytest.approx(START + chunk.index / RATE)
        got.append(chunk.xyz)
        if chunk.missing:
            holes[chunk.index] = (chunk.missing, chunk.reason)
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate([chunk.xyz for chunk in source.chunks]))
    assert holes == {1450: (450, "test"), 2153: (3, "test")}
    assert max(clock.naps, default=0.0) <= live.WAKE
    assert not clock.naps or speed < np.inf


def test_player_wakes_in_a_long_gap_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    player = Player(Chunks(restless(20), (1000,), {1: 360_000}))
    quiet_chunks = 0
    for chunk in player:
        quiet_chunks += not len(chunk)
        if quiet_chunks == 50:
            player.stop()
    assert quiet_chunks == 50
    assert clock.now < 25


def test_player_knows_what_its_source_knows() -> None:
    source = Stream(restless(10), 0, 97.0)
    player = Player(source)
    assert (player.rate, player.site, player.clock_residual) == (RATE, "wrist", 0.001)
    assert getattr(player, "sensor", None) is None
    with player:
        pass
    assert source.closed == 1
    for speed in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="speed"):
            Player(source, speed)


def test_a_replayed_night_is_the_night(tmp_path: Path) -> None:
    xyz = restless(40)
    with Recorder(tmp_path / "a.h5", RATE, "mattress", start_time=START, durable=False) as out:
        out.write(Chunk(xyz[:1500], 0))
        out.gap(250, "unplugged")
        out.write(Chunk(xyz[1500:], 1750))
    with Recording(tmp_path / "a.h5") as night:
        run(Session(Player(night, np.inf), record=tmp_path / "b.h5", durable=False))
        found = detect(night)
    assert agrees(tmp_path / "b.h5").array.tobytes() == found.array.tobytes()
    with Recording(tmp_path / "b.h5") as copy:
        assert copy.start == START
        assert copy.site == "mattress"
        assert copy.gaps["reason"].tolist() == ["unplugged"]


# Boards


def within(session: Session, seconds: float = 30.0):
    """Run a session on a board, and fail if it does not end in time."""
    deadline = time.monotonic() + seconds
    for update in session:
        yield update
        assert time.monotonic() < deadline, "what was waited for did not come"


def usable(session: Session) -> int:
    """Return the samples so far, whatever the detector thinks of them."""
    counts = session.counts
    return counts["received"] + counts["invalid"] + counts["stuck"]


@pytest.mark.parametrize("fmt", ["hypnic", "hypnic-csv", "xbus", "witmotion", "razor"])
def test_a_board_is_what_its_file_says(tmp_path: Path, fmt: str) -> None:
    xyz = restless(60)
    rate = None if fmt in ("hypnic", "hypnic-csv") else RATE
    with (
        Board(xyz, RATE, fmt, holes={1000: 7, 2500: 300}) as board,
        hypnic.open(board.path, baud=115200, rate=rate, buffer=1e6) as imu,
        Session(
            imu, record=tmp_path / "n.h5", sinks=[EventFile(tmp_path / "e.csv")], durable=False
        ) as session,
    ):
        assert isinstance(imu, SerialIMU)
        for _ in within(session):
            if usable(session) >= len(xyz):
                session.stop()
    found = agrees(tmp_path / "n.h5", tmp_path / "e.csv")
    # In steps of 10 mg a quiet sleeper looks like a sensor that is stuck.
    assert len(found) >= 5 or fmt == "razor"
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == len(xyz)
        if fmt in ("hypnic", "hypnic-csv", "xbus"):
            assert recording.gaps["missing"].tolist() == [7, 300]
            assert recording.gaps["reason"].tolist() == ["lost", "lost"]


def test_a_computer_that_is_too_slow_loses_the_oldest_and_says_so(tmp_path: Path) -> None:
    xyz = restless(60)
    with (
        Board(xyz) as board,
        hypnic.open(board.path, baud=115200, buffer=2.0) as imu,
        Session(imu, record=tmp_path / "n.h5", durable=False) as session,
    ):
        board.join()
        dropped = 0
        for _ in within(session):
            dropped = imu.counters["dropped"]
            if usable(session) + dropped >= len(xyz):
                session.stop()
        assert any("too slow" in warning for warning in session.warnings)
    assert dropped > 0
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples + dropped == recording.n_total == len(xyz)
        assert set(recording.gaps["reason"].tolist()) == {"reader too slow"}


def test_replug_is_a_gap_and_the_night_goes_on(tmp_path: Path) -> None:
    link = tmp_path / "board"
    xyz = restless(30)
    first = Board(xyz, link=link)
    first.start()
    second = None
    with (
        hypnic.open(f"serial:{link}", baud=115200, wake=0.02, buffer=1e6) as imu,
        Session(imu, record=tmp_path / "n.h5", durable=False) as session,
    ):
        for _ in within(session):
            if second is None and usable(session) >= len(xyz):
                first.stop()
                second = Board(xyz, link=link)
                second.start()
            if usable(session) >= 2 * len(xyz):
                session.stop()
    assert second is not None
    second.stop()
    assert imu.counters["reconnects"] >= 1
    found = agrees(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording:
        assert set(recording.gaps["reason"].tolist()) <= {"port lost"}
        assert recording.n_samples == 2 * len(xyz)
        assert len(recording.clock) >= 2
    assert len(found) >= 4


def test_a_silent_board_is_said(tmp_path: Path) -> None:
    xyz = restless(10)
    with (
        Board(xyz) as board,
        hypnic.open(board.path, baud=115200, wake=0.02, stall=0.3, buffer=1e6) as imu,
        Session(imu) as session,
    ):
        said: tuple[str, ...] = ()
        for _ in within(session):
            if usable(session) == len(xyz) and imu.status == "stalled":
                said = session.warnings
                session.stop()
        assert session.silence > 0
    assert any("is stalled: it is open, but nothing usable comes" in warning for warning in said)


def test_a_board_behind_a_socket(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    xyz = restless(20)

    def serve() -> None:
        with server.accept()[0] as connection:
            # Opening the port throws away what is there already; then the host asks who this is.
            connection.recv(1)
            connection.sendall(introduce("hypnic", RATE) + encode(xyz, "hypnic", RATE))

    thread = threading.Thread(target=serve)
    thread.start()
    name = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with (
        hypnic.open(name, site="mattress", buffer=1e6, reconnect=False) as imu,
        Session(imu, record=tmp_path / "n.h5", durable=False) as session,
    ):
        for _ in within(session):
            pass
    thread.join()
    server.close()
    assert session.ended_by == "end of the source"
    agrees(tmp_path / "n.h5")
    with Recording(tmp_path / "n.h5") as recording:
        assert (recording.n_samples, recording.site) == (len(xyz), "mattress")


def test_replug_at_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives the board another name; its USB numbers tell that it is the same."""
    there: list[SimpleNamespace] = []
    monkeypatch.setattr(list_ports, "comports", lambda: list(there))

    def plugged(board: Board) -> SimpleNamespace:
        return SimpleNamespace(device=board.path, vid=0x0403, pid=0x6001, serial_number="S1", location="1-1")

    xyz = restless(20)
    first, second = Board(xyz), Board(xyz)
    there.append(plugged(first))
    first.start()
    with (
        hypnic.open("serial:auto", baud=115200, wake=0.02, buffer=1e6) as imu,
        Session(imu, record=tmp_path / "n.h5", durable=False) as session,
    ):
        gone = False
        for _ in within(session):
            if not gone and usable(session) >= len(xyz):
                gone = True
                there.clear()
                first.stop()
            elif gone and imu.status == "disconnected" and not there:
                there.append(plugged(second))
                second.start()
            if usable(session) >= 2 * len(xyz):
                session.stop()
        assert imu.board.port == second.path != first.path
    second.stop()
    agrees(tmp_path / "n.h5")


def test_a_board_that_restarts_begins_anew_and_the_night_goes_on(tmp_path: Path) -> None:
    log = RawLog(tmp_path / "night.raw", {"format": "hypnic", "rate": RATE, "site": "wrist"})
    xyz = restless(40)
    for begun, part in ((START, xyz[:2000]), (START + 23.0, xyz[2000:])):
        for at in range(0, len(part), 5):
            data = encode(part[at : at + 5], "hypnic", RATE, at)
            log.write(begun + (at + 5) / RATE, data if at else introduce("hypnic", RATE) + data)
    log.close()
    with hypnic.open(tmp_path / "night.raw") as board:
        run(Session(Player(board, np.inf), record=tmp_path / "n.h5", durable=False))
    with Recording(tmp_path / "n.h5") as recording:
        assert recording.n_samples == 4000
        assert recording.gaps["missing"].tolist() == [pytest.approx(300, abs=2)]
        assert recording.gaps["reason"].tolist() == ["board restarted"]
    agrees(tmp_path / "n.h5")


def log_of(path: Path, xyz: np.ndarray, fmt: str, true_rate: float, stated: float = RATE) -> Path:
    """Write the log of a board that states one rate and has another; its ticks, if any, follow its samples."""
    log = RawLog(path, {"format": fmt, "rate": stated, "site": "wrist"})
    log.write(START, introduce(fmt, stated))
    for at in range(0, len(xyz), 5):
        log.write(START + (at + 5) / true_rate, encode(xyz[at : at + 5], fmt, stated, at))
    log.close()
    return path


@pytest.mark.parametrize("fmt", ["witmotion", "hypnic"])
@pytest.mark.parametrize(
    ("true_rate", "used"),
    [
        (97.0, 97.0),
        (99.4, 100.0),
        (100.4, 100.0),
        (103.0, 103.0),
        (130.0, 100.0),
        (220.0, 100.0),
        (5000.0, 100.0),
    ],
)
def test_a_log_shows_the_true_rate(tmp_path: Path, fmt: str, true_rate: float, used: float) -> None:
    path = log_of(tmp_path / "night.raw", restless(60), fmt, true_rate)
    with hypnic.open(path) as log:
        assert isinstance(log, ReplayLog)
        session = Session(Player(log, np.inf), record=tmp_path / "n.h5", durable=False)
        run(session)
    assert session.rate == pytest.approx(used, rel=1e-3)
    warned = [warning for warning in session.warnings if "samples come" in warning]
    assert len(warned) == (abs(true_rate / RATE - 1) > 0.01)
    assert ("all the same" in "".join(warned)) == (true_rate > 120)
    agrees(tmp_path / "n.h5")


# Opening by name


def test_open_tells_files_from_ports(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.h5", RATE, durable=False) as out:
        out.write(Chunk(restless(10), 0))
    with hypnic.open(tmp_path / "a.h5", site="mattress") as night:
        assert isinstance(night, Recording)
        assert night.site == "mattress"
    with pytest.raises(DataError, match="no such file"):
        hypnic.open(tmp_path / "none.h5")
    with pytest.raises(UsageError, match="does not exist"):
        hypnic.open(f"serial:{tmp_path / 'none'}")


def test_open_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    with pytest.raises(UsageError, match="plug the board in"):
        hypnic.open("serial:auto")
    with Board(restless(20)) as board:
        plugged = SimpleNamespace(
            device=board.path, vid=0x1A86, pid=0x7523, serial_number=None, location="1-1"
        )
        monkeypatch.setattr(list_ports, "comports", lambda: [plugged])
        with hypnic.open("serial:auto") as imu:
            assert imu.board.likely == "CH340 bridge (Arduino clone, many sensors)"
            assert imu.rate == RATE


def test_open_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(encode(restless(10), "witmotion", RATE))
    with pytest.raises(DataError, match="no known format"):
        hypnic.open(tmp_path / "capture.bin")
    with hypnic.open(tmp_path / "capture.bin", format="witmotion", rate=100) as log:
        assert sum(map(len, log)) == 1000


def test_options_that_mean_nothing_here(tmp_path: Path) -> None:
    log = log_of(tmp_path / "night.raw", restless(10), "witmotion", RATE)
    with pytest.raises(UsageError, match="dataset means nothing for a log"):
        hypnic.open(log, dataset="a")
    with pytest.raises(UsageError, match="columns means nothing for a port"):
        hypnic.open("socket://localhost:1", columns="x,y,z")
    assert hypnic.open(log, dataset=None).site == "wrist"


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, hypnic.sources; print([m for m in ('numba', 'h5py', 'serial') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
