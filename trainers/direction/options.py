"""What can be set in the trainer of directions, in the words of a job's spec; light."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from trainers.contract import Name, Positive
from trainers.tables import ConfigValidationError
from trainers.tables.learning import Algorithm, Hyperparameters, Learnable

V1 = ("mid_price", "spread", "return_1", "volatility_10")
"""the features of version 1"""
MEMORY_FACTOR = 2.0
"""how many times the matrix of features XGBoost takes beside it"""
DATE = "%Y%m%d"
FILE = "data.parquet"

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class DateRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which days of quotes."""

    date: str | None = None
    """the last day, in UTC, such as 20251228"""
    windowSize: Positive = 1  # noqa: N815 - as a job's spec has it
    """days, with the last one"""


class Dataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which quotes, and what is asked of them."""

    symbol: Name | None = None
    exchange: Name = "binance"
    stream: Name = "bbo"
    dateRange: DateRange = DateRange()  # noqa: N815 - as a job's spec has it
    featuresetVersion: Literal["v1"] = "v1"  # noqa: N815
    labelHorizonSec: Positive = 10  # noqa: N815
    """seconds after a quote at which its direction is told"""
    featurePath: str | None = None  # noqa: N815
    """a Parquet or CSV file of features or of quotes, or a folder of them: a path within the home,
    or a whole one; unset: where the features of symbol and days lie within the home"""
    metaPath: str | None = None  # noqa: N815
    """what is said of the features; nothing is read from it"""

    @property
    def places(self) -> tuple[str, ...]:
        """Where the features lie."""
        if self.featurePath is not None:
            return (self.featurePath,)
        last = day_of(self.dateRange.date or "")
        first = last - timedelta(days=self.dateRange.windowSize - 1)
        days = [first + timedelta(days=number) for number in range(self.dateRange.windowSize)]
        symbol = self.symbol or ""
        folder = Path("features", f"featureset={self.featuresetVersion}")
        return tuple(
            str(folder / place(symbol, one, exchange=self.exchange, stream=self.stream) / FILE)
            for one in days
        )


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What XGBoost is told."""

    nround: Positive = 100
    """rounds, each of which adds a tree for each class"""
    maxDepth: Annotated[int, msgspec.Meta(ge=0)] = 6  # noqa: N815 - as a job's spec has it
    """0: no limit"""
    eta: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    objective: Literal["multi:softmax", "multi:softprob"] = "multi:softmax"
    """both grow the same trees; the file says multi:softprob, for thresholds need probabilities"""
    numClass: Literal[3] = 3  # noqa: N815
    """down, flat and up"""


class FeatureParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a quote."""

    features: tuple[str, ...] = V1
    """columns of the table, or what version 1 makes of quotes"""


class ModelAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is grown."""

    type: Literal["xgboost"] = "xgboost"
    params: Params = Params()
    featureParams: FeatureParams = FeatureParams()  # noqa: N815 - as a job's spec has it


