"""Many nights: on the cores of one machine, or on any `concurrent.futures.Executor`, a Dask cluster's among them.

>>> from hypnic.batch import detect_nights, find_nights                      # doctest: +SKIP
>>> result = detect_nights(find_nights(["study/"]), "results", jobs=4)       # doctest: +SKIP
>>> result.failed                                                            # doctest: +SKIP

`run` is the seam: tasks in, outcomes out, through whatever executor. Each night has a process that can be ended
(`hypnic.batch.worker`), so that one that hangs, crashes or is killed costs itself alone. What came out goes into a
manifest (`hypnic.batch.manifest`), from which the tables are made (`hypnic.batch.tables`); a rerun does what is
missing or has changed.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hypnic.batch import manifest as manifests
from hypnic.batch.manifest import Manifest
from hypnic.batch.night import DONE, Outcome, Task, is_recording
from hypnic.batch.tables import need_parquet, write_each, write_tables
from hypnic.batch.worker import detect_guarded, end_processes, version
from hypnic.errors import DataError, UsageError
from hypnic.settings import Settings

__all__ = [
    "TIMEOUT_S",
    "Outcome",
    "Result",
    "Task",
    "dask_executor",
    "detect_nights",
    "find_nights",
    "night_names",
    "run",
]

TIMEOUT_S: Final = 600.0
"""Longest time (s) for one night unless it is said otherwise: a week of 100 Hz takes some 10 s, as text a minute."""

AHEAD: Final = 256
"""Nights handed to a foreign executor ahead of their results: enough for its workers never to wait, few enough that
a hundred thousand nights need no memory."""

MENDS: Final = 3
"""How often an executor that broke is made anew for one night."""

_GLOB: Final = frozenset("*?[")


@dataclass(frozen=True)
class Result:
    """What a run over many nights came to.

    Attributes
    ----------
    nights : dict of str to str
        Name of each night and its path, in the order in which they were named.
    done, skipped : int
        Nights done by this run, and those that were done before and have not changed.
    failed : dict of str to (str, str)
        Status and reason of each night that failed, now or before, by name.
    damaged : dict of str to float
        Seconds that could not be read, by name of a night that was done.
    tables : list of Path
        The tables that were written.
    """

    nights: dict[str, str]
    done: int
    skipped: int
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    damaged: dict[str, float] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)


def find_nights(
    places: Iterable[str | os.PathLike[str]], leave_out: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Return the recordings that files, folders and patterns name.

    Parameters
    ----------
    places : iterable of path-like
        Files, which are taken as they are; folders, whose recordings are found at any depth by their endings;
        and patterns such as ``study/**/*.h5``.
    leave_out : path-like, optional
        A folder in which nothing is looked for: that of the results.

    Returns
    -------
    list of Path
        Each recording once: in the order of `places`, those of one folder or pattern sorted.

    Raises
    ------
    DataError
        If a folder holds no recording, or nothing fits a pattern.
    """
    out = None if leave_out is None else Path(leave_out).absolute()
    found: dict[str, Path] = {}
    for place in places:
        path = Path(place)
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if is_recording(file)
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and (out is None or out not in file.absolute().parents)
            )
            if not inside:
                raise DataError(f"{path}: there is no recording in this folder")
        elif _GLOB & set(str(place)) and not path.exists():
            pattern = str(path.relative_to(path.anchor))
            # As in a shell, what is hidden is found only where the pattern says its name.
            inside = sorted(
                file
                for file in Path(path.anchor).glob(pattern)
                if file.is_file() and not any(p.startswith(".") and p not in path.parts for p in file.parts)
            )
            if not inside:
                raise DataError(f"{place}: no file fits this pattern")
        else:
            inside = [path]
        for file in inside:
            found.setdefault(_absolute(file), file)
    return list(found.values())


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # resolve() follows links: a folder of links is a study too


