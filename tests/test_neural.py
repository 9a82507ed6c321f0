"""Networks in torch: their counts, their members, what they learn, and that a file of theirs is not trusted."""

import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="extra: neural")
pytest.importorskip("safetensors", reason="extra: neural")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from automl_cli.clock import Deadline  # noqa: E402
from automl_cli.errors import BadArtifact  # noqa: E402
from automl_cli.families import find_families  # noqa: E402
from automl_cli.families.arrays import save_native  # noqa: E402
from automl_cli.families.family import FoldData, Limits, Shape  # noqa: E402
from automl_cli.families.net_inputs import NetInputs  # noqa: E402
from automl_cli.families.neural import NETWORKS, prepare, recipe_of  # noqa: E402
from automl_cli.features.matrix import Matrix  # noqa: E402
from automl_cli.metrics import METRICS  # noqa: E402
from automl_cli.neural import training  # noqa: E402
from automl_cli.neural.architecture import ACTIVATIONS, KINDS, NORMS, Architecture, Block, parse_architecture  # noqa: E402
from automl_cli.neural.counts import InputShape, cost, parameters, tensors  # noqa: E402
from automl_cli.neural.modules import loaded_network, new_network  # noqa: E402
from automl_cli.neural.recipe import Columns, Means, examples  # noqa: E402
from automl_cli.neural.training import predict, train  # noqa: E402
from automl_cli.task import TaskKind  # noqa: E402

NEURAL = find_families()["neural"]
SMALL = "pbld3 cat4 k1 | dense32 silu none d0.1 | dense32 silu none d0"
ENSEMBLE = "pwl4 cat4 k4 | dense16 relu none d0 | dense16 relu none d0"
EVERYTHING = (
    "pbld3 cat3 k3 | attention8 mish layer d0.1 | residual12 silu batch d0.1 +1 "
    "| gated6 relu none d0 +2 | cross5 selu none d0"
)
SHAPE = InputShape(n_numbers=3, levels=(4, 30), n_outputs=2, n_flags=1)

numbers_embedded = st.one_of(st.just(("none", 0)), st.tuples(st.sampled_from(["pbld", "pwl"]), st.integers(1, 8)))


@st.composite
def architectures(draw):
    kind, size = draw(numbers_embedded)
    blocks = tuple(
        Block(
            draw(st.sampled_from(KINDS)),
            draw(st.integers(1, 12)),
            draw(st.sampled_from(ACTIVATIONS)),
            draw(st.sampled_from(NORMS)),
            draw(st.sampled_from([0.0, 0.05, 0.25, 0.9])),
            draw(st.integers(0, number)),
        )
        for number in range(draw(st.integers(1, 5)))
    )
    return Architecture(blocks, kind, size, draw(st.integers(1, 9)), draw(st.integers(1, 4)))


shapes = st.builds(
    InputShape,
    st.integers(1, 4),
    st.lists(st.integers(2, 20), max_size=3).map(tuple),
    st.integers(1, 4),
    st.integers(0, 2),
)


def rows_for(shape, n, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, levels, n) for levels in shape.levels]
    return Columns(
        rng.normal(size=(n, shape.n_numbers)).astype(np.float32),
        rng.integers(0, 2, (n, shape.n_flags)).astype(np.float32),
        np.stack(codes, axis=1) if codes else np.zeros((n, 0), dtype=np.int64),
    )


def tensors_of(columns, kind=torch.float32):
    numbers, flags = (torch.as_tensor(part).to(kind) for part in (columns.numbers, columns.flags))
    return numbers, flags, torch.as_tensor(columns.codes)


def fold(X, y, kind, n_outputs, metric, categorical=()):
    half = len(X) // 2
    names = tuple(f"f{i}" for i in range(X.shape[1]))
    train, valid = (Matrix(part.astype(np.float32), categorical, names) for part in (X[:half], X[half:]))
    return FoldData(kind, n_outputs, train, y[:half], None, valid, y[half:], None, METRICS[metric].loss, metric)


