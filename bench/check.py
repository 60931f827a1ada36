"""`bench check PLUGIN`: whether tasks and optimizers of a plug-in keep the contracts that everything else relies on.

Each is checked in a process of its own, so that one that hangs or crashes is a verdict like any other.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.processes import converse, hearing, speaking

if TYPE_CHECKING:
    from baselines import Baseline
    from learned import External
    from tasks import Task

TIME_LIMIT = 120.0  # seconds of a check, importing included; one that compiles takes about one
BUILT = "can be built"
SLOW_TRACE = 20.0  # seconds that tracing and compiling one step may take
HORIZON = 20
MAX_STATE = 100  # bytes of state per parameter: 25 float32 arrays as large as the parameters
HUGE = 1e6  # of an update, for parameters and gradients of order one
CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print", "callback", "outside_call")


class Broken(Exception):
    """A contract that is not kept: what was expected, what was got."""


@dataclass(frozen=True)
class Verdict:
    """How one check of one task or optimizer ended.

    Attributes:
      kind: "task" or "optimizer".
      name: of the task or optimizer.
      check: which one.
      passed: whether the contract is kept.
      detail: what was measured, or what is broken.
    """

    kind: str
    name: str
    check: str
    passed: bool
    detail: str


# Optimizers -----------------------------------------------------------------------------------------------------------


class OptimizerSubject:
    """A row of a table of optimizers, with three steps of its default on small parameters."""

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
        """The transformation of some hyperparameters, the default ones without."""
        import optax

        return optax.with_extra_args_support(self.row.make(hyperparameters or dict(self.row.default), horizon))

    def gradients(self, inner_step: int) -> Any:
        """Gradients of order one, other ones at every step."""
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

    def run(self, num_steps: int, changed: Mapping[str, float] | None = None) -> tuple[list[Any], list[Any]]:
        """(updates, states) of jitted steps, traced anew, some hyperparameters other than by default."""
        import jax
        import jax.numpy as jnp

        jitted = jax.jit(self.step)
        traced = {name: jnp.float32(value) for name, value in {**self.constants, **(changed or {})}.items()}
        state = self.optimizer().init(self.params)
        updates, states = [], [state]
        for inner_step in range(num_steps):
            update, state = jitted(traced, self.gradients(inner_step), state, self.params)
            updates.append(update)
            states.append(state)
        return updates, states


def _search_space(subject: OptimizerSubject) -> str:
    space, default = subject.row.space, subject.row.default
    if set(space) != set(default):
        raise Broken(f"the default has {_names(default)}, the search space {_names(space)}")
    for name, rng in space.items():
        if not 0 < rng.low < rng.high < math.inf:
            raise Broken(f"{name} is searched from {rng.low} to {rng.high}: expected 0 < low < high")
        if not rng.low <= default[name] <= rng.high:
            raise Broken(f"the default {name} = {default[name]} lies outside {rng.low} to {rng.high}")
    return f"{_names(space)} searched, the default inside" if space else "nothing to search"


def _reads(subject: OptimizerSubject) -> str:
    """What is searched has to make a difference: three steps at both ends of each range."""
    for name, rng in subject.row.space.items():
        low, high = (subject.run(3, {name: value})[0] for value in (rng.low, rng.high))
        if _equal(low, high):
            raise Broken(f"three steps are the same at {name} = {rng.low:g} and {rng.high:g}: does `make` read it?")
    return f"three steps depend on {_names(subject.row.space)}" if subject.row.space else "nothing to read"


def _structure(subject: OptimizerSubject) -> str:
    updates, states = subject.three_steps
    for update in updates:
        _same_kinds("updates", subject.params, update, "the parameters")
    for before, after in itertools.pairwise(states):
        _same_kinds("the state after a step", before, after, "the state before it")
    return "updates as parameters, state as before"


def _optimizer_retraces(subject: OptimizerSubject) -> str:
    subject.traces = 0
    subject.run(4)
    if subject.traces != 1:
        raise Broken(f"four steps were traced {subject.traces} times: shapes, dtypes or structure change between steps")
    return "four steps, one trace"


def _optimizer_callbacks(subject: OptimizerSubject) -> str:
    import jax

    state = subject.optimizer().init(subject.params)
    _no_callback(jax.make_jaxpr(subject.step)(subject.constants, subject.gradients(0), state, subject.params))
    return "none"


def _optimizer_deterministic(subject: OptimizerSubject) -> str:
    if not _equal(subject.three_steps, subject.run(3)):
        raise Broken("the same three steps, traced twice, differ: randomness outside of jax.random keys in the state?")
    return "three steps, traced twice, the same to the last bit"


def _optimizer_eager(subject: OptimizerSubject) -> str:
    state = subject.optimizer().init(subject.params)
    eager = []
    for inner_step in range(3):
        update, state = subject.optimizer().update(subject.gradients(inner_step), state, subject.params, value=1.0)
        eager.append(update)
    return _agree("eager and jitted updates", eager, subject.three_steps[0])


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

    side_by_side = jax.jit(jax.vmap(both))(_stacked(params), _stacked(grads))
    loop = _stacked([jax.jit(both)(p, g) for p, g in zip(params, grads, strict=True)])
    return _agree("two runs side by side under vmap and one after the other", loop, side_by_side)


def _optimizer_finite(subject: OptimizerSubject) -> str:
    largest = _largest(subject.three_steps[0])
    if not math.isfinite(largest):
        raise Broken("an update is not finite for gradients of order one")
    if largest > HUGE:
        raise Broken(f"an update is as large as {largest:.2g} for gradients of order one: expected at most {HUGE:.0g}")
    return f"largest update {largest:.2g}"


def _optimizer_nan(subject: OptimizerSubject) -> str:
    """No contract: some optimizers skip such steps, some divide by a norm. It is said."""
    import jax
    import jax.numpy as jnp

    said = []
    for what, value in (("not a number", jnp.nan), ("zero", 0.0)):
        grads = jax.tree.map(lambda p, value=value: jnp.full_like(p, value), subject.params)
        state = subject.optimizer().init(subject.params)
        update, _ = jax.jit(subject.step)(subject.constants, grads, state, subject.params)
        finite = math.isfinite(_largest(update))
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
    if seconds > SLOW_TRACE:
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


# Tasks ----------------------------------------------------------------------------------------------------------------


class TaskSubject:
    """A task, with what one key draws of it."""

    def __init__(self, task: Task):
        self.task = task
        self.traces = 0

    def draw(self, task: Task, key: Any) -> dict[str, Any]:
        """Parameters, a batch of train, its loss and gradients, of one key."""
        import jax

        self.traces += 1
        init_key, batch_key = jax.random.split(key)
        params, batch = task.init(init_key), task.batch(batch_key, "train")
        loss, grads = jax.value_and_grad(task.loss)(params, batch)
        return {"params": params, "batch": batch, "loss": loss, "grads": grads}

    @functools.cached_property
    def drawn(self) -> dict[str, Any]:
        """What key 0 draws, jitted."""
        return self.jitted(0)

    def jitted(self, seed: int) -> dict[str, Any]:
        """What a key draws, traced anew."""
        import jax

        return jax.jit(self.draw)(self.task, jax.random.key(seed))


def _sizes(subject: TaskSubject) -> str:
    from tasks.base import SPLITS, Problem

    problem = subject.task.problem
    if not isinstance(problem, Problem):
        raise Broken(f"expected a tasks.Problem, got {type(problem).__name__}")
    for name, value in (
        *((f"size of {split}", problem.size(split)) for split in SPLITS),
        *(("horizon", problem.horizon), ("batch_size", problem.batch_size)),
    ):
        if not isinstance(value, int) or value < 1:
            raise Broken(f"{name} is {value!r}: expected a whole number, at least 1")
    if not (math.isfinite(problem.chance_loss) and problem.chance_loss > 0):
        raise Broken(f"chance_loss is {problem.chance_loss!r}: expected a finite number above 0")
    sizes = " + ".join(f"{problem.size(split):,}" for split in SPLITS)
    return f"{sizes} examples, horizon {problem.horizon:,}, batches of {problem.batch_size}"


def _task_callbacks(subject: TaskSubject) -> str:
    import jax

    _no_callback(jax.make_jaxpr(subject.draw)(subject.task, jax.random.key(0)))
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
    _same_kinds("gradients", drawn["params"], drawn["grads"], "the parameters")
    return f"{sum(leaf.size for leaf in leaves):,} parameters"


def _task_deterministic(subject: TaskSubject) -> str:
    if not _equal(subject.drawn, subject.jitted(0)):
        raise Broken("one key, traced twice, draws two different things: randomness outside of its key?")
    other = subject.jitted(1)
    for what in ("params", "batch"):
        if _equal(subject.drawn[what], other[what]):
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
    """What a draw computes in floats, without its batch."""
    return [drawn[what] for what in ("params", "loss", "grads")]


def _task_eager(subject: TaskSubject) -> str:
    import jax

    eager = subject.draw(subject.task, jax.random.key(0))
    return _agree("eager and jitted draws", _computed(eager), _computed(subject.drawn))


def _task_vmap(subject: TaskSubject) -> str:
    import jax

    keys = jax.random.split(jax.random.key(0), 2)
    side_by_side = jax.jit(jax.vmap(subject.draw, in_axes=(None, 0)))(subject.task, keys)
    loop = _stacked([jax.jit(subject.draw)(subject.task, key) for key in keys])
    what = "two draws side by side under vmap and one after the other"
    return _agree(what, _computed(loop), _computed(side_by_side))


def _task_disjoint(subject: TaskSubject) -> str:
    from tasks.base import SPLITS

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
    if not math.isfinite(loss) or not math.isfinite(_largest(subject.drawn["grads"])):
        raise Broken(f"at the beginning the loss is {loss:.3g}, and its gradients are not all finite")
    if loss > 100 * chance:
        raise Broken(f"at the beginning the loss is {loss:.3g}, a hundred times that of chance, {chance:.3g}")
    return f"loss {loss:.3g} at the beginning, {chance:.3g} by chance"


def _task_trains(subject: TaskSubject) -> str:
    import jax
    import optax

    import tasks.unroll

    task, key, num_steps = subject.task, jax.random.key(0), 100

    @jax.jit
    def train(task: Task) -> Any:
        optimizer = optax.adam(1e-3)
        state = tasks.unroll.init(task, optimizer, key)
        end, _ = tasks.unroll.unroll(task, optimizer, state, key, num_steps)
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


# What checks share ----------------------------------------------------------------------------------------------------


def _names(table: Mapping[str, Any]) -> str:
    return ", ".join(sorted(table)) or "nothing"


def _kinds(tree: Any) -> Any:
    """Structure with shape and dtype of every leaf."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf: (jnp.shape(leaf), str(jnp.result_type(leaf))), tree)


