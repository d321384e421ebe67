"""The user's own function on a table makes features, and none that a forecast cannot know."""

import subprocess
import sys
import textwrap

import msgspec
import numpy as np
import pytest

from testkit.tables import hourly, wanted, write
from trainers import tables, yours
from trainers.contract import TRAINERS_DIR

ROWS = 600


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's folder; what is imported of it is forgotten afterwards."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv(TRAINERS_DIR, str(folder))
    monkeypatch.setattr(yours, "__path__", [str(folder)])
    before = set(sys.modules)
    yield folder
    for module in set(sys.modules) - before:
        if module.startswith("trainers.yours."):
            del sys.modules[module]
            vars(yours).pop(module.rpartition(".")[2], None)


@pytest.fixture
def prepared(tmp_path, folder):
    """Prepares a table with a function of which the body is given: `prepared("x = 1")`."""

    def prepare(body, columns=None, **more):
        write(tmp_path / "table.parquet", hourly(ROWS) if columns is None else columns)
        body = textwrap.indent(textwrap.dedent(body), "    ")
        source = f"import numpy as np\n\n\ndef add(columns):\n{body}\n"
        (folder / "own_features.py").write_text(source)
        for name in [name for name in sys.modules if name.startswith("trainers.yours.")]:
            del sys.modules[name]
        return tables.prepare(wanted(preprocess="own_features:add", **more), tmp_path)

    return prepare


TIMES = """
columns["load_x_temperature"] = columns["load"] * columns["temperature"]
return columns
"""


def test_a_column_of_the_user_s_own_is_a_column(prepared):
    """Of load by temperature a lag is a feature; the card tells the function and its source."""
    found = prepared(TIMES, features=("load_x_temperature_lag_24", "hour_of_day"), horizon=24)
    columns = hourly(ROWS)
    product = columns["load"] * columns["temperature"]
    np.testing.assert_array_equal(found.train.x[:, 0], product[: len(found.train)])
    np.testing.assert_array_equal(found.train.y, columns["load"][24 : 24 + len(found.train)])
    about = found.card["data"]
    assert about["schema"] == {"load_x_temperature": "number", "load": "number"}
    assert about["preprocess"]["function"] == "own_features:add"
    assert len(about["preprocess"]["sha256"]) == 64
    assert found.card["leakage"]["verdict"] == "clean"


def test_what_it_makes_is_part_of_the_hash_and_its_source_is_told(prepared):
    """Other values are other rows; a comment changes the source alone."""
    asked = {"features": ("load_x_temperature_lag_24",)}
    one = prepared(TIMES, **asked).card["data"]
    commented = prepared(f"# the same\n{TIMES}", **asked).card["data"]
    assert commented["sha256"] == one["sha256"]
    assert commented["preprocess"]["sha256"] != one["preprocess"]["sha256"]
    other = prepared(TIMES.replace("*", "+"), **asked).card["data"]
    assert other["sha256"] != one["sha256"]


def test_what_it_imports_from_beside_it_is_its_source(prepared, folder):
    """Whatever way that is imported; what else lies there is not."""
    (folder / "constants.py").write_text("FACTOR = 2.0\n")
    (folder / "deep").mkdir()
    (folder / "deep/__init__.py").write_text("from .more import OFFSET\n")
    (folder / "deep/more.py").write_text("OFFSET = 1.0\n")
    (folder / "stranger.py").write_text("raise SystemExit\n")
    body = """
    from . import constants
    from .deep import OFFSET
    columns["warm"] = columns["temperature"] * constants.FACTOR + OFFSET
    return columns
    """
    asked = {"features": ("warm",)}
    hashes = [prepared(body, **asked).card["data"]["preprocess"]["sha256"]]
    for name in ("constants.py", "deep/__init__.py", "deep/more.py"):
        path = folder / name
        path.write_text(path.read_text() + "# more\n")
        hashes.append(prepared(body, **asked).card["data"]["preprocess"]["sha256"])
    assert len(set(hashes)) == len(hashes)
    (folder / "stranger.py").write_text("")
    assert prepared(body, **asked).card["data"]["preprocess"]["sha256"] == hashes[-1]


def column(made):
    named = "x, load = columns['temperature'], columns['load']"
    return f"{named}\ncolumns['made'] = {made}\nreturn columns"


