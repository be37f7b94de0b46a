from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run; the first of them may wait for a compilation.
settings.register_profile("hypnic", derandomize=True, deadline=None)
settings.load_profile("hypnic")

RECORDINGS = Path(__file__).parents[1].parent / "shared" / "recordings"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, which are no part of the project."""
    if not RECORDINGS.is_dir():
        pytest.skip("the folder of real recordings (../shared/recordings) is not there")
    return RECORDINGS


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return the system's Chromium, headless, which asks nobody for updates meanwhile (a Playwright ``Browser``)."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium (Debian package chromium) to look at the page with")
    arguments = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    if os.geteuid() == 0:  # Chromium's sandbox refuses to run as root
        arguments.append("--no-sandbox")
    with playwright.sync_playwright() as driver:
        chrome = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield chrome
        chrome.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return an empty page 1280 pixels wide; what the page's own code fails at fails the test."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors
