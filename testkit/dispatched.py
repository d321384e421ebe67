"""A home with a real daemon on a machine of numbers, a real job store, and a dispatcher between."""

import time

import msgspec

from state.jobs.records import NewJob
from state.jobs.store import JobStore
from supervisor.config import Config
from supervisor.jobs.dispatcher import Dispatcher
from testkit.place import Place

BOX = '[campaign]\nruns = []\ntrainer = "drill"\n'


def a_job(tenant="acme-corp", *, steps=300, **fields):
    """A job that counts, as the API takes it in."""
    config = {"trainer": "drill", "target": {"steps": steps}}
    return NewJob(**{"tenant_id": tenant, "config": config, "trainer": "drill"} | fields)


class Timed(JobStore):
    """The store, whose looks are told the time of the tests."""

    def __init__(self, url, clock):
        super().__init__(url)
        self._clock = clock

    def now(self):
        return super().now()._replace(at=self._clock.read().wall)


class Dispatched(Place):
    """Such a home, whose dispatcher looks after each look of the daemon.

    Args:
        folder: where the home lies; empty.
        url: of the job store.
        plans: run name -> how each life of its trainer goes.
        settings: its settings file.
    """

    def __init__(self, folder, url, plans=None, settings=BOX):
        self.url, self.said = url, []
        super().__init__(folder, settings, plans)
        self.ask("pin", mode="light")
        self.held = None
        self.rise()
        self.store = Timed(url, self.clock)
        self.dispatch()

    def begin(self):
        # The store tells most times by the clock of its database, which is not made up.
        self.clock.set_wall(max(self.clock.read().wall, time.time()))  # noqa: TID251 - as above
        super().begin()

    def rise(self):
        """A supervisor holds the home, as whoever looks can see."""
        self.held = self.home.taken(self.clock.read())
        self.held.__enter__()

    def fall(self):
        """None does any more."""
        self.held.__exit__(None, None, None)
        self.held = None

    def dispatch(self, **more):
        """A dispatcher comes to life, which knows nothing of the one before."""
        self.dispatcher = Dispatcher(
            self.home,
            Config(self.home.settings),
            self.home.path,
            open_store=lambda: Timed(self.url, self.clock),
            clock=self.clock,
            say=self.said.append,
            **more,
        )

    def turn(self, turns=1, after_s=5.0):
        """Time passes; the dispatcher looks, and the daemon, if it lives, and the former again."""
        for _ in range(turns):
            self.clock.advance(after_s)
            self.dispatcher.step()
            if self.held is not None:
                self.daemon.tick("time")
            self.speak()
            self.dispatcher.step()

    def speak(self):
        """What trainers have said lies where real ones would have written it."""
        self.host.processes()
        for run_id, folder in self.host.folders.items():
            if folder.heartbeat is not None:
                path = self.home.run(run_id).heartbeat
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(msgspec.json.encode(folder.heartbeat))

    def until(self, job_id, status, turns=200, after_s=5.0):
        """Turns until the job has that status; the job."""
        for _ in range(turns):
            job = self.store.get(job_id)
            if job.became.status == status:
                return job
            self.turn(after_s=after_s)
        raise AssertionError(f"{job.became} instead of {status}; {self.said}")

    def submit(self, **fields):
        """A job is taken in; its id."""
        return self.store.create(a_job(**fields)).job_id

    def ends(self, job_id):
        """How often the job was told to have ended, and how."""
        events = self.store.events(0, job_id=job_id)
        told = [one.content.get("status") for one in events if one.kind == "state"]
        return [one for one in told if one in ("COMPLETED", "FAILED", "CANCELLED")]

    def close(self):
        self.dispatcher.close()
        self.store.close()
        if self.held is not None:
            self.fall()
