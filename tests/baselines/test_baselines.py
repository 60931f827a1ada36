import dataclasses
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
from baselines import BASELINES, SHIPPED_DIR, LogUniform, find_tuned, loss_keys, read_tuned, tuned_path, warmup_cosine
from baselines.registry import warmup_constant, warmup_linear
from bench.checks.contract import examine
from bench.checks.optimizers import OPTIMIZER_CHECKS, OptimizerSubject
from tests.helpers import assert_one_line, assert_trees_close, kinds

HORIZON = 20
PARAMS = {"w": jnp.array([[0.3, -0.2, 0.5], [1.0, -1.0, 0.1]]), "b": jnp.array([0.1, 0.2, -0.3])}
ONLY_W = {"w": True, "b": False}
SHIPPED = sorted(SHIPPED_DIR.glob("*/*/*.json"))
SHIPPED_IDS = ["/".join(path.with_suffix("").parts[-3:]) for path in SHIPPED]


def gradients(inner_step):
    rng = np.random.default_rng(inner_step)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS)


# Rows that differ from another one only in where their values come from share its constructor; others have their own.
WITH_CONSTRUCTOR = {row.make: name for name, row in reversed(BASELINES.items())}
CONSTRUCTING = [name for name in BASELINES if name in WITH_CONSTRUCTOR.values()]


def test_a_row_that_shares_a_constructor_differs_in_where_its_values_come_from_only():
    sharing = [name for name in BASELINES if name not in CONSTRUCTING]
    assert sharing
    for name in sharing:
        row, first = BASELINES[name], WITH_CONSTRUCTOR[BASELINES[name].make]
        assert name.startswith(f"{first}_")
        changes = {"reference": row.reference, "tuned_by": row.tuned_by, "values_of": row.values_of}
        assert row == dataclasses.replace(BASELINES[first], **changes) != BASELINES[first]


@pytest.mark.parametrize("row", [BASELINES[name] for name in CONSTRUCTING], ids=CONSTRUCTING)
class TestEveryConstructor:
    """What the engine and the tuner rely on."""

    def test_it_keeps_the_contracts_that_plug_ins_are_checked_for(self, row):
        broken = [finding for finding in examine(OPTIMIZER_CHECKS, OptimizerSubject(row)) if not finding[1]]
        assert broken == []

    def test_the_default_optimizes_a_quadratic(self, row):
        num_steps, curvature = 2000, jnp.array([2.0, 1.0, 0.5])
        optimizer = row.make(row.default, num_steps)

        @jax.jit
        def run(params):
            def step(carry, _):
                params, state = carry
                updates, state = optimizer.update(curvature * params, state, params)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)[0][0]

        assert jnp.max(jnp.abs(run(jnp.array([0.5, -0.4, 0.3])))) < 3e-2

    def test_updates_of_half_precision_stay_in_half_precision(self, row):
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
        optimizer = row.make(row.default, HORIZON)
        state = jax.eval_shape(optimizer.init, params)
        updates, new_state = jax.eval_shape(optimizer.update, params, state, params)
        assert kinds(
            optax.apply_updates(params, jax.tree.map(lambda u: jnp.zeros(u.shape, u.dtype), updates))
        ) == kinds(params)
        assert kinds(new_state) == kinds(state)

    def test_only_scheduled_rows_depend_on_the_horizon(self, row):
        params = {"b": PARAMS["b"]}  # a kernel, whose direction is costly to Muon, has the same schedule

        def update_after_half(horizon):
            optimizer = row.make(row.default, horizon)
            state = optimizer.init(params)
            for inner_step in range(2):
                updates, state = optimizer.update({"b": gradients(inner_step)["b"]}, state, params)
            return updates["b"]

        assert np.array_equal(update_after_half(2), update_after_half(1000)) != row.scheduled


