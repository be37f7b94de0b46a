from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypnic.chunk import Chunk
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events
from hypnic.marks import inside, recorded_hours
from hypnic.recording import Recorder, Recording
from hypnic.scoring import (
    Latency,
    Marks,
    Score,
    combine,
    latencies,
    load,
    match,
    report,
    score,
    valid_hours,
)
from tests.naive import scoring as naive

# Multiples of 1/64 s are exact, shifted or not, so that no pair sits on the edge of a tolerance by rounding.
onsets = st.lists(st.integers(0, 640).map(lambda n: n / 64), max_size=12)
few_onsets = st.lists(st.integers(0, 256).map(lambda n: n / 64), max_size=6)
tolerances = st.sampled_from([0.125, 0.25, 0.5, 1.0])
untimed = settings(deadline=None)  # the first call imports scipy
labels = st.sampled_from(["hypnic_jerk", "isolated_jerk", "movement", "a foreign word"])


def marks(
    onset: list[float],
    label: str | list[str] = "hypnic_jerk",
    duration: float | list[float] = 0.5,
    kind: str | list[str] | None = None,
    peak_g: float | list[float] = math.nan,
    score: float | list[float] = math.nan,
) -> Marks:
    def column(values: Any) -> Any:
        return np.array(values if isinstance(values, list) else [values] * len(onset))

    return Marks(
        np.array(onset), column(duration), column(label), column(kind or label), column(peak_g), column(score)
    )


@st.composite
def any_marks(draw: st.DrawFn) -> Marks:
    onset = draw(onsets)
    n = len(onset)

    def several(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    return marks(
        onset,
        label=several(labels),
        duration=several(st.integers(0, 256).map(lambda k: k / 64)),
        score=several(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan])),
    )


def event_rows(*rows: tuple[float, str, int, int]) -> Events:
    table = np.zeros(len(rows), EVENT_DTYPE)
    for n, (onset, label, event_id, revision) in enumerate(rows):
        table[n]["onset"], table[n]["label"], table[n]["id"], table[n]["revision"] = (
            onset,
            label,
            event_id,
            revision,
        )
        table[n]["sample"], table[n]["score"] = round(onset * 100), 0.5
    return Events(table)


def at(result: Score, tolerance: float = 0.5) -> tuple[int, int, int]:
    counts = result.at(tolerance)
    return counts.tp, counts.fp, counts.fn


# Matching


@untimed
@given(onsets, onsets, tolerances)
def test_matching_is_one_to_one_within_tolerance_and_as_large_as_can_be(found, true, tolerance):
    i, j = match(found, true, tolerance)
    assert len(set(i.tolist())) == len(i) == len(set(j.tolist()))
    assert all(naive.may_pair(found[a], true[b], tolerance) for a, b in zip(i, j, strict=True))
    assert len(i) == naive.most_pairs(found, true, tolerance)


@untimed
@given(few_onsets, few_onsets, tolerances)
def test_matching_has_the_smallest_error_of_the_largest_ones(found, true, tolerance):
    i, j = match(found, true, tolerance)
    error = sum(abs(found[a] - true[b]) for a, b in zip(i, j, strict=True))
    assert (len(i), error) == pytest.approx(naive.best_matching(found, true, tolerance))


@untimed
@given(onsets, onsets, tolerances, st.data())
def test_priority_is_best_above_every_threshold_at_once(found, true, tolerance, data):
    priority = data.draw(st.lists(st.integers(0, 4), min_size=len(found), max_size=len(found)))
    i, _ = match(found, true, tolerance, priority=priority)
    for threshold in range(5):
        above = [onset for onset, p in zip(found, priority, strict=True) if p >= threshold]
        hits = sum(priority[n] >= threshold for n in i)
        assert hits == naive.most_pairs(above, true, tolerance)


def test_greedy_choice_would_lose_a_pair():
    # The found 1.3 is nearest to 1.2, which is the only one that 0.8 can have.
    i, j = match([0.8, 1.3], [1.2, 1.75], 0.5)
    assert (i.tolist(), j.tolist()) == ([0, 1], [0, 1])


def test_tolerance_includes_its_edge_in_spite_of_binary_rounding():
    assert 0.8 - 0.1 > 0.7
    assert len(match([0.8], [0.7], 0.1)[0]) == 1
    assert len(match([0.7], [0.8], 0.1)[0]) == 1
    assert len(match([0.8001], [0.7], 0.1)[0]) == 0


