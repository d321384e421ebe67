"""The long series behind tests: hundreds of kills, power cuts, boots and lives, from one seed.

    .venv/bin/python benchmarks/series.py          # which there are, and how many of each
    .venv/bin/python benchmarks/series.py boots    # all of that one
    .venv/bin/python benchmarks/series.py lives --seed 77 --count 1

`make test` runs a sample of each, always the same one, through the same code. A whole series is run
before a release, and by whoever has changed what it is about: it must pass, from any seed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Series(NamedTuple):
    """One thing that is done again and again."""

    count: int
    """how many the whole series has"""
    what: str
    test: str


SERIES = {
    "lives": Series(
        1000,
        "lives of the real daemon in which everything happens at random",
        "tests/simulation/test_simulated_lives.py::test_life",
    ),
    "state-kills": Series(
        1000,
        "kills of a writer of the state, in mid-write",
        "tests/faults/test_writes.py::test_kills_in_a_burst_lose_nothing_that_was_acknowledged[state]",
    ),
    "checkpoint-kills": Series(
        200,
        "the same of checkpoints",
        "tests/faults/test_writes.py::test_kills_in_a_burst_lose_nothing_that_was_acknowledged"
        "[checkpoints]",
    ),
    "power-cuts": Series(
        50,
        "power cuts in mid-write, of the state, of checkpoints and of samples, on ext4 and on xfs",
        "tests/faults/test_writes.py::test_power_cuts_lose_nothing_that_was_acknowledged",
    ),
    "boots": Series(
        50,
        "real boots of a machine that is rebooted, shut down and cut off at random",
        "tests/boots/test_many_boots.py::test_boots_of_all_kinds",
    ),
    "changes-of-mind": Series(
        30,
        "changes of what a living campaign is to train",
        "tests/faults/test_changes_of_mind.py::test_whoever_changes_their_mind_loses_nothing",
    ),
    "trainer-kills": Series(
        40,
        "kills of a trainer in the middle of a checkpoint",
        "tests/trainers/test_drill.py::test_kill_in_mid_write_costs_only_that_checkpoint",
    ),
    "guard-kills": Series(
        40,
        "kills of the supervisor, of trainers and of all in freezes, thaws and evictions",
        "tests/faults/test_guard.py::test_whatever_is_killed_around_a_pause_all_goes_on",
    ),
    "shared-machines": Series(
        1000,
        "simulated machines that crash under our load, and that others need, too",
        "tests/simulation_worlds/test_shared_machines.py::test_a_life_that_others_interrupt",
    ),
    "shared-lives": Series(
        200,
        "lives of the real daemon under the real guard, beside others and within windows",
        "tests/simulation/test_shared_lives.py::test_a_life_beside_others",
    ),
    "game-servers": Series(
        300,
        "simulated game servers, whose quiet hours are found and promised",
        "tests/usage/test_analysis.py::test_servers_are_disturbed_no_more_than_hindsight_would",
    ),
    "usage-truth": Series(
        40,
        "databases of known truth, with what goes wrong in real ones",
        "tests/usage/test_truth.py::test_what_is_found_is_what_is_true_or_nothing",
    ),
    "table-kills": Series(
        60,
        "kills of a run of tables, in rounds and in the write of a checkpoint, of each algorithm",
        "tests/tabular/test_run.py::"
        "test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives",
    ),
    "network-kills": Series(
        30,
        "the same of networks and autoencoders",
        "tests/neural/test_run.py::"
        "test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives",
    ),
    "direction-kills": Series(
        60,
        "the same of a run of directions",
        "tests/direction/test_run.py::"
        "test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives",
    ),
    "fair-days": Series(
        60,
        "made-up days of three tenants, who get their shares while one sends all at once",
        "tests/jobs/test_fair_days.py::"
        "test_each_tenant_gets_its_share_of_a_day_whatever_the_others_send",
    ),
    "job-kills": Series(
        1000,
        "jobs whose dispatcher, daemon or machine dies between any two steps, on both stores",
        "tests/jobs/test_dispatcher_kills.py::test_each_job_ends_once_whoever_is_killed",
    ),
    "job-storm": Series(
        1000,
        "jobs on each store while the API, dispatchers, supervisors, trainers, the database and "
        "whole machines are killed",
        "tests/faults/test_job_storm.py::test_each_job_ends_once_in_a_storm",
    ),
    "page-chaos": Series(
        40,
        "blows to a home whose page is watched in a real browser, and says what is true after each",
        "tests/page/test_chaos.py::test_whatever_befalls_a_home_its_page_says_what_is_true",
    ),
    "made-up-requests": Series(
        300,
        "made-up requests of each kind to each page of the API, good ones and bad ones",
        "tests/jobs/test_api_openapi.py::"
        "test_requests_that_were_made_up_are_answered_as_the_document_says",
    ),
    "made-up-walks": Series(
        200,
        "walks from a job that is handed in along all that can be asked of it, on each store",
        "tests/jobs/test_api_stateful.py::"
        "test_walks_along_the_links_find_nothing_that_the_document_does_not_say",
    ),
}


def main() -> int:
    """Run one series, or tell which there are; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("series", nargs="?", choices=sorted(SERIES))
    parser.add_argument("--count", type=int, help="instead of the whole series")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.series is None:
        for name, (count, what, _) in SERIES.items():
            print(f"{name:17} {count:5} {what}")
        return 0
    series = SERIES[options.series]
    count = options.count or series.count
    print(f"{count} {series.what}; seed {options.seed}", flush=True)
    asked = {"SERIES_COUNT": str(count), "SERIES_SEED": str(options.seed)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", series.test]
    return subprocess.run(command, cwd=ROOT, env=os.environ | asked, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
