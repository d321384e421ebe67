"""Where the time went, against machines whose every second is known."""

import itertools
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.goodput import PRESENT, SHARES, Line, Tally, lived, measure
from testkit.builders import a_heartbeat, a_process, a_run, a_time
from trainers.contract import Mark

STEPS_PER_S = 10
START_S = 3.0


class Trainer:
    """One life: it starts for a while, makes its first step, and trains on."""

    def __init__(self, step, trained_s, at_s):
        self.began = self.here = Mark(step=step, trained_s=trained_s)
        self.saved = self.began if step else None
        self.started_s, self.starts_s = at_s, START_S
        self.stepping_at_s, self.progress_at_s = None, at_s
        self.checkpoints, self.stall_s = 0, 0.0

    def train(self, seconds, now_s):
        self.here = Mark(
            step=self.here.step + int(seconds * STEPS_PER_S),
            trained_s=self.here.trained_s + seconds,
        )
        self.progress_at_s = now_s


class World:
    """A machine, its trainers, the log about them, and the truth about every second."""

    def __init__(self, *runs):
        self.now_s, self.boot = 0.0, 1
        self.forgotten_s = 0.0
        """where the timeline began anew"""
        self.lines = []
        self.trainers = dict.fromkeys(runs)
        self.places = dict.fromkeys(runs, ((0, 0.0),))
        self.wanted = set()
        self.truth = {run: dict.fromkeys(SHARES, 0.0) for run in runs}
        self.write("supervisor.started", evidence={"down_s": 0.0})
        self.want(*runs)

    def write(self, event, run=None, **fields):
        named = {"run": run} if run else {}
        placed = {"now_s": self.now_s - self.forgotten_s, "boot": f"boot-{self.boot}"}
        self.lines.append({"event": event, **placed, **named, **fields})

    def want(self, *runs, rule="queue"):
        self.wanted = set(runs)
        self.write("slots.assigned", rule=rule, runs=list(runs))

    def living(self):
        return [run for run, trainer in self.trainers.items() if trainer]

    def start(self, run):
        self.trainers[run] = Trainer(*self.places[run][-1], self.now_s)
        self.write("run.started", run)

    def evidence(self, run, *, heartbeat=True, died_in=None):
        trainer = self.trainers[run]
        beat = a_heartbeat(
            began=trainer.began,
            reached=trainer.here,
            saved=trainer.saved,
            stepping_at_s=trainer.stepping_at_s,
            progress_at_s=trainer.progress_at_s,
            checkpoints=trainer.checkpoints,
            checkpoint_stall_s=trainer.stall_s,
        )
        believed = a_run(
            run,
            process=a_process(boot_id=died_in or f"boot-{self.boot}"),
            started_s=trainer.started_s,
            started_monotonic_s=trainer.started_s,
        )
        now = a_time(self.now_s, boot_id=f"boot-{self.boot}")
        return lived(believed, beat if heartbeat else None, now)

    def end(self, run, event, rule="", **how):
        """The line of an end, and what its newest checkpoint leaves of it."""
        self.write(event, run, rule=rule, evidence=self.evidence(run, **how))
        trainer, self.trainers[run] = self.trainers[run], None
        kept_s = trainer.saved.trained_s if trainer.saved else 0.0
        self.truth[run]["lost"] += trainer.here.trained_s - kept_s
        self.truth[run]["kept"] -= trainer.here.trained_s - kept_s

    def advance(self, seconds, *, vacant="waiting", silent=None):
        """Time passes; `silent` says of whom nothing is heard meanwhile, and why."""
        silent = silent or {}
        self.now_s += seconds
        for run, trainer in self.trainers.items():
            left_s, truth = seconds, self.truth[run]
            if trainer is None:
                truth[vacant] += seconds if run in self.wanted else 0.0
                continue
            if run in silent:
                truth[silent[run]] += seconds
                continue
            if trainer.starts_s:
                part_s = min(left_s, trainer.starts_s)
                trainer.starts_s -= part_s
                left_s -= part_s
                truth["start"] += part_s
                if not trainer.starts_s:
                    trainer.stepping_at_s = self.now_s - left_s
                    trainer.train(0.0, trainer.stepping_at_s)
                    trainer.here = Mark(
                        step=trainer.here.step + 1, trained_s=trainer.here.trained_s
                    )
            if left_s:
                truth["kept"] += left_s
                trainer.train(left_s, self.now_s)

    def save(self, run, stall_s=0.5):
        self.advance(stall_s, silent={run: "stall"})
        trainer = self.trainers[run]
        trainer.checkpoints += 1
        trainer.stall_s += stall_s
        trainer.saved = trainer.here
        self.places[run] = (*self.places[run], (trainer.here.step, trainer.here.trained_s))

    def die(self, run, unheard_s=0.5):
        self.advance(unheard_s, silent={run: "lost"})
        self.end(run, "run.died", "killed")

    def hang(self, run, silent_s=30.0):
        self.advance(silent_s, silent={run: "hung"})
        self.write("run.hung", run, evidence={"silent_s": silent_s})
        self.end(run, "run.died", "hung")

    def leave(self, run, stop_s=1.0):
        self.advance(stop_s, silent={run: "stop"})
        self.end(run, "run.stopped", "asked")

    def crash(self, down_s=60.0, **how):
        """The machine goes down and comes back."""
        down = dict.fromkeys(self.living(), "machine_down")
        self.advance(down_s, vacant="machine_down", silent=down)
        before, self.boot = f"boot-{self.boot}", self.boot + 1
        self.write("boot.recorded", evidence={"crash": True})
        self.write("supervisor.started", evidence={"down_s": down_s})
        for run in self.living():
            self.end(run, "run.lost", "boot", died_in=before, **how)

    def desert(self, run, away_s=20.0):
        """The supervisor dies, then this trainer, and a new supervisor comes."""
        self.advance(away_s, vacant="supervisor_down", silent={run: "supervisor_down"})
        self.write("supervisor.started", evidence={"down_s": away_s})
        self.end(run, "run.died", "vanished")

    def lines_now(self):
        """What `supervisor goodput` reads at this moment."""
        lines = [*self.lines, {"event": PRESENT, "now_s": self.now_s, "boot": f"boot-{self.boot}"}]
        lines += [
            {**lines[-1], "run": run, "rule": "alive", "evidence": self.evidence(run)}
            for run in self.living()
        ]
        return lines

    def measured(self):
        return measure(self.lines_now())

    def shares_of(self, run):
        """The truth about the time of this run, up to now."""
        truth, trainer = dict(self.truth[run]), self.trainers[run]
        if trainer:
            saved = trainer.saved or trainer.began
            truth["unsaved"] = trainer.here.trained_s - saved.trained_s
            truth["kept"] -= truth["unsaved"]
        return truth


