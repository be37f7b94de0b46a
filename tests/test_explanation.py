"""Why an event got its label: the words against the rules of the kernel, the terms against its score."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypnic
from hypnic import labels, layout
from hypnic.chunk import ArraySource
from hypnic.detector import Detector, detect_rows
from hypnic.errors import DataError, UsageError
from hypnic.events import LABELS, RESTS
from hypnic.explanation import NEAREST_S, explain, rules
from hypnic.model import COLUMNS, load_model
from hypnic.settings import Settings
from tests.signals import night as made_up
from tests.signals import quiet

DATA = Path(__file__).parents[1] / "data"
RATE = 100.0
XYZ = made_up(6, RATE, seed=3)

features = {
    layout.R_T90: st.floats(0.01, 3.0),
    layout.R_T50: st.floats(0.01, 2.0),
    layout.R_RISE: st.floats(0.0, 2.0),
    layout.R_CENTRE: st.floats(0.01, 2.0),
    layout.R_HF: st.one_of(st.just(math.nan), st.floats(0.0, 2.0)),
    layout.R_ANGLE: st.floats(0.0, 40.0),
    layout.R_QUIET: st.floats(0.0, 300.0),
    layout.R_LINE: st.floats(0.34, 1.0),
    layout.R_FREQ: st.floats(1.5, 12.0),
    layout.R_SLOW: st.floats(0.0, 3.0),
    layout.R_LOW: st.floats(0.0, 3.0),
    layout.R_FOLLOW: st.floats(-10.0, 5.0),
    layout.R_AFTER: st.floats(0.0, 1.0),
    layout.R_BURSTS: st.integers(1, 8),
    layout.R_RHYTHM: st.one_of(st.just(math.nan), st.floats(0.0, 1.0)),
    layout.R_CHAIN: st.integers(1, 8),
    layout.R_REST: st.integers(0, len(RESTS) - 1),
    layout.R_LENGTH: st.floats(0.01, 15.0),
    layout.R_PEAK: st.floats(0.001, 3.0),
    layout.R_STIR: st.floats(0.0, 60.0),
    layout.R_UX: st.sampled_from([0.0, -1.0, 0.9997, 0.99, 0.6]),
    layout.R_REVISION: st.integers(0, 3),
}


@pytest.mark.parametrize("site", ["wrist", "mattress"])
@given(values=st.fixed_dictionaries(features), jerk_score=st.sampled_from([0.0, 0.01, 0.45, 1.0]))
def test_the_words_come_to_the_label_of_the_kernel(site, values, jerk_score):
    s = dataclasses.replace(Settings.preset(site), jerk_score=jerk_score)
    state = Detector(RATE, site, s)._floats.copy()
    for column, value in values.items():
        state[layout.OUT + column] = value
    labels.judge(state, layout.OUT)
    row = state[layout.OUT : layout.OUT + layout.ROW]
    asked = list(rules(row, RATE, s))
    assert asked[-1].label == LABELS[int(row[layout.R_LABEL])]
    assert not any(rule.label for rule in asked[:-1])
    score = load_model(s.name).scores(row[np.newaxis])[0]
    if not asked[0].holds:
        score = min(score, 0.5 * jerk_score)
    assert score == pytest.approx(row[layout.R_SCORE])


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_the_words_come_to_the_label_of_every_row_of_a_night(site):
    with hypnic.open(DATA / f"{site}_onset.h5") as night:
        detector, rows = detect_rows(night)
    said = [list(rules(row, detector.rate, detector.settings))[-1].label for row in rows]
    assert said == [LABELS[int(code)] for code in rows[:, layout.R_LABEL]]
    assert len(set(said)) > 3


def test_terms_add_up_to_the_log_odds_and_these_to_the_score():
    for event in (0, 5, 9):
        why = explain(XYZ, event, rate=RATE)
        assert why.event["id"] == event
        assert why.intercept + sum(term.total for term in why.terms) == pytest.approx(why.log_odds)
        assert why.intercept + sum(t.alone for t in why.terms) + sum(why.pairs.values()) == pytest.approx(
            why.log_odds
        )
        score = 1 / (1 + math.exp(-why.log_odds))
        if not why.rules[0].holds:
            score = min(score, 0.5 * why.threshold)
            assert not why.flips
        assert score == pytest.approx(why.event["score"])
        assert {term.feature for term in why.terms} == {c.feature for c in load_model("wrist-1").curves}
        assert [abs(t.total) for t in why.terms] == sorted((abs(t.total) for t in why.terms), reverse=True)


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_each_flip_takes_the_score_across_the_threshold(site):
    model, flips = load_model(f"{site}-1"), 0
    rows = detect_rows(XYZ, RATE, site)[1]
    for event in range(4, 12):
        why = explain(XYZ, event, rate=RATE, site=site)
        row = rows[rows[:, layout.R_ID] == event][-1]
        for flip in why.flips:
            changed = row.copy()
            changed[COLUMNS[flip.feature][0]] = flip.needed
            before, after = model.scores(np.array([row, changed]))
            assert (before >= why.threshold) != (after >= why.threshold)
            assert flip.value == row[COLUMNS[flip.feature][0]]
            flips += 1
        assert [f.steps for f in why.flips] == sorted(f.steps for f in why.flips)
    assert flips > 0


def test_nothing_flips_a_score_that_every_event_reaches():
    every = dataclasses.replace(Settings.preset("wrist"), jerk_score=0.0)
    why = explain(XYZ, 0, rate=RATE, settings=every)
    assert why.flips == ()
    assert why.event["label"].endswith("_jerk")


def test_every_row_of_the_event_is_there_with_the_time_at_which_it_came_out():
    why = explain(XYZ, 4, rate=RATE)
    assert [int(row["revision"]) for _, row in why.revisions] == list(range(len(why.revisions)))
    end = why.event["onset"] + why.event["duration"]
    times = [time for time, _ in why.revisions]
    assert len(times) > 1
    assert times == sorted(times)
    assert times[0] > end
    assert why.revisions[-1][1] == why.event


def test_an_event_is_found_by_time():
    events = hypnic.detect(XYZ, rate=RATE)
    row = events[int(np.argmax(events["duration"]))]
    inside = row["onset"] + row["duration"] / 2
    assert explain(XYZ, at_s=inside, rate=RATE).event == row
    last = events[-1]
    assert explain(XYZ, at_s=last["onset"] + last["duration"] + 0.5, rate=RATE).event["id"] == last["id"]
    with pytest.raises(
        UsageError, match=f"no event within {NEAREST_S:g} s of 9999 s: the nearest, {last['id']}"
    ):
        explain(XYZ, at_s=9999.0, rate=RATE)
    with pytest.raises(UsageError, match="not a time"):
        explain(XYZ, at_s=math.nan, rate=RATE)


def test_the_onset_window_is_named():
    with hypnic.open(DATA / "wrist_onset.h5") as night:
        events = hypnic.detect(night)
        jerk = events.hypnic_jerks[-1]
        why = explain(night, int(jerk["id"]))
        alone = explain(night, int(events.label("isolated_jerk")[0]["id"]))
    assert why.window is not None
    assert why.window["onset"] <= jerk["onset"] <= why.window["end"]
    assert [rule.name for rule in why.rules] == ["limits", "score", "rest"]
    assert alone.window is None
    assert not alone.rules[-1].holds


def test_it_is_plain_json_even_where_a_feature_is_unknown():
    slow = ArraySource(made_up(4, 32.0, seed=1), 32.0, "wrist")
    why = json.loads(json.dumps(explain(slow, 3).to_dict(), allow_nan=False))
    unknown = next(term for term in why["features"] if term["feature"] == "hf_ratio")
    assert unknown["value"] is None
    assert why["event"]["id"] == 3
    assert why["rules"][-1]["label"] == why["event"]["label"]
    assert why["meta"]["settings"]["name"] == "wrist-1"


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(UsageError, match="say which event"):
        explain(XYZ, rate=RATE)
    with pytest.raises(UsageError, match="say which event"):
        explain(XYZ, 3, at_s=1.0, rate=RATE)
    with pytest.raises(UsageError, match="there is no event 999: their ids run from 0 to"):
        explain(XYZ, 999, rate=RATE)
    with pytest.raises(DataError, match="no event was found"):
        explain(quiet(60, RATE), 0, rate=RATE)
