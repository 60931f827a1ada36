"""Celo, Celo-Adam and Sinv6: by their definition, and beside what their authors' code computes.

The second needs weights and recorded numbers, which do not ship: BENCH_WEIGHTS_DIR/NAME/theta.safetensors, and
reference.npz beside it.
"""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks.inner_loop
from learned import celo, elsewhere
from learned.elsewhere import ELSEWHERE
from tests.helpers import CountingTraces, assert_one_line, assert_trees_close, kinds, linear_task
from tests.learned.test_designs import gradients

NAMES = list(ELSEWHERE)
PARAMS = {
    "k": jnp.asarray(np.random.default_rng(5).normal(size=(2, 4, 3)), jnp.float32),
    "b": jnp.array([0.1, 0.2, -0.3]),
    "s": jnp.array(0.7),
}
HORIZON = 40
LOSSES = (2.0, 1.2, 9.0, 1.5, -0.5)  # one that is limited, one below zero


@functools.cache
def example_theta(name):
    """Weights of order one, by which every input shows in an update."""
    rng = np.random.default_rng(len(name))
    theta = {
        key: jnp.asarray(rng.normal(size=shape) / np.sqrt(2 * shape[0] if key.endswith("/w") else 3), jnp.float32)
        for key, shape in ELSEWHERE[name].shapes.items()
    }
    # With this the last of some lambdas of `sinv6` is at its lower end, and the others are not.
    return theta | ({"rnn_params/step_size/b": theta["rnn_params/step_size/b"] + 1} if name == "sinv6" else {})


def first_update(name, params=PARAMS, theta=None):
    optimizer = ELSEWHERE[name].make(theta or example_theta(name), HORIZON)
    return jax.jit(optimizer.update)(gradients(0, params), optimizer.init(params), params, value=2.0)[0]


# By the definition, in float64 ----------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def said_by_definition(theta, losses):
    """h w + b of the schedule after each loss, one number after the other."""
    net = {key.removeprefix("rnn_params/"): np.asarray(leaf, np.float64) for key, leaf in theta.items()}
    h, c = net["lstm_init_state/hidden"][0], net["lstm_init_state/cell"][0]
    taus = [10 * (HORIZON / 10) ** (j / 9) for j in range(10)]
    b = np.exp([-1 / tau for tau in taus])
    average, lowest, said = np.zeros(10), np.full(10, np.inf), []
    for t, loss in enumerate(losses):
        most = loss if t == 0 else max(average / (1 - b ** (t + 1)))
        average = b * average + (1 - b) * min(2 * abs(most), loss)
        mean = average / (1 - b ** (t + 1))
        lowest = np.minimum(lowest, mean)
        x = [np.tanh(10 * (t / HORIZON - k)) for k in (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)]
        for j in range(9):
            ratio = (mean[j] - lowest[j]) / max(1e-8, mean[j + 1] - lowest[j]) - 1
            x.append(0.0 if t < 2 else min(max(ratio, -1), 1))
        x = np.array(x)
        z = x @ net["linear_2/w"] + net["linear_2/b"] + np.maximum(x @ net["linear_1/w"] + net["linear_1/b"], 0)
        i, g, f, o = np.split(np.concatenate([z, h]) @ net["rnn/linear/w"] + net["rnn/linear/b"], 4)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        said.append(float(h @ net["step_size/w"][:, 0] + net["step_size/b"][0]))
    return said


