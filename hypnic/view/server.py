"""The server of the live page: HTTP and WebSocket in a thread of its own, for few and known eyes."""

from __future__ import annotations

import asyncio
import errno
import importlib.resources
import ipaddress
import json
import math
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Self

from hypnic.errors import UsageError
from hypnic.view.recent import WINDOW, Cursor, Recent

if TYPE_CHECKING:
    from datetime import tzinfo
    from types import TracebackType

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from starlette.websockets import WebSocket
    from uvicorn import Server
    from websockets.frames import Frame

    from hypnic.live import Session, Update

__all__ = ["PORT", "View"]

PORT: Final = 8321
"""Where the page is by default: a number that no common service has."""

TICK: Final = 0.1
"""Seconds between two messages to a page: it draws smoothly in between, a tenth of a second behind."""

PATIENCE: Final = 5.0
"""Seconds for which a page may fall behind before the signal since then is skipped."""

MOST_PAGES: Final = 64
"""Pages that are served at once."""

MOST_CONNECTIONS: Final = 128
"""Connections, those without a page included: the night's recorder needs file descriptors too."""

HEADER_PATIENCE: Final = 10.0
"""Seconds within which a connection has to say what it wants, and to go on taking its answer."""

HEADER_BYTES: Final = 16 * 1024
"""Largest head of a request."""

MESSAGE_BYTES: Final = 1024
"""Largest message of a page: a press takes 60 bytes."""

MOST_PARTS: Final = 16
"""Parts of a message; browsers send one as short as ours whole."""

MOST_MESSAGES: Final = (20, 10.0)
"""Messages that a page may send, within so many seconds; nobody presses faster."""

MOST_MARKS: Final = 1000
"""Marks of one session."""

OLDEST_PRESS: Final = 600.0
"""Seconds that a press may have waited for its connection."""

SEND_BUFFER: Final = 128 * 1024
"""Bytes that the system holds back for a page that does not read: some more than a minute of signal."""

PING: Final = 20.0
"""Seconds between two pings, and within which a page has to answer or is given up."""

FAREWELL: Final = 0.3
"""Seconds within which pages take the last news when the server closes."""

FILES: Final = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Every address that is served besides the socket: its file and type."""

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""On every answer: nothing from elsewhere, no frame around it, no address passed on, no copy kept."""

HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::\d{1,5})?", re.IGNORECASE)

KEY: Final = re.compile(r"[0-9a-z-]{1,40}", re.IGNORECASE)


