"""The table says what became of every machine, and always says the same."""

import msgspec
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation import table
from supervisor.simulation.families import FAMILIES
from supervisor.simulation.table import Outcome

CHEAP = ("calm", "costly", "common storms")


def outcome(family, policy, work, crashes=0.0):
    return Outcome(family=family, policy=policy, work=work, first=work, crashes_per_day=crashes)


def test_the_same_seed_gives_the_same_table_on_one_core_or_two():
    """However many processes share the work, every digit is the same."""
    worlds, policies = table.families(9, 2, CHEAP), ("fixed", "bandit", "ledger")
    one, two = (table.compare(worlds, policies=policies, processes=n) for n in (1, 2))
    assert one == two
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


def test_another_seed_gives_other_machines():
    """Seeds are all that tells one table from another."""
    assert table.families(9, 2) != table.families(10, 2)
    assert len(table.families(9, 2)) == 2 * len(FAMILIES)


def test_progress_is_told_world_by_world():
    """Whoever waits sees each machine that is done."""
    told = []
    worlds = table.families(9, 2, ("calm",))
    table.compare(worlds, policies=("light only",), progress=lambda *seen: told.append(seen))
    assert told == [(1, 2), (2, 2)]


def test_settings_reach_our_policies():
    """With a day of stable time asked for, `fixed` climbs a day later and keeps less."""
    worlds = table.families(9, 3, ("calm",))
    slow = StabilityLimits(stable_min=24 * 60)
    usual, late = (
        table.compare(worlds, policies=("fixed",), limits=limits).scores["fixed"].first
        for limits in (None, slow)
    )
    assert late < usual - 0.05


def test_a_score_sums_up_its_worlds():
    """Mean, worst family, percentile and the paired difference are what they are called."""
    rows = []
    for work in (0.4, 0.6):
        rows += [outcome("a", "fixed", work, 4.0), outcome("a", "new", work + 0.3, 2.0)]
    for work in (0.9, 0.7):
        rows += [outcome("b", "fixed", work, 0.0), outcome("b", "new", work - 0.1, 1.0)]
    told = table.summed(rows, days=30.0)
    fixed, new = told.scores["fixed"], told.scores["new"]
    assert told.worlds == 4
    assert fixed.mean == pytest.approx(0.65)
    assert fixed.low == pytest.approx(0.43)
    assert (fixed.worst_family, fixed.worst) == ("a", pytest.approx(0.5))
    assert (new.worst_family, new.worst) == ("b", pytest.approx(0.7))
    assert new.crashes_per_day == pytest.approx(1.5)
    assert new.family_crashes == {"a": 2.0, "b": 1.0}
    assert new.against_fixed.mean == pytest.approx(0.1)
    # Within each family every difference is the same: the families themselves are no chance.
    assert new.against_fixed.low == pytest.approx(0.1)


def test_the_interval_is_as_wide_as_the_differences_vary():
    """Four differences of 0 and 0.2 in one family: 1.96 standard errors to each side."""
    rows = []
    for gain in (0.0, 0.2, 0.0, 0.2):
        rows += [outcome("a", "fixed", 0.5), outcome("a", "new", 0.5 + gain)]
    gain = table.summed(rows, days=30.0).scores["new"].against_fixed
    assert gain.mean == pytest.approx(0.1)
    assert gain.high - gain.mean == pytest.approx(1.96 * (0.04 / 3) ** 0.5 / 2)
    assert gain.mean - gain.low == pytest.approx(gain.high - gain.mean)


def test_one_world_alone_has_no_interval():
    """From a single difference nothing follows about others."""
    rows = [outcome("a", "fixed", 0.5), outcome("a", "new", 0.7)]
    told = table.summed(rows, days=1.0)
    assert told.scores["new"].against_fixed.low is None
    assert "+20.0" in table.text(told)


def test_the_text_names_every_policy_and_family():
    """Nothing that was simulated is left out, and columns line up."""
    told = table.compare(table.families(9, 2, CHEAP), policies=("light only", "fixed"))
    text = table.text(told)
    assert all(text.count(family) >= 2 for family in CHEAP)
    summary = text.split("\n\n")[1].splitlines()
    assert [line.split("  ")[0] for line in summary] == ["policy", "light only", "fixed"]
    assert len({line.index("0.") for line in summary[1:]}) == 1


def test_where_ours_is_below_the_yardstick_is_said_plainly():
    """A kind in which `ledger` keeps less than `fixed`, in its mean or its worst machines."""
    rows = []
    for family, fixed, ledger in (
        ("better", (0.5, 0.7), (0.8, 0.9)),
        ("worse", (0.9, 0.9), (0.8, 0.9)),
        ("uneven", (0.8, 0.8), (0.7, 1.0)),
    ):
        rows += [outcome(family, "fixed", work, 4.0) for work in fixed]
        rows += [outcome(family, "ledger", work, 1.0) for work in ledger]
    text = table.text(table.summed(rows, days=30.0))
    assert text.split("\n\n")[-1].splitlines() == [
        "ledger is below fixed:",
        "  worse, mean: 0.850 < 0.900",
        "  worse, 5 %: 0.805 < 0.900",
        "  uneven, 5 %: 0.715 < 0.800",
    ]
    assert "1.0 0.25" in text  # crashes a day, and what part that is of those of `fixed`
    better = table.text(table.summed(rows[:4], days=30.0))
    assert better.endswith("ledger is nowhere below fixed.")
