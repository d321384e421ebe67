"""What every runner does, the one of real processes and the fake that the simulation trusts."""

import time

import pytest

from supervisor.core.recovery import Exit
from supervisor.host.cgroup import ControlGroup
from supervisor.host.clock import boot_id
from supervisor.runners import StartFailed, local
from supervisor.runners.local import LocalRunner
from testkit.builders import a_run, asked
from testkit.fakes import FakeClock, FakeHost, FakeRunner, Plan
from testkit.patience import until
from trainers.contract import Spec, Target

RUN = a_run()
FOR_EVER = 1_000_000


class RealPlace:
    """Real trainers that only count, below a temporary folder."""

    def __init__(self, folder, *, warm=False):
        self._folder = folder
        self._warm = warm
        self._runners = []

    def runner(self):
        """The runner of a daemon that has just begun."""
        runner = LocalRunner(self._folder, boot_id())
        self._runners.append(runner)
        if self._warm:
            self.until(lambda: warmed(runner, self.spec()))
        return runner

    def spec(self, *, steps=FOR_EVER, dies=False, workers=0, deaf=False):
        options = {"workers": workers, "worker_kind": "double_fork", "ignore_sigterm": deaf}
        if dies:
            options |= {"crash_at_step": 20, "exit_code": 3}
        return a_spec(steps, options)

    def no_more_starts(self):
        (self._folder / RUN.id).write_text("not a folder")

    def until(self, condition):
        """Wait until `condition` holds, and give what it returned."""
        return until(condition)

    def let_pass(self, seconds):
        """Real time goes by, for there are real processes that must do nothing in it."""
        until_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > until_s)

    def tidy(self):
        for runner in self._runners:
            runner.close()
        LocalRunner(self._folder, boot_id()).kill(RUN.id)


def warmed(runner, spec):
    """Keep a warm parent for such runs; whether it is ready."""
    assert not runner.keep_warm([spec], memory_max_mib=100)
    runner._warm.tend(calm=True)
    return runner._warm.is_ready(spec.trainer)


class FakePlace:
    """Fake trainers on a clock that is advanced while one waits."""

    def __init__(self):
        self._clock = FakeClock()
        self._host = FakeHost(self._clock, self._plan)
        self._next = Plan()

    def runner(self):
        return FakeRunner(self._host)

    def spec(self, *, steps=FOR_EVER, dies=False, workers=0, deaf=False):
        end = {"ends_s": 20.0, "end": Exit(code=3)} if dies else {}
        self._next = Plan(workers=workers, stops_s=float("inf") if deaf else 5.0, **end)
        return a_spec(steps, {})

    def no_more_starts(self):
        self._next = None

    def until(self, condition):
        for _ in range(1000):
            if answer := condition():
                return answer
            self._clock.advance(1.0)
        raise AssertionError("it never happened")

    def let_pass(self, seconds):
        self._clock.advance(seconds)

    def tidy(self):
        self._host.power_off()

    def _plan(self, spec):
        return self._next


def a_spec(steps, options):
    return Spec(
        run=RUN.id,
        trainer="drill",
        name=RUN.name,
        mode="light",
        threads=1,
        target=Target(unit="steps", count=steps),
        options=options,
    )


@pytest.fixture(params=["real", "warm", "fake"])
def place(request, tmp_path, monkeypatch):
    """A machine on which trainers live: started cold, forked by a warm parent, or pretended."""
    # Whoever else shares this machine may run out of memory meanwhile.
    monkeypatch.setattr(local, "_oom_kills", lambda: 0)
    monkeypatch.setattr(ControlGroup, "oom_kills", lambda _group: 0)
    real = RealPlace(tmp_path, warm=request.param == "warm")
    here = FakePlace() if request.param == "fake" else real
    yield here
    here.tidy()


@pytest.fixture
def runner(place):
    return place.runner()


def life(runner, run=RUN):
    return runner.look((run,))[run.id]


