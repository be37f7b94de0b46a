from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hypnic import kernel
from hypnic import layout as at
from hypnic.chunk import ArraySource, Chunk
from hypnic.detector import Detector, detect
from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, LABELS, RESTS
from hypnic.recording import Recorder, Recording
from hypnic.settings import Settings
from tests.signals import POSTURE, Samples, add_jerk, add_movement, breathing, night, pieces, quiet

NIGHT = night(3.0, 50.0, seed=4)
add_jerk(NIGHT, 4990, 50.0)
NIGHT[3000:3003] = np.nan
NIGHT[5000:5400] = np.nan
NIGHT[7000:7300] = NIGHT[7000]


def run(detector: Detector, *chunks: Samples) -> bytes:
    """Push each chunk and flush; return the bytes of all rows."""
    rows = [detector.push_rows(chunk) for chunk in chunks]
    return np.concatenate([*rows, detector.flush_rows()]).tobytes()


def whole(xyz: Samples, rate: float = 50.0) -> bytes:
    return run(Detector(rate), xyz)


def table(rows: bytes) -> np.ndarray:
    return np.frombuffer(rows).reshape(-1, at.ROW)


def test_the_night_of_these_tests_has_events():
    rows = table(whole(NIGHT))
    assert (rows[:, at.R_REVISION] == 0).sum() >= 8
    assert rows[:, at.R_CUT].any()


# Any chunking, any restart


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(NIGHT)), max_size=12))
@example([0, 0, 1, 2, 3, len(NIGHT), len(NIGHT)])
def test_every_partition_gives_the_same_rows(cuts):
    assert run(Detector(50.0), *np.split(NIGHT, sorted(cuts))) == whole(NIGHT)


def test_single_samples_give_the_same_rows():
    xyz = NIGHT[2000:4000]
    assert run(Detector(50.0), *xyz) == whole(xyz)
    assert run(Detector(50.0), *xyz[:, np.newaxis]) == whole(xyz)


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(NIGHT)), min_size=1, max_size=6))
def test_every_restart_gives_the_same_rows(cuts):
    detector = Detector(50.0)
    rows = []
    for chunk in np.split(NIGHT, sorted(cuts)):
        rows.append(detector.push_rows(chunk))
        state = detector.state()
        detector = Detector.from_state(state)
        assert detector.state() == state
    rows.append(detector.flush_rows())
    assert np.concatenate(rows).tobytes() == whole(NIGHT)


def test_a_restart_at_every_sample_of_an_event_gives_the_same_rows():
    xyz = quiet(10, 50.0)
    add_jerk(xyz, 400, 50.0)
    detector = Detector(50.0)
    rows = []
    for sample in xyz:
        rows.append(detector.push_rows(sample))
        detector = Detector.from_state(detector.state())
    rows.append(detector.flush_rows())
    assert len(table(whole(xyz))) == 2
    assert np.concatenate(rows).tobytes() == whole(xyz)


@settings(max_examples=60)
@given(pieces, st.data())
def test_any_signal_any_partition_any_restart(pieces, data):
    xyz = pieces.xyz(25.0)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(xyz)), max_size=8)))
    expected = Detector(25.0)
    rows = run(expected, xyz)
    detector = Detector(25.0)
    got = []
    for chunk in np.split(xyz, cuts):
        got.append(detector.push_rows(chunk))
        detector = Detector.from_state(detector.state())
    got.append(detector.flush_rows())
    assert np.concatenate(got).tobytes() == rows
    assert detector.counts == expected.counts
    assert detector.rest_bouts() == expected.rest_bouts()


def test_many_rows_at_once_are_all_handed_over():
    rate = 100.0
    xyz = quiet(600, rate)
    for start in range(1000, len(xyz) - 200, 150):
        add_jerk(xyz, start, rate, peak=0.3, decay=0.06)
    rows = table(whole(xyz, rate))
    assert len(rows) > at.OUT_ROWS
    assert run(Detector(rate), *np.array_split(xyz, 999)) == rows.tobytes()


# Losses


@settings(max_examples=60)
@given(st.integers(0, 9000), st.integers(0, 4000), st.integers(0, 4000))
def test_a_gap_may_be_told_in_parts(start, first, second):
    def told(*gaps: int) -> bytes:
        detector = Detector(50.0)
        rows = [detector.push_rows(NIGHT[:start])]
        for gap in gaps:
            detector.gap(gap)
            rows.append(detector.push_rows(NIGHT[:0]))
        rows += [detector.push_rows(NIGHT[start:]), detector.flush_rows()]
        return np.concatenate(rows).tobytes()

    assert told(first, second) == told(first + second)


@settings(max_examples=60)
@given(pieces)
def test_a_run_of_nan_is_a_gap_of_its_length(pieces):
    xyz = pieces.xyz(50.0)
    detector = Detector(50.0)
    rows = []
    lost = ~np.isfinite(xyz).all(axis=1)
    for chunk in np.split(xyz, np.flatnonzero(np.diff(lost)) + 1):
        if np.isfinite(chunk[0]).all():
            rows.append(detector.push_rows(chunk))
        else:
            detector.gap(len(chunk))
    rows.append(detector.flush_rows())
    expected = Detector(50.0)
    assert np.concatenate(rows).tobytes() == run(expected, xyz)
    assert detector.index == expected.index == len(xyz)
    assert detector.rest_bouts() == expected.rest_bouts()


