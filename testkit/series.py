"""The long series of `benchmarks/series.py`, of which the suite runs a sample."""

import os


def sample_of_a_series(count: int) -> tuple[int, int]:
    """How many of a long series to go through, and from which seed.

    Args:
        count: the sample that the suite takes; benchmarks/series.py asks for more.
    """
    return int(os.environ.get("SERIES_COUNT", count)), int(os.environ.get("SERIES_SEED", "1"))
