"""What is to be learnt is told in names that are known; nothing of it is ever evaluated."""

import importlib.util
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers import options, sb3
from trainers.contract import HOME, BadSpec, Spec, Target
from trainers.sb3 import expressions
from trainers.sb3.algorithms import ALGORITHMS, known_of
from trainers.sb3.expressions import Array, Linear, Named, Noise, Unreadable
from trainers.sb3.recipe import recipe_of

ZOO = """
Pendulum-v1: &defaults
  n_timesteps: !!float 2e4
  policy: 'MlpPolicy'
  learning_rate: lin_7.3e-4
  buffer_size: 300000
  batch_size: 1e2
  ent_coef: 'auto'
  train_freq: [1, "episode"]
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  gamma: 0.98
  policy_kwargs: "dict(log_std_init=-3, net_arch=dict(pi=[64], qf=[64, 64]), activation_fn=nn.Tanh)"
MountainCarContinuous-v0:
  <<: *defaults
  noise_type: 'normal'
  noise_std: 0.1
  n_envs: 2
  train_freq: 8
  normalize: false
  vec_env_wrapper:
    - stable_baselines3.common.vec_env.VecFrameStack:
        n_stack: 4
  env_wrapper:
    - gymnasium.wrappers.RescaleAction:
        min_action: -1.0
        max_action: 1.0
    - sb3_contrib.common.wrappers.TimeFeatureWrapper
"""


