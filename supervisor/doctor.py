"""Whether this machine can do what is asked of it, found out before a night is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import psutil

from modes import Mode
from state import samples, windows
from state.records import Run
from state.store import Store
from supervisor import recipients
from supervisor.config import Config
from supervisor.core import again, queue, quiet_hours
from supervisor.core.guard import patience_s
from supervisor.core.moments import Moment, span
from supervisor.core.quiet_hours import QuietHours
from supervisor.core.readings import GpuReadings
from supervisor.core.settings import Samples
from supervisor.core.told import DISK_LEAST_MIB
from supervisor.errors import SupervisorError
from supervisor.host import api, tuning
from supervisor.host.alarm import Alarm
from supervisor.host.cgroup import ControlGroup, cores
from supervisor.host.clock import zone_name
from supervisor.host.gpu import Gpus
from supervisor.host.home import SERVICE, SYSTEM_HOME, Home, machine_id
from supervisor.host.install import cron, profile, serving, timers
from supervisor.host.install.eyes import SEARCHED, Eyes, of_service, troubles
from supervisor.host.install.units import of_home, unit
from supervisor.host.pressure import trainers
from supervisor.programs import program, with_trainers
from supervisor.runners.local import LocalRunner
from supervisor.sentry import glance, holds_ours, protected
from trainers import durable
from trainers.contract import HOME, TRAINERS_DIR, Need, NewerFile

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
PATIENCE_MAX_S = 10.0
"""of a guard beside the load of others; who waits for longer is told"""
SAMPLES_LATE = 3
"""times the longest pause between two of them; then they are not written"""
BACKUP_OLD_S = 7 * 86_400.0
"""a backup of the job store that is older is told"""
CHECK_TIMEOUT_S = 60
CHECK_MIB = 1024
"""of memory that a trainer may want that looks at a checkpoint"""
GPU_TIMEOUT_S = 30.0
"""waking many GPUs takes a while, and here somebody waits for the answer"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of the examination."""

    verdict: Literal["well", "note", "bad"]
    what: str
    result: str
    """what was found, and what to do about it"""


def examine(home: Home, config: Config | str, moment: Moment) -> tuple[Finding, ...]:
    """Look at everything that training here depends on."""
    checks: tuple[Callable[[], Finding], ...] = (
        lambda: _settings(config),
        lambda: _home(home),
        lambda: _disk(home),
        _share,
        lambda: _state(home),
        lambda: _leftovers(home, moment),
        lambda: _gpus(config),
        lambda: _trainers(config, home),
        lambda: _tuning(home),
        lambda: _samples(home, config, moment),
        lambda: _jobs(home, config, moment),
        lambda: _notify(config),
        _clock_of(moment),
    )
    asked = (
        ()
        if isinstance(config, str)
        else (
            *_recipients(config),
            *_api(home),
            *_quiet(home, config, moment),
            *_timers(home, config),
            *_guard(home, config),
        )
    )
    return (*(check() for check in checks), *asked)


class Unseen(NamedTuple):
    """What a run, or the settings, would lack under the service of the machine."""

    run: str | None
    """its id; None: the settings name it themselves"""
    text: str
    sure: bool
    """whether it cannot work so; else only who has written it knows"""


