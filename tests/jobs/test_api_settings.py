"""Settings that change while the API serves, and what is told to whoever bears no token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from state.jobs.database import FILE, url_of_home
from state.jobs.records import NewJob
from state.jobs.store import JobStore
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.jobs.settings import NoSecret, SharedTables
from supervisor.web import feed
from supervisor.web.app import application
from supervisor.web.service import Service
from testkit.api import TOKENS
from testkit.patience import until

JOBS = "/ai/training/jobs"
TWO = Settings(
    jobs=Jobs(tenants={"acme": JobTenant(token_env="ACME"), "other": JobTenant(token_env="OTHER")})
)


@pytest.fixture
def service(home, made, place):
    (home / FILE).write_bytes((made / FILE).read_bytes())
    store = JobStore(url_of_home(home))
    yield Service(store, Settings(), place, SystemClock(), environment=TOKENS)
    store.close()


@pytest.fixture
def api(service, doors):
    with (
        doors.behind(application(service)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def bearing(name):
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def test_the_first_token_is_needed_by_the_next_request(service, api):
    """Nobody is believed any more who bears none; the last one that is taken away opens it."""
    assert api.get(JOBS).status_code == 200
    assert service.heed(TWO)
    assert api.get(JOBS).status_code == 401
    assert api.get(JOBS, headers=bearing("ACME")).status_code == 200
    assert not service.heed(TWO), "these are in force already"
    assert service.heed(Settings())
    assert api.get(JOBS).status_code == 200


def test_a_stream_that_began_without_a_token_ends_with_the_first_one(service, api):
    """It goes on no longer than until there is something to tell."""
    job = service.store.create(NewJob(tenant_id="other", config={}))
    with api.stream("GET", f"{JOBS}/{job.job_id}/events") as stream:
        lines = stream.iter_lines()
        while not next(lines).startswith("data:"):
            pass
        service.heed(TWO)
        service.store.cancel(job.job_id)
        assert not [line for line in lines if "CANCELLED" in line]
    assert api.get(f"{JOBS}/{job.job_id}", headers=bearing("OTHER")).json()["status"] == "CANCELLED"


def test_who_waits_for_a_change_hears_at_once_that_their_token_is_nobodys(
    service, api, monkeypatch
):
    """A stream that has nothing to tell ends, too; whoever bears another token goes on."""
    waiting = set()

    async def noted(watch, wait_s):
        waiting.add(watch)
        return await wait(watch, wait_s)

    wait = feed.Watch.wait
    monkeypatch.setattr(feed.Watch, "wait", noted)
    service.heed(TWO)
    mine, others = (
        service.store.create(NewJob(tenant_id=one, config={})).job_id for one in ("acme", "other")
    )
    waits = {"If-None-Match": '"1"', "Prefer": "wait=60"}
    gone = msgspec.structs.replace(TWO.jobs, tenants={"other": TWO.jobs.tenants["other"]})
    url = f"{api.base_url}".rstrip("/") + JOBS
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(
                httpx.get, f"{url}/{mine}{path}", headers=bearing("ACME") | more, timeout=30
            )
            for path, more in (("", waits), ("/logs", {}))
        ]
        other = pool.submit(
            httpx.get, f"{url}/{others}", headers=bearing("OTHER") | waits, timeout=30
        )
        until(lambda: len(waiting) == 3, "all three wait")
        service.heed(Settings(jobs=gone))
        assert [one.result().status_code for one in asked] == [401, 200]
        assert not other.done()
        service.store.cancel(others)
        assert other.result().json()["status"] == "CANCELLED"


def test_a_quota_and_a_weight_are_in_force_at_once(service, api):
    """Those of the next request are the new ones."""
    service.heed(Settings(jobs=Jobs(tenants={"acme": JobTenant(weight=3, queued=5)})))
    usage = api.get("/ai/training/tenants/acme/usage").json()
    assert (usage["weight"], usage["waiting_max"]) == (3, 5)


def test_another_token_in_the_same_file_is_heeded(service, api, home):
    """Who changes a token need not change the settings."""
    file = home / "token"
    file.touch(0o600)
    file.write_text("a" * 32)
    settings = Settings(jobs=Jobs(tenants={"acme": JobTenant(token_file=str(file))}))
    service.heed(settings)
    file.write_text("c" * 32)
    assert service.heed(settings)
    assert api.get(JOBS, headers={"Authorization": f"Bearer {'a' * 32}"}).status_code == 401
    assert api.get(JOBS, headers={"Authorization": f"Bearer {'c' * 32}"}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Jobs(tenants={"acme": JobTenant(token_env="NOBODY", weight=9)}), NoSecret),
        (Jobs(tenants={"a": JobTenant(tables="x"), "b": JobTenant(tables="x/y")}), SharedTables),
    ],
)
def test_settings_that_cannot_be_change_nothing(service, api, asked, error):
    """Not a part of them either: who needed a token needs that one."""
    service.heed(TWO)
    with pytest.raises(error):
        service.heed(Settings(jobs=asked))
    assert service.settings == TWO
    assert api.get(JOBS).status_code == 401
    assert api.get(JOBS, headers=bearing("OTHER")).status_code == 200


def test_a_monitor_bears_no_token_and_hears_no_more_than_whether(service, api):
    """Neither a path nor a number is told where there are tenants, to nobody."""
    service.store.create(NewJob(tenant_id="acme", config={}))
    assert "1 jobs wait" in api.get("/health").text
    service.heed(TWO)
    for path in ("/health", "/ai/training/health"):
        for headers in ({}, bearing("ACME"), {"Authorization": "Bearer wrong"}):
            said = api.get(path, headers=headers)
            assert said.status_code == 200
            words = {"ok": True, "message": "ok"}
            checks = dict.fromkeys(("database", "daemon", "disk", "queue"), words)
            assert said.json() == {"status": "healthy", "checks": checks}
    told = api.get("/openapi.json", headers=bearing("ACME")).json()["paths"]["/health"]["get"]
    assert (told["security"], "401" in told["responses"]) == ([], False)
    assert api.get("/ai/training/stats").status_code == 401


def test_what_is_not_well_is_told_without_a_token_too(service, api):
    """By the same words; the reason is the operator's."""
    jobs = msgspec.structs.replace(TWO.jobs, min_free_gib=1_000_000)
    service.heed(Settings(jobs=jobs))
    said = api.get("/health")
    assert (said.status_code, said.json()["status"]) == (503, "degraded")
    assert said.json()["checks"]["disk"] == {"ok": False, "message": "not ok"}