@pytest.fixture
def world():
    return World("drill-a")


def only(measured):
    (run,) = measured.runs
    return run


DEEDS = ("start", "save", "die", "hang", "leave", "crash", "desert", "advance")


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from("ab"), st.integers(1, 40))))
def test_every_second_is_told_as_it_was(deeds):
    """Whatever happens to two runs, each second goes where it went, and the shares add up to 1."""
    world = World("a", "b")
    for deed, run, seconds in deeds:
        trainer = world.trainers[run]
        if deed == "advance":
            world.advance(seconds / 2)
        elif deed == "crash":
            world.crash(float(seconds))
        elif deed == "start":
            if not trainer:
                world.start(run)
        elif trainer and trainer.stepping_at_s is not None:
            getattr(world, deed)(run, seconds / 2)
    measured = world.measured()
    for run in measured.runs:
        assert run.spent_s == pytest.approx(world.shares_of(run.run), abs=0.1)
        assert run.demanded_s == pytest.approx(world.now_s, abs=0.1)
    assert sum(measured.spent_s.values()) == pytest.approx(measured.demanded_s)
    assert measured.goodput is None or 0 <= measured.goodput <= 1
    assert all(spent_s >= -1e-6 for spent_s in measured.spent_s.values())
    assert measured.span_s == pytest.approx(world.now_s)