class View:
    """Serves the live page of a session.

    It listens as soon as it is made; `watch` gives it the session to show.

    Parameters
    ----------
    port : int, optional
        Where to listen; 0 for any port that is free.
    host : str, optional
        Address to listen on. Anything but this computer itself (``127.0.0.1``, ``::1``, ``localhost``) lets
        others on the network in: the URL then holds a random token, without which nothing is served. It is
        plain HTTP all the same, for networks that are trusted.

    Attributes
    ----------
    url : str
        Where the page is, the token included.
    problem : str
        What has gone wrong in the server, which never ends the session; empty where nothing has.

    Raises
    ------
    UsageError
        If the port is taken or no port, the host is not one of this computer's, or the packages of the
        extra ``view`` are missing.

    Examples
    --------
    >>> from hypnic.live import Session                                       # doctest: +SKIP
    >>> from hypnic.view import View
    >>> with (                                                                # doctest: +SKIP
    ...     hypnic.open("serial:auto", site="wrist") as board,
    ...     View() as view,
    ...     Session(board, record="night.h5") as session,
    ... ):
    ...     print(view.url)
    ...     for chunk, events in view.watch(session):
    ...         pass
    """

    def __init__(self, port: int = PORT, host: str = "127.0.0.1") -> None:
        self._socket = _bind(host, port)
        self._prefix = "" if _is_local(host) else f"/{secrets.token_urlsafe(16)}"
        shown = _shown(host)
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}{self._prefix}/"
        self.problem = ""
        try:
            names = {shown.strip("[]"), "localhost"}
            if self._prefix:
                names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
            self._recent: Recent | None = None
            self._hello = ""
            self._session: Session | None = None
            self._keys: dict[str, int] = {}
            self._pages = 0
            self._frames: dict[tuple[Recent, Cursor, bool], tuple[str, Cursor]] = {}
            self._closing = False
            self._server = _make_server(Guard(self._app(), self._prefix, names))
        except BaseException:
            self._socket.close()
            raise
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hypnic-view", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def pages(self) -> int:
        """Pages that are open."""
        return self._pages

    def watch(self, session: Session, title: str = "", zone: tzinfo | None = None) -> Iterator[Update]:
        """Run a session as iterating it does, and show it meanwhile.

        Parameters
        ----------
        session : Session
            The session.
        title : str, optional
            What stands at the head of the page.
        zone : tzinfo, optional
            Of the clock times; by default that of the source's start, or this computer's.

        Yields
        ------
        Update
            Those of the session.
        """
        recent = Recent(session, zone or getattr(getattr(session.source, "start_time", None), "tzinfo", None))
        hello = {
            "session": secrets.token_hex(8),
            "title": title,
            "site": session.source.site,
            "rate": session.source.rate,
            "bin": recent.bins.size,
            "window": WINDOW,
            "speed": recent.speed if math.isfinite(recent.speed) else None,
            "records": session.recorder is not None,
        }
        # Pages may be waiting: the session comes last.
        self._hello, self._session, self._recent = json.dumps({"hello": hello}), session, recent
        try:
            for update in session:
                recent.add(update)
                yield update
        finally:
            recent.end(session.ended_by or "an error")

    def close(self) -> None:
        """Tell the pages, stop serving and wait until that is done. May be repeated."""
        self._closing = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            # The night goes on without its page.
            self.problem = f"the live page has ended: {type(error).__name__}: {error}"
        finally:
            self._socket.close()
            self._ready.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note)
        self._ticked = asyncio.Event()
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        self._ready.set()
        sweep = 0.0
        while not self._closing and not serving.done():
            await asyncio.sleep(TICK)
            self._tick()
            if time.monotonic() >= sweep:
                sweep = time.monotonic() + PATIENCE
                self._abort(closing_only=True)
        # Let the pages have the last news; then nobody is waited for.
        deadline = time.monotonic() + FAREWELL
        while self._pages and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            self._tick()
        self._server.should_exit = True
        self._abort(closing_only=False)
        await serving

    def _tick(self) -> None:
        self._frames.clear()
        self._ticked.set()
        self._ticked = asyncio.Event()

    def _abort(self, closing_only: bool) -> None:
        """Cut connections: those that were to be closed and still do not take what they were sent, or all."""
        for connection in tuple(self._server.server_state.connections):
            transport = connection.transport
            if transport is not None and (transport.is_closing() or not closing_only):
                transport.abort()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.problem = f"the live page: {context.get('exception') or context['message']}"

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route, WebSocketRoute

        folder = importlib.resources.files("hypnic.view") / "page"
        files = {name: ((folder / file).read_bytes(), kind) for name, (file, kind) in FILES.items()}

        async def send_file(request: Request) -> Response:
            body, kind = files[request.url.path.rpartition("/")[2]]
            return Response(body, media_type=kind)

        routes = [Route(f"{self._prefix}/{name}", send_file) for name in files]
        app = Starlette(routes=[*routes, WebSocketRoute(f"{self._prefix}/live", self._talk)])
        # There is one address of each file, and no other leads to it.
        app.router.redirect_slashes = False
        return app

    async def _talk(self, page: WebSocket) -> None:
        """Serve one page until it or the session has gone."""
        from starlette.websockets import WebSocketDisconnect

        await page.accept()
        if self._pages >= MOST_PAGES:
            await page.close(1013, f"{MOST_PAGES} pages are open already: close one")
            return
        self._pages += 1
        tasks = {asyncio.create_task(self._feed(page)), asyncio.create_task(self._listen(page))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code, reason = next(iter(done)).result()
            await page.close(code, reason)
        except (WebSocketDisconnect, RuntimeError):
            # RuntimeError is what Starlette raises where the other task has seen the page go.
            pass
        finally:
            self._pages -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, page: WebSocket) -> tuple[int, str]:
        """Send a page what it has not seen, as fast as it takes it; return why to close."""
        while self._recent is None:
            if self._closing:
                return 1001, "hypnic has ended"
            await self._ticked.wait()
        recent = self._recent
        await page.send_text(self._hello)
        cursor, sent = Cursor(), time.monotonic()
        while self._recent is recent:
            closing = self._closing
            text, cursor = self._frame(recent, cursor, skip=time.monotonic() - sent > PATIENCE)
            sent = time.monotonic()
            if text:
                await page.send_text(text)
            if closing:
                return 1001, "hypnic has ended"
            await self._ticked.wait()
        return 1012, "another session has begun"

    def _frame(self, recent: Recent, cursor: Cursor, skip: bool) -> tuple[str, Cursor]:
        """Return the news since `cursor` as JSON, made once for all who have seen the same; empty if there are none."""
        key = recent, cursor, skip
        if key not in self._frames:
            news, after = recent.since(cursor, skip)
            if "marks" in news:
                keys = {number: name for name, number in self._keys.items()}
                news["marks"] = [mark | {"key": keys.get(mark["number"], "")} for mark in news["marks"]]
            text = json.dumps(news, separators=(",", ":"), allow_nan=False) if news else ""
            self._frames[key] = text, after
        return self._frames[key]

    async def _listen(self, page: WebSocket) -> tuple[int, str]:
        """Take what a page says; return why to close."""
        most, within = MOST_MESSAGES
        times: deque[float] = deque(maxlen=most)
        while True:
            message = await page.receive()
            if message["type"] == "websocket.disconnect":
                return 1000, ""
            now = time.monotonic()
            if len(times) == most and now - times[0] < within:
                return 1008, "too many messages"
            times.append(now)
            answer = self._take(message.get("text"))
            if answer is None:
                return 1008, "not a message of this page"
            if answer:
                await page.send_text(json.dumps(answer))

    def _take(self, text: str | None) -> dict[str, Any] | None:
        """Take a message: a press or its undoing. Return what to answer, and None where it is no message."""
        try:
            said = json.loads(text or "")
        except (ValueError, RecursionError):
            return None
        match said:
            case {"press": str(key), "age": int() | float() as age} if (
                KEY.fullmatch(key) and not isinstance(age, bool) and 0 <= age <= OLDEST_PRESS
            ):
                return self._press(key, float(age))
            case {"undo": int(number)} if not isinstance(number, bool):
                if self._session is not None:
                    self._session.unmark(number)
                return {}
        return None

    def _press(self, key: str, age: float) -> dict[str, Any]:
        session, recent = self._session, self._recent
        # A page that is not sure whether its press has arrived sends it again.
        if key in self._keys:
            return {}
        refused = ""
        if session is None or recent is None or recent.over:
            refused = "the session is over" if recent is not None else "the session has not begun"
        elif len(self._keys) >= MOST_MARKS:
            refused = f"{MOST_MARKS} marks were made already"
        else:
            try:
                self._keys[key] = session.mark(recent.sample_at(age))
                return {}
            except UsageError as error:
                refused = str(error)
        return {"refused": refused, "key": key}


