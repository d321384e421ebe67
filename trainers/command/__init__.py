"""Runs any program as a trainer: watched, stopped, and gone on with after every death.

The program knows nothing of us. What it prints, or writes to a file, tells how far it is; what it
saves is taken once it is whole, and handed back to it; signals and exit codes are as it has them.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from trainers import durable, sinks
from trainers.command import saved
from trainers.command.metrics import Files
from trainers.command.options import (
    SECONDS,
    Known,
    Options,
    check_codes,
    check_progress,
    expanded,
    stop_s,
)
from trainers.command.output import Lines
from trainers.command.process import Call, Program, call, usual_umask
from trainers.command.progress import File, Saved, Teller
from trainers.contract import FROM_OUTSIDE, HOME, BadSpec, Need, Spec
from trainers.registry import Imported
from trainers.said import Killed, Told
from trainers.session import Session, options_of

UNIT = "any"
"""whatever the program counts: the target names it"""
Load = dict
"""whatever a mode says, for `{load.KEY}`"""

SIGNALLED = 128
"""and the number of a signal is what a shell makes of it, for an exit code"""
RESTS_MAX = 4
"""looks at what a program has left in its pipe and its file"""
TURN_S = 0.25
"""longest time between two looks at all that may have happened"""
LEAVE_S = 1.0
"""for what it has started to leave after a program that is done"""
PROGRESS_FILE = "progress.jsonl"
RESUME = "resume"
"""the folder of what is handed back"""
NUMBERS_MAX_BYTES = 2**20
"""of what an evaluation tells"""


def check(spec: Spec) -> None:
    """Refuse what can never work, as far as that can be seen from here.

    Raises:
        BadSpec: the message says what to do.
    """
    options = options_of(spec, Options)
    check_codes(options)
    stop_s(spec, options)
    check_progress(spec, options)
    home = os.environ.get(HOME)
    known = Known(spec, options, Path(home) if home else None)
    call(known, options, options.command, "command", more=options.resume)
    for where in ("evaluate", "export"):
        words = getattr(options, where)
        if words is not None:
            call(known, options, words, where)
    if options.progress is not None and options.progress.file is not None:
        known.fill(options.progress.file, "progress.file")
    if options.checkpoints is not None:
        known.fill(options.checkpoints, "checkpoints")
    elif any("{checkpoint}" in word for word in _all_words(options)):
        raise BadSpec(
            "options.checkpoints is not set, so there is no {checkpoint}: say what the program "
            'saves, such as checkpoints = "ckpt-*.pt"'
        )


def remark(spec: Spec) -> str | None:
    """What cannot be had of this program."""
    options, lacking = options_of(spec, Options), []
    if options.progress is None:
        lacking.append("this program tells no progress: hangs cannot be noticed")
    if options.checkpoints is None:
        lacking.append("it names no checkpoints: it has to go on by itself")
    score = "" if options.progress is None else options.progress.score or ""
    if options.progress is not None and options.progress.better == "higher" and _falls(score):
        lacking.append(f'the higher {score}, the better: set better = "lower", unless it is so')
    return "; ".join(lacking) or None


def needs(spec: Spec) -> list[Need]:
    """The programs, their interpreters and scripts, and the places that the options name.

    Raises:
        BadSpec: the options make no sense.
    """
    from trainers.command.places import needed  # noqa: PLC0415 - the training needs none of it

    home = os.environ.get(HOME)
    options = options_of(spec, Options)
    return list(needed(Known(spec, options, Path(home) if home else None), options))


def train(session: Session) -> None:
    """Run the program until it ends, its target is reached, or a stop is requested."""
    options = options_of(session.spec, Options)
    run = session.folder.path
    known = Known(session.spec, options, run.parent.parent)
    known.work = run / "work"
    known.values |= {"work": str(known.work), "step": session.step}
    if not known.work.is_dir():  # it may be a link to where there is room
        durable.make_folder(known.work)
    teller = Teller(session, options, time.monotonic)
    saves = _handed_back(session, options, known, teller)
    resumed = session.checkpoint is not None and (
        options.checkpoints is None or known.values["checkpoint"] is not None
    )
    more = options.resume if resumed else ()
    it = call(known, options, options.command, "command", more=more)
    assert it is not None  # noqa: S101 - all is known here
    _give_back_memory()
    file = File(run / PROGRESS_FILE)
    metrics = _metrics(options, known)
    program = Program(it, file.path, run)
    try:
        _Attempt(session, options, teller, saves, file, metrics, program).watch()
    finally:
        program.end()
        program.close()


def _give_back_memory() -> None:
    """Let the system have what imports needed and nobody holds: we live as long as the program."""
    with suppress(AttributeError, OSError):  # another C library than that of GNU
        ctypes.CDLL(None).malloc_trim(0)


def evaluate(spec: Spec, checkpoint: Path, _episodes: int) -> list[float]:
    """The numbers that the program for this tells of a checkpoint.

    Raises:
        BadSpec: there is no such program, or it tells none.
    """
    options = options_of(spec, Options)
    if options.evaluate is None:
        raise BadSpec("options.evaluate is not set: name the program that tells how good it is")
    import tempfile  # noqa: PLC0415 - the training needs none of it

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out.json"
        it = _with(spec, options, checkpoint, out, options.evaluate, "evaluate", Path(place))
        told = _numbers(_printed(it, "evaluate"), out)
    if not told:
        raise BadSpec(
            "options.evaluate told no number: print them in the last line, or write a JSON list "
            "of them to {out}"
        )
    return told


def export(spec: Spec, checkpoint: Path, out: Path) -> None:
    """Have the program for this write `out`, a file or a folder, of a checkpoint.

    Without such a program it is what the program had saved, as that was.

    Raises:
        BadSpec: it writes none, or nothing was saved.
    """
    options = options_of(spec, Options)
    if options.export is None:
        beside = out.with_name(f"{out.name}.d")
        whole = saved.handed_back(checkpoint, saved.kept(checkpoint), beside)
        if whole is None:
            raise BadSpec("this checkpoint holds nothing that the program has saved")
        whole.rename(out)
        beside.rmdir()
        return
    import tempfile  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as place:
        it = _with(spec, options, checkpoint, out, options.export, "export", Path(place))
        printed = _printed(it, "export")
    if not out.exists():
        last = printed.decode(errors="replace").rstrip().rpartition("\n")[2]
        raise BadSpec(f"options.export has not written {{out}}, {out}; it printed last: {last}")


def import_checkpoint(spec: Spec, path: Path) -> Imported:
    """What a program has saved elsewhere, to be handed back to it.

    Raises:
        BadSpec: this program is handed back nothing, or not by that name.
    """
    from trainers.command import foreign  # noqa: PLC0415 - only here

    return foreign.taken(spec, options_of(spec, Options), path)


def _falls(score: str) -> bool:
    """Whether a score is called like one that is better the lower it is."""
    return any(word in score.lower() for word in ("loss", "error", "perplexity"))


def _all_words(options: Options) -> tuple[str, ...]:
    return (*options.resume, *(options.evaluate or ()), *(options.export or ()))


def _with(
    spec: Spec,
    options: Options,
    checkpoint: Path,
    out: Path,
    words: tuple[str, ...],
    where: str,
    place: Path,
) -> Call:
    """A call of one of the programs beside the training, with what a checkpoint holds."""
    run = checkpoint.parents[1]
    known = Known(spec, options, run.parent.parent)
    known.work = run / "work"
    whole = saved.handed_back(checkpoint, saved.kept(checkpoint), place / RESUME)
    known.values |= {
        "work": str(known.work),
        "checkpoint": None if whole is None else str(whole),
        "out": str(out),
        "step": int(checkpoint.name),
    }
    it = call(known, options, words, where)
    if it is None:
        raise BadSpec("this checkpoint holds nothing that the program has saved")
    return it


def _printed(it: Call, where: str) -> bytes:
    """What such a program prints.

    Raises:
        Told: it fails.
    """
    import subprocess  # noqa: PLC0415 - only here

    process = subprocess.run(
        it.words,
        cwd=it.cwd,
        env=it.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        umask=usual_umask(),
        check=False,
    )
    if process.returncode != 0:
        raise Told(f"options.{where} ended with exit code {process.returncode}")
    return process.stdout[-NUMBERS_MAX_BYTES:]


def _numbers(printed: bytes, out: Path) -> list[float]:
    """What a program tells, in a file or in its last line."""
    import json  # noqa: PLC0415 - only here

    if out.exists():
        text = durable.read(out, NUMBERS_MAX_BYTES).decode(errors="replace")
    else:
        lines = printed.decode(errors="replace").split("\n")
        text = next((line for line in reversed(lines) if line.strip()), "")
    try:
        told = json.loads(text)
    except ValueError:
        told = text.replace(",", " ").split()
    numbers = []
    for one in told if isinstance(told, list) else [told]:
        try:
            numbers.append(float(one))
        except (TypeError, ValueError):
            continue
    return [number for number in numbers if math.isfinite(number)]


def _handed_back(
    session: Session, options: Options, known: Known, teller: Teller
) -> saved.Saves | None:
    """Hand the newest good checkpoint back, and watch for the next one.

    Where no words say that it is there, it is put back where the program has saved it.
    """
    saves: saved.Saves | None = None
    if options.checkpoints is not None:
        pattern = _below(known, options, options.checkpoints, "checkpoints")
    if session.rewound and options.checkpoints is None:
        session.notice(
            "only what is counted has gone back: this program goes on by itself, from files of its "
            f"own, in {known.work} perhaps"
        )
    if session.anew and options.checkpoints is not None:
        saved.set_aside_all(session, pattern)  # many look by themselves, though they can be told
    if session.checkpoint is not None:
        kept = saved.kept(session.checkpoint.path)
        if kept.counts != teller.counts:
            before, now = _called(kept.counts), _called(teller.counts)
            session.notice(
                f"a step was {before} and is {now}: those up to {session.step} count as made"
            )
        if options.resume:
            place = session.folder.path / RESUME
            whole = saved.handed_back(session.checkpoint.path, kept, place)
            known.values["checkpoint"] = None if whole is None else str(whole)
        elif options.checkpoints is not None:
            whole = saved.put_back(session, session.checkpoint, kept)
            known.values["checkpoint"] = None if whole is None else str(whole)
            saved.set_aside_later(session, pattern, kept)
    if options.checkpoints is not None:
        saves = saved.Saves(session, pattern, teller, links=options.links)
    return saves


def _metrics(options: Options, known: Known) -> Files | None:
    """The files of metrics that the program writes anyway."""
    progress = options.progress
    if progress is None or progress.file is None:
        return None
    return Files(_below(known, options, progress.file, "progress.file"))


def _below(known: Known, options: Options, pattern: str, where: str) -> str:
    """A pattern of names below the working directory of the program, as a whole path."""
    below = known.fill(pattern, where)
    cwd = known.work if options.cwd is None else Path(known.fill(options.cwd, "cwd") or "")
    assert below is not None  # noqa: S101 - all is known here
    assert cwd is not None  # noqa: S101 - as above
    return str(cwd.expanduser() / expanded(below, where))


def _called(counts: str) -> str:
    return "a second" if counts == SECONDS else "what the program tells"


class _Attempt:
    """One life of the program, from its start to its end."""

    def __init__(
        self,
        session: Session,
        options: Options,
        teller: Teller,
        saves: saved.Saves | None,
        file: File,
        metrics: Files | None,
        program: Program,
    ) -> None:
        self._session = session
        self._options = options
        self._teller = teller
        self._saves = saves
        self._file = file
        self._metrics = metrics
        self._program = program
        self._began = session.step
        """where it went on from"""
        self._lines = Lines(sinks.pass_on, teller.line, time.monotonic)
        self._reached_s: float | None = None
        """since when the target is reached"""

    def watch(self) -> None:
        """Look after it until it has ended, and say what came of it.

        Raises:
            Told: it has died.
            BadSpec: it says that another start is pointless.
        """
        asked = False
        while self._program.code is None and not asked:
            self._turn()
            if self._should_stop():
                asked = True
                self._stop()
        leaves = self._program.code in self._options.done and not asked and self._leaves()
        self._program.end()
        self._hear_out()
        code = self._program.code
        # A signal, told by itself or by a shell, may have come in the midst of writing, and so may
        # an error; but whoever was asked to stop has mostly saved, whatever its code.
        left = code is not None and 0 <= code < SIGNALLED
        left = left and (asked or code in (*self._options.done, *self._options.again))
        if self._saves is not None:
            self._saves.last(left=left)
        else:
            self._save()
        if self._reached_s is not None:
            self._session.done()
        elif not asked:
            if leaves:
                self._tell_what_was_left()
            self._judge(code)

    def _leaves(self) -> bool:
        """Whether what it has started lives on."""
        until_s = time.monotonic() + LEAVE_S
        while self._program.leaves:
            if time.monotonic() >= until_s:
                return True
            time.sleep(LEAVE_S / 10)
        return False

    def _tell_what_was_left(self) -> None:
        """Say what was ended once the program had ended itself.

        Raises:
            BadSpec: that was all of it, for the program has made no step itself.
        """
        if self._session.step == self._began:
            raise BadSpec(
                "the program went into the background, and was ended there: have it stay in "
                "front, or start it by a script that waits for it"
            )
        self._session.notice(
            "the program has ended, and what it had started was still alive and is ended, too: "
            "one that goes into the background has to stay in front"
        )

    def _judge(self, code: int | None) -> None:
        """Say what an end means that nobody has asked for."""
        shown = SIGNALLED - code if code is not None and code < 0 else code
        if shown in self._options.done:
            self._session.done()
            return
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
        last = f"; it printed last: {self._lines.last}" if self._lines.last else ""
        if shown in self._options.never:
            raise BadSpec(f"the program ended with {how}, as one that can never work{last}")
        # A shell tells of a signal by its exit code.
        death = Killed if shown is not None and shown - SIGNALLED in FROM_OUTSIDE else Told
        if shown in self._options.again and code == shown:
            raise death(f"the program asks for another start, with {how}")
        raise death(f"the program ended with {how}{last}")

    def _should_stop(self) -> bool:
        """Whether it is asked to stop now."""
        if self._session.target_reached and self._reached_s is None:
            self._reached_s = time.monotonic()
        # Of a target that the program does not count itself it knows nothing.
        patience_s = 0.0 if self._teller.counts == SECONDS else self._options.finish_s
        since_s = self._reached_s
        late = since_s is not None and time.monotonic() - since_s >= patience_s
        return self._session.stop_requested or late

    def _stop(self) -> None:
        """Ask it to stop, then what it has left behind, until its time is over."""
        until_s = time.monotonic() + stop_s(self._session.spec, self._options)
        number = signal.Signals[self._options.stop_signal]
        self._program.signal(number)
        asked_all = False
        while time.monotonic() < until_s and self._program.leaves:
            self._turn()
            if self._program.code is not None and not asked_all:
                asked_all = True
                self._program.signal(number)
        self._program.end()

    def _turn(self) -> None:
        """Take what it says and saves, for a moment."""
        self._program.wait(TURN_S)
        self._listen()
        self._read()
        self._teller.tick()
        if self._saves is not None:
            self._saves.look(lambda: self._program.code is None)
        elif self._session.checkpoint_due():
            self._save()

    def _hear_out(self) -> None:
        """Take the rest of what it has said, now that nothing of it lives."""
        for _ in range(RESTS_MAX):
            if not self._listen():
                break
        self._lines.close()
        for _ in range(RESTS_MAX):
            self._read(at_once=True)
        self._teller.flush()
        sinks.flush()

    def _read(self, *, at_once: bool = False) -> None:
        """Take what it has written to its files, in its order."""
        for told in self._file.read():
            if not isinstance(told, Saved):
                self._teller.numbers(told)
            elif self._saves is not None:
                self._saves.told(told)
        if self._metrics is not None:
            for numbers in self._metrics.read(time.monotonic(), at_once=at_once):
                self._teller.numbers(numbers, again=True)

    def _listen(self) -> bool:
        """Take what it has printed; whether it was anything."""
        anything = False
        for piece in self._program.printed():
            anything = True
            self._lines.feed(piece)
        sinks.flush()
        return anything

    def _save(self) -> None:
        """Keep how far it is: what it needs to go on is its own."""
        if self._session.step > 0:
            self._session.save(saved.state(self._teller.counts))
