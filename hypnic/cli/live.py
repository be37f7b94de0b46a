"""Commands for boards and for playing nights as if live: ports, stream, replay."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from hypnic.cli.shared import (
    AS_SAID,
    Reading,
    Site,
    app,
    plain,
    read_settings,
    reads,
    summary,
)
from hypnic.cli.view import ViewHostOption, ViewOption, ViewPortOption, open_view, say_where

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from hypnic.chunk import Source
    from hypnic.cli.display import Lines, Screen
    from hypnic.live import Session, Sink
    from hypnic.view import View

__all__ = ["ports", "replay", "stream"]

FASTEST_SEEN: Final = 2.0
"""Times the stated rate up to which a reader's clock follows a board (`firmware_bridge.stream`)."""

COMPILING_AFTER = 3.0
"""Seconds of loading the detector after which to say why it takes so long."""

RecordOption = Annotated[
    Path | None, typer.Option("--record", help="HDF5 night to make; a crash costs at most its last second.")
]
EventsOption = Annotated[
    Path | None,
    typer.Option("--events", help="Rows as they come: .csv, .tsv or .jsonl; - for JSON Lines on stdout."),
]
CommandOption = Annotated[
    str | None,
    typer.Option(
        "--on-event",
        help="Command to run for each row: JSON on its input, HYPNIC_LABEL, HYPNIC_SCORE, ... around it.",
    ),
]
LslOption = Annotated[
    bool, typer.Option("--lsl", help="Samples and rows on the Lab Streaming Layer: hypnic and hypnic-events.")
]
DurationOption = Annotated[str | None, typer.Option(help="When to end: 90, 90s, 30m, 8h or 7:45:00.")]
SettingsOption = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", help="Wire format (hypnic, witmotion, razor, ...); by default what the bytes show."
    ),
]
PerGOption = Annotated[
    float | None, typer.Option("--lsb-per-g", help="Counts in one g, for text that does not say.")
]


