"""The REST API as one ASGI application, made by one function."""

from __future__ import annotations

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.jobs.line import Line
from supervisor.web import asking
from supervisor.web.artifacts import ArtifactPages
from supervisor.web.errors import BadRequest, NoSuchPage
from supervisor.web.feed import Feed
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.openapi import document
from supervisor.web.place import PlacePages
from supervisor.web.resource import HEADERS, JSON, Operation, Resource, refused
from supervisor.web.service import Service
from supervisor.web.streams import Streams

STALLED_S = 60.0
"""after which whoever takes nothing of an answer is given up"""


def application(service: Service) -> ASGIApp:
    """The API.

    Args:
        service: what all answers are made from; its store stays the caller's to close.
    """
    feed = Feed(service)
    line = Line(service.store, lambda: service.settings, service.remembered, service.clock)
    jobs = JobPages(service, feed, line)
    operations: dict[str, dict[str, Operation]] = {
        **jobs.all(),
        **Streams(service, feed, jobs).all(),
        **ArtifactPages(service, jobs).all(),
        **PlacePages(service).all(),
    }
    described = msgspec.json.encode(document(operations))

    async def describe(request: Request) -> Response:  # noqa: ARG001 - it is the same for all
        return Response(described, headers=HEADERS, media_type=JSON)

    for path in ("/openapi.json", f"{BASE}/openapi.json"):
        itself = Operation("describe", "This document", describe, {200: None})
        operations[path] = {"GET": itself}
    routes = [Route(path, Resource(service, its)) for path, its in operations.items()]
    return _Bounded(Router(routes, redirect_slashes=False, default=_nothing))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that nothing is there."""
    if scope["type"] == "http":
        response = refused(NoSuchPage(scope["path"]))
        await response(scope, receive, send)


class _Bounded:
    """An application whose requests have one end, and whose answers nobody can hold up for ever."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            with anyio.fail_after(STALLED_S):
                await send(message)

        try:
            if scope["type"] == "http":
                asking.see_length(Request(scope))
            await self._app(scope, receive, sent)
        except BadRequest as error:
            await refused(error)(scope, receive, sent)
        except TimeoutError:
            return  # the server closes what was not answered to its end
