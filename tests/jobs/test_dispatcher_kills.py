"""Whatever is killed, and between whichever two steps: each job ends exactly once."""

from __future__ import annotations

import random

from state.inbox import Inbox
from state.jobs.store import JobStore
from testkit.dispatched import Dispatched
from testkit.series import sample_of_a_series

AT_ONCE = 20
"""jobs in one place"""
TURNS_MAX = 3000
STORE = ("claim", "mirror", "finish", "take_over", "fire", "claimed", "candidates", "tenants")


class Killed(BaseException):
    """A dispatcher is no more."""


class Death:
    """Comes to a dispatcher before or after something that it does; never, if it is not told to."""

    def __init__(self):
        self.in_acts = None
        self.times = 0

    def around(self, act):
        def mortal(*given, **named):
            if self.in_acts is None:
                return act(*given, **named)
            self.come()
            done = act(*given, **named)
            self.come()
            return done

        return mortal

    def come(self):
        """One moment more has passed in which it might."""
        self.in_acts -= 1
        if self.in_acts == 0:
            self.times += 1
            raise Killed


def live(place, chance, death):
    """One turn of a place in which somebody may die."""
    blow = chance.random()
    death.in_acts = chance.randint(1, 30) if blow < 0.4 else None
    try:
        place.turn(after_s=chance.choice((1.0, 5.0, 20.0)))
    except Killed:
        place.dispatch()
    finally:
        death.in_acts = None
    if 0.4 <= blow < 0.5:  # the daemon dies, and its trainers live on
        place.begin()
    elif 0.5 <= blow < 0.53:
        place.host.power_off()
        place.clock.reboot(off_s=chance.choice((30.0, 3600.0)))
        place.begin()
        place.dispatch()


def all_end(place, chance, death, count):
    """So many jobs are submitted, some are cancelled, and each ends once."""
    cancelled, jobs = set(), []
    for number in range(min(count, AT_ONCE)):
        rank = chance.choice(("critical", "high", "normal", "low"))
        fields = {"tenant": f"tenant-{number % 3}", "priority": rank}
        jobs.append(place.submit(steps=chance.randint(50, 1500), **fields))
    left = set(jobs)
    for _ in range(TURNS_MAX):
        live(place, chance, death)
        if chance.random() < 0.01:
            job_id = chance.choice(jobs)
            cancelled.add(job_id)
            place.store.cancel(job_id)
        left = {job_id for job_id in left if not place.store.get(job_id).ended}
        if not left:
            break
    place.turn(6)
    assert not left
    for job_id in jobs:
        job = place.store.get(job_id)
        assert place.ends(job_id) == [job.became.status]
        assert job.became.attempt <= 1
        if job_id not in cancelled:
            assert job.became.status == "COMPLETED"
    assert place.queue() == []
    place.close()


def test_each_job_ends_once_whoever_is_killed(home, url, monkeypatch):
    """The dispatcher between two of its acts, the daemon between two looks, or the machine."""
    count, seed = sample_of_a_series(10)
    for first in range(0, count, AT_ONCE):
        chance = random.Random(f"{seed} {first}")  # noqa: S311 - a series that can be had again
        death = Death()
        with monkeypatch.context() as patched:
            for name in STORE:
                patched.setattr(JobStore, name, death.around(getattr(JobStore, name)))
            patched.setattr(Inbox, "put", death.around(Inbox.put))
            place = Dispatched(home / f"box-{first}", url)
            all_end(place, chance, death, count - first)
        assert death.times > 3
