"""The store beside a model of it, whatever is asked, claimed, seen and killed in whatever order."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from state.jobs.records import Ending, NewJob, Once, Patch, Refusal, Replayed, Seen, Which

LIVING = ("PENDING", "RUNNING")
HOMES = st.sampled_from(["home-a", "home-b"])
PRIORITIES = st.sampled_from(["critical", "high", "normal", "low"])


@dataclass
class Known:
    """What must be true of one job."""

    priority: str
    status: str = "PENDING"
    attempt: int = 0
    progress: float = 0.0
    token: str | None = None
    home: str | None = None
    paused: bool = False
    cancel_wanted: bool = False
    old_tokens: list[str] = field(default_factory=list)

    @property
    def living(self):
        return self.status in LIVING

    def leave(self):
        """Nobody has it any more who had it."""
        if self.token is not None:
            self.old_tokens.append(self.token)
        self.token = self.home = None
        self.status, self.progress = "PENDING", 0.0


class Machine(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self, reopened):
        super().__init__()
        self.reopened = reopened
        self.store = reopened()
        self.tenant = f"of-{uuid.uuid4().hex[:20]}"
        self.known: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, str]] = {}

    @rule(target=jobs, priority=PRIORITIES)
    def create(self, priority):
        job = self.store.create(NewJob(tenant_id=self.tenant, config={}, priority=priority))
        self.known[job.job_id] = Known(priority)
        return job.job_id

    @rule(key=st.sampled_from("kl"), body=st.sampled_from("12"))
    def create_once(self, key, body):
        once = Once(tenant_id=self.tenant, route="POST /jobs", key=key, body_sha256=body)
        new = NewJob(tenant_id=self.tenant, config={})
        said = self.store.create(new, once=once, answer=lambda job: job.job_id)
        if key not in self.keys:
            self.keys[key] = body, said.job_id
            self.known[said.job_id] = Known("normal")
        elif self.keys[key][0] == body:
            assert said == Replayed(answer=self.keys[key][1])
        else:
            assert said == Refusal(why="key_of_another")

    @rule(job_id=jobs, home=HOMES)
    def claim(self, job_id, home):
        known = self.known[job_id]
        free = known.status == "PENDING" and known.token is None
        job = self.store.claim(job_id, home)
        assert (job is not None) == (free and not known.paused and not known.cancel_wanted)
        if job is not None:
            known.token, known.home = job.claim.token, home

    @rule(job_id=jobs, more=st.integers(0, 1), progress=st.integers(0, 100), late=st.booleans())
    def mirror(self, job_id, more, progress, late):
        known = self.known[job_id]
        attempt = max(known.attempt + more, 1)
        seen = Seen(status="RUNNING", attempt=attempt, progress=progress)
        job = self.store.mirror(job_id, self.token(known, late), seen)
        if late or known.token is None or not known.living:
            assert job is None
            return
        same = attempt == known.attempt
        known.progress = min(max(progress, known.progress if same else 0), 99)
        known.status, known.attempt = "RUNNING", attempt

    @rule(
        job_id=jobs,
        status=st.sampled_from(["COMPLETED", "FAILED", "CANCELLED"]),
        late=st.booleans(),
    )
    def finish(self, job_id, status, late):
        known = self.known[job_id]
        job = self.store.finish(job_id, self.token(known, late), Ending(status=status))
        assert (job is None) == (late or known.token is None)
        if job is not None and known.living:
            known.status = status
            known.progress = 100 if status == "COMPLETED" else known.progress

    @rule(job_id=jobs, late=st.booleans())
    def release(self, job_id, late):
        known = self.known[job_id]
        job = self.store.release(job_id, self.token(known, late))
        assert (job is not None) == (not late and known.token is not None and known.living)
        if job is not None:
            known.leave()
            known.status = "CANCELLED" if known.cancel_wanted else "PENDING"

    @rule(job_id=jobs, home=HOMES, late=st.booleans())
    def take_over(self, job_id, home, late):
        known = self.known[job_id]
        job = self.store.take_over(job_id, self.token(known, late), home)
        assert (job is not None) == (not late and known.token is not None and known.living)
        if job is not None:
            known.leave()
            known.token, known.home = job.claim.token, home

    @rule(job_id=jobs)
    def cancel(self, job_id):
        known = self.known[job_id]
        refused = isinstance(self.store.cancel(job_id), Refusal)
        assert refused == (known.status in ("COMPLETED", "FAILED"))
        if known.living:
            known.cancel_wanted = True
            known.status = known.status if known.token else "CANCELLED"

    @rule(job_id=jobs)
    def retry(self, job_id):
        known = self.known[job_id]
        refused = isinstance(self.store.retry(job_id), Refusal)
        assert refused == (known.status not in ("FAILED", "CANCELLED"))
        if not refused:
            known.leave()
            known.attempt, known.cancel_wanted = 0, False

    @rule(job_id=jobs, priority=PRIORITIES, paused=st.booleans())
    def patch(self, job_id, priority, paused):
        known = self.known[job_id]
        job = self.store.patch(job_id, Patch(priority=priority, paused=paused))
        if known.living:
            known.priority, known.paused = priority, paused
        else:
            changes = (priority, paused) != (known.priority, known.paused)
            assert isinstance(job, Refusal) == changes

    @rule()
    def crash(self):
        """The process is gone, and another one opens the store."""
        self.store.close()
        self.store = self.reopened()

    @invariant()
    def the_store_is_as_the_model_says(self):
        page = self.store.find(Which(tenant_id=self.tenant), limit=1000)
        found = {
            job.job_id: (
                job.asked.priority, job.became.status, job.became.attempt, job.became.progress,
                job.claim and job.claim.token, job.claim and job.claim.home, job.asked.paused,
                job.asked.cancel_wanted,
            )
            for job in page.jobs
        }  # fmt: skip
        assert found == {
            job_id: (
                one.priority, one.status, one.attempt, one.progress, one.token, one.home,
                one.paused, one.cancel_wanted,
            )
            for job_id, one in self.known.items()
        }  # fmt: skip
        free = {
            job_id
            for job_id, one in self.known.items()
            if one.status == "PENDING" and not (one.token or one.paused or one.cancel_wanted)
        }
        waiting = {one.job_id for one in self.store.candidates() if one.tenant_id == self.tenant}
        assert waiting == free

    def teardown(self):
        ends = [
            (event.job_id, event.content["status"])
            for event in self.store.events(0, tenant=self.tenant)
            if event.kind == "state" and event.content["status"] not in LIVING
        ]
        for job_id, one in self.known.items():
            last = [status for whose, status in ends if whose == job_id][-1:]
            assert one.living or last == [one.status]
        self.store.close()

    @staticmethod
    def token(known, late):
        """That of the claim, or one that is over."""
        if late:
            return known.old_tokens[-1] if known.old_tokens else "none"
        return known.token or "none"


def test_the_store_is_as_a_small_model_says(reopened):
    """Nothing is lost, doubled, or written by whoever has it no more."""
    limits = settings(max_examples=6, stateful_step_count=25)
    run_state_machine_as_test(lambda: Machine(reopened), settings=limits)
