"""Networks learn in pieces, and nothing that interrupts them changes them."""

import json
import random

import numpy as np
import pytest
import safetensors.numpy
import torch
from taught import NETWORKS, TOLD, grown, lesson, seen, table
from torch import nn

from testkit.series import sample_of_a_series
from trainers.contract import BadSpec
from trainers.neural import held, models
from trainers.tables.learning.growing import content_sha256, rmse

EPOCHS = 5
PIECES = 7
"""of an epoch, where each is one batch or one look at rows that are held out, at least"""


class _TooLate(Exception):
    """Somebody cannot wait."""


@pytest.fixture
def in_pieces(monkeypatch):
    """Between any two batches somebody may save."""
    monkeypatch.setattr(models, "PIECE_S", 0.0)


def values(model):
    return {name: array.tobytes() for name, array in model.arrays()}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_that_was_saved_and_read_after_any_step_is_the_same_network(network, in_pieces):
    """In the midst of an epoch, too: weights, moments, scores, and the best epoch so far."""
    taught = lesson(network)
    whole, scores = grown(network, EPOCHS, taught)
    assert len(scores) == EPOCHS
    count, seed = sample_of_a_series(3)
    for number in range(count):
        places = random.Random(seed + number)  # noqa: S311 - a seed that can be told
        resumed_at = {places.randrange(EPOCHS * PIECES) for _ in range(6)}
        model, its = grown(network, EPOCHS, taught, resumed_at)
        assert its == scores
        assert model.saved() == whole.saved()
        told, expected = (one.predict(taught.valid.x, 1) for one in (model, whole))
        assert np.array_equal(told, expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_how_long_a_piece_is_changes_no_bit(network, monkeypatch):
    """It is a matter of the clock, which nothing else may be."""
    taught = lesson(network)
    whole, _ = grown(network, 2, taught)
    monkeypatch.setattr(models, "PIECE_S", 0.0)
    assert grown(network, 2, taught)[0].saved() == whole.saved()


@pytest.mark.parametrize("network", NETWORKS)
def test_an_epoch_whose_end_is_given_up_has_not_ended(network):
    """A stop that cannot wait changes nothing of what comes."""
    taught = lesson(network)
    model = NETWORKS[network].model()

    def give_up(score):
        raise _TooLate

    for whole in range(2):
        with pytest.raises(_TooLate):
            model.grow(taught, 1, give_up)
        assert model.rounds == whole
        model.grow(taught, 1, lambda _: None)
    assert model.saved() == grown(network, 2, taught)[0].saved()


@pytest.mark.parametrize("network", NETWORKS)
def test_its_best_epoch_is_kept_beside_the_last(network):
    """Both can be used alone, and no other is left."""
    taught = lesson(network, learning_rate=0.05)
    model, scores = grown(network, 12, taught)
    best = int(np.argmin(scores)) + 1
    resumed = NETWORKS[network].model(model.saved())
    for rounds in {best, 12}:
        cut = resumed.cut(rounds)
        assert cut.rounds == rounds
        told = cut.predict(taught.valid.x, 1)
        if "autoencoder" in network:
            assert rmse(told, np.zeros(len(told))) == pytest.approx(scores[rounds - 1])
        else:
            assert rmse(told, taught.valid.y) == pytest.approx(scores[rounds - 1])
        assert values(cut) == values(grown(network, rounds, taught)[0])
        assert len(cut.saved()) < len(model.saved()) / 2
        assert NETWORKS[network].model(cut.saved()).saved() == cut.saved()
    with pytest.raises(BadSpec, match="early_stopping_rounds was another"):
        resumed.cut(next(one for one in range(1, 12) if one != best))


@pytest.mark.parametrize("network", NETWORKS)
def test_it_learns_with_the_threads_that_it_is_told(network):
    """And leaves torch to others as it was."""
    before, state = torch.get_num_threads(), torch.get_rng_state()
    heard = []
    NETWORKS[network].model().grow(
        lesson(network, threads=3), 1, lambda _: heard.append(torch.get_num_threads())
    )
    assert heard == [3]
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def of_the_library(network):
    """The same network in torch's own words, and how a batch is given to it."""
    if network == "mlp":
        first, second = TOLD["mlp"]["hidden_sizes"]
        net = nn.Sequential(
            *(nn.Linear(6, first), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(first, second), nn.ReLU(), nn.Dropout(0.2)),
            nn.Linear(second, 1),
        )
        return net, net.__call__
    lstm = nn.LSTM(6, 8, 2, batch_first=True, dropout=0.2)
    dropout, head = nn.Dropout(0.2), nn.Linear(8, 1)
    net = nn.ModuleList([lstm, dropout, head])
    return net, lambda x: head(dropout(lstm(x)[0][:, -1]))


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_torch_itself_learns_the_same_network_on_the_same_batches(network):
    """Nothing but what the library does on its own is in the network."""
    taught = lesson(network)
    model, _ = grown(network, EPOCHS, taught)
    x, y = table()
    plain = x[:300, :3]
    target = taught.train.y
    scaled = np.column_stack(
        [(x[:, :3] - plain.mean(0)) / plain.std(0), np.eye(3)[x[:, 3].astype(int)]]
    )
    scaled = torch.tensor(scaled, dtype=torch.float32)
    windows = scaled.unfold(0, 5, 1).transpose(1, 2) if network == "lstm" else scaled
    learnt = windows[: len(target)]
    wanted = torch.tensor((target - target.mean()) / target.std(), dtype=torch.float32)

    torch.manual_seed(models.seed_of(42, models.WEIGHTS))
    net, told = of_the_library(network)
    rate = taught.hyperparameters["learning_rate"]
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.0001, fused=True)
    for epoch in range(EPOCHS):
        drawn = torch.Generator().manual_seed(models.seed_of(42, models.ORDER, epoch))
        batches = torch.randperm(len(learnt), generator=drawn).split(64)
        for number, rows in enumerate(batches):
            torch.manual_seed(models.seed_of(42, models.DROPOUT, epoch, number))
            loss = nn.functional.mse_loss(told(learnt[rows]).squeeze(-1), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        forecast = told(windows[300:]).squeeze(-1).double().numpy()
    expected = forecast * target.std() + target.mean()
    assert np.array_equal(model.predict(seen(network, x[300:]), 1), expected)
    assert len(expected) == len(y[300:]) - (4 if network == "lstm" else 0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300])
