"""The night as one page: complete, bounded, safe, and usable in a browser."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import h5py
import numpy as np
import pytest

import hypnic
from hypnic import layout as at
from hypnic.detector import Detector
from hypnic.errors import DataError, UsageError
from hypnic.events import EVENT_DTYPE, Events
from hypnic.readers.base import MemoryRecording, make_gaps
from hypnic.report.page import GALLERY, TABLE, Clock, report_html
from hypnic.report.trace import watch
from tests.signals import add_jerk, breathing, quiet

DATA = Path(__file__).parents[1] / "data"
NIGHT = DATA / "wrist_onset.h5"

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>'\"&{{7*7}}"


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    said: dict[str, Any] = json.loads(found[1])
    return said


def recording(xyz: np.ndarray, rate: float = 50.0, **facts: Any) -> MemoryRecording:
    return MemoryRecording("made.h5", xyz, rate=rate, site=facts.pop("site", "wrist"), **facts)


def rows(count: int, label: str = "hypnic_jerk", every: float = 0.05) -> Events:
    table = np.zeros(count, EVENT_DTYPE)
    table["id"] = np.arange(count)
    table["onset"] = 10.0 + every * np.arange(count)
    table["duration"], table["label"], table["rest"], table["peak_g"] = 0.4, label, "onset", 0.1
    table["score"] = 0.5 + 0.5 * np.arange(count) / count
    table["sample"] = 50 * table["onset"]
    return Events(table)


# What stands in the page


@pytest.fixture(scope="module")
def night_html() -> str:
    with hypnic.open(NIGHT) as night:
        return hypnic.report_html(night)


def test_the_page_holds_every_event_and_every_jerk_has_its_picture(night_html: str) -> None:
    with hypnic.open(NIGHT) as night:
        events = hypnic.detect(night)
    said = data_of(night_html)
    assert [row[0] for row in said["events"]] == events["id"].tolist()
    assert said["waves"] == events.jerks["id"].tolist()
    for event in events.jerks:
        card = night_html[night_html.index(f'id="wave-{event["id"]}"') :].split("</li>")[0]
        assert card.count('class="axis') == 3
        assert f"score {event['score']:.2f}" in card
    # Four candidates in the only falling asleep of this night.
    lead = night_html[night_html.index('class="lead"') :].split("</li>")[0]
    assert f"<b>{len(events.hypnic_jerks)}</b>" in lead
    assert "candidate" in lead
    assert "not a medical device" in night_html


def test_the_page_refers_to_nothing_outside(night_html: str) -> None:
    assert not re.search(r"(?:src|href|action|data)\s*=\s*[\"']?(?!#|data:,)[a-z]*:?//", night_html)
    assert "@import" not in night_html
    assert not re.search(r"url\((?!#)", night_html)
    assert "default-src 'none'" in unescape(night_html)
    assert len(night_html) < 500_000


def test_what_comes_from_the_file_is_escaped(tmp_path: Path) -> None:
    html = hypnic.report_html(hypnic.open(hostile_night(tmp_path)))
    assert "<img" not in html
    assert html.count("<script") == 2
    assert "{{7*7}}" in html
    assert any(HOSTILE[:64] == mark[2] for mark in data_of(html)["marks"])


def hostile_night(folder: Path) -> Path:
    path = folder / "hostile.h5"
    shutil.copyfile(NIGHT, path)
    with h5py.File(path, "r+") as file:
        file.attrs["subject"] = file.attrs["notes"] = HOSTILE
        file["acceleration"].attrs["sensor"] = HOSTILE
        marks = file["annotations"]
        first = marks[0]
        for field in ("label", "source"):
            first[field] = HOSTILE.encode()[:64]
        marks[0] = first
    return path


def test_annotations_are_told_with_the_event_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "felt.h5"
    with hypnic.open(NIGHT) as night:
        jerk = hypnic.detect(night).hypnic_jerks.array[0]
        with hypnic.Recorder(path, rate=night.rate, site="wrist") as recorder:
            for chunk in night:
                recorder.write(chunk)
            recorder.annotate(float(jerk["onset"]) + 3.0, 0.0, "I felt one", "button")
    with hypnic.open(path) as night:
        html = hypnic.report_html(night)
    remark = html[html.index("I felt one") :].split("</tr>")[0]
    assert "button" in remark
    assert f'data-row="{jerk["id"]}">hypnic_jerk 3.0 s earlier' in remark


def test_a_night_without_a_jerk() -> None:
    html = report_html(recording(breathing(600.0, 50.0)))
    said = data_of(html)
    assert said["events"] == said["waves"] == []
    assert "<b>0</b><span>hypnic jerks" in html
    assert "Every jerk" not in html


@pytest.mark.parametrize(("still", "warned"), [(False, True), (True, False)])
def test_candidates_of_somebody_who_never_becomes_still_are_doubted(still: bool, warned: bool) -> None:
    later = "onset" if still else "awake"
    rest = [
        {"rest": "settling", "onset": 0.0, "duration": 300.0},
        {"rest": later, "onset": 300.0, "duration": 300.0},
    ]
    events = rows(3)
    events = Events(events.array, events.meta | {"rest": rest})
    html = report_html(recording(breathing(600.0, 50.0)), events)
    assert ("Nobody becomes still in this recording" in html) is warned


@pytest.mark.parametrize("xyz", [np.full((3000, 3), np.nan, np.float32), quiet(3.0, 50.0)])
def test_a_night_in_which_nothing_can_be_detected_says_so(xyz: np.ndarray) -> None:
    html = report_html(recording(xyz))
    assert "Nothing could be detected" in html
    assert "usable samples" in html
    assert "hypnic jerks <em>" not in html
    assert data_of(html)["rest"] == []


def test_gaps_and_what_is_no_number_are_shown_as_such() -> None:
    xyz = breathing(300.0, 50.0)
    xyz[5000:5500] = np.nan
    night = recording(xyz, gaps=make_gaps([2500], [10_000], "unplugged"))
    html = report_html(night)
    said = data_of(html)
    assert said["gaps"] == [[50.0, 200.0, "unplugged"]]
    assert "of which 200 s missing" in html or "of which 3 min missing" in html
    course, _ = watch(night)
    assert course is not None
    time = (np.arange(len(course.level)) + 0.5) * course.width
    lost = ((time > 51) & (time < 249)) | ((time > 301) & (time < 309))
    assert np.isnan(course.level[lost]).all()
    assert np.isfinite(course.level[(time > 1) & (time < 49)]).all()


def test_a_week_and_many_thousand_events_stay_small() -> None:
    rate, part = 50.0, 600.0
    xyz = np.concatenate([breathing(part, rate, seed) for seed in range(3)])
    third = round(part * rate)
    away = round((7 * 86400 - 3 * part) / 2 * rate)
    start = datetime(2024, 3, 28, 21, 0, tzinfo=UTC)
    night = recording(xyz, rate, gaps=make_gaps([third, 2 * third], [away, away]), start_time=start)
    assert night.duration == pytest.approx(7 * 86400)
    html = report_html(night, rows(TABLE + 500, every=0.02))
    said = data_of(html)
    assert len(html) < 5_000_000
    assert len(said["events"]) == TABLE
    assert said["left"] == 500
    assert len(said["waves"]) == GALLERY
    assert f"The {GALLERY} of {TABLE + 500} with the highest scores" in html
    assert said["long"]
    assert "Thu 28 21:00:00" in html


def test_events_that_do_not_say_how_the_person_rested() -> None:
    html = report_html(recording(breathing(120.0, 50.0)), rows(3, every=20.0))
    assert "Rest and falling asleep are not known" in html
    assert len(data_of(html)["events"]) == 3


def test_mattress_shows_no_posture_and_settings_come_from_the_events(tmp_path: Path) -> None:
    with hypnic.open(DATA / "mattress_onset.h5") as night:
        changed = hypnic.Settings.from_dict({"jerk_score": 0.9}, "mattress")
        events = hypnic.detect(night, settings=changed)
        hypnic.write_report(night, tmp_path / "m.html", events)
    html = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert data_of(html)["site"] == "mattress"
    assert "1 not as in the preset" in html
    assert re.search(r'jerk_score <span class="tag">changed</span></th><td class="number">0.9<', html)


# Time


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        pytest.skip("no time zones on this machine (Debian package tzdata)")


def test_the_clock_follows_the_zone_over_its_change() -> None:
    # At 2024-03-31 01:00 UTC the clocks of Zurich went from 02:00 to 03:00.
    clock = Clock(datetime(2024, 3, 30, 22, 0, tzinfo=UTC), 8 * 3600.0, zone("Europe/Zurich"))
    assert clock.text(0.0) == "23:00:00"
    assert clock.text(3 * 3600.0 - 1) == "01:59:59"
    assert clock.text(3 * 3600.0) == "03:00:00"
    assert clock.offsets() == [(0.0, 3600.0), (3 * 3600.0, 7200.0)]
    assert clock.zone_text() == "UTC+01:00 then UTC+02:00"
    assert clock.heading() == "Saturday 30 to Sunday 31 March 2024"


@pytest.mark.parametrize("start", [None, datetime.max.replace(tzinfo=UTC) - timedelta(seconds=1)])
def test_a_clock_without_a_time_of_day(start: datetime | None) -> None:
    clock = Clock(start, 7200.0)
    assert not clock.known
    assert clock.text(3725.0) == "1:02:05"
    assert clock.heading() == ""
    assert clock.offsets() == []


# What the detector saw


def test_the_trace_is_what_stands_in_the_detector() -> None:
    rate = 100.0
    xyz = quiet(60.0, rate, sigma=0.003)
    add_jerk(xyz, 3000, rate)
    night = recording(xyz, rate, gaps=make_gaps([4000], [300]))
    course, (trace, late) = watch(night, [(29.0, 33.0), (39.0, 44.0)])
    detector = Detector(rate, "wrist")
    detector.push(xyz[:3051])
    floats = detector.arrays[0]
    n = 3050 - 2900
    assert trace.time[n] == pytest.approx(30.50)
    assert trace.level[n] == math.sqrt(floats[at.S_ENERGY])
    assert trace.background[n] == math.exp(0.5 * floats[at.S_NOISE])
    assert trace.off[n] == math.sqrt(floats[at.S_OFF])
    np.testing.assert_array_equal(trace.xyz, xyz[2900:3300])
    assert np.nanmax(trace.level) > trace.on[n] > trace.background[n]
    assert course is not None
    # Blocks see every tenth sample of it, and their bins are told to float32.
    place = round(30.5 / course.width)
    assert np.nanmax(course.level[place - 8 : place + 8]) <= np.float32(np.nanmax(trace.level))
    assert np.nanmax(course.level) > 0.7 * np.nanmax(trace.level)
    lost = (late.time > 40.0) & (late.time < 42.99)
    assert np.isnan(late.level[lost]).all()
    assert np.isnan(late.xyz[lost]).all()


def test_windows_may_overlap_touch_and_reach_beyond_the_ends() -> None:
    night = recording(quiet(30.0, 50.0), 50.0)
    windows = [(-5.0, 2.0), (10.0, 12.0), (11.0, 14.0), (14.0, 15.0), (29.0, 40.0), (50.0, 60.0)]
    _, together = watch(night, windows, whole=False)
    assert [len(trace.time) for trace in together] == [100, 100, 150, 50, 50, 0]
    for window, trace in zip(windows, together, strict=True):
        _, (alone,) = watch(night, [window], whole=False)
        for a, b in zip(trace, alone, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(UsageError, match="window"):
        watch(night, [(2.0, 2.0)])


def test_posture_is_the_mean_acceleration() -> None:
    xyz = quiet(60.0, 50.0)
    xyz[1500:] = xyz[1500:, ::-1]
    course, _ = watch(recording(xyz, 50.0))
    assert course is not None
    assert course.gravity[1] == pytest.approx([0.1, 0.35, 0.93], abs=0.001)
    assert course.gravity[-2] == pytest.approx([0.93, 0.35, 0.1], abs=0.001)


# The command


def command(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hypnic", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(DATA.parent)},
    )


def test_the_command_writes_a_page_beside_the_night(tmp_path: Path) -> None:
    shutil.copyfile(NIGHT, tmp_path / "night.h5")
    done = command("report", "night.h5", "--title", "My night", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("night.html: ")
    assert "My night" in (tmp_path / "night.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["-o", "page.pdf"], 2, ".html"),
        (["-o", "page.html", "--zone", "Mars/Olympus"], 2, "Mars/Olympus"),
        (["-o", "page.html", "--stored"], 1, "no events"),
        (["-o", "nowhere/page.html"], 1, "No such file"),
    ],
)
def test_the_command_refuses_in_one_line(words: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = command("report", NIGHT, *words, cwd=tmp_path)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_stored_events_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "night.h5"
    shutil.copyfile(NIGHT, path)
    with hypnic.open(path) as night:
        found = hypnic.detect(night)
        night.write_events(found[:5])
    done = command("report", path, "--stored", "-o", tmp_path / "p.html")
    assert done.returncode == 0, done.stderr
    said = data_of((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert [row[0] for row in said["events"]] == found["id"][:5].tolist()


def test_what_cannot_be_read_makes_no_page(tmp_path: Path) -> None:
    path = tmp_path / "night.h5"
    path.write_bytes(b"not a night")
    with pytest.raises(DataError):
        hypnic.write_report(hypnic.open(path), tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


# In a browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"night": NIGHT, "hostile": hostile_night(folder)}
    for name, source in made.items():
        with hypnic.open(source) as night:
            hypnic.write_report(night, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def opened(page: Any, pages: dict[str, Path]) -> Any:
    """The page of the night; what it asks the network for, or complains about, fails the test."""
    wrong: list[str] = []
    page.on("request", lambda request: wrong.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(pages["night"].as_uri())
    yield page
    # The page itself, and its icon, which is empty.
    assert [said for said in wrong if said not in (pages["night"].as_uri(), "data:,")] == []


def shown_span(page: Any) -> list[int]:
    """The span that the picture shows, in seconds of the day."""
    seconds = []
    for text in page.text_content("#span").split(" to "):
        hours, minutes, rest = map(int, text.split(":"))
        seconds.append(3600 * hours + 60 * minutes + rest)
    return seconds


def until(page: Any, expression: str) -> None:
    """Wait until `expression` holds; Playwright's own way needs the eval that the page forbids."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {expression}")


