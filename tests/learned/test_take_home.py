"""The learned optimizer in a user's own loop: docs/take_home.md, line by line."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx, serialization
from flax.training.train_state import TrainState
from optax.contrib import MuonDimensionNumbers

import learned
from learned import weights
from tasks import EvaluationParams
from tests.helpers import REPOSITORY, assert_one_line, assert_trees_close, kinds
from tests.learned.test_designs import example_theta

RNG = np.random.default_rng(11)
PARAMS = {
    "conv": jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32),
    "w": jnp.asarray(RNG.normal(size=(8, 4)), jnp.float32),
    "b": jnp.zeros(4),
    "s": jnp.array(1.0),
}


@pytest.fixture(scope="module", params=["made", learned.HEADLINE])
def load(request, tmp_path_factory):
    """`learned.load` of what ships, and of weights of order one, so that a mistake in any input is visible."""
    if request.param == learned.HEADLINE:
        return functools.partial(learned.load, weights.WEIGHTS_DIR / f"{learned.HEADLINE}.safetensors")
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    theta = {name: 0.2 * leaf for name, leaf in example_theta("normalized", hidden=4).items()}
    card = weights.Card("mine", "normalized", {"hidden": 4}, {"family": "imagenet8_cnn3"}, {})
    path.write_bytes(weights.save_bytes(theta, card))
    return functools.partial(learned.load, path)


def path_of(load):
    """The weights' file."""
    return load.args[0]


def gradients(inner_step, params=PARAMS):
    rng = np.random.default_rng(inner_step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def trained(optimizer, params=PARAMS, num_steps=3, **extra):
    """Parameters and state after some steps."""
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for inner_step in range(num_steps):
        updates, state = update(gradients(inner_step, params), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


# Loops ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_parameters_and_state_can_be_donated(load, compiled):
    optimizer, params = load(horizon=jnp.float32(9)), jax.tree.map(jnp.array, PARAMS)
    state = (jax.jit(optimizer.init) if compiled else optimizer.init)(params)

    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params, value=1.0)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    for inner_step in range(3):
        params, state = step(params, state, gradients(inner_step))
    assert_trees_close(params, trained(load(horizon=9), value=1.0)[0], rtol=1e-5, atol=1e-6)
    assert optimizer.init(PARAMS).horizon == 9, "a horizon that is an array is not given away with the state"


@pytest.mark.parametrize("losses", [(1.0, 0.1, -0.5, -3.0), (0.0,) * 4, (np.nan,) * 4, (np.inf, 1.0, -np.inf, 0.5)])
def test_any_loss_gives_finite_updates_that_move(load, losses):
    optimizer = load()
    state = optimizer.init(PARAMS)
    for inner_step, loss in enumerate(losses):
        updates, state = optimizer.update(gradients(inner_step), state, PARAMS, value=loss)
    assert finite((updates, state._replace(horizon=jnp.zeros(()))))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(updates))


NO_HORIZONS = [0, -5, 0.5, float("nan"), float("inf"), np.float32(0), jnp.array(-1), True, "1000", "abc", 1j, [9, 9]]


@pytest.mark.parametrize("horizon", NO_HORIZONS)
def test_a_horizon_that_is_none_is_refused(load, horizon):
    with pytest.raises(ValueError, match="expected a horizon of at least 1 step, or None for one that") as caught:
        load(horizon=horizon)
    assert_one_line(caught.value)


@pytest.mark.parametrize("horizon", [0, -5, np.nan, np.inf])
def test_a_traced_horizon_that_is_none_is_not_told(load, horizon):
    def update(horizon):
        optimizer = load(horizon=horizon)
        return optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]

    assert_trees_close(jax.jit(update)(jnp.float32(horizon)), update(None), rtol=1e-5, atol=1e-7)


