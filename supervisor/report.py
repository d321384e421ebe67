"""What is true now, read from the home alone: works whether or not the daemon is up."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from modes import load_ladder
from state import windows
from state.records import LEDGER_VERSION, Boot, Left, Memory, Run
from state.store import Store
from state.windows import Windows
from supervisor import journal
from supervisor.config import Config
from supervisor.core import again, decisions, explain, history, policy, queue, quiet_hours, slots
from supervisor.core.events import Event
from supervisor.core.facts import Facts
from supervisor.core.goodput import PRESENT, Goodput, lived, measure
from supervisor.core.guard import ACTS, Pressure, Verdict, in_words
from supervisor.core.moments import Moment, stamp
from supervisor.core.quiet_hours import DAY_S, Quiet
from supervisor.core.settings import Settings
from supervisor.foretold import CAMPAIGN, Ends, foretold
from supervisor.host import api
from supervisor.host.clock import zone_name
from supervisor.host.home import Home
from supervisor.runners.local import is_alive, read_heartbeat
from trainers import durable
from trainers.contract import EPISODES, Heartbeat, Score, Spec

if TYPE_CHECKING:
    from supervisor.host.install.timers import Timer

ENDED_SHOWN = 100
"""submitted runs that have ended and are told of, the newest"""
LINES_LOOKED_AT = 300
"""of the end of the log, for what was refused last"""


class DaemonReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a supervisor runs on this home."""

    state: str
    """`running` or `stopped`"""
    pid: int | None = None


class NextReport(msgspec.Struct, frozen=True, kw_only=True):
    """What will happen next if nothing happens in between."""

    action: str
    """`climb`, `stay`, `rest`, or `unknown` while the settings cannot be read"""
    in_s: float | None
    why: str


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the queue."""

    id: str
    trainer: str
    name: str
    called: str
    """its name, or its id where another run has the same name"""
    status: str
    """that of the run's life; `starting` until the first step, `down` with nobody to run it"""
    reason: str | None
    waits: str | None
    """why it does not train, though it is not at its end; None: it trains, or has ended"""
    rank: str
    mode: str | None
    gpus: tuple[str, ...] | None
    """those that its trainer may use, by UUID; None: all that there are, or none lives"""
    gpus_own: bool
    """no other run of this home may use them"""
    step: int
    episodes: int
    target: int | None
    """None: its trainer says when it is done"""
    target_unit: str | None
    """`episodes`, or what its trainer calls a step"""
    progress: float | None
    """share of the target that is reached, 0 to 1; None: nobody can tell"""
    steps_per_s: float | None
    score: Score | None
    """how good it is by now, as its trainer measures that"""
    loss: float | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    eta_s: float | None
    """of training, at its present rate"""
    pid: int | None
    restarts: int
    ends: Ends | None = None
    """None: it waits for no quiet hours, has no turn, or no target that is counted in steps"""