def night_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each recording: its path below the folder that all share, without ending where that will do."""
    if not paths:
        return []
    whole = [Path(_absolute(path)) for path in paths]
    shared = os.path.commonpath([path.parent for path in whole])
    full = [path.relative_to(shared).as_posix() for path in whole]
    short = [path.relative_to(shared).with_suffix("").as_posix() for path in whole]
    # On a file system that ignores case, night.csv and Night.csv are one file.
    alone = len({name.lower() for name in short}) == len(short)
    return short if alone else full


def run(
    tasks: Iterable[Task],
    executor: Executor | Callable[[], Executor],
    *,
    ahead: int = AHEAD,
    work: Callable[[Task], Outcome] = detect_guarded,
) -> Iterator[tuple[Task, Outcome]]:
    """Do tasks on an executor and yield what became of each, as it comes.

    Parameters
    ----------
    tasks : iterable of Task
        The nights.
    executor : Executor or callable
        A `concurrent.futures.Executor`, or what makes one: it is made anew where it breaks (a worker of a
        `ProcessPoolExecutor` that is killed breaks it), and what it had not done is done by the next. One that was
        made here is shut down at the end; a given one stays the caller's.
    ahead : int, optional
        Tasks handed over ahead of their results.
    work : callable, optional
        What is done with a task, importable by name where the workers are.

    Yields
    ------
    task : Task
    outcome : Outcome
        Every task comes out once, whatever happens to it.
    """
    make = executor if callable(executor) else None
    current: Executor = executor() if callable(executor) else executor
    finished: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
    pending: dict[Future[Outcome], tuple[Task, Executor]] = {}
    mended: dict[Task, int] = {}
    waiting = iter(tasks)
    again: list[Task] = []
    broken = ""
    try:
        while True:
            while len(pending) < ahead:
                task = again.pop() if again else next(waiting, None)
                if task is None:
                    break
                try:
                    future = current.submit(work, task)
                except (BrokenExecutor, RuntimeError) as error:
                    # RuntimeError: it has been shut down.
                    broken = str(error)
                    if make is None or not isinstance(error, BrokenExecutor) or _count(mended, task) > MENDS:
                        yield task, _lost(task, broken)
                        continue
                    current.shutdown(wait=False)
                    current = make()
                    again.append(task)
                    continue
                pending[future] = task, current
                future.add_done_callback(finished.put)
            if not pending:
                return
            future = finished.get()
            task, by = pending.pop(future)
            try:
                outcome = future.result()
            except BrokenExecutor as error:
                if make is not None and _count(mended, task) <= MENDS:
                    if by is current:
                        current.shutdown(wait=False)
                        current = make()
                    again.append(task)
                    continue
                outcome = _lost(task, str(error))
            except CancelledError:
                outcome = Outcome(task.path, "stopped", "the executor was ended")
            except Exception as error:
                # Dask's KilledWorker, a result that cannot be sent, a worker without hypnic.
                outcome = _lost(task, f"{type(error).__name__}: {error}")
            yield task, outcome
    finally:
        for future in pending:
            future.cancel()
        if make is not None:
            current.shutdown(wait=False)


def _count(times: dict[Task, int], task: Task) -> int:
    times[task] = times.get(task, 0) + 1
    return times[task]


def _lost(task: Task, why: str) -> Outcome:
    return Outcome(task.path, "killed", f"{task.path}: lost with its worker: {' '.join(why.split())}")


@contextmanager
def dask_executor(address: str, patience_s: float = 10.0) -> Iterator[Executor]:
    """Connect to a running Dask scheduler and give its workers as an executor.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://host:8786``.
    patience_s : float, optional
        How long (s) to wait for it.

    Raises
    ------
    UsageError
        If Dask is not installed, or the address is none.
    DataError
        If there is no scheduler, no worker, or one with another version of hypnic.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--dask needs dask.distributed: pip install 'hypnic[dask]'") from None
    try:
        client = Client(address, timeout=patience_s)
    except ValueError as error:
        raise UsageError(f"--dask {address}: {error}") from None
    except OSError:
        raise DataError(f"{address}: no Dask scheduler answers there") from None
    with client:
        try:
            versions = client.run(version)
        except Exception as error:
            raise DataError(f"{address}: hypnic cannot be run on its workers: {error}") from None
        if not versions:
            raise DataError(f"{address}: the scheduler has no workers: start some (dask worker {address})")
        if others := {found for found in versions.values() if found != version()}:
            raise DataError(
                f"{address}: its workers have hypnic {', '.join(sorted(others))}, here is {version()}: "
                "results would not compare"
            )
        # pure: Dask would otherwise take a night that was done again after a change for one that it knows.
        yield client.get_executor(pure=False)