def test_the_horizon_is_that_which_the_state_was_made_for(load):
    state, longer = load(horizon=2).init(PARAMS), load(horizon=1000)
    kept, _ = longer.update(PARAMS, state, PARAMS)
    assert_trees_close(kept, load(horizon=2).update(PARAMS, state, PARAMS)[0], rtol=0, atol=0)
    changed, _ = longer.update(PARAMS, optax.tree_utils.tree_set(state, horizon=jnp.float32(1000)), PARAMS)
    assert_trees_close(changed, longer.update(PARAMS, longer.init(PARAMS), PARAMS)[0], rtol=0, atol=0)
    assert not np.allclose(kept["w"], changed["w"])


@pytest.mark.parametrize("value", [np.ones(1), jnp.ones((64,)), [[2.0]]])
def test_a_loss_that_is_not_one_number_is_refused_in_one_line(load, value):
    optimizer = load()
    with pytest.raises(ValueError, match="value is the loss of this step, one number: got an array of shape") as caught:
        optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, value=value)
    assert_one_line(caught.value)


@pytest.mark.parametrize("value", ["1.0", 1j, {"loss": 1.0}])
def test_a_loss_that_is_no_real_number_is_refused_in_one_line(load, value):
    optimizer = load()
    with pytest.raises(ValueError, match="value is the loss of this step, one real number: got") as caught:
        optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, value=value)
    assert_one_line(caught.value)


@pytest.mark.parametrize("load", ["made"], indirect=True)  # what theta says has no part in it
@pytest.mark.parametrize("losses", [(1.0, 1e20, 1.0, 0.9), (1.0, -3e38, 1.0, 0.9)])
def test_a_loss_whose_square_is_beyond_float32_is_ignored_as_an_infinite_one_is(load, losses):
    optimizer, params = load(), PARAMS
    state = optimizer.init(params)
    for inner_step, loss in enumerate(losses):
        updates, state = optimizer.update(gradients(inner_step), state, params, value=loss)
        params = optax.apply_updates(params, updates)
    assert finite((params, state.loss))
    assert state.loss.seen == 3


def test_what_is_evaluated_is_a_copy_that_outlives_a_donated_state(load):
    optimizer, params = load(), jax.tree.map(jnp.array, PARAMS)
    state = optimizer.init(params)
    step = jax.jit(optimizer.update, donate_argnums=1)
    best = learned.evaluation_params(state, params)
    _, state = step(gradients(0), state, params, value=1.0)
    assert finite(best)
    params = learned.evaluation_params(state, params)
    jax.jit(optimizer.update, donate_argnums=(1, 2))(gradients(1), state, params, value=1.0)


def test_one_that_is_loaded_within_a_traced_function_can_be_used_outside_of_it(load):
    kept = []
    jax.jit(lambda params: kept.append(load()) or params)(PARAMS)
    updates, _ = kept[0].update(PARAMS, kept[0].init(PARAMS), PARAMS)
    expected, _ = load().update(PARAMS, load().init(PARAMS), PARAMS)
    assert_trees_close(updates, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        ({"w": PARAMS["w"]}, "there are 1 gradients for"),
        (PARAMS | {"w": PARAMS["w"][:, :1]}, "a gradient of shape .* for parameters of shape"),
    ],
)
def test_gradients_that_are_not_those_of_the_parameters_are_refused_in_one_line(load, grads, words):
    optimizer = load()
    with pytest.raises(ValueError, match=words) as caught:
        optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    assert_one_line(caught.value)


def test_a_name_that_is_none_is_refused_in_one_line():
    with pytest.raises(ValueError, match="expected the name or the path of weights, got 1000") as caught:
        learned.load(1000)
    assert_one_line(caught.value)


def test_the_name_of_the_command_line_is_known():
    assert_trees_close(trained(learned.load("learned"))[0], trained(learned.load(learned.HEADLINE))[0], rtol=0, atol=0)


