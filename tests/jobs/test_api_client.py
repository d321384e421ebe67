"""A client that is generated from the document of the API does all that a person would do."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import uuid
from typing import Any, NamedTuple

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from state.jobs.records import Ending, Seen
from testkit.job_requests import PRINTED, whole

PACKAGE = "training_client"
METRICS = {
    "mae": 12.5, "rmse": 18.3, "mape": 4.2, "r2_score": 0.91, "skill": 0.8,
    "training_duration_seconds": 12.3, "training_data_size": 8784,
}  # fmt: skip

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""the store makes no difference here"""


class Generated(NamedTuple):
    """A generated client, at an API."""

    client: Any

    def module(self, name: str) -> Any:
        return importlib.import_module(f"{PACKAGE}.{name}")

    def model(self, name: str, body: dict[str, Any]) -> Any:
        """A body as the client has it."""
        return getattr(self.module("models"), name).from_dict(body)

    def call(self, name: str, *path: Any, **asked: Any) -> Any:
        """One operation by its id; what it answers, and its status."""
        operation = self.module(f"api.default.{name}")
        answer = operation.sync_detailed(*path, client=self.client, **asked)
        return answer.parsed, int(answer.status_code)


@pytest.fixture
def described(api):
    return api.get("/openapi.json").json()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where it is generated, once."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture
def generated(api, described, folder, monkeypatch):
    if not (folder / PACKAGE).exists():
        document = folder / "openapi.json"
        document.write_text(json.dumps(described))
        settings = folder / "client.yaml"
        settings.write_text("post_hooks: []\n")
        words = ["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
        words += ["--path", str(document), "--output-path", str(folder / PACKAGE)]
        words += ["--config", str(settings)]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(folder))
    client = importlib.import_module(f"{PACKAGE}.client").Client(
        base_url=str(api.base_url).rstrip("/"), timeout=30, raise_on_unexpected_status=True
    )
    return Generated(client)


def test_the_document_is_one_of_openapi_3_1(described):
    """As its own schema says; and every example is what its schema says."""
    assert described["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(described).validate()
    shown = []
    for methods in described["paths"].values():
        for operation in methods.values():
            places = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in [one for place in places for one in place.get("content", {}).values()]:
                schema = {**content.get("schema", {}), "components": described["components"]}
                for example in content.get("examples", {}).values():
                    jsonschema.Draft202012Validator(schema).validate(example["value"])
                    shown.append(example["value"])
    assert PRINTED["quick start"] in shown
    assert PRINTED["schema"] in shown
    assert {"priority": "high"} in shown
    errors = {one["error"]: one["details"] for one in shown if "error" in one}
    assert errors == {
        "ConfigValidationError": {
            "field": "validation_split",
            "error": "Must be between 0.0 and 1.0",
        },
        "ResourceError": {"requested_workers": 8, "available_workers": 4},
    }


def test_a_generated_client_goes_from_a_job_to_its_model(generated, store, place):
    """It hands a job in, waits for its end, and reads its metrics and its log."""
    taken, status = generated.call("create_job", body=generated.model("JobRequest", whole()))
    assert (status, taken.status, taken.tenant_id) == (201, "PENDING", "acme-corp")
    _, status = generated.call("get_metrics", uuid.UUID(taken.job_id))
    assert status == 409
    token = store.claim(taken.job_id, "home-a").claim.token
    store.mirror(taken.job_id, token, Seen(status="RUNNING", attempt=1, progress=65.9))
    seen, _ = generated.call("get_job", uuid.UUID(taken.job_id))
    assert (seen.status, seen.progress, seen.attempt) == ("RUNNING", 65, 1)
    folder = place.run(taken.job_id).path
    folder.mkdir(parents=True)
    (folder / "output.log").write_text("round 1\nround 2\n")
    store.finish(taken.job_id, token, Ending(status="COMPLETED", metrics=METRICS))
    seen, _ = generated.call("get_job", uuid.UUID(taken.job_id))
    assert (seen.status, seen.progress) == ("COMPLETED", 100)
    metrics, _ = generated.call("get_metrics", uuid.UUID(taken.job_id))
    assert (metrics.mae, metrics.r2_score, metrics.skill) == (12.5, 0.91, 0.8)
    text, _ = generated.call("get_logs", uuid.UUID(taken.job_id))
    assert text == "round 1\nround 2\n"
    page, _ = generated.call("list_jobs", tenant_id="acme-corp")
    assert [one.job_id for one in page.jobs] == [taken.job_id]
    health, _ = generated.call("get_health")
    assert health.status == "healthy"


def test_a_generated_client_is_told_what_is_wrong(generated):
    """In its own types: what is refused, not found, not valid, and what it would have been."""
    wrong = generated.model("JobRequest", whole(validation_split=1.5))
    said, status = generated.call("create_job", body=wrong)
    assert (status, said.error, said.message) == (
        422, "ConfigValidationError", "Invalid training configuration",
    )  # fmt: skip
    assert said.details["field"] == "validation_split"
    said, status = generated.call("get_job", uuid.UUID(int=0))
    assert (status, said.error) == (404, "NotFound")
    asked = generated.model("ValidateRequest", {"config": whole(validation_split=1.5)["config"]})
    judged, status = generated.call("validate", body=asked)
    assert (status, judged.valid) == (200, False)
    assert judged.errors[0].error == "Must be between 0.0 and 1.0"
    said, status = generated.call(
        "create_job", body=generated.model("JobRequest", whole("distributed"))
    )
    assert (status, said.error, said.details["requested_workers"]) == (409, "ResourceError", 4)
