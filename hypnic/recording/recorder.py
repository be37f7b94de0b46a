"""Writing a night so that no crash costs more than its last second."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from hypnic.chunk import Chunk, Site, Source, check_rate, check_site
from hypnic.errors import DataError, UsageError
from hypnic.readers.base import BaseRecording, parse_start
from hypnic.recording.layout import (
    FORMAT_VERSION,
    LIBVER,
    TABLES,
    WITHDRAWN,
    Lock,
    create_table,
    file_dtype,
    file_rows,
    open_file,
    replacing,
    settled,
    sync_folder,
    write_meta,
)
from hypnic.recording.night import Recording, written_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    import h5py
    from numpy.typing import ArrayLike, NDArray

    from hypnic.events import Events

RAW_SECONDS: Final = 10_000.0
"""Chunk of /acceleration while recording (s): 64 of them, a week, fit in one node of HDF5's index."""

PACKED_SECONDS: Final = 60.0
"""Chunk of /acceleration once closed (s): at 100 Hz read twice as fast as one of 10 s, and smaller."""

FLUSH_SECONDS: Final = 0.5
"""Data (s), or time since the last flush (s), after which a recorder makes everything safe.

Half of the second that a crash may cost: the other half is for what is on its way and for the disk to answer.
"""


class Recorder:
    """Writes a night so that a kill or a power cut costs at most its last second.

    A sink for chunks. Everything is made safe twice per second of data or of time. The file can be
    read, with this library or plain h5py, at any moment, also while it grows. A second recorder on the same
    file is refused.

    Parameters
    ----------
    path : path-like
        The file to make.
    rate : float
        Sampling rate in Hz.
    site : {"wrist", "mattress"}
        Where the sensor is.
    dtype : {"int16", "int32", "float32"}
        Type of the stored numbers: counts of `scale` g, or g as they come. Counts are half the size and are
        exact where `scale` is the sensor's own. Samples that are not finite cannot be counts: they are
        entered as a gap.
    scale : float, optional
        g per count. By default the range over 32768, or 1/4096 g where that is not known either.
    range_g : float, optional
        Full scale of the sensor in g.
    sensor : str
        What the sensor is.
    start_time : datetime, str or float, optional
        When sample 0 is taken; by default the time of the first chunk.
    subject, notes : str
        Kept in the file.
    overwrite : bool
        Whether an existing file is replaced, at once.
    durable : bool
        Whether every flush waits for the disk (two ``fsync``): what makes a power cut as harmless as a kill.

    Attributes
    ----------
    path : Path
    rate : float
    site : {"wrist", "mattress"}
    scale : float
        g per count; 1 for float32.
    clipped : int
        Samples beyond what a count can hold, stored as the largest.
    packed : bool
        Whether the file was compressed on closing. Where there was no room for that it is whole but larger.

    Raises
    ------
    UsageError
        If an option is none.
    DataError
        If the file exists already, or another recorder is writing it.
    OSError
        If it cannot be made.

    Notes
    -----
    Sample 0 is the first sample of the first chunk, or the first that was lost before it; a source that is
    joined later is counted from there. /clock is indexed by sample number, /gaps by stored row.

    Each flush costs a write in place of the samples, then one of the 272 bytes that say how many there are.
    Once in some hours a chunk is added, which takes HDF5 three writes: a kill just between them (some
    microseconds) leaves that chunk's first half second, and nothing else, unreadable. After a week the index of
    chunks is rearranged, and a kill in those microseconds can cost more.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: float,
        site: str = "wrist",
        *,
        dtype: str = "int16",
        scale: float | None = None,
        range_g: float | None = None,
        sensor: str = "",
        start_time: datetime | str | float | None = None,
        subject: str = "",
        notes: str = "",
        overwrite: bool = False,
        durable: bool = True,
    ) -> None:
        self.path = Path(path)
        self.rate = check_rate(rate)
        self.site: Site = check_site(site)
        if dtype not in ("int16", "int32", "float32"):
            raise UsageError(f"dtype {dtype!r} is not stored: use int16, int32 or float32")
        for name, value in (("scale", scale), ("range_g", range_g)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} {value!r} is not a number above 0")
        self._dtype = np.dtype(dtype)
        self._counts = self._dtype.kind == "i"
        self.scale = (scale or (range_g or 8.0) / 32768) if self._counts else 1.0
        self.clipped = 0
        self.packed = False
        start = None if start_time is None else parse_start(start_time)[0]

        self._stored = 0
        self._lost = 0
        self._pending: list[NDArray[Any]] = []
        self._waiting = 0
        self._rows: dict[str, list[NDArray[np.void]]] = {name: [] for name in TABLES}
        self._annotations = 0
        self._origin: int | None = None
        self._last_time = -math.inf
        self._has_start = start is not None
        self._durable = durable
        self._failure = ""
        self._closed = False
        self._final_events: Events | None = None

        if not self.path.parent.is_dir():
            raise DataError(f"{self.path}: there is no folder {self.path.parent}")
        self._lock = Lock(self.path)
        self._lock.__enter__()
        try:
            if self.path.exists():
                if not overwrite:
                    raise DataError(
                        f"{self.path}: the file exists already: choose another name or overwrite it (--overwrite)"
                    )
                self.path.unlink()
            self._file = _create(self.path)
            self._describe(start, range_g, sensor, subject, notes)
            self._file.flush()
            if durable:
                self._fsync()
                sync_folder(self.path)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self._last_flush = time.monotonic()

    def _describe(
        self, start: datetime | None, range_g: float | None, sensor: str, subject: str, notes: str
    ) -> None:
        import h5py

        from hypnic import __version__

        root = {"format": "hypnic", "format_version": FORMAT_VERSION, "created_by": f"hypnic {__version__}"}
        root |= {name: text for name, text in (("subject", subject), ("notes", notes)) if text}
        self._file.attrs.update(root)
        self._file.attrs["unfinished"] = 1
        rows = max(1, round(self.rate * RAW_SECONDS))
        # A new chunk is hours long: it grows as it is written, not at once.
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self._data = self._file.create_dataset(
            "acceleration",
            (0, 3),
            self._dtype,
            maxshape=(None, 3),
            chunks=(rows, 3),
            fillvalue=np.iinfo(self._dtype).min if self._counts else np.nan,
            dcpl=plan,
        )
        facts: dict[str, Any] = {
            "sampling_rate": self.rate,
            "scale": self.scale,
            "units": "g",
            "axes": "x,y,z",
            "site": self.site,
            "sensor": sensor,
        }
        facts |= {} if range_g is None else {"range_g": float(range_g)}
        facts |= {} if start is None else {"start_time": start.isoformat()}
        self._data.attrs.update(facts)
        for name, dtype in TABLES.items():
            create_table(self._file, name, np.empty(0, file_dtype(dtype)), compress=False)

    @property
    def n_samples(self) -> int:
        """Samples taken in so far, those that wait for the next flush included."""
        return self._stored + self._waiting

    @property
    def n_total(self) -> int:
        """Samples so far, lost ones counted."""
        return self.n_samples + self._lost

    @property
    def failed(self) -> bool:
        """Whether the disk has failed: nothing more can be written, and what was flushed before stays."""
        return bool(self._failure)

    @property
    def duration(self) -> float:
        """Length so far in seconds, gaps counted."""
        return self.n_total / self.rate

    def write(self, chunk: Chunk) -> None:
        """Take in a chunk. Samples missing before it, by its index, are entered as a gap.

        A chunk without samples serves too: what waits is made safe when its time has come.

        Raises
        ------
        DataError
            If the chunk goes back in time or in count. What was recorded stays.
        OSError
            If the disk is full. What was recorded before the last flush stays.
        """
        self._check_open()
        if self._origin is None:
            self._origin = chunk.index - (self.n_total or chunk.missing)
        missing = chunk.index - self._origin - self.n_total
        if missing < 0:
            raise DataError(
                f"{self.path}: a chunk starts at sample {chunk.index}, but {chunk.index - missing} is next: "
                "samples must come in order"
            )
        if chunk.time < self._last_time:
            raise DataError(
                f"{self.path}: time goes back by {self._last_time - chunk.time:g} s at sample {chunk.index}: "
                "samples must come in order"
            )
        if math.isfinite(chunk.time):
            self._last_time = chunk.time
            if not self._has_start:
                first = parse_start(chunk.time - (self.n_total + missing) / self.rate)[0]
                # With the offset of this place: people read the clock that hangs there.
                self._data.attrs["start_time"] = first.astimezone().isoformat()
                self._has_start = True
        if missing:
            self._enter_gap(missing, chunk.reason or "lost")
        if len(chunk):
            self._take(chunk.xyz)
        # A source can stall: what is there is flushed by the clock on the wall as well.
        late = time.monotonic() - self._last_flush >= FLUSH_SECONDS
        if self._waiting >= FLUSH_SECONDS * self.rate or (
            late and (self._waiting or any(self._rows.values()))
        ):
            self.flush(fsync=self._durable)

    def _take(self, xyz: NDArray[np.float32]) -> None:
        if not self._counts:
            self._keep(np.array(xyz, np.float32))
            return
        finite: NDArray[np.bool] = np.all(np.isfinite(xyz), axis=1)
        edges = [0, *(np.flatnonzero(np.diff(finite)) + 1).tolist(), len(xyz)]
        for low, high in pairwise(edges):
            if low == high:
                continue
            if not finite[low]:
                self._enter_gap(high - low, "not a number")
                continue
            limits = np.iinfo(self._dtype)
            counts = np.rint(xyz[low:high].astype(np.float64) / self.scale)
            self.clipped += int(np.count_nonzero(((counts < limits.min) | (counts > limits.max)).any(axis=1)))
            self._keep(np.clip(counts, limits.min, limits.max).astype(self._dtype))

    def _keep(self, rows: NDArray[Any]) -> None:
        self._pending.append(rows)
        self._waiting += len(rows)

    def _enter_gap(self, missing: int, reason: str) -> None:
        self._queue("gaps", [(self.n_samples, missing, reason)])
        self._lost += missing

    def _queue(self, name: str, rows: ArrayLike) -> None:
        self._rows[name].append(file_rows(np.array(rows, TABLES[name])))

    def gap(self, missing: int, reason: str) -> None:
        """Enter `missing` samples as lost after the last one, for a `reason` (64 bytes are kept).

        Raises
        ------
        UsageError
            If `missing` is below 1.
        """
        self._check_open()
        if missing < 1:
            raise UsageError(f"a gap of {missing} samples is not one: use 1 or more")
        self._enter_gap(int(missing), reason)

    def clock(self, sample: int, device_tick: int, utc: float) -> None:
        """Pair sample number `sample` (lost ones counted) with a tick of the device and POSIX seconds."""
        self._check_open()
        self._queue("clock", [(sample, device_tick, utc)])

    def annotate(self, onset: float, duration: float = 0.0, label: str = "", source: str = "") -> int:
        """Add a remark: onset and duration in seconds from sample 0, what, and who says so.

        Returns
        -------
        int
            The number by which `amend` and `withdraw` know it.
        """
        self._check_open()
        self._queue("annotations", [(onset, duration, label, source)])
        self._annotations += 1
        return self._annotations - 1

    def amend(
        self, number: int, onset: float, duration: float = 0.0, label: str = "", source: str = ""
    ) -> None:
        """Put another remark in the place of the one that `annotate` gave this number. Safe at once.

        Raises
        ------
        UsageError
            If there is no such remark.
        OSError
            If the disk is full.
        """
        self._check_annotation(number)
        row = file_rows(np.array([(onset, duration, label, source)], TABLES["annotations"]))[0]
        self._overwrite_annotation(number, row)

    def withdraw(self, number: int) -> None:
        """Take back the remark that `annotate` gave this number. Safe at once.

        Until the night is closed, programs that read it without hypnic see it with the label ``withdrawn``.

        Raises
        ------
        UsageError
            If there is no such remark.
        OSError
            If the disk is full.
        """
        self._check_annotation(number)
        self.flush(fsync=self._durable)
        row = self._file["annotations"][number]
        row["label"] = WITHDRAWN.encode()
        self._overwrite_annotation(number, row)

    def _check_annotation(self, number: int) -> None:
        self._check_open()
        if not 0 <= number < self._annotations:
            raise UsageError(f"there is no annotation {number}: {self._annotations} were made so far")

    def _overwrite_annotation(self, number: int, row: np.void) -> None:
        self.flush(fsync=self._durable)
        try:
            self._file["annotations"][number] = row
            self._settle(self._durable)
        except (OSError, RuntimeError) as error:
            self._fail(error)

    def correct_rate(self, rate: float) -> None:
        """State another sampling rate (Hz) than at first: samples are numbered, so nothing else changes.

        Raises
        ------
        UsageError
            If it is not a rate from 25 to 1000 Hz.
        """
        self._check_open()
        self.rate = check_rate(rate)
        # In place: a crash finds the one or the other.
        self._data.attrs.modify("sampling_rate", self.rate)

    def finish_events(self, events: Events) -> None:
        """Give the event table that a clean `close` leaves in place of the rows so far, with its `meta`.

        A live run adds rows as they come, each event in several revisions; in the end one of each is wanted.
        """
        self._check_open()
        self._final_events = events

    def events(self, events: Events) -> None:
        """Add rows to the event table; the first table's `meta` is kept as its attributes."""
        self._check_open()
        node = self._file["events"]
        if events.meta and not node.attrs:
            write_meta(node, events.meta)
        if len(events):
            self._queue("events", events.array)

    def flush(self, fsync: bool = False) -> None:
        """Make everything so far readable by others and safe from a kill; with `fsync`, from a power cut too.

        Raises
        ------
        OSError
            If the disk is full. What was recorded before the last flush stays.
        """
        self._check_open()
        try:
            if any(self._rows.values()):
                # Ahead of the samples: a gap without what follows does no harm, samples without their gap do.
                self._flush_tables()
                self._settle(fsync)
            if self._waiting:
                self._flush_samples(fsync)
            else:
                self._settle(fsync)
        except (OSError, RuntimeError) as error:
            self._fail(error)
        self._last_flush = time.monotonic()

    def _flush_tables(self) -> None:
        for name, rows in self._rows.items():
            if rows:
                table, fresh = self._file[name], np.concatenate(rows)
                stored = len(table)
                table.resize(stored + len(fresh), 0)
                table[stored:] = fresh
                rows.clear()

    def _flush_samples(self, fsync: bool) -> None:
        rows = np.concatenate(self._pending)
        self._data.resize(self._stored + len(rows), 0)
        self._data[self._stored :] = rows
        self._extend()
        if fsync:
            # The samples must be on the disk before the number that declares them.
            self._fsync()
        self._settle(fsync)
        self._stored += len(rows)
        self._pending.clear()
        self._waiting = 0

    def _extend(self) -> None:
        """Make the file as long as HDF5 is about to declare it: one that is shorter does not open."""
        handle = self._file.id.get_vfd_handle()
        size = self._file.id.get_filesize()
        if os.fstat(handle).st_size < size:
            os.ftruncate(handle, size)

    def _settle(self, fsync: bool) -> None:
        self._file.flush()
        if fsync:
            self._fsync()

    def _fsync(self) -> None:
        os.fsync(self._file.id.get_vfd_handle())

    def _fail(self, error: Exception) -> None:
        """Leave the file as it is, and raise."""
        found = re.search(r"errno = (\d+)", str(error))
        code = int(found.group(1)) if found else getattr(error, "errno", None) or errno.EIO
        # The file is as sound now as after a kill, and what HDF5 still holds back would change that.
        with Path(os.devnull).open("r+b") as nowhere:
            os.dup2(nowhere.fileno(), self._file.id.get_vfd_handle())
        self._failure = (
            f"{os.strerror(code)}: {self._stored} samples are safe in the file, and no more can follow"
        )
        raise OSError(code, self._failure, str(self.path)) from error

    def _check_open(self) -> None:
        if self._failure:
            raise OSError(errno.EIO, self._failure, str(self.path))
        if self._closed:
            raise DataError(f"{self.path}: the recorder is closed")

    def close(self) -> None:
        """Flush, close and compress the file. Closing twice does nothing.

        Raises
        ------
        OSError
            If the last flush fails. A failure to compress is not an error: the night is whole without.
        """
        if self._closed:
            return
        try:
            if not self._failure:
                self.flush(fsync=self._durable)
        finally:
            self._closed = True
            with contextlib.suppress(OSError, RuntimeError):
                self._file.close()
            try:
                if not self._failure:
                    with contextlib.suppress(OSError, RuntimeError):
                        _pack(self.path, self._final_events)
                        self.packed = True
            finally:
                self._lock.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path) -> h5py.File:
    """Return a new file for recording: the oldest format, no lock, samples written straight through."""
    import h5py

    return h5py.File(path, "x", libver=LIBVER, locking=False, rdcc_nbytes=0)


