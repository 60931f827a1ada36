"""The numbers that README.md states, each from published results.

In README.md a number stands between markers, `<!--name-->1.39 [1.35, 1.41]<!--/-->`, which a reader does not see; its
prose is free. `python -m tests.readme_numbers` writes all of them anew.
"""

import csv
import functools
import json
import math
import re
from collections.abc import Callable
from typing import Any

import learned
from bench.report.designs import FULL_SIZE, step_cost
from bench.report.first_screen import score_entry
from bench.report.table import format_interval
from bench.score.times_to_target import ALL
from bench.statistics import Interval, three_digits
from learned import weights
from tests.helpers import REPOSITORY

README = REPOSITORY / "README.md"
MARKED = re.compile(r"<!--(\w+)-->(.*?)<!--/-->", flags=re.S)
PAPER_DESIGN = "lopt_paper_32x32"
QUARTERS = tuple(f"lopt_ortho_quarter_{k}" for k in (1, 2, 3))
CARD_COLUMNS = ("best", "scheduled", "constant", "test")  # of a card's table, as README's first one has them


@functools.cache
def read_json(suite: str) -> Any:
    """What the first screen of a published report shows, or the table of a measurement."""
    return json.loads((REPOSITORY / f"reports/{suite}/cpu-2core/report.json").read_text())


def overall(suite: str) -> dict[str, Any]:
    """Optimizer -> its row over all tasks."""
    return {row["optimizer"]: row for row in read_json(suite)["rows"] if row["task"] == ALL}


