"""Many nights: the same rows however they are spread, and nothing lost whatever is killed, hangs or is damaged."""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Thread

import h5py
import numpy as np
import pytest

import hypnic
from hypnic.batch import Result, Task, dask_executor, detect_nights, find_nights, night_names, run, worker
from hypnic.batch.manifest import NAME, Manifest
from hypnic.batch.night import Outcome, detect_night
from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, LABELS
from hypnic.quality import describe
from hypnic.simulate import Sleeper, write

DATA = Path(__file__).parents[1] / "data"
TABLES = ("events.csv", "nights.csv", "windows.csv")
COUNT = 6


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short simulated nights in two folders."""
    folder = tmp_path_factory.mktemp("study")
    for seed in range(COUNT):
        path = folder / ("a" if seed % 2 else "b") / f"night{seed}.h5"
        path.parent.mkdir(exist_ok=True)
        write(path, Sleeper("wrist", 0.1, 50.0, seed + 1, faults=True, jerks=1))
    return folder


@pytest.fixture(scope="module")
def alone(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes out one by one."""
    folder = tmp_path_factory.mktemp("alone")
    result = detect_nights(find_nights([study]), folder)
    assert (result.done, result.failed) == (COUNT, {})
    return folder


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A night of three months at the highest rate, of which no process that has a minute comes to the end."""
    path = tmp_path / "study" / "hangs.h5"
    path.parent.mkdir()
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Not even zeros are written: the file is one hole.
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((8_000_000_000, 3))
        data = h5py.Dataset(h5py.h5d.create(file.id, b"samples", h5py.h5t.STD_I16LE, space, plan))
        data.attrs["rate"], data.attrs["scale"] = 1000.0, 0.001
    return path


def heed() -> None:
    """Let Ctrl-C do what it does: what is started in a shell's background, the tests too, ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in TABLES)


def cli(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hypnic", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "150"},
    )


# Finding and naming


def test_finding(tmp_path: Path) -> None:
    for name in ("b.h5", "a/c.h5", "a/.hidden.h5", ".git/d.h5", "out/events.csv", "a/e.csv", "notes.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x,y,z\n")
    (tmp_path / "a" / "f_events.tsv").write_text("onset\tduration\ttrial_type\n")
    (tmp_path / "results.csv").write_text("night,onset,duration\n")
    found = find_nights([tmp_path], leave_out=tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/c.h5", "a/e.csv", "b.h5"]
    again = find_nights([tmp_path / "b.h5", tmp_path / "*" / "*.h5", tmp_path / "a" / ".." / "b.h5"])
    assert [path.name for path in again] == ["b.h5", "c.h5"]
    with pytest.raises(DataError, match="no file fits"):
        find_nights([tmp_path / "*.cwa"])
    with pytest.raises(DataError, match="no recording"):
        find_nights([tmp_path / "out"], leave_out=tmp_path / "out")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/s/a/n.h5", "/s/b/n.h5"], ["a/n", "b/n"]),
        (["/s/n.h5", "/s/n.csv"], ["n.h5", "n.csv"]),
        (["/s/n.h5", "/s/N.csv"], ["n.h5", "N.csv"]),
        (["/s/n.h5"], ["n"]),
        (["/s/n.2024.h5", "/s/n.2025.h5"], ["n.2024", "n.2025"]),
        ([], []),
    ],
)
def test_names(paths: list[str], names: list[str]) -> None:
    assert night_names([Path(path) for path in paths]) == names


# The same rows, however they are spread


def test_two_at_a_time_give_the_same_bytes(study: Path, alone: Path, tmp_path: Path) -> None:
    done = cli("detect", study, "-o", tmp_path, "--jobs", 2, "--each")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == COUNT + 1
    assert same(tmp_path, alone)
    names = [row["night"] for row in rows(tmp_path / "nights.csv")]
    assert names == ["a/night1", "a/night3", "a/night5", "b/night0", "b/night2", "b/night4"]
    events = (tmp_path / "events.csv").read_text().splitlines()[1:]
    for name in names:
        each = (tmp_path / "each" / f"{name}.csv").read_text()
        with hypnic.open(study / f"{name}.h5") as night:
            assert each == hypnic.detect(night).to_text("csv")
        assert [line.removeprefix(f"{name},") for line in events if line.startswith(f"{name},")] == (
            each.splitlines()[1:]
        )


