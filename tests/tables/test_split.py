"""What is held out lies after what is trained on, a gap apart, and teaches nothing to it."""

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.tables import hourly, wanted, write
from trainers import tables
from trainers.tables import split
from trainers.tables.preprocessing import fit

ROWS = 600
HOUR_NS = 3600 * 10**9


@settings(max_examples=100)
@given(
    positions=st.sets(st.integers(0, 400), min_size=30).map(sorted),
    unusable=st.sets(st.integers(0, 400), max_size=40),
    validation=st.floats(0.05, 0.4),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    gap=st.integers(1, 40),
)
def test_parts_never_overlap_and_keep_the_gap(positions, unusable, validation, test, gap):
    """Whichever rows there are: in order, the gap between, and all else is used."""
    config = wanted(validation_split=validation, test_split=test, gap=gap)
    rows = np.array(positions)
    usable = rows[~np.isin(rows, list(unusable))]
    try:
        parts = split.split(rows, usable, config)
    except tables.DataLoadError:
        return
    held_out = [part for part in parts[1:] if len(part)]
    for one, other in zip([parts.train, *held_out], held_out, strict=False):
        assert other[0] - one[-1] > gap
    last = rows[-int(np.ceil(len(rows) * test - 1e-9)) :] if test else rows[:0]
    np.testing.assert_array_equal(parts.test, last[np.isin(last, usable)])
    assert np.isin(np.concatenate(parts), usable).all()
    held = [math.ceil(len(rows) * share - 1e-9) for share in (test, validation)]
    cuts = [rows[-count] for count in (held[0], sum(held)) if count]
    unused = usable[~np.isin(usable, np.concatenate(parts))]
    assert all(any(cut - gap <= row < cut for cut in cuts) for row in unused)


@settings(max_examples=60)
@given(
    rows=st.integers(20, 300),
    folds=st.integers(1, 6),
    step=st.none() | st.integers(1, 20),
    gap=st.integers(0, 10),
)
def test_folds_roll_forward(rows, folds, step, gap):
    """Each trains on all before it but the gap, the last one ends at the end."""
    positions = np.arange(rows)
    backtest = tables.Backtest(folds=folds, step=step)
    try:
        found = list(split.folds(positions, backtest, gap))
    except tables.DataLoadError:
        assert rows < (folds + 1) * (step or 1) + gap + 2 or rows // (folds + 1) <= gap + 2
        return
    assert len(found) == folds
    for train, ahead in found:
        assert train[0] == 0
        assert ahead[0] - train[-1] == gap + 1
        assert len(ahead) == (step or rows // (folds + 1))
    assert found[-1][1][-1] == rows - 1
    assert all(b[1][0] == a[1][-1] + 1 for a, b in pairwise(found))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95), more=st.integers(0, 300))
def test_a_sample_depends_on_nothing_but_each_row_s_time(seed, share, more):
    """In another order and with rows appended the same rows are in it; less is part of more."""
    chance = np.random.default_rng(seed)
    times = chance.choice(10**6, 500, replace=False) * HOUR_NS
    chosen = split.sampled(times, share)
    order = chance.permutation(500)
    np.testing.assert_array_equal(split.sampled(times[order], share), chosen[order])
    appended = np.concatenate((times, times.max() + np.arange(1, more + 1) * HOUR_NS))
    np.testing.assert_array_equal(split.sampled(appended, share)[:500], chosen)
    assert not (split.sampled(times, share / 2) & ~chosen).any()
    assert abs(chosen.mean() - share) < 0.15
    assert split.sampled(times, 1.0).all()


def prepared(home, columns, **more):
    write(home / "table.parquet", columns)
    return tables.prepare(wanted(**more), home)


def test_a_sample_is_of_the_training_part_alone(tmp_path):
    """What is held out is judged whole, and lags are those of the whole series."""
    options = tables.TrainingOptions(use_sample=0.3)
    whole = prepared(tmp_path, hourly(ROWS), test_split=0.1)
    some = prepared(tmp_path, hourly(ROWS), test_split=0.1, training_options=options)
    rows = np.isin(whole.train.times, some.train.times)
    assert 0.2 < rows.mean() < 0.4
    np.testing.assert_array_equal(some.train.x, whole.train.x[rows])
    np.testing.assert_array_equal(some.validation.x, whole.validation.x)
    np.testing.assert_array_equal(some.test.x, whole.test.x)


def test_where_the_cuts_lie_depends_on_no_feature(tmp_path):
    """So that models with other lags are judged by the same rows; a share is rounded up."""
    short = prepared(tmp_path, hourly(ROWS), features=("load_lag_1",), test_split=0.1)
    long = prepared(tmp_path, hourly(ROWS), features=("load_lag_168",), test_split=0.1)
    np.testing.assert_array_equal(short.test.times, long.test.times)
    np.testing.assert_array_equal(short.validation.times, long.validation.times)
    assert (len(short.test), len(short.validation)) == (60, 119)  # a gap of 1 before the test part


ASKED = st.builds(
    tables.Preprocessing,
    missing=st.sampled_from(["drop", "ffill", "median"]),
    scale=st.sampled_from(["none", "standard", "robust"]),
    categories=st.sampled_from(["native", "ordinal"]),
    max_categories=st.integers(1, 4),
)


