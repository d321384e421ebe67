"""What is asked of a table: which rows and columns, what is forecast, what is held out."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from trainers.contract import Positive
from trainers.tables.errors import ConfigValidationError

SOURCES = {"forecast": "features.load_forecasting", "anomaly": "features.anomaly_detection"}
"""tables that are meant where `data` says nothing"""
FUNCTION = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*:[A-Za-z_][A-Za-z0-9_]*")
"""how a function of a module is named"""
LAG = re.compile(r"(?P<column>.+)_lag_(?P<count>[0-9]{1,9})(?P<hours>h?)")
"""how a lag is named"""


class TrainingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is trained on, and how much at once."""

    batch_size: Positive | None = None
    """rows in one step of a network"""
    use_sample: float = 1.0
    """share of the rows of the training part that are used, chosen by a hash of their time"""


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to features; whatever it has to know is learnt from the training part alone."""

    missing: Literal["error", "drop", "ffill", "median"] = "error"
    """of missing values and rows: refused; their rows left out; the last known value; the median
    of the feature. A missing target is never made up: such rows are left out"""
    scale: Literal["none", "standard", "robust"] = "none"
    """by mean and standard deviation, or by median and quartiles"""
    categories: Literal["native", "ordinal"] = "native"
    """text as categories that the algorithm knows as such, or as numbers in alphabetical order"""
    max_categories: Positive = 50
    """of one column: the most frequent ones; all others are one more"""


class Backtest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rolling-origin folds: each trains on all that was before it, and forecasts what follows."""

    folds: Positive = 5
    step: Positive | None = None
    """rows that each fold forecasts; unset: the rows by the number of folds and one more"""
    gap: int | None = None
    """steps between the two; unset: as for the split"""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every trainer of tables is told; a trainer's `Options` are these and its own."""

    model_type: Literal["forecast", "anomaly"] = "forecast"
    data: str | None = None
    """a Parquet or CSV file, or a folder of such files: a path within the home, or a whole one; or
    the URL of a database; unset: `features.load_forecasting`, or `features.anomaly_detection`"""
    table: str | None = None
    """of a database: its table, perhaps with its schema; unset: named as `data` would be"""
    only: dict[str, str] = {}
    """of a database: columns of text, and what is in them, to the letter, in the rows that count;
    such a column is no feature. PostgreSQL and SQLite can"""
    time: str | None = None
    """the column with the time of each row; unset: the only one that holds times"""
    zone: str = "UTC"
    """in which the calendar is read, such as `Europe/Berlin`; a time without a zone is UTC"""
    training_start: str | None = None
    """ISO 8601, the first time that counts; without a zone it is UTC; unset: the table's first"""
    training_end: str | None = None
    """ISO 8601, the last time that counts"""
    features: tuple[str, ...] = ()
    """columns, and what is built where no column has that name: hour_of_day, day_of_week,
    day_of_month, month, is_weekend; COLUMN_lag_N (or Nh: hours); historical_avg_24h and _std,
    _min, _max of the target, COLUMN_rolling_mean_N (Nh), _std, _min, _max"""
    target: str | None = None
    """the column that is forecast; anomalies may be looked for without one"""
    labels: str | None = None
    """the column that says which rows are anomalies: used to judge, never to train"""
    validation_split: float = 0.2
    """share of the rows, the last ones before the test part"""
    test_split: float = 0.0
    """share of the rows, the last ones"""
    random_seed: int = 42
    horizon: int = 1
    """steps ahead: what is younger than that before a row's time is unknown when it is forecast"""
    gap: int | None = None
    """steps left out before each part that is held out; unset: the horizon, and never less"""
    backtest: Backtest | None = None
    training_options: TrainingOptions = TrainingOptions()
    preprocess: str | None = None
    """`module:function`, of a module in `trainers_dir`: it gets the columns of the table before
    anything is made of them, and returns them with others; see `trainers.tables.own`"""
    preprocessing: Preprocessing = Preprocessing()
    allow_leakage: tuple[str, ...] = ()
    """features, and with `preprocess` columns, that are used although they tell what a forecast
    cannot know"""

    @property
    def gap_steps(self) -> int:
        """The gap, set or not."""
        return self.horizon if self.gap is None else self.gap

    @property
    def source(self) -> str:
        """The name of the table that is meant where no other is given."""
        return SOURCES.get(self.model_type, SOURCES["forecast"])


