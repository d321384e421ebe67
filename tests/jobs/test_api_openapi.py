"""The document of the API says what the API does, and generated requests find nothing else."""

from __future__ import annotations

import contextlib
import re

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from supervisor.web.openapi import EXAMPLES
from testkit.job_requests import PRINTED, whole
from testkit.series import sample_of_a_series

NOT_ASKED = [positive_data_acceptance, negative_data_rejection]
"""no schema says all that is refused, and `/validate` answers what is wrong with 200"""
FOLLOWING = ("GET /ai/training/jobs/{job_id}/logs", "GET /ai/training/jobs/{job_id}/events")

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""the store makes no difference here"""


@pytest.fixture
def described(api):
    return api.get("/openapi.json").json()


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_each_operation_has_an_id_of_its_own_and_says_what_it_may_answer(described):
    """Its links lead to others, and every reference to a schema."""
    ids = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(ids) == len(set(ids))
    created = described["paths"]["/ai/training/jobs"]["post"]["responses"]["201"]
    assert {link["operationId"] for link in created["links"].values()} <= set(ids)
    for _, _, operation in operations(described):
        needed = {"403", "503"} if operation.get("security") == [] else {"401", "403", "503"}
        assert needed <= set(operation["responses"])
    named = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert named <= set(described["components"]["schemas"])
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_examples_are_those_of_the_guide(described):
    """And each is one that the API takes."""
    assert EXAMPLES["quick start"] == PRINTED["quick start"]
    assert EXAMPLES["schema"] == PRINTED["schema"]


def test_what_is_told_of_a_job_is_as_its_schema_says(api, described):
    """A job, a page of jobs, and why it waits."""
    job = api.post("/ai/training/jobs", json=whole()).json()
    schemas = described["components"]
    for path, name in (
        (f"/ai/training/jobs/{job['job_id']}", "Job"),
        ("/ai/training/jobs", "JobPage"),
        (f"/ai/training/jobs/{job['job_id']}/why", "Waiting"),
        ("/ai/training/stats", "Stats"),
        ("/ai/training/tenants/acme-corp/usage", "Usage"),
        ("/health", "Health"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": schemas}
        jsonschema.validate(api.get(path).json(), schema)


def test_requests_that_were_made_up_are_answered_as_the_document_says(api, described):
    """Good ones and bad ones: nothing of 500 or above, each status and body as it is told."""
    count, first = sample_of_a_series(6)
    address = str(api.base_url).rstrip("/")
    often = settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    asked = set()

    def ask(operation, mode):
        @seed(first)
        @often
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case):
            if case.operation.label in FOLLOWING:
                case.query = {**(case.query or {}), "follow": 0}
            answer = case.call(base_url=address, timeout=30)
            case.validate_response(answer, excluded_checks=NOT_ASKED)
            asked.add(case.operation.label)

        with contextlib.suppress(Unsatisfiable):  # of some nothing can be wrong
            answered()

    for found in schemathesis.openapi.from_dict(described).get_all_operations():
        ask(found.ok(), GenerationMode.POSITIVE)
        ask(found.ok(), GenerationMode.NEGATIVE)
    assert asked == {f"{method.upper()} {path}" for path, method, _ in operations(described)}
