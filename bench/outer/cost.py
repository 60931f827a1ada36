"""`bench time --outer`: the time of an inner step of outer-training, and of a training step with Adam."""

import contextlib
import dataclasses
import functools
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

import tasks
from bench.device import use_devices
from bench.entries.entrants import resolve
from bench.entries.plugin_files import failure
from bench.errors import UsageError, usage_errors
from bench.folders import Folders
from bench.outer.folders import as_config
from bench.processes import Child, EndedError, all_messages, speaking
from bench.statistics import median_interval, ratio_interval, significant
from bench.training.programs import compile_program
from bench.training.step_times import NUM_BLOCKS, chunk_steps, interleave, printed, training_region
from learned import outer
from learned.config import OuterConfig


def time_outer(
    config: OuterConfig | str,
    *,
    blocks: int = NUM_BLOCKS,
    num_devices: int = 1,
    device: str | None = None,
    folders: Folders | None = None,
) -> dict[str, Any]:
    """The time of an inner step of outer-training, and of a training step with Adam on a task of the family.

    Args:
      config: configuration of outer-training, or its name or path; its first outer step is timed repeatedly, of a
        mixture that of the family which comes first.
      blocks: number of interleaved blocks, at least 6.
      num_devices: devices that samples are spread over; on a CPU, host devices, if JAX is not initialized yet.
      device: "cpu", "gpu" or "gpu:1"; becomes the default device of this process.
      folders: where tuned values and data lie; by default those of the command line.

    Returns:
      As `measure`, ready for JSON.

    Raises:
      UsageError: there is no such configuration, there are too few devices, or samples do not divide among them.
      tasks.data.MissingDataError: the family's data is neither cached nor found.
    """
    use_devices(device, num_devices)
    config, folders = as_config(config), folders or Folders()
    members = tasks.members(config.family)
    first = members[config.member_at(0, len(members))].problem.family
    config = dataclasses.replace(config, family=first)
    where = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    load = functools.partial(tasks.load_family, config.family, **where)
    return measure(config, load, num_devices=num_devices, num_blocks=blocks, tuned_dir=folders.tuned_dir)


def measure(
    config: OuterConfig,
    load: Callable[[], tasks.TaskFamily],
    *,
    num_devices: int,
    num_blocks: int,
    tuned_dir: Path | None = None,
) -> dict[str, Any]:
    """The time of an inner step of outer-training, and of a training step with Adam on a task of the family.

    Outer steps and Adam's steps alternate in randomized blocks (protocol rule 7); ratios are taken within a block. The
    time of an inner step is that of an outer step over its number of inner steps (one step of one network; both signs
    count). With several devices, every block also times the same outer step on one device: on a CPU in a process pinned
    to one core, if the system is Linux.

    Args:
      config: configuration of outer-training; its first outer step is timed repeatedly.
      load: function that loads the data; a child process must be able to import it.
      num_devices: devices that samples are spread over; Adam's steps run on the first.
      num_blocks: number of interleaved blocks, at least 6.
      tuned_dir: folder of the user's own tuned values, for Adam.

    Raises:
      UsageError: too few devices, or samples that do not divide among them.
    """
    family = load()
    outer_step, compile_sec = compiled_outer_step(config, family, num_devices)
    inner_steps = outer.inner_steps_of(config, config.lengths_at(0)[0])
    adam = resolve("adam", family.problem.family, family.problem.horizon, tuned_dir=tuned_dir)
    key = tasks.named_key("outer-train", "timing")
    task = family.task(family.sample(key, "outer_train"))
    length = chunk_steps(family.problem.horizon)
    program = compile_program(adam, task, family.problem.horizon, [length])
    alone = training_region(program, adam, task, key, length, 1)
    outer_step()
    alone()
    # Regions of about the same length, so that disturbances affect both alike.
    repeats = max(1, round(interleave([outer_step], 1).min() / interleave([alone], 3).min()))
    region = training_region(program, adam, task, key, length, repeats)
    region()
    regions = [outer_step, region]
    with contextlib.ExitStack() as stack:
        if beside_one := num_devices > 1 and (jax.default_backend() != "cpu" or hasattr(os, "sched_setaffinity")):
            regions.append(stack.enter_context(on_one_device(config, load)))
        seconds = interleave(regions, num_blocks)
    each = seconds[:, 0] / inner_steps
    adam_step = seconds[:, 1] / (repeats * length)
    found = {
        "config": config.name,
        "inner_steps_per_second": printed(median_interval(1 / each)),
        "adam_step_seconds": significant(float(np.median(adam_step)), 5),
        "cost_ratio_to_adam": printed(ratio_interval(each, adam_step)),
        "outer_step_seconds": significant(float(np.median(seconds[:, 0])), 5),
        "compile_seconds": significant(compile_sec, 4),
        "peak_memory_bytes": peak_memory_bytes(),
        "devices": num_devices,
    }
    if beside_one:
        found["speedup_over_one_device"] = printed(ratio_interval(seconds[:, 2], seconds[:, 0]))
    return found


