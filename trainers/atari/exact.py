"""Atari games in worker processes, which can be cloned and restored to the bit.

The emulator holds Python's lock while it runs, so games are played side by side
in processes, one for each thread of the mode. Everything that a step moves lies in
shared memory; the pipes carry a byte each way.

The games of a worker begin at once, on the emulators that were preloaded or on a
single one, where they take turns. While they are played each gets an emulator of its
own, one after the other. None of that shows in the games.

Workers are forked, so start them while the process is light: before torch has
threads, and better before it is imported. They end with the process that started them, however it
ends.

Importing this module imports neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from msgspec import msgpack

from trainers.atari.game import (
    GAME_MAX_FRAMES,
    OBSERVATION,
    WIDTH,
    Emulator,
    Game,
    GameState,
    Step,
    take_emulators,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

STATE_MAX_BYTES = 2**18
"""of shared memory for the state of a game, which has 0.1 MB; the rest of it is never touched"""
STEPS_PER_LOAD = 16
"""a worker that begins with too few emulators loads one after so many steps: the steps of 32 games
take half as long again until each has its own"""

# What a worker is asked.
ACTIONS = b"a"
RESET = b"r"
STEP = b"s"
CLONE = b"c"
RESTORE = b"g"
SCREEN = b"p"
DONE = b"."


class WorkerDied(Exception):
    """A worker ended on its own; its last words are in the run's output."""

    def __init__(self) -> None:
        super().__init__("a process that plays games has ended")


class ExactGames:
    """Games that are played by worker processes, with the semantics of `Game`.

    Args:
        rom: ale-py's id of the game, such as `ms_pacman`.
        seeds: one for each game.
        threads: worker processes; each plays its share of the games, one after the other.
        sticky_actions: probability that a frame repeats the action of the frame before.
        game_max_frames: after which a game is cut off.
    """

    def __init__(
        self,
        rom: str,
        seeds: Sequence[int],
        *,
        threads: int,
        sticky_actions: float = 0.0,
        game_max_frames: int = GAME_MAX_FRAMES,
    ) -> None:
        self.n_games = len(seeds)
        self._board = _new_board(self.n_games)

        self._workers = [
            _start(
                partial(
                    _Share,
                    self._board,
                    rom,
                    {int(i): seeds[i] for i in numbers},
                    sticky_actions=sticky_actions,
                    game_max_frames=game_max_frames,
                )
            )
            for numbers in np.array_split(np.arange(self.n_games), min(threads, self.n_games))
        ]

    @cached_property
    def n_actions(self) -> int:
        """How many actions the game has."""
        return self._ask(ACTIONS)[0][0]

    def reset(self) -> NDArray[np.uint8]:
        """Begin a new game everywhere; the first observations."""
        self._ask(RESET)
        return self._board.observations.copy()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begin a step everywhere."""
        self._board.actions[:] = actions
        self._tell(STEP)

    def receive(self) -> Step:
        """Finish the step."""
        self._hear()
        board = self._board
        return Step(
            # Copies, for the workers write here again while the learner still looks.
            observations=board.observations.copy(),
            rewards=board.rewards.copy(),
            dones=board.dones.copy(),
            truncated=board.truncated.copy(),
            last={int(i): board.last[i].copy() for i in np.flatnonzero(board.dones)},
            games={
                int(i): (float(board.returns[i]), int(board.lengths[i]))
                for i in np.flatnonzero(board.finished)
            },
        )

    def clone(self) -> list[bytes]:
        """The state of each game, between two steps."""
        self._ask(CLONE)
        board = self._board
        return [board.states[i, :size].tobytes() for i, size in enumerate(board.sizes.tolist())]

    def restore(self, states: Sequence[bytes]) -> NDArray[np.uint8]:
        """Go on from what `clone` gave, in any number of workers; the observations then."""
        board = self._board
        for i, state in zip(range(self.n_games), states, strict=True):
            board.sizes[i] = len(state)
            board.states[i, : len(state)] = np.frombuffer(state, np.uint8)
        self._ask(RESTORE)
        return board.observations.copy()

    def screen(self) -> NDArray[np.uint8]:
        """What a person would see of the first game, between two steps: `(height, 160, 3)`.

        It is grey while another game has the emulator, and until the step after `restore`.
        """
        first = self._workers[0]
        first.say(SCREEN)
        return np.frombuffer(first.hear(), np.uint8).reshape(-1, WIDTH, 3)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _ask(self, question: bytes) -> list[bytes]:
        self._tell(question)
        return self._hear()

    def _tell(self, question: bytes) -> None:
        for worker in self._workers:
            worker.say(question)

    def _hear(self) -> list[bytes]:
        return [worker.hear() for worker in self._workers]


class _Worker:
    """A worker, as its parent knows it."""

    def __init__(self, pid: int, pipe: Connection) -> None:
        self._pid = pid
        self._pipe = pipe

    def say(self, question: bytes) -> None:
        """Ask it for something.

        Raises:
            WorkerDied: it has ended.
        """
        try:
            self._pipe.send_bytes(question)
        except OSError as error:
            raise WorkerDied from error

    def hear(self) -> bytes:
        """Wait for its answer.

        Raises:
            WorkerDied: it has ended.
        """
        try:
            return self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerDied from error

    def end(self) -> None:
        """End it, whatever it does: it holds nothing that must be saved."""
        self._pipe.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class _Board(NamedTuple):
    """What lies in memory that all processes share; the first dimension is that of the games."""

    observations: NDArray[np.uint8]
    last: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    states: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    """of the states, in bytes"""


def _new_board(n_games: int) -> _Board:
    def shared(kind: type[np.generic], *shape: int) -> NDArray[Any]:
        # Anonymous: it is gone with the last process, and leaves no file behind.
        memory = mmap.mmap(-1, n_games * math.prod(shape) * np.dtype(kind).itemsize)
        return np.frombuffer(memory, kind).reshape(n_games, *shape)

    return _Board(
        observations=shared(np.uint8, *OBSERVATION),
        last=shared(np.uint8, *OBSERVATION),
        actions=shared(np.int64),
        rewards=shared(np.float32),
        dones=shared(np.bool_),
        truncated=shared(np.bool_),
        finished=shared(np.bool_),
        returns=shared(np.float64),
        lengths=shared(np.int64),
        states=shared(np.uint8, STATE_MAX_BYTES),
        sizes=shared(np.int64),
    )


def _start(open_share: Callable[[], _Share]) -> _Worker:
    """Fork a worker that plays a share of the games."""
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(theirs, parent, open_share)
    theirs.close()
    return _Worker(pid, ours)


def _live(pipe: Connection, parent: int, open_share: Callable[[], _Share]) -> NoReturn:
    """The life of a worker, which never returns into what its parent was doing."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked to die with it
            os._exit(0)
        # A stop is the trainer's to act upon: it saves first, and ends us then.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _close_all_but(pipe)
        # What the parent had is not ours to clean up: threads that it may join are not here.
        gc.freeze()
        share = open_share()
        with suppress(EOFError):  # the parent is gone
            while True:
                pipe.send_bytes(share.answer(pipe.recv_bytes()))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, nothing of the parent's may run here
        traceback.print_exc()
        os._exit(1)