def _same_kinds(what: str, expected: Any, got: Any, like: str) -> None:
    import jax

    a, b = jax.tree.structure(expected), jax.tree.structure(got)
    if a != b:
        raise Broken(f"{what} are not of the structure of {like}: expected {_short(a)}, got {_short(b)}")
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(expected)[0], jax.tree.leaves(got), strict=True):
        if _kinds(x) != _kinds(y):
            where = jax.tree_util.keystr(path) or "a leaf"
            raise Broken(f"{what}: {where} is {_of(y)}, in {like} {_of(x)}")


def _of(leaf: Any) -> str:
    shape, dtype = _kinds(leaf)
    return f"{dtype}{list(shape)}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _no_callback(jaxpr: Any) -> None:
    found = sorted({name for name in _primitives(jaxpr.jaxpr) if name in CALLBACKS})
    if found:
        raise Broken(
            f"calls back to Python from inside the step ({', '.join(found)}): it would be timed, and hides state"
        )


def _primitives(jaxpr: Any) -> Iterator[str]:
    """Names of all primitives of a jaxpr, those of inner ones too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _primitives(inner)


def _equal(a: Any, b: Any) -> bool:
    """Whether two trees of arrays are the same to the last bit, NaN equal to itself."""
    import jax
    import numpy as np

    x, y = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(x) == len(y) and all(
        np.asarray(p).tobytes() == np.asarray(q).tobytes() for p, q in zip(x, y, strict=True)
    )


def _stacked(trees: list[Any]) -> Any:
    """Trees of arrays as one, along a new first axis."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _agree(what: str, a: Any, b: Any) -> str:
    """How far two trees differ, which is to be by rounding: under jit hyperparameters are float32, and 1 - 0.001 is off
    by 3e-5 of 0.001."""
    worst = _difference(a, b)
    if worst > 1e-3:
        raise Broken(f"{what} differ by {worst:.2g} of their size")
    return f"relative difference {worst:.1g}"


