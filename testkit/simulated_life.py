"""One life of the supervisor on a machine that fails in every way it knows.

The daemon, its store, inbox, journal and settings are the real ones; the clock,
the disk below them and the trainers are numbers drawn from one seed. After every
step the life checks what must hold at all times, and now and then that the
machine agrees with the goal once it is left in peace.
"""

import collections
import dataclasses
import errno
import functools
import io
import math
import os
import random
import re

import msgspec

from state.boot_notes import BootNotes
from state.inbox import Inbox
from state.records import Booking, Ledger
from state.store import Store
from supervisor.config import Config
from supervisor.core import ledger as learnt
from supervisor.core import measure, policy
from supervisor.core.facts import Decision, Facts
from supervisor.core.guard import Pressure, Verdict
from supervisor.core.recorded import make_again
from supervisor.core.recovery import Exit
from supervisor.core.seen import Machine
from supervisor.core.slots import assign
from supervisor.daemon import Daemon
from supervisor.host.home import Home
from supervisor.journal import Journal, parse, read
from testkit.builders import DAY_S, HOUR_S, MIDNIGHT
from testkit.fakes import FakeClock, FakeHost, FakePower, FakeRunner, FakeSensors, FakeSentry, Plan
from testkit.place import a_job

LADDERS = (("light", "medium"), ("light",), ("light", "medium", "heavy"))
RUNS = ("alpha", "beta", "gamma", "delta", "omega")
JOBS = ("iota", "kappa")
REQUESTS = ("scale_up", "scale_down", "pin", "unpin", "pause", "resume", "reset")
TARGET_STEPS = 40_000
COMES_AGAIN = 'again = "30 * * * *"\nkept_generations = 1\n'
AGAIN_STEPS = 2_000
"""a target of those that come again"""
SETTLE_TICKS = 60
"""looks within which the machine agrees with the goal: most of them after a kill or a backoff"""
SETTLE_S = 1500.0
"""the same in time: backoff, grace, kill and start-up, and one change of mode"""
FINISH_TICKS = 5000


class Cut(BaseException):
    """The daemon dies here: as by SIGKILL, no handler of its own may matter."""


class Fuse:
    """Kills the daemon at the n-th effect from now."""

    def __init__(self):
        self.left = math.inf

    def __call__(self):
        """An effect is about to happen, or has just happened."""
        self.left -= 1
        if self.left <= 0:
            self.left = math.inf
            raise Cut

    @property
    def last(self):
        return self.left <= 1


