"""The hyper-parameters of the Atari trainer: published, documented, bounded, and in force."""

import msgspec
import pytest

from trainers import atari, listing, options
from trainers.atari import learner as atari_learner
from trainers.atari import ppo as atari_ppo
from trainers.contract import BadSpec, Spec, Target

PUBLISHED = {
    "gamma": 0.99,
    "nominal_steps": 10_000_000,
    "ppo_learning_rate": 2.5e-4,
    "anneal_learning_rate": True,
    "ppo_max_grad_norm": 0.5,
    "n_epochs": 4,
    "gae_lambda": 0.95,
    "clip_range": 0.1,
    "anneal_clip_range": True,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "dqn_learning_rate": 1e-4,
    "dqn_max_grad_norm": 10.0,
    "buffer_size": 100_000,
    "learning_starts": 100_000,
    "replay_batch_size": 32,
    "transitions_per_update": 4,
    "target_update_interval": 1000,
    "exploration_fraction": 0.1,
    "exploration_initial": 1.0,
    "exploration_final": 0.01,
}


class Model:
    """What a model was asked to be."""

    def __init__(self, *_, **settings):
        self.settings = settings
        self.policy = self

    def to(self, **_):
        """A form, which is none of the settings."""


@pytest.fixture
def built(monkeypatch):
    """Builds the model of some options; in place of the real one, its settings."""
    monkeypatch.setattr(atari_learner, "_Ppo", Model)
    monkeypatch.setattr(atari_learner, "_Dqn", Model)

    def build(n_envs=8, target_steps=1000, **given):
        chosen = atari.Options(**given)
        unit, count = ("steps", target_steps) if target_steps else ("episodes", 1)
        load = atari.Load(n_envs=n_envs)
        spec = Spec(
            run="run",
            trainer="atari",
            name="Pong",
            mode="light",
            threads=1,
            target=Target(unit=unit, count=count),
        )
        if chosen.algorithm == "dqn":
            return atari_learner._dqn(None, spec, load, chosen)
        return atari_learner._ppo(None, spec, load, chosen, atari_ppo.Form())

    return build


def test_the_defaults_are_the_published_values():
    """Nobody who sets nothing learns otherwise than before there was something to set."""
    default = msgspec.structs.asdict(atari.Options())
    assert PUBLISHED.items() <= default.items()
    assert default["n_epochs"] == atari_ppo.N_EPOCHS


def test_each_option_says_what_it_means():
    """`supervisor trainers atari` shows no empty cell, and the limits of each number."""
    for option in listing.table(atari.Options):
        assert option.about
        if option.name in PUBLISHED:
            assert option.type == "yes or no" or "from" in option.type or "above" in option.type


@pytest.mark.parametrize(
    ("given", "setting", "expected"),
    [
        ({"gamma": 0.9}, "gamma", 0.9),
        ({"ppo_max_grad_norm": 2.0}, "max_grad_norm", 2.0),
        ({"n_epochs": 7}, "n_epochs", 7),
        ({"gae_lambda": 0.5}, "gae_lambda", 0.5),
        ({"ent_coef": 0.0}, "ent_coef", 0.0),
        ({"vf_coef": 1.0}, "vf_coef", 1.0),
        ({"ppo_learning_rate": 0.5, "anneal_learning_rate": False}, "learning_rate", 0.5),
        ({"clip_range": 0.3, "anneal_clip_range": False}, "clip_range", 0.3),
        ({"algorithm": "dqn", "gamma": 0.9}, "gamma", 0.9),
        ({"algorithm": "dqn", "dqn_learning_rate": 0.5}, "learning_rate", 0.5),
        ({"algorithm": "dqn", "dqn_max_grad_norm": 2.0}, "max_grad_norm", 2.0),
        ({"algorithm": "dqn", "buffer_size": 5}, "buffer_size", 5),
        ({"algorithm": "dqn", "learning_starts": 5}, "learning_starts", 5),
        ({"algorithm": "dqn", "replay_batch_size": 64}, "batch_size", 64),
        ({"algorithm": "dqn", "target_update_interval": 5}, "target_update_interval", 5),
        ({"algorithm": "dqn", "exploration_fraction": 0.5}, "exploration_fraction", 0.5),
        ({"algorithm": "dqn", "exploration_initial": 0.5}, "exploration_initial_eps", 0.5),
        ({"algorithm": "dqn", "exploration_final": 0.5}, "exploration_final_eps", 0.5),
        ({"algorithm": "dqn", "transitions_per_update": 2}, "gradient_steps", 4),
        ({"algorithm": "dqn", "transitions_per_update": 32}, "train_freq", 4),
    ],
)
def test_what_is_set_is_what_learns(built, given, setting, expected):
    """Each option reaches the algorithm that it is for."""
    assert built().settings.get(setting) != expected
    assert built(**given).settings[setting] == expected


@pytest.mark.parametrize(
    ("name", "setting"), [("ppo_learning_rate", "learning_rate"), ("clip_range", "clip_range")]
)
def test_what_falls_begins_at_the_option_and_ends_at_nothing(built, name, setting):
    """In a straight line, over what is left of the target."""
    falls = built(**{name: 0.4}).settings[setting]
    assert [falls(1.0), falls(0.5), falls(0.0)] == [0.4, 0.2, 0.0]


def test_what_falls_does_so_over_nominal_steps_where_the_target_is_in_episodes(built):
    """Nobody knows how many steps these take."""
    for algorithm in ("ppo", "dqn"):
        given = {"algorithm": algorithm, "nominal_steps": 77}
        assert built(**given).schedule_steps == 1000
        assert built(target_steps=None, **given).schedule_steps == 77


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1.01),
        ("gamma", float("nan")),
        ("ppo_learning_rate", 0.0),
        ("ppo_learning_rate", 25),
        ("dqn_learning_rate", -1e-4),
        ("n_epochs", 0),
        ("n_epochs", 1.5),
        ("clip_range", 0),
        ("ent_coef", -0.1),
        ("ppo_max_grad_norm", 0),
        ("exploration_fraction", 0),
        ("exploration_final", 2),
        ("target_update_interval", 0),
        ("anneal_learning_rate", 1),
    ],
)
def test_what_could_never_learn_is_refused_by_name(name, value):
    """Before anything starts, with the option that is wrong."""
    with pytest.raises(BadSpec, match=rf"^options: .*\$\.{name}"):
        options.converted({name: value}, atari.Options)


def test_a_name_that_both_algorithms_would_have_leads_to_theirs():
    """Whoever writes it as others do is told what it is called here."""
    with pytest.raises(BadSpec, match="did you mean 'ppo_learning_rate'"):
        options.converted({"learning_rate": 1e-3}, atari.Options)