@pytest.mark.parametrize("row", BASELINES.values(), ids=BASELINES)
class TestEveryBaseline:
    def test_the_search_space_is_well_formed(self, row):
        for name, rng in row.space.items():
            assert rng.low_bound <= rng.low, name
            assert rng.high <= rng.high_bound, name
            if name.startswith("one_minus"):
                assert rng.high_bound <= 1.0, "a decay below zero"
        assert "learning_rate" in row.space
        assert len(row.space) <= 4  # the bases of the Halton stream that tuning documents

    def test_the_row_is_documented(self, row):
        assert re.search(r"\b(19|20)\d\d\b|arXiv \d{4}\.\d{5}|arXiv \d{4}\.\d{4}", row.reference)


# The constructors are optax's -----------------------------------------------------------------------------------------


def assert_same_updates(ours, expected, num_steps):
    """Asserts that two optimizers make the same updates of the same gradients."""
    state, expected_state = ours.init(PARAMS), expected.init(PARAMS)
    for inner_step in range(num_steps):
        updates, state = ours.update(gradients(inner_step), state, PARAMS)
        expected_updates, expected_state = expected.update(gradients(inner_step), expected_state, PARAMS)
        assert_trees_close(updates, expected_updates, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "expected"),
    [
        ("sgd_momentum", {"learning_rate": 0.3, "one_minus_momentum": 0.2}, optax.sgd(0.3, momentum=0.8)),
        ("rmsprop", {"learning_rate": 0.3, "one_minus_decay": 0.25}, optax.rmsprop(0.3, decay=0.75)),
        (
            "adam",
            {"learning_rate": 0.3, "one_minus_b1": 0.25, "one_minus_b2": 0.0625},
            optax.adam(0.3, b1=0.75, b2=0.9375),
        ),
    ],
)
def test_a_row_equals_the_constructor_of_optax_with_the_same_numbers(name, hyperparameters, expected):
    ours = BASELINES[name].make(hyperparameters, HORIZON)
    assert_same_updates(ours, expected, 2)


def test_adam_cosine_is_adam_at_the_scheduled_rate():
    h = {"learning_rate": 0.3, "one_minus_b1": 0.25, "one_minus_b2": 0.0625}
    scheduled, constant = BASELINES["adam_cosine"].make(h, HORIZON), BASELINES["adam"].make(h, HORIZON)
    state, constant_state = scheduled.init(PARAMS), constant.init(PARAMS)
    for inner_step in range(3):
        updates, state = scheduled.update(gradients(inner_step), state, PARAMS)
        unscaled, constant_state = constant.update(gradients(inner_step), constant_state, PARAMS)
        factor = float(warmup_cosine(1.0, HORIZON)(inner_step))
        assert_trees_close(updates, jax.tree.map(lambda u, f=factor: f * u, unscaled), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "at_rate"),
    [
        ("adamw_cosine", lambda rate: optax.adamw(rate, b1=0.75, b2=0.9375, weight_decay=0.5, mask=ONLY_W)),
        ("nadamw_b2_cosine", lambda rate: optax.nadamw(rate, b1=0.75, b2=0.9375, weight_decay=0.5, mask=ONLY_W)),
        ("lion_cosine", lambda rate: optax.lion(rate, b1=0.75, b2=0.9375, weight_decay=0.5, mask=ONLY_W)),
    ],
)
def test_a_row_with_decay_equals_the_constructor_of_optax_at_the_scheduled_rate(name, at_rate):
    h = {"learning_rate": 0.3, "one_minus_b1": 0.25, "one_minus_b2": 0.0625, "weight_decay": 0.5}
    ours, expected = BASELINES[name].make(h, HORIZON), at_rate(warmup_cosine(0.3, HORIZON))
    assert_same_updates(ours, expected, 3)