@pytest.mark.parametrize("lost", [1, 100, 10_000, 10_000_000])
def test_samples_lost_at_the_start_only_move_the_numbers(lost):
    detector = Detector(50.0)
    detector.gap(lost)
    rows = table(run(detector, NIGHT)).copy()
    rows[:, [at.R_ONSET, at.R_END, at.R_EMITTED]] -= lost
    assert rows.tobytes() == whole(NIGHT)


losses = st.lists(
    st.tuples(
        st.floats(0.1, 12.0),  # s of samples
        st.integers(1, 3000),  # samples lost
        st.tuples(*[st.floats(-2.0, 2.0)] * 3),  # g, how far the sensor turns meanwhile
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80)
@given(losses, st.sampled_from([25.0, 50.0, 100.0]))
def test_a_sensor_that_turns_while_nobody_looks_makes_no_event(losses, rate):
    bridged = max(1, round(Settings().bridge * rate))
    detector = Detector(rate)
    rows = [detector.push_rows(quiet(40, rate))]
    turned = (0.0, 0.0, 0.0)
    for k, (seconds, lost, turn) in enumerate(losses):
        # Across a loss short enough to run on, a turn would be a jump in the data.
        turned = turn if lost > bridged else turned
        detector.gap(lost)
        rows.append(detector.push_rows(quiet(seconds, rate, seed=k) + np.float32(turned)))
    rows.append(detector.flush_rows())
    assert len(np.concatenate(rows)) == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8900), st.integers(1, 600)), min_size=1, max_size=8))
def test_every_event_of_a_recording_with_losses_is_one_of_it_without(losses):
    rate = 50.0
    xyz = quiet(180, rate)
    for k, start in enumerate(range(1000, 8900, 700)):
        add_jerk(xyz, start, rate, peak=0.2 + 0.1 * k, decay=(0.06, 0.15, 0.6)[k % 3])
    with_all = table(whole(xyz))
    for start, lost in losses:
        xyz[start : start + lost] = np.nan
    for row in table(whole(xyz)):
        # What is left of a jerk after a loss may end a little later than the jerk did.
        near = (with_all[:, at.R_ONSET] <= row[at.R_END]) & (with_all[:, at.R_END] + rate >= row[at.R_ONSET])
        assert near.any()


@given(st.integers(0, 40_000), st.integers(20, 1000))
@settings(max_examples=60)
def test_nothing_opens_until_the_filters_have_settled_after_a_loss(lost, size):
    rate = 32.0
    detector = Detector(rate)
    detector.push_rows(quiet(40, rate))
    detector.gap(lost)
    loud = quiet(20, rate, sigma=size / 1000)
    rows = np.concatenate([detector.push_rows(loud), detector.flush_rows()])
    if lost > round(30 * rate):
        # The background is forgotten: no event before it is known again.
        earliest = 40 * rate + lost + (Settings().warmup + Settings().guard - 1.5) * rate
    elif lost > round(0.05 * rate):
        earliest = 40 * rate + lost
    else:
        earliest = 40 * rate - 2
    assert (rows[:, at.R_ONSET] >= earliest).all()


def test_a_lasting_rise_of_the_noise_becomes_background():
    detector = Detector(50.0)
    detector.push_rows(quiet(60, 50.0))
    opened = detector.push_rows(quiet(120, 50.0, seed=1, sigma=0.05))
    assert (opened[:, at.R_ONSET] >= 2998).all()
    assert len(opened) > 0
    assert len(detector.push_rows(quiet(300, 50.0, seed=2, sigma=0.05))) == 0


def test_an_event_is_cut_where_the_data_end():
    rate = 100.0
    xyz = quiet(30, rate)
    xyz[2000:] += np.random.default_rng(0).normal(0, 0.2, (1000, 3)).astype(np.float32)
    detector = Detector(rate)
    assert len(detector.push_rows(xyz[:2500])) == 0
    detector.gap(300)
    rows = detector.push_rows(xyz[2500:2501])
    assert rows[:, at.R_REVISION].tolist() == [0, 1]
    assert rows[:, at.R_CUT].tolist() == [1, 1]
    assert rows[:, at.R_END].tolist() == [2500, 2500]
    assert rows[:, at.R_EMITTED].tolist() == [2500, 2500]


def test_flush_ends_a_segment_as_a_loss_does():
    rate = 50.0
    xyz = quiet(40, rate)
    detector = Detector(rate)
    detector.push_rows(xyz)
    assert len(detector.flush_rows()) == 0
    assert len(detector.flush_rows()) == 0
    rows = [detector.push_rows(xyz + np.float32([1.0, -1.0, 0.5])), detector.flush_rows()]
    assert len(np.concatenate(rows)) == 0
    jerked = xyz.copy()
    add_jerk(jerked, 1500, rate)
    rows = np.concatenate([detector.push_rows(jerked), detector.flush_rows()])
    assert rows[:, at.R_ONSET] == pytest.approx([2 * len(xyz) + 1500] * 2, abs=3)
    assert detector.counts["received"] == detector.index == 3 * len(xyz)


@pytest.mark.parametrize("gap", [1000, 40_000])
def test_a_flush_within_a_gap_changes_nothing_that_follows(gap):
    def rows(flush: bool) -> tuple[bytes, str, int]:
        detector = Detector(50.0)
        out = [detector.push_rows(NIGHT), detector.push_rows(NIGHT[-500:])]
        detector.gap(gap)
        if flush:
            out.append(detector.flush_rows())
        out += [detector.push_rows(NIGHT), detector.flush_rows()]
        return np.concatenate(out).tobytes(), detector.rest, detector.index

    assert rows(flush=True) == rows(flush=False)