def beating(runner, run=RUN):
    """A condition: the run lives, and its heartbeat tells of progress."""

    def look():
        seen = life(runner, run)
        return seen.heartbeat is not None and seen.heartbeat.step > 0 and seen

    return look


def ended(runner, run=RUN):
    """A condition: the run's main process has ended; gives the look that told it."""

    def look():
        seen = life(runner, run)
        return seen.exit is not None and seen

    return look


def test_nothing_lives_before_it_is_started(runner):
    """A run that never started has no process, no exit, no heartbeat and nothing left over."""
    seen = life(runner)
    assert (seen.process, seen.exit, seen.heartbeat, seen.leftovers) == (None, None, None, 0)


def test_a_started_trainer_lives_and_speaks(place, runner):
    """What is started is seen at the next look, and its heartbeat carries its mode and pid."""
    process = runner.start(place.spec(), nice=0)
    assert life(runner).process == process
    seen = place.until(beating(runner))
    assert (seen.process, seen.leftovers) == (process, 0)
    assert (seen.heartbeat.mode, seen.heartbeat.pid) == ("light", process.pid)


def test_the_age_of_a_sign_of_life_is_told_of_what_trains_here(place, runner):
    """Of a run elsewhere nobody can tell: its heartbeat has the time of another machine."""
    runner.start(place.spec(), nice=0)
    assert place.until(beating(runner)).alive_s >= 0.0
    far = asked(RUN, place="moon")
    assert place.until(beating(runner, far)).alive_s is None
    assert life(runner, far).process is not None


def test_a_trainer_that_reaches_its_target_exits_with_0(place, runner):
    """The end is told once, with its code, and the last heartbeat stays."""
    runner.start(place.spec(steps=20), nice=0)
    seen = place.until(ended(runner))
    assert (seen.exit, seen.process) == (Exit(code=0), None)
    assert (seen.heartbeat.status, seen.heartbeat.step) == ("done", 20)
    assert life(runner).exit is None


def test_a_trainer_that_dies_tells_its_code(place, runner):
    """A code of its own comes through as it is."""
    runner.start(place.spec(dies=True), nice=0)
    assert place.until(ended(runner)).exit == Exit(code=3)


def test_a_stopped_trainer_saves_and_leaves(place, runner):
    """Asked twice it still leaves once, with 75 and its progress saved."""
    runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    runner.stop(RUN.id, dump=False)
    runner.stop(RUN.id, dump=True)
    seen = place.until(ended(runner))
    assert seen.exit == Exit(code=75)
    assert seen.heartbeat.status == "stopped"
    assert seen.heartbeat.checkpoint_step == seen.heartbeat.step > 0


def test_a_killed_trainer_is_gone_at_once(place, runner):
    """One that does not listen to a stop is ended by a kill."""
    runner.start(place.spec(deaf=True), nice=0)
    place.until(beating(runner))
    runner.stop(RUN.id, dump=False)
    runner.kill(RUN.id)
    assert place.until(ended(runner)).exit == Exit(signal=9)


def test_stopping_and_killing_nothing_is_harmless(runner):
    """Steps may be taken twice, and at a run of which nothing lives."""
    for _ in range(2):
        runner.stop(RUN.id, dump=True)
        runner.kill(RUN.id)
    assert life(runner).exit is None


def test_workers_of_a_dead_trainer_are_left_over_until_they_are_killed(place, runner):
    """What a dead trainer leaves behind is counted, and a kill ends all of it."""
    runner.start(place.spec(dies=True, workers=2), nice=0)
    seen = place.until(ended(runner))
    assert (seen.process, seen.leftovers >= 2) == (None, True)
    runner.kill(RUN.id)
    place.until(lambda: life(runner).leftovers == 0)


