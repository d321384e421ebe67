"""Who is in the queue, and who gets a slot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Goal
from supervisor.core import queue
from supervisor.core.slots import RANKS, Sharing, assign, demanded, waiting
from testkit.builders import a_mode, a_process, a_run, a_time, asked, steps
from trainers.contract import Spec

NOW = a_time()
A, B, C = (a_run(f"drill-{name}") for name in "abc")


def with_status(run, status, **fields):
    return run.but(status=status, **fields)


def ids(runs):
    return [run.id for run in runs]


# Enrolling


def test_the_queue_stands_in_the_order_of_the_campaign():
    """What is known of a run stays with it when the campaign is put in another order."""
    running = with_status(B, "running", step=70)
    assert queue.enrol((A, running), (C, B, A), {}) == (C, running, A)


@pytest.mark.parametrize("status", ["running", "stopping", "blocked"])
def test_a_dropped_run_stays_until_nothing_of_it_lives(status):
    """A run that left the campaign while it lives is withdrawn, not forgotten."""
    (kept, gone) = queue.enrol((with_status(B, status), A), (A,), {})
    assert kept == A
    assert (gone.id, gone.status, gone.withdrawn) == (B.id, status, True)
    assert queue.enrol((kept, with_status(gone, "queued")), (A,), {}) == (A,)


@pytest.mark.parametrize("status", ["queued", "waiting", "quarantined", "done", "failed"])
def test_a_dropped_run_of_which_nothing_lives_leaves_at_once(status):
    """Nothing needs to be ended, so nothing is remembered."""
    assert queue.enrol((with_status(B, status), A), (A,), {}) == (A,)


def test_a_run_that_comes_back_is_welcome():
    """Withdrawn and put back while it still lives, it goes on as if nothing had been."""
    withdrawn = with_status(B, "running", withdrawn=True, step=70)
    assert queue.enrol((withdrawn,), (B,), {}) == (with_status(B, "running", step=70),)


@pytest.mark.parametrize(
    ("status", "after"),
    [
        ("failed", "queued"),
        ("quarantined", "queued"),
        ("done", "queued"),
        ("queued", "queued"),
        ("running", "running"),
        ("stopping", "stopping"),
        ("waiting", "waiting"),
        ("blocked", "blocked"),
    ],
)
def test_a_changed_run_gets_another_chance(status, after):
    """New options or a new target mend and extend what had ended; what lives is let be."""
    known = with_status(A, status, step=1000, reason="why", died_there=4, retry_s=99.0)
    wanted = asked(A, target=steps(2000), options={"lr": 0.1})
    (run,) = queue.enrol((known,), (wanted,), {})
    assert (run.status, run.progress.step) == (after, 1000)
    assert (run.asked.target, run.asked.options) == (steps(2000), {"lr": 0.1})
    if status != after:
        assert (run.reason, run.faults.died_there, run.retry_s) == (None, 0, None)


@pytest.mark.parametrize("status", ["failed", "quarantined", "done"])
def test_an_unchanged_run_gets_no_chance_by_being_read_again(status):
    """Reading the same settings again mends nothing."""
    known = with_status(A, status)
    assert queue.enrol((known,), (A,), {}) == (known,)


# Slots


def test_slots_are_given_from_the_front():
    """Without a preference the queue is served in its order."""
    assert assign((A, B, C), a_mode(slots=2), NOW) == (A.id, B.id)


def test_preferred_runs_come_first_in_the_order_of_preference():
    """The mode's favourites get its slots first; the rest go to the queue in order."""
    assert assign((A, B, C), a_mode(slots=2, prefer=("c", "b")), NOW) == (C.id, B.id)
    assert assign((A, B, C), a_mode(slots=2, prefer=("unheard-of", "c")), NOW) == (C.id, A.id)


def test_a_mode_may_prefer_one_run_of_a_name():
    """A name means each run that is called so, an id that run alone, and goes before the name."""
    twin = asked(a_run("drill-c-2"), name="c")
    runs = (A, B, C, twin)
    assert assign(runs, a_mode(slots=3, prefer=("c",)), NOW) == (C.id, twin.id, A.id)
    assert assign(runs, a_mode(slots=2, prefer=(twin.id,)), NOW) == (twin.id, A.id)
    prefer = ("c", "b", twin.id)
    assert assign(runs, a_mode(slots=4, prefer=prefer), NOW) == (C.id, B.id, twin.id, A.id)


