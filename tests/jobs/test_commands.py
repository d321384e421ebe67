"""Jobs on the command line, over a store of either kind, without a server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from state.jobs.database import FILE
from state.jobs.records import Ending, Model, Seen
from state.jobs.store import JobStore
from state.jobs.tables import REVISION
from state.records import Goal, HomeId, Memory, Place, Rank, Timeline, Visit
from state.store import Store
from supervisor.cli import main
from supervisor.commands.jobs import RANKS, STATUSES
from supervisor.jobs import desk
from supervisor.jobs.contract import Status as Told
from testkit.job_requests import silence, whole
from testkit.servers import QUOTED, SECRET
from testkit.tables import hourly, write
from trainers.contract import TRAINERS_DIR


class Said(NamedTuple):
    """What a command has said."""

    code: int
    out: str
    err: str


Supervisor = Callable[..., Said]


@pytest.fixture
def supervisor(url: str, home: Path, capsys, monkeypatch) -> Supervisor:
    """The command line about a home whose jobs are in that store."""
    settings = home / "supervisor.toml"
    if not url.startswith("sqlite"):
        named = url.replace(f":{QUOTED}@", "@")
        settings.write_text(
            f'[jobs]\ndatabase_url = "{named}"\ndatabase_password_env = "JOBS_PASSWORD"\n'
        )
        monkeypatch.setenv("JOBS_PASSWORD", SECRET)

    def run(*words: str, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            code = main(["--home", str(home), *words])
        except SystemExit as error:  # of argparse
            code = int(error.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A file with the document's own first request."""
    path = tmp_path / "job.json"
    path.write_text(json.dumps(whole()))
    return str(path)


def submitted(supervisor: Supervisor, *words: str, **keys: Any) -> str:
    """The id of a new job."""
    said = supervisor("jobs", "submit", "-", *words, stdin=json.dumps(whole() | keys))
    assert (said.code, said.err) == (0, "")
    return said.out.strip()