def check(config: Config) -> None:
    """Refuse what can never work, whatever is in the table; nothing is read or imported.

    Raises:
        ConfigValidationError: the first field that cannot be.
    """
    _check_columns(config)
    _check_split(config)
    start, end = bounds(config)
    if start is not None and end is not None and start >= end:
        raise ConfigValidationError("training_start", "Must be before training_end")
    try:
        ZoneInfo(config.zone)
    except (OSError, ValueError, KeyError):
        raise ConfigValidationError("zone", f"There is no time zone {config.zone!r}") from None


def refuse_young_lags(config: Config) -> None:
    """Refuse lags that tell by their name alone that they are younger than the horizon.

    Those of hours tell it only beside the rows; see `trainers.tables.leakage`.

    Raises:
        ConfigValidationError: the features that are, all of them.
    """
    lines = [
        young_lag(name, lag[1], config.horizon)
        for name in config.features
        if (lag := named_lag(name)) and not lag[2] and name not in config.allow_leakage
        if lag[1] < oldest_unknown(config, lag[0])
    ]
    if lines:
        raise ConfigValidationError("features", leakage("; ".join(lines)))


def named_lag(name: str) -> tuple[str, int, bool] | None:
    """Column, count and whether it counts hours, of what is called a lag, wherever it is from."""
    match = LAG.fullmatch(name)
    return (match["column"], int(match["count"]), bool(match["hours"])) if match else None


def oldest_unknown(config: Config, column: str) -> int:
    """How many steps old a value of a column must be at least, to be known when one forecasts."""
    return max(config.horizon, 1 if column == config.target else 0)


def young_lag(name: str, steps: int, horizon: int) -> str:
    """What is wrong with a lag of so many steps."""
    ahead = f"a forecast {horizon} steps ahead knows nothing that young"
    return f"{name} is {steps} steps old, and {ahead}"


def leakage(lines: str) -> str:
    """What is told of features that tell too much."""
    return f"Leakage: {lines}; allow_leakage takes the names of those that are meant"


def bounds(config: Config) -> tuple[datetime | None, datetime | None]:
    """The first and the last time that count, in UTC; None: as far as the table goes.

    Raises:
        ConfigValidationError: one of them is no time.
    """
    return (
        _moment("training_start", config.training_start),
        _moment("training_end", config.training_end),
    )


def _moment(field: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        what = f"Must be a time in ISO 8601, such as 2024-01-01T00:00:00, and is {text[:40]!r}"
        raise ConfigValidationError(field, what) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _check_columns(config: Config) -> None:
    if not config.features:
        raise ConfigValidationError("features", "Must name at least one")
    twice = next((name for name in config.features if config.features.count(name) > 1), None)
    if twice is not None:
        raise ConfigValidationError("features", f"{twice} stands there twice")
    if config.target is None and config.model_type == "forecast":
        raise ConfigValidationError("target", "Must name the column that is forecast")
    if config.preprocess is not None and not FUNCTION.fullmatch(config.preprocess):
        what = f"Must be module:function, such as features:add, and is {config.preprocess[:40]!r}"
        raise ConfigValidationError("preprocess", what)
    for name in config.allow_leakage:
        # What a function makes is known once it was called.
        if name not in config.features and config.preprocess is None:
            raise ConfigValidationError("allow_leakage", f"{name} is none of the features")


def _check_split(config: Config) -> None:
    options, backtest = config.training_options, config.backtest
    for field, share in (
        ("validation_split", config.validation_split),
        ("test_split", config.test_split),
    ):
        if not math.isfinite(share) or not 0 <= share < 1:
            raise ConfigValidationError(field, "Must be between 0.0 and 1.0")
    if not 0 < config.validation_split + config.test_split < 1:
        what = "With test_split it must hold out some rows, and leave some to train on"
        raise ConfigValidationError("validation_split", what)
    if not 0 < options.use_sample <= 1:  # NaN, too
        field = "training_options.use_sample"
        raise ConfigValidationError(field, "Must be more than 0.0, and at most 1.0")
    least = 1 if config.model_type == "forecast" else 0
    if config.horizon < least:
        raise ConfigValidationError("horizon", f"Must be at least {least}")
    apart = None if backtest is None else backtest.gap
    for field, gap in (("gap", config.gap), ("backtest.gap", apart)):
        if gap is not None and gap < config.horizon:
            what = f"Must be at least the horizon, {config.horizon}"
            raise ConfigValidationError(field, what)