def test_only_a_design_that_looks_at_shapes_takes_dimension_numbers():
    with pytest.raises(ValueError, match="takes no weight_dimension_numbers") as caught:
        learned.load("lopt_ortho_valid", weight_dimension_numbers=lambda params: None)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"empty": jnp.zeros((0, 4)), "b": jnp.ones(3)},
        {"empty": jnp.zeros((3, 3, 0, 4))},
        {"none": None, "w": jnp.ones((3, 2))},
        jnp.ones((3, 2)),
        (jnp.ones(()), [jnp.ones((1, 1, 1, 1, 2))]),
    ],
    ids=["nothing", "no_elements", "empty_kernel", "none", "an_array", "nested"],
)
def test_any_tree(load, params):
    moved, state = trained(load(), params, value=1.0)
    assert kinds(moved) == kinds(params)
    assert finite((moved, state.momentum))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, "mixed"])
def test_half_precision(load, dtype):
    dtypes = dict(zip(PARAMS, (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float32), strict=True))
    params = {name: p.astype(dtypes[name] if dtype == "mixed" else dtype) for name, p in PARAMS.items()}
    moved, state = trained(load(), params, value=jnp.bfloat16(1.0))
    assert kinds(moved) == kinds(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.momentum, state.slow))} == {jnp.dtype("float32")}


def test_double_precision(load):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), jnp.float64), PARAMS)
        moved, _ = trained(load(), params, value=np.float64(1.0))
        assert kinds(moved) == kinds(params)
        moved = jax.tree.map(np.asarray, moved)
    assert_trees_close(moved, trained(load(), value=1.0)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_loop_within_the_program_keeps_the_state_as_it_is_where_double_precision_is_on(load, dtype):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), dtype), PARAMS)
        optimizer = load(horizon=np.float64(9))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(params, state, params, value=jnp.float64(1.0))
            return (optax.apply_updates(params, updates), state), None

        fresh = optimizer.init(params)
        (_, state), _ = jax.lax.scan(step, (params, fresh), length=2)
        assert kinds(state) == kinds(fresh)
        assert not any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(state))


def test_complex_parameters_are_refused_and_trained_in_their_two_parts(load):
    params = {"w": PARAMS["w"] + 0.5j, "b": PARAMS["b"]}
    with pytest.raises(
        ValueError, match=r"parameters are complex: put optax\.contrib\.split_real_and_imaginary"
    ) as caught:
        load().init(params)
    assert_one_line(caught.value)
    optimizer = optax.contrib.split_real_and_imaginary(load())
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update({"w": params["w"], "b": params["b"]}, state, params)
        params = optax.apply_updates(params, updates)
    average = learned.evaluation_params(state, params)
    assert kinds(average) == kinds(params)
    alone = load()
    parts = {"w": (PARAMS["w"], jnp.full(PARAMS["w"].shape, 0.5)), "b": PARAMS["b"]}
    moved, state = parts, alone.init(parts)
    for _ in range(3):
        updates, state = alone.update(moved, state, moved)
        moved = optax.apply_updates(moved, updates)
    real, imaginary = learned.evaluation_params(state, moved)["w"]
    np.testing.assert_allclose(average["w"], real + 1j * imaginary, rtol=1e-5, atol=1e-6)


def test_numbers_of_python_are_leaves(load):
    params, grads = {"w": PARAMS["w"], "s": 1.5}, {"w": PARAMS["w"], "s": 0.5}
    optimizer = load()
    found, _ = optimizer.update(grads, optimizer.init(params), params)
    arrays = jax.tree.map(jnp.float32, (grads, params))
    expected, _ = optimizer.update(arrays[0], optimizer.init(arrays[1]), arrays[1])
    assert_trees_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("numbers", [MuonDimensionNumbers(0, 5), MuonDimensionNumbers((0, -3), 1)])
