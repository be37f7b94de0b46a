"""hypnic convert as a user meets it, and the other commands on files that were never converted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import hypnic
from hypnic.recording import Recording
from hypnic.simulate import Sleeper
from tests.encoders import START, counts, cwa, e4_csv, geneactiv, geneactiv_g, gt3x, gt3x_log, put


def command(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hypnic", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "150", "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_many_files_of_many_formats_into_a_folder(tmp_path):
    xyz = counts(6000)
    folder = tmp_path / "E4"
    folder.mkdir()
    put(folder / "ACC.csv", e4_csv(xyz // 4))
    put(tmp_path / "axivity.cwa", cwa(xyz, 98.7))
    damaged = bytearray(cwa(xyz))
    damaged[1024 + 512 * 20 + 99] ^= 1
    put(tmp_path / "damaged.cwa", bytes(damaged))
    put(tmp_path / "geneactiv.bin", geneactiv(xyz))
    put(tmp_path / "actigraph.gt3x", gt3x(gt3x_log(xyz)))
    put(tmp_path / "broken.gt3x", b"PK nonsense")
    # Quoted, so that the pattern comes as it is.
    done = command(
        "convert", "*.cwa", "geneactiv.bin", "*.gt3x", "E4", "nights", "--site", "wrist", cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "hypnic: broken.gt3x: the ZIP archive is damaged or cut short (File is not a zip file)"
    ]
    assert sorted(path.name for path in (tmp_path / "nights").iterdir()) == [
        "E4.h5",
        "actigraph.h5",
        "axivity.h5",
        "damaged.h5",
        "geneactiv.h5",
    ]
    assert "lost: 120 samples (1.2 s), gaps: 1, reason: damaged block" in done.stdout
    assert "note: 1 of 50 blocks are damaged, the first at byte 11264" in done.stdout
    for name, expected, kind in (
        ("axivity", xyz / 256, "int16"),
        ("actigraph", xyz / 256, "int16"),
        ("E4", xyz // 4 / 64, "int16"),
        ("geneactiv", geneactiv_g(xyz), "float32"),
    ):
        with Recording(tmp_path / "nights" / f"{name}.h5") as night:
            assert night.dtype == kind
            np.testing.assert_array_equal(night.read(), np.asarray(expected, np.float32))
            assert night.attrs["source"].startswith("ACC" if name == "E4" else name)
    with (
        Recording(tmp_path / "nights" / "damaged.h5") as night,
        hypnic.open(tmp_path / "damaged.cwa") as source,
    ):
        assert night.gaps.tolist() == source.gaps.tolist() == [(2400, 120, "damaged block")]
        np.testing.assert_array_equal(night.clock, source.clock)
        assert (night.start_time, night.sensor, night.site) == (source.start_time, source.sensor, "wrist")
        assert (night.rate, night.range_g, night.scale) == (source.rate, 8.0, 1 / 256)
        assert "1 of 50 blocks" in night.attrs["conversion_notes"]


def test_nothing_is_overwritten_or_left_behind(tmp_path):
    path = put(tmp_path / "a.cwa", cwa(counts(6000)))
    target = put(tmp_path / "a.h5", b"mine")
    refused(command("convert", path, target), 1, "a.h5", "exists already", "--overwrite")
    assert target.read_bytes() == b"mine"
    # A source that fails leaves what was there, even when asked to replace it.
    put(tmp_path / "bad.cwa", b"garbage" * 500)
    refused(command("convert", tmp_path / "bad.cwa", target, "--overwrite"), 1, "bad.cwa", "no sound block")
    assert target.read_bytes() == b"mine"
    done = command("convert", path, target, "--overwrite", "--rate", "99.5")
    assert done.returncode == 0
    with h5py.File(target) as file:
        assert file["acceleration"].shape == (6000, 3)
        assert file["acceleration"].attrs["sampling_rate"] == 99.5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.cwa", "a.h5", "bad.cwa"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["a.cwa"], 2, "hypnic convert IN OUT.h5"),
        (["a.cwa", "b/a.cwa", "out.h5"], 2, "need a folder"),
        (["a.cwa", "b/a.cwa", "out"], 2, "several of the recordings would become"),
        (["*.gt3x", "out"], 1, "no file is of this pattern"),
        (["a.cwa", "out.h5", "--dataset", "acc"], 2, "dataset means nothing for Axivity"),
        (["a.cwa", "out.h5", "--autocalibrate"], 1, "cannot be calibrated: 0 windows"),
    ],
)
def test_words_that_cannot_be_meant(tmp_path, words, status, says):
    (tmp_path / "b").mkdir()
    for place in (tmp_path, tmp_path / "b"):
        put(place / "a.cwa", cwa(counts(6000)))
    refused(command("convert", *words, cwd=tmp_path), status, says)
    assert not (tmp_path / "out.h5").exists()


@pytest.fixture(scope="module")
def worn(tmp_path_factory):
    """A simulated sleeper, as an AX6 would have recorded him."""
    sleeper = Sleeper("wrist", 2.0, 50.0, 2)
    xyz = np.concatenate([chunk.xyz for chunk in sleeper])
    numbers = np.clip(np.rint(xyz * 2048), -32768, 32767).astype(np.int16)
    path = tmp_path_factory.mktemp("worn") / "worn.cwa"
    put(path, cwa(numbers, 50.0, START, packed=False, axes=6, unit=3, rate_code=0x49))
    return path


def test_commands_open_such_files_as_they_are(worn, tmp_path):
    """With calibration, detecting in the file and in what convert makes of it comes to the same rows."""
    done = command("convert", worn, tmp_path / "worn.h5", "--autocalibrate")
    assert done.returncode == 0
    assert "calibrated to gravity: offset" in done.stderr
    direct = command("detect", worn, "--autocalibrate", "--format", "json")
    stored = command("detect", tmp_path / "worn.h5", "--format", "json")
    one, other = json.loads(direct.stdout), json.loads(stored.stdout)
    assert len(one["events"]) > 20
    assert one["events"] == other["events"]
    with Recording(tmp_path / "worn.h5") as night:
        told = json.loads(night.attrs["calibration"])
        assert told["error_after"] < 0.005 < told["error_before"]
        assert night.dtype == "float32"
    info = json.loads(command("info", worn, "--json", "--autocalibrate").stdout)
    assert info["calibration"]["windows"] == told["windows"]
    assert info["sensor"] == "Axivity AX6 39434"


def test_info_says_why_there_is_no_calibration(tmp_path):
    path = put(tmp_path / "a.cwa", cwa(counts(6000)))
    info = json.loads(command("info", path, "--json", "--autocalibrate").stdout)
    assert info["calibration"] is None
    assert any("cannot be calibrated" in warning for warning in info["warnings"])
