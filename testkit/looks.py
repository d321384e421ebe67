"""Looks at homes that never were: what the page is made from, each part as a test wants it."""

import msgspec
from markupsafe import Markup

from state.samples import GpuSample, Sample
from supervisor.core.explain import KnownMode
from supervisor.core.goodput import SHARES, Goodput, RunGoodput, Times
from supervisor.core.moments import stamp
from supervisor.page.lately import SPANS, Drawn, Lately
from supervisor.page.look import Look
from supervisor.page.machine import DiskLeft
from supervisor.page.queue import Queue, QueuedJob, Share
from supervisor.report import (
    BootReport,
    CampaignReport,
    DaemonReport,
    LedgerReport,
    NextReport,
    Report,
    RunReport,
)
from testkit.builders import HOUR_S
from trainers.contract import Score

AT = 1_800_000_000.0
"""when the look was"""


def a_run(called="Pong", **fields):
    """A run that trains well."""
    given = {
        "id": f"drill-{called}",
        "trainer": "drill",
        "name": called,
        "called": called,
        "status": "running",
        "reason": None,
        "waits": None,
        "rank": "normal",
        "mode": "medium",
        "gpus": None,
        "gpus_own": False,
        "step": 612_000,
        "episodes": 40,
        "target": 2_000_000,
        "target_unit": "steps",
        "progress": 0.306,
        "steps_per_s": 1200.0,
        "score": Score(name="return_mean", value=-12.3, better="higher"),
        "loss": 0.25,
        "checkpoint_step": 600_000,
        "checkpoint_age_s": 12.0,
        "eta_s": 1157.0,
        "pid": 4711,
        "restarts": 1,
    }
    return RunReport(**given | fields)


def a_mode(mode, **fields):
    """What is known of a mode."""
    given = {
        "mode": mode,
        "hours": 12.0,
        "crashes": 1.0,
        "crashes_per_h": 0.1,
        "crashes_per_h_low": 0.02,
        "crashes_per_h_high": 0.2,
        "aftershocks_per_h": 0.3,
        "break_even_per_h": None,
        "steps_per_h": {},
        "speed_ratio": None,
        "compared_h": 0.0,
        "level": 0,
        "cool_down_left_s": 0.0,
        "bad": False,
        "recoveries": 0,
        "bad_hours": 0.0,
    }
    return KnownMode(**given | fields)


def a_boot(ago_s, *, crash=True, **fields):
    """A boot so long ago."""
    given = {
        "seq": 2,
        "boot_id": "b" * 32,
        "recorded": stamp(AT - ago_s),
        "crash": crash,
        "mode": "medium",
        "lived_s": ago_s,
        "trained_s": ago_s,
        "lasts": True,
    }
    return BootReport(**given | fields)


def a_line(seq, event, ago_s=60.0, **fields):
    """A line of the log, so long ago."""
    given = {"version": 3, "seq": seq, "time": stamp(AT - ago_s), "boot": "b" * 32}
    return given | {"event": event, "rule": "slot", "reason": f"reason {seq}"} | fields


def a_sample(ago_s=10.0, **fields):
    """The machine, so long ago."""
    given = {
        "at": AT - ago_s,
        "monotonic_s": 5000.0 - ago_s,
        "boottime_s": 5000.0 - ago_s,
        "boot_id": "b" * 32,
        "mode": "medium",
        "running": 2,
        "covers_s": 15.0,
        "cpu_percent": 58.0,
        "cpu_own_percent": 41.0,
        "memory_total_mib": 16_384.0,
        "memory_available_mib": 8192.0,
        "disk_free_mib": 76_288.0,
        "cpu_temperature_c": 61.0,
        "gpus": (
            GpuSample(
                utilization_percent=78.0,
                temperature_c=71.0,
                power_w=250.0,
                memory_used_mib=11_469.0,
                memory_total_mib=81_920.0,
            ),
        ),
    }
    return Sample(**given | fields)


def a_job(number=1, **fields):
    """A job that waits."""
    given = {
        "id": f"job-{number}",
        "tenant": "ada",
        "name": f"demand-{number}",
        "priority": "normal",
        "status": "PENDING",
        "submitted_at": AT - HOUR_S,
        "waits": ("all 2 slots of medium are taken",),
        "position": number,
        "eta_s": 600.0,
        "eta_p90_s": 1800.0,
    }
    return QueuedJob(**given | fields)


def a_queue(*jobs, **fields):
    """The queue with these jobs."""
    running = sum(job.status == "RUNNING" for job in jobs)
    given = {
        "counts": {"PENDING": len(jobs) - running, "RUNNING": running},
        "running": running,
        "waiting": len(jobs) - running,
        "oldest_waiting_since": AT - HOUR_S,
        "shares": tuple(
            Share(tenant=tenant, running=0, waiting=1, cpu_hours_today=1.5)
            for tenant in sorted({job.tenant for job in jobs})
        ),
        "jobs": jobs,
    }
    return Queue(**given | fields)


