"""A real supervisor with a guard, and whatever is killed while training pauses and goes on."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from testkit import chained, pressed
from testkit.machine import Machine
from testkit.patience import PATIENCE_S
from testkit.pressed import Blow, Orders
from testkit.processes import PROC, Process, mains, processes, stat
from trainers.contract import MARKER

PROGRAM = (sys.executable, "-m", "testkit.pressed")
LINKS = 1_000_000
SETTINGS = """\
trainers_dir = "own"

[logs]
turns = true

[campaign]
trainer = "chain"
runs = ["a"]
target = {{ links = {links} }}
options = {{ family = true, save_s = 0.02 }}

[checkpoints]
interval_s = 0.3

[recovery]
backoff_first_s = 0.1
backoff_max_s = 0.2
quarantine_after = 1000

[policy]
idle_after = 99

[warm]
trainers = []
"""
GUARD = """
[guard]
sample_s = 0.5
calm_s = 0.01
resume_samples = 1
paused_min_s = 0.01
pauses_max_per_h = 1000
"""
CALM = Orders()
BUSY = Orders(cpu_other=99.0)
FULL = Orders(memory_other=99.0)

Phase = Literal["freeze", "thaw", "evict", "evict what is frozen", "the next daemon"]
EFFECTS: dict[Phase, int] = {
    "freeze": 26,
    "thaw": 26,
    "evict": 12,
    "evict what is frozen": 26,
    "the next daemon": 40,
}
"""about how many moments before and after an effect each has"""
FAMILY = 7
"""processes of a run: the trainer, two shells, and what each of them has started"""
LATE_S = 1.0
"""after all has become as it was asked for, no effect follows"""
LOOK_S = 0.01
After = Literal["next", "off", "stop", "reset", "uninstall"]
AFTERWARDS: tuple[After, ...] = ("next", "next", "off", "stop", "reset", "uninstall")


class Strangers:
    """Processes of nobody's runs: one that runs and one that a person has stopped, two of each.

    One of the two carries the mark of a run of the same name in another home. Whoever stops or
    continues any of them is found out: the kernel tells their parent.
    """

    def __init__(self, elsewhere: Path, run: str) -> None:
        (elsewhere / run).mkdir(parents=True)
        marked = {**os.environ, MARKER: str(elsewhere / run)}
        plain = {key: value for key, value in os.environ.items() if key != MARKER}
        self._all = [
            subprocess.Popen(["sleep", "9999"], env=env, start_new_session=True)
            for env in (plain, marked, plain, marked)
        ]
        for one in self._all[2:]:
            one.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, one.pid, os.WSTOPPED)

    def check(self) -> None:
        """Nobody has touched any of them."""
        for one in self._all:
            told = os.waitid(os.P_PID, one.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            assert told is None, f"a stranger was touched: {told}"
            assert one.poll() is None, "a stranger has ended"

    def close(self) -> None:
        """End them."""
        for one in self._all:
            one.kill()
            one.wait()


class Guarded:
    """One campaign under a guard, through as many blows as somebody wants to deal.

    Args:
        machine: a fresh one; its supervisor becomes one that takes orders.
        seed: decides every blow.
    """

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine = machine
        self.chance = random.Random(seed)  # noqa: S311 - blows that can be dealt again
        self.fallen: Counter[str] = Counter()
        """where the blows fell: in which phase, on whom"""
        self.places: set[str] = set()
        """before and after which effects"""
        self._runs = machine.home / "runs"
        self.run = self._runs / "chain-a"
        self._orders, self._done = (machine.home.parent / f"{name}.json" for name in "od")
        person = machine.home.parent / "person"
        person.mkdir()
        machine.extra |= {
            pressed.ORDERS: str(self._orders),
            pressed.DONE: str(self._done),
            "HOME": str(person),
        }
        self._person = machine.program
        self._blows = 0
        self._daemon: subprocess.Popen[str] | None = None
        chained.install(machine.home / "own")
        self._configure()
        pressed.write(self._orders, CALM)

    @contextlib.contextmanager
    def among_strangers(self) -> Iterator[Strangers]:
        """With processes beside it that nobody may touch."""
        strangers = Strangers(self.machine.home.parent / "elsewhere/runs", self.run.name)
        try:
            yield strangers
        finally:
            strangers.close()

    def blow(self) -> None:
        """Deal one blow, and see that all goes on."""
        phase = self.chance.choice(tuple(EFFECTS))
        hits = self.chance.choice(("supervisor", "supervisor", "trainers", "all"))
        at = self.chance.randint(1, EFFECTS[phase])
        self._train()
        if phase in ("thaw", "evict what is frozen", "the next daemon"):
            self._freeze()
        wanted = {"freeze": BUSY, "thaw": CALM, "the next daemon": CALM}.get(phase, FULL)
        self._blows += 1
        starting = phase == "the next daemon"
        orders = msgspec.structs.replace(
            wanted, blow=self._blows, at=at, hits=hits, starting=starting
        )
        if starting:
            self._end_daemon()
        pressed.write(self._orders, orders)
        if starting:
            self._launch(waits=False)
        struck = self._struck(phase, hits)
        where = struck.where if struck else "between two looks"
        self.fallen[f"{phase}: {hits}"] += 1
        self.places.add(f"{phase}: {where}")
        self._go_on(hits)
        assert not self._still(), f"left standing after {phase}, {where}, {hits}"
        self.check()

    def check(self) -> None:
        """What is saved is whole, and what it would be if nothing had ever happened."""
        links, link = chained.saved(self.run)
        assert link == (chained.undisturbed(links) if links else "")
        events = self.machine.events()
        wrong = {"run.hung", "run.quarantined", "run.blocked", "mode.changed", "state.damaged"}
        assert not wrong & {line["event"] for line in events if line.get("rule") != "request"}

    def finish(self) -> None:
        """The campaign ends, as far as it is by now."""
        self._train()
        links = chained.saved(self.run)[0] + 60
        self._configure(links=links)
        self.machine.until(lambda: chained.saved(self.run)[0] == links, "the campaign ends")
        self.machine.until(lambda: not self._family(), "nothing is left")
        assert self._daemon is not None
        assert self.machine.stop(self._daemon) == 0
        self.check()

    # The machine, before and after

    def _train(self) -> None:
        """Training goes on, and has got somewhere since."""
        self._order(CALM)
        if self._daemon is None or self._daemon.poll() is not None:
            self._launch()
        self.machine.until(lambda: self._is_free() and self._is_whole(), "the whole family trains")
        before = self._step()
        self.machine.until(
            lambda: self._step() > before + 5 and self._is_whole(), "training gets somewhere"
        )

    def _freeze(self) -> None:
        self._order(BUSY)
        self.machine.until(lambda: len(self._still()) == FAMILY, "the whole family stands still")

    def _struck(self, phase: Phase, hits: str) -> Blow | None:
        """Wait until the blow has fallen; one that was to fall later falls now, and is None."""
        assert self._daemon is not None
        settled_s, deadline_s = math.inf, time.monotonic() + PATIENCE_S
        while (blow := self._fell()) is None and time.monotonic() < settled_s + LATE_S:
            if settled_s == math.inf and self._settled(phase):
                settled_s = time.monotonic()
            assert time.monotonic() < deadline_s, f"{phase}: nothing comes of it"
            time.sleep(LOOK_S)
        if blow is None:
            victims = {"supervisor": [], "all": self._family(), "trainers": mains(self._runs)}
            for one in victims[hits]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            if hits != "trainers":
                self._daemon.kill()
        if hits != "trainers":
            self._daemon.wait()
        return blow

    def _fell(self) -> Blow | None:
        blow = pressed.fallen(self._done)
        return blow if blow is not None and blow.number == self._blows else None

    def _settled(self, phase: Phase) -> bool:
        """Whether what was asked for has become."""
        alive, still = self._family(), self._still()
        if phase == "freeze":
            return len(still) == len(alive)
        return not alive if phase.startswith("evict") else bool(alive) and not still

    def _go_on(self, hits: str) -> None:
        """Whoever comes next has to put it right."""
        if hits == "trainers":
            self._order(CALM)
            self.machine.until(self._is_whole, "another trainer lives")
            self.machine.until(lambda: not self._still(), "nothing stands still")
            return
        self._daemon = None
        if hits == "all":
            self.machine.reboot()
            self._order(CALM)
            self._launch()
            return
        self._order(self.chance.choice((CALM, BUSY, FULL)))
        match self.chance.choice(AFTERWARDS):
            case "stop":
                self._person_types("stop")
                assert not self._family()
            case "uninstall":
                self._person_types("install", "--profile")
                self._person_types("uninstall")
                assert not self._family()
            case "reset":
                self._person_types("reset", "--yes")
                assert not self._still(), "reset leaves it standing"
            case "off":
                self._configure(guard=False)
                self._launch()
                self.machine.until(lambda: not self._still(), "without a guard it goes on")
                self._configure()
            case "next":
                self._launch()
                self.machine.until(lambda: not self._still(), "the next daemon thaws")
                self._order(CALM)

    def _person_types(self, *words: str) -> None:
        program, self.machine.program = self.machine.program, self._person
        try:
            came = self.machine(*words)
        finally:
            self.machine.program = program
        assert came.returncode == 0, came.stdout + came.stderr

    def _launch(self, *, waits: bool = True) -> None:
        """Start a supervisor, and perhaps wait until it has begun."""
        begun = len(self.machine.events("supervisor.started"))
        self.machine.program = PROGRAM
        self._daemon = self.machine.launch(self.machine.command("run"))
        self.machine.program = self._person
        if waits:
            self.machine.until(
                lambda: len(self.machine.events("supervisor.started")) > begun, "it has begun"
            )

    def _end_daemon(self) -> None:
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def _order(self, orders: Orders) -> None:
        """Without another blow."""
        pressed.write(self._orders, msgspec.structs.replace(orders, blow=self._blows))

    def _configure(self, *, guard: bool = True, links: int = LINKS) -> None:
        self.machine.configure(SETTINGS.format(links=links) + GUARD * guard)

    def _family(self) -> list[Process]:
        return processes(self._runs)

    def _is_whole(self) -> bool:
        return len(self._family()) == FAMILY and not self._still()

    def _is_free(self) -> bool:
        """Whether the guard lets training go on, as far as the log says."""
        said = [line for line in self.machine.events() if line.get("rule") == "guard"]
        return bool(said) and said[-1]["evidence"].get("answer") == "free"

    def _step(self) -> int:
        return int(self.machine.heartbeat("a", chained.NAME).get("step", 0))

    def _still(self) -> list[Process]:
        """The processes of runs that are stopped."""
        return [one for one in self._family() if stat(PROC / str(one.pid))[:1] == ["T"]]