def test_ten_thousand_events_a_side_match_completely():
    rng = np.random.default_rng(7)
    true = np.arange(10_000) * 1.5
    order = rng.permutation(10_000)
    i, j = match((true + rng.uniform(-0.5, 0.5, 10_000))[order], true, 0.5)
    assert (order[i] == j).all()
    assert len(i) == 10_000


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_onset_that_is_no_time_is_refused(bad):
    with pytest.raises(DataError, match=r"true onset .* of event 1"):
        match([1.0], [2.0, bad], 0.5)
    with pytest.raises(DataError, match="found onset of shape"):
        match([[1.0]], [2.0], 0.5)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_tolerance_that_is_none_is_refused(bad):
    with pytest.raises(UsageError, match="tolerance"):
        match([1.0], [1.0], bad)


# One night


def test_counts_of_a_night_known_by_hand():
    truth = marks([10, 20, 30, 40], label=["hypnic_jerk", "isolated_jerk", "hypnic_jerk", "posture_shift"])
    found = marks([10.2, 20.9, 30.05, 30.3, 40.1])
    result = score(found, truth, hours_valid=2.0)
    assert at(result, 0.1) == (1, 4, 2)
    assert at(result, 0.25) == (2, 3, 1)
    assert at(result, 0.5) == (2, 3, 1)
    assert at(result, 1.0) == (3, 2, 0)
    half = result.at(0.5)
    assert (half.precision, half.recall, half.f1) == pytest.approx((2 / 5, 2 / 3, 4 / 8))
    assert result.movements == 1
    assert result.figures["false_alarms_per_hour"] == 1.5
    assert result.figures["false_alarms_per_movement"] == 3.0
    assert result.figures["label_accuracy"] == 1.0
    assert result.figures["recall@1"] == 1.0


def test_onset_error_is_found_minus_true_of_hits_only():
    result = score(marks([10.1, 20.3, 29.8, 99.0]), marks([10, 20, 30, 50]))
    error = result.onset_error()
    assert error["median"] == pytest.approx(0.2)
    assert error["mean"] == pytest.approx(0.2 / 3)
    assert error["p05"] == pytest.approx(np.percentile([0.1, 0.3, -0.2], 5))
    assert error["p95"] == pytest.approx(np.percentile([0.1, 0.3, -0.2], 95))


def test_confusion_pairs_jerks_first_then_by_onset_then_by_span():
    truth = marks(
        [10, 20, 30, 50],
        label=["hypnic_jerk", "isolated_jerk", "posture_shift", "plm"],
        duration=[0.5, 0.5, 10, 1],
    )
    found = marks(
        [10.1, 20.1, 33, 36, 50.2, 70],
        label=["isolated_jerk", "isolated_jerk", "movement", "hypnic_jerk", "hypnic_jerk", "impact"],
    )
    confusion = score(found, truth).confusion()
    assert confusion["hypnic_jerk"]["isolated_jerk"] == 1
    assert confusion["isolated_jerk"]["isolated_jerk"] == 1
    assert confusion["posture_shift"] == {
        "hypnic_jerk": 0, "isolated_jerk": 0, "movement": 1, "impact": 0, "none": 0
    }  # fmt: skip
    assert confusion["plm"]["hypnic_jerk"] == 1
    assert confusion["none"] == {"hypnic_jerk": 1, "isolated_jerk": 0, "movement": 0, "impact": 1, "none": 0}
    assert list(confusion) == ["hypnic_jerk", "isolated_jerk", "plm", "posture_shift", "none"]


def test_confusion_pairs_onsets_within_the_tolerance_even_if_spans_do_not_touch():
    truth, found = marks([10, 20], "plm"), marks([9.6, 19.4], "impact", duration=0.1)
    confusion = score(found, truth).confusion()
    assert confusion["plm"] == {"impact": 1, "none": 1}


def test_a_movement_nearer_by_does_not_take_a_hit_from_the_confusion():
    truth = marks([10.0, 10.3], label=["hypnic_jerk", "movement"])
    result = score(marks([10.3]), truth)
    assert at(result) == (1, 0, 0)
    assert result.confusion()["hypnic_jerk"]["hypnic_jerk"] == 1


def test_false_alarms_are_told_by_what_they_coincide_with():
    truth = marks(
        [10, 60, 100],
        label=["posture_shift", "impact", "hypnic_jerk"],
        duration=[20, 0.1, 0.4],
        kind=["turn", "tap", "jerk"],
    )
    result = score(marks([12, 29, 60.3, 100.1, 100.4, 200]), truth)
    assert at(result) == (1, 5, 0)
    assert list(result.coincidences().items()) == [
        ("turn", (2, 1)),
        ("jerk", (1, 1)),
        ("none", (1, 0)),
        ("tap", (1, 1)),
    ]


