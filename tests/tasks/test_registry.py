import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from tasks import data, registry
from tasks.images import IMAGENET_NORMALIZE, shrink_images, take_labelled_images, take_marked_images
from tasks.registry import task_cfg
from tasks.task import num_params
from tests.helpers import CountingTraces, assert_one_line, fake_family, source_dir

# By hand: conv layers 9 * in * out + out, dense layers in * out + out.
NUM_PARAMS = {
    "imagenet32_cnn3": 19_722,  # the paper's
    "imagenet16_cnn3": 5_258,
    "imagenet8_cnn3": 1_482,
    "digits4_mlp": 118,
    "mnist28_cnn3": 19_146,
    "mnist14_cnn3": 19_146,  # global pooling: the image's size does not count
    "mnist28_cnn6": 46_890,  # 320 + 5 x 9,248 + 330
    "mnist28_cnn3_batch128": 19_146,
    "mnist28_mlp": 101_770,  # 784 x 128 + 128 + 1,290
    "mnist14_mlp": 26_506,
    "mnist28_mlp_wide": 669_706,  # 401,920 + 262,656 + 5,130
    "cifar10_cnn3": 19_722,
    "digits8_cnn3": 4_970,
    "digits8_mlp": 4_810,
}
NUM_PARAMS_OUTER = {
    "imagenet16_mlp_128": 99_722,
    "imagenet16_mlp_256_256": 265_226,
    "imagenet8_mlp_48_48_48": 14_458,
    "imagenet16_mlp_512_384": 594_570,
    "imagenet8_cnn_32x3": 19_722,
    "imagenet16_cnn_16x3": 5_258,
    "imagenet16_cnn_24x5": 21_754,  # 672 + 4 x 5,208 + 250
    # A stem of 448; two blocks of 2 x 2,320 + 64 with a shortcut of 272; 32 + 170
    "imagenet16_resnet": 10_602,
    "imagenet16_mlp_96_96_96": 93_418,
    "imagenet8_mlp_160": 32_490,
}
# A changed digest means that old results no longer compare: change the version of what changed, and say so.
DIGESTS = {"imagenet32_cnn3/0": "27a9cc0aca94e902", "digits8_mlp": "88bccbb2996a5eee"}
WITH_POOLS = [name for name, row in tasks.FAMILIES.items() if row.pools]
SINGLE = [name for name, row in tasks.FAMILIES.items() if not row.pools]


@functools.cache
def small_task(name):
    """A task of the family without its data, except for the digits, which are embedded."""
    if tasks.FAMILIES[name].data_set == "digits8":
        return tasks.load(name)
    family = fake_family(name)
    return family.task(jnp.arange(3, 13, dtype=jnp.int32) if family.pools else ())


@jax.jit
def draw(task, key):
    """All that the suite below asks of random numbers, in one program a family."""
    init_key, batch_key = jax.random.split(key)
    params, batch = task.init(init_key), task.batch(batch_key, "train")
    return {"params": params, "batch": batch, "loss": task.loss(params, batch)}


def cheap_key(seed):
    """Compiles in half the time of a threefry key, and what is asked here holds for keys of any kind."""
    return jax.random.key(seed, impl="unsafe_rbg")


@functools.cache
def drawn(name, seed):
    return jax.device_get(draw(small_task(name), cheap_key(seed)))


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


# What every family passes ---------------------------------------------------------------------------------------------

# One of each kind, a program to compile for each; the others differ from these in widths and sizes only.
DRAWN_FAST = {"digits8_cnn3", "mnist28_cnn6", "digits8_mlp", "mnist28_mlp_wide"}
every_family = pytest.mark.parametrize("name", tasks.FAMILIES)
every_family_drawn = pytest.mark.parametrize(
    "name", [name if name in DRAWN_FAST else pytest.param(name, marks=pytest.mark.slow) for name in tasks.FAMILIES]
)


@every_family
def test_a_family_has_the_number_of_parameters_counted_by_hand(name):
    assert num_params(tasks.FAMILIES[name].problem) == NUM_PARAMS[name]


@pytest.mark.parametrize("name", tasks.OUTER_FAMILIES)
def test_a_family_for_outer_training_alone_has_no_task_of_its_own(name):
    row = tasks.family_row(name)
    assert row.problem.family == name
    assert num_params(row.problem) == NUM_PARAMS_OUTER[name.removesuffix("_marked").removesuffix("_labelled")]
    assert row.pools
    assert not {name, f"{name}/0"} & set(tasks.task_names())
    with pytest.raises(tasks.UnknownNameError):
        tasks.family_row(f"{name}/0")


