"""The contracts of a task, checked on its parameters, batches, losses and gradients for a few keys."""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks import Task
from bench.checks.contract import Broken, agreement, largest_of, no_callback, same_bits, same_kinds, stack


class TaskSubject:
    """A task under test, and its draws."""

    def __init__(self, task: Task):
        self.task = task
        self.traces = 0

    def draw(self, task: Task, key: Any) -> dict[str, Any]:
        """Parameters, a training batch, its loss and gradients, for one key."""
        import jax

        self.traces += 1
        init_key, batch_key = jax.random.split(key)
        params, batch = task.init(init_key), task.batch(batch_key, "train")
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        return {"params": params, "batch": batch, "loss": loss, "grads": grads}

    @functools.cached_property
    def drawn(self) -> dict[str, Any]:
        """The draw for key 0, jitted."""
        return self.jitted(0)

    def jitted(self, seed: int) -> dict[str, Any]:
        """The draw for a seed, jitted and traced anew."""
        import jax

        return jax.jit(self.draw)(self.task, jax.random.key(seed))


def _sizes(subject: TaskSubject) -> str:
    from tasks.task import SPLITS, Problem

    problem = subject.task.problem
    if not isinstance(problem, Problem):
        raise Broken(f"expected a tasks.Problem, got {type(problem).__name__}")
    for name, value in (
        *((f"size of {split}", problem.size(split)) for split in SPLITS),
        *(("horizon", problem.horizon), ("batch_size", problem.batch_size)),
    ):
        if not isinstance(value, int) or value < 1:
            raise Broken(f"{name} is {value!r}: expected a whole number, at least 1")
    if not math.isfinite(problem.chance_loss):
        raise Broken(f"chance_loss is {problem.chance_loss!r}: expected a finite number")
    sizes = " + ".join(f"{problem.size(split):,}" for split in SPLITS)
    return f"{sizes} examples, horizon {problem.horizon:,}, batches of {problem.batch_size}"


def _task_loss(subject: TaskSubject) -> str:
    import jax

    loss = jax.eval_shape(subject.draw, subject.task, jax.random.key(0))["loss"]
    return f"{loss.dtype}{list(loss.shape)}"


def _task_callbacks(subject: TaskSubject) -> str:
    import jax

    no_callback(jax.make_jaxpr(subject.draw)(subject.task, jax.random.key(0)))
    return "none"


def _task_shapes(subject: TaskSubject) -> str:
    import jax
    import jax.numpy as jnp

    drawn = subject.drawn
    if drawn["loss"].shape != () or not jnp.issubdtype(drawn["loss"].dtype, jnp.floating):
        raise Broken(f"the loss is of shape {drawn['loss'].shape} and {drawn['loss'].dtype}: expected a float ()")
    leaves = jax.tree.leaves(drawn["params"])
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise Broken(f"parameters of {sorted({str(leaf.dtype) for leaf in leaves})}: expected arrays of floats")
    size = subject.task.problem.batch_size
    for leaf in jax.tree.leaves(drawn["batch"]):
        if leaf.shape[:1] != (size,):
            raise Broken(f"a batch has an array of shape {leaf.shape}: expected {size} examples along the first axis")
    same_kinds("gradients", drawn["params"], drawn["grads"], "the parameters")
    return f"{sum(leaf.size for leaf in leaves):,} parameters"


def _task_deterministic(subject: TaskSubject) -> str:
    if not same_bits(subject.drawn, subject.jitted(0)):
        raise Broken("one key, traced twice, draws two different things: randomness outside of its key?")
    other = subject.jitted(1)
    for what in ("params", "batch"):
        if same_bits(subject.drawn[what], other[what]):
            raise Broken(f"two keys draw the same {what}")
    return "one key one draw, two keys two"


def _task_retraces(subject: TaskSubject) -> str:
    import jax

    subject.traces = 0
    jitted = jax.jit(subject.draw)
    for seed in range(3):
        jitted(subject.task, jax.random.key(seed))
    if subject.traces != 1:
        raise Broken(f"three draws were traced {subject.traces} times: is the problem hashable, and equal to itself?")
    return "three draws, one trace"


def _computed(drawn: dict[str, Any]) -> list[Any]:
    """The floating-point parts of a draw: parameters, loss, gradients."""
    return [drawn[what] for what in ("params", "loss", "grads")]


