"""A request becomes what the daemon is asked for, judged by the very code that will train.

Nothing is read of the rows: whether a table is there and has these columns, the run itself tells,
so that a broken table fails a job and no server. `supervisor.jobs.validating` looks at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from state.records import Asked, Retry
from supervisor.jobs.contract import JobConfig, Submission, Training, Warned
from supervisor.jobs.errors import ConfigValidationError, NoWorkers, Problem
from supervisor.jobs.judging import Judgement, is_ours, judge
from supervisor.jobs.reading import problem
from supervisor.jobs.tenants import DATA, TABLE_LABEL, Tenant
from trainers.contract import Name, Spec, Target

RETRY = Retry(retries=3, first_s=60.0, factor=2.0)
"""after a failure it is tried again in one minute, then in two, then in four"""
NO_JOB = "00000000-0000-0000-0000-000000000000"
"""the id of a job while it is judged; it has none before it is taken in"""
TRAINERS = {
    "lgbm": "tabular",
    "xgboost": "tabular",
    "rf": "tabular",
    "isolation_forest": "tabular",
    "mlp": "neural",
    "lstm": "neural",
}
"""algorithm: the trainer that learns by it"""
TABLES = {"forecast": "features.load_forecasting", "anomaly": "features.anomaly_detection"}
"""kind of model: the table that is meant where none is named"""
OURS_ALONE = (
    "model_type",
    "ray_config",
    "mlflow_tracking",
    "max_seconds",
    "deadline",
    "distributed",
)
"""of a configuration, what a trainer is not told, or in other words"""


class Prepared(NamedTuple):
    """A request that can work."""

    asked: Asked
    """without a token, which whoever claims it gives"""
    warnings: tuple[Warned, ...]
    resolved: dict[str, Any]
    """the options of the trainer, with what is unset"""
    spec: Spec
    """as its trainer would see it"""


def asked_of(
    request: Submission, *, tenant: Tenant, now_at: float, job_id: Name = NO_JOB
) -> Prepared:
    """What the daemon is asked for.

    Args:
        request: it was read by `supervisor.jobs.reading`.
        tenant: for whom.
        now_at: wall time.
        job_id: which becomes the id of the run, and the name of its folder.

    Raises:
        ConfigValidationError: it can never work.
        Forbidden: the tenant may not ask for it.
        NoWorkers: it is to train on several machines.
        NotInstalled: what the trainer imports is not there.
        Busy: a trainer that is not ours has not answered.
    """
    trainer = _trainer(request)
    ours = is_ours(trainer)
    tenant.allow(trainer, _raw(request), ours=ours)
    _refuse_what_is_over(request, now_at)
    named = _table(request, trainer)
    source = {} if named is None else tenant.source(named, place_of(request.config, DATA))
    options = _options(request, source)
    name = request.name or _name(request, trainer)
    targets = [Target(unit=unit, count=count) for unit, count in (request.target or {}).items()]
    target = targets[0] if targets else None
    spec = Spec(
        run=job_id,
        trainer=trainer,
        name=name,
        mode="any",
        threads=1,
        target=target,
        seed=1 if request.seed is None else request.seed,
        options=options,
    )
    said = judge(spec, lambda option: place_of(request.config, option))
    if request.config is not None and request.config.distributed and request.config.ray_config:
        raise NoWorkers(request.config.ray_config.num_workers)
    asked = Asked(
        id=job_id,
        trainer=trainer,
        name=name,
        seed=spec.seed,
        target=target,
        options=options,
        gpus=request.gpus,
        rank=request.priority,
        origin="job",
        retry=RETRY,
        deadline_at=None if request.ends_at is None else request.ends_at.timestamp(),
        max_s=request.lasts_s,
        tenant=tenant.id,
        labels=_labels(request, named),
    )
    resolved = said.resolved
    if named is not None:  # as the tenant calls it, and no word of where that is
        resolved = {key: it for key, it in resolved.items() if key not in source} | {DATA: named}
    return Prepared(asked, tuple(_warnings(request, said)), resolved, spec)


def _trainer(request: Training) -> str:
    if request.config is not None:
        return TRAINERS[request.config.learns]
    if request.trainer is None:
        raise AssertionError("the contract lets no request without both pass")
    return request.trainer


def _name(request: Training, trainer: str) -> str:
    """What it is called where nobody has named it."""
    return trainer if request.config is None else f"{request.kind}-{request.config.learns}"


def _labels(request: Training, named: str | None) -> dict[str, str]:
    config = request.config
    labels = {} if named is None else {TABLE_LABEL: named}
    if config is not None:
        labels |= {"model_type": request.kind or "", "algorithm": config.learns}
    return labels


def _table(request: Training, trainer: str) -> str | None:
    """The table that is meant, as its tenant calls it; None: the trainer takes none."""
    config = request.config
    if config is not None:
        return config.data or TABLES[request.kind or "forecast"]
    if trainer not in TRAINERS.values():
        return None
    kind = str(request.options.get("model_type", "forecast"))
    return str(request.options.get(DATA, TABLES.get(kind, TABLES["forecast"])))


def _raw(request: Training) -> dict[str, Any]:
    """The options as they came, without the table, which is looked at by itself."""
    return {key: value for key, value in request.options.items() if key != DATA}


def _options(request: Training, source: dict[str, Any]) -> dict[str, Any]:
    """The trainer's options, as they will stand in its spec, with the place of the table."""
    config = request.config
    settled = [key for key in source if key != DATA and key in request.options]
    if settled:
        what = "Must be left out: `data` says which table, and the settings which of its rows"
        raise ConfigValidationError([Problem(f"options.{key}", what) for key in settled])
    if config is None:
        return request.options | source
    twice = [key for key in request.options if key in config.__struct_fields__]
    if twice:
        what = "Must be left out beside a config, which has a word for it"
        raise ConfigValidationError([Problem(f"options.{key}", what) for key in twice])
    told = msgspec.json.decode(msgspec.json.encode(config), type=dict[str, Any])
    options = {key: it for key, it in told.items() if it is not None and key not in OURS_ALONE}
    if "training_options" in options:
        sizes = options["training_options"]
        options["training_options"] = {key: it for key, it in sizes.items() if it is not None}
    options["model_type"] = request.kind
    options["algorithm"] = config.learns
    return options | request.options | source


