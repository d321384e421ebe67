"""One Atari game on the plain emulator, prepared as in publications, and exact to the bit.

To load an emulator takes a thousand times as long as to clone or restore the state
of a game. So games can take turns on one, each of them as if it were its own; and loaded
ones can be held ready for the processes that are forked from this one.

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

WIDTH = 160
"""of the screen, in pixels; its height is that of the game"""
SIDE = 84
OBSERVATION = (4, SIDE, SIDE)
"""the last four pictures, oldest first, `uint8`"""
GAME_MAX_FRAMES = 108_000
"""half an hour of play, after which a game is cut off: the usual limit in publications"""
NOOPS_MAX = 30
"""no-ops, from one up to so many, open each game"""
FRAME_SKIP = 4
"""frames for which an action is held"""
TEST_STEPS, TEST_FRAMES = 240, 400
"""steps of a self-test, and frames after which its games end"""
ALE_VERSION: str = ale_py.__version__
"""states of the emulator are those of one version"""
FORGETFUL = {
    "0.12.1": frozenset({"miniature_golf", "pitfall2", "qbert", "tetris", "tic_tac_toe_3d"}),
}
"""of versions that all games were tested with: those that no clone goes on with exactly"""


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


class Emulator:
    """A loaded emulator. Games that can be cloned exactly may take turns on it.

    Args:
        rom: ale-py's id of the game, such as `ms_pacman`.
        max_frames: after which a game is cut off.
    """

    def __init__(self, rom: str, max_frames: int) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        # Not the emulator's own stickiness: it forgets the held action when it is cloned.
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("max_num_frames_per_episode", max_frames)
        # It drives the stickiness alone, so that all emulators of a game are alike.
        self.ale.setInt("random_seed", 0)
        self.ale.loadROM(str(roms.get_rom_path(rom)))
        self.beginning: ALEState = self.ale.cloneState()
        """the state that all games start from"""
        self.occupant: _Seat | None = None
        """whose state it is in"""


_loaded: dict[tuple[str, int], list[Emulator]] = {}
"""those that no game has taken yet, by what they were loaded with"""


def preload(rom: str, n_emulators: int = 1, *, max_frames: int = GAME_MAX_FRAMES) -> None:
    """Hold so many emulators ready, for this process and for those that are forked from it.

    Each takes about 0.1 s to load, and 0.7 MB of memory, of which a forked process
    that plays with it copies a quarter.
    """
    goes_on_exactly(rom)  # the answer is remembered too
    loaded = _loaded.setdefault((rom, max_frames), [])
    while len(loaded) < n_emulators:
        loaded.append(Emulator(rom, max_frames))


def take_emulators(rom: str, n_games: int, *, max_frames: int = GAME_MAX_FRAMES) -> list[Emulator]:
    """Emulators with which so many games can begin at once: at least one, at most one each.

    There are as many as were preloaded. Only games that no clone goes on with exactly
    get one each at any price.
    """
    preload(rom, 1 if goes_on_exactly(rom) else n_games, max_frames=max_frames)
    loaded = _loaded[rom, max_frames]
    taken = loaded[:n_games]
    del loaded[:n_games]
    return taken


class _Seat:
    """An emulator as one game knows it: its own, whoever takes turns there."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._away: ALEState = emulator.beginning
        """where the game goes on when it has the emulator again"""

    @property
    def taken(self) -> bool:
        """Whether the emulator is in the state of this game, and has its screen."""
        return self._emulator.occupant is self

    def take(self) -> ALEInterface:
        """The emulator, in the state of this game."""
        emulator = self._emulator
        if emulator.occupant is not self:
            if emulator.occupant is not None:
                emulator.occupant.leave()
            emulator.ale.restoreState(self._away)
            emulator.occupant = self
        return emulator.ale

    def leave(self) -> None:
        """Let go of the emulator, if the game has it."""
        if self.taken:
            self._away = self._emulator.ale.cloneState()
            self._emulator.occupant = None

    def change(self, emulator: Emulator) -> None:
        """Go on with another one."""
        self.leave()
        self._emulator = emulator

    def clone(self) -> bytes:
        """The state of the emulator, for this game."""
        state = self._emulator.ale.cloneState() if self.taken else self._away
        content: bytes = state.serialize()
        return content

    def restore(self, content: bytes) -> None:
        """Go on from that state."""
        self.leave()
        self._away = ALEState(content)


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
        emulator: of the game; others may take turns on it, and none of them shows.
        seed: drives no-ops and sticky actions. The emulator has no chance of its own.
        sticky_actions: probability that a frame repeats the action of the frame before.
        stack: where the observation is kept.
        last: where the last observation of a learning episode is put.
    """

    def __init__(
        self,
        emulator: Emulator,
        seed: int,
        *,
        sticky_actions: float,
        stack: Picture,
        last: Picture,
    ) -> None:
        self.stack = stack
        self.last = last
        self.finished: tuple[float, int] | None = None
        """the return and the length of the game that ended in the last step"""
        # As Gymnasium's environment of the emulator does it.
        numpy_seed = int(np.random.SeedSequence(seed).generate_state(2)[0])
        self._random = np.random.Generator(np.random.PCG64(numpy_seed))
        self._sticky_actions = sticky_actions
        self._seat = _Seat(emulator)
        self._ale = emulator.ale
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
        self._ale = self._seat.take()
        self._new_game()
        self._lives = self._ale.lives()
        self._open_episode()

    def step(self, action: int) -> tuple[float, bool, bool]:
        """Play a step; if that ends the learning episode, begin the next.

        Returns:
            The reward, whether the episode ended, and whether the game was cut off.
        """
        self._ale = self._seat.take()
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
            emulator=self._seat.clone(),
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
        self._seat.restore(state.emulator)
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

    def change(self, emulator: Emulator) -> None:
        """Go on with another emulator of the same game."""
        self._seat.change(emulator)

    def screen(self) -> Picture:
        """What a person would see: `(height, width, 3) uint8`.

        It is grey where the emulator has another game on its screen, or shows nothing yet
        after it was restored.
        """
        if self._seat.taken:
            colours: Picture = self._ale.getScreenRGB()
            return colours
        return np.repeat(self._frames.max(axis=0)[:, :, None], 3, axis=2)

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


@cache
def goes_on_exactly(rom: str) -> bool:
    """Whether a restored game has the future of the one that was cloned.

    The emulators of a few games forget something. For a version of the emulator that
    is not known, a test finds out; it takes about half a second.
    """
    if ALE_VERSION in FORGETFUL:
        return rom not in FORGETFUL[ALE_VERSION]
    return seems_to_go_on_exactly(rom)


def seems_to_go_on_exactly(rom: str) -> bool:
    """The same, as far as a test tells: of a game that takes turns with another one."""
    own, shared = (Emulator(rom, TEST_FRAMES) for _ in range(2))
    alone, taking_turns, other = games = [
        Game(
            emulator,
            seed,
            sticky_actions=0.0,
            stack=np.zeros(OBSERVATION, np.uint8),
            last=np.zeros(OBSERVATION, np.uint8),
        )
        for emulator, seed in ((own, 1), (shared, 1), (shared, 2))
    ]
    for game in games:
        game.reset()
    chance = np.random.default_rng(3)
    for action, others in chance.integers(alone.n_actions, size=(TEST_STEPS, 2)).tolist():
        came = alone.step(action), alone.finished
        if came != (taking_turns.step(action), taking_turns.finished):
            return False
        if not np.array_equal(alone.stack, taking_turns.stack):
            return False
        other.step(others)
    return alone.clone() == taking_turns.clone()


def shrink(picture: Picture) -> Picture:
    """`picture` as `(84, 84) uint8`: each pixel is the mean of the area that it covers.

    Halves are rounded to even. All sums are of whole numbers that a float32 holds
    exactly, so the result is the same on any machine, in any order of summing.
    OpenCV's INTER_AREA sums fractions: it is one grey level off where the mean is a
    half that its rounding errors have pushed to the other side.
    """
    rows, columns = _weights(picture.shape[0]), _weights(picture.shape[1])
    bands = picture.reshape(-1, rows.shape[1], picture.shape[1]).astype(np.float32)
    sums = (rows @ bands).reshape(-1, columns.shape[1]) @ columns.T
    sums /= rows.shape[1] * columns.shape[1]
    np.rint(sums, out=sums)
    return sums.astype(np.uint8).reshape(SIDE, SIDE)


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
