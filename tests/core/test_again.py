"""The campaign comes again: once for an instant, one generation after the other."""

import datetime as dt
import itertools

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from state.records import Generation, Generations
from state.store import Store
from supervisor.config import Config
from supervisor.core import again, history
from supervisor.core.campaign import Campaign
from supervisor.core.enrolment import watched
from supervisor.core.moments import Moment
from supervisor.core.reconcile import Start
from supervisor.core.recovery import Exit, Observation
from supervisor.core.seen import Machine, Remove, Removed, Rules, Seen, Started
from supervisor.core.settings import Settings
from supervisor.core.turn import turn
from supervisor.report import report
from testkit.builders import MIDNIGHT, a_heartbeat, a_ladder, a_process
from testkit.fakes import FakeRunner
from testkit.place import Place, a_job

DAY_S = 86_400.0
"""MIDNIGHT is that of a Monday"""
DAILY = """
[campaign]
runs = ["a", "b"]
trainer = "drill"
target = { steps = 50 }
again = "03:00"
"""
THREE = 3 * 3600.0


def a_place(tmp_path, text=DAILY):
    place = Place(tmp_path / "home", text)
    place.settle(20)
    return place


def until(place, hours):
    """Look all the while, until it is so late on the first day, and some more times."""
    while place.clock.read().wall < MIDNIGHT + hours * 3600:
        place.look(min(600.0, MIDNIGHT + hours * 3600 - place.clock.read().wall))
    place.settle(20)


def began(place):
    """The instants that generations were due at, as the log has them."""
    return [line["evidence"]["due"] for line in place.lines("generation.begun")]


def done(place):
    return [line["run"] for line in place.lines("run.done")]


def configure(place, text):
    place.home.settings.write_text(text)
    place.settle(20)


def test_a_generation_begins_at_its_instant_with_runs_of_its_own(tmp_path):
    """What the first one has learnt stays where it is; the second has folders of its own."""
    place = a_place(tmp_path)
    assert done(place) == ["drill-a", "drill-b"]
    until(place, 2.9)
    assert began(place) == []
    until(place, 3)
    assert began(place) == ["2026-01-05T03:00:00.000Z"]
    assert done(place)[2:] == ["drill-a-g2", "drill-b-g2"]
    assert place.host.folders.keys() >= {"drill-a", "drill-a-g2"}
    assert [line["evidence"]["generation"] for line in place.lines("campaign.done")] == [1, 2]


def test_without_a_calendar_nothing_of_it_is_remembered_or_told(tmp_path):
    """Who never asked for it has neither a field nor a line of it."""
    place = a_place(tmp_path, DAILY.replace('again = "03:00"', ""))
    assert place.daemon.memory.generations is None
    (end,) = place.lines("campaign.done")
    assert "generation" not in end["evidence"]


def test_a_machine_that_was_off_at_the_instant_has_one_generation_when_it_comes_back(tmp_path):
    """Nine nights without power are one missed instant, and the next one is the next night's."""
    place = a_place(tmp_path)
    place.host.power_off()
    place.clock.reboot(off_s=9.5 * DAY_S)
    place.begin()
    place.settle(20)
    assert len(began(place)) == 1
    assert place.daemon.memory.generations.next_at == MIDNIGHT + 10 * DAY_S + THREE


def test_a_clock_that_is_set_back_brings_no_instant_twice(tmp_path):
    """The night is lived again, and its instant is over."""
    place = a_place(tmp_path)
    until(place, 4)
    place.clock.set_wall(MIDNIGHT + 2.5 * 3600)
    place.settle(20)
    until(place, 5)
    assert len(began(place)) == 1
    until(place, 28)
    assert len(began(place)) == 2


def test_a_clock_that_was_wrong_for_once_silences_nothing(tmp_path):
    """A boot in the year 2050, before the network told the time, costs one generation at most."""
    place = a_place(tmp_path)
    place.clock.set_wall(MIDNIGHT + 9000 * DAY_S)
    place.settle(20)
    place.clock.set_wall(MIDNIGHT + 4 * 3600)
    until(place, 28)
    assert began(place) == ["2026-01-05T03:00:00.000Z", "2026-01-06T03:00:00.000Z"]


