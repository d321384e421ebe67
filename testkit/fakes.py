"""A machine made of numbers: clocks, sensors, and trainers that live and die on time.

Nothing here waits. Time moves by `FakeClock.advance` alone, and everything that a
fake trainer does follows from its plan and the clock.
"""

import datetime as dt
import itertools
import math
from dataclasses import dataclass, field, replace

import msgspec

from state.records import Process
from supervisor.core.guard import Verdict
from supervisor.core.moments import Moment
from supervisor.core.readings import Readings
from supervisor.core.recovery import Exit, Observation, alive_s
from supervisor.runners import StartFailed
from testkit.builders import MIDNIGHT
from trainers.contract import EXIT_AGAIN, EXIT_DONE, Heartbeat, Mark, Stood

CHECKPOINT_S = 90.0
AT_REST = Readings(cpu_percent=12.5, memory_percent=30.0)
CRASHED = Exit(code=1)


class FakeClock:
    """Clocks that stand still until they are told.

    Args:
        start: the wall time of the first day, as HH:MM.
    """

    def __init__(self, start="00:00"):
        self._boots = itertools.count(1)
        self._wall = at(start)
        self._begin(up_s=10.0)

    def read(self):
        return Moment(
            wall=self._wall,
            monotonic_s=self._monotonic_s,
            boottime_s=self._boottime_s,
            boot_id=self.boot_id,
        )

    def advance(self, seconds):
        """Time passes on a running machine."""
        self.suspend(seconds)
        self._monotonic_s += seconds

    def suspend(self, seconds):
        """Time passes while the machine sleeps."""
        self._wall += seconds
        self._boottime_s += seconds

    def set_wall(self, wall):
        """Somebody, or NTP, sets the wall clock."""
        self._wall = wall

    def reboot(self, *, off_s=0.0, up_s=10.0):
        """The machine goes down, stays off, and is `up_s` into its next boot."""
        self._wall += off_s + up_s
        self._begin(up_s)

    def _begin(self, up_s):
        self.boot_id = f"{next(self._boots):032x}"
        self._monotonic_s = self._boottime_s = up_s


class FakeTime:
    """A monotonic clock as a function, which moves only when it is told to."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s

    def advance(self, seconds):
        self.now_s += seconds


def at(time_of_day):
    """The wall time of HH:MM on the first day; hours beyond 23 are on the next ones."""
    hours, minutes = time_of_day.split(":")
    return MIDNIGHT + 3600 * int(hours) + 60 * int(minutes)


def time_of_day(wall):
    """The inverse of `at`, for a wall time on the first day."""
    return f"{dt.datetime.fromtimestamp(wall, dt.UTC):%H:%M}"


@dataclass
class FakeSensors:
    """A machine at rest, unless a test says otherwise."""

    readings: Readings = AT_REST

    def read(self):
        return self.readings


@dataclass
class FakeSentry:
    """Nobody else needs the machine, unless a test says otherwise."""

    answer: Verdict = field(default_factory=lambda: Verdict(answer="free", cause="calm"))

    def verdict(self, limits):
        return None if limits is None else self.answer


class NoGpus:
    """What reads the GPUs of a machine that has none."""

    is_reading = False
    newest = ()

    def freshen(self):
        pass


class FakePower:
    """GPUs that take any limit."""

    def limit_power(self, watts):
        return None


@dataclass(frozen=True)
class Plan:
    """How one attempt of a trainer will go. Times count from its start, in running seconds."""

    hello_s: float = 2.0
    """when its first heartbeat is there"""
    learns_s: float = 10.0
    """when its step begins to move"""
    steps_per_s: float = 10.0
    ends_s: float = math.inf
    """when it ends by itself, as `end` says"""
    end: Exit = CRASHED
    hangs_s: float = math.inf
    """when its step stops moving for ever"""
    stops_s: float = 5.0
    """how long it takes to save and leave; infinite: it does not listen"""
    writes_s: float = 0.5
    """how long it takes to write a checkpoint"""
    unkillable_s: float = 0.0
    """how long it outlives SIGKILL"""
    workers: int = 0
    """processes that outlive it unless it leaves in peace"""
    workers_unkillable_s: float = 0.0
    """how long those outlive SIGKILL"""
    clock_ahead_s: float = 0.0
    """by how much the clock of the machine that it trains on is ahead of this one's"""


