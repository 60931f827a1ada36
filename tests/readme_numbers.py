"""The numbers that README.md and pages of docs/ state, each from published results.

There a number stands between markers, `<!--name-->1.39 [1.35, 1.41]<!--/-->`, which a reader does not see; prose is
free. `python -m tests.readme_numbers` writes all of them anew.
"""

import csv
import functools
import json
import math
import re
from typing import Any

import pandas as pd

import learned
from bench.measure import ablation, gradient_norms, objectives
from bench.report.ablation import kept
from bench.report.claims.paper import claims as claims_of
from bench.report.claims.statements import Published
from bench.report.designs import FULL_SIZE, step_cost
from bench.report.first_screen import score_entry
from bench.report.not_shown import hand_designed_beside
from bench.report.table import format_interval
from bench.score.times_to_target import ALL
from bench.statistics import Interval, geometric_mean, three_digits
from bench.tuning.targets import GROUPS
from learned import weights
from tests.helpers import REPOSITORY

PAGES = tuple(
    REPOSITORY / name for name in ("README.md", "docs/results.md", "docs/claims.md", "docs/elsewhere.md")
)  # what states marked numbers
MARKED = re.compile(r"<!--(\w+)-->(.*?)<!--/-->", flags=re.S)
PAPER_DESIGN = "lopt_paper_32x32"
BEST_RIVAL = "muonw_average_cosine"  # on `paper`
LONGER_HORIZONS = (4000, 10000)
LONGER_RIVAL = "muonw_cosine"
CELO_BESIDE = ("celo", "sgd_momentum", "adam", "adam_cosine", "muon_cosine", learned.HEADLINE)
STUDIES = ("lopt_ortho", "lopt_ortho_valid", PAPER_DESIGN)
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


def against(suite: str, group: str, kind: str = "") -> str:
    """Speed-up of the headline to validation losses over a group's references, on tasks with one kind of net or all."""
    headline = read_json(suite)["headline"]
    found = headline["by_architecture"][kind] if kind else headline["validation"]
    return interval(next(row["speedup"] for row in found if row["group"] == group))


def numbers() -> dict[str, str]:
    """Name of every marked number -> how it reads."""
    paper, controls = overall("paper"), read_json("paper")["controls"]
    best, memorizes = paper[BEST_RIVAL], paper["lopt_ortho"]
    found = {
        f"{column}_{name}": text
        for name in (learned.HEADLINE, *STUDIES)
        for column, text in zip(CARD_COLUMNS, card_fields(name, "paper")[3:7], strict=True)
    }
    found |= {
        "train_loss": f"{memorizes['train_loss']['estimate']:.2g}",
        "test_loss": estimate(memorizes["test_loss"]),
        "guess_loss": f"{math.log(10):.2f}",
        "over_by_train": _over_tuned_by_train(),
        "in_steps": interval(best["speedup_in_steps"]["hard"]),
        "step_cost": interval(best["step_cost_ratio"]),
        "untrained_steps": interval(controls["untrained"][learned.HEADLINE]),
        "paper_misses": str(controls["untrained"][learned.HEADLINE]["misses"]),
        "paper_misses_untrained": str(controls["untrained"][learned.HEADLINE]["misses_untrained"]),
        "quick_untrained": interval(read_json("quick")["controls"]["untrained"][learned.HEADLINE]),
        "untrained_test": interval(controls["untrained_test_loss"][learned.HEADLINE]),
        "quick_scheduled": against("quick", "paper_scheduled"),
        "aa_paper": interval(controls["aa"]),
        "paper_word": read_json("paper")["verdict"]["word"].capitalize(),
        "quick_word": read_json("quick")["verdict"]["word"].capitalize(),
        "paper_design_step_cost": format_interval(_step_cost_of_the_paper_design()),
    }
    found |= {
        "own_test": estimate(paper[learned.HEADLINE]["test_loss"]),
        "best_test": estimate(best["test_loss"]),
        "muonw_cosine_test": estimate(paper["muonw_cosine"]["test_loss"]),
        "adam_cosine_test": estimate(paper["adam_cosine"]["test_loss"]),
        "over_muonw_cosine": interval(paper["muonw_cosine"]["speedup"]["hard"]),
    }
    not_run = hand_designed_beside(paper)
    found |= {"rows_not_run": str(len(not_run)), "rows_not_run_names": ", ".join(f"`{name}`" for name in not_run)}
    for group in GROUPS:
        found[f"over_itself_{group}"] = interval(controls["over_itself"][group])
    for suite in ("paper", "ood", "quick"):
        ratios = [race["predicted_over_raced"] for race in read_json(suite)["races"] if race["predicted_over_raced"]]
        found[f"races_{suite}"] = f"{three_digits(min(ratios))} to {three_digits(max(ratios))}"
    found |= (
        _out_of_distribution()
        | _longer_horizons()
        | _elsewhere()
        | _claims()
        | _ablation()
        | _feedback()
        | _norms()
        | _objectives()
    )
    budgets = table_rows("ood", "budgets")
    for key, name in (("learned", learned.HEADLINE), ("adam", "adam_cosine")):
        found[f"ood_equal_seconds_{key}"] = f"{float(budgets[name]['validation_loss_seconds']):.3f}"
    for key, name in (("paper", "per_parameter_mlp_32"), ("lean", "lean_mlp_16"), ("ortho", "orthogonal")):
        cost = step_cost(design(name), FULL_SIZE)
        assert cost
        found[f"design_cost_{key}"] = format_interval(cost)
        for when in ("before", "after"):
            found[f"design_{when}_{key}"] = f"{design(name)[f'loss_{when}']:.4g}"
    return found