def test_sgd_with_decay_by_hand():
    h = {"learning_rate": 0.3, "one_minus_momentum": 0.25, "weight_decay": 0.5}
    ours, w, velocity = BASELINES["sgdw_cosine"].make(h, HORIZON), np.asarray(PARAMS["w"], np.float64), 0.0
    params = {"w": PARAMS["w"]}
    state = ours.init(params)
    for inner_step in range(3):
        grads = {"w": gradients(inner_step)["w"]}
        updates, state = ours.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.75 * velocity + np.asarray(grads["w"], np.float64)
        w = w - float(warmup_cosine(0.3, HORIZON)(inner_step)) * (velocity + 0.5 * w)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


DECAY_OF_BIASES = {"nadamw_cosine", "prodigy"}  # as optax has them


@pytest.mark.parametrize("name", [name for name, row in BASELINES.items() if "weight_decay" in row.default])
def test_decay_is_of_kernels_alone(name):
    row = BASELINES[name]

    def after_a_step(weight_decay):
        optimizer = row.make(row.default | {"weight_decay": weight_decay}, HORIZON)
        return optax.apply_updates(PARAMS, optimizer.update(gradients(0), optimizer.init(PARAMS), PARAMS)[0])

    with_decay, without = after_a_step(0.5), after_a_step(0.0)
    assert np.any(with_decay["w"] != without["w"])
    assert np.array_equal(with_decay["b"], without["b"]) == (name not in DECAY_OF_BIASES)


def test_the_slow_average_of_ademamix_by_hand():
    """Alpha grows evenly over the horizon, and so does 1 / ln b3, from that of b1."""
    horizon, row = 4, BASELINES["ademamix_cosine"]
    h = {"learning_rate": 1.0, "one_minus_b2": 0.5, "one_minus_b3": 0.01, "weight_decay": 0.0}
    optimizer, g = row.make(h, horizon), np.array([1.0, -2.0, 0.5])
    params = {"b": jnp.zeros(3)}
    state, slow, fast, nu = optimizer.init(params), 0.0, 0.0, 0.0
    for step in range(4):
        share = step / horizon
        b3 = np.exp(1 / ((1 - share) / np.log(0.9) + share / np.log(0.99)))
        slow, fast, nu = b3 * slow + (1 - b3) * g, 0.9 * fast + 0.1 * g, 0.5 * nu + 0.5 * g**2
        direction = (fast / (1 - 0.9 ** (step + 1)) + 5 * share * slow) / np.sqrt(nu / (1 - 0.5 ** (step + 1)))
        updates, state = optimizer.update({"b": jnp.asarray(g, jnp.float32)}, state, params)
        rate = float(warmup_cosine(1.0, horizon)(step))
        np.testing.assert_allclose(updates["b"], -rate * direction, rtol=1e-4, atol=1e-6)


def test_the_rate_of_biases_is_all_that_muon_with_four_hyperparameters_adds():
    three = BASELINES["muonw_cosine"].default
    ours = BASELINES["muonw_bias_cosine"].make({**three, "adam_learning_rate": 1e-2}, HORIZON)
    assert_trees_close(
        ours.update(gradients(0), ours.init(PARAMS), PARAMS)[0],
        (known := BASELINES["muonw_cosine"].make(three, HORIZON)).update(gradients(0), known.init(PARAMS), PARAMS)[0],
    )


# The schedule ---------------------------------------------------------------------------------------------------------


def test_warmup_cosine_by_hand():
    # Horizon 100: five steps of warm-up, then cosine over the other 95.
    schedule = warmup_cosine(2.0, 100)
    counts = [0, 1, 4, 5, 52, 99, 100, 500]
    expected = [0.4, 0.8, 2.0, 1 + math.cos(math.pi / 95), 1 + math.cos(math.pi * 48 / 95), 0.0, 0.0, 0.0]
    np.testing.assert_allclose([schedule(jnp.int32(c)) for c in counts], expected, atol=1e-6)


