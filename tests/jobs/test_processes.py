"""Many processes at one store, some of them killed: nothing is lost, doubled or out of order."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time

import pytest

from state.jobs.database import StoreTrouble
from state.jobs.migrations import migrate
from state.jobs.records import (
    Ending,
    Model,
    NewJob,
    Once,
    Refusal,
    Replayed,
    Schedule,
    Seen,
    Which,
)
from state.jobs.store import JobStore
from testkit.patience import PATIENCE_S, until

HOMES = ("home-a", "home-b", "home-c", "home-d")


def a_job(tenant="acme-corp", **fields):
    return NewJob(tenant_id=tenant, config={}, **fields)


@contextlib.contextmanager
def apart(act):
    """A process of its own; gives where it says what it does, one line each, and its pid."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE_S))
            with os.fdopen(tell, "w", buffering=1) as words:
                act(lambda word: print(json.dumps(word), file=words, flush=True))
            os._exit(0)
        finally:
            os._exit(9)
    os.close(tell)
    try:
        with os.fdopen(told) as words:
            yield words, pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def at_once(url, acts):
    """Processes that act at the same time, each with a store of its own; what gives their words."""
    with contextlib.ExitStack() as stack:
        voices = [
            stack.enter_context(apart(lambda tell, act=act: act(JobStore(url), tell)))[0]
            for act in acts
        ]
        yield lambda: [[json.loads(line) for line in voice] for voice in voices]


def all_of(url, acts):
    """What such processes have said in all."""
    with at_once(url, acts) as said:
        return said()


def test_four_processes_claim_each_job_once(url, store):
    """Whoever is second looks for another; at the end everything is claimed."""
    with store._writing() as doing:
        jobs = {doing.taken_in(a_job(f"tenant-{number % 7}")).job_id for number in range(300)}
    store.close()

    def claim_all(home):
        def act(store, tell):
            while found := store.candidates(each=4):
                for one in random.sample(found, len(found)):
                    if store.claim(one.job_id, home):
                        tell(one.job_id)

        return act

    claims = all_of(url, [claim_all(home) for home in HOMES])
    claimed = [job_id for one in claims for job_id in one]
    assert len(claimed) == len(jobs)
    assert set(claimed) == jobs
    for home, own in zip(HOMES, claims, strict=True):
        assert {job.job_id for job in store.claimed(home)} == set(own)


def test_nobody_sees_events_out_of_order(url, store):
    """Who has read up to a number has missed nothing before it, however many write."""

    def write(name):
        def act(store, tell):
            for _ in range(25):
                tell(store.create(a_job(name)).job_id)

        return act

    store.close()
    seen = []
    with at_once(url, [write(name) for name in "abcd"]) as said:
        while max(seen, default=0) < 100:
            seen += [event.sequence for event in store.events(max(seen, default=0), limit=7)]
        said()
    assert seen == list(range(1, 101))


def test_a_schedule_fires_once_however_many_want_to(url, store):
    """Four dispatchers, the same instants."""
    parent = store.create(a_job(schedule=Schedule(cron="* * * * *", overlap="allow")))
    store.close()

    def fire(store, tell):
        for instant in range(20):
            if store.fire(parent.job_id, instant):
                tell(instant)

    fired = all_of(url, [fire] * 4)
    assert sorted(instant for one in fired for instant in one) == list(range(20))
    assert store.find(Which(parent_id=parent.job_id)).total == 20


def test_two_models_that_are_ready_at_once_are_two_versions(url, store):
    """Of one name, without a gap."""
    jobs = [store.claim(store.create(a_job(model_name="m")).job_id, "h") for _ in range(20)]
    store.close()

    def finish(part):
        def act(store, tell):
            for job in part:
                ending = Ending(status="COMPLETED", model=Model(sha256="x"))
                tell(store.finish(job.job_id, job.claim.token, ending).model.version)

        return act

    versions = all_of(url, [finish(jobs[place::2]) for place in range(2)])
    assert sorted(versions[0] + versions[1]) == list(range(1, 21))