@untimed
@given(any_marks(), any_marks())
def test_coincidences_are_those_of_a_plain_search(found, truth):
    result = score(found, truth)
    spans = list(zip(truth.onset.tolist(), truth.end.tolist(), strict=True))
    for span, during in zip(zip(found.onset, found.end, strict=True), result.found["during"], strict=True):
        nearest = naive.nearest_during(span, spans, 0.5)
        distance = None if nearest is None else abs(spans[nearest][0] - span[0])
        ties = {
            truth.kind[n]
            for n, (start, end) in enumerate(spans)
            if distance == abs(start - span[0]) and start - 0.5 <= span[1] and end + 0.5 >= span[0]
        }
        assert during in (ties or {"none"})


def test_detection_by_peak_counts_jerks_only():
    truth = marks(
        [10, 20, 30, 40, 50],
        label=["hypnic_jerk"] * 4 + ["movement"],
        peak_g=[0.004, 0.02, 0.024, math.nan, 0.02],
    )
    rows = score(marks([20.1, 40.0]), truth).detection_by_peak()
    assert [(row["low"], row["high"], row["true"], row["found"], row["probability"]) for row in rows] == [
        (0.003, 0.006, 1, 0, 0.0),
        (0.0125, 0.025, 2, 1, 0.5),
    ]


