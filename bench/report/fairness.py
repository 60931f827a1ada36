"""The fairness card of a learned optimizer as tables (protocol rule 3): what it was trained on, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.report.table import NONE_TEXT, Column, Entry, Table, plural, text_entry, whole_entry
from bench.score.fairness import FairnessCard, Payback
from bench.statistics import three_digits
from bench.store.rows import CONTROL, LEARNED, Frame
from bench.store.rows import slugs as slugs_of


def card_tables(cards: Sequence[FairnessCard], costs: Frame | None) -> list[Table]:
    """A table of every card, one of what they knew of the tasks, one of memory, and what an update costs if measured.

    Args:
      cards: from `bench.score.fairness.cards`.
      costs: from `bench.measure.update_cost.update_costs`, or None.
    """
    slugs = slugs_of([card.optimizer for card in cards])
    found = [_outer_training(card, slugs[card.optimizer]) for card in cards]
    found += [_exposures(cards), _state(cards)] if cards else []
    if costs is not None:
        found.append(update_cost_table(costs))
    return [table for table in found if table is not None]


def _outer_training(card: FairnessCard, slug: str) -> Table | None:
    if card.by_others is not None:
        return _facts_table(card, slug, {"outer-trained by others": card.by_others, "cost": "not known"})
    known = card.outer_training
    if known is None:
        return None
    whole = ""
    if known.total_inner_steps is not None and known.total_device_hours is not None:
        whole = f"; the whole run {known.total_inner_steps:,} in {known.total_device_hours:.2f} hours"
    facts = {
        "task family": known.family,
        "classes": f"{len(known.classes)} of {known.data_set}",
        "images": f"{known.num_images:,} ({' and '.join(known.splits)} splits)",
        "objective": f"loss on the {known.objective} split",
        "longest unroll": f"{known.horizon:,} inner steps; beyond it, behaviour is extrapolation",
        "cost": f"{known.inner_steps:,} inner steps, {known.device_hours:.2f} hours of one {known.device}{whole}",
        "chosen on": f"{len(known.choosing_classes)} further classes" if known.choosing_classes else "nothing further",
    }
    if card.payback is not None:
        facts["repaid after"] = payback_text(card.payback)
    return _facts_table(card, slug, facts)


def _facts_table(card: FairnessCard, slug: str, facts: Mapping[str, str]) -> Table:
    return Table(
        slug=f"outer_training_{slug}",
        caption=f"{card.optimizer}: its outer-training was its tuning",
        columns=(Column("what", "what"), Column("value", "value")),
        rows=tuple((text_entry(what), text_entry(value)) for what, value in facts.items()),
    )


def payback_text(found: Payback) -> str:
    """How many runs it takes, in words."""
    without, with_tuning = (found.runs(counted) for counted in (False, True))
    rival = f"than with {found.reference}"
    if found.missed:
        on = f"{found.missed} of {plural(found.num_tasks, 'task')}"
        return f"no number of runs: on {on} half of its runs never reach the hard target"
    if math.isinf(without):
        return f"no number of runs: to the hard target a run takes {-found.saved_sec:.1f} s more {rival}"
    if found.before is not None and not (found.before.low is not None and found.before.low > 1):
        return (
            f"no number of runs that is known: before it the hard target takes {found.before.text(1.0)} times the "
            f"steps that it takes after; a run is {found.saved_sec:.1f} s shorter {rival}, by the design and "
            "outer-training together"
        )
    text = f"{math.ceil(without):,} runs to the hard target, each {found.saved_sec:.1f} s shorter {rival}"
    return f"{text}; {math.ceil(with_tuning):,} where their tuning, {found.tuning_sec / 3600:.2f} hours, is counted too"


def _exposures(cards: Sequence[FairnessCard]) -> Table:
    """A row for each task, and more where the tasks are not the same to all learned optimizers."""
    alike: dict[tuple[Entry, ...], list[str]] = {}
    for card in cards:
        trained_horizon = card.outer_training.horizon if card.outer_training else None
        for entry in card.exposures:
            beyond = entry.horizon / trained_horizon if trained_horizon else None
            shared = []
            for overlap in (entry.trained, entry.choosing):
                counts = (overlap.classes, overlap.images) if overlap else (None, None)
                shared += [whole_entry(count) for count in counts]
            row = (
                *(text_entry(entry.task), text_entry(entry.mark), whole_entry(entry.horizon)),
                Entry(NONE_TEXT if beyond is None else f"{beyond:.3g} times", beyond),
                *shared,
            )
            alike.setdefault(row, []).append(card.optimizer)
    order = list(dict.fromkeys(row[0].text for row in alike))
    rows = [
        (task, text_entry(", ".join(names)), *rest)
        for (task, *rest), names in sorted(alike.items(), key=lambda found: order.index(found[0][0].text))
    ]
    columns = (
        *(Column("task", "task"), Column("optimizers", "to"), Column("mark", "is")),
        Column("horizon", "horizon", number=True),
        Column("beyond", "of the longest unroll", number=True),
        Column("trained_classes", "classes shared with outer-training", number=True),
        Column("trained_images", "images", number=True),
        Column("choosing_classes", "classes shared with what chose it", number=True),
        Column("choosing_images", "images", number=True),
    )
    notes = (
        "Computed from sets of (data set, class, image). In-distribution: shares an image with outer-training; used "
        "for choosing: shares one with what chose the weights; held-out: the same data set and architecture, no image "
        "in common; out-of-distribution: another data set or architecture.",
    )
    return Table("exposure", "What learned optimizers knew of the tasks", columns, tuple(rows), notes)


def _state(cards: Sequence[FairnessCard]) -> Table | None:
    most: dict[str, float] = {}  # of any task: what is counted once a tensor differs
    for card in cards:
        for found in card.bytes_per_parameter.values():
            for name, value in found.items():
                most[name] = max(value, most.get(name, value))
    learned = {card.optimizer for card in cards}
    if not learned & set(most):
        return None
    rows = [
        (text_entry(name, bold=name in learned), _number_entry(value))
        for name, value in sorted(most.items(), key=lambda item: item[1])
    ]
    columns = (Column("optimizer", "optimizer"), Column("bytes", "bytes of state per parameter", number=True))
    return Table("state", "Memory: optimizer state, the most of any task", columns, tuple(rows))


def update_cost_table(costs: Frame) -> Table:
    """Seconds of one update over Adam's, for convolutional and fully connected parameters, 20 to 670 thousand."""
    costs = costs[costs["role"] != CONTROL]
    trees = costs[["kind", "num_params"]].drop_duplicates().itertuples(index=False, name=None)
    learned = set(costs.loc[costs["role"] == LEARNED, "optimizer"])  # first, then by what they cost
    mean_ratio = costs.groupby("optimizer")["ratio"].mean()
    names = sorted(set(costs["optimizer"]) - {"adam"}, key=lambda name: (name not in learned, mean_ratio[name]))
    rows = []
    for kind, size in trees:
        part = costs[(costs["kind"] == kind) & (costs["num_params"] == size)].set_index("optimizer")
        base = part["microseconds"].get("adam")
        row = [text_entry(kind.upper()), whole_entry(size), _number_entry(base)]
        for name in names:
            ratio = part["ratio"].get(name)
            row.append(_number_entry(ratio))
        rows.append(tuple(row))
    columns = (
        *(Column("kind", "network"), Column("num_params", "parameters", number=True)),
        Column("adam_microseconds", "Adam, µs", number=True),
        *(Column(name, name, number=True) for name in names),
    )
    notes = (
        "Median seconds of one update alone, gradients given, over Adam's, within interleaved blocks. What it adds to "
        "a training step depends on how often a weight is used for an example: little in a convolution, all of it in "
        "a wide fully connected layer.",
    )
    return Table("update_cost", "What an update costs, in Adam's", columns, tuple(rows), notes)


def _number_entry(value: float | None) -> Entry:
    return Entry(NONE_TEXT if value is None else three_digits(value), value)
