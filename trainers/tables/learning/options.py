"""What can be set in every trainer that learns a model of a table; light."""

from __future__ import annotations

import importlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from trainers.contract import BadSpec, Positive, Spec
from trainers.options import converted
from trainers.tables import Backtest, Config, ConfigValidationError, check
from trainers.tables.config import refuse_young_lags

if TYPE_CHECKING:
    from trainers.tables.learning.growing import Model

QUANTILES_MAX = 99
"""each is one more model, which every checkpoint holds from then on: one for each per cent"""
WHERE = "hyperparameters"
"""where they stand in the options"""


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an algorithm can be told; each name is that of its library."""

    ROUNDS: ClassVar[str]
    """the one that says how many rounds there are"""

    @property
    def rounds(self) -> int:
        """How many rounds the whole model has."""
        return int(getattr(self, self.ROUNDS))

    @property
    def length(self) -> int:
        """How many steps a row is looked at with, itself the last."""
        return 1

    @property
    def others(self) -> dict[str, Any]:
        """All that a round depends on."""
        told = msgspec.structs.asdict(self)
        del told[self.ROUNDS]
        return told

    def refuse_bad(self) -> None:
        """Refuse what no type can.

        Raises:
            BadSpec: a value can never be.
        """
        for name, value in msgspec.structs.asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BadSpec(f"{name} must be a finite number")


class Algorithm(NamedTuple):
    """What learns, and what is known of it before its library is imported."""

    hyperparameters: type[Hyperparameters]
    place: str
    """of its model: the module, a colon, and the class"""
    libraries: tuple[str, ...]
    """that its last bits depend on"""
    memory_factor: float
    """how many times the matrix of features it takes beside it"""
    stops_early: bool = False
    """whether a round depends on those before it, so that there can be too many"""
    bound_to_threads: bool = False
    """whether its last bits depend on how many threads there are"""
    cuts: bool = True
    """whether its first rounds are a model, too"""
    learns_quantiles: bool = False
    """whether it can learn a quantile instead of the mean"""

    @property
    def model(self) -> type[Model]:
        """The kind of model that it grows; this imports its library."""
        module, _, name = self.place.partition(":")
        kind: type[Model] = getattr(importlib.import_module(module), name)
        return kind


class RayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers a distributed training would have."""

    num_workers: Positive = 4
    cpus_per_worker: Positive = 2
    memory_per_worker: str = "4GB"
    use_gpu: bool = False


class Learnable:
    """What a learner asks of a trainer's options, in whatever words these have for it."""

    __slots__ = ()

    UNIT: ClassVar[str]
    """of the rounds"""
    random_seed: int
    early_stopping_rounds: int | None

    @property
    @abstractmethod
    def model_type(self) -> str:
        """What kind of model it is."""

    @property
    @abstractmethod
    def algorithm(self) -> str:
        """By what it is learnt."""

    @property
    @abstractmethod
    def learns(self) -> Algorithm:
        """The algorithm."""

    @property
    @abstractmethod
    def told(self) -> Hyperparameters:
        """The hyper-parameters, with what is unset."""

    @property
    def backtest(self) -> Backtest | None:
        """The folds that are asked for."""
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows in one step of a network; None: as it finds best."""
        return None

    def on(self, spec: Spec) -> str:  # noqa: ARG002 - of networks alone
        """Where it is learnt, as torch calls it."""
        return "cpu"

    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """Plain values of all that is asked for beside the hyper-parameters."""

    @property
    def patience(self) -> int | None:
        """Rounds without a better one after which it is over; None: it never is."""
        return self.early_stopping_rounds if self.learns.stops_early else None

    def seed(self, spec: Spec) -> int:
        """By which all is drawn: the run's own seed counts from `random_seed` on."""
        return (self.random_seed + spec.seed - 1) % 2**31

    def rounds(self, spec: Spec) -> int:
        """How many rounds the model has at the end: a target stands before the hyper-parameter."""
        return spec.up_to(self.UNIT) or spec.up_to("steps") or self.told.rounds


