"""Stable-Baselines3's PPO for stacks of pictures, with quick inner loops.

The algorithm is theirs, and so are losses, updates and weights, up to the last
digits of a float; tests hold them side by side. What is ours is where the time and
the memory went:

* A rollout keeps each picture once, and stacks them when a minibatch is gathered: a
  quarter of the memory.
* A minibatch is gathered straight into the layout that the first convolution wants,
  and learnt from in parts, so that activations stay small.
* Nothing is read back from the device between two minibatches.
* Adam is torch's fused kernel without `torch.optim`, whose first use imports torch's
  compiler: 2 s and 60 MB.

And it can be left between any two steps of a rollout, and between any two gradient steps,
with nothing lost: `Ppo.unfinished` is what another process needs to go on from there.

Importing this module imports torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from trainers.atari.game import OBSERVATION, SIDE

if TYPE_CHECKING:
    from gymnasium import spaces
    from numpy.typing import NDArray
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv

N_EPOCHS = 4
"""how often each transition is learnt from, once it has been played, as published"""
PICTURES = OBSERVATION[0]
PLAYED = ("actions", "rewards", "episode_starts", "values", "log_probs")
"""what a buffer keeps of each step, beside the observations"""
BLOCK = 4
"""side of the square of pixels that space-to-depth makes one pixel of many channels: the
stride of the first convolution"""
BLOCKS = SIDE // BLOCK
PART = 256
"""samples that a processor learns from at once; a GPU takes the whole minibatch"""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from <malloc.h>
MMAP_THRESHOLD_MAX = 32 * 1024 * 1024
"""the largest that glibc accepts"""


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several ways to calculate the same update; they differ in last digits only."""

    convolutions: Literal["contiguous", "channels_last", "space_to_depth"] = "channels_last"
    """memory layout of what the convolutions work on; space_to_depth: channels last, and the
    first convolution, of 8 x 8 pixels, as one of 2 x 2 blocks"""


def keep_freed_memory() -> None:
    """Let the allocator keep the memory of activations from one minibatch to the next.

    By default glibc gives large blocks back at once, and the kernel clears each page of
    the next ones again: a fifth of an update.
    """
    with suppress(AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, 16 * MMAP_THRESHOLD_MAX)


