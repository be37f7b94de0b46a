"""Many nights at the command line: what `hypnic detect` does with folders, patterns, --jobs and --dask."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hypnic.cli.shared import complain, summary

if TYPE_CHECKING:
    from hypnic.batch import Outcome

__all__ = [
    "AnewOption",
    "DaskOption",
    "EachOption",
    "JobsOption",
    "Many",
    "ParquetOption",
    "RetryOption",
    "TimeoutOption",
    "detect_many",
    "is_many",
]

JobsOption = Annotated[
    int | None,
    typer.Option(min=0, help="Many nights: so many at a time; 0 for one on each core, by default 1."),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Many nights: on the workers of this Dask scheduler, which see the same files.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Many nights: longest time (s) for one; 0 for no limit, by default 600. One that hangs is ended.",
    ),
]
ParquetOption = Annotated[
    bool, typer.Option("--parquet", help="Many nights: write the tables as Parquet too (hypnic[parquet]).")
]
EachOption = Annotated[
    bool,
    typer.Option(
        "--each", help="Many nights: also a file of events for each, in the folder each, as --format."
    ),
]
RetryOption = Annotated[
    bool, typer.Option("--retry", help="Many nights: try again what failed, though nothing has changed.")
]
AnewOption = Annotated[bool, typer.Option("--anew", help="Many nights: do all again, done or not.")]

_SHOWN = 5
"""Failures that are listed at the end: each was said when it came, or stands in nights.csv."""


class Many(NamedTuple):
    """What was asked for many nights."""

    jobs: int | None
    dask: str | None
    timeout: float | None
    parquet: bool
    each: bool
    retry: bool
    anew: bool


def is_many(files: list[Path], asked: Many) -> bool:
    """Tell whether recordings are to be done as many nights, with a folder of results."""
    return any(value is not None and value is not False for value in asked) or any(
        (path.is_dir() and not _is_one(path)) or (set("*?[") & set(str(path)) and not path.exists())
        for path in files
    )


def _is_one(folder: Path) -> bool:
    """Tell whether a folder is a recording itself, as some makers' are."""
    from hypnic.readers import FORMATS

    return any(known.folders and known.matches(folder, b"") for known in FORMATS.values())


def detect_many(
    files: list[Path],
    output: Path | None,
    asked: Many,
    fmt: str | None,
    labels: tuple[str, ...],
    settings: Path | None,
    options: dict[str, Any],
) -> None:
    """Detect in many nights, say how far it is, and what failed."""
    from hypnic.batch import TIMEOUT_S, dask_executor, detect_nights, find_nights
    from hypnic.errors import UsageError
    from hypnic.settings import Settings

    if output is None:
        raise UsageError("many nights need a folder for their results: name it with -o")
    if output.is_file():
        raise UsageError(f"-o {output}: many nights need a folder, this is a file")
    if asked.jobs is not None and asked.dask is not None:
        raise UsageError("--jobs is for this machine, --dask for a cluster: choose one")
    if fmt is not None and not asked.each:
        raise UsageError(
            "--format is that of the files of --each: the tables are CSV, with --parquet Parquet too"
        )
    if fmt == "table":
        raise UsageError("a table is for the terminal: --each writes csv, tsv, json or jsonl")
    values = None
    if settings is not None:
        import tomllib

        # Read in full only to have it refused here; what a site's preset has of its own stays the preset's.
        Settings.from_toml(settings, options["site"] or "wrist")
        values = tomllib.loads(settings.read_text(encoding="utf-8"))
    nights = find_nights(files, leave_out=output)
    with ExitStack() as stack:
        executor = None if asked.dask is None else stack.enter_context(dask_executor(asked.dask))
        result = detect_nights(
            nights,
            output,
            jobs=1 if asked.jobs is None else asked.jobs,
            executor=executor,
            settings=values,
            options=options,
            timeout=TIMEOUT_S if asked.timeout is None else asked.timeout,
            labels=labels,
            parquet=asked.parquet,
            each=(fmt or "csv") if asked.each else None,
            retry=asked.retry,
            anew=asked.anew,
            progress=stack.enter_context(_progress()),
        )
    before = f", {result.skipped} done before" if result.skipped else ""
    print(
        f"{output}: {len(result.nights)} nights: {result.done} done{before}, {len(result.failed)} failed; "
        + ", ".join(path.name for path in result.tables)
    )
    for name, seconds in result.damaged.items():
        print(
            f"hypnic: {name}: damaged: {seconds:.1f} s could not be read and were taken as missing",
            file=sys.stderr,
        )
    for number, (_, reason) in enumerate(result.failed.values()):
        if number == _SHOWN:
            print(
                f"hypnic: and {len(result.failed) - _SHOWN} more: see {output / 'nights.csv'}",
                file=sys.stderr,
            )
            break
        complain(UsageError(reason))
    if result.failed or result.damaged:
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str, Outcome], None]]:
    """Say how far it is: a bar on a terminal, otherwise a line for each night."""
    if not sys.stderr.isatty():

        def line(done: int, total: int, name: str, outcome: Outcome) -> None:
            print(f"{done}/{total} {name}: {_said(outcome)}", flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("nights", total=None)
        failed = 0

        def move(done: int, total: int, name: str, outcome: Outcome) -> None:
            nonlocal failed
            if outcome.status != "done":
                failed += 1
                bar.console.print(f"{name}: {_said(outcome)}", markup=False, highlight=False)
            text = f"nights, {failed} failed" if failed else "nights"
            bar.update(task, completed=done, total=total, description=text)

        yield move


def _said(outcome: Outcome) -> str:
    return summary(outcome.events) if outcome.status == "done" else f"{outcome.status}: {outcome.reason}"
