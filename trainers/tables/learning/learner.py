"""How a table is learnt: five steps, of which the third is cut into segments.

The last round counts as made once all that follows it is done, too: an attempt that is killed in
the evaluation finds the model whole, and a run that is done has its files.

Importing this module imports NumPy; the library of the algorithm follows.
"""

from __future__ import annotations

import dataclasses
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, NoReturn, Protocol, TypeVar

import msgspec

from trainers import sinks
from trainers.contract import RowRemark, Rows, Score, Spec
from trainers.session import Session
from trainers.tables import anomalies, prepare
from trainers.tables.learning import artefacts, picture, state
from trainers.tables.learning.forecasts import of_quantiles, strangeness
from trainers.tables.learning.growing import Curve, GrownOut, Lesson, Model, Part, file_of
from trainers.tables.learning.options import Learnable, Options, quantile_name
from trainers.tables.learning.quantiles import in_order
from trainers.tables.learning.state import CannotGoOn, Grown, State
from trainers.tables.prepared import Part as PreparedPart
from trainers.tables.prepared import Prepared
from trainers.tables.preprocessing import Fitted

STEPS = {
    "data_loading": 0,
    "preprocessing": 5,
    "training": 10,
    "evaluation": 85,
    "registration": 98,
}
"""the five steps, and how much of the whole is done, in percent, when each begins"""
LOG_INTERVAL_S = 1.0
"""the least time between two lines of metrics"""
STOP_SHARE = 0.25
"""of the time in which a run must be gone that a segment may still take when a stop is asked for"""
BY_THRESHOLD = ("precision", "recall", "f1", "range_precision", "range_recall")
"""what depends on where the threshold is"""
PICTURE = "forecast.png"
FOLD = "fold"
"""the model of the fold that is on its way, among those beside the main one"""
_PLAIN = re.compile(r"\w+")


class _GivenUp(Exception):
    """A stop cannot wait for the end of a segment."""


class Stopped(Exception):
    """Somebody has asked for a stop; what there is is saved."""


class Progress:
    """Which of the five steps a run is in, and how much of the whole is done."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = list(STEPS)
        self._at = 0
        self._told_at_s = 0.0

    @property
    def step(self) -> str:
        """The name of the one it is in."""
        return self._names[self._at]

    def begin(self, name: str) -> None:
        """Say that a step begins."""
        self._at = self._names.index(name)
        sinks.tell(f"step {self._at + 1} of {len(STEPS)}: {name}")
        self._told_at_s = 0.0
        self.tell(0.0)

    def tell(self, share: float, **measured: float) -> None:
        """Say how much of this step is done, and what was measured; not too often."""
        now_s = time.monotonic()
        if share < 1.0 and now_s - self._told_at_s < LOG_INTERVAL_S:
            return
        self._told_at_s = now_s
        begins, *later = list(STEPS.values())[self._at :]
        ends = later[0] if later else 100
        percent = round(begins + (ends - begins) * min(share, 1.0), 1)
        self._session.log({"pipeline_step": self._at + 1, "progress_percent": percent, **measured})


class Ready(Protocol):
    """Rows that were prepared for a learner, and what there is to say of them."""

    train: PreparedPart
    validation: PreparedPart
    fitted: tuple[Fitted, ...]
    card: dict[str, Any]
    remarks: tuple[RowRemark, ...]
    memory_bytes: int
    """that the most demanding moment takes, about"""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The labels of those whose numbers are names of categories."""


OptionsT = TypeVar("OptionsT", bound=Learnable)
ReadyT = TypeVar("ReadyT", bound=Ready)


class Evaluation(NamedTuple):
    """What became of a whole model."""

    model: Model
    """as it is left"""
    metrics: dict[str, Any]
    score: Score
    """by which the checkpoint with it is the best"""
    pictures: dict[str, bytes]
    """by the names of their files"""


def learn(session: Session, options: OptionsT, kind: type[Learner[OptionsT, ReadyT]]) -> None:
    """Learn until the model is whole, judged and written, or a stop is requested."""
    progress = Progress(session)
    progress.begin("data_loading")

    def working() -> None:
        session.alive()
        if session.stop_requested:
            raise Stopped

    try:
        prepared = kind.prepared(
            options,
            session.folder.path.parent.parent,
            working,
            partial(progress.begin, "preprocessing"),
        )
        progress.tell(1.0)
        for remark in prepared.remarks:
            session.notice(remark.line)
        kind(session, options, prepared, progress).learn()
    except Stopped:
        pass