def waits_for_span(page: Any, before: list[int]) -> list[int]:
    """Return the span that the picture shows once it is another than `before`."""
    for _ in range(500):
        if shown_span(page) != before:
            break
        page.wait_for_timeout(20)
    return shown_span(page)


def test_zoom_by_buttons_keys_drag_and_wheel(opened: Any) -> None:
    whole = shown_span(opened)
    assert whole == [22 * 3600 + 1800, 23 * 3600 + 1800]
    opened.click("[data-do=in]")
    half = waits_for_span(opened, whole)
    assert half[1] - half[0] == 1800
    opened.click("[data-do=left]")
    left = waits_for_span(opened, half)
    assert left[0] < half[0]
    assert left[1] - left[0] == 1800
    opened.focus("#plot")
    opened.keyboard.press("+")
    closer = waits_for_span(opened, left)
    assert closer[1] - closer[0] == pytest.approx(900, abs=1)
    opened.keyboard.press("ArrowRight")
    right = waits_for_span(opened, closer)
    assert right[0] > closer[0]
    opened.keyboard.press("0")
    assert waits_for_span(opened, right) == whole

    opened.locator("#plot").scroll_into_view_if_needed()
    box = opened.locator("#plot svg").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x + 60, y, steps=3)
    opened.mouse.move(x + 120, y, steps=3)
    opened.mouse.up()
    dragged = waits_for_span(opened, whole)
    assert 200 < dragged[1] - dragged[0] < 800
    opened.mouse.dblclick(x, y)
    assert waits_for_span(opened, dragged) == whole
    # It has the focus by now, so the wheel is its own.
    opened.mouse.wheel(0, -200)
    wheeled = waits_for_span(opened, whole)
    assert wheeled[1] - wheeled[0] < 3600