@pytest.mark.parametrize("missing", [-1, 1.5, "3", None, math.nan])
def test_a_gap_is_a_whole_number(missing):
    with pytest.raises(UsageError, match=r"gap of .*whole number"):
        Detector(100.0).gap(missing)


def test_a_gap_may_be_a_numpy_integer():
    detector = Detector(100.0)
    detector.gap(np.int32(5))
    assert detector.index == 5


# What is pushed


def test_any_layout_of_the_same_values_gives_the_same_rows():
    xyz = np.round(NIGHT[:6000] * 1024)
    xyz[~np.isfinite(xyz)] = 0
    fine = (xyz / np.float32(1024)).astype(np.float32)
    expected = whole(fine)
    wide = np.zeros((len(fine), 7), np.float32)
    wide[:, 1:6:2] = fine
    read_only = fine.copy()
    read_only.flags.writeable = False
    forms = {
        "float64": fine.astype(np.float64),
        "long double": fine.astype(np.longdouble),
        "big-endian": fine.astype(">f4"),
        "big-endian double": fine.astype(">f8"),
        "Fortran": np.asfortranarray(fine),
        "strided": wide[:, 1:6:2],
        "backwards": fine[::-1].copy()[::-1],
        "every other": np.repeat(fine, 2, axis=0)[::2],
        "transposed": fine.T.copy().T,
        "read-only": read_only,
        "list": fine.tolist(),
    }
    for name, given_as in forms.items():
        assert run(Detector(50.0), given_as) == expected, name


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, bool])
def test_integers_are_g(dtype):
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 2, (3000, 3))
    assert whole(counts.astype(dtype)) == whole(counts.astype(np.float32))


def test_what_was_pushed_is_left_as_it_was():
    xyz = NIGHT.copy()
    whole(xyz)
    np.testing.assert_array_equal(xyz, NIGHT)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((5, 2)),
        np.zeros((5, 4)),
        np.zeros((2, 5, 3)),
        np.zeros(4),
        np.float32(1.0),
        np.zeros((3, 3), complex),
        np.array([["a", "b", "c"]]),
        "1,2,3",
        [[None, None, None]],
        None,
        np.zeros((3, 3), "M8[s]"),
        [[1.0, 2.0, 3.0], [1.0, 2.0]],
    ],
    ids=lambda wrong: str(np.shape(wrong)) if isinstance(wrong, np.ndarray) else repr(wrong),
)
def test_what_is_no_acceleration_is_refused(wrong):
    detector = Detector(100.0)
    detector.push(quiet(1, 100.0))
    before = detector.state()
    with pytest.raises(DataError) as error:
        detector.push(wrong)
    assert "\n" not in str(error.value)
    assert detector.state() == before


@pytest.mark.parametrize("empty", [[], np.zeros((0, 3)), np.zeros((0, 3), ">i2")])
def test_nothing_is_a_chunk_too(empty):
    detector = Detector(100.0)
    assert len(detector.push(empty)) == 0
    assert detector.index == 0


@pytest.mark.parametrize("rate", [25, 25.0, 99.7, 1000, "100", np.float32(64)])
def test_rates_that_are_supported(rate):
    detector = Detector(rate)
    assert detector.rate == float(rate)
    assert len(detector.push(quiet(2, 50.0))) == 0


@pytest.mark.parametrize("rate", [24.9, 0, -100, 1000.1, math.nan, math.inf, "fast", None, 1j])
def test_rates_that_are_not(rate):
    with pytest.raises(UsageError, match="rate"):
        Detector(rate)


def test_unknown_site():
    with pytest.raises(UsageError, match="site 'ankle' is unknown: use wrist or mattress"):
        Detector(100.0, "ankle")


# Hostile input


