"""What the daemon is asked for is judged by the code that will train, before anybody answers."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.records import Retry
from supervisor.jobs.asked import asked_of
from supervisor.jobs.contract import JobRequest, ValidateRequest
from supervisor.jobs.errors import ConfigValidationError, Forbidden, JobError, NoWorkers
from supervisor.jobs.reading import read
from supervisor.jobs.tenants import Database, Tenant
from testkit.job_requests import PRINTED, whole
from trainers.contract import TRAINERS_DIR, Target

JOB = "550e8400-e29b-41d4-a716-446655440000"
NOW_AT = 1_800_000_000.0
ROOT = Path(__file__).parents[2]
HEAVY = (
    "lightgbm", "xgboost", "sklearn", "torch", "pyarrow", "numpy", "sqlalchemy", "gymnasium",
    "ale_py", "stable_baselines3", "PIL",
)  # fmt: skip


@pytest.fixture
def tenant(tmp_path):
    folder = tmp_path / "tables/acme-corp"
    folder.mkdir(parents=True)
    return Tenant(id="acme-corp", tables=folder)


@pytest.fixture
def trusted(tenant):
    return msgspec.structs.replace(tenant, programs=True)


def prepared(body, tenant, kind=JobRequest, now_at=NOW_AT):
    request = read(json.dumps(body).encode(), kind)
    return asked_of(request, job_id=JOB, tenant=tenant, now_at=now_at)


def problems_of(body, tenant):
    with pytest.raises(ConfigValidationError) as caught:
        prepared(body, tenant)
    return {one.field: one.error for one in caught.value.problems}


def trainer(name, **fields):
    return {"tenant_id": "acme-corp", "trainer": name, **fields}


@pytest.mark.parametrize("name", PRINTED)
def test_each_printed_body_is_one_that_can_train_or_asks_for_workers(name, tenant):
    """Of the document's bodies only those for several machines are refused, in its own words."""
    body = whole(name)
    if not body["config"].get("distributed"):
        prepared(body, tenant)
        return
    with pytest.raises(NoWorkers) as caught:
        prepared(body, tenant)
    told = caught.value.body
    assert (told.error, caught.value.http_status) == ("ResourceError", 409)
    assert told.message == "Insufficient resources for distributed training"
    assert told.details == {"requested_workers": 4, "available_workers": 0}


def test_the_quick_start_becomes_a_run_of_the_trainer_of_tables(tenant):
    """With its rank, its retries after one, two and four minutes, and the tenant's own table."""
    asked = prepared(whole(), tenant).asked
    assert (asked.id, asked.trainer, asked.name) == (JOB, "tabular", "forecast-lgbm")
    assert (asked.origin, asked.rank, asked.tenant, asked.token) == (
        "job",
        "high",
        "acme-corp",
        None,
    )
    assert asked.retry == Retry(retries=3, first_s=60, factor=2)
    assert asked.target is None
    table = "features.load_forecasting"
    assert asked.labels == {"table": table, "model_type": "forecast", "algorithm": "lgbm"}
    assert prepared(whole(), tenant).resolved["data"] == table
    assert asked.options["data"] == str(tenant.tables / "features.load_forecasting")
    assert asked.options["hyperparameters"]["num_leaves"] == 31
    assert msgspec.json.decode(msgspec.json.encode(asked), type=type(asked)) == asked


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("lgbm", "tabular"),
        ("lightgbm", "tabular"),
        ("xgboost", "tabular"),
        ("rf", "tabular"),
        ("random_forest", "tabular"),
        ("mlp", "neural"),
        ("lstm", "neural"),
    ],
)
def test_each_algorithm_has_its_trainer(algorithm, name, tenant):
    body = whole(algorithm=algorithm, hyperparameters={})
    assert prepared(body, tenant).asked.trainer == name


def test_anomalies_have_a_table_of_their_own(tenant):
    body = whole(algorithm="isolation_forest", hyperparameters={}, model_type="anomaly", target=...)
    body |= {"model_type": "anomaly", "options": {"labels": "is_bad"}}
    options = prepared(body, tenant).asked.options
    assert options["data"] == str(tenant.tables / "features.anomaly_detection")
    assert options["labels"] == "is_bad"


