"""How good anomalies were found, where somebody has said which there are.

Higher scores are stranger rows. Nothing is point-adjusted: one hit within a long anomaly does not
count as if all of it had been found, which would flatter even chance (Kim et al., 2022).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a threshold finds; without labels nobody knows how much of it is right."""

    threshold: float
    flagged: float
    """share of the rows whose score reaches the threshold"""
    base_rate: float | None = None
    """share of the rows that are anomalies"""
    pr_auc: float | None = None
    """average precision over all thresholds; chance has the base rate"""
    lift: float | None = None
    """pr_auc by the base rate; chance has 1"""
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    """row by row"""
    range_precision: float | None = None
    range_recall: float | None = None
    """range by range: how much of each is covered, less where that comes in pieces (Tatbul et al.,
    2018, with flat bias and nothing for mere existence)"""


def threshold(scores: Floats, labels: Floats | None, *, share: float = 0.01) -> float:
    """From which score on a row is an anomaly, by rows of the validation part alone.

    With labels it is that of the highest F1; without, or where none is an anomaly, so high that
    the given share of the rows reaches it.
    """
    if labels is not None:
        scored, labels = _known(scores, labels)
        if labels.any():
            levels, hits, flagged = _curve(scored, labels)
            f1 = 2 * hits / (flagged + labels.sum())
            return float(levels[np.argmax(f1)])
    return float(np.quantile(scores, 1 - share, method="higher"))


def judge(scores: Floats, labels: Floats | None, positions: Positions, limit: float) -> Found:
    """What a threshold finds in rows that it was not made from.

    Args:
        scores: (rows,)
        labels: (rows,), 1 for an anomaly, NaN where nobody has said; None: nobody has at all.
        positions: (rows,), of which those that follow each other are neighbours.
        limit: the threshold.
    """
    found = Found(threshold=limit, flagged=float((scores >= limit).mean()))
    if labels is None:
        return found
    there = ~np.isnan(labels)
    scores, labels, positions = scores[there], labels[there], positions[there]
    if not labels.any():
        return found
    flags, true = scores >= limit, labels > 0
    hits = int((flags & true).sum())
    base = float(true.mean())
    average = pr_auc(scores, labels)
    wanted, got = _ranges(true, positions), _ranges(flags, positions)
    return Found(
        threshold=limit,
        flagged=found.flagged,
        base_rate=base,
        pr_auc=average,
        lift=average / base,
        precision=hits / int(flags.sum()) if flags.any() else None,
        recall=hits / int(true.sum()),
        f1=2 * hits / int(flags.sum() + true.sum()),
        range_precision=_covered(got, wanted),
        range_recall=_covered(wanted, got),
    )


def pr_auc(scores: Floats, labels: Floats) -> float:
    """Average precision: the mean over all anomalies of the precision at the score of each."""
    levels, hits, flagged = _curve(scores, labels)
    gained = np.diff(hits, prepend=0) / labels.sum()
    return float((gained * hits / flagged).sum()) if len(levels) else 0.0


def _known(scores: Floats, labels: Floats) -> tuple[Floats, Floats]:
    there = ~np.isnan(labels)
    return scores[there], labels[there]


def _curve(scores: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
    """Each level of the scores from the highest, and what reaches it: anomalies, and all rows."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # of rows of one score
    return ordered[last], np.cumsum(labels[order])[last], (last + 1).astype(np.float64)


def _ranges(flags: NDArray[np.bool_], positions: Positions) -> list[tuple[int, int]]:
    """Rows in a row that are flagged: the first and the one after the last of each."""
    at = np.flatnonzero(flags)
    if not len(at):
        return []
    apart = (np.diff(at) > 1) | (np.diff(positions[at]) > 1)
    begins = np.append(at[0], at[1:][apart])
    ends = np.append(at[:-1][apart], at[-1]) + 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _covered(ranges: list[tuple[int, int]], by: list[tuple[int, int]]) -> float | None:
    """How much of each range others cover, in the mean; None: there is none."""
    if not ranges:
        return None
    begins, ends = np.array(by, dtype=np.int64).reshape(-1, 2).T
    total = 0.0
    for begin, end in ranges:
        common = np.minimum(ends, end) - np.maximum(begins, begin)
        pieces = common[common > 0]
        if len(pieces):
            total += float(pieces.sum()) / (end - begin) / len(pieces)
    return total / len(ranges)
