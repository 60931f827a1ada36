"""The ablation: what the estimator of the outer-gradient and the growing unrolls contribute.

Metz et al., arXiv 1810.10180, claim that merging backpropagation with ES, and unrolls that grow, are what makes
outer-training work. Here each estimator is paired with each curriculum, for the paper's design and for an orthogonal
one, from several outer seeds. All runs take the same number of inner steps, on train loss of one family, from untrained
weights, at one outer learning rate for each design. The best theta by outer-validation is then evaluated on evaluation
classes over more steps than any unroll had. A run that diverges is a result.

A part is DESIGN/ESTIMATOR/UNROLLS/SEED. Truncated estimators take windows of unrolls; all others whole ones.
"""

import bisect
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

import tasks
from bench.measure.designs import Variant
from bench.measure.pathologies.summary import wide
from bench.statistics import Interval, geometric_mean, holm, p_value, significant, t_interval
from bench.store.rows import Frame
from learned.base import LearnedOptimizer, Theta
from learned.config import OuterConfig
from learned.curriculum import Stage, num_steps_at, total_outer_steps
from learned.estimators import TRUNCATED
from learned.objective import LOSS_CLIP, clip_losses
from learned.outer import Callbacks, Engine, inner_steps_of, outer_train
from tasks import inner_loop

HORIZON = 500  # of outer-validation and evaluation: longer than any unroll
FAMILY = "imagenet16_cnn3"
BUDGET = 64_000  # inner steps of a run
NUM_TASKS = 8  # of the evaluation
POOL = "evaluation"  # of classes
WINDOW = 10  # inner steps of a truncated estimator
SEEDS = 5  # of what a verdict rests on: `MIN_SEEDS` of an interval
OTHER_SEEDS = 3  # of the other pairs, which the heat map shows
DESIGNS = {
    "per_parameter_mlp": Variant("per_parameter_mlp", {"step_scale": 1e-2}),
    "orthogonal": Variant("orthogonal", {"anneal": 1.0, "share": 0.0}),
}
CALLED = {"per_parameter_mlp": "the paper's design", "orthogonal": "the orthogonal design"}  # on pages
RATES = {"per_parameter_mlp": 3e-3, "orthogonal": 1.5e-3}  # of the first outer-training of each that ships
ESTIMATORS = {
    "tbptt": ("tbptt",),
    "reparam": ("reparam",),
    "es": ("es",),
    "pes": ("pes",),
    "merged": ("reparam", "es"),
    "merged_windows": ("merged_windows",),
}
NUM_VALIDATIONS = 8  # along a run
FOLLOWED = ("outer_loss", "sample_norm", "skipped", "merge_weight", "outer_validation_loss")  # of its metrics
COLUMNS = [
    *("design", "estimator", "unrolls", "seed", "outer_steps", "inner_steps", "seconds", "skipped", "merge_weight"),
    *("outer_validation_loss", "last_outer_validation_loss"),
    *("final_validation_loss", "diverged", "untrained", "untrained_diverged"),
]
MERGED_OF = ("reparam", "es")  # what the merged estimators are compared with


class Unrolls(NamedTuple):
    """Inner steps of unrolls at the first and the last outer step; None where they do not grow."""

    first: int
    last: int | None = None


UNROLLS = {"short": Unrolls(20), "long": Unrolls(200), "growing": Unrolls(20, 200)}
FIXED = ("short", "long")  # what growing unrolls are compared with
CLAIMED = ("merged", "growing")
RIVALS = {
    "estimator": tuple((name, "growing") for name in MERGED_OF),
    "unrolls": tuple(("merged", name) for name in FIXED),
}
JUDGED = {CLAIMED, *itertools.chain.from_iterable(RIVALS.values())}  # what verdicts rest on
# The claims, in the words of the verdict: (name, sentence).
CLAIMS = {
    "estimator": "merging lowers the loss below that of either estimator alone, with growing unrolls",
    "unrolls": "growing unrolls lower the loss below that of short and of long ones, with the merged estimator",
}