def told(supervisor: Supervisor, job_id: str) -> dict[str, Any]:
    said = supervisor("jobs", "show", job_id, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def completed(store: JobStore, job_id: str, **keys: Any) -> None:
    """Have it trained, in a home of that name."""
    job = store.claim(job_id, "here")
    assert job is not None
    assert job.claim is not None
    store.mirror(job_id, job.claim.token, Seen(status="RUNNING", attempt=1, progress=40.0))
    ending = Ending(**{"status": "COMPLETED", "metrics": {"mae": 1.5, "rmse": 2.25}, **keys})
    store.finish(job_id, job.claim.token, ending)


def test_what_would_become_of_a_job_is_told_and_nothing_is_made(supervisor, home):
    """Its rows are looked at; exit code 2 says that it cannot be."""
    said = supervisor("jobs", "validate", "-", stdin=json.dumps(whole()))
    assert (said.code, said.err) == (2, "")
    assert "data: Table not found: features.load_forecasting" in said.out
    folder = home / "tables" / whole()["tenant_id"]
    folder.mkdir(parents=True)
    write(folder / "features.load_forecasting.parquet", hourly(1200))
    before = sorted(home.rglob("*"))
    said = supervisor("jobs", "validate", "-", stdin=json.dumps(whole()))
    assert (said.code, said.err) == (0, "")
    assert "1,200 from 2024-01-01T00:00:00Z to 2024-02-19T23:00:00Z, 1 h apart" in said.out
    said = supervisor("jobs", "validate", "-", "--json", stdin=json.dumps(whole()))
    assert json.loads(said.out)["resolved"]["rows"]["rows"] == 1200
    other = supervisor(
        "jobs", "validate", "-", "--tenant", "other", "--json", stdin=json.dumps(whole())
    )
    assert json.loads(other.out)["refusal"]["details"]["tenant_id"] == "other"
    wrong = supervisor(
        "jobs", "validate", "-", stdin=json.dumps(whole(validation_split=1.5, horizon=0))
    )
    assert wrong.code == 2
    assert "validation_split: Must be between 0.0 and 1.0" in wrong.out
    assert sorted(home.rglob("*")) == before


def test_a_trainer_of_the_users_own_is_found_where_the_settings_say(supervisor, home, monkeypatch):
    """By whatever takes a job in, as by what trains it."""
    monkeypatch.setenv(TRAINERS_DIR, "/of/somebody/else")
    (home / "mine").mkdir()
    (home / "mine/ours.py").write_text('UNIT = "steps"\n\ndef train(session):\n    pass\n')
    settings = home / "supervisor.toml"
    before = settings.read_text() if settings.exists() else ""
    mine = f'trainers_dir = "mine"\n{before}\n[jobs.tenants.acme]\nprograms = true\n'
    settings.write_text(mine)
    body = {"tenant_id": "acme", "trainer": "ours", "target": {"steps": 3}, "options": {}}
    said = supervisor("jobs", "submit", "-", stdin=json.dumps(body))
    assert (said.code, said.err) == (0, "")


def test_a_job_is_handed_in_and_told(supervisor, body):
    """What is printed is its id, which is all that other commands want."""
    said = supervisor("jobs", "submit", body)
    assert (said.code, said.err) == (0, "")
    job_id = said.out.strip()
    job = told(supervisor, job_id[:8])
    assert (job["job_id"], job["status"], job["tenant_id"]) == (job_id, "PENDING", "acme-corp")
    assert job["config"]["features"] == whole()["config"]["features"]
    assert job_id in supervisor("jobs", "list").out
    shown = supervisor("jobs", "show", job_id[:8].upper()).out
    assert "forecast-lgbm, by the trainer tabular" in shown
    assert "priority high" in shown


def test_the_body_may_come_from_a_pipe_and_be_for_another_tenant(supervisor):
    """`--tenant` says for whom, whatever the body says."""
    job_id = submitted(supervisor, "--tenant", "b-corp")
    assert told(supervisor, job_id)["tenant_id"] == "b-corp"
    body = whole()
    del body["tenant_id"]
    said = supervisor("jobs", "submit", "-", "--tenant", "c", "--json", stdin=json.dumps(body))
    assert json.loads(said.out)["tenant_id"] == "c"
    assert [job["tenant_id"] for job in listed(supervisor)] == ["c", "b-corp"]
    assert len(listed(supervisor, "--tenant", "c")) == 1


def listed(supervisor: Supervisor, *words: str) -> list[dict[str, Any]]:
    said = supervisor("jobs", "list", "--json", *words)
    assert said.code == 0, said.err
    return json.loads(said.out)["jobs"]


@pytest.mark.parametrize(
    ("keys", "code", "text"),
    [
        ({"config": {**whole()["config"], "validation_split": 1.5}}, 2,
         "validation_split: Must be between 0.0 and 1.0"),
        ({"priorty": "high"}, 2, "priorty: No such key"),
        ({"tenant_id": "../x"}, 2, "tenant_id: "),
        ({"config": None, "model_type": None, "trainer": "command", "options": {"command": ["x"]}},
         2, "programs = true"),
        ({"config": {**whole()["config"], "distributed": True,
                     "ray_config": {"num_workers": 8}}}, 2, "8 workers are asked for"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_refused_in_one_line(supervisor, keys, code, text):
    """By the very code that judges what the API is sent; nothing is taken in."""
    body = {key: it for key, it in (whole() | keys).items() if it is not None}
    said = supervisor("jobs", "submit", "-", stdin=json.dumps(body))
    assert (said.code, said.out) == (code, "")
    assert text in said.err
    assert said.err.count("\n") == 1
    assert supervisor("jobs", "list").out == "no jobs\n"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": NaN}', "x" * (2**20 + 2)])
def test_what_is_no_request_is_refused_in_one_line(supervisor, content):
    """Whatever the bytes are."""
    said = supervisor("jobs", "submit", "-", stdin=content)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "Traceback" not in said.err


def test_jobs_are_listed_by_what_is_asked_for(supervisor, store):
    """By status, in whatever case, by class, by tenant and by age; newest first."""
    first, second = submitted(supervisor, priority="low"), submitted(supervisor)
    completed(store, first)
    assert [job["job_id"] for job in listed(supervisor)] == [second, first]
    assert [job["job_id"] for job in listed(supervisor, "--status", "completed")] == [first]
    both = listed(supervisor, "--status", "COMPLETED", "--status", "PENDING")
    assert len(both) == 2
    assert [job["job_id"] for job in listed(supervisor, "--priority", "high")] == [second]
    assert listed(supervisor, "--since", "2030-01-01") == []
    assert len(listed(supervisor, "--since", "1h")) == 2
    shortened = supervisor("jobs", "list", "-n", "1").out
    assert "and 1 older ones: -n 2 shows all" in shortened
    assert supervisor("jobs", "list", "--status", "DONE").code == 2
    assert supervisor("jobs", "list", "--since", "soon").code == 2


def test_the_words_of_the_command_line_are_those_of_the_api():
    """One class or status more in the contract is one more here."""
    assert get_args(Told) == STATUSES
    assert get_args(Rank) == RANKS


def test_a_job_is_cancelled_retried_and_preferred(supervisor, store):
    """Each says what has become of it; what makes no sense is refused with what to do."""
    job_id = submitted(supervisor)
    assert supervisor("jobs", "priority", job_id, "critical").code == 0
    assert told(supervisor, job_id)["priority"] == "critical"
    refused = supervisor("jobs", "retry", job_id)
    assert (refused.code, "jobs cancel" in refused.err) == (2, True)
    for _ in range(2):
        assert supervisor("jobs", "cancel", job_id).out == f"job {job_id} is cancelled\n"
    refused = supervisor("jobs", "priority", job_id, "low")
    assert (refused.code, "jobs retry" in refused.err) == (2, True)
    assert supervisor("jobs", "retry", job_id).code == 0
    assert told(supervisor, job_id)["status"] == "PENDING"
    store.claim(job_id, "here")
    assert "its home saves it first" in supervisor("jobs", "cancel", job_id).out
    assert "is to be cancelled" in supervisor("jobs", "show", job_id).out


def test_of_an_ended_job_all_is_told(supervisor, store):
    """Its metrics, its model, its attempts; of one that failed the reason."""
    one, other = submitted(supervisor), submitted(supervisor)
    completed(store, one, model=Model(sha256="ab" * 32, size_bytes=2048))
    error = {"error": "DataLoadError", "message": "Failed to load training data",
             "details": {"reason": "Table not found: features.load_forecasting"}}  # fmt: skip
    completed(store, other, status="FAILED", error=error, metrics=None)
    shown = supervisor("jobs", "show", one).out
    for text in ("COMPLETED", "100 %", "mae 1.5, rmse 2.25", "version 1", "abababababab"):
        assert text in shown
    assert "1 began" in shown
    refused = supervisor("jobs", "priority", one, "low")
    assert (refused.code, refused.err.endswith("another class: it has ended\n")) == (2, True)
    for page in (supervisor("jobs", "show", other).out, supervisor("jobs", "list").out):
        assert "Failed to load training data: Table not found" in page
    assert told(supervisor, other)["error"]["details"]["reason"].startswith("Table not found")
    models = supervisor("models").out
    assert "forecast-lgbm" in models
    (model,) = json.loads(supervisor("models", "--json").out)["models"]
    assert (model["job_id"], model["created_at"][-1]) == (one, "Z")
    assert supervisor("models", "--tenant", "other").out == "no models\n"
    assert supervisor("models", "other").out == "no models\n"


def test_a_word_that_means_no_job_or_several_is_told_so(supervisor):
    """And where to look."""
    jobs = [submitted(supervisor) for _ in range(18)]
    shared = next(one[0] for one in jobs if sum(it[0] == one[0] for it in jobs) > 1)
    said = supervisor("jobs", "show", shared)
    assert (said.code, "say more of it" in said.err) == (2, True)
    for word in ("zz", "%", "0" * 36, "", "\x1b[31m"):
        said = supervisor("jobs", "show", word)
        assert (said.code, "supervisor jobs list" in said.err) == (2, True)
        assert "\x1b" not in said.err


def test_what_a_trainer_prints_is_shown_until_its_job_has_ended(supervisor, store, home):
    """The exit code tells whether it is COMPLETED."""
    job_id = submitted(supervisor)
    said = supervisor("jobs", "logs", job_id)
    assert (said.code, "no home has the job yet" in said.err) == (2, True)
    output = home / "runs" / job_id / "output.log"
    output.parent.mkdir(parents=True)
    output.write_text("".join(f"line {number}\n" for number in range(30)))
    assert supervisor("jobs", "logs", job_id, "-n", "2").out == "line 28\nline 29\n"
    completed(store, job_id)
    said = supervisor("jobs", "logs", job_id, "-n", "1", "-f")
    assert (said.code, said.out) == (0, "line 29\n")
    assert said.err == f"supervisor: job {job_id} is COMPLETED\n"
    other = submitted(supervisor)
    supervisor("jobs", "cancel", other)
    (home / "runs" / other).mkdir()
    (home / "runs" / other / "output.log").touch()
    assert supervisor("jobs", "logs", other, "-f").code == 1


def test_where_nothing_was_printed_it_is_told_why(supervisor, store, home):
    """Another home has the job, or it has not begun here, or somebody has removed its folder."""
    know_home(home, "here")
    job_id, other = submitted(supervisor), submitted(supervisor)
    store.claim(other, "there")
    said = supervisor("jobs", "logs", other)
    assert (said.code, "the home there has it" in said.err) == (2, True)
    claimed = store.claim(job_id, "here")
    said = supervisor("jobs", "logs", job_id)
    assert (said.code, "the job has not begun" in said.err) == (2, True)
    store.mirror(job_id, claimed.claim.token, Seen(status="RUNNING", attempt=1))
    said = supervisor("jobs", "logs", job_id)
    assert (said.code, "somebody has removed it" in said.err) == (2, True)


def leave(folder: Path, **files: bytes) -> None:
    """The files of a finished run, and last what they hash to."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(it).hexdigest()}  {name}\n" for name, it in files.items())
    (folder / "SHA256SUMS").write_text(sums)


def test_what_a_job_has_left_is_fetched_whole_or_not_at_all(supervisor, store, home, tmp_path):
    """Each file is what its hash says, and nothing is written over."""
    job_id = submitted(supervisor)
    target, folder = tmp_path / "a" / "model", home / "runs" / job_id
    said = supervisor("jobs", "fetch", job_id, "-o", str(target))
    assert (said.code, "logs -f" in said.err) == (2, True)
    sha256 = hashlib.sha256(b"learnt").hexdigest()
    completed(store, job_id, model=Model(sha256=sha256), kept_bytes=6)
    said = supervisor("jobs", "fetch", job_id, "-o", str(target))
    assert (said.code, "the home here has it" in said.err) == (2, True)
    leave(folder, model=b"of another training")
    said = supervisor("jobs", "fetch", job_id, "-o", str(target))
    assert (said.code, "another model" in said.err) == (1, True)
    shutil.rmtree(folder)
    leave(folder, model=b"learnt", card=b"{}")
    (folder / "model").write_bytes(b"lernt")
    said = supervisor("jobs", "fetch", job_id, "-o", str(target))
    assert (said.code, "not what was written" in said.err) == (1, True)
    (folder / "card").unlink()
    (folder / "model").write_bytes(b"learnt")
    assert "is gone" in supervisor("jobs", "fetch", job_id, "-o", str(target)).err
    (folder / "card").write_bytes(b"{}")
    assert list(target.parent.iterdir()) == []
    assert supervisor("jobs", "fetch", job_id, "-o", str(target)).code == 0
    assert {path.name for path in target.iterdir()} == {"model", "card", "SHA256SUMS"}
    assert (target / "model").read_bytes() == b"learnt"
    said = supervisor("jobs", "fetch", job_id, "-o", str(target))
    assert (said.code, "is there already" in said.err) == (2, True)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../../supervisor.toml\n")
    assert "none of its own" in supervisor("jobs", "fetch", job_id, "-o", str(tmp_path / "b")).err
    (folder / "SHA256SUMS").unlink()
    said = supervisor("jobs", "fetch", job_id, "-o", str(tmp_path / "b"))
    assert (said.code, str(folder) in said.err) == (2, True)


def test_schedules_are_told_with_their_next_instant(supervisor, store):
    """And when they have fired last."""
    assert supervisor("jobs", "schedules").out == "no schedules\n"
    job_id = submitted(supervisor, schedule="0 2 * * 7", schedule_timezone="Europe/Berlin")
    shown = supervisor("jobs", "schedules").out
    assert "Europe/Berlin  never" in shown
    store.fire(job_id, 1_764_464_400)
    (one,) = json.loads(supervisor("jobs", "schedules", "--json").out)
    assert (one["job_id"], one["fired_at"]) == (job_id, "2025-11-30T01:00:00.000Z")
    assert one["next_at"].endswith(":00:00.000Z")
    assert "scheduled" in supervisor("jobs", "list").out


def test_a_backup_is_restored_after_a_question(supervisor, home, tmp_path):
    """Into the store in use; the question is not asked where nobody could answer."""
    kept = submitted(supervisor)
    said = supervisor("jobs", "backup")
    assert (said.code, Path(said.out.strip()).parent) == (0, home / "backups")
    named = tmp_path / "b.backup"
    assert supervisor("jobs", "backup", str(named)).code == 0
    refused = supervisor("jobs", "backup", str(named))
    assert (refused.code, "name another file" in refused.err) == (2, True)
    submitted(supervisor)
    refused = supervisor("jobs", "restore", str(named))
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert len(listed(supervisor)) == 2
    assert supervisor("jobs", "restore", str(named), "--yes").code == 0
    assert [job["job_id"] for job in listed(supervisor)] == [kept]
    named.write_bytes(b"nonsense")
    refused = supervisor("jobs", "restore", str(named), "--yes")
    assert (refused.code, "nothing was restored" in refused.err) == (2, True)
    assert len(listed(supervisor)) == 1


def test_folders_are_cleared_away_and_what_is_known_stays(supervisor, store, home, tmp_path):
    """What goes is told before by a dry run; models that are kept stay, however old."""
    with (home / "supervisor.toml").open("a") as file:
        if "[jobs]" not in (home / "supervisor.toml").read_text():
            file.write("[jobs]\n")
        file.write("keep_days = 0\n[jobs.tenants.acme-corp]\nkeep = 1\n")
    old, newer, failed, waits = (submitted(supervisor) for _ in range(4))
    for job_id in (old, newer):
        completed(store, job_id, model=Model(sha256="ab" * 32), kept_bytes=2**20)
    supervisor("jobs", "cancel", failed)
    # Nobody knows yet which runs of this home are over.
    refused = supervisor("jobs", "prune", "--dry-run")
    assert (refused.code, "nothing is cleared away" in refused.err) == (75, True)
    know_home(home, "here")
    for job_id in (old, newer, failed, waits):
        leave(home / "runs" / job_id, model=b"learnt" * 100_000)
    said = supervisor("jobs", "prune", "--dry-run")
    assert said.code == 0
    assert "version 1 of forecast-lgbm is older than the 1 that are kept" in said.out
    assert said.out.endswith("folders that would go: 2, with 1 MiB\n")
    assert len(list((home / "runs").iterdir())) == 4
    found = json.loads(supervisor("jobs", "prune", "--json").out)
    assert {one["job_id"] for one in found["jobs"]} == {old, failed}
    assert {path.name for path in (home / "runs").iterdir()} == {newer, waits}
    assert supervisor("jobs", "prune").out == "folders that are gone: 0, with 0 MiB\n"
    assert supervisor("jobs", "prune", "--quiet").out == ""
    assert {job["job_id"] for job in listed(supervisor)} == {old, newer, failed, waits}
    models = json.loads(supervisor("models", "--json").out)["models"]
    assert [(one["version"], one["kept"]) for one in models] == [(2, True), (1, False)]
    assert "cleared away" in supervisor("jobs", "show", old).out
    for words in (("jobs", "fetch", old, "-o", str(tmp_path / "model")), ("jobs", "logs", old)):
        refused = supervisor(*words)
        assert (refused.code, "was cleared away" in refused.err) == (2, True)
    kept = json.loads(supervisor("jobs", "show", newer, "--json").out)["kept_bytes"]
    assert 600_000 < kept < 601_000  # measured, whatever was noted before


@pytest.mark.parametrize("before", ["files_left", "checked"])
def test_what_goes_while_it_is_fetched_is_said_to_be_cleared_away(
    supervisor, store, home, tmp_path, monkeypatch, before
):
    """It is not spoilt, and nothing of it is there."""
    know_home(home, "here")
    job_id = submitted(supervisor)
    leave(home / "runs" / job_id, model=b"learnt")
    sha256 = hashlib.sha256(b"learnt").hexdigest()
    completed(store, job_id, model=Model(sha256=sha256), kept_bytes=6)
    act = getattr(desk, before)

    def cleared(*asked):
        shutil.rmtree(home / "runs" / job_id)
        return act(*asked)

    monkeypatch.setattr(desk, before, cleared)
    refused = supervisor("jobs", "fetch", job_id, "-o", str(tmp_path / "model"))
    assert (refused.code, "was cleared away" in refused.err) == (2, True)
    assert not (tmp_path / "model").exists()


def know_home(home: Path, name: str) -> None:
    """Have a supervisor have lived there, under that name."""
    stat = home.stat()
    place = Place(machine_id=None, device=stat.st_dev, inode=stat.st_ino)
    time = Timeline(seen_at=1.0, boot_id="b" * 32, monotonic_s=1.0, boottime_s=1.0)
    Store(home / "state.json").save(
        Memory(
            home=HomeId(id=name, place=place),
            began_at=1.0,
            timeline=time,
            goal=Goal(mode="light"),
            visit=Visit(entered_s=0.0, entered_at=1.0),
        )
    )


def test_a_job_of_a_home_that_is_gone_is_taken_over(supervisor, store, home):
    """Never one of a home that tells of it, nor without a question; the old one writes no more."""
    job_id = submitted(supervisor)

    def refused(text: str) -> None:
        said = supervisor("jobs", "take-over", job_id, "--yes")
        assert (said.code, text in said.err) == (2, True), said

    refused("no home has it")
    job = store.claim(job_id, "far")
    store.mirror(job_id, job.claim.token, Seen(status="RUNNING", attempt=1))
    refused("its home far told of it")
    silence(store, job_id, 200.0)
    assert "RUNNING (stale)" in supervisor("jobs", "list").out
    assert "take-over" in supervisor("jobs", "why", job_id).out
    refused("supervisor run")
    know_home(home, "here")
    said = supervisor("jobs", "take-over", job_id)
    assert (said.code, "--yes" in said.err) == (2, True)
    assert supervisor("jobs", "take-over", job_id, "--yes").code == 0
    taken = store.get(job_id)
    assert (taken.claim.home, taken.became.status) == ("here", "PENDING")
    assert store.mirror(job_id, job.claim.token, Seen(status="RUNNING", attempt=1)) is None
    refused("this home has it")
    supervisor("jobs", "cancel", job_id)
    store.finish(job_id, taken.claim.token, Ending(status="CANCELLED"))
    refused("it is CANCELLED")


def test_the_doctor_looks_at_the_store(supervisor, url, home):
    """How many jobs there are, and how old the newest backup is."""
    with (home / "supervisor.toml").open("a") as file:
        file.write("[campaign]\nruns = []\n")  # no trainer has to be asked

    def found() -> tuple[str, str]:
        findings = json.loads(supervisor("doctor", "--json").out)
        (one,) = [one for one in findings if one["what"] == "jobs"]
        assert SECRET not in one["result"]
        return one["verdict"], one["result"]

    submitted(supervisor)
    verdict, result = found()
    assert (verdict, result[:5]) == ("note", "1 in ")
    assert "supervisor jobs backup" in result
    supervisor("jobs", "backup")
    verdict, result = found()
    assert (verdict, "the newest backup is" in result) == ("well", True)
    if url.startswith("sqlite"):
        (home / FILE).write_bytes(b"nonsense" * 1000)
        assert found()[0] == "bad"


def test_migrating_again_changes_nothing(supervisor):
    """And says so."""
    said = supervisor("jobs", "migrate")
    assert (said.code, f"is as it was: revision {REVISION}" in said.out) == (0, True)


def test_a_tenant_has_its_quota_here_too(supervisor, home):
    """What the API would refuse for now is refused for now."""
    with (home / "supervisor.toml").open("a") as file:
        file.write("[jobs.tenants.acme-corp]\nqueued = 1\n")
    submitted(supervisor)
    said = supervisor("jobs", "submit", "-", stdin=json.dumps(whole()))
    assert (said.code, "The quota queued is used up: 1 of 1" in said.err) == (75, True)


def test_who_tries_a_job_again_has_the_same_quota(supervisor, home, store):
    """It waits as one that is handed in; what cannot be tried again is refused for that."""
    ended, waits = submitted(supervisor), submitted(supervisor)
    supervisor("jobs", "cancel", ended)
    with (home / "supervisor.toml").open("a") as file:
        file.write("[jobs.tenants.acme-corp]\nqueued = 1\n")
    said = supervisor("jobs", "retry", ended)
    assert (said.code, "The quota queued is used up: 1 of 1" in said.err) == (75, True)
    assert store.get(ended).became.status == "CANCELLED"
    said = supervisor("jobs", "retry", waits)
    assert (said.code, "cannot be retried" in said.err) == (2, True)
    supervisor("jobs", "cancel", waits)
    assert supervisor("jobs", "retry", ended).code == 0


class TestWithoutAStore:
    """A home in which nobody has handed anything in."""

    @pytest.fixture
    def url(self, home: Path) -> str:
        return f"sqlite:///{home}/{FILE}"

    @pytest.mark.parametrize(
        "words",
        [("jobs", "list"), ("jobs", "show", "a"), ("jobs", "cancel", "a"), ("models",),
         ("jobs", "schedules"), ("jobs", "logs", "a")],
    )  # fmt: skip
    def test_nothing_is_made_by_looking(self, supervisor, home, words):
        """It is told how a first job comes."""
        said = supervisor(*words)
        assert (said.code, "supervisor jobs submit FILE" in said.err) == (2, True)
        assert not (home / FILE).exists()

    def test_the_first_job_makes_it(self, supervisor, home):
        """For the home's owner alone."""
        submitted(supervisor)
        assert (home / FILE).stat().st_mode & 0o777 == 0o600

    def test_a_refused_job_makes_none(self, supervisor, home):
        """Nor does one that the settings want nowhere."""
        assert supervisor("jobs", "submit", "-", stdin="{}").code == 2
        (home / "supervisor.toml").write_text("[jobs]\nenabled = false\n")
        said = supervisor("jobs", "submit", "-", stdin=json.dumps(whole()))
        assert (said.code, "enabled = false" in said.err) == (78, True)
        assert not (home / FILE).exists()

    def test_a_backup_may_make_it(self, supervisor, home, tmp_path):
        """As on a new machine."""
        submitted(supervisor)
        supervisor("jobs", "backup", str(tmp_path / "b"))
        (home / FILE).unlink()
        for beside in home.glob(f"{FILE}-*"):
            beside.unlink()
        assert supervisor("jobs", "restore", str(tmp_path / "b"), "--yes").code == 0
        assert len(listed(supervisor)) == 1

    def test_a_damaged_one_is_left_as_it_is(self, supervisor, home):
        """And what helps is told."""
        (home / FILE).write_bytes(b"nonsense" * 1000)
        for words in (("jobs", "list"), ("jobs", "migrate"), ("jobs", "backup")):
            said = supervisor(*words)
            assert said.code == 78, words
            assert "supervisor jobs restore" in said.err
        assert (home / FILE).read_bytes() == b"nonsense" * 1000


def test_a_password_is_in_no_message(supervisor, home, url, monkeypatch):
    """Where the store does not serve, its address is told without it."""
    if url.startswith("sqlite"):
        (home / "supervisor.toml").write_text(
            '[jobs]\ndatabase_url = "postgresql://me@127.0.0.1:1/x"\n'
            'database_password_env = "JOBS_PASSWORD"\n'
        )
        monkeypatch.setenv("JOBS_PASSWORD", SECRET)
    else:
        monkeypatch.setenv("JOBS_PASSWORD", SECRET + "wrong")
    said = supervisor("jobs", "list")
    assert (said.code, said.err.count("\n")) == (75, 1)
    assert SECRET not in said.err
    assert QUOTED not in said.err
    monkeypatch.delenv("JOBS_PASSWORD")
    assert supervisor("jobs", "list").code == 78
    assert "JOBS_PASSWORD" not in os.environ
