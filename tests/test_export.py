"""Exported files, opened by the tools that they are for; values and times compared with the recording."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import hypnic
from hypnic.chunk import Chunk
from hypnic.events import EVENT_DTYPE, Events
from hypnic.export import EXPORTERS, export
from hypnic.readers.base import STANDARD_GRAVITY, BaseRecording
from hypnic.recording import Recorder
from tests.test_cli import hypnic as command
from tests.test_cli import refused

RATE = 31.2487  # a board's own rate, as it is measured: no whole number and no short fraction
START = datetime(2024, 3, 21, 23, 30, 0, 250000, timezone(timedelta(hours=1)))
GAP_AT, GAP = 1000, 250
NAN_AT = 500

EDF_STEP = 4.0 / 32767
"""Full scale over counts of the night below, whose largest value is just below 4 g."""


def xyz(n: int = 3000) -> np.ndarray:
    out = np.random.default_rng(7).normal(0.0, 0.2, (n, 3))
    out[:, 2] += 1.0
    out[20] = (3.9, -3.9, 0.0)
    out[NAN_AT, 1] = math.nan
    return out.astype(np.float32)


def found() -> Events:
    rows = np.zeros(4, EVENT_DTYPE)
    rows["onset"] = (10.125, 12.0, 12.0, 60.5)
    rows["duration"] = (0.5, 0.4, 0.45, 3.25)
    rows["label"] = ("hypnic_jerk", "movement", "isolated_jerk", "posture_shift")
    rows["score"] = (0.97, 0.1, 0.8, 0.0)
    rows["hf_ratio"] = (0.01, math.nan, math.nan, 0.02)
    rows["interval"] = (math.nan, 1.875, 1.875, 48.5)
    rows["rest"] = ("onset", "still", "still", "awake")
    rows["sample"] = np.rint(rows["onset"] * RATE)
    rows["id"], rows["revision"] = (1, 2, 2, 3), (1, 0, 1, 1)
    return Events(
        rows, {"hypnic_version": "0.1.0", "rate": RATE, "site": "wrist", "settings": {"on_min": 1.6}}
    )


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseRecording]:
    """A minute and a half with a gap, a sample that is no number, remarks, stored events and a start time."""
    path = tmp_path_factory.mktemp("night") / "night.h5"
    samples = xyz()
    with Recorder(
        path, RATE, "wrist", dtype="float32", start_time=START, subject="P 7", sensor="LSM6DSOX"
    ) as recorder:
        recorder.write(Chunk(samples[:GAP_AT], 0))
        recorder.write(Chunk(samples[GAP_AT:], GAP_AT + GAP, missing=GAP, reason="unplugged"))
        recorder.annotate(5.0, 2.0, "lights off", "diary")
        recorder.annotate(10.0, 0.5, "hypnic_jerk", "truth:jerk peak_g=0.5")
        recorder.events(found())
    with hypnic.open(path) as recording:
        yield recording


def every_sample(night: BaseRecording) -> np.ndarray:
    out = night.read()
    assert len(out) == 3250
    assert np.isnan(out[GAP_AT : GAP_AT + GAP]).all()
    return out


# EDF+


def test_edf_by_edfio(night: BaseRecording, tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    assert export(night, tmp_path / "n.edf") == [tmp_path / "n.edf"]
    edf = edfio.read_edf(tmp_path / "n.edf")
    assert edf.reserved == "EDF+C"
    assert edf.startdatetime == START.replace(tzinfo=None)
    assert (edf.patient.code, edf.recording.equipment_code) == ("P_7", "LSM6DSOX")
    assert "UTC+0100" in edf.recording.additional
    assert [(s.label, s.physical_dimension) for s in edf.signals] == [(f"acc {a}", "g") for a in "xyz"]

    truth = every_sample(night)
    for axis, signal in enumerate(edf.signals):
        # A rate stated to a few parts in a thousand million: less than 1 ms in 12 hours.
        assert signal.sampling_frequency == pytest.approx(RATE, rel=2e-8)
        data = signal.data[: len(truth)]
        sound = np.isfinite(truth[:, axis])
        np.testing.assert_allclose(data[sound], truth[sound, axis], atol=EDF_STEP / 2 + 1e-6)
        assert not data[~sound].any()
        assert not signal.data[len(truth) :].any()

    notes = [(a.onset, a.duration, a.text) for a in edf.annotations]
    assert "candidates" in notes[0][2] or "candidates" in notes[1][2]
    texts = {text: (onset, duration) for onset, duration, text in notes}
    for row in found().latest():
        onset, duration = texts[row["label"]]
        assert onset == pytest.approx(row["onset"], abs=1e-6)
        assert duration == pytest.approx(row["duration"], abs=1e-6)
    assert "movement" not in texts  # the revision that was withdrawn
    assert texts["diary/lights off"] == (5.0, 2.0)
    assert texts["truth/hypnic_jerk"] == (10.0, 0.5)
    (gap,) = (text for text in texts if "unplugged" in text)
    assert gap.startswith("BAD_ACQ_SKIP: 250 samples missing")
    assert texts[gap] == pytest.approx((GAP_AT / RATE, GAP / RATE), abs=1e-6)
    assert "1 samples that are no numbers were set to 0 g" in texts


def test_edf_by_mne(night: BaseRecording, tmp_path: Path) -> None:
    mne = pytest.importorskip("mne")
    pytest.importorskip("edfio")
    export(night, tmp_path / "n.edf")
    raw = mne.io.read_raw_edf(tmp_path / "n.edf", preload=True, verbose="error")
    assert raw.info["sfreq"] == pytest.approx(RATE, rel=2e-8)
    truth = every_sample(night)
    data = raw.get_data()[:, : len(truth)].T
    sound = np.isfinite(truth)
    np.testing.assert_allclose(data[sound], truth[sound], atol=EDF_STEP / 2 + 1e-6)
    jerk = raw.annotations[list(raw.annotations.description).index("hypnic_jerk")]
    assert jerk["onset"] == pytest.approx(10.125, abs=1e-4)
    # What MNE's filters leave out is the gap, and what fills the last record.
    starts, stops = mne.annotations._annotations_starts_stops(raw, ["BAD_ACQ_SKIP"])
    assert starts[0] == pytest.approx(GAP_AT, abs=1)
    assert stops[0] == pytest.approx(GAP_AT + GAP, abs=1)


@pytest.mark.parametrize(
    "rate", [25.0, 100.0, 31.25, 104.0, 99.8731, 26.000001, 33.333333333, 199.99, 997.13]
)
def test_edf_states_any_rate(rate: float) -> None:
    from hypnic.export.edf import fit_records, layout

    samples, seconds = layout(rate)
    assert samples == int(samples)
    assert len(f"{seconds:.10g}") <= 8
    assert samples / seconds == pytest.approx(rate, rel=2e-8)
    assert 6 * samples < 61440
    # Eight hours must come out as a whole number of records, by the writer's own arithmetic.
    needed = math.ceil(8 * 3600 / seconds)
    records, stated = fit_records(needed, samples, seconds)
    assert needed <= records < needed + 20
    assert stated == pytest.approx(rate, rel=2e-8)
    assert round(records * samples / stated, 12) == round(records * seconds, 6)


def test_edf_without_a_start_and_with_a_wild_value(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    samples = xyz(600)
    samples[50] = 1e30
    with Recorder(tmp_path / "n.h5", 100.0, dtype="float32") as recorder:
        recorder.write(Chunk(samples, 0))
    with hypnic.open(tmp_path / "n.h5") as recording:
        export(recording, tmp_path / "n.edf", events=Events())
    edf = edfio.read_edf(tmp_path / "n.edf")
    assert edf.local_recording_identification.startswith("Startdate X ")
    assert "values beyond 256 g were cut" in [a.text for a in edf.annotations]
    assert edf.signals[0].data[50] == pytest.approx(256.0)


# MNE


def test_mne_annotations() -> None:
    pytest.importorskip("mne")
    notes = found().to_mne(START)
    last = found().latest()
    np.testing.assert_allclose(notes.onset, last["onset"])
    np.testing.assert_allclose(notes.duration, last["duration"])
    assert list(notes.description) == list(last["label"])
    assert notes.orig_time == START.astimezone(UTC)
    assert notes[0]["extras"]["score"] == pytest.approx(0.97)
    assert found().to_mne().orig_time is None
    assert len(Events().to_mne()) == 0
    with pytest.raises(hypnic.UsageError, match="no time zone"):
        found().to_mne(START.replace(tzinfo=None))


def test_raw_and_fif(night: BaseRecording, tmp_path: Path) -> None:
    mne = pytest.importorskip("mne")
    from hypnic.export.mne import to_raw

    made = to_raw(night, night.events())
    truth = every_sample(night)
    np.testing.assert_array_equal(made.get_data().T, truth.astype(float))
    assert made.info["meas_date"] == START.astimezone(UTC)
    export(night, tmp_path / "n_raw.fif")
    read = mne.io.read_raw_fif(tmp_path / "n_raw.fif", preload=True, verbose="error")
    np.testing.assert_array_equal(read.get_data().T.astype(np.float32), truth)
    wanted = {"hypnic_jerk", "isolated_jerk", "posture_shift", "diary/lights off", "BAD_ACQ_SKIP: unplugged"}
    assert wanted <= set(read.annotations.description)
    at = list(read.annotations.description).index("hypnic_jerk")
    assert read.annotations.onset[at] == pytest.approx(10.125, abs=1e-3)
    with pytest.raises(hypnic.UsageError, match=r"raw\.fif"):
        export(night, tmp_path / "n.fif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n_raw.fif"]


# Parquet


def test_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet")
    from hypnic.export.parquet import read_events

    events = found()
    events.write(tmp_path / "e.parquet")
    frame = pandas.read_parquet(tmp_path / "e.parquet")
    assert list(frame.columns) == list(EVENT_DTYPE.names or ())
    for name in frame.columns:
        expected = events[name]
        if expected.dtype.kind == "U":
            assert frame[name].tolist() == expected.tolist()
        else:
            assert frame[name].dtype == expected.dtype
            np.testing.assert_array_equal(frame[name].to_numpy(), expected)
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table["interval"].null_count == 1
    assert table.schema.field("peak_g").metadata[b"unit"] == b"g"
    back = read_events(tmp_path / "e.parquet")
    assert back.array.tobytes() == events.array.tobytes()
    assert back.meta == events.meta
    from hypnic.marks import load

    assert load(tmp_path / "e.parquet").onset.tolist() == events.latest()["onset"].tolist()
    Events().write(tmp_path / "none.parquet")
    assert len(read_events(tmp_path / "none.parquet")) == 0


def test_parquet_refusals(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from hypnic.export.parquet import read_events

    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(hypnic.DataError, match="cannot be read as events"):
        read_events(tmp_path / "bad.parquet")
    parquet.write_table(arrow.table({"onset": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(hypnic.DataError, match="it lacks duration"):
        read_events(tmp_path / "other.parquet")
    with pytest.raises(OSError, match="nowhere"):
        found().write(tmp_path / "nowhere" / "e.parquet")
    with pytest.raises(hypnic.UsageError, match="'parquet' is not text"):
        found().to_text("parquet")


# BIDS


def bids_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_bids_values_and_times(night: BaseRecording, tmp_path: Path) -> None:
    paths = export(night, tmp_path / "set", to="bids")
    stem = tmp_path / "set" / "sub-P7" / "motion" / "sub-P7_task-sleep_tracksys-imu_"
    assert all(path.is_file() for path in paths)
    names = ("motion.tsv", "motion.json", "channels.tsv", "channels.json", "events.tsv", "events.json")
    assert set(paths) >= {Path(f"{stem}{name}") for name in names}

    values = np.genfromtxt(f"{stem}motion.tsv", delimiter="\t", missing_values="n/a")
    truth = every_sample(night)
    assert values.shape == truth.shape
    np.testing.assert_array_equal(np.isnan(values), np.isnan(truth))
    np.testing.assert_allclose(values / STANDARD_GRAVITY, truth, atol=1e-6)

    facts = json.loads(Path(f"{stem}motion.json").read_text())
    assert facts["SamplingFrequency"] == RATE
    assert facts["RecordingDuration"] == pytest.approx(3250 / RATE)
    assert facts["MissingValues"] == "n/a"
    assert [row["type"] for row in bids_table(Path(f"{stem}channels.tsv"))] == ["ACCEL"] * 3
    assert {row["units"] for row in bids_table(Path(f"{stem}channels.tsv"))} == {"m/s^2"}

    rows = bids_table(Path(f"{stem}events.tsv"))
    onsets = [float(row["onset"]) for row in rows]
    assert onsets == sorted(onsets)
    last = found().latest()
    mine = [row for row in rows if "/" not in row["trial_type"]]
    assert [row["trial_type"] for row in mine] == list(last["label"])
    np.testing.assert_allclose([float(row["onset"]) for row in mine], last["onset"], atol=5e-5)
    assert mine[0]["interval"] == "n/a"
    assert {row["trial_type"] for row in rows} >= {"diary/lights off", "truth/hypnic_jerk"}
    columns = json.loads(Path(f"{stem}events.json").read_text())
    assert set(rows[0]) <= set(columns)
    assert "candidate" in columns["trial_type"]["Levels"]["hypnic_jerk"]

    scans = bids_table(tmp_path / "set" / "sub-P7" / "sub-P7_scans.tsv")
    assert datetime.fromisoformat(scans[0]["acq_time"]) == START.replace(tzinfo=None)


def test_bids_events_are_scored(night: BaseRecording, tmp_path: Path) -> None:
    """Our own reader of marks takes the table as it takes anyone's."""
    from hypnic.marks import load

    export(night, tmp_path / "set", to="bids")
    marks = load(tmp_path / "set" / "sub-P7" / "motion" / "sub-P7_task-sleep_tracksys-imu_events.tsv")
    assert np.count_nonzero(marks.label == "hypnic_jerk") == 1