def _task_eager(subject: TaskSubject) -> str:
    import jax

    eager = subject.draw(subject.task, jax.random.key(0))
    return agreement("eager and jitted draws", _computed(eager), _computed(subject.drawn))


def _task_vmap(subject: TaskSubject) -> str:
    import jax

    keys = jax.random.split(jax.random.key(0), 2)
    side_by_side = jax.jit(jax.vmap(subject.draw, in_axes=(None, 0)))(subject.task, keys)
    loop = stack([jax.jit(subject.draw)(subject.task, key) for key in keys])
    what = "two draws side by side under vmap and one after the other"
    return agreement(what, _computed(loop), _computed(side_by_side))


def _task_disjoint(subject: TaskSubject) -> str:
    from tasks.task import SPLITS

    known = {split: _examples(subject.task, split) for split in SPLITS}
    for i, a in enumerate(SPLITS):
        for b in SPLITS[i + 1 :]:
            if shared := len(known[a] & known[b]):
                raise Broken(f"{shared:,} examples are in {a} and in {b} alike")
    return f"{sum(map(len, known.values())):,} different examples, none in two splits"


def _examples(task: Task, split: Any, chunk: int = 1000) -> set[bytes]:
    """Digests of the examples of a split."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    found = set()
    for begin in range(0, task.problem.size(split), chunk):
        indices = jnp.arange(begin, min(begin + chunk, task.problem.size(split)), dtype=jnp.int32)
        leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(task.take(split, indices))]
        for row in range(len(indices)):
            found.add(hashlib.sha256(b"".join(leaf[row].tobytes() for leaf in leaves)).digest())
    return found


def _task_nan(subject: TaskSubject) -> str:
    import jax
    import jax.numpy as jnp

    params = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), subject.drawn["params"])
    loss = float(jax.jit(subject.task.loss)(params, subject.drawn["batch"]))
    if math.isfinite(loss):
        raise Broken(f"the loss of parameters that are not a number is {loss:.3g}: a diverged run would not be seen")
    return "parameters that are not a number show in the loss"


def _task_finite(subject: TaskSubject) -> str:
    loss, chance = float(subject.drawn["loss"]), subject.task.problem.chance_loss
    if not math.isfinite(loss) or not math.isfinite(largest_of(subject.drawn["grads"])):
        raise Broken(f"at the beginning the loss is {loss:.3g}, and its gradients are not all finite")
    if loss - chance > 99 * (abs(chance) or 1.0):
        raise Broken(f"at the beginning the loss is {loss:.3g}, a hundred times that of chance, {chance:.3g}")
    return f"loss {loss:.3g} at the beginning, {chance:.3g} by chance"


def _task_trains(subject: TaskSubject) -> str:
    import jax
    import optax

    import tasks.inner_loop

    task, key, num_steps = subject.task, jax.random.key(0), 100

    @jax.jit
    def train(task: Task) -> Any:
        optimizer = optax.adam(1e-3)
        state = tasks.inner_loop.init(task, optimizer, key)
        end, _ = tasks.inner_loop.unroll(task, optimizer, state, key, num_steps)
        batch = task.batch(jax.random.key(1), "train")
        return task.loss(state.params, batch), task.loss(end.params, batch)

    begin = time.perf_counter()
    before, after = map(float, train(task))
    seconds = time.perf_counter() - begin
    if not after < before:
        raise Broken(f"{num_steps} steps of Adam at 0.001 take the train loss from {before:.3g} to {after:.3g}")
    return f"{num_steps} steps of Adam take the train loss from {before:.3g} to {after:.3g}, in {seconds:.1f} s"


TASK_CHECKS: dict[str, Callable[[TaskSubject], str]] = {
    "sizes": _sizes,
    "loss": _task_loss,  # first of what draws: what raises in all the others is said of the loss
    "host callbacks": _task_callbacks,
    "structure, shapes, dtypes": _task_shapes,
    "retraces": _task_retraces,
    "deterministic": _task_deterministic,
    "jit = eager": _task_eager,
    "vmap = loop": _task_vmap,
    "splits disjoint": _task_disjoint,
    "finite": _task_finite,
    "NaN": _task_nan,
    "trains": _task_trains,
}
