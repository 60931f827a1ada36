"""`bench verify`: a page with one number altered is refused, and the number is named."""

import csv
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy

from bench.cli import main as cli
from bench.folders import Folders
from bench.processes import EndedError
from bench.report import build, verify_all, verify_report
from bench.store.published import publish
from bench.store.store import Store
from tests.bench.report.published import NAME, bumped, parts, repack, report, the_cell, verdict
from tests.bench.synthetic import cells_of, falling
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.slow  # a report made anew for every altered number


@pytest.mark.rule(15)
def test_every_published_number_is_recomputed_from_committed_rows(tmp_path):
    """One number of the rows altered, and `bench verify` names its cell; test_verify alters everything else."""
    kept = Store(tmp_path, "made")
    for record, curve in cells_of({"t": {"adam": [falling(0.01), falling(0.02)]}}):
        kept.put(record, curve)
    publish(tmp_path, "made", "machine", kept.read())
    published = Store(tmp_path, "made", "machine").read()
    build.build_report(published, tmp_path, tmp_path / "reports" / "made" / "machine", "made", "machine", draw=False)
    assert verify_report.verify(tmp_path, tmp_path / "reports", "made", "machine") is None
    path = tmp_path / "made" / "machine" / "cells.parquet"
    cells = pd.read_parquet(path)
    cells.loc[1, "final_test_loss"] += 1e-9
    cells.to_parquet(path)
    assert cells["cell"][1] in verify_report.verify(tmp_path, tmp_path / "reports", "made", "machine")


def test_a_report_made_from_its_rows_passes(original):
    assert verdict(original) is None


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
            # Not the ninth digit, in which versions of libraries may differ by one.
            field = rows[number][column]
            last = len(field) - (len(re.sub(r"e.*|\D", "", field).lstrip("0")) >= 9)
            rows[number][column] = bumped(field[:last]) + field[last:]
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
            expected.append(
                (f"{path}: row {number} (", f"column {rows[0][column]}: published {rows[number][column]!r}")
            )
    assert len(expected) > 5
    published = Store(root / "results", *NAME).read()
    problems = list(
        verify_report._page(published, root / "results", report(root), *NAME)
    )  # one a table; `verify` names the first
    assert len(problems) == len(expected)
    for problem, (start, part) in zip(problems, expected, strict=True):
        assert problem.startswith(start)
        assert part in problem
        assert problem.endswith(f" by numpy {np.__version__}, scipy {scipy.__version__}, pandas {pd.__version__}")
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
        assert verify_report.first_difference(path, altered, text) == problem
        container[key] = kept
    path.write_text(altered, encoding="utf-8")
    assert verdict(root).startswith(f"{path}: {problem} by numpy ")


def test_one_altered_number_of_the_page_is_named_by_its_line(root, page_made_once):
    path = report(root) / "report.html"
    text = path.read_text(encoding="utf-8")
    numbers = list(re.finditer(r"(?<=>)-?\d+\.\d+", text))  # what stands in a cell of a table
    assert len(numbers) > 50
    for found in (numbers[0], numbers[len(numbers) // 2], numbers[-1]):
        altered = text[: found.start()] + bumped(found[0]) + text[found.end() :]
        path.write_text(altered, encoding="utf-8")
        assert verdict(root).startswith(f"{path}: line {text[: found.start()].count(chr(10)) + 1}: published")


def test_tables_in_formats_asked_for_are_compared_too(root):
    folder = report(root) / "tables"
    published = Store(root / "results", *NAME).read()
    build.build_report(published, root / "results", report(root), *NAME, tables=("md",), draw=False)
    assert verdict(root) is None
    path = folder / "summary_a.md"
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
        (lambda folder: (folder / "tables" / "extra.txt").write_text("x"), "extra.txt: not made from the rows"),
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


def test_what_a_process_does_not_come_to_an_end_with_is_checked_here(root, page_made_once, monkeypatch):
    class Dead:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def send(self, message):
            pass

        def receive(self, timeout_sec):
            raise EndedError("died")

    shutil.copytree(root / "results" / "made", root / "results" / "other")
    shutil.copytree(root / "reports" / "made", root / "reports" / "other")
    monkeypatch.setattr(verify_all, "Child", lambda *args: Dead())
    shares = []
    found = verify_all.verify_reports(
        ["other/machine", "made/machine"],
        folders=Folders(root / "results", root / "reports"),
        advance=shares.append,
    )
    assert [(checked.name, checked.problem is None) for checked in found] == [
        ("other/machine", True),
        ("made/machine", True),
    ]
    assert sum(shares) == pytest.approx(1)


def test_a_users_own_report_is_not_a_published_one(root, command):
    shutil.copytree(report(root), root / "reports" / "made" / "local")
    shutil.rmtree(report(root))
    code, out, err = command()
    assert (code, out) == (2, "")
    assert err.startswith("bench: no published report in ")


PUBLISHED = verify_report.published_reports(REPOSITORY / "reports")


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "label"), PUBLISHED, ids=["/".join(name) for name in PUBLISHED])
def test_every_number_under_reports_follows_from_the_rows_under_results(suite, label):
    assert verify_report.verify(REPOSITORY / "results", REPOSITORY / "reports", suite, label) is None


def test_every_published_result_has_its_report():
    """But where a page in its folder says that it is in progress, and how to go on."""
    folders = [path.parent for path in REPOSITORY.glob("results/*/*/cells.parquet")]
    finished = {(f.parent.name, f.name) for f in folders if not (f / "IN_PROGRESS.md").is_file()}
    assert finished == set(PUBLISHED)


@pytest.mark.parametrize(
    ("published", "computed", "same"),
    [
        ("-0.0817529735", "-0.0817529736", True),  # by two versions of scipy
        ("-0.0079741304", "-0.00797413041", True),
        ("-0.0817529735", "-0.0817529737", False),
        ("0.999999999", "1", True),
        ("1.5e-07", "1.50000001e-07", True),
        ("9.23508449e-05", "9.23508453e-05", True),  # by two versions of scipy, the bound of a difference
        ("9.23508449e-05", "9.23518449e-05", False),
        ("1.5e-07", "1.50001e-07", False),
        ("1.5e-20", "1.6e-20", False),
        ("0.0817529735", "-0.0817529735", False),
        ("5", "6", False),
        ("0", "1e-20", False),
        ("adam", "adam_cosine", False),
        ("nan", "nan", True),
        ("inf", "1", False),
    ],
)
def test_numbers_of_tables_may_differ_by_rounding_of_the_ninth_digit_or_of_what_was_subtracted(
    published, computed, same
):
    assert verify_report.same_digits(published, computed) is same


def test_a_table_of_another_version_of_a_library_is_the_same_and_not_a_line_longer(tmp_path):
    path = tmp_path / "table.csv"
    old, new = "a,b\nx,-0.0817529735\n", "a,b\nx,-0.0817529736\n"
    assert verify_report.first_difference(path, old, new) is None
    assert verify_report.first_difference(path, old, new + "y,1\n") == "published 2 lines, the rows give 3"
