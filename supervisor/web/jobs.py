"""Jobs: taken in, told, changed, ended, tried again; and requests that are only judged."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from state.jobs.records import Job, Once, Page, Patch, Refusal, Replayed, Schedule, Which
from supervisor.core.calendar import BadCalendar
from supervisor.core.eta import MEASURED_MAX
from supervisor.core.schedule import Schedule as Recurring
from supervisor.jobs import contract, validating
from supervisor.jobs.asked import Prepared, asked_of
from supervisor.jobs.contract import (
    Cancelled,
    JobPage,
    JobPatch,
    JobRequest,
    JobsQuery,
    Metrics,
    Reason,
    Submission,
    Training,
    ValidateAnswer,
    ValidateRequest,
    Waiting,
    Warned,
)
from supervisor.jobs.errors import (
    Busy,
    ConfigValidationError,
    Conflict,
    Forbidden,
    IdempotencyConflict,
    InFlight,
    JobError,
    NotFound,
    NotReady,
    PreconditionFailed,
    Problem,
    ResourceError,
)
from supervisor.jobs.judging import LIGHT
from supervisor.jobs.taking import Taking, new_job
from supervisor.jobs.telling import told as told_of
from supervisor.web import asking
from supervisor.web.answers import History, Point
from supervisor.web.feed import Feed
from supervisor.web.resource import Operation
from supervisor.web.service import Service
from supervisor.web.telling import HEADERS, told
from trainers.contract import Rows

T = TypeVar("T")

BASE = "/ai/training"
TRIES = 5
"""of a change that another one may come before"""


OF_THE_HOME = {
    "no_supervisor": "No supervisor is running",
    "disk": "The disk has too little room",
}
"""causes that tell of the machine: a tenant hears no more of them"""


class JobPages:
    """What is done with jobs.

    Args:
        service: what all share.
        feed: which tells of changes.
    """

    def __init__(self, service: Service, feed: Feed) -> None:
        self._service, self._feed, self._line = service, feed, service.line
        self._taking = Taking(service.store, lambda: service.quotas, service.line.next_start_at)
        self._doors: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def all(self) -> dict[str, dict[str, Operation]]:
        """Path: method: what is done."""
        one = f"{BASE}/jobs/{{job_id}}"
        return {
            f"{BASE}/jobs": {
                "GET": Operation(
                    "list_jobs", "Jobs, the newest first", self.list,
                    {200: JobPage}, (404, 422), query=JobsQuery,
                ),
                "POST": Operation(
                    "create_job", "Have something trained", self.create,
                    {201: contract.Job}, (400, 403, 408, 409, 413, 415, 422, 429, 503),
                    body=JobRequest, headers=("Idempotency-Key",), example="quick start",
                ),
            },
            one: {
                "GET": Operation(
                    "get_job", "How a job stands", self.get,
                    {200: contract.Job, 304: None}, (404, 429, 503),
                    headers=("If-None-Match", "Prefer"),
                ),
                "PATCH": Operation(
                    "change_job", "Ask for it otherwise", self.change,
                    {200: contract.Job}, (403, 404, 408, 409, 412, 413, 415, 422, 428),
                    body=JobPatch, headers=("If-Match",), example="priority",
                ),
                "DELETE": Operation(
                    "cancel_job", "End a job for good; its checkpoints are kept", self.cancel,
                    {200: Cancelled, 202: Cancelled}, (403, 404, 409, 412, 428),
                    headers=("If-Match",),
                ),
            },
            f"{one}/metrics": {
                "GET": Operation(
                    "get_metrics", "How good its model is", self.metrics,
                    {200: Metrics}, (404, 409),
                ),
            },
            f"{one}/metrics/history": {
                "GET": Operation(
                    "get_history", "What was measured on the way", self.history,
                    {200: History}, (404,),
                ),
            },
            f"{one}/why": {
                "GET": Operation(
                    "why_it_waits", "Why a job waits, each reason with its number", self.why,
                    {200: Waiting}, (404,),
                ),
            },
            f"{one}/retry": {
                "POST": Operation(
                    "retry_job", "Try it again from its first attempt on", self.retry,
                    {202: contract.Job}, (400, 403, 404, 409, 422, 429),
                    headers=("Idempotency-Key",),
                ),
            },
            f"{BASE}/validate": {
                "POST": Operation(
                    "validate", "What would be said of a request; nothing is written",
                    self.validate, {200: ValidateAnswer}, (403, 408, 413, 415, 422, 429, 503),
                    body=ValidateRequest, example="schema",
                ),
            },
        }  # fmt: skip

    # What is asked.

    async def create(self, request: Request) -> Response:
        """`POST /jobs`."""
        service = self._service
        raw, asked = await asking.body(request, service, JobRequest)
        self._see_tenant(request, asked.tenant_id)
        once = asking.once(request, asked.tenant_id, "POST /jobs", raw)
        if once is not None:
            before = await service.call(service.store.answered, once)
            if before is not None:
                return _said_before(before, once, 201)
        prepared = await self._judged(asked, asked.tenant_id)

        def answer(job: Job) -> str:
            return msgspec.json.encode(self._told(job, prepared.warnings)).decode()

        new = new_job(asked, prepared)
        create = partial(self._taking.create, new, now_at=service.now_at, once=once, answer=answer)
        taken = await self._let_in(asked.tenant_id, create)
        if not isinstance(taken, Job):
            return _said_before(taken, once, 201)
        return _taken(answer(taken), 201)

    async def change(self, request: Request) -> Response:
        """`PATCH /jobs/{id}`."""
        service = self._service
        _, asked = await asking.body(request, service, JobPatch, curl=True)
        for _ in range(TRIES):
            job = await self.find(request)
            asking.see_version(request, job, required=service.settings.jobs.require_if_match)
            changed = await service.call(self._change, job, asked)
            if isinstance(changed, Job):
                return self._answer(changed)
            if changed.why == "not_found":
                raise NotFound("job", job.job_id)
            if changed.why != "changed_meanwhile":
                act = "scheduled" if changed.why == "no_schedule" else "changed"
                raise Conflict(act, (changed.job or job).became.status)
        raise PreconditionFailed(job.version)

    async def cancel(self, request: Request) -> Response:
        """`DELETE /jobs/{id}`."""
        service = self._service
        for _ in range(TRIES):
            job = await self.find(request)
            asking.see_version(request, job, required=service.settings.jobs.require_if_match)
            seen = job.asked.revision if "if-match" in request.headers else None
            became = await service.call(service.store.cancel, job.job_id, revision=seen)
            if isinstance(became, Job):
                return _cancelled(became)
            if became.why == "not_found":
                raise NotFound("job", job.job_id)
            if became.why != "changed_meanwhile":
                raise Conflict("cancelled", (became.job or job).became.status)
        raise PreconditionFailed(job.version)

    async def retry(self, request: Request) -> Response:
        """`POST /jobs/{id}/retry`."""
        service = self._service
        job = await self.find(request)
        route = f"POST /jobs/{job.job_id}/retry"
        once = asking.once(request, job.asked.tenant_id, route, b"")
        if once is not None:
            before = await service.call(service.store.answered, once)
            if before is not None:
                return _said_before(before, once, 202)

        def answer(job: Job) -> str:
            return msgspec.json.encode(self._told(job)).decode()

        retry = partial(self._taking.retry, job, now_at=service.now_at, once=once, answer=answer)
        tried = await self._let_in(job.asked.tenant_id, retry)
        if isinstance(tried, Job):
            return _taken(answer(tried), 202)
        if isinstance(tried, Replayed) or tried.why in ("key_of_another", "in_flight"):
            return _said_before(tried, once, 202)
        if tried.why == "not_found":
            raise NotFound("job", job.job_id)
        raise Conflict("retried", (tried.job or job).became.status)

    async def validate(self, request: Request) -> Response:
        """`POST /validate`."""
        service = self._service
        try:
            _, asked = await asking.body(request, service, ValidateRequest, curl=True)
            self._see_tenant(request, asked.tenant_id)
            tenant = request.state.tenant or asked.tenant_id or asking.NO_TENANT
            prepared = await self._judged(asked, tenant)
        except Busy:
            raise
        except (ConfigValidationError, ResourceError, Forbidden) as error:
            return told(validating.refused(error))
        spec = validating.to_look_at(prepared)
        mine, rows = request.state.tenant, None
        if spec is not None:
            rows = await service.look(mine, spec, partial(asking.gone, request))
        lasted = None
        if isinstance(rows, Rows):
            like = validating.measurable(mine)
            page = await service.call(service.store.find, like, limit=MEASURED_MAX)
            if isinstance(page, Page):
                lasted = validating.measured(asked, rows, page.jobs)
        seen = validating.Seen(prepared, rows, lasted)
        return told(validating.answered(asked, tenant, seen))

    # What is told.

    async def find(self, request: Request) -> Job:
        """The job of the path.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        found, _ = await self._with(request, lambda _: None)
        return found

    async def get(self, request: Request) -> Response:
        """`GET /jobs/{id}`; with `Prefer: wait` once it is another than whoever asks has seen."""
        job, queue = await self._placed(request)
        wait_s = asking.waits_s(request)
        if wait_s and asking.has_seen(request, job.version):
            loop = asyncio.get_running_loop()
            until = loop.time() + wait_s
            see = partial(asking.see_asker, request, self._service)
            with (
                self._service.streaming(request.state.tenant),
                self._feed.watching(job.job_id, see) as watch,
            ):
                job, queue = await self._placed(request)
                while asking.has_seen(request, job.version):
                    left_s = until - loop.time()
                    if left_s <= 0 or not await watch.wait(left_s):
                        break
                    if await request.is_disconnected():
                        break
                    job, queue = await self._placed(request)
        if asking.has_seen(request, job.version):
            headers = {**HEADERS, "etag": asking.tag(job.version)}
            return Response(status_code=304, headers=headers)
        return self._answer(job, queue)

    async def list(self, request: Request) -> Response:
        """`GET /jobs`."""
        asked = asking.query(request, JobsQuery)
        mine = request.state.tenant
        size = asked.limit if asked.limit is not None else asked.page_size
        which = Which(
            tenant_id=mine or asked.tenant_id,
            status=asked.status,
            model_type=asked.model_type,
            priority=asked.priority,
            parent_id=asked.parent_id,
            created_after=_seconds(asked.created_after),
            created_before=_seconds(asked.created_before),
        )
        found: Page | Refusal = Page(jobs=(), total=0, next=None)
        if mine is None or asked.tenant_id in (None, mine):
            after = None if asked.after is None else asked.after.lower()
            found = await self._service.call(
                self._service.store.find, which, limit=size, page=asked.page, after=after
            )
        if isinstance(found, Refusal):
            raise NotFound("job", asked.after or "")
        page = JobPage(
            jobs=tuple(self._told(job) for job in found.jobs),
            total=found.total,
            page=asked.page,
            page_size=size,
            pages=math.ceil(found.total / size),
            next=found.next,
        )
        return told(page)

    async def metrics(self, request: Request) -> Response:
        """`GET /jobs/{id}/metrics`."""
        job = await self.find(request)
        if job.became.metrics is None:
            raise NotReady("metrics", job.became.status)
        return told({**job.became.metrics, "history_url": f"{_path(job)}/metrics/history"})

    async def history(self, request: Request) -> Response:
        """`GET /jobs/{id}/metrics/history`."""
        job, found = await self._with(request, lambda job: self._service.store.history(job.job_id))
        points = tuple(
            Point(
                attempt=one.attempt,
                step=one.step,
                at=datetime.fromtimestamp(one.at, UTC),
                metrics=one.metrics,
            )
            for one in found
        )
        return told(History(job_id=job.job_id, points=points))

    async def why(self, request: Request) -> Response:
        """`GET /jobs/{id}/why`."""
        _, waiting = await self._with(request, self._line.waiting)
        if request.state.tenant is not None:
            reasons = tuple(map(_to_a_tenant, waiting.reasons))
            waiting = msgspec.structs.replace(waiting, reasons=reasons)
        return told(waiting)

    # How.

    async def _placed(self, request: Request) -> tuple[Job, contract.Queue | None]:
        return await self._with(request, self._line.place)

    async def _with(self, request: Request, ask: Callable[[Job], T]) -> tuple[Job, T]:
        """The job of the path, and what is asked of it, by one thread: another one has to wake up.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        job_id: str = request.path_params["job_id"]
        tenant, store = request.state.tenant, self._service.store

        def found() -> tuple[Job, T] | None:
            job = store.get(job_id.lower(), tenant=tenant)
            return None if job is None else (job, ask(job))

        both = await self._service.call(found)
        if both is None:
            raise NotFound("job", job_id)
        return both

    def _see_tenant(self, request: Request, named: str | None) -> None:
        mine = request.state.tenant
        if mine is not None and named not in (None, mine):
            what = f"Must be {mine}, whose token this is"
            raise ConfigValidationError([Problem("tenant_id", what)])

    async def _judged(self, asked: Submission, tenant: str) -> Prepared:
        service = self._service
        act = partial(asked_of, asked, tenant=service.tenant(tenant), now_at=service.now_at)
        return await (service.call(act) if _is_light(asked) else service.judge(tenant, act))

    async def _let_in(self, tenant: str, act: Callable[[], T]) -> T:
        """Do what makes one more job of a tenant wait.

        Of a tenant with a quota one at a time: two must not both be the last that it may have.
        """
        if tenant not in self._service.quotas:
            return await self._service.call(act)
        async with self._doors[tenant]:
            return await self._service.call(act)

    def _change(self, job: Job, asked: JobPatch) -> Job | Refusal:
        """One change of what was asked, all of it or nothing; it may block."""
        changes: dict[str, Any] = {
            name: value
            for name in asked.__struct_fields__
            if (value := getattr(asked, name)) is not msgspec.UNSET
        }
        if isinstance(asked.schedule, str):
            if job.asked.schedule is None:
                return Refusal(why="no_schedule", job=job)
            changes["schedule"] = _rescheduled(job.asked.schedule, asked.schedule)
        patch = Patch(**changes)
        return self._service.store.patch(job.job_id, patch, revision=job.asked.revision)

    def _told(self, job: Job, warnings: tuple[Warned, ...] = ()) -> contract.Job:
        service = self._service
        found = told_of(job, stale_s=service.settings.jobs.stale_s)
        return msgspec.structs.replace(found, warnings=warnings) if warnings else found

    def _answer(self, job: Job, queue: contract.Queue | None = None) -> Response:
        found = msgspec.structs.replace(self._told(job), queue=queue)
        return told(found, etag=asking.tag(job.version))


def _is_light(asked: Training) -> bool:
    return asked.config is not None or asked.trainer in LIGHT


def _path(job: Job) -> str:
    return f"{BASE}/jobs/{job.job_id}"


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _rescheduled(was: Schedule, cron: str) -> Schedule:
    """The same schedule at other times."""
    try:
        Recurring(cron=cron, zone=was.timezone)
    except BadCalendar as error:
        raise ConfigValidationError([Problem("schedule", str(error))]) from None
    return msgspec.structs.replace(was, cron=cron)


def _cancelled(job: Job) -> Response:
    if job.became.status == "CANCELLED":
        message = "It has ended; its checkpoints are kept"
        return told(Cancelled(job_id=job.job_id, status="CANCELLED", message=message))
    message = "It saves, and stops: ask again for how it stands"
    return told(Cancelled(job_id=job.job_id, status=job.became.status, message=message), 202)


def _taken(answer: str, status: int, *, replayed: bool = False) -> Response:
    """The answer to a request that is done once."""
    job = msgspec.json.decode(answer)
    headers = {
        **HEADERS,
        "location": f"{BASE}/jobs/{job['job_id']}",
        "etag": asking.tag(job["version"]),
    }
    if replayed:
        headers["idempotent-replayed"] = "true"
    return Response(answer, status, headers, "application/json")


def _said_before(said: Replayed | Refusal, once: Once | None, status: int) -> Response:
    """The answer to a request that has come before.

    Raises:
        JobError: it was another, or is at work.
    """
    key = "" if once is None else once.key
    if isinstance(said, Replayed):
        return _taken(said.answer, status, replayed=True)
    error: JobError = InFlight(key) if said.why == "in_flight" else IdempotencyConflict(key)
    raise error


def _to_a_tenant(reason: Reason) -> Reason:
    """A reason without paths and numbers of the machine."""
    message = OF_THE_HOME.get(reason.cause)
    return reason if message is None else Reason(cause=reason.cause, message=message)