def hostile(rate: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    n = round(20 * rate)
    mixed = rng.normal(0, 1, (n, 3))
    mixed[rng.random((n, 3)) < 0.2] = np.nan
    mixed[rng.random((n, 3)) < 0.05] = np.inf
    return {
        "nan": np.full((n, 3), np.nan),
        "inf": np.full((n, 3), np.inf),
        "minus inf": np.full((n, 3), -np.inf),
        "one nan axis": np.column_stack([np.full(n, np.nan), np.zeros(n), np.ones(n)]),
        "mixed": mixed,
        "flat": np.ones((n, 3)),
        "zero": np.zeros((n, 3)),
        "minus zero": np.full((n, 3), -0.0),
        "tiny": np.full((n, 3), 1e-45) * rng.integers(0, 2, (n, 3)),
        "saturated": np.where(rng.random((n, 3)) < 0.5, -16.0, 16.0),
        "largest": np.where(rng.random((n, 3)) < 0.5, -64.0, 64.0),
        "huge": np.full((n, 3), 3e38),
        "beyond float32": np.full((n, 3), 1e300),
        "spikes": np.where(rng.random((n, 1)) < 0.01, 60.0, POSTURE),
        "one sample": np.full((1, 3), 64.0),
        "nothing": np.empty((0, 3)),
    }


@pytest.mark.parametrize("site", ["wrist", "mattress"])
@pytest.mark.parametrize("rate", [25.0, 100.0])
@pytest.mark.parametrize("kind", list(hostile(25.0)))
def test_hostile_input_leaves_no_trace(kind, rate, site):
    detector = Detector(rate, site)
    detector.push_rows(quiet(20, rate))
    for row in table(b"".join(detector.push_rows(hostile(rate)[kind]).tobytes() for _ in range(2))):
        assert np.isfinite(row[[at.R_PEAK, at.R_PROMINENCE, at.R_T90, at.R_SCORE, at.R_ANGLE]]).all()
    detector.gap(round(rate))
    xyz = quiet(60, rate)
    start = round(50 * rate)
    add_jerk(xyz, start, rate)
    start += detector.index
    rows = np.concatenate([detector.push_rows(xyz), detector.flush_rows()])
    found = rows[(rows[:, at.R_REVISION] == 1) & (rows[:, at.R_ONSET] > start - 5 * rate)]
    assert found[:, at.R_ONSET] == pytest.approx([start], abs=0.1 * rate)
    assert found[0, at.R_PEAK] == pytest.approx(0.25, abs=0.15)
    counts = detector.counts
    assert counts["received"] + counts["missing"] == detector.index
    assert np.isfinite(detector._floats[: at.SCALARS]).all()


def test_a_jerk_is_found_where_it_is():
    for rate in (25.0, 50.0, 100.0, 400.0, 1000.0):
        xyz = quiet(30, rate)
        add_jerk(xyz, round(20 * rate), rate)
        events = detect(xyz, rate)
        assert events["onset"] == pytest.approx([20.0], abs=0.06)


# Counts


@settings(max_examples=60)
@given(pieces, st.integers(0, 3000))
def test_counts_add_up(pieces, gap):
    xyz = pieces.xyz(25.0)
    detector = Detector(25.0)
    for chunk in np.array_split(xyz, 5):
        detector.push_rows(chunk)
        detector.gap(gap)
        counts = detector.counts
        assert counts["received"] + counts["missing"] == detector.index
        assert counts["invalid"] + counts["stuck"] <= counts["missing"]
    detector.flush_rows()
    assert detector.index == len(xyz) + 5 * gap
    with np.errstate(invalid="ignore"):
        assert detector.counts["invalid"] == int((~(np.abs(xyz) <= 64).all(axis=1)).sum())
    counts = detector.counts
    assert counts["missing"] == counts["invalid"] + counts["stuck"] + 5 * gap


def test_held_samples_are_counted_and_not_used():
    xyz = quiet(60, 100.0)
    xyz[3000:4000] = xyz[3000]
    detector = Detector(100.0)
    assert len(table(run(detector, xyz))) == 0
    assert 900 <= detector.counts["stuck"] < 1000


def test_a_coarse_sensor_is_not_a_stuck_one():
    level = np.float32([6 / 64, 22 / 64, 60 / 64])
    xyz = level + np.round((quiet(300, 32.0, sigma=0.003) - np.float32(POSTURE)) * 64) / np.float32(64)
    assert (np.diff(xyz, axis=0) == 0).all(axis=1).mean() > 0.5
    detector = Detector(32.0)
    assert len(table(run(detector, xyz))) == 0
    assert detector.counts["stuck"] == 0


# Rows


def test_rows_of_an_event_come_in_order():
    rows = table(whole(night(20.0, 50.0, seed=21)))
    assert (np.diff(rows[:, at.R_EMITTED]) >= 0).all()
    last_end = 0.0
    ids = rows[:, at.R_ID].astype(int)
    assert sorted(set(ids)) == list(range(ids.max() + 1))
    for number in range(ids.max() + 1):
        own = rows[ids == number]
        assert own[:, at.R_REVISION].tolist() == list(range(len(own)))
        assert len(own) >= 2
        # Only what is known later may change: the provisional row comes while the event may yet go on.
        assert len(np.unique(own[:, [at.R_ONSET, at.R_QUIET, at.R_REST, at.R_NOISE]], axis=0)) == 1
        assert (
            len(np.unique(own[1:, [at.R_END, at.R_PEAK, at.R_T90, at.R_PROMINENCE, at.R_AFTER]], axis=0)) == 1
        )
        assert (
            own[0, [at.R_END, at.R_PEAK, at.R_BURSTS]] <= own[1, [at.R_END, at.R_PEAK, at.R_BURSTS]]
        ).all()
        assert last_end <= own[0, at.R_ONSET] < own[0, at.R_END] <= own[0, at.R_EMITTED] + 1
        last_end = own[1, at.R_END]


def test_rows_are_prompt():
    s = Settings()
    rate = 50.0
    rows = table(whole(night(20.0, rate, seed=22)))
    rows = rows[rows[:, at.R_CUT] == 0]
    late = (rows[:, at.R_EMITTED] - rows[:, at.R_END]) / rate
    first = rows[:, at.R_REVISION] == 0
    assert late[first] == pytest.approx(s.early, abs=1.5 / rate)
    assert late[rows[:, at.R_REVISION] == 1] == pytest.approx(s.final_delay, abs=1 / rate)


@pytest.mark.parametrize("rate", [25.0, 100.0, 400.0])
def test_a_provisional_row_comes_early_and_once(rate):
    s = Settings()
    xyz = quiet(40, rate)
    add_jerk(xyz, round(20 * rate), rate)
    # A second burst while the event is still open but its row is out.
    alone = Detector(rate).push_rows(xyz)[0]
    again = int(alone[at.R_EMITTED]) + 1
    add_jerk(xyz, again, rate, peak=0.8, hz=6.0)
    detector = Detector(rate)
    rows = np.concatenate([detector.push_rows(sample) for sample in xyz] + [detector.flush_rows()])
    assert rows[:, at.R_ID].tolist() == [0, 0]
    assert rows[:, at.R_REVISION].tolist() == [0, 1]
    assert rows[0].tobytes() == alone.tobytes()
    assert (rows[0, at.R_EMITTED] - rows[0, at.R_END]) / rate == pytest.approx(s.early, abs=1.5 / rate)
    assert rows[0, at.R_ONSET] == rows[1, at.R_ONSET]
    assert rows[0, at.R_END] < again < rows[1, at.R_END]
    assert rows[1, at.R_PEAK] > 1.5 * rows[0, at.R_PEAK]


def test_a_row_that_need_not_wait_comes_when_the_event_closes():
    rate = 50.0
    settings = Settings.from_dict({"early": 1.0, "hang": 0.3})
    rows = table(run(Detector(rate, settings=settings), NIGHT))
    first = (rows[:, at.R_REVISION] == 0) & (rows[:, at.R_CUT] == 0)
    late = (rows[first, at.R_EMITTED] - rows[first, at.R_END] + 1) / rate
    assert late == pytest.approx(settings.hang, abs=1 / rate)


def test_events_that_wait_are_not_lost_where_many_follow_each_other():
    rate = 100.0
    settings = Settings.from_dict(
        {"hang": 0.05, "early": 0.02, "final_delay": 8.0, "smooth": 0.01, "rearm": 0.1, "release": 1.0}
    )
    xyz = quiet(60, rate)
    for start in range(2000, 5000, 14):
        add_jerk(xyz, start, rate, peak=0.5, decay=0.015, hz=10.0)
    rows = table(run(Detector(rate, settings=settings), xyz))
    ids = rows[:, at.R_ID].astype(int)
    assert ids.max() > 100
    for revision in (0, 1):
        assert ids[rows[:, at.R_REVISION] == revision].tolist() == list(range(ids.max() + 1))
    final = rows[rows[:, at.R_REVISION] == 1]
    waited = final[:, at.R_EMITTED] - final[:, at.R_END]
    # The queue was full: some had to come out before their time.
    assert (waited < settings.final_delay * rate).any()
    assert run(Detector(rate, settings=settings), *np.array_split(xyz, 777)) == rows.tobytes()


def test_table_says_what_the_rows_say():
    detector = Detector(50.0)
    rows = detector.push_rows(NIGHT)
    detector.reset()
    events = detector.push(NIGHT)
    assert events.array.dtype.names == tuple(column.name for column in COLUMNS)
    assert events.meta == {
        "hypnic_version": __import__("hypnic").__version__,
        "rate": 50.0,
        "site": "wrist",
        "settings": Settings.preset("wrist").to_dict(),
    }
    np.testing.assert_array_equal(events["sample"], rows[:, at.R_ONSET])
    np.testing.assert_array_equal(events["onset"], rows[:, at.R_ONSET] / 50.0)
    np.testing.assert_array_equal(events["duration"], (rows[:, at.R_END] - rows[:, at.R_ONSET]) / 50.0)
    for name, column in {
        "score": at.R_SCORE,
        "peak_g": at.R_PEAK,
        "prominence": at.R_PROMINENCE,
        "rise": at.R_RISE,
        "t90": at.R_T90,
        "hf_ratio": at.R_HF,
        "angle_change": at.R_ANGLE,
        "quiet_before": at.R_QUIET,
        "interval": at.R_INTERVAL,
        "id": at.R_ID,
        "revision": at.R_REVISION,
    }.items():
        np.testing.assert_array_equal(events[name], rows[:, column], err_msg=name)
    assert events["rest"].tolist() == [RESTS[int(code)] for code in rows[:, at.R_REST]]
    assert ((events["score"] >= 0) & (events["score"] <= 1)).all()


NO_JERKS = Settings.from_dict({"jerk_score": 1.0})
"""No event is called a jerk, whatever the model has been fitted to."""


def test_movements_in_a_series_are_revised_when_the_fourth_shows():
    rate = 50.0
    xyz = quiet(240, rate)
    for k in range(6):
        add_movement(xyz, round((30 + 25 * k) * rate), rate, 2.0, seed=1)
    detector = Detector(rate, settings=NO_JERKS)
    rows = detector.push(xyz)
    latest = rows.latest()
    assert latest["label"].tolist() == ["plm"] * 6
    assert latest["revision"].tolist() == [2, 2, 2, 1, 1, 1]
    fourth = np.flatnonzero((rows["id"] == 3) & (rows["revision"] == 1))[0]
    assert rows["id"][fourth + 1 : fourth + 4].tolist() == [2, 1, 0]


def test_movements_unlike_each_other_make_no_series():
    rate = 50.0
    xyz = quiet(240, rate)
    for k in range(6):
        add_movement(xyz, round((30 + 25 * k) * rate), rate, 2.0, seed=k, size=(0.1, 0.8)[k % 2])
    rows = Detector(rate, settings=NO_JERKS).push(xyz)
    assert len(rows.latest()) == 6
    assert "plm" not in rows["label"]


def test_a_later_event_shows_how_like_it_an_earlier_one_is():
    rate = 50.0
    xyz = quiet(200, rate)
    for k, seed in enumerate((1, 2, 1, 3)):
        add_movement(xyz, round((30 + 30 * k) * rate), rate, 2.0, seed=seed, size=(0.3, 0.1)[seed == 2])
    detector = Detector(rate)
    rows = np.concatenate([detector.push_rows(xyz), detector.flush_rows()])
    first = detector._floats[at.SERIES : at.SERIES + at.ROW]
    third = detector._floats[at.SERIES + 2 * at.ROW : at.SERIES + 3 * at.ROW]
    assert (first[at.R_ID], third[at.R_ID]) == (0, 2)
    assert third[at.R_PARTNER] == 0
    assert -1.0 < third[at.R_LIKE] == first[at.R_LIKE_LATER] <= 0.0
    finals = rows[rows[:, at.R_REVISION] == 1]
    assert (finals[:, at.R_LIKE_LATER] == at.UNLIKE).all()


def recurring(rate: float) -> Samples:
    """Jerks and movements that recur like a series, and others between them."""
    rng = np.random.default_rng(12)
    xyz = quiet(900, rate, sigma=0.002)
    for k, start in enumerate(np.cumsum(rng.uniform(9, 40, 60))):
        place = round(start * rate)
        if place > len(xyz) - 12 * rate:
            break
        if k % 3 == 2:
            add_movement(xyz, place, rate, rng.uniform(1, 9), seed=k, size=rng.uniform(0.05, 0.5))
        elif k % 2:
            add_movement(xyz, place, rate, 2.0, seed=5, size=rng.uniform(0.2, 0.3))
        else:
            add_jerk(xyz, place, rate, peak=rng.uniform(0.2, 0.3), decay=0.3)
    return xyz


RECURRING = recurring(25.0)


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(RECURRING)), max_size=10))
@example(list(range(1, len(RECURRING), 97)))
def test_revisions_are_the_same_for_any_pieces_and_restarts(cuts):
    expected = run(Detector(25.0, "mattress"), RECURRING)
    assert (table(expected)[:, at.R_REVISION] > 1).sum() >= 3
    detector = Detector(25.0, "mattress")
    rows = []
    for chunk in np.split(RECURRING, sorted(cuts)):
        rows.append(detector.push_rows(chunk))
        detector = Detector.from_state(detector.state())
    rows.append(detector.flush_rows())
    assert np.concatenate(rows).tobytes() == expected


