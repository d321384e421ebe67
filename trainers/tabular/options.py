"""What can be set in the trainer of tables; light, as nothing that learns is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from trainers.contract import Spec
from trainers.tables import ConfigValidationError, learning
from trainers.tables.learning import Algorithm
from trainers.tabular.hyperparameters import IsolationForest, Lgbm, RandomForest, Xgboost

FORESTS = "trainers.tabular.forests"


class Options(learning.Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from a table, and how."""

    UNIT: ClassVar[str] = "rounds"
    """each adds a tree, and `n_estimators` of them are the whole model"""
    ALGORITHMS: ClassVar[Mapping[str, Algorithm]] = {
        "lgbm": Algorithm(
            Lgbm,
            "trainers.tabular.lgbm:Lgbm",
            ("lightgbm", "numpy"),
            1.3,
            stops_early=True,
            learns_quantiles=True,
        ),
        "xgboost": Algorithm(
            Xgboost,
            "trainers.tabular.xgb:Xgboost",
            ("xgboost-cpu", "numpy"),
            2.0,
            stops_early=True,
            learns_quantiles=True,
        ),
        "rf": Algorithm(RandomForest, f"{FORESTS}:Forest", ("scikit-learn", "numpy"), 1.0),
        "isolation_forest": Algorithm(
            IsolationForest, f"{FORESTS}:Isolation", ("scikit-learn", "numpy"), 1.0
        ),
    }

    algorithm: Literal["lgbm", "xgboost", "rf", "isolation_forest"] = "lgbm"
    """LightGBM, XGBoost or a random forest: of anomalies they tell by how much a row differs from
    its forecast; isolation_forest tells how few splits isolate it, and needs no target"""

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts the target, be it to compare."""
        return self.algorithm != "isolation_forest"

    def refuse_bad(self, spec: Spec) -> None:
        """Refuse what can never work, whatever is in the table.

        Raises:
            BadSpec: it cannot.
        """
        super().refuse_bad(spec)
        if self.forecasts:
            if self.target is None:
                why = "Must name the column whose forecast is compared; isolation_forest needs none"
                raise ConfigValidationError("target", why)
            return
        if self.model_type != "anomaly":
            why = "isolation_forest is for the model_type anomaly"
            raise ConfigValidationError("algorithm", why)
        if self.backtest is not None:
            raise ConfigValidationError(
                "backtest", "isolation_forest forecasts nothing to test back"
            )
