"""What `bench run` ends with, in four lines, and what `bench report` prints: tables of tasks, speed-ups, controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.controls import controls_table
from bench.report.first_screen import score_entry
from bench.report.summary import (
    BY_HAND_MARK,
    FAILED_MARK,
    HEADLINE_LOSS,
    STRETCHED_MARK,
    UNTUNED_MARK,
    by_hand,
    display_name,
    loss_summary,
    num_failed,
    sorted_optimizers,
    step_cost,
    step_cost_reference,
    stretched,
    untuned,
)
from bench.report.table import NONE_TEXT, PERCENT, format_half_width, format_number
from bench.score.first_screen import Screen
from bench.score.times_to_target import ALL, step_cost_ratio
from bench.statistics import MIN_SEEDS
from bench.store.rows import HAND_DESIGNED, LEARNED
from bench.store.rows import Rows as Results

if TYPE_CHECKING:
    from rich.console import RenderableType


def closing(screen: Screen) -> list[str]:
    """The verdict, the test losses, the cost of a step and the controls, a line each."""
    scores = screen.scores
    several = any(row.task == ALL for row in scores.rows)
    rows = [row for row in scores.rows if not several or row.task == ALL]
    losses = {row.optimizer: found for row in rows if (found := row.losses["test_loss"]) is not None}
    by_hand = [row for row in rows if row.role == HAND_DESIGNED and row.optimizer in losses]
    best = min(by_hand, key=lambda row: losses[row.optimizer].estimate, default=None)
    # The group with the smallest speed-up gives the word; of the others the page tells.
    lines = [f"verdict: {scores.verdict.partition(';')[0].rstrip('.')}"]
    told = [f"{scores.optimizer} {score_entry(losses[scores.optimizer]).text}"] if scores.optimizer in losses else []
    if best:
        told.append(f"lowest hand-designed {best.optimizer} {score_entry(losses[best.optimizer]).text}")
    lines.append(f"final test loss: {'; '.join(told) or 'of no run that finished'}")
    if scores.optimizer and best and best.step_cost is not None:
        ratio = score_entry(best.step_cost).text
        lines.append(f"cost of a step: {scores.optimizer} takes {ratio} times as long as {best.optimizer}")
    else:
        lines.append("cost of a step: not timed against a learned optimizer")
    held = [(row[0].text, row[3].text) for row in controls_table(screen).rows if row[3].text in ("yes", "no")]
    missed = [text.partition(":")[0] for text, answer in held if answer == "no"]
    not_held = f"; not: {', '.join(missed)}" if missed else ""
    lines.append(
        f"controls: {len(held) - len(missed)} of {len(held)} as expected{not_held}" if held else "controls: none"
    )
    return lines


def scores(screen: Screen) -> RenderableType:
    """Verdict, speed-ups and controls for the terminal."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    scope = ALL if any(row.task == ALL for row in screen.scores.rows) else None
    speeds = RichTable(title=Text("Learned against each optimizer: speed-up in wall-clock"), title_justify="left")
    speeds.add_column("against", overflow="fold")
    for target in ("hard", "medium", "easy"):
        speeds.add_column(target, justify="right")
    for row in screen.scores.rows:
        if row.role == HAND_DESIGNED and scope in (None, row.task):
            entries = (score_entry(row.speedups[target]).text for target in ("hard", "medium", "easy"))
            speeds.add_row(Text(row.optimizer), *map(Text, entries))
    controls = RichTable(title=Text("Controls"), title_justify="left", show_header=False)
    for row in controls_table(screen).rows:
        controls.add_row(*(Text(entry.text) for entry in row))
    return Group(speeds, controls, Text(screen.scores.verdict, style="bold"))


def tasks(results: Results) -> RenderableType:
    """One table per task, narrow enough for 80 columns: the headline losses and the cost of a step."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = []
    for task in results.tasks:
        order = sorted_optimizers(results, (task,))
        reference = step_cost_reference(results, (task,))
        table = RichTable(title=Text(task), title_justify="left", caption_justify="left")
        table.add_column("optimizer", overflow="fold")
        for header in (
            "ok",
            "mean train\nloss",
            "final test\nloss",
            "ms per\nstep",
            f"step cost\n/ {reference or NONE_TEXT}",
        ):
            table.add_column(Text(header), justify="right", no_wrap=True)
        for optimizer in order:
            runs = results.runs(optimizer, (task,))
            ok = f"{len(runs) - num_failed(results, optimizer, (task,))}/{len(runs)}" if len(runs) else NONE_TEXT
            mean_train = loss_summary(results, optimizer, (task,), "mean_train_loss")
            final_test = loss_summary(results, optimizer, (task,), HEADLINE_LOSS)
            cost = step_cost(results, optimizer, task)
            ratio = step_cost_ratio(results, (task,), optimizer, reference) if reference else None
            texts = [
                display_name(results, optimizer, (task,)),
                ok,
                format_half_width(mean_train),
                format_half_width(final_test),
                format_number(cost.estimate * 1e3, 3) if cost else NONE_TEXT,
                format_number(ratio.estimate, 3) if ratio else NONE_TEXT,
            ]
            style = "bold" if results.role(optimizer) == LEARNED else ""
            table.add_row(*(Text(text) for text in texts), style=style)
        notes = ["Bold: learned. Lower is better."]
        if any(len(results.runs(o, (task,))) and num_failed(results, o, (task,)) for o in order):
            notes.append(f"{FAILED_MARK} mean over the runs that finished.")
        if stretched(results.train[results.train["task"] == task]).any():
            notes.append(f"{STRETCHED_MARK} tuned at another horizon.")
        if untuned(results.train[results.train["task"] == task]).any():
            notes.append(f"{UNTUNED_MARK} not tuned.")
        if by_hand(results.train[results.train["task"] == task]).any():
            notes.append(f"{BY_HAND_MARK} set by hand.")
        seeds = results.train[results.train["task"] == task].groupby("optimizer")["seed"].nunique()
        if len(seeds) and seeds.max() >= MIN_SEEDS:
            notes.append(f"±: t {PERCENT} interval over seeds.")
        elif len(seeds):
            notes.append(f"No intervals below {MIN_SEEDS} seeds.")
        table.caption = Text(" ".join(notes))
        parts.append(table)
    return Group(*parts)
