"""Jobs: handed in, looked at, changed and fetched, at the store itself; no server is needed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from supervisor.commands import Adding, adding
from supervisor.commands.asking import agreed, put
from supervisor.commands.telling import print_output
from supervisor.context import Context, Refused, print_json, whole_number
from supervisor.core.job_settings import Jobs
from supervisor.core.moments import since, stamp
from supervisor.errors import SupervisorError
from supervisor.programs import find_trainers_in
from supervisor.terminal import printable

if TYPE_CHECKING:
    from state.jobs.records import Job
    from supervisor.jobs.desk import Desk
    from supervisor.jobs.keeping import Keeping

PLACE = 60
RANKS = ("critical", "high", "normal", "low")
STATUSES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
BODY_MAX_BYTES = 2**20 + 1
"""of a body as much as shows that it is too long"""
PACKAGES = ("sqlalchemy", "alembic")
"""of the extra, without which there is no store"""
EXAMPLES = """\
examples:
  supervisor jobs submit job.json          hand in what job.json asks for
  supervisor jobs list                     which there are, newest first
  supervisor jobs logs 3f2a -f             what one prints, until it has ended
  supervisor jobs show 3f2a                how good it is, and where it stands
  supervisor jobs fetch 3f2a -o model      its model and all that belongs to it

A job is called by its id, or by how that begins. What is handed in is the body of POST
/ai/training/jobs, and is judged by the same code; docs/jobs.md tells all of it.
"""


class NoStore(SupervisorError):
    """What the job store needs is not installed."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is missing: pip install 'training-supervisor[jobs]'")


class NoBody(SupervisorError):
    """The file that was named cannot be read."""

    exit_code = 2

    def __init__(self, file: str, error: OSError) -> None:
        super().__init__(f"{file}: {error.strerror}")


def add(command: Adding) -> None:
    """Add these commands."""
    group = command(
        "jobs",
        _help,
        "jobs of people and programs: submit, list, show, logs, cancel, fetch and more",
        more="They are kept in the job store, a file of the home unless [jobs] names a database, "
        "and no server is needed for any of this.",
    )
    group.epilog, group.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    group.set_defaults(group=group)
    below = adding(group.add_subparsers(title="commands", metavar="WHAT", dest="what"))
    _add_asking(below)
    _add_telling(below)
    _add_keeping(below)
    sub = command("models", _models, "the models that jobs have left, version by version", "json")
    sub.add_argument("model", metavar="MODEL", nargs="?", help="only those of that name")
    _add_tenant(sub)


def _add_asking(below: Adding) -> None:
    """Add the commands that ask for something."""
    sub = below(
        "submit",
        _submit,
        "hand in a job",
        "json",
        more="It is durable once its id is printed. What can never work is refused with all that "
        "is wrong, and exit code 2.",
    )
    _add_body(sub)
    sub = below(
        "validate",
        _validate,
        "tell what would become of a job, and look at its rows",
        "json",
        more="Nothing is kept. Exit code 2 says that it can never work.",
    )
    _add_body(sub)
    below(
        "cancel",
        _cancel,
        "end a job for good",
        "job",
        "json",
        more="At once where nothing of it lives; else it saves first. Its checkpoints stay.",
    )
    below(
        "retry",
        _retry,
        "try a job again that FAILED or was CANCELLED, with all its attempts",
        "job",
        "json",
    )
    sub = below(
        "priority",
        _priority,
        "have a job in another class of priority",
        "job",
        "json",
        more="A higher class goes before a lower one, and has its slots: who loses one has saved "
        "before.",
    )
    sub.add_argument("priority", metavar="CLASS", choices=RANKS, help=", ".join(RANKS))