def table_rows(suite: str, table: str) -> dict[str, dict[str, str]]:
    """First column of a published table -> its row."""
    with open(REPOSITORY / f"reports/{suite}/cpu-2core/tables/{table}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {next(iter(row.values())): row for row in rows}


def interval(value: dict[str, Any]) -> str:
    """Of the first screen: "1.39 [1.35, 1.41]", with "<" before a bound."""
    found = Interval(value["estimate"], value["low"], value["high"], 0)
    return score_entry(found, bound="bound" in value).text


def estimate(value: dict[str, Any]) -> str:
    """Without its interval."""
    return three_digits(value["estimate"])


def card(name: str) -> str:
    """The card of shipped weights."""
    return (weights.WEIGHTS_DIR / f"{name}.md").read_text()


def card_fields(name: str, suite: str) -> list[str]:
    """The row of a published suite in the table of results of a card, field by field."""
    begin = f"| {suite}/".replace("_", "\\_")
    return next(line for line in card(name).splitlines() if line.startswith(begin)).strip("| ").split(" | ")


def design(name: str) -> dict[str, Any]:
    """The row of a design in the published measurement."""
    return next(row for row in read_json("designs") if row["design"] == name)


def step_cost_out_of_distribution() -> str:
    """The dearest step of the optimizer judged on test loss, over Adam's, from its card."""
    part = card(learned.HEADLINE_VALID).split("**ood/cpu-2core**", 1)[1]
    found = re.search(r"A training step takes \S+ to (\S+) times as long as Adam's", part)
    assert found
    return found[1]


def test_losses_out_of_distribution(kind: Callable[[str, dict[str, Any]], bool]) -> dict[str, float]:
    """Mean test losses of the rows of a kind."""
    return {name: row["test_loss"]["estimate"] for name, row in overall("ood").items() if kind(name, row)}


def numbers() -> dict[str, str]:
    """Name of every number of README.md -> how it reads."""
    paper, seeds, quarters = overall("paper"), overall("outer_seeds"), dict(enumerate(QUARTERS, 1))
    controls = read_json("paper")["controls"]
    fast, valid = paper[learned.HEADLINE], paper[learned.HEADLINE_VALID]
    best, by_train = paper["muonw_cosine"], paper["muon_cosine_by_train"]
    before = controls["untrained"][learned.HEADLINE]
    own = test_losses_out_of_distribution(lambda name, row: row["role"] == "hand-designed")
    found = {
        f"{column}_{name}": text
        for name in (learned.HEADLINE, learned.HEADLINE_VALID, PAPER_DESIGN)
        for column, text in zip(CARD_COLUMNS, card_fields(name, "paper")[3:7], strict=True)
    }
    found |= {
        "train_loss": f"{fast['train_loss']['estimate']:.2g}",
        "test_loss": estimate(fast["test_loss"]),
        "guess_loss": f"{math.log(10):.2f}",
        "over_by_train": interval(by_train["speedup"]["hard"]),
        "over_muon_cosine": interval(paper["muon_cosine"]["speedup"]["hard"]),
        "in_steps": interval(best["speedup_in_steps"]["hard"]),
        "in_steps_short": estimate(best["speedup_in_steps"]["hard"]),
        "on_the_clock_short": estimate(best["speedup"]["hard"]),
        "step_cost": interval(best["step_cost_ratio"]),
        "untrained_steps": interval(before),
        "untrained_speedup": f"{best['speedup_in_steps']['hard']['estimate'] / before['estimate']:.2g}",
        "valid_untrained_test": interval(controls["untrained_test_loss"][learned.HEADLINE_VALID]),
        "valid_untrained_steps": interval(controls["untrained"][learned.HEADLINE_VALID]),
        "valid_to_validation_loss": interval(valid["validation_speedup"]["hard"]),
        "seeds_same_runs": interval(seeds[learned.HEADLINE]["speedup"]["hard"]),
        **{f"seed_{k}_speedup": interval(seeds[name]["speedup"]["hard"]) for k, name in quarters.items()},
        **{f"seed_{k}_test_loss": f"{seeds[name]['test_loss']['estimate']:.2f}" for k, name in quarters.items()},
        "ood_untrained_steps": interval(read_json("ood")["controls"]["untrained"][learned.HEADLINE]),
        "ood_test_loss": three_digits(overall("ood")[learned.HEADLINE_VALID]["test_loss"]["estimate"]),
        "ood_family_test_loss": three_digits(
            min(test_losses_out_of_distribution(lambda name, row: name.endswith("_family_tuned")).values())
        ),
        "ood_tuned_name": min(own, key=lambda name: own[name]),
        "ood_tuned_test_loss": three_digits(min(own.values())),
        "ood_step_cost": step_cost_out_of_distribution(),
        "paper_10000_diverged": card_fields(PAPER_DESIGN, "paper_10000")[-1],
        "quick_word": read_json("quick")["verdict"]["word"].capitalize(),
        "paper_design_step_cost": format_interval(_step_cost_of_the_paper_design()),
    }
    budgets = table_rows("ood", "budgets")
    for key, name in (
        ("valid", learned.HEADLINE_VALID),
        ("family", "adam_cosine_family_tuned"),
        ("adam", "adam_cosine"),
    ):
        found[f"ood_equal_seconds_{key}"] = f"{float(budgets[name]['train_loss_seconds']):.3f}"
    for key, name in (("valid", learned.HEADLINE_VALID), ("best", "muonw_cosine")):
        for steps in (4000, 10000):
            found[f"test_loss_{steps}_{key}"] = f"{overall(f'paper_{steps}')[name]['test_loss']['estimate']:.3f}"
    for key, name in (("paper", "per_parameter_mlp_32"), ("lean", "lean_mlp_16"), ("ortho", "orthogonal")):
        found[f"design_cost_{key}"] = format_interval(step_cost(design(name), FULL_SIZE))
        for when in ("before", "after"):
            found[f"design_{when}_{key}"] = f"{design(name)[f'loss_{when}']:.4g}"
    return found


def _step_cost_of_the_paper_design() -> Interval:
    row = table_rows("paper", "overall_summary")[PAPER_DESIGN]
    low, high = (float(row[f"step_cost_ratio_{end}"]) for end in ("low", "high"))
    return Interval(float(row["step_cost_ratio"]), low, high, 0)


def written_anew(text: str) -> str:
    """README.md with every marked number as it follows from published results."""
    known = numbers()
    return MARKED.sub(lambda found: f"<!--{found[1]}-->{known[found[1]]}<!--/-->", text)


if __name__ == "__main__":
    README.write_text(written_anew(README.read_text()))