def config_of(design: str, estimator: str, unrolls: str, seed: int) -> OuterConfig:
    """The outer-training of a part: as many outer steps as the budget of inner steps allows."""
    names, (first, last) = ESTIMATORS[estimator], UNROLLS[unrolls]
    window = WINDOW if names[0] in TRUNCATED else None

    def lasting(outer_steps: int) -> OuterConfig:
        return OuterConfig(
            name=f"ablation/{design}/{estimator}/{unrolls}",
            design=DESIGNS[design].design,
            design_options=tuple(sorted(DESIGNS[design].options.items())),
            family=FAMILY,
            estimator=names,
            window=window,
            num_tasks=4,
            learning_rate=RATES[design],
            clip_sample=2.0,
            ema=0.9,
            validation_num_steps=HORIZON,
            validation_num_tasks=4,
            validation_every=max(outer_steps // NUM_VALIDATIONS, 1),
            seed=seed,
            stages=(Stage(first, outer_steps, last, "geometric"),),
            drawn_as=f"ablation/{design}",  # seeds have the same beginnings and tasks with every estimator
        )

    def fits(outer_steps: int) -> bool:
        config = lasting(outer_steps)
        lengths = (window or num_steps_at(config.stages, step) for step in range(outer_steps))
        return sum(inner_steps_of(config, length) for length in lengths) <= BUDGET

    most = BUDGET // inner_steps_of(lasting(1), window or first)
    return lasting(bisect.bisect_left(range(1, most + 1), True, key=lambda steps: not fits(steps)) or 1)


def parts() -> dict[str, dict[str, Any]]:
    """The definition of each part: the outer-training, and what is evaluated."""
    return {
        f"{design}/{estimator}/{unrolls}/{seed}": {
            "outer": config_of(design, estimator, unrolls, seed).as_dict(),
            "evaluated": {"tasks": NUM_TASKS, "steps": HORIZON, "pool": POOL},
        }
        for design, estimator, unrolls in itertools.product(DESIGNS, ESTIMATORS, UNROLLS)
        for seed in range(SEEDS if (estimator, unrolls) in JUDGED else OTHER_SEEDS)
    }


def measure(
    part: str, entrants: Sequence[Any], replications: int, tick: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Outer-trains and evaluates one part.

    Args:
      part: a name in `parts`.
      entrants: ignored; the part defines the learned optimizer.
      replications: 1; outer seeds are parts.
      tick: called at the end.

    Returns:
      Rows (step, metric, value). At the number of outer steps done: "outer_loss", "sample_norm" (the median norm of
      the gradients of samples, before they are clipped), "inner_steps" and "seconds" of processor time so far,
      "skipped", "merge_weight" of merged estimators, "outer_validation_loss". At the number of the evaluation task:
      "final_validation_loss" of the best theta, and "final_validation_loss_untrained".
    """
    del entrants, replications
    design, estimator, unrolls, seed = part.split("/")
    run = outer_trained(config_of(design, estimator, unrolls, int(seed)))
    for name, theta in (("final_validation_loss", run.theta), ("final_validation_loss_untrained", run.untrained)):
        found = final_losses(run.design, theta, run.family, HORIZON, NUM_TASKS, ("validation",), POOL)
        run.rows.extend((task, name, loss) for task, loss in enumerate(found["validation"]))
    tick()
    return pd.DataFrame(run.rows, columns=["step", "metric", "value"])


class OuterTrained(NamedTuple):
    """A run of outer-training: its rows, as `measure` returns them, the best theta, and that before outer-training."""

    rows: list[tuple[int, str, float]]
    theta: Theta
    untrained: Theta
    design: LearnedOptimizer
    family: tasks.TaskFamily


def outer_trained(config: OuterConfig) -> OuterTrained:
    """Outer-trains by a configuration; nothing is written.

    Its seconds are processor time, since such runs take hours beside others. Compilation is not in them: it is done
    before the clock begins.
    """
    family = tasks.load_family(config.family)
    engine = Engine(config, family)
    state = engine.init()
    untrained = jax.device_get(state.average)
    for member, num_steps, horizon in {engine.unroll_at(step) for step in range(total_outer_steps(config.stages))}:
        engine.step.lower(state, engine.arrays, 0, num_steps=num_steps, horizon=horizon, member=member).compile()
    engine.validate(state.average, engine.arrays)
    rows: list[tuple[int, str, float]] = []
    begin = time.process_time()

    def on_step(progress: Any) -> None:
        kept = {name: value for name, value in progress.metrics.items() if name in FOLLOWED}
        kept |= {"inner_steps": progress.inner_steps, "seconds": time.process_time() - begin}
        rows.extend((progress.outer_step, name, float(value)) for name, value in kept.items())

    theta, _, _ = outer_train(engine, callbacks=Callbacks(on_step=on_step))
    return OuterTrained(rows, theta, untrained, engine.design, family)


def final_losses(
    design: LearnedOptimizer,
    theta: Theta,
    family: tasks.TaskFamily,
    horizon: int,
    num_tasks: int,
    splits: Sequence[tasks.Split],
    pool: str,
) -> dict[tasks.Split, list[float]]:
    """Final losses on `num_tasks` tasks of a pool, of each whole split; at most `LOSS_CLIP`, as of a diverged run."""

    @jax.jit
    def trained(theta: Any, arrays: Any, key: Any) -> Any:
        task_key, run_key = jax.random.split(key)
        task = tasks.Task(family.problem, arrays, family.sample(task_key, pool))
        optimizer = design.optimizer(theta, horizon)
        state, _ = inner_loop.unroll(task, optimizer, inner_loop.init(task, optimizer, run_key), run_key, horizon)
        return [clip_losses(inner_loop.eval_loss(task, state.eval_params, split, whole=True)) for split in splits]

    keys = jax.random.split(tasks.named_key("ablation", FAMILY), num_tasks)
    losses = zip(*(trained(theta, family.arrays, key) for key in keys), strict=True)
    return {split: [float(loss) for loss in found] for split, found in zip(splits, losses, strict=True)}


def table(cells: Frame, curves: Frame) -> pd.DataFrame:
    """The table of figures of this measurement.

    Returns:
      A row for each finished part: `design`, `estimator`, `unrolls`, `seed`, `outer_steps`, `inner_steps`, `seconds`,
      `skipped` updates, `merge_weight` (mean over outer steps of the weight of backpropagation, NaN where nothing is
      merged), `outer_validation_loss` (the best) and `last_outer_validation_loss`, `final_validation_loss` (geometric
      mean over the evaluation tasks), the number of them that `diverged`, and both of untrained weights, `untrained`
      and `untrained_diverged`.
    """
    found = []
    for _, cell in cells[cells["status"] == "ok"].iterrows():
        design, estimator, unrolls, seed = str(cell["task"]).split("/")[1:]
        curve = curves[curves["cell"] == cell["cell"]]
        values = wide(curve)
        found.append(
            {
                "design": design,
                "estimator": estimator,
                "unrolls": unrolls,
                "seed": int(seed),
                "outer_steps": len(values["outer_loss"]),
                "inner_steps": int(values["inner_steps"][-1]),
                "seconds": float(values["seconds"][-1]),
                "skipped": int(values["skipped"].sum()),
                "merge_weight": float(np.mean(values.get("merge_weight", [math.nan]))),
                "outer_validation_loss": float(values["outer_validation_loss"].min()),
                "last_outer_validation_loss": float(values["outer_validation_loss"][-1]),
                "final_validation_loss": geometric_mean(values["final_validation_loss"]),
                "diverged": int((values["final_validation_loss"] >= LOSS_CLIP).sum()),
                "untrained": geometric_mean(values["final_validation_loss_untrained"]),
                "untrained_diverged": int((values["final_validation_loss_untrained"] >= LOSS_CLIP).sum()),
            }
        )
    rows = pd.DataFrame(found, columns=COLUMNS)
    order = {name: place for place, name in enumerate((*DESIGNS, *ESTIMATORS, *UNROLLS))}
    return rows.sort_values(["design", "estimator", "unrolls", "seed"], key=lambda c: c.map(lambda v: order.get(v, v)))


class Verdict(NamedTuple):
    """What the ablation says of a claim, for one design.

    Attributes:
      claim: a name in `CLAIMS`.
      design: a name in `DESIGNS`.
      differences: what the claimed one is compared with -> mean over outer seeds, and its interval, of the logarithm of
        its final validation loss less that of the other. Below zero it is better.
      status: "shown" where every interval lies below zero, "contradicted" where one lies above, else "not shown".
    """

    claim: str
    design: str
    differences: dict[str, Interval]
    status: str


def verdicts(table: Frame, loss: str = "final_validation_loss") -> list[Verdict]:
    """The verdicts on both claims by the rule of the protocol, of the designs whose parts are all there.

    Losses count with the digits that reports have, so that a report gives the same verdict as the rows.

    Args:
      table: from `table`.
      loss: the column that is compared; the rule's own without it.
    """
    losses = {
        (row["design"], row["estimator"], row["unrolls"], row["seed"]): math.log(significant(row[loss]))
        for _, row in table.iterrows()
    }
    found = []
    for claim, design in itertools.product(CLAIMS, DESIGNS):
        needed = [(design, *pair, seed) for pair in (CLAIMED, *RIVALS[claim]) for seed in range(SEEDS)]
        if any(key not in losses for key in needed):
            continue
        differences = {}
        for other in RIVALS[claim]:
            pairs = [losses[design, *CLAIMED, seed] - losses[design, *other, seed] for seed in range(SEEDS)]
            differences[other[0] if claim == "estimator" else other[1]] = t_interval(pairs)
        found.append(Verdict(claim, design, differences, _status(differences)))
    return found


class Gain(NamedTuple):
    """What outer-training with the claimed pair changes, of one design.

    Attributes:
      difference: mean over outer seeds of the logarithm of the final validation loss less that of untrained weights,
        and its interval; of the seeds with no net that diverges before or after, whose losses are known; None where
        there is none.
      untrained_diverged: nets that diverge before outer-training, over all seeds.
      diverged: those after.
      nets: how many there are.
    """

    difference: Interval | None
    untrained_diverged: int
    diverged: int
    nets: int


def gains(table: Frame) -> dict[str, Gain]:
    """What outer-training with the claimed pair changes, by design.

    Designs with a seed that is missing are left out.
    """
    estimator, unrolls = CLAIMED
    rows = table[(table["estimator"] == estimator) & (table["unrolls"] == unrolls)]
    found = {}
    for design in DESIGNS:
        of_design = rows[rows["design"] == design]
        if len(of_design) == SEEDS:
            known = of_design[(of_design["diverged"] == 0) & (of_design["untrained_diverged"] == 0)]
            logs = np.log(known[["final_validation_loss", "untrained"]].to_numpy(np.float64))
            difference = t_interval(logs[:, 0] - logs[:, 1]) if len(logs) else None
            before, after = (int(of_design[name].sum()) for name in ("untrained_diverged", "diverged"))
            found[design] = Gain(difference, before, after, SEEDS * NUM_TASKS)
    return found


def adjusted(found: Sequence[Verdict]) -> list[float]:
    """Holm's adjusted p-value of each claim that is shown, over all that are judged, in their order.

    That of a claim is the largest of its differences (an intersection-union test: Berger, Technometrics 24, 1982); it
    is 1 where one is not below zero, or has no interval.
    """

    def p_of(difference: Interval) -> float:
        p = p_value(difference) if difference.estimate < 0 else 1.0
        return 1.0 if p is None else p

    values = {str(i): max(map(p_of, verdict.differences.values())) for i, verdict in enumerate(found)}
    by_claim = holm(values)
    return [by_claim[str(i)] or 0.0 for i, verdict in enumerate(found) if verdict.status == "shown"]


def means(table: Frame) -> dict[str, dict[tuple[str, str], float]]:
    """Design -> (estimator, unrolls) -> geometric mean of the final validation loss, over the seeds that all have."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for (design, *pair), rows in table[table["seed"] < OTHER_SEEDS].groupby(COLUMNS[:3], sort=False):
        if len(rows) == OTHER_SEEDS:
            found.setdefault(design, {})[pair[0], pair[1]] = geometric_mean(rows["final_validation_loss"])
    return found


def missing(table: Frame) -> dict[str, list[str]]:
    """Design -> pairs "ESTIMATOR, UNROLLS unrolls" of which not all parts are in a table."""
    has = set(zip(*(table[name] for name in ("design", "estimator", "unrolls", "seed")), strict=True))
    lacking: dict[str, list[str]] = {}
    for part in parts():
        design, estimator, unrolls, seed = part.split("/")
        pair = f"{estimator}, {unrolls} unrolls"
        if (design, estimator, unrolls, int(seed)) not in has and pair not in lacking.setdefault(design, []):
            lacking[design].append(pair)
    return {design: pairs for design, pairs in lacking.items() if pairs}


def raised(table: Frame) -> dict[str, tuple[int, int]]:
    """Design -> how many runs end at a higher final validation loss than untrained weights, and of how many.

    Runs that begin with every net diverged, which can only end lower, are left out.
    """
    table = table[table["untrained_diverged"] < NUM_TASKS]
    above = (table["final_validation_loss"] > table["untrained"]).groupby(table["design"])
    return {
        design: (int(above.sum()[design]), int(above.size()[design])) for design in DESIGNS if design in above.groups
    }


def merge_weights(table: Frame) -> dict[tuple[str, str], list[float]]:
    """(design, unrolls) -> mean weight of backpropagation in the merged gradient of each run, the lowest first."""
    rows = table[(table["estimator"] == CLAIMED[0]) & table["merge_weight"].notna()]
    groups = rows.groupby(["design", "unrolls"], sort=False)
    return {(str(design), str(unrolls)): sorted(found["merge_weight"]) for (design, unrolls), found in groups}


def _status(differences: dict[str, Interval]) -> str:
    if all(d.high is not None and d.high < 0 for d in differences.values()):
        return "shown"
    return "contradicted" if any(d.low is not None and d.low > 0 for d in differences.values()) else "not shown"
