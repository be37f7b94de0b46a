"""A night in a process that can be ended.

Some damage makes the HDF5 library hang for good, a text file of the wrong kind can take all memory, and a thread or a
worker of a pool that hangs or dies takes others with it. So whoever is given a night, be it a thread here, a worker
of a process pool or one of a Dask cluster, hands it to a process of its own: one that serves night after night, is
ended where a night takes too long, and replaced where it died. The two talk over a socket.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final

import hypnic
from hypnic.batch.night import Outcome, Task, detect_night

__all__ = ["detect_guarded", "end_processes", "environment", "serve", "version"]

IDLE_S: Final = 30.0
"""Time (s) without a night after which a process ends by itself: on a cluster nobody tells it that all is done."""

START_S: Final = 300.0
"""Time (s) that a process may take to start: 15 s of compiling where nothing is cached, on a busy machine."""

GRACE_S: Final = 60.0
"""Time (s) beyond the limit after which a process ends itself, where the one that minds the limit has died."""

ATTEMPTS: Final = 2
"""How often a night whose process was ended from outside is tried."""

_ONE_THREAD: Final = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
"""Nights are done side by side: threads within each would only be in one another's way."""


def environment() -> dict[str, str]:
    """Return the environment of a process that imports the same hypnic as this one, wherever that was imported from."""
    home = str(Path(hypnic.__file__).parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class _UnservedError(Exception):
    """The process had ended before it took the night."""


class _DiedError(Exception):
    """The process ended while it had the night."""


class _Process:
    """The other end: a process that takes one night at a time."""

    def __init__(self) -> None:
        here, there = Pipe()
        try:
            self._popen = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    f"from hypnic.batch.worker import serve; serve({there.fileno()})",
                ],
                pass_fds=(there.fileno(),),
                stdin=subprocess.DEVNULL,
                # Out of reach of the terminal's Ctrl-C: who started it ends it, with the manifest in order.
                start_new_session=True,
                env=environment() | _ONE_THREAD,
            )
        except BaseException:
            here.close()
            raise
        finally:
            there.close()
        self._connection = here
        self.pid = self._popen.pid
        self.nights = 0

    def wait_ready(self) -> None:
        if self._receive(START_S) is None:
            raise _UnservedError

    def serve(self, task: Task) -> Outcome | None:
        """Return what became of the night, or None where it took too long.

        Raises
        ------
        _UnservedError, _DiedError
            If the process is no more.
        """
        try:
            self._connection.send(task)
        except OSError:
            raise _UnservedError from None
        try:
            self._receive(None)
        except _DiedError:
            raise _UnservedError from None
        outcome: Outcome | None = self._receive(task.timeout or None)
        return outcome

    def _receive(self, timeout: float | None) -> Any:
        try:
            return self._connection.recv() if self._connection.poll(timeout) else None
        except (EOFError, OSError):
            raise _DiedError from None

    def kill(self) -> None:
        self._popen.kill()

    def end(self) -> str:
        """End the process, if it has not ended, and say how it did."""
        self.kill()
        try:
            code = self._popen.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            # Waits for a disk that does not answer; nothing can end it before that does.
            return "cannot be ended"
        self._connection.close()
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"


class _Pool:
    """The processes of this one: those that wait for a night and those that have one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a fork: the processes are the parent's."""
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self.ended = 0

    def take(self, ended: int) -> _Process:
        """Return a process that is ready, if everything has been ended no more than `ended` times."""
        with self._lock:
            if self._idle:
                process = self._idle.pop()
                self._busy.add(process)
                return process
            if self.ended != ended:
                raise _UnservedError
            process = _Process()
            self._busy.add(process)
        try:
            process.wait_ready()
        except (_DiedError, _UnservedError):
            self.drop(process)
            raise _UnservedError from None
        return process

    def give_back(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)
            self._idle.append(process)

    def drop(self, process: _Process) -> str:
        with self._lock:
            self._busy.discard(process)
        return process.end()

    def end(self) -> None:
        with self._lock:
            self.ended += 1
            idle, self._idle = self._idle, []
            # Who waits for one sees it go, and clears it away.
            for process in self._busy:
                process.kill()
        for process in idle:
            process.end()

    def pids(self) -> list[int]:
        """Return the process ids, those at work first."""
        with self._lock:
            return [process.pid for process in (*self._busy, *self._idle)]


_pool: Final = _Pool()
os.register_at_fork(after_in_child=_pool.forget)


def detect_guarded(task: Task) -> Outcome:
    """Detect and describe one recording in a process that is ended where it hangs.

    This is what goes to an executor: it may run in a thread, in a worker of a process pool or on a cluster.
    """
    ended = _pool.ended
    reason = ""
    served = unserved = 0
    while served < ATTEMPTS and unserved < ATTEMPTS:
        process = None
        try:
            process = _pool.take(ended)
            outcome = process.serve(task)
        except OSError as error:
            return Outcome(task.path, "killed", f"no process could be started: {error.strerror or error}")
        except (_UnservedError, _DiedError) as error:
            how = _pool.drop(process) if process is not None else "at its start"
            if _pool.ended != ended:
                return Outcome(task.path, "stopped", "the run was ended")
            served += isinstance(error, _DiedError)
            # One that was idle for long ends by itself, maybe just now: only a new one that does is a failure.
            unserved += isinstance(error, _UnservedError) and (process is None or process.nights == 0)
            reason = f"{task.path}: its process ended ({how})"
            continue
        if outcome is None:
            _pool.drop(process)
            return Outcome(
                task.path,
                "timeout",
                f"{task.path}: not done after {task.timeout:g} s, so it was ended: damaged, or a longer --timeout",
                seconds=task.timeout,
            )
        process.nights += 1
        _pool.give_back(process)
        return outcome
    return Outcome(task.path, "killed", f"{reason}, {served or unserved} times")


def end_processes() -> None:
    """End the processes that nights were handed to; nights under way come back as stopped."""
    _pool.end()


atexit.register(end_processes)


def version() -> str:
    """Return the version of hypnic, to ask a cluster for it."""
    return hypnic.__version__


def serve(fd: int) -> None:
    """Be the process at the other end: take night after night until who asks has gone, or is silent for long.

    Parameters
    ----------
    fd : int
        The socket.
    """
    import numpy as np

    from hypnic.detector import Detector

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _end_with_parent()
    # Compiled, or loaded, before the first night's time is taken.
    detector = Detector(100.0)
    detector.push_rows(np.zeros((1, 3), np.float32))
    detector.flush_rows()
    try:
        with Connection(fd) as connection:
            connection.send("ready")
            while connection.poll(IDLE_S):
                task = connection.recv()
                connection.send("taken")
                # The default answer to this signal is the kernel's: it ends a process that hangs in a library too.
                signal.setitimer(signal.ITIMER_REAL, task.timeout + GRACE_S if task.timeout else 0.0)
                outcome = detect_night(task)
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                connection.send(outcome)
    except (EOFError, OSError):
        # Who asked has gone.
        return


def _end_with_parent() -> None:
    """Have the system end this process with the thread that started it, though it may hang (Linux; see `GRACE_S`)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
