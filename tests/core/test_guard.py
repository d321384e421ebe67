"""The machine's real work comes first, and what it is not pressed by pauses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import guard
from supervisor.core.guard import Guard, Pressure, begun, in_words, step

LIMITS = Guard()
CALM = Pressure(cpu_other=3.0, memory_other=20.0)
BUSY = Pressure(cpu_other=95.0, memory_other=20.0)
FULL = Pressure(cpu_other=3.0, memory_other=95.0)


def watched(*stretches, watch=None, limits=LIMITS):
    """The watch after stretches of samples, (what they show, seconds), and each change of answer.

    A change is (when, answer, cause); without a watch it is one that has been calm before.
    """
    now_s = 0.0
    if watch is None:
        watch, _ = watched((CALM, 62), watch=begun(0.0))
        now_s = watch.since_s
    else:
        now_s = watch.since_s
    begin_s, changes = now_s, []
    for seen, lasts_s in stretches:
        for _ in range(round(lasts_s / limits.sample_s)):
            now_s += limits.sample_s
            before, watch = watch, step(watch, seen, limits, now_s)
            if watch.verdict != before.verdict:
                changes.append((now_s - begin_s, watch.verdict.answer, watch.verdict.cause))
    return watch, changes


def test_nothing_starts_before_it_has_been_calm_for_a_minute():
    """Whoever has just begun to look knows nothing of what others do."""
    _, changes = watched((CALM, 58), (BUSY, 2), (CALM, 70), watch=begun(0.0))
    assert changes == [(122.0, "free", "calm")]


def test_whoever_waits_for_others_is_told_once_for_whom():
    """How busy they are at each sample is no news."""
    at_work = Pressure(cpu_other=45.0, memory_other=20.0)
    named = guard.by(at_work, LIMITS, (("java (pid 7) 90 % of one",), ()))
    watch, changes = watched((at_work, 2), (named, 30), watch=begun(0.0))
    assert changes == [(4.0, "hold", "start")]
    assert "java (pid 7)" in in_words(watch.verdict, LIMITS)


@pytest.mark.parametrize(
    ("cpu", "memory", "who"),
    [(85.0, 88.0, "java"), (85.0, 92.0, "db"), (50.0, 60.0, "java"), (20.0, 75.0, "db")],
)
def test_who_is_told_is_who_presses_where_a_limit_is_passed(cpu, memory, who):
    """A database that holds much memory, as ever, is not what has training stand still."""
    seen = Pressure(cpu_other=cpu, memory_other=memory)
    assert guard.by(seen, LIMITS, (("java",), ("db",))).by == (who,)


def test_training_that_is_alone_is_never_paused():
    """Its own load is no pressure, however busy the machine is by it."""
    alone = Pressure(cpu_other=4.0, memory_other=30.0, psi_cpu=88.0)
    assert watched((alone, 3600))[1] == []


def test_foreign_load_has_it_stand_still_within_seconds_and_go_on_by_itself():
    """The second sample decides; after it three calm ones, and a minute at least."""
    _, changes = watched((BUSY, 90), (CALM, 60))
    assert changes == [(4.0, "freeze", "cpu"), (96.0, "free", "calm")]
    _, changes = watched((BUSY, 10), (CALM, 90))
    assert changes == [(4.0, "freeze", "cpu"), (64.0, "free", "calm")]


def test_one_sample_is_no_load():
    assert watched((BUSY, 2), (CALM, 10), (BUSY, 2), (CALM, 10))[1] == []


def test_between_the_limits_nothing_changes():
    """What trains goes on, and what stands still does not."""
    between = Pressure(cpu_other=50.0, memory_other=80.0)
    assert watched((between, 600))[1] == []
    _, changes = watched((BUSY, 4), (between, 200))
    assert [answer for _, answer, _ in changes] == ["freeze"]


def test_what_stands_still_for_too_long_leaves_and_comes_back_after_a_calm_minute():
    _, changes = watched((BUSY, 400), (CALM, 70))
    assert changes == [(4.0, "freeze", "cpu"), (304.0, "evict", "cpu"), (462.0, "free", "calm")]


def test_only_leaving_frees_memory():
    """At once, and also where it stands still already."""
    assert watched((FULL, 6))[1] == [(4.0, "evict", "memory")]
    _, changes = watched((BUSY, 10), (FULL, 10))
    assert [change[1:] for change in changes] == [("freeze", "cpu"), ("evict", "memory")]


def test_each_gpu_is_looked_at_and_none_is_added_to_another():
    """A start waits for every one; training that is there leaves only where that is asked for."""
    one = Pressure(cpu_other=1.0, gpu_memory_other_mib={"GPU-a": 900.0, "GPU-b": 900.0})
    two = Pressure(cpu_other=1.0, gpu_memory_other_mib={"GPU-a": 20.0, "GPU-b": 5000.0})
    assert [answer for _, answer, _ in watched((one, 70), watch=begun(0.0))[1]] == ["free"]
    assert watched((two, 600), watch=begun(0.0))[1] == []
    assert watched((two, 600))[1] == []
    limits = Guard(pause_gpu_memory_mib=4000.0)
    watch, changes = watched((two, 6), limits=limits)
    assert changes == [(4.0, "evict", "gpu_memory")]
    assert "GPU GPU-b" in in_words(watch.verdict, limits)


def test_what_nobody_knows_presses_nobody():
    """An unknown is no 0, and no reason to wait for ever."""
    _, changes = watched((Pressure(), 62), watch=begun(0.0))
    assert [answer for _, answer, _ in changes] == ["free"]


@given(st.integers(2, 29), st.integers(2, 29))
def test_a_load_that_comes_and_goes_pauses_twice_at_most(busy, calm):
    """A square wave: after the second pause only a calm that lasts counts."""
    wave = [(BUSY, 2 * busy), (CALM, 2 * calm)] * (1800 // (busy + calm))
    _, changes = watched(*wave)
    assert sum(answer == "freeze" for _, answer, _ in changes) <= 2


def test_after_too_many_pauses_training_leaves_until_an_hour_has_fewer():
    """Where each was far enough from the one before to be none of a wave."""
    limits = Guard(pauses_max_per_h=3)
    wave = [(BUSY, 20), (CALM, 640)]
    watch, changes = watched(*wave * 4, (CALM, 1200), limits=limits)
    assert [change[1] for change in changes] == [*["freeze", "free"] * 3, "evict", "free"]
    assert changes[-2][2] == "flapping"
    assert changes[-1][0] - changes[0][0] >= guard.HOUR_S - 2
    assert watch.flaps == 0


GAME = "system.slice/game.service"
WAITING = Pressure(cpu_other=20.0, psi_cpu_protected={GAME: 40.0})
SHORT = Pressure(cpu_other=20.0, psi_memory_protected={GAME: 40.0})
SLOW = Pressure(cpu_other=20.0, service_latency_p95_ms=180.0)


@pytest.mark.parametrize(
    ("seen", "answer", "cause", "said", "key"),
    [
        (WAITING, "freeze", "protected_cpu", "waits 40 % of the time for a processor", "psi"),
        (SHORT, "evict", "protected_memory", "waits 40 % of the time for memory", "psi"),
        (SLOW, "freeze", "latency", "180 ms", "latency"),
    ],
)
def test_what_the_users_of_the_machine_feel_is_a_cause_by_itself(seen, answer, cause, said, key):
    """However little others use; with another limit it is none."""
    watch, changes = watched((seen, 6))
    assert changes == [(4.0, answer, cause)]
    assert said in in_words(watch.verdict, LIMITS)
    above = {"psi": {"pause_psi_percent": 50.0}, "latency": {"latency_p95_ms": 200.0}}
    assert watched((seen, 600), limits=Guard(**above[key]))[1] == []


def test_below_the_limit_of_a_pause_a_protected_group_still_lets_nothing_start():
    between = Pressure(cpu_other=1.0, psi_cpu_protected={GAME: 20.0})
    assert watched((between, 600), watch=begun(0.0))[1] == []
    limits = Guard(start_psi_percent=25.0)
    assert [one[1] for one in watched((between, 70), watch=begun(0.0), limits=limits)[1]] == [
        "free"
    ]
    assert watched((between, 600))[1] == []


@pytest.mark.parametrize(
    "probe",
    [
        "https://127.0.0.1/health",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:70000",
        "tcp://::1:80",
        "tcp://127.0.0.1:80/health",
        "http://127.0.0.1:/health",
        "http://127.0.0.1:game/health",
        ("pgrep", "ga\0me"),
        "http://ada:Marked-S3cret@127.0.0.1/",
        "pgrep game",
        (),
    ],
)
def test_what_can_be_no_probe_is_refused_and_not_repeated(probe):
    with pytest.raises(ValueError, match=r"guard\.probe") as refused:
        Guard(probe=probe)
    assert "S3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "probe",
    [
        "tcp://127.0.0.1:7777",
        "tcp://[::1]:80",
        "http://localhost",
        "http://[::1]/health?of=game@home",
        "http://game.example:8080/",
        ("sh", "-c", "true\n"),
    ],
)
def test_what_can_be_probed_is_taken(probe):
    assert Guard(probe=probe).probe == probe


def test_a_sample_is_urgent_where_the_next_one_may_decide():
    """Others have just begun, or one sample is missing; never where nothing would stand still."""
    before, _ = watched((CALM, 62), watch=begun(0.0))
    halfway = Pressure(cpu_other=50.0)
    after = step(before, halfway, LIMITS, 64.0)
    assert guard.is_urgent(before, after, LIMITS)
    assert not guard.is_urgent(after, step(after, halfway, LIMITS, 66.0), LIMITS)
    once = step(after, BUSY, LIMITS, 66.0)
    assert guard.is_urgent(after, once, LIMITS)
    assert not guard.is_urgent(once, step(once, BUSY, LIMITS, 68.0), LIMITS)
    still, _ = watched((BUSY, 6), watch=once)
    assert still.verdict.answer == "freeze"
    assert not guard.is_urgent(still, step(still, FULL, LIMITS, 80.0), LIMITS)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"start_psi_percent": 40},
            "guard.start_psi_percent = 40 lies above pause_psi_percent = 30",
        ),
        ({"start_cpu_percent": 90}, "start_cpu_percent = 90 lies above pause_cpu_percent = 80"),
        (
            {"start_gpu_memory_mib": 500, "pause_gpu_memory_mib": 400},
            "guard.start_gpu_memory_mib = 500 lies above pause_gpu_memory_mib = 400",
        ),
    ],
)
def test_training_cannot_start_where_it_would_be_paused(limits, said):
    with pytest.raises(ValueError, match="lies above") as refused:
        Guard(**limits)
    assert said in str(refused.value)


@given(
    st.lists(
        st.tuples(
            st.builds(
                Pressure,
                cpu_other=st.none() | st.floats(0, 100),
                memory_other=st.none() | st.floats(0, 100),
                gpu_memory_other_mib=st.dictionaries(st.just("0"), st.floats(0, 90_000)),
            ),
            st.integers(1, 200),
        ),
        max_size=30,
    )
)
def test_whatever_comes_each_answer_has_its_words(samples):
    """A calm that lasts frees in the end, and nothing freezes for longer than is allowed."""
    watch, changes = watched(*((seen, 2 * count) for seen, count in samples), (CALM, 8000))
    assert watch.verdict.answer == "free"
    frozen_s = None
    for at_s, answer, _ in changes:
        if frozen_s is not None:
            assert at_s - frozen_s <= LIMITS.evict_after_s + LIMITS.sample_s
        frozen_s = at_s if answer == "freeze" else None
    assert in_words(watch.verdict, LIMITS)