@app.command()
def ports(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the USB serial ports: where, USB numbers, likely board. Exit status 1 where there is none."""
    from firmware_bridge import list_boards
    from firmware_bridge.port import may_open

    boards = list_boards()
    if json:
        import json as as_json

        print(as_json.dumps([{**board._asdict(), "usb_id": board.usb_id} for board in boards], indent=1))
    for board in () if json else boards:
        serial = f"serial number {board.serial_number}" if board.serial_number else f"at {board.location}"
        locked = "" if may_open(board.port) else "  (may not be opened: join the group dialout)"
        place = f"{board.port:<14}  {board.usb_id}  {board.likely or 'unknown board':<42}"
        print(f"{place}  {plain(serial)}{locked}")
    if not boards:
        if not json:
            print("hypnic: no USB serial port found: plug the board in", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def stream(
    port: Annotated[
        str, typer.Argument(help="auto, a device, socket://host:port or rfc2217://host:port.")
    ] = "auto",
    record: RecordOption = None,
    events: EventsOption = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Log of every byte with its time, to replay later.")
    ] = None,
    on_event: CommandOption = None,
    lsl: LslOption = False,
    duration: DurationOption = None,
    site: Annotated[Site, typer.Option(help="Where the sensor is.")] = "wrist",
    format: FormatOption = None,
    baud: Annotated[int | None, typer.Option(help="Baud rate; by default those that fit are tried.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Rate in Hz: set on a hypnic board, else what the board has.")
    ] = None,
    range_g: Annotated[
        int | None, typer.Option("--range", help="Full scale (g) to set on a hypnic board.")
    ] = None,
    lsb_per_g: PerGOption = None,
    buffer: Annotated[
        float, typer.Option(help="Seconds of samples that may wait for a slow computer before the oldest go.")
    ] = 10.0,
    settings: SettingsOption = None,
    subject: Annotated[str, typer.Option(help="Kept in the night.")] = "",
    notes: Annotated[str, typer.Option(help="Kept in the night.")] = "",
    overwrite: OverwriteOption = False,
    view: ViewOption = False,
    view_port: ViewPortOption = None,
    view_host: ViewHostOption = None,
) -> None:
    """Detect from a board until Ctrl-C, and record the night.

    A lost board is looked for until it is back; what was missed is a gap. Ctrl-C, SIGTERM and a closed
    terminal end the night in good order, with exit status 0.
    """
    from firmware_bridge.port import check_port, resolve
    from hypnic.sources import open_source

    seconds = _seconds(duration)
    _check_outputs(overwrite, record, events, raw)
    chosen = read_settings(settings, site)
    found = resolve(port)
    check_port(found.port)
    with open_view(view, view_port, view_host) as page:
        _prepare()
        with open_source(
            f"serial:{found.port}",
            baud=baud,
            format=format,
            rate=rate,
            site=site,
            range_g=range_g,
            lsb_per_g=lsb_per_g,
            raw_log=raw,
            buffer=buffer,
        ) as board:
            _run(
                board,
                settings=chosen,
                record=record,
                events=events,
                on_event=on_event,
                lsl=lsl,
                keep=raw,
                overwrite=overwrite,
                duration=seconds,
                subject=subject,
                notes=notes,
                view=page,
            )


@app.command()
@reads
def replay(
    file: Annotated[Path, typer.Argument(help="A recording of any kind, or a log of a board's bytes.")],
    speed: Annotated[float, typer.Option(help="Times the recorded speed; inf for as fast as can be.")] = 1.0,
    pty: Annotated[
        bool, typer.Option("--pty", help="Play it as a board on a virtual serial port, for other programs.")
    ] = False,
    link: Annotated[
        Path | None, typer.Option(help="With --pty: a name for the port, as a symbolic link.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", help="With --pty: wire format to send. Else: that of a file of bytes alone."
        ),
    ] = None,
    record: RecordOption = None,
    events: EventsOption = None,
    on_event: CommandOption = None,
    lsl: LslOption = False,
    duration: DurationOption = None,
    reading: Reading = AS_SAID,
    lsb_per_g: PerGOption = None,
    settings: SettingsOption = None,
    overwrite: OverwriteOption = False,
    view: ViewOption = False,
    view_port: ViewPortOption = None,
    view_host: ViewHostOption = None,
) -> None:
    """Play a recording through the same path as a board, or as a board on a virtual serial port."""
    from hypnic.errors import UsageError
    from hypnic.live import Player
    from hypnic.sources import is_port, open_source

    if is_port(str(file)):
        raise UsageError(f"{file} is a port: use hypnic stream")
    given = reading.given() | {"lsb_per_g": lsb_per_g}
    seconds = _seconds(duration)
    if pty:
        if record or events or on_event or lsl or duration or view:
            raise UsageError(
                "--pty plays for other programs: give the outputs, and --view, to hypnic stream on the other side"
            )
        with open_source(file, **given) as source:
            _play_port(Player(source, speed), str(file), format or "hypnic", link)
        return
    if link is not None:
        raise UsageError("--link names a virtual serial port: it needs --pty")
    _check_outputs(overwrite, record, events, None, file)
    with (
        open_view(view, view_port, view_host) as page,
        open_source(file, format=format, **given) as source,
    ):
        chosen = read_settings(settings, source.site)
        _prepare()
        _run(
            Player(source, speed),
            settings=chosen,
            record=record,
            events=events,
            on_event=on_event,
            lsl=lsl,
            keep=None,
            overwrite=overwrite,
            duration=seconds,
            view=page,
        )


def _run(
    source: Source,
    *,
    events: Path | None,
    on_event: str | None,
    lsl: bool,
    keep: Path | None,
    overwrite: bool,
    view: View | None,
    **options: Any,
) -> None:
    """Run a session to its end, and say in one line what it has brought."""
    from hypnic.live import EventCommand, EventFile, Session

    sinks: list[Sink] = []
    if lsl:
        from hypnic.export.lsl import LslOutlet

        sinks.append(LslOutlet(source))
    if on_event is not None:
        sinks.append(EventCommand(on_event))
    if events is not None:
        sinks.append(EventFile(events, overwrite=overwrite))
    out = sys.stderr if str(events) == "-" else sys.stdout
    with Session(source, sinks=sinks, overwrite=overwrite, **options) as session:
        useful = session.recorder is not None or bool(sinks) or keep is not None or view is not None
        with _signals(session.stop):
            _follow(session, _title(source, session), out, useful, view)
    _say_end(session, out)


def _follow(session: Session, title: str, out: TextIO, useful: bool, view: View | None) -> None:
    """Run the session before a display, and on a page; a display that breaks ends nothing `useful` without it."""
    from hypnic.cli.display import open_display

    start = getattr(session.source, "start_time", None)
    zone = getattr(start, "tzinfo", None)
    display: Screen | Lines | None = None
    try:
        if view is not None:
            say_where(view, out)
        display = open_display(session, title, zone, out)
    except OSError:
        if not useful:
            raise
    try:
        for update in session if view is None else view.watch(session, title):
            if display is not None:
                try:
                    display.update(update)
                except OSError:
                    # The terminal or the pipe has gone.
                    if not useful:
                        raise
                    display = None
    finally:
        if display is not None:
            with contextlib.suppress(OSError):
                display.close()


def _title(source: Source, session: Session) -> str:
    board = getattr(source, "board", None)
    if board is not None:
        info = getattr(source, "info", {})
        place = f"{board.port}: {info['format']}"
        sensor = getattr(source, "sensor", "")
        place += f", {sensor}" if sensor and sensor != info["format"] else ""
    else:
        path = getattr(source, "path", None)
        place = f"{path}" if path is not None else "replay"
        place += ", replayed"
    night = f" → {session.recorder.path}" if session.recorder is not None else ""
    return f"{place}, {source.rate:g} Hz, {source.site}{night}"


def _say_end(session: Session, out: TextIO) -> None:
    reason = session.ended_by
    place = f"{session.recorder.path}: " if session.recorder is not None else ""
    try:
        print(f"ended by {reason}: {place}{summary(session.events)}", file=out, flush=True)
        if session.recorder is not None and not session.recorder.packed:
            print(
                f"hypnic: {session.recorder.path} is whole, but there was no room to compress it",
                file=sys.stderr,
            )
    except OSError:
        # Nobody is there to read it, and the interpreter must not stumble over it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def _play_port(player: Any, name: str, fmt: str, link: Path | None) -> None:
    """Play a source on a virtual serial port until it ends or is ended."""
    import math
    import time

    from firmware_bridge import VirtualPort
    from firmware_bridge.player import PlayedBoard
    from hypnic.errors import UsageError

    if not math.isfinite(player.speed):
        raise UsageError("--pty plays by the clock: give a finite --speed")
    if player.speed > FASTEST_SEEN:
        print(
            f"hypnic: note: at {player.speed:g} times the speed the clock and the gaps of a reader are wrong",
            file=sys.stderr,
        )
    stopped: list[str] = []

    def stop(reason: str) -> None:
        stopped.append(reason)
        player.stop()

    with VirtualPort(link) as port:
        board = PlayedBoard(port, fmt, player.rate)
        print(f"{name} as {fmt} at {player.rate:g} Hz on {link or port.path}: waits for a reader", flush=True)
        with _signals(stop):
            while not board.has_reader() and not stopped:
                time.sleep(0.05)
            if not stopped:
                print("plays", flush=True)
                board.introduce()
                for chunk in player:
                    board.play(chunk)
                # What the reader has not read yet goes with the port.
                deadline = time.monotonic() + 1.0
                while port.unread and not stopped and time.monotonic() < deadline:
                    time.sleep(0.02)
    reason = stopped[0] if stopped else "end of the source"
    print(
        f"ended by {reason}: {board.sent} samples sent, {board.dropped} dropped for want of a reader",
        flush=True,
    )


@contextlib.contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Take Ctrl-C, SIGTERM and a closed terminal as a wish for a clean end; the second one does what it always does.

    Signals that were ignored from the start (nohup, a shell's background jobs) stay so.
    """
    names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a closed terminal"}
    before = {number: signal.getsignal(number) for number in names}
    mine = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def restore() -> None:
        for number in mine:
            signal.signal(number, before[number])

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop(names[signal.Signals(number)])

    for number in mine:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


def _prepare() -> None:
    from hypnic.live import prepare

    timer = threading.Timer(
        COMPILING_AFTER,
        print,
        ["hypnic: compiling the detector, which takes some 20 s and is done once"],
        {"file": sys.stderr},
    )
    timer.daemon = True
    # For someone who waits; a log need not know.
    if sys.stderr.isatty():
        timer.start()
    try:
        prepare()
    finally:
        timer.cancel()


def _check_outputs(
    overwrite: bool, record: Path | None, events: Path | None, raw: Path | None, source: Path | None = None
) -> None:
    """Refuse outputs that cannot be meant, before a board is opened for them."""
    from hypnic.errors import DataError, UsageError

    seen = {} if source is None else {source.resolve(): "the recording"}
    for option, path in (("--record", record), ("--events", events), ("--raw", raw)):
        if path is None or str(path) == "-":
            continue
        if path.resolve() in seen:
            raise UsageError(f"{option} {path} is {seen[path.resolve()]} as well: give each its own file")
        seen[path.resolve()] = option
        if not path.parent.is_dir():
            raise DataError(f"{path}: there is no folder {path.parent}")
        if path.is_dir():
            raise DataError(f"{path}: is a folder")
        if path.is_file() and not overwrite:
            raise DataError(f"{path}: the file exists already: choose another name or --overwrite it")


def _seconds(text: str | None) -> float | None:
    """Return a duration in seconds."""
    from hypnic.errors import UsageError

    if text is None:
        return None
    plain = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    colons = re.fullmatch(r"(\d+):(\d\d):(\d\d)", text.strip())
    if plain:
        seconds = float(plain[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[plain[2]]
    elif colons:
        seconds = int(colons[1]) * 3600 + int(colons[2]) * 60 + int(colons[3])
    else:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"duration {text!r} is none: use 90, 90s, 30m, 8h or 7:45:00")
    return float(seconds)
