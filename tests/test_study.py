"""A study over nights: the diary, the join, known rate ratios found again, intervals, power, and words of refusal."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hypnic.chunk import Chunk
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events
from hypnic.recording import Recorder
from hypnic.study import (
    Night,
    attenuated,
    compare,
    detectable_ratio,
    evening_of,
    files_in,
    fit_counts,
    join,
    nights_needed,
    power_of,
    read_diary,
    read_night,
)
from tests.test_cli import hypnic as command
from tests.test_cli import refused

needs_statsmodels = pytest.mark.skipif(
    importlib.util.find_spec("statsmodels") is None, reason="statsmodels is not installed"
)
FIRST = date(2024, 3, 1)


def diary(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "diary.csv"
    path.write_bytes(text.encode(encoding))
    return path


def night(number: int, jerks: int, hours: float = 1.0, subject: str = "") -> Night:
    return Night(f"{subject}n{number}.h5", FIRST + timedelta(number), subject, jerks, 2, hours, 8.0)


# The diary


def test_a_plain_diary(tmp_path: Path) -> None:
    read = read_diary(
        diary(
            tmp_path,
            "Date,Caffeine,Stress,Exercise,Notes\n"
            "2024-03-21,100,3,late,tired\n\n"
            "2024-03-22,0,,none,\n"
            '2024-03-23,250.5,4,Late,"a, b"\n',
        )
    )
    assert [entry.night for entry in read.entries] == [date(2024, 3, d) for d in (21, 22, 23)]
    assert [entry.line for entry in read.entries] == [2, 4, 5]
    assert list(read.covariates) == ["caffeine", "stress", "exercise"]
    assert read.covariates["caffeine"].numbers == (100.0, 0.0, 250.5)
    assert math.isnan(read.covariates["stress"].numbers[1])
    assert read.covariates["exercise"].words == ("late", "none", "late")
    # "none" is what to compare with, though "late" is more frequent.
    assert read.covariates["exercise"].levels([0, 1, 2]) == ["none", "late"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_as_spreadsheets_save_it(tmp_path: Path, encoding: str) -> None:
    text = 'sep=;\r\nDatum;Kaffee (mg);Schlaf\r\n21.03.2024;"100";6,5\r\n22.3.2024;0;7,25\r\n;;\r\n'
    read = read_diary(diary(tmp_path, text, encoding))
    assert [entry.night for entry in read.entries] == [date(2024, 3, 21), date(2024, 3, 22)]
    assert read.covariates["schlaf"].numbers == (6.5, 7.25)
    assert read.covariates["kaffee (mg)"].numbers == (100.0, 0.0)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2024-03-04", date(2024, 3, 4)),
        ("20240304", date(2024, 3, 4)),
        ("2024/3/4", date(2024, 3, 4)),
        ("2024-03-04T00:00:00", date(2024, 3, 4)),
        ("4.3.2024", date(2024, 3, 4)),
        ("25/03/2024", date(2024, 3, 25)),
        ("03/25/2024", date(2024, 3, 25)),
        ("04/04/2024", date(2024, 4, 4)),
    ],
)
def test_dates(tmp_path: Path, text: str, when: date) -> None:
    assert read_diary(diary(tmp_path, f"date,x\n{text},1\n")).entries[0].night == when


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("date,caffeine\n", "headings and no night"),
        ("day of week,caffeine\nMo,1\n", "no column date and none called file, only day of week, caffeine"),
        ("date,caffeine\n2024-03-21,1\n,2\n", "line 3 does not say its night"),
        (
            "date,caffeine\n2024-03-21,1\n2024-03-21,2\n",
            "the night of 2024-03-21 is there twice, in lines 2 and 3",
        ),
        ("file,x\na.h5,1\nA.h5,2\n", "a.h5 is there twice"),
        ("date,caffeine\n03/04/2024,1\n", "can mean two days: write it as 2024-03-04 or 2024-04-03"),
        ("date,caffeine\n2024-02-30,1\n", "date '2024-02-30' of line 2 is none"),
        ("date,caffeine\nyesterday,1\n", "date 'yesterday' of line 2 is none"),
        (
            "date,caffeine\n2024-03-21,1\n2024-03-22,two cups\n",
            "'two cups' of line 3 is no number, while '1'",
        ),
        ("date,caffeine\n2024-03-21,1,5\n", "3 cells for 2 columns .a decimal comma"),
        ("date,caffeine,caffeine\n2024-03-21,1,5\n", "two columns are called caffeine"),
        ("date,,caffeine\n2024-03-21,1,5\n", "column 2 has no heading"),
        ("date,notes\n2024-03-21,fine\n", "no column to compare the nights by"),
        ("date,subject,x\n2024-03-21,,5\n", "does not say whose night"),
        ("date,x\n2024-03-21,\n", "no column to compare the nights by; x: nothing is noted"),
        ("date,n\0te\n2024-03-21,1\n", r"line 1 holds a control character \('\\x00'\)"),
        ("date,x\n2024-03-21,\x1b[2J\n", r"line 2 holds a control character \('\\x1b'\)"),
    ],
)
def test_bad_diaries(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_diary(diary(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path))


def test_diaries_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "diary.xlsx").write_bytes(b"PK\x03\x04rest of a workbook")
    with pytest.raises(DataError, match="a workbook: save the sheet as CSV"):
        read_diary(tmp_path / "diary.xlsx")
    with pytest.raises(DataError, match="not UTF-8"):
        read_diary(diary(tmp_path, "date,Müdigkeit\n2024-03-21,1\n", "cp1252"))


def test_free_text_is_left_out_and_said(tmp_path: Path) -> None:
    rows = "".join(f"2024-03-{d:02d},{d},mood {d}\n" for d in range(1, 10))
    read = read_diary(diary(tmp_path, "date,x,mood\n" + rows))
    assert list(read.covariates) == ["x"]
    assert "9 different words" in read.notes[0]


# Nights


def test_the_night_of_an_evening() -> None:
    zone = timezone(timedelta(hours=2))
    assert evening_of(datetime(2024, 3, 21, 22, 30, tzinfo=zone)) == date(2024, 3, 21)
    assert evening_of(datetime(2024, 3, 22, 0, 30, tzinfo=zone)) == date(2024, 3, 21)
    assert evening_of(datetime(2024, 3, 22, 11, 59, tzinfo=zone)) == date(2024, 3, 21)
    assert evening_of(datetime(2024, 3, 22, 12, 0, tzinfo=zone)) == date(2024, 3, 22)
    # The clock on the wall decides, not UTC.
    assert evening_of(datetime(2024, 3, 22, 13, 0, tzinfo=timezone(timedelta(hours=13)))) == date(2024, 3, 22)
    assert evening_of(None, "P1_2024-03-21.csv") == date(2024, 3, 21)
    assert evening_of(None, "P1-20240321-wrist.json") == date(2024, 3, 21)
    assert evening_of(None, "night7.csv") is None
    assert evening_of(None, "120240321.csv") is None
    assert evening_of(None, "2023-02-30.csv") is None


def events(jerks: int, meta: bool = True) -> Events:
    rows = np.zeros(jerks + 1, EVENT_DTYPE)
    rows["label"], rows["id"] = "hypnic_jerk", np.arange(jerks + 1)
    rows["label"][-1] = "isolated_jerk"
    rows["onset"] = rows["sample"] = 10.0 * np.arange(jerks + 1)
    rows["rest"] = "onset"
    bouts = [
        ("settling", 0.0, 900.0),
        ("onset", 900.0, 900.0),
        ("still", 1800.0, 900.0),
        ("settling", 2700.0, 900.0),
    ]
    facts = {
        "rate": 100.0,
        "counts": {"received": 360_000},
        "rest": [{"rest": rest, "onset": at, "duration": length} for rest, at, length in bouts],
    }
    return Events(rows, facts if meta else {})


def test_nights_of_every_kind(tmp_path: Path) -> None:
    start = datetime(2024, 3, 21, 23, 0, tzinfo=UTC)
    still = np.tile(np.array([0.0, 0.0, 1.0], np.float32), (3000, 1))
    with Recorder(tmp_path / "a.h5", 100.0, dtype="float32", start_time=start, subject="P1") as recorder:
        recorder.write(Chunk(still, 0))
        recorder.events(events(3))
    events(4).write(tmp_path / "b_2024-03-22.json")
    events(5, meta=False).write(tmp_path / "c_2024-03-23.csv")
    (tmp_path / "diary.csv").write_text("date,x\n2024-03-21,1\n")
    (tmp_path / "readme.md").write_text("no night")
    files = files_in(tmp_path, tmp_path / "diary.csv")
    assert [path.name for path in files] == ["a.h5", "b_2024-03-22.json", "c_2024-03-23.csv"]
    a, b, c = (read_night(path) for path in files)
    bad = tmp_path / "bad.toml"
    bad.write_text("jerk_skore = 1.0\n")
    with pytest.raises(UsageError, match=r"bad\.toml.*jerk_skore"):
        read_night(files[0], settings=bad)
    bad.unlink()
    # Two windows: half an hour, and the quarter of an hour after the waking. Isolated jerks do not count.
    assert a == Night("a.h5", date(2024, 3, 21), "P1", 3, 2, 0.75, 3000 / 100 / 3600)
    assert b == Night("b_2024-03-22.json", date(2024, 3, 22), "", 4, 2, 0.75, 1.0)
    assert c[:5] == ("c_2024-03-23.csv", date(2024, 3, 23), "", 5, -1)
    assert math.isnan(c.onset_hours)
    (tmp_path / "other.json").write_text(
        '{"events": [{"onset": 1, "label": "hypnic_jerk"}], "meta": {"rate": "?"}}'
    )
    assert read_night(tmp_path / "other.json")[:5] == ("other.json", None, "", 1, -1)
    pytest.importorskip("pyarrow")
    events(6).write(tmp_path / "d_2024-03-24.parquet")
    assert read_night(tmp_path / "d_2024-03-24.parquet").jerks == 6
    with pytest.raises(DataError, match="no folder"):
        files_in(tmp_path / "a.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no night in it"):
        files_in(tmp_path / "empty")


def test_a_night_without_events_is_detected() -> None:
    import hypnic

    path = Path(__file__).parents[1] / "data" / "wrist_onset.h5"
    found = read_night(path)
    with hypnic.open(path) as recording:
        jerks = hypnic.detect(recording).hypnic_jerks
    assert found.jerks == len(jerks) > 0
    assert found.windows > 0
    assert 0 < found.onset_hours < 1


def test_joining(tmp_path: Path) -> None:
    nights = [night(0, 1), night(1, 2), night(9, 3), Night("x.h5", None, "", 4, 1, 1.0, 8.0)]
    told = read_diary(
        diary(tmp_path, "date,file,x\n2024-03-01,,1\n2024-03-05,,2\n,x,3\n,somewhere/n1.h5,4\n")
    )
    pairs, notes = join(nights, told)
    assert [(pair.night.name, pair.row) for pair in pairs] == [("n0.h5", 0), ("x.h5", 2), ("n1.h5", 3)]
    assert notes == [
        "In the diary without a recording: 2024-03-05.",
        "Recorded without a row in the diary: n9.h5.",
    ]


def test_joining_refuses(tmp_path: Path) -> None:
    told = read_diary(diary(tmp_path, "date,x\n2024-03-01,1\n"))
    with pytest.raises(DataError, match=r"line 2 of the diary fits An0\.h5 and Bn0\.h5"):
        join([night(0, 1, subject="A"), night(0, 1, subject="B")], told)
    with pytest.raises(DataError, match=r"the recordings are of 2024-03-05, the diary has 2024-03-01"):
        join([night(4, 1)], told)
    with pytest.raises(DataError, match="no recording says when it was made"):
        join([Night("x.h5", None, "", 4, 1, 1.0, 8.0)], told)
    both = read_diary(diary(tmp_path, "date,file,x\n2024-03-01,,1\n,n0.h5,2\n"))
    with pytest.raises(DataError, match=r"n0\.h5 is in the diary twice, in lines 2 and 3"):
        join([night(0, 1)], both)


def test_joining_by_sleeper(tmp_path: Path) -> None:
    told = read_diary(diary(tmp_path, "date,subject,x\n2024-03-01,A,1\n2024-03-01,b,2\n"))
    pairs, _ = join([night(0, 1, subject="A"), night(0, 2, subject="B")], told)
    assert [(pair.night.subject, pair.row, pair.sleeper) for pair in pairs] == [("A", 0, "A"), ("B", 1, "b")]


def test_joining_by_a_sleeper_in_the_file_name(tmp_path: Path) -> None:
    told = read_diary(diary(tmp_path, "date,subject,x\n2024-03-01,P1,1\n2024-03-01,P12,2\n2024-03-01,P3,3\n"))
    tables = [
        Night(name, FIRST, "", 1, -1, math.nan, 8.0) for name in ("p12_2024-03-01.csv", "2024-03-01-p1.csv")
    ]
    pairs, notes = join(tables, told)
    assert [(pair.night.name, pair.sleeper) for pair in pairs] == [
        ("2024-03-01-p1.csv", "P1"),
        ("p12_2024-03-01.csv", "P12"),
    ]
    assert notes == ["In the diary without a recording: P3 2024-03-01."]


# The model


def binary(rng: np.random.Generator, n: int) -> np.ndarray:
    return (np.arange(n) % 2).astype(float)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def simulated(
    seed: int, n: int, mean: float, between: float, ratio: float, column: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts whose rate goes with a column by a known ratio, and varies from night to night besides."""
    rng = np.random.default_rng(seed)
    x = column(rng, n)
    hours = rng.uniform(0.5, 1.5, n)
    mu = mean * hours * np.exp(math.log(ratio) * x)
    if between:
        mu = mu * rng.gamma(1 / between, between, n)
    return rng.poisson(mu), hours, x[:, None]


