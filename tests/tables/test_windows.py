"""A row can be looked at with those before it, and then all of them are known."""

import numpy as np
import pytest

from testkit.tables import hourly, wanted, write
from trainers import tables

ROWS, LENGTH = 400, 6


def prepared(home, columns, **more):
    write(home / "table.parquet", columns)
    return tables.prepare(wanted(**more), home, length=LENGTH)


def made(windows):
    """All windows at once, (rows, length, features)."""
    return windows.matrix[windows.ends[:, None] + np.arange(1 - windows.length, 1)]


def without(columns, *places):
    """A table in which some rows are missing."""
    return {name: np.delete(values, places) for name, values in columns.items()}


def test_a_window_holds_the_features_of_the_steps_up_to_its_row(tmp_path):
    """Those of what is held out begin before it, so that its first rows are looked at, too."""
    found = prepared(tmp_path, hourly(ROWS), test_split=0.1)
    alone = tables.prepare(wanted(test_split=0.1), tmp_path)
    np.testing.assert_array_equal(found.validation.positions, alone.validation.positions)
    np.testing.assert_array_equal(found.test.y, alone.test.y)
    assert found.train.positions[0] == alone.train.positions[0] + LENGTH - 1
    for part, its in ((found.train, alone.train), (found.test, alone.test)):
        windows = made(part.x)
        assert windows.shape == (len(part), LENGTH, 4)
        np.testing.assert_array_equal(windows[:, -1], its.x[-len(part) :])
        np.testing.assert_array_equal(windows[LENGTH - 1 :, 0], windows[: 1 - LENGTH, -1])


@pytest.mark.parametrize(("missing", "lost"), [("drop", LENGTH), ("ffill", 0), ("median", 0)])
def test_a_step_without_a_row_is_in_no_window_unless_something_is_put_there(
    tmp_path, missing, lost
):
    """Rows that follow it are left out until it is further back than they look."""
    asked = {"features": ("temperature",), "preprocessing": tables.Preprocessing(missing=missing)}
    found = prepared(tmp_path, without(hourly(ROWS), 100), **asked)
    around = np.arange(90, 120)
    there = np.isin(around, found.train.positions)
    assert (~there).sum() == max(lost, 1)
    assert not there[10]
    assert np.isfinite(found.train.x.matrix).all()


def test_what_is_made_is_no_more_than_the_steps_that_somebody_looks_at(tmp_path):
    """Not a copy of each row for each window that it is in."""
    whole = prepared(tmp_path, hourly(ROWS)).train
    assert len(whole.x.matrix) == len(whole) + LENGTH - 1
    few = tables.TrainingOptions(use_sample=0.05)
    some = prepared(tmp_path, hourly(ROWS), training_options=few).train
    assert len(some.x.matrix) <= LENGTH * len(some) < len(whole.x.matrix)
    chosen = np.isin(whole.positions, some.positions)
    np.testing.assert_array_equal(made(some.x), made(whole.x)[chosen])


def test_the_rows_of_another_table_are_looked_at_in_the_same_way(tmp_path):
    """Its first rows have no past yet; those of the horizon have all."""
    asked = {"features": ("hour_of_day", "load_lag_24"), "horizon": 24}
    found = prepared(tmp_path, hourly(ROWS), **asked)
    columns = hourly(ROWS)
    write(tmp_path / "later.parquet", {name: values[100:] for name, values in columns.items()})
    rows = tables.rows_of(
        wanted(data="later.parquet", **asked), tmp_path, found.fitted, length=LENGTH
    )
    assert len(rows) == 300 - 24 - (LENGTH - 1) + 24
    inside = rows.positions < 300
    validation = made(found.validation.x)
    np.testing.assert_array_equal(made(rows.x)[inside][-len(validation) :], validation)