def crossed(n=1_200, seed=1):
    """A sign of a product, which a category turns round: nothing for a linear model."""
    rng = np.random.default_rng(seed)
    X = np.hstack([rng.normal(size=(n, 2)), rng.integers(0, 3, (n, 1))])
    y = ((X[:, 0] * X[:, 1] > 0) ^ (X[:, 2] == 1)).astype(np.int64)
    return fold(X, y, TaskKind.BINARY, 2, "log_loss", (2,))


def fit(data, limits=Limits(1, 0), **hyperparameters):  # noqa: B008
    shape = Shape(data.kind, len(data.y), data.train.X.shape[1], len(data.train.categorical), data.n_outputs)
    return NEURAL.fit(data, {**NEURAL.defaults(shape)[0], "architecture": SMALL, **hyperparameters}, limits)


@given(architectures())
def test_the_text_of_an_architecture_reads_back(architecture):
    assert parse_architecture(str(architecture)) == architecture


@settings(max_examples=25)
@given(architectures(), shapes)
def test_a_network_has_what_was_counted_and_uses_all_of_it(architecture, shape):
    network = new_network(architecture, shape)
    assert sum(p.numel() for p in network.parameters()) == parameters(architecture, shape)
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == {
        name: tensor.shape for name, tensor in tensors(architecture, shape).items()
    }
    assert cost(architecture, shape) > 0
    scores = network(*tensors_of(rows_for(shape, 5)))
    assert scores.shape == (5, architecture.members, shape.n_outputs)
    scores.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("text", NETWORKS)
def test_the_fixed_networks_are_architectures(text):
    assert str(parse_architecture(text)) == text


def test_the_cost_is_that_of_the_products():
    architecture = parse_architecture("none cat8 k1 | dense10 relu none d0 | dense20 relu none d0")
    # the input's scale, two layers and the head
    assert cost(architecture, InputShape(3, (), 2)) == 3 + 3 * 10 + 10 * 20 + 20 * 2


def test_the_gradient_is_that_of_the_loss():
    """Against central differences in float64."""
    architecture = parse_architecture(EVERYTHING.replace("d0.1", "d0").replace("selu", "silu"))
    network = new_network(architecture, SHAPE, seed=3).double()
    inputs = tensors_of(rows_for(SHAPE, 6), torch.float64)

    def loss():
        return network(*inputs).square().sum()

    loss().backward()
    rng = np.random.default_rng(0)
    for name, parameter in network.named_parameters():
        flat, at = parameter.data.view(-1), int(rng.integers(parameter.numel()))
        before, losses = flat[at].item(), []
        for step in (1e-5, -1e-5):
            flat[at] = before + step
            losses.append(loss().item())
        flat[at] = before
        expected = (losses[0] - losses[1]) / 2e-5
        assert parameter.grad.view(-1)[at].item() == pytest.approx(expected, rel=2e-3, abs=1e-5), name


def test_the_gradient_of_shared_weights_is_that_of_plain_copies(monkeypatch):
    """A member alone has the weights times its own factors; what all members ask of the shared weights adds up."""
    network = new_network(
        parse_architecture("none cat4 k3 | dense8 silu none d0 | dense8 silu none d0"), SHAPE
    ).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    seen, linear = [], network._linear
    monkeypatch.setattr(network, "_linear", lambda name, x: linear(name, seen.append(x) or x))
    network(*tensors_of(rows_for(SHAPE, 6), torch.float64)).square().sum().backward()

    names = ["block1/first", "block2/first"]
    expected = {name: torch.zeros_like(network[f"{name}/weight"]) for name in names}
    for member in range(3):
        x, copies = seen[0][:, member].detach(), {}
        for name in names:
            inputs, outputs, bias = (
                network[f"{name}/{part}"].detach()[member] for part in ("inputs", "outputs", "bias")
            )
            factors = outputs[:, None] * inputs
            copies[name] = (network[f"{name}/weight"].detach() * factors).requires_grad_(), factors
            x = torch.nn.functional.silu(x @ copies[name][0].T + bias)
        scores = x @ network["head/weight"].detach()[member] + network["head/bias"].detach()[member]
        scores.square().sum().backward()
        for name, (copy, factors) in copies.items():
            expected[name] += copy.grad * factors
    for name, gradient in expected.items():
        torch.testing.assert_close(network[f"{name}/weight"].grad, gradient, rtol=1e-9, atol=1e-9)


