"""The exact environments: equal to Stable-Baselines3's, cloned and restored, and left by nobody."""

import os
import select
import signal
from contextlib import closing, suppress
from multiprocessing import Value
from pathlib import Path

import ale_py
import gymnasium
import msgspec
import numpy as np
import pytest
from ale_py import ALEInterface, ALEState, LoggerMode, roms
from stable_baselines3.common import atari_wrappers as atari
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage
from trainer_lives import PATIENCE_S

from trainers.atari import exact as atari_exact
from trainers.atari import game as atari_game
from trainers.atari.exact import ExactGames, WorkerDied
from trainers.atari.game import (
    OBSERVATION,
    Emulator,
    Game,
    goes_on_exactly,
    preload,
    seems_to_go_on_exactly,
    shrink,
)
from trainers.atari.native import NativeGames

CAMPAIGN = {
    "ms_pacman": "MsPacman",
    "asteroids": "Asteroids",
    "seaquest": "Seaquest",
    "beam_rider": "BeamRider",
    "space_invaders": "SpaceInvaders",
    "enduro": "Enduro",
    "breakout": "Breakout",
    "boxing": "Boxing",
    "freeway": "Freeway",
    "pong": "Pong",
}
N_GAMES = 2
FORGETFUL = ["miniature_golf", "pitfall2"]
"""two of those whose emulator forgets something when it is cloned, in the version that we use"""


@pytest.fixture
def play():
    """Starts games, and ends their workers."""
    started = []

    def start(rom="pong", seeds=(5, 6), **fields):
        started.append(ExactGames(rom, seeds, **{"threads": 2, **fields}))
        return started[-1]

    yield start
    for games in started:
        games.close()


def step(games, actions):
    games.send(np.asarray(actions))
    return games.receive()