def test_a_feature_that_is_no_number_is_refused_by_its_name(network, odd):
    """In one line that says what to do; to learn from, and to tell something of."""
    x, _ = table()
    x[37, 1] = odd
    with pytest.raises(BadSpec) as refused:
        NETWORKS[network].model().grow(lesson(network, x=x), 1, lambda _: None)
    assert str(refused.value).startswith("b has values that are missing")
    assert 'preprocessing.missing = "median"' in str(refused.value)
    assert "\n" not in str(refused.value)
    model, _ = grown(network, 1, lesson(network))
    with pytest.raises(BadSpec, match="b has values"):
        model.predict(seen(network, x), 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_loss_that_is_no_number_ends_it_in_a_line_that_says_what_to_lower(network):
    with pytest.raises(BadSpec) as refused:
        grown(network, 20, lesson(network, learning_rate=1e30))
    assert "learning_rate must be lower than 1e+30" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("network", NETWORKS)
def test_constants_and_a_handful_of_rows_are_learnt(network):
    """There is little to learn, and nothing to fail by."""
    x, y = table(24)
    x[:, 0], y[:] = 0.1, 7.5
    model, scores = grown(network, 3, lesson(network, rows=24, x=x, y=y))
    assert np.isfinite(scores).all()
    told = model.predict(seen(network, x), 1)
    assert np.isfinite(told).all()
    if "autoencoder" not in network:
        assert abs(told - 7.5).max() < 2


def changed(content, **fields):
    """A file that says something else of itself."""
    about, arrays = held.read(content)
    told = json.loads(held.msgspec.json.encode(about)) | fields
    return safetensors.numpy.save(arrays, {held.KEY: json.dumps(told)})


def with_array(content, name, array):
    about, arrays = held.read(content)
    return held.written(about, {**arrays, name: array})


@pytest.mark.parametrize("network", NETWORKS)
def test_a_file_that_is_none_of_its_kind_is_refused_in_a_line(network):
    """Whatever it says of itself, before any memory is taken for that."""
    kind = NETWORKS[network].model
    whole = grown(network, 1, lesson(network))[0].saved()
    other = next(one for one in NETWORKS if one != network)
    first = next(name for name in held.read(whole)[1] if name.startswith("weights."))
    array = held.read(whole)[1][first]
    huge = {"hidden_sizes": [65_000, 65_000]} if "mlp" in network else {"hidden_size": 65_000}
    broken = [
        b"",
        b"no file at all",
        whole[:-10],
        whole[:200],
        safetensors.numpy.save({"a": np.zeros(3)}),
        changed(whole, network=other),
        changed(whole, more=1),
        changed(whole, epochs=-1),
        changed(whole, version=2),
        changed(whole, categories={"9": 3}),
        changed(whole, categories={"3": 10**30}),
        changed(whole, categories={"3": 10**12}),
        changed(whole, hyperparameters={"layers": 3}),
        changed(whole, hyperparameters=huge),
        changed(whole, features=["a", "b", "c", "d", "e"]),
        with_array(whole, "more", np.zeros(3)),
        with_array(whole, first, array.astype(np.float64)),
        with_array(whole, first, array[..., None]),
        with_array(whole, first, np.full_like(array, np.nan)),
        with_array(whole, first, array.astype(np.int32)),
        with_array(whole, "scale.spread", np.zeros(4)),
    ]
    for content in broken:
        with pytest.raises(ValueError, match="this is no network of ours") as refused:
            kind(content)
        assert "\n" not in str(refused.value)


def test_the_hash_of_its_content_is_of_what_tells_and_of_nothing_else():
    """Equal networks have the same, whatever else is kept of them."""
    taught = lesson("mlp")
    model, _ = grown("mlp", 2, taught)
    digest = content_sha256(model.arrays())
    assert digest == content_sha256(model.cut(2).arrays())
    assert digest != content_sha256(grown("mlp", 1, taught)[0].arrays())
