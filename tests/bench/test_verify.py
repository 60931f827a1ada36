"""`bench verify` on a report made from rows by the same path as a published one: what it lets pass, what it names.

Rows go through `Store.put`, `publish` and `build_report`. Then one number is altered at a time.
"""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main as cli
from bench.report import verify
from bench.store.published import publish
from bench.store.record import CURVE_COLUMNS, cell_row, curve_digest
from bench.store.store import Store
from bench.tuning import targets
from tests.bench.synthetic import HORIZON, cells_of, diverging, failed_cell, falling, targets_record

pytestmark = pytest.mark.slow  # drawing, or a report made anew for every altered number

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = ("made", "machine")
ROLES = {"lopt": "learned", "adam_again": "control", "adam_twice": "control"}


def made_cells():
    """Two tasks; every seed has a curve of its own, one run diverges and one ends in an error."""
    runs = {
        task: {
            "lopt": [falling(0.02 + 0.001 * seed, start) for seed in range(5)],
            "adam": [falling(0.01 + 0.0001 * seed, start) for seed in range(5)],
            "sgd": [falling(0.005 + 0.0001 * seed, start) for seed in range(4)],
        }
        for task, start in (("a", 3.0), ("b", 4.0))
    }
    runs["b"]["adam"][3] = diverging(40, 0.01)
    timed = {"lopt": [1.1, 1.2, 1.1, 1.15, 1.1, 1.3], "adam": [1.0, 1.1, 1.0, 1.05, 1.0, 1.2], "sgd": [0.9] * 6}
    timed |= {"adam_again": [1.0, 1.12, 1.0, 1.05, 1.01, 1.2], "adam_twice": [2.0, 2.2, 2.0, 2.1, 2.0, 2.4]}
    return [*cells_of(runs, dict.fromkeys("ab", timed), ROLES), failed_cell("a", "sgd", 4), failed_cell("b", "sgd", 4)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Results and the report of a published suite."""
    root = tmp_path_factory.mktemp("published")
    results = root / "results"
    kept = Store(results, NAME[0])
    for record, curve in made_cells():
        kept.put(record, curve)
    for task in "ab":
        record = targets_record(task, {"adam": (2.0, 2.5, 2.75), "sgd": (2.5, 2.75, 2.9)}, "adam")
        targets.write(targets.target_path(results / "targets", task, HORIZON), record)
    publish(results, *NAME, kept.read())
    published = Store(results, *NAME).read()
    verify.build_report(published, results, root.joinpath("reports", *NAME), *NAME, draw=False)
    shutil.rmtree(results / "made" / "local")  # git-ignored: nothing of it may be needed
    return root


@pytest.fixture
def root(original, tmp_path):
    """A copy to alter."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def page_made_once(original, monkeypatch):
    """The report of the unaltered rows, which is the same every time, is not made again for every altered page."""
    made = original.joinpath("reports", *NAME)
    monkeypatch.setattr(
        verify, "build_report", lambda *args, **kwargs: shutil.copytree(made, args[2], dirs_exist_ok=True)
    )


def verdict(root):
    return verify.verify(root / "results", root / "reports", *NAME)


def report(root):
    return root.joinpath("reports", *NAME)


def parts(root):
    """The published cells and curves."""
    folder = root / "results" / "made" / "machine"
    return pd.read_parquet(folder / "cells.parquet"), pd.read_parquet(folder / "curves.parquet")


def repack(root, cells=None, curves=None):
    folder = root / "results" / "made" / "machine"
    for name, frame in (("cells", cells), ("curves", curves)):
        if frame is not None:
            frame.to_parquet(folder / f"{name}.parquet", index=False)


def the_cell(cells, task="b", optimizer="adam", seed=2):
    """Index of one training cell."""
    found = cells[(cells["task"] == task) & (cells["optimizer"] == optimizer) & (cells["seed"] == seed)]
    (index,) = found.index
    return index


def bumped(text):
    """A number with its last digit changed."""
    digit = re.search(r"\d(?=\D*$)", text)
    return f"{text[: digit.start()]}{(int(digit[0]) + 1) % 10}{text[digit.end() :]}"


def test_a_report_made_from_its_rows_passes(original):
    assert verdict(original) is None


@pytest.mark.slow
def test_a_report_with_its_figures_drawn_passes_too(root):
    published = Store(root / "results", *NAME).read()
    verify.build_report(published, root / "results", report(root), *NAME)
    assert list((report(root) / "figures").iterdir())
    assert verdict(root) is None


# The page -------------------------------------------------------------------------------------------------------------


def numeric_fields(path):
    """(row, column) of every field of a CSV table that is a number."""
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file)):
            for column, value in enumerate(row):
                if number and re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value):
                    yield number, column


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_one_altered_number_in_any_table_is_named_by_row_and_column(root, page_made_once, which):
    expected = []
    for path in sorted((report(root) / "tables").glob("*.csv")):
        fields = list(numeric_fields(path))
        if fields:
            number, column = fields[which]
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            rows[number][column] = bumped(rows[number][column])
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
            expected.append(
                (f"{path}: row {number} (", f"column {rows[0][column]}: published {rows[number][column]!r}")
            )
    assert len(expected) > 5
    published = Store(root / "results", *NAME).read()
    problems = list(
        verify._page(published, root / "results", report(root), *NAME)
    )  # one a table; `verify` names the first
    assert len(problems) == len(expected)
    for problem, (start, part) in zip(problems, expected, strict=True):
        assert problem.startswith(start)
        assert part in problem
    assert verdict(root) == problems[0]


