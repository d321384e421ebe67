"""How an Atari game is learnt: Stable-Baselines3's PPO and DQN, made to survive.

The published hyper-parameters, which are the defaults of `Options`, are fitted to
the ladder in two places. A PPO rollout has the same number of transitions however
many environments collect it, so that light and heavy modes share one update cycle.
DQN keeps the published four transitions per gradient step of 32 samples with any
number of environments; a mode's `batch_size` is for PPO only. What falls in the
course of a run does so over its target, or over `nominal_steps` where that is in
episodes. An option that is changed holds from the next attempt on, for what is learnt
from then.

What a checkpoint holds is told in `snapshot`. So PPO goes on to the bit as if it had
never been interrupted, in the same mode on the same kind of machine; where something
differs, the run says so. DQN's replay buffer (gigabytes) is not saved: a resumed attempt
begins with new games, and its policy refills the buffer before learning goes on.

From time to time PPO is saved at the start of a rollout, when its buffer is empty. A stop
saves it where it stands: in the middle of a rollout with what was played so far, in the
middle of an update with how far that is. The next attempt goes on from there. Where it
cannot go on with the same games, in another mode for instance, it learns from what was
played all the same, together with the steps of new games that the rollout lacks.

A target counts as reached when all that was played for it is learnt.

Importing this module imports torch.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule, get_device

from trainers.atari import snapshot
from trainers.atari.env import AtariGames, Games
from trainers.atari.exact import ExactGames
from trainers.atari.forms import form_of, found_for
from trainers.atari.game import OBSERVATION
from trainers.atari.options import Load, Options
from trainers.atari.ppo import Adam, Form, Ppo, keep_freed_memory
from trainers.atari.snapshot import Snapshot
from trainers.baselines import Lines, Memory, Schedules, State, Tally, return_mean
from trainers.contract import EPISODES, Spec
from trainers.preview import Preview
from trainers.session import Session

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

REFILL_STEPS = 10_000
"""transitions that a resumed DQN collects before it learns again"""
LOG_INTERVAL_S = 10.0
"""time between two lines of metrics of DQN, whose updates are too many for a line each"""


class _Stopped(Exception):
    """Leaves Stable-Baselines3 wherever it is; the checkpoint is written."""


def learn(session: Session, options: Options, load: Load, rom: str, games: Games) -> None:
    """Learn until the target is reached or a stop is requested."""
    spec = session.spec
    # What is built and loaded is copied around, and threads would only wait for each other.
    torch.set_num_threads(1)
    if options.device == "cuda" and not torch.cuda.is_available():
        # Not a bad spec: a driver may be back after the next reboot.
        raise RuntimeError("the options ask for CUDA, and torch finds no usable GPU")
    state = snapshot.load(session.checkpoint.path, options, rom) if session.checkpoint else None
    if session.stop_requested:
        return
    keep_freed_memory()
    env = AtariGames(games)
    device = get_device(options.device)
    form = Form()
    model: _Ppo | _Dqn
    if options.algorithm == "ppo":
        form, other_machine = form_of(found_for(spec, load), device)
        if other_machine:
            session.notice(other_machine)
        model = _ppo(env, spec, load, options, form, initialise=state is None)
    else:
        model = _dqn(env, spec, load, options)
    conditions = snapshot.conditions(spec, load, options, form, device)
    pilot = _Pilot(session, options, rom, games, conditions)
    model.set_logger(Logger(None, [Lines(session)]))
    if state:
        snapshot.restore(model, state)
        if isinstance(model, _Dqn):
            model.refill_steps = min(REFILL_STEPS, options.learning_starts, options.buffer_size)
        pilot.restore(model, state)
    torch.set_num_threads(spec.threads)
    try:
        # The pilot alone ends it. The steps count on, because the model has them already.
        model.learn(sys.maxsize, pilot, log_interval=sys.maxsize, reset_num_timesteps=False)
    except _Stopped:
        pass
    finally:
        model.logger.close()


def play(
    spec: Spec, options: Options, rom: str, games: Games, checkpoint: Path, episodes: int
) -> list[float]:
    """The unclipped returns of `episodes` whole games, played greedily.

    Every environment plays an equal share: taking the first that finish would
    favour short games.
    """
    torch.set_num_threads(spec.threads)
    env = AtariGames(games)
    policy = greedy_policy(checkpoint, options, rom, games.n_actions)
    share, more = divmod(episodes, env.num_envs)
    left = [share + (i < more) for i in range(env.num_envs)]
    returns: list[float] = []
    observations = env.reset()
    while len(returns) < episodes:
        actions, _ = policy.predict(observations, deterministic=True)
        env.step_async(actions)
        observations, _, _, infos = env.step_wait()
        for i, info in enumerate(infos):
            if "episode" in info and left[i]:
                left[i] -= 1
                returns.append(info["episode"]["r"])
    return returns


def greedy_policy(checkpoint: Path, options: Options, rom: str, n_actions: int) -> BasePolicy:
    """What a checkpoint has learnt, without what it would need to learn on."""
    state = snapshot.load(checkpoint, options, rom)
    kind = PPO if options.algorithm == "ppo" else DQN
    policy: BasePolicy = kind.policy_aliases["CnnPolicy"](
        spaces.Box(0, 255, OBSERVATION, np.uint8),
        spaces.Discrete(n_actions),
        lambda _: 0.0,
        optimizer_class=Adam,
    )
    policy.load_state_dict(state["policy"])
    return policy


class _Ppo(Schedules, Ppo):
    """PPO on our schedules."""


class _Dqn(Schedules, DQN):
    """DQN on our schedules that learns nothing from a nearly empty replay buffer."""

    refill_steps: int = 0

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn, if the buffer has been refilled since the resume."""
        assert self.replay_buffer is not None  # noqa: S101 - set in the constructor
        if self.replay_buffer.size() * self.n_envs >= self.refill_steps:
            super().train(gradient_steps, batch_size)


