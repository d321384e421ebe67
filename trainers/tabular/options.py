"""What can be set in the trainer of tables; light, as nothing that learns is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trainers.contract import BadSpec, Positive, Spec
from trainers.tables import Config, ConfigValidationError, check
from trainers.tabular.hyperparameters import WHERE, Hyperparameters, hyperparameters_of

ROUNDS = "rounds"
"""what a run counts: each adds a tree, and `n_estimators` of them are the whole model"""


class RayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers a distributed training would have."""

    num_workers: Positive = 4
    cpus_per_worker: Positive = 2
    memory_per_worker: str = "4GB"
    use_gpu: bool = False


class Options(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from a table, and how."""

    algorithm: Literal["lgbm", "xgboost", "rf", "isolation_forest"] = "lgbm"
    """LightGBM, XGBoost or a random forest: of anomalies they tell by how much a row differs from
    its forecast; isolation_forest tells how few splits isolate it, and needs no target"""
    hyperparameters: dict[str, Any] = msgspec.field(default_factory=dict)
    """what the algorithm is told, in the words of its library; unknown names are refused"""
    early_stopping_rounds: Positive | None = None
    """rounds without a better RMSE on the validation part after which it is over, and the best
    round is used; unset: all rounds are. A forest never stops early"""
    distributed: bool = False
    """on several machines at once: not here"""
    ray_config: RayConfig | None = None
    """what the workers of that would be"""

    @property
    def told(self) -> Hyperparameters:
        """The hyper-parameters, with what is unset.

        Raises:
            ConfigValidationError: one has a name or a value that cannot be.
        """
        try:
            return hyperparameters_of(self.algorithm, self.hyperparameters)
        except BadSpec as error:
            why = str(error).removeprefix(f"{WHERE}: ")
            raise ConfigValidationError(WHERE, why) from error

    @property
    def patience(self) -> int | None:
        """Rounds without a better one after which it is over; None: it never is."""
        return self.early_stopping_rounds if self.algorithm in ("lgbm", "xgboost") else None

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts, be it to compare."""
        return self.algorithm != "isolation_forest"

    def seed(self, spec: Spec) -> int:
        """By which all is drawn: the run's own seed counts from `random_seed` on."""
        return (self.random_seed + spec.seed - 1) % 2**31

    def rounds(self, spec: Spec) -> int:
        """How many rounds the model has at the end: a target stands before `n_estimators`."""
        return spec.up_to(ROUNDS) or spec.up_to("steps") or self.told.n_estimators


def refuse_bad(options: Options, spec: Spec) -> None:
    """Refuse what can never work, whatever is in the table.

    Raises:
        BadSpec: it cannot.
    """
    check(options)
    _ = options.told
    _check_model(options)
    if not options.validation_split:
        why = "Must be more than 0.0: it tells after each round how good the model is"
        raise ConfigValidationError("validation_split", why)
    if options.distributed:
        why = "Must be false: a run trains on one machine"
        raise ConfigValidationError("distributed", why)
    if spec.target is not None and spec.target.unit not in (ROUNDS, "steps"):
        raise BadSpec(f"a target in {spec.target.unit}: this trainer counts {ROUNDS}")


def _check_model(options: Options) -> None:
    if options.forecasts:
        if options.target is None:
            why = "Must name the column whose forecast is compared; isolation_forest needs none"
            raise ConfigValidationError("target", why)
        return
    if options.model_type != "anomaly":
        raise ConfigValidationError("algorithm", "isolation_forest is for the model_type anomaly")
    if options.backtest is not None:
        raise ConfigValidationError("backtest", "isolation_forest forecasts nothing to test back")
