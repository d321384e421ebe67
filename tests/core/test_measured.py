"""What the daemon measures for the policy, on a machine made of numbers."""

import math
from importlib import metadata

import msgspec
import pytest

from state.inbox import Inbox
from state.records import LEDGER_VERSION, Kept, Ledger, ModeLedger
from state.store import AtomicStorage, Store
from supervisor.assembly import installed
from supervisor.config import Config
from supervisor.core import ledger as learnt
from supervisor.core import measure
from supervisor.core.facts import StabilityLimits
from supervisor.core.readings import GpuReadings, Readings
from supervisor.core.recovery import Exit, RecoveryLimits, deaths_per_h, judge
from supervisor.core.replay import replay
from supervisor.core.seen import Machine
from supervisor.host.home import Home
from supervisor.journal import parse
from testkit.builders import HOUR_S, a_heartbeat, a_run, a_time, an_observation
from testkit.fakes import FakeClock, FakeHost, FakeRunner, FakeSensors, Plan
from testkit.place import a_daemon
from trainers.contract import Mark

LEARNS_S = Plan().learns_s
STEP_S = 1 / Plan().steps_per_s
FIRST_STEP_S = LEARNS_S + STEP_S
"""from the start of a trainer to its first step"""
PARTS = {"kernel": "6.1", "driver": None}
SETTINGS = """\
modes_dir = "modes"
[campaign]
trainer = "drill"
runs = ["a", "b", "c", "d"]
target = { steps = 1000000 }
"""


class Bench:
    """A home, a machine, and its daemon, led by hand."""

    def __init__(self, folder):
        self.clock = FakeClock("12:00")
        self.specs = []
        self.plans = {}
        """run name: how its next life goes"""
        self.host = FakeHost(self.clock, self._plan)
        self.sensors = FakeSensors()
        self.parts = PARTS
        self.home = Home(folder)
        self.home.make()
        self.settings("")
        self.config = Config(self.home.settings)

    def _plan(self, spec):
        self.specs.append(spec)
        return self.plans.pop(spec.name, Plan())

    def settings(self, more, *, light=1, medium=2):
        """Write the settings, with a ladder of so many slots each."""
        folder = self.home.path / "modes"
        folder.mkdir(exist_ok=True)
        for rung, (name, slots) in enumerate((("light", light), ("medium", medium))):
            text = f"rung = {rung}\nslots = {slots}\n"
            (folder / f"{name}.toml").write_text(text)
        self.home.settings.write_text(SETTINGS + more)

    def begin(self):
        """A daemon comes to life and takes its first look."""
        self.daemon = a_daemon(
            self.home,
            self.clock,
            FakeRunner(self.host),
            config=self.config,
            sensors=self.sensors,
            machine=Machine(cores=4, parts=self.parts),
        )
        self.daemon.start()
        self.daemon.tick("start")
        return self

    def look(self, after_s=0.0):
        """Let time pass, and have the daemon look once."""
        self.clock.advance(after_s)
        self.daemon.tick("time")
        return self

    def crash(self, after_s=0.0, *, off_s=60.0, up_s=10.0):
        """The machine goes down unseen; it is up again, and no supervisor is."""
        self.clock.advance(after_s)
        self.host.power_off()
        self.clock.reboot(off_s=off_s, up_s=up_s)
        return self

    def ask(self, kind):
        """A person asks, and the daemon answers."""
        Inbox(self.home.inbox).put(kind, by="ada", at=self.clock.read().wall)
        return self.look()

    def change(self, **fields):
        """The memory was another one when it was last saved."""
        memory = msgspec.structs.replace(self.daemon.memory, **fields)
        Store(self.home.state).save(memory)
        return self

    @property
    def memory(self):
        return self.daemon.memory

    def lines(self, event):
        """What the decision log has of that kind."""
        log = parse(self.home.decisions.read_bytes().splitlines())
        return [line for line in log if line["event"] == event]

    def mode(self, name="medium"):
        return self.memory.ledger.modes.get(name, ModeLedger())

    def kept(self, mode="light"):
        """What has been kept in that mode, booked or not."""
        booked = self.mode(mode).work
        fresh = self.memory.stretch.work.get(mode, {})
        return {
            kind.removeprefix("drill/"): booked.get(kind, Kept()).steps
            + fresh.get(kind, Kept()).steps
            for kind in booked.keys() | fresh.keys()
        }


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "home")


