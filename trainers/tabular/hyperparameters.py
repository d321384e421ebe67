"""What each algorithm can be told, with the defaults of its page; light."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec

from trainers.contract import BadSpec, Positive
from trainers.options import converted

WHERE = "hyperparameters"
"""where they stand in the options"""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Weight = Annotated[float, msgspec.Meta(ge=0)]


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an algorithm can be told; each name is that of its library."""

    n_estimators: Positive = 100
    """rounds, each of which adds a tree"""


class Lgbm(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What LightGBM can be told."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    max_depth: Annotated[int, msgspec.Meta(ge=-1)] = 7
    """-1: no limit"""
    num_leaves: Annotated[int, msgspec.Meta(ge=2, le=131_072)] = 31
    min_data_in_leaf: Natural = 20
    feature_fraction: Share = 0.8
    bagging_fraction: Share = 0.8
    bagging_freq: Natural = 5
    """rounds between two draws of rows; 0: none is left out"""
    lambda_l1: Weight = 0.0
    lambda_l2: Weight = 0.0


class Xgboost(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What XGBoost can be told."""

    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    max_depth: Natural = 7
    """0: no limit"""
    min_child_weight: Weight = 1.0
    gamma: Weight = 0.0
    subsample: Share = 0.8
    colsample_bytree: Share = 0.8
    reg_alpha: Weight = 0.0
    """L1"""
    reg_lambda: Weight = 1.0
    """L2"""


class RandomForest(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a random forest can be told."""

    max_depth: Positive | None = None
    """unset: no limit"""
    min_samples_split: Annotated[int, msgspec.Meta(ge=2)] = 2
    min_samples_leaf: Positive = 1
    max_features: Literal["sqrt", "log2"] | float | int | None = "sqrt"
    """that a split draws: a share, or so many; None: all"""
    bootstrap: bool = True
    """each tree learns from rows that are drawn"""


class IsolationForest(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an isolation forest can be told."""

    max_samples: Literal["auto"] | Share | Positive = "auto"
    """rows that each tree looks at: a share, or so many; auto: 256"""
    max_features: Share = 1.0
    """share of the features that each tree looks at"""
    bootstrap: bool = False


ALGORITHMS: dict[str, type[Hyperparameters]] = {
    "lgbm": Lgbm,
    "xgboost": Xgboost,
    "rf": RandomForest,
    "isolation_forest": IsolationForest,
}


def hyperparameters_of(algorithm: str, values: dict[str, Any]) -> Hyperparameters:
    """What an algorithm is told, with what is unset.

    Raises:
        BadSpec: one has a name or a value that cannot be.
    """
    told = converted(values, ALGORITHMS[algorithm], WHERE)
    for name, value in msgspec.structs.asdict(told).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadSpec(f"{WHERE}: {name} must be a finite number")
    if isinstance(told, RandomForest) and not _is_draw(told.max_features):
        why = "max_features must be sqrt, log2, a share up to 1.0, or a number of features"
        raise BadSpec(f"{WHERE}: {why}")
    return told


def _is_draw(features: str | float | None) -> bool:
    if isinstance(features, float):
        return 0 < features <= 1
    return not isinstance(features, int) or features >= 1
