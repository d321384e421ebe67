"""A home with a real daemon on a machine of numbers, for tests that look at it time after time."""

import io

import msgspec

from state.answers import Answers
from state.boot_notes import BootNotes
from state.inbox import Inbox
from state.records import Asked
from state.store import Store
from supervisor.config import Config
from supervisor.core.seen import Machine
from supervisor.daemon import Daemon
from supervisor.host.home import Home
from supervisor.journal import Journal, tail
from testkit.fakes import FakeClock, FakeHost, FakePower, FakeRunner, FakeSensors, FakeSentry, Plan
from trainers.contract import Target


def a_daemon(home, clock, runner, **given):
    """A daemon of that home, of which only the clock, the runner and the machine are made up."""
    parts = {
        "config": Config(home.settings),
        "store": Store(home.state),
        "inbox": Inbox(home.inbox),
        "boot_notes": BootNotes(home.boot_notes),
        "journal": Journal(home, io.StringIO()),
        "sensors": FakeSensors(),
        "power": FakePower(),
        "sentry": FakeSentry(),
        "machine": Machine(cores=4, parts={}, zone="UTC"),
        "windows": home.windows,
    }
    return Daemon(clock=clock, runner=runner, **parts | given)


class Place:
    """A home, its machine and its daemon, which has looked once.

    Args:
        folder: where the home lies; empty.
        settings: its settings file.
        plans: run name -> how each life of its trainer goes, as things stand when it starts.
    """

    def __init__(self, folder, settings, plans=None):
        self.home = Home(folder)
        self.home.make()
        self.home.settings.write_text(settings)
        self.clock, self.plans = FakeClock(), dict(plans or {})
        self.host = FakeHost(self.clock, lambda spec: self.plans.get(spec.name, Plan()))
        self.inbox = Inbox(self.home.inbox)
        self.sentry = FakeSentry()
        self.begin()

    def begin(self):
        """A daemon comes to life, over what the one before has left."""
        machine = Machine(cores=4, parts={}, zone="UTC", home=self.home.place)
        self.daemon = a_daemon(
            self.home, self.clock, FakeRunner(self.host), sentry=self.sentry, machine=machine
        )
        self.daemon.start()
        self.look(0.0)

    def look(self, after_s=5.0):
        """Time passes, and the daemon looks once; seconds until it is due again."""
        self.clock.advance(after_s)
        return self.daemon.tick("time")

    def settle(self, looks=8, after_s=5.0):
        """Some looks, one after the other."""
        for _ in range(looks):
            self.look(after_s)

    def put(self, kind, **fields):
        """Ada asks; the id of what she asks."""
        return self.inbox.put(kind, by="ada", at=self.clock.read().wall, **fields).id

    def ask(self, kind, **fields):
        """Ada asks, and a look later has the answer."""
        request = self.put(kind, **fields)
        self.look()
        return self.answer(request)

    def answer(self, request):
        return Answers(self.home.answers).read(request)

    def run(self, name=None):
        """The run of that name, in the queue or as it left it; without a name the first one."""
        runs = self.daemon.memory.runs
        gone = [left.run for left in Store(self.home.state).archive.find().values()]
        known = [*runs, *reversed(gone)]
        return next((run for run in known if name in (None, run.name)), None)

    def queue(self):
        return [run.name for run in self.daemon.memory.runs]

    def training(self):
        """The names of the runs whose trainers live."""
        return sorted(process.spec.name for process in self.host.mains())

    def lines(self, event, run=None):
        """What the log has of an event."""
        lines = tail(self.home.decisions, 10_000)
        return [one for one in lines if one["event"] == event and run in (None, one.get("run"))]


def a_job(name="job", *, steps=1_000_000, **fields):
    """What is asked for in a submitted run of that name; its token is its name again."""
    given = {
        "id": f"job-{name}",
        "trainer": "drill",
        "name": name,
        "seed": 1,
        "target": Target(unit="steps", count=steps),
        "origin": "job",
        "token": name,
    }
    return Asked(**{**given, **fields})


def but(asked, **fields):
    """The same, with these fields replaced."""
    return msgspec.structs.replace(asked, **fields)