@dataclass
class Folder:
    """What a run keeps on the disk."""

    step: int = 0
    """that of the newest checkpoint"""
    trained_s: float = 0.0
    """the training that it took"""
    heartbeat: Heartbeat | None = None
    rewound: set[str] = field(default_factory=set)
    """what was asked of it and is done"""
    beside: int = 0
    """steps that lie beside: made on other ways than the present one"""

    def go_back(self, asked):
        """Go on from an earlier checkpoint, once."""
        if asked is None or asked.id in self.rewound:
            return
        self.rewound.add(asked.id)
        self.trained_s *= min(1.0, asked.step / self.step) if self.step else 0.0
        self.beside += self.step - asked.step
        self.step = asked.step


@dataclass(eq=False)
class FakeProcess:
    """A process of a run; its main one has a spec."""

    run: str
    identity: Process
    born_s: float
    plan: Plan
    spec: object = None
    from_step: int = 0
    from_trained_s: float = 0.0
    asked_s: float = math.inf
    """when it was asked to leave"""
    killed_s: float = math.inf
    stood: Stood = field(default_factory=Stood)
    exit: Exit | None = None
    first_s: float | None = None
    """when it made its first new step, once it has stood still"""

    def freeze(self, now_s):
        """It stands still: nothing happens in it any more."""
        self.first_s = self.stepping_s(now_s)
        self.stood = self.stood.begun(now_s)

    def thaw(self, now_s):
        """It goes on, as if the time in between had not been."""
        if self.stood.still:
            self.born_s += now_s - self.stood.spans[-1][0]
            self.stood = self.stood.ended(now_s)

    def own_s(self, now_s):
        """The moment at which it stands still, or else the present."""
        return self.stood.spans[-1][0] if self.stood.still else now_s

    @property
    def last_step(self):
        """After which step it is done; without a target it never is."""
        return self.spec.up_to("steps") or math.inf

    def step(self, now_s):
        """How far it is; a step moves in whole numbers."""
        moving_s = min(now_s, self.born_s + self.plan.hangs_s) - self.born_s - self.plan.learns_s
        reached = self.from_step + int(max(0.0, moving_s) * self.plan.steps_per_s)
        return min(reached, max(self.from_step, self.last_step))

    def moved_s(self, now_s):
        """When its step last moved."""
        if self.step(now_s) == self.from_step:
            return self.born_s
        return min(now_s, self.born_s + self.plan.hangs_s)

    def stepping_s(self, now_s):
        """When it made its first new step; None: not yet."""
        if self.first_s is not None or self.step(now_s) == self.from_step:
            return self.first_s
        return self.born_s + self.plan.learns_s + 1 / self.plan.steps_per_s

    def mark(self, step):
        """That place in its run."""
        trained_s = (step - self.from_step) / self.plan.steps_per_s
        return Mark(step=step, trained_s=self.from_trained_s + trained_s)

    def saved_step(self, now_s):
        """The step of its newest checkpoint while it lives."""
        lived_s = now_s - self.born_s
        return self.step(self.born_s + lived_s // CHECKPOINT_S * CHECKPOINT_S)

    def end(self):
        """When and how it ends, as things stand: the first of all that await it."""
        killed_s = self.killed_s + self.plan.unkillable_s
        ends = [(killed_s, Exit(signal=9))]
        if self.spec is not None and not self.stood.still:
            plan, needed = self.plan, max(0, self.last_step - self.from_step)
            done_s = plan.learns_s + needed / plan.steps_per_s
            if done_s <= plan.hangs_s:
                ends.append((self.born_s + done_s + 1e-3, Exit(code=EXIT_DONE)))
            hung = self.asked_s + plan.stops_s > self.born_s + plan.hangs_s
            if not hung:
                ends.append((self.asked_s + plan.stops_s, Exit(code=EXIT_AGAIN)))
            ends.append((self.born_s + plan.ends_s, plan.end))
        return min(ends, key=lambda end: end[0])


class FakeHost:
    """A machine's processes, which outlive daemons, and its disk, which outlives reboots.

    Args:
        clock: the clock of the machine.
        plan: how the life of a trainer goes, given its spec.
    """

    def __init__(self, clock, plan=lambda spec: Plan()):
        self._clock = clock
        self.plan = plan
        self._pids = itertools.count(100)
        self.folders: dict[str, Folder] = {}
        self._processes: list[FakeProcess] = []

    @property
    def now_s(self):
        return self._clock.read().monotonic_s

    def processes(self, run_id=None):
        """The living processes, of one run or of all."""
        self._pass()
        return [p for p in self._processes if run_id in (None, p.run)]

    def mains(self):
        """The living main processes."""
        return [process for process in self.processes() if process.spec is not None]

    def next_end_s(self):
        """Running seconds until some trainer ends by itself."""
        ends = [process.end()[0] for process in self.mains()]
        return max(0.0, min(ends, default=math.inf) - self.now_s)

    def power_off(self):
        """Everything that lives is gone; what was saved stays."""
        for process in self.mains():
            self._speak(process, process.own_s(self.now_s))
        self._processes = []

    def spawn(self, spec, plan):
        """A trainer comes to life."""
        folder = self.folders.setdefault(spec.run, Folder())
        folder.heartbeat = None
        folder.go_back(spec.rewind)
        began = {"from_step": folder.step, "from_trained_s": folder.trained_s}
        return self._process(spec.run, plan, spec=spec, **began)

    def _process(self, run_id, plan, **fields):
        pid = next(self._pids)
        identity = Process(boot_id=self._clock.boot_id, pid=pid, start_ticks=pid)
        process = FakeProcess(run_id, identity, self.now_s, plan, **fields)
        self._processes.append(process)
        return process

    def _pass(self):
        """Let everything happen that is due by now."""
        now_s = self.now_s
        for process in list(self._processes):
            ends_s, how = process.end()
            if ends_s <= now_s:
                self._processes.remove(process)
                process.exit = how
                if process.spec is not None:
                    self._die(process, ends_s)
            elif process.spec is not None:
                self._speak(process, process.own_s(now_s))

    def _die(self, process, when_s):
        self._speak(process, when_s)
        folder, how = self.folders[process.run], process.exit
        in_peace = how.code in (EXIT_DONE, EXIT_AGAIN)
        if in_peace:
            self._keep(process, process.step(when_s))
        heartbeat = folder.heartbeat
        if heartbeat is not None and how.signal is None:
            status = {EXIT_DONE: "done", EXIT_AGAIN: "stopped"}.get(how.code, "failed")
            folder.heartbeat = msgspec.structs.replace(
                heartbeat,
                status=status,
                error=f"exit {how.code}" if status == "failed" else None,
                checkpoint_step=folder.step,
                saved=process.mark(folder.step),
            )
        if not in_peace:
            plan = replace(process.plan, unkillable_s=process.plan.workers_unkillable_s)
            for _ in range(process.plan.workers):
                self._process(process.run, plan)

    def _keep(self, process, step):
        """A checkpoint holds that step."""
        folder = self.folders[process.run]
        folder.step, folder.trained_s = step, process.mark(step).trained_s

    def _speak(self, process, now_s):
        """Write the heartbeat and the checkpoints that are there by now."""
        folder = self.folders[process.run]
        self._keep(process, max(folder.step, process.saved_step(now_s)))
        if now_s - process.born_s < process.plan.hello_s:
            return
        step, stepping_s = process.step(now_s), process.stepping_s(now_s)
        ahead_s = process.plan.clock_ahead_s
        folder.heartbeat = Heartbeat(
            run=process.run,
            pid=process.identity.pid,
            mode=process.spec.mode,
            gpus=process.spec.gpus,
            gpus_own=process.spec.gpus_own,
            status="running",
            step=step,
            episodes=step // 100,
            written_at=self._clock.read().wall,
            progress_at_s=process.moved_s(now_s) + ahead_s,
            longest_gap_s=1.0,
            checkpoint_step=folder.step,
            checkpoint_write_s=process.plan.writes_s if folder.step else None,
            began=process.mark(process.from_step),
            reached=process.mark(step),
            saved=process.mark(folder.step) if folder.step else None,
            stepping_at_s=None if stepping_s is None else stepping_s + ahead_s,
        )


@dataclass
class FakeRunner:
    """The `Runner` of one daemon on a `FakeHost`.

    Like the real one it knows the main process of a run only if it started it, or
    if the memory or the heartbeat names it; all else of a run is left over.
    """

    host: FakeHost
    exits: tuple = ()
    _held: dict = field(default_factory=dict)
    _failed: dict = field(default_factory=dict)

    def look(self, runs):
        alive: dict[str, list[FakeProcess]] = {}
        for process in self.host.processes():
            alive.setdefault(process.run, []).append(process)
        known = {run.id: run for run in runs}
        exits = {run_id: self._exit(run_id, alive) for run_id in known.keys() | self._held.keys()}
        lives = {}
        for run_id in known.keys() | alive.keys():
            processes = alive.get(run_id, [])
            if run_id not in self._held:
                self._adopt(run_id, known.get(run_id), processes)
            held, _ = self._held.get(run_id, (None, False))
            heartbeat, run = self._heartbeat(run_id), known.get(run_id)
            lives[run_id] = Observation(
                process=held.identity if held else None,
                exit=exits.get(run_id),
                frozen=held is not None and held.stood.still,
                leftovers=0 if held else len(processes),
                heartbeat=heartbeat,
                alive_s=alive_s(heartbeat, self.host.now_s, held.stood if held else None)
                if not run or run.local
                else None,
            )
        return lives

    def start(self, spec, *, nice, attempt=1, boot=1):
        plan = self.host.plan(spec)
        if plan is None:
            self._failed[spec.run] = "no more processes"
            raise StartFailed(f"{spec.run}: no more processes")
        main = self.host.spawn(spec, plan)
        self._held[spec.run] = (main, True)
        return main.identity

    def keep_warm(self, specs, *, memory_max_mib):
        return ()

    def stop(self, run_id, *, dump):
        held, _ = self._held.get(run_id, (None, False))
        if held is not None:
            held.thaw(self.host.now_s)
            held.asked_s = min(held.asked_s, self.host.now_s)

    def kill(self, run_id):
        for process in self.host.processes(run_id):
            process.killed_s = min(process.killed_s, self.host.now_s)

    def freeze(self, run_id):
        held, _ = self._held.get(run_id, (None, False))
        if held is not None:
            held.freeze(self.host.now_s)

    def thaw(self, run_id):
        for process in self.host.processes(run_id):
            process.thaw(self.host.now_s)

    def kept(self):
        return tuple(self.host.folders)

    def remove(self, run_id):
        if self.host.processes(run_id):
            return "something of it lives"
        self.host.folders.pop(run_id, None)
        return None

    def _heartbeat(self, run_id):
        folder = self.host.folders.get(run_id)
        return folder.heartbeat if folder else None

    def _exit(self, run_id, alive):
        if run_id in self._failed:
            return Exit(start_error=self._failed.pop(run_id))
        held, child = self._held.get(run_id, (None, False))
        if held is None or held in alive.get(run_id, []):
            return None
        del self._held[run_id]
        return held.exit if child else Exit()

    def _adopt(self, run_id, run, processes):
        heartbeat = self._heartbeat(run_id)
        for process in processes:
            named = heartbeat is not None and heartbeat.pid == process.identity.pid
            if named or (run is not None and process.identity == run.attempt.process):
                self._held[run_id] = (process, False)
