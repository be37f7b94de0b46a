"""The command that compares many nights by a diary: study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hypnic.cli.shared import SettingsOption, SiteOption, app, complain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypnic.study import Night, Study

__all__ = ["study"]

Exposure = Literal["hours", "windows", "nights"]


@app.command()
def study(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of nights, or of their tables of events.")
    ],
    diary: Annotated[
        Path,
        typer.Option(
            help="CSV with a row a night: date (the evening, as 2024-03-21) or file, perhaps subject, and whatever the "
            "nights are to be compared by: caffeine, stress, exercise."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for ratios.csv, nights.csv, study.md, study.png."),
    ] = None,
    effect: Annotated[float, typer.Option(help="Rate ratio whose nights are asked for.")] = 1.5,
    covariates: Annotated[
        str | None, typer.Option(help="Columns of the diary, with commas between; all by default.")
    ] = None,
    exposure: Annotated[
        Exposure | None,
        typer.Option(help="What jerks are counted against: hours of onset, onset windows, or nights."),
    ] = None,
    per: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=STEP", help="Step that a ratio is for, such as caffeine=100; may be repeated."
        ),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(help="False alarms of the detector per hour of onset, to say what they do to a ratio."),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Detect anew, even where the nights hold events.")
    ] = False,
    site: SiteOption = None,
    settings: SettingsOption = None,
) -> None:
    """Compare the candidate jerks of many nights by a diary.

    A row of the diary belongs to the recording that began between noon of its date and the next noon, or to the file
    that it names. Rate ratios come with 95 % intervals, and with the number of nights that an effect would have
    needed. What the nights cannot carry is not fitted, and the reason said.
    """
    from hypnic.errors import DataError
    from hypnic.study import compare, files_in, read_diary, read_night

    steps = _steps(per or [])
    told = read_diary(diary)
    nights: list[Night] = []
    failed = 0
    for path in _watched(files_in(folder, diary)):
        try:
            nights.append(read_night(path, detect=detect, site=site, settings=settings))
        except (DataError, OSError) as error:
            failed += 1
            complain(error, None if str(path) in str(error) else path)
    if not nights:
        raise DataError(f"{folder}: none of its files could be read")
    chosen_columns = None if covariates is None else [word.strip().lower() for word in covariates.split(",")]
    result = compare(
        nights,
        told,
        covariates=chosen_columns,
        exposure_in=exposure,
        effect=effect,
        per=steps,
        false_alarms=false_alarms,
    )
    _show(result)
    if output is not None:
        for path in result.write(output):
            print(path)
    if failed:
        print(f"hypnic: {failed} files could not be read", file=sys.stderr)
        raise typer.Exit(1)


def _watched(files: list[Path]) -> Iterable[Path]:
    """Show how far the files are, on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, "nights", console=Console(stderr=True), transient=True)


def _steps(words: list[str]) -> dict[str, float]:
    from hypnic.errors import UsageError

    steps = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            steps[name.strip().lower()] = float(value)
        except ValueError:
            raise UsageError(f"--per {word!r} is not a column and its step, such as caffeine=100") from None
    return steps


def _show(result: Study) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(result.headline))
    head, rows = result.ratio_rows()
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
        for at, title in enumerate(head):
            table.add_column(Text(title), justify="left" if at < 2 else "right", overflow="fold")
        for row in rows:
            # As Text: a name in brackets is not markup.
            table.add_row(*map(Text, row))
        console.print(table)
    for refusal in result.refusals:
        console.print(Text(f"not fitted: {refusal.covariate}: {refusal.why}"))
    for note in result.notes:
        console.print(Text(f"- {note}"))