def leaves(value, at=""):
    """(path as `verify` prints it, container, key) of every number of a JSON file."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        name = f"{at}[{key}]" if isinstance(value, list) else f"{at}.{key}".lstrip(".")
        if isinstance(item, int | float) and not isinstance(item, bool):
            yield name, value, key
        yield from leaves(item, name)


def test_one_altered_number_of_the_first_screen_is_named_by_its_key(root, page_made_once):
    path = report(root) / "report.json"
    text = path.read_text(encoding="utf-8")
    screen = json.loads(text)
    found = list(leaves(screen))
    assert len(found) > 50
    for name, container, key in found:
        kept = container[key]
        container[key] = kept + 1e-6 if isinstance(kept, float) else kept + 1
        altered = json.dumps(screen, indent=1) + "\n"
        problem = f"{name}: published {container[key]!r}, the rows give {kept!r}"
        assert verify.first_difference(path, altered, text) == problem
        container[key] = kept
    path.write_text(altered, encoding="utf-8")
    assert verdict(root) == f"{path}: {problem}"


def test_one_altered_number_of_the_page_is_named_by_its_line(root, page_made_once):
    path = report(root) / "report.html"
    text = path.read_text(encoding="utf-8")
    numbers = list(re.finditer(r"(?<=>)-?\d+\.\d+", text))  # what stands in a cell of a table
    assert len(numbers) > 50
    for found in (numbers[0], numbers[len(numbers) // 2], numbers[-1]):
        altered = text[: found.start()] + bumped(found[0]) + text[found.end() :]
        path.write_text(altered, encoding="utf-8")
        assert verdict(root).startswith(f"{path}: line {text[: found.start()].count(chr(10)) + 1}: published")


def test_one_altered_number_of_a_table_in_markdown_is_named_by_its_line(root, page_made_once):
    path = report(root) / "tables" / "summary_a.md"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if re.search(r"\d\.\d", line))
    lines[number] = bumped(lines[number])
    path.write_text("".join(lines), encoding="utf-8")
    assert verdict(root).startswith(f"{path}: line {number + 1}: published")


def test_a_field_too_many_or_too_few_is_a_difference(root, page_made_once):
    path = report(root) / "tables" / "summary_a.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    for altered, said in (
        (f"{lines[1]},7", "published '7', the rows give None"),
        (lines[1].rpartition(",")[0], "None"),
    ):
        path.write_text("\n".join([lines[0], altered, *lines[2:]]) + "\n", encoding="utf-8")
        problem = verdict(root)
        assert problem.startswith(f"{path}: row 1 (")
        assert said in problem
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    assert f"published {len(lines) - 1} lines, the rows give {len(lines)}" in verdict(root)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda folder: (folder / "tables" / "summary_a.csv").unlink(), "summary_a.csv: missing"),
        (lambda folder: (folder / "tables" / "extra.csv").write_text("x"), "extra.csv: not made from the rows"),
        (lambda folder: (folder / "report.json").write_text("{"), "report.json: not JSON"),
        (lambda folder: (folder / "report.html").write_bytes(b"\xff\xfe"), "decode"),
        (lambda folder: shutil.rmtree(folder), "missing"),
    ],
)
def test_a_page_that_is_not_whole_is_named(root, page_made_once, alter, said):
    alter(report(root))
    problem = verdict(root)
    assert said in problem
    assert "\n" not in problem


# The rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["train_loss", "final_test_loss", "test_block_loss", "wall_time_sec"])
def test_one_altered_value_of_a_curve_is_named_by_its_cell(root, metric):
    cells, curves = parts(root)
    name = cells["cell"][the_cell(cells)]
    index = curves[(curves["cell"] == name) & (curves["metric"] == metric)].index[-1]
    curves.loc[index, "value"] = np.nextafter(curves.loc[index, "value"], 10)  # the smallest change there is
    repack(root, curves=curves)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed 2" in problem
    assert "its curve is altered" in problem


def test_an_altered_timing_block_is_named_by_its_cell(root):
    cells, curves = parts(root)
    name = cells[(cells["kind"] == "time") & (cells["task"] == "a")]["cell"].item()
    curves.loc[curves[curves["cell"] == name].index[0], "value"] *= 0.9
    repack(root, curves=curves)
    assert f"cell {name} (a, " in verdict(root)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("final_test_loss", 0.125),
        ("final_train_loss", 0.125),
        ("test_loss_at_best_validation", 0.125),
        ("status", "diverged"),
        ("seed", 7.0),
        ("horizon", 50),
        ("role", "learned"),
        ("train_wall_sec", 0.5),
        ("hyperparameters", '{"learning_rate": 0.1}'),
        ("started_at", "2025-01-01T00:00:00+00:00"),
    ],
)
def test_one_altered_column_is_named_by_its_cell(root, column, value):
    cells, _ = parts(root)
    index = the_cell(cells)
    cells.loc[index, column] = value
    repack(root, cells=cells)
    problem = verdict(root)
    assert f"cell {cells['cell'][index]} (b, " in problem
    assert f"column {column} is {value!r}" in problem


def alter_record(cells, index, change, fix_up):
    """Changes a record; `fix_up` brings checksum and columns in line, as one who wants to be believed would."""
    record = json.loads(cells.loc[index, "record"])
    change(record)
    if fix_up:
        content = {key: value for key, value in record.items() if key != "checksum"}
        record["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        for column, value in cell_row(record, "machine").items():
            cells.at[index, column] = value
    cells.at[index, "record"] = json.dumps(record, sort_keys=True)


RECORD_CHANGES = {
    "result": lambda record: record["result"].update(final_test_loss=0.125),
    "mean": lambda record: record["result"].update(mean_train_loss=record["result"]["mean_train_loss"] * (1 + 1e-12)),
    "best step": lambda record: record["result"].update(best_validation_step=5),
    "no result": lambda record: record["result"].update(final_train_loss=None),
    "clock": lambda record: record["clock"].update(train_wall_sec=0.5),
    "status": lambda record: record.update(status="diverged", reason="loss not finite from step 90", first_bad_step=90),
    "seed": lambda record: record["config"].update(seed=7),
    "hyperparameters": lambda record: record["config"].update(hyperparameters={"learning_rate": 0.1}),
}


@pytest.mark.parametrize("fix_up", [False, True], ids=["as it is", "checksum fixed up"])
@pytest.mark.parametrize("field", RECORD_CHANGES)
def test_one_altered_field_of_a_record_is_named_by_its_cell(root, field, fix_up):
    cells, _ = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    alter_record(cells, index, RECORD_CHANGES[field], fix_up)
    repack(root, cells=cells)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed" in problem
    assert ("checksum does not fit" in problem) is not fix_up


def test_a_new_digest_for_an_altered_curve_does_not_help(root):
    cells, curves = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    place = curves[(curves["cell"] == name) & (curves["metric"] == "final_test_loss")].index[0]
    curves.loc[place, "value"] = 0.125
    digest = curve_digest(curves[curves["cell"] == name].astype({"metric": str}))
    alter_record(cells, index, lambda record: record.update(curve_sha256=digest), fix_up=True)
    repack(root, cells, curves)
    problem = verdict(root)
    assert f"cell {name} (b, adam, seed 2.0): final_test_loss is " in problem
    assert "its curve gives 0.125" in problem


def test_rows_altered_throughout_no_longer_give_the_published_page(root):
    """Curve, record, columns and digests agree: the rows are another run's, and the page is not theirs."""
    cells, curves = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    place = curves[(curves["cell"] == name) & (curves["metric"] == "final_test_loss")].index[0]
    curves.loc[place, "value"] = 0.125
    digest = curve_digest(curves[curves["cell"] == name].astype({"metric": str}))

    def change(record):
        record.update(curve_sha256=digest)
        record["result"].update(final_test_loss=0.125)

    alter_record(cells, index, change, fix_up=True)
    repack(root, cells, curves)
    problem = verdict(root)
    assert problem.startswith(f"{report(root)}")
    assert "the rows give" in problem


