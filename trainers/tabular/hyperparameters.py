"""What each algorithm can be told, with the defaults of its page; light."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from trainers.contract import BadSpec, Positive
from trainers.tables.learning import Hyperparameters

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Weight = Annotated[float, msgspec.Meta(ge=0)]


class Trees(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all of them can be told."""

    ROUNDS: ClassVar[str] = "n_estimators"

    n_estimators: Positive = 100
    """rounds, each of which adds a tree"""


class Lgbm(Trees, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class Xgboost(Trees, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class RandomForest(Trees, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a random forest can be told."""

    max_depth: Positive | None = None
    """unset: no limit"""
    min_samples_split: Annotated[int, msgspec.Meta(ge=2)] = 2
    min_samples_leaf: Positive = 1
    max_features: Literal["sqrt", "log2"] | float | int | None = "sqrt"
    """that a split draws: a share, or so many; None: all"""
    bootstrap: bool = True
    """each tree learns from rows that are drawn"""

    def refuse_bad(self) -> None:
        """Refuse what no type can.

        Raises:
            BadSpec: a value can never be.
        """
        super().refuse_bad()
        drawn = self.max_features
        if isinstance(drawn, float):
            fine = 0 < drawn <= 1
        else:
            fine = not isinstance(drawn, int) or drawn >= 1
        if not fine:
            why = "max_features must be sqrt, log2, a share up to 1.0, or a number of features"
            raise BadSpec(why)


class IsolationForest(Trees, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an isolation forest can be told."""

    max_samples: Literal["auto"] | Share | Positive = "auto"
    """rows that each tree looks at: a share, or so many; auto: 256"""
    max_features: Share = 1.0
    """share of the features that each tree looks at"""
    bootstrap: bool = False