def _ppo(
    env: AtariGames,
    spec: Spec,
    load: Load,
    options: Options,
    form: Form,
    *,
    initialise: bool = True,
) -> _Ppo:
    n_steps = max(1, options.rollout_steps // load.n_envs)
    rate, clip_range = options.ppo_learning_rate, options.clip_range
    model = _Ppo(
        env,
        form=form,
        initialise=initialise,
        n_steps=n_steps,
        batch_size=min(load.batch_size, n_steps * load.n_envs),
        n_epochs=options.n_epochs,
        learning_rate=LinearSchedule(rate, 0.0, 1.0) if options.anneal_learning_rate else rate,
        clip_range=LinearSchedule(clip_range, 0.0, 1.0)
        if options.anneal_clip_range
        else clip_range,
        vf_coef=options.vf_coef,
        ent_coef=options.ent_coef,
        gamma=options.gamma,
        gae_lambda=options.gae_lambda,
        max_grad_norm=options.ppo_max_grad_norm,
        seed=spec.seed,
        device=options.device,
    )
    model.schedule_steps = spec.up_to("steps") or options.nominal_steps
    return model


def _dqn(env: AtariGames, spec: Spec, load: Load, options: Options) -> _Dqn:
    model = _Dqn(
        "CnnPolicy",
        env,
        buffer_size=options.buffer_size,
        learning_rate=options.dqn_learning_rate,
        batch_size=options.replay_batch_size,
        learning_starts=options.learning_starts,
        target_update_interval=options.target_update_interval,
        # So many transitions per gradient step, however many one step of all games brings.
        train_freq=max(1, options.transitions_per_update // load.n_envs),
        gradient_steps=max(1, load.n_envs // options.transitions_per_update),
        gamma=options.gamma,
        max_grad_norm=options.dqn_max_grad_norm,
        exploration_fraction=options.exploration_fraction,
        exploration_initial_eps=options.exploration_initial,
        exploration_final_eps=options.exploration_final,
        # Halves the memory; it excludes the special handling of games that were cut off.
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        seed=spec.seed,
        device=options.device,
        policy_kwargs={"optimizer_class": Adam},
    )
    # The same maths; on a processor with AVX512 the update takes three quarters of the time.
    model.policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing there
    model.schedule_steps = spec.up_to("steps") or options.nominal_steps
    return model


class _Pilot(BaseCallback):
    """Tells the session how far the learning is, and ends it."""

    def __init__(
        self, session: Session, options: Options, rom: str, games: Games, conditions: State
    ) -> None:
        super().__init__()
        self.tally = Tally()
        self._session = session
        self._on_policy = options.algorithm == "ppo"
        self._games = games if self._on_policy and isinstance(games, ExactGames) else None
        """those that go into the checkpoints"""
        self._identity = {"algorithm": options.algorithm, "rom": rom}
        self._conditions = conditions
        self._boundary_s: float | None = None
        """PPO: when the current rollout began, or was gone on with"""
        self._memories = [Memory(), Memory()]
        self._logged_s = time.monotonic()
        self._preview = Preview(session.folder.preview)
        self._screen = games.screen

    def restore(self, model: BaseAlgorithm, state: State) -> None:
        """Go on where `state` was taken, with its very games where they fit."""
        self.tally.restore(state)
        assert self._session.checkpoint is not None  # noqa: S101 - the state is from there
        path = self._session.checkpoint.path
        before = snapshot.conditions_of(state)
        changed = [what for what, now in self._conditions.items() if before.get(what) != now]
        same_games = self._restore_games(model, path, state, changed)
        if left := state.get("unfinished"):
            assert isinstance(model, Ppo)  # noqa: S101 - no other leaves anything
            same_games = same_games and "rollout_steps" not in changed
            model.go_on(left, snapshot.pictures_of(path, left), same_games=same_games)

    def _restore_games(
        self, model: BaseAlgorithm, checkpoint: Path, state: State, changed: list[str]
    ) -> bool:
        """Whether the games of a checkpoint go on here; a person hears where that is not exact."""
        if self._games is None:
            return False
        before = snapshot.conditions_of(state)
        held = None
        if not snapshot.GAMES_FIT & set(changed):
            held = snapshot.games_of(checkpoint, self._games.n_games)
        if held is not None:
            model._last_obs = self._games.restore(held)
            model._last_episode_starts = np.array(state["episode_starts"])
        fit = held is not None
        if not fit or changed:
            how = "not to the bit as without the interruption" if fit else "with new games"
            why = "; ".join(
                f"{what} {self._conditions[what]}, "
                + (f"not {before[what]}" if what in before else "unknown before")
                for what in changed
            )
            why = why or "its checkpoint holds none"
            self._session.notice(f"it goes on from step {self._session.step} {how}: {why}")
        return fit

    def _on_training_start(self) -> None:
        if self._session.stop_requested:
            raise _Stopped  # all that there is lies in the checkpoint already
        if isinstance(self.model, Ppo):
            self.model.give_way = self._give_way

    def _on_rollout_start(self) -> None:
        if not self._on_policy:
            return
        now_s = time.monotonic()
        begun_s, self._boundary_s = self._boundary_s, now_s
        if begun_s is None:
            # Nothing was learnt in this attempt yet.
            return
        self._log()
        if self._session.target_reached or self._session.stop_requested:
            self._leave()
        # The next occasion is a cycle away.
        if self._session.checkpoint_due(within_s=now_s - begun_s):
            self._save(self._snapshot(), wait=False)

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.tally.add(info["episode"]["r"], info["episode"]["l"])
        step, episodes = self._told(learnt=not self._on_policy)
        self._session.progress(step, episodes=episodes, score=self.tally.score)
        self._preview.update(self._screen)
        if self._on_policy:
            # It gives way once it has kept what this step has brought.
            return True
        self._give_way()
        if self._session.target_reached:
            self._leave()
        if self._session.checkpoint_due():
            self._save(self._snapshot(), wait=False)
        if time.monotonic() - self._logged_s >= LOG_INTERVAL_S:
            self._log()
        return True

    def _give_way(self) -> None:
        """Stop here if that was requested."""
        if self._session.stop_requested:
            self._leave()

    def _leave(self) -> None:
        """Save and leave the learning.

        Raises:
            _Stopped: always.
        """
        self._save(self._snapshot(), wait=True)
        raise _Stopped

    def _told(self, *, learnt: bool) -> tuple[int, int]:
        """How many steps and episodes are told: no target is reached before all is learnt."""
        step, episodes = self.model.num_timesteps, self.tally.episodes
        spec = self._session.spec
        if not learnt and (target := spec.up_to("steps")) is not None:
            step = min(step, target - 1)
        if not learnt and (target := spec.up_to(EPISODES)) is not None:
            episodes = min(episodes, target - 1)
        return step, episodes

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        values = self.logger.name_to_value
        step, episodes = self._told(learnt=True)
        self._session.progress(step, episodes=episodes, loss=values.get("train/loss"))
        self.tally.record(self.logger)
        self.logger.dump(self.model.num_timesteps)

    def _snapshot(self) -> Snapshot:
        """A copy of everything that the learning depends on."""
        model = self.model
        state = {
            **self._identity,
            **self.tally.snapshot(),
            "conditions": self._conditions,
            **snapshot.take(model, self._memories[0]),
        }
        if self._games:
            state["episode_starts"] = np.asarray(model._last_episode_starts).tolist()
        left = state["unfinished"]
        return Snapshot(
            state,
            *self._told(learnt=left is None),
            games=self._games.clone() if self._games else None,
            pictures=model.rollout_buffer.pictures() if isinstance(model, Ppo) and left else None,
        )

    def _save(self, taken: Snapshot, *, wait: bool) -> None:
        state, step = taken.state, taken.step
        if step == 0:
            return
        recent = state["recent"]
        self._session.save(
            taken.files(),
            step=step,
            episodes=taken.episodes,
            score=return_mean(fmean(game[0] for game in recent)) if recent else None,
            wait=wait,
            replace=True,
        )
        # What a thread may still be writing is not copied over before the next one is due.
        self._memories.reverse()