@given(
    st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(1, 40)), max_size=30),
    st.data(),
)
def test_a_log_that_begins_anywhere_and_has_gaps_gives_bounded_figures(deeds, data):
    """Rotated away, torn out or written twice: figures stay figures of the time that is told."""
    world = World("a")
    for deed, seconds in deeds:
        trainer = world.trainers["a"]
        if deed in ("advance", "crash"):
            getattr(world, deed)(float(seconds))
        elif deed == "start" and not trainer:
            world.start("a")
        elif deed != "start" and trainer and trainer.stepping_at_s is not None:
            getattr(world, deed)("a", seconds / 2)
    whole = world.lines_now()
    kept = data.draw(st.lists(st.sampled_from(range(len(whole))), max_size=40))
    lines = [whole[place] for place in sorted(kept)]
    measured = measure(lines)
    span_s = lines[-1]["now_s"] - lines[0]["now_s"] if lines else 0.0
    assert measured.goodput is None or 0 <= measured.goodput <= 1
    assert all(spent_s >= -1e-6 for spent_s in measured.spent_s.values())
    assert measured.demanded_s <= span_s + 1e-6
    assert measured.steps_kept >= 0
    assert measured.steps_lost >= 0


@given(
    st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(1, 40)), max_size=20),
    st.integers(0, 40),
)
def test_a_tally_goes_on_after_it_has_told(deeds, place):
    """Asked in the middle of a log, it says what that part comes to, and ends with the whole."""
    world = World("a")
    for deed, seconds in deeds:
        trainer = world.trainers["a"]
        if deed in ("advance", "crash"):
            getattr(world, deed)(float(seconds))
        elif deed == "start" and not trainer:
            world.start("a")
        elif deed != "start" and trainer and trainer.stepping_at_s is not None:
            getattr(world, deed)("a", seconds / 2)
    whole = world.lines_now()
    lines = [msgspec.convert(line, Line) for line in whole]
    tally = Tally()
    for line in lines[:place]:
        tally.read(line)
    assert tally.told() == measure(whole[:place])
    assert tally.told(lines[place:]) == measure(whole)
    for line in lines[place:]:
        tally.read(line)
    assert tally.told() == measure(whole)


def test_training_of_which_the_start_is_missing_does_not_count(world):
    """The steps of a life without a beginning survive, and their time is not in the account."""
    for _ in range(3):
        world.start("drill-a")
        world.advance(START_S + 100.0)
        if len(world.lines) < 6:
            world.save("drill-a", 0.0)
            world.die("drill-a", unheard_s=0.0)
    lines = world.lines_now()
    started = [line for line in lines if line["event"] == "run.started"]
    lines.remove(started[1])
    run = only(measure(lines))
    assert (run.spent_s["kept"], run.spent_s["unsaved"]) == pytest.approx((100.0, 100.0))
    assert run.spent_s["lost"] == pytest.approx(0.0)


def test_an_uninterrupted_run_approaches_1(world):
    """The longer it trains undisturbed, the less its start and its stalls weigh."""
    world.start("drill-a")
    goodputs = []
    for _ in range(4):
        for _ in range(100):
            world.advance(90.0)
            world.save("drill-a", 0.05)
        goodputs.append(world.measured().goodput)
    assert goodputs == sorted(goodputs)
    assert goodputs[-1] == pytest.approx(1, abs=1e-3)


def test_a_kill_right_after_a_checkpoint_loses_nothing(world):
    """What the checkpoint holds survives the trainer."""
    world.start("drill-a")
    world.advance(90.0)
    world.save("drill-a")
    world.die("drill-a", unheard_s=0.0)
    run = only(world.measured())
    assert (run.steps_lost, run.deaths) == (0, 1)
    assert run.spent_s["lost"] == pytest.approx(0)
    assert run.steps_kept == (90.0 - START_S) * STEPS_PER_S + 1


