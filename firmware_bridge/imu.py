"""A board as a source of chunks, and a log of its bytes as the same source."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from firmware_bridge.decoders import Decoder, make_decoder
from firmware_bridge.decoders.hypnic import COMMANDS, HypnicDecoder, Status, command
from firmware_bridge.port import BAUDS, LOST, Board, Link, locate, resolve
from firmware_bridge.rawlog import RawLog, read_log
from firmware_bridge.stream import RATE_TOLERANCE, Assembler, Opening, RateEstimate
from hypnic.chunk import Chunk, Site, check_rate, check_site
from hypnic.errors import DataError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ReplayLog", "SerialIMU", "State"]

State = Literal["streaming", "stalled", "disconnected", "closed"]
"""How a board is doing."""

_LISTEN = 1.5
_BOOT = 3.0
_PATIENT = 4.0
_QUIET = 256
_SETTLE = 8.0
_COMMAND_EVERY = 1.0
_SHORTEST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0
_REOPEN_AFTER = 3
_LONGEST_LOOK = 1.0
_CLOCK_SET = 2.0
_NO_SAMPLES = np.empty((0, 3), np.float32)


def _seconds() -> float:
    """Return a clock that nobody sets and that runs on while the computer sleeps, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class _Mailbox:
    """Chunks on their way from the reading thread, at most so many samples of them.

    When it is full, the oldest chunk goes and its samples are added to those missing before the next one: a
    reader that has fallen behind sees a gap and then the present, never old data.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._chunks: deque[Chunk] = deque()
        self._samples = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, chunks: list[Chunk]) -> None:
        if not chunks:
            return
        with self._changed:
            for chunk in chunks:
                self._chunks.append(chunk)
                self._samples += len(chunk)
                while self._samples > self._limit and len(self._chunks) > 1:
                    oldest = self._chunks.popleft()
                    self._samples -= len(oldest)
                    self.dropped += len(oldest)
                    following = self._chunks[0]
                    missing = following.missing + len(oldest) + oldest.missing
                    self._chunks[0] = replace(following, missing=missing, reason="reader too slow")
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout: float) -> list[Chunk] | None:
        """Return all chunks, adjoining ones joined; none after `timeout`; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._closed, timeout)
            if not self._chunks:
                return None if self._closed else []
            chunks = list(self._chunks)
            self._chunks.clear()
            self._samples = 0
        return _joined(chunks)


def _joined(chunks: list[Chunk]) -> list[Chunk]:
    runs: list[list[Chunk]] = []
    for chunk in chunks:
        if runs and not chunk.missing:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return [
        run[0] if len(run) == 1 else replace(run[0], xyz=np.concatenate([chunk.xyz for chunk in run]))
        for run in runs
    ]


class _Commander:
    """Keep a board that speaks our protocol sampling at the wanted rate and range."""

    def __init__(self, rate: float | None, range_g: int | None) -> None:
        self.rate = rate
        self._range_g = range_g
        self._token = 0
        self._next = -math.inf

    def step(self, decoder: Decoder, link: Link, now: float) -> None:
        """Send the one command that is needed most, at most one a second."""
        if isinstance(decoder, HypnicDecoder):
            needed = self._needed(decoder)
            if needed is not None:
                self._send(*needed, link, now)

    def ask(self, link: Link, now: float) -> None:
        """Ask what may be a silent board of ours who it is, at most once a second."""
        self._send("GET_INFO", 0, link, now)

    def _send(self, name: str, value: int, link: Link, now: float) -> None:
        if now >= self._next:
            self._token = (self._token + 1) % 256
            self._next = now + _COMMAND_EVERY
            link.write(b"\0" + command(name, self._token, value))

    def _needed(self, decoder: HypnicDecoder) -> tuple[str, int] | None:
        board = decoder.board
        if board is None:
            return "GET_INFO", 0
        if self.rate is not None and abs(board.rate / self.rate - 1) > RATE_TOLERANCE:
            return "SET_RATE", round(self.rate * 1000)
        if self._range_g is not None and board.range_g != self._range_g:
            return "SET_RANGE", self._range_g
        return None if board.sampling else ("START", 0)

    def settled(self, decoder: HypnicDecoder) -> bool:
        """Tell whether the board does what is wanted; a rate that it has chosen as nearest becomes `rate`.

        Raises
        ------
        DataError
            If the board has refused.
        """
        board, needed = decoder.board, self._needed(decoder)
        if board is None or needed is None:
            return board is not None
        answers = [ack.status for ack in decoder.acks if ack.cmd == COMMANDS[needed[0]]]
        if not answers:
            return False
        if answers[-1] != 0:
            what = {"SET_RATE": f"{needed[1] / 1000:g} Hz", "SET_RANGE": f"±{needed[1]} g"}.get(
                needed[0], "to start"
            )
            now = f"it is at {board.rate:g} Hz and ±{board.range_g} g"
            raise DataError(f"the board has refused {what} (status {answers[-1]}): {now}")
        if needed[0] == "SET_RATE" and decoder.told:
            self.rate = board.rate
        return self._needed(decoder) is None


