"""Whatever is away, old, copied or forgotten: each job ends once, and none is lost."""

from __future__ import annotations

import errno
import json
import shutil
import threading

import pytest

from state.jobs.backup import back_up, restore
from state.jobs.database import StoreTrouble
from state.jobs.migrations import migrate
from state.jobs.records import Schedule, Which
from state.store import last_good
from supervisor.cli import main
from supervisor.jobs.at_home import AlreadyDispatching, AtHome
from supervisor.jobs.telling import told
from testkit.dispatched import BOX, Dispatched, Timed
from testkit.job_requests import silence
from testkit.place import a_job

DAY_S = 86_400.0


@pytest.fixture
def place(home, url):
    place = Dispatched(home / "box", url)
    yield place
    place.close()


def a_copy(place):
    """What a backup of a home has of its state."""
    content = {path: path.read_bytes() for path in (place.home.state, last_good(place.home.state))}
    archive = place.home.state.with_name("archive.jsonl")
    return {**content, archive: archive.read_bytes() if archive.exists() else None}


def put_back(place, copy):
    """The home is as it was, and its daemon begins anew, as its machine does."""
    for path, content in copy.items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
    place.host.power_off()
    place.clock.reboot(off_s=60.0)
    place.begin()
    place.dispatch()


def three(place):
    """Jobs of which one is done, one trains and one waits; their ids."""
    done = place.submit(steps=100)
    place.until(done, "COMPLETED")
    trains = place.submit(steps=3000)
    place.until(trains, "RUNNING")
    place.submit(steps=100_000, priority="low")
    waits = place.submit(steps=200, priority="low")
    place.turn(3)
    return done, trains, waits


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_an_old_store_is_compared_with_the_home(place, home, when):
    """Restored from before the claim, from within it, or so old that it knows no such job."""
    first = place.submit(steps=2000)
    if when == "before":
        back_up(place.url, home / "old")
    place.until(first, "RUNNING")
    if when == "while":
        back_up(place.url, home / "old")
    place.until(first, "COMPLETED")
    later = place.submit(steps=100_000)
    if when == "after":
        back_up(place.url, home / "old")
    place.until(later, "RUNNING")
    place.turn(5)
    restore(place.url, home / "old")
    place.turn(3)
    job = place.until(first, "COMPLETED")
    assert place.ends(first) == ["COMPLETED"]
    assert job.became.metrics["step"] == 2000
    known = place.store.get(later)
    if known is None:  # nobody knows it any more: it is saved and leaves, and its folder stays
        place.turn(4)
        assert place.queue() == []
        assert place.host.folders[later].step > 0
    else:
        place.until(later, "RUNNING")


@pytest.fixture
def another(home):
    """The URL of a store that has never known this home."""
    other = f"sqlite:///{home / 'another.db'}"
    migrate(other)
    return other


def use(place, url):
    """The settings name that store from now on, and the dispatcher is started again."""
    place.dispatcher.close()
    place.store.close()
    place.url = url
    place.store = Timed(url, place.clock)
    place.dispatch()


def test_a_wrong_store_takes_no_run_out_of_the_queue(place, url, another):
    """It is told of once, with what to do; with the right one again all goes on by itself."""
    _, trains, waits = three(place)
    use(place, another)
    strange = place.submit(steps=100)
    schedule = Schedule(cron="* * * * *")
    place.submit(config={"trainer": "drill"}, schedule=schedule)
    place.turn(10)
    told = [line for line in place.said if "jobs withdraw" in line]
    assert len(told) == 1
    assert "database_url" in told[0]
    assert place.queue()
    assert not [run for run in place.daemon.memory.runs if run.withdrawn]
    assert place.store.get(strange).claim is None
    assert place.store.find(Which()).total == 2
    # No restart is needed for the setting alone.
    place.store.close()
    place.url, place.store = url, Timed(url, place.clock)
    for job_id in (trains, waits):
        assert place.until(job_id, "COMPLETED").became.attempt == 1
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_new_store_is_served_once_the_runs_of_the_old_one_have_left(place, another, capsys):
    """A person says so, with the command that is named, and they are saved."""
    _, trains, _ = three(place)
    use(place, another)
    place.home.settings.write_text(f'{BOX}[jobs]\ndatabase_url = "{another}"\n')
    mine = place.submit(steps=100)
    place.turn(3)
    place.fall()  # so that nobody waits for its answers
    command = ["--home", str(place.home.path), "jobs", "withdraw"]
    assert main(command) == 2  # nobody can be asked
    assert main([*command, "--yes"]) == 0
    place.rise()
    place.until(mine, "COMPLETED")
    place.turn(4)
    assert place.queue() == []
    assert place.host.folders[trains].step > 0
    assert main(command) == 0
    assert "no run here is from another job store" in capsys.readouterr().out


