"""The card of shipped weights as a page: what, how, at what cost, and where to look for its results."""

import json
from pathlib import Path
from typing import Any

from learned.weights import Card


def render(card: Card) -> str:
    """The card as Markdown; every number comes from the metadata of the weights."""
    outer, facts = card.outer_training, card.facts
    stages = ", then ".join(f"{run} outer steps of {num_steps}" for num_steps, run in stages_run(card))
    options = ", ".join(f"{key} {value:g}" for key, value in card.design_options.items()) or "defaults"
    num_tasks, num_steps = outer["validation_num_tasks"], outer["validation_num_steps"]
    rows = {
        "design": f"`{card.design}` ({options}), features `{card.features}`",
        "outer-trained on": f"`{outer['family']}`, classes of its outer-training pool",
        "objective": f"mean {outer['objective']} loss over the unroll",
        "estimator": f"antithetic ES, {outer['num_tasks']} tasks an update, sigma {outer['sigma']:g}",
        "curriculum (inner steps)": stages,
        "outer optimizer": f"Adam, rate {outer['learning_rate']:g} with cosine decay, "
        f"gradient norm at most {outer['clip_norm']:g}",
        "chosen by": f"loss on {num_tasks} tasks of the outer-validation classes, {num_steps} inner steps: "
        f"{facts['outer_validation_loss']} at outer step {facts['outer_step']}",
        "cost up to there": f"{facts['inner_steps']:,} inner steps, "
        f"{facts['device_hours']} hours of one {facts['device']}",
        "cost of the whole run": _whole_cost(facts),
        "data": facts.get("data"),
        "code": f"commit {facts.get('commit')}",
        "note": facts.get("note"),
    }
    lines = [f"# {card.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    longest = max(num_steps for num_steps, _ in stages_run(card))
    lines += ["", "Outer-validation loss:", "", "| outer step | unroll | loss |", "|---:|---:|---:|"]
    lines += [f"| {step} | {num_steps} | {loss} |" for step, num_steps, loss in facts.get("outer_validation_curve", [])]
    lines += [
        "",
        f"Longest unroll seen in outer-training: {longest} inner steps. Beyond it behaviour is extrapolation: the",
        "reports of suites with longer horizons (`quick`, `ood`, `paper`) show what that costs.",
        "",
        f"Made by `bench outer-train {card.name}`; the configuration:",
        "",
        "```json",
        json.dumps(outer, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _whole_cost(facts: dict[str, Any]) -> str | None:
    if "total_inner_steps" not in facts:
        return None
    steps = f"{facts['total_inner_steps']:,} inner steps in {facts['total_outer_steps']} outer steps"
    return f"{steps}, {facts['total_device_hours']} hours"


def stages_run(card: Card) -> list[tuple[int, int]]:
    """What theta saw of the curriculum: (inner steps, outer steps) of each stage up to where it was taken."""
    seen, left = [], card.facts["outer_step"]
    for stage in card.outer_training["stages"]:
        if left > 0:
            seen.append((stage["num_steps"], min(left, stage["outer_steps"])))
        left -= stage["outer_steps"]
    return seen


def path_beside(weights_path: Path) -> Path:
    """Where the card of a weights file is written."""
    return weights_path.with_suffix(".md")
