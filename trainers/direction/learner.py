"""How directions are learnt: what is prepared, and how a model is judged; this imports NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.contract import RowRemark, Score
from trainers.direction import judging, picture
from trainers.direction.boosting import CLASSES, Direction
from trainers.direction.market import Market, Outcome, outcome, part_told, read
from trainers.direction.options import Options, Rule
from trainers.tables import DataLoadError
from trainers.tables.learning.growing import Model
from trainers.tables.learning.learner import Evaluation, Learner
from trainers.tables.prepared import Part
from trainers.tables.preprocessing import Fitted
from trainers.tables.times import SECOND

PICTURE = "trades.png"
ROUNDING = 1e-9
"""of a share of the rows, which is rounded up"""


@dataclass(slots=True, kw_only=True)
class Quotes:
    """What is learnt from, what is held out, and what there is to say of it."""

    market: Market
    outcome: Outcome
    train: Part
    validation: Part
    test: Part
    names: tuple[str, ...]
    card: dict[str, Any]
    remarks: tuple[RowRemark, ...]
    memory_bytes: int
    fitted: tuple[Fitted, ...] = ()
    """nothing is: trees need no scale"""

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """There are none."""
        return {}


class Directions(Learner[Options, Quotes]):
    """Learns whether a price goes down, stays or goes up."""

    SCORE = "log_loss"

    @classmethod
    def prepared(
        cls, options: Options, home: Path, working: Callable[[], None], loaded: Callable[[], None]
    ) -> Quotes:
        """The quotes, with what became of the price after each of them."""
        market = read(options.dataset.places, home, options.features, working)
        loaded()
        return prepared(market, options)

    def _evaluated(self, model: Model, used: int) -> Evaluation:
        """Told by a threshold of the validation part, and judged on the test part."""
        quotes, options, rule = self._prepared, self._options, self._options.rule(None)

        def told_of(part: Part) -> tuple[judging.Course, NDArray[np.float64]]:
            self._session.alive()
            course = judging.course(part, quotes.market, quotes.outcome, rule)
            return course, model.predict(part.x, self._threads)

        seen = told_of(quotes.validation)
        self._threshold = threshold = judging.best_of(judging.by_threshold(*seen))
        course, probabilities = told_of(quotes.test)
        found = judging.judge(course, probabilities, threshold)
        beside = judging.baselines(course, quotes.test, quotes.market, rule, quotes.train)
        if (warning := judging.warning_of(found, beside)) is not None:
            self._session.notice(warning)
        metrics = {
            **found,
            "judged_on": "test",
            "baselines": beside,
            "warning": warning,
            "validation": judging.judge(*seen, threshold),
        }
        made = judging.trades(course, judging.decided(probabilities, threshold))
        return Evaluation(
            Direction(model.saved()).ruled(options.rule(threshold)),
            metrics,
            Score(name=self.SCORE, value=self._main.scores[used - 1], better="lower"),
            {PICTURE: picture.drawn(course, made)},
        )


def prepared(market: Market, options: Options) -> Quotes:
    """The parts of the split: by time alone, with a gap of the horizon before each cut.

    Where the cuts lie depends on the quotes that have an outcome, whatever features there are.

    Raises:
        DataLoadError: there are too few quotes for that, or they all come to the same.
    """
    rule = options.rule(None)
    came = outcome(market, rule)
    labelled = np.flatnonzero(came.known)
    test, validation = (
        math.ceil(len(labelled) * share - ROUNDING)
        for share in (options.test_split, options.validation_split)
    )
    if len(labelled) <= test + validation:
        what = (
            f"of {len(market.times):,} quotes {len(labelled):,} have one {rule.horizon_s} s later: "
            "too few for this split"
        )
        raise DataLoadError(what, rows=len(market.times), labelled=len(labelled))
    times, gap = market.times, rule.horizon_s * SECOND
    usable = labelled[market.known[labelled]]
    first, second = (
        int(times[labelled[len(labelled) - kept]]) for kept in (test + validation, test)
    )
    at = times[usable]
    rows = {
        "training": usable[at < first - gap],
        "validation": usable[(at >= first) & (at < second - gap)],
        "test": usable[at >= second],
    }
    parts = {}
    for name, of_part in rows.items():
        if not len(of_part):
            what = f"{len(usable):,} usable quotes are too few: none is left for the {name} part"
            raise DataLoadError(what, usable=len(usable))
        parts[name] = _part(market, came, of_part)
    learnt = np.unique(parts["training"].y)
    if len(learnt) == 1:
        only = CLASSES[int(learnt[0])]
        what = f"all {len(parts['training']):,} quotes of the training part come to {only}"
        raise DataLoadError(what, label=only)
    remarks = (*market.remarks, *came.remarks)
    return Quotes(
        market=market,
        outcome=came,
        train=parts["training"],
        validation=parts["validation"],
        test=parts["test"],
        names=options.features,
        card=_card(market, options, rule, parts, len(usable), remarks),
        remarks=remarks,
        memory_bytes=market.memory_bytes,
    )


def _part(market: Market, came: Outcome, rows: NDArray[np.int64]) -> Part:
    return Part(
        x=np.ascontiguousarray(market.x[rows]),
        y=came.classes[rows].astype(np.float64),
        times=market.times[rows],
        positions=rows,
    )


def _card(
    market: Market,
    options: Options,
    rule: Rule,
    parts: dict[str, Part],
    usable: int,
    remarks: tuple[RowRemark, ...],
) -> dict[str, Any]:
    def told(part: Part) -> dict[str, Any]:
        counts = np.bincount(part.y.astype(np.int64), minlength=len(CLASSES)).tolist()
        return {**part_told(part.times), "labels": dict(zip(CLASSES, counts, strict=True))}

    return {
        "data": {"source": list(options.dataset.places), "sha256": market.sha256, "time": "time"},
        "features": list(options.features),
        "classes": list(CLASSES),
        "step": None,
        "gap_s": rule.horizon_s,
        "split": {
            "train": told(parts["training"]),
            "validation": told(parts["validation"]),
            "test": told(parts["test"]),
        },
        **part_told(market.times),
        "usable_rows": usable,
        "remarks": [one.line for one in remarks],
    }