def test_curve_and_its_areas_known_by_hand():
    found = marks(
        [10, 20, 30, 40], label=["hypnic_jerk", "plm", "movement", "plm"], score=[0.9, 0.8, 0.7, 0.2]
    )
    result = score(found, marks([10, 30, 99]))
    points = result.curve()
    assert points["threshold"].tolist() == [0.9, 0.8, 0.7, 0.2]
    assert points["tp"].tolist() == [1, 1, 2, 2]
    assert points["fp"].tolist() == [0, 1, 1, 2]
    assert points["recall"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert points["fpr"] == pytest.approx([0, 0.5, 0.5, 1])
    assert result.roc_auc == pytest.approx(0.75)
    assert result.average_precision == pytest.approx((1 + 2 / 3) / 3)


@untimed
@given(any_marks(), any_marks(), st.lists(st.sampled_from([0.0, 0.25, 0.3, 0.75, 1.0, 2.0]), max_size=4))
def test_the_curve_at_a_level_counts_all_that_score_as_much(found, truth, levels):
    result = score(found, truth)
    jerks = truth.onset[np.isin(truth.label, ["hypnic_jerk", "isolated_jerk"])].tolist()
    scored = found[np.isfinite(found.score)]
    rows = result.at_scores(levels)
    assert [row["score"] for row in rows] == (levels if len(scored) else [])
    for row in rows:
        above = scored.onset[scored.score >= row["score"]].tolist()
        assert row["tp"] == naive.most_pairs(above, jerks, 0.5)
        assert row["tp"] + row["fp"] == len(above)
        if above:
            assert row["precision"] == row["tp"] / len(above)
        if jerks:
            assert row["recall"] == row["tp"] / len(jerks)


@untimed
@given(any_marks(), any_marks())
def test_curve_is_the_best_matching_at_every_threshold(found, truth):
    result = score(found, truth)
    jerks = truth.onset[np.isin(truth.label, ["hypnic_jerk", "isolated_jerk"])].tolist()
    for point in result.curve():
        above = found.onset[found.score >= point["threshold"]].tolist()
        assert point["tp"] == naive.most_pairs(above, jerks, 0.5)
        assert point["tp"] + point["fp"] == len(above)
    scored = np.isfinite(found.score)
    on_jerk = result.found["jerk"]
    if on_jerk.any() and (scored & ~on_jerk).any():
        expected = naive.roc_area(found.score[on_jerk].tolist(), found.score[scored & ~on_jerk].tolist())
        assert result.roc_auc == pytest.approx(expected)
    else:
        assert math.isnan(result.roc_auc)


def test_reliability_bins_hold_mean_score_and_share():
    found = marks([10, 20, 30, 40, 50], score=[0.11, 0.15, 1.0, math.nan, 7.0])
    assert score(found, marks([10, 30])).reliability() == [
        {"low": 0.1, "high": 0.2, "n": 2, "score": pytest.approx(0.13), "jerks": 0.5},
        {"low": 0.9, "high": 1.0, "n": 1, "score": 1.0, "jerks": 1.0},
    ]


def test_labels_say_what_counts():
    truth = marks([10, 20], label=["hypnic_jerk", "isolated_jerk"])
    found = marks([10, 20], label=["hypnic_jerk", "twitch"])
    assert at(score(found, truth)) == (1, 0, 1)
    assert at(score(found, truth, labels=["hypnic_jerk"])) == (1, 0, 0)
    assert at(score(found, truth, labels=["isolated_jerk", "twitch"])) == (1, 0, 0)
    assert score(found, truth).confusion()["isolated_jerk"] == {"hypnic_jerk": 0, "twitch": 1, "none": 0}


def test_a_tolerance_of_its_own_decides_everything_but_the_counts():
    result = score(marks([10.8]), marks([10.0]), tolerances=(0.1,), tolerance=0.9)
    assert [(c.tolerance, c.tp) for c in result.counts] == [(0.1, 0), (0.9, 1)]
    assert result.true["hit"].tolist() == [True]
    with pytest.raises(UsageError, match=r"tolerance of 0\.5 s, only at 0\.1, 0\.9"):
        result.at(0.5)


def test_only_the_last_revision_of_an_event_counts():
    found = event_rows(
        (10, "hypnic_jerk", 1, 0), (10, "hypnic_jerk", 1, 1), (10, "plm", 1, 2), (20, "hypnic_jerk", 2, 0)
    )
    assert at(score(found, marks([10, 20]))) == (1, 0, 1)
    assert at(score(found.array, marks([10, 20]))) == (1, 0, 1)


def test_empty_sides_leave_shares_undefined_and_raise_nothing():
    nothing = marks([])
    result = score(nothing, nothing, hours_valid=1)
    assert at(result) == (0, 0, 0)
    assert math.isnan(result.at(0.5).precision)
    assert math.isnan(result.at(0.5).f1)
    assert result.figures["false_alarms_per_hour"] == 0
    assert result.table().startswith("0 true and 0 found jerks")
    json.dumps(result.to_dict(), allow_nan=False)
    assert at(score(nothing, marks([1]))) == (0, 0, 1)
    assert at(score(Events(), marks([1]))) == (0, 0, 1)
    assert at(score(marks([1]), nothing)) == (0, 1, 0)


def test_options_that_cannot_be_meant_are_refused():
    with pytest.raises(UsageError, match="hours_valid"):
        score(marks([1]), marks([1]), hours_valid=-1)
    with pytest.raises(UsageError, match="labels"):
        score(marks([1]), marks([1]), labels="hypnic_jerk")
    with pytest.raises(UsageError, match="labels"):
        score(marks([1]), marks([1]), labels=[])
    with pytest.raises(UsageError, match="tolerance"):
        score(marks([1]), marks([1]), tolerances=(-0.5,))
    with pytest.raises(DataError, match="is not a table of events"):
        score(7, marks([1]))


# Properties


@untimed
@given(any_marks(), any_marks(), st.integers(-(10**6), 10**6))
def test_shifting_both_sides_changes_nothing(found, truth, seconds):
    def shifted(side: Marks) -> Marks:
        return Marks(side.onset + seconds, side.duration, side.label, side.kind, side.peak_g, side.score)

    plain, moved = score(found, truth).to_dict(), score(shifted(found), shifted(truth)).to_dict()
    assert moved == plain


@untimed
@given(any_marks(), any_marks())
def test_exchanging_sides_exchanges_false_alarms_and_misses(found, truth):
    there, back = score(found, truth), score(truth, found)
    for a, b in zip(there.counts, back.counts, strict=True):
        assert (a.tp, a.fp, a.fn) == (b.tp, b.fn, b.fp)


@untimed
@given(any_marks(), any_marks(), st.integers(0, 640))
def test_adding_a_found_event_far_from_truth_never_raises_precision(found, truth, at_64th):
    added = marks([1000 + at_64th / 64])
    more = Marks(*(np.append(getattr(found, name), getattr(added, name)) for name in vars(found)))
    for before, after in zip(score(found, truth).counts, score(more, truth).counts, strict=True):
        assert after.fp == before.fp + 1
        assert not after.precision > before.precision
        assert (after.tp, after.fn) == (before.tp, before.fn)


@untimed
@given(any_marks(), any_marks())
def test_every_event_is_counted_once(found, truth):
    result = score(found, truth)
    jerks = ["hypnic_jerk", "isolated_jerk"]
    n_found, n_true = np.isin(found.label, jerks).sum(), np.isin(truth.label, jerks).sum()
    for counts in result.counts:
        assert (counts.tp + counts.fp, counts.tp + counts.fn) == (n_found, n_true)
    confusion = result.confusion()
    assert sum(n for row, cells in confusion.items() if row != "none" for n in cells.values()) == len(truth)
    assert sum(cells[label] for cells in confusion.values() for label in cells if label != "none") == len(
        found
    )
    assert sum(n for n, _ in result.coincidences().values()) == result.at(0.5).fp
    assert result.true["hit"].sum() == result.at(0.5).tp


@untimed
@given(any_marks(), any_marks())
def test_ignoring_everything_leaves_nothing(found, truth):
    result = score(found, truth, ignore=[(-1, 100)])
    assert all((c.tp, c.fp, c.fn) == (0, 0, 0) for c in result.counts)
    assert len(result.true["onset"]) == len(result.found["onset"]) == 0


@untimed
@given(any_marks(), any_marks())
def test_ignoring_an_empty_stretch_changes_nothing(found, truth):
    assert score(found, truth, ignore=[(500, 600)]).to_dict() == score(found, truth).to_dict()


# What does not count


def test_a_jerk_that_the_sensor_hardly_delivered_counts_neither_way():
    columns = vars(marks([10, 20, 30], label=["hypnic_jerk", "hypnic_jerk", "movement"]))
    truth = Marks(**{**columns, "visible": np.array([0.49, 0.5, 0.0])})
    result = score(marks([10.1]), truth)
    assert at(result) == (0, 0, 1)
    assert result.true["onset"].tolist() == [20, 30]
    assert result.movements == 1
    assert at(score(marks([]), Marks(**{**columns, "visible": np.full(3, math.nan)}))) == (0, 0, 2)


def test_ignored_spans_count_neither_way():
    truth = marks([10, 20, 30, 31], label=["hypnic_jerk", "hypnic_jerk", "hypnic_jerk", "movement"])
    found = marks([10, 25, 50], label=["hypnic_jerk", "hypnic_jerk", "hypnic_jerk"])
    result = score(found, truth, ignore=[(18, 35)])
    assert at(result) == (1, 1, 0)
    assert result.movements == 0
    assert result.true["onset"].tolist() == [10]
    assert result.found["onset"].tolist() == [10, 50]


def test_at_the_edge_of_an_ignored_span_both_sides_get_the_benefit():
    # True outside, found inside: a hit. True inside, found outside: no false alarm.
    assert at(score(marks([20.1]), marks([19.9]), ignore=[(20, 30)])) == (1, 0, 0)
    excused = score(marks([19.9]), marks([20.1]), ignore=[(20, 30)])
    assert at(excused) == (0, 0, 0)
    assert len(excused.found["onset"]) == 0
    assert at(score(marks([19.0]), marks([20.1]), ignore=[(20, 30)])) == (0, 1, 0)


def test_jerks_in_an_unlisted_gap_are_misses():
    assert at(score(marks([]), marks([20]))) == (0, 0, 1)


def test_span_that_ends_before_it_starts_is_refused():
    with pytest.raises(UsageError, match="ends before it starts"):
        score(marks([1]), marks([1]), ignore=[(5, 4)])
    with pytest.raises(UsageError, match="ends before it starts"):
        valid_hours(100, gaps=[(math.nan, 4)])


def test_valid_hours_take_off_each_lost_second_once():
    assert valid_hours(7200) == 2
    assert valid_hours(
        7200, gaps=[(0, 1800), (900, 1800)], ignore=[(1000, 3600), (7000, 9000)]
    ) == pytest.approx((7200 - 3600 - 200) / 3600)
    assert valid_hours(100, ignore=[(-50, 500)]) == 0


@untimed
@given(st.lists(st.tuples(st.integers(-10, 60), st.integers(0, 30)), max_size=6))
def test_valid_hours_count_the_seconds_outside_every_span(starts_and_lengths):
    spans = [(start, start + length) for start, length in starts_and_lengths]
    middles = np.arange(50) + 0.5
    assert valid_hours(50, spans[::2], spans[1::2]) * 3600 == pytest.approx(np.sum(~inside(middles, spans)))


# Latency


def test_latency_runs_from_the_true_end_to_each_revision_of_a_hit():
    rows = event_rows(
        (10.1, "movement", 1, 0), (10.1, "hypnic_jerk", 1, 1),
        (20, "hypnic_jerk", 2, 0), (20, "hypnic_jerk", 2, 1),
        (30, "hypnic_jerk", 3, 0), (40, "hypnic_jerk", 4, 0), (40, "plm", 4, 1),
    )  # fmt: skip
    emitted = list(zip([11.0, 16.0, 20.75, 26.5, 30.9, 41.0, 99.0], rows, strict=True))
    truth = marks([10, 20, 40, 90], duration=[0.5, 0.25, 0.5, 0.5])
    delay = latencies(emitted, truth)
    assert delay.provisional == pytest.approx([0.5, 0.5])
    assert delay.final == pytest.approx([5.5, 6.25])
    assert delay.summary()["final"] == pytest.approx({"n": 2, "median": 5.875, "p95": 6.2125, "max": 6.25})
    result = score(emitted, truth)
    assert at(result) == (2, 1, 2)
    assert result.latency.final == pytest.approx([5.5, 6.25])
    assert "final row after the jerk's end" in result.table()
    assert score(emitted, truth, ignore=[(15, 25)]).latency.final == pytest.approx([5.5])


def test_latency_of_nothing_is_undefined():
    assert math.isnan(latencies([], marks([1])).summary()["final"]["median"])
    assert "row after" not in score([], marks([1])).table()


# Many nights


def nights() -> list[Score]:
    return [
        score(marks([10, 20, 30], score=0.5), marks([10, 20, 40]), hours_valid=1, name="a"),
        score(marks([10.2]), marks([10, 50], label=["hypnic_jerk", "plm"]), hours_valid=2, name="b"),
        score(marks([]), marks([10]), hours_valid=3, name="c"),
    ]


def test_combined_nights_add_up():
    total = combine(nights())
    assert at(total) == (3, 1, 2)
    assert total.hours_valid == 6
    assert total.movements == 1
    assert total.figures["false_alarms_per_hour"] == pytest.approx(1 / 6)
    assert total.confusion()["none"]["hypnic_jerk"] == 1
    assert len(total.nights) == 3
    for name, (low, high) in total.intervals.items():
        assert low <= total.figures[name] <= high


def test_interval_is_that_of_resampled_nights():
    # Ten nights, half with recall 1 and half with 0: draws are binomial, and 2 and 8 of 10 are its limits.
    total = combine([score(marks([10]), marks([10])), score(marks([]), marks([10]))] * 5)
    assert total.intervals["recall@0.5"] == (0.2, 0.8)
    same = combine([score(marks([10, 20]), marks([10, 30]))] * 5)
    assert same.intervals["recall@0.5"] == (0.5, 0.5)


def test_intervals_are_seeded_and_flat_over_combined_scores():
    a, b = combine(nights(), seed=3), combine([combine(nights()[:2]), nights()[2]], seed=3)
    assert a.intervals == b.intervals
    assert a.to_dict() == b.to_dict()


def test_one_night_has_no_interval():
    alone = combine([nights()[0]])
    assert alone.intervals == {}
    assert alone.name == "a"
    assert alone.nights == ()


def test_unknown_hours_of_one_night_leave_the_rate_unknown():
    total = combine([nights()[0], score(marks([1]), marks([2]))])
    assert math.isnan(total.figures["false_alarms_per_hour"])
    assert total.to_dict()["intervals"]["false_alarms_per_hour"] == [None, None]


def test_latencies_are_pooled():
    rows = [(11.0, row) for row in event_rows((10, "hypnic_jerk", 1, 0))]
    one = score(rows, marks([10]))
    assert combine([one, one]).latency.provisional == pytest.approx([0.5, 0.5])
    assert isinstance(combine([one]).latency, Latency)


def test_scores_that_do_not_go_together_are_refused():
    with pytest.raises(UsageError, match="no scores"):
        combine([])
    with pytest.raises(UsageError, match="cannot be combined"):
        combine([nights()[0], score(marks([1]), marks([1]), labels=["plm"])])


# Files


def test_bids_events_are_read(tmp_path: Path):
    path = tmp_path / "sub-01_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n1.5\t0.4\thypnic_jerk\n-2\tn/a\tstate:still\n9\tn/a\tn/a\n")
    read = load(path)
    assert read.onset.tolist() == [1.5, 9.0]
    assert read.duration.tolist() == [0.4, 0.0]
    assert read.label.tolist() == ["hypnic_jerk", "hypnic_jerk"]


