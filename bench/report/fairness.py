"""The fairness card of a learned optimizer as tables (protocol rule 3): what it was trained on, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.report.table import NONE_TEXT, Column, Entry, Table, format_number, plural, text_entry, whole_entry
from bench.score.fairness import FairnessCard, Payback
from bench.store.rows import CONTROL, LEARNED, Frame
from bench.store.rows import slugs as slugs_of


def card_tables(cards: Sequence[FairnessCard], costs: Frame | None) -> list[Table]:
    """Tables of every card, and what an update costs if it was measured.

    Args:
      cards: from `bench.score.fairness.cards`.
      costs: from `bench.measure.update_cost.update_costs`, or None.
    """
    slugs = slugs_of([card.optimizer for card in cards])
    parts = (_outer_training, _exposures, _state)
    found = [part(card, slugs[card.optimizer]) for card in cards for part in parts]
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
    text = f"{math.ceil(without):,} runs to the hard target, each {found.saved_sec:.1f} s shorter {rival}"
    return f"{text}; {math.ceil(with_tuning):,} where their tuning, {found.tuning_sec / 3600:.2f} hours, is counted too"


def _exposures(card: FairnessCard, slug: str) -> Table:
    trained_horizon = card.outer_training.horizon if card.outer_training else None
    rows = []
    for entry in card.exposures:
        beyond = entry.horizon / trained_horizon if trained_horizon else math.nan
        shared = []
        for overlap in (entry.trained, entry.choosing):
            shared += [whole_entry(overlap.classes), whole_entry(overlap.images)] if overlap else [Entry(NONE_TEXT)] * 2
        row = (
            *(text_entry(entry.task), text_entry(entry.mark), whole_entry(entry.horizon)),
            Entry(NONE_TEXT if math.isnan(beyond) else f"{beyond:.3g} times", None if math.isnan(beyond) else beyond),
            *shared,
        )
        rows.append(row)
    columns = (
        *(Column("task", "task"), Column("mark", "to this optimizer"), Column("horizon", "horizon", number=True)),
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
    caption = f"{card.optimizer}: what it knew of the tasks"
    return Table(f"exposure_{slug}", caption, columns, tuple(rows), notes)


def _state(card: FairnessCard, slug: str) -> Table | None:
    by_task = {task: found for task, found in card.bytes_per_parameter.items() if card.optimizer in found}
    if not by_task:
        return None
    names = list(dict.fromkeys(name for found in by_task.values() for name in found))
    rows = []
    for name in names:
        most = max(found[name] for found in by_task.values() if name in found)  # what is counted once a tensor differs
        rows.append((most, (text_entry(name, bold=name == card.optimizer), Entry(format_number(most, 3), most))))
    columns = (Column("optimizer", "optimizer"), Column("bytes", "bytes of state per parameter", number=True))
    table = tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))
    return Table(f"state_{slug}", "Memory: optimizer state, the most of any task", columns, table)


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
        row = [text_entry(kind.upper()), whole_entry(size), Entry(format_number(base, 3), base)]
        for name in names:
            ratio = part["ratio"].get(name)
            row.append(Entry(format_number(ratio, 3), ratio))
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
