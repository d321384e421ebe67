"""Small lessons, and networks that are interrupted while they learn them."""

import msgspec
import numpy as np

from trainers.neural import Options
from trainers.tables.learning.growing import Lesson, Part
from trainers.tables.prepared import Windows

NETWORKS = {
    "mlp": Options.ALGORITHMS["mlp"],
    "lstm": Options.ALGORITHMS["lstm"],
    "mlp_autoencoder": Options.AUTOENCODERS["mlp"],
    "lstm_autoencoder": Options.AUTOENCODERS["lstm"],
}
TOLD = {
    "mlp": {"hidden_sizes": [16, 8], "dropout": 0.2, "learning_rate": 0.01},
    "lstm": {"hidden_size": 8, "num_layers": 2, "dropout": 0.2, "sequence_length": 5},
    "mlp_autoencoder": {"hidden_sizes": [16], "dropout": 0.1},
    "lstm_autoencoder": {"hidden_size": 8, "sequence_length": 5},
}
ROWS, HELD_OUT = 400, 100
NAMES = ("a", "b", "c", "kind")


def table(rows=ROWS):
    """Features on scales of their own, the last of them a category, and a target."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, 4)) * [1, 100, 1e-3, 1] + [0, 500, 3, 0]
    x[:, 3] = rng.integers(0, 3, rows)
    y = 1000 + 30 * x[:, 0] + 20 * (x[:, 3] == 1) + rng.normal(size=rows)
    return x, y


def hyperparameters(network, **told):
    return msgspec.convert({**TOLD[network], **told}, NETWORKS[network].hyperparameters)


def seen(network, x):
    """Rows as a network wants them."""
    length = hyperparameters(network).length
    return x if length == 1 else Windows(x, np.arange(length - 1, len(x)), length)


def lesson(network, *, rows=ROWS, threads=1, x=None, y=None, **told):
    """Something to learn, with noise and a category."""
    made = table(rows)
    x, y = made[0] if x is None else x, made[1] if y is None else y
    kept, back = rows - rows // 4, hyperparameters(network).length - 1
    return Lesson(
        train=Part(seen(network, x[:kept]), y[back:kept]),
        valid=Part(seen(network, x[kept:]), y[kept + back :]),
        names=NAMES,
        categorical={3: 3},
        hyperparameters=hyperparameters(network, **told).others,
        seed=42,
        threads=threads,
        batch_size=64,
    )


def grown(network, epochs, taught, resumed_at=()):
    """A network after so many epochs, saved and read before some of its pieces; its scores."""
    kind = NETWORKS[network].model
    model, scores, pieces = kind(), [], 0
    while model.rounds < epochs:
        if pieces in resumed_at:
            model = kind(model.saved() or None)
        model.grow(taught, 1, scores.append)
        pieces += 1
    return model, scores
