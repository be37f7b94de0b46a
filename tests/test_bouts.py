"""Rest as a table: bouts, onset windows, and the jerks in each."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypnic
from hypnic.bouts import BOUT_COLUMNS, WINDOW_COLUMNS, rest_table
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, RESTS, Events

NIGHT = Path(__file__).parents[1] / "data" / "wrist_onset.h5"


def bouts(*states: tuple[str, float]) -> list[dict[str, Any]]:
    """Bouts one after another, from their states and lengths (s)."""
    found, onset = [], 0.0
    for rest, duration in states:
        found.append({"onset": onset, "duration": duration, "rest": rest})
        onset += duration
    return found


def jerks(*rows: tuple[float, str, str]) -> Events:
    """Events from their onsets (s), labels and rest states."""
    table = np.zeros(len(rows), EVENT_DTYPE)
    for n, (onset, label, rest) in enumerate(rows):
        table[n]["onset"], table[n]["label"], table[n]["rest"], table[n]["id"] = onset, label, rest, n
        table[n]["sample"] = round(100 * onset)
    return Events(table)


FALLING_TWICE = bouts(
    ("awake", 100), ("settling", 200), ("awake", 50), ("settling", 300), ("onset", 1200), ("still", 3000),
    ("awake", 60), ("settling", 300), ("onset", 400),
)  # fmt: skip


def test_windows_join_settling_and_onset_and_count_the_times_of_falling_asleep():
    table = rest_table(Events(), FALLING_TWICE)
    assert table.bouts["window"].tolist() == [0, 1, 0, 2, 2, 0, 0, 3, 3]
    assert table.windows["onset"].tolist() == [100, 350, 4910]
    assert table.windows["end"].tolist() == [300, 1850, 5610]
    np.testing.assert_array_equal(table.windows["stillness"], [math.nan, 650, 5210])
    # The settling that came to nothing and the next one are attempts at the same falling asleep.
    assert table.windows["falling_asleep"].tolist() == [1, 1, 2]
    assert table.windows["before"].tolist() == ["awake", "awake", "awake"]
    assert table.windows["then"].tolist() == ["awake", "still", ""]


def test_a_window_that_opens_again_without_a_waking_is_one_of_its_own():
    nights = bouts(("settling", 300), ("onset", 1200), ("still", 3000), ("onset", 700), ("still", 90))
    table = rest_table(jerks((4600, "hypnic_jerk", "onset")), nights)
    assert table.windows["onset"].tolist() == [0, 4500]
    assert table.windows["stillness"].tolist() == [300, 4500]
    assert table.windows["before"].tolist() == ["", "still"]
    assert table.windows["falling_asleep"].tolist() == [1, 2]
    assert table.windows["jerks"].tolist() == [0, 1]


def test_jerks_are_counted_where_they_lie():
    found = jerks(
        (50, "isolated_jerk", "awake"), (150, "hypnic_jerk", "settling"), (151, "plm", "settling"),
        (400, "hypnic_jerk", "settling"), (700, "hypnic_jerk", "onset"), (3000, "isolated_jerk", "still"),
    )  # fmt: skip
    table = rest_table(found, FALLING_TWICE)
    assert table.bouts["jerks"].tolist() == [1, 1, 0, 1, 1, 1, 0, 0, 0]
    assert table.windows["jerks"].tolist() == [1, 2, 0]


def test_a_jerk_at_the_edge_of_two_bouts_goes_with_its_own_rest_state():
    table = rest_table(jerks((99.8, "hypnic_jerk", "settling")), FALLING_TWICE)
    assert table.bouts["jerks"].tolist()[:2] == [0, 1]
    table = rest_table(jerks((99.8, "isolated_jerk", "awake")), FALLING_TWICE)
    assert table.bouts["jerks"].tolist()[:2] == [1, 0]


def test_only_the_last_revision_of_an_event_is_counted():
    found = jerks((150, "hypnic_jerk", "settling"), (150, "plm", "settling"))
    found.array["id"], found.array["revision"] = 0, [0, 1]
    assert rest_table(found, FALLING_TWICE).windows["jerks"].sum() == 0


def test_a_settling_after_a_long_gap_opens_a_window_of_its_own():
    table = rest_table(Events(), bouts(("settling", 100), ("settling", 300), ("onset", 10)))
    assert table.windows["onset"].tolist() == [0, 100]
    assert table.windows["then"].tolist() == ["settling", ""]


states = st.lists(st.tuples(st.sampled_from(RESTS), st.integers(1, 2000).map(float)), min_size=1, max_size=12)


@given(states, st.data())
def test_every_jerk_is_counted_once_and_every_second_of_a_window_belongs_to_it(parts, data):
    rows = bouts(*parts)
    length = rows[-1]["onset"] + rows[-1]["duration"]
    onsets = data.draw(st.lists(st.floats(0, length, exclude_max=True), max_size=8))
    found = jerks(
        *((onset, "hypnic_jerk", data.draw(st.sampled_from(RESTS))) for onset in onsets),
    )
    table = rest_table(found, rows)
    assert table.bouts["jerks"].sum() == len(onsets)
    inside = np.isin(table.bouts["rest"], ["settling", "onset"])
    assert ((table.bouts["window"] > 0) == inside).all()
    lengths = table.windows["end"] - table.windows["onset"]
    assert lengths.sum() == pytest.approx(table.bouts["duration"][inside].sum())
    assert table.windows["jerks"].sum() == table.bouts["jerks"][inside].sum()


def test_the_bouts_of_a_night_cover_it_and_its_windows_hold_its_hypnic_jerks():
    with hypnic.open(NIGHT) as night:
        found, duration = hypnic.detect(night), night.duration
    table = hypnic.rest_table(found)
    ends = table.bouts["onset"] + table.bouts["duration"]
    assert table.bouts["onset"][1:] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(duration, abs=0.2)
    assert table.windows["jerks"].sum() == len(found.hypnic_jerks) > 0
    assert table.bouts["jerks"].sum() == len(found.jerks)


def test_events_stored_in_a_night_say_how_the_person_rested(tmp_path: Path):
    path = tmp_path / "night.h5"
    path.write_bytes(NIGHT.read_bytes())
    with hypnic.Recording(path) as night:
        found = hypnic.detect(night)
        night.write_events(found)
        stored = night.events()
    assert stored is not None
    fresh, kept = rest_table(found), rest_table(stored)
    assert (fresh.bouts == kept.bouts).all()
    assert fresh.to_text("csv", windows=True) == kept.to_text("csv", windows=True)


def test_formats(tmp_path: Path):
    table = rest_table(jerks((150, "hypnic_jerk", "settling")), FALLING_TWICE)
    lines = list(csv.DictReader(io.StringIO(table.to_text("csv"))))
    assert list(lines[0]) == [column.name for column in BOUT_COLUMNS]
    assert [line["rest"] for line in lines] == [bout["rest"] for bout in FALLING_TWICE]
    assert float(lines[1]["onset"]) == 100
    windows = table.to_text("tsv", windows=True).splitlines()
    assert windows[0].split("\t") == [column.name for column in WINDOW_COLUMNS]
    assert windows[1].split("\t")[3] == "n/a"
    both = json.loads(table.to_text("json"))
    assert len(both["bouts"]) == 9
    assert both["windows"][0]["stillness"] is None
    table.write(tmp_path / "rest.tsv", windows=True)
    assert (tmp_path / "rest.tsv").read_text() == table.to_text("tsv", windows=True)
    with pytest.raises(UsageError, match="format 'xlsx'"):
        table.write(tmp_path / "rest.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["rest.tsv"]


def test_events_without_rest_are_refused():
    with pytest.raises(DataError, match="how the person rested"):
        rest_table(Events())
    for damaged in ([3], [{"onset": 0.0}], [{"onset": "?", "duration": 1.0, "rest": "still"}]):
        with pytest.raises(DataError, match="cannot be read"):
            rest_table(Events(meta={"rest": damaged}))
    empty = rest_table(Events(), [])
    assert len(empty.bouts) == len(empty.windows) == 0
    assert len(empty.to_text("csv").splitlines()) == 1