@settings(max_examples=25)
@given(asked=ASKED, seed=st.integers(0, 100))
def test_nothing_is_learnt_from_what_is_held_out(tmp_path_factory, asked, seed):
    """Other rows there, and what is trained on and done to features stays to the bit."""
    home = tmp_path_factory.mktemp("home")
    chance = np.random.default_rng(seed)
    one = hourly(300, city=chance.choice(list("abcdef"), 300))
    one["temperature"][chance.integers(0, 200, 5)] = np.nan
    other = {name: values.copy() for name, values in one.items()}
    for name in ("load", "temperature", "humidity"):
        other[name][240:] = chance.normal(1e6, 1e5, 60)
    other["city"][240:] = "z"
    more = {
        "features": ("temperature", "humidity", "city", "load_lag_24", "historical_avg_24h"),
        "preprocessing": asked,
        "test_split": 0.0,
    }
    ours, theirs = (prepared(home, columns, **more) for columns in (one, other))
    assert ours.fitted == theirs.fitted
    np.testing.assert_array_equal(ours.train.x, theirs.train.x)
    np.testing.assert_array_equal(ours.train.y, theirs.train.y)
    assert ours.train.times[-1] == theirs.train.times[-1] < one["time"].astype(np.int64)[239]


def test_each_fold_is_preprocessed_by_its_own_past(tmp_path):
    """Its mean is 0 in what it trains on, and elsewhere it is not."""
    columns = hourly(ROWS)
    columns["temperature"] += np.arange(ROWS) / 10
    found = prepared(
        tmp_path,
        columns,
        features=("temperature",),
        preprocessing=tables.Preprocessing(scale="standard"),
        backtest=tables.Backtest(folds=3),
        test_split=0.2,
    )
    folds = list(found.folds())
    assert [fold.number for fold in folds] == [0, 1, 2]
    for fold in folds:
        assert abs(fold.train.x.mean()) < 1e-9
        assert abs(fold.train.x.std() - 1) < 1e-9
        assert fold.validation.x.mean() > 1
        assert fold.validation.times[-1] < found.test.times[0]
        assert fold.card["train"]["rows"] == len(fold.train)
    assert list(prepared(tmp_path, columns).folds()) == []


def fitted(values, labels=None, **asked):
    asked = tables.Preprocessing(**({"missing": "median"} | asked))
    (one,), said = fit(["a"], lambda _: (np.array(values, dtype=float), labels), asked)
    return one, said


def test_scales_and_medians_by_hand():
    """Mean and deviation, or median and quartiles; what does not vary is only moved."""
    standard, _ = fitted([1, 2, 3, np.nan, 6], scale="standard")
    assert (standard.centre, standard.spread) == (3.0, pytest.approx(np.sqrt(3.5)))
    assert standard.median == 2.5
    robust, _ = fitted([1, 2, 3, 4, 100], scale="robust")
    assert (robust.centre, robust.spread) == (3.0, 2.0)
    assert robust.applied(np.array([5.0, np.nan]), None).tolist() == [1.0, 0.0]
    assert fitted([7, 7], scale="standard")[0].spread == 1.0


def test_categories_have_numbers_by_the_alphabet_and_the_rest_one_more():
    """What the training part has not got, or seldom, is the one after the last."""
    labels = ("ant", "bee", "cow", "dog")
    one, said = fitted([1, 1, 3, 3, 3, 0, np.nan], labels, max_categories=2)
    assert (one.labels, one.native) == (("bee", "dog"), True)
    lines = [one.line for one in said]
    assert lines == ["a has 1 categories beyond the 2 most frequent: they are taken for one"]
    other = ("dog", "eel", "bee")
    assert one.applied(np.array([0, 1, 2, np.nan]), other).tolist() == [1, 2, 0, 1]
    ordinal, _ = fitted([0, 1, 1], labels, categories="ordinal", missing="drop")
    assert not ordinal.native
    assert np.isnan(ordinal.applied(np.array([np.nan]), labels)).all()


def test_categories_of_a_table(tmp_path):
    """Native ones are named with their labels; ordinal ones are numbers as any."""
    columns = hourly(ROWS, city=["Ulm", "Aue", "Hof"] * (ROWS // 3))
    more = {"features": ("city", "load_lag_1")}
    native = prepared(tmp_path, columns, **more)
    assert native.categories == {"city": ("Aue", "Hof", "Ulm")}
    ordinal = prepared(
        tmp_path, columns, preprocessing=tables.Preprocessing(categories="ordinal"), **more
    )
    assert ordinal.categories == {}
    np.testing.assert_array_equal(native.train.x, ordinal.train.x)
    write(tmp_path / "table.csv", columns)
    again = tables.prepare(wanted(data="table.csv", **more), tmp_path)
    np.testing.assert_array_equal(native.train.x, again.train.x)


def test_matrices_are_as_algorithms_want_them(tmp_path):
    """C-contiguous, of either precision, as long as their rows."""
    write(tmp_path / "table.parquet", hourly(ROWS))
    for dtype in ("float32", "float64"):
        part = tables.prepare(wanted(), tmp_path, dtype=dtype).train
        assert part.x.flags.c_contiguous
        assert part.x.dtype == dtype
        assert part.x.shape == (len(part), 4)
        assert len(part) == len(part.y) == len(part.positions)


def test_the_card_is_plain_and_tells_the_split(tmp_path):
    """It is JSON, with the parts' first and last times, and it is the same the next time."""
    one = prepared(tmp_path, hourly(ROWS), test_split=0.1)
    two = prepared(tmp_path, hourly(ROWS), test_split=0.1)
    assert msgspec.json.encode(one.card) == msgspec.json.encode(two.card)
    assert one.card["split"]["test"] == {
        "rows": 60,
        "from": "2024-01-23T12:00:00Z",
        "to": "2024-01-25T23:00:00Z",
    }
    assert one.card["step"] == "1 h"
    assert one.card["known_ahead"] == ["temperature"]
    assert len(one.card["data"]["sha256"]) == 64
    other = hourly(ROWS)
    other["load"][7] += 1e-9
    assert prepared(tmp_path, other).card["data"]["sha256"] != one.card["data"]["sha256"]