class Guard:
    """Lets through only what this page itself, opened under an address of this computer, would send.

    A page on another site can make a browser send requests here, or have its own name lead here (DNS rebinding), but it
    can forge neither ``Host`` nor ``Origin``.

    Parameters
    ----------
    app : ASGI application
        Who answers the rest.
    prefix : str
        What every path must begin with: ``/`` and the token, or nothing.
    names : set of str
        Host names by which the page may be opened, in lower case, besides addresses in numbers, which no one's
        name server can redirect.
    """

    def __init__(self, app: ASGIApp, prefix: str, names: set[str]) -> None:
        self._app = app
        self._prefix = prefix.encode()
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, send_guarded)
            return
        from starlette.responses import PlainTextResponse

        status, words = refused
        answer = PlainTextResponse(f"{words}\n", status, {"connection": "close"})
        await answer(scope, receive, send_guarded)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and words where a request is not for us."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return 431, "the head of the request is too large"
        given: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts, origins = given.get(b"host", []), given.get(b"origin", [])
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 421, "this page is not served under that name"
        own = f"http://{hosts[0]}".lower()
        if any(origin.lower() != own for origin in origins) or len(origins) > 1:
            return 403, "not for pages of other sites"
        if scope["type"] == "websocket" and not origins:
            return 403, "only for the page itself, which says its origin"
        path = scope.get("raw_path", b"").partition(b"?")[0]
        if self._prefix and not secrets.compare_digest(path[: len(self._prefix) + 1], self._prefix + b"/"):
            return 404, "not found"
        if scope["type"] == "websocket" and path != self._prefix + b"/live":
            return 404, "not found"
        if b"transfer-encoding" in given or any(length != "0" for length in given.get(b"content-length", [])):
            return 413, "no request to this page has a body"
        return None

    def _is_own(self, host: str) -> bool:
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self._prefix) or address.is_loopback