def _out_of_distribution() -> dict[str, str]:
    screen = read_json("ood")
    test = screen["headline"]["test_loss"]
    return {
        "ood_word": screen["verdict"]["word"].capitalize(),
        "ood_all": against("ood", "paper_scheduled"),
        "ood_convolutional": against("ood", "paper_scheduled", "convolutional"),
        "ood_convolutional_all": against("ood", "all_hand_designed", "convolutional"),
        "ood_connected": against("ood", "paper_scheduled", "fully connected"),
        "ood_test": format_interval(Interval.read(test["difference"]), sign=True),
        "ood_dearest": _dearest_step_out_of_distribution("adam"),
        "ood_tasks_below": str(test["tasks_below"]),
        "ood_untrained": interval(screen["controls"]["untrained"][learned.HEADLINE]),
    }


def _dearest_step_out_of_distribution(optimizer: str) -> str:
    """The largest ratio of step costs in an optimizer's rows, one a task."""
    rows = [row for row in read_json("ood")["rows"] if row["optimizer"] == optimizer and row["task"] != ALL]
    return interval(max((row["step_cost_ratio"] for row in rows), key=lambda ratio: ratio["estimate"]))


def _longer_horizons() -> dict[str, str]:
    """Final test losses beyond the horizon of outer-training, of the headline and of the one rival that ran there."""
    found = {}
    for steps in LONGER_HORIZONS:
        suite = f"paper_{steps}"
        for name in (learned.HEADLINE, LONGER_RIVAL):
            found[f"test_loss_{steps}_{name}"] = f"{overall(suite)[name]['test_loss']['estimate']:.3f}"
        beside = read_json(suite)["headline"]["test_loss"]
        found[f"test_difference_{steps}"] = format_interval(Interval.read(beside["difference"]), sign=True)
        found[f"tasks_below_{steps}"] = str(beside["tasks_below"])
    return found


def _elsewhere() -> dict[str, str]:
    """Celo beside rows that were tuned and the headline, on the two suites that have it."""
    found = {}
    for suite in ("paper", "ood"):
        rows = overall(suite)
        celo = rows["celo"]
        for name in CELO_BESIDE:
            for loss in ("train_loss", "test_loss"):
                found[f"{suite}_{name}_{loss}"] = estimate(rows[name][loss])
        found[f"{suite}_celo_over_best"] = interval(celo["speedup"]["hard"])
        found[f"{suite}_celo_step_cost"] = interval(celo["step_cost_ratio"])
        found[f"{suite}_celo_failed"] = str(celo["failed_runs"])
    return found | {"ood_celo_dearest": _dearest_step_out_of_distribution("celo")}


def _claims() -> dict[str, str]:
    """The status of each of the paper's claims, how many have each, and how many of their statements hold."""
    claims = claims_of(Published(REPOSITORY / "reports", "cpu-2core"))
    statuses = [claim.status for claim in claims]
    words = {"claims_shown": "shown", "claims_part": "shown in part", "claims_not": "not shown"}
    of_each = {f"claim_{claim.name.lower()}": claim.status for claim in claims}
    marks = [part.mark for claim in claims for part in claim.counted]
    tally = {"statements": len(marks)} | {f"statements_{word}": marks.count(word) for word in ("holds", "contradicted")}
    numbers = tally | {name: statuses.count(word) for name, word in words.items()}
    return of_each | {name: str(number) for name, number in numbers.items()}


