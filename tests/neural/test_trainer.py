"""What can be asked of the trainer of networks, what it refuses, and what it leaves."""

import csv
import io
import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from PIL import Image

from testkit.tables import hourly, write
from trainers import neural, options
from trainers.attempt import check_fits, read_spec
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, EXIT_DONE, BadSpec, RunFolder, Score
from trainers.neural import held, models
from trainers.session import Session, Stop
from trainers.tables import ConfigValidationError

ROWS, EVERY = 1000, 60
ODD = {"model_type": "anomaly", "data": "odd.csv", "labels": "broken", "test_split": 0.2}


@pytest.fixture
def after_steps(monkeypatch):
    """Does something after so many steps of a network, which can be saved between any two."""
    monkeypatch.setattr(models, "PIECE_S", 0.0)
    real = models.Network._step

    def arrange(count, act):
        left = count

        def step(*arguments):
            nonlocal left
            real(*arguments)
            left -= 1
            if left == 0:
                act()

        monkeypatch.setattr(models.Network, "_step", step)

    return arrange


def train(run, stop=None):
    """An attempt in this process; its exit code, and its session."""
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder), stop=stop)
    neural.train(session)
    return session.finish(), session


def newest(run):
    """The newest checkpoint."""
    return Checkpoints(RunFolder(run).checkpoints).newest().checkpoint.path


def metrics(run):
    return json.loads((run / "metrics.json").read_bytes())


def card(run):
    return json.loads((run / "model_card.json").read_bytes())


def network(run):
    return (run / "model.safetensors").read_bytes()


def change(run, *, threads=1, **fields):
    """Ask for something else: other threads, and options over the old options."""
    spec = json.loads((run / "spec.json").read_bytes())
    spec["threads"] = threads
    spec["options"] |= fields
    (run / "spec.json").write_text(json.dumps(spec))


@pytest.mark.parametrize("algorithm", ["mlp", "lstm"])
def test_a_finished_run_leaves_what_every_run_of_tables_leaves(make_run, algorithm):
    """A network, how good it is beside what costs nothing, and what it was made of."""
    run = make_run(algorithm, epochs=30, told={"learning_rate": 0.01})
    options.validate(neural, read_spec(RunFolder(run)))
    code, session = train(run)
    assert (code, session.step) == (EXIT_DONE, 30)
    told = metrics(run)
    for name in ("mae", "rmse", "mape", "r2_score", "training_duration_seconds", "skill"):
        assert isinstance(told[name], float)
    assert told["r2_score"] > 0.8
    assert told["baselines"].keys() >= {"naive", "seasonal_naive_24", "drift", "mean"}
    assert card(run)["hyperparameters"]["weight_decay"] == 0.0001
    assert card(run)["environment"].keys() >= {"torch", "numpy", "machine"}
    with Image.open(run / "forecast.png") as picture:
        assert picture.width > picture.height > 0
    about, arrays = held.read(network(run))
    assert (about.epochs, about.network) == (30, algorithm)
    assert not [name for name in arrays if not name.startswith(("weights.", "scale."))]


def test_where_no_epoch_is_better_for_so_long_the_best_one_is_used(make_run):
    """What the last ones have made worse is not in the model."""
    run = make_run("mlp", epochs=300, told={"learning_rate": 0.03}, early_stopping_rounds=4)
    code, session = train(run)
    assert code == EXIT_DONE
    assert card(run)["rounds"] + 4 == session.step < 300
    assert session.checkpoint.manifest.score == Score(
        name="rmse", value=pytest.approx(metrics(run)["rmse"]), better="lower"
    )


