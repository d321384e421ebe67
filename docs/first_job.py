"""A first job, from its request to its metrics: `make job`, while `make run` trains.

It makes a table of a year of made-up hours, and asks for a forecast of it with LightGBM, in the
class `high`, which goes before the games. What it types is shown.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import subprocess
import sys
from pathlib import Path

JOB = {
    "tenant_id": "acme-corp",
    "model_type": "forecast",
    "config": {
        "algorithm": "lgbm",
        "training_start": "2024-01-01T00:00:00",
        "training_end": "2024-12-31T23:59:59",
        "features": ["temperature", "humidity", "hour_of_day", "load_lag_1", "load_lag_24"],
        "target": "load",
        "validation_split": 0.2,
    },
    "priority": "high",
}


def make_table(path: Path) -> None:
    """A load that follows the hour and the temperature; the same each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hour = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - a table without a zone, as most are
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "temperature", "humidity", "load"])
        for n in range(24 * 366):
            warm = 10 - 12 * math.cos(n / 8784 * 2 * math.pi) + 5 * math.sin(n / 24 * 2 * math.pi)
            load = 500 + 90 * math.sin((n - 8) / 24 * 2 * math.pi) + 4 * abs(warm - 18)
            load += n * 7919 % 37
            rows.writerow([hour.isoformat(), round(warm, 1), 40 + n * 31 % 50, round(load, 1)])
            hour += dt.timedelta(hours=1)


def supervisor(*words: str, given: str | None = None) -> str:
    """What a command says."""
    command = [str(Path(sys.executable).with_name("supervisor")), *words]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # it has said why
    return done.stdout


def main() -> None:
    """Hand the job in, follow it, and show what has become of it."""
    state = json.loads(supervisor("show-state", "--json"))
    if state["daemon"]["state"] != "running" or state["api"] is None:
        sys.exit("nobody takes jobs in: `make run` first, in a terminal of its own")
    make_table(Path(state["home"]) / "tables/acme-corp/features.load_forecasting.csv")
    print("$ supervisor jobs submit -", flush=True)
    job = supervisor("jobs", "submit", "-", given=json.dumps(JOB)).strip()
    print(job, f"$ supervisor jobs logs {job[:8]} -f", sep="\n", flush=True)
    follow = [str(Path(sys.executable).with_name("supervisor")), "jobs", "logs", job, "-f"]
    subprocess.run(follow, check=False)
    print(f"$ supervisor jobs show {job[:8]}", flush=True)
    print(supervisor("jobs", "show", job), end="")


if __name__ == "__main__":
    main()
