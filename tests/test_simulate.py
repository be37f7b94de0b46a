"""Simulated nights: the same bytes always, truth where the signal is, and shapes as the model promises."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from hypnic.chunk import ArraySource, Source
from hypnic.errors import DataError, UsageError
from hypnic.events import JERKS, LABELS
from hypnic.recording import Recording
from hypnic.simulate import SENSORS, TRUTH_DTYPE, Faults, Sleeper, inject, write
from hypnic.simulate.kinds import KINDS, Spec, Stage, render
from hypnic.simulate.mechanics import STANDARD_GRAVITY, Grid, Scene, felt, second_order, smooth_step
from hypnic.simulate.population import DISTRIBUTIONS, STRATA, Draws, jerk_peak, stratified
from hypnic.simulate.reference import _Ways
from hypnic.simulate.timeline import plan

RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
BED = ((5.0, 0.15), (9.0, 0.2))


def draws(seed: int, population: str = "wide") -> Draws:
    return Draws(np.random.default_rng(seed), population)


def digest(sleeper: Sleeper) -> str:
    return hashlib.sha256(sleeper.xyz().tobytes() + sleeper.truth.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def faulty() -> Sleeper:
    """A short night in which everything fails."""
    faults = Faults(gap_rate=30, drops=0.005, stuck_rate=10, saturation_rate=10, spike_rate=40)
    return Sleeper("wrist", 0.7, 50, 5, sensor="LSM6DS33", faults=faults, jerks=6)


@pytest.fixture(scope="module")
def clean() -> Sleeper:
    """A night with hardly any noise, on a sensor without faults."""
    return Sleeper("wrist", 3.0, 100, 8, sensor="ADXL355", faults=False, jerks=25)


# the source


def test_it_is_a_source_of_chunks_without_holes(faulty: Sleeper) -> None:
    assert isinstance(faulty, Source)
    xyz = faulty.xyz()
    assert xyz.shape == (faulty.samples, 3) == (126000, 3)
    expected = 0
    for chunk in faulty:
        assert chunk.xyz.dtype == np.float32
        assert len(chunk)
        assert chunk.index == expected + chunk.missing
        assert chunk.time == pytest.approx(faulty.start_time + chunk.index / 50, abs=1e-6)
        assert np.isnan(xyz[expected : chunk.index]).all()
        np.testing.assert_array_equal(chunk.xyz, xyz[chunk.index : chunk.index + len(chunk)])
        expected = chunk.index + len(chunk)
    assert np.isnan(xyz[expected:]).all()


@settings(max_examples=6, deadline=None)
@given(size=st.integers(1, 20000))
def test_reading_in_other_pieces_gives_the_same_samples(faulty: Sleeper, size: int) -> None:
    if size < 50:
        size *= 997
    out = np.full((faulty.samples, 3), np.nan, np.float32)
    lost = end = 0
    for chunk in faulty.chunks(size):
        assert len(chunk) <= size
        assert chunk.index // size == (chunk.index + len(chunk) - 1) // size
        out[chunk.index : chunk.index + len(chunk)] = chunk.xyz
        lost, end = lost + chunk.missing, chunk.index + len(chunk)
    np.testing.assert_array_equal(out, faulty.xyz())
    assert lost == np.isnan(out[:end, 0]).sum()


def test_the_same_seed_gives_the_same_bytes_in_any_process() -> None:
    code = (
        "import hashlib; from hypnic.simulate import Sleeper; s = Sleeper('mattress', 0.2, 50, 7);"
        "print(hashlib.sha256(s.xyz().tobytes() + s.truth.tobytes()).hexdigest())"
    )
    here = digest(Sleeper("mattress", 0.2, 50, 7))
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": str(Path(__file__).parents[1])}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert there.stdout.strip() == here
    assert digest(Sleeper("mattress", 0.2, 50, 8)) != here


def test_another_rate_samples_the_same_night() -> None:
    slow, fast = (Sleeper("wrist", 1.0, rate, 4, sensor="MPU6050", faults=False) for rate in (25, 100))
    assert slow.truth["kind"].tolist() == fast.truth["kind"].tolist()
    np.testing.assert_allclose(slow.truth["onset"], fast.truth["onset"], atol=1e-6)


def test_playing_keeps_time() -> None:
    now, waits = [100.0], []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    live = Sleeper("wrist", 0.1, 50, 2, faults=False, speed=20.0, clock=lambda: now[0], sleep=wait)
    chunks = iter(live)
    first = [next(chunks) for _ in range(40)]
    assert {len(chunk) for chunk in first} == {5}
    assert now[0] - 100.0 == pytest.approx(40 * 0.1 / 20)
    assert all(wait > 0 for wait in waits)


def test_memory_does_not_grow_with_the_night() -> None:
    sleeper = Sleeper("wrist", 2.0, 200, 3, faults=False, jerks=5)
    tracemalloc.start()
    for _ in sleeper:
        pass
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = sleeper.samples * 3 * 8
    assert used < whole / 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"site": "ankle"}, "site 'ankle'"),
        ({"rate": 10}, "rate 10 Hz"),
        ({"hours": 0}, "hours 0"),
        ({"hours": math.nan}, "hours nan"),
        ({"seed": -1}, "seed -1"),
        ({"jerks": -2}, "jerks -2"),
        ({"speed": 0}, "speed 0"),
        ({"sensor": "abacus"}, "sensor 'abacus'"),
        ({"population": "all"}, "population 'all'"),
        ({"start_time": "yesterday"}, "ISO 8601"),
        ({"start_time": "2024-01-15T22:30:00"}, "no offset"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Sleeper(**{"hours": 0.1, **options})


def test_chunks_of_nothing_are_refused(faulty: Sleeper) -> None:
    with pytest.raises(UsageError, match="size 0"):
        faulty.chunks(0)


# the truth


@pytest.mark.parametrize("site", ["wrist", "mattress"])
@pytest.mark.parametrize("seed", [1, 2])
def test_truth_lies_within_the_recording(site: str, seed: int) -> None:
    sleeper = Sleeper(site, 0.5, 32, seed)
    truth, length = sleeper.truth, sleeper.samples / sleeper.rate
    assert truth.dtype == TRUTH_DTYPE
    assert (np.diff(truth["onset"]) >= 0).all()
    assert (truth["onset"] >= 0).all()
    assert (truth["duration"] > 0).all()
    assert (truth["onset"] + truth["duration"] <= length + 1e-9).all()
    assert set(truth["label"].tolist()) <= set(LABELS)
    assert ((truth["sample"] >= truth["onset"] * 32 - 1e-6) & (truth["sample"] < sleeper.samples)).all()
    for row in truth:
        if row["label"] != "sensor_artifact":
            name, peak = row["source"].split()[:2]
            assert name == f"truth:{row['kind']}"
            assert float(peak.removeprefix("peak_g=")) == pytest.approx(row["peak_g"], rel=1e-3)
    states = sleeper.states
    assert states["onset"][0] == 0
    np.testing.assert_allclose(states["onset"][1:], (states["onset"] + states["duration"])[:-1])
    assert states["onset"][-1] + states["duration"][-1] == pytest.approx(length)
    norm = np.linalg.norm(sleeper.xyz().astype(float), axis=1)
    assert np.nanmedian(norm) == pytest.approx(1.0, abs=0.07)


def test_the_signal_moves_where_the_truth_says(clean: Sleeper) -> None:
    """The sensor's clock is off by far more than a sample an hour, and truth follows it."""
    drift = abs(clean.parameters["sensor.clock"]) * 3600 * clean.rate
    assert drift > 100
    xyz = clean.xyz().astype(float)
    band = sosfiltfilt(butter(2, [1.5, 12], "bandpass", fs=100, output="sos"), xyz, axis=0)
    energy = (band**2).sum(axis=1)
    strong = clean.truth[np.isin(clean.truth["label"], JERKS) & (clean.truth["peak_g"] > 0.1)]
    assert len(strong) >= 8
    for row in strong:
        at = row["sample"]
        assert energy[at : at + 80].sum() > 30 * energy[at - 110 : at - 30].sum()
        assert np.sqrt(energy[at : at + 80].max()) < 1.5 * row["peak_g"]


