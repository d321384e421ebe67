"""How any environment is learnt: an algorithm of Stable-Baselines3, made to survive.

The algorithm is theirs, untouched. Between two of its rollouts everything is in order: what was
played is learnt, or lies in the replay buffer. So checkpoints hold the run as it is there.

A stop waits for that place where it is near. Where a rollout takes long, an algorithm that keeps no
buffer is saved in the midst of one: its weights are still those of before, so the steps of
that rollout count as not made. What falls in the course of a run does so over the target.

A resumed run of classic control goes on to the bit as if it had never been interrupted, where
nothing else has changed. All others go on with new episodes, and say so.

Importing this module imports torch.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import msgspec
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space

from trainers.baselines import Lines, Memory, Schedules, State, Tally
from trainers.contract import EPISODES, BadSpec, Spec
from trainers.sb3 import environments, expressions, snapshot
from trainers.sb3.algorithms import known_of
from trainers.sb3.expressions import Array, Noise
from trainers.sb3.options import Options
from trainers.sb3.recipe import Recipe, inexact
from trainers.sb3.snapshot import Snapshot
from trainers.session import Session

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

LOG_INTERVAL_S = 10.0
"""the least time between two lines of metrics"""
NEAR_S = 10.0
"""a stop waits for the end of a rollout where rollouts take no longer than this"""
STALL_SHARE = 0.1
"""of the time, at most, learning stands still for replay buffers that are too large to be copied"""
EVALUATED_STEPS = 1000
"""that a replay buffer has room for where nothing is learnt"""
_LOSSES = ("train/loss", "train/critic_loss", "train/value_loss")


class _Stopped(Exception):
    """Leaves Stable-Baselines3 wherever it is; the checkpoint is written."""


class _Refilled:
    """Learns nothing from a nearly empty replay buffer after a resume."""

    refill_steps: int = 0
    replay_buffer: Any
    n_envs: int

    def train(self, *arguments: Any, **named: Any) -> None:
        if self.replay_buffer.size() * self.n_envs >= self.refill_steps:
            super().train(*arguments, **named)  # type: ignore[misc] # of the algorithm beside it


def learn(session: Session, options: Options, recipe: Recipe) -> None:
    """Learn until the target is reached or a stop is requested."""
    spec = session.spec
    torch.set_num_threads(spec.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        # Not a bad spec: a driver may be back after the next reboot.
        raise RuntimeError("the options ask for CUDA, and torch finds no usable GPU")
    path = session.checkpoint.path if session.checkpoint else None
    state = snapshot.load(path, recipe) if path else None
    tally = Tally()
    env = environments.side_by_side(recipe, recipe.n_envs, tally)
    try:
        model = _built(recipe, env, spec.seed, options.device)
        model.set_logger(Logger(None, [Lines(session)]))
        pilot = _Pilot(session, recipe, tally, conditions(recipe, spec, model))
        if state is not None and path is not None:
            pilot.restore(model, state, path)
        try:
            # The pilot alone ends it. The steps count on, because the model has them already.
            model.learn(sys.maxsize, pilot, log_interval=sys.maxsize, reset_num_timesteps=False)
        except _Stopped:
            pass
        finally:
            model.logger.close()
    finally:
        environments.close(env)


def see_fit(recipe: Recipe, spec: Spec, checkpoint: Path) -> None:
    """See that what a checkpoint holds fits what the recipe makes.

    Raises:
        BadSpec: it does not.
    """
    state = snapshot.load(checkpoint, recipe)
    with unlearnt(recipe, spec) as model:
        snapshot.restore(model, state)


@contextmanager
def unlearnt(recipe: Recipe, spec: Spec) -> Iterator[BaseAlgorithm]:
    """A model that has learnt nothing, to see whether what is to be put into it fits.

    Raises:
        BadSpec: the library refuses it.
    """
    torch.set_num_threads(spec.threads)
    here = dataclasses.replace(recipe, processes=False)
    env = environments.side_by_side(here, recipe.n_envs, Tally())
    try:
        yield _built(here, env, spec.seed, "cpu", learning=False)
    finally:
        environments.close(env)


class Greedy:
    """What a checkpoint has learnt, playing greedily; nothing that it sees changes it.

    Args:
        recipe: of the run.
        spec: of the run.
        checkpoint: its folder.
        n_envs: environments that are played side by side.
        film: whether they are to be drawn.
    """

    def __init__(
        self, recipe: Recipe, spec: Spec, checkpoint: Path, n_envs: int, *, film: bool = False
    ) -> None:
        torch.set_num_threads(spec.threads)
        state = snapshot.load(checkpoint, recipe)
        self.tally = Tally()
        self.env = environments.side_by_side(recipe, n_envs, self.tally, film=film)
        self._model = _built(recipe, self.env, spec.seed, "cpu", learning=False)
        snapshot.put_weights(self._model, state, learning=False)
        snapshot.set_statistics(self._model, state["normalize"])
        if (normalize := self._model.get_vec_normalize_env()) is not None:
            normalize.training, normalize.norm_reward = False, False
        self._masked = recipe.algorithm.masked
        venv = self._model.get_env()
        assert venv is not None  # noqa: S101 - it was built with one
        self._venv = venv
        # Not what the training has played, nor what it will.
        venv.seed(int(np.random.SeedSequence([spec.seed, 2**32 - 1]).generate_state(1)[0] >> 1))
        self._seen: Any = venv.reset()
        self._hidden: Any = None
        self._begins = np.ones(n_envs, dtype=bool)

    def step(self) -> list[dict[str, Any]]:
        """Play a step of each environment; what each tells of it."""
        masks = {}
        if self._masked:
            from sb3_contrib.common.maskable.utils import (  # noqa: PLC0415 - may be missing
                get_action_masks,
            )

            masks["action_masks"] = get_action_masks(self._venv)
        actions, self._hidden = self._model.predict(
            self._seen, self._hidden, self._begins, deterministic=True, **masks
        )
        self._seen, _, self._begins, told = self._venv.step(actions)
        return list(told)


def play(recipe: Recipe, spec: Spec, checkpoint: Path, episodes: int, n_envs: int) -> list[float]:
    """The undiscounted returns of whole episodes, played greedily.

    Every environment plays an equal share: taking the first that finish would
    favour short episodes.
    """
    greedy = Greedy(recipe, spec, checkpoint, n_envs)
    share, more = divmod(episodes, n_envs)
    left = [share + (i < more) for i in range(n_envs)]
    returns: list[float] = []
    try:
        while len(returns) < episodes:
            for i, told in enumerate(greedy.step()):
                if "episode" in told and left[i]:
                    left[i] -= 1
                    returns.append(float(told["episode"]["r"]))
    finally:
        environments.close(greedy.env)
    return returns


def _built(
    recipe: Recipe, env: VecEnv, seed: int, device: str, *, learning: bool = True
) -> BaseAlgorithm:
    """The model, which has learnt nothing.

    Raises:
        BadSpec: the library refuses it.
    """
    plain = recipe.algorithm.load()
    off_policy = issubclass(plain, OffPolicyAlgorithm)
    kind = type(plain.__name__, (Schedules, *((_Refilled,) if off_policy else ()), plain), {})
    given = {
        name: _noise(value, env) if isinstance(value, Noise) else expressions.made(value)
        for name, value in recipe.hyperparameters.items()
    }
    if off_policy and not learning:
        given["buffer_size"] = EVALUATED_STEPS
    try:
        model: Any = kind(
            recipe.policy or _suitable(recipe, env.observation_space),
            env,
            seed=seed,
            device=device,
            **given,
        )
    except (ValueError, AssertionError, TypeError, NotImplementedError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise BadSpec(f"{recipe.algorithm.name} refuses what it is given: {words}") from error
    model.schedule_steps = recipe.schedule_steps
    built: BaseAlgorithm = model
    return built


def _suitable(recipe: Recipe, observations: spaces.Space[Any]) -> str:
    """The policy that suits the observations."""
    kind = "Mlp"
    if isinstance(observations, spaces.Dict):
        kind = "MultiInput"
    elif is_image_space(observations):
        kind = "Cnn"
    name = f"{kind}LstmPolicy" if recipe.algorithm.recurrent else f"{kind}Policy"
    policies = known_of(recipe.algorithm).policies
    if policies and name not in policies:
        raise BadSpec(
            f"{recipe.algorithm.name} has no {name}, which {recipe.env} would need; there are: "
            f"{', '.join(policies)}"
        )
    return name


def _noise(noise: Noise, env: VecEnv) -> Any:
    """Noise for each part of an action."""
    shape = env.action_space.shape or ()
    values = {"mean": 0.0, **noise.values}
    for name in ("mean", "sigma"):
        part = values.get(name, 0.0)
        try:
            spread = np.broadcast_to(part.values if isinstance(part, Array) else part, shape)
            values[name] = Array(np.asarray(spread, dtype=np.float64))
        except (ValueError, TypeError) as error:
            raise BadSpec(f"action_noise: {name} does not fit actions of {shape}") from error
    try:
        return expressions.made(noise._replace(values=values))
    except TypeError as error:
        raise BadSpec(f"action_noise: {error}") from error


def conditions(recipe: Recipe, spec: Spec, model: BaseAlgorithm) -> dict[str, str]:
    """What must be the same for two attempts to calculate the same."""
    return {
        "n_envs": str(recipe.n_envs),
        "threads": str(spec.threads),
        "hyperparameters": repr(sorted(recipe.hyperparameters.items())),
        "env_kwargs": msgspec.json.encode(dict(recipe.env_kwargs), order="sorted").decode(),
        "schedule_steps": str(recipe.schedule_steps),
        "normalize": repr(recipe.normalize),
        "device": str(model.device),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "torch": str(torch.__version__),
        "stable-baselines3": str(stable_baselines3.__version__),
        "gymnasium": str(gymnasium.__version__),
        "numpy": str(np.__version__),
    }


class _Pilot(BaseCallback):
    """Tells the session how far the learning is, and ends it."""

    def __init__(
        self, session: Session, recipe: Recipe, tally: Tally, conditions: dict[str, str]
    ) -> None:
        super().__init__()
        self.tally = tally
        self._session = session
        self._recipe = recipe
        self._conditions = conditions
        self._memories = [Memory(), Memory()]
        self._boundary: tuple[int, int] = (session.step, session.episodes)
        """steps and episodes at the beginning of this rollout"""
        self._boundary_s: float | None = None
        self._cycle_s: float | None = None
        """how long the last rollout, with its update, took"""
        self._logged_s = self._saved_s = time.monotonic()
        self._stall_s = 0.0
        self._off_policy = False
        self._exact = False

    def restore(self, model: BaseAlgorithm, state: State, checkpoint: Path) -> None:
        """Go on where `state` was taken, with its very episodes where that can be."""
        self.tally.restore(state["tally"])
        env = model.get_env()
        assert env is not None  # noqa: S101 - it was built with one
        changed = [
            what for what, now in self._conditions.items() if state["conditions"].get(what) != now
        ]
        held: State | None = state["places"]
        if self._inexact(model) is not None or {"n_envs", "env_kwargs"} & set(changed):
            held = None
        if held is not None:
            env.reset()
        else:
            seeds = np.random.SeedSequence([self._session.spec.seed, self._session.step])
            env.seed(int(seeds.generate_state(1)[0] >> 1))
        snapshot.restore(model, state)
        if held is not None:
            environments.go_on(env, held["envs"])
            model._last_obs = held["observations"].numpy()
            model._last_episode_starts = held["episode_starts"].numpy()
            if (normalize := model.get_vec_normalize_env()) is not None:
                normalize.returns = held["returns"].numpy()
                normalize.old_obs = model._last_original_obs = held["original"].numpy()
        self._refill(model, state, checkpoint, same_episodes=held is not None)
        snapshot.resume_random(model, state)
        if held is None or changed:
            how = "with new episodes" if held is None else "not to the bit as without interruption"
            why = "; ".join(self._told_of(what, state) for what in changed)
            why = (
                why
                or self._inexact(model)
                or "it was saved in the midst of a rollout, or elsewhere"
            )
            self._session.notice(f"it goes on from step {self._session.step} {how}: {why}")

    def _told_of(self, what: str, state: State) -> str:
        now, before = self._conditions[what], state["conditions"].get(what, "unknown")
        return f"{what} {now}, not {before}" if len(now + before) < 80 else f"other {what}"

    def _refill(
        self, model: BaseAlgorithm, state: State, checkpoint: Path, *, same_episodes: bool
    ) -> None:
        if not isinstance(model, OffPolicyAlgorithm):
            return
        buffer = model.replay_buffer
        assert buffer is not None  # noqa: S101 - set in the constructor
        lost = snapshot.fill(buffer, checkpoint, state["replay"])
        if lost is not None:
            self._session.notice(lost)
            assert isinstance(model, _Refilled)  # noqa: S101 - each of them is
            model.refill_steps = min(model.learning_starts, model.buffer_size)
        elif not same_episodes:
            snapshot.cut_off(buffer)

    def _inexact(self, model: BaseAlgorithm) -> str | None:
        """Why its episodes cannot be gone on with; None: they can."""
        env = model.get_env()
        assert env is not None  # noqa: S101 - as above
        # One in another process would have to be sent here to be looked at.
        own = None if self._recipe.processes else type(env.get_attr("unwrapped", 0)[0])
        return inexact(self._recipe, own.__module__ if own else "")

    def _on_training_start(self) -> None:
        if self._session.stop_requested:
            raise _Stopped  # all that there is lies in the checkpoint already
        self._off_policy = isinstance(self.model, OffPolicyAlgorithm)
        self._exact = self._inexact(self.model) is None

    def _on_rollout_start(self) -> None:
        now_s = time.monotonic()
        begun_s, self._boundary_s = self._boundary_s, now_s
        self._boundary = self.model.num_timesteps, self.tally.episodes
        if begun_s is None:
            # Nothing was learnt in this attempt yet.
            return
        self._cycle_s = now_s - begun_s
        self._tell(learnt=True)
        if now_s - self._logged_s >= LOG_INTERVAL_S:
            self._log()
        if self._session.target_reached or self._session.stop_requested:
            self._log()
            self._leave(between=True)
        # The next occasion is a cycle away.
        rested = now_s - self._saved_s >= self._stall_s * (1 / STALL_SHARE - 1)
        if rested and self._session.checkpoint_due(within_s=self._cycle_s):
            self._save(between=True, wait=False)

    def _on_step(self) -> bool:
        self._tell(learnt=False)
        if (
            self._session.stop_requested
            and not self._off_policy
            and (self._cycle_s is None or self._cycle_s > NEAR_S)
        ):
            self._leave(between=False)
        return True

    def _leave(self, *, between: bool) -> None:
        """Save and leave the learning.

        Raises:
            _Stopped: always.
        """
        self._save(between=between, wait=True)
        raise _Stopped

    def _tell(self, *, learnt: bool) -> None:
        """Say how far it is: no target is reached before all is learnt."""
        step, episodes = self.model.num_timesteps, self.tally.episodes
        spec = self._session.spec
        if not learnt and (target := spec.up_to("steps")) is not None:
            step = min(step, target - 1)
        if not learnt and (target := spec.up_to(EPISODES)) is not None:
            episodes = min(episodes, target - 1)
        self._session.progress(step, episodes=episodes, score=self.tally.score)

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        values = self.logger.name_to_value
        loss = next((values[name] for name in _LOSSES if name in values), None)
        self._session.progress(self._session.step, loss=loss)
        self.tally.record(self.logger)
        self.logger.dump(self.model.num_timesteps)

    def _snapshot(self, *, between: bool) -> Snapshot:
        """A copy of everything that the learning depends on.

        Args:
            between: two rollouts; in the midst of one its steps are left out.
        """
        model = self.model
        buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
        replay, arrays, copied = snapshot.replay_of(buffer)
        state = {
            **snapshot.identity(self._recipe),
            **snapshot.take(model, self._memories[0]),
            "tally": self.tally.snapshot() | {"games": self._boundary[1]},
            "conditions": self._conditions,
            "places": self._places() if between and self._exact else None,
            "replay": replay,
        }
        state["counters"]["num_timesteps"] = self._boundary[0]
        return Snapshot(state, arrays, wait=not copied)

    def _places(self) -> State:
        """The episodes that are being played."""
        model, env = self.model, self.training_env
        normalize = model.get_vec_normalize_env()
        place: State = {
            "envs": environments.places(env),
            "observations": torch.from_numpy(np.array(model._last_obs)),
            "episode_starts": torch.from_numpy(np.array(model._last_episode_starts)),
        }
        if normalize is not None:
            place["returns"] = torch.from_numpy(np.array(normalize.returns))
            place["original"] = torch.from_numpy(np.array(normalize.old_obs))
        return place

    def _save(self, *, between: bool, wait: bool) -> None:
        step, episodes = self._boundary
        held = self._session.checkpoint
        if step == 0 or (not between and held is not None and held.manifest.step == step):
            # Nothing was learnt yet, or since; and what is held may have its episodes, too.
            return
        taken = self._snapshot(between=between)
        begun_s = time.monotonic()
        self._session.save(
            taken.files(),
            step=step,
            episodes=episodes,
            score=self.tally.score,
            wait=wait or taken.wait,
            replace=True,
        )
        self._saved_s = time.monotonic()
        self._stall_s = self._saved_s - begun_s
        # What a thread may still be writing is not copied over before the next one is due.
        self._memories.reverse()
