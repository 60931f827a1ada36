"""The time of one optimizer update, with given gradients, for 20 to 670 thousand parameters.

Cells of kind "time" measure whole training steps, which are dominated by the gradient. This measurement times
`optimizer.update` and `optax.apply_updates` alone. Many updates run in one jitted loop, so that dispatch does not
count, in interleaved randomized blocks (protocol rule 7), together with the controls of the clock (rules 8 and 14).
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax import Array

from bench.entries.entrants import Entrant
from bench.statistics import median_interval, ratio_interval
from bench.store.rows import Frame
from bench.training.step_times import MIN_REGION_SEC, interleave
from tasks.images import NUM_CLASSES
from tasks.models import CNN, MLP
from tasks.registry import describe_module
from tasks.task import ModuleInit, Params, named_key

HORIZON = 1000  # for schedules; every step costs the same
LOSS = 1.0  # for optimizers that read it; likewise
REFERENCE = "adam"
_IMAGENET, _MNIST = (32, 32, 3), (28, 28, 1)


class Tree(NamedTuple):
    """Parameters to update, those of a network of kind "cnn" or "mlp"."""

    kind: str
    init: ModuleInit


def _cnn(channels: int) -> Tree:
    return Tree("cnn", ModuleInit(CNN((channels,) * 3, (2, 2, 1), NUM_CLASSES), _IMAGENET))


def _mlp(width: int) -> Tree:
    return Tree("mlp", ModuleInit(MLP((width,) * 2, NUM_CLASSES), _MNIST))


# Two kinds with about equal numbers of parameters; cnn_20k is the paper's network, mlp_670k is `mnist28_mlp_wide`.
TREES = {
    "cnn_20k": _cnn(32),
    "cnn_75k": _cnn(64),
    "cnn_300k": _cnn(128),
    "cnn_670k": _cnn(192),
    "mlp_20k": _mlp(24),
    "mlp_75k": _mlp(88),
    "mlp_300k": _mlp(280),
    "mlp_670k": _mlp(512),
}


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each tree: kind, network, number of parameters."""
    return {
        name: {"tree": tree.kind, "network": describe_module(tree.init), "num_params": num_params(shapes(tree.init))}
        for name, tree in TREES.items()
    }


def shapes(init: Callable[[Array], Params]) -> Params:
    """Shapes and dtypes of the parameters that `init` returns."""
    return jax.eval_shape(init, jax.random.key(0))


def num_params(params: Params) -> int:
    """Number of parameters of a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def bytes_per_parameter(entrant: Entrant, params: Params, horizon: int) -> float:
    """Bytes of optimizer state per parameter, for a tree of arrays or shapes; nothing is computed."""
    state = jax.eval_shape(lambda variables, p: entrant.make(variables, horizon).init(p), entrant.variables, params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / num_params(params)


def random_like(params: Params, key: Array) -> Params:
    """Normal gradients of scale 0.01; the cost of an update does not depend on their values."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [0.01 * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, noise)


def run_updates(
    entrant: Entrant, horizon: int, variables: Any, params: Params, grads: Params, num_updates: Array | int
) -> tuple[Params, Any]:
    """Updates parameters repeatedly in one loop.

        updates, state = optimizer.update((-1)^k grads, state, params, value=LOSS)
        params = params + updates                                          for k = 0, 1, ...

    Args:
      entrant: the optimizer; its `repeats` updates count as one.
      horizon: inner steps, for schedules.
      variables: variables of the entrant.
      params: initial parameters.
      grads: a tree like params.
      num_updates: (), traced, so that one program serves any number.

    Returns:
      The last parameters and optimizer state.
    """
    optimizer = optax.with_extra_args_support(entrant.make(variables, horizon))

    # The alternating sign keeps the compiler from computing squares of constant gradients once, outside the loop. It is
    # part of the carry, since a function of the step number may be computed again for every element.
    def update(_, carry):
        params, state, sign = carry
        updates, state = optimizer.update(jax.tree.map(lambda g: sign * g, grads), state, params, value=LOSS)
        return optax.apply_updates(params, updates), state, -sign

    start = (params, optimizer.init(params), jnp.float32(1.0))
    params, state, _ = jax.lax.fori_loop(0, entrant.repeats * num_updates, update, start)
    return params, state