def test_dimension_numbers_that_a_leaf_has_not_are_refused_in_one_line(load, numbers):
    with pytest.raises(ValueError, match=r"dimension numbers name the axes .* and the leaf has 2") as caught:
        load(weight_dimension_numbers={"w": numbers}).init({"w": PARAMS["w"]})
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"w": MuonDimensionNumbers(0, 0)}, "name an axis twice"),
        ({"w": MuonDimensionNumbers(None, 1)}, "dimension numbers name axes, got None"),
        ({"w": (0, 1)}, "is no tree like the parameters, of MuonDimensionNumbers or None"),
        (MuonDimensionNumbers(0, 1), "is no tree like the parameters, of MuonDimensionNumbers or None"),
        ({"w": None, "x": None}, "is no tree like the parameters, of MuonDimensionNumbers or None"),
    ],
)
def test_dimension_numbers_that_are_none_are_refused_in_one_line(load, numbers, words):
    with pytest.raises(ValueError, match=words) as caught:
        load(weight_dimension_numbers=numbers).init({"w": PARAMS["w"]})
    assert_one_line(caught.value)


@pytest.mark.parametrize("load", ["made"], indirect=True)  # what theta says has no part in it
def test_a_tree_of_dimension_numbers_serves_where_some_leaves_are_masked(load):
    numbers = {name: MuonDimensionNumbers(np.int64(1), 0) if p.ndim == 2 else None for name, p in PARAMS.items()}
    mask = {name: p.ndim == 2 for name, p in PARAMS.items()}
    expected, _ = trained(load(weight_dimension_numbers=numbers), PARAMS)
    for given in (numbers, lambda params: numbers):
        found, _ = trained(optax.masked(load(weight_dimension_numbers=given), mask), PARAMS)
        for name in filter(mask.get, PARAMS):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("load", ["made"], indirect=True)  # what theta says has no part in it
@pytest.mark.parametrize("shape", [(1, 5), (5, 1, 1), (1, 1, 1, 5)])
def test_what_is_a_vector_but_for_its_axes_is_updated_as_one(load, shape):
    vector = {"b": jnp.linspace(-1.0, 2.0, 5)}
    shaped = jax.tree.map(lambda x: x.reshape(shape), vector)
    (found, _), (expected, _) = (trained(load(), tree) for tree in (shaped, vector))
    np.testing.assert_allclose(found["b"].reshape(-1), expected["b"], rtol=1e-5, atol=1e-6)
    assert learned.dimension_numbers({"w": jnp.ones((5, 1))})["w"] == MuonDimensionNumbers((0,), 1)


# optax ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: optax.chain(optax.clip_by_global_norm(1e3), inner),
        lambda inner: optax.apply_if_finite(inner, 3),
        lambda inner: optax.masked(inner, dict.fromkeys(PARAMS, True)),
        lambda inner: optax.partition({"a": inner}, dict.fromkeys(PARAMS, "a")),
        lambda inner: optax.named_chain(("learned", inner)),
        lambda inner: optax.MultiSteps(inner, 1).gradient_transformation(),
    ],
    ids=["chain", "apply_if_finite", "masked", "partition", "named_chain", "multi_steps"],
)
def test_it_does_the_same_inside(load, wrap):
    assert_trees_close(trained(wrap(load()))[0], trained(load())[0], rtol=1e-5, atol=1e-6)


def test_each_part_of_a_model_can_have_its_own(load):
    labels = {"conv": "learned", "w": "learned", "b": "sgd", "s": "frozen"}
    parts = {"learned": load(), "sgd": optax.sgd(0.1), "frozen": optax.set_to_zero()}
    moved, _ = trained(optax.partition(parts, labels))
    alone, _ = trained(load(), {name: PARAMS[name] for name in ("conv", "w")}, num_steps=0)
    assert moved["s"] == PARAMS["s"]
    assert not np.allclose(moved["w"], alone["w"])
    np.testing.assert_allclose(moved["b"], -0.1 * sum(gradients(t)["b"] for t in range(3)), rtol=1e-5)


