"""Files as others write them are read right, or refused in a line: never in between."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from testkit.tables import hourly, wanted, write
from trainers import tables

ROWS = 240
COLUMNS = hourly(ROWS)
TEXT = [str(one)[:19] for one in COLUMNS["time"]]
HEAD = "time,load,temperature,humidity"
LINES = [
    ",".join([moment, *(repr(float(COLUMNS[name][row])) for name in HEAD.split(",")[1:])])
    for row, moment in enumerate(TEXT)
]
CSV = "\n".join([HEAD, *LINES, ""])


def prepared(home, **more):
    return tables.prepare(wanted(**more), home)


@pytest.fixture
def same(tmp_path):
    """Whether a file has the rows that all of these are made of."""
    write(tmp_path / "table.parquet", COLUMNS)
    whole = prepared(tmp_path).card["data"]["sha256"]
    return lambda name, **more: (
        prepared(tmp_path, data=name, **more).card["data"]["sha256"] == whole
    )


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV + "\n\n",
        CSV.replace(",", ", ").replace(", load", ",load").replace(", temp", ",temp")
        .replace(", hum", ",hum"),
        "\n".join([HEAD, *('"' + line.replace(",", '","') + '"' for line in LINES)]) + "\n",
    ],
    ids=["plain", "marked", "of Windows", "with empty lines", "with spaces", "with quotes"],
)  # fmt: skip
def test_the_same_rows_in_another_dress(tmp_path, same, content):
    """What does not count does not change a bit."""
    (tmp_path / "other.csv").write_bytes(content.encode())
    assert same("other.csv")


NUMBERS = COLUMNS["temperature"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(NUMBERS).dictionary_encode(),
        pa.array([repr(float(one)) for one in NUMBERS]),
        pa.array([repr(float(one)) for one in NUMBERS], pa.large_string()),
        pa.array([repr(float(one)) for one in NUMBERS], pa.string_view()),
        pa.array([repr(float(one)) for one in NUMBERS]).dictionary_encode(),
    ],
    ids=["dictionary", "text", "large text", "view of text", "dictionary of text"],
)
def test_numbers_are_numbers_in_whatever_type(tmp_path, same, values):
    """A Parquet file has many for one."""
    write(tmp_path / "other.parquet", COLUMNS | {"temperature": values})
    assert same("other.parquet")


@pytest.mark.parametrize("kind", [pa.decimal128(20, 7), pa.decimal256(60, 7)])
def test_decimals_are_the_nearest_floats(tmp_path, kind):
    """To the last bit, as Python and CSV files have it."""
    decimals = [Decimal(f"{one:.7f}") for one in COLUMNS["load"]]
    write(tmp_path / "table.parquet", COLUMNS | {"load": pa.array(decimals, kind)})
    found = prepared(tmp_path)
    wanted_y = np.array([float(one) for one in decimals])
    np.testing.assert_array_equal(found.train.y, wanted_y[24:][: len(found.train)])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_words_are_categories_in_whatever_type(tmp_path, kind):
    """In dictionaries, too."""
    words = pa.array(["Ulm", "Aue", "Hof"] * (ROWS // 3), kind)
    encoded = [] if kind == pa.string_view() else [words.dictionary_encode()]
    for values in (words, *encoded):
        write(tmp_path / "table.parquet", hourly(ROWS, city=values))
        found = prepared(tmp_path, features=("city", "load_lag_1"))
        assert found.categories == {"city": ("Aue", "Hof", "Ulm")}


@pytest.mark.parametrize(
    "text", ["1,013.5", "1.013,5", "1'013.5", "1 013", "12,5", "12.5%", "1_000"]
)
@pytest.mark.parametrize("name", ["load", "temperature"])
def test_numbers_in_the_way_of_some_country_are_refused(tmp_path, text, name):
    """They would be words, each of its own: neither silence nor a guess."""
    values = [f"{row}{text}" for row in range(1, ROWS + 1)]
    write(tmp_path / "table.csv", COLUMNS | {name: values})
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, data="table.csv")
    assert f"column {name} must be numbers" in str(caught.value)
    assert repr(values[0]) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "it.csv cannot be read: Empty CSV file"),
        (f"{HEAD}\n".encode(), "it.csv has no rows"),
        (CSV.replace(",", ";").encode(), "it.csv has semicolons between its columns: commas are"),
        (
            CSV.replace(",", ";").replace(".", ",").encode(),
            "it.csv has semicolons between its columns",
        ),
        (CSV.replace(",", "\t").encode(), "it.csv has tabs between its columns"),
        (CSV.encode("utf-16"), "it.csv is in UTF-16: UTF-8 is wanted"),
        (CSV.replace("humidity", "hümid").encode("latin-1"), "it is not in UTF-8"),
        (
            CSV.replace("00:00,", "00:00,ü", 1).encode("latin-1"),
            "column load must be numbers or text, and is binary",
        ),
        ("\n".join(LINES).encode(), "Column not found: load; there are: 2024-01-01T00:00:00"),
        (CSV[:-60].encode(), "it.csv cannot be read: CSV parse error: Row #241: Expected 4"),
        (CSV.replace("load,", "load,load,", 1).encode(), "Expected 5 columns, got 4"),
        (CSV.replace("humidity", "load").encode(), "it.csv has two columns 'load'"),
        (b"PK\x03\x04" + bytes(range(128, 256)) * 9, "it.csv cannot be read"),
    ],
)
def test_a_csv_file_that_is_none(tmp_path, content, line):
    """The line says what is wrong with it, and names it."""
    (tmp_path / "it.csv").write_bytes(content)
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, data="it.csv", time="time" if b"time" in content[:9] else None)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_last_line_that_may_be_cut_off_is_told(tmp_path):
    """A number without its end is a number, and nobody sees it; one with its end is silent."""
    (tmp_path / "it.csv").write_text(CSV[:-4])
    line = "it.csv ends within a line, which may be cut off"
    assert line in prepared(tmp_path, data="it.csv").card["remarks"]
    (tmp_path / "it.csv").write_text(CSV)
    assert line not in prepared(tmp_path, data="it.csv").card["remarks"]


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (lambda content: content[:-20], "magic bytes not found in footer"),
        (lambda content: content[: len(content) // 2], "magic bytes not found in footer"),
        (lambda content: content[:200] + bytes(2000) + content[2200:], "orrupt"),
        (lambda _: b"", "file size is 0 bytes"),
    ],
)
def test_a_parquet_file_that_is_broken(tmp_path, broken, line):
    """Its end is missing, or its middle is."""
    path = write(tmp_path / "table.parquet", COLUMNS)
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(tables.DataLoadError, match=r"table\.parquet cannot be read") as caught:
        prepared(tmp_path)
    assert line in str(caught.value)


LAST = {name: values[100:] for name, values in COLUMNS.items()}


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (LAST | {"time": TEXT[100:]}, "column time is not of one kind throughout"),
        (
            LAST | {"time": pa.array(LAST["time"], pa.timestamp("ns", "UTC"))},
            "column time is not of one kind throughout: timestamp",
        ),
        (LAST | {"temperature": ["mild"] * 140}, "column temperature is not of one kind"),
        (
            {"time": LAST["time"], "load": LAST["load"]},
            "Column not found: temperature in b.parquet",
        ),
        ({name: values[90:] for name, values in COLUMNS.items()}, "time is not in order: row 101"),
    ],
)
def test_files_of_a_folder_with_other_schemas(tmp_path, other, line):
    """What does not fit is named."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.parquet", {name: values[:100] for name, values in COLUMNS.items()})
    write(folder / "b.parquet", other)
    with pytest.raises(tables.DataLoadError) as caught:
        prepared(tmp_path, data="folder")
    assert line in str(caught.value)