def test_a_clock_that_falls_back_at_each_boot_brings_no_generation(tmp_path):
    """Its battery is dead, and the network tells the time a little later, or only next time."""
    place = a_place(tmp_path)
    until(place, 4)
    for right in (True, False, False, True, True):
        place.clock.set_wall(MIDNIGHT - 9000 * DAY_S)
        place.settle(4)
        if right:
            place.clock.set_wall(MIDNIGHT + 5 * 3600)
            place.settle(4)
    assert len(began(place)) == 1
    until(place, 28)
    assert began(place) == ["2026-01-05T03:00:00.000Z", "2026-01-06T03:00:00.000Z"]
    place.clock.set_wall(MIDNIGHT - 9000 * DAY_S)
    place.settle(4)
    place.clock.set_wall(MIDNIGHT + 3 * DAY_S)
    place.settle(20)
    assert began(place)[2:] == ["2026-01-07T03:00:00.000Z"]


def test_a_generation_that_is_not_done_is_finished_first_and_that_is_said_once(tmp_path):
    """Of the two nights that pass meanwhile the first makes the next one due, as soon as it can."""
    place = a_place(tmp_path, DAILY.replace("steps = 50", "steps = 100000000"))
    until(place, 28)
    assert began(place) == []
    (late,) = place.lines("generation.late")
    assert "generation 1 is not done: it is finished first; a, b" in late["reason"]
    configure(place, DAILY)
    assert began(place) == ["2026-01-05T03:00:00.000Z"]
    assert place.daemon.memory.generations.next_at == MIDNIGHT + 2 * DAY_S + THREE


def test_what_waits_for_the_last_run_begins_as_soon_as_that_has_ended(tmp_path):
    """Not with the next regular look, which may be minutes away; unless it is the last one here."""
    place = a_place(tmp_path, DAILY.replace("steps = 50", "steps = 100000000"))
    until(place, 4)
    place.home.settings.write_text(DAILY)
    due_s = place.look()
    while place.queue():
        due_s = place.look()
    place.clock.advance(due_s)
    assert place.daemon.tick("time", last=True) > due_s
    assert began(place) == []
    place.look(0.0)
    assert began(place) == ["2026-01-05T03:00:00.000Z"]
    assert due_s <= 1.0


def test_the_instant_is_the_earliest_moment_and_quiet_hours_say_when_it_trains(tmp_path):
    """It is in the queue from then on, and waits for a window like everything else."""
    place = a_place(tmp_path)
    configure(place, DAILY + "[quiet_hours]\n")
    until(place, 4)
    assert len(began(place)) == 1
    assert (place.queue(), place.training()) == (["a", "b"], [])
    assert done(place)[2:] == []
    configure(place, DAILY)
    assert done(place)[2:] == ["drill-a-g2", "drill-b-g2"]


def test_fewer_that_are_to_be_kept_leave_at_once(tmp_path):
    """Whoever needs the room does not wait for the next generation."""
    place = a_place(tmp_path)
    until(place, 28)
    assert place.host.folders.keys() >= {"drill-a", "drill-a-g2", "drill-a-g3"}
    configure(place, DAILY + "kept_generations = 1\n")
    assert "drill-a" not in place.host.folders
    assert place.host.folders.keys() >= {"drill-a-g2", "drill-a-g3"}


def test_what_was_submitted_belongs_to_no_generation(tmp_path):
    """A job trains on while the next generation begins, and is asked for but once."""
    place = a_place(tmp_path)
    place.ask("submit", asked=a_job())
    until(place, 4)
    assert place.queue() == ["job"]
    assert len(began(place)) == 1
    assert [run for run in done(place) if "job" in run] == []


def test_an_end_that_a_job_hides_is_told_when_the_next_begins(tmp_path):
    """Whoever waits for the end of each generation hears of each."""
    place = Place(tmp_path / "home", DAILY)
    place.ask("submit", asked=a_job())
    until(place, 4)
    ends = place.lines("campaign.done")
    assert [end["evidence"]["generation"] for end in ends] == [1]
    assert ends[0]["reason"].endswith("what was submitted goes on")


