"""Give every reader files that are damaged or made to do harm, and account for what becomes of each.

    python benchmarks/hostile_files.py [--nights 2000] [--others 500] [--seed 1] [--jobs 2] [--only NAME ...]
    python benchmarks/hostile_files.py --case "HDF5 night:17" --write here.h5

HDF5 nights of seven inner forms, mutated at their structures (bits, fields, sizes and addresses, doubled and cleared
parts, cut at every structure), go through info, detect, report, convert and repair, through `hypnic.open` and all that
it offers, and through score; so do some hundred nights that lay one trap each (`tests/hostile.py`). Mutated and made-up
files of every other format follow. They are given to processes that serve one case after the other, and are ended and
replaced where one takes too long. A case passes when each command ends in a result or in one clear line, in time,
within the memory that is stated, and when nothing beside the file was read for it or written.

Writes HOSTILE.md and hostile.json beside this script where the whole campaign is run. Exit status 1 where any case
did not pass. Linux alone: the peak of a process's memory is taken from its /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import re
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

TIME_LIMIT_S: Final = 60.0
"""Time for all that is done with one case."""

MEMORY_LIMIT: Final = 1 << 30
"""Bytes by which a process may grow over a case: what the README promises."""

ADDRESS_SPACE: Final = 12 << 30
"""Bytes of address space of a process: what goes beyond fails instead of taking the machine along."""

LONGEST_LINE: Final = 1000
"""Characters of an error that is still a line to read."""

GOOD: Final = ("result", "refused", "partly")
"""Outcomes that pass; partly: a result, and a line that says what is damaged."""

OTHERS: Final = ("delimited text", "Empatica", "EmbracePlus", "Axivity", "GENEActiv", "ActiGraph")
TABLES: Final = ("events tsv", "events json", "settings", "diary")
FORMATS: Final = ("HDF5 night", *OTHERS, *TABLES)


class Case(NamedTuple):
    """A hostile file.

    Attributes
    ----------
    name : str
        What it is.
    kind : str
        How it was made: a trap, or a kind of mutation.
    suffix : str
        The ending of its file.
    make : callable
        Writes it to a path.
    refuse : bool
        Whether detecting in it must end in a refusal.
    """

    name: str
    kind: str
    suffix: str
    make: Callable[[Path], Any]
    refuse: bool = False


# The cases


class Cases:
    """All cases of one seed; each is made anew from its number alone, wherever it is asked for."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self._sound: dict[str, list[tuple[str, bytes]]] = {}
        self._traps: dict[str, list[Case]] = {}

    def traps(self, format: str) -> list[Case]:
        """Return the cases of a format that lay one trap each."""
        if format not in self._traps:
            self._traps[format] = self._made(format)
        return self._traps[format]

    @staticmethod
    def _made(format: str) -> list[Case]:
        from tests import hostile

        if format == "HDF5 night":
            return [
                Case(f"trap: {n}", "trap", ".h5", make, refuse)
                for n, (make, refuse) in hostile.traps().items()
            ]
        if format == "delimited text":
            return [_text(name, data, ".csv") for name, data in hostile.SAMPLE_TRAPS.items()]
        if format in TABLES:
            suffix = {"events tsv": ".tsv", "events json": ".json", "settings": ".toml", "diary": ".csv"}[
                format
            ]
            return [_text(name, data, suffix) for name, data in hostile.TEXT_TRAPS.items()]
        return [_text(name, data, suffix) for name, suffix, data in _archive_traps(format)]

    def case(self, format: str, number: int) -> Case:
        """Return a case by its number: the traps come first."""
        from tests import hostile

        traps = self.traps(format)
        if number < len(traps):
            return traps[number]
        rng = np.random.default_rng([self.seed, FORMATS.index(format), number])
        sound = self.sound(format)
        name, data = sound[int(rng.integers(len(sound)))]
        mutate = hostile.mutate_hdf5 if format == "HDF5 night" else hostile.mutate
        kind, data = mutate(data, rng)
        return Case(f"{name}: {kind}", kind, Path(name).suffix, lambda path: path.write_bytes(data))

    def sound(self, format: str) -> list[tuple[str, bytes]]:
        """Return names and contents of the sound files that are mutated."""
        if format not in self._sound:
            self._sound[format] = list(_sound(format, self.folder))
        return self._sound[format]


