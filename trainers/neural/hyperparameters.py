"""What each network can be told; the names are those of torch, or the most frequent ones; light."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from trainers.contract import Positive
from trainers.tables.learning import Hyperparameters

Width = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
"""so that a file that asks for more is no file of ours"""
Widths = Annotated[tuple[Width, ...], msgspec.Meta(max_length=32)]
Layers = Annotated[int, msgspec.Meta(ge=1, le=32)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Activation = Literal["relu", "gelu", "silu", "tanh"]


class Network(Hyperparameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all of them can be told."""

    ROUNDS: ClassVar[str] = "epochs"

    epochs: Positive = 100
    """how often each row of the training part is learnt from"""
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 0.001
    """of AdamW"""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.0001
    """how much of itself a weight loses in a step, by the learning rate"""
    dropout: Share = 0.0
    """share of the units of each hidden layer that are left out in a step"""


class Mlp(Network, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a multi-layer perceptron can be told."""

    hidden_sizes: Widths = (128, 64)
    """units of each hidden layer"""
    activation: Activation = "relu"


class Lstm(Network, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network with a long short-term memory can be told."""

    hidden_size: Width = 64
    """units of each layer"""
    num_layers: Layers = 1
    sequence_length: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 24
    """steps that it looks at: those before a row, and the row"""

    @property
    def length(self) -> int:
        """How many steps a row is looked at with, itself the last."""
        return self.sequence_length


class MlpAutoencoder(Mlp, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an autoencoder of such layers can be told."""

    hidden_sizes: Widths = (64,)
    """units of each layer before the code; behind it they stand in reverse"""
    activation: Activation = "tanh"
    code_size: Width | None = None
    """numbers that a row has to go through; unset: half as many as come in"""


class LstmAutoencoder(Lstm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an autoencoder of sequences can be told."""

    code_size: Width | None = None
    """numbers that a sequence has to go through; unset: a quarter of `hidden_size`"""
