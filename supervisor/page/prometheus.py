"""`/metrics`: what `show-state --json` says, as Prometheus wants to be told.

Units are Prometheus' own, seconds, bytes and shares from 0 to 1; what the report has in others is
converted. What is unknown has no series, and never one that says 0. A state is told by one series
for each state that there could be, of which the present one is 1. These are gauges: the type that
OpenMetrics has for them would name their label after the whole family.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from state.records import RunStatus
from state.samples import DAY_S, GpuSample, Sample
from supervisor.core import queue
from supervisor.core.explain import KnownMode
from supervisor.core.goodput import Goodput
from supervisor.core.guard import ACTS
from supervisor.core.pauses import OWNERS
from supervisor.page.look import Look
from supervisor.page.queue import Queue, Share
from supervisor.page.view import news_at
from supervisor.report import LedgerReport, Report, RunReport
from supervisor.terminal import printable

PREFIX = "training_supervisor_"
OPENMETRICS = "application/openmetrics-text"
ALONE_MAX = 100
"""runs, and tenants, that are told of one by one"""
SAMPLE_MAX_S = 600.0
"""what the machine was like longer ago than this says nothing of the present"""
STATUSES = (*get_args(RunStatus), "starting", "down")
"""of a run, as a report tells them"""
HOUR_S, MINUTE_S = 3600.0, 60.0
MIB = 2**20

Thing = TypeVar("Thing")
Row = tuple[tuple[str, ...], Thing]
"""the values of labels, and what they are of"""


class Exposition(NamedTuple):
    """An answer."""

    content: bytes
    content_type: str


class Number(NamedTuple, Generic[Thing]):
    """A number that Prometheus is told."""

    name: str
    about: str
    of: Callable[[Thing], float | None]
    """what it is of one thing; None: unknown"""
    counter: bool = False
    """it only grows, and ends in `_total`"""


REPORT: tuple[Number[Report], ...] = (
    Number(
        "daemon_running",
        "Whether a supervisor runs on this home.",
        lambda told: told.daemon.state == "running",
    ),
    Number(
        "mode_running_seconds",
        "Time in which runs have made steps since the mode was entered.",
        lambda told: told.mode_running_s,
    ),
    Number(
        "stable_seconds",
        "Time in which runs have made steps since the last crash in the mode.",
        lambda told: told.stable_s,
    ),
    Number(
        "pinned",
        "Whether a person wants this mode and no other.",
        lambda told: told.goal["pinned"],
    ),
    Number(
        "idle",
        "Whether nothing trains since the machine dies of it at once.",
        lambda told: told.goal["idle_until_s"] is not None,
    ),
    Number("boots", "Boots of the machine.", lambda told: told.boots_total, counter=True),
    Number("crashes", "Crashes of the machine.", lambda told: told.crashes_total, counter=True),
    Number(
        "campaign_left_seconds",
        "Time until the campaign is done, at its present rate.",
        lambda told: told.campaign.eta_s,
    ),
    Number(
        "quiet_open",
        "Whether the quiet hours let train.",
        lambda told: None if told.quiet is None else told.quiet.open,
    ),
)

SAMPLE: tuple[Number[Sample], ...] = (
    Number("cpu_ratio", "Share of all cores that is busy.", lambda at: _part(at.cpu_percent)),
    Number(
        "cpu_own_ratio",
        "Share of all cores that is busy with trainers and the supervisor.",
        lambda at: _part(at.cpu_own_percent),
    ),
    Number("memory_bytes", "Memory of the machine.", lambda at: _bytes(at.memory_total_mib)),
    Number(
        "memory_available_bytes",
        "Memory that can be had without swapping.",
        lambda at: _bytes(at.memory_available_mib),
    ),
    Number(
        "memory_own_bytes",
        "Memory that trainers and the supervisor hold.",
        lambda at: _bytes(at.memory_own_mib),
    ),
    Number("swap_used_bytes", "Swap in use.", lambda at: _bytes(at.swap_used_mib)),
    Number("disk_free_bytes", "Room where the home is.", lambda at: _bytes(at.disk_free_mib)),
    Number(
        "cpu_temperature_celsius",
        "The hottest sensor of the processor.",
        lambda at: at.cpu_temperature_c,
    ),
)

GPU: tuple[Number[GpuSample], ...] = (
    Number(
        "gpu_utilization_ratio",
        "Share of the time in which a GPU is busy.",
        lambda gpu: _part(gpu.utilization_percent),
    ),
    Number("gpu_memory_bytes", "Memory of a GPU.", lambda gpu: _bytes(gpu.memory_total_mib)),
    Number(
        "gpu_memory_used_bytes",
        "Memory of a GPU that is held.",
        lambda gpu: _bytes(gpu.memory_used_mib),
    ),
    Number(
        "gpu_memory_other_bytes",
        "Memory of a GPU that is held, and by no trainer.",
        lambda gpu: _bytes(gpu.memory_other_mib),
    ),
    Number("gpu_temperature_celsius", "Temperature of a GPU.", lambda gpu: gpu.temperature_c),
    Number("gpu_power_watts", "Power that a GPU draws.", lambda gpu: gpu.power_w),
    Number(
        "gpu_ecc_uncorrected",
        "Errors of a GPU's memory that were not repaired, since its driver was loaded.",
        lambda gpu: gpu.ecc_uncorrected,
        counter=True,
    ),
)

RUN: tuple[Number[RunReport], ...] = (
    Number("run_step", "Step of a run.", lambda run: run.step),
    Number("run_episodes", "Episodes of a run.", lambda run: run.episodes),
    Number(
        "run_target", "How far a run is to go, in the unit of its info.", lambda run: run.target
    ),
    Number(
        "run_progress_ratio",
        "Share of its target that a run has reached.",
        lambda run: run.progress,
    ),
    Number("run_steps_per_second", "How fast a run trains.", lambda run: run.steps_per_s),
    Number("run_loss", "Loss of a run, as its trainer measures that.", lambda run: run.loss),
    Number(
        "run_checkpoint_step",
        "Step of the newest checkpoint of a run.",
        lambda run: run.checkpoint_step,
    ),
    Number(
        "run_checkpoint_age_seconds",
        "How long ago a run was saved.",
        lambda run: run.checkpoint_age_s,
    ),
    Number(
        "run_left_seconds",
        "Training until a run is done, at its present rate.",
        lambda run: run.eta_s,
    ),
    Number(
        "run_restarts",
        "Starts of a run after a death that was its trainer's own.",
        lambda run: run.restarts,
        counter=True,
    ),
)

MODE: tuple[Number[KnownMode], ...] = (
    Number(
        "ledger_crashes_per_second",
        "Crashes of the machine in a second of a mode in which runs make steps.",
        lambda one: one.crashes_per_h / HOUR_S,
    ),
    Number(
        "ledger_crashes_low_per_second",
        "One in ten that the rate of crashes is lower.",
        lambda one: one.crashes_per_h_low / HOUR_S,
    ),
    Number(
        "ledger_crashes_high_per_second",
        "One in five that the rate of crashes is higher.",
        lambda one: one.crashes_per_h_high / HOUR_S,
    ),
    Number(
        "ledger_break_even_per_second",
        "Rate of crashes at which a mode brings no more than the one below.",
        lambda one: None if one.break_even_per_h is None else one.break_even_per_h / HOUR_S,
    ),
    Number(
        "ledger_cool_down_seconds",
        "How long a mode is not tried again.",
        lambda one: one.cool_down_left_s,
    ),
)

LEDGER: tuple[Number[LedgerReport], ...] = (
    Number(
        "ledger_crash_price_seconds",
        "What a crash costs, in time of training.",
        lambda ledger: ledger.crash_price_min * MINUTE_S,
    ),
    Number(
        "ledger_budget_crashes",
        "Crashes that the mode may still cost.",
        lambda ledger: ledger.budget,
    ),
    Number(
        "ledger_budget_max_crashes",
        "Crashes that the mode may cost where its budget is full.",
        lambda ledger: ledger.budget_max,
    ),
)

QUEUE: tuple[Number[Queue], ...] = (
    Number("jobs_running", "Jobs that a home has taken over.", lambda queue: queue.running),
    Number("jobs_waiting", "Jobs that no home has taken over yet.", lambda queue: queue.waiting),
    Number(
        "jobs_oldest_waiting_timestamp_seconds",
        "When the job began to wait that waits longest, in seconds since 1970.",
        lambda queue: queue.oldest_waiting_since,
    ),
)

TENANT: tuple[Number[Share], ...] = (
    Number(
        "tenant_jobs_running",
        "Jobs of a tenant that a home has taken over.",
        lambda share: share.running,
    ),
    Number(
        "tenant_jobs_waiting",
        "Jobs of a tenant that no home has taken over yet.",
        lambda share: share.waiting,
    ),
)


def exposition(look: Look, accept: str) -> Exposition:
    """All that Prometheus is told of a home.

    Args:
        look: at it.
        accept: the header of that name; who names OpenMetrics in it is answered so.
    """

    class Told(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _report(look.report)
            yield from _runs(look.report.runs)
            yield from _goodput(look.goodput)
            yield from _jobs(look.queue)
            yield from _machine(look)

    registry = CollectorRegistry()
    registry.register(Told())
    named = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    # No more of the header is passed on: a version in it that is none would be an error there.
    encode, content_type = choose_encoder(OPENMETRICS if OPENMETRICS in named else "")
    return Exposition(encode(registry), content_type)


def _report(report: Report) -> Iterator[Metric]:
    goal, ledger = report.goal, report.ledger
    ladder = () if ledger is None else tuple(one.mode for one in ledger.modes)
    modes = dict.fromkeys((*ladder, report.mode))  # its mode may have left the ladder
    rung = ladder.index(report.mode) if report.mode in ladder else None
    from_rung = ladder.index(goal["forbidden"]) if goal["forbidden"] in ladder else len(ladder)
    answer = None if report.guard is None else report.guard.answer
    sources = () if report.quiet is None else report.quiet.sources
    yield from _numbers(REPORT, [((), report)])
    yield _gauge("mode", "The mode that is wanted.", _states(modes, {report.mode}), "mode")
    yield _gauge("rung", "Place of the wanted mode in the ladder; 0 is the safest.", [((), rung)])
    yield _gauge(
        "mode_forbidden",
        "Modes that a person wants nothing to train in.",
        _states(ladder, ladder[from_rung:]),
        "mode",
    )
    yield _gauge("paused", "Who wants nothing to train.", _states(OWNERS, goal["pauses"]), "owner")
    yield _gauge(
        "guard_answer",
        "What the guard wants.",
        () if answer is None else _states(ACTS, {answer}),
        "answer",
    )
    yield _gauge(
        "quiet_source_used",
        "Whether the newest analysis could use a source of usage.",
        _by({source.name: source.used for source in sources}),
        "source",
    )
    if ledger is not None:
        yield from _numbers(LEDGER, [((), ledger)])
        yield from _numbers(MODE, [((one.mode,), one) for one in ledger.modes], "mode")


def _runs(runs: Sequence[RunReport]) -> Iterator[Metric]:
    yield _gauge(
        "runs",
        "Runs, by their status.",
        _by({status: sum(run.status == status for run in runs) for status in STATUSES}),
        "status",
    )
    shown = _shown(runs)
    yield _gauge(
        "run_info",
        "What a run is.",
        [((run.id, run.name, run.trainer, run.rank, run.target_unit or ""), 1) for run in shown],
        *("run", "name", "trainer", "rank", "unit"),
    )
    yield _gauge(
        "run_status",
        "What becomes of a run.",
        [row for run in shown for row in _states(STATUSES, {run.status}, run.id)],
        *("run", "status"),
    )
    yield from _numbers(RUN, [((run.id,), run) for run in shown], "run")
    scores = [(run.id, run.score) for run in shown if run.score is not None]
    yield _gauge(
        "run_score",
        "How good a run is by now.",
        [((run, score.name, score.better), score.value) for run, score in scores],
        *("run", "score", "better"),
    )


def _shown(runs: Sequence[RunReport]) -> Sequence[RunReport]:
    """The runs that are told of one by one: none that has ended, and saved last, a day ago."""
    open_ones = [run for run in runs if run.status not in queue.ENDED]
    open_ones.sort(key=lambda run: run.pid is None)
    ended = [run for run in runs if run.status in queue.ENDED]
    late = [run for run in ended if (run.checkpoint_age_s or 0.0) < DAY_S]
    return [*open_ones, *late][:ALONE_MAX]


def _goodput(goodput: Goodput) -> Iterator[Metric]:
    yield _gauge(
        "goodput_ratio",
        "Share of the time in which training was demanded that is kept as training.",
        [((), goodput.goodput)],
    )
    # No counters: what is not saved yet becomes kept or lost, and the oldest log leaves.
    yield _gauge(
        "demanded_seconds",
        "Time in which runs were demanded, by where it went.",
        _by(goodput.spent_s),
        "share",
    )
    yield _gauge(
        "not_demanded_seconds",
        "Time in which no run was demanded, by its reason.",
        _by(goodput.not_demanded_s),
        "reason",
    )


def _jobs(jobs: Queue | None) -> Iterator[Metric]:
    if jobs is None:
        return
    yield _gauge("jobs", "Jobs, by their status.", _by(jobs.counts), "status")
    yield from _numbers(QUEUE, [((), jobs)])
    tenants = [((share.tenant,), share) for share in jobs.shares[:ALONE_MAX]]
    yield from _numbers(TENANT, tenants, "tenant")


def _machine(look: Look) -> Iterator[Metric]:
    yield _gauge(
        "news_timestamp_seconds",
        "When the supervisor was heard of last, in seconds since 1970.",
        [((), news_at(look))],
    )
    sample = look.sample
    if sample is not None and abs(look.at - sample.at) < SAMPLE_MAX_S:
        yield from _numbers(SAMPLE, [((), sample)])
        gpus = [((str(place),), gpu) for place, gpu in enumerate(sample.gpus)]
        yield from _numbers(GPU, gpus, "gpu")


def _numbers(
    numbers: Iterable[Number[Thing]], things: Sequence[Row[Thing]], *labels: str
) -> Iterator[Metric]:
    for one in numbers:
        kind = CounterMetricFamily if one.counter else GaugeMetricFamily
        rows = [(values, one.of(thing)) for values, thing in things]
        yield _family(kind, one.name, one.about, rows, labels)


def _gauge(name: str, about: str, rows: Iterable[Row[float | None]], *labels: str) -> Metric:
    return _family(GaugeMetricFamily, name, about, rows, labels)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    about: str,
    rows: Iterable[Row[float | None]],
    labels: Sequence[str],
) -> Metric:
    family = kind(f"{PREFIX}{name}", about, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric([printable(value) for value in values], float(number))
    return family


def _states(
    states: Iterable[str], present: Collection[str], *values: str
) -> Iterator[Row[float | None]]:
    """A row for each state that there could be, behind the values of other labels."""
    return (((*values, state), state in present) for state in states)


def _by(numbers: Mapping[str, float]) -> Iterator[Row[float | None]]:
    return (((name,), number) for name, number in numbers.items())


def _part(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _bytes(mib: float | None) -> float | None:
    return None if mib is None else mib * MIB
