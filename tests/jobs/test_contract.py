"""A request is what the document says it is, and whatever else comes is refused in its words."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.jobs.contract import (
    Health,
    Job,
    JobPage,
    JobPatch,
    JobRequest,
    JobsQuery,
    Metrics,
    ValidateAnswer,
    ValidateRequest,
)
from supervisor.jobs.errors import (
    PROBLEMS_MAX,
    STATUSES,
    Busy,
    ConfigValidationError,
    Conflict,
    DataLoadError,
    InFlight,
    JobError,
    NotFound,
    NoWorkers,
    QuotaExceeded,
    Refusal,
    TooLarge,
)
from supervisor.jobs.reading import (
    BODY_MAX_BYTES,
    DEPTH_MAX,
    FIRST_YEAR,
    LAST_YEAR,
    read,
    read_query,
)
from testkit.job_requests import PRINTED, whole

KINDS = (JobRequest, ValidateRequest, JobPatch)


def body(value):
    return json.dumps(value).encode()


def problems_of(content, kind=JobRequest):
    """Field and error of all that is wrong."""
    with pytest.raises(ConfigValidationError) as caught:
        read(content, kind)
    return {one.field: one.error for one in caught.value.problems}


def wrong(name="quick start", **config):
    return problems_of(body(whole(name, **config)))


@pytest.mark.parametrize("name", PRINTED)
def test_each_body_that_the_document_prints_is_taken(name):
    """Created or only validated, with what it leaves out filled in."""
    read(body(whole(name)), JobRequest)
    read(body({"config": whole(name)["config"]}), ValidateRequest)


def test_what_the_quick_start_says_is_what_is_read():
    """Defaults are the document's, and times without a zone are UTC."""
    request = read(body(whole()), JobRequest)
    assert (request.tenant_id, request.kind, request.priority) == ("acme-corp", "forecast", "high")
    config = request.config
    assert config.training_start.isoformat() == "2024-01-01T00:00:00+00:00"
    assert (config.horizon, config.test_split, config.distributed) == (1, 0.0, False)
    least = whole(validation_split=..., random_seed=..., hyperparameters=..., model_type=...)
    del least["priority"], least["metadata"]
    request = read(body(least), JobRequest)
    assert (request.priority, request.metadata, request.schedule) == ("normal", {}, None)
    assert (request.config.validation_split, request.config.random_seed) == (0.2, 42)
    assert (request.kind, request.schedule_timezone) == ("forecast", "UTC")


def test_times_of_other_zones_are_told_in_utc():
    request = read(body(whole(training_end="2024-12-31T23:59:59+01:00")), JobRequest)
    assert b'"2024-12-31T22:59:59Z"' in msgspec.json.encode(request.config)


def test_an_error_is_said_as_the_document_says_it():
    """Name, message, field and words are verbatim."""
    with pytest.raises(ConfigValidationError) as caught:
        read(body(whole(validation_split=1.5)), JobRequest)
    told = caught.value.body
    assert (told.error, told.message) == ("ConfigValidationError", "Invalid training configuration")
    assert told.details["field"] == "validation_split"
    assert told.details["error"] == "Must be between 0.0 and 1.0"
    assert told.details["problems"] == [
        {
            "field": "validation_split",
            "error": "Must be between 0.0 and 1.0",
            "path": "config.validation_split",
        }
    ]
    told = NoWorkers(8, 4).body
    assert (told.error, told.message) == (
        "ResourceError",
        "Insufficient resources for distributed training",
    )
    assert told.details == {"requested_workers": 8, "available_workers": 4}


def test_the_names_of_errors_and_their_statuses_are_a_table():
    assert STATUSES == {
        "ConfigValidationError": 422,
        "DataLoadError": 422,
        "ResourceError": 409,
        "NotFound": 404,
        "Conflict": 409,
        "NotReady": 409,
        "PreconditionFailed": 412,
        "PreconditionRequired": 428,
        "IdempotencyConflict": 422,
        "QuotaExceeded": 429,
        "Unauthorized": 401,
        "Forbidden": 403,
        "TooLarge": 413,
    }
    assert (Busy("it", 2.0).error, Busy("it", 2.0).http_status) == ("ResourceError", 503)
    assert QuotaExceeded("queued", 5, 5, retry_after_s=2.1).retry_after_s == 3