@needs_statsmodels
@pytest.mark.parametrize("column", [binary, normal])
def test_a_known_ratio_is_found_again(column: Callable[..., np.ndarray]) -> None:
    fit = fit_counts(*simulated(1, 4000, 4.0, 0.25, 1.5, column))
    assert math.exp(fit.beta[0]) == pytest.approx(1.5, rel=0.05)
    assert fit.between == pytest.approx(0.25, rel=0.2)
    assert fit.dispersion > 1.5
    assert fit.method == "negative binomial"


@needs_statsmodels
def test_without_offset_the_ratio_would_be_wrong() -> None:
    """Nights with the covariate are twice as long: exposure takes that out, and nothing else does."""
    rng = np.random.default_rng(3)
    x = binary(rng, 2000)
    hours = 1.0 + x
    counts = rng.poisson(3.0 * hours)
    assert math.exp(fit_counts(counts, hours, x[:, None]).beta[0]) == pytest.approx(1.0, abs=0.06)
    assert math.exp(fit_counts(counts, np.ones(2000), x[:, None]).beta[0]) == pytest.approx(2.0, abs=0.12)


@needs_statsmodels
@pytest.mark.parametrize(
    ("n", "mean", "between", "column"),
    [
        (8, 4.0, 0.25, binary),
        (30, 4.0, 0.0, binary),
        (30, 4.0, 0.25, normal),
        (30, 6.0, 0.6, normal),
        (60, 4.0, 0.25, normal),
    ],
)
def test_intervals_cover_the_truth(
    n: int, mean: float, between: float, column: Callable[..., np.ndarray]
) -> None:
    """Over 250 studies about 95 % must: the standard error of that is 1.4 %."""
    fits = [fit_counts(*simulated(seed, n, mean, between, 1.5, column)) for seed in range(250)]
    inside = [fit.low[0] <= math.log(1.5) <= fit.high[0] for fit in fits]
    assert 0.92 <= np.mean(inside) <= 0.99
    # And they reject what is not there at the level that they say.
    null = [fit_counts(*simulated(seed, n, mean, between, 1.0, column)).p[0] < 0.05 for seed in range(250)]
    assert np.mean(null) <= 0.085


