"""What Prometheus is told: the numbers of the report, and nothing where it has none."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import prometheus_client
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from state.samples import GpuSample, Sample
from supervisor.access import LOOK_TOKEN
from supervisor.config import Config
from supervisor.core.goodput import NOT_DEMANDED, SHARES, Goodput, Times, measure
from supervisor.core.guard import Pressure
from supervisor.core.web_settings import Web
from supervisor.host.home import Home
from supervisor.page.look import Look
from supervisor.page.prometheus import (
    ALONE_MAX,
    PREFIX,
    SAMPLE_MAX_S,
    STATUSES,
    Exposition,
    exposition,
)
from supervisor.page.queue import Queue, Share
from supervisor.page.shown import Page
from supervisor.report import GuardReport, QuietReport, RunReport, SourceReport, report
from supervisor.terminal import printable
from testkit.api import served
from testkit.looks import lately
from testkit.written_life import WrittenLife
from trainers.contract import Score

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
PAGE = (HOW_TO / "watch-with-prometheus.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((HOW_TO / "alerts.yml").read_text(encoding="utf-8"))
but = msgspec.structs.replace
NOW = 1_770_000_000.0
HOUR_S = 3600.0
MIB = 2**20


def a_run_report(run_id="atari-Pong-1", **fields):
    """A run of which everything is known."""
    given = {
        "id": run_id, "trainer": "atari", "name": "Pong", "called": "Pong", "status": "running",
        "reason": None, "waits": None, "rank": "low", "mode": "medium", "gpus": None,
        "gpus_own": False, "step": 1200, "episodes": 7, "target": 4800, "target_unit": "steps",
        "progress": 0.25, "steps_per_s": 850.5,
        "score": Score(name="return_mean", value=-3.5, better="higher"), "loss": 0.125,
        "checkpoint_step": 1000, "checkpoint_age_s": 42.5, "eta_s": 4.25, "pid": 4711,
        "restarts": 3, "ends": None,
    }  # fmt: skip
    return RunReport(**{**given, **fields})


GOODPUT = Goodput(
    goodput=0.875,
    since="2026-01-05T19:27:00.000Z",
    span_s=9000.0,
    demanded_s=8000.0,
    spent_s=dict.fromkeys(SHARES, 0.0) | {"kept": 7000.0, "lost": 1000.0},
    not_demanded_s=dict.fromkeys(NOT_DEMANDED, 0.0) | {"guard": 60.5},
    steps_kept=1,
    steps_lost=2,
    attempts=3,
    deaths=4,
    crashes=5,
    detection=Times(),
    stop=Times(),
    start=Times(),
    checkpoint_stall=Times(),
    runs=(),
)
SAMPLE = Sample(
    at=NOW - 12.0, monotonic_s=1.0, boottime_s=2.0, boot_id="0" * 32, cpu_percent=75.0,
    cpu_own_percent=50.0, memory_total_mib=4096.0, memory_available_mib=1024.5,
    memory_own_mib=2048.0, swap_used_mib=1.0, disk_free_mib=20480.0, cpu_temperature_c=61.5,
    gpus=(
        GpuSample(
            utilization_percent=87.5, temperature_c=70.0, power_w=250.5, memory_used_mib=512.0,
            memory_total_mib=1024.0, memory_other_mib=0.0, ecc_uncorrected=2.0,
        ),
        GpuSample(temperature_c=30.0),
    ),
)  # fmt: skip
QUEUE = Queue(
    counts={"PENDING": 5, "RUNNING": 2, "COMPLETED": 90, "FAILED": 1, "CANCELLED": 0},
    running=2,
    waiting=5,
    oldest_waiting_since=NOW - 7200.0,
    shares=(
        Share(tenant="ACME", running=2, waiting=1, cpu_hours_today=0.5),
        Share(tenant="OTHER", running=0, waiting=4, cpu_hours_today=0.0),
    ),
    jobs=(),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A look at a home of which everything is known."""
    home = Home(tmp_path_factory.mktemp("home"))
    life = WrittenLife().train(3).crash().train(0.5)
    life.save(home.path)
    found = report(home, Config(home.settings), life.clock.read())
    quiet = QuietReport(
        open=True, why="window", words="", opens=None, closes=None, lifted_until=None,
        analysed=None, age_days=None, late=False, next_analysis=None,
        sources=(
            SourceReport(name="online", used=True, why_not=None),
            SourceReport(name="logins", used=False, why_not="it does not answer"),
        ),
        timers=(), last_refusal=None,
    )  # fmt: skip
    whole = but(
        found,
        goal=found.goal | {"pinned": True, "pauses": ["guard"], "forbidden": "medium"},
        quiet=quiet,
        guard=GuardReport(answer="freeze", since=None, words="", pressure=Pressure()),
        campaign=but(found.campaign, eta_s=5400.0),
        runs=(a_run_report(), a_run_report("drill-a", status="waiting", pid=None)),
    )
    return Look(
        at=NOW, report=whole, goodput=GOODPUT, cost_per_hour=1.5, lines=(),
        looked_at=None, sample=SAMPLE, lately=lately(), tick_s=300.0, queue=QUEUE,
    )  # fmt: skip