def test_a_job_begins_with_what_the_document_prints_of_it():
    """And the whole job follows; times are in UTC, with a Z."""
    now = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    config = read(body(whole()), JobRequest).config
    job = Job(
        job_id="550e8400-e29b-41d4-a716-446655440000",
        status="PENDING",
        created_at=now,
        updated_at=now,
        as_of=now,
        tenant_id="acme-corp",
        model_type="forecast",
        priority="high",
        config=config,
        trainer="tabular",
    )
    told = msgspec.json.decode(msgspec.json.encode(job))
    assert list(told.items())[:3] == [
        ("job_id", "550e8400-e29b-41d4-a716-446655440000"),
        ("status", "PENDING"),
        ("created_at", "2024-01-15T10:30:00Z"),
    ]
    assert (told["metrics"], told["max_attempts"], told["progress"]) == (None, 4, 0)
    assert msgspec.json.decode(msgspec.json.encode(told["config"]), type=type(config)) == config


def test_each_field_can_be_told_to_whoever_generates_a_client():
    kinds = [*KINDS, JobsQuery, Job, JobPage, Metrics, Health, ValidateAnswer, Refusal]
    _, parts = msgspec.json.schema_components(kinds)
    assert parts["JobRequest"]["additionalProperties"] is False
    assert {kind.__name__ for kind in kinds} <= parts.keys()


def test_what_a_model_has_not_is_left_out_of_its_metrics():
    told = Metrics(training_duration_seconds=1.5, training_data_size=7, mae=2.0, mape=None)
    assert msgspec.to_builtins(told) == {
        "training_duration_seconds": 1.5,
        "training_data_size": 7,
        "mae": 2.0,
        "mape": None,
    }


def test_each_error_says_all_of_it_by_itself():
    assert str(Conflict("cancelled", "COMPLETED")) == "A job that is COMPLETED cannot be cancelled"
    assert NotFound("job", "x" * 500).body.message == f"There is no job '{'x' * 80}'"
    told = DataLoadError("Table not found: features.load_forecasting", "acme-corp").body
    assert told.message == "Failed to load training data"
    assert told.details == {
        "reason": "Table not found: features.load_forecasting",
        "tenant_id": "acme-corp",
    }
    assert (InFlight("k").body.error, InFlight("k").http_status) == ("Conflict", 409)


def test_all_that_is_wrong_is_told_at_once():
    """And where it stands in the body."""
    found = wrong(
        validation_split=-0.1, random_seed="x", algorithm="lgmb", features=[], target=..., horison=2
    )
    assert found == {
        "horison": "No such key; did you mean horizon?",
        "algorithm": "Must be one of lgbm, xgboost, rf, mlp, lstm, lightgbm, random_forest, "
        "isolation_forest, and is 'lgmb'",
        "features": "Must have at least 1 entries",
        "validation_split": "Must be between 0.0 and 1.0",
        "random_seed": "Must be a whole number, and is a text",
    }


