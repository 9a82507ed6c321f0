"""The multilayer perceptron: its gradient, its schedule, and what it can learn that a linear model cannot."""

from dataclasses import replace

import numpy as np
import pytest

from automl_cli.clock import Deadline
from automl_cli.families import find_families, mlp
from automl_cli.families.dense import AdamW, activate, activated, new_net
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.matrix import Matrix
from automl_cli.metrics import METRICS
from automl_cli.task import TaskKind

MLP = find_families()["mlp"]
SMALL = {"layers": 2, "width": 5, "dropout": 0.0, "activation": "silu"}


def fold(X, y, kind, n_outputs, metric):
    half = len(X) // 2
    names = tuple(f"f{i}" for i in range(X.shape[1]))
    train, valid = (Matrix(part.astype(np.float32), (), names) for part in (X[:half], X[half:]))
    return FoldData(kind, n_outputs, train, y[:half], None, valid, y[half:], None, METRICS[metric].loss, metric)


def fit(data, limits, **hyperparameters):
    shape = Shape(data.kind, len(data.y), data.train.X.shape[1], 0, data.n_outputs)
    return MLP.fit(data, {**MLP.defaults(shape)[0], **hyperparameters}, limits)


@pytest.mark.parametrize("smooth", [True, False])
def test_it_predicts_by_the_activation_that_it_was_trained_with(smooth):
    z = np.concatenate([np.linspace(-90, 90, 1001), [0.0, -0.0, np.nan]]).astype(np.float32)
    expected = activate(z, smooth)[0]
    assert activated(z.copy(), smooth).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("activation", "embedded"), [("silu", [0, 2]), ("relu", [1]), ("silu", [])])