TOLD = ("rows", "from", "to", "usable_rows", "step", "split", "features")
"""of what a card says of rows, what is told of them beforehand"""


def rows(spec: Spec, options: OptionsT, home: Path, kind: type[Learner[OptionsT, ReadyT]]) -> Rows:
    """What would be learnt from, read and let go of again: the first two steps, and no others.

    Raises:
        BadSpec: nothing can be learnt from it.
        SourceAway: a database does not answer.
    """
    ready = kind.prepared(options, home, lambda: None, lambda: None)
    card = ready.card
    return Rows(
        told={"time": card["data"]["time"], **{name: card[name] for name in TOLD}},
        train_rows=len(ready.train),
        rounds=options.rounds(spec),
        memory_bytes=ready.memory_bytes,
        remarks=ready.remarks,
    )


class _Growth:
    """A model on its way."""

    def __init__(self, model: Model, grown: Grown | None = None) -> None:
        self.model = model
        self.scores = list(grown.scores) if grown else []
        """how good it was on what is held out, after each round"""
        self.whole = bool(grown and grown.whole)
        """whether no round is to come; told of the models beside the main one alone"""

    def rest(self) -> None:
        """Keep what a file would hold of the model, and not what it grew from."""
        self.model = type(self.model)(self.model.saved() or None)

    @property
    def grown(self) -> Grown:
        """What a checkpoint says of it."""
        return Grown(rounds=self.model.rounds, scores=tuple(self.scores), whole=self.whole)