class _StreamSource:
    """What a board and a log of one have in common."""

    def __init__(self, assembler: Assembler, site: Site) -> None:
        self._assembler = assembler
        self._site: Site = site

    @property
    def rate(self) -> float:
        """Nominal sampling rate in Hz: given, stated by the board, or measured and rounded to a usual one."""
        return self._assembler.rate

    @property
    def site(self) -> Site:
        """Where the sensor is: ``"wrist"`` or ``"mattress"``."""
        return self._site

    @property
    def effective_rate(self) -> RateEstimate | None:
        """Sampling rate by the host's clock and its standard deviation, in Hz; None in the first seconds."""
        return self._assembler.effective_rate

    @property
    def detection_rate(self) -> float | None:
        """The rate (Hz) to detect at; None until it is settled, in the first 20 s.

        `rate`, or the measured one where the two are more than 1 % (and three standard deviations) apart.
        """
        return self._assembler.detection_rate

    @property
    def sensor(self) -> str:
        """What the sensor is, as far as the stream tells: ``MPU6050 on uno``, or the name of its format."""
        info = self.info
        named = [str(info[key]) for key in ("sensor", "board") if info.get(key)]
        return " on ".join(named) or str(info["format"])

    @property
    def range_g(self) -> float | None:
        """Full scale of the sensor (± g), where the stream states it."""
        try:
            full = float(self.info.get("range_g", 0))
        except ValueError:
            return None
        return full if 0 < full < math.inf else None

    @property
    def clock_residual(self) -> float:
        """Root mean square distance of arrivals from the fitted clock, in s; NaN in the first seconds."""
        return self._assembler.residual

    @property
    def info(self) -> dict[str, str | int | float]:
        """What the board says about itself, printable, and ``format``."""
        return {"format": self._assembler.decoder.name, **self._assembler.decoder.info}

    @property
    def board_status(self) -> Status | None:
        """The last counters of a board that speaks our protocol: what it has missed or not sent."""
        decoder = self._assembler.decoder
        return decoder.status if isinstance(decoder, HypnicDecoder) else None

    @property
    def counters(self) -> dict[str, int]:
        """What has become of bytes and samples.

        Those of `firmware_bridge.decoders.Counters`, and ``missing`` (samples that chunks say are missing),
        ``segments`` (stretches with a clock of their own) and ``wrong_rate`` (samples at another rate than
        `rate`).
        """
        return {
            **self._assembler.decoder.counters.as_dict(),
            "missing": self._assembler.missing,
            "segments": self._assembler.segments,
            "wrong_rate": self._assembler.wrong_rate,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know: low or wrong rate, coarse steps, low-pass, how the unit was found."""
        return tuple(self._assembler.warnings)


class SerialIMU(_StreamSource):
    """A board as a live source.

    The port is opened, the baud rate and format are found, and a thread starts reading before the
    constructor returns; nothing that came meanwhile is lost. When the port is lost, the board is looked for
    until it is back; what was missed is stated as missing in the next chunk.

    Parameters
    ----------
    port : str, optional
        ``auto``, a device path, or a URL of pyserial (``socket://host:port``, ``rfc2217://host:port``).
    baud : int, optional
        Baud rate; by default those of the format, then 115200, 9600, 38400, 57600, 230400 and 921600 are
        tried.
    format : str, optional
        One of `firmware_bridge.decoders.FORMATS`; by default what the bytes show.
    rate : float, optional
        Nominal rate in Hz. A board that speaks our protocol is set to it. By default what the board states,
        or the usual rate nearest to the measured one.
    site : {"wrist", "mattress"}, optional
        Where the sensor is.
    lsb_per_g : float, optional
        Counts, or other units, in one g, for text that does not state it; by default inferred from the
        resting norm.
    range_g : int, optional
        Full scale (± g) that a board which speaks our protocol is set to.
    raw_log : path-like, optional
        Where to write every byte with its time, for `ReplayLog`.
    buffer : float, optional
        Seconds of samples that may wait for a slow consumer before the oldest are dropped (and counted).
    wake : float, optional
        Seconds after which iteration yields an empty chunk when there is no data.
    stall : float, optional
        Seconds without a sample after which the state is ``stalled``; after three times as long the port is
        opened anew. What the computer has slept does not count.
    reconnect : bool, optional
        Whether to look for a lost port. If not, iteration ends there.

    Raises
    ------
    UsageError
        If the port cannot be opened, an argument is impossible, or the rate is below 25 Hz.
    DataError
        If no known format is found, the stream carries no acceleration, or the board refuses rate or range.
    OSError
        If the raw log cannot be made.

    Notes
    -----
    Iteration yields chunks as they come. After `wake` seconds without data it yields a chunk of no samples,
    so that a live view or a watchdog can act: its `index` follows the last chunk's, its `time` is NaN and
    its `missing` 0. `close` may be called from any thread and ends the iteration.
    """

    def __init__(
        self,
        port: str = "auto",
        *,
        baud: int | None = None,
        format: str | None = None,
        rate: float | None = None,
        site: str = "wrist",
        lsb_per_g: float | None = None,
        range_g: int | None = None,
        raw_log: str | os.PathLike[str] | None = None,
        buffer: float = 10.0,
        wake: float = 0.2,
        stall: float = 2.0,
        reconnect: bool = True,
    ) -> None:
        checked_site = check_site(site)
        for name, seconds in (("buffer", buffer), ("wake", wake), ("stall", stall)):
            if not seconds > 0:
                raise UsageError(f"{name} {seconds!r} is not a positive number of seconds")
        if range_g is not None and not 1 <= range_g <= 255:
            raise UsageError(f"range_g {range_g!r} is not a full scale: use 2, 4, 8 or 16")
        self._link: Link | None = None
        self._baud = 0
        self._wake = wake
        self._stall = stall
        self._reconnect = reconnect
        self._anchor = time.time() - _seconds()
        self._commander = _Commander(None if rate is None else check_rate(rate), range_g)
        self._board = resolve(port)
        opening = self._open(format, lsb_per_g, baud)
        try:
            super().__init__(Assembler(opening.fresh_decoder(), check_rate(opening.rate)), checked_site)
            self._commander.rate = self.rate
            self._log = None if raw_log is None else RawLog(raw_log, self._log_header(opening, lsb_per_g))
        except BaseException:
            self._close_link()
            raise
        self._log_error: str | None = None
        self._next_index = 0
        self._mailbox = _Mailbox(max(1, round(buffer * self.rate)))
        self._state: State = "streaming"
        self._reconnects = 0
        self._stalls = 0
        self._backoff = _SHORTEST_BACKOFF
        self._silence = 0.0
        self._looked = _seconds()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opening,), name="hypnic-serial", daemon=True)
        self._thread.start()

    @property
    def board(self) -> Board:
        """The port and what is on it."""
        return self._board

    @property
    def baud(self) -> int:
        """Baud rate in use."""
        return self._baud

    @property
    def status(self) -> State:
        """How the board is doing: ``streaming``, ``stalled``, ``disconnected`` or ``closed``."""
        return self._state

    @property
    def counters(self) -> dict[str, int]:
        """What has become of bytes and samples.

        Those of every stream, and ``dropped`` (samples that a slow consumer left to wait too long),
        ``reconnects`` and ``stalls``.
        """
        return {
            **super().counters,
            "dropped": self._mailbox.dropped,
            "reconnects": self._reconnects,
            "stalls": self._stalls,
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know: low rate, coarse steps, low-pass, unit, and what goes wrong now."""
        found = list(super().warnings)
        shift = time.time() - self._now()
        if abs(shift) > _CLOCK_SET:
            way = "forward" if shift > 0 else "back"
            found.append(
                f"the computer's clock was set {way} by {abs(shift):.0f} s: times go on by the old one"
            )
        if self._mailbox.dropped:
            found.append(f"{self._mailbox.dropped} samples dropped: their consumer was too slow")
        if self._state == "stalled":
            found.append(f"{self._board.port} is stalled: it is open, but nothing usable comes")
        elif self._state == "disconnected":
            found.append(f"{self._board.port} is disconnected: it is looked for")
        if self._log_error is not None:
            found.append(f"the raw log has ended: {self._log_error}")
        return tuple(found)

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            chunks = self._mailbox.take(self._wake)
            if chunks is None:
                break
            for chunk in chunks:
                self._next_index = chunk.index + len(chunk)
                yield chunk
            if not chunks:
                yield Chunk(_NO_SAMPLES, self._next_index)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ask for the end: iteration hands over what has come, read or not, and ends. Returns at once."""
        self._stop.set()

    def close(self) -> None:
        """Stop reading and close the port. May be called from any thread, and again."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _now(self) -> float:
        """Return POSIX seconds that no setting of the clock moves: the length of a hole must be true."""
        return self._anchor + _seconds()

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _open(self, fmt: str | None, lsb_per_g: float | None, baud: int | None) -> Opening:
        """Open the port and listen until format and rate are known."""
        bauds = self._bauds(fmt, baud)
        opening = Opening(fmt, None, lsb_per_g)
        link = self._link = Link(self._board.port, bauds[0])
        heard = []
        try:
            for number, self._baud in enumerate(bauds):
                if number:
                    link.set_baud(self._baud)
                    opening = Opening(fmt, None, lsb_per_g)
                if self._listen(link, opening, number == 0, len(bauds) == 1):
                    self._settle(link, opening)
                    return opening
                heard.append(f"{self._baud} ({opening.bytes_seen} bytes)")
            wanted = "no known format" if fmt is None else f"nothing in format {fmt}"
            raise DataError(f"{wanted} on {self._board.port} at {', '.join(heard)} baud")
        except LOST as error:
            self._close_link()
            raise DataError(f"port {self._board.port} was lost while it was opened: {error}") from None
        except BaseException:
            self._close_link()
            raise

    def _bauds(self, fmt: str | None, baud: int | None) -> tuple[int, ...]:
        if baud is not None:
            return (baud,)
        # What is behind a socket has a baud rate of its own that cannot be changed from here.
        if self._board.port.startswith("socket://"):
            return BAUDS[:1]
        first = () if fmt is None else make_decoder(fmt).bauds
        return tuple(dict.fromkeys(first + BAUDS))

    def _listen(self, link: Link, opening: Opening, first: bool, only: bool) -> bool:
        """Listen at one baud rate; True once the format is known."""
        start = _seconds()
        while not opening.proven:
            waited = _seconds() - start
            # A board that the opening of its port has reset is quiet while it boots, and one of ours that was
            # stopped says little until it is asked.
            quiet = first and opening.bytes_seen < _QUIET
            limit = _PATIENT if only else _BOOT if quiet else _LISTEN
            if waited > limit:
                return opening.decide()
            if opening.fmt == HypnicDecoder.name or (quiet and waited > _LISTEN):
                self._commander.ask(link, _seconds())
            data = link.read()
            if data:
                opening.feed(data, self._now())
        return True

    def _settle(self, link: Link, opening: Opening) -> None:
        """Wait until the rate is known, and for a board of ours until it does what is wanted."""
        decoder = opening.decoder
        assert decoder is not None
        wanted = self._commander.rate
        deadline = _seconds() + _SETTLE
        while _seconds() < deadline:
            if decoder.refusal is not None:
                raise DataError(f"{self._board.port}: {decoder.refusal}")
            if isinstance(decoder, HypnicDecoder):
                if self._commander.settled(decoder):
                    return
            elif wanted is None:
                if opening.rate is not None:
                    return
            elif decoder.counters.samples:
                if decoder.rate is not None and abs(decoder.rate / wanted - 1) > RATE_TOLERANCE:
                    raise DataError(f"the board states {decoder.rate:g} Hz, not {wanted:g}: leave rate out")
                opening.override_rate(wanted)
                return
            data = link.read()
            now = _seconds()
            if data:
                opening.feed(data, self._now())
            self._commander.step(decoder, link, now)
        raise DataError(
            f"{self._board.port} sends format {decoder.name} but no usable samples in {_SETTLE:g} s"
        )

    def _log_header(self, opening: Opening, lsb_per_g: float | None) -> dict[str, Any]:
        return {
            "format": opening.fmt,
            "lsb_per_g": lsb_per_g,
            "rate": self.rate,
            "site": self.site,
            "port": self._board.port,
            "baud": self._baud,
        }

    def _run(self, opening: Opening) -> None:
        try:
            for arrival, data in opening.records:
                self._take(arrival, data)
            while not self._stop.is_set():
                if self._link is None:
                    if not self._reconnect:
                        break
                    self._find_again()
                else:
                    self._read(self._link)
            if self._link is not None:
                # What came before the end was asked for belongs to the night.
                last = self._link.drain()
                if last:
                    self._take(self._now(), last)
            self._mailbox.put(self._assembler.finish())
        except Exception as error:
            self._error = error
        finally:
            self._close_link()
            self._close_log()
            self._state = "closed"
            self._mailbox.close()

    def _read(self, link: Link) -> None:
        try:
            data = link.read()
            if data:
                # Before anything is written: a port that has gone meanwhile does not cost what it has given.
                self._take(self._now(), data)
            self._commander.step(self._assembler.decoder, link, _seconds())
        except LOST:
            self._lose()
            return
        now = _seconds()
        # While the computer sleeps nobody looks: what came meanwhile waits in the port, and opening the port anew
        # would throw it away.
        self._silence += min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        if self._silence > self._stall and self._state == "streaming":
            self._state = "stalled"
            self._stalls += 1
        if self._silence > _REOPEN_AFTER * self._stall and self._reconnect:
            self._lose()

    @property
    def _usable(self) -> int:
        return self._assembler.decoder.counters.samples - self._assembler.wrong_rate

    def _take(self, arrival: float, data: bytes) -> None:
        self._write_log(arrival, data)
        before = self._usable
        chunks = self._assembler.feed(data, arrival)
        # They may be held back for a moment: the board sends all the same.
        if self._usable > before:
            self._silence = 0.0
            self._looked = _seconds()
            self._state = "streaming"
        self._mailbox.put(chunks)

    def _write_log(self, arrival: float, data: bytes) -> None:
        if self._log is None:
            return
        try:
            self._log.write(arrival, data)
        except OSError as error:
            # A full disk must not end the night.
            self._log_error = str(error)
            self._close_log()

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            try:
                log.close()
            except OSError as error:
                self._log_error = str(error)

    def _lose(self) -> None:
        self._close_link()
        self._write_log(self._now(), b"")
        self._mailbox.put(self._assembler.port_lost())
        self._state = "disconnected"
        self._backoff = _SHORTEST_BACKOFF

    def _find_again(self) -> None:
        self._stop.wait(self._backoff)
        self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF)
        port = locate(self._board)
        if port is None or self._stop.is_set():
            return
        try:
            self._link = Link(port, self._baud)
        except UsageError:
            return
        self._board = self._board._replace(port=port)
        self._reconnects += 1
        self._silence = 0.0
        self._looked = _seconds()


class ReplayLog(_StreamSource):
    """A log of a port's bytes as a source: the same decoding as from the live port.

    Parameters
    ----------
    path : path-like
        A log written by `SerialIMU`, or a file of bytes alone. Bytes alone have no times: then chunks have
        none either, and holes show only where a counter or ticks tell them.
    format, rate, site, lsb_per_g : optional
        As for `SerialIMU`; by default what the log says, else what the bytes show.
    speed : float, optional
        1 plays as fast as it was recorded, 10 ten times as fast; by default as fast as can be.

    Raises
    ------
    UsageError
        If an argument is impossible, or the rate is not given and cannot be told.
    DataError
        If the log is damaged, no known format is found, or the stream carries no acceleration.
    OSError
        If the file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        rate: float | None = None,
        site: str | None = None,
        lsb_per_g: float | None = None,
        speed: float | None = None,
    ) -> None:
        if speed is not None and not speed > 0:
            raise UsageError(f"speed {speed!r} is not a positive number")
        self._path = path
        self._speed = speed
        header, records = read_log(path)
        header = header or {}
        given = rate if rate is not None else header.get("rate")
        opening = Opening(
            format or header.get("format"),
            None if given is None else check_rate(given),
            lsb_per_g or header.get("lsb_per_g"),
        )
        for arrival, data in records:
            opening.feed(data, arrival)
            if opening.proven and opening.rate is not None:
                break
        if not opening.decide() or opening.decoder is None:
            raise DataError(f"no known format in {os.fspath(path)}")
        if opening.decoder.refusal is not None:
            raise DataError(f"{os.fspath(path)}: {opening.decoder.refusal}")
        if opening.rate is None:
            raise UsageError(f"{os.fspath(path)} does not tell its rate: give rate")
        self._make_decoder: Callable[[], Decoder] = opening.fresh_decoder
        assembler = Assembler(opening.fresh_decoder(), check_rate(opening.rate))
        super().__init__(assembler, check_site(site or header.get("site", "wrist")))
        self._stop = threading.Event()

    def __iter__(self) -> Iterator[Chunk]:
        self._assembler = Assembler(self._make_decoder(), self.rate)
        _, records = read_log(self._path)
        start = _seconds()
        first: float | None = None
        for arrival, data in records:
            if self._speed is not None and not math.isnan(arrival):
                first = arrival if first is None else first
                self._stop.wait(start + (arrival - first) / self._speed - _seconds())
            if self._stop.is_set():
                break
            yield from self._assembler.feed(data, arrival) if data else self._assembler.port_lost()
        yield from self._assembler.finish()

    def stop(self) -> None:
        """Ask for the end: iteration hands over what was held back, and ends. Returns at once."""
        self._stop.set()

    def close(self) -> None:
        """End the iteration. May be called from any thread, and again."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