def test_a_new_daemon_adopts_the_trainer_on_record(place, runner):
    """A trainer outlives its daemon; the next one knows it, but never learns its exit code."""
    process = runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    recorded = a_run(status="running", process=process)
    other = place.runner()
    assert life(other, recorded).process == process
    other.stop(RUN.id, dump=False)
    assert place.until(ended(other, recorded)).exit == Exit()


def test_a_new_daemon_adopts_the_trainer_that_its_heartbeat_names(place, runner):
    """The power of the daemon failed between the start and its record: the heartbeat tells."""
    process = runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    assert life(place.runner()).process == process


def test_a_new_daemon_sees_what_belongs_to_no_run(place, runner):
    """Something lives of a run that is in no queue any more: it is seen, and can be killed."""
    runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    other = place.runner()
    assert other.look(())[RUN.id].process is not None
    other.kill(RUN.id)
    place.until(lambda: RUN.id not in other.look(()))


def test_a_run_that_leaves_the_queue_is_still_seen(place, runner):
    """The daemon that started a trainer keeps seeing it when nobody asks for it any more."""
    process = runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    assert runner.look(())[RUN.id].process == process


def test_a_failed_start_is_told_as_an_exit(place, runner):
    """It raises at once, and the next look tells it as the run's end, once."""
    spec = place.spec()
    place.no_more_starts()
    with pytest.raises(StartFailed):
        runner.start(spec, nice=0)
    seen = life(runner)
    assert seen.exit.start_error
    assert seen.process is None
    assert life(runner).exit is None


def test_a_new_life_does_not_speak_with_the_words_of_the_old(place, runner):
    """The heartbeat of an earlier life is gone when the next one starts."""
    runner.start(place.spec(steps=20), nice=0)
    place.until(ended(runner))
    runner.start(place.spec(), nice=0)
    heartbeat = life(runner).heartbeat
    assert heartbeat is None or heartbeat.status != "done"


def test_a_frozen_trainer_does_nothing_and_goes_on_where_it_was(place, runner):
    """Its whole tree stands still, any daemon sees that, and the time in it was no silence."""
    process = runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    for _ in range(2):
        runner.freeze(RUN.id)
    assert place.until(lambda: life(runner).frozen)
    before = life(runner)
    place.let_pass(2.0)
    seen, stood = life(runner), before.heartbeat.step
    assert (seen.process, seen.frozen, seen.heartbeat.step) == (process, True, stood)
    assert seen.alive_s == pytest.approx(before.alive_s)
    for _ in range(2):
        runner.thaw(RUN.id)
    assert not life(runner).frozen
    assert place.until(lambda: life(runner).heartbeat.step > stood)


def test_another_daemon_thaws_what_was_frozen(place, runner):
    """It finds the trainer still, and has it go on."""
    process = runner.start(place.spec(workers=2), nice=0)
    place.until(beating(runner))
    runner.freeze(RUN.id)
    recorded, other = a_run(status="running", process=process), place.runner()
    assert life(other, recorded).frozen
    stood = life(other, recorded).heartbeat.step
    other.thaw(RUN.id)
    assert place.until(lambda: life(other, recorded).heartbeat.step > stood)


def test_a_frozen_trainer_that_is_asked_to_stop_saves_and_leaves(place, runner):
    """It goes on for that, with all its workers."""
    runner.start(place.spec(workers=2), nice=0)
    place.until(beating(runner))
    runner.freeze(RUN.id)
    runner.stop(RUN.id, dump=False)
    seen = place.until(ended(runner))
    assert (seen.exit, seen.heartbeat.status) == (Exit(code=75), "stopped")


def test_a_frozen_trainer_can_be_killed(place, runner):
    runner.start(place.spec(), nice=0)
    place.until(beating(runner))
    runner.freeze(RUN.id)
    runner.kill(RUN.id)
    assert place.until(ended(runner)).exit == Exit(signal=9)


def test_freezing_and_thawing_nothing_is_harmless(runner):
    runner.freeze(RUN.id)
    runner.thaw(RUN.id)
    assert life(runner).process is None
