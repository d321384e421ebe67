"""What is asked of the API and what it answers: the fields, their bounds and their defaults.

The first half comes from callers, and forbids what it does not know: a key that is mistyped must
not train for hours. The second half goes to them. `supervisor.jobs.reading` makes the one from
bytes; `supervisor.jobs.errors` has the bodies of what is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from state.records import Rank
from supervisor.core.calendar import BadCalendar, zone_of
from supervisor.core.schedule import CatchUp, Overlap, Schedule
from supervisor.jobs.errors import Problem, Refusal
from supervisor.jobs.reading import NAMED
from trainers.contract import NAME, Name, Positive

ModelType = Literal["forecast", "anomaly"]
Status = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
"""PENDING between two attempts, too; FAILED once no further one follows"""
Step = Literal["data_loading", "preprocessing", "training", "evaluation", "registration"]

ALIASES = {"lightgbm": "lgbm", "random_forest": "rf"}
"""other names of algorithms"""
LOOK_LATIN = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406"
    "\u03bf\u03bd\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijsdhABEKMHOPCTXIovABEZHIKMNOPTYX",
)
"""letters of Cyrillic and Greek that look like Latin ones"""
METADATA_MAX_BYTES = 16_384
FEATURES_MAX = 2000
COLUMN_MAX_CHARS = 200
SPLIT = "between 0.0 and 1.0"
MEMORY = re.compile(r"[1-9][0-9]{0,6}(?:\.[0-9]{1,3})?\s?(?:[KMGT]i?)?B")
RUN_ALONE = ("target", "seed", "max_seconds", "deadline")
"""what a request says where it has no `config`, which has its own words for them"""


def _must(words: str, **bounds: Any) -> msgspec.Meta:
    return msgspec.Meta(extra={"must": words}, **bounds)


TenantId = Annotated[str, _must(NAMED, pattern=rf"\A{NAME.pattern}\Z")]
Split = Annotated[float, _must(SPLIT, ge=0, lt=1)]
Column = Annotated[str, msgspec.Meta(min_length=1, max_length=COLUMN_MAX_CHARS)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
PageSize = Annotated[int, msgspec.Meta(ge=1, le=200)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Moment = Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""of which none without a zone is refused; such is UTC"""


# What is asked


class _Asking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a request."""


class RayConfig(_Asking, frozen=True, kw_only=True):
    """What the workers of a distributed training would be."""

    num_workers: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    cpus_per_worker: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    memory_per_worker: Annotated[str, msgspec.Meta(max_length=20)] = "4GB"
    use_gpu: bool = False

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        if not MEMORY.fullmatch(self.memory_per_worker):
            yield Problem("memory_per_worker", 'Must be a size such as "4GB"')


class MlflowTracking(_Asking, frozen=True, kw_only=True):
    """Where an experiment would be followed."""

    experiment_name: Annotated[str, msgspec.Meta(min_length=1, max_length=250)]
    run_name: Annotated[str, msgspec.Meta(min_length=1, max_length=250)] | None = None
    tags: Annotated[
        dict[
            Annotated[str, msgspec.Meta(min_length=1, max_length=250)],
            Annotated[str, msgspec.Meta(max_length=5000)],
        ],
        msgspec.Meta(max_length=100),
    ] = {}


class TrainingOptions(_Asking, frozen=True, kw_only=True):
    """How much is trained on, and how much at once."""

    batch_size: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None = None
    use_sample: Annotated[float, _must("more than 0.0, and at most 1.0", gt=0, le=1)] | None = None


class Backtest(_Asking, frozen=True, kw_only=True):
    """Rolling-origin folds."""

    folds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    step: Positive | None = None
    """rows that each fold forecasts"""
    gap: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """steps between what a fold trains on and what it forecasts"""


class JobConfig(_Asking, frozen=True, kw_only=True):
    """What is learnt from a table, in the words of the document, and a few of ours behind them."""

    model_type: ModelType | None = None
    """as beside the configuration; one of the two may be left out"""
    algorithm: Literal[
        "lgbm", "xgboost", "rf", "mlp", "lstm", "lightgbm", "random_forest", "isolation_forest"
    ]
    hyperparameters: dict[str, Any] = {}
    """in the words of the algorithm's library"""
    training_start: Moment
    training_end: Moment
    features: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=FEATURES_MAX)]
    target: Column | None = None
    """the column that is forecast; of anomalies only some algorithms have one"""
    validation_split: Split = 0.2
    random_seed: Seed = 42
    early_stopping_rounds: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None = None
    distributed: bool = False
    ray_config: RayConfig | None = None
    mlflow_tracking: MlflowTracking | None = None
    training_options: TrainingOptions | None = None
    horizon: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    """steps ahead: nothing that is younger than that is known when a row is forecast"""
    test_split: Split = 0.0
    backtest: Backtest | None = None
    data: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    """the name of a table in the tenant's folder"""
    max_seconds: Seconds | None = None
    """the longest time that it may train in all"""
    deadline: Moment | None = None
    """from when on it is given up"""

    @property
    def learns(self) -> str:
        """The algorithm, by its first name."""
        return ALIASES.get(self.algorithm, self.algorithm)

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        if self.training_start >= self.training_end:
            yield Problem("training_start", "Must be before training_end")
        yield from self._problems_of_columns()
        if self.validation_split + self.test_split >= 1:
            what = "With validation_split it must leave some rows to train on"
            yield Problem("test_split", what)
        if self.distributed and self.ray_config is None:
            yield Problem("ray_config", "Required if distributed is true")

    def _problems_of_columns(self) -> Iterator[Problem]:
        seen: dict[str, str] = {}
        twice = Counter(self.features)
        for name in [name for name, count in twice.items() if count > 1]:
            yield Problem("features", f"{name} stands there twice")
        named = [("features", it) for it in twice]
        named += [("target", self.target)] if self.target is not None else []
        for field, name in named:
            if not name.isprintable() or name != name.strip():
                what = "must have visible characters alone, and no space at its ends"
                yield Problem(field, f"{name!a} {what}")
                continue
            alike = unicodedata.normalize("NFKC", name).translate(LOOK_LATIN)
            other = seen.setdefault(alike, name)
            if field == "target" and other == name and name in twice:
                yield Problem("features", "Must not have the target itself")
            elif other != name:
                yield Problem("features", f"{name!a} and {other!a} look the same")


