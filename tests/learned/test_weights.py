import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save

import learned
import tasks
from bench.entries.entrants import optimizer_names
from learned import weights
from learned.designs import DESIGNS, FEATURES_VERSIONS, make_design
from learned.normalized import OF_KINDS
from tests.helpers import assert_one_line

# The second update of each shipped optimizer, and of intermediate weights, for the parameters and gradients below: what
# a file means. A new file gets a new line (the failing test prints it); a changed line for an unchanged file is a
# broken contract.
KNOWN_STEPS = {
    "lopt_home": [-0.00232171, 0.00285963, -0.000207506, 0.000793162, -0.0617645, 0.0396718, -0.0482316, -0.0957517],
    "lopt_home_start": [
        -0.00232171,
        0.00285963,
        -0.000207506,
        0.000793162,
        -0.0617645,
        0.0396718,
        -0.0482316,
        -0.0957517,
    ],
    "lopt_ortho": [-0.0194399, 0.00119316, -0.0141544, 0.0067351, -0.0408541, 0.0348338, -0.0256825, -0.0242803],
    "lopt_ortho_quarter_1": [
        -0.0169888,
        0.00104409,
        -0.0123718,
        0.00587764,
        -0.0271856,
        0.018793,
        -0.0136431,
        -0.0152747,
    ],
    "lopt_ortho_quarter_2": [
        -0.0188789,
        0.0011375,
        -0.013713,
        0.00666978,
        -0.0295607,
        0.0228756,
        -0.0160496,
        -0.0158892,
    ],
    "lopt_ortho_quarter_3": [
        -0.0168206,
        0.000997479,
        -0.0121931,
        0.00603988,
        -0.0273256,
        0.0201687,
        -0.0143502,
        -0.0149914,
    ],
    "lopt_ortho_small": [-0.0218247, 0.00157939, -0.0162627, 0.00610315, -0.034505, 0.0292133, -0.0210714, -0.0164035],
    "lopt_ortho_small_valid": [
        -0.0306583,
        0.0020475,
        -0.0225797,
        0.00961394,
        -0.0521831,
        0.0387484,
        -0.0281196,
        -0.0303873,
    ],
    "lopt_ortho_valid": [-0.0331771, 0.00229763, -0.0245618, 0.00990579, -0.0570483, 0.0427903, -0.0309276, -0.0326259],
    "lopt_paper": [
        -0.00610341,
        0.00472509,
        -0.00245925,
        0.00714903,
        -0.00417764,
        0.000547115,
        0.000455842,
        -0.00460914,
    ],
    "lopt_paper_32x32": [
        -0.00357145,
        0.00203747,
        -0.00122412,
        0.00372342,
        -0.00246797,
        0.000164021,
        0.000239817,
        -0.00275769,
    ],
    "lopt_paper_small": [
        -0.00215566,
        0.00408244,
        0.000904831,
        0.00893921,
        -0.000399377,
        0.00277585,
        0.00120441,
        -0.0031798,
    ],
}
PARAMS = {"w": jnp.array([0.3, -0.2, 0.5, 1.0]), "kernel": jnp.array([[0.1, -0.4], [0.3, 0.2]])}
GRADIENTS = [
    {"w": jnp.array([0.1, -1.0, 0.02, 0.5]), "kernel": jnp.array([[0.2, 0.1], [-0.3, 0.5]])},
    {"w": jnp.array([0.2, 0.3, 0.01, -0.4]), "kernel": jnp.array([[0.1, -0.2], [0.4, 0.3]])},
]


@functools.cache
def compiled_update(design, *design_options):
    """A step as a function of theta too: one program for all weights of a design with the same options."""
    made = make_design(design, dict(design_options))
    return jax.jit(
        lambda theta, grads, state: made.optimizer(theta).update(grads, state, PARAMS, value=jnp.float32(1.5))
    )


def second_update(name):
    theta, card = weights.read(name)
    update, state = compiled_update(card.design, *sorted(card.design_options.items())), learned.load(name).init(PARAMS)
    for grads in GRADIENTS:
        updates, state = update(theta, grads, state)
    return np.concatenate([np.asarray(updates[key]).ravel() for key in ("w", "kernel")])


def example_theta(design="per_parameter_mlp", **options):
    return jax.device_get(make_design(design, options).init_theta(jax.random.key(0)))


