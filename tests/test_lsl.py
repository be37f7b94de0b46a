"""A session on the Lab Streaming Layer, received by pylsl's own inlet on this machine."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hypnic
from hypnic.chunk import ArraySource, Chunk
from hypnic.events import EVENT_DTYPE, Events
from hypnic.live import Player, SampleSink, Session
from tests.played import Board, restless

NIGHT = Path(__file__).parents[1] / "data" / "wrist_onset.h5"
PATIENCE = 30.0  # seconds for a stream to be found, on a busy machine


@pytest.fixture(scope="module")
def lsl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """pylsl, which looks for streams on this machine alone."""
    config = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    config.write_text(
        "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -3\n"
    )
    before = os.environ.get("LSLAPICFG")
    os.environ["LSLAPICFG"] = str(config)
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"no pylsl with its library: {str(error)[:80]}")
    yield pylsl
    if before is None:
        del os.environ["LSLAPICFG"]
    else:
        os.environ["LSLAPICFG"] = before


def inlet(lsl: Any, name: str) -> Any:
    found = lsl.resolve_byprop("name", name, timeout=PATIENCE)
    if not found:
        pytest.skip("this machine's network shows no LSL stream, not even its own")
    opened = lsl.StreamInlet(found[0], max_buflen=3600)
    opened.open_stream(timeout=PATIENCE)
    return opened


def pull(stream: Any, wanted: int) -> tuple[list[Any], list[float]]:
    samples: list[Any] = []
    stamps: list[float] = []
    while len(samples) < wanted:
        part, at = stream.pull_chunk(timeout=PATIENCE, max_samples=wanted - len(samples))
        if not part:
            break
        samples += part
        stamps += at
    return samples, stamps


def test_a_session_is_received(lsl: Any) -> None:
    from hypnic.export.lsl import LslOutlet

    name = f"hypnic-{uuid.uuid4().hex}"
    rows: list[np.void] = []
    with hypnic.open(NIGHT) as night:
        player = Player(night, math.inf)
        outlet = LslOutlet(player, name)
        assert isinstance(outlet, SampleSink)
        stream, markers = inlet(lsl, name), inlet(lsl, f"{name}-events")
        assert stream.info().nominal_srate() == 100.0
        assert "<unit>g</unit>" in stream.info().as_xml()
        assert "candidates" in markers.info().as_xml()
        stamps: list[float] = []
        seen = 0
        with Session(player, sinks=[outlet], duration=800.0) as session:
            for chunk, events in session:
                got, at = pull(stream, len(chunk))
                np.testing.assert_array_equal(
                    np.array(got, np.float32).reshape(-1, 3), chunk.xyz, f"chunk at {chunk.index}"
                )
                stamps += at
                seen += len(chunk)
                rows += list(events)
            marks, marked = pull(markers, len(rows))
    assert seen == len(stamps) == 80000
    # Regular in the recording's own time, whatever the speed.
    np.testing.assert_allclose(np.array(stamps) - stamps[0], np.arange(80000) / 100.0, atol=1e-6)
    assert any(row["label"] == "hypnic_jerk" for row in rows)
    assert [label for label, _ in marks] == [str(row["label"]) for row in rows]
    told = [json.loads(text) for _, text in marks]
    assert [(row["id"], row["revision"]) for row in told] == [(row["id"], row["revision"]) for row in rows]
    # A row is stamped by its onset, not by when it came.
    for row, at in zip(rows, marked, strict=True):
        assert at - stamps[0] == pytest.approx(row["sample"] / 100.0, abs=1e-6)


def test_gaps_clock_and_speed(lsl: Any) -> None:
    from hypnic.export.lsl import LslOutlet

    name = f"hypnic-{uuid.uuid4().hex}"
    xyz = np.zeros((400, 3), np.float32)
    outlet = LslOutlet(Player(ArraySource(xyz, 100.0), 2.0), name)
    stream, markers = inlet(lsl, name), inlet(lsl, f"{name}-events")
    before = lsl.local_clock()
    # The board's clock says that the second chunk is 2.6 s later, where the nominal rate says 2.5 s.
    outlet.take_samples(Chunk(xyz[:200], 0, time=1000.0))
    outlet.take_samples(Chunk(xyz[:0], 200))
    outlet.take_samples(Chunk(xyz[200:], 250, time=1002.6, missing=50))
    after = lsl.local_clock()
    rows = np.zeros(2, EVENT_DTYPE)
    rows["sample"], rows["label"] = (150, 260), "hypnic_jerk"
    outlet.take(Events(rows))
    _, stamps = pull(stream, 400)
    assert len(stamps) == 400
    assert stream.info().nominal_srate() == 200.0  # as it is heard at twice the speed
    assert before - 1e-3 <= stamps[0] + 200 / 200.0 <= after + 1e-3
    assert stamps[200] - stamps[0] == pytest.approx(2.6 / 2, abs=1e-6)
    np.testing.assert_allclose(np.diff(stamps[200:]), 1 / 200, atol=1e-6)
    _, marked = pull(markers, 2)
    assert marked[0] == pytest.approx(stamps[150], abs=1e-6)
    assert marked[1] == pytest.approx(stamps[210], abs=1e-6)
    outlet.finish(Events(rows))
    outlet.close()


def test_the_command_takes_it(lsl: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hypnic", "replay", str(NIGHT), "--speed", "inf", "--duration", "60", "--lsl"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ended by duration" in done.stdout


def test_a_board_is_received(lsl: Any) -> None:
    xyz = restless(60)
    with Board(xyz, speed=1.0) as board:
        process = subprocess.Popen(
            [sys.executable, "-m", "hypnic", "stream", board.path, "--lsl"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            found = lsl.resolve_byprop("source_id", f"hypnic-{process.pid}", timeout=PATIENCE)
            if not found:
                pytest.skip("this machine's network shows no LSL stream, not even its own")
            stream = lsl.StreamInlet(found[0])
            got, stamps = pull(stream, 300)
            now = lsl.local_clock()
        finally:
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert len(got) == 300
    # An unbroken run of the board's samples, wherever the receiver came in; in counts of its range.
    samples = np.array(got)
    runs = np.lib.stride_tricks.sliding_window_view(xyz, 20, axis=0)
    first = int(np.argmin(np.abs(runs - samples[:20].T).sum(axis=(1, 2))))
    np.testing.assert_allclose(samples, xyz[first : first + 300], atol=1e-3)
    # Stamped by when they were taken: 100 a second, the last not long ago.
    assert (stamps[-1] - stamps[0]) / 299 == pytest.approx(0.01, rel=0.1)
    assert -1.0 < now - stamps[-1] < PATIENCE


def test_without_pylsl(monkeypatch: pytest.MonkeyPatch) -> None:
    from hypnic.export.lsl import LslOutlet

    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(hypnic.UsageError, match=r"needs pylsl: pip install 'hypnic\[lsl\]'"):
        LslOutlet(ArraySource(np.zeros((1, 3)), 100.0))