LOOKS_AHEAD = {
    "a mean of all rows": "x - x.mean()",
    "the highest of all rows": "x / x.max()",
    "a rank among all rows": "np.argsort(np.argsort(x)) / len(x)",
    "the next row": "np.append(x[1:], x[-1])",
    "a centred mean": "np.convolve(x, np.ones(5) / 5, 'same')",
    "the mean of its day": "np.repeat(x.reshape(-1, 24).mean(axis=1), 24)"
    " if len(x) % 24 == 0 else np.append(np.repeat(x[: len(x) // 24 * 24].reshape(-1, 24)"
    ".mean(axis=1), 24), np.full(len(x) % 24, x[len(x) // 24 * 24 :].mean()))",
    "how many rows there are": "x + len(x)",
    "a category that depends on later rows": "np.where(x > np.median(x), 'warm', 'cold')",
}


@pytest.mark.parametrize("made", LOOKS_AHEAD.values(), ids=LOOKS_AHEAD)
@pytest.mark.parametrize("feature", ["made", "made_lag_24"])
def test_who_looks_ahead_is_refused(prepared, made, feature):
    """By name and with the time of a row, also where only a lag of it is used."""
    body = column(made)
    with pytest.raises(tables.ConfigValidationError) as caught:
        prepared(body, features=(feature, "hour_of_day"), horizon=24)
    assert caught.value.details["field"] == "preprocess"
    assert "Leakage: made looks ahead: at 2024-01-" in str(caught.value)
    assert "Z are taken away" in str(caught.value)
    (told,) = caught.value.details["leakage"]
    assert (told["feature"], told["kind"]) == ("made", "ahead")
    found = prepared(body, features=(feature,), horizon=24, allow_leakage=("made",))
    assert found.card["leakage"]["verdict"] == "allowed"
    assert any("made looks ahead" in line for line in found.card["remarks"])


def test_who_fills_gaps_from_later_rows_is_refused(prepared):
    """Wherever a gap is; the last known value is none of that."""
    columns = hourly(ROWS)
    columns["temperature"][[100, 300, 301]] = np.nan
    back = "np.interp(np.arange(len(x)), np.flatnonzero(~np.isnan(x)), x[~np.isnan(x)])"
    forth = "x[np.maximum.accumulate(np.where(np.isnan(x), 0, np.arange(len(x))))]"
    asked = {"features": ("made",), "columns": columns}
    for made in ("np.where(np.isnan(x), np.nanmean(x), x)", back):
        with pytest.raises(tables.ConfigValidationError, match=r"made looks ahead: at 2024-01-"):
            prepared(column(made), **asked)
    assert not np.isnan(prepared(column(forth), **asked).train.x).any()


KNOWN = {
    "its own row": "np.log1p(np.abs(x)) * columns['humidity']",
    "the row before": "np.append(np.nan, x[:-1])",
    "a mean so far": "np.cumsum(x) / np.arange(1, len(x) + 1)",
    "the hour": "columns['time'].astype('datetime64[h]').astype(int) % 24",
    "words": "np.where(x > 10, 'warm', 'cold')",
    "a lag of the target": "np.append(np.full(min(24, len(load)), np.nan), load[:-24] * x[24:])",
}


@pytest.mark.parametrize("made", KNOWN.values(), ids=KNOWN)
def test_what_can_be_known_is_no_leak(prepared, made):
    """What is calculated from a row itself and from those before it."""
    found = prepared(
        column(made),
        features=("made", "hour_of_day"),
        horizon=24,
        preprocessing=tables.Preprocessing(missing="drop"),
    )
    assert found.card["leakage"]["verdict"] == "clean"


@pytest.mark.parametrize(
    ("made", "horizon"),
    [
        ("load * x", 1),
        ("load * x", 24),
        ("load > 125", 24),
        ("np.append(np.full(min(23, len(load)), np.nan), load[:-23] * x[23:])", 24),
        ("np.cumsum(load) / np.arange(1, len(x) + 1)", 1),
        ("np.where(load > 105, 'high', 'low')", 24),
    ],
)
def test_who_looks_at_the_target_of_its_own_time_is_refused(prepared, made, horizon):
    """Or at one that is younger than the horizon: its lag is what can be known."""
    more = {"horizon": horizon, "preprocessing": tables.Preprocessing(missing="drop")}
    when = "that time" if horizon == 1 else f"that time or less than {horizon} steps before"
    line = (
        rf"made at 2024-01-.* depends on load of {when}, which nobody .*; made_lag_{horizon} does"
    )
    with pytest.raises(tables.ConfigValidationError, match=line) as caught:
        prepared(column(made), features=("made", "hour_of_day"), **more)
    (told,) = caught.value.details["leakage"]
    assert (told["feature"], told["kind"]) == ("made", "target")
    lagged = prepared(column(made), features=(f"made_lag_{horizon}", "hour_of_day"), **more)
    assert lagged.card["leakage"]["verdict"] == "clean"
    allowed = prepared(column(made), features=("made",), allow_leakage=("made",), **more)
    assert allowed.card["leakage"]["allowed"] == ["made"]


