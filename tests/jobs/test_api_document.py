"""Each request that the guide of the pipeline prints, with real curl and with `requests`.

The words of a request are the guide's; the code around them is ours.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import threading

import pytest
import requests

from state.jobs.records import Ending, Seen
from testkit.job_requests import PRINTED, whole
from testkit.patience import until
from testkit.tables import hourly, write

PRINTED_METRICS = {
    "mae": 12.5,
    "rmse": 18.3,
    "mape": 4.2,
    "r2_score": 0.91,
    "training_duration_seconds": 12.3,
    "training_data_size": 8784,
}

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""the store makes no difference here"""


@pytest.fixture
def address(api):
    """`API_URL` of the guide, with the port that was free."""
    return str(api.base_url).rstrip("/")


@pytest.fixture
def curl(address):
    """A line of the guide, run by a shell's rules, with our port; status and body."""

    def run(line):
        words = shlex.split(line.replace("http://localhost:8000", address).replace("\\\n", ""))
        words[1:1] = ["-sS", "--max-time", "20", "-w", "\n%{http_code}"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    return run


@pytest.fixture
def job(address):
    body = whole()
    body["model_type"] = "forecast"
    return requests.post(f"{address}/ai/training/jobs", json=body, timeout=20).json()


@pytest.fixture
def claim(store, job):
    return store.claim(job["job_id"], "home-a").claim.token


def finished(store, job, claim):
    store.mirror(job["job_id"], claim, Seen(status="RUNNING", attempt=1, metrics=PRINTED_METRICS))
    store.finish(job["job_id"], claim, Ending(status="COMPLETED", metrics=PRINTED_METRICS))


def test_the_quick_start_creates_a_job_and_looks_at_it(address):
    """As printed: `job['job_id']`, status, progress and step, and metrics only where they are."""
    body = PRINTED["quick start"]
    response = requests.post(f"{address}/ai/training/jobs", json=body, timeout=20)
    job = response.json()
    assert response.status_code == 201
    status = requests.get(f"{address}/ai/training/jobs/{job['job_id']}", timeout=20).json()
    assert (status["status"], status["progress"], status["current_step"]) == ("PENDING", 0, None)
    assert not status["metrics"]


def test_a_loop_that_waits_for_completion_ends(address, store, job, claim):
    """The guide's loop ends at COMPLETED, by way of what is printed of a job in the middle."""

    def wait_for_completion():
        while True:
            status = requests.get(f"{address}/ai/training/jobs/{job['job_id']}", timeout=20).json()
            seen.append((status["status"], status["progress"], status["current_step"]))
            if status["status"] in ["COMPLETED", "FAILED"]:
                return
            over.wait(0.05)

    seen, over = [], threading.Event()
    waiter = threading.Thread(target=wait_for_completion)
    waiter.start()
    now = Seen(status="RUNNING", attempt=1, progress=65, current_step="training")
    store.mirror(job["job_id"], claim, now)
    until(lambda: ("RUNNING", 65, "training") in seen)
    finished(store, job, claim)
    waiter.join()
    assert seen[-1][:2] == ("COMPLETED", 100)


def test_logs_are_read_line_by_line(address, store, place, job, claim):
    """`stream=True` and `iter_lines`, as printed."""
    folder = place.run(job["job_id"]).path
    folder.mkdir(parents=True)
    folder.joinpath("output.log").write_text("round 1\nround 2\n")
    finished(store, job, claim)
    there = f"{address}/ai/training/jobs/{job['job_id']}/logs"
    with requests.get(there, stream=True, timeout=20) as response:
        assert [line.decode("utf-8") for line in response.iter_lines()] == ["round 1", "round 2"]


def test_metrics_are_printed_from_the_top(address, store, job, claim):
    """Each with the guide's own format."""
    finished(store, job, claim)
    there = f"{address}/ai/training/jobs/{job['job_id']}/metrics"
    metrics = requests.get(there, timeout=20).json()
    assert f"{metrics['mae']:.4f} {metrics['rmse']:.4f}" == "12.5000 18.3000"
    assert f"{metrics['mape']:.4f}% {metrics['r2_score']:.4f}" == "4.2000% 0.9100"
    assert metrics["training_duration_seconds"] == 12.3
    assert metrics["training_data_size"] == 8784


def test_a_failed_job_is_tried_again_and_a_running_one_cancelled(address, store, job, claim):
    """Both requests of the guide's error recovery."""
    error = {"error": "DataLoadError", "message": "Failed to load training data", "details": {}}
    store.finish(job["job_id"], claim, Ending(status="FAILED", error=error))
    there = f"{address}/ai/training/jobs/{job['job_id']}"
    assert requests.get(there, timeout=20).json()["error"] == error
    assert requests.post(f"{there}/retry", timeout=20).status_code == 202
    assert requests.delete(there, timeout=20).json()["status"] == "CANCELLED"


def test_clusters_are_a_list(address):
    """The guide goes through it at once."""
    clusters = requests.get(f"{address}/ai/training/ray/clusters", timeout=20).json()
    assert [cluster["cluster_id"] for cluster in clusters] == []


def test_a_schedule_is_taken_as_printed(address):
    """Weekly, on Sunday at two."""
    body = whole() | {"schedule": "0 2 * * 0"}
    job = requests.post(f"{address}/ai/training/jobs", json=body, timeout=20).json()
    assert job["schedule"] == "0 2 * * 0"


@pytest.mark.parametrize("name", PRINTED)
def test_each_printed_body_is_answered_as_it_says(address, name):
    """All are taken, but those that want several machines, which are refused as printed."""
    answer = requests.post(f"{address}/ai/training/jobs", json=whole(name), timeout=20)
    if whole(name)["config"].get("distributed"):
        assert answer.status_code == 409
        assert answer.json()["message"] == "Insufficient resources for distributed training"
    else:
        assert answer.status_code == 201, answer.text


def test_every_line_of_curl_works(curl, address, store, place, job, claim):
    """Each as it is printed, with the body where the guide has three dots."""
    body = json.dumps(
        {"config": whole()["config"]}
        | {"tenant_id": "acme-corp", "model_type": "forecast", "priority": "high"}
    )
    api, one = "http://localhost:8000/ai/training", job["job_id"]
    status, taken = curl(
        f'curl -X POST "{api}/jobs" \\\n  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )
    assert (status, list(json.loads(taken))[:3]) == (201, ["job_id", "status", "created_at"])
    assert json.loads(taken)["created_at"].endswith("Z")
    status, told = curl(f'curl "{api}/jobs/{one}"')
    assert (status, json.loads(told)["status"]) == (200, "PENDING")
    status, listed = curl(f'curl "{api}/jobs?tenant_id=acme-corp&status=COMPLETED"')
    assert (status, json.loads(listed)["jobs"]) == (200, [])
    status, listed = curl(f'curl "{api}/jobs?status=PENDING"')
    assert (status, json.loads(listed)["total"]) == (200, 2)
    status, health = curl('curl "http://localhost:8000/health"')
    assert (status, json.loads(health)["status"]) == (200, "healthy")
    status, changed = curl(
        f'curl -X PATCH "{api}/jobs/{one}" \\\n  -d \'{{"priority": "critical"}}\''
    )
    assert (status, json.loads(changed)["priority"]) == (200, "critical")
    finished(store, job, claim)
    folder = place.run(one).path
    folder.mkdir(parents=True)
    folder.joinpath("output.log").write_text("round 1\n")
    status, logs = curl(f'curl "{api}/jobs/{one}/logs"')
    assert (status, logs) == (200, "round 1\n")
    tables = place.path / "tables/default"
    tables.mkdir(parents=True)
    write(tables / "features.load_forecasting.parquet", hourly(1200))
    status, judged = curl(
        f'curl -X POST "{api}/validate" \\\n  -d {shlex.quote(json.dumps(PRINTED["schema"]))}'
    )
    assert (status, json.loads(judged)["valid"]) == (200, True)


def test_errors_are_those_of_the_guide(curl):
    """Verbatim: the field, and what it must be."""
    api = "http://localhost:8000/ai/training"
    body = shlex.quote(json.dumps(whole(validation_split=1.5)))
    status, said = curl(f'curl -X POST "{api}/jobs" -H "Content-Type: application/json" -d {body}')
    said = json.loads(said)
    assert (status, said["error"]) == (422, "ConfigValidationError")
    assert said["message"] == "Invalid training configuration"
    assert said["details"]["field"] == "validation_split"
    assert said["details"]["error"] == "Must be between 0.0 and 1.0"
    status, said = curl(f'curl "{api}/jobs/550e8400-e29b-41d4-a716-446655440000"')
    assert (status, json.loads(said)["error"]) == (404, "NotFound")
