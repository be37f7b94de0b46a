"""Commands on recorded and simulated nights: detect, info, simulate."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hypnic.cli.many import (
    AnewOption,
    DaskOption,
    EachOption,
    JobsOption,
    Many,
    ParquetOption,
    RetryOption,
    TimeoutOption,
    detect_many,
    is_many,
)
from hypnic.cli.shared import (
    AS_SAID,
    AutocalibrateOption,
    ColumnsOption,
    DatasetOption,
    PlaceOption,
    Reading,
    ReferenceOption,
    ScaleOption,
    SettingsOption,
    Site,
    TimeOption,
    UnitsOption,
    app,
    calibrate_night,
    clock_text,
    complain,
    plain,
    progress_bar,
    read_settings,
    reads,
    reference_notes,
    say,
    summary,
)

if TYPE_CHECKING:
    from datetime import datetime

    from hypnic.events import Events
    from hypnic.readers import BaseRecording
    from hypnic.settings import Settings

__all__ = ["detect", "info", "simulate"]

Format = Literal["table", "csv", "tsv", "json", "jsonl", "parquet"]
Placement = Literal["frame", "limb", "partner"]


@app.command()
@reads
def detect(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings: HDF5, delimited text, Axivity, GENEActiv, ActiGraph, Empatica; "
            "folders and quoted patterns, for many nights."
        ),
    ],
    format: Annotated[
        Format | None,
        typer.Option(help="By default as the ending of -o says; a table on a terminal, csv into a pipe."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write to; a folder for several recordings.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Only these labels, with commas between; jerks and all are short for their like."),
    ] = None,
    reading: Reading = AS_SAID,
    settings: SettingsOption = None,
    reference: ReferenceOption = None,
    place: PlaceOption = None,
    autocalibrate: AutocalibrateOption = False,
    write_events: Annotated[
        bool, typer.Option("--write-events", help="Put the events into the HDF5 night itself.")
    ] = False,
    jobs: JobsOption = None,
    dask: DaskOption = None,
    timeout: TimeoutOption = None,
    parquet: ParquetOption = False,
    each: EachOption = False,
    retry: RetryOption = False,
    anew: AnewOption = False,
) -> None:
    """Find the events in recordings.

    One row an event, its last revision. A table shows the jerks and counts the rest; csv, tsv, json and jsonl
    hold every event unless --labels says otherwise. With several files each gets one line, and a damaged one
    does not stop the others.

    Many nights (a folder, a quoted pattern, --jobs or --dask) need a folder of results, -o. Into it go events.csv,
    nights.csv (one row of quality figures and counts for each) and windows.csv, and a manifest: run again, only
    what is missing or has changed is done. A night that hangs or crashes costs itself alone.
    """
    from hypnic.errors import DataError, UsageError

    asked = Many(jobs, dask, timeout, parquet, each, retry, anew)
    if is_many(files, asked):
        single = {"reference": reference, "reference-place": place, "write-events": write_events or None}
        _refuse(single, "goes with single recordings, not with folders, patterns, --jobs or --dask")
        detect_many(files, output, asked, format, _labels(labels, "csv"), settings, reading.given())
        return
    several = len(files) > 1
    if several and output is None and format not in (None, "table"):
        raise UsageError("several recordings give several tables: name a folder for them with -o")
    if format == "parquet" and output is None:
        raise UsageError("Parquet is not for a terminal or a pipe: name a file with -o")
    if several and output is not None and output.suffix:
        raise UsageError(f"-o {output}: several recordings need a folder, this looks like a file")
    if several and reference is not None:
        raise UsageError("--reference goes with one recording, the one that its sensor was beside")
    if place is not None and reference is None:
        raise UsageError("--reference-place goes only with --reference")
    fmt = format or _format_of(output, several)
    wanted = _labels(labels, fmt)
    failed = 0
    for path, name in zip(files, _names(files), strict=True):
        try:
            second = nullcontext() if reference is None else replace(reading, site=None).open(reference)
            with (
                reading.open(path) as recording,
                second as other,
            ):
                calibration = calibrate_night(recording, autocalibrate)
                found = _detect(
                    recording,
                    read_settings(settings, recording.site),
                    str(path) if several else None,
                    other,
                    place,
                )
                if calibration is not None:
                    found.meta["calibration"] = calibration.as_dict()
                if write_events:
                    _write_events(recording, found)
                damage = [_damage_line(night) for night in (recording, other) if night and night.damage]
                notes = [note for night in (recording, other) if night for note in night.notes]
                notes += [] if other is None else reference_notes(recording, other)
                start = recording.start_time
        except (DataError, OSError) as error:
            failed += 1
            complain(error, None if str(path) in str(error) else path)
            continue
        shown = found.label(*wanted) if wanted else found
        if output is not None:
            target = output / f"{name}.{fmt}" if several else output
            target.parent.mkdir(parents=True, exist_ok=True)
            shown.write(target, fmt)
        elif fmt == "table" and not several:
            _show(shown, start)
        elif not several:
            sys.stdout.write(shown.to_text(fmt))
        if several or (fmt == "table" and output is None):
            say(f"{path}: {summary(found)}")
        for note in dict.fromkeys(notes):
            print(plain(f"hypnic: {path}: note: {note}"), file=sys.stderr)
        for line in damage:
            failed += 1
            print(f"hypnic: {path}: {line}", file=sys.stderr)
    if failed:
        if several:
            print(f"hypnic: {failed} of {len(files)} recordings failed or are damaged", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
@reads
def info(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    reading: Reading = AS_SAID,
    autocalibrate: AutocalibrateOption = False,
) -> None:
    """Say what a recording is: rate, length, gaps, range, noise, rest, and what looks wrong."""
    from hypnic.errors import DataError
    from hypnic.quality import describe

    with reading.open(file) as recording:
        said = []
        try:
            calibration = calibrate_night(recording, autocalibrate)
        except DataError as error:
            calibration, said = None, [str(error)]
        facts = describe(recording)
        facts["calibration"] = None if calibration is None else calibration.as_dict()
        facts["warnings"] += said
        try:
            found = _detect(recording, None, None)
            facts["rest"] = found.meta["rest"]
            facts["events"] = {label: n for label, n in found.counts().items() if n}
        except DataError as error:
            facts["rest"], facts["events"] = [], {}
            facts["warnings"].append(str(error))
    if json:
        import json as as_json

        print(as_json.dumps(facts, indent=1))
    else:
        _show_facts(facts)


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(help="HDF5 night to make.")],
    hours: Annotated[float | None, typer.Option(help="Length of the night; 8 by default.")] = None,
    rate: Annotated[float | None, typer.Option(help="Sampling rate in Hz; 100 by default.")] = None,
    site: Annotated[Site | None, typer.Option(help="Where the sensor is; the wrist by default.")] = None,
    seed: Annotated[int, typer.Option(help="Which sleeper and which night, or which jerks and where.")] = 1,
    sensor: Annotated[str | None, typer.Option(help="Model of the sensor; drawn by default.")] = None,
    jerks: Annotated[
        int | None, typer.Option(help="Number of jerks; drawn by default, with --into 20.")
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Let the sensor and its logger fail now and then.")
    ] = False,
    reference: Annotated[
        Placement | None,
        typer.Option(
            help="Where a second sensor is; what it feels of the same night is written beside, as NAME.reference.h5."
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="REAL",
            help="Put simulated jerks into this recording, which otherwise stays as it is. --rate, --site and the "
            "options below then say what the file does not.",
        ),
    ] = None,
    peak_g: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="With --into: smallest and largest peak of the jerks in g."),
    ] = None,
    quiet_g: Annotated[
        float | None,
        typer.Option(help="With --into: only where no axis strays further than this (g) within 3 s."),
    ] = None,
    dataset: DatasetOption = None,
    scale: ScaleOption = None,
    units: UnitsOption = None,
    columns: ColumnsOption = None,
    time: TimeOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Make a simulated night with known jerks; the truth is in its annotations.

    An assumed mechanical model with wide parameters, not human data. With --into the night is semi-synthetic: a real
    recording, simulated jerks.
    """
    from hypnic.errors import DataError
    from hypnic.events import JERKS
    from hypnic.simulate import Sleeper, write

    if into is not None:
        of_night = {"hours": hours, "sensor": sensor, "faults": faults or None, "reference": reference}
        _refuse(of_night, "does not go with --into")
        reading = Reading(site, rate, dataset, scale, units, columns, time)
        with reading.open(into) as recording:
            _inject(recording, output, jerks, seed, peak_g, quiet_g, overwrite)
        return
    of_real = {"dataset": dataset, "scale": scale, "units": units, "columns": columns, "time": time}
    _refuse({"peak-g": peak_g, "quiet-g": quiet_g, **of_real}, "needs --into")
    where, length, rate = site or "wrist", 8.0 if hours is None else hours, 100.0 if rate is None else rate
    sleeper = Sleeper(
        where, length, rate, seed, sensor=sensor, faults=faults, jerks=jerks, reference=reference
    )
    beside = output.with_name(f"{output.stem}.reference{output.suffix}")
    if reference and beside.exists() and not overwrite:
        raise DataError(
            f"{beside}: the file exists already: choose another name or overwrite it (--overwrite)"
        )
    write(output, sleeper, overwrite=overwrite)
    known = sum(str(label) in JERKS for label in sleeper.truth["label"])
    print(
        f"{output}: simulated {where} night, {length:g} h at {rate:g} Hz, {sleeper.sensor}, seed {seed}: "
        f"{known} jerks among {len(sleeper.truth)} events"
    )
    if sleeper.reference is not None:
        write(beside, sleeper.reference, overwrite=overwrite)
        print(f"{beside}: the same night at the reference ({reference})")


