"""The command as a user meets it: output, files, exit status, and one line for every refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest

from hypnic.events import COLUMNS, LABELS

DATA = Path(__file__).parents[1] / "data"
NIGHT = DATA / "wrist_onset.h5"


def hypnic(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hypnic", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "150"},
    )


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == status, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("hypnic: ")
    for word in words:
        assert word in lines[0]


def noise(seconds: float, rate: float = 100.0) -> np.ndarray:
    xyz = np.random.default_rng(1).normal(0.0, 0.002, (int(seconds * rate), 3))
    xyz[:, 2] += 1.0
    return xyz.astype(np.float32)


def write(path: Path, xyz: np.ndarray, **attrs: object) -> Path:
    with h5py.File(path, "w") as file:
        file["acc"] = xyz
        file["acc"].attrs.update(attrs)
    return path


def test_version_and_help() -> None:
    assert hypnic("--version").stdout.startswith("hypnic ")
    commands = (
        "detect",
        "info",
        "simulate",
        "score",
        "explain",
        "rest",
        "report",
        "export",
        "study",
        "bench",
        "warmup",
    )
    for command in commands:
        assert command in hypnic("--help").stdout
        assert "--help" in hypnic(command, "--help").stdout


def test_light_start() -> None:
    code = (
        "import hypnic.cli, sys; print([m for m in ('numba', 'scipy', 'h5py', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_csv_into_a_pipe() -> None:
    done = hypnic("detect", NIGHT)
    assert done.returncode == 0
    assert done.stderr == ""
    header, *rows = done.stdout.splitlines()
    assert header.split(",") == [column.name for column in COLUMNS]
    assert rows
    ids = [int(row.split(",")[-2]) for row in rows]
    assert len(ids) == len(set(ids))
    assert {row.split(",")[2] for row in rows} <= set(LABELS)


def test_table() -> None:
    done = hypnic("detect", NIGHT, "--format", "table")
    assert "hypnic_jerk" in done.stdout
    assert "candidates" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("fmt", ["csv", "tsv", "json", "jsonl"])
def test_files_agree_with_the_pipe(tmp_path: Path, fmt: str) -> None:
    out = tmp_path / f"events.{fmt}"
    assert hypnic("detect", NIGHT, "-o", out).returncode == 0
    assert out.read_text() == hypnic("detect", NIGHT, "--format", fmt).stdout


def test_labels() -> None:
    rows = hypnic("detect", NIGHT, "--labels", "hypnic_jerk").stdout.splitlines()[1:]
    assert rows
    assert all(row.split(",")[2] == "hypnic_jerk" for row in rows)
    refused(hypnic("detect", NIGHT, "--labels", "twitch"), 2, "twitch", "hypnic_jerk")


def test_several_files_and_a_damaged_one(tmp_path: Path) -> None:
    bad = tmp_path / "bad.h5"
    bad.write_bytes(NIGHT.read_bytes()[:5000])
    out = tmp_path / "out"
    done = hypnic("detect", NIGHT, bad, DATA / "mattress_onset.h5", "-o", out)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "bad.h5" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["mattress_onset.csv", "wrist_onset.csv"]
    refused(hypnic("detect", NIGHT, NIGHT, "--format", "csv"), 2, "-o")


def test_files_of_one_name_get_results_of_their_own(tmp_path: Path) -> None:
    for folder, source in (("a", NIGHT), ("b", DATA / "mattress_onset.h5")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "night.h5").write_bytes(source.read_bytes())
    out = tmp_path / "out"
    done = hypnic("detect", tmp_path / "a" / "night.h5", tmp_path / "b" / "night.h5", "-o", out)
    assert done.returncode == 0, done.stderr
    assert (out / "a" / "night.csv").read_bytes() != (out / "b" / "night.csv").read_bytes()


def test_write_events(tmp_path: Path) -> None:
    night = tmp_path / "night.h5"
    night.write_bytes(NIGHT.read_bytes())
    assert hypnic("detect", night, "--write-events").returncode == 0
    with h5py.File(night) as file:
        assert list(file["events"].dtype.names) == [column.name for column in COLUMNS]
        assert len(file["events"]) > 0
    text = tmp_path / "ACC.csv"
    text.write_text("0,0,0\n32,32,32\n" + "0,0,64\n" * 1000)
    refused(hypnic("detect", text, "--write-events"), 1, "-o")


def test_options_of_foreign_files(tmp_path: Path) -> None:
    path = write(tmp_path / "foreign.h5", (noise(60) * 1000).astype(np.int16))
    done = hypnic(
        "detect",
        path,
        "--rate",
        100,
        "--units",
        "mg",
        "--scale",
        1,
        "--site",
        "mattress",
        "--dataset",
        "acc",
        "--format",
        "json",
    )
    assert done.returncode == 0, done.stderr
    meta = json.loads(done.stdout)["meta"]
    assert (meta["rate"], meta["site"], meta["counts"]["received"]) == (100.0, "mattress", 6000)


def test_settings(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf.toml"
    deaf.write_text("floor_g = 1.0\n")
    assert len(hypnic("detect", NIGHT, "--settings", deaf).stdout.splitlines()) == 1
    deaf.write_text("flor_g = 1.0\n")
    refused(hypnic("detect", NIGHT, "--settings", deaf), 2, "flor_g")
    refused(hypnic("detect", NIGHT, "--settings", tmp_path / "none.toml"), 2, "none.toml")


def test_info() -> None:
    done = hypnic("info", NIGHT)
    assert done.returncode == 0
    for word in ("100 Hz", "wrist", "rest", "noise", "gaps"):
        assert word in done.stdout
    facts = json.loads(hypnic("info", NIGHT, "--json").stdout)
    assert facts["rate"] == 100.0
    total = sum(bout["duration"] for bout in facts["rest"])
    assert total == pytest.approx(facts["duration"], abs=1.0)


def test_a_rate_in_place_of_the_files_own_is_told() -> None:
    done = hypnic("detect", NIGHT, "--rate", 90, "--format", "table")
    assert done.returncode == 0
    assert done.stderr.count("note: the rate is 90 Hz, as given; the file itself says 100 Hz") == 1
    assert hypnic("detect", NIGHT, "--rate", 100, "--format", "table").stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detect", NIGHT, "--nonsense"], "No such option: --nonsense"),
        (["detect"], "Missing argument"),
        (["nope"], "No such command 'nope'"),
        (["detect", NIGHT, "--site", "foot"], "--site"),
    ],
)
def test_wrong_words_are_one_line_as_any_other_error(words: list[object], said: str) -> None:
    done = hypnic(*words)
    refused(done, 2, said, "--help lists what there is")


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    path = write(tmp_path / "n.h5", noise(60), sampling_rate=100.0, sensor="\x1b[2JMPU\x07\x9b5m\u202e")
    with h5py.File(path, "r+") as file:
        gaps = np.array([(100, 5, b"\x1b]0;x\x07")], [("sample", "i8"), ("missing", "i8"), ("reason", "S64")])
        file["gaps"] = gaps
    for words in (("info", path), ("convert", path, tmp_path / "o.h5", "--dataset", "acc")):
        done = hypnic(*words)
        assert done.returncode == 0, done.stderr
        assert "?[2JMPU??5m?" in done.stdout
        assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines())
    refused(hypnic("info", tmp_path / "\x1b[2J.h5"), 1, "?[2J.h5")


def test_simulate(tmp_path: Path) -> None:
    words = ("simulate", "--hours", 0.2, "--rate", 50, "--site", "mattress", "--seed", 3, "--jerks", 3)
    assert hypnic(*words, tmp_path / "a.h5").returncode == 0
    assert hypnic(*words, tmp_path / "b.h5").returncode == 0
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert a["acceleration"].attrs["sampling_rate"] == 50.0
        assert np.array_equal(a["acceleration"][:], b["acceleration"][:])
        labels = [label.decode() for label in a["annotations"]["label"]]
        assert sum(label in ("hypnic_jerk", "isolated_jerk") for label in labels) == 3
    refused(hypnic(*words, tmp_path / "a.h5"), 1, "a.h5")


def test_a_reference(tmp_path: Path) -> None:
    night, beside = tmp_path / "night.h5", tmp_path / "night.reference.h5"
    words = ("simulate", night, "--hours", 0.5, "--rate", 50, "--site", "mattress", "--seed", 10)
    assert hypnic(*words).returncode == 0
    with h5py.File(night) as file:
        alone = file["acceleration"][:]
    done = hypnic(*words, "--reference", "partner", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "night.reference.h5" in done.stdout
    with h5py.File(night) as file, h5py.File(beside) as other:
        assert np.array_equal(file["acceleration"][:], alone)
        assert file["acceleration"].shape == other["acceleration"].shape
        assert "reference" in other.attrs["notes"]
    done = hypnic("detect", night, "--reference", beside, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["meta"]["reference"] == "bed"
    assert done.stderr == ""
    page = tmp_path / "page.html"
    done = hypnic("report", night, "--reference", beside, "-o", page)
    assert done.returncode == 0, done.stderr
    assert "compared with one on the bed" in page.read_text(encoding="utf-8")
    refused(hypnic("report", night, "--reference-place", "bed", "-o", page), 2, "--reference-place")
    with h5py.File(beside, "r+") as other:
        began = datetime.fromisoformat(other["acceleration"].attrs["start_time"])
        other["acceleration"].attrs["start_time"] = (began + timedelta(minutes=10)).isoformat()
    done = hypnic("detect", night, "--reference", beside, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert "began 600.0 s after the recording: it is beside 20.0 of 30.0 min" in done.stderr
    night.unlink()
    refused(hypnic(*words, "--reference", "partner"), 1, "night.reference.h5", "exists")
    assert not night.exists()
    refused(hypnic(*words, "--reference", "limb", "--overwrite"), 2, "limb", "wrist")
    refused(hypnic("detect", NIGHT, "--reference", beside), 2, "50 Hz", "100 Hz")
    refused(hypnic("detect", NIGHT, NIGHT, "--reference", beside), 2, "--reference", "one recording")
    refused(hypnic("detect", NIGHT, "--reference-place", "bed"), 2, "--reference-place")
    refused(hypnic("detect", NIGHT, "--reference", tmp_path / "none.h5"), 1, "none.h5")
    refused(
        hypnic("detect", beside, "--reference", NIGHT, "--reference-place", "limb", "--rate", 50), 2, "limb"
    )


def test_bad_input(tmp_path: Path) -> None:
    refused(hypnic("detect", tmp_path / "none.h5"), 1, "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("not a recording")
    refused(hypnic("detect", text), 1, "text.h5")
    wide = write(tmp_path / "wide.h5", np.zeros((100, 4), np.float32))
    refused(hypnic("detect", wide, "--rate", 100), 1, "3")
    bare = write(tmp_path / "bare.h5", noise(60))
    refused(hypnic("detect", bare, "--units", "g"), 1, "--rate")
    refused(hypnic("detect", bare, "--rate", 5), 2, "5 Hz", "25 Hz")
    short = write(tmp_path / "short.h5", noise(3))
    refused(hypnic("detect", short, "--rate", 100), 1, "3.0 s")
    lost = write(tmp_path / "lost.h5", np.full((6000, 3), np.nan, np.float32))
    assert hypnic("detect", lost, "--rate", 100, "--units", "g").returncode == 1
    back = tmp_path / "back.csv"
    rows = [f"{t / 100:.2f},0,0,1" for t in (*range(3000), *range(1000, 3000))]
    back.write_text("time,x,y,z\n" + "\n".join(rows))
    refused(hypnic("detect", back), 1, "back.csv")
    refused(hypnic("detect", NIGHT, "-o", text / "out.csv"), 1, "text.h5")
    assert hypnic("detect").returncode == 2
    assert hypnic("detect", bare, "--units", "furlong").returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    refused(hypnic("detect", NIGHT, "-o", closed / "out.csv"), 1, "out.csv")
    assert list(closed.iterdir()) == []


def test_half_written_output_does_not_stay(tmp_path: Path) -> None:
    target = tmp_path / "folder.csv"
    target.mkdir()
    refused(hypnic("detect", NIGHT, "-o", target), 1, "folder.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]
