"""score, explain, rest and simulate --into as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import pytest

import hypnic
from hypnic.bouts import WINDOW_COLUMNS
from hypnic.chunk import Chunk
from hypnic.cli import main
from hypnic.recording import Recorder
from hypnic.scoring import report
from tests.signals import quiet

DATA = Path(__file__).parents[1] / "data"
WRIST, MATTRESS = DATA / "wrist_onset.h5", DATA / "mattress_onset.h5"


class Done(NamedTuple):
    status: int
    out: str
    err: str


Shell = Callable[..., Done]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run the command within this process, on a terminal of 80 columns unless said otherwise."""

    def run(*words: object, columns: int = 80) -> Done:
        monkeypatch.setattr(sys, "argv", ["hypnic", *map(str, words)])
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


def refused(done: Done, status: int, *words: str) -> None:
    lines = done.err.strip().splitlines()
    assert done.status == status, done
    assert len(lines) == 1, done.err
    assert lines[0].startswith("hypnic: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two sample nights, their events in them."""
    folder = tmp_path_factory.mktemp("nights")
    for path in (WRIST, MATTRESS):
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        with hypnic.Recording(copy) as night:
            night.write_events(hypnic.detect(night))
    return folder


def table(path: Path, *rows: str, head: str = "onset,duration,label") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


# score


def test_score_of_one_night_against_its_own_truth(shell: Shell, nights: Path):
    night = nights / WRIST.name
    done = shell("score", night, night)
    assert done.status == 0
    assert done.err == ""
    assert done.out.startswith("8 true and ")
    for words in (
        "precision",
        "false alarms per valid hour",
        "area under ROC",
        "true \\ found",
        "true peak (g)",
    ):
        assert words in done.out
    assert "(0." not in done.out  # one night has no intervals
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_and_markdown_are_those_of_the_report(shell: Shell, nights: Path, tmp_path: Path):
    night = nights / WRIST.name
    expected = {fmt: report([night], [night], fmt=fmt) for fmt in ("json", "markdown")}
    assert shell("score", night, night, "--json").out == expected["json"]
    assert shell("score", night, night, "--markdown").out == expected["markdown"]
    for ending, fmt in (("json", "json"), ("md", "markdown")):
        out = tmp_path / f"score.{ending}"
        done = shell("score", night, night, "-o", out)
        assert done.out.startswith(f"{out}: 8 true and ")
        assert out.read_text() == expected[fmt]


def test_pairs_and_folders_pool_their_nights_with_intervals(shell: Shell, nights: Path):
    folders = shell("score", nights, nights, "--json")
    paths = [nights / name for name in (MATTRESS.name, WRIST.name)]
    pairs = shell("score", paths[0], paths[0], paths[1], paths[1], "--json")
    assert folders.out == pairs.out
    values = json.loads(pairs.out)
    assert [night["name"] for night in values["nights"]] == [MATTRESS.name, WRIST.name]
    low, high = values["intervals"]["recall@0.5"]
    assert low <= values["figures"]["recall@0.5"] <= high
    assert values["hours_valid"] == pytest.approx(2.0, abs=0.01)
    text = shell("score", nights, nights)
    assert "in 2 nights" in text.out
    assert max(map(len, text.out.splitlines())) <= 80
    assert "wrist_onset.h5" in text.out


def test_anyones_tables_are_scored(shell: Shell, tmp_path: Path):
    bids = table(
        tmp_path / "sub-01_events.tsv", "10.1\tn/a\thypnic_jerk", "70\t1\thypnic_jerk",
        head="onset\tduration\ttrial_type",
    )  # fmt: skip
    truth = table(tmp_path / "truth.csv", "10,0.5,hypnic_jerk", "30,0.5,isolated_jerk", "70,5,movement")
    values = json.loads(shell("score", bids, truth, "--hours", 2, "--json").out)
    assert values["counts"][2] == {"tolerance_s": 0.5, "tp": 1, "fp": 1, "fn": 1}
    assert values["figures"]["false_alarms_per_hour"] == 0.5
    narrow = json.loads(shell("score", bids, truth, "--tolerance", 0.05, "--json").out)
    assert narrow["counts"][0] == {"tolerance_s": 0.05, "tp": 0, "fp": 2, "fn": 2}
    assert narrow["figures"]["false_alarms_per_hour"] is None
    one = json.loads(shell("score", bids, truth, "--labels", "isolated_jerk", "--json").out)
    assert one["counts"][0]["fn"] == 1


def test_other_words_for_a_jerk_are_noticed(shell: Shell, tmp_path: Path):
    found = table(tmp_path / "found.csv", "10,0.5,sleep start", "20,0.5,arousal")
    truth = table(tmp_path / "truth.csv", "10,0.5,hypnic_jerk")
    done = shell("score", found, truth)
    assert done.status == 0
    refused(done._replace(status=1), 1, "no event in FOUND", "arousal, sleep start", "--labels")
    assert shell("score", found, truth, "--labels", "hypnic_jerk,sleep start").err == ""
    assert shell("score", table(tmp_path / "none.csv", "10,0.5,movement"), truth).err == ""


def test_folders_are_matched_by_the_names_of_their_nights(shell: Shell, tmp_path: Path):
    found, truth = tmp_path / "found", tmp_path / "truth"
    found.mkdir()
    truth.mkdir()
    for name in ("a", "b"):
        table(found / f"{name}_events.tsv", "10", head="onset")
        table(truth / f"{name}.csv", "10", head="onset")
    (found / "a_events.json").write_text('{"onset": {"Description": "of BIDS"}}')
    (truth / "notes.md").write_text("not a table")
    values = json.loads(shell("score", found, truth, "--json").out)
    assert [night["name"] for night in values["nights"]] == ["a_events.tsv", "b_events.tsv"]
    assert values["figures"]["f1@0.1"] == 1.0
    table(truth / "c.csv", "10", head="onset")
    refused(shell("score", found, truth), 1, str(found), "belongs to c")
    table(found / "c.csv", "10", head="onset")
    table(found / "c.tsv", "10", head="onset")
    refused(shell("score", found, truth), 1, "c.csv", "c.tsv")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(shell("score", empty, empty), 1, "no night")


def test_detect_measures_the_latency(shell: Shell, nights: Path):
    night = nights / WRIST.name
    stored = json.loads(shell("score", night, night, "--json").out)
    fresh = json.loads(shell("score", "--detect", WRIST, WRIST, "--json").out)
    assert stored["latency_s"]["final"]["n"] == 0
    hits = stored["counts"][2]["tp"]
    assert fresh["latency_s"]["provisional"]["n"] == fresh["latency_s"]["final"]["n"] == hits > 0
    assert 0 < fresh["latency_s"]["provisional"]["median"] < fresh["latency_s"]["final"]["median"]
    same = ("counts", "figures", "confusion", "curve", "hours_valid")
    assert {name: fresh[name] for name in same} == {name: stored[name] for name in same}
    assert "row after the jerk's end" in shell("score", "--detect", WRIST, WRIST).out


def test_detect_takes_a_folder_of_recordings(shell: Shell, tmp_path: Path):
    recordings, truth = tmp_path / "recordings", tmp_path / "truth"
    recordings.mkdir()
    truth.mkdir()
    table(truth / "a_events.tsv", "20\t1\tmovement", head="onset\tduration\ttrial_type")
    rows = [f"{n / 50:.2f},{x:.5f},{y:.5f},{z:.5f}" for n, (x, y, z) in enumerate(quiet(60, 50))]
    table(recordings / "a.csv", *rows, head="time,x,y,z")
    values = json.loads(shell("score", "--detect", recordings, truth, "--json").out)
    assert values["name"] == "a.csv"
    assert values["hours_valid"] == pytest.approx(60 / 3600, rel=0.01)
    assert values["figures"]["false_alarms_per_hour"] == 0


def test_detect_takes_settings_and_hours_of_any_recording(shell: Shell, tmp_path: Path):
    deaf = tmp_path / "deaf.toml"
    deaf.write_text("floor_g = 1.0\n")
    truth = table(tmp_path / "truth.csv", "65.9,0.5,hypnic_jerk")
    done = json.loads(shell("score", "--detect", WRIST, truth, "--settings", deaf, "--json").out)
    assert (done["counts"][2]["tp"], done["counts"][2]["fn"]) == (0, 1)
    assert done["hours_valid"] == pytest.approx(1.0, abs=0.01)


def test_what_cannot_be_scored_is_one_line(shell: Shell, tmp_path: Path):
    good = table(tmp_path / "good.csv", "1,1,hypnic_jerk")
    bad = table(tmp_path / "bad.csv", "1,1,x", head="start,stop,label")
    refused(shell("score", good), 2, "a TRUTH is missing", "TRUTH")
    refused(shell("score", good, tmp_path), 2, "a folder is scored against a folder")
    refused(shell("score", bad, good), 1, "bad.csv", "no column onset")
    refused(shell("score", good, tmp_path / "none.csv"), 1, "none.csv")
    refused(shell("score", WRIST, WRIST), 1, "wrist_onset.h5", "no events", "detector")
    refused(shell("score", "--detect", good, good), 1, "good.csv")
    refused(shell("score", good, good, "--json", "--markdown"), 2, "choose one")
    refused(shell("score", good, good, "-o", "score.txt"), 2, "score.txt", ".json or .md")
    refused(shell("score", good, good, "--tolerance", 0), 2, "tolerance")
    refused(shell("score", good, good, "--labels", ","), 2, "labels")
    refused(shell("score", good, good, "--hours", -1), 2, "hours")
    refused(shell("score", good, good, "--settings", good), 2, "--detect")
    refused(shell("score", good, good, "-o", tmp_path / "none" / "x.md"), 1, "x.md")


# explain


def a_jerk(shell: Shell) -> dict[str, str]:
    """The last hypnic jerk of the sample night, as a row of its table."""
    rows = csv.DictReader(io.StringIO(shell("detect", WRIST, "--labels", "hypnic_jerk").out))
    return list(rows)[-1]


def test_explain_by_id_and_by_time(shell: Shell):
    jerk = a_jerk(shell)
    onset = float(jerk["onset"])
    at = f"0:{int(onset // 60):02d}:{onset % 60:05.2f}"
    done = shell("explain", WRIST, jerk["id"])
    assert done.status == 0
    assert done.err == ""
    assert done.out.startswith(f"event {jerk['id']} at {at} (22:")
    assert "hypnic_jerk (a candidate), score" in done.out.splitlines()[0]
    said = " ".join(done.out.split())
    for words in (
        "log odds",
        "jerk_score",
        "inside an onset window",
        "would have to differ",
        "revision 1 at",
    ):
        assert words in said
    assert max(map(len, done.out.splitlines())) <= 80
    assert "span that holds" in said
    assert "revision 1 at 0:" in said
    assert said.count("(22:") >= 3
    assert "in pairs adds" in " ".join(shell("explain", WRIST, jerk["id"], columns=140).out.split())
    texts = {shell("explain", WRIST, "--at", time).out for time in (at, at[2:], jerk["onset"])}
    assert texts == {done.out}
    why = json.loads(shell("explain", WRIST, jerk["id"], "--json").out)
    assert why["event"]["id"] == int(jerk["id"])
    total = why["intercept"] + sum(term["total"] for term in why["features"])
    assert total == pytest.approx(why["log_odds"])


def test_explain_says_where_the_stored_events_are_others(shell: Shell, nights: Path, tmp_path: Path):
    night, jerk = nights / WRIST.name, a_jerk(shell)["id"]
    assert shell("explain", night, jerk).err == ""
    strict = tmp_path / "strict.toml"
    strict.write_text("jerk_score = 1.0\n")
    done = shell("explain", night, jerk, "--settings", strict)
    assert done.status == 0
    assert "is below 1 (jerk_score)" in done.out
    refused(done._replace(status=1), 1, f"another event {jerk}", "other settings")


def test_what_cannot_be_explained_is_one_line(shell: Shell, tmp_path: Path):
    refused(shell("explain", WRIST), 2, "--at")
    refused(shell("explain", WRIST, 3, "--at", "0:01:00"), 2, "--at")
    refused(shell("explain", WRIST, 9999), 2, "no event 9999", "0 to")
    refused(shell("explain", WRIST, "--at", "noon"), 2, "noon", "0:12:47")
    refused(shell("explain", WRIST, "--at", "9:00:00"), 2, "no event within 10 s")
    refused(shell("explain", tmp_path / "none.h5", 1), 1, "none.h5")
    assert shell("explain", WRIST, "three").status == 2


# rest


def test_rest_as_tables(shell: Shell, tmp_path: Path):
    text = shell("rest", WRIST)
    rows = list(csv.DictReader(io.StringIO(text.out)))
    assert {row["rest"] for row in rows} <= {"awake", "settling", "onset", "still"}
    found = shell("detect", WRIST, "--labels", "hypnic_jerk").out.splitlines()[1:]
    windows = shell("rest", WRIST, "--windows", "--format", "tsv").out.splitlines()
    assert windows[0].split("\t") == [column.name for column in WINDOW_COLUMNS]
    assert sum(int(line.split("\t")[4]) for line in windows[1:]) == len(found)
    both = json.loads(shell("rest", WRIST, "--format", "json").out)
    assert [bout["rest"] for bout in both["bouts"]] == [row["rest"] for row in rows]
    assert len(both["windows"]) == len(windows) - 1
    out = tmp_path / "new" / "rest.csv"
    assert shell("rest", WRIST, "-o", out).out == ""
    assert out.read_text() == text.out
    shown = shell("rest", WRIST, "--format", "table").out
    for words in ("settling", "onset window", "asleep", "22:30:00", "min"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_cannot_be_listed_is_one_line(shell: Shell, tmp_path: Path):
    refused(shell("rest", WRIST, "-o", tmp_path / "rest.xls"), 2, "rest.xls", "csv, tsv, json")
    refused(shell("rest", WRIST, "-o", tmp_path / "x.csv", "--format", "table"), 2, "terminal")
    refused(shell("rest", tmp_path / "none.h5"), 1, "none.h5")
    assert list(tmp_path.iterdir()) == []


# simulate --into


def test_jerks_go_into_a_recording(shell: Shell, tmp_path: Path):
    out = tmp_path / "semi.h5"
    words = (
        "simulate",
        out,
        "--into",
        WRIST,
        "--jerks",
        5,
        "--seed",
        2,
        "--peak-g",
        0.2,
        0.4,
        "--quiet-g",
        0.05,
    )
    done = shell(*words)
    assert done.status == 0, done.err
    assert done.out.startswith(
        f"{out}: semi-synthetic wrist night, 1.00 h at 100 Hz, seed 2: 5 simulated jerks in "
    )
    with h5py.File(out) as file:
        assert file.attrs["notes"].startswith(
            "semi-synthetic: 5 simulated jerks, seed 2, added to wrist_onset.h5"
        )
        sources = [source.decode() for source in file["annotations"]["source"]]
    peaks = [float(s.split("peak_g=")[1]) for s in sources if s.startswith("semi-synthetic:jerk")]
    assert len(peaks) == 5
    assert 0.1 < min(peaks) <= max(peaks) < 0.6
    refused(shell(*words), 1, "semi.h5", "exists")
    assert shell(*words, "--overwrite").status == 0


def test_jerks_that_have_no_room_are_told_of(shell: Shell, tmp_path: Path):
    with Recorder(tmp_path / "short.h5", 50, "wrist", durable=False) as recorder:
        recorder.write(Chunk(quiet(30, 50), 0))
    done = shell("simulate", tmp_path / "out.h5", "--into", tmp_path / "short.h5", "--jerks", 9)
    assert "(9 were asked for, there is no room for more)" in done.out


def test_options_of_simulate_that_do_not_go_together_are_refused(shell: Shell, tmp_path: Path):
    out = tmp_path / "out.h5"
    refused(shell("simulate", out, "--into", WRIST, "--hours", 2), 2, "--hours", "--into")
    refused(shell("simulate", out, "--into", WRIST, "--faults"), 2, "--faults")
    refused(shell("simulate", out, "--peak-g", 1, 2), 2, "--peak-g needs --into")
    refused(shell("simulate", out, "--units", "mg"), 2, "--units needs --into")
    refused(shell("simulate", out, "--into", tmp_path / "none.h5"), 1, "none.h5")
    refused(shell("simulate", out, "--into", WRIST, "--peak-g", 2, 1), 2, "peak_g")
    refused(shell("simulate", out, "--into", WRIST, "--quiet-g", 1e-9), 1, "no place for a jerk")
    assert not out.exists()
