"""Shared by all checks: the exception for a broken contract, the verdict, and comparisons of trees of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


BUILT = "can be built"
CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print", "callback", "outside_call")


class Broken(Exception):
    """A contract is broken; the message says what was expected and what was found."""


@dataclass(frozen=True)
class Verdict:
    """How one check of one task or optimizer ended.

    Attributes:
      kind: "task" or "optimizer".
      name: name of the task or optimizer.
      check: name of the check.
      passed: whether the contract is kept.
      detail: what was measured, or what is broken.
    """

    kind: str
    name: str
    check: str
    passed: bool
    detail: str


def listed(table: Mapping[str, Any]) -> str:
    """The names of a table, sorted, as text."""
    return ", ".join(sorted(table)) or "nothing"


def _kinds(tree: Any) -> Any:
    """The tree with (shape, dtype) of every leaf."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf: (jnp.shape(leaf), str(jnp.result_type(leaf))), tree)


def same_kinds(what: str, expected: Any, got: Any, like: str) -> None:
    """Checks that a tree has the expected structure, shapes and dtypes.

    Raises:
      Broken: it has not; the message names the first leaf that differs.
    """
    import jax

    a, b = jax.tree.structure(expected), jax.tree.structure(got)
    if a != b:
        raise Broken(f"{what} are not of the structure of {like}: expected {shortened(a)}, got {shortened(b)}")
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(expected)[0], jax.tree.leaves(got), strict=True):
        if _kinds(x) != _kinds(y):
            where = jax.tree_util.keystr(path) or "a leaf"
            raise Broken(f"{what}: {where} is {_of(y)}, in {like} {_of(x)}")


def _of(leaf: Any) -> str:
    shape, dtype = _kinds(leaf)
    return f"{dtype}{list(shape)}"


def shortened(value: Any) -> str:
    """A value as one line of at most 100 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def no_callback(jaxpr: Any) -> None:
    """Checks that a program does not call back to Python.

    Raises:
      Broken: it does; the message names the primitives.
    """
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


def same_bits(a: Any, b: Any) -> bool:
    """Whether two trees of arrays are the same to the last bit, NaN equal to itself."""
    import jax
    import numpy as np

    x, y = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(x) == len(y) and all(
        np.asarray(p).tobytes() == np.asarray(q).tobytes() for p, q in zip(x, y, strict=True)
    )


def stack(trees: list[Any]) -> Any:
    """Trees of arrays as one, along a new first axis."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def agreement(what: str, a: Any, b: Any) -> str:
    """Checks that two trees differ by rounding only; returns the relative difference as text.

    The tolerance is 1e-3: under jit, hyperparameters are float32, and 1 - 0.001 then has a relative error of 3e-5.

    Raises:
      Broken: they differ by more.
    """
    worst = _difference(a, b)
    if worst > 1e-3:
        raise Broken(f"{what} differ by {worst:.2g} of their size")
    return f"relative difference {worst:.1g}"


def _difference(a: Any, b: Any) -> float:
    """The largest difference of two trees relative to the leaf's largest value; inf where only one is finite."""
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


def largest_of(tree: Any) -> float:
    """The largest absolute value in a tree; NaN if there is a NaN."""
    import jax
    import numpy as np

    return max((float(np.max(np.abs(np.asarray(leaf)), initial=0.0)) for leaf in jax.tree.leaves(tree)), default=0.0)


def examine(
    checks: Mapping[str, Callable[[Any], str]], subject: Any, begins: Callable[[str], None] = lambda check: None
) -> Iterator[tuple[str, bool, str]]:
    """Yields (check, whether it passed, detail) in the order of the table; an exception is a failed check.

    An exception that an earlier check raised is not told again: it is one thing that is broken.
    """
    raised: set[str] = set()
    for check, function in checks.items():
        begins(check)
        try:
            yield check, True, function(subject)
        except Broken as broken:
            yield check, False, str(broken)
        except Exception as error:
            text = f"raises {type(error).__name__}: {shortened(error)}"
            if text not in raised:
                yield check, False, text
            raised.add(text)