def _difference(a: Any, b: Any) -> float:
    """The largest difference of two trees over the size of the leaf that it is in; infinite where one is not finite."""
    import jax
    import numpy as np

    worst = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if not np.array_equal(np.isfinite(x), np.isfinite(y)):
            return math.inf
        both = np.isfinite(x)
        scale = max(float(np.max(np.abs(x[both]), initial=0.0)), 1e-12)
        worst = max(worst, float(np.max(np.abs(x[both] - y[both]), initial=0.0)) / scale)
    return worst


def _largest(tree: Any) -> float:
    """The largest absolute value of a tree; NaN where one is not a number."""
    import jax
    import numpy as np

    return max((float(np.max(np.abs(np.asarray(leaf)), initial=0.0)) for leaf in jax.tree.leaves(tree)), default=0.0)


def examine(
    checks: Mapping[str, Callable[[Any], str]], subject: Any, begins: Callable[[str], None] = lambda check: None
) -> Iterator[tuple[str, bool, str]]:
    """(check, whether it passed, detail) in the order of the table; whatever is raised is a verdict."""
    raised: dict[str, str] = {}  # what was raised -> in which check first
    for check, function in checks.items():
        begins(check)
        try:
            yield check, True, function(subject)
        except Broken as broken:
            yield check, False, str(broken)
        except Exception as error:
            text = f"raises {type(error).__name__}: {_short(error)}"
            yield check, False, f"the same as in {raised[text]!r}" if text in raised else text
            raised.setdefault(text, check)


