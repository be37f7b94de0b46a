from __future__ import annotations

from pathlib import Path

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