def test_the_wheel_scrolls_the_page_until_the_picture_is_clicked_into(opened: Any) -> None:
    opened.locator("#plot").scroll_into_view_if_needed()
    box = opened.locator("#plot svg").bounding_box()
    top = opened.evaluate("scrollY")
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    opened.mouse.wheel(0, 200)
    until(opened, f"scrollY > {top}")
    span = shown_span(opened)
    assert span[1] - span[0] == 3600


def column(page: Any, key: str) -> list[str]:
    place = page.eval_on_selector_all(
        "#table th[data-key]", "heads => heads.map(head => head.dataset.key)"
    ).index(key)
    return list(
        page.eval_on_selector_all(
            "#table tbody tr", f"rows => rows.map(row => row.children[{place}].textContent)"
        )
    )


def test_sorting_by_keyboard_and_mouse(opened: Any) -> None:
    assert column(opened, "time") == sorted(column(opened, "time"))
    opened.click("th[data-key=peak] button")
    peaks = [float(text) for text in column(opened, "peak")]
    assert peaks == sorted(peaks, reverse=True)
    assert opened.get_attribute("th[data-key=peak]", "aria-sort") == "descending"
    assert opened.get_attribute("th[data-key=time]", "aria-sort") == "none"
    opened.focus("th[data-key=peak] button")
    opened.keyboard.press("Enter")
    assert [float(text) for text in column(opened, "peak")] == peaks[::-1]
    assert opened.get_attribute("th[data-key=peak]", "aria-sort") == "ascending"


