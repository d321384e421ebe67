"""Runs as processes of this machine.

A trainer is known by (boot_id, pid, start time) and signalled through a pidfd,
so a pid that was given to a stranger meanwhile is never touched. Whatever
belongs to a run carries its folder in the environment, under whatever parent,
group or session it hides; nothing is ever ended by its name. Trainers outlive
the daemon: a new one finds them and takes them over.

A folder is what lies at its path, and not the path: a copy of a home records the
same pids, and a home in another container may lie at the same path. So a mark
counts where it leads, as its process sees it, to the very folder that is ours.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from state.records import Process, Run
from supervisor.core.recovery import Exit, Observation, alive_s
from supervisor.host.cgroup import ControlGroup, memberships
from supervisor.host.clock import SystemClock
from supervisor.host.process import (
    children,
    give_back_protection,
    make_way,
    open_exactly,
    start_ticks,
)
from supervisor.host.tuning import read as read_tuning
from supervisor.host.tuning import tuned
from supervisor.output import mark, rotate
from supervisor.programs import program, with_trainers
from supervisor.runners import StartFailed
from supervisor.runners.warm import WarmLost, WarmParents
from trainers import durable
from trainers.contract import (
    HEARTBEAT_MAX_BYTES,
    MARKER,
    NAME,
    Heartbeat,
    NewerFile,
    Remark,
    RunFolder,
    Spec,
    Stood,
    decode,
)

PROC = Path("/proc")
LAST_LINE_MAX_BYTES, LAST_LINE_MAX = 4096, 300
"""what is read for the last line of an output, and how many letters of it are quoted"""
SWEEPS = 5
"""how often a run's processes are looked for again while they are being killed"""
OOM_S = 60.0
"""a strike of the kernel for want of memory is remembered for so long, and until the look after"""
GONE_S = 2.0
"""how long a trainer is waited for that was killed before it began"""


class _Living:
    """A living main process, held by a pidfd."""

    def __init__(
        self,
        process: Process,
        handle: int,
        code: Callable[[], int | None],
        forked: str | None = None,
        output_from: int | None = None,
    ) -> None:
        self.process = process
        self.handle = handle
        self.code = code
        """its exit code, once it has ended; None: it went to somebody else"""
        self.forked = forked
        """the name of its trainer, where a warm parent has forked it"""
        self.output_from = output_from
        """where in its output this attempt began; None: another supervisor has started it"""
        self.steps = False
        """whether it is known to have made a new step"""
        self._group = ControlGroup.of(process.pid)
        self._own = _Strikes(self._group.oom_kills)
        self._anywhere = _Strikes(_oom_kills)

    def heed_memory(self) -> None:
        """See which control group it is in, and forget what the kernel killed long ago."""
        if memberships(self.process.pid) not in (None, self._group.memberships):
            group, ours = ControlGroup.of(self.process.pid), self._group.memory_group
            # One that is about to end is in the root group already, whoever has struck it.
            up = ours is not None and ours.is_relative_to(group.memory_group or ours)
            if not up:
                self._group, self._own = group, _Strikes(group.oom_kills)
        self._own.forget()
        self._anywhere.forget()

    def ended(self, code: int | None) -> Exit:
        """How it has ended, by its exit code or, negative, a signal."""
        if code is None:
            return Exit()
        return Exit(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            oom_kill=self._own.struck,
            oom_near=self._anywhere.struck,
        )


class _Strikes:
    """How often the kernel has killed for want of memory: now, and some looks ago."""

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count
        self._before = self._lately = count()
        self._lately_s = time.monotonic()

    @property
    def struck(self) -> bool:
        """Whether it has done so lately; not where nobody counts."""
        count = self._count()
        return count is not None and self._before is not None and count > self._before

    def forget(self) -> None:
        """Let what was long ago be over: it was nobody who dies from now on."""
        now_s = time.monotonic()
        if now_s - self._lately_s >= OOM_S:
            self._before, self._lately = self._lately, self._count()
            self._lately_s = now_s


