"""Nights joined with the diary, and the rate ratio of each of its columns."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from hypnic.errors import DataError, UsageError
from hypnic.events import write_whole
from hypnic.study.diary import Covariate, Diary
from hypnic.study.model import (
    GEE_SLEEPERS,
    LEVEL,
    POWER,
    Fit,
    attenuated,
    detectable_ratio,
    fit_counts,
    nights_needed,
)
from hypnic.study.nights import EXPOSURES, Night, exposure

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Pair", "Ratio", "Refusal", "Study", "compare", "join"]

JOINT_NIGHTS: Final = 5
"""Nights for each parameter from which all columns are fitted together (a rule of thumb; 10 to 15 are better)."""

EXAMPLE_FALSE: Final = 0.25
"""Part of false candidates with which the bias is explained where none is given."""

SHOWN: Final = 3
"""Names of nights that a sentence lists before it counts the rest."""


class Pair(NamedTuple):
    """A night and its row in the diary.

    Attributes
    ----------
    night : Night
    row : int
        Number of the row in the diary, from 0.
    sleeper : str
        Who slept, by the diary or by the recording.
    """

    night: Night
    row: int
    sleeper: str


class Ratio(NamedTuple):
    """How the rate of candidate jerks goes with a column of the diary.

    Attributes
    ----------
    covariate : str
        The column.
    term : str
        Of what the ratio is: ``per 100``, ``late vs none``.
    joint : bool
        Whether all columns were fitted together, or this one alone.
    ratio, low, high : float
        Rate ratio and its 95 % interval.
    p : float
        Of the hypothesis that it is 1.
    nights, jerks : int
        What it rests on.
    dispersion : float
        Variance of the counts over their mean; 1 would be chance alone.
    method : str
        What was fitted.
    needed, needed_high : int or None
        Nights like these that would show the effect asked for: by the variance as estimated, and by its upper 80 %
        limit. None for more than 100 000, and in a joint fit.
    detectable : float
        Least ratio that the nights at hand would have shown; NaN in a joint fit.
    """

    covariate: str
    term: str
    joint: bool
    ratio: float
    low: float
    high: float
    p: float
    nights: int
    jerks: int
    dispersion: float
    method: str
    needed: int | None = None
    needed_high: int | None = None
    detectable: float = math.nan


class Refusal(NamedTuple):
    """A column that was not fitted, and why."""

    covariate: str
    why: str


@dataclass(frozen=True)
class Study:
    """Nights, diary and what they say together.

    Attributes
    ----------
    pairs : tuple of Pair
        The nights that are in the diary.
    diary : Diary
    exposure : str
        What jerks were counted against: ``hours`` of onset, onset ``windows`` or ``nights``.
    effect : float
        Rate ratio whose nights were asked for.
    ratios : tuple of Ratio
        Each column alone, then all together where there are enough nights.
    refusals : tuple of Refusal
        Columns that the nights cannot carry.
    notes : tuple of str
        What a reader has to know, in plain sentences.
    """

    pairs: tuple[Pair, ...]
    diary: Diary
    exposure: str
    effect: float
    ratios: tuple[Ratio, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What it rests on, in one line."""
        jerks = sum(pair.night.jerks for pair in self.pairs)
        sleepers = {pair.sleeper for pair in self.pairs}
        whose = f" of {len(sleepers)} sleepers" if len(sleepers) > 1 else ""
        return f"{len(self.pairs)} nights{whose}, {jerks} candidate jerks, counted per {EXPOSURES[self.exposure]}"

    def ratio_rows(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells of the table of ratios for people."""
        head = [
            "covariate",
            "",
            "ratio",
            "95 % interval",
            "p",
            "nights",
            f"nights for {self.effect:g}",
            "least seen",
        ]
        rows = [
            [
                f"{r.covariate} (joint)" if r.joint else r.covariate,
                r.term,
                f"{r.ratio:.2f}",
                f"{r.low:.2f}–{r.high:.2f}",
                "<0.001" if r.p < 0.001 else f"{r.p:.3f}",
                str(r.nights),
                "" if r.joint else f"{_many(r.needed)}–{_many(r.needed_high)}",
                "" if r.joint else ("none" if math.isinf(r.detectable) else f"{r.detectable:.2f}"),
            ]
            for r in self.ratios
        ]
        return head, rows

    def to_markdown(self) -> str:
        """Return the whole as Markdown: what it rests on, the table, what was not fitted, what to bear in mind."""
        head, rows = self.ratio_rows()
        lines = ["# Candidate hypnic jerks and the diary", "", self.headline + ".", ""]
        if rows:
            lines += [_cells(head), _cells(["---"] * 2 + ["---:"] * (len(head) - 2)), *map(_cells, rows), ""]
        for refusal in self.refusals:
            lines.append(f"- Not fitted: {refusal.covariate}: {refusal.why}.")
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Return the ratios as CSV with full precision; empty cells where there is no number."""
        names = Ratio._fields
        return _csv([list(names), *[[_value(getattr(r, name)) for name in names] for r in self.ratios]])

    def nights_csv(self) -> str:
        """Return the nights with their row of the diary as CSV."""
        columns = self.diary.covariates.values()
        names = [*Night._fields, *(column.name for column in columns)]
        rows = []
        for night, row, sleeper in self.pairs:
            untold = {"windows": None} if night.windows < 0 else {}
            facts = [_value(value) for value in (night._asdict() | {"subject": sleeper} | untold).values()]
            noted = [_value(c.numbers[row]) if c.is_number else c.words[row] for c in columns]
            rows.append(facts + noted)
        return _csv([names, *rows])

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write ``ratios.csv``, ``nights.csv``, ``study.md`` and ``study.png`` into a folder.

        Raises
        ------
        UsageError
            If matplotlib is not installed.
        OSError
            If something cannot be written.
        """
        from hypnic.study.figure import draw

        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        texts = {"ratios.csv": self.to_csv(), "nights.csv": self.nights_csv(), "study.md": self.to_markdown()}
        for name, text in texts.items():
            write_whole(home / name, text)
        draw(self, home / "study.png")
        return [*(home / name for name in texts), home / "study.png"]


def _many(nights: int | None) -> str:
    return ">100000" if nights is None else str(nights)


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


# Joining


def join(nights: Sequence[Night], diary: Diary) -> tuple[list[Pair], list[str]]:
    """Return the nights that are in the diary, and in words what is not.

    A row with a file name is joined by that, with or without its ending; any other by the date of its evening (see
    `hypnic.study.evening_of`) and, where the diary has one, the subject: as the recording says, or, where it says
    none and there are several sleepers, as a word in the name of its file (``P1_2024-03-21.csv``).

    Raises
    ------
    DataError
        If no night can be joined, or a row fits two nights.
    """
    named: dict[str, list[Night]] = defaultdict(list)
    dated: dict[object, list[Night]] = defaultdict(list)
    for night in nights:
        for name in {night.name.lower(), Path(night.name).stem.lower()}:
            named[name].append(night)
        dated[night.date].append(night)
    several = len({entry.subject.lower() for entry in diary.entries}) > 1
    pairs: list[Pair] = []
    lost: list[str] = []
    taken: dict[str, int] = {}
    for row, entry in enumerate(diary.entries):
        if entry.file:
            fitting = named.get(Path(entry.file).name.lower(), [])
        else:
            fitting = [
                night
                for night in dated.get(entry.night, [])
                if not entry.subject or _is_of(night, entry.subject, several)
            ]
        if len(fitting) > 1:
            raise DataError(
                f"line {entry.line} of the diary fits {fitting[0].name} and {fitting[1].name}: name the file in a "
                "column file, or leave one of them out"
            )
        if not fitting:
            lost.append(entry.file or f"{entry.subject} {entry.night}".strip())
            continue
        if fitting[0].name in taken:
            raise DataError(
                f"{fitting[0].name} is in the diary twice, in lines {taken[fitting[0].name]} and {entry.line}"
            )
        taken[fitting[0].name] = entry.line
        pairs.append(Pair(fitting[0], row, entry.subject or fitting[0].subject))
    undated = [night.name for night in nights if night.date is None and night.name not in taken]
    notes = []
    if lost:
        notes.append(f"In the diary without a recording: {_list(lost)}.")
    if strangers := [night.name for night in nights if night.name not in taken and night.date is not None]:
        notes.append(f"Recorded without a row in the diary: {_list(strangers)}.")
    if undated:
        notes.append(
            f"Neither a start time nor a date in the name: {_list(undated)}. The diary can name them in a column file."
        )
    if not pairs:
        dates = [f"{night.date}" for night in nights if night.date is not None]
        there = f"the recordings are of {_list(dates)}" if dates else "no recording says when it was made"
        raise DataError(f"{diary.path}: no night of it was recorded: {there}, the diary has {_list(lost)}")
    return pairs, notes


def _is_of(night: Night, subject: str, several: bool) -> bool:
    if night.subject or not several:
        return night.subject.lower() in ("", subject.lower())
    return subject.lower() in re.split(r"[^0-9a-z]+", night.name.lower())


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# Comparing


def compare(
    nights: Sequence[Night],
    diary: Diary,
    *,
    covariates: Sequence[str] | None = None,
    exposure_in: str | None = None,
    effect: float = 1.5,
    per: Mapping[str, float] | None = None,
    false_alarms: float | None = None,
) -> Study:
    """Compare the rates of candidate jerks of nights by the columns of a diary (needs the ``study`` extra).

    Parameters
    ----------
    nights : sequence of Night
        From `read_night`.
    diary : Diary
        From `read_diary`.
    covariates : sequence of str, optional
        Columns to compare by; all by default.
    exposure_in : {"hours", "windows", "nights"}, optional
        What jerks are counted against. By default the hours of onset, or the nights themselves where a file does not
        tell how the person rested.
    effect : float
        Rate ratio whose nights are asked for.
    per : mapping of str to float, optional
        Step of a column of numbers that the ratio is for; by default 1, 2 or 5 times a power of ten, near its standard
        deviation.
    false_alarms : float, optional
        False alarms per hour of onset (or per window or night, as `exposure_in` says) that the detector makes, as
        `hypnic score` measures: with it the bias towards 1 is told for these nights.

    Returns
    -------
    Study

    Raises
    ------
    UsageError
        If an option is none, or statsmodels is not installed.
    DataError
        If no night can be joined with the diary.
    """
    wanted = _wanted(diary, covariates, per)
    if not (effect > 0 and math.isfinite(effect)) or effect == 1:
        raise UsageError(f"effect {effect!r} is not a rate ratio above 0 other than 1, such as 1.5")
    if false_alarms is not None and not 0 <= false_alarms < math.inf:
        raise UsageError(f"false alarms {false_alarms!r} are not a number an hour of 0 or more")
    joined, notes = join(nights, diary)
    kind = exposure_in
    if kind is None:
        untold = [pair.night.name for pair in joined if math.isnan(pair.night.onset_hours)]
        kind = "nights" if untold else "hours"
        if untold:
            notes.append(
                f"Counted per night, because {_list(untold)} do not say how the person rested: a longer night counts "
                "as much as a short one."
            )
    against = np.array(list(exposure([pair.night for pair in joined], kind)))
    usable = against > 0
    if dropped := [pair.night.name for pair, fine in zip(joined, usable, strict=True) if not fine]:
        notes.append(f"Without an onset window, or not telling of any, and left out: {_list(dropped)}.")
    pairs = [pair for pair, fine in zip(joined, usable, strict=True) if fine]
    against = against[usable]
    if not pairs:
        raise DataError("none of the nights has an onset window to count jerks in")

    if silent := _silent(pairs):
        notes.append(
            f"Without any jerk, so that they tell nothing of a ratio, and left out: {_list(silent)}."
        )
        heard = [pair.sleeper not in silent for pair in pairs]
        pairs = [pair for pair, kept in zip(pairs, heard, strict=True) if kept]
        against = against[np.array(heard)]
    data = _Data(pairs, against)
    ratios: list[Ratio] = []
    refusals: list[Refusal] = []
    sound: list[Covariate] = []
    for column in wanted:
        try:
            ratios += _alone(data, column, (per or {}).get(column.name), effect)
            sound.append(column)
        except DataError as error:
            refusals.append(Refusal(column.name, str(error)))
    if len(sound) > 1:
        try:
            ratios += _together(data, sound, per or {})
        except DataError as error:
            refusals.append(Refusal("all together", str(error)))
    notes += diary.notes
    notes += _cautions(data, ratios, effect, false_alarms, kind)
    return Study(tuple(pairs), diary, kind, effect, tuple(ratios), tuple(refusals), tuple(notes))


def _silent(pairs: Sequence[Pair]) -> list[str]:
    """Return the sleepers without any jerk, where others have some and each has a baseline of his own."""
    jerks: dict[str, int] = defaultdict(int)
    for pair in pairs:
        jerks[pair.sleeper] += pair.night.jerks
    if len(jerks) >= GEE_SLEEPERS or not any(jerks.values()):
        return []
    return sorted(sleeper for sleeper, count in jerks.items() if not count)


def _wanted(
    diary: Diary, covariates: Sequence[str] | None, per: Mapping[str, float] | None
) -> list[Covariate]:
    there = diary.covariates
    for name in [*(covariates or ()), *(per or {})]:
        if name not in there:
            raise UsageError(f"the diary has no column {name!r} to compare by, only {', '.join(there)}")
    for name, step in (per or {}).items():
        if not there[name].is_number:
            raise UsageError(f"{name} holds words, which have no step")
        if not 0 < step < math.inf:
            raise UsageError(f"step {step!r} of {name} is not a number above 0")
    return [there[name] for name in covariates] if covariates else list(there.values())


class _Data:
    """The joined nights as arrays."""

    def __init__(self, pairs: Sequence[Pair], against: NDArray[np.float64]) -> None:
        self.rows = np.array([pair.row for pair in pairs])
        self.counts = np.array([pair.night.jerks for pair in pairs], np.int64)
        self.against = against
        self.sleepers = [pair.sleeper for pair in pairs]

    def fit(self, used: NDArray[np.intp], design: NDArray[np.float64]) -> Fit:
        who = [self.sleepers[at] for at in used]
        return fit_counts(self.counts[used], self.against[used], design, who if len(set(who)) > 1 else None)


class _Coded(NamedTuple):
    """A column as numbers: which nights have it, its design, and what each of its columns is called."""

    used: NDArray[np.intp]
    design: NDArray[np.float64]
    terms: list[str]


def _coded(data: _Data, column: Covariate, step: float | None) -> _Coded:
    """Return a column as numbers.

    Raises
    ------
    DataError
        If it does not vary.
    """
    if column.is_number:
        values = np.array(column.numbers)[data.rows]
        used = np.flatnonzero(np.isfinite(values))
        if len(used) < 2 or np.ptp(values[used]) == 0:
            raise DataError(f"it is the same in each of the {len(used)} nights that have it")
        size = step or _round_step(float(np.std(values[used])))
        binary = step is None and set(np.unique(values[used]).tolist()) == {0.0, 1.0}
        term = "1 vs 0" if binary else f"per {size:g}"
        return _Coded(used, values[used, None] / (1.0 if binary else size), [term])
    words = [column.words[row] for row in data.rows]
    used = np.flatnonzero([bool(word) for word in words])
    levels = column.levels([int(row) for row in data.rows])
    if len(levels) < 2:
        raise DataError(f"it is the same in each of the {len(used)} nights that have it")
    counts = Counter(words[at] for at in used)
    if rare := [level for level in levels if counts[level] < 2]:
        raise DataError(f"only one night has {rare[0]!r}: a single night is no group")
    for level in levels:
        if not sum(int(data.counts[at]) for at in used if words[at] == level):
            raise DataError(
                f"no jerk in any of the {counts[level]} nights with {level!r}: the ratio has no bound"
            )
    design = np.column_stack([[float(words[at] == level) for at in used] for level in levels[1:]])
    return _Coded(used, design, [f"{level} vs {levels[0]}" for level in levels[1:]])


def _round_step(spread: float) -> float:
    """Return 1, 2 or 5 times a power of ten, the nearest to `spread` by ratio."""
    power = 10.0 ** math.floor(math.log10(spread))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / spread)))


def _alone(data: _Data, column: Covariate, step: float | None, effect: float) -> list[Ratio]:
    coded = _coded(data, column, step)
    found = data.fit(coded.used, coded.design)
    plain = []
    for at, term in enumerate(coded.terms):
        # The level of a category has its own nights: those of the others are part of the baseline's design.
        one = found._replace(
            beta=found.beta[at : at + 1],
            se=found.se[at : at + 1],
            others=np.column_stack([found.others, np.delete(coded.design, at, axis=1)]),
        )
        values = coded.design[:, at]
        plain.append(
            _ratio(data, coded, found, at, column.name, term, joint=False)._replace(
                needed=nights_needed(one, values, effect),
                needed_high=nights_needed(one, values, effect, cautious=True),
                detectable=detectable_ratio(one, values),
            )
        )
    return plain


def _together(data: _Data, columns: Sequence[Covariate], per: Mapping[str, float]) -> list[Ratio]:
    coded = [_coded(data, column, per.get(column.name)) for column in columns]
    used = coded[0].used
    for other in coded[1:]:
        used = np.intersect1d(used, other.used)
    terms = [(column.name, term) for column, one in zip(columns, coded, strict=True) for term in one.terms]
    people = len({data.sleepers[at] for at in used})
    parameters = len(terms) + (people if 1 < people < GEE_SLEEPERS else 1)
    if len(used) < JOINT_NIGHTS * parameters:
        raise DataError(
            f"{len(used)} nights have every column, and {parameters} parameters want {JOINT_NIGHTS * parameters}"
        )
    design = np.column_stack([one.design[np.isin(one.used, used)] for one in coded])
    found = data.fit(used, design)
    whole = _Coded(used, design, [term for _, term in terms])
    return [_ratio(data, whole, found, at, name, term, joint=True) for at, (name, term) in enumerate(terms)]


def _ratio(data: _Data, coded: _Coded, found: Fit, at: int, name: str, term: str, *, joint: bool) -> Ratio:
    ratio, low, high = (math.exp(float(value[at])) for value in (found.beta, found.low, found.high))
    jerks = int(data.counts[coded.used].sum())
    return Ratio(
        name,
        term,
        joint,
        ratio,
        low,
        high,
        float(found.p[at]),
        len(coded.used),
        jerks,
        found.dispersion,
        found.method,
    )


def _cautions(
    data: _Data, ratios: Sequence[Ratio], effect: float, false_alarms: float | None, kind: str
) -> list[str]:
    """Return what a reader has to bear in mind."""
    notes = [
        "Every jerk here is a candidate: an accelerometer cannot see sleep stage, and the labels were fitted to "
        "simulated nights. Nobody assigned caffeine or stress by lot: a ratio is an association, no cause."
    ]
    alone = [r for r in ratios if not r.joint]
    if alone:
        notes.append(
            f"Nights for {effect:g}: how many nights like these (all sleepers together) would show such a ratio with "
            f"{100 * POWER:.0f} % power at {100 * (1 - LEVEL):.0f} %, by the variance seen and by its upper 80 % "
            "limit. Least seen: the smallest ratio that the nights at hand would have shown. An interval that holds 1 "
            "in fewer nights than that says nothing against an effect."
        )
    if len(ratios) > 1:
        notes.append(
            f"{len(ratios)} intervals: with nothing there at all, about one in twenty would leave out 1 by chance."
        )
    if any(r.dispersion > 1 for r in alone):
        worst = max(r.dispersion for r in alone)
        notes.append(
            f"Nights differ more than chance alone makes them (variance up to {worst:.1f} times the mean); the "
            "intervals allow for that. They do not allow for one night resembling the next."
        )
    notes.append(_bias(data, effect, false_alarms, kind))
    return notes


def _bias(data: _Data, effect: float, false_alarms: float | None, kind: str) -> str:
    why = "False alarms that come whatever the diary says pull every ratio towards 1"
    other = "A covariate that makes a sleeper restless can raise the false alarms too, and then push it away from 1."
    if false_alarms is None:
        shown = attenuated(effect, EXAMPLE_FALSE)
        return (
            f"{why}: with {100 * EXAMPLE_FALSE:.0f} % of the candidates false, a true ratio of {effect:g} shows as "
            f"{shown:.2f}. {other}"
        )
    jerks = int(data.counts.sum())
    false = false_alarms * float(data.against.sum()) / jerks if jerks else math.inf
    if false >= 1:
        return (
            f"At {false_alarms:g} false alarms per {EXPOSURES[kind]} all {jerks} candidates can be false: no ratio of "
            "these nights says anything about jerks."
        )
    return (
        f"{why}: at {false_alarms:g} per {EXPOSURES[kind]} {100 * false:.0f} % of these {jerks} candidates are false, "
        f"and a true ratio of {effect:g} shows as {attenuated(effect, false):.2f}. {other}"
    )