def test_folding_and_filters(opened: Any, night_html: str) -> None:
    said = data_of(night_html)
    jerks = [row for row in said["events"] if row[2] < said["jerks"]]
    assert len(column(opened, "time")) == len(jerks)
    assert opened.get_attribute("#fold", "aria-expanded") == "false"
    opened.click("#fold")
    assert len(column(opened, "time")) == len(said["events"])
    assert opened.get_attribute("#fold", "aria-expanded") == "true"
    opened.fill("#by-peak", "100")
    strong = [row for row in said["events"] if row[5] >= 100]
    assert len(column(opened, "time")) == len(strong) < len(said["events"])
    opened.fill("#by-peak", "0")
    opened.select_option("#by-label", label=f"plm ({sum(row[2] == 2 for row in said['events'])})")
    assert set(column(opened, "label")) == {"plm"}
    opened.select_option("#by-label", "all")
    opened.select_option("#by-rest", label="still")
    assert set(column(opened, "rest")) == {"still"}
    opened.select_option("#by-rest", "all")
    opened.click("#fold")
    assert len(column(opened, "time")) == len(jerks)
    assert not opened.is_visible("th[data-key=t90]")
    opened.check("#columns")
    assert opened.is_visible("th[data-key=t90]")
    opened.check("#in-view")
    opened.click(".card [data-zoom]")
    until(opened, "document.querySelectorAll('#table tbody tr').length === 1")


