"""The card of weights as a page: design, outer-training and its cost. `bench cards` adds evaluation results."""

import json
from pathlib import Path
from typing import Any

import tasks
from learned.curriculum import Stage, num_steps_at
from learned.weights import Card

TITLES = {  # of rows of `learned.estimators.ESTIMATORS`
    "tbptt": "truncated backpropagation",
    "reparam": "backpropagation through perturbed unrolls",
    "es": "antithetic ES",
    "truncated_es": "truncated antithetic ES",
    "pes": "persistent ES",
    "nres": "noise-reuse ES",
}


def render(card: Card, results: str = "") -> str:
    """The card as Markdown; every number comes from the metadata of the weights.

    Args:
      card: from the metadata.
      results: a section on evaluation results, with its heading.
    """
    longest = max(map(longest_unroll, (card, *ancestors(card))))
    extrapolation = (
        f"Longest unroll seen in outer-training: {longest} inner steps. Beyond it behaviour is extrapolation."
    )
    lines = [f"# {card.name}", "", *_facts(card), "", extrapolation, ""]
    lines += [results, "## Outer-training", ""] if results else []
    lines += _run(card)
    for before in ancestors(card):
        lines += ["", f"## Begun from: {before.name}", "", *_facts(before), "", *_run(before)]
    return "\n".join([*lines, ""])


def ancestors(card: Card) -> list[Card]:
    """Cards of the weights that outer-training began from, the nearest first."""
    found = []
    while begun := card.facts.get("begun_from"):
        card = Card(**{key: value for key, value in begun.items() if key != "theta_sha256"})
        found.append(card)
    return found


def _facts(card: Card) -> list[str]:
    """The facts of one run of outer-training, as lines."""
    outer, facts = card.outer_training, card.facts
    begun = facts.get("begun_from")
    stages = ", then ".join(f"{run} outer steps of {_lengths(stage)}" for stage, run in stages_run(card))
    if outer["family"] in tasks.MIXTURES:
        stages += ", at most the horizon of the net"
    options = ", ".join(f"{key} {value:g}" for key, value in card.design_options.items()) or "defaults"
    num_tasks, num_steps = outer["validation_num_tasks"], outer["validation_num_steps"]
    judged = f" for each of {_nets(outer['validation_family'])}" if outer.get("validation_family") else ""
    num_steps = f"at most {num_steps}" if judged else num_steps
    rows = {
        "design": f"`{card.design}` ({options}), features `{card.features}`",
        "outer-trained on": f"{_nets(outer['family'])}, classes of its outer-training pool",
        "begun from": f"`{begun['name']}` ({begun['theta_sha256'][:16]}), below" if begun else None,
        "parts outer-trained": ", ".join(outer["parts"]) + "; the rest as before" if outer.get("parts") else None,
        "objective": _objective(outer),
        "estimator": _estimator(outer),
        "curriculum (inner steps)": stages,
        "outer optimizer": _outer_optimizer(outer),
        "chosen by": f"loss on {num_tasks} tasks of the outer-validation classes{judged}, {num_steps} inner steps: "
        f"{facts['outer_validation_loss']} at outer step {facts['outer_step']}",
        "cost up to there": f"{facts['inner_steps']:,} inner steps, "
        f"{facts['device_hours']} hours of one {facts['device']}",
        "cost of the whole run": _whole_cost(facts),
        "outer-validation": _validation_cost(card),
        "processor": facts.get("processor"),
        "data": facts.get("data"),
        "code": f"commit {facts.get('commit')}",
        "note": facts.get("note"),
    }
    lines = ["| | |", "|---|---|"]
    return lines + [f"| {name} | {value} |" for name, value in rows.items() if value is not None]


def _nets(family: str) -> str:
    """A family, or the families of a mixture with their batch sizes and horizons."""
    if family not in tasks.MIXTURES:
        return f"`{family}`"
    problems = [member.problem for member in tasks.members(family)]
    nets = ", ".join(f"`{p.family}` (batch {p.batch_size}, {p.horizon} steps)" for p in problems)
    return f"`{family}`: {nets}"


