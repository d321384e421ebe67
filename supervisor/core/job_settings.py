"""[jobs]: what is asked of jobs and of those they are for; pure.

The daemon heeds `min_run_s` alone. All the rest is for the processes beside it, which take jobs in
and hand them over.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from supervisor.core.web_settings import NO_ADDRESS, Address, is_address
from trainers.contract import Name

SERVERS = {"postgresql": "postgresql://user@host/database"}
"""how the address of a database of tables may begin, and how one looks"""
STORES = {**SERVERS, "sqlite": "sqlite:///PATH"}
"""the same of a store"""
ADDRESS = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<who>[^@/?#]*)@)?[^@/?#]*(?:/[^@?#]*)?(?:\?(?P<more>[^#]*))?"
)
PASSWORD = re.compile(r"(?i)(?:^|&)(?:ssl)?pass(?!file)")
"""an option of an address that is one, and not where one lies"""

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=8784)]
Gib = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]


class JobTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[jobs.tenants.NAME]: what a tenant may have and may ask for."""

    weight: Annotated[float, msgspec.Meta(ge=0.001, le=1000)] = 1.0
    """of what there is it has so many parts, where others want theirs"""
    programs: bool = False
    """whether it may have programs started: it then has all rights of this account"""
    token_file: Word | None = None
    """the file that holds its token, which its owner alone may read"""
    token_env: Word | None = None
    """the environment variable that holds it"""
    token_credential: Word | None = None
    """the credential of systemd that holds it"""
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """jobs at the daemon at once; unset: any number"""
    queued: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """jobs that wait; a further one is refused; unset: any number"""
    cpu_hours_a_day: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    """hours of processors that its jobs use on a day of UTC; unset: any number"""
    gib: Gib | None = None
    """what its models and folders may take; above that a further job is refused"""
    keep: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """versions of each model that are kept, the newest, and the one that is served; unset: all"""
    tables: Word | None = None
    """the folder of its tables; unset: `tables/NAME` in the home"""

    @property
    def has_token(self) -> bool:
        """Whether it bears one."""
        return any(self._ways)

    @property
    def _ways(self) -> tuple[str | None, ...]:
        return self.token_file, self.token_env, self.token_credential


class Jobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[jobs]: runs that were submitted, and are in no campaign."""

    enabled: bool = True
    """whether jobs are taken in and trained here"""
    min_run_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 600.0
    """how long a trainer of one is safe from a higher class after its start"""
    database_url: Word | None = None
    """where the job store is: `postgresql://user@host/database`, without a password, or
    `sqlite:///PATH`; unset: a file in the home"""
    database_password_file: Word | None = None
    """the file that holds the password of the store, which its owner alone may read"""
    database_password_env: Word | None = None
    """the environment variable that holds it"""
    database_password_credential: Word | None = None
    """the credential of systemd that holds it"""
    tables_url: Word | None = None
    """where tables lie that are no files in the folder of their tenant:
    `postgresql://user@host/database`, without a password; unset: nowhere"""
    tables_tenant_column: Word = "tenant_id"
    """the column of each of these tables that says whose a row is"""
    listen: Address | None = None
    """the old form of `listen` in [web]"""
    stale_s: Annotated[float, msgspec.Meta(ge=10, le=86_400)] = 120.0
    """after so long without news a job that runs is told to be stale"""
    take_over_after_h: Hours | None = None
    """hours without news after which another home begins a job anew; unset: never"""
    max_wait_h: Hours = 24.0
    """hours after which a tenant that has got nothing goes before everybody"""
    keep_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] = 30.0
    """how long the folder of a job stays that has ended and left no model"""
    keep_gib: Gib | None = None
    """what all such folders may take; the oldest make room; unset: whatever they take"""
    min_free_gib: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 1.0
    """with less room on the disk jobs wait, and what may go is cleared away at once"""
    require_if_match: bool = False
    """whether a change of a job has to say of which version"""
    tenants: dict[Name, JobTenant] = {}
    """what each tenant may have; one that is not here has the defaults"""

    @property
    def has_tokens(self) -> bool:
        """Whether every request has to bear a token."""
        return any(tenant.has_token for tenant in self.tenants.values())

    def __post_init__(self) -> None:
        # Whatever is wrong here may stand beside a password: no value is repeated.
        for problem in self._problems():
            raise ValueError(f"jobs.{problem}")

    def _problems(self) -> list[str]:
        found = []
        for key, url, kinds, instead in (
            ("database_url", self.database_url, STORES, "database_password_file"),
            ("tables_url", self.tables_url, SERVERS, "~/.pgpass of the account that trains"),
        ):
            if url is None:
                continue
            match = ADDRESS.fullmatch(url)
            if match is None or match["scheme"] not in kinds or not url.isprintable():
                such = " or ".join(kinds.values())
                found.append(f"{key} is no address such as {such}")
            elif ":" in (match["who"] or "") or PASSWORD.search(match["more"] or ""):
                found.append(f"{key} holds a password: use {instead}, and change that password")
        if self.listen is not None and not is_address(self.listen):
            found.append(NO_ADDRESS)
        ways = (
            self.database_password_file,
            self.database_password_env,
            self.database_password_credential,
        )
        if sum(way is not None for way in ways) > 1:
            found.append("database_password is said to be in more than one place")
        for name, tenant in self.tenants.items():
            if sum(way is not None for way in tenant._ways) > 1:
                found.append(f"tenants.{name}: its token is said to be in more than one place")
        return found
