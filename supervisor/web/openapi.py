"""The document of the API, made from the operations themselves and the structs of the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from supervisor.jobs.errors import Refusal
from supervisor.web.resource import EVENTS, TEXT, Operation
from supervisor.web.telling import JSON

VERSION = "1.0.0"
REFERENCE = "#/components/schemas/{name}"
ALWAYS = (401, 403, 503)
"""how any request may be refused"""
REFUSALS = {
    400: "A header says nothing that could be heeded",
    401: "A token is needed",
    403: "The tenant, or a page of another site, may not ask for it",
    404: "There is none, or it is another tenant's",
    408: "The body has not come",
    409: "It does not go together with what has become of the job",
    410: "It was cleared away",
    412: "The job is another than was seen",
    413: "The body is too long",
    415: "The body is no JSON",
    416: "The range lies beyond the end",
    422: "It can never work; all that is wrong is told",
    428: "This server takes changes only with If-Match",
    429: "The tenant has as much as it may have",
    503: "It cannot be done now",
}
HEADERS = {
    "Idempotency-Key": "The same request with the same key is done once, and answered the same",
    "If-Match": "The ETag of the job as it was seen: another one is not changed",
    "If-None-Match": "The ETag that is known already",
    "If-Range": "The ETag that a range must be of",
    "Prefer": "`wait=30`: with If-None-Match, answer once the job has changed, or after 30 s",
    "Accept": "How the lines are wanted",
    "Last-Event-ID": "The id of the last event that was seen",
    "Range": "One range of bytes",
}
EXAMPLE_HEADERS = {"Prefer": "wait=1", "Accept": JSON, "Range": "bytes=0-1023"}
JOB_LINKS = (
    "get_job", "change_job", "cancel_job", "retry_job", "get_metrics", "get_history",
    "why_it_waits", "get_logs", "get_events", "list_artifacts",
)  # fmt: skip
"""what can be asked of a job that was just taken in"""
EXAMPLES: Mapping[str, Any] = {
    "quick start": {
        "tenant_id": "acme-corp",
        "model_type": "forecast",
        "config": {
            "model_type": "forecast",
            "algorithm": "lgbm",
            "hyperparameters": {
                "n_estimators": 100,
                "learning_rate": 0.1,
                "max_depth": 7,
                "num_leaves": 31,
            },
            "training_start": "2024-01-01T00:00:00",
            "training_end": "2024-12-31T23:59:59",
            "features": [
                "temperature",
                "humidity",
                "day_of_week",
                "hour_of_day",
                "load_lag_1",
                "load_lag_24",
            ],
            "target": "load",
            "validation_split": 0.2,
            "random_seed": 42,
        },
        "priority": "high",
        "metadata": {
            "description": "Baseline load forecasting model",
            "owner": "data-science-team",
        },
    },
    "schema": {
        "config": {
            "model_type": "forecast",
            "algorithm": "lgbm",
            "hyperparameters": {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 7},
            "training_start": "2024-01-01T00:00:00",
            "training_end": "2024-12-31T23:59:59",
            "features": ["temperature", "humidity", "load_lag_1"],
            "target": "load",
            "validation_split": 0.2,
            "random_seed": 42,
            "early_stopping_rounds": 50,
            "distributed": False,
            "ray_config": {"num_workers": 4, "cpus_per_worker": 2, "memory_per_worker": "4GB"},
        }
    },
    "priority": {"priority": "high"},
}
"""bodies as the guide of the pipeline prints them"""
REFUSED: Mapping[int, Any] = {
    409: {
        "error": "ResourceError",
        "message": "Insufficient resources for distributed training",
        "details": {"requested_workers": 8, "available_workers": 4},
    },
    422: {
        "error": "ConfigValidationError",
        "message": "Invalid training configuration",
        "details": {"field": "validation_split", "error": "Must be between 0.0 and 1.0"},
    },
}
"""and how it prints that a job is refused"""
PARAMETERS = {
    "job_id": {"type": "string", "format": "uuid"},
    "tenant_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
    "name": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"},
}
"""of paths"""


def document(operations: Mapping[str, Mapping[str, Operation]]) -> dict[str, Any]:
    """The document of the API.

    Args:
        operations: path: method: what is done.
    """
    kinds = [Refusal, *_kinds(operations)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    told = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    found = {
        path: {
            method.lower(): _operation(path, operation, told, components)
            for method, operation in methods.items()
        }
        for path, methods in operations.items()
    }
    for methods in operations.values():
        for operation in methods.values():
            if operation.query is not None:  # they stand there as parameters
                components.pop(operation.query.__name__, None)
    # Each kind of model has some of these, and another trainer says what it likes.
    components["Metrics"].pop("required", None)
    told_whole: dict[str, Any] = _in_its_words(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Training jobs",
                "version": VERSION,
                "description": "Jobs that people and programs submit, and what becomes of them.",
            },
            "servers": [{"url": "/"}],
            "security": [{}, {"bearer": []}],
            "paths": found,
            "components": {
                "schemas": components,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }
    )
    return told_whole


def _kinds(operations: Mapping[str, Mapping[str, Operation]]) -> Iterator[Any]:
    seen = set()
    for methods in operations.values():
        for one in methods.values():
            for kind in (one.body, one.query, *one.answers.values()):
                if kind not in (None, bytes, str) and repr(kind) not in seen:
                    seen.add(repr(kind))
                    yield kind


def _operation(
    path: str, one: Operation, told: Mapping[str, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    parameters = [
        {"name": key, "in": "path", "required": True, "schema": PARAMETERS[key]}
        for key in re.findall(r"{(\w+)}", path)
    ]
    if one.query is not None:
        properties = components[one.query.__name__]["properties"]
        parameters += [
            {"name": key, "in": "query", "schema": _without_null(schema)}
            for key, schema in properties.items()
        ]
    parameters += [_header(name, one) for name in one.headers]
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        content: dict[str, Any] = {"schema": told[repr(one.body)]}
        if one.example:
            content["examples"] = {one.example.replace(" ", "_"): {"value": EXAMPLES[one.example]}}
        found["requestBody"] = {"required": True, "content": {JSON: content}}
    answers = {str(status): _answer(one, status, told) for status in one.answers}
    for status in sorted({*one.refusals, *ALWAYS} - set(one.answers)):
        example = REFUSED.get(status) if one.name == "create_job" else None
        answers[str(status)] = _refusal(status, told, example)
    found["responses"] = answers
    if one.open:
        del answers["401"]
        found["security"] = []
    return found


def _header(name: str, one: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name == "Accept":
        schema["enum"] = list(one.media)
    found = {"name": name, "in": "header", "description": HEADERS[name], "schema": schema}
    if name in EXAMPLE_HEADERS:
        found["example"] = EXAMPLE_HEADERS[name]
    return found


def _answer(one: Operation, status: int, told: Mapping[str, Any]) -> dict[str, Any]:
    kind = one.answers[status]
    found: dict[str, Any] = {"description": "So it is" if kind is not None else "No more is told"}
    if kind is not None:
        plain = {"schema": {"type": "string"}}
        found["content"] = {
            media: {}  # of a stream this version of OpenAPI has no words for one event
            if media == EVENTS
            else plain
            if media == TEXT or kind in (bytes, str)
            else {"schema": told[repr(kind)]}
            for media in one.media
        }
    if one.name == "create_job":
        found["links"] = {
            name: {"operationId": name, "parameters": {"job_id": "$response.body#/job_id"}}
            for name in JOB_LINKS
        }
    return found


def _refusal(status: int, told: Mapping[str, Any], example: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": told[repr(Refusal)]}
    if example is not None:
        content["examples"] = {example["error"]: {"value": example}}
    found: dict[str, Any] = {"description": REFUSALS[status], "content": {JSON: content}}
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 1}
        what = "Seconds after which the same may be granted, where that is known"
        found["headers"] = {"Retry-After": {"description": what, "schema": seconds}}
    return found


def _without_null(schema: Any) -> Any:
    """A schema without what no URL can say."""
    choices = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if not choices:
        return schema
    rest = {key: it for key, it in schema.items() if key not in ("anyOf", "default")}
    return {**choices[0], **rest} if len(choices) == 1 else {"anyOf": choices, **rest}


def _in_its_words(value: Any) -> Any:
    """The same with patterns as JavaScript writes them."""
    if isinstance(value, dict):
        return {
            key: it.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(it, str)
            else _in_its_words(it)
            for key, it in value.items()
        }
    if isinstance(value, list | tuple):
        return [_in_its_words(it) for it in value]
    return value