@pytest.mark.parametrize(
    ("config", "field", "said"),
    [
        ({"training_end": "2024-01-01"}, "training_start", "Must be before training_end"),
        ({"training_end": "yesterday"}, "training_end", "Must be a time in ISO 8601"),
        ({"training_end": "2024-13-01T00:00:00"}, "training_end", "Must be a time in ISO 8601"),
        ({"training_end": "9999-12-31T23:59:59-23:59"}, "training_end", "Must be a time"),
        ({"training_end": f"{LAST_YEAR + 1}-01-01"}, "training_end", "between 1678 and 2261"),
        ({"training_start": f"{FIRST_YEAR - 1}-01-01"}, "training_start", "between 1678"),
        ({"training_start": "0001-01-01T00:00:00+14:00"}, "training_start", "Must be a time"),
        ({"training_start": 1704067200}, "training_start", "Must be a time in ISO 8601, and"),
        ({"training_start": ...}, "training_start", "Required"),
        ({"features": ["a", "a"]}, "features", "a stands there twice"),
        ({"features": ["load"]}, "features", "Must not have the target itself"),
        ({"features": ["Temperatur", "Temperatur\u200b"]}, "features", "visible characters"),
        ({"features": [" a"]}, "features", "no space at its ends"),
        ({"features": ["é", "e\u0301"]}, "features", "look the same"),
        ({"features": ["ﬁre", "fire"]}, "features", "look the same"),
        ({"features": ["l\u043ead"]}, "features", "look the same"),
        ({"features": ["\u0422", "T"]}, "features", "look the same"),
        ({"features": [""]}, "features[0]", "Must have at least 1 characters"),
        ({"features": "temperature"}, "features", "Must be a list, and is a text"),
        ({"features": [f"f{n}" for n in range(2001)]}, "features", "Must have at most 2000"),
        ({"target": None}, "target", "Required"),
        ({"horizon": 0}, "horizon", "Must be at least 1"),
        ({"validation_split": True}, "validation_split", "Must be a number, and is true or false"),
        ({"validation_split": 1}, "validation_split", "Must be between 0.0 and 1.0"),
        ({"validation_split": 0.6, "test_split": 0.6}, "test_split", "leave some rows"),
        ({"distributed": True}, "ray_config", "Required if distributed is true"),
        ({"ray_config": {"num_workers": 0}}, "ray_config.num_workers", "Must be at least 1"),
        ({"ray_config": {}}, "ray_config.num_workers", "Required"),
        (
            {"ray_config": {"num_workers": 1, "memory_per_worker": "lots"}},
            "ray_config.memory_per_worker",
            'Must be a size such as "4GB"',
        ),
        ({"mlflow_tracking": {}}, "mlflow_tracking.experiment_name", "Required"),
        (
            {"mlflow_tracking": {"experiment_name": "a", "tags": {"n": 1}}},
            "mlflow_tracking.tags.n",
            "Must be a text, and is a whole number",
        ),
        ({"training_options": {"use_sample": 0}}, "training_options.use_sample", "more than 0.0"),
        ({"training_options": {"batch_size": 0}}, "training_options.batch_size", "at least 1"),
        ({"backtest": {"folds": 0}}, "backtest.folds", "Must be at least 1"),
        ({"model_type": "anomaly"}, "model_type", "Must be forecast, as outside of config"),
        ({"early_stopping_rounds": 0}, "early_stopping_rounds", "Must be at least 1"),
        ({"random_seed": 2**31}, "random_seed", "Must be at most 2147483647"),
        ({"hyperparameters": []}, "hyperparameters", "Must be an object, and is a list"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_what_it_must_be(config, field, said):
    found = wrong(**config)
    assert said in found[field], found


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"tenant_id": "../../etc"}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": "acme corp"}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": "\u0430cme-corp"}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": "acme\n"}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": "-rf"}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": ""}, "tenant_id", "Must be 1 to 64 letters"),
        ({"tenant_id": "a" * 65}, "tenant_id", "Must be 1 to 64 letters"),
        ({"priority": "urgent"}, "priority", "critical, high, normal, low, and is 'urgent'"),
        ({"priorty": "high"}, "priorty", "No such key; did you mean priority?"),
        ({"model_type": "cluster"}, "model_type", "Must be one of forecast, anomaly"),
        ({"metadata": {"a": "b" * 16384}}, "metadata", "Must have at most 16384 bytes"),
        ({"metadata": [1]}, "metadata", "Must be an object, and is a list"),
        ({"schedule": "0 0 30 2 *"}, "schedule", "Bad day-of-month"),
        ({"schedule": "* * * * * *"}, "schedule", "five fields of cron"),
        ({"schedule": "61 * * * *"}, "schedule", "Bad minute"),
        ({"schedule": "0-59/0 * * * *"}, "schedule", "Must be a schedule that comes"),
        ({"schedule": "(a+)+$ * * * *"}, "schedule", "Must be a schedule that comes"),
        (
            {"schedule": "0 2 * * 0", "schedule_timezone": "../../etc/passwd"},
            "schedule_timezone",
            "there is no time zone",
        ),
        ({"catch_up": "all"}, "catch_up", "Must not be all while overlap is forbid"),
        ({"trainer": "atari"}, "trainer", "Must be left out beside a config"),
        ({"seed": 1}, "seed", "Must be left out beside a config"),
    ],
)
def test_so_is_what_stands_beside_the_configuration(changes, field, said):
    found = problems_of(body(whole() | changes))
    assert said in found[field], found