class Training(_Asking, frozen=True, kw_only=True):
    """What shall be trained: a `config`, or a `trainer` with its options."""

    model_type: ModelType | None = None
    config: JobConfig | None = None
    trainer: Name | None = None
    """any trainer of this place by its name, instead of a configuration"""
    options: dict[str, Any] = {}
    """of the trainer; beside a configuration those for which it has no word"""
    target: dict[Name, Positive] | None = None
    """how far: one unit of the trainer, and how many of it"""
    seed: Seed | None = None
    gpus: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """that it has for itself"""
    max_seconds: Seconds | None = None
    deadline: Moment | None = None

    @property
    def lasts_s(self) -> float | None:
        """The longest time that it may train in all."""
        return self.max_seconds if self.config is None else self.config.max_seconds

    @property
    def ends_at(self) -> datetime | None:
        """From when on it is given up."""
        return self.deadline if self.config is None else self.config.deadline

    @property
    def kind(self) -> ModelType | None:
        """What kind of model it is; None: the trainer knows no kinds."""
        inner = None if self.config is None else self.config.model_type
        return self.model_type or inner

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        config = self.config
        if config is None:
            yield from self._problems_of_a_trainer()
            return
        if self.trainer is not None:
            yield Problem("trainer", "Must be left out beside a config: its algorithm says which")
        for field in RUN_ALONE:
            if getattr(self, field) is not None:
                yield Problem(field, "Must be left out beside a config, which says it itself")
        if self.kind is None:
            yield Problem("model_type", "Required")
        elif config.model_type not in (None, self.kind):
            what = f"Must be {self.kind}, as outside of config, and is {config.model_type}"
            yield Problem("config.model_type", what)
        if self.kind == "forecast":
            if config.target is None:
                yield Problem("config.target", "Required")
            if config.horizon < 1:
                yield Problem("config.horizon", "Must be at least 1")

    def _problems_of_a_trainer(self) -> Iterator[Problem]:
        if self.trainer is None:
            yield Problem("config", "Required, or else a trainer and its options")
        if self.model_type is not None:
            yield Problem("model_type", "Must be left out without a config")
        if self.target is not None and len(self.target) != 1:
            yield Problem("target", 'Must be one unit and how many of it, such as {"steps": 1000}')


class Submission(Training, frozen=True, kw_only=True):
    """What shall be trained, how urgently, and when again."""

    name: Name | None = None
    """what is trained, for people"""
    priority: Rank = "normal"
    metadata: dict[str, Any] = {}
    schedule: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    """the five fields of cron: the job is submitted again and again"""
    schedule_timezone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "UTC"
    catch_up: CatchUp = "once"
    """what becomes of firings that nobody was there for"""
    overlap: Overlap = "forbid"
    """what becomes of a firing while the last one still trains"""

    @property
    def scheduled(self) -> Schedule | None:
        """When it comes again; None: it comes once.

        Raises:
            BadCalendar: the schedule is none.
        """
        if self.schedule is None:
            return None
        return Schedule(
            cron=self.schedule,
            zone=self.schedule_timezone,
            catch_up=self.catch_up,
            overlap=self.overlap,
        )

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        yield from Training.problems(self)
        yield from _problems_of_metadata(self.metadata)
        if self.schedule is not None:
            yield from _problems_of_schedule(self.schedule, self.schedule_timezone)
        if self.catch_up == "all" and self.overlap == "forbid":
            what = "Must not be all while overlap is forbid, which lets only the first one start"
            yield Problem("catch_up", what)
        if self.schedule is not None and self.ends_at is not None:
            field = "deadline" if self.config is None else "config.deadline"
            yield Problem(field, "Must be left out with a schedule, whose jobs all come later")


