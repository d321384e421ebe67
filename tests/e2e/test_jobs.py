"""Jobs under a real supervisor: taken in by `serve`, trained, told, fetched, and lost by nobody."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from testkit.machine import Machine
from testkit.patience import until
from trainers import durable

BOX = """\
[campaign]
runs = []

[policy]
tick_s = 1.0

[warm]
trainers = []
"""
JOB = {
    "tenant_id": "acme-corp",
    "trainer": "drill",
    "target": {"steps": 60},
    "options": {"steps_per_s": 100},
}


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """A machine that waits for jobs."""
    machine.configure(BOX)
    return machine


class Serving:
    """`supervisor serve` at a free port."""

    def __init__(self, machine: Machine, *words: str) -> None:
        self.log = machine.home.parent / "serve.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                machine.command("serve", "--listen", "127.0.0.1:0", *words),
                env=machine.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: "taken in at" in self.log.read_text(), "it serves")
        found = re.search(r"at (http\S+),", self.log.read_text())
        assert found
        self.address = found[1]

    def get(self, path: str) -> dict[str, Any]:
        return requests.get(f"{self.address}{path}", timeout=30).json()

    def post(self, path: str, body: object) -> dict[str, Any]:
        return requests.post(f"{self.address}{path}", json=body, timeout=30).json()

    def end(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def serving(machine: Machine) -> Iterator[Serving]:
    one = Serving(machine)
    yield one
    one.process.terminate()
    one.process.wait(60)


def status(machine: Machine, job_id: str) -> str:
    said = machine("jobs", "show", job_id, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["status"]


def test_a_job_goes_from_its_request_to_its_end(machine: Machine, serving: Serving) -> None:
    """By HTTP and by the command line, which tell the same; a signal ends the server well."""
    machine.start()
    job_id = serving.post("/jobs", JOB)["job_id"]
    body = machine.home.parent / "job.json"
    body.write_text(json.dumps(JOB))
    other = machine("jobs", "submit", str(body)).stdout.strip()
    followed = machine("jobs", "logs", job_id, "-f")
    assert followed.returncode == 0, followed
    assert "done at step 60" in followed.stdout
    assert serving.get(f"/jobs/{job_id}")["status"] == "COMPLETED"
    machine.until(lambda: serving.get(f"/jobs/{other}")["status"] == "COMPLETED", "so is the other")
    mine = json.loads(machine("jobs", "show", other, "--json").stdout)
    theirs = serving.get(f"/jobs/{other}")
    assert {**mine, "as_of": None} == {**theirs, "as_of": None}
    assert serving.end() == 0
    assert "Traceback" not in serving.log.read_text()


def test_whoever_is_killed_each_job_ends_once(machine: Machine, serving: Serving) -> None:
    """The server with `kill -9`, its dispatcher with it, and a backup is restored meanwhile."""
    machine.start()
    job_id = serving.post("/jobs", {**JOB, "target": {"steps": 400}})["job_id"]
    machine.until(lambda: status(machine, job_id) == "RUNNING", "it runs")
    backup = machine.home.parent / "jobs.backup"
    assert machine("jobs", "backup", str(backup)).returncode == 0
    later = serving.post("/jobs", JOB)["job_id"]
    assert machine("jobs", "restore", str(backup), "--yes").returncode == 0
    assert machine("jobs", "show", later).returncode == 2
    serving.end(signal.SIGKILL)
    until(lambda: not durable.is_held(machine.home / "dispatcher"), "its dispatcher has ended, too")
    again = Serving(machine)
    try:
        machine.until(lambda: status(machine, job_id) == "COMPLETED", "it is done")
        told = again.get(f"/jobs/{job_id}")
        assert (told["attempt"], told["progress"]) == (1, 100.0)
        ended = [one for one in machine.events("run.done") if one["run"] == job_id]
        assert len(ended) == 1
    finally:
        again.end()


def test_whoever_follows_over_a_kill_of_the_server_misses_nothing(
    machine: Machine, serving: Serving
) -> None:
    """Lines and events, over two attempts, too: who comes again gets exactly the rest."""
    daemon = machine.start()
    asked = {**JOB, "target": {"steps": 400}, "options": {"steps_per_s": 100, "print_mib": 1}}
    job_id = serving.post("/jobs", asked)["job_id"]
    machine.until(lambda: status(machine, job_id) == "RUNNING", "it runs")
    assert machine.stop(daemon) == 0
    told = streamed(serving, job_id, None, most=40)
    serving.end(signal.SIGKILL)
    machine.start()
    again = Serving(machine)
    try:
        told += streamed(again, job_id, told[-1][0])
        assert len({name for name, *_ in told}) == len(told), "nothing came twice"
        lines = [json.loads(data)["line"] for _, kind, data in told if kind == "log"]
        output = machine.home / "runs" / job_id / "output.log"
        assert lines == output.read_text().splitlines()
        begun = [line for line in lines if " begins in boot 1" in line]
        assert ["attempt 1" in begun[0], "attempt 2" in begun[1], len(begun)] == [True, True, 2]
        events = [int(name.split(".")[0]) for name, kind, _ in told if kind != "log"]
        assert events == sorted(set(events))
        assert json.loads(told[-1][2])["status"] == "COMPLETED"
    finally:
        again.end()


def streamed(
    serving: Serving, job_id: str, after: str | None, most: int | None = None
) -> list[tuple[str, str, str]]:
    """Ids, kinds and contents of events behind a known one; so many, or until the job has ended."""
    headers = {} if after is None else {"last-event-id": after}
    found: list[tuple[str, str, str]] = []
    rest = b""
    with requests.get(
        f"{serving.address}/jobs/{job_id}/events", headers=headers, stream=True, timeout=60
    ) as answer:
        for piece in answer.iter_content(None):
            *whole, rest = (rest + piece).split(b"\n\n")
            for text in whole:
                lines = [line for line in text.decode().split("\n") if not line.startswith(":")]
                if lines:
                    one = dict(line.split(": ", 1) for line in lines)
                    found.append((one["id"], one["event"], one["data"]))
            if most is not None and len(found) >= most:
                return found[:most]
    return found


def test_a_dispatcher_alone_serves_the_command_line(machine: Machine, tmp_path: Path) -> None:
    """And a second one of the same home ends with one line."""
    machine.start()
    dispatcher = subprocess.Popen(
        machine.command("dispatch"), env=machine.environment(), start_new_session=True
    )
    try:
        until((machine.home / "dispatcher").exists, "it dispatches")
        body = tmp_path / "job.json"
        body.write_text(json.dumps(JOB))
        job_id = machine("jobs", "submit", str(body)).stdout.strip()
        machine.until(lambda: status(machine, job_id) == "COMPLETED", "it is done")
        second = machine("dispatch")
        assert (second.returncode, second.stderr.count("\n")) == (75, 1)
        assert "one is enough" in second.stderr
    finally:
        dispatcher.terminate()
        assert dispatcher.wait(60) == 0


def test_where_the_api_cannot_answer_it_says_so_in_one_line(machine: Machine) -> None:
    """A port that is taken, an address for all without tokens, nonsense, jobs that nobody wants."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = machine("serve", "--listen", f"127.0.0.1:{port}")
    assert (said.returncode, "somebody else listens" in said.stderr) == (75, True)
    assert said.stderr.count("\n") == 1
    for listen, code, text in (
        ("192.0.2.1:0", 75, "Cannot assign requested address"),
        ("nonsense", 2, "127.0.0.1:8000"),
    ):
        said = machine("serve", "--listen", listen)
        assert (said.returncode, text in said.stderr, said.stdout) == (code, True, ""), said
        assert said.stderr.count("\n") == 1
    machine.configure("[web]\nenabled = false\n[jobs]\nenabled = false\n")
    said = machine("serve")
    assert (said.returncode, "enabled = false" in said.stderr) == (78, True)
    assert not (machine.home / "jobs.db").exists()


def test_a_damaged_store_ends_both_with_one_line(machine: Machine) -> None:
    """It is named and left as it is."""
    (machine.home / "jobs.db").write_bytes(b"nonsense" * 1000)
    for words in (("serve", "--listen", "127.0.0.1:0"), ("dispatch",)):
        said = machine(*words)
        assert (said.returncode, said.stderr.count("\n")) == (78, 1), said
        assert "supervisor jobs restore" in said.stderr
    assert (machine.home / "jobs.db").read_bytes() == b"nonsense" * 1000