def test_warmup_linear_and_warmup_constant_by_hand():
    counts = jnp.array([0, 1, 4, 5, 52, 99, 100, 500])
    line = [0.4, 0.8, 2.0, 2 * 94 / 95, 2 * 47 / 95, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(warmup_linear(2.0, 100)(counts), line, atol=1e-6)
    np.testing.assert_allclose(warmup_constant(2.0, 100)(counts), [0.4, 0.8] + [2.0] * 6, atol=1e-6)


@pytest.mark.parametrize("horizon", [100, 500, 2000])
def test_warmup_cosine_equals_the_schedule_of_optax_one_step_on(horizon):
    # The schedule of optax starts at zero, which would waste the first step; ours starts at its second value.
    counts = jnp.asarray(np.linspace(0, horizon - 1, 100).round(), jnp.int32)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.3, round(0.05 * horizon), horizon)(counts + 1)
    np.testing.assert_allclose(warmup_cosine(0.3, horizon)(counts), theirs, atol=1e-6)


def test_warmup_cosine_peaks_at_the_end_of_the_warm_up_and_then_falls_to_zero():
    rates = np.asarray(warmup_cosine(0.3, 200)(jnp.arange(200)))
    assert rates.argmax() == 9
    assert rates.max() == np.float32(0.3)
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[9:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_warmup_cosine_is_finite_at_the_shortest_horizons(horizon):
    rates = np.asarray(warmup_cosine(0.3, horizon)(jnp.arange(horizon + 1)))
    assert np.all(np.isfinite(rates))
    assert rates[0] == np.float32(0.3)


# Search spaces --------------------------------------------------------------------------------------------------------


def test_a_range_is_uniform_in_the_logarithm():
    rng = LogUniform(1e-4, 1e-2)
    assert [rng.at(u) for u in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2])


def test_widening_moves_one_end_and_stops_at_its_bound():
    rng = LogUniform(0.1, 0.5, low_bound=0.05, high_bound=10.0)
    assert rng.widened("high") == dataclasses.replace(rng, high=2.0)
    assert rng.widened("low") == dataclasses.replace(rng, low=0.05)
    assert rng.widened("high").widened("high").widened("high").high == 10.0


# Tuned values that ship -----------------------------------------------------------------------------------------------


def test_tuned_values_ship():
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=SHIPPED_IDS)
class TestEveryShippedTuning:
    def test_is_filed_under_what_it_says(self, path):
        record = read_tuned(path)
        assert tuned_path(SHIPPED_DIR, record["family"], record["horizon"], record["optimizer"]) == path
        assert record["family"] in tasks.FAMILIES
        assert record["optimizer"] in BASELINES

    def test_chose_a_point_inside_its_space(self, path):
        record = read_tuned(path)
        row = BASELINES[record["optimizer"]]
        assert set(record["hyperparameters"]) == set(record["space"]) == set(row.space)
        for name, value in record["hyperparameters"].items():
            low, high = record["space"][name]
            assert low * (1 - 1e-6) <= value <= high * (1 + 1e-6)  # records keep seven digits
            assert low <= row.space[name].low * (1 + 1e-6), "a space is widened, never narrowed"
            assert high >= row.space[name].high * (1 - 1e-6)

    def test_is_interior_or_says_on_which_edge(self, path):
        record = read_tuned(path)
        assert record["interior"] is (record["on_edge"] == {})
        assert set(record["on_edge"]) <= set(record["space"])

    def test_spent_the_full_budget(self, path):
        record = read_tuned(path)
        for trials in [record["trials"], *(earlier["trials"] for earlier in record["earlier_rounds"])]:
            assert len(trials) == (32 if len(record["space"]) <= 3 else 64)
            first, further = loss_keys(BASELINES[record["optimizer"]].tuned_by)
            assert all(len(trial[first]) == 2 for trial in trials)
            reruns = [trial[further] for trial in trials if further in trial]
            assert [len(losses) for losses in reruns] == [6, 6, 6]

    def test_chose_the_best_of_the_rerun_trials(self, path):
        record = read_tuned(path)
        split = BASELINES[record["optimizer"]].tuned_by
        first, further = loss_keys(split)

        def mean(trial):
            losses = trial[first] + trial[further]
            return math.inf if None in losses else float(np.mean(losses))

        best = min((trial for trial in record["trials"] if further in trial), key=mean)
        assert (
            best["hyperparameters"]
            == record["hyperparameters"]
            == (record["trials"][record["best_trial"]]["hyperparameters"])
        )
        assert record[f"{split}_loss"] == pytest.approx(mean(best), rel=1e-5)

    def test_saw_no_evaluation_task_and_no_reporting_seed(self, path):
        record = read_tuned(path)
        assert record["first_seed"] >= 1000
        assert len(record["tasks"]) == 2
        for task in record["tasks"]:
            row = tasks.family_row(task)
            assert row.problem.family == record["family"]
            assert "outer_validation" in task.split("/") if row.pools else task == record["family"]

    def test_is_found_under_its_name(self, path):
        record = read_tuned(path)
        tuned = find_tuned(record["family"], record["horizon"], record["optimizer"])
        assert (tuned.hyperparameters, tuned.horizon, tuned.path) == (
            record["hyperparameters"],
            record["horizon"],
            path,
        )