def test_what_is_unset_is_told_with_its_default(tenant):
    resolved = prepared({"config": whole()["config"]}, tenant, ValidateRequest).resolved
    assert resolved["hyperparameters"]["min_data_in_leaf"] == 20
    assert (resolved["gap"], resolved["training_options"]["use_sample"]) == (None, 1.0)


def test_a_limit_of_time_and_an_end_are_the_runs(tenant):
    body = whole(max_seconds=600, deadline="2100-01-01T00:00:00+01:00")
    asked = prepared(body, tenant).asked
    assert (asked.max_s, asked.deadline_at) == (600, 4_102_441_200)
    assert "max_seconds" not in asked.options
    said = problems_of(whole(deadline="2020-01-01"), tenant)["deadline"]
    assert said == "Must lie ahead, and it is 2027-01-15T08:00:00+00:00 now"


@pytest.mark.parametrize(
    ("config", "field", "said"),
    [
        (
            {"hyperparameters": {"num_leafs": 3}},
            "hyperparameters.num_leafs",
            "No such key; did you mean num_leaves?",
        ),
        ({"hyperparameters": {"num_leaves": 1}}, "hyperparameters.num_leaves", "at least 2"),
        ({"hyperparameters": {"max_depth": None}}, "hyperparameters.max_depth", "Must be a whole"),
        (
            {"algorithm": "rf", "hyperparameters": {"num_leaves": 31}},
            "hyperparameters.num_leaves",
            "No such key; there are: n_estimators, max_depth",
        ),
        (
            {"algorithm": "rf", "hyperparameters": {"max_features": 1.5}},
            "hyperparameters",
            "max_features must be sqrt, log2",
        ),
        (
            {"algorithm": "mlp", "hyperparameters": {"hidden_sizes": [64, 0]}},
            "hyperparameters.hidden_sizes[1]",
            "Must be at least 1",
        ),
        ({"backtest": {"gap": 0}}, "backtest.gap", "Must be at least the horizon, 1"),
    ],
)
def test_what_the_trainer_refuses_is_said_of_the_documents_field(config, field, said, tenant):
    found = problems_of(whole(**config), tenant)
    assert said in found[field], found


def test_all_hyperparameters_that_are_wrong_are_told_at_once(tenant):
    hyperparameters = {"num_leafs": 3, "n_estimators": 0, "learning_rate": "fast"}
    found = problems_of(whole(hyperparameters=hyperparameters), tenant)
    assert list(found) == [
        "hyperparameters.num_leafs",
        "hyperparameters.n_estimators",
        "hyperparameters.learning_rate",
    ]


def test_a_lag_that_nobody_can_know_is_refused_before_any_row_is_read(tenant):
    """The quick start has load_lag_1: one step ahead it is known, a day ahead it is not."""
    prepared(whole(horizon=1), tenant)
    said = problems_of(whole(horizon=24), tenant)["features"]
    assert "load_lag_1 is 1 steps old, and a forecast 24 steps ahead knows nothing that" in said
    assert "load_lag_24" not in said
    prepared(whole(horizon=24) | {"options": {"allow_leakage": ["load_lag_1"]}}, tenant)


def test_options_for_which_the_document_has_no_word_stand_beside_it(tenant):
    options = {"zone": "Europe/Berlin", "quantiles": [0.1, 0.9], "time": "date/hour"}
    body = whole() | {"options": options}
    assert prepared(body, tenant).asked.options["zone"] == "Europe/Berlin"
    found = problems_of(whole() | {"options": {"horizon": 2, "target": "x"}}, tenant)
    assert found.keys() == {"options.horizon", "options.target"}
    found = problems_of(whole() | {"options": {"zone": "Mars/Olympus"}}, tenant)
    assert found == {"options.zone": "There is no time zone 'Mars/Olympus'"}
    found = problems_of(whole() | {"options": {"quantile": [0.1]}}, tenant)
    assert found == {"options.quantile": "No such key; did you mean quantiles?"}


