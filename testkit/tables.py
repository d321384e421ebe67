"""Tables for tests: series that are made, one that was measured, and files of them."""

from __future__ import annotations

import ast
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trainers import tables

FIRST = np.datetime64("2024-01-01T00:00:00", "ns")
HOUR = np.timedelta64(3600, "s")


def hourly(rows: int, *, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Columns of a load with a daily shape, and of the weather."""
    chance = np.random.default_rng(seed)
    hours = np.arange(rows)
    return {
        "time": FIRST + hours * HOUR,
        "load": 100 + 20 * np.sin(hours * 2 * np.pi / 24) + chance.normal(0, 3, rows),
        "temperature": chance.normal(10, 3, rows),
        "humidity": chance.random(rows),
    } | more


def write(path: Path, columns: dict[str, Any]) -> Path:
    """A Parquet or CSV file of columns, by the suffix of its name."""
    table = pa.table(columns)
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def table_run(
    home: Path,
    trainer: str,
    run: str = "run",
    *,
    seed: int = 1,
    threads: int = 1,
    upto: dict[str, Any] | None = None,
    grace_s: float = 120,
    **options: Any,
) -> Path:
    """The folder of a run in a home, with what a trainer is asked for."""
    folder = home / "runs" / run
    folder.mkdir(parents=True)
    spec = {
        "version": 2,
        "run": run,
        "trainer": trainer,
        "name": "load",
        "mode": "light",
        "seed": seed,
        "threads": threads,
        "target": upto,
        "grace_s": grace_s,
        "checkpoint_interval_s": 0.001,
        "options": options,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def wanted(**more: Any) -> tables.Config:
    """What is asked of such a table, in the words of the document, and of `more`."""
    asked = {
        "data": "table.parquet",
        "features": ("temperature", "hour_of_day", "load_lag_1", "load_lag_24"),
        "target": "load",
    }
    return tables.Config(**(asked | more))


def demand() -> np.ndarray:
    """Half-hourly demand of electricity, 4,032 values (Taylor, 2003), read from its package."""
    files = metadata.files("pmdarima") or []
    (path,) = (file.locate() for file in files if file.name == "taylor.py")
    lists = (
        node
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8")))
        if isinstance(node, ast.List) and len(node.elts) > 4000
    )
    return np.array(ast.literal_eval(next(lists)), dtype=np.float64)