def _add_telling(below: Adding) -> None:
    """Add the commands that tell."""
    sub = below("list", _list, "jobs, newest first", "json")
    sub.add_argument(
        "--status",
        metavar="STATUS",
        type=str.upper,
        choices=STATUSES,
        action="append",
        default=[],
        help=f"only of that one of {', '.join(STATUSES)}; may be repeated",
    )
    sub.add_argument(
        "--priority",
        metavar="CLASS",
        choices=RANKS,
        action="append",
        default=[],
        help=f"only of that one of {', '.join(RANKS)}; may be repeated",
    )
    sub.add_argument(
        "--since",
        metavar="TIME",
        help="only those that came from then on: an ISO time (local where it names no zone), or "
        "an age such as 90s, 15min, 6h, 2d",
    )
    sub.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=lambda text: whole_number(text, most=10_000),
        default=20,
        help="how many (20)",
    )
    _add_tenant(sub)
    below("show", _show, "where a job stands, and what became of its attempts", "job", "json")
    below(
        "why",
        _why,
        "why a job waits, each reason with its number",
        "job",
        "json",
        more="As `GET /ai/training/jobs/JOB/why` tells it; without a reason it does not wait.",
    )
    below(
        "logs",
        _logs,
        "what the trainer of a job prints",
        "job",
        "lines",
        "chosen",
        more="With -f over all its attempts until it has ended; then exit code 1 says that it is "
        "not COMPLETED.",
    )
    below("schedules", _schedules, "jobs that come again, and when they come next", "json")


