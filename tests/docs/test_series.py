"""The long series are what the page says, and the suite runs a sample of each."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from testkit.benchmarks import benchmark

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/faults.md").read_text()


@pytest.fixture(scope="module")
def series() -> ModuleType:
    return benchmark("series")


def test_each_series_is_on_the_page_with_its_count_and_its_sample(series: ModuleType) -> None:
    """A reader knows how many there are, and how few of them `make test` runs."""
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    told = {name: (int(count), what) for name, count, _, what in rows}
    assert told == {name: (one.count, one.what) for name, one in series.SERIES.items()}
    for name, _, sample, _ in rows:
        file, _, test = series.SERIES[name].test.partition("::")
        code = (ROOT / file).read_text()
        assert f"def {test.partition('[')[0]}(" in code
        assert f"sample_of_a_series({sample})" in code
