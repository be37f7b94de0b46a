"""A second sensor: what is seen first or stronger there is no jerk, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypnic import layout as at
from hypnic.chunk import ArraySource, Chunk
from hypnic.detector import Detector, detect
from hypnic.errors import DataError, UsageError
from hypnic.events import JERKS, LABELS, Events
from hypnic.reference import MOST_SCORE, Aligned
from hypnic.settings import Settings
from hypnic.simulate import Faults, Sleeper
from tests.naive import compare as naive
from tests.signals import Samples, add_jerk, night, pieces, quiet

RATE = 100.0
JERK = 1500
"""Sample of the jerk of `jerk_night`."""


EVERY = Settings.from_dict({"jerk_score": 0.0})
"""Every event is called a jerk, whatever the model has been fitted to."""


def jerk_night(ratio: float, lead: int, hz: float = 4.0, decay: float = 0.1) -> tuple[Samples, Samples]:
    """20 s with one jerk of 0.2 g, which a reference feels `ratio` times as strongly, `lead` samples earlier."""
    xyz, other = quiet(20, RATE, seed=1), quiet(20, RATE, seed=2)
    add_jerk(xyz, JERK, RATE, peak=0.2, hz=hz, decay=decay)
    add_jerk(other, JERK - lead, RATE, peak=0.2 * ratio, hz=hz, decay=decay)
    return xyz, other


def long_night() -> tuple[Samples, Samples]:
    """Three minutes with events of which a reference feels some first, some more, some not, with losses."""
    xyz, other = night(3.0, RATE, seed=4), night(3.0, RATE, seed=5)
    for k, start in enumerate(range(1500, 17000, 700)):
        add_jerk(xyz, start, RATE, 0.3, 0.08)
        add_jerk(other, start - (k % 5 - 2) * 2, RATE, 0.3 * (0.1, 0.5, 2.0)[k % 3], 0.08)
    xyz[3000:3003] = np.nan
    xyz[9000:9600] = np.nan
    other[5005:5200] = np.nan
    other[7000:7002] = np.nan
    return xyz, other


NIGHT, OTHER = long_night()


def pushed(detector: Detector, *chunks: tuple[Samples, Samples | None]) -> np.ndarray:
    rows = [detector.push_rows(*chunk) for chunk in chunks]
    return np.concatenate([*rows, detector.flush_rows()])


def whole(
    xyz: Samples, other: Samples | None = None, place: str = "bed", settings: Settings | None = None
) -> np.ndarray:
    return pushed(Detector(RATE, settings=settings, reference=place), (xyz, other))


def labels(rows: np.ndarray) -> set[str]:
    return {LABELS[int(code)] for code in rows[:, at.R_LABEL]}


def others(rows: np.ndarray) -> bytes:
    """Everything but label and score."""
    rest = rows.copy()
    rest[:, [at.R_LABEL, at.R_SCORE]] = 0.0
    return rest.tobytes()


# What is a jerk and what is not


def test_a_jerk_that_the_bed_feels_less_and_later_stays_one():
    xyz, other = jerk_night(0.3, -3)
    rows = whole(xyz, other, settings=EVERY)
    assert rows.tobytes() == pushed(Detector(RATE, settings=EVERY), (xyz, None)).tobytes()
    assert labels(rows) <= set(JERKS)
    assert len(rows) == 2


@pytest.mark.parametrize(("ratio", "lead"), [(1.5, 0), (1.5, 3), (0.5, 2), (0.5, 5), (0.9, 3), (8.0, -3)])
def test_what_the_bed_feels_first_or_more_is_movement(ratio, lead):
    xyz, other = jerk_night(ratio, lead)
    rows = whole(xyz, other)
    assert labels(rows) == {"movement"}
    assert (rows[:, at.R_SCORE] <= MOST_SCORE * Settings().jerk_score).all()
    assert others(rows) == others(pushed(Detector(RATE), (xyz, None)))


def test_what_is_short_besides_is_an_impact():
    short = Settings.preset("wrist")
    plain = jerk_night(3.0, 1)
    rows = pushed(Detector(RATE, "wrist", short, reference=True), plain)
    assert labels(rows) == {"movement"}
    longer = Settings.from_dict({**short.to_dict(), "impact_t90": 0.5})
    assert labels(pushed(Detector(RATE, "wrist", longer, reference=True), plain)) == {"impact"}


def test_a_limb_may_begin_and_be_as_strong():
    assert labels(whole(*jerk_night(1.5, 3), "limb", EVERY)) <= set(JERKS)
    assert labels(whole(*jerk_night(3.0, -3), "limb")) == {"movement"}


def test_a_limb_takes_back_jerks_alone():
    xyz, other = quiet(60, RATE, seed=1), quiet(60, RATE, seed=2)
    xyz[3000:] += np.float32((0.5, -0.3, 0.0))
    other[3000:] += np.float32((2.5, -1.3, 0.0))
    plain = pushed(Detector(RATE), (xyz, None))
    assert labels(plain) == {"posture_shift"}
    assert labels(whole(xyz, other, "limb")) == {"posture_shift"}
    assert labels(whole(xyz, other, "bed")) <= {"movement", "impact"}


def test_faint_noise_of_the_reference_says_nothing():
    xyz, other = jerk_night(0.0, 0)
    other += np.random.default_rng(3).normal(0, 0.05, other.shape).astype(np.float32)
    assert labels(whole(xyz, other, settings=EVERY)) <= set(JERKS)


def test_every_row_of_an_event_keeps_to_the_first():
    """What the reference feels after an event's first row changes no later row."""
    xyz, other = jerk_night(0.3, -3)
    first = int(pushed(Detector(RATE), (xyz, None))[0, at.R_EMITTED])
    other[first:] += np.float32(5.0) * np.sin(np.arange(len(other) - first) / 4)[:, np.newaxis].astype("f4")
    assert labels(whole(xyz, other, settings=EVERY)) <= set(JERKS)