def test_what_is_granted_and_changes_nothing_is_told(tenant):
    body = whole("mlflow", ray_config={"num_workers": 2}, training_options={"batch_size": 8})
    told = {(one.field, one.code) for one in prepared(body, tenant).warnings}
    assert told == {
        ("mlflow_tracking", "not_sent_yet"),
        ("ray_config", "unused"),
        ("training_options.batch_size", "unused"),
    }
    body = whole(algorithm="rf", hyperparameters={}, early_stopping_rounds=5)
    (told,) = prepared(body, tenant).warnings
    assert (told.code, told.message[:21]) == ("remark", "early_stopping_rounds")


# Any trainer, and what a tenant may


def test_any_trainer_of_ours_may_be_asked_for(tenant):
    body = trainer("drill", target={"steps": 100}, seed=7, gpus=1, options={"save_s": 0.5})
    asked = prepared(body, tenant).asked
    assert (asked.trainer, asked.name, asked.seed, asked.gpus) == ("drill", "drill", 7, 1)
    assert (asked.target, asked.options) == (Target(unit="steps", count=100), {"save_s": 0.5})
    found = problems_of(trainer("drill", options={"savee_s": 1}), tenant)
    assert found == {"options.savee_s": "No such key; did you mean save_s?"}
    assert (
        "this trainer counts"
        in problems_of(trainer("drill", target={"rows": 1}), tenant)["options"]
    )
    assert "there is no trainer 'dril'" in problems_of(trainer("dril"), tenant)["trainer"]


def test_the_trainer_of_tables_itself_gets_the_tenants_own_table(tenant):
    body = trainer("tabular", options={"features": ["a"], "target": "b", "data": "sales/load"})
    assert prepared(body, tenant).asked.options["data"] == str(tenant.tables / "sales/load")
    body["options"]["data"] = "../other/load"
    assert "in the tenant's folder" in problems_of(body, tenant)["options.data"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (trainer("command", options={"command": ["true"]}), "trainer"),
        (trainer("sb3", options={"env": "evil:Env-v0"}), "options.env"),
        (trainer("sb3", options={"env": "Pendulum-v1", "zoo": "/etc/passwd"}), "options.zoo"),
        (trainer("sb3", options={"env": "Pendulum-v1", "zoo": "state.json"}), "options.zoo"),
        (trainer("sb3", options={"env_kwargs": {"xml": "../a"}}), "options.env_kwargs.xml"),
        (
            trainer("direction", options={"dataset": {"featurePath": "tables"}}),
            "options.dataset.featurePath",
        ),
        (whole() | {"options": {"preprocess": "features:add"}}, "options.preprocess"),
        (whole(data="postgresql://user@host/db"), "config.data"),
        (whole(data="/etc/passwd"), "config.data"),
        (trainer("tabular", options={"data": "sqlite:///x.db"}), "options.data"),
    ],
)
def test_programs_and_places_are_for_tenants_that_have_all_rights(body, field, tenant):
    with pytest.raises(Forbidden) as caught:
        prepared(body, tenant)
    assert caught.value.body.details["field"] == field
    assert caught.value.body.details["needs"] == "programs"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:Geheim1@host/db",
        "postgresql+psycopg://user:Ge/heim1@host:5432/db",
        "postgresql://:Geheim1@host/db",
        "postgresql://host/db?user=a&password=Geheim1",
        "postgresql://host/db?sslPassword=Geheim1",
        "mysql://host/db?charset=utf8;passwd=Geheim1",
    ],
)
def test_a_password_in_a_url_is_refused_and_told_to_nobody(url, trusted):
    """Whoever has all rights has other places for it; whoever sees a job sees what is asked."""
    for body, field in (
        (whole(data=url), "config.data"),
        (trainer("tabular", options={"data": url}), "options.data"),
    ):
        with pytest.raises(ConfigValidationError, match=r"~/\.pgpass") as caught:
            prepared(body, trusted)
        (found,) = caught.value.problems
        assert field in (found.path, found.field)
        assert "Geheim" not in str(caught.value) + str(caught.value.details)


