"""One Atari game on the plain emulator, prepared as in publications, and exact to the bit.

Importing this module imports neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import ale_py
import msgspec
import numpy as np
from ale_py import Action, ALEInterface, ALEState, LoggerMode, roms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

SIDE = 84
OBSERVATION = (4, SIDE, SIDE)
"""the last four pictures, oldest first, `uint8`"""
GAME_MAX_FRAMES = 108_000
"""half an hour of play, after which a game is cut off: the usual limit in publications"""
NOOPS_MAX = 30
"""no-ops, from one up to so many, open each game"""
FRAME_SKIP = 4
"""frames for which an action is held"""
TEST_CHANGES, TEST_STEPS = 8, 30
"""a self-test clones so often, and then plays so many steps; long enough for a game to end"""
ALE_VERSION: str = ale_py.__version__
"""states of the emulator are those of one version"""


class Step(NamedTuple):
    """What one step of several games came to."""

    observations: NDArray[np.uint8]
    """`(n_games, 4, 84, 84)`, of the next learning episode where one has ended; the caller's"""
    rewards: NDArray[np.float32]
    """not clipped"""
    dones: NDArray[np.bool_]
    """which learning episodes have ended"""
    truncated: NDArray[np.bool_]
    """which of them because the game was cut off"""
    last: dict[int, NDArray[np.uint8]]
    """the last observation of each learning episode that has ended"""
    games: dict[int, tuple[float, int]]
    """the return and the length in steps of each whole game that has ended"""