def test_a_dropped_cell_leaves_a_curve_that_names_it(root):
    cells, _ = parts(root)
    index = the_cell(cells)
    repack(root, cells=cells.drop(index))
    assert f"curves of cells that are not among the rows: {cells['cell'][index]}" in verdict(root)


def test_a_cell_dropped_with_its_curve_is_missed_on_the_page(root):
    cells, curves = parts(root)
    index = the_cell(cells)
    repack(root, cells.drop(index), curves[curves["cell"] != cells["cell"][index]])
    assert verdict(root).startswith(f"{report(root)}")


def test_a_failed_cell_cannot_be_dropped_either(root):
    cells, _ = parts(root)
    repack(root, cells=cells.drop(the_cell(cells, "a", "sgd", 4)))
    assert verdict(root).startswith(f"{report(root)}")


def test_a_cell_without_its_curve_is_named(root):
    cells, curves = parts(root)
    index = the_cell(cells)
    name = cells["cell"][index]
    repack(root, curves=curves[curves["cell"] != name])
    assert f"cell {name} (b, adam, seed 2.0): its curve is altered" in verdict(root)
    digest = curve_digest(pd.DataFrame(columns=CURVE_COLUMNS))
    alter_record(cells, index, lambda record: record.update(curve_sha256=digest), fix_up=True)
    repack(root, cells=cells)
    assert f"cell {name} (b, adam, seed 2.0): its status is ok and it has no curve" in verdict(root)