def test_accumulated_steps_are_one_step_on_the_mean_gradient(load):
    several = optax.MultiSteps(load(), 2)
    state, params = several.init(PARAMS), PARAMS
    for inner_step in range(2):
        updates, state = jax.jit(several.update)(gradients(inner_step), state, params)
        params = optax.apply_updates(params, updates)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, gradients(0), gradients(1))
    optimizer = load()
    updates, _ = optimizer.update(mean, optimizer.init(PARAMS), PARAMS)
    assert_trees_close(params, optax.apply_updates(PARAMS, updates), rtol=1e-5, atol=1e-6)


def test_the_horizon_can_be_an_injected_hyperparameter(load):
    injected = optax.inject_hyperparams(learned.load, static_args=("name",))
    moved, state = trained(injected(path_of(load), horizon=50.0))
    assert state.hyperparams["horizon"] == 50
    assert_trees_close(moved, trained(load(horizon=50))[0], rtol=1e-5, atol=1e-6)


def test_lookahead(load):
    optimizer = optax.lookahead(load(), sync_period=2, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(PARAMS)
    state = optimizer.init(params)
    for inner_step in range(4):
        updates, state = jax.jit(optimizer.update)(gradients(inner_step), state, params)
        params = optax.apply_updates(params, updates)
    assert finite(params)
    assert not np.allclose(params.slow["w"], PARAMS["w"])


# Models and checkpoints -----------------------------------------------------------------------------------------------


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x)).mean(axis=(1, 2))
        x = nn.LayerNorm()(nn.Embed(5, 4)(jnp.arange(2)) + x)
        x = nn.MultiHeadDotProductAttention(2)(x[:, None], x[:, None])[:, 0]
        return nn.Dense(3)(x)


IMAGES = jnp.asarray(RNG.normal(size=(2, 6, 6, 3)), jnp.float32)


def test_a_linen_train_state_learns_and_is_saved_by_flax(load):
    net = Net()
    params = jax.jit(net.init)(jax.random.key(0), IMAGES)["params"]
    state = TrainState.create(apply_fn=net.apply, params=params, tx=load())
    loss = lambda params: jnp.mean((net.apply({"params": params}, IMAGES) - 1.0) ** 2)  # noqa: E731

    @jax.jit
    def step(state):
        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value  # which hands no loss on

    restored = serialization.from_bytes(state, serialization.to_bytes(state))
    assert kinds(restored.opt_state) == kinds(state.opt_state)
    state, first = step(state)
    restored, again = step(restored)
    assert first == again
    for _ in range(20):
        state, last = step(state)
    assert last < first


def _averages(node):
    return isinstance(node, EvaluationParams)


def test_an_nnx_optimizer_learns(load):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, load(), wrt=nnx.Param)
    x = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model)
        optimizer.update(model, grads, value=value)
        return value

    values = [float(step(model, optimizer)) for _ in range(30)]
    assert values[-1] < values[0]
    evaluated = learned.evaluation_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    nnx.update(model, evaluated)
    (average,) = (node.params for node in jax.tree.leaves(optimizer.opt_state, is_leaf=_averages) if _averages(node))
    assert_trees_close(jax.tree.leaves(nnx.state(model, nnx.Param)), jax.tree.leaves(average), rtol=0, atol=0)


def test_a_module_that_is_a_tree_with_static_parts(load):
    """As equinox has them: a layer stores (outputs, inputs), and what is not trained is None."""

    layer = jax.tree_util.Partial(lambda weight, bias, x: weight @ x, jnp.ones((2, 3)), None)
    numbers = jax.tree.map(lambda p: MuonDimensionNumbers(1, 0) if p.ndim == 2 else None, layer)
    moved, _ = trained(load(weight_dimension_numbers=numbers), layer)
    assert jax.tree.structure(moved) == jax.tree.structure(layer)
    assert moved(jnp.ones(3)).shape == (2,)


