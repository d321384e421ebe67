"""What all trainers of tables have in common: rows read, checked, split in time, and judged.

`prepare` reads and refuses, and what it returns holds the parts of the split. Beside it,
`trainers.tables.scores` judges forecasts against what costs nothing, and
`trainers.tables.anomalies` judges what was found among rows with labels. This package is no
trainer. It is light: NumPy, Arrow and SQLAlchemy are imported when a table is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainers import packages
from trainers.tables.config import Backtest, Config, Preprocessing, TrainingOptions, check
from trainers.tables.errors import (
    ConfigValidationError,
    DataLoadError,
    ResourceError,
    SourceAway,
    TableError,
)

if TYPE_CHECKING:
    from trainers.tables.prepared import Part, Prepared
    from trainers.tables.preprocessing import Fitted

__all__ = [
    "Backtest",
    "Config",
    "ConfigValidationError",
    "DataLoadError",
    "Preprocessing",
    "ResourceError",
    "SourceAway",
    "TableError",
    "TrainingOptions",
    "check",
    "prepare",
    "rows_of",
]

EXTRA = "tables"
"""of the packages that are imported here"""


def prepare(
    config: Config,
    home: Path | None,
    *,
    dtype: Literal["float32", "float64"] = "float64",
    length: int = 1,
    memory_factor: float = 1.0,
    working: Callable[[], None] = lambda: None,
    loaded: Callable[[], None] = lambda: None,
) -> Prepared:
    """The steps data_loading and preprocessing: what is trained on, and what is held out.

    Args:
        config: what is asked for; it is checked first.
        home: in which relative paths begin; None: the working directory.
        dtype: of the features' matrices.
        length: steps that each row is looked at with, itself the last; more than 1: `Windows`.
        memory_factor: how many times the matrix of features the training itself needs beside it.
        working: is called every now and then meanwhile.
        loaded: is called between the two steps.

    Raises:
        ConfigValidationError: a field can never work, or not with this table.
        DataLoadError: a table, a column or a row is not what it must be.
        ResourceError: the machine has too little memory for it.
        SourceAway: a database does not answer.
    """
    check(config)
    packages.require(EXTRA)
    from trainers.tables import prepared  # noqa: PLC0415 - imports NumPy and Arrow

    return prepared.prepare(
        config,
        home,
        dtype=dtype,
        length=length,
        memory_factor=memory_factor,
        working=working,
        loaded=loaded,
    )


def rows_of(
    config: Config,
    home: Path | None,
    fitted: Sequence[Fitted],
    *,
    step: str | None = None,
    preprocess_sha256: str | None = None,
    dtype: Literal["float32", "float64"] = "float64",
    length: int = 1,
    working: Callable[[], None] = lambda: None,
) -> Part:
    """The rows of another table as those that were trained on, for a model that is there.

    They need no target, which is NaN where it is missing. Where every feature is built from the
    past, rows for the steps of the horizon after the last one come with them. What lies outside of
    training_start and training_end counts, too.

    Args:
        config: with which was trained, and `data` as the other table.
        home: in which relative paths begin; None: the working directory.
        fitted: of what was prepared then; `preprocessing.fitted` of the card has it.
        step: of the card then: rows with another one are refused where lags count steps.
        preprocess_sha256: of the card then: the user's own function must have the source it had.
        dtype: of the features' matrix.
        length: as it was then.
        working: is called every now and then meanwhile.

    Raises:
        ConfigValidationError: the user's own function fails, or is another by now.
        DataLoadError: a table, a column or a row is not what it must be.
        SourceAway: a database does not answer.
    """
    check(config)
    packages.require(EXTRA)
    from trainers.tables import prepared  # noqa: PLC0415 - imports NumPy and Arrow

    return prepared.rows_of(
        config,
        home,
        fitted,
        step=step,
        preprocess_sha256=preprocess_sha256,
        dtype=dtype,
        length=length,
        working=working,
    )
