"""What stands behind the numbers: failures, hyperparameters, seeds, provenance, and what a reader must know first."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from baselines import BASELINES
from bench.report.summary import HEADLINE_LOSS, STRETCHED_MARK
from bench.report.table import NONE_TEXT, Column, Entry, Table, format_number, plural, text_entry, whole_entry
from bench.report.tuning import record_of
from bench.score.exposure import shared_classes
from bench.score.times_to_target import TargetsByTask, references
from bench.score.verdict import GROUP_NAMES
from bench.store.provenance import timed_on
from bench.store.rows import Frame, as_floats
from bench.store.rows import Rows as Results
from bench.suites.seeds import FIRST_TUNING_SEED

MAX_PROVENANCE_VALUES = 12


def failures_table(results: Results) -> Table | None:
    """Every cell that is not ok, with its reason; None if there is none."""
    cells: Frame = pd.concat([frame for frame in (results.train, results.timing) if len(frame)])
    nonfinite = (cells["kind"] == "train") & ~np.isfinite(as_floats(cells[HEADLINE_LOSS]))
    failed = cells[(cells["status"] != "ok") | nonfinite]
    if failed.empty:
        return None
    rows = []
    for _, cell in failed.iterrows():
        reason = cell["reason"] if cell["status"] != "ok" else "status is ok, but the final test loss is not finite"
        name = cell["optimizer"] if cell["kind"] == "train" else None
        row = [
            text_entry(cell["task"]),
            text_entry(name),
            whole_entry(cell["seed"]),
            text_entry(cell["status"]),
            text_entry(reason),
        ]
        rows.append((*row, whole_entry(cell["first_bad_step"]), text_entry(cell["cell"])))
    columns = (
        *(Column("task", "task"), Column("optimizer", "optimizer"), Column("seed", "seed", number=True)),
        *(Column("status", "status"), Column("reason", "reason")),
        *(Column("first_bad_step", "first bad step", number=True), Column("cell", "cell")),
    )
    return Table("failures", f"{plural(len(rows), 'cell')} not ok", columns, tuple(rows))


def hyperparameters_table(results: Results) -> Table | None:
    """Hyperparameters of every row, the horizon they were tuned at and the one they ran at."""
    keys = ["optimizer", "hyperparameters", "tuned_horizon", "horizon", "batch_size", "family"]
    rows = []
    for values, runs in results.train.groupby(keys, dropna=False, sort=False):
        row = dict(zip(keys, values, strict=True))
        stretched = pd.notna(row["tuned_horizon"]) and row["tuned_horizon"] != row["horizon"]
        settings = _json_object(row["hyperparameters"])
        readable = ", ".join(f"{key} = {_setting(value)}" for key, value in settings.items()) or None
        entries = [
            Entry(f"{row['optimizer']} {STRETCHED_MARK * stretched}".rstrip(), row["optimizer"]),
            text_entry(row["family"]),
            text_entry(_tuned_on(row, settings)),
            text_entry(", ".join(dict.fromkeys(runs["task"]))),
            Entry(readable or NONE_TEXT, row["hyperparameters"]),
            *(whole_entry(row[key]) for key in ("tuned_horizon", "horizon", "batch_size")),
        ]
        rows.append(tuple(entries))
    if not rows:
        return None
    columns = (
        *(Column("optimizer", "optimizer"), Column("family", "task family")),
        *(Column("tuned_on", "tuned on"), Column("tasks", "run on")),
        Column("hyperparameters", "hyperparameters"),
        *(Column("tuned_horizon", "tuned at horizon", number=True), Column("horizon", "run at horizon", number=True)),
        Column("batch_size", "batch size", number=True),
    )
    notes = (
        f"Tuned values belong to a task family and a horizon; {STRETCHED_MARK} marks rows run at another horizon, with "
        f"the schedule stretched. {NONE_TEXT} as tuned horizon: no tuning is recorded for the row.",
        "Tuned on: tasks of the family and seeds that are for tuning. Seeds of evaluation are below "
        f"{FIRST_TUNING_SEED}, those of tuning are not.",
    )
    return Table("hyperparameters", "Hyperparameters, and where they were tuned", columns, tuple(rows), notes)


def _tuned_on(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """The tuning tasks and seeds of the record that a row's values come from; None without a record."""
    if pd.isna(row["tuned_horizon"]):
        return None
    values, optimizer, found = dict(settings), row["optimizer"], BASELINES.get(row["optimizer"])
    family = values.pop("tuned_on", row["family"])  # of another family, under the name that the values have there
    if found is not None and found.values_of is not None:
        _, optimizer = found.values_of
    record = record_of(family, int(row["tuned_horizon"]), optimizer, values)
    if record is None:
        return None
    return f"{', '.join(dict.fromkeys(record['tasks']))}; seeds from {record['first_seed']}"


