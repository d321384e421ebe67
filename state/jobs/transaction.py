"""One transaction of the job store: what it reads, locks and writes.

Locks are taken in one order: the row of a job, of its tenant, and last the number of the newest
event. So nobody waits in a circle, and events can be seen in their order.
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from state.jobs import rows, tables
from state.jobs.records import (
    LIVING,
    Claim,
    EventKind,
    Job,
    Json,
    Model,
    NewJob,
    Once,
    Refusal,
    Replayed,
    Schedule,
    Seen,
)
from state.jobs.tables import now_s

ANSWERS_KEPT_S = 24 * 3600
"""how long an answer is remembered by its Idempotency-Key"""
HOUR_S = 3600
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNTRIED: Json = {
    "status": "PENDING",
    "next_attempt_at": None,
    "progress": 0.0,
    "current_step": None,
    "paused_reason": None,
    "used_s": 0.0,
    "as_of": None,
}
"""what became of a job that no home has seen yet, or none of those that have it now"""

_JOBS = tables.jobs.c


class Transaction:
    """What is done in one.

    Args:
        connection: on which it lasts.
        postgresql: whether that speaks PostgreSQL, or else SQLite.
    """

    def __init__(self, connection: sa.Connection, *, postgresql: bool) -> None:
        self.connection = connection
        self._postgresql = postgresql

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that may say what to do where such a row is there."""
        return postgresql.insert(table) if self._postgresql else sqlite.insert(table)

    def all(self, statement: sa.Select[Any], **given: Any) -> Sequence[sa.RowMapping]:
        """What a SELECT finds, with what is given for its parameters."""
        return self.connection.execute(statement, given).mappings().all()

    def read(self, job_id: str, *, tenant: str | None = None) -> Job | None:
        """A job; None: there is none, or it is another tenant's."""
        if not ID.fullmatch(job_id):
            return None
        row = self.connection.execute(rows.JOB, {"job_id": job_id}).mappings().first()
        if row is None or tenant not in (None, row["tenant_id"]):
            return None
        return rows.job(row)

    def read_again(self, job_id: str) -> Job:
        """A job that was written in this very transaction."""
        return rows.job(self.connection.execute(rows.JOB, {"job_id": job_id}).mappings().one())

    def locked(
        self,
        job_id: str,
        *,
        tenant: str | None = None,
        token: str | None = None,
    ) -> tuple[Job | None, float]:
        """A job that nobody else changes until the end of the transaction, and the time."""
        if not ID.fullmatch(job_id):
            return None, 0.0
        row = self.connection.execute(rows.LOCKED, {"job_id": job_id}).mappings().first()
        if (
            row is None
            or tenant not in (None, row["tenant_id"])
            or token not in (None, row["token"])
        ):
            return None, 0.0
        return rows.job(row), row["read_at"]

    def taken_in(
        self,
        new: NewJob,
        *,
        job_id: str | None = None,
        parent_id: str | None = None,
        cannot: Json | None = None,
    ) -> Job:
        """A job that is new from now on.

        Args:
            new: what is asked for.
            job_id: its id; None: a new one.
            parent_id: of a firing: its schedule.
            cannot: why it has ended at once; None: it has not.
        """
        job_id = job_id or str(uuid.uuid4())
        status = "PENDING" if cannot is None else "CANCELLED"
        told: Json = {"status": status, "attempt": 0}
        if cannot is not None:
            told["error"] = cannot
        self.connection.execute(
            self.insert(tables.tenants).values(tenant_id=new.tenant_id).on_conflict_do_nothing()
        )
        if new.schedule is not None:
            now = self.connection.scalar(sa.select(now_s()))
            self.put_schedule(job_id, msgspec.structs.replace(new.schedule, since_at=now))
        asked = {name: getattr(new, name) for name in rows.names(NewJob, "schedule")}
        texts = {"config": rows.encoded(new.config), "metadata": rows.encoded(new.metadata)}
        # Last, for whoever has a number is waited for by all others that want one.
        number = self.tell(job_id, new.tenant_id, ("state", told))
        self.connection.execute(
            tables.jobs.insert().values(
                **UNTRIED | asked | texts | {"status": status},
                job_id=job_id,
                number=number,
                parent_id=parent_id,
                created_at=now_s(),
                updated_at=now_s(),
                paused=False,
                cancel_wanted=False,
                revision=1,
                attempt=0,
                error=rows.as_said(cannot),
                kept_bytes=0,
                finished_at=None if cannot is None else now_s(),
                changes=0,
            )
        )
        return self.read_again(job_id)

    def change_asked(
        self,
        job: Job,
        values: Json,
        told: Json,
        *,
        kind: EventKind = "asked",
    ) -> Job:
        """Write what is asked, where the job is locked.

        When it would start was foretold of what was asked before, and is forgotten.
        """
        self.connection.execute(
            tables.jobs.update()
            .where(_JOBS.job_id == job.job_id)
            .values(**values, revision=_JOBS.revision + 1, updated_at=now_s())
        )
        columns = tables.foretold.c
        self.connection.execute(
            tables.foretold.delete().where(
                columns.job_id == job.job_id, columns.started_at.is_(None)
            )
        )
        self.tell(job.job_id, job.asked.tenant_id, (kind, told))
        return self.read_again(job.job_id)

    def cancelled(self, job: Job) -> Job:
        """End a job that has not: at once where no home has it, else its home is to."""
        wanted = {"cancel_wanted": True}
        if job.claim is not None:
            return self.change_asked(job, wanted, wanted)
        ended = {**wanted, "status": "CANCELLED", "finished_at": now_s()}
        return self.change_asked(job, ended, {"status": "CANCELLED"}, kind="state")

    def write(self, job_id: str, token: str, values: Json) -> None:
        """Write what became of it, as whoever has the claim."""
        self.connection.execute(
            tables.jobs.update()
            .where(_JOBS.job_id == job_id, _JOBS.token == token)
            .values(**values)
        )

    def tell(self, job_id: str, tenant_id: str, *told: tuple[EventKind, Json]) -> int:
        """Write events down; the number of the first.

        Numbers of a PostgreSQL sequence can be seen out of their order: that of a transaction that
        ends late appears behind greater ones, where nobody looks any more. Here whoever takes a
        number has the row locked until all can see it.
        """
        newest = self.connection.execute(
            tables.store.update()
            .values(sequence=tables.store.c.sequence + len(told))
            .returning(tables.store.c.sequence)
        ).scalar_one()
        first: int = newest - len(told) + 1
        self.connection.execute(
            tables.events.insert().values(at=now_s()),
            [
                {
                    "sequence": first + place,
                    "job_id": job_id,
                    "tenant_id": tenant_id,
                    "kind": kind,
                    "content": rows.as_said(content),
                }
                for place, (kind, content) in enumerate(told)
            ],
        )
        return first

    def said_before(self, once: Once | None) -> Replayed | Refusal | None:
        """What the same request was answered; None: nothing yet."""
        if once is None:
            return None
        name = _name_of(once)
        columns = tables.idempotency.c
        if self._postgresql:
            # With SQLite whoever is in flight has the lock of all writers, and is over by now.
            lock = int.from_bytes(bytes.fromhex(name)[:8], "big", signed=True)
            if not self.connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(lock))):
                return Refusal(why="in_flight")
        old = columns.at < now_s() - ANSWERS_KEPT_S
        self.connection.execute(tables.idempotency.delete().where(old))
        chosen = tables.idempotency.select().where(columns.key_sha256 == name)
        found = self.connection.execute(chosen).mappings().first()
        if found is None:
            return None
        if found["body_sha256"] != once.body_sha256:
            return Refusal(why="key_of_another")
        return Replayed(answer=found["answer"])

    def remember(
        self,
        once: Once | None,
        answer: Callable[[Job], str] | None,
        job: Job,
    ) -> None:
        """Have the same request be answered the same."""
        if once is None:
            return
        said = "" if answer is None else answer(job)
        self.connection.execute(
            tables.idempotency.insert().values(
                key_sha256=_name_of(once), body_sha256=once.body_sha256, answer=said, at=now_s()
            )
        )

    def put_schedule(self, job_id: str, schedule: Schedule) -> None:
        """Write down when a job is to be trained again."""
        fields = msgspec.structs.asdict(schedule)
        self.connection.execute(
            self.insert(tables.schedules)
            .values(job_id=job_id, **fields)
            .on_conflict_do_update(index_elements=["job_id"], set_=fields)
        )

    def overlap(self, schedule_id: str) -> Json | None:
        """What keeps a firing from starting, as a job's error; None: nothing."""
        living = sa.select(_JOBS.job_id).where(
            _JOBS.parent_id == schedule_id, _JOBS.status.in_(LIVING)
        )
        other = self.connection.scalar(living.order_by(_JOBS.number).limit(1))
        if other is None:
            return None
        return {
            "error": "Conflict",
            "message": "The firing before this one has not ended",
            "details": {"job_id": other},
        }

    def charge(self, job: Job, used_s: float, now: float) -> None:
        """Add what a job has used since it was last seen to what its tenant has."""
        more_s = used_s - job.became.used_s
        if not (more_s > 0 and math.isfinite(more_s)):
            return
        charged = self.insert(tables.usage).values(
            tenant_id=job.asked.tenant_id, hour_at=int(now // HOUR_S * HOUR_S), used_s=more_s
        )
        total_s = tables.usage.c.used_s + charged.excluded.used_s
        self.connection.execute(
            charged.on_conflict_do_update(
                index_elements=["tenant_id", "hour_at"], set_={"used_s": total_s}
            )
        )

    def keep_history(self, job: Job, seen: Seen, now: float) -> None:
        """Write down what was measured."""
        if not seen.history:
            return
        kept = self.insert(tables.metrics)
        newer = kept.on_conflict_do_update(
            index_elements=["job_id", "attempt", "step"],
            set_={"at": kept.excluded.at, "metrics": kept.excluded.metrics},
        )
        self.connection.execute(
            newer,
            [
                {
                    "job_id": job.job_id,
                    "attempt": seen.attempt,
                    "step": step,
                    "at": now - seen.age_s,
                    "metrics": rows.as_said(measured),
                }
                for step, measured in seen.history
            ],
        )

    def keep_attempts(self, job: Job, claim: Claim, seen: Seen, now: float) -> None:
        """Note that an attempt has begun, and that those before it are over."""
        at = now - seen.age_s
        over = seen.attempt + (seen.next_attempt_in_s is not None)
        self.end_attempts(job, "failed", at, before=over, error=seen.error)
        if seen.status == "RUNNING":
            self.begin_attempt(job, claim, seen.attempt, at)

    def begin_attempt(self, job: Job, claim: Claim, number: int, at: float) -> None:
        """Note that an attempt has begun, where that is not known yet.

        By the first one it is known whether the job has started when it was told to.
        """
        columns = tables.foretold.c
        self.connection.execute(
            tables.foretold.update()
            .where(columns.job_id == job.job_id, columns.started_at.is_(None))
            .values(started_at=at)
        )
        self.connection.execute(
            self.insert(tables.attempts)
            .values(
                job_id=job.job_id,
                token=claim.token,
                number=number,
                home=claim.home,
                started_at=at,
            )
            .on_conflict_do_nothing()
        )

    def end_attempts(
        self,
        job: Job,
        outcome: str,
        at: float,
        *,
        before: int | None = None,
        error: Json | None = None,
    ) -> None:
        """Note that attempts are over: all that are not yet, or those `before` a number."""
        columns = tables.attempts.c
        mine = (columns.job_id == job.job_id, columns.ended_at.is_(None))
        older = () if before is None else (columns.number < before,)
        self.connection.execute(
            tables.attempts.update()
            .where(*mine, *older)
            .values(ended_at=at, outcome=outcome, error=rows.as_said(error))
        )

    def keep_model(self, job: Job, model: Model, measured: Json | None) -> None:
        """Write down the model that a job has left, as the next version of its name."""
        columns = tables.models.c
        tenant_id, name = job.asked.tenant_id, job.asked.model_name or job.job_id
        # Two jobs that end at once must not leave the same version.
        self.connection.execute(
            sa.select(tables.tenants.c.tenant_id)
            .where(tables.tenants.c.tenant_id == tenant_id)
            .with_for_update()
        )
        newest = sa.select(sa.func.coalesce(sa.func.max(columns.version), 0)).where(
            columns.tenant_id == tenant_id, columns.name == name
        )
        self.connection.execute(
            tables.models.insert().values(
                tenant_id=tenant_id,
                name=name,
                version=(self.connection.scalar(newest) or 0) + 1,
                job_id=job.job_id,
                sha256=model.sha256,
                size_bytes=model.size_bytes,
                metrics=rows.as_said(measured),
                created_at=now_s(),
            )
        )

    def forget_the_way(self, job_id: str) -> None:
        """Remove what was told of a job while it trained."""
        kind = tables.events.c.kind
        self.connection.execute(
            tables.events.delete().where(
                tables.events.c.job_id == job_id, kind.in_(("step", "metric"))
            )
        )
        self.connection.execute(tables.metrics.delete().where(tables.metrics.c.job_id == job_id))


def _name_of(once: Once) -> str:
    parts = f"{once.tenant_id}\0{once.route}\0{once.key}"
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()