@pytest.mark.parametrize(
    "text",
    [
        "onset\n3\n7\n",
        "\ufeffonset,label\r\n3,x\r\n7,y\r\n",
        '# a remark, with commas\nOnset ; Description\n\n3;"x"\n7;y; z\n',
        'label,onset\n"x, or\ny",3\nz,7.0\n',
    ],
)
def test_any_table_with_an_onset_is_read(tmp_path: Path, text: str):
    path = tmp_path / "events.csv"
    path.write_bytes(text.encode())
    assert load(path, "found").onset.tolist() == [3, 7]


def test_foreign_words_pass_through(tmp_path: Path):
    path = tmp_path / "foreign.csv"
    path.write_text("onset,description\n3,Arousal (spontaneous) of a rather long name\n")
    found = load(path, "found")
    assert found.label.tolist() == ["Arousal (spontaneous) of a rather long name"]
    result = score(found, marks([3]))
    assert result.confusion()["hypnic_jerk"] == {"Arousal (spontaneous) of a rather long name": 1, "none": 0}


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_own_event_tables_come_back(tmp_path: Path, ending: str):
    events = event_rows((10.5, "hypnic_jerk", 1, 1), (12, "plm", 2, 0), (10.5, "movement", 1, 0))
    events.array["peak_g"] = [0.1, math.nan, 0.3]
    path = tmp_path / f"events.{ending}"
    events.write(path)
    read, expected = load(path, "found"), Marks.of(events)
    order = np.argsort(read.onset)
    for name, column in vars(expected).items():
        np.testing.assert_array_equal(vars(read)[name][order], column)