@needs_statsmodels
@pytest.mark.parametrize(
    ("mean", "between", "column", "ratio"), [(4.0, 0.25, binary, 1.5), (3.0, 0.2, normal, 1.3)]
)
def test_the_nights_needed_are_enough(
    mean: float, between: float, column: Callable[..., np.ndarray], ratio: float
) -> None:
    pilot = simulated(99, 3000, mean, between, 1.0, column)
    fit, x = fit_counts(*pilot), pilot[2][:, 0]
    n = nights_needed(fit, x, ratio)
    assert n is not None
    # The mean count stays that of the pilot.
    level = float(np.mean(np.exp(math.log(ratio) * x)))
    seen = [
        fit_counts(*simulated(seed, n, mean / level, between, ratio, column)).low[0] > 0
        for seed in range(400)
    ]
    assert 0.73 <= np.mean(seen) <= 0.87  # 80 %, with a standard error of 2 %
    cautious = nights_needed(fit, x, ratio, cautious=True)
    assert cautious is not None
    assert cautious >= n


@needs_statsmodels
def test_power_and_what_can_be_seen_agree() -> None:
    data = simulated(4, 40, 4.0, 0.25, 1.0, binary)
    fit, x = fit_counts(*data), data[2][:, 0]
    least = detectable_ratio(fit, x)
    assert nights_needed(fit, x, least * 1.001) <= 40 < nights_needed(fit, x, least * 0.98)
    assert nights_needed(fit, x, 1.2) > nights_needed(fit, x, 1.5) > nights_needed(fit, x, 3.0)
    assert nights_needed(fit, x, 1.0001) is None
    assert nights_needed(fit, x, 1 / 1.5) == pytest.approx(nights_needed(fit, x, 1.5), rel=0.1)
    assert power_of(4, 0.4, 1.0, 2) == 0.0
    assert power_of(1000, 0.0001, 1.0, 2) == pytest.approx(0.025, abs=0.001)
    for wrong in (1.0, 0.0, -2.0, math.inf):
        with pytest.raises(UsageError, match="is not a rate ratio"):
            nights_needed(fit, x, wrong)


