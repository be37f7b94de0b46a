"""Commands on the machine: compile once, and measure."""

from __future__ import annotations

from hypnic.cli.shared import app

__all__ = ["warmup"]


@app.command()
def warmup() -> None:
    """Compile the detector once, so that nobody waits for it later, and say where it is kept.

    Every later process starts from there, on other machines with the same processor too where they share the folder.
    NUMBA_CACHE_DIR names another folder than that of the sources (or, where that is read-only, the user's cache).
    Without a folder that can be written each process compiles anew: some 15 s each, with the same results.
    """
    from time import perf_counter

    from hypnic.warmup import warm_up

    start = perf_counter()
    cache = warm_up()
    took = f"{perf_counter() - start:.1f} s"
    if cache.unsaved or not (cache.loaded or cache.saved):
        print(f"compiled in {took}, not kept: every process will compile anew")
    elif cache.saved:
        print(f"compiled in {took}: {cache.saved} pieces written, {cache.loaded} were there")
    else:
        print(f"nothing to compile: {cache.loaded} pieces loaded in {took}")
    print(f"cache: {cache.folder or 'none'}")
    if cache.problem:
        print(f"note: {cache.problem}")
