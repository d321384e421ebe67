"""Answers that go on: what a job prints, and what happens to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from state.jobs.database import StoreError
from state.jobs.records import Event, Job
from supervisor.jobs.contract import Logs, Moment
from supervisor.jobs.errors import Busy, ConfigValidationError, Problem, Unauthorized
from supervisor.output import Choice, Line, Output
from supervisor.web import asking
from supervisor.web.feed import Feed
from supervisor.web.jobs import BASE, JobPages
from supervisor.web.resource import EVENTS, TEXT, Operation, Owning
from supervisor.web.service import Service
from supervisor.web.telling import HEADERS, JSON, told
from trainers.contract import Level

LOOK_S = 0.25
"""between two looks at an output"""
QUIET_S = 15.0
"""after so long a stream says that it is still there"""
EVENTS_AT_ONCE = 500
LOOKS_AT_ONCE = 64
"""at an output, until it is the turn of events again"""
MOMENTS = {"at", "next_attempt_at"}
"""of an event, which the store has as seconds since 1970"""
LAST_LINES = 1000
"""that are told at most as JSON, or by `tail`"""
ID = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?")
"""of what happens: the number of the newest event, and, where lines are told, too, the position
behind the newest one; of a line among lines: that position"""
STILL_THERE = b": still there\n\n"


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines of a job `GET /jobs/{id}/logs` is asked for."""

    follow: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    """1: until the job has ended; 0: what is there now"""
    tail: Annotated[int, msgspec.Meta(ge=1, le=LAST_LINES)] | None = None
    """only so many of those that are there, and asked for"""
    level: Level = "info"
    """the least; what a program prints has none, and counts as `info`"""
    since: Moment | None = None
    """from the first line on that is known to be as young"""

    @property
    def choice(self) -> Choice:
        """Which lines that are."""
        return Choice(self.level, None if self.since is None else self.since.timestamp())


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events of a job `GET /jobs/{id}/events` is asked for."""

    follow: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    """1: until the job has ended; 0: what has happened until now"""
    logs: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    """1: what it prints, too"""


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
                    {200: Logs}, (400, 404, 409, 410, 422, 429, 503), query=LogsQuery,
                    headers=("Accept", "Last-Event-ID"), media=(TEXT, JSON, EVENTS),
                ),
            },
            f"{one}/events": {
                "GET": Operation(
                    "get_events", "What happens to a job, until it ends", self.events,
                    {200: str, 204: None}, (400, 404, 422, 429, 503), query=EventsQuery,
                    headers=("Last-Event-ID",), media=(EVENTS,),
                ),
            },
        }  # fmt: skip

    async def logs(self, request: Request) -> ASGIApp:
        """`GET /jobs/{id}/logs`."""
        asked = asking.query(request, LogsQuery)
        job = await self._jobs.find(request)
        folder = self._service.home.run(job.job_id)
        has_begun = job.became.started_at is not None
        if has_begun and job.claim is not None and not folder.path.exists():
            raise await self._service.call(self._service.remembered.missing, job, "lines")
        last = _last_id(request)
        after = None if last is None else last[0] if last[1] is None else last[1]
        accepted = request.headers.get("accept", "").lower()
        if JSON in accepted:
            whole = Output(folder.output)
            found = await self._service.call(whole.tail, asked.tail or LAST_LINES, asked.choice)
            lines = tuple(_text(line) for line in found.lines)
            return told(Logs(job_id=job.job_id, logs=lines, total_lines=found.total))
        as_events = EVENTS in accepted
        see = partial(asking.see_asker, request, self._service)
        pieces = self._lines(job, folder.output, asked, see, after=after, as_events=as_events)
        return self._stream(request, pieces, see, EVENTS if as_events else TEXT)

    async def events(self, request: Request) -> ASGIApp:
        """`GET /jobs/{id}/events`."""
        asked = asking.query(request, EventsQuery)
        job = await self._jobs.find(request)
        after = _last_id(request)
        since, position = (job.number - 1, 0) if after is None else (after[0], after[1] or 0)
        path = self._service.home.run(job.job_id).output

        def is_over() -> bool:
            if self._service.store.events(since, job_id=job.job_id):
                return False
            output = Output(path, position)
            return not asked.logs or not (output.fresh() or output.rest())

        if job.ended and await self._service.call(is_over):
            # By this a browser knows that it need not come again.
            return Response(status_code=204, headers=HEADERS)
        output = Output(path, position) if asked.logs else None
        see = partial(asking.see_asker, request, self._service)
        pieces = self._happened(job, since, output, see, follow=bool(asked.follow))
        return self._stream(request, pieces, see, EVENTS)

    def _stream(
        self,
        request: Request,
        pieces: AsyncIterator[bytes],
        see: Callable[[], None],
        media: str,
    ) -> ASGIApp:
        """An answer that goes on until there are no more pieces, or whoever asks may see no more.

        Raises:
            QuotaExceeded: the tenant has as many as it may have.
            Busy: there are too many.
        """
        if request.method == "HEAD":
            return Response(media_type=media, headers=HEADERS)

        async def allowed() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    see()  # who reads slowly may have been let in long ago
                    yield piece
            except (StoreError, Busy, Unauthorized):
                return  # who follows comes again, and is told what the matter is

        # Buffered by a proxy it would be no stream.
        headers = {**HEADERS, "x-accel-buffering": "no"}
        answer = StreamingResponse(allowed(), media_type=media, headers=headers)
        return Owning(answer, self._service.streaming(request.state.tenant))

    async def _lines(
        self,
        job: Job,
        path: Path,
        asked: LogsQuery,
        see: Callable[[], None],
        *,
        after: int | None,
        as_events: bool,
    ) -> AsyncIterator[bytes]:
        # Whoever comes again has had what they asked for, and wants all that follows it.
        choice = asked.choice if after is None else Choice(asked.level)
        output = Output(path, after or 0)

        def rendered(lines: Iterable[Line]) -> bytes:
            if as_events:
                return b"".join(_log(str(line.end), _text(line)) for line in lines)
            return b"".join(_text(line).encode() + b"\n" for line in lines)

        ended, changed, quiet_s = not asked.follow, True, 0.0
        with self._feed.watching(job.job_id, see) as watch:
            if asked.tail is not None and after is None:
                found = await self._service.call(output.tail, asked.tail, choice)
                if found.lines:
                    yield rendered(found.lines)
            while True:
                ended = ended or (changed and await self._has_ended(job))
                some = False
                async for lines in self._printed(output, over=ended):
                    some = True
                    if piece := rendered(choice.of(lines)):
                        yield piece
                if ended and not some:
                    return
                wait_s = 0.0 if some else LOOK_S
                changed = await watch.wait(wait_s)
                quiet_s = quiet_s + wait_s if wait_s else 0.0
                if quiet_s >= QUIET_S and as_events:
                    quiet_s = 0.0
                    yield STILL_THERE

    async def _happened(
        self,
        job: Job,
        since: int,
        output: Output | None,
        see: Callable[[], None],
        *,
        follow: bool,
    ) -> AsyncIterator[bytes]:
        """Events, and before them what was printed until they were looked for."""
        service, look_s = self._service, QUIET_S if output is None else LOOK_S
        ended, changed, quiet_s = not follow, True, 0.0
        over = ended
        found: Sequence[Event] = ()
        with self._feed.watching(job.job_id, see) as watch:
            while True:
                if changed:
                    ended = ended or await self._has_ended(job)
                    found = await service.call(
                        service.store.events, since, job_id=job.job_id, limit=EVENTS_AT_ONCE
                    )
                    # Its end may be among them, and then all has been printed.
                    over = ended or (bool(found) and await self._has_ended(job))
                some = bool(found)
                if output is not None:
                    async for lines in self._printed(output, over=over):
                        some = True
                        yield b"".join(_log_of(job, line, since) for line in lines)
                if found:
                    since = found[-1].sequence
                    yield b"".join(_event(one, output) for one in found)
                if ended and not some:
                    return
                wait_s = 0.0 if some else look_s
                changed = bool(found) or await watch.wait(wait_s)
                found = ()
                quiet_s = quiet_s + wait_s if wait_s else 0.0
                if quiet_s >= QUIET_S:
                    quiet_s = 0.0
                    yield STILL_THERE

    async def _printed(self, output: Output, *, over: bool) -> AsyncIterator[list[Line]]:
        """What was printed until now; where nothing more comes, with a line that has no end."""
        for _ in range(LOOKS_AT_ONCE):
            lines = await self._service.call(output.fresh)
            if not lines and over:
                lines = output.rest()
            if not lines:
                return
            yield lines

    async def _has_ended(self, job: Job) -> bool:
        found = await self._service.call(self._service.store.get, job.job_id)
        return found is None or found.ended


def _last_id(request: Request) -> tuple[int, int | None] | None:
    """After what whoever asks goes on, as its id says; None: they have seen nothing.

    Raises:
        ConfigValidationError: it is no id of ours.
    """
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return None
    found = ID.fullmatch(given)
    if found is None:
        raise ConfigValidationError([Problem("Last-Event-ID", "Must be the id of an event")])
    return int(found[1]), None if found[2] is None else int(found[2])


def _log(name: str, content: str) -> bytes:
    # A carriage return would end the line of an event.
    content = content.replace("\r", " ")
    return f"id: {name}\nevent: log\ndata: {content}\n\n".encode()


def _log_of(job: Job, line: Line, since: int) -> bytes:
    """A line among the events of its job, of which `since` is the last before it."""
    remark = line.remark
    at = None if remark is None else remark.at
    content = msgspec.json.encode({"job_id": job.job_id, "at": at, "line": _text(line)}).decode()
    return _log(f"{since}.{line.end}", content)


def _event(one: Event, output: Output | None) -> bytes:
    told: dict[str, Any] = {"job_id": one.job_id, "at": one.at, **one.content}
    for name in MOMENTS & told.keys():
        told[name] = datetime.fromtimestamp(told[name], UTC)
    content = msgspec.json.encode(told).decode()
    name = str(one.sequence) if output is None else f"{one.sequence}.{output.position}"
    return f"id: {name}\nevent: {one.kind}\ndata: {content}\n\n".encode()


def _text(line: Line) -> str:
    return line.text.decode("utf-8", "replace")