def test_bids_takes_night_after_night(night: BaseRecording, tmp_path: Path) -> None:
    home = tmp_path / "set"
    export(night, home, to="bids", subject="01", session="a")
    (home / "participants.tsv").write_text("participant_id\tage\nsub-01\t44\n")
    export(night, home, to="bids", subject="sub-02", session="ses-a")
    export(night, home, to="bids", subject="01", session="b")
    assert bids_table(home / "participants.tsv") == [
        {"participant_id": "sub-01", "age": "44"},
        {"participant_id": "sub-02", "age": "n/a"},
    ]
    assert (home / "sub-01" / "ses-b" / "sub-01_ses-b_scans.tsv").is_file()
    with pytest.raises(hypnic.DataError, match="the night is there already: give this one a session"):
        export(night, home, to="bids", subject="01", session="b")
    export(night, home, to="bids", subject="01", session="b", overwrite=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subject": "a b"}, "subject 'a b' is no label"),
        ({"session": "1/2"}, "session"),
        ({"task": ""}, "task"),
    ],
)
def test_bids_labels(night: BaseRecording, tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(hypnic.UsageError, match=words):
        export(night, tmp_path / "set", to="bids", **options)
    assert not (tmp_path / "set").exists()


def test_bids_leaves_other_folders_alone(night: BaseRecording, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(hypnic.DataError, match="holds other things"):
        export(night, tmp_path, to="bids")
    with pytest.raises(hypnic.DataError, match="is a folder, and this is a file"):
        export(night, tmp_path / "mine.txt", to="bids")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_bids_validator(night: BaseRecording, tmp_path: Path) -> None:
    validator = shutil.which("bids-validator-deno", path=str(Path(shutil.which("python") or "").parent))
    validator = validator or shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("no bids-validator-deno (PyPI) to check the data set with")
    export(night, tmp_path / "set", to="bids", subject="01", session="1")
    export(night, tmp_path / "set", to="bids", subject="02", session="1")

    def issues() -> list[dict[str, str]]:
        done = subprocess.run(
            [validator, "--format", "json", "--max-rows", "-1", str(tmp_path / "set")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        listed: list[dict[str, str]] = json.loads(done.stdout)["issues"]["issues"]
        return listed

    assert [issue for issue in issues() if issue["severity"] == "error"] == []
    # It does look at them: what lacks a required field is refused.
    (sidecar,) = (tmp_path / "set" / "sub-01" / "ses-1" / "motion").glob("*_motion.json")
    sidecar.write_text("{}")
    assert "error" in {issue["severity"] for issue in issues()}


# The seam and the command


def test_event_tables_alone(night: BaseRecording, tmp_path: Path) -> None:
    stored = night.events()
    assert stored is not None
    for name in ("csv", "tsv", "json", "jsonl"):
        assert export(night, tmp_path / f"e.{name}") == [tmp_path / f"e.{name}"]
        assert (tmp_path / f"e.{name}").read_text() == stored.latest().to_text(name)
        with pytest.raises(hypnic.DataError, match="exists already"):
            export(night, tmp_path / f"e.{name}")


def test_refusals(night: BaseRecording, tmp_path: Path) -> None:
    with pytest.raises(hypnic.UsageError, match=r"its ending .* does not say the format"):
        export(night, tmp_path / "n.xyz")
    with pytest.raises(hypnic.UsageError, match="format 'xml' is unknown: use bids, edf"):
        export(night, tmp_path / "n.edf", to="xml")
    with pytest.raises(hypnic.UsageError, match="subject means nothing for edf"):
        export(night, tmp_path / "n.edf", subject="1")
    with pytest.raises(hypnic.UsageError, match="weather means nothing for bids"):
        export(night, tmp_path / "n", to="bids", weather="fair")


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("n.edf", "edfio", "edf"), ("n_raw.fif", "mne", "mne")]
)
def test_a_package_that_is_not_there(
    night: BaseRecording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(hypnic.UsageError, match=rf"needs {module}: pip install 'hypnic\[{extra}\]'"):
        export(night, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_command(night: BaseRecording, tmp_path: Path) -> None:
    pytest.importorskip("edfio")
    done = command("export", night.path, tmp_path / "n.edf")
    assert done.returncode == 0, done.stderr
    assert "candidates" in done.stdout
    export(night, tmp_path / "same.edf")
    assert (tmp_path / "n.edf").read_bytes() == (tmp_path / "same.edf").read_bytes()
    refused(command("export", night.path, tmp_path / "n.edf"), 1, "--overwrite")
    refused(command("export", night.path, tmp_path / "n.edf", "--subject", "2"), 2, "--subject")
    refused(command("export", night.path, tmp_path / "no" / "n.edf"), 1, "no folder")
    refused(command("export", night.path, night.path, "--to", "csv"), 2, "the recording itself")
    refused(command("detect", night.path, "--format", "parquet"), 2, "-o")


def test_every_format_is_in_the_command() -> None:
    from typing import get_args

    from hypnic.cli.export import To

    assert set(get_args(To)) == set(EXPORTERS)


def test_a_real_recording(recordings: Path, tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    with hypnic.open(recordings / "stress_predict_e4_32hz" / "S01_ACC.csv") as recording:
        truth = recording.read()
        (path,) = export(recording, tmp_path / "s01.edf", events=found())
        (samples, *_) = export(recording, tmp_path / "set", to="bids", events=found())
        start = recording.start_time
    edf = edfio.read_edf(path)
    assert start is not None
    assert edf.startdatetime == start.replace(tzinfo=None)
    data = np.stack([signal.data for signal in edf.signals], axis=1)[: len(truth)]
    full = edf.signals[0].physical_max
    assert full >= np.abs(truth).max() > full / 2
    np.testing.assert_allclose(data, truth, atol=full / 32767 / 2 + 1e-6)
    si = np.loadtxt(samples, delimiter="\t")
    np.testing.assert_allclose(si / STANDARD_GRAVITY, truth, atol=1e-6)
