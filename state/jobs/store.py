"""The job store: what is asked, claimed, seen and ended, each in one durable transaction.

A claim binds a job to one home. It does not expire, since machines are meant to be off for hours;
whoever writes what became of a job says the claim's token, and writes nothing where it is another.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from state.jobs import rows, tables
from state.jobs.choosing import CANDIDATES, CLAIMED, NOW, SCHEDULES, claimable, matching
from state.jobs.database import Database
from state.jobs.mirroring import QUIET, mirrored, stored, told_of
from state.jobs.records import (
    ENDED,
    LIVING,
    AttemptRow,
    Candidate,
    Ending,
    Event,
    Foretold,
    Job,
    Json,
    ModelVersion,
    NewJob,
    Once,
    Page,
    Patch,
    Point,
    Refusal,
    Replayed,
    Seen,
    TenantUsage,
    Which,
)
from state.jobs.tables import now_s
from state.jobs.transaction import ID, UNTRIED, Transaction
from state.jobs.usage import usage

OFFSET_MAX = 2**62
WORD = re.compile(r"[0-9A-Fa-f-]{1,36}")
"""how an id begins"""
UNCLAIMED: Json = {"token": None, "home": None, "claimed_at": None}

_JOBS = tables.jobs.c


class Now(NamedTuple):
    """What all that is seen of a store at one moment belongs to."""

    at: float
    """by the clock that tells all times of the store"""
    epoch: str
    """another one after each restore: then each claim is to be compared with its home"""

    @property
    def origin(self) -> str:
        """Which store it is: the same in all its backups, and wherever these are restored."""
        return self.epoch.partition("-")[0]


class JobStore:
    """The store, for as many threads as want it.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`; see `state.jobs.database.url_of_home`.

    Raises:
        StoreError: it does not serve, is damaged, or has not the tables of this version.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        try:
            self._database.expect()
        except BaseException:
            self._database.close()
            raise

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        return self._database.shown

    def close(self) -> None:
        """Close what is open."""
        self._database.close()

    def now(self) -> Now:
        """The present, as the store has it."""
        with self._asking() as doing:
            row = doing.connection.execute(NOW).one()
            return Now(float(row[0]), str(row[1]))

    # What is asked.

    def create(
        self,
        new: NewJob,
        *,
        once: Once | None = None,
        answer: Callable[[Job], str] | None = None,
    ) -> Job | Replayed | Refusal:
        """Take a job in, durably.

        Args:
            new: what is asked for.
            once: by which the request is known again.
            answer: what is to be replayed then.

        Raises:
            Unstorable: a text of it cannot be stored.
        """
        with self._writing() as doing:
            said = doing.said_before(once)
            if said is not None:
                return said
            job = doing.taken_in(new)
            doing.remember(once, answer, job)
            return job

    def patch(
        self, job_id: str, patch: Patch, *, tenant: str | None = None, revision: int | None = None
    ) -> Job | Refusal:
        """Ask for it otherwise.

        Args:
            job_id: which job.
            patch: what is to be otherwise.
            tenant: whose it must be; None: anybody's.
            revision: what was asked must still be that; None: whatever it is.
        """
        with self._writing() as doing:
            job, now = doing.locked(job_id, tenant=tenant)
            if job is None:
                return Refusal(why="not_found")
            if revision not in (None, job.asked.revision):
                return Refusal(why="changed_meanwhile", job=job)
            changes = {
                name: value
                for name in Patch.__struct_fields__
                if (value := getattr(patch, name)) is not msgspec.UNSET
                and value is not None
                and value != getattr(job.asked, name)
            }
            ends = patch.schedule is None and job.asked.schedule is not None and not job.ended
            if job.ended and changes.keys() - {"metadata"}:
                return Refusal(why="has_ended", job=job)
            if "schedule" in changes and job.asked.schedule is None:
                return Refusal(why="no_schedule", job=job)
            if not changes:
                return doing.cancelled(job) if ends else job
            told = dict(changes)
            values = dict(changes)
            if "metadata" in values:
                values["metadata"] = rows.encoded(values["metadata"])
            if "schedule" in values:
                schedule = msgspec.structs.replace(values.pop("schedule"), since_at=now)
                told["schedule"] = msgspec.to_builtins(schedule)
                doing.put_schedule(job_id, schedule)
            changed = doing.change_asked(job, values, told)
            return doing.cancelled(changed) if ends else changed

    def cancel(
        self, job_id: str, *, tenant: str | None = None, revision: int | None = None
    ) -> Job | Refusal:
        """End it, for good: at once where no home has it, else once its home has saved it.

        Asked again, it is the same.
        """
        with self._writing() as doing:
            job, _ = doing.locked(job_id, tenant=tenant)
            if job is None:
                return Refusal(why="not_found")
            if revision not in (None, job.asked.revision):
                return Refusal(why="changed_meanwhile", job=job)
            if job.became.status == "CANCELLED" or (job.asked.cancel_wanted and not job.ended):
                return job
            if job.ended:
                return Refusal(why="has_ended", job=job)
            return doing.cancelled(job)

    def retry(
        self,
        job_id: str,
        *,
        tenant: str | None = None,
        once: Once | None = None,
        answer: Callable[[Job], str] | None = None,
    ) -> Job | Replayed | Refusal:
        """Try it again from its first attempt on, after it has FAILED or was CANCELLED.

        Whoever had claimed it has it no more.
        """
        with self._writing() as doing:
            said = doing.said_before(once)
            if said is not None:
                return said
            job, now = doing.locked(job_id, tenant=tenant)
            if job is None:
                return Refusal(why="not_found")
            if not job.ended:
                return Refusal(why="has_not_ended", job=job)
            if job.became.status == "COMPLETED":
                return Refusal(why="has_ended", job=job)
            again = {
                **UNTRIED,
                **UNCLAIMED,
                "attempt": 0,
                "metrics": None,
                "error": None,
                "started_at": None,
                "finished_at": None,
                "cancel_wanted": False,
            }
            doing.connection.execute(
                tables.metrics.delete().where(tables.metrics.c.job_id == job_id)
            )
            if job.asked.schedule is not None:
                schedule = msgspec.structs.replace(job.asked.schedule, since_at=now)
                doing.put_schedule(job_id, schedule)
            tried = doing.change_asked(
                job, again, {"status": "PENDING", "attempt": 0}, kind="state"
            )
            doing.remember(once, answer, tried)
            return tried

    # What is told.

    def answered(self, once: Once) -> Replayed | Refusal | None:
        """What such a request was answered before; None: it was not."""
        with self._writing() as doing:
            return doing.said_before(once)

    def newest(self) -> int:
        """The number of the newest event."""
        with self._asking() as doing:
            return int(doing.connection.scalar(sa.select(tables.store.c.sequence)) or 0)

    def get(self, job_id: str, *, tenant: str | None = None) -> Job | None:
        """A job; None: there is none, or it is another tenant's."""
        with self._asking() as doing:
            return doing.read(job_id, tenant=tenant)

    def called(self, word: str) -> tuple[str, ...]:
        """The ids of jobs that begin so, of several two; one that is exactly so is alone."""
        if not WORD.fullmatch(word):
            return ()
        chosen = (
            sa.select(_JOBS.job_id)
            .where(_JOBS.job_id.startswith(word.lower(), autoescape=True))
            .order_by(_JOBS.number)
            .limit(2)
        )
        with self._asking() as doing:
            found = tuple(str(job_id) for job_id in doing.connection.scalars(chosen))
        return (word.lower(),) if word.lower() in found else found

    def find(
        self, which: Which, *, limit: int = 50, page: int = 1, after: str | None = None
    ) -> Page | Refusal:
        """Jobs, newest first.

        Args:
            which: those that are meant.
            limit: how many at most.
            page: how many times that many are passed over. Jobs that arrive meanwhile move them.
            after: the last one that was seen: these are passed over by no arrival.
        """
        conditions = matching(which)
        with self._reading() as doing:
            counted = sa.select(sa.func.count()).select_from(tables.jobs).where(*conditions)
            total = doing.connection.scalar(counted) or 0
            chosen = rows.JOBS.where(*conditions).order_by(_JOBS.number.desc()).limit(limit + 1)
            if after is None:
                chosen = chosen.offset(min(limit * (page - 1), OFFSET_MAX))
            else:
                seen = doing.read(after, tenant=which.tenant_id)
                if seen is None:
                    return Refusal(why="not_found")
                chosen = chosen.where(_JOBS.number < seen.number)
            found = [rows.job(row) for row in doing.all(chosen)]
        shown = tuple(found[:limit])
        return Page(jobs=shown, total=total, next=shown[-1].job_id if len(found) > limit else None)

    def attempts(self, job_id: str) -> tuple[AttemptRow, ...]:
        """All attempts at a job, in their order."""
        with self._asking() as doing:
            chosen = (
                tables.attempts.select()
                .where(tables.attempts.c.job_id == job_id)
                .order_by(tables.attempts.c.started_at, tables.attempts.c.number)
            )
            return tuple(rows.attempt(row) for row in doing.all(chosen))

    def history(self, job_id: str) -> tuple[Point, ...]:
        """What was measured on the way."""
        with self._asking() as doing:
            chosen = (
                tables.metrics.select()
                .where(tables.metrics.c.job_id == job_id)
                .order_by(tables.metrics.c.attempt, tables.metrics.c.step)
            )
            return tuple(rows.point(row) for row in doing.all(chosen))

    def events(
        self,
        since: int,
        *,
        job_id: str | None = None,
        tenant: str | None = None,
        limit: int = 1000,
    ) -> tuple[Event, ...]:
        """What has happened after the event of that number, in its order.

        Nothing that happens later comes before what was told here.
        """
        chosen = tables.events.select().where(tables.events.c.sequence > since)
        if job_id is not None:
            chosen = chosen.where(tables.events.c.job_id == job_id)
        if tenant is not None:
            chosen = chosen.where(tables.events.c.tenant_id == tenant)
        chosen = chosen.order_by(tables.events.c.sequence).limit(limit)
        with self._asking() as doing:
            return tuple(rows.event(row) for row in doing.all(chosen))

    def models(
        self, tenant: str | None = None, name: str | None = None
    ) -> tuple[ModelVersion, ...]:
        """The models that jobs have left, the newest of each name first."""
        columns = tables.models.c
        chosen = rows.MODELS.order_by(columns.tenant_id, columns.name, columns.version.desc())
        if tenant is not None:
            chosen = chosen.where(columns.tenant_id == tenant)
        if name is not None:
            chosen = chosen.where(columns.name == name)
        with self._asking() as doing:
            return tuple(rows.model(row) for row in doing.all(chosen))

    def tenants(self, tenant: str | None = None) -> tuple[TenantUsage, ...]:
        """What tenants have and had, of all or of one, by name."""
        with self._reading() as doing:
            return usage(doing.connection, tenant)

    def waiting(self) -> int:
        """How many jobs have not ended and are no home's, but for schedules, which are none."""
        free = (_JOBS.status.in_(LIVING), _JOBS.home.is_(None))
        counted = sa.select(sa.func.count()).select_from(tables.jobs).where(*free)
        schedules = counted.where(_JOBS.job_id.in_(sa.select(tables.schedules.c.job_id)))
        both = sa.select(counted.scalar_subquery() - schedules.scalar_subquery())
        with self._asking() as doing:
            return int(doing.connection.scalar(both) or 0)

    # What becomes of it.

    def candidates(self, each: int = 50) -> tuple[Candidate, ...]:
        """Jobs that wait for a home, first come first.

        Args:
            each: how many at most of one tenant in one class. Whose turn it is depends on the
                first of them, and a flood may have any number.
        """
        with self._asking() as doing:
            found = [rows.candidate(row) for row in doing.all(CANDIDATES, place=each - 1)]
        # SQLite, asked for this order, would read all that wait in it.
        return tuple(sorted(found, key=attrgetter("number")))

    def foretell(self, told: Sequence[Foretold]) -> None:
        """Write down when jobs are told to start that wait for a home.

        What a job was told first stays, until somebody asks for it otherwise before it starts: then
        it is forgotten, and may be told anew. When it has started is written by its claim.
        """
        if not told:
            return
        names = rows.names(Foretold, "started_at")
        columns = tables.foretold.c
        given = {name: sa.bindparam(name, type_=columns[name].type) for name in names}
        # It may have been claimed since the look, paused or ended.
        waits = sa.exists().where(_JOBS.job_id == given["job_id"], *claimable())
        with self._writing() as doing:
            kept = doing.insert(tables.foretold)
            kept = kept.from_select(names, sa.select(*given.values()).where(waits))
            # In one order, or two who look at once could wait for each other.
            doing.connection.execute(
                kept.on_conflict_do_nothing(),
                [
                    {name: getattr(one, name) for name in names}
                    for one in sorted(told, key=attrgetter("job_id"))
                ],
            )

    def foretold(self, limit: int, *, tenant: str | None = None) -> tuple[Foretold, ...]:
        """What jobs were told that have started, the newest start first.

        Args:
            limit: how many at most.
            tenant: whose; None: anybody's.
        """
        columns = tables.foretold.c
        chosen = tables.foretold.select().where(columns.started_at.is_not(None))
        if tenant is not None:
            chosen = chosen.where(columns.tenant_id == tenant)
        chosen = chosen.order_by(columns.started_at.desc()).limit(limit)
        with self._asking() as doing:
            return tuple(rows.foretold(row) for row in doing.all(chosen))

    def claim(self, job_id: str, home: str) -> Job | None:
        """Have a home train it; None: it is no candidate any more.

        Whoever reads the job later finds who has it, and by which token.
        """
        if not ID.fullmatch(job_id):
            return None
        free = (
            sa.select(_JOBS.job_id)
            .where(_JOBS.job_id == job_id, *claimable())
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claimed = (
            tables.jobs.update()
            .where(_JOBS.job_id == free)
            .values(token=secrets.token_hex(16), home=home, claimed_at=now_s(), used_s=0.0)
            .returning(_JOBS.tenant_id)
        )
        with self._writing() as doing:
            tenant = doing.connection.scalar(claimed)
            if tenant is None:
                return None
            doing.connection.execute(
                tables.tenants.update()
                .where(tables.tenants.c.tenant_id == tenant)
                .values(claimed_at=now_s())
            )
            return doing.read_again(job_id)

    def claimed(self, home: str) -> tuple[Job, ...]:
        """What a home has to train, first come first."""
        with self._asking() as doing:
            return tuple(rows.job(row) for row in doing.all(CLAIMED, home=home))

    def mirror(
        self, job_id: str, token: str, seen: Seen, *, looked_at: float | None = None
    ) -> Job | None:
        """Write down what was seen of a job; None: it is not that claim's, or has ended.

        The answer has what is asked by now.

        Args:
            job_id: which job.
            token: of the claim.
            seen: what was seen.
            looked_at: when, as `now` has told it before; it may have been waited since then. None:
                at this moment.
        """
        with self._writing() as doing:
            job, now = doing.locked(job_id, token=token)
            if job is None or job.claim is None or job.ended:
                return None
            if looked_at is not None:
                age_s = seen.age_s + max(0.0, now - looked_at)
                seen = msgspec.structs.replace(seen, age_s=age_s)
            values = mirrored(job, seen, now)
            as_of = max(job.became.as_of or 0.0, now - seen.age_s)
            changed = {name for name, value in values.items() if value != stored(job, name)}
            changed -= QUIET
            written: Json = {**values, "as_of": as_of}
            if changed:
                written |= {"changes": _JOBS.changes + 1, "updated_at": now}
            doing.write(job_id, token, written)
            doing.charge(job, seen.used_s, now)
            doing.keep_history(job, seen, now)
            if changed & {"status", "attempt", "next_attempt_at"}:
                doing.keep_attempts(job, job.claim, seen, now)
            told = told_of(seen, values, changed)
            if told:
                doing.tell(job_id, job.asked.tenant_id, *told)
            return doing.read_again(job_id)

    def finish(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """End a job, once; None: it is not that claim's. Said again, nothing more happens."""
        with self._writing() as doing:
            job, now = doing.locked(job_id, token=token)
            if job is None:
                return None
            if job.ended:
                # With the model, which another transaction may have written while this one waited.
                return doing.read_again(job_id)
            attempt, started_at = job.became.attempt, job.became.started_at
            if ending.attempt and job.claim is not None:
                began_at = max(now - ending.trained_s, job.claim.claimed_at)
                doing.end_attempts(job, "failed", began_at, before=ending.attempt)
                doing.begin_attempt(job, job.claim, ending.attempt, began_at)
                attempt = max(attempt, ending.attempt)
                started_at = began_at if started_at is None else started_at
            values: Json = {
                "status": ending.status,
                "attempt": attempt,
                "started_at": started_at,
                "next_attempt_at": None,
                "paused_reason": None,
                "error": rows.as_said(ending.error),
                "kept_bytes": job.became.kept_bytes
                if ending.kept_bytes is None
                else ending.kept_bytes,
                "used_s": max(job.became.used_s, ending.used_s),
                "finished_at": now,
                "updated_at": now,
                "as_of": now,
                "changes": _JOBS.changes + 1,
            }
            if ending.metrics is not None:
                values["metrics"] = rows.as_said(ending.metrics)
            if ending.status == "COMPLETED":
                values["progress"] = 100.0
            doing.write(job_id, token, values)
            doing.charge(job, ending.used_s, now)
            doing.end_attempts(job, ending.status, now, error=ending.error)
            if ending.model is not None:
                doing.keep_model(job, ending.model, ending.metrics)
            told: Json = {"status": ending.status, "attempt": attempt}
            if ending.error is not None:
                told["error"] = ending.error
            doing.tell(job_id, job.asked.tenant_id, ("state", told))
            return doing.read_again(job_id)

    def release(self, job_id: str, token: str) -> Job | None:
        """Give a claim back: another home may begin it anew; None: it is not that claim's."""
        return self._unclaim(job_id, token, UNCLAIMED, "released")

    def take_over(self, job_id: str, token: str, home: str) -> Job | None:
        """Have another home train it anew; None: it is not that claim's any more.

        Whatever the old home still writes of it is refused from now on.
        """
        claim = {"token": secrets.token_hex(16), "home": home, "claimed_at": now_s()}
        return self._unclaim(job_id, token, claim, "taken over")

    # Schedules.

    def schedules(self) -> tuple[tuple[Job, int | None], ...]:
        """Those that are in force, each with the newest instant at which it has fired."""
        with self._asking() as doing:
            return tuple((rows.job(row), row["fired_at"]) for row in doing.all(SCHEDULES))

    def fire(
        self, schedule_id: str, instant: int, *, cannot: Json | None = None
    ) -> Job | Refusal | None:
        """Take in the job of one firing; None: that has been done before.

        Args:
            schedule_id: the job that has the schedule.
            instant: when it was due, in seconds since 1970.
            cannot: why it does not start, as the job's error: then it has ended at once.
        """
        with self._writing() as doing:
            parent, _ = doing.locked(schedule_id)
            if parent is None:
                return Refusal(why="not_found")
            if parent.asked.schedule is None:
                return Refusal(why="no_schedule", job=parent)
            if parent.ended:
                return Refusal(why="has_ended", job=parent)
            job_id = str(uuid.uuid4())
            fired = doing.connection.scalar(
                doing.insert(tables.firings)
                .values(schedule_id=schedule_id, instant=instant, job_id=job_id)
                .on_conflict_do_nothing()
                .returning(tables.firings.c.instant)
            )
            if fired is None:
                return None
            if parent.asked.schedule.overlap == "forbid" and cannot is None:
                cannot = doing.overlap(schedule_id)
            asked = parent.asked
            new = NewJob(**{name: getattr(asked, name) for name in rows.names(NewJob, "schedule")})
            return doing.taken_in(new, job_id=job_id, parent_id=schedule_id, cannot=cannot)

    # What is kept.

    def serve(self, tenant: str, name: str, version: int, by: str | None) -> bool:
        """Note who serves a model, or that nobody does; whether there is such a model."""
        columns = tables.models.c
        with self._writing() as doing:
            done = doing.connection.execute(
                tables.models.update()
                .where(
                    columns.tenant_id == tenant, columns.name == name, columns.version == version
                )
                .values(served_by=by)
            )
            return done.rowcount == 1

    def kept(self, home: str) -> tuple[Job, ...]:
        """Jobs that have ended and of which that home has something still, the oldest first."""
        chosen = rows.JOBS.where(
            _JOBS.home == home, _JOBS.status.in_(ENDED), _JOBS.kept_bytes > 0
        ).order_by(_JOBS.number)
        with self._asking() as doing:
            return tuple(rows.job(row) for row in doing.all(chosen))

    def keep(self, job_id: str, home: str, kept_bytes: int) -> bool:
        """Note what a home has still of a job that has ended; whether that was noted.

        With nothing goes what was told on the way: its history, and events of steps and metrics.
        What was asked, what became of it, its attempts and what is known of its model stay.

        Args:
            job_id: which job.
            home: whose; one that another home has had is that one's.
            kept_bytes: what its folder takes; 0: it is gone, or about to go, which is refused where
                somebody serves its model.
        """
        with self._writing() as doing:
            job, now = doing.locked(job_id)
            if job is None or not job.ended or (job.claim is not None and job.claim.home != home):
                return False
            if not kept_bytes and job.model is not None and job.model.served_by is not None:
                return False
            if kept_bytes != job.became.kept_bytes:
                values: Json = {"kept_bytes": kept_bytes}
                if not kept_bytes:
                    values |= {"changes": _JOBS.changes + 1, "updated_at": now}
                    doing.forget_the_way(job_id)
                doing.connection.execute(
                    tables.jobs.update().where(_JOBS.job_id == job_id).values(**values)
                )
            return True

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Transaction]:
        with self._database.asking() as connection:
            yield Transaction(connection, postgresql=self._database.path is None)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Transaction]:
        with self._database.reading() as connection:
            yield Transaction(connection, postgresql=self._database.path is None)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Transaction]:
        with self._database.writing() as connection:
            yield Transaction(connection, postgresql=self._database.path is None)

    def _unclaim(self, job_id: str, token: str, claim: Json, outcome: str) -> Job | None:
        with self._writing() as doing:
            job, now = doing.locked(job_id, token=token)
            if job is None or job.ended:
                return None
            values: Json = {**UNTRIED, **claim, "changes": _JOBS.changes + 1, "updated_at": now}
            if job.asked.cancel_wanted and claim["token"] is None:
                # Nobody is left who could end it.
                values |= {"status": "CANCELLED", "finished_at": now}
            doing.end_attempts(job, outcome, now)
            doing.write(job_id, token, values)
            told: Json = {"status": values["status"], "attempt": job.became.attempt}
            doing.tell(job_id, job.asked.tenant_id, ("state", told))
            return doing.read_again(job_id)
