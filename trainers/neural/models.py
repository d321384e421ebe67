"""Networks that learn epoch by epoch, and can be saved after any step; this imports torch.

What a step draws follows from the seed and from the place of the step: its rows, and the units that
are left out. So of a network nothing has to survive but its weights and what the optimizer knows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from trainers.contract import BadSpec
from trainers.neural import hyperparameters, networks
from trainers.neural.held import About, Arrays, Damaged, read, written
from trainers.tables.learning.growing import Floats, Lesson, rmse
from trainers.tables.prepared import Windows

if TYPE_CHECKING:
    from typing import Self

PIECE_S = 0.5
"""how long one learns before it can be saved or stopped; no bit depends on it"""
BATCH_SIZE = 256
"""rows in one step, where nobody says otherwise"""
TOLD_AT_ONCE = 256
"""rows of which something is told at once"""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""what AdamW knows of each weight"""
WEIGHTS, ORDER, DROPOUT = range(3)
"""what is drawn"""


class Diverged(BadSpec):
    """What is learnt is no number any more."""

    def __init__(self, epoch: int, rate: float) -> None:
        super().__init__(
            f"hyperparameters: learning_rate must be lower than {rate:g}, by which the loss is no "
            f"number any more in epoch {epoch}"
        )


class Unfit(BadSpec):
    """A network cannot take what a feature is."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has values that are missing or beyond all measure, and a network takes "
            'numbers alone: preprocessing.missing = "median" or "drop" sees to that'
        )


class Scale(NamedTuple):
    """How features and target become numbers around 0, learnt from the training part."""

    centre: Floats
    """(features,); of a category 0"""
    spread: Floats
    """(features,); of a category 1"""
    target: Floats
    """(2,), centre and spread; 0 and 1 where nothing is forecast"""

    def standardised(self, x: Floats, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Features in single precision.

        Raises:
            Unfit: some are no numbers.
        """
        made = np.empty(x.shape, dtype=np.float32)
        # One after the other: what lies between would else be as large as the whole matrix.
        for place, name in enumerate(names):
            with np.errstate(over="ignore", invalid="ignore"):
                made[:, place] = (x[:, place] - self.centre[place]) / self.spread[place]
            if not np.isfinite(made[:, place]).all():
                raise Unfit(name)
        return made


class _Rows:
    """Rows in single precision, each with those before it where the network reads sequences."""

    def __init__(self, x: Any, scale: Scale, names: tuple[str, ...], device: str) -> None:
        self._count = len(x)
        self._ends: Tensor | None = None
        if isinstance(x, Windows):
            self._ends = torch.from_numpy(x.ends).to(device)
            self._steps = torch.arange(1 - x.length, 1, device=device)
            x = x.matrix
        self._matrix = torch.from_numpy(scale.standardised(x, names)).to(device)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(rows, features), or (rows, length, features)."""
        if self._ends is None:
            return self._matrix[rows]
        return self._matrix[self._ends[rows][:, None] + self._steps]

    def told_by(self, net: networks.Net, begin: int) -> Floats:
        """What a network tells of the rows that come next."""
        ends = min(begin + TOLD_AT_ONCE, len(self))
        net.eval()
        with torch.no_grad():
            told = net(self[torch.arange(begin, ends, device=self._matrix.device)])
        return np.asarray(told.cpu().numpy(), dtype=np.float64)


class _Taught:
    """A lesson as torch takes it."""

    def __init__(self, lesson: Lesson, scale: Scale) -> None:
        self.train = _Rows(lesson.train.x, scale, lesson.names, lesson.device)
        self.valid = _Rows(lesson.valid.x, scale, lesson.names, lesson.device)
        centre, spread = scale.target
        y = ((lesson.train.y - centre) / spread).astype(np.float32)
        self.y = torch.from_numpy(y).to(lesson.device)
        self.judged: list[Floats] = []
        """what was told so far of the rows of `valid`"""
        self._size = lesson.batch_size or BATCH_SIZE
        self._seed = lesson.seed
        self._order: tuple[int, Tensor] | None = None

    @property
    def batches(self) -> int:
        """How many steps an epoch has."""
        return math.ceil(len(self.train) / self._size)

    def batch(self, epoch: int, number: int) -> Tensor:
        """The rows of one step."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self._seed, ORDER, epoch))
            order = torch.randperm(len(self.train), generator=generator)
            self._order = epoch, order.to(self.y.device)
        return self._order[1][number * self._size : (number + 1) * self._size]


