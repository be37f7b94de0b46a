"""The cache of machine code: processes that start together, files that are half there, folders that are read-only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypnic.jit import _STAMP, _Code

BASE = "kernel.run-35.py311"
KEY = (("float64",), ("x86_64", "alderlake", "+avx2"), ("a", "b"))

SMALL = """
import json, sys
import numpy
from hypnic.rest import angle
from hypnic.jit import CACHE
print("ready", flush=True)
sys.stdin.readline()
found = {}
for kind in sys.argv[1:]:
    number = {"float": float, "int": int, "single": numpy.float32}[kind]
    found[kind] = angle(*(number(x) for x in (1, 2, 3, 3, 1, 2)))
print(json.dumps([found, CACHE.loaded, CACHE.saved, CACHE.unsaved, CACHE.folder, CACHE.problem]))
"""
"""A small function of the detector's, compiled for whole numbers and for others, as often as it is asked for."""


def start(*kinds: str, script: str = SMALL, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *kinds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


def finish(process: subprocess.Popen[str]) -> list:
    out, _ = process.communicate("go\n", timeout=120)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


# Together


def test_processes_that_start_together_on_an_empty_cache(tmp_path: Path) -> None:
    """Each order of two signatures twice: numba's own index could give both the number 1.

    The detector uses neither, so that neither lies compiled beside the sources.
    """
    cache = str(tmp_path / "cache")
    orders = [("single", "int"), ("int", "single")] * 2
    together = [start(*order, NUMBA_CACHE_DIR=cache) for order in orders]
    for process in together:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in together:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [finish(process) for process in together]
    found = [answer[0] for answer in answers]
    assert found == [found[0]] * 4
    assert found[0]["int"] == pytest.approx(38.213, abs=1e-3)
    assert found[0]["single"] == pytest.approx(38.213, abs=1e-3)
    # One that was slow to start may have found the code of another: all of it was compiled by somebody.
    assert all(loaded + saved == 2 for _, loaded, saved, *_ in answers)
    assert sum(saved for _, _, saved, *_ in answers) >= 2
    after, loaded, saved, *_ = finish(start("int", "single", NUMBA_CACHE_DIR=cache))
    assert (after, loaded, saved) == (found[0], 2, 0)
    assert list((tmp_path / "cache").rglob("*.part")) == []


# Files


def test_code_comes_back_as_it_was(tmp_path: Path) -> None:
    code = _Code(tmp_path, tmp_path, BASE)
    assert code.load(KEY) is None
    code.save(KEY, ("payload", b"\x00" * 100))
    assert code.load(KEY) == ("payload", b"\x00" * 100)
    code.flush()
    assert code.load(KEY) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "of another kind"])
def test_half_a_file_is_none(tmp_path: Path, damage: str) -> None:
    code = _Code(tmp_path, tmp_path, BASE)
    code.save(KEY, list(range(100)))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-20] ^= 1
    path.write_bytes(
        {"cut": content[:-10], "empty": b"", "flipped": bytes(flipped), "of another kind": b"x" * 500}[damage]
    )
    assert code.load(KEY) is None
    code.save(KEY, list(range(100)))
    assert path.read_bytes() == content


def test_other_processors_keep_theirs(tmp_path: Path) -> None:
    code = _Code(tmp_path, tmp_path, BASE)
    other = (KEY[0], ("x86_64", "znver4", "+avx512f"), KEY[2])
    code.save(KEY, "here")
    code.save(other, "there")
    assert (code.load(KEY), code.load(other)) == ("here", "there")


def test_what_another_user_compiled_beside_the_sources_is_read(tmp_path: Path) -> None:
    own, beside = tmp_path / "own", tmp_path / "beside"
    own.mkdir()
    beside.mkdir()
    _Code(beside, beside, BASE).save(KEY, "theirs")
    assert _Code(own, beside, BASE).load(KEY) == "theirs"
    assert _Code(tmp_path / "none", beside, BASE).load(KEY) == "theirs"


