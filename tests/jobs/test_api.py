"""What the API answers, over a real connection; each store is asked the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from state.jobs.database import StoreTrouble
from state.jobs.records import Ending, Foretold, Model, NewJob, Seen
from state.jobs.transaction import Transaction
from supervisor.core.job_settings import JobTenant
from supervisor.core.settings import Settings
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.web import artifacts, asking
from supervisor.web.app import application
from supervisor.web.service import Service
from testkit.api import TOKENS
from testkit.job_requests import whole
from testkit.tables import hourly, write

JOBS = "/ai/training/jobs"
ROOT = Path(__file__).parents[2]
HEAVY = (
    "lightgbm", "xgboost", "sklearn", "torch", "pyarrow", "numpy", "gymnasium", "ale_py",
    "stable_baselines3", "PIL", "alembic", "ray", "psutil",
)  # fmt: skip
one_store = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""of what is the same whatever store there is"""


@pytest.fixture
def job(api):
    return api.post(JOBS, json=whole()).json()["job_id"]


@pytest.fixture
def claim(store, job):
    return store.claim(job, "home-a").claim.token


def with_tokens(**more):
    return {
        "tenants": {
            "acme-corp": JobTenant(token_env="ACME", **more),
            "other": JobTenant(token_env="OTHER"),
        }
    }


def bearing(name):
    return {"authorization": f"Bearer {TOKENS[name]}"}


def refused(response, status, error):
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "message", "details"}
    assert body["error"] == error
    return body["details"]


# A job, from its beginning to its end


def test_a_job_is_taken_in_and_told(api):
    """The document's three fields first, then all of the job, and where it is."""
    taken = api.post(JOBS, json=whole())
    assert taken.status_code == 201
    body = taken.json()
    assert list(body)[:3] == ["job_id", "status", "created_at"]
    assert (body["status"], body["priority"], body["attempt"]) == ("PENDING", "high", 0)
    assert body["config"]["training_start"] == "2024-01-01T00:00:00Z"
    assert taken.headers["location"] == f"{JOBS}/{body['job_id']}"
    told = api.get(taken.headers["location"])
    assert told.headers["etag"] == taken.headers["etag"] == '"1"'
    assert told.json() == body | {"queue": told.json()["queue"]}
    assert told.json()["queue"]["position"] == 1


@one_store
def test_what_is_asked_elsewhere_of_a_trainer_is_kept_whole(api):
    """Any trainer by its name, with its options."""
    body = {"tenant_id": "a", "trainer": "drill", "target": {"steps": 10}, "options": {}}
    told = api.post(JOBS, json=body).json()
    assert (told["trainer"], told["config"], told["model_type"]) == ("drill", None, None)


def test_jobs_are_listed_by_pages_and_by_a_cursor(api):
    """Each once, the newest first, whatever comes meanwhile."""
    ids = [api.post(JOBS, json=whole()).json()["job_id"] for _ in range(5)]
    page = api.get(JOBS, params={"page_size": 2, "page": 2}).json()
    assert [one["job_id"] for one in page["jobs"]] == [ids[2], ids[1]]
    assert (page["total"], page["pages"], page["page"]) == (5, 3, 2)
    seen, after = [], None
    while True:
        asked = {"limit": 2} | ({"after": after} if after else {})
        page = api.get(JOBS, params=asked).json()
        seen += [one["job_id"] for one in page["jobs"]]
        api.post(JOBS, json=whole())
        after = page["next"]
        if after is None:
            break
    assert seen == ids[::-1]
    refused(api.get(JOBS, params={"after": "0" * 8}), 404, "NotFound")


def test_jobs_are_listed_by_what_they_are(api, job):
    """In any case, several words of one kind, and with a word that is none."""
    low = api.post(JOBS, json=whole() | {"priority": "low"}).json()["job_id"]
    api.delete(f"{JOBS}/{low}")

    def listed(**params):
        return [one["job_id"] for one in api.get(JOBS, params=params).json()["jobs"]]

    assert listed(status="pending") == [job]
    assert listed(status=["Cancelled", "PENDING"]) == [low, job]
    assert listed(priority=["low", "critical"]) == [low]
    assert listed(tenant_id="acme-corp", created_before="2001-01-01") == []
    assert listed(model_type="anomaly") == []
    details = refused(api.get(JOBS, params={"status": "RUNING"}), 422, "ConfigValidationError")
    assert details["field"].startswith("status")


