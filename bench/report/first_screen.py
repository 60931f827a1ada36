"""The first screen as tables: what `bench.score.first_screen` says and nothing else; `controls` has its controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.report.summary import sorted_optimizers
from bench.report.table import NONE_TEXT, Column, Entry, Table, plural, text_entry
from bench.score.first_screen import Screen
from bench.score.groups import significance_groups
from bench.score.speedup import Speedup, speedup_in_words
from bench.score.times_to_target import (
    ALL,
    TargetsByTask,
    reference_text,
    references,
    step_cost_ratio,
    tuned_by_train,
)
from bench.score.verdict import GROUP_NAMES, Row, beyond_floor
from bench.statistics import Interval, estimate_text, three_digits
from bench.store.provenance import machine_of
from bench.store.rows import HAND_DESIGNED, LEARNED, Rows
from bench.tuning.targets import GROUPS

FIRST = "score"  # slug of the first of the tables of scores
ALL_HAND_DESIGNED = "all_hand_designed"  # the group of all of them
FEW = 8  # optimizers that one look takes in: all are leaders then
BEST = 2  # hand-designed rows that are leaders for their test loss alone
TARGETS = ("hard", "medium", "easy")
SPEEDUP_COLUMNS = tuple(Column(f"{target}_speedup", f"speed-up, {target}", True, True) for target in TARGETS)
MEASURES: dict[str, tuple[str, Callable[[Row], Interval | None]]] = {  # key -> header, what a row has of it
    "step_cost_ratio": ("step cost, learned / row", lambda row: row.step_cost),
    "train_loss": ("train loss", lambda row: row.losses["train_loss"]),
    "validation_loss": ("validation loss", lambda row: row.losses["validation_loss"]),
    "test_loss": ("test loss", lambda row: row.losses["test_loss"]),
    "success_rate": ("success rate", lambda row: row.success),
}


def leaders(rows: Rows, targets: TargetsByTask) -> list[str]:
    """The learned, the best hand-designed, and whom claims are about, best final test loss first; all where few.

    Claims are about the most frequent reference of every group, and about rows tuned by train loss.
    """
    order = [name for name in sorted_optimizers(rows, rows.tasks) if name in rows.trained]
    if len(order) <= FEW:
        return order
    named = {Counter(found.values()).most_common(1)[0][0] for g in GROUPS if (found := references(rows, targets, g))}
    claimed = {*named, *tuned_by_train(rows), *[name for name in order if rows.role(name) == HAND_DESIGNED][:BEST]}
    return [name for name in order if name in claimed or rows.role(name) == LEARNED]


def lead_sentence(screen: Screen) -> str:
    """The verdict in one sentence: the reference with the smallest speed-up, which decides it, and the test loss."""
    scores = screen.scores
    known = {group: found for group in GROUP_NAMES if (found := scores.against.get(group, {}).get("hard")) is not None}
    if not known or scores.optimizer is None:
        return scores.verdict
    group = min(known, key=lambda group: known[group].estimate)
    found, who = known[group], reference_text(scores.group_references[group])
    over = GROUP_NAMES[group] + (" optimizer" if group == ALL_HAND_DESIGNED else "")
    text = f"{scores.word.capitalize()}: {scores.optimizer} "
    if found.bound:
        text += (
            f"is {speedup_in_words(found)} times as fast as {over} ({who}) to the validation loss that this ends at, "
            "since on some task half of the runs never arrive"
        )
    else:
        text += f"comes to the final validation loss of {over} ({who}) at {score_entry(found).text} times its speed"
    test = screen.headline.test_loss if screen.headline and screen.headline.optimizer == scores.optimizer else None
    if test is None:
        return text + "."
    difference = test.difference
    way = (
        "not shown to differ from"
        if not difference.excludes(0)
        else "lower than"
        if difference.estimate < 0
        else "above"
    )
    if difference.low is None:
        way = "not judged against"
    return f"{text}; its final test loss is {way} that of {test.reference} (difference {score_entry(difference).text})."


def leaders_table(screen: Screen, rows: Rows, names: Sequence[str], scope: str) -> Table:
    """Of the leaders what one asks first, in six columns; who cannot be told apart by test loss is in one group.

    Args:
      screen: from `bench.score.first_screen`.
      rows: of the suite, controls left out.
      names: from `leaders`.
      scope: a task, or `bench.score.times_to_target.ALL`.
    """
    found = {row.optimizer: row for row in screen.scores.rows if row.task == scope}
    order = [name for name in sorted_optimizers(rows, rows.tasks) if name in rows.trained]
    groups = significance_groups(rows, order)
    contender, tasks = screen.scores.optimizer, rows.tasks if scope == ALL else (scope,)
    table = []
    for name in [name for name in names if name in found]:
        row = found[name]
        own = Entry(NONE_TEXT), Entry(NONE_TEXT)  # of the contender over itself there is neither
        if name != contender:
            cost = step_cost_ratio(rows, tasks, contender, name) if contender else None
            own = _arrival_entry(screen, name, scope), score_entry(cost)
        losses = [score_entry(row.losses[key]) for key in ("validation_loss", "test_loss")]
        group = Entry(NONE_TEXT) if name not in groups else Entry(str(groups[name]), groups[name])
        table.append((text_entry(name, bold=row.role == LEARNED), *own, *losses, group))
    columns = (
        Column("optimizer", "optimizer"),
        Column("hard_speedup", "speed-up", True, True),
        Column("step_cost_ratio", f"step cost, {contender or 'learned'} / row", True, True),
        Column("validation_loss", "validation loss", True, True),
        Column("test_loss", "test loss", True, True),
        Column("test_loss_group", "group by test loss", number=True),
    )
    others = [name for name in found if found[name].role == LEARNED and name != contender]
    more = len(order) - len(table)
    notes = (
        f"Speed-up in wall-clock of {contender or 'the learned optimizer'} over the row, to the row's own final "
        "validation loss"
        + ("; in the row of another learned optimizer, its own over the best hand-designed" if others else "")
        + ". Never reached: at least half of the runs do not arrive; the speed-up is at most what stands below. A "
        "claim is over the row of a group that is best on each task, so it can be smaller. Losses are means of final "
        "ones; those beside the chart are medians. A group by test loss holds the rows that cannot be told from its "
        "first, the lowest, by the 95 % interval of the difference over seeds and test images, which is not corrected "
        "for the number of pairs; rows of different groups need not differ either, if neither is the first of its "
        f"group; numbers count all {len(order)} rows.",
        *_on_other_machines(rows, contender, [row[0].text for row in table]),
        *(
            [
                f"Selected rows: the learned, the {BEST} hand-designed of lowest test loss, and whom claims are about. "
                f"{plural(more, 'row')} more, and all other measures, are under Verdict."
            ]
            if more
            else []
        ),
    )
    return Table("leaders", "The leaders", columns, tuple(table), notes)


def _on_other_machines(rows: Rows, contender: str | None, names: Sequence[str]) -> list[str]:
    """A note on who was trained on other kinds of processors than the contender; none where nobody was."""

    def kinds(name: str) -> set[str]:
        return {machine_of(record) for record in rows.runs(name, rows.tasks)["provenance"]}

    known = kinds(contender) if contender else set()
    others = [name for name in names if known and kinds(name) != known]
    return [f"Not trained on the same kinds of processors as {contender}: {', '.join(others)}."] if others else []


def _arrival_entry(screen: Screen, name: str, scope: str) -> Entry:
    """The speed-up to the hard target of a row; of a bound, how often it is one."""
    by_task = {row.task: row.speedups["hard"] for row in screen.scores.rows if row.optimizer == name}
    found = by_task.pop(scope)
    if found is None or not found.bound:
        return _speedup_entry(screen, found, scope)
    missed = [task for task, each in by_task.items() if task != ALL and each is not None and each.bound]
    some = scope == ALL and len(missed) < len(by_task)
    where = f"never reached on {len(missed)} of {len(by_task)} tasks" if some else "never reached"
    return Entry(f"{where} [at most {three_digits(found.estimate)}]", score_entry(found).value)


def score_table(screen: Screen, scope: str, slug: str) -> Table:
    """Speed-up to each target, step cost, final losses and success of every optimizer, as `report.json` has them.

    Args:
      screen: from `bench.score.first_screen`.
      scope: a task, or `bench.score.times_to_target.ALL`.
      slug: of the table.
    """
    found = [row for row in screen.scores.rows if row.task == scope]
    # The learned ones first, in the order of the screen; then the strongest rival on top.
    rows = []
    for row in sorted(found, key=lambda row: (row.role != LEARNED, row.role != LEARNED and _strength(row))):
        entries = _speedup_entries(screen, row.speedups, scope)
        entries += [score_entry(measure(row)) for _, measure in MEASURES.values()]
        rows.append((text_entry(row.optimizer, bold=row.role == LEARNED), *entries, text_entry(row.role)))
    columns = (
        Column("optimizer", "optimizer"),
        *SPEEDUP_COLUMNS,
        *(Column(key, header, True, True) for key, (header, _) in MEASURES.items()),
        Column("role", "role"),
    )
    failed = [f"{row.optimizer} {row.num_failed}" for row in found if row.num_failed]
    open_ends = any(x and x.low == 0 and not x.bound for row in found for x in row.speedups.values())
    notes = [
        "Speed-up in wall-clock of the learned optimizer over the row's, to the row's own frozen validation losses at "
        "100, 50 and 25 % of the horizon (hard, medium, easy); in a learned row over the best hand-designed one of "
        "each task. Above 1 the learned one is faster; < marks a bound, since half of its runs never arrive; bold "
        "where the interval excludes 1, by more than the clock's floor.",
        "Losses are those of the last step; the test split is read then only, and the interval of its loss on one task "
        "lets seeds and test images vary. Success rate: share of the row's runs that reach the hard target of the best "
        "hand-designed one.",
    ]
    by_hand = [f"{row.optimizer} ({', '.join(row.set_by_hand)})" for row in found if row.set_by_hand]
    if slug != FIRST:  # said once, under the first of these tables
        notes = []
    if open_ends:
        notes.append("A lower end of 0: in some resamples half of the runs never arrive.")
    if failed:
        notes.append(f"Failed runs, in no mean: {', '.join(failed)}.")
    if by_hand:
        notes.append(f"With values set by hand: {', '.join(by_hand)}.")
    name = "all tasks" if scope == ALL else f"task {scope}"
    return Table(slug, f"The learned optimizer against every other, {name}", columns, tuple(rows), tuple(notes))


def train_table(screen: Screen, scope: str) -> Table:
    """Speed-ups to the train losses that the same runs of the reference had, frozen beside the validation losses."""
    rows = [
        (
            text_entry(row.optimizer, bold=row.role == LEARNED),
            *_speedup_entries(screen, row.train_speedups, scope),
        )
        for row in screen.scores.rows
        if row.task == scope
    ]
    columns = (Column("optimizer", "optimizer"), *SPEEDUP_COLUMNS)
    notes = (
        "As the first table, to the row's own frozen train losses at 100, 50 and 25 % of the horizon: no claim is "
        "about these, since who memorizes is fast on them. Rows that end in _by_train are tuned for them (rule 10).",
    )
    return Table("train_score", "Speed-up in wall-clock to train losses", columns, tuple(rows), notes)


def decomposition_table(screen: Screen, scope: str) -> Table:
    """The speed-up to the hard target in wall-clock as that in steps over the ratio of step costs (protocol rule 9)."""
    rows = []
    for row in screen.scores.rows:
        if row.task == scope:
            hard = row.speedups["hard"]
            parts = score_entry(hard), _steps_entry(hard)
            rows.append((text_entry(row.optimizer, bold=row.role == LEARNED), *parts, score_entry(row.step_cost)))
    columns = (
        Column("optimizer", "optimizer"),
        Column("speedup", "speed-up in wall-clock", True, True),
        Column("speedup_in_steps", "= speed-up in steps", True, True),
        Column("step_cost_ratio", "/ step cost, learned / row", True, True),
    )
    notes = ("Each has an interval of its own: steps from seeds, step costs from timing blocks, wall-clock from both.",)
    return Table("decomposition", "To the hard target: steps, and what a step costs", columns, tuple(rows), notes)


def architectures_table(screen: Screen) -> Table | None:
    """The headline's speed-up over the tasks of each kind of net, against each group; None with one kind alone."""
    if screen.headline is None or not screen.headline.by_architecture:
        return None
    rows = []
    for kind, by_group in screen.headline.by_architecture.items():
        against = {found.group: found for found in by_group}
        for group in GROUP_NAMES:
            found = against[group]
            parts = _speedup_entry(screen, found.speedup), _steps_entry(found.speedup)
            tasks = Entry(str(len(found.reference)), len(found.reference))
            who = text_entry(reference_text(found.reference) or None)
            rows.append((text_entry(kind), text_entry(GROUP_NAMES[group]), *parts, tasks, who))
    columns = (
        *(Column("architecture", "nets"), Column("group", "over")),
        Column("speedup", "speed-up in wall-clock", True, True),
        Column("speedup_in_steps", "speed-up in steps", True, True),
        *(Column("tasks", "tasks", number=True), Column("reference", "which is, by task")),
    )
    notes = (
        "To the validation loss that the reference ends at; geometric mean over the tasks of a kind of net. < marks a "
        "bound, since on some task half of the runs never arrive; bold where the interval excludes 1, by more than the "
        "clock's floor.",
    )
    name = screen.headline.optimizer
    return Table("by_architecture", f"By architecture: speed-up of {name}", columns, tuple(rows), notes)