def _make_server(app: ASGIApp) -> Server:
    """Return a server that is bounded in every way, and silent."""
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    except ImportError as error:
        raise UsageError(f"the live page needs {error.name}: pip install 'hypnic[view]'") from None

    class Bounded(H11Protocol):
        """HTTP for few connections, each of which soon says what it wants and takes its answer."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                transport.abort()
            else:
                self._waits_after: object = None
                self.loop.call_later(HEADER_PATIENCE, self._give_up, None)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # Once a byte of another request has come, uvicorn waits for the rest of it for ever.
            cycle = self.cycle
            if cycle is not None and cycle.response_complete and cycle is not self._waits_after:
                self._waits_after = cycle
                self.loop.call_later(HEADER_PATIENCE, self._give_up, cycle)

        def pause_writing(self) -> None:
            super().pause_writing()
            # Many requests in one go, and nobody who reads: uvicorn waits for that for ever.
            self._untaken = self.loop.call_later(HEADER_PATIENCE, self.transport.abort)

        def resume_writing(self) -> None:
            self._untaken.cancel()
            super().resume_writing()

        def _give_up(self, last: object) -> None:
            # One that has become a WebSocket has another protocol by now.
            if self.cycle is last and self.transport.get_protocol() is self:
                self.transport.abort()

    class BoundedSocket(WebSocketsSansIOProtocol):
        """A WebSocket that keeps no more for a page than it may need."""

        def handle_ping(self) -> None:
            # Nobody waits for a page to take its answers: one that asks for ever and does not read is cut.
            if self.transport.get_write_buffer_size() > SEND_BUFFER:
                self.transport.abort()
            if self.transport.is_closing():
                self.conn.data_to_send()
            else:
                super().handle_ping()

        def handle_cont(self, event: Frame) -> None:
            # The size of a message is bounded, but parts can be empty.
            if len(self.frames) >= MOST_PARTS:
                self.transport.abort()
            else:
                super().handle_cont(event)

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Bounded,
            ws=BoundedSocket,
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=PING,
            ws_ping_timeout=PING,
            # Deflating would cost more than the few bytes are worth, once for each page.
            ws_per_message_deflate=False,
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
        )
    )


def _bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    UsageError
        If there can be none.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} is none: use 1 to 65535, or 0 for any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"host {host!r} is no address of this computer") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listening.bind(address)
        # Two sockets may be bound to one port as long as neither listens.
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} of {host} is taken (by another session?): choose another, or 0 for any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} may not be used by this user: choose one from 1024 up") from None
        raise UsageError(f"host {host!r} is no address of this computer: {error.strerror}") from None
    return listening


def _is_local(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    """Return the address under which a page on `host` is best opened."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    if address.is_unspecified:
        # Which of this computer's addresses others see: the one from which it would send. Nothing is sent.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            try:
                out.connect(("192.0.2.1", 9))
                return str(out.getsockname()[0])
            except OSError:
                return socket.gethostname().lower()
    return f"[{address}]" if address.version == 6 else str(address)