def test_labels_are_looked_for_in_it_too(prepared):
    """What says which rows are anomalies is no feature, however it is called."""
    flag = (np.random.default_rng(3).random(ROWS) > 0.95).astype(float)
    more = {"model_type": "anomaly", "target": None, "labels": "flag", "horizon": 0}
    with pytest.raises(
        tables.ConfigValidationError, match=r"made at .* depends on flag of the same"
    ):
        prepared(column("x + columns['flag']"), hourly(ROWS, flag=flag), features=("made",), **more)


def test_a_target_of_its_making_is_forecast(prepared):
    """It may change the target; one that later rows have scaled is refused."""
    body = "columns['load'] = {}\nreturn columns"
    found = prepared(body.format("np.log(columns['load'])"))
    np.testing.assert_array_equal(
        found.train.y, np.log(hourly(ROWS)["load"])[24:][: len(found.train)]
    )
    with pytest.raises(tables.ConfigValidationError, match="load looks ahead"):
        prepared(body.format("columns['load'] / columns['load'].std()"))


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return columns['wind']", "own_features.py, line 5: KeyError: 'wind'"),
        ("return 1 / 0", "own_features.py, line 5: ZeroDivisionError: division by zero"),
        ("raise SystemExit('no')", "own_features.py, line 5: SystemExit: no"),
        ("columns['x'] = 1", "own_features:add must return the columns, and returns nothing"),
        ("return columns['load']", "must return the columns, and returns a ndarray"),
        (
            "return {name: values[1:] for name, values in columns.items()}",
            "own_features:add gets 600 rows, and returns 599 rows of time: each row must stay",
        ),
        ("return columns | {'x': 1.0}", "gets 600 rows, and returns no list of x"),
        ("del columns['time']\nreturn columns", "must return the times, time, as they are"),
        (
            "return {name: values[::-1] for name, values in columns.items()}",
            "must leave the times, time, as they are",
        ),
        ("return columns | {'time': np.arange(600)}", "must leave the times, time, as they are"),
        (
            "return columns | {'temperature': columns['load'] * 1j}",
            "must make numbers or text of temperature, and makes complex128",
        ),
        (
            "return columns | {'temperature': np.array([{}] * 600)}",
            "must make numbers or text of temperature, and makes a dict as well",
        ),
        (
            "return columns | {'temperature': np.random.normal(size=600)}",
            "own_features:add makes another temperature at each call, as at 2024-01-01T00:00:00Z",
        ),
        (
            "assert len(columns['load']) == 600\nreturn columns",
            "own_features.py, line 5: AssertionError: (of the first 4",
        ),
        ("return (", "own_features.py, line 5: SyntaxError: '(' was never closed"),
    ],
)
def test_what_fails_in_it_is_one_line(prepared, body, line):
    """With its own file and line where there is one."""
    with pytest.raises(tables.ConfigValidationError) as caught:
        prepared(body)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.details["field"] == "preprocess"


def test_a_function_that_is_not_there(tmp_path, folder, monkeypatch):
    """Its module, its name, or the whole folder."""
    write(tmp_path / "table.parquet", hourly(ROWS))
    (folder / "own_features.py").write_text("def add(columns):\n    return columns\n")
    for asked, line in (
        ("features:add", "preprocess: There is no features.py in "),
        ("own_features:addd", "own_features has no function addd; did you mean 'add'?"),
    ):
        with pytest.raises(tables.ConfigValidationError) as caught:
            tables.prepare(wanted(preprocess=asked), tmp_path)
        assert line in str(caught.value)
    (folder / "own_features.py").write_text("import nothing_of_that_name\n")
    del sys.modules["trainers.yours.own_features"]
    with pytest.raises(
        tables.ConfigValidationError, match=r"own_features.py, line 1: ModuleNotFoundError"
    ):
        tables.prepare(wanted(preprocess="own_features:add"), tmp_path)
    monkeypatch.delenv(TRAINERS_DIR)
    with pytest.raises(tables.ConfigValidationError, match="`trainers_dir` of the settings"):
        tables.prepare(wanted(preprocess="own_features:add"), tmp_path)


