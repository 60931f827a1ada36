"""Tuning of hand-designed optimizers: the same procedure for all, and a budget by dimensions (protocol rule 1).

32 trials of a Halton sequence, 64 where more than three hyperparameters are searched, run on two tuning tasks each. The
best three run again with three further seeds. The mean final validation loss selects one of them, or the train loss
where the optimizer's row says so (`Baseline.tuned_by`). If the optimum is at the edge of the search space, the space is
widened and the search is repeated. The rules do not depend on the task (AlgoPerf's tuning rulesets, arXiv 2306.07179).
"""

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

import tasks
import tasks.inner_loop
from baselines import Baseline, LogUniform, loss_keys
from bench.statistics import significant
from bench.store.provenance import default_device, git_state
from bench.suites.seeds import FIRST_TUNING_SEED
from bench.training.programs import run_key

NUM_TRIALS = 32
MAX_DIMENSIONS = 3  # that so many trials fill; beyond, there are twice as many
NUM_TUNING_TASKS = 2
NUM_FINALISTS = 3
NUM_FURTHER_SEEDS = 3
MAX_ROUNDS = 4  # of widening

Trial = dict[str, Any]


class NothingFinishes(Exception):
    """No trial of a search has a finite loss with all seeds; the message says how many there were."""


def tuning_tasks(family: str) -> list[str]:
    """Names of the two tuning tasks: outer-validation tasks where the family has pools, else its one task twice."""
    if family not in tasks.FAMILIES or not tasks.FAMILIES[family].pools:
        return [family] * NUM_TUNING_TASKS
    return [f"{family}/outer_validation/{k}" for k in range(NUM_TUNING_TASKS)]


def num_trials_of(space: Mapping[str, Any]) -> int:
    """Trials of one round of a search in a space."""
    return NUM_TRIALS * (1 if len(space) <= MAX_DIMENSIONS else 2)


def halton(space: Mapping[str, LogUniform], num_trials: int | None = None) -> list[dict[str, float]]:
    """The first points of the Halton sequence in a space, without the origin; the same unit points for every optimizer.

    Args:
      space: name -> range; the order of the names is the order of the Halton bases 2, 3, 5, 7.
      num_trials: number of points; by default that of the space.
    """
    num_trials = num_trials or num_trials_of(space)
    points = qmc.Halton(len(space), scramble=False).random(num_trials + 1)[1:]
    return [{name: rng.at(u) for (name, rng), u in zip(space.items(), point, strict=True)} for point in points]


def edges(
    space: Mapping[str, LogUniform], trials: Sequence[Mapping[str, float]], best: Mapping[str, float]
) -> dict[str, str]:
    """Dimensions in which `best` is the outermost of all trials: name -> "low" or "high".

    An end of the range that is the dimension's natural bound is no edge.
    """
    found = {}
    for name, rng in space.items():
        values = [trial[name] for trial in trials]
        if best[name] <= min(values) and rng.low > rng.low_bound:
            found[name] = "low"
        elif best[name] >= max(values) and rng.high < rng.high_bound:
            found[name] = "high"
    return found


class TrialRunner:
    """Computes the final losses of many trials on one task, on the split `tuned_by`, with one program of fixed width.

    On a CPU the width is one, since a loop over networks uses the cache better than a wide vmap. On accelerators
    several trials run at once under vmap.
    """

    def __init__(self, baseline: Baseline, horizon: int, width: int | None = None):
        self.width = width or (1 if jax.default_backend() == "cpu" else 16)

        def run(task: tasks.Task, hyperparameters: dict[str, jax.Array], key: jax.Array) -> jax.Array:
            optimizer = baseline.make(hyperparameters, horizon)
            state, trace = tasks.inner_loop.unroll(
                task, optimizer, tasks.inner_loop.init(task, optimizer, key), key, horizon
            )
            loss = tasks.inner_loop.eval_loss(task, state.eval_params, baseline.tuned_by, whole=True)
            # A run with a loss that is not finite has diverged, as in `bench run`, wherever it gets to.
            return jnp.where(jnp.isfinite(trace.inner_loss).all(), loss, jnp.inf)

        self._run = jax.jit(jax.vmap(run, in_axes=(None, 0, None)) if self.width > 1 else run)

    def __call__(self, task: tasks.Task, key: jax.Array, points: Sequence[Mapping[str, float]]) -> list[float]:
        """Final losses of the points, in order; inf where the run diverged."""
        losses: list[float] = []
        for start in range(0, len(points), self.width):
            group = [dict(point) for point in points[start : start + self.width]]
            if self.width == 1:
                stacked = {name: jnp.float32(value) for name, value in group[0].items()}
            else:
                padded = group + [group[-1]] * (self.width - len(group))
                stacked = {name: jnp.asarray([p[name] for p in padded], jnp.float32) for name in group[0]}
            values = np.atleast_1d(jax.device_get(self._run(task, stacked, key)))[: len(group)]
            losses += [float(v) if math.isfinite(v) else math.inf for v in values]
        return losses


def run_name(task: str, seed: int, point: Mapping[str, float]) -> str:
    """The key of a run among the known losses of a search."""
    return json.dumps([task, seed, sorted(point.items())])