def changed(look, **report):
    """A look at another report."""
    return but(look, report=but(look.report, **report))


def read(told):
    """The samples of an answer: (name without prefix, the values of its labels): number."""
    if "openmetrics" in told.content_type:
        families = openmetrics.text_string_to_metric_families(told.content.decode())
    else:
        families = text_string_to_metric_families(told.content.decode())
    found = {}
    for family in families:
        for one in family.samples:
            assert one.name.startswith(PREFIX)
            key = (one.name.removeprefix(PREFIX), *sorted(one.labels.items()))
            assert key not in found
            found[key] = one.value
    return found


def of(found, name):
    """The numbers of a family by the value of its one label, or the only number."""
    values = {key[1:]: number for key, number in found.items() if key[0] == name}
    if set(values) == {()}:
        return values[()]
    return {label[1]: number for (label,), number in values.items()}


def test_each_number_is_that_of_the_report(whole):
    """In the units of Prometheus."""
    found = read(exposition(whole, ""))
    for name in ("mode_running_s", "stable_s"):
        assert of(found, f"{name}econds") == getattr(whole.report, name)
    assert of(found, "boots_total") == whole.report.boots_total == 2
    assert of(found, "crashes_total") == whole.report.crashes_total == 1
    assert of(found, "daemon_running") == 0
    assert whole.report.mode == "medium"
    assert of(found, "mode") == {"light": 0, "medium": 1}
    assert of(found, "rung") == 1
    assert of(found, "mode_forbidden") == {"light": 0, "medium": 1}
    assert (of(found, "pinned"), of(found, "idle")) == (1, 0)
    assert of(found, "paused") == {"person": 0, "guard": 1, "quiet_hours": 0}
    assert of(found, "guard_answer") == {"hold": 0, "free": 0, "freeze": 1, "evict": 0}
    assert of(found, "quiet_open") == 1
    assert of(found, "quiet_source_used") == {"online": 1, "logins": 0}
    assert of(found, "campaign_left_seconds") == 5400.0


def test_what_the_ledger_has_learnt_is_that_of_the_report(whole):
    """A rate is told by the second, with its bounds."""
    found, ledger = read(exposition(whole, "")), whole.report.ledger
    light, medium = ledger.modes
    for name, field in (
        ("crashes", "crashes_per_h"),
        ("crashes_low", "crashes_per_h_low"),
        ("crashes_high", "crashes_per_h_high"),
    ):
        told = of(found, f"ledger_{name}_per_second")
        assert told == {one.mode: getattr(one, field) / HOUR_S for one in ledger.modes}
    assert 0 < light.crashes_per_h_low < light.crashes_per_h < light.crashes_per_h_high
    # There is none of the lowest mode.
    assert of(found, "ledger_break_even_per_second") == {"medium": medium.break_even_per_h / HOUR_S}
    assert of(found, "ledger_cool_down_seconds") == {"light": 0, "medium": medium.cool_down_left_s}
    assert of(found, "ledger_crash_price_seconds") == ledger.crash_price_min * 60 > 0
    assert of(found, "ledger_budget_crashes") == ledger.budget
    assert of(found, "ledger_budget_max_crashes") == ledger.budget_max


def test_each_run_is_told_by_its_id(whole):
    """What is shown of it elsewhere stands in its info."""
    found = read(exposition(whole, ""))
    assert of(found, "runs") == dict.fromkeys(STATUSES, 0) | {"running": 1, "waiting": 1}
    for name, number in {
        "step": 1200, "episodes": 7, "target": 4800, "progress_ratio": 0.25,
        "steps_per_second": 850.5, "loss": 0.125, "checkpoint_step": 1000,
        "checkpoint_age_seconds": 42.5, "left_seconds": 4.25, "restarts_total": 3,
    }.items():  # fmt: skip
        assert of(found, f"run_{name}") == {"atari-Pong-1": number, "drill-a": number}
    pong = ("run", "atari-Pong-1")
    assert found["run_score", ("better", "higher"), pong, ("score", "return_mean")] == -3.5
    labels = {"name": "Pong", "rank": "low", "run": pong[1], "trainer": "atari", "unit": "steps"}
    assert found[("run_info", *labels.items())] == 1
    statuses = {status: found["run_status", pong, ("status", status)] for status in STATUSES}
    assert statuses == dict.fromkeys(STATUSES, 0) | {"running": 1}