def test_source_of_simulated_truth_gives_kind_and_peak(tmp_path: Path):
    path = tmp_path / "truth.csv"
    path.write_text(
        "onset,label,source\n1,posture_shift,truth:turn peak_g=0.0123\n"
        "2,hypnic_jerk,semi-synthetic:jerk peak_g=1e-2 visible=0.50\n"
        "3,sensor_artifact,fault:spike peak_g=nan\n4,hypnic_jerk,button\n"
        "0,state:awake,truth:state\n7,fault:gap,fault:gap\n"
    )
    read = load(path)
    assert read.kind.tolist() == ["turn", "jerk", "spike"]
    np.testing.assert_array_equal(read.peak_g, [0.0123, 0.01, math.nan])
    assert read.visible.tolist() == [1.0, 0.5, 1.0]
    assert score(marks([]), read).movements == 1


def test_a_simulated_night_without_events_does_not_take_the_diary_for_truth(tmp_path: Path):
    path = tmp_path / "truth.csv"
    path.write_text("onset,label,source\n0,state:awake,truth:state\n4,hypnic_jerk,button\n")
    assert len(load(path)) == 0


def test_annotations_by_a_person_all_count(tmp_path: Path):
    path = tmp_path / "person.csv"
    path.write_text("onset,label,source,peak_g\n1,hypnic_jerk,video,0.5\n4,movement,button,\n")
    read = load(path)
    assert read.kind.tolist() == ["hypnic_jerk", "movement"]
    np.testing.assert_array_equal(read.peak_g, [0.5, math.nan])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n\n", "is empty"),
        ("start,stop\n1,2\n", "no column onset, only start, stop"),
        ("onset\nnan\n", "onset of line 2 is missing or not finite"),
        ("onset,label\n1,a\n,b\n", "onset of line 3 is missing"),
        ("onset\ninf\n", "onset of line 2"),
        ("onset\n2024-01-01 22:00\n", "onset '2024-01-01 22:00' of line 2 is not a number"),
        ("onset,duration\n1,-2\n", "duration -2 s of event 0"),
        ("onset,duration\n1,inf\n", "duration inf s"),
        ("onset,score\n1,high\n", "score 'high' of line 2"),
        ("onset,source\n1,truth:jerk peak_g=big\n", "peak_g 'big' of line 2"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, text: str, message: str):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "bad.csv: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"events": 3}', '{"events": [3]}', '{"rows": []}'])