class Learner(ABC, Generic[OptionsT, ReadyT]):
    """One attempt at a model, with all that it knows of it.

    It grows, saves, goes on and stops; what is prepared, and how a model is judged, each kind of
    learner says.
    """

    SCORE: ClassVar[str]
    """what a model is judged by after each round; the less, the better"""

    def __init__(
        self, session: Session, options: OptionsT, prepared: ReadyT, progress: Progress
    ) -> None:
        self._session, self._options, self._prepared = session, options, prepared
        self._progress = progress
        self._spec = session.spec
        self._kind = options.learns.model
        self._total = options.rounds(session.spec)
        self._device = options.on(session.spec)
        self._under = state.under(options.learns, self._device)
        self._threads = session.spec.threads
        self._trained_s = 0.0
        self._threshold: float | None = None
        self._unknown = Score(name=self.SCORE, value=None, better="lower")
        """of a model that still grows: the best checkpoint is the whole model, or the furthest"""
        self._main = _Growth(self._kind())
        self._beside: dict[str, _Growth] = {}
        """models that grow after the main one, by their names"""
        self._rounds_beside = 0
        """that each of these has when it is whole: as many as are used of the main one"""
        self._folds: list[dict[str, Any]] = []
        self._unsaved = True
        """whether there is more than the newest checkpoint holds"""
        self._saved_at_s = time.monotonic()
        if session.checkpoint is not None:
            self._restore(session.checkpoint.path)
        if session.rewound:
            artefacts.remove(session.folder.path, self._kind)

    @classmethod
    @abstractmethod
    def prepared(
        cls, options: OptionsT, home: Path, working: Callable[[], None], loaded: Callable[[], None]
    ) -> ReadyT:
        """The rows; `working` is called every now and then, `loaded` once they are read."""

    @abstractmethod
    def _evaluated(self, model: Model, used: int) -> Evaluation:
        """How good a whole model is, which uses so many rounds."""

    def _lessons_beside(self) -> dict[str, Lesson]:
        """What is learnt beside the main lesson, by the names of the models: nothing.

        These grow in the step `training`, one after the other, and are left beside the main one.
        """
        return {}

    def learn(self) -> None:
        """Take the steps after the first two.

        Raises:
            Stopped: somebody has asked for that; what there is is saved.
        """
        prepared, session, main = self._prepared, self._session, self._main
        if self._options.learns.bound_to_threads and session.checkpoint is None:
            # By how many threads it is trained is settled before the first step is made.
            self._save(self._step, self._unknown)
            self._unsaved = True
        self._progress.begin("training")
        lesson = self._lesson(prepared.train, prepared.validation)
        beside = self._lessons_beside()
        models = 1 + len(beside)
        self._grow(main, lesson, self._total, self._options.patience, partial(self._tell, models))
        # Fewer rounds may be asked for by now than there are.
        used = Curve(main.scores[: self._total], self._options.patience).used
        if used != self._rounds_beside:
            self._rounds_beside, self._beside, self._folds = used, {}, []
        for name in self._beside.keys() - {*beside, FOLD}:
            del self._beside[name]
        before = main
        for number, (name, its) in enumerate(beside.items(), start=1):
            growth = self._growth(name)
            if not growth.whole:
                # What it is binned in takes the place of what the one before it was binned in.
                before.rest()
                self._grow(growth, its, used, None, partial(self._tell_beside, models, number))
                growth.whole = True
            before = growth
        model = main.model.cut(used)
        self._progress.begin("evaluation")
        model, metrics, score, pictures = self._evaluated(model, used)
        metrics |= {
            "training_data_size": len(prepared.train),
            "training_rounds": min(main.model.rounds, self._total),
            artefacts.DURATION: round(self._trained_s, 3),
        }
        self._progress.begin("registration")
        artefacts.write(
            session.folder.path,
            self._spec,
            self._options,
            model,
            {name: self._beside[name].model for name in beside},
            metrics=metrics,
            under=self._under | self._told_threads,
            prepared=prepared.card,
            pictures=pictures,
        )
        session.progress(main.model.rounds, score=score)
        self._progress.tell(1.0)
        self._save(main.model.rounds, score)
        session.done()

    def _growth(self, name: str) -> _Growth:
        """A model beside the main one, as far as it is."""
        return self._beside.setdefault(name, _Growth(self._kind()))

    def _grow(
        self,
        growth: _Growth,
        lesson: Lesson,
        total: int,
        patience: int | None,
        tell: Callable[[int, float | None], None],
    ) -> None:
        """Grow a model to so many rounds, or until it is over; `tell` hears of each round.

        Raises:
            Stopped: somebody has asked for that; all whole segments are saved.
        """
        session, model = self._session, growth.model
        while model.rounds < total and not Curve(growth.scores, patience).is_over:
            if session.stop_requested:
                self._leave()
            session.alive()
            ends = min(model.rounds + model.SEGMENT, total)
            watch = _Watch(session, model.rounds, ends, tell)
            try:
                model.grow(lesson, ends - model.rounds, watch.heard)
            except _GivenUp:
                self._leave()
            except GrownOut:
                return
            growth.scores += watch.scores
            self._unsaved = True
            if self._progress.step == "training":
                self._trained_s += watch.took_s
            if self._checkpoint_due():
                self._save(self._step, self._unknown)

    def _checkpoint_due(self) -> bool:
        """Whether it is time to save, be that in the midst of a first round, which is no step."""
        interval_s = self._session.spec.checkpoint_interval_s
        return self._session.checkpoint_due() or (
            self._session.step == 0 and time.monotonic() - self._saved_at_s >= interval_s
        )

    def _tell(self, models: int, rounds: int, score: float | None) -> None:
        """Say how far the main model is, the first of so many."""
        told = None if score is None else Score(name=self.SCORE, value=score, better="lower")
        self._session.progress(min(rounds, self._total - 1), score=told)
        measured = {} if score is None else {self.SCORE: score}
        self._progress.tell(rounds / self._total / models, **measured)

    def _tell_beside(self, models: int, number: int, rounds: int, _: float | None) -> None:
        """Say how far the model is that comes after so many others."""
        self._session.alive()
        self._progress.tell((number + rounds / self._rounds_beside) / models)

    def _lesson(self, train: PreparedPart, held_out: PreparedPart) -> Lesson:
        names = self._prepared.names
        categories = self._prepared.categories
        return Lesson(
            train=Part(train.x, train.y),
            valid=Part(held_out.x, held_out.y),
            names=tuple(plain(name, number) for number, name in enumerate(names)),
            # One more number is for what the training part has not got.
            categorical={
                i: len(categories[name]) + 1 for i, name in enumerate(names) if name in categories
            },
            hyperparameters=self._options.told.others,
            seed=self._options.seed(self._spec),
            threads=self._threads,
            batch_size=self._options.batch_size,
            device=self._device,
        )

    @property
    def _told_threads(self) -> dict[str, str]:
        """How many threads it was trained by, where that changes its last bits."""
        return {"threads": str(self._threads)} if self._options.learns.bound_to_threads else {}

    @property
    def _step(self) -> int:
        """How many rounds count as made before all is done."""
        return min(self._main.model.rounds, self._total - 1)

    def _save(self, step: int, score: Score) -> None:
        self._saved_at_s = time.monotonic()
        if self._unsaved or score is not self._unknown:
            self._unsaved = not self._session.save(
                self._files(), step=step, score=score, replace=True
            )

    def _files(self) -> Iterator[tuple[str, bytes]]:
        main = self._main
        held = State(
            asked=state.asked_of(self._options, self._spec),
            table_sha256=self._table_sha256,
            under=self._under,
            threads=self._threads if self._options.learns.bound_to_threads else None,
            preprocess_sha256=self._prepared.card["data"].get("preprocess", {}).get("sha256"),
            step=self._prepared.card["step"],
            fitted=tuple(msgspec.to_builtins(one) for one in self._prepared.fitted),
            model=main.grown,
            trained_s=round(self._trained_s, 3),
            beside={name: one.grown for name, one in self._beside.items()},
            rounds_beside=self._rounds_beside,
            threshold=self._threshold,
            backtest=self._options.backtest,
            folds=tuple(self._folds),
        )
        yield state.FILE, msgspec.json.encode(held)
        for name, one in [(None, main), *self._beside.items()]:
            if saved := one.model.saved():
                yield file_of(self._kind, name), saved

    def _restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CannotGoOn: it was trained with something else.
        """
        held = state.read(checkpoint)
        state.refuse_other(held, self._options, self._spec)
        if held.table_sha256 != self._table_sha256:
            raise CannotGoOn(self._spec, "the rows are not those that it was trained on so far")
        if held.under != self._under:
            was, now = (
                ", ".join(f"{name} {version}" for name, version in one.items())
                for one in (held.under, self._under)
            )
            self._session.notice(
                f"it has grown so far under {was}, and goes on under {now}: it may differ in its "
                "last bits from one that grew under one of them alone"
            )
        if held.threads is not None and held.threads != self._threads:
            self._session.notice(
                f"it goes on with {held.threads} threads, as it began: with {self._threads} its "
                "last bits would be others"
            )
            self._threads = held.threads
        self._main = self._read(checkpoint, held.model, None)
        self._beside = {
            name: self._read(checkpoint, one, name) for name, one in held.beside.items()
        }
        self._rounds_beside = held.rounds_beside
        self._trained_s = held.trained_s
        if held.backtest == self._options.backtest:
            self._folds = list(held.folds)
        else:
            self._beside.pop(FOLD, None)
        self._unsaved = False

    def _read(self, checkpoint: Path, grown: Grown, name: str | None) -> _Growth:
        path = checkpoint / file_of(self._kind, name)
        return _Growth(self._kind(path.read_bytes() if path.exists() else None), grown)

    @property
    def _table_sha256(self) -> str:
        return str(self._prepared.card["data"]["sha256"])

    def _leave(self) -> NoReturn:
        """Save what there is, and go."""
        self._save(self._step, self._unknown)
        raise Stopped


class Tables(Learner[Options, Prepared]):
    """Learns forecasts and anomalies of tables on an even grid."""

    SCORE = "rmse"

    @classmethod
    def prepared(
        cls,
        options: Options,
        home: Path,
        working: Callable[[], None],
        loaded: Callable[[], None],
    ) -> Prepared:
        """The rows of a table; see `trainers.tables.prepare`."""
        return prepare(
            options,
            home,
            length=options.told.length,
            memory_factor=options.learns.memory_factor,
            working=working,
            loaded=loaded,
        )

    def _lessons_beside(self) -> dict[str, Lesson]:
        """Each quantile."""
        lesson = self._lesson(self._prepared.train, self._prepared.validation)
        return {
            quantile_name(quantile): dataclasses.replace(lesson, quantile=quantile)
            for quantile in self._options.quantiles
        }

    def _evaluated(self, model: Model, used: int) -> Evaluation:
        """Errors of its forecasts, or what anomalies it finds; those of the folds beside them."""
        self._backtest(used)
        self._pictures: dict[str, bytes] = {}
        metrics = self._judged(model) if self._options.forecasts else {}
        if self._options.model_type == "anomaly":
            metrics |= self._found(model)
        if self._options.forecasts:
            score = Score(name=self.SCORE, value=self._main.scores[used - 1], better="lower")
        else:
            score = Score(name="pr_auc", value=metrics["pr_auc"])
        return Evaluation(model, metrics, score, self._pictures)

    def _backtest(self, rounds: int) -> None:
        """Grow a model of so many rounds for each fold, and judge it."""
        asked = self._options.backtest
        for fold in self._prepared.folds():
            if fold.number < len(self._folds):
                continue
            growth, lesson = self._growth(FOLD), self._lesson(fold.train, fold.validation)
            self._grow(growth, lesson, rounds, None, lambda *_: self._session.alive())
            forecast = growth.model.predict(fold.validation.x, self._threads)
            told = artefacts.judged(self._prepared, fold.train, fold.validation, forecast)
            self._folds.append({"fold": fold.number, **fold.card, **told})
            del self._beside[FOLD]
            self._unsaved = True
            if asked is not None:
                self._progress.tell(len(self._folds) / asked.folds)

    def _judged(self, model: Model) -> dict[str, Any]:
        """How good the model is, on the test part where there is one."""
        prepared = self._prepared
        parts = {"validation": prepared.validation, "test": prepared.test}
        asked = self._options.quantiles
        its = [self._beside[quantile_name(quantile)].model for quantile in asked]
        told = {}
        for name, part in parts.items():
            if len(part):
                self._session.alive()
                forecast = model.predict(part.x, self._threads)
                of_them = of_quantiles(its, part.x, self._threads) if asked else None
                told[name] = artefacts.judged(
                    prepared, prepared.train, part, forecast, asked, of_them
                )
                interval, between = None, ""
                if of_them is not None and len(asked) > 1:
                    interval = in_order(of_them)[:, [0, -1]]
                    between = f"{quantile_name(asked[0])} to {quantile_name(asked[-1])}"
                self._pictures[PICTURE] = picture.drawn(
                    part,
                    forecast,
                    target=self._options.target or "",
                    interval=interval,
                    between=between,
                )
        judged_on = "test" if "test" in told else "validation"
        for judged in (told[judged_on], told[judged_on].get("quantiles", {})):
            if (warning := judged.get("warning")) is not None:
                self._session.notice(warning)
        return {
            **told.pop(judged_on),
            "judged_on": judged_on,
            **told,
            **({"backtest": self._folds} if self._folds else {}),
        }

    def _found(self, model: Model) -> dict[str, Any]:
        """What anomalies the model finds, by a threshold of the validation part alone."""
        prepared = self._prepared
        strange = partial(strangeness, model, self._options, threads=self._threads)
        seen = strange(prepared.validation)
        self._threshold = anomalies.threshold(seen, prepared.validation.labels)
        part = prepared.test if len(prepared.test) else prepared.validation
        found = anomalies.judge(strange(part), part.labels, part.positions, self._threshold)
        told: dict[str, Any] = msgspec.to_builtins(found)
        if part is prepared.validation:
            # Whoever has chosen a threshold by these rows must not be judged by it on them.
            return {**told, **dict.fromkeys(BY_THRESHOLD), "judged_on": "validation"}
        return {**told, "judged_on": "test"}


class _Watch:
    """Hears of each round of a segment, and gives it up where a stop cannot wait for its end."""

    def __init__(
        self, session: Session, begins: int, ends: int, tell: Callable[[int, float | None], None]
    ) -> None:
        self.scores: list[float | None] = []
        self._session, self._begins, self._ends, self._tell = session, begins, ends, tell
        self._began_s = time.monotonic()

    @property
    def took_s(self) -> float:
        """How long the segment has taken so far."""
        return time.monotonic() - self._began_s

    def heard(self, score: float | None) -> None:
        """Hear of a round."""
        self.scores.append(score)
        rounds = self._begins + len(self.scores)
        self._tell(rounds, score)
        left_s = self.took_s / len(self.scores) * (self._ends - rounds)
        if self._session.stop_requested and left_s > STOP_SHARE * self._session.spec.grace_s:
            raise _GivenUp


def plain(name: str, number: int) -> str:
    """What a library calls a feature: its name, where no library minds the signs in it."""
    return name if _PLAIN.fullmatch(name) else f"feature_{number}"
