"""What the live page costs a session: CPU time of its process, and how long the detector is held up.

    python benchmarks/view.py [--seconds 40]

A replayed night at 100 Hz by the clock, in pieces of 0.02 s, without a page, with the server and none, one and ten
pages, and with ten more that never read. The pages are WebSockets in a process of their own, so that only the server's
side is counted; what a browser spends on drawing is its own affair.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import hypnic
from hypnic import Detector, Events, live
from hypnic.chunk import Chunk
from hypnic.live import Player, Session
from hypnic.view import View

NIGHT = Path(__file__).parents[1] / "data" / "wrist_onset.h5"


def _pages(url: str, reading: int, deaf: int) -> None:
    origin = url.rstrip("/")

    async def page(reads: bool) -> None:
        async with connect(f"{url.replace('http', 'ws')}live", origin=origin, max_queue=1) as socket:
            if not reads:
                await asyncio.sleep(3600)
            with contextlib.suppress(ConnectionClosed):
                async for _ in socket:
                    pass

    async def every() -> None:
        await asyncio.gather(*(page(k < reading) for k in range(reading + deaf)), return_exceptions=True)

    asyncio.run(every())


class _Timed(Session):
    """A session that notes how long each push takes."""

    def _push(self, detector: Detector, chunk: Chunk) -> Events:
        begun = time.perf_counter()
        found = super()._push(detector, chunk)
        self.__dict__.setdefault("times", []).append(time.perf_counter() - begun)
        return found


@contextlib.contextmanager
def _opened(url: str, reading: int, deaf: int) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_pages, args=(url, reading, deaf))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def measure(seconds: float, pages: int | None, deaf: int = 0) -> tuple[float, float, float]:
    """Return the share of a CPU that the process takes, and the median and 99th percentile of a push (s)."""
    with contextlib.ExitStack() as stack:
        night = stack.enter_context(hypnic.open(NIGHT))
        view = None if pages is None else stack.enter_context(View(0))
        if view is not None and pages is not None and pages + deaf:
            stack.enter_context(_opened(view.url, pages, deaf))
            while view.pages < pages + deaf:
                time.sleep(0.1)
        session = stack.enter_context(_Timed(Player(night), duration=seconds))
        begun, used = time.monotonic(), time.process_time()
        for _ in session if view is None else view.watch(session):
            pass
        share = (time.process_time() - used) / (time.monotonic() - begun)
        times = np.array(session.__dict__["times"])
    return share, float(np.median(times)), float(np.percentile(times, 99))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=40.0)
    seconds = parser.parse_args().seconds
    live.PIECE = 0.02  # type: ignore[misc]  # a constant of the program, shorter here: more pushes to time
    print("| | CPU | push, median | push, 99 % |\n|---|---|---|---|")
    for name, pages, deaf in (
        ("no page", None, 0),
        ("--view, nobody looks", 0, 0),
        ("1 page", 1, 0),
        ("10 pages", 10, 0),
        ("10 pages, and 10 that never read", 10, 10),
    ):
        share, middle, late = measure(seconds, pages, deaf)
        print(f"| {name} | {100 * share:.1f} % | {1e6 * middle:.0f} µs | {1e6 * late:.0f} µs |", flush=True)


if __name__ == "__main__":
    main()
