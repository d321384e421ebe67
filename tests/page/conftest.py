"""What the tests of the page share: one browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.browser import Chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A browser for all tests; each has tabs of its own."""
    try:
        browser = Chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with browser:
        yield browser