def same(one, other):
    """Whether two steps came to the same, to the bit."""
    return (
        all(np.array_equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
        and one.games == other.games
        and one.last.keys() == other.last.keys()
        and all(np.array_equal(one.last[i], other.last[i]) for i in one.last)
    )


def peers(rom, sticky_actions, game_max_frames):
    """What Stable-Baselines3 makes of the same games: its wrappers, on grey pictures.

    Only the way in which it makes them smaller needs OpenCV; ours takes that place.
    """

    def make():
        env = gymnasium.make(
            f"{CAMPAIGN[rom]}NoFrameskip-v4",
            obs_type="grayscale",
            max_num_frames_per_episode=game_max_frames,
        )
        env = Monitor(env)
        if sticky_actions:
            env = atari.StickyActionEnv(env, sticky_actions)
        env = atari.EpisodicLifeEnv(atari.MaxAndSkipEnv(atari.NoopResetEnv(env), skip=4))
        if "FIRE" in env.unwrapped.get_action_meanings():
            env = atari.FireResetEnv(env)
        small = gymnasium.spaces.Box(0, 255, (84, 84, 1), np.uint8)
        env = gymnasium.wrappers.TransformObservation(
            env, lambda picture: shrink(picture)[:, :, None], small
        )
        return atari.ClipRewardEnv(env)

    return VecTransposeImage(VecFrameStack(DummyVecEnv([make] * N_GAMES), 4))


@pytest.mark.parametrize(
    ("rom", "sticky_actions"),
    [*((rom, 0.25) for rom in CAMPAIGN), ("pong", 0.0), ("seaquest", 0.0)],
)
def test_games_are_those_of_stable_baselines3(rom, sticky_actions, play):
    """The same seeds and actions give the same openings, pictures, rewards, ends and returns."""
    ours = play(rom, sticky_actions=sticky_actions, game_max_frames=600)
    theirs = peers(rom, sticky_actions, 600)
    theirs.seed(5)
    assert ours.n_actions == theirs.action_space.n
    assert np.array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(1)
    ended = 0
    for _ in range(200):
        actions = rng.integers(ours.n_actions, size=N_GAMES)
        observations, rewards, dones, infos = theirs.step(actions)
        came = step(ours, actions)
        assert np.array_equal(came.observations, observations)
        assert np.array_equal(np.sign(came.rewards), rewards)
        assert np.array_equal(came.dones, dones)
        for i, info in enumerate(infos):
            assert (i in came.last) == ("terminal_observation" in info)
            assert (i in came.games) == ("episode" in info)
            if i in came.last:
                assert np.array_equal(came.last[i], info["terminal_observation"])
                assert came.truncated[i] == info["TimeLimit.truncated"]
            if i in came.games:
                ended += 1
                assert came.games[i][0] == pytest.approx(info["episode"]["r"])
    assert ended


@pytest.mark.parametrize("rom", CAMPAIGN)
def test_games_go_on_to_the_bit_where_they_were_cloned(rom, play):
    """States restored elsewhere, in other workers, have the same future, through new games too."""
    games = play(rom, seeds=(1, 2, 3), sticky_actions=0.25, game_max_frames=500)
    other = play(rom, seeds=(7, 8, 9), sticky_actions=0.25, game_max_frames=500, threads=1)
    games.reset()
    other.reset()
    rng = np.random.default_rng(2)
    ended = 0
    for _ in range(4):
        for actions in rng.integers(games.n_actions, size=(int(rng.integers(1, 40)), 3)):
            here = step(games, actions)
        step(other, [0, 0, 0])
        states = games.clone()
        assert np.array_equal(other.restore(states), here.observations)
        assert other.clone() == states
        for actions in rng.integers(games.n_actions, size=(60, 3)):
            here = step(games, actions)
            assert same(step(other, actions), here)
            ended += len(here.games)
    assert ended


@pytest.mark.parametrize("rom", [*CAMPAIGN, *FORGETFUL])
def test_a_game_that_cannot_be_cloned_is_found_out(rom):
    """The self-test passes for every game of the campaign, and names those that forget."""
    assert goes_on_exactly(rom) == seems_to_go_on_exactly(rom) == (rom not in FORGETFUL)


@pytest.mark.parametrize(
    ("rom", "sticky_actions"),
    [("ms_pacman", 0.25), ("seaquest", 0.0), ("breakout", 0.25), ("enduro", 0.25)],
)
def test_no_game_notices_who_else_is_on_its_emulator(rom, sticky_actions):
    """Alone, in turns, or moved in mid-game, it comes to the same, to the bit."""

    def new(emulator, seed):
        return Game(
            emulator,
            seed,
            sticky_actions=sticky_actions,
            stack=np.zeros(OBSERVATION, np.uint8),
            last=np.zeros(OBSERVATION, np.uint8),
        )

    own, shared, other = (Emulator(rom, 700) for _ in range(3))
    alone, taking_turns = new(own, 1), new(shared, 1)
    neighbours = [new(shared, seed) for seed in (2, 3)]
    games = [alone, taking_turns, *neighbours]
    for game in games:
        game.reset()
    rng = np.random.default_rng(6)
    lives = ended = 0
    for number in range(260):
        if number % 60 == 30:
            taking_turns.change(other if number % 120 == 30 else shared)
        action = int(rng.integers(alone.n_actions))
        came = alone.step(action)
        assert taking_turns.step(action) == came
        assert taking_turns.finished == alone.finished
        assert np.array_equal(taking_turns.stack, alone.stack)
        if came[1]:
            lives += 1
            assert np.array_equal(taking_turns.last, alone.last)
        ended += alone.finished is not None
        for game in neighbours:
            game.step(int(rng.integers(game.n_actions)))
    assert lives >= ended > 0
    assert taking_turns.clone() == alone.clone()


@pytest.fixture
def loads(monkeypatch):
    """How many emulators were loaded, in this process and in those that it forks."""
    count = Value("i", 0)
    init = Emulator.__init__

    def load(emulator, rom, max_frames):
        with count.get_lock():
            count.value += 1
        init(emulator, rom, max_frames)

    monkeypatch.setattr(Emulator, "__init__", load)
    monkeypatch.setattr(atari_game, "_loaded", {})
    return count


def test_games_begin_with_one_emulator_and_get_their_own(play, loads, monkeypatch):
    """A worker loads one, whatever the number of its games, and then one every few steps."""
    monkeypatch.setattr(atari_exact, "STEPS_PER_LOAD", 2)
    games, alone = (play(seeds=range(4), threads=n, game_max_frames=300) for n in (2, 4))
    assert np.array_equal(games.reset(), alone.reset())
    assert loads.value == 2 + 4
    ended = 0
    for number in range(100):
        actions = np.random.default_rng(number).integers(games.n_actions, size=4)
        here = step(games, actions)
        assert same(step(alone, actions), here)
        assert loads.value == min(2 + 2 * ((number + 1) // 2), 4) + 4
        ended += len(here.games)
    assert ended


def test_preloaded_emulators_are_taken(play, loads):
    """Workers that are forked later load none, and the games are the same."""
    preload("pong", 2, max_frames=300)
    preload("pong", 3, max_frames=300)
    assert loads.value == 3
    games = play(seeds=range(6), game_max_frames=300)
    first = games.reset()
    assert loads.value == 3
    atari_game._loaded.clear()
    assert np.array_equal(play(seeds=range(6), threads=1, game_max_frames=300).reset(), first)
    assert loads.value == 4


def test_games_that_forget_never_share_an_emulator(play, loads):
    """Where no clone goes on exactly, each game has its own from the beginning."""
    play("miniature_golf", seeds=(1, 2, 3)).reset()
    assert loads.value == 3


def test_emulators_draw_nothing_that_games_depend_on():
    """The emulator's own seed changes nothing, so that its random state need not be kept."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    for rom in ("ms_pacman", "breakout", "adventure"):
        states = []
        for seed in (1, 2):
            ale = ALEInterface()
            ale.setFloat("repeat_action_probability", 0.0)
            ale.setInt("random_seed", seed)
            ale.loadROM(roms.get_rom_path(rom))
            buttons = ale.getMinimalActionSet()
            for number in range(400):
                if number % 150 == 0:
                    ale.reset_game()
                ale.act(buttons[number * number % len(buttons)])
            states.append(ale.cloneState().serialize())
        assert states[0] == states[1]


def test_states_with_the_random_state_of_the_emulator_go_on(play):
    """Checkpoints held it once."""
    games, other = play(), play()
    games.reset()
    step(games, [1, 2])
    states = []
    for content in games.clone():
        state = msgspec.msgpack.decode(content, type=atari_game.GameState)
        emulator = Emulator("pong", 1000)
        emulator.ale.restoreState(ALEState(state.emulator))
        long = emulator.ale.cloneState(include_rng=True).serialize()
        assert len(long) > len(state.emulator)
        states.append(msgspec.msgpack.encode(msgspec.structs.replace(state, emulator=long)))
    other.restore(states)
    for _ in range(30):
        assert same(step(games, [2, 3]), step(other, [2, 3]))


def test_the_screen_is_what_a_person_would_see(play):
    """It has colours once the game is played, before that the greys that it was left with."""
    games, other = play("ms_pacman"), play("ms_pacman")
    games.reset()
    step(games, [2, 2])
    seen = games.screen()
    assert seen.shape == (210, 160, 3)
    assert (seen.max(axis=2) > seen.min(axis=2)).any()
    other.restore(games.clone())
    grey = other.screen()
    assert grey.shape == seen.shape
    assert grey.any()
    assert np.array_equal(grey.max(axis=2), grey.min(axis=2))
    assert same(step(games, [1, 1]), step(other, [1, 1]))
    assert np.array_equal(games.screen(), other.screen())


def test_pictures_are_areas():
    """Each small pixel is the mean of what it covers, a half rounded to even."""
    rng = np.random.default_rng(4)
    for height in (210, 250):
        picture = rng.integers(256, size=(height, 160), dtype=np.uint8)
        exact = covering(height) @ picture.astype(np.float64) @ covering(160).T
        assert np.array_equal(shrink(picture), np.rint(exact.round(9)).astype(np.uint8))


def covering(length):
    """The mean over areas, from its definition."""
    edges = np.arange(85) * length / 84
    pixels = np.arange(length)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return covered.clip(0) / (length / 84)


@pytest.mark.parametrize("rom", ["ms_pacman", "seaquest", "space_invaders"])
def test_pictures_are_those_of_opencv_but_for_halves(rom):
    """The native environments use OpenCV: a pixel differs by a level, where the mean is a half."""
    native = NativeGames(rom, [3], threads=1)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(rom))
    told = []
    reset = native._games.reset
    native._games.reset = lambda **seed: told.append(answer := reset(**seed)) or answer
    native.reset()
    for frame in range(told[0][1]["episode_frame_number"][0]):
        fires = frame == 0 and ale_py.Action.FIRE in ale.getMinimalActionSet()
        ale.act(ale_py.Action.FIRE if fires else ale_py.Action.NOOP)
    rng = np.random.default_rng(5)
    differing = compared = 0
    for _ in range(150):
        action = int(rng.integers(native.n_actions))
        screens = []
        for _ in range(4):
            ale.act(ale.getMinimalActionSet()[action])
            screens.append(ale.getScreenGrayscale())
        came = step(native, [action])
        if came.games:
            break
        merged = np.maximum(screens[-2], screens[-1])
        theirs = came.observations[0, -1].astype(int)
        exact = covering(210) @ merged.astype(np.float64) @ covering(160).T
        differs = shrink(merged) != theirs
        assert np.all(np.abs(exact - theirs) < 0.5 + 1e-4)
        assert np.all(np.abs(exact[differs] % 1 - 0.5) < 1e-4)
        differing += int(differs.sum())
        compared += differs.size
    assert compared
    assert differing < compared / 1000


def test_seeds_choose_the_opening(play):
    """The same seeds open the same games, other seeds others, in any number of workers."""
    first, same_seeds, other = play(), play(threads=1), play(seeds=(30, 40))
    pictures = [games.reset() for games in (first, same_seeds, other)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_workers_end_with_the_process_that_started_them(play):
    """Killed without a chance to say so, a trainer leaves no worker behind."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        games = ExactGames("pong", [1, 2], threads=2)
        games.reset()
        os.write(write, b" ".join(str(worker._pid).encode() for worker in games._workers))
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    workers = [int(pid) for pid in os.read(read, 100).split()]
    os.close(read)
    os.waitpid(child, 0)
    assert len(workers) == 2
    for worker in workers:
        with suppress(ProcessLookupError):  # it is gone already
            handle = os.pidfd_open(worker)
            assert select.select([handle], [], [], PATIENCE_S)[0]
            os.close(handle)


def test_a_dead_worker_is_an_error_and_no_hang(play):
    """If one worker is killed, the next step says so."""
    games = play()
    games.reset()
    os.kill(games._workers[1]._pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        step(games, [0, 0])


def test_workers_hold_neither_the_lock_nor_the_pipes_of_others(tmp_path):
    """What the trainer has open, a worker has not: only its own pipe and the output."""
    held = os.open(tmp_path, os.O_RDONLY)
    with closing(ExactGames("pong", [1, 2], threads=2)) as games:
        games.reset()
        for worker in games._workers:
            handles = {path.name for path in Path(f"/proc/{worker._pid}/fd").iterdir()}
            assert len(handles - {"0", "1", "2"}) == 1
    os.close(held)


def test_stops_are_for_the_trainer(play):
    """Ctrl-C and SIGTERM reach the whole group, and the workers play on until they are closed."""
    games = play()
    games.reset()
    for worker in games._workers:
        os.kill(worker._pid, signal.SIGINT)
        os.kill(worker._pid, signal.SIGTERM)
    assert step(games, [0, 0]).observations.shape == (2, 4, 84, 84)