def test_quantiles_are_as_many_as_a_trainer_bears(tenant):
    """Each is one more model."""
    shares = [round(one / 200, 3) for one in range(1, 101)]
    refused = problems_of(whole() | {"options": {"quantiles": shares}}, tenant)
    assert refused == {"options.quantiles": "Must be 99 at most, and are 100"}
    prepared(whole() | {"options": {"quantiles": shares[1:]}}, tenant)


@pytest.mark.parametrize("more", [{}, {"test_split": 0.2}])
def test_what_tells_how_good_a_round_is_cannot_be_left_out(tenant, more):
    """The document has 0.0 as legal; nothing could be trained with it that is worth having."""
    refused = problems_of(whole(validation_split=0.0, **more), tenant)
    what = "Must be more than 0.0: it tells after each round how good the model is"
    assert refused == {"validation_split": what}


def test_who_has_all_rights_may_have_a_program_started(trusted):
    body = trainer(
        "command", options={"command": ["true"], "progress": {"pattern": r"(?P<step>\d+)"}}
    )
    assert prepared(body, trusted).asked.options["command"] == ["true"]
    prepared(whole(data="postgresql://user@host/db"), trusted)
    bomb = trainer("command", options={"command": ["true"], "progress": {"pattern": "(" * 5000}})
    with pytest.raises(ConfigValidationError):
        prepared(bomb, trusted)


@pytest.mark.parametrize(
    "name",
    ["..", "../other", "a/../../other", "a/./b", ".hidden", "a//b", "a\\b", "~root", "a b", "é",
     "a\n", "a" * 300, "C:", "a/"],
)  # fmt: skip
def test_no_name_of_a_table_leads_out_of_the_tenants_folder(name, tenant):
    with pytest.raises(ConfigValidationError):
        prepared(whole(data=name), tenant)


@pytest.fixture
def sharing(tenant):
    """One whose tables lie in a database beside those of others."""
    database = Database(url="postgresql://me@host/features", column="whose")
    return msgspec.structs.replace(tenant, database=database)


@pytest.mark.parametrize("rights", [False, True])
def test_a_table_that_is_no_file_of_the_tenants_is_its_rows_of_a_database(sharing, rights):
    """By the tenant's id, whatever rights it has, and the tenant hears its own name of it alone."""
    who = msgspec.structs.replace(sharing, programs=rights)
    found = prepared(whole(), who)
    options, table = found.asked.options, "features.load_forecasting"
    assert (options["data"], options["table"]) == (who.database.url, table)
    assert options["only"] == {"whose": "acme-corp"}
    assert found.asked.labels["table"] == table
    assert found.resolved["data"] == table
    assert found.resolved.keys().isdisjoint({"table", "only"})


@pytest.mark.parametrize("file", ["sales.csv", "sales.parquet", "sales"])
def test_a_file_of_the_tenants_goes_before_the_database(sharing, file):
    """So nothing changes for jobs that learn from files where a database is named."""
    (sharing.tables / file).touch()
    assert prepared(whole(data="sales"), sharing).asked.options["data"] == str(
        sharing.tables / "sales"
    )
    assert prepared(whole(data="other"), sharing).asked.options["table"] == "other"
    folder = prepared(whole(data="sales/load"), sharing).asked.options
    assert folder["data"] == str(sharing.tables / "sales/load")


@pytest.mark.parametrize("option", ["table", "only"])
def test_which_rows_are_its_own_is_for_nobody_to_say(sharing, option):
    """Neither in a configuration nor to the trainer itself; nor by all rights, under its name."""
    value = {"table": "pg_catalog.pg_authid", "only": {"whose": "other"}}[option]
    bodies = (
        whole() | {"options": {option: value}},
        trainer("tabular", options={"features": ["a"], "target": "b", option: value}),
    )
    for who in (sharing, msgspec.structs.replace(sharing, programs=True)):
        for body in bodies:
            assert "Must be left out" in problems_of(body, who)[f"options.{option}"]