def _names(files: list[Path]) -> list[str]:
    """Return the names of the files of results; those in several folders may have the same stem."""
    stems = [path.stem for path in files]
    if len(set(stems)) == len(stems):
        return stems
    from hypnic.batch import night_names

    return night_names(files)


def _refuse(options: dict[str, Any], why: str) -> None:
    """Refuse the options that were given."""
    from hypnic.errors import UsageError

    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} {why}")


def _inject(
    recording: BaseRecording,
    output: Path,
    jerks: int | None,
    seed: int,
    peak_g: tuple[float, float] | None,
    quiet_g: float | None,
    overwrite: bool,
) -> None:
    from hypnic.simulate import SemiSynthetic

    asked = 20 if jerks is None else jerks
    limit = math.inf if quiet_g is None else quiet_g
    night = SemiSynthetic(recording, jerks=asked, seed=seed, peak_g=peak_g, quiet_g=limit)
    night.write(output, overwrite=overwrite)
    short = f" ({asked} were asked for, there is no room for more)" if len(night.truth) < asked else ""
    print(
        f"{output}: semi-synthetic {night.site} night, {night.duration / 3600:.2f} h at {night.rate:g} Hz, "
        f"seed {seed}: {len(night.truth)} simulated jerks{short} in {recording.path}"
    )