class Options(Config, Learnable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from a table, and how; a trainer's `Options` name its algorithms."""

    ALGORITHMS: ClassVar[Mapping[str, Algorithm]]

    algorithm: str
    hyperparameters: dict[str, Any] = msgspec.field(default_factory=dict)
    """what the algorithm is told, in the words of its library; unknown names are refused"""
    early_stopping_rounds: Positive | None = None
    """rounds without a better RMSE on the validation part after which it is over, and the best
    round is used; unset: all rounds are. A forest never stops early"""
    quantiles: tuple[float, ...] = ()
    """that are forecast beside the mean, such as 0.1, 0.5 and 0.9: each is one more model"""
    distributed: bool = False
    """on several machines at once: not here"""
    ray_config: RayConfig | None = None
    """what the workers of that would be"""

    @property
    @abstractmethod
    def forecasts(self) -> bool:
        """Whether the model forecasts the target, be it to compare."""

    @property
    def learns(self) -> Algorithm:
        """The algorithm."""
        return self.ALGORITHMS[self.algorithm]

    @property
    def told(self) -> Hyperparameters:
        """The hyper-parameters, with what is unset.

        Raises:
            ConfigValidationError: one has a name or a value that cannot be.
        """
        try:
            told = converted(self.hyperparameters, self.learns.hyperparameters, WHERE)
            told.refuse_bad()
        except BadSpec as error:
            why = str(error).removeprefix(f"{WHERE}: ")
            raise ConfigValidationError(WHERE, why) from error
        return told

    @property
    def batch_size(self) -> int | None:
        """Rows in one step of a network; None: as it finds best."""
        return self.training_options.batch_size

    def asked(self) -> dict[str, Any]:
        """Plain values of all that is asked for."""
        return plain(self)

    def refuse_bad(self, spec: Spec) -> None:
        """Refuse what can never work, whatever is in the table.

        Raises:
            BadSpec: it cannot.
        """
        if not self.validation_split:
            why = "Must be more than 0.0: it tells after each round how good the model is"
            raise ConfigValidationError("validation_split", why)
        check(self)
        refuse_young_lags(self)
        _ = self.told
        self._refuse_bad_quantiles()
        if self.distributed:
            why = "Must be false: a run trains on one machine"
            raise ConfigValidationError("distributed", why)
        if spec.target is not None and spec.target.unit not in (self.UNIT, "steps"):
            raise BadSpec(f"a target in {spec.target.unit}: this trainer counts {self.UNIT}")

    def _refuse_bad_quantiles(self) -> None:
        if not self.quantiles:
            return
        if not self.learns.learns_quantiles:
            those = [name for name, one in self.ALGORITHMS.items() if one.learns_quantiles]
            what = "a mean" if self.forecasts else "nothing"
            instead = f": {' and '.join(those)} forecast quantiles, too" if those else ""
            raise ConfigValidationError("quantiles", f"{self.algorithm} forecasts {what}{instead}")
        if len(self.quantiles) > QUANTILES_MAX:
            what = f"Must be {QUANTILES_MAX} at most, and are {len(self.quantiles):,}"
            raise ConfigValidationError("quantiles", what)
        if not all(0 < quantile < 1 for quantile in self.quantiles):  # NaN, too
            raise ConfigValidationError("quantiles", "Must all be between 0.0 and 1.0")
        names = [quantile_name(quantile) for quantile in self.quantiles]
        if list(self.quantiles) != sorted(self.quantiles) or len(set(names)) < len(names):
            raise ConfigValidationError("quantiles", "Must stand in their order, each once")


def quantile_name(quantile: float) -> str:
    """What a quantile is called where it is a column or a file: q10, q97.5."""
    return f"q{100 * quantile:.10g}"


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """A value as it is read again from a file: lists, and no tuples."""
    return msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])