def check_options(
    config: Config, home: Home, runs: Sequence[Run], service: Eyes | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the trainers refuse in the options of each run, and what they remark on the others.

    Args:
        config: the settings and modes.
        home: where the runs are, or are to be: one that has learnt something has to go on.
        runs: which of the campaign.
        service: that shall train them: what it would not see is refused, too.
    """
    unseen = unseen_by(service, config) if service is not None else ()
    # Whoever checks may see as little as the service, and would say only that nothing is there.
    blind = {one.run for one in unseen if one.sure}
    memory, _ = Store(home.state).peek()
    back = {run.id: run.rewind for run in memory.runs} if memory is not None else {}
    # What has to go on is the generation that there is.
    present = again.runs_of(
        tuple(run for run in runs if run.id not in blind),
        None if memory is None else memory.generations,
    )
    if config.settings.campaign.again_from == "best" and config.settings.campaign.again:
        present = tuple(_beginning_from(run) for run in present)
    answers = _ask_trainers(config, home, [run.but(rewind=back.get(run.id)) for run in present])
    refused = (
        *_unknown(config),
        *(one.text for one in unseen if one.sure),
        *(problem for problem, _ in answers if problem),
    )
    remarks = (
        *(remark for _, remark in answers if remark),
        *(one.text for one in unseen if not one.sure),
    )
    return refused, remarks


def _beginning_from(run: Run) -> Run:
    """The run as one that begins with what another one has learnt, such as itself."""
    return run.but(asked=msgspec.structs.replace(run.asked, begin_from=run.id))


def check_guard(
    config: Config, home: Home, *, by_service: bool = False
) -> tuple[list[str], list[str]]:
    """What of [guard] cannot be, and what a person should know of the rest.

    Control groups cannot be protected that hold us; one that is not there may come. And who looks
    rarely waits for long.

    Args:
        config: the settings.
        home: who holds it is ours, and so are its trainers.
        by_service: whether the service of the machine shall train.
    """
    limits = config.settings.guard_in_force
    if limits is None:
        return [], []
    memory, _ = Store(home.state).peek()
    holder = home.holder()
    groups = [ControlGroup.of(None if holder is None else holder.pid)]
    if by_service:
        groups.append(ControlGroup(f"0::/system.slice/{SERVICE}\n", ""))
    ours = [] if memory is None else trainers(memory)
    held = [name for name in limits.protected if any(holds_ours(name, it, ours) for it in groups)]
    _, lost = protected(limits, groups[0], ours)
    refused = [
        f"guard.protect_cgroup: {name} holds the supervisor itself, and would pause it for its own"
        for name in held
    ]
    remarks = [f"guard.protect_cgroup: {why}" for name, why in lost.items() if name not in held]
    if (wait_s := patience_s(limits)) > PATIENCE_MAX_S:
        remarks.append(f"guard: training goes on for up to {wait_s:g} s beside the load of others")
    return refused, remarks


def unseen_by(service: Eyes, config: Config) -> tuple[Unseen, ...]:
    """What of all that the settings and their runs name that service would not see, or not write.

    Root asks only trainers that are installed: code from a folder of a user's is not root's to run.
    """
    runs, called = config.campaign, queue.called(config.campaign)
    trainers_dir = None if os.geteuid() == 0 else config.trainers_dir
    environment = {
        **{key: text for key, text in os.environ.items() if key.startswith("LC_")},
        "PATH": SEARCHED,
        "HOME": str(service.home),
        HOME: str(service.home),
        **({} if trainers_dir is None else {TRAINERS_DIR: str(trainers_dir)}),
    }
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(cores()) as pool:

        def ask(run: Run) -> list[tuple[str | None, Need]]:
            mode = config.ladder.modes[0]
            try:
                asked = _ask(run, mode, config, service.home, Path(place), "--needs", environment)
                needs = msgspec.json.decode(asked.stdout, type=tuple[Need, ...])
            except (subprocess.TimeoutExpired, msgspec.MsgspecError):
                return []  # what is wrong with its options is said where they are checked
            return [(run.id, need) for need in needs]

        named = [(None, need) for need in _needed_by(config)]
        pairs = [*named, *(pair for found in pool.map(ask, runs) for pair in found)]
    found = dict(troubles(service, [need for _, need in pairs]))
    return tuple(
        Unseen(run, f"run {called[run]}: {it.text}" if run is not None else it.text, it.sure)
        for run, need in dict.fromkeys(pairs)
        if (it := found.get(need)) is not None
    )


def _needed_by(config: Config) -> Iterator[Need]:
    """What the settings name beside their runs."""
    for key, folder in config.folders.items():
        yield Need(path=str(folder), what=key, use="enter", within=str(folder))
    for program_ in config.settings.notify.when_done[:1]:
        if program_.startswith("/"):
            folder = Path(program_).parent
            yield Need(path=program_, what="notify.when_done", use="run", within=str(folder))


def _unknown(config: Config) -> list[str]:
    """Where something is set for a trainer that there is not; those of runs answer themselves."""
    trained = {run.asked.trainer for run in config.campaign}
    named = [("[warm]", name) for name in config.settings.warm.trainers]
    named += [(f"mode {mode.name}, [load]:", name) for mode in config.ladder for name in mode.load]
    named = [(where, name) for where, name in named if name not in trained]
    if not named:
        return []
    try:
        asked = subprocess.run(
            [*program("trainers.__main__"), "--list", "--json"],
            env=with_trainers(config.trainers_dir),
            capture_output=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
        known = {one.name for one in msgspec.json.decode(asked.stdout, type=tuple[_Trainer, ...])}
    except (subprocess.TimeoutExpired, msgspec.MsgspecError):
        return []  # it has not told, which says nothing against a name
    return [f"{where} there is no trainer {name!r}" for where, name in named if name not in known]


class _Trainer(msgspec.Struct, frozen=True, kw_only=True):
    """What is of use here of what the trainers tell of themselves."""

    name: str


def _at_once() -> int:
    """How many trainers may be asked at once, beside what trains meanwhile."""
    free_mib = psutil.virtual_memory().available // 2**20
    if (ours := ControlGroup.of().memory()) is not None:
        free_mib = min(free_mib, ours.available)
    return max(1, min(cores(), free_mib // CHECK_MIB))


def _ask_trainers(config: Config, home: Home, runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the trainers say of each run: what they refuse, or else what they remark.

    Of each trainer a run that is well is checked in the heavier modes, too: what one of them lays
    upon it would otherwise be refused at night, when the mode is tried.
    """
    names = queue.called(config.campaign)
    called = {queue.label(run): names[run.id] for run in config.campaign}
    safest, *heavier = config.ladder
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(_at_once()) as pool:

        def check(run: Run, mode: Mode) -> tuple[str, str]:
            return _check_run(run, called[queue.label(run)], mode, config, home, Path(place))

        answers = list(pool.map(lambda run: check(run, safest), runs))
        well = {
            run.asked.trainer: run
            for run, (problem, _) in zip(runs, answers, strict=True)
            if not problem
        }
        pairs = [(run, mode) for run in well.values() for mode in heavier]
        refused = pool.map(lambda pair: check(*pair)[0], pairs)
        return [*answers, *((problem, "") for problem in refused)]


def _ask(
    run: Run,
    mode: Mode,
    config: Config,
    home: Path,
    place: Path,
    what: str,
    environment: dict[str, str],
) -> subprocess.CompletedProcess[str]:
    """Ask the trainer of a run something of what it is to be asked for in that mode.

    Raises:
        TimeoutExpired: it does not answer.
    """
    interval_s, grace_s = config.settings.checkpoints.interval_s, config.settings.recovery.grace_s
    spec = queue.spec(run, mode, cores=1, checkpoint_interval_s=interval_s, grace_s=grace_s)
    asked = place / f"{mode.name}-{run.id}.json"
    durable.write(asked, msgspec.json.encode(spec), sync=False)
    command = [*program("trainers.__main__"), run.asked.trainer, what, "--spec", str(asked)]
    return subprocess.run(
        [*command, "--run", str(Home(home).run(run.id).path.absolute())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )


def _check_run(
    run: Run, called: str, mode: Mode, config: Config, home: Home, place: Path
) -> tuple[str, str]:
    environment = {**with_trainers(config.trainers_dir), HOME: str(home.path.absolute())}
    try:
        checked = _ask(run, mode, config, home.path, place, "--check", environment)
    except subprocess.TimeoutExpired:
        late = f"its trainer did not check its options within {CHECK_TIMEOUT_S} s"
        return f"run {called}: {late}", ""
    lines = checked.stderr.strip().splitlines()
    said = f"run {called}: {lines[-1].removeprefix('trainers: ')}" if lines else ""
    if checked.returncode == 0:
        return "", said
    return said or f"run {called}: exit code {checked.returncode}", ""


def _settings(config: Config | str) -> Finding:
    if isinstance(config, str):
        return Finding(verdict="bad", what="settings", result=config)
    result = f"readable; modes {', '.join(config.ladder.names)}"
    if config.dated:
        result = "; ".join((result, *config.dated))
        return Finding(verdict="note", what="settings", result=result)
    return Finding(verdict="well", what="settings", result=result)


def _home(home: Home) -> Finding:
    place = next(path for path in (home.path, *home.path.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        result = f"{place} cannot be written to; choose another with --home"
        return Finding(verdict="bad", what="home", result=result)
    return Finding(verdict="well", what="home", result=f"{home.path} can be written to")


def _disk(home: Home) -> Finding:
    place = next(path for path in (home.path, *home.path.parents) if path.exists())
    free_mib = shutil.disk_usage(place).free // 1024**2
    verdict: Literal["well", "bad"] = "well" if free_mib >= DISK_LEAST_MIB else "bad"
    advice = "" if verdict == "well" else f"; make it {DISK_LEAST_MIB} MiB at least"
    return Finding(verdict=verdict, what="disk", result=f"{free_mib} MiB free{advice}")


def _share() -> Finding:
    there, ours = os.cpu_count() or 1, ControlGroup.of().memory()
    result = f"{cores()} of {there} processors may be used"
    if ours is not None:
        result += f", and {ours.limit // 1024**2} MiB of memory, as the control group has it"
    return Finding(verdict="well", what="machine", result=result)


def _state(home: Home) -> Finding:
    if not home.state.exists():
        return Finding(verdict="note", what="state", result="none yet: this is the first day")
    memory, trouble = Store(home.state).peek()
    if memory is None or trouble:
        return Finding(verdict="bad", what="state", result="; ".join(trouble))
    result = f"readable: {memory.boots_total} boots, {memory.decisions} decisions"
    return Finding(verdict="well", what="state", result=result)


def _leftovers(home: Home, moment: Moment) -> Finding:
    if home.holder() is not None:
        result = "none to look for: a supervisor runs and minds its own"
        return Finding(verdict="well", what="leftovers", result=result)
    memory, _ = Store(home.state).peek()
    runs = memory.runs if memory is not None else ()
    seen = LocalRunner(home.runs, moment.boot_id).look(runs)
    left = sorted(run_id for run_id, one in seen.items() if one.process or one.leftovers)
    if left:
        result = f"{', '.join(left)} still live; the next start takes them over"
        return Finding(verdict="note", what="leftovers", result=result)
    return Finding(verdict="well", what="leftovers", result="no trainer lives without a supervisor")


def _gpus(config: Config | str) -> Finding:
    reader = Gpus(timeout_s=GPU_TIMEOUT_S)
    try:
        answer = reader.read_now()
    finally:
        reader.close()
    if answer.trouble is not None:
        return Finding(verdict="bad", what="gpu", result=answer.trouble)
    names = ", ".join(f"{gpu.name or 'GPU'} ({gpu.memory_total_mib} MiB)" for gpu in answer.gpus)
    names = names or "none: training runs on the processor"
    problem = None if isinstance(config, str) else _lacking_gpus(config, answer.gpus)
    if problem is not None:
        return Finding(verdict="bad", what="gpu", result=f"{names}; {problem}")
    return Finding(verdict="well" if answer.gpus else "note", what="gpu", result=names)


def _lacking_gpus(config: Config, gpus: Sequence[GpuReadings]) -> str | None:
    """Which GPUs the settings or a mode ask for that there are not; None: there are all."""
    named = config.settings.gpus
    uuids = [gpu.uuid for gpu in gpus if gpu.uuid is not None]
    for name in named or ():
        if name.startswith("GPU-") and not any(uuid.startswith(name) for uuid in uuids):
            return f"gpus names {name}, and this machine has {', '.join(uuids) or 'none by name'}"
    count = len(uuids) if named is None else len(named)
    for mode in config.ladder:
        if (mode.gpus or 0) > count:
            return f"{mode.name} gives each run {mode.gpus} GPUs for itself, and there are {count}"
    return None


def _trainers(config: Config | str, home: Home) -> Finding:
    if isinstance(config, str):
        return Finding(verdict="note", what="trainers", result="not checked without settings")
    service = of_service() if home.path == SYSTEM_HOME else None
    problems, remarks = check_options(config, home, config.campaign, service)
    if problems:
        return Finding(verdict="bad", what="trainers", result="; ".join(problems))
    if remarks:
        return Finding(verdict="note", what="trainers", result="; ".join(remarks))
    return Finding(verdict="well", what="trainers", result="every run of the campaign can start")


def _tuning(home: Home) -> Finding:
    try:
        found = "; ".join(tuning.described(tuning.known(home.tuning)))
    except NewerFile as error:
        return Finding(verdict="note", what="tuning", result=str(error))
    result = found or "every trainer's default; `supervisor tune` looks for what is quicker here"
    return Finding(verdict="well", what="tuning", result=result)


def _samples(home: Home, config: Config | str, moment: Moment) -> Finding:
    wanted = Samples() if isinstance(config, str) else config.settings.samples
    try:
        newest = samples.newest(home.samples)
    except NewerFile as error:
        return Finding(verdict="bad", what="samples", result=str(error))
    if not wanted.enabled:
        result = "the machine is not sampled, as [samples] has it"
        return Finding(verdict="well", what="samples", result=result)
    runs = home.holder() is not None
    if newest is None:
        result = f"none yet; a supervisor that runs takes one each {wanted.idle_s:g} s at least"
        return Finding(verdict="note", what="samples", result=result)
    same = newest.boot_id == moment.boot_id
    now_s, at_s = (moment.monotonic_s, newest.monotonic_s) if same else (moment.wall, newest.at)
    taken_mib = sum(path.stat().st_size for path in home.samples.glob("*")) / 2**20
    result = f"the newest is {span(max(0.0, now_s - at_s))} old; {taken_mib:.0f} MiB are kept"
    if runs and now_s - at_s > SAMPLES_LATE * wanted.idle_s:
        result += "; a supervisor runs and writes none: see samples.stopped in `decisions`"
        return Finding(verdict="bad", what="samples", result=result)
    return Finding(verdict="well", what="samples", result=result)


def _jobs(home: Home, config: Config | str, moment: Moment) -> Finding:
    """Whether the job store serves, and how old its newest backup is; nothing is made."""
    if isinstance(config, str):
        return Finding(verdict="note", what="jobs", result="not checked without settings")
    try:
        from supervisor.jobs import keeping, opened  # noqa: PLC0415 - SQLAlchemy is heavy, and an extra
    except ModuleNotFoundError:
        result = "none are taken in: pip install 'training-supervisor[jobs]' for that"
        return Finding(verdict="well", what="jobs", result=result)
    try:
        with keeping.Keeping(config.settings.jobs, home.path, config.here, dict(os.environ)) as one:
            found = one.standing()
    except opened.NoJobs as error:
        return Finding(verdict="well", what="jobs", result=str(error))
    except SupervisorError as error:
        return Finding(verdict="bad", what="jobs", result=str(error))
    result = f"{found.jobs} in {found.shown}"
    if found.backup_at is None:
        result += ", of which there is no backup in the home: `supervisor jobs backup`"
        return Finding(verdict="note", what="jobs", result=result)
    age_s = max(0.0, moment.wall - found.backup_at)
    result += f"; the newest backup is {span(age_s)} old"
    verdict: Literal["well", "note"] = "note" if age_s > BACKUP_OLD_S else "well"
    return Finding(verdict=verdict, what="jobs", result=result)


def _api(home: Home) -> Iterator[Finding]:
    """Whether page and API answer, where they are installed or somebody serves them."""
    units = of_home(home.path)
    by_systemd = units.have(serving.API, "service")
    installed = by_systemd or cron.serves_api(home.path) or profile.serves_api(home.path)
    one = api.served(home)
    if one is not None and (one.url or one.page):
        if one.page is not None:
            yield Finding(verdict="well", what="page", result=f"it is at {one.page}")
        if one.url is not None:
            yield Finding(verdict="well", what="api", result=f"jobs are taken in at {one.url}")
    elif one is not None:
        yield Finding(verdict="note", what="api", result="it starts, and does not answer yet")
    elif installed:
        name = unit(serving.API, "service")
        log = f"journalctl {'--user ' if units.of_user else ''}-u {name}"
        why = f"look with `{log if by_systemd else f'cat {home.api / api.LOG}'}`"
        if (package := api.page_lacks()) is not None:
            why = f"{package} is missing: pip install 'training-supervisor[jobs]'"
        result = f"it is installed to start at boot, and does not run: {why}"
        yield Finding(verdict="bad", what="api", result=result)


def _recipients(config: Config) -> Iterator[Finding]:
    """Whether each address of [notify] can be told anything, as far as that is known unasked."""
    wanted = config.settings.notify
    troubles = tuple(recipients.troubles(wanted))
    yield from (Finding(verdict="bad", what="notify", result=trouble) for trouble in troubles)
    if wanted.urls and not troubles:
        count = f"{len(wanted.urls)} address{'es' if len(wanted.urls) > 1 else ''}"
        result = f"lines go to {count}; `supervisor notify-test` sends something"
        yield Finding(verdict="well", what="notify", result=result)


def _notify(config: Config | str) -> Finding:
    command = () if isinstance(config, str) else config.settings.notify.when_done
    if not command:
        result = "no command is run when the campaign is done"
        return Finding(verdict="well", what="notify", result=result)
    if shutil.which(command[0]) is None:
        result = f"when the campaign is done, {command[0]} is to be run, which is not found here"
        return Finding(verdict="bad", what="notify", result=result)
    result = f"when the campaign is done, {command[0]} is run"
    return Finding(verdict="well", what="notify", result=result)


def _quiet(home: Home, config: Config, moment: Moment) -> Iterator[Finding]:
    """What is known of the quiet hours, and whether each source can be asked; nothing is kept."""
    asked = config.settings.quiet_hours
    if asked is None:
        return
    known, trouble = windows.known(home.windows)
    why = quiet_hours.unusable(asked, known, moment.wall) if trouble is None else trouble
    if known is None or trouble is not None or why is not None:
        new = known is None and trouble is None
        yield Finding(verdict="note" if new else "bad", what="quiet hours", result=str(why))
    else:
        late = quiet_hours.is_late(asked, known, moment.wall)
        age = span(max(0.0, moment.wall - known.made_at))
        result = f"{len(known.windows)} windows a week, learnt {age} ago"
        result += "; a newer analysis should be there: the sources below say why" if late else ""
        yield Finding(verdict="note" if late else "well", what="quiet hours", result=result)
    zone = asked.zone or zone_name()
    for name, source in asked.sources.items():
        yield _source(
            name, msgspec.structs.replace(asked, sources={name: source}), zone, home, moment
        )


def _source(name: str, asked: QuietHours, zone: str, home: Home, moment: Moment) -> Finding:
    """Whether a source answers, within its own deadlines."""
    from supervisor.usage import gathering, machine, ring, sources  # noqa: PLC0415 - only where asked

    source = asked.sources[name]
    found: sources.Told | str
    if source.kind == "online":
        try:
            found = sources.look(source, home.path, os.environ, moment.wall)
        except sources.SourceTrouble as error:
            found = str(error)
    else:
        load = machine.history(home.samples, machine_id())
        kept = ring.Ring(home.usage)
        found = gathering.gather(asked, zone, kept, home.path, moment.wall, load)[name]
    if isinstance(found, str):
        # What a person has not asked for, or only the service can see, is not broken.
        open_ = source.kind in ("machine", "last_login") or source.password_credential is not None
        return Finding(verdict="note" if open_ else "bad", what="usage", result=f"{name}: {found}")
    if source.kind == "online":
        result = f"{name}: answers, {found.series[0].points[0].value:g} are online"
    else:
        result = f"{name}: answers, {found.rows} rows in {asked.history_days} days"
    if source.password_file is not None:
        result += "; its password's file is closed to others"
    return Finding(verdict="well" if found.rows else "note", what="usage", result=result)


def _timers(home: Home, config: Config) -> Iterator[Finding]:
    """Whether usage is learnt by timers, when they ran, and how that ended; none is started."""
    asked = config.settings.quiet_hours
    if asked is None:
        return
    known = timers.look(home.path)
    for one in known:
        failed = one.result not in (None, "success", "running")
        stands = one.runs is False or not one.enabled
        doubt = stands or one.runs is None or failed or one.exit_code not in (None, 0)
        verdict: Literal["note", "bad"] = "bad" if failed and one.result != "again" else "note"
        result = f"{one.command}: {one.words}"
        yield Finding(verdict=verdict if doubt else "well", what="timer", result=result)
    if known:
        return
    by_cron = cron.learns(home.path)
    for command, at in by_cron.items():
        result = f"{command}: cron has it at `{at}`, and does not tell how it ended"
        yield Finding(verdict="well", what="timer", result=result)
    if by_cron:
        return
    unasked = any(source.kind == "online" for source in asked.sources.values())
    result = "none; a supervisor that runs has usage analysed by itself"
    if unasked:
        result += ", and nobody asks who is online: `supervisor install --with usage`"
    yield Finding(verdict="note" if unasked else "well", what="timer", result=result)


def _guard(home: Home, config: Config) -> Iterator[Finding]:
    """Whether what others use can be told from what we use."""
    limits = config.settings.guard_in_force
    if limits is None:
        return
    reader = Gpus(timeout_s=GPU_TIMEOUT_S)
    try:
        gpus = reader.read_now().gpus
    finally:
        reader.close()
    memory, _ = Store(home.state).peek()
    seen = glance(() if memory is None else trainers(memory), gpus, limits)
    told, dark = [], []
    for what, value in (
        ("processors", seen.cpu_other),
        ("memory", seen.memory_other),
        *(
            (f"GPU {key}", seen.gpu_memory_other_mib.get(key))
            for key in (gpu.uuid or str(gpu.index) for gpu in gpus)
        ),
    ):
        told += [] if value is None else [what]
        dark += [what] if value is None else []
    result = f"others are told from us on {', '.join(told) or 'nothing'}"
    result += f"; on {', '.join(dark)} nobody knows, so that counts for nothing" if dark else ""
    result += f"; {_alarm() if seen.psi_cpu is not None else 'this kernel tells no stalls'}"
    grouped = AUTOGROUP.is_file() and AUTOGROUP.read_text(encoding="ascii").strip() == "1"
    result += "; the kernel groups sessions, and ours yield, too" if grouped else "; niceness alone"
    verdict: Literal["well", "note", "bad"] = "note" if dark else "well"
    blind = seen.cpu_other is None and seen.memory_other is None
    yield Finding(verdict="bad" if blind else verdict, what="guard", result=result)
    held, lost = check_guard(config, home)
    yield from (Finding(verdict="bad", what="guard", result=result) for result in held)
    yield from (Finding(verdict="note", what="guard", result=result) for result in lost)
    for name, percent in seen.psi_cpu_protected.items():
        of_memory = seen.psi_memory_protected.get(name)
        result = f"{name}: it waits {percent:.0f} % of the time for a processor"
        result += "" if of_memory is None else f", {of_memory:.0f} % for memory"
        yield Finding(verdict="well", what="guard", result=result)
    if limits.probe is not None:
        yield _probe(limits.probe, limits.latency_p95_ms)


def _alarm() -> str:
    """What the kernel does for whoever asks where something waits for a processor."""
    alarm = Alarm()
    within_s = alarm.set()
    alarm.clear()
    if within_s is None:
        return "stalls are told, but end no nap"
    return f"stalls are told, and within {within_s:g} s they end a nap"


def _probe(asked: str | tuple[str, ...], limit_ms: float) -> Finding:
    """Whether the service that is probed answers; it may be down for good reasons."""
    from supervisor.helpers.probe import measure  # noqa: PLC0415 - only where it is asked for

    answer = measure(asked)
    if answer.latency_ms is None:
        result = f"the service that is probed does not answer: {answer.trouble}"
        return Finding(verdict="note", what="guard", result=f"{result}, so that counts for nothing")
    result = f"the service that is probed answers in {answer.latency_ms:.0f} ms"
    slow = answer.latency_ms > limit_ms
    result = f"{result} (at most {limit_ms:g})"
    return Finding(verdict="note" if slow else "well", what="guard", result=result)


def _clock_of(moment: Moment) -> Callable[[], Finding]:
    def check() -> Finding:
        if moment.wall < 1_600_000_000:
            result = "the clock is wrong; decisions do not mind, dates in the logs do"
            return Finding(verdict="note", what="clock", result=result)
        return Finding(verdict="well", what="clock", result="plausible")

    return check