def test_old_generations_are_removed_whole_and_the_newest_stay(tmp_path):
    """With one kept, the third generation makes the first one leave, as soon as it begins."""
    place = a_place(tmp_path, DAILY + "kept_generations = 1\n")
    until(place, 28)
    assert place.host.folders.keys() == {"drill-a-g2", "drill-b-g2", "drill-a-g3", "drill-b-g3"}
    (dropped,) = place.lines("generation.dropped")
    assert "drill-a, drill-b" in dropped["reason"]
    assert len(place.lines("generation.removed")) == 1


def test_the_only_generation_in_which_anything_was_done_stays(tmp_path):
    """Whatever comes after it fails: a week of bad nights must not cost the last good model."""
    good = Generation(number=1, runs=("drill-a",), ended_at=1.0, done=1)
    bad = [Generation(number=n, runs=(f"drill-a-g{n}",), ended_at=1.0) for n in (2, 3, 4)]
    memory = msgspec.structs.replace(
        history.first_day(a_moment(), a_ladder()),
        generations=Generations(number=5, earlier=(good, *bad)),
    )
    after = again.dropped(memory, Campaign(kept_generations=1))
    assert [one.number for one in after.generations.earlier if one.dropped] == [2, 3]


def test_a_folder_that_cannot_be_removed_is_told_once_and_tried_again(tmp_path):
    """The log is not filled with it, and what can be removed is."""
    place = a_place(tmp_path, DAILY + "kept_generations = 1\n")
    remove, refused = place.daemon._runner.remove, ["drill-a"]
    place.daemon._runner.remove = lambda run: "held" if run in refused else remove(run)
    until(place, 28)
    assert place.host.folders.keys() >= {"drill-a"}
    assert "drill-b" not in place.host.folders
    assert len(place.lines("generation.stuck")) == 1
    refused.clear()
    place.settle(3)
    assert "drill-a" not in place.host.folders


def test_no_run_of_an_earlier_generation_is_tried_again(tmp_path):
    """A person is told what it belongs to."""
    place = a_place(tmp_path)
    until(place, 4)
    answer = place.ask("retry", run="drill-a")
    assert answer.refused
    assert answer.reason == "drill-a is of generation 1, which is over"


def test_a_run_that_joins_later_is_one_of_the_present_generation(tmp_path):
    """It has its number, and its label in the settings is what it is called."""
    place = a_place(tmp_path)
    until(place, 4)
    configure(place, DAILY.replace('["a", "b"]', '["a", "b", "c"]'))
    assert done(place)[4:] == ["drill-c-g2"]
    configure(place, DAILY.replace('["a", "b"]', '["b"]'))
    until(place, 28)
    assert done(place)[5:] == ["drill-b-g3"]


def test_a_calendar_that_is_taken_out_ends_it_and_a_new_one_counts_from_then_on(tmp_path):
    """The generation that there is stays the present one; each change is one line."""
    place = a_place(tmp_path)
    until(place, 4)
    configure(place, DAILY.replace('again = "03:00"', ""))
    until(place, 28)
    assert len(began(place)) == 1
    configure(place, DAILY.replace("03:00", "02:00"))
    until(place, 49)
    assert len(began(place)) == 1
    until(place, 51)
    assert began(place)[1:] == ["2026-01-07T02:00:00.000Z"]
    assert len(place.lines("generation.scheduled")) == 3


def test_whoever_asks_in_a_zone_of_its_own_hears_what_the_supervisor_heeds(tmp_path, monkeypatch):
    """Where it is due, and that it is late, is no matter of who looks."""
    place = a_place(tmp_path, DAILY.replace("steps = 50", "steps = 100000000"))
    until(place, 4)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    said = report(place.home, Config(place.home.settings), place.clock.read()).again
    assert (said.due, said.zone, said.late) == ("2026-01-05T03:00:00.000Z", "UTC", True)


def test_a_reset_begins_the_generation_anew_and_counts_on(tmp_path):
    """The folders of those before are there: none is ever taken for a new one's."""
    place = a_place(tmp_path)
    until(place, 4)
    place.ask("reset")
    place.settle(20)
    until(place, 28)
    assert began(place) == ["2026-01-05T03:00:00.000Z", "2026-01-06T03:00:00.000Z"]
    assert place.daemon.memory.generations.number == 3


