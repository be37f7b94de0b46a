"""Does it go with caffeine? Candidate jerks of many nights against a diary.

>>> from hypnic.study import compare, files_in, read_diary, read_night                   # doctest: +SKIP
>>> diary = read_diary("nights/diary.csv")                                                # doctest: +SKIP
>>> nights = [read_night(path) for path in files_in("nights", diary.path)]                # doctest: +SKIP
>>> study = compare(nights, diary, effect=1.5)                                            # doctest: +SKIP
>>> study.write("out")                                                                    # doctest: +SKIP

What comes out are associations of candidates with what somebody wrote down. Few nights say little: every table says
how many nights an effect would have needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypnic.study.diary import Diary, read_diary
    from hypnic.study.figure import draw
    from hypnic.study.model import attenuated, detectable_ratio, fit_counts, nights_needed, power_of
    from hypnic.study.nights import Night, evening_of, files_in, read_night
    from hypnic.study.ratios import Ratio, Study, compare, join

__all__ = [
    "Diary",
    "Night",
    "Ratio",
    "Study",
    "attenuated",
    "compare",
    "detectable_ratio",
    "draw",
    "evening_of",
    "files_in",
    "fit_counts",
    "join",
    "nights_needed",
    "power_of",
    "read_diary",
    "read_night",
]

_HOMES = {
    "Diary": "diary",
    "read_diary": "diary",
    "draw": "figure",
    **dict.fromkeys(("attenuated", "detectable_ratio", "fit_counts", "nights_needed", "power_of"), "model"),
    **dict.fromkeys(("Night", "evening_of", "files_in", "read_night"), "nights"),
    **dict.fromkeys(("Ratio", "Study", "compare", "join"), "ratios"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hypnic.study' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hypnic.study.{_HOMES[name]}"), name)
