"""What the API refuses, and in which words: each error builds its whole message.

Their names, statuses and bodies are a contract with whoever calls: the body of an error is always
`{error, message, details}`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from supervisor.errors import SupervisorError

SHOWN_MAX_CHARS = 80
"""of what somebody has sent"""
PROBLEMS_MAX = 50
"""that are told at once; of the others their number"""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request."""

    field: str
    """what to change: within `config` as the configuration calls it, such as `validation_split` or
    `hyperparameters.num_leaves`; elsewhere its place in the body"""
    error: str
    """what it must be"""
    path: str = ""
    """its place in the body, such as `config.validation_split`, where that is another"""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that refuses."""

    error: str
    message: str
    details: dict[str, Any] = {}


class JobError(SupervisorError):
    """A request that is refused, with the body that says why."""

    error: ClassVar[str]
    """its name in the body"""
    http_status: ClassVar[int]
    exit_code = 2
    """of a command that ends with it: 75 where the same may be granted later, 78 where something
    has to be installed"""

    def __init__(
        self, message: str, *, line: str = "", retry_after_s: float | None = None, **details: Any
    ) -> None:
        self.message = message
        self.details = details
        self.retry_after_s = None if retry_after_s is None else max(1, math.ceil(retry_after_s))
        """whole seconds, after which the same request may be granted; None: nobody knows"""
        super().__init__(f"{message}: {line}" if line else message)

    @property
    def body(self) -> Refusal:
        """What is answered."""
        return Refusal(error=self.error, message=self.message, details=self.details)


class ConfigValidationError(JobError):
    """What is asked for can never work; everything that is wrong is told at once."""

    error = "ConfigValidationError"
    http_status = 422

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        details: dict[str, Any] = {
            "field": first.field,
            "error": first.error,
            "problems": [msgspec.to_builtins(one) for one in self.problems[:PROBLEMS_MAX]],
        }
        more = len(self.problems) - PROBLEMS_MAX
        if more > 0:
            details["more_problems"] = more
        lines = "; ".join(f"{one.field}: {one.error}" for one in self.problems[:PROBLEMS_MAX])
        super().__init__("Invalid training configuration", line=lines, **details)


class DataLoadError(JobError):
    """The rows that a job is to learn from are not to be had; it is told of jobs, too."""

    error = "DataLoadError"
    http_status = 422

    def __init__(self, reason: str, tenant_id: str) -> None:
        message = "Failed to load training data"
        super().__init__(message, line=reason, reason=reason, tenant_id=tenant_id)


class ResourceError(JobError):
    """This place has too little for what is asked."""

    error = "ResourceError"
    http_status = 409


class NoWorkers(ResourceError):
    """A training on several machines at once, of which there are none."""

    def __init__(self, requested: int, available: int = 0) -> None:
        super().__init__(
            "Insufficient resources for distributed training",
            line=f"{requested} workers are asked for, and there are {available}",
            requested_workers=requested,
            available_workers=available,
        )


class NotInstalled(ResourceError):
    """What the trainer imports is not there, or too old."""

    exit_code = 78

    def __init__(self, trainer: str, reason: str) -> None:
        message = f"The trainer {trainer} cannot train here"
        super().__init__(message, line=reason, trainer=trainer, reason=reason)


class Busy(ResourceError):
    """Whoever would look at the request has enough to do."""

    http_status = 503
    exit_code = 75

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(f"{what} is busy: try again soon", retry_after_s=retry_after_s)


class NotFound(JobError):
    """There is none of that name, or it is another tenant's, which nobody is told."""

    error = "NotFound"
    http_status = 404

    def __init__(self, what: str, name: str) -> None:
        shown = name[:SHOWN_MAX_CHARS]
        super().__init__(f"There is no {what} {shown!r}", what=what, name=shown)


class Conflict(JobError):
    """What is asked does not go together with what has become of the job."""

    error = "Conflict"
    http_status = 409

    def __init__(self, act: str, status: str) -> None:
        message = f"A job that is {status} cannot be {act}"
        super().__init__(message, act=act, status=status)