class _AdamW:
    """The library's AdamW with all that it knows in sight.

    Its class would import a compiler at first, for longer than a restart else takes.
    """

    def __init__(self, net: networks.Net, told: dict[str, Any], steps: int, known: Arrays) -> None:
        self._weights = dict(net.named_parameters())
        self._told = told
        self._steps = [
            torch.tensor(float(steps), device=one.device) for one in self._weights.values()
        ]
        self._moments = {
            kind: [
                torch.tensor(known[f"{kind}.{name}"], device=one.device)
                if known
                else torch.zeros_like(one)
                for name, one in self._weights.items()
            ]
            for kind in MOMENTS
        }

    def step(self) -> None:
        """Move the weights, by gradients that are then gone."""
        weights = list(self._weights.values())
        with torch.no_grad():
            adamw(
                list(weights),
                [one.grad for one in weights if one.grad is not None],
                self._moments[MOMENTS[0]],
                self._moments[MOMENTS[1]],
                [],
                self._steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._told["learning_rate"],
                weight_decay=self._told["weight_decay"],
                eps=1e-8,
                maximize=False,
            )
        for one in weights:
            one.grad = None

    @property
    def moments(self) -> Arrays:
        """What it would go on from."""
        return {
            f"{kind}.{name}": values.cpu().numpy()
            for kind, of in self._moments.items()
            for name, values in zip(self._weights, of, strict=True)
        }


