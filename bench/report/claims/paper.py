"""The claims of the paper, the questions that they answer, and what no number here can show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bench.report.claims import outer_training, racing, unrolls
from bench.report.claims.statements import Claim, Parts, Published

RULES = unrolls.RULES | racing.RULES | outer_training.RULES
# Name -> the claim that answers it, the question.
QUESTIONS = {
    "Q1": ("C3", "Does a learned optimizer train faster than tuned hand-designed ones, on the clock?"),
    "Q2": ("C4", "Does it end at a lower test loss, and is the objective of its outer-training why?"),
    "Q3": ("C5", "Does it carry over to data, sizes and nets that outer-training never saw?"),
    "Q4": ("C6", "Do the estimator of the outer-gradient and growing unrolls make the difference?"),
}
LIMITATIONS = (
    "Nothing here is at the scale of the paper, whose outer-training took many machines: nets have 5 thousand to 670 "
    "thousand parameters, that of the suite pathologies 118, and runs of outer-training take some hours of a core.",
    "The headline is one set of weights: intervals let seeds of training and images vary, and not the seed of its "
    "outer-training.",
    "Runs of the ablation take 40 to 1,600 outer steps, at one outer rate for each design, that of a recipe whose "
    "unrolls grow, and are evaluated on the same eight tasks: a pair that lags may be short of updates.",
    "Unrolls of the ablation are too short for backpropagation to fail often. What merging gains where it fails was "
    "measured as variance (C2), and hardly by outer-training: the weights stand beside C6.",
    "The out-of-distribution tasks are no untouched test: the headline's design was changed after a version of it had "
    "been evaluated on them.",
)


def claims(published: Published) -> list[Claim]:
    """C1 to C6, from what is published."""
    found = [
        ("C1", "Long unrolls make the outer-gradient explode, and truncating them makes it biased.",
         unrolls.exploding, {"pathologies": "gradient_norm", "gradient_norms": "gradient_norms"}),
        ("C2", "Merging backpropagation with ES by inverse variance is about as good as the better of the two at every "
         "length of unroll, and trains optimizers.", merged,
         {"pathologies": "variance", "ablation": "ablation_heat_map"}),
        ("C3", "The learned optimizer trains the tasks faster than tuned hand-designed ones, on the clock.",
         racing.faster, {"paper": "leaders_validation_loss_seconds"}),
        ("C4", "Outer-training on validation loss gives a lower test loss than tuned hand-designed optimizers do, and "
         "than outer-training on train loss.", test_loss, {"paper": "test_loss_by_task", "objectives": "objectives"}),
        ("C5", "It carries over to data, sizes and nets that outer-training never saw.",
         racing.elsewhere, {"ood": "speedup_by_task"}),
        ("C6", "Merging the two estimators, and growing unrolls, each lower the loss after outer-training.",
         outer_training.ablated, {"ablation": "ablation_heat_map"}),
    ]  # fmt: skip
    return [
        Claim(
            name,
            sentence,
            RULES[name],
            tuple(parts(published)),
            figures,
            published.label,
            tuple(suite for suite in figures if published.of(suite) is None),
        )
        for name, sentence, parts, figures in found
    ]


def merged(published: Published) -> Parts:
    """C2."""
    yield from unrolls.merging(published)
    yield from outer_training.training(published)


def test_loss(published: Published) -> Parts:
    """C4."""
    yield from racing.lower_test_loss(published)
    yield from outer_training.swapped_objective(published)


def questions(found: list[Claim]) -> Iterator[tuple[Claim, str]]:
    """The four questions that the benchmark asks, each with the name of the claim, C3 to C6, that answers it."""
    by_name = {claim.name: claim for claim in found}
    for name, (claim, question) in QUESTIONS.items():
        yield dataclasses.replace(by_name[claim], name=name, sentence=question), claim