def test_any_trainer_may_be_asked_for_in_place_of_a_configuration():
    asked = {"tenant_id": "acme", "trainer": "atari", "name": "Pong", "target": {"steps": 1000}}
    assert read(body(asked), JobRequest).trainer == "atari"
    assert problems_of(body({"tenant_id": "acme"})) == {
        "config": "Required, or else a trainer and its options"
    }
    found = problems_of(
        body(asked | {"target": {"steps": 1, "episodes": 2}, "model_type": "anomaly"})
    )
    assert found.keys() == {"target", "model_type"}


def test_a_scheduled_job_has_no_deadline():
    asked = whole(deadline="2100-01-01T00:00:00Z") | {"schedule": "0 2 * * 0"}
    assert "left out with a schedule" in problems_of(body(asked))["deadline"]


def test_a_patch_names_something_that_can_be_changed():
    """Null takes a schedule away; what is left out stays."""
    assert read(b'{"priority": "high"}', JobPatch).priority == "high"
    assert read(b'{"schedule": null}', JobPatch).schedule is None
    assert problems_of(b"{}", JobPatch)["body"].startswith("Must have one of priority, metadata")
    assert problems_of(b'{"config": {}}', JobPatch)["config"].startswith("No such key")
    assert "Bad day-of" in problems_of(b'{"schedule": "0 0 31 4,6 *"}', JobPatch)["schedule"]


def test_jobs_are_asked_for_by_words_in_any_case():
    """One word or several; numbers and times are read, and what is no field is named."""
    query = [("status", "pending"), ("status", "Running"), ("tenant_id", "acme"), ("page", "2")]
    query += [("created_after", "2024-01-01"), ("priority", "HIGH")]
    found = read_query(query, JobsQuery)
    assert (found.status, found.priority) == (("PENDING", "RUNNING"), ("high",))
    assert (found.tenant_id, found.page, found.page_size) == ("acme", 2, 50)
    assert found.created_after.year == 2024


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ([("status", "DONE")], "status[0]", "Must be one of PENDING, RUNNING"),
        ([("stauts", "PENDING")], "stauts", "did you mean status?"),
        ([("page", "0")], "page", "Must be at least 1"),
        ([("page", "two")], "page", "Must be a whole number, and is a text"),
        ([("page", "9" * 5000)], "page", "Must be a whole number"),
        ([("page_size", "100000")], "page_size", "Must be at most 200"),
        ([("tenant_id", "a"), ("tenant_id", "b")], "tenant_id", "Must stand there once"),
        ([("tenant_id", "../a")], "tenant_id", "Must be 1 to 64 letters"),
        ([("created_after", "soon")], "created_after", "Must be a time"),
        ([("after", "a\0")], "body", "the character NUL"),
        ([("after", "j"), ("page", "2")], "page", "Must be left out beside after"),
    ],
)
def test_so_is_a_question_that_cannot_be(query, field, said):
    with pytest.raises(ConfigValidationError) as caught:
        read_query(query, JobsQuery)
    found = {one.field: one.error for one in caught.value.problems}
    assert said in found[field], found


