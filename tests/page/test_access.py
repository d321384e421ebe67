"""Who may look, and who may act: tokens, links, passes, names."""

import stat

import pytest

from supervisor.access import (
    ACT_LINK_S,
    LOOK_LINK_S,
    LOOK_TOKEN,
    PASS_S,
    REFUSALS_MAX,
    REFUSALS_S,
    TOKEN,
    Access,
    TooManyRefusals,
)
from supervisor.core.job_settings import Jobs, JobTenant
from supervisor.core.settings import Settings
from supervisor.core.web_settings import Web
from supervisor.host.home import Home
from testkit.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    found.make()
    return found


def access(home, clock, settings=None):
    return Access(home, clock, settings or Settings())


def bearer(home, name):
    return f"Bearer {(home.api / name).read_text().strip()}"


def test_the_token_lets_its_bearer_act_and_the_other_one_look(home, clock):
    one = access(home, clock)
    one.link("look")
    assert one.bears(bearer(home, TOKEN)) == "act"
    assert one.bears(bearer(home, LOOK_TOKEN)) == "look"


@pytest.mark.parametrize("name", [TOKEN, LOOK_TOKEN])
def test_only_its_owner_can_read_a_token(home, clock, name):
    access(home, clock).link("look")
    assert stat.S_IMODE((home.api / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp5", "Bearer \udcff", "bearer é"]
)
def test_whatever_else_is_said_lets_nobody_do_anything(home, clock, header):
    assert access(home, clock).bears(header) is None


def test_a_link_to_look_may_be_opened_by_everybody_who_has_it(home, clock):
    one = access(home, clock)
    link = one.link("look")
    for _ in range(2):
        right, given, _ = one.open(link)
        assert right == "look"
        assert one.holds(given) == "look"


def test_a_pass_to_look_lasts_no_longer_than_the_link_it_came_from(home, clock):
    one = access(home, clock)
    link = one.link("look")
    clock.advance(LOOK_LINK_S / 2)
    _, given, _ = one.open(link)
    clock.advance(LOOK_LINK_S / 2 + 1)
    assert one.open(link) is None
    assert one.holds(given) is None


def test_a_link_to_act_is_for_the_first_who_opens_it_whichever_server_is_asked(home, clock):
    link = access(home, clock).link("act")
    right, given, _ = access(home, clock).open(link)
    assert right == "act"
    assert access(home, clock).open(link) is None
    assert access(home, clock).holds(given) == "act"
    clock.advance(PASS_S + 1)
    assert access(home, clock).holds(given) is None


def test_a_link_to_act_that_nobody_has_opened_is_soon_worth_nothing(home, clock):
    link = access(home, clock).link("act")
    clock.advance(ACT_LINK_S + 1)
    assert access(home, clock).open(link) is None


def test_a_link_that_opened_is_written_down_before_it_is_of_use(home, clock, monkeypatch):
    one = access(home, clock)
    link = one.link("act")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("supervisor.access.durable.write", full)
    with pytest.raises(OSError, match="No space"):
        one.open(link)
    monkeypatch.undo()
    assert one.open(link) is not None


def test_a_pass_is_no_link_and_a_link_no_pass(home, clock):
    one = access(home, clock)
    link = one.link("look")
    _, given, _ = one.open(link)
    assert one.holds(link) is None
    assert one.open(given) is None


def test_no_letter_of_a_link_may_be_another_one(home, clock):
    one = access(home, clock)
    link = one.link("look")
    for place in range(len(link)):
        other = "0" if link[place] != "0" else "1"
        assert one.open(link[:place] + other + link[place + 1 :]) is None


def test_a_new_token_ends_all_that_was_given_away(home, clock):
    one = access(home, clock)
    old, link = bearer_after(one, home), one.link("look")
    _, given, _ = one.open(link)
    (home.api / TOKEN).unlink()
    assert one.bears(old) is None
    assert one.open(link) is None
    assert one.holds(given) is None
    assert one.bears(bearer(home, TOKEN)) == "act"


def bearer_after(one, home):
    one.link("look")
    return bearer(home, TOKEN)


def test_a_token_that_a_power_cut_has_left_empty_is_made_anew(home, clock):
    access(home, clock).link("look")
    (home.api / TOKEN).write_text("")
    one = access(home, clock)
    assert one.bears("Bearer ") is None
    assert one.bears(bearer_after(one, home)) == "act"


def test_whoever_tries_one_after_the_other_has_to_wait(home, clock):
    one = access(home, clock)
    for _ in range(REFUSALS_MAX):
        one.refuse()
    with pytest.raises(TooManyRefusals):
        one.refuse()
    clock.advance(REFUSALS_S + 1)
    one.refuse()


@pytest.mark.parametrize(
    ("settings", "guarded"),
    [
        (Settings(), False),
        (Settings(web=Web(listen="[::1]:8000")), False),
        (Settings(web=Web(listen="localhost:8000")), False),
        (Settings(web=Web(listen="0.0.0.0:8000")), True),
        (Settings(web=Web(listen="192.168.1.2:8000")), True),
        (Settings(web=Web(hosts=("box.example.org",))), True),
        (Settings(jobs=Jobs(tenants={"ACME": JobTenant(token_env="ACME")})), True),
        (Settings(jobs=Jobs(listen="0.0.0.0:8000")), True),
    ],
)
def test_a_credential_is_needed_wherever_somebody_else_might_ask(home, clock, settings, guarded):
    assert access(home, clock, settings).guarded is guarded


def test_where_a_credential_is_needed_both_tokens_lie_ready(home, clock):
    access(home, clock, Settings(web=Web(listen="0.0.0.0:8000")))
    assert {(home.api / name).is_file() for name in (TOKEN, LOOK_TOKEN)} == {True}


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST.:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.2", True),
        ("a.localhost:1", True),
        ("box.example.org", True),
        ("evil.example", False),
        ("box.example.org.evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("2130706433.example", False),
        ("localhost@evil.example", False),
        ("evil.example:8000#localhost", False),
        ("localhost/..", False),
        ("", False),
        ("localhost:port", False),
    ],
)
def test_no_name_of_a_stranger_leads_here(home, clock, host, known):
    settings = Settings(web=Web(hosts=("box.example.org",)))
    assert access(home, clock, settings).knows(host) is known