class FaultyDisk:
    """The `os` of the modules that write: a disk that fills up, on a machine that may die.

    Nothing is flushed: what a power cut does to a disk is not simulated here.
    """

    def __init__(self, fuse):
        self._fuse = fuse
        self.mend()

    def __getattr__(self, name):
        return getattr(os, name)

    def mend(self):
        self.space = math.inf
        self.sync_fails = False
        self.links_fail = False

    def write(self, handle, content):
        content = bytes(content)
        if self._fuse.last:
            os.write(handle, content[: len(content) // 2])
        self._fuse()
        fitting = content[: int(min(self.space, len(content)))]
        self.space -= len(fitting)
        if content and not fitting:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, fitting)

    def fsync(self, handle):
        self._fuse()
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def link(self, source, target, **how):
        self._fuse()
        if self.links_fail:  # the state cannot be saved, and the log can
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.link(source, target, **how)
        self._fuse()


class WatchedStore(Store):
    """The real store; it remembers which memory the next start will load."""

    def __init__(self, path, life):
        super().__init__(path)
        self._life = life

    def save(self, memory):
        self._life.unsaved = True
        super().save(memory)
        self._life.unsaved = False
        self._life.remember(memory)


class DeadlyInbox(Inbox):
    """The real inbox, where the daemon may die at each removal."""

    def __init__(self, folder, fuse):
        super().__init__(folder)
        self._fuse = fuse

    def remove(self, request):
        self._fuse()
        super().remove(request)
        self._fuse()


class DeadlyRunner(FakeRunner):
    """The fake runner, where the daemon may die around each effect; it refuses what is unsafe."""

    def __init__(self, life):
        super().__init__(life.host)
        self._life = life

    def start(self, spec, *, nice, attempt, boot):
        self._life.fuse()
        self._life.check_start(spec)
        process = super().start(spec, nice=nice, attempt=attempt, boot=boot)
        self._life.fuse()
        return process

    def keep_warm(self, specs, *, memory_max_mib):
        memory = self._life.daemon.memory
        assert not specs or memory.goal.trains or memory.running, "an idle machine is loaded"
        return super().keep_warm(specs, memory_max_mib=memory_max_mib)

    def stop(self, run_id, *, dump):
        self._life.fuse()
        super().stop(run_id, dump=dump)
        self._life.fuse()

    def kill(self, run_id):
        self._life.fuse()
        super().kill(run_id)
        self._life.fuse()

    def freeze(self, run_id):
        self._life.fuse()
        super().freeze(run_id)
        self._life.fuse()

    def thaw(self, run_id):
        self._life.fuse()
        super().thaw(run_id)
        self._life.fuse()

    def remove(self, run_id):
        self._life.fuse()
        self._life.forget(run_id)
        refused = super().remove(run_id)
        self._life.fuse()
        return refused


def _first(run_id):
    """The id that a run of the campaign has in the first generation."""
    return re.sub(r"-g\d+$", "", run_id)


class SimulatedLife:
    """A home, a machine, and whoever supervises it at the moment.

    Args:
        seed: decides everything that happens.
        folder: where the home lies; empty.
        monkeypatch: puts the faulty disk below the real modules.
    """

    def __init__(self, seed, folder, monkeypatch):
        self.chance = random.Random(seed)  # noqa: S311 - an attempt that can be lived again
        self.clock = FakeClock("19:27")
        self.fuse = Fuse()
        self.disk = FaultyDisk(self.fuse)
        for module in ("trainers.durable", "state.store"):
            monkeypatch.setattr(f"{module}.os", self.disk)
        self.host = FakeHost(self.clock, self._plan)
        self.home = Home(folder)
        self.home.make()
        self._ladder = self.chance.choice(LADDERS)
        self._policy = self.chance.choice(("ledger", "fixed"))
        self._malice = self.chance.choice((0.0, 0.2, 0.7))
        """the share of trainers that do not live as they should"""
        self._runs = list(RUNS)
        self._sentry = FakeSentry()
        self._guarded = self.chance.random() < 0.5
        # A chance of its own: the lives of those without it are what they were.
        self._again = random.Random(f"{seed} again").random() < 0.5  # noqa: S311 - as above
        self._dues = {}
        """the instants at which generations were due, by their numbers"""
        self._removed = collections.Counter()
        """steps in folders that were removed, by run of the settings"""
        self._write_settings()
        self._config = Config(self.home.settings)
        self.daemon = None
        self.due_s = 0.0
        self.diary = []
        self.saved = None
        self.unsaved = False
        """the last save failed"""
        self.recorded_boots = collections.defaultdict(set)
        """boots at which a memory was saved, by when it began: a reset begins another one"""
        self._planned_boots = set()
        self._clean = False
        self._calm = False
        self._leaving = False
        self._lines = []
        """the decision log, read so far"""
        self._log_offset = 0
        self._ledger = Ledger()
        """the ledger that the log has led to; None: unknown until a decision holds it"""
        self._told_mode = None
        """the mode that the chain of `mode.changed` lines has led to"""
        self._in_doubt = False
        """a daemon died that had not saved: what it decided may be logged, and is forgotten"""
        self._requests = {}
        """how often each request was answered"""
        self._cursed = self.chance.choice((None, *RUNS))
        """this run dies at the same step, again and again"""
        self._disk_was_faulty = False

    # What happens

    def event(self):
        """One thing happens, and everything is checked."""
        happens = self.chance.choices(
            (
                self.pass_time,
                self._reboot,
                self._planned_reboot,
                self._daemon_dies,
                self._set_clock,
                self._suspend,
                self._request,
                self._job,
                self._rewind,
                self._disk_fails,
                self._settings_change,
                self._others_press,
                self.settle,
            ),
            weights=(60, 8, 3, 12, 3, 2, 8, 6, 3, 3, 3, 8, 4),
        )[0]
        self._note(happens.__name__)
        happens()

    def pass_time(self):
        """Time passes until the daemon is due, or until something wakes it before."""
        wait_s = min(self.due_s, self.host.next_end_s())
        if self.chance.random() < 0.2:
            wait_s *= self.chance.random()
        self.clock.advance(wait_s + 1e-3)
        self.tick()

    def tick(self):
        """The daemon looks, or is brought to life first; it may die at it."""
        try:
            if self.daemon is None:
                self._begin()
            self.due_s = self.daemon.tick("event")
            assert self.due_s >= 0.05
        except Cut:
            self._end_daemon("died")
        self.check()

    def _reboot(self):
        """The machine goes down, sometimes as soon as it is up; nobody is asked."""
        for _ in range(self.chance.choice((1, 1, 1, 2, 4))):
            self._end_daemon("the machine went down")
            self._go_down(self.chance.choice((0.0, 20.0, 600.0, 3 * DAY_S)))
            self.clock.advance(self.chance.choice((1.0, 30.0, 240.0)))
            self.tick()

    def _planned_reboot(self):
        left, self._leaving = False, True
        for _ in range(SETTLE_TICKS):
            try:
                if self.daemon is None:
                    self._begin()
                left = self.daemon.leave()
                if left:
                    break
            except Cut:
                self._end_daemon("died while stopping")
                continue
            self.check()
            self.clock.advance(min(5.0, self.host.next_end_s() + 1e-3))
        self._leaving = False
        self._clean = left and not self.unsaved  # else systemd had to kill it in the end
        self._end_daemon("left")
        if self.chance.random() < 0.8:
            self._go_down(60.0)
        self.tick()

    def _daemon_dies(self):
        """The daemon dies at some effect of its next looks, or before; then it is back."""
        if self.chance.random() < 0.2:
            self._end_daemon("killed between two looks")
        self.fuse.left = self.chance.randint(1, 25)
        for _ in range(self.chance.randint(1, 4)):
            self.pass_time()

    def _set_clock(self):
        wall = self.clock.read().wall
        wall = self.chance.choice((0.0, wall + DAY_S, wall - 14 * DAY_S, MIDNIGHT))
        self.clock.set_wall(wall + self.chance.random())

    def _suspend(self):
        self.clock.suspend(8 * HOUR_S)
        self.tick()

    def _request(self):
        kind = self.chance.choice(REQUESTS if self.chance.random() < 0.6 else REQUESTS[:-1])
        mode = self.chance.choice((*self._ladder, "unheard-of")) if kind == "pin" else None
        self._put(kind, mode)
        self.tick()

    def _job(self):
        """A program submits a run that no settings name, or wants it no more."""
        name = self.chance.choice(JOBS)
        match self.chance.randrange(4):
            case 0:
                self._put("cancel", run=f"job-{name}")
            case 1:
                self._put("withdraw", run=f"job-{name}")
            case _:
                rank = self.chance.choice(("low", "normal", "high"))
                token = f"{self.chance.randrange(100)}"
                self._put("submit", asked=a_job(name, steps=9000, rank=rank, token=token))
        self.tick()

    def _rewind(self):
        """A person has a run go on from elsewhere, whatever it is at, or one that is nowhere."""
        run = self.chance.choice((*(f"drill-{name}" for name in RUNS), f"job-{JOBS[0]}"))
        step = self.chance.randrange(TARGET_STEPS)
        checkpoint = self.chance.choice(("start", str(step), f"beside-{step}"))
        self._put("rewind", run=run, checkpoint=checkpoint)
        self.tick()

    def _put(self, kind, mode=None, **fields):
        """A person asks, and sees to it that the request arrives."""
        faults = vars(self.disk).copy()
        left = self.fuse.left
        self._mend()
        request = Inbox(self.home.inbox).put(
            kind, mode=mode, by="ada", at=self.clock.read().wall, **fields
        )
        vars(self.disk).update(faults)
        self.fuse.left = left
        self._requests[request.id] = 0
        self._note(f"ada requests {kind} {mode or ''}")

    def _disk_fails(self):
        """The disk is full, or flushes nothing, or saves no state, for a while."""
        match self.chance.randrange(3):
            case 0:
                self.disk.space = self.chance.randint(0, 5000)
            case 1:
                self.disk.sync_fails = True
            case 2:
                self.disk.links_fail = True
        self._disk_was_faulty = True
        for _ in range(self.chance.randint(1, 8)):
            self.event()
        self._mend()

    def _settings_change(self):
        """A person edits the campaign, or the ladder gains or loses a mode file."""
        if self.chance.random() < 0.2:
            self._guarded = not self._guarded
        elif self.chance.random() < 0.5:
            self._runs = self.chance.sample(RUNS, self.chance.randint(1, len(RUNS)))
        else:
            self._ladder = self.chance.choice(LADDERS)
        self._write_settings()
        self.tick()

    def _others_press(self):
        """The guard wants something else than before, if it is on."""
        answer = self.chance.choice(("hold", "free", "freeze", "freeze", "evict"))
        seen = Pressure(cpu_other=self.chance.random() * 100)
        self._sentry.answer = Verdict(answer=answer, cause="cpu", pressure=seen)
        self.tick()

    def _mend(self):
        self.disk.mend()
        self.fuse.left = math.inf

    def remember(self, memory):
        """From now on `memory` is what the next start will load."""
        self.saved = memory
        known = memory.generations
        if known is not None and known.due_at is not None:
            self._dues[known.number] = known.due_at
            assert len(set(self._dues.values())) == len(self._dues), "two for one instant"
        self.recorded_boots[memory.began_at].add(memory.timeline.boot_id)

    def forget(self, run_id):
        """A folder is removed: what was kept in it was kept all the same."""
        present = self.saved.generations.number
        assert not any(run_id == run.id for run in self.saved.runs)
        assert present > 1, "removed before there was another one"
        folder = self.host.folders.get(run_id)
        if folder is not None:
            self._removed[_first(run_id)] += folder.step + folder.beside

    # How it all goes on

    def settle(self):
        """Left in peace, the machine soon agrees with the goal, and then the daemon rests."""
        self._calm_down()
        until_s = self._now_s() + SETTLE_S
        for _ in range(SETTLE_TICKS):
            self.pass_time()
            if self._agrees():
                break
        else:
            raise AssertionError(f"no agreement: {self._picture()}")
        assert self._now_s() <= until_s, f"agreement came late: {self._picture()}"
        self._check_books(self.daemon.memory)
        assert not any(self.home.inbox.glob("*.json")), "a request is left lying"
        assert all(self._requests.values()), "a request was not answered"
        rested_s = 0.0
        for _ in range(6):
            before = self._statuses()
            rested_s += self.due_s
            self.pass_time()
            if self._statuses() != before:
                break
        else:
            assert rested_s > 3.0, f"the daemon does not rest: {self._picture()}"
        self._calm = False

    def finish(self):
        """Once the faults end and nobody pauses it, the campaign comes to its end."""
        self._calm_down()
        self.tick()
        if self.daemon.memory.goal.paused:
            self._put("resume")
        for _ in range(FINISH_TICKS):
            self.pass_time()
            if self.daemon.memory.resting:
                break
        else:
            raise AssertionError(f"never done: {self._picture()}")
        assert not self.host.mains()
        self.settle()
        self._think_again()

    def _think_again(self):
        """Every turn that was written down gives what it gave."""
        turns = make_again(read(self.home.turns))
        assert turns.first is None, f"a turn comes out otherwise: {turns.first}"
        assert turns.turns
        assert self._disk_was_faulty or not turns.gaps + turns.unreadable

    def _begin(self):
        self._read_log()
        if self._in_doubt or self.saved is None:
            self._told_mode = self._remembered_mode()
            self._in_doubt = False
        self.daemon = Daemon(
            config=self._config,
            clock=self.clock,
            store=WatchedStore(self.home.state, self),
            inbox=DeadlyInbox(self.home.inbox, self.fuse),
            boot_notes=BootNotes(self.home.boot_notes),
            runner=DeadlyRunner(self),
            journal=Journal(self.home, io.StringIO()),
            sensors=FakeSensors(),
            power=FakePower(),
            sentry=self._sentry,
            machine=Machine(cores=4, parts={"kernel": "6.1"}, zone="UTC"),
            windows=self.home.windows,
        )
        self._note("a daemon begins")
        self.daemon.start()
        self._clean = False

    def _remembered_mode(self):
        """The mode of the saved memory, before the lines that it still has to deliver."""
        if self.saved is None:
            return self._ladder[0]
        told = self._lines[-1]["seq"] if self._lines else 0
        pending = [line for line in self.saved.outbox if line["seq"] > told and "new" in line]
        return pending[0]["old"] if pending else self.saved.goal.mode

    def _end_daemon(self, how):
        self._in_doubt = self._in_doubt or self.unsaved
        if self.unsaved and (saved := Store(self.home.state).peek()[0]):
            self.remember(saved)  # it may have died when the save had taken effect already
        self.daemon, self.due_s = None, 0.0
        self.fuse.left = math.inf
        self._note(how)

    def _go_down(self, off_s):
        self.host.power_off()
        self.clock.reboot(off_s=off_s, up_s=self.chance.choice((5.0, 60.0)))
        if self._in_doubt:
            self._clean = self.saved is not None and self.saved.clean_stop
        if self._clean:
            self._planned_boots.add(self.clock.boot_id)
        self._clean = False
        self._note(f"boot {self.clock.boot_id[-4:]}")

    def _calm_down(self):
        """From now on nothing new goes wrong."""
        self._mend()
        self._calm = True
        self._sentry.answer = Verdict(answer="free", cause="calm")
        for process in self.host.processes():
            process.plan = dataclasses.replace(
                process.plan, unkillable_s=0.0, workers_unkillable_s=0.0
            )

    def _plan(self, spec):
        """How a trainer will live: as it should, or not."""
        chance = self.chance
        if self.disk.space < math.inf:
            return None
        if spec.name == self._cursed and not self._calm:
            return Plan(ends_s=20.0)
        if self._calm or chance.random() >= self._malice:
            return Plan(hello_s=chance.uniform(0.5, 20), stops_s=chance.uniform(0.5, 60))
        soon_s = chance.choice((0.5, 30.0, 900.0, 4000.0))
        ends = (Exit(code=1), Exit(signal=11), Exit(signal=9), Exit(signal=9, oom_kill=True))
        return chance.choice(
            (
                None,
                Plan(ends_s=soon_s, end=chance.choice(ends), workers=chance.choice((0, 2))),
                Plan(ends_s=soon_s, workers=1, workers_unkillable_s=chance.choice((0, 5, 300))),
                Plan(hangs_s=soon_s, unkillable_s=chance.choice((0, 5, 300))),
                Plan(stops_s=math.inf, workers=2, unkillable_s=chance.choice((0, 5, 300))),
                Plan(hello_s=soon_s, learns_s=soon_s + 1),
            )
        )

    def _write_settings(self):
        """A small campaign; each run counts for about an hour."""
        folder = self.home.path / "modes"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.stem not in self._ladder:
                path.unlink()
        for rung, name in enumerate(self._ladder):
            load = f"rung = {rung}\nslots = {rung + 1}\n"
            (folder / f"{name}.toml").write_text(load + 'prefer = ["gamma"]\n')
        names = ", ".join(f'"{name}"' for name in self._runs)
        self.home.settings.write_text(
            f'modes_dir = "modes"\n[policy]\nname = "{self._policy}"\n'
            f'[campaign]\ntrainer = "drill"\nruns = [{names}]\n'
            + (COMES_AGAIN if self._again else "")
            + f"target.steps = {AGAIN_STEPS if self._again else TARGET_STEPS}\n"
            + '[warm]\ntrainers = ["drill"]\n'
            "[logs]\nturns = true\n" + ("[guard]\n" if self._guarded else "")
        )

    # What must hold

    def check(self):
        """Everything that is true at every moment."""
        mains = self.host.mains()
        modes = {main.spec.mode for main in mains}
        assert len(modes) <= 1, f"two modes train together: {self._picture()}"
        runs = [main.run for main in mains]
        assert len(runs) == len(set(runs)), f"two trainers of one run: {self._picture()}"
        self._read_log()
        if self.daemon is not None:
            self._check_boots(self.daemon.memory)
            self._check_memory(self.daemon.memory)

    def check_start(self, spec):
        """What must be true before a trainer may start."""
        alive = self.host.processes(spec.run)
        assert not alive, f"{spec.run} starts beside {len(alive)} of its own"
        if not self.unsaved:
            assert self.saved.goal.mode == spec.mode, "started before the goal was saved"
            assert self.saved.goal.trains
            (run,) = (run for run in self.saved.runs if run.id == spec.run)
            assert run.status == "running"
            assert run.attempt.mode == spec.mode
            known = self.saved.generations
            assert run.is_job or run.asked.generation == (1 if known is None else known.number)

    def _check_boots(self, memory):
        """Each boot stands there once, and only a clean stop makes it a planned one."""
        ids = [boot.boot_id for boot in memory.boots]
        assert len(ids) == len(set(ids)), "a boot counted twice"
        assert set(ids) == self.recorded_boots[memory.began_at] | {self.clock.boot_id}
        assert [boot.seq for boot in memory.boots] == list(range(1, len(ids) + 1))
        assert memory.boots_total == len(ids)
        for boot in memory.boots[1:]:
            assert boot.crash is (boot.boot_id not in self._planned_boots)
        assert memory.crashes_total == sum(boot.crash for boot in memory.boots)

    def _check_memory(self, memory):
        visit = memory.visit
        assert 0 <= visit.stable_s <= visit.running_s + 1e-6
        frozen = [run.id for run in memory.runs if run.attempt.frozen_s is not None]
        assert memory.goal.frozen or not frozen, f"{frozen} frozen for nothing"
        assert visit.running_s <= memory.timeline.now_s - visit.entered_s + 1e-6
        assert list(visit.crashes_s) == sorted(visit.crashes_s)
        # Whoever leaves decides nothing more: what is edited then is seen at the next start.
        assert self._leaving or memory.goal.mode in self._config.ladder.names
        if not memory.outbox and self._ledger is not None:
            ledger = functools.reduce(learnt.booked, memory.bookings, self._ledger)
            assert ledger == memory.ledger, "the log does not lead to the ledger"
        if not memory.outbox:
            assert self._told_mode == memory.goal.mode, "a change of mode without its line"

    def _check_books(self, memory):
        """No hour is booked twice, and no step that is not saved."""
        modes = memory.ledger.modes.values()
        assert 3600 * sum(mode.hours for mode in modes) <= memory.timeline.now_s + 1e-6
        known = [*(mode.work for mode in modes), *memory.stretch.work.values()]
        for run in memory.runs:
            kind = measure.kind(run)
            kept = sum(work[kind].steps for work in known if kind in work)
            first = _first(run.id)
            saved = self._removed[first] + sum(
                folder.step + folder.beside
                for run_id, folder in self.host.folders.items()
                if _first(run_id) == first
            )
            assert kept <= saved + 1e-6, f"{run.id} has saved {saved} steps, and kept {kept}"

    def _read_log(self):
        """Every new line is numbered, and every decision can be made again from its facts."""
        if not self.home.decisions.exists():
            return
        with self.home.decisions.open("rb") as log:
            log.seek(self._log_offset)
            raw = log.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._log_offset += len(whole)
        for line in parse(whole.splitlines()):
            last = self._lines[-1]["seq"] if self._lines else 0
            assert line["seq"] > last, f"line {line['seq']} after line {last}"
            if line["seq"] != last + 1:
                assert self._disk_was_faulty, f"lines between {last} and {line['seq']} are gone"
                self._ledger = None
            self._lines.append(line)
            self._check_line(line)

    def _check_line(self, line):
        self._note(f"log: {line['event']} {line.get('run', '')} {line['reason']}")
        if "request" in line:
            self._requests[line["request"]] += 1
            assert self._requests[line["request"]] == 1 or self._disk_was_faulty, "answered twice"
        if line["event"] == "state.lagged":
            assert self._disk_was_faulty
            self._ledger = None
        for booking in line.get("bookings", ()) if self._ledger is not None else ():
            self._ledger = learnt.booked(self._ledger, msgspec.convert(booking, Booking))
        if "decision" in line:
            facts = msgspec.convert(line["facts"], Facts)
            decision = msgspec.convert(line["decision"], Decision)
            again = policy.decide(facts)
            assert again == decision, f"decided differently: {again}"
            assert (line["rule"], line["reason"]) == (decision.rule, decision.reason)
            if self._ledger is not None:
                assert learnt.booked(self._ledger, facts.booking) == facts.ledger
            if facts.request is not None and facts.request.kind == "reset":
                self._ledger = Ledger()
            elif decision.ledger is not None:
                self._ledger = decision.ledger
        if line["event"] == "mode.changed":
            assert line["rule"]
            assert line["reason"]
            assert line["old"] == self._told_mode or self._in_doubt
            self._told_mode = line["new"]

    def _agrees(self):
        """The living trainers are those that the goal wants, and nothing is left over."""
        memory, mode = self.daemon.memory, self._config.ladder[self.daemon.memory.goal.mode]
        wanted = () if not memory.goal.trains else assign(memory.runs, mode, memory.timeline)
        mains = self.host.mains()
        return (
            {main.run for main in mains} == set(wanted)
            and all(main.spec.mode == mode.name for main in mains)
            and all(run.status == "running" for run in memory.runs if run.id in wanted)
            and len(self.host.processes()) == len(mains)
            and not any(main.stood.still for main in mains)
        )

    def _statuses(self):
        return [(run.id, run.status) for run in self.daemon.memory.runs], self.daemon.memory.goal

    def _now_s(self):
        return self.clock.read().boottime_s

    def _picture(self):
        memory = self.daemon.memory if self.daemon else self.saved
        runs = [f"{run.id} {run.status} in {run.attempt.mode}, {run.reason}" for run in memory.runs]
        alive = [f"{p.run} {p.spec.mode if p.spec else 'worker'}" for p in self.host.processes()]
        return f"goal {memory.goal}, runs {runs}, alive {alive}, due in {self.due_s} s"

    def _note(self, text):
        self.diary.append(f"{self._now_s():9.1f} {text}")