def test_what_was_answered_survives_a_kill_and_is_done_once(url, store):
    """A client sends each request until it is answered, while the server is killed again and
    again: each job is there once.
    """
    chance = random.Random(7)  # noqa: S311
    answered = {}
    store.close()

    def serve(store, tell):
        tell("up")
        for number in range(len(answered), 10_000):
            once = Once(tenant_id="t", route="POST", key=str(number), body_sha256="b")
            said = store.create(a_job(), once=once, answer=lambda job: job.job_id)
            tell([number, said.answer if isinstance(said, Replayed) else said.job_id])

    kills = 0
    while kills < 12:
        with apart(lambda tell: serve(JobStore(url), tell)) as (words, pid):
            assert json.loads(words.readline()) == "up"
            time.sleep(chance.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            kills += 1
            for line in words:
                number, job_id = json.loads(line)
                assert number not in answered
                answered[number] = job_id
    jobs = {job.job_id for job in store.find(Which(), limit=10_000).jobs}
    assert set(answered.values()) <= jobs
    assert len(answered) == len(set(answered.values()))
    assert len(jobs) <= len(answered) + 1, "one was made, and nobody was told"
    number = len(answered)
    once = Once(tenant_id="t", route="POST", key=str(number), body_sha256="b")
    store.create(a_job(), once=once)
    assert store.find(Which()).total == number + 1


def test_each_job_ends_once_whoever_is_killed(url, store):
    """Dispatchers are killed anywhere between two writes; whoever comes next for the same home
    goes on with its claims.
    """
    chance = random.Random(3)  # noqa: S311
    jobs = {store.create(a_job(model_name="m")).job_id for _ in range(12)}
    store.close()

    def dispatch(home):
        def act(tell):
            store = JobStore(url)
            while True:
                for one in store.candidates()[:2]:
                    tell(store.claim(one.job_id, home) is not None)
                for job in store.claimed(home):
                    token, attempt = job.claim.token, job.became.attempt + 1
                    seen = Seen(status="RUNNING", attempt=attempt, progress=50, used_s=attempt)
                    tell(store.mirror(job.job_id, token, seen) is not None)
                    ending = Ending(status="COMPLETED", model=Model(sha256=home))
                    tell(store.finish(job.job_id, token, ending) is not None)
                tell("round")

        return act

    while store.find(Which(status=("COMPLETED",))).total < len(jobs):
        with apart(dispatch("home-a")) as (one, _), apart(dispatch("home-b")) as (other, _):
            for voice in (one, other):
                for _ in range(chance.randrange(1, 8)):
                    voice.readline()
            time.sleep(chance.uniform(0, 0.02))
    ends = [
        event.job_id
        for event in store.events(0, limit=10_000)
        if event.content.get("status") == "COMPLETED"
    ]
    assert sorted(ends) == sorted(jobs)
    assert [one.version for one in store.models()] == list(range(12, 0, -1))
    for job in store.find(Which(), limit=100).jobs:
        assert job.model.sha256 == job.claim.home
        assert job.became.attempt == max(one.number for one in store.attempts(job.job_id))


def test_who_stands_still_in_a_transaction_hinders_no_reader(url, store):
    """And nobody at all, once it is killed."""
    job = store.create(a_job())

    def write(tell):
        own = JobStore(url)
        with own._writing() as doing:
            doing.locked(job.job_id)
            doing.tell(job.job_id, "acme-corp", ("state", {}))
            tell("locked")
            signal.pause()

    with apart(write) as (words, pid):
        assert words.readline()
        os.kill(pid, signal.SIGSTOP)
        assert store.get(job.job_id) == job
        if url.startswith("postgresql"):
            assert store.claim(job.job_id, "home-a") is None, "it is another one's turn"
    assert until(lambda: store.claim(job.job_id, "home-a"))
    assert len(store.events(0)) == 1


def test_a_request_in_flight_is_done_once(url, store):
    """PostgreSQL tells that it is in flight; with SQLite its end is waited for."""
    once = Once(tenant_id="t", route="POST", key="k", body_sha256="b")
    inside, leave = threading.Event(), threading.Event()
    said = []

    def answer(job):
        inside.set()
        assert leave.wait(PATIENCE_S)
        return job.job_id

    def send():
        said.append(store.create(a_job(), once=once, answer=answer))

    first = threading.Thread(target=send)
    first.start()
    assert inside.wait(PATIENCE_S)
    if url.startswith("postgresql"):
        assert store.create(a_job(), once=once) == Refusal(why="in_flight")
    else:
        threading.Timer(0.2, leave.set).start()
        assert isinstance(store.create(a_job(), once=once), Replayed)
    leave.set()
    first.join(PATIENCE_S)
    (job,) = said
    assert store.create(a_job(), once=once) == Replayed(answer=job.job_id)
    assert store.find(Which()).total == 1


def test_a_server_that_comes_back_is_used_again(server):
    """What was begun meanwhile fails in one line; nothing has to be opened anew."""
    url = server.create_schema("away_for_a_while")
    migrate(url)
    store = JobStore(url)
    job = store.create(a_job())
    server.stop()
    try:
        with pytest.raises(StoreTrouble, match="does not serve") as trouble:
            store.create(a_job())
        assert "secret" not in str(trouble.value)
        assert "\n" not in str(trouble.value)
    finally:
        server.start()
    assert store.get(job.job_id) == job
    assert store.claim(job.job_id, "home-a") is not None
    store.close()


def test_a_server_that_was_away_while_nobody_asked_is_used_as_before(server):
    """None of the connections that it has closed is tried again."""
    url = server.create_schema("away_unnoticed")
    migrate(url)
    store = JobStore(url)
    with store._asking(), store._asking(), store._asking():
        pass
    server.stop()
    server.start()
    job = store.create(a_job())
    assert store.get(job.job_id) == job
    store.close()
