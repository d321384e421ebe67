#!/usr/bin/env python3
"""What the trainer of tables costs beside the library that it calls, and how good it is.

    python benchmarks/tabular.py                          both, a million rows, about an hour
    python benchmarks/tabular.py cost --rows 20000 --turns 5 --algorithms lgbm
    python benchmarks/tabular.py skill                    three real series, a minute

`cost`: each algorithm in turn through us, a process as the supervisor starts it with a checkpoint
each 90 s; called directly with the very same segments, on the very same arrays; and called directly
once. Each is a process of its own. What is compared is the time from the arrays to the model, what
they are binned in included, and the most memory that the process ever had. `overhead` is ours over
the same segments, `segments` is the same segments over one call. A forest is judged on fewer rows
and trees, so that it ends. All wait as our trainers do: threads that spin while they wait take the
processor from others, and a library of its own accord is several times slower beside them.

`skill`: what each forecasts of real series, beside the best of what costs nothing. They lie in
packages of the extra `benchmarks`: pip install pmdarima vega-datasets
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

# This process stays small: what it starts would count its memory as their own. So what imports
# NumPy is imported within functions that other processes call.

ALGORITHMS = ("lgbm", "xgboost", "rf", "isolation_forest")
SHARES = {"rf": 0.05}
"""of the rows that one takes which would never end"""
ROUNDS = {"rf": 20}
"""of one whose rounds are long, at most"""
SEGMENT_CALLS = ("through us", "same segments", "one call")
FORECAST = {
    "features": ["temperature", "humidity", "wind", "cloud", "hour_of_day", "day_of_week", "month",
                 "load_lag_24", "load_lag_168", "load_rolling_mean_24"],
    "target": "load",
    "horizon": 24,
}  # fmt: skip
ISOLATE = {
    "model_type": "anomaly",
    "features": [name for name in FORECAST["features"] if not name.startswith("load")] + ["load"],
    "horizon": 0,
}
TABLE = "table.parquet"
STEPS = ("data_loading", "preprocessing", "training", "evaluation", "registration")


class Turn(NamedTuple):
    """What one process has shown."""

    training_s: float
    memory_mb: float
    """the most that it ever had"""
    content: str
    """a hash of the trees"""
    steps_s: dict[str, float] | None = None
    """of each of the five steps; None: a library has none"""


class Series(NamedTuple):
    """A real series, and what is asked of it."""

    package: str
    """that has it"""
    what: str
    horizon: int
    features: list[str]
    read: Callable[[], tuple[Any, Any]]
    """its times and its values"""


def main() -> int:
    """Measure, and print what came of it; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=("cost", "skill"), help="unset: both")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES))
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)  # a process of a turn
    options = parser.parse_args()
    if options.inner is not None:
        what, place = options.inner
        {"prepare": _prepare, "series": _series}.get(what, _direct)(what, Path(place))
        return 0
    found: dict[str, Any] = {}
    if options.part != "skill":
        found["cost"] = {}
        for algorithm in options.algorithms:
            rows = int(options.rows * SHARES.get(algorithm, 1.0))
            rounds = min(options.rounds, ROUNDS.get(algorithm, options.rounds))
            turns = cost(algorithm, rows, rounds, options.turns)
            found["cost"][algorithm] = {
                way: [turn._asdict() for turn in taken] for way, taken in turns.items()
            }
            if not options.json:
                _print_cost(algorithm, rows, rounds, turns)
    if options.part != "cost":
        learners = [name for name in options.algorithms if name != "isolation_forest"]
        found["skill"] = [skill(name, one) for name in options.series for one in learners]
        if not options.json:
            _print_skill(found["skill"])
    if options.json:
        print(json.dumps(found))
    return 0


def cost(algorithm: str, rows: int, rounds: int, turns: int) -> dict[str, list[Turn]]:
    """Each way of training so many times, in turn."""
    found: dict[str, list[Turn]] = {way: [] for way in SEGMENT_CALLS}
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        asked = ISOLATE if algorithm == "isolation_forest" else FORECAST
        told = {**asked, "data": TABLE, "algorithm": algorithm}
        told["hyperparameters"] = {"n_estimators": rounds}
        (place / "asked.json").write_text(json.dumps({"rows": rows, "options": told}))
        _inner("prepare", place)
        for number in range(turns):
            ways = list(SEGMENT_CALLS)
            for way in ways[number % 3 :] + ways[: number % 3]:  # who is first takes turns
                through_us = way == SEGMENT_CALLS[0]
                turn = _ours(place, number, told) if through_us else _library(way, place)
                found[way].append(turn)
    return found


