"""Reading a night, or the samples in any other HDF5 file."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hypnic.chunk import check_rate, check_site
from hypnic.errors import DataError, UsageError
from hypnic.events import Events, sound_meta
from hypnic.readers.base import UNITS, BaseRecording, Damage, check_unit, infer_unit, parse_start
from hypnic.recording.check import check_chunks, check_inside
from hypnic.recording.chunks import PackedRows, ahead, scaled
from hypnic.recording.layout import (
    FORMAT_VERSION,
    H5_ERRORS,
    LIBVER,
    MOST_LEVELS,
    REPAIR,
    WITHDRAWN,
    Lock,
    attribute,
    copy_members,
    create_table,
    file_rows,
    find_node,
    open_file,
    positive,
    read_meta,
    read_table,
    readable,
    replacing,
    why,
    write_meta,
)

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

LEAST_AHEAD: Final = 4096
"""Samples of a piece from which pieces are read ahead."""

LATEST: Final = 253402300800.0
"""POSIX seconds at which the year 10000 begins, which no clock has reached."""

RATE_NAMES: Final = ("sampling_rate", "sample_rate", "sampling_frequency", "rate", "fs", "sfreq")
UNIT_NAMES: Final = ("units", "unit")
START_NAMES: Final = ("start_time", "start", "start_datetime")
SENSOR_NAMES: Final = ("sensor", "device")


def _find(file: h5py.File, name: str | None) -> h5py.Dataset:
    """Return the data set of the samples: `name`, a night's own, or the only one with three columns."""
    import h5py

    path = file.filename
    if name is None and attribute(file, "format") == "hypnic":
        version = str(attribute(file, "format_version"))
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path}: a hypnic night of version {version}, and this software reads {FORMAT_VERSION}"
            )
        name = "acceleration"
    if name is not None:
        node = find_node(file, name)
        if not isinstance(node, h5py.Dataset):
            raise DataError(f"{path}: there is no data set {name} in it")
        return node
    found: dict[str, h5py.Dataset] = {}
    seen: list[str] = []

    def visit(name: str, node: Any) -> None:
        if name.count("/") > MOST_LEVELS:
            raise DataError(
                f"{path}: over {MOST_LEVELS} groups within groups: choose a data set with dataset="
            )
        if isinstance(node, h5py.Dataset):
            if node.is_virtual or node.external:
                seen.append(f"{name} (in other files)")
                return
            seen.append(f"{name} {node.shape}")
            if node.ndim == 2 and node.shape[1] == 3 and node.dtype.kind in "iuf":
                found[name] = node

    file.visititems(visit)
    if not found:
        listing = ", ".join(seen[:5]) or "no data set at all"
        raise DataError(f"{path}: there is no data set of shape (n, 3) in it, but {listing}")
    if len(found) > 1:
        raise DataError(
            f"{path}: several data sets have three columns, such as {', '.join(list(found)[:5])}: "
            "choose one with dataset= (--dataset)"
        )
    return next(iter(found.values()))


def _check_storage(data: h5py.Dataset) -> None:
    """Refuse what is not (n, 3) numbers inside this very file, in pieces that fit in memory."""
    path, name = data.file.filename, data.name
    check_inside(data)
    if data.ndim != 2 or data.shape[1] != 3 or data.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {name} is {data.dtype} of shape {data.shape}: expected numbers of shape (n, 3)"
        )
    check_chunks(data, PackedRows.of(data) is not None)