def _ablation() -> dict[str, str]:
    """Losses of the merged estimator with growing unrolls over those of its rivals, the verdicts, what they hide."""
    runs = pd.DataFrame(read_json("ablation"))
    ratios, found = {}, {}
    for verdict in ablation.verdicts(runs):
        ratios |= {f"ablation_{verdict.design}_{other}": gain for other, gain in verdict.differences.items()}
        found[f"ablation_{verdict.claim}_{verdict.design}"] = verdict.status
    by_train = ablation.verdicts(runs, "outer_validation_loss")
    found["ablation_train_kept"] = str(kept(by_train))
    for verdict in by_train:
        found[f"ablation_train_{verdict.claim}_{verdict.design}"] = verdict.status
    found["ablation_adjusted"] = three_digits(min(ablation.adjusted(ablation.verdicts(runs))))
    for design, means in ablation.means(runs).items():
        estimator, unrolls = min(means, key=lambda pair: means[pair])
        lowest, claimed = three_digits(means[estimator, unrolls]), three_digits(means[ablation.CLAIMED])
        found[f"ablation_lowest_{design}"] = f"{lowest} ({estimator}, {unrolls} unrolls)"
        found[f"ablation_claimed_{design}"] = claimed
    for design, gain in ablation.gains(runs).items():
        found[f"ablation_diverged_{design}"] = f"{gain.untrained_diverged} of {gain.nets}"
        if gain.difference is not None and gain.difference.low is not None:
            ratios[f"ablation_gain_{design}"] = gain.difference
    for (design, unrolls), found_weights in ablation.merge_weights(runs).items():
        found[f"ablation_weight_{design}_{unrolls}"] = f"{found_weights[0]:.3f}"
    return found | {name: difference.exponential().text(1.0) for name, difference in ratios.items()}


def _objectives() -> dict[str, str]:
    """Test losses before outer-training and after it on either objective, and the ratio of these two."""
    runs = pd.DataFrame(read_json("objectives"))
    found = {}
    for design, difference in objectives.differences(runs).items():
        rows = runs[runs["design"] == design]
        losses = {"before": rows[objectives.BEFORE]} | {
            str(objective): group["final_test_loss"] for objective, group in rows.groupby("objective")
        }
        found |= {
            f"objectives_{design}_{when}": three_digits(geometric_mean(values)) for when, values in losses.items()
        }
        found[f"objectives_{design}"] = difference.exponential().text(1.0)
        for objective, change in objectives.changes(runs)[design].items():
            found[f"objectives_{design}_{objective}_change"] = change.exponential().text(1.0)
    return found


def _norms() -> dict[str, str]:
    """How the median outer-gradient grows with the length of unrolls on the 16x16 CNN."""
    found = gradient_norms.growths(pd.DataFrame(read_json("gradient_norms")))
    largest = gradient_norms.largest(pd.DataFrame(read_json("gradient_norms")))
    return {f"norms_{optimizer}_{theta}": str(growth) for (optimizer, theta), growth in found.items()} | {
        f"largest_{optimizer}_{theta}": three_digits(norm) if math.isfinite(norm) else "beyond float32"
        for theta, norms in largest.items()
        for optimizer, norm in norms.items()
    }


def _feedback() -> dict[str, str]:
    """The change of the headline's final test loss by a schedule, or another run's feedback, in place of its own."""
    rows = [row | {"estimate": row["difference"]} for row in read_json("feedback") if row["score"] == "final_test_loss"]
    return {f"feedback_{row['way']}": format_interval(Interval.read(row), sign=True) for row in rows}


def _over_tuned_by_train() -> str:
    """Speed-up of lopt_ortho to the train loss of Muon tuned for it, from its card."""
    found = re.search(r"Over muon_cosine_by_train, .*: (.*)\.$", card("lopt_ortho"), flags=re.M)
    assert found
    return found[1]


def _step_cost_of_the_paper_design() -> Interval:
    row = table_rows("paper", "overall_summary")[PAPER_DESIGN]
    low, high = (float(row[f"step_cost_ratio_{end}"]) for end in ("low", "high"))
    return Interval(float(row["step_cost_ratio"]), low, high, 0)


def written_anew(text: str) -> str:
    """A page with every marked number as it follows from published results."""
    known = numbers()
    return MARKED.sub(lambda found: f"<!--{found[1]}-->{known[found[1]]}<!--/-->", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written_anew(page.read_text()))
