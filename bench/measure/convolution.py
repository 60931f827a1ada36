"""The time of a convolution inside a scan: `python -m bench.measure.convolution [--json]`, on one CPU core.

A training step of `imagenet32_cnn3` (batch 32, Adam, the batch drawn inside) in three forms,
timed in interleaved blocks:

- plain: one jitted step at a time, flax's default convolution;
- patches in scan: the project's models in the project's inner loop;
- default in scan: the same loop with flax's default convolution.
"""

import os

if hasattr(os, "sched_setaffinity"):  # before jax starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import dataclasses
import json
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import tasks
import tasks.inner_loop
from bench.statistics import median_interval, ratio_interval, significant
from bench.training.step_times import interleave
from tasks.convolution import CONVOLUTIONS
from tasks.task import ModuleInit, ModuleLoss

FAMILY = "imagenet32_cnn3"
NUM_STEPS = 20
NUM_BLOCKS = 15
FORMS = ("plain", "patches in scan", "default in scan")


def synthetic_task(convolution: str) -> tasks.Task:
    """The family's task on random images, since times do not depend on their content."""
    problem = tasks.family_row(FAMILY).problem
    module = problem.init.module.clone(conv=CONVOLUTIONS[convolution])  # pyright: ignore[reportFunctionMemberAccess]
    problem = dataclasses.replace(problem, init=ModuleInit(module, (32, 32, 3)), loss=ModuleLoss(module))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (10, 400, 32, 32, 3), dtype=np.uint8))
    return tasks.Task(problem, {"train_images": images}, jnp.arange(10))


def regions() -> list[Callable[[], None]]:
    """The three forms as timed regions of `NUM_STEPS` steps, compiled and warmed up, in the order of `FORMS`."""
    optimizer, key = optax.adam(1e-3), jax.random.key(0)

    def scan(convolution: str) -> Callable[[], None]:
        task = synthetic_task(convolution)
        state = tasks.inner_loop.init(task, optimizer, key)
        many = jax.jit(lambda task, state, key: tasks.inner_loop.unroll(task, optimizer, state, key, NUM_STEPS))
        program = many.lower(task, state, key).compile()
        return lambda: jax.block_until_ready(program(task, state, key))

    def plain() -> Callable[[], None]:
        task = synthetic_task("lax")

        def step(task, params, opt_state, key, inner_step):
            batch = task.batch(jax.random.fold_in(key, inner_step), "train")
            loss, grads = jax.value_and_grad(task.loss)(params, batch)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss

        state = tasks.inner_loop.init(task, optimizer, key)
        program = jax.jit(step).lower(task, state.params, state.opt_state, key, 0).compile()

        def region() -> None:
            params, opt_state = state.params, state.opt_state
            for inner_step in range(NUM_STEPS):
                params, opt_state, _ = program(task, params, opt_state, key, inner_step)
            jax.block_until_ready(params)

        return region

    made = [plain(), scan("patches"), scan("lax")]
    for region in made:
        region()
    return made


def measure(num_blocks: int = NUM_BLOCKS) -> dict[str, object]:
    """Milliseconds per step of each form, and the two ratios, with 95 % intervals of the medians over blocks."""
    seconds = interleave(regions(), num_blocks) / NUM_STEPS
    plain, patches, default = seconds.T
    return {
        "task": FAMILY,
        "device": jax.devices()[0].device_kind,
        "milliseconds_per_step": {
            form: _rounded(median_interval(1e3 * column)) for form, column in zip(FORMS, seconds.T, strict=True)
        },
        "patches_in_scan_over_plain": _rounded(ratio_interval(patches, plain)),
        "default_in_scan_over_patches_in_scan": _rounded(ratio_interval(default, patches)),
    }


def _rounded(interval) -> dict[str, float]:
    return {name: significant(getattr(interval, name), 4) for name in ("estimate", "low", "high")}


def main() -> None:
    """Prints the figures."""
    found = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=1))
        return

    def shown(interval: dict[str, float]) -> str:
        return "{estimate:.3g} [{low:.3g}, {high:.3g}]".format(**interval)

    for form, interval in found["milliseconds_per_step"].items():  # pyright: ignore[reportAttributeAccessIssue]
        print(f"{form:<18} {shown(interval)} ms a step")
    print(f"patches in scan / plain              {shown(found['patches_in_scan_over_plain'])}")  # pyright: ignore
    print(f"default in scan / patches in scan    {shown(found['default_in_scan_over_patches_in_scan'])}")  # pyright: ignore


if __name__ == "__main__":
    main()
