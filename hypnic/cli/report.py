"""Command that makes a page of a night: report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypnic.cli.shared import (
    AS_SAID,
    PlaceOption,
    Reading,
    ReferenceOption,
    SettingsOption,
    app,
    progress_bar,
    read_settings,
    reads,
    reference_notes,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from hypnic.events import Events
    from hypnic.readers import BaseRecording

__all__ = ["report"]


@app.command()
@reads
def report(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; by default the recording's name with .html."),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Show the events that the night holds, in place of detecting anew."),
    ] = False,
    zone: Annotated[
        str | None,
        typer.Option(help="Time zone to tell times in, such as Europe/Zurich; by default as the file says."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="In place of the file's name.")] = None,
    reading: Reading = AS_SAID,
    settings: SettingsOption = None,
    reference: ReferenceOption = None,
    place: PlaceOption = None,
) -> None:
    """Make a page of a night: its jerks, when and how strong, and all that led to them.

    One HTML file that opens in any browser, offline. An existing one is replaced. What is shown are candidates.
    """
    from hypnic.detector import detect as detect_in
    from hypnic.errors import UsageError
    from hypnic.report.page import write_report

    target = output or file.with_name(f"{file.stem}.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {target}: a page has the ending .html")
    if target.exists() and target.samefile(file):
        raise UsageError(f"-o {target}: that is the recording itself")
    if stored and settings is not None:
        raise UsageError("--settings goes with detecting anew, not with --stored")
    if stored and reference is not None:
        raise UsageError("--reference goes with detecting anew, not with --stored")
    if place is not None and reference is None:
        raise UsageError("--reference-place goes only with --reference")
    where = None if zone is None else _zone(zone)
    with reading.open(file) as recording:
        events = _stored(recording) if stored else None
        chosen = read_settings(settings, recording.site)
        with progress_bar(recording.n_total, file.name) as progress:
            if reference is not None:
                with replace(reading, site=None).open(reference) as other:
                    events = detect_in(
                        recording, settings=chosen, progress=progress, reference=other, place=place
                    )
                    for note in reference_notes(recording, other):
                        print(f"hypnic: {file}: note: {note}", file=sys.stderr)
            write_report(
                recording,
                target,
                events,
                settings=chosen,
                zone=where,
                title=title,
                progress=progress,
            )
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def _zone(name: str) -> tzinfo:
    """Return a time zone by its name."""
    from zoneinfo import ZoneInfo

    from hypnic.errors import UsageError

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"--zone {name!r} is not a time zone such as Europe/Zurich or UTC") from None


def _stored(recording: BaseRecording) -> Events:
    from hypnic.errors import DataError

    events = recording.events()
    # A night that nothing was detected in has an empty table, which does not say how it was made.
    if events is None or not (len(events) or events.meta):
        raise DataError(f"{recording.path}: it holds no events: leave out --stored")
    return events
