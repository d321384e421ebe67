"""How good directions are that were told; this imports NumPy.

Positive is what goes up. Rows in a matrix are what was true, columns what was told. A number that
is a share of nothing is None, and never NaN; `maxDrawdown` is always a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.direction.boosting import CLASSES, DOWN, FLAT, OBJECTIVE, UP
from trainers.direction.market import Floats, Market, Outcome, Rows, cost, moved_before
from trainers.direction.options import Rule
from trainers.tables.prepared import Part
from trainers.tables.times import SECOND, Times

THRESHOLDS = tuple(round(number / 20, 2) for number in range(1, 20))
"""from 0.05 to 0.95: those that one is chosen from"""
NO_LABELS, NO_PREDICTIONS, NO_TRADES = (
    "no_positive_labels",
    "no_positive_predictions",
    "no_trades",
)
REASONS = {
    "ok": None,
    NO_LABELS: "the price never goes up in these rows: nothing can be found",
    NO_TRADES: "neither up nor down is ever told: nothing would have been traded",
    NO_PREDICTIONS: "up is never told: its hit rate is unknown",
}


class Trades(NamedTuple):
    """What would have been bought and sold, one position at a time."""

    rows: Rows
    """at which each begins"""
    returns: Floats
    """of each, as a share of the price, less what it costs"""


class Course(NamedTuple):
    """What a part of a market was, as far as it judges."""

    times: Times
    truth: Rows
    """classes"""
    moved: Floats
    """mid price at the end of the horizon by that of the row, minus 1"""
    cost: Floats
    """of a trade that begins there"""
    horizon_s: int


def course(part: Part, market: Market, outcome: Outcome, rule: Rule) -> Course:
    """What a part of a market was."""
    return Course(
        part.times,
        part.y.astype(np.int64),
        outcome.moved[part.positions],
        cost(market, rule)[part.positions],
        rule.horizon_s,
    )


def decided(probabilities: Floats, threshold: float | None) -> Rows:
    """Classes that are told.

    Up or down, whichever is more probable, is told from the threshold on, and up where they are
    even; else flat. Without a threshold it is the most probable class.
    """
    if threshold is None:
        return np.asarray(np.argmax(probabilities, axis=1), dtype=np.int64)
    down, up = probabilities[:, DOWN], probabilities[:, UP]
    likely = np.where(up >= down, UP, DOWN)
    return np.where(np.maximum(up, down) >= threshold, likely, FLAT)


def trades(course: Course, told: Rows) -> Trades:
    """What would have been traded by what was told.

    Up is bought and down is sold short, each with one unit of capital, at the mid price of the
    row, and closed at that of the end of the horizon. There is one position at a time: what is told
    while one is open is not traded. The return of a trade is the move of the price in its
    direction, less the cost.
    """
    wanted = np.flatnonzero(told != FLAT)
    ends = course.times + course.horizon_s * SECOND
    # For each wanted row the first of the wanted that comes when its trade is over.
    after = np.searchsorted(course.times[wanted], ends[wanted], side="left").tolist()
    taken, number = [], 0
    while number < len(wanted):
        taken.append(number)
        number = after[number]
    rows = wanted[taken]
    sign = np.where(told[rows] == UP, 1.0, -1.0)
    return Trades(rows, sign * course.moved[rows] - course.cost[rows])


def drawdown(returns: Floats) -> Floats:
    """After each trade, by how much the sum of the returns is below its highest so far, or 0."""
    total = np.cumsum(returns)
    return np.maximum.accumulate(np.maximum(total, 0.0)) - total


def measured(course: Course, told: Rows) -> dict[str, Any]:
    """All that depends on what was told alone.

    * accuracy = told rightly / rows
    * balancedAccuracy = mean over the classes that occur of (told rightly / rows of the class)
    * precision_pos = up and told so / told up; recall_pos = up and told so / up
    * f1_pos = 2 * up and told so / (up + told up)
    * directionalHitRate = precision_pos, of directionalSampleSize = pred_pos_count rows told up
    * pred_pos_rate = pred_pos_count / rows
    * maxDrawdown = max over trades k of (max(0, S_1 .. S_k) - S_k), where S is the running sum of
      the returns of the trades: a share of one unit of capital, 0.01 is 1 %; 0.0 without trades
    """
    matrix = np.bincount(course.truth * len(CLASSES) + told, minlength=len(CLASSES) ** 2)
    matrix = matrix.reshape(len(CLASSES), len(CLASSES))
    right, rows = matrix.diagonal(), int(matrix.sum())
    there = matrix.sum(axis=1)
    up, told_up, hits = int(there[UP]), int(matrix[:, UP].sum()), int(right[UP])
    made = trades(course, told)
    below = drawdown(made.returns)
    precision = hits / told_up if told_up else None
    return {
        "accuracy": int(right.sum()) / rows,
        "balancedAccuracy": float(np.mean(right[there > 0] / there[there > 0])),
        "precision_pos": precision,
        "recall_pos": hits / up if up else None,
        "f1_pos": 2 * hits / (up + told_up) if up + told_up else None,
        "directionalHitRate": precision,
        "maxDrawdown": float(below.max(initial=0.0)),
        "directionalSampleSize": told_up,
        "pred_pos_count": told_up,
        "pred_pos_rate": told_up / rows,
        "confusion_matrix": matrix.tolist(),
        "trades": len(made.returns),
        "return_sum": float(made.returns.sum()),
    }


def judge(course: Course, probabilities: Floats, threshold: float | None) -> dict[str, Any]:
    """How good a model is on some rows, by a threshold that was chosen elsewhere.

    evaluation_status is no_positive_labels, no_trades (neither up nor down is told),
    no_positive_predictions (only down is) or ok, whichever holds first; `reason` says it in words.
    threshold_results has what each threshold would have come to on the same rows.
    """
    found = measured(course, decided(probabilities, threshold))
    counts = np.bincount(course.truth, minlength=len(CLASSES)).tolist()
    if not counts[UP]:
        status = NO_LABELS
    elif not found["trades"]:
        status = NO_TRADES
    else:
        status = "ok" if found["pred_pos_count"] else NO_PREDICTIONS
    return {
        **found,
        "label_distribution": dict(zip(CLASSES, counts, strict=True)),
        "evaluation_status": status,
        "reason": REASONS[status],
        "best_threshold": threshold,
        "threshold_results": by_threshold(course, probabilities),
        "proba_source": OBJECTIVE,
    }


def by_threshold(course: Course, probabilities: Floats) -> list[dict[str, Any]]:
    """What each threshold comes to."""
    kept = (
        "precision_pos", "recall_pos", "f1_pos", "pred_pos_count", "pred_pos_rate",
        "balancedAccuracy", "maxDrawdown", "trades", "return_sum",
    )  # fmt: skip
    found = []
    for threshold in THRESHOLDS:
        came_to = measured(course, decided(probabilities, threshold))
        found.append({"threshold": threshold, **{name: came_to[name] for name in kept}})
    return found


def best_of(results: list[dict[str, Any]]) -> float:
    """The threshold of the highest balanced accuracy; the lowest of equals."""
    best = max(results, key=lambda one: (one["balancedAccuracy"], -one["threshold"]))
    return float(best["threshold"])


def baselines(
    course: Course, part: Part, market: Market, rule: Rule, train: Part
) -> dict[str, dict[str, Any]]:
    """What costs nothing: the most frequent class so far, and that the last move comes again."""
    usual = int(np.argmax(np.bincount(train.y.astype(np.int64), minlength=len(CLASSES))))
    again: NDArray[np.int64] = moved_before(market, rule)[part.positions]
    return {
        "majority_class": measured(course, np.full(len(part), usual, dtype=np.int64)),
        "last_move": measured(course, again),
    }


def warning_of(found: dict[str, Any], beside: dict[str, dict[str, Any]]) -> str | None:
    """What whoever would use the model must know; None: it is better than what costs nothing."""
    words = {
        "majority_class": "always telling one class",
        "last_move": "telling the last move again",
    }
    best = max(beside, key=lambda name: beside[name]["balancedAccuracy"])
    theirs, ours = beside[best]["balancedAccuracy"], found["balancedAccuracy"]
    if ours > theirs:
        return None
    rows = sum(found["label_distribution"].values())
    return (
        f"no better than {words[best]}: that has a balanced accuracy of {theirs:.4f} on the same "
        f"{rows:,} rows, and the model {ours:.4f}"
    )