def test_an_added_curve_is_named(root):
    _, curves = parts(root)
    extra = pd.DataFrame({"cell": ["f" * 16], "step": [0], "metric": ["train_loss"], "value": [1.0]})
    repack(root, curves=pd.concat([curves.astype({"cell": str, "metric": str}), extra]))
    assert f"curves of cells that are not among the rows: {'f' * 16}" in verdict(root)


def test_a_row_added_to_a_curve_is_named_by_its_cell(root):
    cells, curves = parts(root)
    name = cells["cell"][the_cell(cells)]
    repack(root, curves=pd.concat([curves, curves[curves["cell"] == name].tail(1)]))
    assert f"cell {name} (b, adam, seed 2.0): its curve is altered" in verdict(root)


@pytest.mark.parametrize("which", [("b", "adam", 2), ("a", "sgd", 4)], ids=["finished", "failed"])
def test_a_cell_that_is_there_twice_is_named(root, which):
    cells, _ = parts(root)
    index = the_cell(cells, *which)
    repack(root, cells=pd.concat([cells, cells.loc[[index]]], ignore_index=True))
    assert cells["cell"][index] in verdict(root)


def test_altered_targets_are_named(root):
    path = targets.target_path(root / "results" / "targets", "a", HORIZON)
    path.write_text(path.read_text().replace("2.5", "2.4", 1))
    assert verdict(root).startswith(f"{path}: altered since it was frozen")