def _close_all_but(pipe: Connection) -> None:
    """Let go of the run's lock and of the pipes of others: they would outlive their owners."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        handle = int(name)
        if handle > 2 and handle != pipe.fileno():
            with suppress(OSError):  # the one that listed them
                os.close(handle)


class _Share:
    """The games of one worker, by their numbers among all, played one after the other."""

    def __init__(
        self,
        board: _Board,
        rom: str,
        seeds: dict[int, int],
        *,
        sticky_actions: float,
        game_max_frames: int,
    ) -> None:
        self._board = board
        self._rom = rom
        self._game_max_frames = game_max_frames
        emulators = take_emulators(rom, len(seeds), max_frames=game_max_frames)
        n_alone = len(emulators) - 1
        self._games = {
            i: Game(
                emulators[min(place, n_alone)],
                seed,
                sticky_actions=sticky_actions,
                stack=board.observations[i],
                last=board.last[i],
            )
            for place, (i, seed) in enumerate(seeds.items())
        }
        self._sharing = list(self._games.values())[n_alone:]
        """those that take turns on the last emulator"""
        self._steps = 0
        self._answers = {
            ACTIONS: self._n_actions,
            RESET: self._reset,
            STEP: self._step,
            CLONE: self._clone,
            RESTORE: self._restore,
            SCREEN: self._screen,
        }

    def answer(self, question: bytes) -> bytes:
        """Do what is asked for; what is told in return."""
        return self._answers[question]()

    def _n_actions(self) -> bytes:
        return bytes([game.n_actions for game in self._games.values()])

    def _reset(self) -> bytes:
        for game in self._games.values():
            game.reset()
        return DONE

    def _step(self) -> bytes:
        board = self._board
        for i, game in self._games.items():
            board.rewards[i], board.dones[i], board.truncated[i] = game.step(board.actions[i])
            board.finished[i] = game.finished is not None
            if game.finished is not None:
                board.returns[i], board.lengths[i] = game.finished
        self._steps += 1
        if self._steps % STEPS_PER_LOAD == 0 and len(self._sharing) > 1:
            self._sharing.pop(0).change(Emulator(self._rom, self._game_max_frames))
        return DONE

    def _clone(self) -> bytes:
        board = self._board
        for i, game in self._games.items():
            state = msgpack.encode(game.clone())
            board.sizes[i] = len(state)
            board.states[i, : len(state)] = np.frombuffer(state, np.uint8)
        return DONE

    def _restore(self) -> bytes:
        board = self._board
        for i, game in self._games.items():
            state = board.states[i, : board.sizes[i]]
            game.restore(msgpack.decode(state.data, type=GameState))
        return DONE

    def _screen(self) -> bytes:
        first = next(iter(self._games.values()))
        return first.screen().tobytes()