def _run(card: Card) -> list[str]:
    """Curve and configuration of one run of outer-training, as lines."""
    curve = card.facts.get("outer_validation_curve", [])
    lines = ["Outer-validation loss:", "", "| outer step | unroll | loss |", "|---:|---:|---:|"]
    lines += [f"| {step} | {num_steps} | {loss} |" for step, num_steps, loss in curve]
    made_by = [
        f"Made by `bench outer-train {card.name}`; the configuration:",
        "",
        "```json",
        json.dumps(card.outer_training, indent=1),
    ]
    return [*lines, "", *made_by, "```"]


def _whole_cost(facts: dict[str, Any]) -> str | None:
    if "total_inner_steps" not in facts:
        return None
    steps = f"{facts['total_inner_steps']:,} inner steps in {facts['total_outer_steps']} outer steps"
    return f"{steps}, {facts['total_device_hours']} hours"


def _validation_cost(card: Card) -> str | None:
    """The cost of all outer-validations: inner steps without a gradient of the outer-loss."""
    outer, curve = card.outer_training, card.facts.get("outer_validation_curve", [])
    steps = len(curve) * outer["validation_num_tasks"] * outer["validation_num_steps"]
    return f"{steps:,} further inner steps in {len(curve)} evaluations; the hours count them" if curve else None


def _lengths(stage: dict[str, Any]) -> str:
    """The unrolls of a stage, in words. Those of a mixture are at most as long as the horizon of the family drawn."""
    last, jitter = stage.get("last_num_steps"), stage.get("jitter")
    grown = f"{stage['num_steps']}" if last is None else f"{stage['num_steps']} to {last} ({stage['growth']})"
    return grown + (f" times U({1 - jitter:g}, {1 + jitter:g})" if jitter else "")


def _objective(outer: dict[str, Any]) -> str:
    weighted = ", each step in proportion to its number" if outer.get("late") else ""
    mean = f"mean {outer['objective']} loss over the unroll{weighted}"
    return f"logarithm of the {mean}" if outer.get("relative") else mean


def _estimator(outer: dict[str, Any]) -> str:
    names = [TITLES[name] for name in outer.get("estimator", ["es"])]
    window = f", windows of {outer['window']} inner steps" if outer.get("window") else ""
    merged = " merged with " if outer.get("shared_samples", True) else " merged, of other samples, with "
    return f"{merged.join(names)}{window}, {outer['num_tasks']} tasks an update, sigma {outer['sigma']:g}"


def _outer_optimizer(outer: dict[str, Any]) -> str:
    final = outer.get("final_learning_rate", 0.1)
    clips = {"norm of a sample's gradient": outer.get("clip_sample", 0.0)}
    left_out = outer.get("leave_out", 0.0)
    clips |= {"gradient elements": outer.get("clip_value", 0.0), "gradient norm": outer["clip_norm"]}
    parts = [f"Adam, rate {outer['learning_rate']:g}" + ("" if final == 1 else " with cosine decay")]
    parts += [f"samples longer than {left_out:g} times their median left out"] if left_out else []
    parts += [f"{name} at most {limit:g}" for name, limit in clips.items() if limit]
    parts += [f"theta averaged with decay {outer['ema']:g}"] if outer.get("ema") else []
    return ", ".join(parts)


def longest_unroll(card: Card) -> int:
    """The longest unroll of outer-training, in inner steps, with jitter; of a mixture, at most its longest horizon."""
    outer = card.outer_training
    stages = [Stage(**stage) for stage in outer["stages"]]
    if all(stage.last_num_steps is None and not stage.jitter for stage in stages):
        longest = max(stage["num_steps"] for stage, _ in stages_run(card))
    else:
        longest = max(num_steps_at(stages, step, outer["seed"]) for step in range(card.facts["outer_step"]))
    if outer["family"] in tasks.MIXTURES:
        longest = min(longest, max(member.problem.horizon for member in tasks.members(outer["family"])))
    return longest


def stages_run(card: Card) -> list[tuple[dict[str, Any], int]]:
    """The part of the curriculum before theta was taken: (stage, outer steps) for each stage."""
    seen, left = [], card.facts["outer_step"]
    for stage in card.outer_training["stages"]:
        if left > 0:
            seen.append((stage, min(left, stage["outer_steps"])))
        left -= stage["outer_steps"]
    return seen


def path_beside(weights_path: Path) -> Path:
    """Path of the card of a weights file."""
    return weights_path.with_suffix(".md")