def test_a_priority_is_changed_as_the_document_does_it(api, job):
    """Whatever curl says that its body is; a page of another site is refused."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = '{"priority": "low"}'
    changed = api.patch(f"{JOBS}/{job}", content=body, headers=form)
    assert (changed.status_code, changed.json()["priority"]) == (200, "low")
    for foreign in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = api.patch(f"{JOBS}/{job}", content=body, headers=form | foreign)
        refused(answer, 403, "Forbidden")
        refused(api.post(f"{JOBS}/{job}/retry", headers=foreign), 403, "Forbidden")
    origin = str(api.base_url).rstrip("/")
    ours = form | {"origin": origin, "sec-fetch-site": "same-origin"}
    assert api.patch(f"{JOBS}/{job}", content=body, headers=ours).status_code == 200
    refused(api.post(JOBS, content=json.dumps(whole()), headers=form), 415, "UnsupportedMediaType")


def test_nobody_overwrites_what_they_have_not_seen(api, opened, job):
    """An ETag is of one version; only where the settings want it must one be said."""
    seen = api.get(f"{JOBS}/{job}").headers["etag"]
    change = {"json": {"metadata": {"a": 1}}, "headers": {"if-match": seen}}
    assert api.patch(f"{JOBS}/{job}", **change).headers["etag"] == '"2"'
    assert refused(api.patch(f"{JOBS}/{job}", **change), 412, "PreconditionFailed") == {
        "version": 2
    }
    refused(api.delete(f"{JOBS}/{job}", headers={"if-match": seen}), 412, "PreconditionFailed")
    strict = opened(require_if_match=True)
    refused(strict.delete(f"{JOBS}/{job}"), 428, "PreconditionRequired")
    assert strict.delete(f"{JOBS}/{job}", headers={"if-match": "*"}).status_code == 200


def test_a_job_is_cancelled_once_and_tried_again(api, store, job):
    """Cancelled twice is cancelled; what nobody has finished can be tried again."""
    refused(api.post(f"{JOBS}/{job}/retry"), 409, "Conflict")
    for _ in range(2):
        ended = api.delete(f"{JOBS}/{job}")
        assert (ended.status_code, ended.json()["status"]) == (200, "CANCELLED")
    tried = api.post(f"{JOBS}/{job}/retry")
    assert (tried.status_code, tried.json()["status"]) == (202, "PENDING")
    token = store.claim(job, "home-a").claim.token
    store.mirror(job, token, Seen(status="RUNNING", attempt=1))
    living = api.delete(f"{JOBS}/{job}")
    assert (living.status_code, living.json()["status"]) == (202, "RUNNING")
    store.finish(job, token, Ending(status="FAILED", error={"error": "E", "message": "m"}))
    refused(api.delete(f"{JOBS}/{job}"), 409, "Conflict")
    told = api.get(f"{JOBS}/{job}").json()
    assert (told["status"], told["error"]) == (
        "FAILED",
        {"error": "E", "message": "m", "details": {}},
    )


def test_metrics_are_those_of_the_model_and_never_zeros(api, store, job, claim):
    """Before the first evaluation there are none."""
    assert refused(api.get(f"{JOBS}/{job}/metrics"), 409, "NotReady") == {"status": "PENDING"}
    measured = {"mae": 12.5, "rmse": 18.3, "mape": None, "training_data_size": 100}
    history = ((10, {"mae": 20.0}), (20, {"mae": 12.5}))
    seen = Seen(status="RUNNING", attempt=1, progress=65, current_step="training")
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1, metrics=measured, history=history))
    store.mirror(job, claim, seen)
    told = api.get(f"{JOBS}/{job}").json()
    assert (told["progress"], told["current_step"], told["status"]) == (65, "training", "RUNNING")
    metrics = api.get(f"{JOBS}/{job}/metrics").json()
    assert metrics == measured | {"history_url": f"{JOBS}/{job}/metrics/history"}
    points = api.get(metrics["history_url"]).json()["points"]
    assert [(one["step"], one["metrics"]["mae"]) for one in points] == [(10, 20.0), (20, 12.5)]


def test_what_nobody_confirms_is_stale(opened, store, job, claim):
    """A job is told to run as of a moment, and by whom nothing came for long is stale."""
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1, age_s=600))
    api = opened(stale_s=60)
    assert api.get(f"{JOBS}/{job}").json()["stale"] is True
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1))
    assert api.get(f"{JOBS}/{job}").json()["stale"] is False


def test_a_schedule_is_taken_changed_and_ended(api):
    """By the fields of cron; null: it comes no more."""
    body = whole() | {"schedule": "0 2 * * 0", "schedule_timezone": "Europe/Berlin"}
    job = api.post(JOBS, json=body).json()
    assert (job["schedule"], job["schedule_timezone"]) == ("0 2 * * 0", "Europe/Berlin")
    [reason] = api.get(f"{JOBS}/{job['job_id']}/why").json()["reasons"]
    assert reason["cause"] == "schedule"
    assert reason["until_at"] is not None
    changed = api.patch(f"{JOBS}/{job['job_id']}", json={"schedule": "0 3 * * 7"})
    assert changed.json()["schedule"] == "0 3 * * 7"
    never = api.patch(f"{JOBS}/{job['job_id']}", json={"schedule": "0 0 30 2 *"})
    refused(never, 422, "ConfigValidationError")
    ended = api.patch(f"{JOBS}/{job['job_id']}", json={"schedule": None})
    assert ended.json()["status"] == "CANCELLED"
    plain = api.post(JOBS, json=whole()).json()["job_id"]
    refused(api.patch(f"{JOBS}/{plain}", json={"schedule": "0 3 * * 7"}), 409, "Conflict")


def test_one_request_is_one_change(api, store, monkeypatch):
    """Where a schedule cannot be ended nothing else that was asked with that is done."""
    job = api.post(JOBS, json=whole() | {"schedule": "0 2 * * 0"}).json()["job_id"]
    before, both = store.get(job), {"priority": "low", "schedule": None}
    tell = Transaction.tell

    def breaks(doing, job_id, tenant_id, told):
        if told[0] == "state":
            raise StoreTrouble("the store", "it breaks")
        return tell(doing, job_id, tenant_id, told)

    with monkeypatch.context() as broken:
        broken.setattr(Transaction, "tell", breaks)
        assert api.patch(f"{JOBS}/{job}", json=both).status_code == 503
    assert store.get(job) == before
    ended = api.patch(f"{JOBS}/{job}", json=both).json()
    assert (ended["status"], ended["priority"]) == ("CANCELLED", "low")


# Judged


@one_store
def test_a_request_is_judged_and_nothing_is_written(api, home):
    """As it would be taken, with all that is not said; or all that is wrong; or what refuses."""
    config = whole()["config"]
    (home / "tables/default").mkdir(parents=True)
    write(home / "tables/default/features.load_forecasting.parquet", hourly(1200))
    answer = api.post(
        "/ai/training/validate",
        content=json.dumps({"config": config}),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 200
    assert answer.json()["valid"] is True
    assert answer.json()["resolved"]["hyperparameters"]["num_leaves"] == 31
    assert answer.json()["resolved"]["rows"]["rows"] == 1200
    named = {"tenant_id": "default", "priority": "high", "schedule": "0 2 * * 0"}
    whole_job = api.post("/ai/training/validate", json=whole() | named).json()
    assert (whole_job["valid"], whole_job["resolved"]) == (True, answer.json()["resolved"])
    urgent = api.post("/ai/training/validate", json=whole() | {"priority": "urgent"}).json()
    assert [one["field"] for one in urgent["errors"]] == ["priority"]
    wrong = api.post("/ai/training/validate", json={"config": config | {"validation_split": 1.5}})
    assert wrong.json()["valid"] is False
    assert wrong.json()["refusal"]["details"]["field"] == "validation_split"
    assert wrong.json()["refusal"]["details"]["error"] == "Must be between 0.0 and 1.0"
    several = {"distributed": True, "ray_config": {"num_workers": 8}}
    nobody = api.post("/ai/training/validate", json={"config": config | several}).json()
    assert nobody["refusal"]["error"] == "ResourceError"
    assert nobody["refusal"]["details"] == {"requested_workers": 8, "available_workers": 0}
    refused(api.post(JOBS, json=whole(**several)), 409, "ResourceError")
    assert api.get(JOBS).json()["total"] == 0


# Once


def test_a_request_with_a_key_is_done_once(api):
    """The first answer comes again; another body with the same key is refused."""
    key = {"idempotency-key": '"8e03978e"'}
    first = api.post(JOBS, json=whole(), headers=key)
    again = api.post(JOBS, json=whole(), headers={"idempotency-key": "8e03978e"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    other = api.post(JOBS, json=whole() | {"priority": "low"}, headers=key)
    refused(other, 422, "IdempotencyConflict")
    assert api.get(JOBS).json()["total"] == 1
    job = first.json()["job_id"]
    api.delete(f"{JOBS}/{job}")
    for _ in range(2):
        assert api.post(f"{JOBS}/{job}/retry", headers=key).status_code == 202
    refused(api.post(JOBS, json=whole(), headers={"idempotency-key": ""}), 400, "BadRequest")


# Tenants


def test_each_token_is_one_tenant_and_sees_its_own(opened, store):
    """Another's job is none, whatever is asked of it; so is what another has used."""
    api = opened(**with_tokens())
    for without in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic YTpi"}):
        answer = api.get(JOBS, headers=without)
        refused(answer, 401, "Unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    mine = api.post(JOBS, json=whole(), headers=bearing("ACME")).json()["job_id"]
    details = refused(
        api.post(JOBS, json=whole(), headers=bearing("OTHER")), 422, "ConfigValidationError"
    )
    assert details["field"] == "tenant_id"
    for ask in (
        lambda **more: api.get(f"{JOBS}/{mine}", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/metrics", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/metrics/history", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/logs", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/events", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/why", **more),
        lambda **more: api.get(f"{JOBS}/{mine}/artifacts", **more),
        lambda **more: api.patch(f"{JOBS}/{mine}", json={"priority": "low"}, **more),
        lambda **more: api.post(f"{JOBS}/{mine}/retry", **more),
        lambda **more: api.delete(f"{JOBS}/{mine}", **more),
        lambda **more: api.get(JOBS, params={"after": mine}, **more),
        lambda **more: api.get("/ai/training/tenants/acme-corp/usage", **more),
    ):
        refused(ask(headers=bearing("OTHER")), 404, "NotFound")
    assert api.get(JOBS, headers=bearing("OTHER")).json()["total"] == 0
    named = api.get(JOBS, params={"tenant_id": "acme-corp"}, headers=bearing("OTHER"))
    assert named.json()["total"] == 0
    assert api.get(JOBS, headers=bearing("ACME")).json()["total"] == 1
    assert api.get("/ai/training/stats", headers=bearing("OTHER")).json()["jobs"] == {}
    assert store.get(mine).asked.priority == "high"


def test_a_tenant_hears_why_its_job_waits_and_nothing_of_the_machine(opened, place):
    """Neither how full its disk is, nor where the home lies."""
    api = opened(**with_tokens(), min_free_gib=1_000_000)
    job = api.post(JOBS, json=whole(), headers=bearing("ACME")).json()["job_id"]
    answer = api.get(f"{JOBS}/{job}/why", headers=bearing("ACME"))
    [disk] = [one for one in answer.json()["reasons"] if one["cause"] == "disk"]
    assert (disk["value"], disk["bound"]) == (None, None)
    assert str(place.path) not in answer.text
    assert "GiB" not in answer.text


def test_a_tenant_that_has_enough_is_told_when_to_come_again(opened, store):
    """A further job is refused, one that was sent before is answered as it was."""
    api = opened(tenants={"acme-corp": JobTenant(queued=1)})
    key = {"idempotency-key": "once"}
    first = api.post(JOBS, json=whole(), headers=key).json()
    full = api.post(JOBS, json=whole())
    assert refused(full, 429, "QuotaExceeded") == {"quota": "queued", "used": 1.0, "bound": 1.0}
    assert int(full.headers["retry-after"]) >= 1
    assert api.post(JOBS, json=whole(), headers=key).json() == first
    usage = api.get("/ai/training/tenants/acme-corp/usage").json()
    assert (usage["waiting"], usage["waiting_max"]) == (1, 1)
    api.delete(f"{JOBS}/{first['job_id']}")
    assert api.post(JOBS, json=whole()).status_code == 201
    refused(api.post(f"{JOBS}/{first['job_id']}/retry"), 429, "QuotaExceeded")


def test_why_a_job_waits_is_told_with_numbers(api, store):
    """Who is before it, what somebody wants, and when it is tried again."""
    first = api.post(JOBS, json=whole() | {"priority": "critical"}).json()["job_id"]
    second = api.post(JOBS, json=whole()).json()["job_id"]

    def causes(job):
        told = api.get(f"{JOBS}/{job}/why").json()["reasons"]
        return {one["cause"]: one["value"] for one in told}

    assert causes(second)["rank"] == 1
    api.patch(f"{JOBS}/{second}", json={"paused": True})
    assert causes(second) == {"paused": None}
    assert api.get(f"{JOBS}/{second}").json()["paused_reason"] is not None
    token = store.claim(first, "home-a").claim.token
    assert set(causes(first)) == {"handed_over"}
    store.mirror(first, token, Seen(status="PENDING", attempt=1, next_attempt_in_s=60))
    assert set(causes(first)) == {"retry"}
    store.mirror(first, token, Seen(status="RUNNING", attempt=2))
    assert causes(first) == {}


@one_store
def test_without_a_supervisor_jobs_are_taken_and_somebody_is_told(store, home, doors):
    """They wait, and health says how to start one."""
    app = application(Service(store, Settings(), Home(home), SystemClock()))
    with doors.behind(app) as address, httpx.Client(base_url=address) as api:
        job = api.post(JOBS, json=whole()).json()["job_id"]
        health = api.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "degraded")
        assert f"supervisor --home {home} run" in health.json()["checks"]["daemon"]["message"]
        assert api.get(f"{JOBS}/{job}/why").json()["reasons"][0]["cause"] == "no_supervisor"


# This place


@one_store
def test_this_place_is_told(api, job):
    """Health, counts, clusters of which there are none, and models of which there are none yet."""
    health = api.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert set(health.json()["checks"]) == {"database", "daemon", "disk", "queue"}
    stats = api.get("/ai/training/stats").json()
    assert stats["jobs"] == {"PENDING": 1}
    assert stats["eta"] == {"jobs": 0, "p90_coverage": None, "median_coverage": None}
    assert api.get("/ai/training/ray/clusters").json() == []
    assert api.get("/ai/training/models").json() == {"models": []}
    refused(api.get("/ai/training/models/none/versions"), 404, "NotFound")
    refused(api.get("/ai/training/tenants/nobody/usage"), 404, "NotFound")


def test_what_was_foretold_is_scored_and_the_score_is_told(opened, store):
    """Of whoever asks, and of nobody else: three of its seven by the median, six by the p90."""
    api = opened(**with_tokens())
    for tenant, waited_s in [("acme-corp", it) for it in (1, 1, 1, 150, 150, 150, 900)] + [
        ("b", 1)
    ]:
        job = store.create(NewJob(tenant_id=tenant, config={})).job_id
        times = {"at": store.now().at - 1000, "eta_s": 100, "eta_p90_s": 800, "plain_p90_s": 600}
        store.foretell([Foretold(job_id=job, tenant_id=tenant, **times)])
        token = store.claim(job, "home-a").claim.token
        store.mirror(job, token, Seen(status="RUNNING", attempt=1, age_s=1000 - waited_s))
    told = api.get("/ai/training/stats", headers=bearing("ACME")).json()["eta"]
    assert told == {"jobs": 7, "p90_coverage": 6 / 7, "median_coverage": 3 / 7}
    assert api.get("/ai/training/stats", headers=bearing("OTHER")).json()["eta"]["jobs"] == 0


def test_a_finished_model_and_its_files_are_told(api, store, place, job, claim):
    """Each with its hash, in ranges, and to nobody who has it already."""
    refused(api.get(f"{JOBS}/{job}/artifacts"), 409, "NotReady")
    folder = place.run(job).path
    folder.mkdir(parents=True)
    (folder / "model.txt").write_bytes(b"0123456789")
    (folder / "secret").write_text("no artefact")
    (folder / "link.txt").symlink_to("/etc/passwd")
    sums = f"{'a' * 64}  model.txt\n{'b' * 64}  link.txt\n{'c' * 64}  gone.txt\n"
    (folder / "SHA256SUMS").write_text(sums)
    model = Model(sha256="a" * 64, size_bytes=10)
    store.finish(job, claim, Ending(status="COMPLETED", metrics={"mae": 1.0}, model=model))
    told = api.get(f"{JOBS}/{job}").json()
    assert (told["progress"], told["model"]) == (100, {"version": 1, "sha256": "a" * 64})
    [version] = api.get("/ai/training/models").json()["models"]
    assert (version["job_id"], version["version"]) == (job, 1)
    path = f"/ai/training/models/{version['name']}/versions"
    assert api.get(path).json()["models"] == [version]
    [artifact] = api.get(f"{JOBS}/{job}/artifacts").json()["artifacts"]
    assert (artifact["name"], artifact["size_bytes"]) == ("model.txt", 10)
    whole_file = api.get(artifact["url"])
    assert (whole_file.content, whole_file.headers["etag"]) == (b"0123456789", f'"{"a" * 64}"')
    part = api.get(artifact["url"], headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    known = api.get(artifact["url"], headers={"if-none-match": whole_file.headers["etag"]})
    assert known.status_code == 304
    beyond = api.get(artifact["url"], headers={"range": "bytes=10-"})
    refused(beyond, 416, "RangeNotSatisfiable")
    for name in ("secret", "link.txt", "gone.txt", "%2e%2e", "SHA256SUMS"):
        assert api.get(f"{JOBS}/{job}/artifacts/{name}").status_code == 404


@one_store
def test_what_another_home_has_is_said_to_be_there(api, store, job, claim):
    """Neither no lines nor no files, which would be a lie."""
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1))
    assert refused(api.get(f"{JOBS}/{job}/logs"), 409, "Conflict") == {"home": "home-a"}
    store.finish(job, claim, Ending(status="COMPLETED", kept_bytes=5))
    assert refused(api.get(f"{JOBS}/{job}/artifacts"), 409, "Conflict") == {"home": "home-a"}
    store.keep(job, "home-a", 0)
    for what in ("artifacts", "artifacts/model", "logs"):
        assert refused(api.get(f"{JOBS}/{job}/{what}"), 410, "Gone") == {}