class Network(NatureCNN):
    """The published network, its weights as in Stable-Baselines3, in one of several forms.

    It scales grey levels itself, by its first weights: they are fewer than pixels.
    """

    def __init__(
        self, observation_space: spaces.Box, *, form: Form, normalized_image: bool = False
    ) -> None:
        super().__init__(observation_space, normalized_image=normalized_image)
        self.form = form
        for layer in self.cnn:
            if isinstance(layer, torch.nn.ReLU):
                # Their backward pass needs the output only, and that of a convolution the input.
                layer.inplace = True

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Features of stacks of pictures, or of what `arrange` made of them, from 0 to 255."""
        if self.form.convolutions == "channels_last":
            observations = observations.contiguous(memory_format=torch.channels_last)
        elif self.form.convolutions == "space_to_depth" and observations.shape[1] == PICTURES:
            observations = self.arrange(self.pack(observations))
        first = self.cnn[0]
        assert isinstance(first, torch.nn.Conv2d)  # noqa: S101 - as the parent builds it
        weight = first.weight / 255.0
        if self.form.convolutions == "space_to_depth":
            blocks = weight.view(-1, PICTURES, 2, BLOCK, 2, BLOCK).permute(0, 1, 3, 5, 2, 4)
            weight = blocks.reshape(-1, PICTURES * BLOCK**2, 2, 2)
            weight = weight.contiguous(memory_format=torch.channels_last)
            hidden = F.conv2d(observations, weight, first.bias)
        else:
            hidden = F.conv2d(observations, weight, first.bias, BLOCK)
        features: torch.Tensor = self.linear(self.cnn[1:](hidden))
        return features

    def pack(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures `(..., 84, 84)` as rows `(..., 7056)` in the order that `arrange` expects."""
        shape = pictures.shape[:-2]
        if self.form.convolutions == "space_to_depth":
            pictures = pictures.reshape(*shape, BLOCKS, BLOCK, BLOCKS, BLOCK).transpose(-3, -2)
        return pictures.reshape(*shape, SIDE**2)

    def unpack(self, rows: torch.Tensor) -> torch.Tensor:
        """The pictures `(n, 84, 84)` that were packed."""
        if self.form.convolutions == "space_to_depth":
            rows = rows.reshape(-1, BLOCKS, BLOCKS, BLOCK, BLOCK).transpose(-3, -2)
        return rows.reshape(-1, SIDE, SIDE)

    def arrange(self, rows: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Stacks of packed pictures `(n, 4, 7056)` as what the first convolution takes.

        Args:
            rows: what was packed.
            out: memory for the answer, at least as large, `float32`.
        """
        n = len(rows)
        if out is None:
            out = torch.empty(rows.numel(), device=rows.device)
        flat = out[: rows.numel()]
        if self.form.convolutions == "contiguous":
            flat.view(rows.shape).copy_(rows, non_blocking=True)
            return flat.view(n, *OBSERVATION)
        # A pixel, or a block of pixels, of all four pictures lies together.
        depth = BLOCK**2 if self.form.convolutions == "space_to_depth" else 1
        side = BLOCKS if self.form.convolutions == "space_to_depth" else SIDE
        pixels = rows.view(n, PICTURES, side**2, depth).transpose(1, 2)
        flat.view(pixels.shape).copy_(pixels)
        return flat.view(n, side, side, PICTURES * depth).permute(0, 3, 1, 2)


class Minibatch(NamedTuple):
    """Transitions to learn from in one gradient step."""

    stacks: torch.Tensor
    """`(n, 4)`: which pictures each observation is made of"""
    actions: torch.Tensor
    log_probs: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


@dataclass(slots=True)
class Place:
    """How far an update is."""

    epoch: int = 0
    """how many epochs are over"""
    order: torch.Tensor | None = None
    """of the transitions in the epoch that has begun"""
    done: int = 0
    """how many of them were learnt from"""
    told: list[torch.Tensor] = field(default_factory=list)
    """what `Ppo.update` has returned so far"""


class PictureBuffer(RolloutBuffer):
    """A rollout in which each picture is kept once.

    An observation is the one before, shifted by one picture; only where an episode
    begins can its older pictures be others, and those that are not blank are kept too.

    A rollout may begin with transitions of games that cannot go on here. It takes
    fewer steps then: `buffer_size` is how many.
    """

    network: Network

    def reset(self) -> None:
        """Forget the rollout; its memory is used again."""
        self.pos = 0
        self.full = False
        if not hasattr(self, "_pictures"):
            self._steps_max = self.buffer_size
            shape = (self.buffer_size, self.n_envs)
            self.actions = np.zeros((*shape, self.action_dim), self.action_space.dtype)
            self.rewards = np.zeros(shape, np.float32)
            self.returns = np.zeros(shape, np.float32)
            self.episode_starts = np.zeros(shape, np.float32)
            self.values = np.zeros(shape, np.float32)
            self.log_probs = np.zeros(shape, np.float32)
            self.advantages = np.zeros(shape, np.float32)
            self.stacks = np.zeros((*shape, PICTURES), np.int64)
            # Room for an episode that begins at each step. What is not needed is not touched,
            # and takes no memory.
            self._pictures = torch.empty(
                (1 + self.buffer_size * self.n_envs * PICTURES, SIDE**2), dtype=torch.uint8
            )
            self._pictures[0] = 0  # the blank one
            self._input = torch.empty(0)
        self.buffer_size = self._steps_max
        self.n_pictures = 1
        self._closed: Minibatch | None = None
        """transitions whose advantages are known: of other games, or all while they are learnt"""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be learnt from."""
        return self.pos == 0 and self._closed is None

    def add(
        self,
        obs: NDArray[np.uint8],
        action: NDArray[np.int64],
        reward: NDArray[np.float32],
        episode_start: NDArray[np.bool_],
        value: torch.Tensor,
        log_prob: torch.Tensor,
    ) -> None:
        """Keep a transition of each environment."""
        here = self.pos
        stacks = self.stacks[here]
        pictures = torch.from_numpy(obs)
        stacks[:, -1] = self._keep(pictures[:, -1])
        if here == 0:
            stacks[:, :-1] = self._keep(pictures[:, :-1].flatten(0, 1)).reshape(self.n_envs, -1)
        else:
            stacks[:, :-1] = self.stacks[here - 1, :, 1:]
            for i in np.flatnonzero(episode_start):
                older = obs[i, :-1]
                stacks[i, :-1] = self._keep(pictures[i, :-1]) if older.any() else 0
        self.actions[here] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[here] = reward
        self.episode_starts[here] = episode_start
        self.values[here] = value.cpu().numpy().flatten()
        self.log_probs[here] = log_prob.cpu().numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(
        self, last_values: torch.Tensor, dones: NDArray[np.bool_]
    ) -> None:
        """See what each transition was worth, as far as the rollout has come.

        Generalized Advantage Estimation (https://arxiv.org/abs/1506.02438), as in
        Stable-Baselines3.

        Args:
            last_values: of the observations after the last step.
            dones: where they begin an episode.
        """
        worth: Any = 0.0
        values_next = last_values.cpu().numpy().flatten()
        goes_on = 1.0 - dones.astype(np.float32)
        for step in reversed(range(self.pos)):
            better = self.rewards[step] + self.gamma * values_next * goes_on - self.values[step]
            worth = better + self.gamma * self.gae_lambda * goes_on * worth
            self.advantages[step] = worth
            values_next = self.values[step]
            goes_on = 1.0 - self.episode_starts[step]
        self.returns = self.advantages + self.values

    def transitions(self) -> Minibatch:
        """All that there is to learn from, once it is known what each was worth.

        They are numbered environment by environment, as in Stable-Baselines3.
        """
        played = Minibatch(
            *(
                torch.from_numpy(
                    np.ascontiguousarray(part[: self.pos].swapaxes(0, 1)).reshape(-1, *last)
                )
                for part, last in (
                    (self.stacks, (PICTURES,)),
                    (self.actions, ()),
                    (self.log_probs, ()),
                    (self.advantages, ()),
                    (self.returns, ()),
                )
            )
        )
        if self._closed is None:
            return played
        return Minibatch(*map(torch.cat, zip(self._closed, played, strict=True)))

    def minibatches(
        self, batch_size: int, n_epochs: int, place: Place | None = None
    ) -> Iterator[Iterator[Minibatch]]:
        """The transitions in random order, once for each epoch, from `place` on.

        The order is that of Stable-Baselines3, drawn from NumPy's global generator.
        """
        assert self.full  # noqa: S101 - a rollout is collected before it is learnt from
        place = place or Place()
        whole = Minibatch(*map(self._on_device, self.transitions()))
        self._rows = self._pictures[: self.n_pictures].to(self.device, non_blocking=True)
        while place.epoch < n_epochs:
            if place.order is None:
                place.order = torch.from_numpy(np.random.permutation(len(whole.actions)))
            order = self._on_device(place.order[place.done :])
            yield (
                Minibatch(*(part[some] for part in whole))
                for some in (torch.split(order, batch_size) if len(order) else ())
            )
            place.epoch, place.order, place.done = place.epoch + 1, None, 0

    def inputs(self, stacks: torch.Tensor) -> torch.Tensor:
        """Observations as the network takes them; the next call overwrites them."""
        rows = self._rows.index_select(0, stacks.flatten()).view(len(stacks), PICTURES, -1)
        if len(self._input) < rows.numel():
            self._input = torch.empty(rows.numel(), device=self.device)
        return self.network.arrange(rows, out=self._input)

    def _keep(self, pictures: torch.Tensor) -> NDArray[np.int64]:
        """Keep these pictures; their numbers."""
        first = self.n_pictures
        self.n_pictures += len(pictures)
        self._pictures[first : self.n_pictures] = self.network.pack(pictures)
        return np.arange(first, self.n_pictures)

    def pictures(self) -> NDArray[np.uint8]:
        """The pictures that the rollout is made of, `(n, 84, 84)`; it is not copied if possible."""
        rows = self._pictures[: self.n_pictures]
        return np.ascontiguousarray(self.network.unpack(rows).numpy())

    def steps(self) -> dict[str, torch.Tensor]:
        """What was played in these games, step by step; not copied."""
        return {
            name: torch.from_numpy(getattr(self, name)[: self.pos]) for name in ("stacks", *PLAYED)
        }

    def go_on(
        self,
        pictures: NDArray[np.uint8],
        closed: Minibatch,
        steps: dict[str, torch.Tensor],
        buffer_size: int,
    ) -> None:
        """Be a rollout that was left.

        Args:
            pictures: that it is made of.
            closed: transitions that are not of these games.
            steps: what was played in these games.
            buffer_size: how many steps they are to become.
        """
        n_pictures = len(pictures)
        room = n_pictures + buffer_size * self.n_envs * PICTURES
        if room > len(self._pictures):
            self._pictures = torch.empty((room, SIDE**2), dtype=torch.uint8)
        self._pictures[:n_pictures] = self.network.pack(torch.from_numpy(pictures))
        self.n_pictures = n_pictures
        self._closed = closed if len(closed.actions) else None
        for name, played in steps.items():
            getattr(self, name)[: len(played)] = played.numpy()
            self.pos = len(played)
        self.buffer_size = buffer_size
        self.full = self.pos == buffer_size

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


class Adam:
    """Adam as in torch, with the same state, by its fused kernel alone.

    Args:
        parameters: what is optimised.
        lr: the learning rate.
        eps: added to the denominator.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, eps: float = 1e-8
    ) -> None:
        self._parameters: list[torch.Tensor] = list(parameters)
        # In the shape of `torch.optim`, where a schedule sets the learning rate.
        self.param_groups: list[dict[str, Any]] = [
            {
                "lr": lr,
                "betas": (0.9, 0.999),
                "eps": eps,
                "weight_decay": 0,
                "amsgrad": False,
                "maximize": False,
                "foreach": None,
                "capturable": False,
                "differentiable": False,
                # As we are, but whoever loads this may lay out the state in another way than its
                # parameters, which the fused kernel would not notice.
                "fused": None,
                "decoupled_weight_decay": False,
            }
        ]
        self._steps: list[torch.Tensor] = []
        self._means: list[torch.Tensor] = []
        self._squares: list[torch.Tensor] = []

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - torch's
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter along its gradient."""
        if not self._steps:
            self._begin()
        group = self.param_groups[0]
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self._parameters,
            [part.grad for part in self._parameters if part.grad is not None],
            self._means,
            self._squares,
            [],
            self._steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )

    def state_dict(self) -> dict[str, Any]:
        """What `torch.optim.Adam` would load."""
        slots = zip(self._steps, self._means, self._squares, strict=True)
        return {
            "state": {
                i: {"step": step, "exp_avg": mean, "exp_avg_sq": square}
                for i, (step, mean, square) in enumerate(slots)
            },
            "param_groups": [{**self.param_groups[0], "params": [*range(len(self._parameters))]}],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what this, or `torch.optim.Adam`, gave; in the layout of the parameters."""
        self.param_groups[0]["lr"] = state["param_groups"][0]["lr"]
        self.param_groups[0]["eps"] = state["param_groups"][0]["eps"]
        if not state["state"]:
            return
        self._begin()
        for i, slot in state["state"].items():
            self._steps[i].fill_(float(slot["step"]))
            self._means[i].copy_(slot["exp_avg"])
            self._squares[i].copy_(slot["exp_avg_sq"])

    def _begin(self) -> None:
        self._steps = [torch.zeros((), device=part.device) for part in self._parameters]
        self._means = [torch.zeros_like(part, requires_grad=False) for part in self._parameters]
        self._squares = [torch.zeros_like(part, requires_grad=False) for part in self._parameters]


class Ppo(PPO):
    """PPO that learns from a `PictureBuffer` with a `Network`."""

    rollout_buffer: PictureBuffer
    give_way: Callable[[], None]
    """called between two steps, of a rollout or along a gradient: here it can be left"""

    def __init__(self, env: Any, *, form: Form, initialise: bool, **settings: Any) -> None:
        # Each check of arguments would wait for a GPU.
        torch.distributions.Distribution.set_default_validate_args(False)
        super().__init__(
            "CnnPolicy",
            env,
            rollout_buffer_class=PictureBuffer,
            policy_kwargs={
                "features_extractor_class": Network,
                "features_extractor_kwargs": {"form": form},
                "net_arch": [],  # as is the default for the parent of `Network`
                "normalize_images": False,
                "optimizer_class": Adam,
                "optimizer_kwargs": {"eps": 1e-5},
                "ortho_init": initialise,
            },
            **settings,
        )
        self.give_way = lambda: None
        self._place = Place()
        network = self.policy.features_extractor
        assert isinstance(network, Network)  # noqa: S101 - as asked for above
        self.rollout_buffer.network = network
        if form.convolutions != "contiguous":
            self.policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing there

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,  # noqa: ARG002 - the parent's signature, as below
        n_rollout_steps: int,  # noqa: ARG002
    ) -> bool:
        """Play until the rollout is full: `PPO.collect_rollouts`, from where it stands."""
        buffer = self.rollout_buffer
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        while not buffer.full:
            before, starts = self._last_obs, self._last_episode_starts
            assert isinstance(before, np.ndarray)  # noqa: S101 - pictures, as the games give them
            assert starts is not None  # noqa: S101 - they come with them
            with torch.no_grad():
                chosen, values, log_probs = self.policy(obs_as_tensor(before, self.device))
            actions = chosen.cpu().numpy()
            observations, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals({"infos": infos})
            if not callback.on_step():
                return False
            for i in np.flatnonzero(dones):
                if infos[i].get("TimeLimit.truncated"):
                    # It was cut off, and would have gone on.
                    last, _ = self.policy.obs_to_tensor(infos[i]["terminal_observation"])
                    with torch.no_grad():
                        rewards[i] += self.gamma * self.policy.predict_values(last)[0]
            buffer.add(before, actions.reshape(-1, 1), rewards, starts, values, log_probs)
            assert isinstance(observations, np.ndarray)  # noqa: S101 - as above
            self._last_obs = observations
            self._last_episode_starts = dones
            self.give_way()
        self._close()
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Learn from the rollout: `PPO.train`, in parts of a minibatch, from where it stands."""
        policy, buffer, place = self.policy, self.rollout_buffer, self._place
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        clip_range: float = self.clip_range(self._current_progress_remaining)  # type: ignore[operator] # a schedule by now
        for epoch in buffer.minibatches(self.batch_size, self.n_epochs, place):
            for minibatch in epoch:
                place.told.append(self.update(minibatch, clip_range))
                place.done += len(minibatch.actions)
                self.give_way()
            self._n_updates += 1
        # Only here does the processor wait for a GPU.
        losses = torch.stack(place.told).cpu().numpy()
        learnt = buffer.transitions()
        returns = learnt.returns.numpy()
        means = losses.mean(axis=0)
        last_epoch = losses[-(len(losses) // self.n_epochs) :].mean(axis=0)
        for name, value in {
            "entropy_loss": means[2],
            "policy_gradient_loss": means[0],
            "value_loss": means[1],
            "approx_kl": last_epoch[5],
            "clip_fraction": means[4],
            "loss": losses[-1, 3],
            "explained_variance": explained_variance(returns - learnt.advantages.numpy(), returns),
            "clip_range": clip_range,
        }.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._place = Place()
        buffer.reset()

    def unfinished(self) -> dict[str, Any] | None:
        """What was played and not learnt from, but for its pictures; None: nothing.

        To be asked where it gives way, and to be used before it goes on: not all is copied.
        """
        buffer, place = self.rollout_buffer, self._place
        if buffer.is_empty:
            return None
        learns = place.order is not None
        if not learns:
            # For the case that these games cannot go on: as if the rollout ended here.
            self._close()
        steps = {} if learns else buffer.steps()
        transitions = buffer.transitions()
        n_played = 0 if learns else buffer.pos * buffer.n_envs
        return {
            "transitions": tuple(transitions),
            "steps": steps,
            "n_closed": len(transitions.actions) - n_played,
            "n_steps": 0 if learns else buffer.buffer_size,
            "n_pictures": buffer.n_pictures,
            "epoch": place.epoch,
            "order": place.order,
            "done": place.done,
            "told": place.told,
        }

    def go_on(self, left: dict[str, Any], pictures: NDArray[np.uint8], *, same_games: bool) -> None:
        """Go on where another process has left.

        Args:
            left: what its `unfinished` was.
            pictures: those of its rollout.
            same_games: whether its games go on here. If not, the transitions from them are learnt
                from all the same, together with those of new games that are missing.
        """
        buffer = self.rollout_buffer
        transitions = Minibatch(*left["transitions"])
        learns = left["order"] is not None
        if same_games or learns:
            closed = Minibatch(*(part[: left["n_closed"]] for part in transitions))
            buffer.go_on(pictures, closed, left["steps"], left["n_steps"])
        else:
            n_missing = buffer.buffer_size * buffer.n_envs - len(transitions.actions)
            buffer.go_on(pictures, transitions, {}, max(0, n_missing // buffer.n_envs))
        told = [one.to(self.device) for one in left["told"]]
        self._place = Place(left["epoch"], left["order"], left["done"], told)

    def _close(self) -> None:
        assert self._last_obs is not None  # noqa: S101 - it has played
        assert self._last_episode_starts is not None  # noqa: S101 - as above
        with torch.no_grad():
            values = self.policy.predict_values(obs_as_tensor(self._last_obs, self.device))
        self.rollout_buffer.compute_returns_and_advantage(values, self._last_episode_starts)

    def update(self, minibatch: Minibatch, clip_range: float) -> torch.Tensor:
        """Make one gradient step.

        Returns:
            Losses of policy, value and entropy, the whole loss, the share of clipped ratios, and
            how far the policy has moved.
        """
        n = len(minibatch.actions)
        advantages = minibatch.advantages
        if n > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        self.policy.optimizer.zero_grad()
        told = torch.zeros(6, device=advantages.device)
        size = n if advantages.is_cuda else PART
        for start in range(0, n, size):
            part = slice(start, start + size)
            values, log_probs, entropy = self.policy.evaluate_actions(
                self.rollout_buffer.inputs(minibatch.stacks[part]), minibatch.actions[part]
            )
            log_ratio = log_probs - minibatch.log_probs[part]
            ratio = torch.exp(log_ratio)
            clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
            policy_loss = -torch.min(advantages[part] * ratio, advantages[part] * clipped).mean()
            value_loss = F.mse_loss(minibatch.returns[part], values.flatten())
            assert entropy is not None  # noqa: S101 - actions are buttons
            entropy_loss = -torch.mean(entropy)
            loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
            share = len(ratio) / n
            (loss * share).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                clip_fraction = torch.mean((torch.abs(ratio - 1) > clip_range).float())
                moved = torch.mean((torch.exp(log_ratio) - 1) - log_ratio)
                parts = (policy_loss, value_loss, entropy_loss, loss, clip_fraction, moved)
                told += torch.stack(parts) * share
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return told