@pytest.fixture
def medium(bench):
    """A bench whose daemon has been in medium for half a minute, with both slots training."""
    bench.begin().ask("scale_up")
    bench.look(6.0)  # light has left
    return bench.look(24.0)


# Exposure


def test_a_mode_has_run_until_the_last_word_of_its_trainers(bench):
    """A machine that dies in minute 4 after a look has run for these 4 minutes, too."""
    bench.begin().look(HOUR_S / 2)
    bench.crash(240.0, off_s=600.0).begin()
    assert bench.memory.visit.running_s == pytest.approx(HOUR_S / 2 + 240)
    assert bench.mode("light").hours == pytest.approx((HOUR_S / 2 + 240) / 3600, rel=2e-2)
    assert bench.memory.boots[0].trained_s == pytest.approx(HOUR_S / 2 + 240)
    # What was booked as running is not booked as the gap between the boots once more.
    assert bench.memory.timeline.now_s == pytest.approx(HOUR_S / 2 + 240 + 600 + 10)


def test_a_trainer_that_hung_has_told_until_when_the_machine_surely_lived(bench):
    """Only a step that moves is a sign of life: what a dead word leaves open is not booked."""
    bench.plans["a"] = Plan(hangs_s=100.0)
    bench.begin().look(30.0)
    bench.crash(240.0).begin()
    assert bench.memory.visit.running_s == pytest.approx(100.0)


def test_the_word_of_a_stranger_is_no_sign_of_life(bench):
    """A heartbeat that another process has left behind says nothing about this machine."""
    bench.begin().look(300.0)  # so long that it is saved, though nothing happens
    bench.clock.advance(240.0)
    bench.host.power_off()
    folder = bench.host.folders["drill-a"]
    folder.heartbeat = msgspec.structs.replace(folder.heartbeat, pid=1)
    bench.clock.reboot()
    bench.begin()
    assert bench.memory.visit.running_s == pytest.approx(300.0)


def test_trainers_that_lived_on_without_a_supervisor_have_run(bench):
    """A daemon that was away for ten minutes finds ten minutes of running time."""
    bench.begin().look(30.0)
    bench.clock.advance(600.0)
    bench.begin()
    assert bench.memory.visit.running_s == pytest.approx(630.0)
    assert bench.lines("run.adopted")


def test_time_in_which_nobody_saw_a_trainer_live_is_not_running_time(bench):
    """The trainer died while no supervisor was there: it ran until its last word."""
    bench.plans["a"] = Plan(ends_s=100.0)
    bench.begin().look(30.0)
    bench.clock.advance(600.0)
    bench.begin()
    assert bench.memory.visit.running_s == pytest.approx(100.0)


# Work


def test_what_a_checkpoint_holds_is_kept_work_from_the_first_step_on(bench):
    """The first checkpoints of the first run count, though nobody looked before them."""
    bench.begin().look(300.0)
    assert bench.kept() == {"a": int((270 - LEARNS_S) / STEP_S)}


def test_the_work_of_a_trainer_that_died_between_two_looks_is_kept(bench):
    """Its last checkpoint lies on the disk, and so does its last word."""
    bench.plans["a"] = Plan(ends_s=200.0)
    bench.begin().look(300.0)
    assert bench.lines("run.died")
    assert bench.kept() == {"a": int((180 - LEARNS_S) / STEP_S)}


def test_what_is_saved_on_leaving_a_mode_is_kept_in_that_mode(bench):
    """A climb costs light none of its work: its last checkpoint comes after the decision."""
    bench.begin().look(300.0).ask("scale_up")
    bench.look(6.0)
    assert bench.kept("light") == {"a": int((305 - LEARNS_S) / STEP_S)}
    assert bench.kept("medium") == {}


def test_a_mode_that_is_not_full_tells_nothing_of_its_speed(bench):
    """With one run for two slots medium is booked with time, and not with work."""
    bench.settings("", medium=5)
    bench.config.refresh()
    bench.begin().look(300.0).ask("scale_up").look(6.0).look(1000.0).ask("scale_down").look(6.0)
    assert bench.mode().hours > 0
    assert bench.kept("medium") == {}
    bench.look(300.0)
    assert bench.kept("medium") == {}
    assert bench.kept("light")["a"] > int((305 - LEARNS_S) / STEP_S)


