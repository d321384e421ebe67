"""Atari games, learnt with PPO or DQN of Stable-Baselines3 and published hyper-parameters.

This module is light: it validates, and imports what learns when something is to
be learnt, so that a spec is checked, and a finished run left, in milliseconds.
What is learnt how, and what a checkpoint holds, is told in `learner`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trainers import packages
from trainers.atari.options import Load, Options
from trainers.contract import BadSpec, Share, Spec, Tuning
from trainers.options import converted, load_of
from trainers.session import Session, options_of

if TYPE_CHECKING:
    from trainers.atari.exact import ExactGames
    from trainers.atari.native import NativeGames
    from trainers.registry import Recording

EXTRA = "atari"
"""of the packages that are imported here"""
LIKELY = 4
"""runs, the first in line, whose emulators a warm parent loads all"""
EVALUATION_GAMES = 4
"""games that an evaluation plays side by side, at most"""
NO_STEP = 2**32 - 1
"""at which no training begins: games that are only played open otherwise than any trained on"""

_ELSEWHERE = re.compile(
    r"\A\s*(?:ale|atari(?:_py|2600)?|gym|gymnasium)[/:_-]+|(?:-?ram)?(?:noframeskip|deterministic)?"
    r"(?:-?ram)?(?:[-_ ]?v[0-9]+)?(?:\.(?:bin|a26))?\s*\Z"
)
"""what others write around the name of a game: `ALE/Pong-v5`, `PongNoFrameskip-v4`"""


def check(spec: Spec) -> None:
    """Validate options and game, and that what trains them is installed.

    Raises:
        BadSpec: one of them is not as it must be.
    """
    options = options_of(spec, Options)
    packages.require(EXTRA)
    rom_of(spec, options)
    if spec.target is None:
        raise BadSpec("a game has no end of its own: a target in steps or in episodes is needed")
    load = load_of(spec, Load)
    n_steps = max(1, options.rollout_steps // load.n_envs)
    if options.algorithm == "ppo" and min(load.batch_size, n_steps * load.n_envs) < 2:
        raise BadSpec("PPO learns from two transitions at least: batch_size, rollout_steps")


def remark(spec: Spec) -> str | None:
    """Whether the game is one of the few that no resumed run can go on with exactly."""
    options = options_of(spec, Options)
    if options.algorithm != "ppo" or options.environments != "exact":
        return None
    from trainers.atari.game import goes_on_exactly  # noqa: PLC0415 - only when somebody asks

    rom = rom_of(spec, options)
    if goes_on_exactly(rom):
        return None
    return f"the emulator of {rom} cannot be cloned exactly: a resumed run is not what it would be"


def fits(spec: Spec, checkpoint: Path) -> None:
    """Refuse another game, or another algorithm, than those that the checkpoint is of."""
    options = options_of(spec, Options)
    from trainers.atari import snapshot  # noqa: PLC0415 - imports torch, see above

    snapshot.load(checkpoint, options, rom_of(spec, options))


def begin_from(spec: Spec, checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    """Begin with the weights of another run, and with games of its own."""
    options = options_of(spec, Options)
    from trainers.atari import snapshot  # noqa: PLC0415 - imports torch, see above

    return snapshot.begun_from(checkpoint, options, rom_of(spec, options))


def train(session: Session) -> None:
    """Learn the game until the target is reached or a stop is requested."""
    if session.stop_requested:
        # Nothing is lost yet, and making many games takes seconds.
        return
    spec = session.spec
    options = options_of(spec, Options)
    load = load_of(spec, Load)
    rom = rom_of(spec, options)
    # Before torch has threads, and in a cold start before it is imported: workers are forked from
    # a light process, and load their games meanwhile.
    with closing(_games(spec, options, rom, session.step, load.n_envs)) as games:
        from trainers.atari import learner  # noqa: PLC0415 - imports torch, see above

        learner.learn(session, options, load, rom, games)


def warm_up(specs: Sequence[Spec]) -> Iterator[None]:
    """Import what learns; then load the games of `specs`, one after the other."""
    # Or it asks CUDA itself, which a forked process could not do again.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import torch  # noqa: PLC0415 - heavy

    from trainers.atari import game, learner  # noqa: F401, PLC0415 - heavy

    torch.set_num_threads(1)
    wanted: list[tuple[Spec, Options, Load]] = []
    for spec in specs:
        with suppress(BadSpec):
            wanted.append((spec, options_of(spec, Options), load_of(spec, Load)))
    yield
    roms: list[tuple[str, int]] = []
    for spec, options, load in wanted:
        if options.environments == "exact":
            with suppress(BadSpec):
                share = -(-load.n_envs // min(spec.threads, load.n_envs))
                roms.append((rom_of(spec, options), share))
    # One emulator of each game brings all of its games back at once, in turns. Those that are
    # likely to live get one for each game of a worker, which no attempt has to load again.
    for rom, _ in roms:
        game.preload(rom)
        yield
    for rom, share in roms[:LIKELY]:
        for n_emulators in range(2, share + 1):
            game.preload(rom, n_emulators)
            yield


def probe(shares: Sequence[Share]) -> list[Tuning]:
    """Which form of PPO's update is the quickest here under each load.

    Raises:
        BadSpec: a mode file asks for a load that is none.
    """
    loads = [
        (share.threads, converted(share.load, Load, "[load.atari]").batch_size) for share in shares
    ]
    from trainers.atari import forms  # noqa: PLC0415 - imports torch

    return forms.probe(list(dict.fromkeys(loads)))


def evaluate(spec: Spec, checkpoint: Path, episodes: int) -> list[float]:
    """The unclipped returns of whole games, played greedily by a checkpoint's policy."""
    options = options_of(spec, Options)
    rom = rom_of(spec, options)
    n_games = min(episodes, EVALUATION_GAMES)
    with closing(_games(spec, options, rom, NO_STEP, n_games)) as games:
        from trainers.atari import learner  # noqa: PLC0415 - imports torch, see above

        return learner.play(spec, options, rom, games, checkpoint, episodes)


