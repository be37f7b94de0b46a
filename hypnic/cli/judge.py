"""Commands on what was found: how good it is, why it is so, and the rest around it."""

from __future__ import annotations

import json as as_json
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hypnic.cli.shared import (
    AS_SAID,
    Reading,
    SettingsOption,
    app,
    clock_text,
    parse_clock,
    progress_bar,
    read_settings,
    reads,
)

if TYPE_CHECKING:
    from datetime import datetime

    from hypnic.bouts import RestTable
    from hypnic.explanation import Explanation, Flip
    from hypnic.readers import BaseRecording
    from hypnic.scoring import Score, Section
    from hypnic.settings import Settings

__all__ = ["explain", "rest", "score"]

RestFormat = Literal["table", "csv", "tsv", "json"]

_TABLES = (".h5", ".hdf5", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet")
"""Endings of the files in a folder that can hold events."""

_FLIPS = 3
"""Single changes that would turn the score around, as far as `explain` prints them."""

_PAIRS = 3
"""Products of features that `explain` prints."""

_WIDE = 120
"""Columns of a terminal that has room for what each feature adds alone and in pairs."""

_HEAD = 5
"""Letters of a label at the head of a narrow column."""


@app.command()
def score(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOUND TRUTH",
            help="Pairs of files, or of folders whose files have the same names. FOUND: a night with events in it, or "
            "a table. TRUTH: a night with annotations, or a table. A table is CSV, TSV, BIDS events.tsv or JSON with "
            "a column onset in seconds.",
        ),
    ],
    detect: Annotated[
        bool,
        typer.Option(
            "--detect", help="FOUND is a recording: detect now, and measure the latency of rows too."
        ),
    ] = False,
    settings: SettingsOption = None,
    tolerance: Annotated[float, typer.Option(help="Largest onset error (s) of a hit.")] = 0.5,
    labels: Annotated[
        str, typer.Option(help="What counts as a jerk on both sides, with commas between.")
    ] = "hypnic_jerk,isolated_jerk",
    hours: Annotated[
        float | None,
        typer.Option(help="Valid hours of each night, where neither file of a pair is a recording."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap over nights.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write to, .json or .md.")
    ] = None,
) -> None:
    """Score found events against the truth.

    Pairs of onsets are one to one, as many as possible within the tolerance. Several nights give pooled figures, with
    95 % intervals by bootstrap over nights. Against simulated truth a score says how the detector does on the
    simulation, not on people.
    """
    from hypnic.errors import UsageError
    from hypnic.events import write_whole
    from hypnic.scoring import combine, score_files

    fmt = _score_format(json, markdown, output)
    counted = tuple(word.strip() for word in labels.split(",") if word.strip())
    if settings is not None and not detect:
        raise UsageError("--settings are those of the detector: add --detect to run it")
    options: dict[str, Any] = {"labels": counted, "tolerance": tolerance, "hours_valid": hours}
    scores = []
    for found, truth in _pairs(paths, detect):
        if detect:
            scores.append(_score_now(found, truth, settings, options))
        else:
            scores.append(score_files(found, truth, **options))
    total = combine(scores, seed=seed)
    for note in _notes(total):
        print(f"hypnic: {note}", file=sys.stderr)
    text = as_json.dumps(total.to_dict(), indent=1) + "\n" if fmt == "json" else total.table()
    if output is not None:
        write_whole(output, text)
        print(f"{output}: {total.headline}")
    elif fmt == "table":
        _show_score(total)
    else:
        sys.stdout.write(text)


@app.command()
@reads
def explain(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    event: Annotated[int | None, typer.Argument(metavar="ID", help="Id of the event in its table.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="In place of ID a time from the start of the recording: 0:12:47, 12:47 or 767 (s)."
        ),
    ] = None,
    settings: SettingsOption = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    reading: Reading = AS_SAID,
) -> None:
    """Say why an event got its label: its features, what each added, and what decided.

    The detector is run again, because the event table does not hold all features. Log odds are those of a jerk: what
    is above zero speaks for one.
    """
    from hypnic.errors import UsageError
    from hypnic.explanation import explain as explain_event

    if (event is None) == (at is None):
        raise UsageError("say which event: its ID, or --at a time")
    seconds = None if at is None else parse_clock(at, "--at")
    with reading.open(file) as recording:
        chosen = read_settings(settings, recording.site)
        with progress_bar(recording.n_total, file.name) as progress:
            why = explain_event(recording, event, at_s=seconds, settings=chosen, progress=progress)
        note = _stored_otherwise(recording, why)
        start = recording.start_time
    if note:
        print(f"hypnic: {file}: {note}", file=sys.stderr)
    if json:
        print(as_json.dumps(why.to_dict(), indent=1))
    else:
        _show_why(why, start)


