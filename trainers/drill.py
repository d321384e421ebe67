"""A trainer that learns nothing: it only counts, to rehearse the supervisor and its machine.

It starts in a few dozen milliseconds, keeps the whole contract, and misbehaves on
demand. Faults that name a step happen whenever the count passes it, so an attempt
that resumes below it fails at the same step again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trainers.contract import Score, Spec
from trainers.session import Session, options_of

TICK_S = 0.05
STEPS_PER_EPISODE = 100
LINE = "noise " * 10 + "on\n"

Step = Annotated[int, msgspec.Meta(gt=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast the drill counts, and how it fails."""

    steps_per_s: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    save_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """how long a checkpoint takes to write"""
    crash_at_step: Step | None = None
    """raises an exception there, or leaves with `exit_code`"""
    exit_code: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    """with `crash_at_step`: leave at once with this code and no last words"""
    unloadable_from_step: Step | None = None
    """raises an exception before its first step wherever it goes on from there or beyond"""
    memory_at_step: Step | None = None
    """fails there for want of memory"""
    hang_at_step: Step | None = None
    """stands still there for ever, deaf to SIGTERM"""
    nan_at_step: Step | None = None
    """the loss is not a number from there on"""
    print_mib: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    """prints as much on stderr at each start"""
    ignore_sigterm: bool = False
    """goes on counting after SIGTERM"""
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """child processes that sleep for ever"""
    worker_kind: Literal["group", "setsid", "double_fork"] = "group"
    """where they live: in this process group, in a session of their own, or orphaned in one.
    The first two are ended in a clean stop; the orphans outlive even that"""


def warm_up(_specs: Sequence[Spec]) -> Iterator[None]:
    """Load nothing: it is rehearsed to be forked, and starts as quickly without."""
    yield


def train(session: Session) -> None:
    """Count from the checkpoint to the target."""
    options = options_of(session.spec, Options)
    for _ in range(options.print_mib):
        sys.stderr.write(LINE * (2**20 // len(LINE)))
    unloadable = options.unloadable_from_step
    if unloadable is not None and session.step >= unloadable:
        raise RuntimeError(f"rehearsed: nothing from step {unloadable} on can be loaded")
    workers = [_start_worker(options) for _ in range(options.workers)]
    try:
        _count(session, options)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _count(session: Session, options: Options) -> None:
    start_step, start_s = session.step, time.monotonic()
    logged_s = start_s
    while not session.target_reached:
        if session.stop_requested and not options.ignore_sigterm:
            break
        time.sleep(TICK_S)
        now_s = time.monotonic()
        step = start_step + int((now_s - start_s) * options.steps_per_s)
        if (target := session.spec.up_to("steps")) is not None:
            step = min(step, target)
        _fail_between(session.step, step, options)
        loss = 1.0 / (1.0 + step)
        if options.nan_at_step is not None and step >= options.nan_at_step:
            loss = float("nan")
        episodes = step // STEPS_PER_EPISODE
        score = Score(name="return_mean", value=float(episodes))
        session.progress(step, episodes=episodes, score=score, loss=loss)
        if now_s - logged_s >= 1.0:
            logged_s = now_s
            session.log({"return_mean": float(episodes), "loss": loss})
        if session.checkpoint_due():
            session.save(_files(step, options.save_s))
    if session.step > 0:
        session.save(_files(session.step, options.save_s))


def begin_from(_spec: Spec, _checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    """It has learnt nothing, and so begins as with nothing."""
    return _files(0, 0.0)


def _files(step: int, save_s: float) -> Iterator[tuple[str, bytes]]:
    yield "first.json", msgspec.json.encode({"step": step})
    # Between two files: a kill here finds the checkpoint half written.
    time.sleep(save_s)
    yield "second.json", msgspec.json.encode({"step": step})


def _fail_between(before: int, step: int, options: Options) -> None:
    def passes(fault_step: int | None) -> bool:
        return fault_step is not None and before < fault_step <= step

    if passes(options.crash_at_step):
        if options.exit_code is not None:
            os._exit(options.exit_code)
        raise RuntimeError(f"rehearsed crash at step {options.crash_at_step}")
    if passes(options.memory_at_step):
        raise MemoryError(f"rehearsed at step {options.memory_at_step}")
    if passes(options.hang_at_step):
        while True:
            signal.pause()


def _start_worker(options: Options) -> subprocess.Popen[bytes]:
    orphaned = options.worker_kind == "double_fork"
    return subprocess.Popen(
        [*(["setsid", "--fork"] if orphaned else []), "sleep", "infinity"],
        start_new_session=options.worker_kind == "setsid",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
