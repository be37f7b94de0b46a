"""The bench: what is measured is there and can be, and a comparison says what differs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hypnic
import hypnic.bench as room
from hypnic.bench import Comparison, Figure, Report, bench, compare, load
from hypnic.errors import DataError, UsageError
from hypnic.scoring import score_files
from hypnic.simulate import Sleeper, write


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("night") / "night.h5"
    write(path, Sleeper("wrist", 0.3, 50.0, 5, faults=False, jerks=4))
    return path


@pytest.fixture(scope="module")
def report(night: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        # Here it matters that it is measured, not how well.
        patch.setattr(room, "LEAST_S", 0.01)
        return bench([night])


def cli(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hypnic", "bench", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


def test_quality_is_that_of_the_score(report: Report, night: Path, tmp_path: Path) -> None:
    with hypnic.open(night) as recording:
        hypnic.detect(recording).write(tmp_path / "found.csv")
    expected = score_files(tmp_path / "found.csv", night)
    found = by_name(report.figures)
    for name in ("precision", "recall", "f1"):
        assert found[name].value == pytest.approx(expected.figures[f"{name}@0.5"], nan_ok=True)
        assert found[name].runs == 0
    assert found["true jerks"].value == 4
    assert found["false alarms"].value == pytest.approx(expected.figures["false_alarms_per_hour"])
    assert found["onset error, size"].value == pytest.approx(expected.onset_error()["median"], abs=1e-3)


def test_what_is_timed(report: Report) -> None:
    found = by_name(report.figures)
    for name, figure in found.items():
        if figure.runs:
            assert figure.runs >= 5, name
            assert None not in (figure.low, figure.value, figure.high)
            assert 0 < figure.low <= figure.value <= figure.high  # type: ignore[operator]
    # Both say the same: 50 samples a second.
    whole, speed = found["file to events"].value, found["file to events, speed"].value
    assert whole is not None
    assert speed == pytest.approx(1e9 / 50 / whole, rel=1e-6)
    assert found["memory, peak"].value >= found["memory at first push"].value > 30  # type: ignore[operator]
    assert report.machine["numba"] != "none"
    assert len(report.machine["load"]) == 2


def test_a_recording_without_annotations_tells_speed(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "bare.h5"
    write(path, Sleeper("wrist", 0.1, 50.0, 6, faults=False))
    with h5py.File(path, "r+") as file:
        del file["annotations"]
    scores, recordings, notes = room._scores([path])
    assert (scores, room._quality(scores)) == ([], [])
    assert recordings[0]["rate"] == 50.0
    assert "no annotations" in notes[0]


def test_json_and_back(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report.to_json())
    assert load(path) == report
    for text in ("", "{}", '{"format": "another"}', '{"format": "hypnic bench 1", "figures": [1]}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"report\.json"):
            load(path)


def changed(report: Report, name: str, **values: float) -> Report:
    figures = [dataclasses.replace(f, **values) if f.name == name else f for f in report.figures]
    return dataclasses.replace(report, figures=figures)


def verdict(here: Report, there: Report, name: str) -> Comparison:
    return next(row for row in compare(here, there)[0] if row.here.name == name)


def test_comparison(report: Report) -> None:
    rows, differences = compare(report, report)
    assert {row.verdict for row in rows} == {"same", "within"}
    assert {row.ratio for row in rows} <= {1.0, None}
    assert differences == []
    slow = changed(report, "reading", value=1e6, low=9e5, high=1.1e6)
    found = verdict(slow, report, "reading")
    assert found.verdict == "outside"
    assert found.ratio == pytest.approx(1e6 / found.there.value)  # type: ignore[operator]
    # Apart, but by less than the machine's own moods.
    near = found.there
    assert near.high is not None
    hair = changed(
        report, "reading", value=near.value * 1.001, low=near.high * 1.0005, high=near.high * 1.002
    )  # type: ignore[operator]
    assert verdict(hair, report, "reading").verdict == "within"
    wide = changed(report, "reading", value=1e6, low=0.0, high=1.1e6)
    assert verdict(wide, report, "reading").verdict == "within"
    assert verdict(changed(report, "f1", value=0.1), report, "f1").verdict == "changed"


def test_other_machines_and_recordings_are_said(report: Report) -> None:
    other = dataclasses.replace(
        report,
        recordings=[{**report.recordings[0], "sha256": "0" * 64, "name": "other.h5"}],
        machine={**report.machine, "numba": "0.1"},
    )
    assert verdict(other, report, "f1").verdict == "other data"
    differences = "\n".join(compare(other, report)[1])
    assert "other.h5 here, night.h5 there" in differences
    assert "numba: 0.1 here" in differences


def test_the_command(report: Report, night: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(report.to_json())
    done = cli(night, "--json", second, "--against", first)
    assert done.returncode == 0, done.stderr
    for word in ("precision", "ns/sample", "x real time", "night.h5", "memory, peak", "load"):
        assert word in done.stdout
    line = next(line for line in done.stdout.splitlines() if "f1" in line)
    assert "same" in line
    assert "differs:" not in done.stdout
    assert [figure.name for figure in load(second).figures] == [figure.name for figure in report.figures]


def test_refusals(night: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 5"):
        bench([night], runs=1)
    (tmp_path / "not.json").write_text("no")
    for words, status, said in (
        ((night, "--runs", 2), 2, "at least 5"),
        ((tmp_path / "none.h5",), 1, "none.h5"),
        ((night, "--against", tmp_path / "not.json"), 1, "not.json"),
        ((night, "--against", tmp_path / "none.json"), 1, "none.json"),
    ):
        done = cli(*words)
        assert done.returncode == status, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr


def test_without_sample_recordings_a_night_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found where it looks for them, and made where they are not: as installed without the repository."""
    monkeypatch.setattr(room, "SIMULATED", {**room.SIMULATED, "hours": 0.1, "jerks": 1})
    monkeypatch.setattr(hypnic, "__file__", str(tmp_path / "hypnic" / "__init__.py"))
    with room._recordings((), lambda text: None) as (files, source):
        assert [path.is_file() for path in files] == [True]
        assert "simulated for this run" in source
        scores, recordings, _ = room._scores(files)
        assert recordings[0]["samples"] == 36000
        assert scores[0].at(0.5).tp + scores[0].at(0.5).fn == 1
