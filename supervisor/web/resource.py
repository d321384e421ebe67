"""What is at one path: its operations, and the answers that are alike everywhere."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from state.jobs.database import StoreError
from state.jobs.tables import Unstorable
from supervisor.jobs.errors import ConfigValidationError, JobError, Problem
from supervisor.jobs.reading import BODY
from supervisor.web import asking
from supervisor.web.errors import Broken, NotAllowed, StoreAway
from supervisor.web.service import Service
from supervisor.web.telling import JSON, refused

TEXT = "text/plain"
EVENTS = "text/event-stream"
BYTES = "application/octet-stream"
AGAIN_S = 5.0
"""after which a store that did not serve may do so again"""

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[ASGIApp]]


class Operation(NamedTuple):
    """One method of a path: what is done, and what the document of the API says of it."""

    name: str
    """its id there"""
    summary: str
    handler: Handler
    answers: Mapping[int, Any]
    """status: the type of its JSON; None: it has no body"""
    refusals: tuple[int, ...] = ()
    """beside those that any may have"""
    body: Any = None
    query: Any = None
    headers: tuple[str, ...] = ()
    """those of a request that are heeded"""
    media: tuple[str, ...] = (JSON,)
    """of the first answer"""
    example: str = ""
    """the name of one in the document of the API"""
    open: bool = False
    """whether it is answered without a token, too: then it may tell nothing about anybody"""


class Resource:
    """An ASGI application for one path.

    Args:
        service: what all share.
        operations: method: what it does. GET answers HEAD, too.
    """

    def __init__(self, service: Service, operations: Mapping[str, Operation]) -> None:
        self._service = service
        self._operations = operations
        self._allowed = [*operations, *(["HEAD"] if "GET" in operations else []), "OPTIONS"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        try:
            asking.see_origin(request, self._service)
            method = "GET" if request.method == "HEAD" else request.method
            if method == "OPTIONS":
                return Response(status_code=204, headers={"allow": ", ".join(self._allowed)})
            operation = self._operations.get(method)
            if operation is None:
                raise NotAllowed(request.method, self._allowed)
            if not operation.open:
                request.state.tenant = asking.asker(request, self._service)
            return await operation.handler(request)
        except JobError as error:
            return refused(error)
        except Unstorable as error:
            return refused(ConfigValidationError([Problem(BODY, str(error))]))
        except StoreError as error:
            return refused(StoreAway(str(error), AGAIN_S))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            return refused(Broken())


class Owning:
    """An answer that owns something until it was given, or nobody is left to be given it.

    Args:
        answer: the answer.
        what: it owns, such as an open file.
    """

    def __init__(self, answer: ASGIApp, what: AbstractContextManager[object]) -> None:
        self._answer, self._what = answer, what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give it."""
        with self._what:
            await self._answer(scope, receive, send)
