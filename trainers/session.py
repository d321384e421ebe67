"""What a trainer uses of its run: one attempt, from its checkpoint to its last heartbeat.

The trainer says how far it is (`progress`), what it measured (`log`), and what it
would need to go on (`save`); that it lives while no step is made (`alive`), and
that its work is over before any target (`done`). It asks whether a checkpoint is
due and whether it should stop. Whoever has made the session for it says what came
of the attempt: `finish`, or `fail`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeVar

import msgspec

from trainers import durable, options, said, sinks
from trainers.checkpoint import Checkpoint, Checkpoints, Manifest
from trainers.contract import (
    EPISODES,
    EXIT_AGAIN,
    EXIT_DONE,
    NOTICES_MAX,
    Heartbeat,
    Mark,
    NewerFile,
    RunFolder,
    Score,
    Spec,
    Status,
    Stood,
    decode,
)
from trainers.rewind import go_back

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEARTBEAT_INTERVAL_S = 1.0
"""the least time between two heartbeats that only tell of progress"""
RATE_WINDOW_S = 60.0
"""`steps_per_s` is the mean over about this long, to span a few update cycles"""
STOOD_MIN_S = 1.0
"""shorter pauses of this process are not looked for"""
SLOW_WRITE_S = 10.0
"""a checkpoint that is written for longer, and for longer than the interval, is worth a notice"""
TAKEN = ("step", "episodes", "mode", "at", "steps_per_s")
"""names that every line of metrics has already"""

NO_CHECKPOINT = ", and no checkpoint holds it: a trainer must save before it returns"

T = TypeVar("T")


class Stop:
    """Whether a stop was requested: a signal handler that does nothing but remember.

    A handler runs between any two instructions of whatever is in progress, a
    checkpoint for instance, so it must not act; and a second signal changes
    nothing.
    """

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Remember that a signal asked for a stop."""
        self.requested = True