@pytest.mark.parametrize("damage", ["truncated", "missing", "foreign"])
@pytest.mark.parametrize("name", ["cells.parquet", "curves.parquet"])
def test_a_damaged_file_is_one_line(root, name, damage):
    path = root / "results" / "made" / "machine" / name
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "missing": b"", "foreign": b"no such table"}[damage])
    if damage == "missing":
        path.unlink()
    problem = verdict(root)
    assert "no readable published results" in problem
    assert "\n" not in problem


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(root, capsys):
    """Runs `bench verify ...` here: (exit code, standard output without cards, standard error)."""

    def run(*args):
        folders = ("--results-dir", str(root / "results"), "--reports-dir", str(root / "reports"))
        with pytest.raises(SystemExit) as done:
            cli.main(["verify", *args, *folders])
        out, err = capsys.readouterr()
        lines = [line for line in out.splitlines(keepends=True) if not line.startswith("card of ")]
        return done.value.code or 0, "".join(lines), err

    return run


def test_the_command_verifies_every_published_report(root, command, page_made_once):
    assert command() == (0, "made/machine: every number follows from the rows\n", "")
    assert command("made/machine") == command()


def test_a_card_whose_results_are_elsewhere_is_not_checked(root, page_made_once, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["verify", "--results-dir", str(root / "results"), "--reports-dir", str(root / "reports")])
    assert not done.value.code
    assert "card of lopt_ortho: not checked, ood/cpu-2core, paper/cpu-2core" in capsys.readouterr().out


def test_the_command_exits_four_with_one_line_that_names_the_report(root, command):
    cells, _ = parts(root)
    cells.loc[the_cell(cells), "final_test_loss"] = 0.125
    repack(root, cells=cells)
    code, out, err = command()
    assert (code, err) == (4, "")
    assert out.startswith("made/machine: ")
    assert out.count("\n") == 1
    assert "final_test_loss is 0.125" in out


def test_a_report_that_fails_does_not_hide_the_others(root, command, page_made_once):
    for folder in ("results", "reports"):
        shutil.copytree(root / folder / "made", root / folder / "altered")
    path = root / "reports" / "altered" / "machine" / "report.json"
    path.write_text(path.read_text().replace('"a"', '"c"', 1))
    code, out, _ = command()
    assert code == 4
    assert [line.partition(":")[0] for line in out.splitlines()] == ["altered/machine", "made/machine"]
    assert out.splitlines()[1].endswith("every number follows from the rows")


def test_a_users_own_report_is_not_a_published_one(root, command):
    shutil.copytree(report(root), root / "reports" / "made" / "local")
    shutil.rmtree(report(root))
    code, out, err = command()
    assert (code, out) == (2, "")
    assert err.startswith("bench: no published report in ")


# What is published ----------------------------------------------------------------------------------------------------

PUBLISHED = verify.published_reports(REPOSITORY / "reports")


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "label"), PUBLISHED, ids=["/".join(name) for name in PUBLISHED])
def test_every_number_under_reports_follows_from_the_rows_under_results(suite, label):
    assert verify.verify(REPOSITORY / "results", REPOSITORY / "reports", suite, label) is None


def test_every_published_result_has_its_report():
    """But where a page in its folder says that it is in progress, and how to go on."""
    folders = [path.parent for path in REPOSITORY.glob("results/*/*/cells.parquet")]
    finished = {(f.parent.name, f.name) for f in folders if not (f / "IN_PROGRESS.md").is_file()}
    assert finished == set(PUBLISHED)