def compiled_outer_step(
    config: OuterConfig, family: tasks.TaskFamily, num_devices: int
) -> tuple[Callable[[], None], float]:
    """A region that takes one more outer step, always with the first step's length, and its compile time in seconds.

    Raises:
      UsageError: too few devices, or samples that do not divide among them.
    """
    with usage_errors():
        engine = outer.Engine(config, family, num_devices)
    num_steps, horizon = config.lengths_at(0)
    state = jax.block_until_ready(engine.init())
    begin = time.perf_counter()
    step = engine.step.lower(state, engine.arrays, 0, num_steps=num_steps, horizon=horizon).compile()
    compile_sec = time.perf_counter() - begin
    number = 0

    def outer_step() -> None:
        nonlocal state, number
        state, metrics = step(state, engine.arrays, number, horizon=horizon)
        jax.block_until_ready((state, metrics))
        number += 1

    return outer_step, compile_sec


@contextlib.contextmanager
def on_one_device(config: OuterConfig, load: Callable[[], tasks.TaskFamily]) -> Iterator[Callable[[], None]]:
    """A region that takes an outer step on one device.

    On a CPU a child process on one core takes it, since in this process one device would use the threads of all cores.
    The child waits between outer steps.
    """
    if jax.default_backend() != "cpu":
        yield compiled_outer_step(config, load(), 1)[0]
        return
    with Child("bench.outer.cost", {"config": config.as_dict(), "load": _reference(load)}) as child:

        def outer_step() -> None:
            child.send("another outer step")
            try:
                answer = child.receive()
            except EndedError as ended:
                raise UsageError(f"the process that takes outer steps on one core {ended}") from None
            if answer and "error" in answer:
                raise UsageError(f"the process that takes outer steps on one core: {answer['error']}")

        outer_step()  # compiles
        yield outer_step


def _reference(load: Callable[[], tasks.TaskFamily]) -> dict[str, Any]:
    """A function of a module, or a `functools.partial` of one, as a JSON-ready message."""
    part = load if isinstance(load, functools.partial) else functools.partial(load)
    named = {name: str(value) for name, value in part.keywords.items() if value is not None}
    function: Any = part.func
    return {"module": function.__module__, "name": function.__qualname__, "args": part.args, "kwargs": named}


def _serve_on_one_core() -> None:
    """In a child: takes an outer step for each message, until the parent ends."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax counts cores
    jax.config.update("jax_platforms", "cpu")
    asked = all_messages()
    task = next(asked)
    with speaking() as say:
        try:
            where = task["load"]
            load = getattr(importlib.import_module(where["module"]), where["name"])
            config = msgspec.convert(task["config"], OuterConfig)
            outer_step, _ = compiled_outer_step(config, load(*where["args"], **where["kwargs"]), 1)
            for _ in asked:
                outer_step()
                say(taken=True)
        except Exception as error:  # reported to the parent
            say(error=failure(error)[1])


def peak_memory_bytes() -> int:
    """Peak memory: of the first device if it reports that, else of this process."""
    counted = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counted:
        return int(counted["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kibibytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    _serve_on_one_core()
