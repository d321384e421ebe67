"""A network that is quick to learn, to write down and to read."""

import torch

from trainers.atari import ppo as atari_ppo


class Narrow(atari_ppo.Network):
    """The network with 16 features in place of 512, which have nearly all of its weights.

    Each checkpoint holds them, and each look at one reads them. How many they are moves no stop,
    and what goes on to the bit with few of them does so with more.
    """

    def __init__(self, observation_space, **fields):
        super().__init__(observation_space, **fields)
        self._features_dim = 16
        self.linear[0] = torch.nn.Linear(self.linear[0].in_features, self._features_dim)