def test_a_store_that_has_moved_is_the_same_store(place, home, another):
    """A backup that is restored elsewhere has its jobs, and their runs train on."""
    _, trains, waits = three(place)
    back_up(place.url, home / "old")
    restore(another, home / "old")
    use(place, another)
    for job_id in (trains, waits):
        assert place.until(job_id, "COMPLETED").became.attempt == 1
        assert place.ends(job_id) == ["COMPLETED"]
    restore(another, home / "old")
    place.turn(3)
    assert not [line for line in place.said if "jobs withdraw" in line]


def test_a_home_that_is_old_trains_again_what_it_has_forgotten(place):
    """From the checkpoints that lie in its folders; what has ended in the store stays so."""
    copy = a_copy(place)
    done, trains, waits = three(place)
    put_back(place, copy)
    for job_id in (trains, waits):
        place.until(job_id, "COMPLETED")
    for job_id in (done, trains, waits):
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_home_that_is_old_has_nothing_of_what_has_ended(place):
    """A run that its state still trains, while the store knows its end, leaves."""
    job_id = place.submit(steps=2000)
    place.until(job_id, "RUNNING")
    copy = a_copy(place)
    place.until(job_id, "COMPLETED")
    put_back(place, copy)
    place.turn(4)
    assert place.queue() == []
    assert place.ends(job_id) == ["COMPLETED"]


def test_both_may_be_old(place, home):
    """Of two different moments."""
    copy = a_copy(place)
    done, trains, waits = three(place)
    back_up(place.url, home / "old")
    place.until(trains, "COMPLETED")
    restore(place.url, home / "old")
    put_back(place, copy)
    for job_id in (done, trains, waits):
        place.until(job_id, "COMPLETED")
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_copy_of_a_home_trains_none_of_its_jobs(place, home, url):
    """It is another home, for which no claim is; what it has copied of them leaves, saved."""
    jobs = three(place)
    shutil.copytree(place.home.path, home / "copy", symlinks=True)
    other = Dispatched(home / "copy", url)
    assert other.daemon.memory.home.id != place.daemon.memory.home.id
    assert set(other.queue()) == {"drill"}
    other.turn(5)
    assert other.queue() == []
    other.close()
    for job_id in jobs[1:]:
        place.until(job_id, "COMPLETED")
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_daemon_that_is_reset_is_asked_again(place):
    """All history is forgotten, and no claim is: what was saved is gone on from."""
    done, trains, waits = three(place)
    place.turn(10)
    place.ask("reset")
    assert place.daemon.memory.epoch == 2
    place.ask("pin", mode="light")
    for job_id in (trains, waits):
        place.until(job_id, "COMPLETED")
    for job_id in (done, trains, waits):
        assert place.ends(job_id) == ["COMPLETED"]
    assert any("reset" in line for line in place.said)


def test_a_dispatcher_that_was_dead_for_a_week_catches_up(place):
    """With 2,000 answers in between, of which the home has kept fewer."""
    jobs = three(place)
    for _ in range(40):  # nobody dispatches
        place.clock.advance(60.0)
        place.daemon.tick("time")
    put = [place.put("train_now", for_s=60.0) for _ in range(2000)]
    while place.home.inbox.exists() and any(place.home.inbox.glob("*.json")):
        place.look(1.0)
    place.clock.advance(7 * DAY_S)
    place.inbox.answers.prune(place.clock.read().wall)
    assert place.answer(put[0]) is None
    place.dispatch()
    place.turn(2)
    for job_id in jobs:
        place.until(job_id, "COMPLETED")
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_request_whose_answer_is_lost_is_asked_again(place):
    """A home that was reset forgets what was asked just before."""
    job_id = place.submit()
    place.dispatcher.step()
    (asked,) = place.home.inbox.glob("*.json")
    asked.unlink()
    place.until(job_id, "COMPLETED")


