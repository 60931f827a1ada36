"""The contracts of an optimizer, checked on a few steps with small parameters."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines import Baseline
from bench.checks.contract import Broken, agreement, largest_of, listed, no_callback, same_bits, same_kinds, stack

SLOW_TRACE_SEC = 20.0  # limit of tracing and compiling one step
HORIZON = 20
MAX_STATE = 100  # bytes of state per parameter: 25 float32 arrays as large as the parameters
HUGE = 1e6  # limit of an update, for parameters and gradients of order one


class OptimizerSubject:
    """An optimizer under test, and its steps on small parameters."""

    def __init__(self, row: Baseline):
        import jax.numpy as jnp

        self.row = row
        self.params = {
            "kernel": jnp.linspace(-0.5, 0.5, 2 * 3 * 4).reshape(2, 3, 4),
            "matrix": jnp.array([[0.3, -0.2, 0.5], [1.0, -1.0, 0.1]]),
            "bias": jnp.array([0.1, 0.2, -0.3]),
        }
        self.traces = 0

    def optimizer(self, hyperparameters: Mapping[str, Any] | None = None, horizon: int = HORIZON) -> Any:
        """The transformation for hyperparameters, by default the default ones."""
        import optax

        return optax.with_extra_args_support(self.row.make(hyperparameters or dict(self.row.default), horizon))

    def gradients(self, inner_step: int) -> Any:
        """Gradients of order one, different at every step."""
        import jax
        import jax.numpy as jnp
        import numpy as np

        rng = np.random.default_rng(inner_step)
        return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), self.params)

    def step(self, hyperparameters: Any, grads: Any, state: Any, params: Any) -> Any:
        """(updates, state) of one step."""
        import jax.numpy as jnp

        self.traces += 1
        return self.optimizer(hyperparameters).update(grads, state, params, value=jnp.float32(1.0))

    @functools.cached_property
    def constants(self) -> dict[str, float]:
        """The default hyperparameters as numbers."""
        return dict(self.row.default)

    @functools.cached_property
    def three_steps(self) -> tuple[list[Any], list[Any]]:
        """(updates, states) of three jitted steps; hyperparameters are arguments, as in tuning."""
        return self.run(3)

    @functools.cached_property
    def jitted(self) -> Callable[..., Any]:
        """The compiled `step`, shared by the checks that can use one program."""
        import jax

        return jax.jit(self.step)

    def arguments(self, changed: Mapping[str, float] | None = None) -> dict[str, Any]:
        """The default hyperparameters, some of them changed, as arguments of a compiled step."""
        import jax.numpy as jnp

        return {name: jnp.float32(value) for name, value in {**self.constants, **(changed or {})}.items()}

    def run(
        self, num_steps: int, changed: Mapping[str, float] | None = None, anew: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """(updates, states) of jitted steps, with some hyperparameters changed; `anew` traces them again."""
        import jax

        # jit reuses the trace of an equal function, and all `self.step` are equal; a new partial is not.
        jitted = jax.jit(functools.partial(self.step)) if anew else self.jitted
        arguments = self.arguments(changed)
        state = self.optimizer().init(self.params)
        updates, states = [], [state]
        for inner_step in range(num_steps):
            update, state = jitted(arguments, self.gradients(inner_step), state, self.params)
            updates.append(update)
            states.append(state)
        return updates, states


def _search_space(subject: OptimizerSubject) -> str:
    space, default = subject.row.space, subject.row.default
    if set(space) != set(default):
        raise Broken(f"the default has {listed(default)}, the search space {listed(space)}")
    for name, rng in space.items():
        if not 0 < rng.low < rng.high < math.inf:
            raise Broken(f"{name} is searched from {rng.low} to {rng.high}: expected 0 < low < high")
        if not rng.low <= default[name] <= rng.high:
            raise Broken(f"the default {name} = {default[name]} lies outside {rng.low} to {rng.high}")
    return f"{listed(space)} searched, the default inside" if space else "nothing to search"


def _reads(subject: OptimizerSubject) -> str:
    """Checks that every searched hyperparameter changes updates or evaluation, at the two ends of its range."""
    from tasks import evaluation_params

    def seen(changed: Mapping[str, float]) -> Any:
        updates, states = subject.run(3, changed)
        return updates, evaluation_params(states[-1], subject.params)

    for name, rng in subject.row.space.items():
        low, high = (seen({name: value}) for value in (rng.low, rng.high))
        if same_bits(low, high):
            raise Broken(f"three steps are the same at {name} = {rng.low:g} and {rng.high:g}: does `make` read it?")
    return f"three steps depend on {listed(subject.row.space)}" if subject.row.space else "nothing to read"


def _structure(subject: OptimizerSubject) -> str:
    from tasks import evaluation_params

    updates, states = subject.three_steps
    for update in updates:
        same_kinds("updates", subject.params, update, "the parameters")
    for before, after in itertools.pairwise(states):
        same_kinds("the state after a step", before, after, "the state before it")
    for state in states:
        same_kinds("the parameters to evaluate", subject.params, evaluation_params(state, subject.params), "parameters")
    return "updates as parameters, state as before"


def _optimizer_retraces(subject: OptimizerSubject) -> str:
    subject.traces = 0
    subject.run(4, anew=True)
    if subject.traces != 1:
        raise Broken(f"four steps were traced {subject.traces} times: shapes, dtypes or structure change between steps")
    return "four steps, one trace"


def _optimizer_callbacks(subject: OptimizerSubject) -> str:
    import jax

    state = subject.optimizer().init(subject.params)
    no_callback(jax.make_jaxpr(subject.step)(subject.constants, subject.gradients(0), state, subject.params))
    return "none"


def _optimizer_deterministic(subject: OptimizerSubject) -> str:
    if not same_bits(subject.three_steps, subject.run(3, anew=True)):
        raise Broken("the same three steps, traced twice, differ: randomness outside of jax.random keys in the state?")
    return "three steps, traced twice, the same to the last bit"


def _optimizer_eager(subject: OptimizerSubject) -> str:
    state = subject.optimizer().init(subject.params)
    eager = []
    for inner_step in range(3):
        update, state = subject.optimizer().update(subject.gradients(inner_step), state, subject.params, value=1.0)
        eager.append(update)
    return agreement("eager and jitted updates", eager, subject.three_steps[0])


def _optimizer_vmap(subject: OptimizerSubject) -> str:
    import jax
    import jax.numpy as jnp

    optimizer = subject.optimizer()
    params = [subject.params, jax.tree.map(lambda p: p + 0.1, subject.params)]
    grads = [subject.gradients(0), subject.gradients(1)]

    def both(params: Any, grads: Any) -> Any:
        state = optimizer.init(params)
        _, state = optimizer.update(grads, state, params, value=jnp.float32(1.0))
        return optimizer.update(grads, state, params, value=jnp.float32(1.0))[0]

    side_by_side = jax.jit(jax.vmap(both))(stack(params), stack(grads))
    loop = stack([jax.jit(both)(p, g) for p, g in zip(params, grads, strict=True)])
    return agreement("two runs side by side under vmap and one after the other", loop, side_by_side)


def _optimizer_finite(subject: OptimizerSubject) -> str:
    largest = largest_of(subject.three_steps[0])
    if not math.isfinite(largest):
        raise Broken("an update is not finite for gradients of order one")
    if largest > HUGE:
        raise Broken(f"an update is as large as {largest:.2g} for gradients of order one: expected at most {HUGE:.0g}")
    return f"largest update {largest:.2g}"


def _optimizer_nan(subject: OptimizerSubject) -> str:
    """Reports, without a contract, what NaN and zero gradients do: some optimizers skip them, some divide by a norm."""
    import jax
    import jax.numpy as jnp

    said = []
    for what, value in (("not a number", jnp.nan), ("zero", 0.0)):
        grads = jax.tree.map(lambda p, value=value: jnp.full_like(p, value), subject.params)
        state = subject.optimizer().init(subject.params)
        update, _ = subject.jitted(subject.arguments(), grads, state, subject.params)
        finite = math.isfinite(largest_of(update))
        said.append(f"gradients that are {what} give updates that are {'finite' if finite else 'not'}")
    return "; ".join(said)


def _optimizer_descends(subject: OptimizerSubject) -> str:
    import jax
    import jax.numpy as jnp
    import optax

    num_steps, curvature = 500, jnp.array([2.0, 1.0, 0.5])
    optimizer = subject.optimizer(horizon=num_steps)

    @jax.jit
    def run(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, state = carry
            value, grads = jax.value_and_grad(lambda x: jnp.sum(curvature * x**2) / 2)(x)
            updates, state = optimizer.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), value

        return jax.lax.scan(step, (x, optimizer.init(x)), length=num_steps)[1]

    losses = run(jnp.array([0.5, -0.4, 0.3]))
    first, last = float(losses[0]), float(losses[-1])
    if not last < first:
        raise Broken(f"{num_steps} steps of the default on a quadratic take the loss from {first:.3g} to {last:.3g}")
    return f"{num_steps} steps of the default take a quadratic from {first:.2g} to {last:.2g}"


def _optimizer_cost(subject: OptimizerSubject) -> str:
    import jax
    import jax.numpy as jnp

    params = {"a": jnp.ones((100, 100)), "b": jnp.ones((10_000,))}
    optimizer = subject.optimizer()
    state = optimizer.init(params)
    arrays = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype"))
    per_parameter = arrays / 20_000
    if per_parameter > MAX_STATE:
        raise Broken(f"{per_parameter:.4g} bytes of state per parameter: expected at most {MAX_STATE}")
    begin = time.perf_counter()
    jax.jit(optimizer.update).lower(params, state, params, value=jnp.float32(1.0)).compile()
    seconds = time.perf_counter() - begin
    if seconds > SLOW_TRACE_SEC:
        raise Broken(f"tracing and compiling one step took {seconds:.0f} s: does it sleep, or unroll a loop in Python?")
    return f"{per_parameter:.3g} bytes of state per parameter; one step compiles in {seconds:.1f} s"


OPTIMIZER_CHECKS: dict[str, Callable[[OptimizerSubject], str]] = {
    "search space": _search_space,
    "host callbacks": _optimizer_callbacks,
    "structure, shapes, dtypes": _structure,
    "retraces": _optimizer_retraces,
    "deterministic": _optimizer_deterministic,
    "hyperparameters": _reads,
    "jit = eager": _optimizer_eager,
    "vmap = loop": _optimizer_vmap,
    "finite": _optimizer_finite,
    "NaN": _optimizer_nan,
    "descends": _optimizer_descends,
    "cost": _optimizer_cost,
}
