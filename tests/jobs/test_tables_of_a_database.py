"""Tenants whose tables lie in one PostgreSQL: each learns from its own rows, and from no others."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from state.jobs.database import FILE, url_of_home
from state.jobs.store import JobStore
from testkit import servers
from testkit.job_requests import whole
from testkit.machine import Machine
from testkit.patience import until
from testkit.servers import Server
from testkit.tables import hourly, wanted, write
from trainers import tables

Validated = Callable[..., dict[str, Any]]

TABLE = "features.load_forecasting"
ACME, OTHER, NEARLY = "acme-corp", "other", "ACME-CORP"
ROWS = {ACME: 900, OTHER: 500, NEARLY: 700}
"""of each tenant"""
MARK = 7_000_000
"""about the load of all tenants but the first"""
OBJECTS = """
CREATE TABLE features.nobodys AS TABLE features.load_forecasting;
ALTER TABLE features.nobodys DROP whose;
CREATE VIEW features.seen AS TABLE features.load_forecasting;
"""


@pytest.fixture
def url(home: Path, made: Path) -> str:
    """A store of SQLite alone: where jobs are kept says nothing of their tables."""
    shutil.copy(made / FILE, home)
    return url_of_home(home)


@pytest.fixture
def shared(server: Server, home: Path) -> Iterator[str]:
    """The address of a database with a table of several tenants, and of a file of its password."""
    passfile = home / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"{servers.HERE}:*:*:{servers.USER}:{servers.SECRET}\n")
    with server.master() as cursor:
        cursor.execute("CREATE SCHEMA features")
        cursor.execute(
            f"CREATE TABLE {TABLE} (time timestamp, load float, temperature float, "
            "humidity float, whose text)"
        )
        with cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
            for tenant, rows in ROWS.items():
                columns = rows_of(tenant)
                times = np.datetime_as_string(columns.pop("time"), "s")
                for row in zip(times, *columns.values(), [tenant] * rows, strict=True):
                    copy.write_row(row)
        cursor.execute(OBJECTS)
        yield f"{server.url}?passfile={passfile}"
        cursor.execute("DROP SCHEMA features CASCADE")


def rows_of(tenant: str) -> dict[str, Any]:
    """The rows of a tenant; the times of all are the same."""
    columns = hourly(ROWS[tenant], seed=len(tenant))
    return columns if tenant == ACME else columns | {"load": columns["load"] + MARK}


@pytest.fixture
def validated(opened: Callable[..., httpx.Client], shared: str) -> Validated:
    """What is answered to a request of a tenant."""
    api = opened(tables_url=shared, tables_tenant_column="whose")

    def ask(tenant: str = ACME, **config: Any) -> dict[str, Any]:
        body = {"config": whole(**config)["config"], "tenant_id": tenant}
        answer = api.post("/ai/training/validate", json=body)
        assert answer.status_code == 200, answer.text
        assert not holds_password(answer.content)
        assert "passfile" not in answer.text
        return answer.json()

    return ask


@pytest.mark.parametrize(
    ("tenant", "data"), [(ACME, ...), (OTHER, TABLE), (NEARLY, ...), (ACME, "features.seen")]
)
def test_each_tenant_sees_its_own_rows_of_a_table_that_all_share(validated, tenant, data):
    """Through a view, too; and hears nothing of where the table is but its name."""
    said = validated(tenant, data=data)
    assert said["errors"] == []
    assert said["resolved"]["rows"]["rows"] == ROWS[tenant]
    assert said["resolved"]["data"] == (TABLE if data is ... else data)
    assert said["resolved"].keys().isdisjoint({"table", "only"})
    assert servers.HERE not in json.dumps(said)


@pytest.mark.parametrize(
    ("tenant", "config", "words"),
    [
        (ACME, {"data": "features.none"}, "Table not found: features.none"),
        (ACME, {"data": "features.nobodys"}, "features.nobodys has no column whose, which says"),
        (ACME, {"features": ["whose", "load_lag_24"]}, "Column not found: whose"),
        ("acme", {}, f"{TABLE} has no rows"),
    ],
)
def test_what_has_no_rows_of_a_tenant_is_told_and_no_row_of_others(
    validated, tenant, config, words
):
    """As an error of the document, about the table."""
    said = validated(tenant, **config)
    assert (said["valid"], said["resolved"]) == (False, None)
    assert said["refusal"]["error"] == "DataLoadError"
    (found,) = said["errors"]
    assert found["path"] == "config.data"
    assert words in found["error"]
    assert "7000" not in json.dumps(said)
    assert servers.HERE not in json.dumps(said)


def test_a_password_that_others_can_read_is_not_used(validated, home):
    """The database then answers nobody, which says nothing of the rows."""
    (home / "pgpass").chmod(0o644)
    (warned,) = validated()["warnings"]
    assert warned["code"] == "rows_not_read"
    assert "their database does not answer" in warned["message"]


def test_a_job_learns_from_its_tenants_rows_alone(shared, home, commands):
    """From command line to model; the password is in nothing that the machine has written."""
    machine = Machine(home / "box", commands=commands)
    machine.configure(
        f"[campaign]\nruns = []\n[jobs]\ntables_url = '{shared}'\ntables_tenant_column = 'whose'\n"
    )
    body = json.dumps(whole(hyperparameters={"n_estimators": 5}))
    try:
        machine.start()
        submitted = machine("jobs", "submit", "-", stdin=body)
        assert submitted.returncode == 0, submitted.stderr
        job = submitted.stdout.strip()
        machine.launch(machine.command("dispatch"))
        with contextlib.closing(JobStore(url_of_home(machine.home))) as store:
            until(lambda: is_completed(store, job), "it is trained")
        printed = machine("jobs", "logs", job).stdout + machine.screen.read_text()
    finally:
        machine.crash()
    card = json.loads((machine.home / "runs" / job / "model_card.json").read_bytes())
    write(home / "mine.csv", rows_of(ACME))
    mine = tables.prepare(
        wanted(data="mine.csv", features=tuple(whole()["config"]["features"])), home
    )
    assert card["rows"] == ROWS[ACME]
    assert card["data"]["sha256"] == mine.card["data"]["sha256"]
    assert "whose" not in card["data"]["schema"]
    assert not holds_password(printed.encode())
    written = [path for path in machine.home.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if holds_password(path.read_bytes())] == []


def is_completed(store: JobStore, job_id: str) -> bool:
    job = store.get(job_id)
    assert job is not None
    assert job.became.status not in ("FAILED", "CANCELLED"), job
    return job.became.status == "COMPLETED"


def holds_password(content: bytes) -> bool:
    return servers.SECRET.encode() in content or servers.QUOTED.encode() in content
