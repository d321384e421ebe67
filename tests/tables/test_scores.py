"""Numbers that flatter nobody: errors by hand, and beside what costs nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.tables import demand, hourly, wanted, write
from trainers import tables
from trainers.tables import anomalies, scores
from trainers.tables.times import DAY, HOUR, MONTH, Spacing


def test_errors_by_hand():
    """Of four rows."""
    found = scores.scores(np.array([1.0, 2, 4, 5]), np.array([2.0, 2, 2, 6]))
    assert found.mae == 1.0
    assert found.rmse == pytest.approx(np.sqrt(6 / 4))
    assert found.mape == pytest.approx(100 * (1 + 0 + 0.5 + 0.2) / 4)
    assert found.wape == pytest.approx(100 * 4 / 12)
    assert found.smape == pytest.approx(200 * (1 / 3 + 0 + 2 / 6 + 1 / 11) / 4)
    assert found.r2_score == pytest.approx(1 - 6 / 10)


def test_no_error_in_per_cent_where_the_target_is_as_good_as_0():
    """It would be as large as one likes; what is divided by all of it holds."""
    found = scores.scores(np.array([0.0, 10, 20]), np.array([1.0, 10, 20]))
    assert found.mape is None
    assert found.wape == pytest.approx(100 / 30)
    assert scores.scores(np.array([1e-9, 10, 20]), np.array([1.0, 10, 20])).mape is None
    nothing = scores.scores(np.zeros(3), np.zeros(3))
    assert (nothing.mape, nothing.wape, nothing.smape, nothing.r2_score) == (None, None, 0, None)


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (HOUR, [24, 168]),
        (HOUR // 2, [48, 336]),
        (HOUR // 4, [96, 672]),
        (5 * HOUR, []),
        (DAY, [7, 365]),
        (7 * DAY, [52]),
        (MONTH, [12]),
        (None, []),
    ],
)
def test_what_repeats_follows_from_the_step(step, found):
    """A day, a week or a year in steps."""
    assert list(scores.seasons(Spacing(step, np.arange(3)))) == found


def test_baselines_by_hand(tmp_path):
    """Each knows nothing that is younger than the horizon."""
    values = np.random.default_rng(3).normal(50, 10, 400)
    write(tmp_path / "table.parquet", hourly(400, load=values))
    found = tables.prepare(wanted(horizon=30, features=("load_lag_48",)), tmp_path)
    part = found.validation
    rows = part.positions
    theirs = scores.baselines(found, found.train, part)
    origin = rows - 30
    np.testing.assert_array_equal(theirs["naive"], values[origin])
    np.testing.assert_array_equal(theirs["seasonal_naive_24"], values[rows - 48])
    np.testing.assert_array_equal(theirs["seasonal_naive_168"], values[rows - 168])
    slope = (values[origin] - values[0]) / origin
    np.testing.assert_allclose(theirs["drift"], values[origin] + 30 * slope)
    last = found.train.positions[-1]
    np.testing.assert_allclose(theirs["mean"], np.full(len(part), values[: last + 1].mean()))


def half_hourly(home, **more):
    load = demand()
    times = np.datetime64("2000-06-05", "ns") + np.arange(len(load)) * np.timedelta64(1800, "s")
    write(home / "table.parquet", {"time": times, "load": load})
    lags = ("load_lag_48", "load_lag_96", "load_lag_336")
    asked = {"features": ("hour_of_day", "day_of_week", *lags), "horizon": 48}
    return tables.prepare(wanted(**(asked | more)), home)


def test_a_good_looking_model_is_no_better_than_last_week(tmp_path):
    """Of real demand for electricity, a day ahead: R2 0.98, and repeating last week is better."""
    found = half_hourly(tmp_path)
    part = found.validation
    assert len(part) == 807
    load = demand()
    theirs = scores.baselines(found, found.train, part)
    week = float(np.abs(part.y - theirs["seasonal_naive_336"]).mean())
    assert round(week) == 582
    # A forecast that errs by 643 in the mean, as boosters with usual parameters do.
    chance = np.random.default_rng(0)
    error = chance.normal(size=len(part))
    forecast = part.y + error * 643 / np.abs(error).mean()
    judged = scores.judge(found, found.train, part, forecast)
    assert judged.best_baseline == "seasonal_naive_336"
    assert judged.scores.r2_score > 0.97
    assert judged.skill == pytest.approx(1 - 643 / week)
    seen = load[: found.train.positions[-1] + 1]
    assert judged.mase == pytest.approx(643 / np.abs(seen[336:] - seen[:-336]).mean())
    assert round(643 / np.abs(load[336:3225] - load[: 3225 - 336]).mean(), 2) == 1.14
    (line,) = judged.warnings
    assert line == (
        "no better than repeating last week: that has a mean error of 581.8 on the same 807 rows, "
        "and the model 643"
    )
    assert judged.metrics["mae_seasonal_naive_336"] == pytest.approx(week)
    better = scores.judge(found, found.train, part, part.y + error)
    assert better.warnings == ()
    assert better.skill > 0.99


def test_what_a_day_ahead_nobody_can_have(tmp_path):
    """The lag of half an hour is refused by name, as the document has it."""
    with pytest.raises(tables.ConfigValidationError, match="load_lag_1 is 1 steps old"):
        half_hourly(tmp_path, features=("load_lag_1", "load_lag_48"))


def test_baselines_where_rows_are_missing(tmp_path):
    """They go on from what was known last; one that has no value for some row is left out."""
    columns = {name: np.delete(values, [150, 299]) for name, values in hourly(320).items()}
    write(tmp_path / "table.parquet", columns)
    asked = wanted(
        features=("load_lag_24",),
        preprocessing=tables.Preprocessing(missing="drop"),
        validation_split=0.7,
    )
    found = tables.prepare(asked, tmp_path)
    theirs = scores.baselines(found, found.train, found.validation)
    assert set(theirs) == {"naive", "seasonal_naive_24", "drift", "mean"}
    at = int(np.searchsorted(found.validation.positions, 300))
    assert found.validation.positions[at] == 300
    assert theirs["naive"][at] == hourly(320)["load"][298]


LABELS = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0], dtype=float)
STRANGE = np.array([1, 2, 9, 3, 8, 7, 0, 6, 1, 2], dtype=float)
ROWS = np.arange(10)


def test_anomalies_by_hand():
    """Row by row and range by range, at a threshold of 6."""
    # Flagged: 2, 4, 5 and 7, of which 5 is none; 3 was not found.
    found = anomalies.judge(STRANGE, LABELS, ROWS, 6.0)
    assert (found.base_rate, found.flagged) == (0.4, 0.4)
    assert (found.precision, found.recall) == (3 / 4, 3 / 4)
    assert found.f1 == 3 / 4
    # The first anomaly is covered by two thirds in two pieces, the other one wholly.
    assert found.range_recall == pytest.approx((2 / 3 / 2 + 1) / 2)
    assert found.range_precision == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found.pr_auc == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 5) / 4)
    assert found.lift == pytest.approx(found.pr_auc / 0.4)


def test_one_hit_does_not_find_a_whole_anomaly():
    """A long one of which one row is flagged is found by that much, not more."""
    labels = np.concatenate((np.zeros(50), np.ones(50)))
    strange = np.zeros(100)
    strange[70] = 1
    found = anomalies.judge(strange, labels, np.arange(100), 0.5)
    assert (found.precision, found.recall, found.range_recall) == (1.0, 0.02, 0.02)


def test_without_labels_nothing_is_claimed():
    """Only how many rows were flagged; nor where no row is an anomaly, or nobody knows."""
    for labels in (None, np.zeros(10), np.full(10, np.nan)):
        found = anomalies.judge(STRANGE, labels, ROWS, 6.0)
        assert found.flagged == 0.4
        assert (found.precision, found.pr_auc, found.lift) == (None, None, None)


def test_rows_that_nobody_has_labelled_are_not_judged():
    """As if they were not there."""
    labels = np.where(ROWS == 5, np.nan, LABELS)
    assert anomalies.judge(STRANGE, labels, ROWS, 6.0).precision == 1.0


def test_rows_apart_are_no_range():
    """Neighbours are those in time."""
    labels, flagged = np.ones(4), np.array([1.0, 1, 0, 0])
    assert anomalies.judge(flagged, labels, np.array([0, 1, 2, 3]), 0.5).range_recall == 0.5
    apart = anomalies.judge(flagged, labels, np.array([0, 1, 7, 8]), 0.5)
    assert apart.range_recall == 0.5
    assert anomalies.judge(flagged, labels, np.array([0, 7, 8, 9]), 0.5).range_recall == (
        pytest.approx((1 + 1 / 3) / 2)
    )


@settings(max_examples=60)
@given(
    strange=st.lists(st.integers(0, 6), min_size=3, max_size=40),
    seed=st.integers(0, 1000),
)
def test_pr_auc_and_thresholds_are_those_of_the_definition(strange, seed):
    """Tried at each level, one by one; ties count together."""
    chance = np.random.default_rng(seed)
    labels = (chance.random(len(strange)) < 0.4).astype(float)
    labels[0] = 1
    scored = np.array(strange, dtype=float)
    area, before, best = 0.0, 0.0, (-1.0, 0.0)
    for level in sorted(set(strange), reverse=True):
        flags = scored >= level
        hits = (labels[flags] > 0).sum()
        recall, precision = hits / labels.sum(), hits / flags.sum()
        area += (recall - before) * precision
        before = recall
        f1 = 2 * hits / (flags.sum() + labels.sum())
        best = max(best, (f1, level), key=lambda pair: pair[0])
    assert anomalies.pr_auc(scored, labels) == pytest.approx(area)
    assert anomalies.threshold(scored, labels) == best[1]


def test_a_threshold_without_labels_is_a_share():
    """So many rows reach it."""
    strange = np.random.default_rng(0).normal(size=1000)
    limit = anomalies.threshold(strange, None, share=0.05)
    assert 0.045 <= (strange >= limit).mean() <= 0.055
    assert anomalies.threshold(strange, np.zeros(1000), share=0.05) == limit