def seeds_table(results: Results) -> Table | None:
    """The tasks, and the reporting seeds behind each."""
    rows = []
    for task in results.tasks:
        runs = results.train[results.train["task"] == task]
        if runs.empty:
            continue
        per_optimizer = runs.groupby("optimizer")["seed"].apply(lambda seeds: _ranges(int(seed) for seed in seeds))
        common = per_optimizer.mode().iloc[0]
        others = [f"{name}: {seeds}" for name, seeds in per_optimizer.items() if seeds != common]
        first = runs.iloc[0]
        chance = float(as_floats(runs["chance_loss"]).iloc[0])
        rows.append(
            (
                *(
                    text_entry(task),
                    text_entry(first["family"]),
                    text_entry(", ".join(whole_entry(horizon).text for horizon in runs["horizon"].unique())),
                ),
                *(whole_entry(first["num_params"]), Entry(format_number(chance), chance)),
                *(text_entry(common), text_entry("; ".join(others) or None)),
            )
        )
    if not rows:
        return None
    columns = (
        *(Column("task", "task"), Column("family", "family"), Column("horizon", "horizon, steps", number=True)),
        *(Column("num_params", "parameters", number=True), Column("chance_loss", "loss of chance", number=True)),
        *(Column("seeds", "seeds"), Column("other_seeds", "optimizers with other seeds")),
    )
    notes = ("A seed fixes initialization and data order for all optimizers; tuning used other seeds.",)
    return Table("seeds", "Tasks and seeds", columns, tuple(rows), notes)


def provenance_table(*frames: Frame) -> Table:
    """Every field that cells record, with its distinct values and the number of cells behind each."""
    fields: dict[str, dict[str, int]] = {}
    records = [_json_object(text) for frame in frames for text in frame["provenance"]]
    for record in records:
        for key, value in _flatten(record):
            counts = fields.setdefault(key, {})
            counts[value] = counts.get(value, 0) + 1
    rows = []
    for key, counts in fields.items():
        shown = list(counts.items())[:MAX_PROVENANCE_VALUES]
        rows += [(text_entry(key), text_entry(value), text_entry(count)) for value, count in shown]
        if rest := len(counts) - len(shown):
            rows.append((text_entry(key), text_entry(f"and {plural(rest, 'other value')}"), text_entry(len(records))))
    columns = (Column("field", "field"), Column("value", "value"), Column("cells", "cells", number=True))
    what = f"What the {len(records):,} cells record about themselves" if len(records) != 1 else "What the cell records"
    return Table("provenance", what, columns, tuple(rows))


def machines_table(
    results: Results,
    targets: TargetsByTask,
    contender: str | None,
    floor: float | None,
    test_reference: str | None = None,
) -> Table | None:
    """For each pair of the headline, the machines that its two sides were trained and timed on; None without a pair.

    Args:
      results: rows, without controls.
      targets: task -> frozen targets, which name the references.
      contender: the learned optimizer that the verdict is about.
      floor: of the clock (protocol rule 8).
      test_reference: the row that its test loss is compared with.
    """
    pairs: dict[tuple[str, str], list[str]] = {}  # (group, reference) -> tasks
    for group, name in GROUP_NAMES.items():
        for task, reference in references(results, targets, group).items():
            pairs.setdefault((name, reference), []).append(task)
    if test_reference is not None:
        pairs["the lowest test loss", test_reference] = list(results.tasks)
    rows, mixed = [], []
    for (name, reference), tasks in pairs.items():
        if contender is None or reference == contender:
            continue
        timed = results.timing[results.timing["task"].isin(tasks)]
        trained = [
            Counter(timed_on(text) for text in results.runs(side, tuple(tasks))["provenance"])
            for side in (contender, reference)
        ]
        if set(trained[0]) != set(trained[1]):
            mixed.append(reference)
        sides = [", ".join(f"{machine}: {plural(n, 'run')}" for machine, n in found.items()) for found in trained]
        clock = ", ".join(sorted({timed_on(text) for text in timed["provenance"]}))
        cells = (name, reference, str(len(tasks)), *sides, clock)
        rows.append(tuple(text_entry(cell or None) for cell in cells))
    if not rows:
        return None
    columns = (
        *(Column("group", "against"), Column("reference", "reference"), Column("tasks", "tasks", number=True)),
        *(Column("contender_runs", f"{contender} trained on"), Column("reference_runs", "reference trained on")),
        Column("clock", "both timed on"),
    )
    notes = [
        f"Not trained on the same kind of machine: {', '.join(sorted(set(mixed)))}. Losses of such a pair are of two "
        "kinds of processor or numbers of cores, which rounding depends on; seconds are not, since they come from "
        "timing cells."
        if mixed
        else "Both sides of each pair were trained on machines of one kind.",
        "A timing cell times all optimizers of a task in one process, so a pair is always timed on one machine.",
        "Targets were frozen from other runs of the reference, on tuning seeds.",
    ]
    if floor is not None:
        notes.append(
            f"The smallest ratio of step costs that is called a difference is {1 + floor:.4f}, from the same optimizer "
            "entered twice. A speed-up is called one where its interval excludes 1 too."
        )
    return Table("machines", "Which machine each side of a pair ran on", columns, tuple(rows), tuple(notes))


