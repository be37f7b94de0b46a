"""Commands on the machine: compile once, and measure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypnic.cli.shared import app

if TYPE_CHECKING:
    from hypnic.bench import Figure, Report

__all__ = ["bench", "warmup"]


@app.command()
def warmup() -> None:
    """Compile the detector once, so that nobody waits for it later, and say where it is kept.

    Every later process starts from there, on other machines with the same processor too where they share the folder.
    NUMBA_CACHE_DIR names another folder than that of the sources (or, where that is read-only, the user's cache).
    Without a folder that can be written each process compiles anew: some 15 s each, with the same results.
    """
    from time import perf_counter

    from hypnic.warmup import warm_up

    start = perf_counter()
    cache = warm_up()
    took = f"{perf_counter() - start:.1f} s"
    if cache.unsaved or not (cache.loaded or cache.saved):
        print(f"compiled in {took}, not kept: every process will compile anew")
    elif cache.saved:
        print(f"compiled in {took}: {cache.saved} pieces written, {cache.loaded} were there")
    else:
        print(f"nothing to compile: {cache.loaded} pieces loaded in {took}")
    print(f"cache: {cache.folder or 'none'}")
    if cache.problem:
        print(f"note: {cache.problem}")


@app.command()
def bench(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Recordings with annotations; by default the project's sample recordings, or a night simulated for it."
        ),
    ] = None,
    runs: Annotated[int, typer.Option(help="How often each timing is taken; 5 or more.")] = 5,
    json: Annotated[
        Path | None, typer.Option(help="Write the figures to this file too, to compare with.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with a file of an earlier --json, here or elsewhere.")
    ] = None,
) -> None:
    """Measure how good hypnic is on annotated recordings, and how fast on this machine.

    Quality against the annotations, nanoseconds for each sample and times real time, memory and start: medians with the
    spread of the runs. Against simulated truth the quality is that on the simulation, not on people.
    """
    from hypnic.bench import bench as measure
    from hypnic.bench import load
    from hypnic.events import write_whole

    other = None if against is None else load(against)
    report = measure(files or (), runs=runs, progress=_say if sys.stderr.isatty() else None)
    if json is not None:
        write_whole(json, report.to_json())
    _show(report, other)


def _say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr)


def _show(report: Report, other: Report | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from hypnic.bench import compare

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("figure", no_wrap=True)
    titles = (
        ("value", "unit", "spread") if other is None else ("here", "there", "ratio", "unit", "difference")
    )
    for title in titles:
        table.add_column(title, justify="left" if title in ("unit", "difference") else "right", no_wrap=True)
    differences: list[str] = []
    if other is None:
        for figure in report.figures:
            table.add_row(figure.name, _number(figure.value), figure.unit, _range(figure))
    else:
        rows, differences = compare(report, other)
        for row in rows:
            values = _number(row.here.value), _number(row.there.value), _number(row.ratio)
            table.add_row(row.here.name, *values, row.here.unit, _VERDICTS[row.verdict])
    console = Console(highlight=False)
    console.print(table)
    runs = max(figure.runs for figure in report.figures)
    print(f"Medians of {runs} runs; spread: least and greatest of them, of the quality 95 % over recordings.")
    for item in report.recordings:
        print(f"{item['name']}: {item['samples']} samples, {item['rate']:g} Hz, {item['site']}")
    print(f"From {report.source}.")
    machine = report.machine
    print(
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, numba {machine['numba']}, "
        f"hypnic {machine['hypnic']}; load {machine['load'][0][0]} before, {machine['load'][1][0]} after"
    )
    if machine["load"][0][0] > 0.5 * (machine["cores"] or 1):
        print("note: the machine was busy before: the timings are too long, and spread more than they should")
    for note in report.notes:
        print(f"note: {note}")
    for difference in differences:
        print(f"differs: {difference}")


_VERDICTS = {
    "same": "same",
    "changed": "CHANGED",
    "within": "within spread",
    "outside": "OUTSIDE",
    "other data": "other data",
}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _range(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{_number(figure.low)} to {_number(figure.high)}"
