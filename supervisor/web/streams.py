"""Answers that go on: what a job prints, and what happens to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from state.jobs.database import StoreError
from state.jobs.records import Event, Job
from supervisor.jobs.contract import Logs
from supervisor.jobs.errors import Busy, ConfigValidationError, Problem
from supervisor.web import asking
from supervisor.web.errors import ClearedAway, Elsewhere
from supervisor.web.feed import Feed, Watch
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.output import Output
from supervisor.web.resource import EVENTS, HEADERS, JSON, TEXT, Operation, told
from supervisor.web.service import Service

LOOK_S = 0.25
"""between two looks at an output"""
QUIET_S = 15.0
"""after so long a stream says that it is still there"""
EVENTS_AT_ONCE = 500
LAST_LINES = 1000
"""that are told at most as JSON, or by `tail`"""


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines of a job `GET /jobs/{id}/logs` is asked for."""

    follow: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    """1: until the job has ended; 0: what is there now"""
    tail: Annotated[int, msgspec.Meta(ge=1, le=LAST_LINES)] | None = None
    """only so many of those that are there"""


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events of a job `GET /jobs/{id}/events` is asked for."""

    follow: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    """1: until the job has ended; 0: what has happened until now"""


class Streams:
    """What goes on for as long as a job does.

    Args:
        service: what all share.
        feed: which tells of changes.
        jobs: which find the job of a path.
    """

    def __init__(self, service: Service, feed: Feed, jobs: JobPages) -> None:
        self._service, self._feed, self._jobs = service, feed, jobs

    def all(self) -> dict[str, dict[str, Operation]]:
        """Path: method: what is done."""
        one = f"{BASE}/jobs/{{job_id}}"
        return {
            f"{one}/logs": {
                "GET": Operation(
                    "get_logs", "What a job prints, until it ends", self.logs,
                    {200: Logs}, (400, 404, 409, 410, 422, 503), query=LogsQuery,
                    headers=("Accept", "Last-Event-ID"), media=(TEXT, JSON, EVENTS),
                ),
            },
            f"{one}/events": {
                "GET": Operation(
                    "get_events", "What happens to a job, until it ends", self.events,
                    {200: str, 204: None}, (400, 404, 422, 503), query=EventsQuery,
                    headers=("Last-Event-ID",), media=(EVENTS,),
                ),
            },
        }  # fmt: skip

    async def logs(self, request: Request) -> Response:
        """`GET /jobs/{id}/logs`."""
        asked = asking.query(request, LogsQuery)
        job = await self._jobs.find(request)
        folder = self._service.home.run(job.job_id)
        has_begun = job.became.started_at is not None
        if has_begun and job.claim is not None and not folder.path.exists():
            if job.ended and not job.became.kept_bytes:
                raise ClearedAway("lines")
            raise Elsewhere("lines", job.claim.home)
        output = Output(folder.output)
        accepted = request.headers.get("accept", "")
        if JSON in accepted:
            try:
                found = await self._service.call(output.tail, asked.tail or LAST_LINES)
            finally:
                output.close()
            lines = tuple(_text(line) for line in found.lines)
            return told(Logs(job_id=job.job_id, logs=lines, total_lines=found.total))
        as_events = EVENTS in accepted
        pieces = self._lines(job, output, asked, after=_last_id(request), as_events=as_events)
        return await self._stream(request, pieces, EVENTS if as_events else TEXT)

    async def events(self, request: Request) -> Response:
        """`GET /jobs/{id}/events`."""
        asked = asking.query(request, EventsQuery)
        job = await self._jobs.find(request)
        store = self._service.store
        since = _last_id(request) or job.number - 1
        if job.ended and not await self._service.call(store.events, since, job_id=job.job_id):
            # By this a browser knows that it need not come again.
            return Response(status_code=204, headers=HEADERS)
        pieces = self._happened(job, since, follow=bool(asked.follow))
        return await self._stream(request, pieces, EVENTS)

    async def _stream(self, request: Request, pieces: AsyncIterator[bytes], media: str) -> Response:
        if request.method == "HEAD":
            return Response(media_type=media, headers=HEADERS)
        self._service.see_streams()

        async def counted() -> AsyncIterator[bytes]:
            async with self._service.streaming():
                try:
                    async for piece in pieces:
                        yield piece
                except (StoreError, Busy):
                    return  # who follows comes again, and is told what the matter is

        # Buffered by a proxy it would be no stream.
        headers = {**HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(counted(), media_type=media, headers=headers)

    async def _lines(
        self, job: Job, output: Output, asked: LogsQuery, *, after: int | None, as_events: bool
    ) -> AsyncIterator[bytes]:
        service, number, quiet_s = self._service, 0, 0.0
        try:
            with self._feed.watching(job.job_id) as watch:
                if asked.tail is not None:
                    found = await service.call(output.tail, asked.tail)
                    number = found.total - len(found.lines)
                    for piece in _numbered(found.lines, number, after, as_events=as_events):
                        yield piece
                    number = found.total
                ended = await self._has_ended(job) if asked.follow else True
                while True:
                    lines = await service.call(output.fresh)
                    over = not lines and ended
                    if over:  # a line that has no end will have none
                        lines = output.rest()
                    if lines:
                        quiet_s = 0.0
                        pieces = _numbered(lines, number, after, as_events=as_events)
                        yield b"".join(pieces)
                        number += len(lines)
                    if over:
                        return
                    if lines or ended:
                        continue
                    if await watch.wait(LOOK_S):
                        ended = await self._has_ended(job)
                    quiet_s += LOOK_S
                    if quiet_s >= QUIET_S and as_events:
                        quiet_s = 0.0
                        yield b": still there\n\n"
        finally:
            output.close()

    async def _happened(self, job: Job, since: int, *, follow: bool) -> AsyncIterator[bytes]:
        service = self._service
        with self._feed.watching(job.job_id) as watch:
            while True:
                ended = not follow or await self._has_ended(job)
                found = await service.call(
                    service.store.events, since, job_id=job.job_id, limit=EVENTS_AT_ONCE
                )
                if found:
                    since = found[-1].sequence
                    yield b"".join(_event(one) for one in found)
                elif ended:
                    return
                elif not await self._wait(watch):
                    yield b": still there\n\n"

    async def _wait(self, watch: Watch) -> bool:
        return await watch.wait(QUIET_S)

    async def _has_ended(self, job: Job) -> bool:
        found = await self._service.call(self._service.store.get, job.job_id)
        return found is None or found.ended


def _last_id(request: Request) -> int | None:
    """After which event whoever asks goes on; None: they have seen none.

    Raises:
        ConfigValidationError: it is none of ours.
    """
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise ConfigValidationError([Problem("Last-Event-ID", "Must be the id of an event")])
    return int(given)


def _numbered(
    lines: list[bytes] | tuple[bytes, ...], number: int, after: int | None, *, as_events: bool
) -> Iterator[bytes]:
    for place, line in enumerate(lines, number + 1):
        if after is not None and place <= after:
            continue
        if as_events:
            # A carriage return would end the line of an event.
            text = _text(line).replace("\r", " ")
            yield f"id: {place}\nevent: log\ndata: {text}\n\n".encode()
        else:
            yield _text(line).encode() + b"\n"


def _event(one: Event) -> bytes:
    told: dict[str, Any] = {"job_id": one.job_id, "at": one.at, **one.content}
    content = msgspec.json.encode(told).decode()
    return f"id: {one.sequence}\nevent: {one.kind}\ndata: {content}\n\n".encode()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
