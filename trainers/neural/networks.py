"""The networks themselves, in torch; importing this module imports it.

A network says of rows how badly it does (`loss`), and what it has to tell of each: a forecast, or
how much of the row it could not reconstruct.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainers.neural.hyperparameters import Lstm, LstmAutoencoder, Mlp, MlpAutoencoder

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Inputs(nn.Module):
    """Rows as a network takes them: of a category, a place among zeros.

    Args:
        features: how many there are.
        categories: those that are numbers of categories, and how many of these there are.
    """

    def __init__(self, features: int, categories: Mapping[int, int]) -> None:
        super().__init__()
        self._plain = [place for place in range(features) if place not in categories]
        self._categories = dict(categories)
        self.width = len(self._plain) + sum(categories.values())

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) to (..., width)."""
        if not self._categories:
            return x
        parts = [x[..., self._plain]] if self._plain else []
        for place, count in self._categories.items():
            parts.append(nn.functional.one_hot(x[..., place].long(), count).to(x.dtype))
        return torch.cat(parts, -1)


class Net(nn.Module, ABC):
    """What is learnt from rows that are standardised already."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """What a step makes smaller."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """What it tells of each row, (rows,)."""


class Forecaster(Net):
    """Tells a target."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean squared error."""
        return nn.functional.mse_loss(self(x), y)


class Autoencoder(Net):
    """Tells how much of a row is lost on the way through a few numbers."""

    @abstractmethod
    def reconstructed(self, inputs: Tensor) -> Tensor:
        """Inputs as they come out again, of the same shape."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002 - nothing else is known of a row
        """The mean squared error of all that came in."""
        inputs = self.inputs(x)
        return nn.functional.mse_loss(self.reconstructed(inputs), inputs)

    def forward(self, x: Tensor) -> Tensor:
        """The root of the mean squared error of each row; of a sequence it is the last."""
        inputs = self.inputs(x)
        missed = (self.reconstructed(inputs) - inputs).square()
        strange: Tensor = (missed[:, -1] if missed.dim() == 3 else missed).mean(-1).sqrt()
        return strange


class MlpNet(Forecaster):
    """A multi-layer perceptron."""

    def __init__(self, told: Mlp, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.layers = _layers([inputs.width, *told.hidden_sizes], told)
        self.head = nn.Linear([inputs.width, *told.hidden_sizes][-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts, (rows,)."""
        told: Tensor = self.head(self.layers(self.inputs(x)))
        return told.squeeze(-1)


class LstmNet(Forecaster):
    """Reads a sequence, and tells what comes of its last row."""

    def __init__(self, told: Lstm, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.lstm = _lstm(inputs.width, told)
        self.dropout = nn.Dropout(told.dropout)
        self.head = nn.Linear(told.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts, (rows,)."""
        read, _ = self.lstm(self.inputs(x))
        told: Tensor = self.head(self.dropout(read[:, -1]))
        return told.squeeze(-1)


class MlpAutoencoderNet(Autoencoder):
    """Two perceptrons with a code between them."""

    def __init__(self, told: MlpAutoencoder, inputs: Inputs) -> None:
        super().__init__(inputs)
        code = told.code_size or max(1, inputs.width // 2)
        widths = [inputs.width, *told.hidden_sizes]
        self.encoder = nn.Sequential(*_layers(widths, told), nn.Linear(widths[-1], code))
        back = [code, *reversed(told.hidden_sizes)]
        self.decoder = nn.Sequential(*_layers(back, told), nn.Linear(back[-1], inputs.width))

    def reconstructed(self, inputs: Tensor) -> Tensor:
        """Rows as they come out again."""
        told: Tensor = self.decoder(self.encoder(inputs))
        return told


class LstmAutoencoderNet(Autoencoder):
    """Reads a sequence, and tells all of it from a code."""

    def __init__(self, told: LstmAutoencoder, inputs: Inputs) -> None:
        super().__init__(inputs)
        code = told.code_size or max(1, told.hidden_size // 4)
        self.reader = _lstm(inputs.width, told)
        self.code = nn.Linear(told.hidden_size, code)
        self.dropout = nn.Dropout(told.dropout)
        self.teller = _lstm(code, told)
        self.head = nn.Linear(told.hidden_size, inputs.width)

    def reconstructed(self, inputs: Tensor) -> Tensor:
        """Sequences as they come out again."""
        read, _ = self.reader(inputs)
        code = self.code(self.dropout(read[:, -1]))
        told, _ = self.teller(code[:, None].expand(-1, inputs.shape[1], -1))
        back: Tensor = self.head(told)
        return back


def _layers(widths: Sequence[int], told: Mlp) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            nn.Linear(before, after),
            ACTIVATIONS[told.activation](),
            nn.Dropout(told.dropout),
        ]
    return nn.Sequential(*layers)


def _lstm(width: int, told: Lstm) -> nn.LSTM:
    # The library's own dropout lies between layers, and warns where there is one alone.
    dropout = told.dropout if told.num_layers > 1 else 0.0
    return nn.LSTM(width, told.hidden_size, told.num_layers, batch_first=True, dropout=dropout)