@pytest.mark.parametrize("steps", [3, 8, 20])
def test_a_stop_in_the_midst_of_an_epoch_is_heard_and_costs_no_bit(make_run, after_steps, steps):
    """However long an epoch would take: what was learnt of it is saved, be it the first."""
    asked = {"epochs": 4, "training_options": {"batch_size": 64}}
    whole, stopped = make_run("lstm", "whole", **asked), make_run("lstm", "stopped", **asked)
    assert train(whole)[0] == EXIT_DONE
    stop = Stop()
    after_steps(steps, lambda: setattr(stop, "requested", True))
    code, session = train(stopped, stop)
    assert code == EXIT_AGAIN
    about, _ = held.read((session.checkpoint.path / "model.safetensors").read_bytes())
    assert (about.steps, about.epochs) == (steps, session.step)
    assert train(stopped)[0] == EXIT_DONE
    assert network(stopped) == network(whole)
    assert card(stopped)["content_sha256"] == card(whole)["content_sha256"]


def test_a_fold_of_a_backtest_goes_on_in_the_midst_of_an_epoch_too(make_run, after_steps):
    """It lies beside the network in its checkpoint."""
    asked = {"epochs": 3, "training_options": {"batch_size": 64}, "backtest": {"folds": 2}}
    whole, stopped = make_run("mlp", "whole", **asked), make_run("mlp", "stopped", **asked)
    assert train(whole)[0] == EXIT_DONE
    steps = held.read((newest(whole) / "model.safetensors").read_bytes())[0].steps
    stop = Stop()
    after_steps(steps + 5, lambda: setattr(stop, "requested", True))
    assert train(stopped, stop)[0] == EXIT_AGAIN
    fold, _ = held.read((newest(stopped) / "model.fold.safetensors").read_bytes())
    assert fold.steps == 5
    assert train(stopped)[0] == EXIT_DONE
    assert metrics(stopped)["backtest"] == metrics(whole)["backtest"]


def test_an_epoch_that_is_longer_than_an_interval_is_saved_within(make_run, after_steps):
    """A crash in the first one costs an interval, and not all of it."""

    def crash():
        raise RuntimeError("the power is gone")

    run = make_run("mlp", training_options={"batch_size": 16})
    after_steps(20, crash)
    with pytest.raises(RuntimeError):
        train(run)
    about, _ = held.read((newest(run) / "model.safetensors").read_bytes())
    assert (about.epochs, about.steps) == (0, 19)


def test_a_run_that_goes_on_with_other_threads_keeps_to_its_own_and_says_so(make_run, after_steps):
    """Torch promises no equal bits otherwise."""
    whole, moved = make_run("mlp", "whole"), make_run("mlp", "moved")
    assert train(whole)[0] == EXIT_DONE
    stop = Stop()
    after_steps(5, lambda: setattr(stop, "requested", True))
    assert train(moved, stop)[0] == EXIT_AGAIN
    change(moved, threads=2)
    assert train(moved)[0] == EXIT_DONE
    notices = json.loads(RunFolder(moved).heartbeat.read_bytes())["notices"]
    assert any("goes on with 1 threads, as it began" in notice for notice in notices)
    assert network(moved) == network(whole)


