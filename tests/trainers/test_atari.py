"""Real games, trained for a little, interrupted in every way, and resumed."""

import io
import shutil
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from trainer_lives import names_in, write_spec

from trainers import anew, atari, baselines, durable, packages
from trainers.__main__ import main
from trainers.atari import forms as atari_forms
from trainers.atari import game as atari_game
from trainers.atari import learner as atari_learner
from trainers.atari import ppo as atari_ppo
from trainers.atari import snapshot as atari_snapshot
from trainers.atari.env import AtariGames
from trainers.atari.native import NativeGames
from trainers.atari.options import PPO_CONDITIONS
from trainers.attempt import read_spec
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, EXIT_DONE, BadSpec, RunFolder, Spec, Target
from trainers.options import load_of
from trainers.session import Session, Stop

pytestmark = pytest.mark.slow

ROLLOUT_STEPS = 128
SMALL = {
    "trainer": "atari",
    "name": "Pong",
    "n_envs": 4,
    "batch_size": 64,
    "checkpoint_interval_s": 0.001,
}


def options(**fields):
    return {"rollout_steps": ROLLOUT_STEPS, "device": "cpu", **fields}


class StopAtOptimizerStep(Stop):
    """Asks for a stop when the optimizer has made so many steps."""

    def __init__(self, steps, monkeypatch):
        super().__init__()
        self._left = steps
        step = atari_ppo.Adam.step

        def counted(optimizer):
            step(optimizer)
            self._left -= 1
            self.requested = self._left <= 0

        monkeypatch.setattr(atari_ppo.Adam, "step", counted)


class StopAtStep(Stop):
    """Asks for a stop when the session has come so far."""

    session = None

    def __init__(self, step):
        self._step = step

    @property
    def requested(self):
        return self.session is not None and self.session.step >= self._step


def live(run, stop=None):
    """One life in this process, which has torch loaded already; its session and exit code."""
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder), stop=stop)
    if isinstance(stop, StopAtStep):
        stop.session = session
    atari.train(session)
    return session, session.finish()


def state_of(run, step=None):
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint
    path = run / "checkpoints" / str(step) if step else checkpoint.path
    return torch.load(path / "state.pt", weights_only=True)