def test_tables(study: Path, alone: Path) -> None:
    nights = rows(alone / "nights.csv")
    assert [row["status"] for row in nights] == ["done"] * COUNT
    events, windows = rows(alone / "events.csv"), rows(alone / "windows.csv")
    assert list(events[0]) == ["night", *(column.name for column in COLUMNS)]
    for row in nights:
        mine = [event for event in events if event["night"] == row["night"]]
        counted = Counter(event["label"] for event in mine)
        assert {label: int(row[label]) for label in LABELS} == {label: counted[label] for label in LABELS}
        assert int(row["jerks"]) == counted["hypnic_jerk"] + counted["isolated_jerk"]
        assert int(row["windows"]) == sum(window["night"] == row["night"] for window in windows)
        with hypnic.open(row["path"]) as recording:
            facts = describe(recording)
        assert int(row["gaps"]) == facts["gaps"]["count"]
        assert float(row["gap_time"]) == pytest.approx(facts["gaps"]["seconds"], abs=5e-4)
        assert float(row["noise_y"]) == pytest.approx(facts["noise"][1], abs=5e-7)
        assert float(row["duration"]) == pytest.approx(facts["duration"] / 3600, abs=5e-5)
        assert float(row["valid"]) <= float(row["duration"])


def test_parquet_says_the_same(study: Path, alone: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    result = detect_nights(find_nights([study / "a"]), tmp_path, parquet=True, labels=["movement"])
    assert {path.suffix for path in result.tables} == {".csv", ".parquet"}
    for name in ("events", "nights", "windows"):
        table, lines = parquet.read_table(tmp_path / f"{name}.parquet"), rows(tmp_path / f"{name}.csv")
        assert table.column_names == list(lines[0])
        assert table["night"].to_pylist() == [line["night"] for line in lines]
    events = parquet.read_table(tmp_path / "events.parquet")
    assert set(events["label"].to_pylist()) == {"movement"}
    assert events["interval"].null_count == sum(
        line["interval"] == "nan" for line in rows(tmp_path / "events.csv")
    )
    assert events.schema.field("peak_g").metadata[b"unit"] == b"g"


def test_a_clock_that_is_off(tmp_path: Path) -> None:
    path = tmp_path / "night.h5"
    write(path, Sleeper("wrist", 0.1, 50.0, 3, faults=False))
    with h5py.File(path, "r+") as file:
        table = np.zeros(2, file["clock"].dtype if "clock" in file else hypnic_clock())
        table["sample"], table["utc"] = [0, 3000], [1e9, 1e9 + 3000 / 50.01]
        if "clock" in file:
            del file["clock"]
        file["clock"] = table
    outcome = detect_night(Task(str(path)))
    assert outcome.status == "done", outcome.reason
    assert outcome.facts["clock_error"] == pytest.approx(200.0, abs=0.5)


def hypnic_clock() -> np.dtype:
    from hypnic.readers.base import CLOCK_DTYPE

    return CLOCK_DTYPE


# What goes wrong with one night stays with it


def test_a_job_takes_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.h5"
    write(path, Sleeper("wrist", 0.75, 100.0, 1, faults=False))
    with hypnic.open(path) as night:
        expected = hypnic.detect(night)

    def ahead(blocks: object) -> None:
        raise AssertionError("a thread reads ahead")

    monkeypatch.setattr("hypnic.recording.night.ahead", ahead)
    outcome = detect_night(Task(str(path)))
    assert (outcome.status, outcome.reason) == ("done", "")
    assert outcome.events.array.tobytes() == expected.array.tobytes()
    with hypnic.open(path) as night, pytest.raises(AssertionError):
        hypnic.detect(night)


def test_bad_nights_stop_nothing(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(study / "a", folder)
    (folder / "cut.h5").write_bytes((folder / "night1.h5").read_bytes()[:3000])
    (folder / "empty.h5").touch()
    (folder / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    done = cli("detect", folder, folder / "gone.h5", "-o", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert {line.split(": ")[0] for line in done.stderr.splitlines()} == {"hypnic"}
    nights = {row["night"]: row for row in rows(tmp_path / "out" / "nights.csv")}
    assert {name: row["status"] for name, row in nights.items()} == {
        "cut": "unreadable",
        "empty": "unreadable",
        "gone": "unreadable",
        "night1": "done",
        "night3": "done",
        "night5": "done",
    }
    assert "empty" in nights["empty"]["reason"]
    # What failed because of its data is not tried again, unless that is asked for.
    assert (
        "0 done, 3 done before, 3 failed"
        in cli("detect", folder, folder / "gone.h5", "-o", tmp_path / "out").stdout
    )
    again = detect_nights([folder / "empty.h5"], tmp_path / "out", retry=True)
    assert (again.done, again.skipped, len(again.failed)) == (0, 0, 1)


def test_a_night_that_hangs_is_ended(study: Path, endless: Path, tmp_path: Path) -> None:
    nights = [endless, *find_nights([study / "a"])]
    result = detect_nights(nights, tmp_path / "out", jobs=2, timeout=4.0)
    assert result.done == 3
    ((name, (status, reason)),) = result.failed.items()
    assert name.endswith("hangs")
    assert status == "timeout"
    assert "4 s" in reason
    path = str(endless)
    with Manifest(tmp_path / "out") as manifest:
        assert not manifest.is_due(Task(path, timeout=4.0))
        assert manifest.is_due(Task(path, timeout=5.0))
        assert manifest.is_due(Task(path, timeout=0.0))
        assert manifest.is_due(Task(path, timeout=4.0), retry=True)


def test_killed_processes_lose_nothing(study: Path, alone: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(done: int, total: int, name: str, outcome: Outcome) -> None:
        if not killed:
            killed.extend(worker._pool.pids())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    result = detect_nights(find_nights([study]), tmp_path, jobs=2, progress=kill)
    assert killed
    assert (result.done, result.failed) == (COUNT, {})
    assert same(tmp_path, alone)


def test_a_night_that_kills_its_process_fails_alone(endless: Path, study: Path, tmp_path: Path) -> None:
    """As the system does where memory runs out: each process that takes this night is killed."""
    psutil = pytest.importorskip("psutil", reason="to see which process is at work")
    deaths: set[int] = set()
    result: list[Result] = []
    out, nights = tmp_path / "out", [endless, study / "a" / "night1.h5"]
    thread = Thread(target=lambda: result.append(detect_nights(nights, out, timeout=60)))
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        for pid in worker._pool.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                # The start takes a second of computing, the short night a tenth: this one is in the loop.
                if sum(psutil.Process(pid).cpu_times()[:2]) > 2.5:
                    os.kill(pid, signal.SIGKILL)
                    deaths.add(pid)
    assert len(deaths) == worker.ATTEMPTS
    assert result[0].done == 1
    ((_, (status, reason)),) = result[0].failed.items()
    assert status == "killed"
    assert "SIGKILL" in reason
    with Manifest(out) as manifest:
        assert manifest.is_due(Task(str(endless), timeout=60))


# Running it again


def test_only_what_is_missing_or_changed_is_done(study: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "study", tmp_path / "out"
    shutil.copytree(study / "a", folder)
    nights = find_nights([folder])
    done: list[str] = []

    def note(number: int, total: int, name: str, outcome: Outcome) -> None:
        done.append(name)

    def again(**options: object) -> Result:
        done.clear()
        return detect_nights(nights, out, progress=note, **options)  # type: ignore[arg-type]

    assert again().done == 3
    first = (out / "events.csv").read_bytes()
    assert again().skipped == 3
    assert done == []
    assert (out / "events.csv").read_bytes() == first
    shutil.copy(study / "b" / "night2.h5", folder / "night3.h5")
    assert again().skipped == 2
    assert done == ["night3"]
    assert (out / "events.csv").read_bytes() != first
    os.utime(folder / "night5.h5", ns=(0, 0))
    again()
    assert done == ["night5"]
    again(settings={"floor_g": 0.02})
    assert done == ["night1", "night3", "night5"]
    again(settings={"floor_g": 0.02}, options={"site": "mattress"})
    assert done == ["night1", "night3", "night5"]
    again(settings={"floor_g": 0.02}, options={"site": "mattress"}, anew=True)
    assert done == ["night1", "night3", "night5"]


def test_one_writer_at_a_time_and_only_into_its_own(tmp_path: Path) -> None:
    with Manifest(tmp_path), pytest.raises(DataError, match="another process"):
        Manifest(tmp_path)
    (tmp_path / NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="no manifest"):
        Manifest(tmp_path)


def test_interrupted_and_gone_on_with(study: Path, endless: Path, alone: Path, tmp_path: Path) -> None:
    """Ctrl-C while the last night hangs: what was done stays, and is not done again."""
    psutil = pytest.importorskip("psutil", reason="to look for processes left behind")
    out = tmp_path / "out"
    nights = [*find_nights([study]), endless]
    command = [sys.executable, "-m", "hypnic", "detect", *map(str, nights), "-o", str(out), "--jobs", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,  # noqa: PLW1509  # no threads here
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(COUNT):
            assert process.stdout.readline()
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().strip().splitlines()[-1] == "hypnic: interrupted"
        assert process.wait(60) == 130
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert len(rows(out / "nights.csv")) == COUNT
    result = detect_nights(nights[:-1], out)
    assert (result.done, result.skipped) == (0, COUNT)
    assert same(out, alone)


def test_killed_outright_leaves_a_sound_manifest_and_no_process(
    study: Path, endless: Path, tmp_path: Path
) -> None:
    psutil = pytest.importorskip("psutil", reason="to look for processes left behind")
    out = tmp_path / "out"
    nights = [*find_nights([study / "a"]), endless]
    command = [sys.executable, "-m", "hypnic", "detect", *map(str, nights), "-o", str(out), "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        children = psutil.Process(process.pid).children()
        assert children
        process.kill()
    assert psutil.wait_procs(children, timeout=20)[1] == []
    result = detect_nights(nights[:-1], out)
    assert (result.done, result.skipped) == (0, 3)


# Other executors


def test_a_process_pool_that_breaks_is_mended(study: Path) -> None:
    pools: list[ProcessPoolExecutor] = []

    def make() -> ProcessPoolExecutor:
        pools.append(ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")))
        return pools[-1]

    tasks = [Task(str(path)) for path in find_nights([study])]
    outcomes = []
    for _, outcome in run(tasks, make):
        if not outcomes:
            for pid in list(pools[0]._processes):
                os.kill(pid, signal.SIGKILL)
        outcomes.append(outcome)
    assert len(pools) > 1
    assert sorted(outcome.path for outcome in outcomes) == sorted(task.path for task in tasks)
    assert {outcome.status for outcome in outcomes} == {"done"}
    pools[-1].shutdown()


def test_a_broken_pool_that_cannot_be_made_anew_is_said(study: Path) -> None:
    tasks = [Task(str(path)) for path in find_nights([study])]
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        outcomes = []
        for _, outcome in run(tasks, pool, work=kill_my_process):
            outcomes.append(outcome)
    assert [outcome.status for outcome in outcomes] == ["killed"] * COUNT
    assert sorted(outcome.path for outcome in outcomes) == sorted(task.path for task in tasks)


def kill_my_process(task: Task) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_dask_cluster_that_loses_a_worker(study: Path, alone: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
    nights = find_nights([study])
    killed = []
    done: Counter[str] = Counter()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:

        def kill(number: int, total: int, name: str, outcome: Outcome) -> None:
            done[name] += 1
            if not killed:
                killed.append(cluster.workers[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        with dask_executor(cluster.scheduler_address) as executor:
            result = detect_nights(nights, tmp_path, executor=executor, progress=kill)
    assert killed
    assert (result.done, result.failed) == (COUNT, {})
    assert set(done.values()) == {1}
    assert same(tmp_path, alone)


def test_no_dask_there() -> None:
    pytest.importorskip("distributed", reason="needs dask.distributed")
    with pytest.raises(DataError, match="no Dask scheduler"), dask_executor("tcp://127.0.0.1:1", 0.5):
        raise AssertionError
    with pytest.raises(UsageError, match="nonsense"), dask_executor("nonsense://there"):
        raise AssertionError


# Words


def test_refusals(study: Path, tmp_path: Path) -> None:
    for words, status, *said in (
        ((study,), 2, "-o"),
        ((study, "-o", study / "a" / "night1.h5"), 2, "folder"),
        ((study, "-o", tmp_path, "--jobs", 2, "--dask", "tcp://localhost:1"), 2, "choose one"),
        ((study, "-o", tmp_path, "--write-events"), 2, "--write-events"),
        ((study, "-o", tmp_path, "--format", "tsv"), 2, "--each"),
        ((tmp_path, "-o", tmp_path / "out"), 1, "no recording"),
        ((study / "*.cwa", "-o", tmp_path), 1, "pattern"),
    ):
        done = cli("detect", *words)
        assert done.returncode == status, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        for word in said:
            assert word in done.stderr
    with pytest.raises(UsageError, match="flor_g"):
        detect_nights([study / "a" / "night1.h5"], tmp_path, settings={"flor_g": 1.0})
    with pytest.raises(UsageError, match="jobs"):
        detect_nights([study / "a" / "night1.h5"], tmp_path, jobs=-1)
    with pytest.raises(DataError, match="no recordings"):
        detect_nights([], tmp_path)


def test_another_version_is_refused(study: Path) -> None:
    outcome = detect_night(Task(str(study / "a" / "night1.h5"), version="0.0.1"))
    assert outcome.status == "killed"
    assert "0.0.1" in outcome.reason