def test_jerks_are_as_many_as_asked_and_where_they_belong(clean: Sleeper) -> None:
    truth, states = clean.truth, clean.states
    jerks = truth[np.isin(truth["label"], JERKS)]
    assert len(jerks) == 25
    assert {"hypnic_jerk", "isolated_jerk"} == set(jerks["label"].tolist())
    for jerk in jerks:
        state = states[np.searchsorted(states["onset"], jerk["onset"], side="right") - 1]
        where = state["label"].removeprefix("state:")
        assert where in ({"settling", "onset"} if jerk["label"] == "hypnic_jerk" else {"awake", "sleep"})
    assert len(Sleeper("wrist", 0.5, 25, 1, jerks=0, faults=False).truth) > 0


def test_a_jerk_keeps_its_distance_from_other_events() -> None:
    for seed in range(20):
        night, _ = plan(draws(seed), "wrist", 8 * 3600.0, None)
        jerks = [e.onset for e in night.events if e.kind.startswith("jerk")]
        others = [e for e in night.events if not e.kind.startswith("jerk") and e.kind != "arousal"]
        assert 10 <= len(jerks) <= 40
        for onset in jerks:
            assert not [e for e in others if e.onset < onset + 1.9 and e.onset + e.length > onset - 1.9]


def test_a_series_of_periodic_movements_is_one() -> None:
    found = 0
    for seed in range(12):
        night, _ = plan(draws(seed), "wrist", 8 * 3600.0, 10)
        groups: dict[int, list[Spec]] = {}
        for event in night.events:
            if event.kind == "plm":
                groups.setdefault(event.group, []).append(event)
        for members in groups.values():
            found += 1
            assert 4 <= len(members) <= 40
            assert np.diff([e.onset for e in members]).min() >= 10
            assert np.diff([e.onset for e in members]).max() <= 90
            assert all(0.5 <= e.length <= 10 for e in members)
    assert found > 5