def spec_of(load=None, **given):
    return Spec(
        run="run",
        trainer="sb3",
        name="Pendulum-v1",
        mode="light",
        threads=1,
        target=Target(unit="steps", count=1000),
        load=load or {},
        options={"algorithm": "sac", **given},
    )


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A home with a zoo in it: `zoo(text)` gives the recipe of a spec."""
    monkeypatch.setenv(HOME, str(tmp_path))

    def recipe(text=ZOO, **given):
        (tmp_path / "zoo.yml").write_text(text, encoding="utf-8")
        spec = spec_of(zoo="zoo.yml", **given)
        options.validate(sb3, spec)
        return recipe_of(spec, tmp_path)

    return recipe


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dict(net_arch=[256, 256])", {"net_arch": [256, 256]}),
        ("{'gamma': 0.99, \"a\": None}", {"gamma": 0.99, "a": None}),
        ("dict(activation_fn=nn.ReLU, a=-3.67)", {"activation_fn": Named("ReLU"), "a": -3.67}),
        ("dict(optimizer_class=th.optim.Adam)", {"optimizer_class": Named("Adam")}),
        ("dict(net_arch=dict(pi=[1], vf=()))", {"net_arch": {"pi": [1], "vf": ()}}),
        ("linear_schedule(3e-4)", Linear(3e-4)),
        ("HerReplayBuffer", Named("HerReplayBuffer")),
        (
            "NormalActionNoise(mean=np.zeros(2), sigma=0.1 * np.ones(2))",
            Noise("NormalActionNoise", {"mean": Array([0.0, 0.0]), "sigma": Array([0.1, 0.1])}),
        ),
    ],
)
def test_what_people_write_into_such_tables_is_read(text, meant):
    """Literals, known names, and calls of them."""
    assert expressions.read(text, "x") == meant


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("__import__('os').system('touch /tmp/pwned')", "__import__"),
        ("dict(a=__import__('os').system('true'))", "__import__"),
        ("().__class__.__bases__[0].__subclasses__()", "__subclasses__"),
        ("eval('1')", "eval"),
        ("dict(activation_fn=os.system)", "os.system"),
        ("dict(activation_fn=nn.Module.ReLU)", "nn.Module.ReLU"),
        ("[x for x in range(9)]", "for x in"),
        ("(lambda: 1)()", "lambda"),
        ("f'{1}'", "f'"),
        ("9 ** 9 ** 9", "9 ** 9 ** 9"),
        ("[0] * 10 ** 9", "10 ** 9"),
        ("np.zeros(10000000000)", "np.zeros"),
        ("dict(**{'a': 1})", "dict"),
        ("b'bytes'", "b'bytes'"),
        ("nn.ReLU()", "nn.ReLU()"),
        ("import os", "import os"),
        ("(" * 3000, "no expression"),
        ("-" * 4000 + "1", "nested"),
        ("a" * 5000, "letters"),
    ],
)
def test_what_is_more_than_that_is_refused_by_name(text, named):
    """Nothing is called to find that out."""
    with pytest.raises(Unreadable) as refused:
        expressions.read(text, "options.x")
    assert "options.x" in str(refused.value)
    assert named in str(refused.value)


@given(st.text(max_size=60) | st.text("()[]{}.,=*-:'\"dictn0 ReLUaos_", max_size=60))
def test_any_text_is_read_or_refused(text):
    """Never anything else comes of it."""
    try:
        expressions.read(text, "x")
    except Unreadable:
        pass


def test_an_entry_of_a_zoo_is_used(zoo):
    """Each of its words, with its text read as what it means."""
    recipe = zoo()
    assert (recipe.policy, recipe.n_envs, recipe.zoo_steps) == ("MlpPolicy", 1, 20_000)
    assert recipe.normalize == {"gamma": 0.98, "norm_obs": True, "norm_reward": False}
    assert recipe.hyperparameters == {
        "learning_rate": Linear(7.3e-4),
        "buffer_size": 300_000,
        "batch_size": 100,
        "ent_coef": "auto",
        "train_freq": (1, "episode"),
        "gamma": 0.98,
        "policy_kwargs": {
            "log_std_init": -3,
            "net_arch": {"pi": [64], "qf": [64, 64]},
            "activation_fn": Named("Tanh"),
        },
    }
    assert recipe.schedule_steps == 1000


def test_what_a_zoo_lays_around_an_environment_is_known(zoo):
    """Noise, stacks and wrappers, in their order; and what others refer to is merged."""
    recipe = zoo(env="MountainCarContinuous-v0")
    assert [(name, dict(given)) for _, name, given in recipe.wrappers] == [
        ("RescaleAction", {"min_action": -1.0, "max_action": 1.0}),
        ("TimeFeatureWrapper", {}),
    ]
    assert (recipe.frame_stack, recipe.n_envs) == (4, 2)
    assert recipe.hyperparameters["action_noise"] == Noise("NormalActionNoise", {"sigma": 0.1})
    assert recipe.hyperparameters["buffer_size"] == 300_000


def test_options_go_before_the_zoo_and_the_mode_before_options(zoo, tmp_path):
    """Whoever is nearer to the run is heard."""
    given = {"learning_rate": "1e-3", "policy_kwargs": {"activation_fn": "nn.ELU"}}
    recipe = zoo(hyperparameters=given, normalize=False)
    assert recipe.normalize is None
    assert recipe.hyperparameters["learning_rate"] == 1e-3
    assert recipe.hyperparameters["policy_kwargs"] == {"activation_fn": Named("ELU")}
    assert recipe_of(spec_of(n_envs=3), None).n_envs == 3
    assert recipe_of(spec_of({"n_envs": 5}, n_envs=3), None).n_envs == 5
    assert "20,000" in (sb3.remark(spec_of(zoo=str(tmp_path / "zoo.yml"))) or "")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Pendulum-v1: {callback: [x.Y]}", "callback"),
        ("Pendulum-v1: {frame_stack: 2, normalize: true}", "frame_stack and normalize"),
        ("Pendulum-v1: {learnin_rate: 1}", "learning_rate"),
        ("Pendulum-v1: {policy: CnnPolcy}", "CnnPolicy"),
        ("Pendulum-v1: {env_wrapper: os.system}", "os.system"),
        ("Pendulum-v1: {env_wrapper: [rl_zoo3.wrappers.FrameSkip: {skip: 2}]}", "FrameSkip"),
        ("Pendulum-v1: {vec_env_wrapper: [a.B]}", "a.B"),
        ("Pendulum-v1: {noise_type: pink, noise_std: 1}", "pink"),
        ("Pendulum-v1: {normalize: {norm_ob: true}}", "norm_obs"),
        ("Pendulum-v1: {n_envs: many}", "many"),
        ("Pendulum-v1: {policy_kwargs: 'exec(1)'}", "exec(1)"),
        ("Pendulum-v1: {replay_buffer_kwargs: {copy_info_dict: true}}", "copy_info_dict"),
        ("Pendulum-v1: {gamma: 2001-01-01}", "2001"),
        ("Pendulum-v1: !!python/object/apply:os.system [true]", "python/object"),
        ("Pendulum-v1: [1", "zoo.yml"),
        ("Pendulum-v0: {}", "Pendulum-v0"),
        ("- 1", "no table"),
    ],
)
def test_what_a_zoo_says_and_nobody_understands_is_refused_by_name(zoo, text, named):
    """Rather than to be passed over."""
    with pytest.raises(BadSpec, match=named.replace("(", r"\(").replace(")", r"\)")):
        zoo(text)


def test_a_zoo_that_refers_to_itself_is_no_bomb(zoo):
    """A few lines that mean billions of values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(BadSpec, match="more than"):
        zoo("\n".join([*lines, "Pendulum-v1: {train_freq: *a8}"]))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"env": "Pendulm-v1"}, "Did you mean: `Pendulum`"),
        ({"env": "Pendulum-v9"}, "v1"),
        ({"env": "no_such_package_here:X-v0"}, "no_such_package_here"),
        ({"env_kwargs": {"gravity": 9}}, "gravity"),
        ({"algorithm": "sacc"}, "did you mean 'sac'"),
        ({"env": "CartPole-v1"}, "sac cannot learn CartPole-v1: its actions are Discrete"),
        ({"algorithm": "dqn"}, "dqn cannot learn Pendulum-v1: its actions are Box"),
        ({"algorithm": "ppo_mask", "env": "CartPole-v1"}, "action_masks"),
        ({"policy": "MlpPolice"}, "did you mean 'MlpPolicy'"),
        ({"hyperparameters": {"bufer_size": 1}}, "did you mean 'buffer_size'"),
        ({"hyperparameters": {"device": "cpu"}}, "sac has no 'device'"),
        ({"hyperparameters": {"learning_rate": "fast"}}, "'fast'"),
        ({"hyperparameters": {"policy_kwargs": {"activation_fn": "os.system"}}}, "os.system"),
        ({"hyperparameters": {"policy_kwargs": [1]}}, "policy_kwargs: [1] is no table"),
        ({"hyperparameters": {"replay_buffer_class": "dict()"}}, "no class"),
        ({"hyperparameters": {"action_noise": 0.1}}, "no noise"),
        ({"hyperparameters": {"train_freq": [1, "episode"]}, "n_envs": 2}, "n_envs must be 1"),
        ({"algorithmm": "sac"}, "did you mean 'algorithm'"),
        ({"zoo": "/nowhere/zoo.yml"}, "/nowhere/zoo.yml"),
    ],
)
def test_what_can_never_work_is_refused_before_anything_starts(given, named):
    """One line names it, and the nearest that there is."""
    with pytest.raises(BadSpec) as refused:
        options.validate(sb3, spec_of(**given))
    assert named in str(refused.value)


