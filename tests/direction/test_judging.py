"""The numbers of `metrics.json`, held to those of scikit-learn and to slow looks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from trainers.direction import judging
from trainers.direction.judging import Course

SECOND = 10**9
PAGE = {
    "accuracy", "balancedAccuracy", "precision_pos", "recall_pos", "f1_pos", "directionalHitRate",
    "maxDrawdown", "directionalSampleSize", "pred_pos_count", "pred_pos_rate", "confusion_matrix",
    "label_distribution", "evaluation_status", "reason", "best_threshold", "threshold_results",
    "proba_source",
}  # fmt: skip
"""what the page of rented GPUs has"""


def course(truth, *, seconds=None, moved=None, cost=0.0, horizon_s=10):
    count = len(truth)
    seconds = np.arange(count) * 4 if seconds is None else np.asarray(seconds)
    moved = (np.asarray(truth) - 1) * 0.01 if moved is None else np.asarray(moved)
    return Course(
        seconds.astype(np.int64) * SECOND,
        np.asarray(truth, dtype=np.int64),
        moved.astype(np.float64),
        np.full(count, cost),
        horizon_s,
    )


def sure(classes):
    """Probabilities that leave no doubt."""
    return np.eye(3)[np.asarray(classes)] * 0.9 + 0.1 / 3


def plain(value):
    """Every number in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from plain(one)
    elif isinstance(value, float):
        yield value


CLASSES = st.sampled_from([(0, 1, 2), (0, 1), (1, 2), (0, 2), (1,), (2,), (0,)])


@settings(max_examples=150, deadline=None)
@given(truths=CLASSES, tolds=CLASSES, seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_each_number_is_what_scikit_learn_says_it_is(truths, tolds, seed, rows):
    """Whatever classes there are and are told; what is a share of nothing is None."""
    chance = np.random.default_rng(seed)
    truth, told = chance.choice(truths, rows), chance.choice(tolds, rows)
    found = judging.judge(course(truth), sure(told), None)
    assert set(found) >= PAGE
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(truth, told))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # of classes that are only told
        balanced = theirs.balanced_accuracy_score(truth, told)
    assert found["balancedAccuracy"] == pytest.approx(balanced)
    assert (
        found["confusion_matrix"] == theirs.confusion_matrix(truth, told, labels=[0, 1, 2]).tolist()
    )
    for name, score in (
        ("precision_pos", theirs.precision_score),
        ("recall_pos", theirs.recall_score),
        ("f1_pos", theirs.f1_score),
    ):
        wanted = score(truth == 2, told == 2, zero_division=np.nan)
        assert found[name] == (None if math.isnan(wanted) else pytest.approx(wanted))
    assert found["directionalHitRate"] == found["precision_pos"]
    up = int((told == 2).sum())
    assert found["directionalSampleSize"] == found["pred_pos_count"] == up
    assert found["pred_pos_rate"] == pytest.approx(up / rows)
    counts = [int((truth == one).sum()) for one in range(3)]
    assert found["label_distribution"] == dict(zip(("down", "flat", "up"), counts, strict=True))
    assert all(math.isfinite(number) for number in plain(found))
    assert isinstance(found["maxDrawdown"], float)
    if 2 not in truth:
        status = "no_positive_labels"
    elif set(told) == {1}:
        status = "no_trades"
    else:
        status = "ok" if up else "no_positive_predictions"
    assert found["evaluation_status"] == status
    assert (found["reason"] is None) == (status == "ok")


@settings(max_examples=100)
@given(
    apart=st.lists(st.integers(1, 15), min_size=1, max_size=40),
    seed=st.integers(0, 1000),
    cost=st.sampled_from([0.0, 0.002]),
)
def test_trades_and_their_drawdown_are_what_a_slow_look_finds(apart, seed, cost):
    """One position at a time: what is told while one is open is not traded."""
    chance = np.random.default_rng(seed)
    seconds, told = np.cumsum(apart), chance.integers(0, 3, len(apart))
    moved = chance.normal(0, 0.01, len(apart))
    over = course(np.ones(len(apart)), seconds=seconds, moved=moved, cost=cost)
    free_at, total, highest, worst, taken = 0, 0.0, 0.0, 0.0, []
    for row, at in enumerate(seconds):
        if told[row] == 1 or at < free_at:
            continue
        taken.append(row)
        free_at = at + 10
        total += (moved[row] if told[row] == 2 else -moved[row]) - cost
        highest = max(highest, total)
        worst = max(worst, highest - total)
    found = judging.measured(over, told)
    assert judging.trades(over, told).rows.tolist() == taken
    assert found["maxDrawdown"] == pytest.approx(worst)
    assert found["return_sum"] == pytest.approx(total)
    assert found["trades"] == len(taken)


def test_without_trades_nothing_falls():
    """The drawdown is a number, and 0."""
    found = judging.judge(course([2, 1, 0]), sure([1, 1, 1]), 0.5)
    assert found["maxDrawdown"] == 0.0
    assert found["evaluation_status"] == "no_trades"
    assert found["directionalHitRate"] is None


def test_a_threshold_tells_the_more_probable_of_up_and_down():
    """Where neither reaches it, it is flat; without one it is the most probable class."""
    probabilities = np.array([[0.4, 0.5, 0.1], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    assert judging.decided(probabilities, 0.35).tolist() == [0, 1, 2]
    assert judging.decided(probabilities, 0.3).tolist() == [0, 2, 2]
    assert judging.decided(probabilities, 0.75).tolist() == [1, 1, 1]
    assert judging.decided(probabilities, None).tolist() == [1, 1, 2]


def test_the_threshold_is_the_one_with_the_highest_balanced_accuracy():
    """Of equals the lowest."""
    truth = [2, 2, 1, 1, 0, 0]
    up = [0.8, 0.6, 0.5, 0.3, 0.1, 0.1]
    down = [0.1, 0.1, 0.1, 0.1, 0.85, 0.62]
    probabilities = np.array([[d, 1 - u - d, u] for u, d in zip(up, down, strict=True)])
    results = judging.by_threshold(course(truth), probabilities)
    assert judging.best_of(results) == 0.55
    assert [one["threshold"] for one in results] == list(judging.THRESHOLDS)
    assert judging.best_of(judging.by_threshold(course([1, 1]), sure([1, 1]))) == 0.05


def test_who_is_no_better_than_what_costs_nothing_is_told_so():
    found = judging.judge(course([0, 1, 2]), sure([1, 1, 1]), None)
    beside = {
        "majority_class": judging.measured(course([0, 1, 2]), np.array([0, 0, 0])),
        "last_move": judging.measured(course([0, 1, 2]), np.array([0, 0, 2])),
    }
    said = judging.warning_of(found, beside)
    assert said == (
        "no better than telling the last move again: that has a balanced accuracy of 0.6667 on "
        "the same 3 rows, and the model 0.3333"
    )
    assert (
        judging.warning_of(judging.judge(course([0, 1, 2]), sure([0, 1, 2]), None), beside) is None
    )
