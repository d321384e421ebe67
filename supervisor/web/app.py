"""The REST API as one ASGI application, made by one function."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.web.artifacts import ArtifactPages
from supervisor.web.errors import NoSuchPage
from supervisor.web.feed import Feed
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.openapi import document
from supervisor.web.place import PlacePages
from supervisor.web.resource import Operation, Resource
from supervisor.web.service import Service
from supervisor.web.streams import Streams
from supervisor.web.telling import HEADERS, JSON, refused


def application(service: Service) -> ASGIApp:
    """The API.

    Args:
        service: what all answers are made from; its store stays the caller's to close.
    """
    feed = Feed(service)
    jobs = JobPages(service, feed)
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
    return Router(routes, redirect_slashes=False, default=_nothing)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that nothing is there."""
    if scope["type"] == "http":
        response = refused(NoSuchPage(scope["path"]))
        await response(scope, receive, send)