def _add_keeping(below: Adding) -> None:
    """Add the commands about what is kept."""
    sub = below(
        "fetch",
        _fetch,
        "copy the model of a COMPLETED job, and all that it has left beside it",
        "job",
        "json",
        more="Each file is checked by its hash, and the folder appears whole or not at all.",
    )
    sub.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        type=Path,
        help="a folder that is not there yet (default: the id of the job)",
    )
    sub = below(
        "backup",
        _backup,
        "write the whole job store into a file, while it is used",
        more="Models and checkpoints are not in it: they lie in the folder runs/ of the home.",
    )
    sub.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="default: backups/ of the home, by time"
    )
    sub = below(
        "restore",
        _restore,
        "put a backup in the place of all that the job store holds",
        more="In one transaction, while all runs on: what homes say that have claimed a job is "
        "compared with it afterwards.",
    )
    sub.add_argument("file", metavar="FILE", type=Path, help="what `jobs backup` has written")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub = below(
        "prune",
        _prune,
        "clear away what the settings keep no longer of jobs that have ended",
        "json",
        more="keep_days and keep_gib of [jobs] say how long folders stay of jobs that have left no "
        "model, and `keep` of a tenant how many versions of its models stay. One that is served "
        "stays always, and what is known of a job stays, too. Whatever dispatches does the same "
        "each hour, and where the disk has too little room.",
    )
    sub.add_argument("--dry-run", action="store_true", help="tell what would go, and why")
    # As what dispatches starts it.
    sub.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    sub = below(
        "take-over",
        _take_over,
        "have this home begin a job anew that a home has which is gone",
        "job",
        "json",
        more="What is saved of it lies on the other machine, and that may write nothing of it any "
        "more. A machine that is only off for a while goes on with its jobs by itself.",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub = below(
        "withdraw",
        _withdraw,
        "let runs of this home go that are from another job store, saved",
        more="For whoever has given the home another store for good: the dispatcher hands no job "
        "over before. Where that was a mistake, set database_url back instead, and all goes on.",
    )
    sub.add_argument("--yes", action="store_true", help="do not ask")
    below("migrate", _migrate, "make the job store, or bring an older one up to this version")


def _add_body(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "file", metavar="FILE", help="the body of POST /jobs, as JSON; -: the standard input"
    )
    sub.add_argument(
        "--tenant", metavar="NAME", help="for whom, whatever `tenant_id` of the body says"
    )


def _add_tenant(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--tenant", metavar="NAME", help="only those of that tenant")


def _help(context: Context) -> int:
    context.options.group.print_help()
    return 2


def _submit(context: Context) -> int:
    content = _body(context.options.file)
    context.home.make()
    with _desk(context) as desk:
        taken = desk.submit(content, context.options.tenant, context.now().wall)
    for warned in taken.warnings:
        print(f"supervisor: {warned.field}: {warned.message}", file=sys.stderr)
    return _say(context, desk, taken.job, taken.job.job_id)


def _validate(context: Context) -> int:
    content = _body(context.options.file)
    with _desk(context) as desk:
        found = desk.validate(content, context.options.tenant, context.now().wall)
    if context.options.json:
        print_json(found)
    else:
        from supervisor import job_screen  # noqa: PLC0415 - other commands stay quick

        print(job_screen.validated(found))
    return 0 if found.valid else 2


def _cancel(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.cancel(context.options.job)
    waits = "" if job.ended else ": its home saves it first, and has until then"
    became = "is cancelled" if job.ended else "is to end"
    return _say(context, desk, job, f"job {job.job_id} {became}{waits}")


def _retry(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.retry(context.options.job, context.now().wall)
    return _say(context, desk, job, f"job {job.job_id} waits for its first attempt again")


def _priority(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.prefer(context.options.job, context.options.priority)
    return _say(context, desk, job, f"job {job.job_id} has priority {job.asked.priority}")


def _list(context: Context) -> int:
    options, now = context.options, context.now().wall
    try:
        since_at = None if options.since is None else since(options.since, now)
    except ValueError as error:
        raise Refused(str(error)) from error
    with _desk(context) as desk:
        from state.jobs.records import Which  # noqa: PLC0415 - other commands stay quick

        which = Which(
            tenant_id=options.tenant,
            status=tuple(options.status),
            priority=tuple(options.priority),
            created_after=since_at,
        )
        page = desk.find(which, options.lines)
    from supervisor import job_screen  # noqa: PLC0415 - as above

    if options.json:
        jobs = [_told(job, desk.stale_s) for job in page.jobs]
        print_json({"jobs": jobs, "total": page.total, "next": page.next})
    elif page.jobs:
        print(job_screen.jobs(page, desk.stale_s))
    else:
        print("no jobs")
    return 0


def _show(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.job(context.options.job)
        attempts = desk.attempts(job)
    from supervisor import job_screen  # noqa: PLC0415 - other commands stay quick

    text = job_screen.job(job, attempts, desk.stale_s)
    return _say(context, desk, job, text)


def _why(context: Context) -> int:
    with _desk(context) as desk:
        waiting = desk.why(context.options.job, context.kept_config.settings)
    from supervisor import job_screen  # noqa: PLC0415 - other commands stay quick

    if context.options.json:
        print_json(waiting)
    else:
        print(job_screen.waiting(waiting))
    return 0


def _logs(context: Context) -> int:
    options = context.options
    with _desk(context) as desk:
        job = desk.job(options.job)
        run = context.home.run(job.job_id)
        if not run.output.exists() and (job.ended or not options.follow):
            raise desk.missing(job, "lines")
        print_output(context, run.output, lambda: desk.has_ended(job.job_id))
        if not options.follow:
            return 0
        job = desk.job(job.job_id)
    print(f"supervisor: job {job.job_id} is {job.became.status}", file=sys.stderr)
    return 0 if job.became.status == "COMPLETED" else 1


def _schedules(context: Context) -> int:
    now = context.now().wall
    with _desk(context) as desk:
        coming = desk.schedules(now)
    from supervisor import job_screen  # noqa: PLC0415 - other commands stay quick

    if context.options.json:
        print_json(
            [
                {
                    "job_id": one.job.job_id,
                    "tenant_id": one.job.asked.tenant_id,
                    "schedule": one.job.asked.schedule,
                    "fired_at": None if one.fired_at is None else stamp(one.fired_at),
                    "next_at": None if one.next_at is None else stamp(one.next_at),
                }
                for one in coming
            ]
        )
    else:
        print(job_screen.schedules(coming, now) if coming else "no schedules")
    return 0


def _fetch(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.job(context.options.job)
        target = context.options.out or Path(job.job_id)
        names = desk.fetch(job, context.home.run(job.job_id).path, target)
    if context.options.json:
        print_json({"folder": str(target), "files": names})
    else:
        print(f"{target}: {', '.join(names)}")
    return 0


def _backup(context: Context) -> int:
    with _keeping(context) as kept:
        print(kept.back_up(context.options.file, context.now().wall))
    return 0


def _restore(context: Context) -> int:
    file = context.options.file
    with _keeping(context) as kept:
        question = f"Put {file} in the place of all jobs in {kept.shown}? [y/N] "
        agreed(context, question, "all jobs would be those of the backup")
        context.home.make()
        kept.restore(file)
        print(f"{kept.shown} holds what {file} has")
    return 0


def _prune(context: Context) -> int:
    options = context.options
    with _keeping(context) as kept:
        found = kept.clearing(context.now().wall)
        if not options.dry_run:
            found = kept.clear(found)
    freed = sum(one.folder.size_bytes for one in found.going)
    if options.json:
        going = [
            {"job_id": one.folder.job_id, "bytes": one.folder.size_bytes, "why": one.why}
            for one in found.going
        ]
        thinned = [one.job_id for one in found.thinning]
        print_json({"dry_run": options.dry_run, "bytes": freed, "jobs": going, "thinned": thinned})
        return 0
    for one in found.going:
        print(f"{one.folder.job_id}  {printable(one.why)}")
    for folder in found.thinning:
        print(f"{folder.job_id}  it is COMPLETED: of its checkpoints the newest and the best stay")
    would = "would go" if options.dry_run else "are gone"
    if found.going or not options.quiet:
        print(f"folders that {would}: {len(found.going)}, with {freed / 2**20:.0f} MiB")
    return 0


def _take_over(context: Context) -> int:
    with _desk(context) as desk:
        job = desk.forsaken(context.options.job)
        where = "" if job.claim is None else f", and leave what the home {job.claim.home} has saved"
        question = f"Begin job {job.job_id} anew here{where}? [y/N] "
        agreed(context, question, "all that was learnt of it elsewhere would be lost")
        taken = desk.take_over(job)
    return _say(context, desk, taken, f"job {job.job_id} is this home's, and begins anew")


def _withdraw(context: Context) -> int:
    with _desk(context) as desk:
        runs = desk.foreign()
        shown = desk.shown
    if not runs:
        print(f"no run here is from another job store than {shown}")
        return 0
    question = f"Let {len(runs)} runs go that are not from {shown}, saved? [y/N] "
    agreed(context, question, "runs of another job store would leave")
    for run in runs:
        print(put(context, "withdraw", run=run.id, token=run.asked.token).reason)
    return 0


def _migrate(context: Context) -> int:
    context.home.make()
    with _keeping(context) as kept:
        from state.jobs.tables import REVISION  # noqa: PLC0415 - other commands stay quick

        before = kept.migrate()
        came = {None: "is made", REVISION: "is as it was"}.get(before, f"had revision {before}")
        print(f"{kept.shown} {came}: revision {REVISION}")
    return 0


def _models(context: Context) -> int:
    with _desk(context) as desk:
        found = desk.models(context.options.tenant, context.options.model)
    from supervisor import job_screen  # noqa: PLC0415 - other commands stay quick
    from supervisor.jobs.telling import told_of_model  # noqa: PLC0415 - as above

    if context.options.json:
        print_json({"models": [told_of_model(one) for one in found]})
    else:
        print(job_screen.models(found) if found else "no models")
    return 0


def _desk(context: Context) -> Desk:
    """Where jobs of the home are handed in and asked about.

    Raises:
        NoStore: what the store needs is not installed.
        Unusable: the store's address is none.
    """
    with _packages():
        from supervisor.jobs.desk import Desk  # noqa: PLC0415 - SQLAlchemy is heavy
    return Desk(*_place(context))


def _keeping(context: Context) -> Keeping:
    """Where what is kept of them is seen to; raises as `_desk`."""
    with _packages():
        from supervisor.jobs.keeping import Keeping  # noqa: PLC0415 - as above
    return Keeping(*_place(context))


@contextmanager
def _packages() -> Iterator[None]:
    """What is imported in here needs the extra.

    Raises:
        NoStore: a package of it is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise NoStore(error.name) from error


def _place(context: Context) -> tuple[Jobs, Path, Path, dict[str, str]]:
    """What says where the jobs of the home are."""
    config = context.kept_config
    find_trainers_in(config.trainers_dir)
    return config.settings.jobs, context.home.path, config.here, dict(os.environ)


def _body(file: str) -> bytes:
    """What is handed in.

    Raises:
        NoBody: the file cannot be read.
    """
    try:
        if file == "-":
            return sys.stdin.buffer.read(BODY_MAX_BYTES)
        with Path(file).expanduser().open("rb") as opened:
            return opened.read(BODY_MAX_BYTES)
    except OSError as error:
        raise NoBody(file, error) from error


def _told(job: Job, stale_s: float) -> msgspec.Struct:
    """A job as the API tells it."""
    from supervisor.jobs.telling import told  # noqa: PLC0415 - other commands stay quick

    return told(job, stale_s=stale_s)


def _say(context: Context, desk: Desk, job: Job, text: str) -> int:
    if context.options.json:
        print_json(_told(job, desk.stale_s))
    else:
        print(text)
    return 0
