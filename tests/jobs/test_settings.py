"""What the settings say of jobs: tenants, quotas, tokens, and where the store is."""

from __future__ import annotations

from pathlib import Path

import pytest

from modes.toml_file import InvalidFile, read_toml
from state.jobs.database import url_of_home
from state.jobs.records import TenantUsage
from supervisor.core.fairness import Quota
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.core.settings import Settings
from supervisor.jobs.settings import (
    NoSecret,
    SharedTables,
    Tokens,
    account_of,
    quotas_of,
    store_url,
    tenant_of,
    tenants_of,
)
from supervisor.jobs.tenants import Database

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def refused(tmp_path, text):
    """What is told of settings that are not usable."""
    path = tmp_path / "supervisor.toml"
    path.write_text(text)
    with pytest.raises(InvalidFile) as error:
        read_toml(path, Settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[jobs]\nlisten = '8000'", "jobs.listen"),
        ("[jobs]\nlisten = '127.0.0.1:70000'", "jobs.listen"),
        ("[jobs]\ndatabase_url = 'mysql://host/jobs'", "jobs.database_url is no address"),
        ("[jobs]\ntables_url = 'sqlite:///rows.db'", "jobs.tables_url is no address such as"),
        ("[jobs]\nmax_wait_h = 0", "jobs.max_wait_h"),
        ("[jobs]\nkeep_day = 3", "did you mean 'keep_days'?"),
        ("[jobs.tenants.A]\nwieght = 2", "did you mean 'weight'?"),
        ("[jobs.tenants.A]\nweight = 0", "weight"),
        ("[jobs.tenants.A]\nconcurrent = 0", "concurrent"),
        ("[jobs.tenants.'a b']\nweight = 2", "a b"),
        ("[jobs.tenants.A]\ntoken_env = 'A'\ntoken_file = 'b'", "tenants.A: its token"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(tmp_path, text, said):
    """A typo must not give a tenant all of the machine."""
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@host/jobs", "postgresql://host/jobs?password=s3cret"]
)
@pytest.mark.parametrize(
    ("key", "instead"), [("database_url", "database_password_file"), ("tables_url", "~/.pgpass")]
)
def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path, key, instead, url):
    """The settings are shown, copied and kept in version control."""
    said = refused(tmp_path, f"[jobs]\n{key} = '{url}'")
    assert instead in said
    assert "s3cret" not in said


def test_without_settings_the_store_is_a_file_of_the_home(tmp_path):
    """Nothing has to be set up."""
    assert store_url(Jobs(), tmp_path, tmp_path / "etc", {}) == url_of_home(tmp_path)


def test_the_password_of_the_store_comes_from_where_the_settings_say(tmp_path):
    """And where it is not there, that is told by the name of the place alone."""
    jobs = Jobs(database_url="postgresql://me@host/jobs", database_password_env="DB")
    url = store_url(jobs, tmp_path, tmp_path, {"DB": "p@ss/word"})
    assert url == "postgresql://me:p%40ss%2Fword@host/jobs"
    with pytest.raises(NoSecret, match="the environment has no DB"):
        store_url(jobs, tmp_path, tmp_path, {})


def test_a_store_that_is_a_file_lies_beside_the_settings_that_name_it(tmp_path):
    """As every other relative path of theirs."""
    jobs = Jobs(database_url="sqlite:///shared/jobs.db")
    assert store_url(jobs, tmp_path, tmp_path / "etc", {}) == (
        f"sqlite:///{tmp_path}/etc/shared/jobs.db"
    )


