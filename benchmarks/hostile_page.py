"""The live page under attack: whoever can reach its port, and pages of other sites in the user's own browser.

Two servers, each in a process of its own that runs and records a session on a simulated stream: one as it is by
default, for this computer alone, and one on all addresses, whose URL holds a token. The cases are drawn from a seed:

- requests under foreign names (DNS rebinding), from foreign origins, without the token or with a wrong one, for paths
  that lead out of the page, with bodies;
- what is no HTTP: random and mutated bytes, heads too large, bodies that never end, many requests at once, connections
  cut at any byte;
- handshakes and frames that are no WebSocket: random bytes, unmasked, reserved, oversized, in parts without end,
  control frames that are too long, pings that nobody reads, messages that are none.

Then 200 clients at once, 50 of which never read, and 150 connections that are held open and say nothing.

A well-behaved page is open throughout and presses its button. It fails when a foreign request gets anything of the page
or its data, when a mark is in the night that the well-behaved page did not make, when that page waits, when the session
stalls, when the memory grows by more than ``GROWTH_MB``, when a thread, connection or file descriptor is left, or when
anything listens that should not.

    python benchmarks/hostile_page.py [--cases 2000] [--seed 1]

2000 cases take some three minutes.
"""

from __future__ import annotations

import argparse
import base64
import collections
import json
import multiprocessing
import os
import random
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypnic.chunk import Chunk
from hypnic.live import Player, Session, prepare
from hypnic.recording import Recording
from hypnic.view import View
from hypnic.view.server import FILES, HEADERS, MOST_PAGES
from tests.played import restless

RATE = 100.0
START = 1.7e9
PIECE = 10

LONGEST_PAUSE_S: Final = 1.0
"""Between two pieces of the stream: a tenth of what a board's reader holds for a session that is late."""

LONGEST_NEWS_S: Final = 2.0
"""Between two messages to the well-behaved page."""

GROWTH_MB: Final = 64.0
"""128 connections with buffers of 128 KB and what Python makes of them would be half of it."""

PRESS_EVERY_S: Final = 3.0
CROWD, DEAF, HELD = 200, 50, 150
GIVEN_UP_S: Final = 60.0
"""By when connections that say nothing are given up: two pings, and some seconds."""

ANSWER_S: Final = 5.0
ATTACKERS = 6

DATA = (
    b"<html",
    b"<!doctype",
    b'"hello"',
    b'"bins"',
    b'"events"',
    b"root:",
    b"function",
    b"access-control-allow",
)
"""What an answer holds that gives something away, in lower case."""


class Endless:
    """A source of restless sleep without end."""

    rate = RATE
    site = "wrist"
    sensor = "simulated"

    def __iter__(self) -> Iterator[Chunk]:
        xyz = restless(600, RATE)
        at = 0
        while True:
            start = at % len(xyz)
            yield Chunk(xyz[start : start + PIECE], at, START + at / RATE)
            at += PIECE

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def threads_and_files() -> tuple[int, int]:
    return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir()))


def serve(host: str, night: Path, pipe: Connection) -> None:
    """Run a session with its page; tell how it goes when asked, end on ``stop``."""
    prepare()
    before = threads_and_files()
    with View(0, host) as view, Session(Player(Endless()), record=night) as session:  # type: ignore[arg-type]  # a source, for all that a player asks
        pipe.send(view.url)
        pause, last, samples, begun = 0.0, time.monotonic(), 0, 0.0
        for update in view.watch(session, "simulated"):
            if not len(update.chunk):
                continue
            now = time.monotonic()
            begun = begun or now
            pause, last = max(pause, now - last), now
            samples += len(update.chunk)
            if pipe.poll():
                said = pipe.recv()
                if said == "stop":
                    session.stop()
                    continue
                pipe.send((pause, samples / RATE - (now - begun), view.pages))
                if said == "anew":
                    pause = 0.0
        problem = view.problem
    # A thread that has ended is there for a moment more.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(
        now > then for now, then in zip(threads_and_files(), before, strict=True)
    ):
        time.sleep(0.1)
    after = threads_and_files()
    pipe.send((problem, before, after, len(session.marks), [thread.name for thread in threading.enumerate()]))