def test_runs_of_one_name_are_told_apart():
    """By their ids, where a name would not do; whoever waits is told whom it waits for."""
    twin = asked(a_run("drill-c-2"), name="c")
    assert queue.called((A, C)) == {A.id: "a", C.id: "c"}
    assert queue.called((A, C, twin)) == {A.id: "a", C.id: C.id, twin.id: twin.id}
    assert queue.label(twin) == "c-2"
    why = waiting((C, twin), Goal(mode="light"), a_mode(slots=1), NOW)
    assert why[twin.id] == "the slots are with drill-c, whose turn is before it"


@pytest.mark.parametrize("status", ["done", "failed", "quarantined", "blocked"])
def test_who_cannot_train_has_no_claim(status):
    """A run that has ended, is held or blocked leaves its slot to others, preferred or not."""
    assert assign((with_status(A, status), B, C), a_mode(slots=2, prefer=("a",)), NOW) == (
        B.id,
        C.id,
    )


@pytest.mark.parametrize(
    ("ranks", "prefer", "first"),
    [
        (("low", "low", "low"), (), "ab"),
        (("low", "low", "high"), (), "ca"),
        (("normal", "critical", "high"), (), "bc"),
        (("low", "low", "low"), ("c",), "ca"),
        (("low", "normal", "low"), ("c",), "bc"),
        (("high", "high", "high"), ("b",), "ba"),
    ],
)
def test_the_claims_of_runs_in_one_table(ranks, prefer, first):
    """The class counts before anything else, then what the mode prefers, then the queue's order."""
    runs = tuple(asked(run, rank=rank) for run, rank in zip((A, B, C), ranks, strict=True))
    claims = assign(runs, a_mode(slots=2, prefer=prefer), NOW)
    assert claims == tuple(f"drill-{name}" for name in first)


@pytest.mark.parametrize(
    ("fields", "goal", "why"),
    [
        ({}, Goal(mode="light"), "with a, whose turn is before it"),
        ({}, Goal(mode="light", pauses=("person",)), "paused"),
        ({}, Goal(mode="light", idle_until_s=99.0), "left idle"),
        ({"status": "quarantined", "retry_s": 90.0}, Goal(mode="light"), "tried again in 80 s"),
        ({"status": "blocked"}, Goal(mode="light"), "cannot be ended"),
        ({"withdrawn": True}, Goal(mode="light"), "nobody asks"),
        ({"status": "waiting", "retry_s": 15.0}, Goal(mode="light"), "with a,"),
    ],
)
def test_each_run_that_waits_says_why(fields, goal, why):
    """Whoever looks at a run that does not train need not guess."""
    runs = (with_status(A, "running"), B.but(**fields), with_status(C, "done"))
    told = waiting(runs, goal, a_mode(slots=1), a_time(10.0))
    assert list(told) == [B.id]
    assert why in told[B.id]


def test_nobody_guesses_who_has_the_slots_of_an_unknown_mode():
    """While the settings cannot be read, that is what a run waits for."""
    told = waiting((A,), Goal(mode="light"), None, a_time(10.0))
    assert "cannot be read" in told[A.id]


def test_a_lower_rank_is_told_who_ranks_above_it():
    """And a run with a slot in its backoff when it starts."""
    runs = (B, asked(A, rank="high"), C.but(status="waiting", retry_s=12.0))
    told = waiting(runs, Goal(mode="light"), a_mode(slots=1), a_time(10.0))
    assert "1 rank above low" in told[B.id]
    told = waiting(runs, Goal(mode="light"), a_mode(slots=3), a_time(10.0))
    assert told[C.id] == "after a death: it starts again in 2 s"
    assert "starts as soon as" in told[B.id]


def test_a_withdrawn_run_has_no_claim():
    """A run that left the campaign gives its slot away at once."""
    assert assign((with_status(A, "running", withdrawn=True), B), a_mode(), NOW) == (B.id,)


@pytest.mark.parametrize("status", ["queued", "running", "stopping", "waiting"])
def test_a_run_in_trouble_keeps_its_slot(status):
    """A backoff is too short for others to make use of the slot."""
    assert assign((with_status(A, status), B), a_mode(slots=1), NOW) == (A.id,)


def test_more_slots_than_runs_are_left_free():
    """A mode larger than the campaign trains all of it."""
    assert assign((A, B), a_mode(slots=9), NOW) == (A.id, B.id)


# What a trainer is asked


@pytest.mark.parametrize(
    ("slots", "wanted"),
    [(1, ("drill-1",)), (2, ("drill-0", "drill-1")), (9, ("drill-0", "drill-1"))],
)
def test_a_held_run_is_wanted_where_a_slot_is_left(slots, wanted):
    """Held and blocked runs give their slot to others; nobody wants it to stay empty."""
    statuses = ("quarantined", "running", "done")
    runs = tuple(a_run(f"drill-{n}", status=status) for n, status in enumerate(statuses))
    mode = a_mode(slots=slots)
    assert demanded(runs, assign(runs, mode, NOW), mode) == wanted


