"""Whatever is asked of jobs one after the other is answered as the document of the API says."""

from __future__ import annotations

from collections import Counter

import schemathesis
from hypothesis import HealthCheck, seed, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from supervisor.web.openapi import JOB_LINKS
from testkit.job_requests import whole
from testkit.series import sample_of_a_series

NOT_ASKED = [positive_data_acceptance, negative_data_rejection]
"""no schema says all that is refused, and `/validate` answers what is wrong with 200"""
STEPS = 12
"""of one walk"""
FREE = ("priority", "metadata")
"""of a job, that may be anything: with whatever else is made up few are ever taken in"""


def test_walks_along_the_links_find_nothing_that_the_document_does_not_say(api):
    """A job is handed in, and what it links to asked for and changed; on both stores."""
    count, first = sample_of_a_series(3)
    address, asked = str(api.base_url).rstrip("/"), Counter()

    @seed(first)
    class Walk(schemathesis.openapi.from_dict(api.get("/openapi.json").json()).as_state_machine()):
        def before_call(self, case):
            given = case.body if isinstance(case.body, dict) else {}
            if case.operation.label == "POST /ai/training/jobs":
                case.body = whole() | {key: given[key] for key in FREE if key in given}
            if case.operation.label.endswith(("/logs", "/events")):
                case.query = {**(case.query or {}), "follow": 0}

        def get_call_kwargs(self, case):
            return {"base_url": address, "timeout": 60}

        def validate_response(self, response, case, additional_checks=(), **more):
            case.validate_response(response, excluded_checks=NOT_ASKED)
            name = case.operation.definition.raw["operationId"]
            asked[name, response.status_code < 300] += 1

    Walk.run(
        settings=settings(
            max_examples=count,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
    )
    found = {name for name, _ in asked}
    assert asked["create_job", True]
    assert {name for name, well in asked if well} & set(JOB_LINKS)
    assert len(found & set(JOB_LINKS)) >= min(count, len(JOB_LINKS)) // 2, asked