class PowerCut(BaseException):
    """The machine goes down."""


@pytest.mark.parametrize("cut", range(24))
def test_a_power_cut_between_any_two_steps_is_harmless(tmp_path, monkeypatch, cut):
    """At each save and each removal, before and after it: the same folders come of it."""
    place = a_place(tmp_path, DAILY + "kept_generations = 1\n")
    until(place, 26.9)
    fuse = [cut]

    def burnt():
        fuse[0] -= 1
        if fuse[0] == -1:
            raise PowerCut

    def around(act):
        def cut_off(*arguments):
            burnt()
            result = act(*arguments)
            burnt()
            return result

        return cut_off

    monkeypatch.setattr(Store, "save", around(Store.save))
    monkeypatch.setattr(FakeRunner, "remove", around(FakeRunner.remove))
    for _ in range(2):
        try:
            until(place, 29)
        except PowerCut:
            place.host.power_off()
            place.clock.reboot()
            place.begin()
    place.settle(20)
    assert place.host.folders.keys() == {"drill-a-g2", "drill-b-g2", "drill-a-g3", "drill-b-g3"}
    assert place.daemon.memory.generations.number == 3
    assert len(began(place)) == 2


def test_a_lost_memory_goes_on_with_the_newest_generation_that_there_is(tmp_path):
    """Its folders tell: another second one would go on from what it must not know."""
    place = a_place(tmp_path)
    until(place, 4)
    for path in place.home.path.glob("state*"):
        path.unlink()
    place.begin()
    place.settle(20)
    assert place.daemon.memory.generations.number == 2
    until(place, 28)
    assert place.daemon.memory.generations.number == 3


def test_a_number_whose_folders_are_somebody_else_s_is_passed_over(tmp_path):
    """A run was called so before the campaign came again, and another was submitted so since."""
    place = Place(tmp_path / "home", DAILY.replace('again = "03:00"', "").replace('"b"', '"a-g2"'))
    place.settle(20)
    assert done(place) == ["drill-a", "drill-a-g2"]
    configure(place, DAILY)
    place.ask("submit", asked=a_job("b-g3", id="drill-b-g3"))
    until(place, 4)
    assert done(place)[2:] == ["drill-b", "drill-a-g4", "drill-b-g4"]
    configure(place, DAILY + 'kept_generations = 1\nagain_from = "best"\n')
    until(place, 52)
    assert "drill-a" not in place.host.folders
    assert place.host.folders.keys() >= {"drill-a-g2", "drill-a-g5", "drill-a-g6"}
    assert place.daemon.memory.generations.number == 6


def test_a_run_that_a_person_has_called_so_is_no_later_generation(tmp_path):
    """Its folder tells nothing to a supervisor that has lost its memory."""
    place = Place(tmp_path / "home", DAILY.replace('again = "03:00"', "").replace('"b"', '"a-g2"'))
    place.settle(20)
    for path in place.home.path.glob("state*"):
        path.unlink()
    place.begin()
    place.settle(20)
    assert place.daemon.memory.generations is None


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sun 02:30 Europe/Berlin", "2026-03-29T01:00:00+00:00"),  # that hour is skipped
        ("Sun 02:30 America/New_York", "2026-03-08T07:00:00+00:00"),
        ("Sun 02:30 Asia/Kolkata", "2026-01-10T21:00:00+00:00"),
    ],
)
def test_nights_of_daylight_saving_have_their_generation_too(text, first):
    """A time that the clocks skip is due at the end of the gap; what comes twice is due once."""
    asked = Campaign(runs=("a",), again=text)
    found = again.instants(asked, "UTC", MIDNIGHT, 60)
    assert dt.datetime.fromisoformat(first).timestamp() in found
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert all(6.9 * DAY_S < gap < 7.1 * DAY_S for gap in gaps)