def place_of(config: JobConfig | None, option: str) -> str:
    """Where in the request an option of the trainer stands."""
    if config is None:
        return f"options.{option}" if option else "options"
    first = option.partition(".")[0].partition("[")[0]
    where = "config" if first in config.__struct_fields__ or not option else "options"
    return f"{where}.{option}" if option else where


def _refuse_what_is_over(request: Training, now_at: float) -> None:
    ends_at = request.ends_at
    if ends_at is not None and ends_at.timestamp() <= now_at:
        path = "deadline" if request.config is None else "config.deadline"
        now = datetime.fromtimestamp(now_at, UTC).isoformat(timespec="seconds")
        raise ConfigValidationError([problem(path, f"Must lie ahead, and it is {now} now")])


def _warnings(request: Training, said: Judgement) -> Iterator[Warned]:
    config = request.config
    if said.remark is not None:
        yield Warned(field="config" if config else "options", code="remark", message=said.remark)
    if config is None:
        return
    if config.mlflow_tracking is not None:
        yield Warned(
            field="mlflow_tracking",
            code="not_sent_yet",
            message="It is kept with the job, and nothing is sent to MLflow yet",
        )
    if config.ray_config is not None:
        yield Warned(
            field="ray_config",
            code="unused",
            message="It changes nothing while distributed is false",
        )
    sizes = config.training_options
    if sizes is not None and sizes.batch_size is not None and TRAINERS[config.learns] != "neural":
        yield Warned(
            field="training_options.batch_size",
            code="unused",
            message=f"It changes nothing: {config.learns} looks at all rows at once",
        )
