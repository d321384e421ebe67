"""One process of a run, from the lock on its folder to its exit code.

`run` is a whole trainer process. It takes the run's lock, validates the spec, hands
a `Session` to the trainer, and turns the way the trainer ended into a last heartbeat
and an exit code. Signals ask the trainer to stop, and mean nobody that it forks.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from trainers import anew, durable, options, registry, said, sinks
from trainers.checkpoint import Checkpoints
from trainers.contract import (
    EXIT_AGAIN,
    EXIT_BAD_SPEC,
    MARKER,
    BadSpec,
    Heartbeat,
    NewerFile,
    RunFolder,
    Spec,
    decode,
)
from trainers.rewind import ahead
from trainers.session import Session, Stop

HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""signals that mean the trainer itself"""

NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out[ _]of[ _]memory"
    r"|alloc_failed|allocation_failed"
    r"|cu(blas|solver|sparse)_status_(not_initialized|internal_error),? when calling .cu\w+create\("
    r"|cudnn_status_not_initialized",
    re.IGNORECASE,
)
"""words of torch's CPU allocator, of the CUDA driver, and of its libraries, which take memory of
the GPU themselves: one that cannot even be opened for that says that it is not initialized

What they say as often for other reasons, such as that a call is not supported, is not among them:
whoever wants memory is put into a lighter mode."""

OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.EMFILE,
        errno.ENFILE, errno.EAGAIN, errno.EACCES, errno.EPERM, errno.ETIMEDOUT,
    }
)  # fmt: skip
"""errors that tell of the machine as it is now, and nothing of a checkpoint"""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CannotLock(Exception):
    """The run's lock is not to be had now; later it may be."""

    exit_code = EXIT_AGAIN

    def __init__(self, folder: RunFolder, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            super().__init__(f"another trainer holds {folder.path}")
        else:
            super().__init__(f"cannot lock {folder.path}: {error.strerror}")


def run(path: Path, trainer: str) -> int:
    """Make one attempt at the run in `path` with the trainer of that name.

    Returns:
        The exit code: done, try again, or bad spec. One line on stderr says why
        where it is not done; a crash adds its traceback.
    """
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        # An orderly shutdown sends it to everybody in a login's session.
        signal.signal(signal.SIGHUP, stop)
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=_let_signals,
        after_in_child=partial(_be_nobody, stop),
    )
    try:
        folder = _folder(path)
        with locked(folder):
            return _attempt(folder, trainer, stop)
    except (BadSpec, CannotLock) as error:
        sinks.say(str(error), "error")
        return error.exit_code


_forking = threading.local()
"""`blocked`: the signals that a thread which forks had blocked before"""


def _hold_signals() -> None:
    """Let signals wait for the end of a fork: before the child is nobody it would remember them."""
    _forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.blocked)


