"""When a job starts is foretold from how long others like it took."""

import random
import time

import pytest

from supervisor.core.eta import Kind, Measured, size_of, until_start

SMALL, LARGE = Kind("tabular", 10), Kind("tabular", 20)
OTHER = Kind("neural", 10)


def test_where_a_slot_is_free_it_starts_at_once():
    told = until_start([], [(SMALL, 5.0)], 2, Measured({}))
    assert (told.position, told.eta_s, told.eta_p90_s) == (1, 0, 0)


def test_what_nobody_has_measured_is_not_foretold():
    assert until_start([SMALL], [(SMALL, 5.0)], 1, Measured({})) is None


def test_jobs_that_always_take_as_long_are_foretold_to_the_second():
    measured = Measured({SMALL: [100.0] * 50})
    told = until_start([SMALL] * 3, [(SMALL, 40.0), (SMALL, 90.0)], 2, measured)
    assert (told.position, told.eta_s) == (4, pytest.approx(160))
    assert told.plain_p90_s == pytest.approx(160)


def test_the_more_they_differ_the_later_is_nearly_certain():
    rng = random.Random(1)  # noqa: S311 - a world, no secret
    even = [rng.uniform(90, 110) for _ in range(60)]
    uneven = [rng.lognormvariate(4.2, 1.0) for _ in range(60)]
    spreads = []
    for took in (even, uneven):
        told = until_start([SMALL] * 4, [(SMALL, 1.0)], 1, Measured({SMALL: took}))
        assert told.eta_s < told.eta_p90_s
        spreads.append(told.eta_p90_s / told.eta_s)
    assert spreads[0] < spreads[1]


def test_few_measurements_promise_little():
    told = [
        until_start([SMALL] * 4, [(SMALL, 0.0)], 1, Measured({SMALL: [80.0, 100.0, 130.0] * times}))
        for times in (1, 30)
    ]
    assert told[0].eta_p90_s > told[1].eta_p90_s


def test_a_kind_of_which_little_is_known_is_taken_for_what_is_most_like_it():
    measured = Measured({SMALL: [10.0] * 20, OTHER: [1000.0] * 20})
    assert until_start([LARGE], [(LARGE, 0.0)], 1, measured).eta_s < 100
    alone = Measured({OTHER: [1000.0] * 20})
    assert until_start([LARGE], [(LARGE, 0.0)], 1, alone).eta_s > 500


def test_one_that_outlives_all_that_was_measured_is_half_done_perhaps():
    told = until_start([], [(SMALL, 500.0)], 1, Measured({SMALL: [100.0] * 20}))
    assert 300 < told.eta_s < 800


def test_who_may_come_between_makes_it_later():
    measured = Measured({SMALL: [100.0] * 50})
    alone = until_start([SMALL] * 2, [(SMALL, 0.0)], 1, measured)
    among = until_start([SMALL] * 2, [(SMALL, 0.0)], 1, measured, between=10)
    assert alone.eta_s == pytest.approx(300)
    assert among.eta_s == pytest.approx(300 + 500, rel=0.15)
    assert among.eta_p90_s > among.eta_s


def test_how_late_others_were_is_learnt_from():
    """Within bounds: that a machine was off for days says nothing of the next job."""
    measured = Measured({SMALL: [100.0] * 50})
    by = [
        until_start([SMALL], [(SMALL, 0.0)], 1, measured, lateness=past).eta_p90_s
        for past in ((), [0.5] * 40, [2.0] * 40, [300.0] * 100)
    ]
    assert by == [pytest.approx(200 * factor) for factor in (1.25, 0.5, 2.0, 4.0)]


def test_a_long_line_is_foretold_in_a_blink_and_like_a_short_one():
    rng = random.Random(3)  # noqa: S311 - a world, no secret
    measured = Measured({SMALL: [rng.lognormvariate(4, 0.5) for _ in range(200)]})
    began = time.process_time()
    told = until_start([SMALL] * 10_000, [(SMALL, 1.0)] * 4, 4, measured)
    assert time.process_time() - began < 2.0
    mean_s = sum(measured.of(SMALL)._took_s) / 200
    assert told.eta_s == pytest.approx(10_000 * mean_s / 4, rel=0.1)
    near = until_start([SMALL] * 50, [(SMALL, 1.0)] * 4, 4, measured)
    far = until_start([SMALL] * 51, [(SMALL, 1.0)] * 4, 4, measured)
    assert near.eta_s < far.eta_s < 1.15 * near.eta_s


def test_equal_facts_are_foretold_equally():
    measured = {SMALL: [50.0, 60.0, 70.0, 80.0, 90.0]}
    told = {until_start([SMALL] * 3, [(SMALL, 7.0)], 1, Measured(measured)) for _ in range(3)}
    assert len(told) == 1


def test_jobs_within_a_factor_of_two_are_of_one_size():
    assert size_of(0) == 0
    assert size_of(1000) == size_of(1023) == 10
    assert size_of(1024) == 11
