"""Whose job is next follows from classes, shares and waits, and everybody can be told why not."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.fairness import (
    HALF_LIFE_S,
    RANKS,
    Account,
    Candidate,
    Quota,
    Why,
    between,
    day_end,
    jain,
    over,
    plan,
    reasons,
)

NOW_AT = 1_800_000_000.0
HOUR_S = 3_600.0


def job(name, tenant="a", *, rank="normal", age_s=60.0, **fields):
    return Candidate(job=name, tenant=tenant, rank=rank, submitted_at=NOW_AT - age_s, **fields)


def used(slot_s, **fields):
    fields = {"given_at": NOW_AT, **fields}
    return Account(used_s=slot_s, used_at=NOW_AT, **fields)


def planned(jobs, accounts=None, quotas=None, *, room=1, **how):
    return plan(jobs, accounts or {}, quotas or {}, room=room, now_at=NOW_AT, **how)


def sent(*args, **how):
    return [(one.job, one.rank) for one in planned(*args, **how).submissions]


def why(jobs, accounts=None, quotas=None, *, room=0):
    found = reasons(jobs, accounts or {}, quotas or {}, room=room, now_at=NOW_AT)
    return {name: {one.cause: one for one in told} for name, told in found.items()}


def test_a_higher_class_goes_before_whatever_its_tenant_has_had():
    jobs = [job("poor", "a", age_s=900), job("rich", "b", rank="high")]
    assert sent(jobs, {"b": used(1e6), "a": used(0)}) == [("rich", "high")]


def test_within_a_class_the_tenant_is_next_that_has_had_the_least_for_its_weight():
    jobs = [job("a1", "a"), job("b1", "b")]
    accounts = {"a": used(2000), "b": used(1000)}
    assert sent(jobs, accounts) == [("b1", "normal")]
    assert sent(jobs, accounts, {"a": Quota(weight=3)}) == [("a1", "normal")]


def test_what_is_given_counts_before_it_is_used():
    """So that several slots at once are shared, too."""
    jobs = [job(f"{tenant}{place}", tenant) for tenant in "ab" for place in range(8)]
    found = [name[0] for name, _ in sent(jobs, quotas={"a": Quota(weight=3)}, room=8)]
    assert (found.count("a"), found.count("b")) == (6, 2)
    accounts = {"a": used(0, running=1, committed_s=5000), "b": used(0)}
    assert sent(jobs, accounts) == [("b0", "normal")]


def test_what_was_used_fades_by_half_in_a_day():
    account = used(1000)
    assert account.used_by(NOW_AT + HALF_LIFE_S) == pytest.approx(500)
    assert account.charged(100, NOW_AT + HALF_LIFE_S).used_s == pytest.approx(600)
    assert account.used_by(NOW_AT - HOUR_S) == 1000


def test_a_tenants_own_jobs_go_class_by_class_and_first_come_first_served():
    jobs = [job("new"), job("old", age_s=900), job("urgent", rank="critical", age_s=1)]
    assert [name for name, _ in sent(jobs, room=3)] == ["urgent", "old", "new"]


def test_jobs_of_the_same_moment_go_as_they_came():
    """A clock tells so much and no more, and an id nothing."""
    jobs = [job("second", number=2), job("third", number=3), job("zeroth", number=0)]
    assert [name for name, _ in sent(jobs, room=3)] == ["zeroth", "second", "third"]


def test_who_has_got_nothing_for_long_rises_class_by_class():
    """A third of the longest wait each, and it is submitted in the class that it has come to."""
    accounts = {"b": used(1e6, running=2)}
    for age_h, rank in (
        (7, "low"),
        (9, "normal"),
        (17, "high"),
        (25, "critical"),
        (99, "critical"),
    ):
        jobs = [job("a1", rank="low", age_s=age_h * HOUR_S)]
        assert sent(jobs, accounts) == [("a1", rank)]


def test_a_flood_does_not_rise_by_the_age_of_its_jobs():
    """Its tenant is served all the time: what waits long is its own doing."""
    flood = [job(f"b{place:03}", "b", age_s=40 * HOUR_S) for place in range(100)]
    jobs = [*flood, job("a1", "a", age_s=60)]
    assert sent(jobs, {"b": used(1e5, running=4), "a": used(0)}) == [("a1", "normal")]
    # What it got last was an hour ago: it has waited for that hour.
    accounts = {"b": used(0, given_at=NOW_AT - HOUR_S)}
    assert sent(flood, accounts, room=1) == [("b000", "normal")]


def test_only_the_next_job_of_a_tenant_rises():
    jobs = [job(f"a{place}", rank="low", age_s=30 * HOUR_S) for place in range(3)]
    assert [rank for _, rank in sent(jobs, room=3)] == ["critical", "low", "low"]


def test_a_quota_holds_a_tenant_and_nobody_else():
    jobs = [job("a1", "a", rank="critical"), job("a2", "a", rank="critical"), job("b1", "b")]
    quotas = {"a": Quota(concurrent=1)}
    assert sent(jobs, quotas=quotas, room=3) == [("a1", "critical"), ("b1", "normal")]
    accounts = {"a": used(10, running=1, cpu_s_today=2 * HOUR_S)}
    assert sent(jobs, accounts, quotas, room=3) == [("b1", "normal")]
    quotas = {"a": Quota(cpu_hours_per_day=2)}
    assert sent(jobs, accounts, quotas, room=3) == [("b1", "normal")]


def test_what_is_paused_or_not_due_yet_takes_no_turn():
    jobs = [
        job("paused", paused=True),
        job("later", not_before_at=NOW_AT + 120),
        job("due", not_before_at=NOW_AT),
    ]
    assert sent(jobs, room=9) == [("due", "normal")]
    told = why(jobs, room=9)
    assert told == {
        "paused": {"paused": Why(cause="paused")},
        "later": {"retry": Why(cause="retry", until_at=NOW_AT + 120)},
    }


def test_each_job_can_say_why_it_waits_with_the_numbers():
    jobs = [
        job("urgent", "a", rank="high"),
        job("a1", "a", age_s=100),
        job("a2", "a", age_s=50),
        job("held", "c", rank="critical"),
    ]
    accounts = {"a": used(300, running=3), "b": used(700), "c": used(0, cpu_s_today=7200.0)}
    quotas = {"a": Quota(weight=3), "c": Quota(cpu_hours_per_day=1.5)}
    told = why(jobs, accounts, quotas, room=1)
    assert "urgent" not in told
    assert told["a1"]["room"] == Why(cause="room", value=4, bound=4)
    assert told["a1"]["share"] == Why(cause="share", value=0.3, bound=0.75)
    assert "own" not in told["a1"]
    assert told["a2"]["own"].value == 1
    cpu = told["held"]["cpu_hours"]
    assert (cpu.value, cpu.bound, cpu.until_at) == (2.0, 1.5, day_end(NOW_AT))
    told = why([job("low", "a", rank="low"), job("high", "b", rank="high")])
    assert told["low"]["rank"].value == 1


def test_a_quota_of_jobs_that_wait_says_when_there_is_room_again():
    quota = Quota(queued=5, stored_bytes=1000)

    def refused(queued, stored_bytes=0, next_start_at=None):
        return over(
            quota,
            queued=queued,
            stored_bytes=stored_bytes,
            now_at=NOW_AT,
            next_start_at=next_start_at,
        )

    assert refused(4) is None
    told = refused(5, next_start_at=NOW_AT + 90)
    assert (told.quota, told.used, told.bound, told.retry_after_s) == ("queued", 5, 5, 90)
    assert refused(5).retry_after_s is None
    assert refused(6, next_start_at=NOW_AT + 90).retry_after_s is None
    assert refused(0, stored_bytes=1000).quota == "stored_bytes"


def test_days_end_at_midnight_of_utc():
    assert day_end(0.0) == 86_400
    assert day_end(86_400.0) == 172_800
    assert day_end(NOW_AT) - NOW_AT == 16 * HOUR_S


def test_jains_index_is_1_where_all_have_the_same():
    assert jain([2.0, 2.0, 2.0]) == 1
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([0.0, 0.0]) == 1


def test_who_may_come_between_is_told_by_weights():
    """For each job of its own line as many of another's as that has weight, less those ahead."""
    jobs = [job("a1", "a", age_s=9), job("a2", "a", age_s=8), job("b1", "b", age_s=7)]
    accounts = {"a": used(0), "b": used(600), "c": used(900)}
    line = plan(jobs, accounts, {}, room=0, now_at=NOW_AT).line
    assert [one.job for one in line] == ["a1", "a2", "b1"]
    quotas = {"c": Quota(weight=2)}
    assert between(line, 1, accounts, quotas, now_at=NOW_AT) == 2 * 1 + 2 * 2
    assert between(line, 2, accounts, quotas, now_at=NOW_AT) == 2
    assert between(line, 0, {}, {}, now_at=NOW_AT) == 0