# The price of a crash


def test_a_crash_costs_the_time_until_the_next_step_and_the_work_that_was_lost(bench):
    """The price is known at the first step, however late somebody looks."""
    prices = []
    for wait_s in (FIRST_STEP_S, 600.0):
        bench.begin().look(300.0).crash(20.0, off_s=290.0).begin()
        assert bench.memory.outage is not None
        bench.look(wait_s)
        assert bench.memory.outage is None
        prices.append(bench.lines("crash.priced")[-1])
        bench.look(50.0)
    for line in prices:
        assert line["evidence"]["down_s"] == pytest.approx(290 + 10 + FIRST_STEP_S, abs=0.01)
        assert line["bookings"][0]["cost_s"] == pytest.approx(
            line["evidence"]["down_s"] + line["evidence"]["lost_s"], abs=0.01
        )
    assert prices[0]["evidence"]["lost_s"] == pytest.approx(320 - 270)
    assert prices[0]["reason"] == "the crash cost 6 min: 5 min down, 50 s of work"
    assert len(bench.memory.ledger.costs_s) == 2


def test_the_first_of_the_trainers_to_step_ends_the_outage(medium):
    """A second one that takes longer makes the crash no dearer."""
    medium.plans["b"] = Plan(learns_s=100.0)
    medium.crash().begin().look(200.0)
    (line,) = medium.lines("crash.priced")
    assert line["evidence"]["down_s"] == pytest.approx(60 + 10 + FIRST_STEP_S, abs=0.01)


def test_a_crash_before_any_step_closes_the_account_of_the_one_before(bench):
    """Two crashes in a row: the first has cost the time until the second, and lost the work."""
    bench.begin().look(300.0).crash(20.0, off_s=290.0).begin().look(5.0)
    bench.crash(off_s=100.0).begin()
    (booking,) = bench.lines("boot.recorded")[-1]["bookings"]
    assert booking["crashes"] == 1
    # The look 5 s later had nothing to save, and the trainer had said nothing yet: these seconds
    # are a part of the second outage, not of the first.
    assert booking["cost_s"] == pytest.approx(290 + 10 + 50)
    bench.look(FIRST_STEP_S)
    down_s = bench.lines("crash.priced")[-1]["evidence"]["down_s"]
    assert down_s == pytest.approx(5 + 100 + 10 + FIRST_STEP_S, abs=0.01)
    assert bench.lines("crash.priced")[-1]["evidence"]["lost_s"] == 0


def test_a_step_that_nobody_saw_before_the_next_crash_is_heard_of(bench):
    """The trainers had gone on before the second crash: the first one cost no more than that."""
    bench.begin().look(300.0).crash(20.0, off_s=290.0).begin()
    bench.crash(200.0).begin()
    (line,) = bench.lines("crash.priced")
    assert line["evidence"]["down_s"] == pytest.approx(290 + 10 + FIRST_STEP_S, abs=0.01)
    assert bench.memory.outage is not None


def test_a_crash_that_keeps_nothing_from_training_has_no_price(bench):
    """A person pauses right after it: how long it would have cost nobody can tell."""
    bench.begin().look(300.0).crash().begin().ask("pause")
    assert bench.memory.outage is None
    bench.ask("resume").look(100.0)
    assert bench.lines("crash.priced") == []
    assert bench.memory.ledger.costs_s == ()


def test_a_crash_after_the_last_run_has_no_price(bench):
    """Nothing was to train any more."""
    bench.settings("")
    bench.home.settings.write_text(SETTINGS.replace("1000000", "100"))
    bench.config.refresh()
    bench.begin()
    for _ in range(8):
        bench.look(30.0)
    assert bench.memory.resting
    bench.crash().begin()
    assert bench.memory.outage is None


def test_a_night_without_power_is_told_as_it_was_and_counted_as_two_hours(bench):
    """That a machine hung until the morning says nothing of the next crash."""
    bench.begin().look(300.0).crash(off_s=8 * HOUR_S).begin().look(FIRST_STEP_S)
    (line,) = bench.lines("crash.priced")
    assert line["reason"].startswith("the crash cost 8.0 h: 8.0 h down")
    assert line["reason"].endswith("; 2.0 h of it count")
    assert bench.memory.ledger.costs_s == (2 * HOUR_S,)