class LocalRunner:
    """Starts, finds and ends the trainers of one home.

    Args:
        runs: the folder of run folders.
        boot_id: this boot.
        output_max_bytes: size at which a trainer's output is rotated.
        tuning: where it is kept which way of calculating suits this machine.
        trainers_dir: the folder of the user's own trainers, asked for at each start.
    """

    def __init__(
        self,
        runs: Path,
        boot_id: str,
        output_max_bytes: int = 16 * 1024 * 1024,
        tuning: Path | None = None,
        trainers_dir: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self._runs = runs
        self._tuning = tuning
        self._trainers_dir = trainers_dir
        self._boot_id = boot_id
        self._output_max_bytes = output_max_bytes
        self._living: dict[str, _Living] = {}
        self._failed: dict[str, str] = {}
        self._last_lines: dict[str, str | None] = {}
        """of attempts that have ended since the look before"""
        self._warm = WarmParents(runs, _spawn, trainers_dir)
        self._left: dict[tuple[int, int], int] = {}
        """processes beside a main process that are about to end: (pid, start ticks) -> pidfd"""
        # Runs that may have left processes behind. At first that is all of them.
        self._suspects: set[str] | None = None

    @property
    def exits(self) -> tuple[int, ...]:
        """Handles that become readable when a trainer ends, or what was left of one."""
        return (*(living.handle for living in self._living.values()), *self._left.values())

    def look(self, runs: Iterable[Run]) -> dict[str, Observation]:
        """What lives of each of `runs`, and of any other of which something lives."""
        for process in [it for it, handle in self._left.items() if _ended(handle)]:
            os.close(self._left.pop(process))
        known = {run.id: run for run in runs}
        self._last_lines.clear()
        exits = {run_id: self._exit(run_id) for run_id in known.keys() | self._living.keys()}
        marked = self._marked(known)
        for run_id in known.keys() | marked.keys():
            if run_id not in self._living:
                self._adopt(run_id, known.get(run_id), marked.get(run_id, {}))
        observations: dict[str, Observation] = {}
        for run_id in known.keys() | marked.keys() | self._living.keys():
            living = self._living.get(run_id)
            beside = marked.get(run_id, {}).items() if living is None else ()
            believed = known.get(run_id)
            heartbeat = read_heartbeat(RunFolder(self._runs / run_id))
            stood = _stood(RunFolder(self._runs / run_id)) if living else Stood()
            observations[run_id] = Observation(
                process=living.process if living else None,
                elsewhere=living is None
                and believed is not None
                and believed.attempt.process is not None
                and believed.attempt.process.pid not in marked.get(run_id, {})
                and _is_there(believed.attempt.process, self._boot_id),
                exit=exits.get(run_id),
                last_line=self._last_lines.get(run_id),
                leftovers=sum(self._watch(process) for process in beside),
                heartbeat=heartbeat,
                frozen=living is not None and stood.still,
                alive_s=None
                if believed is not None and not believed.local
                else alive_s(heartbeat, time.monotonic(), stood),
                newer=self._newer(run_id) if living and heartbeat is None else None,
            )
        self._suspects = {run_id for run_id, observed in observations.items() if observed.leftovers}
        self.tend()
        return observations

    def _newer(self, run_id: str) -> str | None:
        """Why a trainer cannot be heard that a newer version has started."""
        try:
            _refuse_newer(RunFolder(self._runs / run_id).heartbeat, Heartbeat)
        except NewerFile as error:
            return str(error)
        return None

    def holds(self, run_id: str) -> bool:
        """Whether the run's main process lived at the last look."""
        return run_id in self._living

    def end_all(self) -> None:
        """End the trainers that this runner holds, at once and no others.

        For a home that is gone: they have no place to save to, and a process that
        carries the same mark may belong to whoever has taken its path.
        """
        for living in self._living.values():
            _send(living.handle, signal.SIGKILL)

    def keep_warm(self, specs: Sequence[Spec], *, memory_max_mib: float) -> tuple[str, ...]:
        """Be ready to start such runs at once; what went wrong with that since the last call."""
        self._warm.want(specs, memory_max_mib)
        return self._warm.troubles()

    def close(self) -> None:
        """Let go of what only helps to start trainers; the trainers live on."""
        self._warm.close()

    def tend(self) -> None:
        """Keep the output of every living trainer within its size, and what is warm warm."""
        for run_id, living in self._living.items():
            self._rotate(RunFolder(self._runs / run_id))
            self._judge(living, run_id)
            living.heed_memory()
        # A warm parent is loaded while nobody starts, who would need the processor.
        steps = [living.steps for living in self._living.values()]
        self._warm.tend(calm=bool(steps) and all(steps))

    def start(self, spec: Spec, *, nice: int, attempt: int = 1, boot: int = 1) -> Process:
        """Bring the trainer of `spec` to life; its output says which attempt begins, and when.

        Raises:
            StartFailed: the folder cannot be written, or is of a newer version, or no process
                can be made.
                The next look reports it as the run's exit.
        """
        folder = RunFolder(self._runs / spec.run)
        try:
            process = self._start(folder, spec, nice, f"attempt {attempt} begins in boot {boot}")
        except (OSError, NewerFile) as error:
            reason = str(error)
            if isinstance(error, OSError):
                what = f"{Path(os.fsdecode(error.filename)).name}: " if error.filename else ""
                reason = f"{what}{error.strerror or error}"
            self._failed[spec.run] = reason
            self._suspects = (self._suspects or set()) | {spec.run}
            raise StartFailed(f"{spec.run}: {reason}") from error
        return process

    def stop(self, run_id: str, *, dump: bool) -> None:
        """Ask the run's trainer to save and leave; with `dump`, for its stacks before."""
        living = self._living.get(run_id)
        if living is None:
            return
        if dump and _catches(living.process.pid, signal.SIGUSR1):
            _send(living.handle, signal.SIGUSR1)
        _send(living.handle, signal.SIGTERM)
        # One that stands still would not hear it.
        _send(living.handle, signal.SIGCONT)
        if _stood(RunFolder(self._runs / run_id)).still:
            self.thaw(run_id)

    def kill(self, run_id: str) -> None:
        """End every process of the run at once."""
        living = self._living.get(run_id)
        if living is not None:
            _send(living.handle, signal.SIGKILL)
        for _ in range(SWEEPS):  # what forks while it is being killed is found the next time
            marked = _marked_processes(self._runs).get(run_id, {})
            if not marked:
                return
            for process in marked.items():
                if self._watch(process):
                    _send(self._left[process], signal.SIGKILL)

    def freeze(self, run_id: str) -> None:
        """Have every process of the run stand still where it is."""
        folder = RunFolder(self._runs / run_id)
        living = self._living.get(run_id)
        if living is None:
            return
        # First it is written: whoever comes next has to know what to thaw.
        stood = _stood(folder)
        if not stood.still and not _write(folder, stood.begun(time.monotonic())):
            return  # the disk is full: what nobody knows to thaw must not be frozen
        _send(living.handle, signal.SIGSTOP)
        stopped: set[tuple[int, int]] = set()
        for _ in range(SWEEPS):  # what forks while it is being stopped is found the next time
            found = self._tree(run_id).items() - stopped
            if not found:
                return
            for process in found:
                _signal(process, signal.SIGSTOP)
            stopped |= found

    def thaw(self, run_id: str) -> None:
        """Have what stands still go on; last it is written that it does."""
        folder = RunFolder(self._runs / run_id)
        for process in self._tree(run_id).items():
            _signal(process, signal.SIGCONT)
        if run_id in self._living:
            _send(self._living[run_id].handle, signal.SIGCONT)
        stood = _stood(folder)
        if stood.still:
            _write(folder, stood.ended(time.monotonic()))

    def kept(self) -> tuple[str, ...]:
        """The names of all that lies where the folders of runs are."""
        try:
            return tuple(os.listdir(self._runs))  # noqa: PTH208 - names are what is asked for
        except OSError:
            return ()

    def remove(self, run_id: str) -> str | None:
        """Remove the folder of a run; why something of it is still there.

        Nothing that lives there is harmed, and nothing that a link leads to.
        """
        folder = self._runs / run_id
        if self._tree(run_id):
            return "something of it lives"
        try:
            if folder.is_symlink():
                return "its folder is a link, and what that leads to is not ours"
            lock = durable.hold(folder)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return "another process holds it"
        except OSError as error:
            return error.strerror or str(error)
        try:
            shutil.rmtree(folder)
            durable.sync_folder(self._runs)
        except OSError as error:
            where = "" if error.filename is None else f"{Path(os.fsdecode(error.filename)).name}: "
            return f"{where}{error.strerror or error}"
        finally:
            lock.release()
        return None

    def _tree(self, run_id: str) -> dict[int, int]:
        """All living processes of a run, pid -> start ticks: with its mark, or below such."""
        found = dict(_marked_processes(self._runs).get(run_id, {}))
        living = self._living.get(run_id)
        if living is not None:
            found[living.process.pid] = living.process.start_ticks
        more = list(found)
        while more:
            below = {pid: at for pid, at in children(more.pop()).items() if pid not in found}
            found |= below
            more += below
        return found

    def _start(self, folder: RunFolder, spec: Spec, nice: int, begins: str) -> Process:
        durable.make_folder(folder.path)
        _refuse_newer(folder.spec, Spec)
        _refuse_newer(folder.heartbeat, Heartbeat)
        # What an earlier attempt said must not be taken for this one's words.
        folder.heartbeat.unlink(missing_ok=True)
        folder.stood.unlink(missing_ok=True)
        if self._tuning is not None:
            spec = tuned(spec, read_tuning(self._tuning))
        content = msgspec.json.format(msgspec.json.encode(spec))
        if not _holds(folder.spec, content):  # to write it again would wait for the disk
            durable.write(folder.spec, content)
        self._rotate(folder)
        output = durable.open_log(folder.output)
        with suppress(OSError):  # on a full disk it begins all the same
            mark(output, Remark("supervisor", SystemClock().read().wall, "info", begins).line)
        output_from = os.fstat(output).st_size
        try:
            warm = self._fork(spec, nice, output)
            pid, code = warm or self._spawn(folder, spec, nice, output)
        finally:
            os.close(output)
        handle = os.pidfd_open(pid)
        process = Process(boot_id=self._boot_id, pid=pid, start_ticks=start_ticks(pid) or 0)
        self._living[spec.run] = _Living(
            process,
            handle,
            code,
            forked=spec.trainer if warm else None,
            output_from=output_from,
        )
        return process

    def _spawn(
        self, folder: RunFolder, spec: Spec, nice: int, output: int
    ) -> tuple[int, Callable[[], int | None]]:
        """Start the trainer cold: it imports everything itself."""
        words = (spec.trainer, "--run", str(folder.path))
        trainers_dir = self._trainers_dir()
        child = _spawn(words, folder.path, subprocess.DEVNULL, output, trainers_dir)
        if nice:
            make_way(nice, child.pid)
        return child.pid, child.wait

    def _fork(
        self, spec: Spec, nice: int, output: int
    ) -> tuple[int, Callable[[], int | None]] | None:
        """Have the trainer forked by a warm parent; None where that is not possible."""
        try:
            return self._warm.fork(spec.trainer, spec.run, nice, output)
        except WarmLost:
            # It may have forked one, and have told nobody. That one holds the run's lock.
            self.kill(spec.run)
            for process in _marked_processes(self._runs).get(spec.run, {}).items():
                if self._watch(process) and not _ended(self._left[process], GONE_S):
                    raise OSError(errno.EBUSY, "a process of it cannot be ended") from None
            return None

    def _watch(self, process: tuple[int, int]) -> bool:
        """Be woken by the end of a left-over process; whether it lives at all.

        Most die with their trainer, a few milliseconds after it.
        """
        if process not in self._left and (handle := open_exactly(*process)) is not None:
            self._left[process] = handle
        return process in self._left and not _ended(self._left[process])

    def _judge(self, living: _Living, run_id: str, *, ended: bool = False) -> None:
        """See whether the trainer steps, and what that says of the parent that has forked it."""
        if living.steps:
            return
        said = read_heartbeat(RunFolder(self._runs / run_id))
        if said is not None and said.pid == living.process.pid:
            living.steps = said.stepping_at_s is not None
            # One that was stopped before its first step, or had none to make, has lived well.
            ended = ended and said.status not in ("stopped", "done")
        if living.forked is not None and (living.steps or ended):
            self._warm.judge(living.forked, good=living.steps)

    def _exit(self, run_id: str) -> Exit | None:
        """How the run's main process ended, if it did since the last look."""
        reason = self._failed.pop(run_id, None)
        if reason is not None:
            return Exit(start_error=reason)
        living = self._living.get(run_id)
        if living is None or not _ended(living.handle):
            return None
        os.close(living.handle)
        del self._living[run_id]
        if living.output_from is not None:
            output = RunFolder(self._runs / run_id).output
            self._last_lines[run_id] = _last_line(output, living.output_from)
        self._rotate(RunFolder(self._runs / run_id))  # a run that is held is not tended
        self._suspects = (self._suspects or set()) | {run_id}
        code = living.code()
        self._judge(living, run_id, ended=True)
        return living.ended(code)

    def _marked(self, known: dict[str, Run]) -> dict[str, dict[int, int]]:
        """Processes of runs that may have some beside a held main process."""
        first = self._suspects is None
        if not first and not self._suspects:
            return {}
        marked = _marked_processes(self._runs)
        wanted = marked.keys() if first else self._suspects or set()
        return {
            run_id: pids
            for run_id, pids in marked.items()
            if run_id in wanted or run_id not in known
        }

    def _adopt(self, run_id: str, run: Run | None, marked: dict[int, int]) -> None:
        """Hold the run's main process if it lives: the one on record, or that of the heartbeat."""
        recorded = run.attempt.process if run is not None else None
        pid: int | None = None
        if recorded is not None and is_alive(recorded, self._boot_id, self._runs / run_id):
            pid = recorded.pid
        if pid is None and marked:
            heartbeat = read_heartbeat(RunFolder(self._runs / run_id))
            said = heartbeat.pid if heartbeat is not None and heartbeat.pid in marked else None
            pid = said if said is not None and _serves(said, self._runs / run_id) else None
        ticks = start_ticks(pid) if pid is not None else None
        if pid is None or ticks is None:
            return
        handle = open_exactly(pid, ticks)
        if handle is not None:
            process = Process(boot_id=self._boot_id, pid=pid, start_ticks=ticks)
            self._living[run_id] = _Living(process, handle, lambda: None)

    def _rotate(self, folder: RunFolder) -> None:
        """Keep a trainer's output within its size."""
        with suppress(OSError):  # a full disk: the next look tries again
            rotate(folder.output, self._output_max_bytes)


def read_heartbeat(folder: RunFolder) -> Heartbeat | None:
    """What the run's trainer last said; None where that is nothing readable."""
    try:
        content = durable.read(folder.heartbeat, HEARTBEAT_MAX_BYTES)
        return decode(folder.heartbeat, content, Heartbeat)
    except (NewerFile, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _stood(folder: RunFolder) -> Stood:
    """When the run's newest attempt stood still."""
    try:
        return decode(folder.stood, durable.read(folder.stood), Stood)
    except (NewerFile, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Stood()


def _write(folder: RunFolder, stood: Stood) -> bool:
    """Keep it, if the disk takes it; a power cut ends what stands still, so nothing is synced."""
    try:
        durable.write(folder.stood, msgspec.json.encode(stood), sync=False)
    except OSError:
        return False
    return True


def _refuse_newer(path: Path, kind: type[msgspec.Struct]) -> None:
    """Leave alone what a newer version has written; what is damaged or missing may be replaced.

    Raises:
        NewerFile: it is such a file.
    """
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decode(path, durable.read(path), kind)


def _last_line(output: Path, begins: int) -> str | None:
    """The last line that stands behind `begins` in a trainer's output, fit for a log."""
    try:
        with durable.open_regular(output) as file:
            size = file.seek(0, os.SEEK_END)
            # A rotation has emptied it since: then all of it is new.
            file.seek(max(begins if begins <= size else 0, size - LAST_LINE_MAX_BYTES))
            lines = file.read(LAST_LINE_MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return None
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    remark = Remark.of(said.encode())
    said = said if remark is None else remark.text
    plain = "".join(letter if letter.isprintable() else " " for letter in said)
    return plain[:LAST_LINE_MAX].strip() or None


def is_alive(process: Process, boot_id: str, folder: Path) -> bool:
    """Whether exactly this process lives in this boot, as the trainer of the run in `folder`."""
    return _is_there(process, boot_id) and _serves(process.pid, folder) is not False


def _is_there(process: Process, boot_id: str) -> bool:
    return process.boot_id == boot_id and start_ticks(process.pid) == process.start_ticks


def _holds(path: Path, content: bytes) -> bool:
    """Whether exactly `content` stands in that file already."""
    try:
        return durable.read(path) == content
    except OSError:
        return False


def _marked_processes(runs: Path) -> dict[str, dict[int, int]]:
    """Living processes of the runs in the folder `runs`: run id -> {pid: start ticks}."""
    found: dict[str, dict[int, int]] = {}
    # Every restart waits for this, and a machine may have thousands of processes: plain strings
    # and unbuffered files take half the time of paths.
    for name in os.listdir(PROC):  # noqa: PTH208 - see above
        if not name.isdigit() or int(name) == os.getpid():
            continue
        mark = _mark(int(name))
        run_id = mark.rpartition("/")[2] if mark else ""
        # A name that no run can have is not of our making, nor is it fit for a path.
        if not mark or not NAME.fullmatch(run_id):
            continue
        pid, folder = int(name), runs / run_id
        leads = _leads_to(pid, mark, folder)
        # After a move of the home a mark leads nowhere; its process has the folder with it.
        if leads or (leads is None and _stands_in(pid, folder)):
            ticks = start_ticks(pid)
            if ticks is not None:
                found.setdefault(run_id, {})[pid] = ticks
    return found


def _serves(pid: int, folder: Path) -> bool | None:
    """Whether the process is of the run in `folder`, and works there; None: nobody lets us see."""
    mark = _mark(pid)
    if mark is None:
        return None
    if not mark:  # a program may write over its environment, for a title
        return _stands_in(pid, folder)
    return mark.rpartition("/")[2] == folder.name and bool(_leads_to(pid, mark, folder))


def _mark(pid: int) -> str | None:
    """The run folder that the process carries in its environment, or ""; None: unreadable."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            environment = file.read()
    except OSError:
        return None
    _, found, rest = (b"\0" + environment).partition(b"\0" + MARKER.encode() + b"=")
    return os.fsdecode(rest.partition(b"\0")[0]) if found else ""


def _leads_to(pid: int, mark: str, folder: Path) -> bool | None:
    """Whether `mark`, as this process sees it, is in the folder of runs that `folder` is in.

    None: it leads nowhere any more.
    """
    try:
        # A container may have another folder at that path.
        there = os.stat(f"{PROC}/{pid}/root{mark.rpartition('/')[0]}")  # noqa: PTH116 - as above
        return os.path.samestat(there, folder.parent.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return False


def _stands_in(pid: int, folder: Path) -> bool:
    """Whether `folder` is the working directory of the process."""
    try:
        return os.path.samestat((PROC / str(pid) / "cwd").stat(), folder.stat())
    except OSError:
        return False


def _signal(process: tuple[int, int], number: signal.Signals) -> None:
    """Send a signal to exactly this process, (pid, start ticks), and to no stranger."""
    handle = open_exactly(*process)
    if handle is not None:
        _send(handle, number)
        os.close(handle)


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass


def _ended(handle: int, within_s: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal; without one it would die of it."""
    try:
        lines = (PROC / str(pid) / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    caught = next((line for line in lines if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _spawn(
    words: Sequence[str], folder: Path, stdin: int, output: int, trainers_dir: Path | None
) -> subprocess.Popen[bytes]:
    """Start the program of all trainers with these words, as a process of the run in `folder`."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
    environment = {
        key: value for key, value in with_trainers(trainers_dir).items() if key not in ours
    }
    environment[MARKER] = str(folder)
    environment["PYTHONUNBUFFERED"] = "1"
    child = subprocess.Popen(
        [*program("trainers.__main__"), *words],
        cwd=folder if folder.is_dir() else folder.parent,  # a warm parent is of no run yet
        env=environment,
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the daemon, which asks the trainers
    )
    give_back_protection(child.pid)
    return child


def _oom_kills() -> int | None:
    """How often the kernel's out-of-memory killer has struck since the boot; None: it tells not."""
    try:
        lines = (PROC / "vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
