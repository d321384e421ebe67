"""Tables of electricity that nobody has measured: a day, a week, weather, noise."""

import csv
from datetime import UTC, datetime, timedelta

import numpy as np

DAYS = 60


def write_loads(path, days=DAYS, seed=3, after=0):
    """Hourly loads as CSV, from 2024 on; `after`: days that are left out before them."""
    rng = np.random.default_rng(seed)
    hours = np.arange((after + days) * 24)
    temperature = 10 + 8 * np.sin(2 * np.pi * hours / 8760) + 4 * np.sin(2 * np.pi * hours / 24)
    temperature += rng.normal(size=len(hours))
    load = 1000 + 200 * np.sin(2 * np.pi * (hours - 6) / 24) - 12 * temperature
    load -= 150 * (hours // 24 % 7 >= 5)
    load += rng.normal(size=len(hours)) * 20
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "load", "temperature", "humidity"])
        for hour in hours[after * 24 :]:
            time = (begin + timedelta(hours=int(hour))).isoformat()
            humidity = round(50 + 30 * float(rng.random()), 2)
            rows.writerow([time, round(load[hour], 3), round(temperature[hour], 3), humidity])
    return path