# Days without power


def test_a_crash_after_the_last_run_is_no_crash_of_its_mode(medium):
    """A machine that rests tells nothing about a load, in whatever mode it rests."""
    medium.home.settings.write_text(SETTINGS.replace("1000000", "10"))
    medium.look(10.0)
    for _ in range(4):
        medium.look(60.0)
    assert medium.lines("campaign.done")
    for _ in range(5):
        medium.crash(600.0).begin()
    assert medium.memory.goal.mode == "medium"
    assert medium.memory.visit.crashes_s == ()
    assert medium.mode().crashes == 0
    assert medium.memory.crashes_total == 5


def test_after_days_without_power_it_begins_low(medium):
    """Decided before any trainer starts in the mode from before."""
    medium.crash(off_s=30 * HOUR_S).begin()
    assert [line["rule"] for line in medium.lines("mode.changed")] == ["request", "absence"]
    assert [line["evidence"]["mode"] for line in medium.lines("run.started")][-1] == "light"


def test_a_machine_that_was_paused_for_days_begins_low_as_well(medium):
    """`resume` starts no trainer in a mode that is left at the next look."""
    medium.ask("pause").look(6.0)
    medium.crash(off_s=30 * HOUR_S).begin().look(60.0)
    started = len(medium.specs)
    medium.ask("resume").look(1.0)
    assert [spec.mode for spec in medium.specs[started:]] == ["light"]


def test_an_absence_is_over_once_something_has_trained(medium):
    """A mode that was pinned then has been known for hours when it is set free."""
    Inbox(medium.home.inbox).put("pin", mode="medium", by="ada", at=medium.clock.read().wall)
    medium.look().crash(off_s=30 * HOUR_S).begin()
    medium.look(HOUR_S).look(HOUR_S).ask("unpin").look(1.0)
    assert medium.memory.goal.mode == "medium"


# Deaths of trainers


def test_the_death_of_a_trainer_is_paid_by_the_mode(medium):
    """What it lost and its start, over the slots, at the price of a crash; in its own line."""
    medium.plans["a"] = Plan(ends_s=200.0)
    medium.plans["b"] = Plan()
    medium.crash().begin().look(FIRST_STEP_S)
    medium.look(200.0)
    (death,) = medium.lines("run.died")
    (booking,) = death["bookings"]
    price_h = learnt.price_h(medium.memory.ledger, StabilityLimits())
    lost_s = 200 - 180
    assert booking["spent"] == pytest.approx((lost_s + FIRST_STEP_S) / 3600 / 2 / price_h, rel=1e-2)
    assert "crashes" not in booking


def test_a_death_costs_one_crash_at_most(medium):
    """However much a trainer has lost."""
    medium.settings("crash_price_min = 0.1\n")
    medium.home.settings.write_text(SETTINGS + "[policy]\ncrash_price_min = 0.1\n")
    medium.config.refresh()
    medium.plans["a"] = Plan(ends_s=85.0)
    medium.crash(up_s=1.0, off_s=0.0).begin().look(100.0)
    assert [line["bookings"][0]["spent"] for line in medium.lines("run.died")] == [1.0]


@pytest.mark.parametrize("signal", [1, 2, 9, 15])
def test_a_trainer_that_somebody_killed_costs_its_mode_nothing(medium, signal):
    """A signal from outside says nothing about the load."""
    medium.plans["a"] = Plan(ends_s=100.0, end=Exit(signal=signal))
    medium.crash().begin().look(150.0)
    (death,) = medium.lines("run.died")
    assert "bookings" not in death


@pytest.mark.parametrize(
    "end", [Exit(code=1), Exit(signal=11), Exit(signal=9, oom_kill=True)], ids=str
)
def test_what_dies_in_the_lowest_mode_is_no_fault_of_a_mode(bench, end):
    """A run that has died in light costs medium nothing either, until a life of it has lasted."""
    bench.plans["a"] = Plan(ends_s=50.0, end=end)
    bench.begin().look(60.0)
    (death,) = bench.lines("run.died")
    assert "bookings" not in death
    assert bench.memory.runs[0].faults.dies_everywhere
    bench.plans["a"] = Plan(ends_s=50.0, end=end)
    bench.ask("scale_up").look(6.0)
    bench.look(1.0).look(60.0)
    assert len(bench.lines("run.died")) == 2
    assert "bookings" not in bench.lines("run.died")[-1]
    assert bench.memory.goal.mode == "medium"
    bench.look(1.0)
    bench.look(700.0)
    assert not bench.memory.runs[0].faults.dies_everywhere


