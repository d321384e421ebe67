"""Jobs of real homes, while whatever takes part in them is killed at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit import servers, worlds
from testkit.series import sample_of_a_series
from testkit.storm import Storm

HOMES_MAX = 4
JOBS_A_HOME = 20


@pytest.mark.parametrize("store", ["postgresql", "sqlite"])
def test_each_job_ends_once_in_a_storm(tmp_path: Path, store: str) -> None:
    """None is lost and none done twice, whoever is killed: the API, dispatchers, supervisors,
    trainers, their programs, the database, or a machine with all of it.

    What is told to run was seen to run lately, or is told to be stale; a late worker writes nothing
    any more; and no kill costs an attempt, or more than what was not yet saved.
    """
    count, seed = sample_of_a_series(40)
    place = worlds.in_memory(tmp_path)
    if store == "sqlite":
        storm = Storm(place, count, seed)
        wrong = storm.rage()
    else:
        with servers.postgresql() as server:
            homes = min(HOMES_MAX, max(1, count // JOBS_A_HOME))
            storm = Storm(place, count, seed, homes=homes, server=server)
            wrong = storm.rage()
    story = f"{count} jobs from seed {seed}: {dict(storm.blows)}; {dict(storm.witness.counted)}"
    print(f"\n{store}: {story}")  # noqa: T201 - for whoever runs the whole series, with -s
    assert not wrong, "\n".join([story, *wrong])
    assert storm.witness.counted["stale answers"], "nothing was told to be stale"
