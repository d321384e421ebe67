"""Weekdays that are alike tell of each other; those that are not stay what they are."""

import random
from statistics import median

import pytest

from supervisor.usage.weekdays import alike, blended

WEEKS = 4
CHANCE = 0.1


def usual(slot, free=2.0):
    """Workdays are alike at levels of their own; weekends begin and end later."""
    weekday, hour = divmod(slot, 24)
    if weekday >= 5:
        return free * (2.0 if 4 <= hour < 12 else 20.0)
    return (1 + 0.1 * weekday) * (2.0 if hour < 8 else 20.0)


def seen(seed, of=usual, festival=()):
    """Weeks of which each hour has its luck, and what is usual in them."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    known = [
        [
            of(slot)
            * chance.lognormvariate(0, CHANCE)
            * (6 if week == 1 and slot in festival else 1)
            for week in range(WEEKS)
        ]
        for slot in range(168)
    ]
    return known, [median(values) for values in known]


def apart(week):
    """How far the workdays of a week are from what is true, in all."""
    return sum((value / usual(slot) - 1) ** 2 for slot, value in enumerate(week[:120]))


@pytest.mark.parametrize("festival", [(), range(96, 168), range(168)])
def test_five_workdays_tell_more_than_one(festival):
    """Also where a few days, or a whole week, were a festival."""
    known, week = seen(1, festival=festival)
    shares = alike(week, known)
    assert apart(blended(week, shares)) < 0.8 * apart(week)
    weights = {share.weekday: share.weight for share in shares[0]}
    assert min(weights[day] for day in range(5)) > 5 * max(weights[5], weights[6])


def test_one_night_that_is_unlike_all_others_stays_so():
    """Neither luck nor a festival is a reason to take it for one of them."""
    night = range(48, 56)
    known, week = seen(2, lambda slot: usual(slot) / (6 if slot in night else 1), range(72, 120))
    found = blended(week, alike(week, known))
    nights = [sum(found[24 * day : 24 * day + 8]) for day in range(5)]
    assert 2.5 * nights[2] < min(nights[:2] + nights[3:])


def test_what_is_not_known_is_not_made_up_and_holds_nothing_back():
    """An hour that its own weekday does not know stays unknown, and others lose nothing by it."""
    known, week = seen(3)
    week[5], known[5] = None, []
    found = blended(week, alike(week, known))
    assert found[5] is None
    assert None not in found[:5] + found[6:]


def test_where_nothing_is_left_to_chance_each_weekday_counts_alone():
    """And so it does where there is but one week."""
    week = [usual(slot) for slot in range(168)]
    for weeks in (1, 4):
        assert blended(week, alike(week, [[value] * weeks for value in week])) == week