def test_rest_does_not_depend_on_it():
    with_it, without = Detector(RATE, reference=True), Detector(RATE)
    rows = pushed(with_it, (NIGHT, OTHER))
    plain = pushed(without, (NIGHT, None))
    assert others(rows) == others(plain)
    assert rows.tobytes() != plain.tobytes()
    assert with_it.rest_bouts() == without.rest_bouts()
    assert with_it.counts == without.counts
    assert with_it.meta == {**without.meta, "reference": "bed"}


# Any chunking, any restart, losses


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(NIGHT)), max_size=12))
def test_every_partition_and_every_restart_give_the_same_rows(cuts):
    detector = Detector(RATE, reference=True)
    rows = []
    for chunk, other in zip(np.split(NIGHT, sorted(cuts)), np.split(OTHER, sorted(cuts)), strict=True):
        rows.append(detector.push_rows(chunk, other))
        state = detector.state()
        detector = Detector.from_state(state)
        assert detector.state() == state
    rows.append(detector.flush_rows())
    assert np.concatenate(rows).tobytes() == whole(NIGHT, OTHER).tobytes()


def test_single_samples_give_the_same_rows():
    xyz, other = NIGHT[1000:4500], OTHER[1000:4500]
    rows = pushed(Detector(RATE, reference=True), *zip(xyz, other, strict=True))
    assert rows.tobytes() == whole(xyz, other).tobytes()


@settings(max_examples=40)
@given(pieces, pieces, st.data())
def test_any_two_signals_any_partition_any_restart(here, there, data):
    xyz, other = here.xyz(25.0), there.xyz(25.0)
    n = min(len(xyz), len(other))
    xyz, other = xyz[:n], other[:n]
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    expected = pushed(Detector(25.0, reference=True), (xyz, other))
    detector = Detector(25.0, reference=True)
    got = []
    for chunk, beside in zip(np.split(xyz, cuts), np.split(other, cuts), strict=True):
        got.append(detector.push_rows(chunk, beside))
        detector = Detector.from_state(detector.state())
    got.append(detector.flush_rows())
    assert np.concatenate(got).tobytes() == expected.tobytes()
    assert others(expected) == others(pushed(Detector(25.0), (xyz, None)))


@settings(max_examples=30)
@given(st.integers(0, 17000), st.integers(0, 3000), st.integers(0, 3000))
def test_a_gap_is_of_both_and_may_be_told_in_parts_or_as_nan(start, first, second):
    def told(*gaps: int) -> bytes:
        detector = Detector(RATE, reference=True)
        rows = [detector.push_rows(NIGHT[:start], OTHER[:start])]
        for gap in gaps:
            detector.gap(gap)
        rows += [detector.push_rows(NIGHT[start:], OTHER[start:]), detector.flush_rows()]
        return np.concatenate(rows).tobytes()

    lost = np.full((first + second, 3), np.nan, np.float32)
    loud = np.full((first + second, 3), 3.0, np.float32)
    xyz = np.concatenate([NIGHT[:start], lost, NIGHT[start:]])
    other = np.concatenate([OTHER[:start], loud, OTHER[start:]])
    assert told(first, second) == told(first + second) == whole(xyz, other).tobytes()