def measure(
    part: str, entrants: Sequence[Entrant], num_blocks: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Times one update of every entrant on one tree.

    Each entrant's region has as many updates as fill `MIN_REGION_SEC`: a Muon update on large matrices takes thousands
    of times as long as an SGD update.

    Args:
      part: a name in `TREES`.
      entrants: the optimizers.
      num_blocks: number of interleaved blocks.
      tick: called after every block.

    Returns:
      Rows (step, metric, value) with metrics "update_seconds/NAME", whose step is the block, and at step 0
      "updates_per_block/NAME" and "bytes_per_parameter/NAME".
    """
    init = TREES[part].init
    params = jax.jit(init)(named_key("update_cost", part, "params"))
    grads = jax.jit(random_like)(params, named_key("update_cost", part, "gradients"))

    def program_of(entrant: Entrant) -> Callable[[int], Any]:
        run = jax.jit(functools.partial(run_updates, entrant, HORIZON))
        program = run.lower(entrant.variables, params, grads, 1).compile()
        return lambda num_updates: jax.block_until_ready(program(entrant.variables, params, grads, num_updates))

    programs = [program_of(entrant) for entrant in entrants]
    counts = [updates_that_fill(program, MIN_REGION_SEC) for program in programs]
    regions = [functools.partial(program, count) for program, count in zip(programs, counts, strict=True)]
    seconds = interleave(regions, num_blocks, tick=tick) / counts
    rows: list[tuple[int, str, float]] = []
    for i, entrant in enumerate(entrants):
        rows += [(block, f"update_seconds/{entrant.name}", seconds[block, i]) for block in range(num_blocks)]
        rows.append((0, f"updates_per_block/{entrant.name}", counts[i]))
        rows.append((0, f"bytes_per_parameter/{entrant.name}", bytes_per_parameter(entrant, params, HORIZON)))
    return pd.DataFrame(rows, columns=["step", "metric", "value"])


def updates_that_fill(program: Callable[[int], Any], seconds: float) -> int:
    """The first number among 1, 2, 4, ... of updates that take at least `seconds`, by the faster of two runs."""
    count = 1
    program(count)
    while interleave([lambda: program(count)], 2).min() < seconds:  # noqa: B023 (called at once)
        count *= 2
    return count


COLUMNS = (
    *("kind", "num_params", "optimizer", "role", "microseconds"),
    *("ratio", "ratio_low", "ratio_high", "bytes_per_parameter", "num_blocks"),
)


def update_costs(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of update costs.

    Args:
      cells: rows of any suites; other kinds of cells and failed ones are ignored.
      curves: their curves.

    Returns:
      A row for each tree and optimizer, cheapest first within a tree: `kind` ("cnn" or "mlp"), `num_params`,
      `optimizer`, `role`, `microseconds` (median of an update over blocks), `ratio` (median within blocks of its time
      over that of `REFERENCE`), `ratio_low` and `ratio_high` (its 95 % interval; NaN below six blocks, as the ratio is
      without the reference), `bytes_per_parameter` of optimizer state, `num_blocks`.
    """
    rows = []
    for _, cell in cells[(cells["kind"] == "measure") & (cells["status"] == "ok")].iterrows():
        config = json.loads(cell["config"])
        if config["measurement"] != "update_cost":
            continue
        curve = curves[curves["cell"] == cell["cell"]]
        names = curve["metric"].astype(str).str.partition("/")
        wide = curve.assign(metric=names[0], optimizer=names[2])
        seconds = wide[wide["metric"] == "update_seconds"].pivot(index="step", columns="optimizer", values="value")
        state = wide[wide["metric"] == "bytes_per_parameter"].set_index("optimizer")["value"]
        for name in seconds.columns:
            row = {
                "kind": config["tree"],
                "num_params": int(config["num_params"]),
                "optimizer": str(name),
                "role": config["roles"][name],
                "microseconds": 1e6 * median_interval(seconds[name]).estimate,
                "bytes_per_parameter": state[name],
                "num_blocks": len(seconds),
            }
            if REFERENCE in seconds.columns:
                ratio = ratio_interval(seconds[name], seconds[REFERENCE])
                row |= {"ratio": ratio.estimate, "ratio_low": ratio.low, "ratio_high": ratio.high}
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = list(COLUMNS[4:-1])
    table[numbers] = table[numbers].astype(np.float64)
    return table.sort_values(["kind", "num_params", "microseconds"], ignore_index=True)