def test_old_code_goes(tmp_path: Path) -> None:
    gone = [
        f"kernel.run-30.py311.{'0' * 16}.abc.nbc",
        f"{BASE}.{'0' * 16}.abc.nbc",
        "kernel.run-35.py311.nbi",
        "kernel.run-35.py311.1.nbc",
        f"{BASE}.{_STAMP}.abc.nbc.0123.part",
    ]
    stays = [
        f"kernel.run-35.py312.{'0' * 16}.abc.nbc",
        f"kernel.run_all-30.py311.{'0' * 16}.abc.nbc",
        f"{BASE}.{_STAMP}.abc.nbc",
        f"{BASE}.{_STAMP}.abc.nbc.4567.part",
    ]
    for name in (*gone, *stays):
        (tmp_path / name).touch()
    os.utime(tmp_path / gone[-1], times=(time.time() - 7200,) * 2)
    _Code(tmp_path, tmp_path, BASE).save(KEY, 1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left & set(gone) == set()
    assert set(stays) <= left
    assert len(left) == len(stays) + 1


# Nowhere to write


def test_nowhere_to_write(tmp_path: Path) -> None:
    """A read-only home and read-only sources: numba alone refuses to import."""
    # What a read-only folder does to numba's trial, and to nothing else.
    script = (
        "import tempfile\ndef refuse(*_, **__): raise PermissionError(13, 'read-only')\n"
        "tempfile.TemporaryFile = refuse\n"
    )
    found, loaded, saved, unsaved, folder, problem = finish(
        start("int", script=script + SMALL, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    )
    assert found["int"] == pytest.approx(38.213, abs=1e-3)
    # Whole numbers are none of the detector's business: nobody has compiled this before.
    assert (loaded, saved, unsaved, folder) == (0, 0, 1, "")
    assert "read-only" in problem


def test_a_cache_folder_that_is_none_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    found, _, _, _, folder, _ = finish(start("float", NUMBA_CACHE_DIR=str(file / "cache")))
    assert found["float"] == pytest.approx(38.213, abs=1e-3)
    assert str(file) not in folder


def test_no_place_at_all() -> None:
    env = {"NUMBA_CACHE_DIR": "", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    found, loaded, saved, _, folder, problem = finish(start("float", **env))
    assert found["float"] == pytest.approx(38.213, abs=1e-3)
    assert (loaded, saved, folder) == (0, 0, "")
    assert "no locator" in problem


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    script = (
        "from hypnic.jit import _Code\n"
        "def full(*_): raise OSError(28, 'No space left on device')\n"
        "_Code.save = full\n"
    )
    found, _, saved, unsaved, _, problem = finish(
        start("int", script=script + SMALL, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    )
    assert found["int"] == pytest.approx(38.213, abs=1e-3)
    assert (saved, unsaved) == (0, 1)
    assert "No space left" in problem


# Warming up


def test_warmup_leaves_nothing_to_compile() -> None:
    def warmup() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hypnic", "warmup"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout

    warmup()
    said = warmup()
    assert "nothing to compile" in said
    assert "cache: " in said
    # All that a detector with and without a reference runs has now been loaded or compiled.
    code = (
        "import numpy as np, hypnic\n"
        "from hypnic.jit import CACHE\n"
        "from hypnic.warmup import warm_up\n"
        "warm_up()\n"
        "before = CACHE.loaded, CACHE.saved, CACHE.unsaved\n"
        "night = hypnic.Sleeper('mattress', 0.2, 100, 3, reference='frame')\n"
        "found = hypnic.detect(night, reference=night.reference)\n"
        "assert len(found)\n"
        "detector = hypnic.Detector(25, 'wrist')\n"
        "xyz = np.zeros((5, 3), np.float32)\n"
        "xyz.flags.writeable = False\n"
        "detector.push(xyz)\n"
        "hypnic.Detector.from_state(detector.state()).flush()\n"
        "assert (CACHE.loaded, CACHE.saved, CACHE.unsaved) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