def test_from_the_picture_to_the_row_and_back(opened: Any, night_html: str) -> None:
    number = data_of(night_html)["waves"][2]
    opened.click(f"#wave-{number} a[data-row]")
    assert opened.evaluate("document.activeElement.id") == f"event-{number}"
    opened.click(f"#event-{number} td a")
    assert opened.evaluate("document.activeElement.id") == f"wave-{number}"
    # A row that the filters hide is brought back.
    opened.fill("#by-score", "1")
    opened.select_option("#by-label", "2")
    opened.click(f"#wave-{number} a[data-row]")
    assert opened.evaluate("document.activeElement.id") == f"event-{number}"
    before = shown_span(opened)
    opened.click(f"#event-{number} th button")
    span = waits_for_span(opened, before)
    assert span[1] - span[0] == 180
    # And from the mark of the only event in sight.
    mark = opened.locator("#plot .mark.hypnic_jerk use").first.bounding_box()
    opened.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    assert opened.evaluate("document.activeElement.id").startswith("event-")


def test_light_and_dark_by_system_and_by_switch(opened: Any) -> None:
    def ground() -> int:
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert ground() > 600
    opened.emulate_media(color_scheme="dark")
    assert ground() < 150
    opened.click("#theme")
    assert ground() > 600
    opened.reload()
    assert ground() > 600