def example_card(**changes):
    fields = {
        "name": "mine",
        "design": "per_parameter_mlp",
        "design_options": {"hidden": 2},
        "outer_training": {"seed": 0, "stages": [{"num_steps": 2, "outer_steps": 3}]},
        "facts": {"device_hours": 0.5, "device": "cpu"},
    }
    return weights.Card(**fields | changes)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(weights.save_bytes(example_theta(hidden=2), example_card()))
    return path


def test_weights_begin_a_design_with_an_option_that_their_card_does_not_name(path):
    theta, before = weights.read_beginning(str(path), "per_parameter_mlp", {"hidden": 2, "step_scale": 0.5})
    assert before["theta_sha256"] == weights.digest(theta) == weights.digest(example_theta(hidden=2))
    for options in ({"hidden": 3}, {"step_scale": 0.5}, {}):
        with pytest.raises(
            ValueError, match=r"expected weights of per_parameter_mlp with options .*, got .*'hidden': 2"
        ):
            weights.read_beginning(str(path), "per_parameter_mlp", options)
    with pytest.raises(ValueError, match="expected weights of lean_mlp with options"):
        weights.read_beginning(str(path), "lean_mlp", {"hidden": 2})


# Shipped weights ------------------------------------------------------------------------------------------------------


def test_what_claims_are_judged_on_ships():
    assert set(learned.ALIASES.values()) <= set(weights.shipped_names())


def test_the_headline_was_outer_trained_on_for_columns_alone():
    theta, card = weights.read("lopt_home")
    before, _ = weights.read(card.outer_training["begin_from"])
    assert card.outer_training["parts"] == ["columns"]
    for name, leaf in theta.items():
        trained = np.zeros(leaf.shape, bool)
        trained[0] = name in OF_KINDS
        np.testing.assert_array_equal(leaf[~trained], before[name][~trained])
        assert not trained.any() or not np.array_equal(leaf, before[name])


def test_intermediate_weights_are_known_by_name_and_are_no_optimizers_to_take_home():
    intermediate = set(weights.known_names()) - set(weights.shipped_names())
    assert "lopt_ortho_small" in intermediate
    assert not intermediate & set(optimizer_names())
    assert len(weights.known_names()) == len(set(weights.known_names()))
    begun = {weights.read(name)[1].outer_training.get("begin_from") for name in weights.known_names()}
    assert begun <= {None, *weights.known_names()}


def test_every_file_has_a_known_step():
    assert sorted(KNOWN_STEPS) == sorted(weights.known_names())


@pytest.mark.parametrize("name", weights.known_names())
def test_a_shipped_optimizer_makes_its_known_step(name):
    update = second_update(name)
    literal = [float(f"{value:.6g}") for value in update]
    # Six digits are kept; float32 on another machine may sum in another order.
    assert KNOWN_STEPS[name] == pytest.approx(literal, rel=1e-4, abs=1e-8), f"{name!r}: {literal},"


@pytest.mark.parametrize("name", weights.known_names())
def test_a_shipped_file_says_what_it_is_and_how_it_was_made(name):
    theta, card = weights.read(name)
    assert card.name == name
    assert card.design in DESIGNS
    assert card.features == FEATURES_VERSIONS[card.design]
    expected = jax.eval_shape(make_design(card.design, card.design_options).init_theta, jax.random.key(0))
    assert {key: leaf.shape for key, leaf in theta.items()} == {key: leaf.shape for key, leaf in expected.items()}
    assert {leaf.dtype for leaf in theta.values()} == {np.dtype(np.float32)}
    assert all(np.all(np.isfinite(leaf)) for leaf in theta.values())
    assert card.outer_training["design"] == card.design
    assert card.outer_training["family"] in {*tasks.FAMILIES, *tasks.MIXTURES}
    assert card.facts["device_hours"] >= 0
    assert 0 < card.facts["outer_validation_loss"] < 10


# Round trip -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_read(path):
    theta, card = weights.read(path)
    assert card == example_card(features="metz2019-31")
    for name, leaf in example_theta(hidden=2).items():
        np.testing.assert_array_equal(theta[name], leaf)
    assert weights.read(str(path))[1] == card


def test_a_file_loads_as_an_optimizer(path):
    loaded, expected = (
        learned.load(path),
        make_design("per_parameter_mlp", {"hidden": 2}).optimizer(example_theta(hidden=2)),
    )
    found, known = (jax.jit(o.update)(PARAMS, o.init(PARAMS), PARAMS)[0]["w"] for o in (loaded, expected))
    np.testing.assert_array_equal(found, known)