def test_a_mode_that_does_not_fit_is_left_in_the_same_look(medium):
    """Out of memory right after the climb: medium falls back before a trainer starts again."""
    medium.plans["a"] = Plan(ends_s=100.0, end=Exit(signal=9, oom_kill=True))
    medium.crash().begin().look(150.0)
    assert medium.memory.goal.mode == "light"
    fallback = medium.lines("mode.changed")[-1]
    assert (fallback["rule"], fallback["old"]) == ("out_of_memory", "medium")
    assert medium.lines("run.started")[-1]["seq"] < fallback["seq"]


def test_out_of_memory_long_after_the_climb_is_a_death_like_any_other(medium):
    """What has fitted for an hour fits."""
    medium.look(HOUR_S / 2)
    medium.plans["a"] = Plan(ends_s=100.0, end=Exit(signal=9, oom_kill=True))
    medium.crash().begin().look(150.0)
    assert medium.memory.goal.mode == "medium"
    assert medium.lines("run.died")[-1]["bookings"]


# The machine


CAUTIOUS = Ledger(modes={"medium": ModeLedger(level=3)})


def cautious(bench):
    """A bench that has bad memories of medium, and knows its machine."""
    bench.begin().look(10.0)
    ledger = msgspec.structs.replace(CAUTIOUS, fingerprint=bench.memory.ledger.fingerprint)
    return bench.change(ledger=ledger, cool_downs={"medium": 1e6})


def test_the_machine_of_the_first_day_is_noted_in_silence(bench):
    """Nothing was known before, so nothing has changed."""
    bench.begin()
    assert bench.memory.ledger.fingerprint["kernel"] == "6.1"
    assert "1 runs" in bench.memory.ledger.fingerprint["mode light"]
    assert bench.lines("machine.changed") == []


def test_what_failed_on_another_machine_is_tried_afresh(bench):
    """A new kernel may have mended the world: the caution is gone, and one line says why."""
    cautious(bench)
    bench.parts = {**PARTS, "kernel": "6.8"}
    bench.begin()
    (line,) = bench.lines("machine.changed")
    assert line["evidence"] == {"kernel": "6.1 -> 6.8"}
    assert line["reason"].startswith("kernel: 6.1 -> 6.8")
    assert line["bookings"][0]["fingerprint"]["kernel"] == "6.8"
    assert bench.mode().level == 0
    assert bench.memory.cool_downs == {}
    bench.begin().look(10.0)
    assert len(bench.lines("machine.changed")) == 1


def test_the_guides_rule_waits_on_another_machine_as_well(bench):
    """`fixed` goes by the clock alone: its cool-down lasts, whatever has changed."""
    bench.settings('[policy]\nname = "fixed"\n')
    bench.config.refresh()
    cautious(bench)
    bench.parts = {**PARTS, "kernel": "6.8"}
    bench.begin()
    assert len(bench.lines("machine.changed")) == 1
    assert bench.memory.cool_downs == {"medium": 1e6}


def test_runs_of_a_mode_that_is_another_now_start_again(bench):
    """They carry its old load: they save, leave, and go on under the new one; once."""
    bench.begin().look(10.0)
    for change, starts in (({"medium": 3}, ["a"]), ({"light": 2}, ["a", "a", "b"])):
        bench.settings("", **change)
        bench.config.refresh()
        for _ in range(4):
            bench.look(6.0)
        assert sorted(spec.name for spec in bench.specs) == starts
    assert len(bench.lines("run.stopped")) == 1
    assert bench.lines("run.died") == []