def test_the_threads_are_settled_before_the_first_step(make_run, after_steps):
    """Killed in it and begun again in another mode, it is the network that it would have been."""

    def crash():
        raise RuntimeError("the power is gone")

    whole, mortal = make_run("mlp", "whole"), make_run("mlp", "mortal")
    assert train(whole)[0] == EXIT_DONE
    after_steps(1, crash)
    with pytest.raises(RuntimeError):
        train(mortal)
    change(mortal, threads=2)
    assert train(mortal)[0] == EXIT_DONE
    assert network(mortal) == network(whole)
    card = json.loads((mortal / "model_card.json").read_bytes())
    assert card["environment"]["threads"] == "1"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"algorithm": "lgbm"}, "Invalid enum value 'lgbm'"),
        ({"hyperparameters": {"layers": 9}}, "hyperparameters: no entry 'layers'"),
        ({"target": None}, "target: Must name the column that is forecast"),
        ({"training_options": {"batch_size": 0}}, "batch_size"),
        ({"device": "tpu"}, "device"),
        ({"model_type": "anomaly", "hyperparameters": {}}, "target: Must be unset"),
        (
            {"model_type": "anomaly", "hyperparameters": {}, "target": None, "backtest": {}},
            "backtest: Must be unset",
        ),
    ],
)
def test_what_can_never_work_is_refused_in_one_line(make_run, asked, said):
    """Before anything is read; the line names the field."""
    run = make_run("mlp")
    change(run, **asked)
    with pytest.raises(BadSpec) as refused:
        options.validate(neural, read_spec(RunFolder(run)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_options_count_in_the_unit_of_the_trainer(make_run):
    """The registry reads the one, and a run's target is compared with the other."""
    assert neural.Options.UNIT == neural.UNIT
    run = make_run("mlp", upto={"unit": "epochs", "count": 3})
    assert train(run)[1].step == 3
    with pytest.raises(BadSpec, match="this trainer counts epochs"):
        options.validate(
            neural,
            read_spec(RunFolder(make_run("mlp", "more", upto={"unit": "rounds", "count": 3}))),
        )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.001 so far, and is 0.5 now"),
        ({"hidden_sizes": [8]}, "hidden_sizes was [16] so far, and is [8] now"),
        ({"epochs": 2}, "it has made 6 epochs, and nothing is left of the first 2"),
    ],
)
def test_what_a_network_was_not_trained_with_is_refused_before_anything_stops(
    make_run, asked, said
):
    """The line says how to begin anew."""
    run = make_run("mlp")
    train(run)
    change(run, hyperparameters={"hidden_sizes": [16], "dropout": 0.1, "epochs": 6, **asked})
    with pytest.raises(BadSpec) as refused:
        check_fits(run, read_spec(RunFolder(run)))
    assert said in str(refused.value)
    assert "supervisor rewind run start" in str(refused.value)


def test_a_gpu_is_for_those_who_ask_for_it_and_have_one(make_run, monkeypatch):
    """A driver that is away may be back after the next boot, so its absence is no bad spec."""
    spec = read_spec(RunFolder(make_run("mlp")))
    dealt = msgspec.structs.replace(spec, gpus=("GPU-0",))
    for there in (True, False):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert neural.Options().on(dealt) == "cpu"
        assert neural.Options(device="auto").on(spec) == "cpu"
        assert neural.Options(device="auto").on(dealt) == ("cuda" if there else "cpu")
    with pytest.raises(RuntimeError, match="no usable GPU"):
        neural.Options(device="cuda").on(spec)


def test_more_epochs_are_added_to_a_network_that_is_whole(make_run):
    """What comes of it is what had come at once."""
    run, straight = make_run("mlp", epochs=4), make_run("mlp", "straight", epochs=9)
    train(run)
    change(run, hyperparameters={"hidden_sizes": [16], "dropout": 0.1, "epochs": 9})
    assert train(run)[0] == EXIT_DONE
    train(straight)
    assert network(run) == network(straight)