# Finding tuned values -------------------------------------------------------------------------------------------------


def write(directory, horizon, rate, family="digits8_mlp", optimizer="adam"):
    path = tuned_path(directory, family, horizon, optimizer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"hyperparameters": {"learning_rate": rate}}))
    return path


def test_the_horizon_nearest_in_ratio_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("baselines.tuned_values.SHIPPED_DIR", tmp_path)
    for horizon in (100, 1000):
        write(tmp_path, horizon, horizon / 1e4)
    # 400 is 300 from 100 and 600 from 1000, but a factor of 4 from the one and 2.5 from the other.
    assert find_tuned("digits8_mlp", 400, "adam").horizon == 1000
    assert find_tuned("digits8_mlp", 300, "adam").horizon == 100
    assert find_tuned("digits8_mlp", 300, "adam").hyperparameters == {"learning_rate": 0.01}


def test_local_values_come_before_shipped_ones_of_the_same_horizon(tmp_path, monkeypatch):
    monkeypatch.setattr("baselines.tuned_values.SHIPPED_DIR", tmp_path / "shipped")
    shipped = write(tmp_path / "shipped", 500, 0.1)
    local = write(tmp_path / "local", 500, 0.2)
    assert find_tuned("digits8_mlp", 500, "adam", local_dir=tmp_path / "local").path == local
    assert find_tuned("digits8_mlp", 500, "adam").path == shipped
    # A shipped horizon that is nearer wins over a local one.
    write(tmp_path / "local", 2000, 0.3)
    nearer = write(tmp_path / "shipped", 1000, 0.4)
    assert find_tuned("digits8_mlp", 1100, "adam", local_dir=tmp_path / "local").path == nearer


def test_an_optimizer_never_tuned_on_the_family_has_no_values(tmp_path, monkeypatch):
    monkeypatch.setattr("baselines.tuned_values.SHIPPED_DIR", tmp_path)
    write(tmp_path, 500, 0.1)
    (tmp_path / "digits8_mlp" / "notes").mkdir()
    (tmp_path / "digits8_mlp" / "notes" / "adam.json").write_text("{}")
    assert find_tuned("digits8_mlp", 500, "rmsprop") is None
    assert find_tuned("digits8_cnn3", 500, "adam") is None
    assert find_tuned("digits8_mlp", 500, "adam").horizon == 500


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"hyperparameters": 3}', '{"hyperparameters": {"learning_rate": null}}'],
)
def test_a_file_that_is_no_record_is_named_in_one_line(content, tmp_path):
    path = write(tmp_path, 500, 0.1, family="mine")
    path.write_text(content)
    with pytest.raises(ValueError, match="expected a record written by `bench tune`") as caught:
        find_tuned("mine", 500, "adam", local_dir=tmp_path)
    assert str(path) in str(caught.value)
    assert_one_line(caught.value)
