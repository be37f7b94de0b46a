"""What every command shares: the options of recordings, progress, times, and how an error is said."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hypnic import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypnic.calibration import Calibration
    from hypnic.events import Events
    from hypnic.readers import BaseRecording
    from hypnic.settings import Settings

__all__ = [
    "AS_SAID",
    "AutocalibrateOption",
    "ColumnsOption",
    "DatasetOption",
    "PlaceOption",
    "RateOption",
    "Reading",
    "ReferenceOption",
    "ScaleOption",
    "SettingsOption",
    "Site",
    "SiteOption",
    "TimeOption",
    "UnitsOption",
    "app",
    "calibrate_night",
    "clock_text",
    "complain",
    "parse_clock",
    "plain",
    "progress_bar",
    "read_settings",
    "reads",
    "reference_notes",
    "say",
    "summary",
]

Site = Literal["wrist", "mattress"]
Units = Literal["g", "mg", "m/s2"]

_LONGEST_LINE = 600
"""Characters of an error that are shown; what a file says of itself can be of any length."""

_LONG = 5_000_000
"""Samples from which a progress bar is worth its room."""

_BESIDE = 1.0
"""Seconds by which a reference may begin or end elsewhere without a word."""

app = typer.Typer(
    name="hypnic",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find candidate hypnic jerks (sleep starts) in wrist or mattress acceleration. A sensor cannot see sleep "
    "stage: what is found are candidates. Not a medical device.",
)

SiteOption = Annotated[Site | None, typer.Option(help="Where the sensor was; by default as the file says.")]
RateOption = Annotated[
    float | None, typer.Option(help="Sampling rate in Hz, in place of what the file says.")
]
DatasetOption = Annotated[str | None, typer.Option(help="HDF5: name of the data set.")]
ScaleOption = Annotated[float | None, typer.Option(help="Units per number in the file.")]
UnitsOption = Annotated[Units | None, typer.Option(help="What a number times the scale is in.")]
ColumnsOption = Annotated[str | None, typer.Option(help="Text: columns x,y,z by name or number from 0.")]
TimeOption = Annotated[
    str | None, typer.Option("--time", help="Text: column of time stamps by name or number.")
]
AutocalibrateOption = Annotated[
    bool,
    typer.Option(
        "--autocalibrate", help="Fit offset and gain of the sensor to gravity first (van Hees 2014)."
    ),
]
SettingsOption = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
Place = Literal["bed", "limb"]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        help="Recording of a second sensor that the same clock sampled: what it feels first or more is no jerk."
    ),
]
PlaceOption = Annotated[
    Place | None,
    typer.Option(
        "--reference-place", help="Where that sensor was; by default a limb where its file says wrist."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hypnic {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return


@dataclass(frozen=True)
class Reading:
    """What the options of every command on recordings say of them, in place of what a file says or does not say."""

    site: SiteOption = None
    rate: RateOption = None
    dataset: DatasetOption = None
    scale: ScaleOption = None
    units: UnitsOption = None
    columns: ColumnsOption = None
    time: TimeOption = None

    def given(self) -> dict[str, Any]:
        """Return them as `hypnic.open` takes them."""
        return {
            "site": self.site,
            "rate": self.rate,
            "dataset": self.dataset,
            "scale": self.scale,
            "units": self.units,
            "columns": self.columns,
            "time_column": self.time,
        }

    def open(self, path: Path) -> BaseRecording:
        """Open a recording."""
        from hypnic.readers import open_recording

        return open_recording(path, **self.given())


AS_SAID = Reading()
"""All as the file says."""


def reads(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Reading` in the place of its parameter `reading`."""
    fields = inspect.signature(Reading, eval_str=True).parameters

    @wraps(command)
    def with_options(**given: Any) -> None:
        command(reading=Reading(**{name: given.pop(name) for name in fields}), **given)

    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())
    at = next(at for at, parameter in enumerate(own) if parameter.name == "reading")
    own[at : at + 1] = [field.replace(kind=own[at].kind) for field in fields.values()]
    with_options.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]  # typer asks for it
    return with_options


