"""Semi-synthetic nights: the real recording as it was, the jerks on top, and every place that says so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import hypnic
from hypnic.chunk import Chunk
from hypnic.errors import DataError, UsageError
from hypnic.marks import load
from hypnic.recording import Recorder, Recording
from hypnic.simulate import SemiSynthetic
from tests.signals import quiet

RATE = 50.0
SCALE = 1 / 4096


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Two minutes from a mattress with a gap, clocks, a diary, notes and events."""
    path = tmp_path / "real.h5"
    xyz = quiet(120, RATE)
    with Recorder(
        path,
        RATE,
        "mattress",
        scale=SCALE,
        range_g=4.0,
        sensor="ADXL345",
        start_time="2024-03-21T22:30:00+01:00",
        subject="s07",
        notes="slept badly",
        durable=False,
    ) as recorder:
        recorder.write(Chunk(xyz[:2500], 0))
        recorder.gap(500, "unplugged")
        recorder.write(Chunk(xyz[3000:], 3000))
        recorder.clock(0, 17, 1711056600.0)
        recorder.annotate(30, 1, "hypnic_jerk", "diary")
        recorder.events(hypnic.detect(xyz, rate=RATE, site="mattress"))
    return path


def test_all_but_the_jerks_is_as_it_was(real: Path, tmp_path: Path):
    out = tmp_path / "semi.h5"
    with Recording(real) as before:
        night = SemiSynthetic(before, jerks=4, seed=5, peak_g=(0.05, 0.1))
        night.write(out)
        with Recording(out) as after:
            for name in ("rate", "site", "start_time", "scale", "dtype", "range_g", "sensor", "n_total"):
                assert getattr(after, name) == getattr(before, name), name
            assert (after.gaps == before.gaps).all()
            assert (after.clock == before.clock).all()
            assert len(after.events() or []) == 0
            was, now = before.read(), after.read()
            diary = after.annotations[after.annotations["source"] == "diary"]
            assert (diary == before.annotations).all()
            attrs = after.attrs
    assert attrs["subject"] == "s07"
    assert attrs["notes"] == "semi-synthetic: 4 simulated jerks, seed 5, added to real.h5; slept badly"
    touched = np.zeros(len(was), bool)
    for jerk in night.truth:
        touched[jerk["sample"] - 1 : jerk["sample"] + round(5 * RATE)] = True
        change = np.abs(now - was)[jerk["sample"] : jerk["sample"] + round(RATE)].max()
        assert 0.2 * jerk["peak_g"] < change < 1.2 * jerk["peak_g"]
    np.testing.assert_array_equal(now[~touched], was[~touched])


def test_its_truth_is_the_jerks_and_says_semi_synthetic(real: Path, tmp_path: Path):
    with Recording(real) as before:
        night = SemiSynthetic(before, jerks=4, seed=5)
        night.write(tmp_path / "semi.h5")
    truth = load(tmp_path / "semi.h5")
    assert truth.onset == pytest.approx(night.truth["onset"])
    assert truth.peak_g == pytest.approx(night.truth["peak_g"], rel=1e-3)
    assert set(truth.kind) == {"jerk"}
    with h5py.File(tmp_path / "semi.h5") as file:
        sources = [source.decode() for source in file["annotations"]["source"]]
    assert sum(source.startswith("semi-synthetic:jerk peak_g=") for source in sources) == 4


def test_it_is_a_source_and_its_file_gives_the_same_events(real: Path, tmp_path: Path):
    with Recording(real) as before:
        night = SemiSynthetic(before, jerks=5, seed=2, peak_g=(0.1, 0.2))
        night.write(tmp_path / "semi.h5")
    with Recording(tmp_path / "semi.h5") as after:
        assert hypnic.detect(night).to_text() == hypnic.detect(after).to_text()
    assert len(hypnic.detect(night)) > 0


def test_same_seed_same_night(real: Path):
    with Recording(real) as recording:
        one, two, other = (SemiSynthetic(recording, jerks=3, seed=seed).read() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other, equal_nan=True)


def test_what_is_damaged_becomes_a_gap(tmp_path: Path):
    path = tmp_path / "real.h5"
    with Recorder(path, RATE, "wrist", durable=False) as recorder:
        recorder.write(Chunk(quiet(200, RATE), 0))
    with h5py.File(path) as file:
        info = file["acceleration"].id.get_chunk_info(1)
    with path.open("rb+") as handle:
        handle.seek(info.byte_offset)
        handle.write(b"\xff" * info.size)
    with Recording(path) as before:
        SemiSynthetic(before, jerks=3).write(tmp_path / "semi.h5")
    with Recording(tmp_path / "semi.h5") as after:
        assert after.gaps.tolist() == [(3000, 3000, "damaged")]
        assert after.n_total == 10000


def test_a_text_recording_becomes_a_night_with_what_was_assumed(tmp_path: Path):
    path = tmp_path / "acc.csv"
    rows = [f"{n / RATE:.2f},{x:.6f},{y:.6f},{z:.6f}" for n, (x, y, z) in enumerate(quiet(60, RATE))]
    path.write_text("time,x,y,z\n" + "\n".join(rows) + "\n")
    with hypnic.open(path) as before:
        assert before.notes
        SemiSynthetic(before, jerks=2).write(tmp_path / "semi.h5")
        with Recording(tmp_path / "semi.h5") as after:
            assert after.dtype == "float32"
            assert after.rate == before.rate
            for note in before.notes:
                assert note in after.attrs["notes"]


def test_what_it_cannot_do_is_refused(real: Path, tmp_path: Path):
    with Recording(real) as before:
        night = SemiSynthetic(before, jerks=2)
        with pytest.raises(UsageError, match="not written over"):
            night.write(real, overwrite=True)
        night.write(tmp_path / "semi.h5")
        with pytest.raises(DataError, match="exists already"):
            night.write(tmp_path / "semi.h5")
        night.write(tmp_path / "semi.h5", overwrite=True)
        with pytest.raises(DataError, match="no place for a jerk"):
            SemiSynthetic(before, jerks=2, quiet_g=1e-9)