def test_a_kill_right_before_a_checkpoint_loses_all_since_the_last(world):
    """The steps between the newest checkpoint and the death are repeated."""
    world.start("drill-a")
    world.advance(START_S)
    world.save("drill-a")
    world.advance(90.0)
    world.die("drill-a", unheard_s=0.0)
    run = only(world.measured())
    assert run.steps_lost == 90 * STEPS_PER_S
    assert run.spent_s["lost"] == pytest.approx(90)


def test_what_an_older_checkpoint_had_to_replace_is_lost_after_all(world):
    """A step counts only as long as later lives go on from it."""
    world.start("drill-a")
    for _ in range(2):
        world.advance(50.0)
        world.save("drill-a")
    world.die("drill-a")
    assert only(world.measured()).steps_lost == 0
    world.places["drill-a"] = world.places["drill-a"][:-1]  # the newest one was damaged
    world.start("drill-a")
    world.advance(START_S)
    run = only(world.measured())
    assert run.steps_lost == 50 * STEPS_PER_S
    assert run.spent_s["lost"] == pytest.approx(50 + 0.5)


def test_a_heartbeat_that_the_power_cut_took_costs_no_figure_of_what_survived(world):
    """Where the next life begins tells what the last one saved; the rest of it is unknown."""
    world.start("drill-a")
    world.advance(13.0)
    world.save("drill-a", 0.0)
    world.die("drill-a", unheard_s=0.0)
    world.start("drill-a")
    world.advance(100.0)
    world.save("drill-a", 0.0)
    world.advance(10.0)
    world.crash(60.0, heartbeat=False)
    run = only(world.measured())
    assert (run.spent_s["kept"], run.spent_s["unknown"]) == pytest.approx((10.0, 170.0))
    world.start("drill-a")
    world.advance(START_S)
    run = only(world.measured())
    assert (run.spent_s["kept"], run.spent_s["unknown"]) == pytest.approx((107.0, 73.0))
    assert run.steps_kept == 107 * STEPS_PER_S + 2


def test_several_power_cuts_in_a_row_leave_what_survived_them(world):
    """However many heartbeats are gone, the next one that is heard tells of all their training."""
    world.start("drill-a")
    world.advance(START_S)
    world.save("drill-a", 0.0)
    world.die("drill-a", unheard_s=0.0)
    for _ in range(3):
        world.start("drill-a")
        world.advance(START_S + 100.0)
        world.save("drill-a", 0.0)
        world.crash(10.0, heartbeat=False)
    world.start("drill-a")
    world.advance(START_S)
    run = only(world.measured())
    assert (run.spent_s["kept"], run.spent_s["unknown"]) == pytest.approx((300.0, 39.0))


def test_what_a_silent_life_saved_is_not_taken_from_what_the_one_before_lost(world):
    """Steps that were lost and made again were made twice."""
    world.start("drill-a")
    world.advance(START_S + 10.0)
    world.save("drill-a", 0.0)
    world.advance(10.0)
    world.die("drill-a", unheard_s=0.0)
    world.start("drill-a")
    world.advance(START_S + 5.0)
    world.save("drill-a", 0.0)
    world.crash(10.0, heartbeat=False)
    world.start("drill-a")
    world.advance(START_S)
    run = only(world.measured())
    assert (run.spent_s["kept"], run.spent_s["lost"]) == pytest.approx((15.0, 10.0))


def test_a_run_that_had_to_begin_from_nothing_has_lost_everything(world):
    """With all its checkpoints gone, only what was learnt since counts."""
    world.places["drill-a"] = ((1000, 100.0),)
    world.start("drill-a")
    world.advance(START_S + 50.0)
    world.save("drill-a", 0.0)
    world.die("drill-a", unheard_s=0.0)
    world.places["drill-a"] = ((0, 0.0),)
    world.start("drill-a")
    world.advance(START_S + 20.0)
    world.save("drill-a", 0.0)
    run = only(world.measured())
    assert (run.spent_s["kept"], run.spent_s["lost"]) == pytest.approx((20.0, 50.0))