def test_goodput_queue_and_machine_are_told(whole):
    """GPUs by their place."""
    found = read(exposition(whole, ""))
    assert of(found, "goodput_ratio") == 0.875
    assert of(found, "demanded_seconds") == GOODPUT.spent_s
    assert of(found, "not_demanded_seconds") == GOODPUT.not_demanded_s
    assert of(found, "jobs") == QUEUE.counts
    assert (of(found, "jobs_running"), of(found, "jobs_waiting")) == (2, 5)
    assert of(found, "jobs_oldest_waiting_timestamp_seconds") == NOW - 7200.0
    assert of(found, "tenant_jobs_running") == {"ACME": 2, "OTHER": 0}
    assert of(found, "tenant_jobs_waiting") == {"ACME": 1, "OTHER": 4}
    for name, number in {
        "news_timestamp_seconds": NOW - 12.0, "cpu_ratio": 0.75, "cpu_own_ratio": 0.5,
        "memory_bytes": 4096 * MIB, "memory_available_bytes": 1024.5 * MIB,
        "memory_own_bytes": 2048 * MIB, "swap_used_bytes": MIB, "disk_free_bytes": 20480 * MIB,
        "cpu_temperature_celsius": 61.5,
    }.items():  # fmt: skip
        assert of(found, name) == number
    for name, numbers in {
        "utilization_ratio": {"0": 0.875}, "temperature_celsius": {"0": 70.0, "1": 30.0},
        "power_watts": {"0": 250.5}, "memory_used_bytes": {"0": 512 * MIB},
        "memory_bytes": {"0": 1024 * MIB}, "memory_other_bytes": {"0": 0.0},
        "ecc_uncorrected_total": {"0": 2.0},
    }.items():  # fmt: skip
        assert of(found, f"gpu_{name}") == numbers


def test_what_is_unknown_has_no_series(tmp_path):
    """On a first day whose settings cannot be read no more is told than what is known."""
    now = WrittenLife().clock.read()
    nothing = Look(
        at=NOW, report=report(Home(tmp_path), "no settings", now), goodput=measure([]),
        cost_per_hour=None, lines=(), looked_at=None, sample=None, lately=lately(), tick_s=300.0,
        queue=None,
    )  # fmt: skip
    found = read(exposition(nothing, ""))
    assert {key[0] for key in found if not key[0].startswith("run_")} == {
        "boots_total", "crashes_total", "daemon_running", "demanded_seconds", "idle", "mode",
        "mode_running_seconds", "not_demanded_seconds", "paused", "pinned", "runs",
        "stable_seconds",
    }  # fmt: skip
    assert of(found, "mode") == {"light": 1}


def test_of_a_run_that_says_nothing_yet_nothing_is_made_up(whole):
    """Neither a rate nor a loss of 0."""
    silent = a_run_report(
        target=None, target_unit=None, progress=None, steps_per_s=None, loss=None, eta_s=None,
        checkpoint_step=None, checkpoint_age_s=None, score=Score(name="rmse", value=None),
    )  # fmt: skip
    found = read(exposition(changed(whole, runs=(silent,)), ""))
    told = {key[0] for key in found if key[0].startswith("run_")}
    assert told == {"run_info", "run_status", "run_step", "run_episodes", "run_restarts_total"}


@pytest.mark.parametrize("away_s", [SAMPLE_MAX_S, -SAMPLE_MAX_S])
def test_an_old_sample_tells_no_more_than_its_time(whole, away_s):
    """What the machine was like then, or by a clock that was set back, is not what it is like."""
    at = NOW - away_s
    found = read(exposition(but(whole, sample=but(SAMPLE, at=at)), ""))
    assert of(found, "news_timestamp_seconds") == at
    assert not {"cpu_ratio", "disk_free_bytes", "gpu_power_watts"} & {key[0] for key in found}


def test_series_are_bounded_and_those_that_train_come_first(whole):
    """A queue of thousands is told by its numbers; what has ended long ago, by no more."""
    day_s = 24 * HOUR_S
    runs = (
        a_run_report("failed", status="failed", pid=None, checkpoint_age_s=None),
        a_run_report("ended", status="done", pid=None, checkpoint_age_s=day_s - 1),
        a_run_report("gone", status="done", pid=None, checkpoint_age_s=day_s),
        a_run_report("waits", status="waiting", pid=None, checkpoint_age_s=9 * day_s),
        a_run_report("trains"),
    )
    found = read(exposition(changed(whole, runs=runs), ""))
    assert set(of(found, "run_step")) == {"failed", "ended", "waits", "trains"}
    assert of(found, "runs")["done"] == 2
    many = tuple(a_run_report(f"queued-{at}", status="queued", pid=None) for at in range(3000))
    told = exposition(changed(whole, runs=(*runs[:3], *many, *runs[3:])), "")
    found = read(told)
    steps = of(found, "run_step")
    assert len(steps) == ALONE_MAX
    assert next(iter(steps)) == "trains"
    assert {"ended", "waits"}.isdisjoint(steps)
    assert of(found, "runs")["queued"] == 3000
    assert len(told.content) < 500_000