def skill(name: str, algorithm: str) -> dict[str, Any]:
    """What an algorithm forecasts of a series."""
    series = SERIES[name]
    with tempfile.TemporaryDirectory() as home:
        place = Path(home)
        (place / "asked.json").write_text(json.dumps({"series": name}))
        _inner("series", place)
        told = {
            "data": TABLE,
            "algorithm": algorithm,
            "features": series.features,
            "target": "value",
            "horizon": series.horizon,
        }
        run = _run(place, "run", told)
        _trained(run)
        metrics = json.loads((run / "metrics.json").read_bytes())
    best = metrics["best_baseline"]
    return {
        "series": name,
        "algorithm": algorithm,
        "mae": metrics["mae"],
        "mase": metrics["mase"],
        "best_baseline": best,
        "mae_of_it": metrics["baselines"][best]["mae"],
        "skill": metrics["skill"],
    }


def _ours(place: Path, number: int, told: dict[str, Any]) -> Turn:
    run = _run(place, f"turn-{number}", told)
    memory_mb = _trained(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    began = {step: line["at"] for line in reversed(lines) for step in [line["pipeline_step"]]}
    ends = [*list(dict(sorted(began.items())).values())[1:], lines[-1]["at"]]
    steps_s = {name: ends[i] - began[i + 1] for i, name in enumerate(STEPS)}
    content = json.loads((run / "model_card.json").read_bytes())["content_sha256"]
    return Turn(steps_s["training"], memory_mb, content, steps_s)


def _run(place: Path, name: str, told: dict[str, Any]) -> Path:
    run = place / "runs" / name
    run.mkdir(parents=True)
    spec = {
        "version": 2,
        "run": name,
        "trainer": "tabular",
        "name": name,
        "mode": "light",
        "threads": _threads(),
        "checkpoint_interval_s": 90.0,
        "options": told,
    }
    (run / "spec.json").write_text(json.dumps(spec))
    return run


def _trained(run: Path) -> float:
    """Train a run to its end; the most memory that it had, in MB."""
    command = [sys.executable, "-m", "trainers", "tabular", "--run", str(run)]
    return _ended(command, run.parent.parent / f"{run.name}.log")[1]


def _library(way: str, place: Path) -> Turn:
    told, memory_mb = _inner(way, place)
    return Turn(told["training_s"], memory_mb, told["content"])


def _inner(what: str, place: Path) -> tuple[Any, float]:
    """Have a process do one thing; what it prints as JSON, and its memory in MB."""
    command = [sys.executable, __file__, "--inner", what, str(place)]
    printed, memory_mb = _ended(command, place / f"{what}.log")
    return json.loads(printed.splitlines()[-1]), memory_mb


def _ended(command: list[str], output: Path) -> tuple[str, float]:
    with output.open("wb") as file:
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=HERE, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    printed = output.read_text(encoding="utf-8")
    if process.returncode:
        sys.exit(f"{' '.join(command)}: ended with {process.returncode}\n{printed}")
    return printed, used.ru_maxrss * 1024 / 1e6


def _threads() -> int:
    return len(os.sched_getaffinity(0))


# What other processes do.


def _prepare(_: str, place: Path) -> None:
    """Write a table, and the arrays that a trainer makes of it."""
    import msgspec  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from testkit.tables import hourly, write  # noqa: PLC0415
    from trainers import tables  # noqa: PLC0415
    from trainers.tabular import Options  # noqa: PLC0415

    asked = json.loads((place / "asked.json").read_bytes())
    rows = asked["rows"]
    columns = hourly(rows)
    chance = np.random.default_rng(1)
    columns |= {"wind": chance.gamma(2.0, 2.0, rows), "cloud": chance.random(rows)}
    columns["load"] += 2 * columns["temperature"] - 5 * np.sqrt(columns["wind"])
    write(place / TABLE, columns)
    prepared = tables.prepare(msgspec.convert(asked["options"], Options), place)
    for name, part in (("train", prepared.train), ("valid", prepared.validation)):
        np.save(place / f"{name}_x.npy", part.x)
        np.save(place / f"{name}_y.npy", part.y)
    (place / "names.json").write_text(json.dumps(prepared.names))
    print("{}")


def _direct(way: str, place: Path) -> None:
    """Have a library train, in segments or at once, and print how long that took."""
    import msgspec  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from trainers.tables.learning.growing import Lesson, Part, content_sha256  # noqa: PLC0415
    from trainers.tabular import Options  # noqa: PLC0415

    options = msgspec.convert(json.loads((place / "asked.json").read_bytes())["options"], Options)
    train, valid = (
        Part(np.load(place / f"{name}_x.npy"), np.load(place / f"{name}_y.npy"))
        for name in ("train", "valid")
    )
    lesson = Lesson(
        train=train,
        valid=valid,
        names=tuple(json.loads((place / "names.json").read_bytes())),
        hyperparameters=options.told.others,
        seed=options.random_seed,
        threads=_threads(),
    )
    kind, total = options.learns.model, options.told.rounds
    length = kind.SEGMENT if way == SEGMENT_CALLS[1] else total
    segments = [(begins, min(length, total - begins)) for begins in range(0, total, length)]
    calls = {"lgbm": _lightgbm, "xgboost": _xgboost}
    began_s = time.monotonic()
    saved = calls.get(options.algorithm, _forest)(lesson, segments, options.algorithm)
    took_s = time.monotonic() - began_s
    content = content_sha256(kind(saved()).arrays())
    print(json.dumps({"training_s": took_s, "content": content}))


def _lightgbm(lesson: Any, segments: list[tuple[int, int]], _: str) -> Callable[[], bytes]:
    import lightgbm  # noqa: PLC0415

    from trainers.tabular.lgbm import parameters  # noqa: PLC0415

    train = lightgbm.Dataset(
        lesson.train.x,
        lesson.train.y,
        feature_name=list(lesson.names),
        free_raw_data=False,
        params=parameters(lesson, 0),
    )
    valid = lightgbm.Dataset(lesson.valid.x, lesson.valid.y, reference=train, free_raw_data=False)
    booster = None
    for begins, rounds in segments:
        booster = lightgbm.train(
            {**parameters(lesson, begins), "metric": "rmse"},
            train,
            rounds,
            valid_sets=[valid],
            init_model=booster,
            keep_training_booster=True,
        )
    return lambda: booster.model_to_string(num_iteration=-1).encode()


def _xgboost(lesson: Any, segments: list[tuple[int, int]], _: str) -> Callable[[], bytes]:
    import xgboost  # noqa: PLC0415

    from trainers.tabular.xgb import parameters  # noqa: PLC0415

    train, valid = (
        xgboost.DMatrix(part.x, part.y, feature_names=list(lesson.names), nthread=lesson.threads)
        for part in (lesson.train, lesson.valid)
    )
    booster = None
    for begins, rounds in segments:
        told = parameters(lesson, begins)
        del told["disable_default_eval_metric"]
        booster = xgboost.train(
            {**told, "eval_metric": "rmse"},
            train,
            rounds,
            evals=[(valid, "valid")],
            verbose_eval=False,
            xgb_model=booster,
        )
    return lambda: bytes(booster.save_raw("ubj"))


def _forest(lesson: Any, segments: list[tuple[int, int]], algorithm: str) -> Callable[[], bytes]:
    import skops.io  # noqa: PLC0415
    from sklearn.ensemble import IsolationForest, RandomForestRegressor  # noqa: PLC0415

    kind = RandomForestRegressor if algorithm == "rf" else IsolationForest
    forest = kind(
        **lesson.hyperparameters,
        warm_start=True,
        random_state=lesson.seed,
        n_jobs=lesson.threads,
    )
    for begins, rounds in segments:
        forest.set_params(n_estimators=begins + rounds)
        forest.fit(lesson.train.x, lesson.train.y if algorithm == "rf" else None)
    return lambda: bytes(skops.io.dumps(forest.set_params(n_jobs=None)))


def _series(_: str, place: Path) -> None:
    """Write a real series as a table."""
    from testkit.tables import write  # noqa: PLC0415

    series = SERIES[json.loads((place / "asked.json").read_bytes())["series"]]
    times, values = series.read()
    write(place / TABLE, {"time": times, "value": values})
    print("{}")


def _demand() -> tuple[Any, Any]:
    import numpy as np  # noqa: PLC0415

    from testkit.tables import demand  # noqa: PLC0415

    values = demand()
    first, half_hour = np.datetime64("2000-06-05T00:00:00", "ns"), np.timedelta64(1800, "s")
    return first + np.arange(len(values)) * half_hour, values


def _temperatures() -> tuple[Any, Any]:
    return _columns("vega_datasets", "seattle-weather.csv", "date", "temp_max")


def _sunspots() -> tuple[Any, Any]:
    import gzip  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    with gzip.open(_file("pmdarima", "sunspots.txt.gz"), "rt", encoding="utf-8") as lines:
        values = np.array([float(word) for line in lines for word in line.split()])
    months = np.datetime64("1749-01", "M") + np.arange(len(values))
    return months.astype("datetime64[ns]"), values


def _columns(package: str, file: str, time: str, value: str) -> tuple[Any, Any]:
    """The times and the values of a file that a package has."""
    import numpy as np  # noqa: PLC0415

    with _file(package, file).open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    times = [row[time].replace("/", "-") for row in rows]
    return np.array(times, dtype="datetime64[ns]"), np.array([float(row[value]) for row in rows])


def _file(package: str, name: str) -> Path:
    """A file that a package has."""
    (path,) = (one.locate() for one in metadata.files(package) or [] if one.name == name)
    return Path(str(path))


SERIES = {
    "demand": Series(
        "pmdarima",
        "electricity, half-hourly, a day ahead",
        48,
        ["hour_of_day", "day_of_week", "value_lag_48", "value_lag_96", "value_lag_336",
         "value_lag_672"],
        _demand,
    ),
    "temperature": Series(
        "vega_datasets",
        "the warmest of a day in Seattle, a day ahead",
        1,
        ["month", "value_lag_1", "value_lag_2", "value_lag_3", "value_lag_7",
         "value_rolling_mean_14"],
        _temperatures,
    ),
    "sunspots": Series(
        "pmdarima",
        "sunspots, monthly, half a year ahead",
        6,
        ["value_lag_6", "value_lag_7", "value_lag_12", "value_lag_60", "value_lag_132",
         "value_rolling_mean_13"],
        _sunspots,
    ),
}  # fmt: skip


def _print_cost(algorithm: str, rows: int, rounds: int, turns: dict[str, list[Turn]]) -> None:
    ours, same, once = (turns[way] for way in SEGMENT_CALLS)
    print(f"{algorithm}: {rows:,} rows, {rounds} rounds, {_threads()} threads, {len(ours)} turns;"
          " median (least to most)")  # fmt: skip
    for way, taken in turns.items():
        seconds = _spread([turn.training_s for turn in taken])
        print(f"  {way:<14} {seconds} s   {_spread([turn.memory_mb for turn in taken])} MB")
    for name, pairs in (
        ("overhead", list(zip(ours, same, strict=True))),
        ("segments", list(zip(same, once, strict=True))),
    ):
        time_ratios = [one.training_s / other.training_s for one, other in pairs]
        memory_ratios = [one.memory_mb / other.memory_mb for one, other in pairs]
        print(f"  {name:<14} {_spread(time_ratios)} x   {_spread(memory_ratios)} x")
    for name in STEPS:
        if name != "training":
            print(f"  {name:<14} {_spread([(turn.steps_s or {})[name] for turn in ours])} s")
    equal = len({turn.content for turn in (*ours, *same)}) == 1
    print(f"  the model of the same segments is {'the same, to the bit' if equal else 'ANOTHER'}")


def _print_skill(found: list[dict[str, Any]]) -> None:
    for name, series in SERIES.items():
        lines = [one for one in found if one["series"] == name]
        if not lines:
            continue
        print(f"{name}: {series.what}; the best for nothing is {lines[0]['best_baseline']}, "
              f"with a mean error of {lines[0]['mae_of_it']:.4g}")  # fmt: skip
        for one in lines:
            print(f"  {one['algorithm']:<8} mae {one['mae']:9.4g}   mase {one['mase']:6.3f}   "
                  f"skill {one['skill']:+.3f}")  # fmt: skip


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):9.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