def test_a_reference_that_is_unknown_changes_nothing():
    plain = pushed(Detector(RATE), (NIGHT, None)).tobytes()
    unknown = np.full_like(OTHER, np.nan)
    assert whole(NIGHT, unknown).tobytes() == plain
    assert whole(NIGHT, None).tobytes() == plain
    assert whole(NIGHT, np.zeros_like(OTHER)).tobytes() == plain


@pytest.mark.parametrize(("lost", "known"), [(slice(JERK - 40, JERK + 200), 0), (slice(0, 1300), 1)])
def test_an_unknown_part_is_never_filled_in(lost, known):
    xyz, other = jerk_night(3.0, 2)
    other[lost] = np.nan
    assert labels(whole(xyz, other)) == ({"movement"} if known else labels(whole(xyz)))


def test_a_reference_that_turns_while_unknown_makes_nothing():
    """A step between what is known before and after is no movement of the reference."""
    xyz, other = jerk_night(0.0, 0)
    other[1300:1350] = np.nan
    other[1350:] += np.float32(1.0)
    assert labels(whole(xyz, other, settings=EVERY)) <= set(JERKS)


def test_a_detector_starts_over():
    detector = Detector(RATE, reference=True)
    first = pushed(detector, (NIGHT, OTHER)).tobytes()
    detector.reset()
    assert pushed(detector, (NIGHT, OTHER)).tobytes() == first


def test_after_the_end_of_a_segment_the_filters_begin_anew():
    detector = Detector(RATE, settings=EVERY, reference=True)
    detector.push_rows(*jerk_night(3.0, 2))
    detector.flush_rows()
    xyz, other = jerk_night(0.3, -3)
    rows = pushed(detector, (xyz, other + np.float32(1.0)))
    assert labels(rows) <= set(JERKS)


# The slow twin