def test_what_cannot_be_told_has_not_changed(bench):
    """A kernel that is unknown for once, or a driver that is known at last, changes nothing."""
    cautious(bench)
    bench.parts = {"kernel": None, "driver": "535"}
    bench.begin()
    assert bench.lines("machine.changed") == []
    assert bench.mode().level == 3
    assert bench.memory.ledger.fingerprint["kernel"] == "6.1"
    assert bench.memory.ledger.fingerprint["driver"] == "535"
    assert bench.memory.cool_downs == {"medium": 1e6}


def a_gpu(index=0, name="A100", **fields):
    return GpuReadings(index=index, name=name, **fields)


def test_a_gpu_that_is_gone_for_once_is_no_other_machine(bench):
    """Cards in trouble vanish and come back; another model is another machine."""
    bench.sensors.readings = Readings(gpus=(a_gpu(), a_gpu(1)))
    bench.begin()
    for gpus in ((), (a_gpu(),), (a_gpu(name=None), a_gpu(1)), (a_gpu(), a_gpu(1))):
        bench.sensors.readings = Readings(gpus=gpus)
        bench.look(10.0)
    assert bench.lines("machine.changed") == []
    bench.sensors.readings = Readings(gpus=(a_gpu(name="H100"),))
    bench.look(10.0)
    assert bench.lines("machine.changed")[-1]["evidence"] == {"gpus": "A100 -> H100"}


def test_a_mode_that_is_defined_anew_is_another_machine(bench):
    """What failed with four slots may work with two: the settings say so while it runs."""
    bench.begin().look(10.0)
    bench.settings("", medium=3)
    bench.look(10.0)
    (line,) = bench.lines("machine.changed")
    assert list(line["evidence"]) == ["mode medium"]


def test_how_fast_a_mode_was_says_nothing_of_another_of_its_name(bench):
    """A medium that was no faster, and is made larger, is measured as if it were new."""
    work = {"a": Kept(steps=10.0, hours=10.0)}
    known = ModeLedger(level=2, hours=5.0, work=work)
    bench.begin().look(10.0)
    ledger = msgspec.structs.replace(bench.memory.ledger, modes={"light": known, "medium": known})
    bench.change(ledger=ledger).begin()
    bench.settings("", medium=3)
    bench.look(1.0)
    assert (bench.mode().work, bench.mode().level) == ({}, 0)
    assert bench.mode().hours == pytest.approx(5.0, rel=1e-2)
    assert bench.mode("light").work["a"] == work["a"]


@pytest.mark.parametrize("program", ["msgspec", "transitions", "training_supervisor"])
def test_the_version_of_a_program_is_that_of_its_installation(program):
    """Read from the name of a folder, it is what the slower official way says."""
    assert installed(program) == metadata.version(program)


def test_a_program_that_is_not_installed_has_no_version():
    """And no driver of ours is called that."""
    assert installed("no_such_program") is None


# The ledger of another version


def test_a_ledger_of_another_version_is_begun_anew(bench):
    """The rules of the books have changed: nothing but the books is lost, and that is told."""
    cautious(bench)
    old = msgspec.structs.replace(CAUTIOUS, version=LEDGER_VERSION + 1)
    bench.change(ledger=old, crashes_total=7)
    bench.begin()
    (line,) = bench.lines("ledger.begun")
    assert f"version {LEDGER_VERSION + 1}" in line["reason"]
    assert bench.memory.ledger.version == LEDGER_VERSION
    assert bench.mode() == ModeLedger()
    assert bench.memory.crashes_total == 7
    assert bench.memory.runs[0].status == "running"


def written(bench, row):
    """Another program saves its memory, given as plain values."""
    tables = {"boots": row.pop("boots"), "runs": row.pop("runs"), "memory": [row]}
    AtomicStorage(bench.home.state).write(
        {name: {f"{at}": one for at, one in enumerate(rows, 1)} for name, rows in tables.items()}
    )


def test_a_ledger_that_cannot_be_read_is_begun_anew(bench):
    """Another version may have kept it in another form."""
    bench.begin().look(10.0)
    row = msgspec.to_builtins(bench.memory)
    row["ledger"] = {"version": 99, "modes": ["medium"], "costs_s": "many"}
    row["outage"] = 17
    written(bench, row)
    bench.begin()
    assert bench.lines("ledger.begun")
    assert bench.lines("state.damaged") == []
    assert bench.memory.boots_total == 1
    assert bench.memory.runs[0].status == "running"