def test_a_run_without_a_target_is_refused():
    """An environment never ends by itself."""
    with pytest.raises(BadSpec, match="target"):
        options.validate(sb3, msgspec.structs.replace(spec_of(), target=None))


def test_what_is_in_the_other_library_is_told(monkeypatch):
    """With what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sb3_contrib" else find(name)
    )
    with pytest.raises(BadSpec, match="pip install sb3-contrib"):
        options.validate(sb3, spec_of(algorithm="tqc"))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_source_of_each_algorithm_says_what_it_takes(name):
    """As its constructor does."""
    known = known_of(ALGORITHMS[name])
    assert {"learning_rate", "policy_kwargs"} <= set(known.hyperparameters)
    assert known.policies or name == "ddpg"


def test_a_check_imports_nothing_heavy():
    """Torch takes seconds, and a check is to take none."""
    code = (
        "import sys\nfrom tests_spec import spec\nfrom trainers import options, sb3\n"
        "options.validate(sb3, spec)\nassert 'torch' not in sys.modules\n"
    ).replace(
        "from tests_spec import spec",
        "import msgspec\nfrom trainers.contract import Spec\n"
        f"spec = msgspec.json.decode({msgspec.json.encode(spec_of())!r}, type=Spec)",
    )
    subprocess.run([sys.executable, "-c", code], check=True)