def test_a_marked_image_is_half_the_first_training_image_of_its_class_moved():
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (12, 30, 16, 16, 3), np.uint8) for split in ("train", "test")}
    cfg, indices = jnp.arange(2, 12), jnp.arange(300)
    seen, labels = take_marked_images(0.5, lambda images: images, arrays, cfg, "test", indices)
    assert seen.shape == (300, 16, 16, 3)
    assert labels.tolist() == [i // 30 for i in range(300)]
    shifts = set()
    for i in (0, 7, 59, 299):
        mark = 2 * np.asarray(seen[i]) - arrays["test_images"][2 + i // 30, i % 30]
        first = arrays["train_images"][2 + i // 30, 0]
        moves = [(a, b) for a in range(-2, 3) for b in range(-2, 3)]
        (move,) = [move for move in moves if np.allclose(np.roll(first, move, axis=(0, 1)), mark)]
        shifts.add(move)
    assert len(shifts) > 2


def test_a_labelled_image_is_half_the_mark_that_is_its_label_and_every_image_is_seen_with_each():
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (12, 3, 16, 16, 3), np.uint8) for split in ("train", "test")}
    cfg, indices = jnp.arange(2, 12), jnp.arange(300)
    seen, labels = take_labelled_images(0.5, lambda images: images, arrays, cfg, "test", indices)
    assert labels.tolist() == [i // 30 for i in range(300)]
    for i in range(300):
        mark = 2 * np.asarray(seen[i]) - arrays["test_images"][2 + i % 30 // 3, i % 3]
        first = arrays["train_images"][2 + i // 30, 0]
        moves = [(a, b) for a in range(-2, 3) for b in range(-2, 3)]
        assert sum(np.allclose(np.roll(first, move, axis=(0, 1)), mark) for move in moves) == 1


@pytest.mark.parametrize(
    ("mixture", "judge"),
    [("imagenet_small_nets", "imagenet_held_out_nets"), ("imagenet_dense_nets", "imagenet_held_out_dense_nets")],
)
def test_a_mixture_and_what_judges_it_share_no_net_and_no_evaluation_family(mixture, judge):
    trained, judged = (tasks.members(name) for name in (mixture, judge))
    nets = [{repr(row.problem.init) for row in part} for part in (trained, judged)]
    assert not nets[0] & nets[1]
    evaluated = {
        repr(row.problem.init) for row in tasks.FAMILIES.values() if not row.problem.family.startswith("imagenet")
    }
    paper = {repr(tasks.FAMILIES["imagenet32_cnn3"].problem.init)}  # its net is that of CIFAR-10 too
    assert not ((nets[0] | nets[1]) - paper) & evaluated
    assert {row.data_set for row in (*trained, *judged)} == {"imagenet32"}
    assert tasks.members("digits8_mlp") == (tasks.FAMILIES["digits8_mlp"],)
    with pytest.raises(tasks.UnknownNameError, match="did you mean imagenet_small_nets"):
        tasks.members("imagenet_small_net")


@every_family
def test_a_family_is_named_as_in_the_table_and_its_tasks_resolve(name):
    row = tasks.FAMILIES[name]
    assert row.problem.family == name
    assert row.data_set in data.DATA_SETS
    assert len(row.task_names()) == (15 if row.pools else 1)
    assert all(tasks.family_row(task) is row for task in row.task_names())


@every_family
def test_a_family_describes_itself_without_its_data(name):
    description = tasks.describe(tasks.FAMILIES[name].task_names()[0])
    assert description["num_params"] == NUM_PARAMS[name]
    assert description["family"] == name
    assert len(description["digest"]) == 16


@every_family
def test_a_family_draws_batches_of_images_and_labels_without_implicit_promotion(name):
    task, key = small_task(name), jax.random.key(0)
    with jax.numpy_dtype_promotion("strict"):
        params = jax.eval_shape(task.init, key)
        for split in tasks.SPLITS:
            images, labels = jax.eval_shape(lambda key, split=split: task.batch(key, split), key)
            size = 128 if name.endswith("batch128") else 32
            assert (images.shape, images.dtype) == ((size, *task.problem.init.image_shape), np.float32)
            assert (labels.shape, labels.dtype) == ((size,), np.int32)
        # Of a batch of any split, since all are of one kind.
        loss, gradient = jax.eval_shape(jax.value_and_grad(task.loss), params, (images, labels))
        assert (loss.shape, loss.dtype) == ((), np.float32)
        assert gradient == params


@every_family_drawn
def test_a_family_starts_near_the_loss_of_chance(name):
    problem = tasks.FAMILIES[name].problem
    assert problem.chance_loss == pytest.approx(np.log(10))
    # Glorot initialization makes logits of order one, and the loss of a wrong guess grows by about as much.
    assert abs(drawn(name, 0)["loss"] - problem.chance_loss) < 1.0
    _, labels = drawn(name, 0)["batch"]
    assert set(labels.tolist()) <= set(range(10))
    assert len(set(labels.tolist())) > 3  # 32 draws of 10 labels


@every_family_drawn
def test_a_family_is_a_pure_function_of_its_key(name):
    assert_same(jax.device_get(draw(small_task(name), cheap_key(0))), drawn(name, 0))
    assert drawn(name, 1)["loss"] != drawn(name, 0)["loss"]
    assert not np.array_equal(drawn(name, 1)["batch"][0], drawn(name, 0)["batch"][0])


@every_family
def test_taking_all_indices_of_a_split_covers_it_once(name):
    task = small_task(name)
    rows, labels = jax.device_get(_take_everything(dataclasses.replace(task, arrays=_numbered(task))))
    for split in tasks.SPLITS:
        images = task.arrays[f"{split}_images"]
        expected, expected_labels = np.arange(images.shape[0]), task.arrays.get(f"{split}_labels")
        if tasks.FAMILIES[name].pools:
            per_class = images.shape[1]
            expected = (np.asarray(task.cfg)[:, None] * per_class + np.arange(per_class)).ravel()
            expected_labels = np.repeat(np.arange(10), per_class)
        np.testing.assert_array_equal(rows[split].round(), expected)
        np.testing.assert_array_equal(labels[split], expected_labels)


def _numbered(task):
    """The task's arrays, its images replaced by one pixel that normalizes to the number of their row."""
    normalize, arrays = task.problem.take.args[0], dict(task.arrays)
    for split in tasks.SPLITS:
        lead = arrays[f"{split}_images"].shape[:-3]
        number = np.arange(np.prod(lead), dtype=np.float32).reshape(*lead, 1, 1, 1)
        arrays[f"{split}_images"] = (number * normalize.std[0] + normalize.mean[0]) * np.float32(normalize.max_value)
    return arrays


@jax.jit
def _take_everything(task):
    taken = {split: task.take(split, jnp.arange(task.problem.size(split))) for split in tasks.SPLITS}
    return {split: images[:, 0, 0, 0] for split, (images, _) in taken.items()}, {s: y for s, (_, y) in taken.items()}


# The target family ----------------------------------------------------------------------------------------------------


def pool_rows(name):
    return set(range(data.POOLS[name].start, data.POOLS[name].stop))


def test_the_pools_are_80_20_and_20_disjoint_classes():
    rows = [pool_rows(pool) for pool in ("outer_train", "outer_validation", "evaluation")]
    assert [len(pool) for pool in rows] == [80, 20, 20]
    assert len(set().union(*rows)) == 120


@functools.cache
def classes(name):
    return tuple(np.asarray(task_cfg(name)).tolist())


@pytest.mark.parametrize("name", WITH_POOLS)
def test_fixed_tasks_hold_ten_different_classes_of_their_own_pool(name):
    for task in tasks.FAMILIES[name].task_names():
        pool = "outer_validation" if "outer_validation" in task else "evaluation"
        assert len(set(classes(task))) == 10
        assert set(classes(task)) <= pool_rows(pool)


def test_the_ten_evaluation_tasks_differ_and_use_every_class_of_the_pool():
    draws = [frozenset(classes(f"imagenet32_cnn3/{k}")) for k in range(10)]
    assert len(set(draws)) == 10
    assert set().union(*draws) == pool_rows("evaluation")


def test_the_same_classes_are_drawn_at_all_image_sizes():
    for suffix in ("0", "9", "outer_validation/0", "outer_validation/4"):
        assert len({classes(f"{name}/{suffix}") for name in WITH_POOLS}) == 1


def test_sampling_stays_in_the_pool_and_vmaps():
    keys = jax.random.split(jax.random.key(0), 50)
    cfgs = np.asarray(jax.vmap(lambda key: registry.sample_classes(key, "outer_train"))(keys))
    assert cfgs.shape == (50, 10)
    assert {len(set(row)) for row in cfgs.tolist()} == {10}
    # 50 times ten of 80 classes: some class is never drawn with probability 80 * (7 / 8)^50 = 0.1.
    assert set(cfgs.ravel().tolist()) == pool_rows("outer_train")


def test_labels_number_the_classes_of_the_task_in_its_own_order():
    family = fake_family("imagenet8_cnn3")
    task = family.task(jnp.arange(19, 9, -1, dtype=jnp.int32))
    images, labels = task.take("train", jnp.array([0, 4, 39]))
    np.testing.assert_array_equal(labels, [0, 1, 9])
    raw = family.arrays["train_images"][jnp.array([19, 18, 10]), jnp.array([0, 0, 3])]
    np.testing.assert_allclose(images, IMAGENET_NORMALIZE(raw), rtol=1e-6)


def test_two_tasks_of_a_family_share_one_compiled_program():
    family = fake_family("imagenet8_cnn3")
    counted = CountingTraces(lambda task, key: task.batch(key, "train")[1])
    program = jax.jit(counted)
    for seed in range(3):
        program(family.task(family.sample(jax.random.key(seed), "evaluation")), jax.random.key(seed))
    assert counted.count == 1


# Names and digests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("imagenet32_cnn", "imagenet32_cnn3"),
        ("digit8_mlp", "digits8_mlp"),
        ("imagenet32_cnn3/11", "imagenet32_cnn3/1"),
        ("imagenet16_cnn3/outer_validation/9", "imagenet16_cnn3/outer_validation/"),
        ("digits8_mlp/0", "digits8_mlp"),
    ],
)
def test_an_unknown_name_answers_with_the_nearest(name, near):
    for function in (tasks.load, tasks.load_family, tasks.describe, tasks.task_digest):
        with pytest.raises(tasks.UnknownNameError) as caught:
            function(name)
        assert near in str(caught.value)
        assert_one_line(caught.value)


def test_a_name_unlike_any_answers_with_the_known_ones():
    with pytest.raises(tasks.UnknownNameError, match="known: imagenet32_cnn3, "):
        tasks.load("???")


def test_a_family_is_not_a_task():
    with pytest.raises(ValueError, match="imagenet32_cnn3 is a family of tasks; name one of them, for instance"):
        tasks.load("imagenet32_cnn3")


def test_every_task_has_a_digest_of_its_own():
    digests = {tasks.task_digest(name) for name in [*tasks.task_names(), *WITH_POOLS]}
    assert len(digests) == len(tasks.task_names()) + len(WITH_POOLS)


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_are_pinned(name):
    assert tasks.task_digest(name) == DIGESTS[name]


def test_the_convolution_is_no_part_of_the_digest():
    init = tasks.FAMILIES["digits8_cnn3"].problem.init
    other = dataclasses.replace(init, module=init.module.clone(conv=jax.lax.conv_general_dilated))
    assert registry.describe_module(other) == registry.describe_module(init)
    wider = dataclasses.replace(init, module=init.module.clone(channels=(16, 16, 17)))
    assert registry.describe_module(wider) != registry.describe_module(init)


@pytest.mark.slow
def test_digests_and_classes_are_the_same_in_another_process():
    code = "import tasks; print([(n, tasks.task_digest(n)) for n in tasks.task_names()])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{[(name, tasks.task_digest(name)) for name in tasks.task_names()]}\n"}


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shrinking_averages_blocks_and_rounds_to_nearest(factor):
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 12, 3), dtype=np.uint8)
    images[0] = 255  # the largest sum
    shrunk = shrink_images(images, factor)
    assert shrunk.dtype == np.uint8
    assert shrunk.shape == (3, 2, 8 // factor, 12 // factor, 3)
    for row, column in np.ndindex(8 // factor, 12 // factor):
        block = images[:, :, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor].astype(float)
        expected = np.floor(block.mean(axis=(2, 3)) + 0.5)
        np.testing.assert_array_equal(shrunk[:, :, row, column], expected)


def test_digits_come_out_centred_and_scaled():
    task = small_task("digits8_mlp")
    images, _ = task.take("train", jnp.arange(task.problem.size("train")))
    # The registry's constants have three decimals.
    assert abs(float(jnp.mean(images))) < 2e-3
    assert abs(float(jnp.std(images)) - 1) < 2e-3


# Real data ------------------------------------------------------------------------------------------------------------


def test_the_facts_of_the_digits_are_those_of_the_data_set():
    facts = tasks.data_facts("digits8_mlp")
    assert facts["name"] == "digits8"
    assert facts["digest"] == data.load("digits8").digest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist14_mlp", "mnist28_cnn3", "imagenet8_cnn3/0", "imagenet32_cnn3/0"])
def test_real_data_fits_its_family(name, cache_dir):
    row = tasks.family_row(name)
    task = tasks.load(name, data_dir=source_dir(row.data_set), cache_dir=cache_dir)
    result = jax.device_get(draw(task, jax.random.key(0)))
    assert result["batch"][0].shape == (32, *row.problem.init.image_shape)
    assert abs(result["loss"] - row.problem.chance_loss) < 1.0
    for split in tasks.SPLITS:
        images = task.arrays[f"{split}_images"]
        per_task = 10 * images.shape[1] if row.pools else images.shape[0]
        assert per_task == row.problem.size(split)
        assert images.dtype == np.uint8
        labels = np.asarray(task.take(split, jnp.arange(row.problem.size(split)))[1])
        assert set(labels.tolist()) == set(range(10))