@pytest.mark.parametrize(
    "name",
    ['features."x"', "a'b", "a; DROP TABLE b", "a\u2024b", "\u0430cme", "a--b c", "a%", "a\tb",
     "public.a(b)", "postgresql:a", "\uff41", "a\u200bb", "a..b"],
)  # fmt: skip
def test_no_name_of_a_table_is_more_than_a_name(name, sharing):
    """It is refused by its field before any database hears of it."""
    assert "Must be" in problems_of(whole(data=name), sharing)["data"]


def test_no_link_leads_out_either(tenant, tmp_path):
    """Neither a table, nor a folder on the way, nor a file of a folder that is one table."""
    other = tmp_path / "tables/other"
    other.mkdir()
    (other / "load.parquet").touch()
    (tenant.tables / "stolen.parquet").symlink_to(other / "load.parquet")
    (tenant.tables / "folder").symlink_to(other)
    (tenant.tables / "mine").mkdir()
    (tenant.tables / "mine/a.parquet").symlink_to(other / "load.parquet")
    for name in ("stolen", "stolen.parquet", "folder/load", "mine", "mine/a.parquet"):
        assert "link" in problems_of(whole(data=name), tenant)["data"]


def test_a_trainer_of_the_users_own_is_asked_in_a_process_of_its_own(
    trusted, tenant, tmp_path, monkeypatch
):
    """Whatever it does when it is imported; its options are for whoever has all rights."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "import os, sys\n"
        "from trainers.contract import BadSpec\n"
        "seen = 'supervisor.jobs.judging' in sys.modules\n"
        "def check(spec):\n"
        "    if seen or spec.options: raise BadSpec(f'no options please {seen}')\n"
        "def train(session): ...\n"
    )
    monkeypatch.setenv(TRAINERS_DIR, str(folder))
    assert prepared(trainer("mine"), trusted).asked.trainer == "mine"
    found = problems_of(trainer("mine", options={"a": 1}), trusted)
    assert found == {"trainer": "no options please False"}
    with pytest.raises(Forbidden):
        prepared(trainer("mine"), tenant)


def test_no_library_of_tables_or_models_is_imported_for_it():
    """Not even where a network, a game or a program is asked for."""
    code = f"""
import json, sys
from pathlib import Path
from supervisor.jobs.asked import asked_of
from supervisor.jobs.contract import JobRequest
from supervisor.jobs.errors import JobError
from supervisor.jobs.reading import read
from supervisor.jobs.tenants import Database, Tenant
from testkit.job_requests import whole
tenant = Tenant(id="acme", tables=Path("/nowhere"), programs=True)
algorithms = ("lgbm", "xgboost", "rf", "mlp", "lstm")
trainers = ("command", "direction", "drill", "atari")
bodies = [whole(algorithm=one, hyperparameters={{}}) for one in algorithms]
bodies += [{{"tenant_id": "acme", "trainer": one}} for one in trainers]
for body in bodies:
    try:
        asked_of(read(json.dumps(body).encode(), JobRequest), job_id="j", tenant=tenant, now_at=0.0)
    except JobError:
        pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


names = st.sampled_from(
    [*whole()["config"]["hyperparameters"], "max_features", "epochs", "hidden_sizes"]
)
values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
values |= st.lists(st.integers(), max_size=3)


@given(
    st.sampled_from(["lgbm", "xgboost", "rf", "mlp", "lstm", "isolation_forest"]),
    st.dictionaries(names, values, max_size=3),
    st.dictionaries(
        st.sampled_from(["gap", "quantiles", "labels", "preprocessing", "device"]), values
    ),
)
@settings(max_examples=60)
def test_whatever_is_asked_can_train_or_is_refused_in_our_words(algorithm, hyper, options):
    tenant = Tenant(id="acme-corp", tables=Path("/nowhere"))
    body = whole(algorithm=algorithm, hyperparameters=hyper) | {"options": options}
    try:
        prepared(body, tenant)
    except JobError as error:
        msgspec.json.encode(error.body)
