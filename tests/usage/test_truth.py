"""Databases of which the truth is known: the best windows are found, or nothing is claimed."""

import random
import re

import pytest

from supervisor.core.quiet_hours import QuietHours
from supervisor.usage.analysis import History, analyse
from supervisor.usage.gathering import gather
from supervisor.usage.ring import Ring
from testkit import servers
from testkit.histories import starts
from testkit.series import sample_of_a_series
from testkit.truths import LENGTH, TRUTHS, best, made

NEAR = 1.02
"""of the best that the truth has"""


@pytest.fixture(scope="module")
def both():
    with servers.mariadb() as mariadb, servers.postgresql() as postgresql:
        yield {"mariadb": mariadb, "postgresql": postgresql}


def test_what_is_found_is_what_is_true_or_nothing(both, tmp_path, monkeypatch):
    """Outages, zones, festivals, bots, locks: windows are true, or there is a line."""
    monkeypatch.setenv("READER", servers.SECRET)
    assert len(TRUTHS) == 40
    count, seed = sample_of_a_series(8)
    chance = random.Random(seed)  # noqa: S311 - no secret
    wrong = {
        name: why
        for name in chance.sample(sorted(TRUTHS), count)
        if (why := difference(name, both, seed, tmp_path))
    }
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())


def difference(name, both, seed, folder):
    """What an analysis of a database finds otherwise than is true; None: nothing."""
    truth = made(name, both, seed)
    world = truth.world
    settings = QuietHours(zone=world.zone, sources={"game": truth.source})
    now = world.ends.timestamp()
    with truth.busy():
        known = gather(settings, world.zone, Ring(folder / name), folder, now)
    found = analyse(settings, History(told=known, now=now, zone=world.zone))
    line = found.trouble or ""
    if servers.SECRET in line or "\n" in line:
        return f"says what it must not, or in more than a line: {line!r}"
    if truth.said is not None:
        said = found.windows is None and re.search(truth.said, line)
        return None if said else f"{truth.said!r} is not said: {line!r}, {starts_of(found)}"
    if found.windows is None:
        return f"claims nothing: {line}"
    if truth.noted is not None and truth.noted not in str(found.sources):
        return f"{truth.noted!r} is not said"
    usual = [world.usual(slot) + truth.besides(slot) for slot in range(168)]
    chosen = starts(found)
    there = sum(usual[(slot + n) % 168] for slot in chosen for n in range(LENGTH))
    floor = best(usual, len(chosen))
    near = there <= NEAR * floor + 1e-9
    return None if near else f"{there:g} of {floor:g} in {chosen}; the best begins {world.quiet}"


def starts_of(found):
    return starts(found) if found.windows else None
