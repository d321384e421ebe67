"""In made-up days tenants get their shares, nobody starves, and what is foretold holds."""

import random

from supervisor.core.fairness import Quota, jain
from testkit.fair_days import HOUR_S, flood, live, steady
from testkit.series import sample_of_a_series

WEIGHTS = {"big": Quota(weight=3), "flooder": Quota(weight=1), "small": Quota(weight=1)}
LASTS_S = 900.0


def fair_day(seed):
    """Three tenants that all want more than their share; one sends all at once."""
    rng = random.Random(seed)  # noqa: S311 - a world, no secret
    return live(
        flood(rng, "flooder", 300, lasts_s=LASTS_S)
        + steady(rng, "big", each_s=260, lasts_s=LASTS_S)
        + steady(rng, "small", each_s=650, lasts_s=LASTS_S),
        quotas=WEIGHTS,
    )


def test_each_tenant_gets_its_share_of_a_day_whatever_the_others_send():
    """Within five of a hundred parts of it; a flooder does not overtake."""
    count, first = sample_of_a_series(2)
    for seed in range(1000 * first, 1000 * first + count):
        day = fair_day(seed)
        told = seed, day.shares, day.longest_wait_s
        for tenant, fair in (("big", 0.6), ("flooder", 0.2), ("small", 0.2)):
            assert abs(day.shares[tenant] - fair) <= 0.05 * fair, told
        even = jain([day.shares[tenant] / quota.weight for tenant, quota in WEIGHTS.items()])
        assert even >= 0.998, told
        assert max(day.longest_wait_s.values()) <= 6 * HOUR_S, told


def test_who_asks_for_little_is_served_soon_beside_a_flood():
    """Within a job's length or two, and not after hundreds of others."""
    rng = random.Random(1)  # noqa: S311 - a world, no secret
    day = live(
        flood(rng, "flooder", 400, lasts_s=LASTS_S)
        + steady(rng, "small", each_s=7200, lasts_s=LASTS_S, begin_s=HOUR_S),
    )
    waits = [one.started_at - one.at for one in day.jobs if one.tenant == "small"]
    assert max(waits) <= 2.5 * LASTS_S


def test_nobody_starves_beside_jobs_of_a_higher_class_that_never_end():
    """Who has got nothing for the longest wait is served before everybody."""
    rng = random.Random(2)  # noqa: S311 - a world, no secret
    jobs = steady(rng, "critical", each_s=150, lasts_s=LASTS_S, rank="critical")
    jobs += flood(rng, "low", 20, lasts_s=LASTS_S, rank="low", at_s=HOUR_S)
    day = live(jobs, max_wait_s=6 * HOUR_S)
    assert 5 * HOUR_S <= day.longest_wait_s["low"] <= 6 * HOUR_S + 4 * LASTS_S
    assert sum(one.done_at is not None for one in day.jobs if one.tenant == "low") >= 3


def test_a_quota_of_jobs_at_once_is_never_exceeded():
    rng = random.Random(3)  # noqa: S311 - a world, no secret
    day = live(
        flood(rng, "bound", 60, lasts_s=LASTS_S) + steady(rng, "free", each_s=900, lasts_s=LASTS_S),
        quotas={"bound": Quota(concurrent=2)},
        until_s=6 * HOUR_S,
    )
    assert day.most_at_once["bound"] == 2
    assert day.shares["bound"] > 0.4


def test_nine_of_ten_jobs_have_started_by_when_it_was_foretold():
    """Measured over days with and without a flood, of jobs that vary by half their length."""
    foretold = started = sooner = 0
    for seed in (5, 6):
        rng = random.Random(seed)  # noqa: S311 - a world, no secret
        day = live(
            flood(rng, "flooder", 120, lasts_s=LASTS_S, at_s=4 * HOUR_S)
            + steady(rng, "big", each_s=500, lasts_s=LASTS_S)
            + steady(rng, "small", each_s=1200, lasts_s=LASTS_S),
            quotas=WEIGHTS,
            until_s=15 * HOUR_S,
            foretell=True,
        )
        told = [one for one in day.jobs if one.foretold is not None and one.started_at is not None]
        foretold += len(told)
        started += sum(one.started_at - one.at <= one.foretold.eta_p90_s + 1 for one in told)
        sooner += sum(one.started_at - one.at <= one.foretold.eta_s + 1 for one in told)
    assert foretold > 200
    assert 0.84 <= started / foretold <= 0.97
    assert 0.3 <= sooner / foretold <= 0.75