def test_members_differ_and_their_mean_is_predicted():
    architecture, columns = parse_architecture(ENSEMBLE), rows_for(SHAPE, 50)
    weights = new_network(architecture, SHAPE).weights()
    scores = loaded_network(architecture, SHAPE, weights)(*tensors_of(columns))
    assert scores.std(dim=1).min() > 1e-4
    mean = torch.softmax(scores, dim=2).mean(dim=1).detach().numpy()
    np.testing.assert_allclose(predict(architecture, SHAPE, weights, columns, classify=True), mean, atol=1e-6)


def test_a_member_learns_as_if_it_were_alone():
    """The loss is the mean over the members, not the loss of their mean."""
    from automl_cli.neural.recipe import Recipe
    from automl_cli.neural.training import _losses

    scores, y = torch.randn(4, 3, 2), torch.tensor([0, 1, 1, 0])
    alone = [torch.nn.functional.cross_entropy(scores[:, k], y) for k in range(3)]
    assert _losses(scores, y, Recipe(1)).mean().item() == pytest.approx(sum(alone).item() / 3, rel=1e-6)


@pytest.mark.parametrize("architecture", [SMALL, ENSEMBLE, EVERYTHING])
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(architecture):
    data = crossed(400)
    models = [fit(data, Limits(1, seed), architecture=architecture, epochs=4) for seed in (0, 0, 1)]
    first, again, other = ([model.weights[name].tobytes() for name in model.weights] for model in models)
    assert first == again
    assert first != other
    assert models[0].losses == models[1].losses


@pytest.mark.parametrize("architecture", [SMALL, "pwl8 cat4 k8 | dense32 relu none d0 | dense32 relu none d0"])
def test_it_learns_what_no_linear_model_can(architecture):
    data = crossed()
    p = fit(data, architecture=architecture, epochs=60).predict(data.valid, 1)
    assert METRICS["log_loss"].loss(data.y_valid, p, None) < 0.25


def test_it_learns_a_line_in_the_units_of_the_target():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(800, 3))
    y = 1e6 + 1e3 * (X[:, 0] - 2 * X[:, 1]) + 50 * rng.normal(size=800)
    data = fold(X, y, TaskKind.REGRESSION, 1, "rmse")
    assert METRICS["rmse"].loss(data.y_valid, fit(data, epochs=60).predict(data.valid, 1), None) < 300


@pytest.mark.parametrize("schedule", ["constant", "cosine", "coslog4"])
def test_schedules_and_smoothed_labels_learn(schedule):
    data = crossed()
    model = fit(data, schedule=schedule, label_smoothing=0.1, epochs=40)
    assert (model.predict(data.valid, 1).argmax(axis=1) == data.y_valid).mean() > 0.85


def test_missing_numbers_are_told_from_the_median():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(800, 2))
    y = (rng.random(800) < 0.3).astype(np.int64)
    X[y == 1, 0] = np.nan
    data = fold(X, y, TaskKind.BINARY, 2, "log_loss")
    assert METRICS["log_loss"].loss(data.y_valid, fit(data, epochs=15).predict(data.valid, 1), None) < 0.1


def test_the_best_epoch_is_kept_and_the_curve_is_there():
    data = crossed(400)
    model = fit(data, epochs=12)
    assert len(model.losses) == 12
    assert model.rounds == int(np.argmin(model.losses)) + 1


def test_of_many_epochs_the_one_after_the_best_few_is_kept():
    data = crossed(300)
    model = fit(data, epochs=75, learning_rate=0.1)
    means = [np.mean(model.losses[max(0, end - 5) : end]) for end in range(1, len(model.losses) + 1)]
    assert model.rounds == int(np.argmin(means)) + 1