@pytest.mark.parametrize(("cores", "slots", "threads"), [(8, 2, 4), (7, 2, 3), (1, 4, 1)])
def test_the_cores_are_shared_among_the_slots(cores, slots, threads):
    """Slots times threads is at most the number of cores, and nobody gets none."""
    mode = a_mode(slots=slots, load={"drill": {"n_envs": 32}})
    spec = queue.spec(A, mode, cores=cores, checkpoint_interval_s=60.0, grace_s=120.0)
    assert spec == Spec(
        run=A.id,
        trainer="drill",
        name="a",
        mode="light",
        load={"n_envs": 32},
        threads=threads,
        target=steps(1000),
        seed=1,
        checkpoint_interval_s=60.0,
    )


@pytest.mark.parametrize(
    ("statuses", "ended"),
    [
        (("done", "failed"), True),
        (("done", "queued"), False),
        (("done", "quarantined"), False),
        (("blocked",), False),
    ],
)
def test_a_campaign_has_ended_when_every_run_has(statuses, ended):
    """Held and blocked runs are not at their end."""
    runs = tuple(a_run(f"drill-{n}", status=status) for n, status in enumerate(statuses))
    assert queue.all_ended(runs) is ended


def test_processes_do_not_matter_to_the_queue():
    """Who is served is decided by status and order alone."""
    lively = with_status(A, "queued", process=a_process())
    assert assign((lively, B), a_mode(slots=1), NOW) == assign((A, B), a_mode(slots=1), NOW)


def test_whoever_tries_a_run_again_begins_with_its_newest_checkpoint():
    """What was counted against checkpoints is forgotten: a person may have mended the reason."""
    held = with_status(A, "quarantined", failed_loads=2, withheld=(3000, 4000))
    run = queue.retry(held)
    assert (run.status, run.faults.failed_loads, run.faults.withheld) == ("queued", 0, ())


def test_a_program_that_was_done_before_its_target_can_be_tried_again():
    """Its trainer may want more by now. What has reached its target may not."""
    by_its_word = with_status(A, "done", reason="its program is done at step 10")
    assert queue.retry(by_its_word).status == "queued"
    assert "has reached its target" in queue.retry(with_status(A, "done"))


def test_a_patience_of_its_own_is_asked_for_at_once():
    """It needs no new start, and gives no run that has ended another chance."""
    patient = asked(A, silent_max_s=60.0)
    (run,) = queue.enrol((with_status(A, "running"),), (patient,), {})
    assert (run.asked.silent_max_s, run.attempt.stale) == (60.0, False)
    (run,) = queue.enrol((with_status(A, "failed"),), (patient,), {})
    assert (run.asked.silent_max_s, run.status) == (60.0, "failed")


def test_a_trainer_is_told_what_is_withheld_from_it():
    """The next start carries it."""
    run = A.but(withheld=(4000,))
    spec = queue.spec(run, a_mode(), cores=1, checkpoint_interval_s=9.0, grace_s=120.0)
    assert spec.withheld == (4000,)


# The campaign and what was submitted


JOBS_MIN_S = Sharing().jobs_min_s


def living(run, *, since_s=10_000.0, **asked_fields):
    """The run, training in the mode of these tests since so long ago."""
    lives = run.but(status="running", mode="light", process=a_process(), started_s=-since_s)
    return asked(lives, **asked_fields)


def job(name, **fields):
    return asked(a_run(f"drill-{name}"), origin="job", **fields)


def claims(runs, slots=1, **how):
    """The names of those that have the slots."""
    now = a_time(0.0)
    return [run.rpartition("-")[2] for run in assign(runs, a_mode(slots=slots), now, **how)]


@pytest.mark.parametrize(
    ("runs", "slots", "first"),
    [
        # The campaign first, within a class; then as they came.
        ((A, job("x")), 1, "a"),
        ((job("x"), job("y")), 1, "x"),
        # A higher class takes the slot of a lower one, and only that.
        ((living(A), job("x", rank="normal")), 1, "x"),
        ((living(A, rank="normal"), job("x", rank="normal")), 1, "a"),
        ((living(job("x")), job("y", rank="high")), 1, "y"),
        ((living(job("x", rank="high")), job("y", rank="high")), 1, "x"),
        # A trainer of a job that has just begun is safe, whoever comes.
        ((living(job("x"), since_s=JOBS_MIN_S - 1), job("y", rank="critical")), 1, "x"),
        ((living(A, since_s=1), job("y", rank="normal")), 1, "y"),
        # A job that lives is not put out by the campaign of its own class.
        ((A, living(job("x"))), 1, "x"),
        ((A, living(B), living(job("x"))), 2, "bx"),
        # Whoever has a slot keeps it while others of its class were put out.
        ((A, living(B), living(job("x", rank="high"))), 2, "xb"),
        # Those that cannot train claim nothing.
        ((asked(A, suspended=True), B), 1, "b"),
        ((asked(A, not_before_at=2e12), B), 1, "b"),
        ((A.but(ending="cancel"), B), 1, "b"),
        ((asked(A, place="moon"), B), 1, "b"),
    ],
)
def test_who_has_the_slots_in_one_table(runs, slots, first):
    """Class, then who is there, then the order of the queue."""
    assert "".join(claims(runs, slots)) == first