def _detect(
    recording: BaseRecording,
    settings: Settings | None,
    name: str | None,
    reference: BaseRecording | None = None,
    place: str | None = None,
) -> Events:
    from hypnic.detector import detect

    with progress_bar(recording.n_total, name or recording.path.name) as progress:
        return detect(recording, settings=settings, progress=progress, reference=reference, place=place)


def _write_events(recording: BaseRecording, found: Events) -> None:
    from hypnic.errors import DataError
    from hypnic.recording import Recording

    if not isinstance(recording, Recording):
        raise DataError(f"{recording.path}: only an HDF5 night can take its events: use -o")
    recording.write_events(found)


def _format_of(output: Path | None, several: bool) -> Format:
    from hypnic.errors import UsageError
    from hypnic.events import FORMATS

    if output is not None and not several:
        ending = output.suffix.lstrip(".").lower()
        if ending not in FORMATS:
            raise UsageError(f"-o {output}: give it one of the endings {', '.join(FORMATS)}, or a --format")
        return ending  # type: ignore[return-value]  # one of FORMATS
    if output is not None:
        return "csv"
    return "table" if several or sys.stdout.isatty() else "csv"


def _labels(labels: str | None, fmt: str) -> tuple[str, ...]:
    """Return the labels to show; none for all."""
    from hypnic.errors import UsageError
    from hypnic.events import JERKS, LABELS

    words = [word.strip() for word in (labels or ("jerks" if fmt == "table" else "all")).split(",")]
    if "all" in words:
        return ()
    wanted = [label for word in words for label in (JERKS if word == "jerks" else (word,))]
    for label in wanted:
        if label not in LABELS:
            raise UsageError(f"label {label!r} is unknown: use {', '.join(LABELS)}, jerks or all")
    return tuple(wanted)


