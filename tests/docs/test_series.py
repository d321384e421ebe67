"""The long series are what the page says, and the suite runs a sample of each."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/faults.md").read_text()


@pytest.fixture(scope="module")
def series() -> ModuleType:
    spec = importlib.util.spec_from_file_location("series", ROOT / "benchmarks/series.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["series"] = module  # the annotations of its tuples are looked up there
    spec.loader.exec_module(module)
    return module


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