# Files that are no weights --------------------------------------------------------------------------------------------


def assert_refused(path, words):
    for read in (weights.read, learned.load):
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert_one_line(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_torn_file_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(path, "expected weights written by `bench outer-train`")


def test_a_changed_weight_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_refused(path, "the checksum does not fit")


def test_a_changed_card_is_noticed(path):
    content = path.read_bytes()
    assert content.count(b"mine") == 1
    path.write_bytes(content.replace(b"mine", b"mime"))
    assert_refused(path, "the checksum does not fit")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(path, value):
    theta = example_theta(hidden=2)
    path.write_bytes(weights.save_bytes(theta | {"b1": theta["b1"] + np.float32(value)}, example_card()))
    assert_refused(path, "expected finite float32 for b1")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"name": "../../x"},
        {"design": ["per_parameter_mlp"]},
        {"design_options": {"hidden": "two"}},
        {"design_options": None},
        {"outer_training": None},
        {"facts": []},
    ],
    ids=str,
)
def test_a_card_of_other_kinds_is_refused(path, changes):
    fields = json.loads(json.dumps(example_card().__dict__)) | {"features": "metz2019-31"} | changes
    with_metadata(path, format=weights.FORMAT, card=json.dumps(fields))
    assert_refused(path, "expected weights written by `bench outer-train`, got .*a card whose")


@pytest.mark.parametrize("content", [b"hello", b"\0" * 64, b"{}"])
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    assert_refused(path, "expected weights written by `bench outer-train`")


def test_a_pickle_is_never_opened(path, tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    path.write_bytes(pickle.dumps(Attack()))
    assert_refused(path, "expected weights written by `bench outer-train`")
    assert not (tmp_path / "owned").exists()


def with_metadata(path, **metadata):
    path.write_bytes(save({name: np.asarray(leaf) for name, leaf in example_theta(hidden=2).items()}, metadata))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format": weights.FORMAT},
        {"format": weights.FORMAT, "card": "{"},
        {"format": weights.FORMAT, "card": "[]"},
        {"format": weights.FORMAT, "card": "{}"},
        {"format": weights.FORMAT, "card": '{"surprise": 1}'},
    ],
    ids=str,
)
def test_safetensors_of_something_else_are_refused(path, metadata):
    with_metadata(path, **metadata)
    assert_refused(path, "expected weights written by `bench outer-train`")


@pytest.mark.parametrize(
    ("features", "design"), [("metz2019-30", "per_parameter_mlp"), ("metz2019-31", "per_tensor_gru"), ("", "other")]
)
def test_weights_for_other_features_are_refused(path, features, design):
    fields = json.loads(json.dumps(example_card().__dict__)) | {"features": features, "design": design}
    with_metadata(path, format=weights.FORMAT, card=json.dumps(fields))
    assert_refused(path, f"made for features {features} of design {design}, this version has")


def test_weights_of_another_format_are_refused(path):
    fields = example_card().__dict__ | {"features": "metz2019-31"}
    with_metadata(path, format="lopt-bench-theta-0", card=json.dumps(fields))
    assert_refused(path, "made for")


def test_weights_of_another_shape_than_their_card_says_are_refused(path):
    path.write_bytes(weights.save_bytes(example_theta(hidden=2), example_card(design_options={"hidden": 3})))
    assert_refused(path, r"expected b1 \(3,\), b2 \(2,\), w1 \(3, 31\), w2 \(2, 3\), got b1 \(2,\)")


def test_a_missing_file_is_named(tmp_path):
    assert_refused(tmp_path / "gone.safetensors", "no such weights file")


def test_an_unknown_name_answers_with_the_nearest():
    for read in (weights.read, learned.load):
        with pytest.raises(tasks.UnknownNameError, match="did you mean lopt_paper_small") as caught:
            read("lopt_paper_smal")
        assert_one_line(caught.value)


def test_an_unknown_design_or_option_answers_with_the_nearest():
    with pytest.raises(tasks.UnknownNameError, match="did you mean per_parameter_mlp"):
        make_design("per_parameter", {})
    with pytest.raises(tasks.UnknownNameError, match="did you mean step_scale"):
        make_design("per_parameter_mlp", {"stepscale": 1.0})