@pytest.mark.parametrize("asked", ["features", "features:", ":add", "../features:add", "a:b:c", ""])
def test_what_names_no_function_is_refused_before_anything_is_imported(asked):
    """The line shows how one is named."""
    with pytest.raises(tables.ConfigValidationError, match="preprocess: Must be module:function"):
        tables.check(wanted(preprocess=asked))


def test_a_name_that_is_allowed_in_vain(prepared):
    """It is neither a feature nor a column that one is made of."""
    with pytest.raises(tables.ConfigValidationError, match="allow_leakage: x is none of the feat"):
        prepared(TIMES, features=("load_x_temperature_lag_24",), allow_leakage=("x",))


def test_a_function_changes_no_row_of_ours(prepared):
    """It may write where it likes: what it gets is its own."""
    body = "columns['temperature'] *= 2\nreturn columns"
    found = prepared(body, features=("temperature",))
    np.testing.assert_array_equal(
        found.train.x[:, 0], 2 * hourly(ROWS)["temperature"][: len(found.train)]
    )


def test_other_rows_get_what_it_makes(prepared, tmp_path):
    """Those that are forecast later, by the same source and no other."""
    asked = {"features": ("load_x_temperature_lag_24", "hour_of_day"), "horizon": 24}
    found = prepared(TIMES, **asked)
    config = wanted(preprocess="own_features:add", **asked)
    source = found.card["data"]["preprocess"]["sha256"]
    again = tables.rows_of(config, tmp_path, found.fitted, preprocess_sha256=source)
    first = int(np.searchsorted(again.times, found.validation.times[0]))
    last = first + len(found.validation)
    np.testing.assert_array_equal(again.x[first:last], found.validation.x)
    assert np.isnan(again.y[-24:]).all()
    with pytest.raises(tables.ConfigValidationError, match="add is another than when the model"):
        tables.rows_of(config, tmp_path, found.fitted, preprocess_sha256="0" * 64)
    columns = hourly(ROWS)
    del columns["load"]
    write(tmp_path / "other.parquet", columns)
    with pytest.raises(tables.ConfigValidationError, match="line 6: KeyError: 'load'"):
        tables.rows_of(
            msgspec.structs.replace(config, data="other.parquet"), tmp_path, found.fitted
        )


def test_words_come_and_go_as_words(prepared):
    """Text is text, what is missing is None; categories are made of what is returned."""
    columns = hourly(ROWS, city=[["Ulm", "Aue", None][row % 3] for row in range(ROWS)])
    body = """
    assert set(columns["city"]) == {"Ulm", "Aue", None}
    columns["place"] = np.array([one and one.lower() for one in columns["city"]], dtype=object)
    return columns
    """
    drop = tables.Preprocessing(missing="drop")
    found = prepared(body, columns, features=("place",), preprocessing=drop)
    assert found.categories == {"place": ("aue", "ulm")}


def test_what_a_data_frame_is_like_is_taken(prepared):
    """Whatever has `items()`: that of pandas has, and names its columns so."""
    body = """
    class Frame:
        def __init__(self, columns):
            self.columns = {name: list(values) for name, values in columns.items()}
        def items(self):
            return ((name, np.array(values)) for name, values in self.columns.items())
    return Frame(columns)
    """
    assert len(prepared(body).train)


def test_checking_it_imports_nothing():
    """Neither NumPy nor the user's own."""
    code = (
        "import sys; from trainers import tables; "
        "tables.check(tables.Config(features=('a',), target='b', preprocess='nowhere:add')); "
        "print([m for m in sys.modules if 'numpy' in m or 'yours' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_function_that_changes_what_is_forecast_is_told(prepared):
    """The errors are then of another thing, and whoever compares them has to know."""
    halved = "return dict(columns) | {'load': columns['load'] * 0.5}"
    found = prepared(halved, features=("hour_of_day", "load_lag_24"), horizon=24)
    assert any("own_features:add changes load" in remark for remark in found.card["remarks"])