def test_a_zone_that_is_not_named_is_that_of_the_machine():
    """In Berlin it is two o'clock in UTC."""
    asked = Campaign(runs=("a",), again="03:00")
    assert again.instants(asked, "Europe/Berlin", MIDNIGHT, 1) == (MIDNIGHT + 2 * 3600,)
    assert again.in_words(MIDNIGHT, asked, "Europe/Berlin") == "Mon 2026-01-05 01:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"again": "Sun 25:00"}, "campaign.again: 'Sun 25:00' is no calendar"),
        ({"again": "0 3 31 2 *"}, "campaign.again: '0 3 31 2 *' is no calendar"),
        ({"again": "daily", "runs": ()}, "campaign.again: there is no run"),
        ({"again": "daily", "runs": ("a-g2",)}, "campaign.again: drill-a-g2 ends with -g2"),
        ({"again": "daily", "runs": ("a" * 52,)}, "is too long to be followed by the number"),
    ],
)
def test_what_could_never_be_due_again_is_refused_by_its_key(fields, why):
    """Before it is in force, with what to write instead."""
    with pytest.raises(ValueError, match=why.replace("(", r"\(").replace("*", r"\*")):
        Settings(campaign=Campaign(**{"runs": ("a",), "trainer": "drill"} | fields))


ASKED = Settings(campaign=Campaign(runs=("a", "b"), trainer="drill", again="0 */6 * * *"))
RULES = Rules(ASKED, a_ladder(), ASKED.queue(), revision=1)
events = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(1.0, 90_000.0)),
        st.tuples(st.just("jump"), st.floats(-200_000.0, 200_000.0)),
        st.tuples(st.just("boot"), st.floats(0.0, 100_000.0)),
        st.tuples(st.just("finish"), st.just(0.0)),
    ),
    max_size=40,
)


def a_moment(wall=MIDNIGHT, up_s=10.0, boot=1):
    return Moment(wall=wall, monotonic_s=up_s, boottime_s=up_s, boot_id=f"boot-{boot}")


@settings(max_examples=150, deadline=None)
@example([("pass", 25_000.0), ("finish", 0.0), ("jump", -20_000.0), ("pass", 20_000.0)])
@given(events)
def test_a_generation_begins_once_for_an_instant_and_none_that_is_over_trains(happenings):
    """Whatever is done to the clock and the power, and whenever runs end."""
    memory, living, ended = history.first_day(a_moment(), RULES.ladder), set(), {}
    wall, up_s, boot = MIDNIGHT, 10.0, 1
    fired, started = [], []
    for what, size in [*happenings, ("finish", 0.0), ("finish", 0.0)]:
        wall, up_s = (wall + size, up_s + (size if what == "pass" else 0.0))
        if what == "boot":
            boot, up_s, living = boot + 1, 10.0, set()
        if what == "finish":
            ended = dict.fromkeys(living, Exit(code=0))
            living = set()
        for _ in range(8):
            moment = a_moment(wall, up_s := up_s + 1.0, boot)
            wall += 1.0
            seen = {
                run.id: Observation(
                    process=a_process() if run.id in living else None,
                    exit=ended.pop(run.id, None),
                    heartbeat=a_heartbeat(),
                )
                for run in watched(memory, RULES)
            }
            look = Seen(
                moment=moment,
                rules=RULES,
                machine=Machine(cores=1, parts={}, zone="UTC"),
                observations=seen,
            )
            before, decided = memory.generations, turn(memory, look)
            memory = decided.memory
            outcomes = []
            for action in decided.actions:
                if isinstance(action, Start):
                    living.add(action.spec.run)
                    started.append((action.spec.run, memory.generations.number))
                    outcomes.append(Started(run=action.spec.run, process=a_process()))
                if isinstance(action, Remove):
                    assert action.run not in living
                    outcomes.append(Removed(run=action.run))
            if outcomes:
                told = msgspec.structs.replace(look, observations=None, outcomes=tuple(outcomes))
                memory = turn(memory, told).memory
            if before is not None and before.number != memory.generations.number:
                fired.append(memory.generations.due_at)
                assert memory.generations.due_at <= moment.wall
            memory = msgspec.structs.replace(memory, outbox=(), left=())
    assert len(set(fired)) == len(fired)
    assert all(run.endswith(f"-g{number}") or number == 1 for run, number in started)
