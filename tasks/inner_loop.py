"""The one inner loop.

Tuning, evaluation, timing and outer-training all train a task by the `lax.scan` on this page: the same batches for
the same key, the same order of operations, whatever the optimizer. That is the fairness argument.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from tasks.evaluation import evaluation_params
from tasks.task import Batch, Key, Params, Split, Task

Score = Callable[[Params, Key], Array]  # (parameters to evaluate after a step, that step's key) -> scalar


class InnerState(NamedTuple):
    """The state of a training run."""

    params: Params
    opt_state: optax.OptState
    inner_step: Array  # (), int32: steps taken so far

    @property
    def eval_params(self) -> Params:
        """The parameters to evaluate: `params`, unless the optimizer says others (`tasks.evaluation`)."""
        return evaluation_params(self.opt_state, self.params)


class Trace(NamedTuple):
    """The losses of a run, one value for each inner step."""

    inner_loss: Array  # (num_steps,) mini-batch loss before the step
    score: Array  # (num_steps,) of `score` after the step, or after a later one for several; (num_steps, 0) without one


def init_params(task: Task, key: Key) -> Params:
    """Initial parameters of the run with this key, whatever the optimizer."""
    return task.init(jax.random.fold_in(key, 0))


def init(task: Task, optimizer: optax.GradientTransformation, key: Key) -> InnerState:
    """Initial parameters and optimizer state. `key` is the run's key, the one `unroll` gets."""
    return start(optimizer, init_params(task, key))


def start(optimizer: optax.GradientTransformation, params: Params) -> InnerState:
    """The state before the first step from given parameters."""
    return InnerState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def unroll(
    task: Task,
    optimizer: optax.GradientTransformation,
    state: InnerState,
    key: Key,
    num_steps: int,
    score: Score | None = None,
    score_every: int = 1,
) -> tuple[InnerState, Trace]:
    """Trains for `num_steps` inner steps: w_{t+1} = w_t + u(grad l(w_t, batch_t), state_t).

    Pure in `key`: step t uses keys folded from (key, t). So a run in several pieces equals the run in one piece, and
    two optimizers with the same key have the same initial parameters and batches.

    Args:
      task: the inner problem.
      optimizer: any optax transformation; it is given the mini-batch loss as `value`.
      state: from `init` or from an earlier `unroll`.
      key: the run's key.
      num_steps: static number of steps.
      score: (params, key) -> scalar, evaluated after every step, for instance on a fresh batch; None skips it.
      score_every: number of steps for each score, which is computed after the last of them and counts for all.

    Returns:
      The state after the last step and the trace. A diverged run continues with non-finite numbers; the caller checks
      for them.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state: InnerState, _: Any) -> tuple[InnerState, Trace]:
        # Stream 0 is the initialization, streams 1 and up are the steps.
        step_key = jax.random.fold_in(key, state.inner_step + 1)
        batch_key, score_key = jax.random.split(step_key)
        loss, grads = jax.value_and_grad(task.loss)(state.params, task.batch(batch_key, "train"))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        evaluated = evaluation_params(opt_state, params)
        scored = jnp.zeros((0,)) if score is None or score_every > 1 else score(evaluated, score_key)
        return InnerState(params, opt_state, state.inner_step + 1), Trace(loss, scored)

    if score is None or score_every == 1:
        return jax.lax.scan(step, state, length=num_steps)

    def steps(state: InnerState, length: int) -> tuple[InnerState, Trace]:
        state, trace = jax.lax.scan(step, state, length=length)
        _, score_key = jax.random.split(jax.random.fold_in(key, state.inner_step))  # that of the last step
        return state, Trace(trace.inner_loss, jnp.full((length,), score(state.eval_params, score_key)))

    whole, rest = divmod(num_steps, score_every)
    state, trace = jax.lax.scan(lambda state, _: steps(state, score_every), state, length=whole)
    trace = jax.tree.map(jnp.ravel, trace)
    if rest:
        state, last = steps(state, rest)
        trace = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), trace, last)
    return state, trace


# Protocol rule 10: during a run, losses are computed on a fixed sample; final losses are computed on whole splits. The
# test split is used at the end only (rule 4).
EVAL_EXAMPLES: dict[Split, int] = {"train": 1000, "validation": 1000}
EVAL_BATCH = 1000


def eval_indices(task: Task, split: Split, whole: bool = False) -> Array:
    """Indices of the examples for evaluation: an evenly spaced sample of `EVAL_EXAMPLES`, or all."""
    size = task.problem.size(split)
    num = size if whole else min(size, EVAL_EXAMPLES[split])
    return jnp.asarray(np.arange(num, dtype=np.int64) * size // num, jnp.int32)  # int64: num * size can pass 2^31


def eval_loss(task: Task, params: Params, split: Split, *, whole: bool = False, batch_size: int = EVAL_BATCH) -> Array:
    """Mean loss over the evaluated examples of a split, (). Exact: the last, smaller batch is weighted by its size.

    The loop over batches is in Python, since XLA's convolution is fast on large batches outside of its own loops.
    """
    indices = eval_indices(task, split, whole)
    total = jnp.zeros(())
    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        batch: Batch = task.take(split, part)
        total += task.loss(params, batch) * len(part)
    return total / len(indices)
