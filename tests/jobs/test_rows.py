"""A trainer looks at the rows of a job before there is one, bounded in all, and nothing is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from state.jobs.database import FILE, url_of_home
from state.jobs.records import Ending, NewJob
from state.jobs.records import Seen as Running
from supervisor.core.job_settings import JobTenant
from supervisor.jobs import rows
from supervisor.programs import program
from testkit.api import TOKENS
from testkit.job_requests import whole
from testkit.patience import until
from testkit.tables import hourly, write

VALIDATE = "/ai/training/validate"
ROWS = 1200
TABLE = "features.load_forecasting"
BEARERS = {"acme-corp": "ACME", "other": "OTHER"}


@pytest.fixture
def url(home: Path, made: Path) -> str:
    """A store of SQLite alone: it is asked for no more than how long jobs took."""
    shutil.copy(made / FILE, home)
    return url_of_home(home)


@pytest.fixture
def tables(home: Path) -> Path:
    folder = home / "tables/acme-corp"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def judged(api: httpx.Client):
    """What is answered to a request with such a configuration."""

    def ask(**config):
        body = {"config": whole(**config)["config"], "tenant_id": "acme-corp"}
        answer = api.post(VALIDATE, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


def files(folder: Path) -> dict[str, int]:
    """All that lies in a folder, and when each was last written to."""
    return {
        str(one): one.lstat().st_mtime_ns
        for one in folder.rglob("*")
        if not one.name.startswith("jobs.db")  # which a look at it may write to
    }


def looking(home: Path) -> set[int]:
    """The processes that look at rows for a home."""
    found = set()
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes()
        except OSError:
            continue
        if b"--rows" in words and f"{home}/runs".encode() in words:
            found.add(int(one.parent.name))
    return found


def test_rows_are_looked_at_by_the_code_that_will_train(judged, tables, home):
    """How many, from when to when, how they are split, what is made of them; nothing is left."""
    write(tables / f"{TABLE}.parquet", hourly(ROWS))
    before = files(home)
    said = judged()
    assert (said["valid"], said["errors"]) == (True, [])
    assert {one["code"]: one["field"] for one in said["warnings"]} == {
        "no_zone": "options.time",
        "known_ahead": "features",
    }
    assert said["resolved"]["data"] == TABLE
    seen = said["resolved"]["rows"]
    assert (seen["rows"], seen["usable_rows"], seen["step"]) == (ROWS, ROWS - 24, "1 h")
    assert (seen["from"], seen["to"]) == ("2024-01-01T00:00:00Z", "2024-02-19T23:00:00Z")
    assert seen["split"]["validation"]["rows"] == ROWS * 0.2
    made = {one["name"]: one["kind"] for one in seen["features"]}
    assert (made["humidity"], made["load_lag_24"]) == ("column", "lag")
    estimate = said["resolved"]["estimate"]
    assert estimate["memory_bytes"] > ROWS * 6 * 8
    assert (estimate["seconds"], estimate["jobs"]) == (None, 0)
    assert files(home) == before
    assert not looking(home)


HOURS = np.datetime64("2024-01-01T00:00:00", "ns") + np.arange(ROWS) * np.timedelta64(3600, "s")


@pytest.mark.parametrize(
    ("columns", "config", "error", "field", "words"),
    [
        (None, {}, "DataLoadError", "data", f"Table not found: {TABLE}"),
        ({}, {"data": "sales/load"}, "DataLoadError", "data", "Table not found: sales/load"),
        ({}, {"target": "lode"}, "DataLoadError", "data", "Column not found: lode; did you mean"),
        (
            {"time": HOURS + np.where(np.arange(ROWS) > 9, 7, 0) * np.timedelta64(3600, "s")},
            {},
            "DataLoadError",
            "data",
            "7 rows are missing in 1 gaps, the first after 2024-01-01T09:00:00Z",
        ),
        (
            {},
            {"training_start": "2030-01-01T00:00:00", "training_end": "2031-01-01T00:00:00"},
            "DataLoadError",
            "data",
            "no row lies between training_start and training_end",
        ),
        (
            {"humidity": hourly(ROWS)["load"] * 2},
            {},
            "ConfigValidationError",
            "features",
            "Leakage: humidity is load at the same time",
        ),
        ({}, {"validation_split": 0.9999}, "DataLoadError", "data", "are too few for this split"),
    ],
)
def test_what_is_wrong_with_rows_is_told_by_field(
    judged, tables, home, columns, config, error, field, words
):
    """In the words of the document, and without a word of where tables lie."""
    if columns is not None:
        write(tables / f"{TABLE}.parquet", hourly(ROWS, **columns))
    said = judged(**config)
    assert (said["valid"], said["resolved"]) == (False, None)
    assert said["refusal"]["error"] == error
    (found,) = said["errors"]
    assert (found["field"], found["path"]) == (field, f"config.{field}")
    assert words in found["error"]
    assert str(home) not in json.dumps(said)
    if error == "DataLoadError":
        assert said["refusal"]["message"] == "Failed to load training data"
        details = {"reason": found["error"], "tenant_id": "acme-corp"}
        assert said["refusal"]["details"] == details


def test_a_table_that_is_too_large_is_not_looked_at_and_that_is_told(judged, tables):
    """With the memory that it would take; no row of a file of 1 TB is read."""
    table = write(tables / f"{TABLE}.csv", hourly(40_000))
    os.truncate(table, 10**12)
    said = judged()
    (warned,) = said["warnings"]
    assert (said["valid"], warned["field"], warned["code"]) == (True, "data", "rows_not_read")
    assert "its rows were not looked at: the memory for that is too small" in warned["message"]
    assert said["resolved"]["estimate"]["memory_bytes"] > 10**11
    assert "rows" not in said["resolved"]


def test_a_look_that_takes_too_long_is_ended_and_that_is_told(judged, tables, home, monkeypatch):
    os.mkfifo(tables / f"{TABLE}.csv")  # whoever reads it waits for ever
    monkeypatch.setattr(rows, "LOOK_MAX_S", 0.5)
    said = judged()
    (warned,) = said["warnings"]
    assert (said["valid"], warned["code"]) == (True, "rows_not_read")
    assert "that has taken longer than 0.5 s" in warned["message"]
    assert not looking(home)


def test_a_look_that_dies_is_told(judged, tables, home):
    """With how it has ended: memory that nobody had counted, or a fault of ours."""
    os.mkfifo(tables / f"{TABLE}.csv")
    with ThreadPoolExecutor() as others:
        answer = others.submit(judged)
        until(lambda: looking(home), "somebody looks")
        (pid,) = looking(home)
        os.kill(pid, 9)
        (warned,) = answer.result()["warnings"]
    assert warned["code"] == "rows_not_read"
    assert "was ended by signal 9" in warned["message"]


def test_two_look_at_once_and_who_goes_away_ends_the_look(api, tables, home):
    """A third is told when one of them will be over; it can have its place as soon as it is."""
    os.mkfifo(tables / f"{TABLE}.csv")
    write(tables / "well.parquet", hourly(ROWS))
    body = {"config": whole()["config"], "tenant_id": "acme-corp"}
    well = {**body, "config": body["config"] | {"data": "well"}}
    held = [subprocess.Popen(_curl(api, body), stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        until(lambda: len(looking(home)) == 2, "two look")
        refused = api.post(VALIDATE, json=well)
        assert refused.status_code == 503
        assert refused.json()["error"] == "ResourceError"
        assert 1 <= int(refused.headers["retry-after"]) <= rows.LOOK_MAX_S
    finally:
        for one in held:
            one.kill()
            one.wait()
    until(lambda: not looking(home), "nobody looks for those who have gone")
    until(lambda: api.post(VALIDATE, json=well).status_code == 200, "there is room again")


def test_no_tenant_has_all_look_at_its_rows(opened, tables, home):
    """One look is another tenant's; it is told when its own is over."""
    os.mkfifo(tables / f"{TABLE}.csv")
    write(tables / "well.parquet", hourly(ROWS))
    shutil.copytree(tables, home / "tables/other", ignore=shutil.ignore_patterns("*.csv"))
    api = opened(tenants={name: JobTenant(token_env=env) for name, env in BEARERS.items()})
    acme, other = (f"Authorization: Bearer {TOKENS[env]}" for env in BEARERS.values())
    body = {"config": whole()["config"]}
    well = {"config": body["config"] | {"data": "well"}}
    held = subprocess.Popen([*_curl(api, body), "-H", acme], stdout=subprocess.DEVNULL)
    try:
        until(lambda: looking(home), "it is looked at")
        refused = api.post(VALIDATE, json=well, headers=[acme.split(": ")])
        assert (refused.status_code, refused.json()["error"]) == (429, "QuotaExceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= rows.LOOK_MAX_S
        assert api.post(VALIDATE, json=well, headers=[other.split(": ")]).json()["valid"]
    finally:
        held.kill()
        held.wait()
    until(
        lambda: api.post(VALIDATE, json=well, headers=[acme.split(": ")]).status_code == 200,
        "its place is free again",
    )


def _curl(api: httpx.Client, body: dict) -> list[str]:
    where = f"{str(api.base_url).rstrip('/')}{VALIDATE}"
    kind = "Content-Type: application/json"
    return ["curl", "-s", "-X", "POST", where, "-H", kind, "-d", json.dumps(body)]


def test_how_long_it_takes_is_what_others_like_it_took(judged, api, store, tables):
    """As much by the same algorithm; what is much larger, or learnt otherwise, says nothing."""
    write(tables / f"{TABLE}.parquet", hourly(ROWS))
    learnt = judged()["resolved"]["rows"]["split"]["train"]["rows"]
    for algorithm, rounds in (("lgbm", 100), ("lightgbm", 150), ("lgbm", 900), ("rf", 100)):
        body = whole(algorithm=algorithm, hyperparameters={})
        job = api.post("/ai/training/jobs", json=body).json()["job_id"]
        token = store.claim(job, "home-a").claim.token
        store.mirror(job, token, Running(status="RUNNING", attempt=1))
        metrics = {"training_data_size": learnt, "training_rounds": rounds}
        store.finish(job, token, Ending(status="COMPLETED", metrics=metrics))
    estimate = judged()["resolved"]["estimate"]
    assert estimate["jobs"] == 2
    assert 0 <= estimate["seconds"] <= estimate["seconds_p90"]


def test_how_long_jobs_of_others_took_is_told_to_the_operator_alone(opened, store, tables, home):
    """A tenant would learn from it what others do."""
    write(tables / f"{TABLE}.parquet", hourly(ROWS))
    shutil.copytree(tables, home / "tables/other")
    for tenant in ("acme-corp", "other"):
        body = whole(algorithm="lgbm", hyperparameters={}) | {"tenant_id": tenant}
        job = store.create(NewJob(tenant_id=tenant, config=body)).job_id
        token = store.claim(job, "home-a").claim.token
        store.mirror(job, token, Running(status="RUNNING", attempt=1))
        metrics = {"training_data_size": 700, "training_rounds": 100}
        store.finish(job, token, Ending(status="COMPLETED", metrics=metrics))

    def jobs(api, tenant, **more):
        body = {"config": whole()["config"], "tenant_id": tenant}
        return api.post(VALIDATE, json=body, **more).json()["resolved"]["estimate"]["jobs"]

    assert jobs(opened(), "acme-corp") == 2
    api = opened(tenants={name: JobTenant(token_env=env) for name, env in BEARERS.items()})
    for name, env in BEARERS.items():
        assert jobs(api, name, headers={"Authorization": f"Bearer {TOKENS[env]}"}) == 1


def test_a_database_that_does_not_answer_says_nothing_of_the_rows(opened):
    """Who may name one is told so, and with no word that is secret."""
    api = opened(tenants={"acme-corp": JobTenant(programs=True)})
    config = whole(data="postgresql://reader@localhost:1/nothing")["config"]
    said = api.post(VALIDATE, json={"config": config, "tenant_id": "acme-corp"}).json()
    (warned,) = said["warnings"]
    assert (said["valid"], warned["code"]) == (True, "rows_not_read")
    assert "their database does not answer" in warned["message"]


def test_what_others_train_is_judged_without_rows(api):
    """A trainer that tells nothing of its rows is not asked."""
    body = {"trainer": "drill", "target": {"steps": 10}, "options": {}}
    said = api.post(VALIDATE, json=body).json()
    assert (said["valid"], said["warnings"]) == (True, [])
    assert "estimate" not in said["resolved"]


BOUNDS = """
import os, resource, sys
from pathlib import Path
print(os.nice(0), resource.getrlimit(resource.RLIMIT_AS)[1])
try:
    Path(sys.argv[1]).write_text("x")
except OSError:
    print("writes nothing")
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline(), flush=True)
os._exit(0)
"""


def test_whoever_reads_rows_goes_behind_all_others_and_writes_nothing(tmp_path):
    command = [*program("supervisor.helpers.bounded"), sys.executable, "-c", BOUNDS]
    said = subprocess.run(
        [*command, str(tmp_path / "file")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [f"19 {6 * 2**30}", "writes nothing"]


def test_whoever_reads_rows_ends_with_who_has_asked():
    """A server that is killed leaves nobody behind."""
    forever = "import time; print('here', flush=True); time.sleep(1000)"
    command = [*program("supervisor.helpers.bounded"), sys.executable, "-c", forever]
    said = subprocess.run(
        [sys.executable, "-c", PARENT, *command], capture_output=True, text=True, check=True
    ).stdout
    pid = int(said.split()[0])
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended, too")
