from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypnic.errors import UsageError
from hypnic.settings import PRESETS, Settings

NUMBERS = [item for item in dataclasses.fields(Settings) if item.name != "name"]


def refused(**values: object) -> str:
    with pytest.raises(UsageError) as error:
        Settings(**values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_presets():
    assert list(PRESETS) == ["wrist-1", "mattress-1"]
    assert Settings.preset("wrist") == Settings.preset("wrist-1") == Settings()
    assert Settings.preset("mattress") == Settings.preset("mattress-1") != Settings()
    for name, changes in PRESETS.items():
        preset = Settings.preset(name)
        assert preset.name == name
        for key, value in changes.items():
            assert getattr(preset, key) == value != getattr(Settings(), key), key


@pytest.mark.parametrize("name", ["ankle", "wrist-2", "", "wrist-1-1"])
def test_unknown_preset(name):
    with pytest.raises(UsageError, match="use wrist-1, mattress-1"):
        Settings.preset(name)


@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: item.name)
def test_every_setting_has_a_unit_a_meaning_a_source_and_limits(item):
    assert item.metadata["meaning"]
    assert item.metadata["source"]
    assert isinstance(item.metadata["unit"], str)
    assert item.metadata["low"] <= item.default <= item.metadata["high"]
    for changes in PRESETS.values():
        assert item.metadata["low"] <= changes.get(item.name, item.default) <= item.metadata["high"]


@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: item.name)
def test_limits(item):
    low, high = item.metadata["low"], item.metadata["high"]
    assert math.isfinite(high)
    for wrong in (
        low - 1e-9 - abs(low) * 1e-6,
        high * (1 + 1e-6) + 1e-9,
        math.nan,
        math.inf,
        "1",
        None,
        True,
    ):
        message = refused(**{item.name: wrong})
        assert f"setting {item.name} = {wrong!r} is not a number from {low:g} to {high:g}" in message
        assert message.endswith(item.metadata["unit"] or f"{high:g}")


def test_levels_that_contradict_each_other():
    assert refused(on_min=2.0, on_max=1.9, off=0.5) == "setting on_max = 1.9 is below on_min = 2"
    assert refused(on_min=1.0, off=1.0) == "setting off = 1 is not below on_min = 1"


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().on_min = 3.0


def test_whole_numbers_become_floats():
    settings = Settings(background=20)
    assert isinstance(settings.background, float)
    assert settings == Settings(background=20.0)


# Dictionaries


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    values = {
        item.name: draw(st.floats(item.metadata["low"], item.metadata["high"]))
        for item in draw(st.lists(st.sampled_from(NUMBERS), unique=True, max_size=6))
        if item.name not in ("on_min", "on_max", "off", "warmup", "background")
    }
    return Settings.from_dict({"name": draw(st.sampled_from(list(PRESETS))), **values})


@given(any_settings())
def test_round_trip(settings):
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Settings.from_dict(json.loads(settings.to_json())) == settings
    assert "\n" not in settings.to_json()


def test_from_dict_starts_from_a_preset():
    assert Settings.from_dict({}) == Settings.preset("wrist")
    assert Settings.from_dict({}, "mattress") == Settings.preset("mattress")
    assert Settings.from_dict({"name": "mattress-1"}, "wrist") == Settings.preset("mattress")
    changed = Settings.from_dict({"on_min": 1.9}, "mattress")
    assert changed == dataclasses.replace(Settings.preset("mattress"), on_min=1.9)


def test_from_dict_refuses():
    with pytest.raises(UsageError, match=r"setting 'on_mni' is unknown: use .*on_min"):
        Settings.from_dict({"on_mni": 1.9})
    with pytest.raises(UsageError, match="preset 'ankle-1' is unknown"):
        Settings.from_dict({"name": "ankle-1"})
    with pytest.raises(UsageError, match="site 'ankle' is unknown"):
        Settings.from_dict({}, "ankle")
    with pytest.raises(UsageError, match="setting hang = -1 is not a number from"):
        Settings.from_dict({"hang": -1})


# Files


def test_from_toml(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mattress-1"\non_min = 2  # ln\nbackground = 20.5\n')
    assert Settings.from_toml(path) == dataclasses.replace(
        Settings.preset("mattress"), on_min=2.0, background=20.5
    )
    path.write_text("")
    assert Settings.from_toml(str(path), "mattress") == Settings.preset("mattress")


@given(any_settings())
def test_what_to_dict_says_can_be_written_as_toml(settings):
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.to_dict().items())
    import tomllib

    assert Settings.from_dict(tomllib.loads(text)) == settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"on_min = ", "is not TOML"),
        (b"on_min = 2\non_min = 3\n", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
        (b"[detector]\non_min = 2\n", "setting 'detector' is unknown"),
        (b'on_min = "2"\n', "setting on_min = '2' is not a number"),
        (b"on_min = 99\n", "setting on_min = 99 is not a number from 0.5 to 10 ln"),
        (b"on_min = nan\n", "setting on_min = nan is not a number"),
        (b"on_min = 2026-01-01\n", "setting on_min = datetime.date"),
        (b"name = 3\n", "preset '3' is unknown"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "wrong.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        Settings.from_toml(path)
    assert str(error.value).startswith(f"settings file {path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"settings file .*none\.toml: No such file"):
        Settings.from_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"settings file .*: Is a directory"):
        Settings.from_toml(tmp_path)


def test_describe_lists_every_setting():
    described = Settings.describe()
    assert [item["name"] for item in described] == [item.name for item in dataclasses.fields(Settings)]
    for item in described[1:]:
        assert set(item) == {"name", "default", "unit", "meaning", "source", "low", "high"}
        assert item["default"] == getattr(Settings(), item["name"])
        assert "S" not in item["source"].replace("(", " ").replace(")", " ").split()
    sources = {item["name"]: item["source"] for item in described[1:]}
    assert sources["guard"] == "chosen on simulated nights"
    assert sources["band_high"] == "energy at 2-9 Hz (on simulated nights)"
