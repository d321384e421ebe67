"""What can be wrong with a table, or with what is asked of it, in the words of the API's errors."""

from __future__ import annotations

from typing import Any, ClassVar

from trainers.contract import BadSpec, Failure
from trainers.said import Told


class TableError(BadSpec):
    """Nothing can be trained like this; `error`, `message` and `details` are what an API shows."""

    message: ClassVar[str]
    """what has failed, whatever the reason"""

    def __init__(self, line: str, **details: Any) -> None:
        self.line, self.details = line, details
        super().__init__(f"{self.message}: {line}")

    @property
    def error(self) -> str:
        """Its name."""
        return type(self).__name__

    @property
    def failure(self) -> Failure:
        """Its kind, and what is wrong without the field."""
        return Failure(kind=self.error, reason=self.line)


class DataLoadError(TableError):
    """A table is not there, or its rows are not what they must be."""

    message = "Failed to load training data"

    def __init__(self, reason: str, **details: Any) -> None:
        super().__init__(reason, reason=reason, **details)


class ConfigValidationError(TableError):
    """A field of the configuration can never work, whatever the rows, or not with these."""

    message = "Invalid training configuration"

    def __init__(self, field: str, error: str, **details: Any) -> None:
        super().__init__(f"{field}: {error}", field=field, error=error, **details)

    @property
    def failure(self) -> Failure:
        """Its kind, with the field."""
        field, reason = self.details["field"], self.details["error"]
        return Failure(kind=self.error, reason=reason, field=field)


class ResourceError(TableError):
    """The machine has too little for it."""

    message = "Insufficient resources for training"

    def __init__(self, line: str, **details: Any) -> None:
        super().__init__(line, **details)


class SourceAway(Told):
    """A database does not answer, which may be over at the next start."""