def celo_by_definition(theta, multiplier, grads, w):
    """What is subtracted from a tensor after its gradients so far."""
    net = {key.removeprefix("ff_mod_stack/~/"): np.asarray(leaf[0], np.float64) for key, leaf in theta.items()}
    g, blocks = grads[-1], [[] for _ in range(14)]
    u = average(0.999, [g**2 for g in grads])
    for b in (0.9, 0.99, 0.999):
        m = average(b, grads)
        squares = [g**2 + 1e-30 for g in grads]
        if w.ndim < 2:
            row = column = average(b, squares)
            factored, inside = g / np.sqrt(row + 1e-9), m / np.sqrt(row)
        else:  # (2, 4, 3): the largest axis is 1, the second largest 2
            row = average(b, [np.mean(q, axis=1, keepdims=True) for q in squares])
            column = average(b, [np.mean(q, axis=2, keepdims=True) for q in squares])
            factor = np.sqrt(np.mean(row, axis=2, keepdims=True) + 1e-9) / np.sqrt(row) / np.sqrt(column)
            factored, inside = g * factor, m * factor
        found = (m, m / np.sqrt(u + 1e-6), factored, row, column, 1 / np.sqrt(row + 1e-8), 1 / np.sqrt(column + 1e-8))
        for block, x in zip((3, 5, 7, 9, 10, 11, 12, 13), (*found, inside), strict=True):
            blocks[block].append(np.broadcast_to(x, w.shape))
    root = 1 / np.sqrt(u + 1e-6)
    for block, x in {0: g, 1: np.clip(g, -0.1, 0.1), 2: w, 4: u, 6: root, 8: g * root}.items():
        blocks[block] = [x]
    x = np.stack([x / np.sqrt(1e-5 + np.mean(x**2)) for block in blocks for x in block], axis=-1)
    x = np.maximum(x @ np.concatenate([net[f"w0__{k}"] for k in range(14)]) + net["b0"], 0)
    o = np.maximum(x @ net["w1"] + net["b1"], 0) @ net["w2"] + net["b2"]
    return 1e-3 * multiplier * np.sqrt(np.mean(w**2) + 1e-9) * o[..., 0] * np.exp(1e-3 * o[..., 1])


def average(decay, values):
    found = np.zeros_like(values[0])
    for value in values:
        found = decay * found + (1 - decay) * value
    return found


def adam_by_definition(theta, multiplier, grads, w, *, corrected, relative):
    del theta
    m, u = average(0.9, grads), average(0.999, [g**2 for g in grads])
    if corrected:
        m, u = m / (1 - 0.9 ** len(grads)), u / (1 - 0.999 ** len(grads))
    scale = np.sqrt(np.mean(w**2) + 1e-9) if relative else 1.0
    return 1e-3 * multiplier * scale * m / (1e-8 + np.sqrt(u + 1e-10))