def test_a_refit_trains_the_epochs_it_is_told():
    data = crossed(400)
    model = fit(data, Limits(1, 0, rounds=5), epochs=12)
    assert (model.rounds, model.losses, model.cut) == (5, (), False)


def test_inherited_weights_start_better_than_random_ones():
    data = crossed()
    hyperparameters = {**NEURAL.defaults(Shape(data.kind, 600, 3, 1, 2))[0], "epochs": 40}
    prepared, recipe = prepare(data, 0), recipe_of(data, hyperparameters)
    parent = train(parse_architecture(SMALL), prepared.shape, recipe, prepared.train, prepared.valid, Means(0))
    # wider and deeper: what overlaps is taken over
    child = parse_architecture(
        SMALL.replace("dense32 silu none d0.1", "dense40 silu none d0") + " | residual32 silu none d0"
    )
    short = replace(recipe, epochs=2, rate=0.002)
    losses = [
        train(child, prepared.shape, short, prepared.train, prepared.valid, Means(1), initial=initial).losses[0]
        for initial in (parent.weights, None)
    ]
    assert losses[0] < 0.7 * losses[1]


def test_a_widened_network_answers_as_its_parent_did():
    narrow, wide = (
        parse_architecture(f"pbld3 cat4 k2 | dense{width} silu none d0 | residual8 silu none d0") for width in (9, 13)
    )
    weights, columns = new_network(narrow, SHAPE, seed=1).weights(), rows_for(SHAPE, 9)
    child = new_network(wide, SHAPE, seed=2)
    child.take(weights)
    answers = [predict(a, SHAPE, w, columns, classify=True) for a, w in ((narrow, weights), (wide, child.weights()))]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)


def test_another_embedding_is_not_mixed_with_the_old_one():
    before, after = (parse_architecture(f"pbld{n} cat4 k1 | dense8 silu none d0 | dense8 silu none d0") for n in (2, 3))
    child, fresh = new_network(after, SHAPE, seed=2), new_network(after, SHAPE, seed=2).weights()
    parent = new_network(before, SHAPE, seed=1).weights()
    child.take(parent)
    assert child.weights()["block1/first/weight"].tobytes() == fresh["block1/first/weight"].tobytes()
    assert child.weights()["block2/first/weight"].tobytes() == parent["block2/first/weight"].tobytes()


@pytest.mark.alone
def test_the_limit_is_kept_and_what_was_learned_is_the_model():
    data = crossed(6_000)
    wide = "pwl16 cat8 k16 | dense128 relu none d0.1 | dense128 relu none d0.1"
    fit(crossed(200), architecture=wide, epochs=1)  # what torch does once
    began = time.monotonic()
    model = fit(data, Limits(1, 0, seconds=1.0), architecture=wide)
    assert time.monotonic() - began < 2.5
    assert model.cut
    assert METRICS["log_loss"].loss(data.y_valid, model.predict(data.valid, 1), None) < np.log(2)


def test_steps_that_had_to_wait_do_not_shorten_what_there_is_time_for():
    looks = []

    def clock():  # others use the machine while the first epoch is on
        looks.append(0.2 if len(looks) < 30 else 0.001)
        return sum(looks)

    data = crossed(400)
    wanted = prepare(data, 0), recipe_of(data, {**NEURAL.defaults(Shape(data.kind, 200, 3, 1, 2))[0], "epochs": 30})
    deadline = Deadline.after(20.0, clock=clock)
    trained = train(
        parse_architecture(SMALL), wanted[0].shape, wanted[1], wanted[0].train, wanted[0].valid, Means(0, 1, deadline)
    )
    assert len(trained.losses) == 30
    assert not trained.cut