class Network:
    """What all of them have in common: how they are learnt, and what is kept of them."""

    FILE: ClassVar[str] = "model.safetensors"
    SEGMENT: ClassVar[int] = 1
    NAME: ClassVar[str]
    TOLD: ClassVar[type[hyperparameters.Network]]
    NET: ClassVar[type[Any]]

    def __init__(self, saved: bytes | None = None) -> None:
        self._about: About | None = None
        """None: it has not begun"""
        self._net: networks.Net
        self._scale: Scale
        self._best: Arrays = {}
        """the weights after its best epoch; none: no epoch is whole, or it is for use alone"""
        self._moments: Arrays = {}
        """that were saved, for an optimizer to go on from"""
        self._optimizer: _AdamW | None = None
        self._taught: _Taught | None = None
        if saved is not None:
            self._read(saved)

    @property
    def rounds(self) -> int:
        """How many epochs are whole."""
        return 0 if self._about is None else self._about.epochs

    def grow(
        self,
        lesson: Lesson,
        rounds: int,  # noqa: ARG002 - never more than one, as the segment says
        each: Callable[[float | None], None],
    ) -> None:
        """Learn for a while, but not beyond the end of an epoch; see `growing.Model`."""
        with calculating(lesson.threads, lesson.device):
            taught, optimizer = self._begun(lesson)
            ends_s = time.monotonic() + PIECE_S
            while True:
                if self._known.batches < taught.batches:
                    self._step(taught, optimizer, lesson)
                elif (score := self._judged(taught, lesson)) is not None:
                    each(score)
                    self._end_epoch(taught, score)
                    return
                if time.monotonic() >= ends_s:
                    return

    def saved(self) -> bytes:
        """Weights and scale, and what it takes to go on."""
        if self._about is None:
            return b""
        best = {f"best.{name}": values for name, values in self._best.items()}
        moments = self._moments
        if self._optimizer is not None and self._about.steps:
            moments = self._optimizer.moments
        return written(self._about, {**self._usable(self._weights), **best, **moments})

    def cut(self, rounds: int) -> Self:
        """The network after its last epoch, or after its best one.

        Raises:
            BadSpec: another one is asked for.
        """
        about = self._known
        if rounds not in (about.epochs, about.best_epoch):
            raise BadSpec(
                f"epoch {rounds} is the one to use, and of a network the last one, {about.epochs}, "
                f"and the best, {about.best_epoch}, are kept: early_stopping_rounds was another"
            )
        weights = self._weights if rounds == about.epochs else self._best
        its = msgspec.structs.replace(
            about, epochs=rounds, batches=0, steps=0, best_epoch=0, best_score=None
        )
        return type(self)(written(its, self._usable(weights)))

    def predict(self, x: Any, threads: int) -> Floats:  # noqa: ARG002 - as all models
        """What it tells of rows; by one thread, for several might round otherwise."""
        with calculating(1, "cpu"):
            net = self._net.to("cpu")
            rows = _Rows(x, self._scale, self._known.features, "cpu")
            told = [rows.told_by(net, begin) for begin in range(0, len(rows), TOLD_AT_ONCE)]
        return self._in_units(told)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Weights and scale."""
        yield from sorted(self._usable(self._weights).items())

    @property
    def _known(self) -> About:
        if self._about is None:
            raise ValueError("it has learnt nothing yet")
        return self._about

    @property
    def _weights(self) -> Arrays:
        weights = self._net.state_dict()
        return {name: values.cpu().numpy() for name, values in weights.items()}

    def _usable(self, weights: Arrays) -> Arrays:
        """All that depends on what it is told."""
        return {
            **{f"weights.{name}": values for name, values in weights.items()},
            **{f"scale.{name}": values for name, values in self._scale._asdict().items()},
        }

    def _in_units(self, told: list[Floats]) -> Floats:
        centre, spread = self._scale.target
        return np.asarray(np.concatenate([np.zeros(0), *told]) * spread + centre)

    def _begun(self, lesson: Lesson) -> tuple[_Taught, _AdamW]:
        """What it takes to learn, made where it is not there yet."""
        if self._about is None:
            self._scale = scale_of(lesson, forecasts=issubclass(self.NET, networks.Forecaster))
            about = About(
                network=self.NAME,
                features=lesson.names,
                categories=dict(lesson.categorical),
                hyperparameters=lesson.hyperparameters,
                epochs=0,
            )
            torch.manual_seed(seed_of(lesson.seed, WEIGHTS))
            self._net = self._built(about)
            self._about = about
        if self._taught is None:
            self._taught = _Taught(lesson, self._scale)
        self._net.to(lesson.device)
        if self._optimizer is None:
            told, steps = lesson.hyperparameters, self._known.steps
            self._optimizer = _AdamW(self._net, told, steps, self._moments)
        return self._taught, self._optimizer

    def _built(self, about: About) -> networks.Net:
        told = msgspec.convert(about.hyperparameters, self.TOLD)
        net: networks.Net = self.NET(told, networks.Inputs(len(about.features), about.categories))
        return net

    def _step(self, taught: _Taught, optimizer: _AdamW, lesson: Lesson) -> None:
        """Learn from one batch.

        Raises:
            Diverged: the loss is no number.
        """
        about, told = self._known, lesson.hyperparameters
        rows = taught.batch(about.epochs, about.batches)
        if told["dropout"]:
            torch.manual_seed(seed_of(lesson.seed, DROPOUT, about.epochs, about.batches))
        self._net.train()
        loss = self._net.loss(taught.train[rows], taught.y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise Diverged(about.epochs + 1, told["learning_rate"])
        self._about = msgspec.structs.replace(
            about, batches=about.batches + 1, steps=about.steps + 1
        )

    def _judged(self, taught: _Taught, lesson: Lesson) -> float | None:
        """How good it is, once something was told of all rows that are held out; some at a time.

        Raises:
            Diverged: that is no number.
        """
        begin = sum(map(len, taught.judged))
        if begin < len(taught.valid):
            taught.judged.append(taught.valid.told_by(self._net, begin))
            if begin + len(taught.judged[-1]) < len(taught.valid):
                return None
        told = self._in_units(taught.judged)
        is_forecast = isinstance(self._net, networks.Forecaster)
        score = rmse(told, lesson.valid.y if is_forecast else np.zeros(len(told)))
        if not math.isfinite(score):
            raise Diverged(self.rounds + 1, lesson.hyperparameters["learning_rate"])
        return score

    def _end_epoch(self, taught: _Taught, score: float) -> None:
        about = msgspec.structs.replace(self._known, epochs=self.rounds + 1, batches=0)
        if about.best_score is None or score < about.best_score:
            about = msgspec.structs.replace(about, best_epoch=about.epochs, best_score=score)
            self._best = {name: values.copy() for name, values in self._weights.items()}
        self._about, taught.judged = about, []

    def _read(self, saved: bytes) -> None:
        """Be what was saved.

        Raises:
            Damaged: it is no such network.
        """
        about, arrays = read(saved)
        if about.network != self.NAME:
            raise Damaged(f"it is called {about.network!r}, and not {self.NAME!r}")
        if not all(0 <= place < len(about.features) for place in about.categories):
            raise Damaged("a category is of a feature that there is not")
        try:
            # Without memory, for nobody knows yet whether it is as large as it says.
            with torch.device("meta"):
                self._net = self._built(about)
        except msgspec.ValidationError as error:
            raise Damaged(str(error)) from error
        shapes = {name: tuple(one.shape) for name, one in self._net.state_dict().items()}
        self._look_at(about, arrays, shapes)
        of = {
            kind: {name: arrays[f"{kind}.{name}"] for name in shapes if f"{kind}.{name}" in arrays}
            for kind in ("weights", "best")
        }
        self._net.to_empty(device="cpu")
        self._net.load_state_dict(
            {name: torch.tensor(values) for name, values in of["weights"].items()}
        )
        self._best = of["best"]
        self._moments = {
            name: values for name, values in arrays.items() if name.partition(".")[0] in MOMENTS
        }
        self._scale = Scale(*(arrays[f"scale.{name}"] for name in Scale._fields))
        self._about = about

    @staticmethod
    def _look_at(about: About, arrays: Arrays, shapes: dict[str, tuple[int, ...]]) -> None:
        """See that arrays are those of a network.

        Raises:
            Damaged: they are not.
        """
        features = (len(about.features),)
        scale = {"scale.centre": features, "scale.spread": features, "scale.target": (2,)}
        groups = {
            kind: {f"{kind}.{name}": shape for name, shape in shapes.items()}
            for kind in ("weights", "best", *MOMENTS)
        }
        wanted = {**scale, **groups["weights"]}
        if about.best_epoch:
            wanted |= groups["best"]
        if about.steps:
            wanted |= groups[MOMENTS[0]] | groups[MOMENTS[1]]
        if arrays.keys() != wanted.keys():
            name = min(arrays.keys() ^ wanted.keys())
            raise Damaged(f"{name} is {'too much' if name in arrays else 'missing'}")
        for name, shape in wanted.items():
            values, kind = arrays[name], np.float64 if name in scale else np.float32
            if values.shape != shape or values.dtype != kind:
                raise Damaged(f"{name} has another shape or type than it must have")
        if not (arrays["scale.spread"] > 0).all() or not arrays["scale.target"][1] > 0:
            raise Damaged("its scale is none")


class Mlp(Network):
    """A multi-layer perceptron that forecasts."""

    NAME = "mlp"
    TOLD = hyperparameters.Mlp
    NET = networks.MlpNet


class Lstm(Network):
    """A network with a long short-term memory that forecasts."""

    NAME = "lstm"
    TOLD = hyperparameters.Lstm
    NET = networks.LstmNet


class MlpAutoencoder(Network):
    """An autoencoder of rows."""

    NAME = "mlp_autoencoder"
    TOLD = hyperparameters.MlpAutoencoder
    NET = networks.MlpAutoencoderNet


class LstmAutoencoder(Network):
    """An autoencoder of sequences of rows."""

    NAME = "lstm_autoencoder"
    TOLD = hyperparameters.LstmAutoencoder
    NET = networks.LstmAutoencoderNet


def scale_of(lesson: Lesson, *, forecasts: bool) -> Scale:
    """The scale of what is learnt from."""
    x = lesson.train.x
    matrix = x.matrix if isinstance(x, Windows) else x
    features = range(matrix.shape[1])
    pairs = [(0.0, 1.0) if i in lesson.categorical else _centred(matrix[:, i]) for i in features]
    target = _centred(lesson.train.y) if forecasts else (0.0, 1.0)
    centre, spread = np.array(pairs, dtype=np.float64).T.copy()
    return Scale(centre, spread, np.array(target, dtype=np.float64))


def _centred(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation; the latter is 1 where all are equal, NaN where none measures."""
    with np.errstate(over="ignore", invalid="ignore"):
        apart = float(values.std()) if values.min() != values.max() else 1.0
        return float(values.mean()), (apart or 1.0) if math.isfinite(apart) else math.nan


def seed_of(*place: int) -> int:
    """A seed that another place has not."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


@contextmanager
def calculating(threads: int, device: str) -> Iterator[None]:
    """Have torch calculate with so many threads; then threads and generators are as they were.

    Nothing that is asked of torch here adds up in an order of its own on a processor, so that its
    deterministic mode, which imports a compiler, would change nothing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng([] if device == "cpu" else [torch.cuda.current_device()]):
            yield
    finally:
        torch.set_num_threads(before)
