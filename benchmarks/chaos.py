"""A campaign of chaos: a real supervisor, real trainers, and faults at random from one seed.

    .venv/bin/python benchmarks/chaos.py --minutes 10 --seed 1

Trainers and the daemon are killed or frozen, the machine reboots, loses its power or is shut
down, the disk is full, the clock is set, people change their mind. What must always hold is
checked all the while; at the end stand the goodput, as `supervisor goodput` tells it from the
log, and how long it took to notice a fault and to train again, which only the chaos itself knows.
Exit code 1: something that must hold did not; the seed and the command that replay it are told.

As root it all happens in namespaces of its own: a disk that can be filled and loses power, an
uptime that begins with each boot, and nobody left behind even if the chaos itself is killed.
Without, what cannot be done is left out, and said. The wall clock of this machine is never set:
a small library, built with gcc, shows a false one to the supervisor and its trainers.

With `--beside` first, it measures instead what is left of a training through faults, beside what
people would use: see chaos_beside.py.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import chaos_beside
from chaos_machine import LOOK_S, RUNS, Machine, apart
from chaos_witness import Broken, Witness

from state.store import Store
from supervisor import screen
from supervisor.core.goodput import Goodput
from supervisor.core.recorded import make_again
from supervisor.journal import read
from testkit.disks import Disk
from testkit.false_clock import FalseClock
from testkit.patience import NeverTrue, until
from testkit.processes import Process

ENDS = ("run.died", "run.quarantined", "run.stopped", "run.done", "run.lost")
"""events that tell of a trainer that is gone"""


class Chaos:
    """Does to the machine what the seed says."""

    def __init__(self, machine: Machine, witness: Witness, seed: int, mean_s: float) -> None:
        self.machine = machine
        self.witness = witness
        self.done: Counter[str] = Counter()
        self._seed = seed
        self._mean_s = mean_s
        self._began_s = time.monotonic()
        self._count = 0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.chance = random.Random(seed)  # noqa: S311 - to be lived again, not to be secret
        self._faults: dict[str, tuple[int, Callable[[], str]]] = {
            "trainer killed": (5, self._kill_trainer),
            "worker killed": (1, self._kill_worker),
            "trainer frozen": (1, self._freeze_trainer),
            "daemon killed": (4, self._kill_daemon),
            "both killed": (2, self._kill_both),
            "reboot": (3, self._reboot),
            "shutdown": (1, self._shut_down),
            "request": (1, self._request),
        }
        if machine.disk:
            disk = machine.disk
            self._faults["power cut"] = (2, lambda: self._cut_power(disk))
            self._faults["full disk"] = (1, lambda: self._fill_disk(disk))
        if machine.clock:
            clock = machine.clock
            self._faults["clock step"] = (1, lambda: self._set_clock(clock))

    def live(self, seconds: float, faults: float) -> None:
        """Faults at random times, for so long or until there were so many.

        Raises:
            Broken: something that must hold did not.
        """
        end_s, due_s = self._began_s + seconds, self._next_s()
        with contextlib.suppress(KeyboardInterrupt):  # enough: the rest comes all the same
            while (now_s := time.monotonic()) < end_s and self._count < faults:
                self.witness.look()
                self._do_what_is_due()
                if now_s >= due_s:
                    self._strike()
                    due_s = self._next_s()
                time.sleep(LOOK_S)

    def calm_down(self) -> None:
        """No more faults: it must come back by itself, and then leave nobody.

        Raises:
            Broken: it does not.
        """
        self._say("no more faults: all that is wanted has to train again")
        self._free_disk()
        while self._later:
            self.witness.look()
            self._do_what_is_due()
            time.sleep(LOOK_S)
        if not self.machine.daemon_lives:
            self.machine.begin()
        self._type("resume")
        self._await(self.witness.agrees, "what is wanted trains")
        self._say("it does; now the supervisor is asked to stop")
        self.machine.end()
        self.witness.look()
        left = self.machine.processes()
        if left:
            raise Broken(f"left after the end: {left}")
        turns = make_again(read(self.machine.files.turns))
        if turns.first is not None or not turns.turns:
            raise Broken(f"turns come out otherwise: {turns}")
        self._say(f"{turns.turns} turns of thinking were made again, and came out as they had")

    def _next_s(self) -> float:
        return time.monotonic() + max(0.5, self.chance.expovariate(1 / self._mean_s))

    def _strike(self) -> None:
        self._count += 1
        # Each fault has its own chance, so that what one of them needed of it moves no other.
        self.chance = random.Random(f"{self._seed}/{self._count}")  # noqa: S311 - as above
        weights = [weight for weight, _ in self._faults.values()]
        (name,) = self.chance.choices(list(self._faults), weights)
        what = self._faults[name][1]()
        self.done[name] += 1
        self._say(f"{name}: {what}")

    def _do_what_is_due(self) -> None:
        for due_s, act in list(self._later):
            if time.monotonic() >= due_s:
                self._later.remove((due_s, act))
                act()

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, act))

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        """Look on until it is so.

        Raises:
            Broken: something that must hold did not meanwhile.
            NeverTrue: it never is.
        """

        def seen() -> bool:
            self.witness.look()
            return condition()

        until(seen, what, self.machine.told, look_s=LOOK_S)

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began_s:8.1f} s  {text}", flush=True)

    # Faults. Each says what it did.

    def _kill_trainer(self) -> str:
        mains = self.machine.mains()
        if not mains:
            return "no trainer lived"
        victim = self.chance.choice(mains)
        self._expect_notice(victim.run, "trainer killed", *ENDS)
        self.witness.expect_return(victim.run, "trainer killed")
        _kill(victim)
        return f"{victim.run}, pid {victim.pid}"

    def _kill_worker(self) -> str:
        workers = sorted(one for one in self.machine.processes() if not one.trains)
        if not workers:
            return "no worker lived"
        victim = self.chance.choice(workers)
        _kill(victim)
        return f"of {victim.run}, pid {victim.pid}"

    def _freeze_trainer(self) -> str:
        mains = self.machine.mains()
        if not mains:
            return "no trainer lived"
        victim = self.chance.choice(mains)
        self._expect_notice(victim.run, "trainer frozen", "run.hung", *ENDS)
        self.witness.expect_return(victim.run, "trainer frozen")
        _kill(victim, signal.SIGSTOP)
        return f"{victim.run}, pid {victim.pid}"

    def _kill_daemon(self) -> str:
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        away_s = self.chance.uniform(0.1, 3.0)
        self._lose_daemon(away_s)
        return f"it starts again in {away_s:.1f} s"

    def _kill_both(self) -> str:
        mains = self.machine.mains()
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        away_s = self.chance.uniform(0.1, 3.0)
        self._lose_daemon(away_s)
        for victim in mains:
            self.witness.expect_return(victim.run, "both killed")
            _kill(victim)
        return f"with {', '.join(one.run for one in mains) or 'nobody'}; starts in {away_s:.1f} s"

    def _lose_daemon(self, away_s: float) -> None:
        self.machine.kill_daemon()
        self.witness.expect_no_notice()
        boot_id = self.machine.boot

        def start() -> None:
            if self.machine.boot == boot_id and not self.machine.daemon_lives:
                self.machine.begin()

        self._in(away_s, start)

    def _reboot(self) -> str:
        self._prepare_for_the_end("reboot")
        self.machine.power_off()
        return self._come_up(crashed=True)

    def _cut_power(self, disk: Disk) -> str:
        self._prepare_for_the_end("power cut")
        disk.cut_power()
        self.machine.power_off()
        disk.come_back()
        return self._come_up(crashed=True)

    def _shut_down(self) -> str:
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        self._prepare_for_the_end("shutdown")
        self.machine.go_down_orderly()
        left = self.machine.processes()
        if left:
            raise Broken(f"left after an orderly stop: {left}")
        return self._come_up(crashed=False)

    def _prepare_for_the_end(self, fault: str) -> None:
        self._free_disk()  # else the boot could not be noted
        self.witness.expect_nothing()
        for main in self.machine.mains():
            self.witness.expect_return(main.run, fault)

    def _come_up(self, *, crashed: bool) -> str:
        off_s = self.chance.uniform(0.5, 3.0)
        time.sleep(off_s)  # the machine is off: there is nothing to look at
        self.machine.power_on(crashed=crashed)
        return f"off for {off_s:.1f} s, boot {self.machine.boots}"

    def _expect_notice(self, run: str, fault: str, *events: str) -> None:
        full = self.machine.disk and self.machine.disk.full
        if self.machine.daemon_lives and not full:  # else nobody is there, or the log waits
            self.witness.expect_notice(run, fault, *events)

    def _fill_disk(self, disk: Disk) -> str:
        full_s = self.chance.uniform(2.0, 8.0)
        self.witness.expect_no_notice()
        disk.fill()
        self._in(full_s, self._free_disk)
        return f"for {full_s:.1f} s"

    def _free_disk(self) -> None:
        if self.machine.disk and self.machine.disk.full:
            self.machine.disk.free()
            self._say("the disk has room again")

    def _set_clock(self, clock: FalseClock) -> str:
        if not self.machine.daemon_lives or (self.machine.disk and self.machine.disk.full):
            return "no supervisor lived, or it could not write"
        days = self.chance.choice((-14, -1, 1, 30, -20_000))
        for step_s in (days * 86_400, 0):
            clock.set(step_s)
            # How long a machine was down, only its wall clock can tell. One that is set just
            # before a crash, unseen, tells a lie of up to a day, which would drown all figures.
            self._await(functools.partial(self._sees_clock, step_s), "the new time is seen")
        return f"by {days} days, and back again"

    def _sees_clock(self, step_s: int) -> bool:
        """Whether the supervisor has looked since the clock was set."""
        memory, _ = Store(self.machine.files.state).peek()
        now = time.time() + step_s  # noqa: TID251 - what the false clock shows
        return memory is not None and abs(memory.timeline.seen_at - now) < 3600

    def _request(self) -> str:
        request = self.chance.choice(("force-scale-up", "force-scale-down", "pause"))
        self._type(request)
        if request == "pause":
            self._in(self.chance.uniform(1.0, 4.0), lambda: self._type("resume"))
        return request

    def _type(self, command: str) -> None:
        asked = self.machine.ask(command)
        self._await(lambda: asked.poll() is not None, f"`{command}` is answered")
        self._say(f"{command}: {asked.communicate()[0].strip()}")


def _kill(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _spread(times_s: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{fault} {statistics.median(known):.2f} s (at most {max(known):.2f} s, {len(known)} times)"
        for fault, known in sorted(times_s.items())
    )


def _campaign(place: Path, options: argparse.Namespace, *, rooted: bool) -> int:
    machine = Machine(place, options.trainer, rooted=rooted)
    for what in machine.left_out:
        print(f"LEFT OUT: {what}", flush=True)
    witness = Witness(machine)
    chaos = Chaos(machine, witness, options.seed, options.mean_between_s)
    try:
        if options.faults is None:
            chaos.live(options.minutes * 60, math.inf)
        else:
            chaos.live(math.inf, options.faults)
        chaos.calm_down()
        measured = msgspec.json.decode(
            machine.ask("goodput", "--json").communicate()[0], type=Goodput
        )
    except (Broken, NeverTrue) as broken:
        options.keep = options.keep or Path(tempfile.mkdtemp(prefix="chaos-broken-"))
        print(f"BROKEN: {broken}\n\nlive it again with:\n  {_again(options)}")
        return 1
    finally:
        machine.power_off()
        if options.keep:
            kept = options.keep / f"seed-{options.seed}-{os.urandom(2).hex()}"
            shutil.copytree(machine.home, kept, symlinks=True)
            print(f"the home is kept in {kept}")
    print(f"\n{sum(chaos.done.values())} faults: ", end="")
    print(", ".join(f"{count} {name}" for name, count in sorted(chaos.done.items())))
    print(f"all that must hold did, in {witness.looks} looks and {witness.asked} answers")
    print(f"noticed after: {_spread(witness.detection_s)}")
    print(f"new steps after: {_spread(witness.return_s)}\n")
    print(screen.goodput(measured))
    return 0


def _again(options: argparse.Namespace) -> str:
    command = ".venv/bin/python benchmarks/chaos.py"
    faults = "" if options.faults is None else f"--faults {options.faults} "
    return (
        f"{command} --trainer {options.trainer} --minutes {options.minutes:g} {faults}"
        f"--seed {options.seed} --mean-between-s {options.mean_between_s:g}"
    )


def main() -> int:
    """Live one campaign, or measure beside others; the exit code."""
    if sys.argv[1:2] == ["--beside"]:
        return chaos_beside.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", type=int, help="so many, however long they take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mean-between-s", type=float, default=20.0, help="between two faults")
    parser.add_argument("--trainer", choices=sorted(RUNS), default="atari")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the home in there")
    options = parser.parse_args()
    rooted = apart()
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        if rooted:  # in memory, which ends with the namespace
            _do("mount", "-t", "tmpfs", "chaos", place)
        try:
            return _campaign(Path(place), options, rooted=rooted)
        finally:
            if rooted:
                _do("umount", "--lazy", place)


if __name__ == "__main__":
    sys.exit(main())
