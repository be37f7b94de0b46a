from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, EVENT_DTYPE, LABELS, RESTS, TEXT_FORMATS, Events, format_row

DESIGN = [
    ("onset", "<f8"),
    ("duration", "<f8"),
    ("label", "<U16"),
    ("score", "<f8"),
    ("peak_g", "<f8"),
    ("prominence", "<f8"),
    ("rise", "<f8"),
    ("t90", "<f8"),
    ("hf_ratio", "<f8"),
    ("angle_change", "<f8"),
    ("quiet_before", "<f8"),
    ("interval", "<f8"),
    ("rest", "<U8"),
    ("sample", "<i8"),
    ("id", "<i8"),
    ("revision", "<i4"),
]
META = {"hypnic_version": "0.1.0", "rate": 100.0, "site": "wrist", "settings": {"on_min": 1.6}}
NUMBERS = [name for name, dtype in DESIGN if not dtype.startswith("<U")]


def table(n: int, seed: int = 0) -> NDArray[np.void]:
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, EVENT_DTYPE)
    for name, dtype in DESIGN:
        rows[name] = rng.normal(0, 10, n) if dtype == "<f8" else rng.choice(RESTS, n) if name == "rest" else 0
    rows["label"] = rng.choice(LABELS, n)
    rows["sample"] = rng.integers(0, 2**40, n)
    rows["id"] = np.arange(n) // 2
    rows["revision"] = np.arange(n) % 2
    rows["interval"][:1] = math.nan
    rows["hf_ratio"][n // 2 :] = math.nan
    return rows


def test_columns_are_those_of_the_design():
    assert np.dtype(DESIGN) == EVENT_DTYPE
    assert [column.name for column in COLUMNS] == [name for name, _ in DESIGN]
    assert all(column.meaning for column in COLUMNS)
    assert LABELS == (
        "hypnic_jerk",
        "isolated_jerk",
        "plm",
        "rhythmic",
        "posture_shift",
        "movement",
        "impact",
        "sensor_artifact",
    )
    assert RESTS == ("awake", "settling", "onset", "still", "off")
    assert all(len(label) <= 16 for label in LABELS)


# The table


def test_an_empty_table():
    events = Events()
    assert len(events) == len(events.latest()) == len(events.hypnic_jerks) == 0
    assert list(events) == []
    assert events.counts() == dict.fromkeys(LABELS, 0)
    assert repr(events) == "<Events: 0 rows>"
    assert events.to_text("csv") == ",".join(name for name, _ in DESIGN) + "\n"
    assert events.to_text("jsonl") == ""
    assert json.loads(events.to_text("json")) == {"meta": {}, "events": []}


def test_other_rows_are_refused():
    with pytest.raises(DataError, match=r"are not events: use hypnic\.events\.EVENT_DTYPE"):
        Events(np.zeros((3, 3)))


def test_a_single_row_is_a_table():
    assert len(Events(table(1)[0])) == 1


def test_columns_rows_and_smaller_tables():
    events = Events(table(20), META)
    np.testing.assert_array_equal(events["onset"], events.array["onset"])
    assert events[3]["label"] == events.array[3]["label"]
    for key in (slice(2, 5), [1, 4], events["score"] > 0):
        some = events[key]
        assert isinstance(some, Events)
        assert some.meta == META
        assert some.array.tobytes() == events.array[key].tobytes()
    assert [row["sample"] for row in events] == events["sample"].tolist()
    assert "20 rows: " in repr(events)


def test_labels():
    events = Events(table(200), META)
    assert sum(events.counts().values()) == 200
    for label, count in events.counts().items():
        assert count > 0
        assert set(events.label(label)["label"]) == {label}
        assert len(events.label(label)) == count
    assert events.hypnic_jerks.array.tobytes() == events.label("hypnic_jerk").array.tobytes()
    assert set(events.jerks["label"]) == {"hypnic_jerk", "isolated_jerk"}
    assert len(events.label()) == 0
    assert events.jerks.meta == META
    with pytest.raises(UsageError, match=r"label 'jerk' is unknown: use hypnic_jerk, .*sensor_artifact"):
        events.label("hypnic_jerk", "jerk")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 50)), max_size=20))
def test_latest_is_the_last_revision_of_each_event_by_onset(triples):
    rows = np.zeros(len(triples), EVENT_DTYPE)
    for row, (number, revision, sample) in zip(rows, triples, strict=True):
        row["id"], row["revision"], row["sample"] = number, revision, sample
    latest = Events(rows, META).latest()
    assert latest.meta == META
    assert latest["sample"].tolist() == sorted(latest["sample"])
    best = {number: max(r for n, r, _ in triples if n == number) for number, _, _ in triples}
    assert dict(zip(latest["id"].tolist(), latest["revision"].tolist(), strict=True)) == best
    assert len(latest) == len(best)


def test_concat():
    first, second = Events(table(3), META), Events(table(2, seed=1), {"rate": 1})
    both = Events.concat([first, second])
    assert both.array.tobytes() == first.array.tobytes() + second.array.tobytes()
    assert both.meta == META
    assert len(Events.concat([])) == 0


