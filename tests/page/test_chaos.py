"""Whatever befalls a home, its page says what is true, in tabs that were opened once."""

from __future__ import annotations

from pathlib import Path

from testkit.browser import Chromium
from testkit.commands import Commands
from testkit.page_chaos import Chaos
from testkit.series import sample_of_a_series


def test_whatever_befalls_a_home_its_page_says_what_is_true(
    chromium: Chromium, commands: Commands, tmp_path: Path
) -> None:
    """After each blow, in every size, with scripts and without, and after it was hidden."""
    blows, seed = sample_of_a_series(5)
    Chaos(tmp_path, commands, chromium, seed).rage(blows)
