"""C6 and the rest of C2 and C4: what outer-training with each estimator, unroll and objective gives."""

from __future__ import annotations

from bench.measure import ablation, objectives
from bench.measure.ablation import CALLED
from bench.report.ablation import against, beside_the_verdicts, not_run
from bench.report.claims.statements import SHOWN, Part, Parts, Published, beside, lower, not_measured
from bench.report.objectives import change_of_objectives
from bench.statistics import Interval

RULES = {
    "C4": "the interval of the difference lies below 0, that of the ratio below 1",
    "C6": "the interval of the ratio of final losses lies below 1 for every rival (rule 16). Statements are not "
    "corrected for their number",
}


def training(published: Published) -> Parts:
    """What outer-training with the merged estimator gives, of C2."""
    runs = published.table("ablation")
    gains = {} if runs is None else ablation.gains(runs)
    for design, gain in gains.items():
        nets = f"{gain.untrained_diverged} of {gain.nets} nets diverge before it, {gain.diverged} after"
        what = f"Outer-training of {CALLED[design]} with it, by growing unrolls, on train loss"
        if gain.difference is None or gain.difference.low is None:
            known = "" if gain.difference is None else f" ({gain.difference.exponential().text()} times in the rest)"
            yield Part(f"{what}: {nets}; too few losses are known for an interval{known}.", False)
        else:
            yield lower(
                f"{what} takes final validation loss to {_ratio(gain.difference)} times that before, over outer seeds "
                f"({nets}).",
                gain.difference,
            )
    if len(gains) < len(ablation.DESIGNS):
        yield not_measured("outer-training with the merged estimator, all seeds of both designs")


def swapped_objective(published: Published) -> Parts:
    """The objective alone swapped, of C4."""
    runs = published.table("objectives")
    differences = {} if runs is None else objectives.differences(runs)
    changes = {} if runs is None else objectives.changes(runs)
    for design, difference in differences.items():
        name = objectives.DESIGNS[design].called
        yield lower(
            f"Outer-trained on validation loss, {name} ends at {_ratio(difference)} times the test loss that it has "
            "after outer-training on train loss, over outer seeds.",
            difference,
        )
        yield beside(change_of_objectives(design, changes[design]))
    if unknown := [design.called for name, design in objectives.DESIGNS.items() if name not in differences]:
        yield not_measured(f"the same configuration with the objective alone swapped, for {' and '.join(unknown)}")


def ablated(published: Published) -> Parts:
    """C6."""
    runs = published.table("ablation")
    found = [] if runs is None else ablation.verdicts(runs)
    raised = {} if runs is None else ablation.raised(runs)
    for verdict in found:
        above, number = raised.get(verdict.design, (0, 0))
        all_above = (
            f" All {number} runs of this design end above where they began." if above and above == number else ""
        )
        yield Part(
            f"{_sentence(CALLED[verdict.design])}: {ablation.CLAIMS[verdict.claim]}: {against(verdict)}.{all_above}",
            verdict.status == SHOWN,
            verdict.status == "contradicted",
        )
    if runs is not None:
        yield from map(beside, beside_the_verdicts(runs))
        for design, pairs in ablation.missing(runs).items():
            yield beside(not_run(design, pairs))
    if len(found) < len(ablation.CLAIMS) * len(ablation.DESIGNS):
        yield not_measured("all pairs of estimator and unrolls, for both designs")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _ratio(difference: Interval) -> str:
    return difference.exponential().text(1.0)