def test_ten_thousand_jobs_of_a_hundred_tenants_are_planned_in_a_blink():
    jobs = [
        job(f"j{place:05}", f"t{place % 100}", rank=RANKS[place % 4], age_s=float(place))
        for place in range(10_000)
    ]
    accounts = {f"t{place}": used(float(place)) for place in range(100)}
    began = time.process_time()
    found = planned(jobs, accounts, room=4)
    assert time.process_time() - began < 1.0
    assert len(found.submissions) == 4


tenants = st.sampled_from(["a", "b", "c", "d"])
candidates = st.builds(
    Candidate,
    job=st.just(""),
    tenant=tenants,
    rank=st.sampled_from(RANKS),
    submitted_at=st.floats(NOW_AT - 1e6, NOW_AT),
    size_s=st.floats(0, 1e5),
    not_before_at=st.none() | st.floats(NOW_AT - 10, NOW_AT + 10),
    paused=st.booleans(),
)
accounts_of = st.dictionaries(
    tenants,
    st.builds(
        Account,
        used_s=st.floats(0, 1e7),
        used_at=st.floats(NOW_AT - 1e6, NOW_AT),
        running=st.integers(0, 5),
        committed_s=st.floats(0, 1e6),
        given_at=st.none() | st.floats(NOW_AT - 1e6, NOW_AT),
        cpu_s_today=st.floats(0, 1e5),
    ),
)
quotas_of = st.dictionaries(
    tenants,
    st.builds(
        Quota,
        weight=st.floats(0.1, 10),
        concurrent=st.none() | st.integers(0, 6),
        cpu_hours_per_day=st.none() | st.floats(0, 30),
    ),
)