def test_every_kind_of_event_happens_and_sleepers_differ() -> None:
    kinds: set[str] = set()
    states: set[str] = set()
    hourly = []
    for seed in range(60):
        night, _ = plan(draws(seed), "wrist", 8 * 3600.0, None)
        kinds |= {event.kind for event in night.events}
        states |= {span.state for span in night.spans}
        hourly.append(sum(not event.kind.startswith("jerk") for event in night.events) / 8)
    assert kinds == set(KINDS)
    assert states == {"awake", "settling", "onset", "sleep", "off_wrist", "out_of_bed"}
    assert 25 < np.mean(hourly) < 45
    assert np.percentile(hourly, 10) < 20
    assert np.percentile(hourly, 90) > 42


# parameters


@given(u=st.floats(0, 1, exclude_max=True))
def test_populations_share_out_the_eighths(u: float) -> None:
    assert stratified(u, "wide") == u
    assert int(stratified(u, "tuning") * STRATA) % 2 == 0
    assert int(stratified(u, "heldout") * STRATA) % 2 == 1


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_no_tuned_value_is_scored_and_both_span_the_range(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert distribution.meaning.endswith(")") or "same" in distribution.meaning
    for parity, population in enumerate(("tuning", "heldout")):
        drawn = draws(1, population)
        quantiles = np.array([distribution.quantile(drawn(name)) for _ in range(200)])
        assert (np.floor(quantiles * STRATA - 1e-9 * (quantiles > 0.5)).astype(int) % 2 == parity).all()
        assert quantiles.min() < 0.25
        assert quantiles.max() > 0.75


def test_a_sleepers_parameters_come_from_its_population() -> None:
    for parity, population in enumerate(("tuning", "heldout")):
        sleeper = Sleeper("wrist", 0.2, 25, 3, population=population, faults=False)
        known = {name: value for name, value in sleeper.parameters.items() if name in DISTRIBUTIONS}
        # The sensor's are worked into what it does, the others stay as drawn.
        drawn = {name: value for name, value in known.items() if not name.startswith("sensor.")}
        assert len(drawn) > 15
        for name, value in drawn.items():
            assert math.floor(DISTRIBUTIONS[name].quantile(value) * STRATA + 1e-9) % 2 == parity, name


# mechanics


def test_a_turning_limb_feels_centripetal_force_and_gravity_turn() -> None:
    rate, speed, radius = 400.0, 2.0, 0.25
    omega = np.tile([0.0, 0.0, speed], (400, 1))
    linear, tilt = felt(
        omega, np.zeros_like(omega), np.array([radius, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]), rate
    )
    np.testing.assert_allclose(linear, np.tile([-(speed**2) * radius / STANDARD_GRAVITY, 0, 0], (400, 1)))
    # After one second the sensor has turned by 2 rad about z, so gravity by -2 rad.
    np.testing.assert_allclose(tilt[-1] + [1, 0, 0], [math.cos(2), -math.sin(2), 0], atol=1e-12)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_turning_agrees_with_one_small_rotation_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    omega, gravity, rate = rng.normal(0, 5, (50, 3)), np.array([0.6, 0.0, 0.8]), 100.0
    _, tilt = felt(omega, np.zeros((50, 3)), np.zeros(3), gravity, rate)
    turned = gravity
    for row, now in zip(omega / rate, tilt, strict=True):
        angle = np.linalg.norm(row)
        axis = row / angle
        turned = (
            turned * math.cos(angle)
            - np.cross(axis, turned) * math.sin(angle)
            + axis * (axis @ turned) * (1 - math.cos(angle))
        )
        np.testing.assert_allclose(gravity + now, turned, atol=1e-10)


def test_a_limb_settles_and_rings_at_its_own_frequency() -> None:
    position, velocity, acceleration = second_order(np.ones(8000), 1000.0, 3.0, 0.1)
    assert position[-1] == pytest.approx(1.0, abs=1e-3)
    assert abs(velocity[-1]) < 0.01
    crossings = np.flatnonzero(np.diff(np.sign(position[:3000] - 1.0)))
    assert np.diff(crossings).mean() * 2 / 1000 == pytest.approx(1 / (3.0 * math.sqrt(1 - 0.01)), rel=0.01)
    np.testing.assert_allclose(np.gradient(velocity, 1e-3)[10:-10], acceleration[10:-10], atol=3.0)


def test_a_smooth_step_is_one() -> None:
    x = np.linspace(-1, 2, 301)
    y = smooth_step(x)
    assert y[0] == 0
    assert y[-1] == 1
    assert (np.diff(y) >= 0).all()


def _event(kind: str, site: str, seed: int, rate: float = 400.0) -> tuple[np.ndarray, Grid, Spec]:
    own = draws(seed)
    where = "mattress" if kind.startswith("partner") else site
    lengths = {
        "brief": "movement.brief",
        "partner": "movement.limb",
        "turn": "movement.turn",
        "plm": "plm.length",
    }
    peaks = {"jerk": jerk_peak(site, "wide"), "plm": f"plm.peak.{site}", "turn": f"turn.peak.{site}"}
    length = own(lengths[kind]) if kind in lengths else 0.0
    peak = own(peaks.get(kind) or f"{'tap' if kind == 'tap' else 'movement'}.peak.{where}")
    spec = Spec(0.0, kind, length, peak)
    grid = Grid(rate)
    motion = render(Stage(spec, Scene(site, BED), grid, np.array([0.0, 0.6, 0.8]), own, own))
    assert np.linalg.norm([0.0, 0.6, 0.8] + motion.tilt[-1]) == pytest.approx(1.0, abs=1e-9)
    if kind == "jerk":
        assert motion.peak == pytest.approx(peak, rel=0.2 if site == "wrist" else 1e-9)
    return motion.dynamic + motion.tilt, grid, spec


def features(rows: np.ndarray, rate: float) -> tuple[float, float, float]:
    """T90 (s), energy above 20 Hz over that of 1.5 to 12 Hz, and seconds from onset to the largest energy."""
    pad = round(3 * rate)
    padded = np.concatenate([np.repeat(rows[:1] * 0, pad, 0), rows, np.repeat(rows[-1:], pad, 0)])
    band = (sosfiltfilt(butter(2, [1.5, 12], "bandpass", fs=rate, output="sos"), padded, axis=0) ** 2).sum(
        axis=1
    )
    high = (sosfiltfilt(butter(4, 20, "high", fs=rate, output="sos"), padded, axis=0) ** 2).sum()
    low, up = np.searchsorted(np.cumsum(band) / band.sum(), [0.05, 0.95])
    return (up - low) / rate, high / band.sum(), (int(np.argmax(band)) - pad) / rate


@pytest.mark.parametrize("site", ["wrist", "mattress"])
def test_events_have_the_features_of_their_kind(site: str) -> None:
    """Medians of T90 near those of the model that the detector was designed on, and in the same order."""
    table = {}
    for kind in ("jerk", "tap", "plm", "turn", "brief"):
        rate = 1600.0 if kind == "tap" else 400.0
        rows = [features(_event(kind, site, seed, rate)[0], rate) for seed in range(60)]
        table[kind] = np.median(rows, axis=0)
    t90, high, rise = ({kind: values[column] for kind, values in table.items()} for column in range(3))
    assert 0.2 < t90["jerk"] < 0.4
    assert 0.1 < rise["jerk"] < 0.3
    assert high["jerk"] < 0.02
    assert t90["tap"] < 0.6 * t90["jerk"]
    assert high["tap"] > 1.0
    assert t90["jerk"] < t90["brief"] < t90["plm"] < t90["turn"]
    assert 1.0 < t90["plm"] < 2.5
    assert 1.5 < t90["turn"] < 4.5


@pytest.mark.parametrize("kind", ["tremor", "rocking"])
def test_a_train_swings_about_its_place(kind: str) -> None:
    gravity = np.array([0.0, 0.6, 0.8])
    reached = []
    for seed in range(12):
        own = draws(seed)
        rhythm = own(f"{kind}.frequency")
        spec = Spec(0.0, kind, 15 / rhythm, 0.03, rhythm=rhythm)
        motion = render(Stage(spec, Scene("wrist", BED), Grid(200.0), gravity, own, own))
        np.testing.assert_allclose(motion.tilt[-1], 0.0, atol=1e-3)
        middle = motion.tilt[len(motion.tilt) // 4 : -len(motion.tilt) // 4]
        # As far to one side as to the other, within what unevenness does.
        assert np.linalg.norm(middle.mean(axis=0)) < 0.25 * np.abs(middle).max()
        reached.append(motion.peak / 0.03)
    assert min(reached) > 0.9
    assert np.median(reached) == pytest.approx(1.0, abs=0.1)


def test_a_partner_reaches_the_wrist_through_the_bed() -> None:
    through = _event("partner", "wrist", 3)[0]
    assert np.abs(through).max() < 0.5
    np.testing.assert_array_equal(through, _event("partner", "mattress", 3)[0])


# the sensor and its faults


def test_a_sensor_at_rest_has_its_own_noise_and_steps() -> None:
    for name, model in SENSORS.items():
        sleeper = Sleeper("mattress", 0.1, 50, 6, sensor=name, faults=False, jerks=0)
        xyz = sleeper.xyz().astype(float)
        np.testing.assert_allclose(xyz / model.step, np.rint(xyz / model.step), atol=2e-2)
        # Differences of neighbours see the noise and little of the body.
        spread = np.median(np.abs(np.diff(xyz, axis=0)), axis=0).min() / 0.6745 / math.sqrt(2)
        assert spread < 3 * math.hypot(model.density * 1e-6 * math.sqrt(25 * 2.5), model.step) + 1e-3, name
        if model.step < 1e-3:
            assert spread > 0.5 * model.density * 1e-6 * math.sqrt(25), name


def test_faults_are_in_the_signal_and_in_the_truth(faulty: Sleeper) -> None:
    xyz, rate = faulty.xyz(), faulty.rate
    lost = np.isnan(xyz[:, 0])
    in_gaps = np.zeros(faulty.samples, bool)
    spans = faulty.fault_spans
    assert {"fault:gap", "fault:stuck"} == set(spans["label"].tolist())
    for span in spans:
        inside = slice(round(span["onset"] * rate), round((span["onset"] + span["duration"]) * rate))
        if span["label"] == "fault:gap":
            in_gaps[inside] = True
            assert lost[inside].all()
        else:
            part = xyz[inside][~lost[inside]]
            assert (part == part[0]).all()
    assert lost[~in_gaps].mean() == pytest.approx(0.005, abs=0.0015)
    artifacts = faulty.truth[faulty.truth["label"] == "sensor_artifact"]
    assert {"spike", "saturation", "stuck_exit"} == set(artifacts["kind"].tolist())
    pinned = 0
    for row in artifacts:
        assert row["source"].startswith(f"fault:{row['kind']} peak_g=")
        if row["kind"] == "saturation" and row["visible"] == 1:
            at = row["sample"]
            assert np.nanmax(np.abs(xyz[at])) > 1.9 or np.isnan(xyz[at]).all()
            pinned += 1
    assert pinned
    spikes = artifacts[(artifacts["kind"] == "spike") & (artifacts["visible"] == 1)]
    jumps = [np.abs(xyz[at] - xyz[at - 3]).max() for at in spikes["sample"]]
    assert np.nanmedian(np.array(jumps) / spikes["peak_g"]) == pytest.approx(1.0, abs=0.3)


def test_an_idle_logger_holds_still_and_wakes_by_movement() -> None:
    sleeper = Sleeper("wrist", 1.0, 30, 3, sensor="ActiGraph", faults=Faults(idle_hold=True), jerks=8)
    xyz = sleeper.xyz()
    holds = sleeper.fault_spans[sleeper.fault_spans["label"] == "fault:idle_hold"]
    assert holds["duration"].sum() > 600
    strong = sleeper.truth[sleeper.truth["peak_g"] > 0.1]
    for hold in holds:
        first, last = round(hold["onset"] * 30), round((hold["onset"] + hold["duration"]) * 30)
        assert (xyz[first:last] == xyz[first]).all()
        inside = (strong["onset"] > hold["onset"]) & (
            strong["onset"] < hold["onset"] + hold["duration"] - 0.5
        )
        assert not inside.any()
    hidden = sleeper.truth[sleeper.truth["visible"] < 0.5]
    assert len(hidden)
    # The logger notices a movement within some tenths of a second: a knock or a jerk may be over by then.
    lasting = hidden[hidden["duration"] > 0.5]
    assert (lasting["peak_g"] < 0.04).all()


def test_without_faults_nothing_is_lost(clean: Sleeper) -> None:
    assert np.isfinite(clean.xyz()).all()
    assert len(clean.fault_spans) == 0
    assert (clean.truth["visible"] == 1).all()
    assert "sensor_artifact" not in clean.truth["label"]


@pytest.mark.parametrize("wrong", [{"gap_rate": -1}, {"spike_rate": math.inf}, {"drops": 0.6}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Faults(**wrong)


# the reference sensor

CASES = [
    ("wrist", "frame"),
    ("wrist", "limb"),
    ("wrist", "partner"),
    ("mattress", "frame"),
    ("mattress", "partner"),
]


@pytest.mark.parametrize(("site", "placement"), CASES)
def test_a_reference_has_the_nights_numbers_and_leaves_it_alone(site: str, placement: str) -> None:
    faults = Faults(gap_rate=30, drops=0.005, stuck_rate=10, spike_rate=40)
    alone = Sleeper(site, 0.3, 50, 5, faults=faults)
    sleeper = Sleeper(site, 0.3, 50, 5, faults=faults, reference=placement)
    assert digest(sleeper) == digest(alone)
    assert alone.reference is None
    reference = sleeper.reference
    assert isinstance(reference, Source)
    assert (reference.rate, reference.samples, reference.sensor) == (50, sleeper.samples, sleeper.sensor)
    assert reference.site == ("wrist" if placement == "limb" else "mattress")
    for chunk, beside in zip(sleeper, reference, strict=True):
        assert (chunk.index, chunk.missing, chunk.time) == (beside.index, beside.missing, beside.time)
        assert len(chunk) == len(beside)
    xyz = reference.xyz()
    np.testing.assert_array_equal(np.isnan(xyz), np.isnan(sleeper.xyz()))
    again = Sleeper(site, 0.3, 50, 5, faults=faults, reference=placement).reference
    np.testing.assert_array_equal(again.xyz(), xyz)
    np.testing.assert_array_equal(again.truth, reference.truth)
    pieces = np.concatenate([chunk.xyz for chunk in reference.chunks(777)])
    np.testing.assert_array_equal(pieces, xyz[np.isfinite(xyz[:, 0])])
    other = Sleeper(site, 0.3, 50, 6, faults=faults, reference=placement).reference
    assert not np.array_equal(other.xyz(), xyz, equal_nan=True)


def test_without_drops_the_gaps_are_the_nights_too() -> None:
    sleeper = Sleeper("mattress", 0.5, 50, 5, faults=Faults(gap_rate=30), reference="frame")
    gaps = np.isnan(sleeper.xyz())
    assert gaps.any()
    np.testing.assert_array_equal(np.isnan(sleeper.reference.xyz()), gaps)


def test_a_reference_is_a_sensor_of_its_own() -> None:
    sleeper = Sleeper("mattress", 0.2, 100, 3, sensor="ADXL355", faults=False, reference="partner")
    ours, theirs = sleeper.parameters, sleeper.reference.parameters
    for name in ("sensor.offset.x", "sensor.gain.y", "sensor.noise", "sensor.drift"):
        assert ours[name] != theirs[name]
    assert ours["sensor.clock"] == theirs["sensor.clock"]
    step = SENSORS["ADXL355"].step
    xyz = sleeper.reference.xyz().astype(float)
    np.testing.assert_allclose(xyz / step, np.rint(xyz / step), atol=2e-2)
    assert np.median(np.linalg.norm(xyz, axis=1)) == pytest.approx(1.0, abs=0.07)


def _band_peak(xyz: np.ndarray, rate: float, onset: float, duration: float) -> float:
    at = max(round((onset - 0.3) * rate), 0)
    part = xyz[at : at + round((duration + 0.6) * rate)].astype(float)
    band = sosfiltfilt(butter(2, [1.5, 12], "bandpass", fs=rate, output="sos"), part - part[0], axis=0)
    return float(np.sqrt((band**2).sum(axis=1).max()))


def _ratios(site: str, placement: str, least: float, seeds: range) -> dict[str, np.ndarray]:
    """Peaks at the reference over peaks at the sensor, by kind, of events of `least` g and more."""
    out: dict[str, list[float]] = {}
    for seed in seeds:
        sleeper = Sleeper(site, 2.0, 50, seed, sensor="ADXL355", faults=False, reference=placement)
        here, there = sleeper.xyz(), sleeper.reference.xyz()
        for row in sleeper.truth[sleeper.truth["peak_g"] >= least]:
            span = 50, row["onset"], min(row["duration"], 5.0)
            kind = str(row["kind"]).partition("_")[0]
            out.setdefault(kind, []).append(_band_peak(there, *span) / _band_peak(here, *span))
    return {kind: np.array(ratios) for kind, ratios in out.items()}


def test_a_jerk_is_weaker_away_from_the_sleeper_and_a_knock_stronger_on_the_frame() -> None:
    frame = _ratios("mattress", "frame", 0.015, range(7, 11))
    assert len(frame["jerk"]) > 10
    assert np.median(frame["jerk"]) < 0.5
    assert len(frame["tap"]) > 5
    assert np.median(frame["tap"]) > 1.2
    partner = _ratios("mattress", "partner", 0.015, range(7, 11))
    assert len(partner["jerk"]) > 10
    assert np.median(partner["jerk"]) < 0.5
    assert len(partner["partner"]) > 5
    assert np.median(partner["partner"]) > 1.5
    wrist = _ratios("wrist", "frame", 0.1, range(2))
    assert len(wrist["jerk"]) > 5
    assert np.median(wrist["jerk"]) < 0.1


def test_a_jerk_of_the_whole_body_is_felt_by_the_ankle_too() -> None:
    ratios = _ratios("wrist", "limb", 0.1, range(5))["jerk"]
    assert len(ratios) > 20
    assert 0.3 < (ratios > 0.2).mean() < 0.85


@pytest.mark.parametrize(
    ("site", "placement", "kind", "first"),
    [
        ("mattress", "frame", "tap", True),
        ("mattress", "frame", "jerk", False),
        ("mattress", "partner", "partner", True),
        ("mattress", "partner", "jerk", False),
        ("wrist", "limb", "plm", True),
        ("wrist", "limb", "limb", None),
    ],
)
def test_what_is_near_to_the_reference_is_felt_there_first(
    site: str, placement: str, kind: str, first: bool | None
) -> None:
    ways = _Ways(site, 0.2)
    echoes = [ways.to(placement, draws(seed), kind) for seed in range(100)]
    leads = np.array([echo.lead for echo in echoes])
    gains = np.array([echo.gain for echo in echoes])
    if first is None:
        assert 0.2 < (leads > 0).mean() < 0.5
        assert (gains[leads > 0] > 1).all()
        assert (gains[leads < 0] < 0.2).all()
    else:
        assert ((leads > 0) == first).all()
        assert (np.abs(leads) < 0.06).all()
        assert ((gains > 1) == first).all()


def test_every_kind_has_a_way_to_every_reference() -> None:
    for site, placement in CASES:
        for kind in KINDS:
            echo = _Ways(site, 0.2).to(placement, draws(1), kind)
            assert 0 <= echo.gain < 1000
            assert abs(echo.lead) < 0.2


def test_the_truth_of_a_reference_is_where_its_signal_moves() -> None:
    sleeper = Sleeper("mattress", 2.0, 100, 10, sensor="ADXL355", faults=False, reference="partner")
    reference = sleeper.reference
    xyz, truth = reference.xyz(), reference.truth
    assert (np.diff(truth["onset"]) >= 0).all()
    alone = set(np.round(truth["peak_g"], 9)) - set(np.round(sleeper.truth["peak_g"], 9))
    assert alone
    # A phone and a floor ring above the band.
    strong = truth[(truth["peak_g"] > 0.03) & np.isin(truth["kind"], ("phone", "door"), invert=True)]
    assert len(strong) > 5
    for row in strong:
        peak = _band_peak(xyz, 100, row["onset"], min(row["duration"], 5.0))
        assert 0.2 * row["peak_g"] < peak < 1.5 * row["peak_g"], row


def test_a_reference_plays_along() -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    live = Sleeper(
        "wrist", 0.1, 50, 2, faults=False, reference="limb", speed=10.0, clock=lambda: now[0], sleep=wait
    )
    pairs = zip(live, live.reference, strict=True)
    for _ in range(30):
        chunk, beside = next(pairs)
        assert chunk.index == beside.index
    # The one that is asked second begins a chunk later.
    assert now[0] == pytest.approx(30 * 0.1 / 10, abs=0.0101)


def test_a_reference_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="'roof' is unknown"):
        Sleeper("wrist", 0.1, 50, reference="roof")
    with pytest.raises(UsageError, match="wrist only"):
        Sleeper("mattress", 0.1, 50, reference="limb")


def test_a_written_reference_is_the_reference(tmp_path: Path) -> None:
    sleeper = Sleeper("wrist", 0.2, 50, 5, faults=Faults(gap_rate=30), reference="limb")
    write(tmp_path / "reference.h5", sleeper.reference)
    with Recording(tmp_path / "reference.h5") as night:
        np.testing.assert_array_equal(night.read(), sleeper.reference.xyz())
        assert night.site == "wrist"
        assert night.start == sleeper.start_time
        assert len(night.annotations) == len(sleeper.reference.annotations())


# files


def test_a_written_night_is_the_night(tmp_path: Path, faulty: Sleeper) -> None:
    write(tmp_path / "night.h5", faulty)
    with Recording(tmp_path / "night.h5") as night:
        assert night.rate == faulty.rate
        assert night.site == "wrist"
        out = np.full((faulty.samples, 3), np.nan, np.float32)
        for chunk in night:
            out[chunk.index : chunk.index + len(chunk)] = chunk.xyz
        np.testing.assert_array_equal(out, faulty.xyz())
        assert night.n_total == faulty.samples
        notes = night.annotations
    assert len(notes) == len(faulty.truth) + len(faulty.states) + len(faulty.fault_spans)
    jerks = notes[np.isin(notes["label"], JERKS)]
    np.testing.assert_allclose(jerks["onset"], faulty.truth["onset"][np.isin(faulty.truth["label"], JERKS)])
    assert not [note for note in notes if note["label"].startswith("fault:") and "truth" in note["source"]]
    with pytest.raises(DataError):
        write(tmp_path / "night.h5", faulty)


# injection


def _still(seconds: int = 600, rate: int = 32, step: float = 1 / 64) -> np.ndarray:
    rng = np.random.default_rng(1)
    rows = np.array([0.3, -0.5, 0.8]) + rng.normal(0, 0.01, (seconds * rate, 3))
    return (np.rint(rows / step) * step).astype(np.float32)


def test_jerks_are_added_where_the_truth_says_and_nowhere_else() -> None:
    background = _still()
    before = background.copy()
    xyz, truth = inject(background, 32, "wrist", jerks=12, seed=3, peak_g=(0.2, 0.9), range_g=2.0)
    np.testing.assert_array_equal(background, before)
    assert len(truth) == 12
    assert (np.diff(truth["onset"]) >= 10).all()
    assert (truth["peak_g"] > 0.15).all()
    assert (truth["peak_g"] < 1.1).all()
    assert all(source.startswith("semi-synthetic:jerk peak_g=") for source in truth["source"])
    np.testing.assert_array_equal(xyz * 64, np.rint(xyz * 64))
    assert np.abs(xyz).max() <= 2.0
    touched = np.zeros(len(xyz), bool)
    for row in truth:
        at = row["sample"]
        change = np.abs(xyz[at - 1 : at + 48] - background[at - 1 : at + 48]).max()
        assert 0.3 * row["peak_g"] < change < 1.2 * row["peak_g"]
        touched[at - 1 : at + 32 * 5] = True
    np.testing.assert_array_equal(xyz[~touched], background[~touched])
    again = inject(background, 32, "wrist", jerks=12, seed=3, peak_g=(0.2, 0.9), range_g=2.0)
    np.testing.assert_array_equal(again.xyz, xyz)


def test_a_source_brings_its_own_rate_and_site() -> None:
    source = ArraySource(_still(), 32.0, "mattress", block=1000)
    xyz, truth = inject(source, jerks=3)
    assert xyz.shape == (600 * 32, 3)
    assert len(truth) == 3


def test_jerks_keep_away_from_holes_and_movement() -> None:
    background = _still(200)
    background[1000:3000] = np.nan
    background[4000:5000, 0] += np.float32(0.5) * (np.arange(1000) // 5 % 2)
    xyz, truth = inject(background, 32, "wrist", jerks=6, quiet_g=0.1, min_distance=5)
    assert np.isnan(xyz[1000:3000]).all()
    for at in truth["sample"]:
        assert np.isfinite(background[at - 64 : at + 64]).all()
        assert not 4000 < at < 5000


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rate": None}, UsageError, "give both"),
        ({"jerks": -1}, UsageError, "jerks -1"),
        ({"peak_g": (0.5, 0.1)}, UsageError, "peak_g"),
        ({"quiet_g": 1e-9}, DataError, "no place"),
        ({"population": "none"}, UsageError, "population"),
    ],
)
def test_injection_refuses_what_it_cannot_do(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        inject(_still(30), **{"rate": 32, "site": "wrist", **options})
    with pytest.raises(DataError, match="no room"):
        inject(_still(9), 32, "wrist")


def test_a_real_wrist_takes_jerks_in_its_own_steps() -> None:
    path = RECORDINGS / "stress_predict_e4_32hz" / "S07_ACC.csv"
    if not path.exists():
        pytest.skip("the real recordings are not here")
    real = np.loadtxt(path, delimiter=",", skiprows=2) / 64
    xyz, truth = inject(real, 32, "wrist", jerks=20, quiet_g=0.1, range_g=2.0)
    assert len(truth) == 20
    np.testing.assert_array_equal(xyz * 64, np.rint(xyz * 64))