def _pack(path: Path, events: Events | None = None) -> None:
    """Rewrite a night compressed, with `events` for its event table where they are given."""
    import h5py

    with (
        replacing(path) as partial,
        open_file(path) as old,
        h5py.File(partial, "w", libver=LIBVER, locking=False) as new,
    ):
        for name, value in old.attrs.items():
            if name != "unfinished":
                new.attrs[name] = value
        # Ahead of the samples: a copy that is cut short still says where they belong.
        for name in TABLES:
            if name == "events" and events is not None:
                create_table(new, name, file_rows(events.array), compress=True)
                write_meta(new[name], events.meta)
                continue
            entries = settled(old[name]) if old.attrs.get("unfinished") else old[name][:]
            if name == "annotations":
                entries = entries[entries["label"] != WITHDRAWN.encode()]
            create_table(new, name, entries, compress=True)
            for key, value in old[name].attrs.items():
                new[name].attrs[key] = value
        data = old["acceleration"]
        rows = max(1, round(data.attrs["sampling_rate"] * PACKED_SECONDS))
        packed = new.create_dataset(
            "acceleration",
            data.shape,
            data.dtype,
            maxshape=(None, 3),
            chunks=(rows, 3),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
        )
        for name, value in data.attrs.items():
            packed.attrs[name] = value
        block = rows * max(1, 65536 // rows)
        for begin, end in written_runs(data) or [(0, len(data))]:
            for low in range(begin, end, block):
                packed[low : min(low + block, end)] = data[low : min(low + block, end)]


def pack(path: str | os.PathLike[str]) -> None:
    """Rewrite a night whose recorder was cut off as closing would have: compressed, swapped in whole.

    Raises
    ------
    DataError
        If the file is no hypnic night, is damaged, or is still being recorded.
    OSError
        If the disk is full; the night is left as it was.
    """
    with Recording(path) as recording:
        if not recording.version:
            raise DataError(f"{path}: not a hypnic night")
    target = Path(os.path.realpath(path))
    with Lock(target):
        _pack(target)


def write_recording(
    path: str | os.PathLike[str],
    source: Source,
    *,
    attrs: Mapping[str, Any] | None = None,
    leave_out: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> None:
    """Write any source to a night, with what the source knows of itself.

    Parameters
    ----------
    path : path-like
        The file to make.
    source : Source
        What to write. A recording's clock, annotations and events go along.
    attrs : mapping, optional
        Further attributes of the file: where it comes from, what was done.
    leave_out : collection of str
        Tables of a recording that do not go along: ``clock``, ``annotations``, ``events``.
    progress : callable, optional
        Called with the number of samples done after each chunk, lost ones counted.
    **options
        Those of `Recorder`; they win over what the source says. Where neither gives a scale, samples are
        stored as float32, which loses nothing.

    Raises
    ------
    As `Recorder`, and as the source.
    """
    names = ("start_time", "range_g", "sensor", "scale")
    known = {name: value for name in names if (value := getattr(source, name, None)) is not None}
    given = {"durable": False, "rate": source.rate, "site": source.site, **known, **options}
    if "dtype" not in given:
        stored = "int16" if "scale" in options else getattr(source, "dtype", "int16")
        given["dtype"] = stored if "scale" in given and stored in ("int16", "int32") else "float32"
    with Recorder(path, **given) as recorder:
        write_meta(recorder._file, attrs or {})
        for chunk in source:
            recorder.write(chunk)
            if progress is not None:
                progress(recorder.n_total)
        if isinstance(source, BaseRecording):
            if "clock" not in leave_out:
                recorder._queue("clock", source.clock)
            if "annotations" not in leave_out:
                recorder._queue("annotations", source.annotations)
            if "events" not in leave_out and (events := source.events()) is not None:
                recorder.events(events)