def _text(name: str, data: bytes, suffix: str) -> Case:
    return Case(f"trap: {name}", "trap", suffix, lambda path: path.write_bytes(data))


def _sound(format: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    from tests import encoders as make
    from tests import hostile

    xyz = make.counts(3000, size=500)
    if format == "HDF5 night":
        for name, write in hostile.sound_nights().items():
            path = folder / f"{name}.h5"
            yield path.name, (path if path.exists() else write(path)).read_bytes()
    elif format == "delimited text":
        rows = hostile.still(1500) / 4096
        for delimiter, comma in ((",", False), (";", True), ("\t", False)):
            lines = [delimiter.join(("time", "x", "y", "z"))]
            lines += [
                delimiter.join(f"{value:.4f}" for value in (at / 50, *row))
                for at, row in enumerate(rows.tolist())
            ]
            yield "text.csv", "\n".join(line.replace(".", ",") if comma else line for line in lines).encode()
        dated = "".join(
            f"2024-03-21 22:{at // 3000:02d}:{at // 50 % 60:02d}.{at % 50 * 20:03d},{x:.4f},{y:.4f},{z:.4f}\n"
            for at, (x, y, z) in enumerate(rows.tolist())
        )
        yield "dated.csv", ("timestamp,x,y,z\n" + dated).encode()
    elif format == "Empatica":
        e4 = make.e4_csv(hostile.still(1500) // 64)
        yield "ACC.csv", e4
        yield "session.zip", make.zipped({"ACC.csv": e4}, 8)
        yield "session.zip", make.zipped({"ACC.csv": e4})
    elif format == "EmbracePlus":
        sessions = [
            make.avro_session(xyz[at : at + 500], start=make.START + at / 64) for at in range(0, 3000, 500)
        ]
        for codec in ("null", "deflate"):
            yield "raw.avro", make.avro(sessions, codec=codec)
    elif format == "Axivity":
        yield "ax3.cwa", make.cwa(xyz)
        yield "ax6.cwa", make.cwa(xyz, packed=False, axes=6, unit=2)
    elif format == "GENEActiv":
        yield "geneactiv.bin", make.geneactiv(xyz)
    elif format == "ActiGraph":
        log = make.gt3x_log(xyz)
        yield "stored.gt3x", make.gt3x(log)
        yield "packed.gt3x", make.gt3x(log, packing=8)
        yield "wide.gt3x", make.gt3x(make.gt3x_log(xyz, kind=26))
    else:
        texts = {
            "events tsv": ("events.tsv", hostile.EVENTS_TSV),
            "events json": ("events.json", hostile.EVENTS_JSON),
            "settings": ("settings.toml", hostile.TOML),
            "diary": ("diary.csv", hostile.DIARY),
        }
        name, text = texts[format]
        yield name, text.encode()


def _archive_traps(format: str) -> Iterator[tuple[str, str, bytes]]:
    from tests import encoders as make
    from tests import hostile

    if format == "ActiGraph":
        sound = make.gt3x(make.gt3x_log(make.counts(1000)), packing=8)
        info = b"Sample Rate: 100\nAcceleration Scale: 256\n"
        yield "bomb in log.bin", ".gt3x", hostile.zip_bomb("log.bin", info_txt=info)
        yield "bomb in info.txt", ".gt3x", hostile.zip_bomb("info.txt", log_bin=b"x")
        for size in (0, 1, 60 << 20, 0xFFFFFFFE):
            yield f"claims to unpack to {size}", ".gt3x", hostile.lying_sizes(sound, size)
        for rate in ("1e300", "-100", "nan", "0", "1e-300", "9" * 5000):
            yield (
                f"rate {rate[:9]}",
                ".gt3x",
                make.gt3x(make.gt3x_log(make.counts(1000)), **{"Sample Rate": rate}),
            )
        for name in ("../../../log.bin", "/log.bin", "log.bin\0x"):
            yield f"member {name!r}", ".gt3x", make.zipped({name: b"\x1e" * 99, "info.txt": info})
        yield "20 000 members", ".gt3x", make.zipped({f"{at}/log.bin": b"" for at in range(20_000)})
    elif format == "Empatica":
        e4 = make.e4_csv(hostile.still(1500) // 64)
        yield "bomb", ".zip", hostile.zip_bomb("ACC.csv")
        for size in (0, 1, 60 << 20, 0xFFFFFFFE):
            yield (
                f"claims to unpack to {size}",
                ".zip",
                hostile.lying_sizes(make.zipped({"ACC.csv": e4}, 8), size),
            )
        yield "small bomb", ".zip", make.zipped({"ACC.csv": e4[:80] + b"1,2,3\n" * 10_000_000}, 8)
        yield "small bomb of one line", ".zip", make.zipped({"ACC.csv": e4[:80] + b"1" * 60_000_000}, 8)
        for name in ("../../../ACC.csv", "/ACC.csv"):
            yield f"member {name!r}", ".zip", make.zipped({name: e4})
    elif format == "EmbracePlus":
        sound = make.avro([make.avro_session(make.counts(500))], codec="deflate")
        at = sound.rfind(b"s" * 16, 0, len(sound) - 16) + 16
        body = hostile.packed_zeros(2000)[2:-4]
        yield "bomb in a block", ".avro", sound[:at] + _zigzag(1) + _zigzag(len(body)) + body + b"s" * 16
        for count in (10**9, 2**62, -5):
            yield f"{count} records", ".avro", sound[:at] + _zigzag(count) + _zigzag(9) + bytes(9) + b"s" * 16
        zeros = _zigzag(2**40) * 400
        yield "arrays of 2^40", ".avro", sound[:at] + _zigzag(1) + _zigzag(len(zeros)) + zeros + b"s" * 16
        for name, schema in (
            ("deep", '{"type":"array","items":' * 50_000),
            ("number", "17"),
            ("itself", '{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}'),
        ):
            meta = (
                _zigzag(1)
                + _zigzag(11)
                + b"avro.schema"
                + _zigzag(len(schema))
                + schema.encode()
                + _zigzag(0)
            )
            yield f"schema: {name}", ".avro", b"Obj\x01" + meta + b"s" * 16
    elif format == "Axivity":
        xyz = make.counts(1200)
        for stamps in ([0.0] * 10, [1e9] * 5 + [2e9] * 5, list(range(10, 0, -1))):
            sectors = [
                make.cwa_sector(xyz[:120], stamp + make.START - make.START % 1)
                for stamp in map(float, stamps[:1])
            ]
            yield f"stamps from {stamps[0]:g}", ".cwa", make.cwa_header() + b"".join(sectors * 10)
        for code in (0, 0x0F, 0xFF, 0x80):
            yield (
                f"rate code {code}",
                ".cwa",
                make.cwa_header() + make.cwa_sector(xyz[:120], make.START, rate_code=code) * 20,
            )
    elif format == "GENEActiv":
        sound = make.geneactiv(make.counts(1200))
        for old, new in (
            (b"x gain:25875", b"x gain:0"),
            (b"x gain:25875", b"x gain:1e-300"),
            (b"Frequency:100.0 Hz", b"Frequency:1e300 Hz"),
            (b"Frequency:100.0 Hz", b"Frequency:nan Hz"),
            (b"GMT +01:00", b"GMT +99:99"),
            (b"Page Time:2024", b"Page Time:0000"),
            (b"Page Time:2024", b"Page Time:9999"),
        ):
            yield f"{new.decode()}", ".bin", sound.replace(old, new)


def _zigzag(value: int) -> bytes:
    number, out = (value << 1) ^ (value >> 63), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# What is done with a case


class Outcome(NamedTuple):
    """What became of one command on one case, how long it took and how much memory (bytes) at its peak."""

    command: str
    outcome: str
    line: str
    seconds: float
    grown: int = 0


def commands(format: str, path: Path, number: int, sound: Path) -> dict[str, list[str] | Callable[[], None]]:
    """Return what is done with a case, by name: arguments of the command line, or a function."""
    file, folder = str(path), path.parent
    found: dict[str, list[str] | Callable[[], None]]
    if format == "settings":
        return {"detect --settings": ["detect", str(sound), "--settings", file]}
    if format == "diary":
        return {"study": ["study", str(sound.parent.with_name("study")), "--diary", file]}
    if format.startswith("events"):
        return {
            "score": ["score", file, str(sound)],
            "score, as truth": ["score", str(sound), file],
        }
    found = {
        "open": lambda: look(path),
        "info": ["info", file, "--json"],
        "detect": ["detect", file, "--format", "csv"],
        "convert": ["convert", file, str(folder / "converted.h5")],
    }
    if format != "HDF5 night":
        if number % 10 == 0:
            found["report"] = ["report", file, "-o", str(folder / "page.html")]
        return found
    found["repair"] = ["repair", file, "-o", str(folder / "repaired.h5")]
    if number % 5 == 0 or number < 200:
        found["report"] = ["report", file, "-o", str(folder / "page.html")]
        found["report --stored"] = ["report", file, "--stored", "-o", str(folder / "stored.html")]
        found["info, for people"] = ["info", file]
        found["score"] = ["score", file, file]
        found["detect --write-events"] = ["detect", file, "--format", "csv", "--write-events"]
    return found


def look(path: Path) -> None:
    """Take everything from a recording that the library offers."""
    import hypnic
    from hypnic.readers import BaseRecording

    with hypnic.open(path) as recording:
        assert isinstance(recording, BaseRecording)
        expected = 0
        for chunk in recording:
            if chunk.index - chunk.missing != expected:
                raise AssertionError(f"sample {expected} expected, {chunk.index} came after {chunk.missing}")
            expected = chunk.index + len(chunk)
        if expected != recording.n_total:
            raise AssertionError(f"{expected} samples of {recording.n_total} came out")
        repr(recording), recording._repr_html_(), recording.effective_rate
        getattr(recording, "attrs", None)
        len(recording.clock), len(recording.annotations), recording.events()


def run(command: list[str] | Callable[[], None]) -> tuple[str, str, str]:
    """Run a command as the command line would, and return its outcome, the telling line, and what it printed."""
    from hypnic.cli import app
    from hypnic.errors import HypnicError

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if callable(command):
                command()
                status = 0
            else:
                status = app(command, standalone_mode=False) or 0
        except HypnicError as error:
            from hypnic.cli.shared import complain

            complain(error)
            line = err.getvalue().strip().splitlines()[-1]
            return "refused", line, out.getvalue() + err.getvalue()
        except MemoryError:
            return "memory", "MemoryError", ""
        except OSError as error:
            # The command line says these in one line as well; but a damaged file is no error of the system.
            return "system error", f"{type(error).__name__}: {error}", ""
        except Exception as error:
            import traceback

            place = traceback.extract_tb(error.__traceback__)
            inner = next((at for at in reversed(place) if "hypnic/" in at.filename), place[-1])
            where = f"{Path(inner.filename).name}:{inner.lineno}"
            return "traceback", f"{type(error).__name__}: {error} ({where})", ""
    said = err.getvalue().strip()
    if status:
        return (
            ("partly" if out.getvalue() else "refused"),
            said.splitlines()[-1] if said else "nothing said",
            out.getvalue() + said,
        )
    return "result", "", out.getvalue() + said


def judged(outcome: str, line: str, printed: str) -> tuple[str, str]:
    """Return the outcome, or what is wrong with how it was said."""
    if outcome not in GOOD:
        return outcome, line
    if control := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed):
        return "control characters", f"{control[0]!r} in {printed[max(0, control.start() - 30) :][:80]!r}"
    if len(line) > LONGEST_LINE:
        return "long line", f"{len(line)} characters: {line[:80]}"
    if outcome == "refused" and line == "nothing said":
        return "silent", line
    return outcome, line


def peak() -> int:
    """Return the most memory (bytes) that this process has held since `forget_peak`."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def serve(connection: Connection, seed: int, folder: Path) -> None:
    """Be a process that takes one case after the other."""
    import resource

    import hypnic.cli  # noqa: F401  # before memory is limited, not in the first case
    from hypnic.warmup import warm_up

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # As on the command line, where a warning is no error.
    warnings.simplefilter("ignore")
    warm_up()
    cases = Cases(seed, folder / "sound")
    connection.send(None)
    while True:
        try:
            format, number = connection.recv()
        except EOFError:
            return
        for outcome in attempt(cases, format, number, folder):
            connection.send(outcome)
        connection.send(None)


def attempt(cases: Cases, format: str, number: int, folder: Path) -> Iterator[Outcome]:
    """Yield what becomes of each command on a case, preceded by its name (for the one that does not end)."""
    case = cases.case(format, number)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        shutil.copytree(folder / "secrets", place, dirs_exist_ok=True)
        path = place / f"case{case.suffix}"
        case.make(path)
        before, content = listing(place), path.read_bytes()
        for command, asked in commands(format, path, number, folder / "sound" / "packed.h5").items():
            yield Outcome(command, "", "", 0.0)
            base = forget_peak()
            start = time.perf_counter()
            outcome, line = judged(*run(asked))
            seconds = time.perf_counter() - start
            grown = peak() - base
            if outcome in GOOD and grown > MEMORY_LIMIT:
                outcome, line = "memory", f"grew by {grown >> 20} MiB: {line}"
            if outcome == "result" and case.refuse and command in ("open", "detect", "info"):
                outcome, line = "not refused", ""
            changed = [name for name, digest in listing(place).items() if before.get(name, digest) != digest]
            if [name for name in changed if name != path.name or command != "detect --write-events"]:
                outcome, line = "written elsewhere", ", ".join(changed)
            path.write_bytes(content)
            for made in ("converted.h5", "repaired.h5"):
                (place / made).unlink(missing_ok=True)
            yield Outcome(command, outcome, line.replace(name, "…"), seconds, grown)


def listing(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha1(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()
    }


# The campaign


class Server:
    """The other end of a process that takes cases."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._facts = seed, folder
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, *self._facts), daemon=True)
        self._process.start()
        there.close()
        self._connection.recv()

    def do(self, format: str, number: int) -> list[Outcome]:
        """Return what became of each command; what hangs is tried once more, for the machine may have been halted."""
        done = self._once(format, number)
        return self._once(format, number) if done[-1].outcome == "hang" else done

    def _once(self, format: str, number: int) -> list[Outcome]:
        done: list[Outcome] = []
        under_way = Outcome("making the case", "", "", 0.0)
        limit = time.monotonic() + TIME_LIMIT_S
        how = "hang"
        try:
            self._connection.send((format, number))
            while self._connection.poll(max(0.0, limit - time.monotonic())):
                outcome = self._connection.recv()
                if outcome is None:
                    return done
                if not outcome.outcome:
                    under_way = outcome
                    continue
                done.append(outcome)
        except (EOFError, OSError):
            self._process.join(5)
            how = f"crash ({self._process.exitcode})"
        self._process.kill()
        self._process.join()
        self._start()
        return [*done, under_way._replace(outcome=how.split(" (")[0], line=how, seconds=TIME_LIMIT_S)]

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()