def detect_nights(
    paths: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    jobs: int = 1,
    executor: Executor | Callable[[], Executor] | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT_S,
    labels: Sequence[str] = (),
    parquet: bool = False,
    each: str | None = None,
    retry: bool = False,
    anew: bool = False,
    progress: Callable[[int, int, str, Outcome], None] | None = None,
) -> Result:
    """Detect in many recordings and write what was found in them as tables.

    What was done before, by the manifest in the folder, with the same file, settings and version, is not done again.
    Ctrl-C (`KeyboardInterrupt`) leaves manifest and tables with what was done so far, and is raised.

    Parameters
    ----------
    paths : iterable of path-like
        The recordings, as `find_nights` returns them.
    folder : path-like
        Folder of results: the manifest, ``events.csv``, ``nights.csv`` and ``windows.csv``.
    jobs : int, optional
        Nights that are done at a time on this machine, each in a process of its own; 0 for one on each core.
    executor : Executor or callable, optional
        Where to do them instead: see `run`.
    settings : Settings or mapping, optional
        Thresholds; those of a mapping take the place of the preset's, which goes by each recording's site.
    options : mapping, optional
        Those of `hypnic.readers.open_recording`, for all of them.
    timeout : float, optional
        Longest time (s) for one night; 0 for no limit.
    labels : sequence of str, optional
        Labels of the events in the tables of events; all by default.
    parquet : bool, optional
        Write Parquet too.
    each : {"csv", "tsv", "json", "jsonl"}, optional
        Also write the events of each night to a file of its own, in ``folder/each``.
    retry : bool, optional
        Try again what failed, though nothing has changed.
    anew : bool, optional
        Do everything again.
    progress : callable, optional
        Called after each night with the number done so far, the number to do, the night's name and its outcome.

    Returns
    -------
    Result

    Raises
    ------
    UsageError
        If an option cannot be meant, or an optional package is not installed.
    DataError
        If there are no recordings, or the folder's manifest cannot be used.
    OSError
        If the folder cannot be written.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise DataError("there are no recordings to detect in")
    if jobs < 0:
        raise UsageError(f"{jobs} jobs: a number from 1, or 0 for one on each core")
    if not 0 <= timeout < float("inf"):
        raise UsageError(f"a limit of {timeout:g} s for a night: seconds, or 0 for no limit")
    if parquet:
        need_parquet()
    given = {name: value for name, value in (options or {}).items() if value is not None}
    values = settings.to_dict() if isinstance(settings, Settings) else dict(settings) if settings else None
    if values is not None:
        # Refused here, before a thousand nights refuse it.
        Settings.from_dict(values, str(given.get("site", "wrist")))
    names = night_names(files)
    tasks = {
        name: Task(_absolute(path), given, values, timeout) for name, path in zip(names, files, strict=True)
    }
    by_path = {task.path: name for name, task in tasks.items()}
    target = Path(folder)
    with Manifest(target) as manifest:
        due = [task for task in tasks.values() if anew or manifest.is_due(task, retry)]
        done = 0
        try:
            for task, made_from, outcome in _done(due, jobs, executor):
                manifest.put(task, made_from, outcome)
                done += 1
                if progress is not None:
                    progress(done, len(due), by_path[task.path], outcome)
        finally:
            # After Ctrl-C, or a full disk, too: what was done is there.
            tables = _write(target, manifest, tasks, tuple(labels), parquet, each)
        failed, damaged = {}, {}
        for task_path, (status, reason, lost) in manifest.statuses(tasks.values()).items():
            if status != DONE:
                failed[by_path[task_path]] = status, reason
            elif lost:
                damaged[by_path[task_path]] = lost
    nights = {name: task.path for name, task in tasks.items()}
    finished = done - sum(1 for task in due if by_path[task.path] in failed)
    before = len(tasks) - len(failed) - finished
    return Result(nights, finished, before, failed, damaged, tables)


def _done(
    tasks: Sequence[Task], jobs: int, executor: Executor | Callable[[], Executor] | None
) -> Iterator[tuple[Task, manifests.Identity, Outcome]]:
    """Yield each task with the identity that its file had before it was read, and its outcome."""
    read: dict[str, manifests.Identity] = {}

    def noted() -> Iterator[Task]:
        for task in tasks:
            read[task.path] = manifests.identity(task.path)
            yield task

    if executor is not None:
        for task, outcome in run(noted(), executor):
            yield task, read.pop(task.path), outcome
        return
    workers = min(jobs or os.cpu_count() or 1, max(len(tasks), 1))
    # Threads, since each only waits for a process that it can end.
    threads = ThreadPoolExecutor(workers, "night")
    try:
        for task, outcome in run(noted(), threads, ahead=2 * workers):
            yield task, read.pop(task.path), outcome
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        end_processes()
        threads.shutdown(wait=True)


def _write(
    folder: Path,
    manifest: Manifest,
    tasks: Mapping[str, Task],
    labels: tuple[str, ...],
    parquet: bool,
    each: str | None,
) -> list[Path]:
    def nights() -> Iterator[tuple[str, Outcome]]:
        for name, task in tasks.items():
            outcome = manifest.get(task.path)
            # A night that is in the manifest by another recipe has not been done by this one.
            if outcome is None or not manifest.is_of(task):
                continue
            if each is not None and outcome.status == DONE:
                write_each(folder / "each", name, outcome, each, labels)
            yield name, outcome

    return write_tables(folder, nights(), labels, parquet)