def record(spec: Spec, checkpoint: Path, *, episodes: int, seconds: float) -> Recording:
    """A film of a game, played greedily by a checkpoint's policy; with exact environments."""
    from trainers.atari import film  # noqa: PLC0415 - imports torch

    options = options_of(spec, Options)
    rom = rom_of(spec, options)
    (seed,) = _seeds(spec, NO_STEP, 1)
    return film.record(spec, options, rom, seed, checkpoint, episodes=episodes, seconds=seconds)


def rom_of(spec: Spec, options: Options) -> str:
    """ale-py's id of the game: `ms_pacman` for `MsPacman`.

    Raises:
        BadSpec: ale-py has no such game, or cannot play it.
    """
    from ale_py import ALEInterface, roms  # noqa: PLC0415 - 0.2 s that listing need not pay

    game = options.game or spec.name
    rom_by_letters = {rom.replace("_", ""): rom for rom in roms.get_all_rom_ids()}
    letters = game.replace("_", "").lower()
    if rom := rom_by_letters.get(letters):
        # It ships a few for several players, and to load one would end this process.
        if not ALEInterface.isSupportedROM(str(roms.get_rom_path(rom))):
            raise BadSpec(f"ale-py cannot play {game!r} with one player")
        return rom
    meant = re.sub("[^a-z0-9]", "", _ELSEWHERE.sub("", game.lower()))
    close = difflib.get_close_matches(meant, rom_by_letters, n=3, cutoff=0.5)
    if meant in close:
        close = [meant]
    names = [rom_by_letters[match].title().replace("_", "") for match in close]
    hint = f"; did you mean {' or '.join(names)}?" if names else ""
    raise BadSpec(f"there is no Atari game {game!r}{hint}")


def _games(
    spec: Spec, options: Options, rom: str, step: int, n_games: int
) -> ExactGames | NativeGames:
    seeds = _seeds(spec, step, n_games)
    if options.environments == "native":
        from trainers.atari.native import NativeGames  # noqa: PLC0415 - imports ale-py

        return NativeGames(rom, seeds, threads=spec.threads, sticky_actions=options.sticky_actions)
    from trainers.atari.exact import ExactGames  # noqa: PLC0415 - as above

    return ExactGames(rom, seeds, threads=spec.threads, sticky_actions=options.sticky_actions)


def _seeds(spec: Spec, step: int, n_games: int) -> list[int]:
    """Seeds of an attempt that begins at `step`: the games of those before are not played again."""
    import numpy as np  # noqa: PLC0415 - 0.1 s that listing the trainers need not pay

    return [
        int(seed) for seed in np.random.SeedSequence([spec.seed, step]).generate_state(n_games) >> 1
    ]