def model_of(job, claim, store, place, content=b"0123456789"):
    """The folder of a finished job, and where its one file is fetched."""
    folder = place.run(job).path
    folder.mkdir(parents=True)
    (folder / "model.txt").write_bytes(content)
    (folder / "SHA256SUMS").write_text(f"{'a' * 64}  model.txt\n")
    store.mirror(job, claim, Seen(status="RUNNING", attempt=1))
    store.finish(job, claim, Ending(status="COMPLETED", kept_bytes=len(content)))
    return folder, f"{JOBS}/{job}/artifacts/model.txt"


@one_store
@pytest.mark.parametrize("asked", [{}, {"range": "bytes=2-4"}, {"range": "bytes=-3"}])
def test_a_file_is_sent_to_its_end_though_it_is_removed_meanwhile(
    api, store, place, job, claim, monkeypatch, asked
):
    """Once it is open: the look at it, the answer's head and its body are of one file."""
    folder, path = model_of(job, claim, store, place)
    plain = api.get(path, headers=asked)

    def removed(request, version):
        shutil.rmtree(folder)
        return seen(request, version)

    seen = asking.has_seen
    monkeypatch.setattr(asking, "has_seen", removed)
    answer = api.get(path, headers=asked)
    assert not folder.exists()
    assert (answer.status_code, answer.content) == (plain.status_code, plain.content)
    assert answer.headers["etag"] == plain.headers["etag"] == f'"{"a" * 64}"'