def some_goodput(**fields):
    """A day of which most was kept."""
    given = {
        "goodput": 0.9,
        "since": stamp(AT - 24 * HOUR_S),
        "span_s": 24 * HOUR_S,
        "demanded_s": 48 * HOUR_S,
        "spent_s": dict.fromkeys(SHARES, 0.0) | {"kept": 43.2 * HOUR_S, "lost": 4.8 * HOUR_S},
        "not_demanded_s": {"pause": 600.0},
        "steps_kept": 2_566_000,
        "steps_lost": 9000,
        "attempts": 4,
        "deaths": 1,
        "crashes": 1,
        "detection": Times(),
        "stop": Times(count=2, mean_s=3.0, max_s=4.0),
        "start": Times(count=4, mean_s=2.0, max_s=9.0),
        "checkpoint_stall": Times(),
        "runs": (
            RunGoodput(
                run="drill-Pong",
                goodput=0.9,
                demanded_s=24 * HOUR_S,
                spent_s={},
                steps_kept=1_000_000,
                steps_lost=9000,
                attempts=2,
                deaths=1,
            ),
        ),
    }
    return Goodput(**given | fields)


def a_report(**fields):
    """Two runs that train in medium, and nothing wrong."""
    runs = fields.get("runs", (a_run("Pong"), a_run("Breakout")))
    given = {
        "home": "/srv/training",
        "home_id": "5" * 32,
        "epoch": 1,
        "daemon": DaemonReport(state="running", pid=42),
        "api": None,
        "page": None,
        "mode": "medium",
        "mode_since": stamp(AT - 20 * HOUR_S),
        "mode_running_s": 20 * HOUR_S,
        "stable_s": 20 * HOUR_S,
        "goal": {"mode": "medium", "pinned": False, "pauses": (), "paused": False},
        "bounds": (),
        "policy": "ledger",
        "ledger": LedgerReport(
            crash_price_min=20.0,
            crashes_priced=2,
            budget=2.5,
            budget_max=3.0,
            probation=False,
            modes=(
                a_mode("light"),
                a_mode("medium", speed_ratio=2.0, break_even_per_h=3.1, compared_h=4.0),
            ),
            policy="ledger",
            mode="medium",
            checkpoint_interval_s=20.0,
            checkpoint_interval_max_s=90.0,
        ),
        "next": NextReport(action="stay", in_s=None, why="medium is the highest mode"),
        "boot_id": "b" * 32,
        "boots_total": 2,
        "crashes_total": 0,
        "crashes_last_hour": 0,
        "boots": (a_boot(30 * HOUR_S, crash=False),),
        "history_since": stamp(AT - 90 * HOUR_S),
        "trouble": (),
        "uptime_s": 30 * HOUR_S,
        "quiet": None,
        "guard": None,
        "again": None,
        "campaign": CampaignReport(
            runs=len(runs),
            done=sum(run.status == "done" for run in runs),
            failed=sum(run.status == "failed" for run in runs),
            steps_per_s=2400.0,
            eta_s=42.8 * HOUR_S,
            cost_so_far=1.2,
            cost_to_come=3.4,
        ),
        "runs": runs,
    }
    return Report(**given | fields)


def drawn(title, words=""):
    """A picture that shows no more than its title."""
    return Drawn(Markup("<svg><title>{}</title></svg>").format(title), words)


def lately(**fields):
    """The last day, of which each picture is its name."""
    given = {
        "until": AT - AT % 60,
        "runs": ("drill-Pong", "drill-Breakout"),
        "ribbons": dict.fromkeys(SPANS, drawn("ribbon", "medium for 24 h")),
        "gauges": {"cpu_percent": drawn("processors")},
        "gauges_s": 24 * HOUR_S,
        "scores": {"drill-Pong": Markup("<svg><title>score of Pong</title></svg>")},
        "disk": DiskLeft(days=None, words="it hardly fills"),
        "shots": frozenset({"drill-Pong"}),
    }
    return Lately(**given | fields)


def a_look(report=None, **fields):
    """A look at that; without one, at a home in which all is well."""
    given = {
        "at": AT,
        "report": report or a_report(),
        "goodput": some_goodput(),
        "cost_per_hour": 1.2,
        "lines": (a_line(1, "supervisor.started", 3600.0), a_line(2, "run.started", 60.0)),
        "looked_at": AT - 30,
        "sample": a_sample(),
        "lately": lately(),
        "tick_s": 300.0,
        "queue": None,
    }
    return Look(**given | fields)


def but(look, **fields):
    """The same look with another report: that with these fields."""
    report = msgspec.structs.replace(look.report, **fields)
    return msgspec.structs.replace(look, report=report)