def test_a_living_trainer_has_not_lost_what_it_is_at(world):
    """Since its last step it has worked at the next one, an update perhaps."""
    world.start("drill-a")
    world.advance(START_S + 10.0)
    world.advance(5.0, silent={"drill-a": "unsaved"})
    run = only(world.measured())
    assert (run.spent_s["unsaved"], run.spent_s["lost"]) == pytest.approx((15.0, 0.0))


def test_a_checkpoint_that_no_heartbeat_told_of_counts(world):
    """Killed between the checkpoint and the heartbeat about it: the next life knows."""
    world.start("drill-a")
    world.advance(53.0)
    world.save("drill-a")
    world.advance(10.0, silent={"drill-a": "kept"})
    world.die("drill-a", unheard_s=0.0)
    world.places["drill-a"] = ((50 * STEPS_PER_S + 1 + 100, 60.0),)
    world.start("drill-a")
    world.advance(START_S)
    run = only(world.measured())
    assert run.spent_s["kept"] == pytest.approx(60.0)
    assert (run.steps_kept, run.steps_lost) == (601, 0)


def test_a_pause_is_not_wanted_and_an_idle_machine_is(world):
    """A person's pause costs no goodput; a machine that cannot bear training does."""
    world.start("drill-a")
    world.advance(50.0)
    world.save("drill-a")
    before = world.measured()
    world.want(rule="pause")
    world.leave("drill-a")
    world.advance(3600.0)
    world.want("drill-a")
    paused = world.measured()
    assert paused.not_demanded_s["pause"] == 3600.0
    assert paused.demanded_s == before.demanded_s + 1.0
    world.write("goal.changed", decision={"goal": {"mode": "light", "idle_until_s": 9999.0}})
    world.advance(600.0)
    world.write("goal.changed", decision={"goal": {"mode": "light", "idle_until_s": None}})
    world.advance(5.0)
    idle = world.measured()
    assert idle.spent_s["idle"] == 600.0
    assert idle.spent_s["waiting"] == 5.0
    assert idle.demanded_s == paused.demanded_s + 605.0


def test_a_campaign_weighs_its_runs_by_the_time_that_they_were_wanted():
    """A slot that stood empty for long weighs more than one that worked for a moment."""
    world = World("a", "b")
    world.start("a")
    world.advance(100.0)
    world.save("a", 0.0)
    measured = world.measured()
    by_run = {run.run: run for run in measured.runs}
    assert by_run["a"].goodput == pytest.approx(0.97)
    assert (by_run["b"].goodput, by_run["b"].demanded_s) == (None, 100.0)
    assert measured.goodput == pytest.approx(0.97 / 2)


def test_time_in_which_the_machine_slept_is_unknown(world):
    """The step did not stand still for as long as the timeline went on: nobody trained then."""
    world.start("drill-a")
    world.advance(50.0)
    world.save("drill-a", 0.0)
    trainer = world.trainers["drill-a"]
    world.now_s += 8 * 3600.0  # the monotonic clock slept, too
    trainer.progress_at_s = world.now_s
    world.die("drill-a", unheard_s=0.5)
    run = only(world.measured())
    assert run.spent_s["unknown"] == pytest.approx(8 * 3600.0)
    assert run.spent_s["lost"] == pytest.approx(0.5)


def test_a_hang_that_ends_when_it_is_stopped_is_no_training(world):
    """Asked to stop, a frozen trainer may move on, and takes its hang for a long step."""
    world.start("drill-a")
    world.advance(13.0)
    world.save("drill-a", 0.0)
    world.advance(30.0, silent={"drill-a": "hung"})
    world.write("run.hung", "drill-a", evidence={"silent_s": 30.0})
    world.trainers["drill-a"].train(30.0, world.now_s)
    world.save("drill-a", 0.0)
    world.end("drill-a", "run.died", "hung")
    assert only(world.measured()).spent_s["hung"] == pytest.approx(30.0)
    assert only(world.measured()).spent_s["kept"] == pytest.approx(10.0)


