"""The command that writes a recording and its events in other tools' formats: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hypnic.cli.shared import (
    AS_SAID,
    Reading,
    SettingsOption,
    app,
    progress_bar,
    read_settings,
    reads,
    summary,
)

__all__ = ["export"]

To = Literal["bids", "edf", "fif", "csv", "tsv", "json", "jsonl", "parquet"]


@app.command()
@reads
def export(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    output: Annotated[Path, typer.Argument(help="File to write; for BIDS the folder of the data set.")],
    to: Annotated[
        To | None,
        typer.Option(
            help="By default what the ending says: .edf, .fif, or the events alone; a folder is BIDS."
        ),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Detect anew, even where the night holds events.")
    ] = False,
    subject: Annotated[
        str | None, typer.Option(help="BIDS: label of the subject; by default as the night says, or 01.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="BIDS: label of the session, one for each night.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="BIDS: label of the task; sleep by default.")] = None,
    settings: SettingsOption = None,
    reading: Reading = AS_SAID,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Write a recording and its events as BIDS, EDF+, MNE's FIF or a table.

    The events are those in the night, or else what is detected now. In EDF+ and FIF missing samples lie under an
    annotation BAD_ACQ_SKIP; in BIDS they are n/a. BIDS takes one night after another into the same folder.
    """
    from hypnic.detector import detect as detect_in
    from hypnic.errors import DataError, UsageError
    from hypnic.export import export as export_to
    from hypnic.export import find_exporter, stored_events
    from hypnic.export.base import refuse_existing

    folder = not output.suffix or output.is_dir()
    name = to or ("bids" if folder else None)
    exporter = find_exporter(output, name)
    given = {"subject": subject, "session": session, "task": task}
    for option, value in given.items():
        if value is not None and option not in exporter.options:
            raise UsageError(f"--{option} means nothing for {exporter.name}")
    if file.resolve() == output.resolve():
        raise UsageError(f"{output} is the recording itself: name another file")
    if not output.parent.is_dir():
        raise DataError(f"{output}: there is no folder {output.parent}")
    if exporter.suffixes and not overwrite:
        # Before a detector runs for nothing.
        refuse_existing(output)
    with reading.open(file) as recording:
        chosen = read_settings(settings, recording.site)
        events = None if detect or chosen is not None else stored_events(recording)
        if events is None:
            with progress_bar(recording.n_total, file.name) as progress:
                events = detect_in(recording, settings=chosen, progress=progress)
        written = export_to(recording, output, exporter.name, events=events, overwrite=overwrite, **given)
    what = str(written[0]) if len(written) == 1 else f"{output}: {len(written)} files"
    found = summary(events) if "counts" in events.meta else f"{len(events)} events (jerks are candidates)"
    print(f"{what}: {exporter.name}, {found}")