def test_to_pandas():
    pytest.importorskip("pandas", reason="the extra pandas is not installed")
    assert len(Events().to_pandas()) == 0
    events = Events(table(9), META)
    frame = events.to_pandas()
    assert list(frame.columns) == [name for name, _ in DESIGN]
    assert frame.attrs == META
    for name in NUMBERS:
        np.testing.assert_array_equal(frame[name].to_numpy(), events[name])
        assert frame[name].dtype == events[name].dtype
    assert frame["label"].tolist() == events["label"].tolist()


# Files


def rounded(events: Events) -> dict[str, list[object]]:
    """What a file can hold: every number to the decimals of its column."""

    def kept(value: object, decimals: int) -> object:
        if not isinstance(value, float):
            return value
        return None if math.isnan(value) else round(value, decimals)

    return {
        column.name: [kept(value, column.decimals) for value in events[column.name].tolist()]
        for column in COLUMNS
    }


def parsed(column: str, text: str) -> object:
    if column in ("label", "rest"):
        return text
    if column in ("sample", "id", "revision"):
        return int(text)
    return None if text in ("nan", "n/a") else float(text)


@pytest.mark.parametrize(("fmt", "delimiter", "missing"), [("csv", ",", "nan"), ("tsv", "\t", "n/a")])
def test_delimited_text_comes_back(tmp_path, fmt, delimiter, missing):
    events = Events(table(25), META)
    path = tmp_path / f"events.{fmt}"
    events.write(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    assert list(rows[0]) == [name for name, _ in DESIGN]
    back = {name: [parsed(name, row[name]) for row in rows] for name, _ in DESIGN}
    assert back == rounded(events)
    assert rows[0]["interval"] == missing
    assert b"\r" not in path.read_bytes()


def test_pandas_reads_the_csv(tmp_path):
    pd = pytest.importorskip("pandas", reason="the extra pandas is not installed")
    events = Events(table(25), META)
    events.write(tmp_path / "events.csv")
    frame = pd.read_csv(tmp_path / "events.csv")
    for column in COLUMNS:
        if column.name in NUMBERS:
            np.testing.assert_allclose(
                frame[column.name], events[column.name], atol=0.51 * 10**-column.decimals
            )


def test_json_comes_back(tmp_path):
    events = Events(table(25), META)
    events.write(tmp_path / "events.json")
    found = json.loads((tmp_path / "events.json").read_text())
    assert found["meta"] == META
    assert {name: [row[name] for row in found["events"]] for name, _ in DESIGN} == rounded(events)


def test_json_lines_come_back(tmp_path):
    events = Events(table(25), META)
    events.write(tmp_path / "events.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {name: [row[name] for row in rows] for name, _ in DESIGN} == rounded(events)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e300, 5e-324])
def test_json_is_strict_whatever_the_value(value):
    rows = table(1)
    rows["score"] = value

    def no_constants(name: str) -> None:
        raise AssertionError(name)

    for fmt in ("json", "jsonl"):
        json.loads(Events(rows).to_text(fmt), parse_constant=no_constants)


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_text_is_what_is_written(tmp_path, fmt):
    events = Events(table(7), META)
    events.write(tmp_path / "a", fmt)
    assert (tmp_path / "a").read_text() == events.to_text(fmt)
    events.write(str(tmp_path / f"b.{fmt.upper()}"))
    assert (tmp_path / f"b.{fmt.upper()}").read_text() == events.to_text(fmt)


@pytest.mark.parametrize("fmt", ["csv", "tsv", "jsonl"])
def test_one_row_is_one_line(fmt):
    events = Events(table(4), META)
    lines = events.to_text(fmt).splitlines()[-4:]
    assert [format_row(row, fmt) for row in events] == lines


def test_text_of_one_row():
    rows = np.zeros(1, EVENT_DTYPE)
    rows["onset"], rows["label"], rows["rest"], rows["sample"] = 12.34567, "hypnic_jerk", "onset", 1235
    rows["interval"] = math.nan
    line = (
        "12.3457,0.0000,hypnic_jerk,0.0000,0.00000,0.000,0.0000,0.0000,0.00000,0.00,0.000,nan,onset,1235,0,0"
    )
    assert format_row(rows[0]) == line
    assert format_row(rows[0], "tsv") == line.replace(",", "\t").replace("nan", "n/a")


@pytest.mark.parametrize("name", ["events.xlsx", "events", "csv"])
def test_unknown_format_writes_nothing(tmp_path: Path, name):
    with pytest.raises(UsageError, match=r"format .* is unknown: use csv, tsv, json, jsonl"):
        Events(table(2)).write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="format 'xml' is unknown"):
        Events().to_text("xml")


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("old" * 10_000)
    Events(table(2)).write(path)
    assert path.read_text() == Events(table(2)).to_text("csv")
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "events.csv"
    path.write_text("old")

    def full(self: Path, text: str, **options: object) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        Events(table(50)).write(path)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "events.csv").mkdir()
    with pytest.raises(OSError, match=r"events\.csv"):
        Events(table(2)).write(tmp_path / "events.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]
    with pytest.raises(FileNotFoundError):
        Events().write(tmp_path / "nowhere" / "events.csv")


def test_csv_survives_a_reader_that_knows_no_quotes():
    events = Events(table(30), META)
    for line in io.StringIO(events.to_text("csv")):
        assert len(line.split(",")) == len(DESIGN)