def test_a_program_without_a_ledger_in_between_is_told_by_the_log(bench):
    """An older version was installed for a while: it has dropped the books without a word."""
    bench.begin().look(10.0).crash(60.0).begin().look(60.0).ask("pause").look(6.0)
    row = msgspec.to_builtins(bench.memory)
    for part in ("ledger", "stretch", "outage", "bookings"):
        del row[part]
    written(bench, row)
    bench.begin().ask("resume")
    assert len(bench.lines("ledger.begun")) == 1
    replayed = replay(parse(bench.home.decisions.read_bytes().splitlines()))
    assert (replayed.differences, replayed.ledgers) == (0, 2)


def test_a_state_that_is_older_than_the_log_says_so(bench):
    """Somebody has removed the state: the log goes on, and tells where its story breaks."""
    bench.begin().look(10.0)
    for path in bench.home.path.glob("state*"):
        path.unlink()
    told = bench.memory.decisions
    bench.begin()
    (line,) = bench.lines("state.lagged")
    assert line["seq"] == told + 1
    assert f"{told} lines" in line["reason"]
    bench.begin()
    assert len(bench.lines("state.lagged")) == 1


# Pressure


def test_a_vetoed_climb_is_told_once_for_each_reason(bench):
    """A full card keeps medium from being tried: one line, and another one when it comes back."""
    full = Readings(gpus=(a_gpu(memory_used_mib=95, memory_total_mib=100),))
    fuller = Readings(gpus=(a_gpu(memory_used_mib=96, memory_total_mib=100),))
    hot = Readings(gpus=(a_gpu(temperature_c=90.0, temperature_limit_c=92.0),))
    bench.sensors.readings = full
    bench.begin().look(HOUR_S + 60)
    (line,) = bench.lines("climb.vetoed")
    assert (line["rule"], line["decision"]["outcome"]) == ("pressure", "vetoed")
    bench.sensors.readings = fuller
    bench.look(300.0)
    assert len(bench.lines("climb.vetoed")) == 1
    bench.sensors.readings = hot
    bench.look(300.0).look(300.0)
    assert len(bench.lines("climb.vetoed")) == 2
    assert bench.memory.goal.mode == "light"
    bench.ask("pause").ask("resume").look(1.0)  # in between no climb was on the cards
    assert len(bench.lines("climb.vetoed")) == 3


def test_a_veto_is_not_told_anew_for_looks_that_come_before_the_answer(bench):
    """Each look asks the GPUs, and the look that their answer causes finds the veto as it was."""
    full = Readings(gpus=(a_gpu(memory_used_mib=95, memory_total_mib=100),))
    awaited = Readings(gpu_awaited_s=0.0)
    bench.sensors.readings = awaited
    bench.begin().look(HOUR_S + 60)
    assert (bench.memory.goal.mode, bench.lines("climb.vetoed")) == ("light", [])
    for _ in range(3):
        bench.sensors.readings = full
        bench.look(0.1)
        bench.sensors.readings = awaited
        bench.look(300.0)
    assert len(bench.lines("climb.vetoed")) == 1
    bench.sensors.readings = Readings(gpus=(a_gpu(memory_used_mib=5, memory_total_mib=100),))
    assert bench.look(0.1).memory.goal.mode == "medium"


def test_an_error_of_the_driver_vetoes_a_climb_for_an_hour(bench):
    """NVML tells an Xid once; the climb waits for an hour all the same."""
    bench.begin().look(HOUR_S - 100)
    bench.sensors.readings = Readings(gpus=(a_gpu(xids=(79,)),))
    bench.look(50.0)
    bench.sensors.readings = Readings(gpus=(a_gpu(xids=()),))
    bench.look(300.0)
    (line,) = bench.lines("climb.vetoed")
    assert "GPU 0 (Xid 79)" in line["reason"]
    bench.look(HOUR_S - 400)
    assert bench.memory.goal.mode == "light"
    assert bench.look(200.0).memory.goal.mode == "medium"


# Checkpoints


def test_checkpoints_are_as_far_apart_as_the_settings_say_until_a_write_is_known(bench):
    """The first trainers are asked for what is promised."""
    bench.begin()
    assert [spec.checkpoint_interval_s for spec in bench.specs] == [90.0]