# Directions


def tap(direction: tuple[float, float, float], rate: float) -> np.ndarray:
    """Return what an event is called that is one sample long and points in a direction."""
    xyz = quiet(40, rate)
    xyz[round(20 * rate)] += 0.5 * np.float32(direction) / np.float32(np.linalg.norm(direction))
    detector = Detector(rate, settings=NO_JERKS)
    found = np.concatenate([detector.push_rows(xyz), detector.flush_rows()])
    assert found[:, at.R_REVISION].tolist() == [0, 1]
    return np.asarray(LABELS)[found[:, at.R_LABEL].astype(int)]


@pytest.mark.parametrize("rate", [50.0, 100.0, 200.0])
def test_a_spike_on_one_axis_is_of_the_sensor_and_one_from_elsewhere_is_felt(rate):
    for axis in np.eye(3):
        for sign in (-1, 1):
            assert set(tap(tuple(sign * axis), rate)) == {"sensor_artifact"}
    for direction in [(0.8, 0.5, 0.33), (1.0, 0.1, 0.0), (0.0, -1.0, 1.0)]:
        assert set(tap(direction, rate)) == {"impact"}


@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_a_jerk_is_found_across_a_strong_heartbeat(turn):
    rate = 100.0
    rng = np.random.default_rng(3)
    xyz = rng.normal((0.0, 0.0, 1.0), 0.0004, (round(120 * rate), 3))
    heart, across = (np.cos(turn), np.sin(turn), 0.0), (-0.3 * np.sin(turn), 0.3 * np.cos(turn), 0.95)
    t = np.arange(round(0.4 * rate)) / rate
    beat = 0.012 * np.sin(2 * np.pi * 6 * t) * np.exp(-t / 0.1)
    for start in np.arange(0.5, 119.0, 0.9):
        place = round((start + rng.uniform(0, 0.1)) * rate)
        xyz[place : place + len(t)] += np.outer(beat, heart)
    jerk = 0.012 * np.sin(2 * np.pi * 4 * t) * np.exp(-t / 0.1)
    place = round(100.3 * rate)
    xyz[place : place + len(t)] += np.outer(jerk, across)
    weighed = detect(xyz, rate, "mattress")
    alike = detect(
        xyz, rate, settings=Settings.from_dict({"name": "mattress-1", "whiten": 0.0}), site="mattress"
    )
    assert weighed["onset"] == pytest.approx([100.3], abs=0.1)
    assert len(alike) == 0