class Session:
    """One attempt of a run, as its trainer sees it.

    Created with the run's lock held. It knows at once where the run stands:
    `checkpoint` is the newest good one (None: start from nothing), `step` and
    `episodes` are what it holds.

    Args:
        folder: the run's folder.
        spec: its validated spec.
        stop: what the signal handlers tell.
        monotonic_s: CLOCK_MONOTONIC, in seconds.
        wall_time_s: seconds since 1970.
    """

    def __init__(
        self,
        folder: RunFolder,
        spec: Spec,
        *,
        stop: Stop | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_time_s: Callable[[], float] = sinks.wall_time_s,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.step = 0
        self.episodes = 0
        self.checkpoint: Checkpoint | None = None
        self.rewound = False
        """whether a person has had it go back, and this is the first attempt since"""
        self.anew = False
        """whether it begins with nothing as a person has asked, whatever there was before"""
        self._stop = stop or Stop()
        self._monotonic_s = monotonic_s
        self._wall_time_s = wall_time_s
        self._status: Status = "starting"
        self._notices: list[str] = []
        self._notices_total = 0
        self._over = False
        self._score: Score | None = None
        self._loss: float | None = None
        self._checkpoint_write_s: float | None = None
        self._disk_failing = False
        self._trained_s = 0.0
        self._stepping_at_s: float | None = None
        self._checkpoints_written = 0
        self._unsaved = False
        """whether the newest checkpoint that was asked for is not known to be written"""
        self._stall_s = 0.0
        self._longest_gap_s = 0.0
        now_s = monotonic_s()
        self._looked_at_s = now_s
        self._stood = Stood()
        self._progress_at_s = now_s
        self._alive_at_s: float | None = None
        self._beat_at_s = now_s
        self._saved_at_s = now_s
        self._booked_at_s = now_s
        """until when the time since the first new step is booked, as trained or as stalled"""
        self._marks: deque[tuple[float, int]] = deque()
        self._checkpoints = Checkpoints(folder.checkpoints)
        self._writer = futures.ThreadPoolExecutor(1)
        self._writing: futures.Future[None] | None = None
        self._resume()
        self._sinks: tuple[sinks.Sink, ...] = (
            sinks.Metrics(folder.metrics),
            sinks.Curves(folder.tensorboard, self.step),
        )
        sinks.tell(f"{spec.name} in mode {spec.mode} begins at step {self.step:,}")
        self._beat()

    @property
    def stop_requested(self) -> bool:
        """Whether the trainer should save and return as soon as it can."""
        return self._stop.requested

    @property
    def target_reached(self) -> bool:
        """Whether nothing is left to learn."""
        return _reached(self.spec, self.step, self.episodes)

    def progress(
        self,
        step: SupportsIndex | SupportsFloat,
        *,
        episodes: SupportsIndex | SupportsFloat | None = None,
        score: Score | None = None,
        loss: SupportsIndex | SupportsFloat | None = None,
    ) -> None:
        """Say how far the training is; cheap enough for every environment step.

        Args:
            step: environment steps so far, over all attempts of the run; never fewer than before.
            episodes: episodes finished so far, over all attempts, likewise; None: as before.
            score: how good the run is by now; the best checkpoint is that of the best. None: as
                before.
            loss: of the last update; None: as before.

        Raises:
            Misused: an argument cannot be used; the attempt ends of it.
        """
        step = said.count("progress: step", step, least=self.step)
        if episodes is not None:
            self.episodes = said.count("progress: episodes", episodes, least=self.episodes)
        if self._writing and self._writing.done():
            self.settle()
        now_s = self._now_s()
        if step != self.step:
            self._book(now_s)
            if self._marks:
                gap_s = self._lasted_s(max(self._progress_at_s, self._alive_at_s or 0.0), now_s)
                self._longest_gap_s = max(self._longest_gap_s, gap_s)
            else:
                # Start-up and first step are neither a gap nor part of the rate.
                self._marks.append((now_s, step))
                self._stepping_at_s = now_s
            self._progress_at_s = now_s
        self.step = step
        if score is not None:
            self._score = self._measured("progress: score", score)
        if loss is not None:
            self._loss = self._judged("progress: loss", loss)
        self._live_on("running", now_s)

    def alive(self) -> None:
        """Say that the trainer works on while no step is made: a long validation, for instance.

        It is not taken for hung then. Cheap enough to be called all the while, and to be called by
        what really works: whoever calls it from a thread beside that hides every hang.
        """
        if self._writing and self._writing.done():
            self.settle()
        self._alive_at_s = now_s = self._now_s()
        self._live_on("starting" if self._status == "starting" else "running", now_s)

    def done(self) -> None:
        """Say that the work is over, though no target may be reached; then save and return.

        For what ends by itself, after so many epochs for instance. A trainer that returns before
        its target without having said so is started again.
        """
        self._over = True

    def log(
        self,
        values: Mapping[str, SupportsIndex | SupportsFloat | None],
        *,
        file_only: Collection[str] = (),
    ) -> None:
        """Add `values` to the metrics and to the curves that TensorBoard shows.

        In `metrics.jsonl` it is one line, with the step and the episodes. After a crash the steps
        since the last checkpoint are made again: a line counts unless a later one has the same
        step or an earlier one. What is not finite becomes null there, and is no point of a curve.

        Args:
            values: names and numbers; None: there is none now.
            file_only: names of those that are no curve.

        Raises:
            Misused: a name or a number cannot be used; the attempt ends of it.
        """
        measured = said.metrics("log: values", values, TAKEN)
        at = round(self._wall_time_s(), 3)
        own = (self.step, self.episodes, self.spec.mode, at, self._steps_per_s())
        line = sinks.Line(self.step, at, dict(zip(TAKEN, own, strict=True)), measured, file_only)
        for sink in self._sinks:
            try:
                sink.write(line)
            except durable.UnreadableFile as error:  # no matter of the disk, not over with time
                name = Path(error.filename).name
                self.notice(f"the {sink.what} are not kept: {name} is {error.strerror}")
            except OSError as error:
                self.disk_failed(sink.what, error)

    def notice(self, text: str) -> None:
        """Tell a person something, once per attempt; in one line, whose beginning is kept."""
        text = said.text(text)
        if text not in self._notices:
            self._notices = [*self._notices, text][-NOTICES_MAX:]
            self._notices_total += 1
            sinks.say(text, "warning")
            self._beat()

    def checkpoint_due(self, within_s: float = 0.0) -> bool:
        """Whether a checkpoint should be written now.

        The first of a run is due as soon as there is a step to keep; later ones
        when the interval is over, and the one before is written.

        Args:
            within_s: time until the next occasion to write one; it is due now if the
                interval would be over by then.
        """
        if self._writing and not self._writing.done():
            slow_s = max(self.spec.checkpoint_interval_s, SLOW_WRITE_S)
            if self._lasted_s(self._saved_at_s) > slow_s:
                self.notice(
                    f"the disk is slow: a checkpoint has not been written within {slow_s:.0f} s; "
                    "training goes on, and more of it is lost by a crash"
                )
            return False
        if self.checkpoint is None and not self._disk_failing:
            return self.step > 0
        return self._lasted_s(self._saved_at_s) + within_s >= self.spec.checkpoint_interval_s

    def save(
        self,
        files: Iterable[tuple[str, Buffer | Path]] | Mapping[str, Buffer | Path],
        *,
        step: SupportsIndex | SupportsFloat | None = None,
        episodes: SupportsIndex | SupportsFloat | None = None,
        score: Score | None = None,
        wait: bool = True,
        replace: bool = False,
    ) -> bool:
        """Write a checkpoint; a disk that fails costs a notice, not the training.

        Args:
            files: name and content of each file; written as they are produced. All lie in one
                folder, so a name is that of a file, and no path. A content that is a path is that
                of a file on the disk of the run, which is moved.
            step: the step that the files hold, where it is not the current one.
            episodes: the episodes that they hold, likewise.
            score: how good what they hold is, likewise.
            wait: until it is written; otherwise a thread produces and writes the files
                beside the training, so they must not depend on anything that still changes.
            replace: the checkpoint of the same step, where there is one: for a trainer that gets
                on between two steps, too.

        Returns:
            Whether it is known to be on the disk.

        Raises:
            Misused: an argument cannot be used; the attempt ends of it. Without `wait`, what is
                wrong with the files is told by the next call of the session.
        """
        held_step = self.step if step is None else said.count("save: step", step)
        if episodes is not None:
            episodes = said.count("save: episodes", episodes)
        if score is not None:
            score = said.score("save: score", score)
        started_s = self._now_s()
        self.settle()
        self._book(started_s)
        manifest = Manifest(
            run=self.spec.run,
            trainer=self.spec.trainer,
            mode=self.spec.mode,
            step=held_step,
            trained_s=round(self._trained_until(held_step), 3),
            episodes=self.episodes if episodes is None else episodes,
            score=self._score if score is None else score,
            saved_at=round(self._wall_time_s(), 3),
        )
        self._unsaved = True
        named = said.files("save: files", files)
        self._writing = self._writer.submit(self._write, manifest, named, replace)
        try:
            return wait and self.settle()
        finally:
            # Also after a failure: the next try comes an interval later, not at once.
            self._saved_at_s = self._booked_at_s = self._now_s()
            self._stall_s += self._lasted_s(started_s, self._saved_at_s)

    def _write(
        self, manifest: Manifest, files: Iterable[tuple[str, memoryview | Path]], replace: bool
    ) -> None:
        """Write a checkpoint, in the thread that does nothing else."""
        started_s = self._now_s()
        self.checkpoint = self._checkpoints.save(manifest, files, replace=replace)
        self._checkpoint_write_s = round(self._now_s() - started_s, 3)
        self._checkpoints_written += 1
        if not self.stop_requested:
            # A person who goes back stops it for that: what they have named must still be there.
            self._checkpoints.prune(proven=self._began.step)

    def settle(self) -> bool:
        """Wait for the checkpoint that is being written, and say what came of it.

        Returns:
            Whether there was one, which is on the disk now.
        """
        if self._writing is None:
            return False
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except OSError as error:
            self.disk_failed("a checkpoint", error)
            return False
        self._unsaved = False
        assert self.checkpoint is not None  # noqa: S101 - it was written
        manifest = self.checkpoint.manifest
        if self._disk_failing:
            self._disk_failing = False
            self.notice(f"the disk can be written to again; checkpoint {manifest.step} is saved")
        sinks.tell(_line_about(manifest, self._steps_per_s()))
        self._beat()
        return True

    def finish(self) -> int:
        """Write the final heartbeat of a trainer that returned; its exit code is returned.

        The run is done when a checkpoint holds the target, or when the trainer has said so
        and nothing that it wanted to keep is missing. Otherwise it stopped, asked or by itself,
        and its step falls back to the one that the next attempt resumes from.
        """
        self.settle()
        held = self.checkpoint.manifest if self.checkpoint else None
        if (held and _reached(self.spec, held.step, held.episodes)) or (
            self._over and not self._unsaved
        ):
            self._end("done")
            sinks.tell(f"done at step {self.step:,}")
            return EXIT_DONE
        if self.target_reached or self._over:
            why = "its work is over" if self._over else "the target is reached"
            why += " and its checkpoint cannot be written" if self._unsaved else NO_CHECKPOINT
            self.fail(why, of_the_machine=self._unsaved)
            return EXIT_AGAIN
        early_at = None if self.stop_requested else self.step
        self.step, self.episodes = (held.step, held.episodes) if held else (0, 0)
        self._end("stopped", returned_at=early_at)
        if early_at is not None:
            sinks.say(
                f"it has returned before its target, at step {early_at:,}; what ends by itself "
                "says session.done() before",
                "warning",
            )
        sinks.tell(f"stopped; the next attempt begins at step {self.step:,}")
        return EXIT_AGAIN

    def fail(
        self, error: str, *, out_of_memory: bool = False, of_the_machine: bool = False
    ) -> None:
        """Write the final heartbeat of a trainer that failed."""
        if self._writing:
            futures.wait([self._writing])
        self._end("failed", error=error, out_of_memory=out_of_memory, of_the_machine=of_the_machine)

    def _resume(self) -> None:
        trouble: OSError | None = None
        withheld: list[int] = []
        # Where that is refused by the disk, the attempt ends: it must not go on from elsewhere.
        returned = go_back(self._checkpoints, self.spec.rewind)
        self.rewound = returned.moved
        try:
            withheld = self._checkpoints.withhold(self.spec.withheld)
        except OSError as error:
            trouble = error
        found = self._checkpoints.newest()
        if found.checkpoint is None and self.spec.withheld:
            # To begin anew would cost more than to try again.
            with suppress(OSError):
                self._checkpoints.withhold(())
            withheld, found = [], self._checkpoints.newest()
        self._go_on_from(found.checkpoint)
        self.anew = returned.to_start and self.checkpoint is None
        if returned.told is not None:
            self.notice(returned.told)
        for step in withheld:
            where = self._checkpoints.folder / f"withheld-{step}"
            self.notice(
                f"checkpoint {step} is set aside, since attempts have died of going on from it: "
                f"it is kept as {where}"
            )
        for damaged in found.passed_over:
            self.notice(str(damaged))
        if found.passed_over and not found.checkpoint:
            self.notice("no checkpoint is usable; the run starts again from step 0")
        try:
            for damaged in found.passed_over:
                self._checkpoints.set_aside(damaged)
            self._checkpoints.remove_leftovers()
        except OSError as error:
            trouble = error
        if trouble is not None:
            self.disk_failed("the checkpoints", trouble)

    def _go_on_from(self, checkpoint: Checkpoint | None) -> None:
        self.checkpoint = checkpoint
        if checkpoint:
            held = checkpoint.manifest
            self.step, self.episodes = held.step, held.episodes
            self._score = held.score
            self._checkpoint_write_s = held.write_s
            self._trained_s = held.trained_s
        self._began = self._reached = self._here()

    def _measured(self, argument: str, score: Score) -> Score:
        measured = said.score(argument, score)
        if measured.value is None and score.value is not None:
            self.notice(f"the score {measured.name} is not a finite number")
        return measured

    def _judged(self, argument: str, value: object) -> float | None:
        judged = said.measure(argument, value)
        if judged is None:
            self.notice(f"the {argument.rpartition(': ')[2]} is not a finite number")
        return judged

    def disk_failed(self, what: str, error: OSError) -> None:
        """Say once that `what` cannot be written; the next checkpoint that is says so too."""
        if not self._disk_failing:
            self._disk_failing = True
            reason = error.strerror or str(error)
            self.notice(f"cannot write {what} at step {self.step}: {reason}; training goes on")

    def _lasted_s(self, since_s: float, until_s: float | None = None) -> float:
        """The time from one moment to another, or to now, in which this process could go on."""
        return self._stood.lasted_s(since_s, self._now_s() if until_s is None else until_s)

    def _now_s(self) -> float:
        """The time by CLOCK_MONOTONIC, which goes on while this process stands still."""
        now_s = self._monotonic_s()
        if now_s - self._looked_at_s >= STOOD_MIN_S or self._stood.still:
            self._stood = _stood(self.folder)
        self._looked_at_s = now_s
        return now_s

    def _here(self) -> Mark:
        return Mark(step=self.step, trained_s=round(self._trained_s, 3))

    def _book(self, now_s: float) -> None:
        """Count the time until now as training, once the first new step is made."""
        if self._stepping_at_s is not None:
            self._trained_s += self._lasted_s(self._booked_at_s, now_s)
        self._booked_at_s = now_s

    def _trained_until(self, step: int) -> float:
        """The training that went into the steps up to `step`, at one pace since the last saved."""
        held = self.checkpoint.manifest if self.checkpoint else self._began
        if step >= self.step:
            return self._trained_s
        if step <= held.step:
            return held.trained_s
        share = (step - held.step) / (self.step - held.step)
        return held.trained_s + share * (self._trained_s - held.trained_s)

    def _live_on(self, status: Status, now_s: float) -> None:
        """Beat if it is time, or if there is a change."""
        status = "stopping" if self.stop_requested else status
        changed, self._status = status != self._status, status
        if changed or now_s - self._beat_at_s >= HEARTBEAT_INTERVAL_S:
            self._mark(now_s)
            self._beat()
        elif self._marks and now_s - self._marks[-1][0] >= HEARTBEAT_INTERVAL_S:
            self._mark(now_s)  # each checkpoint beats, too: frequent ones must not hide the rate

    def _mark(self, now_s: float) -> None:
        """Remember where the step is now, for the rate: time in which it stood counts too."""
        marks = self._marks
        if marks and now_s > marks[-1][0]:
            marks.append((now_s, self.step))
        while len(marks) > 2 and now_s - marks[1][0] >= RATE_WINDOW_S:
            marks.popleft()

    def _steps_per_s(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (start_s, start_step), (end_s, end_step) = self._marks[0], self._marks[-1]
        lasted_s = self._lasted_s(start_s, end_s)
        return round((end_step - start_step) / lasted_s, 2) if lasted_s else None

    def _end(self, status: Status, **last_words: Any) -> None:
        self._status = status
        self._beat(**last_words)

    def _beat(self, **last_words: Any) -> None:
        """Write the heartbeat; with its fields that only the last one has."""
        self._beat_at_s = self._now_s()
        # A trainer that leaves falls back to its checkpoint; how far it came is told all the same.
        if self.step >= self._reached.step:
            self._reached = self._here()
        held = self.checkpoint.manifest if self.checkpoint else None
        heartbeat = Heartbeat(
            run=self.spec.run,
            pid=os.getpid(),
            mode=self.spec.mode,
            gpus=self.spec.gpus,
            gpus_own=self.spec.gpus_own,
            status=self._status,
            step=self.step,
            episodes=self.episodes,
            written_at=round(self._wall_time_s(), 3),
            progress_at_s=round(self._progress_at_s, 3),
            longest_gap_s=round(self._longest_gap_s, 3),
            steps_per_s=self._steps_per_s(),
            score=self._score,
            loss=self._loss,
            checkpoint_step=held.step if held else None,
            checkpoint_at=held.saved_at if held else None,
            checkpoint_write_s=self._checkpoint_write_s,
            checkpoint_bytes=_size_bytes(held) if held else None,
            began=self._began,
            reached=self._reached,
            saved=Mark(step=held.step, trained_s=held.trained_s) if held else None,
            stepping_at_s=self._stepping_at_s,
            checkpoints=self._checkpoints_written,
            checkpoint_stall_s=round(self._stall_s, 3),
            alive_at_s=None if self._alive_at_s is None else round(self._alive_at_s, 3),
            notices=tuple(self._notices),
            notices_before=self._notices_total - len(self._notices),
            **last_words,
        )
        sinks.write_heartbeat(self.folder, heartbeat)


def options_of(spec: Spec, kind: type[T]) -> T:
    """The options of a spec as a value of `kind`.

    Raises:
        NoSuchOption: one of them has a name that `kind` forbids.
        BadSpec: a value is not as it must be.
    """
    return options.converted(spec.options, kind)


def _reached(spec: Spec, step: int, episodes: int) -> bool:
    if spec.target is None:
        return False
    return (episodes if spec.target.unit == EPISODES else step) >= spec.target.count


def _stood(folder: RunFolder) -> Stood:
    """When this attempt stood still, as the supervisor has it."""
    try:
        return decode(folder.stood, durable.read(folder.stood), Stood)
    except (NewerFile, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Stood()  # what it costs is a number that is too large


def _size_bytes(held: Manifest) -> int:
    """How large a checkpoint is."""
    return sum(file.size_bytes for file in held.files.values())


def _line_about(manifest: Manifest, steps_per_s: float | None) -> str:
    """What is known of a checkpoint that was written, in a line of the output."""
    known = [f"{manifest.episodes:,} episodes"] if manifest.episodes else []
    if manifest.score is not None and manifest.score.value is not None:
        known.append(f"{manifest.score.name} {manifest.score.value:.4g}")
    if steps_per_s:
        known.append(f"{steps_per_s:.4g}/s")
    return f"checkpoint {manifest.step:,}{': ' if known else ''}{', '.join(known)}"
