"""The options of the live page, which `stream` and `replay` share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    from hypnic.view import View

__all__ = ["ViewHostOption", "ViewOption", "ViewPortOption", "open_view", "say_where"]

ViewOption = Annotated[
    bool, typer.Option("--view", help="Serve a live page with a button to mark what you felt (hypnic[view]).")
]
ViewPortOption = Annotated[
    int | None,
    typer.Option("--view-port", help="With --view: its port, 8321 by default; 0 for any free one."),
]
ViewHostOption = Annotated[
    str | None,
    typer.Option(
        "--view-host",
        help="With --view: address to serve on, such as 0.0.0.0 for phones on the network; by default this "
        "computer alone.",
    ),
]


@contextmanager
def open_view(wanted: bool, port: int | None, host: str | None) -> Iterator[View | None]:
    """Serve the live page where it is `wanted`, until the session has ended and its night is closed.

    Raises
    ------
    UsageError
        If it is to be somewhere but not wanted, or cannot be there.
    """
    from hypnic.errors import UsageError

    if not wanted:
        for option, value in (("--view-port", port), ("--view-host", host)):
            if value is not None:
                raise UsageError(f"{option} says where the live page is: it needs --view")
        yield None
        return
    from hypnic.view import View
    from hypnic.view.server import PORT

    try:
        view = View(PORT if port is None else port, host or "127.0.0.1")
    except UsageError as error:
        raise UsageError(f"--view: {error}") from None
    with view:
        yield view
    if view.problem:
        print(f"hypnic: {view.problem}", file=sys.stderr)


def say_where(view: View, out: TextIO) -> None:
    """Say where the page is."""
    print(f"live page: {view.url}", file=out, flush=True)