def test_samples_that_cannot_be_written_to_are_not_compiled_for_anew():
    xyz = quiet(40, 50.0)
    Detector(50.0).push(xyz)
    known = getattr(kernel.run, "signatures", [])[:]
    xyz.flags.writeable = False
    Detector(50.0).push(xyz)
    assert getattr(kernel.run, "signatures", []) == known


# Rest


def test_rest_goes_from_settling_to_still():
    s = Settings()
    detector = Detector(25.0)
    assert detector.rest == "settling"
    detector.push_rows(breathing(s.still + s.window + 60, 25.0))
    bouts = detector.rest_bouts()
    assert [bout["rest"] for bout in bouts] == ["settling", "onset", "still"]
    assert [bout["onset"] for bout in bouts] == pytest.approx([0.0, s.still, s.still + s.window], abs=1.0)
    assert bouts[-1]["onset"] + bouts[-1]["duration"] == pytest.approx(detector.index / 25.0)
    assert detector.rest == "still"


def test_sustained_movement_wakes_and_a_new_window_opens():
    rate = 25.0
    xyz = breathing(900, rate)
    for start in range(10_000, 12_500, 250):
        add_movement(xyz, start, rate, 5.0, seed=start)
    detector = Detector(rate, settings=NO_JERKS)
    detector.push_rows(xyz)
    assert [bout["rest"] for bout in detector.rest_bouts()] == [
        "settling",
        "onset",
        "awake",
        "settling",
        "onset",
    ]


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_movement_of_late_opens_the_window_again_where_no_waking_was_seen(site):
    rate, stirring = 25.0, 3600.0
    xyz = breathing(stirring + 2400, rate)
    for k, seconds in enumerate((3.0, 2.0, 3.0, 2.0)):
        add_movement(xyz, round((stirring + (0, 120, 240, 360)[k]) * rate), rate, seconds, seed=k)
    detector = Detector(
        rate, settings=Settings.from_dict({"name": f"{site}-1", "jerk_score": 1.0}), site=site
    )
    detector.push_rows(xyz)
    bouts = detector.rest_bouts()
    assert [bout["rest"] for bout in bouts] == ["settling", "onset", "still", "onset", "still"]
    assert stirring < bouts[3]["onset"] < stirring + 600
    assert 300 < bouts[3]["duration"] < 1800


