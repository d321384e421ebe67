"""Values and refusals as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from supervisor.jobs.errors import JobError
from supervisor.web.errors import NotAllowed

JSON = "application/json"
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""of every answer: each is of this moment alone, and none is a page"""


def told(value: Any, status: int = 200, **headers: str) -> Response:
    """A value as JSON; an underscore in the name of a header stands for a hyphen."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(msgspec.json.encode(value), status, HEADERS | given, JSON)


def refused(error: JobError) -> Response:
    """An error as JSON."""
    headers = {}
    if error.http_status == 400:
        headers["connection"] = "close"  # whatever follows may be a part of what nobody understood
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, NotAllowed):
        headers["allow"] = error.allowed
    if error.http_status == 401:
        headers["www-authenticate"] = 'Bearer realm="training"'
    return told(error.body, error.http_status, **headers)