def read_known(path: Path, identity: Mapping[str, Any]) -> dict[str, float]:
    """Known losses from the file of an interrupted search; empty if there is none, or it belongs to another search."""
    try:
        stored = json.loads(path.read_text())
        if stored["identity"] != json.loads(json.dumps(identity)):
            return {}
        return {str(name): math.inf if loss is None else float(loss) for name, loss in stored["losses"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def dump_known(identity: Mapping[str, Any], losses: Mapping[str, float]) -> str:
    """JSON text for `read_known`. Losses keep all digits; the loss of a diverged run is null."""
    finite = {name: loss if math.isfinite(loss) else None for name, loss in losses.items()}
    return json.dumps({"identity": identity, "losses": finite}, allow_nan=False) + "\n"


def num_runs(space: Mapping[str, Any]) -> int:
    """Training runs of one round of a search in a space."""
    return num_trials_of(space) * NUM_TUNING_TASKS + NUM_FINALISTS * NUM_FURTHER_SEEDS * NUM_TUNING_TASKS


def tune(
    name: str,
    baseline: Baseline,
    family: str,
    horizon: int,
    load: Callable[[str], tasks.Task],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    known: dict[str, float] | None = None,
    on_run: Callable[[dict[str, float]], None] = lambda known: None,
) -> dict[str, Any]:
    """Tunes one optimizer for a (family, horizon).

    Args:
      name: name of the optimizer, for the record.
      baseline: its row.
      family: task family.
      horizon: inner steps.
      load: task name -> task.
      progress: called after every run with (runs done, runs of this round).
      known: losses by `run_name` from an interrupted search; these runs are not repeated.
      on_run: called with all known losses after every run, so that an interrupted search can be resumed.

    Returns:
      The tuning record, JSON-ready, with every trial of every round and the chosen "hyperparameters".

    Raises:
      NothingFinishes: no trial has a finite loss on all tasks with all seeds.
    """
    names = tuning_tasks(family)
    loaded = {task: load(task) for task in set(names)}
    runner = TrialRunner(baseline, horizon)
    losses = dict(known or {})
    first_runs, further_runs = loss_keys(baseline.tuned_by)
    space, earlier = dict(baseline.space), []
    total = num_runs(space)
    for round_number in range(MAX_ROUNDS):
        done = 0

        def advance(runs: int) -> None:
            nonlocal done
            for _ in range(runs):
                done += 1
                progress(done, total)

        def run(task: str, seed: int, points: Sequence[Mapping[str, float]]) -> list[float]:
            left = [point for point in points if run_name(task, seed, point) not in losses]
            advance(len(points) - len(left))
            for start in range(0, len(left), runner.width):
                group = left[start : start + runner.width]
                found = runner(loaded[task], run_key(task, seed), group)
                losses.update((run_name(task, seed, p), loss) for p, loss in zip(group, found, strict=True))
                on_run(losses)
                advance(len(group))
            return [losses[run_name(task, seed, point)] for point in points]

        points = halton(space)
        seeds = [FIRST_TUNING_SEED + k for k in range(NUM_TUNING_TASKS)]
        per_task = [run(task, seed, points) for task, seed in zip(names, seeds, strict=True)]
        trials: list[Trial] = [
            {"hyperparameters": point, first_runs: list(values)}
            for point, values in zip(points, zip(*per_task, strict=True), strict=True)
        ]
        if not any(math.isfinite(loss) for trial in trials for loss in trial[first_runs]):
            raise NothingFinishes(f"all {len(trials)} trials diverged")
        finalists = sorted(range(len(trials)), key=lambda i: float(np.mean(trials[i][first_runs])))[:NUM_FINALISTS]
        chosen = [points[i] for i in finalists]
        further = [FIRST_TUNING_SEED + NUM_TUNING_TASKS + k for k in range(NUM_FURTHER_SEEDS)]
        # A family with one task is used twice, with other seeds the second time.
        offset = NUM_FURTHER_SEEDS if len(set(names)) == 1 else 0
        reruns = [run(task, seed + visit * offset, chosen) for visit, task in enumerate(names) for seed in further]
        for position, i in enumerate(finalists):
            trials[i][further_runs] = [values[position] for values in reruns]
        best = min(
            finalists,
            key=lambda i: float(np.mean(trials[i][first_runs] + trials[i][further_runs])),
        )
        on_edge = edges(space, points, points[best])
        if not on_edge or round_number == MAX_ROUNDS - 1:
            break
        earlier.append({"space": space_json(space), "trials": trials, "best": best, "on_edge": on_edge})
        space = {n: rng.widened(on_edge[n]) if n in on_edge else rng for n, rng in space.items()}
    loss = float(np.mean(trials[best][first_runs] + trials[best][further_runs]))
    if not math.isfinite(loss):
        raise NothingFinishes(f"none of the best {NUM_FINALISTS} of {len(trials)} trials finishes with all seeds")
    return {
        "optimizer": name,
        "family": family,
        "horizon": horizon,
        "hyperparameters": points[best],
        f"{baseline.tuned_by}_loss": loss,
        "best_trial": best,
        "interior": not on_edge,
        "on_edge": on_edge,
        "tasks": names,
        "first_seed": FIRST_TUNING_SEED,
        "space": space_json(space),
        "trials": trials,
        "earlier_rounds": earlier,
        "device": default_device().device_kind,
        "versions": {"jax": jax.__version__},
        "commit": git_state()["commit"],
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def space_json(space: Mapping[str, LogUniform]) -> dict[str, list[float]]:
    """The ends of each range."""
    return {name: [rng.low, rng.high] for name, rng in space.items()}


def dump(record: dict[str, Any]) -> str:
    """The record as JSON text; infinite losses of diverged trials become null."""

    def clean(value):
        if isinstance(value, float):
            return significant(value, 7) if math.isfinite(value) else None
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, list | tuple) else value

    return json.dumps(clean(record), indent=1, allow_nan=False) + "\n"