def campaign(options: argparse.Namespace, folder: Path) -> dict[str, list[tuple[int, Case, list[Outcome]]]]:
    cases = Cases(options.seed, folder / "sound")
    tasks = []
    for format in options.only or FORMATS:
        cases.sound(format)
        wanted = options.nights if format == "HDF5 night" else options.others
        tasks += [(format, number) for number in range(max(wanted, len(cases.traps(format))))]
    done: dict[str, list[tuple[int, Case, list[Outcome]]]] = defaultdict(list)
    lock, start = threading.Lock(), time.monotonic()
    left = iter(tasks)

    def work() -> None:
        server = Server(options.seed, folder)
        while True:
            with lock:
                task = next(left, None)
            if task is None:
                break
            outcomes = server.do(*task)
            with lock:
                done[task[0]].append((task[1], cases.case(*task), outcomes))
                for at in outcomes:
                    if at.outcome not in GOOD:
                        case = done[task[0]][-1][1]
                        print(
                            f"{task[0]}:{task[1]} [{case.name}] {at.command}: {at.outcome}: {at.line[:300]}",
                            file=sys.stderr,
                            flush=True,
                        )
        server.end()

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(tasks)} cases in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return done


def page(
    done: dict[str, list[tuple[int, Case, list[Outcome]]]], options: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """Return the figures as Markdown and as what goes into JSON."""
    figures: dict[str, Any] = {}
    for format, cases in done.items():
        counts = Counter(at.outcome for _, _, outcomes in cases for at in outcomes)
        figures[format] = {
            "cases": len(cases),
            "traps": sum(case.kind == "trap" for _, case, _ in cases),
            "commands": sum(counts.values()),
            "outcomes": dict(sorted(counts.items())),
            "slowest_s": round(max(at.seconds for _, _, outcomes in cases for at in outcomes), 2),
            "most_memory_mib": max(at.grown for _, _, outcomes in cases for at in outcomes) >> 20,
            "failures": [
                {"case": f"{format}:{number}", "name": case.name, **at._asdict()}
                for number, case, outcomes in sorted(cases, key=lambda entry: entry[0])
                for at in outcomes
                if at.outcome not in GOOD
            ],
        }
    titles = (
        "files",
        "cases",
        "of them traps",
        "commands run",
        "a result",
        "a result and a line on the damage",
        "refused in a line",
        "anything else",
        "slowest (s)",
        "most memory (MiB)",
    )
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for format, at in figures.items():
        counts = at["outcomes"]
        wrong = {name: count for name, count in counts.items() if name not in GOOD}
        told = ", ".join(f"{count} {name}" for name, count in wrong.items()) or "0"
        cells = (
            *(format, at["cases"], at["traps"], at["commands"]),
            *(counts.get(name, 0) for name in ("result", "partly", "refused")),
            *(told, at["slowest_s"], at["most_memory_mib"]),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n", {"seed": options.seed, "formats": figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=2000, help="HDF5 nights")
    parser.add_argument("--others", type=int, default=500, help="files of each other format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", nargs="+", choices=FORMATS, help="these formats alone; nothing is written")
    parser.add_argument("--case", help="make this case alone, such as 'HDF5 night:17'")
    parser.add_argument("--write", type=Path, help="where to write it, in place of running it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hypnic-hostile-") as name:
        folder = Path(name)
        prepare(folder)
        if options.case:
            format, _, number = options.case.rpartition(":")
            if options.write:
                shutil.copytree(folder / "secrets", options.write.parent, dirs_exist_ok=True)
                Cases(options.seed, folder / "sound").case(format, int(number)).make(options.write)
                return
            for at in attempt(Cases(options.seed, folder / "sound"), format, int(number), folder):
                print(*at)
            return
        done = campaign(options, folder)
    text, figures = page(done, options)
    print(text)
    if not options.only:
        here = Path(__file__).parent
        head = f"# Hostile files\n\n`python benchmarks/hostile_files.py --seed {options.seed}`\n\n"
        (here / "HOSTILE.md").write_text(head + text)
        (here / "hostile.json").write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(any(at["failures"] for at in figures["formats"].values()))


def prepare(folder: Path) -> None:
    """Make the sound nights, and the files that nothing may be read from."""
    import h5py

    from tests import hostile

    for name in ("sound", "secrets", "study"):
        (folder / name).mkdir()
    hostile.night(folder / "study" / "night3.h5")
    for name, write in hostile.sound_nights().items():
        write(folder / "sound" / f"{name}.h5")
    secret = hostile.night(folder / "secrets" / "secret.h5", compress=False)
    with h5py.File(secret) as file:
        (folder / "secrets" / "secret.raw").write_bytes(file["acceleration"][:].tobytes())


if __name__ == "__main__":
    main()