@one_store
@pytest.mark.parametrize("what", ["artifacts", "artifacts/model.txt"])
def test_what_goes_before_it_is_opened_is_said_to_be_cleared_away(
    api, store, place, job, claim, monkeypatch, what
):
    """Also by who has seen the job while all of it was there."""
    folder, _ = model_of(job, claim, store, place)

    def cleared(run):
        shutil.rmtree(folder)
        store.keep(job, "home-a", 0)
        return left(run)

    left = artifacts.files_left
    monkeypatch.setattr(artifacts, "files_left", cleared)
    refused(api.get(f"{JOBS}/{job}/{what}"), 410, "Gone")


# HTTP itself


@one_store
def test_each_path_says_what_it_takes(api, job):
    """By Allow, and errors have one form wherever they come from."""
    options = api.options(f"{JOBS}/{job}")
    assert options.status_code == 204
    assert options.headers["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    put = api.put(f"{JOBS}/{job}", json={})
    refused(put, 405, "MethodNotAllowed")
    assert put.headers["allow"] == options.headers["allow"]
    head = api.head(f"{JOBS}/{job}")
    assert (head.status_code, head.headers["etag"]) == (200, '"1"')
    assert api.head(f"{JOBS}/{job}/logs").status_code == 200
    for path in ("/", "/ai/training", f"{JOBS}/", f"{JOBS}/{job}/nothing", "/docs"):
        refused(api.get(path), 404, "NotFound")
    for name in ("not-a-uuid", job.upper() + "0", "%00", "..%2f..%2fetc"):
        refused(api.get(f"{JOBS}/{name}"), 404, "NotFound")
    assert api.get(f"{JOBS}/{job.upper()}").status_code == 200


@one_store
def test_a_name_that_a_stranger_leads_here_is_refused(api, opened):
    """Without tokens; with them whoever bears one is known."""
    refused(api.get(JOBS, headers={"host": "evil.example"}), 403, "Forbidden")
    for ours in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        assert api.get(JOBS, headers={"host": ours}).status_code == 200
    headers = {"host": "gpu-box.example", **bearing("ACME")}
    assert opened(**with_tokens()).get(JOBS, headers=headers).status_code == 200


@one_store
@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"x" * 10_000_000, 413, "TooLarge"),
        (b'{"tenant_id": "a", "tenant_id": "b"}', 422, "ConfigValidationError"),
        (b'{"metadata": {"x": NaN}}', 422, "ConfigValidationError"),
        (b'{"metadata": {"x": "\\u0000"}}', 422, "ConfigValidationError"),
        (b"[" * 100_000, 422, "ConfigValidationError"),
        (b"\xff\xfe", 422, "ConfigValidationError"),
        (b"", 422, "ConfigValidationError"),
        (json.dumps(whole(features=[f"f{i}" for i in range(100_000)])).encode(), None, None),
        (json.dumps(whole(training_end="9999-12-31T23:59:59Z")).encode(), 422, None),
        (json.dumps(whole() | {"tenant_id": "../../etc"}).encode(), 422, None),
        (json.dumps(whole() | {"tenant_id": "a" * 65}).encode(), 422, None),
        (json.dumps(whole(features=["l\u043ead", "load_"])).encode(), None, None),
        (json.dumps(whole() | {"schedule": "0 0 31 2 *"}).encode(), 422, None),
        (json.dumps(whole() | {"schedule": "*/1 " * 50}).encode(), 422, None),
        (json.dumps(whole(data="../other/table")).encode(), 422, None),
    ],
)
def test_whatever_comes_is_refused_in_words(api, content, status, error):
    """A clear 4xx, and nothing is slowed or broken by it."""
    answer = api.post(JOBS, content=content, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500 or (status is None and answer.status_code == 201)
    if status is not None:
        assert answer.status_code == status
    if error is not None:
        refused(answer, status, error)
    assert api.get("/ai/training/stats").status_code == 200


@one_store
def test_a_store_that_does_not_serve_is_said(api, store, job, monkeypatch):
    """With 503 and when to come again, and without a word of where."""
    from state.jobs.database import StoreTrouble  # noqa: PLC0415 - beside what it replaces

    def away(*args, **kwargs):
        raise StoreTrouble("jobs.db", "it is away")

    for name in ("get", "find", "create", "waiting"):
        monkeypatch.setattr(store, name, away)
    for answer in (api.get(f"{JOBS}/{job}"), api.get(JOBS), api.post(JOBS, json=whole())):
        refused(answer, 503, "ResourceError")
        assert answer.headers["retry-after"] == "5"
    assert api.get("/health").json()["checks"]["database"]["ok"] is False
    monkeypatch.setattr(store, "get", lambda *args, **kwargs: 1 / 0)
    broken = api.get(f"{JOBS}/{job}")
    assert "ZeroDivision" not in broken.text
    refused(broken, 500, "InternalError")


def test_who_serves_imports_no_library_of_data_or_models(place):
    """Nor what brings tables up to date, which is a process of its own."""
    code = (
        "import sys, supervisor.web.app, supervisor.web.server;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
