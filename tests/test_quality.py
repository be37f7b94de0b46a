"""What is said about a recording is what was put into it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypnic.chunk import Chunk
from hypnic.quality import describe
from hypnic.readers import open_recording
from hypnic.readers.base import MemoryRecording, make_gaps
from hypnic.recording import Recorder, Recording

SHARED = Path(__file__).parents[1].parent / "shared" / "recordings"


def still(n=6000, noise=0.002, seed=0):
    return np.random.default_rng(seed).normal((0, 0, 1), noise, (n, 3)).astype(np.float32)


def about(xyz, rate=100.0, **facts):
    facts = {"site": "wrist", "start_time": None, **facts}
    return describe(MemoryRecording("some.csv", xyz, rate=rate, **facts))


def told(facts, words):
    return sum(words in sentence for sentence in facts["warnings"])


def test_a_sound_night_has_nothing_wrong(tmp_path):
    with Recorder(tmp_path / "n.h5", 100, range_g=2, sensor="MPU6050", start_time=0.0, durable=False) as out:
        out.write(Chunk(still(), 0))
    with Recording(tmp_path / "n.h5") as recording:
        facts = describe(recording)
    assert facts["warnings"] == []
    assert facts["rate"] == facts["effective_rate"] == 100
    assert facts["duration"] == 60
    assert facts["samples"] == 6000
    assert facts["start"] == "1970-01-01T00:00:00+00:00"
    assert facts["noise"] == pytest.approx([0.002] * 3, rel=0.1)
    assert facts["step_g"] == pytest.approx(2 / 32768, rel=1e-3)
    assert facts["mean_norm"] == pytest.approx(1.0, abs=1e-3)
    assert facts["clipped"] == facts["invalid"] == facts["flat_s"] == 0
    np.testing.assert_allclose(facts["low"], still().min(axis=0), atol=1e-4)
    np.testing.assert_allclose(facts["high"], still().max(axis=0), atol=1e-4)


def test_noise_is_that_of_the_calm_parts():
    xyz = still(30000)
    xyz[4000:30000] += (
        np.cumsum(np.random.default_rng(1).normal(0, 0.02, (26000, 3)), axis=0).astype(np.float32) % 1
    )
    assert about(xyz)["noise"] == pytest.approx([0.002] * 3, rel=0.2)


def test_a_short_recording_has_a_noise_too():
    assert about(still(300))["noise"] == pytest.approx([0.002] * 3, rel=0.2)
    assert about(still(1))["noise"] == [None] * 3


def test_flat_stretches_are_counted_over_the_edges_of_chunks():
    xyz = still(200_000)
    xyz[65000:66000] = xyz[65000]  # over the edge at 65536
    xyz[1000:1400] = xyz[1000]  # 4 s: a quiet sleeper with a coarse sensor
    xyz[-600:] = xyz[-600]
    facts = about(xyz)
    assert facts["flat_s"] == pytest.approx(16.0, abs=0.03)
    assert told(facts, "do not change") == 1
    # Not one run across a gap.
    assert about(np.tile(still(1), (900, 1)), gaps=make_gaps([450], [10]))["flat_s"] == 0


class Cut(MemoryRecording):
    """A recording that comes in chunks of another size."""

    block = 65536

    def __iter__(self):
        return self.chunks(block=self.block)


@given(
    block=st.integers(1, 3000),
    pieces=st.lists(
        st.tuples(st.sampled_from(["noise", "held", "nan", "inf", "far"]), st.integers(1, 900)), min_size=1
    ),
    gaps=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 50)), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_figures_are_the_same_for_every_chunking(block, pieces, gaps, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for kind, length in pieces:
        part = rng.normal((0, 0, 1), 0.01, (length, 3)).astype(np.float32)
        if kind == "held":
            part[:] = part[0]
        elif kind != "noise":
            part[rng.integers(length), rng.integers(3)] = {"nan": np.nan, "inf": -np.inf, "far": 2.0}[kind]
        parts.append(part)
    xyz = np.concatenate(parts)
    at = sorted({min(at, len(xyz)) for at, _ in gaps})
    facts = {"rate": 30.0, "site": "wrist", "range_g": 2.0, "gaps": make_gaps(at, [9] * len(at))}
    night = Cut("some.csv", xyz, **facts)
    whole = describe(night)
    night.block = block
    assert describe(night) == whole
    # What they are, said the long way.
    sound = np.isfinite(xyz).all(axis=1)
    assert whole["invalid"] == np.count_nonzero(~sound)
    assert whole["clipped"] == np.count_nonzero((np.abs(xyz[sound]) >= 2.0 * (1 - 1 / 512)).any(axis=1))
    if sound.any():
        np.testing.assert_array_equal(whole["low"], xyz[sound].min(axis=0))
        np.testing.assert_array_equal(whole["high"], xyz[sound].max(axis=0))
        assert whole["mean_norm"] == pytest.approx(np.linalg.norm(xyz[sound].astype(float), axis=1).mean())
    flat, steps = 0, [np.inf]
    for stretch in np.split(xyz.astype(float), at):
        run = 1
        for before, after in pairwise(stretch):
            if (before == after).all():
                run += 1
                continue
            flat += run if run >= 150 else 0
            run = 1
            with np.errstate(invalid="ignore"):
                steps += [step for step in np.abs(after - before) if step > 0]
        flat += run if run >= 150 else 0
    assert whole["flat_s"] == flat / 30.0
    assert whole["step_g"] == (min(steps) if np.isfinite(min(steps)) else None)


def test_short_stretches_between_gaps_have_a_noise_too():
    facts = about(still(4000), gaps=make_gaps(range(400, 4000, 400), [50] * 9))
    assert facts["noise"] == pytest.approx([0.002] * 3, rel=0.2)


def test_faults_are_told():
    xyz = still()
    xyz[100, 1], xyz[101, 0], xyz[200:203] = np.nan, np.inf, 2.0
    facts = about(xyz * np.float32(1.0), range_g=2.0)
    assert (facts["invalid"], facts["clipped"]) == (2, 3)
    assert told(facts, "not numbers") == told(facts, "end of the range") == told(facts, "no start time") == 1
    assert about(xyz)["clipped"] is None
    assert told(about(still() * np.float32(9.81)), "unit or scale") == 1
    assert told(about(np.round(still(noise=0.02) / 0.0156) * np.float32(0.0156)), "15.6 mg are coarse") == 1
    assert told(about(still(), rate=32.0), "is low") == 1
    facts = about(still(), gaps=make_gaps([100, 200], [50, 500]))
    assert facts["gaps"] == {"count": 2, "seconds": 5.5, "longest_s": 5.0}
    assert told(facts, "2 gaps make 5.5 s of 66 s") == 1


def test_a_slow_clock_and_an_unfinished_file_are_told(tmp_path):
    out = Recorder(tmp_path / "n.h5", 100, durable=False)
    out.write(Chunk(still(), 0))
    for sample in (0, 3000, 5999):
        out.clock(sample, sample, 1e9 + sample / 97)
    out.flush()
    with Recording(tmp_path / "n.h5") as recording:
        facts = describe(recording)
    out.close()
    assert facts["effective_rate"] == pytest.approx(97, abs=0.01)
    assert told(facts, "By the clock the rate is 97 Hz, not 100 Hz") == 1
    assert told(facts, "has not closed") == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real recordings is not there")
def test_real_recordings():
    with open_recording(SHARED / "formats" / "MIMSunit_rest_on_table_80hz.csv") as recording:
        facts = describe(recording)
    assert facts["noise"] == pytest.approx([0.0018] * 3, abs=0.0003)
    assert facts["warnings"] == []
    with open_recording(SHARED / "stress_predict_e4_32hz" / "S01_ACC.csv") as recording:
        facts = describe(recording)
    assert facts["step_g"] == 1 / 64
    assert told(facts, "is low") == told(facts, "coarse") == told(facts, "end of the range") == 1