@settings(max_examples=60)
@given(st.lists(candidates, max_size=30), accounts_of, quotas_of, st.integers(0, 10))
def test_no_plan_loses_a_job_or_gives_more_than_may_be(jobs, accounts, quotas, room):
    """Each goes or stays, once; nothing goes over the room or a quota; what stays can say why."""
    jobs = [
        Candidate(**{name: getattr(one, name) for name in one.__struct_fields__ if name != "job"},
                  job=f"j{place}")
        for place, one in enumerate(jobs)
    ]  # fmt: skip
    found = planned(jobs, accounts, quotas, room=room)
    gone, stay = [one.job for one in found.submissions], [one.job for one in found.line]
    rests = [one.job for one in jobs if one.paused or (one.not_before_at or 0) > NOW_AT]
    assert sorted(gone + stay + rests) == sorted(one.job for one in jobs)
    assert len(gone) <= room
    asked = {one.job: one for one in jobs}
    for one in found.submissions:
        assert RANKS.index(one.rank) <= RANKS.index(asked[one.job].rank)
    for tenant, quota in quotas.items():
        before = accounts.get(tenant, Account())
        more = sum(one.tenant == tenant for one in found.submissions)
        if quota.concurrent is not None and more:
            assert before.running + more <= quota.concurrent
        if quota.cpu_hours_per_day is not None and more:
            assert before.cpu_s_today < 3600 * quota.cpu_hours_per_day
    told = reasons(jobs, accounts, quotas, room=room, now_at=NOW_AT)
    assert sorted(told) == sorted(stay + rests)
    assert all(told.values())
    if len(gone) < room:  # there was room: whatever stays is held by its tenant's quota
        causes = {why.cause for name in stay for why in told[name]}
        assert all(
            {"concurrent", "cpu_hours"} & {why.cause for why in told[name]} for name in stay
        ), causes