class JobRequest(Submission, frozen=True, kw_only=True):
    """The body of `POST /jobs`."""

    tenant_id: TenantId


class ValidateRequest(Submission, frozen=True, kw_only=True):
    """The body of `POST /validate`: that of a job, of which all but what is trained may lack."""

    tenant_id: TenantId | None = None
    """whose tables are meant; with a token it is known"""


class JobPatch(_Asking, frozen=True, kw_only=True):
    """The body of `PATCH /jobs/{id}`: what is left out stays."""

    priority: Rank | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    schedule: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | UnsetType | None = UNSET
    """null: it comes no more"""
    paused: bool | UnsetType = UNSET

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        if all(getattr(self, field) is UNSET for field in self.__struct_fields__):
            yield Problem("body", f"Must have one of {', '.join(self.__struct_fields__)}")
        if isinstance(self.metadata, dict):
            yield from _problems_of_metadata(self.metadata)
        if isinstance(self.schedule, str):
            yield from _problems_of_schedule(self.schedule, "UTC")


class JobsQuery(_Asking, frozen=True, kw_only=True):
    """Which jobs `GET /jobs` is asked for; the newest come first."""

    tenant_id: TenantId | None = None
    status: tuple[Status, ...] = ()
    """one of these; none: any"""
    model_type: ModelType | None = None
    priority: tuple[Rank, ...] = ()
    parent_id: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    """firings of that schedule alone"""
    created_after: Moment | None = None
    created_before: Moment | None = None
    page: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    page_size: PageSize = 50
    after: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    """the last job that was told before: those that follow it, whatever has come since"""
    limit: PageSize | None = None
    """how many, with `after`"""

    def problems(self) -> Iterator[Problem]:
        """What no type can say."""
        if self.after is not None and self.page > 1:
            yield Problem("page", "Must be left out beside after")


def _problems_of_schedule(cron: str, zone: str) -> Iterator[Problem]:
    try:
        zone_of(zone)
    except BadCalendar as error:
        yield Problem("schedule_timezone", f"Must be a zone such as Europe/Berlin: {error}")
        return
    try:
        Schedule(cron=cron, zone=zone)
    except BadCalendar as error:
        yield Problem("schedule", f"Must be a schedule that comes: {error}")


def _problems_of_metadata(metadata: dict[str, Any]) -> Iterator[Problem]:
    size_bytes = len(msgspec.json.encode(metadata))
    if size_bytes > METADATA_MAX_BYTES:
        what = f"Must have at most {METADATA_MAX_BYTES} bytes as JSON, and has {size_bytes}"
        yield Problem("metadata", what)