@needs_statsmodels
def test_few_nights_say_that_they_are_few() -> None:
    fit = fit_counts(*simulated(5, 5, 6.0, 0.25, 1.5, binary))
    assert fit.high[0] - fit.low[0] > math.log(3)  # the interval spans a factor of three at least
    many = fit_counts(*simulated(5, 500, 6.0, 0.25, 1.5, binary))
    few, more = (
        nights_needed(f, binary(np.random.default_rng(0), n), 1.5) for f, n in ((fit, 5), (many, 500))
    )
    assert few is not None
    assert more is not None
    assert few > 5


@needs_statsmodels
def test_sleepers_keep_their_own_rate() -> None:
    """Who drinks coffee has more jerks anyway: within each sleeper nothing goes with coffee."""
    rng = np.random.default_rng(8)
    who = np.repeat(["a", "b", "c", "d"], 60)
    habit = np.repeat([0.1, 0.3, 0.7, 0.9], 60)
    x = (rng.random(240) < habit).astype(float)
    counts = rng.poisson(np.repeat([1.0, 2.0, 5.0, 9.0], 60))
    hours = np.ones(240)
    assert math.exp(fit_counts(counts, hours, x[:, None]).beta[0]) > 1.5
    within = fit_counts(counts, hours, x[:, None], list(who))
    assert within.low[0] < 0 < within.high[0]
    assert "a baseline for each of 4 sleepers" in within.method
    constant = np.repeat([0.0, 1.0, 0.0, 1.0], 60)
    with pytest.raises(DataError, match="does not vary within any sleeper"):
        fit_counts(counts, hours, constant[:, None], list(who))