def paced(monkeypatch, seconds_per_step):
    """Let a clock count steps, however busy the machine is; returns it, and the rates of the steps so far."""
    rates, step = [], training._AdamW.step

    def recorded(self, rate, weight_decay):
        rates.append(rate)
        step(self, rate, weight_decay)

    monkeypatch.setattr(training._AdamW, "step", recorded)
    return lambda: sum(map(seconds_per_step, range(len(rates)))), rates


def trained_within(data, seconds, clock, **hyperparameters):
    fold = prepare(data, 0)
    defaults = NEURAL.defaults(Shape(data.kind, len(data.y), data.train.X.shape[1], 1, 2))[0]
    recipe = recipe_of(data, {**defaults, **hyperparameters})
    means = Means(0, 1, Deadline(seconds, 0.0, clock))
    return train(parse_architecture(SMALL), fold.shape, recipe, fold.train, fold.valid, means)


def test_the_rate_has_fallen_where_an_epoch_is_long_and_slower_than_it_began(monkeypatch):
    clock, rates = paced(monkeypatch, lambda step: 0.01 if step < 40 else 0.02)
    trained = trained_within(crossed(4_000), 4.4, clock, batch_size=4, schedule="cosine")
    assert trained.cut
    assert 200 < len(rates) < 250  # an epoch has 500
    assert rates[-1] < 0.05 * max(rates)


def test_of_few_epochs_that_there_is_time_for_the_best_is_kept(monkeypatch):
    clock, _ = paced(monkeypatch, lambda step: 0.1)
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(400, 2)), rng.integers(0, 3, (400, 1))])
    noise = fold(X, rng.integers(0, 2, 400), TaskKind.BINARY, 2, "log_loss", (2,))
    trained = trained_within(noise, 12.0, clock, batch_size=32, epochs=150)
    assert 10 < len(trained.losses) < 30
    assert trained.epoch == int(np.argmin(trained.losses)) + 1