def test_json_that_is_no_event_table_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a list of events"):
        load(path)


def test_bytes_and_missing_files_are_refused(tmp_path: Path):
    path = tmp_path / "noise.csv"
    path.write_bytes(b"\xff\xfe\x00onset\n")
    with pytest.raises(DataError, match="neither HDF5 nor UTF-8"):
        load(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    with pytest.raises(DataError, match=r"noise\.csv"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="side"):
        load(path, "both")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """An hour at 25 Hz of which 15 min are lost, with truth, a diary and events."""
    path = tmp_path / "night.h5"
    samples = np.zeros((45 * 60 * 25, 3), np.float32)
    with Recorder(path, 25, "wrist", durable=False) as recorder:
        recorder.write(Chunk(samples[: 600 * 25], 0))
        recorder.write(Chunk(samples[600 * 25 :], 1500 * 25, missing=900 * 25))
        recorder.annotate(0, 60, "state:awake", "truth:state")
        recorder.annotate(100, 0.4, "hypnic_jerk", "truth:jerk peak_g=0.25")
        recorder.annotate(200, 9, "posture_shift", "truth:turn peak_g=0.5")
        recorder.annotate(3000, 0.4, "isolated_jerk", "truth:jerk peak_g=0.02")
        recorder.annotate(300, 0, "hypnic_jerk", "button")
        recorder.events(
            event_rows((100.1, "hypnic_jerk", 1, 0), (205, "hypnic_jerk", 2, 0), (205, "movement", 2, 1))
        )
    return path


def test_a_night_holds_truth_events_and_its_hours(night: Path):
    truth, found = load(night), load(night, "found")
    assert truth.onset.tolist() == [100, 200, 3000]
    assert truth.kind.tolist() == ["jerk", "turn", "jerk"]
    assert truth.peak_g.tolist() == [0.25, 0.5, 0.02]
    assert found.label.tolist() == ["hypnic_jerk", "movement"]
    assert recorded_hours(night) == pytest.approx(0.75)
    assert recorded_hours(night, ignore=[(0, 900)]) == pytest.approx(0.75 - 600 / 3600)


def test_hours_with_a_fault_or_damage_are_not_valid(tmp_path: Path):
    path = tmp_path / "night.h5"
    with Recorder(path, 25, "wrist", durable=False) as recorder:
        recorder.write(Chunk(np.zeros((3600 * 25, 3), np.float32), 0))
        recorder.annotate(60, 600, "fault:stuck", "fault:stuck")
        recorder.annotate(90, 60, "fault:held", "fault:held")
        recorder.annotate(1000, 60, "state:still", "truth:state")
    assert recorded_hours(path) == pytest.approx(3000 / 3600)
    with h5py.File(path) as file:
        info = file["acceleration"].id.get_chunk_info(20)  # a minute, the 21st
    with path.open("rb+") as handle:
        handle.seek(info.byte_offset)
        handle.write(b"\xff" * info.size)
    assert recorded_hours(path) == pytest.approx(2940 / 3600)


def test_a_night_without_the_table_is_refused(tmp_path: Path):
    path = tmp_path / "bare.h5"
    with Recorder(path, 25, "wrist", durable=False) as recorder:
        recorder.write(Chunk(np.zeros((100, 3), np.float32), 0))
    with pytest.raises(DataError, match=r"bare\.h5: it holds no annotations"):
        load(path)
    with pytest.raises(DataError, match=r"bare\.h5: it holds no events"):
        load(path, "found")
    with Recording(path) as recording:
        recording.write_events(Events(meta={"preset": "wrist-1"}))
    assert len(load(path, "found")) == 0


def test_annotations_need_no_file():
    dtype = [("onset", "f8"), ("duration", "f8"), ("label", "U16"), ("source", "U64"), ("kind", "U16")]
    rows = np.array(
        [(5, 1, "movement", "", "turn"), (1, 1, "state:still", "", ""), (7, 1, "plm", "truth:leg", "")], dtype
    )
    assert Marks.of(rows).kind.tolist() == ["leg"]
    assert Marks.of(rows[:2]).kind.tolist() == ["turn"]
    assert Marks.of(np.array([(5.0, b"plm")], [("onset", "f8"), ("label", "S3")])).label.tolist() == ["plm"]


def test_marks_check_their_columns():
    with pytest.raises(DataError, match="differ in shape"):
        marks([1.0, 2.0], label=["plm"])
    with pytest.raises(DataError, match="onset nan of event 0"):
        marks([math.nan])
    with pytest.raises(DataError, match="duration -1 s of event 1"):
        marks([1.0, 2.0], duration=[0.0, -1.0])


# Reports


def test_report_scores_files_against_files(night: Path, tmp_path: Path):
    foreign = tmp_path / "other_events.tsv"
    foreign.write_text("onset\tduration\ttrial_type\n99.8\t0.5\thypnic_jerk\n204\t1\thypnic_jerk\n")
    values = json.loads(report([night, foreign], [night, night], fmt="json"))
    assert values["hours_valid"] == pytest.approx(1.5)
    assert values["figures"]["recall@0.5"] == pytest.approx(0.5)
    assert values["figures"]["false_alarms_per_hour"] == pytest.approx(1 / 1.5)
    assert values["coincidences"]["turn"] == {"false_alarms": 1, "true": 2}
    assert [one["name"] for one in values["nights"]] == ["night.h5", "other_events.tsv"]
    assert values["roc_auc"] is None or 0 <= values["roc_auc"] <= 1

    text = report([night, foreign], [night, night])
    assert text.startswith("4 true and 3 found jerks (hypnic_jerk, isolated_jerk) in 2 nights\n")
    assert "| 0.25          | 2    | 1            | 2      | 0.67 (" in text
    assert "| night.h5         | 1    | 0            | 1      | 1.00      | 0.50   | 0.00" in text
    for table in text.split("\n\n")[1:]:
        assert len({len(line) for line in table.strip().splitlines()}) == 1
    assert report([night, foreign], [night, night]) == text


def test_report_of_one_night_names_it_and_has_no_intervals(night: Path):
    text = report([night], [night], hours_valid=[4.0], ignore=[[(90, 110)]], labels=["hypnic_jerk"])
    assert text.startswith("0 true and 0 found jerks (hypnic_jerk) in night.h5\n")
    assert "| valid hours                       | 4.00" in text
    assert "(0." not in text


def test_report_takes_hours_from_the_found_night_where_the_truth_has_none(night: Path, tmp_path: Path):
    truth = tmp_path / "truth.csv"
    truth.write_text("onset\n100\n")
    assert json.loads(report([night], [truth], fmt="json"))["hours_valid"] == pytest.approx(0.75)
    assert json.loads(report([truth], [truth], fmt="json"))["hours_valid"] is None


def test_report_refuses_what_does_not_go_together(night: Path):
    with pytest.raises(UsageError, match="2 found and 1 truth files"):
        report([night, night], [night])
    with pytest.raises(UsageError, match="0 found and 0 truth"):
        report([], [])
    with pytest.raises(UsageError, match="hours_valid has 2 entries for 1 nights"):
        report([night], [night], hours_valid=[1, 2])
    with pytest.raises(UsageError, match="format 'html'"):
        report([night], [night], fmt="html")