class CampaignReport(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of the campaign: jobs count in none of it, but in when all ends."""

    runs: int
    done: int
    failed: int
    steps_per_s: float | None
    eta_s: float | None
    cost_so_far: float | None
    cost_to_come: float | None
    ends: Ends | None = None
    """None: it waits for no quiet hours, or some of it has no target that is counted in steps"""


class LedgerReport(explain.Known, frozen=True, kw_only=True):
    """What the machine has taught, and what follows from it now."""

    policy: str
    mode: str
    checkpoint_interval_s: float | None
    """the shortest in force: of the trainers that live; None where none does"""
    checkpoint_interval_max_s: float
    """the setting"""


class BootReport(msgspec.Struct, frozen=True, kw_only=True):
    """One boot of the machine."""

    seq: int
    """1: the first that is known, which came neither after a crash nor as planned"""
    boot_id: str
    recorded: str
    """when it was written down, in UTC"""
    crash: bool
    """the machine went down before it without a clean stop"""
    mode: str
    """the goal's mode when the machine had gone down before it: the one that it began with"""
    lived_s: float | None
    """its uptime at the newest look, 0 if it never came to one; None: not known"""
    trained_s: float | None
    """the part of it in which a trainer lived; None: not known, as without any look"""
    lasts: bool
    """it is the present boot"""


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One source of usage, as the newest analysis found it."""

    name: str
    used: bool
    why_not: str | None
    """why it was not used; of one that is used what its reader must know"""


class TimerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A timer of systemd that learns usage; all times in UTC, an unknown is null."""

    command: str
    """what it runs: `analyze-usage` or `sample-usage`"""
    enabled: bool
    """whether each boot starts it"""
    waits: bool | None
    """whether it waits for its next instant now"""
    last: str | None
    """when its command began last"""
    result: str | None
    """how that ended: `success`, `running`, `again` (it is tried again), or what went wrong"""
    exit_code: int | None
    next: str | None
    words: str
    """the same for a person"""


class RefusalReport(msgspec.Struct, frozen=True, kw_only=True):
    """The newest line of the log by which quiet hours refused something."""

    at: str
    event: str
    why: str


class QuietReport(msgspec.Struct, frozen=True, kw_only=True):
    """What [quiet_hours] let training do; all times in UTC."""

    open: bool
    """they let it train; a person, the guard or the queue may say no all the same"""
    why: str
    """`window`, `outside`, `unknown`, or `off` where they are not enabled"""
    words: str
    """the same for a person"""
    opens: str | None
    """when the window opens, or opened, that is open or comes next"""
    closes: str | None
    lifted_until: str | None
    """until then a person wants training in any hour; None: nobody does"""
    analysed: str | None
    """when the analysis in force was made; None: there is none that can be read"""
    age_days: float | None
    """how old it is"""
    late: bool
    """a newer one should have been made a day ago, or longer"""
    next_analysis: str | None
    """when the next is due, which is tried each hour until it succeeds; None: nobody is asked"""
    sources: tuple[SourceReport, ...]
    timers: tuple[TimerReport, ...]
    """those of systemd that are installed, where it was asked for them"""
    last_refusal: RefusalReport | None
    """training was kept from going on, or usage could not be analysed; None: not lately"""


class GenerationReport(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier generation of the campaign."""

    number: int
    runs: tuple[str, ...]
    """ids of those whose folders are still there"""
    done: int
    """how many ended well"""
    ended: str
    """when the next one began, in UTC"""
    leaves: bool
    """its folders are being removed"""


class AgainReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which generation of the campaign this is, and when the next is due."""

    generation: int
    due: str | None
    """when the next one is due, in UTC; None: never"""
    zone: str | None
    """of its calendar"""
    late: bool
    """it is due, and the present one is not done"""
    words: str
    """the same for a person"""
    earlier: tuple[GenerationReport, ...]


class GuardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What [guard] wanted last."""

    answer: str | None
    """`hold`, `free`, `freeze` or `evict`; None: it has not looked yet"""
    since: str | None
    """since when, in UTC"""
    words: str
    """what follows from it and what presses, for a person"""
    pressure: Pressure
    """what others used at the sample that made it so, and who they were"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `show-state --json`."""

    home: str
    home_id: str | None
    """None: no supervisor has lived here yet"""
    epoch: int
    daemon: DaemonReport
    api: str | None
    """where jobs are taken in over HTTP; None: nowhere"""
    page: str | None
    """where the page is; None: nowhere"""
    mode: str
    mode_since: str
    mode_running_s: float
    stable_s: float
    goal: dict[str, Any]
    bounds: tuple[str, ...]
    policy: str
    ledger: LedgerReport | None
    """None while the settings cannot be read"""
    next: NextReport
    boot_id: str
    boots_total: int
    crashes_total: int
    crashes_last_hour: int
    boots: tuple[BootReport, ...]
    """those that the memory still has, oldest first"""
    history_since: str
    trouble: tuple[str, ...]
    """what is wrong with the state file; what is told beside it may be older, or a first day"""
    uptime_s: float
    quiet: QuietReport | None
    """None: there are no [quiet_hours]"""
    guard: GuardReport | None
    """None: there is no [guard]"""
    again: AgainReport | None
    """None: the campaign is never due again, and never was"""
    campaign: CampaignReport
    runs: tuple[RunReport, ...]


def report(
    home: Home,
    config: Config | str,
    moment: Moment,
    timers: Sequence[Timer] = (),
    *,
    foretell: bool = False,
    by: Windows | None = None,
) -> Report:
    """What is true of `home` at this moment.

    Args:
        home: where to look.
        config: the settings and modes, or why they cannot be read.
        moment: now.
        timers: what systemd was found to have, where somebody has asked it.
        foretell: tell in which windows each run ends, too, from the samples of a week.
        by: the windows of an analysis that is to be supposed; None: those in force.
    """
    holder, served = home.holder(), api.served(home)
    memory, trouble = _now(home, config, moment)
    goal, modes = memory.goal, {} if isinstance(config, str) else {m.name: m for m in config.ladder}
    sharing = slots.Sharing() if isinstance(config, str) else config.settings.sharing
    sharing = slots.on_machine(sharing, memory)
    waits = slots.waiting(memory.runs, goal, modes.get(goal.mode), memory.timeline, sharing)
    known = _runs(home, memory, config)
    called = queue.called(run for run, _ in known)
    runs = tuple(
        _run(
            run,
            home,
            moment,
            called=called[run.id],
            waits=waits.get(run.id),
            up=holder is not None,
        )
        if left is None
        else _left(left, moment, called=called[run.id])
        for run, left in known
    )
    jobs = {run.id for run, _ in known if run.is_job}
    of_campaign = tuple(run for run in runs if run.id not in jobs)
    campaign = _campaign(memory, of_campaign, config)
    would_train = holder is not None or by is not None
    if foretell and would_train and not isinstance(config, str) and goal.mode in modes:
        turn = slots.assign(memory.runs, modes[goal.mode], memory.timeline, sharing)
        left = _left_steps(runs, turn)
        ends = foretold(home, memory, config.settings, left, by)
        runs = tuple(msgspec.structs.replace(run, ends=ends.get(run.id)) for run in runs)
        campaign = msgspec.structs.replace(campaign, ends=ends.get(CAMPAIGN))
    return Report(
        home=str(home.path),
        home_id=memory.home.id if memory.home is not None else None,
        epoch=memory.epoch,
        daemon=DaemonReport(
            state="running" if holder else "stopped", pid=(holder.pid or None) if holder else None
        ),
        api=None if served is None else served.url,
        page=None if served is None else served.page,
        mode=goal.mode,
        mode_since=stamp(memory.visit.entered_at),
        mode_running_s=round(memory.visit.running_s, 1),
        stable_s=round(memory.visit.stable_s, 1),
        goal=msgspec.to_builtins(goal) | {"paused": goal.paused},
        bounds=explain.bounds(goal),
        policy="unknown" if isinstance(config, str) else config.settings.policy.name,
        ledger=None if isinstance(config, str) else _ledger(memory, config, home, moment),
        next=_next(home, memory, config, up=holder is not None),
        boot_id=moment.boot_id,
        boots_total=memory.boots_total,
        crashes_total=memory.crashes_total,
        crashes_last_hour=history.crashes_last_hour(memory),
        boots=tuple(_boot(boot, moment) for boot in memory.boots),
        history_since=stamp(memory.began_at),
        trouble=trouble,
        uptime_s=round(moment.boottime_s, 1),
        quiet=None if isinstance(config, str) else _quiet(home, memory, config.settings, timers),
        guard=None if isinstance(config, str) else _guard(memory, config.settings),
        again=None if isinstance(config, str) else _again(memory, config),
        campaign=campaign,
        runs=runs,
    )


def _left_steps(runs: Sequence[RunReport], turn: Collection[str]) -> dict[str, int]:
    """What is left of each run that has a slot, and of the whole campaign where that is known."""
    open_ones = [run for run in runs if run.status not in queue.ENDED]
    counted = {
        run.id: max(0, run.target - run.step)
        for run in open_ones
        if run.target is not None and run.target_unit != EPISODES
    }
    whole = (
        {CAMPAIGN: sum(counted.values())} if open_ones and len(counted) == len(open_ones) else {}
    )
    return whole | {run: steps for run, steps in counted.items() if run in turn}


def present(home: Home, config: Config | str, moment: Moment) -> Memory:
    """The memory of this home; that of a first day where it has none yet."""
    return _remembered(home, config, moment)[0]


def runs(home: Home, config: Config | str, moment: Moment) -> tuple[Run, ...]:
    """Every run that is known of this home: those that have left the queue, too."""
    memory = present(home, config, moment)
    return tuple(run for run, _ in _runs(home, memory, config))


def wanted(home: Home, config: Config, moment: Moment) -> tuple[Run, ...]:
    """The runs of the settings, as they are asked for in the present generation."""
    return again.runs_of(config.campaign, present(home, config, moment).generations)


def earlier(home: Home, config: Config | str, moment: Moment) -> tuple[Run, ...]:
    """The runs of earlier generations that are kept."""
    known = present(home, config, moment).generations
    ids = () if known is None else [run for one in known.earlier for run in one.runs]
    if not ids:
        return ()
    try:
        return tuple(one.run for one in Store(home.state).archive.find(ids).values())
    except OSError:
        return ()


def _runs(home: Home, memory: Memory, config: Config | str) -> list[tuple[Run, Left | None]]:
    """The runs to tell of, in the order of the campaign, then what was submitted.

    Those that have left the queue come with what is known of them since.
    """
    try:
        gone = Store(home.state).archive.find()
    except OSError:  # what is told is what is known
        gone = {}
    gone |= {one.run.id: one for one in memory.left}
    campaign = () if isinstance(config, str) else again.runs_of(config.campaign, memory.generations)
    order = {run.id: place for place, run in enumerate(campaign)}
    known: list[tuple[Run, Left | None]] = [(run, None) for run in memory.runs]
    here = {run.id for run in memory.runs}
    submitted: list[tuple[Run, Left | None]] = []
    for run_id, one in gone.items():
        if run_id in here or one.run.withdrawn:
            continue
        if one.run.is_job:
            submitted.append((one.run, one))
        elif one.epoch >= memory.epoch and (
            run_id in order or (not order and again.generation_of(one.run, memory) is None)
        ):
            known.append((one.run, one))
    known.sort(key=lambda pair: order.get(pair[0].id, len(order)))
    return [*known, *submitted[-ENDED_SHOWN:]]


def facts(home: Home, config: Config, moment: Moment) -> Facts:
    """What a decision would be made from at this moment, but for readings of the machine."""
    memory, _ = _now(home, config, moment)
    return _facts(home, memory, config)


def _facts(home: Home, memory: Memory, config: Config) -> Facts:
    """The same, with what the guard wanted last, and what is known of the quiet hours."""
    said, asked = memory.pressed, config.settings.quiet_hours
    quiet: Quiet | None = None
    if asked is not None:
        known, trouble = windows.known(home.windows)
        quiet = quiet_hours.quiet(asked, known, memory.timeline.seen_at, trouble=trouble)
    return decisions.facts(
        memory,
        config.ladder,
        config.settings.policy,
        guard=config.settings.guard_in_force,
        pressure=None if said is None else msgspec.convert(said, Verdict),
        quiet=quiet,
    )


def ledger(home: Home, config: Config, moment: Moment) -> LedgerReport:
    """What this machine has taught, up to this moment."""
    return _ledger(_now(home, config, moment)[0], config, home, moment)


def goodput(home: Home, config: Config | str, moment: Moment) -> Goodput:
    """Where the time of `home` went, up to this moment."""
    memory, _ = _remembered(home, config, moment)
    return measure(itertools.chain(journal.read(home.decisions), so_far(home, memory, moment)))


def so_far(home: Home, memory: Memory, moment: Moment) -> Iterator[journal.Line]:
    """Lines as they would stand in the log of `home` if everything ended at this moment."""
    seen_s = memory.timeline.now_s
    now = history.pass_time(memory, moment).timeline
    line = {"event": PRESENT, "now_s": now.now_s, "boot": now.boot_id}
    yield {**line, "evidence": {"down_s": 0.0 if home.holder() else now.now_s - seen_s}}
    for run in memory.runs:
        if run.status in ("running", "stopping") and run.attempt.process is not None:
            rule = "gone" if run.attempt.process.boot_id == now.boot_id else "down"
            rule = (
                "alive"
                if is_alive(run.attempt.process, now.boot_id, home.run(run.id).path)
                else rule
            )
            evidence = lived(run, read_heartbeat(home.run(run.id)), now)
            yield {**line, "run": run.id, "rule": rule, "evidence": evidence}


def _remembered(home: Home, config: Config | str, moment: Moment) -> tuple[Memory, tuple[str, ...]]:
    memory, trouble = Store(home.state).peek()
    if memory is None:
        # Settings that cannot be read: as if there were none.
        ladder = load_ladder() if isinstance(config, str) else config.ladder
        settings = Settings() if isinstance(config, str) else config.settings
        memory = history.first_day(moment, ladder, settings.queue())
    if memory.ledger.version != LEDGER_VERSION:  # as the next daemon will begin
        memory = history.relearn(memory)
    return memory, trouble


def _now(home: Home, config: Config | str, moment: Moment) -> tuple[Memory, tuple[str, ...]]:
    """The memory of `home`, brought up to this moment."""
    memory, trouble = _remembered(home, config, moment)
    # Nobody has seen anything run since the daemon went down.
    running = memory.running and home.holder() is not None
    return history.pass_time(msgspec.structs.replace(memory, running=running), moment), trouble


def _ledger(memory: Memory, config: Config, home: Home, moment: Moment) -> LedgerReport:
    limits = config.settings.policy
    known = explain.known(decisions.facts(memory, config.ladder, limits))
    intervals_s = [
        spec.checkpoint_interval_s
        for run in memory.runs
        if run.attempt.process is not None
        and is_alive(run.attempt.process, moment.boot_id, home.run(run.id).path)
        if (spec := _read_spec(home, run)) is not None
    ]
    return LedgerReport(
        **msgspec.structs.asdict(known),
        policy=limits.name,
        mode=memory.goal.mode,
        checkpoint_interval_s=min(intervals_s, default=None),
        checkpoint_interval_max_s=config.settings.checkpoints.interval_s,
    )


def _read_spec(home: Home, run: Run) -> Spec | None:
    """What the trainer of `run` was asked to do; None where that cannot be read."""
    try:
        return msgspec.json.decode(durable.read(home.run(run.id).spec), type=Spec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _next(home: Home, memory: Memory, config: Config | str, *, up: bool) -> NextReport:
    if not up:
        why = "the supervisor is not running; `supervisor run` starts it"
        return NextReport(action="rest", in_s=None, why=why)
    if isinstance(config, str):
        return NextReport(
            action="unknown", in_s=None, why=f"the settings in force are older: {config}"
        )
    forecast = policy.forecast(_facts(home, memory, config))
    return NextReport(action=forecast.action, in_s=forecast.in_s, why=forecast.why)


def _quiet(
    home: Home, memory: Memory, settings: Settings, timers: Sequence[Timer]
) -> QuietReport | None:
    asked, at = settings.quiet_hours, memory.timeline.seen_at
    if asked is None:
        return None
    known, trouble = windows.known(home.windows)
    found = quiet_hours.quiet(asked, known, at, trouble=trouble)
    until_at = memory.goal.any_hour_until_at
    told = {} if known is None else {one.name: one for one in known.sources}
    return QuietReport(
        open=found.open,
        why=found.why,
        words=found.words,
        opens=_stamped(found.opens_at),
        closes=_stamped(found.closes_at),
        lifted_until=_stamped(until_at) if until_at is not None and at < until_at else None,
        analysed=None if known is None else stamp(known.made_at),
        age_days=None if known is None else round((at - known.made_at) / DAY_S, 4),
        late=known is not None and quiet_hours.is_late(asked, known, at),
        next_analysis=stamp(max(at, quiet_hours.refresh_at(asked, known, None)))
        if asked.sources
        else None,
        sources=tuple(
            SourceReport(name=name, used=told[name].used, why_not=told[name].why_not)
            if name in told
            else SourceReport(name=name, used=False, why_not="in no analysis yet")
            for name in asked.sources
        ),
        timers=tuple(
            TimerReport(
                command=one.command,
                enabled=one.enabled,
                waits=one.runs,
                last=_stamped(one.last_at),
                result=one.result,
                exit_code=one.exit_code,
                next=_stamped(one.next_at),
                words=one.words,
            )
            for one in timers
        ),
        last_refusal=_refusal(home),
    )


def _refusal(home: Home) -> RefusalReport | None:
    """What the quiet hours refused last, as far as the end of the log knows."""

    def refuses(line: journal.Line) -> bool:
        waits = line.get("rule") == "quiet_hours" and line.get("evidence", {}).get("quiet")
        return line["event"] in (Event.USAGE_UNKNOWN, Event.USAGE_LATE) or waits in (
            "outside",
            "unknown",
        )

    try:
        lines = journal.tail(home.decisions, LINES_LOOKED_AT)
    except OSError:
        return None
    for line in reversed(lines):
        if refuses(line):
            return RefusalReport(at=line["time"], event=line["event"], why=line["reason"])
    return None


def comes_again(home: Home, config: Config, moment: Moment) -> AgainReport | None:
    """Which generation this is, and when the next is due; None: it is the only one."""
    return _again(_now(home, config, moment)[0], config)


def _again(memory: Memory, config: Config) -> AgainReport | None:
    asked, at, known = config.settings.campaign, memory.timeline.seen_at, memory.generations
    # Whoever asks may have a zone of its own: what counts is that of the supervisor.
    heeded = None if known is None or known.calendar is None else known.calendar
    zone = zone_name() if heeded is None else heeded.rpartition(" ")[2]
    if asked.again is not None:
        known = again.scheduled(known, asked, zone, at)
    elif known is not None:  # what was set is set no more
        known = msgspec.structs.replace(known, next_at=None, calendar=None)
    if known is None:
        return None
    due = known.next_at is not None and known.next_at <= at
    return AgainReport(
        generation=known.number,
        due=_stamped(known.next_at),
        zone=None if known.calendar is None else known.calendar.rpartition(" ")[2],
        late=due and not again.is_over(memory, config.rules),
        words=again.told_to_a_person(known, asked, zone, memory, config.rules),
        earlier=tuple(
            GenerationReport(
                number=one.number,
                runs=one.runs,
                done=one.done,
                ended=stamp(one.ended_at),
                leaves=one.dropped,
            )
            for one in known.earlier
        ),
    )


def _guard(memory: Memory, settings: Settings) -> GuardReport | None:
    limits, said = settings.guard_in_force, memory.pressed
    if limits is None:
        return None
    if said is None:
        return GuardReport(
            answer=None, since=None, words="it has not looked yet", pressure=Pressure()
        )
    verdict = msgspec.convert(said, Verdict)
    return GuardReport(
        answer=verdict.answer,
        since=_stamped(said.get("since_at")),
        words=f"{ACTS[verdict.answer]}: {in_words(verdict, limits)}",
        pressure=verdict.pressure,
    )


def _stamped(at: float | None) -> str | None:
    return None if at is None else stamp(at)


def _boot(boot: Boot, moment: Moment) -> BootReport:
    return BootReport(
        seq=boot.seq,
        boot_id=boot.boot_id,
        recorded=stamp(boot.recorded_at),
        crash=boot.crash,
        mode=boot.mode,
        lived_s=None if boot.lived_s is None else round(boot.lived_s, 1),
        trained_s=round(boot.trained_s, 1) if boot.lived_s else None,
        lasts=boot.boot_id == moment.boot_id,
    )


def _run(
    run: Run, home: Home, moment: Moment, *, called: str, waits: str | None, up: bool
) -> RunReport:
    folder = home.run(run.id)
    heartbeat = read_heartbeat(folder)
    alive = run.attempt.process is not None and is_alive(
        run.attempt.process, moment.boot_id, folder.path
    )
    status: str = run.status
    if run.status in ("running", "stopping") and not alive:
        status = "starting" if up else "down"
    elif run.status == "running" and (heartbeat is None or heartbeat.status == "starting"):
        status = "starting"
    waits = waits if up else None
    return _told(run, heartbeat, status, moment, called=called, alive=alive, waits=waits)


def _told(
    run: Run,
    heartbeat: Heartbeat | None,
    status: str,
    moment: Moment,
    *,
    called: str,
    alive: bool,
    waits: str | None,
) -> RunReport:
    gone_back = run.rewind is not None and not alive  # its last words were on another way
    told = None if gone_back else heartbeat
    step = told.step if told is not None else run.progress.step
    episodes = told.episodes if told is not None else run.progress.episodes
    target = run.asked.target
    here = msgspec.structs.replace(run.progress, step=step, episodes=episodes)
    steps_per_s = heartbeat.steps_per_s if heartbeat is not None and alive else None
    eta_s = None
    if run.status == "done":
        eta_s = 0.0
    elif steps_per_s and target is not None and target.unit != EPISODES:
        eta_s = max(0.0, target.count - step) / steps_per_s
    age_s = None
    if heartbeat is not None and heartbeat.checkpoint_at is not None:
        age_s = round(max(0.0, moment.wall - heartbeat.checkpoint_at), 1)
    return RunReport(
        id=run.id,
        trainer=run.asked.trainer,
        name=run.name,
        called=called,
        status=status,
        reason=run.reason,
        waits=waits,
        rank=run.asked.rank,
        mode=run.attempt.mode,
        gpus=run.attempt.gpus if alive else None,
        gpus_own=run.attempt.gpus_own if alive else False,
        step=step,
        episodes=episodes,
        target=None if target is None else target.count,
        target_unit=None if target is None else target.unit,
        progress=None if target is None else min(1.0, here.of(target.unit) / target.count),
        steps_per_s=steps_per_s,
        score=heartbeat.score if heartbeat is not None else None,
        loss=heartbeat.loss if heartbeat is not None else None,
        checkpoint_step=heartbeat.checkpoint_step if heartbeat is not None else None,
        checkpoint_age_s=age_s,
        eta_s=eta_s,
        pid=run.attempt.process.pid if run.attempt.process is not None and alive else None,
        restarts=run.faults.restarts,
    )


def _left(left: Left, moment: Moment, *, called: str) -> RunReport:
    """A run that has left the queue, as it was then: its folder is not opened."""
    try:
        said = msgspec.convert(left.said, Heartbeat)
    except msgspec.ValidationError:  # it had none, or another version's
        said = None
    return _told(left.run, said, left.run.status, moment, called=called, alive=False, waits=None)


def _campaign(memory: Memory, runs: tuple[RunReport, ...], config: Config | str) -> CampaignReport:
    rates = [run.steps_per_s for run in runs if run.steps_per_s]
    open_ones = [run for run in runs if run.status not in queue.ENDED]
    counts = [run for run in open_ones if run.target and run.target_unit != EPISODES]
    left = [(run.target or 0) - run.step for run in counts]
    rate = sum(rates) if rates else None
    eta_s = max(0, sum(left)) / rate if rate and len(left) == len(open_ones) else None
    cost = None if isinstance(config, str) else config.settings.cost_per_hour
    return CampaignReport(
        runs=len(runs),
        done=sum(run.status == "done" for run in runs),
        failed=sum(run.status == "failed" for run in runs),
        steps_per_s=round(rate, 1) if rate else None,
        eta_s=0.0 if runs and not open_ones else eta_s,
        cost_so_far=None if cost is None else round(cost * memory.timeline.now_s / 3600, 2),
        cost_to_come=None if cost is None or eta_s is None else round(cost * eta_s / 3600, 2),
    )
