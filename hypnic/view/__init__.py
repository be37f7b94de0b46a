"""The live page: a session as a browser shows it, on this computer or, where that is asked for, on a phone.

`View` serves the page and passes a session's updates on to it. What it knows it keeps in `recent`, bounded; `server`
speaks HTTP and WebSocket in a thread of its own; `page` holds the static files, which ask nobody else for anything.

The detector never waits for a browser. Its thread leaves the newest minute in memory, and each browser takes from
there what it has not seen, as fast as it can: one that is too slow skips signal, is told how much, and still gets every
event.

A mark ("I felt one") has the time of the press by this computer's clock, not by what the page happened to show: a
person marks what the body felt, and a page may lag. The browser tells how long ago the press was (0 but where the
connection had been lost), so that the mark is late by no more than the message was on its way, and early by no more
than the samples were: some hundredths of a second, far less than a person's reaction.
"""

from __future__ import annotations

from hypnic.view.server import View

__all__ = ["View"]