def test_attention_takes_the_dimension_numbers_of_muon(load):
    shapes = {"query": (8, 2, 4), "out": (2, 4, 8)}
    numbers = {"query": MuonDimensionNumbers(0, (1, 2)), "out": MuonDimensionNumbers((0, 1), 2)}
    params = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    grads = gradients(0, params)
    flat = lambda tree: jax.tree.map(lambda leaf: leaf.reshape(8, 8), tree)  # noqa: E731
    by_numbers, by_shape = load(weight_dimension_numbers=numbers), load()
    updates, _ = by_numbers.update(grads, by_numbers.init(params), params)
    expected, _ = by_shape.update(flat(grads), by_shape.init(flat(params)), flat(params))
    assert_trees_close(flat(updates), expected, rtol=1e-5, atol=1e-7)


def test_a_state_is_saved_and_restored_by_orbax(load, tmp_path):
    optimizer = load(horizon=10)
    params, state = trained(optimizer, value=1.0)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))
    assert_trees_close(restored, state, rtol=0, atol=0)
    next_updates = [optimizer.update(gradients(3), each, params, value=0.9)[0] for each in (state, restored)]
    assert_trees_close(*next_updates, rtol=0, atol=0)


# Sharding -------------------------------------------------------------------------------------------------------------

SHARDED = """
import contextlib
import jax
jax.config.update("jax_num_cpu_devices", 2)
import sys
import jax.numpy as jnp
import learned
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

optimizer = learned.load(sys.argv[1], horizon=10)
for shape in ((8, 4), (4, 8, 6), (2, 2, 4, 8), (8,)):
    rng = np.random.default_rng(0)
    params, grads = ({"w": jnp.asarray(rng.normal(size=shape), jnp.float32)} for _ in range(2))
    expected, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params, value=1.0)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
        for axis in range(len(shape)):
            spec = PartitionSpec(*("d" if a == axis else None for a in range(len(shape))))
            # Arrays with explicit axes bring their mesh.
            alone = kind == AxisType.Explicit and axis == 0
            with contextlib.nullcontext() if alone else jax.set_mesh(mesh):
                placed = [jax.device_put(tree, NamedSharding(mesh, spec)) for tree in (params, grads)]
                state = jax.jit(optimizer.init)(placed[0])
                updates, state = jax.jit(optimizer.update)(placed[1], state, placed[0], value=jnp.float32(1.0))
            np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-4, atol=1e-6)
            if kind == AxisType.Explicit:
                assert updates["w"].sharding.spec == spec, (updates["w"].sharding, spec)
                assert state.momentum["w"].sharding.spec == spec


def train(params):  # an ensemble: each device trains a net of its own, in a loop within the program
    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.sum((p["w"] - 1) ** 2))(params)
        updates, state = optimizer.update(grads, state, params, value=loss)
        return (jax.tree.map(jnp.add, params, updates), state), loss

    return jax.lax.scan(step, (params, optimizer.init(params)), length=3)[0][0]


both = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 4)), jnp.float32)}
expected = [jax.jit(train)(jax.tree.map(lambda x: x[k], both)) for k in range(2)]
with jax.set_mesh(jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))):
    one = lambda params: jax.tree.map(lambda x: x[None], train(jax.tree.map(lambda x: x[0], params)))
    found = jax.jit(jax.shard_map(one, in_specs=PartitionSpec("d"), out_specs=PartitionSpec("d")))(both)
for k in range(2):
    np.testing.assert_allclose(found["w"][k], expected[k]["w"], rtol=1e-5, atol=1e-6)
print("as on one device")
"""


@pytest.mark.parametrize("load", ["made"], indirect=True)  # what theta says has no part in it
@pytest.mark.slow
def test_sharding_over_any_axis_changes_no_update(load):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARDED, str(path_of(load))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=300)
    assert done.stdout == "as on one device\n", done.stderr[-2000:]
