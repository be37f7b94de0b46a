"""The command that makes nights of other people's files: convert."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hypnic.cli.shared import (
    AS_SAID,
    AutocalibrateOption,
    Reading,
    app,
    calibrate_night,
    complain,
    plain,
    progress_bar,
    reads,
)

if TYPE_CHECKING:
    from hypnic.readers import BaseRecording

__all__ = ["convert"]

ENDINGS: Final = (".h5", ".hdf5", ".hdf")
"""Endings of a target that is a file rather than a folder."""

NOTES_SIZE: Final = 4096
"""Characters of notes that go into a file's attribute, which HDF5 limits to 64 kB."""


@app.command()
@reads
def convert(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT", help="Recordings (or patterns), then the HDF5 night or folder to make."
        ),
    ],
    reading: Reading = AS_SAID,
    autocalibrate: AutocalibrateOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Make HDF5 nights of other recordings: Axivity, GENEActiv, ActiGraph, Empatica, text, any HDF5.

    Says what was read, what is lost, and why. Lost samples are gaps, never made up. A damaged file gives what is
    sound in it (and exit status 1); with several files, one that cannot be read does not stop the others.
    """
    from hypnic.errors import DataError, UsageError

    if len(paths) < 2:
        raise UsageError("convert needs a recording and a night to make of it: hypnic convert IN OUT.h5")
    files, target = _expanded(paths[:-1]), paths[-1]
    to_file = target.suffix.lower() in ENDINGS and not target.is_dir()
    if len(files) > 1 and to_file:
        raise UsageError(f"{target}: several recordings need a folder, this looks like a file")
    targets = [target if to_file else target / f"{_stem(file)}.h5" for file in files]
    twice = [name for name, count in Counter(targets).items() if count > 1]
    if twice:
        raise UsageError(f"several of the recordings would become {twice[0]}: convert them one by one")
    if not to_file:
        target.mkdir(parents=True, exist_ok=True)
    failed = 0
    for file, out in zip(files, targets, strict=True):
        try:
            if out.exists() and not overwrite:
                raise DataError(f"{out}: the file exists already: choose another name or --overwrite")
            with reading.open(file) as recording:
                calibrate_night(recording, autocalibrate)
                _write(recording, out, overwrite)
                damaged = bool(recording.damage)
                _report(recording, out)
        except (DataError, OSError) as error:
            failed += 1
            complain(error, None if str(file) in str(error) or str(out) in str(error) else file)
            continue
        failed += damaged
    if failed:
        raise typer.Exit(1)


def _expanded(paths: list[Path]) -> list[Path]:
    """Return the files that are meant, those of a pattern that no shell has expanded included."""
    from hypnic.errors import DataError

    files: list[Path] = []
    for path in paths:
        if path.exists() or not glob.has_magic(str(path)):
            files.append(path)
            continue
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # the pattern may be absolute
        if not found:
            raise DataError(f"{path}: no file is of this pattern")
        files.extend(Path(name) for name in found)
    return files


def _stem(path: Path) -> str:
    """Return what a night is called after: a folder's whole name, a file's without its ending."""
    return path.resolve().name if path.is_dir() else path.stem


def _write(recording: BaseRecording, out: Path, overwrite: bool) -> None:
    """Write a night beside `out` and give it that name when it is whole."""
    from hypnic.errors import DataError
    from hypnic.recording import write_recording

    calibration = recording.calibration
    attrs = {
        "source": recording.path.name,
        **({"conversion_notes": "; ".join(recording.notes)[:NOTES_SIZE]} if recording.notes else {}),
        **({} if calibration is None else {"calibration": calibration.as_dict()}),
    }
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with progress_bar(recording.n_total, recording.path.name) as progress:
            write_recording(partial, recording, attrs=attrs, progress=progress)
        if overwrite:
            partial.replace(out)
            return
        try:
            # Unlike a renaming, a link never takes the place of a file that has come meanwhile.
            os.link(partial, out)
        except FileExistsError:
            raise DataError(f"{out}: the file exists already: choose another name or --overwrite") from None
        except OSError:
            # The file system knows no links.
            partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)


def _report(recording: BaseRecording, out: Path) -> None:
    from hypnic.recording import Recording

    with Recording(out) as night:
        stored = f"counts of {night.scale:.6g} g" if night.scale else "float32 in g"
        sensor = f", {plain(night.sensor)}" if night.sensor else ""
        print(
            f"{out}: {night.duration / 3600:.2f} h at {night.rate:.6g} Hz, {night.site}{sensor}: "
            f"{night.n_samples} samples as {stored}, from {recording.path}"
        )
        for note in recording.notes:
            print(f"  note: {plain(note)}")
        lost: Counter[str] = Counter()
        times: Counter[str] = Counter()
        for gap in night.gaps:
            lost[str(gap["reason"])] += int(gap["missing"])
            times[str(gap["reason"])] += 1
        for reason, missing in lost.most_common():
            seconds = missing / night.rate
            print(
                f"  lost: {missing} samples ({seconds:.1f} s), gaps: {times[reason]}, reason: {plain(reason)}"
            )