def test_a_process_that_has_seen_none_of_it_forecasts_the_same(make_run, tmp_path):
    """From the checkpoint, and from the exported file, with the past that the table has."""
    run = make_run("lstm", told={"learning_rate": 0.01}, test_split=0.1)
    assert train(run)[0] == EXIT_DONE

    asked = ["neural", "--run", str(run), "--predict", str(tmp_path / "loads.csv")]
    command = [sys.executable, "-m", "trainers", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[-1]["time"] == "2024-01-30T03:00:00Z"
    columns, hours = hourly(700), np.arange(48, 700)
    load = columns["load"]
    x = np.column_stack([columns["temperature"][48:], hours % 24, load[24:-24], load[:-48]])
    kind = neural.Options.ALGORITHMS["lstm"].model
    neural.export(read_spec(RunFolder(run)), newest(run), tmp_path / kind.FILE)
    assert (tmp_path / kind.FILE).read_bytes() == network(run)
    told = kind(network(run)).predict(models.Windows(x, np.arange(3, len(x)), 4), 1)
    assert [float(row["forecast"]) for row in rows] == list(told)
    assert len(told) == 700 - 48 - 3
    held_out = [
        abs(float(row["forecast"]) - true) for row, true in zip(rows[-70:], load[-70:], strict=True)
    ]
    assert np.mean(held_out) == pytest.approx(metrics(run)["mae"])


def test_text_is_a_category_and_one_that_nobody_has_seen_is_forecast_too(make_run, tmp_path):
    """It is one more place among zeros."""
    columns = hourly(900)
    columns["sky"] = np.array(["clear", "rain", "snow"])[np.arange(900) // 7 % 3]
    columns["load"] = columns["load"] + 30 * (columns["sky"] == "rain")
    write(tmp_path / "skies.csv", columns)
    asked = {"features": ["sky", "hour_of_day"], "data": "skies.csv", "epochs": 30}
    run = make_run("mlp", told={"learning_rate": 0.01}, **asked)
    assert train(run)[0] == EXIT_DONE
    later = hourly(20, seed=5) | {"sky": np.array(["rain", "clear", "hail", "snow"] * 5)}
    out = tmp_path / "out.json"
    spec, checkpoint = read_spec(RunFolder(run)), newest(run)
    assert neural.predict(spec, checkpoint, write(tmp_path / "later.csv", later), out) == 20
    forecast = [row["forecast"] for row in json.loads(out.read_bytes())]
    assert forecast[0] - forecast[1] > 15


def test_a_learning_rate_that_is_too_high_fails_the_run_in_a_line(make_run):
    """It says what to lower."""
    run = make_run("mlp", told={"learning_rate": 1e30})
    with pytest.raises(BadSpec, match=r"learning_rate must be lower than 1e\+30"):
        train(run)


def test_a_network_whose_file_leads_astray_forecasts_nothing(make_run, tmp_path):
    """In one line that names the file."""
    run = make_run("mlp")
    train(run)
    checkpoint = newest(run)
    (checkpoint / "model.safetensors").write_bytes(b"no network")
    with pytest.raises(BadSpec, match=r"model.safetensors: this is no network of ours"):
        neural.export(read_spec(RunFolder(run)), checkpoint, tmp_path / "out")


@pytest.mark.parametrize("algorithm", ["mlp", "lstm"])
def test_an_autoencoder_finds_what_it_cannot_reconstruct(make_run, tmp_path, algorithm):
    """Judged by labels on a part that has chosen no threshold; they teach it nothing."""
    columns = hourly(ROWS)
    columns["broken"] = (np.arange(ROWS) % EVERY == EVERY - 1).astype(int)
    columns["load"] = columns["load"] + 90 * columns["broken"]
    write(tmp_path / "odd.csv", columns)
    told = {"learning_rate": 0.01}
    run = make_run(algorithm, epochs=25, told=told, early_stopping_rounds=10, **ODD)
    code, session = train(run)
    assert code == EXIT_DONE
    found = metrics(run)
    assert found["judged_on"] == "test"
    assert found["pr_auc"] > 0.5
    assert found["lift"] > 20
    assert "mae" not in found
    assert session.checkpoint.manifest.score.name == "pr_auc"
    out = tmp_path / "out.json"
    checkpoint = session.checkpoint.path
    count = neural.predict(read_spec(RunFolder(run)), checkpoint, tmp_path / "odd.csv", out)
    rows = json.loads(out.read_bytes())
    assert count == len(rows) == ROWS - (3 if algorithm == "lstm" else 0)
    strangest = sorted(rows, key=lambda row: -row["score"])[:8]
    assert sum(row["time"][11:13] in {"11", "23"} for row in strangest) > 5
    assert {row["anomaly"] for row in rows} == {0, 1}
    without = make_run(algorithm, "without", epochs=2, **{**ODD, "labels": None})
    train(without)
    assert metrics(without)["pr_auc"] is None


def test_a_target_of_an_autoencoder_is_refused_with_the_details_of_an_api(make_run):
    run = make_run("mlp", model_type="anomaly", target="load")
    with pytest.raises(ConfigValidationError) as refused:
        options.validate(neural, read_spec(RunFolder(run)))
    assert refused.value.details["field"] == "target"