def metrics_of(run):
    return [msgspec.json.decode(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]


def same_weights(one, other):
    return all(torch.equal(one["policy"][key], other["policy"][key]) for key in one["policy"])


@pytest.fixture(autouse=True, scope="module")
def _loaded():
    """Emulators that are loaded once, for the games of all lives in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atari_game, "_loaded", {})
        atari_game.preload("pong", SMALL["n_envs"])
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, _loaded):
    """A run of Pong that has learnt 256 steps, its target."""
    run = tmp_path_factory.mktemp("trained") / "run"
    run.mkdir()
    write_spec(run, **SMALL, target_steps=256, options=options())
    _, code = live(run)
    assert code == EXIT_DONE
    return run


@pytest.fixture
def copy(trained, tmp_path):
    """Copies the trained run and gives it another spec."""

    def make(**fields):
        run = tmp_path / "run"
        shutil.copytree(trained, run)
        write_spec(run, **{**SMALL, "options": options(), **fields})
        return run

    return make


def test_a_resume_with_twice_the_environments_goes_on_as_if_nothing_happened(copy):
    """Steps, updates, optimizer and schedules continue when the mode doubles the load."""
    run = copy(n_envs=8, target_steps=512)
    before = state_of(run)
    session, code = live(run)
    assert (code, session.step) == (EXIT_DONE, 512)
    after = state_of(run)
    assert (before["num_timesteps"], after["num_timesteps"]) == (256, 512)
    assert (before["n_updates"], after["n_updates"]) == (8, 16)
    steps = {int(slot["step"]) for slot in after["optimizer"]["state"].values()}
    assert steps == {4 * (512 // 64)}
    assert not same_weights(before, after)
    lines = metrics_of(run)
    assert [line["step"] for line in lines] == [128, 256, 384, 512]
    rates = [line["train/learning_rate"] for line in lines]
    assert rates == pytest.approx([1.25e-4, 0.0, 2.5e-4 * 0.25, 0.0])
    clips = [line["train/clip_range"] for line in lines]
    assert clips == pytest.approx([0.05, 0.0, 0.025, 0.0])
    assert len(names_in(run / "tensorboard")) == 2


def test_the_first_games_are_not_played_again(trained):
    """A resumed life opens with other games than the first, and the same ones each time."""
    spec = read_spec(RunFolder(trained))
    first, later, again = (atari._seeds(spec, step, 4) for step in (0, 256, 256))
    assert later == again
    assert not set(first) & set(later)


@pytest.mark.parametrize(
    "change",
    [
        {"n_envs": 3},
        {"threads": 2},
        {"batch_size": 7},
        {"environments": "native"},
        {"rollout_steps": 99},
        {"sticky_actions": 0.25},
        {"convolutions": "contiguous"},
        {"gamma": 0.9},
        {"nominal_steps": 10},
        {"ppo_learning_rate": 1e-3},
        {"anneal_learning_rate": False},
        {"ppo_max_grad_norm": 1.0},
        {"n_epochs": 3},
        {"gae_lambda": 0.9},
        {"clip_range": 0.2},
        {"anneal_clip_range": False},
        {"ent_coef": 0.0},
        {"vf_coef": 1.0},
    ],
)
def test_what_moves_a_bit_is_a_condition(change):
    """Two lives that differ in it are told apart by their conditions, and by nothing else."""

    def conditions(**values):
        spec = msgspec.structs.replace(_spec("Pong"), **part_of(Spec, values))
        form = atari_ppo.Form(**part_of(atari_ppo.Form, values))
        cpu = torch.device("cpu")
        load = atari.Load(**part_of(atari.Load, values))
        options = atari.Options(**part_of(atari.Options, values))
        return atari_snapshot.conditions(spec, load, options, form, cpu)

    def part_of(kind, values):
        return {key: value for key, value in values.items() if key in kind.__struct_fields__}

    plain = conditions()
    assert {**plain, **change} == conditions(**change) != plain
    versions = {"torch", "ale-py", "numpy", "stable-baselines3", "arithmetic"}
    assert versions | {"processor", "device"} < plain.keys()


def test_random_numbers_go_on_after_a_resume(copy):
    """The random states of the checkpoint are those that the next life draws from."""
    run = copy(target_steps=512)
    session, _ = live(run, StopAtStep(256 + 4))
    assert session.step == 256 + 4
    before = state_of(run)["random"]
    baselines.set_random_states(model := _model(run), before)
    after = baselines.random_states(model)
    assert before["python"] == after["python"]
    assert before["numpy"] == after["numpy"]
    assert before["actions"] == after["actions"]
    assert torch.equal(before["torch"], after["torch"])
    drawn = np.random.get_state(legacy=False)["state"]["key"].tolist()
    assert drawn == before["numpy"]["state"]["key"]


def _model(run):
    spec = read_spec(RunFolder(run))
    load = load_of(spec, atari.Load)
    games = AtariGames(NativeGames("pong", [1] * load.n_envs, threads=1))
    options = atari.Options(rollout_steps=ROLLOUT_STEPS)
    return atari_learner._ppo(games, spec, load, options, atari_ppo.Form())


def test_native_environments_begin_anew_in_silence(copy):
    """Their checkpoints hold no games; going back to exact ones is told."""
    native = options(environments="native")
    run = copy(target_steps=384, options=native)
    session, code = live(run)
    assert (code, session.step) == (EXIT_DONE, 384)
    assert names_in(run / "checkpoints" / "384") == [
        "manifest.json",
        "manifest.sha256",
        "state.pt",
    ]
    write_spec(run, **SMALL, target_steps=512, options=native)
    assert live(run)[1] == EXIT_DONE
    assert "goes on" not in (run / "heartbeat.json").read_text()
    write_spec(run, **SMALL, target_steps=640, options=options())
    assert live(run)[1] == EXIT_DONE
    assert "with new games: environments exact, not native" in (run / "heartbeat.json").read_text()


def test_what_a_probe_chose_is_used_and_kept(copy):
    """The checkpoint names the form; a choice of another machine is told and not used."""
    tuning = {
        "load": {"threads": 1, "batch_size": 64},
        "machine": atari_forms.machine(torch.device("cpu")),
        "choice": {"convolutions": "space_to_depth"},
        "took_s": {},
    }
    run = copy(target_steps=384, tunings=[tuning])
    session, code = live(run)
    assert (code, session.step) == (EXIT_DONE, 384)
    assert state_of(run)["conditions"]["convolutions"] == "space_to_depth"
    said = (run / "heartbeat.json").read_text()
    assert "not to the bit as without the interruption: convolutions space_to_depth" in said
    tuning["machine"]["torch"] = "0.1"
    write_spec(run, **SMALL, target_steps=512, options=options(), tunings=[tuning])
    assert live(run)[1] == EXIT_DONE
    assert state_of(run)["conditions"]["convolutions"] == "channels_last"
    said = (run / "heartbeat.json").read_text()
    assert "is not for this machine: torch" in said


def test_a_hyper_parameter_that_changes_in_the_midst_of_a_run_holds_from_there(copy):
    """What was learnt stays; what follows is learnt in the new way, and a person hears of it."""
    run = copy(target_steps=512, options=options(ppo_learning_rate=1e-3, anneal_clip_range=False))
    assert live(run)[1] == EXIT_DONE
    lines = metrics_of(run)[2:]
    assert [line["train/learning_rate"] for line in lines] == pytest.approx([2.5e-4, 0.0])
    assert [line["train/clip_range"] for line in lines] == [0.1, 0.1]
    (notice,) = msgspec.json.decode((run / "heartbeat.json").read_bytes())["notices"]
    assert notice == (
        "it goes on from step 256 not to the bit as without the interruption: "
        "ppo_learning_rate 0.001, not 0.00025; anneal_clip_range False, not True"
    )
    write_spec(run, **SMALL, target_steps=640, options=options())
    assert live(run)[1] == EXIT_DONE
    assert "ppo_learning_rate 0.00025, not 0.001" in (run / "heartbeat.json").read_text()


def test_a_checkpoint_from_before_there_were_such_options_is_as_published(copy):
    """A run that an earlier version began goes on to the bit, and nothing is told."""
    run = copy(target_steps=384)
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint
    state = state_of(run)
    for name in PPO_CONDITIONS:
        del state["conditions"][name]
    content = io.BytesIO()
    torch.save(state, content)
    files = {name: (checkpoint.path / name).read_bytes() for name in checkpoint.manifest.files}
    files["state.pt"] = content.getvalue()
    manifest = msgspec.structs.replace(checkpoint.manifest, files={})
    Checkpoints(run / "checkpoints").save(manifest, files.items(), replace=True)
    assert live(run)[1] == EXIT_DONE
    assert "goes on" not in (run / "heartbeat.json").read_text()
    write_spec(run, **SMALL, target_steps=512, options=options(gamma=0.9))
    assert live(run)[1] == EXIT_DONE
    assert "gamma 0.9, not 0.99" in (run / "heartbeat.json").read_text()


@pytest.mark.parametrize("n_epochs", [1, 6])
def test_an_update_that_was_left_ends_after_the_epochs_of_now(copy, monkeypatch, n_epochs):
    """It was left in its third epoch of four; one is enough then, or six are made."""
    run = copy(target_steps=512, checkpoint_interval_s=1000.0)
    _, code = live(run, StopAtOptimizerStep(5, monkeypatch))
    assert (code, state_of(run)["unfinished"]["epoch"]) == (EXIT_AGAIN, 2)
    write_spec(run, **SMALL, target_steps=512, options=options(n_epochs=n_epochs))
    monkeypatch.undo()
    session, code = live(run)
    assert (code, session.step) == (EXIT_DONE, 512)
    learnt = 8 + max(2, n_epochs) + n_epochs
    assert state_of(run)["n_updates"] == learnt
    assert f"n_epochs {n_epochs}, not 4" in (run / "heartbeat.json").read_text()


def test_a_stop_in_mid_rollout_keeps_what_was_played(copy):
    """Its steps are counted, and wait to be learnt from; the weights are those that played them."""
    run = copy(target_steps=10_000, checkpoint_interval_s=1000.0)
    session, code = live(run, StopAtStep(256 + ROLLOUT_STEPS + 40))
    assert (code, session.step) == (EXIT_AGAIN, 256 + ROLLOUT_STEPS + 40)
    state = state_of(run)
    assert state["num_timesteps"] == 256 + ROLLOUT_STEPS + 40
    assert state["n_updates"] == 12
    assert len(state["unfinished"]["steps"]["rewards"]) == 10
    assert not same_weights(state, state_of(run, 256))


def test_a_stop_in_mid_update_keeps_what_was_learnt(copy, monkeypatch):
    """The weights have half an update in them, and how far it is lies beside them."""
    run = copy(target_steps=10_000, checkpoint_interval_s=1000.0)
    _, code = live(run, StopAtOptimizerStep(8 + 3, monkeypatch))
    assert code == EXIT_AGAIN
    state = state_of(run)
    assert state["num_timesteps"] == 256 + 2 * ROLLOUT_STEPS
    steps = {int(slot["step"]) for slot in state["optimizer"]["state"].values()}
    assert steps == {16 + 8 + 3}
    left = state["unfinished"]
    assert (left["epoch"], left["done"], len(left["told"])) == (1, 64, 3)
    assert not same_weights(state, state_of(run, 256))


def test_a_checkpoint_that_is_written_slowly_holds_one_moment(copy, monkeypatch):
    """The next copy, taken a cycle later, leaves alone what a thread may still be writing."""
    take, save = atari_learner._Pilot._snapshot, atari_learner._Pilot._save
    saved = []
    unchanged = []

    def taken(pilot):
        snapshot = take(pilot)
        unchanged.extend(dict(earlier.files()) == files for earlier, files in saved)
        saved.clear()
        return snapshot

    def keep(pilot, snapshot, *, wait):
        saved.append((snapshot, dict(snapshot.files())))
        save(pilot, snapshot, wait=wait)

    monkeypatch.setattr(atari_learner._Pilot, "_snapshot", taken)
    monkeypatch.setattr(atari_learner._Pilot, "_save", keep)
    _, code = live(copy(target_steps=256 + 3 * ROLLOUT_STEPS, checkpoint_interval_s=0.001))
    assert (code, unchanged) == (EXIT_DONE, [True, True])


def test_weights_that_are_not_numbers_are_never_saved(copy, monkeypatch):
    """Such a life ends, and leaves the checkpoint before to the next one."""
    take = atari_learner._Pilot._snapshot

    def spoilt(pilot):
        snapshot = take(pilot)
        if snapshot.state["num_timesteps"] > 256:
            snapshot.state["policy"]["action_net.bias"][0] = float("nan")
        return snapshot

    monkeypatch.setattr(atari_learner._Pilot, "_snapshot", spoilt)
    run = copy(target_steps=512)
    with pytest.raises(FloatingPointError, match="not finite numbers"):
        live(run)
    assert state_of(run)["num_timesteps"] == 256


def test_a_stop_in_the_first_rollout_loses_nothing(tmp_path):
    """Nothing was learnt yet, and the first steps are kept all the same."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, **SMALL, options=options())
    session, code = live(run, StopAtStep(8))
    assert (code, session.step) == (EXIT_AGAIN, 8)
    assert state_of(run)["num_timesteps"] == 8


def test_a_finished_run_is_left_without_loading_torch(trained):
    """Starting a run that is done costs nothing: exit 0, and nothing heavy is imported."""
    for arguments in ([], ["--check"]):
        done = subprocess.run(
            [
                *(sys.executable, "-X", "importtime"),
                *("-m", "trainers", "atari", "--run", str(trained), *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0
        assert "msgspec" in done.stderr
        assert "torch" not in done.stderr


def test_kill_in_mid_write_and_resume_with_twice_the_environments(copy, start):
    """Kill -9 of a real trainer in the middle of a checkpoint; the next goes on from the newest."""
    run = copy(target_steps=100_000)
    life = start(run, "atari")
    folder = run / "checkpoints"
    life.wait_for(lambda: any(int(path.name) > 256 for path in folder.glob("[0-9]*")))
    life.wait_for(lambda: any(folder.glob(".*.new/state.pt")))
    life.signal(signal.SIGKILL)
    assert life.end()[0] == -signal.SIGKILL
    found = Checkpoints(folder).newest()
    assert not found.passed_over
    step = found.checkpoint.manifest.step
    assert step > 256
    write_spec(run, **{**SMALL, "n_envs": 8, "target_steps": step + 1, "options": options()})
    life = start(run, "atari")
    assert life.end()[0] == EXIT_DONE
    beat = life.heartbeat()
    assert beat["step"] == beat["checkpoint_step"] == step + ROLLOUT_STEPS
    assert beat["notices"] == [f"it goes on from step {step} with new games: n_envs 8, not 4"]
    assert metrics_of(run)[-1]["step"] == step + ROLLOUT_STEPS


def test_sigterm_stops_a_real_trainer(copy, start):
    """A real SIGTERM in a real rollout: exit 75, and every step that was played is kept."""
    run = copy(target_steps=10_000_000, options=options(rollout_steps=20_480))
    life = start(run, "atari")
    life.wait_for_step(257)
    life.signal(signal.SIGTERM)
    code, _, errors = life.end()
    assert code == EXIT_AGAIN
    assert "not to the bit as without the interruption: rollout_steps 20480, not 128" in errors
    assert errors.count("\n") == 1
    beat = life.heartbeat()
    assert beat["status"] == "stopped"
    assert 256 < beat["step"] == beat["checkpoint_step"] == beat["reached"]["step"]


def test_a_damaged_newest_checkpoint_costs_one_rollout(copy):
    """The one before is resumed from, and the run says so."""
    run = copy(target_steps=256)
    state = run / "checkpoints" / "256" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1])
    session, code = live(run)
    assert (code, session.step) == (EXIT_DONE, 256)
    assert "checkpoint 256 is damaged" in (run / "heartbeat.json").read_text()


def test_another_algorithm_or_game_needs_a_new_run(copy):
    """A checkpoint of PPO is no checkpoint of DQN, and Pong is not Breakout."""
    for fields in ({"options": options(algorithm="dqn")}, {"options": options(game="Breakout")}):
        run = copy(target_steps=10_000, **fields)
        with pytest.raises(BadSpec, match="is another run, under a label of its own"):
            live(run)
        shutil.rmtree(run)


def test_greedy_games_are_whole_and_disturb_nothing(trained, capsys, monkeypatch):
    """Evaluation plays whole games beside a living trainer, and writes nothing into the run."""
    files = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    lock = durable.hold(trained)
    code = main(["atari", "--run", str(trained), "--evaluate", "3", "--json"])
    lock.release()
    assert code == 0
    result = msgspec.json.decode(capsys.readouterr().out)
    assert len(result["returns"]) == result["episodes"] == 3
    assert all(-21 <= value <= 21 and value == int(value) for value in result["returns"])
    assert min(abs(value) for value in result["returns"]) > 0
    assert result["return_mean"] == pytest.approx(sum(result["returns"]) / 3)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == files


def test_without_a_checkpoint_there_is_nothing_to_evaluate(tmp_path, capsys):
    """One line says so; it may be different later."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, **SMALL, options=options())
    assert main(["atari", "--run", str(run), "--evaluate", "1"]) == EXIT_AGAIN
    assert "no usable checkpoint" in capsys.readouterr().err


def test_dqn_refills_its_replay_buffer_before_it_learns_again(tmp_path):
    """The buffer is not saved: a resumed life collects first, then the updates count on."""
    run = tmp_path / "run"
    run.mkdir()
    small = options(algorithm="dqn", learning_starts=100, buffer_size=400)
    write_spec(run, **SMALL, target_steps=160, options=small)
    _, code = live(run)
    assert code == EXIT_DONE
    before = state_of(run)
    assert 0 < before["n_updates"] <= 15
    write_spec(run, **{**SMALL, "n_envs": 8}, target_steps=248, options=small)
    _, code = live(run)
    assert code == EXIT_DONE
    middle = state_of(run)
    assert middle["n_updates"] == before["n_updates"]
    assert middle["num_timesteps"] == 248
    write_spec(run, **SMALL, target_steps=400, options=small)
    live(run)
    after = state_of(run)
    assert 0 < after["n_updates"] - middle["n_updates"] <= (152 - 100) // 4 + 1
    assert not same_weights(middle, after)


@pytest.mark.parametrize(
    ("game", "rom"),
    [
        ("MsPacman", "ms_pacman"),
        ("Asteroids", "asteroids"),
        ("Seaquest", "seaquest"),
        ("BeamRider", "beam_rider"),
        ("SpaceInvaders", "space_invaders"),
        ("Enduro", "enduro"),
        ("UpNDown", "up_n_down"),
        ("ms_pacman", "ms_pacman"),
    ],
)
def test_games_are_called_as_in_publications(game, rom):
    """Games go by their usual names."""
    assert atari.rom_of(_spec(game), atari.Options()) == rom


@pytest.mark.parametrize(
    ("game", "meant"),
    [
        ("MsPackman", "MsPacman"),
        ("ALE/Pong-v5", "Pong"),
        ("PongNoFrameskip-v4", "Pong"),
        ("Pong-ram-v0", "Pong"),
        ("Space Invaders", "SpaceInvaders"),
        ("BreakoutDeterministic-v4", "Breakout"),
        ("MontezumasRevenge-v0", "MontezumaRevenge"),
        ("Ms. Pac-Man", "MsPacman"),
        ("Q*bert", "Qbert"),
    ],
)
def test_a_misspelt_game_gets_a_suggestion(game, meant):
    """The message names what could have been meant, also by a name of another library."""
    with pytest.raises(BadSpec, match=rf"did you mean {meant}\b"):
        atari.rom_of(_spec("Anything"), atari.Options(game=game))


@pytest.mark.parametrize("game", ["Combat", "MazeCraze", "Warlords"])
def test_games_for_several_players_are_refused(game):
    """The emulator ends the whole process at the attempt to load one, so none is tried."""
    with pytest.raises(BadSpec, match="with one player"):
        atari.check(_spec(game))


def _spec(game, **fields):
    return Spec(
        run="run",
        trainer="atari",
        name=game,
        mode="light",
        load={"n_envs": 4, "batch_size": 64},
        threads=1,
        target=Target(unit="steps", count=1),
        **fields,
    )


def test_checking_a_spec(tmp_path, start):
    """A good spec is exit 0 in silence, a bad one exit 78 and one line."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, **SMALL, options=options())
    assert start(run, "atari", "--check").end() == (0, "", "")
    write_spec(run, **SMALL, options=options(device="tpu"))
    code, _, errors = start(run, "atari", "--check").end()
    assert code == EXIT_BAD_SPEC
    assert errors.count("\n") == 1


def test_a_game_that_cannot_be_cloned_is_named(tmp_path, start):
    """It can be trained, so the check is passed, with a line for the doctor to pass on."""
    run = tmp_path / "run"
    run.mkdir()
    write_spec(run, **{**SMALL, "name": "MiniatureGolf"}, options=options())
    code, _, errors = start(run, "atari", "--check").end()
    assert code == 0
    assert "miniature_golf cannot be cloned exactly" in errors


def test_a_game_is_not_looked_for_without_its_packages(monkeypatch):
    """What is too old is told before it is imported, and fails."""
    packages.require.cache_clear()
    monkeypatch.setattr(packages, "_minimums", lambda extra: (("ale-py", "99"),))
    with pytest.raises(BadSpec, match=r"^ale-py [0-9.]+ is too old, 99 at least: pip install"):
        atari.check(_spec("NoGame"))


@pytest.mark.parametrize("n_envs", [8, 32, 64])
def test_every_mode_has_the_same_update_cycle(n_envs, monkeypatch):
    """A rollout is 4096 transitions with any number of environments."""
    monkeypatch.setattr(atari_learner, "_Ppo", lambda *_, **fields: _Fields(fields))
    load = atari.Load(n_envs=n_envs, batch_size=512)
    model = atari_learner._ppo(None, _spec("Pong"), load, atari.Options(), atari_ppo.Form())
    assert model.fields["n_steps"] * n_envs == 4096
    assert model.fields["batch_size"] == 512


class _Fields:
    def __init__(self, fields):
        self.fields = fields


def test_a_run_begins_with_the_weights_of_another(trained, tmp_path):
    """Its steps and episodes count from 0, and its games are its own."""
    fresh = tmp_path / "fresh"
    shutil.copytree(trained, tmp_path / "old")
    fresh.mkdir()
    write_spec(fresh, **SMALL, target_steps=128, options=options(), begin_from="old")
    anew.begin(RunFolder(fresh), read_spec(RunFolder(fresh)))
    session, code = live(fresh)
    assert code == EXIT_DONE
    assert session.step == 128
    before = torch.load(tmp_path / "old/checkpoints/256/state.pt", weights_only=True)
    begun = torch.load(fresh / "checkpoints/0/state.pt", weights_only=True)
    assert same_weights(before, begun)
    assert (begun["num_timesteps"], begun["games"], begun["best"]) == (0, 0, None)
