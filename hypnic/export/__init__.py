"""A recording and its events in the formats of other tools.

A format is an `Exporter` in a module of its own; a new one enters with `register`. The command line, `Events.write`
and `export` all come here.

>>> import hypnic                                                       # doctest: +SKIP
>>> from hypnic.export import export                                    # doctest: +SKIP
>>> with hypnic.open("night.h5") as night:                              # doctest: +SKIP
...     export(night, "night.edf")
...     export(night, "study/", to="bids", subject="07")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypnic.errors import UsageError
from hypnic.export.base import Exporter, refuse_existing

if TYPE_CHECKING:
    from hypnic.events import Events
    from hypnic.readers import BaseRecording

__all__ = ["EXPORTERS", "Exporter", "export", "find_exporter", "register", "stored_events"]

EXPORTERS: Final[dict[str, Exporter]] = {}
"""Every known format by name."""


def register(exporter: Exporter) -> None:
    """Make a format known to `export` and to the command line."""
    EXPORTERS[exporter.name] = exporter


def _bids(recording: BaseRecording, events: Events, target: Path, **options: Any) -> list[Path]:
    from hypnic.export import bids

    return bids.write(recording, events, target, **options)


def _edf(recording: BaseRecording, events: Events, target: Path, **options: Any) -> list[Path]:
    from hypnic.export import edf

    return edf.write(recording, events, target, **options)


def _fif(recording: BaseRecording, events: Events, target: Path, **options: Any) -> list[Path]:
    from hypnic.export import mne

    return mne.write_fif(recording, events, target, **options)


def _table(name: str) -> Exporter:
    def write(
        recording: BaseRecording, events: Events, target: Path, *, overwrite: bool = False
    ) -> list[Path]:
        if not overwrite:
            refuse_existing(target)
        events.write(target, name)
        return [target]

    return Exporter(name, (f".{name}",), write)


register(Exporter("bids", (), _bids, frozenset({"subject", "session", "task"})))
register(Exporter("edf", (".edf",), _edf))
register(Exporter("fif", (".fif", ".fif.gz"), _fif))
for _name in ("csv", "tsv", "json", "jsonl", "parquet"):
    register(_table(_name))


def find_exporter(target: Path, to: str | None = None) -> Exporter:
    """Return the format called `to`, or that which the ending of `target` means.

    Raises
    ------
    UsageError
        If there is none.
    """
    if to is not None:
        if to not in EXPORTERS:
            raise UsageError(f"format {to!r} is unknown: use {', '.join(EXPORTERS)}")
        return EXPORTERS[to]
    name = target.name.lower()
    found = next((known for known in EXPORTERS.values() if name.endswith(known.suffixes or ("\0",))), None)
    if found is None:
        endings = ", ".join(suffix for known in EXPORTERS.values() for suffix in known.suffixes)
        raise UsageError(f"{target}: its ending ({endings}) does not say the format: give it with to= (--to)")
    return found


def stored_events(recording: BaseRecording) -> Events | None:
    """Return the last revision of the events that are stored in a recording, or None where it was never detected in.

    Raises
    ------
    DataError
        If the stored table is damaged.
    """
    stored = recording.events()
    # A recorder makes the table empty; a detector that found nothing leaves its settings there.
    return stored.latest() if stored is not None and (len(stored) or stored.meta) else None


def export(
    recording: BaseRecording,
    target: str | os.PathLike[str],
    to: str | None = None,
    *,
    events: Events | None = None,
    overwrite: bool = False,
    **options: Any,
) -> list[Path]:
    """Write a recording and its events in another format.

    Parameters
    ----------
    recording : BaseRecording
        Opened with `hypnic.open`.
    target : path-like
        A file; a folder for BIDS, which takes one night after another.
    to : {"bids", "edf", "fif", "csv", "tsv", "json", "jsonl", "parquet"}, optional
        By default what the ending of `target` means. The last five hold the event table alone.
    events : Events, optional
        By default those that are stored in the recording, or else what `hypnic.detect` finds.
    overwrite : bool
        Whether existing files are replaced.
    **options
        Of BIDS: `subject`, `session` and `task`, labels of letters and digits.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UsageError
        If the format is unknown, an option means nothing for it, or the package that it needs is not installed.
    DataError
        If a file exists and must not be replaced, or the recording cannot be read.
    OSError
        If something cannot be written.
    """
    path = Path(target)
    exporter = find_exporter(path, to)
    given = {name: value for name, value in options.items() if value is not None}
    if strange := sorted(given.keys() - exporter.options):
        raise UsageError(f"{', '.join(strange)} means nothing for {exporter.name}")
    if exporter.suffixes and not overwrite:
        # Before a detector runs for nothing.
        refuse_existing(path)
    found = stored_events(recording) if events is None else events
    if found is None:
        from hypnic.detector import detect

        found = detect(recording)
    return exporter.write(recording, found, path, overwrite=overwrite, **given)