@pytest.mark.parametrize("seed", range(6))
def test_it_says_what_its_slow_twin_says(seed):
    rate, place = (50.0, 100.0, 25.0)[seed % 3], ("bed", "limb")[seed % 2]
    site, placement = (
        ("wrist", "limb") if place == "limb" else ("mattress", ("frame", "partner")[seed % 4 // 2])
    )
    faults = Faults(gap_rate=20, drops=0.004, spike_rate=20) if seed > 2 else False
    sleeper = Sleeper(
        site, 0.8, rate, (2, 12, 30, 6, 51, 10)[seed], sensor="LSM6DSOX", faults=faults, reference=placement
    )
    xyz, other = sleeper.xyz(), sleeper.reference.xyz()
    if faults:
        other[np.random.default_rng(seed).random(len(other)) < 0.0005] = np.nan
    s = Settings.preset(site)
    used = naive.received(xyz, s)
    here = naive.course(xyz, used, rate, s)
    there = naive.course(other, used & naive.received(other, s), rate, s)
    plain = pushed(Detector(rate, site), (xyz, None))
    expected = {}
    for row in plain[plain[:, at.R_REVISION] == 0]:
        event = row[at.R_ONSET], min(row[at.R_END], row[at.R_EMITTED])
        expected[row[at.R_ID]] = naive.verdict(here, there, used, rate, place, event)
    assert len(set(expected.values())) > 1
    rows = pushed(Detector(rate, site, reference=place), (xyz, other))
    spoken = {row[at.R_ID]: row[at.R_SCORE] < old[at.R_SCORE] for row, old in zip(rows, plain, strict=True)}
    assert spoken == {event: said != naive.NOTHING for event, said in expected.items()}


# Whole recordings


def test_two_recordings_side_by_side():
    events = detect(
        ArraySource(NIGHT, RATE, block=777), reference=ArraySource(OTHER, RATE, "mattress", block=1000)
    )
    final = detect(NIGHT, RATE, reference=OTHER)
    assert events.array.tobytes() == final.array.tobytes()
    assert events.meta["reference"] == "bed"
    rows = whole(NIGHT, OTHER)
    assert len(events) == len(set(rows[:, at.R_ID]))
    assert detect(NIGHT, RATE, reference=OTHER, place="limb").meta["reference"] == "limb"
    assert detect(NIGHT, RATE, reference=ArraySource(OTHER, RATE, "wrist")).meta["reference"] == "limb"


@pytest.mark.parametrize("late", [-700, 0, 3, 1200])
def test_two_recordings_go_together_by_their_start_times(late):
    """A reference that began `late` samples after the recording is unknown before, and beside it afterwards."""
    padded = (
        np.concatenate([np.full((700, 3), np.nan, np.float32), OTHER])[700 + late :]
        if late < 0
        else OTHER[late:]
    )
    if late < 0:
        padded = np.concatenate([quiet(-late / RATE, RATE), OTHER])
    start = 1e9
    reference = ArraySource(padded, RATE, "mattress", time=start + late / RATE + 0.002, block=500)
    expected = OTHER.copy()
    expected[: max(late, 0)] = np.nan
    found = detect(ArraySource(NIGHT, RATE, time=start, block=900), reference=reference)
    beside = detect(ArraySource(NIGHT, RATE), reference=expected)
    assert found.array.tobytes() == beside.array.tobytes()


def test_gaps_of_a_reference_are_unknown_samples():
    class Holed(ArraySource):
        def __iter__(self) -> Iterator[Chunk]:
            yield Chunk(self.xyz[:100], 0)
            yield Chunk(self.xyz[150:400], 150, missing=50)
            yield Chunk(self.xyz[400:900], 400)

    numbers = np.repeat(np.arange(900.0)[:, np.newaxis], 3, axis=1)
    aligned = Aligned(Holed(numbers, RATE, "mattress"), RATE)
    parts = [
        aligned.beside(Chunk(numbers[a:b].astype("f4"), a))
        for a, b in ((0, 120), (130, 131), (140, 700), (700, 1000))
    ]
    assert np.isnan(parts[0][100:]).all()
    assert np.isnan(parts[1]).all()
    got = np.concatenate([parts[0][:100], parts[2], parts[3]])[:, 0]
    want = np.r_[0:100, np.full(10, np.nan), 150:900]
    np.testing.assert_array_equal(got, want)
    assert aligned.overlap == 850


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match=r"50 Hz.*100 Hz"):
        detect(NIGHT, RATE, reference=ArraySource(OTHER, 50.0))
    with pytest.raises(DataError, match="time of the recording"):
        detect(ArraySource(NIGHT, RATE, time=0.0), reference=ArraySource(OTHER, RATE, "mattress", time=1e6))
    with pytest.raises(UsageError, match="none was given"):
        detect(NIGHT, RATE, place="bed")
    with pytest.raises(UsageError, match="'roof'"):
        Detector(RATE, reference="roof")
    with pytest.raises(UsageError, match="mattress"):
        Detector(RATE, "mattress", reference="limb")
    with pytest.raises(UsageError, match="reference=True"):
        Detector(RATE).push(NIGHT, OTHER)
    with pytest.raises(DataError, match="9 samples of the reference to 10"):
        Detector(RATE, reference=True).push(NIGHT[:10], OTHER[:9])
    with pytest.raises(DataError, match="not \\(n, 3\\)"):
        Detector(RATE, reference=True).push(NIGHT[:10], OTHER[:10, :2])


def test_state_of_another_layout_is_refused(monkeypatch):
    state = Detector(RATE, reference=True).state()
    monkeypatch.setattr("hypnic.compare.LAYOUT_VERSION", 99)
    with pytest.raises(DataError, match="reference has another layout"):
        Detector.from_state(state)


@pytest.mark.parametrize(("placement", "least"), [("partner", 0.9), ("frame", 0.5)])
def test_a_simulated_partner_is_told_from_the_sleeper(placement, least):
    sleeper = Sleeper("mattress", 4, 50, 3, sensor="LSM6DSOX", faults=False, reference=placement)
    plain, found = detect(sleeper), detect(sleeper, reference=sleeper.reference)
    assert others_of(plain) == others_of(found)
    spoken = found["score"] < plain["score"]
    of_partner, of_sleeper = [], []
    for row in sleeper.truth:
        near = np.abs(found["onset"] - row["onset"]) < 0.3
        if row["kind"].startswith("partner") and near.any():
            of_partner.append(spoken[near].all())
        elif row["label"] in JERKS:
            of_sleeper.append(spoken[near].any())
    assert len(of_partner) > 20
    assert np.mean(of_partner) > least
    assert len(of_sleeper) > 5
    assert not any(of_sleeper)
    assert set(found["label"][spoken].tolist()) <= {"movement", "impact"}


def others_of(events: Events) -> bytes:
    table = events.array.copy()
    table["label"], table["score"] = "", 0.0
    return table.tobytes()
