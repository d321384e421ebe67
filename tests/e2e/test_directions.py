"""A day of quotes, under a real supervisor: what the page says comes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.machine import Machine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/predict-a-direction.md").read_text(encoding="utf-8")
DAY = "exchange=binance/stream=bbo/symbol=btcusdt/date=20251228/data.parquet"
MORE = """
[policy]
tick_s = 0.5

[warm]
trainers = []
"""


def typed(machine: Machine, *words: str) -> str:
    """What a command of the trainer prints in the home of that machine."""
    answer = subprocess.run(
        [sys.executable, "-m", "trainers.direction", *words],
        cwd=machine.home,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout


def assert_said(printed: str, *, after: str) -> None:
    """See that the page shows the first lines of what is printed; last bits are the machine's."""
    shown = PAGE.partition(f"{after}\n")[2].partition("\n...\n")[0]
    words, wanted = (
        re.split(r"[,\n]", text)
        for text in ("\n".join(printed.splitlines()[: len(shown.splitlines())]), shown)
    )
    number = re.compile(r"[\d.]+$")
    assert [number.sub("", word) for word in words] == [number.sub("", word) for word in wanted]
    numbers = [
        [float(found[0]) for word in text if (found := number.search(word))]
        for text in (words, wanted)
    ]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)


def test_the_run_of_the_page_says_what_the_page_says(machine: Machine) -> None:
    """From the quotes that are made up to an earlier model on those of the day after."""
    for words in re.findall(r"^\$ python -m trainers.direction ((?:q|f).*)$", PAGE, re.MULTILINE):
        assert f"{words}\n{typed(machine, *words.split())}" in PAGE
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    machine.configure(settings + MORE)
    checked = machine("check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    machine.start()
    machine.until(
        lambda: machine.heartbeat("btcusdt", "direction").get("status") == "done", "it is done"
    )
    notices = machine.heartbeat("btcusdt", "direction")["notices"]
    assert [said in PAGE for said in notices] == [True]
    metrics = json.loads((machine.home / "runs/direction-btcusdt/metrics.json").read_bytes())
    rows = dict(re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE))
    said = {name: f"{metrics[name]:.3f}" for name in ("balancedAccuracy", "maxDrawdown")}
    assert {name: rows[f"`{name}`"] for name in said} == said
    assert f"{metrics['trades']:,} of them lose {-100 * metrics['return_sum']:.1f} %" in PAGE
    assert rows["`recall_pos`, `f1_pos`"] == f"{metrics['recall_pos']:.3f}, {metrics['f1_pos']:.3f}"
    printed = machine("predict", "btcusdt", "-i", str(machine.home / "quotes" / DAY))
    assert printed.returncode == 0, printed.stderr
    assert_said(printed.stdout, after="predict btcusdt -i quotes")
    old = machine.home / "old.ubj"
    assert machine("export", "btcusdt", "-o", str(old)).returncode == 0
    (score,) = re.findall(r"^\$ python -m trainers.direction (score .*)$", PAGE, re.MULTILINE)
    assert_said(typed(machine, *score.split()), after=score)