def test_a_machine_that_is_off_for_a_day_keeps_its_jobs(place, home, url):
    """Another one takes what nobody has, and not what lies on the dark disk."""
    other = Dispatched(home / "other", url)
    own = place.submit(steps=3000)
    place.until(own, "RUNNING")
    place.host.power_off()
    more = [place.submit(steps=100, tenant="another") for _ in range(3)]
    for _ in range(100):
        other.turn(after_s=864.0)
    assert place.store.get(own).claim.home == place.daemon.memory.home.id
    for job_id in more:
        assert place.store.get(job_id).became.status == "COMPLETED"
    place.clock.reboot(off_s=DAY_S)
    place.begin()
    place.until(own, "COMPLETED")
    for job_id in (own, *more):
        assert place.ends(job_id) == ["COMPLETED"]
    other.close()


def test_another_home_takes_over_only_where_the_settings_say_so(place, home, url):
    """Then the old one writes nothing of it any more, and lets its run go."""
    settings = f"{BOX}[jobs]\ntake_over_after_h = 12\n"
    other = Dispatched(home / "other", url, settings=settings)
    job_id = place.submit(steps=3000)
    place.until(job_id, "RUNNING")
    other.turn(3)
    assert place.store.get(job_id).claim.home == place.daemon.memory.home.id
    other.turn(2, after_s=DAY_S)
    assert place.store.get(job_id).claim.home == other.daemon.memory.home.id
    place.turn(5)
    assert place.queue() == []
    other.until(job_id, "COMPLETED")
    place.turn(5)
    assert place.ends(job_id) == ["COMPLETED"]
    other.close()


def test_a_store_that_is_away_is_waited_for_and_told_of_once(place):
    """It rests twice as long each time, and goes on where it was."""
    job_id = place.submit(steps=1000)
    place.until(job_id, "RUNNING")
    opened = place.dispatcher._open_store

    def away():
        raise StoreTrouble("postgresql://host/jobs", "it is away")

    place.dispatcher.close()
    place.dispatcher._open_store = away
    rests = [place.dispatcher.step() for _ in range(9)]
    assert rests == [2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * 4]
    assert len([line for line in place.said if "it is away" in line]) == 1
    place.dispatcher._open_store = opened
    assert place.dispatcher.step() == 1.0
    place.until(job_id, "COMPLETED")


def test_a_disk_that_is_full_loses_nothing(place, monkeypatch):
    """What cannot be asked is asked later, under the same claim."""
    job_id = place.submit()
    with monkeypatch.context() as broken:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        broken.setattr("state.inbox.durable.write", full)
        place.dispatcher.step()
    claim = place.store.get(job_id).claim
    assert any("No space left" in line for line in place.said)
    assert place.until(job_id, "COMPLETED").claim == claim


def test_what_was_withdrawn_is_claimed_anew_and_goes_on(place):
    """Somebody has taken it out of the queue; the daemon would not have it by that token again."""
    job_id = place.submit(steps=3000)
    old = place.until(job_id, "RUNNING")
    place.turn(10)
    place.ask("withdraw", run=job_id)
    place.turn(3)
    step = place.host.folders[job_id].step
    job = place.until(job_id, "COMPLETED")
    assert step > 0
    assert job.claim.token != old.claim.token
    assert place.ends(job_id) == ["COMPLETED"]


