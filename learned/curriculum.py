"""How long the unrolls of an outer step are.

A curriculum is a sequence of stages. In a stage the length is constant, or grows linearly or geometrically, with
optional jitter: Metz et al., arXiv 1810.10180, section 4 and appendix, grow it linearly from 10 to 10,000 inner steps
over 20,000 outer steps, times U(0.8, 1.2). Lengths that grow or jitter are rounded to preferred numbers, six for each
decade, so that a run compiles few programs.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

Growth = Literal["linear", "geometric"]
Count = Annotated[int, Meta(ge=1, description="a whole number > 0")]
PREFERRED = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the curriculum.

    Attributes:
      num_steps: inner steps of an unroll at the start of the stage.
      outer_steps: number of updates.
      last_num_steps: inner steps at its end; None for a constant length.
      growth: from the first to the last, "linear" or "geometric".
      jitter: lengths are multiplied by U(1 - jitter, 1 + jitter), in [0, 1).
    """

    num_steps: Count
    outer_steps: Count
    last_num_steps: Count | None = None
    growth: Growth = "linear"
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.0


def preferred(num_steps: float) -> int:
    """The nearest of 1, 1.5, 2, 3, 5, 7 times a power of ten, by ratio; a whole number >= 1."""
    decade = 10.0 ** math.floor(math.log10(max(num_steps, 1.0)))
    nearest = min(PREFERRED, key=lambda number: abs(math.log(number * decade / max(num_steps, 1.0))))
    return math.ceil(nearest * decade)


def total_outer_steps(stages: Sequence[Stage]) -> int:
    """Outer steps of all stages."""
    return sum(stage.outer_steps for stage in stages)


def stage_ends(stages: Sequence[Stage]) -> list[int]:
    """Outer steps done at the end of each stage."""
    return list(itertools.accumulate(stage.outer_steps for stage in stages))


def num_steps_at(stages: Sequence[Stage], outer_step: int, seed: int = 0) -> int:
    """Inner steps of an unroll at an outer step, from 0; a pure function of its arguments.

    Args:
      stages: the curriculum; its last length continues after its end.
      outer_step: number of updates so far.
      seed: seed of the jitter.
    """
    stage, begin = stages[-1], total_outer_steps(stages) - stages[-1].outer_steps
    left = outer_step
    for candidate in stages:
        if left < candidate.outer_steps:
            stage, begin = candidate, outer_step - left
            break
        left -= candidate.outer_steps
    if stage.last_num_steps is None and not stage.jitter:
        return stage.num_steps
    share = min(outer_step - begin, stage.outer_steps - 1) / max(stage.outer_steps - 1, 1)
    first, last = stage.num_steps, stage.num_steps if stage.last_num_steps is None else stage.last_num_steps
    length = first + share * (last - first) if stage.growth == "linear" else first * (last / first) ** share
    length *= np.random.default_rng([seed, outer_step]).uniform(1 - stage.jitter, 1 + stage.jitter)
    return preferred(length)