def test_checkpoints_come_closer_when_crashes_do(medium):
    """Young's interval for what a write takes and how often medium crashes, never above 90 s."""
    soon = []
    for _ in range(2):
        medium.crash(100.0).begin()
        rate = learnt.rate(medium.mode()).mean_per_h
        best_s = math.sqrt(2 * Plan().writes_s * HOUR_S / rate)
        asked = [spec.checkpoint_interval_s for spec in medium.specs[-2:]]
        assert asked == [pytest.approx(best_s, rel=1e-2)] * 2
        soon.append(asked[0])
        medium.look(50.0)
    assert soon[1] < soon[0] < 90.0


@pytest.mark.parametrize(
    "end", [Exit(code=1), Exit(signal=9), Exit(signal=9, oom_kill=True), Exit(signal=11)], ids=str
)
def test_a_run_that_dies_often_saves_more_often_whoever_killed_it(bench, end):
    """Killed again and again on a calm machine: its own rate counts, and no other run's."""
    Inbox(bench.home.inbox).put("forbid", mode="medium", by="ada", at=bench.clock.read().wall)
    bench.begin().look(300.0)
    for _ in range(24):
        bench.look(HOUR_S)
    bench.ask("pause").look(6.0).ask("resume")
    for _ in range(60):
        bench.plans.setdefault("a", Plan(ends_s=300.0, end=end))
        bench.look(60.0)
    bench.ask("pause").look(6.0).ask("resume").look(60.0)
    for _ in range(60):
        bench.plans.setdefault("a", Plan(ends_s=300.0, end=end))
        bench.look(60.0)
    asked = [spec.checkpoint_interval_s for spec in bench.specs if spec.name == "a"]
    dies, calm, *_ = bench.memory.runs
    assert asked[1] == 90.0
    assert asked[-1] < 75.0
    assert (dies.faults.deaths_per_h > 0.5, calm.faults.deaths_per_h) == (True, 0.0)


def test_deaths_of_a_run_are_forgotten():
    """One counts for about a ninth an hour; a steady row comes to its rate; six hours halve it."""
    run = a_run(status="running", process=None)
    steady = run
    for minute in range(0, 4 * 24 * 60, 10):
        steady, _ = judge(
            steady.but(status="running", retry_s=None),
            an_observation(alive=False, signal=9),
            a_time(60.0 * minute),
            RecoveryLimits(),
        )
    now_s = steady.faults.deaths_s
    assert deaths_per_h(steady, now_s) == pytest.approx(6.0, rel=0.02)
    assert deaths_per_h(steady, now_s + 6 * HOUR_S) == pytest.approx(3.0, rel=0.02)
    assert deaths_per_h(run, now_s) == 0.0


def test_what_a_checkpoint_costs_is_what_training_stands_still_for():
    """6 ms, though the disk is at it for a second; the size is the trainer's own word."""
    said = a_heartbeat(
        checkpoint_write_s=1.0,
        checkpoints=100,
        checkpoint_stall_s=0.6,
        checkpoint_bytes=50_000_000,
    )
    runs = (a_run(), a_run("drill-b"), a_run("atari-c", trainer="atari"))
    costs = measure.savings(runs, {"drill-a": said})
    assert costs["drill"] == learnt.Saving(0.006, 1.0, 50_000_000)
    assert costs["atari"] == learnt.Saving(0.0, 0.0, measure.CHECKPOINT_BYTES)


def test_a_calm_machine_saves_as_seldom_as_it_may(bench):
    """A day without a crash: a trainer that starts then saves every 90 s."""
    bench.begin().ask("pause").look(6.0).ask("resume")
    for _ in range(24):
        bench.look(HOUR_S)
    started = len(bench.specs)
    bench.ask("pause").look(6.0).ask("resume")
    assert {spec.checkpoint_interval_s for spec in bench.specs[started:]} == {90.0}


def test_a_mark_of_the_work_survives_a_power_cut(bench):
    """What was booked before the power failed is not booked once more after it."""
    bench.begin().look(300.0)
    kept = bench.kept()
    assert bench.memory.runs[0].progress.booked == Mark(
        step=kept["a"], trained_s=kept["a"] * STEP_S
    )
    bench.crash().begin()
    assert bench.kept()["a"] == pytest.approx(kept["a"], rel=1e-3)