class Boosting(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a round depends on."""

    ROUNDS: ClassVar[str] = "nround"

    nround: int
    maxDepth: int  # noqa: N815 - as a job's spec has it
    eta: float

    @property
    def others(self) -> dict[str, Any]:
        """What the library is given, in its own words."""
        return {"max_depth": self.maxDepth, "eta": self.eta}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What makes directions of a model's probabilities, and tells what they were worth.

    It lies in the model's own file, so that any model can be scored again by itself.
    """

    features: tuple[str, ...]
    horizon_s: int
    flat_bps: float | None
    cost_bps: float | None
    threshold: float | None = None
    """the probability from which on up or down is said; None: the most probable is"""


class Options(Learnable, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from quotes, and how."""

    UNIT: ClassVar[str] = "rounds"
    LEARNS: ClassVar[Algorithm] = Algorithm(
        Boosting,
        "trainers.direction.boosting:Direction",
        ("xgboost-cpu", "numpy"),
        MEMORY_FACTOR,
        stops_early=True,
    )

    dataset: Dataset = Dataset()
    """which quotes, and what is asked of them, as a job's spec has it"""
    model: ModelAsked = ModelAsked()
    """what is grown, and of what, as a job's spec has it"""
    flat_bps: float | None = None
    """how far the mid price may move, in basis points, and be called flat; unset: half the spread
    of the quote"""
    cost_bps: float | None = None
    """what a trade costs, there and back, in basis points; unset: the spread of the quote"""
    validation_split: Share = 0.2
    """share of the quotes, the last ones before the test part: the threshold is chosen by it"""
    test_split: Share = 0.2
    """share of the quotes, the last ones: all metrics are of it"""
    random_seed: int = 42
    """from which the seed of the run counts on; these rounds draw nothing"""
    early_stopping_rounds: Positive | None = None
    """rounds without a better log loss on the validation part after which it is over, and the best
    round is used; unset: all rounds are"""

    @property
    def model_type(self) -> str:
        """What the card calls it."""
        return "direction"

    @property
    def algorithm(self) -> str:
        """What grows."""
        return self.model.type

    @property
    def learns(self) -> Algorithm:
        """The algorithm."""
        return self.LEARNS

    @property
    def told(self) -> Boosting:
        """What a round depends on."""
        params = self.model.params
        return Boosting(nround=params.nround, maxDepth=params.maxDepth, eta=params.eta)

    @property
    def features(self) -> tuple[str, ...]:
        """What is known of a quote."""
        return self.model.featureParams.features

    def rule(self, threshold: float | None) -> Rule:
        """What makes directions of probabilities, once the threshold is known."""
        return Rule(
            features=self.features,
            horizon_s=self.dataset.labelHorizonSec,
            flat_bps=self.flat_bps,
            cost_bps=self.cost_bps,
            threshold=threshold,
        )

    def asked(self) -> dict[str, Any]:
        """All that a round depends on, but the rows and the hyper-parameters."""
        return {
            "features": list(self.features),
            "featuresetVersion": self.dataset.featuresetVersion,
            "flat_bps": self.flat_bps,
            "labelHorizonSec": self.dataset.labelHorizonSec,
            "test_split": self.test_split,
            "type": self.model.type,
            "validation_split": self.validation_split,
        }

    def refuse_bad(self) -> None:
        """Refuse what can never work, whatever the quotes are.

        Raises:
            BadSpec: it cannot.
        """
        self.told.refuse_bad()
        if self.validation_split + self.test_split >= 1:
            why = "With test_split it must leave some quotes to train on"
            raise ConfigValidationError("validation_split", why)
        for name, points in (("flat_bps", self.flat_bps), ("cost_bps", self.cost_bps)):
            if points is not None and not (math.isfinite(points) and points >= 0):
                raise ConfigValidationError(name, "Must be 0.0 or more basis points")
        self._refuse_bad_features()
        self._refuse_bad_place()

    def _refuse_bad_features(self) -> None:
        field = "model.featureParams.features"
        if not self.features:
            raise ConfigValidationError(field, "Must name at least one")
        for name in self.features:
            if name == "time" or self.features.count(name) > 1:
                why = "is no feature" if name == "time" else "stands there twice"
                raise ConfigValidationError(field, f"{name} {why}")

    def _refuse_bad_place(self) -> None:
        dataset = self.dataset
        if dataset.dateRange.date is not None:
            day_of(dataset.dateRange.date)
        if dataset.featurePath is None:
            for field, said in (
                ("dataset.symbol", dataset.symbol),
                ("dataset.dateRange.date", dataset.dateRange.date),
            ):
                if said is None:
                    raise ConfigValidationError(field, "Must be said where featurePath is not")
        elif "://" in dataset.featurePath:
            why = "Must be a path on this machine, and is a URL"
            raise ConfigValidationError("dataset.featurePath", why)


def day_of(text: str) -> date:
    """The day that is meant by eight digits.

    Raises:
        ConfigValidationError: it is none.
    """
    try:
        if len(text) == len("20251228"):
            return datetime.strptime(text, DATE).date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        pass
    why = f"Must be a day such as 20251228, and is {text[:40]!r}"
    raise ConfigValidationError("dataset.dateRange.date", why)


def place(symbol: str, day: date, *, exchange: str = "binance", stream: str = "bbo") -> Path:
    """Where a day of a symbol lies, below quotes or below the features of a version."""
    parts = {"exchange": exchange, "stream": stream, "symbol": symbol, "date": day.strftime(DATE)}
    return Path(*(f"{name}={value}" for name, value in parts.items()))