def _with_cache(data: h5py.Dataset) -> h5py.Dataset:
    """Return `data` opened with room in HDF5's cache for one row of chunks.

    A compressed chunk larger than the cache is inflated again for every piece that is read of it.
    """
    import h5py

    if not data.chunks:
        return data
    across = -(-3 // data.chunks[1])
    need = max(8 << 20, across * math.prod(data.chunks) * data.dtype.itemsize)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    # What is not compressed is read in part, unless there is a cache that wants all of it.
    access.set_chunk_cache(521, need if data.id.get_create_plist().get_nfilters() else 0, 0.75)
    file, name = data.file, data.name.encode()
    # HDF5 keeps the cache of the first opening for as long as that lives.
    data.id._close()
    return h5py.Dataset(h5py.h5d.open(file.id, name, access))


def written_runs(data: h5py.Dataset) -> list[tuple[int, int]] | None:
    """Return the stretches of rows that were ever written, or None for all of them.

    HDF5 reads rows that were never written as a fill value: samples that nobody measured.
    """
    n = data.shape[0]
    if not data.chunks:
        return None if data.id.get_storage_size() else []
    rows, width = data.chunks
    across = -(-3 // width)
    if data.id.get_num_chunks() == -(-n // rows) * across:
        return None
    starts: Counter[int] = Counter()
    data.id.chunk_iter(lambda chunk: starts.update([chunk.chunk_offset[0]]))
    runs: list[tuple[int, int]] = []
    for start in sorted(start for start, found in starts.items() if found == across and start < n):
        stop = min(start + rows, n)
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return None if runs == [(0, n)] else runs


class Recording(BaseRecording):
    """A recorded night: a hypnic file, or any HDF5 file that holds (n, 3) samples.

    What the file's attributes do not say has to be given; what is given wins over what they say.

    Parameters
    ----------
    path : path-like
        The file.
    dataset : str, optional
        Name of the data set; by default a night's own, or the only one with three columns.
    rate : float, optional
        Sampling rate in Hz.
    scale : float, optional
        Units per count. Needed for whole numbers.
    units : {"g", "mg", "m/s2"}, optional
        What a number times `scale` is in. By default g where there is a scale; otherwise told from gravity.
    site : {"wrist", "mattress"}, optional
        By default what the file says, or the wrist.
    start : datetime or str, optional
        When the first sample was taken; UTC where it has no zone.

    Attributes
    ----------
    version : str
        Version of the layout; empty for a file that is no hypnic night.
    created_by : str
        What wrote the file.
    attrs : dict
        The other attributes of the file.
    gaps_unread : int
        Gaps that are stated and not there.

    Raises
    ------
    DataError
        If the file is not HDF5, is cut short, holds no such samples, keeps them in other files, or does not
        say its rate or scale.
    UsageError
        If an option is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dataset: str | None = None,
        rate: float | None = None,
        scale: float | None = None,
        units: str | None = None,
        site: str | None = None,
        start: datetime | str | None = None,
    ) -> None:
        if rate is not None:
            check_rate(rate)
        if scale is not None and not 0 < scale < math.inf:
            raise UsageError(f"scale {scale!r} is not a number above 0 of units per count")
        units = None if units is None else check_unit(units)
        site = None if site is None else check_site(site)
        moment = None if start is None else parse_start(start)
        self._file = open_file(Path(path))
        try:
            self._setup(dataset, rate, scale, units, site, moment)
        except UsageError as error:
            # Of the file's own words: those of the caller have been checked.
            self.close()
            raise DataError(f"{path}: {error}") from None
        except DataError:
            self.close()
            raise
        except H5_ERRORS as error:
            self.close()
            raise DataError(f"{path}: damaged: {why(error)}; {REPAIR}") from None
        except BaseException:
            self.close()
            raise

    def _setup(
        self,
        dataset: str | None,
        rate: float | None,
        scale: float | None,
        units: str | None,
        site: str | None,
        moment: tuple[datetime, bool] | None,
    ) -> None:
        path = Path(self._file.filename)
        data = _find(self._file, dataset)
        _check_storage(data)
        self._is_night = data.name == "/acceleration" and attribute(self._file, "format") == "hypnic"
        self._data = _with_cache(data)
        self._packed = PackedRows.of(self._data)
        notes: list[str] = []
        own = positive(self._data, *RATE_NAMES)
        if rate is not None and own is not None and not math.isclose(rate, own, rel_tol=1e-9):
            notes.append(f"the rate is {rate:g} Hz, as given; the file itself says {own:g} Hz")
        rate = rate or own
        if rate is None:
            raise DataError(f"{path}: it does not say its sampling rate: give it with rate= (--rate)")
        scale = scale or positive(self._data, "scale")
        if scale is None and self._data.dtype.kind in "iu":
            raise DataError(
                f"{path}: {self._data.dtype} counts without a scale: give g per count with scale= (--scale)"
            )
        stated = attribute(self._data, *UNIT_NAMES)
        units = units or (check_unit(stated) if stated is not None else None)
        site = site or attribute(self._data, "site")
        if site is None:
            site = "wrist"
            notes.append("the file does not say where the sensor was: the wrist is assumed")
        if moment is None and (text := attribute(self._data, *START_NAMES)) is not None:
            try:
                moment = parse_start(text)
            except UsageError as error:
                notes.append(f"its start time is not used: {error}")
        if moment and moment[1]:
            notes.append("the start time has no time zone: UTC is assumed")
        gaps = read_table(self._file, "gaps") if self._is_night else None
        self.gaps_unread = 0 if gaps is None else len(self._file["gaps"]) - len(gaps)
        if self.gaps_unread:
            notes.append(
                f"the last {self.gaps_unread} of its gaps cannot be read: the recorder was cut off as it wrote them, "
                "or they are damaged, and samples after them stand too early"
            )
        self._factor = (scale or 1.0) * UNITS[units or "g"]
        self._runs = written_runs(self._data)
        super().__init__(
            path,
            rate=rate,
            site=site,
            n_samples=self._data.shape[0],
            start_time=moment[0] if moment else None,
            gaps=gaps,
            scale=self._factor if self._data.dtype.kind in "iu" else None,
            dtype=self._data.dtype.name,
            range_g=positive(self._data, "range_g"),
            sensor=str(attribute(self._data, *SENSOR_NAMES) or ""),
            units=units or "g",
            notes=notes,
        )
        self._count_unwritten()
        if units is None and scale is None:
            self._infer_units()
        self.version = str(attribute(self._file, "format_version") or "") if self._is_night else ""
        self.created_by = str(attribute(self._file, "created_by") or "")
        self.unfinished = bool(attribute(self._file, "unfinished"))
        known = {"format", "format_version", "created_by", "unfinished"}
        self.attrs: dict[str, Any] = {}
        for name in self._file.attrs:
            try:
                self.attrs |= {} if name in known else {readable(name): attribute(self._file, name)}
            except H5_ERRORS:
                self.notes.append(f"its attribute {readable(name)[:80]!r} is left out: too large, or damaged")

    def _infer_units(self) -> None:
        unit = infer_unit(self.read(0.0, min(self.duration, 600.0)), self.rate)
        if unit is None:
            raise DataError(
                f"{self.path}: neither the file nor gravity tells the unit: give it with units= (--units)"
            )
        self.units, self._factor = unit, UNITS[unit]
        self.notes.append(f"the unit is taken to be {unit}, from the size of gravity")

    def _count_unwritten(self) -> None:
        edge = 0
        for begin, end in [*(self._runs or []), (self._count, self._count)] if self._runs is not None else []:
            if begin > edge:
                self.damage.append(Damage(self._number(edge), begin - edge, "never written"))
            edge = end
        if self._runs == []:
            raise DataError(f"{self.path}: no sample in it was ever written")

    def _present(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        if self._runs is None:
            yield from super()._present(begin, end)
            return
        for low, high in self._runs:
            if max(low, begin) < min(high, end):
                yield max(low, begin), min(high, end)

    def _sound(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        try:
            yield begin, self._load(begin, end)
            return
        except H5_ERRORS as error:
            if not self._file:
                raise DataError(f"{self.path}: the recording was closed while it was read") from None
            reason = why(error)
        rows = self._data.chunks[0] if self._data.chunks else end - begin
        for low in range(begin - begin % rows if self._data.chunks else begin, end, rows):
            low, high = max(low, begin), min(low + rows, end)
            try:
                xyz = self._load(low, high)
            except H5_ERRORS as error:
                reason = why(error)
                found = Damage(self._number(low), self._number(high - 1) + 1 - self._number(low), reason)
                if found not in self.damage:
                    self.damage.append(found)
            else:
                yield low, xyz

    def _blocks(self, begin: int, end: int, block: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        blocks = super()._blocks(begin, end, block)
        # Neither for little nor in small pieces is a thread worth what handing over costs.
        worth = self._packed and block >= LEAST_AHEAD and end - begin > 4 * block
        return ahead(blocks) if worth and self.reads_ahead else blocks

    def _load(self, begin: int, end: int) -> NDArray[np.float32]:
        out = np.empty((end - begin, 3), np.float32)
        if self._packed:
            self._packed.fill(begin, end, self._factor, out)
        else:
            scaled(self._data[begin:end], self._factor, out)
        return out

    def stored_gaps(self) -> NDArray[np.void] | None:
        """Return the table of gaps as it is stored, with those after the last sample; None where there is none."""
        return read_table(self._file, "gaps") if self._is_night else None

    @property
    def factor(self) -> float:
        """What a number in the file is in g."""
        return self._factor

    @property
    def as_hypnic_stores(self) -> bool:
        """Whether the samples are stored as `Recorder` stores them: type, chunks and filters."""
        plan = self._data.id.get_create_plist()
        codes = [plan.get_filter(at)[0] for at in range(plan.get_nfilters())]
        return (
            self._data.dtype in (np.dtype("<i2"), np.dtype("<i4"), np.dtype("<f4"))
            and self._data.chunks is not None
            and codes in ([], [2, 1])
        )

    @property
    def effective_rate(self) -> float:
        """Samples per second of the wall clock, by least squares over /clock; `rate` where there is none."""
        clock = self.clock
        # What is no time at all is damage, and would take the others along.
        clock = clock[(np.abs(clock["utc"]) < LATEST) & (np.abs(clock["sample"]) <= self.n_total)]
        seconds = clock["utc"] - clock["utc"].mean() if len(clock) else clock["utc"]
        spread = float(np.square(seconds).sum())
        if not spread > 0:
            return self.rate
        rate = float((seconds * (clock["sample"] - clock["sample"][0])).sum()) / spread
        return rate if 0 < rate < math.inf else self.rate

    @property
    def clock(self) -> NDArray[np.void]:
        """Pairings of sample, device tick and wall clock (`CLOCK_DTYPE`)."""
        return self._table("clock", super().clock)

    @property
    def annotations(self) -> NDArray[np.void]:
        """Remarks in the file (`ANNOTATION_DTYPE`), those that were taken back left out."""
        rows = self._table("annotations", super().annotations)
        kept: NDArray[np.void] = rows[rows["label"] != WITHDRAWN]
        return kept

    def _table(self, name: str, empty: NDArray[np.void]) -> NDArray[np.void]:
        rows = read_table(self._file, name) if self._is_night else None
        return empty if rows is None else rows

    def events(self) -> Events | None:
        """Return the event table in the file, its `meta` from the attributes, or None where there is none.

        Raises
        ------
        DataError
            If the table is damaged or of another version.
        """
        rows = read_table(self._file, "events") if self._is_night else None
        if rows is None:
            return None
        try:
            return Events(rows, sound_meta(read_meta(self._file["events"])))
        except H5_ERRORS as error:
            raise DataError(f"{self.path}: the facts of /events cannot be read: {why(error)}") from None

    def write_events(self, events: Events) -> None:
        """Put `events` into the night in place of those that it has.

        All else is copied to a new file, which is swapped in whole: a crash leaves the old one as it was.
        Iterations under way end with a `DataError`.

        Raises
        ------
        DataError
            If the file is no hypnic night, is being recorded, or must not be written.
        OSError
            If the disk is full.
        """
        path = Path(os.path.realpath(self.path))
        if not self._is_night:
            raise DataError(f"{self.path}: not a hypnic night: write the events to a file of their own")
        if not (os.access(path, os.W_OK) and path.stat().st_mode & 0o222):
            raise DataError(f"{self.path}: the file is read-only: write the events to a file of their own")
        dataset = self._data.name
        # What HDF5 holds of an open data set it would pack anew, and for some filters into too little room.
        self._file.close()
        try:
            with Lock(path), replacing(path) as partial:
                self._rewrite(path, partial, events)
        finally:
            self._file = open_file(self.path)
            self._data = _with_cache(self._file[dataset])
            self._packed = PackedRows.of(self._data)

    def _rewrite(self, path: Path, partial: Path, events: Events) -> None:
        """Copy the night at `path` to `partial`, with other events."""
        import h5py

        try:
            with open_file(path) as old, h5py.File(partial, "w", libver=LIBVER, locking=False) as new:
                create_table(new, "events", file_rows(events.array), compress=True)
                write_meta(new["events"], events.meta)
                copy_members(old, new, leave_out=("events",))
        except DataError as error:
            raise DataError(f"{error}: write the events to a file of their own") from None
        except H5_ERRORS as error:
            if re.search("errno = [1-9]", str(error)) or getattr(error, "errno", None):
                raise
            raise DataError(
                f"{self.path}: too damaged to take events: {why(error)}: write them to a file of their own"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
