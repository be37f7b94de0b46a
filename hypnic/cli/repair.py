"""``hypnic repair``: what is left of a damaged night, as a sound one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypnic.cli.shared import RateOption, ScaleOption, SiteOption, app, clock_text, plain, say

if TYPE_CHECKING:
    from hypnic.recording import Repair


@app.command()
def repair(
    file: Annotated[
        Path, typer.Argument(help="A night: damaged, cut short, or cut off while it was recorded.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Night to write; by default the name with -repaired.h5."),
    ] = None,
    rate: RateOption = None,
    scale: ScaleOption = None,
    site: SiteOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Bring back of a damaged HDF5 night what HDF5 alone does not, as a new night; the damaged one is never changed.

    A sample is brought back where it belongs, or it is missing: none is made up. (Those of a night that was not closed
    carry no checksum: damage to the samples themselves cannot be told.) --rate, --scale and --site say what the file
    has lost.
    """
    from hypnic.recording import repair as repair_night

    _report(repair_night(file, output, rate=rate, scale=scale, site=site, overwrite=overwrite))


def _report(done: Repair) -> None:
    if done.out is None:
        say(f"{done.path}: nothing is wrong with it: {done.samples} samples and all tables can be read")
        return
    for fault in done.wrong:
        print(plain(f"  wrong: {fault}"))
    brought = ", ".join(f"{name} {rows}" for name, rows in done.tables.items() if rows is not None)
    print(f"{plain(done.out)}: {done.samples} samples ({clock_text(done.samples / done.rate)}); {brought}")
    if done.missing:
        where = "one place" if done.places == 1 else f"{done.places} places"
        print(f"  lost: {done.missing} samples ({done.missing / done.rate:.1f} s) in {where}")
    if gone := [name for name, rows in done.tables.items() if rows is None]:
        print(f"  lost: table of {', '.join(gone)}")
    for note in done.notes:
        print(plain(f"  note: {note}"))