def test_the_gradient_is_that_of_the_loss(activation, embedded):
    """Against central differences of half the squared error, in float64."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    net = new_net(3, np.array(embedded, dtype=np.int64), 2, {**SMALL, "activation": activation}, rng)
    net = replace(net, flat=(net.flat + 0.1 * rng.normal(size=net.flat.shape)).astype(np.float64))

    def loss(flat):
        at = net.views(flat)
        hidden = X * at.scale
        waves = at.waves
        beside = [
            np.cos(2 * np.pi * hidden[:, [column]] * waves.frequency[i] + waves.phase[i]) @ waves.mix[i]
            + waves.shift[i]
            for i, column in enumerate(net.embedded)
        ]
        hidden = np.hstack([hidden, *beside])
        for weight, bias in zip(at.weights[:-1], at.biases[:-1], strict=True):
            z = hidden @ weight + bias
            hidden = z / (1 + np.exp(-z)) if net.smooth else np.maximum(z, 0)
        return 0.5 * np.sum((hidden @ at.weights[-1] + at.biases[-1] - y) ** 2)

    gradient = np.zeros_like(net.flat)
    net.gradient(X, lambda scores: scores - y, gradient, rng)
    steps = 1e-6 * np.eye(len(net.flat))
    differences = [(loss(net.flat + step) - loss(net.flat - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-6)


def test_adamw_reaches_the_minimum_of_a_quadratic():
    net = new_net(2, np.array([1]), 1, SMALL, np.random.default_rng(0))
    adam, goal = AdamW.of(net, 0.0), np.linspace(-1, 1, len(net.flat)).astype(np.float32)
    at = net.views(adam.rates)
    assert at.scale.min() > 1.0 > at.waves.frequency.max()
    adam.rates[:] = 1.0
    for _ in range(2_000):
        adam.step(net.flat, net.flat - goal, 0.01)
    np.testing.assert_allclose(net.flat, goal, atol=0.02)


def test_it_learns_what_no_linear_model_can():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2_000, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    data = fold(X, y, TaskKind.BINARY, 2, "log_loss")
    p = fit(data, Limits(1, 0)).predict(data.valid, 1)
    assert METRICS["log_loss"].loss(data.y_valid, p, None) < 0.25


def test_a_regression_stays_near_the_training_values_far_away():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(600, 3))
    y = 100 + 5 * X[:, 0] + X[:, 1] ** 2
    data = fold(X, y, TaskKind.REGRESSION, 1, "rmse")
    model = fit(data, Limits(1, 0))
    assert METRICS["rmse"].loss(data.y_valid, model.predict(data.valid, 1), None) < 0.25 * y.std()
    far = model.predict(Matrix(np.full((1, 3), 1e30, dtype=np.float32), (), data.valid.names), 1)
    assert 2 * y.min() - y.max() - 1 <= far[0, 0] <= 2 * y.max() - y.min() + 1


def test_weights_decide_between_contradictions():
    X = np.tile([[1.0], [-1.0]], (200, 1))
    y = np.tile([1, 0, 0, 1], 100).astype(np.int64)
    heavy = np.tile([1.0, 1.0, 0.0, 0.0], 50)
    data = fold(X, y, TaskKind.BINARY, 2, "log_loss")
    data = FoldData(data.kind, 2, data.train, data.y, heavy, data.valid, data.y_valid, heavy, data.loss, "log_loss")
    p = fit(data, Limits(1, 0)).predict(data.valid, 1)[:, 1]
    assert p[0] > 0.9
    assert p[1] < 0.1


def paced(monkeypatch, seconds_per_step):
    """Let a clock count steps, however busy the machine is; returns the rates of the steps so far."""
    rates, step = [], AdamW.step

    def recorded(self, flat, gradient, rate):
        rates.append(rate)
        step(self, flat, gradient, rate)

    def after(seconds):
        return Deadline(seconds, 0.0, lambda: seconds_per_step * len(rates))

    monkeypatch.setattr(AdamW, "step", recorded)
    monkeypatch.setattr(Deadline, "after", after)
    return rates


def test_short_seconds_draw_the_schedule_together_and_say_so(monkeypatch):
    paced(monkeypatch, 0.001)
    rng = np.random.default_rng(3)
    X = rng.normal(size=(8_000, 20))
    y = (X[:, 0] > 0).astype(np.int64)
    data = fold(X, y, TaskKind.BINARY, 2, "log_loss")
    model = fit(data, Limits(1, 0, seconds=0.2), epochs=3_000)
    assert model.cut
    assert 0 < model.rounds < 3_000
    assert METRICS["log_loss"].loss(data.y_valid, model.predict(data.valid, 1), None) < 0.3


def test_the_rate_has_fallen_when_the_seconds_do_not_hold_an_epoch(monkeypatch):
    rates = paced(monkeypatch, 0.01)
    rng = np.random.default_rng(6)
    X = rng.normal(size=(40_000, 2))
    data = fold(X, X[:, 0], TaskKind.REGRESSION, 1, "rmse")
    model = fit(data, Limits(1, 0, seconds=3.0), batch_size=32, epochs=10)
    assert model.cut
    assert model.rounds == 1
    assert 50 < len(rates) < 20_000 // 32
    assert rates[-1] < 0.1 * max(rates)
    assert METRICS["rmse"].loss(data.y_valid, model.predict(data.valid, 1), None) < 0.2


def test_of_few_epochs_that_there_is_time_for_the_best_is_kept(monkeypatch):
    paced(monkeypatch, 0.1)
    rng = np.random.default_rng(7)
    X = rng.normal(size=(400, 5))
    data = fold(X, rng.normal(size=400), TaskKind.REGRESSION, 1, "rmse")
    losses, loss_of = [], mlp._Rows.loss
    monkeypatch.setattr(mlp._Rows, "loss", lambda self, model: losses.append(loss_of(self, model)) or losses[-1])
    model = fit(data, Limits(1, 0, seconds=12.0), batch_size=10, epochs=120, learning_rate=0.03, dropout=0.0)
    assert model.cut
    assert 4 < len(losses) < 15
    assert model.rounds == int(np.argmin(losses)) + 1


def test_a_refit_trains_as_many_epochs_as_it_is_told():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 2))
    data = fold(X, X[:, 0], TaskKind.REGRESSION, 1, "rmse")
    assert fit(data, Limits(1, 0, rounds=7)).rounds == 7


def test_a_network_that_was_saved_before_numbers_were_embedded_is_read(tmp_path):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 2))
    data = fold(X, X[:, 0], TaskKind.REGRESSION, 1, "rmse")
    model = fit(data, Limits(1, 0), embedding=False)
    MLP.save(model, tmp_path)
    heads = list(tmp_path.rglob("head.npz"))
    with np.load(heads[0]) as head:
        older = {name: head[name] for name in head.files if name != "embedded"}
    heads[0].unlink()
    np.savez(heads[0], **older)
    np.testing.assert_array_equal(MLP.load(tmp_path).predict(data.valid, 1), model.predict(data.valid, 1))