@needs_statsmodels
def test_many_sleepers_are_clusters() -> None:
    """Whose effect is the same for everybody covers the truth, though rates differ tenfold between sleepers."""
    inside = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(24), 6)
        x = rng.integers(0, 2, len(who)).astype(float)
        mu = np.repeat(rng.lognormal(1.0, 0.6, 24), 6) * 1.5**x * rng.gamma(5, 0.2, len(who))
        fit = fit_counts(rng.poisson(mu), np.ones(len(who)), x[:, None], [f"s{n:02d}" for n in who])
        assert fit.method == "Poisson GEE over 24 sleepers"
        inside.append(fit.low[0] <= math.log(1.5) <= fit.high[0])
    assert np.mean(inside) >= 0.85  # 95 %, with a standard error of 3.4 %


@needs_statsmodels
@pytest.mark.parametrize(
    ("counts", "column", "words"),
    [
        ([0] * 12, [0, 1] * 6, "0 jerks in all cannot carry a ratio"),
        ([5] * 4, [0, 1, 0, 1], "4 nights cannot carry 2 parameters: at least 5 are needed"),
        ([5] * 12, [3] * 12, "the same in every night"),
    ],
)
def test_what_the_data_cannot_carry(counts: list[int], column: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_counts(np.array(counts), np.ones(len(counts)), np.array(column, float)[:, None])


@needs_statsmodels
def test_columns_that_follow_from_each_other() -> None:
    counts, hours, x = simulated(1, 30, 4.0, 0.0, 1.5, normal)
    with pytest.raises(DataError, match="follow from each other"):
        fit_counts(counts, hours, np.column_stack([x, 2000 * x]))


def test_false_alarms_pull_towards_1() -> None:
    """Against counts: true jerks twice as many with the covariate, false ones the same."""
    rng = np.random.default_rng(2)
    true, false = rng.poisson([6.0, 12.0], (20_000, 2)).mean(0), rng.poisson(2.0, (20_000, 2)).mean(0)
    shown = (true[1] + false[1]) / (true[0] + false[0])
    assert shown == pytest.approx(attenuated(2.0, 2.0 / 8.0), rel=0.01)
    assert attenuated(2.0, 0.0) == 2.0
    with pytest.raises(UsageError, match="is not a part"):
        attenuated(2.0, 1.0)


# All together


def a_study(tmp_path: Path, n: int = 60, seed: int = 11) -> tuple[list[Night], Path]:
    """Simulated nights: 1.6 times the jerks per 100 mg of caffeine, half as many after exercise, nothing else."""
    rng = np.random.default_rng(seed)
    rows = ["date;caffeine;exercise;stress;same"]
    nights = []
    for number in range(n):
        caffeine, exercise = int(rng.choice([0, 80, 160, 240])), bool(rng.integers(2))
        hours = float(rng.uniform(0.4, 1.2))
        mu = 6.0 * hours * 1.6 ** (caffeine / 100) * 0.5**exercise * rng.gamma(8, 1 / 8)
        nights.append(night(number, int(rng.poisson(mu)), hours))
        stress = f"{rng.uniform(1, 5):.1f}".replace(".", ",")
        rows.append(f"{FIRST + timedelta(number)};{caffeine};{'yes' if exercise else 'no'};{stress};4")
    return nights, diary(tmp_path, "\n".join(rows) + "\n", "utf-8-sig")


@needs_statsmodels
def test_a_whole_study(tmp_path: Path) -> None:
    nights, path = a_study(tmp_path)
    result = compare(nights, read_diary(path), per={"caffeine": 100.0}, false_alarms=0.5)
    assert result.exposure == "hours"
    terms = {(r.covariate, r.term, r.joint): r for r in result.ratios}
    assert set(terms) == {
        (name, term, joint)
        for name, term in (("caffeine", "per 100"), ("exercise", "yes vs no"), ("stress", "per 1"))
        for joint in (False, True)
    }
    joint = terms["caffeine", "per 100", True]
    assert joint.low < 1.6 < joint.high
    assert joint.low > 1.0
    assert terms["exercise", "yes vs no", True].low < 0.5 < terms["exercise", "yes vs no", True].high
    assert terms["stress", "per 1", True].low < 1.0 < terms["stress", "per 1", True].high
    assert [refusal.covariate for refusal in result.refusals] == ["same"]
    assert "the same in each of the 60 nights" in result.refusals[0].why
    text = " ".join(result.notes)
    for words in ("candidate", "association, no cause", "towards 1", "one in twenty", "per hour of onset"):
        assert words in text
    alone = terms["stress", "per 1", False]
    assert alone.needed is not None
    assert alone.needed_high is not None
    assert alone.needed <= alone.needed_high


@needs_statsmodels
def test_the_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    nights, path = a_study(tmp_path, 30)
    result = compare(nights, read_diary(path))
    written = result.write(tmp_path / "out")
    assert [p.name for p in written] == ["ratios.csv", "nights.csv", "study.md", "study.png"]
    with (tmp_path / "out" / "ratios.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.ratios)
    for row, ratio in zip(rows, result.ratios, strict=True):
        assert float(row["ratio"]) == ratio.ratio
        assert row["needed"] == ("" if ratio.needed is None else str(ratio.needed))
    with (tmp_path / "out" / "nights.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["jerks"]) for row in table] == [n.jerks for n in nights]
    markdown = (tmp_path / "out" / "study.md").read_text()
    assert "| caffeine | per 100 |" in markdown
    assert "Not fitted: same" in markdown
    assert (tmp_path / "out" / "study.png").read_bytes().startswith(b"\x89PNG")


@needs_statsmodels
def test_the_figure_shows_what_the_table_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from hypnic.study import draw

    nights, path = a_study(tmp_path, 30)
    result = compare(nights, read_diary(path))
    draw(result, tmp_path / "study.svg")
    svg = (tmp_path / "study.svg").read_text()
    for r in result.ratios:
        assert f"<!-- {r.covariate}, {r.term} -->" in svg
        assert f"<!-- {r.ratio:.2f} ({r.low:.2f}–{r.high:.2f}), {r.nights} nights -->" in svg
    # Nothing that could be fitted is a figure, too.
    few = compare(nights[:3], read_diary(path))
    assert not few.ratios
    draw(few, tmp_path / "few.png")


@needs_statsmodels
def test_exposures_and_words(tmp_path: Path) -> None:
    nights, path = a_study(tmp_path)
    told = read_diary(path)
    bare = [n._replace(windows=-1, onset_hours=math.nan) for n in nights]
    result = compare(bare, told, covariates=["caffeine"])
    assert result.exposure == "nights"
    assert any("do not say how the person rested" in note for note in result.notes)
    assert compare(nights, told, exposure_in="windows").exposure == "windows"
    with pytest.raises(DataError, match="none of the nights has an onset window"):
        compare(bare, told, exposure_in="hours")
    mixed = [nights[0]._replace(windows=0, onset_hours=0.0), *nights[1:]]
    assert len(compare(mixed, told).pairs) == 59
    for options, words in (
        ({"covariates": ["tea"]}, "no column 'tea'"),
        ({"per": {"exercise": 1.0}}, "holds words"),
        ({"per": {"caffeine": 0.0}}, "is not a number above 0"),
        ({"effect": 1.0}, "is not a rate ratio"),
        ({"false_alarms": -1.0}, "false alarms"),
        ({"exposure_in": "years"}, "exposure 'years' is unknown"),
    ):
        with pytest.raises(UsageError, match=words):
            compare(nights, told, **options)  # type: ignore[arg-type]


@needs_statsmodels
def test_groups_that_cannot_be_compared(tmp_path: Path) -> None:
    nights = [night(n, 0 if n % 3 == 0 else 5) for n in range(12)]
    rows = "".join(
        f"{FIRST + timedelta(n)},{'dry' if n % 3 == 0 else 'wet'},{'odd' if n == 4 else 'even'}\n"
        for n in range(12)
    )
    result = compare(nights, read_diary(diary(tmp_path, "date,weather,parity\n" + rows)))
    why = {refusal.covariate: refusal.why for refusal in result.refusals}
    assert why["weather"] == "no jerk in any of the 4 nights with 'dry': the ratio has no bound"
    assert why["parity"] == "only one night has 'odd': a single night is no group"
    assert result.ratios == ()


@needs_statsmodels
def test_a_sleeper_without_jerks_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    nights, rows = [], ["date,subject,x,cold"]
    for person, mean in (("A", 4.0), ("B", 8.0), ("C", 0.0)):
        for number in range(10):
            nights.append(night(number, int(rng.poisson(mean)), subject=person))
            rows.append(f"{FIRST + timedelta(number)},{person},{number % 2},{number - 1}")
    result = compare(nights, read_diary(diary(tmp_path, "\n".join(rows))))
    assert len(result.pairs) == 20
    assert any("left out: C." in note for note in result.notes)
    assert {r.method for r in result.ratios} <= {
        f"{name}, a baseline for each of 2 sleepers" for name in ("Poisson", "negative binomial")
    }
    table = list(csv.DictReader(result.nights_csv().splitlines()))
    assert [row["cold"] for row in table[:3]] == ["-1.0", "0.0", "1.0"]
    assert [row["subject"] for row in table[::10]] == ["A", "B"]
    with pytest.raises(DataError, match="s2 has no jerk in any of these nights"):
        fit_counts(
            np.array([5, 6, 7, 8, 0, 0, 0, 0]),
            np.ones(8),
            np.array([0.0, 1.0] * 4)[:, None],
            ["s1"] * 4 + ["s2"] * 4,
        )


@needs_statsmodels
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(1)
    folder = tmp_path / "nights"
    folder.mkdir()
    rows = ["date,caffeine"]
    for number in range(12):
        day = FIRST + timedelta(number)
        events(int(rng.poisson(4 * 2.0 ** (number % 2)))).write(folder / f"{day}.json")
        rows.append(f"{day},{100 * (number % 2)}")
    (folder / "diary.csv").write_text("\n".join(rows) + "\n")
    done = command(
        "study", folder, "--diary", folder / "diary.csv", "-o", tmp_path / "out", "--per", "caffeine=100"
    )
    assert done.returncode == 0, done.stderr
    assert "12 nights" in done.stdout
    assert "candidate" in done.stdout
    assert "per 100" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "nights.csv",
        "ratios.csv",
        "study.md",
        "study.png",
    ]
    refused(command("study", folder, "--diary", tmp_path / "none.csv"), 1, "none.csv")
    refused(command("study", tmp_path / "no", "--diary", folder / "diary.csv"), 1, "no folder")
    refused(command("study", folder, "--diary", folder / "diary.csv", "--per", "caffeine"), 2, "--per")
    refused(command("study", folder, "--diary", folder / "diary.csv", "--effect", "1"), 2, "effect")
    (folder / "bad.h5").write_bytes(b"no night")
    (folder / "list.json").write_text(json.dumps([1, 2]))
    done = command("study", folder, "--diary", folder / "diary.csv")
    assert done.returncode == 1
    assert "12 nights" in done.stdout
    assert len(done.stderr.splitlines()) == 3