@pytest.mark.parametrize(("unsaved_s", "victim"), [({A.id: 5.0}, "b"), ({B.id: 5.0}, "a")])
def test_the_one_that_loses_least_makes_room(unsaved_s, victim):
    """Of several of a class it is the one whose newest checkpoint is the newest."""
    runs = (living(A), living(B), job("x", rank="high"))
    kept = claims(runs, slots=2, unsaved_s=unsaved_s)
    assert kept[0] == "x"
    assert victim not in kept


def test_the_choice_holds_while_the_victim_saves():
    """What the other one has saved meanwhile makes it no second victim; nor when it has left."""
    stopping = living(A).but(status="stopping")
    for victim in (stopping, with_status(A, "queued")):
        runs = (victim, living(B), living(job("x", rank="high")))
        assert claims(runs, slots=2, unsaved_s={A.id: 9.0}) == ["x", "b"]
    over = (with_status(A, "queued"), living(B))
    assert claims(over, slots=2) == ["a", "b"]


def test_a_campaign_may_keep_slots_for_itself():
    """Whatever is submitted, it goes on with so many; without runs it keeps nothing."""
    many = tuple(job(name, rank="high") for name in "xyz")
    sharing = Sharing(slots_min=1)
    assert claims((A, B, *many), slots=3, sharing=sharing) == ["x", "y", "a"]
    assert claims((with_status(A, "done"), *many), slots=3, sharing=sharing) == ["x", "y", "z"]
    assert claims((A, B, *many), slots=1, sharing=sharing) == ["a"]
    young = living(many[0], since_s=1.0)
    assert claims((A, young), slots=1, sharing=sharing) == ["x"]


def test_a_crash_or_a_change_of_mode_gives_slots_by_class_alone():
    """What protects a living trainer protects nothing that does not live in this mode."""
    low, high = living(job("x"), since_s=1.0), job("y", rank="high")
    assert claims((low, high)) == ["x"]
    assert claims((low.but(status="queued"), high)) == ["y"]
    assert claims((low.but(mode="medium"), high)) == ["y"]


RANKED = st.sampled_from(RANKS)


@given(
    st.lists(st.tuples(RANKED, st.booleans(), st.booleans(), st.integers(0, 2000)), max_size=8),
    st.integers(1, 4),
    st.integers(0, 2),
    st.dictionaries(st.integers(0, 7), st.floats(0, 100)),
)
def test_slots_are_shared_by_class_and_nobody_is_put_out_by_an_equal(
    given_runs, slots, least, unsaved
):
    """Who lives and has no slot has made room for a higher class, or for the campaign's share."""
    runs, lives = [], 0
    for at, (rank, is_job, wants, since_s) in enumerate(sorted(given_runs, key=lambda one: one[1])):
        run = asked(a_run(f"drill-{at}"), rank=rank, origin="job" if is_job else "campaign")
        if wants and lives < slots:
            run, lives = living(run, since_s=since_s), lives + 1
        runs.append(run)
    sharing = Sharing(slots_min=least)
    unsaved_s = {f"drill-{at}": seconds for at, seconds in unsaved.items()}
    mode, now = a_mode(slots=slots), a_time(0.0)
    chosen = assign(runs, mode, now, sharing, unsaved_s)
    assert len(chosen) == len(set(chosen)) == min(slots, len(runs))
    known = {run.id: run for run in runs}
    fresh = [known[one] for one in chosen if known[one].status != "running"]
    for run in runs:
        if run.status == "running" and run.id not in chosen and run.asked.origin == "job":
            assert now.now_s - run.attempt.started_s >= JOBS_MIN_S
            for other in fresh:
                higher = RANKS.index(other.asked.rank) < RANKS.index(run.asked.rank)
                assert higher or (least and other.asked.origin == "campaign")
    # The next look gives the same: nobody is stopped and started for nothing.
    after = [
        living(run, since_s=0.0)
        if run in fresh
        else run.but(status="queued")
        if run.id not in chosen
        else run
        for run in runs
    ]
    assert set(assign(after, mode, now, sharing, unsaved_s)) == set(chosen)