def test_files_of_a_folder_that_differ_in_what_does_not_count(tmp_path, same):
    """Other orders of columns, columns more, other types of numbers."""
    folder = tmp_path / "folder"
    folder.mkdir()
    first = {name: values[:100] for name, values in COLUMNS.items()}
    write(folder / "a.parquet", {"note": ["x"] * 100} | first)
    encoded = pa.array(LAST["humidity"]).dictionary_encode()
    write(folder / "b.parquet", dict(reversed((LAST | {"humidity": encoded}).items())))
    assert same("folder")


@pytest.mark.parametrize("field", ["features", "target", "labels"])
def test_the_times_are_no_column_that_is_learnt(tmp_path, field):
    """The field is named, and what is made of times."""
    write(tmp_path / "table.parquet", COLUMNS)
    with pytest.raises(tables.ConfigValidationError, match=f"{field}: time holds the times"):
        prepared(tmp_path, **{field: ("time",) if field == "features" else "time"})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_night_on_which_clocks_go_back(tmp_path, same, suffix):
    """Times with offsets are even through it; without, the hour that comes twice is named."""
    berlin = pa.array(COLUMNS["time"] + (np.datetime64("2024-10-25T22:00") - COLUMNS["time"][0]))
    moments = berlin.cast(pa.timestamp("s")).cast(pa.timestamp("s", "UTC"))
    there = moments.cast(pa.timestamp("s", "Europe/Berlin"))
    with_offset = pa.compute.strftime(there, "%Y-%m-%dT%H:%M:%S%z")
    write(tmp_path / f"it.{suffix}", COLUMNS | {"time": with_offset})
    more = {"zone": "Europe/Berlin", "features": ("hour_of_day", "load_lag_24")}
    found = prepared(tmp_path, data=f"it.{suffix}", time="time", **more)
    assert found.card["step"] == "1 h"
    assert found.train.x[:5, 0].tolist() == [0, 1, 2, 2, 3]
    bare = pa.compute.strftime(there, "%Y-%m-%dT%H:%M:%S")
    write(tmp_path / f"it.{suffix}", COLUMNS | {"time": bare})
    with pytest.raises(tables.DataLoadError, match="needs its offset from UTC"):
        prepared(tmp_path, data=f"it.{suffix}", time="time", **more)