def test_what_is_stopped_without_a_supervisor_is_not_wanted_until_the_next_start(world):
    """`supervisor stop` ends left-over trainers, too, and nobody blames the machine for it."""
    world.start("drill-a")
    world.advance(13.0)
    world.write("supervisor.stopped", rule="stop")
    world.trainers["drill-a"], world.wanted = None, set()
    world.advance(3600.0)
    world.write("supervisor.started", evidence={"down_s": 3600.0})
    world.start("drill-a")
    world.advance(START_S)
    measured = world.measured()
    assert (measured.not_demanded_s["stop"], measured.demanded_s) == (3600.0, 13.0 + START_S)


def test_a_hand_over_is_no_stop(world):
    """The trainers train on, and the next supervisor adopts them."""
    world.start("drill-a")
    world.advance(13.0)
    world.write("supervisor.stopped", rule="hand_over")
    world.advance(5.0)
    world.write("supervisor.started", evidence={"down_s": 5.0})
    world.write("run.adopted", "drill-a")
    assert only(world.measured()).spent_s["unsaved"] == pytest.approx(18.0 - START_S)


def test_a_reset_begins_the_timeline_anew_and_ends_no_life(world):
    """The trainers live on, and so does their account."""
    world.start("drill-a")
    world.advance(50.0)
    world.write("request.granted", rule="request")
    world.forgotten_s = world.now_s
    world.write("run.adopted", "drill-a", rule="alive")
    world.want("drill-a")
    world.advance(10.0)
    world.write("settings.changed")
    measured = measure(world.lines)
    assert (measured.attempts, measured.span_s, measured.demanded_s) == (1, 60.0, 60.0)


def test_lines_that_tell_of_no_timeline_count_for_nothing():
    """An older version wrote no place on the timeline: unknown is not 0."""
    measured = measure([{"event": "run.started", "run": "a"}, {}, {"now_s": "soon"}, {"event": 3}])
    assert (measured.goodput, measured.since, measured.demanded_s) == (None, None, 0)
    assert (measured.stop.mean_s, measured.start.mean_s, measured.detection.mean_s) == (None,) * 3


def test_an_old_heartbeat_makes_a_life_unknown():
    """A trainer that says nothing of its marks is believed nothing."""
    now = a_time(100.0)
    evidence = lived(a_run(process=a_process(), started_s=40.0), a_heartbeat(), now)
    assert evidence == {"lived_s": 60.0}


def test_detection_stop_and_start_are_told_where_they_are_known(world):
    """How long it took to notice, to leave and to start, for as many as there were."""
    world.start("drill-a")
    world.advance(10.0)
    world.hang("drill-a", 30.0)
    world.start("drill-a")
    world.advance(10.0)
    world.desert("drill-a", 20.0)
    measured = world.measured()
    assert (measured.detection.count, measured.detection.mean_s) == (2, 25.0)
    assert (measured.detection.max_s, measured.start.mean_s) == (30.0, START_S)
    assert (measured.start.count, measured.stop.count) == (2, 0)


def test_a_million_lines_need_the_memory_of_one():
    """The log is read as a stream."""
    world = World("a")
    for _ in range(20):
        world.start("a")
        world.advance(10.0)
        world.save("a")
        world.die("a")
    period_s = world.now_s
    many = (
        {**line, "now_s": line["now_s"] + again * period_s}
        for again in itertools.count()
        for line in world.lines[2:]
    )
    measure(itertools.islice(many, 1000))
    tracemalloc.start()
    measured = measure(itertools.islice(many, 40_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert measured.attempts == 20_000
    assert peak < 100_000