# Processes ------------------------------------------------------------------------------------------------------------


def check_plugin(
    file: str, time_limit: float = TIME_LIMIT, tell: Callable[[Verdict], None] = lambda _: None
) -> list[Verdict]:
    """Checks everything that a plug-in file defines, each in a process of its own.

    Args:
      file: of the plug-in.
      time_limit: seconds of one check.
      tell: called with each verdict as it falls.

    Returns:
      All verdicts, in the order of the file and of the tables of checks.

    Raises:
      UsageError: a file that is no plug-in, cannot be imported, or does not come to an end being imported.
    """
    names: list[tuple[str, str]] = []
    for message in converse("bench.check", [file], time_limit):
        if "ended" in message:
            raise UsageError(f"plug-in {file} cannot be imported: its process {message['ended']}")
        if "error" in message:
            raise UsageError(message["error"])
        names += [(kind, name) for kind, name in message["names"]]
    found = []
    for kind, name in names:
        check = BUILT
        for message in converse("bench.check", [file, kind, name], time_limit):
            if "begins" in message:
                check = message["begins"]
                continue
            if "ended" in message:
                asleep = ": does it sleep, or need a longer --time-limit?" if message["late"] else ""
                verdict = Verdict(kind, name, check, False, f"its process {message['ended']}{asleep}")
            else:
                verdict = Verdict(kind, name, message["check"], message["passed"], message["detail"])
            found.append(verdict)
            tell(verdict)
    return found


def _as_row(external: External) -> Baseline:
    """A learned optimizer as a row with nothing to tune."""
    from baselines import Baseline

    return Baseline(lambda h, horizon: external.make(external.theta, horizon), {}, {}, external.reference)


def _work() -> None:
    """What runs in a process: lists what the file defines, or checks one of that."""
    import optax

    from bench.plugins import build_registry

    file, *one = hearing()
    with speaking() as say:
        try:
            registry = build_registry([file])
        except UsageError as error:
            say(error=str(error))
            return
        if not one:
            tables = {"task": registry.task_builders, "optimizer": registry.baselines | registry.learned}
            say(names=[(kind, name) for kind, table in tables.items() for name in table if name in registry.sources])
            return
        kind, name = one
        checks: Any = {BUILT: lambda subject: "yes"} | (TASK_CHECKS if kind == "task" else OPTIMIZER_CHECKS)
        say(begins=BUILT)
        try:
            if kind == "task":
                subject = TaskSubject(registry.load(name))
            else:
                subject = OptimizerSubject(registry.baselines.get(name) or _as_row(registry.learned[name]))
            if isinstance(subject, OptimizerSubject):
                optimizer = subject.row.make(subject.constants, HORIZON)
                if not isinstance(optimizer, optax.GradientTransformation):
                    kind = type(optimizer).__name__
                    raise Broken(f"expected `make` to return an optax.GradientTransformation, got {kind}")
                subject.optimizer().init(subject.params)
        except Exception as error:
            detail = (
                str(error)
                if isinstance(error, UsageError | Broken)
                else f"raises {type(error).__name__}: {_short(error)}"
            )
            say(check=BUILT, passed=False, detail=detail)
            return
        for check, passed, detail in examine(checks, subject, lambda check: say(begins=check)):
            say(check=check, passed=passed, detail=detail)


if __name__ == "__main__":
    _work()