def calibrate_night(recording: BaseRecording, wanted: bool) -> Calibration | None:
    """Calibrate a recording to gravity where that is wanted, and say so on stderr.

    Raises
    ------
    DataError
        If the recording does not carry it.
    """
    from hypnic.calibration import autocalibrate

    if not wanted:
        return None
    found = autocalibrate(recording)
    recording.calibrate(found)
    print(f"{recording.path}: calibrated to gravity: {found}", file=sys.stderr)
    return found


def read_settings(path: Path | None, site: str) -> Settings | None:
    """Return the settings in a TOML file, None where none is named."""
    from hypnic.settings import Settings

    return None if path is None else Settings.from_toml(path, site)


@contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[int], None] | None]:
    """Show how far a long recording is, on stderr, where that is a terminal."""
    if total < _LONG or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)


def clock_text(seconds: float, decimals: int = 0) -> str:
    """Return a time from the start of the recording as hours, minutes and seconds."""
    whole, part = divmod(round(seconds * 10**decimals), 10**decimals)
    fraction = f".{part:0{decimals}d}" if decimals else ""
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}{fraction}"


def parse_clock(text: str, option: str) -> float:
    """Return a time from the start of the recording, as h:mm:ss, mm:ss or seconds, in seconds.

    Raises
    ------
    UsageError
        If it is none.
    """
    from hypnic.errors import UsageError

    found = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if not found:
        raise UsageError(f"{option} {text!r} is not a time such as 0:12:47, 12:47 or 767.5")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def plain(text: object) -> str:
    """Return `text` with ``?`` for all that does not print.

    Names and notes come from files and boards that anyone may have made: what they hold must not steer a terminal.
    """
    return "".join(character if character.isprintable() else "?" for character in str(text))


def say(text: str) -> None:
    """Print a line; on a terminal it is folded between words, elsewhere it stays one line."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    print(text)


def reference_notes(recording: BaseRecording, reference: BaseRecording) -> list[str]:
    """Say how a second sensor's recording lies beside the first, where that is not from end to end.

    Parameters
    ----------
    recording, reference : BaseRecording
        Both open, of one rate.

    Returns
    -------
    list of str
        Nothing where both began and ended together, within a second.
    """
    if recording.start_time is None or reference.start_time is None:
        return [
            "the reference is taken sample by sample from the first: not both files say when they started"
        ]
    late = (reference.start_time - recording.start_time).total_seconds()
    beside = max(0.0, min(recording.duration, late + reference.duration) - max(0.0, late))
    if recording.duration - beside <= _BESIDE and abs(late) <= _BESIDE:
        return []
    way = "after" if late > 0 else "before"
    return [
        f"the reference began {abs(late):.1f} s {way} the recording: it is beside {beside / 60:.1f} of "
        f"{recording.duration / 60:.1f} min, the rest is judged without it"
    ]


def complain(error: BaseException, path: Path | None = None) -> None:
    """Say in one line on stderr what is wrong."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    place = f"{path}: " if path is not None else ""
    line = plain(" ".join(f"{place}{text}".split()))
    shown = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."
    print(f"hypnic: {shown}", file=sys.stderr)


def summary(found: Events) -> str:
    """Return in one line how long a recording is and what was found in it."""
    from hypnic.events import JERKS

    counts = found.counts()
    jerks = ", ".join(f"{counts[label]} {label}" for label in JERKS)
    others = ", ".join(f"{n} {label}" for label, n in counts.items() if n and label not in JERKS)
    samples = found.meta["counts"]
    hours = samples["received"] / found.meta["rate"] / 3600
    lost = f"; {samples['missing']} samples lost" if samples["missing"] else ""
    other = (
        f"; compared with a reference on the {found.meta['reference']}" if "reference" in found.meta else ""
    )
    return f"{hours:.2f} h: {jerks} (candidates); {others or 'nothing else'}{lost}{other}"