DEFINITIONS = {  # name -> (lambda of what the schedule says, the rule)
    "celo": (lambda said: 0.1 * np.exp(said), celo_by_definition),
    "celo_adam": (
        lambda said: 0.1 * np.exp(said),
        functools.partial(adam_by_definition, corrected=True, relative=False),
    ),
    "sinv6": (
        lambda said: min(max(said, 1e-5), 1000.0),
        functools.partial(adam_by_definition, corrected=False, relative=True),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_the_definition(name):
    theta, (multiplier_of, rule) = example_theta(name), DEFINITIONS[name]
    optimizer = ELSEWHERE[name].make(theta, HORIZON)
    params, state, update, seen = PARAMS, optimizer.init(PARAMS), jax.jit(optimizer.update), []
    said = said_by_definition(theta, LOSSES)
    assert len({multiplier_of(each) for each in said}) == len(LOSSES)
    for t, loss in enumerate(LOSSES):
        grads = gradients(t, PARAMS)
        # Before the fourth step an entry is beyond the limit of a gradient.
        grads |= {"b": grads["b"].at[0].multiply(1e5)} if t == 3 else {}
        updates, state = update(grads, state, params, value=loss)
        seen.append(jax.tree.map(lambda g: np.clip(np.asarray(g, np.float64), -1000, 1000), grads))
        for key, w in params.items():
            history = [grads[key] for grads in seen]
            expected = -rule(theta, multiplier_of(said[t]), history, np.asarray(w, np.float64))
            largest = np.max(np.abs(expected))
            # What a comparison of averages, or a sum of 30 products, makes of roundings to float32.
            np.testing.assert_allclose(updates[key], expected, rtol=0, atol=1e-4 * largest, err_msg=f"{t} {key}")
        params = optax.apply_updates(params, updates)


def test_of_axes_of_one_size_the_later_is_the_larger():
    assert celo.largest((16, 10)) == (0, 1)
    assert celo.largest((3, 3, 4, 8)) == (3, 2)
    assert celo.largest((4, 4, 1, 3)) == (1, 0)
    assert celo.largest((5, 5)) == (1, 0)
    assert celo.largest((2, 5, 5)) == (2, 1)


def test_the_horizon_is_read_where_the_run_begins():
    """Ten decays, between those of 10 steps and of the horizon; beyond it the schedule goes on."""
    theta = example_theta("sinv6")
    state = celo.sinv6(theta, 2000).init(PARAMS).schedule
    np.testing.assert_allclose(state.decays[jnp.array([0, 9])], np.exp([-1 / 10, -1 / 2000]), rtol=1e-6)
    np.testing.assert_allclose(celo.sinv6(theta, 10).init(PARAMS).schedule.decays, np.exp(-1 / 10), rtol=1e-6)
    assert np.all(np.diff(celo.sinv6(theta, 4).init(PARAMS).schedule.decays) < 0)
    # As in a schedule, the horizon may be traced.
    traced = jax.jit(lambda horizon: celo.sinv6(theta, horizon).init(PARAMS))(2000)
    assert_trees_close(traced.schedule, state, rtol=1e-6)


# In a loop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_structure_shapes_and_dtypes_are_kept_and_nothing_retraces(name):
    optimizer = ELSEWHERE[name].make(example_theta(name), HORIZON)
    traces = CountingTraces(optimizer.update)
    step = jax.jit(traces)
    params = PARAMS | {"k": PARAMS["k"].astype(jnp.bfloat16)}
    state = optimizer.init(params)
    expected = kinds(state)
    for t in range(3):
        updates, state = step(gradients(t, params), state, params, value=jnp.float32(2.0))
        assert kinds(updates) == kinds(params)
        assert kinds(state) == expected
    assert (traces.count, int(state.count)) == (1, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype(np.int32), np.dtype(np.float32)}


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_by_the_inner_loop(name):
    """One scan, in which the state keeps its type and the loss reaches the rule."""
    task, key = linear_task(), jax.random.key(0)
    optimizer = ELSEWHERE[name].make(example_theta(name), 6)
    state = tasks.inner_loop.init(task, optimizer, key)
    end, trace = jax.jit(tasks.inner_loop.unroll, static_argnums=(1, 4))(task, optimizer, state, key, 6)
    assert np.isfinite(trace.inner_loss).all()
    assert end.opt_state.count == 6
    assert not np.array_equal(end.params["w"], state.params["w"])


@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_theta_equals_a_loop(name):
    params, theta = {"b": PARAMS["b"]}, example_theta(name)
    alone = first_update(name, params)
    two = jax.tree.map(lambda leaf: jnp.stack([0.5 * leaf, leaf]), theta)
    both = jax.vmap(lambda theta: first_update(name, params, theta))(two)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[1], both), alone, rtol=1e-5)


def test_weights_without_influence_have_no_gradient_and_the_others_have():
    params = {"b": PARAMS["b"]}

    def total(theta):
        optimizer = celo.celo(theta, HORIZON)
        updates, _ = optimizer.update(gradients(0, params), optimizer.init(params), params, value=2.0)
        return jnp.sum(updates["b"] * jnp.array([1.0, -2.0, 0.5]))

    gradient = jax.jit(jax.grad(total))(example_theta("celo"))
    silent = {key for key, leaf in gradient.items() if not np.any(leaf)}
    assert silent == {f"rnn_params/{layer}/{leaf}" for layer in ("linear", "rnn_to_controls") for leaf in "wb"}
    assert not np.any(gradient["ff_mod_stack/~/w2"][..., 2])
    assert all(np.isfinite(leaf).all() for leaf in gradient.values())


def test_what_starts_at_zero_hardly_moves_and_what_has_no_gradient_moves():
    params = {"zero": jnp.zeros(4), "still": jnp.ones(4)}
    optimizer = celo.celo(example_theta("celo"), HORIZON)
    grads = {"zero": jnp.ones(4), "still": jnp.zeros(4)}
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params, value=2.0)
    assert 0 < np.max(np.abs(updates["zero"])) < 1e-4 * np.max(np.abs(updates["still"]))


@pytest.mark.parametrize(
    ("name", "per_parameter", "besides"),
    # Beside the schedule and two counters: of `k`, factored averages of 2 x 3 and of 2 x 4; of the vector and number v.
    [("celo", 16, 12 * (6 + 8 + 3 + 1)), ("celo_adam", 8, 0), ("sinv6", 8, 0)],
)
def test_the_bytes_of_state(name, per_parameter, besides):
    state = jax.eval_shape(ELSEWHERE[name].make(example_theta(name), HORIZON).init, PARAMS)
    found = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert found == per_parameter * (24 + 3 + 1) + besides + 4 * (3 * 10 + 2 * 64) + 8


