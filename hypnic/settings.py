"""Every threshold of the detector, with its unit, its meaning and where it comes from.

A preset is versioned and never changes: better values get a new name (``wrist-2``), so that a study can
say what it ran and run it again. Windows are in seconds, so one preset serves every rate.

Sources: "S" marks values chosen on simulated nights (:mod:`hypnic.simulate`), with no human data behind them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from hypnic.chunk import check_site
from hypnic.errors import UsageError

__all__ = ["PRESETS", "Settings"]

LARGEST_FILE: Final = 16384
"""Bytes of a settings file: all settings with a remark each take a third. The parser's memory grows as their square."""


def _in_full(source: str) -> str:
    """Return a source with the mark "S" of this module in words."""
    if source == "S":
        return "chosen on simulated nights"
    return source.replace("(S)", "(on simulated nights)")


def _setting(
    default: Any, unit: str, meaning: str, source: str, low: float = 0.0, high: float = math.inf
) -> Any:
    return field(
        default=default,
        metadata={"unit": unit, "meaning": meaning, "source": source, "low": low, "high": high},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The detector's thresholds; `Settings.preset` gives those of a site.

    Every field carries its unit, meaning, source and limits in its dataclass metadata; `describe` lists them.

    Raises
    ------
    UsageError
        If a value is not a number within its limits.
    """

    name: str = field(default="wrist-1", metadata={"unit": "", "meaning": "preset these values started from"})
    band_low: float = _setting(1.5, "Hz", "lower corner of the jerk band", "limb ring 2-7 Hz (S)", 0.2, 5.0)
    band_high: float = _setting(
        12.0, "Hz", "upper corner of the jerk band, at most 0.4 x rate", "energy at 2-9 Hz (S)", 6.0, 40.0
    )
    hf_low: float = _setting(
        20.0,
        "Hz",
        "corner above which energy speaks for a tap; unused above 0.4 x rate",
        "taps (S)",
        13.0,
        200.0,
    )
    smooth: float = _setting(
        0.06, "s", "time constant of each of two smoothing poles of the energy", "S", 0.01, 0.5
    )
    block: float = _setting(0.1, "s", "interval of background and rest updates", "cost", 0.05, 0.5)
    background: float = _setting(
        30.0, "s", "span of the running median of log energy", "15-30 s work, 60 s is worse (S)", 5.0, 120.0
    )
    guard: float = _setting(1.0, "s", "newest part that the background leaves out", "S", 0.0, 10.0)
    warmup: float = _setting(
        5.0, "s", "background needed before the first event", "50 values of a median", 1.0, 60.0
    )
    on_min: float = _setting(1.6, "ln", "least prominence that opens an event", "S", 0.5, 10.0)
    on_over: float = _setting(
        1.2,
        "ln",
        "rise over the upper tenth of the background that opens an event: heartbeats raise it",
        "S",
        0,
        10,
    )
    on_max: float = _setting(4.5, "ln", "prominence that always opens an event", "S", 0.5, 10.0)
    loud: float = _setting(
        5.0, "ln", "prominence beyond which energy is movement, not background", "S", 1.0, 20.0
    )
    patience: float = _setting(
        20.0, "s", "such energy for longer is background all the same", "S", 1.0, 120.0
    )
    off: float = _setting(1.0, "ln", "prominence below which an event dies away", "S", 0.0, 10.0)
    release: float = _setting(
        3.5, "ln", "drop from its peak energy that also ends an event", "ring of the filters (S)", 1.0, 20.0
    )
    hang: float = _setting(0.3, "s", "time below the off level that ends an event", "S", 0.05, 5.0)
    early: float = _setting(
        0.15, "s", "time below the off level until the provisional row", "it may yet go on", 0.02, 5.0
    )
    whiten: float = _setting(
        0.0,
        "",
        "part of the mean background added on every axis before directions are weighed by it; 0 weighs them alike",
        "a heartbeat shakes a bed along one line (S)",
        0.0,
        1.0,
    )
    sideways: float = _setting(
        1.0,
        "",
        "weight of energy across gravity, where directions are weighed",
        "beds move up and down (S)",
        0.05,
        1.0,
    )
    spread: float = _setting(
        20.0, "s", "time constant of the background that directions are weighed by", "S", 2.0, 120.0
    )
    rearm: float = _setting(
        1.5, "ln", "rise from the lowest energy since the last event that opens the next", "S", 0.1, 10.0
    )
    floor_g: float = _setting(
        0.006, "g", "band amplitude (root of smoothed energy) that opens an event", "S", 0.0, 1.0
    )
    floor_steps: float = _setting(
        0.75, "", "the same floor in sensor steps: coarse steps look like jerks", "S", 0.0, 10.0
    )
    lookback: float = _setting(
        1.0, "s", "farthest that an onset is traced back from the trigger", "S", 0.1, 1.5
    )
    max_event: float = _setting(
        60.0, "s", "an event still open after this is closed", "movements last 1-45 s", 5.0, 600.0
    )
    final_delay: float = _setting(
        4.0, "s", "from an event's end to its final row", "arousal may follow a jerk", 0.5, 8.0
    )
    bridge: float = _setting(
        0.05, "s", "loss that the filters run across (at least one sample)", "S", 0.0, 0.2
    )
    blank: float = _setting(
        0.5, "s", "time after a longer loss in which no event opens", "filter settling", 0.0, 5.0
    )
    max_g: float = _setting(
        64.0, "g", "a sample beyond this is invalid", "no sensor of this use reaches it", 2.0, 1e4
    )
    posture_angle: float = _setting(
        15.0, "deg", "change of gravity that makes a movement a posture shift", "S", 0.1, 180
    )
    rest_angle: float = _setting(
        5.0,
        "deg",
        "posture change between 5 s epochs that ends quiet; 180 to ignore",
        "van Hees 2015",
        0.5,
        180.0,
    )
    settle: float = _setting(10.0, "s", "quiet after movement until a person settles", "S", 5.0, 1800.0)
    still: float = _setting(
        300.0,
        "s",
        "quiet until stillness is declared",
        "5 min without posture change, van Hees 2015",
        30.0,
        3600.0,
    )
    settling: float = _setting(
        600.0, "s", "longest settling: stillness is then declared all the same", "S", 60.0, 7200.0
    )
    window: float = _setting(
        1200.0,
        "s",
        "onset window past declared stillness",
        "actigraphy calls sleep 9-20 min early",
        60.0,
        7200.0,
    )
    waking: float = _setting(
        10.0,
        "s",
        "decaying sum of movement that means awake",
        "longer than one turn in sleep (S)",
        1.0,
        600.0,
    )
    waking_decay: float = _setting(180.0, "s", "time constant of that sum", "S", 10.0, 3600.0)
    jerk_score: float = _setting(
        0.45, "", "score from which an event is labelled a jerk", "best F1 (S)", 0.0, 1.0
    )
    jerk_t90: float = _setting(
        1.0,
        "s",
        "an event longer than this is no jerk",
        "EMG burst of 75-250 ms and ring: 0.2-0.6 s (S)",
        0.2,
        10.0,
    )
    impact_t90: float = _setting(0.14, "s", "an event shorter than this is an impact", "taps (S)", 0.0, 1.0)
    impact_hf: float = _setting(
        0.35, "", "an event with more energy above 20 Hz is an impact", "taps (S)", 0.0, 100.0
    )
    rhythm: float = _setting(
        0.3, "", "spread over mean of the times between bursts of a rhythmic train", "S", 0.0, 2.0
    )
    plm_low: float = _setting(
        10.0, "s", "shortest onset-to-onset interval in a PLM series", "WASM 2016; AASM: 5", 1, 30
    )
    plm_high: float = _setting(
        90.0, "s", "longest onset-to-onset interval in a PLM series", "WASM 2016, AASM", 30, 200
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "name":
                if value not in PRESETS:
                    raise UsageError(f"setting name = {value!r} is no preset: use {', '.join(PRESETS)}")
                continue
            low, high, unit = item.metadata["low"], item.metadata["high"], item.metadata["unit"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                limits = f"from {low:g} to {high:g} {unit}".rstrip()
                raise UsageError(f"setting {item.name} = {value!r} is not a number {limits}")
            object.__setattr__(self, item.name, float(value))
        if self.on_max < self.on_min:
            raise UsageError(f"setting on_max = {self.on_max:g} is below on_min = {self.on_min:g}")
        if self.warmup > self.background:
            raise UsageError(
                f"setting warmup = {self.warmup:g} s is longer than background = {self.background:g} s"
            )
        if self.off >= self.on_min:
            raise UsageError(f"setting off = {self.off:g} is not below on_min = {self.on_min:g}")

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return the settings of a preset (``"wrist-1"``, ``"mattress-1"``) or of a site (its newest preset).

        Raises
        ------
        UsageError
            If there is no such preset.
        """
        key = name if name in PRESETS else f"{name}-1"
        if key not in PRESETS:
            raise UsageError(f"preset {name!r} is unknown: use {', '.join(PRESETS)}")
        return cls(name=key, **PRESETS[key])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], site: str = "wrist") -> Self:
        """Return the preset of `site`, or of ``values["name"]``, with `values` in place of its own.

        Raises
        ------
        UsageError
            If a name is unknown or a value out of its limits.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"settings {str(values)[:80]!r} are none: expected names and values")
        known = {item.name for item in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise UsageError(f"setting {key!r} is unknown: use {', '.join(sorted(known))}")
        start = cls.preset(str(values.get("name", check_site(site))))
        return dataclasses.replace(start, **{key: value for key, value in values.items() if key != "name"})

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], site: str = "wrist") -> Self:
        """Return the settings in a TOML file: names and values at its top level.

        Raises
        ------
        UsageError
            If the file is missing, is not TOML, or holds an unknown name or a value out of its limits.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise UsageError(f"longer than {LARGEST_FILE} bytes, which no settings are")
            return cls.from_dict(tomllib.loads(data.decode("utf-8")), site)
        except OSError as error:
            raise UsageError(f"settings file {os.fspath(path)}: {error.strerror}") from None
        except UsageError as error:
            raise UsageError(f"settings file {os.fspath(path)}: {error}") from None
        except (ValueError, RecursionError) as error:
            # What the parser raises, of its own and for numbers of thousands of digits.
            raise UsageError(f"settings file {os.fspath(path)} is not TOML: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON and TOML."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the values as JSON, one line, in the order of the fields."""
        return json.dumps(self.to_dict())

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """Return name, default, unit, meaning, source and limits of every setting."""
        told = [
            {"name": item.name, "default": item.default, **item.metadata} for item in dataclasses.fields(cls)
        ]
        for setting in told:
            if "source" in setting:
                setting["source"] = _in_full(setting["source"])
        return told


PRESETS: Final[dict[str, dict[str, float]]] = {
    "wrist-1": {},
    # A mattress shows a hundredth of what a wrist does, and has no arm whose angle could change.
    "mattress-1": {
        "floor_g": 0.001,
        "posture_angle": 1.0,
        "rest_angle": 180.0,
        "waking": 6.0,
        "waking_decay": 90.0,
        "whiten": 0.02,
        "sideways": 0.4,
        "on_min": 1.4,
        "on_over": 1.0,
    },
}
"""What each preset changes from the defaults above."""