# What is answered


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to a caller; fields may be added, and none is taken away."""


class Queue(Answer, frozen=True, kw_only=True):
    """Where a job that waits stands."""

    position: int
    """1: it is the next"""
    eta_s: float | None = None
    """until it starts, as likely sooner as later; None: nothing like it has been measured"""
    eta_p90_s: float | None = None
    """in nine of ten cases it has started by then"""


class Reason(Answer, frozen=True, kw_only=True):
    """One reason for which a job waits, with its numbers."""

    cause: str
    """for programs; docs/jobs.md lists them"""
    message: str
    """for people"""
    value: float | None = None
    bound: float | None = None
    until_at: datetime | None = None


class Waiting(Answer, frozen=True, kw_only=True):
    """Why a job waits; without a reason it does not."""

    job_id: str
    status: Status
    reasons: tuple[Reason, ...]
    queue: Queue | None = None


class Model(Answer, frozen=True, kw_only=True):
    """What a finished job has left."""

    version: int
    sha256: str


class Job(Answer, frozen=True, kw_only=True):
    """A job, as `GET /jobs/{id}` tells it."""

    job_id: str
    status: Status
    created_at: datetime
    tenant_id: str
    model_type: ModelType | None
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """whole per cent: never falls within an attempt, and is 100 only once the job is COMPLETED"""
    current_step: Step | None = None
    metrics: dict[str, Any] | None = None
    priority: Rank
    config: JobConfig | None
    trainer: str
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    attempt: int = 0
    max_attempts: int = 4
    next_attempt_at: datetime | None = None
    """when it is tried again"""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime
    as_of: datetime
    """when what is told of a running job was seen"""
    stale: bool = False
    """nobody has confirmed for long that it still runs"""
    paused_reason: str | None = None
    error: Refusal | None = None
    """why it FAILED, or why the last attempt did"""
    queue: Queue | None = None
    model: Model | None = None
    kept_bytes: int = 0
    """what its folder takes; 0 once it has ended: nothing is kept, and what is told here stays"""
    parent_id: str | None = None
    """the scheduled job that this is a firing of"""
    schedule: str | None = None
    schedule_timezone: str | None = None
    warnings: tuple[Warned, ...] = ()
    version: int = 1
    """grows with each change, and is its ETag"""


class Warned(Answer, frozen=True, kw_only=True):
    """What is granted, and is not what somebody may think."""

    field: str
    code: str
    """for programs"""
    message: str
    """for people"""


class JobPage(Answer, frozen=True, kw_only=True):
    """Some of many jobs, the newest first."""

    jobs: tuple[Job, ...]
    total: int
    page: int
    page_size: int
    pages: int
    next: str | None = None
    """what to give as `after` for those that follow, which skips none while jobs arrive"""


class Metrics(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """How good a model is: flat, as the document prints it; what it has not is left out."""

    training_duration_seconds: float
    training_data_size: int
    mae: float | UnsetType = UNSET
    rmse: float | UnsetType = UNSET
    mape: float | UnsetType | None = UNSET
    """per cent; null where the target holds 0"""
    r2_score: float | UnsetType | None = UNSET
    wape: float | UnsetType | None = UNSET
    smape: float | UnsetType | None = UNSET
    mase: float | UnsetType | None = UNSET
    precision: float | UnsetType | None = UNSET
    recall: float | UnsetType | None = UNSET
    f1: float | UnsetType | None = UNSET
    pr_auc: float | UnsetType | None = UNSET
    base_rate: float | UnsetType | None = UNSET
    lift: float | UnsetType | None = UNSET
    threshold: float | UnsetType | None = UNSET
    """of strangeness, from which on a row is an anomaly"""
    flagged: float | UnsetType = UNSET
    """the share of rows that are"""
    skill: float | UnsetType | None = UNSET
    """how much better than the best baseline; 0: no better, 1: without an error"""
    best_baseline: str | UnsetType = UNSET
    baselines: dict[str, dict[str, float | None]] | UnsetType = UNSET
    """what forecasts that cost nothing come to on the same rows"""
    judged_on: Literal["validation", "test"] | UnsetType = UNSET
    """the rows that all of this is of; `test` wherever there are such"""
    backtest: tuple[dict[str, Any], ...] | UnsetType = UNSET
    history_url: str | UnsetType = UNSET


class Logs(Answer, frozen=True, kw_only=True):
    """The last lines of a job, where JSON is asked for."""

    job_id: str
    logs: tuple[str, ...]
    total_lines: int


class ModelVersion(Answer, frozen=True, kw_only=True):
    """A model that a job has left."""

    tenant_id: str
    name: str
    version: int
    job_id: str
    sha256: str
    size_bytes: int
    metrics: dict[str, Any] | None
    created_at: datetime
    served_by: str | None
    """who serves it; None: nobody"""
    kept: bool
    """whether its files are there still"""


class Models(Answer, frozen=True, kw_only=True):
    """Models, of each name the newest first."""

    models: tuple[ModelVersion, ...]


class Cancelled(Answer, frozen=True, kw_only=True):
    """What `DELETE /jobs/{id}` answers."""

    job_id: str
    status: Status
    message: str


class Cluster(Answer, frozen=True, kw_only=True):
    """A cluster of workers."""

    cluster_id: str
    status: str
    num_workers: int


class Check(Answer, frozen=True, kw_only=True):
    """Whether a part of the service is well."""

    ok: bool
    message: str
    """what is wrong and what to do, or how it is"""


class Health(Answer, frozen=True, kw_only=True):
    """How the service is; `degraded` comes with 503."""

    status: Literal["healthy", "degraded"]
    checks: dict[Literal["database", "daemon", "disk", "queue"], Check]


class ValidateAnswer(Answer, frozen=True, kw_only=True):
    """What `POST /validate` answers, always with 200."""

    valid: bool
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Warned, ...] = ()
    resolved: dict[str, Any] | None = None
    """what would be trained, with every default; None: nothing"""
    refusal: Refusal | None = None
    """what `POST /jobs` would answer instead of a job"""
