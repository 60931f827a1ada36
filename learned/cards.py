"""The card of shipped weights as a page: what, how, at what cost, and where to look for its results."""

import json
from pathlib import Path

from learned.weights import Card


def render(card: Card) -> str:
    """The card as Markdown; every number comes from the metadata of the weights."""
    outer, facts = card.outer_training, card.facts
    stages = ", then ".join(f"{stage['outer_steps']} outer steps of {stage['num_steps']}" for stage in outer["stages"])
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
        "data": facts.get("data"),
        "code": f"commit {facts.get('commit')}",
        "note": facts.get("note"),
    }
    lines = [f"# {card.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    lines += ["", "Outer-validation loss:", "", "| outer step | unroll | loss |", "|---:|---:|---:|"]
    lines += [f"| {step} | {num_steps} | {loss} |" for step, num_steps, loss in facts.get("outer_validation_curve", [])]
    lines += [
        "",
        f"Longest unroll seen in outer-training: {seen_horizon(card)} inner steps. Beyond it behaviour is",
        "extrapolation: the reports of suites with longer horizons (`quick`, `ood`, `paper`) show what that costs.",
        "",
        f"Made by `bench outer-train {card.name}`; the configuration:",
        "",
        "```json",
        json.dumps(outer, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def seen_horizon(card: Card) -> int:
    """The longest unroll up to the outer step at which theta was taken."""
    longest, left = 0, card.facts["outer_step"]
    for stage in card.outer_training["stages"]:
        if left > 0:
            longest = max(longest, stage["num_steps"])
        left -= stage["outer_steps"]
    return longest


def path_beside(weights_path: Path) -> Path:
    """Where the card of a weights file is written."""
    return weights_path.with_suffix(".md")