@settings(max_examples=40)
@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["", "application/openmetrics-text"]),
)
def test_whatever_a_run_is_called_it_is_text(whole, name, run_id, accept):
    """It ends no line, opens no series and hides none; what cannot be printed is replaced."""
    runs = (a_run_report(run_id, name=name), a_run_report())
    if printable(run_id) == runs[1].id:
        return
    told = exposition(changed(whole, runs=runs), accept)
    found = read(told)
    assert of(found, "run_step")[printable(run_id)] == 1200
    infos = [dict(key[1:]) for key in found if key[0] == "run_info"]
    assert [info["name"] for info in infos] == [printable(name), "Pong"]


def test_a_name_that_looks_like_a_series_is_none(whole):
    """Quotes, line ends and backslashes are what they are."""
    name = 'a"} 1\ntraining_supervisor_boots_total 99\n# EOF\n\\'
    found = read(exposition(changed(whole, runs=(a_run_report(name=name),)), ""))
    assert of(found, "boots_total") == 2


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/html,application/xhtml+xml;q=0.9", "text/plain; version=0.0.4"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*",
            "application/openmetrics-text; version=1.0.0",
        ),
        (
            'APPLICATION/OpenMetrics-Text; version="a\x00b"; escaping=',
            "application/openmetrics-text; version=1.0.0",
        ),
        (";;,=,version=", "text/plain; version=0.0.4"),
    ],
)
def test_openmetrics_is_for_those_who_name_it(whole, accept, kind):
    """Both forms say the same; nothing that is asked is an error."""
    told = exposition(whole, accept)
    assert told.content_type.startswith(kind)
    assert told.content.endswith(b"# EOF\n") == ("openmetrics" in kind)
    assert read(told) == read(exposition(whole, ""))


def test_a_server_answers_at_metrics(tmp_path):
    """In the form that is asked for; elsewhere than on loopback, to whoever has a token to look."""
    home = Home(tmp_path / "home")
    home.make()
    config = Config(home.settings)
    page = Page(home, lambda: config, config.settings, None)
    with served(page.app) as address, httpx.Client(base_url=address) as client:
        told = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
        assert told.status_code == 200
        kind = told.headers["content-type"]
        assert kind.startswith("application/openmetrics-text")
        assert of(read(Exposition(told.content, kind)), "daemon_running") == 0
        assert client.head("/metrics").status_code == 200
        bearer = {"authorization": "Bearer stranger"}
        assert client.post("/metrics", headers=bearer).status_code == 405
        page.heed(but(config.settings, web=Web(hosts=("box.example.org",))))
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer).status_code == 401
        bearer = {"authorization": f"Bearer {(home.api / LOOK_TOKEN).read_text().strip()}"}
        assert client.get("/metrics", headers=bearer).status_code == 200


def test_nothing_is_told_of_the_server_itself(whole):
    """Its memory and its Python are nobody's business; what others register is not told."""
    other = prometheus_client.Gauge("requests", "Of another program in this process.")
    try:
        assert "requests" not in exposition(whole, "").content.decode()
        read(exposition(whole, ""))  # all names begin as ours do
    finally:
        prometheus_client.REGISTRY.unregister(other)


def documented():
    """Metric: kind, labels and meaning, as the table of the page has them."""
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| `{PREFIX}")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len({row[0] for row in rows}) == len(rows)
    return {
        name.strip("`"): (kind, tuple(re.findall(r"`(\w+)`", labels)), about)
        for name, kind, labels, about in rows
    }


def families(told):
    """The same of an answer."""
    found = {}
    for family in text_string_to_metric_families(told.content.decode()):
        for one in family.samples:
            kind = (family.type, tuple(sorted(one.labels)), family.documentation)
            assert found.setdefault(one.name, kind) == kind
    return found


def test_the_table_of_the_page_has_every_metric(whole):
    """With its type, its labels and its meaning."""
    told = {
        name: (kind, tuple(sorted(labels)), about)
        for name, (kind, labels, about) in documented().items()
    }
    assert told == families(exposition(whole, ""))


def test_alerts_ask_for_metrics_that_there_are(whole):
    """Each says what to do, and stands on the page."""
    (group,) = RULES["groups"]
    known = set(documented())
    for rule in group["rules"]:
        asked = set(re.findall(rf"{PREFIX}\w+", rule["expr"]))
        assert asked <= known
        assert asked
        assert {"summary", "description"} == set(rule["annotations"])
        assert f"`{rule['alert']}`" in PAGE
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) >= 7
