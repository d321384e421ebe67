"""A home with a day of quotes, and runs that learn from it."""

import json
import shutil
from datetime import date
from functools import partial

import pytest

from testkit.tables import table_run
from trainers import direction
from trainers.attempt import read_spec
from trainers.contract import RunFolder
from trainers.direction import quotes
from trainers.session import Session

DAY = date(2025, 12, 28)
SPEC = {
    "dataset": {
        "symbol": "btcusdt",
        "exchange": "binance",
        "stream": "bbo",
        "dateRange": {"date": "20251228", "windowSize": 1},
        "featuresetVersion": "v1",
        "labelHorizonSec": 10,
        "featurePath": "features/featureset=v1/exchange=binance/stream=bbo/symbol=btcusdt/"
        "date=20251228/data.parquet",
        "metaPath": "features/featureset=v1/exchange=binance/stream=bbo/symbol=btcusdt/"
        "date=20251228/meta.json",
    },
    "model": {
        "type": "xgboost",
        "params": {
            "nround": 100,
            "maxDepth": 6,
            "eta": 0.1,
            "objective": "multi:softmax",
            "numClass": 3,
        },
        "featureParams": {},
    },
}
"""what a job of the page asks for"""


@pytest.fixture(scope="session")
def home_of_a_day(tmp_path_factory):
    """A home with a day of quotes and its features; nobody writes there."""
    home = tmp_path_factory.mktemp("day")
    quotes.put(home, "btcusdt", DAY, per_s=0.2)
    quotes.build(home, "btcusdt", DAY)
    return home


@pytest.fixture
def make_run(tmp_path, home_of_a_day):
    """Makes a run in a home with that day: `make_run(params={"nround": 30}, flat_bps=1.0)`."""
    shutil.copytree(home_of_a_day, tmp_path, dirs_exist_ok=True)

    def make(run="run", *, params=None, dataset=None, features=None, seed=1, **more):
        asked = json.loads(json.dumps(SPEC))
        asked["model"]["params"] |= params or {}
        asked["dataset"] |= dataset or {}
        if features is not None:
            asked["model"]["featureParams"] = {"features": features}
        spec = {name: more.pop(name) for name in ("upto", "grace_s", "threads") if name in more}
        return table_run(tmp_path, "direction", run, seed=seed, **spec, **asked, **more)

    return make


@pytest.fixture
def train():
    """An attempt in this process; its exit code, and its session."""

    def attempt(run, stop=None):
        folder = RunFolder(run)
        session = Session(folder, read_spec(folder), stop=stop)
        if stop is not None:
            stop.session = session
        direction.train(session)
        return session.finish(), session

    return attempt


@pytest.fixture
def metrics():
    """The metrics of a finished run."""
    return partial(_read, "metrics.json")


@pytest.fixture
def card():
    """The card of a finished run."""
    return partial(_read, "model_card.json")


def _read(name, run):
    return json.loads((run / name).read_bytes())
