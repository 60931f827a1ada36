"""The outer-loss: what outer-training minimizes over theta.

L(theta) = (1/T) sum_t l_outer(w_t), for a task drawn from the family and an unroll of T inner steps (Metz et al., arXiv
1810.10180, section 2). Per-step losses are clipped at 10 before averaging, so that a divergent unroll has a finite
loss; a non-finite loss counts as 10.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

import tasks
import tasks.inner_loop
from learned.base import Key, LearnedOptimizer, Theta
from tasks.task import Cfg

LOSS_CLIP = 10.0
UNTOLD_STREAM = 2**31 - 1
Objective = Literal["train", "validation"]
OuterLoss = Callable[[Theta, Key, int], Array]


def clip_losses(losses: Array) -> Array:
    """Per-step losses with values above 10 or not finite replaced by 10 (by `where`, since `minimum` keeps NaN)."""
    return jnp.where(jnp.isfinite(losses), jnp.minimum(losses, LOSS_CLIP), LOSS_CLIP)


def mean_over(losses: Array, late: bool) -> Array:
    """The mean over the steps of a whole unroll, (); with `late`, each step counts in proportion to its number."""
    steps = jnp.arange(1, losses.shape[0] + 1)
    return jnp.sum(steps * losses) / jnp.sum(steps) if late else jnp.mean(losses)


def weights_of(num_steps: int, late: bool) -> Array:
    """Weights of the steps in `mean_over`, (num_steps,), which sum to one."""
    steps = jnp.arange(1, num_steps + 1) if late else jnp.ones(num_steps)
    return steps / jnp.sum(steps)


@dataclasses.dataclass(frozen=True)
class FamilyObjective:
    """The outer-loss of a learned optimizer on tasks drawn from one pool of a family.

    Attributes:
      design: the learned optimizer.
      problem: what the family's tasks share.
      sample: (key, pool) -> cfg.
      pool: pool of classes that tasks are drawn from.
      objective: "train" uses the loss of the inner batch before each step. It needs no extra computation, and is
        unbiased for l(w_t) since the batch is fresh. "validation" uses a fresh batch of the validation split after each
        step.
      outer_batch: whether "train" uses a separate batch after each step too, which costs a forward pass.
      score_every: number of inner steps for each evaluation on a separate batch; the value counts for all of them.
      untold: share of unrolls whose optimizer is not told the horizon.
      late: whether the loss of a step counts in proportion to its number.
    """

    design: LearnedOptimizer
    problem: tasks.Problem
    sample: Callable[[Key, str], Cfg]
    pool: str
    objective: Objective = "train"
    outer_batch: bool = False
    score_every: int = 1
    untold: float = 0.0
    late: bool = False

    def start(self, theta: Theta, arrays, key: Key, horizon: int | Array) -> tasks.inner_loop.InnerState:
        """The inner state before the first of `horizon` steps, for the task and initialization of `key`."""
        task, run_key = self._task(arrays, key)
        if self.untold:
            # Its own stream: the inner loop folds small numbers into the key.
            untold = jax.random.bernoulli(jax.random.fold_in(run_key, UNTOLD_STREAM), self.untold)
            horizon = jnp.where(untold, jnp.inf, horizon)
        return tasks.inner_loop.init(task, self.design.optimizer(theta, horizon), run_key)

    def advance(
        self, theta: Theta, arrays, state: tasks.inner_loop.InnerState, key: Key, num_steps: int
    ) -> tuple[tasks.inner_loop.InnerState, Array]:
        """`num_steps` further steps of the unroll of `key`: the state after them and unclipped losses (num_steps,)."""
        task, run_key = self._task(arrays, key)

        def score(params, score_key):
            return task.loss(params, task.batch(score_key, self.objective))

        scored = self.outer_batch or self.objective == "validation"
        optimizer = self.design.optimizer(theta)
        state, trace = tasks.inner_loop.unroll(
            task, optimizer, state, run_key, num_steps, score if scored else None, self.score_every
        )
        return state, trace.score if scored else trace.inner_loss

    def _task(self, arrays, key: Key) -> tuple[tasks.Task, Key]:
        task_key, run_key = jax.random.split(key)
        return tasks.Task(self.problem, arrays, self.sample(task_key, self.pool)), run_key

    def per_step(self, theta: Theta, arrays, key: Key, num_steps: int) -> Array:
        """Unclipped outer-loss of each inner step, (num_steps,), for the task, initialization and batches of `key`."""
        return self.advance(theta, arrays, self.start(theta, arrays, key, num_steps), key, num_steps)[1]

    def __call__(self, theta: Theta, arrays, key: Key, num_steps: int) -> Array:
        """The clipped mean over the unroll, ()."""
        return mean_over(clip_losses(self.per_step(theta, arrays, key, num_steps)), self.late)
