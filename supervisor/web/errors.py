"""What is refused of a request before anybody looks at what it asks for."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.jobs.errors import SHOWN_MAX_CHARS, JobError


class BadRequest(JobError):
    """A header that says nothing anybody could heed."""

    error = "BadRequest"
    http_status = 400

    def __init__(self, header: str, why: str) -> None:
        super().__init__(f"The header {header} {why}", header=header)


class NotHttp(JobError):
    """Something that is no request."""

    error = "BadRequest"
    http_status = 400

    def __init__(self, why: str) -> None:
        super().__init__(f"That is no request of HTTP/1.1: {why}")


class ForeignPage(JobError):
    """A page of another site asks, by way of somebody's browser."""

    error = "Forbidden"
    http_status = 403

    def __init__(self, header: str, value: str) -> None:
        shown = value[:SHOWN_MAX_CHARS]
        message = f"A page of another site may ask nothing here ({header}: {shown})"
        super().__init__(message, header=header, value=shown)


class NoSuchPage(JobError):
    """Nothing is at that path."""

    error = "NotFound"
    http_status = 404

    def __init__(self, path: str) -> None:
        shown = path[:SHOWN_MAX_CHARS]
        super().__init__(f"There is nothing at {shown!r}: /openapi.json lists all", path=shown)


class NotAllowed(JobError):
    """What is there cannot be asked for in that way."""

    error = "MethodNotAllowed"
    http_status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(
            f"{method[:SHOWN_MAX_CHARS]} is not for this path: it takes {self.allowed}",
            allowed=list(allowed),
        )


class TooSlow(JobError):
    """A body that does not come."""

    error = "RequestTimeout"
    http_status = 408

    def __init__(self, bound_s: float) -> None:
        super().__init__(f"The body has not come within {bound_s:g} seconds", bound_s=bound_s)


class WrongType(JobError):
    """A body that is said to be something else than JSON."""

    error = "UnsupportedMediaType"
    http_status = 415

    def __init__(self, given: str) -> None:
        shown = given[:SHOWN_MAX_CHARS]
        message = f"The body must be JSON: Content-Type: application/json, and it is {shown!r}"
        super().__init__(message, given=shown)


class WrongEncoding(JobError):
    """A body that is packed."""

    error = "UnsupportedMediaType"
    http_status = 415

    def __init__(self, given: str) -> None:
        shown = given[:SHOWN_MAX_CHARS]
        message = f"The body must come as it is, without Content-Encoding, and that is {shown!r}"
        super().__init__(message, given=shown)


class NoSuchRange(JobError):
    """Bytes beyond the end of a file."""

    error = "RangeNotSatisfiable"
    http_status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The file has {size_bytes} bytes", size_bytes=size_bytes)


class StoreAway(JobError):
    """The job store does not serve now."""

    error = "ResourceError"
    http_status = 503

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why, retry_after_s=retry_after_s)


class Broken(JobError):
    """A bug of ours; the log of the server has it."""

    error = "InternalError"
    http_status = 500

    def __init__(self) -> None:
        super().__init__("Something is wrong here; the log of the server says what")