def test_a_graphics_card_that_fails_leaves_the_processor(monkeypatch):
    data = crossed(300)
    expected = fit(data, epochs=3)
    monkeypatch.setattr(training, "_WORTH_A_GPU", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # though there is none
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    if torch.cuda.device_count():
        pytest.skip("there is a card")
    model = fit(data, epochs=3)
    assert model.losses == expected.losses
    assert {name: array.tobytes() for name, array in model.weights.items()} == {
        name: array.tobytes() for name, array in expected.weights.items()
    }


WIDE = {
    "embedded numbers of members": ("pwl16 cat8 k16 | dense32 relu none d0", InputShape(100, (), 2)),
    "many classes": ("none cat8 k8 | dense16 relu none d0", InputShape(3, (), 1_000)),
    "waves": ("pbld1 cat8 k1 | dense32 relu none d0", InputShape(1_000, (), 2)),
    "attention": ("none cat8 k8 | attention16 relu none d0", InputShape(400, (), 2)),
}


@pytest.mark.parametrize(("text", "shape"), WIDE.values(), ids=list(WIDE))
def test_memory_of_a_prediction_is_bounded_whatever_is_wide(text, shape):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                self.numbers = max(self.numbers, found.numel())
            return found

    architecture = parse_architecture(text)
    weights = new_network(architecture, shape).weights()
    with Largest() as largest:
        predict(architecture, shape, weights, rows_for(shape, 700), classify=True)
    assert largest.numbers <= 2**22


def test_memory_of_scaling_does_not_grow_with_the_table():
    rng = np.random.default_rng(0)
    X = rng.lognormal(size=(40_000, 50)).astype(np.float32)
    X[rng.random(X.shape) < 0.05] = np.nan
    rows = Matrix(X, (), tuple(f"f{i}" for i in range(50)))
    inputs = NetInputs.fit(Matrix(X[:1_000], (), rows.names), 0)
    tracemalloc.start()
    columns = inputs.transform(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * X.nbytes
    for part in (slice(0, 1), slice(5_000, 5_300), slice(39_990, None)):
        alone = inputs.transform(Matrix(X[part], (), rows.names))
        assert alone.numbers.tobytes() == columns.numbers[part].tobytes()
        assert alone.flags.tobytes() == columns.flags[part].tobytes()


def test_the_optimizer_reaches_the_minimum_of_a_quadratic():
    from automl_cli.neural.training import _AdamW

    network = new_network(parse_architecture(ENSEMBLE), SHAPE)
    adam = _AdamW(network)
    assert adam.rates.max() <= 1.0
    adam.rates.fill_(1.0)
    goal = torch.linspace(-1, 1, len(adam.flat))
    for _ in range(2_000):
        adam.gradient.copy_(adam.flat - goal)
        adam.step(0.01, 0.0)
    assert (adam.flat - goal).abs().max() < 0.02
    kept = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert torch.equal(kept, adam.flat)


def test_training_needs_no_compiler():
    """Importing torch's takes as long as torch itself, of the seconds of a trial."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from automl_cli.neural.architecture import parse_architecture\n"
        "from automl_cli.neural.counts import InputShape\n"
        "from automl_cli.neural.recipe import Columns, Means, Recipe, examples\n"
        "from automl_cli.neural.training import train\n"
        "rows = Columns(np.ones((8, 2), np.float32), np.zeros((8, 0), np.float32), np.zeros((8, 0), np.int64))\n"
        "rows = examples(rows, np.arange(8) % 2, None)\n"
        f"train(parse_architecture({EVERYTHING!r}), InputShape(2, (), 2), Recipe(2), rows, rows, Means(0))\n"
        "assert not {'torch._dynamo', 'torch._inductor'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr


def test_training_leaves_torch_as_it_was():
    before = torch.get_num_threads(), torch.random.get_rng_state()
    data = crossed(300)
    fit(data, Limits(2, 0), epochs=1).predict(data.valid, 2)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


@pytest.mark.parametrize("shape", [SHAPE, InputShape(2, (), 1), InputShape(0, (5,), 3), InputShape(1, (), 2, 1)])
@pytest.mark.parametrize("text", [SMALL, ENSEMBLE, EVERYTHING, "none cat4 k2 | cross8 relu layer d0"])
def test_what_is_kept_predicts_what_was_trained(text, shape):
    network, columns = new_network(parse_architecture(text), shape), rows_for(shape, 20)
    scores = network.eval()(*tensors_of(columns)).mean(dim=1).detach().numpy()
    kept = predict(parse_architecture(text), shape, network.weights(), columns, classify=False)
    np.testing.assert_allclose(kept, scores, atol=1e-6)


def test_no_rows_are_predicted_as_none():
    columns = rows_for(SHAPE, 0)
    weights = new_network(parse_architecture(EVERYTHING), SHAPE).weights()
    assert predict(parse_architecture(EVERYTHING), SHAPE, weights, columns, classify=True).shape == (0, 2)


def test_weights_of_rows_count():
    rng = np.random.default_rng(0)
    rows = examples(Columns(np.zeros((4, 1), np.float32), np.zeros((4, 0), np.float32), np.zeros((4, 0), np.int64)),
                    rng.normal(size=4), np.array([0.0, 0.0, 0.0, 0.0]))  # fmt: skip
    assert rows.weight.tolist() == [1.0] * 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = fit(crossed(300), architecture=EVERYTHING, epochs=2)
    folder = tmp_path_factory.mktemp("saved")
    NEURAL.save(model, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}, model


def written(saved, folder):
    for name, content in saved[0].items():
        (folder / name).write_bytes(content)
    return folder


def test_a_loaded_network_predicts_the_same(saved, tmp_path):
    data = crossed(300)
    loaded = NEURAL.load(written(saved, tmp_path))
    assert loaded.predict(data.valid, 1).tobytes() == saved[1].predict(data.valid, 2).tobytes()
    assert str(loaded.architecture) == EVERYTHING


HEADS = {
    "no architecture": {"architecture": "none cat8 k1"},
    "code for an architecture": {"architecture": "__import__('os').system('true')"},
    "another architecture": {"architecture": SMALL},
    "an enormous one": {"architecture": "pbld64 cat64 k64" + " | dense4096 relu none d0" * 8},
    "a number too large to count": {"rounds": 10**400},
    "not a number": {"bounds": [float("nan"), 1.0]},
    "one bound": {"bounds": [1.0]},
    "classes that go down": {"classes": [1, 0]},
    "a class beyond the outputs": {"classes": [0, 2]},
    "no classes": {"classes": []},
    "classes in a box": {"classes": [[0, 1]]},
    "negative epochs": {"rounds": -1},
    "all smoothing": {"smoothing": 1.0},
    "text for a number": {"n_outputs": "many"},
}


@pytest.mark.parametrize("change", HEADS.values(), ids=list(HEADS))
def test_crafted_heads_are_refused(change, saved, tmp_path):
    folder = written(saved, tmp_path)
    head = json.loads((folder / "network.json").read_bytes()) | change
    save_native(folder / "network.json", json.dumps(head).encode())
    with pytest.raises(BadArtifact):
        NEURAL.load(folder)


@pytest.mark.parametrize("text", [b"{", b"{}", b"{" * 100_000, b'{"architecture": 1}', b"[]"])
def test_heads_that_are_none_are_refused(text, saved, tmp_path):
    folder = written(saved, tmp_path)
    save_native(folder / "network.json", text)
    with pytest.raises(BadArtifact):
        NEURAL.load(folder)


def crafted(header, body=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


WEIGHTS = {
    "nothing": lambda weights: b"",
    "a header longer than the file": lambda weights: (2**60).to_bytes(8, "little") + b"{}",
    "no tensors": lambda weights: crafted({}),
    "offsets outside": lambda weights: crafted({"scale": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "integers": lambda weights: to_bytes({name: array.astype(np.int32) for name, array in weights.items()}),
    "float64": lambda weights: to_bytes({name: array.astype(np.float64) for name, array in weights.items()}),
    "bfloat16": lambda weights: crafted({"scale": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"abcd"),
    "one more": lambda weights: to_bytes({**weights, "more": np.zeros(1, np.float32)}),
    "one fewer": lambda weights: to_bytes({name: array for name, array in weights.items() if name != "scale"}),
    "another shape": lambda weights: to_bytes({**weights, "scale": weights["scale"][None]}),
    "not finite": lambda weights: to_bytes({**weights, "scale": weights["scale"] * np.float32("nan")}),
}


def to_bytes(arrays):
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


@pytest.mark.parametrize("craft", WEIGHTS.values(), ids=list(WEIGHTS))
def test_crafted_weights_are_refused(craft, saved, tmp_path):
    folder = written(saved, tmp_path)
    save_native(folder / "network.safetensors", craft(saved[1].weights))
    with pytest.raises(BadArtifact):
        NEURAL.load(folder)


INPUTS = {
    "a feature beyond the matrix": {"numeric": np.array([0, 9])},
    "features that go down": {"numeric": np.array([1, 0])},
    "a category as a number": {"numeric": np.array([0, 2])},
    "no features at all": {"n_features": np.array(0)},
    "a negative scale": {"scale": np.array([-1.0, 1.0])},
    "one scale": {"scale": np.array([1.0])},
    "a skewed column that is none": {"skewed": np.array([5], dtype=np.int32)},
    "an indicator more": {"flagged": np.array([0], dtype=np.int32)},
}


@pytest.mark.parametrize("change", INPUTS.values(), ids=list(INPUTS))
def test_crafted_inputs_are_refused(change, saved, tmp_path):
    folder = written(saved, tmp_path)
    with np.load(folder / "inputs.npz") as file:
        arrays = {**file, **change}
    np.savez(folder / "inputs.npz", **arrays)
    with pytest.raises(BadArtifact):
        NEURAL.load(folder)


def test_a_matrix_of_another_width_is_refused(saved):
    with pytest.raises(BadArtifact):
        saved[1].predict(Matrix(np.zeros((2, 5), np.float32), (), ("a", "b", "c", "d", "e")), 1)
