"""The native environments, held against the plain emulator."""

import numpy as np
import pytest
from ale_py import Action, ALEInterface, roms

from trainers.atari.env import AtariGames
from trainers.atari.native import NativeGames

N_GAMES = 2
NOOP_MAX_FRAMES = 30


class PlainGame:
    """One game on the plain emulator, played as the vector environment should play it."""

    def __init__(self, rom):
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(rom))
        self.actions = self.ale.getMinimalActionSet()

    def begin(self, frames):
        """FIRE where there is such a button, then no-ops: `frames` in all."""
        self.ale.reset_game()
        self.total, self.length = 0.0, 0
        for frame in range(frames):
            fire = frame == 0 and Action.FIRE in self.actions
            self.ale.act(Action.FIRE if fire else Action.NOOP)

    def step(self, action):
        """The reward of four frames, and whether a life was lost."""
        lives = self.ale.lives()
        reward = 0.0
        for _ in range(4):
            reward += self.ale.act(self.actions[action])
        self.total += reward
        self.length += 1
        return reward, self.ale.lives() < lives


@pytest.mark.slow
@pytest.mark.parametrize("rom", ["breakout", "pong", "ms_pacman"])
def test_games_are_those_of_the_plain_emulator(rom):
    """Rewards, lost lives, ends, returns and lengths of whole games agree step by step."""
    native = NativeGames(rom, [11, 12], threads=1)
    games = AtariGames(native)
    infos = []
    native_recv, native_reset = native._games.recv, native._games.reset
    native._games.recv = lambda: infos.append(answer := native_recv()) or answer
    native._games.reset = lambda **seed: infos.append(answer := native_reset(**seed)) or answer
    plain = [PlainGame(rom) for _ in range(N_GAMES)]
    games.reset()
    for i, game in enumerate(plain):
        game.begin(infos[-1][1]["episode_frame_number"][i])
    rng = np.random.default_rng(3)
    finished, lost_lives = 0, 0
    for _ in range(1200):
        actions = rng.integers(games.action_space.n, size=N_GAMES)
        games.step_async(actions)
        observations, rewards, dones, told = games.step_wait()
        for i, game in enumerate(plain):
            reward, life_lost = game.step(actions[i])
            over = game.ale.game_over()
            assert rewards[i] == np.sign(reward)
            assert dones[i] == (over or life_lost)
            assert ("episode" in told[i]) == over
            assert ("terminal_observation" in told[i]) == dones[i]
            if over:
                assert told[i]["episode"] == {"r": game.total, "l": game.length}
                assert not told[i]["TimeLimit.truncated"]
                assert not np.array_equal(told[i]["terminal_observation"], observations[i])
                finished += 1
                game.begin(infos[-1][-1]["episode_frame_number"][i])
            elif life_lost:
                assert np.array_equal(told[i]["terminal_observation"], observations[i])
                lost_lives += 1
    assert finished
    assert bool(lost_lives) == (rom != "pong")
    assert observations.shape == (N_GAMES, 4, 84, 84)


def test_a_cut_off_game_is_told_from_a_lost_one():
    """A game that runs out of frames is truncated, and counts with what it scored."""
    games = AtariGames(NativeGames("pong", [1, 2], threads=1, game_max_frames=100))
    games.reset()
    for _ in range(25):
        games.step_async(np.zeros(2, dtype=np.int64))
        observations, _, dones, infos = games.step_wait()
        if dones[0]:
            break
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["episode"]["l"] > (100 - NOOP_MAX_FRAMES) // 4 - 1
    assert not np.array_equal(infos[0]["terminal_observation"], observations[0])


def test_seeds_choose_the_opening():
    """The same seeds open the same games, and other seeds open others."""
    first = AtariGames(NativeGames("freeway", [1, 2], threads=1))
    same = AtariGames(NativeGames("freeway", [1, 2], threads=1))
    other = AtariGames(NativeGames("freeway", [30, 40], threads=1))
    frames = []
    for games in (first, same, other):
        games.reset()
        for _ in range(8):
            games.step_async(np.full(2, 2))
            observations, *_ = games.step_wait()
        frames.append(observations)
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])