@app.command()
@reads
def rest(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    format: Annotated[
        RestFormat | None,
        typer.Option(help="By default as the ending of -o says; a table on a terminal, csv into a pipe."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write to.")] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="csv, tsv: the onset windows instead of the bouts.")
    ] = False,
    settings: SettingsOption = None,
    reading: Reading = AS_SAID,
) -> None:
    """List the bouts of rest, and the onset windows, with the jerks in each.

    An onset window is a settling and the time of falling asleep after it. A sensor sees rest, not sleep stage.
    """
    from hypnic.bouts import FORMATS, rest_table
    from hypnic.detector import detect
    from hypnic.errors import UsageError

    ending = output.suffix.lstrip(".").lower() if output is not None else ""
    if output is not None and format is None and ending not in FORMATS:
        raise UsageError(f"-o {output}: give it one of the endings {', '.join(FORMATS)}, or a --format")
    if output is not None and format == "table":
        raise UsageError("a table is for the terminal: write csv, tsv or json")
    fmt = format or ending or ("table" if sys.stdout.isatty() else "csv")
    with reading.open(file) as recording:
        chosen = read_settings(settings, recording.site)
        with progress_bar(recording.n_total, file.name) as progress:
            found = rest_table(detect(recording, settings=chosen, progress=progress))
        start = recording.start_time
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        found.write(output, fmt, windows=windows)
    elif fmt == "table":
        _show_rest(found, start)
    else:
        sys.stdout.write(found.to_text(fmt, windows=windows))


# Scoring


def _score_format(json: bool, markdown: bool, output: Path | None) -> str:
    from hypnic.errors import UsageError

    if json and markdown:
        raise UsageError("--json and --markdown are two formats: choose one")
    if json or markdown:
        return "json" if json else "markdown"
    if output is None:
        return "table"
    formats = {".json": "json", ".md": "markdown"}
    if output.suffix.lower() not in formats:
        raise UsageError(f"-o {output}: give it the ending .json or .md, or say --json or --markdown")
    return formats[output.suffix.lower()]


def _pairs(paths: list[Path], detect: bool) -> list[tuple[Path, Path]]:
    """Return the files to score against each other, folders taken apart; with `detect` FOUND are recordings."""
    from hypnic.errors import UsageError

    if len(paths) % 2:
        raise UsageError(
            f"a TRUTH is missing: give one for each FOUND, in pairs, or two folders (got {len(paths)})"
        )
    pairs: list[tuple[Path, Path]] = []
    for found, truth in zip(paths[::2], paths[1::2], strict=True):
        if found.is_dir() != truth.is_dir():
            raise UsageError(
                f"{found} and {truth}: a folder is scored against a folder, a file against a file"
            )
        pairs += _pairs_in(found, truth, detect) if found.is_dir() else [(found, truth)]
    return pairs


def _pairs_in(found: Path, truth: Path, detect: bool) -> list[tuple[Path, Path]]:
    from hypnic.errors import DataError
    from hypnic.readers import FORMATS

    recordings = tuple(ending for known in FORMATS.values() for ending in known.suffixes)
    left, right = _nights_in(found, recordings if detect else _TABLES), _nights_in(truth, _TABLES)
    for names, folder, other in (
        (left.keys() - right.keys(), truth, found),
        (right.keys() - left.keys(), found, truth),
    ):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise DataError(f"{folder}: nothing in it belongs to {listed} in {other}")
    if not left:
        raise DataError(f"{found}: there is no night and no table of events in it")
    return [(left[name], right[name]) for name in sorted(left)]


def _nights_in(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Return the files of a folder that have one of the endings, by the name of their night."""
    from hypnic.errors import DataError

    nights: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in endings or path.name.startswith(".") or not path.is_file():
            continue
        # BIDS describes the columns of x_events.tsv in x_events.json.
        if path.suffix.lower() == ".json" and path.with_suffix(".tsv").exists():
            continue
        name = path.stem.removesuffix("_events")
        if name in nights:
            raise DataError(
                f"{folder}: both {nights[name].name} and {path.name} are of {name}: name the files"
            )
        nights[name] = path
    return nights


def _score_now(found: Path, truth: Path, settings: Path | None, options: dict[str, Any]) -> Score:
    """Detect in a recording and score what came out, with the times at which it did."""
    from hypnic.detector import detect_rows, emissions
    from hypnic.marks import load, recorded_hours
    from hypnic.readers import open_recording
    from hypnic.scoring import score as score_events

    marks = load(truth, "truth")
    with open_recording(found) as recording:
        chosen: Settings | None = read_settings(settings, recording.site)
        with progress_bar(recording.n_total, found.name) as progress:
            detector, rows = detect_rows(recording, settings=chosen, progress=progress)
    hours = options["hours_valid"]
    if hours is None:
        hours = recorded_hours(truth)
    if hours is None:
        hours = detector.counts["received"] / detector.rate / 3600
    timed = emissions(rows, detector.rate)
    return score_events(timed, marks, **{**options, "hours_valid": hours}, name=found.name)


def _notes(total: Score) -> list[str]:
    """Say where one side has events but none that counts: most likely it has other words for them."""
    from hypnic.events import LABELS

    notes = []
    for side, table in (("FOUND", total.found), ("TRUTH", total.true)):
        words = sorted({str(label) for label in table["label"]})
        # A detector that speaks of jerks as hypnic does may well have found none.
        if words and not set(words) & {*total.labels, *LABELS}:
            listed = ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
            notes.append(
                f"no event in {side} is labelled {' or '.join(total.labels)}, only {listed}: "
                "say with --labels what counts as a jerk"
            )
    return notes


def _show_score(total: Score) -> None:
    """Print a score as tables for people."""
    from rich.console import Console

    console = Console()
    console.print(total.headline, markup=False, highlight=False, soft_wrap=True)
    for section in total.sections():
        console.print(_rich(_narrowed(section, console.width)))


def _narrowed(section: Section, width: int) -> Section:
    """Return a table whose head is cut short where it would not fit, as that of the confusion of labels."""
    columns = list(zip(section.header, *section.rows, strict=True))
    longest = [max(len(word) for cell in column for word in cell.split(" ")) for column in columns]
    if sum(longest) + len(longest) < width:
        return section
    return section._replace(header=[section.header[0], *(title[:_HEAD] for title in section.header[1:])])


def _rich(section: Section, left: tuple[str, ...] = ()) -> Any:
    """Return a table for the terminal: all but its first column and those in `left` to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for n, title in enumerate(section.header):
        table.add_column(Text(title), justify="left" if not n or title in left else "right", overflow="fold")
    for row in section.rows:
        # As Text: a name in brackets is not markup.
        table.add_row(*map(Text, row))
    return table


# Explaining


def _stored_otherwise(recording: BaseRecording, why: Explanation) -> str:
    """Say where the night's own table has another event under this number."""
    from hypnic.errors import DataError

    try:
        stored = recording.events()
    except DataError:
        stored = None
    if stored is None or not len(stored):
        return ""
    rows = stored.latest().array
    rows = rows[rows["id"] == why.event["id"]]
    same = ("sample", "label")
    if len(rows) and all(rows[0][name] == why.event[name] for name in same):
        return ""
    return (
        f"the events stored in it have another event {why.event['id']}, or none: they were made with other settings "
        "or another version"
    )


def _show_why(why: Explanation, start: datetime | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hypnic.scoring import Section

    event, meta = why.event, why.meta
    onset = float(event["onset"])
    clock = _clock_at(start, onset)
    name, label = meta["settings"]["name"], str(event["label"])
    candidate = " (a candidate)" if label.endswith("_jerk") else ""
    lines = [
        f"event {event['id']} at {clock_text(onset, 2)}{clock}: {label}{candidate}, score {event['score']:.2f}",
        f"peak {1e3 * event['peak_g']:.0f} mg, {event['duration']:.2f} s long; preset {name}, "
        f"hypnic {meta['hypnic_version']}",
    ]
    rows = [
        [
            term.feature,
            _with_unit(term.value, term.unit),
            *(f"{x:+.2f}" for x in (term.alone, term.paired, term.total)),
        ]
        for term in why.terms
    ]
    rows += [
        ["before any feature", "", "", "", f"{why.intercept:+.2f}"],
        ["log odds", "", "", "", f"{why.log_odds:+.2f}"],
    ]
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    head = ["feature", "value", "alone", "in pairs", "adds", "what it is"]
    rows = [
        [*row, meaning] for row, meaning in zip_longest(rows, (t.meaning for t in why.terms), fillvalue="")
    ]
    if console.width < _WIDE:
        # What a feature is says more than how its share came about.
        head, *rows = [[*row[:2], *row[4:]] for row in (head, *rows)]
    console.print(_rich(Section(head, rows), left=("what it is",)))
    strongest = [f"{pair} {added:+.2f}" for pair, added in list(why.pairs.items())[:_PAIRS]]
    blocks = {
        "strongest pairs": [", ".join(strongest)] if strongest else [],
        "what decided": [rule.text for rule in why.rules] + _window_line(why, start),
        "what would have to differ": _differing(why),
        "as it came out": [
            f"revision {row['revision']} at {clock_text(time, 2)}{_clock_at(start, time)}: {row['label']}, "
            f"score {row['score']:.2f}"
            for time, row in why.revisions
        ],
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for title, texts in blocks.items():
        for n, text in enumerate(texts):
            grid.add_row("" if n else title, Text(text))
    console.print(grid)


def _clock_at(start: datetime | None, seconds: float) -> str:
    """Return the time of day in brackets, nothing where the start is unknown."""
    from datetime import timedelta

    return f" ({start + timedelta(seconds=seconds):%H:%M:%S})" if start else ""


def _window_line(why: Explanation, start: datetime | None) -> list[str]:
    if why.window is None:
        return []
    w = why.window
    line = (
        f"Onset window {w['window']}, {clock_text(w['onset'])}{_clock_at(start, w['onset'])} to "
        f"{clock_text(w['end'])}{_clock_at(start, w['end'])}, falling asleep {w['falling_asleep']}."
    )
    if w["before"] == "still":
        line += " More movement in the last ten minutes than in the hour before opened it again."
    return [line]


def _differing(why: Explanation) -> list[str]:
    jerk = why.rules[0].holds
    goal = "below" if jerk else "of"
    texts = [f"For a score {goal} {why.threshold:g}, any one of these, all else as it is:"]
    texts += [f"  {_flip_text(flip)}" for flip in why.flips[:_FLIPS]]
    if not why.flips:
        texts = [f"No single feature could bring the score {'below' if jerk else 'to'} {why.threshold:g}."]
    if jerk:
        inside = why.rules[-1].holds
        other = (
            "isolated_jerk, an onset outside every onset window" if inside else "hypnic_jerk, an onset in one"
        )
        texts.append(f"For {other}.")
    return texts


def _flip_text(flip: Flip) -> str:
    return (
        f"{flip.feature} about {_with_unit(flip.needed, flip.unit)} (is {_with_unit(flip.value, flip.unit)})"
    )


def _with_unit(value: float, unit: str) -> str:
    text = "unknown" if value != value else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


# Rest


def _show_rest(found: RestTable, start: datetime | None) -> None:
    """Print both tables for people."""
    from datetime import timedelta

    from rich.console import Console

    from hypnic.scoring import Section

    def times(seconds: float) -> list[str]:
        return [clock_text(seconds), *([f"{start + timedelta(seconds=seconds):%H:%M:%S}"] if start else [])]

    clock = ["clock"] if start else []
    bouts = [
        [
            str(b["rest"]),
            *times(float(b["onset"])),
            f"{b['duration'] / 60:.1f} min",
            str(b["jerks"]),
            str(b["window"] or ""),
        ]
        for b in found.bouts
    ]
    windows = [
        [
            str(w["window"]),
            *times(float(w["onset"])),
            f"{(w['end'] - w['onset']) / 60:.1f} min",
            "never" if w["stillness"] != w["stillness"] else clock_text(float(w["stillness"])),
            str(w["jerks"]),
            str(w["falling_asleep"]),
            str(w["then"] or "end of recording"),
        ]
        for w in found.windows
    ]
    console = Console()
    console.print(_rich(Section(["rest", "from", *clock, "length", "jerks", "window"], bouts)))
    head = ["onset window", "from", *clock, "length", "stillness", "jerks", "falling asleep", "then"]
    console.print(_rich(Section(head, windows)))
