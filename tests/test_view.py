"""The live page: what a browser shows of a session, what its button leaves in the night, whom the server refuses."""

from __future__ import annotations

import asyncio
import http.server
import importlib.resources
import json
import math
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hypnic
from hypnic.chunk import Chunk
from hypnic.detector import Detector, detect
from hypnic.errors import UsageError
from hypnic.live import Player, Session, prepare
from hypnic.recording import Recorder, Recording, pack
from hypnic.view.recent import COUNTS_PER_G, Bins, Cursor, Recent
from tests.played import Board, restless
from tests.signals import pieces, quiet
from tests.test_cli_live import start

pytest.importorskip("starlette", reason="the extra view is not installed")
pytest.importorskip("uvicorn", reason="the extra view is not installed")
websockets = pytest.importorskip("websockets", reason="the extra view is not installed")

from websockets.asyncio.client import connect as connect_later  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from hypnic.view import View, server  # noqa: E402

RATE = 100.0
START = 1.7e9
PATIENCE = 60.0
"""Seconds within which anything that is waited for must have come."""


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Compile the detector before anything waits for it."""
    prepare()


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)
    return found


class Steps:
    """A source that hands over what the test feeds it, when the test feeds it.

    Its speed is infinite: time is what has been fed, so a press falls on the newest sample exactly.
    """

    rate = RATE
    site = "wrist"
    speed = math.inf
    sensor = ""
    status = "streaming"

    def __init__(self) -> None:
        self.fed = 0
        self.warnings: tuple[str, ...] = ()
        self._queue: queue.Queue[Chunk | None] = queue.Queue()

    def feed(self, xyz: np.ndarray, missing: int = 0) -> None:
        for low in range(0, len(xyz), 50):
            piece = xyz[low : low + 50]
            self.fed += missing
            self._queue.put(
                Chunk(piece, self.fed, START + self.fed / RATE, missing, "test" if missing else "")
            )
            self.fed += len(piece)
            missing = 0

    def stop(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            try:
                chunk = self._queue.get(timeout=0.05)
            except queue.Empty:
                chunk = Chunk(np.empty((0, 3), np.float32), self.fed)
            if chunk is None:
                return
            yield chunk

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Live:
    """A session with its page, run in a thread of its own until it is ended."""

    def __init__(self, source: Any, view: View, **options: Any) -> None:
        self.source, self.view = source, view
        self.title = options.pop("title", "a test")
        self.session = Session(source, durable=False, **options)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self.session:
                for _ in self.view.watch(self.session, self.title):
                    pass
        except BaseException as error:
            self.failure = error

    def end(self) -> None:
        self.session.stop("the test")
        self.join()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def reached(self, samples: int) -> None:
        wait_until(lambda: self.failure or self.session.elapsed * RATE >= samples)


@contextmanager
def live(view: View | None = None, **options: Any) -> Iterator[Live]:
    """Run a session of `Steps` with its page."""
    with view or View(0) as view:
        running = Live(Steps(), view, **options)
        try:
            yield running
        finally:
            running.end()
        assert not view.problem


def marks_in(night: Path, folder: Path) -> list[tuple[float, float, str, str]]:
    """Return the annotations that a program sees now, or saw if the recorder died now: a copy, by plain h5py."""
    with h5py.File(shutil.copy(night, folder / "copy.h5")) as file:
        return [
            (float(row["onset"]), float(row["duration"]), row["label"].decode(), row["source"].decode())
            for row in file["annotations"][:]
        ]


def agrees(night: Path) -> hypnic.Events:
    """Check that the events of a night are, to the byte, what detecting in it gives."""
    with Recording(night) as recording:
        found, own = detect(recording), recording.events()
        assert own is not None
        assert own.array.tobytes() == found.array.tobytes()
    return found


def read(page: Any) -> dict[str, Any]:
    """Return the next message of a WebSocket as what it says."""
    message: dict[str, Any] = json.loads(page.recv(timeout=PATIENCE))
    return message


def read_on(page: Any) -> None:
    """Read until the WebSocket is closed, which raises."""
    while True:
        page.recv(timeout=PATIENCE)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def address(view: View) -> str:
    return view.url.replace("http:", "ws:") + "live"


def origin(view: View) -> str:
    return view.url.split("/")[0] + "//" + view.url.split("/")[2]


def port_of(view: View) -> int:
    return int(view.url.split("/")[2].rpartition(":")[2])


# The picture


@settings(max_examples=40)
@given(
    what=pieces, cuts=st.lists(st.integers(0, 10**6), max_size=8), rate=st.sampled_from([25.0, 97.0, 400.0])
)
def test_bins_are_those_of_all_samples_in_whatever_pieces(what: Any, cuts: list[int], rate: float) -> None:
    xyz = what.xyz(rate)
    bins, found = Bins(rate), []
    edges = sorted({0, len(xyz), *(cut % max(1, len(xyz)) for cut in cuts)})
    for low, high in pairwise(edges):
        found += bins.add(xyz[low:high])
    expected = []
    for number in range(len(xyz) // bins.size):
        part = xyz[number * bins.size : (number + 1) * bins.size].astype(float)
        span = []
        for axis in range(3):
            valid = [value for value in part[:, axis] if not math.isnan(value)]
            span += [min(valid), max(valid)] if valid else [math.nan] * 2
        if not any(map(math.isnan, span)):
            expected.append((number, [round(min(max(v, -1e3), 1e3) * COUNTS_PER_G) for v in span]))
    assert [number for number, _ in found] == [number for number, _ in expected]
    if found:
        np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1)


def test_a_hole_keeps_the_number_of_what_follows() -> None:
    bins = Bins(RATE)
    assert bins.size == 5
    assert [number for number, _ in bins.add(quiet(0.12, RATE))] == [0, 1]
    # What was held before the hole is shown, however little it was.
    assert [number for number, _ in bins.add(quiet(0.10, RATE), missing=100)] == [2, 22, 23]
    assert [number for number, _ in bins.add(quiet(0.03, RATE))] == [24]


def test_levels_are_the_detectors_own_in_any_pieces() -> None:
    xyz = restless(40)
    whole, split = Detector(RATE), Detector(RATE)
    whole.push(xyz)
    opened = []
    for low in range(0, len(xyz), 7):
        split.push(xyz[low : low + 7])
        now = split.levels()
        if len(now.energy) and now.threshold < math.inf:
            opened.append((now.energy[-1] > now.threshold, now.open))
    a, b = whole.levels(64), split.levels(64)
    assert a.energy.tobytes() == b.energy.tobytes()
    assert a.samples.tolist() == b.samples.tolist()
    assert len(a.energy) == 64
    assert set(np.diff(a.samples)) == {10}
    assert a.samples[-1] == len(xyz)
    assert (a.background, a.threshold, a.open) == (b.background, b.threshold, b.open)
    assert 0 < a.background < a.threshold < math.inf
    # What is above the threshold has opened an event.
    assert sum(above for above, _ in opened) > 5
    # Or had, and has ended while the filters still ring.
    assert all(
        any(o for _, o in opened[max(0, k - 15) : k + 1]) for k, (above, _) in enumerate(opened) if above
    )
    fresh = Detector(RATE).levels(64)
    assert len(fresh.energy) == 0
    assert math.isnan(fresh.background)
    assert fresh.threshold == math.inf


def test_a_reader_that_was_away_gets_the_newest_minute_and_every_event() -> None:
    source = Steps()
    session = Session(source)
    recent = Recent(session, None)
    source.feed(restless(100))
    source.stop()
    seen, cursor, halfway = Cursor(), Cursor(), None
    for update in session:
        recent.add(update)
        if session.elapsed >= 90 and halfway is None:
            halfway, cursor = recent.since(cursor)
    assert halfway is not None
    later, _ = recent.since(cursor)
    everything, after = recent.since(seen)
    spans = [run[0] for run in everything["bins"]]
    assert spans == [(100 - 60) * 20]
    assert len(everything["bins"][0]) == 1 + 6 * 60 * 20
    events = {row["id"]: row for part in (halfway, later) for row in part["events"]}
    assert events == {row["id"]: row for row in everything["events"]}
    assert [(row["id"], row["label"]) for row in everything["events"]] == [
        (row["id"], row["label"]) for row in sorted(session.events, key=lambda row: row["id"])
    ]
    skipped, _ = recent.since(cursor, skip=True)
    assert skipped["skipped"] == pytest.approx(10.0, abs=0.1)
    assert "bins" not in skipped
    assert skipped["events"] == later["events"]
    assert recent.since(after)[0] == {}
    assert json.loads(json.dumps(everything, allow_nan=False)) == json.loads(json.dumps(everything))


# Marks


def test_marks_are_dated_anew_where_the_rate_turns_out_to_be_another(tmp_path: Path) -> None:
    class Measured(Steps):
        clock_residual = 0.001
        detection_rate: float | None = None

    source = Measured()
    with Session(source, record=tmp_path / "n.h5", durable=False) as session:
        source.feed(restless(20))
        updates = iter(session)
        while session.elapsed < 10:
            next(updates)
        first = session.mark(500)
        second = session.mark(600, "woke", "diary")
        while session.elapsed < 15:
            next(updates)
        assert [row[0] for row in marks_in(tmp_path / "n.h5", tmp_path)] == [5.0, 6.0]
        source.detection_rate = 104.0
        session.unmark(second)
        session.unmark(99)
        next(updates)
        assert [mark.number for mark in session.marks] == [first]
        source.stop()
        session.mark(700)
        for _ in updates:
            pass
    with Recording(tmp_path / "n.h5") as night:
        assert night.annotations.tolist() == [
            (pytest.approx(500 / 104), 0.0, "felt", "button"),
            (pytest.approx(700 / 104), 0.0, "felt", "button"),
        ]


def test_a_mark_needs_a_night() -> None:
    session = Session(Steps())
    with pytest.raises(UsageError, match="none is recorded"):
        session.mark(0)
    # A page may ask for it all the same: nothing of that is kept.
    session.unmark(7)
    assert not session._wishes


def test_what_is_withdrawn_is_gone_for_every_reader_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    with Recorder(path, RATE, dtype="float32", durable=False) as recorder:
        recorder.write(Chunk(quiet(5, RATE), 0, START))
        numbers = [recorder.annotate(k, 0.0, "felt", "button") for k in range(4)]
        recorder.withdraw(numbers[1])
        recorder.amend(numbers[2], 2.5, 0.0, "felt", "button")
        recorder.withdraw(numbers[3])
        with pytest.raises(UsageError, match="no annotation 4"):
            recorder.withdraw(4)
        # As after a kill: whole, and the taken back ones say so.
        left = marks_in(path, tmp_path)
        assert [row[0] for row in left] == [0.0, 1.0, 2.5, 3.0]
        assert [row[2] for row in left] == ["felt", "withdrawn", "felt", "withdrawn"]
        with Recording(tmp_path / "copy.h5") as cut_off:
            assert cut_off.annotations["onset"].tolist() == [0.0, 2.5]
        pack(tmp_path / "copy.h5")
    for night in (path, tmp_path / "copy.h5"):
        with h5py.File(night) as file:
            assert file["annotations"]["onset"].tolist() == [0.0, 2.5]


# In a browser


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.locator(selector).all_inner_texts()
    return found


def until(page: Any, condition: str, argument: Any = None) -> None:
    page.wait_for_function(condition, arg=argument, timeout=1000 * PATIENCE)


PICTURE = "id => document.getElementById(id).toDataURL()"


def test_the_page_shows_the_signal_and_events_as_they_come(page: Any, tmp_path: Path) -> None:
    # What follows the last event makes it final.
    xyz = np.concatenate([restless(70), quiet(10, RATE)])
    with live(record=tmp_path / "n.h5", title="night.h5, 100 Hz, wrist") as running:
        page.goto(running.view.url)
        running.source.feed(xyz[:2000])
        until(page, "() => document.getElementById('elapsed').textContent === '0:00:20'")
        pictures = [page.evaluate(PICTURE, name) for name in ("trace", "energy")]
        assert page.title() == "hypnic · night.h5, 100 Hz, wrist"
        # Feed on until an event is there that is not final yet.
        at = 2000
        while not texts(page, "#events .provisional"):
            assert at < 6000
            running.source.feed(xyz[at : at + 50])
            at += 50
            running.reached(at)
            page.wait_for_timeout(250)
        item = page.locator("#events .provisional").first
        number = item.get_attribute("data-id")
        assert "provisional" in item.inner_text()
        running.source.feed(xyz[at:])
        running.reached(len(xyz))
        # Its final row takes its place.
        until(page, "id => !document.querySelector(`[data-id='${id}'].provisional`)", number)
        assert page.locator(f"#events [data-id='{number}']").count() == 1
        until(page, "() => document.getElementById('elapsed').textContent === '0:01:20'")
        until(page, "([a, b]) => document.getElementById('trace').toDataURL() !== a", pictures)
        assert page.evaluate(PICTURE, "energy") != pictures[1]
        shown = {
            int(n)
            for n in page.evaluate("[...document.querySelectorAll('#events li')].map(i => i.dataset.id)")
        }
        assert shown == set(running.session.events["id"].tolist())
        assert page.locator("#announce").get_attribute("aria-live") == "polite"
        # A page that comes late, or again, has the same.
        until(page, "() => !document.querySelector('.provisional')")
        before = texts(page, "#events li")
        page.reload()
        until(page, "n => document.querySelectorAll('#events li').length === n", len(before))
        assert texts(page, "#events li") == before
        until(page, "() => document.getElementById('rest').textContent.length > 2")
        assert page.locator("#lost").inner_text() == "none"
        running.source.feed(quiet(1, RATE), missing=900)
        until(page, "() => document.getElementById('lost').textContent === '10.0 %'")
        running.session.stop("the test")
        until(page, "() => document.getElementById('link-text').textContent === 'ended by the test'")
        assert page.locator("#felt").is_disabled()
    agrees(tmp_path / "n.h5")


def test_a_press_is_in_the_night_at_its_time_and_can_be_undone(page: Any, tmp_path: Path) -> None:
    night = tmp_path / "n.h5"
    with live(record=night) as running:
        page.goto(running.view.url)
        running.source.feed(quiet(12.34, RATE))
        running.reached(1234)
        until(page, "() => !document.getElementById('felt').disabled")
        page.click("#felt")
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
        until(page, "() => /^Marked at/.test(document.getElementById('felt-said').textContent)")
        # At once as safe as samples are: a copy is what a crash would leave.
        wait_until(lambda: marks_in(night, tmp_path) == [(12.34, 0.0, "felt", "button")])

        running.source.feed(quiet(5, RATE))
        running.reached(1734)
        page.keyboard.press("f")
        until(page, "() => document.querySelectorAll('#events .mark').length === 2")
        page.keyboard.press("u")
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
        assert "0:00:12.3" in texts(page, "#events .mark")[0]
        wait_until(lambda: [row[2] for row in marks_in(night, tmp_path)] == ["felt", "withdrawn"])

        # Without the keys a letter does nothing.
        page.uncheck("#keys")
        page.keyboard.press("f")
        running.source.feed(quiet(1, RATE))
        running.reached(1834)
        page.reload()
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
        assert not page.is_checked("#keys")
        page.focus("#felt")
        page.keyboard.press("Enter")
        until(page, "() => document.querySelectorAll('#events .mark').length === 2")
        page.locator("#events .mark button").last.click()
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
    with Recording(night) as recording:
        assert recording.annotations.tolist() == [(18.34, 0.0, "felt", "button")]


def test_where_nothing_is_recorded_the_button_says_so(page: Any) -> None:
    with live() as running:
        page.goto(running.view.url)
        running.source.feed(quiet(1, RATE))
        until(page, "() => /Nothing is recorded/.test(document.getElementById('felt-said').textContent)")
        assert page.locator("#felt").is_disabled()


class Proxy(threading.Thread):
    """A way to a port that can be cut, and mended."""

    def __init__(self, to: int) -> None:
        super().__init__(daemon=True)
        self._to, self._pairs = to, []
        self._lock = threading.Lock()
        self._over = self._cut = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                if self._cut or self._over:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._pairs += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, is_cut: bool) -> None:
        with self._lock:
            self._cut = is_cut
            pairs, self._pairs = self._pairs, []
        for end in pairs if is_cut else ():
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        if not is_cut:
            with self._lock:
                self._pairs += pairs

    def close(self) -> None:
        self._over = True
        self.cut(True)
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.join()


def test_a_press_waits_for_a_connection_that_was_lost(page: Any, tmp_path: Path) -> None:
    night = tmp_path / "n.h5"
    with live(record=night) as running:
        proxy = Proxy(port_of(running.view))
        page.goto(f"http://localhost:{proxy.port}/")
        running.source.feed(quiet(3, RATE))
        running.reached(300)
        until(page, "() => document.getElementById('link').dataset.state === 'live'")
        until(page, "() => !document.getElementById('felt').disabled")
        proxy.cut(True)
        until(page, "() => document.getElementById('link-text').textContent === 'no connection to hypnic'")
        page.click("#felt")
        until(page, "() => /1 kept/.test(document.getElementById('felt-said').textContent)")
        assert not running.session.marks
        proxy.cut(False)
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
        wait_until(lambda: marks_in(night, tmp_path) == [(3.0, 0.0, "felt", "button")])
        proxy.close()


def test_a_page_whose_server_has_gone_says_so_and_finds_the_next(page: Any, tmp_path: Path) -> None:
    with live(record=tmp_path / "a.h5") as running:
        port = port_of(running.view)
        page.goto(running.view.url)
        running.source.feed(restless(30))
        until(page, "() => document.querySelectorAll('#events li').length > 0")
    until(page, "() => document.getElementById('link-text').textContent.startsWith('ended by')")
    with live(View(port), record=tmp_path / "b.h5", title="the next") as running:
        running.source.feed(quiet(2, RATE))
        until(page, "() => document.getElementById('title').textContent === 'the next'")
        assert page.locator("#events li").count() == 0
        until(page, "() => document.getElementById('link').dataset.state === 'live'")


def test_what_a_board_calls_itself_is_no_markup(page: Any, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    source = Steps()
    source.warnings = (hostile,)
    with View(0) as view:
        running = Live(source, view, title=f"/dev/ttyUSB0: {hostile}", record=tmp_path / "n.h5")
        page.goto(view.url)
        source.feed(quiet(2, RATE))
        until(page, "() => document.querySelectorAll('#warnings li').length === 1")
        assert texts(page, "#warnings li") == [hostile]
        assert page.locator("#title").inner_text() == f"/dev/ttyUSB0: {hostile}"
        assert page.locator("main img, main script, #title *").count() == 0
        running.end()
    # Nothing is asked of anybody else either.
    assert all(url.startswith((view.url, address(view))) for url in asked)
    assert len(asked) >= 4


FOREIGN = """
<!doctype html><title>foreign</title><script>
window.run = async (base) => {
  const found = {};
  found.socket = await new Promise((done) => {
    const socket = new WebSocket(base.replace('http', 'ws') + 'live');
    socket.onopen = () => { socket.send('{"press":"abc","age":0}'); };
    socket.onmessage = () => done('read');
    socket.onclose = (event) => done('closed ' + event.code);
  });
  found.fetch = await fetch(base).then(r => r.text()).then(() => 'read', () => 'refused');
  found.opaque = await fetch(base, {mode: 'no-cors'}).then(r => r.type + r.status, () => 'refused');
  found.post = await fetch(base + 'live', {method: 'POST', mode: 'no-cors', body: '{"press":"abc","age":0}'})
    .then(r => r.type + r.status, () => 'refused');
  found.script = await new Promise((done) => {
    const script = document.createElement('script');
    script.src = base + 'page.js';
    script.onload = () => done('loaded');
    script.onerror = () => done('refused');
    document.head.append(script);
  });
  found.frame = await new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.src = base;
    frame.onload = () => {
      try { done(frame.contentDocument ? frame.contentDocument.title || 'empty' : 'foreign to us'); }
      catch { done('foreign to us'); }
    };
    document.body.append(frame);
  });
  return found;
};
</script><body>
"""


def test_a_page_of_another_site_reads_nothing_and_presses_nothing(page: Any, tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(FOREIGN.encode())

        def log_message(self, *words: object) -> None:
            return None

    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=foreign.serve_forever)
    thread.start()
    try:
        with live(record=tmp_path / "n.h5") as running:
            running.source.feed(restless(20))
            running.reached(2000)
            for host in ("127.0.0.1", "localhost"):
                page.goto(f"http://{host}:{foreign.server_port}/")
                found = page.evaluate("base => run(base)", running.view.url)
                assert found["socket"] == "closed 1006"
                assert found["fetch"] == "refused"
                assert found["opaque"] == "refused"  # by its cross-origin-resource-policy
                assert found["post"] == "refused"
                assert found["script"] == "refused"
                # The frame holds the browser's own error page, which is neither ours nor theirs.
                assert found["frame"] == "foreign to us"
                assert all("hypnic" not in frame.content() for frame in page.frames[1:])
            running.source.feed(quiet(1, RATE))
            running.reached(2100)
            assert not running.session.marks
            # The very socket that the page itself may open.
            with connect(address(running.view), origin=origin(running.view)) as own:
                assert "hello" in read(own)
    finally:
        foreign.shutdown()
        foreign.server_close()
        thread.join()


def test_it_fits_a_phone_and_every_look(page: Any, tmp_path: Path) -> None:
    with live(record=tmp_path / "n.h5") as running:
        running.source.feed(restless(40))
        for width, height in ((1280, 800), (390, 844), (320, 568)):
            page.set_viewport_size({"width": width, "height": height})
            page.goto(running.view.url)
            until(page, "() => document.querySelectorAll('#events li').length > 1")
            until(page, "() => !document.getElementById('felt').disabled")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            box = page.locator("#felt").bounding_box()
            # In sight and large enough for a thumb, without scrolling.
            assert box["y"] + box["height"] <= height
            assert box["height"] >= 44
            assert box["width"] >= 200
        page.emulate_media(reduced_motion="reduce")  # colours change at once
        for look in ("light", "dark", "night"):
            page.select_option("#look", look)
            contrasts = page.evaluate(CONTRASTS)
            assert min(contrasts.values()) >= 4.5, (look, contrasts)
        assert page.evaluate(
            "[...document.querySelectorAll('button, select, input')].every(e => e.innerText || e.labels?.length)"
        )


CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  const words = ['#rest', 'dt', '.accent dd', '#felt', '#felt-said', '#title', 'figcaption span', '.since', 'footer p'];
  for (const selector of words) {
    const element = document.querySelector(selector);
    let under = element;
    while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentElement;
    const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(under).backgroundColor)];
    found[selector] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""


# Whom the server refuses


def ask(view: View, request: bytes) -> bytes:
    """Send bytes and return all that is answered."""
    with socket.create_connection(("127.0.0.1", port_of(view)), timeout=PATIENCE) as line:
        with suppress(OSError):
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while data := line.recv(65536):
                answer += data
        return answer


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: HERE\r\n\r\n", 200),
        (b"HEAD /page.js HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 192.168.1.9\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: HERE@evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nOrigin: null\r\n\r\n", 403),
        (b"GET /live HTTP/1.1\r\nHost: HERE\r\nOrigin: http://evil.example\r\n" + UPGRADE + b"\r\n", 403),
        (
            b"GET /live HTTP/1.1\r\nHost: HERE\r\nOrigin: http://HERE.evil.example\r\n" + UPGRADE + b"\r\n",
            403,
        ),
        (b"GET /live HTTP/1.1\r\nHost: HERE\r\nOrigin: https://HERE\r\n" + UPGRADE + b"\r\n", 403),
        (b"GET /live HTTP/1.1\r\nHost: HERE\r\n" + UPGRADE + b"\r\n", 403),
        (
            b"GET /live HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
            + UPGRADE
            + b"\r\n",
            421,
        ),
        (b"GET /else HTTP/1.1\r\nHost: HERE\r\nOrigin: http://HERE\r\n" + UPGRADE + b"\r\n", 404),
        (
            b"GET /live HTTP/1.1\r\nHost: HERE\r\nOrigin: http://HERE\r\n" + UPGRADE[:41] + b"\r\n",
            400,
        ),
        (b"GET /live HTTP/1.1\r\nHost: HERE\r\n\r\n", 404),
        (b"GET /../page.js HTTP/1.1\r\nHost: HERE\r\n\r\n", 404),
        (b"GET /page.js/ HTTP/1.1\r\nHost: HERE\r\n\r\n", 404),
        (b"GET /%2e%2e/server.py HTTP/1.1\r\nHost: HERE\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 0\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 3\r\n\r\nx=1", 413),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\nX: " + b"x" * 17_000, 400),
        (b"GET /\xff HTTP/1.1\r\nHost: HERE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", 421),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), 400),
        (b"hello\r\n\r\n", 400),
    ],
)
def test_who_is_answered(
    request_: bytes, status: int, served: View, capfd: pytest.CaptureFixture[str]
) -> None:
    here = f"127.0.0.1:{port_of(served)}".encode()
    answer = ask(served, request_.replace(b"HERE", here))
    assert int(answer.split(b" ", 2)[1]) == status, answer[:200]
    if status != 400:
        head = answer.partition(b"\r\n\r\n")[0].lower()
        for name, value in server.HEADERS.items():
            assert f"\r\n{name}: {value}".lower().encode() in head
    assert b"access-control" not in answer.lower()
    assert not served.problem
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def served() -> Iterator[View]:
    with View(0) as view:
        yield view


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "null",
        "[" * 900,
        "1e999",
        b"\x00\xff",
        '{"press": "a b", "age": 0}',
        '{"press": "abc", "age": -1}',
        '{"press": "abc", "age": 1e9}',
        '{"press": "abc", "age": NaN}',
        '{"press": "abc", "age": true}',
        '{"press": 5, "age": 0}',
        '{"undo": "1"}',
        '{"undo": true}',
        '{"else": 1}',
        "x" * 5000,
    ],
)
def test_what_is_no_message_closes_the_page(
    said: str | bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with live(record=tmp_path / "n.h5") as running:
        running.source.feed(quiet(1, RATE))
        with connect(address(running.view), origin=origin(running.view)) as page:
            assert "hello" in read(page)
            page.send(said)
            with pytest.raises(ConnectionClosed) as closed:
                read_on(page)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == (1009 if len(said) > 1024 else 1008)
    assert not running.session.marks
    assert capfd.readouterr() == ("", "")


def test_a_page_that_presses_without_end_is_closed(tmp_path: Path) -> None:
    with live(record=tmp_path / "n.h5") as running:
        running.source.feed(quiet(1, RATE))
        running.reached(100)
        with connect(address(running.view), origin=origin(running.view)) as page:
            read(page)
            with suppress(ConnectionClosed):
                for k in range(100):
                    page.send(json.dumps({"press": f"key-{k}", "age": 0}))
            with pytest.raises(ConnectionClosed, match="too many messages"):
                read_on(page)
    assert len(running.session.marks) == server.MOST_MESSAGES[0]


def test_the_same_press_twice_is_one_mark(tmp_path: Path) -> None:
    with live(record=tmp_path / "n.h5") as running:
        running.source.feed(quiet(1, RATE))
        running.reached(100)
        for _ in range(2):
            with connect(address(running.view), origin=origin(running.view)) as page:
                page.send('{"press": "abc", "age": 0.25}')
                while not any(mark["key"] == "abc" for mark in read(page).get("marks", [])):
                    pass
        assert len(running.session.marks) == 1


def test_opened_wider_it_takes_the_token_and_no_name_of_others() -> None:
    with View(0, "0.0.0.0") as view:
        token = view.url.rstrip("/").rpartition("/")[2]
        assert re.fullmatch(r"[\w-]{22}", token)
        for path, status in (("/", 404), ("/page.js", 404), (f"/{token}/", 200), (f"/{token}/page.js", 200)):
            for host in ("127.0.0.1", "192.168.1.9:8321", "localhost", socket.gethostname()):
                answer = ask(view, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert int(answer.split(b" ", 2)[1]) == status, (path, host)
        evil = f"GET /{token}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
        assert b" 421 " in ask(view, evil).splitlines()[0]
        here = f"127.0.0.1:{port_of(view)}"
        with pytest.raises(InvalidStatus, match="404"):
            connect(f"ws://{here}/live", origin=f"http://{here}")
        with connect(f"ws://{here}/{token}/live", origin=f"http://{here}"):
            wait_until(lambda: view.pages == 1)
    with View(0, "127.0.0.1") as view:
        assert view.url.count("/") == 3


def test_idle_connections_are_few_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
    monkeypatch.setattr(server, "HEADER_PATIENCE", 0.5)
    with View(0) as view:
        lines = [socket.create_connection(("127.0.0.1", port_of(view)), timeout=PATIENCE) for _ in range(8)]
        try:
            lines[0].send(b"GET / HT")
            for line in lines:
                with suppress(ConnectionError):
                    assert line.recv(1) == b""
            assert b" 200 " in ask(view, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        finally:
            for line in lines:
                line.close()


def test_a_second_request_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_PATIENCE", 0.5)
    whole = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with View(0) as view, socket.create_connection(("127.0.0.1", port_of(view)), timeout=PATIENCE) as line:
        line.sendall(whole)
        assert b" 200 " in line.recv(65536).splitlines()[0]
        line.settimeout(0.1)
        deadline = time.monotonic() + PATIENCE
        line.sendall(whole[:20])
        # A byte now and then does not buy time.
        while time.monotonic() < deadline:
            try:
                line.sendall(b"x")
                if line.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection was never given up")
        assert b" 200 " in ask(view, whole)


def test_answers_that_nobody_takes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_PATIENCE", 0.5)
    with View(0) as view, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.settimeout(PATIENCE)
        line.connect(("127.0.0.1", port_of(view)))
        wait_until(lambda: view._server.server_state.connections)
        with suppress(ConnectionError):
            line.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        wait_until(lambda: not view._server.server_state.connections)


def test_no_more_pages_than_can_be_served(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_PAGES", 1)
    with live() as running:
        running.source.feed(quiet(1, RATE))
        with connect(address(running.view), origin=origin(running.view)) as first:
            assert "hello" in read(first)
            page.goto(running.view.url)
            until(
                page,
                "() => /1 pages are open already/.test(document.getElementById('link-text').textContent)",
            )
        # And it takes the place that becomes free.
        until(page, "() => document.getElementById('link').dataset.state === 'live'")


# Many, and slow ones


class Deaf:
    """A client that opens the socket and never reads."""

    def __init__(self, view: View) -> None:
        self.line = socket.socket()
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.line.connect(("127.0.0.1", port_of(view)))
        here = f"127.0.0.1:{port_of(view)}".encode()
        self.line.sendall(
            b"GET /live HTTP/1.1\r\nHost: "
            + here
            + b"\r\nOrigin: http://"
            + here
            + b"\r\n"
            + UPGRADE
            + b"\r\n"
        )


def masked(opcode: int, body: bytes = b"", final: bool = True) -> bytes:
    """Return a frame as a client sends it, its mask zero."""
    return bytes([opcode | 128 * final, 128 | len(body), 0, 0, 0, 0]) + body


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        pytest.param(b"", masked(9, b"x" * 125), id="pings"),
        pytest.param(masked(1, b"{", final=False), masked(0, final=False), id="empty parts"),
        pytest.param(masked(1, b"{", final=False), masked(0, b"x" * 100, final=False), id="parts"),
    ],
)
def test_what_a_deaf_page_sends_for_ever_is_not_kept(
    first: bytes, endless: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with live() as running:
        running.source.feed(quiet(1, RATE))
        deaf = Deaf(running.view)
        deaf.line.settimeout(PATIENCE)
        wait_until(lambda: running.view.pages == 1)
        deaf.line.sendall(first)
        held = [0]

        def flood() -> None:
            # The system's own buffers take some megabytes before anybody sees that the line was cut.
            for _ in range(100_000):
                deaf.line.sendall(endless * 100)
                connections = tuple(running.view._server.server_state.connections)
                held.extend(c.transport.get_write_buffer_size() for c in connections if c.transport)

        with pytest.raises(ConnectionError):
            flood()
        assert max(held) < 2 * server.SEND_BUFFER + 100_000
        wait_until(lambda: running.view.pages == 0)
        deaf.line.close()
    assert capfd.readouterr() == ("", "")


def test_fifty_pages_some_of_them_deaf_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_BUFFER", 4096)
    threads, files = set(threading.enumerate()), open_files()
    with hypnic.open("data/wrist_onset.h5") as night, View(0) as view:
        deaf = [Deaf(view) for _ in range(10)]
        results: list[dict[int, str]] = []

        async def follow(slow: bool) -> dict[int, str]:
            found: dict[int, str] = {}
            with suppress(ConnectionClosed):
                async with connect_later(address(view), origin=origin(view), max_size=None) as page:
                    async for text in page:
                        found |= {row["id"]: row["label"] for row in json.loads(text).get("events", ())}
                        if slow:
                            await asyncio.sleep(0.3)
            return found

        async def follow_all() -> None:
            results.extend(await asyncio.gather(*(follow(k % 4 == 0) for k in range(40))))

        followers = threading.Thread(target=lambda: asyncio.run(follow_all()))
        followers.start()
        wait_until(lambda: view.pages == 50)
        running = Live(Player(night, 1200.0), view, record=tmp_path / "n.h5")
        running.join()
        view.close()
        followers.join(PATIENCE)
        for client in deaf:
            client.line.close()
        assert not view.problem
    found = agrees(tmp_path / "n.h5")
    with hypnic.open("data/wrist_onset.h5") as night:
        assert found.array.tobytes() == detect(night).array.tobytes()
    # Those that read have every event in its last revision.
    expected = dict(zip(found["id"].tolist(), found["label"].tolist(), strict=True))
    assert len(results) == 40
    assert all(result == expected for k, result in enumerate(results) if k % 4)
    wait_until(lambda: set(threading.enumerate()) <= threads)
    wait_until(lambda: open_files() <= files)


def test_a_slow_page_is_told_what_it_missed_and_misses_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_BUFFER", 4096)
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    with live(record=tmp_path / "n.h5") as running:
        running.source.feed(quiet(1, RATE))
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.connect(("127.0.0.1", port_of(running.view)))
        # Nothing is read while minutes of signal pass, in more pieces than any buffer holds.
        with connect(
            address(running.view), origin=origin(running.view), sock=line, max_queue=1, max_size=None
        ) as page:
            assert "hello" in read(page)
            xyz = restless(600)
            for low in range(0, len(xyz), 3000):
                running.source.feed(xyz[low : low + 3000])
                running.reached(100 + low + 3000)
                time.sleep(0.15)
            skipped, events = 0.0, {}
            while len(events) < len(running.session.events) or not skipped:
                said = read(page)
                skipped += said.get("skipped", 0.0)
                events |= {row["id"]: row for row in said.get("events", ())}
            assert skipped > 10
            # And goes on from there.
            running.source.feed(quiet(1, RATE))
            while not read(page).get("bins"):
                pass


# Beginning and end


def test_a_port_that_is_taken_is_named() -> None:
    with (
        View(0) as view,
        pytest.raises(UsageError, match=rf"port {port_of(view)} of 127.0.0.1 is taken .*: choose another"),
    ):
        View(port_of(view))
    # And free again at once.
    View(port_of(view)).close()


@pytest.mark.parametrize(
    ("port", "host"), [(70_000, "127.0.0.1"), (-1, "127.0.0.1"), (0, "192.0.2.1"), (0, "no host")]
)
def test_a_place_that_is_none_is_refused(port: int, host: str) -> None:
    with pytest.raises(UsageError, match=r"is none|no address of this computer"):
        View(port, host)


def test_a_page_may_come_before_the_session_and_after_it(tmp_path: Path) -> None:
    with View(0) as view, connect(address(view), origin=origin(view)) as early:
        wait_until(lambda: view.pages == 1)
        for name in ("a", "b"):
            running = Live(Steps(), view, title=name, record=tmp_path / f"{name}.h5")
            running.source.feed(restless(30))
            running.reached(3000)
            with connect(address(view), origin=origin(view)) as page:
                assert read(page)["hello"]["title"] == name
            running.end()
            with connect(address(view), origin=origin(view)) as page:
                assert read(page)["hello"]["title"] == name
                ended, events = "", set()
                while not ended:
                    said = read(page)
                    ended = said.get("status", {}).get("ended", "")
                    events |= {row["id"] for row in said.get("events", ())}
                assert ended == "the test"
                assert events == set(running.session.events["id"].tolist())
                page.send('{"press": "late", "age": 0}')
                assert read(page) == {"refused": "the session is over", "key": "late"}
        assert read(early)["hello"]["title"] == "a"
        with pytest.raises(ConnectionClosed, match="another session has begun"):
            read_on(early)


def test_the_files_are_in_the_package() -> None:
    folder = importlib.resources.files("hypnic.view") / "page"
    assert {file.name for file in folder.iterdir()} == {name for name, _ in server.FILES.values()}
    # Nothing is asked of anyone else, and no code stands in the markup, which the policy would refuse.
    for name, _ in server.FILES.values():
        text = (folder / name).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"]*", text)) <= {"http://www.w3.org/2000/svg"}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def test_importing_hypnic_brings_no_server() -> None:
    names = "('uvicorn', 'starlette', 'websockets')"
    code = f"import sys, hypnic.cli, hypnic.live; print([m for m in {names} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_ctrl_c_ends_it_with_browsers_open(page: Any, tmp_path: Path) -> None:
    night = tmp_path / "n.h5"
    command = start(
        "replay", "data/wrist_onset.h5", "--speed", 30, "--view", "--view-port", 0, "--record", night
    )
    try:
        assert command.stdout is not None
        said = command.stdout.readline()
        url = re.fullmatch(r"live page: (http://127\.0\.0\.1:\d+/)\n", said)[1]  # type: ignore[index]
        page.goto(url)
        until(page, "() => document.getElementById('link').dataset.state === 'live'")
        until(page, "() => !document.getElementById('felt').disabled")
        page.click("#felt")
        until(page, "() => document.querySelectorAll('#events .mark').length === 1")
        # Enough to know a background.
        until(page, "() => document.getElementById('elapsed').textContent >= '0:00:20'")
        command.send_signal(signal.SIGINT)
        until(page, "() => document.getElementById('link-text').textContent === 'ended by Ctrl-C'")
        out, error = command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
        command.communicate()
    assert (command.returncode, error) == (0, "")
    assert "ended by Ctrl-C" in out
    agrees(night)
    with Recording(night) as recording:
        assert recording.annotations["label"].tolist() == ["felt"]
        assert 0 < recording.annotations["onset"][0] <= recording.duration


def test_a_board_is_seen_with_its_link(tmp_path: Path) -> None:
    with Board(restless(600), speed=1.0, holes={200: 30}) as board:
        command = start("stream", board.path, "--view", "--view-port", 0, "--record", tmp_path / "n.h5")
        try:
            assert command.stdout is not None
            url = command.stdout.readline().split()[-1]
            here = url.rstrip("/")
            with connect(url.replace("http:", "ws:") + "live", origin=here) as page:
                said = read(page)["hello"]
                assert said["title"].startswith(f"{board.path}: hypnic")
                assert said["speed"] == 1.0
                status: dict[str, Any] = {}
                while status.get("losses", {}).get("missing") != 30:
                    status = read(page).get("status", status)
                assert status["link"] == "streaming"
                board.stop()
                while status["link"] == "streaming":
                    status = read(page).get("status", status)
                assert status["link"] in ("stalled", "disconnected")
                command.send_signal(signal.SIGTERM)
                while not status.get("ended"):
                    status = read(page).get("status", status)
                assert status["ended"] == "SIGTERM"
            _, error = command.communicate(timeout=PATIENCE)
        finally:
            command.kill()
            command.communicate()
    assert (command.returncode, error) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--view-port", "0"], "--view-port says where the live page is: it needs --view"),
        (["--view-host", "::1"], "--view-host says where the live page is: it needs --view"),
        (["--view", "--view-port", "70000"], "--view: port 70000 is none"),
        (["--view", "--pty"], "--pty plays for other programs"),
    ],
)
def test_words_that_cannot_be_meant(words: list[str], said: str) -> None:
    command = start("replay", "data/wrist_onset.h5", *words)
    _, error = command.communicate(timeout=PATIENCE)
    assert command.returncode == 2
    assert len(error.splitlines()) == 1
    assert said in error