@dataclass
class Target:
    """A server and what is known of it."""

    wide: bool
    url: str
    process: Any
    pipe: Connection
    night: Path
    failures: list[str] = field(default_factory=list)
    answers: collections.Counter[str] = field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        parts = self.url.split("/")
        self.prefix = f"/{parts[3]}" if self.wide else ""
        self.port = int(parts[2].rpartition(":")[2])
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"
        self._lock = threading.Lock()

    def measure(self, anew: bool = True) -> tuple[float, float, int]:
        """Return the stream's longest pause (s), its lead (s) and its open pages; look `anew` from now on."""
        self.pipe.send("anew" if anew else "look")
        found: tuple[float, float, int] = self.pipe.recv()
        return found

    def proc(self, name: str) -> Path:
        """Return what Linux tells of the process."""
        return Path(f"/proc/{self.process.pid}/{name}")

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process."""
        pages = int(self.proc("statm").read_text().split()[1])
        return float(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    @property
    def left(self) -> tuple[int, int]:
        """Threads and file descriptors that there are."""
        return len(list(self.proc("task").iterdir())), len(list(self.proc("fd").iterdir()))

    def fail(self, kind: str, words: str) -> None:
        """Note a failure."""
        with self._lock:
            self.failures.append(f"{'open to the network' if self.wide else 'local'}, {kind}: {words}")

    def note(self, status: str) -> None:
        """Count an answer."""
        with self._lock:
            self.answers[status] += 1

    def sockets(self) -> list[tuple[str, bool]]:
        """Return address, as Linux writes it, of each TCP socket of the process, and whether it listens."""
        inodes = set()
        for entry in self.proc("fd").iterdir():
            with suppress(OSError):
                inodes.add(str(entry.readlink()).removeprefix("socket:[").rstrip("]"))
        rows = [
            row.split()
            for table in ("tcp", "tcp6")
            for row in self.proc(f"net/{table}").read_text().splitlines()[1:]
        ]
        return [(row[1], row[3] == "0A") for row in rows if row[9] in inodes]

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_S)


def status_of(answer: bytes) -> str:
    parts = answer.split(b" ", 2)
    return parts[1].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") and len(parts) > 1 else "none"


def read_answer(line: socket.socket) -> bytes:
    """Read one answer, or what there is of it when the other side closes or says no more."""
    answer = b""
    with suppress(OSError):
        while data := line.recv(65536):
            answer += data
            head, end, body = answer.partition(b"\r\n\r\n")
            if not end:
                continue
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            if length.isdigit() and len(body) >= int(length):
                break
            if answer.startswith(b"HTTP/1.1 101"):
                break
    return answer


def ask(target: Target, request: bytes) -> bytes:
    with target.connect() as line, suppress(ConnectionError):
        line.sendall(request)
        return read_answer(line)
    return b""


def handshake(
    target: Target, host: str | None = None, origin: str | None = "", prefix: str | None = None
) -> bytes:
    """Return the request of a WebSocket, the page's own where nothing else is said."""
    own = target.origin if origin == "" else origin
    lines = [
        f"GET {target.prefix if prefix is None else prefix}/live HTTP/1.1",
        f"Host: {target.host if host is None else host}",
        *([] if own is None else [f"Origin: {own}"]),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def frame(
    rng: random.Random,
    opcode: int,
    body: bytes = b"",
    final: bool = True,
    masked: bool = True,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """Return a frame that a client might send, or should not."""
    length = len(body) if length is None else length
    first = opcode | 128 * final | reserved << 4
    if length < 126:
        head = struct.pack("!BB", first, length | 128 * masked)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 126 | 128 * masked, length)
    else:
        head = struct.pack("!BBQ", first, 127 | 128 * masked, length)
    if not masked:
        return head + body
    mask = rng.randbytes(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


def refused(target: Target, kind: str, request: bytes, answer: bytes, wanted: tuple[str, ...]) -> None:
    """Note where a request was not refused as it should be, or where its answer gives something away."""
    status = status_of(answer)
    target.note(status)
    shown = f"{request[:300]!r} got {answer[:200]!r}"
    low = answer.lower()
    if status not in wanted:
        target.fail(kind, f"{'/'.join(wanted)} is right: {shown}")
    if any(mark in low for mark in DATA) or (target.prefix and target.prefix.encode() in answer):
        target.fail(kind, f"gives something away: {shown}")
    # What the HTTP layer itself refuses (400) says nothing and needs no headers.
    if status != "400":
        for name, value in HEADERS.items():
            if f"{name}: {value}".encode() not in answer:
                target.fail(kind, f"{name} is not in the answer: {shown}")


def paths(rng: random.Random, target: Target) -> str:
    return f"{target.prefix}/{rng.choice(sorted(FILES))}"


def foreign_host(rng: random.Random, target: Target) -> None:
    """Ask for the page under a name that is not its own, as after DNS rebinding."""
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789-", k=rng.randint(1, 30)))
    name = rng.choice(
        [
            *(f"{word}.example", f"127.0.0.1.{word}.example", f"localhost.{word}.example", "localhost."),
            *(
                "2130706433",
                "0x7f000001",
                "0x7f.1",
                "127.1",
                "",
                f"user@{target.host}",
                f"{target.host}/",
                "[::1",
            ),
            *(f"{target.host}, {target.host}", "\xff\xfe", f"{word}.local", f"127.0.0.1.:{target.port}", "*"),
        ]
    )
    name += rng.choice(["", f":{target.port}"]) if name.endswith("example") else ""
    origin = rng.choice([f"http://{name}", target.origin])
    if rng.random() < 0.4:
        request = handshake(target, host=name, origin=origin)
    else:
        verb = rng.choice(["GET", "POST", "HEAD", "OPTIONS"])
        twice = f"Host: {target.host}\r\n" if rng.random() < 0.1 else ""
        request = f"{verb} {paths(rng, target)} HTTP/1.1\r\n{twice}Host: {name}\r\n\r\n".encode("latin-1")
    refused(target, "foreign host", request, ask(target, request), ("421", "400"))


def foreign_origin(rng: random.Random, target: Target) -> None:
    """Come from a page of another site: browsers let it try WebSockets and posts."""
    origin = rng.choice(
        [
            *(
                "http://evil.example",
                "null",
                "file://",
                f"https://{target.host}",
                f"http://{target.host}.evil.example",
            ),
            *(
                "http://localhost:3000",
                f"http://127.0.0.1:{target.port + 1}",
                f"{target.origin}, {target.origin}",
            ),
            *(
                f"{target.origin}/",
                f" {target.origin}x",
                "http://",
                "chrome-extension://abcdef",
                "http://127.0.0.1",
            ),
        ]
    )
    way = rng.choice(["websocket", "websocket without origin", "POST", "GET", "two"])
    if way.startswith("websocket"):
        request = handshake(target, origin=None if way.endswith("origin") else origin)
    else:
        said = f"Origin: {origin}\r\n" + (f"Origin: {target.origin}\r\n" if way == "two" else "")
        verb, body = ("POST", '{"press": "evil", "age": 0}') if way == "POST" else ("GET", "")
        request = (
            f"{verb} {paths(rng, target)} HTTP/1.1\r\nHost: {target.host}\r\n{said}"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
    refused(target, "foreign origin", request, ask(target, request), ("403",))


def wrong_token(rng: random.Random, target: Target) -> None:
    """Come without the token, with a wrong one, a part of it, or the right one in the wrong place."""
    token = target.prefix[1:] or "nothing"
    wrong = rng.choice(
        [
            *(
                "",
                "/",
                "//",
                f"/{token}x",
                f"/{token[:-1]}",
                f"/{token[1:]}",
                f"/{token.swapcase()}",
                f"/%00{token}",
            ),
            *(
                f"//{token}",
                f"/./{token}",
                f"/x/../{token}",
                f"/{token}/..",
                f"/?{token}",
                f"/{token};",
                f"/{token}%2f",
            ),
            f"/{base64.urlsafe_b64encode(rng.randbytes(16)).decode().rstrip('=')}",
            f"/%{ord(token[0]):02x}{token[1:]}",
        ]
    )
    if rng.random() < 0.5:
        request = handshake(target, prefix=wrong)
    else:
        request = f"GET {wrong}/{rng.choice(sorted(FILES))} HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode()
    path = request.split(b" ")[1].partition(b"?")[0].decode()
    if not target.wide and path in {f"/{name}" for name in FILES} | {"/live"}:
        return
    refused(target, "wrong token", request, ask(target, request), ("404",))


def wandering_path(rng: random.Random, target: Target) -> None:
    """Ask for what lies outside of the page."""
    up = rng.choice(["..", "%2e%2e", ".%2e", "..%2f..", "..\\..", "..%5c..", "....//", "%c0%ae%c0%ae", "..;"])
    path = rng.choice(
        [
            f"{target.prefix}/{up}/{up}/{up}/etc/passwd",
            f"{target.prefix}/{up}/server.py",
            f"{target.prefix}/page/{up}/page.css",
            f"{target.prefix}/page.css%00.html",
            f"{target.prefix}//page.css",
            f"{target.prefix}/page.css/",
            f"{target.prefix}/PAGE.CSS",
            f"{target.prefix}/{'a/' * rng.randint(1, 3000)}",
            f"file:///etc/passwd{up}",
            f"http://evil.example{target.prefix}/{up}",
            *("*", "evil.example:80", f"{target.prefix}/index.html", f"{target.prefix}/__init__.py"),
        ]
    )
    request = f"{rng.choice(['GET', 'HEAD', 'PUT'])} {path} HTTP/1.1\r\nHost: {target.host}\r\n"
    request += "Connection: close\r\n\r\n"
    refused(target, "path", request.encode(), ask(target, request.encode()), ("404", "405", "400"))


def no_http(rng: random.Random, target: Target) -> None:
    """Send what is no request, too much of one, or a part of one."""
    whole = f"GET {target.prefix}/ HTTP/1.1\r\nHost: {target.host}\r\n".encode()
    bodied = whole.replace(b"GET", b"POST")
    kind = rng.randrange(11)
    if kind == 0:
        data = rng.randbytes(rng.randint(1, 5000))
    elif kind == 1:
        spoilt = bytearray(handshake(target) if rng.random() < 0.5 else whole + b"\r\n")
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(spoilt))
            spoilt[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
            spoilt = spoilt or bytearray(b"x")
        data = bytes(spoilt)
    elif kind == 2:
        data = whole + b"X: " + b"x" * rng.randint(1, 300_000) + rng.choice([b"", b"\r\n\r\n"])
    elif kind == 3:
        data = whole + b"".join(b"X%d: y\r\n" % number for number in range(rng.randint(1, 5000))) + b"\r\n"
    elif kind == 4:
        data = bodied + b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\nxxxxx\r\n" * rng.randint(0, 2000)
    elif kind == 5:
        data = (
            bodied
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + rng.choice([b"f" * 40, b"-1\r\n", b"5;" + b"x" * 9000])
        )
    elif kind == 6:
        data = (
            bodied
            + b"Content-Length: %d\r\n" % rng.choice([1, 10**9, 10**30])
            + rng.choice([b"", b"Expect: 100-continue\r\n"])
        )
        data += b"\r\n" + bytes(rng.randint(0, 3000))
    elif kind == 7:
        data = (whole + b"\r\n") * rng.randint(2, 300)
    elif kind == 8:
        data = rng.choice(
            [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00",
                b"GET /\r\n\r\n",
                b"\n" * 9999,
            ]
        )
    elif kind == 9:
        data = bodied + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + whole + b"\r\n"
    else:
        data = (
            whole
            + rng.choice([b" folded: x\r\n", b"X : y\r\n", b"\0: y\r\n", b"X: \r\r\n", b": y\r\n"])
            + b"\r\n"
        )
    send_and_go(rng, target, data)


def no_websocket(rng: random.Random, target: Target) -> None:
    """Spoil the handshake of the page itself, which comes as far as any can."""
    request = handshake(target)
    spoilt = rng.choice(
        [
            request.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: %d" % rng.randrange(13)),
            request.replace(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: x"),
            b"\r\n".join(line for line in request.split(b"\r\n") if b"Key" not in line),
            request.replace(b"GET", rng.choice([b"POST", b"HEAD", b"PUT"])),
            request.replace(
                b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key"
            ),
            request.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nxxxxx"),
            request.replace(
                b"\r\n\r\n", b"\r\nX: " + b"\xff" * rng.randint(16 << 10, 200 << 10) + b"\r\n\r\n"
            ),
        ]
    )
    answer = ask(target, spoilt)
    target.note(status_of(answer))
    if any(mark in answer.lower() for mark in DATA):
        target.fail("no handshake", f"{spoilt!r} got {answer[:200]!r}")


def frames(rng: random.Random) -> bytes:
    """Return frames that break the rules of WebSocket, or of this page."""
    kind = rng.randrange(14)
    said = rng.choice(
        [b"{}", b"[" * 900, b'{"press": "a b", "age": 0}', b'{"press": "abc", "age": 1e999}', b"\xff\xfe"]
    )
    if kind == 0:
        return rng.randbytes(rng.randint(1, 3000))
    if kind == 1:
        return frame(rng, rng.choice([1, 2, 8, 9]), said, masked=False)
    if kind == 2:
        return frame(rng, rng.choice([3, 4, 5, 6, 7, 11, 12, 15]), said)
    if kind == 3:
        return frame(rng, 1, said, reserved=rng.randint(1, 7))
    if kind == 4:
        return frame(rng, rng.choice([8, 9, 10]), bytes(rng.randint(126, 3000)))
    if kind == 5:
        return frame(rng, rng.choice([8, 9, 10]), b"ab", final=False)
    if kind == 6:
        return frame(rng, 0, said)
    if kind == 7:
        return frame(rng, 1, b"{", final=False) + b"".join(
            frame(rng, 0, b"x" * rng.choice([0, 0, 1, 200]), final=False) for _ in range(rng.randint(1, 500))
        )
    if kind == 8:
        return frame(
            rng,
            rng.choice([1, 2]),
            said,
            length=rng.choice([70_000, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63]),
        )
    if kind == 9:
        return frame(rng, 1, b"x" * rng.randint(1025, 200_000))
    if kind == 10:
        return b"".join(
            frame(rng, 9, rng.randbytes(rng.randint(0, 125))) for _ in range(rng.randint(1, 3000))
        )
    if kind == 11:
        return (
            frame(rng, 8, rng.choice([b"x", struct.pack("!H", rng.randrange(65536)), b"\x03\xe8\xff\xfe"]))
            + said
        )
    if kind == 12:
        odd = [
            {"press": 5, "age": 0},
            {"undo": 10**300},
            {"undo": "1"},
            {"press": "k", "age": -1},
            {"else": 1},
            [],
            None,
        ]
        return b"".join(
            frame(rng, 1, json.dumps(rng.choice(odd)).encode()) for _ in range(rng.randint(1, 50))
        )
    # Messages of the page, but of marks that nobody has made, and more than anybody sends.
    return b"".join(
        frame(rng, 1, json.dumps({"undo": 10**6 + at}).encode()) for at in range(rng.randint(1, 60))
    )


def bad_frames(rng: random.Random, target: Target) -> None:
    """Be let in as the page itself, and then break the rules."""
    if rng.random() < 0.2:
        # Frames that come with the handshake, before its answer.
        send_and_go(rng, target, handshake(target) + frames(rng))
        return
    with target.connect() as line, suppress(OSError):
        line.sendall(handshake(target))
        answer = read_answer(line)
        if status_of(answer) != "101":
            target.fail("frames", f"its own page was answered {answer[:200]!r}")
            return
        target.note("101")
        line.sendall(frames(rng))
        leave(rng, line)


def send_and_go(rng: random.Random, target: Target, data: bytes) -> None:
    """Send bytes in pieces, perhaps not all of them, look at what comes, and leave in some way."""
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data) + 1)]
    with target.connect() as line, suppress(OSError):
        at = 0
        while at < len(data):
            size = rng.choice([1, 10, 1000, 1 << 20])
            line.sendall(data[at : at + size])
            at += size
            if at > 20:
                line.sendall(data[at:])
                break
        leave(rng, line)


def leave(rng: random.Random, line: socket.socket) -> None:
    """Close a connection: rudely, half, or when some of the answer has been read."""
    way = rng.randrange(4)
    line.settimeout(rng.choice([0.01, 0.2]))
    if way == 0:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif way == 1:
        line.shutdown(socket.SHUT_WR)
        line.recv(65536)
    elif way == 2:
        line.recv(rng.choice([1, 65536]))


KINDS: Final[tuple[Callable[[random.Random, Target], None], ...]] = (
    foreign_host,
    foreign_origin,
    wrong_token,
    wandering_path,
    no_http,
    no_http,
    no_websocket,
    bad_frames,
    bad_frames,
)


class GoodPage(threading.Thread):
    """A page as a browser has it: reads, presses now and then, and notes how long it waits."""

    def __init__(self, target: Target) -> None:
        super().__init__(name="good page")
        self.target = target
        self.waited = 0.0
        self.pressed: list[str] = []
        self.seen: set[str] = set()
        self.messages = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Read until it is over."""
        from websockets.sync.client import connect
        from websockets.typing import Origin

        url = f"ws://{self.target.host}{self.target.prefix}/live"
        try:
            with connect(url, origin=Origin(self.target.origin), max_size=None) as page:
                # From here on, not from before the session has begun.
                page.recv(timeout=30)
                last, press = time.monotonic(), 0.0
                while not self.over.is_set():
                    if time.monotonic() > press:
                        press = time.monotonic() + PRESS_EVERY_S
                        self.pressed.append(f"good-{len(self.pressed)}")
                        page.send(json.dumps({"press": self.pressed[-1], "age": 0}))
                    said = json.loads(page.recv(timeout=30))
                    self.seen |= {mark["key"] for mark in said.get("marks", ())}
                    now = time.monotonic()
                    self.waited, last = max(self.waited, now - last), now
                    self.messages += 1
                deadline = time.monotonic() + ANSWER_S
                while set(self.pressed) - self.seen and time.monotonic() < deadline:
                    said = json.loads(page.recv(timeout=ANSWER_S))
                    self.seen |= {mark["key"] for mark in said.get("marks", ())}
        except Exception as error:
            self.target.fail("well-behaved page", f"was cut off: {type(error).__name__}: {error}")


class Watch(threading.Thread):
    """Looks at the memory of the servers ten times a second."""

    def __init__(self, targets: list[Target]) -> None:
        super().__init__(name="watch")
        self.targets = targets
        self.most = [0.0] * len(targets)
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.1):
            for number, target in enumerate(self.targets):
                # One of them ends before the other.
                with suppress(FileNotFoundError, ProcessLookupError, IndexError):
                    self.most[number] = max(self.most[number], target.memory_mb)


def crowd(target: Target, seconds: float) -> tuple[int, float]:
    """Open 200 pages at once, 50 of which never read; return the most that were served, and MB that the others got."""
    lines: list[socket.socket] = []
    served = read = 0
    with selectors.DefaultSelector() as select:
        for number in range(CROWD):
            line = socket.socket()
            lines.append(line)
            deaf = number % (CROWD // DEAF) == 0
            if deaf:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.settimeout(ANSWER_S)
            with suppress(OSError):
                line.connect(("127.0.0.1", target.port))
                line.sendall(handshake(target))
                if not deaf:
                    line.setblocking(False)
                    select.register(line, selectors.EVENT_READ)
        end, look = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            if time.monotonic() > look:
                look = time.monotonic() + 1.0
                served = max(served, target.measure(anew=False)[2])
            for key, _ in select.select(0.1):
                data = b""
                with suppress(OSError):
                    data = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]  # sockets alone are waited for
                read += len(data)
                if not data:
                    select.unregister(key.fileobj)
    for line in lines:
        line.close()
    return served, read / 1e6


def held(target: Target) -> float:
    """Hold connections that say little or nothing; return how long (s) until the server has given them up."""
    lines = []
    # Answers of some megabytes, which nobody reads.
    many = f"GET {target.prefix}/page.js HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode() * 200
    for number in range(HELD):
        with suppress(OSError):
            line = target.connect()
            lines.append(line)
            line.sendall((b"", b"GET / HT", handshake(target), handshake(target)[:-2], many)[number % 5])
    begun = time.monotonic()
    while len(target.sockets()) < HELD // 2 and time.monotonic() - begun < ANSWER_S:
        time.sleep(0.05)
    # What stays is the socket that listens, and the well-behaved page.
    while (over := len(target.sockets()) - 2) > 0 and time.monotonic() - begun < GIVEN_UP_S:
        time.sleep(0.2)
    took = time.monotonic() - begun
    if over > 0:
        target.fail("held", f"{over} connections are still open after {took:.0f} s")
    for line in lines:
        line.close()
    return took


def attack(target: Target, cases: int, seed: int) -> None:
    """Run the drawn cases, some at a time."""

    def one(case: int) -> None:
        rng = random.Random(seed * 1_000_003 + case)
        kind = KINDS[case % len(KINDS)]
        try:
            kind(rng, target)
        except Exception as error:
            target.fail(kind.__name__, f"case {case}: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(ATTACKERS) as pool:
        list(pool.map(one, range(cases)))


def settled(target: Target, threads: int, files: int) -> tuple[int, int]:
    """Wait until a server has no more threads and descriptors than before; return how many more it has."""
    deadline = time.monotonic() + 15
    while True:
        now = target.left
        more = now[0] - threads, now[1] - files
        if max(more) <= 0 or time.monotonic() > deadline:
            return more
        time.sleep(0.2)


def campaign(cases: int, seed: int, folder: Path) -> list[str]:
    """Attack both servers, print what came of it and return what failed."""
    context = multiprocessing.get_context("spawn")
    targets: list[Target] = []
    for wide, host in ((False, "127.0.0.1"), (True, "0.0.0.0")):
        here, there = context.Pipe()
        night = folder / f"{wide}.h5"
        process = context.Process(target=serve, args=(host, night, there))
        process.start()
        targets.append(Target(wide, here.recv(), process, here, night))
    pages = [GoodPage(target) for target in targets]
    for page in pages:
        page.start()
    time.sleep(15)
    rows: list[str] = []
    watch = Watch(targets)
    before = [(target.left, target.memory_mb, target.measure()) for target in targets]
    watch.start()
    for target in targets:
        wanted = f"{'00000000' if target.wide else '0100007F'}:{target.port:04X}"
        found = [address for address, listens in target.sockets() if listens]
        if found != [wanted]:
            target.fail("listening", f"on {found} in place of {wanted}")
    for target, page, (resting, memory, quiet), number in zip(targets, pages, before, (0, 1), strict=True):
        begun = time.monotonic()
        attack(target, cases // len(targets), seed + number)
        drawn, took = target.measure(), time.monotonic() - begun
        served, read = crowd(target, 10.0)
        more = settled(target, *resting)
        answer = ask(target, f"GET {target.prefix}/ HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode())
        if status_of(answer) != "200":
            target.fail("crowd", f"a page that comes afterwards gets {answer[:100]!r}")
        given_up = held(target)
        holding = target.measure()
        more = max(more[0], settled(target, *resting)[0]), max(more[1], settled(target, *resting)[1])
        if max(more) > 0:
            target.fail("left", f"{more[0]} threads and {more[1]} file descriptors")
        if not 2 <= served <= MOST_PAGES:
            target.fail("crowd", f"{served} pages were served at once")
        pauses = [quiet[0], drawn[0], holding[0]]
        if max(pauses) > LONGEST_PAUSE_S:
            target.fail("pause", f"the session stood still for {max(pauses):.2f} s")
        if abs(holding[1]) > LONGEST_PAUSE_S:
            target.fail("pace", f"the session is {holding[1]:+.2f} s from the clock")
        growth = watch.most[number] - memory
        if growth > GROWTH_MB:
            target.fail("memory", f"grew by {growth:.0f} MB")
        page.over.set()
        page.join()
        if page.waited > LONGEST_NEWS_S:
            target.fail("well-behaved page", f"waited {page.waited:.2f} s for news")
        target.pipe.send("stop")
        problem, began, ended, marks, names = target.pipe.recv()
        target.process.join()
        if problem:
            target.fail("server", problem)
        if ended[0] > began[0] or ended[1] > began[1]:
            target.fail("left", f"threads and descriptors {began} before the page, {ended} after it: {names}")
        with Recording(target.night) as recording:
            kept = [row for row in recording.annotations if row["label"] == "felt"]
        if not len(kept) == marks == len(page.pressed) == len(page.seen):
            target.fail(
                "marks", f"{len(page.pressed)} pressed, {len(page.seen)} shown, {len(kept)} in the night"
            )
        statuses = ", ".join(f"{status} {count}" for status, count in sorted(target.answers.items()))
        rows.append(
            f"| {'all addresses, token' if target.wide else 'this computer alone'} | {cases // len(targets)} in "
            f"{took:.0f} s | {' / '.join(f'{pause:.2f}' for pause in pauses)} | {page.waited:.2f} | {growth:.0f} MB | "
            f"{served}, {read:.1f} MB | {given_up:.0f} s | {more[0]}, {more[1]} | {len(kept)} of {len(page.pressed)} | "
            f"{len(target.failures)} |"
        )
        print(f"answers: {statuses}", file=sys.stderr)
    watch.over.set()
    watch.join()
    print(
        "| server | drawn cases | longest pause (s) of the session: before, drawn cases, crowd and held | good page "
        "waited (s) | memory grew | crowd: pages served, read | held: given up after | threads, files left | "
        "its marks in the night | failures |"
    )
    print("\n".join(["|---" * 10 + "|", *rows]))
    return [failure for target in targets for failure in target.failures]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hypnic_page_") as name:
        failures = campaign(options.cases, options.seed, Path(name))
    for failure in failures[:20]:
        print(f"failed: {failure}", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