@pytest.mark.parametrize(("site", "seconds"), [("wrist", 3.0), ("mattress", 1.2)])
def test_one_short_movement_of_one_who_sleeps_opens_no_window(site, seconds):
    rate, stirring = 25.0, 3600.0
    xyz = breathing(stirring + 900, rate)
    add_movement(xyz, round(stirring * rate), rate, seconds)
    detector = Detector(
        rate, settings=Settings.from_dict({"name": f"{site}-1", "jerk_score": 1.0}), site=site
    )
    detector.push_rows(xyz)
    assert [bout["rest"] for bout in detector.rest_bouts()] == ["settling", "onset", "still"]


@pytest.mark.parametrize(("lost", "rest"), [(590.0, "onset"), (610.0, "settling")])
def test_after_a_long_loss_nothing_is_known_of_rest(lost, rest):
    detector = Detector(25.0)
    detector.push_rows(breathing(400, 25.0))
    assert detector.rest == "onset"
    detector.gap(round(lost * 25))
    detector.push_rows(breathing(10, 25.0))
    assert detector.rest == rest


@pytest.mark.parametrize("rate", [25.0, 50.0, 104.0, 200.0])
@pytest.mark.parametrize("sigma", [0.0005, 0.002, 0.005])
@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_a_sensor_on_a_table_is_off_and_one_on_a_body_is_not(rate, sigma, site):
    table_top, body = Detector(rate, site), Detector(rate, site)
    step = np.float32(1 / 2048)
    for minute in range(9):
        table_top.push_rows(np.round(quiet(60, rate, minute, sigma) / step) * step)
        body.push_rows(np.round(breathing(60, rate, minute, sigma) / step) * step)
    bouts = table_top.rest_bouts()
    # Stillness is declared after the same time: the one or the other may be first.
    assert [bout["rest"] for bout in bouts if bout["duration"] > 10.0] == ["settling", "off"]
    assert bouts[-1]["onset"] == pytest.approx(300.0, abs=10.0)
    assert [bout["rest"] for bout in body.rest_bouts()] == ["settling", "onset"]


def test_a_loss_now_and_then_does_not_hide_that_a_sensor_is_off():
    detector = Detector(50.0)
    for piece in range(70):
        detector.push_rows(quiet(7, 50.0, seed=piece))
        detector.gap(10)
    assert detector.rest == "off"


def test_a_coarse_sensor_is_never_called_off_by_its_noise():
    detector = Detector(50.0)
    step = np.float32(1 / 64)
    detector.push_rows(np.round(quiet(500, 50.0, sigma=0.02) / step) * step)
    assert detector.rest == "onset"


def test_who_puts_it_on_is_awake():
    rate = 50.0
    detector = Detector(rate, settings=NO_JERKS)
    detector.push_rows(quiet(400, rate))
    xyz = breathing(60, rate)
    add_movement(xyz, 500, rate, 8.0)
    detector.push_rows(xyz)
    # One movement is no waking, but it ends being off.
    assert [bout["rest"] for bout in detector.rest_bouts()][-3:] == ["off", "awake", "settling"]


def test_a_breath_that_shows_again_ends_being_off_where_it_began():
    rate = 25.0
    detector = Detector(rate)
    detector.push_rows(np.concatenate([quiet(400, rate), breathing(400, rate)]))
    assert [bout["rest"] for bout in detector.rest_bouts()] == ["settling", "onset", "off", "onset"]


def test_what_looks_like_a_jerk_while_off_is_never_hypnic():
    rate = 50.0
    xyz = quiet(420, rate)
    add_jerk(xyz, 20_000, rate)
    every = Settings.from_dict({"jerk_score": 0.0})
    event = detect(xyz, rate, settings=every)
    assert event["rest"].tolist() == ["off"]
    assert event["label"].tolist() == ["isolated_jerk"]


@pytest.mark.parametrize("moving", [False, True])
def test_held_samples_are_off_until_they_change(moving):
    rate = 50.0
    xyz = breathing(400, rate)
    start, stop = round(100 * rate), round(250 * rate)
    if moving:
        add_movement(xyz, start - 150, rate, 6.0)
    xyz[start:stop] = xyz[start]
    for count in (1, 777):
        detector = Detector(rate, settings=NO_JERKS)
        rows = [detector.push_rows(piece) for piece in np.array_split(xyz[: stop - 1], count)]
        assert detector.rest == "off"
        rows += [detector.push_rows(xyz[stop - 1 :]), detector.flush_rows()]
        assert np.concatenate(rows)[:, at.R_CUT].any() == moving
        bouts = detector.rest_bouts()
        assert [bout["rest"] for bout in bouts] == ["settling", "off", "settling"]
        # Some of a hold could be the sensor's own coarseness.
        assert 100.0 <= bouts[1]["onset"] < 110.0
        assert bouts[2]["onset"] == 250.0