def test_on_a_phone_the_page_does_not_scroll_sideways(opened: Any) -> None:
    opened.set_viewport_size({"width": 360, "height": 740})
    opened.click("#fold")
    opened.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    until(opened, "document.querySelector('#plot svg').viewBox.baseVal.width <= 360")


def test_hostile_words_are_only_words(page: Any, pages: dict[str, Path]) -> None:
    page.goto(pages["hostile"].as_uri())
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.text_content("dl")
    page.locator("#plot").scroll_into_view_if_needed()
    mark = page.locator("#plot .mark.remark use").first.bounding_box()
    page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    until(page, "document.getElementById('readout').textContent.includes('window.hacked')")
    assert page.evaluate("window.hacked") is None


def test_without_scripts_the_jerks_are_still_there(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["night"].as_uri())
    assert page.locator(".card svg[role=img]").count() == 6
    assert page.is_visible("text=need JavaScript")
    assert not page.is_visible("#table")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend(opened: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened.emulate_media(color_scheme=scheme)
    opened.click("#fold")
    opened.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    found = axe.Axe().run(opened)
    assert [wrong["id"] for wrong in found.response["violations"]] == []


# Figures and notebooks


@pytest.fixture
def pyplot() -> Any:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_figures_draw_on_the_axes_that_are_given(pyplot: Any) -> None:
    night = hypnic.open(NIGHT)
    events = hypnic.detect(night)
    _, axes = pyplot.subplots(4)
    assert all(a is b for a, b in zip(hypnic.plot_night(night, events, axes=axes), axes, strict=True))
    names = [text.get_text() for text in axes[3].get_yticklabels()]
    assert sorted(names) == sorted(label for label, n in events.counts().items() if n)

    _, pair = pyplot.subplots(2)
    row = events.jerks.array[0]
    assert all(a is b for a, b in zip(hypnic.plot_event(night, row, events, axes=pair), pair, strict=True))
    x, level = pair[1].get_lines()[0].get_data()
    # The energy rises at the onset, which is where the time is 0.
    assert np.nanmax(level[x < -0.1]) < 0.1 * np.nanmax(level)
    assert 0.0 < x[np.nanargmax(level)] < 0.5
    assert len(hypnic.plot_event(night, int(row["id"]), events)) == 2

    _, ax = pyplot.subplots()
    assert hypnic.plot_average(night, events, ax=ax) is ax
    mean = next(line for line in ax.get_lines() if line.get_label() == "mean")
    x, y = mean.get_data()
    assert np.nanmax(y[x < -0.1]) < 2.0 < 5.0 < np.nanmax(y)
    assert "candidates" in ax.get_title()


def test_figures_refuse_in_one_line(pyplot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    night = recording(breathing(60.0, 50.0))
    with pytest.raises(UsageError, match="4, one above"):
        hypnic.plot_night(night, axes=pyplot.subplots(3)[1])
    with pytest.raises(DataError, match="no events"):
        hypnic.plot_average(night, Events())
    with pytest.raises(UsageError, match="no event 7"):
        hypnic.plot_event(night, 7, Events())
    with pytest.raises(UsageError, match="only with the events"):
        hypnic.plot_event(night, 7)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(UsageError, match=r"hypnic\[plot\]"):
        hypnic.plot_average(night, rows(2))


def test_importing_hypnic_and_making_a_page_need_no_figures() -> None:
    code = (
        "import sys, hypnic; early = {'jinja2', 'matplotlib', 'numpy'} & set(sys.modules);"
        "import hypnic.report.page; late = {'jinja2', 'matplotlib'} & set(sys.modules); print(early, late)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() set()"


def test_notebooks_show_what_it_is() -> None:
    night = recording(quiet(60.0, 50.0), sensor="<b>x</b>")
    shown = night._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "3,000 samples at 50 Hz" in shown
    many = rows(30)._repr_html_()
    assert many.count("<tr>") == 13
    assert "18 more rows" in many
    assert "candidates" in many
    assert "<table>" not in Events()._repr_html_()
