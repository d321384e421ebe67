"""What the settings say of jobs, as whoever takes them in or hands them over needs it."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

import msgspec
import sqlalchemy as sa

from state.jobs.database import BadUrl, url_of_home
from state.jobs.records import Job, TenantUsage
from supervisor.core.fairness import DAY_S, HALF_LIFE_S, SIZE_S, Account, Quota
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.errors import SupervisorError
from supervisor.jobs.tenants import Database, Tenant
from supervisor.usage.passwords import Kept, NoPassword
from trainers.contract import Name

TABLES = "tables"
"""the folder of a home in which tenants have theirs"""
TOKEN_MIN_CHARS = 16
"""a shorter token could be guessed"""
GIB = 1024**3
DEFAULT = JobTenant()
"""what a tenant has that no settings name"""


class NoSecret(SupervisorError):
    """A token, or the password of the store, is not where the settings say."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")


class SharedTables(SupervisorError):
    """Two tenants could read each other's tables."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, one: Name, other: Name, folder: Path) -> None:
        super().__init__(
            f"jobs.tenants.{one}: its tables lie in {folder}, among those of {other}: give each a "
            "folder that is in none of another"
        )


def tenant_of(jobs: Jobs, name: Name, home: Path, here: Path) -> Tenant:
    """A tenant, whether the settings name it or not.

    Args:
        jobs: the settings.
        name: of the tenant.
        home: the folder of the home.
        here: the folder that a relative path of the settings begins at.
    """
    asked = jobs.tenants.get(name, DEFAULT)
    tables = home / TABLES / name
    if asked.tables is not None:
        tables = here / os.path.expanduser(asked.tables)  # noqa: PTH111 - raises for no ~somebody
    database = None
    if jobs.tables_url is not None:
        database = Database(url=jobs.tables_url, column=jobs.tables_tenant_column)
    return Tenant(id=name, tables=tables.absolute(), database=database, programs=asked.programs)


def tenants_of(jobs: Jobs, home: Path, here: Path) -> dict[Name, Tenant]:
    """The tenants that the settings name.

    Raises:
        SharedTables: the tables of one lie among those of another.
    """
    found = {name: tenant_of(jobs, name, home, here) for name in sorted(jobs.tenants)}
    shared = _led_to(home / TABLES)
    for name, one in found.items():
        folder = _led_to(one.tables)
        for other in found.values():
            if other is not one and folder.is_relative_to(_led_to(other.tables)):
                raise SharedTables(name, other.id, folder)
        own = jobs.tenants[name].tables is not None
        if own and (shared.is_relative_to(folder) or folder.is_relative_to(shared)):
            raise SharedTables(name, "tenants that the settings do not name", folder)
    return found


def _led_to(folder: Path) -> Path:
    """Where a folder is, as far as its links lead; unlike `Path.resolve` of one that never ends."""
    return Path(os.path.realpath(folder))


def quotas_of(jobs: Jobs) -> dict[Name, Quota]:
    """What the tenants may have that the settings name; all others have no bounds."""
    return {
        name: Quota(
            weight=asked.weight,
            concurrent=asked.concurrent,
            cpu_hours_per_day=asked.cpu_hours_a_day,
            queued=asked.queued,
            stored_bytes=None if asked.gib is None else int(asked.gib * GIB),
        )
        for name, asked in jobs.tenants.items()
    }


class Sizes(msgspec.Struct, frozen=True):
    """How many processor seconds a job uses, from those that have ended of late."""

    tenants: Mapping[Name, float] = {}
    others: float = SIZE_S

    def of(self, tenant: Name) -> float:
        """A job of that tenant, whether one of its own has ended or not."""
        return self.tenants.get(tenant, self.others)


UNMEASURED = Sizes()


def sizes_of(done: Iterable[Job]) -> Sizes:
    """What the jobs of each tenant have used, those that are done, on an average."""
    used: defaultdict[Name, list[float]] = defaultdict(list)
    for job in done:
        used[job.asked.tenant_id].append(job.became.used_s)
    tenants = {tenant: fmean(each) for tenant, each in used.items()}
    return Sizes(tenants, fmean(tenants.values()) if tenants else SIZE_S)


def account_of(usage: TenantUsage, now_at: float, sizes: Sizes = UNMEASURED) -> Account:
    """What a tenant has had, as fairness counts it.

    Args:
        usage: what the store has counted.
        now_at: of the clock that has written its times.
        sizes: of jobs.
    """
    day_at = math.floor(now_at / DAY_S) * DAY_S
    faded_s = sum(
        used_s * math.exp2(-max(0.0, now_at - at) / HALF_LIFE_S) for at, used_s in usage.hours
    )
    return Account(
        used_s=faded_s,
        used_at=now_at,
        running=usage.claimed,
        committed_s=sizes.of(usage.tenant_id) * usage.claimed,
        given_at=usage.claimed_at,
        cpu_s_today=sum(used_s for at, used_s in usage.hours if at >= day_at),
    )


def no_room(free_gib: float, least_gib: float) -> str:
    """How much room a disk has, beside what jobs want, in words."""
    return f"{free_gib:.2f} GiB of the disk are free, and min_free_gib is {least_gib:g}"


def store_url(jobs: Jobs, home: Path, here: Path, environment: Mapping[str, str]) -> str:
    """Where the job store is, with its password.

    Args:
        jobs: the settings.
        home: the folder of the home.
        here: the folder that a relative path of the settings begins at.
        environment: of this process.

    Raises:
        NoSecret: the password is not where the settings say.
        BadUrl: the address is none.
    """
    if jobs.database_url is None:
        return url_of_home(home)
    kept = Kept(
        jobs.database_password_file, jobs.database_password_env, jobs.database_password_credential
    )
    try:
        password = kept.read("database_password", here, environment)
    except NoPassword as error:
        raise NoSecret("jobs.database_password", str(error)) from None
    try:
        url = sa.make_url(jobs.database_url)
    except (sa.exc.ArgumentError, ValueError):
        raise BadUrl("it is no URL") from None
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(here / url.database))
    elif password is not None:
        url = url.set(password=password)
    return url.render_as_string(hide_password=False)


class Tokens:
    """The tokens of the settings, of which only hashes are kept.

    Args:
        jobs: the settings.
        here: the folder that a relative path of the settings begins at.
        environment: of this process.

    Raises:
        NoSecret: one is not where the settings say, or is no token.
    """

    def __init__(self, jobs: Jobs, here: Path, environment: Mapping[str, str]) -> None:
        self._known: dict[bytes, Name] = {}
        for name, asked in jobs.tenants.items():
            key = f"jobs.tenants.{name}"
            kept = Kept(asked.token_file, asked.token_env, asked.token_credential)
            try:
                token = kept.read("token", here, environment)
            except NoPassword as error:
                raise NoSecret(key, str(error)) from None
            if token is None:
                continue
            if len(token) < TOKEN_MIN_CHARS or not token.isascii() or not token.isprintable():
                raise NoSecret(
                    key,
                    f"its token is no text of {TOKEN_MIN_CHARS} characters or more, such as "
                    "`openssl rand -hex 32` makes",
                )
            other = self._known.setdefault(_hash(token), name)
            if other != name:
                raise NoSecret(key, f"its token is that of {other}, too")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and self._known == other._known

    def __hash__(self) -> int:
        return hash(frozenset(self._known.items()))

    def __len__(self) -> int:
        """How many there are: where there is one, each request bears one."""
        return len(self._known)

    def whose(self, token: str) -> Name | None:
        """The tenant that bears a token; None: nobody. It takes as long for each that is wrong."""
        given, found = _hash(token), None
        for known, name in self._known.items():
            if hmac.compare_digest(known, given):
                found = name
        return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