def test_a_tenant_has_tables_of_its_own_and_nobody_elses(tmp_path):
    """Named or not; and settings that let one look into another's are refused."""
    jobs = Jobs(tenants={"A": JobTenant(programs=True, tables="rows/a"), "B": JobTenant()})
    found = tenants_of(jobs, tmp_path, tmp_path / "etc")
    assert found["A"].tables == tmp_path / "etc/rows/a"
    assert found["A"].programs
    assert found["B"].tables == tmp_path / "tables/B"
    stranger = tenant_of(jobs, "C", tmp_path, tmp_path)
    assert (stranger.tables, stranger.programs) == (tmp_path / "tables/C", False)
    for within in ("rows/a/b", "rows/a/../a", str(tmp_path), str(tmp_path / "tables/C")):
        both = {"A": JobTenant(tables="rows/a"), "B": JobTenant(tables=within)}
        with pytest.raises(SharedTables):
            tenants_of(Jobs(tenants=both), tmp_path, tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    looped = tenants_of(Jobs(tenants={"A": JobTenant(tables="loop")}), tmp_path, tmp_path)
    assert looped["A"].tables == tmp_path / "loop"


def test_tables_of_a_database_have_a_column_that_says_whose_a_row_is():
    """For each tenant the same one; without an address there are none."""
    url = "postgresql://me@host/features?passfile=/etc/supervisor.pgpass"
    jobs = Jobs(tables_url=url, tables_tenant_column="customer")
    for name in ("A", "B"):
        found = tenant_of(jobs, name, Path("/home"), Path("/etc"))
        assert found.database == Database(url=url, column="customer")
    assert tenant_of(Jobs(), "A", Path("/home"), Path("/etc")).database is None


def test_a_quota_is_what_the_settings_say(tmp_path):
    """In the words and units of fairness."""
    tenant = JobTenant(weight=3, concurrent=2, queued=9, cpu_hours_a_day=1.5, gib=2)
    assert quotas_of(Jobs(tenants={"A": tenant})) == {
        "A": Quota(
            weight=3, concurrent=2, queued=9, cpu_hours_per_day=1.5, stored_bytes=2 * 1024**3
        )
    }


def test_what_a_tenant_has_used_fades_and_counts_for_a_day_of_utc():
    """By half in a day; what was used before midnight is no part of the day."""
    now_at = 10 * DAY_S + 2 * HOUR_S
    usage = TenantUsage(
        tenant_id="A",
        jobs={},
        claimed=2,
        kept_bytes=0,
        claimed_at=now_at - 5,
        waiting_since_at=None,
        hours=((now_at - DAY_S, 100.0), (10 * DAY_S, 60.0), (now_at, 40.0)),
    )
    account = account_of(usage, now_at)
    assert account.cpu_s_today == 100.0
    assert account.used_s == pytest.approx(50 + 60 * 2 ** (-2 / 24) + 40)
    assert (account.running, account.given_at) == (2, now_at - 5)


def test_a_token_tells_whose_a_request_is_and_is_in_no_message():
    """One that is too short, or another's, is refused where it is read."""
    bearers = {name: JobTenant(token_env=name) for name in "AB"}
    jobs = Jobs(tenants={**bearers, "C": JobTenant()})
    given = {"A": "a" * 32, "B": "b" * 32}
    tokens = Tokens(jobs, None, given)
    assert [tokens.whose(token) for token in ("a" * 32, "b" * 32, "c" * 32, "")] == [
        "A",
        "B",
        None,
        None,
    ]
    assert tokens
    assert not Tokens(Jobs(tenants={"C": JobTenant()}), None, given)
    for wrong in ("short", "a" * 32, "\x00" * 32):
        with pytest.raises(NoSecret) as error:
            Tokens(jobs, None, {"A": "a" * 32, "B": wrong})
        assert wrong not in str(error.value)


def test_a_token_that_others_can_read_is_none(tmp_path):
    """As with the passwords of sources."""
    (tmp_path / "token").write_text("a" * 32)
    (tmp_path / "token").chmod(0o644)
    jobs = Jobs(tenants={"A": JobTenant(token_file="token")})
    with pytest.raises(NoSecret, match="chmod 600"):
        Tokens(jobs, tmp_path, {})
    (tmp_path / "token").chmod(0o600)
    assert Tokens(jobs, tmp_path, {}).whose("a" * 32) == "A"
