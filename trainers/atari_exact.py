"""Atari games in worker processes, which can be cloned and restored to the bit.

The emulator holds Python's lock while it runs, so games are played side by side
in processes, one for each thread of the mode. Everything that a step moves lies in
shared memory; the pipes carry a byte each way.

Workers are forked, so start them while the process is light: before torch is
imported and has threads. They end with the process that started them, however it
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
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from msgspec import msgpack

from trainers.atari_game import GAME_MAX_FRAMES, OBSERVATION, Game, GameState, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

# What a worker is asked; RESTORE is followed by the states of its games.
ACTIONS = b"a"
RESET = b"r"
STEP = b"s"
CLONE = b"c"
RESTORE = b"g"
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

        def make(i: int) -> Game:
            return Game(
                rom,
                seeds[i],
                sticky_actions=sticky_actions,
                max_frames=game_max_frames,
                stack=self._board.observations[i],
                last=self._board.last[i],
            )

        self._workers = [
            _start(share, self._board, make)
            for share in np.array_split(np.arange(self.n_games), min(threads, self.n_games))
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
        return [
            state
            for answer in self._ask(CLONE)
            for state in msgpack.decode(answer, type=list[bytes])
        ]

    def restore(self, states: Sequence[bytes]) -> NDArray[np.uint8]:
        """Go on from what `clone` gave, in any number of workers; the observations then."""
        for worker in self._workers:
            worker.say(RESTORE + msgpack.encode(states[worker.games]))
        self._hear()
        return self._board.observations.copy()

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

    def __init__(self, pid: int, pipe: Connection, games: slice) -> None:
        self.games = games
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
    )


def _start(numbers: NDArray[np.int64], board: _Board, make: Callable[[int], Game]) -> _Worker:
    """Fork a worker that plays the games of these numbers, which follow each other."""
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(theirs, parent, board, numbers.tolist(), make)
    theirs.close()
    return _Worker(pid, ours, slice(int(numbers[0]), int(numbers[-1]) + 1))


def _live(
    pipe: Connection, parent: int, board: _Board, numbers: list[int], make: Callable[[int], Game]
) -> NoReturn:
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
        share = _Share(board, {i: make(i) for i in numbers})
        with suppress(EOFError):  # the parent is gone
            while True:
                question = pipe.recv_bytes()
                pipe.send_bytes(share.answer(question[:1], question[1:]))
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
    """The games of one worker."""

    def __init__(self, board: _Board, games: dict[int, Game]) -> None:
        self._board = board
        self._games = games
        self._answers = {
            ACTIONS: self._n_actions,
            RESET: self._reset,
            STEP: self._step,
            CLONE: self._clone,
            RESTORE: self._restore,
        }

    def answer(self, question: bytes, content: bytes) -> bytes:
        """Do what is asked for; what is told in return."""
        return self._answers[question](content)

    def _n_actions(self, _: bytes) -> bytes:
        return bytes([game.n_actions for game in self._games.values()])

    def _reset(self, _: bytes) -> bytes:
        for game in self._games.values():
            game.reset()
        return DONE

    def _step(self, _: bytes) -> bytes:
        board = self._board
        for i, game in self._games.items():
            board.rewards[i], board.dones[i], board.truncated[i] = game.step(board.actions[i])
            board.finished[i] = game.finished is not None
            if game.finished is not None:
                board.returns[i], board.lengths[i] = game.finished
        return DONE

    def _clone(self, _: bytes) -> bytes:
        return msgpack.encode([msgpack.encode(game.clone()) for game in self._games.values()])

    def _restore(self, content: bytes) -> bytes:
        states = msgpack.decode(content, type=list[bytes])
        for game, state in zip(self._games.values(), states, strict=True):
            game.restore(msgpack.decode(state, type=GameState))
        return DONE