class GameState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the future of a game depends on, but for the actions to come."""

    emulator: bytes
    generator: tuple[bytes, bytes, int, int]
    """of PCG64: state, increment, and the half of a number that was not used yet"""
    held: int
    """the action that a sticky action repeats"""
    lives: int
    game_return: float
    length: int
    frames: bytes
    """the last two that were looked at: the emulator does not keep its screen"""
    stack: bytes


class Game:
    """One game, with the semantics of Stable-Baselines3's `AtariWrapper` and `VecFrameStack`.

    An action is held for four frames, of which the last two are merged by their
    maximum. A lost life ends the learning episode and not the game: the frame stack
    begins anew, one no-op follows, and FIRE and the action after it where the game
    has FIRE. A game is opened by up to 30 no-ops and cut off after half an hour.

    The same seed gives the same chance. Pictures differ: they are grey before they
    are merged, with the grey of the emulator, and `shrink` is exact.

    The return of a game is unclipped and counts every frame since it began. Its
    length counts the steps that the learner chose.

    Args:
        rom: ale-py's id of the game, such as `ms_pacman`.
        seed: drives no-ops, sticky actions and the emulator's own chance.
        sticky_actions: probability that a frame repeats the action of the frame before.
        max_frames: after which a game is cut off.
        stack: where the observation is kept.
        last: where the last observation of a learning episode is put.
    """

    def __init__(
        self,
        rom: str,
        seed: int,
        *,
        sticky_actions: float,
        max_frames: int,
        stack: Picture,
        last: Picture,
    ) -> None:
        self.stack = stack
        self.last = last
        self.finished: tuple[float, int] | None = None
        """the return and the length of the game that ended in the last step"""
        numpy_seed, emulator_seed = np.random.SeedSequence(seed).generate_state(2)
        self._random = np.random.Generator(np.random.PCG64(int(numpy_seed)))
        self._sticky_actions = sticky_actions
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale = ALEInterface()
        # Not the emulator's own stickiness: it forgets the held action when it is cloned.
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._ale.setInt("max_num_frames_per_episode", max_frames)
        self._ale.setInt("random_seed", int(emulator_seed.astype(np.int32)))
        self._ale.loadROM(str(roms.get_rom_path(rom)))
        self._actions: list[Action] = self._ale.getMinimalActionSet()
        self._has_fire = Action.FIRE in self._actions
        self._frames: Picture = np.zeros((2, *self._ale.getScreenDims()), np.uint8)
        self._picture: Picture = np.zeros_like(self._frames[0])
        self._held = Action.NOOP
        self._lives = 0
        self._return = 0.0
        self._length = 0

    @property
    def n_actions(self) -> int:
        """How many buttons the game has."""
        return len(self._actions)

    def reset(self) -> None:
        """Begin a new game."""
        self._new_game()
        self._lives = self._ale.lives()
        self._open_episode()

    def step(self, action: int) -> tuple[float, bool, bool]:
        """Play a step; if that ends the learning episode, begin the next.

        Returns:
            The reward, whether the episode ended, and whether the game was cut off.
        """
        self.finished = None
        self._length += 1
        reward, done, truncated = self._play(self._actions[action])
        self.stack[:-1] = self.stack[1:]
        self.stack[-1] = shrink(self._picture)
        if done:
            self.last[:] = self.stack
            self._next_episode()
            self._open_episode()
        return reward, done, truncated

    def clone(self) -> GameState:
        """The state between two steps."""
        generator = self._random.bit_generator.state
        numbers = generator["state"]
        return GameState(
            emulator=self._ale.cloneState(include_rng=True).serialize(),
            generator=(
                numbers["state"].to_bytes(16, "little"),
                numbers["inc"].to_bytes(16, "little"),
                generator["has_uint32"],
                generator["uinteger"],
            ),
            held=self._held.value,
            lives=self._lives,
            game_return=self._return,
            length=self._length,
            frames=self._frames.tobytes(),
            stack=self.stack.tobytes(),
        )

    def restore(self, state: GameState) -> None:
        """Go on from `state`, of the same game and the same version of the emulator."""
        self._ale.restoreState(ALEState(state.emulator))
        number, increment, has_half, half = state.generator
        self._random.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {
                "state": int.from_bytes(number, "little"),
                "inc": int.from_bytes(increment, "little"),
            },
            "has_uint32": has_half,
            "uinteger": half,
        }
        self._held = Action(state.held)
        self._lives = state.lives
        self._return = state.game_return
        self._length = state.length
        self._frames[:] = np.frombuffer(state.frames, np.uint8).reshape(self._frames.shape)
        self.stack[:] = np.frombuffer(state.stack, np.uint8).reshape(OBSERVATION)

    @property
    def _over(self) -> bool:
        return bool(self._ale.game_over(with_truncation=True))

    def _new_game(self) -> None:
        self._restart()
        for _ in range(self._random.integers(1, NOOPS_MAX + 1)):
            self._frame(Action.NOOP)
            if self._over:
                self._restart()
        self._ale.getScreenGrayscale(self._picture)

    def _restart(self) -> None:
        self._ale.reset_game()
        self._held = Action.NOOP
        self._return = 0.0
        self._length = 0

    def _next_episode(self) -> None:
        """Go on with the next life, or with the next game."""
        if not self._over:
            self._hold(Action.NOOP)
        if self._over:
            self.finished = (self._return, self._length)
            self._new_game()
        self._lives = self._ale.lives()

    def _open_episode(self) -> None:
        """Press FIRE, as games wait for it, and put the first picture alone into the stack."""
        if self._has_fire:
            for action in self._actions[1:3]:
                _, done, _ = self._play(action)
                if done:
                    self._next_episode()
        self.stack[:] = 0
        self.stack[-1] = shrink(self._picture)

    def _play(self, action: Action) -> tuple[float, bool, bool]:
        """Hold `action`; the reward, whether game or life ended, whether the game was cut off."""
        reward = self._hold(action)
        lives = self._ale.lives()
        # Without lives a game goes on for some frames until it is over: that is no second loss.
        lost = self._ale.game_over(with_truncation=False) or 0 < lives < self._lives
        self._lives = lives
        return reward, lost or self._over, self._over and not lost

    def _hold(self, action: Action) -> float:
        reward = 0.0
        for i in range(FRAME_SKIP):
            reward += self._frame(action)
            if i >= FRAME_SKIP - 2:
                self._ale.getScreenGrayscale(self._frames[i - FRAME_SKIP + 2])
            if self._over:
                break
        np.maximum(self._frames[0], self._frames[1], out=self._picture)
        return reward

    def _frame(self, action: Action) -> float:
        if not self._sticky_actions or self._random.random() >= self._sticky_actions:
            self._held = action
        reward = float(self._ale.act(self._held))
        self._return += reward
        return reward


def goes_on_exactly(rom: str) -> bool:
    """Whether a restored game has the future of the one that was cloned, as far as a test tells.

    It takes about half a second. The emulators of a few games forget something.
    """
    games = [
        Game(
            rom,
            seed,
            sticky_actions=0.0,
            max_frames=TEST_CHANGES * TEST_STEPS,
            stack=np.zeros(OBSERVATION, np.uint8),
            last=np.zeros(OBSERVATION, np.uint8),
        )
        for seed in (1, 2)
    ]
    actions = np.random.default_rng(3).integers(games[0].n_actions, size=(TEST_CHANGES, TEST_STEPS))
    for game in games:
        game.reset()
    here, there = games
    for some in actions.tolist():
        # Each goes on from the other's state in turn, from whatever it has come to itself.
        there.restore(here.clone())
        for action in some:
            if here.step(action) != there.step(action) or here.finished != there.finished:
                return False
        if here.clone() != there.clone():
            return False
        for action in some:
            there.step(action)
        here, there = there, here
    return True


def shrink(picture: Picture) -> Picture:
    """`picture` as `(84, 84) uint8`: each pixel is the mean of the area that it covers.

    Halves are rounded to even. All sums are of whole numbers that a float32 holds
    exactly, so the result is the same on any machine, in any order of summing.
    OpenCV's INTER_AREA sums fractions: it is one grey level off where the mean is a
    half that its rounding errors have pushed to the other side.
    """
    rows, columns = _weights(picture.shape[0]), _weights(picture.shape[1])
    bands = picture.reshape(-1, rows.shape[1], picture.shape[1]).astype(np.float32)
    merged = (rows @ bands).reshape(SIDE, -1, columns.shape[1]).transpose(1, 0, 2)
    sums = (merged @ columns.T).transpose(1, 0, 2).reshape(SIDE, SIDE)
    area = rows[0].sum() * columns[0].sum()
    small: Picture = np.rint(sums / area).astype(np.uint8)
    return small


@cache
def _weights(length: int) -> NDArray[np.float32]:
    """How much of each of the first source pixels each of the first target pixels covers.

    The pattern repeats, so that one block of it is enough. In units of a source pixel's
    part that makes every weight a whole number.
    """
    blocks = gcd(length, SIDE)
    sources, targets = length // blocks, SIDE // blocks
    starts = np.arange(targets)[:, None] * sources
    pixels = np.arange(sources)[None, :] * targets
    covered = np.minimum(starts + sources, pixels + targets) - np.maximum(starts, pixels)
    weights: NDArray[np.float32] = np.maximum(covered, 0).astype(np.float32)
    return weights
