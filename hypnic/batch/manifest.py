"""What has been done of many nights, with what came out: one SQLite file in the folder of results.

Each night is one transaction, so that at any moment, a crash included, a night is in it whole or not at all. One
process writes it; a second one that wants to is refused.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from hypnic.batch.night import TRANSIENT, Outcome, Task
from hypnic.errors import DataError
from hypnic.events import Events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["NAME", "Identity", "Manifest", "identity", "recipe"]

NAME: Final = "manifest.sqlite"
"""Of the file in the folder of results."""

_LAYOUT: Final = 1
"""SQLite's ``user_version``: another layout is refused."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS nights (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, recipe TEXT, timeout REAL,
    status TEXT, reason TEXT, finished TEXT, seconds REAL, facts TEXT, meta TEXT, events BLOB
) WITHOUT ROWID
"""


class Identity(NamedTuple):
    """By what a changed file is known: its size in bytes and the time of its last change (ns)."""

    size: int
    mtime_ns: int


def identity(path: str) -> Identity:
    """Return the identity of a file; -1, -1 for one that is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return Identity(-1, -1)
    return Identity(found.st_size, found.st_mtime_ns)


def recipe(task: Task) -> str:
    """Return how a night is done, as JSON: version of hypnic, settings and the options it is read with."""
    return json.dumps(
        {"hypnic": task.version, "settings": task.settings, "options": task.options}, sort_keys=True
    )


class Manifest:
    """The manifest of a folder of results, open for writing.

    Parameters
    ----------
    folder : Path
        Folder of results; it is made where it is not there.

    Raises
    ------
    DataError
        If another process is writing into the folder, or the file in it is no manifest.
    OSError
        If the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        # Not to be caught by SQLite: its words do not name the folder.
        with self.path.open("ab"):
            pass
        with self._said():
            self._base = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
        try:
            with self._said():
                # A power cut costs at most the night under way; the lock is held until the end.
                self._base.execute("PRAGMA synchronous = FULL")
                self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._base.execute("BEGIN EXCLUSIVE")
                layout = self._base.execute("PRAGMA user_version").fetchone()[0]
                if layout not in (0, _LAYOUT):
                    raise DataError(
                        f"{self.path}: layout {layout}, this version of hypnic has {_LAYOUT}: name another folder"
                    )
                self._base.execute(_TABLE)
                self._base.execute(f"PRAGMA user_version = {_LAYOUT}")
                self._base.execute("COMMIT")
        except BaseException:
            self._base.close()
            raise

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in hypnic's words what SQLite has to say."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "locked" in text:
                text = "another process is writing results into this folder: wait for it, or name another one"
            elif "not a database" in text or "malformed" in text:
                text = "this is no manifest of hypnic's, or is damaged: remove it, or name another folder"
            raise DataError(f"{self.path}: {text}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def is_due(self, task: Task, retry: bool = False) -> bool:
        """Tell whether a night is missing, changed, or to be tried again.

        What failed because of its data stays failed until file or recipe change; what was killed or not opened is
        tried again, and what took too long where the limit is a longer one now.

        Parameters
        ----------
        task : Task
            The night.
        retry : bool
            Try again whatever failed.
        """
        with self._said():
            row = self._base.execute(
                "SELECT size, mtime_ns, recipe, status, timeout FROM nights WHERE path = ?", (task.path,)
            ).fetchone()
        if row is None or row[:3] != (*identity(task.path), recipe(task)):
            return True
        status, limit = row[3:]
        if status == "timeout" and limit and (not task.timeout or task.timeout > limit):
            return True
        return status in TRANSIENT or (retry and status != "done")

    def put(self, task: Task, made_from: Identity, outcome: Outcome) -> None:
        """Take in what became of a night, in place of what was there.

        Parameters
        ----------
        task : Task
            The night.
        made_from : Identity
            That of the file before it was read.
        outcome : Outcome
            What became of it.
        """
        array = io.BytesIO()
        np.save(array, outcome.events.array, allow_pickle=False)
        row = (
            task.path,
            *made_from,
            recipe(task),
            task.timeout,
            outcome.status,
            outcome.reason,
            outcome.seconds,
            json.dumps(outcome.facts),
            json.dumps(outcome.events.meta),
            zlib.compress(array.getvalue(), 1),
        )
        with self._said():
            # One statement is one transaction.
            self._base.execute(
                "INSERT OR REPLACE INTO nights VALUES (?, ?, ?, ?, ?, ?, ?, datetime('now'), ?, ?, ?, ?)", row
            )

    def is_of(self, task: Task) -> bool:
        """Tell whether what is kept of a night was made by the task's recipe."""
        with self._said():
            row = self._base.execute("SELECT recipe FROM nights WHERE path = ?", (task.path,)).fetchone()
        return row is not None and row[0] == recipe(task)

    def statuses(self, tasks: Iterable[Task]) -> dict[str, tuple[str, str, float]]:
        """Return status, reason and seconds that could not be read of the nights that are known, by path."""
        query = "SELECT status, reason, json_extract(facts, '$.damage.seconds') FROM nights WHERE path = ?"
        found = {}
        for task in tasks:
            with self._said():
                row = self._base.execute(query, (task.path,)).fetchone()
            if row is not None:
                found[task.path] = (row[0], row[1], row[2] or 0.0)
        return found

    def get(self, path: str) -> Outcome | None:
        """Return what became of a night, None where it is not known.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        with self._said():
            row = self._base.execute(
                "SELECT status, reason, seconds, facts, meta, events FROM nights WHERE path = ?", (path,)
            ).fetchone()
        if row is None:
            return None
        status, reason, seconds, facts, meta, events = row
        try:
            array = np.load(io.BytesIO(zlib.decompress(events)), allow_pickle=False)
            found = Events(array, json.loads(meta))
            parsed: dict[str, Any] = json.loads(facts)
        except (ValueError, zlib.error, EOFError) as error:
            raise DataError(f"{self.path}: what is kept of {path} cannot be read: {error}") from None
        return Outcome(path, status, reason, found, parsed, seconds)