class InFlight(JobError):
    """The same request is at work: what becomes of it is not known yet."""

    error = "Conflict"
    http_status = 409
    exit_code = 75

    def __init__(self, key: str, retry_after_s: float = 1.0) -> None:
        super().__init__(
            "A request with this Idempotency-Key is at work",
            retry_after_s=retry_after_s,
            key=key[:SHOWN_MAX_CHARS],
        )


class NotReady(JobError):
    """It will be there, and is not yet; zeros are never shown in its place."""

    error = "NotReady"
    http_status = 409
    exit_code = 75

    def __init__(self, what: str, status: str) -> None:
        super().__init__(f"The job has no {what} yet", status=status)


class Elsewhere(JobError):
    """What a job has printed or left is not in this home.

    Args:
        what: is asked for, such as `files`.
        job_id: whose.
        where: what is known of that, in words.
        home: which has it; None: none.
    """

    error = "Conflict"
    http_status = 409

    def __init__(self, what: str, job_id: str, where: str, home: str | None) -> None:
        details: dict[str, Any] = {} if home is None else {"home": home}
        super().__init__(f"There are no {what} of job {job_id} here: {where}", **details)


class ClearedAway(JobError):
    """Nothing is kept of what a job has printed and left."""

    error = "Gone"
    http_status = 410

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"What job {job_id} has left was cleared away",
            line="the settings keep it no longer, or somebody has removed it; hand it in again to "
            "train it anew",
        )


class PreconditionFailed(JobError):
    """The job is another than whoever changes it has seen."""

    error = "PreconditionFailed"
    http_status = 412

    def __init__(self, version: int) -> None:
        message = f"The job has changed meanwhile: it has version {version} now"
        super().__init__(message, version=version)


class PreconditionRequired(JobError):
    """Changes are taken only from who says which version they have seen."""

    error = "PreconditionRequired"
    http_status = 428

    def __init__(self) -> None:
        super().__init__("This server takes changes only with If-Match, as in the answer to GET")


class IdempotencyConflict(JobError):
    """One Idempotency-Key, and two requests that differ."""

    error = "IdempotencyConflict"
    http_status = 422

    def __init__(self, key: str) -> None:
        shown = key[:SHOWN_MAX_CHARS]
        message = "This Idempotency-Key was used for another request"
        super().__init__(message, line=shown, key=shown)


class QuotaExceeded(JobError):
    """The tenant has as much as it may have."""

    error = "QuotaExceeded"
    http_status = 429
    exit_code = 75

    def __init__(
        self, quota: str, used: float, bound: float, retry_after_s: float | None = None
    ) -> None:
        super().__init__(
            f"The quota {quota} is used up: {used:g} of {bound:g}",
            retry_after_s=retry_after_s,
            quota=quota,
            used=used,
            bound=bound,
        )


class Unauthorized(JobError):
    """Nobody knows who asks."""

    error = "Unauthorized"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("A token is needed: Authorization: Bearer TOKEN")


class Forbidden(JobError):
    """The tenant may not ask for it."""

    error = "Forbidden"
    http_status = 403

    def __init__(self, field: str, why: str, tenant_id: str) -> None:
        super().__init__(
            f"{field} {why}, which takes a tenant with programs = true",
            field=field,
            tenant_id=tenant_id,
            needs="programs",
        )


class TooLarge(JobError):
    """A body that is longer than any that makes sense."""

    error = "TooLarge"
    http_status = 413

    def __init__(self, size_bytes: int, bound_bytes: int) -> None:
        super().__init__(
            f"The body has more than {bound_bytes} bytes",
            size_bytes=size_bytes,
            bound_bytes=bound_bytes,
        )


STATUSES = {
    kind.error: kind.http_status
    for kind in (
        ConfigValidationError, DataLoadError, ResourceError, NotFound, Conflict, NotReady,
        PreconditionFailed, PreconditionRequired, IdempotencyConflict, QuotaExceeded, Unauthorized,
        Forbidden, TooLarge,
    )
}  # fmt: skip
"""name: status; `Busy` is a ResourceError with 503"""