def page_warnings(results: Results) -> list[str]:
    """What a reader must know before any number: accelerators, mixed devices, modified trees, uneven rows."""
    warnings = []
    devices: set[str] = set()
    accelerator = dirty = False
    for frame in (results.train, results.timing):
        for text, status in zip(frame["provenance"], frame["status"], strict=True):
            flat = dict(_flatten(_json_object(text)))
            named = {key: value for key, value in flat.items() if re.search(r"device|platform", key, re.IGNORECASE)}
            measured = status in ("ok", "diverged")
            accelerator |= measured and any(
                re.search(r"\b(gpu|tpu|cuda|rocm|nvidia)", value, re.IGNORECASE) for value in named.values()
            )
            devices |= {value for key, value in named.items() if key.endswith("kind")}
            dirty |= any(key.endswith("dirty") and value == "true" for key, value in flat.items())
    if not accelerator:
        warnings.append("accelerator: not yet measured. No row here comes from a GPU or TPU.")
    if len(devices) > 1:
        warnings.append(
            f"Rows come from several kinds of device ({', '.join(sorted(devices))}): seconds do not compare."
        )
    if dirty:
        warnings.append("Some rows were produced by a working tree with uncommitted changes.")
    for task, runs in results.train.groupby("task", sort=False):
        for column in ("horizon", "batch_size"):
            if runs[column].nunique() > 1:
                values = ", ".join(whole_entry(value).text for value in sorted(runs[column].dropna().unique()))
                warnings.append(
                    f"Task {task}: rows differ in {column.replace('_', ' ')} ({values}): they do not compare."
                )
        sets = runs.groupby("optimizer")["seed"].apply(frozenset)
        if sets.nunique() > 1:
            warnings.append(f"Task {task}: not every optimizer has every seed yet; see Tasks and seeds.")
    return warnings


def measured_sentence(results: Results) -> str:
    """What was trained: "14 optimizers on 10 tasks (19,722 parameters, batch 32, 2,000 steps), 10 seeds"."""
    runs = results.train
    text = f"{plural(len(results.optimizers), 'optimizer')} on {plural(len(results.tasks), 'task')}"
    if runs.empty:
        return f"{text}, timed only."
    sizes = [f"{_span(runs['num_params'])} parameters", f"batch {_span(runs['batch_size'])}"]
    return f"{text} ({', '.join(sizes)}, {_span(runs['horizon'])} steps), {plural(runs['seed'].nunique(), 'seed')}."


def _span(values: Any) -> str:
    """The smallest and the largest of some counts, or the one that there is."""
    ends = int(values.min()), int(values.max())
    return " to ".join(dict.fromkeys(f"{end:,}" for end in ends))


def counts_sentence(results: Results) -> str:
    """How much is in the report, and how many of its runs did not finish."""
    failed = int((results.train["status"] != "ok").sum())
    seeds = _ranges(int(seed) for seed in results.train["seed"].dropna())
    state = f"{failed:,} not ok" if failed else "all finished"
    parts = [f"{plural(len(results.train), 'training run')}, {state}"] if len(results.train) else []
    parts.append(plural(len(results.blocks), "timing cell"))
    return "; ".join(parts) + (f"; seeds {seeds}" if seeds else "") + "."


def shared_classes_sentence(results: Results) -> str:
    """How many classes two tasks share where they are drawn from the same ones; empty where they share none."""
    found = shared_classes(results.tasks)
    if found is None:
        return ""
    return (
        f"Each task has {found.of_a_task} of the same {found.of_all} classes: two tasks share about "
        f"{found.of_a_pair:.0f}, so the {len(results.tasks)} are not independent."
    )


def clock_paragraph(results: Results) -> str:
    """How the seconds on the page were measured."""
    text = (
        "Every training program is compiled ahead of time, and compile seconds are reported apart. The clock runs "
        "over chunks of training steps with the data already on the device, waits once per chunk until the device "
        "has finished, and stops for evaluation. Step costs come from timing cells: in each block every optimizer "
        "runs once, in random order, on one device with nothing else timed beside it; ratios are taken within a "
        "block, so that a slow spell of the machine cancels. The time axis of a figure is steps times the median "
        "seconds per step of the timing cell; where an optimizer of the task has none, it is each run's own clock, "
        "and the axis says so."
    )
    missing = [task for task in results.tasks if task not in results.blocks]
    if missing and len(missing) == len(results.tasks):
        text += " No task here has a timing cell."
    elif missing:
        text += f" Without a timing cell: {', '.join(missing)}."
    return text


def _flatten(record: Any, prefix: str = "") -> list[tuple[str, str]]:
    """{"a": {"b": 1}} -> [("a.b", "1")]; lists become one text."""
    if isinstance(record, dict):
        return [pair for key, value in record.items() for pair in _flatten(value, f"{prefix}.{key}" if prefix else key)]
    if isinstance(record, list):
        return [(prefix, " ".join(item if isinstance(item, str) else json.dumps(item) for item in record))]
    return [(prefix, record if isinstance(record, str) else json.dumps(record))]


def _json_object(text: Any) -> dict[str, Any]:
    if not isinstance(text, str):
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {"unreadable": text}
    return value if isinstance(value, dict) else {"value": value}


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _ranges(numbers: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