def test_held_samples_for_less_than_a_minute_are_only_a_loss():
    detector = Detector(50.0)
    xyz = breathing(200, 50.0)
    xyz[5000:7900] = xyz[5000]
    detector.push_rows(xyz)
    assert detector.counts["stuck"] > 2000
    assert [bout["rest"] for bout in detector.rest_bouts()] == ["settling"]


# State


def test_the_state_does_not_grow():
    detector = Detector(25.0)
    xyz = night(4.0, 25.0, seed=7)
    sizes = set()
    for _ in range(30):
        detector.push_rows(xyz)
        sizes.add((detector._floats.nbytes, detector._integers.nbytes))
    assert len(sizes) == 1
    # Besides the two arrays there are the turns of rest, some tens of bytes each.
    assert len(detector.state()) < sum(sizes.pop()) + 2000 + 40 * len(detector.rest_bouts())


def test_reset_is_a_new_detector():
    detector = Detector(50.0, "mattress")
    detector.push_rows(NIGHT)
    detector.gap(7)
    detector.reset()
    assert detector.state() == Detector(50.0, "mattress").state()
    assert detector.rest_bouts() == []
    assert run(detector, NIGHT) == run(Detector(50.0, "mattress"), NIGHT)


def test_state_keeps_rate_site_and_settings():
    settings = Settings.from_dict({"name": "mattress-1", "on_min": 1.75})
    restored = Detector.from_state(Detector(99.5, "mattress", settings).state())
    assert (restored.rate, restored.site, restored.settings) == (99.5, "mattress", settings)


STATE = Detector(25.0).state()


@settings(max_examples=100)
@given(st.integers(0, len(STATE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position, change):
    damaged = bytearray(STATE)
    damaged[position] ^= change
    with pytest.raises(DataError, match="damaged"):
        Detector.from_state(bytes(damaged))


@pytest.mark.parametrize(
    "damaged", [b"", b"hypnic", STATE[:-1], STATE[:60], STATE + b"\0", STATE[1:], bytes(5000)]
)
def test_damaged_state_is_refused(damaged):
    with pytest.raises(DataError, match="damaged"):
        Detector.from_state(damaged)


def test_state_of_another_layout_is_refused(monkeypatch):
    monkeypatch.setattr(at, "LAYOUT_VERSION", at.LAYOUT_VERSION + 1)
    other = Detector(25.0).state()
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"layout .* start the detector anew"):
        Detector.from_state(other)


# Whole recordings


def test_file_or_array(tmp_path: Path):
    path = tmp_path / "night.h5"
    scale = 1 / 8192
    counts = np.round(np.nan_to_num(NIGHT) / scale).astype(np.int16)
    xyz = (counts * scale).astype(np.float32)
    with Recorder(path, 50.0, "wrist", scale=scale, durable=False) as recorder:
        recorder.write(Chunk(xyz[:4000], 0))
        recorder.write(Chunk(xyz[4000:7000], 4000))
        recorder.write(Chunk(xyz[7500:], 7500, missing=500))
    gapped = xyz.copy()
    gapped[7000:7500] = np.nan
    with Recording(path) as recording:
        from_file = detect(recording)
    from_array = detect(gapped, rate=50.0)
    assert len(from_file) >= 8
    assert from_file.array.tobytes() == from_array.array.tobytes()
    told = from_array.meta["counts"]
    assert from_file.meta["counts"] == {**told, "invalid": 0}


@pytest.mark.parametrize("block", [1, 77, 100_000])
def test_detect_is_the_last_revision_of_each_event(block):
    detector = Detector(50.0)
    events = detector.push(NIGHT[:4000])
    rows = events.concat([events, detector.push(NIGHT[4000:]), detector.flush()])
    seen = []
    found = detect(ArraySource(NIGHT, 50.0, block=block), progress=seen.append)
    assert found.array.tobytes() == rows.latest().array.tobytes()
    assert found.meta["counts"] == detector.counts
    assert found.meta["rest"] == detector.rest_bouts()
    assert seen[-1] == len(NIGHT)
    assert seen == sorted(seen)
    json.dumps(found.meta)


def test_detect_takes_site_and_settings():
    xyz = quiet(60, 50.0)
    add_jerk(xyz, 2000, 50.0, peak=0.012)
    assert len(detect(xyz, 50.0)) == 0
    assert len(detect(xyz, 50.0, site="mattress")) == 1
    assert len(detect(xyz, 50.0, settings=Settings.from_dict({"floor_g": 0.001}))) == 1
    assert len(detect(ArraySource(xyz, 50.0, "mattress"))) == 1
    assert len(detect(ArraySource(xyz, 50.0, "mattress"), site="wrist")) == 0


def test_detect_needs_a_rate_and_enough_samples():
    with pytest.raises(UsageError, match="needs its rate"):
        detect(NIGHT)
    with pytest.raises(DataError, match="6 s are needed"):
        detect(NIGHT[:300], 50.0)
    with pytest.raises(DataError, match="usable"):
        detect(np.full((10_000, 3), np.nan), 50.0)
    assert len(detect(quiet(6.1, 50.0), 50.0)) == 0


def test_real_recordings_in_any_pieces(recordings: Path):
    counts = np.loadtxt(recordings / "stress_predict_e4_32hz" / "S05_ACC.csv", delimiter=",", skiprows=2)
    xyz = (counts / 64).astype(np.float32)
    rows = whole(xyz, 32.0)
    assert len(table(rows)) > 100
    assert run(Detector(32.0), *np.array_split(xyz, 501)) == rows