@pytest.mark.parametrize("name", NAMES)
def test_without_parameters_or_a_loss_it_says_what_it_needs(name):
    optimizer = ELSEWHERE[name].make(example_theta(name), HORIZON)
    state = optimizer.init(PARAMS)
    for given in ({"params": PARAMS}, {"value": 2.0}):
        with pytest.raises(
            ValueError, match=rf"{name} reads parameters and loss: call update\(grads, state, params, v"
        ):
            optimizer.update(PARAMS, state, **given)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_in_one_line(name):
    make = ELSEWHERE[name].make
    for horizon in (0, -5, np.nan, np.inf, True, "1000", None):
        with pytest.raises(ValueError, match="expected a horizon of at least 1 step, got") as caught:
            make(example_theta(name), horizon)
        assert_one_line(caught.value)
    optimizer = make(example_theta(name), HORIZON)
    state = optimizer.init(PARAMS)
    for losses in (jnp.ones(10), jnp.ones(4)):
        with pytest.raises(
            ValueError, match=r"value is the loss of this step, one number: got an array of shape"
        ) as caught:
            optimizer.update(PARAMS, state, PARAMS, value=losses)
        assert_one_line(caught.value)
    complexes = jax.tree.map(lambda p: p + 1j, PARAMS)
    with pytest.raises(ValueError, match="parameters are complex") as caught:
        optimizer.update(complexes, state, complexes, value=1.0)
    assert_one_line(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_python_are_parameters_too(name):
    optimizer = ELSEWHERE[name].make(example_theta(name), HORIZON)
    updates, _ = optimizer.update({"a": 0.5}, optimizer.init({"a": 1.0}), {"a": 1.0}, value=2.0)
    arrays = {"a": jnp.array(1.0)}
    expected, _ = optimizer.update({"a": jnp.array(0.5)}, optimizer.init(arrays), arrays, value=2.0)
    assert_trees_close(updates, expected)


# Beside their authors' code -------------------------------------------------------------------------------------------

# Differences that rounding explains, as `of_largest` or a name says, for Celo, Celo-Adam, Sinv6. Single mistakes, such
# as an exponent, an axis or a constant that is missing, move some step by a thousandth of the largest or more.
DEMANDS = {
    "lstm_input": (2e-4, 1e-3, 2e-4),
    "lr_mult": (5e-5, 5e-4, 5e-5),
    "features_raw": (5e-5, None, None),
    "features_normalized": (1e-4, None, None),
    "step": (5e-5, 7e-4, 1e-4),
    "params": (1e-5, 2e-4, 1e-4),
    "losses": (1e-5, 2e-4, 5e-5),
    "final_loss": (1e-5, 5e-5, 5e-5),
    "state": (2e-5, 2e-5, 2e-5),
}
# On the long horizon neighbouring averages of the loss nearly coincide at first, and their comparison divides the
# difference of float32 numbers that are nearly equal: (steps, of inputs, of lambda).
EARLY_DEMANDS = ((20, 2e-2, 5e-3), (100, 5e-3, 5e-3), (None, 3e-4, 2e-3))
MEDIAN_DEMAND = 1e-5
# Compiling is most of the time of these tests.
QUICKLY = {"xla_backend_optimization_level": 0}


def demand(name, quantity):
    return DEMANDS[quantity][NAMES.index(name)]


class Recorded:
    """What the authors' code computed, and theta."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.theta = jax.tree.map(jnp.asarray, elsewhere.read(name, folder))
        self.arrays = np.load(folder / name / "reference.npz")

    def __getitem__(self, key):
        return self.arrays[key]

    def tensors(self, prefix):
        """Tensor -> array of all names below a prefix."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays.files if key.startswith(prefix)}


@functools.cache
def read_recorded(name):
    """What is recorded, or a skip that says what is missing."""
    folder = os.environ.get(elsewhere.VARIABLE)
    if not folder:
        pytest.skip(f"{elsewhere.VARIABLE} is unset: no weights of others to read")
    if not (Path(folder) / name / "reference.npz").is_file():
        pytest.skip(f"no reference.npz of {name} in {folder}")
    return Recorded(name, Path(folder))


@pytest.fixture(scope="module", params=NAMES)
def recorded(request):
    return read_recorded(request.param)


@functools.cache
def scheduled(recorded, problem):
    """Inputs of the schedule, lambdas and states after each update."""
    multiplier_of = celo._linear if recorded.name == "sinv6" else celo._exponential
    horizon = jnp.float32(recorded[f"{problem}/num_steps"])

    def step(carry, loss):
        state, count = carry
        inputs = jnp.concatenate([celo.time_inputs(count, horizon), celo.loss_averages(state, count, loss)[2]])
        said, state = celo.schedule(recorded.theta, state, count, horizon, loss)
        return (state, count + 1), (inputs, multiplier_of(said), state)

    begin = jax.jit(celo.schedule_begin)(recorded.theta, horizon)
    return jax.jit(lambda losses: jax.lax.scan(step, (begin, jnp.int32(0)), losses)[1])(recorded[f"{problem}/losses"])


@functools.cache
def replayed(recorded, problem):
    """Updates, parameters and the last state, for the recorded gradients and losses."""
    optimizer = ELSEWHERE[recorded.name].make(recorded.theta, int(recorded[f"{problem}/num_steps"]))

    def run(params, state, grads, losses):
        def step(carry, given):
            params, state = carry
            updates, state = optimizer.update(given[0], state, params, value=given[1])
            params = optax.apply_updates(params, updates)
            return (params, state), (updates, params)

        return jax.lax.scan(step, (params, state), (grads, losses))

    params = jax.tree.map(jnp.asarray, recorded.tensors(f"{problem}/initial_params/"))
    given = (params, jax.jit(optimizer.init)(params), recorded.tensors(f"{problem}/gradients/"))
    given = (*given, recorded[f"{problem}/losses"])
    (_, state), (updates, params) = jax.jit(run).lower(*given).compile(compiler_options=QUICKLY)(*given)
    return updates, params, state


def of_largest(found, expected):
    """The difference over the largest entry of each row of `expected`; where that is 0, so has to be `found`."""
    found, expected = (np.asarray(x).reshape(len(x), -1) for x in (found, expected))
    largest = np.max(np.abs(expected), axis=1)
    assert not np.any(found[largest == 0])
    difference = np.max(np.abs(found - expected), axis=1)
    return np.max(difference[largest > 0] / largest[largest > 0], initial=0.0)


PROBLEMS = ("fixed", "least_squares", "edge")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_schedule_is_theirs(recorded, problem):
    inputs, multipliers, states = scheduled(recorded, problem)
    expected = {key: recorded[f"{problem}/expected/{key}"] for key in ("lstm_input", "lr_mult", "lstm_hidden")}
    assert np.max(np.abs(inputs - expected["lstm_input"])) <= demand(recorded.name, "lstm_input")
    assert np.max(np.abs(multipliers / expected["lr_mult"] - 1)) <= demand(recorded.name, "lr_mult")
    np.testing.assert_allclose(states.hidden, expected["lstm_hidden"], rtol=0, atol=demand(recorded.name, "lstm_input"))
    np.testing.assert_allclose(states.decays[0], recorded[f"{problem}/expected/loss_decays"], rtol=2e-7)
    np.testing.assert_allclose(states.losses, recorded[f"{problem}/expected/loss_means"], rtol=1e-5)
    np.testing.assert_allclose(states.lowest, recorded[f"{problem}/expected/loss_running_min"], rtol=1e-5)


def test_the_schedule_is_theirs_over_a_long_horizon_and_beyond_it(recorded):
    inputs, multipliers, _ = scheduled(recorded, "schedule")
    of_inputs = np.max(np.abs(inputs - recorded["schedule/expected/lstm_input"]), axis=1)
    of_multipliers = np.abs(multipliers / recorded["schedule/expected/lr_mult"] - 1)
    begin = 0
    for end, *demands in EARLY_DEMANDS:
        found = [float(np.max(part[begin:end])) for part in (of_inputs, of_multipliers)]
        assert all(np.less_equal(found, demands)), (begin, found)
        begin = end
    assert np.median(of_multipliers) <= MEDIAN_DEMAND


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_steps_are_theirs(recorded, problem):
    updates, params, state = replayed(recorded, problem)
    for key, update in updates.items():
        step = of_largest(-update, recorded[f"{problem}/expected/step/{key}"])
        assert step <= demand(recorded.name, "step"), key
        moved = of_largest(params[key], recorded[f"{problem}/expected/params/{key}"])
        assert moved <= demand(recorded.name, "params"), key
        tensor = state.tensors[key]
        kept = {"final_rms": tensor.second_moment}
        if recorded.name == "celo":
            kept["final_m"] = jnp.stack(tensor.momenta, axis=-1)
            if tensor.columns:
                kept["final_v_row"], kept["final_v_col"] = (
                    jnp.stack(part, axis=-1) for part in (tensor.rows, tensor.columns)
                )
            else:
                kept["final_v_diag"] = jnp.stack(tensor.rows, axis=-1)
        for name, found in kept.items():
            expected = recorded[f"{problem}/expected/{name}/{key}"]
            found = np.asarray(found).reshape(1, -1)  # sizes of 1 are left out there
            assert of_largest(found, expected.reshape(1, -1)) <= demand(recorded.name, "state"), (key, name)


@pytest.mark.parametrize(("problem", "moments"), [("fixed", (0, 1, 10, 29)), ("edge", (0, 6))])
def test_the_inputs_of_the_mlp_are_theirs(problem, moments):
    recorded = read_recorded("celo")
    begin = celo.celo(recorded.theta).init(recorded.tensors(f"{problem}/initial_params/")).tensors
    inputs_of = jax.jit(celo.celo_inputs, compiler_options=QUICKLY)
    for key, w in recorded.tensors(f"{problem}/initial_params/").items():
        state = begin[key]
        for t in range(max(moments) + 1):
            g = jnp.clip(recorded[f"{problem}/gradients/{key}"][t], -1000, 1000)
            inputs, state = inputs_of(g, jnp.asarray(w), state)
            w = recorded[f"{problem}/expected/params/{key}"][t]
            if t not in moments:
                continue
            columns = np.stack([np.broadcast_to(x, g.shape).ravel() for x in inputs])
            raw, normalized = (
                recorded[f"{problem}/expected/features_{kind}/step{t:02}/{key}"].reshape(-1, 30).T
                for kind in ("raw", "normalized")
            )
            assert of_largest(columns, raw) <= demand("celo", "features_raw"), (key, t)
            columns = columns * np.asarray(celo.over_sizes(inputs))[:, None]
            assert np.max(np.abs(columns - normalized)) <= demand("celo", "features_normalized"), (key, t)


def test_a_training_run_is_theirs(recorded):
    optimizer = ELSEWHERE[recorded.name].make(recorded.theta, int(recorded["least_squares/num_steps"]))
    data = [np.asarray(recorded[f"least_squares/data/{part}"], np.float64) for part in ("inputs", "targets")]
    params = recorded.tensors("least_squares/initial_params/")
    state, update, losses = optimizer.init(params), jax.jit(optimizer.update, donate_argnums=1), []
    for t in range(100):
        loss, grads = least_squares(params, *(part[16 * (t % 4) : 16 * (t % 4) + 16] for part in data))
        losses.append(loss)
        updates, state = update(grads, state, params, value=np.float32(loss))
        params = {key: np.asarray(w + updates[key]) for key, w in params.items()}
    expected = recorded["least_squares/losses"]
    np.testing.assert_allclose(losses, expected, rtol=demand(recorded.name, "losses"))
    final = recorded["least_squares/expected/final_loss"]
    assert least_squares(params, *data)[0] == pytest.approx(final, rel=demand(recorded.name, "final_loss"))


def least_squares(params, inputs, targets):
    """Mean squared error of tanh(x W1 + b1) W2 + b2 and its gradients, computed in float64."""
    p = {key: np.asarray(w, np.float64) for key, w in params.items()}
    hidden = np.tanh(inputs @ p["hidden_kernel"] + p["hidden_bias"])
    error = hidden @ p["output_kernel"] + p["output_bias"] - targets
    above = 2 * error / error.size
    below = (above @ p["output_kernel"].T) * (1 - hidden**2)
    grads = {
        "hidden_kernel": inputs.T @ below,
        "hidden_bias": below.sum(0),
        "output_kernel": hidden.T @ above,
        "output_bias": above.sum(0),
    }
    return np.mean(error**2), {key: grads[key].astype(np.float32) for key in params}