def _be_nobody(stop: Stop) -> None:
    """Let a process that the trainer forks end of what other processes end of.

    The signals to this trainer mean this trainer. A pool of processes, for instance, ends its
    own with SIGTERM, and waits for ever for one that only remembers it. Handlers that the program
    has set itself are its own.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is stop:
            plain = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, plain)
    faulthandler.unregister(signal.SIGUSR1)
    _let_signals()


def check(path: Path, trainer: str, asked: Path | None = None) -> Spec:
    """The valid spec of the run in `path`, for the trainer of that name.

    Args:
        path: the run's folder; it may be missing where `asked` is given.
        trainer: the name of its trainer.
        asked: a file with the spec that it is to have; None: with the one that it has.

    Raises:
        BadSpec: it can never work.
    """
    program = registry.load(trainer)
    spec = spec_in(asked or open_folder(path).spec, path.name)
    if spec.trainer != trainer:
        raise BadSpec(f"the spec asks for the trainer {spec.trainer!r}, not {trainer!r}")
    limit_threads(spec.threads)  # before the trainer imports anything numeric
    options.validate(program, spec)
    return spec


def check_fits(path: Path, spec: Spec) -> None:
    """See that the run in `path` can go on under that spec from where its next attempt will.

    Raises:
        BadSpec: it cannot.
    """
    # To find it means to read the whole of it, which only some trainers ask for.
    if hasattr(registry.load(spec.trainer), "fits") and os.path.lexists(path):
        begins = ahead(Checkpoints(open_folder(path).checkpoints), spec.rewind)
        if begins is not None:
            see_fit(spec, begins.path)


def see_fit(spec: Spec, checkpoint: Path) -> None:
    """See that a run can go on from that checkpoint under that spec, as far as its trainer tells.

    Raises:
        BadSpec: it cannot.
    """
    fits = getattr(registry.load(spec.trainer), "fits", None)
    if fits is not None:
        fits(spec, checkpoint)


def open_folder(path: Path) -> RunFolder:
    """The run folder at `path`.

    Raises:
        BadSpec: it is no folder, or one of our files in it is a symlink, through which a trainer
            would read or write elsewhere. What the program of a trainer keeps there is its own.
    """
    folder = _folder(path)
    for ours in folder.ours:
        if ours.is_symlink():
            raise BadSpec(f"{ours} is a symlink; the files of a run must be its own")
    return folder


def _folder(path: Path) -> RunFolder:
    # Not resolved before it is looked at: a link to a folder is no run folder.
    path = path.absolute()
    if path.is_symlink() or not path.is_dir():
        raise BadSpec(f"there is no run folder {path}")
    return RunFolder(path)


def read_spec(folder: RunFolder) -> Spec:
    """The content of `spec.json`.

    Raises:
        BadSpec: it is absent, unreadable, or not a spec of this run.
        NewerFile: a newer version has written it.
    """
    return spec_in(folder.spec, folder.path.name)


def spec_in(path: Path, run: str) -> Spec:
    """The spec of that run in the file `path`; raises as `read_spec`."""
    try:
        spec = decode(path, durable.read(path), Spec)
    except FileNotFoundError as error:
        raise BadSpec(f"{path} is missing") from error
    except durable.UnreadableFile as error:
        raise BadSpec(str(error)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadSpec(f"{path}: {error}") from error
    if spec.run != run:
        raise BadSpec(f"{path} belongs to the run {spec.run!r}")
    return spec


def limit_threads(threads: int) -> None:
    """Tell numeric libraries how many threads to use; they read it once, when imported.

    Threads that wait for each other sleep, and do not spin: beside other programs a thread that
    spins takes the processor from the one that it waits for.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _attempt(folder: RunFolder, trainer: str, stop: Stop) -> int:
    session: Session | None = None
    pid = os.getpid()
    try:
        # Before anything of the trainer is imported. CUDA reads it once, when it is first used; so
        # this holds in a fork of a warm parent, too.
        if (gpus := read_spec(open_folder(folder.path)).gpus) is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        spec = check(folder.path, trainer)
        _last_words(folder)  # or a newer version's would be replaced by the first of ours
        os.environ.setdefault(MARKER, str(folder.path))
        begins = anew.begin(folder, spec)
        session = Session(folder, spec, stop=stop)
        if begins is not None:
            session.notice(begins)
        if not session.target_reached:
            _train(trainer, session)
        if os.getpid() == pid:
            return session.finish()
    except BaseException as error:  # noqa: BLE001 - whatever ended it, the last words are written
        reason = said.reason(error)
        if not isinstance(error, BadSpec | said.Told) or isinstance(error, said.Misused):
            with suppress(Exception):  # an error may be one in everything that it says
                traceback.print_exception(error)
        if os.getpid() == pid:
            last_words = {
                "out_of_memory": _is_out_of_memory(error),
                "of_the_machine": isinstance(error, OSError) and error.errno in OF_THE_MACHINE,
            }
            if session:
                session.fail(reason, **last_words)
            else:
                _fail_without_session(folder, reason)
            sinks.say(reason, "error")
            return EXIT_BAD_SPEC if isinstance(error, BadSpec) else EXIT_AGAIN
    # What the trainer has forked has come back from where only the trainer may.
    os._exit(EXIT_AGAIN)


def _train(trainer: str, session: Session) -> None:
    """Train; to leave with `sys.exit()` is to return."""
    try:
        registry.load(trainer).train(session)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock.

    Raises:
        CannotLock: another process holds it, or the disk refuses.
    """
    try:
        lock = durable.hold(folder.path)
    except OSError as error:
        raise CannotLock(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # Torch says these with a plain RuntimeError.
    return isinstance(error, RuntimeError) and NO_MEMORY.search(said.text(error)) is not None


def _last_words(folder: RunFolder) -> Heartbeat | None:
    """The heartbeat that was there before; None where it cannot be read.

    Raises:
        NewerFile: a newer version has written it, and may mean something else by it.
    """
    try:
        return decode(folder.heartbeat, durable.read(folder.heartbeat), Heartbeat)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _fail_without_session(folder: RunFolder, reason: str) -> None:
    """Write the last words of a trainer that could not even begin, keeping what is known."""
    try:
        known = _last_words(folder)
    except NewerFile:
        return
    known = known or Heartbeat(
        run=folder.path.name,
        pid=os.getpid(),
        mode="",
        status="failed",
        step=0,
        episodes=0,
        written_at=0.0,
        progress_at_s=0.0,
        longest_gap_s=0.0,
    )
    last_words = msgspec.structs.replace(
        known,
        pid=os.getpid(),
        status="failed",
        written_at=round(sinks.wall_time_s(), 3),
        progress_at_s=round(time.monotonic(), 3),
        longest_gap_s=0.0,
        steps_per_s=None,
        began=None,
        reached=None,
        stepping_at_s=None,
        checkpoints=None,
        checkpoint_stall_s=None,
        alive_at_s=None,
        returned_at=None,
        notices=(),
        notices_before=0,
        error=reason,
        out_of_memory=False,
        of_the_machine=False,
    )
    sinks.write_heartbeat(folder, last_words)