def test_runs_that_others_have_submitted_are_left_alone(place):
    """They bear no label of the dispatcher's."""
    place.ask("submit", asked=a_job("mine", steps=100_000))
    place.turn(5)
    assert place.queue() == ["mine"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_is_told_of_a_job_says_as_of_when_it_was_so(place, capsys):
    """Whoever is away: supervisor, dispatcher or machine; and it is true again once they are not.

    Of one job, of many, and on the command line.
    """
    job_id = place.submit(steps=100_000)
    place.until(job_id, "RUNNING")
    place.home.settings.write_text(f'{BOX}[jobs]\ndatabase_url = "{place.url}"\n')

    def age_s(*, stale):
        one = place.store.get(job_id)
        (among,) = place.store.find(Which()).jobs
        assert {told(it, stale_s=120.0).stale for it in (one, among)} == {stale}
        main(["--home", str(place.home.path), "jobs", "show", job_id, "--json"])
        shown = json.loads(capsys.readouterr().out)
        assert shown["stale"] is stale
        as_of = told(one, stale_s=120.0).as_of.timestamp()
        assert as_of == pytest.approx(one.became.as_of, abs=0.001)
        return one.read_at - one.became.as_of

    def fresh():
        place.turn()
        assert age_s(stale=False) < 60

    fresh()
    place.fall()
    place.clock.advance(3600.0)
    silence(place.store, job_id, 3600.0)
    place.dispatcher.step()
    assert 3600 <= age_s(stale=True) < 3700
    assert place.store.get(job_id).became.paused_reason == "no supervisor is running"
    place.rise()
    fresh()
    silence(place.store, job_id, 3600.0)  # neither a dispatcher nor its machine has told of it
    assert 3600 <= age_s(stale=True) < 3700
    fresh()


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("whose", ["machine", "database"])
def test_a_clock_that_is_an_hour_wrong_costs_nothing(place, monkeypatch, whose, by_s):
    """No job and no attempt: of one machine or of the database, in the midst of everything."""
    place.submit(config={"trainer": "drill"}, schedule=Schedule(cron="*/30 * * * *"))
    jobs = [place.submit(steps=3000) for _ in range(3)]
    refused = place.submit(steps=100)
    place.until(jobs[0], "RUNNING")
    place.dispatcher._put_off(refused, "full")
    if whose == "machine":
        now = Timed.now

        def truly(store):  # whatever the machine believes
            return now(store)._replace(at=now(store).at - by_s)

        place.clock.set_wall(place.clock.read().wall + by_s)
    else:

        def truly(store):
            return now(store)._replace(at=now(store).at + by_s)

        now = Timed.now
    monkeypatch.setattr(Timed, "now", truly)
    place.turn(3)
    assert place.store.get(refused).claim is not None  # what was put off rests for seconds
    assert place.store.get(jobs[0]).became.status == "RUNNING"
    for job_id in (*jobs, refused):
        job = place.until(job_id, "COMPLETED", turns=400)
        assert (job.became.attempt, place.ends(job_id)) == (1, ["COMPLETED"])


def test_an_old_home_that_comes_back_while_its_job_is_taken_over_writes_nothing(place, home, url):
    """In the same second: whoever has the claim ends it, once, and the other lets its run go."""
    other = Dispatched(home / "other", url)
    job_id = place.submit(steps=3000)
    old = place.until(job_id, "RUNNING")
    place.host.power_off()
    place.clock.reboot(off_s=DAY_S)
    place.begin()
    place.speak()
    store, acts = place.store, []

    def in_the_midst(*given, **more):  # between the look of the old home and what it does
        if not acts:
            acts.append(store.take_over(job_id, old.claim.token, other.daemon.memory.home.id))
        return type(store).mirror(place.dispatcher._store, *given, **more)

    place.dispatcher.step()
    place.dispatcher._mirrored.clear()
    place.dispatcher._store.mirror = in_the_midst
    place.turn()
    assert acts[0].claim.token != old.claim.token
    place.turn(5)
    assert place.queue() == []
    other.until(job_id, "COMPLETED")
    place.turn(3)
    assert place.store.get(job_id).claim.home == other.daemon.memory.home.id
    assert place.ends(job_id) == ["COMPLETED"]
    other.close()


def test_of_two_dispatchers_begun_at_once_one_serves_the_home(place):
    """The other ends with one line, and may be tried again."""
    rivals = [AtHome(place.home) for _ in range(8)]
    begin, held, refused = threading.Barrier(len(rivals)), [], []

    def hold(rival):
        begin.wait()
        try:
            held.append(rival.hold())
        except AlreadyDispatching as error:
            refused.append(error)

    threads = [threading.Thread(target=hold, args=(rival,)) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    assert {one.exit_code for one in refused} == {75}
    held[0].release()
    rivals[0].hold().release()


def test_a_store_that_takes_half_a_minute_for_an_answer_is_served_all_the_same(place, monkeypatch):
    """Nothing is asked twice for that, and no job is lost or done twice."""

    def slowly(act):
        def answer(*given, **named):
            place.clock.advance(30.0)
            return act(*given, **named)

        return answer

    for name in ("now", "claimed", "candidates", "tenants", "claim", "mirror", "finish"):
        monkeypatch.setattr(Timed, name, slowly(getattr(Timed, name)))
    jobs = [place.submit(steps=2000) for _ in range(3)]
    for job_id in jobs:
        job = place.until(job_id, "COMPLETED")
        assert (job.became.attempt, place.ends(job_id)) == (1, ["COMPLETED"])
    asked = [line for line in place.lines("request.granted") if line["rule"] == "submit"]
    assert len(asked) <= len(jobs)


def test_a_home_that_cannot_be_written_takes_no_second_job_and_loses_none(place, monkeypatch):
    """Its disk is read-only for a while: what it has claimed waits, and is told."""
    jobs = [place.submit(steps=100) for _ in range(6)]
    with monkeypatch.context() as broken:

        def refused(*_, **__):
            raise OSError(errno.EROFS, "Read-only file system")

        broken.setattr("state.inbox.durable.write", refused)
        for _ in range(20):
            place.dispatcher.step()
        claimed = [job_id for job_id in jobs if place.store.get(job_id).claim is not None]
        assert len(claimed) == 1
        assert len([line for line in place.said if "Read-only" in line]) == 1
        broken.setattr("supervisor.jobs.at_home.durable.make_folder", refused)
        with pytest.raises(OSError, match="Read-only"):
            place.dispatcher.run(threading.Event())
    for job_id in jobs:
        place.until(job_id, "COMPLETED")
        assert place.ends(job_id) == ["COMPLETED"]


def test_a_schedule_fires_once_and_makes_up_for_one_after_a_long_time_off(place):
    """What nobody was there for is a row, too, which says so; the newest one is made up for."""
    config = {"trainer": "drill", "target": {"steps": 100}, "schedule": "0 * * * *"}
    schedule = place.submit(config=config, schedule=Schedule(cron="0 * * * *"))
    place.turn(2)
    place.clock.advance(5 * 3600)
    place.turn(3)
    fired = list_of(place, schedule)
    assert [job.became.status for job in fired][:4] == ["CANCELLED"] * 4
    assert fired[0].became.error["message"].startswith("Nobody was there")
    assert len(fired) == 5
    place.until(fired[-1].job_id, "COMPLETED")
    place.dispatch()
    place.turn(3)
    assert len(list_of(place, schedule)) == 5


def test_a_schedule_skips_a_firing_while_the_one_before_trains(place):
    """It is a row all the same, which names the other one."""
    config = {"trainer": "drill", "target": {"steps": 1_000_000}}
    schedule = place.submit(config=config, schedule=Schedule(cron="0 * * * *"))
    for _ in range(2):
        place.clock.advance(3600)
        place.turn(3)
    first, second = list_of(place, schedule)
    assert (first.became.status, second.became.status) == ("RUNNING", "CANCELLED")
    assert second.became.error["details"]["job_id"] == first.job_id


def list_of(place, schedule):
    """Its firings, the oldest first."""
    return place.store.find(Which(parent_id=schedule)).jobs[::-1]


def test_nothing_is_written_in_the_home_but_requests(place):
    """The memory, the archive and the answers are the daemon's alone."""
    job_id = place.submit(steps=100)
    place.until(job_id, "RUNNING")
    before = {path: path.stat().st_mtime_ns for path in place.home.path.iterdir()}
    for _ in range(5):
        place.dispatcher.step()
    after = {path: path.stat().st_mtime_ns for path in place.home.path.iterdir()}
    assert before == after