def _damage_line(recording: BaseRecording) -> str:
    lost = sum(found.missing for found in recording.damage)
    return (
        f"damaged: {lost} samples could not be read and were taken as missing ({recording.damage[0].reason})"
    )


def _show(found: Events, start: datetime | None) -> None:
    """Print events as a table for people, within 80 columns."""
    from datetime import timedelta

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not len(found):
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for title in ("onset", "clock") if start else ("onset",):
        table.add_column(title, no_wrap=True)
    table.add_column("label", no_wrap=True)
    for title in ("score", "peak", "length", "quiet"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("rest", no_wrap=True)
    for row in found:
        onset = float(row["onset"])
        clock = [f"{start + timedelta(seconds=onset):%H:%M:%S}"] if start else []
        table.add_row(
            clock_text(onset, 2),
            *clock,
            str(row["label"]),
            f"{row['score']:.2f}",
            f"{1e3 * row['peak_g']:.0f} mg",
            f"{row['duration']:.2f} s",
            f"{row['quiet_before']:.0f} s",
            str(row["rest"]),
        )
    Console().print(table)


def _show_facts(facts: dict[str, Any]) -> None:
    def three(values: list[float | None]) -> str:
        return ", ".join("unknown" if value is None else f"{value:.4g}" for value in values)

    gaps = facts["gaps"]
    lines = {
        "file": facts["path"],
        "rate": f"{facts['rate']:g} Hz, effective {facts['effective_rate']:.6g} Hz",
        "length": f"{clock_text(facts['duration'])} ({facts['samples']} samples)",
        "start": facts["start"] or "unknown",
        "site": facts["site"],
        "sensor": facts["sensor"] or "unknown",
        "range": f"{facts['range_g']:g} g" if facts["range_g"] else "unknown",
        "lowest x, y, z": three(facts["low"]) + " g",
        "highest x, y, z": three(facts["high"]) + " g",
        "noise x, y, z": three(facts["noise"]) + " g",
        "step": "unknown" if facts["step_g"] is None else f"{facts['step_g']:.3g} g",
        "gaps": f"{gaps['count']}, {gaps['seconds']:.1f} s in all, the longest {gaps['longest_s']:.1f} s"
        if gaps["count"]
        else "none",
        "flat": f"{facts['flat_s']:.0f} s in runs of 5 s and more" if facts["flat_s"] else "none",
    }
    if facts["clipped"]:
        lines["clipped"] = f"{facts['clipped']} samples"
    if facts["invalid"]:
        lines["invalid"] = f"{facts['invalid']} samples"
    for name, value in lines.items():
        print(f"{name:>16}  {plain(value)}")
    for number, bout in enumerate(facts["rest"]):
        span = f"{clock_text(bout['onset'])}  {bout['rest']:<9} {bout['duration'] / 60:7.1f} min"
        print(f"{'' if number else 'rest':>16}  {span}")
    for label, count in facts["events"].items():
        print(f"{label:>16}  {count}")
    for note in facts["notes"]:
        print(f"{'note':>16}  {plain(note)}")
    for warning in facts["warnings"]:
        print(f"{'warning':>16}  {plain(warning)}")