# What is no JSON, or should be none


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Must be JSON, and is empty"),
        (b"{", "Must be JSON: Expecting property name enclosed in double quotes (line 1, column 2"),
        (b'{"config": { ... }}', "Must be JSON"),
        (b"{}{}", "Must be JSON"),
        (b"\xff\xfe{\x00}\x00", "Must be UTF-8"),
        (b"[]", "Must be an object"),
        (b"null", "Must be an object"),
        (b'{"priority": NaN}', "NaN"),
        (b'{"priority": -Infinity}', "-Infinity"),
        (b'{"priority": 1e999}', "which no computer can hold"),
        (b'{"priority": 1' + b"0" * 5000 + b"}", "which 64 bits cannot hold"),
        (b'{"priority": "low", "priority": "high"}', "the key 'priority' twice"),
        (b'{"metadata": {"a": 1, "\\u0061": 2}}', "the key 'a' twice"),
        (b'{"tenant_id": "a\\u0000"}', "the character NUL"),
        (b'{"metadata": {"\\u0000": 1}}', "the character NUL"),
        (b'{"metadata": {"a": "\\ud800"}}', "half of a surrogate pair"),
        (b'{"metadata": ' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 32 levels"),
        (b"[" * 500_000, "deeper than 32 levels"),
        (b'{"a":' * 100_000, "deeper than 32 levels"),
    ],
)
def test_what_json_lets_pass_and_nobody_can_keep_is_refused(content, said):
    assert said in problems_of(content)["body"]


def test_the_mark_that_windows_begins_files_with_is_passed_over():
    assert read(b'\xef\xbb\xbf{"priority": "low"}', JobPatch).priority == "low"


def test_of_many_unknown_keys_their_number_is_told():
    content = json.dumps({f"key_{n}": n for n in range(3000)}).encode()
    with pytest.raises(ConfigValidationError) as caught:
        read(content, JobPatch)
    told = caught.value.body.details
    assert told["problems"][-1]["error"] == "Has 2951 further keys that there are not"
    assert "more_problems" not in told


def test_as_deep_as_is_allowed_is_deep_enough():
    deep = b"[" * (DEPTH_MAX - 2) + b"1" + b"]" * (DEPTH_MAX - 2)
    read(b'{"metadata": {"a": ' + deep + b"}}", JobPatch)


def test_a_body_that_is_too_long_is_not_even_read():
    with pytest.raises(TooLarge) as caught:
        read(b"\xff" * 10_000_000, JobRequest)
    assert caught.value.http_status == 413


@pytest.mark.parametrize(
    "config",
    [
        {f"no_{n:05}": 1 for n in range(60_000)},
        {"features": [f"{n:x}" for n in range(100_000)]},
        {"hyperparameters": {f"h{n}": n for n in range(50_000)}},
        {"features": ["a" * 190 + str(n) for n in range(5000)]},
        {"features": ["a_lag_" * 30 + str(n) for n in range(2000)]},
    ],
)
def test_the_longest_of_bodies_has_a_short_answer(config):
    """However much is wrong."""
    content = body(whole(**config))
    assert len(content) <= BODY_MAX_BYTES
    told = answer_to(content, JobRequest)
    if told is not None:
        assert len(told.details["problems"]) <= PROBLEMS_MAX
        assert len(json.dumps(told.details)) < 50_000


def answer_to(content, kind):
    """What refuses it; None: it was read."""
    try:
        read(content, kind)
    except JobError as error:
        return error.body
    return None


def refused_or_read(content):
    for told in (answer_to(content, kind) for kind in KINDS):
        if told is not None:
            assert told.error in STATUSES
            msgspec.json.encode(told).decode()  # whatever was sent can be answered


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    refused_or_read(content)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["config", "tags"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
FIELDS = [*JobRequest.__struct_fields__]
CONFIG = [*PRINTED["schema"]["config"], "training_options", "mlflow_tracking", "backtest", "data"]


@given(
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
    st.dictionaries(st.sampled_from(CONFIG), values, max_size=3),
)
@settings(max_examples=100)
def test_any_values_in_any_fields_are_read_or_refused(outer, inner):
    """Nothing else comes out, whatever a caller makes of it."""
    asked = whole() | outer
    if isinstance(asked["config"], dict):
        asked["config"] = whole()["config"] | inner
    refused_or_read(json.dumps(asked).encode())