def _strength(row: Row) -> float:
    speedup = row.speedups["hard"]
    return float("inf") if speedup is None else speedup.estimate


def _speedup_entries(screen: Screen, speedups: Mapping[str, Speedup | None], scope: str) -> list[Entry]:
    """To each target; bold where the interval excludes 1 and the estimate is beyond the clock's floor."""
    return [_speedup_entry(screen, speedups[target], scope) for target in TARGETS]


def _speedup_entry(screen: Screen, found: Speedup | None, scope: str = ALL) -> Entry:
    entry = score_entry(found)
    value = entry.value
    bold = value is not None and value.excludes(1.0) and beyond_floor(value.estimate, screen.floor_of(scope))
    return Entry(entry.text, value, bold)


def _steps_entry(found: Speedup | None) -> Entry:
    return score_entry(found and found.steps, bound=bool(found and found.bound))


def score_entry(found: Interval | Speedup | None, *, bound: bool = False) -> Entry:
    """An estimate with its interval to three digits; "<" before one that is an upper bound."""
    if found is None:
        return Entry(NONE_TEXT)
    interval = found
    if isinstance(found, Speedup):
        interval, bound = Interval(found.estimate, found.low, found.high, found.num_seeds), found.bound
    assert isinstance(interval, Interval)
    return Entry(estimate_text(interval.estimate, interval.low, interval.high, bound=bound), interval)
