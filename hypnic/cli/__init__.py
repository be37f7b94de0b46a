"""The `hypnic` command.

Exit status: 0 done, 1 something about the data (a damaged file, a full disk), 2 something about the words
(an unknown option, a rate below 25 Hz), 130 interrupted. Errors are one line on stderr. Ctrl-C, SIGTERM and a
closed terminal are how stream and replay are meant to end: 0.
"""

from __future__ import annotations

import os
import sys

import typer

# Each module of commands adds its own to the app, in the order in which they are listed.
# isort: off
from hypnic.cli import nights as nights
from hypnic.cli import judge as judge
from hypnic.cli import report as report
from hypnic.cli import live as live
from hypnic.cli import bench as bench
from hypnic.cli import export as export
from hypnic.cli import study as study
from hypnic.cli import convert as convert
from hypnic.cli import repair as repair

# isort: on
from hypnic.cli.shared import app, complain, plain

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


def main() -> None:
    """Run the command and turn every refusal into one line and an exit status."""
    from hypnic.errors import DataError, UsageError

    status = 0
    try:
        status = app(standalone_mode=False) or 0
        if status == INTERRUPTED:
            # Typer has made an exit status of it.
            raise KeyboardInterrupt
    except UsageError as error:
        complain(error)
        status = 2
    except BrokenPipeError:
        # The reader of the pipe has gone: nothing to say, and no one to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (DataError, OSError) as error:
        complain(error)
        status = 1
    except MemoryError:
        print("hypnic: out of memory", file=sys.stderr)
        status = 1
    except (KeyboardInterrupt, typer.Abort):
        print("hypnic: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except Exception as error:
        # click's own usage errors have a message; anything else is a bug and keeps its traceback.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        hint = f" ({context.command_path} --help lists what there is)" if context is not None else ""
        # A command without arguments shows its help, which is many lines and no error's text.
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]  # click's
        else:
            print(plain(f"hypnic: {message().rstrip('.')}{hint}"), file=sys.stderr)
        status = getattr(error, "exit_code", 2)
    sys.exit(status)
